//! GuideLLM's `benchmarks.json`: levels of load, each with its requests answered, failed and cut off
//! (GuideLLM 0.8.1).
//!
//! Unix seconds; `request_latency` is in seconds beside `time_to_first_token_ms`. Counts are the server's
//! with `prefer_response_metrics`, its default. A level's nominal rate is not what was offered: each worker
//! draws the same gaps. `targeted_start` may count from 1970 where a level was sent all at once: then it is
//! no time.

use serde::Deserialize;

use super::{File, Keys, Measured, Results, Tool, tokens};
use crate::workload::error::WorkloadError;

pub static TOOL: Tool = Tool {
    name: "GuideLLM",
    tells: |keys: &Keys| keys.has("metadata/guidellm_version") || keys.has_all(&["metadata", "benchmarks"]),
    read,
};

#[derive(Deserialize)]
struct Report {
    benchmarks: Vec<Benchmark>,
}

#[derive(Deserialize)]
struct Benchmark {
    config: Option<Config>,
    requests: Option<Requests>,
}

#[derive(Deserialize)]
struct Config {
    strategy: Option<Strategy>,
    prefer_response_metrics: Option<bool>,
    sample_size: Option<f64>,
}

#[derive(Deserialize)]
struct Strategy {
    #[serde(rename = "type_")]
    kind: Option<String>,
    rate: Option<f64>,
}

#[derive(Deserialize)]
struct Requests {
    successful: Option<Vec<Request>>,
    #[serde(default)]
    errored: Option<Vec<serde::de::IgnoredAny>>,
    #[serde(default)]
    incomplete: Option<Vec<serde::de::IgnoredAny>>,
}

#[derive(Deserialize)]
struct Request {
    info: Option<Info>,
    request_start_time: Option<f64>,
    request_latency: Option<f64>,
    prompt_tokens: Option<f64>,
    output_tokens: Option<f64>,
    time_to_first_token_ms: Option<f64>,
}

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    turn_index: Option<u32>,
    timings: Option<Timings>,
}

#[derive(Deserialize)]
struct Timings {
    targeted_start: Option<f64>,
    last_token_iteration: Option<f64>,
}

/// Strategies that send a request when another has been answered.
const CLOSED_LOOPS: [&str; 3] = ["synchronous", "concurrent", "throughput"];

fn read(file: &File) -> Result<Results, WorkloadError> {
    let report: Report = file.parse(&TOOL)?;
    let mut results = Results::default();
    let (mut sampled, mut counted_by_client, mut later_turns, mut no_times) = (false, false, 0, 0);
    let mut closed_loops = Vec::new();
    for (level, benchmark) in report.benchmarks.into_iter().enumerate() {
        let config = benchmark.config.as_ref();
        let strategy = config.and_then(|config| config.strategy.as_ref());
        let kind = strategy.and_then(|strategy| strategy.kind.as_deref()).unwrap_or("unnamed");
        let rate = strategy
            .and_then(|strategy| strategy.rate)
            .map_or(String::new(), |rate| format!(" {rate:.2} requests/s"));
        results.levels.push(format!("{kind}{rate}"));
        if CLOSED_LOOPS.contains(&kind) {
            closed_loops.push(kind.to_owned());
        }
        sampled |= config.and_then(|config| config.sample_size).is_some();
        counted_by_client |= config.and_then(|config| config.prefer_response_metrics) == Some(false);
        let requests = benchmark
            .requests
            .and_then(|requests| Some((requests.successful?, requests.errored, requests.incomplete)));
        let Some((successful, errored, incomplete)) = requests else {
            return Err(
                file.error("a level without its `requests.successful` found; write it with `--output kind=json`, which keeps requests")
            );
        };
        results.failed +=
            (errored.map_or(0, |list| list.len()) + incomplete.map_or(0, |list| list.len())) as u64;
        for request in successful {
            let Some(start_s) = request.request_start_time else {
                return Err(
                    file.error("a request without `request_start_time` found, expected when it was sent")
                );
            };
            let (Some(prefill_tokens), Some(decode_tokens)) =
                (tokens(request.prompt_tokens), tokens(request.output_tokens))
            else {
                return Err(file.error(
                    "a request without `prompt_tokens` or `output_tokens` found; let the server report its usage, or give GuideLLM the \
                     model's tokenizer",
                ));
            };
            let info = request.info;
            later_turns +=
                u64::from(info.as_ref().and_then(|info| info.turn_index).is_some_and(|turn| turn > 0));
            let timings = info.and_then(|info| info.timings);
            let planned_s = timings.as_ref().and_then(|timings| timings.targeted_start);
            // Counted from 1970, the start of the level is missing in it.
            let is_time = planned_s.is_some_and(|planned_s| (start_s - planned_s).abs() < 1e6);
            no_times += u64::from(planned_s.is_some() && !is_time);
            let last_token_s = timings.and_then(|timings| timings.last_token_iteration);
            results.requests.push(Measured {
                sent_s: start_s,
                waited_s: planned_s.filter(|_| is_time).map(|planned_s| (start_s - planned_s).max(0.0)),
                prefill_tokens,
                decode_tokens,
                ttft_s: request.time_to_first_token_ms.map(|ms| ms / 1e3),
                e2e_s: last_token_s.map(|last_s| last_s - start_s).or(request.request_latency),
                chunk_gaps_s: Vec::new(),
                level,
            });
        }
    }
    if sampled {
        results
            .doubts
            .push("the file holds a sample of the requests: arrivals are fewer than were sent; record it without `sample_size`".into());
    }
    if no_times > 0 {
        results.doubts.push(format!(
            "{no_times} requests were planned for no time at all and sent at once: that level is a burst and not the rate it says"
        ));
    }
    if !closed_loops.is_empty() {
        results.doubts.push(format!(
            "levels that send a request when another has been answered ({}): their arrivals tell as much of that server as of traffic",
            closed_loops.join(", ")
        ));
    }
    if later_turns > 0 {
        results.doubts.push(format!("{later_turns} later turns of conversations come at the times they were sent, and share no prompts"));
    }
    let counts = if counted_by_client {
        "the client's, as `prefer_response_metrics` is false"
    } else {
        "the server's usage where it sent it"
    };
    results.assumed.push(format!(
        "token counts are {counts}; times are those at which the client sent, not the nominal rate"
    ));
    Ok(results)
}
