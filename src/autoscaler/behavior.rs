//! How the Kubernetes HPA damps its recommendations.
//!
//! **Without `behavior`**, the usual manifest: the highest recommendation of the last 300 s is followed, *upwards
//! too*, and a sync goes to at most max(2 x current, 4) replicas. A burst of one sample is so chased for five
//! minutes.
//!
//! **With `behavior`**:
//!
//! 1. Stabilise: the replicas there are, raised to the lowest recommendation of the up window, lowered to the
//!    highest of the down window.
//! 2. Limit the rate: each policy allows so many pods or so many percent of the replicas there were at the
//!    start of its period; `select_policy` picks the policy that allows the most (`max`) or the least (`min`)
//!    change, or forbids the direction (`disabled`).
//!
//! Before 1.33 two things were otherwise: a wish to grow is lowered to the lowest recommendation of the up
//! window, and a wish to shrink raised to the highest of the down window, whatever that leads to; and only
//! changes of the same direction count against a rate.
//!
//! What there is at the first sync counts as the first recommendation (`recordInitialRecommendation`), both
//! with and without.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` (`normalizeDesiredReplicas`,
//! `stabilizeRecommendationWithBehaviors`, `convertDesiredReplicasWithBehaviorRate`), defaults
//! `pkg/apis/autoscaling/v2/defaults.go`. Functions of 1.20.2 were run, those of 1.33 ported;
//! `tests/given/upstream/hpa.rs` compares.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::proportional::KubernetesVersion;
use crate::settings::Faults;

/// `--horizontal-pod-autoscaler-downscale-stabilization`.
const PLAIN_WINDOW_S: f64 = 300.0;

/// The manifest's `behavior`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BehaviorSettings {
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
}

impl BehaviorSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within("scale_up", |faults| self.scale_up.check(faults));
        faults.within("scale_down", |faults| self.scale_down.check(faults));
    }
}

/// One direction's damping. What is left out has Kubernetes' default for the direction: up, no window, at
/// most 4 pods or 100 % in 15 s, whichever is more; down, a window of 300 s, at most 100 % in 15 s.
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
        faults.require(
            self.policies.as_ref().is_none_or(|policies| !policies.is_empty()),
            "policies",
            || {
                "an empty list found, expected at least one policy (leave the field out for the defaults)"
                    .into()
            },
        );
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
        self.events
            .iter()
            .filter(|&&(at, _)| at > now_s - period_s)
            .map(|&(_, change)| i64::from(change))
            .sum()
    }
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

    fn is_empty(&self) -> bool {
        self.recent.is_empty()
    }

    /// The highest not older than the window.
    fn highest_since(&self, since_s: f64) -> Option<u32> {
        self.recent.iter().filter(|&&(at, _)| at >= since_s).map(|&(_, replicas)| replicas).max()
    }
}

/// Damping and its memory.
#[derive(Debug, Clone)]
pub struct Damping {
    version: KubernetesVersion,
    recommendations: Recommendations,
    /// None without `behavior`.
    rates: Option<[Direction; 2]>,
}

impl Damping {
    pub fn new(behavior: Option<&BehaviorSettings>, version: KubernetesVersion) -> Self {
        let percent = RatePolicy { unit: RateUnit::Percent, value: 100, period_s: 15.0 };
        let pods = RatePolicy { unit: RateUnit::Pods, value: 4, period_s: 15.0 };
        let rates = behavior.map(|behavior| {
            [behavior.scale_up.resolve(0.0, &[pods, percent]), behavior.scale_down.resolve(300.0, &[percent])]
        });
        let longest_s = rates.as_ref().map_or(PLAIN_WINDOW_S, |[up, down]| up.window_s.max(down.window_s));
        Self { version, recommendations: Recommendations::new(longest_s), rates }
    }

    /// What there is when a sync begins: the first time, that counts as recommended.
    pub fn begin(&mut self, now_s: f64, current: u32) {
        if self.recommendations.is_empty() {
            self.recommendations.push(now_s, current);
        }
    }

    /// What may be done about a recommendation now, from `least` to `most`; remembers the recommendation.
    pub fn damp(&mut self, now_s: f64, current: u32, recommended: u32, least: u32, most: u32) -> u32 {
        self.begin(now_s, current);
        let stabilized = self.stabilize(now_s, current, recommended);
        self.recommendations.push(now_s, recommended);
        let limited = match &self.rates {
            None => stabilized.min(current.saturating_mul(2).max(4)),
            Some(_) => self.limit(now_s, current, stabilized),
        };
        limited.clamp(least, most)
    }

    /// Remembers that a change was carried out, for whatever reason.
    pub fn changed(&mut self, now_s: f64, before: u32, after: u32) {
        if let Some([up, down]) = &mut self.rates {
            if after > before {
                up.record(now_s, after - before);
            } else if after < before {
                down.record(now_s, before - after);
            }
        }
    }

