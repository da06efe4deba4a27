//! Shadow runs: what other policies would have done on recorded traffic, what that had cost, and what it had
//! broken.
//!
//! A recording ([`recording`]) becomes a workload ([`rebuild`]) and a schedule, the replicas that there were.
//! First the schedule is replayed and held against what was measured: how far the model can be trusted on
//! this service. Then every policy of a grid runs on the same requests, on the cluster that the grid
//! describes.

pub mod rebuild;
pub mod recording;
pub mod scrape;
mod series;

use std::fmt;

use serde_json::{Value, json};

use super::recommend::refine::parsed;
use crate::RESULTS_VERSION;
use crate::simulation::metric::find;
use crate::simulation::{BillingUnit, Limits, MetricValue, RunMetrics, Workspace};
use crate::sweep::grid::Grid;
use crate::sweep::objectives::constraints::{Check, Constraint, unanswered};
use crate::sweep::plan::Plan;
use crate::sweep::run::{Interrupted, Progress, run_all, run_cell_in_detail};
use crate::sweep::tables::row::{RunRow, Scalar};
use recording::Recording;

/// What a shadow run leaves behind: its answer, the requests it was made of, and the grid to sweep on.
pub const ANSWER: &str = "shadow.json";
pub const TRACE: &str = "recorded.csv";
pub const GRID: &str = "grid.json";

/// What stands for the workload of a grid.
const WORKLOAD: &str = "recorded";

/// Something that was measured, beside the replay of what was done.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub what: String,
    pub unit: &'static str,
    pub measured: f64,
    pub replayed: f64,
}

impl Compared {
    /// By what share the replay is off; None where nothing was measured to be a share of.
    pub fn off(&self) -> Option<f64> {
        (self.measured != 0.0).then(|| self.replayed / self.measured - 1.0)
    }
}

/// One run on the recorded traffic.
#[derive(Debug, Clone, PartialEq)]
pub struct Run {
    pub run_id: String,
    pub family: String,
    /// What the axes of the grid vary.
    pub varying: Value,
    pub error: Option<String>,
    pub cost_usd: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
    /// Every metric that compares latencies, scaling and attainment.
    pub metrics: Vec<(String, f64)>,
    pub checks: Vec<(Constraint, Check)>,
}

impl Run {
    fn keeps(&self) -> bool {
        self.error.is_none() && self.checks.iter().all(|(_, check)| check.kept)
    }
}

/// What came of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Shadow {
    pub agreement: Vec<Compared>,
    pub was: Run,
    /// Cheapest first, of those that keep the limits; then the others.
    pub policies: Vec<Run>,
    pub notes: Vec<String>,
}

/// Metrics that are shown of each run.
const SHOWN: [&str; 10] = [
    "mean_ttft_s",
    "p90_ttft_s",
    "p99_ttft_s",
    "mean_e2e_s",
    "p90_e2e_s",
    "p99_e2e_s",
    "attainment",
    "mean_replicas",
    "most_replicas",
    "scale_ups",
];

/// The grid with the recorded requests, which stand in [`TRACE`], in the place of its workloads. What it
/// begins with is what there was, unless it says.
pub fn grid_on(grid: &Grid, recording: &Recording) -> Value {
    let mut value = grid.as_given.clone();
    value["name"] = json!(format!("{}_shadow", grid.name));
    let span_s = recording.steps as f64 * recording.step_s;
    value["workloads"] =
        json!([{"name": WORKLOAD, "trace": {"path": TRACE, "format": "vidur", "duration_s": span_s}}]);
    if value["cluster"].is_null() {
        value["cluster"] = json!({});
    }
    if value["cluster"]["initial_replicas"].is_null() {
        let cluster = grid.cluster.get(0);
        let first = recording.replicas.first().copied().unwrap_or(1);
        value["cluster"]["initial_replicas"] =
            first.min(cluster.max_replicas).max(cluster.min_replicas).into();
    }
    value
}

