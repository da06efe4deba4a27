//! Runs of a case, judged: share of the edge, cost at limits, tail, churn.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::COST;
use crate::analysis::front::{Point, hv_exact};
use crate::autoscaler::upstream::PolicyRecord;
use crate::oracle::OracleSettings;
use crate::oracle::informed::InformedSettings;
use crate::simulation::metric::{self, Metric};
use crate::simulation::{MetricValue, RunMetrics};
use crate::sweep::answers::{informed, oracle};
use crate::sweep::objectives::constraints::Constraint;
use crate::sweep::plan::Plan;
use crate::sweep::run::{Interrupted, Progress, for_each_cell, run_cell};
use crate::sweep::tables::row::{RunRow, Scalar};

const SECONDS_A_DAY: f64 = 86_400.0;

/// What the scores of a case are held against.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Yardstick {
    pub case: String,
    /// Hypervolume of the best found with perfect foresight, one a seed.
    pub clairvoyant: Vec<f64>,
    /// The same of what policies reach that know how the traffic is drawn and not what is drawn, fitted to
    /// other draws; absent where no law of it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub informed: Option<Vec<f64>>,
    /// Mean cost of the cheapest fixed fleet of the case's own that keeps the limits under every seed.
    pub fixed_fleet_usd: Option<f64>,
}

/// A policy over all cases.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PolicyScore {
    pub policy: PolicyRecord,
    pub cases: Vec<CaseScore>,
}

/// A policy on one case.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CaseScore {
    pub case: String,
    pub levels: usize,
    pub runs: usize,
    pub failed: usize,
    /// Why the first run failed that did.
    pub error: Option<String>,
    /// Hypervolume over the clairvoyant edge's, mean over seeds.
    pub share: f64,
    pub chosen: Option<Chosen>,
}

/// The level that one would run: the cheapest that keeps the limits under every seed; if none does, the one
/// that breaks them by least.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Chosen {
    /// The settings that vary, with their values.
    pub settings: String,
    pub kept: bool,
    /// Mean over seeds.
    pub cost_usd: f64,
    /// The worst value of the limited metric over seeds, over its limit; of several limits the largest such
    /// share.
    pub of_limit: f64,
    /// P99 end to end, worst over seeds.
    pub p99_e2e_s: f64,
    /// Mean over seeds.
    pub scale_ups_per_day: f64,
}

impl Yardstick {
    /// What informed policies reach of the edge: mean over seeds.
    pub fn informed_share(&self) -> Option<f64> {
        let of_seed = |(informed, clairvoyant): (&f64, &f64)| {
            if *clairvoyant > 0.0 { informed / clairvoyant } else { 0.0 }
        };
        mean(self.informed.as_ref()?.iter().zip(&self.clairvoyant).map(of_seed)).filter(|share| *share > 0.0)
    }
}

impl PolicyScore {
    /// Share of the edge over what informed policies reach of it: mean over the cases that have an informed
    /// edge.
    pub fn informed_share(&self, yardsticks: &[Yardstick]) -> Option<f64> {
        let ratio = |case: &CaseScore| {
            let informed =
                yardsticks.iter().find(|yardstick| yardstick.case == case.case)?.informed_share()?;
            Some(case.share / informed)
        };
        mean(self.cases.iter().filter_map(ratio))
    }

    /// Mean over cases.
    pub fn share(&self) -> f64 {
        mean(self.cases.iter().map(|case| case.share)).unwrap_or(0.0)
    }

    /// Cases whose limits a level keeps.
    pub fn kept(&self) -> usize {
        self.chosen().filter(|chosen| chosen.kept).count()
    }

    pub fn chosen(&self) -> impl Iterator<Item = &Chosen> {
        self.cases.iter().filter_map(|case| case.chosen.as_ref())
    }

    /// Geometric mean, over the cases whose limits are kept, of cost over that of the cheapest fixed fleet.
    pub fn over_fixed_fleet(&self, yardsticks: &[Yardstick]) -> Option<f64> {
        let ratio = |case: &CaseScore| {
            let fixed = yardsticks.iter().find(|yardstick| yardstick.case == case.case)?.fixed_fleet_usd?;
            Some(case.chosen.as_ref().filter(|chosen| chosen.kept)?.cost_usd / fixed)
        };
        geometric_mean(self.cases.iter().filter_map(ratio))
    }

    /// Geometric mean over cases.
    pub fn of_limit(&self) -> Option<f64> {
        geometric_mean(self.chosen().map(|chosen| chosen.of_limit))
    }

