//! The verdict of a sweep: the cheapest setting that keeps every limit under every seed, or that none does.
//!
//! Settings are rows that differ by their seed alone. One keeps the limits if every one of its runs does; of
//! those that do, the cheapest by the grid's cost objective wins, of equally cheap ones that with the most
//! room to its limits. Beside it stand the cheapest of another policy and the cheapest fixed fleet. Where
//! none keeps them, it is said which limit nobody keeps, and what comes nearest: the setting whose worst
//! limit is broken by the smallest share.

mod joint;
mod neighbours;
mod text;

use std::collections::BTreeMap;

use crate::sweep::objectives::Objectives;
use crate::sweep::objectives::constraints::{Check, Constraint, Kept, unanswered};
use crate::sweep::tables::row::{RunRow, Scalar};

pub use joint::{Joint, Shared, joint};
pub use neighbours::{CLIFF, Neighbour, neighbours};
pub use text::{NO_LIMITS, dollars, snippet};

/// Runs as a verdict asks for them. Rows are numbered from 0, in the order of the table.
pub trait Runs {
    fn rows(&self) -> usize;

    /// The names of all columns.
    fn columns(&self) -> Vec<&str>;

    /// What stands in a column; None where there is none of this name.
    fn value(&self, row: usize, column: &str) -> Option<Scalar>;

    /// A column as text; None where the row has nothing there.
    fn text(&self, row: usize, column: &str) -> Option<String> {
        match self.value(row, column)? {
            Scalar::Null => None,
            Scalar::Bool(value) => Some(value.to_string()),
            Scalar::Int(value) => Some(value.to_string()),
            Scalar::Float(value) => Some(value.to_string()),
            Scalar::Text(value) => Some(value),
        }
    }

    /// A column as a number; None where the row has none.
    fn number(&self, row: usize, column: &str) -> Option<f64> {
        match self.value(row, column)? {
            Scalar::Int(value) => Some(value as f64),
            Scalar::Float(value) => Some(value),
            _ => None,
        }
    }
}

impl Runs for [RunRow] {
    fn rows(&self) -> usize {
        self.len()
    }

    fn columns(&self) -> Vec<&str> {
        self.first().map_or(Vec::new(), |row| row.columns.iter().map(|(name, _)| name.as_str()).collect())
    }

    fn value(&self, row: usize, column: &str) -> Option<Scalar> {
        self[row].get(column).cloned()
    }
}

/// One limit, and how the runs of a setting stand to it.
#[derive(Debug, Clone, PartialEq)]
pub struct Stand {
    pub constraint: Constraint,
    /// Of the run that is worst.
    pub worst: Check,
    pub kept: Kept,
}

/// A setting on a workload: runs that differ by their seed alone.
#[derive(Debug, Clone, PartialEq)]
pub struct Standing {
    /// Its runs, in the order of the table.
    pub rows: Vec<usize>,
    pub family: String,
    pub policy: String,
    /// Whether it is a fleet of fixed size.
    pub fixed: bool,
    /// Runs that kept every limit.
    pub kept: Kept,
    pub limits: Vec<Stand>,
    /// Means over the runs; None if one lacks them.
    pub cost: Option<f64>,
    pub cost_usd_per_day: Option<f64>,
    pub cost_usd_per_month: Option<f64>,
    /// Most requests that any run rejected: their latencies are in no percentile.
    pub rejected: u64,
    /// Largest share of its requests that any run did not answer.
    pub unanswered: f64,
}

/// What comes of the limits on one workload. Numbers of settings are places in [`Verdict::settings`].
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    pub workload: String,
    pub constraints: Vec<Constraint>,
    /// Column of the cost that decides.
    pub cost: String,
    /// In the order of their first rows.
    pub settings: Vec<Standing>,
    /// The cheapest that keeps every limit under every seed.
    pub best: Option<usize>,
    /// The cheapest such of another policy that is no fixed fleet.
    pub runner_up: Option<usize>,
    /// The cheapest such fixed fleet.
    pub fixed: Option<usize>,
    /// Where none keeps them: what comes nearest.
    pub nearest: Option<usize>,
    /// Cost of the cheapest schedule that perfect foresight found within the limits, in US$ a month; where a
    /// search was made.
    pub edge_usd_per_month: Option<f64>,
}

/// The verdicts on each workload, in the order of the table; none where nothing is asked of a workload.
///
/// `settings` are the names of the columns that tell settings apart.
pub fn verdicts<R: Runs + ?Sized>(runs: &R, settings: &[String], objectives: &Objectives) -> Vec<Verdict> {
    let mut order: Vec<String> = Vec::new();
    let mut groups: BTreeMap<String, Groups> = BTreeMap::new();
    for row in 0..runs.rows() {
        let workload = runs.text(row, "workload").unwrap_or_default();
        let groups = groups.entry(workload).or_insert_with_key(|workload| {
            order.push(workload.clone());
            Groups::default()
        });
        groups.add(row, key(runs, row, settings));
    }
    let of = |workload: String| {
        let constraints = objectives.constraints.on(&workload);
        let groups = groups.remove(&workload)?.rows;
        (!constraints.is_empty()).then(|| Verdict::new(runs, workload, groups, constraints, &objectives.cost))
    };
    order.into_iter().filter_map(of).collect()
}

