//! Prefill and decode apart beside what another simulator makes of them at the same prices of steps (see its
//! README there).

use std::collections::BTreeMap;
use std::path::Path;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{
    ClusterSettings, Detail, FleetInputs, RequestRecord, Workspace, simulate_fleet_in_detail,
};
use scalefront::workload::{Workload, WorkloadSpec, load};
use serde_json::{Value, json};

/// Of each request's TTFT and end-to-end latency.
const TOLERANCE: f64 = 0.02;
/// A step of the decode replica that begins so near to the end of a prompt or of a transfer may take the
/// request along on one side and not on the other: the two simulators' clocks differ by microseconds a step.
const EDGE_S: f64 = 0.3e-3;
/// A first token that differs by more than this comes of another step.
const MOVED_S: f64 = 1e-3;
/// Whoever misses a step has its first token one step later.
const STEP_MS: f64 = 17.0;

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
fn run(shared: &Path, workload: &Workload, replicas: u32, transfer: Value, decode_node: &str) -> Detail {
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
    let autoscaler: AutoscalerSettings =
        serde_json::from_value(json!({"static": {"replicas": replicas}})).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let files = Files {
        cache_dir: Some(cache.path()),
        ..scalefront::sweep::plan::hardware_files::hardware_files(&[])
    };
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
    detail
}

/// The peer's arrivals.
fn arrivals(rows: &[Row]) -> Workload {
    let mut workload = Workload::default();
    for row in rows {
        workload.push(
            number(row, "arrived_at_s"),
            number(row, "prefill_tokens") as u32,
            number(row, "decode_tokens") as u32,
        );
    }
    workload
}

/// The same as sessions whose first turns come as the peer's do, and whose later turns wait for answers and
/// two seconds more.
fn sessions(rows: &[Row]) -> Workload {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sessions.jsonl");
    let mut lines = String::new();
    for row in rows {
        let mut line = json!({
            "session_id": row["session"], "input_length": number(row, "prefill_tokens") as u32,
            "output_length": number(row, "decode_tokens") as u32, "hash_ids": [],
        });
        if row["turn"] == "0" {
            line["timestamp"] = json!(number(row, "arrived_at_s") * 1e3);
        } else {
            line["delay"] = json!(2000);
        }
        lines += &format!("{line}\n");
    }
    std::fs::write(&path, lines).unwrap();
    let spec: WorkloadSpec =
        serde_json::from_value(json!({"name": "sessions", "trace": {"path": path, "format": "mooncake"}}))
            .unwrap();
    load(&spec, 1, &[]).unwrap()
}

/// TTFT and end-to-end latency.
fn latencies(found: &RequestRecord) -> [f64; 2] {
    [found.first_token_at_s, found.completed_at_s].map(|at_s| at_s.unwrap() - found.arrived_at_s)
}

fn is_within(found: &RequestRecord, peer: &Row) -> bool {
    let peer = [number(peer, "ttft_s"), number(peer, "e2e_s")];
    std::iter::zip(latencies(found), peer).all(|(found, peer)| (found - peer).abs() <= TOLERANCE * peer)
}

/// Whether a step of the decode replica begins at an edge of the request's way there.
fn is_on_edge(detail: &Detail, request: &RequestRecord) -> bool {
    let hops = request.hops.unwrap();
    let edges = [hops.prefill_end_s, hops.transfer_end_s].map(Option::unwrap);
    let steps =
        detail.pools[1].batches.iter().filter(|batch| Some(batch.replica_id) == hops.decode_replica_id);
    steps.into_iter().any(|step| edges.iter().any(|edge| (step.scheduled_at_s - edge).abs() < EDGE_S))
}

/// Whether another request is given room at the same step: on a busy replica the peer gave it to one of the
/// two, and to the other a step later.
fn shares_its_step(detail: &Detail, request: &RequestRecord) -> bool {
    let of =
        |request: &RequestRecord| request.hops.map(|hops| (hops.decode_replica_id, hops.transfer_start_s));
    detail.requests.iter().filter(|other| of(other) == of(request)).count() > 1
}

/// Whether a decode replica had something to do all the time from one moment to another.
fn is_busy(detail: &Detail, replica_id: u32, from_s: f64, to_s: f64) -> bool {
    let steps = detail.pools[1].batches.iter().filter(|batch| batch.replica_id == replica_id);
    let within: Vec<_> =
        steps.filter(|step| step.completed_at_s > from_s && step.scheduled_at_s < to_s).collect();
    !within.is_empty() && within.windows(2).all(|pair| pair[1].scheduled_at_s - pair[0].completed_at_s < 1e-9)
}

