//! The largest load that a setting carries within its limits, and the setting that carries most for its
//! money.
//!
//! Whatever was tried is written down ([`journal`]), so an interrupt costs nothing: what is known by then is
//! the answer, and the same question goes on from there.
//!
//! Traffic is thinned or thickened ([`Workload::scaled`]), the same for all settings, and the factor is found
//! by halving: limits kept at one, broken at one not more than the precision above. A setting that keeps them
//! at a factor is taken to keep them at every smaller one.

mod journal;

use std::path::Path;
use std::sync::Arc;

use anyhow::Result;
use rayon::prelude::*;
use serde_json::{Value, json};

use self::journal::Journal;
use super::space::{self, Candidate, Pair};
use crate::simulation::metric::find;
use crate::simulation::{Inputs, Limits, MetricValue, RunMetrics, Workspace};
use crate::sweep::objectives::constraints::{Check, Constraint};
use crate::sweep::plan::Plan;
use crate::sweep::run::{Progress, Workspaces};
use crate::sweep::tables::names::counted;
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
    /// Times the grid's traffic; None if no load is known that keeps the limits.
    pub factor: Option<f64>,
    /// Requests that arrive per second at it, mean over workloads and seeds.
    pub rate_per_s: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
    pub usd_per_million_requests: Option<f64>,
    /// What breaks first at the least load above it that was tried.
    pub broken: Option<Broken>,
    /// No load that was tried breaks a limit.
    pub at_most: bool,
    /// Found to within the precision, or as far as loads are looked at.
    pub finished: bool,
    pub runs: usize,
}

/// A limit that is broken.
#[derive(Debug, Clone, PartialEq)]
pub struct Broken {
    pub workload: String,
    pub constraint: Constraint,
    pub value: Option<f64>,
}

/// What is known of all settings.
#[derive(Debug, Clone, PartialEq)]
pub struct Loads {
    /// Those that were looked at, the most requests for the money first.
    pub carried: Vec<Carried>,
    pub settings: usize,
    /// Loads that were tried now, and are not from an earlier search.
    pub ran: usize,
}

impl Loads {
    /// Whether every setting's load was found.
    pub fn finished(&self) -> bool {
        self.carried.len() == self.settings && self.carried.iter().all(|carried| carried.finished)
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Tried {
    keeps: bool,
    broken: Option<Broken>,
    rate_per_s: f64,
    usd_per_month: f64,
    usd_per_request: f64,
}

/// Finds each setting's largest load to within a share `precision`, on the current rayon pool; the most
/// requests for the money first. Loads are written down in `dir`, and those that stand there are not tried
/// again. Interrupted, it says what it has.
pub fn largest(plan: &Plan, dir: &Path, precision: f64, progress: &dyn Progress) -> Result<Loads> {
    let journal = Journal::open(dir, plan)?;
    let settings: Vec<Candidate> = space::arms(&plan.grid)
        .iter()
        .flat_map(|arm| arm.places().map(|(_, at)| *at).collect::<Vec<_>>())
        .collect();
    let pairs = space::pairs(&plan.grid);
    let workspaces = Workspaces::<Workspace>::default();
    let search =
        Search { plan, pairs: &pairs, precision, progress, workspaces: &workspaces, journal: &journal };
    let found: Vec<(Carried, usize)> = settings
        .par_iter()
        .with_max_len(1)
        .map(|&candidate| search.of_setting(candidate))
        .collect::<Result<_>>()?;
    let ran = found.iter().map(|(_, ran)| ran).sum();
    let mut carried: Vec<Carried> =
        found.into_iter().map(|(carried, _)| carried).filter(|carried| carried.runs > 0).collect();
    let price = |carried: &Carried| carried.usd_per_million_requests.unwrap_or(f64::INFINITY);
    carried.sort_by(|a, b| price(a).total_cmp(&price(b)).then(a.candidate.cmp(&b.candidate)));
    Ok(Loads { carried, settings: settings.len(), ran })
}

struct Search<'a> {
    plan: &'a Plan,
    pairs: &'a [Pair],
    precision: f64,
    progress: &'a dyn Progress,
    workspaces: &'a Workspaces<Workspace>,
    journal: &'a Journal,
}

/// The largest load that keeps the limits so far, and the least above it that breaks one.
#[derive(Default)]
struct Bracket {
    kept: Option<(f64, Tried)>,
    broke: Option<(f64, Tried)>,
    runs: usize,
}

impl Bracket {
    /// The load to try next; None once it is narrow enough, or nothing further is looked at.
    fn next(&self, precision: f64) -> Option<f64> {
        let factor = match (&self.kept, &self.broke) {
            (None, None) => 1.0,
            (Some((low, _)), None) => low * 2.0,
            (None, Some((high, _))) => high * 0.5,
            (Some((low, _)), Some((high, _))) => {
                return (high / low > 1.0 + precision).then(|| (low * high).sqrt());
            }
        };
        (LEAST..=MOST).contains(&factor).then_some(factor)
    }

