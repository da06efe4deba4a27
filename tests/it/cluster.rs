//! Routers, cold starts, billing, failures and limits, by runs small enough to work out.

use scalefront::global_scheduler::GlobalSchedulerSettings;
use scalefront::simulation::{
    Parts, RunInputs, RunMetrics, Workspace, simulate_in_detail, simulate_parts_in_detail, violations,
};
use serde_json::{Value, json};

use super::golden::assert_runs_agree;
use super::scenario::Scenario;

/// Requests at even distances.
fn steady(
    count: u32,
    gap_s: f64,
    prefill_tokens: u32,
    decode_tokens: u32,
) -> impl Iterator<Item = (f64, u32, u32)> {
    (0..count).map(move |i| (f64::from(i) * gap_s, prefill_tokens, decode_tokens))
}

fn run(cluster: Value, autoscaler: Value, requests: impl IntoIterator<Item = (f64, u32, u32)>) -> RunMetrics {
    let scenario = Scenario::new(cluster, autoscaler, requests);
    let inputs = scenario.inputs();
    let (stepping, _) = simulate_in_detail(&inputs, &mut Workspace::default()).unwrap();
    let fast = scalefront::simulation::simulate(&inputs, &mut Workspace::default()).unwrap();
    assert_runs_agree(&stepping, &fast);
    fast
}

#[test]
fn every_router_serves_everyone_and_loads_replicas_alike() {
    for router in GlobalSchedulerSettings::NAMES {
        let cluster =
            json!({"global_scheduler": router, "replica_scheduler": {"vllm": {"batch_size_cap": 8}}});
        let scenario = Scenario::new(cluster, json!({"static": {"replicas": 4}}), steady(800, 0.03, 256, 6));
        let inputs = RunInputs { stepping: true, ..scenario.inputs() };
        let mut workspace = Workspace::default();
        let (metrics, detail) =
            simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
        assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0], "{router}");
        let mut share = [0; 4];
        detail.requests.iter().for_each(|request| share[request.replica_id.unwrap() as usize] += 1);
        assert!(share.iter().all(|&requests| (140..=260).contains(&requests)), "{router}: {share:?}");
    }
}

/// Two choices are better than one, and the fewest are at least as good as two choices. Turns gain by a
/// bound.
#[test]
fn routers_that_look_wait_less() {
    let delay = |router: &str| {
        let cluster =
            json!({"global_scheduler": router, "replica_scheduler": {"vllm": {"batch_size_cap": 1}}});
        let lengths = [64, 2000, 128, 256, 1000, 64, 64, 3000];
        let requests =
            (0..2000).map(|i| (f64::from(i) * 0.11, lengths[(i * i + i / 7) as usize % lengths.len()], 1));
        run(cluster, json!({"static": {"replicas": 6}}), requests).scheduling_delay_s.unwrap().mean
    };
    let (random, two, fewest, tokens) =
        (delay("random"), delay("power_of_two"), delay("least_outstanding"), delay("least_tokens"));
    assert!(
        two < 0.7 * random && fewest < two && tokens < two,
        "random {random}, two choices {two}, fewest {fewest}, tokens {tokens}"
    );
    let (turns, bounded) = (delay("round_robin"), delay("bounded_round_robin"));
    assert!(bounded < 0.9 * turns, "turns {turns}, bounded {bounded}");
}

/// A scale-up joins after the delay and what `cold_start` adds: the weights of Llama 3 70B are 34.2 GB on
/// each of four devices.
#[test]
fn cold_starts_take_their_time() {
    let joins = |cold_start: Value| {
        let cluster = json!({"scale_up_delay_s": 7, "cold_start": cold_start, "replica_scheduler": {"vllm": {"batch_size_cap": 4}}});
        let scenario =
            Scenario::new(cluster, json!({"inferline": {"throughput_alpha": 0}}), steady(1500, 0.05, 256, 1));
        let (_, detail) = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap();
        let decided = detail.tunes.iter().find(|tune| tune.decision > 0).unwrap().time_s;
        detail.replicas.iter().skip(1).map(|change| change.time_s - decided).next().unwrap()
    };
    assert!((joins(json!({})) - 7.0).abs() < 1e-9);
    assert!((joins(json!({"load_bandwidth_gb_per_s": 10})) - 7.0 - 3.42255).abs() < 1e-4);
    let spread = joins(json!({"spread_s": 2}));
    assert!(spread != 7.0 && (0.0..20.0).contains(&spread), "{spread}");
}

/// One replica of four devices, alone for the whole run of 30 s and a batch, at $8 per node of four.
#[test]
fn billing_counts_what_it_is_told_to() {
    let cost = |billing: Value| {
        run(json!({"billing": billing}), json!({"static": {"replicas": 1}}), steady(31, 1.0, 256, 1))
    };
    let plain = cost(json!({}));
    assert!((plain.total_cost_usd - 8.0 * plain.simulated_s / 3600.0).abs() < 1e-12);
    assert!((plain.node_hours - plain.replica_hours).abs() < 1e-12);
    assert!((cost(json!({"minimum_s": 3600})).total_cost_usd - 8.0).abs() < 1e-9);
    assert_eq!(cost(json!({"unit": "device"})).total_cost_usd, plain.total_cost_usd);
    let halved = |billing: Value| {
        let cluster = json!({"tensor_parallel": 2, "pipeline_parallel": 2, "node": "a100_pairwise_nvlink", "billing": billing});
        run(cluster, json!({"static": {"replicas": 1}}), steady(31, 1.0, 256, 1)).mean_cost_usd_per_hour
    };
    assert!((halved(json!({"unit": "device"})) - 8.0).abs() < 1e-9);
}

