//! Settings raced over workloads and seeds: one that breaks a limit, or is dearer than the best so far, runs
//! no further.
//!
//! Settings run in heats: all of a heat on the first workload and seed, those that are left on the next, and
//! so on. What a heat is up against is the best there was when it began, so that nothing depends on which
//! thread was first. While there is none, the cheapest of a heat on the first run goes on alone.

use std::collections::{BTreeMap, BTreeSet};

use super::space::{Candidate, Pair, cell};
use crate::simulation::{MetricValue, RunMetrics};
use crate::sweep::objectives::constraints::{Check, Constraint, unanswered};
use crate::sweep::plan::Plan;
use crate::sweep::run::journal::Journal;
use crate::sweep::run::outcome::Outcome;
use crate::sweep::run::{CellLimits, Progress, Stop, outcomes};

/// Before a setting has met every workload once, so much dearer is put up with: it may be cheaper on the
/// next.
const HANDICAP: f64 = 1.1;

/// How one run of a setting ended.
#[derive(Debug, Clone, PartialEq)]
pub struct Ended {
    pub cost: Option<f64>,
    /// One for each limit that holds on the workload.
    pub checks: Vec<(Constraint, Check)>,
    pub error: Option<String>,
}

impl Ended {
    pub fn keeps(&self) -> bool {
        self.cost.is_some() && self.checks.iter().all(|(_, check)| check.kept)
    }

    /// The least room to any limit; none at all where something is missing.
    pub fn margin(&self) -> f64 {
        if self.cost.is_none() {
            return f64::NEG_INFINITY;
        }
        self.checks
            .iter()
            .map(|(_, check)| check.margin.unwrap_or(f64::NEG_INFINITY))
            .fold(f64::INFINITY, f64::min)
    }
}

/// How far a setting has come. The order is that of how good it is.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    /// On every workload and seed it kept the limits, at this cost in all.
    Kept { cost: f64 },
    /// It kept them as far as it ran, and cost so many times what the best did there.
    Dearer { times: f64 },
    /// It broke a limit after so many runs, by this margin, below 0.
    Broke { runs: usize, margin: f64 },
}

impl Standing {
    pub fn order(&self, other: &Self) -> std::cmp::Ordering {
        let class = |standing: &Self| match standing {
            Self::Kept { .. } => 0,
            Self::Dearer { .. } => 1,
            Self::Broke { .. } => 2,
        };
        match (self, other) {
            (Self::Kept { cost: a }, Self::Kept { cost: b })
            | (Self::Dearer { times: a }, Self::Dearer { times: b }) => a.total_cmp(b),
            (Self::Broke { runs: a, margin: x }, Self::Broke { runs: b, margin: y }) => {
                b.cmp(a).then(y.total_cmp(x))
            }
            _ => class(self).cmp(&class(other)),
        }
    }
}

/// Why a race ended before its time.
#[derive(Debug)]
pub enum End {
    /// So many runs were allowed.
    Budget,
    Interrupted,
    /// Runs could not be written down.
    Failed(anyhow::Error),
}

/// Everything that has run, and what may.
pub struct Race<'a> {
    pub plan: &'a Plan,
    pub pairs: Vec<Pair>,
    /// Workloads, the first of so many pairs each.
    pub workloads: usize,
    pub journal: &'a Journal,
    pub limits: CellLimits,
    /// Runs that are allowed.
    pub budget: usize,
    /// Those that this search has asked for, by their places in the plan.
    pub asked: BTreeMap<usize, Outcome>,
    /// Those that an earlier search left, not yet asked for.
    pub left_over: BTreeMap<usize, Outcome>,
    pub reused: usize,
    /// Place of each run by its id.
    places: BTreeMap<String, usize>,
    cost_at: usize,
    pub best: Option<(Candidate, f64)>,
    pub standings: BTreeMap<Candidate, Standing>,
}

