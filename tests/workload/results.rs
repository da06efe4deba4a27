//! Result files of benchmark tools: small ones made here. Whole ones are in `tests/given`, beside what the
//! server did.

use std::path::PathBuf;

use scalefront::workload::bench::{self, Measured, Results};
use scalefront::workload::formats::TraceFormat;
use scalefront::workload::{TraceNotes, TraceSpec, Workload, WorkloadError, trace};
use serde_json::{Value, json};

fn written(content: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("result");
    std::fs::write(&file, content).unwrap();
    (dir, file)
}

fn read(content: &str) -> Result<(Workload, TraceNotes), WorkloadError> {
    let (_dir, file) = written(content);
    trace::read(&TraceSpec::new(file), &[])
}

fn complaint(content: &str) -> String {
    read(content).unwrap_err().to_string().split_once("/result").unwrap().1.to_owned()
}

fn measured(content: &str) -> Results {
    let (_dir, file) = written(content);
    bench::recognise(&file).unwrap().unwrap().read(&file, 1 << 20).unwrap()
}

/// Arrivals to the microsecond, and lengths.
fn columns(workload: &Workload) -> Vec<(f64, u32, u32)> {
    let at = |request: usize| (workload.arrived_at_s[request] * 1e6).round() / 1e6;
    (0..workload.len())
        .map(|request| (at(request), workload.prefill_tokens[request], workload.decode_tokens[request]))
        .collect()
}

fn vllm() -> Value {
    json!({
        "date": "20260101-000000", "backend": "openai-chat", "num_prompts": 4, "request_rate": 4.0, "max_concurrency": null,
        "total_output_tokens": 10, "input_lens": [30, 20, 25, 10], "output_lens": [4, 3, 0, 3],
        "ttfts": [0.1, 0.2, 0.0, 0.1], "itls": [[0.01, 0.02, 0.03], [0.01, 0.01], [], [0.02, 0.02]],
        "latencies": [0.16, 0.22, 0.0, 0.14], "start_times": [6860.5, 6860.25, 6860.75, 6861.0],
        "queue_times": [0.0001, 0.0001, 0.0001, 0.0001], "errors": ["", "", "Internal Server Error", ""]
    })
}

#[test]
fn vllm_is_read_in_the_order_sent() {
    let (workload, notes) = read(&vllm().to_string()).unwrap();
    assert_eq!(columns(&workload), [(0.0, 20, 3), (0.25, 30, 4), (0.75, 10, 3)]);
    assert_eq!((notes.format, notes.skipped, notes.doubts.len()), (TraceFormat::VllmBench, 1, 0));
    assert!(
        notes.assumed.contains(&"1 requests without an answer and 0 to warm up are left out".to_owned()),
        "{:?}",
        notes.assumed
    );
    let results = measured(&vllm().to_string());
    let Measured { ttft_s, e2e_s, chunk_gaps_s, .. } = &results.requests[1];
    assert_eq!((*ttft_s, *e2e_s, chunk_gaps_s.len()), (Some(0.1), Some(0.16), 3));
    assert!((results.requests[1].tpot_s().unwrap() - 0.02).abs() < 1e-12);
    // Spread over lines and compressed it is the same.
    assert_eq!(columns(&read(&format!("{:#}", vllm())).unwrap().0), columns(&workload));
}

#[test]
fn vllm_tells_what_waited_in_the_client_and_what_chunks_are() {
    let mut slow = vllm();
    slow["queue_times"] = json!([1.0, 0.75, 0.0, 1.5]);
    slow["itls"] = json!([[0.06], [0.02], [], [0.04]]);
    let doubts = read(&slow.to_string()).unwrap().1.doubts.join("; ");
    assert!(
        doubts.contains(
            "waited 1.08 s in the client on average, 1.50 s at most, before they were sent: all at once were planned, 2.7 a second sent"
        ),
        "{doubts}"
    );
    assert!(doubts.contains("1.7 tokens a chunk"), "{doubts}");
}

