//! How robust a verdict is: of the chosen setting, under each change and one step away on the grid, how much
//! of each limit is used. What lies left of the line keeps its limit.

use anyhow::Result;

use super::axis::Axis;
use super::figure::{Anchor, Drawn, FAINT_INK, Figure, INK, Line, SMALL_TEXT, TEXT, draw_noted};
use super::style::Style;
use crate::report::judgement::Judgement;
use crate::report::names::sentence;
use crate::report::palette::look;
use crate::report::study::Study;
use crate::report::verdict::name;
use crate::simulation::metric::Better;
use crate::sweep::answers::verdict::{Stand, Standing};

/// Where the panel begins below the title and the legend.
const TOP: f64 = 66.0;
const ROW: f64 = 26.0;
/// Beyond this many times a limit the axis ends.
const MOST: f64 = 100.0;

/// None where there is nothing to set beside the verdict.
pub fn plot(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let Some(judged) = study.judged.iter().find(|judged| judged.workload == workload) else {
        return Ok(None);
    };
    let Some(best) = judged.verdict.best.map(|best| &judged.verdict.settings[best]) else { return Ok(None) };
    let rows = rows(judged, best);
    let shares: Vec<f64> =
        rows.iter().flat_map(|(_, setting)| setting.limits.iter().filter_map(share)).collect();
    if rows.len() < 2 || shares.is_empty() {
        return Ok(None);
    }
    let low = shares.iter().copied().fold(0.5, f64::min) / 1.15;
    let high = shares.iter().copied().fold(1.5, f64::max).min(MOST) * 1.15;
    let x = Axis::log_beyond(1.0, "Share of the limit used, worst seed", low, high);
    let (left, right) = if style.is_wide() { (330.0, style.right()) } else { (196.0, style.right()) };
    let top = TOP * style.text();
    let bottom = top + ROW * style.text() * rows.len() as f64 + 6.0;
    let size = (style.width() as i32, (bottom + 54.0 * style.text()) as i32);
    let drawn = draw_noted(size, style, |figure| {
        let title =
            format!("{}: how robust {} is", judged.verdict.workload, name(study, best).replace('`', ""));
        figure.text(
            &figure.fit(&title, 15.0, style.width() - 50.0)?,
            (20.0, 20.0),
            15.0,
            INK,
            Anchor::Left,
        )?;
        figure.caption(format!("Of each limit the share that {} uses, under each change and with one setting one step away; what lies left of the line keeps it (✗: breaks one).", name(study, best).replace('`', "")));
        legend(figure, if style.is_wide() { left } else { 20.0 }, judged)?;
        let at = |share: f64| left + x.fraction(share.clamp(low, high)) * (right - left);
        for (value, text) in x.ticks() {
            figure.line(
                &[(at(value), top), (at(value), bottom)],
                Line { opacity: 0.15, ..Line::solid(FAINT_INK, 0.8) },
            )?;
            figure.text(&text, (at(value), bottom + 13.0 * style.text()), SMALL_TEXT, INK, Anchor::Middle)?;
        }
        figure.rectangle([(at(1.0), top), (right, bottom)], FAINT_INK, 0.10)?;
        figure.line(&[(at(1.0), top), (at(1.0), bottom)], Line::solid(INK, 1.6))?;
        figure.text("limit", (at(1.0) + 5.0, top - 8.0), SMALL_TEXT, INK, Anchor::Left)?;
        for (number, (what, setting)) in rows.iter().enumerate() {
            let y = top + ROW * style.text() * (number as f64 + 0.5) + 3.0;
            let what = if setting.keeps() { what.clone() } else { format!("{what} ✗") };
            let (size, room) = if style.is_wide() { (SMALL_TEXT, left - 34.0) } else { (11.0, left - 20.0) };
            let size = if style.is_wide() { size } else { figure.size_for(&what, size, 9.5, room)? };
            figure.text(&figure.fit(&what, size, room)?, (left - 10.0, y), size, INK, Anchor::Right)?;
            figure.line(&[(left, y), (right, y)], Line { opacity: 0.12, ..Line::solid(FAINT_INK, 0.8) })?;
            for (place, stand) in setting.limits.iter().enumerate() {
                if let Some(share) = share(stand) {
                    figure.marker(
                        (at(share), y),
                        look(place),
                        5.2,
                        if stand.worst.kept { 0.85 } else { 1.0 },
                        true,
                    )?;
                }
            }
        }
        figure.line(&[(left, top), (left, bottom), (right, bottom)], Line::solid(INK, 1.0))?;
        let size =
            if style.is_wide() { TEXT } else { figure.size_for(&x.label, TEXT, 10.0, right - left)? };
        figure.text(&x.label, ((left + right) / 2.0, bottom + 34.0 * style.text()), size, INK, Anchor::Middle)
    })?;
    Ok(Some(drawn))
}

/// What is shown, from above: the setting as it was swept, then each change, then its neighbours.
fn rows<'a>(judged: &'a Judgement, best: &'a Standing) -> Vec<(String, &'a Standing)> {
    let tested = judged
        .tested
        .iter()
        .filter(|tested| tested.role == "best")
        .map(|tested| (sentence(&tested.label()), &tested.standing));
    let neighbours = judged.neighbours.iter().map(|neighbour| {
        let what = format!("{}={}", crate::report::names::short_setting(&neighbour.column), neighbour.value);
        (what, &judged.verdict.settings[neighbour.setting])
    });
    std::iter::once(("As swept".to_owned(), best)).chain(tested).chain(neighbours).collect()
}

/// How much of a limit is used; a limit of 0 has no shares.
fn share(stand: &Stand) -> Option<f64> {
    let (value, limit) = (stand.worst.value?, stand.constraint.limit);
    let share = if stand.constraint.metric.better == Better::More { limit / value } else { value / limit };
    (share.is_finite() && share > 0.0).then_some(share)
}

fn legend(figure: &Figure, left: f64, judged: &Judgement) -> Result<()> {
    let mut x = left;
    for (place, constraint) in judged.verdict.constraints.iter().enumerate() {
        figure.marker((x + 6.0, 42.0), look(place), 5.2, 1.0, true)?;
        let text = constraint.to_string();
        figure.text(&text, (x + 16.0, 42.0), SMALL_TEXT, INK, Anchor::Left)?;
        x += 36.0 + figure.text_width(&text, SMALL_TEXT)?;
    }
    Ok(())
}
