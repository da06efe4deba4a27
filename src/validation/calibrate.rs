//! Engine overheads from measured runs: a few numbers for all runs together, none for any one of them.
//!
//! Fitted are `step_ms`, `per_sequence_us`, `sampling_ns_per_logit` and `api_ms`, common to all, and a `kernel_time_factor` for each
//! device. Least absolute error of the logarithms of simulated over measured values: mean time per output token and mean end-to-end
//! latency with weight 1, mean time to first token 0.7, P99 of end-to-end latency 0.3, every judged stage alike. Simulated values hardly
//! bend in these parameters, so Gauss-Newton steps from differences do: each iteration costs one simulation of all runs for each
//! parameter. Parameters stay at 0 where they would turn negative.
//!
//! *Leaving a model out* is a fit of its own, from the same start and by the same steps, to the runs of all other models; the model's
//! runs are then simulated with what results. Its measurements have no say in that.

use anyhow::{Result, bail};

use super::{Compared, Measured, Replay, compare};
use crate::hardware::{Overheads, catalog, sampling_on};

/// Names, units in them, of what is fitted besides one factor a device; a step to take differences over.
const COMMON: [(&str, f64); 4] = [("step_ms", 0.2), ("per_sequence_us", 4.0), ("sampling_ns_per_logit", 0.1), ("api_ms", 1.0)];
const FACTOR_STEP: f64 = 0.02;
const WEIGHTS: [(&str, f64); 4] = [("tpot_mean", 1.0), ("e2e_mean", 1.0), ("ttft_mean", 0.7), ("e2e_p99", 0.3)];
/// Errors below this count as none when weights are taken for the next round.
const SMALL: f64 = 1e-3;
const REWEIGHTINGS: usize = 60;
/// Rounds of a fit; fewer where one lowers the error by less than [`LEAST_GAIN`] of it.
const ROUNDS: usize = 6;
const LEAST_GAIN: f64 = 1e-3;
/// Parts of a step that are tried, the whole one first.
const LENGTHS: [f64; 3] = [1.0, 0.4, 0.16];

/// Parameters: the common ones, then a factor for each device.
#[derive(Debug, Clone, PartialEq)]
pub struct Fit {
    pub devices: Vec<&'static str>,
    values: Vec<f64>,
}

impl Fit {
    /// Where every fit starts: round numbers.
    fn start(devices: &[&'static str]) -> Self {
        let mut values = vec![0.1, 0.0, 0.2, 5.0];
        values.resize(COMMON.len() + devices.len(), 1.0);
        Self { devices: devices.to_vec(), values }
    }

    /// The overheads of a device; without a fit of its own with a factor of 1.
    pub fn overheads(&self, device: &str) -> Overheads {
        let factor = self.devices.iter().position(|known| *known == device).map_or(1.0, |index| self.values[COMMON.len() + index]);
        let [step_ms, per_sequence_us, sampling_ns_per_logit, api_ms] = [0, 1, 2, 3].map(|index| self.values[index]);
        let sampling_ns_per_logit =
            catalog::device(device).map_or(sampling_ns_per_logit, |device| sampling_on(device, sampling_ns_per_logit));
        Overheads { kernel_time_factor: factor, step_ms, per_sequence_us, sampling_ns_per_logit, api_ms }
    }

    fn steps(&self) -> Vec<f64> {
        COMMON.iter().map(|(_, step)| *step).chain(self.devices.iter().map(|_| FACTOR_STEP)).collect()
    }
}

/// A fit to all runs, and how far from each run simulations are that know nothing of its model.
#[derive(Debug)]
pub struct Calibration {
    pub fit: Fit,
    /// Every run with the fit to all.
    pub all: Vec<Compared>,
    /// The fit to what remains without each model.
    pub without: Vec<(String, Fit)>,
    /// Every run with the fit that leaves its model out.
    pub left_out: Vec<Compared>,
}

struct Row {
    weight: f64,
    error: f64,
}

fn rows(compared: &[Compared]) -> Vec<Row> {
    let weight = |row: &Compared| WEIGHTS.iter().find(|(metric, _)| *metric == row.metric && row.judged).map(|(_, weight)| *weight);
    let row = |row: &Compared| Some(Row { weight: weight(row)?, error: (row.simulated_ms / row.measured_ms).ln() });
    compared.iter().filter_map(row).collect()
}

fn total(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.weight * row.error.abs()).sum()
}

