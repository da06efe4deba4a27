//! Traces: files of requests with their arrival times, in any of the [formats](super::formats).
//!
//! A file does not say all of what it means: what a timestamp counts, how many tokens an id of `hash_ids`
//! stands for. What is assumed is told ([`TraceNotes`]), what can be checked is: ids must be as many as the
//! prompt has blocks.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::bench::{self, Tool};
use super::error::WorkloadError;
use super::formats::{Clock, ReadAs, Reading, Row, TimeUnit, TraceFormat};
use super::source::{self, Line, Lines};
pub use super::trace_spec::{TraceLoop, TraceSpec};
use super::{MAX_ARRIVAL_S, MAX_REQUESTS, MAX_TOKENS, PrefixBlocks, Workload, cut, sessions};
use crate::settings::quoted;

/// What reading a trace has to tell beside the requests.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TraceNotes {
    pub file: PathBuf,
    pub format: TraceFormat,
    /// What timestamps count; `None` where they are dates.
    pub time_unit: Option<TimeUnit>,
    /// Prompt tokens an id of `hash_ids` stands for, where there are any.
    pub block_tokens: Option<u32>,
    /// What the file does not say itself and nobody set, a sentence each.
    pub assumed: Vec<String>,
    /// Columns or fields of the file that are not read.
    pub not_read: Vec<String>,
    /// What is probably not as it was meant, a sentence each.
    pub doubts: Vec<String>,
    /// Requests cut to `max_tokens`.
    pub cut: u64,
    /// Lines left out because they are no requests to be served.
    pub skipped: u64,
    /// Requests whose `hash_ids` are not as many as their prompt has blocks.
    pub mismatched: u64,
}

/// Reads a trace.
///
/// Errors: the file is missing, unreadable, empty, of no known format, has a line that breaks its format, is
/// out of order (unless `sort`), has more than [`MAX_REQUESTS`] requests or one after [`MAX_ARRIVAL_S`], none
/// in the window, or `hash_ids` that are plainly of another block size; a setting is given that means nothing
/// to it.
pub fn read(spec: &TraceSpec, base_dirs: &[PathBuf]) -> Result<(Workload, TraceNotes), WorkloadError> {
    let path = source::find(&spec.path, base_dirs)?;
    // Result files come first: some are JSON lines, and none is a trace.
    let of_results = match spec.format {
        // What is no file, such as a pipe, can only be read once: as a trace.
        None if path.is_file() => bench::recognise(&path)?.and_then(TraceFormat::of_results),
        _ => None,
    };
    if of_results.is_none()
        && let Some(format) = sessions::recognise::recognise(spec, &path)?
    {
        return sessions::trace::read(spec, format, &path);
    }
    match spec.format.or(of_results).map(|format| (format, &format.layout().reading)) {
        Some((format, Reading::Results(tool))) => read_results(spec, format, tool, &path),
        _ => read_lines(spec, &path),
    }
}

fn read_lines(spec: &TraceSpec, path: &Path) -> Result<(Workload, TraceNotes), WorkloadError> {
    let mut lines = Lines::open(path, spec.decompressed_limit_bytes)?;
    let file_error = |message: &str| WorkloadError::File { file: path.into(), message: message.into() };
    let first = lines.next()?.ok_or_else(|| file_error("an empty file found, expected a trace"))?;
    let read_as = ReadAs { time_unit: spec.time_unit, keep_failures: spec.keep_failures };
    let format = spec.format.map_or_else(|| TraceFormat::detect(&first, read_as), Ok)?;
    let Reading::Lines { has_header, open, .. } = format.layout().reading else {
        return Err(file_error("lines found, expected the result file of a benchmark"));
    };
    let mut reader = open(&first, read_as)?;
    let mut requests = Requests::new(spec, format, reader.ticks_per_s(), path)?;
    if !has_header {
        requests.take(reader.read(&first)?, &first)?;
    }
    while !requests.enough()
        && let Some(line) = lines.next()?
    {
        requests.take(reader.read(&line)?, &line)?;
    }
    requests.not_read = reader.not_read().to_vec();
    requests.finish(path)
}

