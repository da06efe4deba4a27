//! Measured runs in which the fleet scaled, and simulations beside them.
//!
//! Two questions, kept apart. *Open loop*: the measured arrivals on the replicas that were measured to serve.
//! Is the serving right? *Closed loop*: a policy of ours in the controller's place decides on the same
//! arrivals. Are the decisions right? Overheads are fitted to the other runs of a folder, never to the one
//! that is judged: to single requests, and to the steps that engines counted.
//!
//! Left out of the fit, and of every judgement of time to first token: the first [`TOOL_S`] of a stage of
//! load, which the load tool takes to get going, and requests that were cut off. The fit begins [`CACHED_S`]
//! into a run: until then many prompts are cached from the run before.

mod read;
mod replay;

use anyhow::Result;
use rayon::prelude::*;

pub use read::{FleetRequest, FleetRun, Steps, folders, replica_hours};
pub use replay::{FleetReplay, Simulated, policy_of, starts};

use super::observed::{COUNT, Fitter, Observed, Quantity};
use super::summed_up;
use crate::hardware::Overheads;
use crate::simulation::{StartTimes, Workspace};

/// A load tool waits with its first requests of a stage, on warm engines too.
pub const TOOL_S: f64 = 12.0;
pub const CACHED_S: f64 = 240.0;
/// Who waited longer for a first token waited in a queue, whose length magnifies every per cent of step time:
/// no fit listens to that.
const QUEUED_S: f64 = 1.0;
/// Requests of so long count as one in a fit.
const BLOCK_S: f64 = 30.0;
const MOST_BLOCKS: usize = 1000;
/// Levels of load that the steps of a run's engines are: with few decodes, with many.
const STEP_LEVELS: usize = 2;

/// How far from the measurement a simulation may be.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Limit {
    /// A share of the measured value.
    Share(f64),
    Seconds(f64),
    /// Told, not judged.
    None,
}

/// One value, measured and simulated.
#[derive(Debug, Clone, PartialEq)]
pub struct Answer {
    /// Such as `e2e_p90`.
    pub question: String,
    pub unit: &'static str,
    pub measured: f64,
    pub simulated: f64,
    pub limit: Limit,
}

impl Answer {
    pub fn error(&self) -> f64 {
        self.simulated / self.measured - 1.0
    }

    /// `None` of what is not judged.
    pub fn passes(&self) -> Option<bool> {
        match self.limit {
            Limit::Share(share) => Some(self.error().abs() <= share),
            Limit::Seconds(seconds) => Some((self.simulated - self.measured).abs() <= seconds),
            Limit::None => None,
        }
    }
}

/// The overheads fitted to runs: to single requests, and to the steps that engines counted.
///
/// Errors: a simulation gives up.
pub fn fit(replays: &[&FleetReplay], start: &Overheads) -> Result<Overheads> {
    let mut first_level = Vec::new();
    let mut levels = 0;
    for replay in replays {
        first_level.push(levels);
        levels += replay.run.requests.last().map_or(0, |request| request.stage + 1) + STEP_LEVELS;
    }
    let observe = |overheads: &Overheads| -> Result<Vec<Observed>> {
        let one = |(replay, &first): (&&FleetReplay, &usize)| -> Result<Vec<Observed>> {
            let mut found = counted(replay, overheads, first);
            if !replay.run.requests.is_empty() && !replay.run.serving.is_empty() {
                let simulated = replay.open_loop(overheads, &mut Workspace::default())?;
                found.extend(observed(replay.run, &simulated, first + STEP_LEVELS));
            }
            Ok(found)
        };
        Ok(replays.par_iter().zip(&first_level).map(one).collect::<Result<Vec<_>>>()?.concat())
    };
    Fitter { observe: &observe, levels }.fit(start, [true; COUNT], |_| true)
}

/// Steps as counted by engines, of each interval between scrapes; few and many decodes are a level each.
fn counted(replay: &FleetReplay, overheads: &Overheads, first_level: usize) -> Vec<Observed> {
    let steps = replay.step_times(overheads);
    let most = steps.iter().map(|step| step[0]).fold(0.0, f64::max);
    let place = |(number, &[decodes, measured_s, simulated_s, _]): (usize, &[f64; 4])| {
        let level = first_level + usize::from(decodes > 0.5 * most);
        let block = level * MOST_BLOCKS + number.min(MOST_BLOCKS - 1);
        Observed { level, block, half: 0, quantity: Quantity::Tpot, measured_s, simulated_s }
    };
    steps.iter().enumerate().map(place).collect()
}

