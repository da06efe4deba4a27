//! A second tier of the cache, in the host's memory: what was computed of named prompts, and how long it
//! takes to get it back.
//!
//! Source: vLLM 0.33.0's native offloading (`OffloadingConnector`, `CPUOffloadingManager`, its LRU), read,
//! and run beside this one with one request after the other: each full block of a prompt is copied to the
//! host once it is computed, all of a step or none; what a request does not find on the device is looked for
//! there, from its end on; blocks used least recently make room, of one prompt the last ones first. Of a
//! prompt whose beginning is on the device and whose rest comes from the host, the beginning does not count
//! as used there. Copies to the host cost nothing here; copies from it hold up the step that admits the
//! request, where vLLM lets others go on meanwhile.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::super::ReplicaShape;
use super::super::prefix_cache::BlockedPrompt;
use crate::settings::Faults;

/// A CPU tier for KV blocks of named prompts: vLLM's `kv_offloading_size`. Bandwidth and latency are an
/// assumption: measure yours.
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
        let blocks =
            self.size_gib * f64::from(1_u32 << 30) / (block_bytes * f64::from(replica.tensor_parallel));
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

/// What the host has of prompts: of each run of hash blocks pieces that were used last at the same time.
#[derive(Debug, Clone, Default)]
pub(super) struct Offloaded {
    runs: BTreeMap<u32, Vec<Piece>>,
    /// All pieces in the order in which they go: by last use, those further back in a prompt first.
    order: BTreeSet<(u64, Reverse<u32>, u32)>,
    users: BTreeMap<u32, User>,
    uses: u64,
    blocks: u32,
}

/// KV blocks `start..end` of a prompt.
#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    end: u32,
    used: u64,
}

/// A request in memory.
#[derive(Debug, Clone, Copy)]
struct User {
    /// When it came.
    used: u64,
    /// The first block of the host that it has to do with, and the first that it has not copied there.
    from: u32,
    next: u32,
}

/// The runs of a prompt with the KV blocks that end in each: first one and that after the last.
fn parts(prompt: BlockedPrompt<'_>) -> impl Iterator<Item = (u32, u32, u32)> {
    let ends: Vec<(u32, u32)> =
        prompt.prompt.runs.iter().map(|run| (run.id, prompt.within(run.end))).collect();
    let starts: Vec<u32> = std::iter::once(0).chain(ends.iter().map(|&(_, end)| end)).collect();
    ends.into_iter()
        .zip(starts)
        .map(|((run, end), start)| (run, start, end))
        .filter(|&(_, start, end)| start < end)
}

/// Those of the KV blocks `from..until`.
fn pieces(prompt: BlockedPrompt<'_>, from: u32, until: u32) -> impl Iterator<Item = (u32, u32, u32)> {
    parts(prompt)
        .map(move |(run, start, end)| (run, start.max(from), end.min(until)))
        .filter(|&(_, start, end)| start < end)
}

impl Offloaded {
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    /// Notes that a request was admitted, of whose prompt `on_device` blocks were found there and `loaded`
    /// more are got from here. What was found on the device counts as used here only if nothing has to be
    /// got.
    pub fn admit(&mut self, id: u32, prompt: BlockedPrompt, on_device: u32, loaded: u32) {
        let (from, next) = if loaded > 0 { (on_device, on_device + loaded) } else { (0, 0) };
        let user = match self.users.get(&id) {
            Some(user) => User { from: user.from.min(from), next, ..*user },
            None => {
                self.uses += 1;
                User { used: self.uses, from, next }
            }
        };
        self.users.insert(id, user);
        self.use_all(prompt, from, next, user.used, false);
    }

    /// Copies what a request has computed of its prompt, up to `until`, to a tier of `most` blocks: all that
    /// is not there yet, or nothing.
    pub fn offer(&mut self, id: u32, prompt: BlockedPrompt, until: u32, most: u32) {
        let Some(&User { used, next, .. }) = self.users.get(&id) else { return };
        if next >= until {
            return;
        }
        self.use_all(prompt, next, until, used, false);
        let there: u32 =
            pieces(prompt, next, until).map(|(run, start, end)| self.there(run, start, end)).sum();
        let new = until - next - there;
        let surplus = (self.blocks + new).saturating_sub(most);
        if surplus > self.blocks - there {
            return;
        }
        self.make_room(surplus, prompt, next, until);
        self.use_all(prompt, next, until, used, true);
        self.users.insert(id, User { next: until, ..self.users[&id] });
    }

    /// Notes that a request has ended, the blocks of whose prompt end at `until`.
    pub fn finish(&mut self, id: u32, prompt: BlockedPrompt, until: u32) {
        if let Some(user) = self.users.remove(&id) {
            self.uses += 1;
            self.use_all(prompt, user.from, until, self.uses, false);
        }
    }

    /// Lets so many blocks go, those used least recently first, but none of `from..until` of a prompt.
    fn make_room(&mut self, mut blocks: u32, prompt: BlockedPrompt, from: u32, until: u32) {
        let kept: Vec<(u32, u32, u32)> = pieces(prompt, from, until).collect();
        let mut gone = Vec::new();
        for &(used, Reverse(start), run) in &self.order {
            if blocks == 0 {
                break;
            }
            if kept.iter().any(|&(other, first, end)| other == run && (first..end).contains(&start)) {
                continue;
            }
            let of_run = self.runs.get_mut(&run).expect("pieces belong to runs");
            let place = of_run.iter().position(|piece| piece.start == start).expect("a piece of the run");
            let piece = &mut of_run[place];
            let taken = blocks.min(piece.end - piece.start);
            piece.end -= taken;
            (blocks, self.blocks) = (blocks - taken, self.blocks - taken);
            if piece.end == start {
                of_run.remove(place);
                gone.push((used, Reverse(start), run));
            }
        }
        gone.iter().for_each(|key| _ = self.order.remove(key));
    }

