//! Parquet files of whatever origin: broken or made to do harm, they are an error, never a panic.

use std::fs::File;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use polars::prelude::{DataFrame, ParquetReader, SerReader};

use super::panics::caught;

/// The most values a table may say it has: a million runs have a hundred million.
const MOST_VALUES: usize = 500_000_000;

/// The most rows a table may say it has for each byte of its file; those of any real one differ in more than a bit.
const MOST_ROWS_PER_BYTE: u64 = 100;

/// Reads the columns that `choose` names when told which there are; all if it names none.
pub fn read(path: &Path, choose: impl FnOnce(&dyn Fn(&str) -> bool) -> Option<Vec<String>>) -> Result<DataFrame> {
    let file = File::open(path)?;
    let bytes = file.metadata()?.len();
    let read = move || {
        let mut reader = ParquetReader::new(file);
        let schema = reader.schema()?;
        let groups = &reader.get_metadata()?.row_groups;
        let rows = groups.iter().fold(0usize, |rows, group| rows.saturating_add(group.num_rows()));
        ensure!(
            rows as u64 <= 1000 + MOST_ROWS_PER_BYTE.saturating_mul(bytes) && rows.saturating_mul(schema.len()) <= MOST_VALUES,
            "{rows} rows of {} columns found in {bytes} bytes, expected at most {MOST_VALUES} values and {MOST_ROWS_PER_BYTE} rows a byte",
            schema.len()
        );
        let columns = choose(&|name| schema.contains(name));
        let mut frame = reader.with_columns(columns).finish()?;
        frame.rechunk_mut();
        Ok(frame)
    };
    caught(read).map_err(|panic| anyhow!("broken ({panic})"))?
}
