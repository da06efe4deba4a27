//! Beyond the hypervolume: what each point of a front and each service level is worth, how far a family is
//! from the best known, what its seeds attain.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Result;
use polars::prelude::DataFrame;

use super::effects::sort_values;
use super::front::{Point, compromise, hv_exact, non_dominated};
use super::indicators::{ATTAINMENT_PERCENT, additive_epsilon, attainment, contributions, igd_plus};
use super::scores::{Analysis, Front, Score};
use super::statistics::{Estimate, estimate};
use super::table::Cells;
use crate::sweep::objectives::Reference;

/// What a point on a front adds to hypervolumes, as fractions of the reference box.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Contribution {
    pub row: usize,
    /// To the front of its own family. None without a reference point.
    pub own: Option<f64>,
    /// To the joint front of all families of the workload and seed; 0 where another family's run does as
    /// well.
    pub joint: Option<f64>,
}

/// What hypervolumes owe to one value of one setting of a family, such as a service level: what they would
/// lose had its runs, on a front or not, never been made. Fractions of the reference box, over the seeds in
/// which the family has a usable run.
#[derive(Debug, Clone, PartialEq)]
pub struct ValueContribution {
    pub workload: usize,
    pub family: usize,
    /// Column name.
    pub setting: String,
    pub value: String,
    /// Usable runs with it.
    pub runs: usize,
    /// Those on a front of the family.
    pub on_front: usize,
    /// To the front of its own family.
    pub own: Option<Estimate>,
    /// To the joint front of all families of the workload and seed.
    pub joint: Option<Estimate>,
}

/// How far a family is from the yardstick, over seeds: the edge that `scalefront oracle` found for the same
/// workload and seed or, without one, the joint front of all families. Only its points inside the reference
/// box count, if there are any: no score knows the others.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distance {
    pub igd_plus: Option<Estimate>,
    pub additive_epsilon: Option<Estimate>,
    pub to_oracle: bool,
}

/// One level of a family's attainment over seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Attained {
    pub workload: usize,
    pub family: usize,
    pub percent: u32,
    pub seeds: usize,
    /// By rising cost.
    pub border: Vec<Point>,
}

impl Analysis {
    fn points(&self, front: &Front) -> Vec<Point> {
        front.rows.iter().map(|&row| self.point(row)).collect()
    }

    /// Contributions of the rows on fronts, in the fronts' order.
    pub fn contributions(&self) -> Vec<Contribution> {
        let mut joint: BTreeMap<(usize, i64), Vec<usize>> = BTreeMap::new();
        for front in &self.fronts {
            joint.entry((front.workload, front.seed)).or_default().extend(&front.rows);
        }
        let mut shares = BTreeMap::new();
        for ((workload, _), rows) in joint {
            let Some(reference) = self.reference(workload) else { continue };
            let points = rows.iter().map(|&row| self.point(row)).collect::<Vec<_>>();
            // Dominated points would hide what a front point is worth to the front.
            let front = non_dominated(&points);
            let on_front = front.iter().map(|&i| points[i]).collect::<Vec<_>>();
            shares.extend(rows.iter().map(|&row| (row, 0.0)));
            shares.extend(
                front.iter().zip(contributions(&on_front, reference)).map(|(&i, share)| (rows[i], share)),
            );
            // Of equal points none is worth anything alone, whichever the front names.
            let equal = |i: usize| points.iter().filter(|point| **point == points[i]).count() > 1;
            shares.extend(front.iter().filter(|&&i| equal(i)).map(|&i| (rows[i], 0.0)));
        }
        let of_front = |front: &Front| {
            let own =
                self.reference(front.workload).map(|reference| contributions(&self.points(front), reference));
            let own = (0..front.rows.len()).map(move |i| own.as_ref().map(|own| own[i]));
            front
                .rows
                .iter()
                .zip(own)
                .map(|(&row, own)| Contribution { row, own, joint: shares.get(&row).copied() })
                .collect::<Vec<_>>()
        };
        self.fronts.iter().flat_map(of_front).collect()
    }

