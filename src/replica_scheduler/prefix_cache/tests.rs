//! The cache beside its slow twin: vLLM's block pool, one block at a time.

use std::collections::{BTreeMap, VecDeque};

use proptest::prelude::*;

use super::*;
use crate::workload::PrefixBlocks;

const BLOCKS: u32 = 40;

/// What a full block is known by: all hash blocks it is of and its number, or the request and admission that
/// alone can find it.
type Hash = (Vec<u64>, u32, Option<u32>);

#[derive(Default)]
struct Pool {
    /// Users and hash of each block.
    blocks: Vec<(u32, Option<Hash>)>,
    queue: VecDeque<usize>,
    cached: BTreeMap<Hash, Vec<usize>>,
    unhashed_first: bool,
}

impl Pool {
    fn new(unhashed_first: bool) -> Self {
        let blocks = vec![(0, None); BLOCKS as usize];
        Self { blocks, queue: (0..BLOCKS as usize).collect(), unhashed_first, ..Self::default() }
    }

    fn find(&self, hashes: &[Hash]) -> Vec<usize> {
        hashes
            .iter()
            .map_while(|hash| self.cached.get(hash).and_then(|copies| copies.first().copied()))
            .collect()
    }

    fn num_free(&self, found: &[usize]) -> u32 {
        found.iter().filter(|&&block| self.blocks[block].0 == 0).count() as u32
    }

    fn touch(&mut self, found: &[usize]) {
        for &block in found {
            self.queue.retain(|&free| free != block);
            self.blocks[block].0 += 1;
        }
    }

    fn take(&mut self, number: u32) -> Vec<usize> {
        let taken: Vec<usize> = self.queue.drain(..number as usize).collect();
        for &block in &taken {
            if let Some(hash) = self.blocks[block].1.take() {
                let copies = self.cached.get_mut(&hash).unwrap();
                copies.retain(|&copy| copy != block);
                if copies.is_empty() {
                    self.cached.remove(&hash);
                }
            }
            self.blocks[block].0 = 1;
        }
        taken
    }

    fn name(&mut self, block: usize, hash: Hash) {
        self.blocks[block].1 = Some(hash.clone());
        self.cached.entry(hash).or_default().push(block);
    }

    fn free(&mut self, blocks: &[usize]) {
        let (mut first, mut last) = (Vec::new(), Vec::new());
        for &block in blocks.iter().rev() {
            let (users, hash) = &mut self.blocks[block];
            *users -= 1;
            if *users == 0 {
                if hash.is_none() && self.unhashed_first { first.push(block) } else { last.push(block) }
            }
        }
        first.into_iter().rev().for_each(|block| self.queue.push_front(block));
        self.queue.extend(last);
    }
}

/// A request and what it holds in the one and in the other.
#[derive(Clone, Default)]
struct Requester {
    prompt: usize,
    is_in: bool,
    held: Held,
    blocks: Vec<usize>,
    /// Blocks of its own that it can find when it comes back.
    own: Vec<Hash>,
}

