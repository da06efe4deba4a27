//! A table of runs as verdicts read it, and what their robustness comes to.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::Result;
use polars::prelude::DataFrame;

use super::runs::runs_frame;
use super::table::{Cells, read_parquet, write_csv, write_parquet};
use crate::sweep::answers::robustness::TABLE;
use crate::sweep::answers::verdict::{Runs, Standing, Verdict, verdicts};
use crate::sweep::objectives::Objectives;
use crate::sweep::run::outcome::NODE_PRICE;
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::{RunRow, Scalar};

/// The columns of a table.
pub struct Table<'a> {
    height: usize,
    columns: BTreeMap<&'a str, Cells<'a>>,
}

impl<'a> Table<'a> {
    pub fn of(frame: &'a DataFrame) -> Result<Self> {
        let columns = frame.columns().iter().map(|column| Ok((column.name().as_str(), Cells::of(column)?)));
        Ok(Self { height: frame.height(), columns: columns.collect::<Result<_>>()? })
    }

    /// Which of `names` have more than one value, the price that goes with its node left out.
    pub fn varying(&self, names: &[String]) -> Vec<String> {
        let varies = |name: &&String| {
            let Some(cells) = self.columns.get(name.as_str()) else { return false };
            let first = (self.height > 0).then(|| cells.text(0));
            (1..self.height).any(|row| Some(cells.text(row)) != first)
        };
        names.iter().filter(|name| *name != NODE_PRICE).filter(varies).cloned().collect()
    }
}

impl Runs for Table<'_> {
    fn rows(&self) -> usize {
        self.height
    }

    fn columns(&self) -> Vec<&str> {
        self.columns.keys().map(|name| name.as_ref()).collect()
    }

    fn value(&self, row: usize, column: &str) -> Option<Scalar> {
        let value = match self.columns.get(column)? {
            Cells::Float(values) => values.get(row).map(Scalar::Float),
            Cells::Int(values) => values.get(row).map(Scalar::Int),
            Cells::Bool(values) => values.get(row).map(Scalar::Bool),
            Cells::Text(values) => values.get(row).map(|text| Scalar::Text(text.to_owned())),
        };
        Some(value.unwrap_or(Scalar::Null))
    }
}

/// The verdicts of a table of runs, whose settings are the columns `settings`.
pub fn of_runs(frame: &DataFrame, settings: &[String], objectives: &Objectives) -> Result<Vec<Verdict>> {
    if objectives.constraints.is_empty() {
        return Ok(Vec::new());
    }
    let table = Table::of(frame)?;
    Ok(verdicts(&table, &table.varying(settings), objectives))
}

/// Stores the trials of verdicts: `robustness.parquet`, and `robustness.csv`.
pub fn write_robustness(rows: &[RunRow], directory: &Path) -> Result<()> {
    let frame = runs_frame(rows)?;
    write_parquet(&frame, &directory.join(TABLE))?;
    write_csv(&frame, &directory.join("robustness.csv"))
}

/// A setting under one change, as in [`crate::sweep::answers::robustness`].
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    pub role: String,
    pub change: String,
    /// None of other days, which are counted together.
    pub amount: Option<f64>,
    pub standing: Standing,
}

/// Trials as [`write_robustness`] stored them.
pub struct Trials(DataFrame);

/// Role, change and amount.
type Trial = (String, String, Option<f64>);

impl Trials {
    pub fn read(path: &Path, expected: Option<&Checksum>) -> Result<Self> {
        Ok(Self(read_parquet(path, expected)?))
    }

    /// Those of a verdict's settings, in their order; of runs that it does not name, none. `run_id` is that
    /// of a row of runs.
    pub fn of(&self, verdict: &Verdict, run_id: &dyn Fn(usize) -> String) -> Result<Vec<Tested>> {
        let table = Table::of(&self.0)?;
        let mut groups: Vec<(Trial, Vec<usize>)> = Vec::new();
        for row in 0..table.rows() {
            let text = |column: &str| table.text(row, column).unwrap_or_default();
            let (role, change) = (text("role"), text("change"));
            let place = if role == "best" { verdict.best } else { verdict.runner_up };
            let known = place.is_some_and(|place| {
                verdict.settings[place].rows.iter().any(|&row| run_id(row) == text("run_id"))
            });
            if text("workload") != verdict.workload || !known {
                continue;
            }
            let amount = table
                .number(row, "amount")
                .filter(|_| !matches!(change.as_str(), "other_seed" | "resampled_blocks"));
            let key = (role, change, amount);
            match groups.iter_mut().find(|(other, _)| *other == key) {
                Some((_, rows)) => rows.push(row),
                None => groups.push((key, vec![row])),
            }
        }
        let tested = groups.into_iter().map(|((role, change, amount), rows)| {
            let standing = Standing::new(&table, rows, &verdict.constraints, &verdict.cost);
            Tested { role, change, amount, standing }
        });
        Ok(tested.collect())
    }
}

impl Tested {
    /// `traffic 10 % higher`.
    pub fn label(&self) -> String {
        let amount = self.amount.unwrap_or(1.0);
        match self.change.as_str() {
            "traffic" => format!("traffic {:.0} % higher", 100.0 * (amount - 1.0)),
            "cold_start" => format!("cold starts {amount} times as long"),
            "step_times" if amount < 1.0 => format!("an engine {:.0} % faster", 100.0 * (1.0 - amount)),
            "step_times" => format!("an engine {:.0} % slower", 100.0 * (amount - 1.0)),
            "other_seed" => format!("{} other days, drawn", self.standing.rows.len()),
            "resampled_blocks" => format!("{} other days, resampled", self.standing.rows.len()),
            other => other.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::table::{Column, to_frame};
    use super::*;

    #[test]
    fn a_table_is_read_as_rows_are() {
        let frame = to_frame(vec![
            ("workload", Column::Text(vec!["w".into(), "w".into()])),
            ("policy", Column::Text(vec!["keda".into(), "static".into()])),
            ("family", Column::Text(vec!["keda".into(), "static".into()])),
            ("autoscaler", Column::Text(vec!["keda".into(), "static".into()])),
            ("status", Column::Text(vec!["ok".into(), "ok".into()])),
            ("node", Column::Text(vec!["h100".into(), "h100".into()])),
            ("autoscaler.replicas", Column::OptionalInt(vec![None, Some(3)])),
            ("p99_ttft_s", Column::OptionalFloat(vec![Some(1.0), None])),
            ("total_cost_usd", Column::Float(vec![5.0, 4.0])),
        ])
        .unwrap();
        let table = Table::of(&frame).unwrap();
        let names = ["autoscaler", "autoscaler.replicas", "node", "no_such"].map(String::from);
        assert_eq!(table.varying(&names), ["autoscaler", "autoscaler.replicas"]);
        assert_eq!(table.value(0, "autoscaler.replicas"), Some(Scalar::Null));
        assert_eq!(
            (table.text(1, "autoscaler.replicas"), table.number(1, "p99_ttft_s")),
            (Some("3".into()), None)
        );
        let mut objectives = Objectives::default();
        assert!(of_runs(&frame, &names, &objectives).unwrap().is_empty());
        objectives.constraints = serde_json::from_value(serde_json::json!({"p99_ttft_s": 2})).unwrap();
        let verdict = of_runs(&frame, &names, &objectives).unwrap().remove(0);
        assert_eq!(verdict.best, Some(0), "the cheaper one lacks the metric");
    }
}
