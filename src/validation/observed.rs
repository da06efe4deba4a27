//! What was measured of single requests beside what a simulation says, and the overheads with which they are
//! nearest.

use std::collections::BTreeMap;

use anyhow::Result;

use super::fitting::{self, Row, total};
use crate::hardware::Overheads;

/// What is fitted, in the order of [`values`], with steps whose effect stands out: batches form otherwise
/// after any step, and single requests are served a little earlier or later by chance.
pub const COUNT: usize = 5;
pub const NAMES: [&str; COUNT] =
    ["kernel_time_factor", "step_ms", "per_sequence_us", "api_ms", "prefill_us_per_token"];
const SCALES: [f64; COUNT] = [0.1, 1.0, 20.0, 4.0, 4.0];

const ROUNDS: usize = 40;
const LEAST_GAIN: f64 = 2e-4;
/// Steps by slopes and searches in turn; an end where both together lower the error by less than so much of
/// it.
const TURNS: usize = 4;
const TURN_GAIN: f64 = 0.02;
/// A search ends with steps of so much of the first ones.
const LEAST_SHARE: f64 = 0.06;
const LENGTHS: [f64; 4] = [1.0, 0.4, 0.16, 0.05];
/// Half a 95 % interval, in standard errors.
const INTERVAL: f64 = 1.96;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quantity {
    Ttft,
    Tpot,
    E2e,
}

impl Quantity {
    pub const ALL: [Self; 3] = [Self::E2e, Self::Ttft, Self::Tpot];

    /// As a heading.
    pub fn name(self) -> &'static str {
        match self {
            Self::E2e => "end-to-end latency",
            Self::Ttft => "time to first token",
            Self::Tpot => "time per output token",
        }
    }

    fn weight(self) -> f64 {
        if self == Self::Ttft { 0.7 } else { 1.0 }
    }
}

/// One request's time of one kind, measured and simulated.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Observed {
    /// Of load, counted over everything that is fitted to.
    pub level: usize,
    /// Consecutive requests that count as one, and are left out together; counted over all levels.
    pub block: usize,
    /// First or second half of its level.
    pub half: usize,
    pub quantity: Quantity,
    pub measured_s: f64,
    pub simulated_s: f64,
}

impl Observed {
    fn error(&self) -> f64 {
        libm::log(self.simulated_s / self.measured_s)
    }
}

/// Median of the absolute relative errors of one quantity; `None` without any.
pub fn median_error(observed: &[Observed], quantity: Quantity) -> Option<f64> {
    let of_quantity = observed.iter().filter(|one| one.quantity == quantity);
    let mut errors: Vec<f64> =
        of_quantity.map(|one| (one.simulated_s / one.measured_s - 1.0).abs()).collect();
    errors.sort_by(f64::total_cmp);
    Some(0.5 * (errors.get(errors.len() / 2)? + errors[(errors.len() - 1) / 2]))
}

/// Mean of a quantity at a level, measured and simulated; `None` without any.
pub fn means(observed: &[Observed], level: usize, quantity: Quantity) -> Option<[f64; 2]> {
    let selected: Vec<&Observed> =
        observed.iter().filter(|one| one.level == level && one.quantity == quantity).collect();
    let count = selected.len() as f64;
    let mean = |value: fn(&Observed) -> f64| selected.iter().map(|one| value(one)).sum::<f64>() / count;
    (count > 0.0).then(|| [mean(|one| one.measured_s), mean(|one| one.simulated_s)])
}

pub fn values(overheads: &Overheads) -> [f64; COUNT] {
    let Overheads { kernel_time_factor, step_ms, per_sequence_us, api_ms, prefill_us_per_token, .. } =
        *overheads;
    [kernel_time_factor, step_ms, per_sequence_us, api_ms, prefill_us_per_token]
}

/// These overheads with other values.
pub fn with(overheads: &Overheads, values: &[f64]) -> Overheads {
    let &[kernel_time_factor, step_ms, per_sequence_us, api_ms, prefill_us_per_token] = values else {
        unreachable!("five values")
    };
    let kernel_time_factor = kernel_time_factor.max(1e-3);
    Overheads { kernel_time_factor, step_ms, per_sequence_us, api_ms, prefill_us_per_token, ..*overheads }
}

/// Simulates everything with given overheads. Which observations there are, and in which order, depends on
/// nothing.
pub type Observe<'a> = dyn Fn(&Overheads) -> Result<Vec<Observed>> + Sync + 'a;

