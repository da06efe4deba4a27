//! KV caches that are handed from one replica to another, as vLLM's connectors do: the blocks of a prompt
//! computed here stay until they have been read elsewhere; one computed elsewhere is given room before its KV
//! cache is read, and waits aside, running nothing.
//!
//! Read: `vllm/v1/core/sched/scheduler.py` (`WAITING_FOR_REMOTE_KVS`, `_update_waiting_for_remote_kv`), and
//! the NIXL connector.

use super::super::{Handover, KvBlocks, ReplicaState, Request, Requests, Slot};
use super::VllmV1;
use super::leaving::{Aside, Leaving};
use super::state::{Found, State, hit};
use super::step::Step;

/// A prompt that was given room for its KV cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reserved {
    pub slot: Slot,
    /// Tokens of the prompt that are cached here already.
    pub cached_tokens: u32,
}

/// Blocks that a prompt needs whose KV cache comes from elsewhere, if there are as many.
fn room(rule: &VllmV1, kv: &KvBlocks, request: &Request, hit: Found, others_run: bool) -> Option<u32> {
    let blocks = kv.blocks_for(request.prefill_tokens + u32::from(request.handover.with_token));
    let watermark = if others_run { rule.watermark_blocks(kv) } else { 0 };
    (blocks - hit.blocks() + hit.revived() + watermark <= kv.free).then_some(blocks)
}

impl State {
    /// Requests in memory that neither run nor wait to.
    #[inline]
    pub(super) fn num_aside(&self) -> u32 {
        self.aside.as_ref().map_or(0, |aside| aside.len())
    }

    fn aside(&mut self) -> &mut Aside {
        self.aside.get_or_insert_default()
    }

    /// Whether a step may not be repeated.
    pub(super) fn has_first_steps(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.has_first_steps)
    }

    pub(super) fn has_arrivals(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| !aside.arrived.is_empty())
    }

    /// Keeps what a prompt holds that is to be read elsewhere.
    pub(super) fn keep(&mut self, request: &Request) {
        let leaving = Leaving::of(request);
        self.aside().kept.push(leaving);
    }

    /// Frees what has been read; returns how many requests that lets go.
    pub(super) fn let_read_go(&mut self, kv: &mut KvBlocks, requests: &Requests) -> u32 {
        let Some(aside) = &mut self.aside else { return 0 };
        if aside.read.is_empty() {
            return 0;
        }
        let mut read = std::mem::take(&mut aside.read);
        let num = read.len() as u32;
        for mut one in read.drain(..) {
            self.free_leaving(kv, requests.prompts(), &mut one);
        }
        self.aside().read = read;
        num
    }
}

impl VllmV1 {
    /// Whether a waiting prompt, whose KV cache comes from elsewhere, would be given room.
    pub(super) fn would_reserve(
        &self,
        replica: &ReplicaState,
        requests: &Requests,
        slot: Slot,
        others_run: bool,
    ) -> bool {
        let hit = hit(replica.vllm_v1.as_deref(), &replica.kv, requests, slot);
        room(self, &replica.kv, &requests[slot], hit.on_device(), others_run).is_some()
    }

    pub(super) fn take_reserved(replica: &mut ReplicaState) -> Option<Reserved> {
        let aside = replica.vllm_v1.as_mut().and_then(|own| own.aside.as_mut())?;
        (!aside.reserved.is_empty()).then(|| aside.reserved.remove(0))
    }

    /// The KV cache of a request has arrived.
    pub(super) fn receive(replica: &mut ReplicaState, slot: Slot, now_s: f64) {
        let Some(own) = &mut replica.vllm_v1 else { return };
        let aside = own.aside();
        let place = aside
            .parked
            .iter()
            .position(|&other| other == slot)
            .expect("whatever arrives has been given room");
        aside.parked.remove(place);
        aside.arrived.push((slot, now_s));
    }

    /// The KV cache of a prompt has been read. Its blocks are free with the end of the step that runs, if one
    /// does.
    pub(super) fn has_been_read(replica: &mut ReplicaState, requests: &Requests, id: u32, runs: bool) {
        let Some(mut own) = replica.vllm_v1.take() else { return };
        let aside = own.aside();
        let place = aside.kept.iter().position(|one| one.id == id).expect("whatever is read has been kept");
        let one = aside.kept.remove(place);
        aside.read.push(one);
        if !runs {
            replica.allocated -= own.let_read_go(&mut replica.kv, requests);
        }
        replica.vllm_v1 = Some(own);
    }

