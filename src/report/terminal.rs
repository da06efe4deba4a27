//! What the terminal shows when a report is done.

use std::fmt;
use std::path::{Path, PathBuf};

use super::names::{counted, grouped, percent, quantity};
use super::study::Study;
use crate::analysis::scores::Score;
use crate::analysis::statistics::Estimate;

/// Lines of a terminal before the rest is left to the files.
const MAX_LINES: usize = 24;

/// A short account of a report: families by hypervolume, their best compromises, failures, where to look next.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportSummary {
    pub name: String,
    pub directory: PathBuf,
    pub runs: usize,
    pub failed: usize,
    /// How long the runs took, on how many threads.
    pub time: String,
    /// By workload, best family first.
    pub families: Vec<FamilySummary>,
    pub reference_given: bool,
    /// A sentence for each workload with an edge of the possible.
    pub edges: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FamilySummary {
    pub workload: String,
    pub family: String,
    pub hv_exact: Option<Estimate>,
    pub failed: usize,
    /// Share of the oracle's hypervolume and extra cost at equal latency; empty without an oracle.
    pub regret: [String; 2],
    /// Cost, latency and settings of the front's best compromise (lowest seed), with units.
    pub best: Option<(String, String, String)>,
}

pub fn summary(study: &Study, directory: &Path) -> ReportSummary {
    let (latency, cost) = study.objectives();
    let families = study.analysis.scores.iter().map(|score| FamilySummary {
        workload: study.analysis.workloads[score.workload].name.clone(),
        family: study.analysis.label(score.family).to_owned(),
        hv_exact: score.hv_exact,
        failed: score.failed,
        regret: regret(study, score),
        best: study.first_front(score).map(|(_, highlights)| {
            let point = study.analysis.point(highlights.balanced);
            (quantity(point.cost, cost), quantity(point.latency, latency), study.describe(highlights.balanced))
        }),
    });
    ReportSummary {
        name: study.manifest.name.clone(),
        directory: directory.to_owned(),
        runs: study.analysis.runs.len(),
        failed: study.analysis.runs.iter().filter(|run| !run.ok).count(),
        time: study.time(),
        families: families.collect(),
        reference_given: study.analysis.reference_given,
        edges: (0..study.analysis.workloads.len()).filter_map(|workload| edge_note(study, workload)).collect(),
    }
}

/// A family's share of the oracle's hypervolume, and its extra cost at equal latency.
pub fn regret(study: &Study, score: &Score) -> [String; 2] {
    let Some(regret) = study.analysis.regret(score) else { return [String::new(), String::new()] };
    [percent(regret.share.mean), regret.extra_cost.map_or("-".to_owned(), |extra| percent(extra.mean))]
}

/// What the edge of the possible on a workload is, and how sure.
pub fn edge_note(study: &Study, workload: usize) -> Option<String> {
    let (edge, account) = (study.analysis.edge_quality(workload)?, study.oracle.as_ref()?);
    let gap = edge.over_fluid_bound.map_or("no bound from below is known for these objectives".to_owned(), |gap| {
        format!("its points cost {} more than the fluid bound, below which no schedule can be", percent(gap.mean))
    });
    let runs = grouped(account.settings.budget.into());
    let name = &study.analysis.workloads[workload].name;
    Some(format!(
        "Edge of the possible on {name}: hypervolume {}, searched with foresight in {runs} runs; {gap}.",
        plus_minus(Some(edge.hv_exact))
    ))
}

/// `0.164 ± 0.012`, the interval being symmetric; `-` when unknown.
pub fn plus_minus(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(Estimate { mean, interval: None, .. }) => format!("{mean:.4}"),
        Some(Estimate { mean, interval: Some((_, high)), .. }) => format!("{mean:.4} ± {:.4}", high - mean),
    }
}

/// Rows as indented lines with aligned columns.
pub fn aligned<const N: usize>(table: &[[String; N]]) -> String {
    let widths: [usize; N] = std::array::from_fn(|k| table.iter().map(|row| row[k].chars().count()).max().unwrap_or(0));
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    table.iter().map(line).collect()
}

impl fmt::Display for ReportSummary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}: {}, {} failed, {}", self.name, counted(self.runs, "run"), self.failed, self.time)?;
        let regret = if self.edges.is_empty() { ["", ""] } else { ["of the edge", "extra cost"] };
        let head = ["workload", "family", "hypervolume", regret[0], regret[1], "best compromise", "", "settings", "failed"];
        let mut table = vec![head.map(str::to_owned)];
        for family in self.families.iter().take(MAX_LINES) {
            let (cost, latency, settings) = family.best.clone().unwrap_or_else(|| ("no usable run".into(), String::new(), String::new()));
            let failed = if family.failed == 0 { String::new() } else { family.failed.to_string() };
            let ([share, extra], hv) = (family.regret.clone(), plus_minus(family.hv_exact));
            table.push([family.workload.clone(), family.family.clone(), hv, share, extra, cost, latency, settings, failed]);
        }
        write!(f, "{}", aligned(&table))?;
        for edge in &self.edges {
            writeln!(f, "  {edge}")?;
        }
        if self.families.len() > MAX_LINES {
            writeln!(f, "  and {} more in summary.md", self.families.len() - MAX_LINES)?;
        }
        if !self.reference_given {
            writeln!(
                f,
                "  No reference point in the grid: each workload's worst values are taken, so scores compare within this sweep only."
            )?;
        }
        write!(
            f,
            "Look at {} (interactive), {}",
            self.directory.join("report.html").display(),
            self.directory.join("summary.md").display()
        )?;
        if self.failed > 0 {
            write!(f, ", and column `error` of {}", self.directory.join("runs.parquet").display())?;
        }
        Ok(())
    }
}
