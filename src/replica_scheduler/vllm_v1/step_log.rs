//! What steps did, for tests.

use super::super::{Batch, KvBlocks, Requests};
use super::leaving::computed_tokens;

/// What one call of `schedule` did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Scheduled {
    /// Request, tokens computed before, tokens.
    pub entries: Vec<(u32, u32, u32)>,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    pub preempted: Vec<u32>,
    pub used_blocks: u32,
    /// Requests that had ended.
    pub in_vain: usize,
}

impl Scheduled {
    pub fn new(
        batch: &Batch,
        requests: &Requests,
        kv: &KvBlocks,
        preempted: Vec<u32>,
        in_vain: usize,
    ) -> Self {
        let entry =
            |&(slot, tokens): &(_, u32)| (requests[slot].id, computed_tokens(&requests[slot]), tokens);
        let prefill_tokens = batch.shape.prefill_tokens;
        Self {
            entries: batch.entries.iter().map(entry).collect(),
            prefill_tokens,
            decode_tokens: batch.shape.total_tokens - prefill_tokens,
            preempted,
            used_blocks: kv.total - kv.free,
            in_vain,
        }
    }
}
