//! Dynamo's throughput-based scaling of aggregated engines: forecast the traffic, divide by what an engine
//! does within its targets.
//!
//! Rule, every interval: predict the next interval's requests, mean input length I and mean output length O,
//! each on its own; an interval without requests carries the last lengths on and counts as 0 requests. Over
//! batch sizes b, up to what fits (KV cache / (I + O/2), the concurrency limit): an iteration holds b decodes
//! of I + O/2 tokens and b I / O tokens of prompts, if that leaves room for them in a batch; its time is the
//! ITL; the TTFT is the time for those prompts and one more, in chunks of a batch beside the decodes. The
//! most b / (O x ITL) requests per second among those b that meet both targets, or among all if none does.
//! Replicas = ceil(predicted requests per second / that), at least `min_endpoint`, at most
//! `max_throughput_scaling_replicas` more or fewer than serve; where that cannot be told, as many as serve.
//! No more while replicas start.
//!
//! With prefill and decode apart: engines that compute prompts do 1 / (time of a prompt, in chunks) requests
//! per second; those that answer have passes without prompts, and only the ITL target holds.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `adjustment_interval_s` | 180 | planner configuration reference |
//! | `ttft_s`, `itl_s` | 0.5, 0.05 | the same |
//! | `load_predictor`, `load_predictor_log1p` | `arima`, false | the same; `prophet` is left out |
//! | `kalman_q_level`, `kalman_q_trend`, `kalman_r`, `kalman_min_points` | 1.0, 0.1, 10, 5 | the same |
//! | `max_throughput_scaling_replicas` | 8 | the same |
//! | `min_endpoint`, budgets, `engine_knowledge`, `startup_aware`, `max_num_batched_tokens` | | as in [`super::load`] |
//! | `load_adjustment_interval_s` | 5 | the same: how often passes are observed |
//!
//! Source: `planner/core/throughput_scaling.py` and `plugins/builtins/local_planner.py` of the version named
//! in [`super`]. Requests are the interval's arrivals, lengths the means of its completions.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::GpuBudget;
use super::engine::EngineModel;
use super::load::check_budget;
use super::predictor::{LoadPredictor, Predictor, PredictorSettings};
use super::{EngineKnowledge, Planner, engine_model};
use crate::autoscaler::cadence::{Cadence, check_intervals};
use crate::autoscaler::{
    Arrivals, Autoscaler, Checked, Completion, LatencyTarget, Part, PolicyContext, PolicySettings, Upstream,
};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoThroughputSettings {
    pub adjustment_interval_s: f64,
    /// Target of the time to first token.
    pub ttft_s: f64,
    /// Target of the time between tokens.
    pub itl_s: f64,
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
    /// Replicas that one decision may add or take.
    pub max_throughput_scaling_replicas: u32,
    pub min_endpoint: u32,
    pub max_gpu_budget: Option<u32>,
    pub min_gpu_budget: Option<u32>,
    pub engine_knowledge: EngineKnowledge,
    /// Whether it is told which replicas start, as on Kubernetes where it may list pods. If not, as in
    /// NVIDIA's own replay and with its virtual connector, load scaling waits until all that was wanted
    /// serves.
    pub startup_aware: bool,
    /// How often passes are observed.
    pub load_adjustment_interval_s: f64,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
}

impl Default for DynamoThroughputSettings {
    fn default() -> Self {
        Self {
            adjustment_interval_s: 180.0,
            ttft_s: 0.5,
            itl_s: 0.05,
            load_predictor: LoadPredictor::default(),
            load_predictor_log1p: false,
            kalman_q_level: 1.0,
            kalman_q_trend: 0.1,
            kalman_r: 10.0,
            kalman_min_points: 5,
            max_throughput_scaling_replicas: 8,
            min_endpoint: 1,
            max_gpu_budget: None,
            min_gpu_budget: None,
            engine_knowledge: EngineKnowledge::default(),
            startup_aware: true,
            load_adjustment_interval_s: 5.0,
            max_num_batched_tokens: 4096,
        }
    }
}

impl DynamoThroughputSettings {
    pub(super) fn check_all_but_intervals(&self, faults: &mut Faults) {
        let positive = [
            ("ttft_s", self.ttft_s),
            ("itl_s", self.itl_s),
            ("kalman_q_level", self.kalman_q_level),
            ("kalman_q_trend", self.kalman_q_trend),
            ("kalman_r", self.kalman_r),
        ];
        for (field, value) in positive {
            faults.positive(field, value);
        }
        faults.at_least("kalman_min_points", self.kalman_min_points.into(), 1);
        faults.at_least("max_throughput_scaling_replicas", self.max_throughput_scaling_replicas.into(), 1);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 2);
        check_budget(faults, self.min_gpu_budget, self.max_gpu_budget);
    }
}

impl PolicySettings for DynamoThroughputSettings {
    fn check(&self, faults: &mut Faults) {
        let intervals = [
            ("adjustment_interval_s", self.adjustment_interval_s),
            ("load_adjustment_interval_s", self.load_adjustment_interval_s),
        ];
        check_intervals(faults, &intervals);
        self.check_all_but_intervals(faults);
    }

    fn reaches_zero(&self) -> bool {
        self.min_endpoint == 0
    }

