//! Vidur's processed traces: CSV `arrived_at,num_prefill_tokens,num_decode_tokens`; seconds and tokens, time from 0.

use std::io::{self, Write};

use super::{Row, RowReader};
use crate::workload::Workload;
use crate::workload::csv::Columns;
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

pub const COLUMNS: [&str; 3] = ["arrived_at", "num_prefill_tokens", "num_decode_tokens"];
pub const HEADER: &str = "arrived_at,num_prefill_tokens,num_decode_tokens";

pub struct Reader(Columns<3>);

impl Reader {
    pub fn new(header: &Line) -> Result<Self, WorkloadError> {
        Columns::locate(header, COLUMNS).map(Self)
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [arrived_at, prefill, decode] = self.0.read(line)?;
        Ok(Some(Row::plain(arrived_at.number("seconds")?, prefill.tokens()?, decode.tokens()?)))
    }
}

/// Arrivals are written so that they are read back bit for bit.
pub fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{HEADER}")?;
    for ((at, prefill), decode) in workload.arrived_at_s.iter().zip(&workload.prefill_tokens).zip(&workload.decode_tokens) {
        writeln!(out, "{at},{prefill},{decode}")?;
    }
    Ok(())
}
