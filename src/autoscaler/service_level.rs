//! One knob from cheap to fast: InferLine with a target utilisation per level.
//!
//! Level 1 fills replicas to 95 % of their throughput, level 2 to 80 %, level 3 to 65 %; a level between two
//! is interpolated. The figures are ours: queueing delay grows with utilisation / (1 - utilisation), so these
//! three space latencies widely.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inferline::{Inferline, ThroughputMeasure};
use super::{Autoscaler, Checked, InferlineSettings, PolicyContext, PolicySettings, Upstream};
use crate::settings::{Faults, PerDirection};

/// InferLine's settings, and a level.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ServiceLevelSettings {
    /// 1 (cheapest) to 3 (fastest); levels between are interpolated.
    pub level: f64,
    /// As in `inferline`.
    pub look_back_s: PerDirection,
    /// As in `inferline`.
    pub min_window_s: PerDirection,
    /// As in `inferline`.
    pub stabilization_delay_s: f64,
    /// As in `inferline`.
    pub initial_replica_token_throughput: f64,
    /// As in `inferline`.
    pub throughput_alpha: f64,
    /// As in `inferline`.
    pub throughput_measure: ThroughputMeasure,
}

impl Default for ServiceLevelSettings {
    fn default() -> Self {
        let inferline = InferlineSettings::default();
        Self {
            level: 2.0,
            look_back_s: inferline.look_back_s,
            min_window_s: inferline.min_window_s,
            stabilization_delay_s: inferline.stabilization_delay_s,
            initial_replica_token_throughput: inferline.initial_replica_token_throughput,
            throughput_alpha: inferline.throughput_alpha,
            throughput_measure: inferline.throughput_measure,
        }
    }
}

impl PolicySettings for ServiceLevelSettings {
    fn check(&self, faults: &mut Faults) {
        faults.require((1.0..=3.0).contains(&self.level), "level", || {
            format!("{} found, expected 1 (cheapest) to 3 (fastest)", self.level)
        });
        self.inferline().check(faults);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "InferLine's tuner with a utilisation per level",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "level",
            signals: "as `inferline`",
            blind_to: "queues, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let target_utilization = 0.95 - 0.15 * (self.level - 1.0);
        Some(Box::new(Inferline::new(&self.inferline(), target_utilization, context)))
    }
}

impl ServiceLevelSettings {
    fn inferline(&self) -> InferlineSettings {
        InferlineSettings {
            look_back_s: self.look_back_s,
            min_window_s: self.min_window_s,
            stabilization_delay_s: self.stabilization_delay_s,
            initial_replica_token_throughput: self.initial_replica_token_throughput,
            throughput_alpha: self.throughput_alpha,
            throughput_measure: self.throughput_measure,
        }
    }
}
