//! A comparison as people read it: terminal, `compare.md`, `compare.html`, `compare.csv` and plots of the
//! fronts.

mod csv;
mod html;
mod markdown;

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use super::names::{counted, quantity, significant};
use super::plots::{self, Style};
use super::terminal::{aligned, plus_minus};
use crate::analysis::TableFormat;
use crate::analysis::compare::{Change, Choice, Comparison, Outcome, Sweep, Verdict, compare};
use crate::analysis::{read_runs, write_table};
use crate::files::make_directory;
use crate::sweep::store::{MANIFEST, RUNS, read_manifest};

/// Compares the sweeps stored in `directories` and writes `compare.md`, `compare.html`, `compare.csv` and
/// `plots/compare_*` into `out`.
///
/// Fails when a directory holds no sweep, a chosen name does not exist, or nothing can be paired.
pub fn build_comparison(
    directories: &[PathBuf],
    choice: &Choice,
    out: &Path,
    style: Style,
) -> Result<ComparisonSummary> {
    let sweeps = directories.iter().map(|directory| load(directory)).collect::<Result<Vec<_>>>()?;
    let comparison = compare(&sweeps, choice)?;
    make_directory(out).with_context(|| format!("{}: cannot create", out.display()))?;
    let plots =
        plots::draw_comparison(&comparison, &out.join("plots"), style).context("cannot draw the plots")?;
    let page = Page::new(&sweeps, &comparison);
    write_table(csv::columns(&comparison), &out.join("compare.csv"), TableFormat::Csv)?;
    super::write_text(&out.join("compare.md"), &markdown::text(&page, &plots))?;
    super::write_text(&out.join("compare.html"), &html::page(&page, &plots)?)?;
    Ok(ComparisonSummary { outcomes: comparison.outcomes.clone(), page, out: out.to_owned() })
}

fn load(directory: &Path) -> Result<Sweep> {
    let path = directory.join(MANIFEST);
    let manifest = read_manifest(&path)?;
    let label = directory.display().to_string();
    let label = if label.len() > 1 { label.trim_end_matches('/').to_owned() } else { label };
    let runs = read_runs(&directory.join(RUNS), manifest.tables.get(RUNS))?;
    Ok(Sweep { label, manifest, runs })
}

