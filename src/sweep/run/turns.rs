//! How turns of sessions fare, by their number: what `turns.parquet` holds.

use std::collections::BTreeMap;

use super::{Interrupted, Progress, for_each_cell, inputs_of};
use crate::simulation::{Detail, Distribution, Inputs, Parts, Workspace, simulate_parts_in_detail};
use crate::sweep::plan::Plan;

/// All turns of one number in a run.
#[derive(Debug, Clone, PartialEq)]
pub struct TurnFigures {
    /// From 1.
    pub turn: u32,
    /// Requests that were answered, and that were rejected.
    pub num_completed: u64,
    pub num_rejected: u64,
    /// Arrival to first token, of those that were answered.
    pub ttft_s: Option<Distribution>,
    pub mean_prefill_tokens: f64,
    /// Tokens of their prompts that were cached.
    pub mean_cached_tokens: f64,
}

impl TurnFigures {
    /// Share of prompt tokens that were cached.
    pub fn hit_rate(&self) -> f64 {
        if self.mean_prefill_tokens > 0.0 { self.mean_cached_tokens / self.mean_prefill_tokens } else { 0.0 }
    }
}

/// The turns of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunTurns {
    pub run_id: String,
    pub turns: Vec<TurnFigures>,
}

/// Those of the runs at `places` of the plan whose requests belong to sessions.
pub fn places_of_sessions(plan: &Plan, places: &[usize]) -> Vec<usize> {
    let has_sessions = |place: usize| {
        let cell = plan.cell(plan.unique()[place]);
        plan.inputs.workloads[cell.workload_input].content.sessions.is_some()
    };
    places.iter().copied().filter(|&place| has_sessions(place)).collect()
}

/// The turns of the runs at `places` of the plan, each of which is run once more to be recorded, on the
/// current rayon pool. Runs that fail have none.
pub fn of_runs(plan: &Plan, places: &[usize], progress: &dyn Progress) -> Result<Vec<RunTurns>, Interrupted> {
    let cells: Vec<u64> = places.iter().map(|&place| plan.unique()[place]).collect();
    let runs = for_each_cell(plan, &cells, progress, |cell, inputs, workspace: &mut Workspace| {
        let (_, detail) = match inputs_of(cell, inputs)? {
            Inputs::One(inputs) => simulate_parts_in_detail(&inputs, Parts::of(&inputs), workspace),
            fleet => fleet.simulate_in_detail(workspace),
        }
        .map_err(|error| error.to_string())?;
        Ok(RunTurns { run_id: plan.id(cell), turns: of_detail(&detail) })
    })?;
    Ok(runs.into_iter().flatten().collect())
}

/// The turns of a run in order of their numbers; none where requests do not belong to sessions.
pub fn of_detail(detail: &Detail) -> Vec<TurnFigures> {
    let mut by_turn: BTreeMap<u32, (Vec<f64>, u64, u64, u64)> = BTreeMap::new();
    for request in &detail.requests {
        let Some((_, turn)) = request.session else { continue };
        let (ttft_s, rejected, prefill, cached) = by_turn.entry(turn).or_default();
        match (request.completed_at_s, request.first_token_at_s) {
            (Some(_), Some(first_s)) => {
                ttft_s.push(first_s - request.arrived_at_s);
                *prefill += u64::from(request.prefill_tokens);
                *cached += u64::from(request.cached_tokens);
            }
            _ => *rejected += 1,
        }
    }
    let figures = by_turn.into_iter().map(|(turn, (ttft_s, num_rejected, prefill, cached))| {
        let num_completed = ttft_s.len() as u64;
        let mean = |sum: u64| if num_completed > 0 { sum as f64 / num_completed as f64 } else { 0.0 };
        let ttft_s = Distribution::of_values(ttft_s);
        TurnFigures {
            turn,
            num_completed,
            num_rejected,
            ttft_s,
            mean_prefill_tokens: mean(prefill),
            mean_cached_tokens: mean(cached),
        }
    });
    figures.collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::simulation::RequestRecord;

    #[test]
    fn turns_are_told_apart() {
        let request = |turn, ttft_s: Option<f64>, cached_tokens| RequestRecord {
            session: Some((0, turn)),
            first_token_at_s: ttft_s.map(|ttft_s| 10.0 + ttft_s),
            completed_at_s: ttft_s.map(|_| 20.0),
            cached_tokens,
            ..RequestRecord::new(0, 10.0, 100, 9)
        };
        let requests = vec![
            request(2, Some(1.0), 60),
            request(1, Some(4.0), 0),
            request(2, Some(3.0), 20),
            request(3, None, 0),
        ];
        let found = of_detail(&Detail { requests, ..Detail::default() });
        let numbers: Vec<_> = found
            .iter()
            .map(|turn| (turn.turn, turn.num_completed, turn.num_rejected, turn.hit_rate()))
            .collect();
        assert_eq!(numbers, [(1, 1, 0, 0.0), (2, 2, 0, 0.4), (3, 0, 1, 0.0)]);
        assert_eq!(
            (found[1].ttft_s.unwrap().p50, found[1].ttft_s.unwrap().max, found[2].ttft_s),
            (1.0, 3.0, None)
        );
        assert!(
            of_detail(&Detail { requests: vec![RequestRecord::new(0, 1.0, 1, 1)], ..Detail::default() })
                .is_empty()
        );
    }
}