    /// How many of the blocks `start..end` of a run are here.
    fn there(&self, run: u32, start: u32, end: u32) -> u32 {
        let of_run = self.runs.get(&run).into_iter().flatten();
        of_run.map(|piece| piece.end.min(end).saturating_sub(piece.start.max(start))).sum()
    }

    /// Notes a use of the blocks `from..until` of a prompt that are here, or puts all of them here.
    fn use_all(&mut self, prompt: BlockedPrompt, from: u32, until: u32, used: u64, put: bool) {
        for (run, start, end) in pieces(prompt, from, until) {
            let of_run = self.runs.entry(run).or_default();
            let mut after = Vec::with_capacity(of_run.len() + 2);
            let mut gap = start;
            for piece in std::mem::take(of_run) {
                self.order.remove(&(piece.used, Reverse(piece.start), run));
                self.blocks -= piece.end - piece.start;
                let (first, last) = (piece.start.max(start), piece.end.min(end));
                if first >= last {
                    after.push(piece);
                    continue;
                }
                after.push(Piece { end: first, ..piece });
                after.push(Piece { start: gap, end: if put { first } else { gap }, used });
                after.push(Piece { start: first, end: last, used: used.max(piece.used) });
                after.push(Piece { start: last, ..piece });
                gap = last;
            }
            after.push(Piece { start: gap, end: if put { end } else { gap }, used });
            after.retain(|piece| piece.start < piece.end);
            after.sort_by_key(|piece| piece.start);
            after.dedup_by(|next, before| {
                let one = before.end == next.start && before.used == next.used;
                before.end = if one { next.end } else { before.end };
                one
            });
            for piece in &after {
                self.order.insert((piece.used, Reverse(piece.start), run));
                self.blocks += piece.end - piece.start;
            }
            *of_run = after;
        }
    }

    /// How many of the KV blocks `from..until` of a prompt are here without a gap.
    pub fn look_up(&self, prompt: BlockedPrompt, from: u32, until: u32) -> u32 {
        let mut found = from;
        for (run, start, end) in pieces(prompt, from, until) {
            if found < start {
                break;
            }
            for piece in self.runs.get(&run).into_iter().flatten() {
                if piece.start <= found {
                    found = found.max(piece.end.min(end));
                }
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

    fn prompt<'a>(runs: &'a [Run], kv: &'a KvBlocks) -> BlockedPrompt<'a> {
        BlockedPrompt { prompt: Prompt { runs, block_tokens: 16 }, kv }
    }

    #[test]
    fn what_was_used_least_recently_goes_from_its_end() {
        let (one, other) =
            ([Run { id: 0, end: 4 }, Run { id: 1, end: 10 }], [Run { id: 0, end: 4 }, Run { id: 2, end: 7 }]);
        let (third, large) = ([Run { id: 3, end: 9 }], [Run { id: 4, end: 11 }]);
        let (kv, mut tier) = (KvBlocks::new(100, 16, 0.0), Offloaded::default());
        let mut keep = |id: u32, runs: &[Run], until: u32| {
            tier.admit(id, prompt(runs, &kv), 0, 0);
            tier.offer(id, prompt(runs, &kv), until, 10);
            tier.finish(id, prompt(runs, &kv), until);
            [&one[..], &other[..]].map(|runs| tier.look_up(prompt(runs, &kv), 0, 10))
        };
        assert_eq!(keep(0, &one, 8), [8, 4]);
        assert_eq!(keep(1, &other, 7), [7, 7], "one had to go");
        assert_eq!(keep(2, &third, 9), [1, 1], "beginnings stay longest");
        assert_eq!(keep(3, &large, 11), [1, 1], "there is no room for eleven, and none are kept");
        assert_eq!([tier.look_up(prompt(&third, &kv), 5, 9), tier.blocks], [4, 10]);
    }

    #[test]
    fn a_beginning_found_on_the_device_is_not_used_on_the_host() {
        let (runs, others, last) =
            ([Run { id: 0, end: 6 }], [Run { id: 1, end: 4 }], [Run { id: 2, end: 3 }]);
        let (kv, mut tier) = (KvBlocks::new(100, 16, 0.0), Offloaded::default());
        for (id, runs, on_device, loaded, until) in
            [(0, &runs, 0, 0, 6), (1, &others, 0, 0, 4), (2, &runs, 2, 4, 6), (3, &last, 0, 0, 3)]
        {
            tier.admit(id, prompt(runs, &kv), on_device, loaded);
            tier.offer(id, prompt(runs, &kv), until, 10);
            tier.finish(id, prompt(runs, &kv), until);
        }
        assert_eq!(
            [
                tier.look_up(prompt(&runs, &kv), 0, 6),
                tier.look_up(prompt(&runs, &kv), 2, 6),
                tier.look_up(prompt(&others, &kv), 0, 4)
            ],
            [0, 4, 3]
        );
    }

    #[test]
    fn what_is_got_back_takes_its_time() {
        let shape = ReplicaShape {
            tensor_parallel: 2,
            kv_bytes_per_token: 65_536.0,
            ..super::super::super::bench::SHAPE
        };
        let tier = KvOffloading { size_gib: 1.0, bandwidth_gb_per_s: 10.0, latency_ms: 2.0 }.on(&shape, 16);
        assert_eq!(tier.blocks, 512);
        assert!((tier.load_s(100) - (0.002 + 100.0 * 16.0 * 65_536.0 / 10e9)).abs() < 1e-12);
        assert_eq!(tier.load_s(0), 0.0);
    }
}
