//! A fleet's run, simulated: with the replicas that were measured, or with those that a policy decides on.

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::read::{FleetRun, Steps};
use crate::autoscaler::{Autoscaler, AutoscalerSettings};
use crate::hardware::{BatchShape, Deployment, ExecutionTime, Files, OverheadSettings, Overheads, catalog};
use crate::oracle::{ReplicaSchedule, ScheduleLimits};
use crate::settings::Faults;
use crate::simulation::{
    ClusterSettings, Detail, Parts, ReplicaRecord, RunInputs, RunMetrics, ScaleDownOrder, StartTimes,
    Workspace, simulate_parts_in_detail,
};
use crate::validation::node_of;
use crate::workload::{PrefixBlocks, Workload};

/// From the last request routed to a replica that leaves to the end of those it still has: measured 0.8 to 2.6
/// s.
pub const GRACE_S: f64 = 1.7;
/// llm-d's endpoint picker sends requests to the pod with the least KV use and learns of it 20 times a second
/// (its default). So several that come in a row go to the same pod, and the tail of their times to first
/// token is what was measured: with `least_outstanding` its P90 is a fifth too low, with any other router of
/// ours too.
const PICKED_EVERY_S: f64 = 0.05;
/// A fresh engine's stalls, as measured: the first step, and one 3 to 11 s later.
const STALLS_S: [(f64, f64); 2] = [(0.0, 2.2), (5.0, 2.1)];
/// Replicas are asked for, ready, and seen ready by the controller: samples lie 15 to 16 s apart, so that a
/// replica serves half of that earlier than is seen, on average.
const SEEN_LATE_S: f64 = 8.0;
/// From a controller's cycle to the sample that shows what it asked for: half of the 15 s in which its number
/// is read, half of the 15 to 16 s between samples.
const CARRIED_S: f64 = 15.0;
/// Share of the prompts that are cached, up to so many requests of a run: the counters of one run's engines
/// (run-4 of the given ones). The first prompts came in the run before.
const CACHED: [(usize, f64); 9] = [
    (178, 0.96),
    (417, 0.59),
    (676, 0.45),
    (1002, 0.27),
    (1305, 0.24),
    (1800, 0.15),
    (3064, 0.13),
    (6998, 0.075),
    (usize::MAX, 0.05),
];
/// Prompts that come again once the first of [`CACHED`] are over, each in its turn: more than are cached and
/// run at once on a replica, so that they do not share their blocks. The engines' gauges of all three runs
/// have it so: 380 to 560 tokens of KV cache a running request in the first minute, 1,850 to 1,930 in the
/// second, 2,180 to 2,370 from then on, where prompt and half of the answer are 2,304.
const COME_AGAIN: usize = 24;
/// Requests whose prompts are mostly those of the run before.
const BEFORE: usize = 1800;
/// Runs that record a smaller share of cached prompt tokens had no run before.
const LEAST_CACHED: f64 = 0.05;
/// Of what a preempted request had in the cache, the share that is computed again: the rest is still there
/// when it comes back. Between none and a half is nearest to the steps that engines counted (run-4: 41 of its
/// intervals had 1,075 preemptions).
const COMPUTED_AGAIN: f64 = 0.5;
/// The grid on which measured replicas come and go.
const STEP_S: f64 = 0.1;

/// A run with all its simulations need but the overheads of its engine.
pub struct FleetReplay<'r> {
    pub run: &'r FleetRun,
    workload: Workload,
    cluster: Value,
    times: ExecutionTime,
}

/// What a simulation of a fleet did.
pub struct Simulated {
    pub metrics: RunMetrics,
    pub detail: Detail,
    /// The run's times are later by so much here than as measured.
    pub later_s: f64,
}

impl Simulated {
    /// Replicas that requests were routed to.
    pub fn serving(&self) -> Steps {
        let serving = |record: &ReplicaRecord| {
            ((record.time_s - self.later_s).max(0.0), record.num_replicas - record.num_draining)
        };
        self.detail.replicas.iter().map(serving).collect()
    }
}

