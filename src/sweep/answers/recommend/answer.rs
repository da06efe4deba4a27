//! What a search has found, for people and for files.

use std::fmt;

use serde_json::{Value, json};

use super::Ended;
use super::race::{Race, Standing};
use super::space::{Arm, Candidate};
use crate::RESULTS_VERSION;
use crate::controllers::Controller;
use crate::sweep::objectives::constraints::{Check, Constraint};
use crate::sweep::plan::Plan;
use crate::sweep::plan::cell::Cell;
use crate::sweep::tables::names::{counted, percent_small, quantity};

/// One limit on one workload, and the run that comes nearest to it or breaks it most.
#[derive(Debug, Clone, PartialEq)]
pub struct Limit {
    pub workload: String,
    pub constraint: Constraint,
    pub value: Option<f64>,
    pub margin: Option<f64>,
    pub kept: bool,
    /// As in [`Check::unanswered`](crate::sweep::objectives::constraints::Check).
    pub unanswered: Option<f64>,
}

/// A setting with what its runs came to.
#[derive(Debug, Clone, PartialEq)]
pub struct Setting {
    pub candidate: Candidate,
    pub family: String,
    pub policy: &'static str,
    /// Resolved, as a grid would spell it.
    pub autoscaler: Value,
    /// Axes of the cluster, bounds of its own included.
    pub cluster: Value,
    /// Ids of its runs, as far as it ran.
    pub run_ids: Vec<String>,
    /// Means over workloads and seeds; None where it did not run on all.
    pub cost_usd_per_day: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
    pub limits: Vec<Limit>,
    /// Largest share of its requests that any of its runs did not answer.
    pub unanswered: f64,
    /// Why the first of its runs that failed did.
    pub error: Option<String>,
    pub standing: Option<Standing>,
}

/// How much there is to choose from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    pub settings: usize,
    /// That all of them take, on every workload under every seed.
    pub runs: usize,
}

impl Size {
    pub fn of(plan: &Plan) -> Self {
        Self {
            settings: super::space::arms(&plan.grid).iter().map(Arm::len).sum(),
            runs: plan.unique().len(),
        }
    }
}

/// What a search has found.
#[derive(Debug, Clone, PartialEq)]
pub struct Recommendation {
    /// `None` if no setting that was looked at keeps the limits.
    pub best: Option<Setting>,
    /// What comes nearest, where none keeps them.
    pub nearest: Option<Setting>,
    /// The best of another policy, and the best fixed fleet, of those that ran on everything.
    pub runner_up: Option<Setting>,
    pub fixed: Option<Setting>,
    /// Settings next to the best one that were looked at.
    pub neighbours: Vec<Setting>,
    /// The recommended setting under other circumstances; filled in once that has been tried.
    pub trials: Vec<Value>,
    pub settings_looked_at: usize,
    pub runs: usize,
    pub reused: usize,
    pub budget: usize,
    /// The grid as it was written, which is what a sweep of it runs.
    pub as_written: Size,
    /// What was searched: the same, with the places between the points of its ranges.
    pub searched: Size,
    pub ended: Ended,
    pub provenance: Value,
}

