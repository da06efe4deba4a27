//! Which settings matter: of each the factor between its best and its worst value, in latency and in cost.

use anyhow::Result;

use super::axis::Axis;
use super::figure::{Anchor, Drawn, FAINT_INK, Figure, INK, Line, SMALL_TEXT, TEXT, colour, draw_noted};
use super::style::Style;
use crate::analysis::effects::Effect;
use crate::report::names::short_setting;
use crate::report::palette::look;
use crate::report::study::Study;

/// Where the panel begins below the title and the legend.
const TOP: f64 = 66.0;
const ROW: f64 = 34.0;
const BAR: f64 = 10.0;
/// Settings shown, the strongest.
const MAX_EFFECTS: usize = 12;

/// None where no setting has two values.
pub fn plot(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let effects: Vec<&Effect> =
        study.effects.iter().filter(|effect| effect.workload == workload).take(MAX_EFFECTS).collect();
    let factors = || {
        effects
            .iter()
            .flat_map(|effect| [effect.latency.ratio, effect.cost.ratio])
            .filter(|ratio| ratio.is_finite())
    };
    let most = factors().fold(1.0, f64::max);
    if effects.is_empty() || most <= 1.0 {
        return Ok(None);
    }
    let objectives = study.objectives();
    let label = if style.is_wide() {
        "Largest over smallest geometric mean of the runs with one value"
    } else {
        "Largest over smallest mean"
    };
    let x = Axis::log_beyond(1.0, label, 1.0, most * 1.1);
    let (left, right) =
        if style.is_wide() { (330.0, style.width() - 100.0) } else { (172.0, style.width() - 50.0) };
    let top = TOP * style.text();
    let bottom = top + ROW * style.text() * effects.len() as f64 + 6.0;
    let size = (style.width() as i32, (bottom + 54.0 * style.text()) as i32);
    let drawn = draw_noted(size, style, |figure| {
        let title = format!("{}: settings that matter most", study.analysis.workloads[workload].name);
        figure.text(
            &figure.fit(&title, 15.0, style.width() - 50.0)?,
            (20.0, 20.0),
            15.0,
            INK,
            Anchor::Left,
        )?;
        legend(figure, if style.is_wide() { left } else { 20.0 }, objectives.into())?;
        figure.caption("Of each setting the largest geometric mean of the runs with one value over the smallest; in percent the share of the variance that it explains.");
        let at = |ratio: f64| left + x.fraction(ratio.clamp(x.low, x.high)) * (right - left);
        for (value, text) in x.ticks() {
            figure.line(
                &[(at(value), top), (at(value), bottom)],
                Line { opacity: 0.15, ..Line::solid(FAINT_INK, 0.8) },
            )?;
            figure.text(&text, (at(value), bottom + 13.0 * style.text()), SMALL_TEXT, INK, Anchor::Middle)?;
        }
        for (number, effect) in effects.iter().enumerate() {
            let y = top + ROW * style.text() * (number as f64 + 0.5) + 3.0;
            let within =
                effect.family.map_or(String::new(), |family| format!(" ({})", study.analysis.label(family)));
            let what = format!("{}{within}", short_setting(&effect.setting));
            if style.is_wide() {
                figure.text(
                    &figure.fit(&what, SMALL_TEXT, left - 34.0)?,
                    (left - 10.0, y),
                    SMALL_TEXT,
                    INK,
                    Anchor::Right,
                )?;
            } else {
                let lines = figure.wrapped(&what, 11.0, left - 20.0, 2)?;
                for (number, line) in lines.iter().enumerate() {
                    let y = y + 13.0 * (number as f64 - (lines.len() as f64 - 1.0) / 2.0);
                    figure.text(line, (left - 10.0, y), 11.0, INK, Anchor::Right)?;
                }
            }
            for (place, strength) in [&effect.latency, &effect.cost].into_iter().enumerate() {
                let up = y + BAR * (place as f64 - 1.0);
                figure.rectangle(
                    [(left, up), (at(strength.ratio), up + BAR - 1.5)],
                    colour(look(place)),
                    shade(style, place),
                )?;
                let explained =
                    strength.explained.map_or(String::new(), |share| format!("{:.0} %", 100.0 * share));
                figure.text(
                    &explained,
                    (at(strength.ratio) + 5.0, up + BAR / 2.0 - 0.5),
                    SMALL_TEXT * 0.8,
                    FAINT_INK,
                    Anchor::Left,
                )?;
            }
        }
        figure.line(&[(left, top), (left, bottom), (right, bottom)], Line::solid(INK, 1.0))?;
        figure.text(&x.label, ((left + right) / 2.0, bottom + 34.0 * style.text()), TEXT, INK, Anchor::Middle)
    })?;
    Ok(Some(drawn))
}

/// In print the second of two bars is paler: their colours alone are of one grey.
fn shade(style: Style, place: usize) -> f64 {
    if style.is_column() && place > 0 { 0.45 } else { 0.9 }
}

fn legend(figure: &Figure, left: f64, objectives: [&str; 2]) -> Result<()> {
    let mut x = left;
    for (place, name) in objectives.into_iter().enumerate() {
        figure.rectangle([(x, 37.0), (x + 12.0, 47.0)], colour(look(place)), shade(figure.style, place))?;
        figure.text(name, (x + 18.0, 42.0), SMALL_TEXT, INK, Anchor::Left)?;
        x += 36.0 + figure.text_width(name, SMALL_TEXT)?;
    }
    let explained = "%: of its variance explained";
    if figure.style.is_wide() {
        figure.text(explained, (x + 4.0, 42.0), SMALL_TEXT * 0.8, FAINT_INK, Anchor::Left)
    } else {
        Ok(())
    }
}
