//! vLLM's scheduler since version 1: no phases, only tokens still to be computed, under one budget a step.
//!
//! Source: vLLM 0.15 `vllm/v1/core/sched/scheduler.py` and `async_scheduler.py`. Running requests come first, in the order they were
//! admitted: each gets a token if it decodes, or as much of its prompt as the budget still holds. Blocks are given as tokens need them;
//! if none is free, the request admitted last is preempted and will be computed again. Then, unless something was preempted, waiting
//! requests are admitted, first come first served. With `prefix_caching` the cached beginning of a prompt is not computed again
//! ([`PrefixCache`]), except for its last token, which has to yield the next one.
//!
//! With `async_scheduling` (vLLM's default since 0.14) a step is put together while the step before it still runs. CPU work hides behind
//! the GPU's, but a request that arrives during a step misses the following one too, and places of requests that finish are given away a
//! step later: time to first token is two and a half steps and not one and a half. A step of a replica that has run dry waits for nobody.
//!
//! Unlike there, generated tokens are never found in the cache (a trace does not say what they are), and with pipelining requests are
//! kept in order of arrival.

use super::prefix_cache::{BlockedPrompt, Hit, PrefixCache};
use super::settings::check_shared_cap;
use super::{Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Request, Requests, SchedulerSettings, Slot};
use crate::settings::Faults;

scheduler_settings! {
    /// vLLM's scheduler since version 1. `batch_size_cap` is its `max_num_seqs`.
    pub struct VllmV1Settings(block_size_tokens = 16) {
        /// Tokens of a batch, prefills and decodes together: vLLM's `max_num_batched_tokens`.
        max_tokens_in_batch: u32 = 8192,
        /// Whether beginnings of prompts that are still cached are computed again. Matters where a workload says which prompts begin alike.
        prefix_caching: bool = true,
        /// Whether a step is scheduled while the one before it runs.
        async_scheduling: bool = true,
    }
}

impl SchedulerSettings for VllmV1Settings {
    fn common(&self) -> Common {
        Common { watermark_blocks_fraction: 0.0, ..self.common_settings() }
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        check_shared_cap(self.batch_size_cap, pipeline_parallel, faults);
        faults.at_least("max_tokens_in_batch", self.max_tokens_in_batch.into(), 1);
    }

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(VllmV1 {
            batch_size_cap: self.batch_size_cap,
            micro_batch_size: self.batch_size_cap / replica.pipeline_parallel,
            pipelined: replica.pipeline_parallel > 1,
            max_tokens_in_batch: self.max_tokens_in_batch,
            prefix_caching: self.prefix_caching,
            async_scheduling: self.async_scheduling,
        })
    }

    fn chunks_prefills(&self) -> bool {
        true
    }

    fn caches_prefixes(&self) -> bool {
        self.prefix_caching
    }
}

#[derive(Debug, Clone)]
pub struct VllmV1 {
    batch_size_cap: u32,
    /// Requests in one batch: the cap shared by the pipeline's stages.
    micro_batch_size: u32,
    pipelined: bool,
    max_tokens_in_batch: u32,
    prefix_caching: bool,
    async_scheduling: bool,
}

/// Leading full blocks of a prompt that may be shared: no generated token among them.
fn full_blocks(request: &Request, kv: &KvBlocks) -> u32 {
    kv.full_blocks(request.original_prefill_tokens)
}

/// Makes the cache's queue follow the blocks that were taken since it was last looked at.
fn settle<'a>(cache: &'a mut Option<Box<PrefixCache>>, kv: &KvBlocks) -> Option<&'a mut PrefixCache> {
    let cache = cache.as_deref_mut()?;
    cache.take(cache.free_blocks() - kv.free);
    Some(cache)
}

