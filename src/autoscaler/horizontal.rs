//! The Kubernetes HPA as a part: several metrics, the largest proposal wins, then damping. `hpa` is it alone;
//! KEDA and the variant autoscaler have one carry their decisions out.
//!
//! A sync: above the most or below the least replicas, to the bound at once. Otherwise each metric proposes;
//! the largest counts; a metric that could not be read keeps the result from falling below what there is;
//! none at all leaves everything as it is.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/horizontal.go` (`reconcileAutoscaler`,
//! `computeReplicasForMetrics`: if some metrics are invalid and the others ask for fewer, an error and no
//! change).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Observes;
use super::behavior::{BehaviorSettings, Damping};
use super::proportional::{KubernetesVersion, PodMetrics, Proportion, milli};
use super::scraped::Seen;
use super::signals::LoadMetric;
use crate::settings::{Faults, PerDirection};

/// How a metric is read and aimed at.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct MetricTarget {
    pub metric: LoadMetric,
    /// By default `pods` where each pod has the metric, and `external` where only the cluster has.
    pub source: Option<MetricSource>,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    /// Value of the metric of the whole cluster that is aimed at, instead of one per replica (an external
    /// metric's `Value`).
    pub target_value: Option<f64>,
}

/// Where a metric comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MetricSource {
    /// One value a pod; the mean is compared with the target.
    Pods,
    /// One value of the whole cluster.
    External,
}

impl Default for MetricTarget {
    fn default() -> Self {
        Self { metric: LoadMetric::default(), source: None, target_per_replica: 10.0, target_value: None }
    }
}

/// What is less than a thousandth is nothing to Kubernetes.
pub fn check_milli(faults: &mut Faults, field: &str, value: f64) {
    faults.require(value.is_finite() && value >= 0.001, field, || {
        format!("{value} found, expected a finite number of at least 0.001: Kubernetes counts in thousandths")
    });
}

impl MetricTarget {
    pub fn check(&self, faults: &mut Faults) {
        check_milli(faults, "target_per_replica", self.target_per_replica);
        if let Some(value) = self.target_value {
            check_milli(faults, "target_value", value);
            faults.require(self.source() == MetricSource::External, "target_value", || {
                "found with a metric of pods, expected `\"source\": \"external\"` beside it: pods have a target each".into()
            });
        }
        faults.require(self.source() == MetricSource::External || self.metric.is_of_pods(), "source", || {
            format!(
                "\"pods\" found, expected \"external\": no pod knows `{}`, only the cluster does",
                self.metric.name()
            )
        });
    }

    pub fn source(&self) -> MetricSource {
        self.source.unwrap_or(if self.metric.is_of_pods() {
            MetricSource::Pods
        } else {
            MetricSource::External
        })
    }

    /// The metric of the whole cluster, where that is what is compared.
    pub fn total(&self, seen: &Seen, rate_window_s: f64) -> f64 {
        self.metric.total(seen.signals, rate_window_s)
    }
}

/// Which pods a start-up consists of, to the HPA.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum StartingPods {
    /// Running ones that load their model and have no metric yet: at the target when scaling down, idle when
    /// scaling up.
    Running,
    /// Pending ones that wait for a node or their image: idle when scaling up, and no part of scaling down.
    #[default]
    Pending,
}

/// The loop of an HPA that another program creates.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HpaLoop {
    pub sync_interval_s: f64,
    pub tolerance: PerDirection,
    /// The manifest's `behavior`; without it, as with most manifests, the older rules hold.
    pub behavior: Option<BehaviorSettings>,
    pub version: KubernetesVersion,
}

impl Default for HpaLoop {
    fn default() -> Self {
        Self {
            sync_interval_s: 15.0,
            tolerance: PerDirection::both(0.1),
            behavior: None,
            version: KubernetesVersion::default(),
        }
    }
}

impl HpaLoop {
    /// All but the interval, which is checked with others.
    pub fn check(&self, faults: &mut Faults) {
        faults.not_negative("tolerance", self.tolerance.up);
        faults.fraction("tolerance", self.tolerance.down);
        if let Some(behavior) = &self.behavior {
            faults.within("behavior", |faults| behavior.check(faults));
        }
    }
}