/// How many requests are beyond the tolerance without a reason: neither on an edge themselves, nor at a
/// replica whose steps begin at other moments than the peer's since an edge, because it has not been idle
/// since.
fn unexplained(detail: &Detail, peer: &[Row]) -> usize {
    let mut shifted_s: BTreeMap<u32, f64> = BTreeMap::new();
    // Those that tell of another step, be they beyond the tolerance or not.
    let differs = |(found, peer): &(&RequestRecord, &Row)| {
        (latencies(found)[0] - number(peer, "ttft_s")).abs() > MOVED_S
    };
    let mut moved: Vec<(&RequestRecord, &Row)> =
        std::iter::zip(&detail.requests, peer).filter(differs).collect();
    moved.sort_by(|a, b| {
        a.0.hops.unwrap().prefill_end_s.partial_cmp(&b.0.hops.unwrap().prefill_end_s).unwrap()
    });
    let mut explained = 0;
    for (request, peer) in &moved {
        let hops = request.hops.unwrap();
        let (replica, at_s) = (hops.decode_replica_id.unwrap(), hops.prefill_end_s.unwrap());
        let since_s =
            shifted_s.get(&replica).copied().filter(|&since_s| is_busy(detail, replica, since_s, at_s));
        if is_on_edge(detail, request) || since_s.is_some() || shares_its_step(detail, request) {
            shifted_s.insert(replica, since_s.unwrap_or(at_s));
            explained += usize::from(!is_within(request, peer));
        }
    }
    std::iter::zip(&detail.requests, peer).filter(|(found, peer)| !is_within(found, peer)).count() - explained
}

/// A run beside the peer's.
struct Beside {
    within: usize,
    /// See [`unexplained`].
    unexplained: usize,
    /// Differences of TTFT in milliseconds.
    median_ms: f64,
    worst_ms: f64,
}

fn compare(name: &str, detail: &Detail, peer: &[Row]) -> Beside {
    assert_eq!(detail.requests.len(), peer.len(), "{name}");
    let pairs = || std::iter::zip(&detail.requests, peer);
    let within = pairs().filter(|(found, peer)| is_within(found, peer)).count();
    let unexplained = unexplained(detail, peer);
    let mut differences: Vec<f64> =
        pairs().map(|(found, peer)| (latencies(found)[0] - number(peer, "ttft_s")).abs() * 1e3).collect();
    differences.sort_by(f64::total_cmp);
    let (median_ms, worst_ms) = (differences[differences.len() / 2], differences[differences.len() - 1]);
    println!(
        "{name}: {within} of {} within {TOLERANCE}, {unexplained} of the others without a reason, TTFT off by {median_ms:.3} ms in the median, \
         {worst_ms:.3} at most",
        peer.len()
    );
    Beside { within, unexplained, median_ms, worst_ms }
}

pub fn as_the_peer(shared: &Path) {
    let outputs = shared.join("data/peer_outputs");
    let case = |name: &str| peer(&outputs.join(format!("{name}.csv")));
    let at_50 = json!({"bandwidth_gb_per_s": 50});
    let mut all = Vec::new();
    // With the share of requests that has to be within the tolerance; every other has to have its reason.
    for (name, replicas, transfer, decode_node, share) in [
        ("pd_one_request_at_a_time", 1, at_50.clone(), "h200_dgx", 1.0),
        ("pd_2p2d", 2, at_50.clone(), "h200_dgx", 0.98),
        ("pd_kv_5gb", 2, json!({"bandwidth_gb_per_s": 5}), "h200_dgx", 0.98),
        ("pd_kv_instant", 2, json!({}), "h200_dgx", 0.98),
        ("pd_h200_prefill_h100_decode", 2, at_50.clone(), "h100_dgx", 0.92),
    ] {
        let rows = case(name);
        let detail = run(shared, &arrivals(&rows), replicas, transfer, decode_node);
        all.push((name, rows.len(), share, compare(name, &detail, &rows)));
    }
    let rows = case("closed_8_pd_2p2d");
    let closed = json!({"name": "closed", "sessions": {
        "starts": {"concurrency": {"lanes": 8, "sessions": rows.len()}}, "turns": {"fixed": {"turns": 1}},
        "lengths": {"fixed": {"prefill_tokens": 2048, "decode_tokens": 128}}}});
    let workload = load(&serde_json::from_value::<WorkloadSpec>(closed).unwrap(), 1, &[]).unwrap();
    let beside = compare("closed_8_pd_2p2d", &run(shared, &workload, 2, at_50, "h200_dgx"), &rows);
    all.push(("closed_8_pd_2p2d", rows.len(), 1.0, beside));
    for (name, number, share, beside) in all {
        let Beside { within, unexplained, median_ms, worst_ms } = beside;
        assert!(
            within as f64 >= share * number as f64,
            "{name}: {within} of {number} requests within {TOLERANCE}"
        );
        assert_eq!(unexplained, 0, "{name}: requests beyond {TOLERANCE} without a reason");
        assert!(median_ms < 0.5 && worst_ms < STEP_MS, "{name}: {median_ms} ms, {worst_ms} ms");
    }
}

