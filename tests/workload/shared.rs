//! Published traces against the figures their publishers (or those who counted them) state.
//!
//! The traces are no part of the project. Tests look for them in `../shared/data/traces`, or under `$SCALEFRONT_SHARED`.

use std::path::PathBuf;

use scalefront::workload::Workload;
use serde_json::json;

fn shared(path: &str) -> Option<PathBuf> {
    let root =
        std::env::var_os("SCALEFRONT_SHARED").map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"), PathBuf::from);
    let file = root.join("data/traces").join(path);
    if !file.exists() {
        eprintln!("skipped: {} is not there", file.display());
        return None;
    }
    Some(file)
}

fn read(path: &str) -> Option<Workload> {
    let file = shared(path)?;
    Some(super::load_json(json!({"name": "shared", "trace": {"path": file}}), 1, &[]).unwrap())
}

/// Mean, median, 90th percentile and maximum.
fn figures(tokens: &[u32]) -> (f64, u32, u32, u32) {
    let mut sorted = tokens.to_vec();
    sorted.sort_unstable();
    let mean = sorted.iter().map(|&tokens| f64::from(tokens)).sum::<f64>() / sorted.len() as f64;
    let at = |q: f64| sorted[((sorted.len() - 1) as f64 * q) as usize];
    (mean, at(0.5), at(0.9), sorted[sorted.len() - 1])
}

#[test]
fn azure_2023_code() {
    let Some(workload) = read("AzureLLMInferenceTrace_code.csv") else { return };
    assert_eq!(workload.len(), 8819);
    assert_eq!(workload.arrived_at_s[0], 0.0);
    assert_eq!(workload.arrived_at_s[8818], 3435.948056); // 18:17:03.9799600 to 19:14:19.9280160
    let (mean, p50, p90, max) = figures(&workload.prefill_tokens);
    assert_eq!((mean.round(), p50, p90, max), (2048.0, 1469, 5186, 7437));
    let (mean, p50, p90, max) = figures(&workload.decode_tokens);
    assert_eq!(((mean * 10.0).round() / 10.0, p50, p90, max), (27.9, 13, 55, 1899));
}

#[test]
fn azure_2023_conversation() {
    let Some(workload) = read("AzureLLMInferenceTrace_conv.csv") else { return };
    assert_eq!(workload.len(), 19366);
    assert_eq!(workload.arrived_at_s[19365], 3501.721937); // 18:15:46.6805900 to 19:14:08.4025270
    let (mean, p50, p90, max) = figures(&workload.prefill_tokens);
    assert_eq!((mean.round(), p50, p90, max), (1155.0, 1020, 2734, 14050));
    let (mean, p50, p90, max) = figures(&workload.decode_tokens);
    assert_eq!((mean.round(), p50, p90, max), (211.0, 129, 424, 1000));
}

#[test]
fn the_lab_trace() {
    let Some(workload) = read("Synthetic_Trace1_1hr.csv") else { return };
    assert_eq!(workload.len(), 126_000);
    assert_eq!(workload.arrived_at_s[0], 0.006827693844968508);
    assert!(workload.prefill_tokens.iter().all(|&tokens| tokens == 256));
    assert!(workload.decode_tokens.iter().all(|&tokens| tokens == 1));
}
