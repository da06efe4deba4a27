//! The event loop.
//!
//! At one instant, things happen in the order in which the reference would have created them: arrivals, then events that were due, then
//! what these cause, first caused first. Causes and effects of one instant are [`Step`]s in a FIFO; only what is due later enters the
//! queue of events. The reference's chain of events is kept where its order can matter and skipped where it cannot.

use std::collections::VecDeque;

use super::decode_run::DecodeRun;
use super::event::{Due, EventQueue};
use super::metrics::{Distribution, RunMetrics};
use super::record::{BatchRecord, Detail, ReplicaRecord, RequestRecord, TuneRecord};
use super::{RunInputs, SimulationError};
use crate::autoscaler::{Arrivals, Autoscaler, BatchEnd, Completion, Decision, FirstToken, Observes, ReplicaSignals, Snapshot};
use crate::global_scheduler::{GlobalScheduler, Target};
use crate::replica_scheduler::{Batch, ReplicaScheduler, ReplicaState, Request, Requests, Slot};

/// What is to be done at this instant.
#[derive(Debug, Clone, Copy)]
enum Step {
    Arrival,
    Route,
    FormBatches { lane: u32 },
    EnterStage { lane: u32, stage: u32, batch: u32 },
    StartStage { lane: u32, stage: u32 },
    EndStage { lane: u32, stage: u32 },
    EndBatch { lane: u32, batch: u32 },
    Tune,
    ScaleUp,
    ScaleDown,
}

/// A batch on its way through the stages of a replica.
#[derive(Debug, Default)]
struct InFlight {
    batch: Batch,
    id: u64,
    scheduled_at_s: f64,
}

/// One pipeline stage: the batch it works on, and those that wait for it.
#[derive(Debug, Default)]
struct Stage {
    working_on: Option<u32>,
    waiting: VecDeque<u32>,
}

/// A replica that exists, stored in a lane that is reused once it has left.
#[derive(Debug)]
struct Replica {
    id: u32,
    alive: bool,
    draining: bool,
    joined_at_s: f64,
    batches_in_flight: u32,
    /// Grows when a scheduled end of a stage is taken back.
    epoch: u32,
    /// Whether the batch in flight is a run of decodes.
    running: bool,
    run: DecodeRun,
    state: ReplicaState,
    stages: Vec<Stage>,
}

impl Replica {
    fn target(&self, lane: u32) -> Target {
        Target { lane, id: self.id }
    }

    /// What a policy may see of it, settled up to now.
    fn signals(&self, requests: &Requests) -> ReplicaSignals {
        let (state, kv) = (&self.state, &self.state.kv);
        let free_blocks = if self.running { self.run.free_blocks() } else { kv.free };
        ReplicaSignals {
            id: self.id,
            draining: self.draining,
            queued_requests: state.queue.len() as u32,
            queued_prefill_tokens: state.queue.iter().map(|&slot| u64::from(requests[slot].prefill_tokens)).sum(),
            running_requests: state.allocated,
            kv_used_blocks: kv.total - free_blocks,
            kv_total_blocks: kv.total,
        }
    }

    /// Nothing queued, nothing in memory, nothing waiting for a stage.
    fn is_empty(&self) -> bool {
        self.state.queue.is_empty() && self.state.allocated == 0 && self.stages.iter().all(|stage| stage.waiting.is_empty())
    }
}

/// Buffers of a run, kept by a thread from one run to the next.
#[derive(Debug, Default)]
pub struct Workspace {
    events: EventQueue,
    steps: VecDeque<Step>,
    requests: Requests,
    replicas: Vec<Replica>,
    free_lanes: Vec<u32>,
    in_flight: Vec<InFlight>,
    free_in_flight: Vec<u32>,
    unrouted: VecDeque<Slot>,
    touched: Vec<u32>,
    /// What the autoscaler has not been told yet.
    ended_batches: Vec<BatchEnd>,
    first_tokens: Vec<FirstToken>,
    completions: Vec<Completion>,
    signals: Vec<ReplicaSignals>,
    samples: Samples,
}

