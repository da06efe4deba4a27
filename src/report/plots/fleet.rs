//! A fleet over time: replicas that served, measured and simulated.

use anyhow::Result;

use super::Style;
use super::axis::{Axis, time_unit};
use super::figure::{Anchor, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw};
use crate::report::palette::look;
use crate::validation::fleet::Steps;

/// A step line a curve; the first, the measurement, is solid.
pub fn plot(title: &str, curves: &[(String, Steps)], ends_s: f64) -> Result<String> {
    let (scale, unit) = time_unit(ends_s);
    let most = curves.iter().flat_map(|(_, steps)| steps.iter()).map(|step| step.1).max().unwrap_or(1);
    draw((800, 400), Style::Paper, |figure| {
        figure.text(&figure.fit(title, TEXT, 640.0)?, (80.0, 20.0), TEXT, INK, Anchor::Left)?;
        let time = Axis::linear(format!("Time ({unit})"), 0.0, (ends_s / scale).max(1e-9));
        let panel = Panel::new(
            figure,
            [80.0, 60.0, 760.0, 350.0],
            time,
            Axis::linear("Replicas serving", 0.0, 1.1 * f64::from(most)),
            true,
        )?;
        for (number, (name, steps)) in curves.iter().enumerate() {
            let ends = steps.iter().skip(1).map(|step| step.0).chain([ends_s]);
            let within = steps.iter().zip(ends).filter(|(step, _)| step.0 < ends_s);
            let points: Vec<(f64, f64)> = within
                .flat_map(|(&(from_s, replicas), to_s)| {
                    [from_s, to_s.min(ends_s)].map(|at_s| (at_s / scale, f64::from(replicas)))
                })
                .collect();
            let dash = (number > 0).then_some((5.0, 3.0));
            panel.line(&points, Line { dash, ..Line::solid(colour(look(number)), 1.8) })?;
            figure.text(
                name,
                (80.0 + 180.0 * number as f64, 42.0),
                SMALL_TEXT,
                colour(look(number)),
                Anchor::Left,
            )?;
        }
        panel.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_curve_is_named() {
        let curves = [
            ("measured".to_string(), vec![(0.0, 1), (60.0, 3)]),
            ("simulated".to_string(), vec![(0.0, 1), (75.0, 2)]),
        ];
        let svg = plot("run", &curves, 300.0).unwrap();
        assert!(svg.contains("measured") && svg.contains("simulated") && svg.contains("Replicas serving"));
    }
}
