//! A workload: requests over time, and how long they are.

use anyhow::Result;

use super::Style;
use super::axis::{Axis, time_unit};
use super::figure::{Anchor, FAINT_INK, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw};
use crate::report::palette::look;
use crate::workload::Workload;

const SIZE: (i32, i32) = (800, 640);
/// Bins of the rate.
const BINS: usize = 180;

/// Arrival rate over time above, cumulative distributions of prompt and output lengths below.
pub fn plot(workload: &Workload, name: &str) -> Result<String> {
    let (first, last) = (
        workload.arrived_at_s.first().copied().unwrap_or(0.0),
        workload.arrived_at_s.last().copied().unwrap_or(0.0),
    );
    let width_s = ((last - first) / BINS as f64).max(1e-9);
    let mut counts = [0_u32; BINS];
    for at in &workload.arrived_at_s {
        counts[(((at - first) / width_s) as usize).min(BINS - 1)] += 1;
    }
    let (scale, unit) = time_unit(last);
    let rates = counts.iter().map(|&count| f64::from(count) / width_s);
    let steps: Vec<(f64, f64)> = rates
        .enumerate()
        .flat_map(|(bin, rate)| [bin, bin + 1].map(|edge| ((first + edge as f64 * width_s) / scale, rate)))
        .collect();
    let highest = steps.iter().fold(0.0, |most: f64, step| most.max(step.1));
    let lengths = [("prefill tokens", &workload.prefill_tokens), ("decode tokens", &workload.decode_tokens)];
    let longest = lengths.iter().flat_map(|(_, tokens)| tokens.iter()).max().copied().unwrap_or(1);
    draw(SIZE, Style::Paper, |figure| {
        figure.text(&figure.fit(name, TEXT, 640.0)?, (80.0, 20.0), TEXT, INK, Anchor::Left)?;
        let time =
            Axis::linear(format!("Time ({unit})"), first / scale, (last / scale).max(first / scale + 1e-9));
        let panel = Panel::new(
            figure,
            [80.0, 40.0, 760.0, 270.0],
            time,
            Axis::linear("Requests per second", 0.0, 1.08 * highest.max(1e-9)),
            true,
        )?;
        panel.line(&steps, Line::solid(colour(look(0)), 1.6))?;
        panel.finish()?;
        let tokens = Axis::log_beyond(20.0, "Tokens", 1.0, 1.05 * f64::from(longest).max(2.0));
        let panel = Panel::new(
            figure,
            [80.0, 350.0, 760.0, 580.0],
            tokens,
            Axis::linear("Fraction of requests", 0.0, 1.0),
            true,
        )?;
        for (number, (label, tokens)) in lengths.iter().enumerate() {
            let mut sorted = (*tokens).clone();
            sorted.sort_unstable();
            let points: Vec<(f64, f64)> = (0..=400)
                .map(|i| {
                    let fraction = f64::from(i) / 400.0;
                    (
                        f64::from(
                            sorted[((fraction * (sorted.len() - 1) as f64) as usize).min(sorted.len() - 1)],
                        ),
                        fraction,
                    )
                })
                .collect();
            panel.line(&points, Line::solid(colour(look(number)), 1.8))?;
            figure.text(
                label,
                (640.0, 330.0 + 18.0 * number as f64 - 8.0),
                SMALL_TEXT,
                colour(look(number)),
                Anchor::Left,
            )?;
        }
        let total = format!("{} requests over {:.1} {unit}", workload.len(), (last - first) / scale);
        figure.text(&total, (80.0, 624.0), SMALL_TEXT, FAINT_INK, Anchor::Left)?;
        panel.finish()
    })
}
