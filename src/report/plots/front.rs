//! The front of a workload: every run faint, each family's front as a staircase with the band of its seeds,
//! the reference box shaded.

use anyhow::Result;

use super::attained::{draw_band, draw_line, explanation, staircase};
use super::axis::Axis;
use super::figure::{
    Anchor, Drawn, FAINT_INK, Figure, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw_noted,
};
use super::style::{Legend, Style};
use crate::analysis::front::{Point, compromise};
use crate::analysis::scores::Score;
use crate::report::names::{counted, label, percent, quantity};
use crate::report::palette::Look;
use crate::report::remarks::beyond;
use crate::report::study::Study;
use crate::report::verdict::keeps;
use crate::sweep::objectives::{Objectives, Reference};

/// A latency axis that spans more than this factor is logarithmic.
const LOG_BEYOND: f64 = 15.0;
/// Size of the figure: room for two lines below the axis.
pub const SIZE: (i32, i32) = (900, 500);
/// Long names shrink to this before they are cut.
const LEAST_TEXT: f64 = 10.0;
/// Without a reference point given, the latency axis ends at this multiple of the front's median.
const BEYOND_MEDIAN: f64 = 4.0;

const EDGE: Line = Line { colour: INK, opacity: 1.0, width: 1.4, dash: Some((6.0, 3.0)) };
const INFORMED: Line = Line { colour: INK, opacity: 1.0, width: 1.4, dash: Some((2.0, 3.0)) };

pub fn plot(study: &Study, workload: usize, style: Style) -> Result<Drawn> {
    let (analysis, objectives) = (&study.analysis, &study.manifest.objectives);
    let fronts = analysis.fronts.iter().filter(|front| front.workload == workload);
    let mut points = fronts.flat_map(|front| &front.rows).map(|&row| analysis.point(row)).collect::<Vec<_>>();
    let name = &analysis.workloads[workload].name;
    for edge in [&analysis.oracle, &analysis.informed.reached] {
        points.extend(edge.seeds(name).iter().flat_map(|&seed| edge.edge(name, seed, None)));
    }
    let (x, y) = axes(points, analysis.reference(workload), objectives);
    let scores = study.analysis.scores_of(workload).collect::<Vec<_>>();
    let shown = &scores[..scores.len().min(style.max_families())];
    let edges = edges(study, workload);
    let layout =
        style.layout(SIZE.1, 410.0, edges.len() + shown.len() + usize::from(scores.len() > shown.len()));
    draw_noted(layout.size, style, |figure| {
        let panel = Panel::new(figure, layout.panel, x.clone(), y.clone(), true)?;
        if let Some(reference) = study.analysis.reference(workload) {
            panel.fill_to(reference.cost, reference.latency, FAINT_INK, 0.09)?;
        }
        let fronts = shown.iter().rev().map(|score| {
            let fronts = study.analysis.fronts_of(workload, score.family);
            (
                study.looks[score.family],
                fronts
                    .map(|front| front.rows.iter().map(|&row| analysis.point(row)).collect())
                    .collect::<Vec<_>>(),
            )
        });
        let fronts = fronts.collect::<Vec<_>>();
        for (look, sets) in &fronts {
            draw_band(&panel, *look, sets)?;
        }
        let outside = draw_runs(figure, &panel, study, workload, shown)?;
        draw_edges(&panel, study, workload)?;
        for (look, sets) in &fronts {
            draw_line(figure, &panel, *look, sets)?;
        }
        if let Some(reference) = study.analysis.reference(workload) {
            draw_reference(figure, &panel, reference)?;
        }
        draw_limits(figure, &panel, study, workload)?;
        panel.finish()?;
        let title = figure.fit(
            &study.analysis.workloads[workload].name,
            16.0,
            if style.is_wide() { 500.0 } else { style.right() - style.left() },
        )?;
        figure.text(&title, (style.left(), 20.0), 16.0, INK, Anchor::Left)?;
        draw_legend(figure, &layout.legend, study, edges, shown, scores.len())?;
        let usable =
            study.analysis.runs.iter().filter(|run| run.workload == workload && run.point.is_some()).count();
        let mut notes = vec![format!("faint: all {}", counted(usable, "run"))];
        if study.judged.iter().any(|judged| judged.workload == workload) {
            notes.push("fainter: breaks a limit".to_owned());
        }
        if outside > 0 {
            notes.push(format!("{outside} outside the axes"));
        }
        match study.analysis.reference(workload) {
            Some(reference) if !panel.contains(reference.cost, reference.latency) => {
                let (latency, cost) = study.objectives();
                notes.push(format!(
                    "reference {}, {}",
                    quantity(reference.cost, cost),
                    quantity(reference.latency, latency)
                ));
            }
            Some(_) => notes.push("shaded: hypervolume box".to_owned()),
            None => {}
        }
        let seeds = shown.iter().map(|score| score.seeds).max().unwrap_or(0);
        draw_notes(figure, f64::from(SIZE.1), seeds, &notes)
    })
}

