//! vLLM's scheduler since version 1: no phases, only tokens still to be computed, under one budget a step.
//!
//! Source: `vllm/v1/core/sched/scheduler.py`, `async_scheduler.py` and `request_queue.py` of vLLM 0.33.0,
//! read, and run beside this one step by step (`python/real_schedulers`), every option included; what earlier
//! versions did otherwise is told by [`version`](VllmV1Settings::version), and 0.22.1 and 0.18.1 were run,
//! too. Running requests come first, in the order they were admitted: each gets a token if it decodes, or as
//! much of its prompt as the budget still holds. Blocks are given as tokens need them; if none is free, the
//! request admitted last is preempted and will be computed again. Then, unless something was preempted,
//! waiting requests are admitted, first come first served, if all they know so far fits the free blocks
//! (before 0.19: if the first chunk does). With `prefix_caching` the cached beginning of a request is not
//! computed again ([`PrefixCache`]), except for its last token, which has to yield the next one.
//!
//! With `async_scheduling` (vLLM's default since 0.14) a step is put together while the step before it still
//! runs. CPU work hides behind the GPU's, but what that step does is not known yet: a request that arrives
//! during a step misses the following one too, and places and blocks of requests that finish are given away a
//! step later. If there is nothing to put together, the next step waits for the results and is scheduled
//! knowing them.
//!
//! Unlike there, with pipelining requests are kept in order of arrival and steps are put together knowing the
//! results of those before.

mod by_priority;
mod handover;
mod leaving;
mod offloading;
mod settings;
mod speculative;
mod state;
mod step;
#[cfg(test)]
mod step_log;

pub use handover::Reserved;
pub use settings::VllmV1Settings;
pub use state::State;

use self::offloading::Tier;
use self::speculative::Drafting;
use self::step::Step;
use super::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Requests, Slot};

#[derive(Debug, Clone)]
pub struct VllmV1 {
    /// Most requests in memory.
    most_running: u32,
    /// Requests in one batch: the cap shared by the pipeline's stages.
    micro_batch_size: u32,
    pipelined: bool,
    max_tokens_in_batch: u32,
    prefix_caching: bool,
    async_scheduling: bool,
    reserve_full_prompt: bool,
    unhashed_blocks_first: bool,
    /// Share of all blocks that admission leaves free while others run.
    watermark: f64,
    /// Most tokens of one prompt in a step while others wait or run; 0 for no limit.
    long_prefill_token_threshold: u32,
    /// Whether that limit holds for a request that is alone, too.
    limits_lone_prefills: bool,
    prefill_schedule_interval: u32,
    /// Most requests of a replica, and from how many prompt tokens without a first token on none is let in.
    most_queued: u32,
    most_queued_tokens: Option<u64>,
    by_priority: bool,
    /// Tokens drafted and verified in a step; none without speculative decoding.
    drafting: Drafting,
    /// Where blocks are kept beside the device, if anywhere.
    tier: Option<Tier>,
}

impl VllmV1 {
    fn watermark_blocks(&self, kv: &KvBlocks) -> u32 {
        (self.watermark * f64::from(kv.total + 1)) as u32
    }

    /// Whether a step beside a batch of decodes would find nobody else: nobody goes on with a prompt, leaves, or has got
    /// its KV cache from elsewhere, and whoever waits has come too late, since a step that is put together ahead
    /// sees those that were there as the one before began, at `started_at_s`.
    fn finds_nobody(
        &self,
        own: &State,
        replica: &ReplicaState,
        requests: &Requests,
        started_at_s: f64,
    ) -> bool {
        let is_seen = |&slot: &Slot| !self.async_scheduling || requests[slot].arrived_at_s <= started_at_s;
        replica.waiting.is_empty()
            && own.is_idle()
            && !own.has_first_steps()
            && !replica.queue.front().is_some_and(is_seen)
    }

    /// A request has been served here.
    fn take_back(&self, own: &mut State, replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) {
        if requests[slot].handover.leaves {
            own.keep(&requests[slot]);
        } else {
            own.leave(&requests[slot]);
            replica.allocated -= 1;
        }
        requests.release(slot);
    }
}