    /// For each value of each of `settings` that varies within a family: by workload, best family first,
    /// setting, value. Workloads without a reference point are left out. Fails when a column cannot be read.
    pub fn value_contributions(
        &self,
        runs: &DataFrame,
        settings: &[String],
    ) -> Result<Vec<ValueContribution>> {
        let by_seed = self.usable_by_seed()?;
        let on_front =
            self.fronts.iter().flat_map(|front| front.rows.iter().copied()).collect::<BTreeSet<_>>();
        let mut contributions = Vec::new();
        for score in &self.scores {
            let Some(reference) = self.reference(score.workload) else { continue };
            let seeds = self
                .fronts_of(score.workload, score.family)
                .map(|front| &by_seed[&(score.workload, front.seed)]);
            let seeds =
                seeds.map(|rows| SeedRuns::new(self, rows, score.family, reference)).collect::<Vec<_>>();
            for setting in settings {
                let cells = Cells::named(runs, setting)?;
                let of_family = seeds.iter().flat_map(|seed| &seed.own);
                let text =
                    of_family.filter_map(|&row| Some((row, cells.text(row)?))).collect::<BTreeMap<_, _>>();
                let mut values =
                    text.values().cloned().collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>();
                if values.len() < 2 {
                    continue;
                }
                sort_values(&mut values);
                for value in values {
                    let with = text
                        .iter()
                        .filter(|(_, of)| **of == value)
                        .map(|(&row, _)| row)
                        .collect::<BTreeSet<_>>();
                    let on_front = with.intersection(&on_front).count();
                    let losses = seeds
                        .iter()
                        .map(|seed| if on_front == 0 { [0.0; 2] } else { seed.losses_without(&with) });
                    let losses = losses.collect::<Vec<_>>();
                    let [own, joint] =
                        [0, 1].map(|k| estimate(&losses.iter().map(|loss| loss[k]).collect::<Vec<_>>()));
                    let (workload, family, runs) = (score.workload, score.family, with.len());
                    contributions.push(ValueContribution {
                        workload,
                        family,
                        setting: setting.clone(),
                        value,
                        runs,
                        on_front,
                        own,
                        joint,
                    });
                }
            }
        }
        Ok(contributions)
    }

    /// None without a reference point or a usable run.
    pub fn distance(&self, score: &Score) -> Option<Distance> {
        let reference = self.reference(score.workload)?;
        let (mut igd, mut epsilon, mut to_oracle) = (Vec::new(), Vec::new(), true);
        for front in self.fronts_of(score.workload, score.family) {
            let edge = self.oracle.edge(&self.workloads[front.workload].name, front.seed, None);
            to_oracle &= !edge.is_empty();
            let same = self
                .fronts
                .iter()
                .filter(|other| other.workload == front.workload && other.seed == front.seed);
            let points =
                if edge.is_empty() { same.flat_map(|other| self.points(other)).collect() } else { edge };
            let mut target = non_dominated(&points).into_iter().map(|i| points[i]).collect::<Vec<_>>();
            let inside = |point: &Point| compromise(*point, reference) > 0.0;
            if target.iter().any(inside) {
                target.retain(inside);
            }
            igd.extend(igd_plus(&self.points(front), &target, reference));
            epsilon.extend(additive_epsilon(&self.points(front), &target, reference));
        }
        (!igd.is_empty()).then(|| Distance {
            igd_plus: estimate(&igd),
            additive_epsilon: estimate(&epsilon),
            to_oracle,
        })
    }

    /// Attainment of every family on every workload over its seeds, by workload, family and percentage.
    pub fn attained(&self) -> Vec<Attained> {
        let mut fronts: BTreeMap<(usize, usize), Vec<Vec<Point>>> = BTreeMap::new();
        for front in &self.fronts {
            fronts.entry((front.workload, front.family)).or_default().push(self.points(front));
        }
        let levels = |((workload, family), sets): (&(usize, usize), &Vec<Vec<Point>>)| {
            ATTAINMENT_PERCENT.map(|percent| {
                let border = attainment(sets, percent);
                Attained { workload: *workload, family: *family, percent, seeds: sets.len(), border }
            })
        };
        fronts.iter().flat_map(levels).collect()
    }
}

/// Usable runs of one workload and seed, as a family's settings are judged.
struct SeedRuns<'a> {
    analysis: &'a Analysis,
    reference: Reference,
    all: &'a [usize],
    own: Vec<usize>,
    /// Hypervolumes of the family's and of all runs.
    whole: [f64; 2],
}

impl<'a> SeedRuns<'a> {
    fn new(analysis: &'a Analysis, all: &'a [usize], family: usize, reference: Reference) -> Self {
        let own = all.iter().copied().filter(|&row| analysis.runs[row].family == family).collect();
        let mut runs = Self { analysis, reference, all, own, whole: [0.0; 2] };
        runs.whole = runs.hypervolumes(|_| true);
        runs
    }

    fn hypervolumes(&self, counts: impl Fn(usize) -> bool) -> [f64; 2] {
        [&self.own[..], self.all].map(|rows| {
            let points = rows
                .iter()
                .filter(|&&row| counts(row))
                .map(|&row| self.analysis.point(row))
                .collect::<Vec<_>>();
            hv_exact(&points, self.reference)
        })
    }

    fn losses_without(&self, rows: &BTreeSet<usize>) -> [f64; 2] {
        let rest = self.hypervolumes(|row| !rows.contains(&row));
        [0, 1].map(|k| (self.whole[k] - rest[k]).max(0.0))
    }
}

#[cfg(test)]
mod tests {
    use super::super::scores::analyse;
    use super::super::table::{Column, to_frame};
    use super::*;
    use crate::sweep::objectives::{Objectives, Reference};

