//! What a replica scheduler works on: queue, waiting list, KV blocks, the batch being formed.

use std::any::Any;

use super::{Queue, Request, Requests, Slot, VllmV1State};
use crate::hardware::BatchShape;

/// The KV cache of one replica, counted in blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvBlocks {
    pub block_size_tokens: u32,
    block_size_log2: Option<u8>,
    pub total: u32,
    pub free: u32,
    /// Blocks that admission of a new request leaves free.
    pub watermark: u32,
    /// Tokens after a block that have to be the same, too, where it is found by what is in it.
    pub hash_lookahead_tokens: u32,
    /// Longest prompt that could be admitted with the whole cache free.
    longest_prompt_tokens: u32,
    total_tokens: u64,
}

impl KvBlocks {
    pub fn new(total: u32, block_size_tokens: u32, watermark_fraction: f64) -> Self {
        let watermark = (watermark_fraction * f64::from(total)) as u32;
        Self {
            block_size_tokens,
            block_size_log2: block_size_tokens
                .is_power_of_two()
                .then_some(block_size_tokens.trailing_zeros() as u8),
            total,
            free: total,
            watermark,
            hash_lookahead_tokens: 0,
            longest_prompt_tokens: (total - watermark).saturating_mul(block_size_tokens),
            total_tokens: u64::from(total) * u64::from(block_size_tokens),
        }
    }

    #[inline]
    pub fn blocks_for(&self, tokens: u32) -> u32 {
        // Nearly all block sizes are powers of two, and a division is slow.
        match self.block_size_log2 {
            Some(log2) => (tokens + (self.block_size_tokens - 1)) >> log2,
            None => tokens.div_ceil(self.block_size_tokens),
        }
    }

    /// Blocks that are full with so many tokens.
    #[inline]
    pub fn full_blocks(&self, tokens: u32) -> u32 {
        match self.block_size_log2 {
            Some(log2) => tokens >> log2,
            None => tokens / self.block_size_tokens,
        }
    }

    /// Whether a prompt could ever be admitted above the watermark, with the whole cache free, and its last
    /// decode find room.
    #[inline]
    pub fn fits_empty(&self, prefill_tokens: u32, decode_tokens: u32) -> bool {
        let last_cached = u64::from(prefill_tokens) + u64::from(decode_tokens) - 1;
        prefill_tokens <= self.longest_prompt_tokens && last_cached <= self.total_tokens
    }
}

/// One replica as its scheduler sees it.
#[derive(Debug)]
pub struct ReplicaState {
    /// Requests not yet in memory, in the order they are admitted.
    pub queue: Queue,
    /// Requests in memory that are in no batch at the moment.
    pub waiting: Vec<Slot>,
    /// Number of requests in memory.
    pub allocated: u32,
    pub kv: KvBlocks,
    /// Decode batches since a prefill was last considered, for schedulers that ration prefills.
    pub decodes_in_a_row: u32,
    /// Requests that turned out never to fit; the engine takes them away.
    pub rejected: Vec<Slot>,
    /// When the batch that ended last was started.
    pub batch_started_at_s: f64,
    /// Requests, by their numbers, that were preempted in the step that a scheduler put together before it
    /// knew that they had finished; the engine counts them.
    pub preempted_when_finished: Vec<u32>,
    /// What only `vllm_v1` keeps.
    pub vllm_v1: Option<Box<VllmV1State>>,
    /// What its scheduler keeps to itself.
    pub own: Option<Box<dyn Any + Send>>,
}

impl ReplicaState {
    pub fn new(kv: KvBlocks) -> Self {
        Self {
            queue: Queue::default(),
            waiting: Vec::new(),
            allocated: 0,
            kv,
            decodes_in_a_row: 0,
            rejected: Vec::new(),
            batch_started_at_s: 0.0,
            preempted_when_finished: Vec::new(),
            vllm_v1: None,
            own: None,
        }
    }

