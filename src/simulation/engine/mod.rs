//! The event loop.
//!
//! At one instant, things happen in the order in which the reference would have created them: arrivals, then
//! events that were due, then what these cause, first caused first. Causes and effects of one instant are
//! [`Step`]s in a FIFO; only what is due later enters the queue of events. The reference's chain of events is
//! kept where its order can matter and skipped where it cannot.

mod accounts;
mod arrival;
mod balance;
mod bounds;
mod checkpoints;
mod deadlock;
mod decodes;
mod devices;
mod feed;
mod giving_up;
mod handed;
mod orders;
mod outside;
mod routing;
mod samples;
mod scaling;
mod spares;
mod state;
mod step_times;
mod turns;

use rand_xoshiro::Xoshiro256PlusPlus;

use self::accounts::{Totals, count_late_preemptions, leave_session};
pub(super) use self::arrival::Arrival;
pub use self::checkpoints::Checkpoint;
use self::devices::Devices;
pub(super) use self::feed::Feed;
pub(super) use self::handed::{End, Message, Place};
use self::orders::Orders;
pub(super) use self::outside::{Outside, Standing, Wishes};
use self::spares::Spares;
pub use self::state::Workspace;
use self::state::{BatchPlace, Step};
pub(super) use self::turns::Left;
use super::event::{Due, StageIndex};
use super::metrics::RunMetrics;
use super::record::{Detail, RequestRecord};
use super::{EVENTS_BETWEEN_QUESTIONS, Parts, RunInputs, SimulationError};
use crate::autoscaler::{Autoscaler, BatchSums, Completion, FirstToken, Observes};
use crate::global_scheduler::GlobalScheduler;
use crate::random;
use crate::replica_scheduler::{KvBlocks, Lane, ReplicaScheduler, Rule, Slot};

/// Replicas by what they are about to do.
#[derive(Debug, Default)]
struct Counts {
    /// Existing, draining ones included.
    existing: u32,
    draining: u32,
    /// Starts and stops that have not been carried out yet.
    starting: u32,
    stopping: u32,
    /// Stops that are due and wait for a replica to join.
    overdue: u32,
}

impl Counts {
    /// Replicas that take requests.
    fn serving(&self) -> u32 {
        self.existing - self.draining
    }
}

pub(super) struct Engine<'a> {
    inputs: &'a RunInputs<'a>,
    scheduler: Rule,
    router: Box<dyn GlobalScheduler>,
    autoscaler: Option<Box<dyn Autoscaler>>,
    observes: Observes,
    router_observes_load: bool,
    router_reads_prompts: bool,
    /// Whether replicas may turn requests away.
    limits_queues: bool,
    /// Whether it reads anything of requests but their lengths.
    router_reads: bool,
    pipeline_parallel: u32,
    pipelined: bool,
    stepping: bool,
    /// Whether requests come to runs of decodes and go while these last.
    changes_runs: bool,
    shortcuts: bool,
    batch_size_cap: u32,
    /// An empty replica's cache.
    kv: KvBlocks,
    tick_interval_s: f64,
    /// From client to engine and back.
    api_s: f64,
    cold_start_stream: Xoshiro256PlusPlus,
    failure_stream: Xoshiro256PlusPlus,
    now_s: f64,
    /// No run is over earlier.
    ends_at_s: f64,
    feed: Feed<'a>,
    /// Whether somebody wants to know when a request leaves.
    tells: bool,
    /// What it is for those outside, if it is a pool of a fleet.
    outside: Outside,
    wishes: Wishes,
    next_replica_id: u32,
    next_batch_id: u64,
    /// Lanes of existing replicas in order of their ids.
    existing: Vec<Lane>,
    /// Replicas that start.
    orders: Orders,
    spares: Spares,
    /// Where replicas lie, if that is asked for.
    devices: Option<Box<Devices<'a>>>,
    counts: Counts,
    totals: Totals,
    /// What the autoscaler has not been told yet, if it wants only sums.
    batch_sums: BatchSums,
    idle_ticks: u64,
    /// Instants so far, and the one at which to look whether to go on.
    events: u64,
    look_up_at: u64,
    initial_replicas: u32,
    num_requests: u64,
    work: &'a mut Workspace,
    detail: Option<&'a mut Detail>,
    /// Where the rate of cost is taken down whenever it may have changed: when, and dollars per hour from
    /// then on.
    bookings: Option<Vec<(f64, f64)>>,
}

