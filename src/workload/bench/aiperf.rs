//! AIPerf's `profile_export.jsonl`: a line a request (AIPerf 0.13.0).
//!
//! Unix nanoseconds beside metrics that each carry their unit. `usage_*` are the server's counts,
//! `*_sequence_length` those of the client's tokenizer: the output's is of the text tokenised again. Warm-up
//! has its own `benchmark_phase`. `credit_issued_ns` is when a request was let go, which with a limit on
//! concurrency is when there was room: what it waited before is in no file.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{File, Keys, Measured, Results, Tool, tokens};
use crate::workload::error::WorkloadError;

pub static TOOL: Tool = Tool {
    name: "AIPerf",
    tells: |keys: &Keys| keys.has_all(&["metadata/request_start_ns", "metadata/benchmark_phase"]),
    read,
};

#[derive(Deserialize)]
struct Record {
    metadata: Metadata,
    #[serde(default)]
    metrics: BTreeMap<String, Metric>,
    #[serde(default)]
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Metadata {
    request_start_ns: i64,
    credit_issued_ns: Option<i64>,
    benchmark_phase: Option<String>,
    #[serde(default)]
    turn_index: Option<u32>,
    #[serde(default)]
    was_cancelled: Option<bool>,
}

#[derive(Deserialize)]
struct Metric {
    value: serde_json::Value,
    unit: Option<String>,
}

impl Metric {
    fn number(&self) -> Option<f64> {
        self.value.as_f64()
    }

    fn seconds_in_unit(&self) -> f64 {
        match self.unit.as_deref() {
            Some("s" | "sec" | "seconds") => 1.0,
            Some("us") => 1e-6,
            Some("ns") => 1e-9,
            _ => 1e-3,
        }
    }
}

fn read(file: &File) -> Result<Results, WorkloadError> {
    let mut results = Results::default();
    let (mut by_server, mut by_client) = ([0; 2], [0; 2]);
    let (mut of_client, mut later_turns) = ([0; 2], 0);
    let mut first_ns = None;
    for (index, text) in file.text.lines().enumerate().filter(|(_, text)| !text.trim().is_empty()) {
        let record: Record = serde_json::from_str(text).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
            file.line_error(index, format!("no record of {}: {reason} (byte {})", TOOL.name, error.column()))
        })?;
        let Metadata { request_start_ns, credit_issued_ns, benchmark_phase, turn_index, was_cancelled } =
            record.metadata;
        if benchmark_phase.is_some_and(|phase| phase != "profiling") {
            results.warm_up += 1;
            continue;
        }
        if record.error.is_some_and(|error| !error.is_null()) || was_cancelled == Some(true) {
            results.failed += 1;
            continue;
        }
        let metric = |name: &str| record.metrics.get(name);
        let seconds =
            |name: &str| metric(name).and_then(|metric| Some(metric.number()? * metric.seconds_in_unit()));
        let mut counted = [0; 2];
        for (side, (usage, length, what)) in [
            ("usage_prompt_tokens", "input_sequence_length", "prompt"),
            ("usage_completion_tokens", "output_sequence_length", "output"),
        ]
        .into_iter()
        .enumerate()
        {
            let of = |name: &str| tokens(metric(name).and_then(Metric::number));
            let (server, client) = (of(usage), of(length));
            if let (Some(server), Some(client)) = (server, client) {
                by_server[side] += u64::from(server);
                by_client[side] += u64::from(client);
            }
            of_client[side] += u64::from(server.is_none());
            counted[side] = server.or(client).ok_or_else(|| {
                let message = format!(
                    "neither `{usage}` nor `{length}` found, expected the {what}'s tokens; record it with `--streaming` \
                                       and `--use-server-token-count`"
                );
                file.line_error(index, message)
            })?;
        }
        later_turns += u64::from(turn_index.is_some_and(|turn| turn > 0));
        let gaps = metric("inter_chunk_latency").map(|metric| {
            let list = metric.value.as_array().map_or(&[][..], Vec::as_slice);
            list.iter().filter_map(|gap| Some(gap.as_f64()? * metric.seconds_in_unit())).collect()
        });
        // Nanoseconds since 1970 are more than a float holds; those since the first request are not.
        let sent_ns = request_start_ns.saturating_sub(*first_ns.get_or_insert(request_start_ns));
        results.requests.push(Measured {
            sent_s: sent_ns as f64 / 1e9,
            waited_s: credit_issued_ns
                .map(|issued_ns| request_start_ns.saturating_sub(issued_ns) as f64 / 1e9),
            prefill_tokens: counted[0],
            decode_tokens: counted[1],
            ttft_s: seconds("time_to_first_token"),
            e2e_s: seconds("request_latency"),
            chunk_gaps_s: gaps.unwrap_or_default(),
            level: 0,
        });
    }
    results.compare_counts(
        "prompt tokens",
        ("the server", by_server[0]),
        ("the client's tokenizer", by_client[0]),
    );
    results.compare_counts(
        "output tokens",
        ("the server", by_server[1]),
        ("the client, which tokenised the text again", by_client[1]),
    );
    for (requests, what) in of_client.into_iter().zip(["prompt", "output"]) {
        if requests > 0 {
            results.doubts.push(format!(
                "{what} tokens of {requests} requests are the client's count, the server's is not in the file: it errs where text is tokenised \
                 again; record with `--use-server-token-count`"
            ));
        }
    }
    if later_turns > 0 {
        results.doubts.push(format!(
            "{later_turns} later turns of sessions come at the times they were sent, whatever the answers take here; that their prompts hold \
             the turns before them is not in the file, so they share none"
        ));
    }
    results
        .assumed
        .push("times are those at which the client sent; what requests waited for room under a limit on concurrency is in no file".into());
    Ok(results)
}
