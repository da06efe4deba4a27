//! Which pool a request goes to.

use super::settings::PoolRouter;
use crate::hardware::BatchShape;
use crate::simulation::RunInputs;

/// A pool as the router sees it.
#[derive(Debug, Clone, Copy)]
pub struct Candidate {
    pub pool: usize,
    pub serving: u32,
    /// Requests there.
    pub outstanding: u32,
}

/// What is known of a pool beforehand.
#[derive(Debug, Clone, Copy)]
pub struct Known {
    pub batch_size_cap: u32,
    /// Tokens that a busy replica computes in a second: of prompts, or, where it does not prefill, of
    /// answers.
    pub tokens_per_s: f64,
    /// Dollars an hour for the devices of one replica.
    pub replica_usd_per_hour: f64,
}

/// Prompt tokens of a step by which replicas are compared, or decodes and the tokens each has in the cache.
const PROMPT_TOKENS: u32 = 2048;
const DECODES: u32 = 32;
const CACHED_TOKENS: u32 = 2048;

impl Known {
    pub fn of(inputs: &RunInputs, decodes_only: bool) -> Self {
        let mut shape = BatchShape::default();
        if decodes_only {
            (0..DECODES).for_each(|_| shape.add_decode(CACHED_TOKENS));
        } else {
            shape.add_prefill(PROMPT_TOKENS, 0);
        }
        Self {
            batch_size_cap: inputs.scheduler_settings.common().batch_size_cap,
            tokens_per_s: shape.total_tokens as f64 / inputs.execution_time.step_time_s(&shape),
            replica_usd_per_hour: inputs.replica_cost_per_hour(),
        }
    }

    /// What a token costs on a busy replica, up to a factor.
    pub fn price(&self) -> f64 {
        self.replica_usd_per_hour / self.tokens_per_s
    }
}

/// The rule, with what it keeps.
#[derive(Debug)]
pub struct Router<'a> {
    rule: &'a PoolRouter,
    /// Names and facts of pools, by their numbers.
    names: Vec<&'a str>,
    known: Vec<Known>,
    /// Requests each was given.
    given: Vec<u64>,
}

impl<'a> Router<'a> {
    pub fn new(rule: &'a PoolRouter, names: Vec<&'a str>, known: Vec<Known>) -> Self {
        let given = vec![0; names.len()];
        Self { rule, names, known, given }
    }

    /// What is known of pools, by their numbers.
    pub fn known(&self) -> &[Known] {
        &self.known
    }

    /// Chooses among pools, of which there is at least one.
    pub fn choose(&mut self, candidates: &[Candidate], prefill_tokens: u32) -> usize {
        let chosen = if candidates.len() == 1 {
            candidates[0].pool
        } else {
            self.choose_of_several(candidates, prefill_tokens)
        };
        self.take(chosen)
    }

    /// Takes note of a pool that is chosen.
    pub fn take(&mut self, chosen: usize) -> usize {
        self.given[chosen] += 1;
        chosen
    }

    /// Which pool would be chosen now, if any can.
    pub fn peek(&self, candidates: &[Candidate], prefill_tokens: u32) -> Option<usize> {
        (!candidates.is_empty()).then(|| self.choose_of_several(candidates, prefill_tokens))
    }

