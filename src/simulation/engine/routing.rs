//! Requests arrive, and are given to replicas.

use super::Engine;
use super::accounts::leave_session;
use super::arrival::Arrival;
use super::handed::End;
use super::state::{BatchPlace, Step};
use super::turns::Left;
use crate::replica_scheduler::{Lane, ReplicaId, ReplicaScheduler, Request, Slot};

/// What became of a request that the global scheduler was asked about.
enum Assigned {
    /// It waits at the replica of this lane.
    To(Lane),
    /// There is no replica.
    Nowhere,
    TurnedAway,
}

impl Engine<'_> {
    /// Takes the next request of the workload in, unless no replica could ever serve it.
    #[inline(always)]
    fn admit(&mut self) -> Option<Slot> {
        let Arrival { id, arrived_at_s, prefill_tokens, decode_tokens, max_new_tokens, priority, handover } =
            self.feed.take();
        if !self.scheduler.fits_empty(&self.kv, prefill_tokens, decode_tokens) {
            self.totals.reject();
            self.work
                .trail
                .leave(&Request::new(id, arrived_at_s, prefill_tokens, decode_tokens), arrived_at_s);
            if self.tells {
                self.feed.tell_left(
                    &Request::new(id, arrived_at_s, prefill_tokens, decode_tokens),
                    Lane(0),
                    End::Rejected,
                    arrived_at_s,
                );
                self.turn_rejected(id, arrived_at_s);
            }
            return None;
        }
        self.totals.queued += 1;
        let ignore_eos = self.inputs.workload.outputs.settings.ignore_eos;
        let request = Request {
            max_new_tokens,
            ignore_eos,
            priority,
            handover,
            ..Request::new(id, arrived_at_s, prefill_tokens, decode_tokens)
        };
        let slot = self.work.requests.insert(request);
        if let Some(timeout_s) = self.inputs.cluster.client_timeout_s {
            self.await_answer(slot, timeout_s);
        }
        Some(slot)
    }

    pub(super) fn arrive(&mut self) {
        if let Some(slot) = self.admit() {
            self.work.unrouted.push_back(slot);
            self.work.steps.push(Step::Route);
        }
    }

    /// A request arrives at an instant at which nothing else is due.
    pub(super) fn arrive_alone(&mut self) {
        let Some(slot) = self.admit() else { return };
        let assigned = if self.work.unrouted.is_empty() { self.assign(slot) } else { Assigned::Nowhere };
        match assigned {
            Assigned::To(lane) => {
                self.form_batches(lane);
            }
            Assigned::Nowhere => self.work.unrouted.push_back(slot),
            Assigned::TurnedAway => {}
        }
    }

    /// Gives a request to the replica the global scheduler chooses, if that lets it in.
    #[inline(always)]
    fn assign(&mut self, slot: Slot) -> Assigned {
        let work = &mut *self.work;
        let prefill_tokens = work.requests[slot].original_prefill_tokens;
        let target = if self.router_reads {
            if self.router_reads_prompts {
                self.router.route_prompt(prefill_tokens, work.requests.prompt(slot))
            } else {
                let sessions = self.inputs.workload.sessions.as_ref();
                self.router.route_session(
                    prefill_tokens,
                    sessions.map(|sessions| sessions.session[work.requests[slot].id as usize]),
                )
            }
        } else {
            self.router.route(prefill_tokens)
        };
        let Some(target) = target else { return Assigned::Nowhere };
        let replica = &mut work.replicas[target.lane];
        if self.limits_queues && !self.scheduler.lets_in(&replica.state, &work.requests) {
            let replica_id = replica.id;
            self.turn_away(slot, replica_id);
            return Assigned::TurnedAway;
        }
        let request = &mut work.requests[slot];
        request.replica_id = replica.id;
        replica.state.queue.push_back(slot);
        if self.router_observes_load {
            replica.load.prefill_tokens += u64::from(request.original_prefill_tokens);
            replica.load.requests = replica.state.outstanding();
            self.router.set_load(target, replica.load);
        }
        Assigned::To(target.lane)
    }

    /// Rejects a request that its replica does not let in.
    #[cold]
    fn turn_away(&mut self, slot: Slot, replica_id: ReplicaId) {
        self.totals.reject();
        self.totals.refused += 1;
        self.totals.queued -= 1;
        let work = &mut *self.work;
        let request = &mut work.requests[slot];
        work.trail.leave(request, self.now_s);
        // One that was never worked on is recorded as if it had never been there.
        if let Some(detail) = &mut self.detail
            && !request.scheduled_at_s.is_nan()
        {
            request.replica_id = replica_id;
            detail.requests[request.id as usize].leave(request, self.api_s);
        }
        let (id, arrived_at_s) = (request.id, request.arrived_at_s);
        self.feed.tell_left(request, Lane(0), End::Refused, self.now_s);
        work.requests.release(slot);
        if self.tells {
            self.turn_rejected(id, arrived_at_s);
        }
    }

    /// Starts a batch that was formed, unless it is empty, after letting go of the requests that its
    /// scheduler found too large.
    #[cold]
    #[inline(never)]
    pub(super) fn reject(&mut self, lane: Lane, index: BatchPlace) -> bool {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        while let Some(slot) = replica.state.rejected.pop() {
            self.totals.reject();
            work.trail.leave(&work.requests[slot], self.now_s);
            if let Some(detail) = &mut self.detail {
                detail.requests[work.requests[slot].id as usize].leave(&work.requests[slot], self.api_s);
            }
            if self.tells {
                self.feed.tell_left(&work.requests[slot], lane, End::Rejected, self.now_s);
                leave_session(
                    &mut self.feed,
                    &mut self.totals,
                    work.requests[slot].id,
                    self.now_s,
                    Left::Unanswered,
                );
            }
            if self.router_observes_load {
                replica.load.prefill_tokens -= u64::from(work.requests[slot].original_prefill_tokens);
                replica.load.requests = replica.state.outstanding();
                if !replica.draining {
                    self.router.set_load(replica.target(lane), replica.load);
                }
            }
            work.requests.release(slot);
        }
        if !work.in_flight[index].batch.is_empty() {
            self.start_batch(lane, index);
            return true;
        }
        self.totals.note_kv(&replica.state.kv);
        work.in_flight.give_back(index);
        if replica.draining && replica.is_empty() {
            self.free_replica(lane);
            self.record_replicas();
        }
        false
    }

    /// Hands the requests that wait for a replica to the global scheduler, as long as there is a replica.
    pub(super) fn route(&mut self) {
        while let Some(&slot) = self.work.unrouted.front() {
            match self.assign(slot) {
                Assigned::To(lane) => self.work.touched.push(lane),
                Assigned::Nowhere => break,
                Assigned::TurnedAway => {}
            }
            self.work.unrouted.pop_front();
        }
        // Several requests at one instant: each replica once, in order of ids.
        let work = &mut *self.work;
        work.touched.sort_unstable_by_key(|&lane| work.replicas[lane].id);
        work.touched.dedup();
        for lane in work.touched.drain(..) {
            work.steps.push(Step::FormBatches { lane });
        }
    }
}
