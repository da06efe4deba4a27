//! The edge of the possible for the runs of a sweep: clairvoyant schedules for each workload, seed and
//! cluster.
//!
//! Every search starts from what the sweep's own runs did. A run that no schedule found weakly dominates (a
//! fleet that started warm, luck with random failures) is taken over as it is, so the edge is never worse
//! than any run.

use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::RESULTS_VERSION;
use crate::oracle::fleet::{self, FleetPoint};
use crate::oracle::{
    self, FluidBound, Objective, OraclePoint, OracleSettings, ReplicaSchedule, SharedRuns, Sums,
};
use crate::simulation::metric::Metric;
use crate::simulation::{
    FleetInputs, Inputs, Limits, MetricValue, Parts, RunInputs, RunMetrics, SimulationError, Workspace,
    simulate_fleet_in_detail, simulate_parts_in_detail,
};
use crate::sweep::objectives::Objectives;
use crate::sweep::plan::WorkloadSummary;
use crate::sweep::plan::cell::Cell;
use crate::sweep::plan::{LoadedWorkload, Plan};
use crate::sweep::run::outcome::{scalar, settings_of};
use crate::sweep::run::{Interrupted, Progress, Workspaces, inputs_of};
use crate::sweep::store::manifest::Manifest;
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::{RunRow, Scalar};
use crate::workload::MOST_KEPT;

/// The table of points.
pub const TABLE: &str = "oracle.parquet";
/// What they belong to and how they were found. Written last: without it the table does not count.
pub const ACCOUNT: &str = "oracle.json";

/// Whose edge a table holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Account {
    pub results_version: u32,
    /// The command line that searched.
    pub command: String,
    pub settings: OracleSettings,
    /// Of all searches together.
    pub simulations: u64,
    pub workloads: Vec<WorkloadSummary>,
    pub hardware: Vec<String>,
    pub grid: serde_json::Value,
    /// Of the table; none if an older version wrote this.
    #[serde(default)]
    pub table: Option<Checksum>,
}

impl Account {
    pub fn new(plan: &Plan, settings: &OracleSettings, command: String) -> Self {
        Self {
            results_version: RESULTS_VERSION,
            command,
            settings: settings.clone(),
            simulations: simulations(plan, settings),
            workloads: plan.inputs.workloads.iter().map(|workload| workload.summary.clone()).collect(),
            hardware: plan.provenance(),
            grid: plan.grid.as_given.clone(),
            table: None,
        }
    }

    /// Whether the edge is that of these runs.
    pub fn is_of(&self, manifest: &Manifest) -> bool {
        self.results_version == manifest.results_version
            && self.workloads == manifest.workloads
            && self.hardware == manifest.hardware
            && self.grid == manifest.grid
    }
}

/// Runs that differ in nothing but the autoscaler.
pub(super) struct Group {
    /// One of them, of an autoscaler that scales if there is one: it has all settings of the cluster.
    pub cell: Cell,
    pub cells: Vec<u64>,
}

pub(super) fn groups(plan: &Plan) -> Vec<Group> {
    let mut numbers = BTreeMap::new();
    let mut groups: Vec<Group> = Vec::new();
    for &index in plan.unique() {
        let cell = plan.cell(index);
        let key =
            (cell.workload_input, cell.hardware_inputs.clone(), cell.seed, json!(cell.cluster).to_string());
        let number = *numbers.entry(key).or_insert_with(|| {
            groups.push(Group { cell: cell.clone(), cells: Vec::new() });
            groups.len() - 1
        });
        let group = &mut groups[number];
        group.cells.push(index);
        if cell.setting_columns().len() > group.cell.setting_columns().len() {
            group.cell = cell;
        }
    }
    groups
}

/// Errors: a workload is too large to be held, and so to be run thousands of times; its arrivals depend on
/// what is searched for.
pub fn check(plan: &Plan) -> Result<()> {
    let waits = |workload: &&LoadedWorkload| {
        workload.content.sessions.as_ref().is_some_and(|sessions| sessions.waits())
    };
    if let Some(LoadedWorkload { summary: WorkloadSummary { name, .. }, .. }) =
        plan.inputs.workloads.iter().find(waits)
    {
        bail!(
            "workload `{name}`: its requests wait for answers, so they come when the fleet lets them, and nobody can foresee them; an edge \
             with foresight is defined for open arrivals: expected `generate`, a trace, or sessions with `loop` \"open\""
        );
    }
    match plan.inputs.workloads.iter().find(|workload| workload.content.streamed.is_some()) {
        None => Ok(()),
        Some(LoadedWorkload { summary: WorkloadSummary { name, requests, .. }, .. }) => {
            bail!(
                "workload `{name}`: {requests} requests are too many to search an edge for, expected at most {MOST_KEPT}; shorten the workload"
            )
        }
    }
}

