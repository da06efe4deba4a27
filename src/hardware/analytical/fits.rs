//! Fitted values of the constants, by device, tensor parallel degree and node.
//!
//! `AICONFIGURATOR` fits: bf16 constants on half of the Llama-3.1-8B and 70B shapes of aiconfigurator-core 0.12.0
//! (Apache-2.0), vLLM lane (0.14.0 on the A100, 0.24.0 on the others); constants of quantised products
//! ([`QUANTISED`]) and latent attention ([`LATENT`]) on its tables, all-reduce on its CUDA-graph all-reduce
//! table. `VIDUR` fits: matrix products and elementwise operators of the A40 on `mlp.csv`, all-reduce on
//! `all_reduce.csv` of microsoft/vidur (MIT). Devices without a fit of their own take the medians of the five
//! that have one.

use super::constants::Constants;
use crate::hardware::catalog::{Device, Link};
use crate::hardware::{Precision, WeightFormat};

/// How far constants rest on measurements of the device itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fit {
    Fitted(&'static str),
    Partly(&'static str),
    /// Data-sheet peaks with the efficiencies of other devices: expect errors of 5 to 15 %.
    Unfitted,
}

impl Fit {
    pub fn describe(self) -> &'static str {
        match self {
            Self::Fitted(source) | Self::Partly(source) => source,
            Self::Unfitted => "UNFITTED: data sheet and median efficiencies of other devices",
        }
    }
}

struct DeviceFit {
    device: &'static str,
    fit: Fit,
    /// Efficiency of compute and of memory, overhead us, exponent.
    gemm: [f64; 4],
    /// Efficiency of compute and of memory, overhead us.
    prefill_attention: [f64; 3],
    /// Efficiency of memory, overhead us, exponent.
    decode_attention: [f64; 3],
    elementwise: Elementwise,
    all_reduce: &'static [AllReduceFit],
}

/// Passes over hidden state and over queries and keys, efficiency of memory, overhead us.
type Elementwise = [f64; 4];
/// Tensor parallel degree; overhead us and bus GB/s below the switch, and from it on.
type AllReduceFit = (u32, [f64; 4]);

const AICONFIGURATOR: Fit = Fit::Fitted("fitted to aiconfigurator-core 0.12.0, vLLM 0.24.0");
/// Analytic terms of that package: two norms with residuals and the gate, 3 us each, at 80 % of the
/// bandwidth.
const AICONFIGURATOR_ELEMENTWISE: Elementwise = [8.0, 0.0, 0.8, 9.0];
/// Matrix products with quantised weights: efficiency of compute and of memory, overhead us, exponent, bytes
/// moved to round one number, rows of a tile; what a tile takes along 1,024 numbers of the inner dimension
/// us, what a single row takes more us.
type QuantisedFigures = [f64; 8];

