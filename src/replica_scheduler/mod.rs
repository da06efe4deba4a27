//! How one replica forms batches: one file a scheduler.
//!
//! A scheduler owns no requests: it moves their [`Slot`]s between a replica's queue, its waiting list and the batch being formed, and
//! accounts for KV blocks. The rules are those of the reference implementation (microsoft/vidur), odd as some look.

mod request;
mod state;
mod vllm;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use request::{Request, Requests, Slot};
pub use state::{Batch, KvBlocks, ReplicaState};
pub use vllm::Vllm;

use crate::choice;
use crate::settings::Faults;

choice! {
    /// How a replica forms batches.
    pub enum ReplicaSchedulerSettings {
        "vllm" => Vllm(VllmSettings),
    }
}

impl Default for ReplicaSchedulerSettings {
    fn default() -> Self {
        Self::Vllm(VllmSettings::default())
    }
}

/// vLLM before its rewrite (0.2 to 0.5), as the reference has it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmSettings {
    /// Most requests a replica holds in memory at once.
    pub batch_size_cap: u32,
    /// Most tokens of a prefill batch, counted as requests times the longest of them.
    pub max_tokens_in_batch: u32,
    pub block_size_tokens: u32,
    /// Share of KV blocks that admission leaves free.
    pub watermark_blocks_fraction: f64,
    /// KV blocks of a replica; the memory planner's figure if absent.
    pub num_blocks: Option<u32>,
}

impl Default for VllmSettings {
    fn default() -> Self {
        Self { batch_size_cap: 128, max_tokens_in_batch: 4096, block_size_tokens: 16, watermark_blocks_fraction: 0.01, num_blocks: None }
    }
}

/// What every scheduler's settings have in common.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common {
    pub batch_size_cap: u32,
    pub block_size_tokens: u32,
    pub watermark_blocks_fraction: f64,
    pub num_blocks: Option<u32>,
}

impl ReplicaSchedulerSettings {
    pub fn common(&self) -> Common {
        match self {
            Self::Vllm(s) => Common {
                batch_size_cap: s.batch_size_cap,
                block_size_tokens: s.block_size_tokens,
                watermark_blocks_fraction: s.watermark_blocks_fraction,
                num_blocks: s.num_blocks,
            },
        }
    }

    pub fn check(&self, faults: &mut Faults) {
        let common = self.common();
        faults.within(self.name(), |faults| {
            faults.at_least("batch_size_cap", common.batch_size_cap.into(), 1);
            faults.at_least("block_size_tokens", common.block_size_tokens.into(), 1);
            faults.fraction("watermark_blocks_fraction", common.watermark_blocks_fraction);
            if let Some(num_blocks) = common.num_blocks {
                faults.at_least("num_blocks", num_blocks.into(), 1);
            }
            match self {
                Self::Vllm(s) => faults.at_least("max_tokens_in_batch", s.max_tokens_in_batch.into(), 1),
            }
        });
    }
}

/// The rule by which a replica forms batches.
pub trait ReplicaScheduler: Send + Sync {
    /// Moves requests from queue and waiting list into an empty `batch`; leaves it empty if there is nothing to do.
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch);

    /// Takes back the requests of an ended batch, after they were advanced.
    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        replica.end_batch(requests, batch);
    }

    /// Whether a prompt of this length could be admitted by a replica that is otherwise empty.
    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32) -> bool;

    /// Asked right after a batch of decodes was formed: whether the next one will hold the same requests, as long as none of them
    /// finishes, blocks suffice, and [`Self::would_admit`] is and stays false.
    fn repeats_decodes(&self, replica: &ReplicaState) -> bool;

    /// Whether the head of the queue would be taken (or rejected) if a batch were formed now. May err towards true.
    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool;
}

impl ReplicaSchedulerSettings {
    /// The rule itself, for a replica of `pipeline_parallel` stages.
    pub fn build(&self, pipeline_parallel: u32) -> Box<dyn ReplicaScheduler> {
        match self {
            Self::Vllm(settings) => Box::new(Vllm::new(settings, pipeline_parallel)),
        }
    }
}
