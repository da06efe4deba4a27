//! Clients that give up: what is not answered in full by then is cut off.

use super::Engine;
use super::state::Step;
use crate::replica_scheduler::{Lane, ReplicaScheduler, Slot};
use crate::simulation::event::Due;

impl Engine<'_> {
    /// Remembers until when a request that was just taken in has to be answered, for its client to see the
    /// end of it.
    pub(super) fn await_answer(&mut self, slot: Slot, timeout_s: f64) {
        let request = &self.work.requests[slot];
        let until_s = (request.arrived_at_s + timeout_s - self.api_s).max(self.now_s);
        self.work.events.push(until_s, self.now_s, Due::GiveUp { slot, id: request.id });
    }

    /// The client of a request waits no longer. One that has left meanwhile is another in its slot, or is
    /// nowhere.
    #[cold]
    pub(super) fn give_up(&mut self, slot: Slot, id: u32) {
        let work = &mut *self.work;
        let request = &work.requests[slot];
        if request.id != id || request.is_completed() {
            return;
        }
        if !work.steps.is_empty() {
            // Not amid what else happens at this instant: an answer that comes now has come in time.
            work.events.push(self.now_s.next_up(), self.now_s, Due::GiveUp { slot, id });
            return;
        }
        let replica_id = request.replica_id;
        let Some(lane) = self.existing.iter().copied().find(|&lane| work.replicas[lane].id == replica_id)
        else {
            if let Some(place) = work.unrouted.iter().position(|&other| other == slot) {
                work.unrouted.remove(place);
                self.leave_unserved(slot, Lane(0));
            }
            return;
        };
        let replica = &mut work.replicas[lane];
        if !replica.state.queue.iter().any(|&other| other == slot) {
            work.requests[slot].give_up();
            return;
        }
        self.scheduler.withdraw(&mut replica.state, &mut work.requests, slot);
        if self.router_observes_load {
            replica.load.prefill_tokens -= u64::from(work.requests[slot].original_prefill_tokens);
            replica.load.requests = replica.state.outstanding();
            if !replica.draining {
                self.router.set_load(replica.target(lane), replica.load);
            }
        }
        let is_done = replica.draining && replica.is_empty();
        self.leave_unserved(slot, lane);
        if is_done {
            self.free_replica(lane);
            self.record_replicas();
        } else {
            // Whoever waited behind it may have room.
            self.work.steps.push(Step::FormBatches { lane });
        }
    }

    /// A request leaves that waited.
    fn leave_unserved(&mut self, slot: Slot, lane: Lane) {
        self.totals.queued -= 1;
        self.note_cut(slot, lane);
        self.work.requests.release(slot);
    }
}
