//! The best a policy with perfect foresight was found to do: clairvoyant schedules of replicas for one workload, cluster and seed.
//!
//! A schedule obeys the delays and limits of online policies, and is judged by simulation. The search keeps the non-dominated schedules
//! (cost against latency) and changes them: one more or one fewer replica at all moments at which traffic is alike (`moments.rs`), or for
//! a while (which lengthens, shortens, shifts, splits, merges and removes steps, since its ends snap to steps that are there), or the
//! beginning of one with the end of another (the two halves of a run hardly know of each other). It starts from what online policies did,
//! so it is never worse than these, and from fleets that are constant or follow traffic.
//! It is a search and no proof: [`FluidBound`] says how far away the impossible begins.

mod fluid;
pub mod informed;
mod moments;
mod schedule;
mod shared_runs;

pub use fluid::FluidBound;
pub use schedule::{ReplicaSchedule, ScheduleLimits};
pub use shared_runs::{SharedRuns, Sums};

use moments::Moments;
use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
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
    /// Simulations between two looks at the front; they may run side by side. Changes the result, not its quality.
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

/// Constant schedules, from which every search starts: neighbours differ by an eighth at most, or by one.
fn constants(limits: &ScheduleLimits) -> impl Iterator<Item = ReplicaSchedule> {
    let most = limits.max_replicas;
    let counts = std::iter::successors(Some(limits.min_replicas.max(1)), move |&n| (n < most).then(|| (n + 1).max(n * 9 / 8).min(most)));
    counts.map(ReplicaSchedule::constant)
}

/// Fleets that follow traffic have so many replicas for each that the work would keep busy.
const FOLLOWERS_ROOM: [f64; 6] = [1.0, 1.25, 1.5, 2.0, 3.0, 4.0];
/// Over how long they look at it, in cold starts: half before, half after now.
const FOLLOWERS_WIDTH: [f64; 4] = [1.0, 4.0, 16.0, 64.0];
/// How much of a fleet follows traffic; the rest is constant.
const FOLLOWERS_SHARE: [f64; 2] = [1.0, 0.5];
const FOLLOWERS: usize = FOLLOWERS_ROOM.len() * FOLLOWERS_WIDTH.len() * FOLLOWERS_SHARE.len();

/// Fleets that follow traffic, from which every search starts, too.
fn followers(moments: &Moments, limits: &ScheduleLimits, replicas: f64) -> Vec<ReplicaSchedule> {
    let unit_s = limits.scale_up_delay_s.max(limits.step_s);
    let mut schedules = Vec::with_capacity(FOLLOWERS);
    for width in FOLLOWERS_WIDTH {
        let rates: Vec<(f64, f64)> = moments.relative_rates(width * unit_s).collect();
        for share in FOLLOWERS_SHARE {
            schedules.extend(FOLLOWERS_ROOM.map(|room| {
                let wanted = rates.iter().map(|&(at_s, rate)| (at_s, room * replicas * (share * rate + 1.0 - share)));
                ReplicaSchedule::following(wanted.map(|(at_s, wanted)| (at_s, wanted.round() as u32)))
            }));
        }
    }
    schedules
}

/// Simulations of a search from so many starts.
pub fn simulations(inputs: &RunInputs, starts: usize, settings: &OracleSettings) -> u64 {
    (starts + constants(&limits(inputs, settings)).count() + FOLLOWERS) as u64 + u64::from(settings.budget)
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
        Parts { autoscaler: Some(schedule.replay(limits)), initial_replicas: inputs.cluster.initial_replicas, ..Parts::of(inputs) },
        workspace,
    )
}

/// What a schedule is judged by: two figures that are to be small, each `None` if the run does not count.
#[derive(Clone, Copy)]
pub struct Objective<'a> {
    pub latency: &'a dyn Fn(&RunMetrics) -> Option<f64>,
    pub cost: &'a dyn Fn(&RunMetrics) -> Option<f64>,
    /// Cost and latency of the reference point: what lies beyond adds nothing to a hypervolume and is not looked for.
    pub reference: Option<(f64, f64)>,
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
    let evaluate =
        |schedules: &[ReplicaSchedule]| schedules.iter().map(|schedule| evaluate(inputs, &limits, schedule, &mut workspace)).collect();
    search_with(inputs, starts, settings, objective, progress, evaluate)
}

