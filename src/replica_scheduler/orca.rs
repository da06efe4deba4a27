//! Orca: iteration-level scheduling; prefills and decodes mix, and every request reserves memory for the
//! longest possible one.
//!
//! Source: microsoft/vidur `vidur/scheduler/replica_scheduler/orca_replica_scheduler.py`, after Yu et al.,
//! OSDI 2022.

use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaShape, ReplicaState, Requests, SchedulerSettings,
};
use crate::settings::Faults;

scheduler_settings! {
    /// Orca: every iteration may admit requests, each with memory for `max_request_tokens`.
    pub struct OrcaSettings(block_size_tokens = 16) {}
}

impl SchedulerSettings for OrcaSettings {
    fn common(&self) -> Common {
        self.common_settings()
    }

    fn check(&self, _pipeline_parallel: u32, _faults: &mut Faults) {}

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(Orca(MaximumReservation::new(&self.common(), replica)))
    }
}

/// Admission by memory for the longest possible request.
#[derive(Debug, Clone, Copy)]
pub(super) struct MaximumReservation {
    pub max_batch_size: u32,
    max_request_tokens: u32,
    pub blocks_per_request: u32,
}

impl MaximumReservation {
    pub fn new(common: &Common, replica: &ReplicaShape) -> Self {
        Self {
            max_batch_size: common.batch_size_cap.min(replica.max_requests),
            max_request_tokens: replica.max_request_tokens,
            blocks_per_request: (replica.max_request_tokens / common.block_size_tokens).max(1),
        }
    }

    pub fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        let tokens = u64::from(prefill_tokens) + u64::from(decode_tokens);
        tokens <= self.max_request_tokens.into() && self.blocks_per_request <= kv.total
    }

    /// Fills a batch from the queue.
    pub fn admit(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        while batch.len() < self.max_batch_size && self.blocks_per_request <= replica.kv.free {
            let Some(slot) = replica.queue.pop_front() else { break };
            let request = &mut requests[slot];
            replica.allocate(request, self.blocks_per_request);
            batch.add_prefill(slot, request, request.prefill_tokens);
        }
    }
}

#[derive(Debug, Clone)]
pub struct Orca(MaximumReservation);

impl ReplicaScheduler for Orca {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let taken = replica.waiting.len().min(self.0.max_batch_size as usize);
        for slot in replica.waiting.drain(..taken) {
            batch.add_decode(slot, &requests[slot]);
        }
        self.0.admit(replica, requests, batch);
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.0.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, _requests: &Requests) -> bool {
        !replica.queue.is_empty()
            && replica.allocated < self.0.max_batch_size
            && self.0.blocks_per_request <= replica.kv.free
    }

    fn reserves_ahead(&self) -> bool {
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::bench::Bench;

    #[test]
    fn prefills_join_decodes_as_soon_as_the_maximum_is_free() {
        // Two requests of the maximum of 32 tokens fit.
        let mut bench = Bench::new(r#"{"orca": {"num_blocks": 17, "block_size_tokens": 4}}"#);
        bench.arrive(10, 2);
        bench.arrive(5, 4);
        bench.arrive(7, 1);
        bench.arrive(3, 3);
        assert_eq!(bench.step(), [(0, 10), (1, 5)]);
        assert_eq!(bench.replica.kv.free, 1);
        assert_eq!(bench.step(), [(0, 1), (1, 1)]);
        assert_eq!(bench.step(), [(1, 1), (2, 7)]);
        assert_eq!(bench.step(), [(1, 1), (3, 3)]);
        assert_eq!(bench.step(), [(3, 1)]);
        assert_eq!(bench.step(), [(3, 1)]);
        assert!(bench.is_empty());
    }

    #[test]
    fn nobody_is_longer_than_the_reservation() {
        let bench = Bench::new(r#"{"orca": {"num_blocks": 8, "block_size_tokens": 4}}"#);
        assert!(bench.fits_empty(31, 1) && !bench.fits_empty(31, 2));
        let bench = Bench::new(r#"{"orca": {"num_blocks": 7, "block_size_tokens": 4}}"#);
        assert!(!bench.fits_empty(1, 1), "the maximum cannot be reserved");
    }
}
