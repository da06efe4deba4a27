//! Simulated runs beside measured runs of real servers: time to first token, time per output token,
//! end-to-end latency.
//!
//! A folder of measured runs ([`Experiments`]) is replayed run by run ([`Replay`]): the requests on record,
//! or as many at the stated rates, through `vllm_v1` on one replica whose step times are the analytical
//! model's and whose engine overheads are the catalogue's or given. [`calibrate`](calibrate::calibrate) fits
//! the overheads to all runs together, and judges them on models left out of the fit.
//!
//! *Judged* are a run's stages without their first 200 requests (labels such as `0w`: the cold start of a
//! server is not modelled) where they are measured, its stages otherwise.

pub mod calibrate;
mod experiment;
mod fitting;
pub mod fleet;
mod observed;
mod replay;
pub mod results;

use anyhow::Result;
use rayon::prelude::*;

pub use experiment::{Engine, Experiment, Experiments, Load, Measured, Skipped, TracedRequest};
pub use replay::{Replay, Served, node_of};

use crate::hardware::Overheads;
use crate::simulation::Workspace;

/// Requests at the start of a stage that `w` labels leave out.
const WARM_UP: usize = 200;

pub const QUANTITIES: [&str; 3] = ["ttft", "tpot", "e2e"];
pub const STATISTICS: [&str; 4] = ["mean", "p50", "p90", "p99"];

/// One measured value and what the simulation says.
#[derive(Debug, Clone, PartialEq)]
pub struct Compared {
    pub experiment: String,
    pub model: String,
    pub device: &'static str,
    /// `0`, `1`, .. a stage; with `w` without its first requests; `all` the whole run.
    pub stage: String,
    /// Such as `ttft_mean`.
    pub metric: String,
    pub measured_ms: f64,
    pub simulated_ms: f64,
    /// Whether this is one of the stages the simulation is judged by.
    pub judged: bool,
}

impl Compared {
    /// Simulated over measured, less 1.
    pub fn error(&self) -> f64 {
        self.simulated_ms / self.measured_ms - 1.0
    }
}

/// Prepares the runs whose id `wanted` accepts.
pub fn prepare(experiments: &Experiments, wanted: impl Fn(&str) -> bool) -> (Vec<Replay>, Vec<Skipped>) {
    let mut replays = Vec::new();
    let mut skipped: Vec<Skipped> =
        experiments.unreadable.iter().filter(|one| wanted(&one.experiment)).cloned().collect();
    for experiment in experiments.list.iter().filter(|experiment| wanted(&experiment.id)) {
        let id = &experiment.id;
        let replay = match experiments.measured.contains_key(id) {
            true => Replay::new(experiments, experiment),
            false => Err("measured.csv has nothing of it".into()),
        };
        match replay {
            Ok(replay) => replays.push(replay),
            Err(reason) => skipped.push(Skipped { experiment: id.clone(), reason }),
        }
    }
    (replays, skipped)
}

/// Simulates runs, each with overheads of its own and requests drawn under `seeds` (taken together), in their
/// order.
///
/// Errors: a simulation gives up.
pub fn compare(
    replays: &[&Replay],
    measured: &Measured,
    seeds: &[u64],
    overheads: impl Fn(&Replay) -> Result<Overheads> + Sync,
) -> Result<Vec<Compared>> {
    let one = |replay: &&Replay| -> Result<Vec<Compared>> {
        let mut workspace = Workspace::default();
        let seeds = if replay.experiment.trace.is_some() { &seeds[..1] } else { seeds };
        let mut served = Vec::new();
        for &seed in seeds {
            served.extend(replay.run(&overheads(replay)?, seed, &mut workspace)?);
        }
        Ok(beside(replay, measured, &served))
    };
    Ok(replays.par_iter().map(one).collect::<Result<Vec<_>>>()?.concat())
}