    fn add(&mut self, factor: f64, tried: Tried) {
        self.runs += 1;
        let side = if tried.keeps { &mut self.kept } else { &mut self.broke };
        *side = Some((factor, tried));
    }
}

impl Search<'_> {
    /// What is known of a setting once its load is found, or all is called off, and how many loads were tried
    /// for it now.
    fn of_setting(&self, candidate: Candidate) -> Result<(Carried, usize)> {
        let mut bracket = Bracket::default();
        let mut ran = 0;
        while let Some(factor) = bracket.next(self.precision) {
            let tried = match self.journal.known(candidate, factor) {
                Some(tried) => tried.clone(),
                None => {
                    let tried =
                        try_load(self.plan, candidate, self.pairs, factor, self.progress, self.workspaces);
                    let Some(tried) = tried else {
                        return Ok((carried(self.plan, candidate, self.pairs, bracket, false), ran));
                    };
                    self.journal.write(candidate, factor, &tried)?;
                    ran += 1;
                    tried
                }
            };
            self.progress.run_ended(0);
            bracket.add(factor, tried);
        }
        Ok((carried(self.plan, candidate, self.pairs, bracket, true), ran))
    }
}

fn carried(plan: &Plan, candidate: Candidate, pairs: &[Pair], bracket: Bracket, finished: bool) -> Carried {
    let Bracket { kept, broke, runs } = bracket;
    let cell = plan.cell(space::cell(&plan.grid, candidate, pairs[0]));
    let varying = |values: Vec<(String, Value)>| Value::Object(values.into_iter().collect());
    let (own, cluster) = (
        varying(plan.grid.autoscalers[candidate.autoscaler].varying(candidate.combination)),
        varying(plan.grid.cluster.varying(candidate.cluster)),
    );
    let shown = |value: &Value| {
        if value.as_object().is_none_or(|members| members.is_empty()) {
            String::new()
        } else {
            format!(" {value}")
        }
    };
    Carried {
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
        finished,
        runs,
    }
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
            broken: constraint.map(|(constraint, check)| Broken {
                workload: name.clone(),
                constraint: *constraint,
                value: check.value,
            }),
            rate_per_s: 0.0,
            usd_per_month: 0.0,
            usd_per_request: 0.0,
        };
        let content: &Arc<Workload> = &plan.inputs.workloads[cell.workload_input].content;
        let too_many = content.num_requests() as f64 * factor > MOST_KEPT as f64;
        let Some(workload) = (!too_many).then(|| content.scaled(factor, cell.seed)).flatten() else {
            return Some(broken(None));
        };
        let give_up = || progress.is_interrupted();
        let times = plan.inputs.times(&cell);
        let inputs = Inputs::new(&workload, &cell.cluster, &cell.autoscaler, &times, cell.seed).ok()?;
        let inputs = inputs
            .within(Limits { give_up: Some(&give_up), ..Limits::default() })
            .with_programs(&*plan.inputs.programs);
        let ended = workspaces.run(|workspace| inputs.simulate(workspace).ok()).ok().flatten();
        if progress.is_interrupted() {
            return None;
        }
        let Some(metrics) = ended else { return Some(broken(None)) };
        let checks: Vec<(Constraint, Check)> =
            constraints.iter().map(|limit| (*limit, limit.check_run(&metrics))).collect();
        if let Some(first) = checks.iter().find(|(_, check)| !check.kept) {
            return Some(broken(Some(first)));
        }
        rate += workload.len() as f64 / workload.end_s();
        month += per_month(&metrics);
        cost += metrics.total_cost_usd;
        requests += workload.len() as f64;
    }
    let count = pairs.len() as f64;
    Some(Tried {
        keeps: true,
        broken: None,
        rate_per_s: rate / count,
        usd_per_month: month / count,
        usd_per_request: cost / requests,
    })
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
            "finished": self.finished,
            "breaks_first": self.broken.as_ref().map(|Broken { workload, constraint, value }| json!({
                "workload": workload, "metric": constraint.metric.name, "limit": constraint.limit, "value": value,
            })),
            "loads_tried": self.runs,
        })
    }

    /// A line for people.
    pub fn line(&self) -> String {
        match (self.factor, self.rate_per_s, self.usd_per_million_requests, self.cost_usd_per_month) {
            (Some(factor), Some(rate), Some(usd), Some(month)) => {
                let more = if self.at_most || !self.finished { " at least" } else { "" };
                let then = if self.finished { "then" } else { "somewhere above" };
                let broken = self
                    .broken
                    .as_ref()
                    .map_or(String::new(), |broken| format!("; {then} breaks {}", broken.constraint));
                format!(
                    "{}:{more} {rate:.2} requests/s ({factor:.3} times the traffic), ${usd:.2} a million, ${month:.0} a month{broken}",
                    self.name
                )
            }
            _ if !self.finished => format!(
                "{}: breaks a limit under each of the {} tried so far",
                self.name,
                counted(self.runs, "load")
            ),
            _ => format!("{}: breaks a limit under any load", self.name),
        }
    }
}
