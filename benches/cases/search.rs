//! Searches for the edge of the possible, by whole runs and by runs that share what they have in common.

use scalefront::oracle::{
    Objective, OracleSettings, ReplicaSchedule, SharedRuns, Sums, evaluate, limits, search_by_figures,
    search_with,
};
use scalefront::simulation::{Limits, RunInputs, RunMetrics, Workspace, metric};

use super::{Case, Size, digest, lab};

/// The search on the lab's traffic behind a router, by whole runs and by shared ones; both answer with the
/// edge they find.
pub fn search(size: Size, router: &str, budget: u32) -> [Case; 2] {
    let settings = OracleSettings { budget, ..OracleSettings::default() };
    let reference = Some((50.0, 0.5));
    let case = |name: &str, shared: bool| {
        let (setup, settings) = (lab(size, router), settings.clone());
        let workspace = std::sync::Mutex::new((Workspace::default(), Sums::default()));
        Case::new(format!("search, {router}, {name}"), budget as usize, move || {
            let inputs = RunInputs { limits: Limits { check: false, ..Limits::default() }, ..setup.inputs() };
            let limits = limits(&inputs, &settings);
            let (workspace, sums) = &mut *workspace.lock().expect("no other user");
            if shared {
                let [latency, cost] =
                    ["p90_e2e_s", "total_cost_usd"].map(|name| metric::find(name).expect("a metric"));
                let runs =
                    SharedRuns::new(&inputs, &limits, latency, cost).expect("runs that can be resumed");
                let figures = |schedules: &[ReplicaSchedule]| {
                    let of = |schedule| {
                        runs.figures(schedule, workspace, sums)
                            .ok()
                            .flatten()
                            .map(|(latency, cost)| (cost, latency))
                    };
                    schedules.iter().map(of).collect()
                };
                let found = search_by_figures(&inputs, &[], &settings, reference, figures);
                return digest(found);
            }
            let whole = |schedules: &[ReplicaSchedule]| {
                schedules.iter().map(|schedule| evaluate(&inputs, &limits, schedule, workspace)).collect()
            };
            let latency = |metrics: &RunMetrics| metrics.e2e_s.map(|e2e| e2e.p90);
            let cost = |metrics: &RunMetrics| Some(metrics.total_cost_usd);
            let found = search_with(
                &inputs,
                &[],
                &settings,
                Objective { latency: &latency, cost: &cost, reference },
                |_| (),
                whole,
            );
            digest(found.points.into_iter().map(|point| point.schedule).collect::<Vec<_>>())
        })
    };
    [case("whole runs", false), case("shared runs", true)]
}
