//! The cache beside its slow twin, which knows single hash blocks and single KV blocks.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::workload::PrefixBlocks;

const BLOCKS: u32 = 40;

struct Twin<'a> {
    prefix: &'a PrefixBlocks,
    kv: KvBlocks,
    /// Free blocks in the order they will be overwritten: hash and place of those that cache something.
    queue: VecDeque<Option<(u64, u32)>>,
    cached: BTreeMap<u64, u32>,
    users: BTreeMap<u64, u32>,
}

/// A request in memory; `pinned` are KV blocks of the one, hash blocks of the twin.
#[derive(Clone, Copy, Default)]
struct Held {
    blocks: u32,
    hashed: u32,
    shared: u32,
    pinned: u32,
}

impl Twin<'_> {
    fn within(&self, hashes: usize) -> u32 {
        self.kv.full_blocks(hashes as u32 * self.prefix.block_tokens)
    }

    fn is_used(&self, hash: u64) -> bool {
        self.users.get(&hash).is_some_and(|&users| users > 0)
    }

    fn cached(&self, hash: u64) -> u32 {
        self.cached.get(&hash).copied().unwrap_or_default()
    }

    /// Hash blocks in which KV blocks end: place of the hash block, hash, KV blocks before it and with it.
    fn hashes(&self, prompt: usize) -> Vec<(usize, u64, u32, u32)> {
        let all = self.prefix.of(prompt).iter().enumerate().map(|(i, &hash)| (i, hash, self.within(i), self.within(i + 1)));
        all.filter(|&(_, _, before, until)| until > before).collect()
    }

    fn take(&mut self, blocks: u32) {
        for _ in 0..blocks {
            if let Some((hash, place)) = self.queue.pop_front().unwrap() {
                assert_eq!(self.cached[&hash], place + 1, "overwritten from the last to the first");
                self.cached.insert(hash, place);
            }
        }
    }

    fn free_plain(&mut self, blocks: u32) {
        self.queue.extend((0..blocks).map(|_| None));
    }

    fn look_up(&self, prompt: usize, most: u32) -> (Hit, u32) {
        let (mut hit, mut hashes) = (Hit::default(), 0);
        for (index, hash, before, until) in self.hashes(prompt) {
            let (cached, wanted) = (self.cached(hash), until.min(most).saturating_sub(before));
            if cached == 0 || wanted == 0 {
                break;
            }
            hit.blocks += cached.min(wanted);
            hit.revived += if self.is_used(hash) { 0 } else { cached };
            hit.pinned_blocks = until;
            hashes = index as u32 + 1;
            if cached < wanted {
                break;
            }
        }
        (hit, hashes)
    }

    /// One more request uses a hash block; returns how many of its KV blocks were free.
    fn pin_hash(&mut self, hash: u64) -> u32 {
        let before = self.queue.len();
        self.queue.retain(|block| block.is_none_or(|(of, _)| of != hash));
        *self.users.entry(hash).or_default() += 1;
        (before - self.queue.len()) as u32
    }

    fn pin(&mut self, prompt: usize, hashes: u32) -> u32 {
        self.hashes(prompt).into_iter().filter(|&(index, ..)| (index as u32) < hashes).map(|(_, hash, ..)| self.pin_hash(hash)).sum()
    }

    fn share(&mut self, prompt: usize, held: &mut Held, full: u32) {
        for (index, hash, before, until) in self.hashes(prompt) {
            let until = until.min(full);
            if until <= held.hashed || before >= full {
                continue;
            }
            if index as u32 >= held.pinned {
                let copy = self.pin_hash(hash);
                if copy > 0 {
                    self.cached.insert(hash, 0);
                    self.free_plain(copy);
                }
                held.pinned = index as u32 + 1;
            }
            let cached = self.cached(hash).max(until - before);
            held.shared += cached - self.cached(hash);
            self.cached.insert(hash, cached);
            held.hashed = until;
        }
    }

    fn unpin(&mut self, prompt: usize, hashes: u32) {
        for (index, hash, ..) in self.hashes(prompt).into_iter().rev() {
            if (index as u32) < hashes {
                *self.users.get_mut(&hash).unwrap() -= 1;
                if !self.is_used(hash) {
                    self.queue.extend((0..self.cached(hash)).rev().map(|place| Some((hash, place))));
                }
            }
        }
    }
}

