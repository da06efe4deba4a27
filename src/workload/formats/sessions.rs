//! Files of sessions: a later turn comes some time after the answer to the turn before it, so its arrival depends on the simulation.
//! None is read yet. They are refused by their names rather than for a field that they never had.

use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

/// Fields that say what a request without a `timestamp` waits for.
pub(super) const WAITS: [&str; 4] = ["delay", "delay_ms", "wait_for", "tool_wait_ms"];

/// Layouts of sessions: their fields, all of which a first line has, and their names.
const KNOWN: [(&[&str], &str); 8] = [
    (&["turns"], "multi-turn conversations in AIPerf's layout, a session a line"),
    (&["sub_requests"], "agents' sessions in LLMServingSim's layout"),
    (&["requests", "hash_id_scope"], "agents' sessions in the weka layout"),
    (&["requests", "block_size"], "agents' sessions in the weka layout"),
    (&["num_turns", "input_prompt_length"], "agents' sessions, a line of lengths and tool calls each"),
    (&["agent_context"], "a Dynamo request trace with agents' sessions"),
    (&["filetype", "prompt_input"], "settings of vLLM's multi-turn benchmark"),
    (&["conversations"], "conversations as text"),
];

/// Why a file whose first line has these fields is no trace of single requests, if it is one of sessions.
pub(super) fn refused(first: &Line, has: impl Fn(&str) -> bool) -> Option<WorkloadError> {
    if let Some((_, name)) = KNOWN.iter().find(|(fields, _)| fields.iter().all(|field| has(field))) {
        return Some(first.error(format!("{name} found; sessions, whose later turns wait for answers, are not read yet: {REMEDY}")));
    }
    let waits = WAITS.into_iter().find(|field| has(field))?;
    (!has("timestamp")).then(|| later_turn(first, waits))
}

/// The complaint about a request that waits for another one.
pub(super) fn later_turn(line: &Line, waits_by: &str) -> WorkloadError {
    line.error(format!(
        "a request with `{waits_by}` and no `timestamp` found, the later turn of a session: when it comes depends on the answer to the turn \
         before it; sessions are not read yet, {REMEDY}"
    ))
}

const REMEDY: &str = "expected one request a line with a `timestamp` of its own";