/// Latencies of completed requests, in order of completion.
#[derive(Debug, Default)]
struct Samples {
    e2e_s: Vec<f64>,
    ttft_s: Vec<f64>,
    tpot_s: Vec<f64>,
    scheduling_delay_s: Vec<f64>,
    normalized_latency_s: Vec<f64>,
}

impl Workspace {
    fn clear(&mut self) {
        self.events.clear();
        self.steps.clear();
        self.requests.clear();
        self.replicas.clear();
        self.free_lanes.clear();
        self.free_in_flight.clear();
        self.free_in_flight.extend((0..self.in_flight.len() as u32).rev());
        self.unrouted.clear();
        self.ended_batches.clear();
        self.first_tokens.clear();
        self.completions.clear();
        let Samples { e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s } = &mut self.samples;
        for sample in [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s] {
            sample.clear();
        }
    }
}

/// Sums that grow as the run goes.
#[derive(Debug, Default)]
struct Totals {
    completed: u64,
    rejected: u64,
    restarts: u64,
    batches: u64,
    busy_s: f64,
    replica_s: f64,
    cost_usd_s_per_h: f64,
    cost_per_hour: f64,
    cost_since_s: f64,
    scale_ups: u64,
    scale_downs: u64,
    max_replicas: u32,
    min_replicas: u32,
}

/// Replicas by what they are about to do.
#[derive(Debug, Default)]
struct Counts {
    /// Existing, draining ones included.
    existing: u32,
    draining: u32,
    /// Decided scale-ups and scale-downs whose event has not come yet.
    starting: u32,
    stopping: u32,
}

pub(super) struct Engine<'a> {
    inputs: &'a RunInputs<'a>,
    scheduler: Box<dyn ReplicaScheduler>,
    router: Box<dyn GlobalScheduler>,
    autoscaler: Option<Box<dyn Autoscaler>>,
    observes: Observes,
    router_observes_load: bool,
    pipelined: bool,
    stepping: bool,
    now_s: f64,
    next_arrival: usize,
    observed_arrivals: usize,
    next_replica_id: u32,
    next_batch_id: u64,
    /// Lanes of existing replicas in order of their ids.
    existing: Vec<u32>,
    counts: Counts,
    totals: Totals,
    tick_interval_s: f64,
    idle_ticks: u64,
    initial_replicas: u32,
    work: &'a mut Workspace,
    detail: Option<&'a mut Detail>,
}

/// Ticks in a row at which nothing happened and nothing was pending, after which a run is given up.
const MOST_IDLE_TICKS: u64 = 100_000;

impl<'a> Engine<'a> {
    pub fn new(
        inputs: &'a RunInputs<'a>,
        autoscaler: Option<Box<dyn Autoscaler>>,
        initial_replicas: u32,
        work: &'a mut Workspace,
        mut detail: Option<&'a mut Detail>,
    ) -> Self {
        work.clear();
        if let Some(detail) = &mut detail {
            **detail = Detail::default();
            detail.requests = (0..inputs.workload.len())
                .map(|i| RequestRecord {
                    request_id: i as u32,
                    arrived_at_s: inputs.workload.arrived_at_s[i],
                    prefill_tokens: inputs.workload.prefill_tokens[i],
                    decode_tokens: inputs.workload.decode_tokens[i],
                    replica_id: None,
                    scheduled_at_s: None,
                    first_token_at_s: None,
                    completed_at_s: None,
                    restarts: 0,
                })
                .collect();
        }
        let cluster = inputs.cluster;
        let router = cluster.global_scheduler.build();
        Self {
            scheduler: cluster.replica_scheduler.build(cluster.pipeline_parallel),
            router_observes_load: router.observes_load(),
            router,
            observes: autoscaler.as_ref().map_or(Observes::default(), |policy| policy.observes()),
            tick_interval_s: autoscaler.as_ref().and_then(|policy| policy.tick_interval_s()).unwrap_or(cluster.tune_interval_s),
            autoscaler,
            pipelined: cluster.pipeline_parallel > 1,
            stepping: inputs.stepping || detail.is_some(),
            now_s: 0.0,
            next_arrival: 0,
            observed_arrivals: 0,
            next_replica_id: 0,
            next_batch_id: 0,
            existing: Vec::new(),
            counts: Counts::default(),
            totals: Totals { min_replicas: u32::MAX, ..Totals::default() },
            idle_ticks: 0,
            initial_replicas,
            inputs,
            work,
            detail,
        }
    }

