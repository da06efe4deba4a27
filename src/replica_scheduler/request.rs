//! Requests in flight, in a slab: the live set is small and stays in cache, however long the trace.

use std::ops::{Index, IndexMut};
use std::sync::Arc;

use super::{Held, ReplicaId};
use crate::workload::{PrefixRuns, Prompt};

/// Where a live request sits in [`Requests`]. Slots are reused once a request has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Slot(pub u32);

/// A request between arrival and completion.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    pub arrived_at_s: f64,
    /// First time in a batch; NaN before. A restart does not change it.
    pub scheduled_at_s: f64,
    /// When its first prefill completed; NaN before. A restart does not change it.
    pub first_token_at_s: f64,
    /// Position in the workload.
    pub id: u32,
    /// Tokens to prefill before the next decode; grows by what is lost in a restart.
    pub prefill_tokens: u32,
    /// Tokens to decode after that prefill.
    pub decode_tokens: u32,
    pub processed_tokens: u32,
    /// KV blocks held; a request is in memory exactly while it holds some.
    pub blocks: u32,
    pub original_prefill_tokens: u32,
    pub restarts: u32,
    /// Identity of the replica it was routed to.
    pub replica_id: ReplicaId,
    /// Tokens of the prompt that were cached when it was first admitted.
    pub cached_tokens: u32,
    /// What it holds of a prefix cache.
    pub held: Held,
    /// The most tokens it may generate, for schedulers that keep room for them; at least as many as it will.
    pub max_new_tokens: u32,
    /// The higher, the sooner it is served, by schedulers that are told to heed it.
    pub priority: i32,
    pub prefill_complete: bool,
    /// What became of the tokens drafted in its latest step.
    pub drafts: Drafts,
    /// Where its KV cache goes to, or comes from.
    pub handover: Handover,
    /// Whether its client has gone, and it leaves with its next token.
    pub given_up: bool,
    /// Whether it is known to generate `max_new_tokens`, end-of-sequence tokens being ignored.
    pub ignore_eos: bool,
}

/// Tokens drafted in a step: those that it yielded, and the others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Drafts {
    pub accepted: u8,
    pub rejected: u8,
}

/// What becomes of a prompt's KV cache where prefill and decode are apart; nothing by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Handover {
    /// It is to be read elsewhere once it is computed.
    pub leaves: bool,
    /// It comes from elsewhere, and is asked for once there is room.
    pub awaited: bool,
    /// It is there as soon as there is room.
    pub at_once: bool,
    /// The first output token comes with it.
    pub with_token: bool,
}

impl Request {
    pub fn new(id: u32, arrived_at_s: f64, prefill_tokens: u32, decode_tokens: u32) -> Self {
        Self {
            arrived_at_s,
            scheduled_at_s: f64::NAN,
            first_token_at_s: f64::NAN,
            id,
            prefill_tokens,
            decode_tokens,
            processed_tokens: 0,
            blocks: 0,
            original_prefill_tokens: prefill_tokens,
            restarts: 0,
            replica_id: ReplicaId::NOWHERE,
            cached_tokens: 0,
            held: Held::default(),
            max_new_tokens: decode_tokens,
            priority: 0,
            prefill_complete: false,
            drafts: Drafts::default(),
            handover: Handover::default(),
            given_up: false,
            ignore_eos: false,
        }
    }

    /// Prefill and decode tokens together; a restart shifts between the two but keeps their sum.
    #[inline]
    pub fn total_tokens(&self) -> u32 {
        self.prefill_tokens + self.decode_tokens
    }

    /// Tokens it was asked to generate.
    #[inline]
    pub fn output_tokens(&self) -> u32 {
        self.total_tokens() - self.original_prefill_tokens
    }

    #[inline]
    pub fn is_completed(&self) -> bool {
        self.prefill_complete && self.processed_tokens == self.total_tokens()
    }

    /// Its client has gone: the token under way is its last.
    pub fn give_up(&mut self) {
        self.given_up = true;
        let under_way =
            if self.prefill_complete { self.processed_tokens + 1 - self.prefill_tokens } else { 1 };
        self.decode_tokens = self.decode_tokens.min(under_way);
    }

    /// Counts `tokens` of an ended batch. The token that completes the prefill yields the first output token
    /// at once.
    #[inline]
    pub fn advance(&mut self, tokens: u32, now_s: f64) {
        self.processed_tokens += tokens;
        if !self.prefill_complete && self.processed_tokens == self.prefill_tokens {
            self.prefill_complete = true;
            self.processed_tokens += 1;
            if self.first_token_at_s.is_nan() {
                self.first_token_at_s = now_s;
            }
        }
    }

    /// Forgets the cache: everything processed so far becomes prefill again (recomputation).
    ///
    /// A prefill cut short keeps its length: the reference turns the rest of such a prompt into decode
    /// tokens, which is a defect.
    pub fn restart(&mut self) {
        if self.prefill_complete {
            let total = self.total_tokens();
            self.prefill_tokens = self.processed_tokens;
            self.decode_tokens = total - self.prefill_tokens;
        }
        self.processed_tokens = 0;
        self.prefill_complete = false;
        self.drafts = Drafts::default();
        self.restarts += 1;
    }
}

