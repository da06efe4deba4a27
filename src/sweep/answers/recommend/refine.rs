//! Ranges with `points` are continuous: a search looks between the points as well.

use serde_json::{Value, json};

use crate::sweep::grid::Grid;
use crate::sweep::grid::source::{GridError, Source};

/// More settings than this make a search's book-keeping slow: ranges are then taken as they are.
const MOST_RUNS: u64 = 200_000;

/// A grid in which every range with `points` has `times` as many gaps, wherever the finer one makes sense: a
/// setting of whole numbers keeps its points. Points of before are points still.
pub fn refined(grid: &Grid, times: u64) -> Result<Grid, GridError> {
    let mut value = grid.as_given.clone();
    let mut paths = Vec::new();
    find(&grid.as_given, String::new(), &mut paths);
    for path in paths {
        let mut finer = value.clone();
        let Some(points) = finer.pointer_mut(&path).and_then(|range| range.get_mut("points")) else {
            continue;
        };
        let Some(before) = points.as_u64().filter(|points| *points > 1) else { continue };
        *points = json!((before - 1) * times + 1);
        if parsed(grid, &finer).is_ok_and(|grid| grid.count() <= MOST_RUNS) {
            value = finer;
        }
    }
    parsed(grid, &value)
}

/// The grid with other content, as if its file held that.
pub fn parsed(grid: &Grid, value: &Value) -> Result<Grid, GridError> {
    let file = grid.source.file.clone();
    let mut read = Grid::parse(
        Source { file: file.clone(), text: value.to_string() },
        file.as_ref(),
        grid.base_dirs.clone(),
    )?;
    read.starts_programs = grid.starts_programs;
    Ok(read)
}

/// JSON pointers of ranges with points, of autoscalers and clusters: traffic is not to be chosen.
fn find(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) if members.contains_key("points") && members.contains_key("from") => {
            found.push(path)
        }
        Value::Object(members) => {
            for (key, value) in members {
                let top = path.is_empty();
                if !top || ["autoscalers", "cluster"].contains(&key.as_str()) {
                    find(value, format!("{path}/{}", key.replace('~', "~0").replace('/', "~1")), found);
                }
            }
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| find(value, format!("{path}/{i}"), found))
        }
        _ => {}
    }
}
