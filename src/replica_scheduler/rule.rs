//! A replica scheduler as the engine holds it.

use super::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Requests, Vllm};

/// The rule most runs use, so that what every request passes through is part of the event loop, or any other behind a pointer.
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
    fn look_ahead(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch, started_at_s: f64) {
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

    fn may_be_lost(&self) -> bool {
        self.as_dyn().may_be_lost()
    }

    fn reserves_ahead(&self) -> bool {
        self.as_dyn().reserves_ahead()
    }
}
