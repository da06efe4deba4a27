//! The formulas, in microseconds.

use super::experts::RoutedExperts;
use super::roofline::{BF16_BYTES, peak_tflops, soft_maximum, soft_maximum_of};
use super::{AnalyticalSettings, Constants, heads_per_device};
use crate::hardware::attention::PrefillTerms;
use crate::hardware::catalog::{LatentAttention, Model, Window};
use crate::hardware::{Deployment, WeightFormat, Weights};

/// One model on one tensor-parallel group.
pub(super) struct Formulas {
    pub constants: Constants,
    weights: Weights,
    pub kv_bytes: f64,
    qk_norm: bool,
    /// Query and KV heads of one device.
    pub query_heads: f64,
    kv_heads: f64,
    head_dim: f64,
    pub hidden: f64,
    /// Width of one device's part of the MLP: its output, and its input (twice as wide if gated).
    mlp: f64,
    mlp_in: f64,
    vocabulary: f64,
    pub tensor_parallel: f64,
    pub data_parallel: f64,
    num_layers: f64,
    window: Option<Window>,
    experts: Option<RoutedExperts>,
    pub latent: Option<LatentAttention>,
}

/// Layers that attend to a limited number of tokens, as a share of all.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Limit {
    pub tokens: u32,
    pub share: f64,
}

/// Rows that are computed for `rows`: whole tiles, smaller ones up to half a tile.
fn padded(rows: f64, tile: f64) -> f64 {
    match () {
        () if tile <= 0.0 => rows,
        () if rows > tile / 2.0 => (rows / tile).ceil() * tile,
        () => libm::exp2(libm::log2(rows.max(16.0)).ceil()),
    }
}

impl Formulas {
    pub fn new(deployment: &Deployment, constants: Constants, settings: &AnalyticalSettings) -> Self {
        let (model, tensor_parallel): (&Model, u32) = (&deployment.model, deployment.tensor_parallel);
        let (query_heads, kv_heads) = heads_per_device(model, tensor_parallel);
        let share = f64::from(tensor_parallel);
        let mlp = f64::from(model.mlp_hidden_dim) / share;
        let (weights, kv_cache) = settings.formats(model);
        Self {
            constants,
            weights,
            kv_bytes: kv_cache.bytes(),
            qk_norm: model.qk_norm,
            query_heads,
            kv_heads,
            head_dim: model.head_dim.into(),
            hidden: model.embedding_dim.into(),
            mlp,
            mlp_in: if model.gated_mlp { 2.0 * mlp } else { mlp },
            vocabulary: f64::from(model.vocabulary) / share,
            tensor_parallel: share,
            data_parallel: deployment.data_parallel.into(),
            num_layers: model.num_layers.into(),
            window: model.window,
            experts: model.experts.map(|experts| RoutedExperts::new(&experts, deployment, weights.experts)),
            latent: model.latent,
        }
    }

    /// Product of an m x k and a k x n matrix whose weights are those of layers.
    pub fn product_us(&self, m: f64, n: f64, k: f64) -> f64 {
        self.gemm_us(m, n, k, self.weights.layers)
    }

    /// Product of an m x k and a k x n matrix.
    pub fn gemm_us(&self, m: f64, n: f64, k: f64, weights: WeightFormat) -> f64 {
        let c = &self.constants;
        let flops = 2.0 * m * n * k;
        if weights == WeightFormat::Bf16 || m <= 0.0 {
            let compute = flops / (c.peak_bf16_tflops * 1e6 * c.gemm_eff_compute);
            let memory = BF16_BYTES * (m * n + m * k + n * k) / (c.memory_gb_per_s * 1e3 * c.gemm_eff_memory);
            return c.gemm_overhead_us + soft_maximum(compute, memory, c.gemm_smooth_p);
        }
        let bytes = match weights {
            WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => {
                BF16_BYTES * (m * n + m * k) + weights.bytes() * n * k
            }
            // Activations are rounded to the format of the weights.
            _ => BF16_BYTES * m * n + weights.bytes() * (m * k + n * k),
        };
        let compute = flops * padded(m, c.gemm_fp8_tile_tokens)
            / m
            / (peak_tflops(c, weights) * 1e6 * c.gemm_fp8_eff_compute);
        let memory = bytes / (c.memory_gb_per_s * 1e3 * c.gemm_fp8_eff_memory);
        let rounding = c.gemm_fp8_rounding_passes * m * k / (c.memory_gb_per_s * 1e3);
        // A tile walks along the inner dimension at the pace of its loads, and small products have too few
        // tiles to hide that.
        let inner = c.gemm_fp8_inner_us * k / 1024.0;
        let single = if m == 1.0 { c.gemm_fp8_single_row_us } else { 0.0 };
        c.gemm_fp8_overhead_us
            + soft_maximum_of([compute, memory, inner], c.gemm_fp8_smooth_p)
            + rounding
            + single
    }