    pub fn run(mut self) -> Result<RunMetrics, SimulationError> {
        for _ in 0..self.initial_replicas {
            self.add_replica();
        }
        self.record_replicas();
        if self.autoscaler.is_some() {
            self.work.events.push(0.0, 0.0, Due::Tune);
        }
        let total = self.inputs.workload.len() as u64;
        while self.totals.completed + self.totals.rejected < total {
            self.next_instant()?;
        }
        self.finish()
    }

    /// Moves the clock to the next instant and does everything there is to do then.
    fn next_instant(&mut self) -> Result<(), SimulationError> {
        let arrivals = &self.inputs.workload.arrived_at_s;
        let arrival_s = arrivals.get(self.next_arrival).copied().unwrap_or(f64::INFINITY);
        let event_s = self.work.events.next_at_s();
        let now_s = arrival_s.min(event_s);
        if now_s == f64::INFINITY {
            return Err(SimulationError::Stuck { at_s: self.now_s, unfinished: self.unfinished() });
        }
        debug_assert!(now_s >= self.now_s, "time goes back from {} to {now_s}", self.now_s);
        self.now_s = now_s;
        let mut upcoming = self.next_arrival;
        while arrivals.get(upcoming).is_some_and(|&at| at == now_s) {
            upcoming += 1;
            self.work.steps.push_back(Step::Arrival);
        }
        while self.work.events.next_at_s() == now_s {
            let event = self.work.events.pop().expect("an event is due");
            match event.due {
                Due::StageEnd { lane, stage, epoch } => {
                    if self.work.replicas[lane as usize].epoch == epoch {
                        self.work.steps.push_back(Step::EndStage { lane, stage });
                    }
                }
                Due::Tune => self.work.steps.push_back(Step::Tune),
                Due::ScaleUp => self.work.steps.push_back(Step::ScaleUp),
                Due::ScaleDown => self.work.steps.push_back(Step::ScaleDown),
            }
        }
        let total = self.inputs.workload.len() as u64;
        while let Some(step) = self.work.steps.pop_front() {
            match step {
                Step::Arrival => self.arrive(),
                Step::Route => self.route(),
                Step::FormBatches { lane } => self.form_batches(lane),
                Step::EnterStage { lane, stage, batch } => {
                    self.work.replicas[lane as usize].stages[stage as usize].waiting.push_back(batch);
                    self.work.steps.push_back(Step::StartStage { lane, stage });
                }
                Step::StartStage { lane, stage } => self.start_stage(lane, stage),
                Step::EndStage { lane, stage } => self.end_stage(lane, stage),
                Step::EndBatch { lane, batch } => self.end_batch(lane, batch),
                Step::Tune => self.tune()?,
                Step::ScaleUp => self.scale_up(),
                Step::ScaleDown => self.scale_down(),
            }
            if self.totals.completed + self.totals.rejected == total {
                // Like the reference: nothing runs after the last completion, not even what is due at the same instant.
                self.work.steps.clear();
            }
        }
        Ok(())
    }

    fn unfinished(&self) -> u64 {
        self.inputs.workload.len() as u64 - self.totals.completed - self.totals.rejected
    }

    fn arrive(&mut self) {
        let (i, workload) = (self.next_arrival, self.inputs.workload);
        self.next_arrival += 1;
        let (prefill_tokens, decode_tokens) = (workload.prefill_tokens[i], workload.decode_tokens[i]);
        let kv = self.inputs.kv_blocks();
        let last_cached = u64::from(prefill_tokens) + u64::from(decode_tokens) - 1;
        if !self.scheduler.fits_empty(&kv, prefill_tokens) || last_cached > u64::from(kv.total) * u64::from(kv.block_size_tokens) {
            self.totals.rejected += 1;
            return;
        }
        let slot = self.work.requests.insert(Request::new(i as u32, workload.arrived_at_s[i], prefill_tokens, decode_tokens));
        self.work.unrouted.push_back(slot);
        self.work.steps.push_back(Step::Route);
    }

