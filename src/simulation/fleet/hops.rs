//! From pool to pool: what becomes of a request where it arrives, is prefilled, waits for its KV cache, and
//! where replicas are lost.

use super::flow::{Flow, Stage};
use super::routing::Candidate;
use super::run::Fleet;
use super::settings::{FirstTokenFrom, PdDecider, Reserve, Sends};
use crate::hardware::memory;
use crate::replica_scheduler::{Handover, Lane, Request, Slot};
use crate::simulation::SimulationError;
use crate::simulation::engine::{Arrival, End, Message, Place};

impl Fleet<'_> {
    /// A request arrives.
    pub(super) fn arrive(&mut self, arrival: Arrival) {
        let id = arrival.id;
        let mut flow = Flow::new(&arrival, self.inputs.workload.outputs.settings.ignore_eos);
        let group = &self.groups[self.inputs.group_of(id)];
        let (prefill, decode) = (arrival.prefill_tokens, arrival.decode_tokens);
        let apart = !group.decode.is_empty();
        let first_decodes = if apart { 1 } else { decode };
        let fits = group.first.iter().any(|&pool| self.pools[pool].fits(prefill, first_decodes))
            && (!apart || group.decode.iter().any(|&pool| self.pools[pool].fits(prefill, decode)));
        flow.apart = apart && self.is_apart(&arrival);
        self.flows.insert(flow);
        if fits { self.set_out(id) } else { self.leave(id, None, End::Rejected, self.now_s) }
    }

    /// Lets a request begin, or begin again: at once, or where there is room for it on a decode replica.
    fn set_out(&mut self, id: u32) {
        if self.flows.get(id).apart && self.transfer.reserve == Reserve::Arrival {
            self.ask_for_room(id, Stage::Asks);
        } else {
            self.begin(id);
        }
    }

    /// Whether a request is prefilled apart from where it decodes.
    fn is_apart(&mut self, arrival: &Arrival) -> bool {
        if matches!(self.decider, PdDecider::Always(_) | PdDecider::Never(_)) {
            return matches!(self.decider, PdDecider::Always(_));
        }
        let prompt = arrival.prefill_tokens;
        if let PdDecider::PrefillLoad(settings) = &self.decider {
            let most = settings.queued_tokens;
            let pools = &self.groups[self.inputs.group_of(arrival.id)].first;
            let chosen = self.router.peek(&self.candidates(pools, prompt, 1), prompt);
            let queued = chosen.and_then(|pool| self.pools[pool].queued_prefill_tokens(arrival.id, prompt));
            return queued.is_some_and(|queued| queued <= most);
        }
        let pools = &self.groups[self.inputs.group_of(arrival.id)].decode;
        let chosen = self.router.peek(&self.candidates(pools, prompt, arrival.decode_tokens), prompt);
        let cached = chosen.map_or(0, |pool| self.pools[pool].cached_tokens(arrival.id, prompt, self.now_s));
        let missing = prompt - cached;
        match &self.decider {
            PdDecider::PrefixBased(settings) => {
                settings.non_cached_tokens > 0 && missing > settings.non_cached_tokens
            }
            PdDecider::IslBounding(settings) => {
                missing >= settings.threshold_tokens
                    || f64::from(missing) / f64::from(prompt) >= settings.ratio
            }
            PdDecider::Always(_) | PdDecider::Never(_) | PdDecider::PrefillLoad(_) => true,
        }
    }

    /// Pools that could serve such a request.
    fn candidates(&self, pools: &[usize], prefill_tokens: u32, decode_tokens: u32) -> Vec<Candidate> {
        // Where no replica is and none will come, nobody is sent, unless there is nowhere else.
        let any_may = pools.iter().any(|&pool| self.pools[pool].may_serve());
        let fitting = pools.iter().copied().filter(|&pool| {
            self.pools[pool].fits(prefill_tokens, decode_tokens) && (!any_may || self.pools[pool].may_serve())
        });
        let candidate = |pool: usize| {
            let standing = self.pools[pool].standing();
            Candidate {
                pool,
                serving: standing.existing - standing.draining,
                outstanding: self.pools[pool].here(),
            }
        };
        fitting.map(candidate).collect()
    }

    /// Chooses a pool of a group for such a request, where it begins or where it `decodes`, if any could
    /// serve it.
    fn choose_pool(
        &mut self,
        group: usize,
        decodes: bool,
        prefill_tokens: u32,
        decode_tokens: u32,
    ) -> Option<usize> {
        let group = &self.groups[group];
        let pools = if decodes { &group.decode } else { &group.first };
        if let &[pool] = &pools[..] {
            return self.pools[pool].fits(prefill_tokens, decode_tokens).then(|| self.router.take(pool));
        }
        let candidates = self.candidates(pools, prefill_tokens, decode_tokens);
        (!candidates.is_empty()).then(|| self.router.choose(&candidates, prefill_tokens))
    }

    /// Gives a request to the pool where it is to begin, or to begin again.
    fn begin(&mut self, id: u32) {
        let flow = self.flows.get(id);
        flow.stage = if flow.stage == Stage::Asks { Stage::Reserved } else { Stage::First };
        flow.kept_at = None;
        (flow.prefill_end_s, flow.transfer_start_s, flow.transfer_end_s) = (f64::NAN, f64::NAN, f64::NAN);
        let (apart, prefill, decode) =
            (flow.apart, flow.prefill_tokens, if flow.apart { 1 } else { flow.decode_tokens });
        let handover = Handover { leaves: apart, ..Handover::default() };
        let arrival = flow.next(self.now_s, decode, handover);
        let group = self.inputs.group_of(id);
        let decodes = !apart && !self.groups[group].decode.is_empty();
        let Some(pool) = self.choose_pool(group, decodes, prefill, decode) else {
            // It has grown since it arrived, by tokens that are lost with a replica.
            self.give_room_back(id);
            return self.leave(id, None, End::Rejected, self.now_s);
        };
        let flow = self.flows.get(id);
        flow.prefill_pool = pool;
        if flow.stage != Stage::Reserved {
            flow.decode_pool = (!apart).then_some(pool);
        }
        self.pools[pool].hand_in(arrival);
    }

    /// Gives a request that has been prefilled to the pool where it is to decode.
    fn hand_over(&mut self, id: u32) {
        self.ask_for_room(id, Stage::Waits);
    }

    /// Lets a request wait at a decode pool for room.
    fn ask_for_room(&mut self, id: u32, stage: Stage) {
        let handover = Handover {
            awaited: true,
            at_once: self.transfer.is_instant() && stage == Stage::Waits,
            with_token: self.transfer.first_token == FirstTokenFrom::Handoff,
            leaves: false,
        };
        let flow = self.flows.get(id);
        flow.stage = stage;
        let arrival = flow.next(self.now_s, flow.decode_tokens, handover);
        let group = self.inputs.group_of(id);
        let Some(pool) = self.choose_pool(group, true, arrival.prefill_tokens, arrival.decode_tokens) else {
            // It has grown since it arrived, by tokens that were lost with a replica.
            self.let_go(id);
            return self.leave(id, None, End::Rejected, self.now_s);
        };
        self.flows.get(id).decode_pool = Some(pool);
        self.pools[pool].hand_in(arrival);
    }

    /// Hears what pools tell, and lets them do what comes of it, until they have nothing more to tell.
    pub(super) fn hear(&mut self) -> Result<(), SimulationError> {
        loop {
            let mut heard = false;
            for pool in 0..self.pools.len() {
                self.pools[pool].settle()?;
                if !self.pools[pool].has_told() {
                    continue;
                }
                let mut messages = std::mem::take(&mut self.messages);
                self.pools[pool].swap_messages(&mut messages);
                messages.drain(..).for_each(|message| self.take_in(pool, message));
                self.messages = messages;
                heard = true;
            }
            if !heard {
                return Ok(());
            }
        }
    }

    fn take_in(&mut self, pool: usize, message: Message) {
        match message {
            Message::Left { request, lane, end, at_s } => self.leaves_pool(pool, &request, lane, end, at_s),
            Message::Reserved { id, place, cached_tokens } => self.is_given_room(id, place, cached_tokens),
            Message::Lost { request } => self.lose_place(&request),
            Message::KvLost { id } => self.lose_kept(id),
        }
    }

    /// A request has left a pool.
    fn leaves_pool(&mut self, pool: usize, request: &Request, lane: Lane, end: End, at_s: f64) {
        let id = request.id;
        let flow = self.flows.get(id);
        let is_reserved = flow.stage == Stage::Reserved;
        let is_prefilled = flow.apart && (flow.stage == Stage::First || is_reserved) && end == End::Answered;
        let place = Place { lane, replica_id: request.replica_id, slot: Slot(u32::MAX) };
        if end != End::Refused && end != End::Rejected {
            flow.note(request);
        }
        if is_prefilled {
            flow.prefill_end_s = at_s;
            (flow.kept_at, flow.last_prefill) = (Some(place), Some(place));
            // Where the first token comes with the KV cache and is the last, nobody waits for the cache.
            if self.transfer.first_token == FirstTokenFrom::Handoff && flow.decode_tokens == 1 {
                if flow.whole.first_token_at_s.is_nan() {
                    flow.whole.first_token_at_s = at_s;
                }
                self.let_go(id);
                self.give_room_back(id);
                self.leave(id, Some((pool, place)), End::Answered, at_s);
            } else if is_reserved {
                self.send(id);
            } else {
                self.hand_over(id);
            }
            return;
        }
        if flow.whole.first_token_at_s.is_nan() {
            flow.whole.first_token_at_s = request.first_token_at_s;
        }
        self.let_go(id);
        self.give_room_back(id);
        self.leave(id, (end == End::Answered || end == End::Cut).then_some((pool, place)), end, at_s);
    }

    /// Gives back the room that a decode replica has for a request whose prompt will not be sent there.
    fn give_room_back(&mut self, id: u32) {
        let flow = self.flows.get(id);
        if flow.stage == Stage::Reserved {
            let pool = flow.decode_pool.expect("it was given room there");
            (flow.stage, flow.place) = (Stage::First, None);
            self.pools[pool].withdraw(id, self.now_s);
        }
    }

    /// Lets the prefill replica of a request go on without its KV cache.
    fn let_go(&mut self, id: u32) {
        let flow = self.flows.get(id);
        if let Some(kept_at) = flow.kept_at.take() {
            let (blocks_s, pool) = (self.now_s - flow.prefill_end_s, flow.prefill_pool);
            let tokens = flow.prefill_tokens;
            self.books.note_kept(pool, tokens, blocks_s);
            self.pools[pool].kv_was_read(kept_at.lane, id, self.now_s);
        }
    }

    /// A decode replica has room for a request: its KV cache sets out, or its prompt is computed now.
    fn is_given_room(&mut self, id: u32, place: Place, cached_tokens: u32) {
        let flow = self.flows.get(id);
        flow.place = Some(place);
        flow.reused_tokens = cached_tokens;
        flow.room_s = self.now_s;
        if flow.stage == Stage::Asks { self.begin(id) } else { self.send(id) }
    }

    /// Sends the KV cache of a request to the decode replica that has room for it.
    fn send(&mut self, id: u32) {
        let now_s = self.now_s;
        let flow = self.flows.get(id);
        let (from, to) =
            (flow.prefill_pool, flow.decode_pool.expect("whoever is given room was handed over"));
        let (place, cached_tokens) = (flow.place.expect("it was given room"), flow.reused_tokens);
        let was_reserved = flow.stage == Stage::Reserved;
        flow.transfer_start_s = now_s;
        let tokens = match self.transfer.sends {
            Sends::Missing => flow.prefill_tokens - cached_tokens,
            Sends::FullPrompt => flow.prefill_tokens,
        };
        let (per_rank, all) = self.bytes_to_send(from, to, tokens);
        let flow = self.flows.get(id);
        flow.sent = (tokens, all);
        if self.transfer.is_instant() {
            flow.stage = Stage::Decodes;
            flow.transfer_end_s = now_s;
            let held_s = now_s - flow.room_s;
            self.books.note_transfer(all, [0.0, held_s], to, tokens);
            self.let_go(id);
            if was_reserved {
                self.pools[to].receive_kv(place, now_s);
            }
            return;
        }
        flow.stage = Stage::Moves;
        let kept_at = flow.kept_at.expect("what is sent is kept until it has arrived");
        self.links.begin(
            id,
            (from as u32, kept_at.replica_id.0),
            (to as u32, place.replica_id.0),
            per_rank,
            now_s,
        );
    }

    /// Bytes that the busiest rank sends or receives for so many tokens, and those of all together.
    fn bytes_to_send(&self, from: usize, to: usize, tokens: u32) -> (f64, f64) {
        let ranks = |pool: usize| f64::from(self.inputs.pools[pool].cluster.tensor_parallel);
        let times = self.inputs.pools[to].execution_time;
        // What a rank keeps of a token, over all layers: a share of the heads, or, of a latent, all of it.
        let kept =
            memory::kv_bytes_per_token(&times.deployment, times.kv_cache, tokens.max(1)) * f64::from(tokens);
        let (senders, receivers) = (ranks(from), ranks(to));
        (kept * (receivers / senders).max(1.0), kept * receivers)
    }

    /// A KV cache has arrived.
    pub(super) fn transfer_ends(&mut self, id: u32) {
        let now_s = self.now_s;
        let flow = self.flows.get(id);
        flow.stage = Stage::Decodes;
        flow.transfer_end_s = now_s;
        let to = flow.decode_pool.expect("it was given room there");
        let (place, took_s) = (flow.place.expect("it was given room"), now_s - flow.transfer_start_s);
        let held_s = now_s - flow.room_s;
        let (tokens, bytes) = flow.sent;
        self.books.note_transfer(bytes, [took_s, held_s], to, tokens);
        self.let_go(id);
        self.pools[to].receive_kv(place, now_s);
    }

    /// A decode replica is lost that a request was at.
    fn lose_place(&mut self, request: &Request) {
        let id = request.id;
        let flow = self.flows.get(id);
        let stage = flow.stage;
        flow.start_over(request);
        match stage {
            Stage::Moves => {
                self.links.cancel(id, self.now_s);
                self.hand_over(id);
            }
            Stage::Waits => self.hand_over(id),
            // Its prompt is being computed: it asks for room elsewhere when that is done.
            Stage::Reserved => self.flows.get(id).stage = Stage::First,
            Stage::Asks | Stage::First | Stage::Decodes => self.set_out(id),
        }
    }

    /// A prefill replica is lost that kept the KV cache of a request.
    fn lose_kept(&mut self, id: u32) {
        let now_s = self.now_s;
        let flow = self.flows.get(id);
        flow.whole.restarts += 1;
        flow.kept_at = None;
        let decode_pool = flow.decode_pool.expect("whatever is kept is for a decode pool");
        if flow.stage == Stage::Moves {
            self.links.cancel(id, now_s);
        }
        self.pools[decode_pool].withdraw(id, now_s);
        self.flows.get(id).place = None;
        self.set_out(id);
    }

    /// A request leaves the fleet.
    fn leave(&mut self, id: u32, from: Option<(usize, Place)>, end: End, at_s: f64) {
        let api_s = from.map_or(0.0, |(pool, _)| self.pools[pool].api_s());
        let how = self.books.leave(self.flows.get(id), from, end, at_s, api_s);
        self.flows.remove(id);
        if let Some(turns) = self.feed.turns() {
            let cancelled = turns.left(id, at_s + if end == End::Answered { api_s } else { 0.0 }, how);
            self.books.cancel(cancelled);
            self.feed.look_again();
        }
    }
}