/// The same with the caller's way to run schedules (see [`evaluate`]), side by side if it likes: results in the order asked.
pub fn search_with(
    inputs: &RunInputs,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    objective: Objective,
    mut progress: impl FnMut(u64),
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Result<RunMetrics, SimulationError>>,
) -> OracleResult {
    let judged = |schedules: &[ReplicaSchedule]| {
        let of = |result: Result<RunMetrics, SimulationError>| {
            // A schedule that leaves requests unserved is no candidate.
            let metrics = result.ok()?;
            Some(((objective.cost)(&metrics)?, (objective.latency)(&metrics)?, metrics))
        };
        evaluate(schedules).into_iter().map(of).collect()
    };
    let fluid_bound = FluidBound::new(inputs);
    let traffic = Traffic::of(inputs, &fluid_bound, settings);
    let (entries, done) = explore(&limits(inputs, settings), &traffic, starts, settings, objective.reference, &mut progress, judged);
    let points = entries.into_iter().map(|entry| OraclePoint { schedule: entry.schedule, metrics: entry.judged }).collect();
    OracleResult { points, fluid_bound, simulations: done }
}

/// The same by cost and latency alone, which `evaluate` gives in the order asked, such as [`SharedRuns::figures`]: the schedules that
/// [`search_with`] finds, by rising cost.
pub fn search_by_figures(
    inputs: &RunInputs,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Option<(f64, f64)>>,
) -> Vec<ReplicaSchedule> {
    let traffic = Traffic::of(inputs, &FluidBound::new(inputs), settings);
    let judged = |schedules: &[ReplicaSchedule]| {
        evaluate(schedules).into_iter().map(|figures| figures.map(|(cost, latency)| (cost, latency, ()))).collect()
    };
    let (entries, _) = explore(&limits(inputs, settings), &traffic, starts, settings, reference, &mut |_| (), judged);
    entries.into_iter().map(|entry| entry.schedule).collect()
}

/// What a search sees of traffic.
#[derive(Debug, Clone, Copy)]
struct Traffic<'a> {
    arrived_at_s: &'a [f64],
    duration_s: f64,
    /// Replicas that the work keeps busy.
    busy_replicas: f64,
    /// Of the search.
    seed: u64,
}

impl<'a> Traffic<'a> {
    fn of(inputs: &RunInputs<'a>, fluid_bound: &FluidBound, settings: &OracleSettings) -> Self {
        Self {
            arrived_at_s: &inputs.workload.arrived_at_s,
            duration_s: inputs.workload.end_s(),
            busy_replicas: fluid_bound.work_s() / inputs.workload.end_s().max(settings.step_s),
            seed: settings.search_seed ^ inputs.seed.rotate_left(32),
        }
    }
}

/// Searches for schedules that are good on average over draws of which each has the rates of all: `evaluate` gives mean cost and mean
/// latency, in the order asked. `arrived_at_s` are the arrivals of all draws together, in order. Returns schedules by rising cost.
pub fn search_over_draws(
    inputs: &RunInputs,
    arrived_at_s: &[f64],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Option<(f64, f64)>>,
) -> Vec<ReplicaSchedule> {
    let duration_s = inputs.workload.end_s();
    let busy_replicas = FluidBound::new(inputs).work_s() / duration_s.max(settings.step_s);
    let traffic = Traffic { arrived_at_s, duration_s, busy_replicas, seed: settings.search_seed };
    let judged = |schedules: &[ReplicaSchedule]| {
        evaluate(schedules).into_iter().map(|means| means.map(|(cost, latency)| (cost, latency, ()))).collect()
    };
    let (entries, _) = explore(&limits(inputs, settings), &traffic, &[], settings, reference, &mut |_| (), judged);
    entries.into_iter().map(|entry| entry.schedule).collect()
}

/// Cost, latency and whatever else, of a schedule that counts.
type Judged<M> = Option<(f64, f64, M)>;

