//! Speculative decoding: tokens are drafted, and verified together in one step.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

/// Tokens a step may draft at most.
const MOST_DRAFTS: u32 = 64;

/// Speculative decoding: each step of a decoding request verifies so many drafted tokens, which count towards
/// the budget of the step, and yields one token more than are accepted. Give `acceptance_rate` or
/// `acceptance_length`, as measured for your drafter and traffic.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Speculative {
    pub num_speculative_tokens: u32,
    /// How likely a drafted token is accepted if all before it are.
    #[serde(default)]
    pub acceptance_rate: Option<f64>,
    /// Tokens that a step yields on average, its own included: 1 to `num_speculative_tokens` + 1.
    #[serde(default)]
    pub acceptance_length: Option<f64>,
    /// Time of drafting as a share of the step it follows. An assumption: measure yours.
    #[serde(default = "tenth")]
    pub draft_time_fraction: f64,
    /// What drafts.
    #[serde(default)]
    pub drafter: Drafter,
}

/// What drafts tokens, by what that takes of a step's budget and of the cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Drafter {
    /// What goes by the model's own hidden states (EAGLE, MTP): blocks for the tokens it drafts as well, and
    /// a block is found in the prefix cache only if the token after it is the same, too.
    #[default]
    Eagle,
    /// A smaller model: blocks for the tokens it drafts, and one token of the budget for each request in a
    /// step.
    DraftModel,
    /// Nothing but what was said before.
    Ngram,
}

fn tenth() -> f64 {
    0.1
}

impl Speculative {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.at_least("num_speculative_tokens", self.num_speculative_tokens.into(), 1);
        faults.at_most("num_speculative_tokens", self.num_speculative_tokens.into(), MOST_DRAFTS.into());
        faults.not_negative("draft_time_fraction", self.draft_time_fraction);
        match (self.acceptance_rate, self.acceptance_length) {
            (Some(rate), None) => faults.fraction("acceptance_rate", rate),
            (None, Some(length)) => {
                let most = f64::from(self.num_speculative_tokens) + 1.0;
                faults.require((1.0..=most).contains(&length), "acceptance_length", || {
                    format!("{length} found, expected 1 to `num_speculative_tokens` + 1 ({most})")
                });
            }
            (Some(_), Some(_)) => {
                faults.add("acceptance_length", "given beside `acceptance_rate`, expected one of them")
            }
            (None, None) => faults.add(
                "acceptance_rate",
                "neither `acceptance_rate` nor `acceptance_length` found, expected one of them",
            ),
        }
    }

    pub(super) fn drafting(&self) -> Drafting {
        let drafts = self.num_speculative_tokens;
        let rate = self
            .acceptance_rate
            .unwrap_or_else(|| rate_of_length(drafts, self.acceptance_length.unwrap_or(1.0)));
        Drafting {
            drafts,
            rate,
            lookahead: if self.drafter == Drafter::Ngram { 0 } else { drafts },
            hash_lookahead: u32::from(self.drafter == Drafter::Eagle),
            slots: u32::from(self.drafter == Drafter::DraftModel),
            time_fraction: self.draft_time_fraction,
        }
    }
}

/// The rate at which a step yields so many tokens on average: 1 + rate + rate^2 + .. of them.
fn rate_of_length(drafts: u32, length: f64) -> f64 {
    let (mut low, mut high) = (0.0, 1.0);
    for _ in 0..60 {
        let rate = 0.5 * (low + high);
        let yields = (0..drafts).fold(1.0, |sum, _| 1.0 + rate * sum);
        if yields < length { low = rate } else { high = rate }
    }
    0.5 * (low + high)
}

/// A number in [0, 1) that goes with another: SplitMix64's output for it.
fn draw(of: u64) -> f64 {
    let mut bits = of.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    ((bits ^ (bits >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
}

/// What a step has to know of it.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Drafting {
    pub drafts: u32,
    rate: f64,
    /// Tokens beyond those scheduled for which blocks are given.
    pub lookahead: u32,
    /// Tokens after a block without which it is not known.
    pub hash_lookahead: u32,
    /// What each request in a step takes of its budget besides its tokens.
    pub slots: u32,
    pub time_fraction: f64,
}

impl Drafting {
    /// How many of the first `drafts` tokens drafted for a request that knows so many tokens are accepted.
    pub fn accepted(&self, drafts: u32, id: u32, known_tokens: u32) -> u32 {
        let drawn = draw(u64::from(id) << 32 | u64::from(known_tokens));
        let (mut accepted, mut chance) = (0, self.rate);
        while accepted < drafts && drawn < chance {
            accepted += 1;
            chance *= self.rate;
        }
        accepted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_and_rates_agree() {
        assert!((rate_of_length(3, 1.0 + 0.7 + 0.49 + 0.343) - 0.7).abs() < 1e-12);
        let drafting = Drafting { drafts: 3, rate: 0.7, ..Drafting::default() };
        let steps = 100_000;
        let accepted: u32 = (0..steps).map(|step| drafting.accepted(3, step % 100, step)).sum();
        assert!((f64::from(accepted) / f64::from(steps) - 1.533).abs() < 0.01, "{accepted}");
        assert_eq!(Drafting { rate: 1.0, ..drafting }.accepted(2, 1, 1), 2);
        assert_eq!(Drafting { rate: 0.0, ..drafting }.accepted(3, 1, 1), 0);
    }
}
