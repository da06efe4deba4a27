//! A second tier of the cache, in the host's memory: what was computed of named prompts, and how long it takes to get it back.
//!
//! Source: vLLM's native offloading (`v1/kv_offload`, its `LRUOffloadingManager`): each full block is copied to the host once it is computed;
//! what a request does not find on the device is looked for there, from its end on; blocks used least recently make room, of one prompt the
//! last ones first. Copies to the host cost nothing here; copies from it hold up the step that admits the request, where vLLM lets others go
//! on meanwhile.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ReplicaShape;
use super::super::prefix_cache::BlockedPrompt;
use crate::settings::Faults;

/// A CPU tier for KV blocks of named prompts: vLLM's `kv_offloading_size`. Bandwidth and latency are an assumption: measure yours.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KvOffloading {
    /// Memory of the host for the blocks of one replica, all its devices together.
    pub size_gib: f64,
    /// From the host to each device, gigabytes (1e9 bytes) per second.
    #[serde(default = "pcie_gen5")]
    pub bandwidth_gb_per_s: f64,
    /// Before the first byte of what a request gets back arrives.
    #[serde(default = "one")]
    pub latency_ms: f64,
}

/// Most of what 16 lanes of PCIe 5.0 carry (63 GB/s).
fn pcie_gen5() -> f64 {
    50.0
}

fn one() -> f64 {
    1.0
}

impl KvOffloading {
    pub(super) fn check(&self, faults: &mut Faults) {
        faults.positive("size_gib", self.size_gib);
        faults.positive("bandwidth_gb_per_s", self.bandwidth_gb_per_s);
        faults.not_negative("latency_ms", self.latency_ms);
    }

    pub(super) fn on(&self, replica: &ReplicaShape, block_size_tokens: u32) -> Tier {
        // Of each device, whose parts are got at the same time.
        let block_bytes = replica.kv_bytes_per_token * f64::from(block_size_tokens);
        let blocks = self.size_gib * f64::from(1_u32 << 30) / (block_bytes * f64::from(replica.tensor_parallel));
        Tier {
            blocks: blocks.min(f64::from(u32::MAX)) as u32,
            block_s: block_bytes / (self.bandwidth_gb_per_s * 1e9),
            latency_s: self.latency_ms * 1e-3,
        }
    }
}

/// The same in blocks and seconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Tier {
    pub blocks: u32,
    block_s: f64,
    latency_s: f64,
}

impl Tier {
    /// How long it takes to get so many blocks back.
    pub fn load_s(&self, blocks: u32) -> f64 {
        if blocks == 0 { 0.0 } else { self.latency_s + f64::from(blocks) * self.block_s }
    }
}

/// What the host has of prompts: by runs of hash blocks, of each the first KV blocks.
#[derive(Debug, Clone, Default)]
pub(super) struct Offloaded {
    runs: BTreeMap<u32, Kept>,
    /// Runs by when they were used last.
    by_use: BTreeMap<u64, u32>,
    uses: u64,
    blocks: u32,
}

#[derive(Debug, Clone, Copy)]
struct Kept {
    blocks: u32,
    used: u64,
}

/// The runs of a prompt with the KV blocks that end in each: first one and that after the last.
fn parts(prompt: BlockedPrompt<'_>) -> impl DoubleEndedIterator<Item = (u32, u32, u32)> {
    let ends: Vec<(u32, u32)> = prompt.prompt.runs.iter().map(|run| (run.id, prompt.within(run.end))).collect();
    let starts: Vec<u32> = std::iter::once(0).chain(ends.iter().map(|&(_, end)| end)).collect();
    ends.into_iter().zip(starts).map(|((run, end), start)| (run, start, end)).filter(|&(_, start, end)| start < end)
}

impl Offloaded {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Keeps the blocks of a prompt up to `until`, on a tier of so many.
    pub fn keep(&mut self, prompt: BlockedPrompt, until: u32, most: u32) {
        // The last ones first, so that beginnings are used last.
        for (run, start, end) in parts(prompt).rev() {
            if start < until {
                self.touch(run, end.min(until) - start);
            }
        }
        while self.blocks > most {
            let (&used, &run) = self.by_use.first_key_value().expect("blocks belong to runs");
            let kept = self.runs.get_mut(&run).expect("a run that was used");
            let gone = kept.blocks.min(self.blocks - most);
            kept.blocks -= gone;
            self.blocks -= gone;
            if kept.blocks == 0 {
                self.runs.remove(&run);
                self.by_use.remove(&used);
            }
        }
    }

    fn touch(&mut self, run: u32, blocks: u32) {
        self.uses += 1;
        let kept = self.runs.entry(run).or_insert(Kept { blocks: 0, used: 0 });
        self.by_use.remove(&kept.used);
        kept.used = self.uses;
        self.by_use.insert(self.uses, run);
        self.blocks += blocks.saturating_sub(kept.blocks);
        kept.blocks = kept.blocks.max(blocks);
    }

    /// How many of the KV blocks `from..until` of a prompt are here without a gap.
    pub fn look_up(&self, prompt: BlockedPrompt, from: u32, until: u32) -> u32 {
        let mut found = from;
        for (run, start, end) in parts(prompt) {
            if end <= found {
                continue;
            }
            if start >= until {
                break;
            }
            let kept = start + self.runs.get(&run).map_or(0, |kept| kept.blocks);
            found = found.max(kept.min(end).min(until));
            if found < end {
                break;
            }
        }
        found - from
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::KvBlocks;
    use super::*;
    use crate::workload::{Prompt, Run};

    #[test]
    fn what_was_used_least_recently_goes_from_its_end() {
        let (one, other) = ([Run { id: 0, end: 4 }, Run { id: 1, end: 10 }], [Run { id: 0, end: 4 }, Run { id: 2, end: 7 }]);
        let (kv, mut tier) = (KvBlocks::new(100, 16, 0.0), Offloaded::default());
        let prompt = |runs| BlockedPrompt { prompt: Prompt { runs, block_tokens: 16 }, kv: &kv };
        tier.keep(prompt(&one), 8, 10);
        assert_eq!([tier.look_up(prompt(&one), 0, 10), tier.look_up(prompt(&one), 5, 10), tier.look_up(prompt(&one), 0, 6)], [8, 3, 6]);
        assert_eq!(tier.look_up(prompt(&other), 0, 7), 4);
        tier.keep(prompt(&other), 7, 10);
        assert_eq!((tier.blocks, tier.look_up(prompt(&one), 0, 10), tier.look_up(prompt(&other), 0, 7)), (10, 7, 7), "one had to go");
        tier.keep(prompt(&[Run { id: 3, end: 9 }]), 9, 10);
        assert_eq!((tier.blocks, tier.look_up(prompt(&one), 0, 10)), (10, 1), "beginnings stay longest");
    }

    #[test]
    fn what_is_got_back_takes_its_time() {
        let shape = ReplicaShape { tensor_parallel: 2, kv_bytes_per_token: 65_536.0, ..super::super::super::bench::SHAPE };
        let tier = KvOffloading { size_gib: 1.0, bandwidth_gb_per_s: 10.0, latency_ms: 2.0 }.on(&shape, 16);
        assert_eq!(tier.blocks, 512);
        assert!((tier.load_s(100) - (0.002 + 100.0 * 16.0 * 65_536.0 / 10e9)).abs() < 1e-12);
        assert_eq!(tier.load_s(0), 0.0);
    }
}
