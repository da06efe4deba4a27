//! The overheads themselves, and as a step's time asks for them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

/// The overheads themselves.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Overheads {
    /// Kernels of this device take so many times what the model of step times says.
    pub kernel_time_factor: f64,
    /// CPU and launch time of a step that kernels do not hide, ms.
    pub step_ms: f64,
    /// The same for each sequence of a step, us.
    pub per_sequence_us: f64,
    /// The same for each token of a prompt that a step computes, us: what of a prefill neither the kernels'
    /// time nor its factor, which holds for decodes too, accounts for.
    #[serde(skip_serializing_if = "is_zero")]
    pub prefill_us_per_token: f64,
    /// Sampling of one sequence, per entry of the vocabulary, ns. 0 where requests do not sample.
    pub sampling_ns_per_logit: f64,
    /// From client to engine and back: HTTP, tokens from text and text from tokens, ms. On time to first
    /// token and end-to-end latency.
    pub api_ms: f64,
}

impl Overheads {
    pub const NONE: Self = Self {
        kernel_time_factor: 1.0,
        step_ms: 0.0,
        per_sequence_us: 0.0,
        prefill_us_per_token: 0.0,
        sampling_ns_per_logit: 0.0,
        api_ms: 0.0,
    };

    pub fn check(&self, faults: &mut Faults) {
        faults.positive("kernel_time_factor", self.kernel_time_factor);
        faults.not_negative("step_ms", self.step_ms);
        faults.not_negative("per_sequence_us", self.per_sequence_us);
        faults.not_negative("prefill_us_per_token", self.prefill_us_per_token);
        faults.not_negative("sampling_ns_per_logit", self.sampling_ns_per_logit);
        faults.not_negative("api_ms", self.api_ms);
    }
}

fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

impl Default for Overheads {
    fn default() -> Self {
        Self::NONE
    }
}

/// Overheads as a step's time asks for them.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::hardware) struct StepOverheads {
    factor: f64,
    step_s: f64,
    per_sequence_s: f64,
    prefill_s_per_token: f64,
}

impl StepOverheads {
    pub const NONE: Self = Self { factor: 1.0, step_s: 0.0, per_sequence_s: 0.0, prefill_s_per_token: 0.0 };

    pub fn new(overheads: &Overheads, vocabulary: u32) -> Self {
        Self {
            factor: overheads.kernel_time_factor,
            step_s: overheads.step_ms * 1e-3,
            prefill_s_per_token: overheads.prefill_us_per_token * 1e-6,
            per_sequence_s: overheads.per_sequence_us * 1e-6
                + overheads.sampling_ns_per_logit * 1e-9 * f64::from(vocabulary),
        }
    }

    /// The first stage of a pipeline bears the CPU's part.
    #[inline]
    pub fn on_top_of(&self, kernels_s: f64, sequences: u32, prefill_tokens: u64, stage: u32) -> f64 {
        let own_s = if stage == 0 {
            self.step_s
                + self.per_sequence_s * f64::from(sequences)
                + self.prefill_s_per_token * prefill_tokens as f64
        } else {
            0.0
        };
        kernels_s * self.factor + own_s
    }
}
