//! The formulas, in microseconds.

use super::{AnalyticalSettings, Constants, heads_per_device};
use crate::hardware::Precision;
use crate::hardware::attention::PrefillTerms;
use crate::hardware::catalog::Model;

const BF16_BYTES: f64 = 2.0;

/// One model on one tensor-parallel group.
pub(super) struct Formulas {
    constants: Constants,
    weights: Precision,
    kv_bytes: f64,
    qk_norm: bool,
    /// Query and KV heads of one device.
    query_heads: f64,
    kv_heads: f64,
    head_dim: f64,
    hidden: f64,
    /// Width of one device's part of the MLP: its output, and its input (twice as wide if gated).
    mlp: f64,
    mlp_in: f64,
    vocabulary: f64,
    tensor_parallel: f64,
}

/// `(x^p + y^p)^(1/p)`, a maximum with a rounded corner.
fn soft_maximum(x: f64, y: f64, p: f64) -> f64 {
    let largest = x.max(y);
    if largest <= 0.0 { 0.0 } else { largest * ((x / largest).powf(p) + (y / largest).powf(p)).powf(1.0 / p) }
}

impl Formulas {
    pub fn new(model: &Model, tensor_parallel: u32, constants: Constants, settings: &AnalyticalSettings) -> Self {
        let (query_heads, kv_heads) = heads_per_device(model, tensor_parallel);
        let share = f64::from(tensor_parallel);
        let mlp = f64::from(model.mlp_hidden_dim) / share;
        Self {
            constants,
            weights: settings.weights,
            kv_bytes: settings.kv_cache.bytes(),
            qk_norm: model.qk_norm,
            query_heads,
            kv_heads,
            head_dim: model.head_dim.into(),
            hidden: model.embedding_dim.into(),
            mlp,
            mlp_in: if model.gated_mlp { 2.0 * mlp } else { mlp },
            vocabulary: f64::from(model.vocabulary) / share,
            tensor_parallel: share,
        }
    }

    /// Product of an m x k and a k x n matrix.
    fn gemm_us(&self, m: f64, n: f64, k: f64, weights: Precision) -> f64 {
        let c = &self.constants;
        let flops = 2.0 * m * n * k;
        match weights {
            Precision::Bf16 => {
                let compute = flops / (c.peak_bf16_tflops * 1e6 * c.gemm_eff_compute);
                let memory = BF16_BYTES * (m * n + m * k + n * k) / (c.memory_gb_per_s * 1e3 * c.gemm_eff_memory);
                c.gemm_overhead_us + soft_maximum(compute, memory, c.gemm_smooth_p)
            }
            Precision::Fp8 => {
                let compute = flops / (c.peak_fp8_tflops * 1e6 * c.gemm_fp8_eff_compute);
                let memory = (BF16_BYTES * m * n + m * k + n * k) / (c.memory_gb_per_s * 1e3 * c.gemm_fp8_eff_memory);
                c.gemm_fp8_overhead_us + soft_maximum(compute, memory, c.gemm_fp8_smooth_p)
            }
        }
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
        if message < c.all_reduce_switch_bytes {
            c.all_reduce_overhead_us + bus / (c.all_reduce_bus_gb_per_s * 1e3)
        } else {
            c.all_reduce_large_overhead_us + bus / (c.all_reduce_large_bus_gb_per_s * 1e3)
        }
    }

    /// One layer without attention: four matrix products, elementwise operators, two all-reduces.
    pub fn layer_us(&self, tokens: f64) -> f64 {
        let (hidden, head_dim) = (self.hidden, self.head_dim);
        let gemm = |n: f64, k: f64| self.gemm_us(tokens, n, k, self.weights);
        let products = gemm((self.query_heads + 2.0 * self.kv_heads) * head_dim, hidden)
            + gemm(hidden, self.query_heads * head_dim)
            + gemm(self.mlp_in, hidden)
            + gemm(hidden, self.mlp);
        let c = &self.constants;
        let passes = c.elementwise_hidden_passes * hidden
            + self.mlp_in
            + self.mlp
            + c.elementwise_rope_passes * (self.query_heads + self.kv_heads) * head_dim;
        let elementwise = self.elementwise_bytes_us(BF16_BYTES * tokens * passes) + c.elementwise_overhead_us;
        products + elementwise + 2.0 * self.all_reduce_us(tokens)
    }

    /// Token embedding, shared out over the vocabulary.
    pub fn embedding_us(&self, tokens: f64) -> f64 {
        self.all_reduce_us(tokens) + self.elementwise_bytes_us(BF16_BYTES * tokens * self.hidden) + self.constants.embedding_overhead_us
    }

    /// LM head: bf16 whatever the other weights.
    pub fn head_us(&self, rows: f64) -> f64 {
        self.gemm_us(rows, self.vocabulary, self.hidden, Precision::Bf16)
    }

    /// From one pipeline stage to the next.
    pub fn hand_over_us(&self, tokens: f64, link_gb_per_s: f64) -> f64 {
        self.constants.p2p_overhead_us + BF16_BYTES * tokens * self.hidden / (link_gb_per_s * 1e3)
    }

    /// Decode attention of one layer over all cached tokens of a batch.
    pub fn decode_us(&self, cached_tokens: f64) -> f64 {
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
        let c = &self.constants;
        let ms_per_byte = 1e-3 / (c.memory_gb_per_s * 1e3 * c.prefill_attention_eff_memory);
        let cache = 2.0 * self.kv_bytes * self.head_dim * self.kv_heads * ms_per_byte;
        PrefillTerms {
            fixed_ms: (c.prefill_attention_overhead_us + if self.qk_norm { c.qk_norm_overhead_us } else { 0.0 }) * 1e-3,
            ms_per_pair: 4.0 * self.query_heads * self.head_dim * 1e-3 / (c.peak_bf16_tflops * 1e6 * c.prefill_attention_eff_compute),
            ms_per_token: 2.0 * BF16_BYTES * self.head_dim * self.query_heads * ms_per_byte + cache,
            ms_per_cached_token: cache,
        }
    }
}
