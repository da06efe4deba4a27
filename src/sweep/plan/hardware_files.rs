//! What the hardware room borrows from here: a place for condensed imports, and a reader of Parquet files.

use std::path::{Path, PathBuf};

use crate::hardware::{Files, ReadParquet};

/// Where imports are kept, beside the results they serve.
pub const CACHE_DIR: &str = "results/.hardware";

/// Where `hardware calibrate` keeps what it fitted to result files, by name.
pub const CALIBRATIONS_DIR: &str = "results/calibrations";

/// Files looked for under `base_dirs`, imports kept, Parquet read if this build can.
pub fn hardware_files(base_dirs: &[PathBuf]) -> Files<'_> {
    Files {
        base_dirs,
        cache_dir: Some(Path::new(CACHE_DIR)),
        calibrations_dir: Some(Path::new(CALIBRATIONS_DIR)),
        parquet: PARQUET,
    }
}

#[cfg(not(feature = "report"))]
const PARQUET: Option<ReadParquet> = None;
#[cfg(feature = "report")]
const PARQUET: Option<ReadParquet> = Some(tables::read);

#[cfg(feature = "report")]
mod tables {
    use std::path::Path;

    use polars::prelude::{Column, DataType, PolarsResult};

    use crate::hardware::Columns;
    use crate::sweep::tables::parquet;

    /// A [`crate::hardware::ReadParquet`].
    pub fn read(file: &Path, names: &[&str]) -> Result<Vec<Option<Columns>>, String> {
        let present = |has: &dyn Fn(&str) -> bool| {
            Some(names.iter().filter(|name| has(name)).map(|name| name.to_string()).collect())
        };
        let frame =
            parquet::read(file, None, present).map_err(|error| format!("no readable Parquet: {error:#}"))?;
        let columns = names
            .iter()
            .map(|name| frame.column(name).ok().map(values).transpose())
            .collect::<PolarsResult<_>>();
        columns.map_err(|error| format!("no readable Parquet: {error}"))
    }

    fn values(column: &Column) -> PolarsResult<Columns> {
        if column.dtype() == &DataType::String {
            return Ok(Columns::Texts(
                column.str()?.iter().map(|text| text.unwrap_or_default().to_string()).collect(),
            ));
        }
        let numbers = column.cast(&DataType::Float64)?;
        Ok(Columns::Numbers(numbers.f64()?.iter().map(|number| number.unwrap_or(f64::NAN)).collect()))
    }
}
