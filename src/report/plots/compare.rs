//! Contestants on one workload: every run faint, the front of a single seed, or what half of the seeds attain between 10 and 90 %.

use anyhow::Result;

use super::SIZE;
use super::figure::{Anchor, FAINT_INK, Figure, INK, Line, Panel, SMALL_TEXT, colour, draw};
use super::front::{axes, draw_reference, legend_entry, legend_title, staircase};
use super::style::Style;
use crate::analysis::compare::Comparison;
use crate::analysis::front::Point;
use crate::analysis::indicators::attainment;
use crate::report::names::counted;
use crate::report::palette::look;

/// None when no contestant has a usable run on the workload.
pub fn plot(comparison: &Comparison, workload: usize, style: Style) -> Result<Option<String>> {
    let outcomes = comparison.outcomes.iter().filter(|outcome| outcome.workload == workload);
    let mut contestants = outcomes.flat_map(|outcome| [outcome.baseline, outcome.candidate]).collect::<Vec<_>>();
    contestants.sort_unstable();
    contestants.dedup();
    let sets = |contestant: usize| comparison.fronts(contestant, workload).into_values().collect::<Vec<_>>();
    let all = contestants.iter().flat_map(|&contestant| sets(contestant)).flatten().collect::<Vec<_>>();
    if all.is_empty() {
        return Ok(None);
    }
    let reference = comparison.workloads[workload].reference;
    let (x, y) = axes(all, reference, &comparison.objectives);
    let shown = &contestants[..contestants.len().min(style.max_families())];
    let svg = draw(SIZE, style, |figure| {
        let panel = Panel::new(figure, [84.0, 40.0, 590.0, 410.0 - style.lift()], x.clone(), y.clone(), true)?;
        if let Some(reference) = reference {
            panel.fill_to(reference.cost, reference.latency, FAINT_INK, 0.09)?;
        }
        draw_runs(figure, &panel, comparison, workload, shown)?;
        let mut several = false;
        for &contestant in shown.iter().rev() {
            let sets = sets(contestant);
            several |= sets.len() > 1;
            draw_attained(figure, &panel, contestant, &sets)?;
        }
        if let Some(reference) = reference {
            draw_reference(figure, &panel, reference)?;
        }
        panel.finish()?;
        let title = figure.fit(&comparison.workloads[workload].name, 16.0, 500.0)?;
        figure.text(&title, (84.0, 20.0), 16.0, INK, Anchor::Left)?;
        let mut below = legend_title(figure, "Compared")?;
        for &contestant in shown {
            let detail = counted(sets(contestant).len(), "seed");
            below = legend_entry(figure, below, look(contestant), &comparison.contestants[contestant].label, &detail)?;
        }
        if contestants.len() > shown.len() {
            let text = format!("and {} more, in compare.csv", contestants.len() - shown.len());
            figure.text(&text, (612.0, below), SMALL_TEXT, FAINT_INK, Anchor::Left)?;
        }
        let lines =
            if several { "bold: attained by half of the seeds · thin: by 10 and 90 % · faint: all runs" } else { "faint: all runs" };
        figure.text(lines, (84.0, 466.0), SMALL_TEXT, FAINT_INK, Anchor::Left)
    })?;
    Ok(Some(svg))
}

fn draw_runs(figure: &Figure, panel: &Panel, comparison: &Comparison, workload: usize, shown: &[usize]) -> Result<()> {
    let name = &comparison.workloads[workload].name;
    let mut drawn = std::collections::BTreeSet::new();
    for &contestant in shown {
        let cells = comparison.cells[contestant].iter().filter(|(key, _)| key.0 == *name);
        for point in cells.flat_map(|(_, cell)| &cell.points) {
            // Runs that would cover each other are drawn once: files stay small.
            if let Some(at) = panel.at(point.cost, point.latency)
                && drawn.insert((contestant, at.0.round() as i32, at.1.round() as i32))
            {
                figure.marker(at, look(contestant), 2.4, 0.25, false)?;
            }
        }
    }
    Ok(())
}

fn draw_attained(figure: &Figure, panel: &Panel, contestant: usize, sets: &[Vec<Point>]) -> Result<()> {
    let look = look(contestant);
    let line = Line::solid(colour(look), 2.0);
    if sets.len() > 1 {
        for percent in [10, 90] {
            panel.line(&staircase(&attainment(sets, percent), panel), Line { width: 0.9, opacity: 0.7, ..line })?;
        }
    }
    let median = attainment(sets, 50);
    panel.line(&staircase(&median, panel), line)?;
    for at in median.iter().filter_map(|point| panel.at(point.cost, point.latency)) {
        figure.marker(at, look, if median.len() > 12 { 3.6 } else { 5.2 }, 1.0, true)?;
    }
    Ok(())
}