/// Overheads with what they come to.
struct Place {
    overheads: Overheads,
    observed: Vec<Observed>,
    rows: Vec<Row>,
    error: f64,
}

/// Fits overheads to observations: least absolute errors of the mean logarithms of blocks, every level of
/// load weighing alike.
pub struct Fitter<'a> {
    pub observe: &'a Observe<'a>,
    pub levels: usize,
}

impl Fitter<'_> {
    /// From `start` to where the observations `wanted` are nearest, by the constants that are `told`.
    ///
    /// Errors bend little in the constants, so steps by their slopes come near. But batches form otherwise
    /// after any step, and where constants make up for each other the slopes are chance: there a search goes
    /// on that needs none, until neither helps.
    pub fn fit(
        &self,
        start: &Overheads,
        told: [bool; COUNT],
        wanted: impl Fn(&Observed) -> bool,
    ) -> Result<Overheads> {
        let mut place = self.place(*start, &wanted)?;
        for _ in 0..TURNS {
            let before = place.error;
            place = self.descend(place, told, &wanted)?;
            place = self.search(place, told, &wanted)?;
            if place.error > before * (1.0 - TURN_GAIN) {
                break;
            }
        }
        Ok(place.overheads)
    }

    fn place(&self, overheads: Overheads, wanted: &impl Fn(&Observed) -> bool) -> Result<Place> {
        let observed = (self.observe)(&overheads)?;
        let rows = self.rows(&observed, wanted);
        Ok(Place { overheads, error: total(&rows), observed, rows })
    }

    /// Steps by slopes, until none helps.
    fn descend(
        &self,
        mut place: Place,
        told: [bool; COUNT],
        wanted: &impl Fn(&Observed) -> bool,
    ) -> Result<Place> {
        for _ in 0..ROUNDS {
            let slopes = self.slopes(&place.overheads, told, &place.observed, wanted)?;
            let mut better = None;
            for length in LENGTHS {
                let moved = fitting::step(&values(&place.overheads), &SCALES, &slopes, &place.rows, length);
                let there = self.place(with(&place.overheads, &moved), wanted)?;
                if there.error < place.error * (1.0 - LEAST_GAIN) {
                    better = Some(there);
                    break;
                }
            }
            let Some(better) = better else { break };
            place = better;
        }
        Ok(place)
    }

    /// Steps there and back along the directions that errors know, shorter and shorter, until none helps.
    fn search(
        &self,
        mut place: Place,
        told: [bool; COUNT],
        wanted: &impl Fn(&Observed) -> bool,
    ) -> Result<Place> {
        let slopes = self.slopes(&place.overheads, told, &place.observed, wanted)?;
        let directions = fitting::directions(&SCALES, &slopes, &place.rows);
        let mut share = 1.0;
        while share >= LEAST_SHARE {
            let mut helped = false;
            for direction in &directions {
                for length in [share, -share] {
                    let mut moved = values(&place.overheads);
                    moved
                        .iter_mut()
                        .zip(direction)
                        .for_each(|(value, part)| *value = (*value + length * part).max(0.0));
                    let candidate = with(&place.overheads, &moved);
                    if candidate == place.overheads {
                        continue;
                    }
                    let there = self.place(candidate, wanted)?;
                    if there.error < place.error * (1.0 - LEAST_GAIN) {
                        (place, helped) = (there, true);
                        break;
                    }
                }
            }
            if !helped {
                share *= 0.5;
            }
        }
        Ok(place)
    }

    /// Errors of the observations wanted: one a block and quantity, the mean of the logarithms. Single
    /// requests would tell slopes that are mostly chance, and a fit to them hardly moves.
    fn blocks(&self, observed: &[Observed], wanted: &impl Fn(&Observed) -> bool) -> Vec<(usize, Row)> {
        let mut blocks: BTreeMap<(usize, Quantity), (usize, f64, f64)> = BTreeMap::new();
        for one in observed.iter().filter(|one| wanted(one)) {
            let (_, count, sum) = blocks.entry((one.block, one.quantity)).or_insert((one.level, 0.0, 0.0));
            (*count, *sum) = (*count + 1.0, *sum + one.error());
        }
        let mut of_level = vec![0.0; self.levels];
        blocks.values().for_each(|&(level, ..)| of_level[level] += 1.0);
        let row = |(&(block, quantity), &(level, count, sum)): (&(usize, Quantity), &(usize, f64, f64))| {
            (block, Row { weight: quantity.weight() * 100.0 / of_level[level], error: sum / count })
        };
        blocks.iter().map(row).collect()
    }

    fn rows(&self, observed: &[Observed], wanted: &impl Fn(&Observed) -> bool) -> Vec<Row> {
        self.blocks(observed, wanted).into_iter().map(|(_, row)| row).collect()
    }

    /// Slopes of errors by constant; none of what is not told.
    pub fn slopes(
        &self,
        overheads: &Overheads,
        told: [bool; COUNT],
        observed: &[Observed],
        wanted: &impl Fn(&Observed) -> bool,
    ) -> Result<Vec<Vec<f64>>> {
        let here = self.rows(observed, wanted);
        let mut slopes = Vec::new();
        for (constant, step) in SCALES.into_iter().enumerate() {
            if !told[constant] {
                slopes.push(vec![0.0; here.len()]);
                continue;
            }
            let mut moved = values(overheads);
            moved[constant] += step;
            let there = self.rows(&(self.observe)(&with(overheads, &moved))?, wanted);
            slopes.push(
                there.iter().zip(&here).map(|(there, here)| (there.error - here.error) / step).collect(),
            );
        }
        Ok(slopes)
    }

    /// 95 % intervals of a fit to everything, by leaving out one block at a time.
    pub fn intervals(
        &self,
        fit: &Overheads,
        told: [bool; COUNT],
        observed: &[Observed],
    ) -> Result<[[f64; 2]; COUNT]> {
        let everything = |_: &Observed| true;
        let slopes = self.slopes(fit, told, observed, &everything)?;
        let rows = self.blocks(observed, &everything);
        let blocks = observed.iter().map(|one| one.block + 1).max().unwrap_or(0);
        let without = |block: usize| -> Vec<f64> {
            let kept: Vec<usize> = (0..rows.len()).filter(|&i| rows[i].0 != block).collect();
            let slopes: Vec<Vec<f64>> =
                slopes.iter().map(|slopes| kept.iter().map(|&i| slopes[i]).collect()).collect();
            let rows: Vec<Row> = kept.iter().map(|&i| rows[i].1).collect();
            fitting::step(&values(fit), &SCALES, &slopes, &rows, 1.0)
        };
        let replicates: Vec<Vec<f64>> = (0..blocks).map(without).collect();
        let count = replicates.len() as f64;
        Ok([0, 1, 2, 3, 4].map(|constant| {
            let value = values(fit)[constant];
            let mean = replicates.iter().map(|values| values[constant]).sum::<f64>() / count;
            let squares: f64 = replicates.iter().map(|values| (values[constant] - mean).powi(2)).sum();
            let half = INTERVAL * ((count - 1.0) / count * squares).sqrt();
            [(value - half).max(0.0), value + half]
        }))
    }
}

