//! NVIDIA Dynamo's planner, aggregated engines: what its two ways of scaling have in common.
//!
//! Program: ai-dynamo 1.6.1 (`planner/core`), with the pass model of AI Simulate 0.13.0.dev85. Checked
//! against decisions of its scaling core, tick by tick, on given inputs; the orchestrator around it and
//! Kubernetes were not run.
//!
//! Engines report after each pass, so what the planner sees is not stale: each tick, the latest pass of every
//! engine and its queue. Load scaling and throughput scaling are [`load`] and [`throughput`]; together, the
//! second sets a floor under the first. While replicas start, only reductions are decided; they cancel those
//! first. While others are about to stop, nothing is.

mod arima;
mod budget;
mod combined;
mod engine;
mod load;
mod passes;
mod predictor;
mod throughput;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use self::combined::DynamoCombinedSettings;
use self::engine::{Engine, EngineLimits, EngineModel};
use self::load::LoadScaling;
pub use self::load::{DynamoLoadSettings, DynamoTarget};
pub use self::predictor::LoadPredictor;
pub use self::throughput::DynamoThroughputSettings;
use self::throughput::ThroughputScaling;
use super::cadence::Cadence;
use super::replica_model::ReplicaModel;
use super::{
    Arrivals, Autoscaler, Completion, Decision, FirstToken, ForwardPass, Observes, PolicyContext,
    ReplicaSignals, Snapshot,
};
use crate::hardware::BatchShape;
use budget::GpuBudget;

/// Where the planner's knowledge of its engines comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum EngineKnowledge {
    /// From the passes it observes alone, as without a profile.
    #[default]
    Learned,
    /// Begun with a profile of 35 passes that the hardware model times, as measured before deployment.
    Profiled,
}

/// Replicas as the planner counts them.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Fleet {
    ready: u32,
    /// Starting ones, unless others are about to stop.
    pending: u32,
    /// Changes are under way that it waits for.
    busy: bool,
}

impl Fleet {
    fn of(snapshot: &Snapshot, startup_aware: bool) -> Self {
        let pending = if startup_aware && snapshot.stopping == 0 { snapshot.starting } else { 0 };
        Self {
            ready: snapshot.serving,
            pending,
            busy: snapshot.committed() != snapshot.serving && pending == 0,
        }
    }
}

/// The share of a replica's limits that both ways of scaling are told of.
fn engine_model(
    context: &PolicyContext,
    max_num_batched_tokens: u32,
    knowledge: EngineKnowledge,
) -> EngineModel {
    let max_kv_tokens = u64::from(context.kv.total) * u64::from(context.kv.block_size_tokens);
    let limits = EngineLimits { max_num_batched_tokens, max_num_seqs: context.batch_size_cap, max_kv_tokens };
    let mut model = EngineModel::new(limits);
    if knowledge == EngineKnowledge::Profiled {
        profile(context, &limits).iter().for_each(|pass| model.observe(pass));
    }
    model
}

/// Passes over prompts of none to a whole batch beside few to many decodes, each with half of what the cache
/// holds for it at most.
fn profile(context: &PolicyContext, limits: &EngineLimits) -> Vec<ForwardPass> {
    let replica = ReplicaModel::new(context, limits.max_num_batched_tokens);
    let shares = |most: u32, parts: u32| (0..parts).map(move |part| (most >> (parts - 1 - part)).max(1));
    let mut passes = Vec::new();
    for prefill in std::iter::once(0).chain(shares(limits.max_num_batched_tokens, 6)) {
        for decode_requests in shares(limits.max_num_seqs, 5) {
            let context_tokens =
                (limits.max_kv_tokens / 2 / u64::from(limits.max_num_seqs)).clamp(1, 1024) as u32;
            let mut shape = BatchShape::default();
            if prefill > 0 {
                shape.add_prefill(prefill, 0);
            }
            (0..decode_requests).for_each(|_| shape.add_decode(context_tokens));
            passes.push(ForwardPass {
                prefill_requests: shape.num_prefills,
                prefill_tokens: shape.prefill_tokens,
                prefill_cached_tokens: 0,
                decode_requests,
                decode_kv_tokens: shape.decode_cached_tokens,
                duration_s: replica.batch_time_s(&shape),
            });
        }
    }
    passes
}

