//! Fronts and hypervolumes of a table of runs, per workload and policy family and seed.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use polars::prelude::DataFrame;

use super::edge::{InformedEdge, Oracle};
use super::front::{Point, compromise, hv_exact, hv_lab, non_dominated};
use super::grouping::rows_by;
use super::statistics::{Estimate, estimate};
use super::table::{Cells, Column, to_frame};
use crate::sweep::objectives::{Objectives, Reference};
use crate::sweep::tables::row::family_label;

/// Hypervolumes closer than this count as equal.
const AGREEMENT: f64 = 1e-9;

/// What a table of runs says about its policies. Runs are numbered as the table's rows, workloads and
/// families as the lists here.
#[derive(Debug, Clone, PartialEq)]
pub struct Analysis {
    /// Names in order of first appearance.
    pub workloads: Vec<Workload>,
    /// In alphabetical order, so that a family keeps its number (and its colour) while the runs are the same.
    pub families: Vec<Family>,
    /// One per row of the table.
    pub runs: Vec<Run>,
    /// One per workload, family and seed with a usable run, in this order.
    pub fronts: Vec<Front>,
    /// One per workload and family, by workload, then by falling `hv_exact`.
    pub scores: Vec<Score>,
    /// Whether the reference point was given; otherwise each workload's depends on its data.
    pub reference_given: bool,
    /// The edge of the possible; empty until one is searched.
    pub oracle: Oracle,
    /// The same without foresight.
    pub informed: InformedEdge,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Workload {
    pub name: String,
    /// None when no positive reference is known: no run succeeded, the objectives are all zero, or there is
    /// nothing to rank.
    pub reference: Option<Reference>,
    /// A single run of each seed and no reference given: a score would only say how far off a point was
    /// chosen.
    pub nothing_to_rank: bool,
}

/// A policy family: the `policy` column, and the values of the columns named by `objectives.group_by`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Family {
    /// `policy`, or `policy / value / ..` when grouped further.
    pub label: String,
    /// The `policy` column.
    pub policy: String,
    /// Values of the `group_by` columns, empty where a run has none.
    pub groups: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Run {
    pub workload: usize,
    pub family: usize,
    pub seed: i64,
    pub ok: bool,
    /// None when the run failed, or its latency or cost is missing or not finite.
    pub point: Option<Point>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Front {
    pub workload: usize,
    pub family: usize,
    pub seed: i64,
    /// Rows of the table, by rising cost.
    pub rows: Vec<usize>,
}

/// How well a family did on a workload. Hypervolumes are fractions of the reference box, averaged over the
/// seeds.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    pub workload: usize,
    pub family: usize,
    pub runs: usize,
    pub failed: usize,
    /// Runs that succeeded without a finite latency and cost.
    pub without_objectives: usize,
    /// Points on the fronts, over all seeds.
    pub front_points: usize,
    /// Seeds with a usable run.
    pub seeds: usize,
    pub hv_exact: Option<Estimate>,
    /// The lab's formula on the front.
    pub hv_lab: Option<Estimate>,
    /// The lab's formula on every run, dominated ones too.
    pub hv_lab_all_runs: Option<Estimate>,
    /// Whether `hv_lab` equals `hv_exact` on the front of every seed.
    pub agree: bool,
    /// Runs that succeeded beyond the reference point.
    pub runs_outside: usize,
    /// How far the nearest point of its fronts lies beyond the reference point, if all of them do.
    pub outside: Option<Outside>,
}

/// How far a point lies beyond the reference point, as shares of it; 0 where it does not.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outside {
    pub latency: f64,
    pub cost: f64,
}

impl Outside {
    fn of(point: Point, reference: Reference) -> Self {
        let beyond = |value: f64, limit: f64| (value / limit - 1.0).max(0.0);
        Self { latency: beyond(point.latency, reference.latency), cost: beyond(point.cost, reference.cost) }
    }

    fn furthest(&self) -> f64 {
        self.latency.max(self.cost)
    }
}

/// Rows worth naming of a front; they coincide on short fronts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Highlights {
    pub cheapest: usize,
    /// Dominates the largest share of the reference box alone; the middle of the front when none lies in the
    /// box.
    pub balanced: usize,
    pub fastest: usize,
    /// Whether these lie inside the reference box; the front's ends are named when no point does.
    pub in_box: bool,
}