/// What was measured of a run beside what its simulation did.
fn beside(replay: &Replay, measured: &Measured, served: &[Served]) -> Vec<Compared> {
    let id = &replay.experiment.id;
    let Some(stages) = measured.get(id) else { return Vec::new() };
    let is_warm = stages.keys().any(|label| selects(label).is_some_and(|(_, warm)| warm));
    let mut compared = Vec::new();
    for (label, values) in stages {
        let Some((stage, warm)) = selects(label) else { continue };
        let selected: Vec<&Served> = served
            .iter()
            .filter(|one| stage.is_none_or(|stage| one.stage == stage) && (!warm || one.index >= WARM_UP))
            .collect();
        for quantity in QUANTITIES {
            let value = |one: &&Served| match quantity {
                "ttft" => Some(one.ttft_ms),
                "tpot" => one.tpot_ms,
                _ => Some(one.e2e_ms),
            };
            let mut sample: Vec<f64> = selected.iter().filter_map(value).collect();
            sample.sort_by(f64::total_cmp);
            for statistic in STATISTICS {
                let metric = format!("{quantity}_{statistic}");
                let (Some(&measured_ms), Some(simulated_ms)) =
                    (values.get(&metric), summed_up(&sample, statistic))
                else {
                    continue;
                };
                compared.push(Compared {
                    experiment: id.clone(),
                    model: replay.experiment.model.clone(),
                    device: replay.device(),
                    stage: label.clone(),
                    metric,
                    measured_ms,
                    simulated_ms,
                    judged: stage.is_some() && warm == is_warm,
                });
            }
        }
    }
    compared
}

/// The stage (`None`: all of them) a label selects, and whether without its first requests; `None` of other
/// labels.
fn selects(label: &str) -> Option<(Option<u32>, bool)> {
    if label == "all" {
        return Some((None, false));
    }
    let (stage, warm) = label.strip_suffix('w').map_or((label, false), |stage| (stage, true));
    Some((Some(stage.parse().ok()?), warm))
}

/// A statistic of a sorted sample; percentiles by nearest rank.
fn summed_up(sorted: &[f64], statistic: &str) -> Option<f64> {
    let count = sorted.len();
    let percentile = |percent: usize| sorted.get((percent * count).div_ceil(100).max(1) - 1).copied();
    match statistic {
        "mean" => (count > 0).then(|| sorted.iter().sum::<f64>() / count as f64),
        "p50" => percentile(50),
        "p90" => percentile(90),
        _ => percentile(99),
    }
}

/// Absolute errors of one metric over many stages or runs.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Errors {
    pub count: usize,
    pub median: f64,
    pub mean: f64,
    pub worst: f64,
}

/// Sums up the absolute relative errors of rows; `None` of none.
pub fn errors<'a>(rows: impl IntoIterator<Item = &'a Compared>) -> Option<Errors> {
    let mut errors: Vec<f64> = rows.into_iter().map(|row| row.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    let count = errors.len();
    Some(Errors {
        count,
        median: 0.5 * (errors.get(count / 2)? + errors[(count - 1) / 2]),
        mean: errors.iter().sum::<f64>() / count as f64,
        worst: errors[count - 1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_select_stages() {
        assert_eq!(selects("all"), Some((None, false)));
        assert_eq!(selects("1"), Some((Some(1), false)));
        assert_eq!(selects("0w"), Some((Some(0), true)));
        assert_eq!(selects("first_n"), None);
    }

    #[test]
    fn percentiles_are_nearest_ranks() {
        let sample: Vec<f64> = (1..=200).map(f64::from).collect();
        let of = |statistic| summed_up(&sample, statistic).unwrap();
        assert_eq!((of("mean"), of("p50"), of("p90"), of("p99")), (100.5, 100.0, 180.0, 198.0));
        assert_eq!(
            (summed_up(&[], "mean"), summed_up(&[], "p99"), summed_up(&[7.0], "p50")),
            (None, None, Some(7.0))
        );
    }

    #[test]
    fn medians_of_even_counts_are_in_between() {
        let row = |simulated_ms: f64| Compared {
            experiment: String::new(),
            model: String::new(),
            device: "h100",
            stage: "0".into(),
            metric: "ttft_mean".into(),
            measured_ms: 100.0,
            simulated_ms,
            judged: true,
        };
        let rows = [row(90.0), row(102.0), row(130.0), row(96.0)];
        let errors = errors(&rows).unwrap();
        assert!(
            (errors.median - 0.07).abs() < 1e-12 && (errors.worst - 0.3).abs() < 1e-12 && errors.count == 4
        );
        assert_eq!(super::errors(&[]), None);
    }
}