#[test]
fn vllm_without_detail_is_refused_with_the_flag() {
    let mut short = vllm();
    for list in ["input_lens", "output_lens", "ttfts", "itls", "start_times"] {
        short.as_object_mut().unwrap().remove(list);
    }
    let told = complaint(&short.to_string());
    assert_eq!(
        told,
        ": no `input_lens` found, a list of one entry a request; record it with `--save-result --save-detailed`"
    );
    let mut uneven = vllm();
    uneven["ttfts"] = json!([0.1]);
    assert!(
        complaint(&uneven.to_string()).starts_with(": lists of different lengths found, expected 4 entries")
    );
}

#[test]
fn sglang_is_refused_for_its_missing_arrivals() {
    let run = json!({"tag": null, "backend": "sglang", "request_rate": 4.0, "sharegpt_output_len": null, "random_range_ratio": 0.5,
        "total_output_tokens": 5, "total_output_tokens_retokenized": 4, "input_lens": [3], "output_lens": [5], "ttfts": [0.1], "itls": [[0.1]]});
    let told = complaint(&format!("{run}\n{run}\n"));
    assert!(
        told.starts_with(": a result of SGLang's bench_serving found, which holds when no request was sent"),
        "{told}"
    );
    assert!(told.contains("(4.0 a second)") && told.contains("--save-detailed"), "{told}");
}

fn guidellm_request(start_s: f64, more: Value) -> Value {
    let mut request = json!({"info": {"turn_index": 0, "timings": {"targeted_start": start_s, "last_token_iteration": start_s + 0.25}},
        "request_start_time": start_s, "request_latency": 0.26, "prompt_tokens": 30, "output_tokens": 6, "time_to_first_token_ms": 50.0});
    request.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    request
}

fn guidellm(levels: &[(&str, Vec<Value>)]) -> String {
    let level = |(kind, successful): &(&str, Vec<Value>)| {
        json!({"config": {"strategy": {"type_": kind, "rate": 4.0}, "prefer_response_metrics": true, "sample_size": null},
            "requests": {"successful": successful, "errored": [{"info": {}}], "incomplete": [], "total": null}})
    };
    json!({"metadata": {"guidellm_version": "0.8.1"}, "config": {}, "benchmarks": levels.iter().map(level).collect::<Vec<_>>()}).to_string()
}

#[test]
fn guidellm_levels_follow_each_other() {
    let base = 1_795_974_770.5;
    let planned_for_1970 =
        json!({"info": {"timings": {"targeted_start": 1.5, "last_token_iteration": base + 60.25}}});
    let file = guidellm(&[
        (
            "constant",
            vec![
                guidellm_request(base + 1.0, json!({})),
                guidellm_request(base, json!({"prompt_tokens": 20})),
            ],
        ),
        ("poisson", vec![guidellm_request(base + 60.0, planned_for_1970)]),
    ]);
    let (workload, notes) = read(&file).unwrap();
    assert_eq!(columns(&workload), [(0.0, 20, 6), (1.0, 30, 6), (60.0, 30, 6)]);
    assert_eq!((notes.format, notes.skipped), (TraceFormat::GuideLlm, 2));
    let assumed = notes.assumed.join("; ");
    assert!(
        assumed.contains(
            "constant 4.00 requests/s from 0.0 s to 1.0 s, poisson 4.00 requests/s from 60.0 s to 60.0 s"
        ),
        "{assumed}"
    );
    assert_eq!(notes.doubts.len(), 1);
    assert!(notes.doubts[0].starts_with("1 requests were planned for no time at all"), "{:?}", notes.doubts);
    let request = &measured(&file).requests[0];
    assert!(
        (request.ttft_s.unwrap() - 0.05).abs() < 1e-12
            && (request.e2e_s.unwrap() - 0.25).abs() < 1e-6
            && request.level == 0
    );

    // One level of two, by the window.
    let (_dir, path) = written(&file);
    let level = TraceSpec { start_s: Some(60.0), duration_s: Some(10.0), ..TraceSpec::new(path) };
    assert_eq!(columns(&trace::read(&level, &[]).unwrap().0), [(0.0, 30, 6)]);
}

