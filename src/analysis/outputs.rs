//! The shape in which fronts and hypervolumes are stored.

use anyhow::Result;
use polars::prelude::DataFrame;

use super::quality::{Attained, Distance, ValueContribution};
use super::scores::{Analysis, Score};
use super::statistics::Estimate;
use super::table::{Column, take_rows, to_frame};
use crate::sweep::objectives::Objectives;

/// Rows of `runs` on a front, all columns: by workload, family, seed, rising cost. Behind them
/// `hv_contribution` and `hv_contribution_joint`: what the hypervolume of the own front, and of the joint
/// front of all families, would lose without the run.
pub fn fronts_frame(runs: &DataFrame, analysis: &Analysis) -> Result<DataFrame> {
    let contributions = analysis.contributions();
    let rows = contributions.iter().map(|share| share.row).collect::<Vec<_>>();
    let shares = to_frame(vec![
        ("hv_contribution", Column::OptionalFloat(contributions.iter().map(|share| share.own).collect())),
        (
            "hv_contribution_joint",
            Column::OptionalFloat(contributions.iter().map(|share| share.joint).collect()),
        ),
    ])?;
    Ok(take_rows(runs, &rows)?.hstack(shares.columns())?)
}

/// `attainment.csv`: the border of what 10, 50 and 90 % of a family's seeds attain, a row a corner, by rising
/// cost.
///
/// Columns: `workload`, `family`, the `group_by` columns, `percent`, `num_seeds`, and the objectives under
/// their own names.
pub fn attainment_columns(analysis: &Analysis, objectives: &Objectives) -> Vec<(String, Column)> {
    let attained = analysis.attained();
    let corners = attained
        .iter()
        .flat_map(|level| level.border.iter().map(move |point| (level, point)))
        .collect::<Vec<_>>();
    let text =
        |of: &dyn Fn(&Attained) -> String| Column::Text(corners.iter().map(|(level, _)| of(level)).collect());
    let mut columns = vec![
        ("workload".to_owned(), text(&|level| analysis.workloads[level.workload].name.clone())),
        ("family".to_owned(), text(&|level| analysis.label(level.family).to_owned())),
    ];
    for (k, name) in objectives.group_by.iter().enumerate() {
        columns.push((name.clone(), text(&|level| analysis.families[level.family].groups[k].clone())));
    }
    columns.extend([
        ("percent".to_owned(), Column::Int(corners.iter().map(|(level, _)| level.percent.into()).collect())),
        ("num_seeds".to_owned(), Column::Int(corners.iter().map(|(level, _)| level.seeds as i64).collect())),
        (objectives.cost.clone(), Column::Float(corners.iter().map(|(_, point)| point.cost).collect())),
        (objectives.latency.clone(), Column::Float(corners.iter().map(|(_, point)| point.latency).collect())),
    ]);
    columns
}

/// `contributions.csv`: what each value of each setting is worth, a row a value, in the order of
/// `contributions`.
///
/// Columns: `workload`, `family`, the `group_by` columns, `setting`, `value`, `num_runs`, `num_on_front`, and
/// `hv_contribution` and `hv_contribution_joint` with the ends of their intervals.
pub fn contribution_columns(
    analysis: &Analysis,
    contributions: &[ValueContribution],
    group_by: &[String],
) -> Vec<(String, Column)> {
    let text =
        |of: &dyn Fn(&ValueContribution) -> String| Column::Text(contributions.iter().map(of).collect());
    let count = |of: fn(&ValueContribution) -> usize| {
        Column::Int(contributions.iter().map(|value| of(value) as i64).collect())
    };
    let mut columns = vec![
        ("workload".to_owned(), text(&|value| analysis.workloads[value.workload].name.clone())),
        ("family".to_owned(), text(&|value| analysis.label(value.family).to_owned())),
    ];
    for (k, name) in group_by.iter().enumerate() {
        columns.push((name.clone(), text(&|value| analysis.families[value.family].groups[k].clone())));
    }
    columns.extend([
        ("setting".to_owned(), text(&|value| value.setting.clone())),
        ("value".to_owned(), text(&|value| value.value.clone())),
        ("num_runs".to_owned(), count(|value| value.runs)),
        ("num_on_front".to_owned(), count(|value| value.on_front)),
    ]);
    columns.extend(estimate_columns(
        "hv_contribution",
        &contributions.iter().map(|value| value.own).collect::<Vec<_>>(),
    ));
    columns.extend(estimate_columns(
        "hv_contribution_joint",
        &contributions.iter().map(|value| value.joint).collect::<Vec<_>>(),
    ));
    columns
}