/// Fitted here to the products of aiconfigurator-core 0.12.0, vLLM 0.24.0, of n and k from 1,024 to 65,536,
/// large ones weighing more; FP8 in blocks to those of vLLM 0.25.0 in aisimulate 0.13.0 (the older ones were
/// timed without CUDA graphs). Products of few tiles take as long as the way of one tile along the inner
/// dimension: without that the mean error of a product is 8 to 14 %, with it 6 to 12 %; it is not known of
/// FP8 in blocks, nor of the L40S and the RTX PRO 6000. On Blackwell a single row with FP8 weights takes 14
/// to 18 us more than two. The H100's and H200's efficiencies of compute, per tensor, were then raised by a
/// fifth to meet whole steps of Llama-3.1 and Qwen3.
const QUANTISED: &[(&str, WeightFormat, QuantisedFigures)] = &[
    ("h100", WeightFormat::Fp8, [0.749, 0.875, 5.95, 2.44, 8.11, 256.0, 0.945, 0.0]),
    ("h100", WeightFormat::Fp8Static, [0.74, 0.889, 5.61, 2.5, 6.85, 256.0, 0.712, 0.0]),
    ("h100", WeightFormat::Fp8Block, [0.757, 0.878, 7.6, 1.95, 8.8, 256.0, 0.0, 0.0]),
    ("h200", WeightFormat::Fp8, [0.802, 0.84, 6.24, 2.06, 12.4, 256.0, 0.782, 0.0]),
    ("h200", WeightFormat::Fp8Static, [0.804, 0.86, 5.82, 2.04, 10.4, 256.0, 0.636, 0.0]),
    ("h200", WeightFormat::Fp8Block, [0.75, 0.841, 7.79, 2.13, 11.6, 256.0, 0.0, 0.0]),
    ("b200", WeightFormat::Fp8, [0.755, 0.847, 5.64, 1.96, 17.8, 256.0, 0.742, 14.4]),
    ("b200", WeightFormat::Fp8Static, [0.753, 0.856, 5.23, 2.05, 15.0, 256.0, 0.635, 14.3]),
    ("b200", WeightFormat::Fp8Block, [0.674, 0.877, 14.3, 3.51, 5.95, 128.0, 0.0, 0.0]),
    ("b200", WeightFormat::Nvfp4, [0.533, 0.762, 6.39, 1.98, 3.75, 128.0, 0.59, 0.0]),
    ("b300", WeightFormat::Fp8, [0.817, 0.841, 5.23, 1.88, 17.3, 256.0, 0.732, 14.0]),
    ("b300", WeightFormat::Fp8Static, [0.815, 0.852, 4.92, 1.94, 14.6, 256.0, 0.612, 14.0]),
    ("b300", WeightFormat::Fp8Block, [0.771, 0.855, 13.6, 3.08, 6.57, 256.0, 0.0, 0.0]),
    ("b300", WeightFormat::Nvfp4, [0.592, 0.758, 5.91, 1.88, 3.9, 128.0, 0.552, 0.0]),
    ("gb200", WeightFormat::Fp8, [0.769, 0.877, 6.18, 1.76, 17.2, 256.0, 0.699, 17.7]),
    ("gb200", WeightFormat::Fp8Static, [0.767, 0.891, 5.84, 1.82, 14.4, 256.0, 0.579, 17.7]),
    ("gb200", WeightFormat::Fp8Block, [0.643, 0.874, 14.7, 2.71, 7.54, 256.0, 0.0, 0.0]),
    ("gb200", WeightFormat::Nvfp4, [0.505, 0.786, 6.87, 1.97, 3.58, 128.0, 0.578, 0.0]),
    ("gb300", WeightFormat::Fp8, [0.84, 0.844, 5.88, 1.73, 16.8, 256.0, 0.686, 16.8]),
    ("gb300", WeightFormat::Fp8Static, [0.839, 0.853, 5.54, 1.77, 14.2, 256.0, 0.569, 16.6]),
    ("gb300", WeightFormat::Fp8Block, [0.761, 0.852, 14.4, 2.91, 6.65, 256.0, 0.0, 0.0]),
    ("gb300", WeightFormat::Nvfp4, [0.584, 0.785, 6.8, 1.8, 3.99, 128.0, 0.551, 0.0]),
    ("l40s", WeightFormat::Fp8, [0.562, 0.697, 0.0, 1.68, 3.17, 0.0, 0.0, 0.0]),
    ("l40s", WeightFormat::Fp8Static, [0.561, 0.704, 0.0, 1.69, 2.95, 0.0, 0.0, 0.0]),
    ("rtx_pro_6000_server", WeightFormat::Fp8, [0.918, 0.831, 4.19, 1.73, 5.25, 64.0, 0.0, 0.0]),
    ("rtx_pro_6000_server", WeightFormat::Fp8Static, [0.917, 0.835, 3.55, 1.73, 4.89, 64.0, 0.0, 0.0]),
    ("rtx_pro_6000_server", WeightFormat::Nvfp4, [0.731, 0.684, 10.7, 9.38, 2.56, 128.0, 0.0, 0.0]),
];