    fn stabilize(&self, now_s: f64, current: u32, recommended: u32) -> u32 {
        let past = &self.recommendations;
        let Some([up, down]) = &self.rates else {
            return past
                .highest_since(now_s - PLAIN_WINDOW_S)
                .map_or(recommended, |highest| highest.max(recommended));
        };
        let least = || past.within(now_s, up.window_s).fold(recommended, u32::min);
        let most = || past.within(now_s, down.window_s).fold(recommended, u32::max);
        match self.version {
            KubernetesVersion::V1_20 => {
                if recommended >= current {
                    least()
                } else {
                    most()
                }
            }
            // Towards the recommendation and never away from it: the windows only say how far.
            KubernetesVersion::V1_33 => current.max(least()).min(most()),
        }
    }

    fn limit(&self, now_s: f64, current: u32, desired: u32) -> u32 {
        let Some([up, down]) = &self.rates else { return desired };
        let start = |upwards: bool, period_s: f64| {
            let (grown, shrunk) = (up.changed_within(now_s, period_s), down.changed_within(now_s, period_s));
            match (self.version, upwards) {
                (KubernetesVersion::V1_33, _) => i64::from(current) - grown + shrunk,
                (KubernetesVersion::V1_20, true) => i64::from(current) - grown,
                (KubernetesVersion::V1_20, false) => i64::from(current) + shrunk,
            }
        };
        if desired > current {
            let allowed = up.policies.iter().map(|policy| {
                let start = start(true, policy.period_s);
                match policy.unit {
                    RateUnit::Pods => start + i64::from(policy.value),
                    RateUnit::Percent => {
                        (start as f64 * (1.0 + f64::from(policy.value) / 100.0)).ceil() as i64
                    }
                }
            });
            let limit = match up.select {
                SelectPolicy::Max => allowed.max(),
                SelectPolicy::Min => allowed.min(),
                SelectPolicy::Disabled => None,
            };
            desired.min(limit.unwrap_or(0).max(i64::from(current)) as u32)
        } else {
            let allowed = down.policies.iter().map(|policy| {
                let start = start(false, policy.period_s);
                match policy.unit {
                    RateUnit::Pods => start - i64::from(policy.value),
                    RateUnit::Percent => (start as f64 * (1.0 - f64::from(policy.value) / 100.0)) as i64,
                }
            });
            let limit = match down.select {
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

    fn damping(scale_up: ScalingRules, scale_down: ScalingRules) -> Damping {
        Damping::new(Some(&BehaviorSettings { scale_up, scale_down }), KubernetesVersion::V1_33)
    }

    /// A sync that is carried out.
    fn sync(damping: &mut Damping, now_s: f64, current: u32, recommended: u32) -> u32 {
        let after = damping.damp(now_s, current, recommended, 1, 100_000);
        damping.changed(now_s, current, after);
        after
    }

    fn rules(window_s: f64, select_policy: SelectPolicy, policies: &[(RateUnit, u32, f64)]) -> ScalingRules {
        let policies =
            policies.iter().map(|&(unit, value, period_s)| RatePolicy { unit, value, period_s }).collect();
        ScalingRules { stabilization_window_s: Some(window_s), select_policy, policies: Some(policies) }
    }

    /// The documentation's example: 10 % or 4 pods a minute from 80 replicas; 8 go first, and from 39
    /// replicas on the 4 pods are more.
    #[test]
    fn documented_scale_down_of_ten_percent_or_four_pods() {
        let down = rules(0.0, SelectPolicy::Max, &[(RateUnit::Pods, 4, 60.0), (RateUnit::Percent, 10, 60.0)]);
        let mut behavior = damping(ScalingRules::default(), down);
        let mut replicas = vec![80];
        for minute in 1..12 {
            let current = *replicas.last().unwrap();
            replicas.push(sync(&mut behavior, f64::from(minute) * 60.0, current, 10));
        }
        // 90 % of 80, 72, .. cut to whole replicas; below 40 always four.
        assert_eq!(replicas, [80, 72, 64, 57, 51, 45, 40, 36, 32, 28, 24, 20]);
    }

    /// The documentation's defaults: the double, or four more, every 15 s.
    #[test]
    fn default_scale_up_doubles_or_adds_four() {
        let mut behavior = damping(ScalingRules::default(), ScalingRules::default());
        let mut replicas = vec![1];
        for step in 1..5 {
            let current = *replicas.last().unwrap();
            replicas.push(sync(&mut behavior, f64::from(step) * 15.0, current, 1000));
        }
        assert_eq!(replicas, [1, 5, 10, 20, 40]);
    }

    #[test]
    fn changes_count_against_their_period() {
        let up = rules(0.0, SelectPolicy::Max, &[(RateUnit::Pods, 4, 60.0)]);
        let mut behavior = damping(up, ScalingRules::default());
        assert_eq!(sync(&mut behavior, 0.0, 10, 12), 12);
        assert_eq!(sync(&mut behavior, 15.0, 12, 30), 14, "two of the four are left");
        assert_eq!(sync(&mut behavior, 30.0, 14, 30), 14);
        assert_eq!(sync(&mut behavior, 60.0, 14, 30), 16, "the first two are a minute old");
    }

    #[test]
    fn selection_picks_the_least_change_or_none() {
        let both = [(RateUnit::Pods, 4, 60.0), (RateUnit::Percent, 10, 60.0)];
        let mut behavior =
            damping(rules(0.0, SelectPolicy::Min, &both), rules(0.0, SelectPolicy::Disabled, &both));
        assert_eq!(sync(&mut behavior, 0.0, 20, 100), 22);
        assert_eq!(sync(&mut behavior, 15.0, 22, 1), 22);
    }

    /// The documentation: scaling down follows the highest recommendation of the past window.
    #[test]
    fn windows_hold_back_both_directions() {
        let up = rules(60.0, SelectPolicy::Max, &[(RateUnit::Percent, 900, 15.0)]);
        let mut behavior = damping(up, ScalingRules::default());
        assert_eq!(sync(&mut behavior, 0.0, 5, 5), 5);
        assert_eq!(sync(&mut behavior, 15.0, 5, 9), 5, "5 was recommended within the last minute");
        assert_eq!(sync(&mut behavior, 60.0, 5, 9), 9);
        assert_eq!(sync(&mut behavior, 75.0, 9, 2), 9);
        assert_eq!(sync(&mut behavior, 359.0, 9, 2), 9, "9 at 60 s is within 300 s");
        assert_eq!(sync(&mut behavior, 360.0, 9, 2), 2);
    }

    /// Upstream's `recordInitialRecommendation`: a cluster is not emptied at the first sync.
    #[test]
    fn the_first_size_is_kept_for_a_window() {
        let mut behavior = damping(ScalingRules::default(), ScalingRules::default());
        assert_eq!(sync(&mut behavior, 0.0, 10, 1), 10);
        assert_eq!(sync(&mut behavior, 285.0, 10, 1), 10);
        assert_eq!(sync(&mut behavior, 300.0, 10, 1), 1);
    }

    /// Upstream's `stabilizeRecommendationWithBehaviors` brings the current size within both windows: a high
    /// recommendation of the past keeps it from falling and does not raise it once the burst is over, and the
    /// other way round.
    #[test]
    fn windows_never_lead_away_from_the_recommendation() {
        let mut behavior = damping(ScalingRules::default(), ScalingRules::default());
        assert_eq!(sync(&mut behavior, 0.0, 1, 30), 5, "four pods more");
        assert_eq!(sync(&mut behavior, 15.0, 5, 1), 5, "the burst is over");
        let up = rules(60.0, SelectPolicy::Max, &[(RateUnit::Percent, 900, 15.0)]);
        let mut behavior = damping(up, rules(300.0, SelectPolicy::Max, &[(RateUnit::Percent, 100, 15.0)]));
        assert_eq!(sync(&mut behavior, 0.0, 10, 8), 10);
        assert_eq!(sync(&mut behavior, 15.0, 10, 12), 10, "8 within the last minute is no reason to shrink");
    }

    /// The usual manifest has no `behavior`. Wanted 2, and 12 once at 60 s: what Kubernetes 1.20.2 does.
    #[test]
    fn without_behavior_one_high_sample_is_followed_upwards_for_five_minutes() {
        let mut damping = Damping::new(None, KubernetesVersion::V1_33);
        let (mut current, mut changes) = (2, Vec::new());
        for step in 0..30 {
            let now_s = f64::from(step) * 15.0;
            let wanted = if step == 4 { 12 } else { 2 };
            let after = damping.damp(now_s, current, wanted, 1, 100);
            if after != current {
                changes.push((now_s, after));
            }
            current = after;
        }
        assert_eq!(changes, [(60.0, 4), (75.0, 8), (90.0, 12), (375.0, 2)]);
    }

    /// In 1.20 a wish to shrink within the up window of a low one is raised by the down window alone, and
    /// drains do not add to what may be added.
    #[test]
    fn releases_differ_in_what_counts() {
        let up = rules(0.0, SelectPolicy::Max, &[(RateUnit::Pods, 4, 60.0)]);
        let down = rules(0.0, SelectPolicy::Max, &[(RateUnit::Percent, 100, 60.0)]);
        let walk = |version| {
            let behavior = BehaviorSettings { scale_up: up.clone(), scale_down: down.clone() };
            let mut damping = Damping::new(Some(&behavior), version);
            let after = sync(&mut damping, 0.0, 10, 4);
            (after, sync(&mut damping, 15.0, after, 30))
        };
        assert_eq!(walk(KubernetesVersion::V1_33), (4, 14), "six that went may return");
        assert_eq!(walk(KubernetesVersion::V1_20), (4, 8));
    }
}
