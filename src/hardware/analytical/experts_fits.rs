//! Fitted constants of routed experts, by device and number format.
//!
//! Fitted here to the tables of grouped matrix products of aiconfigurator-core 0.12.0 (Apache-2.0), vLLM 0.24.0
//! (0.14.0 on the A100): shapes of published models, 1 to 8 devices of either kind of parallelism, 1 to
//! 16,384 tokens, skewed routing. Mean error of a point 6 to 12 % (18 % on the A100, 11 to 18 % on the L40S);
//! kernels change with the number of tokens, which no smooth formula follows.

use super::Constants;
use crate::hardware::WeightFormat;
use crate::hardware::catalog::Device;

/// Overhead us, the same per octave of experts hit; efficiency of compute and of memory, exponent; tile,
/// spread; imbalance of routing as skewed as a power law of 1.2 and of 1.01 (routers balanced in training
/// without a loss: DeepSeek's); slope and curve of compute over the width of an expert, slope of memory.
type Figures = [f64; 12];

/// Device, format, whether experts are divided among devices: that changes the kernel, and who waits for
/// whom.
type Row = (&'static str, WeightFormat, bool, Figures);

const FITS: &[Row] = &[
    (
        "a100",
        WeightFormat::Bf16,
        false,
        [40.7, 0.0426, 0.36, 0.867, 1.77, 25.5, 0.798, 0.516, 0.451, 0.0692, -0.0148, -0.0977],
    ),
    (
        "a100",
        WeightFormat::Bf16,
        true,
        [40.7, 0.0426, 0.36, 0.867, 1.77, 25.5, 0.798, 0.516, 0.451, 0.0692, -0.0148, -0.0977],
    ),
    (
        "h100",
        WeightFormat::Bf16,
        false,
        [27.7, 1.6, 0.652, 1.02, 1.02, 10.0, 0.928, 0.0, 0.0, 0.201, -0.0611, -0.0484],
    ),
    (
        "h100",
        WeightFormat::Bf16,
        true,
        [36.2, 0.123, 0.641, 1.38, 1.01, 52.6, 0.618, 0.622, 0.467, 0.31, -0.0949, -0.074],
    ),
    (
        "h100",
        WeightFormat::Fp8,
        false,
        [6.1, 20.5, 0.122, 0.201, 1.49, 14.7, 1.06, 0.0, 0.0, 0.049, 0.00105, -0.0156],
    ),
    (
        "h100",
        WeightFormat::Fp8,
        true,
        [13.5, 10.8, 0.128, 0.197, 1.56, 1.31, 1.0, 0.345, 0.201, -0.371, 0.0826, -0.018],
    ),
    (
        "h100",
        WeightFormat::Fp8Block,
        false,
        [36.0, 3.62, 0.255, 1.04, 1.46, 8.78, 0.944, 0.0, 0.0, 0.254, -0.0397, -0.048],
    ),
    (
        "h100",
        WeightFormat::Fp8Block,
        true,
        [32.8, 0.53, 0.197, 1.14, 1.98, 28.9, 0.873, 0.39, 0.281, 0.47, -0.0792, -0.0607],
    ),
    (
        "h100",
        WeightFormat::Int4Group32,
        false,
        [17.6, 4.35, 0.328, 1.98, 0.606, 0.739, 1.71, 0.0, 0.0, 0.0879, -0.0573, 0.0441],
    ),
    (
        "h100",
        WeightFormat::Int4Group32,
        true,
        [20.2, 11.0, 0.445, 1.61, 0.6, 0.0, 0.959, 0.485, 0.334, -0.144, -0.0479, 0.176],
    ),
    (
        "h100",
        WeightFormat::Mxfp4,
        false,
        [33.9, 1.35, 0.847, 1.0, 0.6, 0.194, 0.844, 0.0, 0.0, 0.103, 0.00695, -0.0631],
    ),
    (
        "h100",
        WeightFormat::Mxfp4,
        true,
        [67.2, 0.0, 0.849, 1.05, 0.6, 0.0, 0.78, 0.446, 0.29, 0.0868, 0.0292, -0.0164],
    ),
    (
        "h200",
        WeightFormat::Bf16,
        false,
        [28.6, 1.11, 0.652, 1.07, 0.972, 9.83, 0.937, 0.0, 0.0, 0.232, -0.0547, -0.0407],
    ),
    (
        "h200",
        WeightFormat::Bf16,
        true,
        [39.0, 0.0, 0.814, 1.5, 0.761, 20.6, 0.658, 0.648, 0.472, 0.373, -0.108, -0.105],
    ),
    (
        "h200",
        WeightFormat::Fp8,
        false,
        [5.92, 23.1, 0.135, 0.157, 1.91, 59.2, 1.07, 0.0, 0.0, 0.169, -0.0253, -0.0693],
    ),
    (
        "h200",
        WeightFormat::Fp8,
        true,
        [0.488, 16.3, 0.16, 0.146, 1.55, 1.39, 1.0, 0.351, 0.188, -0.408, 0.0932, -0.0592],
    ),
    (
        "h200",
        WeightFormat::Fp8Block,
        false,
        [38.3, 2.78, 0.26, 1.18, 1.34, 15.6, 0.922, 0.0, 0.0, 0.251, -0.0382, -0.0803],
    ),
    (
        "h200",
        WeightFormat::Fp8Block,
        true,
        [34.6, 0.26, 0.216, 1.09, 1.86, 26.6, 0.83, 0.39, 0.282, 0.579, -0.105, -0.0448],
    ),
    (
        "h200",
        WeightFormat::Int4Group32,
        false,
        [21.5, 4.53, 0.266, 1.74, 0.696, 2.85, 1.27, 0.0, 0.0, 0.115, -0.0469, -0.0131],
    ),
    (
        "h200",
        WeightFormat::Int4Group32,
        true,
        [13.3, 16.3, 0.404, 1.34, 0.6, 0.0, 0.688, 0.425, 0.293, -0.143, -0.0475, 0.0859],
    ),
    (
        "h200",
        WeightFormat::Mxfp4,
        false,
        [32.8, 1.55, 0.83, 0.756, 0.6, 0.844, 0.772, 0.0, 0.0, 0.0985, 0.00153, -0.0972],
    ),
    (
        "h200",
        WeightFormat::Mxfp4,
        true,
        [65.7, 0.0, 0.876, 0.819, 0.6, 0.0, 0.72, 0.452, 0.294, 0.071, 0.0253, -0.0955],
    ),
    (
        "b200",
        WeightFormat::Bf16,
        false,
        [12.4, 1.79, 0.5, 1.03, 1.28, 27.0, 0.765, 0.0, 0.0, -0.00774, -0.0655, -0.0751],
    ),
    (
        "b200",
        WeightFormat::Bf16,
        true,
        [5.27, 3.52, 0.583, 1.09, 1.5, 0.0, 0.644, 0.517, 0.341, -0.1, -0.0684, -0.121],
    ),
    (
        "b200",
        WeightFormat::Fp8,
        false,
        [12.4, 1.71, 0.515, 0.959, 1.14, 12.2, 0.742, 0.0, 0.0, 0.183, -0.105, -0.0568],
    ),
    (
        "b200",
        WeightFormat::Fp8,
        true,
        [10.6, 1.93, 0.48, 1.08, 1.44, 8.33, 0.678, 0.477, 0.364, 0.272, -0.139, -0.111],
    ),
    (
        "b200",
        WeightFormat::Fp8Block,
        false,
        [25.8, 2.82, 0.243, 1.15, 0.764, 0.675, 0.849, 0.0, 0.0, 0.0838, -0.0233, -0.0789],
    ),
    (
        "b200",
        WeightFormat::Fp8Block,
        true,
        [27.5, 0.649, 0.191, 1.25, 1.2, 8.26, 0.696, 0.586, 0.439, 0.405, -0.109, -0.137],
    ),
    (
        "b200",
        WeightFormat::Int4Group32,
        false,
        [20.0, 3.37, 0.143, 1.13, 0.6, 4.11e-06, 1.77, 0.0, 0.0, 0.0856, -0.047, 0.064],
    ),
    (
        "b200",
        WeightFormat::Int4Group32,
        true,
        [2.77, 26.2, 0.212, 1.06, 0.6, 0.0, 0.439, 0.385, 0.265, -0.29, -0.0966, -0.00927],
    ),
    (
        "b200",
        WeightFormat::Mxfp4,
        false,
        [7.4, 4.5, 0.246, 0.977, 1.16, 15.6, 0.545, 0.0, 0.0, 0.227, -0.118, -0.242],
    ),
    (
        "b200",
        WeightFormat::Mxfp4,
        true,
        [15.1, 2.98, 0.359, 0.815, 1.49, 7.24, 0.625, 0.461, 0.299, -0.194, -0.0757, -0.0368],
    ),
    (
        "b200",
        WeightFormat::Nvfp4,
        false,
        [10.1, 2.3, 0.486, 1.35, 0.762, 19.7, 0.786, 0.0, 0.0, 0.412, -0.0891, -0.123],
    ),
    (
        "b200",
        WeightFormat::Nvfp4,
        true,
        [11.3, 1.62, 0.57, 1.21, 0.853, 0.0, 0.712, 0.574, 0.477, 0.6, -0.17, -0.143],
    ),
    (
        "b300",
        WeightFormat::Bf16,
        false,
        [11.3, 1.71, 0.52, 1.01, 1.24, 24.8, 0.776, 0.0, 0.0, -0.0218, -0.0658, -0.0705],
    ),
    (
        "b300",
        WeightFormat::Bf16,
        true,
        [4.04, 3.48, 0.56, 1.07, 1.47, 0.0, 0.686, 0.475, 0.322, 0.0174, -0.101, -0.118],
    ),
    (
        "b300",
        WeightFormat::Fp8,
        false,
        [10.9, 1.72, 0.545, 0.935, 1.13, 11.6, 0.753, 0.0, 0.0, 0.172, -0.108, -0.0561],
    ),
    (
        "b300",
        WeightFormat::Fp8,
        true,
        [8.79, 2.16, 0.502, 1.05, 1.45, 6.6, 0.68, 0.489, 0.391, 0.298, -0.151, -0.122],
    ),
    (
        "b300",
        WeightFormat::Fp8Block,
        false,
        [22.6, 2.96, 0.27, 1.13, 0.748, 0.33, 0.878, 0.0, 0.0, 0.0717, -0.0268, -0.0727],
    ),
    (
        "b300",
        WeightFormat::Fp8Block,
        true,
        [24.4, 0.928, 0.205, 1.24, 1.21, 9.71, 0.709, 0.589, 0.43, 0.391, -0.112, -0.139],
    ),
    (
        "b300",
        WeightFormat::Int4Group32,
        false,
        [19.9, 3.32, 0.15, 1.17, 0.6, 0.00689, 1.78, 0.0, 0.0, 0.0848, -0.0443, 0.0721],
    ),
    (
        "b300",
        WeightFormat::Int4Group32,
        true,
        [11.6, 18.2, 0.226, 1.1, 0.6, 0.0, 0.549, 0.427, 0.294, -0.301, -0.1, 0.00951],
    ),
    (
        "b300",
        WeightFormat::Mxfp4,
        false,
        [7.53, 3.91, 0.254, 0.857, 1.32, 17.7, 0.539, 0.0, 0.0, 0.226, -0.117, -0.21],
    ),
    (
        "b300",
        WeightFormat::Mxfp4,
        true,
        [13.4, 3.42, 0.389, 0.756, 1.62, 3.66, 0.603, 0.444, 0.289, -0.269, -0.0894, -0.053],
    ),
    (
        "b300",
        WeightFormat::Nvfp4,
        false,
        [9.81, 2.11, 0.829, 1.18, 0.637, 7.59, 0.827, 0.0, 0.0, 0.392, -0.107, -0.0668],
    ),
    (
        "b300",
        WeightFormat::Nvfp4,
        true,
        [8.83, 1.89, 0.696, 1.17, 0.812, 0.0, 0.709, 0.586, 0.488, 0.6, -0.172, -0.13],
    ),
    (
        "gb200",
        WeightFormat::Bf16,
        false,
        [12.4, 1.77, 0.488, 0.993, 1.21, 15.6, 0.775, 0.0, 0.0, -0.00619, -0.0693, -0.0804],
    ),
    (
        "gb200",
        WeightFormat::Bf16,
        true,
        [5.74, 3.38, 0.525, 1.09, 1.46, 0.0, 0.667, 0.479, 0.336, 0.0121, -0.0972, -0.118],
    ),
    (
        "gb200",
        WeightFormat::Fp8,
        false,
        [12.3, 1.56, 0.477, 0.956, 1.17, 12.0, 0.74, 0.0, 0.0, 0.185, -0.1, -0.0583],
    ),
    (
        "gb200",
        WeightFormat::Fp8,
        true,
        [7.32, 2.69, 0.431, 1.1, 1.55, 7.7, 0.688, 0.467, 0.368, 0.308, -0.145, -0.135],
    ),
    (
        "gb200",
        WeightFormat::Fp8Block,
        false,
        [24.7, 2.64, 0.241, 1.15, 0.766, 0.52, 0.884, 0.0, 0.0, 0.0759, -0.024, -0.0735],
    ),
    (
        "gb200",
        WeightFormat::Fp8Block,
        true,
        [29.8, 0.0, 0.204, 1.72, 0.834, 15.1, 0.895, 0.489, 0.301, 0.156, -0.0545, -0.0454],
    ),
    (
        "gb200",
        WeightFormat::Int4Group32,
        false,
        [31.0, 0.232, 0.143, 1.11, 0.6, 0.0, 1.66, 0.426, 0.294, 0.0793, -0.0449, 0.109],
    ),
    (
        "gb200",
        WeightFormat::Int4Group32,
        true,
        [31.0, 0.232, 0.143, 1.11, 0.6, 0.0, 1.66, 0.426, 0.294, 0.0793, -0.0449, 0.109],
    ),
    (
        "gb200",
        WeightFormat::Mxfp4,
        false,
        [15.0, 1.51, 0.232, 0.624, 1.5, 14.2, 0.601, 0.435, 0.283, 0.212, -0.107, 0.144],
    ),
    (
        "gb200",
        WeightFormat::Mxfp4,
        true,
        [15.0, 1.51, 0.232, 0.624, 1.5, 14.2, 0.601, 0.435, 0.283, 0.212, -0.107, 0.144],
    ),
    (
        "gb200",
        WeightFormat::Nvfp4,
        false,
        [12.6, 0.835, 0.663, 1.68, 0.6, 23.0, 0.818, 0.461, 0.352, 0.406, -0.12, -0.0565],
    ),
    (
        "gb200",
        WeightFormat::Nvfp4,
        true,
        [12.6, 0.835, 0.663, 1.68, 0.6, 23.0, 0.818, 0.461, 0.352, 0.406, -0.12, -0.0565],
    ),
    (
        "gb300",
        WeightFormat::Bf16,
        false,
        [12.9, 0.746, 0.511, 1.06, 1.18, 15.7, 0.841, 0.341, 0.193, -0.00938, -0.0969, -0.0214],
    ),
    (
        "gb300",
        WeightFormat::Bf16,
        true,
        [12.9, 0.746, 0.511, 1.06, 1.18, 15.7, 0.841, 0.341, 0.193, -0.00938, -0.0969, -0.0214],
    ),
    (
        "gb300",
        WeightFormat::Fp8,
        false,
        [13.1, 0.611, 0.483, 1.07, 1.23, 31.2, 0.812, 0.394, 0.276, 0.168, -0.114, -0.018],
    ),
    (
        "gb300",
        WeightFormat::Fp8,
        true,
        [13.1, 0.611, 0.483, 1.07, 1.23, 31.2, 0.812, 0.394, 0.276, 0.168, -0.114, -0.018],
    ),
    (
        "gb300",
        WeightFormat::Fp8Block,
        false,
        [29.1, 0.0, 0.208, 1.6, 0.869, 15.9, 0.896, 0.493, 0.299, 0.153, -0.0553, -0.0407],
    ),
    (
        "gb300",
        WeightFormat::Fp8Block,
        true,
        [29.1, 0.0, 0.208, 1.6, 0.869, 15.9, 0.896, 0.493, 0.299, 0.153, -0.0553, -0.0407],
    ),
    (
        "gb300",
        WeightFormat::Int4Group32,
        false,
        [33.3, 0.191, 0.145, 1.11, 0.6, 0.0, 1.68, 0.406, 0.28, 0.0704, -0.0477, 0.108],
    ),
    (
        "gb300",
        WeightFormat::Int4Group32,
        true,
        [33.3, 0.191, 0.145, 1.11, 0.6, 0.0, 1.68, 0.406, 0.28, 0.0704, -0.0477, 0.108],
    ),
    (
        "gb300",
        WeightFormat::Mxfp4,
        false,
        [15.0, 1.51, 0.232, 0.587, 1.58, 12.5, 0.597, 0.425, 0.276, 0.208, -0.108, 0.141],
    ),
    (
        "gb300",
        WeightFormat::Mxfp4,
        true,
        [15.0, 1.51, 0.232, 0.587, 1.58, 12.5, 0.597, 0.425, 0.276, 0.208, -0.108, 0.141],
    ),
    (
        "gb300",
        WeightFormat::Nvfp4,
        false,
        [12.2, 0.79, 0.654, 1.55, 0.636, 25.2, 0.829, 0.46, 0.342, 0.412, -0.118, -0.0668],
    ),
    (
        "gb300",
        WeightFormat::Nvfp4,
        true,
        [12.2, 0.79, 0.654, 1.55, 0.636, 25.2, 0.829, 0.46, 0.342, 0.412, -0.118, -0.0668],
    ),
    (
        "l40s",
        WeightFormat::Bf16,
        false,
        [0.0, 0.557, 0.631, 1.04, 1.01, 47.7, 0.807, 0.474, 0.335, 0.15, -0.0338, -0.0578],
    ),
    (
        "l40s",
        WeightFormat::Bf16,
        true,
        [0.0, 0.557, 0.631, 1.04, 1.01, 47.7, 0.807, 0.474, 0.335, 0.15, -0.0338, -0.0578],
    ),
    (
        "l40s",
        WeightFormat::Fp8,
        false,
        [2.8, 0.0, 0.437, 0.898, 1.2, 17.2, 0.796, 0.625, 0.485, 0.263, -0.0354, -0.0604],
    ),
    (
        "l40s",
        WeightFormat::Fp8,
        true,
        [2.8, 0.0, 0.437, 0.898, 1.2, 17.2, 0.796, 0.625, 0.485, 0.263, -0.0354, -0.0604],
    ),
    (
        "l40s",
        WeightFormat::Fp8Block,
        false,
        [1.2, 0.0, 0.344, 0.916, 1.8, 37.6, 0.822, 0.627, 0.476, 0.263, -0.034, -0.0525],
    ),
    (
        "l40s",
        WeightFormat::Fp8Block,
        true,
        [1.2, 0.0, 0.344, 0.916, 1.8, 37.6, 0.822, 0.627, 0.476, 0.263, -0.034, -0.0525],
    ),
    (
        "l40s",
        WeightFormat::Int4Group32,
        false,
        [0.0, 0.0, 0.599, 1.06, 1.33, 2.16, 1.06, 0.398, 0.275, -0.0588, -0.143, 0.0169],
    ),
    (
        "l40s",
        WeightFormat::Int4Group32,
        true,
        [0.0, 0.0, 0.599, 1.06, 1.33, 2.16, 1.06, 0.398, 0.275, -0.0588, -0.143, 0.0169],
    ),
    (
        "l40s",
        WeightFormat::Mxfp4,
        false,
        [5.51, 0.0, 0.447, 0.83, 1.53, 2.83, 0.777, 0.499, 0.324, 0.113, -0.0304, 0.0178],
    ),
    (
        "l40s",
        WeightFormat::Mxfp4,
        true,
        [5.51, 0.0, 0.447, 0.83, 1.53, 2.83, 0.777, 0.499, 0.324, 0.113, -0.0304, 0.0178],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Bf16,
        false,
        [24.0, 0.0, 0.424, 0.988, 1.45, 14.1, 0.967, 0.327, 0.207, 0.0767, -0.082, -0.0416],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Bf16,
        true,
        [24.0, 0.0, 0.424, 0.988, 1.45, 14.1, 0.967, 0.327, 0.207, 0.0767, -0.082, -0.0416],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Fp8,
        false,
        [27.8, 0.0, 0.335, 1.0, 1.35, 9.09, 1.03, 0.295, 0.211, 0.165, -0.0651, -0.0573],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Fp8,
        true,
        [27.8, 0.0, 0.335, 1.0, 1.35, 9.09, 1.03, 0.295, 0.211, 0.165, -0.0651, -0.0573],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Int4Group32,
        false,
        [9.4e-06, 1.66, 0.617, 1.11, 1.32, 2.32, 1.25, 0.448, 0.309, 0.0829, -0.0767, 0.0159],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Int4Group32,
        true,
        [9.4e-06, 1.66, 0.617, 1.11, 1.32, 2.32, 1.25, 0.448, 0.309, 0.0829, -0.0767, 0.0159],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Mxfp4,
        false,
        [19.1, 0.0, 0.511, 0.945, 1.05, 4.37e-05, 0.842, 0.53, 0.345, 0.155, 0.00436, -0.00466],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Mxfp4,
        true,
        [19.1, 0.0, 0.511, 0.945, 1.05, 4.37e-05, 0.842, 0.53, 0.345, 0.155, 0.00436, -0.00466],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Nvfp4,
        false,
        [41.9, 0.0, 0.462, 1.16, 1.14, 31.0, 1.11, 0.32, 0.282, 0.426, -0.0997, -0.0742],
    ),
    (
        "rtx_pro_6000_server",
        WeightFormat::Nvfp4,
        true,
        [41.9, 0.0, 0.462, 1.16, 1.14, 31.0, 1.11, 0.32, 0.282, 0.426, -0.0997, -0.0742],
    ),
];

/// A device that stands in for another that has no fit of its own: of the same generation.
const STAND_INS: &[(&str, &str)] =
    &[("a100_pcie", "a100"), ("a40", "a100"), ("a30", "a100"), ("h100_pcie", "h100"), ("l4", "l40s")];

/// Constants of one device's routed experts, and how they were come by.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Routed {
    figures: Figures,
    is_balanced: bool,
    pub is_fitted: bool,
    pub source: String,
}

