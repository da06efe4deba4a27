//! Who is admitted, and with how much of the prompt: SGLang's `PrefillAdder`.

use super::iteration::Iteration;
use super::state::{Kind, Launch, Row, State};
use super::{CLIPPED_NEW_TOKENS, Rules};
use crate::replica_scheduler::Slot;

/// Why nobody else is admitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    /// The cache has no room for what the next one may need.
    NoTokens,
    /// The batch is as large as it may be.
    Budget,
}

/// What one batch has room for, less what it has been given. Whatever is charged is rounded up to pages.
#[derive(Debug)]
struct Budgets {
    page_tokens: u32,
    /// Tokens kept for the requests that run, and those given away.
    reserved: f64,
    /// Those given away without what they may generate.
    current: i64,
    input: i64,
    /// `None` where prompts are not chunked.
    chunk: Option<i64>,
    admitted: Vec<Slot>,
    /// The request of which only a chunk was admitted.
    begun: Option<Slot>,
    /// Tokens left to generate, and held then, of those that run or are admitted; in order of the former.
    ends: Option<Vec<(f64, u32)>>,
}

impl Budgets {
    fn new(rules: &Rules, state: &State) -> Self {
        let mixed = if rules.mixed_chunks { state.running.len() as i64 } else { 0 };
        let running: f64 =
            state.running.iter().map(|&slot| state.reserved(slot)).fold(0.0, |sum, tokens| sum + tokens);
        Self {
            page_tokens: state.page_tokens,
            reserved: mixed as f64 + running,
            current: mixed,
            input: i64::from(rules.max_prefill_tokens) - mixed,
            chunk: rules.chunk_size_tokens.map(|tokens| i64::from(tokens) - mixed),
            admitted: Vec::new(),
            begun: None,
            ends: None,
        }
    }

    /// Tokens of the cache that nobody may come to need.
    fn total(&self, state: &State) -> f64 {
        f64::from(state.available_tokens()) - self.reserved
    }

    fn charge(&mut self, tokens: u32, new_tokens: u32) {
        let tokens = i64::from(tokens.next_multiple_of(self.page_tokens));
        let immediate = tokens + i64::from(self.page_tokens);
        self.reserved += (immediate + i64::from(new_tokens)) as f64;
        self.current += immediate;
        self.input -= tokens;
        self.chunk = self.chunk.map(|left| left - tokens);
    }

    fn stop(&self, state: &State) -> Option<Stop> {
        if self.total(state) <= 0.0 || i64::from(state.available_tokens()) <= self.current {
            Some(Stop::NoTokens)
        } else if self.input <= 0 || self.chunk.is_some_and(|left| left <= 0) {
            Some(Stop::Budget)
        } else {
            None
        }
    }
}

