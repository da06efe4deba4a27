//! The signals of policies under the names that servers and gateways export to Prometheus.
//!
//! | name | exported by |
//! |---|---|
//! | `vllm:num_requests_running`, `vllm:num_requests_waiting` | vLLM 0.4 and later |
//! | `vllm:kv_cache_usage_perc` | vLLM 0.10 and later; before `vllm:gpu_cache_usage_perc` (vllm-project/vllm#18354) |
//! | `vllm:prompt_tokens_total`, `vllm:generation_tokens_total` | vLLM 0.4 and later |
//! | `inference_objective_request_total` | Gateway API Inference Extension 1.0 and later |
//! | `inference_extension_flow_control_queue_size`, `inference_extension_flow_control_pool_saturation` | its flow control, where enabled |
//!
//! Read in the programs' documentation and threads, not scraped from them.

use crate::autoscaler::signals::LoadMetric;

/// The most time that a rate is taken over in queries, beyond any use.
const LONGEST_WINDOW_S: f64 = 86_400.0;

const EVERY: [LoadMetric; 8] = [
    LoadMetric::OutstandingRequests,
    LoadMetric::QueuedRequests,
    LoadMetric::RunningRequests,
    LoadMetric::KvUse,
    LoadMetric::TokensPerS,
    LoadMetric::RequestsPerS,
    LoadMetric::PoolSaturation,
    LoadMetric::QueuedPrefillTokens,
];

const RUNNING: &str = "vllm:num_requests_running";
const WAITING: &str = "vllm:num_requests_waiting";
const KV_USE: &str = "vllm:kv_cache_usage_perc";
const HELD: &str = "inference_extension_flow_control_queue_size";

/// What the adapters of Kubernetes call a metric: of each pod, or of the cluster. Prometheus' own names have
/// colons in them.
pub fn adapter_name(metric: LoadMetric) -> &'static str {
    match metric {
        LoadMetric::OutstandingRequests => "vllm_requests_outstanding",
        LoadMetric::QueuedRequests => "vllm_num_requests_waiting",
        LoadMetric::RunningRequests => "vllm_num_requests_running",
        LoadMetric::KvUse => "vllm_kv_cache_usage_perc",
        LoadMetric::TokensPerS => "vllm_tokens_per_second",
        LoadMetric::RequestsPerS => "inference_objective_requests_per_second",
        LoadMetric::PoolSaturation => "inference_extension_flow_control_pool_saturation",
        LoadMetric::QueuedPrefillTokens => "queued_prefill_tokens",
    }
}

/// Other names of the same in manifests that people have.
const ALSO_CALLED: &[(&str, LoadMetric)] = &[
    ("gpu_cache_usage_perc", LoadMetric::KvUse),
    ("inference_objective_running_requests", LoadMetric::RunningRequests),
    (HELD, LoadMetric::QueuedRequests),
];

/// The metric that an adapter calls `name`.
pub fn by_adapter_name(name: &str) -> Option<LoadMetric> {
    let bare = |name: &str| {
        let name = name.replace([':', '-', '.'], "_").to_ascii_lowercase();
        name.strip_prefix("vllm_").unwrap_or(&name).to_owned()
    };
    let named = EVERY.iter().map(|&metric| (adapter_name(metric), metric)).chain(ALSO_CALLED.iter().copied());
    named
        .filter(|(_, metric)| *metric != LoadMetric::QueuedPrefillTokens)
        .find(|(known, _)| bare(known) == bare(name))
        .map(|named| named.1)
}

/// Names of metrics that can be simulated, for messages.
pub fn adapter_names() -> Vec<&'static str> {
    EVERY.iter().filter(|metric| !series(**metric).is_empty()).map(|&metric| adapter_name(metric)).collect()
}

/// The series that make up a metric; none where no release exports what it takes.
pub fn series(metric: LoadMetric) -> &'static [&'static str] {
    match metric {
        LoadMetric::OutstandingRequests => &[RUNNING, WAITING],
        LoadMetric::QueuedRequests => &[WAITING],
        LoadMetric::RunningRequests => &[RUNNING],
        LoadMetric::KvUse => &[KV_USE],
        LoadMetric::TokensPerS => &["vllm:prompt_tokens_total", "vllm:generation_tokens_total"],
        LoadMetric::RequestsPerS => &["inference_objective_request_total"],
        LoadMetric::PoolSaturation => &["inference_extension_flow_control_pool_saturation"],
        LoadMetric::QueuedPrefillTokens => &[],
    }
}

/// Who exports a metric, since which version.
pub fn exported_by(metric: LoadMetric) -> &'static str {
    match metric {
        LoadMetric::OutstandingRequests
        | LoadMetric::QueuedRequests
        | LoadMetric::RunningRequests
        | LoadMetric::TokensPerS => "vLLM 0.4 and later",
        LoadMetric::KvUse => "vLLM 0.10 and later (before: vllm:gpu_cache_usage_perc)",
        LoadMetric::RequestsPerS => "the endpoint picker of Gateway API Inference Extension 1.0 and later",
        LoadMetric::PoolSaturation => {
            "the endpoint picker of Gateway API Inference Extension with flow control (in llm-d's later releases: llm_d_epp_flow_control_pool_saturation)"
        }
        LoadMetric::QueuedPrefillTokens => "nobody",
    }
}

/// A line on where a metric comes from.
pub fn provenance(metric: LoadMetric) -> String {
    format!("{} from {}", series(metric).join(" and "), exported_by(metric))
}

/// Why a metric cannot be asked of Prometheus, if it cannot.
pub fn check(metric: LoadMetric) -> Result<(), String> {
    if series(metric).is_empty() {
        return Err(format!(
            "its policy goes by `{}`, which neither vLLM nor the gateway exports",
            metric.name()
        ));
    }
    Ok(())
}

