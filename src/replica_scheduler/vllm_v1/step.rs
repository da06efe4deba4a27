//! One call of vLLM's `schedule`.

use super::super::request::Drafts;
use super::super::{Batch, KvBlocks, ReplicaState, Request, Requests, Slot};
use super::VllmV1;
use super::leaving::computed_tokens;
use super::state::{Found, State, hit};

pub(super) struct Step<'a> {
    pub(super) rule: &'a VllmV1,
    pub(super) own: &'a mut State,
    pub(super) replica: &'a mut ReplicaState,
    pub(super) requests: &'a mut Requests,
    pub(super) batch: &'a mut Batch,
    /// Whether this is scheduled while the batch before runs, whose results are there already.
    pub(super) is_ahead: bool,
    /// Tokens that may still be scheduled.
    pub(super) budget: u32,
    /// Most tokens of one prompt.
    longest_prefill: u32,
    /// Whether prompts wait for a later step.
    defers_prefills: bool,
    pub(super) has_prefills: bool,
    #[cfg(test)]
    preempted: Vec<u32>,
    /// Requests scheduled that had ended.
    #[cfg(test)]
    in_vain: usize,
}

/// Tokens of a waiting request to be computed at once, and the blocks it then has, if there are as many.
pub(super) fn admission(
    rule: &VllmV1,
    kv: &KvBlocks,
    request: &Request,
    hit: Found,
    room: u32,
    padding: u32,
    others_run: bool,
) -> Option<(u32, u32)> {
    let cached = hit.cached_blocks() * kv.block_size_tokens;
    let tokens = (request.prefill_tokens - cached).min(room.saturating_sub(padding));
    let blocks = kv.blocks_for(cached + tokens + padding + rule.drafting.lookahead);
    let must_fit =
        if rule.reserve_full_prompt { kv.blocks_for(request.prefill_tokens).max(blocks) } else { blocks };
    let watermark = if others_run { rule.watermark_blocks(kv) } else { 0 };
    (tokens > 0 && must_fit - hit.blocks() + hit.revived() + watermark <= kv.free).then_some((tokens, blocks))
}

impl<'a> Step<'a> {
    pub fn new(
        rule: &'a VllmV1,
        own: &'a mut State,
        replica: &'a mut ReplicaState,
        requests: &'a mut Requests,
        batch: &'a mut Batch,
        is_ahead: bool,
    ) -> Self {
        let budget = rule.max_tokens_in_batch;
        let mut step = Self {
            rule,
            own,
            replica,
            requests,
            batch,
            is_ahead,
            budget,
            longest_prefill: u32::MAX,
            defers_prefills: false,
            has_prefills: false,
            #[cfg(test)]
            preempted: Vec::new(),
            #[cfg(test)]
            in_vain: 0,
        };
        if rule.long_prefill_token_threshold > 0 && (rule.limits_lone_prefills || step.has_company()) {
            step.longest_prefill = rule.long_prefill_token_threshold;
        }
        step.defers_prefills = rule.prefill_schedule_interval > 1 && step.must_defer_prefills();
        step
    }

    /// Forms the batch.
    pub fn schedule(mut self) {
        let by_priority = self.rule.by_priority;
        if by_priority {
            self.rank_queue();
        }
        let preempted = if by_priority { self.go_on_by_priority() } else { self.go_on() };
        if !preempted {
            self.admit();
            if self.rule.prefill_schedule_interval > 1 && !self.defers_prefills {
                let prefills_wait = self.waiting().next().is_some();
                self.own.prefills_wait = prefills_wait;
            }
        }
        if self.batch.is_empty() {
            // A step for nobody but requests that have ended is left out.
            self.batch.clear();
        } else {
            self.own.steps += 1;
            self.batch.slower_by = self.rule.drafting.time_fraction;
        }
        if self.has_prefills {
            self.own.last_prefill_step = Some(self.own.steps);
        }
        #[cfg(test)]
        self.own.log.push(super::step_log::Scheduled::new(
            self.batch,
            self.requests,
            &self.replica.kv,
            self.preempted,
            self.in_vain,
        ));
    }

