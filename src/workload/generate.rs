//! Requests drawn from distributions: arrival times from one process, lengths from another.
//!
//! Arrivals and lengths draw from [streams](crate::random) of their own, so that changing the lengths leaves every arrival
//! where it was.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::arrivals::Arrivals;
use super::error::WorkloadError;
use super::lengths::Lengths;
use super::{Workload, cut};
use crate::settings::Faults;

/// How requests are generated.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GenerateSpec {
    /// When requests arrive.
    pub arrivals: Arrivals,
    /// How many tokens they have.
    pub lengths: Lengths,
    /// The most tokens a request may have, prefill and decode together; longer ones are cut as in a trace.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
}

impl GenerateSpec {
    pub fn check(&self, faults: &mut Faults) {
        faults.within("arrivals", |faults| self.arrivals.check(faults));
        faults.within("lengths", |faults| self.lengths.check(faults));
        if let Some(most) = self.max_tokens {
            faults.at_least("max_tokens", most.into(), 2);
        }
    }

    pub fn depends_on_seed(&self) -> bool {
        self.arrivals.depends_on_seed() || self.lengths.depends_on_seed()
    }
}

/// Generates a workload from checked settings.
///
/// Errors: a file that the settings name is missing or broken.
pub fn generate(spec: &GenerateSpec, seed: u64, base_dirs: &[PathBuf]) -> Result<Workload, WorkloadError> {
    let arrived_at_s = spec.arrivals.generate(seed, base_dirs)?;
    let (mut prefill_tokens, mut decode_tokens) = spec.lengths.generate(arrived_at_s.len(), seed, base_dirs)?;
    for (prefill, decode) in prefill_tokens.iter_mut().zip(&mut decode_tokens) {
        (*prefill, *decode) = cut(*prefill, *decode, spec.max_tokens);
    }
    Ok(Workload { arrived_at_s, prefill_tokens, decode_tokens })
}
