//! Prefix caching on one replica: which KV blocks of prompts are kept, and which free block is overwritten next.
//!
//! The rule is vLLM's (v1, `vllm/v1/core/block_pool.py`, `kv_cache_manager.py`): full blocks are known by the hash of all tokens up to
//! their end; blocks nobody uses stay in one queue in the order they were freed, cached or not, and are taken from its head; a request
//! frees its blocks last one first, so that beginnings live longest; a hit takes blocks out of the queue again.
//!
//! A workload names prompt tokens by *hash blocks* ([`Prompts`]), in Mooncake's traces of 512 tokens, which equal prompts share from the
//! start. A KV block of a prompt belongs to the hash block that its last token lies in. What is shared is counted by hash block: its KV
//! blocks are in use while any request uses some of them, and are overwritten from the last to the first. With hash blocks as long as KV
//! blocks that is vLLM's rule to the block. Tokens that were generated have no hash, so that nothing is ever found of them.

use super::KvBlocks;
use crate::workload::PrefixBlocks;

/// Where an entry of the queue points to nowhere.
const NONE: u32 = u32::MAX;
/// Marks entries that are not a hash block's.
const PLAIN: u32 = 1 << 31;

/// A hash block, or a number of blocks that cache nothing.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// KV blocks it has: the first ones of a hash block.
    blocks: u32,
    /// Requests that use it.
    users: u32,
    previous: u32,
    next: u32,
}

/// Hash blocks whose entries are made together. Prompts are mostly runs of numbers.
const PAGE: usize = 32;

const EMPTY: Entry = Entry { blocks: 0, users: 0, previous: NONE, next: NONE };

/// The cached prompt blocks of one replica.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    /// Where the page of so many neighbouring hash blocks is, once one of them was seen. A replica sees few of a workload's.
    pages: Vec<u32>,
    hashed: Vec<[Entry; PAGE]>,
    /// Free blocks that cache nothing, by runs.
    plain: Vec<Entry>,
    unused_plain: Vec<u32>,
    head: u32,
    tail: u32,
    /// Blocks in the queue.
    free_blocks: u32,
}

impl PrefixCache {
    /// A cache of `blocks` free ones that hold nothing.
    pub fn new(blocks: u32) -> Self {
        let mut cache = Self {
            pages: Vec::new(),
            hashed: Vec::new(),
            plain: Vec::new(),
            unused_plain: Vec::new(),
            head: NONE,
            tail: NONE,
            free_blocks: 0,
        };
        cache.free_plain(blocks);
        cache
    }

    /// The same in the memory of one that is of no use any more.
    pub fn renewed(mut self: Box<Self>, blocks: u32) -> Box<Self> {
        self.pages.clear();
        self.hashed.clear();
        self.plain.clear();
        self.unused_plain.clear();
        (self.head, self.tail, self.free_blocks) = (NONE, NONE, 0);
        self.free_plain(blocks);
        self
    }

    #[inline]
    fn entry(&mut self, index: u32) -> &mut Entry {
        if index & PLAIN != 0 {
            return &mut self.plain[(index & !PLAIN) as usize];
        }
        &mut self.hashed[self.pages[index as usize / PAGE] as usize][index as usize % PAGE]
    }

    fn push_back(&mut self, index: u32) {
        let tail = self.tail;
        let entry = self.entry(index);
        (entry.previous, entry.next) = (tail, NONE);
        self.free_blocks += entry.blocks;
        match tail {
            NONE => self.head = index,
            tail => self.entry(tail).next = index,
        }
        self.tail = index;
    }

    fn unlink(&mut self, index: u32) {
        let Entry { previous, next, .. } = *self.entry(index);
        match previous {
            NONE => self.head = next,
            previous => self.entry(previous).next = next,
        }
        match next {
            NONE => self.tail = previous,
            next => self.entry(next).previous = previous,
        }
    }

    /// Free blocks, those that cache something included.
    pub fn free_blocks(&self) -> u32 {
        self.free_blocks
    }

    /// The entry of a hash block that may be seen for the first time.
    #[inline]
    fn seen(&mut self, hash: u32) -> &mut Entry {
        let page = hash as usize / PAGE;
        if page >= self.pages.len() {
            self.pages.resize(page + 1, NONE);
        }
        if self.pages[page] == NONE {
            self.pages[page] = self.hashed.len() as u32;
            self.hashed.push([EMPTY; PAGE]);
        }
        &mut self.hashed[self.pages[page] as usize][hash as usize % PAGE]
    }