impl Recommendation {
    pub(super) fn new(race: &Race, arms: &[Arm], ended: Ended) -> Self {
        let kept: Vec<(Candidate, f64)> = race
            .standings
            .iter()
            .filter_map(|(candidate, standing)| match standing {
                Standing::Kept { cost } => Some((*candidate, *cost)),
                _ => None,
            })
            .collect();
        let cheapest = |among: &dyn Fn(&Setting) -> bool| {
            let mut sorted = kept.clone();
            sorted.sort_by(|a, b| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0)));
            sorted.into_iter().map(|(candidate, _)| setting(race, candidate)).find(|setting| among(setting))
        };
        let best = race.best.map(|(candidate, _)| setting(race, candidate));
        let (mut runner_up, mut fixed) = (None, None);
        if let Some(best) = &best {
            runner_up = cheapest(&|setting| setting.policy != best.policy && setting.policy != "static");
            fixed = cheapest(&|setting| setting.policy == "static");
        }
        let nearest =
            if best.is_none() { race.nearest().map(|candidate| setting(race, candidate)) } else { None };
        let plan = race.plan;
        Self {
            neighbours: best.as_ref().map(|best| neighbours(race, arms, best.candidate)).unwrap_or_default(),
            best,
            nearest,
            runner_up,
            fixed,
            trials: Vec::new(),
            settings_looked_at: race.standings.len(),
            runs: race.asked.len(),
            reused: race.reused,
            budget: race.budget,
            as_written: Size::of(plan),
            searched: Size::of(plan),
            ended,
            provenance: json!({
                "scalefront_version": env!("CARGO_PKG_VERSION"),
                "results_version": RESULTS_VERSION,
                "grid_file": plan.grid.source.file,
                "grid": plan.grid.as_given,
                "hardware": plan.provenance(),
                "workloads": plan.inputs.workloads.iter().map(|workload| &workload.summary).collect::<Vec<_>>(),
            }),
        }
    }

    /// `recommendation.json`.
    pub fn to_json(&self, apply: Option<&str>) -> Value {
        let shown = self.best.as_ref().or(self.nearest.as_ref());
        json!({
            "verdict": self.verdict(),
            "kept": self.best.is_some(),
            "setting": self.best.as_ref().map(described),
            "cost_usd_per_month": self.best.as_ref().and_then(|best| best.cost_usd_per_month),
            "cost_usd_per_day": self.best.as_ref().and_then(|best| best.cost_usd_per_day),
            "constraints": shown.map(limits).unwrap_or_default(),
            "unanswered_share": shown.map(|setting| setting.unanswered),
            "robustness": {
                "neighbours": self.neighbours.iter().map(summary).collect::<Vec<_>>(),
                "trials": self.trials,
            },
            "runs": {
                "used": self.runs,
                "of_them_from_an_earlier_search": self.reused,
                "budget": self.budget,
                "settings_looked_at": self.settings_looked_at,
                "settings": self.as_written.settings,
                "exhaustive": self.as_written.runs,
                "searched": {"settings": self.searched.settings, "runs": self.searched.runs},
                "ended_by": self.ended.name(),
            },
            "nearest": self.nearest.as_ref().map(summary),
            "runner_up": self.runner_up.as_ref().map(summary),
            "fixed_fleet": self.fixed.as_ref().map(summary),
            "apply": apply,
            "provenance": self.provenance,
        })
    }

    /// What it took, beside what there is to choose from.
    fn effort(&self) -> String {
        let Self { as_written, searched, .. } = self;
        let between = if searched == as_written {
            String::new()
        } else {
            format!(
                ", and {} with the places between its points that were searched too",
                counted(searched.settings, "setting")
            )
        };
        format!(
            "{} of {} looked at, ended by {}; the grid as written has {} ({} in all){between}",
            counted(self.runs, "run"),
            counted(self.settings_looked_at, "setting"),
            self.ended.name(),
            counted(as_written.settings, "setting"),
            counted(as_written.runs, "run"),
        )
    }

    /// The answer in one or two sentences.
    pub fn verdict(&self) -> String {
        match (&self.best, &self.nearest) {
            (Some(best), _) => {
                let mut text = format!("{} keeps every limit at {}", best.name(), best.price());
                if let Some(tightest) = best.tightest().filter(|limit| limit.constraint.limit > 0.0) {
                    text += &format!("; the least room is to {} ({})", tightest.constraint, tightest.shown());
                }
                if best.unanswered > 0.0 {
                    text += &format!(
                        "; {} of requests were rejected or cut off under it, of which no latency says anything",
                        percent_small(best.unanswered)
                    );
                }
                for (what, other) in
                    [("the best of another policy", &self.runner_up), ("the best fixed fleet", &self.fixed)]
                {
                    if let Some(other) = other
                        && other.candidate != best.candidate
                    {
                        text += &format!("; {what} found, {}, costs {}", other.name(), other.price());
                    }
                }
                text + "."
            }
            (None, Some(nearest)) => {
                let broken: Vec<String> = nearest
                    .limits
                    .iter()
                    .filter(|limit| !limit.kept)
                    .map(|limit| format!("{} on `{}` ({})", limit.constraint, limit.workload, limit.shown()))
                    .collect();
                let which = match &nearest.error {
                    Some(error) => format!("a run of which failed: {error}"),
                    None => format!("which breaks {}", broken.join(", ")),
                };
                format!(
                    "No setting that was looked at keeps the limits; nearest comes {}, {which}.",
                    nearest.name()
                )
            }
            (None, None) => format!(
                "{} ran, and no setting has met every workload and seed, nor broken a limit: allow more runs (`--budget`).",
                counted(self.runs, "run")
            ),
        }
    }
}

