//! Routed experts of one layer on one device.

use super::Constants;
use super::roofline::{BF16_BYTES, peak_tflops, soft_maximum};
use crate::hardware::catalog::Experts;
use crate::hardware::{Deployment, WeightFormat};

/// The fullest device's part of a mixture of experts.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct RoutedExperts {
    pub count: f64,
    per_token: f64,
    /// Hidden width of all shared experts.
    pub shared: f64,
    pub dense_layers: f64,
    /// Groups that experts are divided among, experts of one group, and hidden width of one device's part of
    /// an expert.
    groups: f64,
    group_experts: f64,
    width: f64,
    format: WeightFormat,
}

impl RoutedExperts {
    pub fn new(experts: &Experts, deployment: &Deployment, format: WeightFormat) -> Self {
        let groups = f64::from(deployment.expert_parallel);
        Self {
            count: experts.count.into(),
            per_token: experts.per_token.into(),
            shared: experts.shared_hidden_dim.into(),
            dense_layers: experts.dense_layers.into(),
            groups,
            group_experts: f64::from(experts.count) / groups,
            width: f64::from(experts.hidden_dim) / f64::from(deployment.expert_tensor_parallel()),
            format,
        }
    }

    /// Pairs of a token and one of its experts on the fullest group, and how many of its experts are hit by
    /// at least one token.
    pub fn load(&self, constants: &Constants, tokens: f64) -> (f64, f64) {
        let mean = tokens * self.per_token / self.groups;
        let pairs = (mean * libm::pow(self.groups, constants.moe_imbalance))
            .min(tokens * self.per_token.min(self.group_experts));
        let share = (pairs / tokens / self.group_experts).min(1.0);
        let missed = libm::pow(1.0 - share, (constants.moe_spread * tokens).max(1.0));
        (pairs, (self.group_experts * (1.0 - missed)).max(1.0))
    }

    /// Microseconds for `tokens` of all groups that share the experts.
    pub fn us(&self, constants: &Constants, hidden: f64, tokens: f64) -> f64 {
        if tokens <= 0.0 {
            return 0.0;
        }
        let c = constants;
        let (pairs, hit) = self.load(c, tokens);
        let octaves = libm::log2(self.width / 1024.0);
        let eff_compute =
            c.moe_eff_compute * libm::exp2(octaves * (c.moe_width_slope + c.moe_width_curve * octaves));
        let eff_memory = c.moe_eff_memory * libm::exp2(octaves * c.moe_width_memory_slope);
        let flops = 6.0 * (pairs + hit * c.moe_tile_tokens) * hidden * self.width;
        let weights = hit * 3.0 * hidden * self.width * self.format.bytes();
        let activations = BF16_BYTES * pairs * (2.0 * hidden + 3.0 * self.width);
        let compute = flops / (peak_tflops(c, self.format) * 1e6 * eff_compute);
        let memory = (weights + activations) / (c.memory_gb_per_s * 1e3 * eff_memory);
        c.moe_overhead_us
            + c.moe_overhead_per_octave_us * libm::log2(1.0 + hit)
            + soft_maximum(compute, memory, c.moe_smooth_p)
    }
}
