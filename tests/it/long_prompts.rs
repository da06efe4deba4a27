//! Long prompts at a rate that one replica just bears: what `vllm_v1` was wrong by before it followed vLLM's
//! own scheduler.

use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, RunMetrics, Workspace, simulate};
use scalefront::workload::{WorkloadSpec, load};
use serde_json::{Value, json};

/// Llama 3 8B on one H100, prompts of 8,000 tokens (median) twice a second for half an hour.
fn run(scheduler: &Value) -> RunMetrics {
    let spec: WorkloadSpec = serde_json::from_value(json!({"name": "long", "generate": {
        "arrivals": {"poisson": {"rate_per_s": 2, "duration_s": 1800}},
        "lengths": {"lognormal": {
            "prefill": {"median_tokens": 8000, "sigma": 0.6, "max_tokens": 30_000},
            "decode": {"mean_tokens": 250, "cv": 0.8, "max_tokens": 2000}}},
    }}))
    .unwrap();
    let cluster: ClusterSettings = serde_json::from_value(json!({
        "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "tensor_parallel": 1, "max_request_tokens": 32_000,
        "memory_planner": "vllm", "execution_time": "analytical", "node_price_usd_per_hour": 32, "replica_scheduler": {"vllm_v1": scheduler},
    }))
    .unwrap();
    let files = Files::default();
    let deployment = Deployment::resolve(&cluster.model, &cluster.node, 1, 1, &files).unwrap();
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
    let (workload, autoscaler) =
        (load(&spec, 1, &[]).unwrap(), serde_json::from_value(json!({"static": {"replicas": 1}})).unwrap());
    simulate(&RunInputs::new(&workload, &cluster, &autoscaler, &times, 1).unwrap(), &mut Workspace::default())
        .unwrap()
}

/// With vLLM 0.33's own scheduler nine in ten wait about a second for their first token. Without what it
/// reserves and finds again (the rules of `vllm_v1` up to results version 8), requests throw each other out
/// of memory, and wait many times as long.
#[test]
fn first_tokens_come_as_soon_as_with_vllm_itself() {
    let p90_s = |metrics: &RunMetrics| metrics.ttft_s.unwrap().p90;
    let now = run(&json!({}));
    assert!(
        (0.6..1.8).contains(&p90_s(&now)) && now.num_restarts < 20,
        "{} s, {} restarts",
        p90_s(&now),
        now.num_restarts
    );
    let before = run(
        &json!({"version": "0.18", "prefix_caching": false, "async_scheduling": false, "batch_size_cap": 128}),
    );
    assert!(
        p90_s(&before) > 20.0 * p90_s(&now) && before.num_restarts > 1000,
        "{} s, {} restarts",
        p90_s(&before),
        before.num_restarts
    );
}
