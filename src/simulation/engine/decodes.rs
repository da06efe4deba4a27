//! Runs of decodes on the event loop: iterations that are advanced together, settled when somebody looks.

use super::Engine;
use crate::autoscaler::BatchEnd;
use crate::replica_scheduler::ReplicaScheduler;

impl Engine<'_> {
    /// Lets a run go on where its stretch ends, or ends it; whether it goes on.
    pub(super) fn go_on(&mut self, lane: u32) -> bool {
        // Whatever else happens at this very instant may concern the next batch: then the run ends here.
        if self.work.replicas[lane as usize].run.ends_ahead() || !self.work.steps.is_empty() {
            self.end_run(lane);
            return false;
        }
        self.settle_run(lane, f64::INFINITY, 0);
        let replica = &mut self.work.replicas[lane as usize];
        let (end_s, created_s) = replica.run.look_ahead(self.inputs.execution_time);
        self.work.events.end_stage(lane, 0, end_s, created_s);
        true
    }

    /// Accounts for the iterations of a run that end before `until_s`, but for the last `keep` of its stretch.
    pub(super) fn settle_run(&mut self, lane: u32, until_s: f64, keep: u32) {
        let work = &mut *self.work;
        let run = &mut work.replicas[lane as usize].run;
        let before = run.settled;
        let num_requests = run.requests();
        let ended = &mut work.ended_batches;
        let observe = self.observes.batches.then_some(|scheduled_at_s, completed_at_s| {
            ended.push(BatchEnd { scheduled_at_s, completed_at_s, tokens: num_requests.into(), prefill_tokens: 0, num_requests });
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
        let replica = &mut work.replicas[lane as usize];
        replica.kv_since_s = run_settled_s;
        if self.observes.passes && iterations > 0 {
            replica.latest_pass = replica.run.latest_pass();
        }
    }

    /// Lets a run of decodes end with the iteration under way, if a request may be admitted then.
    pub(super) fn cut_run(&mut self, lane: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        if !self.scheduler.would_admit(&replica.state, &work.requests) {
            return;
        }
        let now_s = self.now_s;
        self.settle_run(lane, now_s, 0);
        let replica = &mut self.work.replicas[lane as usize];
        let (end_s, created_s) = replica.run.cut(self.inputs.execution_time);
        self.work.events.end_stage(lane, 0, end_s, created_s);
    }

    /// Leaves a run's requests as they are during its last iteration, which then ends like any other batch.
    pub(super) fn end_run(&mut self, lane: u32) {
        self.settle_run(lane, f64::INFINITY, 1);
        self.materialize_run(lane);
        self.totals.note_kv(&self.work.replicas[lane as usize].state.kv);
    }

    /// Writes what the settled iterations of a run did into its requests.
    pub(super) fn materialize_run(&mut self, lane: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        replica.running = false;
        let index = replica.stages[0].working_on.expect("a run is a batch in flight");
        let in_flight = &mut work.in_flight[index];
        in_flight.scheduled_at_s = replica.run.settled.at_s;
        let iterations = replica.run.settled.iterations;
        self.scheduler.skipped_decodes(&mut replica.state, iterations);
        let grows = !self.scheduler.reserves_ahead();
        for &(slot, _) in &in_flight.batch.entries {
            let request = &mut work.requests[slot];
            request.processed_tokens += iterations;
            if grows {
                let blocks = replica.state.kv.blocks_for(request.processed_tokens).max(request.blocks);
                replica.state.kv.free -= blocks - request.blocks;
                request.blocks = blocks;
            }
        }
    }
}
