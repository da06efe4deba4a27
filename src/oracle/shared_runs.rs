//! Runs of schedules that have much in common, each stretch of which is simulated once.
//!
//! A search changes a schedule for a while: until then the new run is the old one, and some time after it is
//! again, as soon as the same requests wait and run at the same replicas. So runs go from checkpoint to
//! checkpoint, and what led from one to another is kept, with the decisions taken on the way. Who comes to a
//! checkpoint where another has been and decides alike takes what that one found.
//!
//! Nothing is approximate: checkpoints are equal to the bit or not at all, and figures are added up in the
//! order of a whole run.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::schedule::Replay;
use super::{ReplicaSchedule, ScheduleLimits};
use crate::simulation::metric::{Metric, Quantity};
use crate::simulation::{
    Buckets, Checkpoint, Distribution, Limits, RunInputs, Sample, SimulationError, Stretch, Stretches,
    Workspace,
};

/// What is kept may take so much memory, or somewhat more.
const MOST_BYTES: usize = 160 << 20;
/// Arrivals between two checkpoints: to write one down and compare it takes as long as some tens of these.
const STRETCH_REQUESTS: usize = 256;
/// With more requests under way a run is not written down, and its stretch goes on: such queues hardly ever
/// meet again.
const MOST_UNDER_WAY: usize = 256;

/// The stretches of all runs so far on the same requests, for any number of threads.
pub struct SharedRuns<'a> {
    inputs: &'a RunInputs<'a>,
    limits: ScheduleLimits,
    latency: &'static Metric,
    quantity: &'static Quantity,
    stretch_s: f64,
    start: Arc<State>,
    /// At the end of each stretch but the last, the states that runs were in.
    states: Vec<Mutex<Vec<Arc<State>>>>,
    most_bytes: usize,
    most_under_way: usize,
    bytes: AtomicUsize,
    /// Counts runs, to know what has not been of use for long.
    clock: AtomicU64,
    cleaning: Mutex<()>,
}

/// A run between two stretches.
struct State {
    /// None of the beginning.
    checkpoint: Option<Checkpoint>,
    digest: u64,
    used: AtomicU64,
    ways: Mutex<Vec<Arc<Way>>>,
}

/// A stretch under some decisions.
struct Way {
    /// The target before the stretch, and its changes within.
    target: u32,
    changes: Vec<(f64, u32)>,
    stretch: Stretch,
    /// None if the run was over.
    next: Option<Arc<State>>,
    /// Where it ends, see [`SharedRuns::until_s`].
    end: usize,
    used: AtomicU64,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl State {
    fn new(checkpoint: Option<Checkpoint>) -> Self {
        let digest = checkpoint.as_ref().map_or(0, Checkpoint::digest);
        Self { checkpoint, digest, used: AtomicU64::new(0), ways: Mutex::default() }
    }

    /// The stretch that begins here if `target` holds and `changes` are to come.
    fn way(&self, target: u32, changes: &[(f64, u32)], until_s: impl Fn(usize) -> f64) -> Option<Arc<Way>> {
        let leads_on = |way: &&Arc<Way>| {
            let alike = way.target == target && changes.starts_with(&way.changes);
            alike && changes.get(way.changes.len()).is_none_or(|change| change.0 >= until_s(way.end))
        };
        lock(&self.ways).iter().find(leads_on).cloned()
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.checkpoint.as_ref().map_or(0, Checkpoint::bytes)
    }
}

impl Way {
    fn bytes(&self) -> usize {
        let Stretch { values, bookings, .. } = &self.stretch;
        size_of::<Self>()
            + size_of_val(&values[..])
            + size_of_val(&bookings[..])
            + size_of_val(&self.changes[..])
    }
}

/// What a thread sums runs up with.
#[derive(Debug, Default)]
pub struct Sums {
    sample: Sample,
    buckets: Buckets,
}

impl<'a> SharedRuns<'a> {
    /// None where runs are to be judged by something else than dollars and latencies of requests, or cannot
    /// be written down.
    pub fn new(
        inputs: &'a RunInputs<'a>,
        limits: &ScheduleLimits,
        latency: &'static Metric,
        cost: &'static Metric,
    ) -> Option<Self> {
        let most = Limits::default();
        let limited = inputs.limits.most_events != most.most_events
            || inputs.limits.most_bytes != most.most_bytes
            || inputs.limits.check;
        if cost.name != "total_cost_usd" || limited {
            return None;
        }
        let quantity = latency.quantity?;
        latency.of_distribution(&Distribution::of_values([0.0])?)?;
        let mut workspace = Workspace::default();
        Stretches::begin(
            inputs,
            ReplicaSchedule::constant(limits.initial_replicas).replay(limits),
            quantity,
            &mut workspace,
        )?;
        let (requests, duration_s) = (inputs.workload.len(), inputs.workload.end_s());
        let count = (requests / STRETCH_REQUESTS).max(1);
        Some(Self {
            inputs,
            limits: *limits,
            latency,
            quantity,
            stretch_s: duration_s / count as f64,
            start: Arc::new(State::new(None)),
            states: (1..count).map(|_| Mutex::default()).collect(),
            most_bytes: MOST_BYTES,
            most_under_way: MOST_UNDER_WAY,
            bytes: AtomicUsize::new(0),
            clock: AtomicU64::new(1),
            cleaning: Mutex::default(),
        })
    }