#[test]
fn guidellm_says_what_no_traffic_was() {
    let late = guidellm_request(10.0, json!({"info": {"turn_index": 1, "timings": {"targeted_start": 9.0}}}));
    let doubts = read(&guidellm(&[("synchronous", vec![late])])).unwrap().1.doubts.join("; ");
    assert!(
        doubts.contains("(synchronous)")
            && doubts.contains("1 later turns")
            && doubts.contains("waited 1.00 s"),
        "{doubts}"
    );
    let told =
        complaint(&guidellm(&[("constant", vec![guidellm_request(10.0, json!({"output_tokens": null}))])]));
    assert!(told.contains("without `prompt_tokens` or `output_tokens`"), "{told}");
    let told = complaint(&guidellm(&[("constant", vec![])]));
    assert_eq!(told, ": no answered request found beside 1 failures and 0 to warm up");
}

fn aiperf(start_ns: i64, phase: &str, metrics: &Value, error: &Value) -> String {
    format!(
        "{}\n",
        json!({"metadata": {"request_start_ns": start_ns, "credit_issued_ns": start_ns - 1_000_000, "benchmark_phase": phase, "turn_index": 0,
            "was_cancelled": false}, "metrics": metrics, "error": error})
    )
}

#[test]
fn aiperf_counts_as_the_server_does() {
    let base = 1_795_974_529_537_764_696;
    let metrics = json!({"usage_prompt_tokens": {"value": 136, "unit": "tokens"}, "input_sequence_length": {"value": 129, "unit": "tokens"},
        "usage_completion_tokens": {"value": 25, "unit": "tokens"}, "output_sequence_length": {"value": 20, "unit": "tokens"},
        "time_to_first_token": {"value": 80.0, "unit": "ms"}, "request_latency": {"value": 0.32, "unit": "s"},
        "inter_chunk_latency": {"value": [10.0, 20.0], "unit": "ms"}});
    let file = aiperf(base - 5_000_000_000, "warmup", &metrics, &Value::Null)
        + &aiperf(base + 250_000_000, "profiling", &metrics, &Value::Null)
        + &aiperf(base + 100_000_000, "profiling", &json!({}), &json!({"code": 500}))
        + &aiperf(base, "profiling", &metrics, &Value::Null);
    let (workload, notes) = read(&file).unwrap();
    assert_eq!(columns(&workload), [(0.0, 136, 25), (0.25, 136, 25)]);
    assert_eq!((notes.format, notes.skipped), (TraceFormat::AiPerf, 2));
    let doubts = notes.doubts.join("; ");
    assert!(
        doubts.contains("prompt tokens: 272 by the server, 258 (-5.1 %) by the client's tokenizer"),
        "{doubts}"
    );
    assert!(doubts.contains("output tokens: 50 by the server, 40 (-20.0 %) by the client"), "{doubts}");
    let request = &measured(&file).requests[0];
    assert!(
        (request.tpot_s().unwrap() - 0.01).abs() < 1e-12 && request.chunk_gaps_s == [0.01, 0.02],
        "{request:?}"
    );

    let client = json!({"input_sequence_length": {"value": 129, "unit": "tokens"}, "output_sequence_length": {"value": 20, "unit": "tokens"}});
    let (workload, notes) = read(&aiperf(base, "profiling", &client, &Value::Null)).unwrap();
    assert_eq!(columns(&workload), [(0.0, 129, 20)]);
    assert!(
        notes.doubts.iter().all(|doubt| doubt.contains("`--use-server-token-count`"))
            && notes.doubts.len() == 2,
        "{:?}",
        notes.doubts
    );
    let told = complaint(&aiperf(base, "profiling", &json!({}), &Value::Null));
    assert!(
        told.starts_with(", line 1: neither `usage_prompt_tokens` nor `input_sequence_length` found"),
        "{told}"
    );
    let told = complaint(&(aiperf(base, "profiling", &client, &Value::Null) + "{\"metadata\": {}}"));
    assert!(told.starts_with(", line 2: no record of AIPerf: missing field `request_start_ns`"), "{told}");
}