    fn elementwise_bytes_us(&self, bytes: f64) -> f64 {
        bytes / (self.constants.memory_gb_per_s * 1e3 * self.constants.elementwise_eff_memory)
    }

    fn all_reduce_us(&self, tokens: f64) -> f64 {
        if self.tensor_parallel == 1.0 {
            return 0.0;
        }
        let c = &self.constants;
        let message = BF16_BYTES * tokens * self.hidden;
        let bus = message * 2.0 * (self.tensor_parallel - 1.0) / self.tensor_parallel;
        let (overhead_us, bus_gb_per_s) = match () {
            () if message >= c.all_reduce_switch_bytes => {
                (c.all_reduce_large_overhead_us, c.all_reduce_large_bus_gb_per_s)
            }
            () if c.all_reduce_two_shot_bytes > 0.0 && message >= c.all_reduce_two_shot_bytes => {
                (c.all_reduce_two_shot_overhead_us, c.all_reduce_two_shot_bus_gb_per_s)
            }
            () => (c.all_reduce_overhead_us, c.all_reduce_bus_gb_per_s),
        };
        overhead_us + bus / (bus_gb_per_s * 1e3)
    }

    /// One layer without attention, the mean of all layers: matrix products, elementwise operators, two
    /// all-reduces.
    pub fn layer_us(&self, tokens: f64) -> f64 {
        match &self.experts {
            None => self.dense_layer_us(tokens),
            Some(experts) => {
                let dense = experts.dense_layers / self.num_layers;
                let of_dense = if dense > 0.0 { dense * self.dense_layer_us(tokens) } else { 0.0 };
                of_dense + (1.0 - dense) * self.expert_layer_us(experts, tokens)
            }
        }
    }

    /// The projections of attention.
    fn projections_us(&self, tokens: f64) -> f64 {
        if self.latent.is_some() {
            return self.latent_projections_us(tokens);
        }
        let (hidden, head_dim) = (self.hidden, self.head_dim);
        self.product_us(tokens, (self.query_heads + 2.0 * self.kv_heads) * head_dim, hidden)
            + self.product_us(tokens, hidden, self.query_heads * head_dim)
    }

    fn dense_layer_us(&self, tokens: f64) -> f64 {
        let products = self.projections_us(tokens)
            + self.product_us(tokens, self.mlp_in, self.hidden)
            + self.product_us(tokens, self.hidden, self.mlp);
        let c = &self.constants;
        let passes = c.elementwise_hidden_passes * self.hidden + self.mlp_in + self.mlp + self.rope_passes();
        let elementwise = self.elementwise_bytes_us(BF16_BYTES * tokens * passes) + c.elementwise_overhead_us;
        products + elementwise + 2.0 * self.all_reduce_us(tokens)
    }

    /// Rotary embedding, where it is counted among elementwise operators.
    fn rope_passes(&self) -> f64 {
        self.constants.elementwise_rope_passes * (self.query_heads + self.kv_heads) * self.head_dim
    }

