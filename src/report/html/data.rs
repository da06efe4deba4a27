//! The runs as the page's script reads them: a column is `{"name", "kind"}` with `const` (the same
//! everywhere), `dict` and `codes` (few distinct values), or `values`. The page finds the fronts of what is
//! filtered itself, so objectives are not rounded. Rows of fronts and curves are numbered as the embedded
//! columns.

use std::collections::BTreeMap;

use anyhow::Result;
use serde_json::{Value, json};

use super::curves::{self, rounded};
use crate::analysis::edge::Oracle;
use crate::analysis::front::Point;
use crate::analysis::scores::Run;
use crate::analysis::table::Cells;
use crate::report::names::{counted, label, sentence};
use crate::report::remarks;
use crate::report::study::Study;
use crate::report::verdict;
use crate::simulation::metric::{self, Better};
use crate::sweep::run::series::{cdf_name, judged};
use crate::sweep::tables::row::DERIVED_COLUMNS;

/// Bytes of JSON that the data may take: the page stays below 5 MB.
const BUDGET: usize = 4_600_000;
/// Bytes of that for columns; the rest is for curves.
const COLUMNS_BUDGET: usize = 3_200_000;
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
    let mut notes = vec![
        "Metrics on this page are rounded to 5 significant digits, but for latency and cost of the front; runs.parquet holds them in full."
            .to_owned(),
    ];
    let rows = embedded_rows(study);
    if rows.len() < study.run_ids.len() {
        let (some, all) = (counted(rows.len(), "run"), counted(study.run_ids.len(), "run"));
        notes.push(format!("The charts and the table of this page hold {some} of {all}: every front, and an even choice of the others."));
    }
    let keeps = verdict::keeps(study)?;
    let (mut columns, dropped) = columns(study, &rows)?;
    if keeps.iter().any(Option::is_some) {
        columns.as_array_mut().into_iter().for_each(|columns| columns.push(judged_column(&keeps, &rows)));
    }
    if !dropped.is_empty() {
        notes.push(format!(
            "To keep this page small it leaves out {}; runs.parquet holds all metrics.",
            dropped.join(", ")
        ));
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
        let look = study.looks[k];
        let dash = look.dash.map(|(dash, gap)| [dash, gap]);
        json!({ "label": family.label, "colour": look.hex(), "marker": look.marker_name, "dash": dash })
    });
    let workloads = study.analysis.workloads.iter().enumerate().map(|(w, workload)| {
        let reference = workload.reference.map(|reference| [reference.cost, reference.latency]);
        let ranked = study.analysis.scores_of(w).map(|score| score.family).collect::<Vec<_>>();
        let edge = |seed: String, points: Vec<Point>| {
            let points = points.iter().map(|point| [rounded(point.cost, 6), rounded(point.latency, 6)]).collect::<Vec<_>>();
            json!({ "seed": seed, "points": points })
        };
        let edges_of = |oracle: &Oracle| {
            // As the page's choice of seeds has it: none for all of them.
            let all = std::iter::once(edge(String::new(), oracle.attained(&workload.name)));
            let each = oracle.seeds(&workload.name).into_iter().map(|seed| edge(seed.to_string(), oracle.edge(&workload.name, seed, None)));
            all.chain(each).filter(|_| !oracle.seeds(&workload.name).is_empty()).collect::<Vec<_>>()
        };
        let (edges, informed) = (edges_of(&study.analysis.oracle), edges_of(&study.analysis.informed.reached));
        let judged = study.judged.iter().find(|judged| judged.workload == w);
        let limits = judged.into_iter().flat_map(|judged| &judged.verdict.constraints);
        let limits = limits.map(|constraint| json!({ "column": constraint.metric.name, "limit": constraint.limit })).collect::<Vec<_>>();
        let named = judged.and_then(|judged| judged.named()).map(|setting| setting.rows.iter().filter_map(|row| number.get(row)).collect::<Vec<_>>());
        json!({ "limits": limits, "verdict": named, "name": workload.name, "reference": reference, "ranked": ranked, "edges": edges, "informed": informed })
    });
    let (latency, cost) = study.objectives();
    let labels = metric::all().iter().map(|metric| {
        let better = match metric.better {
            Better::More => "more",
            _ => "less",
        };
        (metric.name.clone(), json!([label(&metric.name), better]))
    });
    let labels = labels.collect::<serde_json::Map<_, _>>();
    let judged = judged(&study.manifest.objectives);
    let json = json!({
        "latency": { "column": latency, "label": label(latency) },
        "distribution": { "curve": cdf_name(judged), "label": format!("{} (s)", sentence(judged.label)) },
        "attainment": remarks::has_attainment(study),
        "cost": { "column": cost, "label": label(cost) },
        "reference_given": study.analysis.reference_given,
        "labels": labels,
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
    let mut rows = study
        .analysis
        .fronts
        .iter()
        .flat_map(|front| front.rows.iter().copied())
        .chain((0..all).step_by(every))
        .collect::<Vec<_>>();
    rows.sort_unstable();
    rows.dedup();
    rows
}

/// The columns, and the names of metrics for which there was no room.
fn columns(study: &Study, rows: &[usize]) -> Result<(Value, Vec<String>)> {
    let runs = &study.analysis.runs;
    let numbered = |name: &str, names: Vec<&str>, code: fn(&Run) -> usize| {
        // By number, so that scripts and fronts name workloads and families alike.
        json!({ "name": name, "kind": "id", "dict": names, "codes": rows.iter().map(|&row| code(&runs[row])).collect::<Vec<_>>() })
    };
    let workloads = study.analysis.workloads.iter().map(|workload| workload.name.as_str()).collect();
    let families = study.analysis.families.iter().map(|family| family.label.as_str()).collect();
    let mut columns = vec![
        numbered("workload", workloads, |run| run.workload),
        numbered("family", families, |run| run.family),
    ];
    let (latency, cost) = study.objectives();
    let mut metrics = Vec::new();
    for column in study.runs.columns() {
        let name = column.name().as_str();
        let cells = Cells::of(column)?;
        match name {
            "workload" | "family" => {}
            "policy" => {}
            "run_id" | "seed" | "status" | "error" => columns.push(encoded(name, "id", &cells, rows)),
            _ if DERIVED_COLUMNS.contains(&name) => columns.push(encoded(name, "setting", &cells, rows)),
            _ if study.manifest.setting_columns.iter().any(|setting| setting == name) => {
                columns.push(encoded(name, "setting", &cells, rows))
            }
            _ if name == latency || name == cost => columns.push(encoded(name, "objective", &cells, rows)),
            _ if cells.is_numeric() => metrics.push((name, cells)),
            _ => {}
        }
    }
    let mut used = columns.iter().map(size).sum::<usize>();
    let mut dropped = Vec::new();
    for (name, cells) in metrics {
        let column = encoded(name, "metric", &cells, rows);
        let size = size(&column);
        if used + size > COLUMNS_BUDGET {
            dropped.push(name.to_owned());
        } else {
            used += size;
            columns.push(column);
        }
    }
    Ok((Value::Array(columns), dropped))
}

/// Whether runs keep every limit of their workload.
fn judged_column(keeps: &[Option<bool>], rows: &[usize]) -> Value {
    let values = rows.iter().map(|&row| json!(keeps[row])).collect::<Vec<_>>();
    json!({ "name": "keeps_limits", "kind": "judged", "values": values })
}

fn encoded(name: &str, kind: &str, cells: &Cells, rows: &[usize]) -> Value {
    let values = rows.iter().map(|&row| value(cells, row, kind == "metric")).collect::<Vec<_>>();
    let texts = values.iter().map(Value::to_string).collect::<Vec<_>>();
    let mut counts: BTreeMap<&str, (usize, &Value)> = BTreeMap::new();
    for (text, value) in texts.iter().zip(&values) {
        counts.entry(text).or_insert((0, value)).0 += 1;
    }
    if counts.len() == 1 {
        return json!({ "name": name, "kind": kind, "const": values[0] });
    }
    if counts.len() * 4 > values.len() {
        return json!({ "name": name, "kind": kind, "values": values });
    }
    // The commonest value gets the shortest code: that is often null, a setting of other families.
    let mut dict = counts.into_iter().collect::<Vec<_>>();
    dict.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    let codes = dict.iter().enumerate().map(|(code, (text, _))| (*text, code)).collect::<BTreeMap<_, _>>();
    json!({
        "name": name, "kind": kind, "dict": dict.iter().map(|(_, (_, value))| value).collect::<Vec<_>>(),
        "codes": texts.iter().map(|text| codes[text.as_str()]).collect::<Vec<_>>(),
    })
}

fn value(cells: &Cells, row: usize, round: bool) -> Value {
    match cells {
        Cells::Float(values) => {
            values.get(row).map_or(Value::Null, |value| if round { rounded(value, 5) } else { json!(value) })
        }
        Cells::Int(values) => json!(values.get(row)),
        Cells::Text(values) => json!(values.get(row)),
        Cells::Bool(values) => json!(values.get(row)),
    }
}

/// Settings worth a filter: a few texts, the same question for every family.
fn filters(study: &Study) -> Result<Vec<&str>> {
    let mut filters = Vec::new();
    for name in &study.manifest.setting_columns {
        // The legend tells families apart, and with them the autoscalers.
        if name == "autoscaler" || study.runs.get_column_index(name).is_none() {
            continue;
        }
        let Cells::Text(texts) = Cells::named(&study.runs, name)? else { continue };
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
        let shown = [0.123_456_7, 126_000.0, 35.841_23, 1.5e-7, f64::NAN, 0.0]
            .map(|value| rounded(value, 5).to_string());
        assert_eq!(shown, ["0.12346", "126000", "35.841", "1.5e-7", "null", "0"]);
    }
}
