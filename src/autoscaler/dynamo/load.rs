//! Dynamo's load-based scaling of aggregated engines: +1 or -1 from what every engine is about to feel.
//!
//! Rule with `optimization_target` `sla`, every interval. TTFT of an engine = time to prefill its queued
//! prompts and a mean one more, in chunks of the batch limit, beside its decodes. ITL = time of an iteration
//! with its decodes, one more of mean length, and as many prompts as passes have on average. Means run over
//! the last 64 passes seen, one per engine and tick, and passes without prompts count as
//! 0. One more replica if all engines exceed the TTFT target, or all the ITL target. One less only if on
//!    every engine, with its load scaled by N / (N - 1): the queue's part of the TTFT stays below (target -
//!    own part) x sensitivity, the ITL below target x sensitivity, and tokens in use and queued fit into the
//!    KV cache.
//!
//! With `throughput` or `latency` (easy modes): one more if any engine's (tokens in use + queued prompts) /
//! KV tokens exceeds 1.0 or 0.4; one less if all are below 0.6 or 0.1. With `load`, the same by thresholds of
//! one's own, reached rather than exceeded. None of them shrinks if the highest use x N / (N - 1) would reach
//! the upper threshold.
//!
//! With prefill and decode apart, engines that compute prompts are held against the TTFT alone, those that
//! answer against the ITL. In easy modes the former count (queued prompts) / (tokens of the longest request):
//! one more from 1.0 or 0.1 on, one less up to 0.1 or 0.
//!
//! While replicas start, the decision can only be to keep those that serve or one less, which cancels the
//! starting ones; without `startup_aware` there is none.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `optimization_target` | `throughput` | planner configuration reference |
//! | `adjustment_interval_s` | 5 | the same |
//! | `ttft_s`, `itl_s`, `down_sensitivity` | 0.5, 0.05, 0.80 | the same |
//! | `scale_up_kv_percent`, `scale_down_kv_percent` | none: `load` needs both | the same (`decode_scale_up_kv_rate`, ..) |
//! | `min_endpoint` | 1 | the same; 0 lets throughput scaling go to zero, load scaling stops at 1 |
//! | `max_gpu_budget`, `min_gpu_budget` | none: `max_replicas` bounds every policy alike | the same; there 8 GPUs at most |
//! | `engine_knowledge` | `learned` | what an aggregated deployment without a profile has |
//! | `startup_aware` | true | what the Kubernetes connector tells (`get_worker_inventory`) where it may list pods; its replay does not |
//! | `max_num_batched_tokens` | 4096 | this simulator's schedulers; read from the engine there |
//!
//! Source: `planner/core/{load_scaling, state_machine}.py` of the version named in [`super`].

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::budget::GpuBudget;
use super::engine::{Engine, EngineModel};
use super::{EngineKnowledge, Fleet, Planner, engine_model};
use crate::autoscaler::cadence::Cadence;
use crate::autoscaler::{Autoscaler, Checked, LatencyTarget, Part, PolicyContext, PolicySettings, Upstream};
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
    /// KV use between `scale_down_kv_percent` and `scale_up_kv_percent`.
    Load,
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
    /// KV use, queued prompts included, at which one engine asks for another (`load` only).
    pub scale_up_kv_percent: Option<f64>,
    /// KV use at which all engines can do with one less (`load` only).
    pub scale_down_kv_percent: Option<f64>,
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

impl Default for DynamoLoadSettings {
    fn default() -> Self {
        Self {
            optimization_target: DynamoTarget::default(),
            adjustment_interval_s: 5.0,
            ttft_s: 0.5,
            itl_s: 0.05,
            down_sensitivity: 0.8,
            scale_up_kv_percent: None,
            scale_down_kv_percent: None,
            min_endpoint: 1,
            max_gpu_budget: None,
            min_gpu_budget: None,
            engine_knowledge: EngineKnowledge::default(),
            startup_aware: true,
            max_num_batched_tokens: 4096,
        }
    }
}

