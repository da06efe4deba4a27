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
    let short = quickly_rounded(value, digits)
        .unwrap_or_else(|| format!("{value:.*e}", digits - 1).parse().unwrap_or(value));
    if short.is_finite() && short.fract() == 0.0 && short.abs() < 1e15 {
        json!(short as i64)
    } else {
        json!(short)
    }
}

/// The number that is nearest to `value` in so many digits: none where it is very large or small, or about in
/// the middle between two.
///
/// Powers of ten are exact that far, and so are whole numbers of few digits: their quotient is the nearest to
/// that decimal, as if it were read.
fn quickly_rounded(value: f64, digits: usize) -> Option<f64> {
    const POWERS: [f64; 16] =
        [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15];
    const LARGEST_DECIMALS: usize = 15;
    debug_assert!(digits < 10, "beyond, rounding of the product could pass for a middle that is none");
    if value == 0.0 {
        return Some(value);
    }
    let most = *POWERS.get(digits)?;
    let magnitude = value.abs();
    if !(magnitude >= most / POWERS[LARGEST_DECIMALS] && magnitude < most) {
        return None;
    }
    // The fewest decimals that show all digits.
    let decimals = (0..LARGEST_DECIMALS).find(|&decimals| magnitude * POWERS[decimals + 1] >= most)?;
    let scaled = magnitude * POWERS[decimals];
    let whole = scaled.round();
    ((scaled - whole).abs() < 0.499_999).then(|| (whole / POWERS[decimals]).copysign(value))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin writes the decimal and reads it.
        #[test]
        fn rounding_is_that_of_decimals(
            value in prop_oneof![-2e6..2e6f64, -1.0..1.0f64, 0.0..1e-6f64, any::<f64>(), (0..4_000_000i32).prop_map(|n| f64::from(n) / 2000.0)],
            digits in 1..8usize,
        ) {
            let by_text: f64 = format!("{value:.*e}", digits - 1).parse().unwrap();
            let quickly = quickly_rounded(value, digits);
            prop_assert!(quickly.is_none_or(|quickly| quickly == by_text), "{quickly:?}, by text {by_text}");
        }
    }

    #[test]
    fn most_numbers_are_rounded_quickly() {
        for (value, digits, expected) in [
            (0.123_456, 4, Some(0.1235)),
            (9.999_96, 4, Some(10.0)),
            (-12.344_9, 4, Some(-12.34)),
            (1234.0, 4, Some(1234.0)),
            (0.1, 4, Some(0.1)),
            (0.000_012_346, 4, Some(0.000_012_35)),
            (2.5, 1, None),
            (12_345.0, 4, None),
            (0.0, 4, Some(0.0)),
            (f64::NAN, 4, None),
        ] {
            assert_eq!(quickly_rounded(value, digits), expected, "{value}");
        }
    }
}