/// A planner of either kind, or of both.
#[derive(Debug)]
struct Planner {
    /// Passes and load scaling; throughput scaling.
    cadence: Cadence<2>,
    model: Option<EngineModel>,
    load: Option<LoadScaling>,
    throughput: Option<ThroughputScaling>,
    min_endpoint: u32,
    startup_aware: bool,
    /// Replicas that served at the last look, in order; only kept where starting ones are not told.
    seen: Vec<u32>,
    budget: GpuBudget,
}

/// What an engine reports; `None` from one that has not yet.
fn engine(replica: &ReplicaSignals) -> Option<Engine> {
    let &ReplicaSignals { queued_requests, queued_prefill_tokens, .. } = replica;
    replica.pass.map(|pass| Engine { pass, queued_requests, queued_prefill_tokens })
}

impl Planner {
    /// Whether an engine has said anything yet: where nobody tells that it starts, one that is new and has
    /// run no pass has not, and load scaling waits until as many report as serve.
    fn has_reported(&self, replica: &ReplicaSignals) -> bool {
        let has_run = replica.pass.is_some_and(|pass| pass.duration_s > 0.0);
        self.startup_aware || has_run || self.seen.binary_search(&replica.id).is_ok()
    }

    /// The replicas wanted; `None` to leave them.
    fn wanted(&mut self, now_s: f64, fleet: Fleet, snapshot: &Snapshot) -> Option<u32> {
        let [load_due, throughput_due] = self.cadence.tick();
        let serving = || snapshot.replicas.iter().filter(|replica| !replica.draining);
        let engines: Vec<Engine> =
            serving().filter(|replica| self.has_reported(replica)).filter_map(engine).collect();
        if !self.startup_aware {
            self.seen.clear();
            self.seen.extend(serving().map(|replica| replica.id));
        }
        if load_due && let Some(model) = &mut self.model {
            engines.iter().for_each(|engine| model.observe(&engine.pass));
        }
        let mut wanted = None;
        if throughput_due && let Some(throughput) = &mut self.throughput {
            let model = self.model.as_ref().expect("throughput scaling asks the model");
            let sized = throughput.replicas(now_s, model, fleet.ready, self.min_endpoint);
            wanted = sized.and_then(|sized| {
                let capped = self.budget.below_ceiling(fleet.ready, sized.replicas, self.min_endpoint);
                if let Some(load) = &mut self.load {
                    load.floor = capped;
                    return None;
                }
                if fleet.pending > 0 && (!sized.is_known || sized.replicas > fleet.ready) {
                    return None;
                }
                let target = self.budget.guard(fleet.ready, capped, self.min_endpoint);
                (target != fleet.ready || fleet.pending > 0).then_some(target)
            });
        }
        if load_due && let Some(load) = &mut self.load {
            wanted = load.replicas(&engines, fleet, self.model.as_ref(), self.min_endpoint, &self.budget);
            // What starts can only be given up.
            if fleet.pending > 0 {
                wanted = wanted.filter(|&target| target <= fleet.ready);
            }
        }
        wanted
    }
}

impl Autoscaler for Planner {
    fn observes(&self) -> Observes {
        let traffic = self.throughput.is_some();
        Observes {
            replicas: true,
            passes: true,
            arrivals: traffic,
            latencies: traffic,
            ..Observes::default()
        }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        if let Some(throughput) = &mut self.throughput {
            throughput.count_arrivals(arrivals);
        }
    }

