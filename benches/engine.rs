//! How fast a run is: the lab-like step load under a reactive policy, and a load of long decodes.
//!
//! Each bench prints a digest of its result first, so that nobody gets faster by changing the answer.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RunInputs, Workspace, simulate};
use scalefront::workload::{self, Workload, WorkloadSpec};
use serde_json::json;

fn workload(arrivals: serde_json::Value, lengths: serde_json::Value) -> Workload {
    let spec: WorkloadSpec =
        serde_json::from_value(json!({"name": "bench", "generate": {"arrivals": arrivals, "lengths": lengths}})).expect("valid settings");
    workload::load(&spec, 1, &[]).expect("a generated workload")
}

fn bench(criterion: &mut Criterion, name: &str, workload: &Workload, cluster: serde_json::Value, autoscaler: serde_json::Value) {
    let cluster: ClusterSettings = serde_json::from_value(cluster).expect("valid settings");
    let autoscaler: AutoscalerSettings = serde_json::from_value(autoscaler).expect("valid settings");
    let files = Files::default();
    let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).expect("a known model and node");
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).expect("embedded tables");
    let inputs = RunInputs::new(workload, &cluster, &autoscaler, &times, 1).expect("a run that fits");
    let mut workspace = Workspace::default();
    let metrics = simulate(&inputs, &mut workspace).expect("a run that ends");
    println!("{name}: {} requests, digest {}", workload.len(), blake3::hash(format!("{metrics:?}").as_bytes()).to_hex().split_at(16).0);
    let mut group = criterion.benchmark_group("engine");
    group.throughput(Throughput::Elements(workload.len() as u64)).sample_size(20);
    group.bench_function(name, |bencher| bencher.iter(|| black_box(simulate(&inputs, &mut workspace))));
}

fn engine(criterion: &mut Criterion) {
    let steps = workload(
        json!({"poisson": {"phases": [
            {"duration_s": 1200, "rate_per_s": 20}, {"duration_s": 600, "rate_per_s": 30},
            {"duration_s": 1200, "rate_per_s": 50}, {"duration_s": 600, "rate_per_s": 40}]}}),
        json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}),
    );
    for router in ["round_robin", "least_outstanding"] {
        let cluster = json!({"global_scheduler": router, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        bench(criterion, &format!("steps, {router}, inferline"), &steps, cluster, json!("inferline"));
    }
    let decodes = workload(
        json!({"poisson": {"rate_per_s": 5.5, "duration_s": 3600}}),
        json!({"fixed": {"prefill_tokens": 1155, "decode_tokens": 211}}),
    );
    bench(
        criterion,
        "decodes, least_outstanding, static",
        &decodes,
        json!({"global_scheduler": "least_outstanding"}),
        json!({"static": {"replicas": 8}}),
    );
}

criterion_group!(benches, engine);
criterion_main!(benches);
