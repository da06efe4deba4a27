//! llm-d's workload variant autoscaler (WVA), saturation analyzer V2: tokens demanded against tokens of capacity.
//!
//! Rule, every reconciliation. Capacity of a replica = min(k1, k2): k1 = KV tokens x `kv_cache_threshold`; k2 = the tokens in use when its
//! queue has reached `queue_length_threshold` (compute is the bound then), else the mean of the last ten such observations, else what the
//! deployment's arguments and mean lengths I, O give: n (I + O/2) with n = min(B O / (I + O), S) for batches of B tokens and S requests,
//! else k1. Demand = tokens in use + queue x I, plus I + O for each request that waits for a replica to exist.
//! Supply = median capacity x replicas.
//! Required = demand / `scale_up_threshold` - supply with pending replicas; if positive, ceil(required / capacity) more. Otherwise
//! spare = supply of ready replicas - demand / `scale_down_boundary`; if positive, floor(spare / capacity) less, but never below one.
//!
//! Tokens in use and queue are each replica's peaks of the last minute, as in V1; I and O are means over requests that finished within
//! `lengths_window_s`.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `kv_cache_threshold`, `queue_length_threshold` | 0.80, 5 | `docs/saturation-analyzer.md` |
//! | `scale_up_threshold`, `scale_down_boundary` | 0.85, 0.70 | `internal/interfaces/saturation_scaling.go` |
//! | `reconcile_interval_s`, `peak_window_s` | 60, 60 | as V1 |
//! | `max_num_batched_tokens` | 4096 | this simulator's schedulers; a deployment argument there |
//! | `lengths_window_s`, `scrape_interval_s` | 300, 15 | Prometheus queries of llm-d's charts (from memory) |
//!
//! Source: llm-d/llm-d-workload-variant-autoscaler `internal/engines/analyzers/saturation_v2/analyzer.go`,
//! `internal/engines/pipeline/cost_aware_optimizer.go`. Upstream keeps observations of k2 apart by
//! classes of output length; here there is one class, and one variant, so the cheapest and the dearest are the same.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, check_intervals};
use super::peaks::{Peak, Peaks};
use super::replica_model::Lengths;
use super::signals::Signals;
use super::{Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

/// Observations of k2 that are averaged.
const OBSERVATIONS: usize = 10;

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
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
    pub reconcile_interval_s: f64,
    pub scrape_interval_s: f64,
    pub peak_window_s: f64,
    pub lengths_window_s: f64,
}

impl Default for WvaV2Settings {
    fn default() -> Self {
        Self {
            kv_cache_threshold: 0.8,
            queue_length_threshold: 5.0,
            scale_up_threshold: 0.85,
            scale_down_boundary: 0.7,
            max_num_batched_tokens: 4096,
            reconcile_interval_s: 60.0,
            scrape_interval_s: 15.0,
            peak_window_s: 60.0,
            lengths_window_s: 300.0,
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
            faults.require(value > 0.0 && value <= 1.0, field, || format!("{value} found, expected a number above 0, at most 1"));
        }
        faults.positive("queue_length_threshold", self.queue_length_threshold);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("reconcile_interval_s", self.reconcile_interval_s)]);
        faults.positive("peak_window_s", self.peak_window_s);
        faults.positive("lengths_window_s", self.lengths_window_s);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "llm-d workload variant autoscaler, saturation analyzer V2",
            version: "b08b1c77 (February 2026)",
            checked: Checked::Ported,
            left_out: "",
            knob: "scale_up_threshold",
            signals: "each replica's peak KV use and queue of the last minute, mean lengths of five minutes",
            blind_to: "latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(WvaV2 {
            analyzer: Analyzer {
                settings: self.clone(),
                kv_tokens: f64::from(context.kv.total) * f64::from(context.kv.block_size_tokens),
                batch_size_cap: f64::from(context.batch_size_cap),
                observed_k2: VecDeque::new(),
            },
            cadence: Cadence::new([self.scrape_interval_s, self.reconcile_interval_s]),
            signals: Signals::new(self.lengths_window_s),
            peaks: Peaks::new(self.peak_window_s),
            latest: Analysis::default(),
        }))
    }
}

#[derive(Debug)]
struct Analyzer {
    settings: WvaV2Settings,
    kv_tokens: f64,
    batch_size_cap: f64,
    observed_k2: VecDeque<f64>,
}

/// Tokens.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Analysis {
    capacity_of_replica: f64,
    demand: f64,
}

impl Analyzer {
    fn capacity(&mut self, peak: Peak, lengths: Option<Lengths>) -> f64 {
        let settings = &self.settings;
        let k1 = (self.kv_tokens * settings.kv_cache_threshold).floor();
        let in_use = (peak.kv_use * self.kv_tokens).floor();
        if peak.queued_requests >= settings.queue_length_threshold && in_use > 0.0 {
            self.observed_k2.push_back(in_use);
            if self.observed_k2.len() > OBSERVATIONS {
                self.observed_k2.pop_front();
            }
            return k1.min(in_use);
        }
        if !self.observed_k2.is_empty() {
            return k1.min((self.observed_k2.iter().sum::<f64>() / self.observed_k2.len() as f64).floor());
        }
        let derived = lengths.map_or(0.0, |Lengths { prefill_tokens, decode_tokens }| {
            let batched = f64::from(settings.max_num_batched_tokens);
            let steady = (batched * decode_tokens / (prefill_tokens + decode_tokens)).min(self.batch_size_cap);
            (steady * (prefill_tokens + decode_tokens / 2.0)).floor()
        });
        if derived > 0.0 { k1.min(derived) } else { k1 }
    }

