//! The best a policy with perfect foresight was found to do: clairvoyant schedules of replicas for one
//! workload, cluster and seed.
//!
//! A schedule obeys the delays and limits of online policies, and is judged by simulation. The search keeps
//! the non-dominated schedules (cost against latency) and changes them: one more or one fewer replica at all
//! moments at which traffic is alike (`moments.rs`), or for a while (which lengthens, shortens, shifts,
//! splits, merges and removes steps, since its ends snap to steps that are there), or the beginning of one
//! with the end of another (the two halves of a run hardly know of each other). It starts from what online
//! policies did, so it is never worse than these, and from fleets that are constant or follow traffic. It is
//! a search and no proof: [`FluidBound`] says how far away the impossible begins.

mod explore;
pub mod fleet;
mod fluid;
pub mod informed;
mod moments;
mod schedule;
mod shared_runs;

pub use fluid::FluidBound;
pub use schedule::{ReplicaSchedule, ScheduleLimits};
pub use shared_runs::{SharedRuns, Sums};

use explore::{FOLLOWERS, Schedules, Traffic, constants, explore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;
use crate::simulation::{Parts, RunInputs, RunMetrics, SimulationError, Workspace, simulate_parts};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OracleSettings {
    /// Simulations the search may spend beyond those of its starts.
    pub budget: u32,
    /// Decisions are taken at multiples of this.
    pub step_s: f64,
    /// Simulations between two looks at the front; they may run side by side. Changes the result, not its
    /// quality.
    pub batch: u32,
    /// Most schedules kept.
    pub archive: u32,
    /// Seed of the search.
    pub search_seed: u64,
}

impl Default for OracleSettings {
    fn default() -> Self {
        Self { budget: 2000, step_s: 0.5, batch: 16, archive: 100, search_seed: 1 }
    }
}

impl OracleSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.at_least("budget", self.budget.into(), 1);
        faults.interval_s("step_s", self.step_s);
        faults.at_least("batch", self.batch.into(), 1);
        faults.at_least("archive", self.archive.into(), 2);
    }
}

/// A schedule that no other found one beats on both cost and latency.
#[derive(Debug, Clone)]
pub struct OraclePoint {
    pub schedule: ReplicaSchedule,
    pub metrics: RunMetrics,
}

#[derive(Debug, Clone)]
pub struct OracleResult {
    /// In order of rising cost and falling latency.
    pub points: Vec<OraclePoint>,
    pub fluid_bound: FluidBound,
    pub simulations: u64,
}

/// What a schedule may be in these runs.
pub fn limits(inputs: &RunInputs, settings: &OracleSettings) -> ScheduleLimits {
    let cluster = inputs.cluster;
    ScheduleLimits {
        initial_replicas: cluster.initial_replicas,
        min_replicas: cluster.min_replicas,
        max_replicas: cluster.max_replicas,
        scale_up_delay_s: inputs.lead_s(),
        scale_down_delay_s: cluster.scale_down_delay_s,
        scale_down_order: cluster.scale_down_order,
        step_s: settings.step_s,
    }
}

/// Simulations of a search from so many starts.
pub fn simulations(inputs: &RunInputs, starts: usize, settings: &OracleSettings) -> u64 {
    (starts + constants(&[limits(inputs, settings)]).len() + FOLLOWERS) as u64 + u64::from(settings.budget)
}

/// One run of a schedule. The autoscaler of `inputs` is not asked.
pub fn evaluate(
    inputs: &RunInputs,
    limits: &ScheduleLimits,
    schedule: &ReplicaSchedule,
    workspace: &mut Workspace,
) -> Result<RunMetrics, SimulationError> {
    simulate_parts(
        inputs,
        Parts {
            autoscaler: Some(schedule.replay(limits)),
            initial_replicas: inputs.cluster.initial_replicas,
            ..Parts::of(inputs)
        },
        workspace,
    )
}

