//! Runs in which the fleet scaled, made here of simulated ones whose overheads are known.

use std::fs;
use std::path::Path;

use scalefront::hardware::Overheads;
use scalefront::simulation::Workspace;
use scalefront::validation::fleet::{self, FleetReplay, FleetRun};
use serde_json::json;

use super::cli::{scalefront, stderr, stdout};

const TRUTH: Overheads = Overheads {
    kernel_time_factor: 0.95,
    step_ms: 3.0,
    per_sequence_us: 0.0,
    sampling_ns_per_logit: 0.0,
    api_ms: 12.0,
    ..Overheads::NONE
};

/// A run of two stages whose replicas rise from one to two and fall to one again, as a server with overheads
/// of `TRUTH` would have served it.
fn run(dir: &Path, id: &str, rate_per_s: f64) {
    let folder = dir.join(id);
    fs::create_dir_all(&folder).unwrap();
    let description = json!({
        "id": id, "caveats": ["prose is ignored"],
        "engine": {
            "engine": "vllm", "version": "0.20.2", "model": "Llama-3.1-8B-Instruct", "gpu": "H100-80GB-HBM3", "kv_blocks": 6000,
            "block_size_tokens": 64, "prefix_caching": true, "max_num_seqs": "not recorded"
        },
        "controller": {
            "kind": "llm-d workload-variant-autoscaler, saturation engine V2", "analyzers": ["saturation"],
            "hpa": {"min_replicas": 1, "max_replicas": 4, "metric_polling_s": 15, "scale_up": {"percent": 100, "period_s": 15, "window_s": 0},
                "scale_down": {"percent": 100, "period_s": 15, "window_s": 120}},
            "law": {"cycle_s": 60}
        },
        "boot": {"desired_to_ready": [{"lag_s": 70}, {"lag_s": 90}, {"lag_s": null}]}
    });
    fs::write(folder.join("run.json"), description.to_string()).unwrap();
    fs::write(folder.join("serving_replicas.csv"), "t_s,serving\n0,1\n200,2\n520,1\n").unwrap();
    fs::write(
        folder.join("replicas.csv"),
        "t_s,desired,ready,available\n0,1,1,1\n120,2,1,1\n210,2,2,2\n525,1,1,1\n",
    )
    .unwrap();
    let write = |times: &dyn Fn(usize) -> (f64, f64)| {
        let mut csv =
            String::from("request,arrived_at_s,prompt_tokens,output_tokens,ttft_s,e2e_s,outcome,pod\n");
        let mut at_s = 10.0;
        for i in 0..(300.0 * rate_per_s) as usize * 2 {
            // Two stages, the second twice as fast, with a pause between them.
            let second = i >= (300.0 * rate_per_s) as usize;
            let gap = -libm::log(1.0 - (i as f64 * 0.618_034).fract() * 0.98) / rate_per_s;
            at_s += if second { gap / 2.0 } else { gap }
                + if i == (300.0 * rate_per_s) as usize { 8.0 } else { 0.0 };
            let (ttft_s, e2e_s) = times(i);
            csv += &format!(
                "{i},{at_s:.6},{},{},{ttft_s:.6},{e2e_s:.6},ok,\n",
                500 + (i * 37) % 1500,
                60 + (i * 13) % 90
            );
        }
        fs::write(folder.join("requests.csv"), csv).unwrap();
    };
    write(&|_| (1.0, 2.0));
    let unmeasured = FleetRun::read(&folder).unwrap();
    let replay = FleetReplay::new(&unmeasured).unwrap();
    let served = replay.open_loop(&TRUTH, &mut Workspace::default()).unwrap().detail.requests;
    write(&|i| {
        let times = |at_s: Option<f64>| at_s.map_or(1.0, |at_s| at_s - served[i].arrived_at_s);
        (times(served[i].first_token_at_s), times(served[i].completed_at_s))
    });
}

#[test]
fn overheads_of_other_runs_tell_how_a_run_was_served() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "one", 2.0);
    run(dir.path(), "two", 3.0);
    let runs: Vec<FleetRun> =
        fleet::folders(dir.path()).iter().map(|folder| FleetRun::read(folder).unwrap()).collect();
    assert_eq!(runs.iter().map(|run| run.requests.last().unwrap().stage).collect::<Vec<_>>(), [1, 1]);
    let replays: Vec<FleetReplay> = runs.iter().map(|run| FleetReplay::new(run).unwrap()).collect();
    let start = Overheads { api_ms: 6.0, ..Overheads::NONE };
    let fit = fleet::fit(&[&replays[0]], &start).unwrap();
    // A run of two stages does not tell kernels from steps, but what a step with one decode takes of both
    // (its kernels take 6.4 ms), and the API.
    let idle_ms = |overheads: &Overheads| 6.44 * overheads.kernel_time_factor + overheads.step_ms;
    assert!(
        (idle_ms(&fit) - idle_ms(&TRUTH)).abs() < 0.1 && (fit.api_ms - TRUTH.api_ms).abs() < 1.0,
        "{fit:?}"
    );
    let (simulated, answers) = fleet::open_loop(&replays[1], &fit).unwrap();
    let mut serving: Vec<_> = simulated.serving().iter().map(|step| step.1).collect();
    serving.dedup();
    assert_eq!(serving, [1, 2], "the load ends before the scale-down");
    for answer in answers.iter().filter(|answer| answer.question.starts_with("e2e")) {
        assert!(answer.error().abs() < 0.05, "{answer:?}");
    }
    let (_, unfitted) = fleet::open_loop(&replays[1], &start).unwrap();
    assert!(
        unfitted.iter().any(|answer| answer.question.starts_with("e2e") && answer.error() < -0.1),
        "as good without a fit: {unfitted:?}"
    );
}

#[test]
fn the_command_tells_both_loops_and_what_is_not_on_record() {
    let dir = tempfile::tempdir().unwrap();
    run(dir.path(), "one", 2.0);
    run(dir.path(), "two", 2.0);
    fs::create_dir(dir.path().join("bare")).unwrap();
    fs::write(dir.path().join("bare/run.json"), r#"{"id": "bare", "model": "told elsewhere"}"#).unwrap();
    let output = scalefront(dir.path(), &["hardware", "validate", ".", "--seeds", "1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    for said in [
        "bare: skipped: run.json does not describe the engine",
        "overheads: fitted to two: kernels x",
        "open loop",
        "closed loop",
        "e2e_p90, s",
        "first_scale_up, s",
        "not on record: the engines' counters",
        "questions PASS",
    ] {
        assert!(text.contains(said), "{said} is not in {text}");
    }
    let table = fs::read_to_string(dir.path().join("results/validation/fleets.csv")).unwrap();
    assert!(table.lines().any(|line| line.starts_with("two,closed loop,replica_hours,h,")), "{table}");
    fs::write(dir.path().join("one/serving_replicas.csv"), "t_s,serving\n0,1\nsoon,2\n").unwrap();
    let output = scalefront(dir.path(), &["hardware", "validate", "."]);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("serving_replicas.csv, line 3: column `t_s` is `soon`"),
        "{}",
        stderr(&output)
    );
}
