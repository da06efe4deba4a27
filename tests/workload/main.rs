//! Workloads from outside: settings in, columns out.

mod generate;
mod shared;
mod traces;

use std::path::PathBuf;

use scalefront::workload::{Workload, WorkloadError, WorkloadSpec, load};

/// Loads a workload given as the grid file has it.
fn load_json(json: serde_json::Value, seed: u64, base_dirs: &[PathBuf]) -> Result<Workload, WorkloadError> {
    let spec: WorkloadSpec = serde_json::from_value(json).expect("settings of the test");
    load(&spec, seed, base_dirs)
}