impl Analysis {
    pub fn reference(&self, workload: usize) -> Option<Reference> {
        self.workloads[workload].reference
    }

    pub fn label(&self, family: usize) -> &str {
        &self.families[family].label
    }

    /// Fronts of a workload and family, one a seed.
    pub fn fronts_of(&self, workload: usize, family: usize) -> impl Iterator<Item = &Front> {
        self.fronts.iter().filter(move |front| front.workload == workload && front.family == family)
    }

    /// Scores of a workload, best first.
    pub fn scores_of(&self, workload: usize) -> impl Iterator<Item = &Score> {
        self.scores.iter().filter(move |score| score.workload == workload)
    }

    /// The point of a run on a front.
    pub fn point(&self, row: usize) -> Point {
        self.runs[row].point.expect("a run on a front has a point")
    }

    pub fn highlights(&self, front: &Front) -> Highlights {
        let reference = self.reference(front.workload);
        let share = |row: &usize| reference.map_or(0.0, |reference| compromise(self.point(*row), reference));
        let inside = front.rows.iter().copied().filter(|row| share(row) > 0.0).collect::<Vec<_>>();
        let rows = if inside.is_empty() { &front.rows } else { &inside };
        let balanced = inside
            .iter()
            .copied()
            .max_by(|a, b| share(a).total_cmp(&share(b)))
            .unwrap_or(rows[rows.len() / 2]);
        Highlights { cheapest: rows[0], balanced, fastest: rows[rows.len() - 1], in_box: !inside.is_empty() }
    }
}

/// Finds fronts and scores. Fails when a fixed column, an objective or a `group_by` column is missing or of
/// the wrong type.
pub fn analyse(runs: &DataFrame, objectives: &Objectives) -> Result<Analysis> {
    let columns = Columns::of(runs, objectives)?;
    let rows = runs.height();
    let family_of = (0..rows).map(|i| columns.family(i)).collect::<Vec<_>>();
    let mut families = family_of.clone();
    families.sort();
    families.dedup();
    let mut workloads: Vec<Workload> = Vec::new();
    let mut numbers = BTreeMap::new();
    let mut table = Vec::with_capacity(rows);
    for (i, family) in family_of.iter().enumerate() {
        let name = columns.workload.text(i).unwrap_or_default();
        let workload = *numbers.entry(name.clone()).or_insert_with(|| {
            workloads.push(Workload { name, reference: None, nothing_to_rank: false });
            workloads.len() - 1
        });
        let ok = columns.status.text(i).as_deref() == Some("ok");
        let finite = |cells: &Cells| cells.number(i).filter(|value| value.is_finite());
        let point = || Some(Point { latency: finite(&columns.latency)?, cost: finite(&columns.cost)? });
        let family = families.binary_search(family).expect("every family is listed");
        let seed = columns.seed.number(i).unwrap_or_default() as i64;
        table.push(Run { workload, family, seed, ok, point: if ok { point() } else { None } });
    }
    let mut analysis = Analysis {
        workloads,
        families,
        runs: table,
        fronts: Vec::new(),
        scores: Vec::new(),
        reference_given: objectives.reference.is_some(),
        oracle: Oracle::default(),
        informed: InformedEdge::default(),
    };
    let groups = analysis.groups()?;
    analysis.find_fronts(&groups);
    analysis.find_references(objectives.reference)?;
    analysis.score(&groups);
    Ok(analysis)
}

/// Rows on fronts, at most `most` of them, ascending: first the cheapest, balanced and fastest of each front,
/// then the others in the order of the fronts.
pub fn rows_with_curves(runs: &DataFrame, objectives: &Objectives, most: usize) -> Result<Vec<usize>> {
    let analysis = analyse(runs, objectives)?;
    let notable = analysis.fronts.iter().flat_map(|front| {
        let highlights = analysis.highlights(front);
        [highlights.balanced, highlights.cheapest, highlights.fastest]
    });
    let others = analysis.fronts.iter().flat_map(|front| front.rows.iter().copied());
    let mut chosen = std::collections::BTreeSet::new();
    for row in notable.chain(others) {
        if chosen.len() == most {
            break;
        }
        chosen.insert(row);
    }
    Ok(chosen.into_iter().collect())
}

/// The columns that [`rows_with_curves`] reads.
pub fn columns_for_fronts(objectives: &Objectives) -> Vec<&str> {
    let fixed =
        ["workload", "seed", "policy", "status", objectives.latency.as_str(), objectives.cost.as_str()];
    fixed.into_iter().chain(objectives.group_by.iter().map(String::as_str)).collect()
}

