//! Predicted against measured step times.

use anyhow::Result;

use super::axis::Axis;
use super::figure::{Anchor, FAINT_INK, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw};
use super::style::Style;
use crate::hardware::check::{Compared, errors};
use crate::report::palette::look;

/// One marker a row, by device and phase, as far above or below zero as the prediction is; between the dashed lines within a tenth.
pub fn plot(rows: &[Compared]) -> Result<String> {
    let times = rows.iter().map(|row| row.measured.latency_ms);
    let (low, high) = times.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), ms| (low.min(ms), high.max(ms)));
    let largest = rows.iter().map(|row| 100.0 * row.error().abs()).fold(12.0, f64::max) * 1.05;
    let mut groups: Vec<(String, Vec<&Compared>)> = Vec::new();
    for row in rows {
        let name = format!("{} {}", row.measured.device, row.measured.phase.name());
        match groups.iter_mut().find(|(known, _)| *known == name) {
            Some((_, group)) => group.push(row),
            None => groups.push((name, vec![row])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    draw((800, 480), Style::Paper, |figure| {
        figure.text("Predicted against measured time", (80.0, 20.0), TEXT, INK, Anchor::Left)?;
        let x = Axis::log_beyond(3.0, "Measured (ms)", low / 1.2, high * 1.2);
        let panel =
            Panel::new(figure, [80.0, 40.0, 530.0, 410.0], x, Axis::linear("Predicted less measured (%)", -largest, largest), true)?;
        let dashed = Line { colour: FAINT_INK, opacity: 1.0, width: 1.0, dash: Some((4.0, 3.0)) };
        for (percent, line) in [(-10.0, dashed), (0.0, Line::solid(INK, 1.2)), (10.0, dashed)] {
            panel.line(&[(panel.x.low, percent), (panel.x.high, percent)], line)?;
        }
        for (number, (_, group)) in groups.iter().enumerate() {
            for row in group {
                if let Some(at) = panel.at(row.measured.latency_ms, 100.0 * row.error()) {
                    figure.marker(at, look(number), 2.6, 0.7, false)?;
                }
            }
        }
        for (number, (name, group)) in groups.iter().enumerate() {
            let y = 48.0 + 22.0 * number as f64;
            figure.marker((556.0, y), look(number), 4.5, 1.0, true)?;
            let mape = errors(group.iter().copied()).map_or(0.0, |errors| errors.mape);
            let text = figure.fit(&format!("{name}: {:.1} %", 100.0 * mape), SMALL_TEXT, 215.0)?;
            figure.text(&text, (568.0, y), SMALL_TEXT, colour(look(number)), Anchor::Left)?;
        }
        figure.text("in the legend: mean absolute error; dashed: 10 % off", (80.0, 464.0), SMALL_TEXT, FAINT_INK, Anchor::Left)?;
        panel.finish()
    })
}
