//! The schema of the grid file: up to date, and of one mind with the parser.

use std::fs;
use std::path::{Path, PathBuf};

use scalefront::hardware::coverage;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::grid::schema;
use scalefront::sweep::grid::source::Source;
use scalefront::sweep::{policies, reference};
use serde_json::{Value, json};

fn sweeps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps")
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let committed = fs::read_to_string(sweeps().join("grid.schema.json")).unwrap();
    assert!(
        committed == schema::text(),
        "run: cargo run --no-default-features schema grid > sweeps/grid.schema.json"
    );
}

#[test]
fn the_committed_reference_is_up_to_date() {
    let committed = fs::read_to_string(sweeps().join("../docs/grid.md")).unwrap();
    assert!(
        committed == reference::grid(),
        "run: cargo run --no-default-features schema grid --markdown > docs/grid.md"
    );
}

#[test]
fn the_committed_metrics_are_up_to_date() {
    let committed = fs::read_to_string(sweeps().join("../docs/metrics.md")).unwrap_or_default();
    assert!(
        committed == reference::metrics(),
        "run: cargo run --no-default-features schema metrics --markdown > docs/metrics.md"
    );
}

#[test]
fn the_page_of_models_and_devices_is_committed() {
    let committed = fs::read_to_string(sweeps().join("../docs/hardware.md")).unwrap_or_default();
    assert!(
        committed == coverage::page(),
        "run: cargo run --no-default-features hardware list --markdown > docs/hardware.md"
    );
}

#[test]
fn the_committed_table_of_policies_is_up_to_date() {
    let committed = fs::read_to_string(sweeps().join("../docs/policies.md")).unwrap();
    assert!(
        committed == policies::page(),
        "run: cargo run --no-default-features policies --markdown > docs/policies.md"
    );
}

/// Short enough to be read, and the same as what is printed on many lines.
#[test]
fn the_schema_is_short() {
    let text = schema::text();
    assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), schema::grid());
    assert!(text.lines().count() <= 5000, "{} lines", text.lines().count());
}

/// A neighbour's name for a setting is refused with ours.
#[test]
fn neighbours_names_are_refused_with_ours() {
    let found = |policy: Value| {
        let mut grid = super::cli::small_grid();
        grid["autoscalers"] = json!([policy]);
        let source = Source { file: "x.json".into(), text: grid.to_string() };
        Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap_err().to_string()
    };
    for (policy, name) in [
        ("hpa", "averageValue"),
        ("hpa", "target"),
        ("keda", "threshold"),
        ("aibrix_apa", "targetValue"),
        ("aibrix_kpa", "target_value_per_replica"),
    ] {
        let message = found(json!({policy: {name: 5}}));
        assert!(message.contains("did you mean `target_per_replica`?"), "{policy}: {message}");
    }
}

#[test]
fn every_committed_grid_is_accepted() {
    let schema = schema::grid();
    let mut grids = 0;
    for entry in fs::read_dir(sweeps()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") || path.ends_with("grid.schema.json")
        {
            continue;
        }
        grids += 1;
        let grid: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let fault = fault(&schema, &schema, &grid);
        assert!(fault.is_none(), "{}: {fault:?}", path.display());
        let parsed = Grid::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(parsed.question.is_some(), "{} asks no question", path.display());
    }
    assert!(grids >= 5);
}

/// What `schema`, a part of `root`, finds wrong with `value`. Knows the keywords that the grid's schema uses,
/// and panics at any other. (A validator from a crate would have Cargo build polars a second time for the
/// tests, with its dependencies' features.)
fn fault(root: &Value, schema: &Value, value: &Value) -> Option<String> {
    let Value::Object(keywords) = schema else {
        return (schema == &json!(false)).then(|| format!("{value} where nothing may be"));
    };
    let has_type = |name: &Value| match name.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    let matching = |schemas: &Value| {
        schemas.as_array().unwrap().iter().filter(|schema| fault(root, schema, value).is_none()).count()
    };
    let number = value.as_f64();
    let unless = |holds: bool, keyword: &str, argument: &Value| {
        (!holds).then(|| format!("{value} against {keyword} {argument}"))
    };
    keywords.iter().find_map(|(keyword, argument)| match keyword.as_str() {
        "$schema" | "$defs" | "title" | "description" | "default" | "format" => None,
        "$ref" => {
            fault(root, root.pointer(argument.as_str()?.strip_prefix('#')?).expect("a definition"), value)
        }
        "type" => unless(
            argument.as_array().map_or_else(|| has_type(argument), |types| types.iter().any(has_type)),
            keyword,
            argument,
        ),
        "enum" => unless(argument.as_array()?.contains(value), keyword, argument),
        "const" => unless(value == argument, keyword, argument),
        "anyOf" => unless(matching(argument) > 0, keyword, &json!(null)),
        "oneOf" => unless(matching(argument) == 1, keyword, &json!(null)),
        "minimum" => {
            unless(number.is_none_or(|number| number >= argument.as_f64().unwrap()), keyword, argument)
        }
        "maximum" => {
            unless(number.is_none_or(|number| number <= argument.as_f64().unwrap()), keyword, argument)
        }
        "minItems" => unless(
            value.as_array().is_none_or(|items| items.len() as u64 >= argument.as_u64().unwrap()),
            keyword,
            argument,
        ),
        "items" => value.as_array()?.iter().find_map(|item| fault(root, argument, item)),
        "required" => argument
            .as_array()?
            .iter()
            .find_map(|name| unless(value.as_object()?.contains_key(name.as_str()?), keyword, name)),
        "propertyNames" => value.as_object()?.keys().find_map(|name| fault(root, argument, &json!(name))),
        "properties" => {
            value.as_object()?.iter().find_map(|(name, value)| fault(root, argument.get(name)?, value))
        }
        "additionalProperties" => {
            let known = keywords.get("properties").and_then(Value::as_object);
            let others = value
                .as_object()?
                .iter()
                .filter(|(name, _)| known.is_none_or(|known| !known.contains_key(*name)));
            others
                .map(|(name, value)| fault(root, argument, value).map(|fault| format!("{name}: {fault}")))
                .find_map(|fault| fault)
        }
        other => panic!("unknown keyword {other} in the grid's schema"),
    })
}

