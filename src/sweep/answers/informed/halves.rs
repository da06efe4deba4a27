//! The edge without foresight on traces: each half by what was learned from the other, beside every family on
//! halves alone.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use super::super::oracle::{Group, objective};
use super::{EdgeAccount, Search, online};
use crate::autoscaler::{Autoscaler, AutoscalerSettings};
use crate::oracle::informed::episodes::{Episodes, FEWEST};
use crate::oracle::informed::law::BurstLaw;
use crate::oracle::informed::policy::{BurstPolicy, Informed};
use crate::oracle::informed::{Outcome, best_together, dominated};
use crate::simulation::{Limits, Parts, RunInputs, RunMetrics, simulate_parts};
use crate::sweep::plan::Plan;
use crate::sweep::plan::cell::Cell;
use crate::workload::Workload;

/// Of a trace, by time.
pub const NAMES: [&str; 2] = ["first", "second"];

/// One half of a trace, and what it tells of the other.
#[derive(Debug, Clone)]
pub struct Half {
    pub workload: Workload,
    pub episodes: Episodes,
}

/// A half as policies run on it that were fitted to traces of the other's episodes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HalfAccount {
    /// Which of [`NAMES`] they ran on.
    pub half: String,
    pub requests: u64,
    pub duration_s: f64,
    /// Of the other half, which the law was estimated from.
    pub episodes: u64,
    /// That of the sweep, but for costs that add up over time: half of it.
    pub reference_cost: f64,
    pub policies_tried: u64,
    pub policies_kept: u64,
    /// Mean share of the box that the policies kept dominate on the fitting traces.
    pub fitted: f64,
    /// Share of the box that they dominate on this half.
    pub hypervolume: f64,
    /// Cost and latency of those that no other beats, by rising cost.
    pub points: Vec<(f64, f64)>,
    /// The sweep's own families on this half alone, each of which starts from nothing.
    pub families: Vec<HalfFamily>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HalfFamily {
    pub family: String,
    pub hypervolume: f64,
}

impl Half {
    /// Errors: why the halves tell nothing of each other.
    pub(in crate::sweep::answers) fn both(plan: &Plan, group: &Group) -> Result<[Self; 2], String> {
        let halves = plan.inputs.workloads[group.cell.workload_input].content.halves();
        let Some(halves) = halves else {
            return Err("conversations, traces too large to be held, and those whose requests all come at once are not cut into halves: no \
                        informed edge"
                .into());
        };
        let halves = halves.map(|workload| Self { episodes: Episodes::of(&workload), workload });
        for (half, name) in halves.iter().zip(NAMES) {
            let found = half.episodes.all.len();
            if found < FEWEST {
                return Err(format!(
                    "a trace has no law that could be known, only a past, and episodes of a lull and a burst in the {name} half of this one, \
                     {found} found, are too few to tell anything of the other half, expected at least {FEWEST}: no informed edge"
                ));
            }
        }
        Ok(halves)
    }
}

/// Metrics that add up over time, beside counts, totals and hours.
const SUMS: [&str; 6] =
    ["busy_s", "simulated_s", "at_max_replicas_s", "replicas_pending_s", "below_demand_s", "budget_full_s"];

/// The reference cost of half of the time.
pub fn half_reference_cost(metric: &str, cost: f64) -> f64 {
    let adds_up = metric.starts_with("total_")
        || metric.starts_with("num_")
        || metric.ends_with("_hours")
        || SUMS.contains(&metric);
    if adds_up { 0.5 * cost } else { cost }
}