#[test]
fn inference_perf_stages_are_told_by_their_pause() {
    let request = |start_s: f64, error: Value| {
        json!({"start_time": start_s, "end_time": start_s + 0.5, "request": "{\"prompt\": \"a, b: [\"}", "response": "..",
            "info": {"input_tokens": 71, "response_metrics": {"output_tokens": 3, "server_usage": {"prompt_tokens": 71, "completion_tokens": 4},
            "chunk_times": [start_s + 0.1, start_s + 0.2, start_s + 0.3, start_s + 0.4], "output_token_times": [start_s + 0.1]}},
            "error": error})
    };
    let mut requests: Vec<Value> =
        (0..8).map(|k| request(7586.5 + 0.25 * f64::from(k), Value::Null)).collect();
    requests.extend((0..4).map(|k| request(7592.5 + 0.25 * f64::from(k), Value::Null)));
    requests.push(request(7600.0, json!({"error_type": "timeout"})));
    let file = Value::Array(requests).to_string();
    let (workload, notes) = read(&file).unwrap();
    assert_eq!((workload.len(), columns(&workload)[8]), (12, (6.0, 71, 4)));
    assert_eq!((notes.format, notes.skipped), (TraceFormat::InferencePerf, 1));
    assert!(
        notes
            .assumed
            .join("; ")
            .contains("stage 0 by its pause from 0.0 s to 1.8 s, stage 1 by its pause from 6.0 s to 6.8 s"),
        "{:?}",
        notes.assumed
    );
    assert!(
        notes.doubts[0].starts_with("output tokens: 48 by the server, 36 (-25.0 %)"),
        "{:?}",
        notes.doubts
    );
    let request = &measured(&file).requests[8];
    assert!(
        (request.ttft_s.unwrap() - 0.1).abs() < 1e-9
            && (request.e2e_s.unwrap() - 0.4).abs() < 1e-9
            && request.level == 1
    );

    let bare = json!([{"start_time": 1.0, "end_time": 2.0, "info": null, "error": null}]).to_string();
    assert!(complaint(&bare).contains("`report.request_lifecycle.per_request: true`"));
}

#[test]
fn summaries_are_refused_with_where_the_requests_are() {
    for (content, remedy) in [
        (
            json!({"schema_version": "1.0", "aiperf_version": "0.13.0", "request_throughput": {}})
                .to_string(),
            "`profile_export.jsonl`",
        ),
        ("Metric,avg,min,max,sum,p1\nRequest Latency (ms),1,1,1,,1\n".into(), "`profile_export.jsonl`"),
        ("Run Info,Run Info,Benchmark\na,b,c\n".into(), "`--output kind=json`"),
        (
            json!({"benchmark_time_seconds": 1.0, "load_summary": {}, "successes": {}, "failures": {}})
                .to_string(),
            "per_request: true",
        ),
    ] {
        let told = complaint(&content);
        assert!(told.contains(remedy) && told.contains("no single requests"), "{told}");
    }
}

#[test]
fn a_named_format_is_held_to() {
    let (_dir, file) = written("arrived_at,num_prefill_tokens,num_decode_tokens\n1,2,3\n");
    let told = trace::read(&TraceSpec { format: Some(TraceFormat::AiPerf), ..TraceSpec::new(file) }, &[])
        .unwrap_err()
        .to_string();
    assert!(told.contains("no record of AIPerf"), "{told}");
}