/// Ticks in a row at which nothing happened and nothing was pending, after which a run is given up.
const MOST_IDLE_TICKS: u64 = 100_000;

impl<'a> Engine<'a> {
    pub fn new(
        inputs: &'a RunInputs<'a>,
        parts: Parts,
        work: &'a mut Workspace,
        detail: Option<&'a mut Detail>,
    ) -> Self {
        Self::with_source(inputs, parts, work, detail, false)
    }

    /// The same for requests that are `handed` in, or those of the workload.
    fn with_source(
        inputs: &'a RunInputs<'a>,
        parts: Parts,
        work: &'a mut Workspace,
        mut detail: Option<&'a mut Detail>,
        handed: bool,
    ) -> Self {
        let (num_requests, stages) = (inputs.workload.num_requests(), inputs.cluster.pipeline_parallel);
        work.clear(num_requests, &inputs.cluster.latency_limits, stages, inputs.keeps_trail);
        if let Some(detail) = &mut detail {
            **detail = Detail::default();
            let workload = inputs.workload;
            let record = |i: usize| {
                let record = RequestRecord::new(
                    i as u32,
                    workload.arrived_at_s[i],
                    workload.prefill_tokens[i],
                    workload.decode_tokens[i],
                );
                workload
                    .sessions
                    .iter()
                    .fold(record, |record, sessions| record.in_session(sessions.session[i], sessions.turn[i]))
            };
            detail.requests = (0..workload.len()).map(record).collect();
        }
        let cluster = inputs.cluster;
        let Parts { scheduler, autoscaler, initial_replicas } = parts;
        let kv = inputs.kv_blocks();
        let observes = autoscaler.as_ref().map_or(Observes::default(), |policy| policy.observes());
        let router = cluster.global_scheduler.settings().build(inputs.seed, kv.block_size_tokens);
        let reads_prompts = inputs.scheduler_settings.caches_prefixes() || router.reads_prompts();
        work.requests.know_runs(if reads_prompts { inputs.workload.prompts().cloned() } else { None });
        Self {
            router_observes_load: router.observes_load(),
            router_reads_prompts: router.reads_prompts(),
            limits_queues: scheduler.limits_queues(),
            router_reads: router.reads_prompts() || router.reads_sessions(),
            router,
            observes,
            tick_interval_s: autoscaler
                .as_ref()
                .and_then(|policy| policy.tick_interval_s())
                .unwrap_or(cluster.tune_interval_s),
            autoscaler,
            api_s: inputs.execution_time.overheads.api_ms * 1e-3,
            pipeline_parallel: cluster.pipeline_parallel,
            pipelined: cluster.pipeline_parallel > 1,
            stepping: inputs.stepping
                || cluster.client_timeout_s.is_some()
                || (cluster.loses_replicas() && !scheduler.may_be_lost()),
            changes_runs: scheduler.changes_runs(),
            scheduler,
            shortcuts: !inputs.queue_every_step,
            batch_size_cap: inputs.scheduler_settings.common().batch_size_cap,
            kv,
            cold_start_stream: random::stream(inputs.seed, "cluster.cold_start"),
            failure_stream: random::stream(inputs.seed, "cluster.failures"),
            now_s: 0.0,
            ends_at_s: inputs.workload.duration_s.unwrap_or(0.0),
            feed: if handed {
                Feed::handed_in(inputs.workload, observes.arrivals)
            } else {
                Feed::new(inputs.workload, observes.arrivals)
            },
            tells: handed || inputs.workload.sessions.is_some(),
            outside: Outside::default(),
            wishes: Wishes::default(),
            next_replica_id: 0,
            next_batch_id: 0,
            existing: Vec::new(),
            orders: Orders::default(),
            spares: Spares::of(&inputs.cluster.cold_start.spares),
            devices: Devices::of(inputs),
            counts: Counts::default(),
            totals: Totals { min_replicas: u32::MAX, ..Totals::default() },
            batch_sums: BatchSums::default(),
            idle_ticks: 0,
            events: 0,
            look_up_at: inputs.limits.most_events.min(EVENTS_BETWEEN_QUESTIONS),
            initial_replicas,
            num_requests: inputs.workload.num_requests(),
            inputs,
            work,
            detail,
            bookings: None,
        }
    }

