//! Model-predictive control with scenario draws: what the next while may bring, and the number of replicas
//! that costs least on average.
//!
//! Rule, at every tick: scenarios of the rate over the horizon are drawn from the past, each what followed a
//! moment whose rate was among those nearest to that of now, as multiples of it. For every number of replicas
//! the horizon is gone through slot by slot: until a cold start has passed there are those there are (fewer
//! at once, if it is fewer), then that number. Requests wait in one queue, which drains by what replicas
//! serve more than arrives; to them come those in service and in the random ups and downs of the queue (as in
//! `lcp`). A slot costs its replicas plus `delay_weight` times its requests. The number with the least mean
//! cost is the target, and all is decided anew at the next tick. Requests that wait with no replica there or
//! on its way wake one (ours).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `delay_weight` | 0.1 | ours: the knob; replicas that one request less in the system is worth |
//! | `interval_s` | 10 | ours |
//! | `horizon_s` | 120 | ours |
//! | `scenarios` | 24 | ours |
//!
//! Source: the textbook's receding horizon (Camacho and Bordons, Model Predictive Control, 2007) with
//! scenarios by analogues of the past instead of a fitted model; from memory.

use std::collections::VecDeque;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::lcp::requests_in_system;
use super::replica_model::ReplicaModel;
use super::signals::Signals;
use super::{
    Arrivals, Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings,
    Snapshot, Upstream,
};
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MpcSettings {
    /// Replicas that one request less in the system is worth.
    pub delay_weight: f64,
    /// Seconds between decisions, and the length of a slot.
    pub interval_s: f64,
    /// How far ahead costs count; at least a cold start and a slot.
    pub horizon_s: f64,
    /// Scenarios drawn at each decision.
    pub scenarios: u32,
}

impl Default for MpcSettings {
    fn default() -> Self {
        Self { delay_weight: 0.1, interval_s: 10.0, horizon_s: 120.0, scenarios: 24 }
    }
}

impl PolicySettings for MpcSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("delay_weight", self.delay_weight);
        faults.interval_s("interval_s", self.interval_s);
        faults.positive("horizon_s", self.horizon_s);
        faults.at_least("scenarios", self.scenarios.into(), 1);
        faults.require(self.scenarios <= MOST_SCENARIOS, "scenarios", || {
            format!("{} found, expected at most {MOST_SCENARIOS}", self.scenarios)
        });
        let slots = self.horizon_s / self.interval_s;
        // Of what is no number the intervals complain.
        faults.require(slots.is_nan() || slots <= MOST_SLOTS, "horizon_s", || {
            format!(
                "{} found, {slots:.0} times `interval_s`, expected at most {MOST_SLOTS:.0} times",
                self.horizon_s
            )
        });
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Model-predictive control with scenario draws (textbook)",
            version: "as published",
            checked: Checked::Memory,
            left_out: "",
            knob: "delay_weight",
            signals: "arrivals, outstanding requests, mean lengths so far",
            blind_to: "latency, where requests wait",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        // What comes later than the horizon may be long is as good as at its end.
        let lead_slots =
            ((context.scale_up_delay_s / self.interval_s).ceil() as usize).min(MOST_SLOTS as usize - 1);
        Some(Box::new(Mpc {
            settings: self.clone(),
            model: ReplicaModel::new(context, MAX_BATCHED_TOKENS),
            signals: Signals::new(self.interval_s),
            random: random::stream(context.seed, "autoscaler.mpc"),
            replicas: (context.min_replicas, context.max_replicas),
            lead_slots,
            slots: ((self.horizon_s / self.interval_s).ceil() as usize).max(lead_slots + 1),
            rates: VecDeque::new(),
            evidence: Vec::new(),
        }))
    }
}

/// As the schedulers have it by default.
const MAX_BATCHED_TOKENS: u32 = 4096;
/// A decision is to take no longer than people wait for.
const MOST_SCENARIOS: u32 = 1000;
const MOST_SLOTS: f64 = 1000.0;
/// Slots of the past that are remembered, and how many of the nearest scenarios are drawn from.
const MOST_REMEMBERED: usize = 4096;
const NEAREST: usize = 64;
/// Below this rate multiples of it say nothing.
const LEAST_PER_S: f64 = 1e-3;

struct Mpc {
    settings: MpcSettings,
    model: ReplicaModel,
    signals: Signals,
    random: Xoshiro256PlusPlus,
    /// Fewest and most.
    replicas: (u32, u32),
    /// Slots until what is ordered now serves.
    lead_slots: usize,
    slots: usize,
    /// Rates of the last slots, the latest last.
    rates: VecDeque<f64>,
    evidence: Vec<(&'static str, f64)>,
}

/// What the system is before the horizon.
#[derive(Debug, Clone, Copy)]
struct Start {
    serving: f64,
    /// Requests waiting beyond those that are served.
    backlog: f64,
    /// Requests a second a replica serves.
    per_s: f64,
}

impl Mpc {
    /// Rates over the horizon; one scenario in which all stays as it is while nothing is known.
    fn scenarios(&mut self) -> Vec<Vec<f64>> {
        let now = self.rates.back().copied().unwrap_or_default();
        let known = self.rates.len().saturating_sub(self.slots);
        if known == 0 {
            return vec![vec![now; self.slots]];
        }
        let far = |rate: f64| libm::log(rate.max(LEAST_PER_S) / now.max(LEAST_PER_S)).abs();
        let mut moments: Vec<usize> = (0..known).collect();
        // Of equals the latest.
        moments.sort_by(|&a, &b| far(self.rates[a]).total_cmp(&far(self.rates[b])).then(b.cmp(&a)));
        moments.truncate(NEAREST);
        (0..self.settings.scenarios)
            .map(|_| {
                let moment = moments[self.random.random_range(0..moments.len())];
                let factor = if now > LEAST_PER_S { now / self.rates[moment].max(LEAST_PER_S) } else { 1.0 };
                // Multiples of next to nothing are not believed.
                let factor = factor.clamp(0.5, 2.0);
                (1..=self.slots).map(|slot| self.rates[moment + slot] * factor).collect()
            })
            .collect()
    }

