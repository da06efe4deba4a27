//! Result files of benchmark tools, request by request: what the client sent when, and how long the server
//! took.
//!
//! One file a tool. Each says which keys tell its files, and reads them into [`Results`]: requests in the
//! order they were sent, failures and warm-up left out and counted. Token counts are the server's own where
//! the file has them: clients that tokenise a text again err, by a fifth in some. What no file of a tool
//! holds is refused with the flag that records it; what two counts disagree on is said.
//!
//! Fields, units and traps were read in files of the versions that each tool's file names, and held against a
//! server that logged what it did.

mod aggregates;
mod aiperf;
mod guidellm;
mod inference_perf;
mod keys;
mod sglang;
mod vllm;

use std::path::Path;

pub use self::aiperf::TOOL as AIPERF;
pub use self::guidellm::TOOL as GUIDELLM;
pub use self::inference_perf::TOOL as INFERENCE_PERF;
pub use self::keys::Keys;
pub use self::sglang::TOOL as SGLANG;
pub use self::vllm::TOOL as VLLM;
use super::error::WorkloadError;
use super::source;

/// More than this is no result file of a person's.
pub const LIMIT_BYTES: u64 = source::DECOMPRESSED_LIMIT_BYTES;

/// A benchmark tool, as far as its result files go.
#[derive(Debug)]
pub struct Tool {
    /// As people call it.
    pub name: &'static str,
    /// Whether a file that begins with these keys is one of its result files.
    pub(super) tells: fn(&Keys) -> bool,
    read: fn(&File) -> Result<Results, WorkloadError>,
}

/// A request that was answered, as the client saw it.
#[derive(Debug, Clone, PartialEq)]
pub struct Measured {
    /// When it was sent, in seconds from the first that was.
    pub sent_s: f64,
    /// How long it had waited in the client by then, counted in no latency; `None` where the file does not
    /// say when it was planned.
    pub waited_s: Option<f64>,
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
    /// From sent to the first token.
    pub ttft_s: Option<f64>,
    /// From sent to the last token.
    pub e2e_s: Option<f64>,
    /// Between one chunk and the next; a chunk may hold several tokens.
    pub chunk_gaps_s: Vec<f64>,
    /// Which of the file's levels of load it belongs to, from 0.
    pub level: usize,
}

impl Measured {
    /// Mean time between tokens after the first, by the count of tokens above: the server's where the file
    /// has it.
    pub fn tpot_s(&self) -> Option<f64> {
        let decoding_s = self.e2e_s? - self.ttft_s?;
        (self.decode_tokens > 1).then(|| decoding_s / f64::from(self.decode_tokens - 1))
    }
}

/// What a result file holds.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Results {
    /// In the order sent.
    pub requests: Vec<Measured>,
    /// What each level of load was, in the tool's words.
    pub levels: Vec<String>,
    /// Requests left out: without an answer, and sent to warm up.
    pub failed: u64,
    pub warm_up: u64,
    /// What is taken for granted, and what may not be as it seems, a sentence each.
    pub assumed: Vec<String>,
    pub doubts: Vec<String>,
}

/// A result file at hand.
pub struct File<'f> {
    pub path: &'f Path,
    pub text: &'f str,
}

impl File<'_> {
    /// The file as a whole is not what it should be.
    fn error(&self, message: impl Into<String>) -> WorkloadError {
        WorkloadError::File { file: self.path.into(), message: message.into() }
    }

    /// The text as JSON of the tool's layout.
    fn parse<T: serde::de::DeserializeOwned>(&self, tool: &Tool) -> Result<T, WorkloadError> {
        serde_json::from_str(self.text)
            .map_err(|error| self.error(format!("no result file of {}: {error}", tool.name)))
    }

    /// The values of a file that may hold several, one after another.
    fn parse_each<T: serde::de::DeserializeOwned>(&self, tool: &Tool) -> Result<Vec<T>, WorkloadError> {
        let values = serde_json::Deserializer::from_str(self.text).into_iter();
        values
            .collect::<Result<_, _>>()
            .map_err(|error| self.error(format!("no result file of {}: {error}", tool.name)))
    }

    /// A line, counted from 0, is not what it should be.
    fn line_error(&self, index: usize, message: String) -> WorkloadError {
        WorkloadError::Line { file: self.path.into(), line: index as u64 + 1, message }
    }
}

