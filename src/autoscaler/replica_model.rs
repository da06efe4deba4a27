//! What one replica can do, from the hardware model: the profile a planner would have measured before it
//! deploys.
//!
//! Requests are alike here: the mean prompt and the mean output. Batches of decodes are in the steady state,
//! in which a request has half of its output in the cache.

use super::PolicyContext;
use crate::hardware::{BatchShape, ExecutionTime};
use crate::replica_scheduler::KvBlocks;

/// Mean tokens of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lengths {
    pub prefill_tokens: f64,
    pub decode_tokens: f64,
}

impl Lengths {
    fn prompt(self) -> u32 {
        self.prefill_tokens.round().max(1.0) as u32
    }

    fn mean_context(self) -> u32 {
        (self.prefill_tokens + self.decode_tokens / 2.0).round().max(1.0) as u32
    }
}

/// A replica's times and limits.
#[derive(Debug, Clone)]
pub struct ReplicaModel {
    times: ExecutionTime,
    stages: u32,
    kv: KvBlocks,
    batch_size_cap: u32,
    /// Most tokens of one batch.
    max_batched_tokens: u32,
}

impl ReplicaModel {
    pub fn new(context: &PolicyContext, max_batched_tokens: u32) -> Self {
        Self {
            times: context.execution_time.clone(),
            stages: context.pipeline_parallel,
            kv: context.kv,
            batch_size_cap: context.batch_size_cap,
            max_batched_tokens,
        }
    }

    /// Requests that fit in memory at once.
    pub fn concurrency(&self, lengths: Lengths) -> u32 {
        let blocks =
            self.kv.blocks_for((lengths.prefill_tokens + lengths.decode_tokens).round().max(1.0) as u32);
        (self.kv.total / blocks.max(1)).clamp(1, self.batch_size_cap)
    }

    /// From entering the first stage to leaving the last.
    pub fn batch_time_s(&self, shape: &BatchShape) -> f64 {
        (0..self.stages).map(|stage| self.times.stage_time_s(shape, stage)).sum()
    }

    /// Time between two batches of a full pipeline.
    fn batch_period_s(&self, shape: &BatchShape) -> f64 {
        (0..self.stages).map(|stage| self.times.stage_time_s(shape, stage)).fold(0.0, f64::max)
    }

    /// `tokens` of prompts, as whole prompts as far as they go, beside `num_decodes` decodes.
    pub fn shape(&self, prefill_tokens: f64, num_decodes: u32, lengths: Lengths) -> BatchShape {
        let mut shape = BatchShape::default();
        let prompt = lengths.prompt();
        let mut left = prefill_tokens.round() as u32;
        while left > 0 && shape.num_prefills < self.batch_size_cap {
            let last = shape.num_prefills + 1 == self.batch_size_cap;
            let chunk = if last { left } else { left.min(prompt) };
            shape.add_prefill(chunk, 0);
            left -= chunk;
        }
        (0..num_decodes).for_each(|_| shape.add_decode(lengths.mean_context()));
        shape
    }

    /// A request alone on a replica, from its prefill to its last token.
    pub fn service_time_s(&self, lengths: Lengths) -> f64 {
        let prefill_s = self.batch_time_s(&self.shape(f64::from(lengths.prompt()), 0, lengths));
        let decode_s = self.batch_time_s(&self.shape(0.0, 1, lengths));
        prefill_s + (lengths.decode_tokens - 1.0).max(0.0) * decode_s
    }

    /// Requests per second a replica finishes with always as many in memory as fit: prompts in batches of
    /// their own, decodes together.
    pub fn requests_per_s(&self, lengths: Lengths) -> f64 {
        let requests = self.concurrency(lengths);
        let prompts = (self.max_batched_tokens / lengths.prompt()).clamp(1, requests);
        let prefill = self.shape(f64::from(prompts * lengths.prompt()), 0, lengths);
        let prefill_s = self.batch_period_s(&prefill) * f64::from(requests) / f64::from(prompts);
        let decode_s = self.batch_period_s(&self.shape(0.0, requests, lengths));
        f64::from(requests) / (prefill_s + (lengths.decode_tokens - 1.0).max(0.0) * decode_s)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    fn lengths(prefill_tokens: f64, decode_tokens: f64) -> Lengths {
        Lengths { prefill_tokens, decode_tokens }
    }

    /// The measured anchors: one prompt of 256 tokens takes 0.1108 s, sixteen together 1.3487 s.
    #[test]
    fn prompts_alone_are_the_measured_times() {
        with_context(|context| {
            let model = ReplicaModel::new(context, 4096);
            assert_eq!(model.service_time_s(lengths(256.0, 1.0)), 0.11078802165411201);
            assert_eq!(model.requests_per_s(lengths(256.0, 1.0)), 16.0 / 1.348658783115523);
        });
    }

    /// 4000 blocks of 16 tokens hold 31 requests of 2,064 tokens, but no more than 16 are let in, and only
    /// seven of 8,200.
    #[test]
    fn memory_and_cap_bound_concurrency() {
        with_context(|context| {
            let model = ReplicaModel::new(context, 4096);
            assert_eq!(model.concurrency(lengths(2000.0, 64.0)), 16);
            assert_eq!(model.concurrency(lengths(8000.0, 200.0)), 7);
            assert_eq!(model.concurrency(lengths(1e6, 1.0)), 1);
        });
    }

    /// Every prompt token is counted, in whole prompts first; the last of a full batch takes what is left.
    #[test]
    fn shapes_hold_all_tokens() {
        with_context(|context| {
            let model = ReplicaModel::new(context, 4096);
            let shape = model.shape(700.0, 3, lengths(256.0, 100.0));
            assert_eq!((shape.num_prefills, shape.prefill_tokens, shape.num_decodes), (3, 700, 3));
            assert_eq!(shape.prefill_tokens_squared, 2 * 256 * 256 + 188 * 188);
            assert_eq!(shape.decode_cached_tokens, 3 * 306);
            let full = model.shape(5000.0, 0, lengths(256.0, 100.0));
            assert_eq!((full.num_prefills, full.prefill_tokens), (16, 5000));
        });
    }
}