    fn choose_of_several(&self, candidates: &[Candidate], prefill_tokens: u32) -> usize {
        match self.rule {
            PoolRouter::FirstWithRoom(_) => self.first_with_room(candidates),
            PoolRouter::LeastLoaded(_) => self.least_loaded(candidates),
            PoolRouter::Cheapest(_) => {
                let mut by_price = candidates.to_vec();
                by_price.sort_by(|a, b| {
                    self.known[a.pool]
                        .price()
                        .total_cmp(&self.known[b.pool].price())
                        .then(a.pool.cmp(&b.pool))
                });
                self.first_with_room(&by_price)
            }
            PoolRouter::Length(length) => {
                let is_short = |candidate: &&Candidate| self.names[candidate.pool] == length.pool;
                let short = candidates.iter().find(is_short);
                let others: Vec<Candidate> =
                    candidates.iter().filter(|candidate| !is_short(candidate)).copied().collect();
                match short {
                    Some(short) if prefill_tokens < length.below_tokens || others.is_empty() => short.pool,
                    _ => self.first_with_room(&others),
                }
            }
            PoolRouter::Weighted(weighted) => {
                let due = |candidate: &Candidate| {
                    let weight = weighted.weights.get(self.names[candidate.pool]).copied().unwrap_or(0.0);
                    (self.given[candidate.pool] + 1) as f64 / weight
                };
                first_least(candidates, due)
            }
        }
    }

    /// The first that has replicas with room for one more request in a batch; the least loaded if none has.
    fn first_with_room(&self, candidates: &[Candidate]) -> usize {
        let has_room = |candidate: &&Candidate| {
            u64::from(candidate.outstanding)
                < u64::from(candidate.serving) * u64::from(self.known[candidate.pool].batch_size_cap)
        };
        candidates
            .iter()
            .find(has_room)
            .map_or_else(|| self.least_loaded(candidates), |candidate| candidate.pool)
    }

    /// The one with fewest requests for what its replicas compute in a second.
    fn least_loaded(&self, candidates: &[Candidate]) -> usize {
        first_least(candidates, |candidate| {
            f64::from(candidate.outstanding + 1)
                / (f64::from(candidate.serving) * self.known[candidate.pool].tokens_per_s)
        })
    }
}

fn first_least(candidates: &[Candidate], key: impl Fn(&Candidate) -> f64) -> usize {
    let least = candidates.iter().min_by(|a, b| key(a).total_cmp(&key(b)));
    least.expect("there is a candidate").pool
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde_json::json;

    use super::*;

    fn choices(rule: serde_json::Value, requests: &[(u32, [u32; 2])]) -> Vec<usize> {
        let rule: PoolRouter = serde_json::from_value(rule).unwrap();
        let known = |tokens_per_s, replica_usd_per_hour| Known {
            batch_size_cap: 4,
            tokens_per_s,
            replica_usd_per_hour,
        };
        let mut router = Router::new(&rule, vec!["big", "small"], vec![known(100.0, 10.0), known(25.0, 1.0)]);
        let candidates = |outstanding: [u32; 2]| {
            [0, 1].map(|pool| Candidate { pool, serving: 1, outstanding: outstanding[pool] })
        };
        requests
            .iter()
            .map(|&(prefill_tokens, outstanding)| router.choose(&candidates(outstanding), prefill_tokens))
            .collect()
    }

    #[test]
    fn rules_choose_as_they_say() {
        let loads = [(10, [0, 0]), (10, [3, 1]), (10, [4, 1]), (10, [4, 4]), (10, [8, 0])];
        assert_eq!(choices(json!("first_with_room"), &loads), [0, 0, 1, 0, 1]);
        assert_eq!(choices(json!("least_loaded"), &loads), [0, 0, 0, 0, 1]);
        // The small one asks 0.04 dollars for what the big one asks 0.1.
        assert_eq!(choices(json!("cheapest"), &loads), [1, 1, 1, 0, 1]);
        let lengths = [(99, [9, 9]), (100, [9, 9]), (5, [0, 0])];
        assert_eq!(choices(json!({"length": {"below_tokens": 100, "pool": "small"}}), &lengths), [1, 0, 1]);
        let found = choices(json!({"weighted": {"weights": {"big": 3, "small": 1}}}), &[(1, [0, 0]); 400]);
        let mut counts = BTreeMap::new();
        found.iter().for_each(|pool| *counts.entry(*pool).or_insert(0) += 1);
        assert_eq!(counts, BTreeMap::from([(0, 300), (1, 100)]));
    }
}
