//! Times of whole steps, as imported tables and the analytical model are condensed to.

use serde::{Deserialize, Serialize};

use super::analytical::DenseTables;
use super::attention::{AnalyticAttention, MeasuredAttention};
use super::condensed::Table;
use super::{BatchShape, Deployment};

/// Whole steps: milliseconds of a stage by tokens, of the LM head by requests, of attention by the sums of a
/// batch.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct StepTimes {
    /// First (middle, last) stage, or the only one.
    pub stages: Vec<Table>,
    pub head: Table,
    pub attention: StepAttention,
    pub layers_per_stage: f64,
    pub num_stages: u32,
    /// Whether prefills go through the LM head too.
    #[serde(default = "yes", skip_serializing_if = "is_yes")]
    pub head_of_prefills: bool,
    /// Stages of steps of decodes alone, where these differ from others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decode_stages: Vec<Table>,
    /// Whether a step of prompts and decodes counts as one of each.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed_apart: bool,
    /// What is amiss with them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caveat: Option<String>,
}

fn yes() -> bool {
    true
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_yes(flag: &bool) -> bool {
    *flag
}

#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum StepAttention {
    Analytic(AnalyticAttention),
    Measured(MeasuredAttention),
}

impl StepTimes {
    pub fn new(deployment: &Deployment, dense: DenseTables, attention: StepAttention) -> Self {
        let (layers_per_stage, num_stages) = (deployment.layers_per_stage(), deployment.pipeline_parallel);
        let (stages, head) = (dense.stages, dense.head);
        let (head_of_prefills, decode_stages, mixed_apart, caveat) = (true, Vec::new(), false, None);
        Self {
            stages,
            head,
            attention,
            layers_per_stage,
            num_stages,
            head_of_prefills,
            decode_stages,
            mixed_apart,
            caveat,
        }
    }

    #[inline]
    pub fn stage_time_s(&self, shape: &BatchShape, stage: u32) -> f64 {
        if self.mixed_apart && shape.num_prefills > 0 && shape.num_decodes > 0 {
            let (prefills, decodes) = shape.apart();
            return self.one_step_s(&prefills, stage) + self.one_step_s(&decodes, stage);
        }
        self.one_step_s(shape, stage)
    }

    #[inline]
    fn one_step_s(&self, shape: &BatchShape, stage: u32) -> f64 {
        let attention_ms = match &self.attention {
            StepAttention::Analytic(attention) => attention.prefill_ms(shape) + attention.decode_ms(shape),
            StepAttention::Measured(attention) => attention.prefill_ms(shape) + attention.decode_ms(shape),
        };
        let last = stage + 1 == self.num_stages;
        let kind = if last { self.stages.len() - 1 } else { usize::from(stage > 0) };
        let rows =
            if self.head_of_prefills { shape.num_prefills } else { 0 } + shape.num_decodes + shape.num_drafts;
        let has_head = last && (self.head_of_prefills || rows > 0);
        let head_ms = if has_head { self.head.at(u64::from(rows)) } else { 0.0 };
        let stages = if shape.num_prefills > 0 || self.decode_stages.is_empty() {
            &self.stages
        } else {
            &self.decode_stages
        };
        (stages[kind].at(shape.total_tokens) + self.layers_per_stage * attention_ms + head_ms) * 1e-3
    }
}
