//! What all formulas are made of: peaks, bytes, a maximum with a rounded corner.

use super::Constants;
use crate::hardware::WeightFormat;

pub(super) const BF16_BYTES: f64 = 2.0;

/// Peak of the arithmetic that weights of a format are multiplied with.
pub(super) fn peak_tflops(constants: &Constants, format: WeightFormat) -> f64 {
    match format {
        WeightFormat::Bf16 | WeightFormat::Mxfp4 | WeightFormat::Int4 | WeightFormat::Int4Group32 => {
            constants.peak_bf16_tflops
        }
        WeightFormat::Fp8 | WeightFormat::Fp8Static | WeightFormat::Fp8Block => constants.peak_fp8_tflops,
        WeightFormat::Nvfp4 => constants.peak_fp4_tflops,
    }
}

/// `(x^p + y^p)^(1/p)`, a maximum with a rounded corner.
pub(super) fn soft_maximum(x: f64, y: f64, p: f64) -> f64 {
    soft_maximum_of([x, y], p)
}

/// The same of several numbers.
pub(super) fn soft_maximum_of<const N: usize>(of: [f64; N], p: f64) -> f64 {
    let largest = of.into_iter().fold(0.0, f64::max);
    if largest <= 0.0 {
        0.0
    } else {
        largest * libm::pow(of.into_iter().map(|x| libm::pow(x / largest, p)).sum::<f64>(), 1.0 / p)
    }
}
