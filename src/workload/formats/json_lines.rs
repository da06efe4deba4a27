//! JSON lines with the field names of Mooncake's traces, which others took over with another unit of time,
//! other blocks or none.

use std::fmt;

use serde::de::{self, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::value::RawValue;

use super::{ReadAs, Row, RowReader, TimeUnit, TraceFormat, sessions};
use crate::workload::MAX_TOKENS;
use crate::workload::error::WorkloadError;
use crate::workload::source::Line;

/// The fields of a file's first line, if it is a JSON object.
pub(super) fn fields(first: &Line) -> Option<Vec<String>> {
    let object: serde_json::Map<String, serde_json::Value> = serde_json::from_str(first.text).ok()?;
    Some(object.into_iter().map(|(field, _)| field).collect())
}

/// What to make of a file of JSON that no format tells: a trace without `hash_ids`, or why it is none. `None`
/// if it is no JSON.
pub(super) fn without_hash_ids(first: &Line, read_as: ReadAs) -> Option<Result<TraceFormat, WorkloadError>> {
    let text = first.text.trim();
    if !text.starts_with(['{', '[']) {
        return None;
    }
    if matches!(text, "{" | "[") || text.starts_with('[') || text.ends_with(',') {
        let message = "a JSON document found, expected JSON lines, one request each; `jq -c '.[]' FILE` makes lines of a list, `jq -c . FILE` of \
                       objects that are spread over several lines";
        return Some(Err(first.error(message)));
    }
    let Some(fields) = fields(first) else { return Some(Ok(TraceFormat::Mooncake)) };
    let has = |field: &str| fields.iter().any(|found| found == field);
    if let Some(refused) = sessions::refused(first, has) {
        return Some(Err(refused));
    }
    let missing = ["timestamp", "input_length", "output_length"].iter().filter(|field| !has(field)).count();
    match missing {
        0 if read_as.time_unit.is_none() => Some(Err(first.error(
            "no `hash_ids` found beside `timestamp`: Mooncake's traces count milliseconds, GuideLLM's have the same fields and count \
             seconds; say which with `time_unit`, \"ms\" or \"s\"",
        ))),
        3 => None,
        _ => Some(Ok(TraceFormat::Mooncake)),
    }
}

pub(super) struct Reader {
    unit: TimeUnit,
    /// A line of the format, for errors.
    example: &'static str,
    not_read: Vec<String>,
}

impl Reader {
    pub fn new(unit: TimeUnit, example: &'static str) -> Self {
        Self { unit, example, not_read: Vec::new() }
    }
}

impl RowReader for Reader {
    fn read(&mut self, line: &Line) -> Result<Option<Row>, WorkloadError> {
        let mut deserializer = serde_json::Deserializer::from_str(line.text);
        let fields = Fields { not_read: &mut self.not_read };
        let record =
            fields.deserialize(&mut deserializer).and_then(|record| deserializer.end().map(|()| record));
        let record = record.map_err(|error| {
            let reason = error.to_string();
            let reason = reason.rsplit_once(" at line ").map_or(reason.as_str(), |(reason, _)| reason);
            line.error(format!(
                "{reason} (byte {}), expected a line such as {}",
                error.column(),
                self.example
            ))
        })?;
        let Some(timestamp) = record.timestamp else {
            return Err(sessions::later_turn(line, record.waits_by.unwrap_or("delay")));
        };
        let tokens = |column: &str, value: f64| {
            let fits = (0.0..=f64::from(MAX_TOKENS)).contains(&value);
            let complaint = || {
                line.value_error(
                    column,
                    &value.to_string(),
                    format!("a number of tokens from 0 to {MAX_TOKENS}"),
                )
            };
            if fits { Ok(value) } else { Err(complaint()) }
        };
        let unit = self.unit.name();
        let ticks = self.unit.seconds(timestamp).filter(|at| at.is_finite() && *at >= 0.0);
        let expected =
            || line.value_error("timestamp", timestamp, format!("{unit} as a finite number of at least 0"));
        Ok(Some(Row {
            ticks: ticks.ok_or_else(expected)? + 0.0,
            prefill_tokens: tokens("input_length", record.input_length)?,
            decode_tokens: tokens("output_length", record.output_length)?,
            hash_ids: record.hash_ids,
            max_new_tokens: record.max_new_tokens.map(|most| tokens("max_new_tokens", most)).transpose()?,
            priority: record.priority,
            block_tokens: match record.block_size {
                Some(0) => {
                    return Err(line.value_error(
                        "block_size",
                        "0",
                        "tokens a block of the prompt holds, at least 1",
                    ));
                }
                block_tokens => block_tokens,
            },
        }))
    }

    fn not_read(&self) -> &[String] {
        &self.not_read
    }
}

/// One request.
struct Record<'l> {
    /// The number's own text. A record may lack it only where it says what it waits for.
    timestamp: Option<&'l str>,
    input_length: f64,
    output_length: f64,
    hash_ids: Vec<u64>,
    block_size: Option<u32>,
    max_new_tokens: Option<f64>,
    priority: Option<i32>,
    /// The field that says what the request waits for.
    waits_by: Option<&'static str>,
}

