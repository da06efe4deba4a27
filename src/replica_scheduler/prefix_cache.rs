//! Prefix caching on one replica: which KV blocks of prompts are kept, and which free block is overwritten next.
//!
//! The rule is vLLM's (v1, `vllm/v1/core/block_pool.py`, `kv_cache_manager.py`): full blocks are known by the hash of all tokens up to
//! their end; blocks nobody uses stay in one queue in the order they were freed, cached or not, and are taken from its head; a request
//! frees its blocks last one first, so that beginnings live longest; a hit takes blocks out of the queue again.
//!
//! A workload names prompt tokens by *hash blocks* ([`PrefixBlocks`](crate::workload::PrefixBlocks)), in Mooncake's traces of 512 tokens,
//! which equal prompts share from the start. A KV block of a prompt belongs to the hash block that its last token lies in. What is shared
//! is counted by hash block: its KV blocks are in use while any request uses some of them, and are overwritten from the last to the first.
//! With hash blocks as long as KV blocks that is vLLM's rule to the block. Tokens that were generated have no hash, so that nothing is ever
//! found of them.
//!
//! Hash blocks that always come together ([`Run`](crate::workload::Run)) have one entry, which is divided where a request has use for a
//! part of them. Having the same users and lying side by side in the queue, they behave as one.

use super::KvBlocks;
use crate::workload::Prompt;

/// Where an entry points to nowhere.
const NONE: u32 = u32::MAX;
/// In place of users: blocks that cache nothing.
const PLAIN: u32 = u32::MAX;

/// Hash blocks of a run that follow each other and have the same users, or a number of blocks that cache nothing. It is in the queue while
/// it has blocks and no users.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// KV blocks it has: the first ones of its hash blocks.
    blocks: u32,
    /// Requests that use it.
    users: u32,
    /// Neighbours in the queue.
    previous: u32,
    next: u32,
    /// The entry of what follows in the run, and how many KV blocks from this one's first it begins.
    rest: u32,
    length: u32,
}

const EMPTY: Entry = Entry { blocks: 0, users: 0, previous: NONE, next: NONE, rest: NONE, length: u32::MAX };

/// A prompt as a cache of such KV blocks sees it.
#[derive(Debug, Clone, Copy)]
pub struct BlockedPrompt<'a> {
    pub prompt: Prompt<'a>,
    pub kv: &'a KvBlocks,
}

impl BlockedPrompt<'_> {
    /// KV blocks that end in the first so many hash blocks.
    #[inline]
    fn within(&self, hashes: u32) -> u32 {
        self.kv.full_blocks(hashes.saturating_mul(self.prompt.block_tokens))
    }

    /// KV blocks that end in those hash blocks in which the first so many do.
    #[inline]
    fn begun(&self, blocks: u32) -> u32 {
        if blocks == 0 { 0 } else { self.within((blocks * self.kv.block_size_tokens - 1) / self.prompt.block_tokens + 1) }
    }
}

/// What a cache holds of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hit {
    /// KV blocks of use.
    pub blocks: u32,
    /// KV blocks that end in the hash blocks which those are of.
    pub pinned_blocks: u32,
    /// Free blocks that are so no longer once it is taken.
    pub revived: u32,
}

/// An entry that a prompt has use for, and its place among the prompt's KV blocks: the first one's, and that after the last.
#[derive(Debug, Clone, Copy)]
struct Part {
    entry: u32,
    start: u32,
    end: u32,
}

/// The cached prompt blocks of one replica.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    /// The first entry of each run, where it was seen.
    first: Vec<u32>,
    entries: Vec<Entry>,
    /// Entries of no use any more.
    unused: Vec<u32>,
    head: u32,
    tail: u32,
    /// Blocks in the queue.
    free_blocks: u32,
    /// The parts of the prompt at hand.
    parts: Vec<Part>,
}

impl PrefixCache {
    /// A cache of `blocks` free ones that hold nothing.
    pub fn new(blocks: u32) -> Self {
        let mut cache =
            Self { first: Vec::new(), entries: Vec::new(), unused: Vec::new(), head: NONE, tail: NONE, free_blocks: 0, parts: Vec::new() };
        cache.free_plain(blocks);
        cache
    }