/// What a schedule is judged by: two figures that are to be small, each `None` if the run does not count.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    pub latency: &'a dyn Fn(&RunMetrics) -> Option<f64>,
    pub cost: &'a dyn Fn(&RunMetrics) -> Option<f64>,
    /// Cost and latency of the reference point: what lies beyond adds nothing to a hypervolume and is not
    /// looked for.
    pub reference: Option<(f64, f64)>,
}

impl Objective<'_> {
    /// Cost, latency and metrics of a run that counts: one that leaves requests unserved does not.
    fn judge(&self, ended: Result<RunMetrics, SimulationError>) -> explore::Judged<RunMetrics> {
        let metrics = ended.ok()?;
        Some(((self.cost)(&metrics)?, (self.latency)(&metrics)?, metrics))
    }
}

/// Schedules of the only pool there is.
fn only(schedules: &[Schedules]) -> Vec<ReplicaSchedule> {
    schedules.iter().map(|of_pools| of_pools[0].clone()).collect()
}

fn alone(schedules: &[ReplicaSchedule]) -> Vec<Schedules> {
    schedules.iter().map(|schedule| vec![schedule.clone()]).collect()
}

/// Searches on one thread; `progress` is told of simulations done.
pub fn search(
    inputs: &RunInputs,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    objective: Objective,
    progress: impl FnMut(u64),
) -> OracleResult {
    let limits = limits(inputs, settings);
    let mut workspace = Workspace::default();
    let evaluate = |schedules: &[ReplicaSchedule]| {
        schedules.iter().map(|schedule| evaluate(inputs, &limits, schedule, &mut workspace)).collect()
    };
    search_with(inputs, starts, settings, objective, progress, evaluate)
}

/// The same with the caller's way to run schedules (see [`evaluate`]), side by side if it likes: results in
/// the order asked.
pub fn search_with(
    inputs: &RunInputs,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    objective: Objective,
    mut progress: impl FnMut(u64),
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Result<RunMetrics, SimulationError>>,
) -> OracleResult {
    let judged = |schedules: &[Schedules]| {
        evaluate(&only(schedules)).into_iter().map(|result| objective.judge(result)).collect()
    };
    let fluid_bound = FluidBound::new(inputs);
    let traffic = Traffic::of(inputs, &fluid_bound, settings);
    let (limits, starts) = ([limits(inputs, settings)], alone(starts));
    let (entries, done) =
        explore(&limits, &traffic, &starts, settings, objective.reference, &mut progress, judged);
    let point = |mut entry: explore::Entry<RunMetrics>| OraclePoint {
        schedule: entry.schedules.remove(0),
        metrics: entry.judged,
    };
    OracleResult { points: entries.into_iter().map(point).collect(), fluid_bound, simulations: done }
}

/// The same by cost and latency alone, which `evaluate` gives in the order asked, such as [`SharedRuns::figures`]:
/// the schedules that [`search_with`] finds, by rising cost.
pub fn search_by_figures(
    inputs: &RunInputs,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Option<(f64, f64)>>,
) -> Vec<ReplicaSchedule> {
    let traffic = Traffic::of(inputs, &FluidBound::new(inputs), settings);
    let judged = |schedules: &[Schedules]| {
        evaluate(&only(schedules))
            .into_iter()
            .map(|figures| figures.map(|(cost, latency)| (cost, latency, ())))
            .collect()
    };
    let (entries, _) = explore(
        &[limits(inputs, settings)],
        &traffic,
        &alone(starts),
        settings,
        reference,
        &mut |_| (),
        judged,
    );
    entries.into_iter().map(|mut entry| entry.schedules.remove(0)).collect()
}

