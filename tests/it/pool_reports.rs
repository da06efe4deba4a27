//! What a sweep of fleets leaves behind: pools in the tables, in the terminal, in `summary.md`, on the page
//! and in a figure.
#![cfg(feature = "report")]

use std::fs;

use serde_json::{Value, json};

use crate::cli::{directory_with, scalefront, stderr, stdout};

/// Prefill and decode apart, conversations that find their prompts cached, a budget that does not hold what
/// is asked for.
pub fn grid() -> Value {
    json!({
        "name": "apart",
        "workloads": [{"name": "chat", "sessions": {
            "starts": {"poisson": {"rate_per_s": 3, "duration_s": 60}}, "turns": {"fixed": {"turns": 3}}, "think_time_s": 2,
            "lengths": {"fixed": {"prefill_tokens": 1500, "decode_tokens": 60}}}}],
        "cluster": {
            "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "tensor_parallel": 1, "execution_time": "analytical",
            "max_request_tokens": 8192, "scale_up_delay_s": 5, "tune_interval_s": 5, "max_replicas": 4, "billing": {"unit": "device"},
            "replica_scheduler": {"vllm_v1": {"max_tokens_in_batch": 2048, "num_blocks": 4000}}, "latency_limits": {"ttft_s": 1},
            "pools": [{"name": "prefill", "role": "prefill"}, {"name": "decode", "role": "decode"}],
            "kv_transfer": {"bandwidth_gb_per_s": 20}, "pd_decider": [{"prefix_based": {"non_cached_tokens": 1600}}, "always"],
            "budget": {"devices": 4}},
        "autoscalers": [
            {"label": "fixed", "per_pool": {"prefill": {"static": {"replicas": [1, 2]}}, "decode": {"static": {"replicas": 1}}}},
            {"keda": {"target_per_replica": [1, 2], "polling_interval_s": 5}}],
        "objectives": {"latency": "p90_ttft_s", "constraints": {"p90_ttft_s": 0.5}}
    })
}

#[test]
fn pools_are_told_of_everywhere() {
    let dir = directory_with(&grid().to_string());
    let output = scalefront(dir.path(), &["sweep", "x.json"]);
    assert!(output.status.success(), "{}", stderr(&output));
    let results = dir.path().join("results/apart");
    let said = stdout(&output);
    assert!(
        said.contains("The cheapest fixed fleet: ") || said.contains("A fixed fleet is cheapest"),
        "{said}"
    );
    let summary = fs::read_to_string(results.join("summary.md")).unwrap();
    let page = fs::read_to_string(results.join("report.html")).unwrap();
    for text in [&said, &summary, &page] {
        let columns = [
            "P90 TTFT (s)",
            "P90 TPOT (ms)",
            "KV received (GB)",
            "P90 transfer (ms)",
            "Starved (s)",
            "Scale-ups cut",
        ];
        let lacks = columns.iter().find(|column| !text.contains(**column));
        assert!(lacks.is_none(), "{lacks:?} not in {text}");
    }
    assert!(summary.contains("plots/pools_chat.png") && results.join("plots/pools_chat.svg").exists());
    let figure = fs::read_to_string(results.join("plots/pools_chat.svg")).unwrap();
    assert!(
        figure.contains("replicas by pool over time")
            && figure.contains("prefill: ")
            && figure.contains("decode: "),
        "{figure}"
    );
    // What the tables say is what is told.
    let pools = scalefront::analysis::pools::read_pools(&results.join("pools.parquet"), None).unwrap();
    assert_eq!(pools.len(), 8);
    let named: Value =
        serde_json::from_str(&fs::read_to_string(results.join("verdict.json")).unwrap()).unwrap();
    let cost: f64 =
        pools.values().next().unwrap().iter().map(|pool| pool.figure("total_cost_usd").unwrap()).sum();
    assert!(cost > 0.0 && named.is_object() || named.is_array());
    let of = |role: &str, name: &str| {
        pools
            .values()
            .flatten()
            .filter(|pool| pool.role == role)
            .filter_map(|pool| pool.figure(name))
            .sum::<f64>()
    };
    assert!(of("decode", "received_gb") > 0.0 && of("decode", "mean_transfer_ms") > 0.0);
    assert_eq!((of("prefill", "received_gb"), of("prefill", "mean_transfer_ms")), (0.0, 0.0));
    assert!(
        of("prefill", "scale_ups_cut") + of("decode", "scale_ups_cut") > 0.0,
        "four devices are not enough"
    );
    assert!(of("prefill", "starved_s") + of("decode", "starved_s") > 0.0);
    // The curves of both pools add up to that of the fleet.
    let series = scalefront::analysis::series::read_series(&results.join("series.parquet"), None).unwrap();
    let curves = series.values().find(|curves| curves.contains_key("num_replicas[decode]")).unwrap();
    let at =
        |name: &str, at_s: f64| curves[name].iter().take_while(|point| point.0 <= at_s).last().unwrap().1;
    for at_s in [0.0, 12.5, 31.0, 58.0] {
        assert_eq!(
            at("num_replicas[prefill]", at_s) + at("num_replicas[decode]", at_s),
            at("num_replicas", at_s)
        );
    }
}

/// Whatever ran before on the same thread: what a decider finds cached is what this run has cached.
#[test]
fn a_run_knows_nothing_of_the_one_before() {
    let dir = directory_with(&grid().to_string());
    let runs = |threads: &str, out: &str| {
        let output =
            scalefront(dir.path(), &["sweep", "x.json", "--quiet", "--threads", threads, "--out", out]);
        assert!(output.status.success(), "{}", stderr(&output));
        fs::read(dir.path().join(out).join("runs.parquet")).unwrap()
    };
    let whole = runs("1", "one");
    assert!(whole == runs("8", "eight"), "runs.parquet depends on the number of threads");
}
