//! Whole result files of benchmark tools, beside what the server did.

use std::path::Path;

use scalefront::workload::formats::TraceFormat;
use scalefront::workload::{TraceSpec, trace};

/// When the server received each request that it answered, warm-up left out, and its own counts of tokens.
fn truth(file: &Path, warm_up: usize) -> Vec<(f64, u32, u32)> {
    let text = std::fs::read_to_string(file).unwrap();
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().unwrap().split(',').collect();
    let column = |name: &str| header.iter().position(|found| *found == name).unwrap();
    let (at, prompt, output, status) =
        (column("received_unix_s"), column("prompt_tokens"), column("output_tokens"), column("status"));
    let row = |line: &str| {
        let fields: Vec<&str> = line.split(',').collect();
        let number = |column: usize| fields[column].parse::<f64>().unwrap();
        (number(at), number(prompt) as u32, number(output) as u32, fields[status] == "200")
    };
    let mut rows: Vec<(f64, u32, u32, bool)> = lines.map(row).collect();
    rows.sort_by(|a, b| a.0.total_cmp(&b.0));
    rows.into_iter()
        .skip(warm_up)
        .filter(|row| row.3)
        .map(|(at, prompt, output, _)| (at, prompt, output))
        .collect()
}

pub fn whole_files_are_what_the_server_saw(shared: &Path) {
    let files = [
        ("vllm/r4/result.json", TraceFormat::VllmBench, 0),
        ("vllm/r8_fail/result.json", TraceFormat::VllmBench, 0),
        ("vllm/r20c6/result.json", TraceFormat::VllmBench, 0),
        ("guidellm/poisson_4_w1/benchmarks.json.gz", TraceFormat::GuideLlm, 0),
        ("guidellm/sweep4_w1/benchmarks.json.gz", TraceFormat::GuideLlm, 0),
        ("guidellm/synchronous_w1/benchmarks.json", TraceFormat::GuideLlm, 0),
        ("aiperf/r4/profile_export.jsonl", TraceFormat::AiPerf, 0),
        ("aiperf/r8_fail/profile_export.jsonl", TraceFormat::AiPerf, 3),
        ("inference-perf/run1/per_request_lifecycle_metrics.json.gz", TraceFormat::InferencePerf, 0),
    ];
    for (path, format, warm_up) in files {
        let file = shared.join("data/bench_files").join(path);
        let (workload, notes) = trace::read(&TraceSpec::new(&file), &[]).unwrap();
        let truth = truth(&file.with_file_name("truth.csv"), warm_up);
        assert_eq!((notes.format, workload.len()), (format, truth.len()), "{path}");
        let lengths = |mut pairs: Vec<(u32, u32)>| {
            pairs.sort_unstable();
            pairs
        };
        let found = (0..workload.len())
            .map(|request| (workload.prefill_tokens[request], workload.decode_tokens[request]))
            .collect();
        assert_eq!(lengths(found), lengths(truth.iter().map(|row| (row.1, row.2)).collect()), "{path}");
        // The way from the client to the server took about as long for all, but for connections that had to
        // be made first.
        let mut ways: Vec<f64> = workload
            .arrived_at_s
            .iter()
            .zip(&truth)
            .map(|(sent_s, row)| row.0 - truth[0].0 - sent_s)
            .collect();
        let mut sorted = ways.clone();
        sorted.sort_by(f64::total_cmp);
        let usual_s = sorted[sorted.len() / 2];
        ways.iter_mut().for_each(|way_s| *way_s = (*way_s - usual_s).abs());
        let late = ways.iter().filter(|way_s| **way_s > 0.005).count();
        assert!(
            late * 6 <= ways.len() && ways.iter().all(|way_s| *way_s < 0.020),
            "{path}: {late} of {} later than 5 ms: {ways:?}",
            ways.len()
        );
    }
}

pub fn whole_files_without_arrivals_are_refused(shared: &Path) {
    for (path, reason) in [
        ("sglang/r4/result.jsonl", "holds when no request was sent"),
        ("sglang/r8_fail/result.jsonl", "holds when no request was sent"),
        ("aiperf/r4/profile_export_aiperf.json", "`profile_export.jsonl`"),
        ("aiperf/r4/profile_export_aiperf.csv", "`profile_export.jsonl`"),
        ("guidellm/sweep4_w1/benchmarks.csv", "`--output kind=json`"),
        ("inference-perf/run1/stage_0_lifecycle_metrics.json", "per_request: true"),
        ("inference-perf/run1/summary_lifecycle_metrics.json", "per_request: true"),
    ] {
        let file = shared.join("data/bench_files").join(path);
        let told = trace::read(&TraceSpec::new(&file), &[]).unwrap_err().to_string();
        assert!(told.contains(reason), "{path}: {told}");
    }
}
