//! Result files of benchmark tools as traces: what was sent when, with the lengths that were served.
//! [`bench`](mod@crate::workload::bench) reads them.

use super::{Clock, Layout, Reading};
use crate::workload::bench::{self, Tool};

const fn layout(name: &'static str, summary: &'static str, tool: &'static Tool) -> Layout {
    Layout {
        name,
        summary,
        first_line: "",
        clock: Clock::Known,
        starts_at_first_request: true,
        block_tokens: None,
        reading: Reading::Results(tool),
        write: None,
    }
}

pub static VLLM: Layout =
    layout("vllm_bench", "a result of vllm bench serve --save-result --save-detailed", &bench::VLLM);
pub static GUIDELLM: Layout = layout("guidellm", "GuideLLM's benchmarks.json", &bench::GUIDELLM);
pub static AIPERF: Layout = layout("aiperf", "AIPerf's profile_export.jsonl", &bench::AIPERF);
pub static INFERENCE_PERF: Layout =
    layout("inference_perf", "inference-perf's per_request_lifecycle_metrics.json", &bench::INFERENCE_PERF);
pub static SGLANG: Layout = layout(
    "sglang_bench",
    "a result of SGLang's bench_serving, which is refused: it has no arrivals",
    &bench::SGLANG,
);
