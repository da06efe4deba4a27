//! Qwen-Bailian's anonymised traces: Mooncake's field names beside `chat_id`, `parent_chat_id`, `turn` and
//! `type`, as published at <https://github.com/alibaba-edu/qwen-bailian-usagetraces-anon>. Timestamps are
//! seconds, each id stands for 16 prompt tokens.
//!
//! Turns of a chat come at their timestamps, however long the answers before them take.

use super::json_lines::{self, Reader};
use super::{Clock, Layout, Reading, TimeUnit};

const FIRST_LINE: &str = r#"{"chat_id": 0, "parent_chat_id": -1, "timestamp": 0.5, "input_length": 30, "output_length": 90, "turn": 1, "hash_ids": [0, 1]}"#;

pub static LAYOUT: Layout = Layout {
    name: "qwen_bailian",
    summary: "JSON lines with Mooncake's fields, chat_id and turn",
    first_line: FIRST_LINE,
    clock: Clock::Counts(TimeUnit::Seconds),
    starts_at_first_request: false,
    block_tokens: Some(16),
    reading: Reading::Lines {
        has_header: false,
        tells: |first| {
            json_lines::fields(first).is_some_and(|fields| {
                let has = |name: &str| fields.iter().any(|field| field == name);
                has("chat_id") && (has("turn") || has("parent_chat_id")) && has("timestamp")
            })
        },
        open: |_, read_as| {
            Ok(Box::new(Reader::new(read_as.time_unit.unwrap_or(TimeUnit::Seconds), FIRST_LINE)))
        },
    },
    write: None,
};
