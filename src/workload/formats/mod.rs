//! Trace formats, one file each: how a line becomes a request, and a request a line.
//!
//! A format is one [`Layout`]: what tells it, what its clock counts, what its prompt blocks hold.
//! [`super::trace`] does what all formats share: order, windows, scaling, cutting. Adding one touches its own
//! file and [`TraceFormat`].

pub mod azure;
pub mod burstgpt;
pub mod json_lines;
pub mod mooncake;
pub mod qwen_bailian;
pub mod results;
pub mod sessions;
pub mod vidur;

use std::io::{self, BufWriter, Write};
use std::path::Path;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::bench::Tool;
use super::error::{WorkloadError, excerpt};
use super::source::Line;
pub use super::time_unit::TimeUnit;
use super::{OutputSettings, Told, Workload};
use crate::files::plain;
use crate::settings::quoted;

/// The layouts of published traces.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TraceFormat {
    /// CSV `arrived_at,num_prefill_tokens,num_decode_tokens`.
    Vidur,
    /// CSV `TIMESTAMP,ContextTokens,GeneratedTokens`.
    Azure,
    /// JSON lines with `timestamp` in ms, `input_length`, `output_length`, `hash_ids` of 512 tokens.
    Mooncake,
    /// JSON lines of sessions: Mooncake's fields, `session_id` and `delay` in ms, of each prompt only what is
    /// new.
    MooncakeDelta,
    /// JSON lines of agents' sessions: Mooncake's fields, `request_id`, `wait_for`, `delay` and
    /// `tool_wait_ms`.
    AgenticMooncake,
    /// JSON lines, a session each: AIPerf's `multi_turn` with `turns` of `text` or `input_length`,
    /// `output_length`, `delay` in ms.
    #[serde(rename = "aiperf_sessions")]
    AiPerfSessions,
    /// Settings of vLLM's multi-turn benchmark, `"filetype": "generate_conversations"`.
    VllmMultiTurn,
    /// Settings of GuideLLM's synthetic data, `prompt_tokens`, `output_tokens`, `turns`.
    #[serde(rename = "guidellm_synthetic")]
    GuideLlmSynthetic,
    /// JSON lines with Mooncake's fields, `chat_id` and `turn`; `timestamp` in seconds, `hash_ids` of 16
    /// tokens.
    QwenBailian,
    /// CSV with `Timestamp`, `Request tokens`, `Response tokens`.
    #[serde(rename = "burstgpt")]
    BurstGpt,
    /// A result of `vllm bench serve --save-result --save-detailed`.
    VllmBench,
    /// GuideLLM's `benchmarks.json`.
    #[serde(rename = "guidellm")]
    GuideLlm,
    /// AIPerf's `profile_export.jsonl`.
    #[serde(rename = "aiperf")]
    AiPerf,
    /// inference-perf's `per_request_lifecycle_metrics.json`.
    InferencePerf,
    /// A result of SGLang's `bench_serving`, which has no arrivals and is refused.
    SglangBench,
}

/// What a format's clock shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// A number, in this unit unless `time_unit` says otherwise.
    Counts(TimeUnit),
    /// Something that needs no unit: dates, or numbers whose unit the layout fixes.
    Known,
}

