//! How far each family stays from the edge of the possible, and how good that edge is.

use super::front::{Point, compromise, hv_exact};
use super::indicators::{At, mean_log_ratio};
use super::scores::{Analysis, Score, Workload};
use super::statistics::{Estimate, estimate};
use crate::sweep::objectives::Reference;

/// Of one family on one workload, over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Regret {
    /// Hypervolume as a share of the oracle's.
    pub share: Estimate,
    /// Mean cost over the oracle's at equal latency, less 1; of geometric means. None where nothing lies in
    /// the reference box.
    pub extra_cost: Option<Estimate>,
}

/// How good the edge itself is on one workload, over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct EdgeQuality {
    pub hv_exact: Estimate,
    /// Geometric mean of cost over the fluid bound, less 1, of the points inside the reference box: what it
    /// could still be too dear.
    pub over_fluid_bound: Option<Estimate>,
}

impl Analysis {
    /// None without an edge or a reference point, or where the edge dominates nothing.
    pub fn regret(&self, score: &Score) -> Option<Regret> {
        let (workload, groups) = (&self.workloads[score.workload], &self.families[score.family].groups);
        let reference = workload.reference?;
        let (mut shares, mut ratios) = (Vec::new(), Vec::new());
        for front in self.fronts_of(score.workload, score.family) {
            let edge = self.oracle.edge(&workload.name, front.seed, Some(groups));
            let points = front.rows.iter().map(|&row| self.point(row)).collect::<Vec<_>>();
            let possible = hv_exact(&edge, reference);
            if possible > 0.0 {
                shares.push(hv_exact(&points, reference) / possible);
            }
            ratios.extend(mean_log_ratio(
                &within(&edge, reference),
                &within(&points, reference),
                At::EqualLatency,
            ));
        }
        Some(Regret { share: estimate(&shares)?, extra_cost: estimate(&ratios).map(excess) })
    }

    /// None without an edge or a reference point.
    pub fn edge_quality(&self, workload: usize) -> Option<EdgeQuality> {
        let Workload { name, reference, .. } = &self.workloads[workload];
        let (reference, seeds) = ((*reference)?, self.oracle.seeds(name));
        let scores = seeds
            .iter()
            .map(|&seed| hv_exact(&self.oracle.edge(name, seed, None), reference))
            .collect::<Vec<_>>();
        let over_fluid = |&seed: &i64| {
            let inside =
                self.oracle.of_seed(name, seed).filter(|point| compromise(point.point, reference) > 0.0);
            let ratios = inside
                .map(|point| Some(libm::log(point.point.cost / point.fluid_bound_usd?)))
                .collect::<Option<Vec<_>>>()?;
            estimate(&ratios).map(|estimate| estimate.mean)
        };
        let ratios = seeds.iter().filter_map(over_fluid).collect::<Vec<_>>();
        Some(EdgeQuality { hv_exact: estimate(&scores)?, over_fluid_bound: estimate(&ratios).map(excess) })
    }
}

fn within(points: &[Point], reference: Reference) -> Vec<Point> {
    points.iter().copied().filter(|point| compromise(*point, reference) > 0.0).collect()
}