/// Latent attention: prefill (efficiency of compute and of memory, overhead us); decode (the same, and the
/// exponent). Fitted here to the tables of DeepSeek-V3's attention of aiconfigurator-core 0.12.0, vLLM 0.24.0,
/// less its matrix products; mean error of a layer 4 to 9 % in prefill and 6 to 15 % in decode (19 % on the
/// L40S).
const LATENT: &[(&str, [f64; 3], [f64; 4])] = &[
    ("h100", [0.99, 0.165, 102.0], [0.76, 0.94, 78.0, 0.785]),
    ("h200", [0.93, 0.142, 93.0], [0.78, 0.85, 74.0, 0.78]),
    ("b200", [0.98, 0.42, 26.7], [0.67, 0.88, 17.3, 0.6]),
    ("b300", [0.95, 0.096, 84.0], [0.8, 0.84, 66.7, 0.68]),
    ("gb200", [0.825, 0.086, 86.0], [0.8, 0.84, 70.0, 0.685]),
    ("gb300", [0.855, 0.09, 81.0], [0.75, 0.83, 67.6, 0.687]),
    ("l40s", [0.57, 0.259, 21.2], [0.5, 0.648, 23.6, 0.654]),
    ("rtx_pro_6000_server", [0.657, 0.26, 63.0], [0.5, 0.839, 37.0, 0.6]),
];
/// Medians of those.
const GENERIC_LATENT: ([f64; 3], [f64; 4]) = ([0.9, 0.14, 83.0], [0.71, 0.84, 67.0, 0.68]);

/// Decode attention that reads a KV cache in FP8: efficiency of memory, overhead us, exponent. Kernels widen
/// what they read, or share it out among too few threads, and reach less of the bandwidth than with bf16: on
/// an H200 two thirds, as many bytes a second as on an H100. Fitted here to the generation attention of
/// aiconfigurator-core 0.12.0, vLLM 0.24.0 (heads of 128, 4 to 16 queries to a KV head, up to 256 requests of
/// 256 to 32,768 tokens); mean error 6 to 10 % of a layer, 17 % on the RTX PRO 6000 and 27 % on the L40S,
/// whose kernel is another one than that of bf16.
const FP8_CACHE: &[(&str, [f64; 3])] = &[
    ("h100", [0.844, 14.6, 0.896]),
    ("h200", [0.682, 14.5, 0.865]),
    ("b200", [0.796, 10.7, 1.24]),
    ("b300", [0.742, 10.6, 1.56]),
    ("gb200", [0.845, 10.9, 1.1]),
    ("gb300", [0.765, 10.8, 1.29]),
    ("l40s", [1.1, 13.5, 4.35]),
    ("rtx_pro_6000_server", [1.24, 14.3, 1.92]),
];
/// On other devices: times the efficiency and the overhead with bf16; medians of the data-centre devices
/// above.
const GENERIC_FP8_CACHE: [f64; 2] = [0.91, 1.14];

/// Two shots of vLLM's own all-reduce (`csrc/custom_all_reduce.cuh`: from 512 KiB between four devices, from
/// 256 KiB between eight), where they are much slower than one: device, tensor parallel degree; overhead us,
/// bus GB/s, message from which on and up to which, bytes. Above that another library takes over. From its
/// CUDA-graph all-reduce table in the same package.
const TWO_SHOT: &[(&str, u32, [f64; 4])] = &[
    ("b200", 4, [17.3, 1000.0, 512.0 * 1024.0, 2048.0 * 1024.0]),
    ("b200", 8, [25.5, 1000.0, 256.0 * 1024.0, 1024.0 * 1024.0]),
];

const GENERIC: DeviceFit = DeviceFit {
    device: "",
    fit: Fit::Unfitted,
    gemm: [0.767, 0.833, 3.82, 3.74],
    prefill_attention: [0.569, 0.394, 25.8],
    decode_attention: [0.867, 12.2, 0.902],
    elementwise: AICONFIGURATOR_ELEMENTWISE,
    all_reduce: &[],
};

