//! Turns of sessions by their numbers (`turns.parquet`): a row a run and number.

use std::path::Path;

use anyhow::Result;

use super::table::{Column, Described, TableFormat, write_described};
use crate::simulation::Distribution;
use crate::sweep::run::turns::{RunTurns, TurnFigures};

/// The columns of turns by their numbers.
pub fn columns(turns: &[&TurnFigures]) -> Vec<Described> {
    let float =
        |value: &dyn Fn(&TurnFigures) -> f64| Column::Float(turns.iter().map(|turn| value(turn)).collect());
    let int = |value: &dyn Fn(&TurnFigures) -> u64| {
        Column::Int(turns.iter().map(|turn| value(turn) as i64).collect())
    };
    let ttft = |value: &dyn Fn(&Distribution) -> f64| {
        Column::OptionalFloat(turns.iter().map(|turn| turn.ttft_s.as_ref().map(value)).collect())
    };
    vec![
        ("turn", "Number of the turn in its session, from 1.", int(&|turn| turn.turn.into())),
        ("num_completed", "Requests with it that were answered.", int(&|turn| turn.num_completed)),
        ("num_rejected", "Requests with it that were rejected or cut off.", int(&|turn| turn.num_rejected)),
        ("mean_ttft_s", "Arrival to first token of those answered: mean.", ttft(&|ttft| ttft.mean)),
        ("p50_ttft_s", "The same: 50th percentile (nearest rank).", ttft(&|ttft| ttft.p50)),
        ("p90_ttft_s", "The same: 90th percentile (nearest rank).", ttft(&|ttft| ttft.p90)),
        ("p99_ttft_s", "The same: 99th percentile (nearest rank).", ttft(&|ttft| ttft.p99)),
        ("mean_prefill_tokens", "Mean length of their prompts.", float(&|turn| turn.mean_prefill_tokens)),
        (
            "mean_cached_tokens",
            "Tokens of them that were cached, mean.",
            float(&|turn| turn.mean_cached_tokens),
        ),
        ("hit_rate", "Share of prompt tokens that were cached.", float(&TurnFigures::hit_rate)),
    ]
}

/// Stores the turns of `runs`, in their order.
pub fn write_turns(runs: &[RunTurns], path: &Path) -> Result<()> {
    let ids = runs.iter().flat_map(|run| run.turns.iter().map(|_| run.run_id.clone())).collect();
    let turns: Vec<&TurnFigures> = runs.iter().flat_map(|run| &run.turns).collect();
    let mut all = vec![("run_id", "The run.", Column::Text(ids))];
    all.extend(columns(&turns));
    write_described(all, path, TableFormat::Parquet)
}