impl Setting {
    /// `keda {"target_per_replica":40}`: what an axis of the grid varies.
    pub fn name(&self) -> String {
        let cluster = if self.cluster.as_object().is_none_or(|members| members.is_empty()) {
            String::new()
        } else {
            format!(" on {}", self.cluster)
        };
        let varying = &self.autoscaler["varying"];
        let own = if varying.as_object().is_none_or(|members| members.is_empty()) {
            String::new()
        } else {
            format!(" {varying}")
        };
        format!("{}{own}{cluster}", self.family)
    }

    fn price(&self) -> String {
        match (self.cost_usd_per_month, self.cost_usd_per_day) {
            (Some(month), Some(day)) => format!("${month:.0} a month (${day:.2} a day, 30.44 days)"),
            _ => "an unknown cost".into(),
        }
    }

    fn tightest(&self) -> Option<&Limit> {
        tightest(&self.limits)
    }
}

/// The limit with the least room. One of 0 that is kept has none, which says nothing.
pub(super) fn tightest(limits: &[Limit]) -> Option<&Limit> {
    let room = |limit: &&Limit| match limit.margin {
        Some(_) if limit.kept && limit.constraint.limit == 0.0 => f64::INFINITY,
        margin => margin.unwrap_or(f64::NEG_INFINITY),
    };
    limits.iter().min_by(|a, b| room(a).total_cmp(&room(b)))
}

impl Limit {
    pub(super) fn new(workload: String, constraint: Constraint, check: Check) -> Self {
        let Check { value, margin, kept, unanswered } = check;
        Self { workload, constraint, value, margin, kept, unanswered }
    }

    pub(super) fn shown(&self) -> String {
        let Some(value) = self.value.map(|value| quantity(value, &self.constraint.metric.name)) else {
            return "not measured".into();
        };
        match (self.margin, self.unanswered) {
            (_, Some(unanswered)) => {
                format!("{value} of those answered, and {} were not", percent_small(unanswered))
            }
            // Of 0 there are no shares.
            _ if self.constraint.limit == 0.0 => format!("{value} found"),
            (Some(margin), None) if margin < 0.0 => {
                format!("{value} found, {} beyond", percent_small(-margin))
            }
            (Some(margin), None) => format!("{value} found, {} of room", percent_small(margin)),
            (None, None) => "not measured".into(),
        }
    }
}

impl fmt::Display for Recommendation {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        writeln!(f, "{}", self.verdict())?;
        if let Some(setting) = self.best.as_ref().or(self.nearest.as_ref()) {
            writeln!(f, "\n{:#}", setting.autoscaler["resolved"])?;
            for limit in &setting.limits {
                let mark = if limit.kept { "keeps" } else { "breaks" };
                writeln!(f, "  {mark}  {} on {}: {}", limit.constraint, limit.workload, limit.shown())?;
            }
        }
        for neighbour in &self.neighbours {
            let how = match neighbour.standing {
                Some(Standing::Kept { .. }) => format!("keeps them too, at {}", neighbour.price()),
                Some(Standing::Dearer { times }) => format!("was dearer, {times:.3} times as far as it ran"),
                Some(Standing::Broke { .. }) => match (&neighbour.error, neighbour.tightest()) {
                    (None, Some(limit)) => format!("breaks {} ({})", limit.constraint, limit.shown()),
                    (error, _) => format!("failed: {}", error.as_deref().unwrap_or("no limit was measured")),
                },
                None => continue,
            };
            writeln!(f, "  beside it {} {how}", neighbour.name())?;
        }
        for trial in &self.trials {
            writeln!(f, "  {}", trial["sentence"].as_str().unwrap_or_default())?;
        }
        write!(f, "\n{}", self.effort())
    }
}

/// Settings one step away along each axis, as far as they were looked at.
fn neighbours(race: &Race, arms: &[Arm], best: Candidate) -> Vec<Setting> {
    let find =
        |arm: &Arm| arm.places().find(|(_, candidate)| **candidate == best).map(|(place, _)| place.clone());
    let Some((arm, place)) = arms.iter().find_map(|arm| Some((arm, find(arm)?))) else { return Vec::new() };
    let mut found = Vec::new();
    for axis in 0..place.len() {
        // The nearest that was looked at, on either side.
        let line = |moved: usize| {
            let mut beside = place.clone();
            beside[axis] = moved;
            arm.at(&beside).filter(|candidate| race.standings.contains_key(candidate))
        };
        let below = (0..place[axis]).rev().find_map(line);
        let above = (place[axis] + 1..arm.sizes[axis]).find_map(line);
        found.extend([below, above].into_iter().flatten().map(|candidate| setting(race, candidate)));
    }
    found
}

fn members(varying: Vec<(String, Value)>) -> Value {
    Value::Object(varying.into_iter().collect())
}

