//! Fitted constants of routed experts, by device and number format.
//!
//! Fitted here to the tables of grouped matrix products of aiconfigurator-core 0.12.0 (Apache-2.0), vLLM 0.24.0 (0.14.0 on the A100): shapes
//! of published models, 1 to 8 devices of either kind of parallelism, 1 to 16,384 tokens, skewed routing. Mean error of a point 6 to 12 %
//! (18 % on the A100, 11 to 18 % on the L40S); kernels change with the number of tokens, which no smooth formula follows.

use super::Constants;
use crate::hardware::WeightFormat;
use crate::hardware::catalog::Device;

/// Overhead us, the same per octave of experts hit; efficiency of compute and of memory, exponent; tile, spread; imbalance of routing as
/// skewed as a power law of 1.2 and of 1.01 (routers balanced in training without a loss: DeepSeek's); slope and curve of compute over
/// the width of an expert, slope of memory.
type Figures = [f64; 12];

const FITS: &[(&str, WeightFormat, Figures)] = &[
    ("h100", WeightFormat::Bf16, [30.7, 1.36, 0.683, 1.15, 0.906, 12.7, 0.865, 0.557, 0.365, 0.19, -0.0711, -0.0448]),
    ("h100", WeightFormat::Fp8, [0.0, 15.5, 0.106, 0.25, 2.76, 103.0, 1.11, 0.299, 0.237, 0.178, -0.0353, -0.0822]),
    ("h100", WeightFormat::Fp8Block, [35.3, 2.15, 0.24, 1.17, 1.45, 17.1, 0.951, 0.416, 0.284, 0.279, -0.0428, -0.0376]),
    ("h100", WeightFormat::Int4Group32, [26.5, 2.75, 0.345, 1.77, 0.6, 0.0, 1.68, 0.414, 0.285, 0.074, -0.0523, 0.0775]),
    ("h100", WeightFormat::Mxfp4, [49.0, 0.0, 0.834, 1.06, 0.6, 0.0, 0.78, 0.491, 0.319, 0.192, 0.0253, -0.174]),
    ("h200", WeightFormat::Bf16, [35.0, 0.343, 0.757, 1.33, 0.783, 12.9, 0.895, 0.589, 0.375, 0.228, -0.0706, -0.0435]),
    ("h200", WeightFormat::Fp8, [0.0, 17.2, 0.127, 0.186, 2.25, 105.0, 1.11, 0.309, 0.243, 0.202, -0.04, -0.114]),
    ("h200", WeightFormat::Fp8Block, [38.2, 1.3, 0.251, 1.17, 1.32, 15.1, 0.92, 0.384, 0.245, 0.289, -0.0443, -0.0299]),
    ("h200", WeightFormat::Int4Group32, [30.4, 1.97, 0.32, 1.41, 0.6, 0.0, 1.51, 0.394, 0.272, 0.0634, -0.0479, 0.0923]),
    ("h200", WeightFormat::Mxfp4, [47.6, 0.0, 0.829, 0.774, 0.6, 0.0, 0.731, 0.489, 0.318, 0.184, 0.0252, -0.195]),
    ("b200", WeightFormat::Bf16, [13.5, 0.758, 0.509, 1.11, 1.2, 18.8, 0.85, 0.334, 0.193, -0.00316, -0.0906, -0.0205]),
    ("b200", WeightFormat::Fp8, [13.7, 0.731, 0.461, 1.13, 1.33, 36.1, 0.78, 0.393, 0.272, 0.189, -0.108, -0.0316]),
    ("b200", WeightFormat::Fp8Block, [31.0, 0.0, 0.2, 1.84, 0.867, 17.6, 0.864, 0.481, 0.298, 0.168, -0.0525, -0.0703]),
    ("b200", WeightFormat::Int4Group32, [31.7, 1.25, 0.146, 1.08, 0.6, 0.0, 1.59, 0.401, 0.276, 0.0795, -0.0454, 0.0848]),
    ("b200", WeightFormat::Mxfp4, [15.8, 1.67, 0.235, 0.656, 1.44, 14.3, 0.59, 0.415, 0.27, 0.213, -0.102, 0.146]),
    ("b200", WeightFormat::Nvfp4, [12.9, 0.921, 0.591, 1.82, 0.623, 27.5, 0.806, 0.446, 0.343, 0.394, -0.117, -0.0681]),
    ("b300", WeightFormat::Bf16, [12.0, 0.831, 0.526, 1.07, 1.18, 16.2, 0.853, 0.323, 0.182, -0.00943, -0.093, -0.0218]),
    ("b300", WeightFormat::Fp8, [12.3, 0.774, 0.487, 1.09, 1.27, 33.6, 0.79, 0.381, 0.281, 0.176, -0.111, -0.0235]),
    ("b300", WeightFormat::Fp8Block, [28.7, 0.0, 0.22, 1.71, 0.852, 17.2, 0.879, 0.491, 0.299, 0.157, -0.0565, -0.0453]),
    ("b300", WeightFormat::Int4Group32, [30.3, 1.41, 0.153, 1.12, 0.6, 0.0, 1.59, 0.417, 0.287, 0.0787, -0.0409, 0.0973]),
    ("b300", WeightFormat::Mxfp4, [14.2, 1.68, 0.246, 0.579, 1.54, 12.1, 0.582, 0.428, 0.278, 0.205, -0.109, 0.147]),
    ("b300", WeightFormat::Nvfp4, [11.2, 1.03, 0.701, 1.66, 0.609, 25.7, 0.816, 0.443, 0.348, 0.403, -0.119, -0.0636]),
    ("gb200", WeightFormat::Bf16, [12.4, 0.921, 0.484, 1.11, 1.19, 18.5, 0.857, 0.336, 0.195, 0.00659, -0.0932, -0.0294]),
    ("gb200", WeightFormat::Fp8, [13.0, 0.764, 0.437, 1.13, 1.29, 33.0, 0.798, 0.379, 0.266, 0.188, -0.106, -0.0337]),
    ("gb200", WeightFormat::Fp8Block, [29.8, 0.0, 0.204, 1.72, 0.834, 15.1, 0.895, 0.489, 0.301, 0.156, -0.0545, -0.0454]),
    ("gb200", WeightFormat::Int4Group32, [31.0, 0.232, 0.143, 1.11, 0.6, 0.0, 1.66, 0.426, 0.294, 0.0793, -0.0449, 0.109]),
    ("gb200", WeightFormat::Mxfp4, [15.0, 1.51, 0.232, 0.624, 1.5, 14.2, 0.601, 0.435, 0.283, 0.212, -0.107, 0.144]),
    ("gb200", WeightFormat::Nvfp4, [12.6, 0.835, 0.663, 1.68, 0.6, 23.0, 0.818, 0.461, 0.352, 0.406, -0.12, -0.0565]),
    ("gb300", WeightFormat::Bf16, [12.9, 0.746, 0.511, 1.06, 1.18, 15.7, 0.841, 0.341, 0.193, -0.00938, -0.0969, -0.0214]),
    ("gb300", WeightFormat::Fp8, [13.1, 0.611, 0.483, 1.07, 1.23, 31.2, 0.812, 0.394, 0.276, 0.168, -0.114, -0.018]),
    ("gb300", WeightFormat::Fp8Block, [29.1, 0.0, 0.208, 1.6, 0.869, 15.9, 0.896, 0.493, 0.299, 0.153, -0.0553, -0.0407]),
    ("gb300", WeightFormat::Int4Group32, [33.3, 0.191, 0.145, 1.11, 0.6, 0.0, 1.68, 0.406, 0.28, 0.0704, -0.0477, 0.108]),
    ("gb300", WeightFormat::Mxfp4, [15.0, 1.51, 0.232, 0.587, 1.58, 12.5, 0.597, 0.425, 0.276, 0.208, -0.108, 0.141]),
    ("gb300", WeightFormat::Nvfp4, [12.2, 0.79, 0.654, 1.55, 0.636, 25.2, 0.829, 0.46, 0.342, 0.412, -0.118, -0.0668]),
    ("l40s", WeightFormat::Bf16, [0.0, 0.557, 0.631, 1.04, 1.01, 47.7, 0.807, 0.474, 0.335, 0.15, -0.0338, -0.0578]),
    ("l40s", WeightFormat::Fp8, [2.8, 0.0, 0.437, 0.898, 1.2, 17.2, 0.796, 0.625, 0.485, 0.263, -0.0354, -0.0604]),
    ("l40s", WeightFormat::Fp8Block, [1.2, 0.0, 0.344, 0.916, 1.8, 37.6, 0.822, 0.627, 0.476, 0.263, -0.034, -0.0525]),
    ("l40s", WeightFormat::Int4Group32, [0.0, 0.0, 0.599, 1.06, 1.33, 2.16, 1.06, 0.398, 0.275, -0.0588, -0.143, 0.0169]),
    ("l40s", WeightFormat::Mxfp4, [5.51, 0.0, 0.447, 0.83, 1.53, 2.83, 0.777, 0.499, 0.324, 0.113, -0.0304, 0.0178]),
    ("rtx_pro_6000_server", WeightFormat::Bf16, [24.0, 0.0, 0.424, 0.988, 1.45, 14.1, 0.967, 0.327, 0.207, 0.0767, -0.082, -0.0416]),
    ("rtx_pro_6000_server", WeightFormat::Fp8, [27.8, 0.0, 0.335, 1.0, 1.35, 9.09, 1.03, 0.295, 0.211, 0.165, -0.0651, -0.0573]),
    (
        "rtx_pro_6000_server",
        WeightFormat::Int4Group32,
        [9.4e-06, 1.66, 0.617, 1.11, 1.32, 2.32, 1.25, 0.448, 0.309, 0.0829, -0.0767, 0.0159],
    ),
    ("rtx_pro_6000_server", WeightFormat::Mxfp4, [19.1, 0.0, 0.511, 0.945, 1.05, 4.37e-05, 0.842, 0.53, 0.345, 0.155, 0.00436, -0.00466]),
    ("rtx_pro_6000_server", WeightFormat::Nvfp4, [41.9, 0.0, 0.462, 1.16, 1.14, 31.0, 1.11, 0.32, 0.282, 0.426, -0.0997, -0.0742]),
    ("a100", WeightFormat::Bf16, [40.7, 0.0426, 0.36, 0.867, 1.77, 25.5, 0.798, 0.516, 0.451, 0.0692, -0.0148, -0.0977]),
];

