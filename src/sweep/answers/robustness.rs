//! Robust, not lucky: the chosen settings of a sweep under circumstances that are a little different.
//!
//! More traffic, other days (other seeds, or the blocks of a trace resampled), slower cold starts, an engine
//! that is slower or faster than its model of step times says. Every trial is one run more, as deterministic
//! as those of the sweep.

use std::sync::Arc;

use rayon::prelude::*;

use crate::hardware::ExecutionTime;
use crate::simulation::{Inputs, RunMetrics, Workspace};
use crate::sweep::plan::Plan;
use crate::sweep::plan::cell::Cell;
use crate::sweep::run::outcome::scalar;
use crate::sweep::run::{Interrupted, Progress, Workspaces};
use crate::sweep::tables::row::{RunRow, Scalar};
use crate::workload::{self, Workload, depends_on_seed};

/// The table of trials.
pub const TABLE: &str = "robustness.parquet";

/// Seeds of a setting that are tried, the first of the grid's.
pub const MOST_SEEDS: usize = 3;
/// Other days that are tried.
pub const OTHER_DAYS: u64 = 3;
/// Their seeds follow on this one: no grid's are there, or they are skipped.
const OTHER_SEEDS: u64 = 1_000_000;

/// What is different, and by how much.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Change {
    /// So many times the requests.
    Traffic(f64),
    /// Traffic drawn under another seed.
    OtherSeed(u64),
    /// The blocks of recorded traffic resampled, under this draw.
    ResampledBlocks(u64),
    /// Cold starts take so many times as long.
    ColdStart(f64),
    /// Steps of the engine take so many times as long.
    StepTimes(f64),
}

impl Change {
    /// Name and amount, as the table has them.
    pub fn columns(self) -> (&'static str, f64) {
        match self {
            Self::Traffic(factor) => ("traffic", factor),
            Self::OtherSeed(seed) => ("other_seed", seed as f64),
            Self::ResampledBlocks(draw) => ("resampled_blocks", draw as f64),
            Self::ColdStart(factor) => ("cold_start", factor),
            Self::StepTimes(factor) => ("step_times", factor),
        }
    }
}

/// A setting that is put to the test: its runs by their indices in the grid, one a seed.
#[derive(Debug, Clone, PartialEq)]
pub struct Chosen {
    /// `best` or `runner_up`.
    pub role: &'static str,
    pub cells: Vec<u64>,
}

struct Trial<'a> {
    role: &'a str,
    index: u64,
    change: Change,
}

fn trials<'a>(plan: &Plan, chosen: &'a Chosen) -> Vec<Trial<'a>> {
    let Some(&first) = chosen.cells.first() else { return Vec::new() };
    let cell = plan.cell(first);
    let workload = &plan.inputs.workloads[cell.workload_input].content;
    let mut changes = Vec::new();
    if workload.streamed.is_none() {
        changes.extend([1.1, 1.2].map(Change::Traffic));
    }
    let starts =
        cell.cluster.scale_up_delay_s > 0.0 || cell.cluster.cold_start.load_bandwidth_gb_per_s.is_some();
    if starts && cell.autoscaler.name() != "static" {
        changes.extend([1.5, 2.0].map(Change::ColdStart));
    }
    changes.extend([0.9, 1.1].map(Change::StepTimes));
    let role = chosen.role;
    let each = changes.into_iter().flat_map(|change| {
        chosen.cells.iter().take(MOST_SEEDS).map(move |&index| Trial { role, index, change })
    });
    let days: Vec<Change> = if depends_on_seed(&cell.workload) {
        let free = (OTHER_SEEDS..).filter(|seed| !plan.grid.seeds.contains(seed));
        free.take(OTHER_DAYS as usize).map(Change::OtherSeed).collect()
    } else if workload.streamed.is_none() {
        (1..=OTHER_DAYS).map(Change::ResampledBlocks).collect()
    } else {
        Vec::new()
    };
    each.chain(days.into_iter().map(|change| Trial { role, index: first, change })).collect()
}