/// How far beyond the worst values a reference point is chosen that is not given, as a share of them: at
/// those values the ends of fronts would be worth nothing (Ishibuchi et al., "How to specify a reference
/// point in hypervolume calculation", 2018).
pub const BEYOND_WORST: f64 = 0.1;

/// Rows of a workload and family, by seed.
type Groups = BTreeMap<(usize, usize), BTreeMap<i64, Vec<usize>>>;

impl Analysis {
    /// The runs called `rows`, as a table by which they can be grouped: `workload` and `family` as numbers,
    /// and `seed`.
    pub(super) fn numbered(&self, rows: &[usize]) -> Result<DataFrame> {
        let column = |of: fn(&Run) -> i64| Column::Int(rows.iter().map(|&row| of(&self.runs[row])).collect());
        let (workload, family) = (column(|run| run.workload as i64), column(|run| run.family as i64));
        to_frame(vec![("workload", workload), ("family", family), ("seed", column(|run| run.seed))])
    }

    /// Usable runs of each workload and seed.
    pub(super) fn usable_by_seed(&self) -> Result<BTreeMap<(usize, i64), Vec<usize>>> {
        let usable = self.usable(&(0..self.runs.len()).collect::<Vec<_>>());
        let groups = rows_by(&self.numbered(&usable)?, &["workload", "seed"])?;
        let keyed = groups.into_iter().map(|group| {
            let rows: Vec<usize> = group.into_iter().map(|i| usable[i]).collect();
            ((self.runs[rows[0]].workload, self.runs[rows[0]].seed), rows)
        });
        Ok(keyed.collect())
    }

    fn groups(&self) -> Result<Groups> {
        let all: Vec<usize> = (0..self.runs.len()).collect();
        let mut groups = Groups::new();
        for rows in rows_by(&self.numbered(&all)?, &["workload", "family", "seed"])? {
            let run = self.runs[rows[0]];
            groups.entry((run.workload, run.family)).or_default().insert(run.seed, rows);
        }
        Ok(groups)
    }

    fn usable(&self, rows: &[usize]) -> Vec<usize> {
        rows.iter().copied().filter(|&row| self.runs[row].point.is_some()).collect()
    }

    /// In the order of the groups.
    fn find_fronts(&mut self, groups: &Groups) {
        for (&(workload, family), seeds) in groups {
            for (&seed, rows) in seeds {
                let usable = self.usable(rows);
                if !usable.is_empty() {
                    let points = usable.iter().map(|&row| self.point(row)).collect::<Vec<_>>();
                    let rows = non_dominated(&points).into_iter().map(|i| usable[i]).collect();
                    self.fronts.push(Front { workload, family, seed, rows });
                }
            }
        }
    }

    /// The one given, or of each workload one beyond the worst on the fronts of its families.
    fn find_references(&mut self, given: Option<Reference>) -> Result<()> {
        let by_seed = self.usable_by_seed()?;
        for number in 0..self.workloads.len() {
            let nothing_to_rank = given.is_none()
                && by_seed.iter().all(|((workload, _), rows)| *workload != number || rows.len() < 2);
            let fronts = self.fronts.iter().filter(|front| front.workload == number);
            let points = fronts.flat_map(|front| &front.rows).map(|&row| self.point(row)).collect::<Vec<_>>();
            let workload = &mut self.workloads[number];
            workload.nothing_to_rank = nothing_to_rank && !points.is_empty();
            workload.reference = if nothing_to_rank { None } else { given.or_else(|| beyond_worst(&points)) };
        }
        Ok(())
    }

