//! Overheads from result files, made here of simulated servers whose overheads are known.

use std::fs;
use std::path::Path;

use scalefront::hardware::Overheads;
use scalefront::simulation::Workspace;
use scalefront::validation::results::{self, Quantity, ResultFile, median_error};
use scalefront::validation::{Experiment, Replay, TracedRequest};
use serde_json::json;

use super::cli::{scalefront, stderr, stdout};

const MODEL: &str = "meta-llama/Llama-3.1-8B-Instruct";
const TRUTH: Overheads = Overheads {
    kernel_time_factor: 1.15,
    step_ms: 1.4,
    per_sequence_us: 30.0,
    sampling_ns_per_logit: 0.0,
    api_ms: 21.0,
    ..Overheads::NONE
};

fn server() -> Experiment {
    serde_json::from_value(json!({
        "id": "ours", "model": MODEL, "gpu": "h100_dgx", "engine": {"engine": "vllm", "version": "0.33", "max_num_seqs": 64},
        "load": {"stages": []},
    }))
    .unwrap()
}

/// A result of `vllm bench serve` at a rate, of a server with overheads of `TRUTH`; the second of every 20
/// requests fails.
fn result(path: &Path, rate_per_s: f64, requests: u32) {
    // A low-discrepancy sequence in place of draws.
    let spread = |i: u32, step: f64| (f64::from(i) * step).fract();
    let mut at_s = 0.0;
    let traced: Vec<TracedRequest> = (0..requests)
        .map(|i| {
            at_s += -libm::log(1.0 - spread(i, 0.618_034) * 0.98) / rate_per_s;
            TracedRequest {
                stage: 0,
                arrived_at_s: at_s,
                prompt_tokens: 100 + (spread(i, 0.414_214) * 1900.0) as u32,
                output_tokens: 20 + (spread(i, 0.732_051) * 100.0) as u32,
                prompt_id: None,
                shared_prefix_tokens: 0,
            }
        })
        .collect();
    // What is refused costs the server nothing.
    let failed = |i: usize| i % 20 == 1;
    let answered =
        traced.iter().enumerate().filter(|(i, _)| !failed(*i)).map(|(_, request)| request.clone()).collect();
    let mut served = Replay::of(&server(), Some(answered))
        .unwrap()
        .run(&TRUTH, 1, &mut Workspace::default())
        .unwrap()
        .into_iter();
    let served: Vec<[f64; 2]> =
        (0..traced.len())
            .map(|i| {
                if failed(i) { [0.0; 2] } else { served.next().map(|one| [one.ttft_ms, one.e2e_ms]).unwrap() }
            })
            .collect();
    let list = |value: &dyn Fn(usize) -> f64| (0..traced.len()).map(value).collect::<Vec<_>>();
    let document = json!({
        "date": "20261129-120000", "endpoint_type": "openai-chat", "num_prompts": requests, "request_rate": rate_per_s,
        "total_output_tokens": 1, "max_concurrency": null,
        "input_lens": list(&|i| f64::from(traced[i].prompt_tokens)),
        "output_lens": list(&|i| if failed(i) { 0.0 } else { f64::from(traced[i].output_tokens) }),
        "start_times": list(&|i| 5000.0 + traced[i].arrived_at_s),
        "queue_times": list(&|_| 0.0),
        "ttfts": list(&|i| served[i][0] / 1e3),
        "latencies": list(&|i| served[i][1] / 1e3),
        "errors": (0..traced.len()).map(|i| if failed(i) { "refused" } else { "" }).collect::<Vec<_>>(),
    });
    fs::write(path, document.to_string()).unwrap();
}

#[test]
fn two_rates_tell_every_constant() {
    let dir = tempfile::tempdir().unwrap();
    let paths = [dir.path().join("slow.json"), dir.path().join("fast.json")];
    result(&paths[0], 2.0, 120);
    result(&paths[1], 24.0, 240);
    let files = paths.each_ref().map(|path| ResultFile::read(path).unwrap());
    assert_eq!(files[0].results.failed, 6);
    let fitted = results::calibrate(&files, &server()).unwrap();
    for constant in fitted.constants.iter().filter(|constant| constant.name != "prefill_us_per_token") {
        let [low, high] =
            constant.interval.clone().unwrap_or_else(|reason| panic!("{}: {reason}", constant.name));
        assert!(low <= constant.value && constant.value <= high, "{constant:?}");
    }
    // Kernels and prompts share what a prefill takes; together they are right.
    let found = fitted.overheads;
    assert!(
        (found.api_ms - TRUTH.api_ms).abs() < 2.0
            && (found.kernel_time_factor - TRUTH.kernel_time_factor).abs() < 0.1,
        "{found:?}"
    );
    let error = |observed| median_error(observed, Quantity::E2e).unwrap();
    assert!(
        error(&fitted.all) < 0.01
            && error(&fitted.unseen) < 0.3 * error(&fitted.unseen_shipped)
            && error(&fitted.unseen_shipped) > 0.15,
        "{fitted:?}"
    );
}

