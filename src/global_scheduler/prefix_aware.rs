//! Prefix aware: each request to where most of its prompt is thought to be cached, unless too much is to be
//! done there already.
//!
//! Source: the KV router of NVIDIA Dynamo (`lib/llm/src/kv_router`): each replica costs `prefix_weight` x the
//! prompt tokens it would have to compute + the prompt tokens routed to it and not finished; the cheapest is
//! taken, ties to the lowest id. Dynamo counts the latter in active blocks, which replicas report.
//!
//! A router does not see into caches. As the approximate indexers of Dynamo and llm-d do, it remembers which
//! prompts it has sent where, and takes what it sent to a replica for cached until `believed_cache_tokens`
//! new tokens have followed. Evictions it does not hear of. Where a workload does not say which prompts begin
//! alike, only the load counts.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{GlobalScheduler, Load, RouterSettings, Target};
use crate::settings::Faults;
use crate::workload::{Prompt, Run};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixAwareSettings {
    /// What a prompt token to be computed counts against one of the replica's unfinished prompts. 0 looks at
    /// the load alone.
    pub prefix_weight: f64,
    /// Prompt tokens a replica is thought to keep.
    pub believed_cache_tokens: u64,
}

impl Default for PrefixAwareSettings {
    fn default() -> Self {
        Self { prefix_weight: 1.0, believed_cache_tokens: 400_000 }
    }
}

impl RouterSettings for PrefixAwareSettings {
    fn check(&self, faults: &mut Faults) {
        faults.not_negative("prefix_weight", self.prefix_weight);
        faults.at_least("believed_cache_tokens", self.believed_cache_tokens, 1);
    }

    fn build(&self, _seed: u64, _block_size_tokens: u32) -> Box<dyn GlobalScheduler> {
        Box::new(PrefixAware { settings: self.clone(), replicas: Vec::new() })
    }
}

/// What the router knows of a replica.
#[derive(Debug)]
struct Known {
    target: Target,
    load: Load,
    /// Prompt tokens sent that were not thought to be cached.
    sent_tokens: u64,
    /// By run of hash blocks: `sent_tokens` when it was last sent, plus 1; 0 if it never was.
    sent_at: Vec<u64>,
}

impl Known {
    /// Leading tokens of a prompt thought to be cached.
    fn cached_tokens(&self, prompt: &Prompt, believed_cache_tokens: u64) -> u64 {
        let is_cached = |run: &&Run| {
            let sent_at = self.sent_at.get(run.id as usize).copied().unwrap_or_default();
            sent_at > 0 && self.sent_tokens + 1 - sent_at <= believed_cache_tokens
        };
        let cached = prompt.runs.iter().take_while(is_cached).last().map_or(0, |run| run.end);
        u64::from(cached) * u64::from(prompt.block_tokens)
    }

    fn send(&mut self, uncached_tokens: u64, prompt: &Prompt) {
        self.sent_tokens += uncached_tokens;
        if let Some(most) = prompt.runs.iter().map(|run| run.id as usize).max()
            && most >= self.sent_at.len()
        {
            self.sent_at.resize((most + 1).next_power_of_two(), 0);
        }
        for run in prompt.runs {
            self.sent_at[run.id as usize] = self.sent_tokens + 1;
        }
    }
}

#[derive(Debug)]
struct PrefixAware {
    settings: PrefixAwareSettings,
    /// In order of ids.
    replicas: Vec<Known>,
}

/// A prompt of which it is not known which others begin alike.
const NOTHING_KNOWN: Prompt = Prompt { runs: &[], block_tokens: 1 };

impl PrefixAware {
    /// The place of the replica that costs least, and the tokens that it would have to compute.
    fn cheapest(&self, prefill_tokens: u32, prompt: &Prompt) -> Option<(usize, u64)> {
        let prompt_tokens = u64::from(prefill_tokens);
        let (mut best, mut least, mut uncached_tokens) = (None, f64::INFINITY, 0);
        for (index, known) in self.replicas.iter().enumerate() {
            let uncached = prompt_tokens
                .saturating_sub(known.cached_tokens(prompt, self.settings.believed_cache_tokens));
            let cost = self.settings.prefix_weight * uncached as f64 + known.load.prefill_tokens as f64;
            if cost < least {
                (best, least, uncached_tokens) = (Some(index), cost, uncached);
            }
        }
        Some((best?, uncached_tokens))
    }
}