    fn score(&mut self, groups: &Groups) {
        for (&(workload, family), seeds) in groups {
            let reference = self.reference(workload);
            let (mut exact, mut lab, mut lab_all) = (vec![], vec![], vec![]);
            let fronts = self.fronts_of(workload, family).collect::<Vec<_>>();
            let (seeds_used, front_points) =
                (fronts.len(), fronts.iter().map(|front| front.rows.len()).sum());
            let mut outside: Option<Outside> = None;
            if let Some(reference) = reference {
                for front in &fronts {
                    let points = |rows: &[usize]| rows.iter().map(|&row| self.point(row)).collect::<Vec<_>>();
                    let on_front = points(&front.rows);
                    exact.push(hv_exact(&on_front, reference));
                    lab.push(hv_lab(&on_front, reference));
                    lab_all.push(hv_lab(&points(&self.usable(&seeds[&front.seed])), reference));
                    let nearest = on_front.iter().map(|&point| Outside::of(point, reference));
                    let nearest = nearest.min_by(|a, b| a.furthest().total_cmp(&b.furthest()));
                    outside = [outside, nearest]
                        .into_iter()
                        .flatten()
                        .min_by(|a, b| a.furthest().total_cmp(&b.furthest()));
                }
            }
            let rows = seeds.values().flatten().map(|&row| self.runs[row]).collect::<Vec<_>>();
            let is_outside = |run: &&Run| {
                let share = |point: Point| reference.map(|reference| compromise(point, reference));
                run.point.and_then(share).is_some_and(|share| share <= 0.0)
            };
            let score = Score {
                workload,
                family,
                runs: rows.len(),
                failed: rows.iter().filter(|run| !run.ok).count(),
                without_objectives: rows.iter().filter(|run| run.ok && run.point.is_none()).count(),
                front_points,
                seeds: seeds_used,
                agree: exact.iter().zip(&lab).all(|(exact, lab)| (exact - lab).abs() <= AGREEMENT),
                runs_outside: rows.iter().filter(is_outside).count(),
                outside: outside.filter(|_| exact.iter().all(|&hv| hv <= 0.0)),
                hv_exact: estimate(&exact),
                hv_lab: estimate(&lab),
                hv_lab_all_runs: estimate(&lab_all),
            };
            self.scores.push(score);
        }
        let mean = |score: &Score| score.hv_exact.map_or(-1.0, |hv| hv.mean);
        // Of families outside the box the nearest comes first.
        let distance = |score: &Score| score.outside.map_or(0.0, |outside| outside.furthest());
        self.scores.sort_by(|a, b| {
            let by_score = a.workload.cmp(&b.workload).then(mean(b).total_cmp(&mean(a)));
            by_score.then(distance(a).total_cmp(&distance(b))).then(a.family.cmp(&b.family))
        });
    }
}

/// The point [`BEYOND_WORST`] the largest latency and the largest cost, if both are positive.
fn beyond_worst(points: &[Point]) -> Option<Reference> {
    let worst = points
        .iter()
        .fold((0.0f64, 0.0f64), |(latency, cost), point| (latency.max(point.latency), cost.max(point.cost)));
    let (latency, cost) = (worst.0 * (1.0 + BEYOND_WORST), worst.1 * (1.0 + BEYOND_WORST));
    (latency > 0.0 && cost > 0.0).then_some(Reference { latency, cost })
}

/// The columns an analysis reads.
struct Columns<'a> {
    workload: Cells<'a>,
    seed: Cells<'a>,
    policy: Cells<'a>,
    status: Cells<'a>,
    latency: Cells<'a>,
    cost: Cells<'a>,
    groups: Vec<Cells<'a>>,
}

impl<'a> Columns<'a> {
    fn of(runs: &'a DataFrame, objectives: &Objectives) -> Result<Self> {
        let objective = |field: &str, name: &str| {
            let cells = Cells::named(runs, name).with_context(|| format!("objectives.{field}"))?;
            let all_null = (0..runs.height()).all(|i| cells.text(i).is_none());
            anyhow::ensure!(
                cells.is_numeric() || all_null,
                "objectives.{field}: column `{name}` holds no numbers, expected a metric"
            );
            Ok(cells)
        };
        let group = |name: &String| Cells::named(runs, name).context("objectives.group_by");
        Ok(Self {
            workload: Cells::named(runs, "workload")?,
            seed: Cells::named(runs, "seed")?,
            policy: Cells::named(runs, "policy").or_else(|_| Cells::named(runs, "family"))?,
            status: Cells::named(runs, "status")?,
            latency: objective("latency", &objectives.latency)?,
            cost: objective("cost", &objectives.cost)?,
            groups: objectives.group_by.iter().map(group).collect::<Result<_>>()?,
        })
    }

    fn family(&self, i: usize) -> Family {
        let policy = self.policy.text(i).unwrap_or_default();
        let groups = self.groups.iter().map(|cells| cells.text(i).unwrap_or_default()).collect::<Vec<_>>();
        Family { label: family_label(&policy, &groups), policy, groups }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Column, to_frame};
    use super::*;

