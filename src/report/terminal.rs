//! What the terminal shows when a report is done.

use std::fmt;
use std::path::{Path, PathBuf};

use super::names::{counted, grouped, percent, quantity};
use super::pools;
use super::remarks::{self, beyond};
use super::study::Study;
use super::verdict;
use crate::analysis::informed::{SEEDS_OF_A_FIGURE, SEEDS_OF_AN_INTERVAL};
use crate::analysis::scores::Score;
use crate::analysis::statistics::Estimate;
use crate::sweep::answers::informed::EdgeAccount;
use crate::sweep::answers::informed::halves::HalfAccount;

/// Lines of a terminal before the rest is left to the files.
const MAX_LINES: usize = 24;

/// A short account of a report: families by hypervolume, their best compromises, failures, where to look
/// next.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportSummary {
    pub name: String,
    pub directory: PathBuf,
    pub runs: usize,
    pub failed: usize,
    /// How long the runs took, on how many threads.
    pub time: String,
    /// The verdict on each workload, or how limits are given.
    pub verdict: Vec<String>,
    /// By workload, best family first.
    pub families: Vec<FamilySummary>,
    /// What pools did in the runs that are looked at first: lines of a table, its head first; a run's name
    /// before its pools.
    pub pools: Vec<String>,
    /// Where scores come from, if they compare within the sweep only; what is to be said of runs.
    pub remarks: Vec<String>,
    /// A sentence for each workload with an edge of the possible.
    pub edges: Vec<String>,
    /// A line for each family: the program it stands for, at which version.
    pub policies: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct FamilySummary {
    pub workload: String,
    pub family: String,
    pub hv_exact: Option<Estimate>,
    pub failed: usize,
    /// Share of the oracle's hypervolume and extra cost at equal latency; empty without an oracle.
    pub regret: [String; 2],
    /// Share of the hypervolume reached without foresight; empty without such an edge.
    pub informed: String,
    /// Cost, latency and settings of the front's best compromise (lowest seed), with units.
    pub best: Option<(String, String, String)>,
    /// How far the front lies outside the reference box, if it does.
    pub outside: Option<String>,
    /// Attainment of the best compromise, where limits are given.
    pub attainment: Option<f64>,
}

pub fn summary(study: &Study, directory: &Path) -> ReportSummary {
    let (latency, cost) = study.objectives();
    let families = study.analysis.scores.iter().map(|score| FamilySummary {
        workload: study.analysis.workloads[score.workload].name.clone(),
        family: study.analysis.label(score.family).to_owned(),
        hv_exact: score.hv_exact,
        failed: score.failed,
        regret: regret(study, score),
        informed: informed_share(study, score),
        best: study.first_front(score).map(|(_, highlights)| {
            let point = study.analysis.point(highlights.balanced);
            (
                quantity(point.cost, cost),
                quantity(point.latency, latency),
                study.describe(highlights.balanced),
            )
        }),
        outside: score.outside.as_ref().map(beyond),
        attainment: study
            .first_front(score)
            .and_then(|(_, highlights)| remarks::attainment(study, highlights.balanced)),
    });
    ReportSummary {
        name: study.manifest.name.clone(),
        directory: directory.to_owned(),
        runs: study.analysis.runs.len(),
        failed: study.analysis.runs.iter().filter(|run| !run.ok).count(),
        time: study.time(),
        verdict: verdict_lines(study),
        families: families.collect(),
        pools: pool_lines(study),
        remarks: all_remarks(study),
        edges: (0..study.analysis.workloads.len())
            .flat_map(|workload| [edge_note(study, workload), informed_note(study, workload)])
            .flatten()
            .collect(),
        policies: study.manifest.policies.iter().map(ToString::to_string).collect(),
    }
}

/// Runs of each workload whose pools the terminal tells.
const MAX_RUNS_WITH_POOLS: usize = 2;

