//! One replica on the test bench: requests arrive and batches run by hand, without clock or engine.

use super::{
    Batch, KvBlocks, ReplicaScheduler, ReplicaSchedulerSettings, ReplicaShape, ReplicaState, Request,
    Requests, Rule, Slot,
};
use crate::settings::Faults;

/// Replicas of one stage; requests of up to 32 tokens are provided for.
pub const SHAPE: ReplicaShape = ReplicaShape {
    pipeline_parallel: 1,
    max_request_tokens: 32,
    max_requests: 100,
    tensor_parallel: 1,
    kv_bytes_per_token: 1e6,
};

pub struct Bench {
    scheduler: Rule,
    pub replica: ReplicaState,
    pub requests: Requests,
    arrived: u32,
    batches: u32,
}

impl Bench {
    /// A replica of one stage with settings as in a grid file, `num_blocks` among them; requests of up to 32
    /// tokens are provided for.
    pub fn new(settings: &str) -> Self {
        let settings: ReplicaSchedulerSettings = serde_json::from_str(settings).unwrap();
        let mut faults = Faults::default();
        settings.check(1, &mut faults);
        assert_eq!(faults.found, []);
        let common = settings.common();
        let kv = KvBlocks::new(
            common.num_blocks.unwrap(),
            common.block_size_tokens,
            common.watermark_blocks_fraction,
        );
        Self {
            scheduler: settings.build(&SHAPE),
            replica: ReplicaState::new(kv),
            requests: Requests::default(),
            arrived: 0,
            batches: 0,
        }
    }

    pub fn fits_empty(&self, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.scheduler.fits_empty(&self.replica.kv, prefill_tokens, decode_tokens)
    }

    pub fn lets_in(&self) -> bool {
        self.scheduler.lets_in(&self.replica, &self.requests)
    }

    pub fn arrive(&mut self, prefill_tokens: u32, decode_tokens: u32) -> Slot {
        let slot = self.requests.insert(Request::new(
            self.arrived,
            f64::from(self.arrived),
            prefill_tokens,
            decode_tokens,
        ));
        self.arrived += 1;
        self.replica.queue.push_back(slot);
        slot
    }

    /// Runs one batch; returns its requests with the tokens of each.
    pub fn step(&mut self) -> Vec<(u32, u32)> {
        let mut batch = Batch::default();
        self.scheduler.form_batch(&mut self.replica, &mut self.requests, &mut batch);
        let formed = batch.entries.iter().map(|&(slot, tokens)| (self.requests[slot].id, tokens)).collect();
        self.batches += 1;
        if !batch.is_empty() {
            self.scheduler.look_ahead(&mut self.replica, &mut self.requests, &mut batch, f64::INFINITY);
        }
        for &(slot, tokens) in &batch.entries {
            let request = &mut self.requests[slot];
            if !request.is_completed() {
                request.advance(tokens, f64::from(self.batches));
            }
        }
        if !batch.is_empty() {
            self.scheduler.end_batch(&mut self.replica, &mut self.requests, &batch);
        }
        formed
    }

    /// Runs until nothing is left to do; returns all batches.
    pub fn drain(&mut self) -> Vec<Vec<(u32, u32)>> {
        let mut batches = Vec::new();
        loop {
            let batch = self.step();
            if batch.is_empty() {
                return batches;
            }
            batches.push(batch);
            assert!(batches.len() < 10_000, "the replica does not drain");
        }
    }

    pub fn is_empty(&self) -> bool {
        let replica = &self.replica;
        replica.queue.is_empty()
            && replica.waiting.is_empty()
            && replica.allocated == 0
            && replica.kv.free == replica.kv.total
    }
}
