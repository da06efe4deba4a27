//! What a vLLM server finds free for its KV cache when it profiles itself at start.
//!
//! Weights are what the checkpoint holds; the rest was fitted here to the numbers of blocks that ten
//! deployments of vLLM 0.15.1 on H100s logged (inference-sim/training and
//! inference-sim/sim-to-real-accuracy-validation): eight dense models of 7 to 70 billion parameters and
//! Mixtral-8x7B, tensor parallel 1 to 4. Each is met within 1 %. A Qwen3-14B of vLLM 0.23.0 is planned 4 %
//! too small, and a Llama-4 Scout, whose encoder is profiled with images, far too large: set `reserve_gib`,
//! or the replica scheduler's `num_blocks` as the server logs it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Budget, GIB, Needs, vllm, weights};
use crate::hardware::Deployment;
use crate::settings::Faults;

/// vLLM's profile of itself; `memory_margin_fraction` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfiledPlanner {
    /// Share of device memory the server may use.
    pub gpu_memory_utilization: f64,
    /// Tokens of the largest batch.
    pub max_batched_tokens: u32,
    /// Requests of the largest batch, whose logits are sampled from at once.
    pub max_num_seqs: u32,
    /// Held by anything else on the device, such as an encoder.
    pub reserve_gib: f64,
}

impl Default for ProfiledPlanner {
    fn default() -> Self {
        Self { gpu_memory_utilization: 0.9, max_batched_tokens: 2048, max_num_seqs: 128, reserve_gib: 0.0 }
    }
}

impl ProfiledPlanner {
    pub fn check(&self, faults: &mut Faults) {
        faults.positive("gpu_memory_utilization", self.gpu_memory_utilization);
        faults.fraction("gpu_memory_utilization", self.gpu_memory_utilization);
        faults.at_least("max_batched_tokens", self.max_batched_tokens.into(), 1);
        faults.at_least("max_num_seqs", self.max_num_seqs.into(), 1);
        faults.not_negative("reserve_gib", self.reserve_gib);
    }
}

/// Memory that an H100 of 80 GiB shows to a program.
const USABLE: f64 = 79.11 / 80.0;
/// Held by the process whatever it serves, and by the collectives of more than one device.
const PROCESS_GIB: f64 = 0.25;
const COLLECTIVES_GIB: f64 = 0.45;
/// Copies of the hidden state of a batch, and bytes for each logit of the requests sampled.
const HIDDEN_COPIES: f64 = 2.2;
const BYTES_PER_LOGIT: f64 = 46.0;

pub(super) fn budget(planner: &ProfiledPlanner, deployment: &Deployment, needs: &Needs) -> Budget {
    let model = &deployment.model;
    let hidden = 2.0 * f64::from(planner.max_batched_tokens) * f64::from(model.embedding_dim) * HIDDEN_COPIES;
    let logits = BYTES_PER_LOGIT * f64::from(planner.max_num_seqs) * f64::from(model.vocabulary);
    let collectives = if deployment.tensor_parallel > 1 { COLLECTIVES_GIB * GIB } else { 0.0 };
    let held = (PROCESS_GIB + planner.reserve_gib) * GIB + collectives;
    Budget {
        available: deployment.device.memory_gib * USABLE * GIB * planner.gpu_memory_utilization,
        taken: vllm::weight_bytes(deployment, needs.weights) + hidden + logits + held,
        taken_for: "weights, activations and buffers",
        per_token: weights::kv_bytes_per_token(deployment, needs.kv_cache, needs.max_request_tokens)
            / f64::from(deployment.pipeline_parallel),
    }
}
