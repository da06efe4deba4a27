//! Replicas in proportion to a metric: the arithmetic of the Kubernetes HPA.
//!
//! Metrics and targets are whole thousandths, as the API carries them, and a mean over pods is cut to a whole
//! one: three pods at 0.1, 0.2 and 0.3 of a target of 0.1 have the mean 0.2, a ratio of exactly 2, and want 6.
//!
//! Two releases are told apart, because their edges differ: 1.20 compares |1 - ratio| with the tolerance, 1.33
//! and later ask whether the ratio lies from 1 - tolerance to 1 + tolerance, which lets a ratio of 1.1 hold;
//! and these never turn a scale-up into fewer replicas than there are, or the reverse.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go`. Functions of 1.20.2
//! were run, those of 1.33 ported; `tests/given/upstream/hpa.rs` compares.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::PerDirection;

/// Whose edges the arithmetic and the damping have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum KubernetesVersion {
    /// Up to 1.32, as far as known.
    #[serde(rename = "1.20")]
    V1_20,
    /// 1.33 and later.
    #[default]
    #[serde(rename = "1.33")]
    V1_33,
}

/// A quantity in whole thousandths.
pub fn milli(value: f64) -> i64 {
    // Beyond this nothing is a metric, and sums over replicas stay far from the end of the type.
    (value * 1000.0).round().clamp(-1e15, 1e15) as i64
}

/// What a metric of each pod is known of.
#[derive(Debug, Clone, Copy)]
pub struct PodMetrics<'a> {
    /// Of the pods that have one.
    pub values_milli: &'a [i64],
    /// Pods that exist and do not run yet.
    pub pending: u32,
    /// Pods that run and have no metric.
    pub missing: u32,
}

/// One controller's way to count.
#[derive(Debug, Clone, Copy)]
pub struct Proportion {
    pub version: KubernetesVersion,
    pub tolerance: PerDirection,
}

/// To whole replicas, upwards.
fn ceil(replicas: f64) -> u32 {
    // More than any cluster has, should a metric explode; casts saturate.
    replicas.ceil() as u32
}

impl Proportion {
    /// Whether a ratio to the target is close enough to 1 to leave things as they are.
    pub fn holds(self, ratio: f64) -> bool {
        let PerDirection { up, down } = self.tolerance;
        match self.version {
            KubernetesVersion::V1_20 => (1.0 - ratio).abs() <= if ratio > 1.0 { up } else { down },
            KubernetesVersion::V1_33 => (1.0 - down..=1.0 + up).contains(&ratio),
        }
    }

    /// Replicas for a metric of each pod; `None` if no pod has one.
    pub fn by_pods(self, pods: PodMetrics, current: u32, target_milli: i64) -> Option<u32> {
        let PodMetrics { values_milli, pending, missing } = pods;
        let known = values_milli.len() as i64;
        if known == 0 {
            return None;
        }
        let sum: i64 = values_milli.iter().sum();
        let ratio_of = |sum: i64, pods: i64| (sum / pods) as f64 / target_milli as f64;
        let ratio = ratio_of(sum, known);
        let unready_matter = pending > 0 && ratio > 1.0;
        if !unready_matter && missing == 0 {
            return Some(if self.holds(ratio) { current } else { ceil(ratio * known as f64) });
        }
        let (mut filled, mut counted) = (sum, known);
        // On the way down a pod without a metric counts as at the target, on the way up as idle.
        if ratio < 1.0 {
            filled += target_milli * i64::from(missing);
            counted += i64::from(missing);
        } else if ratio > 1.0 || self.version == KubernetesVersion::V1_20 {
            counted += i64::from(missing);
        }
        if unready_matter {
            counted += i64::from(pending);
        }
        let rebalanced = ratio_of(filled, counted);
        let turned = (ratio < 1.0 && rebalanced > 1.0) || (ratio > 1.0 && rebalanced < 1.0);
        if turned || self.holds(rebalanced) {
            return Some(current);
        }
        let desired = ceil(rebalanced * counted as f64);
        let backwards = (rebalanced < 1.0 && desired > current) || (rebalanced > 1.0 && desired < current);
        Some(if backwards && self.version == KubernetesVersion::V1_33 { current } else { desired })
    }

    /// Replicas for a metric of the whole cluster and a target for each replica (`AverageValue`).
    pub fn by_average(self, total_milli: i64, current: u32, target_milli: i64) -> u32 {
        let ratio = total_milli as f64 / (target_milli as f64 * f64::from(current));
        if self.holds(ratio) { current } else { ceil(total_milli as f64 / target_milli as f64) }
    }

