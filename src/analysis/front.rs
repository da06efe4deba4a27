//! Fronts and hypervolumes of points that are better the smaller they are, in both coordinates.
//!
//! A point *dominates* another when it is at most as large in both coordinates and smaller in one. The *front*
//! is what no point dominates. Of points equal in both coordinates only the first as given is kept, as
//! moocore's `is_nondominated` does by default, so that a front never names two runs where one would do.

use std::cmp::Ordering;

use crate::sweep::objectives::Reference;

/// A run as the front sees it; both coordinates are minimised and must be finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Point {
    pub latency: f64,
    pub cost: f64,
}

/// Indices of the non-dominated points, by ascending cost (so by descending latency).
pub fn non_dominated(points: &[Point]) -> Vec<usize> {
    let mut order = (0..points.len()).collect::<Vec<_>>();
    // The sort is stable: of equal points the first as given comes first.
    order.sort_by(|&a, &b| {
        ascending(points[a].cost, points[b].cost).then(ascending(points[a].latency, points[b].latency))
    });
    let mut lowest = f64::INFINITY;
    order.retain(|&i| {
        let kept = points[i].latency < lowest;
        lowest = lowest.min(points[i].latency);
        kept
    });
    order
}

/// The area dominated by `points` inside the box from the origin to `reference`, as a fraction of the box.
///
/// Points at or beyond the reference add nothing; a negative coordinate counts as zero. The order of `points`
/// and dominated points among them do not matter.
pub fn hv_exact(points: &[Point], reference: Reference) -> f64 {
    let inside = points
        .iter()
        .map(|point| Point {
            latency: point.latency.max(0.0) / reference.latency,
            cost: point.cost.max(0.0) / reference.cost,
        })
        .filter(|point| point.latency < 1.0 && point.cost < 1.0)
        .collect::<Vec<_>>();
    let front = non_dominated(&inside);
    let mut area = 0.0;
    for (k, &i) in front.iter().enumerate() {
        let next_cost = front.get(k + 1).map_or(1.0, |&j| inside[j].cost);
        area += (next_cost - inside[i].cost) * (1.0 - inside[i].latency);
    }
    area
}

/// The lab's formula, kept for comparison with published scores: coordinates cut at the reference and divided
/// by it, points in order of cost, `(1 - c_n)(1 - l_n) + sum of (c_(i+1) - c_i)(1 - l_i)`.
///
/// It equals [`hv_exact`] on a front. On other sets it counts dominated points with their own latency, so a
/// worse run lowers it.
pub fn hv_lab(points: &[Point], reference: Reference) -> f64 {
    let mut cut = points
        .iter()
        .map(|point| Point {
            latency: point.latency.min(reference.latency) / reference.latency,
            cost: point.cost.min(reference.cost) / reference.cost,
        })
        .collect::<Vec<_>>();
    cut.sort_by(|a, b| ascending(a.cost, b.cost));
    let Some(last) = cut.last() else { return 0.0 };
    let steps =
        cut.windows(2).map(|pair| (pair[1].cost - pair[0].cost) * (1.0 - pair[0].latency)).sum::<f64>();
    (1.0 - last.cost) * (1.0 - last.latency) + steps
}

/// The share of the reference box that `point` dominates alone: how good a compromise it is. Zero outside the
/// box.
pub fn compromise(point: Point, reference: Reference) -> f64 {
    hv_exact(&[point], reference)
}

