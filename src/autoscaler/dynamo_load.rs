//! NVIDIA Dynamo's planner, load-based scaling of aggregated engines: +1 or -1 from what every engine is about to feel.
//!
//! Rule with `optimization_target` `sla`, every interval, while no change is under way. TTFT of an engine = time to prefill its queued
//! prompts and a mean one more, in chunks of the batch limit, beside its decodes. ITL = time of an iteration with its decodes, one more of
//! mean length, and a mean amount of prompts. One more replica if all engines exceed the TTFT target, or all the ITL target. One less only
//! if on every engine, with its load scaled by N / (N - 1): the queue's part of the TTFT stays below (target - own part) x sensitivity, the
//! ITL below target x sensitivity, and tokens in use and queued fit into the KV cache.
//!
//! With `throughput` or `latency` (easy modes): one more if any engine's (tokens in use + queued prompts) / KV tokens exceeds 1.0 or 0.4;
//! one less if all are below 0.6 or 0.1.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `optimization_target` | `throughput` | planner configuration reference |
//! | `adjustment_interval_s` | 5 | the same |
//! | `ttft_s`, `itl_s`, `down_sensitivity` | 0.5, 0.05, 0.80 | the same |
//! | `max_num_batched_tokens` | 4096 | this simulator's schedulers; read from the engine there |
//! | `mean_window_s` | 60 | ours: there the means run over the last 64 forward passes |
//!
//! Source: ai-dynamo/dynamo `components/src/dynamo/planner/core/{load_scaling.py, perf_model/agg.py}`. The hardware model stands for their
//! regression on forward passes, as in [`dynamo_throughput`](super::dynamo_throughput). Engines report after each pass: not stale.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::{Lengths, ReplicaModel};
use super::signals::Signals;
use super::{
    Arrivals, Autoscaler, BatchEnd, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings, Snapshot, Upstream,
};
use crate::settings::Faults;

/// What is optimised.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DynamoTarget {
    /// Latencies within `ttft_s` and `itl_s`.
    Sla,
    /// Easy mode: full engines.
    #[default]
    Throughput,
    /// Easy mode: engines with room.
    Latency,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct DynamoLoadSettings {
    pub optimization_target: DynamoTarget,
    pub adjustment_interval_s: f64,
    /// Target of the time to first token.
    pub ttft_s: f64,
    /// Target of the time between tokens.
    pub itl_s: f64,
    /// Share of the targets that one replica less may use.
    pub down_sensitivity: f64,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
    /// Window of mean lengths and of mean prompts per iteration.
    pub mean_window_s: f64,
}

impl Default for DynamoLoadSettings {
    fn default() -> Self {
        Self {
            optimization_target: DynamoTarget::default(),
            adjustment_interval_s: 5.0,
            ttft_s: 0.5,
            itl_s: 0.05,
            down_sensitivity: 0.8,
            max_num_batched_tokens: 4096,
            mean_window_s: 60.0,
        }
    }
}

impl PolicySettings for DynamoLoadSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("adjustment_interval_s", self.adjustment_interval_s);
        for (field, value) in [("ttft_s", self.ttft_s), ("itl_s", self.itl_s), ("mean_window_s", self.mean_window_s)] {
            faults.positive(field, value);
        }
        faults.fraction("down_sensitivity", self.down_sensitivity);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
    }

    fn latency_targets(&self) -> Vec<super::LatencyTarget> {
        if self.optimization_target == DynamoTarget::Sla { super::LatencyTarget::ttft_and_itl(self.ttft_s, self.itl_s) } else { Vec::new() }
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "NVIDIA Dynamo planner, load-based scaling",
            version: "1.6.1",
            checked: Checked::Ported,
            left_out: "",
            knob: "ttft_s",
            signals: "each engine's queue and KV use, of this instant; mean lengths of 60 s",
            blind_to: "arrival rates",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(DynamoLoad {
            settings: self.clone(),
            model: ReplicaModel::new(context, self.max_num_batched_tokens),
            signals: Signals::new(self.mean_window_s),
            worst_ttft_s: 0.0,
            worst_itl_s: 0.0,
        }))
    }
}

/// One engine's load, tokens.
#[derive(Debug, Clone, Copy, PartialEq)]
struct EngineLoad {
    queued_prefill: f64,
    decode_kv: f64,
}

/// What engines do on average.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Means {
    lengths: Lengths,
    /// Tokens of prompts in an iteration.
    prefill_per_iteration: f64,
}

