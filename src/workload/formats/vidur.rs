//! Vidur's processed traces: CSV `arrived_at,num_prefill_tokens,num_decode_tokens`; seconds and tokens, time
//! from 0.
//!
//! Where it is known which prompts begin alike, [`write()`] adds the columns `block_tokens` and `hash_ids`
//! (ids with a blank between them). What is told of requests beside, [`ToldColumns`] has: `max_new_tokens`
//! and `priority`. Vidur finds its columns by name and takes no notice of others.

use std::io::{self, Write};

use super::{Clock, Layout, ReadAs, Reading, Row, RowReader, TimeUnit};
use crate::workload::Workload;
use crate::workload::csv::{self, Columns, PromptColumns, ToldColumns};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

const COLUMNS: [&str; 3] = ["arrived_at", "num_prefill_tokens", "num_decode_tokens"];

pub static LAYOUT: Layout = Layout {
    name: "vidur",
    summary: "arrived_at,num_prefill_tokens,num_decode_tokens",
    first_line: "arrived_at,num_prefill_tokens,num_decode_tokens",
    clock: Clock::Counts(TimeUnit::Seconds),
    starts_at_first_request: false,
    block_tokens: None,
    reading: Reading::Lines {
        has_header: true,
        tells: |first| csv::has_column(first, COLUMNS[1]),
        open: |first, read_as| Ok(Box::new(Reader::new(first, read_as)?)),
    },
    write: Some(write),
};

struct Reader {
    columns: Columns<3>,
    prompts: PromptColumns,
    told: ToldColumns,
    unit: TimeUnit,
}

impl Reader {
    fn new(header: &Line, read_as: ReadAs) -> Result<Self, WorkloadError> {
        let mut columns = Columns::locate(header, COLUMNS)?;
        let (prompts, told) =
            (PromptColumns::locate(header, &mut columns), ToldColumns::locate(header, &mut columns));
        Ok(Self { columns, prompts, told, unit: read_as.time_unit.unwrap_or(TimeUnit::Seconds) })
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [arrived_at, prefill, decode] = self.columns.read(line)?;
        let (block_tokens, hash_ids) = self.prompts.read(line)?;
        let (max_new_tokens, priority) = self.told.read(line)?;
        let (ticks, prefill_tokens, decode_tokens) =
            (arrived_at.time(self.unit)?, prefill.tokens()?, decode.tokens()?);
        Ok(Some(Row {
            ticks,
            prefill_tokens,
            decode_tokens,
            hash_ids,
            block_tokens,
            max_new_tokens,
            priority,
        }))
    }

    fn not_read(&self) -> &[String] {
        self.columns.others()
    }
}

/// Arrivals are written so that they are read back bit for bit.
fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{}{}", LAYOUT.first_line, csv::more_header(workload))?;
    for (request, at) in workload.arrived_at_s.iter().enumerate() {
        let (prefill, decode) = (workload.prefill_tokens[request], workload.decode_tokens[request]);
        writeln!(out, "{at},{prefill},{decode}{}", csv::more_fields(workload, request))?;
    }
    Ok(())
}