    /// Replicas for a metric of the whole cluster and a target for the cluster (`Value`).
    pub fn by_value(self, total_milli: i64, ready: u32, current: u32, target_milli: i64) -> u32 {
        let ratio = total_milli as f64 / target_milli as f64;
        if current == 0 {
            return ceil(ratio);
        }
        if self.holds(ratio) { current } else { ceil(ratio * f64::from(ready)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEW: Proportion =
        Proportion { version: KubernetesVersion::V1_33, tolerance: PerDirection::both(0.1) };
    const OLD: Proportion = Proportion { version: KubernetesVersion::V1_20, ..NEW };

    fn by_pods(
        rule: Proportion,
        values: &[f64],
        pending: u32,
        missing: u32,
        current: u32,
        target: f64,
    ) -> u32 {
        let values_milli: Vec<i64> = values.iter().copied().map(milli).collect();
        rule.by_pods(PodMetrics { values_milli: &values_milli, pending, missing }, current, milli(target))
            .unwrap()
    }

    /// The documentation: "if the current metric value is 200m, and the desired value is 100m, the number of
    /// replicas will be doubled, since 200.0 / 100.0 = 2.0. If the current value is instead 50m, you'll halve
    /// the number of replicas".
    #[test]
    fn documented_ratios() {
        let by_pods = |values: &[f64], current| by_pods(NEW, values, 0, 0, current, 100.0);
        assert_eq!(by_pods(&[200.0; 4], 4), 8);
        assert_eq!(by_pods(&[50.0; 4], 4), 2);
        assert_eq!(by_pods(&[110.0; 4], 4), 4, "within 10 %");
        assert_eq!(by_pods(&[111.0; 4], 4), 5);
        assert_eq!(by_pods(&[90.0; 4], 4), 4);
        assert_eq!(by_pods(&[89.0; 40], 40), 36);
    }

    /// Cases of the controller's own `replica_calculator_test.go`: pods missing metrics damp both ways,
    /// unready pods damp scaling up.
    #[test]
    fn missing_and_unready_pods_damp() {
        let by_pods =
            |values: &[f64], pending, missing, current| by_pods(NEW, values, pending, missing, current, 10.0);
        // Two at 2x the target and one unready: (40 + 0) / 3 pods is 1.33 of the target, so 4.
        assert_eq!(by_pods(&[20.0, 20.0], 1, 0, 3), 4);
        // Unready pods turn the ratio around: nothing.
        assert_eq!(by_pods(&[12.0], 2, 0, 3), 3);
        // Scaling up, a pod without metrics counts as 0: (20 + 0) / 2 is the target.
        assert_eq!(by_pods(&[20.0], 0, 1, 2), 2);
        // Scaling down, it counts as at the target: (2 + 2 + 10) / 3 is 0.47 of it, so ceil(1.4).
        assert_eq!(by_pods(&[2.0, 2.0], 0, 1, 3), 2);
        // Unready pods do not hinder scaling down, pods that run without metrics do.
        assert_eq!(by_pods(&[2.0, 2.0], 3, 0, 5), 1);
        assert_eq!(by_pods(&[2.0, 2.0], 0, 2, 4), 3);
        assert_eq!(NEW.by_pods(PodMetrics { values_milli: &[], pending: 0, missing: 2 }, 2, 10_000), None);
    }

    #[test]
    fn thousandths_are_whole() {
        assert_eq!(
            by_pods(NEW, &[0.1, 0.2, 0.3], 0, 0, 3, 0.1),
            6,
            "in floats the ratio is a hair above 2, and 7 are wanted"
        );
        // 1.001 on average is 1.0006.., cut to 1.000.
        assert_eq!(by_pods(NEW, &[1.0, 1.0, 1.002], 0, 0, 3, 0.5), 6);
    }

    #[test]
    fn releases_differ_at_the_edge() {
        assert_eq!((by_pods(OLD, &[11.0], 0, 0, 1, 10.0), by_pods(NEW, &[11.0], 0, 0, 1, 10.0)), (2, 1));
        assert!(OLD.holds(0.9) && NEW.holds(0.9) && !NEW.holds(0.899));
    }

    #[test]
    fn averages_over_the_cluster() {
        let by_average = |total, current| NEW.by_average(milli(total), current, 10_000);
        assert_eq!(by_average(43.0, 3), 5);
        assert_eq!(by_average(32.0, 3), 3);
        assert_eq!(by_average(0.0, 3), 0);
        assert_eq!(by_average(5.0, 0), 1, "from zero the ratio is infinite");
    }

    #[test]
    fn values_go_by_ready_pods() {
        let by_value = |total, ready, current| NEW.by_value(milli(total), ready, current, 2_000);
        assert_eq!(by_value(3.0, 4, 6), 6, "1.5 times the four that serve");
        assert_eq!(by_value(3.0, 6, 6), 9);
        assert_eq!(by_value(2.1, 6, 6), 6);
        assert_eq!(by_value(5.0, 0, 0), 3);
    }
}