/// PCIe without peer-to-peer access does not follow its data sheet: devices on it take what the L40S reaches.
const PCIE_ALL_REDUCE: &[AllReduceFit] =
    &[(2, [5.36, 19.1, 5.74, 19.0]), (4, [11.1, 3.81, 5.5, 3.71]), (8, [21.2, 2.22, 7.2, 1.95])];

const FITS: &[DeviceFit] = &[
    DeviceFit {
        device: "a100",
        fit: Fit::Fitted("fitted to aiconfigurator-core 0.12.0, vLLM 0.14.0"),
        gemm: [0.875, 0.76, 6.44, 1.58],
        prefill_attention: [0.569, 0.394, 26.6],
        decode_attention: [0.755, 19.1, 0.902],
        all_reduce: &[
            (2, [5.19, 209.0, 46.5, 194.0]),
            (4, [5.78, 125.0, 59.8, 216.0]),
            (8, [7.8, 182.0, 68.8, 224.0]),
        ],
        ..GENERIC
    },
    DeviceFit {
        device: "h100",
        fit: AICONFIGURATOR,
        gemm: [0.778, 0.856, 3.26, 5.7],
        prefill_attention: [0.683, 0.473, 26.4],
        decode_attention: [0.925, 11.5, 0.892],
        all_reduce: &[
            (2, [4.29, 259.0, 26.1, 303.0]),
            (4, [4.76, 227.0, 24.5, 339.0]),
            (8, [5.53, 265.0, 23.0, 424.0]),
        ],
        ..GENERIC
    },
    DeviceFit {
        device: "h200",
        fit: AICONFIGURATOR,
        gemm: [0.767, 0.833, 3.82, 4.73],
        prefill_attention: [0.677, 0.331, 25.7],
        decode_attention: [0.902, 12.2, 0.892],
        all_reduce: &[
            (2, [4.49, 264.0, 21.4, 304.0]),
            (4, [4.72, 240.0, 20.2, 342.0]),
            (8, [5.47, 290.0, 19.3, 432.0]),
        ],
        ..GENERIC
    },
    DeviceFit {
        device: "b200",
        fit: AICONFIGURATOR,
        gemm: [0.693, 0.853, 4.09, 3.74],
        prefill_attention: [0.492, 0.375, 25.8],
        decode_attention: [0.867, 9.89, 1.19],
        all_reduce: &[
            (2, [6.8, 156.0, 30.6, 539.0]),
            (4, [7.11, 189.0, 21.5, 612.0]),
            (8, [8.02, 289.0, 15.2, 611.0]),
        ],
        ..GENERIC
    },
    DeviceFit {
        device: "l40s",
        fit: AICONFIGURATOR,
        // Efficiency of compute and exponent, 0.608 and 3.12 in the first fit, were fitted anew to every
        // other one of 640 whole steps of four models (mean error of the other half 3.9 % prefill, 4.4 %
        // decode; before 3.9 and 4.2, but 5.2 and 4.0 on the half fitted to).
        gemm: [0.643, 0.782, 0.406, 4.38],
        prefill_attention: [0.512, 1.55, 20.6],
        decode_attention: [0.808, 15.0, 4.24],
        all_reduce: PCIE_ALL_REDUCE,
        ..GENERIC
    },
    DeviceFit {
        device: "a40",
        fit: Fit::Partly(
            "matrix products and elementwise operators fitted to microsoft/vidur's profiles; attention UNFITTED, medians of other devices",
        ),
        gemm: [0.775, 0.789, 4.07, 1.7],
        // Vidur counts two norms of 2 passes, an addition of 3, and the rotary embedding.
        elementwise: [7.0, 2.0, 0.72, 7.89],
        ..GENERIC
    },
];