    /// Prompts whose KV caches have not been read yet, by their numbers.
    pub(super) fn unread(replica: &ReplicaState) -> Vec<u32> {
        let aside = replica.vllm_v1.as_ref().and_then(|own| own.aside.as_ref());
        aside.map_or_else(Vec::new, |aside| aside.kept.iter().map(|one| one.id).collect())
    }

    /// Takes away a request that waits for its KV cache, with or without room for it; whether it waited for
    /// room.
    pub(super) fn withdraw(replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) -> bool {
        let queued = replica.queue.iter().position(|&other| other == slot);
        if let Some(place) = queued {
            replica.queue.remove(place);
            if let Some(own) = &mut replica.vllm_v1 {
                own.ranked -= usize::from(place < own.ranked);
            }
        } else if let Some(mut own) = replica.vllm_v1.take() {
            let aside = own.aside();
            aside.parked.retain(|&other| other != slot);
            aside.arrived.retain(|&(other, _)| other != slot);
            aside.reserved.retain(|reserved| reserved.slot != slot);
            own.free_leaving(&mut replica.kv, requests.prompts(), &mut Leaving::of_parked(&requests[slot]));
            replica.allocated -= 1;
            replica.vllm_v1 = Some(own);
        }
        queued.is_some()
    }
}

impl Step<'_> {
    pub(super) fn has_place(&self) -> bool {
        self.batch.len() < self.rule.micro_batch_size
            && self.num_running() < self.rule.most_running
            && self.has_budget()
    }

    /// Lets those decode whose KV caches have arrived, as far as there is place.
    pub(super) fn join_arrived(&mut self) {
        let Some(aside) = &mut self.own.aside else { return };
        aside.has_first_steps = false;
        while let Some(&(slot, at_s)) = self.own.aside.as_ref().and_then(|aside| aside.arrived.first()) {
            let is_seen = !self.is_ahead || at_s <= self.replica.batch_started_at_s;
            if !is_seen || !self.has_place() {
                break;
            }
            self.own.aside().arrived.remove(0);
            self.begin_decoding(slot);
        }
    }

    /// Gives the first that waits room for its KV cache; whether there was enough.
    pub(super) fn reserve(&mut self, slot: Slot) -> bool {
        let others_run = self.num_running() > 0;
        self.own.settle(&self.replica.kv);
        let hit = hit(Some(&*self.own), &self.replica.kv, self.requests, slot).on_device();
        let Some(blocks) = room(self.rule, &self.replica.kv, &self.requests[slot], hit, others_run) else {
            return false;
        };
        self.replica.queue.pop_front();
        self.own.ranked = self.own.ranked.saturating_sub(1);
        let replica = &mut *self.replica;
        let (request, prompts) = self.requests.with_prompts(slot);
        replica.kv.free -= self.own.admit(&replica.kv, prompts, request, hit);
        replica.allocate(request, blocks - hit.blocks());
        request.blocks = blocks;
        let cached_tokens = hit.blocks() * replica.kv.block_size_tokens;
        let at_once = request.handover.at_once;
        let aside = self.own.aside();
        aside.reserved.push(Reserved { slot, cached_tokens });
        if at_once {
            self.begin_decoding(slot);
        } else {
            aside.parked.push(slot);
        }
        true
    }

    /// Puts a request into the batch whose KV cache is there: with the last token of its prompt, to be
    /// computed again for what it yields, or, where the first token came along, with that.
    fn begin_decoding(&mut self, slot: Slot) {
        let replica = &mut *self.replica;
        let (request, prompts) = self.requests.with_prompts(slot);
        let prompt = request.prefill_tokens;
        if request.handover.with_token {
            request.prefill_complete = true;
            request.processed_tokens = prompt + 1;
        } else {
            request.processed_tokens = prompt - 1;
        }
        request.handover = Handover::default();
        self.own.share(&replica.kv, prompts, request, prompt);
        self.budget -= 1;
        self.batch.shape.add_decode(request.processed_tokens.max(prompt));
        self.batch.entries.push((slot, 1));
        self.own.aside().has_first_steps = true;
    }
}
