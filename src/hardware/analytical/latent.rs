//! Multi-head latent attention (DeepSeek-V2 and V3): prompts attend with keys and values expanded from the
//! compressed cache, decodes in the compressed space ("absorbed"), where all heads read one vector a token.

use super::formulas::Formulas;
use super::roofline::{BF16_BYTES, soft_maximum};
use crate::hardware::attention::{PrefillTerms, ScanTerms};
use crate::hardware::catalog::LatentAttention;

impl Formulas {
    /// Down- and up-projections and the output's. What expands the cache for prompts is what decodes absorb:
    /// the same weights, and as much arithmetic a token.
    pub(super) fn latent_projections_us(&self, tokens: f64) -> f64 {
        let Some(latent) = self.latent else { return 0.0 };
        let (heads, hidden) = (self.query_heads, self.hidden);
        let [query_rank, rank, rope, nope, value] =
            [latent.query_rank, latent.kv_rank, latent.rope_dim, latent.nope_dim, latent.value_dim]
                .map(f64::from);
        let queries = if latent.query_rank > 0 {
            self.product_us(tokens, query_rank + rank + rope, hidden)
                + self.product_us(tokens, heads * (nope + rope), query_rank)
        } else {
            self.product_us(tokens, heads * (nope + rope) + rank + rope, hidden)
        };
        let indexer = latent.indexer.map_or(0.0, |indexer| {
            let (heads, width) = (f64::from(indexer.heads), f64::from(indexer.head_dim));
            self.product_us(tokens, heads * width, query_rank)
                + self.product_us(tokens, width + heads, hidden)
        });
        queries
            + self.product_us(tokens, heads * (nope + value), rank)
            + self.product_us(tokens, hidden, heads * value)
            + indexer
    }

    /// Decode attention of one layer over all cached tokens of a batch that it attends to.
    pub(super) fn latent_decode_us(&self, latent: &LatentAttention, cached_tokens: f64) -> f64 {
        let c = &self.constants;
        let width = f64::from(latent.kv_rank + latent.rope_dim);
        let flops = 2.0 * self.query_heads * (width + f64::from(latent.kv_rank)) * cached_tokens;
        let compute = flops / (c.peak_bf16_tflops * 1e6 * c.mla_decode_eff_compute);
        let memory =
            width * self.kv_bytes * cached_tokens / (c.memory_gb_per_s * 1e3 * c.mla_decode_eff_memory);
        let overhead = if latent.indexer.is_some() { c.sparse_overhead_us } else { c.mla_decode_overhead_us };
        soft_maximum(compute.max(memory), overhead, c.mla_decode_smooth_p)
    }

    /// Prefill attention of one layer.
    pub(super) fn latent_prefill(&self, latent: &LatentAttention) -> PrefillTerms {
        let c = &self.constants;
        if latent.indexer.is_some() {
            return self.sparse_prefill(latent);
        }
        let (query, value) = (f64::from(latent.nope_dim + latent.rope_dim), f64::from(latent.value_dim));
        let ms_per_byte = 1e-3 / (c.memory_gb_per_s * 1e3 * c.mla_prefill_eff_memory);
        let expanded = BF16_BYTES * self.query_heads * (query + value) * ms_per_byte;
        let read = self.kv_bytes * f64::from(latent.kv_rank + latent.rope_dim) * ms_per_byte;
        PrefillTerms {
            fixed_ms: c.mla_prefill_overhead_us * 1e-3,
            ms_per_pair: 2.0 * self.query_heads * (query + value) * 1e-3
                / (c.peak_bf16_tflops * 1e6 * c.mla_prefill_eff_compute),
            ms_per_token: 2.0 * expanded + read,
            // Keys and values of what is cached are expanded again.
            ms_per_cached_token: expanded + read,
        }
    }

    /// Sparse attention of prompts is absorbed too: every token gathers the compressed vectors that it
    /// attends to.
    fn sparse_prefill(&self, latent: &LatentAttention) -> PrefillTerms {
        let c = &self.constants;
        let width = f64::from(latent.kv_rank + latent.rope_dim);
        let compute = 2.0 * self.query_heads * (width + f64::from(latent.kv_rank))
            / (c.peak_bf16_tflops * 1e6 * c.mla_decode_eff_compute);
        let memory = width * self.kv_bytes / (c.memory_gb_per_s * 1e3 * c.sparse_eff_memory);
        PrefillTerms {
            fixed_ms: c.sparse_overhead_us * 1e-3,
            ms_per_pair: compute.max(memory) * 1e-3,
            ms_per_token: 0.0,
            ms_per_cached_token: 0.0,
        }
    }

    /// Sparse attention: choosing the tokens to attend to, by a scan of the whole context in FP8.
    pub(super) fn scan(&self) -> Option<ScanTerms> {
        let indexer = self.latent?.indexer?;
        let c = &self.constants;
        let width = f64::from(indexer.head_dim);
        // Without FP8 units the scan is done in bf16.
        let peak = if c.peak_fp8_tflops > 0.0 { c.peak_fp8_tflops } else { c.peak_bf16_tflops };
        let compute =
            2.0 * f64::from(indexer.heads) * width * 1e-3 / (peak * 1e6 * c.sparse_scan_eff_compute);
        // A key of one byte a number, and its scale.
        let memory = (width + 4.0) * 1e-3 / (c.memory_gb_per_s * 1e3 * c.mla_decode_eff_memory);
        Some(ScanTerms { ms_per_pair: compute, ms_per_cached_token: compute.max(memory) })
    }
}