    fn observe_latencies(&mut self, _: &[FirstToken], completions: &[Completion]) {
        if let Some(throughput) = &mut self.throughput {
            throughput.count_completions(completions);
        }
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let target = self.wanted(now_s, Fleet::of(snapshot, self.startup_aware), snapshot);
        target.map_or(Decision::Hold, |target| Decision::towards(snapshot.committed(), target))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let load = self.load.iter().flat_map(LoadScaling::evidence);
        load.chain(self.throughput.iter().flat_map(ThroughputScaling::evidence)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::super::{Part, PolicySettings};
    use super::*;

    /// 35 passes that tell prompts from decodes: the model built on them is ready, and longer prompts take
    /// longer.
    #[test]
    fn profiles_make_ready() {
        with_context(|context| {
            let model = engine_model(context, 4096, EngineKnowledge::Profiled);
            assert!(model.is_ready() && !engine_model(context, 4096, EngineKnowledge::Learned).is_ready());
            let limits =
                EngineLimits { max_num_batched_tokens: 4096, max_num_seqs: 16, max_kv_tokens: 64_000 };
            assert_eq!(profile(context, &limits).len(), 35);
            let capacity =
                |prompt_tokens: f64| model.capacity(Part::Whole, prompt_tokens, 64.0, 9.0, 9.0).unwrap();
            let (short, long) = (capacity(256.0), capacity(2048.0));
            assert!(short.requests_per_s > 2.0 * long.requests_per_s, "{short:?}, {long:?}");
        });
    }

    /// A replica that has just begun to serve has run nothing: as long as nobody tells, fewer engines report
    /// than serve.
    #[test]
    fn without_word_of_starts_a_new_engine_is_waited_for() {
        with_context(|context| {
            let idle =
                |id| ReplicaSignals { id, pass: Some(ForwardPass::default()), ..ReplicaSignals::default() };
            let busy = |id| ReplicaSignals {
                pass: Some(ForwardPass {
                    decode_requests: 1,
                    decode_kv_tokens: 900,
                    duration_s: 0.01,
                    ..ForwardPass::default()
                }),
                ..idle(id)
            };
            let decide = |startup_aware: bool, third: ReplicaSignals| {
                let settings = DynamoLoadSettings { startup_aware, ..DynamoLoadSettings::default() };
                let mut policy = settings.build(context).unwrap();
                let mut at = |now_s: f64, starting: u32, replicas: &[ReplicaSignals]| {
                    policy.decide(
                        now_s,
                        &Snapshot {
                            serving: replicas.len() as u32,
                            starting,
                            replicas,
                            ..Snapshot::default()
                        },
                    )
                };
                [
                    at(5.0, 1, &[busy(0), busy(1)]),
                    at(10.0, 0, &[busy(0), busy(1), third]),
                    at(15.0, 0, &[busy(0), busy(1), third]),
                ]
            };
            let (less, hold) = (|by| Decision::Down(by), Decision::Hold);
            assert_eq!(decide(true, idle(7)), [less(2), less(1), less(1)]);
            assert_eq!(decide(false, idle(7)), [hold, hold, less(1)]);
            assert_eq!(decide(false, busy(7)), [hold, less(1), less(1)]);
        });
    }

    #[test]
    fn stopping_replicas_are_waited_for() {
        let snapshot =
            |serving, starting, stopping| Snapshot { serving, starting, stopping, ..Snapshot::default() };
        assert_eq!(Fleet::of(&snapshot(3, 2, 0), true), Fleet { ready: 3, pending: 2, busy: false });
        assert_eq!(Fleet::of(&snapshot(3, 2, 1), true), Fleet { ready: 3, pending: 0, busy: true });
        assert_eq!(Fleet::of(&snapshot(3, 0, 0), true), Fleet { ready: 3, pending: 0, busy: false });
        assert_eq!(Fleet::of(&snapshot(3, 2, 0), false), Fleet { ready: 3, pending: 0, busy: true });
        assert_eq!(Fleet::of(&snapshot(3, 0, 0), false), Fleet { ready: 3, pending: 0, busy: false });
    }
}
