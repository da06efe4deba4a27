//! Which files are files of sessions.

use std::path::Path;

use serde_json::{Map, Value};

use super::super::csv;
use super::super::error::WorkloadError;
use super::super::formats::{Reading, TraceFormat};
use super::super::source::Lines;
use super::super::trace_spec::{TraceLoop, TraceSpec};
use super::documents;

/// The format of a file of sessions, if that is what it is to be read as.
///
/// Errors: the settings ask for a loop, and the file has no sessions.
pub(in crate::workload) fn recognise(
    spec: &TraceSpec,
    file: &Path,
) -> Result<Option<TraceFormat>, WorkloadError> {
    let asked = spec.closing == Some(TraceLoop::Closed) || spec.lanes.is_some();
    let told = match spec.format {
        Some(format) if always_waits(format) => Some(format),
        Some(format @ (TraceFormat::QwenBailian | TraceFormat::BurstGpt)) if asked => Some(format),
        None | Some(TraceFormat::Mooncake) if file.is_file() => by_first_line(spec, file, asked)?,
        _ => None,
    };
    let error = |message: String| Err(WorkloadError::File { file: file.into(), message });
    let waits = told.is_some_and(always_waits);
    match told {
        None if asked => error(format!(
            "`{}` found, but no sessions; expected a file with such, as in `mooncake` with `session_id`, `mooncake_delta`, \
             `agentic_mooncake`, `aiperf_sessions`, `burstgpt` or `qwen_bailian`",
            if spec.lanes.is_some() { "lanes" } else { "loop" }
        )),
        Some(format) if waits && spec.closing == Some(TraceLoop::Open) => error(format!(
            "`loop` \"open\" found, but turns in `{}` format wait for answers; leave it out",
            format.layout().name
        )),
        _ if spec.closing == Some(TraceLoop::Open) => Ok(None),
        told => Ok(told),
    }
}

/// Whether a format has nothing but sessions.
pub(super) fn always_waits(format: TraceFormat) -> bool {
    matches!(format.layout().reading, Reading::Sessions)
}

fn by_first_line(spec: &TraceSpec, file: &Path, asked: bool) -> Result<Option<TraceFormat>, WorkloadError> {
    if spec.format.is_none()
        && let Some(format) = documents::recognise(file)?
    {
        return Ok(Some(format));
    }
    let mut lines = Lines::open(file, spec.decompressed_limit_bytes)?;
    let Some(first) = lines.next()? else { return Ok(None) };
    if csv::has_column(&first, "Session ID") && spec.format.is_none() {
        return Ok(asked.then_some(TraceFormat::BurstGpt));
    }
    let Ok(fields) = serde_json::from_str::<Map<String, Value>>(first.text) else { return Ok(None) };
    let has = |name: &str| fields.contains_key(name);
    let is_request = has("input_length") && has("output_length");
    if spec.format.is_none() && has("turns") && fields["turns"].is_array() {
        return Ok(Some(TraceFormat::AiPerfSessions));
    }
    if spec.format.is_none() && is_request && has("chat_id") {
        return Ok(asked.then_some(TraceFormat::QwenBailian));
    }
    if spec.format.is_none()
        && is_request
        && ["wait_for", "branches", "prefix_reset", "tool_wait_ms"].into_iter().any(has)
    {
        return Ok(Some(TraceFormat::AgenticMooncake));
    }
    // Writers leave out what is empty: only a later line may wait for others.
    if spec.format.is_none() && is_request && has("request_id") {
        let mut lines = Lines::open(file, spec.decompressed_limit_bytes)?;
        while let Some(line) = lines.next()? {
            if line.text.contains("\"wait_for\"") {
                return Ok(Some(TraceFormat::AgenticMooncake));
            }
        }
    }
    if !is_request || !has("session_id") {
        return Ok(None);
    }
    // Turns that all have their times are requests like others, unless a loop is asked for.
    let mut waits = asked || !has("timestamp");
    while !waits && let Some(line) = lines.next()? {
        waits = !line.text.contains("\"timestamp\"") && !line.text.contains("\"created_time\"");
    }
    Ok(waits.then_some(TraceFormat::Mooncake))
}
