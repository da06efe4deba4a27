//! Predicted against measured: step times, and latencies of whole runs.

use anyhow::Result;

use super::axis::Axis;
use super::figure::{Anchor, FAINT_INK, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw};
use super::style::Style;
use crate::hardware::check::Compared;
use crate::report::palette::look;
use crate::validation;

/// One prediction.
struct Dot {
    group: String,
    measured_ms: f64,
    predicted_ms: f64,
}

impl Dot {
    fn percent(&self) -> f64 {
        100.0 * (self.predicted_ms / self.measured_ms - 1.0)
    }
}

/// One marker a row of measured step times, by device and phase.
pub fn steps(rows: &[Compared]) -> Result<String> {
    let dot = |row: &Compared| Dot {
        group: format!("{} {}", row.measured.device, row.measured.phase.name()),
        measured_ms: row.measured.latency_ms,
        predicted_ms: row.predicted_ms,
    };
    plot("Predicted against measured time", rows.iter().map(dot).collect())
}

/// One marker a measured run and mean latency; of a run judged by several stages the mean of these.
pub fn runs(rows: &[validation::Compared]) -> Result<String> {
    let mut dots: Vec<(&str, &str, f64, Dot)> = Vec::new();
    for row in rows.iter().filter(|row| row.judged) {
        let Some(quantity) = row.metric.strip_suffix("_mean") else { continue };
        match dots.iter_mut().find(|(run, known, ..)| (*run, *known) == (&row.experiment, quantity)) {
            Some((.., count, dot)) => {
                *count += 1.0;
                dot.measured_ms += (row.measured_ms - dot.measured_ms) / *count;
                dot.predicted_ms += (row.simulated_ms - dot.predicted_ms) / *count;
            }
            None => {
                let group = format!("mean {}", quantity.to_uppercase());
                dots.push((
                    &row.experiment,
                    quantity,
                    1.0,
                    Dot { group, measured_ms: row.measured_ms, predicted_ms: row.simulated_ms },
                ));
            }
        }
    }
    plot("Simulated against measured latency, a dot a run", dots.into_iter().map(|(.., dot)| dot).collect())
}

/// Each dot as far above or below zero as the prediction is; between the dashed lines within a tenth.
fn plot(title: &str, dots: Vec<Dot>) -> Result<String> {
    let times = dots.iter().map(|dot| dot.measured_ms);
    let (low, high) =
        times.fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), ms| (low.min(ms), high.max(ms)));
    let largest = dots.iter().map(|dot| dot.percent().abs()).fold(12.0, f64::max) * 1.05;
    let mut groups: Vec<(String, Vec<&Dot>)> = Vec::new();
    for dot in &dots {
        match groups.iter_mut().find(|(known, _)| *known == dot.group) {
            Some((_, group)) => group.push(dot),
            None => groups.push((dot.group.clone(), vec![dot])),
        }
    }
    groups.sort_by(|a, b| a.0.cmp(&b.0));
    draw((800, 480), Style::Paper, |figure| {
        figure.text(title, (80.0, 20.0), TEXT, INK, Anchor::Left)?;
        let x = Axis::log_beyond(3.0, "Measured (ms)", low / 1.2, high * 1.2);
        let panel = Panel::new(
            figure,
            [80.0, 40.0, 530.0, 410.0],
            x,
            Axis::linear("Predicted less measured (%)", -largest, largest),
            true,
        )?;
        let dashed = Line { colour: FAINT_INK, opacity: 1.0, width: 1.0, dash: Some((4.0, 3.0)) };
        for (percent, line) in [(-10.0, dashed), (0.0, Line::solid(INK, 1.2)), (10.0, dashed)] {
            panel.line(&[(panel.x.low, percent), (panel.x.high, percent)], line)?;
        }
        for (number, (_, group)) in groups.iter().enumerate() {
            for dot in group {
                if let Some(at) = panel.at(dot.measured_ms, dot.percent()) {
                    figure.marker(at, look(number), 2.6, 0.7, false)?;
                }
            }
        }
        for (number, (name, group)) in groups.iter().enumerate() {
            let y = 48.0 + 22.0 * number as f64;
            figure.marker((556.0, y), look(number), 4.5, 1.0, true)?;
            let mean = group.iter().map(|dot| dot.percent().abs()).sum::<f64>() / group.len() as f64;
            let text = figure.fit(&format!("{name}: {mean:.1} %"), SMALL_TEXT, 215.0)?;
            figure.text(&text, (568.0, y), SMALL_TEXT, colour(look(number)), Anchor::Left)?;
        }
        figure.text(
            "in the legend: mean absolute error; dashed: 10 % off",
            (80.0, 464.0),
            SMALL_TEXT,
            FAINT_INK,
            Anchor::Left,
        )?;
        panel.finish()
    })
}
