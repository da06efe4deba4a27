//! `scalefront hardware validate`: simulations beside measured runs of real servers.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use scalefront::files::make_directory;
use scalefront::files::write_atomically;
use scalefront::hardware::OverheadSettings;
use scalefront::settings::Faults;
use scalefront::sweep::plan::hardware_files::hardware_files;
use scalefront::validation::fleet;
use scalefront::validation::{Compared, Experiments, Replay, Skipped, compare, errors, prepare};

use super::{fleets, tables};

#[derive(Debug, clap::Args)]
pub struct ValidateArgs {
    /// A folder with experiments.json, measured.csv and traces, or its experiments.json; or runs in which the
    /// fleet scaled: a folder with run.json, or of such folders
    path: PathBuf,

    /// Only runs with this in their id
    #[arg(long)]
    only: Option<String>,

    /// Drawn requests, where none are on record, of so many seeds together
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u64).range(1..=100))]
    seeds: u64,

    /// Where table and picture go
    #[arg(long, value_name = "DIR", default_value = "results/validation")]
    out: PathBuf,

    /// Engine overheads, as in a grid file: a name, or JSON such as '{"given": {"api_ms": 5}}' [default:
    /// calibrated; of runs in which the fleet scaled, fitted to the other runs of the folder]
    #[arg(long, value_name = "JSON")]
    overheads: Option<String>,
}

pub(super) struct Prepared {
    pub experiments: Experiments,
    pub replays: Vec<Replay>,
    pub skipped: Vec<Skipped>,
    pub seeds: Vec<u64>,
}

/// Reads a folder of measured runs, and prepares those with `only` in their id.
pub(super) fn prepared(path: &Path, only: Option<&str>, seeds: u64) -> Result<Prepared> {
    let experiments = Experiments::read(path)?;
    let (replays, skipped) = prepare(&experiments, |id| only.is_none_or(|part| id.contains(part)));
    if replays.is_empty() {
        let why: String = skipped
            .iter()
            .map(|Skipped { experiment, reason }| format!("\n  {experiment}: {reason}"))
            .collect();
        bail!(
            "{}: none of {} runs can be simulated and was asked for{why}",
            path.display(),
            experiments.list.len()
        );
    }
    Ok(Prepared { experiments, replays, skipped, seeds: (1..=seeds).collect() })
}

impl ValidateArgs {
    pub fn run(&self, out: &mut String) -> Result<()> {
        let asked = self.overheads.as_deref().map(overheads).transpose()?;
        let folders = fleet::folders(&self.path);
        if !folders.is_empty() {
            return fleets::validate(
                &folders,
                self.only.as_deref(),
                asked.as_ref(),
                self.seeds,
                &self.out,
                out,
            );
        }
        let settings = asked.map_or_else(|| overheads("calibrated"), Ok)?;
        let Prepared { experiments, replays, skipped, seeds } =
            prepared(&self.path, self.only.as_deref(), self.seeds)?;
        let all: Vec<&Replay> = replays.iter().collect();
        let rows = compare(&all, &experiments.measured, &seeds, |replay| {
            Ok(replay.resolve(&settings, &hardware_files(&[]))?)
        })?;
        writeln!(
            out,
            "{}: {} measured runs simulated, {} skipped\n",
            self.path.display(),
            replays.len(),
            skipped.len()
        )?;
        print_stages(out, &rows)?;
        for Skipped { experiment, reason } in &skipped {
            writeln!(out, "skipped: {experiment}: {reason}")?;
        }
        print_errors(out, &rows)?;
        store(out, &rows, &self.out, "validation")
    }
}

fn overheads(text: &str) -> Result<OverheadSettings> {
    let text = text.trim();
    let json = if text.starts_with('{') { text.to_string() } else { format!("{:?}", text.trim_matches('"')) };
    let mut deserializer = serde_json::Deserializer::from_str(&json);
    let settings: OverheadSettings =
        serde_path_to_error::deserialize(&mut deserializer).context("--overheads")?;
    let mut faults = Faults::default();
    settings.check(&mut faults);
    match faults.found.first() {
        None => Ok(settings),
        Some(fault) => bail!("--overheads: `{}`: {}", fault.path, fault.message),
    }
}

/// Shown of each stage; the table on disk has everything.
const SHOWN: [&str; 5] = ["ttft_mean", "ttft_p99", "tpot_mean", "e2e_mean", "e2e_p99"];

