//! Runs the cells of a plan on all cores.
//!
//! Rows come in the order of the cells, whatever thread ran them when. A run that fails or panics is a row
//! that says so; the others go on.

pub mod chrome_trace;
pub mod estimate;
pub mod journal;
pub mod kept_curves;
pub mod outcome;
pub mod pools;
pub mod series;
pub mod turns;

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rayon::prelude::*;

use self::journal::Journal;
use self::kept_curves::Keeper;
use self::outcome::{Outcome, row};
use super::panics::caught;
use super::plan::cell::Cell;
use super::plan::{Plan, SharedInputs};
use super::tables::row::RunRow;
use crate::simulation::{
    Detail, Inputs, Limits, MOST_EVENTS, RunInputs, RunMetrics, SimulationError, Workspace,
};
use crate::workload::MOST_KEPT;

/// Watches runs from any thread, and may call them off.
pub trait Progress: Sync {
    /// A run ended, in whatever way.
    fn run_ended(&self, requests: u64);

    /// Whether to start no further run.
    fn is_interrupted(&self) -> bool;
}

/// Called off before every run had ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("interrupted")]
pub struct Interrupted;

/// When to give a run up.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct CellLimits {
    /// Time a run may take. A run that ends because of it depends on the machine, as no other does.
    pub timeout: Option<Duration>,
    pub most_events: u64,
    /// See [`Limits::most_bytes`].
    pub most_bytes: u64,
    /// See [`Limits::check`].
    pub check: bool,
    /// Start nothing further once a run has failed.
    pub fail_fast: bool,
}

impl Default for CellLimits {
    fn default() -> Self {
        Self { timeout: None, most_events: MOST_EVENTS, most_bytes: u64::MAX, check: true, fail_fast: false }
    }
}

/// Why not all runs of a sweep have ended.
#[derive(Debug)]
pub enum Stop {
    Interrupted,
    /// One failed, and that was to end all.
    Failed,
    /// What was done could not be written down.
    Journal(anyhow::Error),
}

/// Simulates one cell.
pub fn run_cell(cell: &Cell, inputs: &SharedInputs, workspace: &mut Workspace) -> Result<RunMetrics, String> {
    inputs_of(cell, inputs)?.simulate(workspace).map_err(|error| error.to_string())
}

/// The same within limits, with a record of everything that happened.
pub fn run_cell_in_detail(
    cell: &Cell,
    inputs: &SharedInputs,
    limits: Limits,
    workspace: &mut Workspace,
) -> Result<(RunMetrics, Detail), String> {
    let inputs = inputs_of(cell, inputs)?.within(limits);
    check_recordable(&inputs)?;
    inputs.simulate_in_detail(workspace).map_err(|error| error.to_string())
}

/// Whether a record of everything that happens has room in memory.
fn check_recordable(inputs: &Inputs) -> Result<(), String> {
    if inputs.workload().streamed.is_none() {
        return Ok(());
    }
    let requests = inputs.workload().num_requests();
    Err(format!(
        "{requests} requests are too many to record one by one, expected at most {MOST_KEPT}; shorten the workload"
    ))
}

pub(in crate::sweep) fn inputs_of<'a>(
    cell: &'a Cell,
    inputs: &'a SharedInputs,
) -> Result<Inputs<'a>, String> {
    let workload = &inputs.workloads[cell.workload_input].content;
    let requests = workload.num_requests();
    if !cell.cluster.pools.is_empty() && workload.streamed.is_some() {
        return Err(format!(
            "{requests} requests are too many for a cluster with pools, expected at most {MOST_KEPT}; shorten the workload"
        ));
    }
    let run = Inputs::new(workload, &cell.cluster, &cell.autoscaler, &inputs.times(cell), cell.seed);
    run.map(|run| run.with_programs(&*inputs.programs)).map_err(|error| error.to_string())
}

/// The same where there is one pool.
pub(in crate::sweep) fn run_inputs<'a>(
    cell: &'a Cell,
    inputs: &'a SharedInputs,
) -> Result<RunInputs<'a>, String> {
    match inputs_of(cell, inputs)? {
        Inputs::One(run) => Ok(*run),
        Inputs::Fleet(_) => Err("a cluster with `pools` found, expected one without".into()),
    }
}