impl<'a> Race<'a> {
    pub fn new(
        plan: &'a Plan,
        pairs: Vec<Pair>,
        journal: &'a Journal,
        limits: CellLimits,
        budget: usize,
        left_over: BTreeMap<usize, Outcome>,
    ) -> Self {
        let names = RunMetrics::names();
        let cost_at =
            names.iter().position(|name| *name == plan.grid.objectives.cost).expect("a checked objective");
        Self {
            plan,
            workloads: plan.workloads(),
            pairs,
            journal,
            limits,
            budget,
            asked: BTreeMap::new(),
            left_over,
            reused: 0,
            places: (0..plan.unique().len()).map(|place| (plan.run_id(place), place)).collect(),
            cost_at,
            best: None,
            standings: BTreeMap::new(),
        }
    }

    /// Place in the plan of a setting's run on a pair.
    pub fn place(&self, candidate: Candidate, pair: usize) -> usize {
        let index = cell(&self.plan.grid, candidate, self.pairs[pair]);
        self.places[&self.plan.id(&self.plan.cell(index))]
    }

    /// How a setting's run on a pair ended, if it has run.
    pub fn ended(&self, candidate: Candidate, pair: usize) -> Option<Ended> {
        let outcome = self.asked.get(&self.place(candidate, pair))?;
        let cell = self.plan.cell(cell(&self.plan.grid, candidate, self.pairs[pair]));
        let constraints = self.plan.grid.objectives.constraints.on(&cell.workload_name());
        let number = |values: &[MetricValue], at: usize| match values[at] {
            MetricValue::Count(count) => Some(count as f64),
            MetricValue::Number(number) => Some(number).filter(|number| number.is_finite()),
            MetricValue::Absent => None,
        };
        let values = outcome.as_ref().ok();
        let unanswered = self.unanswered(candidate, pair);
        let check = |constraint: Constraint| {
            let at = RunMetrics::names().iter().position(|name| *name == constraint.metric.name);
            (
                constraint,
                constraint
                    .check_answered(values.zip(at).and_then(|(values, at)| number(values, at)), unanswered),
            )
        };
        Some(Ended {
            cost: values.and_then(|values| number(values, self.cost_at)),
            checks: constraints.into_iter().map(check).collect(),
            error: outcome.as_ref().err().cloned(),
        })
    }

    /// Share of the requests of a setting's run on a pair that were never answered; 0 if it has not run.
    pub fn unanswered(&self, candidate: Candidate, pair: usize) -> f64 {
        let count = |name: &str| self.metric(candidate, pair, name).unwrap_or(0.0) as u64;
        unanswered(count("num_requests"), count("num_rejected") + count("num_cut"))
    }

    /// A metric of a setting's run on a pair.
    pub fn metric(&self, candidate: Candidate, pair: usize, name: &str) -> Option<f64> {
        let at = RunMetrics::names().iter().position(|other| other == name)?;
        match self.asked.get(&self.place(candidate, pair))?.as_ref().ok()?[at] {
            MetricValue::Count(count) => Some(count as f64),
            MetricValue::Number(number) => Some(number),
            MetricValue::Absent => None,
        }
    }

    /// Runs what of `places` has not run, as far as the budget goes.
    fn run(&mut self, places: &[usize], progress: &dyn Progress) -> Result<(), End> {
        let mut missing: Vec<usize> = Vec::new();
        for &place in places {
            if self.asked.contains_key(&place) || missing.contains(&place) {
                continue;
            }
            if self.asked.len() + missing.len() >= self.budget {
                // What there is room for still runs, so that a budget is used up whatever the heats are.
                self.start(&missing, progress)?;
                return Err(End::Budget);
            }
            missing.push(place);
        }
        self.start(&missing, progress)
    }

