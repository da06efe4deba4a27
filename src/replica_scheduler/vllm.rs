//! vLLM before its rewrite: prefills first and apart from decodes, paged KV cache, preemption of the latest by recomputation.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/vllm_replica_scheduler.py`, after Kwon et al., SOSP 2023. As there, a
//! decode step wants one free block even when it needs none.

use super::settings::check_shared_cap;
use super::{Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Requests, SchedulerSettings};
use crate::settings::Faults;

scheduler_settings! {
    /// vLLM before its rewrite (0.2 to 0.5), as the reference has it.
    pub struct VllmSettings(block_size_tokens = 16) {
        /// Most tokens of a prefill batch, counted as requests times the longest of them.
        max_tokens_in_batch: u32 = 4096,
    }
}

impl SchedulerSettings for VllmSettings {
    fn common(&self) -> Common {
        self.common_settings()
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        check_shared_cap(self.batch_size_cap, pipeline_parallel, faults);
        faults.at_least("max_tokens_in_batch", self.max_tokens_in_batch.into(), 1);
    }

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(Vllm::new(self, replica.pipeline_parallel))
    }
}

#[derive(Debug, Clone)]
pub struct Vllm {
    batch_size_cap: u32,
    max_tokens_in_batch: u32,
    /// Requests in one batch: the cap shared by the pipeline's stages.
    micro_batch_size: u32,
}

impl Vllm {
    pub fn new(settings: &VllmSettings, pipeline_parallel: u32) -> Self {
        Self {
            batch_size_cap: settings.batch_size_cap,
            max_tokens_in_batch: settings.max_tokens_in_batch,
            micro_batch_size: settings.batch_size_cap / pipeline_parallel,
        }
    }

    /// Whether memory and the cap let a request in now that needs `blocks` for its prompt.
    #[inline]
    fn admits(&self, replica: &ReplicaState, blocks: u32) -> bool {
        replica.allocated < self.batch_size_cap && blocks + replica.kv.watermark <= replica.kv.free
    }

    fn form_prefill_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let mut longest = 0;
        while let Some(&slot) = replica.queue.front() {
            let request = &mut requests[slot];
            let tokens = request.prefill_tokens;
            if !self.fits_empty(&replica.kv, tokens, request.decode_tokens) {
                replica.queue.pop_front();
                replica.rejected.push(slot);
                continue;
            }
            longest = longest.max(tokens);
            let blocks = replica.kv.blocks_for(tokens);
            if batch.len() == self.micro_batch_size
                || (batch.len() + 1) * longest > self.max_tokens_in_batch
                || !self.admits(replica, blocks)
            {
                break;
            }
            replica.allocate(request, blocks);
            replica.queue.pop_front();
            batch.add_prefill(slot, request, tokens);
        }
    }

    fn form_decode_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        replica.sort_waiting(requests);
        let mut next = 0;
        while next < replica.waiting.len() && batch.len() < self.micro_batch_size {
            let slot = replica.waiting[next];
            next += 1;
            if replica.ensure_block(requests, slot, next) {
                let request = &mut requests[slot];
                replica.grow(request);
                batch.add_decode(slot, request);
            }
        }
        replica.waiting.drain(..next.min(replica.waiting.len()));
    }
}

impl ReplicaScheduler for Vllm {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.form_prefill_batch(replica, requests, batch);
        if batch.is_empty() {
            self.form_decode_batch(replica, requests, batch);
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        prefill_tokens <= self.max_tokens_in_batch && kv.fits_empty(prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        replica.queue.front().is_some_and(|&head| {
            let request = &requests[head];
            self.admits(replica, replica.kv.blocks_for(request.prefill_tokens))
                || !self.fits_empty(&replica.kv, request.prefill_tokens, request.decode_tokens)
        })
    }
}