    /// Latency and dollars of a schedule's run, as [`super::evaluate`] has them; None for a latency that no
    /// request has.
    ///
    /// Errors: the run cannot be finished.
    pub fn figures(
        &self,
        schedule: &ReplicaSchedule,
        workspace: &mut Workspace,
        sums: &mut Sums,
    ) -> Result<Option<(f64, f64)>, SimulationError> {
        let run = self.clock.fetch_add(1, Ordering::Relaxed);
        let way = self.way_of(schedule, run, workspace)?;
        if self.bytes.load(Ordering::Relaxed) > self.most_bytes {
            self.forget(run);
        }
        sums.sample.clear(self.inputs.workload.len());
        let (mut cost, mut rate, mut booked_until_s) = (0.0, 0.0, 0.0);
        for Stretch { values, bookings, over_at_s } in way.iter().map(|way| &way.stretch) {
            sums.sample.extend(values.iter().copied());
            let over = over_at_s.map(|over_at_s| (over_at_s, 0.0));
            for &(at_s, next_rate) in bookings.iter().chain(&over) {
                cost += rate * (at_s - booked_until_s);
                (rate, booked_until_s) = (next_rate, at_s);
            }
        }
        let distribution = Distribution::of(&sums.sample, &mut sums.buckets);
        Ok(distribution.and_then(|distribution| {
            Some((self.latency.of_distribution(&distribution)?, cost * (1.0 / 3600.0)))
        }))
    }

    /// All stretches of a schedule's run; those that nobody has made before are made.
    fn way_of(
        &self,
        schedule: &ReplicaSchedule,
        run: u64,
        workspace: &mut Workspace,
    ) -> Result<Vec<Arc<Way>>, SimulationError> {
        let targets = schedule.targets(&self.limits);
        let policy = |next: usize, target| {
            Box::new(Replay { targets: targets.clone(), next, target, step_s: self.limits.step_s })
        };
        let (mut ways, mut state): (Vec<Arc<Way>>, _) =
            (Vec::with_capacity(self.states.len() + 1), self.start.clone());
        let (mut next, mut target) = (0, self.limits.initial_replicas);
        let mut simulated = Stretches::begin(self.inputs, policy(next, target), self.quantity, workspace)
            .expect("such runs can be resumed");
        // Whether the simulation stands where this run does.
        let mut is_here = true;
        loop {
            let begin = ways.last().map_or(0, |way| way.end);
            let way = match state.way(target, &targets[next..], |end| self.until_s(end)) {
                Some(way) => {
                    is_here = false;
                    way
                }
                None => {
                    if !is_here {
                        let checkpoint =
                            state.checkpoint.as_ref().expect("the beginning is not left and come back to");
                        simulated.resume(checkpoint, policy(next, target));
                        is_here = true;
                    }
                    let way = self.go(&mut simulated, begin, target, &targets[next..])?;
                    lock(&state.ways).push(way.clone());
                    way
                }
            };
            way.used.fetch_max(run, Ordering::Relaxed);
            next += way.changes.len();
            target = way.changes.last().map_or(target, |change| change.1);
            let then = way.next.clone();
            ways.push(way);
            let Some(then) = then else { return Ok(ways) };
            then.used.fetch_max(run, Ordering::Relaxed);
            state = then;
        }
    }