/// Launch of one all-reduce from the CPU, us (microsoft/vidur `nccl_cpu_launch_overhead_ms`): its tables do
/// not contain it.
const VIDUR_LAUNCH_US: f64 = 20.0;

/// Node, tensor parallel degree, overhead us, bus GB/s: one regime, from microsoft/vidur. The A40's are of an
/// earlier profile in that project's history (commit 6d98aa8).
const VIDUR_ALL_REDUCE: &[(&str, u32, f64, f64)] = &[
    ("a40_pairwise_nvlink", 2, 21.7, 4.9),
    ("a40_pairwise_nvlink", 4, 23.4, 5.4),
    ("a40_pairwise_nvlink", 8, 17.9, 1.7),
    ("a100_pairwise_nvlink", 2, 40.1, 199.0),
    ("a100_pairwise_nvlink", 4, 57.8, 23.7),
    ("h100_pairwise_nvlink", 2, 16.6, 198.0),
    ("h100_pairwise_nvlink", 4, 48.3, 49.5),
];

/// Where all-reduce constants come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AllReduceSource {
    /// Tensor parallel 1 needs none.
    None,
    Node,
    Device,
    /// What an L40S reaches over PCIe.
    Pcie,
    /// A rule from the link's data sheet, true within 5 to 16 % for NVLink devices that were left out of
    /// fitting it.
    Rule,
}

impl AllReduceSource {
    pub fn describe(self) -> &'static str {
        match self {
            Self::None => "no all-reduce",
            Self::Node => "all-reduce fitted to microsoft/vidur's profile of this node",
            Self::Device => "all-reduce fitted with the device",
            Self::Pcie => "all-reduce UNFITTED, as an L40S over PCIe",
            Self::Rule => "all-reduce UNFITTED, a rule from the link's data sheet",
        }
    }
}

/// Matrix products with weights of one format on one device.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Quantised {
    /// `None` where weights are not quantised.
    figures: Option<QuantisedFigures>,
    is_fitted: bool,
}

/// The device's own fit, the median of the fits of the format, or the device's bf16 efficiencies for formats
/// that are widened to bf16 on their way to the units.
pub(super) fn quantised(device: &Device, format: WeightFormat) -> Quantised {
    let fitted = |name: &str| {
        QUANTISED.iter().find(|(known, of, _)| *known == name && *of == format).map(|(.., figures)| *figures)
    };
    let figures = match format {
        WeightFormat::Bf16 => return Quantised { figures: None, is_fitted: true },
        WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => {
            let (constants, _) = device_constants(device);
            let Constants { gemm_eff_compute, gemm_eff_memory, gemm_overhead_us, gemm_smooth_p, .. } =
                constants;
            // What unpacking costs is not known; kernels of this kind stay below 90 % of what bf16 reaches.
            [
                0.9 * gemm_eff_compute,
                0.9 * gemm_eff_memory,
                gemm_overhead_us,
                gemm_smooth_p,
                0.0,
                0.0,
                0.0,
                0.0,
            ]
        }
        _ => match fitted(device.name) {
            Some(figures) => return Quantised { figures: Some(figures), is_fitted: true },
            None => {
                let mut of_format: Vec<QuantisedFigures> = QUANTISED
                    .iter()
                    .filter(|(_, of, _)| *of == format)
                    .map(|(.., figures)| *figures)
                    .collect();
                // What a single row takes more is a matter of Blackwell's libraries.
                [0, 1, 2, 3, 4, 5, 6, 7].map(|column| {
                    if column == 7 {
                        return 0.0;
                    }
                    of_format.sort_by(|a, b| a[column].total_cmp(&b[column]));
                    of_format[of_format.len() / 2][column]
                })
            }
        },
    };
    Quantised { figures: Some(figures), is_fitted: false }
}

