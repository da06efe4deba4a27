//! `vllm bench serve --save-result --save-detailed`: one JSON object of lists, an entry a request (vLLM 0.33.0).
//!
//! `start_times` are when requests were sent, by a clock without a date; `queue_times` how long each had
//! waited in the client, with `--max-concurrency` above all. `input_lens` and `output_lens` are the server's
//! usage. A failure is an entry with its `errors` filled, or of no output, whose latencies are 0. Warm-up is
//! not in the file. Times are seconds in lists, milliseconds in means.

use serde::Deserialize;

use super::{File, Keys, Measured, Results, Tool, tokens};
use crate::workload::error::WorkloadError;

pub static TOOL: Tool = Tool {
    name: "vllm bench serve",
    tells: |keys: &Keys| {
        keys.has_all(&["num_prompts", "request_rate", "total_output_tokens"])
            && !keys.has("total_output_tokens_retokenized")
    },
    read,
};

#[derive(Deserialize)]
struct Run {
    request_rate: Option<serde_json::Value>,
    max_concurrency: Option<f64>,
    input_lens: Option<Vec<f64>>,
    output_lens: Option<Vec<f64>>,
    ttfts: Option<Vec<f64>>,
    itls: Option<Vec<Vec<f64>>>,
    latencies: Option<Vec<f64>>,
    start_times: Option<Vec<f64>>,
    queue_times: Option<Vec<f64>>,
    errors: Option<Vec<Option<String>>>,
}

fn read(file: &File) -> Result<Results, WorkloadError> {
    let mut results = Results::default();
    let runs: Vec<Run> = file.parse_each(&TOOL)?;
    let several = runs.len() > 1;
    for (level, run) in runs.into_iter().enumerate() {
        let missing = |field: &str| {
            file.error(format!("no `{field}` found, a list of one entry a request; record it with `--save-result --save-detailed`"))
        };
        let (Some(inputs), Some(outputs)) = (&run.input_lens, &run.output_lens) else {
            return Err(missing("input_lens"));
        };
        let Some(starts) = &run.start_times else { return Err(missing("start_times")) };
        let long_enough = |list: Option<usize>| list.is_none_or(|len| len == starts.len());
        let lists = [
            Some(inputs.len()),
            Some(outputs.len()),
            run.ttfts.as_ref().map(Vec::len),
            run.itls.as_ref().map(Vec::len),
            run.latencies.as_ref().map(Vec::len),
            run.queue_times.as_ref().map(Vec::len),
            run.errors.as_ref().map(Vec::len),
        ];
        if !lists.into_iter().all(long_enough) {
            return Err(file.error(format!(
                "lists of different lengths found, expected {} entries in each as in `start_times`",
                starts.len()
            )));
        }
        let rate = run.request_rate.as_ref().map_or("-".into(), |rate| rate.to_string().replace('"', ""));
        let limit = run.max_concurrency.map_or(String::new(), |limit| format!(", {limit} at once"));
        results.levels.push(format!("{rate} requests/s{limit}"));
        let (mut chunks, mut decoded) = (0, 0);
        for request in 0..starts.len() {
            let failed = run
                .errors
                .as_ref()
                .and_then(|errors| errors[request].as_deref())
                .is_some_and(|error| !error.is_empty());
            let (prefill, decode) = (tokens(Some(inputs[request])), tokens(Some(outputs[request])));
            let (Some(prefill_tokens), Some(decode_tokens @ 1..), false) = (prefill, decode, failed) else {
                results.failed += 1;
                continue;
            };
            let ttft_s = run.ttfts.as_ref().map(|ttfts| ttfts[request]);
            let chunk_gaps_s = run.itls.as_ref().map_or_else(Vec::new, |itls| itls[request].clone());
            let by_gaps_s = ttft_s.map(|ttft_s| ttft_s + chunk_gaps_s.iter().sum::<f64>());
            chunks += chunk_gaps_s.len() as u64 + 1;
            decoded += u64::from(decode_tokens);
            results.requests.push(Measured {
                sent_s: starts[request],
                waited_s: run.queue_times.as_ref().map(|times| times[request]),
                prefill_tokens,
                decode_tokens,
                ttft_s,
                e2e_s: run.latencies.as_ref().map(|latencies| latencies[request]).or(by_gaps_s),
                chunk_gaps_s,
                level,
            });
        }
        if run.itls.is_some() && (chunks as f64) < 0.95 * decoded as f64 {
            let per_chunk = decoded as f64 / chunks as f64;
            results.doubts.push(format!(
                "{per_chunk:.1} tokens a chunk: the gaps of `itls`, and the mean ITL made of them, are between chunks and not between tokens"
            ));
        }
    }
    if several {
        results.assumed.push(
            "runs appended to one file are on one clock; between them lies whatever time they were apart"
                .into(),
        );
    }
    results.assumed.push("token counts are the server's usage, times those at which the client sent".into());
    Ok(results)
}
