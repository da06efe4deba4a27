//! Tables through the library's analysis and report.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use scalefront::analysis::compare::Choice;
use scalefront::analysis::scores::columns_for_fronts;
use scalefront::analysis::table::write_described;
use scalefront::analysis::{self, Column, TableFormat};
use scalefront::hardware::check::Compared;
use scalefront::report;
use scalefront::simulation::Detail;
use scalefront::sweep::answers::robustness::TABLE;
use scalefront::sweep::answers::verdict::Verdict;
use scalefront::sweep::objectives::Objectives;
use scalefront::sweep::run::pools::PoolRow;
use scalefront::sweep::run::turns::{self, RunTurns, TurnFigures};
use scalefront::sweep::store::{POOLS, RUNS, SERIES, TURNS};
use scalefront::sweep::tables::row::{RunRow, RunSeries, Series};
use scalefront::validation;
use scalefront::validation::fleet::Steps;
use scalefront::workload::Workload;

use super::detail::{batches, decisions, replicas, requests};
use super::{CompareArgs, Compared as Comparison, Format, Style, fleets};

pub fn check_available() -> Result<()> {
    Ok(())
}

/// Stores `runs.parquet` of `count` rows, which are asked for in parts, twice. Returns the names of its
/// columns.
pub fn store_runs(
    dir: &Path,
    count: usize,
    rows: impl FnMut(Range<usize>) -> Result<Vec<RunRow>>,
) -> Result<Vec<String>> {
    analysis::write_runs_in_parts(count, rows, &dir.join(RUNS))
}

/// Rows of the stored runs whose curves are to be drawn: on fronts, and at most `most`.
pub fn rows_with_curves(dir: &Path, objectives: &Objectives, most: usize) -> Result<Vec<usize>> {
    let runs = analysis::read_runs_columns(&dir.join(RUNS), &columns_for_fronts(objectives))?;
    analysis::rows_with_curves(&runs, objectives, most)
}

/// The settings of the stored runs' verdicts that are worth testing, with the rows of their runs: of each
/// workload the best, and the cheapest of another policy.
pub fn chosen(
    dir: &Path,
    objectives: &Objectives,
    settings: &[String],
) -> Result<Vec<(&'static str, Vec<usize>)>> {
    if objectives.constraints.is_empty() {
        return Ok(Vec::new());
    }
    let runs = analysis::read_runs(&dir.join(RUNS), None)?;
    let verdicts = analysis::verdict::of_runs(&runs, settings, objectives)?;
    let of = |verdict: Verdict| {
        let named = [("best", verdict.best), ("runner_up", verdict.runner_up)];
        let rows = move |(role, place): (&'static str, Option<usize>)| {
            Some((role, verdict.settings[place?].rows.clone()))
        };
        named.into_iter().filter_map(rows).collect::<Vec<_>>()
    };
    Ok(verdicts.into_iter().flat_map(of).collect())
}