/// The same with what was done as its only policy: replicas come and go when they did, without delays of
/// their own.
fn replay_of(on: &Value, recording: &Recording) -> Value {
    let mut value = on.clone();
    let mut steps: Vec<Value> = Vec::new();
    let mut last = None;
    for (step, &replicas) in recording.replicas.iter().enumerate() {
        if last != Some(replicas) {
            steps.push(json!({"at_s": step as f64 * recording.step_s, "replicas": replicas}));
            last = Some(replicas);
        }
    }
    let most = recording.replicas.iter().copied().max().unwrap_or(1).max(1);
    let period_s = (recording.steps + 1) as f64 * recording.step_s;
    value["autoscalers"] =
        json!([{"label": "as it was", "schedule": {"steps": steps, "period_s": period_s}}]);
    let first = recording.replicas.first().copied().unwrap_or(1);
    for (key, setting) in [
        ("initial_replicas", json!(first)),
        ("min_replicas", json!(0)),
        ("max_replicas", json!(most)),
        ("scale_up_delay_s", json!(0)),
        ("scale_down_delay_s", json!(0)),
        ("cold_start", json!({})),
        ("tune_interval_s", json!(recording.step_s)),
    ] {
        value["cluster"][key] = setting;
    }
    if let Some(cluster) = value["cluster"].as_object_mut() {
        // What was recorded has waited for nodes, been lost and been drained already.
        for key in [
            "node_pool",
            "max_devices",
            "failures",
            "scale_down_grace_s",
            "scale_down_order",
            "scale_down_choice",
        ] {
            cluster.shift_remove(key);
        }
    }
    value["seeds"] = json!([1]);
    value
}

/// Replays what was done and runs every policy of `grid`, whose workload is to be read at its base
/// directories, on the current rayon pool.
///
/// Errors: the grid has several clusters, or nothing can be run on the recording.
pub fn run(
    grid: &Grid,
    recording: &Recording,
    progress: &dyn Progress,
) -> Result<Result<Shadow, Interrupted>, String> {
    if grid.cluster.count() != 1 {
        let axes: Vec<String> =
            grid.cluster.axes().into_iter().map(|axis| format!("`{}`", axis.path)).collect();
        return Err(format!(
            "{}: {} found with several values, expected one cluster, the one that was recorded",
            grid.source.file,
            axes.join(", ")
        ));
    }
    if !grid.cluster.get(0).pools.is_empty() {
        return Err(format!(
            "{}: cluster.pools: found, expected a cluster of one pool: a record does not say which pool did what; leave it out",
            grid.source.file
        ));
    }
    let on = grid.as_given.clone();
    let replay =
        parsed(grid, &replay_of(&on, recording)).and_then(Plan::new).map_err(|error| error.to_string())?;
    let give_up = || progress.is_interrupted();
    let limits = Limits { give_up: Some(&give_up), ..Limits::default() };
    let cell = replay.cell(replay.unique()[0]);
    let ended = run_cell_in_detail(&cell, &replay.inputs, limits, &mut Workspace::default());
    if progress.is_interrupted() {
        return Ok(Err(Interrupted));
    }
    let (metrics, detail) = ended.map_err(|error| format!("the replay of what was done failed: {error}"))?;
    progress.run_ended(metrics.num_requests);
    let constraints = grid.objectives.constraints.on(WORKLOAD);
    let was = run_of(
        &crate::sweep::run::outcome::row(&replay, &cell, Ok(metrics.clone())),
        Value::Null,
        &constraints,
    );

    let plan = Plan::new(grid.clone()).map_err(|error| error.to_string())?;
    let rows = match run_all(&plan, progress) {
        Ok(rows) => rows,
        Err(interrupted) => return Ok(Err(interrupted)),
    };
    let varying = |index: u64| {
        let at = plan.grid.coordinates(index);
        Value::Object(
            plan.grid.autoscalers[at.autoscaler].varying(at.autoscaler_combination).into_iter().collect(),
        )
    };
    let mut policies: Vec<Run> = rows
        .iter()
        .zip(plan.unique())
        .map(|(row, &index)| run_of(row, varying(index), &constraints))
        .collect();
    let price = |run: &Run| run.cost_usd.unwrap_or(f64::INFINITY);
    policies.sort_by(|a, b| {
        b.keeps().cmp(&a.keeps()).then(price(a).total_cmp(&price(b))).then_with(|| a.run_id.cmp(&b.run_id))
    });
    let mut notes = recording.notes.clone();
    if cell.cluster.billing.cold_start {
        notes.push("`billing.cold_start`: when replicas were ordered was not recorded, so the replay does not pay for their start".into());
    }
    Ok(Ok(Shadow { agreement: agreement(recording, &replay, &metrics, &detail), was, policies, notes }))
}