impl Quantised {
    pub fn apply(self, constants: &mut Constants) {
        let Some(figures) = self.figures else { return };
        [
            constants.gemm_fp8_eff_compute,
            constants.gemm_fp8_eff_memory,
            constants.gemm_fp8_overhead_us,
            constants.gemm_fp8_smooth_p,
            constants.gemm_fp8_rounding_passes,
            constants.gemm_fp8_tile_tokens,
            constants.gemm_fp8_inner_us,
            constants.gemm_fp8_single_row_us,
        ] = figures;
    }

    /// What to add to the source of the other constants.
    pub fn caveat(self) -> &'static str {
        if self.is_fitted { "" } else { ", quantised products UNFITTED, medians of other devices" }
    }
}

pub(super) fn latent_is_fitted(device: &Device) -> bool {
    LATENT.iter().any(|(name, ..)| *name == device.name)
}

/// Where the constants of latent attention come from.
pub(super) fn latent_source(device: &Device) -> &'static str {
    match latent_is_fitted(device) {
        true => ", latent attention fitted with the device",
        false => ", latent attention UNFITTED, medians of other devices",
    }
}

/// Sets how a device reads a KV cache of this format.
pub(super) fn read_cache(device: &Device, format: Precision, constants: &mut Constants) {
    if format != Precision::Fp8 {
        return;
    }
    [
        constants.decode_attention_eff_memory,
        constants.decode_attention_overhead_us,
        constants.decode_attention_smooth_p,
    ] = FP8_CACHE.iter().find(|(name, _)| *name == device.name).map_or_else(
        || {
            let [efficiency, overhead] = GENERIC_FP8_CACHE;
            let [bf16_efficiency, bf16_overhead_us] =
                [constants.decode_attention_eff_memory, constants.decode_attention_overhead_us];
            [efficiency * bf16_efficiency, overhead * bf16_overhead_us, constants.decode_attention_smooth_p]
        },
        |(_, figures)| *figures,
    );
}

/// What to add to the source of the other constants.
pub(super) fn cache_caveat(device: &Device, format: Precision, is_latent: bool) -> &'static str {
    let is_fitted =
        format != Precision::Fp8 || is_latent || FP8_CACHE.iter().any(|(name, _)| *name == device.name);
    if is_fitted { "" } else { ", reading of an FP8 cache UNFITTED, medians of other devices" }
}

/// Sets what a device's all-reduce in two shots takes, where it is known and matters.
pub(super) fn two_shot(device: &Device, node: &str, tensor_parallel: u32, constants: &mut Constants) {
    if !matches!(all_reduce(device, node, tensor_parallel), Some((_, AllReduceSource::Device))) {
        return;
    }
    if let Some((.., figures)) =
        TWO_SHOT.iter().find(|(name, tp, _)| *name == device.name && *tp == tensor_parallel)
    {
        [
            constants.all_reduce_two_shot_overhead_us,
            constants.all_reduce_two_shot_bus_gb_per_s,
            constants.all_reduce_two_shot_bytes,
            constants.all_reduce_switch_bytes,
        ] = *figures;
    }
}

