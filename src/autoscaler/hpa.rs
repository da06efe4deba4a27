//! The Kubernetes Horizontal Pod Autoscaler, `autoscaling/v2`.
//!
//! Rule, every sync, for each metric ([`proportional`](super::proportional)): ratio = mean over the pods that
//! have one / target; within the tolerance, nothing. Otherwise desired = ceil(ratio x pods), where running
//! pods without metrics count as at the target when scaling down and as 0 when scaling up, and pending pods
//! as 0 when scaling up; if that turns the ratio around, nothing. An external metric is compared as a whole:
//! per replica, desired = ceil(total / target), or against one value for the cluster. The largest of all
//! metrics wins. Then stabilisation and rates ([`behavior`](super::behavior)), which are others in a manifest
//! without `behavior`, the usual one.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `sync_interval_s` | 15 | `--horizontal-pod-autoscaler-sync-period` |
//! | `tolerance` | 0.1 each way | `--horizontal-pod-autoscaler-tolerance`; each way since 1.33 |
//! | `behavior` | none: 300 s and doubling | what most manifests leave out; `{}` has its defaults: up 0 s and max(4 pods, 100 %) in 15 s, down 300 s and 100 % in 15 s |
//! | `version` | `1.33` | `1.20` has other edges |
//! | `starting_pods` | `pending` | ours: a cold start of minutes is mostly a node and an image; `running` where it is mostly loading a model |
//! | `scrape_interval_s` | 15 | metrics-server's manifest: `--metric-resolution=15s` |
//! | `metric`, `target_per_replica` | outstanding requests, 10 | ours: Kubernetes has no default for servers of language models |
//!
//! With `min_replicas` 0 and an external metric it scales to zero and back, as since 1.37 by default (from
//! the announcement): from zero the tolerance does not apply, and the windows are the only delay. With
//! metrics of pods alone it keeps one.
//!
//! The first sync comes at time 0; CPU initialisation does not apply.
//!
//! Source: kubernetes/website `horizontal-pod-autoscale.md`; kubernetes/kubernetes `replica_calculator.go`
//! and `horizontal.go`. Checked: functions of 1.20.2 run, those of 1.33 ported; `tests/given/upstream/hpa.rs`
//! compares decisions tick by tick.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::BehaviorSettings;
use super::cadence::check_intervals;
use super::gauges;
use super::horizontal::{Horizontal, HpaLoop, MetricSource, MetricTarget, Metrics, StartingPods};
use super::proportional::KubernetesVersion;
use super::scraped::{Controller, Scraped, Seen};
use super::signals::LoadMetric;
use super::{Autoscaler, Checked, Decision, PolicyContext, PolicySettings, Upstream};
use crate::settings::{Faults, PerDirection};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HpaSettings {
    pub metric: LoadMetric,
    /// By default `pods` where each pod has the metric, and `external` where only the cluster has.
    pub source: Option<MetricSource>,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    /// Value of the metric of the whole cluster that is aimed at, instead of one per replica (an external
    /// metric's `Value`).
    pub target_value: Option<f64>,
    /// Further metrics; the largest proposal wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<MetricTarget>,
    pub sync_interval_s: f64,
    pub scrape_interval_s: f64,
    /// Window of `tokens_per_s` and `requests_per_s`.
    pub rate_window_s: f64,
    pub tolerance: PerDirection,
    /// The manifest's `behavior`; without it, as in most manifests, the older rules hold.
    pub behavior: Option<BehaviorSettings>,
    pub version: KubernetesVersion,
    pub starting_pods: StartingPods,
}

impl Default for HpaSettings {
    fn default() -> Self {
        let (target, own_loop) = (MetricTarget::default(), HpaLoop::default());
        Self {
            metric: target.metric,
            source: target.source,
            target_per_replica: target.target_per_replica,
            target_value: target.target_value,
            also: Vec::new(),
            sync_interval_s: own_loop.sync_interval_s,
            scrape_interval_s: 15.0,
            rate_window_s: 60.0,
            tolerance: own_loop.tolerance,
            behavior: own_loop.behavior,
            version: own_loop.version,
            starting_pods: StartingPods::default(),
        }
    }
}