fn run_of(row: &RunRow, varying: Value, constraints: &[Constraint]) -> Run {
    let number = |name: &str| match row.get(name) {
        Some(Scalar::Int(value)) => Some(*value as f64),
        Some(Scalar::Float(value)) => Some(*value).filter(|value| value.is_finite()),
        _ => None,
    };
    let count = |name: &str| number(name).unwrap_or(0.0) as u64;
    let share = unanswered(count("num_requests"), count("num_rejected") + count("num_cut"));
    Run {
        run_id: row.text("run_id"),
        family: row.text("family"),
        varying,
        error: Some(row.text("error")).filter(|error| !error.is_empty()),
        cost_usd: number("total_cost_usd"),
        cost_usd_per_month: number("cost_usd_per_month"),
        metrics: SHOWN.iter().filter_map(|name| Some(((*name).to_owned(), number(name)?))).collect(),
        checks: constraints
            .iter()
            .map(|limit| (*limit, limit.check_answered(number(&limit.metric.name), share)))
            .collect(),
    }
}

/// What was measured beside what the replay of the same replicas comes to.
fn agreement(
    recording: &Recording,
    plan: &Plan,
    metrics: &RunMetrics,
    detail: &crate::simulation::Detail,
) -> Vec<Compared> {
    let compared =
        |what: &str, unit, measured, replayed| Compared { what: what.into(), unit, measured, replayed };
    let sum = |values: &[f64]| values.iter().sum::<f64>();
    let weighted =
        |means: &[f64]| means.iter().zip(&recording.arrivals).map(|(mean, count)| mean * count).sum::<f64>();
    let totals = &plan.inputs.workloads[0].summary;
    let hours = recording.step_s / 3600.0;
    let replica_hours = hours * sum(&recording.recorded_replicas);
    let mut all = vec![
        compared("requests", "", sum(&recording.arrivals), metrics.num_requests as f64),
        compared("prompt tokens", "", weighted(&recording.prefill_tokens), totals.prefill_tokens as f64),
        compared("output tokens", "", weighted(&recording.decode_tokens), totals.decode_tokens as f64),
        compared("replica hours", "h", replica_hours, metrics.replica_hours),
        compared("cost", "US$", priced(recording, plan), metrics.total_cost_usd),
    ];
    // The replay scraped as the service was.
    let scraped = scrape::of_detail(detail, metrics.simulated_s, recording.step_s);
    let mean = |values: &[f64]| sum(values) / values.len().max(1) as f64;
    for (what, file, measured) in [
        ("running requests, mean", "vllm_num_requests_running.json", &recording.running),
        ("waiting requests, mean", "vllm_num_requests_waiting.json", &recording.waiting),
    ] {
        let Some(measured) = measured else { continue };
        let series = scraped
            .iter()
            .find(|(name, _)| name == file)
            .map(|(_, value)| &value["data"]["result"][0]["values"]);
        let values: Vec<f64> = series
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(|sample| sample[1].as_str()?.parse().ok())
            .take(recording.steps)
            .collect();
        all.push(compared(what, "", mean(measured), mean(&values)));
    }
    for (name, measured) in &recording.latencies {
        let replayed = find(name).and_then(|metric| match metric.value(metrics) {
            MetricValue::Number(number) => Some(number),
            _ => None,
        });
        if let Some(replayed) = replayed {
            all.push(compared(name, "s", *measured, replayed));
        }
    }
    all
}

/// What the recorded replicas cost at the cluster's prices.
fn priced(recording: &Recording, plan: &Plan) -> f64 {
    let cell = plan.cell(plan.unique()[0]);
    let deployment = &plan.inputs.times(&cell)[0].deployment;
    let price = cell.cluster.node_price_usd_per_hour.or(deployment.node.price_usd_per_hour).unwrap_or(0.0);
    let devices = f64::from(deployment.tensor_parallel * deployment.pipeline_parallel)
        / f64::from(deployment.node.devices_per_node);
    let nodes = |replicas: f64| match cell.cluster.billing.unit {
        BillingUnit::Node => (replicas * devices).ceil(),
        BillingUnit::Device => replicas * devices,
    };
    // A part of a replica is a mean over the step: there was one more for that part of it.
    let mean_nodes = |replicas: f64| {
        let part = replicas.fract();
        (1.0 - part) * nodes(replicas.floor()) + part * nodes(replicas.floor() + 1.0)
    };
    recording
        .recorded_replicas
        .iter()
        .map(|&replicas| mean_nodes(replicas) * price * recording.step_s / 3600.0)
        .sum()
}