/// Simulates one cell within limits, leaving a trail for curves if asked to.
fn run_cell_within(
    cell: &Cell,
    inputs: &SharedInputs,
    limits: &CellLimits,
    keeps_trail: bool,
    progress: &dyn Progress,
    workspace: &mut Workspace,
) -> Result<Result<RunMetrics, String>, Interrupted> {
    let started = Instant::now();
    let is_late = || limits.timeout.is_some_and(|timeout| started.elapsed() >= timeout);
    let give_up = || progress.is_interrupted() || is_late();
    let inputs = match inputs_of(cell, inputs) {
        Ok(inputs) => inputs,
        Err(error) => return Ok(Err(error)),
    };
    let stop = Limits {
        most_events: limits.most_events,
        most_bytes: limits.most_bytes,
        give_up: Some(&give_up),
        check: limits.check,
    };
    match inputs.within(stop).keeping_trail(keeps_trail).simulate(workspace) {
        Ok(metrics) => Ok(Ok(metrics)),
        Err(SimulationError::CalledOff { .. }) if !is_late() => Err(Interrupted),
        Err(SimulationError::CalledOff { at_s, unfinished }) => Ok(Err(format!(
            "took longer than `--cell-timeout {}`: at {at_s} s of simulated time {unfinished} requests were unfinished",
            limits.timeout.unwrap_or_default().as_secs_f64()
        ))),
        Err(error) => Ok(Err(error.to_string())),
    }
}

/// Runs the cells at `places` of the plan on the current rayon pool, and writes down how each ended as soon
/// as it has; `curves` are offered what they may have a use for.
///
/// Memory does not grow with the number of cells, but for the points of fronts.
pub fn run_journaled(
    plan: &Plan,
    places: &[usize],
    limits: &CellLimits,
    journal: &Journal,
    curves: Option<&Keeper>,
    progress: &dyn Progress,
) -> Result<(), Stop> {
    let (workspaces, writing) = (Workspaces::<Workspace>::default(), Writing { journal, curves });
    let run = |&place: &usize| run_place(plan, place, limits, &writing, progress, &workspaces).map(|_| ());
    let ended = places.par_iter().with_max_len(1).try_for_each(run);
    // What is stored is to stay stored, however it ended.
    journal.sync().map_err(Stop::Journal).and(ended)
}

/// The same for few cells; how each ended, in the order of `places`.
pub fn outcomes(
    plan: &Plan,
    places: &[usize],
    limits: &CellLimits,
    journal: &Journal,
    progress: &dyn Progress,
) -> Result<Vec<Outcome>, Stop> {
    let (workspaces, writing) = (Workspaces::<Workspace>::default(), Writing { journal, curves: None });
    places
        .par_iter()
        .with_max_len(1)
        .map(|&place| run_place(plan, place, limits, &writing, progress, &workspaces))
        .collect()
}

/// Where what a run comes to is kept.
struct Writing<'a> {
    journal: &'a Journal,
    curves: Option<&'a Keeper>,
}

/// Runs the cell at one place and writes down how it ended.
fn run_place(
    plan: &Plan,
    place: usize,
    limits: &CellLimits,
    writing: &Writing,
    progress: &dyn Progress,
    workspaces: &Workspaces<Workspace>,
) -> Result<Outcome, Stop> {
    if progress.is_interrupted() {
        return Err(Stop::Interrupted);
    }
    let index = plan.unique()[place];
    let cell = plan.cell(index);
    let ended = workspaces.run(|workspace| {
        let ended =
            run_cell_within(&cell, &plan.inputs, limits, writing.curves.is_some(), progress, workspace)?;
        if let (Ok(metrics), Some(curves)) = (&ended, writing.curves) {
            curves.offer(plan, place, &cell, metrics, workspace);
        }
        Ok(ended.map(|metrics| {
            let own = metrics.columns().into_iter().map(|(_, value)| value);
            own.chain(metrics.pools.iter().flat_map(pools::values)).collect::<Vec<_>>()
        }))
    });
    let outcome = match ended {
        Ok(outcome) => outcome.map_err(|Interrupted| Stop::Interrupted)?,
        Err(panic) => Err(panic),
    };
    writing.journal.append(place, &outcome).map_err(Stop::Journal)?;
    progress.run_ended(plan.requests(index));
    if limits.fail_fast && outcome.is_err() { Err(Stop::Failed) } else { Ok(outcome) }
}

/// Runs every cell of the plan on the current rayon pool; a row each, in the plan's order.
pub fn run_all(plan: &Plan, progress: &dyn Progress) -> Result<Vec<RunRow>, Interrupted> {
    let outcomes = for_each_cell(plan, plan.unique(), progress, run_cell)?;
    Ok(outcomes
        .into_par_iter()
        .zip(plan.unique())
        .map(|(outcome, &index)| row(plan, &plan.cell(index), outcome))
        .collect())
}

