//! InferLine's reactive tuner as the lab has it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::{Faults, PerDirection};

/// Defaults are the lab's, but for the initial throughput, whose default of 1 token/s asks for thousands of replicas at the first tick.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InferlineSettings {
    /// How far back the traffic envelope looks.
    pub look_back_s: PerDirection,
    /// Window over which arrived tokens are averaged.
    pub min_window_s: PerDirection,
    /// No scaling down within this time after scaling up.
    pub stabilization_delay_s: f64,
    /// Tokens per second one replica is believed to process before the first batch ends.
    pub initial_replica_token_throughput: f64,
    /// Weight of the latest batch in the throughput's moving average; 0 keeps the initial value.
    pub throughput_alpha: f64,
}

impl Default for InferlineSettings {
    fn default() -> Self {
        Self {
            look_back_s: PerDirection::both(80.0),
            min_window_s: PerDirection::both(20.0),
            stabilization_delay_s: 10.0,
            initial_replica_token_throughput: 2300.0,
            throughput_alpha: 0.5,
        }
    }
}

impl InferlineSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.both_positive("look_back_s", self.look_back_s);
        faults.both_positive("min_window_s", self.min_window_s);
        for (window, look_back) in [(self.min_window_s.up, self.look_back_s.up), (self.min_window_s.down, self.look_back_s.down)] {
            faults.require(window <= look_back, "min_window_s", || format!("{window} found, expected at most `look_back_s` ({look_back})"));
        }
        faults.not_negative("stabilization_delay_s", self.stabilization_delay_s);
        faults.positive("initial_replica_token_throughput", self.initial_replica_token_throughput);
        faults.fraction("throughput_alpha", self.throughput_alpha);
    }
}
