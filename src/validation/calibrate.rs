//! Engine overheads from measured runs: a few numbers for all runs together, none for any one of them.
//!
//! Fitted are `step_ms`, `per_sequence_us`, `sampling_ns_per_logit` and `api_ms`, common to all, and a
//! `kernel_time_factor` for each device. Least absolute error of the logarithms of simulated over measured
//! values: mean time per output token and mean end-to-end latency with weight 1, mean time to first token 0.7,
//! P99 of end-to-end latency 0.3, every judged stage alike. Simulated values hardly bend in these parameters,
//! so Gauss-Newton steps do: differences at the common start, one simulation of all runs for each parameter,
//! serve every fit; each step corrects the slopes by what it was seen to do. Parameters stay at 0 where they
//! would turn negative.
//!
//! *Leaving a model out* is a fit of its own, from the same start and by the same steps, to the runs of all
//! other models; the model's runs are then simulated with what results. Its measurements have no say in that.

use std::collections::BTreeSet;

use anyhow::{Result, bail};
use rayon::prelude::*;

use super::fitting::{self, Row, correct, total};
use super::{Compared, Measured, Replay, compare};
use crate::hardware::{Overheads, catalog, sampling_on};

/// Names, units in them, of what is fitted besides one factor a device; a step to take differences over.
const COMMON: [(&str, f64); 4] =
    [("step_ms", 0.2), ("per_sequence_us", 4.0), ("sampling_ns_per_logit", 0.1), ("api_ms", 1.0)];
const FACTOR_STEP: f64 = 0.02;
const WEIGHTS: [(&str, f64); 4] =
    [("tpot_mean", 1.0), ("e2e_mean", 1.0), ("ttft_mean", 0.7), ("e2e_p99", 0.3)];
/// Rounds of a fit; fewer where one lowers the error by less than [`LEAST_GAIN`] of it.
const ROUNDS: usize = 10;
const LEAST_GAIN: f64 = 5e-4;
/// Parts of a step that are tried, the whole one first; what did not help has corrected the slopes of those
/// that follow.
const LENGTHS: [f64; 4] = [1.0, 0.4, 1.0, 0.3];

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
        let factor = self
            .devices
            .iter()
            .position(|known| *known == device)
            .map_or(1.0, |index| self.values[COMMON.len() + index]);
        let [step_ms, per_sequence_us, sampling_ns_per_logit, api_ms] =
            [0, 1, 2, 3].map(|index| self.values[index]);
        let sampling_ns_per_logit = catalog::device(device)
            .map_or(sampling_ns_per_logit, |device| sampling_on(device, sampling_ns_per_logit));
        Overheads {
            kernel_time_factor: factor,
            step_ms,
            per_sequence_us,
            sampling_ns_per_logit,
            api_ms,
            ..Overheads::NONE
        }
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

fn rows(compared: &[Compared]) -> Vec<Row> {
    let weight = |row: &Compared| {
        WEIGHTS.iter().find(|(metric, _)| *metric == row.metric && row.judged).map(|(_, weight)| *weight)
    };
    let row = |row: &Compared| {
        Some(Row { weight: weight(row)?, error: libm::log(row.simulated_ms / row.measured_ms) })
    };
    compared.iter().filter_map(row).collect()
}

/// What every fit begins with: the runs at the common start, and a step from there in each parameter. No
/// fit's own.
struct FirstRound {
    fit: Fit,
    compared: Vec<Compared>,
    /// By parameter.
    moved: Vec<Vec<Compared>>,
}

/// Fits overheads to all runs, then anew to what remains when each model in turn is left out. `told` hears of
/// every round: the model left out, the round's number, the mean error so far. Fits are independent of one
/// another and run side by side.
///
/// Errors: there is nothing to fit to; a simulation gives up.
pub fn calibrate(
    replays: &[Replay],
    measured: &Measured,
    seeds: &[u64],
    told: impl Fn(Option<&str>, usize, f64) + Sync,
) -> Result<Calibration> {
    let all: Vec<&Replay> = replays.iter().collect();
    let mut devices: Vec<&'static str> = replays.iter().map(Replay::device).collect();
    devices.sort_unstable();
    devices.dedup();
    let bench = Bench { measured, seeds };
    let first = bench.first_round(&all, Fit::start(&devices))?;
    if rows(&first.compared).is_empty() {
        bail!("no run with a measured mean of a judged stage: nothing to fit to");
    }
    let mut models: Vec<&String> = replays.iter().map(|replay| &replay.experiment.model).collect();
    models.sort();
    models.dedup();
    let fits: Vec<Option<&String>> = std::iter::once(None).chain(models.into_iter().map(Some)).collect();
    let fitted = |left_out: &Option<&String>| -> Result<(Fit, Vec<Compared>, Vec<Compared>)> {
        let name = left_out.map(String::as_str);
        let (own, others): (Vec<&Replay>, Vec<&Replay>) =
            all.iter().partition(|replay| Some(&replay.experiment.model) == *left_out);
        let (fit, compared) =
            bench.fitted(&others, &first.without(name), |round, error| told(name, round, error))?;
        let unseen = bench.simulated(&own, &fit)?;
        Ok((fit, compared, unseen))
    };
    let mut results = fits.par_iter().map(fitted).collect::<Result<Vec<_>>>()?.into_iter();
    let (fit, compared, _) = results.next().expect("the fit to all is the first");
    let (mut without, mut left_out) = (Vec::new(), Vec::new());
    for (model, (fit, _, unseen)) in fits.into_iter().flatten().zip(results) {
        left_out.extend(unseen);
        without.push((model.clone(), fit));
    }
    Ok(Calibration { fit, all: compared, without, left_out })
}

