//! Random: each request to a replica drawn uniformly, from a stream of its own. The lowest id is drained
//! first.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RandomSettings {}

impl RouterSettings for RandomSettings {
    fn build(&self, seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(Random {
            targets: Vec::new(),
            stream: crate::random::stream(seed, "global_scheduler.random"),
        })
    }

    fn draws(&self) -> bool {
        true
    }
}

#[derive(Debug)]
struct Random {
    /// In order of ids.
    targets: Vec<Target>,
    stream: Xoshiro256PlusPlus,
}

impl GlobalScheduler for Random {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
    }

    fn remove(&mut self, target: Target) {
        self.targets.retain(|&other| other != target);
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        if self.targets.is_empty() {
            return None;
        }
        Some(self.targets[self.stream.random_range(0..self.targets.len())])
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        if self.targets.is_empty() {
            return None;
        }
        Some(self.targets[self.stream.clone().random_range(0..self.targets.len())])
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.targets.first().copied()
    }
}