fn pool_lines(study: &Study) -> Vec<String> {
    let mut lines = Vec::new();
    for workload in 0..study.analysis.workloads.len() {
        let mut told = pools::of(study, workload);
        told.truncate(MAX_RUNS_WITH_POOLS);
        let (heads, runs) = pools::table(&told);
        for (told, rows) in told.iter().zip(runs) {
            let table: Vec<Vec<String>> =
                std::iter::once(heads.iter().map(|head| head.to_string()).collect()).chain(rows).collect();
            let on = if study.analysis.workloads.len() > 1 {
                format!(" on {}", study.analysis.workloads[workload].name)
            } else {
                String::new()
            };
            lines.push(format!("Pools of {}{on} ({})", told.name(study), told.what));
            lines.extend(aligned(&table).lines().map(str::to_owned));
        }
    }
    lines
}

/// The verdicts, a sentence a line after the first.
fn verdict_lines(study: &Study) -> Vec<String> {
    let mut lines = Vec::new();
    let headline = verdict::headline(study);
    let together = usize::from(study.joint.is_some());
    for (number, first) in headline.into_iter().enumerate() {
        lines.push(first.replace('`', ""));
        if let Some(judged) = number.checked_sub(together).and_then(|number| study.judged.get(number)) {
            lines.extend(
                judged.sentences[1..]
                    .iter()
                    .chain(&judged.robustness)
                    .map(|sentence| format!("  {}", sentence.replace('`', ""))),
            );
            lines.extend(judged.snippet.as_ref().map(|snippet| format!("  Its settings: {snippet}")));
        }
    }
    lines
}

/// The remarks on all workloads, with their names where there are several, and on reference points that were
/// not given.
fn all_remarks(study: &Study) -> Vec<String> {
    let analysis = &study.analysis;
    let (latency, cost) = study.objectives();
    let several = analysis.workloads.len() > 1;
    let mut all = Vec::new();
    for (number, workload) in analysis.workloads.iter().enumerate() {
        let mut remarks = remarks::of(study, number);
        if workload.nothing_to_rank {
            remarks.push("One run: there is nothing to rank, so there is no hypervolume.".into());
        }
        if let Some(reference) = workload.reference.filter(|_| !analysis.reference_given) {
            let (cost, latency) = (quantity(reference.cost, cost), quantity(reference.latency, latency));
            remarks.push(format!("Reference point: {cost}, {latency}; {}.", study.reference_origin()));
        }
        let name = if several { format!("{}: ", workload.name) } else { String::new() };
        all.extend(remarks.into_iter().map(|remark| format!("{name}{remark}")));
    }
    all
}

/// A family's share of the oracle's hypervolume, and its extra cost at equal latency.
pub fn regret(study: &Study, score: &Score) -> [String; 2] {
    let Some(regret) = study.analysis.regret(score) else { return [String::new(), String::new()] };
    [percent(regret.share.mean), regret.extra_cost.map_or("-".to_owned(), |extra| percent(extra.mean))]
}

/// What the edge of the possible on a workload is, and how sure.
pub fn edge_note(study: &Study, workload: usize) -> Option<String> {
    let (edge, account) = (study.analysis.edge_quality(workload)?, study.oracle.as_ref()?);
    let gap =
        edge.over_fluid_bound.map_or("no bound from below is known for these objectives".to_owned(), |gap| {
            format!(
                "its points cost {} more than the fluid bound, below which no schedule can be",
                percent(gap.mean)
            )
        });
    let runs = grouped(account.settings.budget.into());
    let name = &study.analysis.workloads[workload].name;
    Some(format!(
        "Edge of the possible on {name}: hypervolume {}, searched with foresight in {runs} runs; {gap}.",
        plus_minus(Some(edge.hv_exact))
    ))
}

/// A family's share of the edge without foresight.
pub fn informed_share(study: &Study, score: &Score) -> String {
    study.analysis.informed_share(score).map_or(String::new(), |share| percent(share.reached.mean))
}