/// A line a stage: measured, simulated and error of what matters most. Stages that are judged bear a star.
pub(super) fn print_stages(out: &mut String, rows: &[Compared]) -> Result<()> {
    write!(out, "{:54}", "run and stage (* judged); measured > simulated, ms")?;
    SHOWN.iter().for_each(|metric| *out += &format!("  {metric:>26}"));
    out.push('\n');
    let mut seen = BTreeSet::new();
    for row in rows {
        if !seen.insert((&row.experiment, &row.stage)) {
            continue;
        }
        let name = format!("{} {}{}", row.experiment, row.stage, if row.judged { "*" } else { "" });
        write!(out, "{name:54}")?;
        for metric in SHOWN {
            let found = rows.iter().find(|other| {
                other.experiment == row.experiment && other.stage == row.stage && other.metric == metric
            });
            let cell = found.map_or("-".into(), |row| {
                format!(
                    "{} > {} {:+6.1} %",
                    Short(row.measured_ms),
                    Short(row.simulated_ms),
                    100.0 * row.error()
                )
            });
            write!(out, "  {cell:>26}")?;
        }
        out.push('\n');
    }
    Ok(())
}

/// Milliseconds in few digits.
struct Short(f64);

impl std::fmt::Display for Short {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        let digits = if self.0 < 10.0 {
            2
        } else if self.0 < 1000.0 {
            1
        } else {
            0
        };
        write!(f, "{:.digits$}", self.0)
    }
}

/// Published errors of BLIS (inference-sim), the best peer, on dense runs: another, larger set of the same
/// origin.
const PEER: [(&str, &str); 6] = [
    ("ttft_mean", "8.8-14.3"),
    ("ttft_p90", "10.0-27.8"),
    ("ttft_p99", "21.8-38.3"),
    ("tpot_mean", "6.6"),
    ("e2e_mean", "6.6"),
    ("e2e_p99", "9.8"),
];

/// Absolute errors over judged stages and over whole runs.
pub(super) fn print_errors(out: &mut String, rows: &[Compared]) -> Result<()> {
    writeln!(
        out,
        "\nabsolute error, %    judged stages                     whole runs (`all`)              BLIS, dense"
    )?;
    writeln!(
        out,
        "metric               number  median    mean   worst    number  median    mean   worst  median"
    )?;
    for metric in scalefront::validation::QUANTITIES
        .iter()
        .flat_map(|q| scalefront::validation::STATISTICS.map(|s| format!("{q}_{s}")))
    {
        let of = |judged: bool| {
            let found =
                errors(rows.iter().filter(|row| {
                    row.metric == metric && if judged { row.judged } else { row.stage == "all" }
                }));
            found.map_or(format!("{:>6}  {:>6}  {:>6}  {:>6}", 0, "-", "-", "-"), |found| {
                let percent = |value: f64| 100.0 * value;
                format!(
                    "{:6}  {:6.1}  {:6.1}  {:6.1}",
                    found.count,
                    percent(found.median),
                    percent(found.mean),
                    percent(found.worst)
                )
            })
        };
        let peer = PEER.iter().find(|(known, _)| *known == metric).map_or("", |(_, error)| error);
        writeln!(out, "{metric:19}  {}    {}  {peer}", of(true), of(false))?;
    }
    Ok(())
}

/// Writes table and picture.
pub(super) fn store(out: &mut String, rows: &[Compared], dir: &Path, stem: &str) -> Result<()> {
    make_directory(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
    let table = dir.join(format!("{stem}.csv"));
    write_atomically(&table, |file| {
        writeln!(file, "experiment_id,stage,judged,metric,measured_ms,simulated_ms,error_percent")?;
        for row in rows {
            let Compared { experiment, stage, judged, metric, measured_ms, simulated_ms, .. } = row;
            writeln!(
                file,
                "{experiment},{stage},{judged},{metric},{measured_ms},{simulated_ms:.4},{:.3}",
                100.0 * row.error()
            )?;
        }
        Ok(())
    })?;
    writeln!(out, "\nTable: {}", table.display())?;
    if let Some(picture) = tables::draw_validation(rows, dir, stem)? {
        writeln!(out, "Picture: {}", picture.display())?;
    }
    Ok(())
}
