//! The table of runs, written in parts so that its length costs no memory: all rows are looked at once for
//! the columns they have, and once more to be written.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, Result, bail};
use polars::prelude::{Column as PolarsColumn, DataFrame};

use super::table::{
    Cells, Column, ROWS_PER_GROUP, read_parquet, read_parquet_columns, to_frame, write_parquet,
    write_parquet_in_parts,
};
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::columns::{self, Kind};
use crate::sweep::tables::row::{RunRow, Scalar, family_label};

/// Stores `rows`, in their order, as `runs.parquet`: every column of any row, nulls where a row lacks it.
pub fn write_runs(rows: &[RunRow], path: &Path) -> Result<()> {
    write_runs_in_parts(rows.len(), |part| Ok(rows[part].to_vec()), path).map(|_| ())
}

/// The same for `count` rows that are asked for in their order, in parts, twice. Returns the names of all
/// columns.
///
/// A column has the type of its [definition](columns::definition), whatever its values. One without a
/// definition has the type its values need: integers and floats make floats, a mix with text makes text, no
/// value at all text. A column new to a row is placed behind its neighbour in that row, so settings stay
/// beside settings.
pub fn write_runs_in_parts(
    count: usize,
    mut rows: impl FnMut(Range<usize>) -> Result<Vec<RunRow>>,
    path: &Path,
) -> Result<Vec<String>> {
    let mut layout = Layout::default();
    let parts = || (0..count).step_by(ROWS_PER_GROUP).map(|start| start..count.min(start + ROWS_PER_GROUP));
    for part in parts() {
        rows(part)?.iter().try_for_each(|row| layout.add(row))?;
    }
    let frames = parts().map(|part| layout.frame(&rows(part)?));
    write_parquet_in_parts(&layout.frame(&[])?, frames, path)?;
    Ok(layout.names)
}

/// Rows as one table in memory, laid out as [`write_runs_in_parts`] says.
pub(super) fn runs_frame(rows: &[RunRow]) -> Result<DataFrame> {
    let mut layout = Layout::default();
    rows.iter().try_for_each(|row| layout.add(row))?;
    layout.frame(rows)
}

/// Reads what [`write_runs`] wrote, if its checksum is that `expected`.
pub fn read_runs(path: &Path, expected: Option<&Checksum>) -> Result<DataFrame> {
    read_parquet(path, expected).with_context(|| trouble(path))
}

/// The same, but only the columns called `names`, if all of them are there.
pub fn read_runs_columns(path: &Path, names: &[&str]) -> Result<DataFrame> {
    read_parquet_columns(path, names).with_context(|| trouble(path))
}

/// Writes the table again with the families that `group_by` tells apart.
pub fn regroup(path: &Path, group_by: &[String]) -> Result<()> {
    let mut frame = read_runs(path, None)?;
    let policy = Cells::named(&frame, "policy")?;
    let groups = group_by.iter().map(|name| Cells::named(&frame, name)).collect::<Result<Vec<_>>>()?;
    let label = |row: usize| {
        let groups = groups.iter().map(|cells| cells.text(row).unwrap_or_default()).collect::<Vec<_>>();
        family_label(&policy.text(row).unwrap_or_default(), &groups)
    };
    let labels = (0..frame.height()).map(label).collect::<Vec<_>>();
    frame.replace("family", PolarsColumn::new("family".into(), labels))?;
    write_parquet(&frame, path).with_context(|| trouble(path))
}

fn trouble(path: &Path) -> String {
    format!(
        "{}: cannot read the table of runs; `scalefront sweep` writes it, with --resume once more",
        path.display()
    )
}

/// The columns of rows.
#[derive(Debug, Default)]
struct Layout {
    names: Vec<String>,
    kinds: BTreeMap<String, Kinds>,
    /// Number of rows looked at.
    rows: usize,
}

/// Which kinds of values a column has.
#[derive(Debug, Clone, Copy, Default)]
struct Kinds {
    text: bool,
    float: bool,
    int: bool,
    bool: bool,
    /// The last row that has it, from 1.
    last_row: usize,
}

impl Kinds {
    fn add(&mut self, value: &Scalar) {
        match value {
            Scalar::Null => {}
            Scalar::Bool(_) => self.bool = true,
            Scalar::Int(_) => self.int = true,
            Scalar::Float(_) => self.float = true,
            Scalar::Text(_) => self.text = true,
        }
    }

