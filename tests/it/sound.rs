//! Runs with every step recorded, whose records are sound.

use scalefront::simulation::{Detail, RunInputs, RunMetrics, Workspace, simulate_in_detail, violations};

/// Runs with every step recorded; the record must be sound.
pub fn run(inputs: &RunInputs) -> (RunMetrics, Detail) {
    let inputs = RunInputs { stepping: true, ..inputs.clone() };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_in_detail(&inputs, &mut workspace).unwrap();
    assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    (metrics, detail)
}

pub fn decoded(detail: &Detail) -> u64 {
    detail.batches.iter().map(|batch| batch.decode_tokens).sum()
}

pub fn prefilled(detail: &Detail) -> u64 {
    detail.batches.iter().map(|batch| batch.prefill_tokens).sum()
}

/// Most tokens that decode steps can yield: the first output token comes with the prefill, and recomputation
/// counts as prefill.
pub fn to_decode(detail: &Detail) -> u64 {
    detail.requests.iter().map(|request| u64::from(request.decode_tokens) - 1).sum()
}