/// Stores the trials of verdicts, or removes those of an earlier one where there are none.
pub fn store_robustness(dir: &Path, rows: &[RunRow]) -> Result<()> {
    if !rows.is_empty() {
        return analysis::verdict::write_robustness(rows, dir);
    }
    for name in [TABLE, "robustness.csv"] {
        let path = dir.join(name);
        if path.exists() {
            std::fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
    }
    Ok(())
}

/// Names the families of the stored runs anew, told apart by the columns `group_by`.
pub fn regroup_runs(dir: &Path, group_by: &[String]) -> Result<()> {
    analysis::runs::regroup(&dir.join(RUNS), group_by)
}

/// Stores `pools.parquet`, if there are pools.
pub fn store_pools(dir: &Path, rows: &[PoolRow]) -> Result<()> {
    let path = dir.join(POOLS);
    match rows {
        [] if path.exists() => Ok(std::fs::remove_file(path)?),
        [] => Ok(()),
        rows => analysis::pools::write_pools(rows, &path),
    }
}

/// Stores `series.parquet`.
pub fn store_curves(dir: &Path, series: &[RunSeries]) -> Result<()> {
    analysis::write_series(series, &dir.join(SERIES))
}

/// Stores `turns.parquet`, if there are sessions.
pub fn store_turns(dir: &Path, runs: &[RunTurns]) -> Result<()> {
    let path = dir.join(TURNS);
    match runs {
        [] if path.exists() => Ok(std::fs::remove_file(path)?),
        [] => Ok(()),
        runs => analysis::turns::write_turns(runs, &path),
    }
}

/// Stores `oracle.parquet` and, without the schedules, `oracle.csv`.
pub fn store_oracle(dir: &Path, rows: &[RunRow]) -> Result<()> {
    analysis::edge::write_oracle(rows, dir)
}

/// Stores `informed.parquet` and, without the policies, `informed.csv`.
pub fn store_informed(dir: &Path, rows: &[RunRow]) -> Result<()> {
    analysis::edge::write_informed(rows, dir)
}

/// Stores `requests`, `batches`, `replicas`, `decisions` and, where there are sessions, `turns` of one run.
pub fn store_detail(dir: &Path, detail: &Detail, format: Format) -> Result<()> {
    let format = TableFormat::from(format);
    let tables = if detail.pools.is_empty() {
        [
            ("requests", requests(&detail.requests)),
            ("batches", batches(&detail.batches)),
            ("replicas", replicas(&detail.replicas)),
            ("decisions", decisions(&detail.tunes)),
        ]
    } else {
        fleets::tables(detail)
    };
    let turns = turns::of_detail(detail);
    let of_turns = (!turns.is_empty())
        .then(|| ("turns", analysis::turns::columns(&turns.iter().collect::<Vec<&TurnFigures>>())));
    tables.into_iter().chain(of_turns).try_for_each(|(name, columns)| {
        write_described(columns, &dir.join(format!("{name}.{}", format.extension())), format)
    })
}

/// Stores a run's curves as `series`, a row a point.
pub fn store_series(dir: &Path, series: &[Series], format: Format) -> Result<()> {
    let format = TableFormat::from(format);
    let points =
        || series.iter().flat_map(|series| series.points.iter().map(|&point| (series.name.as_str(), point)));
    let columns = vec![
        ("series", Column::Text(points().map(|(name, _)| name.to_owned()).collect())),
        ("x", Column::Float(points().map(|(_, (x, _))| x).collect())),
        ("y", Column::Float(points().map(|(_, (_, y))| y).collect())),
    ];
    analysis::write_table(columns, &dir.join(format!("series.{}", format.extension())), format)
}

impl From<Format> for TableFormat {
    fn from(format: Format) -> Self {
        match format {
            Format::Csv => Self::Csv,
            Format::Parquet => Self::Parquet,
        }
    }
}

/// Draws a workload; where the picture is.
pub fn draw_workload(workload: &Workload, name: &str, dir: &Path) -> Result<Option<PathBuf>> {
    report::draw_workload(workload, name, dir, "trace")?;
    Ok(Some(dir.join("trace.svg")))
}

/// Rebuilds everything derived in a results directory; what to tell on the terminal.
pub fn build_report(dir: &Path, style: Style) -> Result<String> {
    Ok(report::build(dir, style.into())?.to_string())
}

/// Draws the figures of a results directory for print, and says how many and where.
pub fn build_figures(dir: &Path, width_mm: f64) -> Result<(usize, PathBuf)> {
    let width = report::ColumnWidth::new(width_mm).context("--column-width-mm: no such width")?;
    Ok((report::build_figures(dir, width)?, dir.join(report::FIGURES)))
}

/// Compares stored sweeps.
pub fn compare(args: &CompareArgs) -> Result<Comparison> {
    let choice = Choice { families: args.families.clone(), baseline: args.baseline.clone() };
    let summary = report::build_comparison(&args.dirs, &choice, &args.out, args.style.into())?;
    let too_much_worse = args.fail_above.map(|percent| summary.worse_than(percent)).unwrap_or_default();
    Ok(Comparison { text: summary.to_string(), too_much_worse })
}

impl From<Style> for report::Style {
    fn from(style: Style) -> Self {
        match style {
            Style::Paper => Self::Paper,
            Style::Slides => Self::Slides,
        }
    }
}

/// Draws predicted against measured times; where the picture is.
pub fn draw_check(rows: &[Compared], dir: &Path) -> Result<Option<PathBuf>> {
    report::draw_check(rows, dir, "check")?;
    Ok(Some(dir.join("check.svg")))
}

/// Draws simulated against measured latencies; where the picture is.
pub fn draw_validation(rows: &[validation::Compared], dir: &Path, stem: &str) -> Result<Option<PathBuf>> {
    report::draw_validation(rows, dir, stem)?;
    Ok(Some(dir.join(format!("{stem}.svg"))))
}

/// Draws the replicas of a measured run beside simulated ones; where the picture is.
pub fn draw_fleet(id: &str, curves: &[(String, Steps)], ends_s: f64, dir: &Path) -> Result<Option<PathBuf>> {
    let stem = format!("fleet_{id}");
    report::draw_fleet(id, curves, ends_s, dir, &stem)?;
    Ok(Some(dir.join(format!("{stem}.svg"))))
}
