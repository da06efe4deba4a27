//! JSON Schema of the grid file: editors complete it and mark what the parser would refuse.
//!
//! The settings' own schemas say what a run may be; here every place that takes one value takes an axis as
//! well.

use std::collections::BTreeMap;

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::GridFile;
use super::axes::LISTS;

/// Keywords that say what a value means, not what it may be.
const DESCRIBING: [&str; 2] = ["description", "default"];

/// Definitions whose values are the same for all runs of a sweep.
const FIXED: &[&str] = &["Objectives", "Reference", "Constraints", "Limit"];

/// The schema of the grid file.
pub fn grid() -> Value {
    let mut schema = with_axes();
    share_axes(&mut schema);
    schema
}

/// The schema as it is committed, an ending newline included.
pub fn text() -> String {
    let mut text = String::new();
    write_within(&grid(), 0, 0, &mut text);
    text + "\n"
}

/// Longest line of a value that is not broken, in characters.
const WIDTH: usize = 160;

/// Writes JSON with what is short on one line. `indent` is that of the line, `used` what stands on it
/// already.
fn write_within(value: &Value, indent: usize, used: usize, out: &mut String) {
    let short = value.to_string();
    if used + short.chars().count() <= WIDTH {
        return *out += &short;
    }
    let (ends, items): ([char; 2], Vec<(String, &Value)>) = match value {
        Value::Object(members) => {
            (['{', '}'], members.iter().map(|(name, value)| (format!("{}: ", json!(name)), value)).collect())
        }
        Value::Array(values) => (['[', ']'], values.iter().map(|value| (String::new(), value)).collect()),
        _ => return *out += &short,
    };
    let within = indent + 2;
    for (place, (name, value)) in items.iter().enumerate() {
        out.push(if place == 0 { ends[0] } else { ',' });
        *out += &format!("\n{:within$}{name}", "");
        write_within(value, within, within + name.chars().count() + 1, out);
    }
    *out += &format!("\n{:indent$}{}", "", ends[1]);
}

/// The schema with every axis written out where it may stand.
pub(in crate::sweep) fn with_axes() -> Value {
    let mut schema = schema_for!(GridFile).to_value();
    let definitions = schema["$defs"].clone();
    if let Some(changed) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (name, definition) in changed.iter_mut() {
            if !FIXED.contains(&name.as_str()) {
                accept_axes(definition, &definitions);
            }
        }
        if let Some(alternatives) =
            changed.get_mut("AutoscalerSettings").and_then(|choice| choice.get_mut("anyOf"))
        {
            beside(alternatives, &definitions);
        }
        changed.insert("Range".into(), range());
    }
    // Of the file's own fields only the cluster may be an axis; seeds may be a range that stands for a list.
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties.iter_mut() {
            match name.as_str() {
                "cluster" => *property = or_axis(property.take(), &definitions),
                "seeds" => *property = described(property.take(), seeds),
                _ => {}
            }
        }
    }
    schema
}

/// A list of seeds and of ranges of them, or a range.
fn seeds(mut list: Value) -> Value {
    list["items"] = json!({ "anyOf": [list["items"], range_reference()] });
    json!({ "anyOf": [list, range_reference()] })
}

