//! How many KV blocks fit beside the weights: the reference's memory planner.
//!
//! Source: microsoft/vidur `vidur/utils/memory_planner.py` and `param_counter.py`. Two oddities are kept, because results published with
//! the reference rest on them: weights count transformer layers only (no embedding, no head), and with pipelining every device is charged
//! the KV cache of *all* layers, after which blocks are multiplied by the number of stages.

use super::catalog::{Device, Model};

/// What one replica can hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvCapacity {
    pub num_blocks: u32,
    /// Requests of the maximum length that fit at once.
    pub max_requests: u32,
}

/// A model that leaves no room for one request of the maximum length.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{model} does not fit: with tensor parallel {tensor_parallel} and pipeline parallel {pipeline_parallel} each {device} needs {weights_gib:.1} GiB for weights \
     and {request_gib:.2} GiB for one request of {max_request_tokens} tokens, but has {available_gib:.1} GiB; {remedy}"
)]
pub struct DoesNotFit {
    model: String,
    device: String,
    tensor_parallel: u32,
    pipeline_parallel: u32,
    weights_gib: f64,
    request_gib: f64,
    available_gib: f64,
    max_request_tokens: u32,
    remedy: String,
}

/// What the planner is asked for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Deployment {
    pub tensor_parallel: u32,
    pub pipeline_parallel: u32,
    pub max_request_tokens: u32,
    pub block_size_tokens: u32,
    /// Share of device memory left unused.
    pub memory_margin_fraction: f64,
}

const GIB: f64 = 1024.0 * 1024.0 * 1024.0;
const BYTES_PER_VALUE: f64 = 2.0;

/// Weights of one device, bytes: attention and MLP matrices of its share of layers and heads.
pub fn weight_bytes(model: &Model, deployment: &Deployment) -> f64 {
    let tp = f64::from(deployment.tensor_parallel);
    let query_heads = f64::from(model.num_query_heads) / tp;
    let kv_heads = f64::from(model.num_kv_heads.div_ceil(deployment.tensor_parallel));
    let (embedding, head) = (f64::from(model.embedding_dim), f64::from(model.head_dim));
    let mlp_matrices = if model.gated_mlp { 3.0 } else { 2.0 };
    let mlp = mlp_matrices * embedding * f64::from(model.mlp_hidden_dim / deployment.tensor_parallel);
    let per_layer = embedding * head * (query_heads + 2.0 * kv_heads) + embedding * head * query_heads + mlp;
    BYTES_PER_VALUE * per_layer * f64::from(model.num_layers / deployment.pipeline_parallel)
}

/// KV cache of one request of the maximum length on one device, bytes.
fn request_bytes(model: &Model, deployment: &Deployment) -> f64 {
    let kv_heads = f64::from(model.num_kv_heads.div_ceil(deployment.tensor_parallel));
    BYTES_PER_VALUE * 2.0 * f64::from(model.head_dim) * kv_heads * f64::from(deployment.max_request_tokens) * f64::from(model.num_layers)
}

/// Plans the KV cache of one replica.
pub fn plan(model: &Model, device: &Device, deployment: &Deployment) -> Result<KvCapacity, DoesNotFit> {
    let available = device.memory_gib * GIB * (1.0 - deployment.memory_margin_fraction);
    let requests = |deployment: &Deployment| ((available - weight_bytes(model, deployment)) / request_bytes(model, deployment)).floor();
    let max_requests = requests(deployment);
    if max_requests < 1.0 {
        let fits = |&tp: &u32| model.num_query_heads % tp == 0 && requests(&Deployment { tensor_parallel: tp, ..*deployment }) >= 1.0;
        return Err(DoesNotFit {
            model: model.name.into(),
            device: device.name.into(),
            tensor_parallel: deployment.tensor_parallel,
            pipeline_parallel: deployment.pipeline_parallel,
            weights_gib: weight_bytes(model, deployment) / GIB,
            request_gib: request_bytes(model, deployment) / GIB,
            available_gib: available / GIB,
            max_request_tokens: deployment.max_request_tokens,
            remedy: match [1, 2, 4, 8, 16].iter().find(|tp| fits(tp)) {
                Some(tp) => format!("the smallest `tensor_parallel` that fits is {tp}"),
                None => "no `tensor_parallel` up to 16 fits: take a larger device or a smaller `max_request_tokens`".into(),
            },
        });
    }
    let per_request = deployment.max_request_tokens / deployment.block_size_tokens;
    Ok(KvCapacity { num_blocks: per_request * max_requests as u32 * deployment.pipeline_parallel, max_requests: max_requests as u32 })
}

#[cfg(test)]
mod tests {
    use super::super::catalog;
    use super::*;

    fn deployment(tp: u32, pp: u32, max_request_tokens: u32) -> Deployment {
        Deployment { tensor_parallel: tp, pipeline_parallel: pp, max_request_tokens, block_size_tokens: 16, memory_margin_fraction: 0.1 }
    }

    /// The figures of the reference implementation.
    #[test]
    fn reference_figures() {
        let (model, device) = (&catalog::MODELS[0], catalog::device("a100").unwrap());
        assert_eq!(plan(model, device, &deployment(4, 1, 4096)), Ok(KvCapacity { num_blocks: 32768, max_requests: 128 }));
        assert_eq!(plan(model, device, &deployment(2, 2, 4096)), Ok(KvCapacity { num_blocks: 32768, max_requests: 64 }));
        assert_eq!(plan(model, device, &deployment(4, 1, 1024)), Ok(KvCapacity { num_blocks: 32832, max_requests: 513 }));
    }

    #[test]
    fn says_what_would_fit() {
        let (model, device) = (&catalog::MODELS[0], catalog::device("a100").unwrap());
        let error = plan(model, device, &deployment(1, 1, 4096)).unwrap_err().to_string();
        assert!(error.contains("the smallest `tensor_parallel` that fits is 2"), "{error}");
    }
}
