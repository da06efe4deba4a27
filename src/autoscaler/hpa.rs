//! The Kubernetes Horizontal Pod Autoscaler, `autoscaling/v2`, with a metric per pod.
//!
//! Rule, every sync: ratio = mean metric of the pods that have one / target; within the tolerance, nothing. Otherwise
//! desired = ceil(ratio x pods), where pods without metrics count as at the target when scaling down and as 0 when scaling up, and pods
//! that are not ready yet as 0 when scaling up; if that turns the ratio around, nothing. Then stabilisation windows and rate policies
//! ([`behavior`](super::behavior)). A metric of the whole cluster (`tokens_per_s`) is an external one with an average value:
//! desired = ceil(total / target) outside the tolerance.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `sync_interval_s` | 15 | `--horizontal-pod-autoscaler-sync-period` |
//! | `tolerance` | 0.1 each way | `--horizontal-pod-autoscaler-tolerance`; each way since 1.33 |
//! | `scale_up`, `scale_down` | 0 s, max(4 pods, 100 %) in 15 s; 300 s, 100 % in 15 s | `behavior` |
//! | `scrape_interval_s` | 15 | metrics-server `--metric-resolution` (from memory) |
//! | `metric`, `target_per_replica` | outstanding requests, 10 | ours: Kubernetes has no default for servers of language models |
//!
//! Source: kubernetes/website `horizontal-pod-autoscale.md`; kubernetes/kubernetes `replica_calculator.go` (`calcPlainMetricReplicas`,
//! `GetExternalPerPodMetricReplicas`) and `horizontal.go`. The first sync comes at time 0; CPU initialisation does not apply, and a
//! replica is ready as soon as it serves. One that starts counts as a pending pod (unready), not as one that runs without metrics (missing):
//! the second would damp scaling down as well. The HPA does not scale to zero or from it.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::{Behavior, ScalingRules};
use super::cadence::{Cadence, check_intervals};
use super::proportional::{desired_by_average, desired_by_pods};
use super::signals::{LoadMetric, Signals};
use super::{Autoscaler, BatchEnd, Decision, Observes, PolicyContext, PolicySettings, Snapshot};
use crate::settings::{Faults, PerDirection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HpaSettings {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    /// Window of `tokens_per_s`.
    pub rate_window_s: f64,
    pub tolerance: PerDirection,
    pub scale_up: ScalingRules,
    pub scale_down: ScalingRules,
}

impl Default for HpaSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::OutstandingRequests,
            target_per_replica: 10.0,
            sync_interval_s: 15.0,
            scrape_interval_s: 15.0,
            rate_window_s: 60.0,
            tolerance: PerDirection::both(0.1),
            scale_up: ScalingRules::default(),
            scale_down: ScalingRules::default(),
        }
    }
}

impl PolicySettings for HpaSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)]);
        faults.positive("rate_window_s", self.rate_window_s);
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        faults.within("scale_up", |faults| self.scale_up.check(faults));
        faults.within("scale_down", |faults| self.scale_down.check(faults));
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Hpa {
            settings: self.clone(),
            min_replicas: context.min_replicas.max(1),
            max_replicas: context.max_replicas,
            cadence: Cadence::new([self.scrape_interval_s, self.sync_interval_s]),
            signals: Signals::new(self.rate_window_s),
            behavior: Behavior::new(&self.scale_up, &self.scale_down),
            mean_metric: 0.0,
            desired: 0,
        }))
    }
}

#[derive(Debug)]
struct Hpa {
    settings: HpaSettings,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<2>,
    signals: Signals,
    behavior: Behavior,
    mean_metric: f64,
    desired: u32,
}

impl Hpa {
    fn recommend(&mut self, snapshot: &Snapshot) -> u32 {
        let (settings, current) = (&self.settings, snapshot.committed());
        let total = settings.metric.total(&self.signals, settings.rate_window_s);
        self.mean_metric = total / f64::from(snapshot.serving.max(1));
        if settings.metric == LoadMetric::TokensPerS {
            return desired_by_average(total, current, settings.target_per_replica, settings.tolerance);
        }
        let serving = snapshot.replicas.iter().filter(|replica| !replica.draining);
        let metrics: Vec<Option<f64>> =
            serving.map(|replica| self.signals.replica(replica.id).and_then(|gauges| settings.metric.of_replica(gauges))).collect();
        desired_by_pods(&metrics, snapshot.starting, current, settings.target_per_replica, settings.tolerance)
    }
}

impl Autoscaler for Hpa {
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
        if scrape {
            self.signals.scrape(now_s, snapshot);
        }
        let current = snapshot.committed();
        if !sync || current == 0 {
            return Decision::Hold;
        }
        self.desired = self.recommend(snapshot);
        let damped = self.behavior.damp(now_s, current, self.desired.clamp(self.min_replicas, self.max_replicas));
        Decision::towards(current, damped)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("metric_per_replica", self.mean_metric), ("desired_replicas", f64::from(self.desired))]
    }
}