/// Simulations that a search for all groups takes.
pub fn simulations(plan: &Plan, settings: &OracleSettings) -> u64 {
    let of_group = |group: &Group| {
        let starts = group.cells.len();
        let searched = match inputs_of(&group.cell, &plan.inputs).ok()? {
            Inputs::One(inputs) => oracle::simulations(&inputs, starts, settings),
            Inputs::Fleet(inputs) => fleet::simulations(&inputs, starts, settings),
        };
        Some(starts as u64 + searched)
    };
    groups(plan).iter().filter_map(of_group).sum()
}

/// Searches for every group on the current rayon pool; a row a point, by group and rising cost.
///
/// Columns: `workload`, `seed`, `found_by` (`search`, or the id of the run that was taken over),
/// `fluid_bound_usd` (no schedule with this latency can cost less; null where no bound is known), `schedule`
/// (JSON: pairs of seconds and replicas from then on; of fleets such by the names of pools); then settings of
/// workload and cluster and metrics, as in the table of runs. Does not depend on the number of threads.
pub fn search(
    plan: &Plan,
    settings: &OracleSettings,
    progress: &dyn Progress,
) -> Result<Vec<RunRow>, Interrupted> {
    let workspaces = Workspaces::default();
    let rows: Vec<Vec<RunRow>> = groups(plan)
        .par_iter()
        .with_max_len(1)
        .map(|group| of_group(plan, group, settings, progress, &workspaces))
        .collect();
    if progress.is_interrupted() { Err(Interrupted) } else { Ok(rows.into_iter().flatten().collect()) }
}

/// What one of the sweep's runs did.
struct Realised {
    run_id: String,
    /// By pools.
    schedules: Vec<ReplicaSchedule>,
    metrics: RunMetrics,
}

/// What was found: by whom, and its schedules by pools.
struct Found<'a> {
    latency: f64,
    cost: f64,
    by: &'a str,
    schedules: Vec<ReplicaSchedule>,
    metrics: &'a RunMetrics,
}

fn of_group(
    plan: &Plan,
    group: &Group,
    settings: &OracleSettings,
    progress: &dyn Progress,
    workspaces: &Workspaces<Workspace>,
) -> Vec<RunRow> {
    let give_up = || progress.is_interrupted();
    let limits = Limits { give_up: Some(&give_up), check: false, ..Limits::default() };
    let Ok(inputs) = inputs_of(&group.cell, &plan.inputs) else { return Vec::new() };
    let realised = realised(plan, group, limits, progress, workspaces);

    let objectives = &plan.grid.objectives;
    let metrics = objectives.metrics().map(|(_, metric)| metric);
    let [latency, cost] = metrics.map(objective);
    let objective = Objective {
        latency: &latency,
        cost: &cost,
        reference: objectives.reference.map(|reference| (reference.cost, reference.latency)),
    };
    let search = Search { settings, metrics, progress, workspaces };
    let (searched, fluid_bound) = match inputs.within(limits) {
        Inputs::Fleet(inputs) => (search.of_fleet(&inputs, &realised, objective), None),
        Inputs::One(inputs) => {
            let starts: Vec<ReplicaSchedule> = realised.iter().map(|run| run.schedules[0].clone()).collect();
            let points = search.of_pool(&inputs, &starts, objective);
            let points = points
                .into_iter()
                .map(|OraclePoint { schedule, metrics }| FleetPoint { schedules: vec![schedule], metrics });
            (points.collect(), Some((FluidBound::new(&inputs), inputs)))
        }
    };

    // By rising cost, falling latency; of equal points the schedule's comes first.
    let searched = searched.iter().map(|point| ("search", &point.schedules, &point.metrics));
    let taken_over = realised.iter().map(|run| (run.run_id.as_str(), &run.schedules, &run.metrics));
    let found = searched.chain(taken_over).filter_map(|(by, schedules, metrics)| {
        Some(Found {
            latency: latency(metrics)?,
            cost: cost(metrics)?,
            by,
            schedules: schedules.clone(),
            metrics,
        })
    });
    let mut found: Vec<Found> = found.collect();
    found.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.latency.total_cmp(&b.latency)));
    let mut least = f64::INFINITY;
    found.retain(|point| {
        let better = point.latency < least;
        least = least.min(point.latency);
        better
    });
    // Fixed fleets may be smaller than policies may make them.
    let fixed = group
        .cells
        .iter()
        .filter_map(|&index| plan.cell(index).autoscaler.settings().initial_replicas())
        .min();
    let fluid_bound = fluid_bound
        .map(|(bound, inputs)| (fixed.into_iter().fold(bound, FluidBound::with_fleets_of), inputs));
    let bound = |latency_s| {
        fluid_bound.as_ref().and_then(|(bound, inputs)| fluid_bound_usd(bound, inputs, objectives, latency_s))
    };
    found.iter().map(|point| row(plan, &group.cell, point, bound(point.latency))).collect()
}

