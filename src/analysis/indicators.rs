//! How far a set of points is from another, what each point is worth, and what several sets attain.
//!
//! Coordinates are divided by those of a reference point first, so that seconds and dollars weigh alike and
//! every figure is a fraction of the reference box. `tests/data/moocore.json` holds what an independent
//! implementation says of the same sets.

use super::front::{Point, hv_exact, non_dominated};
use crate::sweep::objectives::Reference;

/// Percentages of seeds whose attainment is drawn and stored.
pub const ATTAINMENT_PERCENT: [u32; 3] = [10, 50, 90];

/// What the hypervolume of `points` would lose without each of them: `HV(X) - HV(X without x)`.
///
/// Zero for dominated points, for each of several equal points, and outside the box.
pub fn contributions(points: &[Point], reference: Reference) -> Vec<f64> {
    let whole = hv_exact(points, reference);
    let without = |i: usize| [&points[..i], &points[i + 1..]].concat();
    (0..points.len()).map(|i| (whole - hv_exact(&without(i), reference)).max(0.0)).collect()
}

/// IGD+ (Ishibuchi et al., EMO 2015): the mean over `target` of the distance to the nearest of `points`,
/// counting only the coordinates in which that is worse. 0 when every point of the target is reached,
/// infinite without points, None without a target.
pub fn igd_plus(points: &[Point], target: &[Point], reference: Reference) -> Option<f64> {
    let nearest = |goal: &Point| {
        smallest(
            points
                .iter()
                .map(|point| excess(*point, *goal, reference))
                .map(|(l, c)| libm::hypot(l.max(0.0), c.max(0.0))),
        )
    };
    (!target.is_empty()).then(|| target.iter().map(nearest).sum::<f64>() / target.len() as f64)
}

/// Additive epsilon (Zitzler et al., 2003): the least shift of all `points`, in both coordinates at once,
/// after which some of them is at least as good as each of `target`. Negative when `points` are better
/// throughout, infinite without points, None without a target.
pub fn additive_epsilon(points: &[Point], target: &[Point], reference: Reference) -> Option<f64> {
    let nearest = |goal: &Point| {
        smallest(points.iter().map(|point| excess(*point, *goal, reference)).map(|(l, c)| l.max(c)))
    };
    target.iter().map(nearest).max_by(f64::total_cmp)
}

fn excess(point: Point, goal: Point, reference: Reference) -> (f64, f64) {
    ((point.latency - goal.latency) / reference.latency, (point.cost - goal.cost) / reference.cost)
}

fn smallest(values: impl Iterator<Item = f64>) -> f64 {
    values.fold(f64::INFINITY, f64::min)
}

/// The border of what at least `percent` % of `sets` attain, by rising cost: empirical attainment (Grunert da
/// Fonseca et al., EMO 2001).
///
/// A set attains a goal when one of its points is at least as good in both coordinates. Of n sets,
/// ceil(percent * n / 100) count, at least one.
pub fn attainment(sets: &[Vec<Point>], percent: u32) -> Vec<Point> {
    let needed = (percent as usize * sets.len()).div_ceil(100).max(1);
    let mut costs = sets.iter().flatten().map(|point| point.cost).collect::<Vec<_>>();
    costs.sort_by(f64::total_cmp);
    costs.dedup();
    // At each cost, the latency that the needed number of sets reach for no more.
    let border = costs.into_iter().filter_map(|cost| {
        let affordable = |set: &Vec<Point>| {
            smallest(set.iter().filter(|point| point.cost <= cost).map(|point| point.latency))
        };
        let mut latencies = sets.iter().map(affordable).collect::<Vec<_>>();
        latencies.sort_by(f64::total_cmp);
        let latency = *latencies.get(needed - 1)?;
        latency.is_finite().then_some(Point { latency, cost })
    });
    let border = border.collect::<Vec<_>>();
    non_dominated(&border).into_iter().map(|i| border[i]).collect()
}

/// The two ways to read a pair of fronts against each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// What does the same latency cost?
    EqualLatency,
    /// How fast is it for the same money?
    EqualCost,
}