/// A model by its name, or by the part of it that follows the publisher.
fn model_of(name: &str) -> Option<String> {
    let publishers = catalog::MODELS
        .iter()
        .filter_map(|model| model.name.split_once('/'))
        .map(|(publisher, _)| format!("{publisher}/{name}"));
    std::iter::once(name.to_string()).chain(publishers).find(|name| catalog::model(name).is_some())
}

impl<'r> FleetReplay<'r> {
    /// Prepares a run.
    ///
    /// Errors: why it cannot be simulated.
    pub fn new(run: &'r FleetRun) -> Result<Self, String> {
        let engine =
            run.description.engine.as_ref().ok_or("run.json does not describe the engine (`engine`)")?;
        if let Some(name) = engine.engine.as_ref().filter(|name| !name.to_lowercase().contains("vllm")) {
            return Err(format!("engine `{name}` is not modelled, only vLLM is"));
        }
        let model = model_of(&engine.model)
            .ok_or_else(|| format!("model `{}` is not in the catalogue", engine.model))?;
        let node =
            node_of(&engine.gpu).ok_or_else(|| format!("device `{}` is not in the catalogue", engine.gpu))?;
        let numbers: Vec<u32> = engine
            .version
            .as_deref()
            .unwrap_or_default()
            .split('.')
            .map_while(|part| part.parse().ok())
            .collect();
        let version = numbers.first().zip(numbers.get(1)).map(|(&major, &minor)| (major, minor));
        let mut scheduler = json!({
            "version": crate::replica_scheduler::VllmV1Settings::nearest_version(version),
            "block_size_tokens": engine.block_size_tokens.unwrap_or(16), "prefix_caching": engine.prefix_caching.unwrap_or(true),
        });
        if let Some(blocks) = engine.kv_blocks {
            scheduler["num_blocks"] = json!(blocks);
        }
        for (field, value) in
            [("max_tokens_in_batch", &engine.max_tokens_in_batch), ("batch_size_cap", &engine.max_num_seqs)]
        {
            if value.is_u64() {
                scheduler[field] = value.clone();
            }
        }
        let stalls: Vec<Value> = STALLS_S
            .iter()
            .map(|(after_s, duration_s)| json!({"after_s": after_s, "duration_s": duration_s}))
            .collect();
        let cluster = json!({
            "model": model, "node": node, "node_price_usd_per_hour": 8, "tensor_parallel": engine.tensor_parallel.unwrap_or(1),
            "execution_time": "analytical", "replica_scheduler": {"vllm_v1": scheduler}, "global_scheduler": {"least_kv": {"scrape_interval_s": PICKED_EVERY_S}},
            "memory_planner": {"vllm": {"gpu_memory_utilization": engine.gpu_memory_utilization.unwrap_or(0.9)}},
            "billing": {"unit": "device"}, "scale_down_choice": "newest_first", "cold_start": {"stalls": stalls}, "scale_down_grace_s": GRACE_S,
        });
        let settings: ClusterSettings =
            serde_json::from_value(cluster.clone()).map_err(|error| error.to_string())?;
        let mut faults = Faults::default();
        settings.check(&mut faults);
        if let Some(fault) = faults.found.first() {
            return Err(format!("`{}`: {}", fault.path, fault.message));
        }
        let times =
            Deployment::resolve(&settings.model, node, settings.tensor_parallel, 1, &Files::default())
                .and_then(|deployment| {
                    ExecutionTime::load(&settings.execution_time, &deployment, &Files::default())
                })
                .map_err(|error| error.to_string())?;
        let mut workload = Workload::default();
        run.requests.iter().for_each(|request| {
            workload.push(request.arrived_at_s, request.prompt_tokens, request.output_tokens)
        });
        let hits = run.description.measured["prefix_cache_hit_share"].as_f64().unwrap_or(0.0);
        if hits >= LEAST_CACHED && engine.prefix_caching.unwrap_or(true) {
            workload.prefix = Some(cached_prompts(run, hits, engine.block_size_tokens.unwrap_or(16)));
        }
        Ok(Self { run, workload, cluster, times })
    }

    /// What the settings say for its deployment.
    pub fn resolve(&self, settings: &OverheadSettings, files: &Files) -> Result<Overheads> {
        let cluster: ClusterSettings = serde_json::from_value(self.cluster.clone())?;
        Ok(settings.resolve(&self.times.deployment, cluster.replica_scheduler.sorts_logits(), files)?.0)
    }

