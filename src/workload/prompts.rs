//! Prompts that come again, or begin alike: what prefix caching lives on.
//!
//! A fixed set of `groups` x `prompts_per_group` prompts, used in turn: request k gets prompt k modulo their
//! number. Prompts of a group begin with the same `shared_tokens`, such as a system prompt. That is the load
//! that inference-perf (kubernetes-sigs) makes of `shared_prefix`; later versions of it shuffle the set
//! first. A prompt that comes again with another length is the same prompt, cut or continued.

use rand::RngExt;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::PrefixBlocks;
use crate::random;
use crate::settings::Faults;

/// Tokens by which prompts are said to be alike: as long as an engine's KV blocks usually are.
pub const BLOCK_TOKENS: u32 = 16;

/// More prompts are not shuffled: their order would have to be kept.
const MOST_SHUFFLED: u64 = 10_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PromptSet {
    /// Groups of prompts with a common beginning.
    pub groups: u32,
    /// Different prompts in each group.
    pub prompts_per_group: u32,
    /// Length of the common beginning; counts in whole blocks of 16 tokens.
    pub shared_tokens: u32,
    /// Whether the set is shuffled before it is used in turn, so that groups come in random order; by default
    /// one follows the other.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub shuffled: bool,
}

impl Default for PromptSet {
    fn default() -> Self {
        Self { groups: 10, prompts_per_group: 10, shared_tokens: 0, shuffled: false }
    }
}

impl PromptSet {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.at_least("groups", self.groups.into(), 1);
        faults.at_least("prompts_per_group", self.prompts_per_group.into(), 1);
        let prompts = u64::from(self.groups) * u64::from(self.prompts_per_group);
        faults.require(prompts <= u32::MAX.into(), "groups", || {
            format!("{prompts} prompts found, expected fewer than 2^32")
        });
        faults.require(!self.shuffled || prompts <= MOST_SHUFFLED, "shuffled", || {
            format!("{prompts} prompts found, expected at most {MOST_SHUFFLED} to shuffle: lower `groups` or `prompts_per_group`")
        });
    }

    /// The prompt blocks of requests with these lengths.
    pub(super) fn generate(&self, prefill_tokens: &[u32], seed: u64) -> PrefixBlocks {
        let longest = prefill_tokens.iter().max().copied().unwrap_or_default();
        let prompts = self.groups * self.prompts_per_group;
        let order = self.shuffled.then(|| shuffled(prompts, seed));
        let mut prefix = PrefixBlocks::new(BLOCK_TOKENS);
        for (k, &tokens) in (0_u32..).zip(prefill_tokens) {
            let place = k % prompts;
            let prompt = order.as_ref().map_or(place, |order| order[place as usize]);
            prefix.push(
                &blocks(prompt, prompt / self.prompts_per_group, self.shared_tokens, tokens, longest),
                tokens,
            );
        }
        prefix
    }
}

/// The numbers below `prompts` in random order (Fisher and Yates's).
fn shuffled(prompts: u32, seed: u64) -> Vec<u32> {
    let mut random = random::stream(seed, "workload.prompts");
    let mut order: Vec<u32> = (0..prompts).collect();
    for place in (1..prompts).rev() {
        order.swap(place as usize, random.random_range(0..=place) as usize);
    }
    order
}

/// Ids of the blocks of a prompt: those of its beginning are its group's. `longest` is the most tokens a
/// prompt of the workload has.
pub(crate) fn blocks(prompt: u32, group: u32, shared_tokens: u32, tokens: u32, longest: u32) -> Vec<u64> {
    let stride = u64::from(longest.div_ceil(BLOCK_TOKENS));
    // Numbers of groups and of prompts take turns, so that ids have few gaps.
    let id = |block: u32| {
        let of = if block < shared_tokens / BLOCK_TOKENS {
            2 * u64::from(group)
        } else {
            2 * u64::from(prompt) + 1
        };
        of * stride + u64::from(block)
    };
    (0..tokens.div_ceil(BLOCK_TOKENS)).map(id).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_come_in_turn_and_share_their_groups_beginning() {
        let set = PromptSet { groups: 2, prompts_per_group: 2, shared_tokens: 40, shuffled: false };
        let prefix = set.generate(&[64, 80, 64, 64, 70], 1);
        let alike =
            |a: usize, b: usize| prefix.of(a).iter().zip(prefix.of(b)).take_while(|(a, b)| a == b).count();
        assert_eq!((alike(0, 1), alike(0, 2), alike(2, 3)), (2, 0, 2), "40 tokens are two blocks and a half");
        assert_eq!((alike(0, 4), prefix.of(4).len()), (4, 5), "the first prompt again, and longer");
    }

    /// Each prompt once in a round, in an order of the seed's, and the same in each round.
    #[test]
    fn a_shuffled_set_is_used_up_before_it_comes_again() {
        let set = PromptSet { groups: 4, prompts_per_group: 5, shared_tokens: 32, shuffled: true };
        let first_blocks = |seed| {
            let prefix = set.generate(&[64; 40], seed);
            (0..40).map(|k| prefix.of(k).to_vec()).collect::<Vec<_>>()
        };
        let prompts = first_blocks(1);
        let mut round: Vec<_> = prompts[..20].to_vec();
        round.sort();
        round.dedup();
        assert_eq!((round.len(), prompts[..20] == prompts[20..]), (20, true));
        assert_eq!(prompts, first_blocks(1));
        assert_ne!(prompts, first_blocks(2));
        let runs = prompts[..20].windows(2).filter(|pair| pair[0][0] != pair[1][0]).count();
        assert!(runs > 6, "groups follow one another {runs} times, in turn they would 3 times");
    }

    #[test]
    fn empty_sets_are_faults() {
        let mut faults = Faults::default();
        PromptSet { groups: 0, prompts_per_group: 0, shared_tokens: 0, shuffled: false }.check(&mut faults);
        assert_eq!(
            faults.found.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(),
            ["groups", "prompts_per_group"]
        );
    }
}
