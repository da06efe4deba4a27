//! The shape of a transformer: attention, MLP or experts, and how its weights are published.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use crate::hardware::{Precision, Weights};

/// Shape of a transformer.
///
/// What dense models do not have is left out when it is written, so that these keep their fingerprints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: Cow<'static, str>,
    pub num_layers: u32,
    pub embedding_dim: u32,
    pub num_query_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    /// Of the MLP of layers that are no mixture of experts; 0 where all are.
    pub mlp_hidden_dim: u32,
    pub vocabulary: u32,
    /// Gated MLPs have three weight matrices, plain ones two.
    pub gated_mlp: bool,
    /// Queries and keys are normalised before attention.
    pub qk_norm: bool,
    /// Input embedding and LM head are one matrix.
    pub tied_embeddings: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentAttention>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<Window>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub experts: Option<Experts>,
    /// Number formats of the published weights.
    #[serde(default, skip_serializing_if = "Weights::is_bf16")]
    pub weights: Weights,
    /// Number format of the KV cache that the checkpoint asks for.
    #[serde(default, skip_serializing_if = "Precision::is_bf16")]
    pub kv_cache: Precision,
    /// What is approximated for this model, a sentence each.
    #[serde(skip)]
    pub approximations: Vec<Cow<'static, str>>,
}

/// Multi-head latent attention (DeepSeek-V2): keys and values of all heads are one compressed vector a token,
/// which every device of a tensor-parallel group holds whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LatentAttention {
    /// Width of compressed queries; 0 where queries are not compressed.
    pub query_rank: u32,
    /// Width of compressed keys and values.
    pub kv_rank: u32,
    /// Part of a key that carries the position, the same for all heads.
    pub rope_dim: u32,
    /// Part of a head's query and key without position.
    pub nope_dim: u32,
    /// Value of a head.
    pub value_dim: u32,
    /// Attention to the best tokens only, which a small scan of the whole context chooses (DeepSeek-V3.2).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indexer: Option<Indexer>,
}

/// Chooses the tokens that sparse attention attends to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Indexer {
    pub heads: u32,
    pub head_dim: u32,
    /// Tokens attended to.
    pub top_k: u32,
}

/// Layers that attend to the latest tokens only.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    pub tokens: u32,
    /// Layers with a window; the others attend to everything.
    pub layers: u32,
}

/// A mixture of experts in place of the MLP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Experts {
    pub count: u32,
    /// Experts that one token goes through.
    pub per_token: u32,
    /// Hidden width of one expert.
    pub hidden_dim: u32,
    /// Hidden width of all shared experts together, which every token goes through; 0 without.
    pub shared_hidden_dim: u32,
    /// Layers with an ordinary MLP instead.
    pub dense_layers: u32,
}

impl Model {
    /// Parameters of one layer's attention that are shared out over the devices of a tensor-parallel group,
    /// and those that each holds.
    pub fn attention_parameters(&self) -> (f64, f64) {
        let (hidden, heads) = (f64::from(self.embedding_dim), f64::from(self.num_query_heads));
        let Some(latent) = self.latent else {
            return (
                hidden * f64::from(self.head_dim) * 2.0 * f64::from(self.num_query_heads + self.num_kv_heads),
                0.0,
            );
        };
        let (rank, query) = (f64::from(latent.kv_rank), f64::from(latent.nope_dim + latent.rope_dim));
        let (nope, value) = (f64::from(latent.nope_dim), f64::from(latent.value_dim));
        let query_rank = f64::from(latent.query_rank);
        let queries = if latent.query_rank > 0 { query_rank * heads * query } else { hidden * heads * query };
        let indexer = latent.indexer.map_or(0.0, |indexer| {
            let (heads, width) = (f64::from(indexer.heads), f64::from(indexer.head_dim));
            query_rank * heads * width + hidden * (width + heads)
        });
        let shared_out = queries + rank * heads * (nope + value) + heads * value * hidden;
        (shared_out, hidden * (query_rank + rank + f64::from(latent.rope_dim)) + indexer)
    }

    /// Parameters of an ordinary MLP.
    pub fn mlp_parameters(&self) -> f64 {
        let matrices = if self.gated_mlp { 3.0 } else { 2.0 };
        matrices * f64::from(self.embedding_dim) * f64::from(self.mlp_hidden_dim)
    }

    /// Layers that are mixtures of experts.
    pub fn expert_layers(&self) -> u32 {
        self.experts.map_or(0, |experts| self.num_layers - experts.dense_layers)
    }

    /// Parameters of all transformer layers, norms and biases aside.
    pub fn layer_parameters(&self) -> f64 {
        let (embedding, head) = (f64::from(self.embedding_dim), f64::from(self.head_dim));
        let Some(experts) = self.experts else {
            let attention = match self.latent {
                None => embedding * head * 2.0 * f64::from(self.num_query_heads + self.num_kv_heads),
                Some(_) => self.attention_parameters().0 + self.attention_parameters().1,
            };
            let matrices = if self.gated_mlp { 3.0 } else { 2.0 };
            return f64::from(self.num_layers)
                * (attention + matrices * embedding * f64::from(self.mlp_hidden_dim));
        };
        let (shared_out, held) = self.attention_parameters();
        f64::from(self.num_layers) * (shared_out + held)
            + f64::from(experts.dense_layers) * self.mlp_parameters()
            + f64::from(self.expert_layers())
                * (experts.routed_parameters(self) + experts.shared_parameters(self))
            + f64::from(self.expert_layers()) * f64::from(experts.count) * embedding
    }

    /// Parameters that one token goes through, embeddings aside.
    pub fn active_parameters(&self) -> f64 {
        let idle = self.experts.map_or(0.0, |experts| {
            f64::from(self.expert_layers())
                * experts.routed_parameters(self)
                * (1.0 - f64::from(experts.per_token) / f64::from(experts.count))
        });
        self.layer_parameters() - idle
    }

    /// Parameters of the input embedding, which are as many as those of the LM head.
    pub fn embedding_parameters(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.embedding_dim)
    }

    /// Numbers in the KV cache of one token and layer on a device that holds `kv_heads` of the KV heads.
    pub fn kv_width(&self, kv_heads: f64) -> f64 {
        match self.latent {
            None => 2.0 * f64::from(self.head_dim) * kv_heads,
            Some(latent) => f64::from(latent.kv_rank + latent.rope_dim),
        }
    }

    /// What kind of attention it has, in a word or two.
    pub fn attention_kind(&self) -> &'static str {
        match (self.latent, self.window) {
            (Some(LatentAttention { indexer: Some(_), .. }), _) => "MLA, sparse",
            (Some(_), _) => "MLA",
            (None, Some(window)) if window.layers < self.num_layers => "hybrid",
            (None, Some(_)) => "sliding",
            (None, None) if self.num_kv_heads == self.num_query_heads => "MHA",
            (None, None) => "GQA",
        }
    }
}

impl Experts {
    /// Parameters of one layer's routed experts.
    pub fn routed_parameters(&self, model: &Model) -> f64 {
        f64::from(self.count) * 3.0 * f64::from(model.embedding_dim) * f64::from(self.hidden_dim)
    }

    /// Parameters of one layer's shared experts.
    pub fn shared_parameters(&self, model: &Model) -> f64 {
        3.0 * f64::from(model.embedding_dim) * f64::from(self.shared_hidden_dim)
    }
}
