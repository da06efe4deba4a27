//! Curves of runs (`series.parquet`): long format, a row a point, columns `run_id`, `series`, `x`, `y`.

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::{Context, Result};

use super::table::{Cells, Column, TableFormat, read_parquet, write_table};
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::RunSeries;

/// The points of a curve, in the order stored.
pub type Points = Vec<(f64, f64)>;

/// Curves by run id and name.
pub type SeriesTable = BTreeMap<String, BTreeMap<String, Points>>;

/// Stores the curves of `runs`, in their order.
pub fn write_series(runs: &[RunSeries], path: &Path) -> Result<()> {
    let (mut ids, mut names, mut x, mut y) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for run in runs {
        for series in &run.series {
            for point in &series.points {
                ids.push(run.run_id.clone());
                names.push(series.name.clone());
                x.push(point.0);
                y.push(point.1);
            }
        }
    }
    let columns = vec![
        ("run_id", Column::Text(ids)),
        ("series", Column::Text(names)),
        ("x", Column::Float(x)),
        ("y", Column::Float(y)),
    ];
    write_table(columns, path, TableFormat::Parquet)
}

/// Reads what [`write_series`] wrote, if its checksum is that `expected`; points without a finite x and y are
/// left out.
pub fn read_series(path: &Path, expected: Option<&Checksum>) -> Result<SeriesTable> {
    let read = || -> Result<SeriesTable> {
        let frame = read_parquet(path, expected)?;
        let [ids, names, x, y] = ["run_id", "series", "x", "y"].map(|name| Cells::named(&frame, name));
        let (ids, names, x, y) = (ids?, names?, x?, y?);
        let mut table = SeriesTable::new();
        for i in 0..frame.height() {
            let (Some(id), Some(name), Some(x), Some(y)) =
                (ids.text(i), names.text(i), x.number(i), y.number(i))
            else {
                continue;
            };
            if x.is_finite() && y.is_finite() {
                table.entry(id).or_default().entry(name).or_default().push((x, y));
            }
        }
        Ok(table)
    };
    read().with_context(|| {
        format!(
            "{}: cannot read the curves of runs, which a report may also go without: remove it",
            path.display()
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sweep::tables::row::Series;

    #[test]
    fn curves_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("series.parquet");
        let replicas = Series { name: "num_replicas".into(), points: vec![(0.0, 1.0), (30.0, 4.0)] };
        let cdf = Series { name: "e2e_cdf".into(), points: vec![(0.1, 0.5), (0.2, 1.0)] };
        let runs = [
            RunSeries { run_id: "b".into(), series: vec![replicas.clone(), cdf.clone()] },
            RunSeries { run_id: "a".into(), series: vec![replicas.clone()] },
        ];
        write_series(&runs, &path).unwrap();
        let table = read_series(&path, None).unwrap();
        assert_eq!(table.len(), 2);
        assert_eq!(table["b"]["e2e_cdf"], cdf.points);
        assert_eq!(table["a"]["num_replicas"], replicas.points);
    }

    #[test]
    fn no_curves_at_all() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("series.parquet");
        write_series(&[], &path).unwrap();
        assert!(read_series(&path, None).unwrap().is_empty());
    }
}