/// Rows of equal settings, in the order in which these first appear.
#[derive(Default)]
struct Groups {
    numbers: BTreeMap<String, usize>,
    rows: Vec<Vec<usize>>,
}

impl Groups {
    fn add(&mut self, row: usize, key: String) {
        let number = *self.numbers.entry(key).or_insert_with(|| {
            self.rows.push(Vec::new());
            self.rows.len() - 1
        });
        self.rows[number].push(row);
    }
}

fn key<R: Runs + ?Sized>(runs: &R, row: usize, settings: &[String]) -> String {
    let mut key = runs.text(row, "policy").unwrap_or_default();
    for name in settings {
        key.push('\u{1f}');
        key += &runs.text(row, name).unwrap_or_default();
    }
    key
}

/// How one run stands to the limits on its workload.
pub fn checks<R: Runs + ?Sized>(runs: &R, row: usize, constraints: &[Constraint]) -> Vec<Check> {
    // Of a failed run nothing is known.
    let ok = runs.text(row, "status").is_none_or(|status| status == "ok");
    let unanswered = unanswered_in(runs, row);
    let check = |constraint: &Constraint| {
        constraint.check_answered(runs.number(row, &constraint.metric.name).filter(|_| ok), unanswered)
    };
    constraints.iter().map(check).collect()
}

/// Whether nothing scales: a `static` fleet, or pools each of which has such a policy or none.
fn is_fixed<R: Runs + ?Sized>(runs: &R, row: usize) -> bool {
    let policy = runs.text(row, "autoscaler").unwrap_or_default();
    let of_pool = |column: &str| column.strip_prefix("autoscaler.").is_some_and(|pool| !pool.contains('.'));
    policy == "static"
        || policy == "per_pool"
            && runs.columns().into_iter().filter(|&column| of_pool(column)).all(|column| {
                match runs.value(row, column) {
                    Some(Scalar::Text(name)) => name == "static",
                    // Settings of policies for all pools are no names, and absent here.
                    value => value.is_none_or(|value| value == Scalar::Null),
                }
            })
}

/// Share of a run's requests that were never answered.
fn unanswered_in<R: Runs + ?Sized>(runs: &R, row: usize) -> f64 {
    let count = |column: &str| runs.number(row, column).unwrap_or(0.0) as u64;
    unanswered(count("num_requests"), count("num_rejected") + count("num_cut"))
}

impl Standing {
    pub fn new<R: Runs + ?Sized>(runs: &R, rows: Vec<usize>, constraints: &[Constraint], cost: &str) -> Self {
        let checked: Vec<Vec<Check>> = rows.iter().map(|&row| checks(runs, row, constraints)).collect();
        let unanswered = rows.iter().map(|&row| unanswered_in(runs, row)).fold(0.0, f64::max);
        let stand = |(number, constraint): (usize, &Constraint)| {
            let each = || checked.iter().map(|checks| checks[number]);
            let worst = each().map(|check| check.value).reduce(|a, b| constraint.worse(a, b)).flatten();
            let worst = constraint.check_answered(worst, unanswered);
            Stand { constraint: *constraint, worst, kept: Kept::count(each().map(|check| check.kept)) }
        };
        let mean = |column: &str| {
            let values: Option<Vec<f64>> =
                rows.iter().map(|&row| runs.number(row, column).filter(|value| value.is_finite())).collect();
            values
                .filter(|values| !values.is_empty())
                .map(|values| values.iter().sum::<f64>() / values.len() as f64)
        };
        let text = |column: &str| runs.text(rows[0], column).unwrap_or_default();
        let rejected = rows.iter().filter_map(|&row| runs.number(row, "num_rejected")).fold(0.0, f64::max);
        Self {
            family: text("family"),
            policy: text("policy"),
            fixed: is_fixed(runs, rows[0]),
            kept: Kept::count(checked.iter().map(|checks| checks.iter().all(|check| check.kept))),
            limits: constraints.iter().enumerate().map(stand).collect(),
            cost: mean(cost),
            cost_usd_per_day: mean("cost_usd_per_day"),
            cost_usd_per_month: mean("cost_usd_per_month"),
            rejected: rejected as u64,
            unanswered,
            rows,
        }
    }

    pub fn keeps(&self) -> bool {
        self.kept.all()
    }

