//! Curves of single runs on the front: replicas over time, latency distribution, and the arrivals they
//! answer.

use anyhow::Result;

use super::SIZE;
use super::axis::{Axis, time_unit};
use super::figure::{
    Anchor, Drawn, FAINT_INK, Figure, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw_noted,
};
use super::style::{Legend, Style};
use crate::analysis::scores::Score;
use crate::analysis::series::Points;
use crate::report::names::{counted, quantity, sentence};
use crate::report::study::Study;
use crate::sweep::run::series::{cdf_name, judged};

/// Panels of the replicas' figure.
const MAX_PANELS: usize = 5;
/// Points of a curve in a figure; more are thinned, keeping extremes.
const MAX_POINTS: usize = 1_500;
/// Long names shrink to this before they are cut.
const LEAST_TEXT: f64 = 10.0;
/// Of fewer requests a share has no place in the figure.
const LEAST_SHARE: f64 = 1e-4;
/// Below each other in a narrow column.
const MAX_PANELS_NARROW: usize = 3;

/// One of several panels below each other: what is said of it stands beside it, or above it where there is no
/// room.
pub(super) struct Stacked {
    pub panel: [f64; 4],
    /// Where the family's name stands, and how wide it may be.
    pub name: (f64, f64, f64),
    /// Left end, first line and width of what is said below the name.
    pub said: (f64, f64, f64),
}

/// Panels of `height`, each with so many lines of `pitch` said of it; and the figure's height.
pub(super) fn stacked(
    style: Style,
    panels: usize,
    height: f64,
    pitch: f64,
    lines: usize,
) -> (i32, Vec<Stacked>) {
    let width = style.width();
    if style.is_wide() {
        let of = |k: usize| {
            let top = 40.0 + (height + 14.0) * k as f64;
            let panel = [style.left(), top, width - 340.0, top + height];
            Stacked {
                panel,
                name: (width - 324.0, top + 10.0, 316.0),
                said: (width - 324.0, top + 34.0, 280.0),
            }
        };
        return (104 + (height as i32 + 14) * panels as i32, (0..panels).map(of).collect());
    }
    let (above, height) = (28.0 + pitch * lines as f64, 0.8 * height);
    let block = above + height + 18.0;
    let of = |k: usize| {
        let top = 34.0 + block * k as f64;
        let panel = [style.left(), top + above, style.right(), top + above + height];
        Stacked { panel, name: (16.0, top + 12.0, width - 32.0), said: (16.0, top + 32.0, width - 76.0) }
    };
    ((34.0 + block * panels as f64 + 34.0) as i32, (0..panels).map(of).collect())
}

pub(super) fn max_panels(style: Style) -> usize {
    if style.is_wide() { MAX_PANELS } else { MAX_PANELS_NARROW }
}

/// The replicas of the cheapest, the most balanced and the fastest run on each family's front, one panel a
/// family.
pub fn replicas(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let scores = study
        .analysis
        .scores_of(workload)
        .filter(|score| !chosen(study, score).is_empty())
        .collect::<Vec<_>>();
    let shown = &scores[..scores.len().min(max_panels(style))];
    let curves = || shown.iter().flat_map(|score| chosen(study, score)).map(|chosen| chosen.curve);
    // A curve ends where its run does.
    let end_s = curves().filter_map(|points| points.last()).map(|point| point.0).fold(0.0, f64::max);
    let most = curves().flatten().map(|point| point.1).fold(1.0, f64::max);
    if shown.is_empty() {
        return Ok(None);
    }
    let (divisor, unit) = time_unit(end_s);
    let most_chosen = shown.iter().map(|score| chosen(study, score).len()).max().unwrap_or_default();
    let (height, stack) = stacked(style, shown.len(), 150.0, Legend::PITCH, most_chosen);
    let drawn = draw_noted((style.width() as i32, height), style, |figure| {
        title(figure, study, workload, "replicas over time")?;
        for (k, (score, place)) in shown.iter().zip(stack).enumerate() {
            let last = k + 1 == shown.len();
            let x = Axis::linear(format!("Time ({unit})"), 0.0, end_s / divisor);
            let panel = Panel::new(figure, place.panel, x, Axis::linear("Replicas", 0.0, most * 1.08), last)?;
            let (left, y, width) = place.name;
            family_name(figure, study, score.family, left, y, width)?;
            for (n, chosen) in chosen(study, score).iter().enumerate() {
                let line = Line { colour: colour(study.looks[score.family]), ..chosen.line };
                panel.line(&steps(chosen.curve, divisor), line)?;
                let (left, first, width) = place.said;
                let y = first + if style.is_wide() { 36.0 } else { Legend::PITCH } * n as f64;
                figure.line(&[(left, y), (left + 28.0, y)], line)?;
                let (latency, cost) = study.objectives();
                let point = study.analysis.point(chosen.row);
                figure.text(chosen.what, (left + 36.0, y), SMALL_TEXT, INK, Anchor::Left)?;
                let point = format!("{}, {}", quantity(point.cost, cost), quantity(point.latency, latency));
                if style.is_wide() {
                    let below = (left + 36.0, y + 15.0 * style.text());
                    figure.text(&figure.fit(&point, 11.5, width)?, below, 11.5, FAINT_INK, Anchor::Left)?;
                } else {
                    let room = width + 44.0 - 60.0 - figure.text_width(chosen.what, SMALL_TEXT)?;
                    figure.text(
                        &figure.fit(&point, 11.5, room)?,
                        (style.width() - 16.0, y),
                        11.5,
                        FAINT_INK,
                        Anchor::Right,
                    )?;
                }
            }
            panel.finish()?;
        }
        figure.caption("Runs on each family's front: the best compromise, the cheapest and the fastest.");
        if scores.len() > shown.len() {
            let note = format!("and {} more in report.html", families(scores.len() - shown.len()));
            figure.note(&note, (style.left(), f64::from(height) - 14.0))?;
        }
        Ok(())
    })?;
    Ok(Some(drawn))
}

