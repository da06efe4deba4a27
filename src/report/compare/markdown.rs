//! `compare.md`: pastes into an issue or a review.

use std::fmt::Write;

use super::{HEADINGS, Page};
use crate::report::names::markdown as escape;
use crate::report::plots::ComparisonPlot;

pub fn text(page: &Page, plots: &[ComparisonPlot]) -> String {
    let mut out = String::new();
    write_text(page, plots, &mut out).expect("writing to a string does not fail");
    out
}

fn write_text(page: &Page, plots: &[ComparisonPlot], out: &mut String) -> std::fmt::Result {
    writeln!(out, "# Comparison of {}\n", escape(&page.title))?;
    if !page.warnings.is_empty() {
        writeln!(out, "**Before you believe it:**\n")?;
        page.warnings.iter().try_for_each(|warning| writeln!(out, "- {}", escape(warning)))?;
        writeln!(out)?;
    }
    for section in &page.sections {
        writeln!(
            out,
            "## Workload {}\n\nReference {}.\n",
            escape(&section.name),
            escape(&section.reference)
        )?;
        writeln!(out, "| {} | paired |\n|{}", HEADINGS.join(" | "), "---|".repeat(HEADINGS.len() + 1))?;
        for row in &section.rows {
            writeln!(out, "| {} | {} |", row.cells().map(escape).join(" | "), escape(&row.pairs))?;
        }
        writeln!(out)?;
        if let Some(plot) = plots.iter().find(|plot| plot.workload == section.workload) {
            writeln!(out, "![Fronts on {}](plots/{}.png)\n", escape(&section.name), plot.stem)?;
        }
    }
    writeln!(out, "## How to read it\n")?;
    page.about.iter().try_for_each(|sentence| writeln!(out, "{sentence}\n"))?;
    writeln!(out, "## What was compared\n")?;
    for sweep in &page.sweeps {
        writeln!(
            out,
            "- {}: {}, {}; {}",
            escape(&sweep.label),
            sweep.runs,
            escape(&sweep.version),
            escape(&sweep.command)
        )?;
        sweep.hardware.iter().try_for_each(|line| writeln!(out, "  - {}", escape(line)))?;
    }
    Ok(())
}
