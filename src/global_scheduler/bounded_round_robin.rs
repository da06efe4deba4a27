//! Round robin that passes over replicas which hold too much: each request to the next in turn whose unfinished requests, with this one,
//! would be at most `balance_factor` times the mean of all replicas, rounded up.
//!
//! Requests that share batches wait least when they come to a replica evenly spaced, which taking turns does better than joining the
//! shortest queue: of equal queues that takes the same one again and again. But turns go on filling a replica that has a backlog. The
//! bound matters only then: after a burst, or while new replicas are empty.
//!
//! Source: Mirrokni, Thorup, Zadimoghaddam, "Consistent hashing with bounded loads", SODA 2018, with turns for the order of its ring;
//! HAProxy's `hash-balance-factor` recommends factors of 1.2 to 2.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Load, RouterSettings, Target};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BoundedRoundRobinSettings {
    /// A replica holds at most so many times the mean of all; at least 1.
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
        faults.require(factor.is_finite() && factor >= 1.0, "balance_factor", || format!("{factor} found, expected at least 1"));
    }

    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(BoundedRoundRobin { balance_factor: self.balance_factor, targets: Vec::new(), requests: Vec::new(), total: 0, turn: 0 })
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

impl GlobalScheduler for BoundedRoundRobin {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
        let lane = target.lane as usize;
        self.requests.resize(self.requests.len().max(lane + 1), 0);
        self.requests[lane] = 0;
    }

    fn remove(&mut self, target: Target) {
        let Some(place) = self.targets.iter().position(|&other| other == target) else { return };
        self.targets.remove(place);
        self.total -= u64::from(std::mem::take(&mut self.requests[target.lane as usize]));
        // Whoever's turn it was still has it.
        self.turn -= usize::from(place < self.turn);
        if self.turn == self.targets.len() {
            self.turn = 0;
        }
    }

    /// O(1 + replicas passed over).
    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        let count = self.targets.len();
        let most = (self.balance_factor * (self.total + 1) as f64 / count as f64).ceil() as u64;
        // One that holds no more than the mean always has room.
        let (before, after) = self.targets.split_at(self.turn);
        let place = after.iter().chain(before).position(|target| u64::from(self.requests[target.lane as usize]) < most)?;
        let place = (self.turn + place) % count;
        self.turn = (place + 1) % count;
        Some(self.targets[place])
    }

    /// The one with the fewest unfinished requests, of equals the lowest id.
    fn choose_drain(&mut self) -> Option<Target> {
        self.targets.iter().copied().min_by_key(|target| (self.requests[target.lane as usize], target.id))
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        let requests = &mut self.requests[target.lane as usize];
        self.total = self.total + u64::from(load.requests) - u64::from(*requests);
        *requests = load.requests;
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    fn target(id: u32) -> Target {
        Target { lane: id, id }
    }

    fn router(balance_factor: f64) -> Box<dyn GlobalScheduler> {
        BoundedRoundRobinSettings { balance_factor }.build(0, 16)
    }

    #[test]
    fn takes_turns_and_passes_over_a_backlog() {
        let mut router = router(1.5);
        assert_eq!(router.route(1), None);
        (0..3).for_each(|id| router.add(target(id)));
        let turns = |router: &mut dyn GlobalScheduler, count| (0..count).map(|_| router.route(1).unwrap().id).collect::<Vec<_>>();
        assert_eq!(turns(&mut *router, 4), [0, 1, 2, 0]);
        router.set_load(target(1), Load { requests: 9, prefill_tokens: 9 });
        assert_eq!(turns(&mut *router, 3), [2, 0, 2], "1 holds more than 1.5 times 10 / 3");
        router.set_load(target(1), Load { requests: 0, prefill_tokens: 0 });
        assert_eq!(turns(&mut *router, 2), [0, 1]);
        router.remove(target(0));
        assert_eq!(turns(&mut *router, 2), [2, 1], "whose turn it was still has it");
    }

    /// The twin does it by definition, from scratch each time.
    #[test]
    fn stays_within_its_bound() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(8);
        for factor in [1.0, 1.25, 2.0] {
            let (mut router, mut loads, mut ids) = (router(factor), Vec::new(), Vec::new());
            for step in 0..4000 {
                match random.random_range(0..8) {
                    0 if ids.len() < 9 => {
                        let id = loads.len() as u32;
                        router.add(target(id));
                        ids.push(id);
                        loads.push(0_u32);
                    }
                    1 if ids.len() > 2 && step % 5 == 0 => {
                        let id = ids.remove(random.random_range(0..ids.len()));
                        router.remove(target(id));
                    }
                    2..=4 if !ids.is_empty() => {
                        let id = ids[random.random_range(0..ids.len())];
                        loads[id as usize] = loads[id as usize].saturating_sub(random.random_range(0..3));
                        router.set_load(target(id), Load { requests: loads[id as usize], prefill_tokens: 0 });
                    }
                    _ if !ids.is_empty() => {
                        let total: u32 = ids.iter().map(|&id| loads[id as usize]).sum();
                        let most = (factor * f64::from(total + 1) / ids.len() as f64).ceil();
                        let id = router.route(1).unwrap().id;
                        assert!(ids.contains(&id));
                        loads[id as usize] += 1;
                        assert!(f64::from(loads[id as usize]) <= most, "{id} holds {}, at most {most}", loads[id as usize]);
                        router.set_load(target(id), Load { requests: loads[id as usize], prefill_tokens: 0 });
                    }
                    _ => {}
                }
            }
        }
    }
}
