//! Bytes that one device holds: weights, and the KV cache of a token.

use crate::hardware::{Deployment, Precision, WeightFormat, Weights};

const BF16: WeightFormat = WeightFormat::Bf16;

/// Weights of the transformer layers of one device of a model that is not dense with ordinary attention.
pub(super) fn layer_bytes(deployment: &Deployment, weights: Weights) -> f64 {
    let model = &deployment.model;
    let share = f64::from(deployment.tensor_parallel);
    let (shared_out, held) = model.attention_parameters();
    let attention = weights.layers.bytes() * (shared_out / share + held);
    let mlp = weights.layers.bytes() * model.mlp_parameters() / share;
    let Some(experts) = model.experts else {
        return f64::from(model.num_layers) * (attention + mlp) / f64::from(deployment.pipeline_parallel);
    };
    let expert_devices = f64::from(deployment.expert_parallel * deployment.expert_tensor_parallel());
    let mixture = weights.experts.bytes() * experts.routed_parameters(model) / expert_devices
        + weights.layers.bytes() * experts.shared_parameters(model) / share
        // Every device has the whole router.
        + BF16.bytes() * f64::from(model.embedding_dim) * f64::from(experts.count);
    let layers = f64::from(model.num_layers) * attention
        + f64::from(experts.dense_layers) * mlp
        + f64::from(model.expert_layers()) * mixture;
    layers / f64::from(deployment.pipeline_parallel)
}

/// KV cache of one token on one device, of all layers.
///
/// A layer with a window keeps the latest tokens only: of a request of the longest length the part that it
/// keeps is what a token counts.
pub(super) fn kv_bytes_per_token(
    deployment: &Deployment,
    kv_cache: Precision,
    max_request_tokens: u32,
) -> f64 {
    let model = &deployment.model;
    let kv_heads = f64::from(model.num_kv_heads.div_ceil(deployment.tensor_parallel));
    let indexer = model.latent.and_then(|latent| latent.indexer);
    // A key of one byte a number with a scale of four.
    let scanned = indexer.map_or(0.0, |indexer| f64::from(indexer.head_dim) + 4.0);
    let of_layer = kv_cache.bytes() * model.kv_width(kv_heads) + scanned;
    let kept = model.window.map_or(0.0, |window| {
        let kept = (f64::from(window.tokens) / f64::from(max_request_tokens.max(1))).min(1.0);
        f64::from(window.layers) * (1.0 - kept)
    });
    of_layer * (f64::from(model.num_layers) - kept)
}

/// Whether the reference's formulas for dense models with full attention hold.
pub(super) fn is_plain(deployment: &Deployment) -> bool {
    let model = &deployment.model;
    model.experts.is_none() && model.latent.is_none() && model.window.is_none()
}
