//! Tables: from rows and columns to polars, to Parquet and CSV, and back.
//!
//! Equal tables give equal bytes: order, compression, row groups and the polars version are fixed.

use std::io::{BufWriter, Write};
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, Result, bail};
use polars::prelude::{
    BooleanChunked, Column as PolarsColumn, DataFrame, DataType, Float64Chunked, IdxCa, Int64Chunked,
    KeyValueMetadata, ParquetCompression, ParquetWriter, StringChunked,
};
use serde_json::{Map, Value, json};

use crate::files::write_atomically;
use crate::simulation::metric::Better;
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::columns;
use crate::sweep::tables::parquet;

/// Rows of a Parquet row group: few enough to hold them in memory as they come, enough to compress.
pub(super) const ROWS_PER_GROUP: usize = 8192;

/// How [`write_table`] stores a table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TableFormat {
    Csv,
    Parquet,
}

impl TableFormat {
    /// The file name's extension, without the dot.
    pub fn extension(self) -> &'static str {
        match self {
            Self::Csv => "csv",
            Self::Parquet => "parquet",
        }
    }
}

impl FromStr for TableFormat {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        match name {
            "csv" => Ok(Self::Csv),
            "parquet" => Ok(Self::Parquet),
            other => Err(format!("`{other}` found, expected `csv` or `parquet`")),
        }
    }
}

/// The values of a column; None is an empty CSV field and a Parquet null.
#[derive(Debug, Clone, PartialEq)]
pub enum Column {
    Float(Vec<f64>),
    OptionalFloat(Vec<Option<f64>>),
    Int(Vec<i64>),
    OptionalInt(Vec<Option<i64>>),
    Text(Vec<String>),
    OptionalText(Vec<Option<String>>),
    Bool(Vec<bool>),
    OptionalBool(Vec<Option<bool>>),
}

impl Column {
    fn into_polars(self, name: &str) -> PolarsColumn {
        let name = name.into();
        match self {
            Self::Float(values) => PolarsColumn::new(name, values),
            Self::OptionalFloat(values) => PolarsColumn::new(name, values),
            Self::Int(values) => PolarsColumn::new(name, values),
            Self::OptionalInt(values) => PolarsColumn::new(name, values),
            Self::Text(values) => PolarsColumn::new(name, values),
            Self::OptionalText(values) => PolarsColumn::new(name, values),
            Self::Bool(values) => PolarsColumn::new(name, values),
            Self::OptionalBool(values) => PolarsColumn::new(name, values),
        }
    }
}

/// Named columns as a table. Fails on unequal lengths and repeated names.
pub fn to_frame<N: AsRef<str>>(columns: Vec<(N, Column)>) -> Result<DataFrame> {
    let columns = columns.into_iter().map(|(name, column)| column.into_polars(name.as_ref())).collect();
    DataFrame::new_infer_height(columns).context("the columns make no table")
}

/// Stores named columns of equal length at `path`, which appears complete or not at all.
///
/// CSV: a header line, RFC 4180 quoting, the shortest decimal that reads back as the same float, and a
/// leading apostrophe before text that a spreadsheet would run as a formula.
pub fn write_table<N: AsRef<str>>(columns: Vec<(N, Column)>, path: &Path, format: TableFormat) -> Result<()> {
    let frame = to_frame(columns).with_context(|| format!("{}: cannot write", path.display()))?;
    match format {
        TableFormat::Csv => write_csv(&frame, path),
        TableFormat::Parquet => write_parquet(&frame, path),
    }
}

/// Key of a Parquet file's metadata under which its columns are described, as JSON: `{"name": {"description",
/// "unit", "better"}}`, each of the three where there is one.
pub const DESCRIPTIONS: &str = "scalefront.columns";

/// A column of a table, and what it means.
pub type Described = (&'static str, &'static str, Column);

/// Stores a table whose columns say themselves what they mean; see [`write_table`].
pub fn write_described(columns: Vec<Described>, path: &Path, format: TableFormat) -> Result<()> {
    let described = columns.iter().map(|&(name, description, _)| {
        let unit = columns::split_unit(name).1;
        let mut said = Map::from_iter([("description".to_owned(), json!(description))]);
        if !unit.is_empty() {
            said.insert("unit".into(), json!(unit));
        }
        (name.to_owned(), Value::Object(said))
    });
    let metadata = described.collect::<Map<_, _>>();
    let columns = columns.into_iter().map(|(name, _, column)| (name, column)).collect();
    let frame = to_frame(columns).with_context(|| format!("{}: cannot write", path.display()))?;
    match format {
        TableFormat::Csv => write_csv(&frame, path),
        TableFormat::Parquet => write_whole(&frame, metadata, path),
    }
}

