//! The policy as a whole.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use super::*;
use crate::autoscaler::AutoscalerSettings;
use crate::autoscaler::tests::with_context;
use crate::hardware::{Deployment, Files};
use crate::simulation::{ClusterSettings, RunInputs, RunMetrics, Workspace, simulate};
use crate::workload::Workload;

fn traffic(seed: u64, until_s: f64, rate_per_s: impl Fn(f64) -> f64, lengths: (u32, u32)) -> Workload {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut workload, mut at_s) = (Workload::default(), 0.0);
    while at_s < until_s {
        at_s -= libm::log(1.0 - random.random::<f64>()) / rate_per_s(at_s);
        workload.push(at_s, lengths.0, lengths.1);
    }
    workload
}

fn run(workload: &Workload, cluster: Value, autoscaler: Value) -> RunMetrics {
    let cluster: ClusterSettings = serde_json::from_value(cluster).unwrap();
    let autoscaler: AutoscalerSettings = serde_json::from_value(autoscaler).unwrap();
    let times = execution_time(&cluster);
    let inputs = RunInputs::new(workload, &cluster, &autoscaler, &times, 1).unwrap();
    simulate(&inputs, &mut Workspace::default()).unwrap()
}

fn execution_time(cluster: &ClusterSettings) -> ExecutionTime {
    let files = Files::default();
    let deployment = Deployment::resolve(
        &cluster.model,
        &cluster.node,
        cluster.tensor_parallel,
        cluster.pipeline_parallel,
        &files,
    )
    .unwrap();
    ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap()
}

pub(super) fn curve(prompt: f64, output: f64, cap: u32) -> ThroughputCurve {
    let limits = ReplicaLimits {
        kv: crate::replica_scheduler::KvBlocks::new(20_000, 16, 0.01),
        batch_size_cap: cap,
        pipeline_parallel: 1,
    };
    ThroughputCurve::new(
        &execution_time(&ClusterSettings::default()),
        &limits,
        MeanLengths { prompt, output },
    )
}

/// What the model says of one replica is what the simulator does: alone, and swamped.
#[test]
fn throughput_is_the_simulators() {
    for (prompt, output, cap) in [(256, 1, 16), (1000, 200, 32), (2000, 20, 64)] {
        let cluster = json!({"replica_scheduler": {"vllm": {"batch_size_cap": cap}}});
        let model = curve(prompt.into(), output.into(), cap);
        let mut alone = Workload::default();
        alone.push(0.0, prompt, output);
        let latency = run(&alone, cluster.clone(), json!({"static": {"replicas": 1}})).e2e_s.unwrap().max;
        assert!(
            (latency / model.unloaded_s() - 1.0).abs() < 0.01,
            "{latency} s, model {}",
            model.unloaded_s()
        );
        let mut swamped = Workload::default();
        (0..2000).for_each(|_| swamped.push(0.0, prompt, output));
        let rate = 2000.0 / run(&swamped, cluster, json!({"static": {"replicas": 1}})).simulated_s;
        assert!(
            (rate / model.saturation_per_s() - 1.0).abs() < 0.15,
            "{rate}/s, model {}",
            model.saturation_per_s()
        );
    }
}

/// The twin searches among all points each time.
#[test]
fn segments_are_found_from_the_last_one() {
    let (model, mut random) = (curve(1000.0, 200.0, 32), Xoshiro256PlusPlus::seed_from_u64(11));
    let (mut held, mut segment) = (0.0, 1);
    for step in 0..20_000 {
        let most = 1.2 * model.most_held();
        held =
            if step % 100 == 0 { most * random.random::<f64>() } else { held + random.random::<f64>() - 0.5 };
        held = if step % 7 == 0 { held.round() } else { held }.clamp(0.0, most);
        assert_eq!(model.rate_from_per_s(held, &mut segment), model.rate_per_s(held), "{held} held");
    }
}

