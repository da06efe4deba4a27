//! Dynamo's planner in the loop of NVIDIA's own simulator, a whole trace, beside the same run here.
//!
//! Rows of the recorded runs are sums over engines, so they cannot be fed one by one; what is compared is how
//! much each run costs. Two things are as there and not as on a cluster: the planner is not told which
//! replicas start, and a step of prompts and decodes costs as much as one of each.

use std::path::Path;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, Workspace, simulate};
use scalefront::workload::{WorkloadSpec, load};
use serde_json::{Value, json};

use super::series;

/// The last request is done by then.
const END_S: f64 = 3_553.0;

/// Replicas over time that the recorded decisions come to, in hours.
fn recorded_replica_hours(name: &str) -> f64 {
    let all = series("dynamo");
    let rows: Vec<_> = all.iter().find(|series| series.name == name).unwrap().rows().collect();
    let mut hours = rows[0].number("time_s") * rows[0].number("expected") / 3600.0;
    for (i, row) in rows.iter().enumerate() {
        let decided =
            if row.text("decision").is_empty() { row.number("expected") } else { row.number("decision") };
        let until_s = rows.get(i + 1).map_or(END_S, |next| next.number("time_s"));
        hours += (until_s - row.number("time_s")) * decided / 3600.0;
    }
    hours
}

fn replica_hours(shared: &Path, autoscaler: Value) -> f64 {
    let trace = shared.join("data/traces/mooncake/conversation_trace.jsonl");
    let spec: WorkloadSpec =
        serde_json::from_value(json!({"name": "mooncake", "trace": {"path": trace, "format": "mooncake"}}))
            .unwrap();
    let workload = load(&spec, 1, &[]).unwrap();
    let cluster: ClusterSettings = serde_json::from_value(json!({
        "model": "meta-llama/Meta-Llama-3-70B", "node": "h200_dgx", "node_price_usd_per_hour": 1, "tensor_parallel": 4,
        "max_request_tokens": 131_072,
        "initial_replicas": 8, "min_replicas": 1, "max_replicas": 32, "scale_up_delay_s": 60, "global_scheduler": "round_robin",
        "execution_time": {"aiconfigurator": {
            "systems_dir": shared.join("data/hardware/aiconfigurator"), "backend_version": "0.24.0", "mixed_steps_apart": true}},
        "replica_scheduler": {"vllm_v1": {"batch_size_cap": 256, "max_tokens_in_batch": 8192, "num_blocks": 65536,
                                          "prefix_caching": true, "async_scheduling": false}},
    }))
    .unwrap();
    let autoscaler: AutoscalerSettings = serde_json::from_value(autoscaler).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let files = Files {
        cache_dir: Some(cache.path()),
        ..scalefront::sweep::plan::hardware_files::hardware_files(&[])
    };
    let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).unwrap();
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
    let inputs = RunInputs::new(&workload, &cluster, &autoscaler, &times, 1).unwrap();
    simulate(&inputs, &mut Workspace::default()).unwrap().replica_hours
}

/// Measured: 21.8 of 21.6 hours by load, 6.0 of 6.1 by throughput.
pub fn mooncake(shared: &Path) {
    let targets =
        json!({"ttft_s": 2.0, "itl_s": 0.05, "max_num_batched_tokens": 8192, "startup_aware": false});
    let with = |further: Value| {
        let mut settings = targets.clone();
        settings.as_object_mut().unwrap().extend(further.as_object().unwrap().clone());
        settings
    };
    let by_load = json!({"dynamo_load": with(json!({"optimization_target": "sla"}))});
    let by_throughput = json!({"dynamo_throughput": with(json!({"load_predictor": "kalman"}))});
    for (name, autoscaler) in [("replay_load", by_load), ("replay_throughput", by_throughput)] {
        let (found, recorded) = (replica_hours(shared, autoscaler), recorded_replica_hours(name));
        println!("{name}: {found:.2} replica-hours, recorded {recorded:.2}");
        assert!((found / recorded - 1.0).abs() < 0.05, "{name}: {found} replica-hours, recorded {recorded}");
    }
}