/// The share of a constant's effect on all errors that no mix of the others' has.
pub fn own_share(slopes: &[Vec<f64>], constant: usize) -> f64 {
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    let orthogonal = |column: &[f64], basis: &[Vec<f64>]| {
        let mut rest = column.to_vec();
        for other in basis {
            let along = dot(&rest, other);
            rest.iter_mut().zip(other).for_each(|(rest, other)| *rest -= along * other);
        }
        rest
    };
    let mut basis: Vec<Vec<f64>> = Vec::new();
    for column in slopes.iter().enumerate().filter(|(other, _)| *other != constant).map(|(_, column)| column)
    {
        let rest = orthogonal(column, &basis);
        let length = dot(&rest, &rest).sqrt();
        if length > 1e-9 * dot(column, column).sqrt() {
            basis.push(rest.into_iter().map(|value| value / length).collect());
        }
    }
    let whole = dot(&slopes[constant], &slopes[constant]).sqrt();
    let rest = orthogonal(&slopes[constant], &basis);
    if whole > 0.0 { dot(&rest, &rest).sqrt() / whole } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_what_others_cannot_make_up_for() {
        let slopes = [vec![1.0, 1.0, 0.0], vec![1.0, 0.0, 0.0], vec![0.0, 2.0, 0.0], vec![3.0, 0.0, 4.0]];
        assert!(own_share(&slopes, 0) < 1e-12, "the sum of two others");
        assert!((own_share(&slopes, 3) - 0.8).abs() < 1e-12);
        assert_eq!(own_share(&[vec![0.0; 3], vec![1.0; 3]], 0), 0.0);
    }
}