/// The steady state agrees with long runs of as many replicas as are sensible, up to a quarter.
#[test]
fn congestion_is_the_simulators() {
    for (rate, replicas, lengths) in
        [(20.0, 3, (256, 1)), (40.0, 6, (256, 1)), (4.0, 4, (1000, 100)), (4.0, 8, (1000, 100))]
    {
        let workload = traffic(1, 2000.0, |_| rate, lengths);
        let cluster = json!({"global_scheduler": "least_outstanding", "replica_scheduler": {"vllm": {"batch_size_cap": 32}}});
        let latency = run(&workload, cluster, json!({"static": {"replicas": replicas}})).e2e_s.unwrap().mean;
        let model = curve(lengths.0.into(), lengths.1.into(), 32);
        let mut steady = SteadyState::default();
        let at = steady.at(0, rate, 1.0);
        let requests = steady.requests(&model, replicas, at);
        assert!((requests / (rate * latency) - 1.0).abs() < 0.25, "{requests}, simulated {}", rate * latency);
    }
}

/// Overload is dearer the fewer replicas there are.
#[test]
fn more_replicas_never_mean_more_requests() {
    let (model, mut steady) = (curve(256.0, 1.0, 16), SteadyState::default());
    let at = steady.at(0, 60.0, 1.0);
    let requests: Vec<f64> = (1..12).map(|replicas| steady.requests(&model, replicas, at)).collect();
    assert!(requests.is_sorted_by(|fewer, more| fewer >= more), "{requests:?}");
}

/// The twin adds up all that was seen, in its order, at each tick.
#[test]
fn nearly_the_rate_is_enough() {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
    for (service_level, held) in [(0.1, 1.0), (0.5, 3.0), (0.9, 0.3)] {
        let settings = FrontierSettings { service_level: Some(service_level), ..Default::default() };
        let mut policy = with_context(|context| Frontier::new(&settings, context));
        for tick in 0..8000 {
            let now_s = f64::from(tick) * 0.25;
            let busy = if tick % 1000 > 900 { 3.0 } else { 1.0 };
            let arrived =
                (busy * 40.0 * random.random::<f64>()) as usize * usize::from(random.random_bool(0.3));
            policy.observe_arrivals(Arrivals {
                arrived_at_s: &vec![now_s; arrived],
                prefill_tokens: &vec![500; arrived],
                decode_tokens: &vec![20; arrived],
            });
            let tokens = 20 * arrived as u64;
            policy.observe_batch_sums(BatchSums { batches: 1, tokens, prefill_tokens: 0 });
            policy.lengths.completed += arrived as f64;
            let requests = 60.0 * busy * held * random.random::<f64>();
            let serving = random.random_range(1..10);
            let snapshot = Snapshot {
                serving,
                draining: 0,
                starting: 0,
                stopping: 0,
                outstanding_requests: requests as u32,
                unrouted_requests: 0,
                replicas: &[],
            };
            policy.decide(now_s, &snapshot);
            let Some(rate) = policy.counts.estimate().filter(|_| policy.curve.is_some()) else { continue };
            let exactly = Expected::exactly(policy.soon.expected_per_s(rate.per_s));
            let nearly = policy.soon.nearly_expected(rate.per_s);
            assert!((nearly.per_s - exactly.per_s).abs() <= 0.01 * nearly.off * exactly.per_s);
            let state = State { serving: f64::from(serving), requests };
            let mut need = |expected| policy.need_at(now_s, &rate, expected, state, Surges::Soon);
            let expected = need(exactly);
            assert_eq!(need(nearly), expected, "at tick {tick}: {rate:?}, {state:?}");
            // And where it may be off by more.
            for off in [1e-9, 1e-6, 1e-4] {
                for beside in [-off, 0.5 * off, off] {
                    let about = Expected { per_s: exactly.per_s * (1.0 + 0.9 * beside), off };
                    assert_eq!(need(about), expected, "{beside} beside at tick {tick}: {rate:?}, {state:?}");
                }
            }
        }
    }
}

#[test]
fn the_knob_goes_from_cheap_to_fast() {
    let workload =
        traffic(2, 900.0, |at_s| if (300.0..600.0).contains(&at_s) { 45.0 } else { 15.0 }, (256, 1));
    let cluster = json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    let runs: Vec<(f64, f64)> = [0.0, 0.25, 0.5, 0.75, 1.0]
        .iter()
        .map(|level| run(&workload, cluster.clone(), json!({"frontier": {"service_level": level}})))
        .map(|metrics| (metrics.total_cost_usd, metrics.e2e_s.unwrap().mean))
        .collect();
    assert!(runs.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1), "{runs:?}");
}