    /// (family, router, seed, status, latency, cost)
    type Sample = (&'static str, &'static str, i64, &'static str, Option<f64>, Option<f64>);

    fn runs(samples: &[Sample]) -> DataFrame {
        let text = |of: fn(&Sample) -> &str| {
            Column::Text(samples.iter().map(|sample| of(sample).to_owned()).collect())
        };
        to_frame(vec![
            ("run_id", Column::Text((0..samples.len()).map(|i| format!("r{i}")).collect())),
            ("workload", text(|_| "steps")),
            ("seed", Column::Int(samples.iter().map(|sample| sample.2).collect())),
            ("policy", text(|sample| sample.0)),
            ("global_scheduler", text(|sample| sample.1)),
            ("status", text(|sample| sample.3)),
            ("p90_e2e_s", Column::OptionalFloat(samples.iter().map(|sample| sample.4).collect())),
            ("total_cost_usd", Column::OptionalFloat(samples.iter().map(|sample| sample.5).collect())),
        ])
        .unwrap()
    }

    fn lab() -> Objectives {
        Objectives { reference: Some(Reference { latency: 0.5, cost: 50.0 }), ..Objectives::default() }
    }

    const SAMPLES: [Sample; 7] = [
        ("static", "rr", 1, "ok", Some(0.10), Some(20.0)),
        ("static", "rr", 1, "ok", Some(0.40), Some(40.0)),
        ("static", "lor", 2, "ok", Some(0.20), Some(25.0)),
        ("inferline", "rr", 1, "failed", None, None),
        ("inferline", "rr", 1, "ok", Some(f64::NAN), Some(10.0)),
        ("inferline", "lor", 1, "ok", Some(0.60), Some(10.0)),
        ("dead", "rr", 1, "failed", None, None),
    ];

    #[test]
    fn scores_are_means_over_seeds_of_each_front() {
        let analysis = analyse(&runs(&SAMPLES), &lab()).unwrap();
        let labels = analysis.families.iter().map(|family| family.label.as_str()).collect::<Vec<_>>();
        assert_eq!(labels, ["dead", "inferline", "static"]);
        let best = &analysis.scores[0];
        assert_eq!((best.family, best.runs, best.front_points, best.seeds, best.agree), (2, 3, 2, 2, true));
        // Seed 1: (1 - 0.4)(1 - 0.2) = 0.48; seed 2: (1 - 0.5)(1 - 0.4) = 0.30.
        assert!((best.hv_exact.unwrap().mean - 0.39).abs() < 1e-12);
        assert!((best.hv_lab_all_runs.unwrap().mean - (0.36 + 0.30) / 2.0).abs() < 1e-12);
        let inferline = &analysis.scores[1];
        assert_eq!(
            (inferline.failed, inferline.without_objectives, inferline.hv_exact.unwrap().mean),
            (1, 1, 0.0)
        );
        let dead = &analysis.scores[2];
        assert_eq!((dead.hv_exact, dead.front_points, dead.seeds), (None, 0, 0));
        assert_eq!(rows_with_curves(&runs(&SAMPLES), &lab(), 9).unwrap(), [0, 2, 5]);
        assert_eq!(rows_with_curves(&runs(&SAMPLES), &lab(), 1).unwrap().len(), 1);
    }

    #[test]
    fn further_columns_split_families() {
        let objectives = Objectives { group_by: vec!["global_scheduler".into()], ..lab() };
        let analysis = analyse(&runs(&SAMPLES), &objectives).unwrap();
        let labels = analysis.families.iter().map(|family| family.label.as_str()).collect::<Vec<_>>();
        assert_eq!(labels, ["dead / rr", "inferline / lor", "inferline / rr", "static / lor", "static / rr"]);
    }

    #[test]
    fn without_a_reference_a_point_beyond_the_worst_of_the_fronts_is_taken() {
        let analysis = analyse(&runs(&SAMPLES), &Objectives::default()).unwrap();
        assert!(!analysis.reference_given);
        // The run of 0.4 s and US$ 40 is on no front.
        let reference = analysis.reference(0).unwrap();
        assert!(
            (reference.latency - 0.66).abs() < 1e-12 && (reference.cost - 27.5).abs() < 1e-12,
            "{reference:?}"
        );
        let nothing = analyse(&runs(&SAMPLES[3..4]), &Objectives::default()).unwrap();
        assert_eq!(
            (nothing.reference(0), nothing.scores[0].hv_exact, nothing.workloads[0].nothing_to_rank),
            (None, None, false)
        );
    }

    /// Whatever the runs: the ends of fronts are worth something, and better in both is a higher score.
    #[test]
    fn no_family_scores_zero_without_a_reference() {
        let samples: [Sample; 4] = [
            ("cheap", "rr", 1, "ok", Some(2.0), Some(1.0)),
            ("fast", "rr", 1, "ok", Some(1.0), Some(4.0)),
            ("dear", "rr", 1, "ok", Some(1.0), Some(9.0)),
            ("slow", "rr", 1, "ok", Some(50.0), Some(9.0)),
        ];
        let analysis = analyse(&runs(&samples), &Objectives::default()).unwrap();
        let hv = |name: &str| {
            analysis
                .scores
                .iter()
                .find(|score| analysis.label(score.family) == name)
                .unwrap()
                .hv_exact
                .unwrap()
                .mean
        };
        assert!(
            analysis.scores.iter().all(|score| score.hv_exact.unwrap().mean > 0.0 && score.outside.is_none())
        );
        assert!(hv("fast") > hv("dear") && hv("dear") > hv("slow"));
    }

    #[test]
    fn a_single_run_is_not_ranked() {
        let samples: [Sample; 2] =
            [("a", "rr", 1, "ok", Some(2.0), Some(1.0)), ("a", "rr", 2, "ok", Some(1.0), Some(4.0))];
        let analysis = analyse(&runs(&samples), &Objectives::default()).unwrap();
        assert!(analysis.workloads[0].nothing_to_rank && analysis.scores[0].hv_exact.is_none());
        let given = analyse(&runs(&samples), &lab()).unwrap();
        assert!(!given.workloads[0].nothing_to_rank && given.scores[0].hv_exact.is_some());
    }

    #[test]
    fn a_family_outside_the_box_is_said_to_be() {
        let samples: [Sample; 4] = [
            ("in", "rr", 1, "ok", Some(0.4), Some(49.0)),
            ("in", "rr", 1, "ok", Some(0.3), Some(60.0)),
            ("near", "rr", 1, "ok", Some(0.1), Some(50.5)),
            ("near", "rr", 1, "ok", Some(2.0), Some(20.0)),
        ];
        let analysis = analyse(&runs(&samples), &lab()).unwrap();
        let [inside, near] = &analysis.scores[..] else { panic!() };
        assert_eq!((inside.outside, inside.runs_outside, near.runs_outside), (None, 1, 2));
        let outside = near.outside.unwrap();
        assert!(outside.latency == 0.0 && (outside.cost - 0.01).abs() < 1e-12, "{outside:?}");
    }

    #[test]
    fn highlights_prefer_the_box() {
        let samples: [Sample; 4] = [
            ("a", "rr", 1, "ok", Some(9.0), Some(5.0)),
            ("a", "rr", 1, "ok", Some(0.45), Some(15.0)),
            ("a", "rr", 1, "ok", Some(0.2), Some(20.0)),
            ("a", "rr", 1, "ok", Some(0.1), Some(45.0)),
        ];
        let analysis = analyse(&runs(&samples), &lab()).unwrap();
        assert_eq!(
            analysis.highlights(&analysis.fronts[0]),
            Highlights { cheapest: 1, balanced: 2, fastest: 3, in_box: true }
        );
        let outside = analyse(&runs(&samples[..1]), &lab()).unwrap();
        assert_eq!(
            outside.highlights(&outside.fronts[0]),
            Highlights { cheapest: 0, balanced: 0, fastest: 0, in_box: false }
        );
    }

    #[test]
    fn wrong_objectives_are_named() {
        let objectives = Objectives { latency: "p91_e2e_s".into(), ..lab() };
        let error = format!("{:#}", analyse(&runs(&SAMPLES), &objectives).unwrap_err());
        assert!(
            error.contains("objectives.latency")
                && error.contains("`p91_e2e_s`")
                && error.contains("`p90_e2e_s`"),
            "{error}"
        );
        let objectives = Objectives { cost: "global_scheduler".into(), ..lab() };
        assert!(format!("{:#}", analyse(&runs(&SAMPLES), &objectives).unwrap_err()).contains("no numbers"));
    }
}
