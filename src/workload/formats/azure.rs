//! Azure's LLM inference traces: CSV `TIMESTAMP,ContextTokens,GeneratedTokens`, as published at
//! <https://github.com/Azure/AzurePublicDataset>.
//!
//! 2023 writes `2023-11-16 18:17:03.9799600`, 2024 and 2025 append an offset from UTC and leave out a zero fraction
//! (`2024-05-12 00:00:10+00:00`); both are read, and a time without an offset is UTC. Time starts at the first request
//! and is counted in whole nanoseconds, so that nothing is lost however far from 1970 it lies.

use std::io::{self, Write};

use chrono::{DateTime, NaiveDateTime};

use super::{Row, RowReader};
use crate::workload::Workload;
use crate::workload::csv::{Columns, Field};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

pub const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];
pub const HEADER: &str = "TIMESTAMP,ContextTokens,GeneratedTokens";
pub const TICKS_PER_S: f64 = 1e9;

pub struct Reader {
    columns: Columns<3>,
    first_ns: Option<i64>,
}

impl Reader {
    pub fn new(header: &Line) -> Result<Self, WorkloadError> {
        Ok(Self { columns: Columns::locate(header, COLUMNS)?, first_ns: None })
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [timestamp, prefill, decode] = self.columns.read(line)?;
        let ns = nanoseconds(&timestamp)?;
        let since_first = ns.saturating_sub(*self.first_ns.get_or_insert(ns));
        Ok(Some(Row::plain(since_first as f64, prefill.tokens()?, decode.tokens()?)))
    }
}

/// Nanoseconds since 1970 in UTC.
fn nanoseconds(field: &Field) -> Result<i64, WorkloadError> {
    let text = field.text();
    let (date, rest) = text.split_at_checked(10).unwrap_or((text, ""));
    let time = rest.strip_prefix([' ', 'T']).unwrap_or("");
    let utc = if let Some(utc) = time.strip_suffix('Z') {
        NaiveDateTime::parse_from_str(&format!("{date} {utc}"), "%Y-%m-%d %H:%M:%S%.f").ok().map(|at| at.and_utc())
    } else if time.contains(['+', '-']) {
        DateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f%:z").ok().map(|at| at.to_utc())
    } else {
        NaiveDateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f").ok().map(|at| at.and_utc())
    };
    utc.and_then(|at| at.timestamp_nanos_opt()).ok_or_else(|| field.error("a time such as `2023-11-16 18:17:03.9799600`"))
}

/// Writes times of 1970 in steps of 100 ns, as published; finer arrivals are rounded to them, and a first arrival
/// after 0 becomes 0 when read back.
pub fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    const STEPS_PER_S: i64 = 10_000_000;
    write!(out, "{HEADER}")?;
    for ((at, prefill), decode) in workload.arrived_at_s.iter().zip(&workload.prefill_tokens).zip(&workload.decode_tokens) {
        // Whatever is too late for the reader's nanoseconds saturates and is refused.
        let steps = (at * STEPS_PER_S as f64).round() as i64;
        let date = DateTime::from_timestamp(steps / STEPS_PER_S, 0).filter(|_| steps < i64::MAX / 100);
        let date = date.ok_or_else(|| io::Error::other(format!("an arrival at {at} s, later than this format can tell")))?;
        write!(out, "\r\n{}.{:07},{prefill},{decode}", date.format("%Y-%m-%d %H:%M:%S"), steps % STEPS_PER_S)?;
    }
    Ok(())
}