#[test]
fn one_rate_tells_what_does_not_go_with_load() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("one.json");
    result(&path, 4.0, 120);
    let fitted = results::calibrate(&[ResultFile::read(&path).unwrap()], &server()).unwrap();
    for (constant, told) in fitted.constants.iter().zip([false, true, false, true, true]) {
        assert_eq!(constant.interval.is_ok(), told, "{constant:?}");
        if let Err(reason) = &constant.interval {
            assert!(
                reason.starts_with("one rate only")
                    && reason.contains("`--request-rate`")
                    && constant.value == constant.shipped
            );
        }
    }
    assert!(median_error(&fitted.unseen, Quantity::E2e).unwrap() < 0.02);
}

#[test]
fn the_command_keeps_what_a_grid_takes_by_name() {
    let dir = tempfile::tempdir().unwrap();
    result(&dir.path().join("a.json"), 4.0, 60);
    let output = scalefront(
        dir.path(),
        &["hardware", "calibrate", "a.json", "--model", MODEL, "--node", "h100_dgx", "--name", "lab"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let text = stdout(&output);
    assert!(
        text.contains("57 requests answered; left out: 3 failed, 0 to warm up")
            && text.contains("Your server: "),
        "{text}"
    );
    let stored = fs::read_to_string(dir.path().join("results/calibrations/lab.json")).unwrap();
    assert!(
        stored.contains("\"tool\": \"vllm bench serve\"") && stored.contains("one rate only"),
        "{stored}"
    );
    let grid = |calibration: &str| {
        let grid = json!({
            "workloads": [{"name": "w", "generate": {
                "arrivals": {"poisson": {"phases": [{"duration_s": 5, "rate_per_s": 2}]}},
                "lengths": {"fixed": {"prefill_tokens": 200, "decode_tokens": 8}}}}],
            "cluster": {
                "model": MODEL, "node": "h100_dgx", "tensor_parallel": 1, "node_price_usd_per_hour": 20, "execution_time": "analytical",
                "replica_scheduler": "vllm_v1", "engine_overheads": {"stored": {"calibration": calibration}}},
            "autoscalers": [{"static": {"replicas": 1}}],
        });
        fs::write(dir.path().join("grid.json"), grid.to_string()).unwrap();
        scalefront(dir.path(), &["sweep", "grid.json", "--dry-run"])
    };
    for calibration in ["lab", "results/calibrations/lab.json"] {
        let output = grid(calibration);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    }
    let output = grid("labb");
    assert_eq!(output.status.code(), Some(2));
    assert!(
        stderr(&output).contains("cluster.engine_overheads") && stderr(&output).contains("labb.json"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn what_cannot_be_calibrated_on_says_why() {
    let dir = tempfile::tempdir().unwrap();
    result(&dir.path().join("short.json"), 4.0, 15);
    result(&dir.path().join("a.json"), 4.0, 60);
    fs::write(dir.path().join("notes.json"), "{\"a\": 1}").unwrap();
    let known = ["--model", MODEL, "--node", "h100_dgx"];
    for (file, flags, said) in [
        ("short.json", &known[..], "14 answered requests found, expected at least 20"),
        ("a.json", &known[2..], "--model: missing, and no result file tells it"),
        ("a.json", &known[..2], "--node: missing, and no result file tells it"),
        (
            "a.json",
            &["--model", "nobody/nothing", "--node", "h100_dgx"],
            "model `nobody/nothing` is not in the catalogue",
        ),
        ("notes.json", &known, "no result file of a known layout found, expected one of vllm bench serve"),
        ("nowhere.json", &known, "nowhere.json"),
    ] {
        let arguments = [&["hardware", "calibrate", file], flags].concat();
        let output = scalefront(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(2), "{file}");
        assert!(stderr(&output).contains(said), "{file}: {}", stderr(&output));
    }
    assert!(!dir.path().join("results").exists());
}