    fn start(&mut self, places: &[usize], progress: &dyn Progress) -> Result<(), End> {
        let (known, new): (Vec<usize>, Vec<usize>) =
            places.iter().partition(|place| self.left_over.contains_key(place));
        let ran =
            outcomes(self.plan, &new, &self.limits, self.journal, progress).map_err(|stop| match stop {
                Stop::Interrupted | Stop::Failed => End::Interrupted,
                Stop::Journal(error) => End::Failed(error),
            })?;
        self.reused += known.len();
        for place in known {
            let outcome = self.left_over.remove(&place).expect("it is there");
            self.asked.insert(place, outcome);
        }
        self.asked.extend(new.into_iter().zip(ran));
        Ok(())
    }

    /// Races settings that have not run yet; their standings are then known.
    pub fn heat(&mut self, candidates: &[Candidate], progress: &dyn Progress) -> Result<(), End> {
        if self.best.is_none() && candidates.len() > 1 {
            self.set_pace(candidates, progress)?;
        }
        self.heat_of(candidates, progress)
    }

    /// Finds a first best: the setting that is cheapest on the first run goes all the way before the others
    /// go on, or the next one if it breaks a limit. What is dearer then need not run any further.
    fn set_pace(&mut self, candidates: &[Candidate], progress: &dyn Progress) -> Result<(), End> {
        let places: Vec<usize> = candidates.iter().map(|&candidate| self.place(candidate, 0)).collect();
        self.run(&places, progress)?;
        let cost =
            |&candidate: &Candidate| Some((self.ended(candidate, 0).filter(Ended::keeps)?.cost?, candidate));
        let mut keeping: Vec<(f64, Candidate)> = candidates.iter().filter_map(cost).collect();
        keeping.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        for (_, candidate) in keeping {
            self.heat_of(&[candidate], progress)?;
            if self.best.is_some() {
                break;
            }
        }
        Ok(())
    }

    fn heat_of(&mut self, candidates: &[Candidate], progress: &dyn Progress) -> Result<(), End> {
        let mut seen = BTreeSet::new();
        let is_new =
            |candidate: &Candidate| !self.standings.contains_key(candidate) && seen.insert(*candidate);
        let mut left: Vec<Candidate> = candidates.iter().copied().filter(is_new).collect();
        let best: Option<Vec<f64>> = self.best.map(|(best, _)| {
            (0..self.pairs.len())
                .map(|pair| self.ended(best, pair).and_then(|ended| ended.cost).unwrap_or(f64::INFINITY))
                .collect()
        });
        let mut costs: BTreeMap<Candidate, f64> = left.iter().map(|&candidate| (candidate, 0.0)).collect();
        for pair in 0..self.pairs.len() {
            let places: Vec<usize> = left.iter().map(|&candidate| self.place(candidate, pair)).collect();
            self.run(&places, progress)?;
            let mut on = Vec::new();
            for candidate in left {
                let ended = self.ended(candidate, pair).expect("it has just run");
                if !ended.keeps() {
                    self.standings.insert(candidate, Standing::Broke { runs: pair, margin: ended.margin() });
                    continue;
                }
                let cost = costs.get_mut(&candidate).expect("every one has a cost");
                *cost += ended.cost.unwrap_or(f64::INFINITY);
                let beaten =
                    best.as_ref().map(|best| *cost / best[..=pair].iter().sum::<f64>()).unwrap_or(0.0);
                let allowed = if pair + 1 < self.workloads { HANDICAP } else { 1.0 };
                if beaten > allowed {
                    self.standings.insert(candidate, Standing::Dearer { times: beaten });
                } else {
                    on.push(candidate);
                }
            }
            left = on;
        }
        for candidate in left {
            let cost = costs[&candidate];
            self.standings.insert(candidate, Standing::Kept { cost });
            // Of equals the first in the grid.
            if self.best.is_none_or(|(best, least)| (cost, candidate) < (least, best)) {
                self.best = Some((candidate, cost));
            }
        }
        Ok(())
    }

    /// The setting that comes nearest, where none keeps the limits.
    pub fn nearest(&self) -> Option<Candidate> {
        self.standings.iter().min_by(|(_, a), (_, b)| a.order(b)).map(|(candidate, _)| *candidate)
    }
}
