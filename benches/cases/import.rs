//! Files read from a directory of their own, which goes with the last case.

use std::fmt::Write as _;
use std::sync::Arc;

use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::ClusterSettings;
use scalefront::workload::{self, TraceSpec, WorkloadSpec};
use tempfile::TempDir;

use super::{Case, digest};

pub fn cases(rows: usize) -> Vec<Case> {
    let dir = Arc::new(TempDir::new().expect("a temporary directory"));
    let mut lab = String::from("arrived_at,num_prefill_tokens,num_decode_tokens\n");
    let mut mooncake = String::new();
    for row in 0..rows {
        writeln!(lab, "{},{},{}", row as f64 * 0.028, 100 + row % 900, 1 + row % 200)
            .expect("a string grows");
        let blocks: Vec<usize> =
            (0..8).map(|block| if block < 4 { block } else { row * 8 + block }).collect();
        let (at_ms, output) = (row * 280, 1 + row % 200);
        writeln!(mooncake, r#"{{"timestamp": {at_ms}, "input_length": 4000, "output_length": {output}, "hash_ids": {blocks:?}}}"#)
            .expect("a string grows");
    }
    let read = |name: &str, text: String| {
        let (path, dir) = (dir.path().join(name), dir.clone());
        std::fs::write(&path, text).expect("a file in a directory of our own");
        let spec = WorkloadSpec {
            name: name.into(),
            generate: None,
            trace: Some(TraceSpec::new(path)),
            sessions: None,
            mix: Vec::new(),
            outputs: None,
            priorities: Vec::new(),
        };
        Case::new(format!("trace {name}"), rows, move || {
            let _kept = &dir;
            digest(workload::load(&spec, 1, &[]).expect("a good trace").fingerprint())
        })
    };
    vec![read("lab.csv", lab), read("mooncake.jsonl", mooncake), tables()]
}

/// The tables that come with the binary, parsed and condensed.
fn tables() -> Case {
    let cluster = ClusterSettings::default();
    Case::new("embedded hardware tables", 1, move || {
        let files = Files::default();
        let deployment =
            Deployment::resolve(&cluster.model, &cluster.node, 4, 1, &files).expect("a known model and node");
        digest(
            ExecutionTime::load(&cluster.execution_time, &deployment, &files)
                .expect("embedded tables")
                .fingerprint(),
        )
    })
}
