//! Tables through the library's analysis and report.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use scalefront::analysis::compare::Choice;
use scalefront::analysis::scores::columns_for_fronts;
use scalefront::analysis::table::{Described, write_described};
use scalefront::analysis::{self, Column, TableFormat};
use scalefront::hardware::check::Compared;
use scalefront::report;
use scalefront::simulation::{BatchRecord, Detail, ReplicaRecord, RequestRecord, TuneRecord};
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

use super::{Compared as Comparison, Format, Style, fleets};
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

/// The settings of the stored runs' verdicts that are worth testing, with the rows of their runs: of each workload the best, and the
/// cheapest of another policy.
pub fn chosen(dir: &Path, objectives: &Objectives, settings: &[String]) -> Result<Vec<(&'static str, Vec<usize>)>> {
    if objectives.constraints.is_empty() {
        return Ok(Vec::new());
    }
    let runs = analysis::read_runs(&dir.join(RUNS), None)?;
    let verdicts = analysis::verdict::of_runs(&runs, settings, objectives)?;
    let of = |verdict: Verdict| {
        let named = [("best", verdict.best), ("runner_up", verdict.runner_up)];
        let rows = move |(role, place): (&'static str, Option<usize>)| Some((role, verdict.settings[place?].rows.clone()));
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
    let of_turns = (!turns.is_empty()).then(|| ("turns", analysis::turns::columns(&turns.iter().collect::<Vec<&TurnFigures>>())));
    tables
        .into_iter()
        .chain(of_turns)
        .try_for_each(|(name, columns)| write_described(columns, &dir.join(format!("{name}.{}", format.extension())), format))
}

/// A column of whole numbers, of decimal numbers, and of either with gaps.
fn ints<T>(rows: &[T], value: impl Fn(&T) -> i64) -> Column {
    Column::Int(rows.iter().map(value).collect())
}

fn floats<T>(rows: &[T], value: impl Fn(&T) -> f64) -> Column {
    Column::Float(rows.iter().map(value).collect())
}

fn times<T>(rows: &[T], value: impl Fn(&T) -> Option<f64>) -> Column {
    Column::OptionalFloat(rows.iter().map(value).collect())
}

pub(super) fn requests(rows: &[RequestRecord]) -> Vec<Described> {
    let mut columns = vec![
        ("request_id", "Number of the request, by arrival.", ints(rows, |r| r.request_id.into())),
        ("arrived_at_s", "When it arrived.", floats(rows, |r| r.arrived_at_s)),
        ("prefill_tokens", "Length of its prompt.", ints(rows, |r| r.prefill_tokens.into())),
        ("decode_tokens", "Output tokens.", ints(rows, |r| r.decode_tokens.into())),
        (
            "replica_id",
            "Replica it was routed to last; empty if it was rejected before.",
            Column::OptionalInt(rows.iter().map(|r| r.replica_id.map(Into::into)).collect()),
        ),
        ("scheduled_at_s", "When it was first in a batch.", times(rows, |r| r.scheduled_at_s)),
        ("first_token_at_s", "When its first token was there.", times(rows, |r| r.first_token_at_s)),
        ("completed_at_s", "When its last token was there.", times(rows, |r| r.completed_at_s)),
        ("restarts", "How often it lost its place in memory and began anew.", ints(rows, |r| r.restarts.into())),
        ("cached_tokens", "Tokens of its prompt that were cached when it was first admitted.", ints(rows, |r| r.cached_tokens.into())),
    ];
    if rows.iter().any(|row| row.session.is_some()) {
        let of_session =
            |value: fn((u32, u32)) -> u32| Column::OptionalInt(rows.iter().map(|r| r.session.map(value).map(Into::into)).collect());
        columns.push(("session_id", "Number of its session, by first arrival.", of_session(|(session, _)| session)));
        columns.push(("turn", "Number of its turn in the session, from 1.", of_session(|(_, turn)| turn)));
    }
    columns
}

pub(super) fn batches(rows: &[BatchRecord]) -> Vec<Described> {
    vec![
        ("batch_id", "Number of the batch, by its end.", ints(rows, |b| b.batch_id as i64)),
        ("replica_id", "Replica that ran it.", ints(rows, |b| b.replica_id.into())),
        ("scheduled_at_s", "When it began.", floats(rows, |b| b.scheduled_at_s)),
        ("completed_at_s", "When it ended.", floats(rows, |b| b.completed_at_s)),
        ("num_requests", "Requests in it.", ints(rows, |b| b.num_requests.into())),
        ("prefill_tokens", "Prompt tokens computed.", ints(rows, |b| b.prefill_tokens as i64)),
        ("decode_tokens", "Output tokens computed.", ints(rows, |b| b.decode_tokens as i64)),
    ]
}

pub(super) fn replicas(rows: &[ReplicaRecord]) -> Vec<Described> {
    let mut columns = vec![
        ("time_s", "When replicas changed; what the row says holds until the next.", floats(rows, |r| r.time_s)),
        ("num_replicas", "Replicas that exist, draining ones included.", ints(rows, |r| r.num_replicas.into())),
        ("num_draining", "Those that finish what they have before they leave.", ints(rows, |r| r.num_draining.into())),
        ("cost_per_hour_usd", "What an hour costs at this moment.", floats(rows, |r| r.cost_per_hour_usd)),
        ("num_starting", "Those that start and do not serve yet.", ints(rows, |r| r.num_starting.into())),
    ];
    // Said where it says something.
    if rows.iter().any(|row| row.num_pending.is_some()) {
        let pending = ints(rows, |r| r.num_pending.unwrap_or(0).into());
        columns.push(("num_pending", "Replicas that were ordered and wait for devices or nodes.", pending));
    }
    if rows.iter().any(|row| row.num_nodes.is_some()) {
        columns.push(("num_nodes", "Nodes that are paid.", ints(rows, |r| r.num_nodes.unwrap_or(0) as i64)));
    }
    columns
}

/// A row for each number that a decision rests on; one for a decision that states none.
pub(super) fn decisions(tunes: &[TuneRecord]) -> Vec<Described> {
    let rows = tunes.iter().flat_map(|tune| {
        let none = tune.evidence.is_empty().then_some((tune, None));
        none.into_iter().chain(tune.evidence.iter().map(move |evidence| (tune, Some(evidence))))
    });
    let rows: Vec<(&TuneRecord, Option<&(&'static str, f64)>)> = rows.collect();
    let names = rows.iter().map(|(_, evidence)| evidence.map(|evidence| evidence.0.to_owned())).collect();
    vec![
        ("time_s", "When the policy decided.", floats(&rows, |(tune, _)| tune.time_s)),
        ("num_replicas", "Seen: replicas that exist, draining ones included.", ints(&rows, |(tune, _)| tune.num_replicas.into())),
        ("pending_scale_ups", "Seen: replicas that start.", ints(&rows, |(tune, _)| tune.pending_scale_ups.into())),
        (
            "pending_scale_downs",
            "Seen: scale-downs decided whose replica has not left yet.",
            ints(&rows, |(tune, _)| tune.pending_scale_downs.into()),
        ),
        ("outstanding_requests", "Seen: requests that wait or run.", ints(&rows, |(tune, _)| tune.outstanding_requests.into())),
        ("decided", "Replicas to add; to remove where negative.", ints(&rows, |(tune, _)| tune.decision)),
        ("applied", "What was carried out of it, within the limits on replicas.", ints(&rows, |(tune, _)| tune.applied)),
        ("evidence", "Name of a number the decision rests on.", Column::OptionalText(names)),
        ("value", "That number.", Column::OptionalFloat(rows.iter().map(|(_, evidence)| evidence.map(|evidence| evidence.1)).collect())),
    ]
}

/// Stores a run's curves as `series`, a row a point.
pub fn store_series(dir: &Path, series: &[Series], format: Format) -> Result<()> {
    let format = TableFormat::from(format);
    let points = || series.iter().flat_map(|series| series.points.iter().map(|&point| (series.name.as_str(), point)));
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

/// Draws the replicas of a measured run beside simulated ones; where the picture is.
pub fn draw_fleet(id: &str, curves: &[(String, Steps)], ends_s: f64, dir: &Path) -> Result<Option<PathBuf>> {
    let stem = format!("fleet_{id}");
    report::draw_fleet(id, curves, ends_s, dir, &stem)?;
    Ok(Some(dir.join(format!("{stem}.svg"))))
}
