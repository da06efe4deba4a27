//! What a run works on: the steps of an instant, batches in flight, replicas, and the buffers a thread keeps
//! between runs.

use std::collections::VecDeque;
use std::iter;
use std::ops::{Index, IndexMut};

use super::samples::Samples;
use super::step_times::StepTimes;
use crate::autoscaler::{BatchEnd, BatchSums, Completion, FirstToken, ForwardPass, ReplicaSignals};
use crate::global_scheduler::{Load, Target};
use crate::replica_scheduler::{Batch, Lane, ReplicaId, ReplicaState, Request, Requests, Slot, VllmV1State};
use crate::simulation::decode_run::DecodeRun;
use crate::simulation::event::{EventQueue, StageIndex};
use crate::simulation::metric::Quantity;
use crate::simulation::record::{BatchRecord, ReplicaRecord, Trail};
use crate::simulation::{Distribution, LatencyLimits, Stall};
use crate::workload::MOST_KEPT;

/// What is to be done at this instant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    Arrival,
    Route,
    FormBatches { lane: Lane },
    EnterStage { lane: Lane, stage: StageIndex, batch: BatchPlace },
    StartStage { lane: Lane, stage: StageIndex },
    EndStage { lane: Lane, stage: StageIndex },
    EndBatch { lane: Lane, batch: BatchPlace },
    Tune,
    ScaleUp { order: u64 },
    NodeArrival,
    NodeRelease { node: u32 },
    ScaleDown,
    Scrape,
    Notice { lane: Lane, id: ReplicaId },
    Loss { lane: Lane, id: ReplicaId },
    Cut { lane: Lane, id: ReplicaId },
    GiveUp { slot: Slot, id: u32 },
    Spare { kind: u32 },
}

/// The steps of this instant, first in, first out. Mostly there is one at a time, which then never touches
/// the buffer.
#[derive(Debug, Default)]
pub(super) struct Steps {
    next: Option<Step>,
    later: VecDeque<Step>,
}

impl Steps {
    #[inline]
    pub fn push(&mut self, step: Step) {
        if self.next.is_none() {
            self.next = Some(step);
        } else {
            self.later.push_back(step);
        }
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Step> {
        let step = self.next.take()?;
        if !self.later.is_empty() {
            self.next = self.later.pop_front();
        }
        Some(step)
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.next.is_none()
    }

    pub fn clear(&mut self) {
        self.next = None;
        self.later.clear();
    }
}

/// A batch on its way through the stages of a replica.
#[derive(Debug, Default)]
pub(super) struct InFlight {
    pub(super) batch: Batch,
    pub(super) id: u64,
    pub(super) scheduled_at_s: f64,
}

impl InFlight {
    /// What a policy is told of it once it has ended.
    pub fn end(&self, completed_at_s: f64) -> BatchEnd {
        let shape = &self.batch.shape;
        BatchEnd {
            scheduled_at_s: self.scheduled_at_s,
            completed_at_s,
            tokens: shape.total_tokens,
            prefill_tokens: shape.prefill_tokens,
            num_requests: self.batch.len(),
        }
    }

    /// The same for a policy that wants sums alone.
    pub fn add_to(&self, sums: &mut BatchSums) {
        sums.batches += 1;
        sums.tokens += self.batch.shape.total_tokens;
        sums.prefill_tokens += self.batch.shape.prefill_tokens;
    }

    /// The same as an engine's forward pass.
    pub fn pass(&self, completed_at_s: f64) -> ForwardPass {
        let shape = &self.batch.shape;
        ForwardPass {
            prefill_requests: shape.num_prefills,
            prefill_tokens: shape.prefill_tokens,
            prefill_cached_tokens: shape.prefill_cached_tokens,
            decode_requests: shape.num_decodes,
            decode_kv_tokens: shape.decode_cached_tokens,
            duration_s: completed_at_s - self.scheduled_at_s,
        }
    }

