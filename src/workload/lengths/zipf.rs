//! Zipf-distributed total lengths, as in Vidur's generator: `min_tokens` most often, each further one rarer.
//!
//! The k-th length has weight k^-theta (exactly, by rejection; Vidur's closed form is an approximation for
//! theta below 1). `scramble` spreads the popular lengths over the range by a hash, seeded and the same on
//! every machine. The total is split by `prefill_to_decode_ratio`: decode = total / (1 + ratio), truncated
//! and at least 1; prefill the rest.

use rand::RngExt;
use rand_distr::Zipf as ZipfDistribution;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{PREFILL_STREAM, check_tokens};
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Zipf {
    /// Exponent; 0 is uniform.
    pub theta: f64,
    /// The least tokens in all, 2 or more.
    pub min_tokens: u32,
    /// The most tokens in all.
    pub max_tokens: u32,
    /// Prefill tokens per decode token.
    pub prefill_to_decode_ratio: f64,
    /// Whether frequent lengths are spread over the range; otherwise the shortest are the most frequent.
    #[serde(default)]
    pub scramble: bool,
}

impl Zipf {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.not_negative("theta", self.theta);
        faults.positive("prefill_to_decode_ratio", self.prefill_to_decode_ratio);
        faults.at_least("min_tokens", self.min_tokens.into(), 2);
        check_tokens("max_tokens", self.max_tokens, faults);
        faults.require(self.min_tokens <= self.max_tokens, "max_tokens", || {
            format!("{} found, expected at least the `min_tokens` {}", self.max_tokens, self.min_tokens)
        });
    }

    pub(super) fn pairs(&self, seed: u64) -> impl Iterator<Item = (u32, u32)> + use<> {
        let settings = *self;
        let mut random = random::stream(seed, PREFILL_STREAM);
        let lengths = self.max_tokens - self.min_tokens + 1;
        let ranks = ZipfDistribution::new(f64::from(lengths), self.theta).expect("checked settings");
        let split = move |total: u32| {
            let decode =
                ((f64::from(total) / (1.0 + settings.prefill_to_decode_ratio)) as u32).clamp(1, total - 1);
            (total - decode, decode)
        };
        let total = move |rank: f64| {
            let above = (rank as u32).clamp(1, lengths) - 1;
            settings.min_tokens + if settings.scramble { scrambled(above, seed) % lengths } else { above }
        };
        std::iter::repeat_with(move || split(total(random.sample(ranks))))
    }
}

fn scrambled(value: u32, seed: u64) -> u32 {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&seed.to_le_bytes());
    hasher.update(&value.to_le_bytes());
    let hash = hasher.finalize();
    let [a, b, c, d, ..] = *hash.as_bytes();
    u32::from_le_bytes([a, b, c, d])
}