    fn latency_targets(&self) -> Vec<LatencyTarget> {
        LatencyTarget::ttft_and_itl(self.ttft_s, self.itl_s)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "NVIDIA Dynamo planner, throughput-based scaling",
            version: "1.6.1",
            checked: Checked::Run,
            left_out: "the Prophet predictor, power budgets, speculative decoding",
            knob: "itl_s",
            signals: "requests and mean lengths of each interval; passes every 5 s",
            blind_to: "queues, KV use, bursts within an interval",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Planner {
            cadence: Cadence::new([self.load_adjustment_interval_s, self.adjustment_interval_s]),
            model: Some(engine_model(context, self.max_num_batched_tokens, self.engine_knowledge)),
            load: None,
            throughput: Some(ThroughputScaling::new(self, context.part)),
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

/// Replicas for the next interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sizing {
    pub replicas: u32,
    /// Whether it rests on what engines can do, or stands for want of it.
    pub is_known: bool,
}

/// Requests of the interval, and those finished in it.
#[derive(Debug, Clone, Copy, Default)]
struct Traffic {
    since_s: Option<f64>,
    requests: u64,
    completed: u64,
    prefill_tokens: u64,
    decode_tokens: u64,
}

#[derive(Debug)]
pub struct ThroughputScaling {
    settings: DynamoThroughputSettings,
    part: Part,
    traffic: Traffic,
    requests: Predictor,
    prefill_tokens: Predictor,
    decode_tokens: Predictor,
    /// Mean lengths of the latest interval that had some.
    last_lengths: (f64, f64),
    has_seen_requests: bool,
    demand_per_s: f64,
    engine_per_s: f64,
}

impl ThroughputScaling {
    pub fn new(settings: &DynamoThroughputSettings, part: Part) -> Self {
        let predictor = Predictor::new(PredictorSettings {
            kind: settings.load_predictor,
            log1p: settings.load_predictor_log1p,
            kalman_q_level: settings.kalman_q_level,
            kalman_q_trend: settings.kalman_q_trend,
            kalman_r: settings.kalman_r,
            kalman_min_points: settings.kalman_min_points,
        });
        Self {
            settings: settings.clone(),
            part,
            traffic: Traffic::default(),
            requests: predictor.clone(),
            prefill_tokens: predictor.clone(),
            decode_tokens: predictor,
            last_lengths: (0.0, 0.0),
            has_seen_requests: false,
            demand_per_s: 0.0,
            engine_per_s: 0.0,
        }
    }

    pub fn count_arrivals(&mut self, arrivals: Arrivals) {
        self.traffic.requests += arrivals.arrived_at_s.len() as u64;
    }

    pub fn count_completions(&mut self, completions: &[Completion]) {
        self.traffic.completed += completions.len() as u64;
        for completion in completions {
            self.traffic.prefill_tokens += u64::from(completion.prefill_tokens);
            self.traffic.decode_tokens += u64::from(completion.decode_tokens);
        }
    }

    /// Feeds the predictors with an interval.
    fn learn(&mut self, traffic: &Traffic) {
        self.requests.observe(traffic.requests as f64);
        let completed = traffic.completed as f64;
        let mut lengths = (traffic.completed > 0)
            .then(|| (traffic.prefill_tokens as f64 / completed, traffic.decode_tokens as f64 / completed));
        if traffic.requests > 0 {
            self.has_seen_requests = true;
            self.last_lengths = lengths.unwrap_or(self.last_lengths);
        } else if self.has_seen_requests {
            lengths = Some(self.last_lengths);
        }
        if let Some((prefill_tokens, decode_tokens)) = lengths {
            self.prefill_tokens.observe(prefill_tokens);
            self.decode_tokens.observe(decode_tokens);
        }
    }

    /// Replicas for the next interval, `ready` of which serve; `None` before the first interval is over.
    pub fn replicas(
        &mut self,
        now_s: f64,
        model: &EngineModel,
        ready: u32,
        min_endpoint: u32,
    ) -> Option<Sizing> {
        let traffic = std::mem::take(&mut self.traffic);
        self.traffic.since_s = Some(now_s);
        let Some(seconds) = traffic.since_s.map(|since_s| now_s - since_s).filter(|&seconds| seconds > 0.0)
        else {
            // What came at the very first instant belongs to the first interval.
            self.traffic = Traffic { since_s: Some(now_s), ..traffic };
            return None;
        };
        self.learn(&traffic);
        self.demand_per_s = self.requests.predict() / seconds;
        let (prefill_tokens, decode_tokens) = (self.prefill_tokens.predict(), self.decode_tokens.predict());
        let capacity = model.capacity(
            self.part,
            prefill_tokens,
            decode_tokens,
            self.settings.ttft_s,
            self.settings.itl_s,
        );
        let engine_per_s = capacity.map(|capacity| capacity.requests_per_s).filter(|&rate| rate > 0.0);
        self.engine_per_s = engine_per_s.unwrap_or(0.0);
        let desired =
            engine_per_s.map_or(ready, |rate| ((self.demand_per_s / rate).ceil() as u32).max(min_endpoint));
        let step = self.settings.max_throughput_scaling_replicas;
        let bounded = desired.clamp(ready.saturating_sub(step), ready.saturating_add(step)).max(min_endpoint);
        Some(Sizing { replicas: bounded, is_known: engine_per_s.is_some() })
    }

    pub fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("predicted_requests_per_s", self.demand_per_s), ("engine_requests_per_s", self.engine_per_s)]
    }
}