    /// (family, seed, latency, cost)
    fn analysis(runs: &[(&str, i64, f64, f64)]) -> Analysis {
        let frame = to_frame(vec![
            ("workload", Column::Text(vec!["w".into(); runs.len()])),
            ("seed", Column::Int(runs.iter().map(|run| run.1).collect())),
            ("family", Column::Text(runs.iter().map(|run| run.0.into()).collect())),
            ("status", Column::Text(vec!["ok".into(); runs.len()])),
            ("p90_e2e_s", Column::Float(runs.iter().map(|run| run.2).collect())),
            ("total_cost_usd", Column::Float(runs.iter().map(|run| run.3).collect())),
        ]);
        let reference = Some(Reference { latency: 10.0, cost: 10.0 });
        analyse(&frame.unwrap(), &Objectives { reference, ..Objectives::default() }).unwrap()
    }

    #[test]
    fn contributions_to_the_own_and_the_joint_front() {
        let analysis = analysis(&[
            ("a", 1, 2.0, 5.0),
            ("a", 1, 5.0, 2.0),
            ("b", 1, 5.0, 2.0),
            ("b", 1, 4.0, 4.0),
            ("c", 1, 9.0, 9.0),
        ]);
        let of = |row: usize| analysis.contributions().into_iter().find(|share| share.row == row).unwrap();
        let near = |share: Option<f64>, expected: f64| {
            assert!((share.unwrap() - expected).abs() < 1e-12, "{share:?} {expected}")
        };
        near(of(0).own, 0.15); // 3 by 5 of 100
        near(of(0).joint, 0.10); // b reaches 4, 4: 2 by 5
        near(of(1).own, 0.15); // 5 by 3
        near(of(1).joint, 0.0); // b has the same
        near(of(2).joint, 0.0);
        near(of(3).joint, 0.01); // 1 by 1
        near(of(4).joint, 0.0);
    }

    #[test]
    fn a_service_level_is_worth_what_is_lost_without_it() {
        let runs = [
            ("a", 1, 2.0, 5.0),
            ("a", 1, 3.0, 5.0),
            ("a", 1, 5.0, 2.0),
            ("b", 1, 4.0, 2.0),
            ("a", 2, 9.0, 9.0),
            ("a", 2, 2.0, 5.0),
        ];
        let analysis = analysis(&runs);
        let levels = vec!["1", "2", "10", "1", "1", "10"].into_iter().map(String::from).collect();
        let frame = to_frame(vec![("level", Column::Text(levels))]).unwrap();
        let found = analysis.value_contributions(&frame, &["level".to_owned()]).unwrap();
        assert!(found.iter().all(|value| analysis.label(value.family) == "a"), "b has one level");
        let texts =
            found.iter().map(|value| (value.value.as_str(), value.runs, value.on_front)).collect::<Vec<_>>();
        assert_eq!(texts, [("1", 2, 1), ("2", 1, 0), ("10", 2, 2)]);
        let near = |estimate: Option<Estimate>, expected: f64| {
            assert!((estimate.unwrap().mean - expected).abs() < 1e-12, "{estimate:?} {expected}");
        };
        // Seed 1: level 2 takes the place of 1 but for a second by 5 dollars. Seed 2: dominated.
        near(found[0].own, 0.05 / 2.0);
        near(found[0].joint, 0.05 / 2.0);
        near(found[1].own, 0.0);
        // Seed 1: 5 by 3, though b is better there. Seed 2: 8 by 5 less 1 by 1.
        near(found[2].own, (0.15 + 0.39) / 2.0);
        near(found[2].joint, 0.39 / 2.0);
    }

    #[test]
    fn the_joint_front_is_the_yardstick() {
        let analysis = analysis(&[("a", 1, 4.0, 4.0), ("b", 1, 2.0, 6.0)]);
        let a = analysis.scores.iter().find(|score| analysis.label(score.family) == "a").unwrap();
        let distance = analysis.distance(a).unwrap();
        let (igd, epsilon) = (distance.igd_plus.unwrap().mean, distance.additive_epsilon.unwrap().mean);
        assert!((igd - 0.1).abs() < 1e-12 && (epsilon - 0.2).abs() < 1e-12 && !distance.to_oracle);
    }

    #[test]
    fn attainment_lies_between_the_best_and_the_worst_seed() {
        let analysis = analysis(&[("a", 1, 2.0, 5.0), ("a", 2, 3.0, 6.0), ("a", 3, 4.0, 7.0)]);
        let borders = analysis
            .attained()
            .into_iter()
            .map(|attained| (attained.percent, attained.border[0]))
            .collect::<Vec<_>>();
        let point = |latency, cost| Point { latency, cost };
        assert_eq!(borders, [(10, point(2.0, 5.0)), (50, point(3.0, 6.0)), (90, point(4.0, 7.0))]);
    }
}