impl FirstRound {
    /// What there is of it without the runs of one model.
    fn without(&self, model: Option<&str>) -> Self {
        let others = |compared: &Vec<Compared>| {
            compared.iter().filter(|row| Some(row.model.as_str()) != model).cloned().collect()
        };
        Self {
            fit: self.fit.clone(),
            compared: others(&self.compared),
            moved: self.moved.iter().map(others).collect(),
        }
    }
}

/// What simulations are compared with, and the seeds they run under.
struct Bench<'a> {
    measured: &'a Measured,
    seeds: &'a [u64],
}

impl Bench<'_> {
    fn simulated(&self, runs: &[&Replay], fit: &Fit) -> Result<Vec<Compared>> {
        compare(runs, self.measured, self.seeds, |replay| {
            Ok(replay.overheads(&fit.overheads(replay.device())))
        })
    }

    fn first_round(&self, runs: &[&Replay], fit: Fit) -> Result<FirstRound> {
        let compared = self.simulated(runs, &fit)?;
        let mut moved = Vec::new();
        for (index, step) in fit.steps().into_iter().enumerate() {
            let mut there = fit.clone();
            there.values[index] += step;
            // Runs whose overheads this parameter has no part in stay as they are.
            let overheads = |replay: &Replay, fit: &Fit| replay.overheads(&fit.overheads(replay.device()));
            let knows = |replay: &Replay| overheads(replay, &there) != overheads(replay, &fit);
            let concerned: Vec<&Replay> = runs.iter().copied().filter(|replay| knows(replay)).collect();
            let mut simulated = self.simulated(&concerned, &there)?.into_iter();
            let ids: BTreeSet<&str> = concerned.iter().map(|replay| replay.experiment.id.as_str()).collect();
            let row = |row: &Compared| {
                let is_new = ids.contains(row.experiment.as_str());
                if is_new { simulated.next().expect("equal rows of equal runs") } else { row.clone() }
            };
            moved.push(compared.iter().map(row).collect());
        }
        Ok(FirstRound { fit, compared, moved })
    }

    /// Steps from the first round on until the error falls no more, and the runs as simulated there. Nothing
    /// but `runs` has a say in it.
    ///
    /// Errors hardly bend in these parameters: their slopes at the start do, corrected by what each step is
    /// seen to do.
    fn fitted(
        &self,
        runs: &[&Replay],
        first: &FirstRound,
        told: impl Fn(usize, f64),
    ) -> Result<(Fit, Vec<Compared>)> {
        let (mut fit, mut compared) = (first.fit.clone(), first.compared.clone());
        let scales = fit.steps();
        let mut errors = rows(&compared);
        let slope = |(moved, step): (&Vec<Compared>, &f64)| -> Vec<f64> {
            rows(moved).iter().zip(&errors).map(|(there, here)| (there.error - here.error) / step).collect()
        };
        let mut slopes: Vec<Vec<f64>> = first.moved.iter().zip(&scales).map(slope).collect();
        for round in 1..=ROUNDS {
            if errors.is_empty() {
                break;
            }
            told(round, total(&errors) / errors.iter().map(|row| row.weight).sum::<f64>());
            let mut better = None;
            for length in LENGTHS {
                let values = fitting::step(&fit.values, &scales, &slopes, &errors, length);
                let candidate = Fit { values, ..fit.clone() };
                let there = self.simulated(runs, &candidate)?;
                let errors_there = rows(&there);
                let moved: Vec<f64> =
                    candidate.values.iter().zip(&fit.values).map(|(there, here)| there - here).collect();
                correct(&mut slopes, &scales, &moved, &errors, &errors_there);
                if total(&errors_there) < total(&errors) * (1.0 - LEAST_GAIN) {
                    better = Some((candidate, there, errors_there));
                    break;
                }
            }
            let Some(better) = better else { break };
            (fit, compared, errors) = better;
        }
        Ok((fit, compared))
    }
}
