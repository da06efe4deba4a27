//! AIBrix's variant of Knative's KPA: slower windows, doubling and halving at most, any metric.
//!
//! Rule, every sync, as implemented: both windows hold the **mean over pods**, and yet desired = ceil(mean /
//! target), so that ten pods at one and a half times their target become two. Outside the tolerance only;
//! within [floor(replicas / `max_scale_down_rate`), ceil(replicas x `max_scale_up_rate`)]. Panic, the larger
//! of both windows' counts, is decided anew at each sync: the panic mean exceeds `panic_threshold` times the
//! stable one, or that is zero. It never keeps replicas.
//!
//! `rule: as_intended` is Knative's: sums over pods, and a panic that lasts a window in which nothing shrinks
//! ([`stable_panic`](super::stable_panic)). What comes before and after either is in
//! [`aibrix`](super::aibrix).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | KV use, 0.5 | the documentation's example |
//! | `rule` | as implemented | `algorithm/kpa.go` |
//! | `tolerance` | 0.1 each way | `metric-based-autoscaling.rst` |
//! | `observe_window_s`, `panic_window_s`, `panic_threshold` | 180, 60, 2 | the same |
//! | `max_scale_up_rate`, `max_scale_down_rate` | 2, 2 | the same |
//! | `cooldown_window_s`, `cooldown` | up 0, down 300; as implemented | the same; `podautoscaler_controller.go` |
//! | `pending_guard`, `predictive` | off | not in e3e10f9e; later versions have them |
//! | `sync_interval_s` | 10 | `podautoscaler_controller.go` |
//!
//! Source: vllm-project/aibrix e3e10f9e (22 August 2026), `pkg/controller/podautoscaler/algorithm/kpa.go`,
//! `metrics/client.go`. Checked: run; `tests/given/upstream/aibrix.rs` compares tick by tick.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aibrix::{self, Aibrix, AibrixCooldown, AibrixMetric, Common, Predictive, Schedules, Strategy};
use super::cadence::check_intervals;
use super::gauges;
use super::scraped::Scraped;
use super::signals::LoadMetric;
use super::stable_panic::StablePanic;
use super::{Autoscaler, Checked, PolicyContext, PolicySettings, Upstream};
use crate::settings::{Faults, PerDirection};

/// Which of two rules.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AibrixKpaRule {
    /// Means over pods over the target.
    #[default]
    AsImplemented,
    /// Sums over pods over the target, and Knative's panic.
    AsIntended,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AibrixKpaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    /// Further metrics; the largest recommendation wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<AibrixMetric>,
    pub rule: AibrixKpaRule,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    pub observe_window_s: f64,
    pub panic_window_s: f64,
    /// Panic mean over stable mean above which a panic begins; with the intended rule, panic count over
    /// replicas.
    pub panic_threshold: f64,
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

impl Default for AibrixKpaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::KvUse,
            target_per_replica: 0.5,
            also: Vec::new(),
            rule: AibrixKpaRule::default(),
            sync_interval_s: 10.0,
            scrape_interval_s: 10.0,
            observe_window_s: 180.0,
            panic_window_s: 60.0,
            panic_threshold: 2.0,
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

impl PolicySettings for AibrixKpaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_intervals(
            faults,
            &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)],
        );
        faults.positive("observe_window_s", self.observe_window_s);
        faults.positive("panic_window_s", self.panic_window_s);
        faults.require(self.panic_window_s <= self.observe_window_s, "panic_window_s", || {
            format!(
                "{} found, expected at most `observe_window_s` ({})",
                self.panic_window_s, self.observe_window_s
            )
        });
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        for (field, rate) in [
            ("panic_threshold", self.panic_threshold),
            ("max_scale_up_rate", self.max_scale_up_rate),
            ("max_scale_down_rate", self.max_scale_down_rate),
        ] {
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
        let (program, checked) = match self.rule {
            AibrixKpaRule::AsImplemented => ("AIBrix pod autoscaler, KPA as implemented", Checked::Run),
            AibrixKpaRule::AsIntended => {
                ("AIBrix pod autoscaler, KPA as its documentation means it", Checked::Read)
            }
        };
        Upstream {
            program,
            version: "e3e10f9e (August 2026)",
            checked,
            left_out: "",
            knob: "target_per_replica",
            signals: "mean over pods of the last 180 s and 60 s, sampled every 10 s",
            blind_to: "queues, where the metric is KV use; how many pods a mean is of",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let aibrix = self.controller(context.min_replicas, context.max_replicas);
        let intervals_s = [self.scrape_interval_s, self.sync_interval_s];
        Some(Scraped::boxed(aibrix.observes(), self.observe_window_s, intervals_s, aibrix))
    }
}

