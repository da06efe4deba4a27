//! llm-d's workload variant autoscaler (WVA), saturation analyzer V2: tokens demanded against tokens of
//! capacity. The default since 0.9.0.
//!
//! Rule, every reconciliation. Capacity of a replica = min(k1, k2): k1 = KV tokens x `kv_cache_threshold`; k2
//! = the tokens in use when its queue has reached `queue_length_threshold` (compute is the bound then), else
//! the mean of the last ten such observations of its class of mean output length (below 100, below 500,
//! longer), else what the deployment's arguments and mean lengths I, O give: n (I + O/2) with n = min(B O /
//! (I + O), S) for batches of B tokens and S requests, else k1. Demand = tokens in use + queue x (I + O), in
//! February x I; I + O more for each request that waits for a replica to exist. Supply = median capacity x
//! replicas. Required = demand / `scale_up_threshold` - supply with pending replicas; if positive,
//! ceil(required / capacity) more. Otherwise spare = supply of ready replicas - demand /
//! `scale_down_boundary`; if positive, floor(spare / capacity) less, but never below one.
//!
//! With `analyzers: saturation_and_throughput` the [throughput analyzer](super::wva::throughput) has a say:
//! the larger need, the smaller spare. Tokens in use and queue are each replica's peaks of the last minute,
//! to the throughput analyzer those of now; I and O are means over requests that finished within
//! `lengths_window_s`. The time between tokens is one mean for all replicas here, of requests that finished
//! in the last minute, and their tokens are split evenly. An HPA carries the number out
//! ([`wva`](super::wva)).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `kv_cache_threshold`, `queue_length_threshold` | 0.80, 5 | `docs/saturation-analyzer.md` |
//! | `scale_up_threshold`, `scale_down_boundary` | 0.85, 0.70 | `saturation_scaling.go` |
//! | `reconcile_interval_s`, `peak_window_s` | 30, 60 | the loop's, whatever is configured; the collector's queries |
//! | `max_num_batched_tokens` | 8192 | vLLM's default as the deployment parser takes it |
//! | `lengths_window_s`, `scrape_interval_s` | 300, 15 | the collector's queries |
//! | `carrier` | an HPA with 240 s each way | the guide |
//! | `scale_to_zero_after_s` | off; 600 where it is on | the enforcer's retention |
//!
//! Source: llm-d/llm-d-workload-variant-autoscaler `internal/engines/analyzers/saturation_v2`,
//! `internal/engines/pipeline`. One variant here, so the cheapest and the dearest are the same. Checked: run,
//! in February's and August's version; `tests/given/upstream/wva.rs` compares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::check_intervals;
use super::peaks::Peaks;
use super::replica_model::Lengths;
use super::scraped::{Controller, Scraped, Seen};
use super::wva::saturation::{Analysis, Saturation, Vote, WvaInput, WvaReplica, step};
use super::wva::throughput::Throughput;
use super::wva::{Emitted, WvaCarrier, WvaVersion, idle};
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

/// Reconciliations after which an analyzer that has nothing to go by is not listened to.
const STALE_CYCLES: f64 = 3.0;
/// Window of arrival rates and times between tokens.
const RATE_WINDOW_S: f64 = 60.0;

/// Which analyzers have a say.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WvaAnalyzers {
    #[default]
    Saturation,
    Throughput,
    SaturationAndThroughput,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct WvaV2Settings {
    /// Share of the KV cache that counts as capacity.
    pub kv_cache_threshold: f64,
    /// Queued requests at which a replica's tokens in use are its compute bound.
    pub queue_length_threshold: f64,
    /// Share of the supply that demand may use before replicas are added.
    pub scale_up_threshold: f64,
    /// Share of the supply that demand may use after replicas are drained.
    pub scale_down_boundary: f64,
    /// Most tokens of a batch, by the deployment's arguments.
    pub max_num_batched_tokens: u32,
    pub analyzers: WvaAnalyzers,
    pub reconcile_interval_s: f64,
    pub scrape_interval_s: f64,
    pub peak_window_s: f64,
    pub lengths_window_s: f64,
    pub version: WvaVersion,
    pub carrier: WvaCarrier,
    /// Time without requests after which no replica is kept; never if absent.
    pub scale_to_zero_after_s: Option<f64>,
}

impl Default for WvaV2Settings {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.8,
            queue_length_threshold: 5.0,
            scale_up_threshold: 0.85,
            scale_down_boundary: 0.7,
            max_num_batched_tokens: 8192,
            analyzers: WvaAnalyzers::default(),
            reconcile_interval_s: 30.0,
            scrape_interval_s: 15.0,
            peak_window_s: 60.0,
            lengths_window_s: 300.0,
            version: WvaVersion::default(),
            carrier: WvaCarrier::default(),
            scale_to_zero_after_s: None,
        }
    }
}