    /// A layer whose MLP is a mixture of experts: router, dispatch, routed experts, combine, and shared
    /// experts beside or behind them.
    fn expert_layer_us(&self, experts: &RoutedExperts, tokens: f64) -> f64 {
        let c = &self.constants;
        let router = self.gemm_us(tokens, experts.count, self.hidden, WeightFormat::Bf16);
        let routed = router
            + experts.us(c, self.hidden, tokens * self.data_parallel)
            + self.dispatch_and_combine_us(tokens);
        let shared = if experts.shared > 0.0 {
            let width = experts.shared / self.tensor_parallel;
            self.product_us(tokens, 2.0 * width, self.hidden)
                + self.product_us(tokens, self.hidden, width)
                + self.elementwise_bytes_us(BF16_BYTES * tokens * 3.0 * width)
                + c.elementwise_overhead_us / 3.0
        } else {
            0.0
        };
        let mixture =
            if tokens <= c.moe_shared_overlap_tokens { routed.max(shared) } else { routed + shared };
        // Two norms with residuals; the activation is part of the experts.
        let passes = c.elementwise_hidden_passes * self.hidden + self.rope_passes();
        let elementwise =
            self.elementwise_bytes_us(BF16_BYTES * tokens * passes) + c.elementwise_overhead_us * 2.0 / 3.0;
        self.projections_us(tokens) + mixture + elementwise + self.all_reduce_us(tokens)
    }

    /// Tokens to the experts and back. Within a tensor-parallel group every device has all tokens, so that
    /// what is left is the all-reduce of their outputs; between groups they are gathered before and scattered
    /// behind.
    fn dispatch_and_combine_us(&self, tokens: f64) -> f64 {
        if self.data_parallel == 1.0 {
            return self.all_reduce_us(tokens);
        }
        let c = &self.constants;
        let groups = self.data_parallel;
        let message = BF16_BYTES * tokens * groups * self.hidden * (groups - 1.0) / groups;
        2.0 * (c.gather_overhead_us + message / (c.gather_bus_gb_per_s * 1e3))
    }

    /// Token embedding, shared out over the vocabulary.
    pub fn embedding_us(&self, tokens: f64) -> f64 {
        self.all_reduce_us(tokens)
            + self.elementwise_bytes_us(BF16_BYTES * tokens * self.hidden)
            + self.constants.embedding_overhead_us
    }

    /// LM head: bf16 whatever the other weights.
    pub fn head_us(&self, rows: f64) -> f64 {
        self.gemm_us(rows, self.vocabulary, self.hidden, WeightFormat::Bf16)
    }

    /// From one pipeline stage to the next.
    pub fn hand_over_us(&self, tokens: f64, link_gb_per_s: f64) -> f64 {
        self.constants.p2p_overhead_us + BF16_BYTES * tokens * self.hidden / (link_gb_per_s * 1e3)
    }

    /// Decode attention of one layer over all cached tokens of a batch that it attends to.
    pub fn decode_us(&self, cached_tokens: f64) -> f64 {
        if let Some(latent) = self.latent {
            return self.latent_decode_us(&latent, cached_tokens);
        }
        let c = &self.constants;
        let bytes = 2.0 * self.kv_bytes * self.kv_heads * self.head_dim * cached_tokens;
        soft_maximum(
            bytes / (c.memory_gb_per_s * 1e3 * c.decode_attention_eff_memory),
            c.decode_attention_overhead_us,
            c.decode_attention_smooth_p,
        )
    }

    /// Prefill attention of one layer, as coefficients of a batch's sums.
    pub fn prefill(&self) -> PrefillTerms {
        if let Some(latent) = self.latent {
            return self.latent_prefill(&latent);
        }
        let c = &self.constants;
        let ms_per_byte = 1e-3 / (c.memory_gb_per_s * 1e3 * c.prefill_attention_eff_memory);
        let cache = 2.0 * self.kv_bytes * self.head_dim * self.kv_heads * ms_per_byte;
        PrefillTerms {
            fixed_ms: (c.prefill_attention_overhead_us
                + if self.qk_norm { c.qk_norm_overhead_us } else { 0.0 })
                * 1e-3,
            ms_per_pair: 4.0 * self.query_heads * self.head_dim * 1e-3
                / (c.peak_bf16_tflops * 1e6 * c.prefill_attention_eff_compute),
            ms_per_token: 2.0 * BF16_BYTES * self.head_dim * self.query_heads * ms_per_byte + cache,
            ms_per_cached_token: cache,
        }
    }

    /// What limits the tokens attended to: a window in some layers, or sparse attention in all.
    pub fn attention_limit(&self) -> Option<Limit> {
        if let Some(indexer) = self.latent.and_then(|latent| latent.indexer) {
            return Some(Limit { tokens: indexer.top_k, share: 1.0 });
        }
        let window = self.window?;
        Some(Limit { tokens: window.tokens, share: f64::from(window.layers) / self.num_layers })
    }
}
