//! InferLine's reactive tuner as the lab has it.
//!
//! Rule: replicas = ceil(traffic envelope / replica throughput), looked up in the envelope of scaling up
//! first; scaling down waits for `stabilization_delay_s` since the last scale-up. Throughput is a moving
//! average over ended batches of tokens per second of batch time. With decode tokens that average is misled:
//! a decode batch yields tens of tokens per second while the envelope counts prompts too, and the target
//! explodes. Whatever is measured while replicas are half empty shares that fault: the fewer requests a batch
//! holds, the less it yields a second, and the more replicas seem to be needed. The lab's measure is meant
//! for one decode token; `"throughput_measure": "planned"` is ours for anything else: prompt and output
//! tokens per second of a full replica, by the hardware model, for requests of the mean lengths completed so
//! far, as InferLine's planner would have profiled it.
//!
//! On the lab's trace a sweep of its settings (`sweeps/inferline_tuning.json`) finds some that beat the
//! defaults on both cost and P90: look-back 40 s, windows of 10 s up and 20 s down and `throughput_alpha` 0.005
//! take $35.95 and 0.279 s (P99 2.8 s) where the defaults take $36.42 and 0.285 s (P99 5.7 s). What helps
//! most is to trust the throughput measured over many batches rather than the latest.
//!
//! Source: the lab text, part 2 (after Crankshaw et al., SoCC 2020), its reference outputs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::{Lengths, ReplicaModel};
use super::{
    Arrivals, Autoscaler, BatchEnd, Checked, Completion, Decision, FirstToken, Observes, PolicyContext,
    PolicySettings, Snapshot, TrafficEnvelope, Upstream,
};
use crate::settings::{Faults, PerDirection};

/// Defaults are the lab's, but for the initial throughput, whose default of 1 token/s asks for thousands of
/// replicas at the first tick.
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
    /// Weight of the latest batch in the measured throughput's moving average; 0 keeps the initial value.
    pub throughput_alpha: f64,
    /// What a replica's token throughput is measured by.
    pub throughput_measure: ThroughputMeasure,
}

/// What a replica's token throughput is measured by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThroughputMeasure {
    /// Tokens of each ended batch over its duration, as in the lab.
    #[default]
    Batches,
    /// What a full replica yields by the hardware model, for the lengths seen.
    Planned,
}

impl Default for InferlineSettings {
    fn default() -> Self {
        Self {
            look_back_s: PerDirection::both(80.0),
            min_window_s: PerDirection::both(20.0),
            stabilization_delay_s: 10.0,
            initial_replica_token_throughput: 2300.0,
            throughput_alpha: 0.5,
            throughput_measure: ThroughputMeasure::Batches,
        }
    }
}