/// Shares the full blocks of a prompt of which `computed` tokens are, or will be with the batch being formed.
fn share(replica: &mut ReplicaState, requests: &mut Requests, slot: Slot, computed: u32) {
    let Some(cache) = settle(&mut replica.cache, &replica.kv) else { return };
    let (request, Some(prompts)) = requests.with_prompts(slot) else { return };
    let kv = &replica.kv;
    let full = full_blocks(request, kv).min(kv.full_blocks(computed));
    if request.hashed_blocks >= full {
        return;
    }
    let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv };
    let (shared, hashed, pinned) = cache.share(prompt, request.pinned_blocks, request.hashed_blocks, full);
    request.shared_blocks += shared;
    (request.hashed_blocks, request.pinned_blocks) = (hashed, pinned);
}

/// Takes a request out of memory, the end of its prompt first in line to be overwritten.
fn free(replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) {
    settle(&mut replica.cache, &replica.kv);
    let (request, prompts) = requests.with_prompts(slot);
    let Some((cache, prompts)) = replica.cache.as_deref_mut().zip(prompts) else { return replica.free(request) };
    let own = request.blocks - request.shared_blocks;
    cache.free_plain(own);
    let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv: &replica.kv };
    let shared = cache.unpin(prompt, request.pinned_blocks);
    replica.kv.free += own + shared;
    request.leave_memory();
    replica.allocated -= 1;
}

/// Lets the only request in memory keep what it holds to itself. Of hash blocks it shares, others may have left more in use than it has
/// use for.
fn unshare(replica: &mut ReplicaState, request: &mut Request) {
    if replica.cache.is_some() {
        (request.shared_blocks, request.pinned_blocks, request.hashed_blocks) = (0, 0, u32::MAX);
        replica.kv.free = replica.kv.total - request.blocks;
        replica.start_cache();
    }
}

impl VllmV1 {
    /// What the cache holds of a waiting request.
    fn hit(&self, replica: &ReplicaState, requests: &Requests, slot: Slot) -> Hit {
        let (Some(cache), Some(prompts)) = (&replica.cache, requests.prompts()) else { return Hit::default() };
        let (request, kv) = (&requests[slot], &replica.kv);
        // The last token is always computed: it yields the next one.
        let most = full_blocks(request, kv).min(kv.full_blocks(request.prefill_tokens - 1));
        let hit = cache.look_up(BlockedPrompt { prompt: prompts.of(request.id), kv }, most);
        // Of a hash block more may be in use than this request has use for. One that needs the whole memory has none to spare.
        let needed = kv.blocks_for(request.total_tokens()) - hit.blocks + hit.revived;
        if replica.allocated == 0 && needed > kv.total { Hit::default() } else { hit }
    }

    /// Tokens of a waiting request to be computed at once, and the blocks it then has, if there are as many.
    fn admission(&self, replica: &ReplicaState, request: &Request, hit: Hit, room: u32) -> Option<(u32, u32)> {
        let cached = hit.blocks * replica.kv.block_size_tokens;
        let tokens = (request.prefill_tokens - cached).min(room);
        let blocks = replica.kv.blocks_for(cached + tokens);
        (tokens > 0 && blocks - hit.blocks + hit.revived <= replica.kv.free).then_some((tokens, blocks))
    }

    fn preempt(&self, replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) {
        free(replica, requests, slot);
        requests[slot].restart();
        replica.queue.push_front(slot);
    }

    /// Goes on with the requests in memory; whether it had to preempt any.
    fn go_on(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) -> bool {
        let (mut next, mut preempted) = (0, false);
        while next < replica.waiting.len() && batch.len() < self.micro_batch_size {
            let slot = replica.waiting[next];
            let request = &requests[slot];
            let room = u64::from(self.max_tokens_in_batch) - batch.shape.total_tokens;
            let left = if request.prefill_complete { 1 } else { request.prefill_tokens - request.processed_tokens };
            let tokens = left.min(room as u32);
            if tokens == 0 {
                break;
            }
            let cached = if request.prefill_complete { request.processed_tokens } else { request.processed_tokens + tokens };
            let more = replica.kv.blocks_for(cached).saturating_sub(request.blocks);
            while replica.kv.free < more && replica.waiting.len() > next {
                preempted = true;
                if replica.allocated == 1 {
                    unshare(replica, &mut requests[slot]);
                    break;
                }
                if replica.waiting.len() == next + 1 && replica.allocated as usize > replica.waiting.len() {
                    // Requests in other stages will come back; if they are later than this one they have to go then.
                    break;
                }
                let victim = replica.waiting.pop().expect("more than `next` are there");
                self.preempt(replica, requests, victim);
            }
            if replica.kv.free < more || replica.waiting.len() <= next {
                break;
            }
            next += 1;
            let request = &mut requests[slot];
            request.blocks += more;
            replica.kv.free -= more;
            if request.prefill_complete {
                batch.add_decode(slot, request);
            } else {
                batch.add_prefill(slot, request, tokens);
                share(replica, requests, slot, cached);
            }
        }
        replica.waiting.drain(..next);
        preempted
    }