/// How many requests take longer than so long, of the latency that runs are judged by: of the verdict's
/// setting where there is one, and of the most balanced run on each family's front. Both axes are
/// logarithmic, so that the tail is seen.
pub fn latency_survival(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let judged = judged(&study.manifest.objectives);
    let best = study
        .judged
        .iter()
        .find(|judged| judged.workload == workload)
        .and_then(|judged| judged.named())
        .map(|best| best.rows[0]);
    let curve = |score: &&Score| {
        let named = best.filter(|&row| study.analysis.runs[row].family == score.family);
        let row = named
            .filter(|&row| study.curve(row, &cdf_name(judged)).is_some())
            .or(Some(study.first_front(score)?.1.balanced))?;
        Some((row, study.curve(row, &cdf_name(judged))?))
    };
    let scores = study
        .analysis
        .scores_of(workload)
        .filter(|score| curve(score).is_some())
        .take(style.max_families())
        .collect::<Vec<_>>();
    let values = scores.iter().filter_map(curve).flat_map(|(_, points)| points.iter().map(|point| point.0));
    let (low, high) = values
        .filter(|&x| x > 0.0)
        .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), x| (low.min(x), high.max(x)));
    if scores.is_empty() || low > high {
        return Ok(None);
    }
    let limit = limit_on_latency(study, workload);
    let high = limit.as_ref().map_or(high, |limit| high.max(limit.1 * 1.1));
    let text = format!("{} of a request (s)", sentence(judged.label));
    let x = if high > low * 10.0 {
        Axis::log_beyond(1.0, text, low / 1.1, high * 1.05)
    } else {
        Axis::linear(text, 0.0, high * 1.05)
    };
    // Without a title, and with two lines each where the legend is below.
    let mut layout = style.layout(SIZE.1, 410.0, 2 * scores.len() - 1);
    if style == Style::Slides {
        layout.panel[3] = 410.0;
    }
    let drawn = draw_noted(layout.size, style, |figure| {
        let of = if style.is_wide() { ", best compromise of each family" } else { "" };
        title(figure, study, workload, &format!("{}{of}", judged.label))?;
        figure.caption(
            "Of each family the best compromise, or the verdict's setting; both axes are logarithmic where it is far to the tail.",
        );
        let y = Axis::log_beyond(1.0, "Share of requests that take longer", LEAST_SHARE, 1.1);
        let panel = Panel::new(figure, layout.panel, x.clone(), y, true)?;
        let thin = Line { colour: FAINT_INK, opacity: 1.0, width: 1.0, dash: Some((4.0, 3.0)) };
        if let Some((share, name)) = judged_share(&study.manifest.objectives.latency) {
            panel.line(&[(x.low, 1.0 - share), (x.high, 1.0 - share)], thin)?;
            if let Some((_, y)) = panel.at(x.high, 1.0 - share) {
                figure.text(
                    &name,
                    (layout.panel[2] - 4.0, y - 9.0 * style.text()),
                    SMALL_TEXT,
                    FAINT_INK,
                    Anchor::Right,
                )?;
            }
        }
        if let Some((name, limit)) = &limit {
            let limit = *limit;
            panel.line(&[(limit, LEAST_SHARE), (limit, 1.1)], Line { colour: INK, ..thin })?;
            if let Some((x, y)) = panel.at(limit, LEAST_SHARE) {
                figure.text(
                    &format!("limit of {name}"),
                    (x + 5.0, y - 10.0 * style.text()),
                    SMALL_TEXT,
                    INK,
                    Anchor::Left,
                )?;
            }
        }
        // Settings in several lines where there is room.
        let lines = if scores.len() > 4 || !style.is_wide() { 1 } else { 3 };
        let pitch =
            if style.is_wide() { (38.0 + 14.0 * lines as f64) * style.text() } else { 2.0 * Legend::PITCH };
        let Legend { left, top, width, .. } = layout.legend;
        for (k, score) in scores.iter().enumerate() {
            let Some((row, points)) = curve(score) else { continue };
            let look = study.looks[score.family];
            let line = Line { dash: look.dash, ..Line::solid(colour(look), 2.0) };
            let survival: Vec<(f64, f64)> =
                thinned(points).iter().map(|point| (point.0, (1.0 - point.1).max(LEAST_SHARE))).collect();
            panel.line(&stairs(&survival, survival.last().map_or(x.high, |last| last.0)), line)?;
            // The marker, at a height of its own, tells lines apart without their colour.
            let height = 0.5 * 0.6f64.powi(k as i32);
            if let Some(at) =
                survival.iter().find(|point| point.1 <= height).and_then(|point| panel.at(point.0, height))
            {
                figure.marker(at, study.looks[score.family], 5.2, 1.0, true)?;
            }
            let y = top + pitch * k as f64;
            figure.line(&[(left, y), (left + 28.0, y)], line)?;
            let settings = study.describe(row);
            let point = study.analysis.point(row);
            let (latency, cost) = study.objectives();
            let outside = if score.outside.is_some() { " (outside the box)" } else { "" };
            let at = format!("{}, {}{outside}", quantity(point.cost, cost), quantity(point.latency, latency));
            if !style.is_wide() {
                let at = figure.fit(&at, 11.5, 0.55 * width)?;
                figure.text(&at, (left + width, y), 11.5, FAINT_INK, Anchor::Right)?;
                family_name(
                    figure,
                    study,
                    score.family,
                    left + 7.0,
                    y,
                    width - 18.0 - figure.text_width(&at, 11.5)?,
                )?;
                let settings = figure.fit(&settings, 11.5, width - 37.0)?;
                figure.text(
                    &settings,
                    (left + 37.0, y + 0.75 * Legend::PITCH),
                    11.5,
                    FAINT_INK,
                    Anchor::Left,
                )?;
                continue;
            }
            family_name(figure, study, score.family, left + 7.0, y, 272.0)?;
            figure.text(
                &figure.fit(&at, 11.5, 245.0)?,
                (left + 37.0, y + 15.0 * style.text()),
                11.5,
                FAINT_INK,
                Anchor::Left,
            )?;
            for (n, line) in figure.wrapped(&settings, 11.5, 245.0, lines)?.iter().enumerate() {
                let below = (29.0 + 14.0 * n as f64) * style.text();
                figure.text(line, (left + 37.0, y + below), 11.5, FAINT_INK, Anchor::Left)?;
            }
        }
        panel.finish()
    })?;
    Ok(Some(drawn))
}

