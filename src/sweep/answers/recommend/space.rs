//! The settings of a grid as a space to search: arms, and coordinates within each.
//!
//! An arm is one family in one way: one entry of `autoscalers`, one value of every axis that is no number.
//! Within an arm the axes of numbers, of the autoscaler and of the cluster, are coordinates, in order of
//! their values.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::sweep::grid::{Coordinates, Grid};

/// A setting: what stays when workload and seed are left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    pub cluster: u64,
    pub autoscaler: usize,
    pub combination: u64,
}

/// Settings that differ by numbers alone.
#[derive(Debug, Clone)]
pub struct Arm {
    /// Values of each axis.
    pub sizes: Vec<usize>,
    points: BTreeMap<Vec<usize>, Candidate>,
}

impl Arm {
    pub fn len(&self) -> usize {
        self.points.len()
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    /// The setting at these coordinates. Where an axis is nested in another not every place holds one.
    pub fn at(&self, place: &[usize]) -> Option<Candidate> {
        self.points.get(place).copied()
    }

    pub fn places(&self) -> impl Iterator<Item = (&Vec<usize>, &Candidate)> {
        self.points.iter()
    }

    /// The place nearest to the middle.
    pub fn middle(&self) -> Vec<usize> {
        let wanted: Vec<usize> = self.sizes.iter().map(|size| (size - 1) / 2).collect();
        let distance =
            |place: &Vec<usize>| place.iter().zip(&wanted).map(|(a, b)| a.abs_diff(*b)).sum::<usize>();
        self.points.keys().min_by_key(|place| distance(place)).cloned().unwrap_or(wanted)
    }
}

/// What a combination of a section says: which arm, and its numbers by path.
fn split(varying: &[(String, Value)]) -> (String, Vec<(String, f64)>) {
    let (mut arm, mut numbers) = (String::new(), Vec::new());
    for (path, value) in varying {
        match value.as_f64() {
            Some(number) => {
                arm += &format!("{path};");
                numbers.push((path.clone(), number));
            }
            None => arm += &format!("{path}={value};"),
        }
    }
    (arm, numbers)
}

/// All arms of a grid, in the order of the file.
pub fn arms(grid: &Grid) -> Vec<Arm> {
    let clusters: Vec<_> =
        (0..grid.cluster.count()).map(|index| (index, split(&grid.cluster.varying(index)))).collect();
    let mut arms = Vec::new();
    for (autoscaler, section) in grid.autoscalers.iter().enumerate() {
        let mut numbers: BTreeMap<(String, String), usize> = BTreeMap::new();
        let mut found: Vec<Vec<(Vec<f64>, Candidate)>> = Vec::new();
        for combination in 0..section.count() {
            let (own_arm, own) = split(&section.varying(combination));
            for (cluster, (cluster_arm, others)) in &clusters {
                let number = *numbers.entry((own_arm.clone(), cluster_arm.clone())).or_insert_with(|| {
                    found.push(Vec::new());
                    found.len() - 1
                });
                let values = own.iter().chain(others).map(|(_, number)| *number).collect();
                found[number].push((values, Candidate { cluster: *cluster, autoscaler, combination }));
            }
        }
        arms.extend(found.into_iter().map(arm));
    }
    arms
}

fn arm(settings: Vec<(Vec<f64>, Candidate)>) -> Arm {
    let axes = settings.first().map_or(0, |(values, _)| values.len());
    let values: Vec<Vec<f64>> = (0..axes)
        .map(|axis| {
            let mut values: Vec<f64> = settings.iter().map(|(values, _)| values[axis]).collect();
            values.sort_by(f64::total_cmp);
            values.dedup();
            values
        })
        .collect();
    let place = |of: &[f64]| {
        of.iter().zip(&values).map(|(value, all)| all.partition_point(|other| other < value)).collect()
    };
    let mut points = BTreeMap::new();
    for (values, candidate) in &settings {
        // A value that stands twice on an axis is one setting.
        points.entry(place(values)).or_insert(*candidate);
    }
    Arm { sizes: values.iter().map(Vec::len).collect(), points }
}

/// Workload entry and combination, and seed: a setting has to keep its limits on every one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pair {
    pub workload: usize,
    pub combination: u64,
    pub seed: usize,
}

/// Every pair: all workloads under the first seed, then all under the next.
pub fn pairs(grid: &Grid) -> Vec<Pair> {
    let workloads: Vec<(usize, u64)> = grid
        .workloads
        .iter()
        .enumerate()
        .flat_map(|(workload, section)| (0..section.count()).map(move |index| (workload, index)))
        .collect();
    let of_seed = |seed: usize| {
        workloads.iter().map(move |&(workload, combination)| Pair { workload, combination, seed })
    };
    (0..grid.seeds.len()).flat_map(of_seed).collect()
}

/// The cell of a setting on a pair.
pub fn cell(grid: &Grid, candidate: Candidate, pair: Pair) -> u64 {
    grid.index(&Coordinates {
        workload: pair.workload,
        workload_combination: pair.combination,
        seed: pair.seed,
        cluster_combination: candidate.cluster,
        autoscaler: candidate.autoscaler,
        autoscaler_combination: candidate.combination,
    })
}

/// Number `index` of a sequence in [0, 1) that fills it evenly, whatever its length (van der Corput, in base
/// `base`).
pub fn spread(mut index: u64, base: u64) -> f64 {
    let (mut value, mut digit) = (0.0, 1.0 / base as f64);
    while index > 0 {
        value += (index % base) as f64 * digit;
        index /= base;
        digit /= base as f64;
    }
    value
}
