//! SGLang's scheduler: prompts first and alone, then a token for each request that runs.
//!
//! Source: SGLang 0.5.23, `srt/managers/scheduler.py`, `schedule_policy.py`, `schedule_batch.py`,
//! `srt/mem_cache/` (one GPU, dense model).
//!
//! - Prefill is tried first. A batch of prompts (or a chunk of one) runs alone; requests that run get no
//!   token meanwhile, unless `mixed_chunks`. So a queue that can always be admitted stalls those that run.
//! - Admission keeps room for what running requests *may* still generate, up to 4096 tokens each: all of it
//!   where end-of-sequence tokens are ignored, otherwise a share of it, which falls from 0.7 to 0.098 over
//!   600 steps without trouble. A whole prompt has to fit, and all that it may generate; its head of the
//!   queue blocks the others.
//! - If the next step does not fit, requests are *retracted*: those first that have generated least. They go
//!   to the end of the queue, and compute prompt and output again but for what is still cached.
//! - A radix tree ([`tree`]) keeps what was computed, prompts and outputs, to the token.
//! - With `overlap` a batch is put together while the one before it runs, of which the results are not known
//!   then.

mod admission;
mod iteration;
mod order;
mod state;
mod tokens;
mod tree;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::iteration::Iteration;
use self::state::{Kind, State};
use super::{
    Batch, Common, KvBlocks, ReplicaScheduler, ReplicaSchedulerSettings, ReplicaShape, ReplicaState,
    Requests, SchedulerSettings,
};
use crate::hardware::catalog::Device;
use crate::settings::Faults;

/// What a request may generate counts in admission up to so many tokens:
/// `SGLANG_CLIP_MAX_NEW_TOKENS_ESTIMATION`.
const CLIPPED_NEW_TOKENS: u32 = 4096;
/// Steps for which a retraction makes room: `SGLANG_RETRACT_DECODE_STEPS`.
const RETRACT_STEPS: u32 = 20;
/// The share of what may be generated that is reserved at first, the part of that it falls to, and in how
/// many steps: `SGLANG_INIT_NEW_TOKEN_RATIO`, `SGLANG_MIN_NEW_TOKEN_RATIO_FACTOR`,
/// `SGLANG_NEW_TOKEN_RATIO_DECAY_STEPS`.
const INITIAL_SHARE: f64 = 0.7;
const LEAST_PART: f64 = 0.14;
const DECAY_STEPS: f64 = 600.0;

/// Between these is the most requests in memory, where it is not given.
const LEAST_DEFAULT_CAP: u32 = 2048;
const MOST_DEFAULT_CAP: u32 = 4096;

/// The prompt tokens of a batch where they are not given: on a device of so much memory, and on one not
/// known.
fn default_chunk(device_memory_gib: f64) -> u32 {
    match device_memory_gib {
        ..20.0 => 2048,
        20.0..60.0 => 4096,
        60.0..160.0 => 8192,
        _ => 16384,
    }
}

const UNKNOWN_DEVICE_CHUNK: u32 = 4096;

/// The order in which waiting requests are admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Policy {
    /// First come, first served.
    #[default]
    Fcfs,
    /// Longest cached prefix first; of prompts that begin alike one at a time. With more than 128 waiting, or
    /// without `prefix_caching`, as `fcfs`.
    Lpm,
    /// Longest output first: by `max_new_tokens`.
    Lof,
}

/// SGLang's scheduler. `batch_size_cap` is its `max_running_requests`, `block_size_tokens` its `page_size`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SglangSettings {
    /// Most requests in memory at once: SGLang's `max_running_requests`. If absent, as there, 512 for each
    /// `max_request_tokens` that the KV cache holds, but 2048 to 4096, and at most half as many as it holds
    /// tokens.
    pub batch_size_cap: Option<u32>,
    /// SGLang's `page_size`.
    pub block_size_tokens: u32,
    /// KV blocks (pages) of a replica; the memory planner's figure if absent.
    pub num_blocks: Option<u32>,
    /// Prompt tokens of a batch: SGLang's `chunked_prefill_size`. 0: prompts are not chunked. If absent, as
    /// there, by the memory of the device: 2048 below 20 GiB, 4096 below 60, 8192 below 160 (A100, H100,
    /// H200), 16384 from there on.
    pub chunk_size_tokens: Option<u32>,
    /// A batch is complete with the request that brings it to so many prompt tokens.
    pub max_prefill_tokens: u32,
    pub policy: Policy,
    /// Factor on the share of what running requests may still generate that is kept free: SGLang's
    /// `schedule_conservativeness`.
    pub conservativeness: f64,
    /// Whether running requests get their next token in the batches of prompts: SGLang's
    /// `enable_mixed_chunk`.
    pub mixed_chunks: bool,
    /// Whether requests of higher priority (a workload's `priorities`) go first, and take the places of
    /// others: SGLang's `enable_priority_scheduling`. Not with `lpm`.
    pub priority_scheduling: bool,
    /// A request takes the place of one only if its priority is higher by more than this: SGLang's
    /// `priority_scheduling_preemption_threshold`.
    pub preemption_threshold: u32,
    /// Batches that only decode after each batch of prompts.
    pub prefill_decode_interval: u32,
    /// Whether what was computed is kept for prompts that begin alike: SGLang's radix cache.
    pub prefix_caching: bool,
    /// Whether a batch is put together while the one before it runs: SGLang's overlap schedule.
    pub overlap: bool,
}

