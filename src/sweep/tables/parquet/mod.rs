//! Parquet files of whatever origin: broken or made to do harm, they are an error, never a panic or a flood
//! of memory.
//!
//! polars asks for whatever memory a file says it needs, and a process that does not get it ends. So it never
//! gets a file as it is, but what `checked` has understood of it, and what it makes of that is looked at as
//! well.

mod checked;

use std::io::Cursor;
use std::path::Path;

use anyhow::{Result, anyhow, ensure};
use polars::prelude::{DataFrame, ParallelStrategy, ParquetReader, SerReader};

use self::checked::{Checked, checked};
use super::checksum::Checksum;
use crate::sweep::panics::caught;

/// Reads the columns that `choose` names when told which there are; all if it names none.
///
/// Errors: the file cannot be read, is not the one that `expected` is of, is not a Parquet file, or says what
/// cannot be or is beyond the limits.
pub fn read(
    path: &Path,
    expected: Option<&Checksum>,
    choose: impl FnOnce(&dyn Fn(&str) -> bool) -> Option<Vec<String>>,
) -> Result<DataFrame> {
    let bytes = std::fs::read(path)?;
    if let Some(expected) = expected {
        expected.verify(&bytes)?;
    }
    // A panic on one of polars' threads would be an error as well, but seen on the terminal first.
    let parallel = if expected.is_some() { ParallelStrategy::Auto } else { ParallelStrategy::None };
    caught(move || {
        let Checked { bytes, rows, columns, most_text_bytes } = checked(bytes, choose)?;
        if columns == 0 {
            return Ok(DataFrame::empty_with_height(rows));
        }
        let mut frame = ParquetReader::new(Cursor::new(bytes)).read_parallel(parallel).finish()?;
        // polars takes the length of columns for granted.
        for column in frame.columns() {
            ensure!(
                column.len() == rows,
                "column `{}`: {} values found, expected {rows}",
                column.name(),
                column.len()
            );
        }
        let texts = frame.columns().iter().filter_map(|column| column.str().ok());
        // Many rows may share one long text, and each gets its own copy sooner or later.
        let text_bytes: u64 =
            texts.flat_map(|texts| texts.iter()).map(|text| text.map_or(0, str::len) as u64).sum();
        ensure!(
            text_bytes <= most_text_bytes,
            "{text_bytes} bytes of text found, expected at most {most_text_bytes}"
        );
        frame.rechunk_mut();
        Ok(frame)
    })
    .map_err(|panic| anyhow!("broken ({panic})"))?
}