fn explore<M>(
    limits: &ScheduleLimits,
    traffic: &Traffic,
    starts: &[ReplicaSchedule],
    settings: &OracleSettings,
    reference: Option<(f64, f64)>,
    progress: &mut dyn FnMut(u64),
    mut evaluate: impl FnMut(&[ReplicaSchedule]) -> Vec<Judged<M>>,
) -> (Vec<Entry<M>>, u64) {
    let duration_s = traffic.duration_s;
    let moments = Moments::new(traffic.arrived_at_s, duration_s, settings.step_s);
    let mut random = Xoshiro256PlusPlus::seed_from_u64(traffic.seed);
    let mut front = Front { points: Vec::new(), most: settings.archive as usize, reference };
    let followers = followers(&moments, limits, traffic.busy_replicas);
    let all_starts = starts.iter().cloned().chain(constants(limits)).chain(followers);
    let mut pending: Vec<ReplicaSchedule> = all_starts.map(|start| start.within(limits)).collect();
    pending.reverse();
    let (mut done, all) = (0, pending.len() as u64 + u64::from(settings.budget));
    while done < all {
        let count = u64::from(settings.batch).min(all - done) as usize;
        let candidates: Vec<ReplicaSchedule> =
            (0..count).map(|_| pending.pop().unwrap_or_else(|| front.variant(limits, &moments, duration_s, &mut random))).collect();
        for (schedule, judged) in candidates.iter().zip(evaluate(&candidates)) {
            if let Some((cost, latency, judged)) = judged {
                front.offer(Entry { schedule: schedule.clone(), latency, cost, judged });
            }
        }
        done += count as u64;
        progress(done);
    }
    (front.points, done)
}

struct Entry<M> {
    schedule: ReplicaSchedule,
    latency: f64,
    cost: f64,
    judged: M,
}

/// Non-dominated schedules in order of rising cost, hence falling latency.
struct Front<M> {
    points: Vec<Entry<M>>,
    most: usize,
    reference: Option<(f64, f64)>,
}

impl<M> Front<M> {
    fn offer(&mut self, entry: Entry<M>) {
        let cost = entry.cost;
        let beaten = |by: &Entry<M>| by.cost <= cost && by.latency <= entry.latency;
        if self.points.iter().any(beaten) {
            return;
        }
        let within = |cost: f64, latency: f64| self.reference.is_none_or(|(most_cost, most)| cost < most_cost && latency < most);
        if !within(cost, entry.latency) && self.points.iter().any(|point| within(point.cost, point.latency)) {
            return;
        }
        self.points.retain(|point| point.cost < cost || point.latency < entry.latency);
        let place = self.points.partition_point(|point| point.cost < cost);
        self.points.insert(place, entry);
        if self.points.len() > self.most {
            // The one whose rectangle beyond its neighbours is smallest is missed least; the ends stay.
            let area = |i: usize| {
                (self.points[i + 1].cost / self.points[i].cost - 1.0) * (self.points[i - 1].latency / self.points[i].latency - 1.0)
            };
            let least = (1..self.points.len() - 1).min_by(|&a, &b| area(a).total_cmp(&area(b))).expect("more than two points");
            self.points.remove(least);
        }
    }

    /// A random change of a random point.
    fn variant(&self, limits: &ScheduleLimits, moments: &Moments, duration_s: f64, random: &mut Xoshiro256PlusPlus) -> ReplicaSchedule {
        let Some(last) = self.points.len().checked_sub(1) else { return ReplicaSchedule::constant(limits.initial_replicas) };
        let index = random.random_range(0..=last);
        let mut schedule = self.points[index].schedule.clone();
        let one = |random: &mut Xoshiro256PlusPlus| if random.random_bool(0.5) { 1 } else { -1 };
        match random.random_range(0..20) {
            0..10 => {
                for _ in 0..random.random_range(1..=2) {
                    schedule = schedule.bumped(&moments.alike(random), one(random));
                }
            }
            10..17 => {
                for _ in 0..random.random_range(1..=2) {
                    let spell = spell(&schedule, duration_s, limits.step_s, random);
                    schedule = schedule.bumped(&[spell], one(random));
                }
            }
            _ => {
                // Neighbours on the front are alike, so their parts fit.
                let other = (index + random.random_range(1..=8)).saturating_sub(4).min(last);
                schedule = schedule.spliced(random.random_range(0.0..1.0) * duration_s, &self.points[other].schedule);
            }
        }
        schedule.within(limits)
    }
}

