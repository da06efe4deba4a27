//! Every length of a range alike, prefill and decode each for themselves.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{DECODE_STREAM, PREFILL_STREAM, check_tokens};
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Uniform {
    /// Prompt tokens.
    pub prefill: TokenRange,
    /// Output tokens.
    pub decode: TokenRange,
}

/// Both ends belong to the range.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TokenRange {
    /// The fewest tokens drawn.
    pub min_tokens: u32,
    /// The most tokens drawn.
    pub max_tokens: u32,
}

impl TokenRange {
    pub(in crate::workload) fn check(&self, faults: &mut Faults) {
        check_tokens("min_tokens", self.min_tokens, faults);
        check_tokens("max_tokens", self.max_tokens, faults);
        faults.require(self.min_tokens <= self.max_tokens, "max_tokens", || {
            format!("{} found, expected at least the `min_tokens` {}", self.max_tokens, self.min_tokens)
        });
    }

    fn draws(self, seed: u64, purpose: &str) -> impl Iterator<Item = u32> + use<> {
        let mut random = random::stream(seed, purpose);
        std::iter::repeat_with(move || random.random_range(self.min_tokens..=self.max_tokens))
    }
}

impl Uniform {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.within("prefill", |faults| self.prefill.check(faults));
        faults.within("decode", |faults| self.decode.check(faults));
    }

    pub(super) fn pairs(&self, seed: u64) -> impl Iterator<Item = (u32, u32)> + use<> {
        self.prefill.draws(seed, PREFILL_STREAM).zip(self.decode.draws(seed, DECODE_STREAM))
    }
}
