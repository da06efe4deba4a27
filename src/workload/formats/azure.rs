//! Azure's LLM inference traces: CSV `TIMESTAMP,ContextTokens,GeneratedTokens`, as published at
//! <https://github.com/Azure/AzurePublicDataset>.
//!
//! 2023 writes `2023-11-16 18:17:03.9799600`, 2024 and 2025 append an offset from UTC and leave out a zero
//! fraction (`2024-05-12 00:00:10+00:00`); both are read, and a time without an offset is UTC. Time starts at
//! the first request and is counted in whole nanoseconds, so that nothing is lost however far from 1970 it
//! lies. Of 2025's `NumImages` nothing is read. Where it is known which prompts begin alike, [`write()`] adds
//! the columns `block_tokens` and `hash_ids`, as in Vidur's traces.

use std::io::{self, Write};

use chrono::{DateTime, NaiveDateTime};

use super::{Clock, Layout, Reading, Row, RowReader};
use crate::workload::Workload;
use crate::workload::csv::{self, Columns, Field, PromptColumns, ToldColumns};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

const COLUMNS: [&str; 3] = ["TIMESTAMP", "ContextTokens", "GeneratedTokens"];

pub static LAYOUT: Layout = Layout {
    name: "azure",
    summary: "TIMESTAMP,ContextTokens,GeneratedTokens",
    first_line: "TIMESTAMP,ContextTokens,GeneratedTokens",
    clock: Clock::Known,
    starts_at_first_request: true,
    block_tokens: None,
    reading: Reading::Lines {
        has_header: true,
        tells: |first| csv::has_column(first, COLUMNS[1]),
        open: |first, _| Ok(Box::new(Reader::new(first)?)),
    },
    write: Some(write),
};

struct Reader {
    columns: Columns<3>,
    prompts: PromptColumns,
    told: ToldColumns,
    first_ns: Option<i64>,
}

impl Reader {
    fn new(header: &Line) -> Result<Self, WorkloadError> {
        let mut columns = Columns::locate(header, COLUMNS)?;
        let (prompts, told) =
            (PromptColumns::locate(header, &mut columns), ToldColumns::locate(header, &mut columns));
        Ok(Self { columns, prompts, told, first_ns: None })
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let [timestamp, prefill, decode] = self.columns.read(line)?;
        let ns = nanoseconds(&timestamp)?;
        let ticks = ns.saturating_sub(*self.first_ns.get_or_insert(ns)) as f64;
        let (prefill_tokens, decode_tokens) = (prefill.tokens()?, decode.tokens()?);
        let (block_tokens, hash_ids) = self.prompts.read(line)?;
        let (max_new_tokens, priority) = self.told.read(line)?;
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

    fn ticks_per_s(&self) -> f64 {
        1e9
    }

    fn not_read(&self) -> &[String] {
        self.columns.others()
    }
}

/// Nanoseconds since 1970 in UTC.
fn nanoseconds(field: &Field) -> Result<i64, WorkloadError> {
    let text = field.text();
    let (date, rest) = text.split_at_checked(10).unwrap_or((text, ""));
    let time = rest.strip_prefix([' ', 'T']).unwrap_or("");
    let utc = if let Some(utc) = time.strip_suffix('Z') {
        NaiveDateTime::parse_from_str(&format!("{date} {utc}"), "%Y-%m-%d %H:%M:%S%.f")
            .ok()
            .map(|at| at.and_utc())
    } else if time.contains(['+', '-']) {
        DateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f%:z")
            .ok()
            .map(|at| at.to_utc())
    } else {
        NaiveDateTime::parse_from_str(&format!("{date} {time}"), "%Y-%m-%d %H:%M:%S%.f")
            .ok()
            .map(|at| at.and_utc())
    };
    utc.and_then(|at| at.timestamp_nanos_opt())
        .ok_or_else(|| field.error("a time such as `2023-11-16 18:17:03.9799600`"))
}

/// Writes times of 1970 in steps of 100 ns, as published; finer arrivals are rounded to them, and a first
/// arrival after 0 becomes 0 when read back.
fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    const STEPS_PER_S: i64 = 10_000_000;
    write!(out, "{}{}", LAYOUT.first_line, csv::more_header(workload))?;
    for (request, at) in workload.arrived_at_s.iter().enumerate() {
        // Whatever is too late for the reader's nanoseconds saturates and is refused.
        let steps = (at * STEPS_PER_S as f64).round() as i64;
        let date = DateTime::from_timestamp(steps / STEPS_PER_S, 0).filter(|_| steps < i64::MAX / 100);
        let date = date.ok_or_else(|| {
            io::Error::other(format!("an arrival at {at} s, later than this format can tell"))
        })?;
        let (prefill, decode) = (workload.prefill_tokens[request], workload.decode_tokens[request]);
        let date = date.format("%Y-%m-%d %H:%M:%S");
        write!(
            out,
            "\r\n{date}.{:07},{prefill},{decode}{}",
            steps % STEPS_PER_S,
            csv::more_fields(workload, request)
        )?;
    }
    Ok(())
}