/// What is known of the columns of a table.
fn descriptions(frame: &DataFrame) -> Map<String, Value> {
    let mut described = Map::new();
    for name in frame.columns().iter().map(|column| column.name().as_str()) {
        let Some(definition) = columns::definition(name) else { continue };
        let better = definition.better.map(|better| match better {
            Better::Less => "less",
            Better::More => "more",
            Better::Neither => "neither",
        });
        let said = [
            ("description", Some(definition.description.as_str()).filter(|text| !text.is_empty())),
            ("unit", Some(definition.unit).filter(|unit| !unit.is_empty())),
            ("better", better),
        ];
        let said = said
            .into_iter()
            .filter_map(|(key, text)| Some((key.to_owned(), json!(text?))))
            .collect::<Map<_, _>>();
        if !said.is_empty() {
            described.insert(name.to_owned(), Value::Object(said));
        }
    }
    described
}

fn metadata(described: Map<String, Value>) -> Option<KeyValueMetadata> {
    let text = (!described.is_empty()).then(|| Value::Object(described).to_string())?;
    Some(KeyValueMetadata::from_static(vec![(DESCRIPTIONS.to_owned(), text)]))
}

/// Stores a table as Parquet: zstd at polars' default level, fixed row groups, its columns described under
/// [`DESCRIPTIONS`].
pub fn write_parquet(frame: &DataFrame, path: &Path) -> Result<()> {
    write_whole(frame, descriptions(frame), path)
}

fn write_whole(frame: &DataFrame, described: Map<String, Value>, path: &Path) -> Result<()> {
    // Left to polars, the borders of row groups would depend on the number of rows and on chunks.
    let mut frame = frame.clone();
    frame.rechunk_mut();
    let parts = (0..frame.height())
        .step_by(ROWS_PER_GROUP)
        .map(|start| Ok(frame.slice(start as i64, ROWS_PER_GROUP)));
    write_parts(&frame.clear(), described, parts, path)
}

/// Stores a table that comes in parts of [`ROWS_PER_GROUP`] rows, all but the last, and has the columns of
/// `empty`: a row group a part. The bytes are those of [`write_parquet`].
pub(super) fn write_parquet_in_parts(
    empty: &DataFrame,
    parts: impl Iterator<Item = Result<DataFrame>>,
    path: &Path,
) -> Result<()> {
    write_parts(empty, descriptions(empty), parts, path)
}

fn write_parts(
    empty: &DataFrame,
    described: Map<String, Value>,
    parts: impl Iterator<Item = Result<DataFrame>>,
    path: &Path,
) -> Result<()> {
    write_atomically(path, |out| {
        let mut writer =
            parquet_writer(out).with_key_value_metadata(metadata(described)).batched(empty.schema())?;
        for part in parts {
            let mut part = part?;
            part.rechunk_mut();
            writer.write_batch(&part)?;
        }
        Ok(writer.finish().map(|_| ())?)
    })
}

fn parquet_writer<W: Write>(out: W) -> ParquetWriter<W> {
    ParquetWriter::new(out)
        .with_compression(ParquetCompression::Zstd(None))
        .with_row_group_size(Some(ROWS_PER_GROUP))
}

/// The table at `path`, if its checksum is that `expected`.
pub fn read_parquet(path: &Path, expected: Option<&Checksum>) -> Result<DataFrame> {
    parquet::read(path, expected, |_| None)
}

/// The columns called `names` of a Parquet file; all there are if one is missing, so that whoever misses it
/// can say what there is.
pub(super) fn read_parquet_columns(path: &Path, names: &[&str]) -> Result<DataFrame> {
    parquet::read(path, None, |has| {
        names.iter().all(|name| has(name)).then(|| names.iter().map(|name| name.to_string()).collect())
    })
}

/// Stores a table as CSV; see [`write_table`] for the format.
pub fn write_csv(frame: &DataFrame, path: &Path) -> Result<()> {
    write_atomically(path, |out| write_csv_to(frame, out))
}

