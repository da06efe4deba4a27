//! Policy against policy, sweep against sweep: runs paired by workload, cluster and seed.
//!
//! A *contestant* is a family of a sweep, or all families of it together. Two contestants are compared in *cells*
//! of equal workload, cluster settings and seed, so on the same arrivals and the same machines; each cell has
//! a front of either, and differences are taken there. Cells of one seed are averaged first, and the interval
//! is Student's t over the seeds: only these are independent.

mod contestants;
mod warnings;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Result, bail};
use polars::prelude::DataFrame;

pub use contestants::{Choice, Contestant};

use super::front::{Point, hv_exact, non_dominated};
use super::indicators::{At, mean_log_ratio};
use super::scores::{Analysis, Family, analyse};
use super::statistics::{Estimate, estimate};
use crate::sweep::objectives::{Objectives, Reference};
use crate::sweep::store::manifest::Manifest;

/// Hypervolumes closer than this are a tie.
const TIE: f64 = 1e-9;

/// A stored sweep.
pub struct Sweep {
    /// How it is called in messages and tables: its directory.
    pub label: String,
    pub manifest: Manifest,
    pub runs: DataFrame,
}

/// Values of the settings by which clusters are told apart; None where one does not apply.
pub type Cluster = Vec<Option<String>>;

/// Cells are told apart by workload, cluster settings and seed.
pub type CellKey = (String, Cluster, i64);

/// The runs of a contestant in one cell.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct CellRuns {
    /// Usable ones.
    pub points: Vec<Point>,
    pub runs: usize,
}

/// What was compared, and what came out.
pub struct Comparison {
    /// The first sweep's; all are judged by them.
    pub objectives: Objectives,
    pub contestants: Vec<Contestant>,
    /// All families of all sweeps: label, policy, and what tells families of a policy apart.
    pub families: Vec<Family>,
    /// Runs of each contestant by cell.
    pub cells: Vec<BTreeMap<CellKey, CellRuns>>,
    pub workloads: Vec<ComparedWorkload>,
    /// By pair, then by workload.
    pub outcomes: Vec<Outcome>,
    /// What makes the comparison unfair or weak, a sentence each.
    pub warnings: Vec<String>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct ComparedWorkload {
    pub name: String,
    /// The objectives' reference point, or the worst values of all contestants.
    pub reference: Option<Reference>,
}

/// Two contestants on one workload. Differences are candidate minus baseline; percentages are of the
/// baseline.
#[derive(Debug, Clone, PartialEq)]
pub struct Outcome {
    pub workload: usize,
    pub baseline: usize,
    pub candidate: usize,
    /// Cells that both have.
    pub cells: usize,
    /// Cells of baseline and candidate without a partner.
    pub unpaired: [usize; 2],
    /// Seeds of these cells.
    pub seeds: usize,
    /// Runs of baseline and candidate in these cells.
    pub runs: [usize; 2],
    pub hv_baseline: Option<Estimate>,
    pub hv_candidate: Option<Estimate>,
    pub hv_difference: Option<Estimate>,
    /// Geometric mean over seeds.
    pub cost_at_equal_latency: Option<Change>,
    pub latency_at_equal_cost: Option<Change>,
    /// Cells in which the candidate's hypervolume is larger, smaller, the same.
    pub wins: usize,
    pub losses: usize,
    pub ties: usize,
}

/// A relative change in percent: -20 is a fifth less than the baseline.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Change {
    pub percent: f64,
    pub interval: Option<(f64, f64)>,
    /// Cells in which both have a run inside the reference box.
    pub cells: usize,
}

/// What may be said of a difference in hypervolume, at the 5 % level.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Better,
    Worse,
    /// The interval holds 0.
    NotSignificant,
    /// The same in every cell.
    Equal,
    /// Fewer than two independent seeds.
    OneSeed,
    /// Neither has a run inside the reference box.
    Outside,
    /// No reference point, so no hypervolume.
    Unknown,
}

