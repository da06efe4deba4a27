//! Trace formats, one file each: how a line becomes a request.
//!
//! A format says what a clock tick is and where time starts; [`super::trace`] does what all formats share: order, scaling,
//! cutting. Adding a format touches its own file and the tables here.

pub mod azure;
pub mod burstgpt;
pub mod mooncake;
pub mod vidur;

use std::io::{BufWriter, Write};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Workload;
use super::error::{WorkloadError, excerpt};
use super::source::Line;

/// The layouts of published traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// CSV `arrived_at,num_prefill_tokens,num_decode_tokens`.
    Vidur,
    /// CSV `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// JSON lines with `timestamp` in ms, `input_length`, `output_length`, `hash_ids`.
    Mooncake,
    /// CSV with `Timestamp`, `Request tokens`, `Response tokens`.
    #[serde(rename = "burstgpt")]
    BurstGpt,
}

/// A request as a trace has it, before anything is scaled or cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Clock reading, in ticks of the format.
    pub ticks: f64,
    pub prefill_tokens: f64,
    pub decode_tokens: f64,
    /// Ids of prompt blocks, where the format has them.
    pub hash_ids: Vec<u64>,
}

impl Row {
    fn plain(ticks: f64, prefill_tokens: f64, decode_tokens: f64) -> Self {
        Self { ticks, prefill_tokens, decode_tokens, hash_ids: Vec::new() }
    }
}

/// Reads the lines of one trace.
pub trait RowReader {
    /// `None` for a line that is no request to be served.
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError>;
}

impl TraceFormat {
    /// Names, as settings spell them, and first lines.
    const KNOWN: [(&'static str, &'static str); 4] =
        [("vidur", vidur::HEADER), ("azure", azure::HEADER), ("mooncake", mooncake::EXAMPLE), ("burstgpt", burstgpt::HEADER)];

    /// The format of a trace by its first line.
    ///
    /// Errors: no format has such a line.
    pub fn detect(first: &Line) -> Result<Self, WorkloadError> {
        // One telling column name each.
        let telling = |name: &str| first.text.split(',').any(|field| field.trim().trim_matches('"') == name);
        if telling(vidur::COLUMNS[1]) {
            Ok(Self::Vidur)
        } else if telling(azure::COLUMNS[1]) {
            Ok(Self::Azure)
        } else if telling(burstgpt::COLUMNS[1]) {
            Ok(Self::BurstGpt)
        } else if first.text.trim_start().starts_with('{') {
            Ok(Self::Mooncake)
        } else {
            let known = Self::KNOWN.map(|(name, line)| format!("`{name}` ({line})")).join(", ");
            Err(first.error(format!("`{}` found, expected the first line of a known format: {known}", excerpt(first.text))))
        }
    }

    /// A reader for a trace with this first line, and whether that line is a header rather than a request.
    pub(super) fn reader(self, first: &Line, keep_failures: bool) -> Result<(Box<dyn RowReader>, bool), WorkloadError> {
        Ok(match self {
            Self::Vidur => (Box::new(vidur::Reader::new(first)?), true),
            Self::Azure => (Box::new(azure::Reader::new(first)?), true),
            Self::Mooncake => (Box::new(mooncake::Reader), false),
            Self::BurstGpt => (Box::new(burstgpt::Reader::new(first, keep_failures)?), true),
        })
    }

    pub(super) fn ticks_per_s(self) -> f64 {
        match self {
            Self::Vidur | Self::Mooncake | Self::BurstGpt => 1.0,
            Self::Azure => azure::TICKS_PER_S,
        }
    }

    /// Whether the clock shows a date, so that time starts at the first request.
    pub(super) fn starts_at_first_request(self) -> bool {
        match self {
            Self::Vidur | Self::Mooncake => false,
            Self::Azure | Self::BurstGpt => true,
        }
    }

    /// Prompt tokens a block of the format's `hash_ids` holds.
    pub(super) fn block_tokens(self) -> Option<u32> {
        (self == Self::Mooncake).then_some(mooncake::BLOCK_TOKENS)
    }

    /// Writes a workload as a trace of this format, atomically: `file` is complete or untouched.
    ///
    /// Vidur and Mooncake keep arrivals bit for bit, Azure to 100 ns and from the first request on; only Mooncake keeps
    /// prompt blocks.
    ///
    /// Errors: the format is only read (BurstGPT, whose further columns a workload does not have); writing fails.
    pub fn write(self, workload: &Workload, file: &Path) -> Result<(), WorkloadError> {
        let write = match self {
            Self::Vidur => vidur::write,
            Self::Azure => azure::write,
            Self::Mooncake => mooncake::write,
            Self::BurstGpt => {
                let message = "BurstGPT traces are only read, expected `vidur`, `azure` or `mooncake` to write".into();
                return Err(WorkloadError::File { file: file.into(), message });
            }
        };
        let io_error = |source| WorkloadError::Io { file: file.into(), source };
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut out = BufWriter::new(tempfile::NamedTempFile::new_in(dir).map_err(io_error)?);
        write(workload, &mut out).and_then(|()| out.flush()).map_err(io_error)?;
        let finished = out.into_inner().map_err(|error| io_error(error.into_error()))?;
        finished.persist(file).map_err(|error| io_error(error.error))?;
        Ok(())
    }
}
