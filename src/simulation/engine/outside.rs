//! The event loop as a pool of a fleet: requests are handed in from outside, and it tells there how they left
//! and what their KV caches need.

use super::arrival::Arrival;
use super::feed::Feed;
use super::handed::{End, Handed, Message, Place};
use super::state::Step;
use super::{Due, Engine};
use crate::autoscaler::FirstToken;
use crate::replica_scheduler::{Lane, ReplicaScheduler, Request, Reserved, Slot};
use crate::simulation::record::Detail;
use crate::simulation::{Parts, RunInputs, SimulationError, Workspace};

/// What a pool is for those outside.
#[derive(Debug, Clone, Copy, Default)]
pub(in crate::simulation) struct Outside {
    /// Whether its requests come from outside.
    pub is_pool: bool,
    /// Whether KV caches come from elsewhere.
    pub awaits_kv: bool,
    /// Whether others decide how many replicas start.
    pub is_managed: bool,
}

/// Replicas that a managed pool would start or stop.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::simulation) struct Wishes {
    /// What its policy decided.
    pub ups: u32,
    pub downs: u32,
    /// In place of those that were lost.
    pub replacements: u32,
    /// Whether its policy has decided, if only to stay.
    pub decided: bool,
}

impl Wishes {
    /// Whether its policy would have more replicas or fewer.
    pub fn changes(&self) -> bool {
        self.ups + self.downs > 0
    }

    /// Whether anything is wished for.
    pub fn is_empty(&self) -> bool {
        !self.changes() && self.replacements == 0
    }

    /// Changes what a policy decided to what leads to so many replicas from those there are.
    pub fn aim_at(&mut self, target: u32, now: u32) {
        (self.ups, self.downs) = (target.saturating_sub(now), now.saturating_sub(target));
    }
}

/// How many replicas a pool has.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(in crate::simulation) struct Standing {
    pub existing: u32,
    pub draining: u32,
    pub starting: u32,
    pub stopping: u32,
    pub queued: u32,
    /// Requests in the pool.
    pub outstanding: u32,
    pub batches: u64,
}

impl<'a> Engine<'a> {
    /// An event loop whose requests come from outside.
    pub(in crate::simulation) fn pool(
        inputs: &'a RunInputs<'a>,
        parts: Parts,
        work: &'a mut Workspace,
        detail: Option<&'a mut Detail>,
        outside: Outside,
    ) -> Self {
        let mut pool = Self::with_source(inputs, parts, work, detail, true);
        pool.outside = outside;
        pool.num_requests = u64::MAX;
        pool
    }

    /// When something happens next.
    #[inline]
    pub(in crate::simulation) fn next_s(&self) -> f64 {
        // Times are never NaN, which `min` would look for.
        let (arrival_s, event_s) = (self.feed.next_s(), self.work.events.next_at_s());
        if arrival_s < event_s { arrival_s } else { event_s }
    }

    /// Does what there is to do at that time. `is_last` where no request is anywhere but here, and none is to
    /// come: then the run may end.
    pub(in crate::simulation) fn step(&mut self, is_last: bool) -> Result<(), SimulationError> {
        let handed = self.handed();
        let to_leave = handed.number - handed.gone_back;
        self.num_requests = if is_last { to_leave } else { u64::MAX };
        self.next_instant()?;
        self.events += 1;
        Ok(())
    }

    fn handed(&mut self) -> &mut Handed {
        self.feed.handed().expect("asked of a pool alone")
    }

    /// Whether it has told anything that nobody has taken in yet.
    #[inline]
    pub(in crate::simulation) fn has_told(&self) -> bool {
        self.feed.handed_in_queue().is_some_and(|handed| !handed.messages.is_empty())
    }

    /// Hands out what it has told, in exchange for room to tell more.
    pub(in crate::simulation) fn swap_messages(&mut self, messages: &mut Vec<Message>) {
        std::mem::swap(&mut self.handed().messages, messages);
    }

    /// Whether the pool could ever serve such a request.
    pub(in crate::simulation) fn fits(&self, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.scheduler.fits_empty(&self.kv, prefill_tokens, decode_tokens)
    }

    /// Hands a request in, which arrives at `arrival.arrived_at_s`: now.
    pub(in crate::simulation) fn hand_in(&mut self, arrival: Arrival) {
        let handed = self.handed();
        handed.number += 1;
        handed.tokens += u64::from(arrival.prefill_tokens) + u64::from(arrival.decode_tokens);
        handed.coming.push_back(arrival);
        self.feed.look_again();
    }

    /// Does what has come of what was told from outside: all of it at once, so that what happens at one
    /// instant happens together.
    pub(in crate::simulation) fn settle(&mut self) -> Result<(), SimulationError> {
        self.take_steps()
    }

    /// The KV cache of a request that was given room has arrived.
    pub(in crate::simulation) fn receive_kv(&mut self, place: Place, now_s: f64) {
        self.pass_time(now_s);
        let work = &mut *self.work;
        let request = &mut work.requests[place.slot];
        if request.handover.with_token {
            self.observe_token(place.slot);
        }
        let work = &mut *self.work;
        self.scheduler.receive_kv(&mut work.replicas[place.lane].state, place.slot, now_s);
        work.steps.push(Step::FormBatches { lane: place.lane });
    }