/// `is_balanced`: whether the router was balanced in training as DeepSeek's are; `is_divided`: whether
/// experts are divided among devices.
pub(super) fn routed(device: &Device, format: WeightFormat, is_balanced: bool, is_divided: bool) -> Routed {
    use WeightFormat::{Bf16, Fp8, Fp8Block, Fp8Static, Int4, Int4Group32};
    let alike = match format {
        Fp8Static => Fp8,
        Int4 => Int4Group32,
        other => other,
    };
    let find = |device: &str, format: WeightFormat| {
        let of = |divided: bool| {
            FITS.iter().find(|(name, known, is, _)| *name == device && *known == format && *is == divided)
        };
        of(is_divided).or_else(|| of(!is_divided))
    };
    let stand_in = STAND_INS.iter().find(|(name, _)| *name == device.name).map_or("h100", |(_, known)| known);
    // The first that has a fit: the device itself, one like it; in this format, in one of like kernels, in
    // bf16.
    let formats = match alike {
        Fp8 => vec![Fp8, Fp8Block, Bf16],
        Fp8Block => vec![Fp8Block, Fp8, Bf16],
        other => vec![other, Bf16],
    };
    let devices = [device.name, stand_in, "h100"];
    let mut candidates =
        formats.iter().flat_map(|format| devices.iter().map(move |device| (*device, *format)));
    let found = candidates.find_map(|(device, format)| find(device, format));
    let &(from, known, _, figures) = found.expect("bf16 is fitted on the H100");
    let source = match (from == device.name, known == alike) {
        (true, true) => "fitted to aiconfigurator-core 0.12.0".to_string(),
        (true, false) => format!("UNFITTED in {}, efficiencies of {} experts", format.name(), known.name()),
        (false, _) => format!("UNFITTED, efficiencies of {} experts on {from}", known.name()),
    };
    Routed { figures, is_balanced, is_fitted: from == device.name && known == alike, source }
}

impl Routed {
    pub fn apply(&self, constants: &mut Constants) {
        let [
            overhead,
            per_octave,
            compute,
            memory,
            smooth,
            tile,
            spread,
            skewed,
            balanced,
            slope,
            curve,
            memory_slope,
        ] = self.figures;
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