impl Outcome {
    pub fn verdict(&self) -> Verdict {
        match self.hv_difference {
            None => Verdict::Unknown,
            Some(_)
                if [self.hv_baseline, self.hv_candidate]
                    .iter()
                    .flatten()
                    .all(|volume| volume.mean == 0.0) =>
            {
                Verdict::Outside
            }
            Some(_) if self.wins + self.losses == 0 => Verdict::Equal,
            Some(Estimate { interval: None, .. }) => Verdict::OneSeed,
            Some(Estimate { interval: Some((low, _)), .. }) if low > 0.0 => Verdict::Better,
            Some(Estimate { interval: Some((_, high)), .. }) if high < 0.0 => Verdict::Worse,
            Some(_) => Verdict::NotSignificant,
        }
    }

    /// Difference in mean hypervolume, in percent of the baseline's; None when that is 0.
    pub fn hv_percent(&self) -> Option<f64> {
        let baseline = self.hv_baseline?.mean;
        (baseline > 0.0).then_some(100.0 * self.hv_difference?.mean / baseline)
    }

    /// By how many percent the candidate is worse, in the worse of hypervolume and cost at equal latency; not
    /// positive if in neither. None when neither has a run inside the reference box.
    pub fn worse_by_percent(&self) -> Option<f64> {
        let gains = self.hv_difference.is_some_and(|difference| difference.mean > 0.0);
        let volume = self.hv_percent().map(|percent| -percent).or(gains.then_some(f64::NEG_INFINITY));
        let cost = self.cost_at_equal_latency.map(|change| change.percent);
        [volume, cost].into_iter().flatten().max_by(f64::total_cmp)
    }
}

/// Compares stored sweeps as chosen. Fails when a named family or sweep does not exist, or there is nothing
/// to set against each other.
pub fn compare(sweeps: &[Sweep], choice: &Choice) -> Result<Comparison> {
    let Some(first) = sweeps.first() else { bail!("no sweep to compare") };
    let objectives = first.manifest.objectives.clone();
    let analyses = sweeps
        .iter()
        .map(|sweep| analyse(&sweep.runs, &objectives).map_err(|error| error.context(sweep.label.clone())))
        .collect::<Result<Vec<_>>>()?;
    let (contestants, pairs) = contestants::choose(sweeps, &analyses, choice)?;
    let keys = contestants::cluster_keys(sweeps, &objectives)?;
    let cells =
        contestants.iter().map(|contestant| runs_by_cell(contestant, &analyses, &keys)).collect::<Vec<_>>();
    let mut workloads: Vec<ComparedWorkload> = Vec::new();
    for name in analyses.iter().flat_map(|analysis| &analysis.workloads).map(|workload| &workload.name) {
        if workloads.iter().all(|known| known.name != *name) {
            let reference = objectives.reference.or_else(|| worst(&cells, name));
            workloads.push(ComparedWorkload { name: name.clone(), reference });
        }
    }
    let mut families: Vec<Family> = analyses.iter().flat_map(|analysis| analysis.families.clone()).collect();
    families.sort();
    families.dedup();
    let mut comparison = Comparison {
        objectives,
        contestants,
        families,
        cells,
        workloads,
        outcomes: Vec::new(),
        warnings: Vec::new(),
    };
    let same_arrivals = warnings::workloads_without_chance(sweeps);
    for (baseline, candidate) in pairs {
        for workload in 0..comparison.workloads.len() {
            let name = &comparison.workloads[workload].name;
            match comparison.outcome(baseline, candidate, workload, !same_arrivals.contains(name)) {
                Some(outcome) => comparison.outcomes.push(outcome),
                None => {
                    let [baseline, candidate] =
                        [baseline, candidate].map(|number| &comparison.contestants[number].label);
                    let warning = format!(
                        "{candidate} and {baseline} have no cluster and seed in common on `{name}` and are not compared there."
                    );
                    comparison.warnings.push(warning);
                }
            }
        }
    }
    if comparison.outcomes.is_empty() {
        bail!("nothing to compare: no two runs have workload, cluster settings and seed in common");
    }
    let found = warnings::find(sweeps, &comparison, &same_arrivals);
    comparison.warnings.extend(found);
    Ok(comparison)
}