/// A device that stands in for another that has no fit of its own: of the same generation.
const STAND_INS: &[(&str, &str)] = &[("a100_pcie", "a100"), ("a40", "a100"), ("a30", "a100"), ("h100_pcie", "h100"), ("l4", "l40s")];

/// Constants of one device's routed experts, and how they were come by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Routed {
    figures: Figures,
    is_balanced: bool,
    pub source: String,
}

/// `is_balanced`: whether the router was balanced in training as DeepSeek's are.
pub(super) fn routed(device: &Device, format: WeightFormat, is_balanced: bool) -> Routed {
    use WeightFormat::{Bf16, Fp8, Fp8Block, Fp8Static, Int4, Int4Group32};
    let alike = match format {
        Fp8Static => Fp8,
        Int4 => Int4Group32,
        other => other,
    };
    let find = |device: &str, format: WeightFormat| FITS.iter().find(|(name, known, _)| *name == device && *known == format);
    let stand_in = STAND_INS.iter().find(|(name, _)| *name == device.name).map_or("h100", |(_, known)| known);
    // The first that has a fit: the device itself, one like it, any; in this format, in one of like kernels, in bf16.
    let formats = [alike, if alike == Fp8 { Fp8Block } else { Fp8 }, Bf16];
    let formats = if matches!(alike, Fp8 | Fp8Block) { &formats[..] } else { &[alike, Bf16][..] };
    let devices = [device.name, stand_in];
    let found = formats
        .iter()
        .flat_map(|format| devices.iter().map(move |device| (*device, *format)))
        .find_map(|(device, format)| find(device, format));
    let &(from, known, figures) = found.expect("bf16 is fitted on the H100");
    let source = match (from == device.name, known == alike) {
        (true, true) => "fitted to aiconfigurator-core 0.12.0".to_string(),
        (true, false) => format!("UNFITTED in {}, efficiencies of {} experts", format.name(), known.name()),
        (false, _) => format!("UNFITTED, efficiencies of {} experts on {from}", known.name()),
    };
    Routed { figures, is_balanced, source }
}

impl Routed {
    pub fn apply(&self, constants: &mut Constants) {
        let [overhead, per_octave, compute, memory, smooth, tile, spread, skewed, balanced, slope, curve, memory_slope] = self.figures;
        constants.moe_overhead_us = overhead;
        constants.moe_overhead_per_octave_us = per_octave;
        constants.moe_eff_compute = compute;
        constants.moe_eff_memory = memory;
        constants.moe_smooth_p = smooth;
        constants.moe_tile_tokens = tile;
        constants.moe_spread = spread;
        constants.moe_imbalance = if self.is_balanced { balanced } else { skewed };
        constants.moe_width_slope = slope;
        constants.moe_width_curve = curve;
        constants.moe_width_memory_slope = memory_slope;
    }
}
