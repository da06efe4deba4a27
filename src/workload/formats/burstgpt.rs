//! BurstGPT's traces: CSV with at least `Timestamp,Request tokens,Response tokens`, as published at
//! <https://github.com/HPMLL/BurstGPT>; some files also have `Session ID` and `Elapsed time`.
//!
//! Timestamps are seconds since the collection began, days before a file's first request, so time starts at the first
//! request. A response of 0 tokens is a failure and no load; `keep_failures` keeps it with 1 token.

use super::{Row, RowReader};
use crate::workload::csv::Columns;
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

pub const COLUMNS: [&str; 3] = ["Timestamp", "Request tokens", "Response tokens"];
pub const HEADER: &str = "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type";

pub struct Reader {
    columns: Columns<3>,
    keep_failures: bool,
}

impl Reader {
    pub fn new(header: &Line, keep_failures: bool) -> Result<Self, WorkloadError> {
        Ok(Self { columns: Columns::locate(header, COLUMNS)?, keep_failures })
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [timestamp, request, response] = self.columns.read(line)?;
        let row = Row::plain(timestamp.number("seconds")?, request.tokens()?, response.tokens()?);
        Ok((row.decode_tokens > 0.0 || self.keep_failures).then_some(row))
    }
}
