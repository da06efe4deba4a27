//! The curves of runs on fronts, thinned, and stored once where runs share them (as they share their
//! arrivals).

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::report::study::Study;
use crate::report::thin::thin;

/// Points of a curve; the page draws them on some hundred pixels.
const MAX_POINTS: usize = 400;

pub struct Curves {
    /// `{"x": [..] or [start, step], "y": [..]}`; `even` tells the two apart.
    pub pool: Vec<Value>,
    /// Embedded row -> name of the curve -> place in the pool.
    pub runs: Map<String, Value>,
    /// Runs whose curves did not fit.
    pub left_out: usize,
}

/// Curves worth at most `budget` bytes: notable points of each front first, then the rest. `number` gives
/// embedded rows.
pub fn of(study: &Study, number: &BTreeMap<usize, usize>, budget: usize) -> Curves {
    let notable = study.analysis.fronts.iter().flat_map(|front| {
        let highlights = study.analysis.highlights(front);
        [highlights.balanced, highlights.cheapest, highlights.fastest]
    });
    let others = study.analysis.fronts.iter().flat_map(|front| front.rows.iter().copied());
    let mut curves = Curves { pool: Vec::new(), runs: Map::new(), left_out: 0 };
    let mut known: BTreeMap<String, usize> = BTreeMap::new();
    let mut used = 0;
    for row in notable.chain(others) {
        let key = number[&row].to_string();
        let Some(series) = study.series.get(&study.run_ids[row]) else { continue };
        if curves.runs.contains_key(&key) {
            continue;
        }
        let encoded = series
            .iter()
            .filter(|(_, points)| !points.is_empty())
            .map(|(name, points)| (name, encoded(points)))
            .collect::<Vec<_>>();
        let texts = encoded.iter().map(|(_, curve)| curve.to_string()).collect::<Vec<_>>();
        let cost =
            texts.iter().filter(|text| !known.contains_key(*text)).map(|text| text.len() + 1).sum::<usize>();
        if used + cost > budget {
            curves.left_out += 1;
            curves.runs.insert(key, Value::Null);
            continue;
        }
        used += cost;
        let mut places = Map::new();
        for ((name, curve), text) in encoded.into_iter().zip(texts) {
            let place = *known.entry(text).or_insert_with(|| {
                curves.pool.push(curve);
                curves.pool.len() - 1
            });
            places.insert(name.clone(), json!(place));
        }
        used += key.len() + 100; // names and places
        curves.runs.insert(key, Value::Object(places));
    }
    curves.runs.retain(|_, places| !places.is_null());
    curves
}

fn encoded(points: &[(f64, f64)]) -> Value {
    let points = thin(points, MAX_POINTS);
    let y = points.iter().map(|point| rounded(point.1, 4)).collect::<Vec<_>>();
    let step = points.get(1).map_or(1.0, |second| second.0 - points[0].0);
    let even = points.len() > 2
        && points
            .iter()
            .enumerate()
            .all(|(k, point)| (point.0 - points[0].0 - step * k as f64).abs() <= step.abs() * 1e-6);
    if even {
        return json!({ "even": true, "x": [points[0].0, step], "y": y });
    }
    json!({ "x": points.iter().map(|point| rounded(point.0, 6)).collect::<Vec<_>>(), "y": y })
}

/// `value` to a number of significant digits, in the fewest characters; null when not finite.
pub fn rounded(value: f64, digits: usize) -> Value {
    let short = format!("{value:.*e}", digits - 1).parse::<f64>().unwrap_or(value);
    if short.is_finite() && short.fract() == 0.0 && short.abs() < 1e15 {
        json!(short as i64)
    } else {
        json!(short)
    }
}