    /// When the stretch ends that is the so manieth of equal ones; the last goes on to the end of the run.
    fn until_s(&self, end: usize) -> f64 {
        if end > self.states.len() { f64::INFINITY } else { end as f64 * self.stretch_s }
    }

    /// Simulates a stretch that begins behind so many equal ones.
    fn go(
        &self,
        simulated: &mut Stretches,
        begin: usize,
        target: u32,
        changes: &[(f64, u32)],
    ) -> Result<Arc<Way>, SimulationError> {
        let (mut end, mut stretch) = (begin + 1, simulated.run_until(self.until_s(begin + 1))?);
        while stretch.over_at_s.is_none() && simulated.num_under_way() > self.most_under_way {
            end += 1;
            let more = simulated.run_until(self.until_s(end))?;
            stretch.values.extend(more.values);
            stretch.bookings.extend(more.bookings);
            stretch.over_at_s = more.over_at_s;
        }
        let until_s = self.until_s(end);
        let next = stretch.over_at_s.is_none().then(|| {
            let checkpoint = simulated.checkpoint(until_s).expect("such runs can be written down");
            self.known(end, checkpoint)
        });
        let changes = changes[..changes.partition_point(|change| change.0 < until_s)].to_vec();
        let way = Arc::new(Way { target, changes, stretch, next, end, used: AtomicU64::new(0) });
        self.bytes.fetch_add(way.bytes(), Ordering::Relaxed);
        Ok(way)
    }

    /// The state of that checkpoint, behind so many stretches.
    fn known(&self, number: usize, checkpoint: Checkpoint) -> Arc<State> {
        let state = State::new(Some(checkpoint));
        let mut known = lock(&self.states[number - 1]);
        if let Some(found) =
            known.iter().find(|other| other.digest == state.digest && other.checkpoint == state.checkpoint)
        {
            return found.clone();
        }
        self.bytes.fetch_add(state.bytes(), Ordering::Relaxed);
        let state = Arc::new(state);
        known.push(state.clone());
        state
    }

    /// Lets go of the half that has not been of use for longest.
    fn forget(&self, run: u64) {
        let Ok(_alone) = self.cleaning.try_lock() else { return };
        let mut uses = Vec::new();
        let all = || self.states.iter().flat_map(|states| lock(states).clone()).chain([self.start.clone()]);
        all().for_each(|state| {
            uses.extend(lock(&state.ways).iter().map(|way| way.used.load(Ordering::Relaxed)))
        });
        if uses.is_empty() {
            return;
        }
        let middle = uses.len() / 2;
        let least = (*uses.select_nth_unstable(middle).1 + 1).min(run);
        let mut bytes = 0;
        for state in all() {
            let mut ways = lock(&state.ways);
            ways.retain(|way| way.used.load(Ordering::Relaxed) >= least);
            bytes += ways.iter().map(|way| way.bytes()).sum::<usize>();
        }
        for states in &self.states {
            let mut states = lock(states);
            states.retain(|state| state.used.load(Ordering::Relaxed) >= least);
            bytes += states.iter().map(|state| state.bytes()).sum::<usize>();
        }
        self.bytes.store(bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;
    use serde_json::{Value, json};

    use super::*;
    use crate::hardware::{Deployment, ExecutionTime, Files};
    use crate::oracle::{Objective, OracleSettings, evaluate, limits, search_by_figures, search_with};
    use crate::simulation::metric;
    use crate::simulation::{ClusterSettings, MetricValue, RunMetrics};
    use crate::workload::Workload;

    fn on(cluster: Value, workload: &Workload, test: impl Fn(&RunInputs)) {
        let cluster: ClusterSettings = serde_json::from_value(cluster).unwrap();
        let autoscaler = serde_json::from_value(json!({"inferline": {}})).unwrap();
        let files = Files::default();
        let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).unwrap();
        let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
        let inputs = RunInputs::new(workload, &cluster, &autoscaler, &times, 1).unwrap();
        test(&RunInputs { limits: Limits { check: false, ..Limits::default() }, ..inputs });
    }

    /// Lulls and bursts, some arrivals at one instant; `decode_tokens` at most.
    fn uneven(requests: u32, decode_tokens: u32, random: &mut Xoshiro256PlusPlus) -> Workload {
        let (mut workload, mut at_s) = (Workload::default(), 0.0);
        for i in 0..requests {
            let gap_s: f64 = random.random_range(0.0..[0.2, 0.06, 0.12][(i / 150 % 3) as usize]);
            at_s += if i % 7 == 0 { 0.0 } else { gap_s };
            workload.push(at_s, random.random_range(200..400), random.random_range(1..=decode_tokens));
        }
        workload
    }

    fn value(metric: &Metric, metrics: &RunMetrics) -> Option<f64> {
        match metric.value(metrics) {
            MetricValue::Number(number) => Some(number),
            _ => None,
        }
    }

    const CLUSTERS: [&str; 5] = [
        r#"{"max_replicas": 8}"#,
        r#"{"max_replicas": 6, "min_replicas": 0, "initial_replicas": 2, "global_scheduler": "least_outstanding",
            "replica_scheduler": {"vllm": {"batch_size_cap": 4, "num_blocks": 120}}, "scale_down_delay_s": 3}"#,
        r#"{"max_replicas": 5, "global_scheduler": "least_tokens", "replica_scheduler": {"sarathi": {"batch_size_cap": 8}},
            "scale_down_order": "serving_first", "billing": {"cold_start": true}}"#,
        r#"{"max_replicas": 5, "replica_scheduler": {"orca": {"batch_size_cap": 8}}, "billing": {"unit": "device", "drain": false}}"#,
        r#"{"max_replicas": 5, "replica_scheduler": {"lightllm": {"batch_size_cap": 8}}, "scale_up_delay_s": 0}"#,
    ];

