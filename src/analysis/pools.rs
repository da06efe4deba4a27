//! Pools of runs (`pools.parquet`): a row a run and pool.

use std::path::Path;

use anyhow::Result;

use super::table::{Column, Described, TableFormat, write_described};
use crate::simulation::MetricValue;
use crate::sweep::run::pools::{FIGURES, PoolRow};

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