/// The limit on the latency that runs are judged by, with the metric's name.
fn limit_on_latency(study: &Study, workload: usize) -> Option<(String, f64)> {
    let (latency, _) = study.objectives();
    let limits = study.manifest.objectives.constraints.on(&study.analysis.workloads[workload].name);
    limits
        .iter()
        .find(|constraint| constraint.metric.name == latency)
        .map(|constraint| (latency.to_owned(), constraint.limit))
}

/// The share of requests that a percentile leaves below it, and its name: 0.99 and `P99` of `p99_ttft_s`.
fn judged_share(metric: &str) -> Option<(f64, String)> {
    let rank = metric.strip_prefix('p')?.split('_').next()?.parse::<f64>().ok()?;
    Some((rank / 100.0, format!("P{rank}")))
}

/// The arrivals of a workload, one line a seed.
pub fn arrival_rate(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let mut by_seed: Vec<(i64, &Points)> = Vec::new();
    for front in study.analysis.fronts.iter().filter(|front| front.workload == workload) {
        if by_seed.iter().all(|(seed, _)| *seed != front.seed)
            && let Some(points) = front.rows.iter().find_map(|&row| study.curve(row, "arrival_rate_per_s"))
        {
            by_seed.push((front.seed, points));
        }
    }
    by_seed.sort_by_key(|(seed, _)| *seed);
    // A bin's rate holds until the next bin starts.
    let width_s = |points: &Points| points.windows(2).last().map_or(1.0, |pair| pair[1].0 - pair[0].0);
    let end_s =
        by_seed.iter().filter_map(|(_, points)| Some(points.last()?.0 + width_s(points))).fold(0.0, f64::max);
    let most = by_seed.iter().flat_map(|(_, points)| points.iter()).map(|point| point.1).fold(0.0, f64::max);
    if by_seed.is_empty() {
        return Ok(None);
    }
    let (divisor, unit) = time_unit(end_s);
    let height = if style.is_column() { 300 } else { 320 };
    let drawn = draw_noted((style.width() as i32, height), style, |figure| {
        title(figure, study, workload, "arrival rate")?;
        let x = Axis::linear(format!("Time ({unit})"), 0.0, end_s / divisor);
        let y = Axis::linear("Arrivals (requests/s)", 0.0, most * 1.08);
        let panel =
            Panel::new(figure, [style.left(), 40.0, style.right(), 250.0 - style.lift()], x, y, true)?;
        for (k, (_, points)) in by_seed.iter().enumerate().rev() {
            let line =
                if k == 0 { Line::solid(INK, 1.6) } else { Line { opacity: 0.35, ..Line::solid(INK, 0.9) } };
            let until = points.last().map(|last| (last.0 + width_s(points), last.1));
            let points = points.iter().copied().chain(until).collect();
            panel.line(&steps(&points, divisor), line)?;
        }
        panel.finish()?;
        if by_seed.len() > 1 {
            let note =
                format!("bold: seed {} · thin: {}", by_seed[0].0, counted(by_seed.len() - 1, "further seed"));
            figure.note(&note, (style.left(), 306.0))?;
        }
        Ok(())
    })?;
    Ok(Some(drawn))
}

