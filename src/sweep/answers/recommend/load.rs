//! The largest load that a setting carries within its limits, and the setting that carries most for its money.
//!
//! Traffic is thinned or thickened ([`Workload::scaled`]), the same for all settings, and the factor is found by halving: limits kept at one,
//! broken at one not more than the precision above. A setting that keeps them at a factor is taken to keep them at every smaller one.

use std::sync::Arc;

use rayon::prelude::*;
use serde_json::{Value, json};

use super::space::{self, Candidate, Pair};
use crate::simulation::metric::find;
use crate::simulation::{Inputs, Limits, MetricValue, RunMetrics, Workspace};
use crate::sweep::objectives::constraints::{Check, Constraint};
use crate::sweep::plan::Plan;
use crate::sweep::run::{Interrupted, Progress, Workspaces};
use crate::workload::{MOST_KEPT, Workload};

/// Factors that are looked at.
const LEAST: f64 = 1.0 / 1024.0;
const MOST: f64 = 1024.0;

/// The largest load of one setting.
#[derive(Debug, Clone, PartialEq)]
pub struct Carried {
    pub candidate: Candidate,
    pub name: String,
    pub autoscaler: Value,
    pub cluster: Value,
    /// Times the grid's traffic; None if even the least breaks a limit.
    pub factor: Option<f64>,
    /// Requests that arrive per second at it, mean over workloads and seeds.
    pub rate_per_s: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
    pub usd_per_million_requests: Option<f64>,
    /// What breaks first beyond it: workload, limit, value.
    pub broken: Option<(String, Constraint, Option<f64>)>,
    /// More than could be looked at.
    pub at_most: bool,
    pub runs: usize,
}

struct Tried {
    keeps: bool,
    broken: Option<(String, Constraint, Option<f64>)>,
    rate_per_s: f64,
    usd_per_month: f64,
    usd_per_request: f64,
}

/// Finds each setting's largest load to within a share `precision`, on the current rayon pool; the most requests for the money first.
pub fn largest(plan: &Plan, precision: f64, progress: &dyn Progress) -> Result<Vec<Carried>, Interrupted> {
    let settings: Vec<Candidate> =
        space::arms(&plan.grid).iter().flat_map(|arm| arm.places().map(|(_, at)| *at).collect::<Vec<_>>()).collect();
    let pairs = space::pairs(&plan.grid);
    let workspaces = Workspaces::<Workspace>::default();
    let found: Option<Vec<Carried>> = settings
        .par_iter()
        .with_max_len(1)
        .map(|&candidate| of_setting(plan, candidate, &pairs, precision, progress, &workspaces))
        .collect();
    let mut found = found.ok_or(Interrupted)?;
    let price = |carried: &Carried| carried.usd_per_million_requests.unwrap_or(f64::INFINITY);
    found.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.candidate.cmp(&b.candidate)));
    Ok(found)
}

fn of_setting(
    plan: &Plan,
    candidate: Candidate,
    pairs: &[Pair],
    precision: f64,
    progress: &dyn Progress,
    workspaces: &Workspaces<Workspace>,
) -> Option<Carried> {
    let mut runs = 0;
    let mut at = |factor: f64| {
        runs += 1;
        let tried = try_load(plan, candidate, pairs, factor, progress, workspaces)?;
        progress.run_ended(0);
        Some(tried)
    };
    let mut kept: Option<(f64, Tried)> = None;
    let mut broke: Option<(f64, Tried)> = None;
    let mut factor = 1.0;
    while (LEAST..=MOST).contains(&factor) {
        let tried = at(factor)?;
        let keeps = tried.keeps;
        *if keeps { &mut kept } else { &mut broke } = Some((factor, tried));
        if kept.is_some() && broke.is_some() {
            break;
        }
        factor *= if keeps { 2.0 } else { 0.5 };
    }
    while let (Some((low, _)), Some((high, _))) = (&kept, &broke)
        && high / low > 1.0 + precision
    {
        let middle = (low * high).sqrt();
        let tried = at(middle)?;
        let keeps = tried.keeps;
        *if keeps { &mut kept } else { &mut broke } = Some((middle, tried));
    }
    let cell = plan.cell(space::cell(&plan.grid, candidate, pairs[0]));
    let varying = |values: Vec<(String, Value)>| Value::Object(values.into_iter().collect());
    let (own, cluster) = (
        varying(plan.grid.autoscalers[candidate.autoscaler].varying(candidate.combination)),
        varying(plan.grid.cluster.varying(candidate.cluster)),
    );
    let shown =
        |value: &Value| if value.as_object().is_none_or(|members| members.is_empty()) { String::new() } else { format!(" {value}") };
    Some(Carried {
        candidate,
        name: format!("{}{}{}", cell.family, shown(&own), shown(&cluster)),
        autoscaler: json!(cell.autoscaler),
        cluster,
        factor: kept.as_ref().map(|(factor, _)| *factor),
        rate_per_s: kept.as_ref().map(|(_, tried)| tried.rate_per_s),
        cost_usd_per_month: kept.as_ref().map(|(_, tried)| tried.usd_per_month),
        usd_per_million_requests: kept.as_ref().map(|(_, tried)| 1e6 * tried.usd_per_request),
        at_most: broke.is_none(),
        broken: broke.and_then(|(_, tried)| tried.broken),
        runs,
    })
}