    /// The type that all values of the column need; None without any.
    fn needed(self) -> Option<Kind> {
        match (self.text, self.bool, self.float, self.int) {
            (false, false, false, false) => None,
            (false, true, false, false) => Some(Kind::Bool),
            (false, false, false, true) => Some(Kind::Int),
            (false, false, true, _) => Some(Kind::Float),
            _ => Some(Kind::Text),
        }
    }

    /// The type of the column: the defined one, unless there are values that it cannot hold.
    fn kind(self, defined: Option<Kind>) -> Kind {
        match (defined, self.needed()) {
            (Some(kind), None) => kind,
            (Some(Kind::Float), Some(Kind::Int)) => Kind::Float,
            (Some(Kind::Text), Some(_)) | (None, None) => Kind::Text,
            (_, Some(kind)) => kind,
        }
    }

    /// `values` as the type of the column called `name`.
    fn column(self, name: &str, values: &[&Scalar]) -> Column {
        match self.kind(columns::definition(name).map(|definition| definition.kind)) {
            Kind::Text => return Column::OptionalText(values.iter().map(|value| to_text(value)).collect()),
            Kind::Bool => {
                let bool =
                    |value: &&Scalar| if let Scalar::Bool(value) = value { Some(*value) } else { None };
                return Column::OptionalBool(values.iter().map(bool).collect());
            }
            Kind::Int => {
                let int = |value: &&Scalar| if let Scalar::Int(value) = value { Some(*value) } else { None };
                return Column::OptionalInt(values.iter().map(int).collect());
            }
            Kind::Float => {}
        }
        let float = |value: &&Scalar| match value {
            Scalar::Int(value) => Some(*value as f64),
            Scalar::Float(value) => Some(*value),
            _ => None,
        };
        Column::OptionalFloat(values.iter().map(float).collect())
    }
}

fn to_text(value: &Scalar) -> Option<String> {
    match value {
        Scalar::Null => None,
        Scalar::Bool(value) => Some(value.to_string()),
        Scalar::Int(value) => Some(value.to_string()),
        Scalar::Float(value) => Some(value.to_string()),
        Scalar::Text(value) => Some(value.clone()),
    }
}

impl Layout {
    fn add(&mut self, row: &RunRow) -> Result<()> {
        self.rows += 1;
        let mut previous: Option<&str> = None;
        for (name, value) in &row.columns {
            let kinds = match self.kinds.get_mut(name) {
                Some(kinds) => kinds,
                None => {
                    let place = previous
                        .and_then(|previous| self.names.iter().position(|name| name == previous))
                        .map_or(0, |at| at + 1);
                    self.names.insert(place, name.clone());
                    self.kinds.entry(name.clone()).or_default()
                }
            };
            if std::mem::replace(&mut kinds.last_row, self.rows) == self.rows {
                bail!("row {} has two columns `{name}`", self.rows - 1);
            }
            kinds.add(value);
            previous = Some(name);
        }
        Ok(())
    }

    fn frame(&self, rows: &[RunRow]) -> Result<DataFrame> {
        let places = self
            .names
            .iter()
            .enumerate()
            .map(|(place, name)| (name.as_str(), place))
            .collect::<BTreeMap<_, _>>();
        let mut cells = vec![vec![&Scalar::Null; rows.len()]; self.names.len()];
        for (i, row) in rows.iter().enumerate() {
            for (name, value) in &row.columns {
                cells[places[name.as_str()]][i] = value;
            }
        }
        to_frame(
            self.names
                .iter()
                .zip(&cells)
                .map(|(name, values)| (name, self.kinds[name].column(name, values)))
                .collect(),
        )
    }
}

#[cfg(test)]
mod tests {
    use polars::prelude::DataType;

    use super::*;

    fn row(columns: &[(&str, Scalar)]) -> RunRow {
        RunRow { columns: columns.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect() }
    }

    fn names(frame: &DataFrame) -> Vec<&str> {
        frame.columns().iter().map(|column| column.name().as_str()).collect()
    }