/// Constants of a device, without all-reduce, experts and quantised products.
pub fn device_constants(device: &Device) -> (Constants, Fit) {
    let fit = FITS.iter().find(|fit| fit.device == device.name).unwrap_or(&GENERIC);
    let [gemm_eff_compute, gemm_eff_memory, gemm_overhead_us, gemm_smooth_p] = fit.gemm;
    let (prefill, decode) = LATENT
        .iter()
        .find(|(name, ..)| *name == device.name)
        .map_or(GENERIC_LATENT, |(_, prefill, decode)| (*prefill, *decode));
    let [mla_prefill_eff_compute, mla_prefill_eff_memory, mla_prefill_overhead_us] = prefill;
    let [mla_decode_eff_compute, mla_decode_eff_memory, mla_decode_overhead_us, mla_decode_smooth_p] = decode;
    let [prefill_attention_eff_compute, prefill_attention_eff_memory, prefill_attention_overhead_us] =
        fit.prefill_attention;
    let [decode_attention_eff_memory, decode_attention_overhead_us, decode_attention_smooth_p] =
        fit.decode_attention;
    let [elementwise_hidden_passes, elementwise_rope_passes, elementwise_eff_memory, elementwise_overhead_us] =
        fit.elementwise;
    let constants = Constants {
        peak_bf16_tflops: device.peak_bf16_tflops,
        peak_fp8_tflops: device.peak_fp8_tflops.unwrap_or_default(),
        peak_fp4_tflops: device.peak_fp4_tflops.unwrap_or_default(),
        memory_gb_per_s: device.memory_gb_per_s,
        link_gb_per_s: device.link_gb_per_s,
        inter_node_gb_per_s: device.inter_node_gb_per_s,
        // The following four: analytic terms of aiconfigurator-core.
        p2p_overhead_us: 10.0,
        qk_norm_overhead_us: 26.4,
        embedding_overhead_us: 3.0,
        all_reduce_switch_bytes: 8.0 * 1024.0 * 1024.0,
        // A rule, of NCCL's all-gathers over 4 and 8 devices of H100, H200 and B200 in the same package.
        gather_overhead_us: 16.0,
        gather_bus_gb_per_s: 0.62 * device.link_gb_per_s,
        // vLLM's threshold (`VLLM_SHARED_EXPERTS_STREAM_TOKEN_THRESHOLD`).
        moe_shared_overlap_tokens: 256.0,
        // Sparse attention: whole steps of GLM-5 and DeepSeek-V3.2 in the same packages.
        sparse_overhead_us: 45.0,
        sparse_eff_memory: 0.25,
        sparse_scan_eff_compute: 0.5,
        mla_prefill_eff_compute,
        mla_prefill_eff_memory,
        mla_prefill_overhead_us,
        mla_decode_eff_compute,
        mla_decode_eff_memory,
        mla_decode_overhead_us,
        mla_decode_smooth_p,
        gemm_eff_compute,
        gemm_eff_memory,
        gemm_overhead_us,
        gemm_smooth_p,
        prefill_attention_eff_compute,
        prefill_attention_eff_memory,
        prefill_attention_overhead_us,
        decode_attention_eff_memory,
        decode_attention_overhead_us,
        decode_attention_smooth_p,
        elementwise_hidden_passes,
        elementwise_rope_passes,
        elementwise_eff_memory,
        elementwise_overhead_us,
        ..Constants::default()
    };
    (constants, fit.fit)
}

/// Overhead us and bus GB/s below the switch and from it on; `None` for a tensor parallel degree nothing is
/// known about.
pub fn all_reduce(device: &Device, node: &str, tensor_parallel: u32) -> Option<([f64; 4], AllReduceSource)> {
    if tensor_parallel == 1 {
        return Some(([0.0, 1.0, 0.0, 1.0], AllReduceSource::None));
    }
    if let Some(&(.., overhead_us, bus)) =
        VIDUR_ALL_REDUCE.iter().find(|(name, tp, ..)| *name == node && *tp == tensor_parallel)
    {
        let overhead_us = overhead_us + VIDUR_LAUNCH_US;
        return Some(([overhead_us, bus, overhead_us, bus], AllReduceSource::Node));
    }
    let of = |table: &[AllReduceFit]| {
        table.iter().find(|(tp, _)| *tp == tensor_parallel).map(|(_, figures)| *figures)
    };
    let fitted = FITS.iter().find(|fit| fit.device == device.name).and_then(|fit| of(fit.all_reduce));
    if let Some(figures) = fitted {
        return Some((figures, AllReduceSource::Device));
    }
    if device.link == Link::Pcie {
        return of(PCIE_ALL_REDUCE).map(|figures| (figures, AllReduceSource::Pcie));
    }
    let link = device.link_gb_per_s;
    let rule = [5.0 + 0.5 * f64::from(tensor_parallel), 0.5 * link, 25.0, 0.72 * link];
    [2, 4, 8].contains(&tensor_parallel).then_some((rule, AllReduceSource::Rule))
}