/// Runs a setting under so much traffic on every workload and seed, until a limit breaks. None if called off.
fn try_load(
    plan: &Plan,
    candidate: Candidate,
    pairs: &[Pair],
    factor: f64,
    progress: &dyn Progress,
    workspaces: &Workspaces<Workspace>,
) -> Option<Tried> {
    let (mut rate, mut month, mut cost, mut requests) = (0.0, 0.0, 0.0, 0.0);
    for &pair in pairs {
        if progress.is_interrupted() {
            return None;
        }
        let cell = plan.cell(space::cell(&plan.grid, candidate, pair));
        let name = cell.workload_name();
        let constraints = plan.grid.objectives.constraints.on(&name);
        let broken = |constraint: Option<&(Constraint, Check)>| Tried {
            keeps: false,
            broken: constraint.map(|(constraint, check)| (name.clone(), *constraint, check.value)),
            rate_per_s: 0.0,
            usd_per_month: 0.0,
            usd_per_request: 0.0,
        };
        let content: &Arc<Workload> = &plan.inputs.workloads[cell.workload_input].content;
        let too_many = content.num_requests() as f64 * factor > MOST_KEPT as f64;
        let Some(workload) = (!too_many).then(|| content.scaled(factor, cell.seed)).flatten() else { return Some(broken(None)) };
        let give_up = || progress.is_interrupted();
        let times = plan.inputs.times(&cell);
        let inputs = Inputs::new(&workload, &cell.cluster, &cell.autoscaler, &times, cell.seed).ok()?;
        let inputs = inputs.within(Limits { give_up: Some(&give_up), ..Limits::default() }).with_programs(&*plan.inputs.programs);
        let ended = workspaces.run(|workspace| inputs.simulate(workspace).ok()).ok().flatten();
        if progress.is_interrupted() {
            return None;
        }
        let Some(metrics) = ended else { return Some(broken(None)) };
        let checks: Vec<(Constraint, Check)> = constraints.iter().map(|limit| (*limit, limit.check_run(&metrics))).collect();
        if let Some(first) = checks.iter().find(|(_, check)| !check.kept) {
            return Some(broken(Some(first)));
        }
        rate += workload.len() as f64 / workload.end_s();
        month += per_month(&metrics);
        cost += metrics.total_cost_usd;
        requests += workload.len() as f64;
    }
    let count = pairs.len() as f64;
    Some(Tried { keeps: true, broken: None, rate_per_s: rate / count, usd_per_month: month / count, usd_per_request: cost / requests })
}

fn per_month(metrics: &RunMetrics) -> f64 {
    match find("cost_usd_per_month").map(|metric| metric.value(metrics)) {
        Some(MetricValue::Number(usd)) => usd,
        _ => 0.0,
    }
}

impl Carried {
    pub fn to_json(&self) -> Value {
        json!({
            "name": self.name,
            "autoscaler": self.autoscaler,
            "cluster": self.cluster,
            "factor": self.factor,
            "rate_per_s": self.rate_per_s,
            "cost_usd_per_month": self.cost_usd_per_month,
            "usd_per_million_requests": self.usd_per_million_requests,
            "at_most": self.at_most,
            "breaks_first": self.broken.as_ref().map(|(workload, constraint, value)| json!({
                "workload": workload, "metric": constraint.metric.name, "limit": constraint.limit, "value": value,
            })),
            "loads_tried": self.runs,
        })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        match (self.factor, self.rate_per_s, self.usd_per_million_requests, self.cost_usd_per_month) {
            (Some(factor), Some(rate), Some(usd), Some(month)) => {
                let more = if self.at_most { " at least" } else { "" };
                let broken = self.broken.as_ref().map_or(String::new(), |(_, constraint, _)| format!("; then breaks {constraint}"));
                format!(
                    "{}:{more} {rate:.2} requests/s ({factor:.3} times the traffic), ${usd:.2} a million, ${month:.0} a month{broken}",
                    self.name
                )
            }
            _ => format!("{}: breaks a limit under any load", self.name),
        }
    }
}
