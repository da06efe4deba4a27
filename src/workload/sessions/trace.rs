//! Files of sessions, as published: requests that come some time after answers.
//!
//! | format | a line | time |
//! |---|---|---|
//! | `mooncake` with `session_id` | a request with its whole prompt; of a session's later ones `delay` or `delay_ms` | ms |
//! | `mooncake_delta` | the same with only what is new in the prompt: all said before comes before it, answers included | ms |
//! | `agentic_mooncake` | the same as `mooncake`, and `wait_for`: ids of requests, `tool_wait_ms` | ms |
//! | `aiperf_sessions` | a session: `turns` with `text` or `input_length`, `output_length`, `delay` | ms |
//! | `burstgpt` | CSV with `Session ID` and `Elapsed time` | s |
//! | `qwen_bailian` | a request with `chat_id` and `parent_chat_id` | s |
//!
//! Field names, units and rules were read in the documentation of Dynamo and AIPerf 0.13 and of the traces' authors. A request comes
//! its `delay` (and `tool_wait_ms`) after the last answer it waits for. Where a file only has timestamps, a closed loop pauses from the end
//! of the answer (if `Elapsed time` says when that was), else from the request before.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::error::WorkloadError;
use super::super::formats::{Reading, TimeUnit, TraceFormat};
use super::super::prefix_runs::Run;
use super::super::source::{Line, Lines};
use super::super::trace::{TraceLoop, TraceSpec};
use super::super::{MAX_ARRIVAL_S, MAX_REQUESTS, MAX_TOKENS, PrefixBlocks, TraceNotes, Workload, csv};
use super::fields::Fields;
use super::{Builder, Lanes, NewRequest, documents};
use crate::settings::quoted;

/// Characters of English text to a token, where a file has text and no lengths.
const CHARACTERS_PER_TOKEN: usize = 4;

/// A request as a file has it.
#[derive(Debug, Default)]
struct Row {
    line: u64,
    session: String,
    id: Option<String>,
    timestamp_s: Option<f64>,
    /// From the answers it waits for, tools at work included.
    delay_s: Option<f64>,
    /// How long the answer took when it was recorded.
    elapsed_s: f64,
    /// By name; `None` where it follows from its session.
    waits_for: Option<Vec<String>>,
    prefill_tokens: u32,
    decode_tokens: u32,
    max_new_tokens: Option<u32>,
    priority: Option<i32>,
    hash_ids: Vec<u64>,
}

/// What prompts of a file are.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Prompts {
    Whole,
    /// Only what is new.
    New,
}

/// The format of a file of sessions, if that is what it is to be read as.
///
/// Errors: the settings ask for a loop, and the file has no sessions.
pub(in crate::workload) fn recognise(spec: &TraceSpec, file: &Path) -> Result<Option<TraceFormat>, WorkloadError> {
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
        Some(format) if waits && spec.closing == Some(TraceLoop::Open) => {
            error(format!("`loop` \"open\" found, but turns in `{}` format wait for answers; leave it out", format.layout().name))
        }
        _ if spec.closing == Some(TraceLoop::Open) => Ok(None),
        told => Ok(told),
    }
}