    /// Whether a request was there when this batch was scheduled: with asynchronous scheduling, when the batch before it started.
    fn is_seen(&self, replica: &ReplicaState, request: &Request, busy: bool) -> bool {
        !(self.async_scheduling && busy) || request.arrived_at_s <= replica.batch_started_at_s
    }

    fn admit(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch, busy: bool) {
        if self.prefix_caching && replica.cache.is_none() && requests.prompts().is_some() {
            replica.start_cache();
        }
        let left = if self.async_scheduling && busy { replica.just_left } else { 0 };
        while let Some(&slot) = replica.queue.front() {
            let has_place = batch.len() < self.micro_batch_size && replica.allocated + left < self.batch_size_cap;
            let room = (u64::from(self.max_tokens_in_batch) - batch.shape.total_tokens) as u32;
            if !has_place || room == 0 || !self.is_seen(replica, &requests[slot], busy) {
                break;
            }
            settle(&mut replica.cache, &replica.kv);
            let hit = self.hit(replica, requests, slot);
            let Some((tokens, blocks)) = self.admission(replica, &requests[slot], hit, room) else { break };
            replica.queue.pop_front();
            if let (Some(cache), (request, Some(prompts))) = (replica.cache.as_deref_mut(), requests.with_prompts(slot)) {
                let prompt = BlockedPrompt { prompt: prompts.of(request.id), kv: &replica.kv };
                replica.kv.free -= cache.pin(prompt, &hit);
            }
            let request = &mut requests[slot];
            (request.pinned_blocks, request.hashed_blocks, request.shared_blocks) = (hit.pinned_blocks, hit.blocks, hit.blocks);
            request.processed_tokens = hit.blocks * replica.kv.block_size_tokens;
            if request.restarts == 0 {
                request.cached_tokens = request.processed_tokens;
            }
            replica.allocate(request, blocks - hit.blocks);
            request.blocks = blocks;
            let computed = request.processed_tokens + tokens;
            batch.add_prefill(slot, request, tokens);
            share(replica, requests, slot, computed);
        }
    }
}

impl ReplicaScheduler for VllmV1 {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let busy = replica.allocated > 0;
        if !self.go_on(replica, requests, batch) {
            self.admit(replica, requests, batch, busy);
        }
        // Whoever asks what would be admitted must find what is left.
        settle(&mut replica.cache, &replica.kv);
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        replica.just_left = 0;
        let left_out = replica.waiting.len();
        for &(slot, _) in &batch.entries {
            if requests[slot].is_completed() {
                free(replica, requests, slot);
                requests.release(slot);
                replica.just_left += 1;
            } else {
                replica.waiting.push(slot);
            }
        }
        if self.pipelined {
            replica.waiting.sort_by_key(|&slot| requests[slot].id);
        } else {
            // Those the budget had no token for come after those it had.
            replica.waiting.rotate_left(left_out);
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        kv.fits_empty(prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        replica.queue.front().is_some_and(|&head| {
            let room = self.max_tokens_in_batch.saturating_sub(replica.allocated);
            replica.allocated < self.batch_size_cap
                && self.admission(replica, &requests[head], self.hit(replica, requests, head), room).is_some()
        })
    }
}

#[cfg(test)]
mod tests;