    /// Measured arrivals on the measured replicas: is the serving right?
    ///
    /// Errors: the simulation gives up.
    pub fn open_loop(&self, overheads: &Overheads, workspace: &mut Workspace) -> Result<Simulated> {
        let serving = &self.run.serving;
        let most = serving.iter().map(|step| step.1).max().unwrap_or(1);
        let initial = serving.first().map_or(1, |step| step.1);
        // Requests stop coming when the replica is told to leave; what it has ends when it is gone.
        let mut before = initial;
        let earlier = serving.iter().map(|&(at_s, replicas)| {
            let leaves = replicas < std::mem::replace(&mut before, replicas);
            (if leaves { (at_s - GRACE_S).max(0.0) } else { at_s }, replicas)
        });
        let limits = ScheduleLimits {
            initial_replicas: initial,
            min_replicas: 1,
            max_replicas: most,
            scale_up_delay_s: 0.0,
            scale_down_delay_s: 0.0,
            scale_down_order: ScaleDownOrder::ServingFirst,
            step_s: STEP_S,
        };
        let schedule = ReplicaSchedule::following(earlier).within(&limits);
        let settings = json!({"initial_replicas": initial, "min_replicas": 1, "max_replicas": most, "scale_up_delay_s": 0});
        let policy: AutoscalerSettings = serde_json::from_value(json!({"static": {"replicas": initial}}))?;
        self.simulate(&settings, &policy, Some(&|| schedule.replay(&limits)), overheads, [1, 0], workspace)
    }

