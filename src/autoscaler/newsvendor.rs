//! A newsvendor's reserve: the forecast, and as much more as the price of being short against that of being
//! idle is worth.
//!
//! Rule, at every tick: demand is the load of the last `window_s` in replicas (arrivals over what a replica
//! serves at the mean lengths so far and the `target_utilization`). What is ordered now serves in the next
//! cold start and interval, so what counts is by how much demand then exceeded the demand before it: such
//! differences of the last `memory_s` are the forecast's errors. The target is demand plus their quantile at
//! the critical ratio, shortage over shortage and idleness together. Requests that wait with no replica there
//! or on its way wake one (ours).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `critical_ratio` | 0.9 | ours: the knob; 0.9 is a shortage nine times as dear as an idle replica |
//! | `interval_s` | 15 | ours |
//! | `window_s` | 60 | ours |
//! | `memory_s` | 3600 | ours |
//! | `target_utilization` | 0.8 | ours |
//!
//! Source: the newsvendor model (Arrow, Harris and Marschak, Optimal inventory policy, Econometrica 1951)
//! with the empirical distribution of errors of the last value as a forecast; from memory.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::ReplicaModel;
use super::signals::Signals;
use super::{
    Arrivals, Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings,
    Snapshot, Upstream,
};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NewsvendorSettings {
    /// Price of a missing replica over that of a missing and an idle one together.
    pub critical_ratio: f64,
    /// Seconds between decisions.
    pub interval_s: f64,
    /// Arrivals of so long are the demand of now.
    pub window_s: f64,
    /// How far back errors of the forecast count.
    pub memory_s: f64,
    /// Load of a replica at which it is said to be full.
    pub target_utilization: f64,
}

impl Default for NewsvendorSettings {
    fn default() -> Self {
        Self {
            critical_ratio: 0.9,
            interval_s: 15.0,
            window_s: 60.0,
            memory_s: 3600.0,
            target_utilization: 0.8,
        }
    }
}

impl PolicySettings for NewsvendorSettings {
    fn check(&self, faults: &mut Faults) {
        faults.require(self.critical_ratio > 0.0 && self.critical_ratio < 1.0, "critical_ratio", || {
            format!("{} found, expected a share between 0 and 1", self.critical_ratio)
        });
        faults.interval_s("interval_s", self.interval_s);
        faults.positive("window_s", self.window_s);
        faults.positive("memory_s", self.memory_s);
        faults.require(
            self.target_utilization > 0.0 && self.target_utilization <= 1.0,
            "target_utilization",
            || format!("{} found, expected a share above 0 and at most 1", self.target_utilization),
        );
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Newsvendor reserve (Arrow, Harris and Marschak 1951)",
            version: "as published",
            checked: Checked::Memory,
            left_out: "",
            knob: "critical_ratio",
            signals: "arrivals of the last minute, mean lengths so far",
            blind_to: "queues, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let lead_ticks =
            ((context.scale_up_delay_s + self.interval_s) / self.interval_s).ceil().max(1.0) as usize;
        Some(Box::new(Newsvendor {
            settings: self.clone(),
            model: ReplicaModel::new(context, MAX_BATCHED_TOKENS),
            signals: Signals::new(self.window_s),
            most_replicas: context.max_replicas,
            lead_ticks,
            remembered: (self.memory_s / self.interval_s).ceil().max(1.0) as usize,
            demands: VecDeque::new(),
            evidence: Vec::new(),
        }))
    }
}

/// As the schedulers have it by default.
const MAX_BATCHED_TOKENS: u32 = 4096;

struct Newsvendor {
    settings: NewsvendorSettings,
    model: ReplicaModel,
    signals: Signals,
    most_replicas: u32,
    /// Ticks after which what is ordered now serves.
    lead_ticks: usize,
    remembered: usize,
    /// Demand at each of the last ticks, in replicas, the latest last.
    demands: VecDeque<f64>,
    evidence: Vec<(&'static str, f64)>,
}

impl Newsvendor {
    /// What demand is below with the probability of the critical ratio when what is ordered now serves.
    fn order_up_to(&self) -> f64 {
        let now = self.demands.back().copied().unwrap_or_default();
        let mut errors: Vec<f64> = (self.lead_ticks..self.demands.len())
            .map(|i| self.demands[i] - self.demands[i - self.lead_ticks])
            .collect();
        errors.sort_by(f64::total_cmp);
        (now + quantile(&errors, self.settings.critical_ratio)).max(0.0)
    }
}

/// The least of sorted values that a share of them does not exceed; 0 of none.
fn quantile(sorted: &[f64], share: f64) -> f64 {
    let place = (share * sorted.len() as f64).ceil() as usize;
    sorted.get(place.saturating_sub(1)).copied().unwrap_or_default()
}

impl Autoscaler for Newsvendor {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        let wake = snapshot.wake();
        let Some(lengths) = self.signals.lengths_so_far() else { return wake };
        // Ticks add up to times that miss whole windows by rounding.
        let rate_per_s =
            self.signals.rate_per_s(self.settings.window_s * 1.001, |counters| counters.arrived_requests);
        let demand = rate_per_s / (self.model.requests_per_s(lengths) * self.settings.target_utilization);
        self.demands.push_back(demand);
        if self.demands.len() > self.remembered + self.lead_ticks {
            self.demands.pop_front();
        }
        let target = self.order_up_to();
        self.evidence = vec![("demand_replicas", demand), ("reserve_replicas", target - demand)];
        match Decision::towards(snapshot.committed(), (target.ceil() as u32).min(self.most_replicas)) {
            Decision::Hold => wake,
            decided => decided,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.evidence.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::with_context;
    use super::*;

    /// With uniform errors and linear prices the order of least expected cost is the quantile at the critical
    /// ratio.
    #[test]
    fn the_quantile_costs_least() {
        let errors: Vec<f64> = (0..1000).map(|i| f64::from(i) / 100.0).collect();
        for ratio in [0.5, 0.8, 0.95] {
            let cost = |order: f64| -> f64 {
                errors
                    .iter()
                    .map(|&demand| {
                        ratio * (demand - order).max(0.0) + (1.0 - ratio) * (order - demand).max(0.0)
                    })
                    .sum()
            };
            let best = quantile(&errors, ratio);
            assert!((best - 10.0 * ratio).abs() < 0.02, "{best}");
            assert!([-0.5, -0.05, 0.05, 0.5].iter().all(|by| cost(best + by) > cost(best)), "{ratio}");
        }
        assert_eq!(quantile(&[], 0.9), 0.0);
    }

    /// Demand that doubles every fourth tick is insured against by whoever has seen it, at a high ratio and
    /// not at a low one.
    #[test]
    fn surges_seen_are_insured_against() {
        with_context(|context| {
            let order = |critical_ratio: f64| {
                let settings =
                    NewsvendorSettings { critical_ratio, interval_s: 10.0, ..NewsvendorSettings::default() };
                let mut policy = Newsvendor {
                    model: ReplicaModel::new(context, MAX_BATCHED_TOKENS),
                    signals: Signals::new(60.0),
                    most_replicas: 64,
                    lead_ticks: 2,
                    remembered: 100,
                    demands: VecDeque::new(),
                    evidence: Vec::new(),
                    settings,
                };
                policy.demands.extend((0..80).map(|tick| if tick % 4 == 0 { 6.0 } else { 3.0 }));
                policy.order_up_to()
            };
            assert_eq!([order(0.95), order(0.5), order(0.2)], [6.0, 3.0, 0.0]);
        });
    }
}