/// When two prompts of unequal length are computed in one step for the first time: the peer prices them as so
/// many of their mean length, and whatever follows is another course of the same rules.
fn first_unequal_step_s(detail: &Detail) -> f64 {
    let mut steps: BTreeMap<(u32, u64), Vec<u32>> = BTreeMap::new();
    for request in &detail.requests {
        let end_s = request.hops.unwrap().prefill_end_s.unwrap();
        steps.entry((request.replica_id.unwrap(), end_s.to_bits())).or_default().push(request.prefill_tokens);
    }
    let unequal = steps.iter().filter(|(_, prompts)| prompts.iter().any(|prompt| *prompt != prompts[0]));
    unequal.map(|((_, end_s), _)| f64::from_bits(*end_s)).fold(f64::INFINITY, f64::min)
}

/// Sessions of five turns, where an answer that comes a little later moves the next turn and so whose turn a
/// replica is.
pub fn sessions_as_the_peer(shared: &Path) {
    let rows = peer(&shared.join("data/peer_outputs/sess_pd_2p2d_nocache.csv"));
    let detail = run(shared, &sessions(&rows), 2, json!({"bandwidth_gb_per_s": 50}), "h200_dgx");
    assert_eq!(detail.requests.len(), rows.len());
    let key = |row: &Row| {
        (
            row["session"].trim_start_matches("session_").parse::<u32>().unwrap(),
            row["turn"].parse::<u32>().unwrap(),
        )
    };
    let of_peer: BTreeMap<(u32, u32), &Row> = rows.iter().map(|row| (key(row), row)).collect();
    let first_turn = detail.requests.iter().map(|request| request.session.unwrap().1).min().unwrap();
    let pairs: Vec<(&RequestRecord, &Row)> = detail
        .requests
        .iter()
        .map(|request| {
            let (session, turn) = request.session.unwrap();
            (request, of_peer[&(session, turn - first_turn)])
        })
        .collect();
    let until_s = first_unequal_step_s(&detail);
    let before: Vec<_> = pairs.iter().filter(|(found, _)| found.completed_at_s.unwrap() < until_s).collect();
    let agree = before.iter().filter(|(found, peer)| is_within(found, peer)).count();
    let within = pairs.iter().filter(|(found, peer)| is_within(found, peer)).count();
    let mean =
        |of: &dyn Fn(&(&RequestRecord, &Row)) -> f64| pairs.iter().map(of).sum::<f64>() / pairs.len() as f64;
    let means = [0, 1].map(|which| {
        let peer = mean(&|(_, peer)| number(peer, ["ttft_s", "e2e_s"][which]));
        mean(&|(found, _)| latencies(found)[which]) / peer
    });
    println!(
        "sess_pd_2p2d_nocache: {agree} of {} before {until_s:.1} s within {TOLERANCE}, {within} of {} in all; means of TTFT and end-to-end \
         latency {:.4} and {:.4} of the peer's",
        before.len(),
        pairs.len(),
        means[0],
        means[1]
    );
    assert!(before.len() > 40 && agree == before.len(), "{agree} of {} before {until_s} s", before.len());
    // After that, another course of the same rules: as long on average, if not request by request. The peer's
    // prompts of unequal length cost too little, which the first tokens show.
    assert!(within as f64 >= 0.66 * pairs.len() as f64, "{within} of {}", pairs.len());
    assert!(
        (1.0..1.0 + 1.25 * TOLERANCE).contains(&means[0]) && (means[1] - 1.0).abs() < TOLERANCE,
        "{means:?}"
    );
}
