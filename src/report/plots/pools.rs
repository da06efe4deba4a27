//! Replicas over time by pool: of the verdict's setting and the best compromise of each family, one panel a
//! run.

use anyhow::Result;

use super::axis::{Axis, time_unit};
use super::curves::{family_name, max_panels, stacked, steps, title};
use super::figure::{Anchor, Drawn, FAINT_INK, INK, Line, Panel, SMALL_TEXT, colour, draw_noted};
use super::style::Style;
use crate::analysis::series::Points;
use crate::report::names::{quantity, significant};
use crate::report::palette::look;
use crate::report::pools::{Told, of};
use crate::report::study::Study;
use crate::sweep::run::series::pool_curve;

/// Lines of text beside a panel have this distance.
const PITCH: f64 = 18.0;
/// Pools drawn.
const MAX_POOLS: usize = 7;
/// Dashes of pools, in their order.
const DASHES: [Option<(f64, f64)>; 4] = [None, Some((6.0, 3.0)), Some((1.8, 2.4)), Some((9.0, 3.0))];

/// None where no run has pools and curves.
pub fn plot(study: &Study, workload: usize, style: Style) -> Result<Option<Drawn>> {
    let runs: Vec<(Told, Vec<&Points>)> = of(study, workload)
        .into_iter()
        .filter_map(|told| {
            let pools = told.pools.iter().take(MAX_POOLS);
            let curves =
                pools.map(|pool| study.curve(told.row, &pool_curve(&pool.pool))).collect::<Option<_>>()?;
            Some((told, curves))
        })
        .take(max_panels(style))
        .collect();
    let curves = || runs.iter().flat_map(|(_, curves)| curves.iter());
    let end_s = curves().filter_map(|points| points.last()).map(|point| point.0).fold(0.0, f64::max);
    let most = curves().flat_map(|points| points.iter()).map(|point| point.1).fold(1.0, f64::max);
    let Some(most_pools) = runs.iter().map(|(told, _)| told.pools.len().min(MAX_POOLS)).max() else {
        return Ok(None);
    };
    let (divisor, unit) = time_unit(end_s);
    let height = (48.0 + PITCH * most_pools as f64).max(130.0) * style.text();
    let (height, stack) = stacked(style, runs.len(), height, PITCH, most_pools + 1);
    let drawn = draw_noted((style.width() as i32, height), style, |figure| {
        title(figure, study, workload, "replicas by pool over time")?;
        for (number, ((told, curves), place)) in runs.iter().zip(stack).enumerate() {
            let last = number + 1 == runs.len();
            let x = Axis::linear(format!("Time ({unit})"), 0.0, end_s / divisor);
            let panel = Panel::new(figure, place.panel, x, Axis::linear("Replicas", 0.0, most * 1.08), last)?;
            let (left, y, width) = place.name;
            family_name(figure, study, study.analysis.runs[told.row].family, left, y, width)?;
            let what = match study.describe(told.row) {
                settings if settings.is_empty() => told.what.to_owned(),
                settings => format!("{}: {settings}", told.what),
            };
            let below = y - 10.0 + 28.0 * style.text();
            figure.text(&figure.fit(&what, 11.5, width)?, (left, below), 11.5, FAINT_INK, Anchor::Left)?;
            for (number, (pool, curve)) in told.pools.iter().zip(curves).enumerate() {
                let line =
                    Line { dash: DASHES[number % DASHES.len()], ..Line::solid(colour(look(number)), 1.9) };
                panel.line(&steps(curve, divisor), line)?;
                let y = below + PITCH * style.text() * (number as f64 + 1.0);
                figure.line(&[(left, y), (left + 28.0, y)], line)?;
                let [replicas, cost] =
                    ["mean_replicas", "total_cost_usd"].map(|name| pool.figure(name).unwrap_or_default());
                let noun = if replicas == 1.0 { "replica" } else { "replicas" };
                let text = format!(
                    "{}: {} {noun}, {}",
                    pool.pool,
                    significant(replicas, 3),
                    quantity(cost, "total_cost_usd")
                );
                figure.text(
                    &figure.fit(&text, SMALL_TEXT, place.said.2)?,
                    (left + 36.0, y),
                    SMALL_TEXT,
                    INK,
                    Anchor::Left,
                )?;
            }
            panel.finish()?;
        }
        Ok(())
    })?;
    Ok(Some(drawn))
}
