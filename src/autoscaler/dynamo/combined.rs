//! Both of Dynamo's ways of scaling at once: load scaling decides, throughput scaling sets the floor under
//! it.
//!
//! Rule: every `throughput_adjustment_interval_s`, the floor is what [`throughput`](super::throughput) would
//! want, within `max_throughput_scaling_replicas` of what serves and below the GPU ceiling; every
//! `load_adjustment_interval_s`, the decision is what [`load`](super::load) with latency targets wants, or
//! the floor if that is higher. Nothing grows while replicas start.
//!
//! Parameters: those of the two, with their defaults; targets, bounds, budgets and what is known of engines
//! are shared. Source: the same (`enable_load_scaling` and `enable_throughput_scaling` with
//! `optimization_target` `sla`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::GpuBudget;
use super::load::{DynamoLoadSettings, DynamoTarget, LoadScaling};
use super::predictor::LoadPredictor;
use super::throughput::{DynamoThroughputSettings, ThroughputScaling};
use super::{EngineKnowledge, Planner, engine_model};
use crate::autoscaler::cadence::{Cadence, check_intervals};
use crate::autoscaler::{Autoscaler, Checked, LatencyTarget, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoCombinedSettings {
    pub load_adjustment_interval_s: f64,
    pub throughput_adjustment_interval_s: f64,
    /// Target of the time to first token.
    pub ttft_s: f64,
    /// Target of the time between tokens.
    pub itl_s: f64,
    /// Share of the targets that one replica less may use.
    pub down_sensitivity: f64,
    pub load_predictor: LoadPredictor,
    /// Whether logarithms are predicted.
    pub load_predictor_log1p: bool,
    /// Variance of the level's steps.
    pub kalman_q_level: f64,
    /// Variance of the trend's steps.
    pub kalman_q_trend: f64,
    /// Variance of the measurements.
    pub kalman_r: f64,
    /// Intervals before the filter is believed.
    pub kalman_min_points: u32,
    /// Replicas by which the floor may differ from what serves.
    pub max_throughput_scaling_replicas: u32,
    pub min_endpoint: u32,
    pub max_gpu_budget: Option<u32>,
    pub min_gpu_budget: Option<u32>,
    pub engine_knowledge: EngineKnowledge,
    /// Whether it is told which replicas start, as on Kubernetes where it may list pods. If not, as in
    /// NVIDIA's own replay and with its virtual connector, load scaling waits until all that was wanted
    /// serves.
    pub startup_aware: bool,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
}

impl Default for DynamoCombinedSettings {
    fn default() -> Self {
        let (load, throughput) = (DynamoLoadSettings::default(), DynamoThroughputSettings::default());
        Self {
            load_adjustment_interval_s: load.adjustment_interval_s,
            throughput_adjustment_interval_s: throughput.adjustment_interval_s,
            ttft_s: load.ttft_s,
            itl_s: load.itl_s,
            down_sensitivity: load.down_sensitivity,
            load_predictor: throughput.load_predictor,
            load_predictor_log1p: throughput.load_predictor_log1p,
            kalman_q_level: throughput.kalman_q_level,
            kalman_q_trend: throughput.kalman_q_trend,
            kalman_r: throughput.kalman_r,
            kalman_min_points: throughput.kalman_min_points,
            max_throughput_scaling_replicas: throughput.max_throughput_scaling_replicas,
            min_endpoint: load.min_endpoint,
            max_gpu_budget: load.max_gpu_budget,
            min_gpu_budget: load.min_gpu_budget,
            engine_knowledge: load.engine_knowledge,
            startup_aware: load.startup_aware,
            max_num_batched_tokens: load.max_num_batched_tokens,
        }
    }
}

impl DynamoCombinedSettings {
    fn load(&self) -> DynamoLoadSettings {
        DynamoLoadSettings {
            optimization_target: DynamoTarget::Sla,
            adjustment_interval_s: self.load_adjustment_interval_s,
            ttft_s: self.ttft_s,
            itl_s: self.itl_s,
            down_sensitivity: self.down_sensitivity,
            ..DynamoLoadSettings::default()
        }
    }

    fn throughput(&self) -> DynamoThroughputSettings {
        DynamoThroughputSettings {
            adjustment_interval_s: self.throughput_adjustment_interval_s,
            ttft_s: self.ttft_s,
            itl_s: self.itl_s,
            load_predictor: self.load_predictor,
            load_predictor_log1p: self.load_predictor_log1p,
            kalman_q_level: self.kalman_q_level,
            kalman_q_trend: self.kalman_q_trend,
            kalman_r: self.kalman_r,
            kalman_min_points: self.kalman_min_points,
            max_throughput_scaling_replicas: self.max_throughput_scaling_replicas,
            min_endpoint: self.min_endpoint,
            max_gpu_budget: self.max_gpu_budget,
            min_gpu_budget: self.min_gpu_budget,
            engine_knowledge: self.engine_knowledge,
            startup_aware: self.startup_aware,
            load_adjustment_interval_s: self.load_adjustment_interval_s,
            max_num_batched_tokens: self.max_num_batched_tokens,
        }
    }
}

impl PolicySettings for DynamoCombinedSettings {
    fn check(&self, faults: &mut Faults) {
        let (load_s, throughput_s) = (self.load_adjustment_interval_s, self.throughput_adjustment_interval_s);
        check_intervals(
            faults,
            &[("load_adjustment_interval_s", load_s), ("throughput_adjustment_interval_s", throughput_s)],
        );
        faults.require(load_s < throughput_s, "load_adjustment_interval_s", || {
            format!("{load_s} found, expected less than `throughput_adjustment_interval_s` ({throughput_s})")
        });
        faults.fraction("down_sensitivity", self.down_sensitivity);
        self.throughput().check_all_but_intervals(faults);
    }

    fn latency_targets(&self) -> Vec<LatencyTarget> {
        LatencyTarget::ttft_and_itl(self.ttft_s, self.itl_s)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "NVIDIA Dynamo planner, both ways of scaling",
            version: "1.6.1",
            checked: Checked::Run,
            left_out: "the Prophet predictor, power budgets, speculative decoding",
            knob: "ttft_s",
            signals: "those of `dynamo_load`, and of `dynamo_throughput` for the floor",
            blind_to: "latency as felt",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Planner {
            cadence: Cadence::new([self.load_adjustment_interval_s, self.throughput_adjustment_interval_s]),
            model: Some(engine_model(context, self.max_num_batched_tokens, self.engine_knowledge)),
            load: Some(LoadScaling::new(&self.load(), context)),
            throughput: Some(ThroughputScaling::new(&self.throughput(), context.part)),
            min_endpoint: self.min_endpoint,
            startup_aware: self.startup_aware,
            seen: Vec::new(),
            budget: GpuBudget {
                most: self.max_gpu_budget,
                least: self.min_gpu_budget,
                per_replica: context.bill.devices_per_replica,
            },
        }))
    }
}
