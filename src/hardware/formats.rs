//! Number formats of the KV cache and of weights.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Number format of the KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Precision {
    #[default]
    Bf16,
    Fp8,
}

impl Precision {
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 => 1.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
        }
    }

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
    pub(super) fn is_bf16(&self) -> bool {
        *self == Self::Bf16
    }
}

/// Number format of stored weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WeightFormat {
    #[default]
    Bf16,
    /// FP8 with a scale a tensor or a channel, activations scaled as they come.
    Fp8,
    /// FP8 with a scale a tensor, activations scaled as calibrated (ModelOpt).
    Fp8Static,
    /// FP8 with a scale for each block of 128 x 128 (DeepSeek).
    Fp8Block,
    /// 4-bit floats in groups of 16 with FP8 scales; activations are 4-bit too.
    Nvfp4,
    /// 4-bit floats in groups of 32 with 8-bit exponents; activations stay bf16 (gpt-oss).
    Mxfp4,
    /// 4-bit integers in groups of 128 with bf16 scales (AWQ, GPTQ); activations stay bf16.
    Int4,
    /// The same in groups of 32 (Kimi).
    Int4Group32,
}

impl WeightFormat {
    pub const ALL: [Self; 8] = [
        Self::Bf16,
        Self::Fp8,
        Self::Fp8Static,
        Self::Fp8Block,
        Self::Nvfp4,
        Self::Mxfp4,
        Self::Int4,
        Self::Int4Group32,
    ];

    /// Bytes of one weight with its share of the scales.
    pub fn bytes(self) -> f64 {
        match self {
            Self::Bf16 => 2.0,
            Self::Fp8 | Self::Fp8Static => 1.0,
            Self::Fp8Block => 1.0 + 4.0 / (128.0 * 128.0),
            Self::Nvfp4 => 0.5 + 1.0 / 16.0,
            Self::Mxfp4 => 0.5 + 1.0 / 32.0,
            Self::Int4 => 0.5 + 2.0 / 128.0,
            Self::Int4Group32 => 0.5 + 2.0 / 32.0,
        }
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Bf16 => "bf16",
            Self::Fp8 => "fp8",
            Self::Fp8Static => "fp8_static",
            Self::Fp8Block => "fp8_block",
            Self::Nvfp4 => "nvfp4",
            Self::Mxfp4 => "mxfp4",
            Self::Int4 => "int4",
            Self::Int4Group32 => "int4_group32",
        }
    }

    pub fn is_bf16(self) -> bool {
        self == Self::Bf16
    }

    /// A format by the name measured data gives it.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "bf16" | "bfloat16" | "fp16" | "float16" => Self::Bf16,
            "int4_wo" => Self::Int4,
            "w4a16_mxfp4" => Self::Mxfp4,
            name => *Self::ALL.iter().find(|format| format.name() == name)?,
        })
    }
}

/// Number formats of a model's weights. Embedding, LM head and the router of a mixture of experts stay bf16,
/// as in published checkpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Weights {
    /// Attention, ordinary MLPs and shared experts.
    pub layers: WeightFormat,
    /// Routed experts.
    pub experts: WeightFormat,
}

impl Weights {
    pub const fn all(format: WeightFormat) -> Self {
        Self { layers: format, experts: format }
    }

    /// Only the routed experts in `format`.
    pub const fn experts(format: WeightFormat) -> Self {
        Self { layers: WeightFormat::Bf16, experts: format }
    }

    /// What naming one format means: mxfp4 is published for experts only, everything else for all layers.
    pub const fn given(format: WeightFormat) -> Self {
        match format {
            WeightFormat::Mxfp4 => Self::experts(format),
            _ => Self::all(format),
        }
    }

    pub fn name(self) -> String {
        let Self { layers, experts } = self;
        if layers == experts {
            layers.name().into()
        } else {
            format!("{} experts, otherwise {}", experts.name(), layers.name())
        }
    }

    pub fn is_bf16(&self) -> bool {
        *self == Self::default()
    }
}

impl From<WeightFormat> for Weights {
    fn from(format: WeightFormat) -> Self {
        Self::given(format)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_settings_and_of_measured_data() {
        for format in WeightFormat::ALL {
            assert_eq!(serde_json::to_value(format).unwrap(), format.name());
            assert_eq!(WeightFormat::named(format.name()), Some(format));
        }
        assert_eq!(WeightFormat::named("w4a16_mxfp4"), Some(WeightFormat::Mxfp4));
        assert_eq!(WeightFormat::named("int8_wo"), None);
        assert_eq!(Weights::from(WeightFormat::Mxfp4).name(), "mxfp4 experts, otherwise bf16");
    }
}