/// Whether a format has nothing but sessions.
fn always_waits(format: TraceFormat) -> bool {
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
    if spec.format.is_none() && is_request && ["wait_for", "branches", "prefix_reset", "tool_wait_ms"].into_iter().any(has) {
        return Ok(Some(TraceFormat::AgenticMooncake));
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

struct Reader<'s> {
    spec: &'s TraceSpec,
    format: TraceFormat,
    file: &'s Path,
    rows: Vec<Row>,
    block_tokens: u32,
    assumed: Vec<String>,
    not_read: Vec<String>,
    skipped: u64,
}

/// Reads a file of sessions in this format.
///
/// Errors: a line that breaks the format; a pause below 0; a request that waits for itself, or for one that is not there; a later turn that
/// says neither when it comes nor what it waits for; a setting that means nothing here.
pub(in crate::workload) fn read(spec: &TraceSpec, format: TraceFormat, file: &Path) -> Result<(Workload, TraceNotes), WorkloadError> {
    let block_tokens = spec.block_tokens.or(format.layout().block_tokens).unwrap_or(512);
    let (assumed, not_read) = (Vec::new(), Vec::new());
    let mut reader = Reader { spec, format, file, rows: Vec::new(), block_tokens, assumed, not_read, skipped: 0 };
    reader.check_settings()?;
    if matches!(format, TraceFormat::VllmMultiTurn | TraceFormat::GuideLlmSynthetic) {
        return documents::read(spec, format, file);
    }
    if format == TraceFormat::BurstGpt {
        reader.read_csv()?;
    } else {
        let mut lines = Lines::open(file, spec.decompressed_limit_bytes)?;
        while let Some(line) = lines.next()? {
            reader.read_line(&line)?;
        }
    }
    reader.finish()
}

impl Reader<'_> {
    fn file_error(&self, message: impl Into<String>) -> WorkloadError {
        WorkloadError::File { file: self.file.into(), message: message.into() }
    }

    fn line_error(&self, line: u64, message: impl Into<String>) -> WorkloadError {
        WorkloadError::Line { file: self.file.into(), line, message: message.into() }
    }

    fn check_settings(&self) -> Result<(), WorkloadError> {
        let spec = self.spec;
        let given = [
            ("start_s", spec.start_s.is_some()),
            ("duration_s", spec.duration_s.is_some()),
            ("max_tokens", spec.max_tokens.is_some()),
            ("time_unit", spec.time_unit.is_some()),
        ];
        let given: Vec<&str> = given.iter().filter(|setting| setting.1).map(|setting| setting.0).collect();
        if !given.is_empty() {
            return Err(self.file_error(format!("{} found, expected none of them for a trace of sessions", quoted(&given))));
        }
        Ok(())
    }

    fn is_closed(&self) -> bool {
        self.spec.closing == Some(TraceLoop::Closed) || self.spec.lanes.is_some() || always_waits(self.format)
    }

    fn read_line(&mut self, line: &Line) -> Result<(), WorkloadError> {
        let example = self.format.layout().first_line;
        let object: Map<String, Value> = serde_json::from_str(line.text).map_err(|error| {
            let text = error.to_string();
            line.error(format!("{}, expected a line such as {example}", text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason)))
        })?;
        let mut fields = Fields { object, line, met: Vec::new() };
        if self.format == TraceFormat::AiPerfSessions {
            self.read_session(&mut fields)?;
        } else {
            let row = self.read_request(&mut fields)?;
            self.push(row)?;
        }
        let not_read = fields.object.keys().filter(|key| !fields.met.contains(&key.as_str()));
        let new: Vec<String> = not_read.filter(|key| !self.not_read.contains(key)).cloned().collect();
        self.not_read.extend(new);
        Ok(())
    }

    fn push(&mut self, row: Row) -> Result<(), WorkloadError> {
        if self.rows.len() >= MAX_REQUESTS {
            return Err(self.line_error(row.line, format!("more than {MAX_REQUESTS} requests; set `max_requests`")));
        }
        self.rows.push(row);
        Ok(())
    }

    fn read_request(&mut self, fields: &mut Fields) -> Result<Row, WorkloadError> {
        let line = fields.line;
        let unit = if self.format == TraceFormat::QwenBailian { 1.0 } else { 1e-3 };
        let timestamp =
            fields.number("timestamp")?.map(|at| ("timestamp", at)).or(fields.number("created_time")?.map(|at| ("created_time", at)));
        if let Some((name, at)) = timestamp.filter(|&(_, at)| at < 0.0) {
            return Err(line.value_error(name, &at.to_string(), "a number of at least 0"));
        }
        let (delay, delay_ms) = (fields.pause("delay")?, fields.pause("delay_ms")?);
        if delay.is_some() && delay_ms.is_some() {
            return Err(line.error("`delay` and `delay_ms` found, expected one of them"));
        }
        let tool_ms = fields.pause("tool_wait_ms")?;
        let delay = match (delay.or(delay_ms), tool_ms) {
            (None, None) => None,
            (delay, tool) => Some(delay.unwrap_or(0.0) + tool.unwrap_or(0.0)),
        };
        let chat = self.format == TraceFormat::QwenBailian;
        let id = fields.text(if chat { "chat_id" } else { "request_id" })?;
        let waits_for = if chat {
            let parent = fields.text("parent_chat_id")?;
            Some(parent.into_iter().filter(|parent| parent != "-1").collect())
        } else {
            fields.names("wait_for")?
        };
        let session = fields.text("session_id")?.or(id.clone().filter(|_| !chat));
        if let Some(tokens) = fields.number("block_size")? {
            if tokens < 1.0 || tokens > f64::from(MAX_TOKENS) || self.spec.block_tokens.is_some_and(|given| f64::from(given) != tokens) {
                return Err(line.value_error(
                    "block_size",
                    &tokens.to_string(),
                    "tokens a block of the prompt holds, as `block_tokens` says",
                ));
            }
            self.block_tokens = tokens as u32;
        }
        Ok(Row {
            line: line.number,
            // A request that names no session is one of its own.
            session: session.unwrap_or_else(|| format!("line {}", line.number)),
            id,
            timestamp_s: timestamp.map(|(_, at)| at * unit),
            delay_s: delay.map(|delay| delay * unit),
            elapsed_s: 0.0,
            waits_for,
            prefill_tokens: self.tokens(fields, "input_length", self.spec.prefill_scale)?,
            decode_tokens: self.tokens(fields, "output_length", self.spec.decode_scale)?,
            max_new_tokens: tokens_if_any(fields, "max_new_tokens", self.spec.decode_scale)?,
            priority: fields.priority()?,
            hash_ids: fields.ids("hash_ids")?,
        })
    }

    fn tokens(&self, fields: &mut Fields, name: &'static str, scale: f64) -> Result<u32, WorkloadError> {
        let missing = || fields.line.error(format!("no `{name}` found, expected a line such as {}", self.format.layout().first_line));
        tokens_if_any(fields, name, scale)?.ok_or_else(missing)
    }

    /// AIPerf's `multi_turn`: a session a line.
    fn read_session(&mut self, fields: &mut Fields) -> Result<(), WorkloadError> {
        let line = fields.line;
        let session = fields.text("session_id")?.unwrap_or_else(|| format!("line {}", line.number));
        let Some(Value::Array(turns)) = fields.take("turns").cloned() else {
            return Err(line.error(format!("no list `turns` found, expected a line such as {}", self.format.layout().first_line)));
        };
        for turn in turns {
            let Value::Object(object) = turn else { return Err(line.error("a turn that is no object found, expected fields of a turn")) };
            let mut turn = Fields { object, line, met: Vec::new() };
            let timestamp_s = turn.pause("timestamp")?.map(|at| at * 1e-3);
            let delay_s = turn.pause("delay")?.map(|delay| delay * 1e-3);
            let prefill_tokens = match (turn.text("text")?, turn.number("input_length")?) {
                (Some(text), None) => {
                    let told = format!("a token is {CHARACTERS_PER_TOKEN} characters of `text`");
                    if !self.assumed.contains(&told) {
                        self.assumed.push(told);
                    }
                    let tokens = text.chars().count().div_ceil(CHARACTERS_PER_TOKEN).max(1) as f64;
                    (tokens * self.spec.prefill_scale).trunc().clamp(1.0, f64::from(MAX_TOKENS)) as u32
                }
                _ => self.tokens(&mut turn, "input_length", self.spec.prefill_scale)?,
            };
            let decode_tokens = self.tokens(&mut turn, "output_length", self.spec.decode_scale)?;
            let new: Vec<String> =
                turn.object.keys().filter(|key| !turn.met.contains(&key.as_str()) && !self.not_read.contains(key)).cloned().collect();
            self.not_read.extend(new);
            let session = session.clone();
            self.push(Row { line: line.number, session, timestamp_s, delay_s, prefill_tokens, decode_tokens, ..Row::default() })?;
        }
        Ok(())
    }

    /// BurstGPT: lines without a session are sessions of their own.
    fn read_csv(&mut self) -> Result<(), WorkloadError> {
        const COLUMNS: [&str; 5] = ["Timestamp", "Session ID", "Elapsed time", "Request tokens", "Response tokens"];
        let unit = TimeUnit::Seconds;
        let mut lines = Lines::open(self.file, self.spec.decompressed_limit_bytes)?;
        let columns = match lines.next()? {
            Some(header) => csv::Columns::locate(&header, COLUMNS)?,
            None => return Err(self.file_error("an empty file found, expected a trace")),
        };
        self.not_read = columns.others().to_vec();
        let mut first_s = None;
        while let Some(line) = lines.next()? {
            let [timestamp, session, elapsed, request, response] = columns.read(&line)?;
            let (at_s, prefill, decode) = (timestamp.time(unit)?, request.tokens()?, response.tokens()?);
            if decode == 0.0 && !self.spec.keep_failures {
                self.skipped += 1;
                continue;
            }
            let alone = session.text().is_empty() || session.text() == "-1";
            let session = if alone { format!("line {}", line.number) } else { session.text().to_owned() };
            let elapsed_s = if elapsed.text().is_empty() { 0.0 } else { elapsed.time(unit)? };
            let scaled = |tokens: f64, scale: f64| (tokens * scale).trunc().clamp(1.0, f64::from(MAX_TOKENS)) as u32;
            let row = Row {
                line: line.number,
                session,
                timestamp_s: Some(at_s - *first_s.get_or_insert(at_s)),
                elapsed_s,
                prefill_tokens: scaled(prefill, self.spec.prefill_scale),
                decode_tokens: scaled(decode, self.spec.decode_scale),
                ..Row::default()
            };
            self.push(row)?;
        }
        Ok(())
    }

    fn finish(mut self) -> Result<(Workload, TraceNotes), WorkloadError> {
        if let Some(most) = self.spec.max_requests {
            self.rows.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        if self.rows.is_empty() {
            return Err(self.file_error("no request found, expected at least one"));
        }
        let (waits, pauses_s) = self.waits()?;
        let sessions = components(&waits, &self.rows);
        let prompts = match self.format {
            TraceFormat::MooncakeDelta | TraceFormat::AiPerfSessions => Prompts::New,
            _ => Prompts::Whole,
        };
        let lanes = self.spec.lanes.map(|number| Lanes { number, ramp_s: 0.0 });
        let mut builder = Builder { lanes, ..Builder::default() };
        let whole = (prompts == Prompts::Whole && self.rows.iter().any(|row| !row.hash_ids.is_empty())).then(|| self.whole_prompts(&waits));
        builder.block_tokens = if prompts == Prompts::New { 1 } else { whole.as_ref().map_or(0, |prefix| prefix.block_tokens) };
        let mut said = Said::of(&self.rows, self.block_tokens);
        for (number, row) in (0..).zip(&self.rows) {
            let (prefill_tokens, runs) = match (&whole, prompts) {
                (_, Prompts::New) => said.turn(number, row, waits[number as usize].first().copied()),
                (Some(prefix), _) => (u64::from(row.prefill_tokens), prefix.runs().of(number).runs.to_vec()),
                (None, _) => (u64::from(row.prefill_tokens), Vec::new()),
            };
            if prefill_tokens + u64::from(row.decode_tokens) > MAX_TOKENS.into() {
                let message = format!("a context of {prefill_tokens} tokens and more found, expected at most {MAX_TOKENS}");
                return Err(self.line_error(row.line, message));
            }
            let request = NewRequest {
                session: sessions[number as usize],
                turn: 0,
                waits_for: &waits[number as usize],
                pause_s: pauses_s[number as usize] * self.spec.time_scale,
                prefill_tokens: prefill_tokens as u32,
                decode_tokens: row.decode_tokens,
            };
            builder.push(request, runs);
            builder.tell(row.max_new_tokens, row.priority);
        }
        let workload = builder.finish().map_err(|cycle| {
            let row = &self.rows[cycle.request as usize];
            let name = row.id.as_deref().unwrap_or(&row.session);
            self.line_error(row.line, format!("request `{name}` waits for itself, by way of what it waits for; expected no circle"))
        })?;
        let last_s = workload.arrived_at_s.last().copied().unwrap_or_default();
        if last_s > MAX_ARRIVAL_S {
            return Err(self.file_error(format!("a turn not before {last_s:e} s found, expected none after {MAX_ARRIVAL_S} s")));
        }
        let waiting = waits.iter().filter(|waits| !waits.is_empty()).count();
        let number = workload.sessions.as_ref().map_or(0, |sessions| sessions.len());
        self.assumed.push(format!("{number} sessions, {waiting} of {} requests wait for answers", self.rows.len()));
        let notes = TraceNotes {
            file: self.file.into(),
            format: self.format,
            time_unit: None,
            block_tokens: whole.map(|prefix| prefix.block_tokens),
            assumed: self.assumed,
            not_read: self.not_read,
            doubts: Vec::new(),
            cut: 0,
            skipped: self.skipped,
            mismatched: 0,
        };
        Ok((workload, notes))
    }

    /// What each request waits for, by number, and how long it pauses; of one that waits for nothing: when it comes.
    fn waits(&mut self) -> Result<(Vec<Vec<u32>>, Vec<f64>), WorkloadError> {
        let mut by_id = BTreeMap::new();
        for (number, row) in (0_u32..).zip(&self.rows) {
            if let Some(id) = &row.id
                && let Some(first) = by_id.insert(id.as_str(), number)
            {
                let message = format!("`{id}` found twice, first in line {}, expected once", self.rows[first as usize].line);
                return Err(self.line_error(row.line, message));
            }
        }
        let (mut waits, mut pauses_s, mut gaps) = (Vec::new(), Vec::new(), false);
        let mut latest_of: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, row) in (0_u32..).zip(&self.rows) {
            let before = latest_of.insert(&row.session, number);
            let named = row.waits_for.as_ref().filter(|names| !names.is_empty());
            let closed = self.is_closed();
            let parents: Vec<u32> = match (named, before) {
                (Some(names), _) if row.delay_s.is_some() || row.timestamp_s.is_none() || closed => {
                    let mut parents = Vec::new();
                    for name in names {
                        match by_id.get(name.as_str()) {
                            Some(&parent) => parents.push(parent),
                            // A recorded chat may begin before the trace does.
                            None if self.format == TraceFormat::QwenBailian => {}
                            None => {
                                let message = format!("waits for `{name}`, which is not in the file; expected the id of a request");
                                return Err(self.line_error(row.line, message));
                            }
                        }
                    }
                    parents.sort_unstable();
                    parents.dedup();
                    parents
                }
                (None, Some(before)) if row.waits_for.is_none() && (row.delay_s.is_some() || closed) => vec![before],
                _ => Vec::new(),
            };
            let recorded_end_s = |parent: &u32| {
                let parent = &self.rows[*parent as usize];
                parent.timestamp_s.map(|at_s| at_s + parent.elapsed_s)
            };
            let pause_s = match (parents.is_empty(), row.delay_s, row.timestamp_s) {
                (false, Some(delay_s), _) => delay_s,
                (false, None, Some(at_s)) => {
                    gaps = true;
                    let end_s = parents.iter().filter_map(recorded_end_s).fold(0.0, f64::max);
                    (at_s - end_s).max(0.0)
                }
                (false, None, None) if named.is_some() => 0.0,
                // In lanes sessions start when others end.
                (true, ..) if self.spec.lanes.is_some() => 0.0,
                (true, _, Some(at_s)) => at_s,
                (_, None, None) if before.is_some() => {
                    return Err(self.line_error(row.line, "neither `timestamp` nor `delay` found, expected when this turn comes"));
                }
                _ => {
                    let message = "no `timestamp` found in the first turn of a session, expected when it comes; `lanes` starts sessions as others end";
                    return Err(self.line_error(row.line, message));
                }
            };
            if pause_s > MAX_ARRIVAL_S {
                let message = format!("a time or pause of {pause_s:e} s found, expected at most {MAX_ARRIVAL_S} s");
                return Err(self.line_error(row.line, message));
            }
            waits.push(parents);
            pauses_s.push(pause_s);
        }
        if gaps {
            let since = if self.format == TraceFormat::BurstGpt {
                "recorded ends of answers"
            } else {
                "requests before, answers' durations not being recorded"
            };
            self.assumed.push(format!("pauses are the gaps between timestamps and {since}"));
        }
        Ok((waits, pauses_s))
    }

    /// Ids of whole prompts. Blocks that lie within prompt and answer of a turn, and begin the next one's prompt, name the answer as well.
    fn whole_prompts(&self, waits: &[Vec<u32>]) -> PrefixBlocks {
        let block = self.block_tokens as usize;
        let mut next = vec![None; self.rows.len()];
        for (number, waits) in waits.iter().enumerate() {
            if let [before] = waits[..] {
                next[before as usize].get_or_insert(number);
            }
        }
        let mut prefix = PrefixBlocks::new(self.block_tokens);
        for (row, next) in self.rows.iter().zip(next) {
            let (prompt, all) = (row.prefill_tokens as usize, row.prefill_tokens as usize + row.decode_tokens as usize);
            let ids = next.map(|next| &self.rows[next]).filter(|next| next.prefill_tokens as usize >= all).and_then(|next| {
                let (same, until) = (row.hash_ids.get(..prompt / block)?, next.hash_ids.get(..all / block)?);
                (until.starts_with(same) && until.len() > row.hash_ids.len()).then_some(until)
            });
            match ids {
                Some(ids) => prefix.push(ids, all as u32),
                None => prefix.push(&row.hash_ids, row.prefill_tokens),
            }
        }
        prefix
    }
}