impl Iteration<'_> {
    /// Requests that may be admitted beside those that run, `held` of them with a place already.
    fn places(&self, held: u32) -> i64 {
        let state = &*self.state;
        let most = i64::from(state.max_running_requests);
        (most - state.running.len() as i64).min(most - i64::from(state.in_memory) + i64::from(held))
    }

    /// A batch of prompts, or the next chunk of one, if there is any to compute and room for it.
    pub(super) fn prefill(&mut self) -> Option<Launch> {
        let state = &mut *self.state;
        if state.running.is_empty() || self.rules.priority_scheduling {
            state.full = false;
        }
        if (state.full || state.seen == 0) && state.chunked.is_none() {
            return None;
        }
        if self.places(0) <= 0 && self.state.chunked.is_none() && !self.rules.priority_scheduling {
            self.state.full = true;
            return None;
        }
        self.order_queue();
        let mut budgets = Budgets::new(self.rules, self.state);
        if !self.continue_chunk(&mut budgets) {
            return None;
        }
        let held = budgets.admitted.len() as u32;
        let mut place = 0;
        while place < self.state.seen {
            let slot = *self.replica.queue.iter().nth(place).expect("those that are seen are in the queue");
            if budgets.stop(self.state) == Some(Stop::Budget) {
                break;
            }
            if budgets.admitted.len() as i64 >= self.places(held) {
                self.state.full = true;
            }
            if self.state.full && !self.preempt_for(slot, &mut budgets) {
                break;
            }
            let stop = self.admit(slot, &mut budgets);
            if stop == Some(Stop::NoTokens) && budgets.admitted.is_empty() && self.has_all() {
                // SGLang would have it wait for ever, and everybody behind it.
                self.replica.queue.pop_front();
                self.state.seen -= 1;
                self.replica.rejected.push(slot);
                budgets.ends = None;
                continue;
            }
            place += 1;
            if let Some(stop) = stop.or_else(|| budgets.stop(self.state)) {
                if stop == Stop::NoTokens {
                    self.state.full = !budgets.admitted.is_empty() || !self.state.running.is_empty();
                }
                break;
            }
        }
        if budgets.admitted.is_empty() {
            return None;
        }
        Some(self.launch_prefill(budgets, held))
    }

    /// Whether the whole cache is there for whoever comes first: what does not fit then never will.
    fn has_all(&self) -> bool {
        let state = &*self.state;
        state.in_memory == 0
            && state.chunked.is_none()
            && state.running.is_empty()
            && state.available_tokens() == state.kv_tokens
    }

    /// The chunk in progress goes first: what the batch and the cache have room for. False if that is
    /// nothing.
    fn continue_chunk(&mut self, budgets: &mut Budgets) -> bool {
        let (Some(slot), Some(chunk)) = (self.state.chunked, budgets.chunk) else { return true };
        // It goes on even where room is kept for others: it has to, to be done with. Never beyond what there
        // is.
        let total = budgets.total(self.state) as i64;
        let room = if total > 0 { chunk.min(total) } else { chunk };
        let room = room.min(self.state.available_tokens().into());
        if room <= 0 {
            return false;
        }
        let known = self.state.of_mut(slot);
        let left = i64::from(known.tokens() - known.prefix_tokens);
        let tokens = left.min(room) as u32;
        known.end = known.prefix_tokens + tokens;
        let new_tokens = if left <= room { known.max_new_tokens.min(CLIPPED_NEW_TOKENS) } else { 0 };
        budgets.admitted.push(slot);
        budgets.charge(tokens, new_tokens);
        if left <= room {
            self.state.chunked = None;
        }
        true
    }

    /// Takes requests out of memory for one that finds no place and is of much higher priority: the least
    /// important first, of those the latest. Whether that makes room enough.
    fn preempt_for(&mut self, slot: Slot, budgets: &mut Budgets) -> bool {
        if !self.rules.priority_scheduling {
            return false;
        }
        let state = &*self.state;
        let known = state.of(slot);
        let needed = known.tokens() - known.prefix_tokens + known.max_new_tokens.min(CLIPPED_NEW_TOKENS);
        let mut missing = f64::from(needed) - budgets.total(state);
        let mut running: Vec<Slot> =
            state.running.iter().copied().filter(|&slot| !state.of(slot).has_left).collect();
        running.sort_by_key(|&slot| (state.of(slot).priority, std::cmp::Reverse(state.of(slot).entered)));
        let mut victims = Vec::new();
        for victim in running {
            let above = i64::from(known.priority) - i64::from(state.of(victim).priority);
            if above <= i64::from(self.rules.preemption_threshold) {
                break;
            }
            victims.push(victim);
            missing -= state.reserved(victim);
            if missing <= 0.0 {
                break;
            }
        }
        if victims.is_empty() || missing > 0.0 {
            return false;
        }
        for victim in victims {
            budgets.reserved -= self.state.reserved(victim);
            self.state.running.retain(|&running| running != victim);
            self.take_out(victim);
        }
        true
    }

    /// Admits a waiting request, or says why not.
    fn admit(&mut self, slot: Slot, budgets: &mut Budgets) -> Option<Stop> {
        let caching = self.rules.prefix_caching;
        let state = &mut *self.state;
        let known = &mut state.known[slot.0 as usize];
        let tokens = known.tokens();
        let (found, node) = if caching {
            let (found, node) = state.tree.look_up(known.reader(tokens - 1));
            (found, Some(node))
        } else {
            (0, None)
        };
        known.prefix_tokens = found;
        known.in_tree = found;
        if known.ignore_eos && !caching {
            return self.admit_by_ends(slot, budgets);
        }
        let extend = tokens - found;
        let still_to_come = known.max_new_tokens.saturating_sub(known.generated).min(CLIPPED_NEW_TOKENS);
        let most = known.max_new_tokens.min(CLIPPED_NEW_TOKENS);
        if let Some(node) = node {
            state.tree.lock(node);
        }
        let stop = if f64::from(extend + still_to_come + state.page_tokens) >= budgets.total(state) {
            Some(Stop::NoTokens)
        } else {
            match budgets.chunk {
                None if !budgets.admitted.is_empty() && i64::from(state.paged(extend)) >= budgets.input => {
                    Some(Stop::Budget)
                }
                Some(left) if i64::from(state.paged(extend)) > left => {
                    let chunk = state.whole_pages(left.max(0) as u32);
                    if chunk > 0 {
                        budgets.begun = Some(slot);
                        budgets.take(state, slot, chunk, 0);
                        None
                    } else {
                        Some(Stop::Budget)
                    }
                }
                _ => {
                    budgets.take(state, slot, extend, most);
                    None
                }
            }
        };
        if let Some(node) = node {
            if stop.is_none() {
                state.of_mut(slot).node = Some(node);
            } else {
                state.tree.unlock(node);
            }
        }
        stop
    }

    /// The same where nothing is cached and outputs are known to be as long as they may be: a request is
    /// admitted if, as the others end one by one, there is always a token for each of those left.
    fn admit_by_ends(&mut self, slot: Slot, budgets: &mut Budgets) -> Option<Stop> {
        let state = &*self.state;
        let known = state.of(slot);
        let (tokens, most) = (known.tokens(), known.max_new_tokens.min(CLIPPED_NEW_TOKENS));
        let needed = i64::from(state.paged(tokens) + state.page_tokens);
        let free = i64::from(state.free_tokens) - budgets.current;
        if needed as f64 > budgets.total(state).min(free as f64) {
            return Some(Stop::NoTokens);
        }
        let end = |slot: Slot| {
            let known = state.of(slot);
            let share = if known.ignore_eos { 1.0 } else { state.reserved_share };
            (f64::from(known.max_new_tokens) * share - f64::from(known.generated), known.tokens())
        };
        match &mut budgets.ends {
            None => {
                let all = std::iter::once(slot)
                    .chain(state.running.iter().copied())
                    .chain(budgets.admitted.iter().copied());
                let mut ends: Vec<_> = all.map(end).filter(|&(left, _)| left > 0.0).collect();
                ends.sort_by(|(one, _), (other, _)| one.total_cmp(other));
                budgets.ends = Some(ends);
            }
            Some(ends) => {
                let (left, held) = end(slot);
                if left > 0.0 {
                    // One later than all others goes before the last, as there.
                    let place = ends
                        .iter()
                        .position(|&(other, _)| left <= other)
                        .unwrap_or(ends.len().saturating_sub(1));
                    ends.insert(place, (left, held));
                }
            }
        }
        let ends = budgets.ends.as_deref().unwrap_or_default();
        let (free, mut freed) = ((free - needed) as f64, 0.0);
        for (index, &(left, held)) in ends.iter().enumerate() {
            let number = (ends.len() - index) as f64;
            if free + freed - left * number <= number {
                return Some(Stop::NoTokens);
            }
            freed += f64::from(held);
        }
        match budgets.chunk {
            Some(left) if i64::from(tokens) > left => {
                if left <= 0 {
                    return Some(Stop::Budget);
                }
                budgets.begun = Some(slot);
                budgets.take(self.state, slot, left as u32, 0);
            }
            _ => budgets.take(self.state, slot, tokens, most),
        }
        None
    }

    /// Gives the admitted requests their room.
    fn launch_prefill(&mut self, budgets: Budgets, held: u32) -> Launch {
        let admitted = &budgets.admitted;
        for _ in held as usize..admitted.len() {
            self.replica.queue.pop_front();
            self.state.seen -= 1;
        }
        let state = &mut *self.state;
        state.chunked = budgets.begun.or(state.chunked);
        if let Some(slot) = state.chunked {
            state.of_mut(slot).chunks_under_way += 1;
        }
        let extend: u32 =
            admitted.iter().map(|&slot| state.of(slot).end - state.of(slot).prefix_tokens).sum();
        let spare = if state.page_tokens == 1 { 0 } else { admitted.len() as u32 * state.page_tokens };
        state.make_room(extend + spare);
        let mut rows = Vec::with_capacity(admitted.len());
        for &slot in admitted {
            let known = state.of_mut(slot);
            let (before, end) = (known.prefix_tokens, known.end);
            known.retracted = false;
            if !known.in_memory {
                known.in_memory = true;
                known.cached_tokens = before;
                state.in_memory += 1;
                let request = &mut self.requests[slot];
                request.processed_tokens = before;
                request.blocks = 1;
                if request.restarts == 0 {
                    request.cached_tokens = before;
                }
                self.replica.allocated += 1;
            }
            state.extend(slot, end);
            rows.push(Row { slot, before, tokens: end - before, decodes: false });
        }
        let mut launch = Launch { kind: Kind::Prefill, rows, chunked: state.chunked };
        if self.rules.mixed_chunks && !state.running.is_empty() {
            if self.let_finishing_go() > 0 {
                self.state.full = false;
            }
            // Where their tokens do not fit beside the prompts, those that run sit this one out.
            if !self.state.running.is_empty() && self.decodes_fit() {
                launch.rows.extend(self.decode_rows());
                launch.kind = Kind::Mixed;
                self.state.running.clear();
            }
        }
        launch
    }
}

impl Budgets {
    fn take(&mut self, state: &mut State, slot: Slot, tokens: u32, new_tokens: u32) {
        let known = state.of_mut(slot);
        known.end = known.prefix_tokens + tokens;
        self.admitted.push(slot);
        self.charge(tokens, new_tokens);
    }
}
