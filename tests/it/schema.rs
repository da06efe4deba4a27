//! The schema of the grid file: up to date, and of one mind with the parser.

use std::fs;
use std::path::{Path, PathBuf};

use scalefront::sweep::grid::Grid;
use scalefront::sweep::schema;
use scalefront::sweep::source::Source;
use serde_json::{Value, json};

fn sweeps() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps")
}

#[test]
fn the_committed_schema_is_up_to_date() {
    let committed = fs::read_to_string(sweeps().join("grid.schema.json")).unwrap();
    assert!(committed == format!("{:#}\n", schema::grid()), "run: cargo run --no-default-features schema grid > sweeps/grid.schema.json");
}

#[test]
fn every_committed_grid_is_accepted() {
    let schema = jsonschema::validator_for(&schema::grid()).unwrap();
    let mut grids = 0;
    for entry in fs::read_dir(sweeps()).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") || path.ends_with("grid.schema.json") {
            continue;
        }
        grids += 1;
        let grid: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
        let faults: Vec<_> = schema.iter_errors(&grid).map(|error| format!("{}: {error}", error.instance_path())).collect();
        assert!(faults.is_empty(), "{}: {faults:#?}", path.display());
        let parsed = Grid::read(&path).unwrap_or_else(|error| panic!("{error}"));
        assert!(parsed.question.is_some(), "{} asks no question", path.display());
    }
    assert!(grids >= 5);
}

/// Whether the schema and the parser accept a grid with these sections.
fn accepted(sections: Value) -> (bool, bool) {
    let mut grid = super::cli::small_grid();
    for (key, value) in sections.as_object().unwrap() {
        grid[key] = value.clone();
    }
    let by_schema = jsonschema::validator_for(&schema::grid()).unwrap().is_valid(&grid);
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
    ];
    for sections in bad {
        assert_eq!(accepted(sections.clone()), (false, false), "{sections}");
    }
}
