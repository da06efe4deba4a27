//! Curves of runs that may be on a front, kept as runs end, so that no run has to be simulated again to be
//! drawn.
//!
//! Which runs are on fronts is known at the end. Until then a run is kept as long as none of its family,
//! workload and seed has been better in both objectives. The room for that is bounded: whoever finds none is
//! run once more if its curves turn out to be wanted.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use super::outcome::settings_of;
use super::series::{judged, of_workspace};
use super::{Interrupted, Progress, for_each_cell, inputs_of};
use crate::simulation::metric::{Metric, Quantity};
use crate::simulation::{MetricValue, RunMetrics, Workspace};
use crate::sweep::plan::cell::Cell;
use crate::sweep::plan::{Plan, SharedInputs};
use crate::sweep::tables::row::{RunRow, RunSeries, Series};

/// What curves may take in memory, by default.
pub const MOST_BYTES: usize = 64 << 20;

/// The curves of a sweep's runs so far, by the runs' places in the plan.
#[derive(Debug, Default)]
pub struct KeptCurves {
    curves: BTreeMap<usize, Vec<Series>>,
    bytes: usize,
}

impl KeptCurves {
    pub fn holds(&self, place: usize) -> bool {
        self.curves.contains_key(&place)
    }

    pub fn put(&mut self, place: usize, series: Vec<Series>) {
        self.take(place);
        self.bytes += bytes(&series);
        self.curves.insert(place, series);
    }

    pub fn take(&mut self, place: usize) -> Option<Vec<Series>> {
        let series = self.curves.remove(&place)?;
        self.bytes -= bytes(&series);
        Some(series)
    }
}

/// The curves of the runs at `places` of the plan, as far as they were not `kept` when these ended: those are
/// run once more, on the current rayon pool. The distribution is that of the latency they are judged by. Runs
/// that fail, or are too long to be recorded, have none.
pub fn of_runs(
    plan: &Plan,
    places: &[usize],
    kept: &mut KeptCurves,
    progress: &dyn Progress,
) -> Result<Vec<RunSeries>, Interrupted> {
    let quantity = judged(&plan.grid.objectives);
    let missing: Vec<usize> = places.iter().copied().filter(|&place| !kept.holds(place)).collect();
    let cells: Vec<u64> = missing.iter().map(|&place| plan.unique()[place]).collect();
    let again = for_each_cell(plan, &cells, progress, |cell, inputs, workspace: &mut Workspace| {
        run_for_curves(cell, inputs, quantity, workspace)
    })?;
    for (place, series) in missing.into_iter().zip(again) {
        series.into_iter().flatten().for_each(|series| kept.put(place, series));
    }
    let curves = places
        .iter()
        .filter_map(|&place| Some(RunSeries { run_id: plan.run_id(place), series: kept.take(place)? }));
    Ok(curves.collect())
}

fn run_for_curves(
    cell: &Cell,
    inputs: &SharedInputs,
    quantity: &'static Quantity,
    workspace: &mut Workspace,
) -> Result<Option<Vec<Series>>, String> {
    let metrics = inputs_of(cell, inputs)?
        .keeping_trail(true)
        .simulate(workspace)
        .map_err(|error| error.to_string())?;
    Ok(of_workspace(workspace, metrics.simulated_s, quantity, &cell.cluster.pools))
}

fn bytes(series: &[Series]) -> usize {
    series
        .iter()
        .map(|series| size_of::<Series>() + series.name.len() + size_of_val(&series.points[..]))
        .sum()
}

/// What is on one front: workload, seed, policy, and what else tells families apart.
type Group = (String, u64, String, Vec<String>);

/// A run that no other of its group was better than, as far as these have ended.
#[derive(Debug, Clone, Copy)]
struct Candidate {
    place: usize,
    /// Latency and cost.
    point: [f64; 2],
}

#[derive(Debug, Default)]
struct State {
    fronts: BTreeMap<Group, Vec<Candidate>>,
    kept: KeptCurves,
}