/// Lets every property below `schema` be an axis.
fn accept_axes(schema: &mut Value, definitions: &Value) {
    match schema {
        Value::Object(members) => {
            for (keyword, value) in members.iter_mut() {
                accept_axes(value, definitions);
                if keyword == "properties" {
                    let properties = value.as_object_mut().into_iter().flatten();
                    for (_, property) in properties.filter(|(name, _)| !LISTS.contains(&name.as_str())) {
                        *property = or_axis(property.take(), definitions);
                    }
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| accept_axes(schema, definitions)),
        _ => {}
    }
}

/// What `one` accepts, a list of it, or, where it accepts numbers, a range.
fn or_axis(one: Value, definitions: &Value) -> Value {
    described(one, |one| {
        let list = json!({ "type": "array", "items": one, "minItems": 1 });
        let range = accepts_numbers(&one, definitions).then(range_reference);
        let all: Vec<Value> = [one, list].into_iter().chain(range).collect();
        json!({ "anyOf": all })
    })
}

/// Changes a schema and leaves its description and default outside.
fn described(mut schema: Value, change: impl FnOnce(Value) -> Value) -> Value {
    let kept =
        DESCRIBING.map(|keyword| schema.as_object_mut().and_then(|members| members.shift_remove(keyword)));
    let mut changed = change(schema);
    for (keyword, value) in DESCRIBING.into_iter().zip(kept) {
        if let Some(value) = value {
            changed[keyword] = value;
        }
    }
    changed
}

fn accepts_numbers(schema: &Value, definitions: &Value) -> bool {
    let numeric = |kind: &Value| kind == "number" || kind == "integer";
    let referred = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/"));
    let alternatives = ["anyOf", "oneOf"].iter().filter_map(|keyword| schema[keyword].as_array()).flatten();
    referred.is_some_and(|name| accepts_numbers(&definitions[name], definitions))
        || schema["type"]
            .as_array()
            .map_or_else(|| numeric(&schema["type"]), |kinds| kinds.iter().any(numeric))
        || alternatives.into_iter().any(|alternative| accepts_numbers(alternative, definitions))
}

/// Puts axes that stand in several places among the definitions, so that the schema can be read.
fn share_axes(schema: &mut Value) {
    let mut shared = BTreeMap::new();
    share_below(schema, &mut shared);
    let definitions = schema["$defs"].as_object_mut().into_iter();
    definitions.for_each(|definitions| definitions.extend(shared.clone()));
}

fn share_below(schema: &mut Value, shared: &mut BTreeMap<String, Value>) {
    match schema {
        Value::Object(members) => {
            if let Some(properties) = members.get_mut("properties").and_then(Value::as_object_mut) {
                for (_, property) in properties.iter_mut() {
                    if let Some(name) = axis_name(property) {
                        *property = described(property.take(), |axis| {
                            shared.insert(name.clone(), axis);
                            json!({ "$ref": format!("#/$defs/{name}") })
                        });
                    }
                }
            }
            members.iter_mut().for_each(|(_, value)| share_below(value, shared));
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(|schema| share_below(schema, shared)),
        _ => {}
    }
}

/// What an axis is called: after what it takes, such as `Axis.number.null` or `Axis.ScalingRules`.
fn axis_name(schema: &Value) -> Option<String> {
    let one = axis_of(schema)?;
    let mut words = Vec::new();
    // Whatever tells one axis from another is part of the name, or else it stays where it is.
    let alternatives = one["anyOf"].as_array().map_or_else(|| std::slice::from_ref(one), Vec::as_slice);
    for schema in alternatives {
        for (keyword, value) in schema.as_object()? {
            match (keyword.as_str(), value) {
                ("type", Value::String(kind)) => words.push(kind.clone()),
                ("type", Value::Array(kinds)) => {
                    words.extend(kinds.iter().filter_map(Value::as_str).map(str::to_owned))
                }
                ("$ref", Value::String(reference)) => words.push(reference.rsplit('/').next()?.to_owned()),
                ("format", Value::String(format)) if format != "double" => words.push(format.clone()),
                ("format", _) => {}
                ("minimum" | "maximum", limit) => words.push(format!("{keyword}_{limit}")),
                _ => return None,
            }
        }
    }
    Some(format!("Axis.{}", words.join(".")))
}

/// What an axis takes once, if `schema` is one.
pub(in crate::sweep) fn axis_of(schema: &Value) -> Option<&Value> {
    let (one, rest) = schema["anyOf"].as_array()?.split_first()?;
    let (list, range) = rest.split_first()?;
    (list["items"] == *one && range.iter().all(|range| *range == range_reference())).then_some(one)
}

fn range_reference() -> Value {
    json!({ "$ref": "#/$defs/Range" })
}

fn range() -> Value {
    json!({
        "description": "An axis of numbers from `from` to `to`, both included: by `step`, or so many `points`.",
        "type": "object",
        "properties": {
            "from": { "type": "number" },
            "to": { "type": "number" },
            "step": { "type": "number" },
            "points": { "type": "integer", "minimum": 1 },
            "scale": { "enum": ["linear", "log"] },
        },
        "required": ["from", "to"],
        "oneOf": [{ "required": ["step"] }, { "required": ["points"] }],
        "additionalProperties": false,
    })
}

/// Lets an autoscaler be read from a controller's file, and carry a label and bounds of its own beside its
/// choice.
fn beside(alternatives: &mut Value, definitions: &Value) {
    let one = |schema: Value, description: &str| {
        let mut schema = schema;
        schema["description"] = description.into();
        or_axis(schema, definitions)
    };
    let label = one(
        json!({ "type": ["string", "null"] }),
        "Groups runs in tables and fronts, instead of the autoscaler's kind.",
    );
    let bound = |description: &str| one(json!({ "type": ["integer", "null"], "minimum": 0 }), description);
    let besides = [
        ("label".to_string(), label),
        (
            "min_replicas".to_string(),
            bound("Least replicas of this autoscaler's runs, instead of the cluster's."),
        ),
        (
            "max_replicas".to_string(),
            bound("Most replicas of this autoscaler's runs, instead of the cluster's."),
        ),
        (
            "initial_replicas".to_string(),
            bound("Replicas its runs begin with, instead of the cluster's, moved within the bounds."),
        ),
    ];
    if let Some(alternatives) = alternatives.as_array_mut() {
        let paths = json!({ "type": "object", "required": ["path"], "additionalProperties": false,
            "description": "A HorizontalPodAutoscaler, a ScaledObject of KEDA, a Service of Knative or an autoscaling_config of Ray Serve, YAML or \
                JSON: its policy with its settings and bounds on replicas.",
            "properties": { "path": or_axis(json!({ "type": "string" }), definitions) } });
        alternatives.push(
            json!({ "type": "object", "properties": { "from_manifest": paths }, "required": ["from_manifest"],
            "additionalProperties": false }),
        );
    }
    for alternative in alternatives.as_array_mut().into_iter().flatten() {
        if let Some(properties) = alternative.get_mut("properties").and_then(Value::as_object_mut) {
            let choice = std::mem::take(properties);
            *properties = Map::from_iter(besides.iter().cloned().chain(choice));
        }
    }
}