    /// The same in the memory of one that is of no use any more.
    pub fn renewed(mut self: Box<Self>, blocks: u32) -> Box<Self> {
        self.first.clear();
        self.entries.clear();
        self.unused.clear();
        (self.head, self.tail, self.free_blocks) = (NONE, NONE, 0);
        self.free_plain(blocks);
        self
    }

    #[inline]
    fn entry(&mut self, index: u32) -> &mut Entry {
        &mut self.entries[index as usize]
    }

    fn add(&mut self, entry: Entry) -> u32 {
        match self.unused.pop() {
            Some(index) => {
                *self.entry(index) = entry;
                index
            }
            None => {
                self.entries.push(entry);
                self.entries.len() as u32 - 1
            }
        }
    }

    fn retire(&mut self, index: u32) {
        *self.entry(index) = EMPTY;
        self.unused.push(index);
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

    /// Blocks of hash blocks in use.
    pub fn used_blocks(&self) -> u32 {
        self.entries.iter().filter(|entry| entry.users > 0 && entry.users != PLAIN).map(|entry| entry.blocks).sum()
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
                let plain = entry.users == PLAIN;
                self.unlink(head);
                if plain {
                    self.retire(head);
                }
            }
        }
    }

    /// Frees blocks that cache nothing.
    pub fn free_plain(&mut self, blocks: u32) {
        if blocks == 0 {
            return;
        }
        if let Some(tail) = self.entries.get_mut(self.tail as usize)
            && tail.users == PLAIN
        {
            tail.blocks += blocks;
            self.free_blocks += blocks;
            return;
        }
        let index = self.add(Entry { blocks, users: PLAIN, ..EMPTY });
        self.push_back(index);
    }

    /// What there is of the first `most` KV blocks of a prompt.
    pub fn look_up(&self, prompt: BlockedPrompt, most: u32) -> Hit {
        let (mut hit, mut start) = (Hit::default(), 0);
        for run in prompt.prompt.runs {
            let run_end = prompt.within(run.end);
            let mut index = self.first.get(run.id as usize).copied().unwrap_or(NONE);
            while start < run_end {
                if start >= most || index == NONE {
                    return hit;
                }
                let entry = &self.entries[index as usize];
                let end = run_end.min(start.saturating_add(entry.length));
                if entry.blocks == 0 {
                    return hit;
                }
                hit.blocks += entry.blocks.min(end.min(most) - start);
                hit.pinned_blocks = if hit.blocks < end { prompt.begun(hit.blocks) } else { end };
                if entry.users == 0 {
                    hit.revived += if hit.pinned_blocks < end { entry.blocks.min(hit.pinned_blocks - start) } else { entry.blocks };
                }
                if hit.blocks < end {
                    return hit;
                }
                (start, index) = (end, entry.rest);
            }
        }
        hit
    }

    /// The first entry of a run that may be seen for the first time.
    #[inline]
    fn seen(&mut self, run: u32) -> u32 {
        let run = run as usize;
        if run >= self.first.len() {
            self.first.resize(run + 1, NONE);
        }
        if self.first[run] == NONE {
            self.first[run] = self.add(EMPTY);
        }
        self.first[run]
    }

    /// Finds the parts of a prompt up to the KV block `until`, where a hash block ends.
    fn find_parts(&mut self, prompt: BlockedPrompt, until: u32) {
        self.parts.clear();
        let mut start = 0;
        for run in prompt.prompt.runs {
            let run_end = prompt.within(run.end);
            if start >= run_end {
                continue; // shorter than a KV block, and none ends in it
            }
            if start >= until {
                break;
            }
            let mut entry = self.seen(run.id);
            while start < run_end.min(until) {
                let mut end = run_end.min(start.saturating_add(self.entry(entry).length));
                if until < end {
                    self.divide(entry, until - start);
                    end = until;
                }
                self.parts.push(Part { entry, start, end });
                (start, entry) = (end, self.entry(entry).rest);
            }
        }
    }

    /// Gives what comes after so many KV blocks of an entry one of its own.
    fn divide(&mut self, index: u32, length: u32) {
        let whole = *self.entry(index);
        let blocks = whole.blocks.min(length);
        let left = if whole.rest == NONE { u32::MAX } else { whole.length - length };
        let rest = self.add(Entry { blocks: whole.blocks - blocks, length: left, next: index, ..whole });
        let entry = self.entry(index);
        (entry.blocks, entry.length, entry.rest) = (blocks, length, rest);
        if whole.users == 0 && whole.blocks > blocks {
            // The end is overwritten first.
            entry.previous = rest;
            match whole.previous {
                NONE => self.head = rest,
                previous => self.entry(previous).next = rest,
            }
        }
    }

    /// Makes one of neighbouring parts in use that have the same users and no gap between them.
    fn join_parts(&mut self) {
        let mut index = self.parts.first().map_or(NONE, |part| part.entry);
        for place in 1..self.parts.len() {
            let next = self.parts[place].entry;
            let (entry, rest) = (*self.entry(index), *self.entry(next));
            if entry.rest != next || entry.users != rest.users || entry.blocks < entry.length {
                index = next;
                continue;
            }
            let joined = self.entry(index);
            joined.blocks += rest.blocks;
            joined.length = joined.length.saturating_add(rest.length);
            joined.rest = rest.rest;
            self.retire(next);
        }
    }

    /// One more request uses what was found of a prompt; returns how many blocks are no longer free. ([`Hit::revived`] may be more where a
    /// prompt repeats itself.)
    pub fn pin(&mut self, prompt: BlockedPrompt, hit: &Hit) -> u32 {
        self.find_parts(prompt, hit.pinned_blocks);
        let before = self.free_blocks;
        for place in 0..self.parts.len() {
            let index = self.parts[place].entry;
            let entry = self.entry(index);
            entry.users += 1;
            if entry.users == 1 && entry.blocks > 0 {
                let blocks = entry.blocks;
                self.free_blocks -= blocks;
                self.unlink(index);
            }
        }
        self.join_parts();
        before - self.free_blocks
    }

    /// A request that uses the hash blocks of the first `pinned_blocks` of its prompt has computed it up to `full_blocks`, from
    /// `before_blocks`, and uses the hash blocks they are of as well. Returns how many of the blocks are shared now, the others being
    /// copies that the request keeps to itself, how far it has computed what has hashes, and how many blocks end in the hash blocks it
    /// uses.
    pub fn share(&mut self, prompt: BlockedPrompt, pinned_blocks: u32, before_blocks: u32, full_blocks: u32) -> (u32, u32, u32) {
        self.find_parts(prompt, pinned_blocks.max(prompt.begun(full_blocks)));
        let (mut shared, mut done, mut pinned) = (0, before_blocks, pinned_blocks);
        for place in 0..self.parts.len() {
            let Part { entry: index, start, end } = self.parts[place];
            if end <= done || start >= full_blocks {
                continue;
            }
            let entry = self.entry(index);
            if start >= pinned {
                // Whoever else computed it at the same time keeps a copy of his own; a free copy is forgotten.
                entry.users += 1;
                if entry.users == 1 && entry.blocks > 0 {
                    let copy = std::mem::take(&mut entry.blocks);
                    self.free_blocks -= copy;
                    self.unlink(index);
                    self.free_plain(copy);
                }
                pinned = end;
            }
            done = full_blocks.min(end);
            let entry = self.entry(index);
            let new = (done - start).saturating_sub(entry.blocks);
            entry.blocks += new;
            shared += new;
        }
        self.join_parts();
        (shared, done, pinned)
    }

    /// One request less uses the hash blocks of the first so many KV blocks of its prompt; returns how many blocks are free now.
    pub fn unpin(&mut self, prompt: BlockedPrompt, pinned_blocks: u32) -> u32 {
        self.find_parts(prompt, pinned_blocks);
        let before = self.free_blocks;
        while let Some(Part { entry: index, .. }) = self.parts.pop() {
            let entry = self.entry(index);
            entry.users -= 1;
            if entry.users == 0 && entry.blocks > 0 {
                self.push_back(index);
            }
        }
        self.free_blocks - before
    }
}

#[cfg(test)]
mod tests;
