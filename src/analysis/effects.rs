//! Which settings matter: how much each one moves latency and cost.
//!
//! For one setting, the runs of a scope are grouped by its value and compared by the *logarithm* of the
//! metric, so that an effect is a ratio and one unstable run of a thousand seconds does not drown the rest.
//! `ratio` is the largest over the smallest geometric mean of a group. `explained` is the share of the
//! variance of the logarithm that lies between the groups (η², `SS_between / SS_total`): main effects only,
//! each setting on its own; shares of a full grid add up to at most one.

use std::collections::BTreeMap;

use anyhow::Result;
use polars::prelude::DataFrame;

use super::front::Point;
use super::grouping::rows_by;
use super::scores::Analysis;
use super::table::{Cells, Column, to_frame};

/// The effect of one setting on one workload.
#[derive(Debug, Clone, PartialEq)]
pub struct Effect {
    pub workload: usize,
    /// The family within which runs were compared; None for all runs of the workload.
    pub family: Option<usize>,
    /// Column name; `family` and `seed` stand for the policy family and the seed themselves.
    pub setting: String,
    /// Distinct values, in order: by number where all are numbers.
    pub values: Vec<String>,
    /// Runs compared.
    pub runs: usize,
    pub latency: Strength,
    pub cost: Strength,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Strength {
    /// Largest over smallest geometric mean of a group, at least 1.
    pub ratio: f64,
    /// Share of variance between groups, 0 to 1. None when no value has two runs, so that nothing is left to
    /// explain.
    pub explained: Option<f64>,
    /// The value whose group has the smallest mean.
    pub best: String,
}

impl Effect {
    fn strength(&self) -> f64 {
        self.latency.ratio.max(self.cost.ratio)
    }
}

/// The effects of the policy family, of the seed and of each of `settings` that varies, by workload,
/// strongest first.
///
/// A setting that every family of a workload has is compared over all its runs, another one within each
/// family. A setting that groups the runs just as a stronger one does is left out. Only runs with positive
/// latency and cost count.
pub fn effects(runs: &DataFrame, settings: &[String], analysis: &Analysis) -> Result<Vec<Effect>> {
    let cells = settings
        .iter()
        .filter(|name| runs.get_column_index(name).is_some())
        .map(|name| Ok((name.as_str(), Cells::named(runs, name)?)))
        .collect::<Result<Vec<_>>>()?;
    let mut effects = Vec::new();
    for workload in 0..analysis.workloads.len() {
        let positive = |point: Point| point.latency > 0.0 && point.cost > 0.0;
        let used = |row: &usize| {
            let run = analysis.runs[*row];
            run.workload == workload && run.point.is_some_and(positive)
        };
        let rows = (0..analysis.runs.len()).filter(used).collect::<Vec<_>>();
        let groups = rows_by(&analysis.numbered(&rows)?, &["family"])?.into_iter();
        let groups = groups.map(|group| group.into_iter().map(|i| rows[i]).collect::<Vec<_>>());
        let by_family: BTreeMap<usize, Vec<usize>> =
            groups.map(|rows| (analysis.runs[rows[0]].family, rows)).collect();
        let family = |row: usize| Some(analysis.label(analysis.runs[row].family).to_owned());
        let seed = |row: usize| Some(analysis.runs[row].seed.to_string());
        let start = effects.len();
        let mut seen = Vec::new();
        let mut add = |setting: &str,
                       family: Option<usize>,
                       rows: &[usize],
                       value: &dyn Fn(usize) -> Option<String>|
         -> Result<()> {
            let Some((effect, groups)) = effect(workload, family, setting, rows, analysis, value)? else {
                return Ok(());
            };
            if !seen.contains(&groups) {
                seen.push(groups);
                effects.push(effect);
            }
            Ok(())
        };
        add("family", None, &rows, &family)?;
        add("seed", None, &rows, &seed)?;
        for (name, cells) in &cells {
            let value = |row: usize| cells.text(row);
            let present = |rows: &Vec<usize>| rows.iter().any(|&row| value(row).is_some());
            if by_family.values().all(present) {
                add(name, None, &rows, &value)?;
            } else {
                for (&family, rows) in &by_family {
                    add(name, Some(family), rows, &value)?;
                }
            }
        }
        effects[start..].sort_by(|a, b| b.strength().total_cmp(&a.strength()));
    }
    Ok(effects)
}

/// Groups of rows, each in order, in order of their first row: equal for settings that always change
/// together.
type Groups = Vec<Vec<usize>>;

fn effect(
    workload: usize,
    family: Option<usize>,
    setting: &str,
    rows: &[usize],
    analysis: &Analysis,
    value: &dyn Fn(usize) -> Option<String>,
) -> Result<Option<(Effect, Groups)>> {
    let (with, texts): (Vec<usize>, Vec<String>) =
        rows.iter().filter_map(|&row| Some((row, value(row)?))).unzip();
    let table = to_frame(vec![("value", Column::Text(texts.clone()))])?;
    let groups = rows_by(&table, &["value"])?.into_iter();
    let groups: BTreeMap<String, Vec<usize>> =
        groups.map(|group| (texts[group[0]].clone(), group.into_iter().map(|i| with[i]).collect())).collect();
    if groups.len() < 2 {
        return Ok(None);
    }
    let mut values = groups.keys().cloned().collect::<Vec<_>>();
    sort_values(&mut values);
    let latency = strength(&groups, |row| analysis.point(row).latency);
    let cost = strength(&groups, |row| analysis.point(row).cost);
    let runs = groups.values().map(Vec::len).sum();
    let mut partition = groups.into_values().collect::<Groups>();
    partition.sort();
    Ok(Some((
        Effect { workload, family, setting: setting.to_owned(), values, runs, latency, cost },
        partition,
    )))
}

/// Sorts values of a setting: by number where all are numbers, else as texts.
pub fn sort_values(values: &mut [String]) {
    if values.iter().all(|value| value.parse::<f64>().is_ok()) {
        values.sort_by(|a, b| a.parse().unwrap_or(0.0f64).total_cmp(&b.parse().unwrap_or(0.0)));
    } else {
        values.sort();
    }
}

fn strength(groups: &BTreeMap<String, Vec<usize>>, metric: impl Fn(usize) -> f64) -> Strength {
    let mean = |logarithms: &[f64]| logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    let logarithms = groups
        .values()
        .map(|rows| rows.iter().map(|&row| libm::log(metric(row))).collect::<Vec<_>>())
        .collect::<Vec<_>>();
    let means = logarithms.iter().map(|group| mean(group)).collect::<Vec<_>>();
    let grand_mean = mean(&logarithms.concat());
    let total = logarithms.iter().flatten().map(|x| (x - grand_mean).powi(2)).sum::<f64>();
    let between = logarithms
        .iter()
        .zip(&means)
        .map(|(group, mean)| group.len() as f64 * (mean - grand_mean).powi(2))
        .sum::<f64>();
    let repeated = logarithms.iter().any(|group| group.len() > 1);
    let (smallest, best) = means
        .iter()
        .copied()
        .zip(groups.keys())
        .min_by(|a, b| a.0.total_cmp(&b.0))
        .expect("there are groups");
    let largest = means.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Strength {
        ratio: libm::exp(largest - smallest),
        explained: repeated.then(|| if total > 0.0 { (between / total).min(1.0) } else { 0.0 }),
        best: best.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scores::analyse;
    use super::super::table::{Column, to_frame};
    use super::*;
    use crate::sweep::objectives::Objectives;

    /// A full grid of level (1, 2) and router (a, b) within one family: latency halves with the level, cost
    /// doubles with router b.
    fn grid(mirror: bool) -> (DataFrame, Vec<String>) {
        let cells = [(1, "a"), (1, "b"), (2, "a"), (2, "b")];
        let text = |value: &str| Column::Text(vec![value.to_owned(); 4]);
        let routers = || Column::Text(cells.iter().map(|cell| cell.1.to_owned()).collect());
        let mut columns = vec![
            ("run_id", Column::Text((0..4).map(|i| i.to_string()).collect())),
            ("workload", text("w")),
            ("seed", Column::Int(vec![1; 4])),
            ("family", text("static")),
            ("status", text("ok")),
            ("level", Column::Int(cells.iter().map(|cell| cell.0).collect())),
            ("router", routers()),
            ("p90_e2e_s", Column::Float(cells.iter().map(|cell| 8.0 / cell.0 as f64).collect())),
            (
                "total_cost_usd",
                Column::Float(cells.iter().map(|cell| if cell.1 == "b" { 6.0 } else { 3.0 }).collect()),
            ),
        ];
        if mirror {
            columns.push(("alias", routers()));
        }
        (to_frame(columns).unwrap(), ["level", "router", "alias"].map(String::from).to_vec())
    }

    fn of(mirror: bool) -> Vec<Effect> {
        let (frame, settings) = grid(mirror);
        let analysis = analyse(&frame, &Objectives::default()).unwrap();
        effects(&frame, &settings, &analysis).unwrap()
    }

    #[test]
    fn a_setting_explains_what_it_alone_moves() {
        let effects = of(false);
        assert_eq!(effects.len(), 2, "family and seed do not vary");
        let level = effects.iter().find(|effect| effect.setting == "level").unwrap();
        assert!(
            (level.latency.ratio - 2.0).abs() < 1e-12
                && (level.latency.explained.unwrap() - 1.0).abs() < 1e-12
        );
        assert!((level.cost.ratio - 1.0).abs() < 1e-12 && level.cost.explained.unwrap() < 1e-12);
        assert_eq!(
            (level.latency.best.as_str(), level.values.as_slice()),
            ("2", ["1".to_owned(), "2".to_owned()].as_slice())
        );
        let router = effects.iter().find(|effect| effect.setting == "router").unwrap();
        assert!((router.cost.ratio - 2.0).abs() < 1e-12 && router.cost.best == "a");
    }

    #[test]
    fn settings_that_change_together_are_named_once() {
        assert_eq!(of(true), of(false));
    }
}