/// What a mean logarithm of ratios means for the ratio, less 1.
fn excess(log: Estimate) -> Estimate {
    let of = |log: f64| libm::expm1(log);
    Estimate {
        mean: of(log.mean),
        interval: log.interval.map(|(low, high)| (of(low), of(high))),
        count: log.count,
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::DataFrame;

    use super::super::edge::Oracle;
    use super::super::scores::analyse;
    use super::super::table::{Column, to_frame};
    use super::*;
    use crate::sweep::objectives::Objectives;

    fn objectives(group_by: &[&str]) -> Objectives {
        let reference = Some(Reference { latency: 10.0, cost: 10.0 });
        Objectives {
            reference,
            group_by: group_by.iter().map(|name| (*name).into()).collect(),
            ..Objectives::default()
        }
    }

    /// (name, router, seed, latency, cost)
    type Sample = (&'static str, &'static str, i64, f64, f64);

    fn frame(samples: &[Sample], name: &str) -> DataFrame {
        let text = |of: fn(&Sample) -> &str| {
            Column::Text(samples.iter().map(|sample| of(sample).to_owned()).collect())
        };
        to_frame(vec![
            ("workload", Column::Text(vec!["w".into(); samples.len()])),
            ("seed", Column::Int(samples.iter().map(|sample| sample.2).collect())),
            (name, text(|sample| sample.0)),
            ("status", Column::Text(vec!["ok".into(); samples.len()])),
            ("global_scheduler", text(|sample| sample.1)),
            ("fluid_bound_usd", Column::Float(vec![1.0; samples.len()])),
            ("p90_e2e_s", Column::Float(samples.iter().map(|sample| sample.3).collect())),
            ("total_cost_usd", Column::Float(samples.iter().map(|sample| sample.4).collect())),
        ])
        .unwrap()
    }

    #[test]
    fn regret_is_what_is_lost_against_the_edge() {
        let objectives = objectives(&[]);
        let mut analysis =
            analyse(&frame(&[("a", "rr", 1, 5.0, 4.0), ("b", "rr", 1, 99.0, 99.0)], "family"), &objectives)
                .unwrap();
        assert_eq!(analysis.regret(&analysis.scores[0]), None);
        analysis.oracle = Oracle::of(
            &frame(&[("search", "rr", 1, 5.0, 2.0), ("search", "rr", 1, 2.0, 8.0)], "found_by"),
            &objectives,
        )
        .unwrap();
        // 5 by 6 of the edge's 5 by 8 and 3 by 2.
        let regret = analysis.regret(&analysis.scores[0]).unwrap();
        assert!((regret.share.mean - 30.0 / 46.0).abs() < 1e-12, "{regret:?}");
        // Only where both have a point in the box: twice as dear at 5 s.
        assert!((regret.extra_cost.unwrap().mean - 1.0).abs() < 1e-12, "{regret:?}");
        let outside = analysis.regret(&analysis.scores[1]).unwrap();
        assert_eq!((outside.share.mean, outside.extra_cost), (0.0, None));
        let quality = analysis.edge_quality(0).unwrap();
        assert!((quality.hv_exact.mean - 0.46).abs() < 1e-12, "{quality:?}");
        assert!((quality.over_fluid_bound.unwrap().mean - 3.0).abs() < 1e-12, "{quality:?}");
    }

    #[test]
    fn the_edge_is_the_yardstick_of_distances() {
        let objectives = objectives(&[]);
        let mut analysis =
            analyse(&frame(&[("a", "rr", 1, 4.0, 4.0), ("b", "rr", 1, 2.0, 6.0)], "family"), &objectives)
                .unwrap();
        let edge = frame(&[("search", "rr", 1, 3.0, 2.0), ("search", "rr", 1, 90.0, 1.0)], "found_by");
        analysis.oracle = Oracle::of(&edge, &objectives).unwrap();
        let a = analysis.scores.iter().find(|score| analysis.label(score.family) == "a").unwrap();
        let distance = analysis.distance(a).unwrap();
        let (igd, epsilon) = (distance.igd_plus.unwrap().mean, distance.additive_epsilon.unwrap().mean);
        assert!(
            (igd - libm::hypot(0.1f64, 0.2)).abs() < 1e-12
                && (epsilon - 0.2).abs() < 1e-12
                && distance.to_oracle
        );
    }

    #[test]
    fn a_grouped_family_is_held_against_its_own_cluster() {
        let objectives = objectives(&["global_scheduler"]);
        let mut analysis =
            analyse(&frame(&[("a", "rr", 1, 5.0, 5.0), ("a", "lor", 1, 5.0, 5.0)], "family"), &objectives)
                .unwrap();
        let edge = frame(&[("search", "rr", 1, 5.0, 5.0), ("search", "lor", 1, 2.5, 5.0)], "found_by");
        analysis.oracle = Oracle::of(&edge, &objectives).unwrap();
        let share = |label: &str| {
            let score = analysis.scores.iter().find(|score| analysis.label(score.family) == label).unwrap();
            analysis.regret(score).unwrap().share.mean
        };
        assert_eq!(share("a / rr"), 1.0);
        assert!((share("a / lor") - 25.0 / 37.5).abs() < 1e-12);
        assert_eq!(analysis.oracle.edge("w", 1, None).len(), 1);
    }
}