    /// Mean cost of a slot with so many replicas from the cold start on.
    fn cost(&self, start: Start, replicas: u32, scenarios: &[Vec<f64>]) -> f64 {
        let slot_s = self.settings.interval_s;
        let mut sum = 0.0;
        for rates in scenarios {
            let mut backlog = start.backlog;
            for (slot, &rate) in rates.iter().enumerate() {
                let there = if slot < self.lead_slots {
                    start.serving.min(f64::from(replicas))
                } else {
                    f64::from(replicas)
                };
                let after = (backlog + (rate - there * start.per_s) * slot_s).max(0.0);
                let steady = requests_in_system(there as u32, (rate / start.per_s).min(MOST_LOAD * there));
                sum += there + self.settings.delay_weight * ((backlog + after) / 2.0 + steady);
                backlog = after;
            }
        }
        sum / (scenarios.len() * self.slots) as f64
    }
}

/// Load of a replica beyond which the queue grows, which is reckoned for itself.
const MOST_LOAD: f64 = 0.95;

impl Autoscaler for Mpc {
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
        // Ticks add up to times that miss whole slots by rounding.
        let rate_per_s =
            self.signals.rate_per_s(self.settings.interval_s * 1.001, |counters| counters.arrived_requests);
        if now_s > 0.0 {
            self.rates.push_back(rate_per_s);
            if self.rates.len() > MOST_REMEMBERED {
                self.rates.pop_front();
            }
        }
        let Some(lengths) = self.signals.lengths_so_far() else { return wake };
        let per_s = self.model.requests_per_s(lengths);
        let serving = f64::from(snapshot.serving.saturating_sub(snapshot.stopping));
        // As many as are in service all the time do not wait.
        let in_service = rate_per_s * self.model.service_time_s(lengths);
        let start = Start {
            serving,
            backlog: (f64::from(snapshot.outstanding_requests) - in_service).max(0.0),
            per_s,
        };
        let scenarios = self.scenarios();
        let (least, most) = self.replicas;
        let mut best = (least, self.cost(start, least, &scenarios));
        // Costs fall, then rise: as soon as replicas alone cost more than the best there is nothing to find.
        for replicas in least + 1..=most {
            let cost = self.cost(start, replicas, &scenarios);
            if cost < best.1 {
                best = (replicas, cost);
            } else if f64::from(replicas) * (1.0 - self.lead_slots as f64 / self.slots as f64) > best.1 {
                break;
            }
        }
        self.evidence = vec![
            ("rate_per_s", rate_per_s),
            ("target_replicas", best.0.into()),
            ("mean_cost_replicas", best.1),
        ];
        match Decision::towards(snapshot.committed(), best.0) {
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

    fn on(settings: &MpcSettings, test: impl Fn(Mpc)) {
        with_context(|context| {
            test(Mpc {
                model: ReplicaModel::new(context, MAX_BATCHED_TOKENS),
                signals: Signals::new(10.0),
                random: random::stream(1, "test"),
                replicas: (1, 32),
                lead_slots: 1,
                slots: 12,
                rates: VecDeque::new(),
                evidence: Vec::new(),
                settings: settings.clone(),
            });
        });
    }

    /// What the horizon costs, reckoned for one scenario by hand: 25/s for a replica of 10/s, three from the
    /// second slot on.
    #[test]
    fn costs_are_those_of_the_queue() {
        on(&MpcSettings::default(), |mut mpc| {
            mpc.slots = 3;
            let start = Start { serving: 1.0, backlog: 30.0, per_s: 10.0 };
            let steady = |replicas: u32, load: f64| requests_in_system(replicas, load);
            // 30, 180, 130, 80 requests.
            let expected = (1.0 + 0.1 * (105.0 + steady(1, 0.95)))
                + (3.0 + 0.1 * (155.0 + steady(3, 2.5)))
                + (3.0 + 0.1 * (105.0 + steady(3, 2.5)));
            let found = mpc.cost(start, 3, &[vec![25.0; 3]]);
            assert!((found - expected / 3.0).abs() < 1e-9, "{found}, {}", expected / 3.0);
        });
    }

    /// Scenarios are what followed such rates: after 10/s always 40/s here, after 40/s always 10/s.
    #[test]
    fn scenarios_are_analogues_of_the_past() {
        on(&MpcSettings::default(), |mut mpc| {
            mpc.slots = 2;
            mpc.rates.extend((0..200).map(|slot| if slot % 2 == 0 { 10.0 } else { 40.0 }));
            assert!(mpc.scenarios().iter().all(|rates| rates == &[10.0, 40.0]), "after 40/s");
            mpc.rates.push_back(10.0);
            assert!(mpc.scenarios().iter().all(|rates| rates == &[40.0, 10.0]), "after 10/s");
            mpc.rates.clear();
            mpc.rates.push_back(7.0);
            assert_eq!(mpc.scenarios(), [[7.0, 7.0]]);
        });
    }
}
