//! Mooncake's traces (FAST '25): JSON lines `{"timestamp": ms, "input_length": .., "output_length": .., "hash_ids": [..]}`,
//! as published at <https://github.com/kvcache-ai/Mooncake>. Each id stands for a block of 512 prompt tokens.
//!
//! Further fields are ignored. A timestamp's decimals are shifted, not divided: what [`write()`] writes is read back bit for bit.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Row, RowReader};
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;
use crate::workload::{MAX_TOKENS, Workload};

pub const EXAMPLE: &str = r#"{"timestamp": 0, "input_length": 6758, "output_length": 500, "hash_ids": [0, 1]}"#;
pub const BLOCK_TOKENS: u32 = 512;

pub struct Reader;

#[derive(Deserialize)]
struct Record<'l> {
    #[serde(borrow)]
    timestamp: &'l RawValue,
    input_length: f64,
    output_length: f64,
    #[serde(default)]
    hash_ids: Vec<u64>,
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let record: Record = serde_json::from_str(line.text).map_err(|error| {
            let reason = error.to_string();
            let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
            line.error(format!("{reason} (byte {}), expected a line such as {EXAMPLE}", error.column()))
        })?;
        let tokens = |column: &str, value: f64| {
            let fits = (0.0..=f64::from(MAX_TOKENS)).contains(&value);
            let complaint = || line.value_error(column, &value.to_string(), format!("a number of tokens from 0 to {MAX_TOKENS}"));
            if fits { Ok(value) } else { Err(complaint()) }
        };
        let timestamp = record.timestamp.get();
        let ticks = seconds(timestamp).filter(|at| at.is_finite() && *at >= 0.0);
        Ok(Some(Row {
            ticks: ticks.ok_or_else(|| line.value_error("timestamp", timestamp, "milliseconds as a finite number of at least 0"))? + 0.0,
            prefill_tokens: tokens("input_length", record.input_length)?,
            decode_tokens: tokens("output_length", record.output_length)?,
            hash_ids: record.hash_ids,
        }))
    }
}

/// Seconds from the decimal text of milliseconds.
fn seconds(milliseconds: &str) -> Option<f64> {
    let (mantissa, exponent) = match milliseconds.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (milliseconds, 0),
    };
    format!("{mantissa}e{}", exponent.checked_sub(3)?).parse().ok()
}

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

pub fn write(workload: &Workload, out: &mut dyn Write) -> io::Result<()> {
    for request in 0..workload.len() {
        let timestamp = milliseconds(workload.arrived_at_s[request]);
        let (input, output) = (workload.prefill_tokens[request], workload.decode_tokens[request]);
        let ids = workload.prefix.as_ref().map_or(&[][..], |prefix| prefix.of(request));
        let ids = ids.iter().map(u64::to_string).collect::<Vec<_>>().join(", ");
        writeln!(out, r#"{{"timestamp": {timestamp}, "input_length": {input}, "output_length": {output}, "hash_ids": [{ids}]}}"#)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn decimals_shift_both_ways() {
        for (s, ms) in [(0.0, "0"), (1.0, "1000"), (0.027, "27"), (3536.999, "3536999"), (0.0000125, "0.0125"), (12.3456, "12345.6")] {
            assert_eq!(milliseconds(s), ms);
            assert_eq!(seconds(ms), Some(s));
        }
        assert_eq!(seconds("1.5e3"), Some(1.5));
        assert_eq!(seconds("\"5\""), None);
    }

    proptest! {
        #[test]
        fn any_time_survives(at in 0.0f64..1e12) {
            prop_assert_eq!(seconds(&milliseconds(at)), Some(at));
        }
    }
}