/// What the edge without foresight on a workload is: what is certified, and what a search.
pub fn informed_note(study: &Study, workload: usize) -> Option<String> {
    let name = &study.analysis.workloads[workload].name;
    let account = study.informed.as_ref()?;
    if let Some(edge) = study.analysis.informed.by_halves(name) {
        return Some(halves_note(name, edge, account.settings.fitting_draws));
    }
    let Some(edge) = study.analysis.informed_quality(workload) else {
        let refused = study.analysis.informed.refusals().find(|edge| edge.workload == *name);
        return Some(match refused {
            Some(edge) => {
                format!("No informed edge on {name}: {}.", edge.class.trim_end_matches(": no informed edge"))
            }
            None if study.analysis.informed.is_by_halves_on_several(name) => {
                format!(
                    "Informed edge on {name}: of each of several clusters, and of each half of the trace, in informed.json."
                )
            }
            None => format!(
                "Informed edge on {name}: no figure, of fewer than {SEEDS_OF_A_FIGURE} seeds or without a reference point."
            ),
        });
    };
    let few = if edge.reached.interval.is_none() {
        format!(" (fewer than {SEEDS_OF_AN_INTERVAL}: no interval)")
    } else {
        String::new()
    };
    let bound = match edge.bound {
        Some(bound) => format!("no policy can do better than {} in expectation", plus_minus(Some(bound))),
        None => "no bound is known but the edge of the possible".into(),
    };
    let (tried, kept) = (grouped(edge.account.policies_tried), grouped(edge.account.policies_kept));
    Some(format!(
        "Informed edge on {name}: hypervolume {} over {} seeds{few}, reached without foresight by {kept} of {tried} policies that know the \
         law, found by a search on {} other draws; {bound}.",
        plus_minus(Some(edge.reached)),
        edge.reached.count,
        account.settings.fitting_draws,
    ))
}

/// The edge of a trace: what both halves reached by what was learned from the other, beside families on
/// halves alone.
fn halves_note(name: &str, edge: &EdgeAccount, fitting_draws: u32) -> String {
    let each = |of: &dyn Fn(&HalfAccount) -> f64| -> String {
        let values: Vec<f64> = edge.halves.iter().map(of).collect();
        let mean = values.iter().sum::<f64>() / values.len() as f64;
        format!(
            "{} (mean {mean:.4})",
            values.iter().map(|value| format!("{value:.4}")).collect::<Vec<_>>().join(" and ")
        )
    };
    let families = edge.halves[0].families.iter().map(|family| {
        let of = |half: &HalfAccount| {
            half.families
                .iter()
                .find(|other| other.family == family.family)
                .map_or(0.0, |own| own.hypervolume)
        };
        format!("{} {}", family.family, each(&of))
    });
    let (tried, kept) = (grouped(edge.policies_tried), grouped(edge.policies_kept));
    let episodes: Vec<String> = edge.halves.iter().map(|half| half.episodes.to_string()).collect();
    format!(
        "Informed edge on {name}: hypervolume {} on the first and the second half, each in a box of half the cost, law estimated from the \
         other half: {kept} of {tried} policies, found by a search on {fitting_draws} traces made of its episodes ({}). No interval, no bound. \
         Families on halves alone: {}.",
        each(&|half| half.hypervolume),
        episodes.join(" and "),
        families.collect::<Vec<_>>().join("; "),
    )
}

/// `0.164 ± 0.012`, the interval being symmetric; `-` when unknown.
pub fn plus_minus(estimate: Option<Estimate>) -> String {
    match estimate {
        None => "-".to_owned(),
        Some(Estimate { mean, interval: None, .. }) => format!("{mean:.4}"),
        Some(Estimate { mean, interval: Some((_, high)), .. }) => format!("{mean:.4} ± {:.4}", high - mean),
    }
}