    /// The smallest margin to any limit, of the worst run; None where a run lacks a metric.
    pub fn margin(&self) -> Option<f64> {
        self.limits.iter().map(|stand| stand.worst.margin).reduce(|a, b| Some(a?.min(b?))).flatten()
    }

    /// The limit with the least room.
    pub fn tightest(&self) -> Option<&Stand> {
        let room = |stand: &&Stand| stand.worst.margin.unwrap_or(f64::NEG_INFINITY);
        self.limits.iter().min_by(|a, b| room(a).total_cmp(&room(b)))
    }
}

impl Verdict {
    fn new<R: Runs + ?Sized>(
        runs: &R,
        workload: String,
        groups: Vec<Vec<usize>>,
        constraints: Vec<Constraint>,
        cost: &str,
    ) -> Self {
        let settings: Vec<Standing> =
            groups.into_iter().map(|rows| Standing::new(runs, rows, &constraints, cost)).collect();
        let mut verdict = Self {
            workload,
            constraints,
            cost: cost.to_owned(),
            settings,
            best: None,
            runner_up: None,
            fixed: None,
            nearest: None,
            edge_usd_per_month: None,
        };
        verdict.best = verdict.cheapest(|_| true);
        match verdict.best.map(|best| verdict.settings[best].clone()) {
            Some(best) => {
                verdict.runner_up =
                    verdict.cheapest(|setting| !setting.fixed && setting.policy != best.policy);
                verdict.fixed = verdict.cheapest(|setting| setting.fixed);
            }
            None => verdict.nearest = verdict.nearest(),
        }
        verdict
    }

    /// The cheapest that keeps the limits, among some settings.
    pub fn cheapest(&self, among: impl Fn(&Standing) -> bool) -> Option<usize> {
        let keeping = self
            .settings
            .iter()
            .enumerate()
            .filter(|(_, setting)| setting.keeps() && setting.cost.is_some() && among(setting));
        let margin = |setting: &Standing| setting.margin().unwrap_or(f64::NEG_INFINITY);
        let cost = |setting: &Standing| setting.cost.unwrap_or(f64::INFINITY);
        let order =
            |a: &Standing, b: &Standing| cost(a).total_cmp(&cost(b)).then(margin(b).total_cmp(&margin(a)));
        keeping.min_by(|(_, a), (_, b)| order(a, b)).map(|(number, _)| number)
    }

    fn nearest(&self) -> Option<usize> {
        let margins = self
            .settings
            .iter()
            .enumerate()
            .filter_map(|(number, setting)| Some((number, setting.margin()?)));
        // Of equals the first.
        margins.reduce(|a, b| if b.1 > a.1 { b } else { a }).map(|(number, _)| number)
    }

    /// How many settings keep every limit under every seed.
    pub fn keeping(&self) -> usize {
        self.settings.iter().filter(|setting| setting.keeps()).count()
    }

    /// The limits that no setting keeps under every seed.
    pub fn kept_by_none(&self) -> Vec<Constraint> {
        let kept = |number: usize| self.settings.iter().any(|setting| setting.limits[number].kept.all());
        self.constraints
            .iter()
            .enumerate()
            .filter(|(number, _)| !kept(*number))
            .map(|(_, constraint)| *constraint)
            .collect()
    }

    /// Fixed fleets that cost what the best one of them does and keep the limits too: whole nodes are paid.
    pub fn as_dear_as(&self, setting: usize) -> usize {
        let cost = self.settings[setting].cost;
        let alike = |other: &&Standing| {
            other.keeps()
                && other.fixed == self.settings[setting].fixed
                && other.policy == self.settings[setting].policy
                && other.cost == cost
        };
        self.settings.iter().filter(alike).count() - 1
    }

    /// Takes in what perfect foresight found: the cheapest of `edge`, points of the same workload, that keeps
    /// every limit under every seed it was searched for.
    pub fn compare_with_edge<R: Runs + ?Sized>(&mut self, edge: &R) {
        let mut cheapest: BTreeMap<String, f64> = BTreeMap::new();
        let mut seeds = std::collections::BTreeSet::new();
        for row in (0..edge.rows()).filter(|&row| edge.text(row, "workload").as_ref() == Some(&self.workload))
        {
            let seed = edge.text(row, "seed").unwrap_or_default();
            seeds.insert(seed.clone());
            let Some(cost) = edge.number(row, "cost_usd_per_month") else { continue };
            if checks(edge, row, &self.constraints).iter().all(|check| check.kept) {
                let least = cheapest.entry(seed).or_insert(cost);
                *least = least.min(cost);
            }
        }
        let complete = !seeds.is_empty() && cheapest.len() == seeds.len();
        self.edge_usd_per_month = complete.then(|| cheapest.values().sum::<f64>() / cheapest.len() as f64);
    }
}

#[cfg(test)]
mod tests;