fn setting(race: &Race, candidate: Candidate) -> Setting {
    let plan = race.plan;
    let cell = |pair: usize| plan.cell(super::space::cell(&plan.grid, candidate, race.pairs[pair]));
    let first: Cell = cell(0);
    let ran: Vec<usize> =
        (0..race.pairs.len()).take_while(|&pair| race.ended(candidate, pair).is_some()).collect();
    let mean = |name: &str| {
        let values: Option<Vec<f64>> =
            (0..race.pairs.len()).map(|pair| race.metric(candidate, pair, name)).collect();
        values.map(|values| values.iter().sum::<f64>() / values.len() as f64)
    };
    let mut limits: Vec<Limit> = Vec::new();
    let mut run_ids = Vec::new();
    for &pair in &ran {
        let cell = cell(pair);
        run_ids.push(plan.id(&cell));
        for (constraint, check) in race.ended(candidate, pair).expect("it ran").checks {
            let own = Limit::new(cell.workload_name(), constraint, check);
            let room = |limit: &Limit| limit.margin.unwrap_or(f64::NEG_INFINITY);
            match limits
                .iter_mut()
                .find(|limit| limit.workload == own.workload && limit.constraint == constraint)
            {
                Some(limit) if room(&own) < room(limit) => *limit = own,
                Some(_) => {}
                None => limits.push(own),
            }
        }
    }
    run_ids.dedup();
    let varying = plan.grid.autoscalers[candidate.autoscaler].varying(candidate.combination);
    let short = |(path, value): (String, Value)| {
        (path.rsplit_once('.').map_or(path.clone(), |(_, field)| field.into()), value)
    };
    Setting {
        candidate,
        family: first.family.clone(),
        policy: first.autoscaler.name(),
        autoscaler: json!({"resolved": first.autoscaler, "varying": members(varying.into_iter().map(short).collect())}),
        cluster: members(plan.grid.cluster.varying(candidate.cluster)),
        run_ids,
        cost_usd_per_day: mean("cost_usd_per_day"),
        cost_usd_per_month: mean("cost_usd_per_month"),
        limits,
        unanswered: ran.iter().map(|&pair| race.unanswered(candidate, pair)).fold(0.0, f64::max),
        error: ran.iter().find_map(|&pair| race.ended(candidate, pair)?.error),
        standing: race.standings.get(&candidate).copied(),
    }
}

fn limits(setting: &Setting) -> Vec<Value> {
    let limit = |limit: &Limit| {
        json!({
            "workload": limit.workload,
            "metric": limit.constraint.metric.name,
            "limit": limit.constraint.limit,
            "value": limit.value,
            "margin": limit.margin,
            "kept": limit.kept,
            "unanswered": limit.unanswered,
        })
    };
    setting.limits.iter().map(limit).collect()
}

fn described(setting: &Setting) -> Value {
    json!({
        "family": setting.family,
        "autoscaler": setting.autoscaler["resolved"],
        "cluster": setting.cluster,
        "run_ids": setting.run_ids,
    })
}

fn summary(setting: &Setting) -> Value {
    let (standing, by) = match setting.standing {
        Some(Standing::Kept { .. }) => ("kept every limit", None),
        Some(Standing::Dearer { times }) => ("dearer than the best so far, and given up", Some(times)),
        Some(Standing::Broke { margin, .. }) => ("broke a limit", Some(margin)),
        None => ("did not run", None),
    };
    json!({
        "setting": described(setting),
        "name": setting.name(),
        "standing": standing,
        "by": by.filter(|by| by.is_finite()),
        "cost_usd_per_month": setting.cost_usd_per_month,
        "constraints": limits(setting),
    })
}

/// How the recommended setting gets to the cluster.
pub fn apply(setting: &Setting, plan: &Plan, dir: &str) -> String {
    let pairs = super::space::pairs(&plan.grid);
    let cell = plan.cell(super::space::cell(&plan.grid, setting.candidate, pairs[0]));
    match (Controller::of(&cell.autoscaler), setting.run_ids.first()) {
        (Some(to), Some(id)) => {
            format!("scalefront export {dir} --run {id} --to {} --out {}.yaml", to.name(), to.name())
        }
        _ => match cell.autoscaler.settings().initial_replicas() {
            Some(replicas) => format!("replicas: {replicas} in its Deployment, and no autoscaler"),
            None => format!(
                "no controller's file holds a policy `{}`: its settings are above",
                cell.autoscaler.name()
            ),
        },
    }
}
