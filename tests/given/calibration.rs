//! Overheads from whole result files of benchmark tools, whose server is known.

use std::path::Path;

use scalefront::validation::Experiment;
use scalefront::validation::results::{Quantity, ResultFile, calibrate, median_error};
use serde_json::json;

/// The server waits with more than 16 requests; the model it would be serving is as good as any other.
fn server() -> Experiment {
    serde_json::from_value(json!({
        "id": "mock", "model": "meta-llama/Llama-3.1-8B-Instruct", "gpu": "h100_dgx", "engine": {"max_num_seqs": 16}, "load": {"stages": []},
    }))
    .unwrap()
}

/// Every file with requests is fitted, and nearer to what it has not been shown than the shipped constants
/// are.
pub fn whole_files_are_calibrated_on(shared: &Path) {
    for (path, tells_load) in [
        ("vllm/r4/result.json", false),
        ("vllm/r8_fail/result.json", false),
        ("vllm/r20c6/result.json", false),
        ("guidellm/poisson_4_w1/benchmarks.json.gz", false),
        ("guidellm/sweep4_w1/benchmarks.json.gz", true),
        ("guidellm/synchronous_w1/benchmarks.json", false),
        ("aiperf/r4/profile_export.jsonl", false),
        ("aiperf/r8_fail/profile_export.jsonl", false),
        ("inference-perf/run1/per_request_lifecycle_metrics.json.gz", true),
    ] {
        let file = ResultFile::read(&shared.join("data/bench_files").join(path)).unwrap();
        if file.results.requests.len() < 20 {
            let told = calibrate(&[file], &server()).unwrap_err().to_string();
            assert!(told.contains("expected at least 20"), "{path}: {told}");
            println!("{path}: {told}");
            continue;
        }
        let fitted = calibrate(&[file], &server()).unwrap();
        for quantity in Quantity::ALL {
            let [own, shipped] = [&fitted.unseen, &fitted.unseen_shipped]
                .map(|observed| median_error(observed, quantity).unwrap());
            println!("{path}: {}: {:.1} %, shipped {:.1} %", quantity.name(), 100.0 * own, 100.0 * shipped);
            let limit = if tells_load { 0.15 } else { 0.10 };
            assert!(own < shipped && own < limit, "{path}: {own} {shipped} {:?}", fitted.constants);
        }
        let [kernels, _, sequence, ..] = &fitted.constants[..] else { panic!() };
        println!("{path}: {:?}", fitted.constants);
        assert_eq!(
            sequence.interval.is_ok() || kernels.interval.is_ok(),
            tells_load,
            "{path}: {:?}",
            fitted.constants
        );
    }
}

/// Two files of one tool at two rates tell what goes with the load: 1 ms a running request. That server's
/// prefills hold up nobody, those of the simulated one do: so a part of it is told as tokens of prompts.
pub fn two_rates_tell_what_goes_with_the_load(shared: &Path) {
    let read = |path: &str| ResultFile::read(&shared.join("data/bench_files").join(path)).unwrap();
    let files = [read("vllm/r4/result.json"), read("vllm/r20c6/result.json")];
    let fitted = calibrate(&files, &server()).unwrap();
    println!("{:?}", fitted.constants);
    let sequence = &fitted.constants[2];
    assert!(sequence.interval.is_ok() && (500.0..1100.0).contains(&sequence.value), "{sequence:?}");
    for quantity in Quantity::ALL {
        let error = median_error(&fitted.all, quantity).unwrap();
        assert!(error < 0.09, "{}: {error}", quantity.name());
    }
}