/// Draining for free and paying for cold starts move the bill by just that time.
#[test]
fn drains_and_cold_starts_are_billed_on_demand() {
    let busy_then_idle =
        || steady(1200, 0.03, 256, 40).chain((0..60).map(|i| (40.0 + 2.0 * f64::from(i), 256, 40)));
    let run = |billing: Value| {
        let cluster = json!({"billing": billing, "tune_interval_s": 2, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        run(
            cluster,
            json!({"inferline": {"look_back_s": 10, "min_window_s": 5, "throughput_alpha": 0}}),
            busy_then_idle(),
        )
    };
    let (plain, free_drain, paid_start) =
        (run(json!({})), run(json!({"drain": false})), run(json!({"cold_start": true})));
    assert!(plain.scale_ups > 0 && plain.scale_downs > 0);
    assert!(
        free_drain.total_cost_usd < plain.total_cost_usd && plain.total_cost_usd < paid_start.total_cost_usd
    );
    // A start that is called off is paid up to then.
    let [joined, all] = [plain.scale_ups, plain.scale_ups + plain.starts_cancelled]
        .map(|starts| starts as f64 * 10.0 * 8.0 / 3600.0);
    let difference = paid_start.total_cost_usd - plain.total_cost_usd;
    assert!(difference <= all * (1.0 + 1e-9) && difference > 0.8 * joined, "{difference}, {all} at most");
    for other in [&free_drain, &paid_start] {
        assert_eq!(
            (other.num_batches, other.e2e_s),
            (plain.num_batches, plain.e2e_s),
            "billing changes no other thing"
        );
    }
}

/// Crashes and reclaims lose no request; replicas come back; the same seed loses the same replicas.
#[test]
fn losses_lose_no_request() {
    let failures = [
        json!({"mean_time_to_crash_s": 20}),
        json!({"mean_time_to_reclaim_s": 20, "reclaim_notice_s": 3}),
        json!({"mean_time_to_crash_s": 30, "mean_time_to_reclaim_s": 30, "reclaim_notice_s": 0.5}),
    ];
    let cases = [
        ("vllm", (4, 1)),
        ("sarathi", (4, 1)),
        ("orca", (4, 1)),
        ("faster_transformer", (4, 1)),
        ("vllm_v1", (4, 1)),
        ("vllm", (2, 2)),
    ];
    for failures in failures {
        for ((scheduler, split), router) in
            cases.into_iter().zip(["least_outstanding", "bounded_round_robin"].into_iter().cycle())
        {
            let cluster = json!({
                "failures": failures, "scale_up_delay_s": 4, "tensor_parallel": split.0, "pipeline_parallel": split.1,
                "global_scheduler": router, "replica_scheduler": {scheduler: {"batch_size_cap": 8}},
            });
            let metrics = run(cluster, json!({"static": {"replicas": 3}}), steady(900, 0.2, 300, 25));
            let place = format!("{failures} {scheduler} {split:?} {router}");
            assert_eq!(metrics.num_completed, 900, "{place}");
            assert!(
                metrics.replicas_lost > 5 && metrics.scale_ups > 5,
                "{place}: {} lost",
                metrics.replicas_lost
            );
            assert!(metrics.max_replicas <= 6 && metrics.mean_replicas > 1.0, "{place}");
        }
    }
}

#[test]
fn limits_are_kept_or_not() {
    let attained = |limits: Value| {
        run(json!({"latency_limits": limits}), json!({"static": {"replicas": 1}}), steady(20, 5.0, 256, 10))
            .attainment
    };
    assert_eq!(attained(json!({})), None);
    assert_eq!(attained(json!({"ttft_s": 0.2, "e2e_s": 60, "tpot_s": 0.1})), Some(1.0));
    assert_eq!(attained(json!({"ttft_s": 0.1})), Some(0.0));
    assert_eq!(attained(json!({"tpot_s": 0.001})), Some(0.0));
}

/// What decode batches do to the lab's measure of throughput (thousands of replicas wanted), they do not do
/// to ours.
#[test]
fn planned_throughput_is_not_misled_by_decodes() {
    let most = |measure: &str| {
        let cluster = json!({"max_replicas": 200, "replica_scheduler": {"vllm": {"batch_size_cap": 32}}});
        run(cluster, json!({"inferline": {"throughput_measure": measure}}), steady(600, 0.5, 300, 100))
            .max_replicas
    };
    let (batches, planned) = (most("batches"), most("planned"));
    assert!(batches >= 20 && planned <= 5, "by batches {batches}, planned {planned}");
}
