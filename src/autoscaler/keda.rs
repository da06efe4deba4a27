//! KEDA: zero to one by activity, one to many by the Kubernetes HPA it creates.
//!
//! Rule: every `polling_interval_s` the trigger is active if the metric exceeds `activation_threshold`. Active and at zero: one replica
//! at once. Inactive for `cooldown_period_s` since it was last active: zero, however many there are. In between the HPA scales on the
//! metric as an external one with an average value: desired = ceil(total / `threshold_per_replica`) outside the tolerance of 0.1, down
//! window 300 s, read afresh at each sync of 15 s.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `polling_interval_s`, `cooldown_period_s` | 30, 300 | keda-docs 2.14 `scaledobject-spec.md` |
//! | `activation_threshold` | 0 | keda-docs, concepts: activating and scaling thresholds |
//! | HPA | sync 15 s, tolerance 0.1, behaviour of [`hpa`](super::hpa) | Kubernetes |
//! | `metric`, `threshold_per_replica` | outstanding requests, 10 | ours: every KEDA trigger names its own |
//!
//! Scaling to zero needs `min_replicas` 0 in the cluster (KEDA's default `minReplicaCount`); with 1 this is the HPA on a metric of the
//! whole cluster.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, ScalingRules};
use super::cadence::{Cadence, check_intervals};
use super::proportional::desired_by_average;
use super::signals::{LoadMetric, Signals};
use super::{Autoscaler, BatchEnd, Decision, Observes, PolicyContext, PolicySettings, Snapshot};
use crate::settings::{Faults, PerDirection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KedaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub threshold_per_replica: f64,
    /// The cluster's total above which the trigger is active, in the metric's unit.
    pub activation_threshold: f64,
    pub polling_interval_s: f64,
    /// From the last activity to zero replicas.
    pub cooldown_period_s: f64,
    pub sync_interval_s: f64,
    /// Window of `tokens_per_s`.
    pub rate_window_s: f64,
    pub tolerance: PerDirection,
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
}

impl Default for KedaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::OutstandingRequests,
            threshold_per_replica: 10.0,
            activation_threshold: 0.0,
            polling_interval_s: 30.0,
            cooldown_period_s: 300.0,
            sync_interval_s: 15.0,
            rate_window_s: 60.0,
            tolerance: PerDirection::both(0.1),
            scale_up: ScalingRules::default(),
            scale_down: ScalingRules::default(),
        }
    }
}

impl PolicySettings for KedaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("threshold_per_replica", self.threshold_per_replica);
        faults.not_negative("activation_threshold", self.activation_threshold);
        check_intervals(faults, &[("polling_interval_s", self.polling_interval_s), ("sync_interval_s", self.sync_interval_s)]);
        faults.not_negative("cooldown_period_s", self.cooldown_period_s);
        faults.positive("rate_window_s", self.rate_window_s);
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        faults.within("scale_up", |faults| self.scale_up.check(faults));
        faults.within("scale_down", |faults| self.scale_down.check(faults));
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Keda {
            settings: self.clone(),
            min_replicas: context.min_replicas,
            max_replicas: context.max_replicas,
            cadence: Cadence::new([self.polling_interval_s, self.sync_interval_s]),
            signals: Signals::new(self.rate_window_s),
            behavior: Behavior::new(&self.scale_up, &self.scale_down),
            last_active_s: 0.0,
            total: 0.0,
        }))
    }
}

#[derive(Debug)]
struct Keda {
    settings: KedaSettings,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<2>,
    signals: Signals,
    behavior: Behavior,
    last_active_s: f64,
    total: f64,
}

impl Autoscaler for Keda {
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
        let [poll, sync] = self.cadence.tick();
        let (settings, current) = (&self.settings, snapshot.committed());
        if !poll && !sync {
            return Decision::Hold;
        }
        // KEDA's metrics server asks the trigger whenever it is asked: nothing is held back here.
        self.signals.scrape(now_s, snapshot);
        self.total = settings.metric.total(&self.signals, settings.rate_window_s);
        if poll {
            if self.total > settings.activation_threshold {
                self.last_active_s = now_s;
                if current == 0 {
                    return Decision::Up(self.min_replicas.max(1));
                }
            } else if self.min_replicas == 0 && now_s - self.last_active_s >= settings.cooldown_period_s {
                return Decision::towards(current, 0);
            }
        }
        if !sync || current == 0 {
            return Decision::Hold;
        }
        let desired = desired_by_average(self.total, current, settings.threshold_per_replica, settings.tolerance);
        let desired = desired.clamp(self.min_replicas.max(1), self.max_replicas);
        Decision::towards(current, self.behavior.damp(now_s, current, desired))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("metric_total", self.total), ("last_active_s", self.last_active_s)]
    }
}