impl AibrixKpaSettings {
    /// The controller; at least one replica unless a schedule says otherwise, since no pod's metric can wake
    /// a fleet from zero.
    pub fn controller(&self, min_replicas: u32, max_replicas: u32) -> Aibrix<Kpa> {
        let first = AibrixMetric { metric: self.metric, target_per_replica: self.target_per_replica };
        let intended = self.rule == AibrixKpaRule::AsIntended;
        let common = Common {
            metrics: std::iter::once(first).chain(self.also.iter().cloned()).collect(),
            observe_window_s: self.observe_window_s,
            panic_window_s: self.panic_window_s,
            scrape_interval_s: self.scrape_interval_s,
            sums: intended,
            max_scale_up_rate: self.max_scale_up_rate,
            cooldown_window_s: self.cooldown_window_s,
            cooldown: self.cooldown,
            schedules: self.schedules.clone(),
            pending_guard: self.pending_guard,
            predictive: self.predictive,
            min_replicas: min_replicas.max(1),
            max_replicas,
        };
        let Self {
            tolerance, panic_threshold, max_scale_up_rate, max_scale_down_rate, observe_window_s, ..
        } = *self;
        let knative = || {
            StablePanic::new(1.0, observe_window_s, panic_threshold, max_scale_up_rate, max_scale_down_rate)
        };
        Aibrix::new(
            common,
            Kpa {
                tolerance,
                panic_threshold,
                max_scale_up_rate,
                max_scale_down_rate,
                intended: intended.then(knative),
            },
        )
    }
}

/// The rule.
#[derive(Debug, Clone)]
pub struct Kpa {
    tolerance: PerDirection,
    panic_threshold: f64,
    max_scale_up_rate: f64,
    max_scale_down_rate: f64,
    /// In shares of the target, where Knative's rule holds.
    intended: Option<StablePanic>,
}

impl Kpa {
    fn panics(&self, stable: f64, panic: f64) -> bool {
        stable <= 0.0 || panic / stable > self.panic_threshold
    }
}

impl Strategy for Kpa {
    fn recommend(&mut self, now_s: f64, stable: f64, panic: f64, target: f64, current: u32) -> (u32, f64) {
        if let Some(knative) = &mut self.intended {
            return (knative.desired(now_s, stable / target, panic / target, current), panic);
        }
        let replicas = f64::from(current);
        let most = (self.max_scale_up_rate * replicas).ceil().max(1.0);
        let least = (replicas / self.max_scale_down_rate).floor();
        let wanted = |mean: f64| {
            let outside =
                mean > target * (1.0 + self.tolerance.up) || mean < target * (1.0 - self.tolerance.down);
            let wanted = if outside { (mean / target).ceil() } else { replicas };
            wanted.max(least).min(most) as u32
        };
        if self.panics(stable, panic) {
            (wanted(stable).max(wanted(panic)), panic)
        } else {
            (wanted(stable), stable)
        }
    }

    fn plain(&self, mean: f64, target: f64, _: u32) -> f64 {
        mean / target
    }