fn ascending(a: f64, b: f64) -> Ordering {
    // Adding zero makes -0.0 equal to 0.0, which `total_cmp` alone tells apart.
    (a + 0.0).total_cmp(&(b + 0.0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LAB: Reference = Reference { latency: 0.5, cost: 50.0 };

    fn points(pairs: &[(f64, f64)]) -> Vec<Point> {
        pairs.iter().map(|&(cost, latency)| Point { latency, cost }).collect()
    }

    fn dominates(a: Point, b: Point) -> bool {
        a.latency <= b.latency && a.cost <= b.cost && (a.latency < b.latency || a.cost < b.cost)
    }

    /// Twin of `non_dominated`: every pair compared.
    fn non_dominated_by_pairs(points: &[Point]) -> Vec<usize> {
        (0..points.len())
            .filter(|&i| {
                !points.iter().any(|&other| dominates(other, points[i])) && !points[..i].contains(&points[i])
            })
            .collect()
    }

    /// Twin of `hv_exact`: the box cut into cells at every coordinate, each cell counted when some point
    /// dominates it.
    fn hv_by_cells(points: &[Point], reference: Reference) -> f64 {
        let cuts = |coordinate: fn(&Point) -> f64, end: f64| {
            let mut cuts = points
                .iter()
                .map(coordinate)
                .filter(|&x| x > 0.0 && x < end)
                .chain([0.0, end])
                .collect::<Vec<_>>();
            cuts.sort_by(f64::total_cmp);
            cuts
        };
        let (costs, latencies) = (cuts(|p| p.cost, reference.cost), cuts(|p| p.latency, reference.latency));
        let mut area = 0.0;
        for c in costs.windows(2) {
            for l in latencies.windows(2) {
                if points.iter().any(|point| point.cost <= c[0] && point.latency <= l[0]) {
                    area += (c[1] - c[0]) * (l[1] - l[0]);
                }
            }
        }
        area / (reference.cost * reference.latency)
    }

    /// Twin of `hv_lab`: the formula word by word.
    fn hv_lab_spelt(points: &[Point], reference: Reference) -> f64 {
        let mut rows = points.to_vec();
        rows.sort_by(|a, b| a.cost.min(reference.cost).total_cmp(&b.cost.min(reference.cost)));
        let c = rows.iter().map(|p| p.cost.min(reference.cost) / reference.cost).collect::<Vec<_>>();
        let l = rows.iter().map(|p| p.latency.min(reference.latency) / reference.latency).collect::<Vec<_>>();
        let n = rows.len();
        let mut sum = if n == 0 { 0.0 } else { (1.0 - c[n - 1]) * (1.0 - l[n - 1]) };
        for i in 1..n {
            sum += (c[i] - c[i - 1]) * (1.0 - l[i - 1]);
        }
        sum
    }

    #[test]
    fn published_counterexamples() {
        let three = points(&[(20.0, 0.10), (30.0, 0.40), (40.0, 0.05)]);
        assert!((hv_lab(&three, LAB) - 0.380).abs() < 1e-12);
        assert!((hv_exact(&three, LAB) - 0.500).abs() < 1e-12);
        let two = points(&[(20.0, 0.10), (40.0, 0.40)]);
        assert!((hv_lab(&two, LAB) - 0.360).abs() < 1e-12);
        assert!((hv_exact(&two, LAB) - 0.480).abs() < 1e-12);
        // A published front of three service levels, rounded in print.
        let published = points(&[(35.95, 0.268), (39.68, 0.205), (44.38, 0.170)]);
        assert!((hv_exact(&published, LAB) - 0.1644).abs() < 2e-4);
        assert!((hv_lab(&published, LAB) - 0.1644).abs() < 2e-4);
    }

    #[test]
    fn ties_and_duplicates() {
        // Equal cost: the faster one. Equal latency: the cheaper one. Equal both: the first.
        assert_eq!(non_dominated(&points(&[(1.0, 3.0), (1.0, 2.0), (4.0, 2.0), (1.0, 2.0)])), [1]);
        assert_eq!(non_dominated(&[]), Vec::<usize>::new());
        assert_eq!(hv_exact(&[], LAB), 0.0);
        assert_eq!(hv_lab(&[], LAB), 0.0);
    }

    #[test]
    fn the_edges_of_the_box() {
        assert_eq!(hv_exact(&points(&[(0.0, 0.0)]), LAB), 1.0);
        assert_eq!(hv_exact(&points(&[(-3.0, -1.0)]), LAB), 1.0);
        assert_eq!(hv_exact(&points(&[(50.0, 0.1), (10.0, 0.5), (60.0, 0.9)]), LAB), 0.0);
    }

    /// Few distinct coordinates, so that ties and duplicates are frequent; some points lie outside the box.
    fn cloud() -> impl Strategy<Value = Vec<Point>> {
        prop::collection::vec((0u8..14, 0u8..14), 0..24).prop_map(|pairs| {
            pairs
                .iter()
                .map(|&(c, l)| Point { cost: f64::from(c) * 5.0, latency: f64::from(l) * 0.05 })
                .collect()
        })
    }

    proptest! {
        #[test]
        fn front_equals_its_twin(points in cloud()) {
            let mut front = non_dominated(&points);
            prop_assert!(front.windows(2).all(|w| points[w[0]].cost < points[w[1]].cost && points[w[0]].latency > points[w[1]].latency));
            front.sort_unstable();
            prop_assert_eq!(front, non_dominated_by_pairs(&points));
        }

        #[test]
        fn hypervolumes_equal_their_twins(points in cloud()) {
            prop_assert!((hv_exact(&points, LAB) - hv_by_cells(&points, LAB)).abs() < 1e-12);
            prop_assert!((hv_lab(&points, LAB) - hv_lab_spelt(&points, LAB)).abs() < 1e-12);
        }

        #[test]
        fn both_agree_on_fronts(points in cloud()) {
            let front = non_dominated(&points).into_iter().map(|i| points[i]).collect::<Vec<_>>();
            prop_assert!((hv_exact(&front, LAB) - hv_lab(&front, LAB)).abs() < 1e-12);
            prop_assert!((hv_exact(&front, LAB) - hv_exact(&points, LAB)).abs() < 1e-12);
        }

        #[test]
        fn another_point_never_lowers_the_exact_one(mut points in cloud(), cost in 0.0..60.0, latency in 0.0..0.6) {
            let before = hv_exact(&points, LAB);
            points.push(Point { latency, cost });
            prop_assert!(hv_exact(&points, LAB) >= before - 1e-12);
        }
    }
}
