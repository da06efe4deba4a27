//! The reference's memory planner.
//!
//! Source: microsoft/vidur `vidur/utils/memory_planner.py` and `param_counter.py`. Two oddities are kept,
//! because results published with the reference rest on them: weights count transformer layers only (no
//! embedding, no head), and with pipelining every device is charged the KV cache of *all* layers, after which
//! blocks are multiplied by the number of stages. What it does not know (experts, latent attention, windows,
//! quantised weights) is counted by its rule: of layers everything.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Budget, GIB, Needs, weights};
use crate::hardware::{Deployment, Weights};

/// The reference's formula: device memory less `memory_margin_fraction` less the weights of transformer
/// layers.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct VidurPlanner {}

/// Attention and MLP matrices of one device's share of layers and heads.
pub(super) fn weight_bytes(deployment: &Deployment, weights: Weights) -> f64 {
    let model = &deployment.model;
    if !weights::is_plain(deployment) {
        return weights::layer_bytes(deployment, weights);
    }
    let tp = f64::from(deployment.tensor_parallel);
    let query_heads = f64::from(model.num_query_heads) / tp;
    let kv_heads = f64::from(model.num_kv_heads.div_ceil(deployment.tensor_parallel));
    let (embedding, head) = (f64::from(model.embedding_dim), f64::from(model.head_dim));
    let mlp_matrices = if model.gated_mlp { 3.0 } else { 2.0 };
    let mlp = mlp_matrices * embedding * f64::from(model.mlp_hidden_dim / deployment.tensor_parallel);
    let per_layer = embedding * head * (query_heads + 2.0 * kv_heads) + embedding * head * query_heads + mlp;
    weights.layers.bytes() * per_layer * f64::from(model.num_layers / deployment.pipeline_parallel)
}

pub(super) fn budget(deployment: &Deployment, needs: &Needs) -> Budget {
    Budget {
        available: deployment.device.memory_gib * GIB * (1.0 - needs.memory_margin_fraction),
        taken: weight_bytes(deployment, needs.weights),
        taken_for: "weights",
        per_token: weights::kv_bytes_per_token(deployment, needs.kv_cache, needs.max_request_tokens),
    }
}

pub(super) fn num_blocks(deployment: &Deployment, needs: &Needs, max_requests: u32) -> u32 {
    needs.max_request_tokens / needs.block_size_tokens * max_requests * deployment.pipeline_parallel
}
