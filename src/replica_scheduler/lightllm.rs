//! LightLLM: blocks of one token; a prefill batch is admitted if all requests together will fit until each of
//! them has finished.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/lightllm_replica_scheduler.py`. While requests
//! are in memory, prefills are only considered every `max_waiting_iters` decode iterations. Since admission
//! looks ahead to the peak of memory, a decode always finds its block: where the reference would raise an
//! error for want of one, there is nothing to handle.

use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Request, Requests,
    SchedulerSettings, Slot,
};
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
        faults.require(block_size == 1, "block_size_tokens", || {
            format!("{block_size} found, expected 1: LightLLM counts single tokens")
        });
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
        Self {
            tokens: request.processed_tokens,
            remaining: (request.total_tokens() - request.processed_tokens).saturating_sub(1),
        }
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
        let mut futures: Vec<Future> =
            replica.waiting.iter().map(|&slot| Future::running(&requests[slot])).collect();
        futures.sort_by_key(|future| std::cmp::Reverse(future.remaining));
        while let Some(&slot) = replica.queue.front() {
            let request = &mut requests[slot];
            let tokens = request.prefill_tokens;
            if replica.allocated == self.batch_size_cap
                || batch.shape.total_tokens + u64::from(tokens) > self.max_tokens_in_batch.into()
            {
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
        if self.would_admit(replica, requests) {
            self.max_waiting_iters.saturating_sub(replica.decodes_in_a_row)
        } else {
            u32::MAX
        }
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        // Counts from 1 to the maximum, then from 1 again.
        let cycle = u64::from(self.max_waiting_iters.max(1));
        replica.decodes_in_a_row =
            ((u64::from(replica.decodes_in_a_row) - 1 + u64::from(repeats)) % cycle + 1) as u32;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::bench::Bench;
    use super::*;

    #[test]
    fn prefills_wait_for_their_turn() {
        let mut bench = Bench::new(r#"{"lightllm": {"num_blocks": 1000, "max_waiting_iters": 3}}"#);
        bench.arrive(10, 9);
        assert_eq!(bench.step(), [(0, 10)]);
        bench.arrive(5, 3);
        for _ in 0..3 {
            assert_eq!(bench.step(), [(0, 1)]);
        }
        assert_eq!(bench.step(), [(1, 5)], "after three decodes prefills have their turn");
        assert_eq!(bench.step(), [(0, 1), (1, 1)]);
        bench.drain();
        assert!(bench.is_empty());
    }

    #[test]
    fn admission_looks_ahead_to_the_peak() {
        // Together they would reach 11 + 6 tokens when the second finishes, and 14 when the first does.
        let mut bench = Bench::new(r#"{"lightllm": {"num_blocks": 17, "max_waiting_iters": 0}}"#);
        bench.arrive(10, 5);
        bench.arrive(5, 2);
        assert_eq!(bench.step(), [(0, 10)]);
        assert_eq!(bench.step(), [(0, 1)], "a peak of 17 is not below 17");
        assert!(bench.fits_empty(10, 7) && !bench.fits_empty(10, 8), "alone, at most 16 tokens are held");
        let mut bench = Bench::new(r#"{"lightllm": {"num_blocks": 18, "max_waiting_iters": 0}}"#);
        bench.arrive(10, 5);
        bench.arrive(5, 2);
        assert_eq!(bench.step(), [(0, 10), (1, 5)]);
        bench.drain();
        assert!(bench.is_empty());
    }

    proptest! {
        /// The twin decodes step by step: whoever has steps left takes a token, whoever has none leaves.
        #[test]
        fn peak_equals_decoding_in_step(mut futures in prop::collection::vec((1..50_u32, 0..20_u32), 1..12)) {
            futures.sort_by_key(|&(_, remaining)| std::cmp::Reverse(remaining));
            let futures: Vec<Future> = futures.into_iter().map(|(tokens, remaining)| Future { tokens, remaining }).collect();
            let mut held = futures.clone();
            let mut peak = 0;
            while !held.is_empty() {
                peak = peak.max(held.iter().map(|future| u64::from(future.tokens)).sum());
                held.retain(|future| future.remaining > 0);
                for future in &mut held {
                    future.tokens += 1;
                    future.remaining -= 1;
                }
            }
            prop_assert_eq!(peak_tokens(&futures), peak);
        }

        /// Skipping decodes counts as forming them does.
        #[test]
        fn skipped_decodes_count(max_waiting_iters in 0..6_u32, first in 1..4_u32, repeats in 0..40_u32) {
            let settings = format!(r#"{{"lightllm": {{"num_blocks": 1000, "max_waiting_iters": {max_waiting_iters}}}}}"#);
            let mut bench = Bench::new(&settings);
            bench.arrive(1, 100);
            for _ in 0..=first {
                bench.step();
            }
            let before = bench.replica.decodes_in_a_row;
            let mut skipping = ReplicaState { decodes_in_a_row: before, ..ReplicaState::new(bench.replica.kv) };
            for _ in 0..repeats {
                bench.step();
            }
            let rule = Lightllm::new(&LightllmSettings { max_waiting_iters, ..LightllmSettings::default() });
            rule.skipped_decodes(&mut skipping, repeats);
            prop_assert_eq!(skipping.decodes_in_a_row, bench.replica.decodes_in_a_row);
        }
    }
}