/// The result file of a benchmark: requests as they were sent.
fn read_results(
    spec: &TraceSpec,
    format: TraceFormat,
    tool: &Tool,
    path: &Path,
) -> Result<(Workload, TraceNotes), WorkloadError> {
    let mut requests = Requests::new(spec, format, 1.0, path)?;
    let results = tool.read(path, spec.decompressed_limit_bytes)?;
    if results.failed + results.warm_up > 0 {
        let (failed, warm_up) = (results.failed, results.warm_up);
        requests
            .assumed
            .push(format!("{failed} requests without an answer and {warm_up} to warm up are left out"));
    }
    requests.assumed.extend(results.assumed);
    requests.doubts.extend(results.doubts);
    requests.skipped = results.failed + results.warm_up;
    for (number, request) in (1..).zip(results.requests) {
        let row = Row {
            ticks: request.sent_s,
            prefill_tokens: request.prefill_tokens.into(),
            decode_tokens: request.decode_tokens.into(),
            ..Row::default()
        };
        // Numbers the request: the file has no lines to speak of.
        requests.take(Some(row), &Line { file: path, number, text: "" })?;
    }
    requests.finish(path)
}

/// The requests read so far; arrivals still in the reader's ticks.
struct Requests<'s> {
    spec: &'s TraceSpec,
    format: TraceFormat,
    ticks_per_s: f64,
    workload: Workload,
    blocks: Blocks,
    /// Requests met, those before the window included.
    read: u64,
    /// Where the trace's time starts, and the latest request met.
    start_ticks: f64,
    last_ticks: f64,
    past_the_window: bool,
    /// See [`TraceNotes`].
    assumed: Vec<String>,
    doubts: Vec<String>,
    not_read: Vec<String>,
    /// Whether timestamps have fractions of a millisecond, and such of a microsecond.
    below_ms: bool,
    below_us: bool,
    cut: u64,
    /// Requests without a token of prompt or output, and such with parts of tokens.
    empty: u64,
    in_parts: u64,
    skipped: u64,
}

impl<'s> Requests<'s> {
    /// Errors: `time_unit` is given to a format that needs none.
    fn new(
        spec: &'s TraceSpec,
        format: TraceFormat,
        ticks_per_s: f64,
        file: &Path,
    ) -> Result<Self, WorkloadError> {
        if spec.time_unit.is_some() && format.layout().clock == Clock::Known {
            let message = format!(
                "a trace in `{}` format found, whose times need no unit; leave out `time_unit`",
                format.layout().name
            );
            return Err(WorkloadError::File { file: file.into(), message });
        }
        Ok(Self {
            spec,
            format,
            ticks_per_s,
            workload: Workload::default(),
            blocks: Blocks::default(),
            read: 0,
            start_ticks: 0.0,
            last_ticks: 0.0,
            past_the_window: false,
            assumed: Vec::new(),
            doubts: Vec::new(),
            not_read: Vec::new(),
            below_ms: false,
            below_us: false,
            cut: 0,
            empty: 0,
            in_parts: 0,
            skipped: 0,
        })
    }

    /// Whether no further line can matter.
    fn enough(&self) -> bool {
        // One more than is wanted tells whether `max_requests` cuts the window short.
        let most =
            self.spec.max_requests.map(|most| most.saturating_add(u64::from(self.spec.duration_s.is_some())));
        !self.spec.sort
            && (self.past_the_window || most.is_some_and(|most| self.workload.len() as u64 >= most))
    }