impl PolicySettings for WvaV2Settings {
    fn check(&self, faults: &mut Faults) {
        for (field, value) in [
            ("kv_cache_threshold", self.kv_cache_threshold),
            ("scale_up_threshold", self.scale_up_threshold),
            ("scale_down_boundary", self.scale_down_boundary),
        ] {
            faults.require(value > 0.0 && value <= 1.0, field, || {
                format!("{value} found, expected a number above 0, at most 1")
            });
        }
        let queue = self.queue_length_threshold;
        faults.require(queue.is_finite() && queue >= 1.0, "queue_length_threshold", || {
            format!("{queue} found, expected at least 1: it is cut to a whole number")
        });
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
        let sync_s = self.carrier.sync_interval_s(self.reconcile_interval_s);
        check_intervals(
            faults,
            &[
                ("scrape_interval_s", self.scrape_interval_s),
                ("reconcile_interval_s", self.reconcile_interval_s),
                ("carrier.hpa.sync_interval_s", sync_s),
            ],
        );
        faults.positive("peak_window_s", self.peak_window_s);
        faults.positive("lengths_window_s", self.lengths_window_s);
        let early = self.version == WvaVersion::February && self.analyzers != WvaAnalyzers::Saturation;
        faults.require(!early, "analyzers", || "expected `saturation`: version 2026-02 has no other".into());
        self.carrier.check(faults);
        if let Some(after_s) = self.scale_to_zero_after_s {
            faults.positive("scale_to_zero_after_s", after_s);
        }
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: match self.analyzers {
                WvaAnalyzers::Saturation => "llm-d workload variant autoscaler, saturation analyzer V2",
                WvaAnalyzers::Throughput => "llm-d workload variant autoscaler, throughput analyzer",
                WvaAnalyzers::SaturationAndThroughput => {
                    "llm-d workload variant autoscaler, saturation V2 and throughput analyzers"
                }
            },
            version: self.version.name(),
            checked: Checked::Run,
            left_out: "several variants",
            knob: "scale_up_threshold",
            signals: "each replica's peak KV use and queue of the last minute, mean lengths of five minutes; every 30 s, then an HPA",
            blind_to: "latency",
        }
    }

    fn reaches_zero(&self) -> bool {
        self.scale_to_zero_after_s.is_some()
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let least = context.min_replicas.max(u32::from(self.scale_to_zero_after_s.is_none()));
        let observes = Observes { replicas: true, latencies: true, arrivals: true, ..Observes::default() };
        let intervals_s = [
            self.scrape_interval_s,
            self.reconcile_interval_s,
            self.carrier.sync_interval_s(self.reconcile_interval_s),
        ];
        let history_s =
            self.lengths_window_s.max(self.scale_to_zero_after_s.unwrap_or(0.0)).max(RATE_WINDOW_S);
        let engine = (f64::from(self.max_num_batched_tokens), f64::from(context.batch_size_cap));
        let wva = WvaV2 {
            optimizer: WvaOptimizer::new(self, Some(engine)),
            peaks: Peaks::new(self.peak_window_s),
            emitted: Emitted::new(&self.carrier, least, context.max_replicas),
            kv_tokens: i64::from(context.kv.total) * i64::from(context.kv.block_size_tokens),
            lengths_window_s: self.lengths_window_s,
            scale_to_zero_after_s: self.scale_to_zero_after_s,
            most: context.max_replicas,
        };
        Some(Scraped::boxed(observes, history_s, intervals_s, wva))
    }
}

/// Analyzers, their thresholds, and when each last had something to go by.
#[derive(Debug)]
pub struct WvaOptimizer {
    pub saturation: Saturation,
    pub throughput: Throughput,
    analyzers: WvaAnalyzers,
    scale_up_threshold: f64,
    scale_down_boundary: f64,
    stale_after_s: f64,
    last_informed_s: [Option<f64>; 2],
    /// Of the latest reconciliation: saturation, throughput.
    pub analyses: [Analysis; 2],
}

impl WvaOptimizer {
    /// `engine` is the most tokens of a batch and sequences at once, if known.
    pub fn new(settings: &WvaV2Settings, engine: Option<(f64, f64)>) -> Self {
        let WvaV2Settings { version, kv_cache_threshold, queue_length_threshold, .. } = *settings;
        Self {
            saturation: Saturation::new(version, kv_cache_threshold, queue_length_threshold, engine),
            throughput: Throughput::default(),
            analyzers: settings.analyzers,
            scale_up_threshold: settings.scale_up_threshold,
            scale_down_boundary: settings.scale_down_boundary,
            stale_after_s: STALE_CYCLES * settings.reconcile_interval_s,
            last_informed_s: [None; 2],
            analyses: [Analysis::default(); 2],
        }
    }