/// What the group's runs did, but for those that fail: these are in the sweep's table as such.
fn realised(
    plan: &Plan,
    group: &Group,
    limits: Limits,
    progress: &dyn Progress,
    workspaces: &Workspaces<Workspace>,
) -> Vec<Realised> {
    let realise = |&index: &u64| {
        let cell = plan.cell(index);
        let inputs = inputs_of(&cell, &plan.inputs).ok()?.within(limits);
        let requests = inputs.workload().num_requests();
        let run = workspaces.run(|workspace| {
            match &inputs {
                Inputs::One(inputs) => simulate_parts_in_detail(inputs, Parts::of(inputs), workspace),
                Inputs::Fleet(inputs) => simulate_fleet_in_detail(inputs, workspace),
            }
            .ok()
        });
        progress.run_ended(requests);
        let (metrics, detail) = run.ok().flatten()?;
        let schedules = match detail.pools.is_empty() {
            true => vec![ReplicaSchedule::realised(&detail.replicas)],
            false => detail.pools.iter().map(|pool| ReplicaSchedule::realised(&pool.replicas)).collect(),
        };
        Some(Realised { run_id: plan.id(&cell), schedules, metrics })
    };
    group.cells.par_iter().with_max_len(1).filter_map(realise).collect()
}

/// What all searches of a sweep have in common.
struct Search<'a> {
    settings: &'a OracleSettings,
    metrics: [&'static Metric; 2],
    progress: &'a dyn Progress,
    workspaces: &'a Workspaces<Workspace>,
}