/// Searches for schedules that are good on average over draws of which each has the rates of all: `evaluate`
/// gives mean cost and mean latency, in the order asked. `arrived_at_s` are the arrivals of all draws
/// together, in order. Returns schedules by rising cost.
pub fn search_over_draws(
    inputs: &RunInputs,
    arrived_at_s: &[f64],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Option<(f64, f64)>>,
) -> Vec<ReplicaSchedule> {
    let duration_s = inputs.workload.end_s();
    let busy_replicas = vec![FluidBound::new(inputs).work_s() / duration_s.max(settings.step_s)];
    let traffic = Traffic { arrived_at_s, duration_s, busy_replicas, seed: settings.search_seed };
    let judged = |schedules: &[Schedules]| {
        evaluate(&only(schedules))
            .into_iter()
            .map(|means| means.map(|(cost, latency)| (cost, latency, ())))
            .collect()
    };
    let (entries, _) =
        explore(&[limits(inputs, settings)], &traffic, &[], settings, reference, &mut |_| (), judged);
    entries.into_iter().map(|mut entry| entry.schedules.remove(0)).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::explore::followers;
    use super::moments::Moments;
    use super::*;
    use crate::hardware::{Deployment, ExecutionTime, Files};
    use crate::simulation::{ClusterSettings, ScaleDownOrder, simulate_in_detail};
    use crate::workload::Workload;

    fn on(cluster: serde_json::Value, workload: &Workload, test: impl Fn(&RunInputs)) {
        let cluster: ClusterSettings = serde_json::from_value(cluster).unwrap();
        let autoscaler = serde_json::from_value(json!({"inferline": {}})).unwrap();
        let files = Files::default();
        let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).unwrap();
        let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
        test(&RunInputs::new(workload, &cluster, &autoscaler, &times, 1).unwrap());
    }

    fn tiny() -> Workload {
        let mut workload = Workload::default();
        // 4/s for 15 s, 22/s for 10 s, 8/s for 15 s.
        for i in 0..60 {
            workload.push(f64::from(i) * 0.25, 256, 1);
        }
        for i in 0..220 {
            workload.push(15.0 + f64::from(i) / 22.0, 256, 1);
        }
        for i in 0..120 {
            workload.push(25.0 + f64::from(i) / 8.0, 256, 1);
        }
        workload
    }

    const P90: Objective = Objective {
        latency: &|metrics| metrics.e2e_s.map(|e2e| e2e.p90),
        cost: &|metrics| Some(metrics.total_cost_usd),
        reference: None,
    };

    /// With three replicas at most and a change every 10 s, all 27 schedules can be tried.
    #[test]
    fn finds_the_front_of_a_tiny_instance() {
        let cluster = json!({"max_replicas": 3, "scale_up_delay_s": 10, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        on(cluster, &tiny(), |inputs| {
            let settings = OracleSettings { budget: 400, step_s: 10.0, ..OracleSettings::default() };
            let limits = limits(inputs, &settings);
            let mut workspace = Workspace::default();
            let found = search(inputs, &[], &settings, P90, |_| ());
            let found: Vec<(f64, f64)> = found
                .points
                .iter()
                .map(|p| (p.metrics.total_cost_usd, p.metrics.e2e_s.unwrap().p90))
                .collect();
            assert!(found.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{found:?}");
            let mut all = Vec::new();
            for plan in 0..27_u32 {
                let slots = [plan % 3, plan / 3 % 3, plan / 9].map(|n| n + 1);
                let mut schedule = ReplicaSchedule::constant(1);
                for (slot, &replicas) in slots.iter().enumerate() {
                    schedule =
                        schedule.spliced(10.0 * (slot + 1) as f64, &ReplicaSchedule::constant(replicas));
                }
                let metrics = evaluate(inputs, &limits, &schedule.within(&limits), &mut workspace).unwrap();
                all.push((metrics.total_cost_usd, metrics.e2e_s.unwrap().p90));
            }
            for point in &all {
                assert!(
                    found.iter().any(|f| f.0 <= point.0 && f.1 <= point.1),
                    "{point:?} is better than {found:?}"
                );
            }
            assert!(all.iter().all(|a| a.0 >= FluidBound::new(inputs).cost_for_latency_usd(a.1, 0.9)));
        });
    }

    /// What is right for one burst is found for all at once: few runs find schedules of twenty bursts that
    /// are as fast as three replicas from their beginning to their end, ordered ahead of each, and one
    /// between them; for a twentieth more money at most.
    #[test]
    fn bursts_are_met_together() {
        let mut workload = Workload::default();
        for burst in 0..20 {
            // 8/s for 30 s, 35/s for 10 s.
            let at_s = 40.0 * f64::from(burst);
            (0..240).for_each(|i| workload.push(at_s + f64::from(i) / 8.0, 256, 1));
            (0..350).for_each(|i| workload.push(at_s + 30.0 + f64::from(i) / 35.0, 256, 1));
        }
        on(
            json!({"max_replicas": 6, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            &workload,
            |inputs| {
                let settings = OracleSettings { budget: 1000, ..OracleSettings::default() };
                let limits = limits(inputs, &settings);
                let bursts: Vec<(f64, f64)> = (0..20)
                    .map(|burst| 40.0 * f64::from(burst) + 30.0)
                    .map(|at_s| (at_s, at_s + 10.0))
                    .collect();
                let by_hand = ReplicaSchedule::constant(1).bumped(&bursts, 2).within(&limits);
                let by_hand = evaluate(inputs, &limits, &by_hand, &mut Workspace::default()).unwrap();
                let (cost, p90) = (by_hand.total_cost_usd, by_hand.e2e_s.unwrap().p90);
                let found =
                    search(inputs, &[], &settings, Objective { reference: Some((5.0, 3.0)), ..P90 }, |_| ());
                let better = found
                    .points
                    .iter()
                    .any(|p| p.metrics.total_cost_usd <= 1.05 * cost && p.metrics.e2e_s.unwrap().p90 <= p90);
                let points: Vec<(f64, f64)> = found
                    .points
                    .iter()
                    .map(|p| (p.metrics.total_cost_usd, p.metrics.e2e_s.unwrap().p90))
                    .collect();
                assert!(better, "US$ {cost} and {p90} s by hand; found {points:?}");
            },
        );
    }

    /// Every search runs the fleets that follow traffic.
    #[test]
    fn traffic_is_followed_from_the_start() {
        on(
            json!({"max_replicas": 6, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            &tiny(),
            |inputs| {
                let settings = OracleSettings { budget: 1, ..OracleSettings::default() };
                let (limits, mut workspace, mut tried) =
                    (limits(inputs, &settings), Workspace::default(), Vec::new());
                let evaluate = |schedules: &[ReplicaSchedule]| {
                    tried.extend_from_slice(schedules);
                    schedules
                        .iter()
                        .map(|schedule| evaluate(inputs, &limits, schedule, &mut workspace))
                        .collect()
                };
                search_with(inputs, &[], &settings, P90, |_| (), evaluate);
                let last_s = inputs.workload.arrived_at_s[inputs.workload.len() - 1];
                let moments = Moments::new(&inputs.workload.arrived_at_s, last_s, settings.step_s);
                for follower in followers(&moments, &[limits], &[FluidBound::new(inputs).work_s() / last_s]) {
                    assert!(tried.contains(&follower[0].within(&limits)), "{follower:?}");
                }
            },
        );
        // 4/s, then 22/s, then 8/s: twice as many replicas as the work of 10/s would keep busy.
        let moments = Moments::new(&tiny().arrived_at_s, tiny().end_s(), 0.5);
        let limits = ScheduleLimits {
            initial_replicas: 1,
            min_replicas: 1,
            max_replicas: 64,
            scale_up_delay_s: 2.0,
            scale_down_delay_s: 0.0,
            scale_down_order: ScaleDownOrder::StartingFirst,
            step_s: 0.5,
        };
        let followers: Vec<ReplicaSchedule> =
            followers(&moments, &[limits], &[5.0]).into_iter().flatten().collect();
        assert_eq!(followers.len(), FOLLOWERS);
        assert_eq!([5.0, 20.0, 35.0].map(|at_s| followers[3].at(at_s)), [4, 22, 8]);
        assert_eq!([5.0, 20.0, 35.0].map(|at_s| followers[9].at(at_s)), [7, 16, 9]);
    }

    /// A run of a policy and the replay of what it did are the same run, so a search that starts there is
    /// never worse.
    #[test]
    fn replays_what_a_policy_did() {
        on(json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}}), &tiny(), |inputs| {
            let mut workspace = Workspace::default();
            let (online, detail) = simulate_in_detail(inputs, &mut workspace).unwrap();
            assert!(online.scale_ups > 0);
            let settings = OracleSettings { budget: 120, ..OracleSettings::default() };
            let limits = limits(inputs, &settings);
            let realised = ReplicaSchedule::realised(&detail.replicas);
            assert_eq!(realised.within(&limits), realised);
            assert_eq!(evaluate(inputs, &limits, &realised, &mut workspace).unwrap(), online);
            let found = search(inputs, &[realised], &settings, P90, |_| ());
            let p90 = online.e2e_s.unwrap().p90;
            assert!(
                found.points.iter().any(|p| p.metrics.total_cost_usd <= online.total_cost_usd
                    && p.metrics.e2e_s.unwrap().p90 <= p90)
            );
        });
    }

    /// However the caller runs a batch of schedules, the same seed finds the same.
    #[test]
    fn depends_on_nothing_but_its_inputs() {
        on(
            json!({"max_replicas": 4, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            &tiny(),
            |inputs| {
                let settings = OracleSettings { budget: 100, ..OracleSettings::default() };
                let limits = limits(inputs, &settings);
                let points = |result: OracleResult| -> Vec<(ReplicaSchedule, RunMetrics)> {
                    result.points.into_iter().map(|p| (p.schedule, p.metrics)).collect()
                };
                let backwards = |schedules: &[ReplicaSchedule]| {
                    let mut results: Vec<_> = schedules
                        .iter()
                        .rev()
                        .map(|s| evaluate(inputs, &limits, s, &mut Workspace::default()))
                        .collect();
                    results.reverse();
                    results
                };
                let one = points(search(inputs, &[], &settings, P90, |_| ()));
                assert_eq!(one, points(search_with(inputs, &[], &settings, P90, |_| (), backwards)));
                let other = OracleSettings { search_seed: 2, ..settings };
                assert_ne!(one, points(search(inputs, &[], &other, P90, |_| ())));
            },
        );
    }

    #[test]
    fn the_bound_rises_as_latency_falls() {
        on(json!({}), &tiny(), |inputs| {
            let bound = FluidBound::new(inputs);
            let costs: Vec<f64> = [10.0, 1.0, 0.5, 0.3, 0.15, 0.05]
                .iter()
                .map(|&l| bound.cost_for_latency_usd(l, 0.9))
                .collect();
            assert!(costs.is_sorted(), "{costs:?}");
            assert!(bound.cost_usd() <= costs[0] && costs[5].is_infinite());
        });
    }

    /// Replicas that must be there are paid for, unless they may be lost or a fixed fleet is smaller.
    #[test]
    fn the_bound_counts_the_replicas_there_must_be() {
        let cost = |cluster: serde_json::Value, fleets: u32| {
            let found = std::cell::Cell::new(0.0);
            on(cluster, &tiny(), |inputs| {
                found.set(FluidBound::new(inputs).with_fleets_of(fleets).cost_usd())
            });
            found.get()
        };
        let five = json!({"min_replicas": 5, "initial_replicas": 5});
        let (work, all) = (cost(json!({"min_replicas": 0}), 9), cost(five.clone(), 9));
        assert!(all > 3.0 * work, "{all} {work}");
        assert!((cost(five, 4) / all - 0.8).abs() < 1e-9);
        let lossy =
            json!({"min_replicas": 5, "initial_replicas": 5, "failures": {"mean_time_to_crash_s": 50}});
        assert_eq!(cost(lossy, 9), work);
    }
}
