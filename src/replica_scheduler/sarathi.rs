//! Sarathi-Serve: decodes first, then prefills cut into chunks that fill the batch up to a budget of tokens.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/sarathi_replica_scheduler.py`, after Agrawal et
//! al., OSDI 2024. As there, a decode step wants one free block even when it needs none, and a prompt gets
//! all its blocks with its first chunk. Unlike there, a prompt that is preempted half way starts over as the
//! prompt it was (see [`Request::restart`]).

use super::settings::check_shared_cap;
use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Request, Requests,
    SchedulerSettings,
};
use crate::settings::Faults;

scheduler_settings! {
    /// Sarathi-Serve: chunked prefills piggybacked on decodes.
    pub struct SarathiSettings(block_size_tokens = 16) {
        /// Tokens of a batch that prefills may fill up, decodes counted.
        chunk_size_tokens: u32 = 512,
    }
}

impl SchedulerSettings for SarathiSettings {
    fn common(&self) -> Common {
        self.common_settings()
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        check_shared_cap(self.batch_size_cap, pipeline_parallel, faults);
        faults.at_least("chunk_size_tokens", self.chunk_size_tokens.into(), 1);
    }

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(Sarathi::new(self, replica.pipeline_parallel))
    }

    fn chunks_prefills(&self) -> bool {
        true
    }
}

#[derive(Debug, Clone)]
pub struct Sarathi {
    batch_size_cap: u32,
    chunk_size_tokens: u32,
    /// Requests in one batch: the cap shared by the pipeline's stages.
    micro_batch_size: u32,
}

impl Sarathi {
    pub fn new(settings: &SarathiSettings, pipeline_parallel: u32) -> Self {
        Self {
            batch_size_cap: settings.batch_size_cap,
            chunk_size_tokens: settings.chunk_size_tokens,
            micro_batch_size: settings.batch_size_cap / pipeline_parallel,
        }
    }

    /// Whether memory and the cap let the head of the queue in now.
    #[inline]
    fn admits(&self, replica: &ReplicaState, request: &Request) -> bool {
        let kv = &replica.kv;
        replica.allocated < self.batch_size_cap
            && kv.blocks_for(request.prefill_tokens) + kv.watermark <= kv.free
    }

    /// Tokens of a prompt that a batch still has room for.
    #[inline]
    fn chunk(&self, request: &Request, batch: &Batch) -> u32 {
        let room = u64::from(self.chunk_size_tokens).saturating_sub(batch.shape.total_tokens);
        (request.prefill_tokens - request.processed_tokens).min(room as u32)
    }

    /// Takes decodes from the waiting list; what is left there are prefills under way, then those the batch
    /// has no place for.
    fn take_decodes(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) -> usize {
        let (mut next, mut prefills) = (0, 0);
        while next < replica.waiting.len() && batch.len() < self.micro_batch_size {
            let slot = replica.waiting[next];
            next += 1;
            if !requests[slot].prefill_complete {
                replica.waiting[prefills] = slot;
                prefills += 1;
            } else if replica.ensure_block(requests, slot, next) {
                let request = &mut requests[slot];
                replica.grow(request);
                batch.add_decode(slot, request);
            }
        }
        replica.waiting.drain(prefills..next);
        prefills
    }

    /// Goes on with the first `prefills` of the waiting list, as far as the budget reaches.
    fn take_chunks(
        &self,
        replica: &mut ReplicaState,
        requests: &Requests,
        batch: &mut Batch,
        prefills: usize,
    ) {
        let mut skipped = 0;
        for next in 0..prefills {
            let slot = replica.waiting[next];
            let request = &requests[slot];
            let tokens = self.chunk(request, batch);
            if tokens == 0 {
                replica.waiting[skipped] = slot;
                skipped += 1;
            } else {
                batch.add_prefill(slot, request, tokens);
            }
        }
        replica.waiting.drain(skipped..prefills);
    }