    fn take(&mut self, row: Option<Row>, line: &Line) -> Result<(), WorkloadError> {
        let Some(row) = row else {
            self.skipped += 1;
            return Ok(());
        };
        if self.workload.len() >= MAX_REQUESTS {
            return Err(line.error(format!("more than {MAX_REQUESTS} requests; set `max_requests`")));
        }
        if self.read == 0 {
            self.start_ticks = row.ticks;
        } else if !self.spec.sort && row.ticks < self.last_ticks {
            let early_s = (self.last_ticks - row.ticks) / self.ticks_per_s;
            return Err(line.error(format!(
                "arrives {early_s} s before the request above it, expected arrivals in order of time; sort the trace, or set `sort` to true"
            )));
        }
        self.read += 1;
        (self.start_ticks, self.last_ticks) =
            (self.start_ticks.min(row.ticks), self.last_ticks.max(row.ticks));
        let fraction = |ticks: f64| (ticks - ticks.round()).abs() > 1e-2;
        self.below_ms |= fraction(row.ticks * 1e3);
        self.below_us |= fraction(row.ticks * 1e6);
        if !(row.ticks * self.spec.time_scale).is_finite() {
            return Err(
                line.error(format!("arrival out of range after `time_scale` {}", self.spec.time_scale))
            );
        }
        self.blocks.check(&row, self.spec, self.format, line)?;
        // Out of order the start is not known before the end: see `finish`.
        if !self.spec.sort {
            match self.window().place(self.seconds(row.ticks)) {
                Place::Before => return Ok(()),
                Place::After => {
                    self.past_the_window = true;
                    return Ok(());
                }
                Place::Within => {}
            }
        }
        let any = |what: fn(f64) -> bool| u64::from(what(row.prefill_tokens) || what(row.decode_tokens));
        self.empty += any(|tokens| tokens < 1.0);
        self.in_parts += any(|tokens| tokens.fract() != 0.0);
        let prefill = scaled(row.prefill_tokens, self.spec.prefill_scale, "prefill_scale", line)?;
        let decode = scaled(row.decode_tokens, self.spec.decode_scale, "decode_scale", line)?;
        let (prefill_cut, decode_cut) = cut(prefill, decode, self.spec.max_tokens);
        self.cut += u64::from((prefill_cut, decode_cut) != (prefill, decode));
        let most = row
            .max_new_tokens
            .map(|most| scaled(most, self.spec.decode_scale, "decode_scale", line))
            .transpose()?;
        self.workload.push(row.ticks, prefill_cut, decode_cut);
        let most = most.map(|most| most.min(self.spec.max_tokens.map_or(u32::MAX, |all| all - prefill_cut)));
        self.workload.told.push(&self.workload.decode_tokens, most, row.priority);
        if let Some(tokens) = self.blocks.tokens {
            self.workload
                .prefix
                .get_or_insert_with(|| PrefixBlocks::new(tokens))
                .push(&row.hash_ids, prefill_cut);
        }
        Ok(())
    }

    /// Seconds of the trace's own time.
    fn seconds(&self, ticks: f64) -> f64 {
        let start = if self.format.layout().starts_at_first_request { self.start_ticks } else { 0.0 };
        (ticks - start) / self.ticks_per_s
    }

    fn window(&self) -> Window {
        Window {
            start_s: self.spec.start_s.unwrap_or_default(),
            duration_s: self.spec.duration_s.unwrap_or(f64::INFINITY),
        }
    }

    fn finish(mut self, file: &Path) -> Result<(Workload, TraceNotes), WorkloadError> {
        let file_error = |message: String| WorkloadError::File { file: file.into(), message };
        if self.read == 0 {
            return Err(file_error("no request found, expected at least one".into()));
        }
        self.doubt().map_err(file_error)?;
        let window = self.window();
        if self.spec.sort {
            self.workload.sort();
            let at_s: Vec<f64> =
                self.workload.arrived_at_s.iter().map(|&ticks| self.seconds(ticks)).collect();
            let before = at_s.partition_point(|&at_s| window.place(at_s) == Place::Before);
            let within = at_s.partition_point(|&at_s| window.place(at_s) != Place::After);
            self.workload.truncate(within);
            self.workload.skip(before);
        }
        if self.workload.is_empty() {
            let (first_s, last_s) = (self.seconds(self.start_ticks), self.seconds(self.last_ticks));
            let until = self
                .spec
                .duration_s
                .map_or("the end".into(), |duration_s| format!("{} s", window.start_s + duration_s));
            let met = if self.past_the_window { "it has one" } else { "its requests come" };
            return Err(file_error(format!(
                "no request from `start_s` {} s to {until} found: {met} at {first_s} s to {last_s} s",
                window.start_s
            )));
        }
        self.workload.prefix = self.workload.prefix.take().filter(|prefix| !prefix.ids().is_empty());
        let in_window = self.workload.len() as u64;
        if let Some(most) = self.spec.max_requests {
            self.workload.truncate(usize::try_from(most).unwrap_or(usize::MAX));
        }
        let whole_window = self.workload.len() as u64 == in_window;
        self.workload.duration_s =
            self.spec.duration_s.filter(|_| whole_window).map(|duration_s| duration_s * self.spec.time_scale);
        for index in 0..self.workload.len() {
            let at_s = self.seconds(self.workload.arrived_at_s[index]) - window.start_s;
            self.workload.arrived_at_s[index] = at_s * self.spec.time_scale;
        }
        let last_s = self.workload.arrived_at_s[self.workload.len() - 1];
        if last_s > MAX_ARRIVAL_S {
            let message = format!(
                "an arrival at {last_s} s found (after `time_scale`), expected none after {MAX_ARRIVAL_S} s"
            );
            return Err(file_error(message));
        }
        Ok(self.with_notes(file))
    }