#[test]
fn both_scales_are_one_knob() {
    let read = |value: Value| serde_json::from_value::<FrontierSettings>(value).unwrap();
    assert_eq!(read(json!({"level": 1})).service_level(), 0.25);
    assert_eq!(
        read(json!({"level": 3})).service_level(),
        read(json!({"service_level": 0.75})).service_level()
    );
    let mut faults = Faults::default();
    read(json!({"level": 1, "service_level": 0.5})).check(&mut faults);
    assert_eq!(faults.found.len(), 1);
}

/// Quiet time and bursts in turn, as of every 240 s.
fn bursts() -> Workload {
    traffic(4, 1900.0, |at_s| if at_s % 240.0 >= 200.0 { 45.0 } else { 10.0 }, (256, 1))
}

fn on_router(router: &str, settings: Value) -> RunMetrics {
    let cluster = json!({"global_scheduler": router, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    run(&bursts(), cluster, json!({ "frontier": settings }))
}

/// Who is buried is replaced where the router goes on burying them, which is faster and no dearer; a router
/// that sees load has no need.
#[test]
fn those_buried_are_replaced() {
    let settings = |replaces: bool| json!({"service_level": 0.5, "replaces_buried": replaces});
    let (kept, replaced) =
        (on_router("round_robin", settings(false)), on_router("round_robin", settings(true)));
    assert!(
        replaced.e2e_s.unwrap().mean < 0.98 * kept.e2e_s.unwrap().mean,
        "{:?} {:?}",
        replaced.e2e_s,
        kept.e2e_s
    );
    assert!(
        replaced.total_cost_usd < 1.01 * kept.total_cost_usd,
        "{} {}",
        replaced.total_cost_usd,
        kept.total_cost_usd
    );
    assert!(replaced.scale_ups > kept.scale_ups);
    assert_eq!(
        on_router("least_outstanding", settings(true)),
        on_router("least_outstanding", settings(false))
    );
}

/// Told the latency that nine in ten are to keep, it lands there. (One short draw of bursts has too few of
/// them to say.)
#[test]
fn the_target_is_met() {
    let steps =
        traffic(5, 2400.0, |at_s| if (800.0..1600.0).contains(&at_s) { 40.0 } else { 20.0 }, (256, 1));
    let cluster = json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    for target_s in [0.2, 0.35] {
        let settings = json!({"frontier": {"target_s": target_s, "replaces_buried": true}});
        let p90 = run(&steps, cluster.clone(), settings).e2e_s.unwrap().p90;
        assert!((p90 / target_s - 1.0).abs() < 0.25, "{p90} s for {target_s} s");
    }
    let mut faults = Faults::default();
    serde_json::from_value::<FrontierSettings>(json!({"quantile": 0.99, "change_price_s": -1}))
        .unwrap()
        .check(&mut faults);
    assert_eq!(faults.found.len(), 2, "{:?}", faults.found);
}

/// Where starts are paid and long, fewer decisions and a price of change start fewer replicas, for less
/// money.
#[test]
fn paid_starts_are_saved() {
    let day =
        traffic(6, 7200.0, |at_s| 30.0 + 15.0 * libm::sin(at_s / 7200.0 * std::f64::consts::TAU), (256, 1));
    let cluster = json!({"scale_up_delay_s": 120, "billing": {"cold_start": true}, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    let of = |settings: Value| run(&day, cluster.clone(), json!({ "frontier": settings }));
    let (fast, paced) = (of(json!({})), of(json!({"paced_by_cold_starts": true})));
    let priced = of(json!({"change_price_s": 60}));
    assert!(paced.scale_ups < fast.scale_ups && paced.total_cost_usd < fast.total_cost_usd);
    assert!(priced.scale_ups <= fast.scale_ups);
    // Where they are free nothing changes.
    let free = |settings: Value| {
        run(
            &bursts(),
            json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}}),
            json!({ "frontier": settings }),
        )
    };
    assert_eq!(free(json!({"paced_by_cold_starts": true})), free(json!({})));
}
