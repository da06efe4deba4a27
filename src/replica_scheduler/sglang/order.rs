//! In which order waiting requests are admitted.

use super::Policy;
use super::iteration::Iteration;
use super::tree::RadixTree;
use crate::replica_scheduler::Slot;

/// Waiting requests whose cached beginnings are looked at: with more, `lpm` is `fcfs`.
const MOST_LOOKED_AT: usize = 128;
/// Every so many passes, cached beginnings of waiting requests count as accessed.
const PASSES_BETWEEN_LOOKS: u64 = 32;
/// A prompt of which no more is cached, and of which another waiting one has as much, lets that one go first.
const SHARED_TOKENS: u32 = 32;

impl Iteration<'_> {
    pub(super) fn order_queue(&mut self) {
        let by_match = self.rules.policy == Policy::Lpm && self.state.seen <= MOST_LOOKED_AT;
        if by_match {
            self.order_by_match();
            return;
        }
        let (state, by_priority) = (&*self.state, self.rules.priority_scheduling);
        let waiting = &mut self.replica.queue.as_mut_slice()[..state.seen];
        let urgency = |slot| std::cmp::Reverse(if by_priority { state.of(slot).priority } else { 0 });
        match self.rules.policy {
            Policy::Fcfs if by_priority => {
                waiting.sort_by_key(|&slot| (urgency(slot), state.of(slot).entered))
            }
            Policy::Lof => {
                waiting.sort_by_key(|&slot| (urgency(slot), std::cmp::Reverse(state.of(slot).max_new_tokens)))
            }
            _ => {}
        }
        self.touch_waiting();
    }

    /// Keeps what is cached of those that wait from being evicted before the rest, the head's last.
    fn touch_waiting(&mut self) {
        let state = &mut *self.state;
        if !self.rules.prefix_caching || state.seen == 0 {
            return;
        }
        if state.passes.is_multiple_of(PASSES_BETWEEN_LOOKS) {
            let looked_at = state.seen.min(MOST_LOOKED_AT);
            let waiting: Vec<Slot> = self.replica.queue.iter().take(looked_at).copied().collect();
            for &slot in waiting.iter().rev() {
                let known = &state.known[slot.0 as usize];
                state.tree.look_up(known.reader(known.tokens()));
            }
        }
        state.passes += 1;
    }

    /// Those first of which most is cached. Of several that begin alike and of which little is cached, all
    /// but one wait for what it leaves in the cache.
    fn order_by_match(&mut self) {
        let state = &mut *self.state;
        let waiting = &mut self.replica.queue.as_mut_slice()[..state.seen];
        for &slot in waiting.iter() {
            let known = &mut state.known[slot.0 as usize];
            known.matched_tokens = state.tree.look_up(known.reader(known.tokens())).0;
        }
        let mut beginnings = RadixTree::new(1);
        let mut later = Vec::new();
        for &slot in waiting.iter() {
            let known = state.of(slot);
            if known.matched_tokens > SHARED_TOKENS {
                continue;
            }
            let tokens = known.reader(known.tokens());
            if beginnings.look_up(tokens).0 >= SHARED_TOKENS {
                later.push(slot);
            } else {
                beginnings.insert(tokens);
            }
        }
        waiting.sort_by_key(|slot| {
            let known = state.of(*slot);
            (later.contains(slot), std::cmp::Reverse(known.matched_tokens.min(known.tokens() - 1)))
        });
    }
}
