//! Round robin that passes over replicas which hold too much: each request to the next in turn whose
//! unfinished requests, with this one, would be at most `balance_factor` times the mean of all replicas,
//! rounded up.
//!
//! Requests that share batches wait least when they come to a replica evenly spaced, which taking turns does
//! better than joining the shortest queue: of equal queues that takes the same one again and again. But turns
//! go on filling a replica that has a backlog. Where requests are alike the bound hardly matters but then:
//! after a burst, or while new replicas are empty.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018, with turns
//! for the order of its ring; HAProxy's `hash-balance-factor` recommends factors of 1.25 to 2.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Load, RouterSettings, Target};
use crate::settings::Faults;
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoundedRoundRobinSettings {
    /// A request goes to a replica only if that then holds at most so many times the mean of all, rounded up;
    /// at least 1.
    pub balance_factor: f64,
}

impl Default for BoundedRoundRobinSettings {
    fn default() -> Self {
        Self { balance_factor: 1.5 }
    }
}

impl RouterSettings for BoundedRoundRobinSettings {
    fn check(&self, faults: &mut Faults) {
        let factor = self.balance_factor;
        faults.require(factor.is_finite() && factor >= 1.0, "balance_factor", || {
            format!("{factor} found, expected at least 1")
        });
    }

    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(BoundedRoundRobin {
            balance_factor: self.balance_factor,
            targets: Vec::new(),
            requests: Vec::new(),
            total: 0,
            turn: 0,
        })
    }
}

#[derive(Debug)]
struct BoundedRoundRobin {
    balance_factor: f64,
    /// In order of ids.
    targets: Vec<Target>,
    /// Unfinished requests by lane, and of all targets together.
    requests: Vec<u32>,
    total: u64,
    /// Place of the target whose turn it is.
    turn: usize,
}

impl BoundedRoundRobin {
    /// Of the target that is next. O(1 + replicas passed over).
    fn place(&self) -> Option<usize> {
        let count = self.targets.len();
        let most = (self.balance_factor * (self.total + 1) as f64 / count as f64).ceil() as u64;
        // One that holds no more than the mean always has room.
        let (before, after) = self.targets.split_at(self.turn);
        let place = after
            .iter()
            .chain(before)
            .position(|target| u64::from(self.requests[target.lane.index()]) < most)?;
        Some((self.turn + place) % count)
    }
}

impl GlobalScheduler for BoundedRoundRobin {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
        let lane = target.lane.index();
        self.requests.resize(self.requests.len().max(lane + 1), 0);
        self.requests[lane] = 0;
    }

    fn remove(&mut self, target: Target) {
        let Some(place) = self.targets.iter().position(|&other| other == target) else { return };
        self.targets.remove(place);
        self.total -= u64::from(std::mem::take(&mut self.requests[target.lane.index()]));
        // Whoever's turn it was still has it.
        self.turn -= usize::from(place < self.turn);
        if self.turn == self.targets.len() {
            self.turn = 0;
        }
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        let place = self.place()?;
        self.turn = (place + 1) % self.targets.len();
        Some(self.targets[place])
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        Some(self.targets[self.place()?])
    }

    /// The one with the fewest unfinished requests, of equals the lowest id.
    fn choose_drain(&mut self) -> Option<Target> {
        self.targets.iter().copied().min_by_key(|target| (self.requests[target.lane.index()], target.id))
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        let requests = &mut self.requests[target.lane.index()];
        self.total = self.total + u64::from(load.requests) - u64::from(*requests);
        *requests = load.requests;
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::{Lane, ReplicaId};
    use super::*;

    fn target(id: u32) -> Target {
        Target { lane: Lane(id), id: ReplicaId(id) }
    }

    fn router(balance_factor: f64) -> Box<dyn GlobalScheduler> {
        BoundedRoundRobinSettings { balance_factor }.build(0, 16)
    }

    #[test]
    fn takes_turns_and_passes_over_a_backlog() {
        let mut router = router(1.5);
        assert_eq!(router.route(1), None);
        (0..3).for_each(|id| router.add(target(id)));
        let turns = |router: &mut dyn GlobalScheduler, count| {
            (0..count).map(|_| router.route(1).unwrap().id.0).collect::<Vec<_>>()
        };
        assert_eq!(turns(&mut *router, 4), [0, 1, 2, 0]);
        router.set_load(target(1), Load { requests: 9, prefill_tokens: 9 });
        assert_eq!(turns(&mut *router, 3), [2, 0, 2], "1 holds more than 1.5 times 10 / 3");
        router.set_load(target(1), Load { requests: 0, prefill_tokens: 0 });
        assert_eq!(turns(&mut *router, 2), [0, 1]);
        router.remove(target(0));
        assert_eq!(turns(&mut *router, 2), [2, 1], "whose turn it was still has it");
    }

    /// The twin looks for the next in turn by definition, from scratch each time; replicas come and go, and
    /// lanes are used again.
    #[test]
    fn takes_whose_turn_it_is_within_the_bound() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
        for factor in [1.0, 1.25, 2.0] {
            let mut router = router(factor);
            // Targets in order of ids with what they hold, and the least id whose turn it can be.
            let (mut held, mut next, mut ids): (Vec<(Target, u32)>, u32, _) = (Vec::new(), 0, 0..);
            for _ in 0..4000 {
                match random.random_range(0..9) {
                    0 if held.len() < 9 => {
                        let lane = (0..)
                            .map(Lane)
                            .find(|lane| held.iter().all(|(target, _)| target.lane != *lane))
                            .unwrap();
                        let target = Target { lane, id: ReplicaId(ids.next().unwrap()) };
                        router.add(target);
                        held.push((target, 0));
                    }
                    1 if held.len() > 2 && random.random_bool(0.3) => {
                        let (target, _) = held.remove(random.random_range(0..held.len()));
                        router.remove(target);
                        // Behind the last comes the first, and keeps the turn whoever joins.
                        next = if held.iter().any(|(other, _)| other.id.0 >= next) { next } else { 0 };
                    }
                    2..=4 if !held.is_empty() => {
                        let place = random.random_range(0..held.len());
                        held[place].1 = held[place].1.saturating_sub(random.random_range(0..3));
                        router.set_load(held[place].0, Load { requests: held[place].1, prefill_tokens: 0 });
                    }
                    _ if !held.is_empty() => {
                        let total: u32 = held.iter().map(|&(_, requests)| requests).sum();
                        let most = (factor * f64::from(total + 1) / held.len() as f64).ceil();
                        let has_room = |&(_, requests): &(Target, u32)| f64::from(requests + 1) <= most;
                        let later = held.iter().position(|entry| entry.0.id.0 >= next && has_room(entry));
                        let place = later.or(held.iter().position(has_room)).unwrap();
                        let chosen = router.route(1).unwrap();
                        assert_eq!(chosen, held[place].0, "{held:?}, next {next}");
                        held[place].1 += 1;
                        router.set_load(chosen, Load { requests: held[place].1, prefill_tokens: 0 });
                        // Whose turn it is was settled when this one had its own.
                        next = held.get(place + 1).map_or(0, |(target, _)| target.id.0);
                    }
                    _ => {}
                }
            }
        }
    }
}
