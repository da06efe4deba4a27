//! A day of chat with long answers, as in `sweeps/day.json`: what looking at batches, KV use or replicas
//! every few seconds costs beside a fixed fleet.

use serde_json::{Value, json};

use super::{Case, Setup, Size, generated};

/// Requests a second, hour by hour.
const RATES_PER_S: [u32; 24] =
    [3, 2, 2, 2, 2, 2, 3, 5, 8, 12, 16, 20, 23, 24, 21, 17, 13, 10, 8, 7, 6, 5, 4, 3];

/// The fixed fleet, then those that follow the traffic; shorter days have shorter hours.
pub fn cases(size: Size) -> Vec<Case> {
    let phases: Vec<Value> = RATES_PER_S
        .map(|rate_per_s| json!({"duration_s": 3600.0 * size.share(), "rate_per_s": rate_per_s}))
        .into();
    let lengths = json!({"lognormal": {
        "prefill": {"mean_tokens": 2000, "cv": 0.7, "max_tokens": 8000}, "decode": {"mean_tokens": 299, "cv": 0.7, "max_tokens": 2000}}});
    let cluster = json!({
        "model": "Qwen/Qwen3-32B", "node": "h100_dgx", "node_price_usd_per_hour": 30, "tensor_parallel": 2, "max_request_tokens": 10_000,
        "execution_time": "analytical", "engine_overheads": "calibrated", "replica_scheduler": "vllm_v1",
        "global_scheduler": "least_outstanding", "initial_replicas": 4, "max_replicas": 16, "scale_up_delay_s": 180});
    let policies = [
        ("static", json!({"static": {"replicas": 5}})),
        ("hpa", json!({"hpa": {"metric": "kv_use", "target_per_replica": 0.4}})),
        ("keda", json!({"keda": {"target_per_replica": 40, "min_replicas": 4}})),
        ("frontier", json!({"frontier": {"service_level": 0.1}})),
    ];
    let workload = generated(json!({"poisson": {"phases": phases}}), lengths);
    let case = |(name, policy)| {
        Setup::new(workload.clone(), cluster.clone(), policy).case(format!("day of long answers, {name}"))
    };
    policies.map(case).into()
}
