//! Poisson arrivals: spacing is exponential, requests know nothing of each other.

use rand::RngExt;
use rand_distr::Exp1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::{self, Phase};
use crate::random;
use crate::settings::Faults;

/// Either `phases`, or one `rate_per_s` and `duration_s`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Poisson {
    /// Stretches of constant rate, one after the other; or else `rate_per_s` and `duration_s`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Mean rate of requests, where there are no `phases`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// How long requests arrive, where there are no `phases`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
}

impl Poisson {
    pub(super) fn check(&self, faults: &mut Faults) {
        phases::check(&self.phases, self.rate_per_s, self.duration_s, faults);
    }

    pub(super) fn times(&self, seed: u64) -> impl Iterator<Item = f64> + use<> {
        arrivals(phases::resolved(&self.phases, self.rate_per_s, self.duration_s), seed)
    }
}

pub(super) fn arrivals(phases: Vec<Phase>, seed: u64) -> impl Iterator<Item = f64> {
    let mut random = random::stream(seed, super::STREAM);
    phases::arrivals(phases, move |_| random.sample(Exp1))
}