/// What `run` makes of each of `cells`, in their order. A panic is an error like any other.
pub fn for_each_cell<T: Send, W: Default + Send>(
    plan: &Plan,
    cells: &[u64],
    progress: &dyn Progress,
    run: impl Fn(&Cell, &SharedInputs, &mut W) -> Result<T, String> + Sync,
) -> Result<Vec<Result<T, String>>, Interrupted> {
    let workspaces = Workspaces::default();
    let outcomes: Option<Vec<_>> = cells
        .par_iter()
        .with_max_len(1)
        .map(|&index| {
            if progress.is_interrupted() {
                return None;
            }
            let cell = plan.cell(index);
            let outcome = workspaces.run(|workspace| run(&cell, &plan.inputs, workspace)).flatten();
            progress.run_ended(plan.requests(index));
            Some(outcome)
        })
        .collect();
    outcomes.ok_or(Interrupted)
}

/// What threads work in: a workspace for each, and one for a caller outside of the pool.
pub(in crate::sweep) struct Workspaces<W>(Vec<Mutex<W>>);

impl<W: Default> Default for Workspaces<W> {
    fn default() -> Self {
        Self((0..=rayon::current_num_threads()).map(|_| Mutex::default()).collect())
    }
}

impl<W: Default> Workspaces<W> {
    /// Does `work` in this thread's workspace. A panic is an error like any other.
    pub(in crate::sweep) fn run<T>(&self, work: impl FnOnce(&mut W) -> T) -> Result<T, String> {
        let slot = rayon::current_thread_index().unwrap_or(self.0.len() - 1);
        let mut workspace = self.0[slot].lock().unwrap_or_else(PoisonError::into_inner);
        caught(|| work(&mut workspace)).map_err(|panic| {
            // Whatever the panic left half-done goes.
            *workspace = W::default();
            format!("internal error: {panic}; please report it with the grid file")
        })
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;
    use crate::sweep::grid::Grid;
    use crate::sweep::grid::source::Source;
    use crate::sweep::tables::row::Scalar;

    #[derive(Default)]
    struct Counted {
        ended: AtomicU64,
        most: Option<u64>,
    }

    impl Progress for Counted {
        fn run_ended(&self, _requests: u64) {
            self.ended.fetch_add(1, Ordering::Relaxed);
        }

        fn is_interrupted(&self) -> bool {
            self.most.is_some_and(|most| self.ended.load(Ordering::Relaxed) >= most)
        }
    }

    fn plan() -> Plan {
        let text = r#"{"workloads": [{"name": "w", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 20, "rate_per_s": 20}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}], "seeds": [1, 2],
            "cluster": {"global_scheduler": ["round_robin", "least_outstanding"]},
            "autoscalers": [{"static": {"replicas": [1, 2, 4]}}, "inferline"]}"#;
        let source = Source { file: "x.json".into(), text: text.into() };
        Plan::new(Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()).unwrap()
    }

    fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
        rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
    }

    #[test]
    fn rows_are_the_same_on_any_number_of_threads() {
        let plan = plan();
        let one = on_threads(1, || run_all(&plan, &Counted::default()).unwrap());
        let four = on_threads(4, || run_all(&plan, &Counted::default()).unwrap());
        assert_eq!(one, four);
        assert_eq!(one.len(), 16);
        for row in &one {
            assert_eq!(row.get("status"), Some(&Scalar::Text("ok".into())));
            assert_eq!(row.get("num_completed"), row.get("num_requests"));
            let mut names: Vec<_> = row.columns.iter().map(|(name, _)| name).collect();
            names.sort();
            assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "a column twice: {names:?}");
        }
    }

    #[test]
    fn failures_and_panics_become_rows() {
        let plan = plan();
        let outcomes = on_threads(2, || {
            for_each_cell(
                &plan,
                plan.unique(),
                &Counted::default(),
                |cell, inputs, workspace: &mut Workspace| match cell.index {
                    1 => panic!("out of {}", "paper"),
                    2 => Err("no ink".into()),
                    _ => run_cell(cell, inputs, workspace),
                },
            )
        })
        .unwrap();
        let panicked = outcomes[1].clone().unwrap_err();
        assert!(panicked.starts_with("internal error: out of paper at src/sweep/run.rs:"), "{panicked}");
        assert_eq!(outcomes[2], Err("no ink".into()));
        assert!(outcomes[3..].iter().all(Result::is_ok));
        let row = row(&plan, &plan.cell(plan.unique()[2]), outcomes[2].clone());
        assert_eq!(row.get("status"), Some(&Scalar::Text("failed".into())));
        assert_eq!(row.get("error"), Some(&Scalar::Text("no ink".into())));
        assert_eq!(row.get("global_scheduler"), Some(&Scalar::Text("round_robin".into())));
        assert_eq!(row.get("num_requests"), None);
    }

    #[test]
    fn interrupted_sweeps_start_nothing_further() {
        let progress = Counted { most: Some(3), ..Counted::default() };
        assert_eq!(on_threads(1, || run_all(&plan(), &progress)), Err(Interrupted));
        assert_eq!(progress.ended.into_inner(), 3);
    }
}
