//! Where two tables of runs part: the first row and column that differ, to the bit.

use std::path::Path;

use scalefront::sweep::grid::Grid;
use scalefront::sweep::grid::source::Source;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Progress;
use scalefront::sweep::tables::row::{RunRow, Scalar};
use serde_json::Value;

/// Row, run and column of the first difference between two tables, and both values.
pub fn first_difference(one: &[RunRow], other: &[RunRow]) -> Option<String> {
    let run = |row: &RunRow| match row.get("run_id") {
        Some(Scalar::Text(id)) => id.clone(),
        _ => "without id".into(),
    };
    for (i, (a, b)) in one.iter().zip(other).enumerate() {
        for (left, right) in a.columns.iter().zip(&b.columns) {
            let same = match (&left.1, &right.1) {
                (Scalar::Float(x), Scalar::Float(y)) => x.to_bits() == y.to_bits(),
                (x, y) => x == y,
            };
            if left.0 != right.0 || !same {
                return Some(format!(
                    "row {i} (run {}), column {}: {:?}, and {:?} in column {}",
                    run(a),
                    left.0,
                    left.1,
                    right.1,
                    right.0
                ));
            }
        }
        if a.columns.len() != b.columns.len() {
            return Some(format!(
                "row {i} (run {}): {} columns, and {}",
                run(a),
                a.columns.len(),
                b.columns.len()
            ));
        }
    }
    (one.len() != other.len()).then(|| format!("{} rows, and {}", one.len(), other.len()))
}

pub fn plan(grid: &Value) -> Plan {
    let source = Source { file: "x.json".into(), text: grid.to_string() };
    Plan::new(Grid::parse(source, Path::new("x.json"), Vec::new()).unwrap()).unwrap()
}

/// Nobody watches.
pub struct Quiet;

impl Progress for Quiet {
    fn run_ended(&self, _requests: u64) {}

    fn is_interrupted(&self) -> bool {
        false
    }
}

#[test]
fn the_first_difference_is_named() {
    let row = |p90| RunRow {
        columns: vec![("run_id".into(), Scalar::Text("a1".into())), ("p90_e2e_s".into(), Scalar::Float(p90))],
    };
    let rows = [row(0.5), row(0.0)];
    assert_eq!(first_difference(&rows, &rows.clone()), None);
    let difference = first_difference(&rows, &[row(0.5), row(-0.0)]).unwrap();
    assert!(
        difference.starts_with("row 1 (run a1), column p90_e2e_s: Float(0.0), and Float(-0.0)"),
        "{difference}"
    );
    assert_eq!(first_difference(&rows, &rows[..1]).unwrap(), "2 rows, and 1");
}
