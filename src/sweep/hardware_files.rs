//! What the hardware room borrows from here: a place for condensed imports, and a reader of Parquet files.

use std::path::{Path, PathBuf};

use crate::hardware::{Files, ReadParquet};

/// Where imports are kept, beside the results they serve.
pub const CACHE_DIR: &str = "results/.hardware";

/// Files looked for under `base_dirs`, imports kept, Parquet read if this build can.
pub fn hardware_files(base_dirs: &[PathBuf]) -> Files<'_> {
    Files { base_dirs, cache_dir: Some(Path::new(CACHE_DIR)), parquet: PARQUET }
}

#[cfg(not(feature = "report"))]
const PARQUET: Option<ReadParquet> = None;
#[cfg(feature = "report")]
const PARQUET: Option<ReadParquet> = Some(parquet::read);

#[cfg(feature = "report")]
mod parquet {
    use std::path::Path;

    use polars::prelude::{Column, DataType, ParquetReader, PolarsResult, SerReader};

    use crate::hardware::Columns;

    /// A [`crate::hardware::ReadParquet`].
    pub fn read(file: &Path, names: &[&str]) -> Result<Vec<Option<Columns>>, String> {
        let opened = std::fs::File::open(file).map_err(|error| error.to_string())?;
        columns(opened, names).map_err(|error| format!("no readable Parquet: {error}"))
    }

    fn columns(file: std::fs::File, names: &[&str]) -> PolarsResult<Vec<Option<Columns>>> {
        let mut reader = ParquetReader::new(file);
        let schema = reader.schema()?;
        let present = names.iter().filter(|name| schema.contains(name)).map(|name| name.to_string()).collect();
        let frame = reader.with_columns(Some(present)).finish()?;
        names.iter().map(|name| frame.column(name).ok().map(values).transpose()).collect()
    }

    fn values(column: &Column) -> PolarsResult<Columns> {
        if column.dtype() == &DataType::String {
            return Ok(Columns::Texts(column.str()?.iter().map(|text| text.unwrap_or_default().to_string()).collect()));
        }
        let numbers = column.cast(&DataType::Float64)?;
        Ok(Columns::Numbers(numbers.f64()?.iter().map(|number| number.unwrap_or(f64::NAN)).collect()))
    }
}