    /// Makes ready for the first instant.
    pub fn begin(&mut self) {
        self.add_initial_replicas();
        self.record_replicas();
        if self.ends_at_s > 0.0 {
            self.work.events.push(self.ends_at_s, 0.0, Due::End);
        }
        if self.autoscaler.is_some() {
            self.work.events.push(0.0, 0.0, Due::Tune);
        }
        if self.router.scrape_interval_s().is_some() {
            self.work.events.push(0.0, 0.0, Due::Scrape);
        }
    }

    pub fn run(mut self) -> Result<RunMetrics, SimulationError> {
        self.begin();
        while !self.is_over() {
            self.next_instant()?;
            self.events += 1;
            if self.events >= self.look_up_at {
                self.look_up()?;
            }
        }
        self.finish()
    }

    /// Moves the clock to the next instant and does everything there is to do then.
    fn next_instant(&mut self) -> Result<(), SimulationError> {
        let arrival_s = self.feed.next_s();
        let event_s = self.work.events.next_at_s();
        let now_s = if arrival_s < event_s { arrival_s } else { event_s };
        if now_s == f64::INFINITY {
            return Err(self.stuck());
        }
        debug_assert!(now_s >= self.now_s, "time goes back from {} to {now_s}", self.now_s);
        self.pass_time(now_s);
        // Mostly one thing happens at an instant; then its effects follow one from the other, and no order
        // among them is in question.
        if arrival_s < event_s && self.shortcuts && self.feed.next_is_alone() {
            self.arrive_alone();
            return self.take_steps();
        }
        if event_s < arrival_s
            && self.shortcuts
            && let Some(lane) = self.work.events.next_lone_stage_end()
        {
            self.end_stage_alone(lane);
            return self.take_steps();
        }
        for _ in 0..self.feed.num_at(now_s) {
            self.work.steps.push(Step::Arrival);
        }
        while self.work.events.next_at_s() == now_s {
            match self.work.events.pop().expect("an event is due") {
                Due::StageEnd { lane, stage } => self.work.steps.push(Step::EndStage { lane, stage }),
                // Nothing happens, but the clock has got there.
                Due::End => {}
                Due::Tune => self.work.steps.push(Step::Tune),
                Due::ScaleUp { order } => self.work.steps.push(Step::ScaleUp { order }),
                Due::NodeArrival => self.work.steps.push(Step::NodeArrival),
                Due::NodeRelease { node } => self.work.steps.push(Step::NodeRelease { node }),
                Due::ScaleDown => self.work.steps.push(Step::ScaleDown),
                Due::Scrape => self.work.steps.push(Step::Scrape),
                Due::Notice { lane, id } => self.work.steps.push(Step::Notice { lane, id }),
                Due::Loss { lane, id } => self.work.steps.push(Step::Loss { lane, id }),
                Due::Cut { lane, id } => self.work.steps.push(Step::Cut { lane, id }),
                Due::GiveUp { slot, id } => self.work.steps.push(Step::GiveUp { slot, id }),
                Due::Spare { kind } => self.work.steps.push(Step::Spare { kind }),
            }
        }
        self.take_steps()
    }

    /// Takes the steps of this instant, those they cause included.
    #[inline]
    fn take_steps(&mut self) -> Result<(), SimulationError> {
        if self.work.steps.is_empty() { Ok(()) } else { self.take_all_steps() }
    }