fn seconds(window_s: f64) -> String {
    format!("{}s", window_s.round().clamp(1.0, LONGEST_WINDOW_S))
}

/// The value of one pod, as a rule of prometheus-adapter asks for it.
pub fn pod_query(metric: LoadMetric) -> String {
    let labelled = |name: &&str| format!("{name}{{<<.LabelMatchers>>}}");
    format!("sum({}) by (<<.GroupBy>>)", series(metric).iter().map(labelled).collect::<Vec<_>>().join(" + "))
}

/// The value of the whole cluster. Where there may be no replica, requests that the gateway holds count, and
/// what no server exports is 0.
pub fn cluster_query(metric: LoadMetric, rate_window_s: f64, from_zero: bool) -> String {
    let window = seconds(rate_window_s);
    let terms: Vec<String> = match metric {
        LoadMetric::TokensPerS | LoadMetric::RequestsPerS => {
            series(metric).iter().map(|name| format!("sum(rate({name}[{window}]))")).collect()
        }
        LoadMetric::PoolSaturation => series(metric).iter().map(|name| format!("max({name})")).collect(),
        _ => {
            let held =
                from_zero && matches!(metric, LoadMetric::OutstandingRequests | LoadMetric::QueuedRequests);
            series(metric)
                .iter()
                .copied()
                .chain(held.then_some(HELD))
                .map(|name| format!("sum({name})"))
                .collect()
        }
    };
    let or_none = |term: String| if from_zero { format!("({term} or vector(0))") } else { term };
    terms.into_iter().map(or_none).collect::<Vec<_>>().join(" + ")
}

/// The metric that `query` asks for, and the window of its rate if it is one. Labels do not matter, nor does
/// white space.
pub fn by_query(query: &str) -> Option<(LoadMetric, Option<f64>)> {
    let (bare, window_s) = bare(query)?;
    let matches = |metric: &LoadMetric| {
        let forms = [false, true].map(|from_zero| cluster_query(*metric, 1.0, from_zero));
        // With one series a sum in brackets of its own is the same.
        forms.iter().any(|form| self::bare(form).is_some_and(|(form, _)| form == bare))
    };
    let held = || {
        self::bare(&format!("sum({HELD})"))
            .is_some_and(|(form, _)| form == bare)
            .then_some(LoadMetric::QueuedRequests)
    };
    let older = || {
        self::bare("sum(vllm:gpu_cache_usage_perc)")
            .is_some_and(|(form, _)| form == bare)
            .then_some(LoadMetric::KvUse)
    };
    let found = EVERY
        .into_iter()
        .filter(|metric| !series(*metric).is_empty())
        .find(matches)
        .or_else(held)
        .or_else(older)?;
    Some((found, window_s))
}

/// A query without labels and white space, its windows replaced by `[]`, and the one window it has; `None` if
/// it has several.
fn bare(query: &str) -> Option<(String, Option<f64>)> {
    let (mut text, mut window_s, mut rest) = (String::new(), None, query);
    while let Some(c) = rest.chars().next() {
        match c {
            '{' => rest = &rest[rest.find('}')? + 1..],
            '[' => {
                let end = rest.find(']')?;
                let this = duration_s(&rest[1..end])?;
                if window_s.is_some_and(|window_s| window_s != this) {
                    return None;
                }
                window_s = Some(this);
                text.push_str("[]");
                rest = &rest[end + 1..];
            }
            c => {
                if !c.is_whitespace() {
                    text.push(c);
                }
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    Some((text, window_s))
}

/// `1m30s` in seconds, as Prometheus and Go spell durations.
pub fn duration_s(text: &str) -> Option<f64> {
    let (mut total, mut rest) = (0.0, text.trim());
    if rest == "0" {
        return Some(0.0);
    }
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        rest = &rest[digits..];
        let units = [("ms", 1e-3), ("s", 1.0), ("m", 60.0), ("h", 3600.0), ("d", 86_400.0), ("w", 604_800.0)];
        let &(unit, factor) = units.iter().find(|(unit, _)| rest.starts_with(unit))?;
        total += number * factor;
        rest = &rest[unit.len()..];
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries_are_read_back_whatever_their_labels() {
        for metric in EVERY.into_iter().filter(|&metric| check(metric).is_ok()) {
            for from_zero in [false, true] {
                let query = cluster_query(metric, 90.0, from_zero);
                let window_s =
                    matches!(metric, LoadMetric::TokensPerS | LoadMetric::RequestsPerS).then_some(90.0);
                assert_eq!(by_query(&query), Some((metric, window_s)), "{query}");
            }
            assert_eq!(by_adapter_name(adapter_name(metric)), Some(metric));
        }
        let labelled = "sum( vllm:num_requests_waiting{namespace=\"a\", pod=~\"b.*\"} )";
        assert_eq!(by_query(labelled), Some((LoadMetric::QueuedRequests, None)));
        assert_eq!(by_adapter_name("vllm:num_requests_waiting"), Some(LoadMetric::QueuedRequests));
        for unknown in
            ["avg(vllm:num_requests_waiting)", "sum(rate(up[1m]))", "sum(vllm:num_requests_waiting", ""]
        {
            assert_eq!(by_query(unknown), None, "{unknown}");
        }
        assert_eq!(by_adapter_name("cpu"), None);
    }

    #[test]
    fn durations_are_read_in_all_their_units() {
        let read = ["1m30s", "500ms", "0", "2h", "90", "", "x"].map(duration_s);
        assert_eq!(read, [Some(90.0), Some(0.5), Some(0.0), Some(7200.0), None, None, None]);
    }
}