    /// Forms what there is beside a batch of all that decode.
    pub fn schedule_beside(mut self) {
        self.budget -= self.batch.len();
        let preempted = !self.replica.waiting.is_empty() && self.go_on();
        if !preempted {
            self.admit();
        }
    }

    /// Requests that the scheduler takes for running.
    pub(super) fn num_running(&self) -> u32 {
        self.replica.allocated + self.own.num_leaving() - self.own.num_aside()
    }

    /// Requests that wait for memory and were there when this step was scheduled.
    fn waiting(&self) -> impl Iterator<Item = Slot> {
        self.replica.queue.iter().copied().take_while(|&slot| self.is_seen(slot))
    }

    /// Whether a request was there when this step was scheduled: if that was ahead, when the batch before
    /// started.
    pub(super) fn is_seen(&self, slot: Slot) -> bool {
        !self.is_ahead || self.requests[slot].arrived_at_s <= self.replica.batch_started_at_s
    }

    fn has_company(&self) -> bool {
        self.num_running() as usize + self.waiting().take(2).count() > 1
    }

    /// Whether too few steps have passed since the last one with a part of a prompt.
    fn must_defer_prefills(&self) -> bool {
        let own = &self.own;
        let recently = own
            .last_prefill_step
            .is_some_and(|last| own.steps + 1 - last < self.rule.prefill_schedule_interval.into());
        recently
            && !own.prefills_wait
            && (own.num_leaving() > 0
                || self.replica.waiting.iter().any(|&slot| self.requests[slot].prefill_complete))
    }

    pub(super) fn has_budget(&self) -> bool {
        self.budget > self.rule.drafting.slots
    }

    /// Tokens that one more request may have.
    fn room(&self) -> u32 {
        self.budget - self.rule.drafting.slots
    }

    pub(super) fn spend(&mut self, tokens: u32) {
        self.budget -= tokens + self.rule.drafting.slots;
    }

    /// Tokens of a running request to be scheduled.
    pub(super) fn tokens(&self, request: &Request) -> u32 {
        if request.prefill_complete {
            (1 + self.rule.drafting.drafts).min(self.room())
        } else if self.defers_prefills {
            0
        } else {
            (request.prefill_tokens - request.processed_tokens).min(self.longest_prefill).min(self.room())
        }
    }

    /// Goes on with the requests in memory; whether it had to preempt any.
    fn go_on(&mut self) -> bool {
        let (mut next, mut kept, mut preempted) = (self.go_on_plainly(), 0, false);
        let drafts_ahead = self.is_ahead && self.rule.drafting.drafts > 0;
        while next < self.replica.waiting.len()
            && self.batch.len() < self.rule.micro_batch_size
            && self.has_budget()
        {
            let slot = self.replica.waiting[next];
            if drafts_ahead && self.go_on_in_vain(next, self.requests[slot].held.admission) {
                // Whoever comes next may have been preempted.
                preempted = true;
                continue;
            }
            let request = &self.requests[slot];
            if !self.has_budget() {
                break;
            }
            let tokens = self.tokens(request);
            if tokens == 0 {
                self.replica.waiting[kept] = slot;
                (next, kept) = (next + 1, kept + 1);
                continue;
            }
            let cached = computed_tokens(request) + tokens;
            let more = self.more_blocks(slot, cached);
            while self.replica.kv.free < more && self.replica.waiting.len() > next {
                if self.rule.pipelined && self.waits_for_other_stages(next) {
                    break;
                }
                self.preempt_last();
                preempted = true;
            }
            if self.replica.kv.free < more || self.replica.waiting.len() <= next {
                break;
            }
            next += 1;
            self.give_blocks(slot, more, cached);
            self.spend(tokens);
            self.add(slot, tokens);
        }
        if drafts_ahead && next >= self.replica.waiting.len() {
            preempted |= self.go_on_in_vain(next, u32::MAX);
        }
        if kept == 0 && next >= self.replica.waiting.len() {
            self.replica.waiting.clear();
        } else {
            self.replica.waiting.drain(kept..next.min(self.replica.waiting.len()).max(kept));
        }
        preempted
    }