    /// A first token came with the KV cache.
    fn observe_token(&mut self, slot: Slot) {
        let request = &mut self.work.requests[slot];
        request.first_token_at_s = self.now_s;
        if self.observes.latencies {
            self.work.first_tokens.push(FirstToken { arrived_at_s: request.arrived_at_s, at_s: self.now_s });
        }
    }

    /// The KV cache that the replica in `lane` kept of a request has been read elsewhere.
    pub(in crate::simulation) fn kv_was_read(&mut self, lane: Lane, id: u32, now_s: f64) {
        self.pass_time(now_s);
        self.end_run_early(lane);
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        self.totals.account_kv(replica, now_s);
        let runs = replica.batches_in_flight > 0;
        self.scheduler.kv_was_read(&mut replica.state, &work.requests, id, runs);
        if !runs {
            self.look_after(lane);
        }
    }

    /// Lets a replica go on, or go, that has fewer requests than before.
    fn look_after(&mut self, lane: Lane) {
        let replica = &mut self.work.replicas[lane];
        if self.router_observes_load && !replica.draining {
            replica.load.requests = replica.state.outstanding();
            self.router.set_load(replica.target(lane), replica.load);
        }
        if replica.draining && replica.is_empty() {
            self.free_replica(lane);
            self.record_replicas();
        } else {
            // One that runs has to look whether somebody else can be let in now.
            self.work.steps.push(Step::FormBatches { lane });
        }
    }

    /// Takes a request away that waits for its KV cache.
    pub(in crate::simulation) fn withdraw(&mut self, id: u32, now_s: f64) {
        if self.handed().take_back(id) {
            self.handed().gone_back += 1;
            self.feed.look_again();
            return;
        }
        self.pass_time(now_s);
        let work = &mut *self.work;
        let unrouted = work.unrouted.iter().position(|&slot| work.requests[slot].id == id);
        let slot = match unrouted {
            Some(place) => work.unrouted.remove(place),
            None => work.requests.find_routed(id),
        };
        let slot = slot.expect("whoever waits for a KV cache is here");
        let mut waited = true;
        if unrouted.is_none() {
            let replica_id = work.requests[slot].replica_id;
            let lane = self.existing.iter().copied().find(|&lane| work.replicas[lane].id == replica_id);
            let lane = lane.expect("a routed request is at a replica");
            self.end_run_early(lane);
            let work = &mut *self.work;
            let replica = &mut work.replicas[lane];
            self.totals.account_kv(replica, now_s);
            waited = self.scheduler.withdraw(&mut replica.state, &mut work.requests, slot);
            replica.load.prefill_tokens -=
                u64::from(work.requests[slot].original_prefill_tokens) * u64::from(self.router_observes_load);
            work.requests.release(slot);
            self.look_after(lane);
        } else {
            work.requests.release(slot);
        }
        self.totals.queued -= u32::from(waited);
        self.handed().gone_back += 1;
    }

    /// Tells of what a batch gave room, right after it was formed.
    #[inline(never)]
    pub(super) fn tell_reserved(&mut self, lane: Lane) {
        let replica_id = self.work.replicas[lane].id;
        while let Some(Reserved { slot, cached_tokens }) =
            self.scheduler.take_reserved(&mut self.work.replicas[lane].state)
        {
            let id = self.work.requests[slot].id;
            if self.work.requests[slot].prefill_complete {
                self.observe_token(slot);
            }
            self.handed().messages.push(Message::Reserved {
                id,
                place: Place { lane, replica_id, slot },
                cached_tokens,
            });
        }
    }

    /// Takes away what a lost replica had in memory of requests whose KV caches came from elsewhere, and
    /// tells of it. `before` waited for a replica already.
    pub(super) fn give_back(&mut self, before: usize) {
        let lost: Vec<Slot> = self.work.unrouted.drain(before..).collect();
        for slot in lost {
            let request = self.work.requests[slot].clone();
            self.work.requests.release(slot);
            self.totals.queued -= 1;
            let handed = self.handed();
            handed.gone_back += 1;
            handed.messages.push(Message::Lost { request });
        }
    }

    /// Tells of KV caches that are lost with a replica.
    pub(super) fn tell_unread(&mut self, lane: Lane) {
        let unread = self.scheduler.unread(&self.work.replicas[lane].state);
        self.handed().messages.extend(unread.into_iter().map(|id| Message::KvLost { id }));
    }

    /// What a managed pool would change.
    pub(in crate::simulation) fn take_wishes(&mut self) -> Wishes {
        std::mem::take(&mut self.wishes)
    }

    /// Lets so many replicas start and stop, of what was decided `ups`.
    pub(in crate::simulation) fn grant(&mut self, ups: u32, downs: u32, now_s: f64) {
        self.pass_time(now_s);
        (0..ups).for_each(|_| self.start_replica());
        self.stop_replicas(downs);
        if ups > 0 && self.inputs.cluster.billing.cold_start {
            self.record_replicas();
        }
    }

