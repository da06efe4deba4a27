//! A family's front: of one seed as it is; of several seeds what half of them attain, in the band between
//! what 10 % and 90 % attain.

use anyhow::Result;

use super::figure::{Figure, Line, Panel, colour};
use crate::analysis::front::Point;
use crate::analysis::indicators::ATTAINMENT_PERCENT;
use crate::analysis::indicators::attainment;
use crate::report::palette::Look;

const LOW: u32 = ATTAINMENT_PERCENT[0];
const HALF: u32 = ATTAINMENT_PERCENT[1];
const HIGH: u32 = ATTAINMENT_PERCENT[2];

/// Corners of the median closer than this to the last marker have none of their own.
const APART: f64 = 13.0;
/// Fronts of one seed with more points than this get smaller markers.
const CROWDED: usize = 12;

/// The band of `sets`, the front of each seed; nothing for one seed. Drawn before all lines.
pub fn draw_band(panel: &Panel, look: Look, sets: &[Vec<Point>]) -> Result<()> {
    if sets.len() < 2 {
        return Ok(());
    }
    let [lower, upper] = [LOW, HIGH].map(|percent| staircase(&attainment(sets, percent), panel));
    panel.fill_between(&lower, &upper, colour(look), 0.22)?;
    let edge = Line { opacity: 0.45, ..Line::solid(colour(look), 0.6) };
    panel.line(&lower, edge)?;
    panel.line(&upper, edge)
}

/// The median of `sets`, the front itself with one. Markers stand at its corners; these are runs only with
/// one seed.
pub fn draw_line(figure: &Figure, panel: &Panel, look: Look, sets: &[Vec<Point>]) -> Result<()> {
    let median = attainment(sets, HALF);
    panel.line(&staircase(&median, panel), Line { dash: look.dash, ..Line::solid(colour(look), 2.0) })?;
    let radius = if sets.len() < 2 && median.len() > CROWDED { 3.6 } else { 5.2 };
    let mut last: Option<(f64, f64)> = None;
    for at in median.iter().filter_map(|point| panel.at(point.cost, point.latency)) {
        if sets.len() < 2 || last.is_none_or(|last| libm::hypot(last.0 - at.0, last.1 - at.1) > APART) {
            figure.marker(at, look, radius, 1.0, true)?;
            last = Some(at);
        }
    }
    Ok(())
}

/// What is drawn with `seeds` seeds, if that needs words.
pub fn explanation(seeds: usize) -> Option<String> {
    (seeds > 1).then(|| {
        format!("line: attained by half of the {seeds} seeds · band: between what 10 and 90 % of them attain")
    })
}

/// The border of what a front dominates, from the upper to the right end of the axes; points by rising cost.
pub fn staircase(front: &[Point], panel: &Panel) -> Vec<(f64, f64)> {
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