    fn analyze(&mut self, peaks: &[Peak], unrouted: u32, lengths: Option<Lengths>) -> Analysis {
        let prompt = lengths.map_or(0.0, |lengths| lengths.prefill_tokens);
        let demand = |peak: &Peak| (peak.kv_use * self.kv_tokens).floor() + peak.queued_requests * prompt;
        let waiting = lengths.map_or(0.0, |lengths| f64::from(unrouted) * (lengths.prefill_tokens + lengths.decode_tokens));
        let demand = peaks.iter().map(demand).sum::<f64>() + waiting;
        let mut capacities: Vec<f64> = peaks.iter().map(|&peak| self.capacity(peak, lengths)).collect();
        capacities.sort_by(f64::total_cmp);
        let middle = capacities.len() / 2;
        let median = match capacities.len() {
            0 => 0.0,
            odd if odd % 2 == 1 => capacities[middle],
            _ => ((capacities[middle - 1] + capacities[middle]) / 2.0).floor(),
        };
        Analysis { capacity_of_replica: median, demand }
    }

    /// Replicas there should be, from ready and pending ones.
    fn target(&self, analysis: Analysis, ready: u32, pending: u32, current: u32) -> u32 {
        let Analysis { capacity_of_replica: capacity, demand } = analysis;
        if capacity <= 0.0 {
            return current;
        }
        let required = demand / self.settings.scale_up_threshold - f64::from(ready + pending) * capacity;
        if required > 0.0 {
            return current + (required / capacity).ceil() as u32;
        }
        let spare = f64::from(ready) * capacity - demand / self.settings.scale_down_boundary;
        let removable = (spare.max(0.0) / capacity).floor() as u32;
        current.saturating_sub(removable).max(current.min(1))
    }
}

#[derive(Debug)]
struct WvaV2 {
    analyzer: Analyzer,
    cadence: Cadence<2>,
    signals: Signals,
    peaks: Peaks,
    latest: Analysis,
}

impl Autoscaler for WvaV2 {
    fn observes(&self) -> Observes {
        Observes { replicas: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [scrape, reconcile] = self.cadence.tick();
        if scrape {
            self.signals.scrape(now_s, snapshot);
            self.peaks.push(now_s, &self.signals.replicas);
        }
        if !reconcile {
            return Decision::Hold;
        }
        let lengths = self.signals.mean_lengths(self.analyzer.settings.lengths_window_s);
        let peaks: Vec<Peak> = self.peaks.read().collect();
        self.latest = self.analyzer.analyze(&peaks, self.signals.unrouted_requests, lengths);
        let current = snapshot.committed();
        // Replicas told to stop are no supply any more.
        let ready = snapshot.serving.saturating_sub(snapshot.stopping);
        Decision::towards(current, self.analyzer.target(self.latest, ready, snapshot.starting, current))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("capacity_of_replica_tokens", self.latest.capacity_of_replica), ("demand_tokens", self.latest.demand)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn analyzer() -> Analyzer {
        Analyzer { settings: WvaV2Settings::default(), kv_tokens: 10_000.0, batch_size_cap: 16.0, observed_k2: VecDeque::new() }
    }

    fn peak(kv_use: f64, queued_requests: f64) -> Peak {
        Peak { kv_use, queued_requests }
    }

    const LENGTHS: Option<Lengths> = Some(Lengths { prefill_tokens: 300.0, decode_tokens: 100.0 });

    /// Hand-computed from `computeK2`: observed, then remembered, then derived, then k1.
    #[test]
    fn capacity_follows_the_chain() {
        let mut analyzer = analyzer();
        assert_eq!(analyzer.capacity(peak(0.2, 0.0), None), 8000.0, "k1");
        // n = min(4096 x 100 / 400, 16) = 16, so 16 x (300 + 50).
        assert_eq!(analyzer.capacity(peak(0.2, 0.0), LENGTHS), 5600.0, "derived");
        assert_eq!(analyzer.capacity(peak(0.3, 5.0), LENGTHS), 3000.0, "observed");
        assert_eq!(analyzer.capacity(peak(0.5, 7.0), LENGTHS), 5000.0, "observed");
        assert_eq!(analyzer.capacity(peak(0.1, 0.0), LENGTHS), 4000.0, "the mean of both");
        assert_eq!(analyzer.capacity(peak(0.95, 9.0), LENGTHS), 8000.0, "k1 caps it");
    }

    /// Hand-computed from `Analyze` and the cost-aware optimizer.
    #[test]
    fn required_and_spare() {
        let mut analyzer = analyzer();
        let busy = analyzer.analyze(&[peak(0.8, 2.0), peak(0.6, 0.0)], 0, LENGTHS);
        assert_eq!(busy, Analysis { capacity_of_replica: 5600.0, demand: 8000.0 + 600.0 + 6000.0 });
        // 14600 / 0.85 - 11200 = 5976 takes two; one pending makes it one.
        assert_eq!(analyzer.target(busy, 2, 0, 2), 4);
        assert_eq!(analyzer.target(busy, 2, 1, 3), 4);
        let idle = analyzer.analyze(&[peak(0.1, 0.0); 5], 0, LENGTHS);
        // 28000 - 5000 / 0.7 = 20857 is three replicas of 5600.
        assert_eq!(analyzer.target(idle, 5, 0, 5), 2);
        let empty = analyzer.analyze(&[peak(0.0, 0.0); 2], 0, LENGTHS);
        assert_eq!(analyzer.target(empty, 2, 0, 2), 1);
        assert_eq!(analyzer.analyze(&[peak(0.1, 0.0)], 10, LENGTHS).demand, 1000.0 + 4000.0);
    }
}
