//! Prefix caching on one replica: which KV blocks are kept after use, and which free block is overwritten
//! next.
//!
//! The rule is vLLM's (v1, `vllm/v1/core/block_pool.py`, `kv_cache_manager.py`), to the block: full blocks
//! are known by the hash of all tokens up to their end; free blocks stay in one queue and are taken from its
//! head; a request frees its blocks last one first, hashed ones to the back of the queue, so that beginnings
//! live longest, and those without a hash to its front (before 0.23 to the back as well); a hit takes blocks
//! out of the queue again. Whoever computes a block that is cached already keeps a copy of its own, which is
//! cached too: the copy that was cached first is the one that is found.
//!
//! A workload names prompt tokens by *hash blocks* ([`PrefixBlocks`](crate::workload::PrefixBlocks)), in
//! Mooncake's traces of 512 tokens, which equal prompts share from the start. A KV block of a prompt is known
//! by the hash block that its last token lies in. What has no name, the rest of the prompt and all generated
//! tokens, is like nothing else: only its own request, if it was preempted, finds it again.
//!
//! Blocks that follow each other, have the same users and lie side by side in the queue behave as one. They
//! have one entry, which is divided where a request has use for a part of it; hash blocks that always come
//! together ([`Run`](crate::workload::Run)) start as one.

use super::KvBlocks;
use crate::workload::Prompt;

/// Where an entry points to nowhere.
const NONE: u32 = u32::MAX;
/// In place of users: free blocks that nobody will ever find.
const PLAIN: u32 = u32::MAX;
/// In place of users: free blocks that only a preempted request can find.
const OWN: u32 = u32::MAX - 1;

/// Blocks of a run that follow each other and have the same users, or a number of blocks that nobody shares.
/// It is in the queue while it has blocks and no users.
#[derive(Debug, Clone, Copy)]
struct Entry {
    /// KV blocks it has: the first ones of its part of the run. Those in use are all there.
    blocks: u32,
    /// Requests that use it.
    users: u32,
    /// Neighbours in the queue.
    previous: u32,
    next: u32,
    /// The entry of what follows in the run, and how many KV blocks from this one's first it begins.
    rest: u32,
    length: u32,
    /// The copy of the same blocks that was cached next, and, of copies, the entry whose copy this is.
    copy: u32,
    of: u32,
    /// The admission of the request that made a copy where there was one already.
    maker: u32,
}

const EMPTY: Entry = Entry {
    blocks: 0,
    users: 0,
    previous: NONE,
    next: NONE,
    rest: NONE,
    length: u32::MAX,
    copy: NONE,
    of: NONE,
    maker: NONE,
};

/// What a request holds of a cache, or has left in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Held {
    /// Leading KV blocks that others can find.
    pub named_blocks: u32,
    /// Number of its admission, in order.
    pub admission: u32,
    /// The entry of blocks that only this request, preempted, can find.
    own: u32,
}

impl Default for Held {
    fn default() -> Self {
        Self { named_blocks: 0, admission: 0, own: NONE }
    }
}

/// A prompt as a cache of such KV blocks sees it.
#[derive(Debug, Clone, Copy)]
pub struct BlockedPrompt<'a> {
    pub prompt: Prompt<'a>,
    pub kv: &'a KvBlocks,
}

impl BlockedPrompt<'_> {
    /// KV blocks that are known by the first so many hash blocks: those that end in them, with what has to
    /// follow.
    #[inline]
    pub fn within(&self, hashes: u32) -> u32 {
        self.kv.full_blocks(
            hashes.saturating_mul(self.prompt.block_tokens).saturating_sub(self.kv.hash_lookahead_tokens),
        )
    }

    /// KV blocks that have a name.
    #[inline]
    pub fn named(&self) -> u32 {
        self.prompt.runs.last().map_or(0, |run| self.within(run.end))
    }
}

