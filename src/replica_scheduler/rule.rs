//! A replica scheduler as the engine holds it.

use super::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Requests, Reserved, Slot, Vllm};

/// The rule most runs use, so that what every request passes through is part of the event loop, or any other
/// behind a pointer.
pub enum Rule {
    Vllm(Vllm),
    Other(Box<dyn ReplicaScheduler>),
}

impl Rule {
    fn as_dyn(&self) -> &dyn ReplicaScheduler {
        match self {
            Self::Vllm(vllm) => vllm,
            Self::Other(other) => other.as_ref(),
        }
    }
}

impl ReplicaScheduler for Rule {
    #[inline(always)]
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        match self {
            Self::Vllm(vllm) => vllm.form_batch(replica, requests, batch),
            Self::Other(other) => other.form_batch(replica, requests, batch),
        }
    }

    #[inline(always)]
    fn look_ahead(
        &self,
        replica: &mut ReplicaState,
        requests: &mut Requests,
        batch: &mut Batch,
        started_at_s: f64,
    ) {
        if let Self::Other(other) = self {
            other.look_ahead(replica, requests, batch, started_at_s);
        }
    }

    #[inline(always)]
    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        match self {
            Self::Vllm(vllm) => vllm.end_batch(replica, requests, batch),
            Self::Other(other) => other.end_batch(replica, requests, batch),
        }
    }

    #[inline(always)]
    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        match self {
            Self::Vllm(vllm) => vllm.fits_empty(kv, prefill_tokens, decode_tokens),
            Self::Other(other) => other.fits_empty(kv, prefill_tokens, decode_tokens),
        }
    }

    fn limits_queues(&self) -> bool {
        self.as_dyn().limits_queues()
    }

    fn lets_in(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.as_dyn().lets_in(replica, requests)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.as_dyn().would_admit(replica, requests)
    }

    fn repeats_decodes(&self, replica: &ReplicaState, requests: &Requests) -> u32 {
        self.as_dyn().repeats_decodes(replica, requests)
    }

    fn skipped_decodes(&self, replica: &mut ReplicaState, repeats: u32) {
        self.as_dyn().skipped_decodes(replica, repeats);
    }

    fn overlooks_first(&self, replica: &ReplicaState, requests: &Requests, started_at_s: f64) -> bool {
        self.as_dyn().overlooks_first(replica, requests, started_at_s)
    }

    fn changes_runs(&self) -> bool {
        self.as_dyn().changes_runs()
    }

    fn may_change_run(&self, replica: &ReplicaState, requests: &Requests, others: &[(Slot, u32)]) -> bool {
        self.as_dyn().may_change_run(replica, requests, others)
    }

    fn end_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, finished: &[Slot]) {
        self.as_dyn().end_iteration(replica, requests, finished);
    }

    fn form_iteration(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.as_dyn().form_iteration(replica, requests, batch);
    }

    fn may_be_lost(&self) -> bool {
        self.as_dyn().may_be_lost()
    }

    fn reserves_ahead(&self) -> bool {
        self.as_dyn().reserves_ahead()
    }

    fn take_reserved(&self, replica: &mut ReplicaState) -> Option<Reserved> {
        self.as_dyn().take_reserved(replica)
    }

    fn receive_kv(&self, replica: &mut ReplicaState, slot: Slot, now_s: f64) {
        self.as_dyn().receive_kv(replica, slot, now_s);
    }

    fn kv_was_read(&self, replica: &mut ReplicaState, requests: &Requests, id: u32, runs: bool) {
        self.as_dyn().kv_was_read(replica, requests, id, runs);
    }

    fn unread(&self, replica: &ReplicaState) -> Vec<u32> {
        self.as_dyn().unread(replica)
    }

    fn cached_tokens(
        &self,
        replica: &mut ReplicaState,
        requests: &Requests,
        id: u32,
        prefill_tokens: u32,
    ) -> u32 {
        self.as_dyn().cached_tokens(replica, requests, id, prefill_tokens)
    }

    fn withdraw(&self, replica: &mut ReplicaState, requests: &mut Requests, slot: Slot) -> bool {
        self.as_dyn().withdraw(replica, requests, slot)
    }
}