    /// KV blocks that a hash block has, and how many of them are free.
    #[inline]
    pub fn look_up(&self, hash: u32) -> (u32, u32) {
        let Some(&page) = self.pages.get(hash as usize / PAGE).filter(|&&page| page != NONE) else { return (0, 0) };
        let entry = &self.hashed[page as usize][hash as usize % PAGE];
        (entry.blocks, if entry.users == 0 { entry.blocks } else { 0 })
    }

    /// Lets `blocks` of the free ones be overwritten, those free for longest first.
    pub fn take(&mut self, mut blocks: u32) {
        debug_assert!(blocks <= self.free_blocks);
        self.free_blocks -= blocks;
        while blocks > 0 {
            let head = self.head;
            let entry = self.entry(head);
            let taken = blocks.min(entry.blocks);
            entry.blocks -= taken;
            blocks -= taken;
            if entry.blocks == 0 {
                self.unlink(head);
                if head & PLAIN != 0 {
                    self.unused_plain.push(head);
                }
            }
        }
    }

    /// Frees blocks that cache nothing.
    pub fn free_plain(&mut self, blocks: u32) {
        if blocks == 0 {
            return;
        }
        if self.tail != NONE && self.tail & PLAIN != 0 {
            let tail = self.tail;
            self.entry(tail).blocks += blocks;
            self.free_blocks += blocks;
            return;
        }
        let index = self.unused_plain.pop().unwrap_or_else(|| {
            self.plain.push(EMPTY);
            (self.plain.len() as u32 - 1) | PLAIN
        });
        *self.entry(index) = Entry { blocks, ..EMPTY };
        self.push_back(index);
    }

    /// One more request uses a hash block; returns how many of its blocks were free.
    pub fn pin(&mut self, hash: u32) -> u32 {
        let entry = self.seen(hash);
        entry.users += 1;
        if entry.users > 1 || entry.blocks == 0 {
            return 0;
        }
        let blocks = entry.blocks;
        self.free_blocks -= blocks;
        self.unlink(hash);
        blocks
    }

    /// One more request uses a hash block whose KV blocks it computes itself. A free copy of them is forgotten.
    pub fn adopt(&mut self, hash: u32) {
        let copy = self.pin(hash);
        if copy > 0 {
            self.entry(hash).blocks = 0;
            self.free_plain(copy);
        }
    }

    /// A hash block in use has its first `blocks` cached; returns how many of them are new.
    #[inline]
    pub fn extend(&mut self, hash: u32, blocks: u32) -> u32 {
        let entry = self.entry(hash);
        let new = blocks.saturating_sub(entry.blocks);
        entry.blocks += new;
        new
    }

    /// One request less uses a hash block; returns how many of its blocks are free now.
    pub fn unpin(&mut self, hash: u32) -> u32 {
        let entry = self.entry(hash);
        entry.users -= 1;
        if entry.users > 0 || entry.blocks == 0 {
            return 0;
        }
        let blocks = entry.blocks;
        self.push_back(hash);
        blocks
    }

    /// Blocks of hash blocks in use.
    pub fn pinned_blocks(&self) -> u32 {
        self.hashed.iter().flatten().filter(|entry| entry.users > 0).map(|entry| entry.blocks).sum()
    }
}

/// The hash blocks of all prompts of a workload, numbered without gaps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Prompts {
    hash_tokens: u32,
    offsets: Vec<usize>,
    ids: Vec<u32>,
}

impl Prompts {
    /// Numbers the ids of a workload. Ids that are (nearly) numbers without gaps already, as in published traces, stay what they are.
    pub fn new(prefix: &PrefixBlocks) -> Self {
        let most = prefix.ids.iter().max().copied().unwrap_or_default();
        let ids = if most <= 4 * prefix.ids.len() as u64 && most < u64::from(PLAIN) {
            prefix.ids.iter().map(|&id| id as u32).collect()
        } else {
            let mut distinct = prefix.ids.clone();
            distinct.sort_unstable();
            distinct.dedup();
            prefix.ids.iter().map(|id| distinct.binary_search(id).expect("every id is among the distinct ones") as u32).collect()
        };
        Self { hash_tokens: prefix.block_tokens, offsets: prefix.offsets.clone(), ids }
    }

    /// Tokens of a hash block.
    pub fn hash_tokens(&self) -> u32 {
        self.hash_tokens
    }

