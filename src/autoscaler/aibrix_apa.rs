//! AIBrix's pod autoscaler for language models (APA): the HPA's proportion with a tolerance each way and
//! bounded steps.
//!
//! Rule, every sync: ratio = mean per pod over the observe window / target. Above 1 + `tolerance.up`:
//! ceil(replicas x ratio), at most ceil(replicas x `max_scale_up_rate`). Below 1 - `tolerance.down`:
//! ceil(replicas x ratio), at least floor(replicas / `max_scale_down_rate`). What comes before and after is
//! in [`aibrix`](super::aibrix).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | KV use, 0.5 | the documentation's example |
//! | `tolerance` | 0.1 each way | `metric-based-autoscaling.rst` |
//! | `max_scale_up_rate`, `max_scale_down_rate` | 2, 2 | the same |
//! | `observe_window_s` | 180 | the same |
//! | `cooldown_window_s`, `cooldown` | up 0, down 300; as implemented | the same; `podautoscaler_controller.go` |
//! | `pending_guard`, `predictive` | off | not in e3e10f9e; later versions have them |
//! | `sync_interval_s` | 10 | `podautoscaler_controller.go` |
//!
//! Source: vllm-project/aibrix e3e10f9e (22 August 2026), `pkg/controller/podautoscaler/algorithm/apa.go`.
//! Checked: run; `tests/given/upstream/aibrix.rs` compares tick by tick.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aibrix::{
    self, Aibrix, AibrixCooldown, AibrixMetric, Common, Predictive, Schedules, Strategy, ceil,
};
use super::cadence::check_intervals;
use super::gauges;
use super::scraped::Scraped;
use super::signals::LoadMetric;
use super::{Autoscaler, Checked, PolicyContext, PolicySettings, Upstream};
use crate::settings::{Faults, PerDirection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AibrixApaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    /// Further metrics; the largest recommendation wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<AibrixMetric>,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    /// Window over which the metric is averaged.
    pub observe_window_s: f64,
    pub tolerance: PerDirection,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub cooldown_window_s: PerDirection,
    pub cooldown: AibrixCooldown,
    /// Bounds by the clock.
    pub schedules: Option<Schedules>,
    /// Whether replicas that are not ready hold changes back.
    pub pending_guard: bool,
    pub predictive: Option<Predictive>,
}

impl Default for AibrixApaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::KvUse,
            target_per_replica: 0.5,
            also: Vec::new(),
            sync_interval_s: 10.0,
            scrape_interval_s: 10.0,
            observe_window_s: 180.0,
            tolerance: PerDirection::both(0.1),
            max_scale_up_rate: 2.0,
            max_scale_down_rate: 2.0,
            cooldown_window_s: PerDirection { up: 0.0, down: 300.0 },
            cooldown: AibrixCooldown::default(),
            schedules: None,
            pending_guard: false,
            predictive: None,
        }
    }
}

impl PolicySettings for AibrixApaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_intervals(
            faults,
            &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)],
        );
        faults.positive("observe_window_s", self.observe_window_s);
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        for (field, rate) in
            [("max_scale_up_rate", self.max_scale_up_rate), ("max_scale_down_rate", self.max_scale_down_rate)]
        {
            faults.require(rate >= 1.0 && rate.is_finite(), field, || {
                format!("{rate} found, expected a number of at least 1")
            });
        }
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.up);
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.down);
        aibrix::check(faults, &self.also, self.schedules.as_ref(), self.predictive.as_ref());
    }

    fn doubts(&self) -> Vec<String> {
        if self.schedules.is_some() || self.predictive.is_some() {
            return Vec::new();
        }
        let also = self.also.iter().map(|metric| (metric.metric, metric.target_per_replica));
        gauges::doubts(
            &std::iter::once((self.metric, self.target_per_replica)).chain(also).collect::<Vec<_>>(),
            self.tolerance.up,
        )
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "AIBrix pod autoscaler, APA",
            version: "e3e10f9e (August 2026)",
            checked: Checked::Run,
            left_out: "",
            knob: "target_per_replica",
            signals: "mean over pods of the last 180 s, sampled every 10 s",
            blind_to: "queues, where the metric is KV use; metrics it was not given",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let aibrix = self.controller(context.min_replicas, context.max_replicas);
        let intervals_s = [self.scrape_interval_s, self.sync_interval_s];
        Some(Scraped::boxed(aibrix.observes(), self.observe_window_s, intervals_s, aibrix))
    }
}

