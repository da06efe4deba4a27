//! Requests of several models in one workload.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GenerateSpec, TraceNotes, TraceSpec, Workload, WorkloadError, WorkloadSpec};
use crate::settings::Faults;

/// The requests for one model: `model`, and one of `generate` and `trace`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MixPart {
    /// The model they ask for, as the pools that serve it name it.
    pub model: String,
    /// Requests drawn from distributions; each part draws its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub generate: Option<GenerateSpec>,
    /// Requests read from a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<TraceSpec>,
}

/// Which model each request asks for.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Models {
    pub names: Vec<String>,
    /// Of each request, the place of its model among them.
    pub of_request: Vec<u8>,
}

impl Models {
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"models");
        hasher.update(self.names.join("\n").as_bytes());
        hasher.update(&self.of_request);
    }
}

/// As many parts as a byte tells apart.
const MOST_PARTS: usize = 200;

/// Mixed with the number of a part, so that each draws its own requests.
const PART_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl MixPart {
    fn spec(&self, name: &str) -> WorkloadSpec {
        WorkloadSpec {
            name: format!("{name}: {}", self.model),
            generate: self.generate.clone(),
            trace: self.trace.clone(),
            sessions: None,
            mix: Vec::new(),
            outputs: None,
            priorities: Vec::new(),
        }
    }
}

pub(super) fn check(name: &str, parts: &[MixPart], faults: &mut Faults) {
    faults.require(parts.len() <= MOST_PARTS, "mix", || format!("{} parts found, expected at most {MOST_PARTS}", parts.len()));
    for (i, part) in parts.iter().enumerate() {
        faults.within(format!("mix[{i}]"), |faults| {
            part.spec(name).check(faults);
            faults.require(parts[..i].iter().all(|other| other.model != part.model), "model", || {
                format!("`{}` found twice, expected one part for each model", part.model)
            });
        });
    }
}

/// Reads or draws all parts and merges them by arrival; of one instant, earlier parts come first.
pub(super) fn load(
    spec: &WorkloadSpec,
    seed: u64,
    base_dirs: &[PathBuf],
    notes: &mut Vec<TraceNotes>,
    faults: &mut Faults,
) -> Result<Workload, WorkloadError> {
    let mut merged = Workload::default();
    let mut of_request: Vec<u8> = Vec::new();
    for (i, part) in spec.mix.iter().enumerate() {
        let (workload, of_part) = super::load_requests(&part.spec(&spec.name), seed ^ (i as u64).wrapping_mul(PART_SEED), base_dirs)?;
        notes.extend(of_part);
        let field = |name: &str| format!("mix[{i}].{name}");
        if workload.streamed.is_some() {
            faults.add(&field("generate"), "too many requests found for a part of a mix; shorten it");
        }
        if workload.prefix.is_some() || workload.sessions.is_some() {
            faults.add(
                &field("trace"),
                "prompts that begin alike, or that wait for answers, found, which is not built for parts of a mix: give such traffic as a \
                 workload of its own",
            );
        }
        of_request.extend(std::iter::repeat_n(i as u8, workload.len()));
        merged.arrived_at_s.extend(&workload.arrived_at_s);
        merged.prefill_tokens.extend(&workload.prefill_tokens);
        merged.decode_tokens.extend(&workload.decode_tokens);
        merged.duration_s = match (merged.duration_s, workload.duration_s) {
            (Some(one), Some(other)) => Some(f64::max(one, other)),
            (one, other) => one.or(other),
        };
    }
    let mut order: Vec<u32> = (0..merged.len() as u32).collect();
    order.sort_by(|&a, &b| merged.arrived_at_s[a as usize].total_cmp(&merged.arrived_at_s[b as usize]));
    let last_s = order.last().map(|&last| merged.arrived_at_s[last as usize]);
    merged.duration_s = merged.duration_s.map(|duration_s| duration_s.max(last_s.unwrap_or(0.0)));
    merged.sort();
    merged.models = Some(Box::new(Models {
        names: spec.mix.iter().map(|part| part.model.clone()).collect(),
        of_request: order.iter().map(|&i| of_request[i as usize]).collect(),
    }));
    Ok(merged)
}