    pub fn record(&self, replica_id: ReplicaId, completed_at_s: f64) -> BatchRecord {
        let shape = &self.batch.shape;
        BatchRecord {
            batch_id: self.id,
            replica_id: replica_id.0,
            scheduled_at_s: self.scheduled_at_s,
            completed_at_s,
            num_requests: self.batch.len(),
            prefill_tokens: shape.prefill_tokens,
            decode_tokens: shape.total_tokens - shape.prefill_tokens,
        }
    }
}

/// Where a batch in flight is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct BatchPlace(u32);

impl BatchPlace {
    /// That of the only batch of a replica of one stage.
    pub fn of_lane(lane: Lane) -> Self {
        Self(lane.0)
    }
}

/// All batches in flight. A replica of one stage has one at a time, which is in the place of its lane.
#[derive(Debug, Default)]
pub(super) struct Batches {
    places: Vec<InFlight>,
    one_a_lane: bool,
    /// Where replicas have several stages, the places that are free.
    free: Vec<BatchPlace>,
}

impl Batches {
    /// Frees all places, keeping their buffers.
    pub fn clear(&mut self, stages_per_lane: u32) {
        self.one_a_lane = stages_per_lane == 1;
        self.free.clear();
        self.free.extend((0..self.places.len() as u32).rev().map(BatchPlace));
    }

    /// A place for a batch of the replica in this lane.
    #[inline]
    pub fn take(&mut self, lane: Lane) -> BatchPlace {
        let next = || BatchPlace(self.places.len() as u32);
        let place =
            if self.one_a_lane { BatchPlace::of_lane(lane) } else { self.free.pop().unwrap_or_else(next) };
        if place.0 as usize >= self.places.len() {
            self.places.resize_with(place.0 as usize + 1, InFlight::default);
        }
        place
    }

    #[inline]
    pub fn give_back(&mut self, place: BatchPlace) {
        if !self.one_a_lane {
            self.free.push(place);
        }
    }
}

impl Index<BatchPlace> for Batches {
    type Output = InFlight;

    #[inline]
    fn index(&self, place: BatchPlace) -> &InFlight {
        &self.places[place.0 as usize]
    }
}

impl IndexMut<BatchPlace> for Batches {
    #[inline]
    fn index_mut(&mut self, place: BatchPlace) -> &mut InFlight {
        &mut self.places[place.0 as usize]
    }
}

/// One pipeline stage: the batch it works on, and those that wait for it.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) working_on: Option<BatchPlace>,
    pub(super) waiting: VecDeque<BatchPlace>,
}

/// The stages of a replica. Most have one, which then is at hand.
#[derive(Debug)]
pub(super) struct Stages {
    first: Stage,
    others: Vec<Stage>,
}

impl Stages {
    /// At least one.
    pub fn new(number: u32) -> Self {
        Self { first: Stage::default(), others: (1..number).map(|_| Stage::default()).collect() }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Stage> {
        iter::once(&self.first).chain(&self.others)
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut Stage> {
        iter::once(&mut self.first).chain(&mut self.others)
    }
}

impl Index<StageIndex> for Stages {
    type Output = Stage;

    #[inline]
    fn index(&self, stage: StageIndex) -> &Stage {
        if stage == StageIndex::FIRST { &self.first } else { &self.others[stage.0 as usize - 1] }
    }
}

impl IndexMut<StageIndex> for Stages {
    #[inline]
    fn index_mut(&mut self, stage: StageIndex) -> &mut Stage {
        if stage == StageIndex::FIRST { &mut self.first } else { &mut self.others[stage.0 as usize - 1] }
    }
}

/// A replica that exists, stored in a lane that is reused once it has left.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: ReplicaId,
    pub(super) batches_in_flight: u32,
    pub(super) alive: bool,
    pub(super) draining: bool,
    /// Drains because it will be taken away, and is counted as lost already.
    pub(super) reclaimed: bool,
    /// Whether the batch in flight is a run of decodes.
    pub(super) running: bool,
    /// Until when KV use has been accounted for.
    pub(super) kv_since_s: f64,
    /// What was routed here and is not finished.
    pub(super) load: Load,
    pub(super) stages: Stages,
    pub(super) state: ReplicaState,
    pub(super) run: DecodeRun,
    pub(super) joined_at_s: f64,
    /// From when on it is paid, and when it was told to stop.
    pub(super) paid_from_s: f64,
    pub(super) drains_from_s: f64,
    /// Kept only for a policy that observes passes.
    pub(super) latest_pass: ForwardPass,
    pub(super) stalls: Stalls,
}

/// What a fresh replica has still to go through; nothing by default.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Stalls {
    left: u32,
    first_step_at_s: f64,
}

impl Stalls {
    pub fn fresh(stalls: &[Stall]) -> Self {
        Self { left: stalls.len() as u32, first_step_at_s: f64::NAN }
    }

    /// Whether its steps take the time they always will.
    #[inline]
    pub fn are_over(&self) -> bool {
        self.left == 0
    }