/// Prompts that branch from one another, of 3 to 4 hash blocks at a time; in some the hash blocks come
/// anywhere.
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
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_single_blocks(
        prompts in prompts(),
        (block_size, hash_tokens) in prop::sample::select(vec![(1_u32, 1_u32), (4, 4), (4, 12), (4, 6), (4, 3), (3, 7)]),
        unhashed_first: bool,
        steps in prop::collection::vec((0..6_usize, 0..30_usize, 0..9_u32, 0..30_u32, 0..4_u32), 1..150),
    ) {
        let kv = KvBlocks::new(BLOCKS, block_size, 0.0);
        let mut prefix = PrefixBlocks::new(hash_tokens);
        prompts.iter().for_each(|ids| prefix.push(ids, 1000));
        let runs = prefix.runs().clone();
        let see = |prompt: usize| BlockedPrompt { prompt: runs.of(prompt as u32), kv: &kv };
        let hashes = |prompt: usize| -> Vec<Hash> {
            let hash = |block: u32| {
                let ends_in = ((block + 1) * block_size - 1) / hash_tokens;
                (prompts[prompt][..=ends_in as usize].to_vec(), block, None)
            };
            (0..see(prompt).named()).map(hash).collect()
        };
        let (mut cache, mut pool) = (PrefixCache::new(BLOCKS, unhashed_first), Pool::new(unhashed_first));
        let mut admissions = 0;
        let mut requests = vec![Requester::default(); 6];
        for (k, prompt, more, most, unhashed) in steps {
            let mut one = std::mem::take(&mut requests[k]);
            let named = one.held.named_blocks;
            if one.is_in && more == 0 {
                let own = one.blocks.len() as u32 - named;
                let had = one.blocks[named as usize..].iter().filter(|&&block| pool.blocks[block].1.is_some()).count() as u32;
                let hashed = own.saturating_sub(unhashed).max(had);
                // Its own blocks have hashes once they are full, and follow those with names.
                let returns = most % 2 == 0 && named == see(one.prompt).named();
                let hashed = if named == see(one.prompt).named() { hashed } else { 0 };
                one.own = (0..hashed).map(|place| (Vec::new(), place, Some(one.held.admission))).collect();
                for (hash, block) in one.own.iter().zip(one.blocks[named as usize..].to_vec()) {
                    if pool.blocks[block].1.is_none() {
                        pool.name(block, hash.clone());
                    }
                }
                one.own = one.blocks[named as usize..][..hashed as usize].iter().map(|&block| pool.blocks[block].1.clone().unwrap()).collect();
                cache.free_unhashed(own - hashed);
                if returns { cache.free_own(&mut one.held, hashed) } else { cache.free_unfindable(hashed) }
                let (before, queued) = (cache.free_blocks(), pool.queue.len() as u32);
                let freed = cache.unpin(see(one.prompt), named, one.held.admission);
                pool.free(&one.blocks);
                prop_assert_eq!((freed, own + freed), (cache.free_blocks() - before, pool.queue.len() as u32 - queued));
                one.held.named_blocks = 0;
                one.blocks.clear();
                one.is_in = false;
                if !returns {
                    one = Requester::default();
                }
            } else if one.is_in {
                let more = more.min(cache.free_blocks());
                cache.take(more);
                one.blocks.extend(pool.take(more));
                let until = (one.blocks.len() as u32).min(most).min(see(one.prompt).named());
                if named < until {
                    cache.share(see(one.prompt), named, until, one.held.admission);
                    one.held.named_blocks = until;
                    for (block, hash) in one.blocks.iter().zip(hashes(one.prompt)).take(until as usize).skip(named as usize) {
                        pool.name(*block, hash);
                    }
                }
            } else {
                let returns = !one.own.is_empty();
                one.prompt = if returns { one.prompt } else { prompt % prompts.len() };
                let all = see(one.prompt).named();
                let most = if returns { 1000 } else { most };
                let hit = cache.look_up(see(one.prompt), most.min(all));
                let mut known = hashes(one.prompt);
                known.truncate(most as usize);
                let own = if hit.blocks == all { cache.own_blocks(&one.held) } else { 0 };
                known.append(&mut one.own);
                let found = pool.find(&known);
                let revived = pool.num_free(&found);
                prop_assert_eq!((hit.blocks + own, hit.revived + own), (found.len() as u32, revived));
                pool.touch(&found);
                admissions += 1;
                one.held.admission = admissions;
                cache.take_own(&mut one.held, own);
                prop_assert_eq!(cache.pin(see(one.prompt), hit.blocks) + own, revived);
                one.held.named_blocks = hit.blocks;
                one.blocks = found;
                one.is_in = true;
            }
            requests[k] = one;
            prop_assert_eq!(cache.free_blocks() as usize, pool.queue.len());
            let used: u32 = requests.iter().map(|one| one.blocks.len() as u32 - one.held.named_blocks).sum();
            prop_assert_eq!(cache.free_blocks() + cache.used_blocks() + used, BLOCKS, "blocks are conserved");
            for prompt in 0..prompts.len() {
                let found = pool.find(&hashes(prompt));
                let hit = Hit { blocks: found.len() as u32, revived: pool.num_free(&found) };
                prop_assert_eq!(cache.look_up(see(prompt), 1000), hit);
            }
        }
    }
}
