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
//! Field names, units and rules were read in the documentation of Dynamo and AIPerf 0.13 and of the traces'
//! authors; those of Mooncake's forms in Dynamo's source too: `lib/data-gen/src/mooncake.rs` at c1b1ab01, and
//! the loader and the driver in `lib/mocker/src/loadgen` (`from_agentic_mooncake`, `new_agentic_trace`) as of 2026.
//! A request comes its `delay` (and `tool_wait_ms`) after the last answer it waits for. In `agentic_mooncake`
//! that is all: what waits for nothing comes at its `timestamp`, whatever its session, and what waits has no
//! use for one. Elsewhere, where a file only has timestamps, a closed loop pauses from the end of the answer
//! (if `Elapsed time` says when that was), else from the request before.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::{Map, Value};

use super::super::error::WorkloadError;
use super::super::formats::{TimeUnit, TraceFormat};
use super::super::prefix_runs::Run;
use super::super::source::{Line, Lines};
use super::super::trace_spec::{TraceLoop, TraceSpec};
use super::super::{MAX_ARRIVAL_S, MAX_REQUESTS, MAX_TOKENS, PrefixBlocks, TraceNotes, Workload, csv};
use super::fields::Fields;
use super::recognise::always_waits;
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

struct Reader<'s> {
    spec: &'s TraceSpec,
    format: TraceFormat,
    file: &'s Path,
    rows: Vec<Row>,
    block_tokens: u32,
    assumed: Vec<String>,
    not_read: Vec<String>,
    skipped: u64,
    /// Sessions that have none.
    without_turns: u64,
    /// Whether `max_requests` left lines out.
    is_cut: bool,
}

