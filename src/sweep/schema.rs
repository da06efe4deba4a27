//! JSON Schema of the grid file: editors complete it and mark what the parser would refuse.
//!
//! The settings' own schemas say what a run may be; here every place that takes one value takes an axis as well.

use schemars::schema_for;
use serde_json::{Map, Value, json};

use super::axes::LISTS;
use super::grid::GridFile;

/// Definitions whose values are the same for all runs of a sweep.
const FIXED: &[&str] = &["Objectives", "Reference"];

/// The schema of the grid file.
pub fn grid() -> Value {
    let mut schema = schema_for!(GridFile).to_value();
    if let Some(definitions) = schema.get_mut("$defs").and_then(Value::as_object_mut) {
        for (name, definition) in definitions.iter_mut() {
            if !FIXED.contains(&name.as_str()) {
                accept_axes(definition);
            }
        }
        if let Some(alternatives) = definitions.get_mut("AutoscalerSettings").and_then(|choice| choice.get_mut("anyOf")) {
            label(alternatives);
        }
        definitions.insert("Range".into(), range());
    }
    // Of the file's own fields only the cluster may be an axis; seeds may be a range that stands for a list.
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.iter_mut().filter(|(name, _)| *name == "cluster").for_each(|(_, cluster)| *cluster = or_axis(cluster.take()));
        properties
            .iter_mut()
            .filter(|(name, _)| *name == "seeds")
            .for_each(|(_, seeds)| *seeds = alternatives(seeds.take(), [range_reference()]));
    }
    schema
}

/// Lets every property below `schema` be an axis.
fn accept_axes(schema: &mut Value) {
    match schema {
        Value::Object(members) => {
            for (keyword, value) in members.iter_mut() {
                accept_axes(value);
                if keyword == "properties" {
                    let properties = value.as_object_mut().into_iter().flatten();
                    for (_, property) in properties.filter(|(name, _)| !LISTS.contains(&name.as_str())) {
                        *property = or_axis(property.take());
                    }
                }
            }
        }
        Value::Array(schemas) => schemas.iter_mut().for_each(accept_axes),
        _ => {}
    }
}

/// What `one` accepts, a list of it, or a range.
fn or_axis(mut one: Value) -> Value {
    let description = one.as_object_mut().and_then(|members| members.shift_remove("description"));
    let default = one.as_object_mut().and_then(|members| members.shift_remove("default"));
    let list = json!({ "type": "array", "items": one, "minItems": 1 });
    let mut schema = alternatives(one, [list, range_reference()]);
    for (keyword, value) in [("description", description), ("default", default)] {
        if let Some(value) = value {
            schema[keyword] = value;
        }
    }
    schema
}

fn alternatives<const N: usize>(one: Value, others: [Value; N]) -> Value {
    let all: Vec<Value> = std::iter::once(one).chain(others).collect();
    json!({ "anyOf": all })
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

/// Lets an autoscaler carry a label beside its choice.
fn label(alternatives: &mut Value) {
    let label = json!({ "type": "string", "description": "Groups runs in tables and fronts, instead of the autoscaler's kind." });
    for alternative in alternatives.as_array_mut().into_iter().flatten() {
        if let Some(properties) = alternative.get_mut("properties").and_then(Value::as_object_mut) {
            let choice = std::mem::take(properties);
            *properties = Map::from_iter([("label".to_string(), label.clone())].into_iter().chain(choice));
        }
    }
}