/// The comparison in words.
#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Page {
    title: String,
    /// What is compared, by which objectives and where the sweeps come from.
    about: Vec<String>,
    warnings: Vec<String>,
    sections: Vec<Section>,
    sweeps: Vec<SweepLine>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Section {
    /// Number and name of the workload.
    workload: usize,
    name: String,
    reference: String,
    rows: Vec<Row>,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct Row {
    candidate: String,
    baseline: String,
    cost: String,
    latency: String,
    hv_baseline: String,
    hv_candidate: String,
    hv_difference: String,
    record: String,
    pairs: String,
    verdict: String,
}

#[derive(Debug, Clone, PartialEq, serde::Serialize)]
struct SweepLine {
    label: String,
    version: String,
    runs: String,
    command: String,
    hardware: Vec<String>,
}

const HEADINGS: [&str; 9] = [
    "candidate",
    "baseline",
    "verdict on the hypervolume",
    "cost at equal latency",
    "latency at equal cost",
    "hypervolume",
    "of the baseline",
    "difference",
    "won-lost-tied",
];

/// Columns that the terminal has room for.
const IN_TERMINAL: [usize; 7] = [0, 1, 2, 3, 4, 7, 8];

impl Row {
    fn cells(&self) -> [&str; 9] {
        let Self {
            candidate,
            baseline,
            cost,
            latency,
            hv_baseline,
            hv_candidate,
            hv_difference,
            record,
            verdict,
            ..
        } = self;
        [candidate, baseline, verdict, cost, latency, hv_candidate, hv_baseline, hv_difference, record]
            .map(String::as_str)
    }
}

/// How the numbers come about, for every form of output.
const METHOD: &str = "Runs are paired by workload, cluster settings and seed. Cost at equal latency: mean over the latencies that both \
    fronts reach, of what the cheapest run that fast costs, candidate against baseline; nothing is interpolated between runs. Latency at \
    equal cost likewise. Hypervolume: share of the box up to the reference point. In brackets the 95 % interval (Student's t over paired \
    seeds; cells of a seed averaged first). Won, lost, tied: cells in which the candidate's hypervolume is larger, smaller, the same.";

/// The sweeps' names; of sweeps of one name the directories'.
fn title(sweeps: &[Sweep]) -> String {
    let directory = |sweep: &Sweep| {
        Path::new(&sweep.label)
            .file_name()
            .map_or(sweep.label.clone(), |name| name.to_string_lossy().into_owned())
    };
    let alike = sweeps.len() > 1 && sweeps.iter().all(|sweep| sweep.manifest.name == sweeps[0].manifest.name);
    let names: Vec<String> = sweeps
        .iter()
        .map(|sweep| if alike { directory(sweep) } else { sweep.manifest.name.clone() })
        .collect();
    names.join(" and ")
}

impl Page {
    fn new(sweeps: &[Sweep], comparison: &Comparison) -> Self {
        let objectives = &comparison.objectives;
        let section = |(workload, compared): (usize, &crate::analysis::compare::ComparedWorkload)| {
            let outcomes = comparison.outcomes.iter().filter(|outcome| outcome.workload == workload);
            Section {
                workload,
                name: compared.name.clone(),
                reference: compared.reference.map_or("none".to_owned(), |reference| {
                    format!(
                        "{}, {}",
                        quantity(reference.cost, &objectives.cost),
                        quantity(reference.latency, &objectives.latency)
                    )
                }),
                rows: outcomes.map(|outcome| row(comparison, outcome)).collect(),
            }
        };
        let sections = comparison
            .workloads
            .iter()
            .enumerate()
            .map(section)
            .filter(|section| !section.rows.is_empty())
            .collect();
        let mut about = vec![METHOD.to_owned()];
        let tested = comparison
            .outcomes
            .iter()
            .filter(|outcome| matches!(outcome.hv_difference, Some(d) if d.interval.is_some()))
            .count();
        if tested > 4 {
            about.push(format!(
                "{tested} intervals at 95 %: even without any difference about one in twenty would exclude 0."
            ));
        }
        Self {
            title: title(sweeps),
            about,
            warnings: comparison.warnings.clone(),
            sections,
            sweeps: sweeps.iter().map(sweep_line).collect(),
        }
    }
}

fn sweep_line(sweep: &Sweep) -> SweepLine {
    let manifest = &sweep.manifest;
    SweepLine {
        label: sweep.label.clone(),
        version: format!(
            "Scalefront {} (results version {})",
            manifest.scalefront_version, manifest.results_version
        ),
        runs: format!("{}, {} failed", counted(manifest.runs_planned, "run"), manifest.runs_failed),
        command: manifest.command.clone(),
        hardware: manifest.hardware.clone(),
    }
}

fn row(comparison: &Comparison, outcome: &Outcome) -> Row {
    let label = |contestant: usize| comparison.contestants[contestant].label.clone();
    let difference = outcome.hv_difference.map_or("-".to_owned(), |difference| {
        let percent =
            outcome.hv_percent().map_or(String::new(), |percent| format!(", {}", signed_percent(percent)));
        let interval =
            difference.interval.map_or(String::new(), |(low, high)| format!(" [{low:+.4}, {high:+.4}]"));
        format!("{:+.4}{interval}{percent}", difference.mean)
    });
    Row {
        candidate: label(outcome.candidate),
        baseline: label(outcome.baseline),
        cost: change(outcome.cost_at_equal_latency),
        latency: change(outcome.latency_at_equal_cost),
        hv_baseline: plus_minus(outcome.hv_baseline),
        hv_candidate: plus_minus(outcome.hv_candidate),
        hv_difference: difference,
        record: format!("{}-{}-{}", outcome.wins, outcome.losses, outcome.ties),
        pairs: format!(
            "{} of {}; {} against {}",
            counted(outcome.cells, "cell"),
            counted(outcome.seeds, "seed"),
            counted(outcome.runs[1], "run"),
            counted(outcome.runs[0], "run")
        ),
        verdict: verdict(outcome.verdict()).to_owned(),
    }
}

fn change(change: Option<Change>) -> String {
    let Some(change) = change else { return "-".to_owned() };
    let interval = change
        .interval
        .map_or(String::new(), |(low, high)| format!(" [{}, {}]", signed_percent(low), signed_percent(high)));
    format!("{}{interval}", signed_percent(change.percent))
}

/// `+4.1 %`, `-12 %`, `0 %`.
fn signed_percent(percent: f64) -> String {
    // Rounding leaves differences of the last bits between equal runs.
    let percent = if percent.abs() < 1e-9 { 0.0 } else { percent };
    format!("{}{} %", if percent > 0.0 { "+" } else { "" }, significant(percent, 3))
}

fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Better => "better, significant at 5 %",
        Verdict::Worse => "worse, significant at 5 %",
        Verdict::NotSignificant => "no significant difference",
        Verdict::Equal => "equal in every cell",
        Verdict::Outside => "not judged: neither has a run inside the reference box",
        Verdict::OneSeed => "not tested: fewer than two independent seeds",
        Verdict::Unknown => "unknown: no reference point",
    }
}

/// What the terminal shows when a comparison is done.
#[derive(Debug, Clone, PartialEq)]
pub struct ComparisonSummary {
    outcomes: Vec<Outcome>,
    page: Page,
    out: PathBuf,
}

impl ComparisonSummary {
    /// Whose candidates are worse than the baseline by more than `percent` in hypervolume or cost at equal
    /// latency, or cannot be judged.
    pub fn worse_than(&self, percent: f64) -> Vec<String> {
        let mut found = Vec::new();
        for section in &self.page.sections {
            let outcomes = self.outcomes.iter().filter(|outcome| outcome.workload == section.workload);
            for (outcome, row) in outcomes.zip(&section.rows) {
                let Row { candidate, baseline, .. } = row;
                match outcome.worse_by_percent() {
                    None => found.push(format!(
                        "{}: {candidate} cannot be judged against {baseline}: neither has a run inside the reference box ({})",
                        section.name, section.reference
                    )),
                    Some(worse) if worse > percent => {
                        let worse = significant(worse, 3);
                        found.push(format!("{}: {candidate} is {worse} % worse than {baseline}", section.name));
                    }
                    Some(_) => {}
                }
            }
        }
        found
    }
}

impl fmt::Display for ComparisonSummary {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        for section in &self.page.sections {
            writeln!(f, "{} (reference {})", section.name, section.reference)?;
            let rows = std::iter::once(HEADINGS).chain(section.rows.iter().map(Row::cells));
            let rows = rows.map(|row| IN_TERMINAL.map(|column| row[column].to_owned())).collect::<Vec<_>>();
            write!(f, "{}", aligned(&rows))?;
        }
        for warning in &self.page.warnings {
            writeln!(f, "Beware: {warning}")?;
        }
        write!(
            f,
            "Look at {}, {}",
            self.out.join("compare.html").display(),
            self.out.join("compare.md").display()
        )
    }
}
