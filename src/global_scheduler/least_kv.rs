//! Least KV use: each request to the replica with the fewest KV blocks in use, as far as the router knows.
//!
//! Replicas report at every scrape, as in llm-d's endpoint picker; until the next report the router adds the
//! prompts it has sent since. The signal is at most one scrape interval old. Ties go to the lowest id.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::least_loaded::LeastLoaded;
use super::{GlobalScheduler, RouterSettings, Target};
use crate::settings::Faults;
use crate::workload::Prompt;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct LeastKvSettings {
    /// How often replicas report their KV use.
    pub scrape_interval_s: f64,
}

impl Default for LeastKvSettings {
    fn default() -> Self {
        Self { scrape_interval_s: 1.0 }
    }
}

impl RouterSettings for LeastKvSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("scrape_interval_s", self.scrape_interval_s);
    }

    fn build(&self, _seed: u64, block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(LeastKv {
            loads: LeastLoaded::default(),
            block_size_tokens,
            scrape_interval_s: self.scrape_interval_s,
        })
    }
}

#[derive(Debug)]
struct LeastKv {
    loads: LeastLoaded,
    block_size_tokens: u32,
    scrape_interval_s: f64,
}

impl GlobalScheduler for LeastKv {
    fn add(&mut self, target: Target) {
        self.loads.set(target, 0);
    }

    fn remove(&mut self, target: Target) {
        self.loads.remove(target);
    }

    fn route(&mut self, prefill_tokens: u32) -> Option<Target> {
        let (target, blocks) = self.loads.least()?;
        self.loads.set(target, blocks.saturating_add(prefill_tokens.div_ceil(self.block_size_tokens)));
        Some(target)
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

    fn scrape_interval_s(&self) -> Option<f64> {
        Some(self.scrape_interval_s)
    }

    fn report_kv(&mut self, target: Target, used_blocks: u32) {
        self.loads.set(target, used_blocks);
    }
}
