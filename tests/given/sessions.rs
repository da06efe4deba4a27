//! Sessions and closed loops beside what another simulator makes of them at the same prices of steps (see its
//! README there).

use std::collections::BTreeMap;
use std::path::Path;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{ClusterSettings, RequestRecord, RunInputs, Workspace, simulate_in_detail};
use scalefront::workload::{WorkloadSpec, load};
use serde_json::{Value, json};

/// Within this share, and within a step of decodes.
const TOLERANCE: f64 = 0.02;

struct Peer {
    arrived_at_s: f64,
    first_token_at_s: f64,
    completed_at_s: f64,
    prefill_tokens: u32,
    decode_tokens: u32,
    reused_tokens: u32,
}

fn peer(file: &Path) -> Vec<Peer> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines().map(|line| line.split(',').collect::<Vec<_>>());
    let header: BTreeMap<&str, usize> = lines.next().unwrap().into_iter().zip(0..).collect();
    let number = |row: &[&str], name: &str| row[header[name]].parse::<f64>().unwrap();
    lines
        .map(|row| Peer {
            arrived_at_s: number(&row, "arrived_at_s"),
            first_token_at_s: number(&row, "first_token_at_s"),
            completed_at_s: number(&row, "completed_at_s"),
            prefill_tokens: number(&row, "prefill_tokens") as u32,
            decode_tokens: number(&row, "decode_tokens") as u32,
            reused_tokens: number(&row, "reused_tokens") as u32,
        })
        .collect()
}

/// Runs on replicas as the peer has them.
fn run(shared: &Path, workload: Value, prefix_caching: bool, replicas: u32) -> Vec<RequestRecord> {
    let spec: WorkloadSpec = serde_json::from_value(workload).unwrap();
    let workload = load(&spec, 1, &[shared.join("data/peer_outputs")]).unwrap();
    let cluster: ClusterSettings = serde_json::from_value(json!({
        "model": "meta-llama/Meta-Llama-3-70B", "node": "h200_dgx", "node_price_usd_per_hour": 1, "tensor_parallel": 4,
        "max_request_tokens": 8192,
        "execution_time": {"aiconfigurator": {"systems_dir": shared.join("data/hardware/aiconfigurator"), "backend_version": "0.24.0"}},
        "replica_scheduler": {"vllm_v1": {"batch_size_cap": 256, "max_tokens_in_batch": 8192, "num_blocks": 65536,
                                          "prefix_caching": prefix_caching, "async_scheduling": false}},
    }))
    .unwrap();
    let autoscaler: AutoscalerSettings =
        serde_json::from_value(json!({"static": {"replicas": replicas}})).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let files = Files {
        cache_dir: Some(cache.path()),
        ..scalefront::sweep::plan::hardware_files::hardware_files(&[])
    };
    let deployment = Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).unwrap();
    let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
    let inputs = RunInputs::new(&workload, &cluster, &autoscaler, &times, 1).unwrap();
    simulate_in_detail(&inputs, &mut Workspace::default()).unwrap().1.requests
}

fn assert_alike(name: &str, found: &[RequestRecord], peer: &[Peer]) {
    assert_eq!(found.len(), peer.len(), "{name}");
    for (found, peer) in found.iter().zip(peer) {
        let lengths = (found.prefill_tokens, found.decode_tokens, found.cached_tokens);
        assert_eq!(
            lengths,
            (peer.prefill_tokens, peer.decode_tokens, peer.reused_tokens),
            "{name}: {found:?}"
        );
        let (ttft_s, e2e_s) = (
            found.first_token_at_s.unwrap() - found.arrived_at_s,
            found.completed_at_s.unwrap() - found.arrived_at_s,
        );
        for (what, found, peer) in [
            ("TTFT", ttft_s, peer.first_token_at_s - peer.arrived_at_s),
            ("e2e", e2e_s, peer.completed_at_s - peer.arrived_at_s),
            // On its session's own clock: pauses are exact, so answers' differences add up.
            ("arrival", found.arrived_at_s, peer.arrived_at_s),
        ] {
            assert!((found - peer).abs() <= TOLERANCE * peer, "{name}: {what} {found}, the peer's {peer}");
        }
    }
}

pub fn as_the_peer(shared: &Path) {
    let outputs = shared.join("data/peer_outputs");
    let lengths = json!({"fixed": {"prefill_tokens": 1024, "decode_tokens": 128}});
    let alone = json!({"name": "alone", "sessions": {
        "starts": {"static": {"rate_per_s": 0.04, "duration_s": 100}}, "turns": {"fixed": {"turns": 5}}, "lengths": lengths, "think_time_s": 2}});
    let closed = json!({"name": "closed", "sessions": {
        "starts": {"concurrency": {"lanes": 8, "sessions": 80}}, "turns": {"fixed": {"turns": 1}}, "lengths": lengths}});
    for (name, workload, prefix_caching) in [
        ("sess_alone_agg_1_cache", alone.clone(), true),
        ("sess_alone_agg_1_nocache", alone, false),
        ("closed_8_agg_1", closed, false),
        ("trace_sessions_agg_1_nocache", json!({"name": "trace", "trace": {"path": "sess.jsonl"}}), false),
        ("tree_agg_1_nocache", json!({"name": "tree", "trace": {"path": "tree.jsonl"}}), false),
    ] {
        assert_alike(
            name,
            &run(shared, workload, prefix_caching, 1),
            &peer(&outputs.join(format!("{name}.csv"))),
        );
    }
}
