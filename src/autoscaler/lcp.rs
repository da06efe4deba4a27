//! Lazy capacity provisioning in whole replicas: the textbook's yardstick for right-sizing online.
//!
//! Rule, at the end of every slot: what the slot would have cost with x replicas is f(x) = x + `delay_weight`
//! x requests in the system, in replica-slots; a switch from x up to y costs y - x times `switch_cost_s`.
//! Over all slots so far, let L be the least last number of replicas of a cheapest schedule, and U the
//! largest if the switch down is charged instead of that up. The replicas stay as they are while they are
//! between L and U, and move to the nearer bound when they are not. No rule without a forecast does better in
//! the worst case: at most three times the cost of perfect foresight. Requests that wait with no replica
//! there or on its way wake one (ours).
//!
//! Requests in the system are those of x queues alike (r / (1 - r) each at load r; beyond 95 %, on along the
//! tangent), with what a replica serves from the hardware model at the mean lengths so far.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `slot_s` | 60 | ours |
//! | `delay_weight` | 0.1 | ours: the knob; replicas that one request less in the system is worth |
//! | `switch_cost_s` | the cluster's `scale_up_delay_s` | replica time that a start takes, as in Lin et al. |
//!
//! Source: Lin, Wierman, Andrew and Thereska, Dynamic right-sizing for power-proportional data centers
//! (INFOCOM 2011); whole numbers by Albers and Quedenfeld, arXiv 1807.05112. Read, and checked against a
//! search over all schedules.

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
pub struct LcpSettings {
    /// How long replicas stay as they are.
    pub slot_s: f64,
    /// Replicas that one request less in the system is worth.
    pub delay_weight: f64,
    /// Replica time that a start costs; by default the cluster's `scale_up_delay_s`.
    pub switch_cost_s: Option<f64>,
}

impl Default for LcpSettings {
    fn default() -> Self {
        Self { slot_s: 60.0, delay_weight: 0.1, switch_cost_s: None }
    }
}

impl PolicySettings for LcpSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("slot_s", self.slot_s);
        faults.positive("delay_weight", self.delay_weight);
        if let Some(cost_s) = self.switch_cost_s {
            faults.not_negative("switch_cost_s", cost_s);
        }
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Lazy capacity provisioning in whole replicas (Lin et al. 2011; arXiv 1807.05112)",
            version: "as published",
            checked: Checked::Read,
            left_out: "",
            knob: "delay_weight",
            signals: "arrivals of the slot just over, mean lengths so far",
            blind_to: "queues, latency, what comes",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let switch_cost_s = self.switch_cost_s.unwrap_or(context.scale_up_delay_s);
        Some(Box::new(Lcp {
            settings: self.clone(),
            model: ReplicaModel::new(context, MAX_BATCHED_TOKENS),
            signals: Signals::new(self.slot_s),
            work: WorkFunction::new(context.min_replicas, context.max_replicas, switch_cost_s / self.slot_s),
            bounds: (0, 0),
        }))
    }
}

/// As the schedulers have it by default.
const MAX_BATCHED_TOKENS: u32 = 4096;

/// Load up to which a queue is what theory says.
const MOST_LOAD: f64 = 0.95;

/// Requests in the system of so many queues alike that share a load of so many replicas. Convex, and finite
/// even where nobody serves.
pub(super) fn requests_in_system(replicas: u32, load: f64) -> f64 {
    let replicas = f64::from(replicas);
    if load == 0.0 {
        return 0.0;
    }
    if load <= MOST_LOAD * replicas {
        return load / (1.0 - load / replicas);
    }
    let at_most = MOST_LOAD / (1.0 - MOST_LOAD);
    replicas * at_most + (load - MOST_LOAD * replicas) / (1.0 - MOST_LOAD).powi(2)
}

/// The least cost of a schedule so far, for each number of replicas it may end with, in replica-slots.
#[derive(Debug)]
struct WorkFunction {
    least: u32,
    switch_cost: f64,
    costs: Vec<f64>,
}

impl WorkFunction {
    fn new(least: u32, most: u32, switch_cost: f64) -> Self {
        // Everything is off at first.
        let costs = (least..=most).map(|replicas| f64::from(replicas) * switch_cost).collect();
        Self { least, switch_cost, costs }
    }

