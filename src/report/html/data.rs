//! The runs as the page's script reads them: a column is `{"name", "kind"}` with `const` (the same everywhere), `dict` and `codes`
//! (few distinct texts), or `values`. Rows of fronts and curves are numbered as the embedded columns.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::curves;
use crate::analysis::table::Cells;
use crate::report::names::{counted, label};
use crate::report::palette::look;
use crate::report::study::Study;

/// Bytes of JSON that the data may take: the page stays below 5 MB.
const BUDGET: usize = 4_600_000;
/// Runs embedded. Beyond, all of the fronts and an even choice of the others.
const MAX_RUNS: usize = 20_000;
/// Texts with at most this many values become a filter.
const MAX_FILTER_VALUES: usize = 12;

pub struct Data {
    pub json: Value,
    /// What was left out or rounded, in sentences.
    pub notes: Vec<String>,
}

pub fn of(study: &Study) -> Result<Data> {
    let mut notes = vec!["Metrics on this page are rounded to 5 significant digits; runs.parquet holds them in full.".to_owned()];
    let rows = embedded_rows(study);
    if rows.len() < study.run_ids.len() {
        let (some, all) = (counted(rows.len(), "run"), counted(study.run_ids.len(), "run"));
        notes.push(format!("The charts and the table of this page hold {some} of {all}: every front, and an even choice of the others."));
    }
    let mut columns = columns(study, &rows, 5, |_| true)?;
    if size(&columns) > BUDGET {
        let (latency, cost) = study.objectives();
        columns = self::columns(study, &rows, 4, |name| name == latency || name == cost)?;
        notes.push("To keep this page small it holds only the two objectives of the metrics; runs.parquet holds all.".to_owned());
    }
    let number = rows.iter().enumerate().map(|(k, &row)| (row, k)).collect::<BTreeMap<_, _>>();
    let fronts = study.analysis.fronts.iter().map(|front| {
        let rows = front.rows.iter().map(|row| number[row]).collect::<Vec<_>>();
        json!({ "w": front.workload, "f": front.family, "seed": front.seed, "rows": rows })
    });
    let fronts = Value::Array(fronts.collect());
    let curves = curves::of(study, &number, BUDGET.saturating_sub(size(&columns) + size(&fronts)));
    if curves.left_out > 0 {
        notes.push(format!(
            "To keep this page small the curves of {} on fronts were left out; series.parquet holds them.",
            counted(curves.left_out, "run")
        ));
    }
    let families = study.analysis.families.iter().enumerate().map(|(k, family)| {
        let look = look(k);
        json!({ "label": family.label, "colour": look.hex(), "marker": look.marker_name })
    });
    let workloads = study.analysis.workloads.iter().enumerate().map(|(w, workload)| {
        let reference = workload.reference.map(|reference| [reference.cost, reference.latency]);
        let ranked = study.analysis.scores_of(w).map(|score| score.family).collect::<Vec<_>>();
        json!({ "name": workload.name, "reference": reference, "ranked": ranked })
    });
    let (latency, cost) = study.objectives();
    let json = json!({
        "latency": { "column": latency, "label": label(latency) },
        "cost": { "column": cost, "label": label(cost) },
        "reference_given": study.analysis.reference_given,
        "families": families.collect::<Vec<_>>(),
        "workloads": workloads.collect::<Vec<_>>(),
        "rows": rows.len(),
        "columns": columns,
        "varied": study.varied,
        "filters": filters(study)?,
        "fronts": fronts,
        "pool": curves.pool,
        "curves": curves.runs,
    });
    Ok(Data { json, notes })
}

fn size(json: &Value) -> usize {
    json.to_string().len()
}

fn embedded_rows(study: &Study) -> Vec<usize> {
    let all = study.run_ids.len();
    if all <= MAX_RUNS {
        return (0..all).collect();
    }
    let every = all.div_ceil(MAX_RUNS);
    let mut rows =
        study.analysis.fronts.iter().flat_map(|front| front.rows.iter().copied()).chain((0..all).step_by(every)).collect::<Vec<_>>();
    rows.sort_unstable();
    rows.dedup();
    rows
}