    fn take_all_steps(&mut self) -> Result<(), SimulationError> {
        while let Some(step) = self.work.steps.pop() {
            match step {
                Step::Arrival => self.arrive(),
                Step::Route => self.route(),
                Step::FormBatches { lane } => {
                    self.form_batches(lane);
                }
                Step::EnterStage { lane, stage, batch } => {
                    self.work.replicas[lane].stages[stage].waiting.push_back(batch);
                    self.work.steps.push(Step::StartStage { lane, stage });
                }
                Step::StartStage { lane, stage } => self.start_stage(lane, stage),
                Step::EndStage { lane, stage } => self.end_stage(lane, stage),
                Step::EndBatch { lane, batch } => {
                    if self.end_batch(lane, batch) {
                        self.work.steps.push(Step::FormBatches { lane });
                    }
                }
                Step::Tune => self.tune()?,
                Step::ScaleUp { order } => self.scale_up(order),
                Step::NodeArrival => self.node_arrives(),
                Step::NodeRelease { node } => self.release_node(node),
                Step::ScaleDown => self.scale_down(),
                Step::Scrape => self.scrape(
                    self.router.scrape_interval_s().expect("only a router that wants reports is scraped for"),
                )?,
                Step::Notice { lane, id } => self.notice(lane, id),
                Step::Loss { lane, id } => self.lose(lane, id),
                Step::Cut { lane, id } => self.cut_off(lane, id),
                Step::GiveUp { slot, id } => self.give_up(slot, id),
                Step::Spare { kind } => self.spare_is_back(kind),
            }
            if self.is_over() {
                // Like the reference: nothing runs after the last completion, not even what is due at the
                // same instant.
                self.work.steps.clear();
            }
        }
        Ok(())
    }

    /// Whether every request has left and the workload has lasted as long as it says.
    #[inline]
    fn is_over(&self) -> bool {
        self.totals.left == self.num_requests && self.now_s >= self.ends_at_s
    }

    fn unfinished(&self) -> u64 {
        self.num_requests - self.totals.left
    }

    /// Forms batches as long as there is something to do and room in the pipeline; whether any was formed.
    fn form_batches(&mut self, lane: Lane) -> bool {
        let replica = &self.work.replicas[lane];
        if replica.batches_in_flight >= self.pipeline_parallel {
            if replica.running && !replica.run.is_once() {
                self.cut_run(lane);
            }
            return false;
        }
        let formed = self.form_batch(lane);
        if self.outside.awaits_kv {
            self.tell_reserved(lane);
        }
        if self.pipelined && formed {
            while self.work.replicas[lane].batches_in_flight < self.pipeline_parallel && self.form_batch(lane)
            {
            }
        }
        formed
    }

    /// Forms a batch and starts it, if there is anything to do.
    #[inline(always)]
    fn form_batch(&mut self, lane: Lane) -> bool {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        self.totals.account_kv(replica, self.now_s);
        let index = work.in_flight.take(lane);
        let in_flight = &mut work.in_flight[index];
        let batch = &mut in_flight.batch;
        batch.clear();
        let queued = replica.state.queue.len() as u32;
        self.scheduler.form_batch(&mut replica.state, &mut work.requests, batch);
        self.totals.queued = self.totals.queued + replica.state.queue.len() as u32 - queued;
        if !replica.state.preempted_when_finished.is_empty() {
            count_late_preemptions(
                &mut replica.state.preempted_when_finished,
                &mut self.totals,
                &mut self.detail,
            );
        }
        if !replica.state.rejected.is_empty() {
            return self.reject(lane, index);
        }
        if batch.is_empty() {
            self.totals.note_kv(&replica.state.kv);
            work.in_flight.give_back(index);
            return false;
        }
        self.start_batch(lane, index);
        true
    }

