//! Round robin: each request to the next replica in turn.
//!
//! Source: the lab's exercise (semantics pinned by its reference outputs): the counter never resets, so that
//! a change of replicas shifts the turn; the lowest id is drained first.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundRobinSettings {}

impl RouterSettings for RoundRobinSettings {
    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(RoundRobin::default())
    }
}

#[derive(Debug, Default)]
pub struct RoundRobin {
    /// In order of ids.
    targets: Vec<Target>,
    /// Requests routed so far, and the same modulo the number of targets.
    routed: u64,
    turn: usize,
}

impl RoundRobin {
    fn retake_turn(&mut self) {
        self.turn = (self.routed % self.targets.len().max(1) as u64) as usize;
    }
}

impl GlobalScheduler for RoundRobin {
    fn add(&mut self, target: Target) {
        self.targets.push(target);
        self.retake_turn();
    }

    fn remove(&mut self, target: Target) {
        self.targets.retain(|&other| other != target);
        self.retake_turn();
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        let target = *self.targets.get(self.turn)?;
        self.routed += 1;
        self.turn = if self.turn + 1 == self.targets.len() { 0 } else { self.turn + 1 };
        Some(target)
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        self.targets.get(self.turn).copied()
    }

    fn position(&self) -> Option<u64> {
        Some(self.routed)
    }

    fn go_to(&mut self, position: u64) {
        self.routed = position;
        self.retake_turn();
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.targets.first().copied()
    }
}
