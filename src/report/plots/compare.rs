//! Candidate and baseline on one workload, a panel a pair: every run faint, the front of each with the band
//! of its seeds. All panels have the same axes, and the same look for the baseline.

use anyhow::Result;

use super::attained::{draw_band, draw_line};
use super::axis::Axis;
use super::figure::{Anchor, FAINT_INK, Figure, INK, Line, Panel, TEXT, colour, draw};
use super::front::{SIZE, axes, draw_notes, draw_reference, legend_entry, legend_title};
use super::style::Style;
use crate::analysis::compare::{Comparison, Outcome};
use crate::analysis::front::Point;
use crate::report::names::counted;
use crate::report::palette::{Look, look, looks};

/// Panels of a figure.
const MAX_PANELS: usize = 6;
/// Long names shrink to this before they are cut.
const LEAST_TEXT: f64 = 10.0;
/// Left ends of the two columns of panels, width and height of a panel.
const COLUMNS: [f64; 2] = [84.0, 514.0];
const PANEL: (f64, f64) = (360.0, 210.0);

/// None when no contestant has a usable run on the workload.
pub fn plot(comparison: &Comparison, workload: usize, style: Style) -> Result<Option<String>> {
    let outcomes =
        comparison.outcomes.iter().filter(|outcome| outcome.workload == workload).collect::<Vec<_>>();
    let all = outcomes
        .iter()
        .flat_map(|outcome| pair(comparison, outcome))
        .flat_map(|(contestant, _)| sets(comparison, contestant, workload));
    let all = all.flatten().collect::<Vec<_>>();
    if all.is_empty() {
        return Ok(None);
    }
    let axes = axes(all, comparison.workloads[workload].reference, &comparison.objectives);
    let svg = match &outcomes[..] {
        [outcome] => one_pair(comparison, outcome, axes, style),
        outcomes => panels(comparison, outcomes, axes, style),
    };
    svg.map(Some)
}

/// A large panel with the legend beside it.
fn one_pair(
    comparison: &Comparison,
    outcome: &Outcome,
    (x, y): (Axis, Axis),
    style: Style,
) -> Result<String> {
    draw(SIZE, style, |figure| {
        title(figure, comparison, outcome)?;
        let layout = style.layout(SIZE.1, 410.0, 2);
        let panel = Panel::new(figure, layout.panel, x, y, true)?;
        draw_pair(figure, &panel, comparison, outcome)?;
        let mut below = legend_title(figure, &layout.legend, "Compared")?;
        for (contestant, look) in pair(comparison, outcome) {
            let detail = counted(sets(comparison, contestant, outcome.workload).len(), "seed");
            below = legend_entry(
                figure,
                &layout.legend,
                below,
                look,
                &comparison.contestants[contestant].label,
                &detail,
            )?;
        }
        draw_notes(figure, f64::from(SIZE.1), outcome.seeds, &notes(comparison, outcome))
    })
}

/// Small panels in two columns, each below the names of its pair.
fn panels(
    comparison: &Comparison,
    outcomes: &[&Outcome],
    (x, y): (Axis, Axis),
    style: Style,
) -> Result<String> {
    let shown = &outcomes[..outcomes.len().min(MAX_PANELS)];
    let names = 20.0 * style.text();
    let pitch = 2.0 * names + PANEL.1 + 62.0 * style.text();
    let size = (SIZE.0, (40.0 + pitch * shown.len().div_ceil(2) as f64 + 48.0) as i32);
    draw(size, style, |figure| {
        title(figure, comparison, shown[0])?;
        for (k, outcome) in shown.iter().enumerate() {
            let (left, mut top) = (COLUMNS[k % 2], 50.0 + pitch * (k / 2) as f64);
            for (contestant, look) in pair(comparison, outcome) {
                figure.line(
                    &[(left, top), (left + 28.0, top)],
                    Line { dash: look.dash, ..Line::solid(colour(look), 2.0) },
                )?;
                figure.marker((left + 14.0, top), look, 5.2, 1.0, true)?;
                let (name, width) = (&comparison.contestants[contestant].label, PANEL.0 - 36.0);
                let text = figure.size_for(name, TEXT, LEAST_TEXT, width)?;
                figure.text(
                    &figure.fit(name, text, width)?,
                    (left + 36.0, top - 1.0),
                    text,
                    INK,
                    Anchor::Left,
                )?;
                top += names;
            }
            let y = Axis { label: if k % 2 == 0 { y.label.clone() } else { String::new() }, ..y.clone() };
            let panel = Panel::new(figure, [left, top, left + PANEL.0, top + PANEL.1], x.clone(), y, true)?;
            draw_pair(figure, &panel, comparison, outcome)?;
        }
        let mut notes = notes(comparison, shown[0]);
        if outcomes.len() > shown.len() {
            notes.push(format!("{} more pairs in compare.csv", outcomes.len() - shown.len()));
        }
        let seeds = shown.iter().map(|outcome| outcome.seeds).max().unwrap_or(0);
        draw_notes(figure, f64::from(size.1), seeds, &notes)
    })
}