    /// Hands the requests that wait for a replica to the global scheduler, as long as there is a replica.
    fn route(&mut self) {
        let work = &mut *self.work;
        while let Some(&slot) = work.unrouted.front() {
            let Some(target) = self.router.route() else { break };
            work.unrouted.pop_front();
            let replica = &mut work.replicas[target.lane as usize];
            work.requests[slot].replica_id = replica.id;
            replica.state.queue.push_back(slot);
            if self.router_observes_load {
                self.router.set_outstanding(target, replica.state.outstanding());
            }
            work.touched.push(target.lane);
        }
        match work.touched[..] {
            [] => {}
            [lane] => work.steps.push_back(Step::FormBatches { lane }),
            _ => {
                // Several requests at one instant: each replica once, in order of ids.
                work.touched.sort_unstable_by_key(|&lane| work.replicas[lane as usize].id);
                work.touched.dedup();
                work.steps.extend(work.touched.iter().map(|&lane| Step::FormBatches { lane }));
            }
        }
        work.touched.clear();
    }

    fn form_batches(&mut self, lane: u32) {
        loop {
            let work = &mut *self.work;
            let replica = &mut work.replicas[lane as usize];
            if replica.batches_in_flight >= self.inputs.cluster.pipeline_parallel {
                self.cut_run(lane);
                return;
            }
            let index = work.free_in_flight.pop().unwrap_or_else(|| {
                work.in_flight.push(InFlight::default());
                work.in_flight.len() as u32 - 1
            });
            let in_flight = &mut work.in_flight[index as usize];
            in_flight.batch.clear();
            self.scheduler.form_batch(&mut replica.state, &mut work.requests, &mut in_flight.batch);
            while let Some(slot) = replica.state.rejected.pop() {
                work.requests.release(slot);
                self.totals.rejected += 1;
            }
            if in_flight.batch.is_empty() {
                work.free_in_flight.push(index);
                return;
            }
            replica.batches_in_flight += 1;
            in_flight.id = self.next_batch_id;
            self.next_batch_id += 1;
            in_flight.scheduled_at_s = self.now_s;
            for &(slot, _) in &in_flight.batch.entries {
                let request = &mut work.requests[slot];
                if request.scheduled_at_s.is_nan() {
                    request.scheduled_at_s = self.now_s;
                }
            }
            if self.pipelined {
                work.steps.push_back(Step::EnterStage { lane, stage: 0, batch: index });
            } else {
                self.start_alone(lane, index);
                return;
            }
        }
    }

    /// Starts a batch on a replica of one stage: nothing can come between forming and starting it.
    fn start_alone(&mut self, lane: u32, index: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        let batch = &work.in_flight[index as usize].batch;
        replica.stages[0].working_on = Some(index);
        let only_decodes = batch.shape.num_decodes == batch.len();
        // A preemption while forming may have made room for the head of the queue.
        let repeats = only_decodes
            && !self.stepping
            && self.scheduler.repeats_decodes(&replica.state)
            && !self.scheduler.would_admit(&replica.state, &work.requests);
        let (end_s, created_s) = if repeats {
            replica.running = true;
            replica.run.start(self.now_s, batch, &replica.state, &work.requests);
            replica.run.look_ahead(self.inputs.execution_time)
        } else {
            (self.now_s + self.inputs.execution_time.stage_time_s(&batch.shape, 0), self.now_s)
        };
        work.events.push(end_s, created_s, Due::StageEnd { lane, stage: 0, epoch: replica.epoch });
    }

    fn start_stage(&mut self, lane: u32, stage: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        let state = &mut replica.stages[stage as usize];
        if state.working_on.is_some() {
            return;
        }
        if let Some(index) = state.waiting.pop_front() {
            state.working_on = Some(index);
            let duration_s = self.inputs.execution_time.stage_time_s(&work.in_flight[index as usize].batch.shape, stage);
            self.totals.busy_s += duration_s / f64::from(self.inputs.cluster.pipeline_parallel);
            work.events.push(self.now_s + duration_s, self.now_s, Due::StageEnd { lane, stage, epoch: replica.epoch });
        }
    }

