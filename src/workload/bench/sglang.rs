//! `sglang.bench_serving --output-details`: a JSON line a run, of lists with an entry a request (SGLang 0.5.23).
//!
//! It holds when no request was sent, only the rate asked for, so nothing can be replayed. Its `output_lens`
//! are moreover the lengths asked for unless the server volunteers its usage, and its `input_lens` do not
//! count the chat template.

use super::{File, Keys, Results, Tool};
use crate::workload::error::WorkloadError;

pub static TOOL: Tool = Tool {
    name: "SGLang's bench_serving",
    tells: |keys: &Keys| {
        keys.has("total_output_tokens_retokenized")
            || keys.has_all(&["sharegpt_output_len", "random_range_ratio"])
    },
    read,
};

fn read(file: &File) -> Result<Results, WorkloadError> {
    let runs: Vec<serde_json::Map<String, serde_json::Value>> = file.parse_each(&TOOL)?;
    let rate = runs.first().and_then(|run| run.get("request_rate")).map_or("-".into(), ToString::to_string);
    Err(file.error(format!(
        "a result of {} found, which holds when no request was sent, with `--output-details` or without: only the rate asked for \
         ({rate} a second). Run the same load with `vllm bench serve --backend openai-chat --save-result --save-detailed` against the same \
         server, or generate it: `generate` with `arrivals` at that rate and `lengths`",
        TOOL.name
    )))
}