impl Default for SglangSettings {
    fn default() -> Self {
        Self {
            batch_size_cap: None,
            block_size_tokens: 1,
            num_blocks: None,
            chunk_size_tokens: None,
            max_prefill_tokens: 16384,
            policy: Policy::Fcfs,
            conservativeness: 1.0,
            mixed_chunks: false,
            priority_scheduling: false,
            preemption_threshold: 10,
            prefill_decode_interval: 0,
            prefix_caching: true,
            overlap: true,
        }
    }
}

impl SchedulerSettings for SglangSettings {
    fn common(&self) -> Common {
        Common {
            batch_size_cap: self.batch_size_cap.unwrap_or(LEAST_DEFAULT_CAP),
            block_size_tokens: self.block_size_tokens,
            watermark_blocks_fraction: 0.0,
            num_blocks: self.num_blocks,
        }
    }

    fn on_device(&self, device: &Device) -> Option<ReplicaSchedulerSettings> {
        let chunk_size_tokens = self.chunk_size_tokens.or(Some(default_chunk(device.memory_gib)));
        Some(ReplicaSchedulerSettings::Sglang(Self { chunk_size_tokens, ..self.clone() }))
    }

    fn check(&self, pipeline_parallel: u32, faults: &mut Faults) {
        faults.require(pipeline_parallel == 1, "", || {
            format!("`pipeline_parallel` is {pipeline_parallel}; set it to 1: how SGLang schedules pipelines is not modelled")
        });
        if let Some(tokens) = self.chunk_size_tokens.filter(|&tokens| tokens > 0) {
            faults.at_least("chunk_size_tokens", tokens.into(), self.block_size_tokens.into());
        }
        faults.at_least("max_prefill_tokens", self.max_prefill_tokens.into(), 1);
        faults.require(!(self.priority_scheduling && self.policy == Policy::Lpm), "policy", || {
            "`lpm` found beside `priority_scheduling`, which it does not heed; expected `fcfs` or `lof`"
                .into()
        });
        faults.positive("conservativeness", self.conservativeness);
    }

    fn build(&self, replica: &ReplicaShape) -> Box<dyn ReplicaScheduler> {
        Box::new(Sglang { rules: Rules::new(self, replica) })
    }

    fn chunks_prefills(&self) -> bool {
        true
    }

    fn caches_prefixes(&self) -> bool {
        self.prefix_caching
    }
}

/// The settings, worked out.
#[derive(Debug, Clone)]
pub struct Rules {
    batch_size_cap: Option<u32>,
    max_request_tokens: u32,
    chunk_size_tokens: Option<u32>,
    max_prefill_tokens: u32,
    policy: Policy,
    mixed_chunks: bool,
    priority_scheduling: bool,
    preemption_threshold: u32,
    prefill_decode_interval: u32,
    prefix_caching: bool,
    overlap: bool,
    initial_share: f64,
    least_share: f64,
    share_decay: f64,
}

impl Rules {
    fn new(settings: &SglangSettings, replica: &ReplicaShape) -> Self {
        let initial_share = (INITIAL_SHARE * settings.conservativeness).min(1.0);
        let least_share = LEAST_PART * initial_share;
        let policy = if settings.policy == Policy::Lpm && !settings.prefix_caching {
            Policy::Fcfs
        } else {
            settings.policy
        };
        Self {
            batch_size_cap: settings.batch_size_cap,
            max_request_tokens: replica.max_request_tokens,
            chunk_size_tokens: Some(settings.chunk_size_tokens.unwrap_or(UNKNOWN_DEVICE_CHUNK))
                .filter(|&tokens| tokens > 0),
            max_prefill_tokens: settings.max_prefill_tokens,
            policy,
            mixed_chunks: settings.mixed_chunks,
            priority_scheduling: settings.priority_scheduling,
            preemption_threshold: settings.preemption_threshold,
            prefill_decode_interval: settings.prefill_decode_interval,
            prefix_caching: settings.prefix_caching,
            overlap: settings.overlap,
            initial_share,
            least_share,
            share_decay: (initial_share - least_share) / DECAY_STEPS,
        }
    }

