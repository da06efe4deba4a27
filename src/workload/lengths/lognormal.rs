//! Log-normal lengths, prefill and decode each for themselves: many short ones, few very long ones.

use rand::RngExt;
use rand_distr::StandardNormal;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DECODE_STREAM, PREFILL_STREAM, TokenRange};
use crate::random;
use crate::settings::Faults;
use crate::workload::MAX_TOKENS;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogNormal {
    /// Prompt tokens.
    pub prefill: LogNormalTokens,
    /// Output tokens.
    pub decode: LogNormalTokens,
}

/// Either `median_tokens` and `sigma`, or `mean_tokens` and `cv`; both before clipping.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogNormalTokens {
    /// Median before clipping; goes with `sigma`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_tokens: Option<f64>,
    /// Standard deviation of the logarithm.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sigma: Option<f64>,
    /// Mean before clipping; goes with `cv`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mean_tokens: Option<f64>,
    /// Standard deviation over mean.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cv: Option<f64>,
    /// Shorter draws become this.
    #[serde(default = "least")]
    pub min_tokens: u32,
    /// Longer draws become this.
    #[serde(default = "most")]
    pub max_tokens: u32,
}

fn least() -> u32 {
    1
}

fn most() -> u32 {
    MAX_TOKENS
}

impl LogNormalTokens {
    pub(in crate::workload) fn check(&self, faults: &mut Faults) {
        match (self.median_tokens, self.sigma, self.mean_tokens, self.cv) {
            (Some(median), Some(sigma), None, None) => {
                faults.positive("median_tokens", median);
                faults.not_negative("sigma", sigma);
            }
            (None, None, Some(mean), Some(cv)) => {
                faults.positive("mean_tokens", mean);
                faults.not_negative("cv", cv);
            }
            _ => faults.add("", "expected either `median_tokens` and `sigma`, or `mean_tokens` and `cv`"),
        }
        TokenRange { min_tokens: self.min_tokens, max_tokens: self.max_tokens }.check(faults);
    }

    /// Mean and standard deviation of the logarithm.
    fn parameters(&self) -> (f64, f64) {
        match (self.median_tokens, self.sigma, self.mean_tokens, self.cv) {
            (Some(median), Some(sigma), ..) => (libm::log(median), sigma),
            (_, _, mean, cv) => {
                let variance = libm::log1p(cv.unwrap_or(0.0).powi(2));
                (libm::log(mean.unwrap_or(1.0)) - variance / 2.0, libm::sqrt(variance))
            }
        }
    }

    pub(in crate::workload) fn draws(&self, seed: u64, purpose: &str) -> impl Iterator<Item = u32> + use<> {
        let mut random = random::stream(seed, purpose);
        let (mu, sigma) = self.parameters();
        let (least, most) = (f64::from(self.min_tokens), f64::from(self.max_tokens));
        let draw = move || {
            libm::exp(mu + sigma * random.sample::<f64, _>(StandardNormal)).round().clamp(least, most) as u32
        };
        std::iter::repeat_with(draw)
    }
}

impl LogNormal {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.within("prefill", |faults| self.prefill.check(faults));
        faults.within("decode", |faults| self.decode.check(faults));
    }

    pub(super) fn pairs(&self, seed: u64) -> impl Iterator<Item = (u32, u32)> + use<> {
        self.prefill.draws(seed, PREFILL_STREAM).zip(self.decode.draws(seed, DECODE_STREAM))
    }
}
