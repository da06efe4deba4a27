//! Static arrivals: evenly spaced, the first at time 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::{self, Phase};
use crate::settings::Faults;

/// Either `phases`, or one `rate_per_s` and `duration_s`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Static {
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

impl Static {
    pub(super) fn check(&self, faults: &mut Faults) {
        phases::check(&self.phases, self.rate_per_s, self.duration_s, faults);
    }

    pub(super) fn times(&self) -> impl Iterator<Item = f64> + use<> {
        let mut spacing = 0.0;
        let phases = phases::resolved(&self.phases, self.rate_per_s, self.duration_s);
        phases::arrivals(phases, move |_| std::mem::replace(&mut spacing, 1.0))
    }
}