impl HpaSettings {
    /// Every metric, the first one included.
    pub fn targets(&self) -> Vec<MetricTarget> {
        let Self { metric, source, target_per_replica, target_value, .. } = *self;
        std::iter::once(MetricTarget { metric, source, target_per_replica, target_value })
            .chain(self.also.iter().cloned())
            .collect()
    }

    pub fn own_loop(&self) -> HpaLoop {
        HpaLoop {
            sync_interval_s: self.sync_interval_s,
            tolerance: self.tolerance,
            behavior: self.behavior.clone(),
            version: self.version,
        }
    }
}

impl PolicySettings for HpaSettings {
    fn check(&self, faults: &mut Faults) {
        let targets = self.targets();
        targets[0].check(faults);
        for (i, target) in self.also.iter().enumerate() {
            faults.within(format!("also[{i}]"), |faults| target.check(faults));
        }
        check_intervals(
            faults,
            &[("scrape_interval_s", self.scrape_interval_s), ("sync_interval_s", self.sync_interval_s)],
        );
        faults.positive("rate_window_s", self.rate_window_s);
        self.own_loop().check(faults);
    }

    fn doubts(&self) -> Vec<String> {
        let targets = self.targets();
        if targets.iter().any(|target| target.target_value.is_some()) {
            return Vec::new();
        }
        let targets: Vec<_> =
            targets.iter().map(|target| (target.metric, target.target_per_replica)).collect();
        gauges::doubts(&targets, self.tolerance.up)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: match self.behavior {
                None => "Kubernetes HorizontalPodAutoscaler, a manifest without `behavior`",
                Some(_) => "Kubernetes HorizontalPodAutoscaler, a manifest with `behavior`",
            },
            version: match self.version {
                KubernetesVersion::V1_20 => "1.20.2",
                KubernetesVersion::V1_33 => "1.33",
            },
            checked: match self.version {
                KubernetesVersion::V1_20 => Checked::Run,
                KubernetesVersion::V1_33 => Checked::Ported,
            },
            left_out: "",
            knob: "target_per_replica",
            signals: "gauges of each pod, up to 15 s old",
            blind_to: "metrics it was not given; what a cold start will bring",
        }
    }

    fn reaches_zero(&self) -> bool {
        self.targets().iter().any(|target| target.source() == MetricSource::External)
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let metrics = Metrics::new(self.targets(), self.rate_window_s, self.starting_pods);
        // The API refuses zero without a metric that is there when no pod is.
        let least = context.min_replicas.max(u32::from(!metrics.any_external()));
        let horizontal = Horizontal::new(&self.own_loop(), least, context.max_replicas);
        let (observes, intervals_s) = (metrics.observes(), [self.scrape_interval_s, self.sync_interval_s]);
        Some(Scraped::boxed(
            observes,
            self.rate_window_s,
            intervals_s,
            Hpa { metrics, horizontal, total: 0.0 },
        ))
    }
}

#[derive(Debug)]
struct Hpa {
    metrics: Metrics,
    horizontal: Horizontal,
    /// The first metric, of the cluster.
    total: f64,
}

impl Controller<2> for Hpa {
    fn decide(&mut self, _: [bool; 2], seen: &Seen) -> Decision {
        let current = seen.snapshot.committed();
        self.total = self.metrics.targets[0].total(seen, self.metrics.rate_window_s);
        let proposals = self.metrics.proposals(self.horizontal.proportion, seen);
        Decision::towards(current, self.horizontal.sync(seen.now_s, current, proposals))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let proposed = self.horizontal.proposed.map(|replicas| ("proposed_replicas", f64::from(replicas)));
        std::iter::once(("metric_total", self.total)).chain(proposed).collect()
    }
}