impl GlobalScheduler for PrefixAware {
    fn add(&mut self, target: Target) {
        self.replicas.push(Known { target, load: Load::default(), sent_tokens: 0, sent_at: Vec::new() });
    }

    fn remove(&mut self, target: Target) {
        self.replicas.retain(|known| known.target != target);
    }

    fn route(&mut self, prefill_tokens: u32) -> Option<Target> {
        self.route_prompt(prefill_tokens, None)
    }

    fn route_prompt(&mut self, prefill_tokens: u32, prompt: Option<Prompt>) -> Option<Target> {
        let prompt = prompt.unwrap_or(NOTHING_KNOWN);
        let (place, uncached_tokens) = self.cheapest(prefill_tokens, &prompt)?;
        let known = &mut self.replicas[place];
        known.send(uncached_tokens, &prompt);
        Some(known.target)
    }

    fn reads_prompts(&self) -> bool {
        true
    }

    fn would_route(
        &mut self,
        prefill_tokens: u32,
        prompt: Option<Prompt>,
        _session: Option<u32>,
    ) -> Option<Target> {
        let (place, _) = self.cheapest(prefill_tokens, &prompt.unwrap_or(NOTHING_KNOWN))?;
        Some(self.replicas[place].target)
    }

    fn choose_drain(&mut self) -> Option<Target> {
        self.replicas
            .iter()
            .min_by_key(|known| (known.load.prefill_tokens, known.target.id))
            .map(|known| known.target)
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_load(&mut self, target: Target, load: Load) {
        if let Some(known) = self.replicas.iter_mut().find(|known| known.target == target) {
            known.load = load;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::{Lane, ReplicaId};
    use super::*;

    fn target(id: u32) -> Target {
        Target { lane: Lane(10 + id), id: ReplicaId(id) }
    }

    fn router(settings: PrefixAwareSettings) -> Box<dyn GlobalScheduler> {
        let mut router = settings.build(1, 16);
        (0..3).for_each(|id| router.add(target(id)));
        router
    }

    /// Routes a prompt of blocks of 512 tokens that each come alone.
    fn send(router: &mut Box<dyn GlobalScheduler>, blocks: &[u32]) -> u32 {
        let runs: Vec<Run> = (1..).zip(blocks).map(|(end, &id)| Run { id, end }).collect();
        router
            .route_prompt(512 * blocks.len() as u32, Some(Prompt { runs: &runs, block_tokens: 512 }))
            .unwrap()
            .id
            .0
    }

    #[test]
    fn goes_where_the_prompt_is_thought_to_be_unless_that_is_busy() {
        let mut router = router(PrefixAwareSettings::default());
        let mut route = |blocks: &[u32]| send(&mut router, blocks);
        assert_eq!(route(&[1, 2, 3]), 0, "nobody knows anything: the lowest id");
        assert_eq!(route(&[1, 2, 9]), 0, "two blocks of three are there");
        router.set_load(target(0), Load { requests: 2, prefill_tokens: 3072 });
        let mut route = |blocks: &[u32]| send(&mut router, blocks);
        assert_eq!(route(&[1, 2, 4]), 1, "1,024 tokens saved are not worth 3,072 that wait");
        assert_eq!(route(&[1, 2, 4]), 1);
    }

    #[test]
    fn what_was_sent_long_ago_is_thought_to_be_gone() {
        let mut router = router(PrefixAwareSettings { believed_cache_tokens: 1024, ..Default::default() });
        let mut route = |blocks: &[u32]| send(&mut router, blocks);
        assert_eq!((route(&[1, 2]), route(&[1, 2])), (0, 0));
        router.set_load(target(1), Load { requests: 1, prefill_tokens: 1 });
        router.set_load(target(2), Load { requests: 1, prefill_tokens: 1 });
        let mut route = |blocks: &[u32]| send(&mut router, blocks);
        assert_eq!(route(&[3, 4, 5]), 0);
        router.set_load(target(0), Load { requests: 1, prefill_tokens: 100 });
        assert_eq!(send(&mut router, &[1, 2]), 1, "1,536 tokens later");
        router.remove(target(1));
        assert_eq!(router.choose_drain().unwrap().id.0, 2);
    }
}
