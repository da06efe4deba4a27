//! Every policy of the registry through a small simulated spike, and those that can through an idle hour.

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::simulation::{
    ClusterSettings, Detail, RunInputs, RunMetrics, Workspace, simulate, simulate_in_detail,
};
use scalefront::workload::Workload;
use serde_json::json;

use super::golden::assert_runs_agree;

/// A policy's defaults, or the least that has to be said.
fn settings(name: &str) -> AutoscalerSettings {
    let value = match name {
        "static" => json!({"static": {"replicas": 2}}),
        "static_1" => json!({"static": {"replicas": 1}}),
        "schedule" => {
            json!({"schedule": {"steps": [{"at_s": 0, "replicas": 1}, {"at_s": 110, "replicas": 4}, {"at_s": 300, "replicas": 0}]}})
        }
        name => json!(name),
    };
    serde_json::from_value(value).unwrap()
}

/// Requests at a constant rate from one time to another.
fn steady(workload: &mut Workload, from_s: f64, until_s: f64, per_s: f64) {
    for i in 0..((until_s - from_s) * per_s) as u32 {
        workload.push(from_s + f64::from(i) / per_s, 200 + 50 * (i % 5), 10 + 15 * (i % 4));
    }
}

fn with_inputs<T>(
    settings: &AutoscalerSettings,
    workload: &Workload,
    min_replicas: u32,
    run: impl FnOnce(RunInputs) -> T,
) -> T {
    let cluster = ClusterSettings { min_replicas, max_replicas: 8, ..ClusterSettings::default() };
    let times = super::scenario::execution_time(4, 1);
    run(RunInputs::new(workload, &cluster, settings, times, 1).unwrap())
}

fn run(settings: &AutoscalerSettings, workload: &Workload, min_replicas: u32, stepping: bool) -> RunMetrics {
    with_inputs(settings, workload, min_replicas, |inputs| {
        let inputs = RunInputs { stepping, ..inputs };
        simulate(&inputs, &mut Workspace::default())
            .unwrap_or_else(|error| panic!("{}: {error}", settings.name()))
    })
}

#[test]
fn policies_survive_a_spike() {
    let mut workload = Workload::default();
    steady(&mut workload, 0.0, 120.0, 1.0);
    steady(&mut workload, 120.0, 180.0, 12.0);
    steady(&mut workload, 180.0, 900.0, 1.0);
    // Programs of their own have tests of their own.
    for name in AutoscalerSettings::NAMES
        .iter()
        .copied()
        .filter(|name| !["external", "per_pool", "fleet"].contains(name))
    {
        let settings = settings(name);
        let fast = run(&settings, &workload, 1, false);
        println!(
            "{name:18} p90 {:8.3} s, cost {:6.3} USD, replicas {} to {}",
            fast.e2e_s.unwrap().p90,
            fast.total_cost_usd,
            fast.min_replicas,
            fast.max_replicas
        );
        assert_eq!((fast.num_completed, fast.num_rejected), (workload.len() as u64, 0), "{name}");
        assert!(
            fast.min_replicas >= 1 && fast.max_replicas <= 8,
            "{name}: {} to {} replicas",
            fast.min_replicas,
            fast.max_replicas
        );
        assert_eq!(run(&settings, &workload, 1, false), fast, "{name}: twice the same");
        assert_runs_agree(&run(&settings, &workload, 1, true), &fast);
        let queued = with_inputs(&settings, &workload, 1, |inputs| {
            simulate(&RunInputs { queue_every_step: true, ..inputs }, &mut Workspace::default()).unwrap()
        });
        assert_eq!(queued, fast, "{name}: with every step in the queue");
    }
}

/// One burst, an hour of nothing, another burst: those that scale to zero do, and come back.
#[test]
fn policies_come_back_from_zero() {
    let mut workload = Workload::default();
    steady(&mut workload, 0.0, 60.0, 2.0);
    steady(&mut workload, 3600.0, 3660.0, 2.0);
    for name in AutoscalerSettings::NAMES
        .iter()
        .filter(|name| !["static", "external", "per_pool", "fleet"].contains(name))
    {
        let metrics = run(&settings(name), &workload, 0, false);
        assert_eq!(metrics.num_completed, workload.len() as u64, "{name}");
        if ["keda", "knative_kpa", "ray_serve"].contains(name) {
            assert_eq!(metrics.min_replicas, 0, "{name}");
        }
    }
}

/// What planners believe a replica can do is what a swamped replica does.
#[test]
fn planners_know_a_replicas_throughput() {
    for (prefill_tokens, decode_tokens) in [(256, 1), (256, 32), (1000, 100), (64, 200)] {
        let mut workload = Workload::default();
        (0..600).for_each(|i| workload.push(f64::from(i) / 200.0, prefill_tokens, decode_tokens));
        let alone = run(&settings("static_1"), &workload, 1, false);
        let measured_per_s = alone.num_completed as f64 / alone.simulated_s;
        let detail: Detail = with_inputs(&settings("inferline_paper"), &workload, 1, |inputs| {
            simulate_in_detail(&inputs, &mut Workspace::default()).unwrap().1
        });
        let evidence = &detail.tunes.last().unwrap().evidence;
        let (_, believed_per_s) =
            evidence.iter().find(|(name, _)| *name == "replica_requests_per_s").unwrap();
        let ratio = believed_per_s / measured_per_s;
        println!(
            "{prefill_tokens} and {decode_tokens} tokens: {believed_per_s:.3} requests/s believed, {measured_per_s:.3} measured"
        );
        assert!(
            (0.95..=1.08).contains(&ratio),
            "{prefill_tokens} and {decode_tokens} tokens: {believed_per_s}, measured {measured_per_s}"
        );
    }
}