/// Baseline and candidate with their looks: those of their families in reports, unless both are of one family
/// or of all.
fn pair(comparison: &Comparison, outcome: &Outcome) -> [(usize, Look); 2] {
    let families: Vec<_> =
        comparison.families.iter().map(|family| (family.policy.clone(), family.groups.clone())).collect();
    let looks = looks(&families);
    let family = |contestant: usize| {
        let label = comparison.contestants[contestant].family.as_ref()?;
        comparison.families.iter().position(|family| family.label == *label)
    };
    let both = match (family(outcome.baseline), family(outcome.candidate)) {
        (Some(baseline), Some(candidate)) if baseline != candidate => [looks[baseline], looks[candidate]],
        _ => [look(0), look(1)],
    };
    [(outcome.baseline, both[0]), (outcome.candidate, both[1])]
}

/// The front of each seed.
fn sets(comparison: &Comparison, contestant: usize, workload: usize) -> Vec<Vec<Point>> {
    comparison.fronts(contestant, workload).into_values().collect()
}

fn title(figure: &Figure, comparison: &Comparison, outcome: &Outcome) -> Result<()> {
    let title = figure.fit(&comparison.workloads[outcome.workload].name, 16.0, 500.0)?;
    figure.text(&title, (COLUMNS[0], 20.0), 16.0, INK, Anchor::Left)
}

fn notes(comparison: &Comparison, outcome: &Outcome) -> Vec<String> {
    let mut notes = vec!["faint: all runs".to_owned()];
    notes.extend(
        comparison.workloads[outcome.workload].reference.map(|_| "shaded: hypervolume box".to_owned()),
    );
    notes
}

fn draw_pair(figure: &Figure, panel: &Panel, comparison: &Comparison, outcome: &Outcome) -> Result<()> {
    let workload = &comparison.workloads[outcome.workload];
    if let Some(reference) = workload.reference {
        panel.fill_to(reference.cost, reference.latency, FAINT_INK, 0.09)?;
    }
    let pair = pair(comparison, outcome)
        .map(|(contestant, look)| (contestant, look, sets(comparison, contestant, outcome.workload)));
    for (_, look, sets) in &pair {
        draw_band(panel, *look, sets)?;
    }
    for (contestant, look, _) in &pair {
        draw_runs(figure, panel, comparison, &workload.name, *contestant, *look)?;
    }
    for (_, look, sets) in &pair {
        draw_line(figure, panel, *look, sets)?;
    }
    if let Some(reference) = workload.reference {
        draw_reference(figure, panel, reference)?;
    }
    panel.finish()
}

fn draw_runs(
    figure: &Figure,
    panel: &Panel,
    comparison: &Comparison,
    workload: &str,
    contestant: usize,
    look: Look,
) -> Result<()> {
    let mut drawn = std::collections::BTreeSet::new();
    let cells = comparison.cells[contestant].iter().filter(|(key, _)| key.0 == workload);
    for point in cells.flat_map(|(_, cell)| &cell.points) {
        // Runs that would cover each other are drawn once: files stay small.
        if let Some(at) = panel.at(point.cost, point.latency)
            && drawn.insert((at.0.round() as i32, at.1.round() as i32))
        {
            figure.marker(at, look, 2.4, 0.3, false)?;
        }
    }
    Ok(())
}