#[derive(Debug)]
struct DynamoLoad {
    settings: DynamoLoadSettings,
    model: ReplicaModel,
    signals: Signals,
    worst_ttft_s: f64,
    worst_itl_s: f64,
}

impl DynamoLoad {
    /// An iteration with so many tokens of prompts beside decodes that hold so much of the cache.
    fn iteration_s(&self, prefill: f64, decode_kv: f64, means: &Means) -> f64 {
        let context = means.lengths.prefill_tokens + means.lengths.decode_tokens / 2.0;
        let decodes = (decode_kv / context).round().clamp(0.0, f64::from(self.model.batch_size_cap())) as u32;
        self.model.batch_time_s(&self.model.shape(prefill, decodes, means.lengths))
    }

    fn ttft_s(&self, queued_prefill: f64, decode_kv: f64, means: &Means) -> f64 {
        let batched = f64::from(self.model.max_batched_tokens());
        let (mut left, mut time_s) = (queued_prefill + means.lengths.prefill_tokens, 0.0);
        let whole = (left / batched).floor();
        if whole > 0.0 {
            time_s += whole * self.iteration_s(batched, decode_kv, means);
            left -= whole * batched;
        }
        if left > 0.0 { time_s + self.iteration_s(left, decode_kv, means) } else { time_s }
    }

    fn itl_s(&self, decode_kv: f64, means: &Means) -> f64 {
        let context = means.lengths.prefill_tokens + means.lengths.decode_tokens / 2.0;
        self.iteration_s(means.prefill_per_iteration, decode_kv + context, means)
    }

    /// The change of replicas that latency targets ask for.
    fn for_sla(&mut self, engines: &[EngineLoad], means: &Means) -> i32 {
        let settings = &self.settings;
        let count = engines.len() as f64;
        let ttfts: Vec<f64> = engines.iter().map(|engine| self.ttft_s(engine.queued_prefill, engine.decode_kv, means)).collect();
        let itls: Vec<f64> = engines.iter().map(|engine| self.itl_s(engine.decode_kv, means)).collect();
        let fewer = engines.len() > 1
            && engines.iter().all(|engine| {
                let more = count / (count - 1.0);
                let (queued, kv) = ((engine.queued_prefill * more).floor(), (engine.decode_kv * more).floor());
                let own_s = self.ttft_s(0.0, kv, means);
                let budget_s = (settings.ttft_s - own_s) * settings.down_sensitivity;
                let combined = ((engine.decode_kv + engine.queued_prefill) * more).floor();
                budget_s > 0.0
                    && self.ttft_s(queued, kv, means) - own_s < budget_s
                    && combined < self.model.kv_tokens()
                    && self.itl_s(combined, means) < settings.itl_s * settings.down_sensitivity
            });
        let more = ttfts.iter().all(|&ttft| ttft > settings.ttft_s) || itls.iter().all(|&itl| itl > settings.itl_s);
        self.worst_ttft_s = ttfts.into_iter().fold(0.0, f64::max);
        self.worst_itl_s = itls.into_iter().fold(0.0, f64::max);
        if more { 1 } else { -i32::from(fewer) }
    }

    /// The change of replicas by the easy modes' thresholds.
    fn easily(&self, engines: &[EngineLoad]) -> i32 {
        let (up, down) = if self.settings.optimization_target == DynamoTarget::Latency { (0.4, 0.1) } else { (1.0, 0.6) };
        let uses = || engines.iter().map(|engine| (engine.decode_kv + engine.queued_prefill) / self.model.kv_tokens());
        if uses().any(|used| used > up) { 1 } else { -i32::from(engines.len() > 1 && uses().all(|used| used < down)) }
    }
}