/// `hypervolume.csv`: a row per workload and family, by workload, then by falling `hv_exact`.
///
/// Columns: `workload`, `family`, the `group_by` columns; `hv_exact`, `hv_lab` (the lab's formula on the
/// front) and `hv_lab_all_runs` (on every run), each a mean over the seeds, with `_ci95_low` and `_ci95_high`
/// (empty for one seed); `igd_plus` and `additive_epsilon`, likewise, against `indicators_against` (`oracle`
/// or `joint_front`); `oracle_share` (hypervolume over the oracle's) and `oracle_extra_cost` (cost over the
/// oracle's at equal latency, less 1), likewise, empty without an oracle; `informed_share` and
/// `informed_bound_share`: hypervolume over what was reached without foresight, and over what no policy can
/// beat in expectation; empty with fewer than three seeds, without an interval with fewer than ten;
/// `hv_lab_equals_hv_exact`; `reference_latency`, `reference_cost`, `reference_from` (`grid` or
/// `tenth_beyond_worst_of_fronts`); `num_points` (on the fronts of all seeds), `num_seeds`, `num_runs`,
/// `num_failed`, `num_outside_box` (runs beyond the reference point); `outside_by_latency` and
/// `outside_by_cost`: how far the nearest point of a front lies beyond the reference point, as shares of it,
/// where all do.
pub fn hypervolume_columns(analysis: &Analysis, group_by: &[String]) -> Vec<(String, Column)> {
    let scores = &analysis.scores;
    let text = |of: &dyn Fn(&Score) -> String| Column::Text(scores.iter().map(of).collect());
    let count =
        |of: &dyn Fn(&Score) -> usize| Column::Int(scores.iter().map(|score| of(score) as i64).collect());
    let number = |of: &dyn Fn(&Score) -> Option<f64>| Column::OptionalFloat(scores.iter().map(of).collect());
    let mut columns = vec![
        ("workload".to_owned(), text(&|score| analysis.workloads[score.workload].name.clone())),
        ("family".to_owned(), text(&|score| analysis.label(score.family).to_owned())),
    ];
    for (k, name) in group_by.iter().enumerate() {
        columns.push((name.clone(), text(&|score| analysis.families[score.family].groups[k].clone())));
    }
    let distances = scores.iter().map(|score| analysis.distance(score)).collect::<Vec<_>>();
    let of_scores = |of: fn(&Score) -> Option<Estimate>| scores.iter().map(of).collect::<Vec<_>>();
    let of_distances = |of: fn(&Distance) -> Option<Estimate>| {
        distances.iter().map(|distance| of(distance.as_ref()?)).collect::<Vec<_>>()
    };
    let regrets = scores.iter().map(|score| analysis.regret(score)).collect::<Vec<_>>();
    let informed = scores.iter().map(|score| analysis.informed_share(score)).collect::<Vec<_>>();
    let estimates = [
        ("hv_exact", of_scores(|score| score.hv_exact)),
        ("hv_lab", of_scores(|score| score.hv_lab)),
        ("hv_lab_all_runs", of_scores(|score| score.hv_lab_all_runs)),
        ("igd_plus", of_distances(|distance| distance.igd_plus)),
        ("additive_epsilon", of_distances(|distance| distance.additive_epsilon)),
        ("oracle_share", regrets.iter().map(|regret| Some(regret.as_ref()?.share)).collect()),
        ("informed_share", informed.iter().map(|share| Some(share.as_ref()?.reached)).collect()),
        ("informed_bound_share", informed.iter().map(|share| share.as_ref()?.bound).collect()),
        ("oracle_extra_cost", regrets.iter().map(|regret| regret.as_ref()?.extra_cost).collect()),
    ];
    for (name, estimates) in estimates {
        // Student's t knows nothing of what a share can be.
        let share = name.starts_with("hv_");
        let clipped = |estimate: Estimate| Estimate {
            interval: estimate.interval.map(|(low, high)| (low.max(0.0), high.min(1.0))),
            ..estimate
        };
        let estimates = estimates
            .into_iter()
            .map(|estimate| if share { estimate.map(clipped) } else { estimate })
            .collect::<Vec<_>>();
        columns.extend(estimate_columns(name, &estimates));
    }
    let against = |distance: &Option<Distance>| {
        distance.map_or("", |distance| if distance.to_oracle { "oracle" } else { "joint_front" })
    };
    columns.push((
        "indicators_against".to_owned(),
        Column::Text(distances.iter().map(|distance| against(distance).to_owned()).collect()),
    ));
    let from = if analysis.reference_given { "grid" } else { "tenth_beyond_worst_of_fronts" };
    columns.extend([
        (
            "hv_lab_equals_hv_exact".to_owned(),
            Column::OptionalBool(scores.iter().map(|score| score.hv_exact.map(|_| score.agree)).collect()),
        ),
        ("reference_latency".to_owned(), number(&|score| Some(analysis.reference(score.workload)?.latency))),
        ("reference_cost".to_owned(), number(&|score| Some(analysis.reference(score.workload)?.cost))),
        (
            "reference_from".to_owned(),
            text(&|score| analysis.reference(score.workload).map_or_else(String::new, |_| from.to_owned())),
        ),
        ("num_points".to_owned(), count(&|score| score.front_points)),
        ("num_seeds".to_owned(), count(&|score| score.seeds)),
        ("num_runs".to_owned(), count(&|score| score.runs)),
        ("num_failed".to_owned(), count(&|score| score.failed)),
        ("num_outside_box".to_owned(), count(&|score| score.runs_outside)),
        ("outside_by_latency".to_owned(), number(&|score| Some(score.outside?.latency))),
        ("outside_by_cost".to_owned(), number(&|score| Some(score.outside?.cost))),
    ]);
    columns
}

/// A mean and the ends of its interval.
pub fn estimate_columns(name: &str, estimates: &[Option<Estimate>]) -> [(String, Column); 3] {
    let column = |of: fn(&Estimate) -> Option<f64>| {
        Column::OptionalFloat(estimates.iter().map(|estimate| of(estimate.as_ref()?)).collect())
    };
    [
        (name.to_owned(), column(|estimate| Some(estimate.mean))),
        (format!("{name}_ci95_low"), column(|estimate| Some(estimate.interval?.0))),
        (format!("{name}_ci95_high"), column(|estimate| Some(estimate.interval?.1))),
    ]
}