    /// What a step that begins now takes beyond its time. `stalls` are all there were.
    #[inline]
    pub fn of_step(&mut self, now_s: f64, stalls: &[Stall]) -> f64 {
        if self.left == 0 { 0.0 } else { self.next(now_s, stalls) }
    }

    #[cold]
    fn next(&mut self, now_s: f64, stalls: &[Stall]) -> f64 {
        if self.first_step_at_s.is_nan() {
            self.first_step_at_s = now_s;
        }
        let stall = stalls[stalls.len() - self.left as usize];
        if now_s - self.first_step_at_s < stall.after_s {
            return 0.0;
        }
        self.left -= 1;
        stall.duration_s
    }
}

impl Index<Lane> for Vec<Replica> {
    type Output = Replica;

    #[inline]
    fn index(&self, lane: Lane) -> &Replica {
        &self[lane.index()]
    }
}

impl IndexMut<Lane> for Vec<Replica> {
    #[inline]
    fn index_mut(&mut self, lane: Lane) -> &mut Replica {
        &mut self[lane.index()]
    }
}

impl Replica {
    pub fn target(&self, lane: Lane) -> Target {
        Target { lane, id: self.id }
    }

    /// What a policy may see of its requests, settled or not.
    pub fn request_signals(&self) -> ReplicaSignals {
        ReplicaSignals {
            id: self.id.0,
            draining: self.draining,
            queued_requests: self.state.queue.len() as u32,
            running_requests: self.state.allocated,
            ..ReplicaSignals::default()
        }
    }

    /// What a policy may see of it, settled up to now.
    pub fn signals(&self, requests: &Requests) -> ReplicaSignals {
        let state = &self.state;
        ReplicaSignals {
            queued_prefill_tokens: state
                .queue
                .iter()
                .map(|&slot| u64::from(requests[slot].prefill_tokens))
                .sum(),
            kv_used_blocks: self.kv_used_blocks(),
            kv_total_blocks: state.kv.total,
            ..self.request_signals()
        }
    }

    /// What its engine says of its latest pass, settled up to now.
    pub fn reported_pass(&self) -> ForwardPass {
        if self.batches_in_flight == 0 { ForwardPass::default() } else { self.latest_pass }
    }

    /// KV blocks in use, with a run settled up to now.
    pub fn kv_used_blocks(&self) -> u32 {
        let free_blocks = if self.running { self.run.free_blocks() } else { self.state.kv.free };
        self.state.kv.total - free_blocks
    }

    /// Nothing queued, nothing in memory, nothing waiting for a stage.
    pub fn is_empty(&self) -> bool {
        self.state.queue.is_empty()
            && self.state.allocated == 0
            && self.stages.iter().all(|stage| stage.waiting.is_empty())
    }
}

/// Buffers of a run, kept by a thread from one run to the next.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) events: EventQueue,
    pub(super) steps: Steps,
    pub(super) requests: Requests,
    pub(super) replicas: Vec<Replica>,
    pub(super) free_lanes: Vec<Lane>,
    /// What a scheduler kept of replicas of earlier runs, for its memory.
    #[expect(clippy::vec_box, reason = "a replica keeps its state in a box, and gets that box back")]
    pub(super) vllm_v1: Vec<Box<VllmV1State>>,
    pub(super) in_flight: Batches,
    pub(super) unrouted: VecDeque<Slot>,
    pub(super) touched: Vec<Lane>,
    /// Whoever finishes with an iteration of a run.
    pub(super) finished: Vec<Slot>,
    /// What the autoscaler has not been told yet.
    pub(super) ended_batches: Vec<BatchEnd>,
    pub(super) first_tokens: Vec<FirstToken>,
    pub(super) completions: Vec<Completion>,
    pub(super) signals: Vec<ReplicaSignals>,
    pub(super) samples: Samples,
    pub(super) trail: Trail,
    pub(super) step_times: StepTimes,
    /// Those of a fleet's pools.
    pools: Vec<Self>,
}

impl Workspace {
    /// Makes ready for a run of this many requests on replicas of this many stages.
    pub(super) fn clear(
        &mut self,
        num_requests: u64,
        limits: &LatencyLimits,
        stages_per_lane: u32,
        keeps_trail: bool,
    ) {
        self.events.clear(stages_per_lane);
        self.steps.clear();
        self.requests.clear();
        self.vllm_v1.extend(self.replicas.drain(..).filter_map(|replica| replica.state.vllm_v1));
        self.free_lanes.clear();
        self.in_flight.clear(stages_per_lane);
        self.unrouted.clear();
        self.touched.clear();
        self.ended_batches.clear();
        self.first_tokens.clear();
        self.completions.clear();
        self.samples.clear(num_requests, limits);
        // Of more requests not even the latencies are kept.
        self.trail.clear((keeps_trail && num_requests <= MOST_KEPT).then_some(num_requests as usize));
        self.step_times.clear();
    }
}

