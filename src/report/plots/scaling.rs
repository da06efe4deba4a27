//! How costs grow: named lines over a quantity, both axes logarithmic.

use anyhow::Result;

use super::Style;
use super::axis::Axis;
use super::figure::{Anchor, INK, Line, Panel, SMALL_TEXT, TEXT, colour, draw};
use crate::report::palette::look;

/// One line of a figure; all its coordinates are above 0.
#[derive(Debug, Clone)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
    pub dashed: bool,
}

/// Lines with a marker at each point, named in the order in which they end.
pub fn plot(title: &str, [x_label, y_label]: [&str; 2], series: &[Series]) -> Result<String> {
    let axis = |label: &str, coordinate: fn(&(f64, f64)) -> f64| {
        let values = series.iter().flat_map(|series| series.points.iter().map(coordinate));
        let (low, high) = values
            .fold((f64::INFINITY, 0.0), |(low, high): (f64, f64), value| (low.min(value), high.max(value)));
        anyhow::ensure!(
            low > 0.0 && low <= high,
            "`{title}`: {label} from {low} to {high} found, expected values above 0"
        );
        Ok(Axis { label: label.into(), low: low / 1.5, high: high * 1.5, log: true })
    };
    let (x, y) = (axis(x_label, |point| point.0)?, axis(y_label, |point| point.1)?);
    let end = |number: usize| series[number].points.last().map_or(0.0, |point| point.1);
    let mut by_end: Vec<usize> = (0..series.len()).collect();
    by_end.sort_by(|&a, &b| end(b).total_cmp(&end(a)));
    draw((800, 480), Style::Paper, |figure| {
        figure.text(title, (100.0, 20.0), TEXT, INK, Anchor::Left)?;
        let panel = Panel::new(figure, [100.0, 40.0, 560.0, 420.0], x, y, true)?;
        for (number, series) in series.iter().enumerate() {
            let dash = series.dashed.then_some((5.0, 3.0));
            panel.line(&series.points, Line { dash, ..Line::solid(colour(look(number)), 1.8) })?;
            for at in series.points.iter().filter_map(|&(x, y)| panel.at(x, y)) {
                figure.marker(at, look(number), 4.0, 1.0, true)?;
            }
        }
        for (row, &number) in by_end.iter().enumerate() {
            let y = 52.0 + 24.0 * row as f64;
            figure.marker((584.0, y), look(number), 4.5, 1.0, true)?;
            let name = figure.fit(&series[number].name, SMALL_TEXT, 195.0)?;
            figure.text(&name, (597.0, y), SMALL_TEXT, colour(look(number)), Anchor::Left)?;
        }
        panel.finish()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_named_in_the_order_in_which_they_end() {
        let line = |name: &str, end: f64| Series {
            name: name.into(),
            points: vec![(1e3, 10.0), (1e6, end)],
            dashed: end > 50.0,
        };
        let svg = plot("costs", ["n", "ns"], &[line("flat", 12.0), line("growing", 1e4)]).unwrap();
        let at = |name: &str| svg.find(name).unwrap_or_else(|| panic!("{name} is not drawn"));
        assert!(at("growing") < at("flat"));
        let error = plot("costs", ["n", "ns"], &[line("nothing", 0.0)]).unwrap_err();
        assert!(error.to_string().contains("expected values above 0"), "{error}");
    }
}
