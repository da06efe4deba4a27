//! References as Markdown: of the grid file, made from its schema, one section a definition, one row a field;
//! of the metrics of a run.

use std::fmt::Write;

use serde_json::Value;

use super::grid::BESIDE_AUTOSCALER;
use super::grid::schema;
use crate::simulation::metric::{self, Better, Needs};

const INTRODUCTION: &str = "\
# The grid file

<!-- Made by `scalefront schema grid --markdown`; a test compares. -->

Every field of the file that `scalefront sweep` takes, made from the same schema that lets editors complete it. The
[tutorial](tutorial.md) shows how to write one.

A field with *axis* takes one value or a list of values, and a number a [range](#range) as well; axes multiply. A choice is written as its
name alone, with its defaults (`\"round_robin\"`), or with settings (`{\"inferline\": {\"look_back_s\": 80}}`). A field that is not required
and has no default may be left out; what that means is said with it. Units stand in the names.
";

/// The whole page.
pub fn grid() -> String {
    let schema = schema::with_axes();
    let mut out = INTRODUCTION.to_owned();
    section(&mut out, "Grid", &schema);
    for (name, definition) in schema["$defs"].as_object().into_iter().flatten() {
        section(&mut out, name, definition);
    }
    out
}

const METRICS: &str = "\
# Metrics of a run

<!-- Made by `scalefront schema metrics --markdown`; a test compares. -->

Every metric is a column of `runs.parquet`. Those of which less is better can be objectives of a grid (`objectives.latency`,
`objectives.cost`); those of which less or more is can be limited (`objectives.constraints`). How they are computed is said in
[methods](methods.md).

| metric | unit | better | meaning | needs |
|---|---|---|---|---|
";

/// The page of metrics.
pub fn metrics() -> String {
    let mut out = METRICS.to_owned();
    for metric in metric::all() {
        let better = match metric.better {
            Better::Less => "less",
            Better::More => "more",
            Better::Neither => "",
        };
        let needs = if metric.needs == Needs::Nothing { String::new() } else { metric.needs.to_string() };
        let (name, unit, meaning) = (&metric.name, metric.unit, cell(&metric.description));
        writeln!(out, "| `{name}` | {unit} | {better} | {meaning} | {needs} |")
            .expect("writing to a string does not fail");
    }
    out
}

fn section(out: &mut String, name: &str, schema: &Value) {
    let mut add = |text: String| out.write_str(&text).expect("writing to a string does not fail");
    add(format!("\n## {name}\n"));
    if let Some(text) = description(schema) {
        add(format!("\n{}\n", text.replace('\n', " ")));
    }
    if let Some(properties) = schema["properties"].as_object() {
        if properties.is_empty() {
            return add("\nNo settings.\n".to_owned());
        }
        add("\n| field | takes | required | default | meaning |\n|---|---|---|---|---|\n".to_owned());
        let required: Vec<&Value> = schema["required"].as_array().into_iter().flatten().collect();
        for (field, schema) in properties {
            let required = if required.iter().any(|name| *name == field) { "yes" } else { "" };
            let default = schema
                .get("default")
                .filter(|default| !default.is_null())
                .map_or(String::new(), |default| format!("`{default}`"));
            let (takes, axis) = takes(schema);
            let axis = if axis { ", axis" } else { "" };
            let meaning = description(schema).unwrap_or_default();
            add(format!(
                "| `{field}` | {}{axis} | {required} | {} | {} |\n",
                cell(&takes),
                cell(&default),
                cell(meaning)
            ));
        }
    } else if let Some(alternatives) = alternatives(schema) {
        add("\nOne of:\n\n".to_owned());
        for alternative in alternatives {
            let text = description(alternative)
                .map_or(String::new(), |text| format!(": {}", text.replace('\n', " ")));
            add(format!("- {}{text}\n", takes(alternative).0));
        }
    } else {
        add(format!("\nTakes {}.\n", takes(schema).0));
    }
}

/// What may stand where `schema` holds, and whether it may be an axis.
fn takes(schema: &Value) -> (String, bool) {
    if let Some(name) = schema["$ref"].as_str().and_then(|reference| reference.strip_prefix("#/$defs/")) {
        return (format!("[{name}](#{})", name.to_lowercase()), false);
    }
    if let Some(alternatives) = alternatives(schema) {
        if let Some(one) = schema::axis_of(schema) {
            return (takes(one).0, true);
        }
        let kinds = alternatives
            .iter()
            .filter(|alternative| alternative["type"] != "null")
            .map(|alternative| takes(alternative).0);
        return (kinds.collect::<Vec<_>>().join(" or "), false);
    }
    if let Some(values) = schema["enum"].as_array() {
        return (
            values
                .iter()
                .filter(|value| !value.is_null())
                .map(|value| format!("`{value}`"))
                .collect::<Vec<_>>()
                .join(", "),
            false,
        );
    }
    if let Some(value) = schema.get("const") {
        return (format!("`{value}`"), false);
    }
    let kind = match &schema["type"] {
        Value::Array(kinds) => {
            kinds.iter().filter_map(Value::as_str).find(|kind| *kind != "null").unwrap_or_default()
        }
        kind => kind.as_str().unwrap_or("any value"),
    };
    let text = match kind {
        "array" => format!("list of {}", takes(&schema["items"]).0),
        "object" => {
            let members = schema["properties"].as_object().into_iter().flatten();
            // Bounds of its own may stand beside every autoscaler: said once, above the list.
            let members = members.filter(|(name, _)| !BESIDE_AUTOSCALER[1..].contains(&name.as_str()));
            let members = members
                .map(|(name, schema)| format!("`\"{name}\":` {}", takes(schema).0))
                .collect::<Vec<_>>();
            let any = schema.get("additionalProperties").filter(|any| any.is_object());
            if let (true, Some(any)) = (members.is_empty(), any) {
                format!("{{name: {}}}", takes(any).0)
            } else if members.is_empty() {
                "object".to_owned()
            } else {
                format!("{{{}}}", members.join(", "))
            }
        }
        "integer" => "whole number".to_owned(),
        "boolean" => "`true` or `false`".to_owned(),
        kind => kind.to_owned(),
    };
    (text, false)
}

fn alternatives(schema: &Value) -> Option<Vec<&Value>> {
    let lists = ["anyOf", "oneOf"].iter().filter(|_| schema.get("properties").is_none());
    let list = lists.filter_map(|keyword| schema[keyword].as_array()).next()?;
    Some(list.iter().collect())
}

fn description(schema: &Value) -> Option<&str> {
    schema["description"].as_str()
}

/// Text within a table's cell.
fn cell(text: &str) -> String {
    text.replace('\n', " ").replace('|', "\\|")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_link_leads_to_a_section() {
        let page = grid();
        let sections = page
            .lines()
            .filter_map(|line| line.strip_prefix("## "))
            .map(str::to_lowercase)
            .collect::<BTreeSet<_>>();
        let links = page
            .split("](#")
            .skip(1)
            .map(|rest| rest.split(')').next().unwrap().to_owned())
            .collect::<BTreeSet<_>>();
        assert!(
            links.len() > 60 && links.is_subset(&sections),
            "{:?}",
            links.difference(&sections).collect::<Vec<_>>()
        );
        assert_eq!(
            sections.difference(&links).collect::<Vec<_>>(),
            ["grid"],
            "sections that nothing leads to"
        );
    }

    #[test]
    fn fields_say_what_they_take() {
        let page = grid();
        for line in [
            "| `level` | number, axis |  | `2.0` | 1 (cheapest) to 3 (fastest); levels between are interpolated. |",
            "| `autoscalers` | list of [AutoscalerSettings](#autoscalersettings) | yes |  | The policies to compare, each under its settings. Beside these may stand a",
            "| `name` | string, axis | yes |  |",
        ] {
            assert!(page.contains(line), "{line}");
        }
    }
}
