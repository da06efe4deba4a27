//! Join the shortest queue, measured in tokens: each request to the replica whose unfinished requests have
//! the shortest prompts in all, ties to the lowest id.
//!
//! Source: "token JSQ" of splitwise-sim (Patel et al., ISCA 2024), which counts outputs as well; their
//! lengths cannot be known.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::least_loaded::LeastLoaded;
use super::{GlobalScheduler, Load, RouterSettings, Target};
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeastTokensSettings {}

impl RouterSettings for LeastTokensSettings {
    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(LeastTokens::default())
    }
}

#[derive(Debug, Default)]
struct LeastTokens {
    loads: LeastLoaded,
}

impl GlobalScheduler for LeastTokens {
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
        let tokens = u32::try_from(load.prefill_tokens).unwrap_or(u32::MAX);
        self.loads.set(target, tokens);
    }
}