    /// Measured arrivals and a policy of ours in the controller's place: are the decisions right? Starts are
    /// drawn from the spread that was measured over all runs.
    ///
    /// Errors: the simulation gives up.
    pub fn closed_loop(
        &self,
        policy: &AutoscalerSettings,
        starts: StartTimes,
        overheads: &Overheads,
        seed: u64,
        workspace: &mut Workspace,
    ) -> Result<Simulated> {
        let controller = &self.run.description.controller;
        let bound = |name: &str, default: u64| controller["hpa"][name].as_u64().unwrap_or(default);
        let (least, most) = (bound("min_replicas", 1), bound("max_replicas", 10));
        let initial = self.run.serving.first().map_or(1, |step| u64::from(step.1));
        let settings = json!({
            "initial_replicas": initial, "min_replicas": least, "max_replicas": most,
            "cold_start": {"stalls": self.cluster["cold_start"]["stalls"], "measured": starts},
        });
        // When in its cycle the controller was at the start is not on record, but in the first change that
        // was seen.
        let cycle_s = controller["law"]["cycle_s"].as_f64().filter(|&seconds| seconds > 0.0);
        let first_s = self.run.desired.windows(2).find(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1].0);
        let later_s = first_s
            .zip(cycle_s)
            .map_or(0.0, |(first_s, cycle_s)| cycle_s - (first_s - CARRIED_S).rem_euclid(cycle_s));
        self.simulate(&settings, policy, None, overheads, [seed, later_s.round() as u64], workspace)
    }

    fn simulate(
        &self,
        settings: &Value,
        policy: &AutoscalerSettings,
        replay: Option<&dyn Fn() -> Box<dyn Autoscaler>>,
        overheads: &Overheads,
        [seed, later_s]: [u64; 2],
        workspace: &mut Workspace,
    ) -> Result<Simulated> {
        let mut cluster = self.cluster.clone();
        for (field, value) in settings.as_object().into_iter().flatten() {
            cluster[field] = value.clone();
        }
        let cluster: ClusterSettings = serde_json::from_value(cluster)?;
        let times = self.times.clone().with(overheads);
        let mut workload = self.workload.clone();
        let later_s = later_s as f64;
        workload.arrived_at_s.iter_mut().for_each(|at_s| *at_s += later_s);
        let inputs = RunInputs::new(&workload, &cluster, policy, &times, seed)?;
        let mut parts = Parts::of(&inputs);
        if let Some(replay) = replay {
            parts.autoscaler = Some(replay());
        }
        let id = &self.run.description.id;
        let (metrics, mut detail) =
            simulate_parts_in_detail(&inputs, parts, workspace).with_context(|| id.clone())?;
        for request in &mut detail.requests {
            request.arrived_at_s -= later_s;
            for at_s in
                [&mut request.scheduled_at_s, &mut request.first_token_at_s, &mut request.completed_at_s]
            {
                *at_s = at_s.map(|at_s| at_s - later_s);
            }
        }
        Ok(Simulated { metrics, detail, later_s })
    }

    /// Step times between scrapes, as counted by the engines and as modelled: decodes a step, seconds
    /// measured and modelled, steps.
    pub fn step_times(&self, overheads: &Overheads) -> Vec<[f64; 4]> {
        let times = self.times.clone().with(overheads);
        let kv_tokens = self.run.description.engine.as_ref().and_then(|engine| {
            Some(f64::from(engine.kv_blocks?) * f64::from(engine.block_size_tokens.unwrap_or(16)))
        });
        let Some(kv_tokens) = kv_tokens else { return Vec::new() };
        let mut found = Vec::new();
        for pod in 0..=self.run.counters.iter().map(|scrape| scrape.pod).max().unwrap_or(0) {
            let scrapes: Vec<_> = self.run.counters.iter().filter(|scrape| scrape.pod == pod).collect();
            for pair in scrapes.windows(2) {
                let (before, after) = (pair[0], pair[1]);
                let grown = |value: fn(&super::read::Scrape) -> f64| value(after) - value(before);
                let (steps, first) = (grown(|s| s.steps), grown(|s| s.first_tokens));
                let decodes = (grown(|s| s.output_tokens) - first) / steps;
                // Between two scrapes that both find it at work it has had no rest.
                if !(steps > 0.0 && before.running >= 5.0 && after.running >= 5.0 && decodes >= 1.0) {
                    continue;
                }
                // A preempted request is computed again, as far as it is not still cached.
                let held = 0.5 * (before.kv_use + after.kv_use) * kv_tokens / decodes;
                let (preempted, again) = (grown(|s| s.preemptions), COMPUTED_AGAIN * held);
                let prefills = (first + preempted) / steps;
                let fresh = grown(|s| s.prompt_tokens) - grown(|s| s.prompt_tokens_cached);
                let computed = (fresh + preempted * again) / (first + preempted).max(1.0);
                let cached = grown(|s| s.prompt_tokens_cached) / (first + preempted).max(1.0);
                let context = held as u32;
                let shape = |prefills: u32| {
                    let mut shape = BatchShape::default();
                    (0..decodes.round() as u32).for_each(|_| shape.add_decode(context));
                    (0..prefills).for_each(|_| {
                        shape.add_prefill(computed.round().max(1.0) as u32, cached.round() as u32)
                    });
                    times.step_time_s(&shape)
                };
                let whole = prefills.floor();
                let modelled_s = (1.0 - prefills + whole) * shape(whole as u32)
                    + (prefills - whole) * shape(whole as u32 + 1);
                found.push([decodes, (after.t_s - before.t_s) / steps, modelled_s, steps]);
            }
        }
        found
    }
}