impl Autoscaler for DynamoLoad {
    fn observes(&self) -> Observes {
        let sla = self.settings.optimization_target == DynamoTarget::Sla;
        Observes { replicas: true, latencies: sla, batches: sla, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.adjustment_interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        self.signals.count_batches(batches);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        if snapshot.starting + snapshot.stopping > 0 || self.signals.replicas.is_empty() {
            return Decision::Hold;
        }
        let kv_tokens = self.model.kv_tokens();
        let engines: Vec<EngineLoad> = (self.signals.replicas.iter())
            .map(|replica| EngineLoad { queued_prefill: replica.queued_prefill_tokens as f64, decode_kv: replica.kv_use() * kv_tokens })
            .collect();
        let change = if self.settings.optimization_target == DynamoTarget::Sla {
            let window_s = self.settings.mean_window_s;
            let per_iteration =
                self.signals.ratio(window_s, |counters| counters.processed_prefill_tokens, |counters| counters.ended_batches);
            let (Some(lengths), Some(prefill_per_iteration)) = (self.signals.mean_lengths(window_s), per_iteration) else {
                return Decision::Hold;
            };
            self.for_sla(&engines, &Means { lengths, prefill_per_iteration })
        } else {
            self.easily(&engines)
        };
        match change {
            1 => Decision::Up(1),
            -1 => Decision::Down(1),
            _ => Decision::Hold,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("worst_ttft_s", self.worst_ttft_s), ("worst_itl_s", self.worst_itl_s)]
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    fn policy(optimization_target: DynamoTarget, run: impl FnOnce(&mut DynamoLoad)) {
        let settings = DynamoLoadSettings { optimization_target, ttft_s: 1.0, itl_s: 0.2, ..DynamoLoadSettings::default() };
        with_context(|context| {
            let model = ReplicaModel::new(context, 4096);
            run(&mut DynamoLoad { settings, model, signals: Signals::new(60.0), worst_ttft_s: 0.0, worst_itl_s: 0.0 });
        });
    }

    fn load(queued_prefill: f64, decode_kv: f64) -> EngineLoad {
        EngineLoad { queued_prefill, decode_kv }
    }

    /// Hand-computed from the constants of `load_scaling.py`: above 1.0 on any, below 0.6 on all; above 0.4, below 0.1.
    #[test]
    fn easy_modes() {
        policy(DynamoTarget::Throughput, |dynamo| {
            let full = dynamo.model.kv_tokens();
            assert_eq!(dynamo.easily(&[load(0.5 * full, 0.51 * full), load(0.0, 0.0)]), 1);
            assert_eq!(dynamo.easily(&[load(0.0, full), load(0.0, 0.0)]), 0, "exactly full");
            assert_eq!(dynamo.easily(&[load(0.0, 0.59 * full), load(0.1 * full, 0.4 * full)]), -1);
            assert_eq!(dynamo.easily(&[load(0.0, 0.0)]), 0, "never none");
        });
        policy(DynamoTarget::Latency, |dynamo| {
            let full = dynamo.model.kv_tokens();
            assert_eq!(dynamo.easily(&[load(0.2 * full, 0.21 * full), load(0.0, 0.0)]), 1);
            assert_eq!(dynamo.easily(&[load(0.0, 0.11 * full), load(0.0, 0.0)]), 0);
            assert_eq!(dynamo.easily(&[load(0.0, 0.09 * full), load(0.0, 0.0)]), -1);
        });
    }

    /// All engines have to be late for one more; one less has to stay in time with the load of all on the rest.
    #[test]
    fn latency_targets() {
        policy(DynamoTarget::Sla, |dynamo| {
            let means = Means { lengths: Lengths { prefill_tokens: 256.0, decode_tokens: 64.0 }, prefill_per_iteration: 64.0 };
            let late = load(8192.0, 2880.0);
            assert!(dynamo.ttft_s(8192.0, 2880.0, &means) > 1.0);
            assert_eq!(dynamo.for_sla(&[late, load(0.0, 288.0)], &means), 0);
            assert_eq!(dynamo.for_sla(&[late, late], &means), 1);
            assert_eq!(dynamo.for_sla(&[load(0.0, 288.0), load(0.0, 288.0)], &means), -1);
            assert_eq!(dynamo.for_sla(&[load(0.0, 288.0)], &means), 0);
            dynamo.settings.itl_s = dynamo.itl_s(288.0, &means) * 0.99;
            assert_eq!(dynamo.for_sla(&[load(0.0, 288.0), load(0.0, 288.0)], &means), 1, "every ITL is too long");
        });
    }

    /// Chunks of the batch limit: 9000 tokens queued and 256 more are two full iterations and one of 1064 tokens.
    #[test]
    fn time_to_first_token_is_chunked() {
        policy(DynamoTarget::Sla, |dynamo| {
            let means = Means { lengths: Lengths { prefill_tokens: 256.0, decode_tokens: 64.0 }, prefill_per_iteration: 64.0 };
            let expected = 2.0 * dynamo.iteration_s(4096.0, 288.0, &means) + dynamo.iteration_s(1064.0, 288.0, &means);
            assert!((dynamo.ttft_s(9000.0, 288.0, &means) - expected).abs() < 1e-12);
        });
    }
}