    /// The hash blocks of a request.
    #[inline]
    pub fn of(&self, request: u32) -> &[u32] {
        &self.ids[self.offsets[request as usize]..self.offsets[request as usize + 1]]
    }

    /// KV blocks that end within the first `hashes` hash blocks.
    #[inline]
    pub fn kv_blocks_within(&self, hashes: u32, kv: &KvBlocks) -> u32 {
        kv.full_blocks(hashes.saturating_mul(self.hash_tokens))
    }

    /// Whether a KV block ends in a hash block.
    #[inline]
    pub fn holds_kv_block(&self, hash: u32, kv: &KvBlocks) -> bool {
        self.hash_tokens >= kv.block_size_tokens || self.kv_blocks_within(hash + 1, kv) > self.kv_blocks_within(hash, kv)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, VecDeque};

    use proptest::prelude::*;

    use super::*;

    /// The slow twin: every block by itself.
    #[derive(Default)]
    struct Twin {
        /// Free blocks in the order they will be overwritten: hash and place of those that cache something.
        queue: VecDeque<Option<(u32, u32)>>,
        cached: BTreeMap<u32, u32>,
        users: BTreeMap<u32, u32>,
    }

    impl Twin {
        fn take(&mut self, blocks: u32) {
            for _ in 0..blocks {
                if let Some((hash, place)) = self.queue.pop_front().unwrap() {
                    assert_eq!(self.cached[&hash], place + 1, "overwritten from the last to the first");
                    self.cached.insert(hash, place);
                }
            }
        }

        fn pin(&mut self, hash: u32) -> u32 {
            let before = self.queue.len();
            self.queue.retain(|block| block.is_none_or(|(of, _)| of != hash));
            *self.users.entry(hash).or_default() += 1;
            (before - self.queue.len()) as u32
        }

        fn unpin(&mut self, hash: u32) -> u32 {
            let users = self.users.get_mut(&hash).unwrap();
            *users -= 1;
            let freed = if *users == 0 { self.cached.get(&hash).copied().unwrap_or_default() } else { 0 };
            self.queue.extend((0..freed).rev().map(|place| Some((hash, place))));
            freed
        }
    }

    proptest! {
        #[test]
        fn agrees_with_single_blocks(steps in prop::collection::vec((0..5_u8, 0..6_u32, 0..7_u32), 1..200)) {
            let (mut cache, mut twin) = (PrefixCache::new(20), Twin::default());
            twin.queue.extend((0..20).map(|_| None));
            // Blocks that requests have for themselves.
            let mut own = 0;
            for (step, hash, blocks) in steps {
                let users = twin.users.get(&hash).copied().unwrap_or_default();
                match step {
                    0 => {
                        let blocks = blocks.min(cache.free_blocks());
                        cache.take(blocks);
                        twin.take(blocks);
                        own += blocks;
                    }
                    1 => {
                        let blocks = blocks.min(own);
                        cache.free_plain(blocks);
                        twin.queue.extend((0..blocks).map(|_| None));
                        own -= blocks;
                    }
                    2 => prop_assert_eq!(cache.pin(hash), twin.pin(hash)),
                    3 if users > 0 => prop_assert_eq!(cache.unpin(hash), twin.unpin(hash)),
                    4 if users > 0 => {
                        let cached = twin.cached.entry(hash).or_default();
                        let wanted = blocks.min(*cached + own);
                        let new = wanted.saturating_sub(*cached);
                        prop_assert_eq!(cache.extend(hash, wanted), new);
                        *cached += new;
                        own -= new;
                    }
                    _ => {
                        // Computed by its new user: a free copy counts no longer, others' copies do.
                        let forgotten = if users == 0 { twin.cached.insert(hash, 0).unwrap_or_default() } else { 0 };
                        cache.adopt(hash);
                        twin.pin(hash);
                        twin.queue.extend((0..forgotten).map(|_| None));
                    }
                }
                let used: u32 = twin.cached.iter().filter(|(hash, _)| twin.users.get(hash).is_some_and(|&users| users > 0)).map(|(_, &n)| n).sum();
                prop_assert_eq!(cache.pinned_blocks(), used);
                prop_assert_eq!(cache.free_blocks() as usize, twin.queue.len());
                prop_assert_eq!(cache.free_blocks() + used + own, 20, "blocks are conserved");
                for hash in 0..6 {
                    prop_assert_eq!(cache.look_up(hash).0, twin.cached.get(&hash).copied().unwrap_or_default());
                }
            }
        }
    }
}