    #[inline(always)]
    fn start_batch(&mut self, lane: Lane, index: BatchPlace) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let in_flight = &mut work.in_flight[index];
        let now_s = self.now_s;
        replica.batches_in_flight += 1;
        in_flight.id = self.next_batch_id;
        self.next_batch_id += 1;
        in_flight.scheduled_at_s = now_s;
        // Whoever decodes was in a batch before, unless its prompt was computed elsewhere.
        if in_flight.batch.shape.num_prefills > 0 || self.outside.awaits_kv {
            for &(slot, _) in &in_flight.batch.entries {
                let request = &mut work.requests[slot];
                if request.scheduled_at_s.is_nan() {
                    request.scheduled_at_s = now_s;
                }
            }
        }
        self.totals.note_kv(&replica.state.kv);
        if self.pipelined {
            work.steps.push(Step::EnterStage { lane, stage: StageIndex::FIRST, batch: index });
            return;
        }
        // On a replica of one stage nothing can come between forming a batch and starting it.
        let batch = &in_flight.batch;
        replica.stages[StageIndex::FIRST].working_on = Some(index);
        let settled = replica.stalls.are_over();
        let stall_s = replica.stalls.of_step(now_s, &self.inputs.cluster.cold_start.stalls);
        let repeats = if batch.shape.num_decodes == batch.len() && !self.stepping && settled {
            self.scheduler.repeats_decodes(&replica.state, &work.requests)
        } else {
            0
        };
        let (end_s, created_s) = if repeats > 0 {
            replica.running = true;
            let times = self.inputs.execution_time;
            replica.run.start(
                now_s,
                batch,
                (&replica.state, &work.requests),
                repeats,
                self.scheduler.reserves_ahead(),
                times,
            );
            if self.changes_runs {
                replica.run.know_ends(batch, &work.requests);
            }
            replica.run.look_ahead(times)
        } else {
            (
                now_s
                    + work.step_times.of(&batch.shape, self.inputs.execution_time) * (1.0 + batch.slower_by)
                    + batch.waits_s
                    + stall_s,
                now_s,
            )
        };
        work.events.end_stage(lane, StageIndex::FIRST, end_s, created_s);
    }

    fn start_stage(&mut self, lane: Lane, stage: StageIndex) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let state = &mut replica.stages[stage];
        if state.working_on.is_some() {
            return;
        }
        if let Some(index) = state.waiting.pop_front() {
            state.working_on = Some(index);
            let stall_s = if stage == StageIndex::FIRST {
                replica.stalls.of_step(self.now_s, &self.inputs.cluster.cold_start.stalls)
            } else {
                0.0
            };
            let batch = &work.in_flight[index].batch;
            let waits_s = if stage == StageIndex::FIRST { batch.waits_s } else { 0.0 };
            let duration_s = self.inputs.execution_time.stage_time_s(&batch.shape, stage.0)
                * (1.0 + batch.slower_by)
                + waits_s
                + stall_s;
            self.totals.busy_s += duration_s / f64::from(self.inputs.cluster.pipeline_parallel);
            work.events.end_stage(lane, stage, self.now_s + duration_s, self.now_s);
        }
    }

    /// The batch of a replica of one stage ends at an instant at which nothing else is due.
    fn end_stage_alone(&mut self, lane: Lane) {
        if self.work.replicas[lane].running && self.go_on(lane, true) {
            return;
        }
        let batch = self.work.replicas[lane].stages[StageIndex::FIRST]
            .working_on
            .take()
            .expect("the stage that ends worked on a batch");
        let goes_on = self.end_batch(lane, batch) && !self.is_over() && self.form_batches(lane);
        if !goes_on {
            self.work.events.cancel_stages(lane);
        }
    }

    fn end_stage(&mut self, lane: Lane, stage: StageIndex) {
        if self.work.replicas[lane].running && self.go_on(lane, false) {
            return;
        }
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let batch = replica.stages[stage].working_on.take().expect("the stage that ends worked on a batch");
        if self.pipelined {
            work.steps.push(Step::StartStage { lane, stage });
            if stage.next().0 < self.inputs.cluster.pipeline_parallel {
                work.steps.push(Step::EnterStage { lane, stage: stage.next(), batch });
                return;
            }
        }
        work.steps.push(Step::EndBatch { lane, batch });
    }

    /// Takes the results of a batch; whether the replica has more to do.
    fn end_batch(&mut self, lane: Lane, index: BatchPlace) -> bool {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        self.totals.account_kv(replica, self.now_s);
        let in_flight = &mut work.in_flight[index];
        let queued = replica.state.queue.len() as u32;
        self.scheduler.look_ahead(
            &mut replica.state,
            &mut work.requests,
            &mut in_flight.batch,
            in_flight.scheduled_at_s,
        );
        self.totals.queued = self.totals.queued + replica.state.queue.len() as u32 - queued;
        // Lent out, so that the rest of what the engine works on is at hand.
        let entries = std::mem::take(&mut in_flight.batch.entries);
        for &(slot, tokens) in &entries {
            self.take_tokens(lane, slot, tokens);
        }
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        let in_flight = &mut work.in_flight[index];
        in_flight.batch.entries = entries;
        let in_flight = &*in_flight;
        let batch = &in_flight.batch;
        self.totals.batches += 1;
        if !self.pipelined {
            self.totals.busy_s += self.now_s - in_flight.scheduled_at_s;
        }
        if self.observes.batches {
            work.ended_batches.push(in_flight.end(self.now_s));
        }
        if self.observes.batch_sums {
            in_flight.add_to(&mut self.batch_sums);
        }
        if self.observes.passes {
            replica.latest_pass = in_flight.pass(self.now_s);
        }
        if let Some(detail) = &mut self.detail {
            detail.batches.push(in_flight.record(replica.id, self.now_s));
        }
        replica.state.batch_started_at_s = in_flight.scheduled_at_s;
        self.scheduler.end_batch(&mut replica.state, &mut work.requests, batch);
        replica.batches_in_flight -= 1;
        work.in_flight.give_back(index);
        if self.router_observes_load && !replica.draining {
            replica.load.requests = replica.state.outstanding();
            self.router.set_load(replica.target(lane), replica.load);
        }
        let (has_work, draining) = (!replica.is_empty(), replica.draining);
        if !has_work && draining {
            self.free_replica(lane);
            self.record_replicas();
        }
        has_work
    }

    /// Takes what a batch has computed of a request; whether that was the last of it.
    #[inline(always)]
    fn take_tokens(&mut self, lane: Lane, slot: Slot, tokens: u32) -> bool {
        let work = &mut *self.work;
        let request = &mut work.requests[slot];
        if request.prefill_complete && request.processed_tokens + tokens < request.total_tokens() {
            // One that decodes on, as nearly all do.
            request.processed_tokens += tokens;
            return false;
        }
        if request.is_completed() {
            return false;
        }
        let waited_for_first = request.first_token_at_s.is_nan();
        request.advance(tokens, self.now_s);
        if self.observes.latencies
            && waited_for_first
            && !request.first_token_at_s.is_nan()
            && !request.given_up
        {
            work.first_tokens.push(FirstToken { arrived_at_s: request.arrived_at_s, at_s: self.now_s });
        }
        if !request.is_completed() {
            return false;
        }
        if self.router_observes_load {
            work.replicas[lane].load.prefill_tokens -= u64::from(request.original_prefill_tokens);
        }
        if request.given_up {
            self.note_cut(slot, lane);
            return true;
        }
        if self.observes.latencies {
            work.completions.push(Completion {
                arrived_at_s: request.arrived_at_s,
                first_token_at_s: request.first_token_at_s,
                completed_at_s: self.now_s,
                prefill_tokens: request.original_prefill_tokens,
                decode_tokens: request.output_tokens(),
            });
        }
        self.totals.completed += 1;
        self.totals.left += 1;
        self.totals.restarts += u64::from(request.restarts);
        self.totals.tokens += u64::from(request.total_tokens());
        self.totals.count_prompt(request);
        work.samples.add(request, self.now_s, self.api_s);
        work.trail.leave(request, self.now_s + self.api_s);
        if let Some(detail) = &mut self.detail {
            let record = &mut detail.requests[request.id as usize];
            record.leave(request, self.api_s);
            record.completed_at_s = Some(self.now_s + self.api_s);
        }
        if self.tells {
            self.feed.tell_left(request, lane, End::Answered, self.now_s);
            let how = Left::answered(request, self.now_s, self.api_s, &self.inputs.cluster.latency_limits);
            leave_session(&mut self.feed, &mut self.totals, request.id, self.now_s + self.api_s, how);
        }
        true
    }
}