/// Keeps curves of runs while a sweep goes, from any thread.
#[derive(Debug)]
pub struct Keeper {
    most_bytes: usize,
    objectives: [&'static Metric; 2],
    quantity: &'static Quantity,
    group_by: Vec<String>,
    state: Mutex<State>,
}

impl Keeper {
    pub fn new(plan: &Plan, most_bytes: usize) -> Self {
        let objectives = &plan.grid.objectives;
        Self {
            most_bytes,
            objectives: objectives.metrics().map(|(_, metric)| metric),
            quantity: judged(objectives),
            group_by: objectives.group_by.clone(),
            state: Mutex::default(),
        }
    }

    /// Takes the curves of a run that `workspace` has just been used for, if it may be on a front.
    pub fn offer(
        &self,
        plan: &Plan,
        place: usize,
        cell: &Cell,
        metrics: &RunMetrics,
        workspace: &mut Workspace,
    ) {
        let point = self.objectives.map(|metric| match metric.value(metrics) {
            MetricValue::Count(count) => count as f64,
            MetricValue::Number(number) => number,
            MetricValue::Absent => f64::NAN,
        });
        if !point.iter().all(|value| value.is_finite()) {
            return;
        }
        let group = self.group(plan, cell);
        {
            let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
            let front = state.fronts.entry(group).or_default();
            if front.iter().any(|other| beats(other, place, point)) {
                return;
            }
            let candidate = Candidate { place, point };
            front.retain(|other| {
                let stays = !beats(&candidate, other.place, other.point);
                if !stays {
                    state.kept.take(other.place);
                }
                stays
            });
            front.push(candidate);
            if state.kept.bytes >= self.most_bytes {
                return;
            }
        }
        // Outside of the lock. If a better run ends meanwhile, these are kept for nothing.
        let Some(series) = of_workspace(workspace, metrics.simulated_s, self.quantity, &cell.cluster.pools)
        else {
            return;
        };
        let state = &mut *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.kept.bytes + bytes(&series) <= self.most_bytes {
            state.kept.put(place, series);
        }
    }

    fn group(&self, plan: &Plan, cell: &Cell) -> Group {
        let groups = if self.group_by.is_empty() {
            Vec::new()
        } else {
            let settings = RunRow { columns: settings_of(&plan.inputs, cell) };
            self.group_by.iter().map(|name| settings.text(name)).collect()
        };
        (cell.workload_name(), cell.seed, cell.family.clone(), groups)
    }