    /// Notes what is probably not as it was meant.
    ///
    /// Errors: most `hash_ids` are of another block size than the one assumed.
    fn doubt(&mut self) -> Result<(), String> {
        self.doubts.extend(self.blocks.doubt()?);
        let unit = self.unit();
        let span_s = (self.last_ticks - self.start_ticks) / self.ticks_per_s;
        if unit == Some(TimeUnit::Milliseconds)
            && self.spec.time_unit.is_none()
            && self.read >= 20
            && span_s > 0.0
        {
            let per_s = self.read as f64 / span_s;
            let as_seconds_have = self.below_ms && !self.below_us;
            if per_s >= if as_seconds_have { LEAST_DOUBTED_PER_S } else { DOUBTED_PER_S } {
                self.doubts.push(format!(
                    "{per_s:.0} requests/s found, timestamps taken as milliseconds; if they are seconds, set `time_unit` to \"s\""
                ));
            }
        }
        let media: Vec<&str> =
            self.not_read.iter().map(String::as_str).filter(|name| is_media(name)).collect();
        if !media.is_empty() {
            self.doubts.push(format!(
                "{} not read: requests are taken to have no more work than their text tokens",
                quoted(&media)
            ));
        }
        Ok(())
    }

    fn unit(&self) -> Option<TimeUnit> {
        match self.format.layout().clock {
            Clock::Counts(usual) => Some(self.spec.time_unit.unwrap_or(usual)),
            Clock::Known => None,
        }
    }

    fn with_notes(self, file: &Path) -> (Workload, TraceNotes) {
        let layout = self.format.layout();
        let mut assumed = Vec::new();
        if self.spec.format.is_none() {
            let told_by =
                if matches!(layout.reading, Reading::Results(_)) { "its keys" } else { "the first line" };
            assumed.push(format!("the format is `{}`, by {told_by}", layout.name));
        }
        if let (Clock::Counts(usual), None) = (layout.clock, self.spec.time_unit) {
            assumed.push(format!("timestamps count {}, as usual in this format", usual.name()));
        }
        if layout.starts_at_first_request {
            assumed.push("time starts at the first request".into());
        }
        let block_tokens = self.workload.prefix.as_ref().map(|prefix| prefix.block_tokens);
        if let (Some(tokens), true) = (block_tokens, self.blocks.assumed) {
            assumed.push(format!(
                "an id of `hash_ids` stands for {tokens} prompt tokens, as usual in this format"
            ));
        }
        let mended = [
            (self.empty, "with 0 tokens of prompt or output: they count 1"),
            (self.in_parts, "with parts of tokens: whole ones count"),
        ];
        assumed.extend(
            mended
                .iter()
                .filter(|(count, _)| *count > 0)
                .map(|(count, how)| format!("{} {how}", requests_of(*count))),
        );
        let time_unit = self.unit();
        assumed.extend(self.assumed);
        let notes = TraceNotes {
            file: file.into(),
            format: self.format,
            time_unit,
            block_tokens,
            assumed,
            not_read: self.not_read,
            doubts: self.doubts,
            cut: self.cut,
            skipped: self.skipped,
            mismatched: self.blocks.mismatched,
        };
        (self.workload, notes)
    }
}

/// The mean rate from which milliseconds are doubted, as seconds would make it a tenth of a request a second;
/// and that for timestamps with up to three decimals, as seconds have them and milliseconds hardly do.
const DOUBTED_PER_S: f64 = 100.0;
const LEAST_DOUBTED_PER_S: f64 = 1.0;

/// Whether a column counts what costs a model work beside text.
fn is_media(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    ["image", "audio", "video"].iter().any(|medium| name.contains(medium))
}

/// A stretch of the trace's own time, its end not included.
#[derive(Clone, Copy)]
struct Window {
    start_s: f64,
    duration_s: f64,
}

#[derive(PartialEq, Eq)]
enum Place {
    Before,
    Within,
    After,
}

