//! What prefix caching costs: Mooncake's conversations (12,031 requests of 12,000 prompt tokens), which may
//! not be committed and are looked for beside the repository, with and without it.

use std::hint::black_box;
use std::path::PathBuf;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, Workspace, simulate};
use scalefront::workload::{self, WorkloadSpec};
use serde_json::json;

fn prefix_caching(criterion: &mut Criterion) {
    let shared = std::env::var_os("SCALEFRONT_SHARED")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let trace = shared.join("data/traces/mooncake/conversation_trace.jsonl");
    if !trace.exists() {
        eprintln!("SKIPPED: {} is not there", trace.display());
        return;
    }
    let spec: WorkloadSpec =
        serde_json::from_value(json!({"name": "bench", "trace": {"path": trace}})).expect("valid settings");
    let workload = workload::load(&spec, 1, &[]).expect("a readable trace");
    for (name, router, caching) in [
        ("off", "round_robin", false),
        ("on", "round_robin", true),
        ("on, prefix_aware", "prefix_aware", true),
    ] {
        let cluster: ClusterSettings = serde_json::from_value(json!({
            "node": "h100_dgx", "execution_time": "analytical", "global_scheduler": router, "max_request_tokens": 131072,
            "memory_planner": "vllm",
            "replica_scheduler": {"vllm_v1": {"prefix_caching": caching, "num_blocks": 40000}}}))
        .expect("valid settings");
        let autoscaler: AutoscalerSettings =
            serde_json::from_value(json!({"static": {"replicas": 16}})).expect("valid settings");
        let files = Files::default();
        let deployment =
            Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).expect("a known model and node");
        let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).expect("formulas");
        let inputs = RunInputs::new(&workload, &cluster, &autoscaler, &times, 1).expect("a run that fits");
        let mut workspace = Workspace::default();
        let metrics = simulate(&inputs, &mut workspace).expect("a run that ends");
        println!(
            "{name}: {} requests, {} batches, hit rate {:?}",
            workload.len(),
            metrics.num_batches,
            metrics.prefix_hit_rate
        );
        let mut group = criterion.benchmark_group("prefix_caching");
        group.throughput(Throughput::Elements(workload.len() as u64)).sample_size(20);
        group.bench_function(name, |bencher| bencher.iter(|| black_box(simulate(&inputs, &mut workspace))));
    }
}

criterion_group!(benches, prefix_caching);
criterion_main!(benches);
