//! Contestants on one workload: every run faint, the front of each with the band of its seeds.

use anyhow::Result;

use super::attained;
use super::figure::{Anchor, FAINT_INK, Figure, INK, Panel, SMALL_TEXT, draw};
use super::front::{SIZE, axes, draw_notes, draw_reference, legend_entry, legend_title};
use super::style::Style;
use crate::analysis::compare::Comparison;
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
        let mut seeds = 0;
        for &contestant in shown.iter().rev() {
            let sets = sets(contestant);
            seeds = seeds.max(sets.len());
            attained::draw(figure, &panel, look(contestant), &sets)?;
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
        let box_note = if reference.is_some() { "faint: all runs · shaded: hypervolume box" } else { "faint: all runs" };
        draw_notes(figure, seeds, &[box_note.to_owned()])
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
