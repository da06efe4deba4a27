//! The cheapest setting that keeps the limits, searched rather than enumerated.
//!
//! Settings of the grid race over its workloads and seeds ([`race`]), proposed by a pattern search in every
//! family at once ([`climb`]). A setting has to keep every limit on every workload under every seed; of those
//! that do, the one with the least mean of the grid's cost objective wins. The search is the same on any
//! number of threads and whatever was run before: an earlier search's runs are taken from its journal where
//! this one asks for them. It can be interrupted at any time, and then says what it has.
//!
//! Ranges with `points` are searched between their points as well ([`refine`]); those with a `step` and lists
//! are taken as they are.

mod answer;
mod climb;
pub mod load;
mod race;
pub mod refine;
pub mod space;
pub mod trials;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Result, bail, ensure};

pub use answer::{Recommendation, Setting, Size, apply};
pub use race::Standing;
use race::{End, Race};

use crate::sweep::plan::Plan;
use crate::sweep::run::journal::{self, Header, Journal};
use crate::sweep::run::outcome::Outcome;
use crate::sweep::run::{CellLimits, Progress};
use crate::sweep::store::RECOMMENDATION;

/// What a search leaves behind.
pub const FILE: &str = RECOMMENDATION;

/// The least budget that is taken unless one is given.
const LEAST_BUDGET: usize = 40;

/// Runs a search may take where nothing else is said: a tenth of all that the grid as written asks for.
pub fn default_budget(exhaustive: usize) -> usize {
    exhaustive.div_ceil(10).max(LEAST_BUDGET).min(exhaustive)
}

/// Why a search ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// Nothing is left to look at.
    Exhausted,
    Budget,
    /// Another machine gets further in it.
    Time,
    Interrupted,
}

impl Ended {
    pub fn name(self) -> &'static str {
        match self {
            Self::Exhausted => "nothing is left to look at",
            Self::Budget => "the budget of runs",
            Self::Time => "the time limit, so another machine may come to another answer",
            Self::Interrupted => "an interrupt",
        }
    }
}

/// Whether a grid can be searched: it has limits, and they hold somewhere.
pub fn check(plan: &Plan) -> Result<()> {
    let objectives = &plan.grid.objectives;
    ensure!(
        !objectives.constraints.is_empty(),
        "{}: objectives.constraints: no limits found, expected some such as {{\"p99_ttft_s\": 2}}: the cheapest setting without any is the \
         smallest; add them to the grid, or with --limit p99_ttft_s=2",
        plan.grid.source.file
    );
    let nobody =
        |summary: &&crate::sweep::plan::WorkloadSummary| objectives.constraints.on(&summary.name).is_empty();
    if let Some(summary) = plan.inputs.workloads.iter().map(|workload| &workload.summary).find(nobody) {
        bail!(
            "{}: objectives.constraints: no limit on workload `{}` found, expected one on each: one setting is to keep them all",
            plan.grid.source.file,
            summary.name
        );
    }
    Ok(())
}

/// Searches on the current rayon pool. Runs are written down in `dir` as they end, and those that stand there
/// are not run again.
pub fn search(plan: &Plan, dir: &Path, budget: usize, progress: &dyn Progress) -> Result<Recommendation> {
    check(plan)?;
    let header = Header::new(plan, None, plan.unique().len());
    let (journal, left_over) = journal(dir, &header)?;
    let arms = space::arms(&plan.grid);
    let mut race =
        Race::new(plan, space::pairs(&plan.grid), &journal, CellLimits::default(), budget, left_over);
    let ended = match climb::search(&arms, &mut race, progress) {
        Ok(()) => Ended::Exhausted,
        Err(End::Budget) => Ended::Budget,
        Err(End::Interrupted) => Ended::Interrupted,
        Err(End::Failed(error)) => return Err(error),
    };
    journal.sync()?;
    Ok(Recommendation::new(&race, &arms, ended))
}

/// The journal in `dir`, new or gone on with, and what it holds.
fn journal(dir: &Path, header: &Header) -> Result<(Journal, BTreeMap<usize, Outcome>)> {
    if !journal::is_in(dir) {
        return Ok((Journal::create(dir, header)?, BTreeMap::new()));
    }
    let (journal, mut recorded) = Journal::resume(dir, header)?;
    let places: Vec<usize> = (0..header.runs).filter(|&place| recorded.holds(place)).collect();
    let outcomes =
        places.into_iter().map(|place| Ok((place, recorded.outcome(place)?))).collect::<Result<_>>()?;
    Ok((journal, outcomes))
}

#[cfg(test)]
mod tests;
