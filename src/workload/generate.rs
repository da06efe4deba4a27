//! Requests drawn from distributions: arrival times from one process and lengths from another, or both from
//! the clients of a published workload.
//!
//! Arrivals and lengths draw from [streams](crate::random) of their own, so that changing the lengths leaves
//! every arrival where it was.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::Arrivals;
use super::error::WorkloadError;
use super::lengths::Lengths;
use super::prompts::PromptSet;
use super::servegen::ServeGen;
use super::{TraceNotes, Workload, cut};
use crate::settings::Faults;

/// How requests are generated: by `arrivals` and `lengths`, or by `servegen`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// When requests arrive.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arrivals: Option<Arrivals>,
    /// How many tokens they have.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lengths: Option<Lengths>,
    /// Clients with arrivals and lengths of their own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub servegen: Option<ServeGen>,
    /// Which prompts come again or begin alike; all are different if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prompts: Option<PromptSet>,
    /// The most tokens a request may have, prefill and decode together; longer ones are cut as in a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl GenerateSpec {
    pub fn check(&self, faults: &mut Faults) {
        match (&self.arrivals, &self.lengths, &self.servegen) {
            (None, None, Some(servegen)) => faults.within("servegen", |faults| servegen.check(faults)),
            (Some(_), _, Some(_)) | (_, Some(_), Some(_)) => {
                faults.add(
                    "servegen",
                    "found beside `arrivals` or `lengths`, expected either it or both of them",
                );
            }
            (arrivals, lengths, None) => {
                faults.require(arrivals.is_some(), "arrivals", || {
                    "missing, expected `arrivals` and `lengths`, or `servegen`".into()
                });
                faults.require(lengths.is_some(), "lengths", || {
                    "missing, expected `arrivals` and `lengths`, or `servegen`".into()
                });
            }
        }
        if let Some(arrivals) = &self.arrivals {
            faults.within("arrivals", |faults| arrivals.check(faults));
        }
        if let Some(lengths) = &self.lengths {
            faults.within("lengths", |faults| lengths.check(faults));
        }
        if let Some(prompts) = &self.prompts {
            faults.within("prompts", |faults| prompts.check(faults));
        }
        if let Some(most) = self.max_tokens {
            faults.at_least("max_tokens", most.into(), 2);
        }
    }

    pub fn depends_on_seed(&self) -> bool {
        self.servegen.is_some()
            || self.arrivals.as_ref().is_some_and(Arrivals::depends_on_seed)
            || self.lengths.as_ref().is_some_and(Lengths::depends_on_seed)
    }
}

/// Generates a workload from checked settings; adds what there is to tell of traces that they name.
///
/// Errors: a file that the settings name is missing or broken.
pub(super) fn generate(
    spec: &GenerateSpec,
    seed: u64,
    base_dirs: &[PathBuf],
    notes: &mut Vec<TraceNotes>,
) -> Result<Workload, WorkloadError> {
    let mut workload = Workload::default();
    if let Some(servegen) = &spec.servegen {
        workload = servegen.generate(seed, base_dirs)?;
    }
    if let (Some(arrivals), Some(lengths)) = (&spec.arrivals, &spec.lengths) {
        (workload.arrived_at_s, workload.duration_s) = arrivals.generate(seed, base_dirs, notes)?;
        (workload.prefill_tokens, workload.decode_tokens) =
            lengths.generate(workload.len(), seed, base_dirs, notes)?;
    }
    for (prefill, decode) in workload.prefill_tokens.iter_mut().zip(&mut workload.decode_tokens) {
        (*prefill, *decode) = cut(*prefill, *decode, spec.max_tokens);
    }
    if let Some(prompts) = &spec.prompts {
        workload.prefix = Some(prompts.generate(&workload.prefill_tokens, seed));
    }
    Ok(workload)
}
