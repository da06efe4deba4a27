//! How many KV blocks fit beside the weights: the reference's planner, and vLLM's accounting.

mod profiled;
mod vidur;
mod vllm;
mod weights;

use serde::{Deserialize, Serialize};

use super::{Deployment, Precision, Weights};
use crate::choice;
use crate::settings::Faults;

pub use profiled::ProfiledPlanner;
pub use vidur::VidurPlanner;
pub use vllm::{VllmDefaults, VllmPlanner};

choice! {
    /// How device memory is divided between weights and KV cache.
    pub enum MemoryPlanner {
        "vidur" => Vidur(VidurPlanner),
        "vllm" => Vllm(VllmPlanner),
        /// vLLM's profile of itself at start, fitted to what servers logged.
        "vllm_profiled" => VllmProfiled(ProfiledPlanner),
    }
}

impl Default for MemoryPlanner {
    fn default() -> Self {
        Self::Vidur(VidurPlanner::default())
    }
}

impl MemoryPlanner {
    pub fn check(&self, faults: &mut Faults) {
        match self {
            Self::Vidur(_) => {}
            Self::Vllm(planner) => faults.within("vllm", |faults| planner.check(faults)),
            Self::VllmProfiled(planner) => faults.within("vllm_profiled", |faults| planner.check(faults)),
        }
    }
}

/// What one replica can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct KvCapacity {
    pub num_blocks: u32,
    /// Requests of the maximum length that fit at once.
    pub max_requests: u32,
}

/// A model that leaves no room for one request of the maximum length.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DoesNotFit(String);

/// What the planner is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Needs<'a> {
    pub planner: &'a MemoryPlanner,
    pub max_request_tokens: u32,
    pub block_size_tokens: u32,
    /// Share of device memory left unused (`vidur`; `vllm` has `gpu_memory_utilization`).
    pub memory_margin_fraction: f64,
    pub weights: Weights,
    pub kv_cache: Precision,
    /// What the `vllm` planner goes by where it is not told.
    pub vllm: VllmDefaults,
}

/// One device's memory, bytes.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Budget {
    available: f64,
    /// Weights, and whatever else is not KV cache.
    taken: f64,
    taken_for: &'static str,
    /// KV cache of one token.
    per_token: f64,
}

impl Budget {
    fn of(deployment: &Deployment, needs: &Needs) -> Self {
        match needs.planner {
            MemoryPlanner::Vidur(_) => vidur::budget(deployment, needs),
            MemoryPlanner::Vllm(planner) => vllm::budget(planner, deployment, needs),
            MemoryPlanner::VllmProfiled(planner) => profiled::budget(planner, deployment, needs),
        }
    }

    fn kv_tokens(&self) -> f64 {
        ((self.available - self.taken) / self.per_token).max(0.0)
    }

    fn requests(&self, needs: &Needs) -> u32 {
        ((self.available - self.taken) / (self.per_token * f64::from(needs.max_request_tokens))).floor()
            as u32
    }
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// Tensor parallel degrees worth trying when a model does not fit.
const TENSOR_PARALLEL: [u32; 5] = [1, 2, 4, 8, 16];

/// Tokens of KV cache one replica has room for, before they are cut into blocks and requests.
pub fn kv_tokens(deployment: &Deployment, needs: &Needs) -> u64 {
    Budget::of(deployment, needs).kv_tokens() as u64
}

/// Weights that one device holds, as the reference counts them: transformer layers only.
pub fn weight_bytes(deployment: &Deployment, weights: Weights) -> f64 {
    vidur::weight_bytes(deployment, weights)
}

/// KV cache of a token that one device holds: its heads, of the layers of its stage.
pub fn kv_bytes_per_token(deployment: &Deployment, kv_cache: Precision, max_request_tokens: u32) -> f64 {
    weights::kv_bytes_per_token(deployment, kv_cache, max_request_tokens)
        / f64::from(deployment.pipeline_parallel)
}

/// Plans the KV cache of one replica.
pub fn plan(deployment: &Deployment, needs: &Needs) -> Result<KvCapacity, DoesNotFit> {
    let budget = Budget::of(deployment, needs);
    let max_requests = budget.requests(needs);
    if max_requests == 0 {
        let fits = |&&tensor_parallel: &&u32| {
            deployment.model.num_query_heads.is_multiple_of(tensor_parallel)
                && Budget::of(&Deployment { tensor_parallel, ..deployment.clone() }, needs).requests(needs)
                    > 0
        };
        let remedy = match TENSOR_PARALLEL.iter().find(fits) {
            Some(tp) => format!("the smallest `tensor_parallel` that fits is {tp}"),
            None => {
                "no `tensor_parallel` up to 16 fits: take a larger device or a smaller `max_request_tokens`"
                    .into()
            }
        };
        let Deployment { model, device, tensor_parallel, pipeline_parallel, .. } = deployment;
        return Err(DoesNotFit(format!(
            "{} does not fit: with tensor parallel {tensor_parallel} and pipeline parallel {pipeline_parallel} each {} needs {:.1} GiB for {} and {:.2} GiB for \
             one request of {} tokens, but has {:.1} GiB; {remedy}",
            model.name,
            device.name,
            budget.taken / GIB,
            budget.taken_for,
            budget.per_token * f64::from(needs.max_request_tokens) / GIB,
            needs.max_request_tokens,
            budget.available / GIB
        )));
    }
    let num_blocks = match needs.planner {
        MemoryPlanner::Vidur(_) => vidur::num_blocks(deployment, needs, max_requests),
        MemoryPlanner::Vllm(_) | MemoryPlanner::VllmProfiled(_) => {
            (budget.kv_tokens() / f64::from(needs.block_size_tokens)) as u32
        }
    };
    Ok(KvCapacity { num_blocks, max_requests })
}

#[cfg(test)]
mod tests;
