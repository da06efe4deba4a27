//! One iteration of SGLang's event loop: what runs next, and what becomes of the results.

use super::Rules;
use super::state::{Kind, Launch, Row, State};
use crate::replica_scheduler::{Batch, ReplicaState, Requests, Slot};

/// A replica at work.
pub struct Iteration<'a> {
    pub rules: &'a Rules,
    pub state: &'a mut State,
    pub replica: &'a mut ReplicaState,
    pub requests: &'a mut Requests,
}

impl Iteration<'_> {
    /// Sees the first `number` requests of the queue, if that is more than before.
    pub fn see(&mut self, number: usize) {
        let (state, requests) = (&mut *self.state, &*self.requests);
        for &slot in self.replica.queue.iter().take(number).skip(state.seen) {
            state.meet(slot, &requests[slot], requests.prompt(slot));
        }
        state.seen = state.seen.max(number);
    }

    /// Sees the requests that were there at a time.
    pub fn see_until(&mut self, time_s: f64) {
        let (queue, requests) = (&self.replica.queue, &*self.requests);
        let later = queue
            .iter()
            .skip(self.state.seen)
            .take_while(|&&slot| requests[slot].arrived_at_s <= time_s)
            .count();
        self.see(self.state.seen + later);
    }

    /// Puts the next batch together: a prefill if there can be one, which then runs alone (or with the next
    /// tokens of those that run, if chunks are mixed), otherwise a token for each that runs.
    pub fn plan(&mut self) -> Option<Launch> {
        let state = &mut *self.state;
        state.retracted.clear();
        if let Some(slot) = state.chunked {
            let (end, prefix_tokens) = (state.of(slot).end, state.of(slot).prefix_tokens);
            if end > prefix_tokens {
                state.put_into_tree(slot, end, self.rules.prefix_caching);
            }
        }
        self.take_over();
        let mut launch = None;
        if self.state.decodes_due > 0 {
            self.state.decodes_due -= 1;
        } else {
            launch = self.prefill();
        }
        if launch.is_none() && !self.state.running.is_empty() {
            launch = self.decode();
        }
        if launch.as_ref().is_some_and(|launch| launch.kind != Kind::Decode) {
            self.state.decodes_due = self.rules.prefill_decode_interval;
        }
        launch
    }

    /// Lets the requests run whose prompts the last batch computed, and forgets those that have left.
    fn take_over(&mut self) {
        let state = &mut *self.state;
        if std::mem::take(&mut state.somebody_left) {
            state.full = false;
        }
        let State { last, running, known, chunked, .. } = state;
        let gone = |slot: Slot| known[slot.0 as usize].has_left;
        if let Some(last) = last.as_ref().filter(|last| last.kind != Kind::Decode) {
            let before = running.len();
            let in_chunks = |slot| Some(slot) == *chunked || Some(slot) == last.chunked;
            running
                .extend(last.rows.iter().map(|row| row.slot).filter(|&slot| !in_chunks(slot) && !gone(slot)));
            let more = running.len() - before;
            // That it is full is said of the requests that run. If there were none, those of the last batch
            // are a batch of their own.
            if more < last.rows.len() || before == 0 && more > 0 {
                state.full = false;
            }
        }
        let before = running.len();
        running.retain(|&slot| !gone(slot));
        if running.len() < before {
            state.full = false;
        }
    }

    /// Of the requests that run, those that end by length with the step under way.
    fn finishing(&self) -> Vec<Slot> {
        let state = &*self.state;
        let Some(under_way) = state.last.as_ref().filter(|_| self.rules.overlap) else { return Vec::new() };
        let ends = |&slot: &Slot| state.of(slot).generated + 1 >= state.of(slot).max_new_tokens;
        let ending: Vec<Slot> = under_way.rows.iter().map(|row| row.slot).filter(ends).collect();
        if ending.is_empty() {
            return ending;
        }
        state.running.iter().copied().filter(|slot| ending.contains(slot)).collect()
    }

    /// Lets the running requests go that end with the step under way; returns how many.
    pub(super) fn let_finishing_go(&mut self) -> usize {
        let finishing = self.finishing();
        if !finishing.is_empty() {
            self.state.running.retain(|slot| !finishing.contains(slot));
        }
        finishing.len()
    }

    /// Whether there is room for the next token of all that run, after evicting what it takes.
    pub(super) fn decodes_fit(&mut self) -> bool {
        let state = &mut *self.state;
        let pages = state
            .running
            .iter()
            .filter(|&&slot| state.of(slot).cached_tokens.is_multiple_of(state.page_tokens))
            .count();
        let needed = pages as u32 * state.page_tokens;
        state.make_room(needed);
        state.free_tokens >= needed
    }

    /// The next token of all that run, for which there is room.
    pub(super) fn decode_rows(&mut self) -> Vec<Row> {
        let state = &mut *self.state;
        // A page for each is asked for, needed or not.
        state.make_room(state.running.len() as u32 * state.page_tokens);
        let mut rows = Vec::with_capacity(state.running.len());
        for index in 0..state.running.len() {
            let slot = state.running[index];
            let before = state.of(slot).cached_tokens;
            state.extend(slot, before + 1);
            rows.push(Row { slot, before, tokens: 1, decodes: true });
        }
        rows
    }

    fn decode(&mut self) -> Option<Launch> {
        let finishing = self.let_finishing_go();
        if self.state.running.is_empty() {
            self.state.full = false;
            return None;
        }
        let mut fewer = finishing > 0;
        if self.decodes_fit() {
            self.state.reserved_share =
                (self.state.reserved_share - self.rules.share_decay).max(self.rules.least_share);
        } else if finishing > 0 {
            // Room comes with the results: better to wait for them than to take one out of memory.
            self.state.full = false;
            return None;
        } else {
            self.retract();
            fewer = true;
        }
        if fewer {
            self.state.full = false;
        }
        let rows = self.decode_rows();
        (!rows.is_empty()).then_some(Launch { kind: Kind::Decode, rows, chunked: None })
    }

    /// Takes requests out of memory until the next step fits: those first that have generated least, among
    /// equals the longest prompt. They go to the end of the queue.
    fn retract(&mut self) {
        let state = &mut *self.state;
        let mut running = std::mem::take(&mut state.running);
        let rank = |&slot: &Slot| (state.of(slot).generated, -i64::from(state.of(slot).prompt_tokens));
        running.sort_by_key(|slot| std::cmp::Reverse(rank(slot)));
        self.state.running = running;
        let mut first = true;
        while first || !self.decodes_fit() {
            first = false;
            if self.state.running.len() == 1 {
                break;
            }
            let slot = self.state.running.pop().expect("more than one runs");
            self.take_out(slot);
        }
        if self.state.running.len() == 1 && !self.decodes_fit() {
            let slot = self.state.running.pop().expect("one runs");
            self.state.free(slot);
            self.state.of_mut(slot).retracted = true;
            self.state.aborted.push(slot);
        }
        let state = &mut *self.state;
        let (mut generated, mut most) = (0, 0);
        for &slot in &state.running {
            generated += u64::from(state.of(slot).generated);
            most += u64::from(state.of(slot).max_new_tokens);
        }
        let ahead = u64::from(super::RETRACT_STEPS) * state.running.len() as u64;
        state.reserved_share = ((generated + ahead) as f64 / (most + 1) as f64).min(1.0);
    }

    /// Takes a request that no longer runs out of memory: it keeps what it has generated, and goes to the end
    /// of the queue.
    pub(super) fn take_out(&mut self, slot: Slot) {
        let state = &mut *self.state;
        state.free(slot);
        // Room for the next steps of the others.
        state.make_room(state.running.len() as u32 * super::RETRACT_STEPS);
        let known = state.of_mut(slot);
        known.retracted = true;
        known.chunks_under_way = 0;
        state.retracted.push(slot);
        state.entered += 1;
        state.of_mut(slot).entered = state.entered;
        self.replica.queue.insert(state.seen, slot);
        state.seen += 1;
        let request = &mut self.requests[slot];
        request.restart();
        request.blocks = 0;
        self.replica.allocated -= 1;
    }

    /// Takes what a batch yielded.
    pub fn take_results(&mut self, launch: &Launch) {
        for row in &launch.rows {
            let known = self.state.of_mut(row.slot);
            if known.has_left {
                self.release(row.slot);
                continue;
            }
            if known.retracted {
                continue;
            }
            if launch.kind != Kind::Decode && known.chunks_under_way > 0 {
                known.chunks_under_way -= 1;
                continue;
            }
            known.generated += 1;
            let (end, cached_tokens, tokens) = (known.end, known.cached_tokens, known.tokens());
            if known.generated >= known.output_tokens {
                self.state.put_into_tree(row.slot, cached_tokens.min(tokens), self.rules.prefix_caching);
                self.state.free(row.slot);
                self.leave(row.slot);
            } else if !row.decodes {
                self.state.put_into_tree(row.slot, end, self.rules.prefix_caching);
            }
        }
    }

    /// Lets go of a finished request, unless the next batch, put together before its end was known, has it
    /// once more.
    fn leave(&mut self, slot: Slot) {
        let state = &mut *self.state;
        let has = |launch: &Launch| launch.rows.iter().any(|row| row.slot == slot);
        if self.rules.overlap {
            if matches!(&state.ahead, Some(Some(launch)) if has(launch)) {
                state.of_mut(slot).has_left = true;
                return;
            }
            let before = state.running.len();
            state.running.retain(|&running| running != slot);
            state.somebody_left |= state.running.len() < before;
        } else {
            state.running.retain(|&running| running != slot);
            state.of_mut(slot).has_left = true;
            state.somebody_left = true;
        }
        self.release(slot);
    }

    /// Hands over the requests that do not fit even alone.
    pub fn give_up_aborted(&mut self) {
        for slot in self.state.aborted.drain(..) {
            self.requests[slot].blocks = 0;
            self.replica.allocated -= 1;
            self.replica.rejected.push(slot);
        }
    }

    fn release(&mut self, slot: Slot) {
        self.requests[slot].blocks = 0;
        self.requests.release(slot);
        self.replica.allocated -= 1;
    }

    /// Starts a batch that was put together.
    pub fn launch(&mut self, launch: &Launch, batch: &mut Batch) {
        let (state, requests) = (&*self.state, &mut *self.requests);
        for row in &launch.rows {
            let request = &mut requests[row.slot];
            request.blocks = state.of(row.slot).cached_tokens.div_ceil(state.page_tokens);
            if row.decodes {
                batch.add_decode(row.slot, request);
            } else {
                batch.add_prefill(row.slot, request, row.tokens);
            }
        }
    }

    /// Tells the replica what is free or can be made so.
    pub fn settle(&mut self) {
        let state = &*self.state;
        self.replica.kv.free = state.available_tokens() / state.page_tokens;
    }
}
