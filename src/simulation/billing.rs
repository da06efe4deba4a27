//! What replicas cost, and how long they take to start.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

/// What is paid for. Defaults are the lab's: whole nodes, from joining to leaving, drain included, start-up
/// free.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BillingSettings {
    /// What the price is multiplied by.
    pub unit: BillingUnit,
    /// Whether a replica is paid from the decision to start it.
    pub cold_start: bool,
    /// Whether a replica is paid while it drains.
    pub drain: bool,
    /// Least time a replica is paid for, at its devices' share of the node price. The paid part of its start
    /// and drain counts.
    pub minimum_s: f64,
}

/// What the price is multiplied by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BillingUnit {
    /// Nodes, rounded up.
    #[default]
    Node,
    /// Devices, each at its share of the node price.
    Device,
}

impl Default for BillingSettings {
    fn default() -> Self {
        Self { unit: BillingUnit::Node, cold_start: false, drain: true, minimum_s: 0.0 }
    }
}

impl BillingSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.not_negative("minimum_s", self.minimum_s);
    }
}

/// What delays a start beyond `scale_up_delay_s`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ColdStartSettings {
    /// Bandwidth at which each device loads its share of the weights, gigabytes (1e9 bytes) per second; no
    /// time for it if absent.
    pub load_bandwidth_gb_per_s: Option<f64>,
    /// Standard deviation of the delay: normal, seeded, never below zero in all.
    pub spread_s: f64,
    /// Times from decision to serving as they were measured, in place of `scale_up_delay_s` and `spread_s`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub measured: Option<StartTimes>,
    /// Replicas that are kept part of the way to serving; none if empty. A start takes the one that serves
    /// soonest, and is cold when none waits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spares: Vec<SpareSettings>,
    /// What a fresh replica's first steps take beyond their time: none if empty. Replicas that are there from
    /// the start are warm.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stalls: Vec<Stall>,
}

/// A spread of start times: drawn for each start, seeded, straight from the least over the median to the
/// longest.
///
/// Measured, vLLM 0.20 with an 8B model on H100 pods of an llm-d cluster: 62, 76 and 104 s (27 starts of five
/// runs).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StartTimes {
    pub least_s: f64,
    pub median_s: f64,
    pub most_s: f64,
}

impl StartTimes {
    /// The time below which a share of the starts lies.
    pub fn quantile_s(&self, share: f64) -> f64 {
        let Self { least_s, median_s, most_s } = *self;
        if share < 0.5 {
            least_s + 2.0 * share * (median_s - least_s)
        } else {
            median_s + (2.0 * share - 1.0) * (most_s - median_s)
        }
    }

    fn check(&self, faults: &mut Faults) {
        let Self { least_s, median_s, most_s } = *self;
        faults.not_negative("least_s", least_s);
        faults.require(median_s >= least_s, "median_s", || {
            format!("{median_s} found, expected at least `least_s` ({least_s})")
        });
        faults.require(most_s.is_finite() && most_s >= median_s, "most_s", || {
            format!("{most_s} found, expected at least `median_s` ({median_s})")
        });
    }
}

/// Replicas that wait part of the way to serving, so that starts are warm or hot instead of cold.
///
/// Measured, llm-d's report on fast model actuation (August 2026; Qwen3-32B on an H100): cold 183 s from pod
/// to ready, with a warm launcher 108 s, where an engine that sleeps is woken 4.7 s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpareSettings {
    /// How many are kept. One that has been taken is made up for `refill_s` later.
    pub replicas: u32,
    /// From the decision to a replica that serves, in place of `scale_up_delay_s` and what else delays a
    /// start.
    pub start_s: f64,
    /// What one costs while it waits, as a share of what a replica's devices cost: 0 for a launcher without a
    /// device, 1 for an engine that keeps its device to itself. On top of nodes that are paid whole.
    #[serde(default)]
    pub price_share: f64,
    /// From taking one to another that waits.
    pub refill_s: f64,
}

impl SpareSettings {
    fn check(&self, faults: &mut Faults) {
        let Self { replicas, start_s, price_share, refill_s } = *self;
        faults.at_least("replicas", replicas.into(), 1);
        faults.not_negative("start_s", start_s);
        faults.fraction("price_share", price_share);
        faults.not_negative("refill_s", refill_s);
    }
}