/// Reads a file of sessions in this format.
///
/// Errors: a line that breaks the format; a pause below 0; a request that waits for itself, or for one that
/// is not there; a later turn that says neither when it comes nor what it waits for; a setting that means
/// nothing here.
pub(in crate::workload) fn read(
    spec: &TraceSpec,
    format: TraceFormat,
    file: &Path,
) -> Result<(Workload, TraceNotes), WorkloadError> {
    let block_tokens = spec.block_tokens.or(format.layout().block_tokens).unwrap_or(512);
    let (assumed, not_read) = (Vec::new(), Vec::new());
    let mut reader = Reader {
        spec,
        format,
        file,
        rows: Vec::new(),
        block_tokens,
        assumed,
        not_read,
        skipped: 0,
        without_turns: 0,
        is_cut: false,
    };
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
            return Err(self.file_error(format!(
                "{} found, expected none of them for a trace of sessions",
                quoted(&given)
            )));
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
            line.error(format!(
                "{}, expected a line such as {example}",
                text.rsplit_once(" at line ").map_or(&*text, |(reason, _)| reason)
            ))
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
            return Err(
                self.line_error(row.line, format!("more than {MAX_REQUESTS} requests; set `max_requests`"))
            );
        }
        self.rows.push(row);
        Ok(())
    }

    fn read_request(&mut self, fields: &mut Fields) -> Result<Row, WorkloadError> {
        let line = fields.line;
        let unit = if self.format == TraceFormat::QwenBailian { 1.0 } else { 1e-3 };
        let timestamp = fields
            .number("timestamp")?
            .map(|at| ("timestamp", at))
            .or(fields.number("created_time")?.map(|at| ("created_time", at)));
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
            if tokens < 1.0
                || tokens > f64::from(MAX_TOKENS)
                || self.spec.block_tokens.is_some_and(|given| f64::from(given) != tokens)
            {
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
        let missing = || {
            fields.line.error(format!(
                "no `{name}` found, expected a line such as {}",
                self.format.layout().first_line
            ))
        };
        tokens_if_any(fields, name, scale)?.ok_or_else(missing)
    }

    /// AIPerf's `multi_turn`: a session a line.
    fn read_session(&mut self, fields: &mut Fields) -> Result<(), WorkloadError> {
        let line = fields.line;
        let session = fields.text("session_id")?.unwrap_or_else(|| format!("line {}", line.number));
        let Some(Value::Array(turns)) = fields.take("turns").cloned() else {
            return Err(line.error(format!(
                "no list `turns` found, expected a line such as {}",
                self.format.layout().first_line
            )));
        };
        self.without_turns += u64::from(turns.is_empty());
        for turn in turns {
            let Value::Object(object) = turn else {
                return Err(line.error("a turn that is no object found, expected fields of a turn"));
            };
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
            let new: Vec<String> = turn
                .object
                .keys()
                .filter(|key| !turn.met.contains(&key.as_str()) && !self.not_read.contains(key))
                .cloned()
                .collect();
            self.not_read.extend(new);
            let session = session.clone();
            self.push(Row {
                line: line.number,
                session,
                timestamp_s,
                delay_s,
                prefill_tokens,
                decode_tokens,
                ..Row::default()
            })?;
        }
        Ok(())
    }

    /// BurstGPT: lines without a session are sessions of their own.
    fn read_csv(&mut self) -> Result<(), WorkloadError> {
        const COLUMNS: [&str; 5] =
            ["Timestamp", "Session ID", "Elapsed time", "Request tokens", "Response tokens"];
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
            let scaled =
                |tokens: f64, scale: f64| (tokens * scale).trunc().clamp(1.0, f64::from(MAX_TOKENS)) as u32;
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
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            self.is_cut = self.rows.len() > most;
            self.rows.truncate(most);
        }
        if self.without_turns > 0 {
            self.assumed.push(format!("{} sessions have no turns and are left out", self.without_turns));
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
        let whole = (prompts == Prompts::Whole && self.rows.iter().any(|row| !row.hash_ids.is_empty()))
            .then(|| self.whole_prompts(&waits));
        builder.block_tokens =
            if prompts == Prompts::New { 1 } else { whole.as_ref().map_or(0, |prefix| prefix.block_tokens) };
        let names = Names::of(&self.rows, self.block_tokens);
        for (number, row) in (0..).zip(&self.rows) {
            let before = waits[number as usize].first().copied();
            let mut new = Vec::new();
            let (prefill_tokens, after, runs) = match (&whole, prompts) {
                (_, Prompts::New) => {
                    if before.is_some_and(|before| before >= number) {
                        let message = "waits for nothing that comes before it in the file; expected that, as its prompt goes on after it";
                        return Err(self.line_error(row.line, message));
                    }
                    let said_tokens = before.map(|before| builder.blocks_of(before));
                    new = names.turn(number, row, said_tokens);
                    (u64::from(said_tokens.unwrap_or(0)) + u64::from(row.prefill_tokens), before, &new[..])
                }
                (Some(prefix), _) => {
                    let (after, runs) =
                        prefix.runs().by_behind(number, before.filter(|&before| before < number));
                    (u64::from(row.prefill_tokens), after, runs)
                }
                (None, _) => (u64::from(row.prefill_tokens), None, &new[..]),
            };
            if prefill_tokens + u64::from(row.decode_tokens) > MAX_TOKENS.into() {
                let message = format!(
                    "a context of {prefill_tokens} tokens and more found, expected at most {MAX_TOKENS}"
                );
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
            builder.push(request, after, runs);
            builder.tell(row.max_new_tokens, row.priority);
        }
        let workload = builder.finish().map_err(|cycle| {
            let row = &self.rows[cycle.request as usize];
            let name = row.id.as_deref().unwrap_or(&row.session);
            self.line_error(
                row.line,
                format!("request `{name}` waits for itself, by way of what it waits for; expected no circle"),
            )
        })?;
        let last_s = workload.arrived_at_s.last().copied().unwrap_or_default();
        if last_s > MAX_ARRIVAL_S {
            return Err(self.file_error(format!(
                "a turn not before {last_s:e} s found, expected none after {MAX_ARRIVAL_S} s"
            )));
        }
        let waiting = waits.iter().filter(|waits| !waits.is_empty()).count();
        let number = workload.sessions.as_ref().map_or(0, |sessions| sessions.len());
        self.assumed
            .push(format!("{number} sessions, {waiting} of {} requests wait for answers", self.rows.len()));
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

    /// What each request waits for, by number, and how long it pauses; of one that waits for nothing: when it
    /// comes.
    fn waits(&mut self) -> Result<(Vec<Vec<u32>>, Vec<f64>), WorkloadError> {
        let mut by_id = BTreeMap::new();
        for (number, row) in (0_u32..).zip(&self.rows) {
            if let Some(id) = &row.id
                && let Some(first) = by_id.insert(id.as_str(), number)
            {
                let message = format!(
                    "`{id}` found twice, first in line {}, expected once",
                    self.rows[first as usize].line
                );
                return Err(self.line_error(row.line, message));
            }
        }
        let (mut waits, mut pauses_s, mut gaps) = (Vec::new(), Vec::new(), false);
        let (mut parentless, mut early) = (0, 0);
        let mut latest_of: BTreeMap<&str, u32> = BTreeMap::new();
        for (number, row) in (0_u32..).zip(&self.rows) {
            let before = latest_of.insert(&row.session, number);
            let named = row.waits_for.as_ref().filter(|names| !names.is_empty());
            let agentic = self.format == TraceFormat::AgenticMooncake;
            let closed = self.is_closed();
            let parents: Vec<u32> = match (named, before) {
                (Some(names), _) if row.delay_s.is_some() || row.timestamp_s.is_none() || closed => {
                    let mut parents = Vec::new();
                    for name in names {
                        match by_id.get(name.as_str()) {
                            Some(&parent) => parents.push(parent),
                            // A recorded chat may begin before the trace does.
                            None if self.format == TraceFormat::QwenBailian => parentless += 1,
                            None => {
                                let within = if self.is_cut {
                                    "among the first `max_requests` of the file"
                                } else {
                                    "in the file"
                                };
                                let message = format!(
                                    "waits for `{name}`, which is not {within}; expected the id of a request"
                                );
                                return Err(self.line_error(row.line, message));
                            }
                        }
                    }
                    parents.sort_unstable();
                    parents.dedup();
                    parents
                }
                (None, Some(before))
                    if row.waits_for.is_none() && !agentic && (row.delay_s.is_some() || closed) =>
                {
                    vec![before]
                }
                _ => Vec::new(),
            };
            let recorded_end_s = |parent: &u32| {
                let parent = &self.rows[*parent as usize];
                parent.timestamp_s.map(|at_s| at_s + parent.elapsed_s)
            };
            let pause_s = match (parents.is_empty(), row.delay_s, row.timestamp_s) {
                (false, Some(delay_s), _) => delay_s,
                (false, None, Some(at_s)) if !agentic => {
                    gaps = true;
                    let end_s = parents.iter().filter_map(recorded_end_s).fold(0.0, f64::max);
                    early += u32::from(at_s < end_s);
                    (at_s - end_s).max(0.0)
                }
                (false, None, _) if named.is_some() => 0.0,
                // In lanes sessions start when others end.
                (true, ..) if self.spec.lanes.is_some() => 0.0,
                (true, _, Some(at_s)) => at_s,
                (_, None, None) if before.is_some() && !agentic => {
                    return Err(self.line_error(
                        row.line,
                        "neither `timestamp` nor `delay` found, expected when this turn comes",
                    ));
                }
                _ if agentic => {
                    let message = "neither `timestamp` nor `wait_for` found, expected when this request comes; `lanes` starts sessions as others end";
                    return Err(self.line_error(row.line, message));
                }
                _ => {
                    let message = "no `timestamp` found in the first turn of a session, expected when it comes; `lanes` starts sessions as others end";
                    return Err(self.line_error(row.line, message));
                }
            };
            if pause_s > MAX_ARRIVAL_S {
                let message =
                    format!("a time or pause of {pause_s:e} s found, expected at most {MAX_ARRIVAL_S} s");
                return Err(self.line_error(row.line, message));
            }
            waits.push(parents);
            pauses_s.push(pause_s);
        }
        if parentless > 0 {
            let told = format!(
                "{parentless} requests go on after one that is not in the file, and count as first turns of their own sessions"
            );
            self.assumed.push(told);
        }
        if early > 0 {
            self.assumed.push(format!(
                "{early} requests came before what they wait for had ended, and come at once after it"
            ));
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

    /// Ids of whole prompts. Blocks that lie within prompt and answer of a turn, and begin the next one's
    /// prompt, name the answer as well.
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
            let (prompt, all) =
                (row.prefill_tokens as usize, row.prefill_tokens as usize + row.decode_tokens as usize);
            let ids = next
                .map(|next| &self.rows[next])
                .filter(|next| next.prefill_tokens as usize >= all)
                .and_then(|next| {
                    let (same, until) =
                        (row.hash_ids.get(..prompt / block)?, next.hash_ids.get(..all / block)?);
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

/// What new tokens are called, in a file that has nothing else.
struct Names {
    block_tokens: u32,
    /// Numbers of blocks that first turns begin with.
    known: BTreeMap<u64, u32>,
}

impl Names {
    fn of(rows: &[Row], block_tokens: u32) -> Self {
        let mut known = BTreeMap::new();
        for id in rows.iter().flat_map(|row| &row.hash_ids) {
            let next = known.len() as u32;
            known.entry(*id).or_insert(next);
        }
        Self { block_tokens, known }
    }

    /// The runs of a turn's new tokens and its answer, `before` being the tokens said before, if it is no
    /// first one.
    fn turn(&self, number: u32, row: &Row, before: Option<u32>) -> Vec<Run> {
        let mut runs = Vec::new();
        if before.is_none() {
            // Whole blocks that other conversations may begin with, too.
            let blocks = row.hash_ids.iter().take((row.prefill_tokens / self.block_tokens) as usize);
            runs.extend(
                (1..).zip(blocks).map(|(end, id)| Run { id: self.known[id], end: end * self.block_tokens }),
            );
        }
        let end =
            u64::from(before.unwrap_or(0)) + u64::from(row.prefill_tokens) + u64::from(row.decode_tokens);
        runs.push(Run { id: self.known.len() as u32 + number, end: u32::try_from(end).unwrap_or(u32::MAX) });
        runs
    }
}
