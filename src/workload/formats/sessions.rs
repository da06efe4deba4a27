//! Files of sessions: a later turn comes some time after the answer to the turn before it, so its arrival
//! depends on the simulation. They are read [as a whole](crate::workload::sessions); layouts that are not
//! read are refused by their names rather than for a field that they never had.

use super::{Clock, Layout, Reading};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

/// Fields that say what a request without a `timestamp` waits for.
pub(super) const WAITS: [&str; 4] = ["delay", "delay_ms", "wait_for", "tool_wait_ms"];

const fn layout(
    name: &'static str,
    summary: &'static str,
    first_line: &'static str,
    block_tokens: Option<u32>,
) -> Layout {
    Layout {
        name,
        summary,
        first_line,
        clock: Clock::Known,
        starts_at_first_request: false,
        block_tokens,
        reading: Reading::Sessions,
        write: None,
    }
}

pub static DELTA: Layout = layout(
    "mooncake_delta",
    "JSON lines with session_id, timestamp or delay in ms, input_length and hash_ids of what is new, output_length",
    r#"{"session_id": "a", "timestamp": 0, "input_length": 1024, "output_length": 128, "hash_ids": [0, 1]}"#,
    Some(512),
);

pub static AGENTIC: Layout = layout(
    "agentic_mooncake",
    "JSON lines with request_id, timestamp or wait_for, delay and tool_wait_ms, input_length, output_length, hash_ids",
    r#"{"request_id": "b", "wait_for": ["a"], "delay": 100, "tool_wait_ms": 500, "input_length": 2048, "output_length": 64}"#,
    Some(512),
);

pub static AIPERF: Layout = layout(
    "aiperf_sessions",
    "JSON lines with session_id and turns of text or input_length, output_length, delay in ms",
    r#"{"session_id": "a", "turns": [{"text": "Hello", "output_length": 50}, {"text": "And then?", "delay": 2000, "output_length": 80}]}"#,
    None,
);

pub static VLLM_MULTI_TURN: Layout = layout(
    "vllm_multi_turn",
    "a JSON document with filetype, num_conversations, prompt_input, prompt_output",
    r#"{"filetype": "generate_conversations", "num_conversations": 24, "prompt_input": {..}, "prompt_output": {..}}"#,
    None,
);

pub static GUIDELLM_SYNTHETIC: Layout = layout(
    "guidellm_synthetic",
    "a JSON document with prompt_tokens, output_tokens, turns, prefix_tokens, delay",
    r#"{"prompt_tokens": 512, "output_tokens": 128, "turns": 5, "delay": 2}"#,
    None,
);

/// Layouts of sessions that are not read: their fields, all of which a first line has, and their names.
const KNOWN: [(&[&str], &str); 6] = [
    (&["sub_requests"], "agents' sessions in LLMServingSim's layout"),
    (&["requests", "hash_id_scope"], "agents' sessions in the weka layout"),
    (&["requests", "block_size"], "agents' sessions in the weka layout"),
    (&["num_turns", "input_prompt_length"], "agents' sessions, a line of lengths and tool calls each"),
    (&["agent_context"], "a Dynamo request trace with agents' sessions"),
    (&["conversations"], "conversations as text"),
];

/// Why a file whose first line has these fields is no trace of single requests, if it is one of sessions.
pub(super) fn refused(first: &Line, has: impl Fn(&str) -> bool) -> Option<WorkloadError> {
    if let Some((_, name)) = KNOWN.iter().find(|(fields, _)| fields.iter().all(|field| has(field))) {
        return Some(first.error(format!("{name} found; this layout of sessions is not read: {REMEDY}")));
    }
    let waits = WAITS.into_iter().find(|field| has(field))?;
    (!has("timestamp")).then(|| later_turn(first, waits))
}

/// The complaint about a request that waits for another one.
pub(super) fn later_turn(line: &Line, waits_by: &str) -> WorkloadError {
    line.error(format!(
        "a request with `{waits_by}` and no `timestamp` found, the later turn of a session: when it comes depends on the answer to the turn \
         before it; expected also the `session_id` of each request, and no `loop` \"open\""
    ))
}

const REMEDY: &str = "expected one request a line with a `timestamp` of its own, or one of `mooncake`, `mooncake_delta`, `agentic_mooncake` and \
                      `aiperf_sessions`";
