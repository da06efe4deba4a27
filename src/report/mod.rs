//! Plots, HTML, markdown: what a sweep's stored tables look like to a reader. Runs nothing, reads no clock:
//! equal inputs in a results directory give equal outputs.

mod compare;
mod html;
mod judgement;
mod markdown;
mod palette;
mod plots;
mod pools;
mod remarks;
mod study;
mod terminal;
mod thin;
mod verdict;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};

use crate::analysis::outputs::{attainment_columns, contribution_columns, fronts_frame, hypervolume_columns};
use crate::analysis::table::{write_csv, write_parquet};
use crate::analysis::{TableFormat, write_table};
use crate::files::write_atomically;
use crate::sweep::tables::names;
pub use compare::{ComparisonSummary, build_comparison};
pub use plots::{
    ColumnWidth, Series, Style, draw_check, draw_fleet, draw_scaling, draw_validation, draw_workload,
};
use study::Study;
pub use terminal::ReportSummary;

/// Where figures for print lie within a results directory.
pub const FIGURES: &str = "figures";

/// Rebuilds everything derived in a results directory: `fronts.parquet`, `fronts.csv`, `hypervolume.csv`,
/// `contributions.csv`, `attainment.csv`, `constraints.csv`, `verdict.json`, `plots/`, `summary.md` and
/// `report.html`, each written whole or not at all.
///
/// Reads `manifest.json`, `runs.parquet` and, when there, `series.parquet` (without it there are no curves of
/// single runs). Fails when one of them cannot be read, or names an objective that the runs do not have.
pub fn build(directory: &Path, style: Style) -> Result<ReportSummary> {
    let study = judged(directory)?;
    let fronts = fronts_frame(&study.runs, &study.analysis)?;
    write_parquet(&fronts, &directory.join("fronts.parquet"))?;
    write_csv(&fronts, &directory.join("fronts.csv"))?;
    let hypervolume = hypervolume_columns(&study.analysis, &study.manifest.objectives.group_by);
    write_table(hypervolume, &directory.join("hypervolume.csv"), TableFormat::Csv)?;
    let contributions =
        contribution_columns(&study.analysis, &study.contributions, &study.manifest.objectives.group_by);
    write_table(contributions, &directory.join("contributions.csv"), TableFormat::Csv)?;
    let attainment = attainment_columns(&study.analysis, &study.manifest.objectives);
    write_table(attainment, &directory.join("attainment.csv"), TableFormat::Csv)?;
    verdict::write_constraints(&study, &directory.join("constraints.csv"))?;
    let plots = plots::draw_all(&study, &directory.join("plots"), style).context("cannot draw the plots")?;
    write_text(&directory.join("verdict.json"), &format!("{:#}\n", verdict::to_json(&study)))?;
    write_text(&directory.join("summary.md"), &markdown::summary(&study, &plots))?;
    write_text(&directory.join("report.html"), &html::page(&study)?)?;
    Ok(terminal::summary(&study, directory))
}

/// Draws the figures of a results directory for a column of print into its `figures/`, and returns how many
/// there are. See [`build`].
pub fn build_figures(directory: &Path, width: ColumnWidth) -> Result<usize> {
    let mut study = judged(directory)?;
    plots::draw_for_print(&mut study, &directory.join(FIGURES), width)
        .context("cannot draw the figures for print")
}

/// A results directory with its verdicts.
fn judged(directory: &Path) -> Result<Study> {
    let mut study = Study::load(directory)?;
    study.judged = verdict::judge(&study)?;
    study.joint = verdict::judge_together(&study)?;
    Ok(study)
}

fn write_text(path: &Path, text: &str) -> Result<()> {
    write_atomically(path, |out| Ok(out.write_all(text.as_bytes())?))
}
