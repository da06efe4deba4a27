//! AIBrix's variant of Knative's KPA: slower windows, doubling and halving at most, cooldown windows, any metric.
//!
//! Rule: [`stable_panic`](super::stable_panic) on the metric summed over the pods and averaged over `observe_window_s` and
//! `panic_window_s`, then the cooldown windows as in [`aibrix_apa`](super::aibrix_apa). While replicas are pending they count as 0 when
//! scaling up and as at the target when scaling down.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | KV use, 0.5 | the documentation's example |
//! | `observe_window_s`, `panic_window_s`, `panic_threshold` | 180, 60, 2 | `metric-based-autoscaling.rst` |
//! | `max_scale_up_rate`, `max_scale_down_rate` | 2, 2 | the same |
//! | `cooldown_window_s`, `cooldown` | up 0, down 300; as implemented | the same, `podautoscaler_controller.go` |
//! | `sync_interval_s` | 10 | `podautoscaler_controller.go` (from memory) |
//!
//! Source: vllm-project/aibrix `algorithm/kpa.go`, `metrics/client.go` (sums over pods), `autoscaler.go`. The documentation lists
//! tolerances for it too; the rule read there does not use them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aibrix_apa::AibrixCooldown;
use super::behavior::Recommendations;
use super::cadence::{Cadence, check_intervals};
use super::signals::{LoadMetric, Signals};
use super::stable_panic::StablePanic;
use super::window::Window;
use super::{Autoscaler, BatchEnd, Decision, Observes, PolicyContext, PolicySettings, Snapshot};
use crate::settings::{Faults, PerDirection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AibrixKpaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    pub observe_window_s: f64,
    pub panic_window_s: f64,
    /// Panic count over ready replicas at which a panic begins.
    pub panic_threshold: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub cooldown_window_s: PerDirection,
    pub cooldown: AibrixCooldown,
}

impl Default for AibrixKpaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::KvUse,
            target_per_replica: 0.5,
            sync_interval_s: 10.0,
            scrape_interval_s: 10.0,
            observe_window_s: 180.0,
            panic_window_s: 60.0,
            panic_threshold: 2.0,
            max_scale_up_rate: 2.0,
            max_scale_down_rate: 2.0,
            cooldown_window_s: PerDirection { up: 0.0, down: 300.0 },
            cooldown: AibrixCooldown::default(),
        }
    }
}

impl PolicySettings for AibrixKpaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)]);
        faults.positive("observe_window_s", self.observe_window_s);
        faults.positive("panic_window_s", self.panic_window_s);
        faults.require(self.panic_window_s <= self.observe_window_s, "panic_window_s", || {
            format!("{} found, expected at most `observe_window_s` ({})", self.panic_window_s, self.observe_window_s)
        });
        for (field, rate) in [
            ("panic_threshold", self.panic_threshold),
            ("max_scale_up_rate", self.max_scale_up_rate),
            ("max_scale_down_rate", self.max_scale_down_rate),
        ] {
            faults.require(rate >= 1.0 && rate.is_finite(), field, || format!("{rate} found, expected a number of at least 1"));
        }
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.up);
        faults.not_negative("cooldown_window_s", self.cooldown_window_s.down);
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let (up, down) = (self.max_scale_up_rate, self.max_scale_down_rate);
        Some(Box::new(AibrixKpa {
            rule: StablePanic::new(self.target_per_replica, self.observe_window_s, self.panic_threshold, up, down),
            min_replicas: context.min_replicas.max(1),
            max_replicas: context.max_replicas,
            cadence: Cadence::new([self.scrape_interval_s, self.sync_interval_s]),
            signals: Signals::new(self.observe_window_s),
            observed: Window::new(self.observe_window_s),
            past: Recommendations::new(self.cooldown_window_s.up.max(self.cooldown_window_s.down)),
            settings: self.clone(),
        }))
    }
}

#[derive(Debug)]
struct AibrixKpa {
    settings: AibrixKpaSettings,
    rule: StablePanic,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<2>,
    signals: Signals,
    observed: Window,
    past: Recommendations,
}

/// What pending replicas leave of a change of replicas for a `total` of the metric.
fn guard(total: f64, target: f64, current: u32, pending: u32, desired: u32) -> u32 {
    if pending == 0 {
        return desired;
    }
    let (replicas, ready) = (f64::from(current), f64::from(current.saturating_sub(pending)));
    if desired > current {
        ((total * ready / replicas / target).ceil() as u32).clamp(current, desired)
    } else {
        ((total * ready + target * (replicas - ready)) / target).ceil().clamp(f64::from(desired), replicas) as u32
    }
}

impl Autoscaler for AibrixKpa {
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
            self.observed.push(now_s, settings.metric.total(&self.signals, settings.scrape_interval_s));
        }
        let current = snapshot.committed();
        if !sync || current == 0 {
            return Decision::Hold;
        }
        let (stable, panic) = (self.observed.mean(), self.observed.mean_since(now_s - settings.panic_window_s));
        let desired = self.rule.desired(now_s, stable, panic, current).clamp(self.min_replicas, self.max_replicas);
        let guarded = guard(panic, settings.target_per_replica, current, snapshot.starting, desired);
        let stabilized = settings.cooldown.stabilize(&mut self.past, settings.cooldown_window_s, now_s, current, guarded);
        Decision::towards(current, stabilized)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let panicking = f64::from(u8::from(self.rule.panicking()));
        vec![("stable_value", self.observed.mean()), ("panicking", panicking)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-computed from `computePendingAdjustedReplicas`, target 10.
    #[test]
    fn pending_replicas_damp() {
        assert_eq!(guard(90.0, 10.0, 4, 0, 8), 8);
        assert_eq!(guard(90.0, 10.0, 4, 1, 8), 7, "90 x 3/4 / 10 is 6.75");
        assert_eq!(guard(90.0, 10.0, 4, 3, 8), 4, "90 x 1/4 / 10 is less than there are");
        assert_eq!(guard(1.0, 10.0, 4, 2, 2), 3, "(1 x 2 + 10 x 2) / 10 is 2.2");
    }
}
