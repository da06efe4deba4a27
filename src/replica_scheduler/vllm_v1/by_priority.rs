//! A step under `policy: priority`: whoever stands last is preempted, even if it was scheduled in this very
//! step.

use super::super::Slot;
use super::leaving::{Rank, computed_tokens};
use super::step::Step;

impl Step<'_> {
    fn rank(&self, slot: Slot) -> Rank {
        Rank::of(&self.requests[slot])
    }

    /// Puts those that were seen since the last step in their place in the queue.
    pub(super) fn rank_queue(&mut self) {
        loop {
            let next = self.replica.queue.iter().nth(self.own.ranked).copied();
            let Some(slot) = next.filter(|&slot| self.is_seen(slot)) else { break };
            let place = self.place_of(slot);
            self.replica.queue.as_mut_slice()[place..=self.own.ranked].rotate_right(1);
            self.own.ranked += 1;
        }
    }

    /// Where a request belongs among those of the queue that stand in order.
    pub(super) fn place_of(&self, slot: Slot) -> usize {
        let rank = self.rank(slot);
        self.replica.queue.iter().take(self.own.ranked).take_while(|&&other| self.rank(other) < rank).count()
    }

    /// Goes on with the requests in memory; whether it had to preempt any.
    pub(super) fn go_on_by_priority(&mut self) -> bool {
        let mut running = std::mem::take(&mut self.replica.waiting);
        let mut scheduled: Vec<(Slot, u32)> = Vec::new();
        let (mut next, mut preempted) = (0, false);
        'requests: while next < running.len() && self.has_budget() {
            let slot = running[next];
            let tokens = self.tokens(&self.requests[slot]);
            if tokens == 0 {
                next += 1;
                continue;
            }
            let cached = computed_tokens(&self.requests[slot]) + tokens;
            let more = self.more_blocks(slot, cached);
            while self.replica.kv.free < more {
                preempted = true;
                let by_rank = |one: &usize, other: &usize| {
                    self.rank(running[*one]).partial_cmp(&self.rank(running[*other])).expect("finite")
                };
                let last = (0..running.len()).max_by(by_rank).expect("whoever needs a block is there");
                let rank = self.rank(running[last]);
                if let Some(id) =
                    self.own.preempt_leaving_after(&mut self.replica.kv, self.requests.prompts(), rank)
                {
                    self.note_late_preemption(id);
                    continue;
                }
                let victim = running.remove(last);
                next -= usize::from(last < next);
                let place = scheduled.iter().position(|&(other, _)| other == victim);
                let given_back = place.map_or(0, |place| scheduled.remove(place).1);
                self.budget += given_back + if place.is_some() { self.rule.drafting.slots } else { 0 };
                // Drafts have no hash.
                let known =
                    if self.requests[victim].prefill_complete { given_back.min(1) } else { given_back };
                self.preempt(victim, known);
                if victim == slot {
                    continue 'requests;
                }
            }
            next += 1;
            self.give_blocks(slot, more, cached);
            self.spend(tokens);
            scheduled.push((slot, tokens));
        }
        running.retain(|slot| scheduled.iter().all(|(other, _)| other != slot));
        self.replica.waiting = running;
        for (slot, tokens) in scheduled {
            self.add(slot, tokens);
        }
        preempted
    }
}