    pub fn scale_ups_per_day(&self) -> Option<f64> {
        mean(self.chosen().map(|chosen| chosen.scale_ups_per_day))
    }

    pub fn failed(&self) -> usize {
        self.cases.iter().map(|case| case.failed).sum()
    }
}

fn mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, count) = values.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    (count > 0).then(|| sum / f64::from(count))
}

fn geometric_mean(values: impl Iterator<Item = f64>) -> Option<f64> {
    mean(values.filter(|value| *value > 0.0).map(libm::log)).map(libm::exp)
}

/// A setting of a policy, under every seed.
struct Level {
    settings: String,
    policy: PolicyRecord,
    metrics: Vec<Result<RunMetrics, String>>,
    is_static: bool,
}

/// Runs a case's plan; levels by family, in the plan's order. Cells of one level differ in their seed alone.
fn levels(plan: &Plan, progress: &dyn Progress) -> Result<Vec<Level>, Interrupted> {
    let ended = for_each_cell(plan, plan.unique(), progress, run_cell)?;
    let mut levels: Vec<Level> = Vec::new();
    let mut numbers = BTreeMap::new();
    for (outcome, &index) in ended.into_iter().zip(plan.unique()) {
        let at = plan.grid.coordinates(index);
        let number = *numbers.entry((at.autoscaler, at.autoscaler_combination)).or_insert_with(|| {
            let cell = plan.cell(index);
            let varying = plan.grid.autoscalers[at.autoscaler].varying(at.autoscaler_combination);
            let name = format!("{}.", cell.autoscaler.name());
            let shown =
                |(path, value): (String, _)| format!("{}={value}", path.strip_prefix(&name).unwrap_or(&path));
            levels.push(Level {
                settings: varying.into_iter().map(shown).collect::<Vec<_>>().join(", "),
                policy: PolicyRecord::new(&cell.family, &cell.autoscaler),
                metrics: Vec::new(),
                is_static: cell.autoscaler.name() == "static",
            });
            levels.len() - 1
        });
        levels[number].metrics.push(outcome);
    }
    Ok(levels)
}

/// How the informed edge is searched for where the other one is searched so.
pub fn informed_search(search: &OracleSettings) -> InformedSettings {
    InformedSettings {
        budget: (search.budget / POLICIES_TRIED_OF_RUNS).max(1),
        fitting_draws: FITTING_DRAWS,
        search_seed: search.search_seed,
        ..InformedSettings::default()
    }
}

/// An informed policy is tried on every fitting draw: so many times fewer of them keep the search as short as
/// the other one.
const POLICIES_TRIED_OF_RUNS: u32 = 4;
const FITTING_DRAWS: u32 = 8;

/// Searches both edges of a case and prices its fixed fleets.
pub fn yardstick(
    name: &str,
    plan: &Plan,
    search: &OracleSettings,
    progress: &dyn Progress,
) -> Result<Yardstick, Interrupted> {
    let rows = oracle::search(plan, search, progress)?;
    let clairvoyant = hypervolumes(plan, &rows);
    let informed = if informed::check(plan).is_ok() { informed_edge(plan, search, progress)? } else { None };
    let limits = limits(plan);
    let fixed = levels(plan, progress)?
        .iter()
        .filter(|level| level.is_static)
        .filter_map(|level| level.judged(&limits))
        .collect();
    Ok(Yardstick {
        case: name.into(),
        clairvoyant,
        informed,
        fixed_fleet_usd: chosen(fixed).filter(|chosen| chosen.kept).map(|chosen| chosen.cost_usd),
    })
}

/// Searches the edge of those who know how the traffic is drawn, which [`informed::check`] has let pass.
pub fn informed_edge(
    plan: &Plan,
    search: &OracleSettings,
    progress: &dyn Progress,
) -> Result<Option<Vec<f64>>, Interrupted> {
    let (rows, accounts) = informed::search(plan, &informed_search(search), progress)?;
    Ok(accounts.iter().any(|account| account.has_edge).then(|| hypervolumes(plan, &rows)))
}

/// Hypervolume of an edge's points, one a seed.
fn hypervolumes(plan: &Plan, rows: &[RunRow]) -> Vec<f64> {
    let reference = plan.grid.objectives.reference.expect("cases have been checked");
    let number = |value: Option<&Scalar>| match value {
        Some(Scalar::Float(number)) => Some(*number),
        Some(Scalar::Int(number)) => Some(*number as f64),
        _ => None,
    };
    let hypervolume = |&seed: &u64| {
        let of_seed = rows.iter().filter(|row| row.get("seed") == Some(&Scalar::Int(seed as i64)));
        let point = |row: &RunRow| {
            Some(Point {
                latency: number(row.get(&plan.grid.objectives.latency))?,
                cost: number(row.get(COST))?,
            })
        };
        hv_exact(&of_seed.filter_map(point).collect::<Vec<_>>(), reference)
    };
    plan.grid.seeds.iter().map(hypervolume).collect()
}

