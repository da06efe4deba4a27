//! How the Kubernetes HPA damps its recommendations: stabilisation windows and rate policies, per direction.
//!
//! 1. Stabilise: the replicas there are, raised to the lowest recommendation of the up window, lowered to the highest of the down window.
//!    What there is when it begins counts as the first recommendation (`recordInitialRecommendation`).
//! 2. Limit the rate: each policy allows so many pods or so many percent of the replicas there were at the start of its period;
//!    `select_policy` picks the policy that allows the most (`max`) or the least (`min`) change, or forbids the direction (`disabled`).
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` (`stabilizeRecommendationWithBehaviors`,
//! `convertDesiredReplicasWithBehaviorRate`), defaults `pkg/apis/autoscaling/v2/defaults.go`. An autoscaler without any `behavior` takes an
//! older way there, which limits scaling up to twice the replicas or 4 and follows the highest recommendation upwards, too; it is not
//! modelled (from memory).

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

/// One direction's damping. What is left out has Kubernetes' default for the direction: up, no window, at most 4 pods or 100 % in 15 s,
/// whichever is more; down, a window of 300 s, at most 100 % in 15 s.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ScalingRules {
    pub stabilization_window_s: Option<f64>,
    pub select_policy: SelectPolicy,
    pub policies: Option<Vec<RatePolicy>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SelectPolicy {
    #[default]
    Max,
    Min,
    Disabled,
}

/// At most `value` pods, or percent of the replicas, within `period_s`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RatePolicy {
    #[serde(rename = "type")]
    pub unit: RateUnit,
    pub value: u32,
    pub period_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RateUnit {
    Pods,
    Percent,
}

impl ScalingRules {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(window_s) = self.stabilization_window_s {
            faults.not_negative("stabilization_window_s", window_s);
        }
        for (i, policy) in self.policies.iter().flatten().enumerate() {
            faults.within(format!("policies[{i}]"), |faults| {
                faults.at_least("value", policy.value.into(), 1);
                faults.positive("period_s", policy.period_s);
            });
        }
        faults.require(self.policies.as_ref().is_none_or(|policies| !policies.is_empty()), "policies", || {
            "an empty list found, expected at least one policy (leave the field out for the defaults)".into()
        });
    }

    fn resolve(&self, window_s: f64, policies: &[RatePolicy]) -> Direction {
        Direction {
            window_s: self.stabilization_window_s.unwrap_or(window_s),
            select: self.select_policy,
            policies: self.policies.clone().unwrap_or_else(|| policies.to_vec()),
            events: VecDeque::new(),
        }
    }
}

/// One direction at work, with its past changes.
#[derive(Debug, Clone)]
struct Direction {
    window_s: f64,
    select: SelectPolicy,
    policies: Vec<RatePolicy>,
    events: VecDeque<(f64, u32)>,
}

impl Direction {
    fn record(&mut self, now_s: f64, change: u32) {
        let longest_s = self.policies.iter().map(|policy| policy.period_s).fold(0.0, f64::max);
        while self.events.front().is_some_and(|&(at, _)| at < now_s - longest_s) {
            self.events.pop_front();
        }
        self.events.push_back((now_s, change));
    }

    fn changed_within(&self, now_s: f64, period_s: f64) -> i64 {
        self.events.iter().filter(|&&(at, _)| at > now_s - period_s).map(|&(_, change)| i64::from(change)).sum()
    }
}

/// Both directions' damping and its memory.
#[derive(Debug, Clone)]
pub struct Behavior {
    up: Direction,
    down: Direction,
    recommendations: Recommendations,
}

/// What was recommended in the recent past.
#[derive(Debug, Clone)]
pub struct Recommendations {
    longest_s: f64,
    recent: VecDeque<(f64, u32)>,
}

impl Recommendations {
    /// Remembers for `longest_s`.
    pub fn new(longest_s: f64) -> Self {
        Self { longest_s, recent: VecDeque::new() }
    }

    pub fn push(&mut self, now_s: f64, replicas: u32) {
        while self.recent.front().is_some_and(|&(at, _)| at < now_s - self.longest_s) {
            self.recent.pop_front();
        }
        self.recent.push_back((now_s, replicas));
    }

    /// Recommendations later than the window's start.
    pub fn within(&self, now_s: f64, window_s: f64) -> impl Iterator<Item = u32> {
        self.recent.iter().filter(move |&&(at, _)| at > now_s - window_s).map(|&(_, replicas)| replicas)
    }
}

impl Behavior {
    pub fn new(up: &ScalingRules, down: &ScalingRules) -> Self {
        let percent = RatePolicy { unit: RateUnit::Percent, value: 100, period_s: 15.0 };
        let pods = RatePolicy { unit: RateUnit::Pods, value: 4, period_s: 15.0 };
        let (up, down) = (up.resolve(0.0, &[pods, percent]), down.resolve(300.0, &[percent]));
        Self { recommendations: Recommendations::new(up.window_s.max(down.window_s)), up, down }
    }

    /// What may be done about a recommendation now; remembers both. The result is to be carried out.
    pub fn damp(&mut self, now_s: f64, current: u32, recommended: u32) -> u32 {
        let stabilized = self.stabilize(now_s, current, recommended);
        let limited = self.limit(now_s, current, stabilized);
        if limited > current {
            self.up.record(now_s, limited - current);
        } else if limited < current {
            self.down.record(now_s, current - limited);
        }
        limited
    }

    fn stabilize(&mut self, now_s: f64, current: u32, recommended: u32) -> u32 {
        if self.recommendations.recent.is_empty() {
            // What there is to begin with counts as recommended.
            self.recommendations.push(now_s, current);
        }
        let least = self.recommendations.within(now_s, self.up.window_s).fold(recommended, u32::min);
        let most = self.recommendations.within(now_s, self.down.window_s).fold(recommended, u32::max);
        self.recommendations.push(now_s, recommended);
        // Towards the recommendation and never away from it: the windows only say how far.
        current.max(least).min(most)
    }

    fn limit(&self, now_s: f64, current: u32, desired: u32) -> u32 {
        let period_start =
            |period_s| i64::from(current) - self.up.changed_within(now_s, period_s) + self.down.changed_within(now_s, period_s);
        if desired > current {
            let allowed = self.up.policies.iter().map(|policy| {
                let start = period_start(policy.period_s);
                match policy.unit {
                    RateUnit::Pods => start + i64::from(policy.value),
                    RateUnit::Percent => (start as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64,
                }
            });
            let limit = match self.up.select {
                SelectPolicy::Max => allowed.max(),
                SelectPolicy::Min => allowed.min(),
                SelectPolicy::Disabled => None,
            };
            desired.min(limit.unwrap_or(0).max(i64::from(current)) as u32)
        } else {
            let allowed = self.down.policies.iter().map(|policy| {
                let start = period_start(policy.period_s);
                match policy.unit {
                    RateUnit::Pods => start - i64::from(policy.value),
                    RateUnit::Percent => (start as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
                }
            });
            let limit = match self.down.select {
                SelectPolicy::Max => allowed.min(),
                SelectPolicy::Min => allowed.max(),
                SelectPolicy::Disabled => None,
            };
            desired.max(limit.unwrap_or(i64::MAX).clamp(0, i64::from(current)) as u32)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rules(window_s: f64, select_policy: SelectPolicy, policies: &[(RateUnit, u32, f64)]) -> ScalingRules {
        let policies = policies.iter().map(|&(unit, value, period_s)| RatePolicy { unit, value, period_s }).collect();
        ScalingRules { stabilization_window_s: Some(window_s), select_policy, policies: Some(policies) }
    }

    /// The documentation's example: 10 % or 4 pods a minute from 80 replicas; 8 go first, and from 39 replicas on the 4 pods are more.
    #[test]
    fn documented_scale_down_of_ten_percent_or_four_pods() {
        let down = rules(0.0, SelectPolicy::Max, &[(RateUnit::Pods, 4, 60.0), (RateUnit::Percent, 10, 60.0)]);
        let mut behavior = Behavior::new(&ScalingRules::default(), &down);
        let mut replicas = vec![80];
        for minute in 1..12 {
            let current = *replicas.last().unwrap();
            replicas.push(behavior.damp(f64::from(minute) * 60.0, current, 10));
        }
        // 90 % of 80, 72, .. cut to whole replicas; below 40 always four.
        assert_eq!(replicas, [80, 72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20]);
    }

    /// The documentation's defaults: the double, or four more, every 15 s.
    #[test]
    fn default_scale_up_doubles_or_adds_four() {
        let mut behavior = Behavior::new(&ScalingRules::default(), &ScalingRules::default());
        let mut replicas = vec![1];
        for sync in 1..5 {
            let current = *replicas.last().unwrap();
            replicas.push(behavior.damp(f64::from(sync) * 15.0, current, 1000));
        }
        assert_eq!(replicas, [1, 5, 10, 20, 40]);
    }

    #[test]
    fn changes_count_against_their_period() {
        let up = rules(0.0, SelectPolicy::Max, &[(RateUnit::Pods, 4, 60.0)]);
        let mut behavior = Behavior::new(&up, &ScalingRules::default());
        assert_eq!(behavior.damp(0.0, 10, 12), 12);
        assert_eq!(behavior.damp(15.0, 12, 30), 14, "two of the four are left");
        assert_eq!(behavior.damp(30.0, 14, 30), 14);
        assert_eq!(behavior.damp(60.0, 14, 30), 16, "the first two are a minute old");
    }

    #[test]
    fn selection_picks_the_least_change_or_none() {
        let both = [(RateUnit::Pods, 4, 60.0), (RateUnit::Percent, 10, 60.0)];
        let mut behavior = Behavior::new(&rules(0.0, SelectPolicy::Min, &both), &rules(0.0, SelectPolicy::Disabled, &both));
        assert_eq!(behavior.damp(0.0, 20, 100), 22);
        assert_eq!(behavior.damp(15.0, 22, 1), 22);
    }

    /// The documentation: scaling down follows the highest recommendation of the past window.
    #[test]
    fn windows_hold_back_both_directions() {
        let up = rules(60.0, SelectPolicy::Max, &[(RateUnit::Percent, 900, 15.0)]);
        let mut behavior = Behavior::new(&up, &ScalingRules::default());
        assert_eq!(behavior.damp(0.0, 5, 5), 5);
        assert_eq!(behavior.damp(15.0, 5, 9), 5, "5 was recommended within the last minute");
        assert_eq!(behavior.damp(60.0, 5, 9), 9);
        assert_eq!(behavior.damp(75.0, 9, 2), 9);
        assert_eq!(behavior.damp(359.0, 9, 2), 9, "9 at 60 s is within 300 s");
        assert_eq!(behavior.damp(360.0, 9, 2), 2);
    }

    /// Upstream's `recordInitialRecommendation`: a cluster is not emptied at the first sync.
    #[test]
    fn the_first_size_is_kept_for_a_window() {
        let mut behavior = Behavior::new(&ScalingRules::default(), &ScalingRules::default());
        assert_eq!(behavior.damp(0.0, 10, 1), 10);
        assert_eq!(behavior.damp(285.0, 10, 1), 10);
        assert_eq!(behavior.damp(300.0, 10, 1), 1);
    }

    /// Upstream's `stabilizeRecommendationWithBehaviors` brings the current size within both windows: a high recommendation of the past
    /// keeps it from falling and does not raise it once the burst is over, and the other way round.
    #[test]
    fn windows_never_lead_away_from_the_recommendation() {
        let mut behavior = Behavior::new(&ScalingRules::default(), &ScalingRules::default());
        assert_eq!(behavior.damp(0.0, 1, 30), 5, "four pods more");
        assert_eq!(behavior.damp(15.0, 5, 1), 5, "the burst is over");
        let up = rules(60.0, SelectPolicy::Max, &[(RateUnit::Percent, 900, 15.0)]);
        let mut behavior = Behavior::new(&up, &rules(300.0, SelectPolicy::Max, &[(RateUnit::Percent, 100, 15.0)]));
        assert_eq!(behavior.damp(0.0, 10, 8), 10);
        assert_eq!(behavior.damp(15.0, 10, 12), 10, "8 within the last minute is no reason to shrink");
    }
}