fn write_csv_to<W: Write>(frame: &DataFrame, out: &mut BufWriter<W>) -> Result<()> {
    let columns = frame.columns().iter().map(Cells::of).collect::<Result<Vec<_>>>()?;
    let mut csv = csv::Writer::from_writer(out);
    csv.write_record(frame.columns().iter().map(|column| unformulated(column.name().as_str())))?;
    for i in 0..frame.height() {
        csv.write_record(columns.iter().map(|cells| match cells {
            Cells::Text(values) => unformulated(values.get(i).unwrap_or_default()),
            cells => cells.text(i).unwrap_or_default(),
        }))?;
    }
    csv.flush()?;
    Ok(())
}

/// Text as a spreadsheet may safely open it (OWASP, "CSV injection").
fn unformulated(text: &str) -> String {
    let apostrophe = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { "'" } else { "" };
    format!("{apostrophe}{text}")
}

/// Typed access to the cells of a column.
pub enum Cells<'a> {
    Float(&'a Float64Chunked),
    Int(&'a Int64Chunked),
    Text(&'a StringChunked),
    Bool(&'a BooleanChunked),
}

impl<'a> Cells<'a> {
    /// Fails on a type that no table of ours has.
    pub fn of(column: &'a PolarsColumn) -> Result<Self> {
        let series = column.as_materialized_series();
        Ok(match series.dtype() {
            DataType::Float64 => Self::Float(series.f64()?),
            DataType::Int64 => Self::Int(series.i64()?),
            DataType::String => Self::Text(series.str()?),
            DataType::Boolean => Self::Bool(series.bool()?),
            other => bail!(
                "column `{}` has type {other}, expected Float64, Int64, String or Boolean",
                column.name()
            ),
        })
    }

    /// The column called `name`; the error lists the columns there are.
    pub fn named(frame: &'a DataFrame, name: &str) -> Result<Self> {
        let column = frame.column(name).ok().with_context(|| {
            let known = frame.columns().iter().map(|column| column.name().as_str()).collect::<Vec<_>>();
            format!("no column `{name}`, the table has {}", crate::settings::quoted(&known))
        })?;
        Self::of(column)
    }

    pub fn is_numeric(&self) -> bool {
        matches!(self, Self::Float(_) | Self::Int(_))
    }

    /// The number in row `i`; None for nulls and for what is no number.
    pub fn number(&self, i: usize) -> Option<f64> {
        match self {
            Self::Float(values) => values.get(i),
            Self::Int(values) => values.get(i).map(|value| value as f64),
            Self::Text(_) | Self::Bool(_) => None,
        }
    }

    /// The value in row `i` as text, floats in the shortest form that reads back the same; None for nulls.
    pub fn text(&self, i: usize) -> Option<String> {
        match self {
            Self::Float(values) => values.get(i).map(|value| value.to_string()),
            Self::Int(values) => values.get(i).map(|value| value.to_string()),
            Self::Text(values) => values.get(i).map(str::to_owned),
            Self::Bool(values) => values.get(i).map(|value| value.to_string()),
        }
    }
}

/// The rows of `frame` at `indices`, in their order.
pub fn take_rows(frame: &DataFrame, indices: &[usize]) -> Result<DataFrame> {
    let indices = indices.iter().map(|&i| i as polars::prelude::IdxSize).collect::<Vec<_>>();
    Ok(frame.take(&IdxCa::from_vec("rows".into(), indices))?)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn csv_text(columns: Vec<(&str, Column)>) -> String {
        let mut out = BufWriter::new(Vec::new());
        write_csv_to(&to_frame(columns).unwrap(), &mut out).unwrap();
        String::from_utf8(out.into_inner().unwrap()).unwrap()
    }

    #[test]
    fn csv_quotes_and_disarms() {
        let names = Column::Text(["=1+1", "plain", "a,\"b\"", "-x"].map(String::from).to_vec());
        let numbers = Column::OptionalFloat(vec![Some(-1.0), None, Some(0.1), Some(1e-7)]);
        let text = csv_text(vec![("name", names), ("value", numbers)]);
        assert_eq!(text, "name,value\n'=1+1,-1\nplain,\n\"a,\"\"b\"\"\",0.1\n'-x,0.0000001\n");
    }

    proptest! {
        #[test]
        fn csv_floats_read_back_exactly(values in prop::collection::vec(prop::num::f64::ANY.prop_filter("finite", |x| x.is_finite()), 1..20)) {
            let text = csv_text(vec![("x", Column::Float(values.clone()))]);
            let read = text.lines().skip(1).map(|line| line.parse::<f64>().unwrap().to_bits()).collect::<Vec<_>>();
            prop_assert_eq!(read, values.iter().map(|value| value.to_bits()).collect::<Vec<_>>());
        }
    }
}
