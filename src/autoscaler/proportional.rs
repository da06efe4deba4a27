//! Replicas in proportion to a metric: the arithmetic of the Kubernetes HPA.
//!
//! Source: kubernetes/kubernetes `pkg/controller/podautoscaler/replica_calculator.go`.

use crate::settings::PerDirection;

/// Whether a ratio to the target is close enough to 1 to leave things as they are.
pub fn within_tolerance(ratio: f64, tolerance: PerDirection) -> bool {
    (1.0 - tolerance.down..=1.0 + tolerance.up).contains(&ratio)
}

/// Replicas for a metric given pod by pod: `None` for a pod without metrics. `unready` pods exist and do not serve yet.
pub fn desired_by_pods(metrics: &[Option<f64>], unready: u32, current: u32, target: f64, tolerance: PerDirection) -> u32 {
    let known = metrics.iter().flatten().count();
    if known == 0 {
        return current;
    }
    let sum: f64 = metrics.iter().flatten().sum();
    let missing = metrics.len() - known;
    let ratio = sum / known as f64 / target;
    let rebalance = unready > 0 && ratio > 1.0;
    if !rebalance && missing == 0 {
        return if within_tolerance(ratio, tolerance) { current } else { (ratio * known as f64).ceil() as u32 };
    }
    let mut pods = known + missing;
    let mut filled = sum;
    if ratio < 1.0 {
        filled += target * missing as f64;
    }
    if rebalance {
        pods += unready as usize;
    }
    let rebalanced = filled / pods as f64 / target;
    let turned = (ratio < 1.0 && rebalanced > 1.0) || (ratio > 1.0 && rebalanced < 1.0);
    let desired = (rebalanced * pods as f64).ceil() as u32;
    let wrong_way = (rebalanced < 1.0 && desired > current) || (rebalanced > 1.0 && desired < current);
    if turned || wrong_way || within_tolerance(rebalanced, tolerance) { current } else { desired }
}

/// Replicas for a metric of the whole cluster and a target per replica.
pub fn desired_by_average(total: f64, current: u32, target: f64, tolerance: PerDirection) -> u32 {
    let ratio = total / (target * f64::from(current));
    if within_tolerance(ratio, tolerance) { current } else { (total / target).ceil() as u32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TENTH: PerDirection = PerDirection::both(0.1);

    fn pods(values: &[f64]) -> Vec<Option<f64>> {
        values.iter().copied().map(Some).collect()
    }

    /// The documentation: "if the current metric value is 200m, and the desired value is 100m, the number of replicas will be doubled,
    /// since 200.0 / 100.0 = 2.0. If the current value is instead 50m, you'll halve the number of replicas".
    #[test]
    fn documented_ratios() {
        assert_eq!(desired_by_pods(&pods(&[200.0; 4]), 0, 4, 100.0, TENTH), 8);
        assert_eq!(desired_by_pods(&pods(&[50.0; 4]), 0, 4, 100.0, TENTH), 2);
        assert_eq!(desired_by_pods(&pods(&[110.0; 4]), 0, 4, 100.0, TENTH), 4, "within 10 %");
        assert_eq!(desired_by_pods(&pods(&[111.0; 4]), 0, 4, 100.0, TENTH), 5);
        assert_eq!(desired_by_pods(&pods(&[90.0; 4]), 0, 4, 100.0, TENTH), 4);
        assert_eq!(desired_by_pods(&pods(&[89.0; 40]), 0, 40, 100.0, TENTH), 36);
    }

    /// Cases of the controller's own `replica_calculator_test.go`: pods missing metrics damp both ways, unready pods damp scaling up.
    #[test]
    fn missing_and_unready_pods_damp() {
        // Two at 2x the target and one unready: (40 + 0) / 3 pods is 1.33 of the target, so 4.
        assert_eq!(desired_by_pods(&pods(&[20.0, 20.0]), 1, 3, 10.0, TENTH), 4);
        // Unready pods turn the ratio around: nothing.
        assert_eq!(desired_by_pods(&pods(&[12.0]), 2, 3, 10.0, TENTH), 3);
        // Scaling up, a pod without metrics counts as 0: (20 + 0) / 2 is the target.
        assert_eq!(desired_by_pods(&[Some(20.0), None], 0, 2, 10.0, TENTH), 2);
        // Scaling down, it counts as at the target: (2 + 2 + 10) / 3 is 0.47 of it, so ceil(1.4).
        assert_eq!(desired_by_pods(&[Some(2.0), Some(2.0), None], 0, 3, 10.0, TENTH), 2);
        // Unready pods do not hinder scaling down.
        assert_eq!(desired_by_pods(&pods(&[2.0, 2.0]), 3, 5, 10.0, TENTH), 1);
        assert_eq!(desired_by_pods(&[None, None], 0, 2, 10.0, TENTH), 2);
    }

    #[test]
    fn averages_over_the_cluster() {
        assert_eq!(desired_by_average(43.0, 3, 10.0, TENTH), 5);
        assert_eq!(desired_by_average(32.0, 3, 10.0, TENTH), 3);
        assert_eq!(desired_by_average(0.0, 3, 10.0, TENTH), 0);
        assert_eq!(desired_by_average(5.0, 0, 10.0, TENTH), 1, "from zero the ratio is infinite");
    }
}
