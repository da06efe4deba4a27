//! The rows as a table.

use super::{CaseScore, Chosen, PolicyScore, Scores};
use crate::analysis::Column;

/// A row a policy and case: `policy`, `program`, `version`, `case`, `levels`, `runs`, `failed`,
/// `share_of_clairvoyant_edge`, `share_of_informed_edge`, and of the chosen level `settings`, `kept_limits`,
/// `cost_usd`, `cost_over_fixed_fleet`, `tail_of_limit`, `p99_e2e_s`, `scale_ups_per_day`.
pub fn columns(scores: &Scores) -> Vec<(&'static str, Column)> {
    let rows: Vec<(&PolicyScore, &CaseScore)> =
        scores.rows.iter().flat_map(|row| row.cases.iter().map(move |case| (row, case))).collect();
    let text = |of: &dyn Fn(&PolicyScore, &CaseScore) -> String| {
        Column::Text(rows.iter().map(|(row, case)| of(row, case)).collect())
    };
    let count =
        |of: fn(&CaseScore) -> usize| Column::Int(rows.iter().map(|(_, case)| of(case) as i64).collect());
    let chosen = |of: fn(&Chosen) -> f64| {
        Column::OptionalFloat(rows.iter().map(|(_, case)| case.chosen.as_ref().map(of)).collect())
    };
    let over_fixed = |case: &CaseScore| {
        let fixed = scores.yardsticks.iter().find(|yardstick| yardstick.case == case.case)?.fixed_fleet_usd?;
        Some(case.chosen.as_ref()?.cost_usd / fixed)
    };
    let of_informed = |case: &CaseScore| {
        let own = scores.yardsticks.iter().find(|yardstick| yardstick.case == case.case)?;
        Some(case.share / own.informed_share()?)
    };
    vec![
        ("policy", text(&|row, _| row.policy.family.clone())),
        ("program", text(&|row, _| row.policy.program.clone())),
        ("version", text(&|row, _| row.policy.version.clone())),
        ("case", text(&|_, case| case.case.clone())),
        ("levels", count(|case| case.levels)),
        ("runs", count(|case| case.runs)),
        ("failed", count(|case| case.failed)),
        ("share_of_clairvoyant_edge", Column::Float(rows.iter().map(|(_, case)| case.share).collect())),
        (
            "share_of_informed_edge",
            Column::OptionalFloat(rows.iter().map(|(_, case)| of_informed(case)).collect()),
        ),
        (
            "settings",
            text(&|_, case| case.chosen.as_ref().map_or(String::new(), |chosen| chosen.settings.clone())),
        ),
        (
            "kept_limits",
            Column::OptionalBool(
                rows.iter().map(|(_, case)| case.chosen.as_ref().map(|chosen| chosen.kept)).collect(),
            ),
        ),
        ("cost_usd", chosen(|chosen| chosen.cost_usd)),
        (
            "cost_over_fixed_fleet",
            Column::OptionalFloat(rows.iter().map(|(_, case)| over_fixed(case)).collect()),
        ),
        ("tail_of_limit", chosen(|chosen| chosen.of_limit)),
        ("p99_e2e_s", chosen(|chosen| chosen.p99_e2e_s)),
        ("scale_ups_per_day", chosen(|chosen| chosen.scale_ups_per_day)),
    ]
}