    pub fn into_kept(self) -> KeptCurves {
        self.state.into_inner().unwrap_or_else(PoisonError::into_inner).kept
    }
}

/// Whether `other` keeps a run off the front. Of equal points the first in the plan is on it.
fn beats(other: &Candidate, place: usize, point: [f64; 2]) -> bool {
    let no_worse = other.point[0] <= point[0] && other.point[1] <= point[1];
    no_worse && (other.point != point || other.place < place)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::simulation::Limits;
    use crate::sweep::grid::Grid;
    use crate::sweep::grid::source::Source;
    use crate::sweep::run::journal::{Header, Journal};
    use crate::sweep::run::series::of_detail;
    use crate::sweep::run::{CellLimits, run_cell, run_cell_in_detail, run_journaled};

    struct Quiet;

    impl Progress for Quiet {
        fn run_ended(&self, _requests: u64) {}

        fn is_interrupted(&self) -> bool {
            false
        }
    }

    /// Runs with rejected requests, several tokens, and scaling among them; some settings come to the same
    /// runs.
    fn plan() -> Plan {
        let text = r#"{"workloads": [{"name": "w", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 20}]}},
            "lengths": {"uniform": {"prefill": {"min_tokens": 16, "max_tokens": 4500}, "decode": {"min_tokens": 1, "max_tokens": 40}}}}}],
            "seeds": [1, 2], "cluster": {"global_scheduler": ["round_robin", "least_outstanding"], "max_request_tokens": 4540,
            "initial_replicas": 2, "max_replicas": 12},
            "autoscalers": [{"static": {"replicas": [1, 2, 4, 8, 9]}}, {"inferline": {"stabilization_delay_s": [5, 10, 100, 101]}}],
            "objectives": {"latency": "p90_ttft_s", "group_by": ["global_scheduler"]}}"#;
        let source = Source { file: "x.json".into(), text: text.into() };
        Plan::new(Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()).unwrap()
    }

    fn kept(plan: &Plan, most_bytes: usize) -> KeptCurves {
        let keeper = Keeper::new(plan, most_bytes);
        let places: Vec<usize> = (0..plan.unique().len()).collect();
        let dir = tempfile::tempdir().unwrap();
        let journal = Journal::create(dir.path(), &Header::new(plan, None, places.len())).unwrap();
        run_journaled(plan, &places, &CellLimits::default(), &journal, Some(&keeper), &Quiet).unwrap();
        keeper.into_kept()
    }

    #[test]
    fn what_is_kept_is_what_another_run_gives_and_has_every_run_on_a_front() {
        let plan = plan();
        let all: Vec<usize> = (0..plan.unique().len()).collect();
        let mut curves = kept(&plan, MOST_BYTES);
        let held: Vec<usize> = all.iter().copied().filter(|&place| curves.holds(place)).collect();
        let mut workspace = Workspace::default();
        let runs: Vec<(Vec<String>, [f64; 2])> = all
            .iter()
            .map(|&place| {
                let cell = plan.cell(plan.unique()[place]);
                let metrics = run_cell(&cell, &plan.inputs, &mut workspace).unwrap();
                let router = RunRow { columns: settings_of(&plan.inputs, &cell) }.text("global_scheduler");
                (
                    vec![cell.seed.to_string(), cell.family, router],
                    [metrics.ttft_s.unwrap().p90, metrics.total_cost_usd],
                )
            })
            .collect();
        let better = |a: [f64; 2], b: [f64; 2]| a[0] <= b[0] && a[1] <= b[1];
        let on_front = |&place: &usize| {
            let (group, point) = &runs[place];
            let beaten =
                |other: usize| other != place && runs[other].0 == *group && better(runs[other].1, *point);
            !all.iter().any(|&other| beaten(other) && (runs[other].1 != *point || other < place))
        };
        let fronts: Vec<usize> = all.iter().copied().filter(on_front).collect();
        assert_eq!(held, fronts);
        assert!(fronts.len() >= 12 && fronts.len() < all.len(), "{fronts:?} of {}", all.len());

        let again = of_runs(&plan, &all, &mut KeptCurves::default(), &Quiet).unwrap();
        let names = |run: &RunSeries| run.series.iter().map(|series| series.name.clone()).collect::<Vec<_>>();
        assert_eq!(
            names(&again[0]),
            ["num_replicas", "num_draining", "queue_length", "arrival_rate_per_s", "ttft_cdf"]
        );
        assert_eq!(of_runs(&plan, &all, &mut curves, &Quiet).unwrap(), again);
        // The slow twin records everything.
        for (&place, run) in all.iter().zip(&again) {
            let cell = plan.cell(plan.unique()[place]);
            let (metrics, detail) =
                run_cell_in_detail(&cell, &plan.inputs, Limits::default(), &mut workspace).unwrap();
            let recorded = of_detail(&detail, metrics.simulated_s, &[judged(&plan.grid.objectives)]);
            assert_eq!(recorded.len(), run.series.len());
            for (recorded, kept) in recorded.iter().zip(&run.series) {
                assert_eq!((&recorded.name, recorded.points.len()), (&kept.name, kept.points.len()));
                let close = |(a, b): (&(f64, f64), &(f64, f64))| a.0 == b.0 && (a.1 - b.1).abs() <= 1e-9;
                assert!(
                    recorded.points.iter().zip(&kept.points).all(close),
                    "{} of {}",
                    kept.name,
                    run.run_id
                );
            }
        }
        assert_eq!(curves.bytes, 0, "all were taken");
    }

    #[test]
    fn room_is_bounded() {
        let plan = plan();
        let some = kept(&plan, 100_000);
        assert!(
            some.bytes <= 100_000 && some.curves.len() >= 2,
            "{} bytes of {} runs",
            some.bytes,
            some.curves.len()
        );
        assert_eq!(some.bytes, some.curves.values().map(|series| bytes(series)).sum::<usize>());
        assert!(some.curves.len() < kept(&plan, MOST_BYTES).curves.len());
        assert!(kept(&plan, 0).curves.is_empty());
    }
}
