//! The same search for a fleet of several pools: a schedule for each, changed one at a time or all from some
//! time on.
//!
//! It knows nothing of what pools mean to each other but what runs tell, and there is no bound from below. A
//! budget cuts schedules that ask for more than there is, as it cuts policies.

use super::explore::{FOLLOWERS, Traffic, constants, explore};
use super::{FluidBound, Objective, OracleSettings, ReplicaSchedule, ScheduleLimits};
use crate::autoscaler::AutoscalerSettings;
use crate::autoscaler::StaticSettings;
use crate::simulation::fleet::{FleetInputs, Role, simulate_fleet_parts};
use crate::simulation::{Parts, RunInputs, RunMetrics, SimulationError, Workspace};
use crate::workload::Workload;

/// Schedules by pools that no other found ones beat on both cost and latency.
#[derive(Debug, Clone)]
pub struct FleetPoint {
    pub schedules: Vec<ReplicaSchedule>,
    pub metrics: RunMetrics,
}

/// What the schedule of each pool may be.
pub fn limits(inputs: &FleetInputs, settings: &OracleSettings) -> Vec<ScheduleLimits> {
    inputs.pools.iter().map(|pool| super::limits(pool, settings)).collect()
}

/// Simulations of a search from so many starts.
pub fn simulations(inputs: &FleetInputs, starts: usize, settings: &OracleSettings) -> u64 {
    (starts + constants(&limits(inputs, settings)).len() + FOLLOWERS) as u64 + u64::from(settings.budget)
}

/// One run in which each pool follows its schedule. No policy is asked.
pub fn evaluate(
    inputs: &FleetInputs,
    limits: &[ScheduleLimits],
    schedules: &[ReplicaSchedule],
    workspace: &mut Workspace,
) -> Result<RunMetrics, SimulationError> {
    static NOBODY: AutoscalerSettings = AutoscalerSettings::Static(StaticSettings { replicas: 1 });
    let parts = (0..inputs.pools.len()).map(|pool| {
        let of_pool = &inputs.pools[pool];
        Parts {
            autoscaler: Some(schedules[pool].replay(&limits[pool])),
            initial_replicas: of_pool.cluster.initial_replicas,
            scheduler: Parts::of(of_pool).scheduler,
        }
    });
    simulate_fleet_parts(&FleetInputs { autoscaler: &NOBODY, ..inputs.clone() }, parts.collect(), workspace)
}

/// Searches with the caller's way to run fleets (see [`evaluate`]), side by side if it likes: results in the
/// order asked. By rising cost.
pub fn search_with(
    inputs: &FleetInputs,
    starts: &[Vec<ReplicaSchedule>],
    settings: &OracleSettings,
    objective: Objective,
    mut evaluate: impl FnMut(&[Vec<ReplicaSchedule>]) -> Vec<Result<RunMetrics, SimulationError>>,
) -> Vec<FleetPoint> {
    let judged = |fleets: &[Vec<ReplicaSchedule>]| {
        evaluate(fleets).into_iter().map(|ended| objective.judge(ended)).collect()
    };
    let traffic = Traffic {
        arrived_at_s: &inputs.workload.arrived_at_s,
        duration_s: inputs.workload.end_s(),
        busy_replicas: (0..inputs.pools.len()).map(|pool| busy_replicas(inputs, pool, settings)).collect(),
        seed: settings.search_seed ^ inputs.pools[0].seed.rotate_left(32),
    };
    let (entries, _) = explore(
        &limits(inputs, settings),
        &traffic,
        starts,
        settings,
        objective.reference,
        &mut |_| (),
        judged,
    );
    entries
        .into_iter()
        .map(|entry| FleetPoint { schedules: entry.schedules, metrics: entry.judged })
        .collect()
}

/// Replicas of a pool that its part of the work keeps busy: of the requests of its model, prompts or answers
/// where it has that role alone, in equal shares where several pools have it.
fn busy_replicas(inputs: &FleetInputs, number: usize, settings: &OracleSettings) -> f64 {
    let (workload, pool) = (inputs.workload, &inputs.cluster.pools[number]);
    let model = pool.settings().model.as_str();
    let own = workload.models.as_ref().and_then(|models| models.names.iter().position(|name| name == model));
    let mut part = Workload { duration_s: Some(workload.end_s()), ..Workload::default() };
    for id in 0..workload.len() {
        let is_own =
            workload.models.as_ref().is_none_or(|models| Some(usize::from(models.of_request[id])) == own);
        if is_own {
            let decode_tokens = if pool.role == Role::Prefill { 1 } else { workload.decode_tokens[id] };
            part.push(workload.arrived_at_s[id], workload.prefill_tokens[id], decode_tokens);
        }
    }
    let work_s = |workload: &Workload| {
        FluidBound::new(&RunInputs { workload, ..inputs.pools[number].clone() }).work_s()
    };
    let mut busy_s = work_s(&part);
    if pool.role == Role::Decode {
        // What their prompts take is done elsewhere.
        part.decode_tokens.iter_mut().for_each(|tokens| *tokens = 1);
        busy_s -= work_s(&part);
    }
    let alike = inputs
        .cluster
        .pools
        .iter()
        .filter(|other| other.role == pool.role && other.settings().model == model)
        .count();
    busy_s.max(0.0) / workload.end_s().max(settings.step_s) / alike as f64
}