fn columns(study: &Study, rows: &[usize], digits: usize, keep_metric: impl Fn(&str) -> bool) -> Result<Value> {
    let mut columns = vec![
        // By number, so that scripts and fronts name workloads and families alike.
        json!({ "name": "workload", "kind": "id", "dict": study.analysis.workloads.iter().map(|w| &w.name).collect::<Vec<_>>(),
            "codes": rows.iter().map(|&row| study.analysis.runs[row].workload).collect::<Vec<_>>() }),
        json!({ "name": "family", "kind": "id", "dict": study.analysis.families.iter().map(|f| &f.label).collect::<Vec<_>>(),
            "codes": rows.iter().map(|&row| study.analysis.runs[row].family).collect::<Vec<_>>() }),
    ];
    for column in study.runs.columns() {
        let name = column.name().as_str();
        let cells = Cells::of(column)?;
        let setting = study.manifest.setting_columns.iter().any(|setting| setting == name);
        let kind = match name {
            "workload" | "family" => continue,
            "run_id" | "seed" | "status" | "error" => "id",
            _ if setting => "setting",
            _ if cells.is_numeric() && keep_metric(name) => "metric",
            _ => continue,
        };
        columns.push(encoded(name, kind, &cells, rows, digits));
    }
    Ok(Value::Array(columns))
}

fn encoded(name: &str, kind: &str, cells: &Cells, rows: &[usize], digits: usize) -> Value {
    let values = rows.iter().map(|&row| value(cells, row, if kind == "metric" { Some(digits) } else { None })).collect::<Vec<_>>();
    if let Some(first) = values.first()
        && values.iter().all(|value| value == first)
    {
        return json!({ "name": name, "kind": kind, "const": first });
    }
    if matches!(cells, Cells::Text(_)) {
        let mut dict = values.iter().filter_map(Value::as_str).collect::<Vec<_>>();
        dict.sort_unstable();
        dict.dedup();
        if dict.len() * 2 < values.len() {
            let codes =
                values.iter().map(|value| value.as_str().map_or(-1, |text| dict.binary_search(&text).map_or(-1, |code| code as i64)));
            return json!({ "name": name, "kind": kind, "dict": dict, "codes": codes.collect::<Vec<_>>() });
        }
    }
    json!({ "name": name, "kind": kind, "values": values })
}

fn value(cells: &Cells, row: usize, digits: Option<usize>) -> Value {
    match cells {
        Cells::Float(values) => values.get(row).map_or(Value::Null, |value| digits.map_or(json!(value), |digits| rounded(value, digits))),
        Cells::Int(values) => json!(values.get(row)),
        Cells::Text(values) => json!(values.get(row)),
        Cells::Bool(values) => json!(values.get(row)),
    }
}

/// `value` to a number of significant digits, in the fewest characters; null when not finite.
pub fn rounded(value: f64, digits: usize) -> Value {
    let short = format!("{value:.*e}", digits - 1).parse::<f64>().unwrap_or(value);
    if short.is_finite() && short.fract() == 0.0 && short.abs() < 1e15 { json!(short as i64) } else { json!(short) }
}

/// Settings worth a filter: a few texts, the same question for every family.
fn filters(study: &Study) -> Result<Vec<&str>> {
    let mut filters = Vec::new();
    for name in &study.varied {
        let cells = Cells::named(&study.runs, name)?;
        let Cells::Text(texts) = cells else { continue };
        let mut values = texts.iter().collect::<Vec<_>>();
        values.sort_unstable();
        values.dedup();
        if (2..=MAX_FILTER_VALUES).contains(&values.len()) && values.iter().all(Option::is_some) {
            filters.push(name.as_str());
        }
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_short() {
        let shown = [0.123_456_7, 126_000.0, 35.841_23, 1.5e-7, f64::NAN, 0.0].map(|value| rounded(value, 5).to_string());
        assert_eq!(shown, ["0.12346", "126000", "35.841", "1.5e-7", "null", "0"]);
    }
}