/// Most runs that the tests of a sweep's verdicts take.
pub fn most_runs(plan: &Plan) -> usize {
    // The best and the runner-up of each workload, under six changes and on other days.
    plan.workloads() * 2 * (6 * plan.grid.seeds.len().min(MOST_SEEDS) + OTHER_DAYS as usize)
}

/// How many runs they are.
pub fn count(plan: &Plan, chosen: &[Chosen]) -> usize {
    chosen.iter().map(|chosen| trials(plan, chosen).len()).sum()
}

/// Runs every trial on the current rayon pool; a row each, in a fixed order.
///
/// Columns: `workload`, `role`, `run_id` (of the run it is a trial of), `seed`, `family`, `policy`,
/// `autoscaler`, `change`, `amount`, `status`, `error`, then metrics as in the table of runs.
pub fn test(plan: &Plan, chosen: &[Chosen], progress: &dyn Progress) -> Result<Vec<RunRow>, Interrupted> {
    let trials: Vec<Trial> = chosen.iter().flat_map(|chosen| trials(plan, chosen)).collect();
    let workspaces = Workspaces::default();
    let rows: Option<Vec<RunRow>> = trials
        .par_iter()
        .with_max_len(1)
        .map(|trial| {
            if progress.is_interrupted() {
                return None;
            }
            let cell = plan.cell(trial.index);
            let outcome = workspaces.run(|workspace| run(plan, &cell, trial.change, workspace)).flatten();
            progress.run_ended(plan.requests(trial.index));
            Some(row(plan, &cell, trial, outcome))
        })
        .collect();
    rows.ok_or(Interrupted)
}

fn run(plan: &Plan, cell: &Cell, change: Change, workspace: &mut Workspace) -> Result<RunMetrics, String> {
    let mut cell = cell.clone();
    let mut workload: Arc<Workload> = plan.inputs.workloads[cell.workload_input].content.clone();
    let mut times: Vec<Arc<ExecutionTime>> =
        cell.hardware_inputs.iter().map(|&input| plan.inputs.hardware[input].times.clone()).collect();
    let too_large = || "too many requests to be changed one by one".to_owned();
    match change {
        Change::Traffic(factor) => {
            workload = Arc::new(workload.thickened(factor, cell.seed).ok_or_else(too_large)?)
        }
        Change::ResampledBlocks(draw) => workload = Arc::new(workload.resampled(draw).ok_or_else(too_large)?),
        Change::OtherSeed(seed) => {
            workload = Arc::new(
                workload::load(&cell.workload, seed, &plan.grid.base_dirs)
                    .map_err(|error| error.to_string())?,
            );
            cell.seed = seed;
        }
        Change::ColdStart(factor) => {
            cell.cluster.change(|cluster| {
                cluster.scale_up_delay_s *= factor;
                let bandwidth = &mut cluster.cold_start.load_bandwidth_gb_per_s;
                *bandwidth = bandwidth.map(|gb_per_s| gb_per_s / factor);
            });
        }
        Change::StepTimes(factor) => {
            times = times.iter().map(|times| Arc::new(times.slowed(factor))).collect()
        }
    }
    let times: Vec<&ExecutionTime> = times.iter().map(|times| &**times).collect();
    let inputs = Inputs::new(&workload, &cell.cluster, &cell.autoscaler, &times, cell.seed)
        .map_err(|error| error.to_string())?;
    inputs.with_programs(&*plan.inputs.programs).simulate(workspace).map_err(|error| error.to_string())
}