impl Shadow {
    /// `shadow.json`.
    pub fn to_json(&self, grid: &Value) -> Value {
        let agreement = self.agreement.iter().map(|compared| {
            json!({"what": compared.what, "unit": compared.unit, "measured": compared.measured, "replayed": compared.replayed,
                "off": compared.off()})
        });
        json!({
            "agreement": agreement.collect::<Vec<_>>(),
            "as_it_was": self.run_json(&self.was),
            "policies": self.policies.iter().map(|run| self.run_json(run)).collect::<Vec<_>>(),
            "notes": self.notes,
            "provenance": {"results_version": RESULTS_VERSION, "scalefront_version": env!("CARGO_PKG_VERSION"), "grid": grid},
        })
    }

    fn run_json(&self, run: &Run) -> Value {
        let checks = run.checks.iter().map(|(limit, check)| {
            json!({"metric": limit.metric.name, "limit": limit.limit, "value": check.value, "margin": check.margin, "kept": check.kept})
        });
        json!({
            "run_id": run.run_id,
            "family": run.family,
            "setting": run.varying,
            "error": run.error,
            "cost_usd": run.cost_usd,
            "cost_usd_per_month": run.cost_usd_per_month,
            "saved_usd": self.saved(run),
            "saved_share": self.saved(run).zip(self.was.cost_usd).map(|(saved, was)| saved / was),
            "constraints": checks.collect::<Vec<_>>(),
            "metrics": run.metrics.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<serde_json::Map<_, _>>(),
        })
    }

    /// Against the replay, not the record: both sides by the same model.
    fn saved(&self, run: &Run) -> Option<f64> {
        Some(self.was.cost_usd? - run.cost_usd?)
    }

    fn line(&self, run: &Run) -> String {
        let setting = if run.varying.as_object().is_none_or(serde_json::Map::is_empty) {
            String::new()
        } else {
            format!(" {}", run.varying)
        };
        if let Some(error) = &run.error {
            return format!("{}{setting}: failed: {error}", run.family);
        }
        let cost = run.cost_usd.unwrap_or(f64::NAN);
        let saved = self.saved(run).zip(self.was.cost_usd).map_or(String::new(), |(saved, was)| {
            let word = if saved >= 0.0 { "saved" } else { "more" };
            format!(", {:.1} % {word}", 100.0 * saved.abs() / was)
        });
        let latency = |name: &str| {
            run.metrics.iter().find(|(other, _)| other == name).map_or(f64::NAN, |(_, value)| *value)
        };
        let broken: Vec<String> = run
            .checks
            .iter()
            .filter(|(_, check)| !check.kept)
            .map(|(limit, check)| {
                format!(
                    "{limit} ({})",
                    check.value.map_or("not measured".into(), |value| format!("{value:.3}"))
                )
            })
            .collect();
        let limits = match (run.checks.is_empty(), broken.is_empty()) {
            (true, _) => String::new(),
            (false, true) => "; keeps every limit".into(),
            (false, false) => format!("; breaks {}", broken.join(", ")),
        };
        format!(
            "{}{setting}: ${cost:.2}{saved}; P99 TTFT {:.2} s, P90 end to end {:.2} s{limits}",
            run.family,
            latency("p99_ttft_s"),
            latency("p90_e2e_s")
        )
    }
}

impl fmt::Display for Shadow {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "How far the replay of what was done agrees with what was measured")?;
        for compared in &self.agreement {
            let off = compared.off().map_or("".into(), |off| format!("  {:+.1} %", 100.0 * off));
            writeln!(
                f,
                "  {:24} measured {:>14.3} {}  replayed {:>14.3}{off}",
                compared.what, compared.measured, compared.unit, compared.replayed
            )?;
        }
        writeln!(
            f,
            "\nWhat was done, replayed\n  {}\n\nWhat each policy would have done",
            self.line(&self.was)
        )?;
        for run in &self.policies {
            writeln!(f, "  {}", self.line(run))?;
        }
        for note in &self.notes {
            writeln!(f, "note: {note}")?;
        }
        Ok(())
    }
}