fn runs_by_cell(
    contestant: &Contestant,
    analyses: &[Analysis],
    keys: &[Vec<Cluster>],
) -> BTreeMap<CellKey, CellRuns> {
    let mut cells: BTreeMap<CellKey, CellRuns> = BTreeMap::new();
    let analysis = &analyses[contestant.sweep];
    for (row, run) in analysis.runs.iter().enumerate() {
        if contestant.family.as_ref().is_some_and(|family| analysis.label(run.family) != family) {
            continue;
        }
        let key =
            (analysis.workloads[run.workload].name.clone(), keys[contestant.sweep][row].clone(), run.seed);
        let cell = cells.entry(key).or_default();
        cell.runs += 1;
        cell.points.extend(run.point);
    }
    cells
}

fn worst(cells: &[BTreeMap<CellKey, CellRuns>], workload: &str) -> Option<Reference> {
    let points =
        cells.iter().flatten().filter(|(key, _)| key.0 == workload).flat_map(|(_, cell)| &cell.points);
    let (latency, cost) =
        points.fold((0.0f64, 0.0f64), |(l, c), point| (l.max(point.latency), c.max(point.cost)));
    (latency > 0.0 && cost > 0.0).then_some(Reference { latency, cost })
}

impl Comparison {
    /// The front of a contestant on a workload, all its clusters together, for each seed.
    pub fn fronts(&self, contestant: usize, workload: usize) -> BTreeMap<i64, Vec<Point>> {
        let mut points: BTreeMap<i64, Vec<Point>> = BTreeMap::new();
        for ((name, _, seed), cell) in &self.cells[contestant] {
            if *name == self.workloads[workload].name && !cell.points.is_empty() {
                points.entry(*seed).or_default().extend(&cell.points);
            }
        }
        let front = |points: Vec<Point>| non_dominated(&points).into_iter().map(|i| points[i]).collect();
        points.into_iter().map(|(seed, points)| (seed, front(points))).collect()
    }

    fn by_seed(&self, contestant: usize, workload: &str) -> BTreeMap<i64, Vec<ClusterRuns<'_>>> {
        let mut seeds: BTreeMap<i64, Vec<ClusterRuns>> = BTreeMap::new();
        for ((_, cluster, seed), runs) in
            self.cells[contestant].iter().filter(|((name, ..), _)| name == workload)
        {
            seeds.entry(*seed).or_default().push((cluster, runs));
        }
        seeds
    }

    fn outcome(
        &self,
        baseline: usize,
        candidate: usize,
        workload: usize,
        independent: bool,
    ) -> Option<Outcome> {
        let ComparedWorkload { name, reference } = &self.workloads[workload];
        let sides = [baseline, candidate].map(|contestant| self.by_seed(contestant, name));
        let mut paired: Vec<(i64, [CellRuns; 2])> = Vec::new();
        let mut unpaired = [0, 0];
        let seeds = sides.iter().flat_map(BTreeMap::keys).copied().collect::<BTreeSet<_>>();
        for seed in seeds {
            let cells = [0, 1].map(|side| sides[side].get(&seed).map_or(&[][..], Vec::as_slice));
            let (pairs, left_out) = pair(cells);
            paired.extend(pairs.into_iter().map(|pair| (seed, pair)));
            (0..2).for_each(|side| unpaired[side] += left_out[side]);
        }
        if paired.is_empty() {
            return None;
        }
        let mut hv: [BySeed; 2] = Default::default();
        let (mut difference, mut cost, mut latency) =
            (BySeed::default(), BySeed::default(), BySeed::default());
        let (mut wins, mut losses, mut ties) = (0, 0, 0);
        for (seed, cells) in &paired {
            let Some(reference) = *reference else { continue };
            let seed = *seed;
            let volumes = cells.each_ref().map(|cell| hv_exact(&cell.points, reference));
            hv[0].add(seed, Some(volumes[0]));
            hv[1].add(seed, Some(volumes[1]));
            difference.add(seed, Some(volumes[1] - volumes[0]));
            match volumes[1] - volumes[0] {
                d if d.abs() <= TIE => ties += 1,
                d if d > 0.0 => wins += 1,
                _ => losses += 1,
            }
            let inside = |point: &&Point| point.latency < reference.latency && point.cost < reference.cost;
            let boxed =
                cells.each_ref().map(|cell| cell.points.iter().filter(inside).copied().collect::<Vec<_>>());
            cost.add(seed, mean_log_ratio(&boxed[0], &boxed[1], At::EqualLatency));
            latency.add(seed, mean_log_ratio(&boxed[0], &boxed[1], At::EqualCost));
        }
        let total = |side: usize| paired.iter().map(|(_, cells)| cells[side].runs).sum();
        Some(Outcome {
            workload,
            baseline,
            candidate,
            cells: paired.len(),
            unpaired,
            seeds: paired.iter().map(|(seed, _)| seed).collect::<BTreeSet<_>>().len(),
            runs: [total(0), total(1)],
            hv_baseline: hv[0].estimate(independent),
            hv_candidate: hv[1].estimate(independent),
            hv_difference: difference.estimate(independent),
            cost_at_equal_latency: cost.change(independent),
            latency_at_equal_cost: latency.change(independent),
            wins,
            losses,
            ties,
        })
    }
}

