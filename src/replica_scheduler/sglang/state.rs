//! What SGLang's scheduler keeps of one replica, and of each request there.

use super::Rules;
use super::tokens::{Reader, Span};
use super::tree::{NodeId, RadixTree};
use crate::replica_scheduler::{KvBlocks, Request, Slot};
use crate::workload::Prompt;

/// A request as the scheduler knows it: with steps that overlap, its tokens are known a step later than they
/// are there.
#[derive(Debug, Default)]
pub struct Known {
    pub spans: Vec<Span>,
    pub prompt_tokens: u32,
    pub output_tokens: u32,
    /// The most it may generate: what it asked for, cut to what the cache has room for.
    pub max_new_tokens: u32,
    pub ignore_eos: bool,
    pub priority: i32,
    /// When it came to wait, among all that did.
    pub entered: u64,
    /// Tokens it is known to have generated.
    pub generated: u32,
    /// Tokens in the cache before the chunk at hand, and with it.
    pub prefix_tokens: u32,
    pub end: u32,
    /// Tokens in the cache, those of the step under way included.
    pub cached_tokens: u32,
    /// Of those, the ones that the tree has.
    pub in_tree: u32,
    pub node: Option<NodeId>,
    /// Matched tokens, when policies last looked.
    pub matched_tokens: u32,
    /// Steps under way that do not end its prompt.
    pub chunks_under_way: u32,
    pub in_memory: bool,
    /// It was taken out of memory, so that what the step under way yields is lost.
    pub retracted: bool,
    /// It has left; the step under way computes a token more in vain.
    pub has_left: bool,
}

impl Known {
    /// Prompt and known output.
    pub fn tokens(&self) -> u32 {
        self.prompt_tokens + self.generated
    }

    pub fn reader(&self, tokens: u32) -> Reader<'_> {
        Reader::new(&self.spans, tokens)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Prefill,
    Decode,
    /// A prefill with the running requests' next tokens.
    Mixed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    pub slot: Slot,
    /// Tokens in the cache before.
    pub before: u32,
    pub tokens: u32,
    pub decodes: bool,
}

/// A batch as it was put together.
#[derive(Debug)]
pub struct Launch {
    pub kind: Kind,
    pub rows: Vec<Row>,
    /// The request of which only a chunk is among them.
    pub chunked: Option<Slot>,
}

#[derive(Debug)]
pub struct State {
    pub tree: RadixTree,
    /// Tokens of the cache that hold nothing, in whole pages.
    pub free_tokens: u32,
    pub kv_tokens: u32,
    pub page_tokens: u32,
    pub max_running_requests: u32,
    /// By slot.
    pub known: Vec<Known>,
    /// Requests that decode, in the order they got there.
    pub running: Vec<Slot>,
    /// The request whose prompt is being computed in chunks.
    pub chunked: Option<Slot>,
    /// Requests with a place, of which there are `max_running_requests`.
    pub in_memory: u32,
    /// No prefill is tried until somebody leaves.
    pub full: bool,
    /// Somebody left since the last look.
    pub somebody_left: bool,
    /// Share of what a running request may still generate for which room is kept.
    pub reserved_share: f64,
    /// Nothing was left to do when the last batch ended: iterations passed that ran nothing.
    pub ran_dry: bool,
    /// Iterations that only decode, still to come.
    pub decodes_due: u32,
    /// Passes of admission with somebody waiting.
    pub passes: u64,
    /// Times a request has come to wait.
    pub entered: u64,
    /// Of the queue, the requests that arrived in time to be seen.
    pub seen: usize,
    /// The batch of the iteration before.
    pub last: Option<Launch>,
    /// What the next iteration runs, put together ahead.
    pub ahead: Option<Option<Launch>>,
    /// Requests retracted in this iteration.
    pub retracted: Vec<Slot>,
    /// Requests that do not fit even alone, to be given up.
    pub aborted: Vec<Slot>,
}

impl State {
    pub fn new(rules: &Rules, kv: &KvBlocks) -> Self {
        let kv_tokens = kv.total * kv.block_size_tokens;
        Self {
            tree: RadixTree::new(kv.block_size_tokens),
            free_tokens: kv_tokens,
            kv_tokens,
            page_tokens: kv.block_size_tokens,
            max_running_requests: rules.max_running_requests(kv_tokens),
            known: Vec::new(),
            running: Vec::new(),
            chunked: None,
            in_memory: 0,
            full: false,
            somebody_left: false,
            reserved_share: rules.initial_share,
            ran_dry: false,
            decodes_due: 0,
            passes: 0,
            entered: 0,
            seen: 0,
            last: None,
            ahead: None,
            retracted: Vec::new(),
            aborted: Vec::new(),
        }
    }

    /// Takes note of a request that is seen for the first time.
    pub fn meet(&mut self, slot: Slot, request: &Request, prompt: Option<Prompt>) {
        let index = slot.0 as usize;
        self.entered += 1;
        if index >= self.known.len() {
            self.known.resize_with(index + 1, Known::default);
        }
        let prompt_tokens = request.original_prefill_tokens;
        self.known[index] = Known {
            spans: super::tokens::tokens_of(request, prompt),
            prompt_tokens,
            output_tokens: request.output_tokens(),
            max_new_tokens: request.max_new_tokens.min(most_new_tokens(
                self.kv_tokens,
                self.page_tokens,
                prompt_tokens,
            )),
            ignore_eos: request.ignore_eos,
            priority: request.priority,
            entered: self.entered,
            // Not 0 for one that another replica was lost with.
            generated: request.prefill_tokens - prompt_tokens,
            ..Known::default()
        };
    }