/// Prompts that branch from one another, of 3 to 4 hash blocks at a time; in some the hash blocks come anywhere.
fn prompts() -> impl Strategy<Value = Vec<Vec<u64>>> {
    let branching = prop::collection::vec((0..30_usize, 0..9_usize, 1..5_u64), 1..8).prop_map(|branches| {
        let mut prompts: Vec<Vec<u64>> = vec![Vec::new()];
        for (k, (from, cut, more)) in (0_u64..).zip(branches) {
            let mut prompt = prompts[from % prompts.len()].clone();
            prompt.truncate(cut);
            prompt.extend((0..more).map(|block| 10 * k + block));
            prompts.push(prompt);
        }
        prompts
    });
    let anything = prop::collection::vec(prop::collection::vec(0..7_u64, 0..6), 1..6);
    prop_oneof![4 => branching, 1 => anything]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_single_blocks(
        prompts in prompts(),
        (block_size, hash_tokens) in prop::sample::select(vec![(1_u32, 1_u32), (4, 4), (4, 12), (4, 6), (4, 3), (3, 7)]),
        steps in prop::collection::vec((0..6_usize, 0..30_usize, 0..9_u32, 0..30_u32), 1..120),
    ) {
        let kv = KvBlocks::new(BLOCKS, block_size, 0.0);
        let mut prefix = PrefixBlocks::new(hash_tokens);
        prompts.iter().for_each(|ids| prefix.push(ids, 1000));
        let runs = prefix.runs().clone();
        let see = |prompt: usize| BlockedPrompt { prompt: runs.of(prompt as u32), kv: &kv };
        let (cached, users) = (BTreeMap::new(), BTreeMap::new());
        let (mut cache, mut twin) = (PrefixCache::new(BLOCKS), Twin { prefix: &prefix, kv, queue: VecDeque::new(), cached, users });
        twin.free_plain(BLOCKS);
        // Six requests that come and go: prompt, KV blocks of it that have hashes, state.
        let mut requests: [Option<(usize, u32, Held, Held)>; 6] = [None; 6];
        for (k, prompt, more, most) in steps {
            match requests[k].take() {
                Some((prompt, _, one, other)) if more == 0 => {
                    cache.free_plain(one.blocks - one.shared);
                    twin.free_plain(one.blocks - one.shared);
                    let (before, queued) = (cache.free_blocks(), twin.queue.len());
                    let freed = cache.unpin(see(prompt), one.pinned);
                    twin.unpin(prompt, other.pinned);
                    prop_assert_eq!((freed, freed as usize), (cache.free_blocks() - before, twin.queue.len() - queued));
                }
                Some((prompt, most, mut one, mut other)) => {
                    let more = more.min(cache.free_blocks());
                    cache.take(more);
                    twin.take(more);
                    one.blocks += more;
                    if one.hashed < one.blocks.min(most) {
                        let (shared, hashed, pinned) = cache.share(see(prompt), one.pinned, one.hashed, one.blocks.min(most));
                        one = Held { shared: one.shared + shared, hashed, pinned, ..one };
                        twin.share(prompt, &mut other, one.blocks.min(most));
                    }
                    prop_assert_eq!((one.shared, one.hashed), (other.shared, other.hashed));
                    prop_assert_eq!(one.pinned, twin.within(other.pinned as usize));
                    requests[k] = Some((prompt, most, one, other));
                }
                None => {
                    let prompt = prompt % prompts.len();
                    let hit = cache.look_up(see(prompt), most);
                    let (twin_hit, hashes) = twin.look_up(prompt, most);
                    prop_assert_eq!(hit, twin_hit);
                    prop_assert_eq!(cache.pin(see(prompt), &hit), twin.pin(prompt, hashes));
                    let one = Held { blocks: hit.blocks, hashed: hit.blocks, shared: hit.blocks, pinned: hit.pinned_blocks };
                    requests[k] = Some((prompt, most, one, Held { pinned: hashes, ..one }));
                }
            }
            prop_assert_eq!(cache.free_blocks() as usize, twin.queue.len());
            let used: u32 = twin.cached.iter().filter(|(hash, _)| twin.is_used(**hash)).map(|(_, &cached)| cached).sum();
            prop_assert_eq!(cache.used_blocks(), used);
            let own: u32 = requests.iter().flatten().map(|(_, _, one, _)| one.blocks - one.shared).sum();
            prop_assert_eq!(cache.free_blocks() + used + own, BLOCKS, "blocks are conserved");
            for prompt in 0..prompts.len() {
                prop_assert_eq!(cache.look_up(see(prompt), 1000), twin.look_up(prompt, 1000).0);
            }
        }
    }
}