    /// Whatever was run before, and however little of it was kept, figures are those of the whole run, to the
    /// bit.
    #[test]
    fn figures_are_those_of_whole_runs() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(11);
        for (number, cluster) in CLUSTERS.iter().enumerate() {
            for decode_tokens in [1, 40] {
                let workload = uneven(2500, decode_tokens, &mut random);
                let seed = Xoshiro256PlusPlus::seed_from_u64(number as u64);
                on(serde_json::from_str(cluster).unwrap(), &workload, |inputs| {
                    let limits = limits(inputs, &OracleSettings::default());
                    let [latency, cost] =
                        ["p90_ttft_s", "total_cost_usd"].map(|name| metric::find(name).unwrap());
                    let mut shared = SharedRuns::new(inputs, &limits, latency, cost).unwrap();
                    shared.most_bytes = 1 << 20;
                    shared.most_under_way = [20, usize::MAX][number % 2];
                    let (mut workspace, mut sums, random) =
                        (Workspace::default(), Sums::default(), &mut seed.clone());
                    let mut schedules = vec![ReplicaSchedule::constant(3).within(&limits)];
                    let (mut refused, mut stretches) = (0, 0);
                    for _ in 0..60 {
                        let base = &schedules[random.random_range(0..schedules.len())];
                        let from_s = random.random_range(0.0..inputs.workload.end_s());
                        let spell = (from_s, from_s + random.random_range(0.5..60.0));
                        let bumped = base.bumped(&[spell], random.random_range(-2..=2));
                        let other = &schedules[random.random_range(0..schedules.len())];
                        let schedule =
                            if random.random_bool(0.2) { bumped.spliced(from_s, other) } else { bumped }
                                .within(&limits);
                        let whole = evaluate(inputs, &limits, &schedule, &mut workspace);
                        let run = shared.clock.load(Ordering::Relaxed);
                        let found = shared.figures(&schedule, &mut workspace, &mut sums);
                        match whole {
                            Ok(metrics) => {
                                let expected = value(latency, &metrics).zip(value(cost, &metrics));
                                assert_eq!(found.unwrap(), expected, "{cluster}: {schedule:?}");
                                let ways = shared.way_of(&schedule, run, &mut workspace).unwrap();
                                stretches += ways.len();
                                schedules.push(schedule);
                            }
                            Err(_) => {
                                assert!(found.is_err(), "{cluster}: {schedule:?}");
                                refused += 1;
                            }
                        }
                    }
                    let least = if number % 2 == 1 { 100 } else { schedules.len() - 1 };
                    assert!(
                        schedules.len() > 30 && stretches >= least,
                        "{} runs, {refused} refused",
                        schedules.len()
                    );
                });
            }
        }
    }

    /// A change that is taken back is forgotten once the queues are: what follows is not simulated again.
    #[test]
    fn runs_meet_again() {
        let workload = uneven(20_000, 1, &mut Xoshiro256PlusPlus::seed_from_u64(5));
        on(
            json!({"max_replicas": 16, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            &workload,
            |inputs| {
                let limits = limits(inputs, &OracleSettings::default());
                let [latency, cost] = ["p99_e2e_s", "total_cost_usd"].map(|name| metric::find(name).unwrap());
                let shared = SharedRuns::new(inputs, &limits, latency, cost).unwrap();
                let (mut workspace, mut sums) = (Workspace::default(), Sums::default());
                let states = || shared.states.iter().map(|states| lock(states).len()).sum::<usize>();
                let plain = ReplicaSchedule::constant(9).within(&limits);
                shared.figures(&plain, &mut workspace, &mut sums).unwrap();
                let before = states();
                let changed = plain.bumped(&[(400.0, 405.0)], 1).within(&limits);
                shared.figures(&changed, &mut workspace, &mut sums).unwrap();
                let made = states() - before;
                assert!(made >= 1 && made * 4 < before, "{made} states more than {before}");
            },
        );
    }

    /// A search by figures finds what a search by whole runs finds.
    #[test]
    fn searches_find_the_same() {
        let workload = uneven(3000, 1, &mut Xoshiro256PlusPlus::seed_from_u64(8));
        on(
            json!({"max_replicas": 8, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            &workload,
            |inputs| {
                let settings = OracleSettings { budget: 150, ..OracleSettings::default() };
                let limits = limits(inputs, &settings);
                let metrics = ["p90_e2e_s", "total_cost_usd"].map(|name| metric::find(name).unwrap());
                let (mut workspace, mut sums) = (Workspace::default(), Sums::default());
                let [latency, cost] =
                    metrics.map(|metric| move |metrics: &RunMetrics| value(metric, metrics));
                let objective = Objective { latency: &latency, cost: &cost, reference: None };
                let whole = |schedules: &[ReplicaSchedule]| {
                    schedules
                        .iter()
                        .map(|schedule| evaluate(inputs, &limits, schedule, &mut workspace))
                        .collect()
                };
                let expected = search_with(inputs, &[], &settings, objective, |_| (), whole);
                let expected: Vec<ReplicaSchedule> =
                    expected.points.into_iter().map(|point| point.schedule).collect();
                let shared = SharedRuns::new(inputs, &limits, metrics[0], metrics[1]).unwrap();
                let figures = |schedules: &[ReplicaSchedule]| {
                    let of = |schedule| {
                        shared
                            .figures(schedule, &mut workspace, &mut sums)
                            .ok()
                            .flatten()
                            .map(|(latency, cost)| (cost, latency))
                    };
                    schedules.iter().map(of).collect()
                };
                assert_eq!(search_by_figures(inputs, &[], &settings, None, figures), expected);
            },
        );
    }

    /// What cannot be written down, or is judged by something else, is run as a whole.
    #[test]
    fn not_all_runs_share() {
        let workload = uneven(300, 2, &mut Xoshiro256PlusPlus::seed_from_u64(1));
        let shares = |cluster: Value, latency: &str, cost: &str| {
            let found = std::cell::Cell::new(false);
            on(cluster, &workload, |inputs| {
                let limits = limits(inputs, &OracleSettings::default());
                let [latency, cost] = [latency, cost].map(|name| metric::find(name).unwrap());
                found.set(SharedRuns::new(inputs, &limits, latency, cost).is_some());
            });
            found.get()
        };
        assert!(shares(json!({}), "max_e2e_s", "total_cost_usd"));
        assert!(!shares(json!({}), "mean_queued_requests", "total_cost_usd"));
        assert!(!shares(json!({}), "p90_e2e_s", "replica_hours"));
        for cluster in [
            json!({"global_scheduler": "random"}),
            json!({"replica_scheduler": "vllm_v1"}),
            json!({"failures": {"mean_time_to_crash_s": 500}}),
            json!({"cold_start": {"spread_s": 2}}),
            json!({"billing": {"minimum_s": 60}}),
            json!({"max_devices": 16}),
        ] {
            assert!(!shares(cluster.clone(), "p90_e2e_s", "total_cost_usd"), "{cluster}");
        }
    }
}
