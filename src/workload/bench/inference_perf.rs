//! inference-perf's `per_request_lifecycle_metrics.json`: a JSON list of requests (inference-perf 0.7.0).
//!
//! Seconds by a clock without a date. `server_usage` holds the server's counts, `output_tokens` those of the
//! text tokenised again. Stages of load follow each other in one list without a mark: where nothing is sent
//! for long, another begins.

use serde::Deserialize;

use super::{File, Keys, Measured, Results, Tool, tokens};
use crate::workload::error::WorkloadError;

pub static TOOL: Tool = Tool {
    name: "inference-perf",
    tells: |keys: &Keys| {
        keys.is_list && keys.has_all(&["start_time", "end_time"]) && (keys.has("info") || keys.has("error"))
    },
    read,
};

#[derive(Deserialize)]
struct Request {
    start_time: f64,
    end_time: f64,
    info: Option<Info>,
    error: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Info {
    input_tokens: Option<f64>,
    response_metrics: Option<ResponseMetrics>,
}

#[derive(Deserialize)]
struct ResponseMetrics {
    output_tokens: Option<f64>,
    server_usage: Option<Usage>,
    chunk_times: Option<Vec<f64>>,
    output_token_times: Option<Vec<f64>>,
}

#[derive(Deserialize)]
struct Usage {
    prompt_tokens: Option<f64>,
    completion_tokens: Option<f64>,
}

fn read(file: &File) -> Result<Results, WorkloadError> {
    let requests: Vec<Request> = file.parse(&TOOL)?;
    let mut results = Results::default();
    let (mut by_server, mut by_client, mut of_client) = (0, 0, 0);
    for Request { start_time, end_time, info, error } in requests {
        if error.is_some_and(|error| !error.is_null()) {
            results.failed += 1;
            continue;
        }
        let info = info.unwrap_or(Info { input_tokens: None, response_metrics: None });
        let missing = |what: &str| {
            file.error(format!(
                "a request without {what} found; record it with `report.request_lifecycle.per_request: true` and its `per_request_fields.info`"
            ))
        };
        let metrics = info.response_metrics.ok_or_else(|| missing("`info.response_metrics`"))?;
        let usage = metrics.server_usage.unwrap_or(Usage { prompt_tokens: None, completion_tokens: None });
        let (server, client) = (tokens(usage.completion_tokens), tokens(metrics.output_tokens));
        if let (Some(server), Some(client)) = (server, client) {
            by_server += u64::from(server);
            by_client += u64::from(client);
        }
        of_client += u64::from(server.is_none());
        let prefill = tokens(usage.prompt_tokens).or(tokens(info.input_tokens));
        let times = metrics
            .chunk_times
            .filter(|times| !times.is_empty())
            .or(metrics.output_token_times)
            .unwrap_or_default();
        results.requests.push(Measured {
            sent_s: start_time,
            waited_s: None,
            prefill_tokens: prefill.ok_or_else(|| missing("`info.input_tokens`"))?,
            decode_tokens: server.or(client).ok_or_else(|| missing("`server_usage.completion_tokens`"))?,
            ttft_s: times.first().map(|first_s| first_s - start_time),
            e2e_s: Some(times.last().copied().unwrap_or(end_time) - start_time),
            chunk_gaps_s: times.windows(2).map(|pair| pair[1] - pair[0]).collect(),
            level: 0,
        });
    }
    results.tell_stages_apart();
    results.compare_counts(
        "output tokens",
        ("the server", by_server),
        ("the client, which tokenised the text again", by_client),
    );
    if of_client > 0 {
        results.doubts.push(format!(
            "output tokens of {of_client} requests are the client's count of the text, tokenised again: it errs; let the server send its usage"
        ));
    }
    results
        .assumed
        .push("times are those at which the client sent; what requests waited in the client before is only in the stage files".into());
    Ok(results)
}

impl Results {
    /// Takes a silence far longer than others for the pause between two stages.
    fn tell_stages_apart(&mut self) {
        const PAUSE_S: f64 = 2.0;
        const TIMES_THE_MEDIAN: f64 = 10.0;
        self.requests.sort_by(|a, b| a.sent_s.total_cmp(&b.sent_s));
        let mut gaps: Vec<f64> =
            self.requests.windows(2).map(|pair| pair[1].sent_s - pair[0].sent_s).collect();
        gaps.sort_by(f64::total_cmp);
        let pause_s = gaps
            .get(gaps.len() / 2)
            .map_or(f64::INFINITY, |median_s| (median_s * TIMES_THE_MEDIAN).max(PAUSE_S));
        let (mut level, mut before_s) = (0, f64::INFINITY);
        for request in &mut self.requests {
            level += usize::from(request.sent_s - before_s > pause_s);
            before_s = request.sent_s;
            request.level = level;
        }
        self.levels = (0..=level).map(|level| format!("stage {level} by its pause")).collect();
    }
}