/// Whether the schema and the parser accept a grid with these sections.
fn accepted(sections: Value) -> (bool, bool) {
    let mut grid = super::cli::small_grid();
    for (key, value) in sections.as_object().unwrap() {
        grid[key] = value.clone();
    }
    let schema = schema::grid();
    let by_schema = fault(&schema, &schema, &grid).is_none();
    let source = Source { file: "x.json".into(), text: grid.to_string() };
    (by_schema, Grid::parse(source, Path::new("x.json"), Vec::new()).is_ok())
}

#[test]
fn schema_and_parser_agree() {
    let good = [
        json!({}),
        json!({"seeds": {"from": 1, "to": 9, "step": 1}, "question": "Why?"}),
        json!({"cluster": [{"tensor_parallel": 4}, {"tensor_parallel": 2}]}),
        json!({"cluster": {"tune_interval_s": {"from": 1, "to": 8, "points": 4, "scale": "log"}, "node_price_usd_per_hour": [null, 9.5]}}),
        json!({"cluster": {"replica_scheduler": ["vllm", {"vllm": {"batch_size_cap": [16, 32]}}]}}),
        json!({"autoscalers": [{"label": "a", "inferline": {"look_back_s": [40, {"up": [20, 30], "down": 80}]}}]}),
        json!({"objectives": {"constraints": {"p99_ttft_s": 2, "num_rejected": 0, "scale_ups": {"w": 9}}}}),
    ];
    for sections in good {
        assert_eq!(accepted(sections.clone()), (true, true), "{sections}");
    }
    let bad = [
        json!({"sedes": [1]}),
        json!({"seeds": [-1]}),
        json!({"seeds": 1}),
        json!({"name": ["a", "b"]}),
        json!({"cluster": {"tune_interval": 5}}),
        json!({"cluster": {"tune_interval_s": []}}),
        json!({"cluster": {"tune_interval_s": {"from": 1, "to": 8}}}),
        json!({"cluster": {"tensor_parallel": 1.5}}),
        json!({"autoscalers": [{"inferlin": {}}]}),
        json!({"autoscalers": [{"label": 3, "inferline": {}}]}),
        json!({"autoscalers": [{"inferline": {}, "static": {"replicas": 1}}]}),
        json!({"autoscalers": "inferline"}),
        json!({"objectives": {"latency": ["p90_e2e_s", "p99_e2e_s"]}}),
        json!({"objectives": {"constraints": {"p99_tfft_s": 2}}}),
        json!({"objectives": {"constraints": {"p99_ttft_s": -2}}}),
        json!({"objectives": {"constraints": {"p99_ttft_s": [2, 3]}}}),
        json!({"objectives": {"constraints": {"num_batches": 2}}}),
    ];
    for sections in bad {
        assert_eq!(accepted(sections.clone()), (false, false), "{sections}");
    }
}

/// What `schema` may be resolved to: itself, what it refers to, its alternatives.
fn resolved<'a>(root: &'a Value, schema: &'a Value, found: &mut Vec<&'a Value>) {
    found.push(schema);
    if let Some(target) =
        schema["$ref"].as_str().and_then(|reference| root.pointer(reference.strip_prefix('#')?))
    {
        resolved(root, target, found);
    }
    for alternative in ["anyOf", "oneOf"].iter().filter_map(|keyword| schema[keyword].as_array()).flatten() {
        resolved(root, alternative, found);
    }
}