    fn guarded(&self, mean: f64, target: f64, current: u32, pending: u32, upwards: bool) -> f64 {
        let (replicas, pending) = (f64::from(current), f64::from(pending));
        let ready = replicas - pending;
        match (&self.intended, upwards) {
            // A mean a pod has its share of ready ones on the way up; a sum is over these alone already.
            (None, true) => mean * ready / replicas / target,
            (None, false) => (mean * ready + target * pending) / target,
            (Some(_), true) => mean / target,
            (Some(_), false) => (mean + target * pending) / target,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// So many pods with this value each.
    fn sync(settings: &AibrixKpaSettings, pods: usize, value: f64, pending: u32) -> u32 {
        let mut aibrix = settings.controller(1, 20);
        aibrix.record(0.0, 0, vec![value; pods]);
        aibrix.sync(0.0, pods as u32 + pending, pending)
    }

    /// The mean over pods is divided by the target, not the sum.
    #[test]
    fn as_implemented_a_mean_decides() {
        assert_eq!(sync(&AibrixKpaSettings::default(), 4, 0.9, 0), 2);
        let requests = |rule| AibrixKpaSettings {
            metric: LoadMetric::OutstandingRequests,
            target_per_replica: 10.0,
            rule,
            ..Default::default()
        };
        assert_eq!(
            sync(&requests(AibrixKpaRule::AsImplemented), 10, 15.0, 0),
            5,
            "ceil(1.5) is 2, no less than half of ten"
        );
        assert_eq!(sync(&requests(AibrixKpaRule::AsIntended), 10, 15.0, 0), 15);
        assert_eq!(sync(&AibrixKpaSettings::default(), 4, 0.52, 0), 4, "within the tolerance");
        assert_eq!(
            sync(&AibrixKpaSettings::default(), 8, 0.0, 0),
            4,
            "a panic of zero over zero keeps nothing"
        );
    }

    #[test]
    fn a_panic_is_forgotten_at_once() {
        let settings = AibrixKpaSettings {
            metric: LoadMetric::OutstandingRequests,
            target_per_replica: 10.0,
            panic_window_s: 10.0,
            ..Default::default()
        };
        let mut aibrix = settings.controller(1, 20);
        let mut desired = Vec::new();
        for (at_s, value) in [(0.0, 1.0), (10.0, 1.0), (20.0, 1.0), (30.0, 90.0), (40.0, 1.0), (60.0, 1.0)] {
            aibrix.record(at_s, 0, [value; 2]);
            desired.push(aibrix.sync(at_s, 2, 0));
        }
        assert_eq!(desired, [1, 1, 1, 3, 4, 2], "a panic of 45.5 over 18.8 at 40 s, and none at 60 s");
    }

    /// Hand-computed from `computePendingAdjustedReplicas`, target 10: the mean of the pods that are ready.
    #[test]
    fn pending_replicas_damp_where_asked() {
        let settings = AibrixKpaSettings {
            metric: LoadMetric::OutstandingRequests,
            target_per_replica: 10.0,
            pending_guard: true,
            ..Default::default()
        };
        assert_eq!(sync(&settings, 3, 90.0, 1), 7, "90 x 3/4 / 10 is 6.75, within 4 and 8");
        assert_eq!(sync(&settings, 1, 90.0, 3), 4, "90 x 1/4 / 10 is less than there are");
        assert_eq!(sync(&settings, 2, 1.0, 2), 3, "(1 x 2 + 10 x 2) / 10 is 2.2");
    }

    #[test]
    fn a_forecast_is_a_floor_where_asked() {
        let settings = |mode| AibrixKpaSettings {
            metric: LoadMetric::OutstandingRequests,
            target_per_replica: 10.0,
            observe_window_s: 60.0,
            predictive: Some(Predictive { mode, horizon_s: 100.0 }),
            ..Default::default()
        };
        for (mode, expected) in [(aibrix::PredictiveMode::Preview, 3), (aibrix::PredictiveMode::Auto, 5)] {
            let mut aibrix = settings(mode).controller(1, 20);
            (0..4).for_each(|i| aibrix.record(f64::from(i) * 10.0, 0, [18.0 + 2.0 * f64::from(i)]));
            // The mean is 21, the line grows by 0.2 a second: 41 in 100 s.
            assert_eq!(aibrix.sync(30.0, 4, 0), expected, "{mode:?}");
        }
    }
}
