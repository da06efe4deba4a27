//! Traces: files of requests with their arrival times, in any of the [formats](super::formats).

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::error::WorkloadError;
use super::formats::{Row, TraceFormat};
use super::source::{self, DECOMPRESSED_LIMIT_BYTES, Line, Lines};
use super::{MAX_ARRIVAL_S, MAX_REQUESTS, MAX_TOKENS, PrefixBlocks, Workload, cut};
use crate::settings::Faults;

/// Which trace, and how it is changed on the way in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSpec {
    /// The file, plain or compressed with gzip or Zstandard; relative to the grid file or the current directory.
    pub path: PathBuf,
    /// The file's layout; told by its first line if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TraceFormat>,
    /// Factor on arrival times: 0.5 is twice the rate.
    #[serde(default = "one")]
    pub time_scale: f64,
    /// Only so many requests, the earliest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// The most tokens a request may have, prefill and decode together. Of a longer one the prefill is cut, and once
    /// that is down to 1 token, the decode.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Factor on prefill tokens; the product is truncated and at least 1.
    #[serde(default = "one")]
    pub prefill_scale: f64,
    /// Factor on decode tokens; the product is truncated and at least 1.
    #[serde(default = "one")]
    pub decode_scale: f64,
    /// Keep BurstGPT's failed requests, which have no response, as requests of 1 decode token.
    #[serde(default)]
    pub keep_failures: bool,
    /// Put requests in order of arrival; otherwise a trace out of order is an error.
    #[serde(default)]
    pub sort: bool,
    /// The most bytes a compressed file may hold, against decompression bombs.
    #[serde(default = "decompressed_limit_bytes")]
    pub decompressed_limit_bytes: u64,
}

fn one() -> f64 {
    1.0
}

fn decompressed_limit_bytes() -> u64 {
    DECOMPRESSED_LIMIT_BYTES
}

impl TraceSpec {
    /// A trace as it is.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            format: None,
            time_scale: 1.0,
            max_requests: None,
            max_tokens: None,
            prefill_scale: 1.0,
            decode_scale: 1.0,
            keep_failures: false,
            sort: false,
            decompressed_limit_bytes: DECOMPRESSED_LIMIT_BYTES,
        }
    }

    pub fn check(&self, faults: &mut Faults) {
        faults.require(!self.path.as_os_str().is_empty(), "path", || "an empty path found, expected a file".into());
        faults.positive("time_scale", self.time_scale);
        faults.positive("prefill_scale", self.prefill_scale);
        faults.positive("decode_scale", self.decode_scale);
        if let Some(most) = self.max_requests {
            faults.at_least("max_requests", most, 1);
        }
        if let Some(most) = self.max_tokens {
            faults.at_least("max_tokens", most.into(), 2);
        }
        faults.at_least("decompressed_limit_bytes", self.decompressed_limit_bytes, 1);
    }
}

/// What reading a trace has to tell beside the requests.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TraceNotes {
    pub file: PathBuf,
    pub format: TraceFormat,
    /// Requests cut to `max_tokens`.
    pub cut: u64,
    /// Lines left out because they are no requests to be served.
    pub skipped: u64,
}

/// Reads a trace.
///
/// Errors: the file is missing, unreadable, empty, of no known format, has a line that breaks its format, is out of order
/// (unless `sort`), has more than [`MAX_REQUESTS`] requests or one after [`MAX_ARRIVAL_S`].
pub fn read(spec: &TraceSpec, base_dirs: &[PathBuf]) -> Result<(Workload, TraceNotes), WorkloadError> {
    let mut lines = Lines::open(&source::find(&spec.path, base_dirs)?, spec.decompressed_limit_bytes)?;
    let file = lines.file().to_path_buf();
    let file_error = |message: &str| WorkloadError::File { file: file.clone(), message: message.into() };

    let first = lines.next()?.ok_or_else(|| file_error("an empty file found, expected a trace"))?;
    let format = spec.format.map_or_else(|| TraceFormat::detect(&first), Ok)?;
    let (mut reader, is_header) = format.reader(&first, spec.keep_failures)?;
    let mut requests = Requests::new(spec, format);
    if !is_header {
        requests.take(reader.read(&first)?, &first)?;
    }
    while !requests.enough()
        && let Some(line) = lines.next()?
    {
        requests.take(reader.read(&line)?, &line)?;
    }
    if requests.workload.is_empty() {
        return Err(file_error("no request found, expected at least one"));
    }
    let notes = TraceNotes { file: file.clone(), format, cut: requests.cut, skipped: requests.skipped };
    let workload = requests.finish();
    match workload.arrived_at_s.last() {
        Some(last_s) if *last_s > MAX_ARRIVAL_S => {
            Err(file_error(&format!("an arrival at {last_s} s found (after `time_scale`), expected none after {MAX_ARRIVAL_S} s")))
        }
        _ => Ok((workload, notes)),
    }
}

