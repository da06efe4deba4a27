//! Workloads from outside: settings in, columns out.

mod compressed;
mod convert;
mod generate;
mod meaning;
mod processes;
mod results;
mod servegen;
mod sessions;
mod traces;

use std::path::PathBuf;

use scalefront::workload::{TraceNotes, TraceSpec, Workload, WorkloadError, WorkloadSpec, load, trace};
use serde_json::{Value, json};

/// Loads a workload given as the grid file has it.
fn load_json(json: Value, seed: u64, base_dirs: &[PathBuf]) -> Result<Workload, WorkloadError> {
    let spec: WorkloadSpec = serde_json::from_value(json).expect("settings of the test");
    load(&spec, seed, base_dirs)
}

/// Generates from arrivals and lengths, with files relative to the repository.
fn generate(arrivals: Value, lengths: Value, seed: u64) -> Workload {
    let base = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    load_json(json!({"name": "g", "generate": {"arrivals": arrivals, "lengths": lengths}}), seed, &[base])
        .unwrap()
}

/// What is wrong with the settings of a generated workload.
fn complaint(generate: Value) -> String {
    load_json(json!({"name": "g", "generate": generate}), 1, &[]).unwrap_err().to_string()
}

/// Reads `content` as a trace whose settings `set` changes.
fn read_trace(
    content: &str,
    set: impl FnOnce(&mut TraceSpec),
) -> Result<(Workload, TraceNotes), WorkloadError> {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("trace"), content).unwrap();
    let mut spec = TraceSpec::new("trace");
    set(&mut spec);
    trace::read(&spec, &[dir.path().into()])
}

/// What is wrong with such a trace, from its name on.
fn complaint_of_trace(content: &str, set: impl FnOnce(&mut TraceSpec)) -> String {
    read_trace(content, set).unwrap_err().to_string().split_once("/trace").unwrap().1.to_owned()
}

fn as_given(_: &mut TraceSpec) {}

fn fixed() -> Value {
    json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 1}})
}

/// Requests that arrive in `[from_s, to_s)`.
fn arrivals_between(workload: &Workload, from_s: f64, to_s: f64) -> usize {
    workload.arrived_at_s.iter().filter(|&&at| (from_s..to_s).contains(&at)).count()
}

/// A count of this mean and this standard deviation over that of Poisson is five deviations off less than
/// once in a million.
fn assert_count(count: usize, mean: f64, cv: f64) {
    assert!(
        (count as f64 - mean).abs() < 5.0 * cv * mean.sqrt() + 1.0 + cv * cv,
        "{count} found, expected about {mean}"
    );
}

fn mean(values: impl ExactSizeIterator<Item = f64>) -> f64 {
    let count = values.len() as f64;
    values.sum::<f64>() / count
}
