//! What the settings of all schedulers have in common.

use super::{ReplicaScheduler, ReplicaSchedulerSettings};
use crate::hardware::catalog::Device;
use crate::settings::Faults;

/// Settings every scheduler has.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Common {
    pub batch_size_cap: u32,
    pub block_size_tokens: u32,
    pub watermark_blocks_fraction: f64,
    pub num_blocks: Option<u32>,
}

/// What a scheduler has to know of the replicas it is built for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReplicaShape {
    pub pipeline_parallel: u32,
    /// Longest request the memory planner provides for, prefill and decode tokens together.
    pub max_request_tokens: u32,
    /// Requests of that length that fit at once, says the memory planner.
    pub max_requests: u32,
    /// Devices that share each layer, and what each holds of the KV cache of a token.
    pub tensor_parallel: u32,
    pub kv_bytes_per_token: f64,
}

/// What the registry asks of a scheduler's settings.
pub trait SchedulerSettings {
    fn common(&self) -> Common;

    /// Checks what is not common to all schedulers.
    fn check(&self, pipeline_parallel: u32, faults: &mut Faults);

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler>;

    /// These settings with everything said that depends on the device, if anything does.
    fn on_device(&self, _device: &Device) -> Option<ReplicaSchedulerSettings> {
        None
    }

    /// Whether a prompt may be prefilled in parts.
    fn chunks_prefills(&self) -> bool {
        false
    }

    /// Whether it can do without computing the beginning of a prompt that it has in memory.
    fn caches_prefixes(&self) -> bool {
        false
    }
}

/// Declares a scheduler's settings: the common ones, with the reference's defaults, and its own.
macro_rules! scheduler_settings {
    (
        $(#[$meta:meta])* pub struct $Name:ident (block_size_tokens = $block_size:literal) {
            $($(#[$own_meta:meta])* $own:ident: $Own:ty = $default:expr),* $(,)?
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $Name {
            /// Most requests in memory at once; of `orca` and `faster_transformer`: in one batch.
            pub batch_size_cap: u32,
            /// Tokens of a KV block.
            pub block_size_tokens: u32,
            /// Share of KV blocks that admission leaves free. Only `vllm` and `sarathi` heed it.
            pub watermark_blocks_fraction: f64,
            /// KV blocks of a replica; the memory planner's figure if absent.
            pub num_blocks: Option<u32>,
            $($(#[$own_meta])* pub $own: $Own,)*
        }

        impl Default for $Name {
            fn default() -> Self {
                Self {
                    batch_size_cap: 128,
                    block_size_tokens: $block_size,
                    watermark_blocks_fraction: 0.01,
                    num_blocks: None,
                    $($own: $default,)*
                }
            }
        }

        impl $Name {
            fn common_settings(&self) -> $crate::replica_scheduler::Common {
                $crate::replica_scheduler::Common {
                    batch_size_cap: self.batch_size_cap,
                    block_size_tokens: self.block_size_tokens,
                    watermark_blocks_fraction: self.watermark_blocks_fraction,
                    num_blocks: self.num_blocks,
                }
            }
        }
    };
}

/// A cap shared by the stages of a pipeline must leave each of them something.
pub(super) fn check_shared_cap(batch_size_cap: u32, pipeline_parallel: u32, faults: &mut Faults) {
    faults.require(batch_size_cap >= pipeline_parallel, "batch_size_cap", || {
        format!("{batch_size_cap} found, expected at least `pipeline_parallel` ({pipeline_parallel}), whose stages share it")
    });
}