    /// Says what became of the latest decision.
    pub(in crate::simulation) fn note_applied(&mut self, applied: i64) {
        if let Some(tune) = self.detail.as_mut().and_then(|detail| detail.tunes.last_mut()) {
            tune.applied = applied;
        }
    }

    /// Stops replicas, the usual delay later.
    pub(super) fn stop_replicas(&mut self, downs: u32) {
        let delay_s = self.inputs.cluster.scale_down_delay_s;
        self.counts.stopping += downs;
        for _ in 0..downs {
            if delay_s == 0.0 {
                self.work.steps.push(Step::ScaleDown);
            } else {
                self.work.events.push(self.now_s + delay_s, self.now_s, Due::ScaleDown);
            }
        }
    }

    /// Replicas there are, draining ones included, and requests that wait.
    #[inline]
    pub(in crate::simulation) fn existing_and_queued(&self) -> (u32, u32) {
        (self.counts.existing, self.totals.queued)
    }

    pub(in crate::simulation) fn standing(&self) -> Standing {
        Standing {
            existing: self.counts.existing,
            draining: self.counts.draining,
            starting: self.counts.starting,
            stopping: self.counts.stopping,
            queued: self.totals.queued,
            outstanding: self.work.requests.len() as u32,
            batches: self.totals.batches,
        }
    }

    /// Requests here, those that are about to arrive included.
    pub(in crate::simulation) fn here(&self) -> u32 {
        self.work.requests.len() as u32 + self.feed.num_handed()
    }

    /// The replica to which a request would go now, by its lane; `None` where there is none.
    fn would_go_to(&mut self, id: u32, prefill_tokens: u32) -> Option<Lane> {
        let prompt = self.work.requests.prompts().map(|prompts| prompts.of(id));
        let session = self.inputs.workload.sessions.as_ref().map(|sessions| sessions.session[id as usize]);
        self.router.would_route(prefill_tokens, prompt, session).map(|target| target.lane)
    }

    /// Tokens of a prompt that are cached on the replica to which it would go at `now_s`.
    pub(in crate::simulation) fn cached_tokens(&mut self, id: u32, prefill_tokens: u32, now_s: f64) -> u32 {
        let Some(lane) = self.would_go_to(id, prefill_tokens) else { return 0 };
        if self.work.replicas[lane].running {
            // Blocks that its iterations have taken so far may have held a part of the prompt. One that ends now has
            // not ended yet: what comes from outside comes first.
            self.settle_run(lane, now_s, 0);
            let replica = &mut self.work.replicas[lane];
            replica.run.tell_blocks(&mut replica.state.kv);
        }
        let work = &mut *self.work;
        self.scheduler.cached_tokens(&mut work.replicas[lane].state, &work.requests, id, prefill_tokens)
    }

    /// Prompt tokens that wait at the replica to which a request would go now, its share of those that have
    /// just been handed in included; `None` where there is none.
    pub(in crate::simulation) fn queued_prefill_tokens(
        &mut self,
        id: u32,
        prefill_tokens: u32,
    ) -> Option<u64> {
        let lane = self.would_go_to(id, prefill_tokens)?;
        let coming: u64 = self.handed().coming.iter().map(|arrival| u64::from(arrival.prefill_tokens)).sum();
        let work = &*self.work;
        let queued =
            work.replicas[lane].state.queue.iter().map(|&slot| u64::from(work.requests[slot].prefill_tokens));
        Some(queued.sum::<u64>() + coming / u64::from(self.counts.serving().max(1)))
    }

    /// Whether it has replicas, or a policy that may start some.
    pub(in crate::simulation) fn may_serve(&self) -> bool {
        self.counts.serving() + self.counts.starting > 0 || self.autoscaler.is_some()
    }

    /// Memory of what it keeps.
    pub(in crate::simulation) fn bytes(&self) -> u64 {
        self.work.bytes()
    }

    /// Scale-ups, scale-downs and replicas lost so far.
    pub(in crate::simulation) fn changes(&self) -> [u64; 3] {
        [self.totals.scale_ups, self.totals.scale_downs, self.totals.replicas_lost]
    }

    pub(in crate::simulation) fn api_s(&self) -> f64 {
        self.api_s
    }

    /// Ends the pool's run at `now_s`.
    pub(in crate::simulation) fn close(
        mut self,
        now_s: f64,
    ) -> Result<crate::simulation::RunMetrics, SimulationError> {
        if now_s > self.now_s {
            self.pass_time(now_s);
        }
        self.num_requests = self.handed().number;
        self.finish()
    }
}

impl Feed<'_> {
    fn num_handed(&self) -> u32 {
        self.handed_in_queue().map_or(0, |handed| handed.coming.len() as u32)
    }

    /// Tells a source that wants to know that a request has left.
    pub(super) fn tell_left(&mut self, request: &Request, lane: Lane, end: End, at_s: f64) {
        if let Some(handed) = self.handed() {
            handed.messages.push(Message::Left { request: request.clone(), lane, end, at_s });
        }
    }
}
