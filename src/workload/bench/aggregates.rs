//! Result files that only sum up: they hold no arrivals and no lengths of single requests, so they can be
//! neither replayed nor calibrated on.

use super::Keys;

/// Why a file that begins so is of no use here, and where its requests are.
pub(super) fn refused(keys: &Keys) -> Option<&'static str> {
    let begins = |text: &str| keys.first_line.starts_with(text);
    if keys.has("aiperf_version") || begins("Metric,avg,min,max") {
        Some(
            "AIPerf's summary found, which holds no single requests; take the `profile_export.jsonl` beside it",
        )
    } else if begins("Run Info,") {
        Some(
            "GuideLLM's table of levels found, which holds no single requests; write `benchmarks.json` with `--output kind=json`",
        )
    } else if keys.has_all(&["load_summary", "successes"]) {
        Some(
            "inference-perf's summary found, which holds no single requests; take `per_request_lifecycle_metrics.json`, written with \
             `report.request_lifecycle.per_request: true`",
        )
    } else {
        None
    }
}