    fn end_stage(&mut self, lane: u32, stage: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        if replica.running {
            // Whatever else happens at this very instant may concern the next batch: then the run ends here.
            if !replica.run.ends_ahead() && work.steps.is_empty() {
                self.settle_run(lane, f64::INFINITY, 0);
                let replica = &mut self.work.replicas[lane as usize];
                let (end_s, created_s) = replica.run.look_ahead(self.inputs.execution_time);
                self.work.events.push(end_s, created_s, Due::StageEnd { lane, stage, epoch: replica.epoch });
                return;
            }
            self.end_run(lane);
        }
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        let batch = replica.stages[stage as usize].working_on.take().expect("the stage that ends worked on a batch");
        if self.pipelined {
            work.steps.push_back(Step::StartStage { lane, stage });
            if stage + 1 < self.inputs.cluster.pipeline_parallel {
                work.steps.push_back(Step::EnterStage { lane, stage: stage + 1, batch });
                return;
            }
        }
        work.steps.push_back(Step::EndBatch { lane, batch });
    }

    fn end_batch(&mut self, lane: u32, index: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        let in_flight = &work.in_flight[index as usize];
        let batch = &in_flight.batch;
        for &(slot, tokens) in &batch.entries {
            let request = &mut work.requests[slot];
            if request.is_completed() {
                continue;
            }
            let waited_for_first = request.first_token_at_s.is_nan();
            request.advance(tokens, self.now_s);
            if self.observes.latencies && waited_for_first && !request.first_token_at_s.is_nan() {
                work.first_tokens.push(FirstToken { arrived_at_s: request.arrived_at_s, at_s: self.now_s });
            }
            if request.is_completed() {
                if self.observes.latencies {
                    work.completions.push(Completion {
                        arrived_at_s: request.arrived_at_s,
                        first_token_at_s: request.first_token_at_s,
                        completed_at_s: self.now_s,
                        prefill_tokens: request.original_prefill_tokens,
                        decode_tokens: request.total_tokens() - request.original_prefill_tokens,
                    });
                }
                self.totals.completed += 1;
                self.totals.restarts += u64::from(request.restarts);
                work.samples.add(request, self.now_s);
                if let Some(detail) = &mut self.detail {
                    let record = &mut detail.requests[request.id as usize];
                    record.replica_id = Some(request.replica_id);
                    record.scheduled_at_s = Some(request.scheduled_at_s);
                    record.first_token_at_s = Some(request.first_token_at_s);
                    record.completed_at_s = Some(self.now_s);
                    record.restarts = request.restarts;
                }
            }
        }
        self.totals.batches += 1;
        if !self.pipelined {
            self.totals.busy_s += self.now_s - in_flight.scheduled_at_s;
        }
        if self.observes.batches {
            work.ended_batches.push(BatchEnd {
                scheduled_at_s: in_flight.scheduled_at_s,
                completed_at_s: self.now_s,
                tokens: batch.shape.total_tokens,
                prefill_tokens: batch.shape.prefill_tokens,
                num_requests: batch.len(),
            });
        }
        if let Some(detail) = &mut self.detail {
            detail.batches.push(BatchRecord {
                batch_id: in_flight.id,
                replica_id: replica.id,
                scheduled_at_s: in_flight.scheduled_at_s,
                completed_at_s: self.now_s,
                num_requests: batch.len(),
                prefill_tokens: batch.shape.prefill_tokens,
                decode_tokens: batch.shape.total_tokens - batch.shape.prefill_tokens,
            });
        }
        self.scheduler.end_batch(&mut replica.state, &mut work.requests, batch);
        replica.batches_in_flight -= 1;
        work.free_in_flight.push(index);
        if self.router_observes_load && !replica.draining {
            self.router.set_outstanding(replica.target(lane), replica.state.outstanding());
        }
        if !replica.is_empty() {
            work.steps.push_back(Step::FormBatches { lane });
        } else if replica.draining {
            self.free_replica(lane);
            self.record_replicas();
        }
    }