    pub fn of(&self, slot: Slot) -> &Known {
        &self.known[slot.0 as usize]
    }

    pub fn of_mut(&mut self, slot: Slot) -> &mut Known {
        &mut self.known[slot.0 as usize]
    }

    /// Tokens of the pages that so many tokens need.
    pub fn paged(&self, tokens: u32) -> u32 {
        tokens.next_multiple_of(self.page_tokens)
    }

    pub fn whole_pages(&self, tokens: u32) -> u32 {
        tokens - tokens % self.page_tokens
    }

    /// Tokens that are free or can be made so.
    pub fn available_tokens(&self) -> u32 {
        self.free_tokens + self.tree.evictable_tokens()
    }

    /// Evicts until so many tokens are free, if it can.
    pub fn make_room(&mut self, tokens: u32) {
        if tokens > self.free_tokens {
            self.free_tokens += self.tree.evict(tokens - self.free_tokens);
        }
    }

    /// Gives a request room for `tokens` in the cache.
    pub fn extend(&mut self, slot: Slot, tokens: u32) {
        let more = self.paged(tokens) - self.paged(self.of(slot).cached_tokens);
        self.free_tokens -= more;
        self.of_mut(slot).cached_tokens = tokens;
    }

    /// Puts what was computed of a request into the tree, and holds on to it there. Copies of what the tree
    /// has already are freed.
    pub fn put_into_tree(&mut self, slot: Slot, tokens: u32, caching: bool) {
        let index = slot.0 as usize;
        self.known[index].prefix_tokens = tokens;
        let (pages, prompt_pages) =
            (self.whole_pages(tokens), self.whole_pages(self.known[index].prompt_tokens));
        if !caching || pages == 0 {
            return;
        }
        let known = &mut self.known[index];
        let (found, node) = self.tree.insert(known.reader(pages));
        self.free_tokens += found.saturating_sub(known.in_tree);
        if 0 < prompt_pages && prompt_pages < pages {
            // Parted where the prompt ends, so that what was generated may go first.
            self.tree.insert(known.reader(prompt_pages));
        }
        let before = known.node.replace(node);
        known.in_tree = pages;
        if let Some(before) = before {
            self.tree.unlock(before);
        }
        self.tree.lock(node);
    }

    /// Takes a request out of memory. What the tree has of it stays there until it is evicted.
    pub fn free(&mut self, slot: Slot) {
        let known = self.of(slot);
        let own = self.paged(known.cached_tokens) - known.in_tree;
        self.free_tokens += own;
        let known = self.of_mut(slot);
        let node = known.node.take();
        known.in_memory = false;
        (known.in_tree, known.cached_tokens, known.prefix_tokens) = (0, 0, 0);
        if let Some(node) = node {
            self.tree.unlock(node);
        }
        self.in_memory -= 1;
    }

    /// What a running request may still generate, as far as room is kept for it.
    pub fn reserved(&self, slot: Slot) -> f64 {
        let known = self.of(slot);
        let left = known.max_new_tokens.saturating_sub(known.generated).min(super::CLIPPED_NEW_TOKENS);
        f64::from(left) * if known.ignore_eos { 1.0 } else { self.reserved_share }
    }

    /// Whether nothing runs, is seen to wait, or is under way.
    pub fn is_idle(&self) -> bool {
        let under_way = [&self.last, self.ahead.as_ref().unwrap_or(&None)]
            .into_iter()
            .flatten()
            .any(|launch| !launch.rows.is_empty());
        self.seen == 0 && self.running.is_empty() && self.chunked.is_none() && !under_way
    }

    /// So many further decode batches of the same requests as the last.
    pub fn skip_decodes(&mut self, rules: &Rules, repeats: u32) {
        if repeats == 0 {
            return;
        }
        let (page_tokens, mut before_last, mut more) = (self.page_tokens, 0, 0);
        for &slot in &self.running {
            let known = &mut self.known[slot.0 as usize];
            let before = known.cached_tokens.next_multiple_of(page_tokens);
            known.cached_tokens += repeats;
            known.generated += repeats;
            before_last += (known.cached_tokens - 1).next_multiple_of(page_tokens) - before;
            more += known.cached_tokens.next_multiple_of(page_tokens) - before;
        }
        // Each of them asked for a page for every request; none asked for more, all in all, than the last.
        self.make_room(before_last + self.running.len() as u32 * page_tokens);
        self.free_tokens -= more;
        self.decodes_due = self.decodes_due.saturating_sub(repeats);
        for _ in 0..repeats {
            if self.reserved_share == rules.least_share {
                break;
            }
            self.reserved_share = (self.reserved_share - rules.share_decay).max(rules.least_share);
        }
    }
}

/// The most tokens a request may generate behind a prompt in a cache of so many tokens.
pub fn most_new_tokens(kv_tokens: u32, page_tokens: u32, prompt_tokens: u32) -> u32 {
    kv_tokens.saturating_sub(prompt_tokens.next_multiple_of(page_tokens) + page_tokens + 1)
}
