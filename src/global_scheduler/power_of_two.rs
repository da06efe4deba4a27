//! The power of two choices: two different replicas are drawn, the request goes to the one with fewer
//! unfinished requests, ties to the lower id.
//!
//! Source: Mitzenmacher, "The power of two choices in randomized load balancing", IEEE TPDS 12(10), 2001.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Load, ReplicaId, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PowerOfTwoSettings {}

impl RouterSettings for PowerOfTwoSettings {
    fn build(&self, seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        let stream = crate::random::stream(seed, "global_scheduler.power_of_two");
        Box::new(PowerOfTwo { targets: Vec::new(), requests: Vec::new(), stream })
    }

    fn draws(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct PowerOfTwo {
    /// In order of ids.
    targets: Vec<Target>,
    /// Unfinished requests by lane.
    requests: Vec<u32>,
    stream: Xoshiro256PlusPlus,
}

impl PowerOfTwo {
    fn key(&self, target: Target) -> (u32, ReplicaId) {
        (self.requests[target.lane.index()], target.id)
    }

    fn choose(&self, stream: &mut Xoshiro256PlusPlus) -> Option<Target> {
        match self.targets[..] {
            [] => None,
            [only] => Some(only),
            _ => {
                let first = stream.random_range(0..self.targets.len());
                // The second is drawn among the others.
                let second = stream.random_range(0..self.targets.len() - 1);
                let (first, second) =
                    (self.targets[first], self.targets[second + usize::from(second >= first)]);
                Some(if self.key(first) < self.key(second) { first } else { second })
            }
        }
    }
}

impl GlobalScheduler for PowerOfTwo {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
        let lane = target.lane.index();
        self.requests.resize(self.requests.len().max(lane + 1), 0);
        self.requests[lane] = 0;
    }

    fn remove(&mut self, target: Target) {
        self.targets.retain(|&other| other != target);
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        let mut stream = self.stream.clone();
        let target = self.choose(&mut stream);
        self.stream = stream;
        target
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        self.choose(&mut self.stream.clone())
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.targets.iter().copied().min_by_key(|&target| self.key(target))
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        self.requests[target.lane.index()] = load.requests;
    }
}
