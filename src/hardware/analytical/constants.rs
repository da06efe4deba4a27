//! The constants of the analytical model: what each means, and that a grid may give any of them another
//! value.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

macro_rules! constants {
    ($($(#[doc = $doc:literal])+ $field:ident),+ $(,)?) => {
        /// Everything the formulas depend on besides model, split and batch.
        #[derive(Debug, Clone, Copy, PartialEq, Default)]
        pub struct Constants { $($(#[doc = $doc])+ pub $field: f64),+ }

        /// Constants to use instead of the device's own.
        #[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct ConstantOverrides {
            $($(#[doc = $doc])+ #[serde(skip_serializing_if = "Option::is_none")] pub $field: Option<f64>),+
        }

        impl Constants {
            /// Name, meaning with unit, and value of each.
            pub fn list(&self) -> Vec<(&'static str, String, f64)> {
                vec![$((stringify!($field), [$($doc),+].concat().trim().to_string(), self.$field)),+]
            }

            pub fn with(mut self, overrides: &ConstantOverrides) -> Self {
                $(if let Some(value) = overrides.$field { self.$field = value; })+
                self
            }
        }

        impl ConstantOverrides {
            /// Names of the constants given.
            pub fn given(&self) -> Vec<&'static str> {
                let mut names = Vec::new();
                $(if self.$field.is_some() { names.push(stringify!($field)); })+
                names
            }

            pub fn check(&self, faults: &mut Faults) {
                $(if let Some(value) = self.$field {
                    let name = stringify!($field);
                    if name.starts_with("moe_width") {
                        // Slopes have either sign.
                    } else if name.ends_with("_us") || name.ends_with("_passes") || name.ends_with("_tokens") || name == "moe_imbalance" || name == "all_reduce_two_shot_bytes" {
                        faults.not_negative(stringify!($field), value);
                    } else {
                        faults.positive(stringify!($field), value);
                    }
                })+
            }
        }
    };
}

constants! {
    /// Peak of bf16 matrix arithmetic, Tflop/s, dense. Data sheet.
    peak_bf16_tflops,
    /// Peak of FP8 matrix arithmetic, Tflop/s, dense; 0 without FP8 units. Data sheet.
    peak_fp8_tflops,
    /// Peak of 4-bit float matrix arithmetic, Tflop/s, dense; 0 without such units. Data sheet.
    peak_fp4_tflops,
    /// Memory bandwidth, GB/s. Data sheet.
    memory_gb_per_s,
    /// Link to the other devices of the node, one direction, GB/s. Data sheet.
    link_gb_per_s,
    /// Link to devices of other nodes, one direction, GB/s. Data sheet.
    inter_node_gb_per_s,
    /// Handing a batch to the next pipeline stage: fixed part, us.
    p2p_overhead_us,
    /// Matrix product: share of the bf16 peak reached when compute-bound.
    gemm_eff_compute,
    /// Matrix product: share of the memory bandwidth reached when memory-bound.
    gemm_eff_memory,
    /// Matrix product: fixed part, us.
    gemm_overhead_us,
    /// Matrix product: exponent of the soft maximum of compute and memory time.
    gemm_smooth_p,
    /// Matrix product with quantised weights (FP8 and the formats named in their stead): share of the peak
    /// reached when compute-bound.
    gemm_fp8_eff_compute,
    /// Matrix product with quantised weights: share of the memory bandwidth reached when memory-bound.
    gemm_fp8_eff_memory,
    /// Matrix product with quantised weights: fixed part, us.
    gemm_fp8_overhead_us,
    /// Matrix product with quantised weights: exponent of the soft maximum of compute and memory time.
    gemm_fp8_smooth_p,
    /// Matrix product with quantised weights: bytes moved for each number of the input, to round it to their
    /// format.
    gemm_fp8_rounding_passes,
    /// Matrix product with quantised weights: rows of a tile, to a multiple of which a product's rows are
    /// padded; 0: not at all.
    gemm_fp8_tile_tokens,
    /// Matrix product with quantised weights: what a tile takes for each 1,024 numbers of the inner
    /// dimension, however few tiles there are, us.
    gemm_fp8_inner_us,
    /// Matrix product with quantised weights: added for a single row, for which some libraries have no
    /// kernel, us.
    gemm_fp8_single_row_us,
    /// Prefill attention: share of the bf16 peak reached.
    prefill_attention_eff_compute,
    /// Prefill attention: cost of each token read or written, as a share of the memory bandwidth. A fit, may
    /// exceed 1.
    prefill_attention_eff_memory,
    /// Prefill attention, rotary embedding and cache write: fixed part per layer, us.
    prefill_attention_overhead_us,
    /// Normalising queries and keys, in models that do: per layer and step with prefills, us.
    qk_norm_overhead_us,
    /// Decode attention: share of the memory bandwidth reached reading the KV cache, in the cache's format. A
    /// fit, may exceed 1.
    decode_attention_eff_memory,
    /// Decode attention: time per layer when the cache read is small, us.
    decode_attention_overhead_us,
    /// Decode attention: exponent of the soft maximum of cache reading and fixed time. A fit, may be below 1.
    decode_attention_smooth_p,
    /// Norms, residuals and activation: memory passes over the hidden state, per token and layer.
    elementwise_hidden_passes,
    /// Norms, residuals and activation: memory passes over queries and keys, per token and layer.
    elementwise_rope_passes,
    /// Norms, residuals and activation: share of the memory bandwidth reached.
    elementwise_eff_memory,
    /// Norms, residuals and activation: fixed part per layer, us.
    elementwise_overhead_us,
    /// Token embedding: fixed part per step, us.
    embedding_overhead_us,
    /// All-reduce below the switch: fixed part, us. Of the tensor parallel degree in use.
    all_reduce_overhead_us,
    /// All-reduce below the switch: bus bandwidth, GB/s. Of the tensor parallel degree in use.
    all_reduce_bus_gb_per_s,
    /// All-reduce from the switch on: fixed part, us. Of the tensor parallel degree in use.
    all_reduce_large_overhead_us,
    /// All-reduce from the switch on: bus bandwidth, GB/s. Of the tensor parallel degree in use.
    all_reduce_large_bus_gb_per_s,
    /// All-reduce in two shots, between all at once and from the switch on: fixed part, us. Of the tensor
    /// parallel degree in use.
    all_reduce_two_shot_overhead_us,
    /// All-reduce in two shots: bus bandwidth, GB/s. Of the tensor parallel degree in use.
    all_reduce_two_shot_bus_gb_per_s,
    /// All-reduce: message size from which it takes two shots, bytes; 0 where that makes no difference.
    all_reduce_two_shot_bytes,
    /// All-reduce: message size at which the library changes its algorithm, bytes.
    all_reduce_switch_bytes,
    /// All-gather and reduce-scatter between groups that share experts: fixed part, us.
    gather_overhead_us,
    /// All-gather and reduce-scatter between groups that share experts: bus bandwidth, GB/s.
    gather_bus_gb_per_s,
    /// Routed experts: fixed part per layer, us.
    moe_overhead_us,
    /// Routed experts: added to the fixed part for each doubling of the experts hit, us.
    moe_overhead_per_octave_us,
    /// Routed experts: share of the peak reached when compute-bound, for experts 1,024 wide on each device.
    moe_eff_compute,
    /// Routed experts: share of the memory bandwidth reached when memory-bound. A fit, may exceed 1 where
    /// fewer experts are hit.
    moe_eff_memory,
    /// Routed experts: exponent of the soft maximum of compute and memory time.
    moe_smooth_p,
    /// Routed experts: tokens added to those of each expert hit, as tiles are not full.
    moe_tile_tokens,
    /// Routed experts: tokens that hit as many experts as one does when they choose independently; below 1
    /// they choose alike.
    moe_spread,
    /// Routed experts: the fullest of n groups has n to this power times the mean.
    moe_imbalance,
    /// Routed experts: compute efficiency changes by 2 to this power with each doubling of their width.
    moe_width_slope,
    /// Routed experts: how that changes in turn.
    moe_width_curve,
    /// Routed experts: memory efficiency changes by 2 to this power with each doubling of their width.
    moe_width_memory_slope,
    /// Tokens up to which shared experts are computed beside the routed ones, on a stream of their own
    /// (vLLM).
    moe_shared_overlap_tokens,
    /// Latent attention, prefill: share of the bf16 peak reached.
    mla_prefill_eff_compute,
    /// Latent attention, prefill: share of the memory bandwidth reached by what is moved for each token.
    mla_prefill_eff_memory,
    /// Latent attention, prefill: fixed part per layer, us.
    mla_prefill_overhead_us,
    /// Latent attention, decode: share of the bf16 peak reached.
    mla_decode_eff_compute,
    /// Latent attention, decode: share of the memory bandwidth reached reading the KV cache.
    mla_decode_eff_memory,
    /// Latent attention, decode: time per layer when the cache read is small, us.
    mla_decode_overhead_us,
    /// Latent attention, decode: exponent of the soft maximum of cache reading and fixed time.
    mla_decode_smooth_p,
    /// Sparse attention: fixed part per layer, us.
    sparse_overhead_us,
    /// Sparse attention: share of the memory bandwidth reached gathering the tokens attended to.
    sparse_eff_memory,
    /// Sparse attention: share of the FP8 peak reached scanning the context.
    sparse_scan_eff_compute,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_replace_what_they_name() {
        let overrides: ConstantOverrides = serde_json::from_str(r#"{"gemm_overhead_us": 5}"#).unwrap();
        let constants = Constants { gemm_smooth_p: 2.0, ..Constants::default() }.with(&overrides);
        assert_eq!((constants.gemm_overhead_us, constants.gemm_smooth_p), (5.0, 2.0));
        assert_eq!(overrides.given(), ["gemm_overhead_us"]);
        assert!(serde_json::from_str::<ConstantOverrides>(r#"{"gemm_overhead": 5}"#).is_err());
    }

    #[test]
    fn impossible_values_are_faults() {
        let overrides: ConstantOverrides =
            serde_json::from_str(r#"{"gemm_overhead_us": 0, "gemm_smooth_p": 0, "gemm_eff_memory": -1}"#)
                .unwrap();
        let mut faults = Faults::default();
        overrides.check(&mut faults);
        assert_eq!(
            faults.found.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(),
            ["gemm_eff_memory", "gemm_smooth_p"]
        );
    }

    #[test]
    fn every_constant_says_what_it_is() {
        assert!(
            Constants::default()
                .list()
                .iter()
                .all(|(_, meaning, _)| meaning.ends_with('.') && meaning.len() > 20)
        );
    }
}