/// Tokens of a field, if a line has it.
fn tokens_if_any(fields: &mut Fields, name: &'static str, scale: f64) -> Result<Option<u32>, WorkloadError> {
    let Some(tokens) = fields.number(name)? else { return Ok(None) };
    let scaled = (tokens * scale).trunc().max(1.0);
    if !(0.0..=f64::from(MAX_TOKENS)).contains(&tokens) || scaled > f64::from(MAX_TOKENS) {
        let expected = format!("a number of tokens from 0 to {MAX_TOKENS}, scaled or not");
        return Err(fields.line.value_error(name, &tokens.to_string(), expected));
    }
    Ok(Some(scaled as u32))
}

/// Numbers what hangs together: by waiting for each other, or by naming the same session.
fn components(waits: &[Vec<u32>], rows: &[Row]) -> Vec<u32> {
    let mut root: Vec<u32> = (0..rows.len() as u32).collect();
    fn find(root: &mut [u32], mut of: u32) -> u32 {
        while root[of as usize] != of {
            root[of as usize] = root[root[of as usize] as usize];
            of = root[of as usize];
        }
        of
    }
    let mut first_of = BTreeMap::new();
    for (number, row) in (0_u32..).zip(rows) {
        let first = *first_of.entry(row.session.as_str()).or_insert(number);
        for &other in waits[number as usize].iter().chain([&first]) {
            let (a, b) = (find(&mut root, number), find(&mut root, other));
            root[a.max(b) as usize] = a.min(b);
        }
    }
    let mut numbers = BTreeMap::new();
    (0..rows.len() as u32)
        .map(|number| {
            let next = numbers.len() as u32;
            *numbers.entry(find(&mut root, number)).or_insert(next)
        })
        .collect()
}