/// What the lines mean with several seeds, and `notes`, at the figure's lower end.
pub fn draw_notes(figure: &Figure, bottom: f64, seeds: usize, notes: &[String]) -> Result<()> {
    let lines = explanation(seeds).into_iter().chain([notes.join(" · ")]);
    for (line, y) in lines.zip([bottom - 36.0, bottom - 16.0]) {
        figure.note(&line, (84.0, y))?;
    }
    Ok(())
}

/// Ranges that show the points of fronts and the reference point, not every unstable run.
pub fn axes(all: Vec<Point>, reference: Option<Reference>, objectives: &Objectives) -> (Axis, Axis) {
    let (latency, cost) = (&objectives.latency, &objectives.cost);
    let inside = |point: &Point| reference.is_some_and(|reference| compromise(*point, reference) > 0.0);
    // Where some front points lie in the box, those outside matter to no score and may be cut off.
    let mut points: Vec<Point> =
        if all.iter().any(inside) { all.into_iter().filter(inside).collect() } else { all };
    let mut corner = reference.map(|reference| Point { latency: reference.latency, cost: reference.cost });
    if let Some(corner) = corner.as_mut().filter(|_| objectives.reference.is_none()) {
        // The worst run may be thousands of times slower than the front: the reference point then lies beyond
        // the axes.
        let mut latencies = points.iter().map(|point| point.latency).collect::<Vec<_>>();
        latencies.sort_by(f64::total_cmp);
        let usual =
            latencies.get(latencies.len() / 2).map_or(corner.latency, |median| median * BEYOND_MEDIAN);
        corner.latency = corner.latency.min(usual);
        points.retain(|point| point.latency <= corner.latency);
    }
    let range = |of: fn(&Point) -> f64| {
        let values = points.iter().chain(&corner).map(of);
        values
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)))
    };
    let (cheapest, dearest) = range(|point| point.cost);
    let (fastest, slowest) = range(|point| point.latency);
    if points.is_empty() && corner.is_none() {
        return (Axis::linear(label(cost), 0.0, 1.0), Axis::linear(label(latency), 0.0, 1.0));
    }
    let padding = (dearest - cheapest) * 0.08;
    let low_cost = if cheapest > 0.4 * dearest { cheapest - padding } else { cheapest.min(0.0) };
    let x = Axis::linear(label(cost), low_cost, dearest + padding.max(dearest.abs() * 0.02));
    let y = if fastest > 0.0 && slowest > fastest * LOG_BEYOND {
        Axis::log_beyond(1.0, label(latency), fastest / 1.4, slowest * 1.4)
    } else {
        Axis::linear(label(latency), fastest.min(0.0), slowest * 1.1)
    };
    (x, y)
}