    /// Accounts for the iterations of a run that end before `until_s`, but for the last `keep` of its stretch.
    fn settle_run(&mut self, lane: u32, until_s: f64, keep: u32) {
        let work = &mut *self.work;
        let run = &mut work.replicas[lane as usize].run;
        let before = run.settled;
        let num_requests = run.requests();
        let observed = self.observes.batches;
        let ended = &mut work.ended_batches;
        run.settle(self.inputs.execution_time, until_s, keep, |scheduled_at_s, completed_at_s| {
            if observed {
                ended.push(BatchEnd { scheduled_at_s, completed_at_s, tokens: num_requests.into(), prefill_tokens: 0, num_requests });
            }
        });
        let iterations = u64::from(run.settled.iterations - before.iterations);
        self.totals.batches += iterations;
        self.next_batch_id += iterations;
        self.totals.busy_s += run.settled.at_s - before.at_s;
    }

    /// Lets a run end with the iteration under way, if a request may be admitted then.
    fn cut_run(&mut self, lane: u32) {
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        if !replica.running || !self.scheduler.would_admit(&replica.state, &work.requests) {
            return;
        }
        let now_s = self.now_s;
        self.settle_run(lane, now_s, 0);
        let replica = &mut self.work.replicas[lane as usize];
        let (end_s, created_s) = replica.run.cut(self.inputs.execution_time);
        replica.epoch += 1;
        self.work.events.push(end_s, created_s, Due::StageEnd { lane, stage: 0, epoch: replica.epoch });
    }

