//! What several pools cost beside one: the same requests on four replicas, as one pool, as one that is called
//! so, and prefilled apart.

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, FleetInputs, RunInputs, Workspace, simulate, simulate_fleet};
use serde_json::{Value, json};

use super::{Case, Size, digest, generated};

/// The cases, in their order.
pub const FLEETS: [&str; 3] =
    ["four replicas, no pools", "four replicas, one pool", "two replicas prefill, two decode"];

pub fn cases(size: Size) -> Vec<Case> {
    let one = json!([{"name": "all"}]);
    let two = json!([{"name": "prefill", "role": "prefill"}, {"name": "decode", "role": "decode"}]);
    std::iter::zip(FLEETS, [(json!([]), 4), (one, 4), (two, 2)])
        .map(|(name, (pools, replicas))| case(size, name, &pools, replicas))
        .collect()
}

fn case(size: Size, name: &str, pools: &Value, replicas: u32) -> Case {
    let lengths = json!({"lognormal": {
        "prefill": {"mean_tokens": 1155, "cv": 0.9, "max_tokens": 3500}, "decode": {"mean_tokens": 211, "cv": 0.8, "max_tokens": 500}}});
    let workload =
        generated(json!({"poisson": {"rate_per_s": 5.5, "duration_s": 3530.0 * size.share()}}), lengths);
    let mut cluster = json!({"node": "h100_dgx", "execution_time": "analytical", "memory_planner": "vllm", "pools": pools,
        "replica_scheduler": {"vllm_v1": {"prefix_caching": false}}});
    if replicas == 2 {
        cluster["kv_transfer"] = json!({"bandwidth_gb_per_s": 25, "overhead_ms": 5});
    }
    let cluster: ClusterSettings = serde_json::from_value(cluster).expect("valid settings");
    let cluster = cluster.with_pools().expect("valid pools");
    let autoscaler: AutoscalerSettings =
        serde_json::from_value(json!({"static": {"replicas": replicas}})).expect("valid settings");
    let times: Vec<ExecutionTime> = cluster.parts().into_iter().map(times).collect();
    let mut workspace = Workspace::default();
    Case::new(name, workload.num_requests() as usize, move || {
        let times: Vec<&ExecutionTime> = times.iter().collect();
        let metrics = if cluster.pools.is_empty() {
            let inputs =
                RunInputs::new(&workload, &cluster, &autoscaler, times[0], 1).expect("a run that fits");
            simulate(&inputs, &mut workspace)
        } else {
            let inputs =
                FleetInputs::new(&workload, &cluster, &autoscaler, &times, 1).expect("a run that fits");
            simulate_fleet(&inputs, &mut workspace)
        };
        digest(metrics.expect("a run that ends").e2e_s)
    })
}

fn times(pool: &ClusterSettings) -> ExecutionTime {
    let files = Files::default();
    let deployment =
        Deployment::resolve(&pool.model, &pool.node, pool.tensor_parallel, pool.pipeline_parallel, &files);
    ExecutionTime::load(&pool.execution_time, &deployment.expect("a known model and node"), &files)
        .expect("computed steps")
}