/// Limits on what the axes show, and where the verdict lies.
fn draw_limits(figure: &Figure, panel: &Panel, study: &Study, workload: usize) -> Result<()> {
    let Some(judged) = study.judged.iter().find(|judged| judged.workload == workload) else { return Ok(()) };
    let (latency, cost) = study.objectives();
    let dotted = Line { colour: INK, opacity: 1.0, width: 1.2, dash: Some((2.0, 3.0)) };
    for constraint in &judged.verdict.constraints {
        let (limit, text) =
            (constraint.limit, format!("limit {}", quantity(constraint.limit, &constraint.metric.name)));
        if constraint.metric.name == latency {
            panel.line(&[(panel.x.low, limit), (panel.x.high, limit)], dotted)?;
            if let Some((x, y)) = panel.at(panel.x.high, limit) {
                figure.text(&text, (x - 4.0, y - 9.0), SMALL_TEXT, INK, Anchor::Right)?;
            }
        } else if constraint.metric.name == cost {
            panel.line(&[(limit, panel.y.low), (limit, panel.y.high)], dotted)?;
            if let Some((x, y)) = panel.at(limit, panel.y.high) {
                figure.text(&text, (x + 4.0, y + 9.0), SMALL_TEXT, INK, Anchor::Left)?;
            }
        }
    }
    let best =
        judged.verdict.best.and_then(|best| study.analysis.runs[judged.verdict.settings[best].rows[0]].point);
    if let Some((x, y)) = best.and_then(|point| panel.at(point.cost, point.latency)) {
        figure.line(&[(x + 5.0, y - 5.0), (x + 16.0, y - 18.0)], Line::solid(INK, 1.4))?;
        figure.text("verdict", (x + 18.0, y - 21.0), TEXT, INK, Anchor::Left)?;
    }
    Ok(())
}

/// Draws the runs, those that break a limit fainter, and returns how many lie outside the axes.
fn draw_runs(
    figure: &Figure,
    panel: &Panel,
    study: &Study,
    workload: usize,
    shown: &[&Score],
) -> Result<usize> {
    let mut outside = 0;
    let mut drawn = std::collections::BTreeSet::new();
    let keeps = keeps(study)?;
    for (row, run) in study.analysis.runs.iter().enumerate().filter(|(_, run)| run.workload == workload) {
        let Some(point) = run.point else { continue };
        let Some(at) = panel.at(point.cost, point.latency) else {
            outside += 1;
            continue;
        };
        // One marker for all runs of a family that would cover each other: a file of ten thousand runs stays
        // small.
        if drawn.insert((run.family, at.0.round() as i32, at.1.round() as i32)) {
            let opacity = if keeps[row] == Some(false) { 0.14 } else { 0.32 };
            let known = shown.iter().any(|score| score.family == run.family);
            figure.marker(at, study.looks[run.family], if known { 2.6 } else { 1.6 }, opacity, false)?;
        }
    }
    Ok(outside)
}

/// What perfect foresight reached, and knowledge of the law; with several seeds by half of them, like the
/// lines of families.
fn draw_edges(panel: &Panel, study: &Study, workload: usize) -> Result<()> {
    for (edge, line) in [(&study.analysis.oracle, EDGE), (&study.analysis.informed.reached, INFORMED)] {
        let edge = edge.attained(&study.analysis.workloads[workload].name);
        if !edge.is_empty() {
            panel.line(&staircase(&edge, panel), line)?;
        }
    }
    Ok(())
}

pub fn draw_reference(figure: &Figure, panel: &Panel, reference: Reference) -> Result<()> {
    let dashed = Line { colour: FAINT_INK, opacity: 1.0, width: 1.0, dash: Some((4.0, 3.0)) };
    panel.line(
        &[
            (panel.x.low, reference.latency),
            (reference.cost, reference.latency),
            (reference.cost, panel.y.low),
        ],
        dashed,
    )?;
    if let Some((x, y)) = panel.at(reference.cost, reference.latency) {
        let ink = Line::solid(INK, 1.6);
        figure.line(&[(x - 4.5, y - 4.5), (x + 4.5, y + 4.5)], ink)?;
        figure.line(&[(x - 4.5, y + 4.5), (x + 4.5, y - 4.5)], ink)?;
        figure.text("reference", (x - 8.0, y - 11.0), SMALL_TEXT, INK, Anchor::Right)?;
    }
    Ok(())
}

/// Edges on a workload: what each is, how good, and how it is drawn.
fn edges(study: &Study, workload: usize) -> Vec<(&'static str, String, Line)> {
    let edge = study
        .analysis
        .edge_quality(workload)
        .map(|edge| ("edge of the possible", format!("{:.3}, with foresight", edge.hv_exact.mean), EDGE));
    let informed = study.analysis.informed_quality(workload);
    let informed = informed
        .map(|edge| ("informed edge", format!("{:.3}, without foresight", edge.reached.mean), INFORMED));
    [edge, informed].into_iter().flatten().collect()
}