/// Every request that counts in a fit. A request that the simulation cuts off counts as it was measured: it
/// says nothing.
fn observed(run: &FleetRun, simulated: &Simulated, first_level: usize) -> Vec<Observed> {
    let begins_s = run.requests.first().map_or(0.0, |request| request.arrived_at_s);
    let mut found = Vec::new();
    for (request, record) in run.requests.iter().zip(&simulated.detail.requests) {
        if !request.ok
            || request.arrived_at_s < request.stage_from_s + TOOL_S
            || request.arrived_at_s < begins_s + CACHED_S
        {
            continue;
        }
        let simulated = times(request, record.first_token_at_s, record.completed_at_s);
        for quantity in Quantity::ALL {
            if request.ttft_s > QUEUED_S && quantity != Quantity::Tpot {
                continue;
            }
            let Some(measured_s) = measured(request, quantity).filter(|&seconds| seconds > 0.0) else {
                continue;
            };
            let simulated_s = simulated.as_ref().and_then(|of| of(quantity)).unwrap_or(measured_s);
            let level = first_level + request.stage;
            let within = ((request.arrived_at_s - request.stage_from_s) / BLOCK_S) as usize;
            found.push(Observed {
                level,
                block: level * MOST_BLOCKS + within.min(MOST_BLOCKS - 1),
                half: 0,
                quantity,
                measured_s,
                simulated_s,
            });
        }
    }
    found
}

fn measured(request: &FleetRequest, quantity: Quantity) -> Option<f64> {
    match quantity {
        Quantity::E2e => Some(request.e2e_s),
        Quantity::Ttft => Some(request.ttft_s),
        Quantity::Tpot => request.tpot_s(),
    }
}

/// The same of a simulated request that was answered.
fn times(
    request: &FleetRequest,
    first_s: Option<f64>,
    last_s: Option<f64>,
) -> Option<impl Fn(Quantity) -> Option<f64>> {
    let (ttft_s, e2e_s) = (first_s? - request.arrived_at_s, last_s? - request.arrived_at_s);
    let simulated = FleetRequest { ttft_s, e2e_s, ..*request };
    Some(move |quantity| measured(&simulated, quantity))
}

const MOST_MEAN: f64 = 0.02;
const MOST_E2E: f64 = 0.10;
const MOST_TTFT: f64 = 0.15;
const MOST_STEP: f64 = 0.05;
const MOST_HOURS: f64 = 0.10;
const MOST_FIRST_S: f64 = 30.0;
const MOST_CLOSED_E2E: f64 = 0.20;

/// Latencies of all requests that were answered in full, time to first token without what is the load tool's.
fn latencies(run: &FleetRun, simulated: &Simulated, limit: impl Fn(Quantity, &str) -> Limit) -> Vec<Answer> {
    let mut answers = Vec::new();
    for quantity in Quantity::ALL {
        let (mut of_run, mut of_simulation) = (Vec::new(), Vec::new());
        for (request, record) in run.requests.iter().zip(&simulated.detail.requests) {
            if quantity == Quantity::Ttft && request.arrived_at_s < request.stage_from_s + TOOL_S {
                continue;
            }
            of_run.extend(measured(request, quantity).filter(|_| request.ok));
            of_simulation.extend(
                times(request, record.first_token_at_s, record.completed_at_s).and_then(|of| of(quantity)),
            );
        }
        of_run.sort_by(f64::total_cmp);
        of_simulation.sort_by(f64::total_cmp);
        let (name, unit, scale) = match quantity {
            Quantity::E2e => ("e2e", "s", 1.0),
            Quantity::Ttft => ("ttft", "s", 1.0),
            Quantity::Tpot => ("tpot", "ms", 1e3),
        };
        for statistic in super::STATISTICS {
            let (Some(measured), Some(simulated)) =
                (summed_up(&of_run, statistic), summed_up(&of_simulation, statistic))
            else {
                continue;
            };
            let limit = limit(quantity, statistic);
            let question = format!("{name}_{statistic}");
            answers.push(Answer {
                question,
                unit,
                measured: scale * measured,
                simulated: scale * simulated,
                limit,
            });
        }
    }
    answers
}

