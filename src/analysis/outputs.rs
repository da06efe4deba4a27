//! The shape in which fronts and hypervolumes are stored.

use anyhow::Result;
use polars::prelude::DataFrame;

use super::scores::{Analysis, Score};
use super::statistics::Estimate;
use super::table::{Column, take_rows};

/// Rows of `runs` on a front, all columns: by workload, family, seed, rising cost.
pub fn fronts_frame(runs: &DataFrame, analysis: &Analysis) -> Result<DataFrame> {
    let rows = analysis.fronts.iter().flat_map(|front| front.rows.iter().copied()).collect::<Vec<_>>();
    take_rows(runs, &rows)
}

/// `hypervolume.csv`: a row per workload and family, by workload, then by falling `hv_exact`.
///
/// Columns: `workload`, `family`, the `group_by` columns; `hv_exact`, `hv_lab` (the lab's formula on the front) and
/// `hv_lab_all_runs` (on every run), each a mean over the seeds, with `_ci95_low` and `_ci95_high` (empty for one seed);
/// `hv_lab_equals_hv_exact`; `reference_latency`, `reference_cost`, `reference_from` (`grid` or `worst_run`);
/// `num_points` (on the fronts of all seeds), `num_seeds`, `num_runs`, `num_failed`.
pub fn hypervolume_columns(analysis: &Analysis, group_by: &[String]) -> Vec<(String, Column)> {
    let scores = &analysis.scores;
    let text = |of: &dyn Fn(&Score) -> String| Column::Text(scores.iter().map(of).collect());
    let count = |of: &dyn Fn(&Score) -> usize| Column::Int(scores.iter().map(|score| of(score) as i64).collect());
    let number = |of: &dyn Fn(&Score) -> Option<f64>| Column::OptionalFloat(scores.iter().map(of).collect());
    let mut columns = vec![
        ("workload".to_owned(), text(&|score| analysis.workloads[score.workload].name.clone())),
        ("family".to_owned(), text(&|score| analysis.families[score.family].name.clone())),
    ];
    for (k, name) in group_by.iter().enumerate() {
        columns.push((name.clone(), text(&|score| analysis.families[score.family].groups[k].clone())));
    }
    type Pick = fn(&Score) -> Option<Estimate>;
    let estimates: [(&str, Pick); 3] =
        [("hv_exact", |score| score.hv_exact), ("hv_lab", |score| score.hv_lab), ("hv_lab_all_runs", |score| score.hv_lab_all_runs)];
    for (name, of) in estimates {
        let interval = |score: &Score| of(score)?.interval;
        columns.push((name.to_owned(), number(&|score| Some(of(score)?.mean))));
        columns.push((format!("{name}_ci95_low"), number(&|score| Some(interval(score)?.0))));
        columns.push((format!("{name}_ci95_high"), number(&|score| Some(interval(score)?.1))));
    }
    let from = if analysis.reference_given { "grid" } else { "worst_run" };
    columns.extend([
        (
            "hv_lab_equals_hv_exact".to_owned(),
            Column::OptionalBool(scores.iter().map(|score| score.hv_exact.map(|_| score.agree)).collect()),
        ),
        ("reference_latency".to_owned(), number(&|score| Some(analysis.reference(score.workload)?.latency))),
        ("reference_cost".to_owned(), number(&|score| Some(analysis.reference(score.workload)?.cost))),
        ("reference_from".to_owned(), text(&|score| analysis.reference(score.workload).map_or_else(String::new, |_| from.to_owned()))),
        ("num_points".to_owned(), count(&|score| score.front_points)),
        ("num_seeds".to_owned(), count(&|score| score.seeds)),
        ("num_runs".to_owned(), count(&|score| score.runs)),
        ("num_failed".to_owned(), count(&|score| score.failed)),
    ]);
    columns
}