impl ReplicaScheduler for VllmV1 {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let mut own = replica.vllm_v1.take().unwrap_or_default();
        own.start(self, &mut replica.kv);
        let is_ahead = self.async_scheduling
            && if self.pipelined {
                replica.allocated > 0
            } else {
                std::mem::take(&mut own.a_batch_just_ended)
            };
        if replica.queue.is_empty()
            && replica.waiting.is_empty()
            && own.is_idle()
            && self.prefill_schedule_interval <= 1
        {
            // Nothing is there to be scheduled, and nobody to leave.
            own.settle(&replica.kv);
            replica.vllm_v1 = Some(own);
            return;
        }
        Step::new(self, &mut own, replica, requests, batch, is_ahead).schedule();
        own.let_leave(&mut replica.kv, requests.prompts());
        if is_ahead && batch.is_empty() && !self.pipelined {
            Step::new(self, &mut own, replica, requests, batch, false).schedule();
        }
        if self.most_queued_tokens.is_some() {
            own.in_flight.extend(batch.entries.iter().map(|&(slot, _)| slot));
        }
        // Whoever asks what would be admitted must find what is left.
        own.settle(&replica.kv);
        replica.vllm_v1 = Some(own);
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        let mut own = replica.vllm_v1.take().unwrap_or_default();
        own.a_batch_just_ended = true;
        if self.most_queued_tokens.is_some() {
            own.in_flight.drain(..batch.entries.len());
        }
        own.left_out.clear();
        own.left_out.extend_from_slice(&replica.waiting);
        for &(slot, _) in &batch.entries {
            if requests[slot].is_completed() {
                self.take_back(&mut own, replica, requests, slot);
            } else {
                replica.waiting.push(slot);
            }
        }
        replica.allocated -= own.let_read_go(&mut replica.kv, requests);
        let nothing_follows = replica.waiting.is_empty() && replica.queue.is_empty();
        if nothing_follows || self.pipelined || !self.async_scheduling {
            own.let_leave(&mut replica.kv, requests.prompts());
        }
        if self.pipelined {
            replica.waiting.sort_by_key(|&slot| requests[slot].id);
        } else if !own.left_out.is_empty() {
            replica.waiting.sort_by_key(|&slot| requests[slot].held.admission);
        }
        replica.vllm_v1 = Some(own);
    }

    fn limits_queues(&self) -> bool {
        self.most_queued < u32::MAX || self.most_queued_tokens.is_some()
    }

    fn lets_in(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        replica.outstanding() < self.most_queued
            && self.most_queued_tokens.is_none_or(|most| {
                let in_flight = replica.vllm_v1.iter().flat_map(|own| &own.in_flight);
                let all = replica
                    .queue
                    .iter()
                    .chain(&replica.waiting)
                    .chain(in_flight)
                    .map(|&slot| &requests[slot]);
                let waits_for_first = all.filter(|request| request.first_token_at_s.is_nan());
                waits_for_first.map(|request| u64::from(request.original_prefill_tokens)).sum::<u64>() < most
            })
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        // Drafted tokens need blocks, too, those of the step before among them where that is not known yet.
        kv.fits_empty(prefill_tokens, decode_tokens + 2 * self.drafting.drafts + self.drafting.lookahead)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        let running = replica.allocated - replica.vllm_v1.as_ref().map_or(0, |own| own.num_aside());
        if replica.vllm_v1.as_ref().is_some_and(|own| own.has_arrivals()) {
            return running < self.most_running;
        }
        // Who comes first is told when a batch is formed. And while others take blocks, what a prompt finds on
        // device and host may break off earlier, so that a first part by which it is admitted needs less room.
        if self.by_priority || (self.tier.is_some() && !self.reserve_full_prompt) {
            return !replica.queue.is_empty() && running < self.most_running;
        }
        replica.queue.front().is_some_and(|&head| {
            if requests[head].handover.awaited {
                return running < self.most_running
                    && self.would_reserve(replica, requests, head, running > 0);
            }
            // A first part, where prompts are admitted by that, is no longer than the limit on them; whether
            // that holds is told when a batch is formed.
            let longest_prefill = match self.long_prefill_token_threshold {
                0 => u32::MAX,
                threshold => threshold,
            };
            let room = self.max_tokens_in_batch.saturating_sub(running).min(longest_prefill);
            let hit = state::hit(replica.vllm_v1.as_deref(), &replica.kv, requests, head);
            running < self.most_running
                && step::admission(self, &replica.kv, &requests[head], hit, room, 0, running > 0).is_some()
        })
    }

    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        let has_first_steps = replica.vllm_v1.as_ref().is_some_and(|own| own.has_first_steps());
        let repeats = replica.waiting.is_empty()
            && self.drafting.drafts == 0
            && !has_first_steps
            && !self.would_admit(replica, requests);
        if repeats { u32::MAX } else { 0 }
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        if let Some(own) = &mut replica.vllm_v1 {
            own.steps += u64::from(repeats);
        }
    }

    fn overlooks_first(&self, replica: &ReplicaState, requests: &Requests, started_at_s: f64) -> bool {
        let own = replica.vllm_v1.as_ref();
        self.async_scheduling
            && self.changes_runs()
            && own.is_some_and(|own| self.finds_nobody(own, replica, requests, started_at_s))
    }

    fn changes_runs(&self) -> bool {
        let told_by_steps = self.by_priority || self.prefill_schedule_interval > 1;
        !self.pipelined && !told_by_steps && self.most_queued_tokens.is_none() && self.drafting.drafts == 0
    }

    fn may_change_run(&self, replica: &ReplicaState, requests: &Requests, others: &[(Slot, u32)]) -> bool {
        // A step has tokens for all that decode, those that come to them included.
        let fits = self.most_running <= self.max_tokens_in_batch;
        let decodes_next = |&(slot, tokens): &(Slot, u32)| {
            let request = &requests[slot];
            request.prefill_complete || request.processed_tokens + tokens == request.prefill_tokens
        };
        // Requests stay in the order in which they were admitted.
        fits && replica.waiting.is_empty() && others.is_sorted_by_key(|other| !decodes_next(other))
    }

    fn end_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, finished: &[Slot]) {
        let mut own = replica.vllm_v1.take().unwrap_or_default();
        own.left_out.clear();
        for &slot in finished {
            self.take_back(&mut own, replica, requests, slot);
        }
        replica.allocated -= own.let_read_go(&mut replica.kv, requests);
        if !self.async_scheduling {
            own.let_leave(&mut replica.kv, requests.prompts());
        }
        replica.vllm_v1 = Some(own);
    }

    fn form_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        let mut own = replica.vllm_v1.take().unwrap_or_default();
        if !self.finds_nobody(&own, replica, requests, replica.batch_started_at_s) {
            Step::new(self, &mut own, replica, requests, batch, self.async_scheduling).schedule_beside();
            own.let_leave(&mut replica.kv, requests.prompts());
        }
        own.settle(&replica.kv);
        replica.vllm_v1 = Some(own);
    }

    fn take_reserved(&self, replica: &mut ReplicaState) -> Option<Reserved> {
        Self::take_reserved(replica)
    }

    fn receive_kv(&self, replica: &mut ReplicaState, slot: Slot, now_s: f64) {
        Self::receive(replica, slot, now_s);
    }

    fn kv_was_read(&self, replica: &mut ReplicaState, requests: &Requests, id: u32, runs: bool) {
        Self::has_been_read(replica, requests, id, runs);
    }

    fn unread(&self, replica: &ReplicaState) -> Vec<u32> {
        Self::unread(replica)
    }

    fn cached_tokens(
        &self,
        replica: &mut ReplicaState,
        requests: &Requests,
        id: u32,
        prefill_tokens: u32,
    ) -> u32 {
        if let Some(own) = &mut replica.vllm_v1
            && own.has_started()
        {
            own.settle(&replica.kv);
        }
        state::cached_tokens(replica.vllm_v1.as_deref(), &replica.kv, requests.prompts(), id, prefill_tokens)
    }

    fn withdraw(&self, replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) -> bool {
        Self::withdraw(replica, requests, slot)
    }
}

#[cfg(test)]
mod tests;
