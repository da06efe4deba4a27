//! FasterTransformer: request-level batching. A group of requests runs until all of them have finished; only
//! then the next one starts.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/faster_transformer_replica_scheduler.py`.
//! Requests that finish before the rest of their group leave the batch but stay in memory until the group
//! ends. In the reference they stay for ever, a leak that shrinks the replica to one request at a time; here
//! the group's end frees all of it.

use super::orca::MaximumReservation;
use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Requests, SchedulerSettings,
};
use crate::settings::Faults;

scheduler_settings! {
    /// FasterTransformer: groups of requests that start and leave together, each with memory for
    /// `max_request_tokens`.
    pub struct FasterTransformerSettings(block_size_tokens = 16) {}
}

impl SchedulerSettings for FasterTransformerSettings {
    fn common(&self) -> Common {
        self.common_settings()
    }

    fn check(&self, _pipeline_parallel: u32, _faults: &mut Faults) {}

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(FasterTransformer(MaximumReservation::new(&self.common(), replica)))
    }
}

#[derive(Debug, Clone)]
pub struct FasterTransformer(MaximumReservation);

impl ReplicaScheduler for FasterTransformer {
    /// With pipelining there may be as many groups as stages, but only one of them waits at a time: it
    /// re-enters the pipeline at the instant it leaves.
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        if replica.waiting.is_empty() {
            self.0.admit(replica, requests, batch);
        }
        for slot in replica.waiting.drain(..) {
            batch.add_decode(slot, &requests[slot]);
        }
    }

    /// Who finishes leaves its memory to another of its group, and the last of the group frees it.
    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        replica.waiting.extend(
            batch.entries.iter().map(|&(slot, _)| slot).filter(|&slot| !requests[slot].is_completed()),
        );
        let heir = replica.waiting.first().copied();
        for &(slot, _) in &batch.entries {
            if !requests[slot].is_completed() {
                continue;
            }
            let blocks = std::mem::take(&mut requests[slot].blocks);
            match heir {
                Some(heir) => requests[heir].blocks += blocks,
                None => {
                    replica.kv.free += blocks;
                    replica.allocated -= blocks / self.0.blocks_per_request;
                }
            }
            requests.release(slot);
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.0.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, _replica: &ReplicaState, _requests: &Requests) -> bool {
        false
    }

    fn reserves_ahead(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;

    /// In the reference the first request would stay in memory for ever (case
    /// `quirks/g_faster_transformer_rr_static2`).
    #[test]
    fn a_group_runs_to_its_end_and_frees_everything() {
        // Two requests of the maximum of 32 tokens fit.
        let mut bench = Bench::new(r#"{"faster_transformer": {"num_blocks": 17, "block_size_tokens": 4}}"#);
        bench.arrive(10, 1);
        bench.arrive(5, 3);
        bench.arrive(7, 2);
        assert_eq!(bench.step(), [(0, 10), (1, 5)]);
        assert_eq!(
            (bench.replica.allocated, bench.replica.kv.free),
            (2, 1),
            "the finished request keeps its memory"
        );
        assert_eq!(bench.step(), [(1, 1)]);
        assert_eq!((bench.replica.allocated, bench.replica.kv.free), (2, 1));
        assert_eq!(bench.step(), [(1, 1)], "nobody joins a running group");
        assert_eq!((bench.replica.allocated, bench.replica.kv.free), (0, 17));
        assert_eq!(bench.drain(), [[(2, 7)], [(2, 1)]]);
        assert!(bench.is_empty());
    }

    #[test]
    fn capacity_does_not_shrink() {
        let mut bench = Bench::new(r#"{"faster_transformer": {"num_blocks": 32, "block_size_tokens": 4}}"#);
        for i in 0..40 {
            bench.arrive(1 + i % 7, 1 + i % 5);
        }
        let prefills = bench
            .drain()
            .into_iter()
            .filter(|batch| batch.len() == 4 && batch.iter().any(|&(_, tokens)| tokens > 1));
        assert_eq!(prefills.count(), 10, "ten groups of four");
        assert!(bench.is_empty());
    }
}
