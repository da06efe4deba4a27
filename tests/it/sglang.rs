//! Properties of SGLang's scheduler on random small clusters. What it does step by step is tested beside it.

use proptest::prelude::*;
use scalefront::simulation::{
    Limits, Parts, RequestRecord, RunInputs, RunMetrics, Workspace, simulate_parts_in_detail, violations,
};
use serde_json::{Value, json};

use super::golden::assert_runs_agree;
use super::properties::{autoscaler, prompts, requests};
use super::scenario::Scenario;

/// Settings on caches so small that requests are retracted, rejected, held back.
fn scheduler() -> impl Strategy<Value = Value> {
    let sizes = (
        prop::sample::select(vec![1_u32, 16]),
        60..600_u32,
        2..9_u32,
        prop::sample::select(vec![0_u32, 16, 60]),
        0..3_u32,
    );
    (sizes, any::<[bool; 3]>(), 0.05..2.0_f64, prop::sample::select(vec!["fcfs", "lpm", "lof"])).prop_map(
        |((page, cache_tokens, cap, chunk, interval), [mixed, caching, overlap], conservativeness, policy)| {
            json!({"sglang": {
                "batch_size_cap": cap, "block_size_tokens": page, "num_blocks": (cache_tokens / page).max(4), "chunk_size_tokens": chunk,
                "max_prefill_tokens": 100, "mixed_chunks": mixed, "prefix_caching": caching, "overlap": overlap,
                "conservativeness": conservativeness, "policy": policy, "prefill_decode_interval": interval,
            }})
        },
    )
}

fn scenario() -> impl Strategy<Value = Scenario> {
    let routers = prop::sample::select(vec!["round_robin", "least_outstanding"]);
    let failures = prop::sample::select(vec![json!({}), json!({"mean_time_to_crash_s": 20})]);
    (scheduler(), requests(), autoscaler(), routers, 0..2_u32, 0.0..3.0_f64, failures).prop_map(
        |(scheduler, requests, autoscaler, router, min_replicas, scale_up_delay_s, failures)| {
            let cluster = json!({
                "replica_scheduler": scheduler, "global_scheduler": router, "max_request_tokens": 128, "failures": failures,
                "min_replicas": min_replicas, "max_replicas": 6, "tune_interval_s": 1, "scale_up_delay_s": scale_up_delay_s,
            });
            let mut scenario = Scenario::new(cluster, autoscaler, requests);
            scenario.workload.prefix = Some(prompts(&scenario.workload));
            scenario
        },
    )
}

fn run(inputs: &RunInputs) -> (RunMetrics, Vec<RequestRecord>) {
    let inputs = &RunInputs { limits: Limits { most_events: 300_000, ..inputs.limits }, ..inputs.clone() };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(inputs, Parts::of(inputs), &mut workspace).unwrap();
    assert_eq!(violations(inputs, &metrics, &detail, &workspace), [""; 0]);
    (metrics, detail.requests)
}

/// Both ways of advancing decodes keep every invariant and tell the same story of every request.
fn check(scenario: &Scenario) {
    let fast = scenario.inputs();
    let (slow_metrics, slow_requests) = run(&RunInputs { stepping: true, ..fast.clone() });
    let (fast_metrics, fast_requests) = run(&fast);
    assert_runs_agree(&slow_metrics, &fast_metrics);
    for (one, other) in slow_requests.iter().zip(&fast_requests) {
        assert_eq!(
            (one.replica_id, one.restarts, one.cached_tokens),
            (other.replica_id, other.restarts, other.cached_tokens),
            "{one:?}, {other:?}"
        );
        let times = [
            (one.scheduled_at_s, other.scheduled_at_s),
            (one.first_token_at_s, other.first_token_at_s),
            (one.completed_at_s, other.completed_at_s),
        ];
        for (one_s, other_s) in times {
            assert_eq!(one_s.is_some(), other_s.is_some(), "{one:?} and {other:?}");
            assert!((one_s.unwrap_or(0.0) - other_s.unwrap_or(0.0)).abs() <= 1e-6, "{one:?} and {other:?}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn keeps_its_invariants(scenario in scenario()) { check(&scenario) }
}

/// The random scenarios do reach what the property is about.
#[test]
fn scenarios_are_not_trivial() {
    use proptest::strategy::ValueTree;
    let mut runner = proptest::test_runner::TestRunner::deterministic();
    let (mut completed, mut rejected, mut restarts, mut cached_tokens) = (0, 0, 0, 0);
    for _ in 0..300 {
        let (metrics, requests) = run(&scenario().new_tree(&mut runner).unwrap().current().inputs());
        completed += metrics.num_completed;
        rejected += metrics.num_rejected;
        restarts += metrics.num_restarts;
        cached_tokens += requests.iter().map(|r| u64::from(r.cached_tokens)).sum::<u64>();
    }
    assert!(
        completed > 2000 && rejected > 50 && restarts > 50 && cached_tokens > 2000,
        "{completed} {rejected} {restarts} {cached_tokens}"
    );
}

/// With nobody to admit, long decodes are formed a few times and not a thousand, and the same in number.
#[test]
fn long_decodes_are_skipped() {
    for overlap in [false, true] {
        let cluster = json!({"replica_scheduler": {"sglang": {"batch_size_cap": 3, "overlap": overlap}}});
        let alone = Scenario::new(
            cluster.clone(),
            json!({"static": {"replicas": 1}}),
            (0..3).map(|i| (0.0, 100, 1000 + i)),
        );
        let queued =
            Scenario::new(cluster, json!({"static": {"replicas": 1}}), (0..6).map(|i| (0.0, 100, 1000 + i)));
        for (scenario, most_formed) in [(alone, 60), (queued, 120)] {
            let (metrics, detail) = simulate_parts_in_detail(
                &scenario.inputs(),
                Parts::of(&scenario.inputs()),
                &mut Workspace::default(),
            )
            .unwrap();
            let formed = detail.batches.len();
            assert!(
                metrics.num_batches > 1000 && formed < most_formed,
                "overlap {overlap}: {formed} of {} formed",
                metrics.num_batches
            );
            check(&scenario);
        }
    }
}