/// A step of a fresh replica that takes longer: kernels that are compiled, graphs that are captured on first
/// use.
///
/// Measured, vLLM 0.20 with an 8B model on H100: the first step, 2.3 to 4.4 s, and one 3 to 11 s later, 2.2
/// s.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stall {
    /// The first step that begins so long after the replica's first one.
    pub after_s: f64,
    /// What it takes beyond its time.
    pub duration_s: f64,
}

impl ColdStartSettings {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(bandwidth) = self.load_bandwidth_gb_per_s {
            faults.positive("load_bandwidth_gb_per_s", bandwidth);
        }
        faults.not_negative("spread_s", self.spread_s);
        if let Some(measured) = &self.measured {
            faults.within("measured", |faults| measured.check(faults));
            faults.require(self.spread_s == 0.0, "spread_s", || {
                format!(
                    "{} found, expected none beside `measured`, which is a spread of its own",
                    self.spread_s
                )
            });
        }
        for (i, spare) in self.spares.iter().enumerate() {
            faults.within(format!("spares[{i}]"), |faults| spare.check(faults));
        }
        for (i, stall) in self.stalls.iter().enumerate() {
            faults.within(format!("stalls[{i}]"), |faults| {
                faults.not_negative("after_s", stall.after_s);
                faults.positive("duration_s", stall.duration_s);
                let before_s = i.checked_sub(1).map_or(0.0, |before| self.stalls[before].after_s);
                faults.require(stall.after_s >= before_s, "after_s", || {
                    format!("{} found, expected stalls in order of time: at least {before_s}", stall.after_s)
                });
            });
        }
    }

    /// Whether starts are drawn.
    pub fn draws(&self) -> bool {
        self.spread_s > 0.0 || self.measured.is_some_and(|measured| measured.least_s < measured.most_s)
    }
}

/// How replicas are lost. Each replica draws its fate when it joins; what it was working on is queued again
/// and starts over.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct FailureSettings {
    /// Mean time to a crash, exponential; none if absent.
    pub mean_time_to_crash_s: Option<f64>,
    /// Mean time to a spot reclaim, exponential; none if absent.
    pub mean_time_to_reclaim_s: Option<f64>,
    /// Time from the notice of a reclaim, when the replica starts to drain, to its end.
    pub reclaim_notice_s: f64,
}

impl FailureSettings {
    pub fn check(&self, faults: &mut Faults) {
        for (name, time) in [
            ("mean_time_to_crash_s", self.mean_time_to_crash_s),
            ("mean_time_to_reclaim_s", self.mean_time_to_reclaim_s),
        ] {
            if let Some(time) = time {
                faults.positive(name, time);
            }
        }
        faults.not_negative("reclaim_notice_s", self.reclaim_notice_s);
    }

    /// Whether replicas are lost at all.
    pub fn any(&self) -> bool {
        self.mean_time_to_crash_s.is_some() || self.mean_time_to_reclaim_s.is_some()
    }
}

/// Limits a request should keep; one that is absent is kept by all.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LatencyLimits {
    /// Longest time to first token.
    pub ttft_s: Option<f64>,
    /// Longest time per output token after the first.
    pub tpot_s: Option<f64>,
    /// Longest time from arrival to last token.
    pub e2e_s: Option<f64>,
}

impl LatencyLimits {
    pub fn check(&self, faults: &mut Faults) {
        for (name, limit) in [("ttft_s", self.ttft_s), ("tpot_s", self.tpot_s), ("e2e_s", self.e2e_s)] {
            if let Some(limit) = limit {
                faults.positive(name, limit);
            }
        }
    }

    /// Whether any limit is stated.
    pub fn any(&self) -> bool {
        self.ttft_s.or(self.tpot_s).or(self.e2e_s).is_some()
    }

    /// Whether a finished request kept all of them.
    pub fn keeps(&self, ttft_s: f64, tpot_s: Option<f64>, e2e_s: f64) -> bool {
        self.ttft_s.is_none_or(|limit| ttft_s <= limit)
            && self.e2e_s.is_none_or(|limit| e2e_s <= limit)
            && self.tpot_s.is_none_or(|limit| tpot_s.is_none_or(|tpot_s| tpot_s <= limit))
    }
}
