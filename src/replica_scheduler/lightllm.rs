//! LightLLM: blocks of one token; a prefill batch is admitted if all requests together will fit until each of them has finished.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/lightllm_replica_scheduler.py`. While requests are in memory, prefills are
//! only considered every `max_waiting_iters` decode iterations. Since admission looks ahead to the peak of memory, a decode always finds
//! its block: where the reference would raise an error for want of one, there is nothing to handle.

use super::{Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Request, Requests, SchedulerSettings, Slot};
use crate::settings::Faults;

scheduler_settings! {
    /// LightLLM: token-level memory, admission by the peak it will reach. One pipeline stage only.
    pub struct LightllmSettings(block_size_tokens = 1) {
        /// Most tokens of a prefill batch.
        max_tokens_in_batch: u32 = 4096,
        /// Decode iterations after which prefills are considered again.
        max_waiting_iters: u32 = 10,
    }
}

impl SchedulerSettings for LightllmSettings {
    fn common(&self) -> Common {
        self.common_settings()
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        let block_size = self.block_size_tokens;
        faults.require(block_size == 1, "block_size_tokens", || format!("{block_size} found, expected 1: LightLLM counts single tokens"));
        faults.require(pipeline_parallel == 1, "", || {
            format!("LightLLM works on one pipeline stage only, but `pipeline_parallel` is {pipeline_parallel}; set it to 1")
        });
        faults.at_least("max_tokens_in_batch", self.max_tokens_in_batch.into(), 1);
    }

    fn build(&self, _replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(Lightllm::new(self))
    }
}

#[derive(Debug, Clone)]
pub struct Lightllm {
    batch_size_cap: u32,
    max_tokens_in_batch: u32,
    max_waiting_iters: u32,
}

/// What a request holds after its next decode, and how often it decodes after that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Future {
    tokens: u32,
    remaining: u32,
}

impl Future {
    fn running(request: &Request) -> Self {
        Self { tokens: request.processed_tokens, remaining: (request.total_tokens() - request.processed_tokens).saturating_sub(1) }
    }

    fn admitted(prefill_tokens: u32, decode_tokens: u32) -> Self {
        Self { tokens: prefill_tokens + 1, remaining: decode_tokens.saturating_sub(2) }
    }
}

/// Most tokens that requests will hold at once if they decode in step, in order of falling `remaining`.
fn peak_tokens(futures: &[Future]) -> u64 {
    let (mut held, mut peak) = (0, 0);
    for (future, running) in futures.iter().zip(1..) {
        held += u64::from(future.tokens);
        peak = peak.max(held + u64::from(future.remaining) * running);
    }
    peak
}

impl Lightllm {
    pub fn new(settings: &LightllmSettings) -> Self {
        Self {
            batch_size_cap: settings.batch_size_cap,
            max_tokens_in_batch: settings.max_tokens_in_batch,
            max_waiting_iters: settings.max_waiting_iters,
        }
    }

    fn form_prefill_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        if replica.queue.is_empty() || replica.allocated == self.batch_size_cap {
            return;
        }
        let mut futures: Vec<Future> = replica.waiting.iter().map(|&slot| Future::running(&requests[slot])).collect();
        futures.sort_by_key(|future| std::cmp::Reverse(future.remaining));
        while let Some(&slot) = replica.queue.front() {
            let request = &mut requests[slot];
            let tokens = request.prefill_tokens;
            if replica.allocated == self.batch_size_cap || batch.shape.total_tokens + u64::from(tokens) > self.max_tokens_in_batch.into() {
                break;
            }
            let future = Future::admitted(tokens, request.decode_tokens);
            let place = futures.partition_point(|other| other.remaining >= future.remaining);
            futures.insert(place, future);
            if peak_tokens(&futures) >= replica.kv.total.into() {
                break;
            }
            replica.allocate(request, tokens);
            replica.queue.pop_front();
            batch.add_prefill(slot, request, tokens);
        }
    }

    fn form_decode_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        replica.decodes_in_a_row += 1;
        let mut waiting: Vec<Slot> = std::mem::take(&mut replica.waiting);
        for slot in waiting.drain(..) {
            let request = &mut requests[slot];
            replica.grow(request);
            batch.add_decode(slot, request);
        }
        replica.waiting = waiting;
    }
}

impl ReplicaScheduler for Lightllm {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        if replica.waiting.is_empty() || replica.decodes_in_a_row >= self.max_waiting_iters {
            replica.decodes_in_a_row = 0;
            self.form_prefill_batch(replica, requests, batch);
        }
        if batch.is_empty() && !replica.waiting.is_empty() {
            self.form_decode_batch(replica, requests, batch);
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        let alone = Future::admitted(prefill_tokens, decode_tokens);
        prefill_tokens <= self.max_tokens_in_batch && peak_tokens(&[alone]) < kv.total.into()
    }

    fn would_admit(&self, replica: &ReplicaState, _requests: &Requests) -> bool {
        !replica.queue.is_empty() && replica.allocated < self.batch_size_cap
    }

    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        if self.would_admit(replica, requests) { self.max_waiting_iters.saturating_sub(replica.decodes_in_a_row) } else { u32::MAX }
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        // Counts from 1 to the maximum, then from 1 again.
        let cycle = u64::from(self.max_waiting_iters.max(1));
        replica.decodes_in_a_row = ((u64::from(replica.decodes_in_a_row) - 1 + u64::from(repeats)) % cycle + 1) as u32;
    }
}
