//! Least outstanding requests: each request to the replica with the fewest unfinished ones, ties to the
//! lowest id.
//!
//! Source: the lab's exercise. The replica with the fewest is also the one drained first, since it will be
//! done soonest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::least_loaded::LeastLoaded;
use super::{GlobalScheduler, Load, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeastOutstandingSettings {}

impl RouterSettings for LeastOutstandingSettings {
    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(LeastOutstanding::default())
    }
}

#[derive(Debug, Default)]
pub struct LeastOutstanding {
    loads: LeastLoaded,
}

impl GlobalScheduler for LeastOutstanding {
    fn add(&mut self, target: Target) {
        self.loads.set(target, 0);
    }

    fn remove(&mut self, target: Target) {
        self.loads.remove(target);
    }

    fn route(&mut self, _prefill_tokens: u32) -> Option<Target> {
        self.choose_drain()
    }

    fn would_route(
        &mut self,
        _prefill_tokens: u32,
        _prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        self.choose_drain()
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.loads.least().map(|(target, _)| target)
    }

    fn position(&self) -> Option<u64> {
        Some(0)
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        self.loads.set(target, load.requests);
    }
}