/// The same of a share: an interval that leaves 0 to 1, as one of two seeds may, is cut there and shown by
/// its ends.
pub fn share_plus_minus(estimate: Option<Estimate>) -> String {
    match estimate {
        Some(Estimate { mean, interval: Some((low, high)), .. }) if low < 0.0 || high > 1.0 => {
            format!("{mean:.4} ({:.4} to {:.4})", low.max(0.0), high.min(1.0))
        }
        estimate => plus_minus(estimate),
    }
}

/// Rows as indented lines with aligned columns.
pub fn aligned(table: &[impl AsRef<[String]>]) -> String {
    let columns = table.iter().map(|row| row.as_ref().len()).max().unwrap_or(0);
    let width = |k: usize| {
        table.iter().filter_map(|row| row.as_ref().get(k)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let line = |row: &[String]| {
        let cells =
            row.iter().zip(&widths).map(|(cell, &width)| format!("{cell:<width$}")).collect::<Vec<_>>();
        format!("  {}\n", cells.join("  ").trim_end())
    };
    table.iter().map(|row| line(row.as_ref())).collect()
}

impl fmt::Display for ReportSummary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for (number, line) in self.verdict.iter().enumerate() {
            writeln!(f, "{}{line}", if number == 0 { "Verdict: " } else { "" })?;
        }
        writeln!(f, "{}: {}, {} failed, {}", self.name, counted(self.runs, "run"), self.failed, self.time)?;
        let has =
            |told: fn(&FamilySummary) -> &str| self.families.iter().any(|family| !told(family).is_empty());
        let regret = if has(|family| &family.regret[0]) { ["of the edge", "extra cost"] } else { ["", ""] };
        let informed = if has(|family| &family.informed) { "of the informed" } else { "" };
        let attained =
            if self.families.iter().any(|family| family.attainment.is_some()) { "attained" } else { "" };
        let head = [
            "workload",
            "family",
            "hypervolume",
            informed,
            regret[0],
            regret[1],
            "best compromise",
            "",
            attained,
            "settings",
            "failed",
        ];
        let mut table = vec![head.map(str::to_owned)];
        for family in self.families.iter().take(MAX_LINES) {
            let (cost, latency, settings) = match (&family.outside, &family.best) {
                (Some(outside), _) => (format!("none, {outside}"), String::new(), String::new()),
                (None, Some(best)) => best.clone(),
                (None, None) => ("no usable run".into(), String::new(), String::new()),
            };
            let attained =
                family.attainment.filter(|_| family.outside.is_none()).map_or(String::new(), percent);
            let failed = if family.failed == 0 { String::new() } else { family.failed.to_string() };
            let hv =
                if family.outside.is_some() { "outside".into() } else { share_plus_minus(family.hv_exact) };
            let [share, extra] = family.regret.clone();
            table.push([
                family.workload.clone(),
                family.family.clone(),
                hv,
                family.informed.clone(),
                share,
                extra,
                cost,
                latency,
                attained,
                settings,
                failed,
            ]);
        }
        write!(f, "{}", aligned(&table))?;
        for edge in &self.edges {
            writeln!(f, "  {edge}")?;
        }
        if self.families.len() > MAX_LINES {
            writeln!(f, "  and {} more in summary.md", self.families.len() - MAX_LINES)?;
        }
        for line in self.pools.iter().take(MAX_LINES) {
            writeln!(f, "{line}")?;
        }
        if !self.policies.is_empty() {
            writeln!(f, "Policies")?;
        }
        for policy in self.policies.iter().take(MAX_LINES) {
            writeln!(f, "  {policy}")?;
        }
        if self.policies.len() > MAX_LINES {
            writeln!(f, "  and {} more in summary.md", self.policies.len() - MAX_LINES)?;
        }
        for remark in self.remarks.iter().take(MAX_LINES) {
            writeln!(f, "  {remark}")?;
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