/// Best family first.
fn draw_legend(
    figure: &Figure,
    legend: &Legend,
    study: &Study,
    edges: Vec<(&str, String, Line)>,
    shown: &[&Score],
    families: usize,
) -> Result<()> {
    let mut y = legend_title(figure, legend, "Family, hypervolume")?;
    for (title, hv, line) in edges {
        y = legend_line(figure, legend, y, line, None, title, &hv)?;
    }
    for score in shown {
        let hv = score.hv_exact.map_or("no usable run".to_owned(), |hv| match hv.interval {
            None => format!("{:.3}", hv.mean),
            // Of two seeds it may leave what a share can be.
            Some((low, high)) if low < 0.0 || high > 1.0 => {
                format!("{:.3} ({:.2} to {:.2})", hv.mean, low.max(0.0), high.min(1.0))
            }
            Some((_, high)) => format!("{:.3} ± {:.3}", hv.mean, high - hv.mean),
        });
        let hv = match &score.outside {
            Some(outside) => format!("outside, {}", beyond(outside)),
            None => hv,
        };
        let hv = match study.analysis.regret(score).filter(|_| score.outside.is_none()) {
            Some(regret) => format!("{hv}, {} of the edge", percent(regret.share.mean)),
            None => hv,
        };
        y = legend_entry(
            figure,
            legend,
            y,
            study.looks[score.family],
            study.analysis.label(score.family),
            &hv,
        )?;
    }
    if families > shown.len() {
        let text = format!("and {} more, runs only", families - shown.len());
        figure.text(&text, (legend.left, y), SMALL_TEXT, FAINT_INK, Anchor::Left)?;
    }
    Ok(())
}

/// Returns where the first entry goes.
pub fn legend_title(figure: &Figure, legend: &Legend, text: &str) -> Result<f64> {
    figure.text(text, (legend.left, legend.top), SMALL_TEXT, FAINT_INK, Anchor::Left)?;
    Ok(legend.top + 24.0 * figure.style.text())
}

/// A family's entry; returns where the next one goes.
pub fn legend_entry(
    figure: &Figure,
    legend: &Legend,
    y: f64,
    look: Look,
    name: &str,
    detail: &str,
) -> Result<f64> {
    legend_line(
        figure,
        legend,
        y,
        Line { dash: look.dash, ..Line::solid(colour(look), 2.0) },
        Some(look),
        name,
        detail,
    )
}

/// Beside a panel a name, in two lines if it needs them, above a detail; below it both on one line.
fn legend_line(
    figure: &Figure,
    legend: &Legend,
    y: f64,
    line: Line,
    look: Option<Look>,
    name: &str,
    detail: &str,
) -> Result<f64> {
    let Legend { left, width, .. } = *legend;
    let line_height = 15.5 * figure.style.text();
    figure.line(&[(left, y), (left + 28.0, y)], line)?;
    if let Some(look) = look {
        figure.marker((left + 14.0, y), look, 5.2, 1.0, true)?;
    }
    if !legend.is_beside {
        let detail = figure.fit(detail, SMALL_TEXT, 0.6 * width)?;
        figure.text(&detail, (left + width, y), SMALL_TEXT, FAINT_INK, Anchor::Right)?;
        let room = width - 48.0 - figure.text_width(&detail, SMALL_TEXT)?;
        let size = figure.size_for(name, TEXT, LEAST_TEXT, room)?;
        figure.text(&figure.fit(name, size, room)?, (left + 36.0, y - 1.0), size, INK, Anchor::Left)?;
        return Ok(y + Legend::PITCH);
    }
    let mut below = y - 1.0;
    for line in figure.wrapped(name, TEXT, width - 36.0, 2)? {
        figure.text(&line, (left + 36.0, below), TEXT, INK, Anchor::Left)?;
        below += line_height;
    }
    figure.text(
        &figure.fit(detail, SMALL_TEXT, width - 36.0)?,
        (left + 36.0, below),
        SMALL_TEXT,
        FAINT_INK,
        Anchor::Left,
    )?;
    Ok(below + 1.25 * line_height)
}