/// What was said in each conversation of a file that has only what is new.
struct Said {
    /// Of each request: the runs of its prompt and answer.
    runs: Vec<Vec<Run>>,
    block_tokens: u32,
    /// Numbers of blocks that first turns begin with.
    known: BTreeMap<u64, u32>,
}

impl Said {
    fn of(rows: &[Row], block_tokens: u32) -> Self {
        let mut known = BTreeMap::new();
        for id in rows.iter().flat_map(|row| &row.hash_ids) {
            let next = known.len() as u32;
            known.entry(*id).or_insert(next);
        }
        Self { runs: vec![Vec::new(); rows.len()], block_tokens, known }
    }

    /// The prompt of a turn, and the runs of it and its answer.
    fn turn(&mut self, number: u32, row: &Row, after: Option<u32>) -> (u64, Vec<Run>) {
        let mut runs = after.map_or_else(Vec::new, |after| self.runs[after as usize].clone());
        if after.is_none() {
            // Whole blocks that other conversations may begin with, too.
            let blocks = row.hash_ids.iter().take((row.prefill_tokens / self.block_tokens) as usize);
            runs.extend((1..).zip(blocks).map(|(end, id)| Run { id: self.known[id], end: end * self.block_tokens }));
        }
        let before = if after.is_none() { 0 } else { runs.last().map_or(0, |run| u64::from(run.end)) };
        let prompt = before + u64::from(row.prefill_tokens);
        let end = u32::try_from(prompt + u64::from(row.decode_tokens)).unwrap_or(u32::MAX);
        runs.push(Run { id: self.known.len() as u32 + number, end });
        self.runs[number as usize].clone_from(&runs);
        (prompt, runs)
    }
}