fn row(plan: &Plan, cell: &Cell, trial: &Trial, outcome: Result<RunMetrics, String>) -> RunRow {
    let (change, amount) = trial.change.columns();
    let text = |text: &str| Scalar::Text(text.into());
    let (status, error) = match &outcome {
        Ok(_) => ("ok", Scalar::Null),
        Err(message) => ("failed", text(message)),
    };
    let columns = [
        ("workload", Scalar::Text(cell.workload_name())),
        ("role", text(trial.role)),
        ("run_id", Scalar::Text(plan.id(cell))),
        ("seed", Scalar::Int(cell.seed as i64)),
        ("policy", text(&cell.family)),
        ("autoscaler", text(cell.autoscaler.name())),
        ("change", text(change)),
        ("amount", Scalar::Float(amount)),
        ("status", text(status)),
        ("error", error),
    ];
    let mut columns: Vec<(String, Scalar)> = columns.map(|(name, value)| (name.to_owned(), value)).into();
    if let Ok(metrics) = outcome {
        columns.extend(metrics.columns().into_iter().map(|(name, value)| (name, scalar(value))));
    }
    RunRow { columns }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::json;

    use super::*;
    use crate::sweep::grid::Grid;
    use crate::sweep::grid::source::Source;

    struct Unwatched;

    impl Progress for Unwatched {
        fn run_ended(&self, _: u64) {}

        fn is_interrupted(&self) -> bool {
            false
        }
    }

    fn plan(autoscaler: &str) -> Plan {
        let grid = json!({
            "workloads": [{"name": "w", "generate": {
                "arrivals": {"poisson": {"phases": [{"duration_s": 120, "rate_per_s": 4}, {"duration_s": 120, "rate_per_s": 12}]}},
                "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}],
            "seeds": [1, 2],
            "cluster": {"scale_up_delay_s": 20},
            "autoscalers": [serde_json::from_str::<serde_json::Value>(autoscaler).unwrap()],
        });
        let source = Source { file: "x.json".into(), text: grid.to_string() };
        Plan::new(Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()).unwrap()
    }

    fn tested(plan: &Plan) -> Vec<RunRow> {
        let chosen = [Chosen { role: "best", cells: plan.unique().to_vec() }];
        let rows = test(plan, &chosen, &Unwatched).unwrap();
        assert_eq!(rows.len(), count(plan, &chosen));
        assert!(rows.len() <= most_runs(plan));
        rows
    }

    fn number(row: &RunRow, name: &str) -> f64 {
        match row.get(name) {
            Some(Scalar::Float(value)) => *value,
            Some(Scalar::Int(value)) => *value as f64,
            other => panic!("{name}: {other:?}"),
        }
    }

    #[test]
    fn every_change_changes_what_it_says() {
        let plan = plan(r#"{"keda": {"target_per_replica": 2}}"#);
        let rows = tested(&plan);
        let of = |change: &str, amount: f64| -> Vec<&RunRow> {
            rows.iter()
                .filter(|row| row.text("change") == change && number(row, "amount") == amount)
                .collect()
        };
        assert!(rows.iter().all(|row| row.text("status") == "ok"), "{rows:?}");
        let requests: Vec<f64> = (0..2).map(|place| plan.requests(plan.unique()[place]) as f64).collect();
        for (factor, rows) in [(1.1, of("traffic", 1.1)), (1.2, of("traffic", 1.2))] {
            assert_eq!(rows.len(), 2, "one a seed");
            for (row, requests) in rows.iter().zip(&requests) {
                assert!((number(row, "num_requests") / requests - factor).abs() < 0.03);
            }
        }
        let mean = |rows: &[&RunRow], name: &str| {
            rows.iter().map(|row| number(row, name)).sum::<f64>() / rows.len() as f64
        };
        assert!(mean(&of("step_times", 1.1), "p50_e2e_s") > 1.05 * mean(&of("step_times", 0.9), "p50_e2e_s"));
        assert!(mean(&of("cold_start", 2.0), "p99_e2e_s") > mean(&of("cold_start", 1.5), "p99_e2e_s"));
        let days: Vec<&RunRow> = rows.iter().filter(|row| row.text("change") == "other_seed").collect();
        assert_eq!(days.len(), 3);
        assert_ne!(number(days[0], "num_requests"), number(days[1], "num_requests"));
        assert_eq!(rows, tested(&plan), "the same once more");
    }

    #[test]
    fn a_fixed_fleet_starts_nothing() {
        let rows = tested(&plan(r#"{"static": {"replicas": 2}}"#));
        assert!(!rows.iter().any(|row| row.text("change") == "cold_start"));
        assert!(rows.iter().any(|row| row.text("change") == "step_times"));
    }
}
