//! Where the reference breaks its own promises we differ on purpose. Each right behaviour has a test here;
//! the recorded defects are held against it in `tests/given`.

use serde_json::json;

use super::scenario::Scenario;
use super::sound::{decoded, prefilled, run, to_decode};

#[test]
fn preempted_prompts_stay_prompts() {
    let cluster = json!({"replica_scheduler": {"sarathi": {
        "num_blocks": 24, "block_size_tokens": 4, "chunk_size_tokens": 8, "watermark_blocks_fraction": 0,
    }}});
    let requests = (0..20).map(|i| (0.05 * f64::from(i), 20 + i, 10 + i));
    let scenario = Scenario::new(cluster, json!({"static": {"replicas": 1}}), requests);
    let (metrics, detail) = run(&scenario.inputs());
    let prompts: u64 = detail.requests.iter().map(|request| u64::from(request.prefill_tokens)).sum();
    assert!(metrics.num_restarts > 10, "{}", metrics.num_restarts);
    assert_eq!(metrics.num_completed, 20);
    assert!(prefilled(&detail) > prompts);
    assert!(decoded(&detail) <= to_decode(&detail));
}

#[test]
fn groups_leave_no_memory_behind_and_replicas_drain() {
    let cluster = json!({
        "replica_scheduler": {"faster_transformer": {"batch_size_cap": 4, "num_blocks": 4 * 8, "block_size_tokens": 16}},
        "max_request_tokens": 128, "initial_replicas": 3, "min_replicas": 1, "tune_interval_s": 1, "scale_down_delay_s": 1,
    });
    // Groups whose members finish one after the other; more groups than leaked memory would allow for.
    let requests = (0..120).map(|i| (0.02 * f64::from(i), 20, 1 + 9 * (i % 5)));
    let scenario = Scenario::new(
        cluster,
        json!({"inferline": {"initial_replica_token_throughput": 1e6, "throughput_alpha": 0}}),
        requests,
    );
    let (metrics, detail) = run(&scenario.inputs());
    assert_eq!(metrics.num_completed, 120);
    assert!(detail.replicas.iter().any(|change| change.num_draining == 2), "{:?}", detail.replicas);
    let last = detail.replicas.last().unwrap();
    assert_eq!((last.num_replicas, last.num_draining), (1, 0), "the drained replicas have left");
    let full =
        detail.batches.iter().filter(|batch| batch.num_requests == 4 && batch.prefill_tokens == 80).count();
    assert!(full > 25, "only {full} groups of four");
}

#[test]
fn stranded_requests_are_served_when_a_replica_joins_and_nothing_stays_pending() {
    let cluster = json!({
        "replica_scheduler": {"vllm": {"batch_size_cap": 16}}, "initial_replicas": 1, "min_replicas": 0, "max_replicas": 100,
        "tune_interval_s": 5, "scale_up_delay_s": 17, "scale_down_delay_s": 0, "scale_down_order": "serving_first",
    });
    let autoscaler = json!({"inferline": {
        "look_back_s": 10, "min_window_s": 4, "stabilization_delay_s": 0, "initial_replica_token_throughput": 900, "throughput_alpha": 0,
    }});
    // At 5 s two more replicas are called, to join at 22 s. At 15 s the burst is forgotten and two
    // scale-downs are due, but only one replica is there to go: the other scale-down waits for the first that
    // joins. Nobody is there at 19 s, and nobody arrives after that.
    let burst = (0..30).map(|_| (1.0, 256, 1)).chain((0..10).map(|_| (19.0, 256, 1)));
    let scenario = Scenario::new(cluster, autoscaler, burst);
    let (metrics, detail) = run(&scenario.inputs());
    let decisions: Vec<i64> = detail.tunes.iter().map(|tune| tune.decision).collect();
    assert_eq!(decisions[..4], [0, 2, 0, -2]);
    let mut replicas: Vec<u32> = detail.replicas.iter().map(|change| change.num_replicas).collect();
    replicas.dedup();
    assert_eq!(replicas, [1, 0, 1, 2, 1]);
    assert!(detail.requests[30..].iter().all(|request| request.scheduled_at_s == Some(22.0)));
    assert_eq!(metrics.num_completed, 40);
    // One scale-down waits for a replica to join, and is not pending once that has gone.
    assert!(
        detail.tunes.iter().all(|tune| tune.pending_scale_downs <= tune.pending_scale_ups),
        "{:?}",
        detail.tunes
    );
    assert_eq!(metrics.scale_downs, 2);
}