/// Reports budgets that exclude each other.
pub fn check_budget(faults: &mut Faults, least: Option<u32>, most: Option<u32>) {
    if let (Some(least), Some(most)) = (least, most) {
        faults.require(least <= most, "min_gpu_budget", || {
            format!("{least} found, expected at most `max_gpu_budget` ({most})")
        });
    }
}

impl PolicySettings for DynamoLoadSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("adjustment_interval_s", self.adjustment_interval_s);
        for (field, value) in [("ttft_s", self.ttft_s), ("itl_s", self.itl_s)] {
            faults.positive(field, value);
        }
        faults.fraction("down_sensitivity", self.down_sensitivity);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
        check_budget(faults, self.min_gpu_budget, self.max_gpu_budget);
        let thresholds = [
            ("scale_up_kv_percent", self.scale_up_kv_percent),
            ("scale_down_kv_percent", self.scale_down_kv_percent),
        ];
        let by_load = self.optimization_target == DynamoTarget::Load;
        for (field, value) in thresholds {
            faults.require(value.is_some() == by_load, field, || {
                if by_load {
                    "nothing found, expected a percentage: `optimization_target` `load` has no default".into()
                } else {
                    "found, but only `optimization_target` `load` goes by it: leave it out, or set that"
                        .into()
                }
            });
            if let Some(percent) = value {
                faults.require((0.0..=100.0).contains(&percent), field, || {
                    format!("{percent} found, expected 0 to 100")
                });
            }
        }
        if let (Some(up), Some(down)) = (self.scale_up_kv_percent, self.scale_down_kv_percent) {
            faults.require(down < up, "scale_down_kv_percent", || {
                format!("{down} found, expected less than `scale_up_kv_percent` ({up})")
            });
        }
    }

    fn latency_targets(&self) -> Vec<LatencyTarget> {
        if self.optimization_target == DynamoTarget::Sla {
            LatencyTarget::ttft_and_itl(self.ttft_s, self.itl_s)
        } else {
            Vec::new()
        }
    }

    fn upstream(&self) -> Upstream {
        let knob = match self.optimization_target {
            DynamoTarget::Load => "scale_up_kv_percent",
            DynamoTarget::Sla => "ttft_s",
            DynamoTarget::Throughput | DynamoTarget::Latency => "optimization_target",
        };
        Upstream {
            program: "NVIDIA Dynamo planner, load-based scaling",
            version: "1.6.1",
            checked: Checked::Run,
            left_out: "power budgets, speculative decoding",
            knob,
            signals: "the latest pass and the queue of every engine, of this instant; means of the last 64 passes seen",
            blind_to: "arrival rates, latency as felt",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let sla = self.optimization_target == DynamoTarget::Sla;
        let interval_s = self.adjustment_interval_s;
        Some(Box::new(Planner {
            cadence: Cadence::new([interval_s; 2]),
            model: sla.then(|| engine_model(context, self.max_num_batched_tokens, self.engine_knowledge)),
            load: Some(LoadScaling::new(self, context)),
            throughput: None,
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

/// When an easy mode grows and shrinks.
#[derive(Debug, Clone, Copy)]
struct Thresholds {
    up: f64,
    down: f64,
    /// Whether they count when reached, or only beyond.
    inclusive: bool,
}

/// What one side of the latency targets asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    /// Nothing is known.
    Unknown,
    More,
    Fewer,
    /// Fewer would do now, and not after.
    Refused,
    Neither,
}

#[derive(Debug)]
pub struct LoadScaling {
    /// `None` with latency targets.
    thresholds: Option<Thresholds>,
    ttft_s: f64,
    itl_s: f64,
    down_sensitivity: f64,
    part: Part,
    /// What an easy mode counts in: tokens of the KV cache, or, where prompts are computed alone, those of
    /// the longest request.
    max_tokens: f64,
    max_kv_tokens: f64,
    /// Replicas that throughput scaling asks for at least.
    pub floor: u32,
    worst_ttft_s: f64,
    worst_itl_s: f64,
}

impl LoadScaling {
    pub fn new(settings: &DynamoLoadSettings, context: &PolicyContext) -> Self {
        let percent = |value: Option<f64>| value.unwrap_or(0.0) / 100.0;
        let prompts = context.part == Part::Prompts;
        let thresholds = match settings.optimization_target {
            DynamoTarget::Sla => None,
            DynamoTarget::Throughput if prompts => Some(Thresholds { up: 1.0, down: 0.1, inclusive: true }),
            DynamoTarget::Latency if prompts => Some(Thresholds { up: 0.1, down: 0.0, inclusive: true }),
            DynamoTarget::Throughput => Some(Thresholds { up: 1.0, down: 0.6, inclusive: false }),
            DynamoTarget::Latency => Some(Thresholds { up: 0.4, down: 0.1, inclusive: false }),
            DynamoTarget::Load => Some(Thresholds {
                up: percent(settings.scale_up_kv_percent),
                down: percent(settings.scale_down_kv_percent),
                inclusive: true,
            }),
        };
        let max_kv_tokens = f64::from(context.kv.total) * f64::from(context.kv.block_size_tokens);
        Self {
            thresholds,
            part: context.part,
            max_tokens: if prompts { f64::from(context.max_request_tokens) } else { max_kv_tokens },
            ttft_s: settings.ttft_s,
            itl_s: settings.itl_s,
            down_sensitivity: settings.down_sensitivity,
            max_kv_tokens,
            floor: 0,
            worst_ttft_s: 0.0,
            worst_itl_s: 0.0,
        }
    }

    /// The replicas wanted; `None` to leave them.
    pub(super) fn replicas(
        &mut self,
        engines: &[Engine],
        fleet: Fleet,
        model: Option<&EngineModel>,
        min_endpoint: u32,
        budget: &GpuBudget,
    ) -> Option<u32> {
        if engines.is_empty() || fleet.busy || engines.len() != fleet.ready as usize {
            return None;
        }
        let (desired, quiet) = match self.thresholds {
            Some(thresholds) => (self.easily(engines, fleet, thresholds, min_endpoint)?, false),
            None => {
                self.for_sla(engines, fleet, model.expect("latency targets need the model"), min_endpoint)?
            }
        };
        if fleet.pending > 0 && desired > fleet.ready {
            return None;
        }
        let target = budget.guard(fleet.ready, desired.max(min_endpoint).max(self.floor), min_endpoint);
        (target != fleet.ready || !quiet).then_some(target)
    }

    /// The replicas that an easy mode's thresholds ask for.
    fn easily(
        &self,
        engines: &[Engine],
        fleet: Fleet,
        thresholds: Thresholds,
        min_endpoint: u32,
    ) -> Option<u32> {
        let Thresholds { up, down, inclusive } = thresholds;
        let used = |engine: &Engine| {
            (engine.pass.decode_kv_tokens + engine.queued_prefill_tokens) as f64 / self.max_tokens
        };
        let beyond = |used: f64| if inclusive { used >= up } else { used > up };
        let below = |used: f64| if inclusive { used <= down } else { used < down };
        let ready = fleet.ready;
        if engines.iter().any(|engine| beyond(used(engine))) {
            return Some(ready + 1);
        }
        if (ready <= 1 && fleet.pending == 0) || !engines.iter().all(|engine| below(used(engine))) {
            return None;
        }
        let fewer = (ready - 1).max(min_endpoint);
        let most = engines.iter().map(used).fold(0.0, f64::max);
        let overloads = 0 < fewer && fewer < ready && most * f64::from(ready) / f64::from(fewer) >= up;
        Some(if overloads { ready } else { fewer })
    }

    /// The replicas that latency targets ask for, and whether a target of those that serve is no decision.
    fn for_sla(
        &mut self,
        engines: &[Engine],
        fleet: Fleet,
        model: &EngineModel,
        min_endpoint: u32,
    ) -> Option<(u32, bool)> {
        if !model.is_ready() {
            return None;
        }
        let ready = fleet.ready;
        let (ttft, itl) = (self.by_ttft(engines, fleet, model), self.by_itl(engines, fleet, model));
        let fewer = (ready - 1).max(min_endpoint);
        // Where one phase is served alone, its own side says both.
        let (ttft, itl) = match self.part {
            Part::Whole => (ttft, itl),
            Part::Prompts => (ttft, ttft),
            Part::Answers => (itl, itl),
        };
        let desired = match (ttft, itl) {
            (Side::More, _) | (_, Side::More) => ready + 1,
            (Side::Fewer, Side::Fewer) => fewer,
            // Without a word on the TTFT the ITL decides.
            (Side::Unknown | Side::Neither, Side::Fewer) => fewer,
            _ => ready,
        };
        // Those that start are given up only if both sides have said that those that serve are enough.
        let enough = ttft == Side::Fewer && itl == Side::Fewer && fleet.pending > 0;
        Some((desired, !enough))
    }

    /// What the times to first token ask for.
    fn by_ttft(&mut self, engines: &[Engine], fleet: Fleet, model: &EngineModel) -> Side {
        let scale = consolidation(fleet);
        let mut shrinks = Shrinking::new(fleet);
        let mut estimates = Vec::with_capacity(engines.len());
        for engine in engines {
            estimates.extend(model.ttft_s(engine, 1.0, 1.0));
            if shrinks.possible {
                match (model.ttft_s(engine, 0.0, scale), model.ttft_s(engine, scale, scale)) {
                    (Some(own_s), Some(after_s)) => {
                        let budget_ms = (self.ttft_s * 1000.0 - own_s * 1000.0) * self.down_sensitivity;
                        if budget_ms <= 0.0 || after_s * 1000.0 - own_s * 1000.0 >= budget_ms {
                            shrinks.refuse();
                        }
                    }
                    _ => shrinks.possible = false,
                }
            }
        }
        self.worst_ttft_s = estimates.iter().copied().fold(0.0, f64::max);
        side(&estimates, self.ttft_s, shrinks)
    }

    /// What the times between tokens ask for.
    fn by_itl(&mut self, engines: &[Engine], fleet: Fleet, model: &EngineModel) -> Side {
        let scale = consolidation(fleet);
        let mut shrinks = Shrinking::new(fleet);
        let mut estimates = Vec::with_capacity(engines.len());
        for engine in engines {
            estimates.extend(model.itl_s(engine, 1.0, false));
            if shrinks.possible {
                let tokens = engine.pass.decode_kv_tokens + engine.queued_prefill_tokens;
                if (tokens as f64 * scale).floor() >= self.max_kv_tokens {
                    shrinks.refuse();
                    continue;
                }
                match model.itl_s(engine, scale, true) {
                    Some(after_s) if after_s * 1000.0 >= self.itl_s * 1000.0 * self.down_sensitivity => {
                        shrinks.refuse()
                    }
                    Some(_) => {}
                    None => shrinks.possible = false,
                }
            }
        }
        self.worst_itl_s = estimates.iter().copied().fold(0.0, f64::max);
        side(&estimates, self.itl_s, shrinks)
    }

    pub fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("worst_ttft_s", self.worst_ttft_s), ("worst_itl_s", self.worst_itl_s)]
    }
}

/// How much more load one replica less leaves on each.
fn consolidation(fleet: Fleet) -> f64 {
    if fleet.ready > 1 { f64::from(fleet.ready) / f64::from(fleet.ready - 1) } else { 1.0 }
}

/// Whether one less is possible, and whether it was refused because the rest would be late or full.
#[derive(Debug, Clone, Copy)]
struct Shrinking {
    possible: bool,
    refused: bool,
}

impl Shrinking {
    fn new(fleet: Fleet) -> Self {
        Self { possible: fleet.ready > 1 || fleet.pending > 0, refused: false }
    }

    fn refuse(&mut self) {
        *self = Self { possible: false, refused: true };
    }
}

fn side(estimates: &[f64], target_s: f64, shrinks: Shrinking) -> Side {
    if !estimates.is_empty() && estimates.iter().all(|&estimate| estimate * 1000.0 > target_s * 1000.0) {
        Side::More
    } else if !estimates.is_empty() && shrinks.possible {
        Side::Fewer
    } else if shrinks.refused {
        Side::Refused
    } else if estimates.is_empty() {
        Side::Unknown
    } else {
        Side::Neither
    }
}