impl Search<'_> {
    /// One run, unless the search was called off.
    fn run(
        &self,
        requests: u64,
        run: impl FnOnce(&mut Workspace) -> Result<RunMetrics, SimulationError>,
    ) -> Result<RunMetrics, SimulationError> {
        let called_off = Err(SimulationError::CalledOff { at_s: 0.0, unfinished: requests });
        if self.progress.is_interrupted() {
            return called_off;
        }
        self.workspaces.run(run).unwrap_or(called_off)
    }

    fn of_fleet(&self, inputs: &FleetInputs, realised: &[Realised], objective: Objective) -> Vec<FleetPoint> {
        let requests = inputs.workload.num_requests();
        let limits = fleet::limits(inputs, self.settings);
        let starts: Vec<Vec<ReplicaSchedule>> = realised.iter().map(|run| run.schedules.clone()).collect();
        let evaluate = |fleets: &[Vec<ReplicaSchedule>]| {
            let one = |schedules: &Vec<ReplicaSchedule>| {
                let ended =
                    self.run(requests, |workspace| fleet::evaluate(inputs, &limits, schedules, workspace));
                self.progress.run_ended(requests);
                ended
            };
            fleets.par_iter().with_max_len(1).map(one).collect()
        };
        fleet::search_with(inputs, &starts, self.settings, objective, evaluate)
    }

    fn of_pool(
        &self,
        inputs: &RunInputs,
        starts: &[ReplicaSchedule],
        objective: Objective,
    ) -> Vec<OraclePoint> {
        let requests = inputs.workload.num_requests();
        let limits = oracle::limits(inputs, self.settings);
        let evaluate = |schedule: &ReplicaSchedule| {
            self.run(requests, |workspace| oracle::evaluate(inputs, &limits, schedule, workspace))
        };
        let Some(shared) = SharedRuns::new(inputs, &limits, self.metrics[0], self.metrics[1]) else {
            let evaluate = |schedules: &[ReplicaSchedule]| {
                let one = |schedule: &ReplicaSchedule| {
                    let ended = evaluate(schedule);
                    self.progress.run_ended(requests);
                    ended
                };
                schedules.par_iter().with_max_len(1).map(one).collect()
            };
            return oracle::search_with(inputs, starts, self.settings, objective, |_| (), evaluate).points;
        };
        let sums = Workspaces::<Sums>::default();
        let figures = |schedule: &ReplicaSchedule| {
            let found = (!self.progress.is_interrupted()).then(|| {
                self.workspaces
                    .run(|workspace| sums.run(|sums| shared.figures(schedule, workspace, sums)))
                    .and_then(|found| found)
            });
            self.progress.run_ended(requests);
            found?
                .ok()?
                .ok()
                .flatten()
                .filter(|(latency, cost)| latency.is_finite() && cost.is_finite())
                .map(|(latency, cost)| (cost, latency))
        };
        let figures =
            |schedules: &[ReplicaSchedule]| schedules.par_iter().with_max_len(1).map(figures).collect();
        let schedules =
            oracle::search_by_figures(inputs, starts, self.settings, objective.reference, figures);
        // What else there is to know of those that were found, whole runs tell.
        let point = |schedule: &ReplicaSchedule| {
            Some(OraclePoint { schedule: schedule.clone(), metrics: evaluate(schedule).ok()? })
        };
        schedules.par_iter().with_max_len(1).filter_map(point).collect()
    }
}

/// A run's value of an objective.
pub(super) fn objective(metric: &'static Metric) -> impl Fn(&RunMetrics) -> Option<f64> + Sync {
    move |metrics| match metric.value(metrics) {
        MetricValue::Number(number) => Some(number).filter(|number| number.is_finite()),
        MetricValue::Count(count) => Some(count as f64),
        MetricValue::Absent => None,
    }
}

/// Known for dollars in all where work costs money: a draining replica may be free. Of latencies it knows
/// those end to end.
fn fluid_bound_usd(
    bound: &FluidBound,
    inputs: &RunInputs,
    objectives: &Objectives,
    latency: f64,
) -> Option<f64> {
    if objectives.cost != "total_cost_usd" || !inputs.cluster.billing.drain {
        return None;
    }
    let share = match objectives.latency.strip_suffix("_e2e_s") {
        Some("max") => Some(1.0),
        Some(rank) => rank
            .strip_prefix('p')
            .and_then(|percent| percent.parse::<f64>().ok())
            .map(|percent| percent / 100.0),
        None => None,
    };
    Some(share.map_or_else(|| bound.cost_usd(), |share| bound.cost_for_latency_usd(latency, share)))
}

fn row(plan: &Plan, cell: &Cell, found: &Found, fluid_bound_usd: Option<f64>) -> RunRow {
    let schedule = match &found.schedules[..] {
        [schedule] if cell.cluster.pools.is_empty() => json!(schedule.steps()),
        schedules => {
            let named = cell
                .cluster
                .pools
                .iter()
                .zip(schedules)
                .map(|(pool, schedule)| (pool.name.clone(), json!(schedule.steps())));
            serde_json::Value::Object(named.collect())
        }
    };
    let mut columns = vec![
        ("workload".into(), Scalar::Text(cell.workload_name())),
        ("seed".into(), Scalar::Int(cell.seed as i64)),
        ("found_by".into(), Scalar::Text(found.by.into())),
        (
            "fluid_bound_usd".into(),
            fluid_bound_usd.filter(|usd| usd.is_finite()).map_or(Scalar::Null, Scalar::Float),
        ),
        ("schedule".into(), Scalar::Text(schedule.to_string())),
    ];
    let is_policys = |name: &str| name == "autoscaler" || name.starts_with("autoscaler.");
    columns.extend(settings_of(&plan.inputs, cell).into_iter().filter(|(name, _)| !is_policys(name)));
    columns.extend(found.metrics.columns().into_iter().map(|(name, value)| (name, scalar(value))));
    RunRow { columns }
}