/// Is the serving right?
///
/// Errors: the simulation gives up.
pub fn open_loop(replay: &FleetReplay, overheads: &Overheads) -> Result<(Simulated, Vec<Answer>)> {
    let simulated = replay.open_loop(overheads, &mut Workspace::default())?;
    let run = replay.run;
    let mut answers = latencies(run, &simulated, |quantity, statistic| match (quantity, statistic) {
        (Quantity::E2e, "mean") => Limit::Share(MOST_MEAN),
        (Quantity::E2e, _) => Limit::Share(MOST_E2E),
        (Quantity::Ttft, "p90") => Limit::Share(MOST_TTFT),
        _ => Limit::None,
    });
    let (cut, cut_here) =
        (run.requests.iter().filter(|request| !request.ok).count(), simulated.metrics.num_cut);
    answers.push(Answer {
        question: "cut_off".into(),
        unit: "requests",
        measured: cut as f64,
        simulated: cut_here as f64,
        limit: Limit::None,
    });
    Ok((simulated, answers))
}

/// Are the steps right, with few and with many requests running? Quarters of the intervals between scrapes,
/// by decodes a step.
pub fn step_times(replay: &FleetReplay, overheads: &Overheads) -> Vec<Answer> {
    let mut found = replay.step_times(overheads);
    found.sort_by(|a, b| a[0].total_cmp(&b[0]));
    let quarter = found.len() / 4;
    if quarter == 0 {
        return Vec::new();
    }
    let answer = |name: &str, rows: &[[f64; 4]]| {
        let steps: f64 = rows.iter().map(|row| row[3]).sum();
        let mean = |column: usize| rows.iter().map(|row| row[column] * row[3]).sum::<f64>() / steps;
        let question = format!("step_{name} ({:.0} decodes)", mean(0));
        Answer {
            question,
            unit: "ms",
            measured: 1e3 * mean(1),
            simulated: 1e3 * mean(2),
            limit: Limit::Share(MOST_STEP),
        }
    };
    vec![answer("least_busy", &found[..quarter]), answer("busiest", &found[found.len() - quarter..])]
}

/// Are the decisions right? `None` where the controller is none of ours; then why.
///
/// Errors: the simulation gives up.
pub fn closed_loop(
    replay: &FleetReplay,
    starts: StartTimes,
    overheads: &Overheads,
    seed: u64,
) -> Result<Result<(Simulated, Vec<Answer>), String>> {
    let run = replay.run;
    let policy = match policy_of(run) {
        Ok(policy) => policy,
        Err(reason) => return Ok(Err(reason)),
    };
    let simulated = replay.closed_loop(&policy, starts, overheads, seed, &mut Workspace::default())?;
    let mut answers = Vec::new();
    let mut answer = |question: &str, unit, measured: f64, simulated: f64, limit| {
        answers.push(Answer { question: question.into(), unit, measured, simulated, limit });
    };
    let ends_s = run.ends_at_s();
    let ours = simulated.serving();
    answer(
        "replica_hours",
        "h",
        replica_hours(&run.serving, ends_s),
        replica_hours(&ours, ends_s),
        Limit::Share(MOST_HOURS),
    );
    let applied = |sign: i64| simulated.detail.tunes.iter().filter(move |tune| tune.applied * sign > 0);
    let first = run.desired.windows(2).find(|pair| pair[1].1 > pair[0].1).map(|pair| pair[1].0);
    let first_here = applied(1).next().map(|tune| tune.time_s - simulated.later_s);
    if let Some(first_s) = first {
        answer(
            "first_scale_up",
            "s",
            first_s,
            first_here.unwrap_or(f64::INFINITY),
            Limit::Seconds(MOST_FIRST_S),
        );
    }
    let peak = |steps: &[(f64, u32)]| f64::from(steps.iter().map(|step| step.1).max().unwrap_or(0));
    answer("peak_serving", "replicas", peak(&run.serving), peak(&ours), Limit::None);
    let changes = |sign: i64| -> f64 {
        let change = |pair: &[(f64, u32)]| (i64::from(pair[1].1) - i64::from(pair[0].1)) * sign;
        let before_end = |pair: &&[(f64, u32)]| pair[1].0 <= ends_s;
        run.desired.windows(2).filter(before_end).map(change).filter(|&change| change > 0).sum::<i64>() as f64
    };
    let changes_here = |sign: i64| applied(sign).map(|tune| tune.applied * sign).sum::<i64>() as f64;
    answer("scale_ups", "replicas", changes(1), changes_here(1), Limit::None);
    answer("scale_downs", "replicas", changes(-1), changes_here(-1), Limit::None);
    answers.extend(latencies(run, &simulated, |quantity, statistic| match (quantity, statistic) {
        (Quantity::E2e, "p90") => Limit::Share(MOST_CLOSED_E2E),
        _ => Limit::None,
    }));
    Ok(Ok((simulated, answers)))
}
