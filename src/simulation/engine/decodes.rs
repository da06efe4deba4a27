//! Runs of decodes on the event loop: iterations that are advanced together, settled when somebody looks.

use super::Engine;
use super::accounts::count_late_preemptions;
use super::state::BatchPlace;
use crate::autoscaler::BatchEnd;
use crate::replica_scheduler::{Lane, ReplicaScheduler};
use crate::simulation::event::StageIndex;

impl Engine<'_> {
    /// Lets a run go on where its stretch ends, or ends it; whether it goes on. `alone` where nothing else is
    /// due now.
    pub(super) fn go_on(&mut self, lane: Lane, alone: bool) -> bool {
        // Whatever else happens at this very instant may concern the next batch: then the run ends here.
        if self.work.replicas[lane].run.ends_ahead() || !self.work.steps.is_empty() {
            if alone && self.work.steps.is_empty() && self.go_on_changed(lane) {
                return true;
            }
            self.end_run(lane);
            return false;
        }
        self.settle_run(lane, f64::INFINITY, 0);
        let replica = &mut self.work.replicas[lane];
        let (end_s, created_s) = replica.run.look_ahead(self.inputs.execution_time);
        self.work.events.end_stage(lane, StageIndex::FIRST, end_s, created_s);
        true
    }

    /// Lets a run whose stretch has ended go on, though somebody finishes or joins: with all that the end of a
    /// batch and the forming of the next would do, but only for those that come and go. Nothing else may be
    /// due now. Whether it goes on.
    pub(super) fn go_on_changed(&mut self, lane: Lane) -> bool {
        let work = &mut *self.work;
        let replica = &work.replicas[lane];
        let index = replica.stages[StageIndex::FIRST].working_on.expect("a run is a batch in flight");
        let decodes = replica.run.requests() as usize;
        let others = &work.in_flight[index].batch.entries[decodes..];
        if !replica.run.may_change(others.len())
            || !self.scheduler.may_change_run(&replica.state, &work.requests, others)
            || replica.run.all_finish()
        {
            return false;
        }
        self.settle_run(lane, f64::INFINITY, 1);
        self.end_iteration(lane, index);
        self.form_iteration(lane, index);
        true
    }

    /// Takes the results of the last iteration of a run's stretch.
    fn end_iteration(&mut self, lane: Lane, index: BatchPlace) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let in_flight = &mut work.in_flight[index];
        let now_s = self.now_s;
        in_flight.scheduled_at_s = replica.run.settled.at_s;
        if !replica.run.is_once() {
            in_flight.batch.shape.decode_cached_tokens = replica.run.cached_tokens();
        }
        replica.run.tell_blocks(&mut replica.state.kv);
        self.totals.note_kv(&replica.state.kv);
        self.totals.account_kv(replica, now_s);
        self.totals.batches += 1;
        self.totals.busy_s += now_s - in_flight.scheduled_at_s;
        if self.observes.batches {
            work.ended_batches.push(in_flight.end(now_s));
        }
        if self.observes.batch_sums {
            in_flight.add_to(&mut self.batch_sums);
        }
        if self.observes.passes {
            replica.latest_pass = in_flight.pass(now_s);
        }
        if let Some(detail) = &mut self.detail {
            detail.batches.push(in_flight.record(replica.id, now_s));
        }
        replica.state.batch_started_at_s = in_flight.scheduled_at_s;
        if replica.run.any_finishes() || in_flight.batch.entries.len() > replica.run.num_members() {
            self.let_come_and_go(lane, index);
        }
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        self.scheduler.end_iteration(&mut replica.state, &mut work.requests, &work.finished);
        let outstanding = replica.state.outstanding();
        if self.router_observes_load
            && (!work.finished.is_empty() || replica.load.requests != outstanding)
            && !replica.draining
        {
            replica.load.requests = outstanding;
            self.router.set_load(replica.target(lane), replica.load);
        }
        work.finished.clear();
    }

    /// Lets those go that an iteration has finished, and those join a run whose prompts it has computed.
    fn let_come_and_go(&mut self, lane: Lane, index: BatchPlace) {
        let work = &mut *self.work;
        let (replica, in_flight) = (&mut work.replicas[lane], &mut work.in_flight[index]);
        let mut finished = std::mem::take(&mut work.finished);
        replica.run.let_finish(&mut in_flight.batch.entries, &mut work.requests, &replica.state.kv, |slot| {
            finished.push(slot)
        });
        for &slot in &finished {
            self.take_tokens(lane, slot, 1);
        }
        let mut entries = std::mem::take(&mut self.work.in_flight[index].batch.entries);
        let decodes = self.work.replicas[lane].run.num_members();
        let mut kept = decodes;
        for place in decodes..entries.len() {
            let (slot, tokens) = entries[place];
            if self.take_tokens(lane, slot, tokens) {
                finished.push(slot);
                continue;
            }
            let replica = &mut self.work.replicas[lane];
            let request = &mut self.work.requests[slot];
            if request.prefill_complete {
                replica.run.join(request);
                entries[kept] = (slot, 1);
                kept += 1;
            } else {
                replica.state.waiting.push(slot);
            }
        }
        entries.truncate(kept);
        self.work.in_flight[index].batch.entries = entries;
        self.work.finished = finished;
    }

    /// Begins the next iteration of a run with those that are left and those that join.
    fn form_iteration(&mut self, lane: Lane, index: BatchPlace) {
        let (now_s, times) = (self.now_s, self.inputs.execution_time);
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let in_flight = &mut work.in_flight[index];
        let batch = &mut in_flight.batch;
        in_flight.id = self.next_batch_id;
        self.next_batch_id += 1;
        in_flight.scheduled_at_s = now_s;
        self.totals.account_kv(replica, now_s);
        batch.shape = replica.run.renew(now_s, &mut replica.state.kv, times);
        batch.waits_s = 0.0;
        let decodes = batch.entries.len();
        let queued = replica.state.queue.len() as u32;
        self.scheduler.form_iteration(&mut replica.state, &mut work.requests, batch);
        self.totals.queued = self.totals.queued + replica.state.queue.len() as u32 - queued;
        if !replica.state.preempted_when_finished.is_empty() {
            count_late_preemptions(
                &mut replica.state.preempted_when_finished,
                &mut self.totals,
                &mut self.detail,
            );
        }
        for &(slot, _) in &batch.entries[decodes..] {
            let request = &mut work.requests[slot];
            if request.scheduled_at_s.is_nan() {
                request.scheduled_at_s = now_s;
            }
        }
        self.totals.note_kv(&replica.state.kv);
        let repeats = if batch.entries.len() == decodes {
            self.scheduler.repeats_decodes(&replica.state, &work.requests)
        } else {
            0
        };
        replica.run.go_on_with(replica.state.kv.free, repeats);
        let (end_s, created_s) = if repeats > 0 {
            replica.run.look_ahead(times)
        } else {
            let foreseen = if batch.entries.len() == decodes { replica.run.foreseen_end_s() } else { None };
            // Added up as where a batch starts.
            let end_s = foreseen.unwrap_or_else(|| {
                now_s + work.step_times.of(&batch.shape, times) * (1.0 + batch.slower_by) + batch.waits_s
            });
            replica.run.go_on_once(end_s);
            (end_s, now_s)
        };
        work.events.end_stage(lane, StageIndex::FIRST, end_s, created_s);
        if self.outside.awaits_kv {
            self.tell_reserved(lane);
        }
    }

    /// Makes the iteration under way of a run a batch like any other, before what its replica holds is
    /// changed from outside.
    pub(super) fn end_run_early(&mut self, lane: Lane) {
        let replica = &self.work.replicas[lane];
        if !replica.running {
            return;
        }
        if !replica.run.is_once() {
            self.settle_run(lane, self.now_s, 0);
            let (end_s, created_s) = self.work.replicas[lane].run.cut(self.inputs.execution_time, 0);
            self.work.events.end_stage(lane, StageIndex::FIRST, end_s, created_s);
        }
        self.materialize_run(lane);
        self.totals.note_kv(&self.work.replicas[lane].state.kv);
    }

    /// Accounts for the iterations of a run that end before `until_s`, but for the last `keep` of its
    /// stretch.
    #[inline]
    pub(super) fn settle_run(&mut self, lane: Lane, until_s: f64, keep: u32) {
        if !self.work.replicas[lane].run.is_once() {
            self.settle_stretch(lane, until_s, keep);
        }
    }

    fn settle_stretch(&mut self, lane: Lane, until_s: f64, keep: u32) {
        let work = &mut *self.work;
        let run = &mut work.replicas[lane].run;
        let before = run.settled;
        let num_requests = run.requests();
        let ended = &mut work.ended_batches;
        let observe = self.observes.batches.then_some(|scheduled_at_s, completed_at_s| {
            ended.push(BatchEnd {
                scheduled_at_s,
                completed_at_s,
                tokens: num_requests.into(),
                prefill_tokens: 0,
                num_requests,
            });
        });
        run.settle(self.inputs.execution_time, until_s, keep, observe);
        let run_settled_s = run.settled.at_s;
        let iterations = u64::from(run.settled.iterations - before.iterations);
        self.totals.batches += iterations;
        self.batch_sums.batches += iterations;
        self.batch_sums.tokens += iterations * u64::from(num_requests);
        self.next_batch_id += iterations;
        self.totals.busy_s += run.settled.at_s - before.at_s;
        self.totals.kv_block_s += run.settled.kv_block_s - before.kv_block_s;
        let replica = &mut work.replicas[lane];
        replica.kv_since_s = run_settled_s;
        if self.observes.passes && iterations > 0 {
            replica.latest_pass = replica.run.latest_pass();
        }
    }

    /// Lets a run of decodes end with the iteration after which a request may be admitted, if one may: that under
    /// way, or the next one where that has been put together already.
    pub(super) fn cut_run(&mut self, lane: Lane) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        if !self.scheduler.would_admit(&replica.state, &work.requests) {
            return;
        }
        self.settle_run(lane, self.now_s, 0);
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let started_at_s = replica.run.settled.at_s;
        let overlooks = self.scheduler.overlooks_first(&replica.state, &work.requests, started_at_s);
        let (end_s, created_s) = replica.run.cut(self.inputs.execution_time, u32::from(overlooks));
        work.events.end_stage(lane, StageIndex::FIRST, end_s, created_s);
    }

    /// Leaves a run's requests as they are during its last iteration, which then ends like any other batch.
    pub(super) fn end_run(&mut self, lane: Lane) {
        self.settle_run(lane, f64::INFINITY, 1);
        self.materialize_run(lane);
        self.totals.note_kv(&self.work.replicas[lane].state.kv);
    }

    /// Writes what the settled iterations of a run did into its requests.
    pub(super) fn materialize_run(&mut self, lane: Lane) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        replica.running = false;
        let index = replica.stages[StageIndex::FIRST].working_on.expect("a run is a batch in flight");
        let in_flight = &mut work.in_flight[index];
        in_flight.scheduled_at_s = replica.run.settled.at_s;
        if !replica.run.is_once() {
            in_flight.batch.shape.decode_cached_tokens = replica.run.cached_tokens();
        }
        let (iterations, decodes) = (replica.run.settled.iterations, replica.run.requests() as usize);
        self.scheduler.skipped_decodes(&mut replica.state, iterations);
        let grows = !self.scheduler.reserves_ahead();
        replica.run.forget_blocks(&mut replica.state.kv);
        for &(slot, _) in &in_flight.batch.entries[..decodes] {
            let request = &mut work.requests[slot];
            // It may have joined after the run began: then this is less than nothing before.
            request.processed_tokens = request.processed_tokens.wrapping_add(iterations);
            if grows {
                let blocks = replica.state.kv.blocks_for(request.processed_tokens).max(request.blocks);
                replica.state.kv.free -= blocks - request.blocks;
                request.blocks = blocks;
            }
        }
    }
}