/// Runs the policies of a case's plan, and judges each.
pub fn score(
    plan: &Plan,
    yardstick: &Yardstick,
    progress: &dyn Progress,
) -> Result<Vec<(PolicyRecord, CaseScore)>, Interrupted> {
    let mut families: Vec<(PolicyRecord, Vec<Level>)> = Vec::new();
    for level in levels(plan, progress)? {
        match families.iter_mut().find(|(record, _)| record.family == level.policy.family) {
            Some((_, levels)) => levels.push(level),
            None => families.push((level.policy.clone(), vec![level])),
        }
    }
    let limits = limits(plan);
    Ok(families
        .into_iter()
        .map(|(record, levels)| (record, case_score(plan, yardstick, &levels, &limits)))
        .collect())
}

fn limits(plan: &Plan) -> Vec<Constraint> {
    plan.grid.objectives.constraints.on(&plan.cell(plan.unique()[0]).workload_name())
}

fn case_score(plan: &Plan, yardstick: &Yardstick, levels: &[Level], limits: &[Constraint]) -> CaseScore {
    let objectives = &plan.grid.objectives;
    let [(_, latency), (_, cost)] = objectives.metrics();
    let reference = objectives.reference.expect("cases have been checked");
    let share = |(seed, possible): (usize, &f64)| {
        let points = levels.iter().filter_map(|level| {
            let metrics = level.metrics.get(seed)?.as_ref().ok()?;
            Some(Point { latency: value(latency, metrics)?, cost: value(cost, metrics)? })
        });
        let reached = hv_exact(&points.collect::<Vec<_>>(), reference);
        if *possible > 0.0 { reached / possible } else { 0.0 }
    };
    let outcomes = || levels.iter().flat_map(|level| &level.metrics);
    CaseScore {
        case: yardstick.case.clone(),
        levels: levels.len(),
        runs: outcomes().count(),
        failed: outcomes().filter(|outcome| outcome.is_err()).count(),
        error: outcomes().find_map(|outcome| outcome.as_ref().err().cloned()),
        share: mean(yardstick.clairvoyant.iter().enumerate().map(share)).unwrap_or(0.0),
        chosen: chosen(levels.iter().filter_map(|level| level.judged(limits)).collect()),
    }
}

/// The cheapest that keeps the limits, or the one that breaks them by least; of equal ones the first.
fn chosen(judged: Vec<Chosen>) -> Option<Chosen> {
    let order = |chosen: &Chosen| if chosen.kept { (0, chosen.cost_usd) } else { (1, chosen.of_limit) };
    judged.into_iter().min_by(|a, b| {
        let (a, b) = (order(a), order(b));
        a.0.cmp(&b.0).then(a.1.total_cmp(&b.1))
    })
}

fn value(metric: &Metric, metrics: &RunMetrics) -> Option<f64> {
    match metric.value(metrics) {
        MetricValue::Number(number) => Some(number).filter(|number| number.is_finite()),
        MetricValue::Count(count) => Some(count as f64),
        MetricValue::Absent => None,
    }
}

impl Level {
    /// None where a run failed or lacks a limited metric: nobody would choose that.
    fn judged(&self, limits: &[Constraint]) -> Option<Chosen> {
        let runs: Vec<&RunMetrics> =
            self.metrics.iter().map(|outcome| outcome.as_ref().ok()).collect::<Option<_>>()?;
        let (mut kept, mut of_limit) = (true, 0.0f64);
        for limit in limits {
            for metrics in &runs {
                let check = limit.check_run(metrics);
                kept &= check.kept;
                of_limit = of_limit.max(1.0 - check.margin?);
            }
        }
        let p99 = metric::find("p99_e2e_s").expect("a metric of every run");
        let tails = runs.iter().map(|metrics| value(p99, metrics)).collect::<Option<Vec<_>>>()?;
        Some(Chosen {
            settings: self.settings.clone(),
            kept,
            cost_usd: mean(runs.iter().map(|metrics| metrics.total_cost_usd))?,
            of_limit,
            p99_e2e_s: tails.into_iter().fold(0.0, f64::max),
            scale_ups_per_day: mean(
                runs.iter().map(|metrics| metrics.scale_ups as f64 / metrics.simulated_s * SECONDS_A_DAY),
            )?,
        })
    }
}
