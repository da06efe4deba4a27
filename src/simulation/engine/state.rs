//! What a run works on: the steps of an instant, batches in flight, replicas, and the buffers a thread keeps between runs.

use std::collections::VecDeque;

use super::accounts::Samples;
use super::step_times::StepTimes;
use crate::autoscaler::{BatchEnd, Completion, FirstToken, ReplicaSignals};
use crate::global_scheduler::{Load, Target};
use crate::replica_scheduler::{Batch, PrefixCache, ReplicaState, Requests, Slot};
use crate::simulation::LatencyLimits;
use crate::simulation::decode_run::DecodeRun;
use crate::simulation::event::EventQueue;

/// What is to be done at this instant.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
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
    Scrape,
    Notice { lane: u32, id: u32 },
    Loss { lane: u32, id: u32 },
}

/// The steps of this instant, first in, first out. Mostly there is one at a time, which then never touches the buffer.
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

/// One pipeline stage: the batch it works on, and those that wait for it.
#[derive(Debug, Default)]
pub(super) struct Stage {
    pub(super) working_on: Option<u32>,
    pub(super) waiting: VecDeque<u32>,
}

/// A replica that exists, stored in a lane that is reused once it has left.
#[derive(Debug)]
pub(super) struct Replica {
    pub(super) id: u32,
    pub(super) alive: bool,
    pub(super) draining: bool,
    /// Drains because it will be taken away, and is counted as lost already.
    pub(super) reclaimed: bool,
    pub(super) joined_at_s: f64,
    /// What was routed here and is not finished.
    pub(super) load: Load,
    /// Until when KV use has been accounted for.
    pub(super) kv_since_s: f64,
    pub(super) batches_in_flight: u32,
    /// Whether the batch in flight is a run of decodes.
    pub(super) running: bool,
    pub(super) run: DecodeRun,
    pub(super) state: ReplicaState,
    pub(super) stages: Vec<Stage>,
}

impl Replica {
    pub fn target(&self, lane: u32) -> Target {
        Target { lane, id: self.id }
    }

    /// What a policy may see of it, settled up to now.
    pub fn signals(&self, requests: &Requests) -> ReplicaSignals {
        let (state, kv) = (&self.state, &self.state.kv);
        ReplicaSignals {
            id: self.id,
            draining: self.draining,
            queued_requests: state.queue.len() as u32,
            queued_prefill_tokens: state.queue.iter().map(|&slot| u64::from(requests[slot].prefill_tokens)).sum(),
            running_requests: state.allocated,
            kv_used_blocks: self.kv_used_blocks(),
            kv_total_blocks: kv.total,
        }
    }

    /// KV blocks in use, with a run settled up to now.
    pub fn kv_used_blocks(&self) -> u32 {
        let free_blocks = if self.running { self.run.free_blocks() } else { self.state.kv.free };
        self.state.kv.total - free_blocks
    }

    /// Nothing queued, nothing in memory, nothing waiting for a stage.
    pub fn is_empty(&self) -> bool {
        self.state.queue.is_empty() && self.state.allocated == 0 && self.stages.iter().all(|stage| stage.waiting.is_empty())
    }
}

/// Buffers of a run, kept by a thread from one run to the next.
#[derive(Debug, Default)]
pub struct Workspace {
    pub(super) events: EventQueue,
    pub(super) steps: Steps,
    pub(super) requests: Requests,
    pub(super) replicas: Vec<Replica>,
    pub(super) free_lanes: Vec<u32>,
    /// Prefix caches of earlier runs, kept for their memory.
    pub(super) used_caches: Vec<PrefixCache>,
    pub(super) in_flight: Vec<InFlight>,
    pub(super) free_in_flight: Vec<u32>,
    pub(super) unrouted: VecDeque<Slot>,
    pub(super) touched: Vec<u32>,
    /// What the autoscaler has not been told yet.
    pub(super) ended_batches: Vec<BatchEnd>,
    pub(super) first_tokens: Vec<FirstToken>,
    pub(super) completions: Vec<Completion>,
    pub(super) signals: Vec<ReplicaSignals>,
    pub(super) samples: Samples,
    pub(super) step_times: StepTimes,
}

impl Workspace {
    /// Makes ready for a run of this many requests on replicas of this many stages.
    pub fn clear(&mut self, num_requests: u64, limits: &LatencyLimits, stages_per_lane: u32) {
        self.events.clear(stages_per_lane);
        self.steps.clear();
        self.requests.clear();
        self.used_caches
            .extend(self.replicas.drain(..).filter_map(|replica| replica.state.cache.or(replica.state.used_cache)).map(|cache| *cache));
        self.free_lanes.clear();
        self.free_in_flight.clear();
        self.free_in_flight.extend((0..self.in_flight.len() as u32).rev());
        self.unrouted.clear();
        self.touched.clear();
        self.ended_batches.clear();
        self.first_tokens.clear();
        self.completions.clear();
        self.samples.clear(num_requests, limits);
        self.step_times.clear();
    }
}

impl Workspace {
    /// Memory of what a run keeps now; see [`crate::simulation::Limits::most_bytes`].
    pub(super) fn bytes(&self) -> u64 {
        let slots = |replica: &Replica| (replica.state.queue.len() + replica.state.waiting.len()) * size_of::<Slot>();
        let in_flight = self.in_flight.len() - self.free_in_flight.len();
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
        if self.requests.len() + self.unrouted.len() > 0 {
            found.push(format!("{} requests left, {} of them not routed", self.requests.len(), self.unrouted.len()));
        }
        for replica in &self.replicas {
            let state = &replica.state;
            let held = (state.queue.len(), state.waiting.len(), state.allocated, replica.batches_in_flight);
            if held != (0, 0, 0, 0) {
                found.push(format!("replica {}: queued, waiting, in memory, in flight at the end: {held:?}", replica.id));
            }
            if state.kv.free != state.kv.total {
                found.push(format!("replica {}: {} of {} KV blocks free at the end", replica.id, state.kv.free, state.kv.total));
            }
        }
        found
    }
}