/// Fits overheads to all runs, then anew to what remains when each model in turn is left out. `told` hears of every round: the model
/// left out, the round's number, the mean error so far.
///
/// Errors: there is nothing to fit to; a simulation gives up.
pub fn calibrate(
    replays: &[Replay],
    measured: &Measured,
    seeds: &[u64],
    mut told: impl FnMut(Option<&str>, usize, f64),
) -> Result<Calibration> {
    let all: Vec<&Replay> = replays.iter().collect();
    let mut devices: Vec<&'static str> = replays.iter().map(Replay::device).collect();
    devices.sort_unstable();
    devices.dedup();
    let bench = Bench { measured, seeds };
    let (fit, compared) = bench.fitted(&all, Fit::start(&devices), |round, error| told(None, round, error))?;
    if rows(&compared).is_empty() {
        bail!("no run with a measured mean of a judged stage: nothing to fit to");
    }
    let mut models: Vec<&String> = replays.iter().map(|replay| &replay.experiment.model).collect();
    models.sort();
    models.dedup();
    let (mut without, mut left_out) = (Vec::new(), Vec::new());
    for model in models {
        let (own, others): (Vec<&Replay>, Vec<&Replay>) = all.iter().partition(|replay| replay.experiment.model == *model);
        let (fit, _) = bench.fitted(&others, Fit::start(&devices), |round, error| told(Some(model), round, error))?;
        left_out.extend(bench.simulated(&own, &fit)?);
        without.push((model.clone(), fit));
    }
    Ok(Calibration { fit, all: compared, without, left_out })
}

/// What simulations are compared with, and the seeds they run under.
struct Bench<'a> {
    measured: &'a Measured,
    seeds: &'a [u64],
}

impl Bench<'_> {
    fn simulated(&self, runs: &[&Replay], fit: &Fit) -> Result<Vec<Compared>> {
        compare(runs, self.measured, self.seeds, |replay| replay.overheads(&fit.overheads(replay.device())))
    }

    /// Steps from `fit` until the error falls no more, and the runs as simulated there. Nothing but `runs` has a say in it.
    fn fitted(&self, runs: &[&Replay], mut fit: Fit, mut told: impl FnMut(usize, f64)) -> Result<(Fit, Vec<Compared>)> {
        let mut compared = self.simulated(runs, &fit)?;
        for round in 1..=ROUNDS {
            let errors = rows(&compared);
            if errors.is_empty() {
                break;
            }
            told(round, total(&errors) / errors.iter().map(|row| row.weight).sum::<f64>());
            let mut slopes = Vec::new();
            for (index, step) in fit.steps().into_iter().enumerate() {
                let mut moved = fit.clone();
                moved.values[index] += step;
                let there = rows(&self.simulated(runs, &moved)?);
                slopes.push(there.iter().zip(&errors).map(|(there, here)| (there.error - here.error) / step).collect::<Vec<f64>>());
            }
            let mut better = None;
            for length in LENGTHS {
                let candidate = step(&fit, &slopes, &errors, length);
                let there = self.simulated(runs, &candidate)?;
                if total(&rows(&there)) < total(&errors) * (1.0 - LEAST_GAIN) {
                    better = Some((candidate, there));
                    break;
                }
            }
            let Some(better) = better else { break };
            (fit, compared) = better;
        }
        Ok((fit, compared))
    }
}