    /// Leaves the requests of a run as they are during its last iteration.
    fn end_run(&mut self, lane: u32) {
        self.settle_run(lane, f64::INFINITY, 1);
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane as usize];
        replica.running = false;
        let index = replica.stages[0].working_on.expect("a run is a batch in flight");
        let in_flight = &mut work.in_flight[index as usize];
        in_flight.scheduled_at_s = replica.run.settled.at_s;
        let iterations = replica.run.settled.iterations;
        for &(slot, _) in &in_flight.batch.entries {
            let request = &mut work.requests[slot];
            request.processed_tokens += iterations;
            let blocks = replica.state.kv.blocks_for(request.processed_tokens).max(request.blocks);
            replica.state.kv.free -= blocks - request.blocks;
            request.blocks = blocks;
        }
    }

    fn tune(&mut self) -> Result<(), SimulationError> {
        let mut policy = self.autoscaler.take().expect("only an autoscaler tunes");
        if self.observes.arrivals {
            let (workload, from) = (self.inputs.workload, self.observed_arrivals);
            let range = from..self.next_arrival;
            self.observed_arrivals = self.next_arrival;
            policy.observe_arrivals(Arrivals {
                arrived_at_s: &workload.arrived_at_s[range.clone()],
                prefill_tokens: &workload.prefill_tokens[range.clone()],
                decode_tokens: &workload.decode_tokens[range],
            });
        }
        if self.observes.batches || self.observes.replicas {
            for i in 0..self.existing.len() {
                let lane = self.existing[i];
                if self.work.replicas[lane as usize].running {
                    self.settle_run(lane, self.now_s, 0);
                }
            }
        }
        let work = &mut *self.work;
        if self.observes.batches {
            let ended = &mut work.ended_batches;
            // Runs were settled replica by replica.
            if !ended.is_sorted_by(|a, b| a.completed_at_s <= b.completed_at_s) {
                ended.sort_by(|a, b| a.completed_at_s.total_cmp(&b.completed_at_s).then(a.scheduled_at_s.total_cmp(&b.scheduled_at_s)));
            }
            policy.observe_batches(ended);
            ended.clear();
        }
        if self.observes.latencies {
            policy.observe_latencies(&work.first_tokens, &work.completions);
            work.first_tokens.clear();
            work.completions.clear();
        }
        work.signals.clear();
        if self.observes.replicas {
            let (replicas, requests) = (&work.replicas, &work.requests);
            work.signals.extend(self.existing.iter().map(|&lane| replicas[lane as usize].signals(requests)));
        }
        let counts = &self.counts;
        let snapshot = Snapshot {
            serving: counts.existing - counts.draining,
            draining: counts.draining,
            starting: counts.starting,
            stopping: counts.stopping,
            outstanding_requests: work.requests.len() as u32,
            unrouted_requests: work.unrouted.len() as u32,
            replicas: &work.signals,
        };
        let decision = policy.decide(self.now_s, &snapshot);
        if let Some(detail) = &mut self.detail {
            detail.tunes.push(TuneRecord {
                time_s: self.now_s,
                num_replicas: counts.existing,
                pending_scale_ups: counts.starting,
                pending_scale_downs: counts.stopping + counts.draining,
                decision: decision.signed(),
                evidence: policy.evidence(),
            });
        }
        let cluster = self.inputs.cluster;
        let committed = snapshot.committed();
        let (ups, downs) = match decision {
            Decision::Hold => (0, 0),
            Decision::Up(n) => (n.min(cluster.max_replicas.saturating_sub(committed)), 0),
            Decision::Down(n) => (0, n.min(committed.saturating_sub(cluster.min_replicas))),
        };
        self.autoscaler = Some(policy);
        self.notice_idleness(ups + downs)?;
        let events = &mut self.work.events;
        events.push(self.now_s + self.tick_interval_s, self.now_s, Due::Tune);
        self.counts.starting += ups;
        for _ in 0..ups {
            if cluster.scale_up_delay_s == 0.0 {
                self.work.steps.push_back(Step::ScaleUp);
            } else {
                events.push(self.now_s + cluster.scale_up_delay_s, self.now_s, Due::ScaleUp);
            }
        }
        self.counts.stopping += downs;
        for _ in 0..downs {
            if cluster.scale_down_delay_s == 0.0 {
                self.work.steps.push_back(Step::ScaleDown);
            } else {
                events.push(self.now_s + cluster.scale_down_delay_s, self.now_s, Due::ScaleDown);
            }
        }
        Ok(())
    }

    /// Gives up a run in which a policy holds on to a state that can serve nobody.
    fn notice_idleness(&mut self, changes: u32) -> Result<(), SimulationError> {
        let nothing_to_come = self.next_arrival == self.inputs.workload.len()
            && self.counts.starting + self.counts.stopping + changes == 0
            && self.existing.iter().all(|&lane| self.work.replicas[lane as usize].batches_in_flight == 0);
        self.idle_ticks = if nothing_to_come { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks > MOST_IDLE_TICKS {
            return Err(SimulationError::Stuck { at_s: self.now_s, unfinished: self.unfinished() });
        }
        Ok(())
    }

    fn scale_up(&mut self) {
        self.counts.starting -= 1;
        self.totals.scale_ups += 1;
        self.add_replica();
        self.record_replicas();
        if !self.work.unrouted.is_empty() {
            // The reference leaves these stranded until the next arrival.
            self.work.steps.push_back(Step::Route);
        }
    }

    /// Frees the first idle replica; if all are busy, marks the global scheduler's choice to drain.
    fn scale_down(&mut self) {
        self.counts.stopping -= 1;
        let idle = self.existing.iter().copied().find(|&lane| {
            let replica = &self.work.replicas[lane as usize];
            !replica.draining && replica.is_empty()
        });
        if let Some(lane) = idle {
            self.totals.scale_downs += 1;
            self.router.remove(self.work.replicas[lane as usize].target(lane));
            self.free_replica(lane);
        } else if let Some(target) = self.router.choose_drain() {
            self.totals.scale_downs += 1;
            self.router.remove(target);
            self.work.replicas[target.lane as usize].draining = true;
            self.counts.draining += 1;
        }
        self.record_replicas();
    }

    fn add_replica(&mut self) {
        let id = self.next_replica_id;
        self.next_replica_id += 1;
        let work = &mut *self.work;
        let lane = match work.free_lanes.pop() {
            Some(lane) => {
                let replica = &mut work.replicas[lane as usize];
                replica.id = id;
                replica.alive = true;
                replica.draining = false;
                replica.joined_at_s = self.now_s;
                replica.state.reset();
                lane
            }
            None => {
                work.replicas.push(Replica {
                    id,
                    alive: true,
                    draining: false,
                    joined_at_s: self.now_s,
                    batches_in_flight: 0,
                    epoch: 0,
                    running: false,
                    run: DecodeRun::default(),
                    state: ReplicaState::new(self.inputs.kv_blocks()),
                    stages: (0..self.inputs.cluster.pipeline_parallel).map(|_| Stage::default()).collect(),
                });
                work.replicas.len() as u32 - 1
            }
        };
        self.existing.push(lane);
        self.counts.existing += 1;
        self.router.add(Target { lane, id });
    }

    fn free_replica(&mut self, lane: u32) {
        let replica = &mut self.work.replicas[lane as usize];
        debug_assert!(replica.alive && replica.is_empty());
        replica.alive = false;
        self.totals.replica_s += self.now_s - replica.joined_at_s;
        self.counts.existing -= 1;
        self.counts.draining -= u32::from(replica.draining);
        self.existing.retain(|&other| other != lane);
        self.work.free_lanes.push(lane);
    }

    /// Books the cost so far and goes on at the rate of the replicas there are now.
    fn record_replicas(&mut self) {
        let cost_per_hour = self.inputs.cost_per_hour(self.counts.existing);
        self.book_cost();
        self.totals.cost_per_hour = cost_per_hour;
        self.totals.max_replicas = self.totals.max_replicas.max(self.counts.existing);
        self.totals.min_replicas = self.totals.min_replicas.min(self.counts.existing);
        if let Some(detail) = &mut self.detail {
            detail.replicas.push(ReplicaRecord {
                time_s: self.now_s,
                num_replicas: self.counts.existing,
                num_draining: self.counts.draining,
                cost_per_hour_usd: cost_per_hour,
            });
        }
    }

    fn book_cost(&mut self) {
        self.totals.cost_usd_s_per_h += self.totals.cost_per_hour * (self.now_s - self.totals.cost_since_s);
        self.totals.cost_since_s = self.now_s;
    }

    fn finish(mut self) -> Result<RunMetrics, SimulationError> {
        self.book_cost();
        for &lane in &self.existing {
            self.totals.replica_s += self.now_s - self.work.replicas[lane as usize].joined_at_s;
        }
        let totals = &self.totals;
        let samples = &mut self.work.samples;
        let per_time = |sum: f64| if self.now_s > 0.0 { sum / self.now_s } else { 0.0 };
        Ok(RunMetrics {
            num_requests: self.inputs.workload.len() as u64,
            num_completed: totals.completed,
            num_rejected: totals.rejected,
            num_restarts: totals.restarts,
            e2e_s: Distribution::of(&mut samples.e2e_s),
            ttft_s: Distribution::of(&mut samples.ttft_s),
            tpot_s: Distribution::of(&mut samples.tpot_s),
            scheduling_delay_s: Distribution::of(&mut samples.scheduling_delay_s),
            normalized_latency_s: Distribution::of(&mut samples.normalized_latency_s),
            total_cost_usd: totals.cost_usd_s_per_h * (1.0 / 3600.0),
            mean_cost_usd_per_hour: per_time(totals.cost_usd_s_per_h),
            simulated_s: self.now_s,
            num_batches: totals.batches,
            busy_s: totals.busy_s,
            replica_s: totals.replica_s,
            utilization: if totals.replica_s > 0.0 { totals.busy_s / totals.replica_s } else { 0.0 },
            mean_replicas: per_time(totals.replica_s),
            max_replicas: totals.max_replicas,
            min_replicas: totals.min_replicas,
            scale_ups: totals.scale_ups,
            scale_downs: totals.scale_downs,
        })
    }
}

impl Samples {
    #[inline]
    fn add(&mut self, request: &Request, completed_at_s: f64) {
        let e2e_s = completed_at_s - request.arrived_at_s;
        let output_tokens = request.total_tokens() - request.original_prefill_tokens;
        self.e2e_s.push(e2e_s);
        self.ttft_s.push(request.first_token_at_s - request.arrived_at_s);
        self.scheduling_delay_s.push(request.scheduled_at_s - request.arrived_at_s);
        self.normalized_latency_s.push(e2e_s / f64::from(output_tokens));
        if output_tokens > 1 {
            self.tpot_s.push((completed_at_s - request.first_token_at_s) / f64::from(output_tokens - 1));
        }
    }
}