    fn max_running_requests(&self, kv_tokens: u32) -> u32 {
        self.batch_size_cap.unwrap_or_else(|| {
            let by_memory = f64::from(kv_tokens) / f64::from(self.max_request_tokens) * 512.0;
            (by_memory as u32).clamp(LEAST_DEFAULT_CAP, MOST_DEFAULT_CAP).min(kv_tokens / 2).max(1)
        })
    }
}

#[cfg(test)]
mod replay;
#[cfg(test)]
mod tests;

#[derive(Debug, Clone)]
pub struct Sglang {
    rules: Rules,
}

impl Sglang {
    /// Does something with the state that this scheduler keeps of a replica.
    fn with<T>(
        &self,
        replica: &mut ReplicaState,
        requests: &mut Requests,
        act: impl FnOnce(&mut Iteration) -> T,
    ) -> T {
        let mut state = replica.own.take().unwrap_or_else(|| Box::new(State::new(&self.rules, &replica.kv)));
        let own = state.downcast_mut::<State>().expect("a replica has one scheduler");
        let mut iteration = Iteration { rules: &self.rules, state: own, replica, requests };
        let done = act(&mut iteration);
        iteration.settle();
        replica.own = Some(state);
        done
    }

    /// One iteration: what was put together ahead is launched, otherwise what is planned now. Whether, if it
    /// runs nothing, another may.
    fn iterate(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) -> bool {
        self.with(replica, requests, |iteration| {
            let ahead = iteration.state.ahead.take();
            let had_results = ahead.is_some();
            let launch = ahead.unwrap_or_else(|| {
                iteration.see(iteration.replica.queue.len());
                iteration.plan()
            });
            if let Some(launch) = &launch {
                iteration.launch(launch, batch);
            }
            let ran_nothing = launch.is_none();
            iteration.state.last = launch;
            // What has arrived by now is seen when the next one is planned, which with overlap is at once.
            iteration.see(iteration.replica.queue.len());
            iteration.give_up_aborted();
            let idle = ran_nothing && iteration.state.is_idle();
            if idle && !had_results {
                iteration.state.reserved_share = self.rules.initial_share;
            }
            !idle
        })
    }

    fn state_mut<'a>(&self, replica: &'a mut ReplicaState) -> Option<&'a mut State> {
        replica.own.as_deref_mut().and_then(|own| own.downcast_mut())
    }

    fn state<'a>(&self, replica: &'a ReplicaState) -> Option<&'a State> {
        replica.own.as_deref().and_then(|own| own.downcast_ref())
    }
}

impl ReplicaScheduler for Sglang {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        if let Some(state) = self.state_mut(replica)
            && std::mem::take(&mut state.ran_dry)
        {
            state.reserved_share = self.rules.initial_share;
        }
        // Iterations that run nothing take no time; there are no more of them in a row than these.
        for _ in 0..self.rules.prefill_decode_interval + 3 {
            if !self.iterate(replica, requests, batch) || !batch.is_empty() {
                break;
            }
        }
    }

    fn look_ahead(
        &self,
        replica: &mut ReplicaState,
        requests: &mut Requests,
        batch: &mut Batch,
        started_at_s: f64,
    ) {
        if !self.rules.overlap {
            return;
        }
        self.with(replica, requests, |iteration| {
            iteration.see_until(started_at_s);
            iteration.state.ahead = Some(iteration.plan());
            for (slot, tokens) in &mut batch.entries {
                if iteration.state.of(*slot).retracted {
                    *tokens = 0;
                }
            }
        });
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, _batch: &Batch) {
        self.with(replica, requests, |iteration| {
            let mut ended = iteration.state.last.take().expect("a batch ends that was formed");
            iteration.take_results(&ended);
            if !self.rules.overlap {
                ended.rows.retain(|row| !iteration.state.of(row.slot).has_left);
                iteration.state.last = Some(ended);
            }
            iteration.state.ran_dry = iteration.replica.queue.is_empty() && iteration.state.is_idle();
        });
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        decode_tokens
            <= state::most_new_tokens(kv.total * kv.block_size_tokens, kv.block_size_tokens, prefill_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, _requests: &Requests) -> bool {
        !replica.queue.is_empty() && self.state(replica).is_none_or(|state| !state.full)
    }

    fn repeats_decodes(&self, replica: &ReplicaState, _requests: &Requests) -> u32 {
        let Some(state) = self.state(replica) else { return 0 };
        let Some(last) = state.last.as_ref().filter(|last| last.kind == Kind::Decode) else { return 0 };
        let admits =
            !(replica.queue.is_empty() || state.full) || state.somebody_left || state.chunked.is_some();
        if admits || last.rows.iter().any(|row| state.of(row.slot).has_left) { 0 } else { u32::MAX }
    }

    fn may_be_lost(&self) -> bool {
        false
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        if let Some(state) = self.state_mut(replica) {
            state.skip_decodes(&self.rules, repeats);
        }
    }
}