/// How a file of a format is read.
pub enum Reading {
    /// Line by line, a request each.
    Lines {
        /// Whether the first line is a header rather than a request.
        has_header: bool,
        /// Whether a file with this first line is of this format.
        tells: fn(&Line) -> bool,
        /// A reader for a file with this first line.
        open: Open,
    },
    /// As a whole: the result file of a benchmark tool.
    Results(&'static Tool),
    /// As a whole: requests that wait for answers.
    Sessions,
}

/// What a reader is told that a file does not say.
#[derive(Debug, Clone, Copy, Default)]
pub struct ReadAs {
    /// What timestamps count, if not what the format's usually do.
    pub time_unit: Option<TimeUnit>,
    /// Whether BurstGPT's failed requests are kept.
    pub keep_failures: bool,
}

type Open = fn(&Line, ReadAs) -> Result<Box<dyn RowReader>, WorkloadError>;
type WriteAll = fn(&Workload, &mut dyn Write) -> io::Result<()>;

/// All there is to know of a format.
pub struct Layout {
    /// As settings spell it.
    pub name: &'static str,
    /// Its columns or fields, for people.
    pub summary: &'static str,
    /// A file's first line, or one like it; empty where a file is no list of lines.
    pub first_line: &'static str,
    pub clock: Clock,
    /// Whether time starts at the first request rather than at the clock's own zero.
    pub starts_at_first_request: bool,
    /// Prompt tokens that an id of `hash_ids` stands for, where neither the file nor `block_tokens` says so.
    pub block_tokens: Option<u32>,
    pub reading: Reading,
    /// `None` where a workload has not all that the format wants.
    write: Option<WriteAll>,
}

/// A request as a trace has it, before anything is scaled or cut.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Row {
    /// Clock reading, in ticks of the reader.
    pub ticks: f64,
    pub prefill_tokens: f64,
    pub decode_tokens: f64,
    /// Ids of prompt blocks; none where the file does not say which prompts begin alike.
    pub hash_ids: Vec<u64>,
    /// Tokens a block holds, where the line says so.
    pub block_tokens: Option<u32>,
    /// The most tokens it may generate, and how urgent it is, where the line says so.
    pub max_new_tokens: Option<f64>,
    pub priority: Option<i32>,
}

/// Reads the lines of one trace.
pub trait RowReader {
    /// `None` for a line that is no request to be served.
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError>;

    /// Ticks of [`Row::ticks`] in a second.
    fn ticks_per_s(&self) -> f64 {
        1.0
    }

    /// Columns or fields met so far that are not read, in order of appearance.
    fn not_read(&self) -> &[String];
}

impl TraceFormat {
    pub const ALL: [Self; 15] = [
        Self::Vidur,
        Self::Azure,
        Self::Mooncake,
        Self::MooncakeDelta,
        Self::AgenticMooncake,
        Self::AiPerfSessions,
        Self::VllmMultiTurn,
        Self::GuideLlmSynthetic,
        Self::QwenBailian,
        Self::BurstGpt,
        Self::VllmBench,
        Self::GuideLlm,
        Self::AiPerf,
        Self::InferencePerf,
        Self::SglangBench,
    ];