impl Window {
    fn place(self, at_s: f64) -> Place {
        match at_s - self.start_s {
            since if since < 0.0 => Place::Before,
            since if since < self.duration_s => Place::Within,
            _ => Place::After,
        }
    }
}

/// What the ids of `hash_ids` stand for, and whether they are as many as prompts have blocks.
#[derive(Default)]
struct Blocks {
    /// Prompt tokens of a block; `None` where the trace has none.
    tokens: Option<u32>,
    /// Whether neither the settings nor the file say so.
    assumed: bool,
    /// Requests with ids, those of them that have too few or too many, and those that fit each of
    /// [`USUAL_BLOCKS`].
    with_ids: u64,
    mismatched: u64,
    fits: [u64; USUAL_BLOCKS.len()],
}

/// Sizes of blocks to propose where the one assumed does not fit.
const USUAL_BLOCKS: [u32; 11] = [16, 32, 64, 128, 256, 512, 1024, 2048, 8, 4, 1];

impl Blocks {
    fn check(
        &mut self,
        row: &Row,
        spec: &TraceSpec,
        format: TraceFormat,
        line: &Line,
    ) -> Result<(), WorkloadError> {
        if let (Some(given), Some(said)) = (spec.block_tokens, row.block_tokens)
            && given != said
        {
            return Err(
                line.error(format!("blocks of {said} tokens found, `block_tokens` is {given}; leave it out"))
            );
        }
        let usual = format.layout().block_tokens;
        let tokens = spec
            .block_tokens
            .or(row.block_tokens)
            .or(usual)
            .filter(|_| row.block_tokens.is_some() || usual.is_some());
        match (self.tokens, tokens) {
            (None, tokens) => {
                self.tokens = tokens;
                self.assumed = spec.block_tokens.or(row.block_tokens).is_none();
                if let (None, Some(given)) = (tokens, spec.block_tokens) {
                    let name = format.layout().name;
                    return Err(
                        line.error(format!("no `hash_ids` found in a trace in `{name}` format; leave out `block_tokens` ({given})"))
                    );
                }
            }
            (Some(before), Some(now)) if before != now => {
                return Err(line.error(format!(
                    "blocks of {now} tokens found after such of {before}, expected one size in a trace"
                )));
            }
            _ => {}
        }
        if let Some(tokens) = self.tokens
            && !row.hash_ids.is_empty()
        {
            let fits = |tokens: u32| {
                row.hash_ids.len() as f64 == (row.prefill_tokens.trunc() / f64::from(tokens)).ceil()
            };
            self.with_ids += 1;
            self.mismatched += u64::from(!fits(tokens));
            for (count, tokens) in self.fits.iter_mut().zip(USUAL_BLOCKS) {
                *count += u64::from(fits(tokens));
            }
        }
        Ok(())
    }

    /// What is to be said of ids that do not fit, if any.
    ///
    /// Errors: most do not, and nobody vouched for the block size.
    fn doubt(&self) -> Result<Option<String>, String> {
        let (Some(tokens), 1..) = (self.tokens, self.mismatched) else { return Ok(None) };
        let told = format!(
            "{} of {} requests have another number of `hash_ids` than their prompt has blocks of {tokens} tokens",
            self.mismatched, self.with_ids
        );
        if !self.assumed || 2 * self.mismatched <= self.with_ids {
            return Ok(Some(told));
        }
        let (best, fit) = USUAL_BLOCKS
            .into_iter()
            .zip(self.fits)
            .fold((0, 0), |best, now| if now.1 > best.1 { now } else { best });
        let remedy = if 2 * fit > self.with_ids {
            format!(
                "{fit} fit blocks of {best}: set `block_tokens` to {best}, and `time_unit` to \"s\" if timestamps are seconds"
            )
        } else {
            "set `block_tokens` to what an id stands for".into()
        };
        Err(format!("{told}; {remedy}"))
    }
}

fn requests_of(count: u64) -> String {
    if count == 1 { "1 request".into() } else { format!("{count} requests") }
}

fn scaled(tokens: f64, scale: f64, setting: &str, line: &Line) -> Result<u32, WorkloadError> {
    let scaled = (tokens * scale).trunc().max(1.0);
    if scaled > f64::from(MAX_TOKENS) {
        return Err(
            line.error(format!("{scaled} tokens after `{setting}` {scale}, expected at most {MAX_TOKENS}"))
        );
    }
    Ok(scaled as u32)
}