/// All live requests.
#[derive(Debug, Default)]
pub struct Requests {
    live: Vec<Request>,
    free: Vec<Slot>,
    /// Which prompts of the workload begin alike, if that is known and of interest.
    prompts: Option<Arc<PrefixRuns>>,
}

impl Requests {
    pub fn insert(&mut self, request: Request) -> Slot {
        match self.free.pop() {
            Some(slot) => {
                self[slot] = request;
                slot
            }
            None => {
                self.live.push(request);
                Slot(self.live.len() as u32 - 1)
            }
        }
    }

    /// Gives the slot back.
    pub fn release(&mut self, slot: Slot) {
        self[slot].replica_id = ReplicaId::NOWHERE;
        self.free.push(slot);
    }

    /// Where a replica's requests are, finished ones that it still keeps included.
    pub fn of_replica(&self, replica_id: ReplicaId) -> Vec<Slot> {
        (0..self.live.len() as u32).map(Slot).filter(|&slot| self[slot].replica_id == replica_id).collect()
    }

    /// Where a request is that has been routed and not finished, if it is here.
    pub fn find_routed(&self, id: u32) -> Option<Slot> {
        let found =
            self.live.iter().position(|request| request.id == id && request.replica_id != ReplicaId::NOWHERE);
        found.map(|place| Slot(place as u32))
    }

    /// Takes a lost replica's requests from it: what was begun starts over, and `abandoned` is told of each
    /// that is not finished.
    pub fn abandon(&mut self, replica_id: ReplicaId, mut abandoned: impl FnMut(Slot)) {
        for slot in (0..self.live.len() as u32).map(Slot) {
            let request = &mut self[slot];
            if request.replica_id != replica_id {
                continue;
            }
            if request.is_completed() {
                // Kept in memory by a scheduler that frees whole groups.
                self.release(slot);
                continue;
            }
            if request.blocks > 0 {
                request.restart();
                request.blocks = 0;
            }
            request.held = Held::default();
            request.replica_id = ReplicaId::NOWHERE;
            abandoned(slot);
        }
    }

    pub fn clear(&mut self) {
        self.live.clear();
        self.free.clear();
        self.prompts = None;
    }

    /// Lets everybody know which prompts of the workload begin alike, if anything.
    pub fn know_runs(&mut self, prompts: Option<Arc<PrefixRuns>>) {
        self.prompts = prompts;
    }

    /// The same of prompts by their blocks.
    #[cfg(test)]
    pub fn know(&mut self, prefix: Option<&crate::workload::PrefixBlocks>) {
        self.know_runs(prefix.map(|prefix| prefix.runs().clone()));
    }

    /// The hash blocks of a request's prompt, where they are known.
    #[inline]
    pub fn prompt(&self, slot: Slot) -> Option<Prompt<'_>> {
        Some(self.prompts.as_ref()?.of(self[slot].id))
    }

    #[inline]
    pub fn prompts(&self) -> Option<&PrefixRuns> {
        self.prompts.as_deref()
    }

    /// A request, with what is known of all prompts.
    #[inline]
    pub fn with_prompts(&mut self, slot: Slot) -> (&mut Request, Option<&PrefixRuns>) {
        (&mut self.live[slot.0 as usize], self.prompts.as_deref())
    }

    /// Memory of all requests there have been at once.
    pub fn bytes(&self) -> usize {
        size_of_val(&self.live[..])
    }

    /// Slots there are, free ones included.
    pub fn num_slots(&self) -> usize {
        self.live.len()
    }

    /// The replicas of requests that have been served and are still held by one.
    pub fn served(&self) -> Vec<ReplicaId> {
        let served = self
            .live
            .iter()
            .filter(|request| request.replica_id != ReplicaId::NOWHERE && request.is_completed());
        served.map(|request| request.replica_id).collect()
    }

    /// Requests now in flight.
    pub fn len(&self) -> usize {
        self.live.len() - self.free.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl Index<Slot> for Requests {
    type Output = Request;

    #[inline]
    fn index(&self, slot: Slot) -> &Request {
        &self.live[slot.0 as usize]
    }
}

impl IndexMut<Slot> for Requests {
    #[inline]
    fn index_mut(&mut self, slot: Slot) -> &mut Request {
        &mut self.live[slot.0 as usize]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefill_yields_the_first_token() {
        let mut request = Request::new(0, 0.0, 10, 2);
        request.advance(4, 1.0);
        assert!(request.first_token_at_s.is_nan());
        request.advance(6, 2.0);
        assert_eq!(
            (request.processed_tokens, request.first_token_at_s, request.is_completed()),
            (11, 2.0, false)
        );
        request.advance(1, 3.0);
        assert!(request.is_completed());
    }

    #[test]
    fn a_restart_recomputes_what_was_cached_and_keeps_prompts_whole() {
        let mut request = Request::new(0, 0.0, 10, 5);
        request.advance(4, 1.0);
        request.restart();
        assert_eq!((request.prefill_tokens, request.decode_tokens, request.processed_tokens), (10, 5, 0));
        request.advance(10, 2.0);
        request.advance(1, 3.0);
        request.restart();
        assert_eq!((request.prefill_tokens, request.decode_tokens, request.processed_tokens), (12, 3, 0));
        request.advance(12, 4.0);
        assert_eq!((request.processed_tokens, request.first_token_at_s, request.restarts), (13, 2.0, 2));
    }
}