/// The controller and its memory.
#[derive(Debug, Clone)]
pub struct Horizontal {
    pub proportion: Proportion,
    damping: Damping,
    least: u32,
    most: u32,
    /// The largest proposal of the latest sync.
    pub proposed: Option<u32>,
}

impl Horizontal {
    /// With `least` 0 it goes to zero and comes back by itself, which takes a metric that is there without
    /// pods.
    pub fn new(settings: &HpaLoop, least: u32, most: u32) -> Self {
        Self {
            proportion: Proportion { version: settings.version, tolerance: settings.tolerance },
            damping: Damping::new(settings.behavior.as_ref(), settings.version),
            least,
            most,
            proposed: None,
        }
    }

    /// Replicas there should be from now on, given what each metric proposes; `None` for a metric that could
    /// not be read.
    pub fn sync(
        &mut self,
        now_s: f64,
        current: u32,
        proposals: impl IntoIterator<Item = Option<u32>>,
    ) -> u32 {
        self.damping.begin(now_s, current);
        self.proposed = None;
        if current == 0 && self.least > 0 {
            // Someone else has switched it off.
            return 0;
        }
        let after = if current > self.most {
            self.most
        } else if current < self.least {
            self.least
        } else {
            let mut failed = false;
            for proposal in proposals {
                failed |= proposal.is_none();
                self.proposed = self.proposed.max(proposal);
            }
            match self.proposed {
                None => current,
                Some(proposed) => {
                    let floor = if failed { current } else { 0 };
                    self.damping.damp(now_s, current, proposed.max(floor), self.least, self.most)
                }
            }
        };
        self.damping.changed(now_s, current, after);
        after
    }
}

/// What the metrics of one autoscaler propose.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub targets: Vec<MetricTarget>,
    pub rate_window_s: f64,
    pub starting_pods: StartingPods,
    values_milli: Vec<i64>,
}

impl Metrics {
    pub fn new(targets: Vec<MetricTarget>, rate_window_s: f64, starting_pods: StartingPods) -> Self {
        Self { targets, rate_window_s, starting_pods, values_milli: Vec::new() }
    }

    /// What has to be observed for them.
    pub fn observes(&self) -> Observes {
        self.targets.iter().fold(Observes::default(), |all, target| all.and(target.metric.observes()))
    }

    /// Whether a metric is there when no pod is: what waking from zero takes.
    pub fn any_external(&self) -> bool {
        self.targets.iter().any(|target| target.source() == MetricSource::External)
    }

    pub fn proposal(&mut self, index: usize, proportion: Proportion, seen: &Seen) -> Option<u32> {
        let (target, snapshot) = (&self.targets[index], seen.snapshot);
        let current = snapshot.committed();
        let target_milli = milli(target.target_per_replica);
        if target.source() == MetricSource::External {
            let total_milli = milli(target.total(seen, self.rate_window_s));
            return Some(match target.target_value {
                Some(value) => proportion.by_value(total_milli, snapshot.serving, current, milli(value)),
                None => proportion.by_average(total_milli, current, target_milli),
            });
        }
        self.values_milli.clear();
        let mut missing = 0;
        for replica in snapshot.replicas.iter().filter(|replica| !replica.draining) {
            match seen.signals.replica(replica.id).and_then(|gauges| target.metric.of_replica(gauges)) {
                Some(value) => self.values_milli.push(milli(value)),
                None => missing += 1,
            }
        }
        let pending = match self.starting_pods {
            StartingPods::Pending => snapshot.starting,
            StartingPods::Running => {
                missing += snapshot.starting;
                0
            }
        };
        proportion.by_pods(
            PodMetrics { values_milli: &self.values_milli, pending, missing },
            current,
            target_milli,
        )
    }

    /// One proposal a metric.
    pub fn proposals(&mut self, proportion: Proportion, seen: &Seen) -> Vec<Option<u32>> {
        (0..self.targets.len()).map(|index| self.proposal(index, proportion, seen)).collect()
    }
}
