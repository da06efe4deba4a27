//! vLLM's accounting of device memory.
//!
//! A share of the device is used; weights with embeddings, activations of the largest batch, the collectives'
//! buffers and a reserve are taken off; the rest is KV cache. Source of the figures: aiconfigurator-core 0.12.0
//! (system descriptions and memory estimate for vLLM).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Budget, GIB, Needs, weights};
use crate::hardware::{Deployment, WeightFormat, Weights};
use crate::settings::Faults;

/// vLLM's accounting; `memory_margin_fraction` is not used.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VllmPlanner {
    /// Share of device memory the server may use. If absent 0.92, as vLLM has it since 0.20; 0.9 where the
    /// replica scheduler is an earlier version of `vllm_v1`.
    pub gpu_memory_utilization: Option<f64>,
    /// Tokens of the largest batch, for which activations are set aside. If absent the `max_tokens_in_batch`
    /// of `vllm_v1`, given or by default; 8,192 with other schedulers.
    pub max_batched_tokens: Option<u32>,
    /// Set aside for everything not accounted for.
    pub reserve_gib: f64,
}

impl Default for VllmPlanner {
    fn default() -> Self {
        Self { gpu_memory_utilization: None, max_batched_tokens: None, reserve_gib: 3.5 }
    }
}

impl VllmPlanner {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(share) = self.gpu_memory_utilization {
            faults.positive("gpu_memory_utilization", share);
            faults.fraction("gpu_memory_utilization", share);
        }
        if let Some(tokens) = self.max_batched_tokens {
            faults.at_least("max_batched_tokens", tokens.into(), 1);
        }
        faults.not_negative("reserve_gib", self.reserve_gib);
    }
}

/// What a server has that is not told.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct VllmDefaults {
    pub gpu_memory_utilization: f64,
    pub max_batched_tokens: u32,
}

impl Default for VllmDefaults {
    fn default() -> Self {
        Self { gpu_memory_utilization: 0.92, max_batched_tokens: 8192 }
    }
}

impl VllmPlanner {
    /// The same with everything said.
    pub fn with(&mut self, defaults: &VllmDefaults) {
        self.gpu_memory_utilization.get_or_insert(defaults.gpu_memory_utilization);
        self.max_batched_tokens.get_or_insert(defaults.max_batched_tokens);
    }
}

const MIB: f64 = 1024.0 * 1024.0;
const LEAST_ACTIVATIONS: f64 = 70.0 * MIB;

/// Bytes of activations per byte of attention output, by tensor parallel degree.
fn activation_factor(tensor_parallel: u32) -> f64 {
    match tensor_parallel {
        1 => 11.0,
        2 | 3 => 6.5,
        _ => 5.0,
    }
}

/// Buffers of the collectives library.
fn collectives_bytes(tensor_parallel: u32) -> f64 {
    match tensor_parallel {
        1 => 0.0,
        2 | 3 => 342.0 * MIB,
        _ => 392.0 * MIB,
    }
}

/// Weights of one device with its embeddings.
pub(super) fn weight_bytes(deployment: &Deployment, weights: Weights) -> f64 {
    let (model, share, pp) =
        (&deployment.model, f64::from(deployment.tensor_parallel), f64::from(deployment.pipeline_parallel));
    // The fullest stage: with pipelining first and last hold one embedding each.
    let embeddings = if pp == 1.0 && !model.tied_embeddings { 2.0 } else { 1.0 };
    let layers = match weights::is_plain(deployment) {
        true => weights.layers.bytes() * model.layer_parameters() / (share * pp),
        false => weights::layer_bytes(deployment, weights),
    };
    layers + WeightFormat::Bf16.bytes() * embeddings * model.embedding_parameters() / share
}

pub(super) fn budget(planner: &VllmPlanner, deployment: &Deployment, needs: &Needs) -> Budget {
    let (model, tp, pp) =
        (&deployment.model, deployment.tensor_parallel, f64::from(deployment.pipeline_parallel));
    let weights = weight_bytes(deployment, needs.weights);
    let attention_width = f64::from(model.num_query_heads) * f64::from(model.head_dim);
    let batched_tokens = planner.max_batched_tokens.unwrap_or(needs.vllm.max_batched_tokens);
    let activations =
        WeightFormat::Bf16.bytes() * f64::from(batched_tokens) * attention_width * activation_factor(tp);
    Budget {
        available: deployment.device.memory_gib
            * GIB
            * planner.gpu_memory_utilization.unwrap_or(needs.vllm.gpu_memory_utilization),
        taken: weights
            + activations.max(LEAST_ACTIVATIONS)
            + collectives_bytes(tp)
            + planner.reserve_gib * GIB,
        taken_for: "weights, activations and buffers",
        per_token: weights::kv_bytes_per_token(deployment, needs.kv_cache, needs.max_request_tokens) / pp,
    }
}
