//! vLLM before its rewrite: prefills first and apart from decodes, paged KV cache, preemption of the latest
//! by recomputation.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/vllm_replica_scheduler.py`, after Kwon et al.,
//! SOSP 2023. As there, a decode step wants one free block even when it needs none.

use super::settings::check_shared_cap;
use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Requests, SchedulerSettings,
};
use crate::hardware::BatchShape;
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

    #[inline(always)]
    fn form_prefill_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let (mut longest, mut shape) = (0, BatchShape::default());
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
            shape.add_prefill(tokens, request.processed_tokens);
            batch.entries.push((slot, tokens));
        }
        batch.shape = shape;
    }

    /// A batch without new prompts.
    #[inline(never)]
    fn form_other_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.form_decode_batch(replica, requests, batch);
        if batch.is_empty() && replica.allocated == 0 {
            // Whoever was alone and preempted itself starts over; the reference leaves it until another
            // request arrives.
            self.form_prefill_batch(replica, requests, batch);
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
    #[inline]
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.form_prefill_batch(replica, requests, batch);
        if batch.is_empty() {
            self.form_other_batch(replica, requests, batch);
        }
    }

    #[inline]
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

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;

    #[test]
    fn prefills_come_first_and_apart() {
        let mut bench = Bench::new(r#"{"vllm": {"num_blocks": 100, "max_tokens_in_batch": 30}}"#);
        bench.arrive(10, 3);
        bench.arrive(4, 2);
        bench.arrive(12, 1);
        // Two times 10 tokens, the longest, make 20; three times 12 would make 36.
        assert_eq!(bench.step(), [(0, 10), (1, 4)]);
        assert_eq!(bench.step(), [(2, 12)]);
        assert_eq!(bench.step(), [(0, 1), (1, 1)]);
        assert_eq!(bench.step(), [(0, 1)]);
        assert!(bench.is_empty());
    }

    /// Two of ten blocks stay free: the second prompt would leave one.
    #[test]
    fn admission_leaves_the_watermark_free() {
        let mut bench = Bench::new(
            r#"{"vllm": {"num_blocks": 10, "block_size_tokens": 4, "watermark_blocks_fraction": 0.2}}"#,
        );
        bench.arrive(16, 1);
        bench.arrive(20, 1);
        assert_eq!(bench.step(), [(0, 16)]);
        assert_eq!(bench.step(), [(1, 20)]);
        assert!(bench.is_empty());
    }

    #[test]
    fn the_latest_is_preempted_and_recomputed() {
        let mut bench = Bench::new(
            r#"{"vllm": {"num_blocks": 4, "block_size_tokens": 4, "watermark_blocks_fraction": 0}}"#,
        );
        bench.arrive(4, 8);
        let later = bench.arrive(8, 6);
        assert_eq!(bench.step(), [(0, 4), (1, 8)]);
        // The first one's fifth token takes the last block.
        assert_eq!(bench.step(), [(0, 1)]);
        let request = &bench.requests[later];
        assert_eq!((request.restarts, request.prefill_tokens, request.decode_tokens), (1, 9, 5));
        assert_eq!(bench.drain().concat().iter().filter(|&&entry| entry == (1, 9)).count(), 1);
        assert!(bench.is_empty());
    }

    #[test]
    fn who_is_alone_and_preempts_itself_starts_over_at_once() {
        let mut bench = Bench::new(
            r#"{"vllm": {"num_blocks": 3, "block_size_tokens": 4, "watermark_blocks_fraction": 0}}"#,
        );
        bench.arrive(8, 5);
        // A decode wants a free block even if it needs none: from the tenth token on there is none.
        assert_eq!(bench.drain(), [[(0, 8)], [(0, 1)], [(0, 10)], [(0, 11)], [(0, 12)]]);
        assert!(bench.is_empty());
    }

    #[test]
    fn what_outgrew_a_prefill_batch_is_rejected() {
        let mut bench = Bench::new(
            r#"{"vllm": {"num_blocks": 3, "block_size_tokens": 4, "watermark_blocks_fraction": 0, "max_tokens_in_batch": 9}}"#,
        );
        assert!(
            bench.fits_empty(9, 1) && !bench.fits_empty(10, 1),
            "no prefill batch takes more than 9 tokens"
        );
        assert!(bench.fits_empty(8, 5) && !bench.fits_empty(8, 6), "12 tokens are cached at most");
        let slot = bench.arrive(8, 5);
        assert_eq!(bench.drain(), [[(0, 8)], [(0, 1)]]);
        assert_eq!(bench.replica.rejected, [slot]);
        assert!(bench.is_empty());
    }
}
