//! Trace formats, one file each: how a line becomes a request.
//!
//! A format says what a clock tick is and where time starts; [`super::trace`] does what all formats share: order, scaling,
//! cutting. Adding a format touches its own file and the tables here.

pub mod azure;
pub mod vidur;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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
}

/// A request as a trace has it, before anything is scaled or cut.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// Clock reading, in ticks of the format.
    pub ticks: f64,
    pub prefill_tokens: f64,
    pub decode_tokens: f64,
}

/// Reads the lines of one trace.
pub trait RowReader {
    /// `None` for a line that is no request to be served.
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError>;
}

impl TraceFormat {
    const ALL: [(Self, &'static str); 2] = [(Self::Vidur, vidur::HEADER), (Self::Azure, azure::HEADER)];

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
        } else {
            let known = Self::ALL.map(|(format, header)| format!("{format:?} (`{header}`)").to_lowercase()).join(", ");
            Err(first.error(format!("`{}` found, expected the first line of a known format: {known}", excerpt(first.text))))
        }
    }

    /// A reader for a trace with this first line, and whether that line is a header rather than a request.
    pub(super) fn reader(self, first: &Line) -> Result<(Box<dyn RowReader>, bool), WorkloadError> {
        Ok(match self {
            Self::Vidur => (Box::new(vidur::Reader::new(first)?), true),
            Self::Azure => (Box::new(azure::Reader::new(first)?), true),
        })
    }

    pub(super) fn ticks_per_s(self) -> f64 {
        match self {
            Self::Vidur => 1.0,
            Self::Azure => azure::TICKS_PER_S,
        }
    }

    /// Whether the clock shows a date, so that time starts at the first request.
    pub(super) fn starts_at_first_request(self) -> bool {
        match self {
            Self::Vidur => false,
            Self::Azure => true,
        }
    }
}
