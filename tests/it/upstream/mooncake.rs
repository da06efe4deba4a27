//! Mooncake's conversations under Dynamo's planner, beside what the planner itself did with them in its own simulator: Llama 3.1 70B on four
//! H200 a replica, 8 to begin with and 32 at most, 60 s to start, targets of 2 s and 50 ms.

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, RunMetrics, Workspace, simulate};
use scalefront::workload::Workload;
use serde_json::{Value, json};

use super::path;

fn conversations() -> Option<Workload> {
    let text = std::fs::read_to_string(path("data/traces/mooncake/conversation_trace.jsonl")?).unwrap();
    let mut workload = Workload::default();
    for line in text.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        let number = |field: &str| row[field].as_f64().unwrap();
        workload.push(number("timestamp") / 1000.0, number("input_length") as u32, number("output_length") as u32);
    }
    Some(workload)
}

fn run(workload: &Workload, autoscaler: Value) -> RunMetrics {
    let cluster: ClusterSettings = serde_json::from_value(json!({
        "node": "h200_dgx", "node_price_usd_per_hour": 1, "max_request_tokens": 131_072, "execution_time": "analytical",
        "global_scheduler": "round_robin", "initial_replicas": 8, "max_replicas": 32, "scale_up_delay_s": 60,
        "replica_scheduler": {"vllm_v1": {"batch_size_cap": 256, "num_blocks": 65_536, "async_scheduling": false}},
    }))
    .unwrap();
    let files = Files::default();
    let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).unwrap();
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
    let autoscaler: AutoscalerSettings = serde_json::from_value(autoscaler).unwrap();
    let inputs = RunInputs::new(workload, &cluster, &autoscaler, &times, 1).unwrap();
    simulate(&inputs, &mut Workspace::default()).unwrap()
}

#[test]
fn replica_hours_are_the_planners() {
    let Some(workload) = conversations() else { return };
    let sla = json!({"ttft_s": 2, "itl_s": 0.05, "max_num_batched_tokens": 8192});
    let with = |extra: Value| {
        let mut settings = sla.clone();
        settings.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        settings
    };
    for (name, settings, planners) in [
        ("dynamo_load", with(json!({"optimization_target": "sla"})), 21.6),
        ("dynamo_throughput", with(json!({"load_predictor": "kalman"})), 6.1),
    ] {
        let metrics = run(&workload, json!({ name: settings }));
        let (hours, e2e_s) = (metrics.replica_hours, metrics.e2e_s.unwrap().mean);
        println!("{name}: {hours:.2} replica-hours, the planner {planners}; mean end to end {e2e_s:.1} s");
    }
}
