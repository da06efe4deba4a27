//! `compare.csv`: a row per pair and workload.

use crate::analysis::Column;
use crate::analysis::compare::{Change, Comparison, Outcome};
use crate::analysis::outputs::estimate_columns;
use crate::analysis::statistics::Estimate;

/// Columns: `workload`, `candidate`, `baseline`; `hv_candidate`, `hv_baseline`, `hv_difference` (candidate
/// minus baseline), each with `_ci95_low` and `_ci95_high`; `cost_at_equal_latency_percent` and
/// `latency_at_equal_cost_percent` (change against the baseline), likewise; `wins`, `losses`, `ties` in
/// `num_cells`; `num_seeds`; `num_runs_candidate`, `num_runs_baseline`.
pub fn columns(comparison: &Comparison) -> Vec<(String, Column)> {
    let outcomes = &comparison.outcomes;
    let text = |of: &dyn Fn(&Outcome) -> String| Column::Text(outcomes.iter().map(of).collect());
    let label = |contestant: usize| comparison.contestants[contestant].label.clone();
    let count =
        |of: fn(&Outcome) -> usize| Column::Int(outcomes.iter().map(|outcome| of(outcome) as i64).collect());
    let mut columns = vec![
        ("workload".to_owned(), text(&|outcome| comparison.workloads[outcome.workload].name.clone())),
        ("candidate".to_owned(), text(&|outcome| label(outcome.candidate))),
        ("baseline".to_owned(), text(&|outcome| label(outcome.baseline))),
    ];
    let percent =
        |change: Change| Estimate { mean: change.percent, interval: change.interval, count: change.cells };
    let estimates: [(&str, Vec<Option<Estimate>>); 5] = [
        ("hv_candidate", outcomes.iter().map(|outcome| outcome.hv_candidate).collect()),
        ("hv_baseline", outcomes.iter().map(|outcome| outcome.hv_baseline).collect()),
        ("hv_difference", outcomes.iter().map(|outcome| outcome.hv_difference).collect()),
        (
            "cost_at_equal_latency_percent",
            outcomes.iter().map(|outcome| outcome.cost_at_equal_latency.map(percent)).collect(),
        ),
        (
            "latency_at_equal_cost_percent",
            outcomes.iter().map(|outcome| outcome.latency_at_equal_cost.map(percent)).collect(),
        ),
    ];
    for (name, estimates) in estimates {
        columns.extend(estimate_columns(name, &estimates));
    }
    type Count = fn(&Outcome) -> usize;
    let counts: [(&str, Count); 7] = [
        ("wins", |outcome| outcome.wins),
        ("losses", |outcome| outcome.losses),
        ("ties", |outcome| outcome.ties),
        ("num_cells", |outcome| outcome.cells),
        ("num_seeds", |outcome| outcome.seeds),
        ("num_runs_candidate", |outcome| outcome.runs[1]),
        ("num_runs_baseline", |outcome| outcome.runs[0]),
    ];
    columns.extend(counts.map(|(name, of)| (name.to_owned(), count(of))));
    columns
}