/// The mean logarithm of `candidate` over `baseline` in cost at equal latency, or in latency at equal cost.
///
/// Nothing is interpolated between runs, since no setting is known to lie there: at a latency l a front costs
/// what its cheapest run with at most l costs. The mean is over the latencies (uniformly) from the first that
/// both fronts reach to the last at which a run of either adds something; where the two coincide, at that
/// one. Likewise with the coordinates exchanged.
///
/// None when a front is empty, or a value is not positive.
pub fn mean_log_ratio(baseline: &[Point], candidate: &[Point], at: At) -> Option<f64> {
    let swapped = |point: &Point| Point { latency: point.cost, cost: point.latency };
    let front = |points: &[Point]| {
        let points = if at == At::EqualCost { points.iter().map(swapped).collect() } else { points.to_vec() };
        non_dominated(&points).into_iter().rev().map(|i| points[i]).collect::<Vec<_>>()
    };
    // By rising latency, so by falling cost.
    let fronts = [front(baseline), front(candidate)];
    let ends =
        |of: fn(&Vec<Point>) -> Option<&Point>| Some([of(&fronts[0])?.latency, of(&fronts[1])?.latency]);
    let (first, last) = (ends(|front| front.first())?, ends(|front| front.last())?);
    let (from, to) = (first[0].max(first[1]), last[0].max(last[1]));
    if fronts.iter().flatten().any(|point| point.cost <= 0.0) {
        return None;
    }
    let cost = |front: &[Point], latency: f64| {
        smallest(front.iter().filter(|point| point.latency <= latency).map(|point| point.cost))
    };
    let ratio = |latency: f64| libm::log(cost(&fronts[1], latency) / cost(&fronts[0], latency));
    let mut cuts = fronts
        .iter()
        .flatten()
        .map(|point| point.latency)
        .filter(|latency| (from..=to).contains(latency))
        .collect::<Vec<_>>();
    cuts.sort_by(f64::total_cmp);
    if to <= from {
        return Some(ratio(from));
    }
    // Both fronts are constant between two neighbouring cuts.
    Some(cuts.windows(2).map(|cut| ratio(cut[0]) * (cut[1] - cut[0])).sum::<f64>() / (to - from))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    const UNIT: Reference = Reference { latency: 1.0, cost: 1.0 };

    fn points(list: &Value) -> Vec<Point> {
        let point =
            |pair: &Value| Point { latency: pair[0].as_f64().unwrap(), cost: pair[1].as_f64().unwrap() };
        list.as_array().unwrap().iter().map(point).collect()
    }

    fn close(a: f64, b: f64) -> bool {
        (a - b).abs() <= 1e-9 * b.abs().max(1.0)
    }

    #[test]
    fn an_independent_implementation_agrees() {
        let file: Value = serde_json::from_str(include_str!("../../tests/data/moocore.json")).unwrap();
        let cases = file["cases"].as_array().unwrap();
        assert_eq!(cases.len(), 300);
        for (number, case) in cases.iter().enumerate() {
            let (found, target) = (points(&case["points"]), points(&case["target"]));
            let [latency, cost] = [0, 1].map(|i| case["reference"][i].as_f64().unwrap());
            let reference = Reference { latency, cost };
            let expected = |name: &str| case[name].as_f64().unwrap();

            let mut front = non_dominated(&found);
            front.sort_unstable();
            assert_eq!(serde_json::json!(front), case["front"], "case {number}");
            assert!(
                close(hv_exact(&found, reference) * latency * cost, expected("hypervolume")),
                "case {number}"
            );
            let shares = contributions(&found, reference);
            assert_eq!(shares.len(), case["contributions"].as_array().unwrap().len());
            for (i, share) in shares.iter().enumerate() {
                assert!(
                    close(share * latency * cost, case["contributions"][i].as_f64().unwrap()),
                    "case {number}, point {i}"
                );
            }
            assert!(close(igd_plus(&found, &target, UNIT).unwrap(), expected("igd_plus")), "case {number}");
            assert!(
                close(additive_epsilon(&found, &target, UNIT).unwrap(), expected("additive_epsilon")),
                "case {number}"
            );

            let runs = case["runs"]
                .as_array()
                .unwrap()
                .iter()
                .map(|run| run.as_u64().unwrap() as usize)
                .collect::<Vec<_>>();
            let mut sets = vec![Vec::new(); runs.last().unwrap() + 1];
            found.iter().zip(&runs).for_each(|(point, &run)| sets[run].push(*point));
            for percent in [10, 50, 90] {
                let rows =
                    case["attainment"].as_array().unwrap().iter().filter(|row| row[2] == f64::from(percent));
                let mut border = points(&Value::Array(rows.cloned().collect()));
                border.sort_by(|a, b| a.cost.total_cmp(&b.cost));
                assert_eq!(attainment(&sets, percent), border, "case {number}, {percent} %");
            }
        }
    }

    #[test]
    fn nothing_is_infinitely_far() {
        let goal = [Point { latency: 1.0, cost: 1.0 }];
        assert_eq!(
            (igd_plus(&[], &goal, UNIT), additive_epsilon(&[], &goal, UNIT)),
            (Some(f64::INFINITY), Some(f64::INFINITY))
        );
        assert_eq!((igd_plus(&goal, &[], UNIT), additive_epsilon(&goal, &[], UNIT)), (None, None));
        assert_eq!(attainment(&[], 50), []);
    }

    fn front(pairs: &[(f64, f64)]) -> Vec<Point> {
        pairs.iter().map(|&(latency, cost)| Point { latency, cost }).collect()
    }

    #[test]
    fn cost_at_equal_latency_by_hand() {
        let baseline = front(&[(0.1, 40.0), (0.3, 20.0)]);
        // From 0.2, which both reach, to 0.3: the baseline costs 40, the candidate 20.
        let candidate = front(&[(0.2, 20.0)]);
        let ratio = |at| libm::exp(mean_log_ratio(&baseline, &candidate, at).unwrap());
        assert!((ratio(At::EqualLatency) - 0.5).abs() < 1e-12);
        // From 20 to 40 dollars: 0.3 s against 0.2 s.
        assert!((ratio(At::EqualCost) - 2.0 / 3.0).abs() < 1e-12);
        // Two single points share one latency only: the slower one's.
        let dearer = libm::exp(
            mean_log_ratio(&front(&[(0.1, 20.0)]), &front(&[(0.4, 30.0)]), At::EqualLatency).unwrap(),
        );
        assert!((dearer - 1.5).abs() < 1e-12);
        assert_eq!(mean_log_ratio(&baseline, &[], At::EqualCost), None);
        assert_eq!(mean_log_ratio(&baseline, &front(&[(0.2, 0.0)]), At::EqualLatency), None);
    }

    fn cloud() -> impl Strategy<Value = Vec<Point>> {
        prop::collection::vec((1u8..9, 1u8..9), 1..9).prop_map(|pairs| {
            pairs.iter().map(|&(l, c)| Point { latency: f64::from(l), cost: f64::from(c) }).collect()
        })
    }

    proptest! {
        /// Twin of `mean_log_ratio`: the staircases sampled finely.
        #[test]
        fn ratios_equal_sampled_ones(a in cloud(), b in cloud()) {
            let cost = |points: &[Point], l: f64| smallest(points.iter().filter(|point| point.latency <= l).map(|point| point.cost));
            let fastest = |points: &[Point]| smallest(points.iter().map(|point| point.latency));
            let cheapest = |points: &[Point]| cost(points, f64::INFINITY);
            let settled = |points: &[Point]| smallest(points.iter().filter(|p| p.cost == cheapest(points)).map(|p| p.latency));
            let (from, to) = (fastest(&a).max(fastest(&b)), settled(&a).max(settled(&b)));
            let samples = (0..4200).map(|k| from + (to - from) * (f64::from(k) + 0.5) / 4200.0);
            let mean = samples.map(|l| libm::log(cost(&b, l) / cost(&a, l))).sum::<f64>() / 4200.0;
            prop_assert!((mean_log_ratio(&a, &b, At::EqualLatency).unwrap() - mean).abs() < 5e-3);
        }

        #[test]
        fn exchanging_the_sides_turns_the_sign(a in cloud(), b in cloud()) {
            for at in [At::EqualLatency, At::EqualCost] {
                let (there, back) = (mean_log_ratio(&a, &b, at).unwrap(), mean_log_ratio(&b, &a, at).unwrap());
                prop_assert!((there + back).abs() < 1e-12);
                prop_assert!(mean_log_ratio(&a, &a, at).unwrap().abs() < 1e-12);
            }
        }
    }
}
