//! The policy as a whole.

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use serde_json::{Value, json};

use super::*;
use crate::autoscaler::AutoscalerSettings;
use crate::hardware::{Deployment, Files};
use crate::simulation::{ClusterSettings, RunInputs, RunMetrics, Workspace, simulate};
use crate::workload::Workload;

fn traffic(seed: u64, until_s: f64, rate_per_s: impl Fn(f64) -> f64, lengths: (u32, u32)) -> Workload {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(seed);
    let (mut workload, mut at_s) = (Workload::default(), 0.0);
    while at_s < until_s {
        at_s -= (1.0 - random.random::<f64>()).ln() / rate_per_s(at_s);
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

fn curve(prompt: f64, output: f64, cap: u32) -> ThroughputCurve {
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
        let at = steady.at(rate, 1.0);
        let requests = steady.requests(&model, replicas, at);
        assert!((requests / (rate * latency) - 1.0).abs() < 0.25, "{requests}, simulated {}", rate * latency);
    }
}

/// Overload is dearer the fewer replicas there are.
#[test]
fn more_replicas_never_mean_more_requests() {
    let (model, mut steady) = (curve(256.0, 1.0, 16), SteadyState::default());
    let at = steady.at(60.0, 1.0);
    let requests: Vec<f64> = (1..12).map(|replicas| steady.requests(&model, replicas, at)).collect();
    assert!(requests.is_sorted_by(|fewer, more| fewer >= more), "{requests:?}");
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

/// A part of the time is dearer than it looks where starts are paid: for less of it then, or for all or none.
#[test]
fn coming_and_going_is_not_as_cheap_as_it_looks() {
    let free = |worth| share_of_time(worth, |share| share);
    assert_eq!([free(0.6), free(1.0), free(1.6)], [0.0, 0.5, 1.0]);
    let paid = |worth, start: f64| share_of_time(worth, |share: f64| share + start);
    assert!(paid(1.3, 0.1) < free(1.3) && paid(1.3, 0.1) > 0.0);
    for worth in (60..160).map(|percent| f64::from(percent) / 100.0) {
        let share = paid(worth, 0.3);
        assert!(
            share == 0.0 || share == 1.0 || share + 0.3 < 1.0,
            "{worth}: {share} of the time for as much as all of it"
        );
        assert_eq!(paid(worth, 1.0), f64::from(u8::from(worth >= 1.0)), "{worth}");
    }
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
        traffic(6, 7200.0, |at_s| 30.0 + 15.0 * (at_s / 7200.0 * std::f64::consts::TAU).sin(), (256, 1));
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