    /// Adds a slot of these costs; returns the bounds of a lazy schedule.
    fn add(&mut self, slot: impl Fn(u32) -> f64) -> (u32, u32) {
        let count = self.costs.len();
        // Down is free; each one up is charged.
        for x in (0..count.saturating_sub(1)).rev() {
            self.costs[x] = self.costs[x].min(self.costs[x + 1]);
        }
        for x in 1..count {
            self.costs[x] = self.costs[x].min(self.costs[x - 1] + self.switch_cost);
        }
        for (x, cost) in self.costs.iter_mut().enumerate() {
            *cost += slot(self.least + x as u32);
        }
        let cheapest = self.costs.iter().copied().fold(f64::INFINITY, f64::min);
        self.costs.iter_mut().for_each(|cost| *cost -= cheapest);
        let (mut lower, mut upper) = ((0, f64::INFINITY), (0, f64::INFINITY));
        for (x, &cost) in self.costs.iter().enumerate() {
            if cost < lower.1 {
                lower = (x, cost);
            }
            // Charged on the way down instead: whoever ends with less has paid for that already.
            let charged_down = cost - self.switch_cost * x as f64;
            if charged_down <= upper.1 {
                upper = (x, charged_down);
            }
        }
        (self.least + lower.0 as u32, self.least + upper.0 as u32)
    }
}

#[derive(Debug)]
struct Lcp {
    settings: LcpSettings,
    model: ReplicaModel,
    signals: Signals,
    work: WorkFunction,
    bounds: (u32, u32),
}

impl Autoscaler for Lcp {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.slot_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        // Ticks add up to times that miss whole slots by rounding.
        let rate_per_s =
            self.signals.rate_per_s(self.settings.slot_s * 1.001, |counters| counters.arrived_requests);
        let wake = snapshot.wake();
        let Some(lengths) = self.signals.lengths_so_far() else { return wake };
        let load = rate_per_s / self.model.requests_per_s(lengths);
        let weight = self.settings.delay_weight;
        self.bounds =
            self.work.add(|replicas| f64::from(replicas) + weight * requests_in_system(replicas, load));
        let committed = snapshot.committed();
        let (lower, upper) = self.bounds;
        match Decision::towards(committed, committed.max(lower).min(upper.max(lower))) {
            Decision::Hold => wake,
            decided => decided,
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("lower_bound_replicas", self.bounds.0.into()), ("upper_bound_replicas", self.bounds.1.into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least and most last replicas over all cheapest schedules, by trying every one.
    fn by_hand(slots: &[[f64; 4]], switch_cost: f64, down: bool) -> (usize, usize) {
        let (mut best, mut ends) = (f64::INFINITY, Vec::new());
        for code in 0..4_usize.pow(slots.len() as u32) {
            let schedule: Vec<usize> = (0..slots.len()).map(|t| code / 4_usize.pow(t as u32) % 4).collect();
            let mut cost = 0.0;
            let mut before = 0;
            for (slot, &x) in slots.iter().zip(&schedule) {
                let switched = if down { before as f64 - x as f64 } else { x as f64 - before as f64 };
                cost += slot[x] + switch_cost * switched.max(0.0);
                before = x;
            }
            let last = *schedule.last().unwrap();
            if cost < best - 1e-9 {
                (best, ends) = (cost, vec![last]);
            } else if cost < best + 1e-9 {
                ends.push(last);
            }
        }
        (*ends.iter().min().unwrap(), *ends.iter().max().unwrap())
    }

    #[test]
    fn bounds_are_those_of_all_schedules() {
        let slot = |load: f64| [0_u32, 1, 2, 3].map(|x| f64::from(x) + 0.3 * requests_in_system(x, load));
        let loads = [0.4, 1.7, 1.7, 0.2, 0.2, 2.6];
        let slots: Vec<[f64; 4]> = loads.iter().map(|&load| slot(load)).collect();
        let mut work = WorkFunction::new(0, 3, 1.5);
        for t in 1..=slots.len() {
            let (lower, upper) = work.add(|x| slots[t - 1][x as usize]);
            assert_eq!(lower as usize, by_hand(&slots[..t], 1.5, false).0, "slot {t}");
            assert_eq!(upper as usize, by_hand(&slots[..t], 1.5, true).1, "slot {t}");
        }
    }

    #[test]
    fn delay_falls_with_replicas_and_ever_less() {
        for load in [0.3, 1.0, 5.5] {
            let requests: Vec<f64> = (0..12).map(|x| requests_in_system(x, load)).collect();
            let falls: Vec<f64> = requests.windows(2).map(|pair| pair[0] - pair[1]).collect();
            assert!(
                falls.iter().all(|&fall| fall > 0.0) && falls.is_sorted_by(|a, b| *a >= b - 1e-9),
                "{requests:?}"
            );
        }
    }
}