    pub fn layout(self) -> &'static Layout {
        match self {
            Self::Vidur => &vidur::LAYOUT,
            Self::Azure => &azure::LAYOUT,
            Self::Mooncake => &mooncake::LAYOUT,
            Self::MooncakeDelta => &sessions::DELTA,
            Self::AgenticMooncake => &sessions::AGENTIC,
            Self::AiPerfSessions => &sessions::AIPERF,
            Self::VllmMultiTurn => &sessions::VLLM_MULTI_TURN,
            Self::GuideLlmSynthetic => &sessions::GUIDELLM_SYNTHETIC,
            Self::QwenBailian => &qwen_bailian::LAYOUT,
            Self::BurstGpt => &burstgpt::LAYOUT,
            Self::VllmBench => &results::VLLM,
            Self::GuideLlm => &results::GUIDELLM,
            Self::AiPerf => &results::AIPERF,
            Self::InferencePerf => &results::INFERENCE_PERF,
            Self::SglangBench => &results::SGLANG,
        }
    }

    /// The format of a tool's result files.
    pub(super) fn of_results(tool: &Tool) -> Option<Self> {
        let is_tools =
            |format: &Self| matches!(&format.layout().reading, Reading::Results(of) if of.name == tool.name);
        Self::ALL.into_iter().find(is_tools)
    }

    /// The format of a trace by its first line.
    ///
    /// Errors: no format has such a line; it is that of a file of sessions, or of one whose unit of time
    /// cannot be told.
    pub fn detect(first: &Line, read_as: ReadAs) -> Result<Self, WorkloadError> {
        let tells =
            |format: &Self| matches!(format.layout().reading, Reading::Lines { tells, .. } if tells(first));
        if let Some(format) = Self::ALL.into_iter().find(tells) {
            return Ok(format);
        }
        if let Some(told) = json_lines::without_hash_ids(first, read_as) {
            return told;
        }
        let name = |layout: &Layout| match layout.reading {
            Reading::Lines { .. } => format!("`{}` ({})", layout.name, layout.first_line),
            Reading::Sessions => format!("`{}` (sessions)", layout.name),
            Reading::Results(tool) => format!("`{}` (results of {})", layout.name, tool.name),
        };
        let known = Self::ALL.map(|format| name(format.layout())).join(", ");
        Err(first.error(format!(
            "`{}` found, expected the first line of a known format: {known}",
            excerpt(first.text)
        )))
    }

    /// Writes a workload as a trace of this format, atomically: `file` is complete or untouched.
    ///
    /// Every format keeps token counts and prompt blocks. Vidur and Mooncake keep arrivals bit for bit, Azure
    /// to 100 ns and from the first request on. What is lost, [`lost_by`](Self::lost_by) tells.
    ///
    /// Errors: requests wait for answers; the format is only read (its further columns a workload does not
    /// have); writing fails.
    pub fn write(self, workload: &Workload, file: &Path) -> Result<(), WorkloadError> {
        let Some(write) = self.layout().write else {
            let written: Vec<&str> = Self::ALL
                .iter()
                .map(|format| format.layout())
                .filter(|l| l.write.is_some())
                .map(|l| l.name)
                .collect();
            let message = format!(
                "traces in `{}` format are only read, expected one of {} to write",
                self.layout().name,
                quoted(&written)
            );
            return Err(WorkloadError::File { file: file.into(), message });
        };
        if workload.sessions.as_ref().is_some_and(|sessions| sessions.waits()) {
            let message = "requests that wait for answers are not written: no trace of single requests says so; keep the file they came from";
            return Err(WorkloadError::File { file: file.into(), message: message.into() });
        }
        let io_error = |reason| WorkloadError::Io { file: file.into(), reason };
        let dir = file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut out =
            BufWriter::new(tempfile::NamedTempFile::new_in(dir).map_err(|error| io_error(plain(error)))?);
        write(workload, &mut out).and_then(|()| out.flush()).map_err(io_error)?;
        let finished = out.into_inner().map_err(|error| io_error(error.into_error()))?;
        finished.persist(file).map_err(|error| io_error(error.error))?;
        Ok(())
    }

    /// What a trace of this format does not say of a workload, or says in a way of ours, a sentence each.
    pub fn lost_by(self, workload: &Workload) -> Vec<String> {
        let mut lost = Vec::new();
        let last_s = workload.arrived_at_s.last().copied().unwrap_or_default();
        if let Some(duration_s) = workload.duration_s
            && duration_s > last_s
        {
            lost.push(format!(
                "the {:.3} s of silence after the last request are in no trace: read it with `\"duration_s\": {duration_s}`",
                duration_s - last_s
            ));
        }
        match workload.arrived_at_s.first() {
            Some(first_s) if self.layout().starts_at_first_request && *first_s > 0.0 => {
                lost.push(format!(
                    "time starts at the first request when it is read: all arrivals are {first_s} s earlier"
                ));
            }
            _ => {}
        }
        if self.layout().block_tokens.is_none() && workload.told != Told::default() {
            lost.push(
                "`max_new_tokens` and `priority` are written as columns of their own; Scalefront reads them"
                    .into(),
            );
        }
        if workload.outputs.settings != OutputSettings::default() || !workload.priorities.classes.is_empty() {
            lost.push("what `outputs` and `priorities` say of requests is in no trace: give them again where it is read".into());
        }
        let Some(prefix) = &workload.prefix else { return lost };
        match self.layout().block_tokens {
            Some(usual) if usual == prefix.block_tokens => {}
            Some(usual) => lost.push(format!(
                "the ids of `hash_ids` stand for blocks of {} prompt tokens, not {usual} as usual in this format; each line says so as \
                 `block_size`, which Scalefront reads; tell other tools by their own setting",
                prefix.block_tokens
            )),
            None => lost.push(
                "which prompts begin alike is written as two more columns, `block_tokens` and `hash_ids`; Scalefront reads them, other tools \
                 take no notice"
                    .into(),
            ),
        }
        lost
    }
}