/// What a fleet keeps in the workspace of its run beside those of its pools.
impl Workspace {
    /// Workspaces of so many pools.
    pub(in crate::simulation) fn take_pools(&mut self, number: usize) -> Vec<Self> {
        let mut pools = std::mem::take(&mut self.pools);
        pools.resize_with(number, Self::default);
        pools
    }

    pub(in crate::simulation) fn give_back_pools(&mut self, pools: Vec<Self>) {
        self.pools = pools;
    }

    /// Makes ready for so many requests of a fleet.
    pub(in crate::simulation) fn clear_for_fleet(
        &mut self,
        num_requests: u64,
        limits: &LatencyLimits,
        keeps_trail: bool,
    ) {
        self.clear(num_requests, limits, 1, keeps_trail);
    }

    pub(in crate::simulation) fn note_answer(&mut self, request: &Request, completed_at_s: f64, api_s: f64) {
        self.samples.add(request, completed_at_s, api_s);
    }

    pub(in crate::simulation) fn note_left(&mut self, request: &Request, left_at_s: f64) {
        self.trail.leave(request, left_at_s);
    }

    pub(in crate::simulation) fn set_trail_replicas(
        &mut self,
        of_pools: Vec<Vec<ReplicaRecord>>,
        replicas: Vec<ReplicaRecord>,
    ) {
        (self.trail.of_pools, self.trail.replicas) = (of_pools, replicas);
    }

    pub(in crate::simulation) fn num_within(&self, limits: &LatencyLimits) -> usize {
        self.samples.num_within(limits)
    }

    pub(in crate::simulation) fn distributions(&mut self) -> [Option<Distribution>; 5] {
        self.samples.distributions()
    }
}

impl Workspace {
    /// What the latest run has left for curves, if it was asked to and was not too long.
    pub fn trail(&self) -> Option<&Trail> {
        self.trail.is_kept.then_some(&self.trail)
    }

    /// A quantity of every request that the latest run completed and that has it. None of a run too long to
    /// have kept them.
    pub fn values_of(&mut self, quantity: &Quantity) -> &[f64] {
        self.samples.values_of(quantity)
    }

    /// Memory of what a run keeps now, whether or not curves are wanted; see
    /// [`crate::simulation::Limits::most_bytes`].
    pub(super) fn bytes(&self) -> u64 {
        let slots =
            |replica: &Replica| (replica.state.queue.len() + replica.state.waiting.len()) * size_of::<Slot>();
        let in_flight: usize = self.replicas.iter().map(|replica| replica.batches_in_flight as usize).sum();
        let bytes = self.requests.bytes()
            + self.samples.bytes()
            + self.events.bytes()
            + size_of_val(&self.replicas[..])
            + self.replicas.iter().map(slots).sum::<usize>()
            + in_flight * size_of::<InFlight>()
            + self.unrouted.len() * size_of::<Slot>()
            + size_of_val(&self.ended_batches[..])
            + size_of_val(&self.first_tokens[..])
            + size_of_val(&self.completions[..]);
        bytes as u64
    }

    /// What a finished run should not have left behind: requests anywhere, KV blocks in use.
    pub(in crate::simulation) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        // A scheduler that works ahead computes a token more of requests whose end it could not know: those
        // have been served.
        let served = self.requests.served();
        if self.requests.len() - served.len() + self.unrouted.len() > 0 {
            found.push(format!(
                "{} requests left, {} of them not routed",
                self.requests.len() - served.len(),
                self.unrouted.len()
            ));
        }
        for replica in &self.replicas {
            let state = &replica.state;
            let served = served.iter().filter(|&&replica_id| replica_id == replica.id).count() as u32;
            let in_flight =
                if served == state.allocated && served > 0 { 0 } else { replica.batches_in_flight };
            let held = (state.queue.len(), state.waiting.len(), state.allocated - served, in_flight);
            if held != (0, 0, 0, 0) {
                found.push(format!(
                    "replica {}: queued, waiting, in memory, in flight at the end: {held:?}",
                    replica.id
                ));
            }
            if state.kv.free != state.kv.total {
                found.push(format!(
                    "replica {}: {} of {} KV blocks free at the end",
                    replica.id, state.kv.free, state.kv.total
                ));
            }
        }
        found
    }
}