impl PolicySettings for InferlineSettings {
    fn upstream(&self) -> Upstream {
        Upstream {
            program: "InferLine's reactive tuner as the lab has it",
            version: "Vidur lab, part 2",
            checked: Checked::Ported,
            left_out: "",
            knob: "look_back_s",
            signals: "tokens of arrivals, true output lengths included, and batch times: of this instant",
            blind_to: "queues, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Inferline::new(self, 1.0, context)))
    }

    fn check(&self, faults: &mut Faults) {
        faults.both_positive("look_back_s", self.look_back_s);
        faults.both_positive("min_window_s", self.min_window_s);
        for (window, look_back) in
            [(self.min_window_s.up, self.look_back_s.up), (self.min_window_s.down, self.look_back_s.down)]
        {
            faults.require(window <= look_back, "min_window_s", || {
                format!("{window} found, expected at most `look_back_s` ({look_back})")
            });
        }
        faults.not_negative("stabilization_delay_s", self.stabilization_delay_s);
        faults.positive("initial_replica_token_throughput", self.initial_replica_token_throughput);
        faults.fraction("throughput_alpha", self.throughput_alpha);
    }
}

/// Tokens of the largest prefill batch planned with: the reference's `max_tokens_in_batch`.
const MAX_BATCHED_TOKENS: u32 = 4096;

#[derive(Debug)]
pub struct Inferline {
    up: TrafficEnvelope,
    /// `None` if the two directions look back alike: then one envelope answers for both.
    down: Option<TrafficEnvelope>,
    stabilization_delay_s: f64,
    throughput_alpha: f64,
    /// The replica as planned with, unless throughput is measured.
    plan: Option<ReplicaModel>,
    completed: u64,
    completed_prefill_tokens: u64,
    completed_decode_tokens: u64,
    /// Share of a replica's throughput that may be used.
    target_utilization: f64,
    token_throughput_per_s: f64,
    last_up_s: f64,
    rate_up_per_s: f64,
    rate_down_per_s: f64,
}

impl Inferline {
    pub fn new(settings: &InferlineSettings, target_utilization: f64, context: &PolicyContext) -> Self {
        let plan = (settings.throughput_measure == ThroughputMeasure::Planned)
            .then(|| ReplicaModel::new(context, MAX_BATCHED_TOKENS));
        let (look_back_s, window_s) = (settings.look_back_s, settings.min_window_s);
        let alike = look_back_s.up == look_back_s.down && window_s.up == window_s.down;
        Self {
            up: TrafficEnvelope::new(look_back_s.up, window_s.up),
            down: (!alike).then(|| TrafficEnvelope::new(look_back_s.down, window_s.down)),
            stabilization_delay_s: settings.stabilization_delay_s,
            throughput_alpha: settings.throughput_alpha,
            plan,
            completed: 0,
            completed_prefill_tokens: 0,
            completed_decode_tokens: 0,
            target_utilization,
            token_throughput_per_s: settings.initial_replica_token_throughput,
            last_up_s: f64::NEG_INFINITY,
            rate_up_per_s: 0.0,
            rate_down_per_s: f64::NAN,
        }
    }
}

impl Autoscaler for Inferline {
    fn observes(&self) -> Observes {
        let planned = self.plan.is_some();
        Observes {
            arrivals: true,
            batches: self.throughput_alpha > 0.0 && !planned,
            latencies: planned,
            ..Observes::default()
        }
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        let tokens = arrivals
            .prefill_tokens
            .iter()
            .zip(arrivals.decode_tokens)
            .map(|(&prefill, &decode)| u64::from(prefill) + u64::from(decode));
        let requests = arrivals.arrived_at_s.iter().copied().zip(tokens);
        if let Some(down) = &mut self.down {
            down.observe_all(requests.clone());
        }
        self.up.observe_all(requests);
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        let alpha = self.throughput_alpha;
        for batch in batches {
            let throughput = batch.tokens as f64 / (batch.completed_at_s - batch.scheduled_at_s);
            self.token_throughput_per_s = alpha * throughput + (1.0 - alpha) * self.token_throughput_per_s;
        }
    }

    fn observe_latencies(&mut self, _first_tokens: &[FirstToken], completions: &[Completion]) {
        let Some(plan) = &self.plan else { return };
        for completion in completions {
            self.completed += 1;
            self.completed_prefill_tokens += u64::from(completion.prefill_tokens);
            self.completed_decode_tokens += u64::from(completion.decode_tokens);
        }
        if self.completed > 0 {
            let mean = |tokens: u64| tokens as f64 / self.completed as f64;
            let lengths = Lengths {
                prefill_tokens: mean(self.completed_prefill_tokens),
                decode_tokens: mean(self.completed_decode_tokens),
            };
            self.token_throughput_per_s =
                plan.requests_per_s(lengths) * (lengths.prefill_tokens + lengths.decode_tokens);
        }
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let committed = snapshot.committed();
        let usable = self.token_throughput_per_s * self.target_utilization;
        self.rate_up_per_s = self.up.rate_per_s(now_s);
        self.rate_down_per_s = f64::NAN;
        let up = (self.rate_up_per_s / usable).ceil() as u32;
        if up > committed {
            self.last_up_s = now_s;
            return Decision::Up(up - committed);
        }
        if now_s - self.last_up_s < self.stabilization_delay_s {
            return Decision::Hold;
        }
        self.rate_down_per_s = self.down.as_mut().map_or(self.rate_up_per_s, |down| down.rate_per_s(now_s));
        let down = ((self.rate_down_per_s / usable).ceil() as u32).max(1);
        Decision::towards(committed, down.min(committed))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("token_throughput_per_s", self.token_throughput_per_s),
            ("rate_up_tokens_per_s", self.rate_up_per_s),
            ("rate_down_tokens_per_s", self.rate_down_per_s),
        ]
    }
}