/// From one time to another: anything from a step to the run, its ends often where steps are.
fn spell(schedule: &ReplicaSchedule, duration_s: f64, step_s: f64, random: &mut Xoshiro256PlusPlus) -> (f64, f64) {
    let length_s = step_s * (duration_s / step_s).max(1.0).powf(random.random_range(0.0..1.0));
    let steps = schedule.steps();
    let snapped = steps[random.random_range(0..steps.len())].0;
    let from_s = match random.random_range(0..4) {
        0 => snapped,
        1 => snapped - length_s,
        _ => random.random_range(0.0..1.0) * duration_s,
    };
    let to_s = match steps.iter().find(|step| step.0 > from_s) {
        Some(next) if random.random_bool(0.25) => next.0,
        _ => from_s + length_s,
    };
    (from_s.max(0.0), to_s)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

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

    const P90: Objective =
        Objective { latency: &|metrics| metrics.e2e_s.map(|e2e| e2e.p90), cost: &|metrics| Some(metrics.total_cost_usd), reference: None };

    /// With three replicas at most and a change every 10 s, all 27 schedules can be tried.
    #[test]
    fn finds_the_front_of_a_tiny_instance() {
        let cluster = json!({"max_replicas": 3, "scale_up_delay_s": 10, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        on(cluster, &tiny(), |inputs| {
            let settings = OracleSettings { budget: 400, step_s: 10.0, ..OracleSettings::default() };
            let limits = limits(inputs, &settings);
            let mut workspace = Workspace::default();
            let found = search(inputs, &[], &settings, P90, |_| ());
            let found: Vec<(f64, f64)> = found.points.iter().map(|p| (p.metrics.total_cost_usd, p.metrics.e2e_s.unwrap().p90)).collect();
            assert!(found.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{found:?}");
            let mut all = Vec::new();
            for plan in 0..27_u32 {
                let slots = [plan % 3, plan / 3 % 3, plan / 9].map(|n| n + 1);
                let mut schedule = ReplicaSchedule::constant(1);
                for (slot, &replicas) in slots.iter().enumerate() {
                    schedule = schedule.spliced(10.0 * (slot + 1) as f64, &ReplicaSchedule::constant(replicas));
                }
                let metrics = evaluate(inputs, &limits, &schedule.within(&limits), &mut workspace).unwrap();
                all.push((metrics.total_cost_usd, metrics.e2e_s.unwrap().p90));
            }
            for point in &all {
                assert!(found.iter().any(|f| f.0 <= point.0 && f.1 <= point.1), "{point:?} is better than {found:?}");
            }
            assert!(all.iter().all(|a| a.0 >= FluidBound::new(inputs).cost_for_latency_usd(a.1, 0.9)));
        });
    }

    /// What is right for one burst is found for all at once: few runs find schedules of twenty bursts that are as fast as three replicas
    /// from their beginning to their end, ordered ahead of each, and one between them; for a twentieth more money at most.
    #[test]
    fn bursts_are_met_together() {
        let mut workload = Workload::default();
        for burst in 0..20 {
            // 8/s for 30 s, 35/s for 10 s.
            let at_s = 40.0 * f64::from(burst);
            (0..240).for_each(|i| workload.push(at_s + f64::from(i) / 8.0, 256, 1));
            (0..350).for_each(|i| workload.push(at_s + 30.0 + f64::from(i) / 35.0, 256, 1));
        }
        on(json!({"max_replicas": 6, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}), &workload, |inputs| {
            let settings = OracleSettings { budget: 1000, ..OracleSettings::default() };
            let limits = limits(inputs, &settings);
            let bursts: Vec<(f64, f64)> = (0..20).map(|burst| 40.0 * f64::from(burst) + 30.0).map(|at_s| (at_s, at_s + 10.0)).collect();
            let by_hand = ReplicaSchedule::constant(1).bumped(&bursts, 2).within(&limits);
            let by_hand = evaluate(inputs, &limits, &by_hand, &mut Workspace::default()).unwrap();
            let (cost, p90) = (by_hand.total_cost_usd, by_hand.e2e_s.unwrap().p90);
            let found = search(inputs, &[], &settings, Objective { reference: Some((5.0, 3.0)), ..P90 }, |_| ());
            let better = found.points.iter().any(|p| p.metrics.total_cost_usd <= 1.05 * cost && p.metrics.e2e_s.unwrap().p90 <= p90);
            let points: Vec<(f64, f64)> = found.points.iter().map(|p| (p.metrics.total_cost_usd, p.metrics.e2e_s.unwrap().p90)).collect();
            assert!(better, "US$ {cost} and {p90} s by hand; found {points:?}");
        });
    }

    /// Every search runs the fleets that follow traffic.
    #[test]
    fn traffic_is_followed_from_the_start() {
        on(json!({"max_replicas": 6, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}), &tiny(), |inputs| {
            let settings = OracleSettings { budget: 1, ..OracleSettings::default() };
            let (limits, mut workspace, mut tried) = (limits(inputs, &settings), Workspace::default(), Vec::new());
            let evaluate = |schedules: &[ReplicaSchedule]| {
                tried.extend_from_slice(schedules);
                schedules.iter().map(|schedule| evaluate(inputs, &limits, schedule, &mut workspace)).collect()
            };
            search_with(inputs, &[], &settings, P90, |_| (), evaluate);
            let last_s = inputs.workload.arrived_at_s[inputs.workload.len() - 1];
            let moments = Moments::new(&inputs.workload.arrived_at_s, last_s, settings.step_s);
            for follower in followers(&moments, &limits, FluidBound::new(inputs).work_s() / last_s) {
                assert!(tried.contains(&follower.within(&limits)), "{follower:?}");
            }
        });
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
        let followers = followers(&moments, &limits, 5.0);
        assert_eq!(followers.len(), FOLLOWERS);
        assert_eq!([5.0, 20.0, 35.0].map(|at_s| followers[3].at(at_s)), [4, 22, 8]);
        assert_eq!([5.0, 20.0, 35.0].map(|at_s| followers[9].at(at_s)), [7, 16, 9]);
    }

    /// A run of a policy and the replay of what it did are the same run, so a search that starts there is never worse.
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
            assert!(found.points.iter().any(|p| p.metrics.total_cost_usd <= online.total_cost_usd && p.metrics.e2e_s.unwrap().p90 <= p90));
        });
    }

    /// However the caller runs a batch of schedules, the same seed finds the same.
    #[test]
    fn depends_on_nothing_but_its_inputs() {
        on(json!({"max_replicas": 4, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}), &tiny(), |inputs| {
            let settings = OracleSettings { budget: 100, ..OracleSettings::default() };
            let limits = limits(inputs, &settings);
            let points = |result: OracleResult| -> Vec<(ReplicaSchedule, RunMetrics)> {
                result.points.into_iter().map(|p| (p.schedule, p.metrics)).collect()
            };
            let backwards = |schedules: &[ReplicaSchedule]| {
                let mut results: Vec<_> = schedules.iter().rev().map(|s| evaluate(inputs, &limits, s, &mut Workspace::default())).collect();
                results.reverse();
                results
            };
            let one = points(search(inputs, &[], &settings, P90, |_| ()));
            assert_eq!(one, points(search_with(inputs, &[], &settings, P90, |_| (), backwards)));
            let other = OracleSettings { search_seed: 2, ..settings };
            assert_ne!(one, points(search(inputs, &[], &other, P90, |_| ())));
        });
    }

    #[test]
    fn the_bound_rises_as_latency_falls() {
        on(json!({}), &tiny(), |inputs| {
            let bound = FluidBound::new(inputs);
            let costs: Vec<f64> = [10.0, 1.0, 0.5, 0.3, 0.15, 0.05].iter().map(|&l| bound.cost_for_latency_usd(l, 0.9)).collect();
            assert!(costs.is_sorted(), "{costs:?}");
            assert!(bound.cost_usd() <= costs[0] && costs[5].is_infinite());
        });
    }

    /// Replicas that must be there are paid for, unless they may be lost or a fixed fleet is smaller.
    #[test]
    fn the_bound_counts_the_replicas_there_must_be() {
        let cost = |cluster: serde_json::Value, fleets: u32| {
            let found = std::cell::Cell::new(0.0);
            on(cluster, &tiny(), |inputs| found.set(FluidBound::new(inputs).with_fleets_of(fleets).cost_usd()));
            found.get()
        };
        let five = json!({"min_replicas": 5, "initial_replicas": 5});
        let (work, all) = (cost(json!({"min_replicas": 0}), 9), cost(five.clone(), 9));
        assert!(all > 3.0 * work, "{all} {work}");
        assert!((cost(five, 4) / all - 0.8).abs() < 1e-9);
        let lossy = json!({"min_replicas": 5, "initial_replicas": 5, "failures": {"mean_time_to_crash_s": 50}});
        assert_eq!(cost(lossy, 9), work);
    }
}