/// Prompts, of which as many are cached as the run counted: the first ones as in the run whose engines'
/// counters are known, of the others more or fewer, as it takes. Of the first ones all that are cached are
/// one and the same prompt here, later the earliest others take turns; the engine forgets none of them.
fn cached_prompts(run: &FleetRun, hits: f64, block_tokens: u32) -> PrefixBlocks {
    let longest = run.requests.iter().map(|request| request.prompt_tokens).max().unwrap_or(1);
    let blocks = u64::from(longest.div_ceil(block_tokens));
    let share =
        |number: usize| CACHED.iter().find(|(until, _)| number < *until).map_or(0.0, |(_, share)| *share);
    let (count, wanted) = (run.requests.len(), hits * run.requests.len() as f64);
    let first: f64 = (0..count.min(BEFORE)).map(share).sum();
    let rest: f64 = (BEFORE..count).map(share).sum();
    let scales = [(wanted / first.max(1.0)).min(1.0), (wanted - first).max(0.0) / rest.max(1.0)];
    let mut prefix = PrefixBlocks::new(block_tokens);
    let (mut cached, mut others, mut turn) = (0.0, Vec::new(), 0);
    for (number, request) in run.requests.iter().enumerate() {
        let due = cached + (share(number) * scales[usize::from(number >= BEFORE)]).min(1.0);
        let prompt = match () {
            () if due.floor() == f64::floor(cached) => {
                let own = number as u64 + 1;
                if others.len() < COME_AGAIN {
                    others.push(own);
                }
                own
            }
            () if number < CACHED[0].0 || others.is_empty() => 0,
            () => {
                turn += 1;
                others[turn % others.len()]
            }
        };
        cached = due;
        let ids = |block: u32| prompt * blocks + u64::from(block);
        let ids: Vec<u64> = (0..request.prompt_tokens.div_ceil(block_tokens)).map(ids).collect();
        prefix.push(&ids, request.prompt_tokens);
    }
    prefix
}

/// The policy that a run's controller was, if it is one of ours.
///
/// Errors: why there is none.
pub fn policy_of(run: &FleetRun) -> Result<AutoscalerSettings, String> {
    let controller = &run.description.controller;
    let kind = controller["kind"].as_str().unwrap_or_default();
    if !kind.contains("workload-variant-autoscaler") {
        return Err(if kind.is_empty() {
            "its controller is not on record".into()
        } else {
            format!("its controller, {kind}, is none of ours")
        });
    }
    let analyzers: Vec<&str> =
        controller["analyzers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let analyzers = match analyzers[..] {
        ["throughput"] => "throughput",
        ["saturation"] => "saturation",
        ["saturation", "throughput"] | ["throughput", "saturation"] => "saturation_and_throughput",
        _ => return Err(format!("its analyzers, {}, are none of ours", analyzers.join(" and "))),
    };
    let (law, hpa) = (&controller["law"], &controller["hpa"]);
    let number = |value: &Value, default: f64| value.as_f64().unwrap_or(default);
    let rules = |direction: &str| {
        let rules = &hpa[direction];
        let mut found = json!({"stabilization_window_s": number(&rules["window_s"], 0.0)});
        if let Some(percent) = rules["percent"].as_f64() {
            found["policies"] = json!([{"type": "percent", "value": percent as u32, "period_s": number(&rules["period_s"], 15.0)}]);
        }
        found
    };
    let settings = json!({"wva_v2": {
        "analyzers": analyzers,
        "reconcile_interval_s": number(&law["cycle_s"], 60.0),
        "scale_up_threshold": number(&law["scale_up_threshold"], 0.85),
        "scale_down_boundary": number(&law["scale_down_boundary"], 0.7),
        "kv_cache_threshold": number(&law["kv_threshold"], 0.8),
        "queue_length_threshold": number(&law["queue_threshold"], 5.0),
        "carrier": {"hpa": {
            "sync_interval_s": number(&hpa["metric_polling_s"], 15.0),
            "behavior": {"scale_up": rules("scale_up"), "scale_down": rules("scale_down")},
        }},
    }});
    let policy: AutoscalerSettings =
        serde_json::from_value(settings).map_err(|error| format!("its controller's settings: {error}"))?;
    let mut faults = Faults::default();
    policy.settings().check(&mut faults);
    faults.found.first().map_or(Ok(policy), |fault| {
        Err(format!("its controller's settings: `{}`: {}", fault.path, fault.message))
    })
}

/// From asked for to serving, over all runs: least, median and longest.
pub fn starts<'r>(runs: impl IntoIterator<Item = &'r FleetRun>) -> Option<StartTimes> {
    let lags = runs
        .into_iter()
        .flat_map(|run| run.description.boot.desired_to_ready.iter().filter_map(|lag| lag.lag_s));
    let mut lags: Vec<f64> = lags.map(|lag_s| (lag_s - SEEN_LATE_S).max(0.0)).collect();
    lags.sort_by(f64::total_cmp);
    let (least_s, most_s) = (*lags.first()?, *lags.last()?);
    Some(StartTimes { least_s, median_s: lags[lags.len() / 2], most_s })
}