/// What a cache holds of a prompt.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Hit {
    /// KV blocks.
    pub blocks: u32,
    /// Those of them that are free, and no longer so once the hit is taken.
    pub revived: u32,
}

/// An entry that a prompt has use for, and its place among the prompt's KV blocks: the first one's, and that
/// after the last.
#[derive(Debug, Clone, Copy)]
struct Part {
    entry: u32,
    start: u32,
    end: u32,
}

/// The cached blocks of one replica.
#[derive(Debug, Clone)]
pub struct PrefixCache {
    /// The first entry of each run, where it was seen.
    first: Vec<u32>,
    entries: Vec<Entry>,
    /// Entries of no use any more.
    unused: Vec<u32>,
    head: u32,
    tail: u32,
    /// Free blocks at the front of the queue that nobody will ever find.
    front_blocks: u32,
    /// All blocks in the queue.
    free_blocks: u32,
    /// Whether freed blocks without a hash go to the front.
    unhashed_first: bool,
    /// The parts of the prompt at hand.
    parts: Vec<Part>,
}

impl PrefixCache {
    /// A cache of `blocks` free ones that hold nothing.
    pub fn new(blocks: u32, unhashed_first: bool) -> Self {
        Self {
            first: Vec::new(),
            entries: Vec::new(),
            unused: Vec::new(),
            head: NONE,
            tail: NONE,
            front_blocks: blocks,
            free_blocks: blocks,
            unhashed_first,
            parts: Vec::new(),
        }
    }

    /// Forgets everything, keeping its memory.
    pub fn renew(&mut self, blocks: u32, unhashed_first: bool) {
        self.first.clear();
        self.entries.clear();
        self.unused.clear();
        (self.head, self.tail, self.front_blocks, self.free_blocks) = (NONE, NONE, blocks, blocks);
        self.unhashed_first = unhashed_first;
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
        self.link(previous, next);
    }

