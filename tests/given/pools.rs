//! Prefill and decode apart beside what another simulator makes of them at the same prices of steps (see its README there).

use std::collections::BTreeMap;
use std::path::Path;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, FleetInputs, RequestRecord, Workspace, simulate_fleet_in_detail};
use scalefront::workload::{Workload, WorkloadSpec, load};
use serde_json::{Value, json};

/// Of each request's TTFT and end-to-end latency.
const TOLERANCE: f64 = 0.02;

type Row = BTreeMap<String, String>;

fn peer(file: &Path) -> Vec<Row> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').map(str::to_owned).collect::<Vec<_>>());
    let header = lines.next().unwrap();
    lines.map(|row| header.iter().cloned().zip(row).collect()).collect()
}

fn number(row: &Row, name: &str) -> f64 {
    row[name].parse().unwrap()
}

/// Runs two prefill and two decode replicas, or one of each, as the peer has them.
fn run(shared: &Path, workload: &Workload, replicas: u32, transfer: Value, decode_node: &str) -> Vec<RequestRecord> {
    let cluster: ClusterSettings = serde_json::from_value(json!({
        "model": "meta-llama/Meta-Llama-3-70B", "node": "h200_dgx", "node_price_usd_per_hour": 1, "tensor_parallel": 4,
        "max_request_tokens": 8192,
        "execution_time": {"aiconfigurator": {"systems_dir": shared.join("data/hardware/aiconfigurator"), "backend_version": "0.24.0"}},
        "replica_scheduler": {"vllm_v1": {"batch_size_cap": 256, "max_tokens_in_batch": 8192, "num_blocks": 65536,
                                          "prefix_caching": false, "async_scheduling": false}},
        "pools": [{"name": "prefill", "role": "prefill"}, {"name": "decode", "role": "decode", "node": decode_node}],
        "kv_transfer": transfer,
    }))
    .unwrap();
    let cluster = cluster.with_pools().unwrap();
    let autoscaler: AutoscalerSettings = serde_json::from_value(json!({"static": {"replicas": replicas}})).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let files = Files { cache_dir: Some(cache.path()), ..scalefront::sweep::plan::hardware_files::hardware_files(&[]) };
    let times: Vec<ExecutionTime> = cluster
        .parts()
        .into_iter()
        .map(|pool| {
            let deployment = Deployment::resolve(&pool.model, &pool.node, 4, 1, &files).unwrap();
            ExecutionTime::load(&pool.execution_time, &deployment, &files).unwrap()
        })
        .collect();
    let times: Vec<&ExecutionTime> = times.iter().collect();
    let inputs = FleetInputs::new(workload, &cluster, &autoscaler, &times, 1).unwrap();
    let (metrics, detail) = simulate_fleet_in_detail(&inputs, &mut Workspace::default()).unwrap();
    let fleet = metrics.fleet.unwrap();
    assert_eq!(fleet.transfers, Some(metrics.num_completed));
    detail.requests
}

/// The peer's arrivals.
fn arrivals(rows: &[Row]) -> Workload {
    let mut workload = Workload::default();
    for row in rows {
        workload.push(number(row, "arrived_at_s"), number(row, "prefill_tokens") as u32, number(row, "decode_tokens") as u32);
    }
    workload
}

/// How many requests are further off than this share, and the worst and the median difference of TTFT in milliseconds.
fn compare(name: &str, found: &[RequestRecord], peer: &[Row]) -> (usize, f64, f64) {
    assert_eq!(found.len(), peer.len(), "{name}");
    let mut off = 0;
    let mut differences = Vec::new();
    for (found, peer) in found.iter().zip(peer) {
        let ttft_s = found.first_token_at_s.unwrap() - found.arrived_at_s;
        let e2e_s = found.completed_at_s.unwrap() - found.arrived_at_s;
        let far = |found: f64, peer: f64| (found - peer).abs() > TOLERANCE * peer;
        off += usize::from(far(ttft_s, number(peer, "ttft_s")) || far(e2e_s, number(peer, "e2e_s")));
        differences.push((ttft_s - number(peer, "ttft_s")).abs() * 1e3);
    }
    differences.sort_by(f64::total_cmp);
    let (median, worst) = (differences[differences.len() / 2], differences[differences.len() - 1]);
    println!("{name}: {off} of {} beyond {TOLERANCE}, TTFT off by {median:.3} ms in the median, {worst:.3} at most", found.len());
    (off, median, worst)
}

pub fn as_the_peer(shared: &Path) {
    let outputs = shared.join("data/peer_outputs");
    let case = |name: &str| peer(&outputs.join(format!("{name}.csv")));
    let at_50 = json!({"bandwidth_gb_per_s": 50});
    let mut all = Vec::new();
    for (name, replicas, transfer, decode_node) in [
        ("pd_one_request_at_a_time", 1, at_50.clone(), "h200_dgx"),
        ("pd_2p2d", 2, at_50.clone(), "h200_dgx"),
        ("pd_kv_5gb", 2, json!({"bandwidth_gb_per_s": 5}), "h200_dgx"),
        ("pd_kv_instant", 2, json!({}), "h200_dgx"),
        ("pd_h200_prefill_h100_decode", 2, at_50.clone(), "h100_dgx"),
    ] {
        let rows = case(name);
        all.push((name, compare(name, &run(shared, &arrivals(&rows), replicas, transfer, decode_node), &rows)));
    }
    let closed = json!({"name": "closed", "sessions": {
        "starts": {"concurrency": {"lanes": 8, "sessions": 80}}, "turns": {"fixed": {"turns": 1}},
        "lengths": {"fixed": {"prefill_tokens": 2048, "decode_tokens": 128}}}});
    let rows = case("closed_8_pd_2p2d");
    let mut closed = closed;
    closed["sessions"]["starts"]["concurrency"]["sessions"] = json!(rows.len());
    let spec: WorkloadSpec = serde_json::from_value(closed).unwrap();
    let workload = load(&spec, 1, &[]).unwrap();
    all.push(("closed_8_pd_2p2d", compare("closed_8_pd_2p2d", &run(shared, &workload, 2, at_50, "h200_dgx"), &rows)));
    // The others get in one step of the decode replica earlier or later: one that begins within microseconds of a prompt's end.
    for (name, (off, median_ms, worst_ms)) in all {
        let most_off = match name {
            "pd_one_request_at_a_time" | "closed_8_pd_2p2d" => 0,
            "pd_h200_prefill_h100_decode" => 24,
            _ => 5,
        };
        assert!(off <= most_off, "{name}: {off} requests beyond {TOLERANCE}");
        assert!(median_ms < 0.5 && worst_ms < 17.0, "{name}: {median_ms} ms, {worst_ms} ms");
    }
}
