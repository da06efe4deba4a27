//! Pools of runs (`pools.parquet`): a row a run and pool.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::table::{Cells, Column, Described, TableFormat, read_parquet, write_described};
use crate::simulation::MetricValue;
use crate::sweep::run::pools::{FIGURES, PoolRow};
use crate::sweep::tables::checksum::Checksum;

/// Stores the pools of runs, in their order.
pub fn write_pools(rows: &[PoolRow], path: &Path) -> Result<()> {
    let text = |value: &dyn Fn(&PoolRow) -> String| Column::Text(rows.iter().map(value).collect());
    let mut columns: Vec<Described> = vec![
        ("run_id", "The run.", text(&|row| row.run_id.clone())),
        ("pool", "The pool's name.", text(&|row| row.pool.clone())),
        ("role", "What it does of a request: `both`, `prefill`, `decode`.", text(&|row| row.role.into())),
        ("model", "Its model.", text(&|row| row.model.clone())),
        ("node", "Its machines.", text(&|row| row.node.clone())),
    ];
    for (place, (name, meaning, _)) in FIGURES.iter().enumerate() {
        let values: Vec<Option<f64>> = rows
            .iter()
            .map(|row| match row.values.get(place) {
                Some(MetricValue::Count(count)) => Some(*count as f64),
                Some(MetricValue::Number(number)) => Some(*number),
                Some(MetricValue::Absent) | None => None,
            })
            .collect();
        columns.push((name, meaning, Column::OptionalFloat(values)));
    }
    write_described(columns, path, TableFormat::Parquet)
}

/// A pool of a stored run.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredPool {
    pub pool: String,
    pub role: String,
    pub model: String,
    pub node: String,
    /// By the names of their columns; see [`FIGURES`].
    figures: BTreeMap<&'static str, f64>,
}

impl StoredPool {
    /// A figure, if the pool has it.
    pub fn figure(&self, name: &str) -> Option<f64> {
        self.figures.get(name).copied()
    }
}

/// Pools by run id, in the order of the grid.
pub type PoolsTable = BTreeMap<String, Vec<StoredPool>>;

/// Reads what [`write_pools`] wrote, if its checksum is that `expected`.
pub fn read_pools(path: &Path, expected: Option<&Checksum>) -> Result<PoolsTable> {
    let read = || -> Result<PoolsTable> {
        let frame = read_parquet(path, expected)?;
        let [ids, pools, roles, models, nodes] =
            ["run_id", "pool", "role", "model", "node"].map(|name| Cells::named(&frame, name));
        let (ids, pools, roles, models, nodes) = (ids?, pools?, roles?, models?, nodes?);
        let figures = FIGURES
            .iter()
            .map(|(name, _, _)| Ok((*name, Cells::named(&frame, name)?)))
            .collect::<Result<Vec<_>>>()?;
        let mut table = PoolsTable::new();
        for row in 0..frame.height() {
            let text = |cells: &Cells| cells.text(row).unwrap_or_default();
            let figures =
                figures.iter().filter_map(|(name, cells)| Some((*name, cells.number(row)?))).collect();
            let (pool, role, model, node) = (text(&pools), text(&roles), text(&models), text(&nodes));
            table.entry(text(&ids)).or_default().push(StoredPool { pool, role, model, node, figures });
        }
        Ok(table)
    };
    read().with_context(|| {
        format!(
            "{}: cannot read the pools of runs, which a report may also go without: remove it",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pools_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("pools.parquet");
        let row = |run_id: &str, pool: &str, mean_replicas: f64| PoolRow {
            run_id: run_id.into(),
            pool: pool.into(),
            role: "decode",
            model: "m".into(),
            node: "n".into(),
            values: FIGURES
                .iter()
                .map(|(name, _, _)| match *name {
                    "mean_replicas" => MetricValue::Number(mean_replicas),
                    "scale_ups" => MetricValue::Count(3),
                    _ => MetricValue::Absent,
                })
                .collect(),
        };
        write_pools(&[row("b", "x", 2.5), row("a", "y", 1.0), row("b", "w", 4.0)], &path).unwrap();
        let table = read_pools(&path, None).unwrap();
        assert_eq!(
            table["b"].iter().map(|pool| pool.pool.as_str()).collect::<Vec<_>>(),
            ["x", "w"],
            "in the order stored"
        );
        assert_eq!(table["b"][0].role, "decode");
        let figures = ["mean_replicas", "scale_ups", "starved_s"].map(|name| table["b"][0].figure(name));
        assert_eq!(figures, [Some(2.5), Some(3.0), None]);
    }
}
