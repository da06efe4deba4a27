//! AIBrix's pod autoscaler for language models (APA): the HPA's proportion with a tolerance each way and bounded steps.
//!
//! Rule, every sync: ratio = mean per pod over the observe window / target. Above 1 + `tolerance.up`: ceil(replicas x ratio), at most
//! ceil(replicas x `max_scale_up_rate`). Below 1 - `tolerance.down`: ceil(replicas x ratio), at least
//! floor(replicas / `max_scale_down_rate`). While replicas are pending they count as 0 when scaling up and as at the target when scaling
//! down. Then the cooldown windows.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | KV use, 0.5 | the documentation's example |
//! | `tolerance` | 0.1 each way | `metric-based-autoscaling.rst` |
//! | `max_scale_up_rate`, `max_scale_down_rate` | 2, 2 | the same |
//! | `observe_window_s` | 180 | the same |
//! | `cooldown_window_s` | up 0, down 300 | the same |
//! | `sync_interval_s` | 10 | `podautoscaler_controller.go` (from memory) |
//!
//! The documentation calls the cooldown windows stabilisation windows like the HPA's. The controller (`stabilizeRecommendation`) takes
//! the *highest* recommendation of the window going up and the *lowest* going down, so a window of 300 s speeds scaling down instead of
//! damping it; a recommendation equal to the current count leaves the window aside. `cooldown` chooses between `as_implemented` (the
//! default) and `as_documented`.
//!
//! Source: vllm-project/aibrix `pkg/controller/podautoscaler/algorithm/apa.go`, `autoscaler.go` (`applyPendingReplicaGuard`).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::Recommendations;
use super::cadence::{Cadence, check_intervals};
use super::signals::{LoadMetric, Signals};
use super::window::Window;
use super::{Autoscaler, BatchEnd, Decision, Observes, PolicyContext, PolicySettings, Snapshot};
use crate::settings::{Faults, PerDirection};

/// Which recommendation of its window a direction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AibrixCooldown {
    /// Up the highest, down the lowest.
    #[default]
    AsImplemented,
    /// Up the lowest, down the highest.
    AsDocumented,
}

impl AibrixCooldown {
    /// The recommendation to follow now, remembering this one.
    pub fn stabilize(self, past: &mut Recommendations, window_s: PerDirection, now_s: f64, current: u32, recommended: u32) -> u32 {
        past.push(now_s, recommended);
        let upwards = recommended > current;
        if recommended == current {
            return current;
        }
        let within = past.within(now_s, if upwards { window_s.up } else { window_s.down });
        let highest = upwards == (self == Self::AsImplemented);
        if highest { within.fold(recommended, u32::max) } else { within.fold(recommended, u32::min) }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AibrixApaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    /// Window over which the metric is averaged.
    pub observe_window_s: f64,
    pub tolerance: PerDirection,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub cooldown_window_s: PerDirection,
    pub cooldown: AibrixCooldown,
}

impl Default for AibrixApaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::KvUse,
            target_per_replica: 0.5,
            sync_interval_s: 10.0,
            scrape_interval_s: 10.0,
            observe_window_s: 180.0,
            tolerance: PerDirection::both(0.1),
            max_scale_up_rate: 2.0,
            max_scale_down_rate: 2.0,
            cooldown_window_s: PerDirection { up: 0.0, down: 300.0 },
            cooldown: AibrixCooldown::default(),
        }
    }
}

impl PolicySettings for AibrixApaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)]);
        faults.positive("observe_window_s", self.observe_window_s);
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        for (field, rate) in [("max_scale_up_rate", self.max_scale_up_rate), ("max_scale_down_rate", self.max_scale_down_rate)] {
            faults.require(rate >= 1.0 && rate.is_finite(), field, || format!("{rate} found, expected a number of at least 1"));
        }
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.up);
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.down);
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(AibrixApa {
            settings: self.clone(),
            min_replicas: context.min_replicas.max(1),
            max_replicas: context.max_replicas,
            cadence: Cadence::new([self.scrape_interval_s, self.sync_interval_s]),
            signals: Signals::new(self.observe_window_s),
            observed: Window::new(self.observe_window_s),
            past: Recommendations::new(self.cooldown_window_s.up.max(self.cooldown_window_s.down)),
        }))
    }
}