    /// Makes a used state as good as new, keeping its buffers.
    pub fn reset(&mut self) {
        self.queue.clear();
        self.waiting.clear();
        self.allocated = 0;
        self.kv.free = self.kv.total;
        self.decodes_in_a_row = 0;
        self.rejected.clear();
        self.preempted_when_finished.clear();
        if let Some(own) = &mut self.vllm_v1 {
            own.reset();
        }
        self.own = None;
    }

    /// Requests routed here and not finished.
    #[inline]
    pub fn outstanding(&self) -> u32 {
        self.queue.len() as u32 + self.allocated
    }

    /// Brings a request into memory.
    #[inline]
    pub fn allocate(&mut self, request: &mut Request, blocks: u32) {
        request.blocks = blocks;
        self.kv.free -= blocks;
        self.allocated += 1;
    }

    /// Takes a request out of memory.
    #[inline]
    pub fn free(&mut self, request: &mut Request) {
        self.kv.free += request.blocks;
        request.blocks = 0;
        self.allocated -= 1;
    }

    /// Preempts a request: its cache is lost and it goes back to the front of the queue.
    pub fn preempt(&mut self, requests: &mut Requests, slot: Slot) {
        let request = &mut requests[slot];
        request.restart();
        self.free(request);
        self.queue.push_front(slot);
    }

    /// Preempts the last of `waiting[from..]` until a block is free; if none is left to preempt, `slot`
    /// itself. False if it had to go.
    pub fn ensure_block(&mut self, requests: &mut Requests, slot: Slot, from: usize) -> bool {
        while self.kv.free < 1 {
            if self.waiting.len() > from {
                let victim = self.waiting.pop().expect("more than `from` wait");
                self.preempt(requests, victim);
            } else {
                self.preempt(requests, slot);
                return false;
            }
        }
        true
    }

    /// Gives one more block to a decoding request whose tokens outgrew its blocks.
    #[inline]
    pub fn grow(&mut self, request: &mut Request) {
        if request.processed_tokens > request.blocks * self.kv.block_size_tokens {
            request.blocks += 1;
            self.kv.free -= 1;
        }
    }

    /// Frees the finished requests of a batch and lets the others wait, in batch order.
    #[inline]
    pub fn end_batch(&mut self, requests: &mut Requests, batch: &Batch) {
        for &(slot, _) in &batch.entries {
            let request = &mut requests[slot];
            if request.is_completed() {
                self.free(request);
                requests.release(slot);
            } else {
                self.waiting.push(slot);
            }
        }
    }

    /// Sorts the waiting list by arrival; equal arrivals keep their order.
    pub fn sort_waiting(&mut self, requests: &Requests) {
        self.waiting.sort_by(|&a, &b| requests[a].arrived_at_s.total_cmp(&requests[b].arrived_at_s));
    }
}

/// Requests worked on together, with the tokens each contributes.
#[derive(Debug, Clone, Default)]
pub struct Batch {
    pub entries: Vec<(Slot, u32)>,
    pub shape: BatchShape,
    /// By what share of its time a batch takes longer than its shape tells.
    pub slower_by: f64,
    /// And by what time, for what it has to get first.
    pub waits_s: f64,
}

impl Batch {
    #[inline]
    pub fn add_prefill(&mut self, slot: Slot, request: &Request, tokens: u32) {
        self.shape.add_prefill(tokens, request.processed_tokens);
        self.entries.push((slot, tokens));
    }

    #[inline]
    pub fn add_decode(&mut self, slot: Slot, request: &Request) {
        self.shape.add_decode(request.processed_tokens);
        self.entries.push((slot, 1));
    }

    /// A decode step that verifies so many drafted tokens and yields `tokens`.
    pub fn add_drafted_decode(&mut self, slot: Slot, request: &Request, drafts: u32, tokens: u32) {
        self.shape.add_decode(request.processed_tokens);
        self.shape.add_drafts(drafts);
        self.entries.push((slot, tokens));
    }

    #[inline]
    pub fn len(&self) -> u32 {
        self.entries.len() as u32
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    pub fn clear(&mut self) {
        self.entries.clear();
        self.shape = BatchShape::default();
        self.slower_by = 0.0;
        self.waits_s = 0.0;
    }
}
