//! Round robin: each request to the next replica in turn.
//!
//! Source: the lab's exercise (semantics pinned by its reference outputs): the counter never resets, so that a change of replicas shifts
//! the turn; the lowest id is drained first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Target};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundRobinSettings {}

#[derive(Debug, Default)]
pub struct RoundRobin {
    /// In order of ids.
    targets: Vec<Target>,
    routed: u64,
}

impl GlobalScheduler for RoundRobin {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
    }

    fn remove(&mut self, target: Target) {
        self.targets.retain(|&other| other != target);
    }

    fn route(&mut self) -> Option<Target> {
        if self.targets.is_empty() {
            return None;
        }
        let turn = self.routed % self.targets.len() as u64;
        self.routed += 1;
        Some(self.targets[turn as usize])
    }

    fn choose_drain(&self) -> Option<Target> {
        self.targets.first().copied()
    }
}