    fn admit(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        while let Some(&slot) = replica.queue.front() {
            let request = &mut requests[slot];
            if !self.fits_empty(&replica.kv, request.prefill_tokens, request.decode_tokens) {
                replica.queue.pop_front();
                replica.rejected.push(slot);
                continue;
            }
            let tokens = self.chunk(request, batch);
            if batch.len() == self.micro_batch_size || tokens == 0 || !self.admits(replica, request) {
                break;
            }
            let blocks = replica.kv.blocks_for(request.prefill_tokens);
            replica.allocate(request, blocks);
            replica.queue.pop_front();
            batch.add_prefill(slot, request, tokens);
        }
    }
}

impl ReplicaScheduler for Sarathi {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let prefills = self.take_decodes(replica, requests, batch);
        self.take_chunks(replica, requests, batch, prefills);
        replica.sort_waiting(requests);
        self.admit(replica, requests, batch);
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        kv.fits_empty(prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        replica.queue.front().is_some_and(|&head| {
            let request = &requests[head];
            let room = replica.allocated < self.chunk_size_tokens;
            room && self.admits(replica, request)
                || !self.fits_empty(&replica.kv, request.prefill_tokens, request.decode_tokens)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;

    #[test]
    fn chunks_fill_what_decodes_leave() {
        let mut bench = Bench::new(r#"{"sarathi": {"num_blocks": 100, "chunk_size_tokens": 10}}"#);
        bench.arrive(4, 3);
        bench.arrive(20, 2);
        bench.arrive(3, 1);
        assert_eq!(bench.step(), [(0, 4), (1, 6)]);
        assert_eq!(bench.step(), [(0, 1), (1, 9)]);
        assert_eq!(bench.step(), [(0, 1), (1, 5), (2, 3)]);
        assert_eq!(bench.step(), [(1, 1)]);
        assert!(bench.is_empty());
    }

    #[test]
    fn decodes_come_first_and_may_use_up_the_budget() {
        let mut bench = Bench::new(r#"{"sarathi": {"num_blocks": 100, "chunk_size_tokens": 2}}"#);
        for _ in 0..3 {
            bench.arrive(1, 3);
        }
        assert_eq!(bench.step(), [(0, 1), (1, 1)]);
        assert_eq!(bench.step(), [(0, 1), (1, 1)], "no token is left for the third");
        assert_eq!(bench.step(), [(0, 1), (1, 1)]);
        assert_eq!(bench.step(), [(2, 1)]);
    }

    /// The reference turns what is left of such a prompt into decode tokens (case
    /// `quirks/i2_sarathi_few_blocks`).
    #[test]
    fn a_prompt_preempted_half_way_stays_a_prompt() {
        let mut bench = Bench::new(
            r#"{"sarathi": {"num_blocks": 6, "block_size_tokens": 4, "chunk_size_tokens": 4, "watermark_blocks_fraction": 0}}"#,
        );
        bench.arrive(4, 12);
        assert_eq!(bench.step(), [(0, 4)]);
        let prompt = bench.arrive(16, 2);
        assert_eq!(bench.step(), [(0, 1), (1, 3)]);
        // All blocks are taken: for its next token the first request wants one free and takes those of the
        // second.
        assert_eq!(bench.requests[prompt].processed_tokens, 3);
        assert_eq!(bench.step(), [(0, 1), (1, 3)], "it starts over in the same batch");
        let request = &bench.requests[prompt];
        assert_eq!((request.restarts, request.prefill_tokens, request.decode_tokens), (1, 16, 2));
        let prefilled: u32 = bench
            .drain()
            .concat()
            .iter()
            .filter(|&&(id, tokens)| id == 1 && tokens > 1)
            .map(|&(_, tokens)| tokens)
            .sum();
        assert!(prefilled >= 16, "{prefilled} tokens of a prompt of 16");
        assert!(bench.is_empty());
    }
}
