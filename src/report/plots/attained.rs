//! A family's front: of one seed as it is; of several seeds what half of them attain, in the band between what 10 % and 90 % attain.

use anyhow::Result;

use super::figure::{Figure, Line, Panel, colour};
use crate::analysis::front::Point;
use crate::analysis::indicators::attainment;
use crate::analysis::quality::ATTAINMENT_PERCENT;
use crate::report::palette::Look;

/// Fronts with more corners than this get smaller markers.
const CROWDED: usize = 12;

/// Draws `sets`, the front of each seed. Markers stand at the corners of the line, and are runs only with one seed.
pub fn draw(figure: &Figure, panel: &Panel, look: Look, sets: &[Vec<Point>]) -> Result<()> {
    let [low, half, high] = ATTAINMENT_PERCENT.map(|percent| attainment(sets, percent));
    if sets.len() > 1 {
        let [lower, upper] = [&low, &high].map(|border| staircase(border, panel));
        panel.fill_between(&lower, &upper, colour(look), 0.22)?;
        let edge = Line { opacity: 0.45, ..Line::solid(colour(look), 0.6) };
        panel.line(&lower, edge)?;
        panel.line(&upper, edge)?;
    }
    panel.line(&staircase(&half, panel), Line::solid(colour(look), 2.0))?;
    let radius = if half.len() > CROWDED { 3.6 } else { 5.2 };
    for at in half.iter().filter_map(|point| panel.at(point.cost, point.latency)) {
        figure.marker(at, look, radius, 1.0, true)?;
    }
    Ok(())
}

/// What is drawn with `seeds` seeds, if that needs words.
pub fn explanation(seeds: usize) -> Option<String> {
    (seeds > 1).then(|| format!("line: attained by half of the {seeds} seeds · band: between what 10 and 90 % of them attain"))
}

/// The border of what a front dominates, from the upper to the right end of the axes; points by rising cost.
fn staircase(front: &[Point], panel: &Panel) -> Vec<(f64, f64)> {
    let mut stairs: Vec<(f64, f64)> = Vec::new();
    let top = front.iter().map(|point| point.latency).fold(panel.y.high, f64::max);
    for point in front {
        let before = stairs.last().map_or(top, |last| last.1);
        stairs.push((point.cost, before));
        stairs.push((point.cost, point.latency));
    }
    let right = front.iter().map(|point| point.cost).fold(panel.x.high, f64::max);
    stairs.push((right, stairs.last().map_or(top, |last| last.1)));
    stairs
}