impl AibrixApaSettings {
    /// The controller; at least one replica unless a schedule says otherwise, since no pod's metric can wake
    /// a fleet from zero.
    pub fn controller(&self, min_replicas: u32, max_replicas: u32) -> Aibrix<Apa> {
        let first = AibrixMetric { metric: self.metric, target_per_replica: self.target_per_replica };
        let common = Common {
            metrics: std::iter::once(first).chain(self.also.iter().cloned()).collect(),
            observe_window_s: self.observe_window_s,
            panic_window_s: self.observe_window_s,
            scrape_interval_s: self.scrape_interval_s,
            sums: false,
            max_scale_up_rate: self.max_scale_up_rate,
            cooldown_window_s: self.cooldown_window_s,
            cooldown: self.cooldown,
            schedules: self.schedules.clone(),
            pending_guard: self.pending_guard,
            predictive: self.predictive,
            min_replicas: min_replicas.max(1),
            max_replicas,
        };
        let Self { tolerance, max_scale_up_rate, max_scale_down_rate, .. } = *self;
        Aibrix::new(common, Apa { tolerance, max_scale_up_rate, max_scale_down_rate })
    }
}

/// The rule.
#[derive(Debug, Clone, Copy)]
pub struct Apa {
    tolerance: PerDirection,
    max_scale_up_rate: f64,
    max_scale_down_rate: f64,
}

impl Strategy for Apa {
    fn recommend(&mut self, _: f64, stable: f64, _: f64, target: f64, current: u32) -> (u32, f64) {
        let (replicas, ratio) = (f64::from(current), stable / target);
        let proportional = ceil(replicas * ratio);
        let recommended = if ratio > 1.0 + self.tolerance.up {
            proportional.min(ceil(self.max_scale_up_rate * replicas))
        } else if ratio < 1.0 - self.tolerance.down {
            proportional.max((replicas / self.max_scale_down_rate).floor() as u32)
        } else {
            current
        };
        (recommended, stable)
    }

    fn plain(&self, mean: f64, target: f64, current: u32) -> f64 {
        f64::from(current) * mean / target
    }

    fn guarded(&self, mean: f64, target: f64, current: u32, pending: u32, upwards: bool) -> f64 {
        let (replicas, pending) = (f64::from(current), f64::from(pending));
        let ready = replicas - pending;
        let mean =
            if upwards { mean * ready / replicas } else { (mean * ready + target * pending) / replicas };
        replicas * mean / target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Four replicas whose pods all have this value.
    fn sync(settings: &AibrixApaSettings, value: f64, pending: u32) -> u32 {
        let mut aibrix = settings.controller(1, 20);
        aibrix.record(0.0, 0, [value; 4]);
        aibrix.sync(0.0, 4, pending)
    }

    /// Hand-computed from `computeTargetReplicas`: target 0.5, tolerance 0.1, rates 2.
    #[test]
    fn proportion_within_bounds() {
        let cases = [(0.55, 4), (0.56, 5), (0.9, 8), (2.0, 8), (0.45, 4), (0.44, 4), (0.3, 3), (0.01, 2)];
        for (value, expected) in cases {
            assert_eq!(sync(&AibrixApaSettings::default(), value, 3), expected, "{value}");
        }
    }

    /// Hand-computed from `applyPendingReplicaGuard`.
    #[test]
    fn pending_replicas_damp_where_asked() {
        let settings = AibrixApaSettings { pending_guard: true, ..Default::default() };
        assert_eq!(sync(&settings, 0.9, 2), 4, "0.9 x 2 ready / 0.5 is 3.6: no more than now");
        assert_eq!(sync(&settings, 0.9, 1), 6);
        assert_eq!(sync(&settings, 0.1, 2), 3, "(0.1 x 2 + 0.5 x 2) / 0.5 is 2.4");
    }

    #[test]
    fn the_largest_of_several_metrics_wins() {
        let metric = AibrixMetric { metric: LoadMetric::QueuedRequests, target_per_replica: 2.0 };
        let mut aibrix = AibrixApaSettings { also: vec![metric], ..Default::default() }.controller(1, 20);
        aibrix.record(0.0, 0, [0.2; 4]);
        aibrix.record(0.0, 1, [3.0; 4]);
        assert_eq!(aibrix.sync(0.0, 4, 0), 6);
    }

    #[test]
    fn bounds_come_before_metrics() {
        let mut aibrix = AibrixApaSettings::default().controller(3, 6);
        assert_eq!(
            (aibrix.sync(0.0, 2, 0), aibrix.sync(0.0, 9, 0), aibrix.sync(0.0, 0, 0)),
            (3, 6, 0),
            "at zero it is switched off"
        );
    }
}
