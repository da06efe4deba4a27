//! Mooncake's traces (FAST '25): JSON lines `{"timestamp": ms, "input_length": .., "output_length": ..,
//! "hash_ids": [..]}`, as published at <https://github.com/kvcache-ai/Mooncake>. Each id stands for a block
//! of 512 prompt tokens.
//!
//! Blocks of another size are written with a field of their own, `block_size`, on each line. A timestamp's
//! decimals are shifted, not divided: what [`write()`] writes is read back bit for bit.

use std::io::{self, Write};

use super::json_lines::{self, Reader};
use super::{Clock, Layout, Reading, TimeUnit};
use crate::workload::Workload;

pub const BLOCK_TOKENS: u32 = 512;

const FIRST_LINE: &str =
    r#"{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}"#;

pub static LAYOUT: Layout = Layout {
    name: "mooncake",
    summary: "JSON lines with timestamp, input_length, output_length, hash_ids",
    first_line: FIRST_LINE,
    clock: Clock::Counts(TimeUnit::Milliseconds),
    starts_at_first_request: false,
    block_tokens: Some(BLOCK_TOKENS),
    reading: Reading::Lines {
        has_header: false,
        tells: |first| {
            json_lines::fields(first).is_some_and(|fields| {
                let has = |name: &str| fields.iter().any(|field| field == name);
                has("hash_ids") && has("timestamp") && !has("chat_id")
            })
        },
        open: |_, read_as| {
            Ok(Box::new(Reader::new(read_as.time_unit.unwrap_or(TimeUnit::Milliseconds), FIRST_LINE)))
        },
    },
    write: Some(write),
};

/// The decimal text of milliseconds from seconds, exactly.
fn milliseconds(seconds: f64) -> String {
    let text = seconds.to_string();
    let (whole, decimals) = text.split_once('.').unwrap_or((&text, ""));
    let (shifted, rest) = if decimals.len() > 3 { decimals.split_at(3) } else { (decimals, "") };
    let digits = format!("{whole}{shifted:0<3}");
    let digits = digits.trim_start_matches('0');
    let whole = if digits.is_empty() { "0" } else { digits };
    if rest.is_empty() { whole.to_owned() } else { format!("{whole}.{rest}") }
}

fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    // Said where it is not as usual, and where it would be doubted.
    let block_size = match &workload.prefix {
        Some(prefix) if prefix.block_tokens != BLOCK_TOKENS || !prefix.is_whole(&workload.prefill_tokens) => {
            format!(r#", "block_size": {}"#, prefix.block_tokens)
        }
        _ => String::new(),
    };
    for request in 0..workload.len() {
        let timestamp = milliseconds(workload.arrived_at_s[request]);
        let (input, output) = (workload.prefill_tokens[request], workload.decode_tokens[request]);
        let ids = workload.prefix.as_ref().map_or(&[][..], |prefix| prefix.of(request));
        let ids = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        let told = told(workload, request);
        let lengths = format!(r#""input_length": {input}, "output_length": {output}"#);
        writeln!(out, r#"{{"timestamp": {timestamp}, {lengths}, "hash_ids": [{ids}]{block_size}{told}}}"#)?;
    }
    Ok(())
}

/// The fields of what is told of a request.
fn told(workload: &Workload, request: usize) -> String {
    let mut told = String::new();
    if let Some(most) = &workload.told.max_new_tokens {
        told += &format!(r#", "max_new_tokens": {}"#, most[request]);
    }
    if let Some(priorities) = &workload.told.priorities {
        told += &format!(r#", "priority": {}"#, priorities[request]);
    }
    told
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn seconds(milliseconds: &str) -> Option<f64> {
        TimeUnit::Milliseconds.seconds(milliseconds)
    }

    #[test]
    fn decimals_shift_both_ways() {
        for (s, ms) in [
            (0.0, "0"),
            (1.0, "1000"),
            (0.027, "27"),
            (3536.999, "3536999"),
            (0.0000125, "0.0125"),
            (12.3456, "12345.6"),
        ] {
            assert_eq!(milliseconds(s), ms);
            assert_eq!(seconds(ms), Some(s));
        }
        assert_eq!(seconds("1.5e3"), Some(1.5));
        assert_eq!(seconds("\"5\""), None);
        assert_eq!(TimeUnit::Seconds.seconds("1.5e3"), Some(1500.0));
    }

    proptest! {
        #[test]
        fn any_time_survives(at in 0.0f64..1e12) {
            prop_assert_eq!(seconds(&milliseconds(at)), Some(at));
        }
    }
}