fn families(count: usize) -> String {
    if count == 1 { "1 family".into() } else { format!("{count} families") }
}

struct Chosen<'a> {
    row: usize,
    what: &'static str,
    line: Line,
    curve: &'a Points,
}

fn chosen<'a>(study: &'a Study, score: &Score) -> Vec<Chosen<'a>> {
    let Some((_, highlights)) = study.first_front(score) else { return Vec::new() };
    let candidates = [
        (
            highlights.balanced,
            if score.outside.is_none() { "best compromise" } else { "middle of its front" },
            Line::solid(INK, 2.2),
        ),
        (highlights.cheapest, "cheapest", Line { dash: Some((6.0, 3.5)), ..Line::solid(INK, 1.4) }),
        (highlights.fastest, "fastest", Line { dash: Some((1.6, 2.2)), ..Line::solid(INK, 1.6) }),
    ];
    let mut chosen: Vec<Chosen> = Vec::new();
    for (row, what, line) in candidates {
        if let Some(curve) = study.curve(row, "num_replicas")
            && chosen.iter().all(|chosen| chosen.row != row)
        {
            chosen.push(Chosen { row, what, line, curve });
        }
    }
    chosen
}

pub(super) fn title(figure: &Figure, study: &Study, workload: usize, what: &str) -> Result<()> {
    let text = format!("{}: {what}", study.analysis.workloads[workload].name);
    let style = figure.style;
    let (left, width) = if style.is_wide() { (style.left(), 700.0) } else { (16.0, style.width() - 32.0) };
    let size = if style.is_wide() { 16.0 } else { figure.size_for(&text, 16.0, TEXT, width)? };
    figure.text(&figure.fit(&text, size, width)?, (left, 20.0), size, INK, Anchor::Left)
}

pub(super) fn family_name(
    figure: &Figure,
    study: &Study,
    family: usize,
    x: f64,
    y: f64,
    width: f64,
) -> Result<()> {
    figure.marker((x + 7.0, y), study.looks[family], 5.2, 1.0, true)?;
    let name = study.analysis.label(family);
    let size = figure.size_for(name, TEXT, LEAST_TEXT, width - 30.0)?;
    let name = figure.fit(name, size, width - 30.0)?;
    figure.text(&name, (x + 30.0, y - 1.0), size, INK, Anchor::Left)
}

/// A curve that keeps each value until the next, up to its last point, with time in units of `divisor`
/// seconds.
pub(super) fn steps(points: &Points, divisor: f64) -> Vec<(f64, f64)> {
    let end_s = points.last().map_or(0.0, |point| point.0);
    stairs(&thinned(points), end_s).into_iter().map(|(x, y)| (x / divisor, y)).collect()
}

fn stairs(points: &[(f64, f64)], end: f64) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    for &(x, y) in points {
        if let Some(&(_, before)) = stairs.last() {
            stairs.push((x, before));
        }
        stairs.push((x, y));
    }
    if let Some(&(x, y)) = stairs.last() {
        stairs.push((end.max(x), y));
    }
    stairs
}

fn thinned(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    crate::report::thin::thin(points, MAX_POINTS)
}