/// The least that `schema` accepts.
fn example(root: &Value, schema: &Value) -> Value {
    let mut candidates = Vec::new();
    resolved(root, schema, &mut candidates);
    let typed = |schema: &&Value| {
        schema.get("type").is_some() || schema.get("enum").is_some() || schema.get("const").is_some()
    };
    let schema = candidates.into_iter().find(typed).expect("a schema with a type");
    let fixed = schema.get("const").or_else(|| schema["enum"].get(0));
    let kind = schema["type"].as_str().or_else(|| schema["type"][0].as_str()).unwrap_or_default();
    match (fixed, kind) {
        (Some(value), _) => value.clone(),
        (_, "boolean") => json!(true),
        (_, "string") => json!("x"),
        (_, "array") => json!([example(root, &schema["items"])]),
        (_, "object") => {
            let required = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
            required
                .map(|name| (name.to_owned(), example(root, &schema["properties"][name])))
                .collect::<serde_json::Map<_, _>>()
                .into()
        }
        _ => json!(1),
    }
}

/// Everything that may be set: a grid in which it stands alone, and where.
fn places(root: &Value, schema: &Value, at: &str, depth: usize, found: &mut Vec<(String, Value)>) {
    let mut candidates = Vec::new();
    resolved(root, schema, &mut candidates);
    for schema in candidates.into_iter().filter(|_| depth < 8) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let below = format!("{at}/{name}");
            found.push((below.clone(), example(root, schema)));
            places(root, property, &below, depth + 1, found);
        }
        if schema["type"] == "array" && matches!(at, "/workloads" | "/autoscalers") {
            places(root, &schema["items"], &format!("{at}/0"), depth + 1, found);
        }
    }
}

/// Puts `value` where `at` says, with what its neighbours require.
fn put(grid: &mut Value, at: &str, around: &Value, value: &Value) {
    // An entry of a list has made another choice so far.
    if at.starts_with("/autoscalers/0/") {
        grid["autoscalers"][0] = json!({});
    } else if at.starts_with("/workloads/0/") {
        grid["workloads"][0] = json!({"name": "w"});
    }
    let (parent, name) = at.rsplit_once('/').expect("a path");
    let mut place = grid;
    for step in parent.split('/').skip(1) {
        place = match step.parse::<usize>() {
            Ok(index) => &mut place[index],
            Err(_) => {
                // A choice stands there so far, or an axis.
                if !place.is_object() {
                    *place = json!({});
                }
                &mut place[step]
            }
        };
    }
    if place.as_object().is_none_or(|members| members.is_empty()) {
        *place = around.clone();
    }
    place[name] = value.clone();
}

/// Wherever something may be set, values of every kind: what the parser takes the schema takes, and what the
/// schema takes the parser refuses for what it says at most, never for its shape.
#[test]
fn schema_and_parser_agree_on_every_field() {
    let schema = schema::grid();
    let mut found = Vec::new();
    places(&schema, &schema, "", 0, &mut found);
    let values = [
        json!(2),
        json!(1.5),
        json!(-3),
        json!("x"),
        json!(true),
        json!(null),
        json!([]),
        json!([1, 2]),
        json!(["x"]),
        json!({}),
        json!({"nonsense": 1}),
        json!({"from": 1, "to": 5, "step": 2}),
        json!({"from": 1, "to": 5, "points": 3}),
        json!({"from": 1, "to": 5}),
    ];
    let shapes = [
        "invalid type",
        "unknown field",
        "unknown variant",
        "missing field",
        "invalid value: ",
        "an empty list found, expected a value",
    ];
    // Not a matter of shape: what generated sessions need is known once it is clear that they are generated;
    // and a map whose keys the user chooses cannot be told from a range.
    let beyond_schemas = |error: &str, value: &Value| {
        let is_range = value.get("from").is_some() && error.contains("expected an object");
        error.contains("sessions.turns: missing field") || is_range
    };
    let (mut taken, mut refused, mut problems) = (0, 0, Vec::new());
    for (at, around) in &found {
        for value in &values {
            let mut grid = super::cli::small_grid();
            put(&mut grid, at, around, value);
            let fault = fault(&schema, &schema, &grid);
            let source = Source { file: "x.json".into(), text: grid.to_string() };
            let parsed =
                Grid::parse(source, Path::new("x.json"), Vec::new()).err().map(|error| error.to_string());
            match (&fault, &parsed) {
                (None, None) => taken += 1,
                (Some(_), Some(_)) => refused += 1,
                (Some(fault), None) => {
                    problems.push(format!("{at}: {value}: taken, but the schema says {fault}"))
                }
                (None, Some(error)) if beyond_schemas(error, value) => refused += 1,
                (None, Some(error)) => {
                    if let Some(shape) = shapes.iter().find(|shape| error.contains(**shape)) {
                        problems.push(format!("{at}: {value}: the schema takes it, but {shape}: {error}"));
                    }
                }
            }
        }
    }
    assert!(
        found.len() > 300 && taken > 500 && refused > 1000,
        "{} places, {taken} taken, {refused} refused",
        found.len()
    );
    assert!(
        problems.is_empty(),
        "{} problems, such as\n{}",
        problems.len(),
        problems[..problems.len().min(20)].join("\n")
    );
}
