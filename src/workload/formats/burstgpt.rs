//! BurstGPT's traces: CSV with at least `Timestamp,Request tokens,Response tokens`, as published at
//! <https://github.com/HPMLL/BurstGPT>; some files also have `Session ID` and `Elapsed time`.
//!
//! Timestamps are seconds since the collection began, days before a file's first request, so time starts at
//! the first request. A response of 0 tokens is a failure and no load; `keep_failures` keeps it with 1 token.

use super::{Clock, Layout, ReadAs, Reading, Row, RowReader, TimeUnit};
use crate::workload::csv::{self, Columns};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

const COLUMNS: [&str; 3] = ["Timestamp", "Request tokens", "Response tokens"];

pub static LAYOUT: Layout = Layout {
    name: "burstgpt",
    summary: "Timestamp, Request tokens, Response tokens",
    first_line: "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type",
    clock: Clock::Counts(TimeUnit::Seconds),
    starts_at_first_request: true,
    block_tokens: None,
    reading: Reading::Lines {
        has_header: true,
        tells: |first| csv::has_column(first, COLUMNS[1]),
        open: |first, read_as| Ok(Box::new(Reader::new(first, read_as)?)),
    },
    write: None,
};

struct Reader {
    columns: Columns<3>,
    unit: TimeUnit,
    keep_failures: bool,
}

impl Reader {
    fn new(header: &Line, read_as: ReadAs) -> Result<Self, WorkloadError> {
        let unit = read_as.time_unit.unwrap_or(TimeUnit::Seconds);
        Ok(Self { columns: Columns::locate(header, COLUMNS)?, unit, keep_failures: read_as.keep_failures })
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [timestamp, request, response] = self.columns.read(line)?;
        let (ticks, prefill_tokens, decode_tokens) =
            (timestamp.time(self.unit)?, request.tokens()?, response.tokens()?);
        let row = Row { ticks, prefill_tokens, decode_tokens, ..Row::default() };
        Ok((decode_tokens > 0.0 || self.keep_failures).then_some(row))
    }

    fn not_read(&self) -> &[String] {
        self.columns.others()
    }
}