/// Reads a record and notes the fields that are left out of it.
struct Fields<'n> {
    not_read: &'n mut Vec<String>,
}

/// A field's name, as far as it matters.
enum Field {
    Timestamp,
    InputLength,
    OutputLength,
    HashIds,
    BlockSize,
    MaxNewTokens,
    Priority,
    Waits(&'static str),
    Other,
}

impl<'l> DeserializeSeed<'l> for Fields<'_> {
    type Value = Record<'l>;

    fn deserialize<D: Deserializer<'l>>(self, deserializer: D) -> Result<Record<'l>, D::Error> {
        deserializer.deserialize_map(self)
    }
}

impl<'l> Visitor<'l> for Fields<'_> {
    type Value = Record<'l>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'l>>(mut self, mut map: A) -> Result<Record<'l>, A::Error> {
        let (mut timestamp, mut input_length, mut output_length, mut hash_ids, mut block_size) =
            (None, None, None, None, None);
        let (mut max_new_tokens, mut priority) = (None, None);
        let mut waits_by = None;
        while let Some(field) = map.next_key_seed(&mut self)? {
            match field {
                Field::Timestamp => once(&mut timestamp, "timestamp", map.next_value::<&RawValue>()?)?,
                Field::InputLength => once(&mut input_length, "input_length", map.next_value()?)?,
                Field::OutputLength => once(&mut output_length, "output_length", map.next_value()?)?,
                Field::HashIds => once(&mut hash_ids, "hash_ids", map.next_value()?)?,
                Field::BlockSize => once(&mut block_size, "block_size", map.next_value()?)?,
                Field::MaxNewTokens => once(&mut max_new_tokens, "max_new_tokens", map.next_value()?)?,
                Field::Priority => once(&mut priority, "priority", map.next_value()?)?,
                Field::Waits(by) => {
                    waits_by = Some(by);
                    map.next_value::<IgnoredAny>()?;
                }
                Field::Other => {
                    map.next_value::<IgnoredAny>()?;
                }
            }
        }
        if timestamp.is_none() && waits_by.is_none() {
            return Err(de::Error::missing_field("timestamp"));
        }
        Ok(Record {
            timestamp: timestamp.map(RawValue::get),
            input_length: input_length.ok_or_else(|| de::Error::missing_field("input_length"))?,
            output_length: output_length.ok_or_else(|| de::Error::missing_field("output_length"))?,
            hash_ids: hash_ids.unwrap_or_default(),
            block_size,
            max_new_tokens,
            priority,
            waits_by,
        })
    }
}

fn once<T, E: de::Error>(slot: &mut Option<T>, field: &'static str, value: T) -> Result<(), E> {
    if slot.is_some() {
        return Err(de::Error::duplicate_field(field));
    }
    *slot = Some(value);
    Ok(())
}

impl<'l> DeserializeSeed<'l> for &mut Fields<'_> {
    type Value = Field;

    fn deserialize<D: Deserializer<'l>>(self, deserializer: D) -> Result<Field, D::Error> {
        struct Name<'n>(&'n mut Vec<String>);
        impl Visitor<'_> for Name<'_> {
            type Value = Field;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("the name of a field")
            }

            fn visit_str<E: de::Error>(self, name: &str) -> Result<Field, E> {
                let known = match name {
                    "timestamp" => Field::Timestamp,
                    "input_length" => Field::InputLength,
                    "output_length" => Field::OutputLength,
                    "hash_ids" => Field::HashIds,
                    "block_size" => Field::BlockSize,
                    "max_new_tokens" => Field::MaxNewTokens,
                    "priority" => Field::Priority,
                    _ => sessions::WAITS
                        .iter()
                        .find(|waits| **waits == name)
                        .map_or(Field::Other, |waits| Field::Waits(waits)),
                };
                if matches!(known, Field::Other | Field::Waits(_)) && !self.0.iter().any(|seen| seen == name)
                {
                    self.0.push(name.into());
                }
                Ok(known)
            }
        }
        deserializer.deserialize_identifier(Name(self.not_read))
    }
}