/// The fit moved to where the errors, taken as linear, are least; `length` of the way.
fn step(fit: &Fit, slopes: &[Vec<f64>], errors: &[Row], length: f64) -> Fit {
    let parameters = slopes.len();
    let scales = fit.steps();
    // A parameter no row knows of stays where it is: the factor of a device without runs at 1.
    let mut free: Vec<bool> = (0..parameters).map(|p| slopes[p].iter().any(|slope| slope.abs() * scales[p] > 1e-7)).collect();
    let mut moved = vec![0.0; parameters];
    for _ in 0..REWEIGHTINGS {
        let mut normal = vec![vec![0.0; parameters]; parameters];
        let mut right = vec![0.0; parameters];
        for (i, row) in errors.iter().enumerate() {
            let error = row.error + (0..parameters).map(|p| slopes[p][i] * moved[p]).sum::<f64>();
            let weight = row.weight / error.abs().max(SMALL);
            for p in 0..parameters {
                let slope = slopes[p][i] * scales[p];
                right[p] -= weight * slope * row.error;
                (0..parameters).for_each(|q| normal[p][q] += weight * slope * slopes[q][i] * scales[q]);
            }
        }
        for p in 0..parameters {
            normal[p][p] *= 1.0 + 1e-9;
            if !free[p] {
                // Held where it is: at its bound, or where it was.
                normal[p].fill(0.0);
                (normal[p][p], right[p]) = (1.0, moved[p] / scales[p]);
            }
        }
        for (p, solved) in solve(normal, right).into_iter().enumerate() {
            moved[p] = solved * scales[p];
            if fit.values[p] + moved[p] < 0.0 {
                (moved[p], free[p]) = (-fit.values[p], false);
            }
        }
    }
    let mut next = fit.clone();
    next.values.iter_mut().zip(&moved).for_each(|(value, moved)| *value = (*value + length * moved).max(0.0));
    next
}

/// Solves a small linear system by elimination with pivots; a direction without a pivot stays at 0.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot = (column..size).max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs())).unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            continue;
        }
        for row in 0..size {
            if row != column {
                let factor = matrix[row][column] / matrix[column][column];
                (0..size).for_each(|k| matrix[row][k] -= factor * matrix[column][k]);
                right[row] -= factor * right[column];
            }
        }
    }
    (0..size).map(|i| if matrix[i][i].abs() < 1e-12 { 0.0 } else { right[i] / matrix[i][i] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_small_systems() {
        let solution = solve(vec![vec![0.0, 2.0], vec![1.0, 1.0]], vec![4.0, 5.0]);
        assert!((solution[0] - 3.0).abs() < 1e-12 && (solution[1] - 2.0).abs() < 1e-12);
    }

    /// Rows that are linear in the parameters are fitted in one step, an outlier aside.
    #[test]
    fn a_step_finds_linear_parameters_and_keeps_them_positive() {
        let fit = Fit { devices: vec!["h100", "a100"], values: vec![1.0, 0.0, 0.5, 3.0, 1.0, 1.0] };
        let truth = [0.6, 0.0, 0.8, 4.0, 1.1, 1.0];
        let mut slopes: Vec<Vec<f64>> =
            (0..5).map(|p| (0..40).map(|i| f64::from((i * (p + 3) + p * p) % 11) / 20.0 + 0.05).collect()).collect();
        let errors: Vec<Row> = (0..40)
            .map(|i| {
                let error: f64 = (0..5).map(|p| slopes[p][i] * (fit.values[p] - truth[p])).sum();
                Row { weight: 1.0, error: error + if i == 7 { 0.9 } else { 0.0 } }
            })
            .collect();
        // No run is of the second device.
        slopes.push(vec![0.0; 40]);
        let next = step(&fit, &slopes, &errors, 1.0);
        for (found, wanted) in next.values.iter().zip(truth) {
            assert!((found - wanted).abs() < 0.02, "{:?}", next.values);
        }
        assert_eq!(next.values[5], 1.0);
    }
}