#[derive(Debug)]
struct AibrixApa {
    settings: AibrixApaSettings,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<2>,
    signals: Signals,
    observed: Window,
    past: Recommendations,
}

impl AibrixApaSettings {
    /// Replicas for a metric per pod, before limits.
    fn recommend(&self, value: f64, current: u32, pending: u32) -> u32 {
        let (replicas, target) = (f64::from(current), self.target_per_replica);
        let ratio = value / target;
        let proportional = (replicas * ratio).ceil();
        let ready = f64::from(current.saturating_sub(pending));
        if ratio > 1.0 + self.tolerance.up {
            let desired = proportional.min((self.max_scale_up_rate * replicas).ceil());
            let guarded = if pending > 0 { (value * ready / target).ceil().clamp(replicas, desired) } else { desired };
            guarded as u32
        } else if ratio < 1.0 - self.tolerance.down {
            let desired = proportional.max((replicas / self.max_scale_down_rate).floor());
            let filled = (value * ready + target * (replicas - ready)) / target;
            let guarded = if pending > 0 { filled.ceil().clamp(desired, replicas) } else { desired };
            guarded as u32
        } else {
            current
        }
    }
}

impl Autoscaler for AibrixApa {
    fn observes(&self) -> Observes {
        let tokens = self.settings.metric == LoadMetric::TokensPerS;
        Observes { batches: tokens, replicas: !tokens, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        self.signals.count_batches(batches);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [scrape, sync] = self.cadence.tick();
        let settings = &self.settings;
        if scrape {
            self.signals.scrape(now_s, snapshot);
            let total = settings.metric.total(&self.signals, settings.scrape_interval_s);
            self.observed.push(now_s, total / f64::from(snapshot.serving.max(1)));
        }
        let current = snapshot.committed();
        if !sync || current == 0 {
            return Decision::Hold;
        }
        let recommended = settings.recommend(self.observed.mean(), current, snapshot.starting);
        let recommended = recommended.clamp(self.min_replicas, self.max_replicas);
        let stabilized = settings.cooldown.stabilize(&mut self.past, settings.cooldown_window_s, now_s, current, recommended);
        Decision::towards(current, stabilized)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("metric_per_replica", self.observed.mean())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-computed from `computeTargetReplicas`: target 0.5, tolerance 0.1, rates 2.
    #[test]
    fn proportion_within_bounds() {
        let settings = AibrixApaSettings::default();
        let cases = [(0.55, 4), (0.56, 5), (0.9, 8), (2.0, 8), (0.45, 4), (0.44, 4), (0.3, 3), (0.01, 2)];
        for (value, expected) in cases {
            assert_eq!(settings.recommend(value, 4, 0), expected, "{value}");
        }
    }

    /// Hand-computed from `applyPendingReplicaGuard`.
    #[test]
    fn pending_replicas_damp() {
        let settings = AibrixApaSettings::default();
        assert_eq!(settings.recommend(0.9, 4, 2), 4, "0.9 x 2 ready / 0.5 is 3.6: no more than now");
        assert_eq!(settings.recommend(0.9, 4, 1), 6);
        assert_eq!(settings.recommend(0.1, 4, 2), 3, "(0.1 x 2 + 0.5 x 2) / 0.5 is 2.4");
    }

    #[test]
    fn cooldown_takes_the_lowest_on_the_way_down_unless_as_documented() {
        let window_s = PerDirection { up: 0.0, down: 300.0 };
        let walk = |cooldown: AibrixCooldown| {
            let mut past = Recommendations::new(300.0);
            [(0.0, 2), (10.0, 5), (20.0, 3), (330.0, 4)]
                .map(|(now_s, recommended)| cooldown.stabilize(&mut past, window_s, now_s, 5, recommended))
        };
        assert_eq!(walk(AibrixCooldown::AsImplemented), [2, 5, 2, 4]);
        assert_eq!(walk(AibrixCooldown::AsDocumented), [2, 5, 5, 4]);
    }
}