    /// Replicas there should be; `None` while no analyzer has anything to go by. `now` is the input of the
    /// throughput analyzer.
    pub fn reconcile(&mut self, peaks: &WvaInput, now: &WvaInput, current: u32, most: u32) -> Option<u32> {
        self.analyses[0] = self.saturation.analyze(peaks);
        if self.analyzers != WvaAnalyzers::Saturation {
            self.analyses[1] = self.throughput.analyze(now);
        }
        let voting: &[usize] = match self.analyzers {
            WvaAnalyzers::Saturation => &[0],
            WvaAnalyzers::Throughput => &[1],
            WvaAnalyzers::SaturationAndThroughput => &[0, 1],
        };
        let mut votes = Vec::with_capacity(voting.len());
        let mut binding = None;
        for &index in voting {
            let analysis = self.analyses[index];
            if analysis.informative {
                self.last_informed_s[index] = Some(peaks.now_s);
            }
            let live =
                self.last_informed_s[index].is_some_and(|at_s| peaks.now_s - at_s <= self.stale_after_s);
            if live && analysis.informative {
                binding = binding.or(Some(analysis.per_replica));
            }
            let (required, spare) = analysis.balance(self.scale_up_threshold, self.scale_down_boundary);
            votes.push(Vote { per_replica: analysis.per_replica, required, spare, live });
        }
        Some(step(&votes, binding?, current, most))
    }
}

#[derive(Debug)]
struct WvaV2 {
    optimizer: WvaOptimizer,
    peaks: Peaks,
    emitted: Emitted,
    kv_tokens: i64,
    lengths_window_s: f64,
    scale_to_zero_after_s: Option<f64>,
    most: u32,
}

impl WvaV2 {
    fn reconcile(&mut self, seen: &Seen, current: u32) -> Option<u32> {
        let (signals, kv_tokens) = (seen.signals, self.kv_tokens);
        let Lengths { prefill_tokens, decode_tokens } = signals
            .mean_lengths(self.lengths_window_s)
            .unwrap_or(Lengths { prefill_tokens: 0.0, decode_tokens: 0.0 });
        let replica = |kv_use: f64, queued_requests: u32| WvaReplica {
            kv_use,
            queued_requests,
            tokens_in_use: (kv_use * kv_tokens as f64) as i64,
            ..WvaReplica::default()
        };
        let peaks: Vec<WvaReplica> =
            self.peaks.read().map(|peak| replica(peak.kv_use, peak.queued_requests as u32)).collect();
        let itl_s = signals
            .ratio(RATE_WINDOW_S, |counters| counters.decode_sum_s, |counters| counters.decode_steps)
            .unwrap_or(0.0);
        let generated = signals.rate_per_s(RATE_WINDOW_S, |counters| counters.completed_decode_tokens);
        let share = generated / signals.replicas.len().max(1) as f64;
        let of_now = |gauges: &super::ReplicaSignals| WvaReplica {
            itl_s,
            generated_tokens_per_s: share,
            ..replica(gauges.kv_use(), gauges.queued_requests)
        };
        let now: Vec<WvaReplica> = signals.replicas.iter().map(of_now).collect();
        let input = |replicas| WvaInput {
            now_s: seen.now_s,
            replicas,
            pending: seen.snapshot.starting,
            kv_tokens,
            prefill_tokens,
            decode_tokens,
            arrivals_per_s: signals.rate_per_s(RATE_WINDOW_S, |counters| counters.arrived_requests),
            gateway_queue: signals.unrouted_requests,
            gateway_bytes: 0.0,
        };
        self.optimizer.reconcile(&input(&peaks), &input(&now), current, self.most)
    }
}

impl Controller<3> for WvaV2 {
    fn scraped(&mut self, seen: &Seen) {
        self.peaks.push(seen.now_s, &seen.signals.replicas);
    }

    fn decide(&mut self, [_, reconcile, sync]: [bool; 3], seen: &Seen) -> Decision {
        let current = seen.snapshot.committed();
        if current == 0 {
            // A loop of its own wakes what requests wait for.
            return if seen.signals.unrouted_requests > 0 { Decision::Up(1) } else { Decision::Hold };
        }
        if reconcile {
            let target = self.reconcile(seen, current);
            let idle = idle(seen, self.scale_to_zero_after_s);
            self.emitted.target = if idle { Some(0) } else { target.or(self.emitted.target) };
        }
        self.emitted.carry(seen.now_s, current, reconcile, sync)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let [saturation, throughput] = self.optimizer.analyses;
        let said =
            [("capacity_of_replica_tokens", saturation.per_replica), ("demand_tokens", saturation.demand)];
        let throughput =
            throughput.informative.then_some(("throughput_of_replica_tokens_per_s", throughput.per_replica));
        let target = self.emitted.target.map(|replicas| ("emitted_replicas", f64::from(replicas)));
        said.into_iter().chain(throughput).chain(target).collect()
    }
}