impl Search<'_> {
    pub(super) fn halves(&self, account: &mut EdgeAccount) -> Result<(), String> {
        let halves = Half::both(self.plan, &self.subject.groups[0])?;
        for tested in 0..2 {
            account.halves.push(self.half(&halves[1 - tested], &halves[tested], NAMES[tested])?);
        }
        account.policies_tried = account.halves.iter().map(|half| half.policies_tried).sum();
        account.policies_kept = account.halves.iter().map(|half| half.policies_kept).sum();
        let runs_of = |half: &HalfAccount| {
            half.policies_tried * u64::from(self.settings.fitting_draws) + half.policies_kept
        };
        let own: usize = self.subject.groups[0].cells.len();
        account.simulations = account.halves.iter().map(runs_of).sum::<u64>() + 2 * own as u64;
        account.fitted = Some(account.halves.iter().map(|half| half.fitted).sum::<f64>() / 2.0);
        Ok(())
    }

    fn half(&self, learned: &Half, tested: &Half, name: &str) -> Result<HalfAccount, String> {
        let group = &self.subject.groups[0];
        let (cost, latency) = self.reference();
        let reference = (half_reference_cost(&self.plan.grid.objectives.cost, cost), latency);
        let seeds = self.settings.fitting_seeds(&[]);
        let traces: Vec<Workload> =
            seeds.par_iter().map(|&seed| learned.episodes.draw(&learned.workload, seed)).collect();
        let inputs = |workload, seed| self.inputs(workload, &group.cell.autoscaler, seed);
        let draws: Vec<RunInputs> = traces
            .iter()
            .zip(&seeds)
            .map(|(trace, &seed)| inputs(trace, seed))
            .collect::<Result<_, String>>()?;
        let (known, room) =
            self.known(&BurstLaw::estimated(&learned.episodes, &learned.workload), &draws[0], reference);
        let build = |policy: &BurstPolicy, _: &RunInputs| -> Box<dyn Autoscaler> {
            Box::new(Informed::new(*policy, known.clone()))
        };
        let (mut policies, mut all): (Vec<BurstPolicy>, Vec<Vec<Outcome>>) = (Vec::new(), Vec::new());
        room.search(self.settings, |tried| {
            let outcomes = self.outcomes(tried, &draws, build);
            policies.extend_from_slice(tried);
            all.extend(outcomes.iter().cloned());
            outcomes
        });
        let online = online(self.plan, group);
        all.extend(self.own(&online.iter().collect::<Vec<_>>(), &draws));
        let kept = best_together(&all, reference, self.settings.kept as usize);
        let fitted = |draw: usize| dominated(kept.iter().filter_map(|&policy| all[policy][draw]), reference);
        let fitted = (0..draws.len()).map(fitted).sum::<f64>() / draws.len() as f64;

        let test = inputs(&tested.workload, group.cell.seed)?;
        let tests = std::slice::from_ref(&test);
        let (bursts, others): (Vec<usize>, Vec<usize>) =
            kept.iter().partition(|&&policy| policy < policies.len());
        let bursts: Vec<BurstPolicy> = bursts.into_iter().map(|policy| policies[policy]).collect();
        let others: Vec<&AutoscalerSettings> =
            others.into_iter().map(|policy| &online[policy - policies.len()]).collect();
        let outcomes = [self.outcomes(&bursts, tests, build), self.own(&others, tests)].concat();
        let reached: Vec<(f64, f64)> = outcomes.iter().filter_map(|outcome| outcome[0]).collect();

        let cells: Vec<Cell> = group.cells.iter().map(|&index| self.plan.cell(index)).collect();
        // Programs of the user's own are not started here.
        let cells: Vec<&Cell> =
            cells.iter().filter(|cell| !matches!(cell.autoscaler, AutoscalerSettings::External(_))).collect();
        let own = self.own(&cells.iter().map(|cell| &cell.autoscaler).collect::<Vec<_>>(), tests);
        let mut families: Vec<(HalfFamily, Vec<(f64, f64)>)> = Vec::new();
        for (cell, outcome) in cells.iter().zip(&own) {
            if families.iter().all(|(family, _)| family.family != cell.family) {
                families.push((HalfFamily { family: cell.family.clone(), hypervolume: 0.0 }, Vec::new()));
            }
            let (_, points) =
                families.iter_mut().find(|(family, _)| family.family == cell.family).expect("just put there");
            points.extend(outcome[0]);
        }
        let scored = |(family, points): (HalfFamily, Vec<(f64, f64)>)| HalfFamily {
            hypervolume: dominated(points.into_iter(), reference),
            ..family
        };
        Ok(HalfAccount {
            half: name.into(),
            requests: tested.workload.len() as u64,
            duration_s: tested.workload.end_s(),
            episodes: learned.episodes.all.len() as u64,
            reference_cost: reference.0,
            policies_tried: all.len() as u64,
            policies_kept: kept.len() as u64,
            fitted,
            hypervolume: dominated(reached.iter().copied(), reference),
            points: unbeaten(reached),
            families: families.into_iter().map(scored).collect(),
        })
    }

    /// Outcomes of the sweep's own policies, a list for each.
    pub(in crate::sweep::answers) fn own(
        &self,
        policies: &[&AutoscalerSettings],
        draws: &[RunInputs],
    ) -> Vec<Vec<Outcome>> {
        let [latency, cost] = self.plan.grid.objectives.metrics().map(|(_, metric)| objective(metric));
        let pairs: Vec<(usize, usize)> =
            (0..policies.len()).flat_map(|policy| (0..draws.len()).map(move |draw| (policy, draw))).collect();
        let run = |(policy, draw): (usize, usize)| -> Outcome {
            let metrics = self.run_own(&draws[draw], policies[policy])?;
            Some((cost(&metrics)?, latency(&metrics)?))
        };
        let all: Vec<Outcome> = pairs.into_par_iter().with_max_len(1).map(run).collect();
        all.chunks(draws.len().max(1)).map(<[_]>::to_vec).collect()
    }

    fn run_own(&self, inputs: &RunInputs, autoscaler: &AutoscalerSettings) -> Option<RunMetrics> {
        let give_up = || self.progress.is_interrupted();
        let limits = Limits { give_up: Some(&give_up), check: false, ..Limits::default() };
        let inputs = RunInputs { limits, autoscaler, ..inputs.clone() };
        let parts = Parts::of(&inputs);
        let ended =
            self.workspaces.run(|workspace| simulate_parts(&inputs, parts, workspace).ok()).ok().flatten();
        self.progress.run_ended(inputs.workload.len() as u64);
        ended
    }
}

/// Those that no other beats, by rising cost.
fn unbeaten(mut points: Vec<(f64, f64)>) -> Vec<(f64, f64)> {
    points.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let mut least = f64::INFINITY;
    points.retain(|&(_, latency)| {
        let better = latency < least;
        least = least.min(latency);
        better
    });
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_halved_and_rates_are_not() {
        for (metric, cost) in [
            ("total_cost_usd", 25.0),
            ("node_hours", 25.0),
            ("cost_usd_per_day", 50.0),
            ("mean_replicas", 50.0),
            ("p90_ttft_s", 50.0),
            ("utilization", 50.0),
        ] {
            assert_eq!(half_reference_cost(metric, 50.0), cost, "{metric}");
        }
    }
}