    /// Makes two entries neighbours in the queue.
    fn link(&mut self, previous: u32, next: u32) {
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

    /// Named blocks in use, each counted once.
    pub fn used_blocks(&self) -> u32 {
        self.entries
            .iter()
            .filter(|entry| entry.users > 0 && entry.users < OWN)
            .map(|entry| entry.blocks)
            .sum()
    }

    /// Lets `blocks` of the free ones be overwritten, from the head of the queue.
    #[inline]
    pub fn take(&mut self, blocks: u32) {
        debug_assert!(blocks <= self.free_blocks);
        self.free_blocks -= blocks;
        let front = blocks.min(self.front_blocks);
        self.front_blocks -= front;
        if blocks > front {
            self.overwrite(blocks - front);
        }
    }

    fn overwrite(&mut self, mut blocks: u32) {
        while blocks > 0 {
            let head = self.head;
            let entry = self.entry(head);
            let taken = blocks.min(entry.blocks);
            entry.blocks -= taken;
            blocks -= taken;
            if entry.blocks > 0 {
                continue;
            }
            let Entry { users, copy, of, .. } = *entry;
            self.unlink(head);
            if users == PLAIN {
                self.retire(head);
            } else if of != NONE {
                self.remove_copy(of, head);
            } else if copy != NONE {
                self.promote_copy(head, copy);
            }
        }
    }

    fn remove_copy(&mut self, of: u32, copy: u32) {
        let mut before = of;
        while self.entry(before).copy != copy {
            before = self.entry(before).copy;
        }
        self.entry(before).copy = self.entry(copy).copy;
        self.retire(copy);
    }

    /// Puts the next copy in the place of an entry whose blocks are gone.
    fn promote_copy(&mut self, index: u32, copy: u32) {
        let Entry { blocks, users, previous, next, copy: after, maker, .. } = *self.entry(copy);
        let entry = self.entry(index);
        *entry = Entry { blocks, users, previous, next, copy: after, maker, ..*entry };
        if users == 0 && blocks > 0 {
            self.link(previous, index);
            self.link(index, next);
        }
        self.retire(copy);
    }

    /// Frees blocks without a hash.
    #[inline]
    pub fn free_unhashed(&mut self, blocks: u32) {
        if self.unhashed_first || self.head == NONE {
            self.front_blocks += blocks;
            self.free_blocks += blocks;
        } else {
            self.free_unfindable(blocks);
        }
    }

    /// Frees blocks with a hash that nobody will ever ask for.
    pub fn free_unfindable(&mut self, blocks: u32) {
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

    /// Frees blocks of a preempted request that only it will ask for.
    pub fn free_own(&mut self, held: &mut Held, blocks: u32) {
        debug_assert!(held.own == NONE);
        if blocks > 0 {
            held.own = self.add(Entry { blocks, users: OWN, ..EMPTY });
            self.push_back(held.own);
        }
    }

    /// Blocks that [`Self::free_own`] left and nobody has overwritten.
    pub fn own_blocks(&self, held: &Held) -> u32 {
        self.entries.get(held.own as usize).map_or(0, |entry| entry.blocks)
    }

    /// Takes the first of those again, and leaves the others to be overwritten.
    pub fn take_own(&mut self, held: &mut Held, blocks: u32) {
        if held.own == NONE {
            return;
        }
        let index = std::mem::replace(&mut held.own, NONE);
        self.free_blocks -= blocks;
        let entry = self.entry(index);
        let was_free = entry.blocks > 0;
        entry.blocks -= blocks;
        entry.users = PLAIN;
        if entry.blocks == 0 {
            if was_free {
                self.unlink(index);
            }
            self.retire(index);
        }
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
                let found = if entry.copy == NONE {
                    let found = entry.blocks.min(end.min(most) - start);
                    hit.revived += if entry.users == 0 { found } else { 0 };
                    found
                } else {
                    self.look_up_copies(index, end.min(most) - start, &mut hit.revived)
                };
                hit.blocks += found;
                if hit.blocks < end {
                    return hit;
                }
                (start, index) = (end, entry.rest);
            }
        }
        hit
    }

    /// What there is of the first `most` blocks of an entry with copies: of each block the copy cached first.
    fn look_up_copies(&self, index: u32, most: u32, revived: &mut u32) -> u32 {
        let (mut found, mut index) = (0, index);
        while index != NONE && found < most {
            let Entry { blocks, users, copy, .. } = self.entries[index as usize];
            if blocks > found {
                let more = blocks.min(most) - found;
                *revived += if users == 0 { more } else { 0 };
                found += more;
            }
            index = copy;
        }
        found
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

    /// Finds the parts of a prompt up to the KV block `until`, dividing the last one there.
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
        let Entry { rest, length: whole, .. } = *self.entry(index);
        let left = if rest == NONE { u32::MAX } else { whole - length };
        let mut first = NONE;
        let (mut copy, mut last) = (index, NONE);
        while copy != NONE {
            let next = self.entry(copy).copy;
            if self.entry(copy).blocks > length {
                let end = self.cut(copy, length);
                self.entry(end).of = first;
                match last {
                    NONE => first = end,
                    last => self.entry(last).copy = end,
                }
                last = end;
            }
            copy = next;
        }
        if first == NONE {
            first = self.add(EMPTY);
        }
        let end = self.entry(first);
        (end.rest, end.length) = (rest, left);
        let entry = self.entry(index);
        (entry.rest, entry.length) = (first, length);
    }

    /// Cuts the blocks of one copy in two; returns those after the first `blocks`.
    fn cut(&mut self, index: u32, blocks: u32) -> u32 {
        let whole = *self.entry(index);
        let end =
            self.add(Entry { blocks: whole.blocks - blocks, next: index, copy: NONE, of: NONE, ..whole });
        let entry = self.entry(index);
        entry.blocks = blocks;
        if whole.users == 0 {
            // The end is overwritten first.
            entry.previous = end;
            match whole.previous {
                NONE => self.head = end,
                previous => self.entry(previous).next = end,
            }
        }
        end
    }