    #[test]
    fn columns_are_united_and_typed_by_their_values() {
        let rows = [
            row(&[
                ("id", Scalar::Text("a".into())),
                ("level", Scalar::Int(1)),
                ("p90", Scalar::Float(0.5)),
                ("note", Scalar::Null),
            ]),
            row(&[
                ("id", Scalar::Text("b".into())),
                ("level", Scalar::Float(1.5)),
                ("on", Scalar::Bool(true)),
                ("p90", Scalar::Null),
            ]),
            row(&[("id", Scalar::Int(3)), ("p90", Scalar::Int(2))]),
        ];
        let frame = runs_frame(&rows).unwrap();
        assert_eq!(names(&frame), ["id", "level", "on", "p90", "note"]);
        let types = frame.columns().iter().map(|column| column.dtype().clone()).collect::<Vec<_>>();
        assert_eq!(
            types,
            [DataType::String, DataType::Float64, DataType::Boolean, DataType::Float64, DataType::String]
        );
        assert_eq!(Cells::named(&frame, "id").unwrap().text(2).unwrap(), "3");
        assert_eq!(Cells::named(&frame, "level").unwrap().number(2), None);
        let error = Cells::named(&frame, "p99").err().unwrap().to_string();
        assert!(error.contains("`p99`") && error.contains("`p90`"), "{error}");
    }

    /// Whatever the values: two sweeps can be put together.
    #[test]
    fn known_columns_have_their_own_type() {
        let fixed = [
            "attainment",
            "latency_limits.ttft_s",
            "replica_scheduler.num_blocks",
            "billing.drain",
            "autoscaler.level",
            "error",
        ];
        let types = |value: Scalar| {
            let columns = fixed.map(|name| (name, value.clone()));
            let frame = runs_frame(&[row(&columns)]).unwrap();
            frame.columns().iter().map(|column| column.dtype().clone()).collect::<Vec<_>>()
        };
        let expected = [
            DataType::Float64,
            DataType::Float64,
            DataType::Int64,
            DataType::Boolean,
            DataType::Float64,
            DataType::String,
        ];
        assert_eq!(types(Scalar::Null), expected);
        let [float, .., text] = &types(Scalar::Int(1))[..] else { panic!() };
        assert_eq!((float, text), (&DataType::Float64, &DataType::String));
        // Nothing is lost where a value does not fit.
        assert_eq!(types(Scalar::Text("x".into())), [const { DataType::String }; 6]);
    }

    #[test]
    fn repeated_columns_are_refused() {
        let error = runs_frame(&[row(&[("a", Scalar::Null), ("a", Scalar::Null)])]).unwrap_err().to_string();
        assert!(error.contains("two columns `a`"), "{error}");
    }

    #[test]
    fn equal_rows_give_equal_bytes_and_read_back() {
        let directory = tempfile::tempdir().unwrap();
        let rows = (0..500i64)
            .map(|i| {
                row(&[
                    ("id", Scalar::Text(format!("{i:x}"))),
                    ("n", Scalar::Int(i)),
                    ("x", Scalar::Float(1.0 / i as f64)),
                ])
            })
            .collect::<Vec<_>>();
        let paths = ["a", "b"].map(|name| directory.path().join(name));
        for path in &paths {
            write_runs(&rows, path).unwrap();
        }
        assert_eq!(std::fs::read(&paths[0]).unwrap(), std::fs::read(&paths[1]).unwrap());
        assert!(read_runs(&paths[0], None).unwrap().equals_missing(&runs_frame(&rows).unwrap()));
    }

    /// Whatever its length, the bytes are those of the whole table written at once.
    #[test]
    fn parts_do_not_show() {
        let directory = tempfile::tempdir().unwrap();
        for count in [0, 1, ROWS_PER_GROUP, 2 * ROWS_PER_GROUP + 17] {
            let rows: Vec<RunRow> = (0..count as i64)
                .map(|i| {
                    row(&[
                        ("id", Scalar::Text(format!("{i:x}"))),
                        if i > 9000 { ("late", Scalar::Int(i)) } else { ("n", Scalar::Float(i as f64)) },
                    ])
                })
                .collect();
            let [parts, whole] = ["parts", "whole"].map(|name| directory.path().join(name));
            write_runs(&rows, &parts).unwrap();
            write_parquet(&runs_frame(&rows).unwrap(), &whole).unwrap();
            assert!(std::fs::read(&parts).unwrap() == std::fs::read(&whole).unwrap(), "{count} rows");
            assert_eq!(read_runs(&parts, None).unwrap().height(), count);
        }
    }

    #[test]
    fn a_missing_or_broken_table_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("runs.parquet");
        assert!(format!("{:#}", read_runs(&path, None).unwrap_err()).contains("runs.parquet"));
        std::fs::write(&path, b"PAR1 cut off").unwrap();
        assert!(format!("{:#}", read_runs(&path, None).unwrap_err()).contains("runs.parquet"));
    }
}