/// The requests read so far; arrivals still in the format's ticks.
struct Requests<'s> {
    spec: &'s TraceSpec,
    format: TraceFormat,
    workload: Workload,
    cut: u64,
    skipped: u64,
}

impl<'s> Requests<'s> {
    fn new(spec: &'s TraceSpec, format: TraceFormat) -> Self {
        let workload = Workload { prefix: format.block_tokens().map(PrefixBlocks::new), ..Workload::default() };
        Self { spec, format, workload, cut: 0, skipped: 0 }
    }

    /// Whether no further line can matter.
    fn enough(&self) -> bool {
        !self.spec.sort && self.spec.max_requests.is_some_and(|most| self.workload.len() as u64 >= most)
    }

    fn take(&mut self, row: Option<Row>, line: &Line) -> Result<(), WorkloadError> {
        let Some(row) = row else {
            self.skipped += 1;
            return Ok(());
        };
        if self.workload.len() >= MAX_REQUESTS {
            return Err(line.error(format!("more than {MAX_REQUESTS} requests; set `max_requests`")));
        }
        if !self.spec.sort
            && let Some(&before) = self.workload.arrived_at_s.last()
            && row.ticks < before
        {
            let early_s = (before - row.ticks) / self.format.ticks_per_s();
            return Err(line.error(format!(
                "arrives {early_s} s before the request above it, expected arrivals in order of time; sort the trace, or set `sort` to true"
            )));
        }
        if !(row.ticks * self.spec.time_scale).is_finite() {
            return Err(line.error(format!("arrival out of range after `time_scale` {}", self.spec.time_scale)));
        }
        let prefill = scaled(row.prefill_tokens, self.spec.prefill_scale, "prefill_scale", line)?;
        let decode = scaled(row.decode_tokens, self.spec.decode_scale, "decode_scale", line)?;
        let (prefill_cut, decode_cut) = cut(prefill, decode, self.spec.max_tokens);
        self.cut += u64::from((prefill_cut, decode_cut) != (prefill, decode));
        self.workload.push(row.ticks, prefill_cut, decode_cut);
        if let Some(prefix) = &mut self.workload.prefix {
            prefix.push(&row.hash_ids, prefill_cut);
        }
        Ok(())
    }

    fn finish(mut self) -> Workload {
        self.workload.prefix = self.workload.prefix.take().filter(|prefix| !prefix.ids().is_empty());
        if self.spec.sort {
            self.workload.sort();
        }
        if let Some(most) = self.spec.max_requests {
            self.workload.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        let start = if self.format.starts_at_first_request() { self.workload.arrived_at_s[0] } else { 0.0 };
        for at in &mut self.workload.arrived_at_s {
            *at = (*at - start) / self.format.ticks_per_s() * self.spec.time_scale;
        }
        self.workload
    }
}

fn scaled(tokens: f64, scale: f64, setting: &str, line: &Line) -> Result<u32, WorkloadError> {
    let scaled = (tokens * scale).trunc().max(1.0);
    if scaled > f64::from(MAX_TOKENS) {
        return Err(line.error(format!("{scaled} tokens after `{setting}` {scale}, expected at most {MAX_TOKENS}")));
    }
    Ok(scaled as u32)
}
