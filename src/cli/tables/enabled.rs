//! Tables through the library's analysis and report.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::Result;
use scalefront::analysis::compare::Choice;
use scalefront::analysis::scores::columns_for_fronts;
use scalefront::analysis::{self, Column, TableFormat};
use scalefront::hardware::check::Compared;
use scalefront::report;
use scalefront::simulation::Detail;
use scalefront::sweep::objectives::Objectives;
use scalefront::sweep::row::{RunRow, RunSeries, Series};
use scalefront::sweep::store::{RUNS, SERIES};
use scalefront::validation;
use scalefront::workload::Workload;

use super::{Compared as Comparison, Format, Style};
use crate::cli::compare;

pub fn check_available() -> Result<()> {
    Ok(())
}

/// Stores `runs.parquet` of `count` rows, which are asked for in parts, twice. Returns the names of its columns.
pub fn store_runs(dir: &Path, count: usize, rows: impl FnMut(Range<usize>) -> Result<Vec<RunRow>>) -> Result<Vec<String>> {
    analysis::write_runs_in_parts(count, rows, &dir.join(RUNS))
}

/// Rows of the stored runs whose curves are to be drawn: on fronts, and at most `most`.
pub fn rows_with_curves(dir: &Path, objectives: &Objectives, most: usize) -> Result<Vec<usize>> {
    let runs = analysis::read_runs_columns(&dir.join(RUNS), &columns_for_fronts(objectives))?;
    analysis::rows_with_curves(&runs, objectives, most)
}

/// Stores `series.parquet`.
pub fn store_curves(dir: &Path, series: &[RunSeries]) -> Result<()> {
    analysis::write_series(series, &dir.join(SERIES))
}

/// Stores `oracle.parquet` and, without the schedules, `oracle.csv`.
pub fn store_oracle(dir: &Path, rows: &[RunRow]) -> Result<()> {
    analysis::regret::write_oracle(rows, dir)
}

/// Stores `requests`, `batches` and `replicas` of one run.
pub fn store_detail(dir: &Path, detail: &Detail, format: Format) -> Result<()> {
    let format = TableFormat::from(format);
    let Detail { requests, batches, replicas, .. } = detail;
    let write = |name: &str, columns: Vec<(&str, Column)>| {
        analysis::write_table(columns, &dir.join(format!("{name}.{}", format.extension())), format)
    };
    let columns = vec![
        ("request_id", Column::Int(requests.iter().map(|r| r.request_id.into()).collect())),
        ("arrived_at_s", Column::Float(requests.iter().map(|r| r.arrived_at_s).collect())),
        ("prefill_tokens", Column::Int(requests.iter().map(|r| r.prefill_tokens.into()).collect())),
        ("decode_tokens", Column::Int(requests.iter().map(|r| r.decode_tokens.into()).collect())),
        ("replica_id", Column::OptionalInt(requests.iter().map(|r| r.replica_id.map(Into::into)).collect())),
        ("scheduled_at_s", Column::OptionalFloat(requests.iter().map(|r| r.scheduled_at_s).collect())),
        ("first_token_at_s", Column::OptionalFloat(requests.iter().map(|r| r.first_token_at_s).collect())),
        ("completed_at_s", Column::OptionalFloat(requests.iter().map(|r| r.completed_at_s).collect())),
        ("restarts", Column::Int(requests.iter().map(|r| r.restarts.into()).collect())),
        ("cached_tokens", Column::Int(requests.iter().map(|r| r.cached_tokens.into()).collect())),
    ];
    write("requests", columns)?;
    let columns = vec![
        ("batch_id", Column::Int(batches.iter().map(|b| b.batch_id as i64).collect())),
        ("replica_id", Column::Int(batches.iter().map(|b| b.replica_id.into()).collect())),
        ("scheduled_at_s", Column::Float(batches.iter().map(|b| b.scheduled_at_s).collect())),
        ("completed_at_s", Column::Float(batches.iter().map(|b| b.completed_at_s).collect())),
        ("num_requests", Column::Int(batches.iter().map(|b| b.num_requests.into()).collect())),
        ("prefill_tokens", Column::Int(batches.iter().map(|b| b.prefill_tokens as i64).collect())),
        ("decode_tokens", Column::Int(batches.iter().map(|b| b.decode_tokens as i64).collect())),
    ];
    write("batches", columns)?;
    let columns = vec![
        ("time_s", Column::Float(replicas.iter().map(|r| r.time_s).collect())),
        ("num_replicas", Column::Int(replicas.iter().map(|r| r.num_replicas.into()).collect())),
        ("num_draining", Column::Int(replicas.iter().map(|r| r.num_draining.into()).collect())),
        ("cost_per_hour_usd", Column::Float(replicas.iter().map(|r| r.cost_per_hour_usd).collect())),
    ];
    write("replicas", columns)
}

/// Stores a run's curves as `series`, a row a point.
pub fn store_series(dir: &Path, series: &[Series], format: Format) -> Result<()> {
    let format = TableFormat::from(format);
    let points = || series.iter().flat_map(|series| series.points.iter().map(|&point| (series.name, point)));
    let columns = vec![
        ("series", Column::Text(points().map(|(name, _)| name.into()).collect())),
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

/// Compares stored sweeps.
pub fn compare(args: &compare::Args) -> Result<Comparison> {
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
