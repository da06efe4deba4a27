//! Which trace, and how it is changed on the way in.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::formats::{TimeUnit, TraceFormat};
use super::source::DECOMPRESSED_LIMIT_BYTES;
use super::{MAX_ARRIVAL_S, MAX_TOKENS};
use crate::settings::Faults;

/// Which trace, and how it is changed on the way in.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TraceSpec {
    /// The file, plain or compressed with gzip or Zstandard; relative to the grid file or the current
    /// directory.
    pub path: PathBuf,
    /// The file's layout; told by its first line if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub format: Option<TraceFormat>,
    /// What timestamps count; what the format usually does if not given. Not for formats whose times are
    /// dates.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_unit: Option<TimeUnit>,
    /// Prompt tokens an id of `hash_ids` stands for; what the file or its format says if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_tokens: Option<u32>,
    /// Only requests from here on, in seconds of the trace's own time, which becomes time 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_s: Option<f64>,
    /// Only so much of the trace, in seconds of its own time; the run lasts as long, whenever the last
    /// request comes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Factor on times: 0.5 is twice the rate, and half the `duration_s`.
    #[serde(default = "one")]
    pub time_scale: f64,
    /// Only so many requests, the earliest. Where they are fewer than `duration_s` holds, the run ends with
    /// the last of them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_requests: Option<u64>,
    /// The most tokens a request may have, prefill and decode together. Of a longer one the prefill is cut,
    /// and once that is down to 1 token, the decode.
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
    /// Of a file with sessions: whether a turn waits for the answer before it. By the clock (`open`) if all
    /// turns have timestamps and nothing is said.
    #[serde(default, rename = "loop", skip_serializing_if = "Option::is_none")]
    pub closing: Option<TraceLoop>,
    /// So many sessions at a time, the next one starting with the last token of another, whatever the
    /// timestamps of first turns.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lanes: Option<u32>,
    /// Put requests in order of arrival; otherwise a trace out of order is an error.
    #[serde(default)]
    pub sort: bool,
    /// The most bytes a compressed file may hold, against decompression bombs.
    #[serde(default = "decompressed_limit_bytes")]
    pub decompressed_limit_bytes: u64,
}

/// When a turn comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceLoop {
    /// At its timestamp.
    Open,
    /// Some time after the answer before it.
    Closed,
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
            time_unit: None,
            block_tokens: None,
            start_s: None,
            duration_s: None,
            time_scale: 1.0,
            max_requests: None,
            max_tokens: None,
            prefill_scale: 1.0,
            decode_scale: 1.0,
            keep_failures: false,
            closing: None,
            lanes: None,
            sort: false,
            decompressed_limit_bytes: DECOMPRESSED_LIMIT_BYTES,
        }
    }

    pub fn check(&self, faults: &mut Faults) {
        faults.require(!self.path.as_os_str().is_empty(), "path", || {
            "an empty path found, expected a file".into()
        });
        faults.positive("time_scale", self.time_scale);
        faults.positive("prefill_scale", self.prefill_scale);
        faults.positive("decode_scale", self.decode_scale);
        if let Some(start_s) = self.start_s {
            faults.not_negative("start_s", start_s);
        }
        if let Some(duration_s) = self.duration_s {
            faults.positive("duration_s", duration_s);
            faults.require(duration_s * self.time_scale <= MAX_ARRIVAL_S, "duration_s", || {
                format!(
                    "{} s found after `time_scale`, expected at most {MAX_ARRIVAL_S} s",
                    duration_s * self.time_scale
                )
            });
        }
        if let Some(tokens) = self.block_tokens {
            let expected = || format!("{tokens} found, expected 1 to {MAX_TOKENS} tokens");
            faults.require((1..=MAX_TOKENS).contains(&tokens), "block_tokens", expected);
        }
        if let Some(most) = self.max_requests {
            faults.at_least("max_requests", most, 1);
        }
        if let Some(most) = self.max_tokens {
            faults.at_least("max_tokens", most.into(), 2);
        }
        if let Some(lanes) = self.lanes {
            faults.at_least("lanes", lanes.into(), 1);
            faults.require(self.closing != Some(TraceLoop::Open), "loop", || {
                "\"open\" found beside `lanes`, expected \"closed\" or nothing: lanes wait for answers".into()
            });
        }
        faults.at_least("decompressed_limit_bytes", self.decompressed_limit_bytes, 1);
    }
}