type ClusterRuns<'a> = (&'a Cluster, &'a CellRuns);

/// Pairs the clusters of two sides, and counts those of either that find no partner.
///
/// A cluster in which a setting does not apply takes part in each that has a value for it.
fn pair(sides: [&[ClusterRuns]; 2]) -> (Vec<[CellRuns; 2]>, [usize; 2]) {
    let covers = |general: &Cluster, cluster: &Cluster| {
        general.iter().zip(cluster).all(|(a, b)| a.is_none() || a == b)
    };
    let clusters =
        sides.iter().flat_map(|side| side.iter().map(|(cluster, _)| *cluster)).collect::<BTreeSet<_>>();
    let specific =
        |cluster: &&&Cluster| !clusters.iter().any(|other| other != *cluster && covers(cluster, other));
    let (mut pairs, mut used) = (Vec::new(), [BTreeSet::new(), BTreeSet::new()]);
    for cluster in clusters.iter().filter(specific) {
        let taking_part =
            sides.map(|side| side.iter().filter(|(general, _)| covers(general, cluster)).collect::<Vec<_>>());
        if taking_part.iter().any(Vec::is_empty) {
            continue;
        }
        (0..2).for_each(|side| used[side].extend(taking_part[side].iter().map(|(general, _)| *general)));
        pairs.push(taking_part.map(|side| CellRuns {
            points: side.iter().flat_map(|(_, cell)| cell.points.iter().copied()).collect(),
            runs: side.iter().map(|(_, cell)| cell.runs).sum(),
        }));
    }
    (pairs, [0, 1].map(|side| sides[side].len() - used[side].len()))
}

/// Values of cells, by seed.
#[derive(Default)]
struct BySeed(BTreeMap<i64, Vec<f64>>);

impl BySeed {
    fn add(&mut self, seed: i64, value: Option<f64>) {
        if let Some(value) = value {
            self.0.entry(seed).or_default().push(value);
        }
    }

    /// Over the seeds' means; without an interval where the seeds are not `independent`.
    fn estimate(&self, independent: bool) -> Option<Estimate> {
        let means = self
            .0
            .values()
            .map(|values| values.iter().sum::<f64>() / values.len() as f64)
            .collect::<Vec<_>>();
        estimate(&means)
            .map(|estimate| Estimate { interval: estimate.interval.filter(|_| independent), ..estimate })
    }

    /// Of values that are logarithms of ratios.
    fn change(&self, independent: bool) -> Option<Change> {
        let percent = |logarithm: f64| 100.0 * libm::expm1(logarithm);
        let estimate = self.estimate(independent)?;
        let interval = estimate.interval.map(|(low, high)| (percent(low), percent(high)));
        Some(Change { percent: percent(estimate.mean), interval, cells: self.0.values().map(Vec::len).sum() })
    }
}

#[cfg(test)]
mod tests;