    /// Goes on with those at the front that decode without drafts and have the block they need, or find one:
    /// nothing else is in question with nearly all. Returns how many there were.
    fn go_on_plainly(&mut self) -> usize {
        if self.rule.drafting.drafts > 0 {
            return 0;
        }
        let most = self.rule.micro_batch_size.saturating_sub(self.batch.len()).min(self.budget);
        let (kv, entries) = (&mut self.replica.kv, &mut self.batch.entries);
        let (before, mut cached_tokens) = (entries.len(), 0);
        entries.reserve(self.replica.waiting.len());
        for &slot in self.replica.waiting.iter().take(most as usize) {
            let request = &mut self.requests[slot];
            let more = kv.blocks_for(request.processed_tokens).saturating_sub(request.blocks);
            if !request.prefill_complete || more > kv.free {
                break;
            }
            request.blocks += more;
            kv.free -= more;
            cached_tokens += u64::from(request.processed_tokens);
            entries.push((slot, 1));
        }
        let number = entries.len() - before;
        self.budget -= number as u32;
        self.batch.shape.add_decodes(number as u32, cached_tokens);
        number
    }

    /// Whether all but this request that could be preempted are in other stages of a pipeline: they will come
    /// back, and if they are later than this one they have to go then.
    fn waits_for_other_stages(&self, next: usize) -> bool {
        self.replica.waiting.len() == next + 1 && self.replica.allocated as usize > self.replica.waiting.len()
    }

    /// Blocks that a running request needs more, to have so many tokens computed.
    pub(super) fn more_blocks(&self, slot: Slot, cached: u32) -> u32 {
        let (request, drafting) = (&self.requests[slot], &self.rule.drafting);
        // As long as its results are not known, all that the step before drafted might have been accepted.
        let rejected = u32::from(request.drafts.rejected);
        let in_doubt =
            if rejected > 0 && self.is_ahead && !self.own.left_out.contains(&slot) { rejected } else { 0 };
        self.replica.kv.blocks_for(cached + in_doubt + drafting.lookahead).saturating_sub(request.blocks)
    }

    /// Schedules requests once more that were admitted before `admission` and have ended by drafts that a
    /// step scheduled ahead does not know to be accepted; whether that preempted any.
    fn go_on_in_vain(&mut self, next: usize, admission: u32) -> bool {
        let (drafting, mut preempted) = (self.rule.drafting, false);
        'requests: while self.has_budget()
            && let Some(place) = self.own.next_in_vain(admission)
        {
            let tokens = (1 + drafting.drafts).min(self.room());
            let more = self.own.more_blocks_in_vain(place, &self.replica.kv, tokens + drafting.lookahead);
            while self.replica.kv.free < more {
                preempted = true;
                if self.replica.waiting.len() > next {
                    self.preempt_last();
                } else if let Some(id) =
                    self.own.preempt_leaving(&mut self.replica.kv, self.requests.prompts(), 0)
                {
                    self.note_late_preemption(id);
                }
                if self.own.num_leaving() as usize <= place {
                    break 'requests;
                }
            }
            self.replica.kv.free -= more;
            self.spend(tokens);
            self.batch.shape.add_decode(self.own.give_in_vain(place, more));
            self.batch.shape.add_drafts(tokens - 1);
            #[cfg(test)]
            {
                self.in_vain += 1;
            }
        }
        preempted
    }

    /// Puts a running request into the batch.
    pub(super) fn add(&mut self, slot: Slot, tokens: u32) {
        let request = &self.requests[slot];
        if !request.prefill_complete {
            self.has_prefills = true;
            self.batch.add_prefill(slot, request, tokens);
        } else if self.rule.drafting.drafts == 0 {
            self.batch.add_decode(slot, request);
        } else {
            let left = request.total_tokens() - request.processed_tokens;
            let accepted =
                self.rule.drafting.accepted(tokens - 1, request.id, request.processed_tokens).min(left - 1);
            self.batch.add_drafted_decode(slot, request, tokens - 1, 1 + accepted);
            self.requests[slot].drafts =
                Drafts { accepted: accepted as u8, rejected: (tokens - 1 - accepted) as u8 };
        }
    }

    /// Preempts the request admitted last.
    fn preempt_last(&mut self) {
        let last = *self.replica.waiting.last().expect("whoever needs a block is there");
        let admission = self.requests[last].held.admission;
        if let Some(id) = self.own.preempt_leaving(&mut self.replica.kv, self.requests.prompts(), admission) {
            self.note_late_preemption(id);
            return;
        }
        self.replica.waiting.pop();
        self.preempt(last, 0);
    }