impl Tool {
    /// Reads a result file, plain or compressed.
    ///
    /// Errors: the file is unreadable, has not the tool's layout, no request that was answered, or lacks what
    /// a replay needs.
    pub fn read(&self, path: &Path, limit_bytes: u64) -> Result<Results, WorkloadError> {
        let text = source::read_text_up_to(path, limit_bytes)?;
        let file = File { path, text: &text };
        let mut results = (self.read)(&file)?;
        if results.requests.is_empty() {
            let Results { failed, warm_up, .. } = results;
            return Err(file.error(format!(
                "no answered request found beside {failed} failures and {warm_up} to warm up"
            )));
        }
        results.requests.sort_by(|a, b| a.sent_s.total_cmp(&b.sent_s));
        let first_s = results.requests[0].sent_s;
        results.requests.iter_mut().for_each(|request| request.sent_s -= first_s);
        results.say_what_waited();
        results.say_levels();
        Ok(results)
    }
}

/// The tool whose result file this is, by the keys it begins with; `None` if of no tool.
///
/// Errors: the file is unreadable, or one of a tool that only sums up, with where its requests are.
pub fn recognise(path: &Path) -> Result<Option<&'static Tool>, WorkloadError> {
    let keys = Keys::of(&source::read_head(path, keys::HEAD_BYTES)?);
    if let Some(tool) = TOOLS.into_iter().find(|tool| (tool.tells)(&keys)) {
        return Ok(Some(tool));
    }
    aggregates::refused(&keys)
        .map_or(Ok(None), |message| Err(WorkloadError::File { file: path.into(), message: message.into() }))
}

/// Every tool whose files are known.
pub const TOOLS: [&Tool; 5] = [&VLLM, &SGLANG, &GUIDELLM, &AIPERF, &INFERENCE_PERF];

impl Results {
    /// The levels of load; one without a name where the file tells none.
    pub fn levels_or_one(&self) -> Vec<String> {
        if self.levels.is_empty() { vec!["all requests".into()] } else { self.levels.clone() }
    }

    /// Says so where requests waited in the client: then they were sent later than planned, and no latency
    /// holds it.
    fn say_what_waited(&mut self) {
        const LONG_S: f64 = 0.02;
        let waited: Vec<f64> = self.requests.iter().filter_map(|request| request.waited_s).collect();
        let longest_s = waited.iter().copied().fold(0.0, f64::max);
        let mean_s = waited.iter().sum::<f64>() / waited.len().max(1) as f64;
        if mean_s < LONG_S {
            return;
        }
        let planned = |request: &Measured| request.sent_s - request.waited_s.unwrap_or_default();
        let span = |at: &dyn Fn(&Measured) -> f64| {
            let times = || self.requests.iter().map(at);
            times().fold(f64::NEG_INFINITY, f64::max) - times().fold(f64::INFINITY, f64::min)
        };
        let gaps = (self.requests.len() - 1) as f64;
        let rate = |span_s: f64| {
            if span_s > 0.01 { format!("{:.1} a second", gaps / span_s) } else { "all at once".into() }
        };
        let (sent, planned) = (rate(span(&|request| request.sent_s)), rate(span(&planned)));
        self.doubts.push(format!(
            "requests waited {mean_s:.2} s in the client on average, {longest_s:.2} s at most, before they were sent: {planned} were planned, \
             {sent} sent; arrivals here are when they were sent"
        ));
    }

    fn say_levels(&mut self) {
        if self.levels.len() < 2 {
            return;
        }
        let levels = self.levels.iter().enumerate().filter_map(|(level, name)| {
            let mut of_level =
                self.requests.iter().filter(|request| request.level == level).map(|request| request.sent_s);
            let first_s = of_level.next()?;
            Some(format!("{name} from {first_s:.1} s to {:.1} s", of_level.next_back().unwrap_or(first_s)))
        });
        let levels = levels.collect::<Vec<_>>().join(", ");
        self.assumed.push(format!(
            "levels of load follow each other as they were run: {levels}; `start_s` and `duration_s` take one"
        ));
    }

    /// Compares two counts of the same tokens, the one that is taken and another.
    fn compare_counts(&mut self, what: &str, taken: (&str, u64), other: (&str, u64)) {
        const ALIKE: f64 = 0.005;
        let ((of_taken, taken), (of_other, other)) = (taken, other);
        let off = other as f64 / taken as f64 - 1.0;
        if taken > 0 && off.abs() > ALIKE {
            self.doubts.push(format!(
                "{what}: {taken} by {of_taken}, {other} ({:+.1} %) by {of_other}; those of {of_taken} are taken, and what the tool printed per \
                 token rests on the other count",
                100.0 * off
            ));
        }
    }
}

/// A count of tokens from a number that may be none.
fn tokens(value: Option<f64>) -> Option<u32> {
    value.filter(|value| (0.0..=f64::from(super::MAX_TOKENS)).contains(value)).map(|value| value as u32)
}