    /// Makes one of neighbouring parts in use that have the same users and no copies.
    fn join_parts(&mut self) {
        let mut index = self.parts.first().map_or(NONE, |part| part.entry);
        for place in 1..self.parts.len() {
            let next = self.parts[place].entry;
            let (entry, rest) = (*self.entry(index), *self.entry(next));
            let alike = entry.rest == next
                && entry.users == rest.users
                && entry.users > 0
                && entry.maker == rest.maker;
            if !alike || entry.copy != NONE || rest.copy != NONE {
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

    /// One more request uses the first `blocks` KV blocks of a prompt, which were found; returns how many are
    /// no longer free.
    pub fn pin(&mut self, prompt: BlockedPrompt, blocks: u32) -> u32 {
        let before = self.free_blocks;
        self.find_parts(prompt, blocks);
        let mut place = 0;
        while let Some(&Part { entry: index, start, end }) = self.parts.get(place) {
            place += 1;
            if self.entry(index).copy != NONE && self.entry(index).blocks < end - start {
                // The end of the first copy is gone: there it is another one that was found.
                let first = self.entry(index).blocks;
                self.divide(index, first);
                self.parts[place - 1].end = start + first;
                let rest = self.entry(index).rest;
                self.parts.insert(place, Part { entry: rest, start: start + first, end });
            }
            let entry = self.entry(index);
            entry.users += 1;
            if entry.users == 1 {
                let blocks = entry.blocks;
                self.free_blocks -= blocks;
                self.unlink(index);
            }
        }
        self.join_parts();
        before - self.free_blocks
    }

    /// A request has computed KV blocks `from..until` of its prompt, all that come before being in use by it
    /// already.
    pub fn share(&mut self, prompt: BlockedPrompt, from: u32, until: u32, admission: u32) {
        self.find_parts(prompt, until);
        let mut place = 0;
        while let Some(&Part { entry: index, start, end }) = self.parts.get(place) {
            place += 1;
            if start < from {
                continue;
            }
            let (length, entry) = (end - start, self.entry(index));
            if entry.blocks == 0 {
                (entry.blocks, entry.users, entry.maker) = (length, 1, NONE);
                continue;
            }
            let (mut last, mut cached) = (index, 0);
            loop {
                let Entry { blocks, copy, .. } = *self.entry(last);
                cached = blocks.max(cached);
                if copy == NONE {
                    break;
                }
                last = copy;
            }
            if cached < length {
                self.divide(index, cached);
                self.parts[place - 1].end = start + cached;
                let rest = self.entry(index).rest;
                self.parts.insert(place, Part { entry: rest, start: start + cached, end });
            }
            let copy = self.add(Entry {
                blocks: cached.min(length),
                users: 1,
                of: index,
                maker: admission,
                ..EMPTY
            });
            self.entry(last).copy = copy;
        }
        self.join_parts();
    }

    /// The request of this admission no longer uses the first `blocks` KV blocks of its prompt; returns how
    /// many blocks are free now.
    pub fn unpin(&mut self, prompt: BlockedPrompt, blocks: u32, admission: u32) -> u32 {
        self.find_parts(prompt, blocks);
        let before = self.free_blocks;
        while let Some(Part { entry: first, .. }) = self.parts.pop() {
            let mut index = first;
            // It holds the copy it made, or else the first, which cannot have gone while somebody holds it.
            while self.entry(index).maker != admission && self.entry(index).copy != NONE {
                index = self.entry(index).copy;
            }
            if self.entry(index).maker != admission {
                index = first;
            }
            let entry = self.entry(index);
            entry.users -= 1;
            if entry.users == 0 {
                self.push_back(index);
            }
        }
        self.free_blocks - before
    }
}

#[cfg(test)]
mod tests;