    /// A request was preempted that has finished.
    pub(super) fn note_late_preemption(&mut self, id: u32) {
        #[cfg(test)]
        self.preempted.push(id);
        self.replica.preempted_when_finished.push(id);
    }

    /// Takes a request out of memory, of which so many tokens were scheduled in this step, and puts it where
    /// it belongs in the queue.
    pub(super) fn preempt(&mut self, slot: Slot, scheduled_tokens: u32) {
        let request = &self.requests[slot];
        let mut hashed_tokens = computed_tokens(request) + scheduled_tokens;
        if self.is_ahead && request.prefill_complete && !self.own.left_out.contains(&slot) {
            // The block that its last step filled gets its hash with the results of that step.
            hashed_tokens =
                request.prefill_tokens.max(hashed_tokens - 1 - u32::from(request.drafts.accepted));
        }
        self.own.preempt(&mut self.replica.kv, self.requests, slot, hashed_tokens);
        self.replica.allocated -= 1;
        if self.rule.by_priority {
            self.replica.queue.insert(self.place_of(slot), slot);
            self.own.ranked += 1;
        } else {
            self.replica.queue.push_front(slot);
        }
        #[cfg(test)]
        self.preempted.push(self.requests[slot].id);
    }

    /// Gives a running request more blocks, for so many tokens in all.
    pub(super) fn give_blocks(&mut self, slot: Slot, more: u32, cached: u32) {
        let replica = &mut *self.replica;
        let (request, prompts) = self.requests.with_prompts(slot);
        request.blocks += more;
        replica.kv.free -= more;
        if !request.prefill_complete {
            self.own.share(&replica.kv, prompts, request, cached);
        }
    }

    fn admit(&mut self) {
        self.join_arrived();
        let prefills_run = self.has_prefills;
        while let Some(&slot) = self.replica.queue.front() {
            let running = self.num_running();
            let has_place = self.batch.len() < self.rule.micro_batch_size && running < self.rule.most_running;
            if !has_place || !self.has_budget() || !self.is_seen(slot) {
                break;
            }
            if self.requests[slot].handover.awaited {
                if self.reserve(slot) {
                    continue;
                }
                break;
            }
            self.own.settle(&self.replica.kv);
            let hit = hit(Some(&*self.own), &self.replica.kv, self.requests, slot);
            let cached = hit.cached_blocks() * self.replica.kv.block_size_tokens;
            let whole = cached + 1 >= self.requests[slot].prefill_tokens;
            if self.defers_prefills && !whole {
                break;
            }
            // Where nothing but decodes runs, one token alone is computed as if there were drafts of what
            // follows.
            let last_alone = cached + 1 == self.requests[slot].prefill_tokens
                && !prefills_run
                && (cached > 0 || !self.batch.is_empty());
            let padding = if last_alone { self.rule.drafting.drafts } else { 0 };
            let room = self.room().min(self.longest_prefill.saturating_add(padding));
            let Some((tokens, blocks)) =
                admission(self.rule, &self.replica.kv, &self.requests[slot], hit, room, padding, running > 0)
            else {
                break;
            };
            self.replica.queue.pop_front();
            self.own.ranked = self.own.ranked.saturating_sub(1);
            let replica = &mut *self.replica;
            let (request, prompts) = self.requests.with_prompts(slot);
            replica.kv.free -= self.own.admit(&replica.kv, prompts, request, hit);
            request.processed_tokens = cached;
            if request.restarts == 0 {
                request.cached_tokens = cached;
            }
            replica.allocate(request, blocks - hit.blocks());
            request.blocks = blocks;
            self.budget -= tokens + padding + self.rule.drafting.slots;
            self.has_prefills |= !whole;
            if let Some(tier) = &self.rule.tier {
                self.batch.waits_s += tier.load_s(hit.loaded_blocks);
            }
            self.batch.add_prefill(slot, request, tokens);
            self.batch.shape.add_drafts(padding);
            self.own.share(&replica.kv, prompts, request, cached + tokens);
            self.own.offload(&replica.kv, prompts, request, cached + tokens);
        }
    }
}
