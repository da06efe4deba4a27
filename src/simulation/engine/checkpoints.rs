//! What a run is at a moment, as far as its future depends on it: to go on from there, and to see that two
//! runs are one from there on.
//!
//! Replicas, requests and orders are named by their places, so that runs that came to the same by different
//! ways are equal. Sums over the past are left out: whoever needs them adds up what happened between
//! checkpoints.

use super::Engine;
use super::orders::Order;
use super::scaling::fresh_replica;
use super::state::BatchPlace;
use crate::autoscaler::Autoscaler;
use crate::global_scheduler::{Load, Target};
use crate::hardware::BatchShape;
use crate::replica_scheduler::{Held, Lane, ReplicaId, Request, Slot};
use crate::simulation::decode_run::DecodeRun;
use crate::simulation::event::{Due, StageIndex};
use crate::simulation::metric::Quantity;
use crate::simulation::{BillingSettings, ColdStartSettings, RunInputs, SimulationError};

/// A run before its first instant at or after some moment.
#[derive(Debug)]
pub struct Checkpoint {
    /// All there is, times as their bits.
    words: Vec<u64>,
    /// The runs of decodes under way, in the order of their replicas.
    runs: Vec<DecodeRun>,
    /// The latest instant. What follows does not depend on it.
    now_s: f64,
}

impl PartialEq for Checkpoint {
    fn eq(&self, other: &Self) -> bool {
        self.words == other.words && self.runs == other.runs
    }
}

impl Checkpoint {
    /// Equal ones have equal digests.
    pub fn digest(&self) -> u64 {
        let mix = |digest: u64, word: u64| (digest.rotate_left(5) ^ word).wrapping_mul(0x517c_c1b7_2722_0a95);
        // Four at a time, so that few wait for a product.
        let fours = self.words.chunks_exact(4);
        let rest = fours.remainder().iter().fold(self.words.len() as u64, |digest, &word| mix(digest, word));
        fours.fold(rest, |digest, four| {
            mix(digest, four[0] ^ four[1].rotate_left(17) ^ four[2].rotate_left(31) ^ four[3].rotate_left(47))
        })
    }

    /// Memory it takes.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + size_of_val(&self.words[..])
            + self.runs.iter().map(DecodeRun::bytes).sum::<usize>()
    }
}

fn pair(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

/// Words taken one by one.
struct Words<'a>(std::slice::Iter<'a, u64>);

impl Words<'_> {
    fn next(&mut self) -> u64 {
        *self.0.next().expect("a checkpoint is whole")
    }

    fn time_s(&mut self) -> f64 {
        f64::from_bits(self.next())
    }

    fn number(&mut self) -> u32 {
        self.next() as u32
    }

    fn pair(&mut self) -> [u32; 2] {
        let word = self.next();
        [word as u32, (word >> 32) as u32]
    }

    fn slots(&mut self) -> Vec<Slot> {
        (0..self.next()).map(|_| Slot(self.number())).collect()
    }
}

fn write_request(request: &Request, words: &mut Vec<u64>) {
    words.extend([request.arrived_at_s, request.scheduled_at_s, request.first_token_at_s].map(f64::to_bits));
    words.extend([
        pair(request.id, request.restarts),
        pair(request.prefill_tokens, request.decode_tokens),
        pair(request.processed_tokens, request.blocks),
        pair(request.original_prefill_tokens, request.max_new_tokens),
        pair(request.prefill_complete.into(), request.ignore_eos.into()),
    ]);
}

fn read_request(words: &mut Words) -> Request {
    let times = [0, 1, 2].map(|_| words.time_s());
    let [id, restarts] = words.pair();
    let [prefill_tokens, decode_tokens] = words.pair();
    let [processed_tokens, blocks] = words.pair();
    let [original_prefill_tokens, max_new_tokens] = words.pair();
    let [prefill_complete, ignore_eos] = words.pair().map(|flag| flag != 0);
    Request {
        scheduled_at_s: times[1],
        first_token_at_s: times[2],
        restarts,
        processed_tokens,
        blocks,
        original_prefill_tokens,
        max_new_tokens,
        prefill_complete,
        ignore_eos,
        ..Request::new(id, times[0], prefill_tokens, decode_tokens)
    }
}

fn write_shape(shape: &BatchShape, words: &mut Vec<u64>) {
    words.extend([
        shape.total_tokens,
        pair(shape.num_prefills, shape.num_decodes),
        shape.prefill_tokens,
        shape.prefill_tokens_squared,
        shape.prefill_tokens_times_cached,
        shape.prefill_cached_tokens,
        shape.prefill_cached_tokens_squared,
        shape.prefill_cached_tokens_64,
        shape.decode_cached_tokens,
        shape.num_drafts.into(),
    ]);
}

fn read_shape(words: &mut Words) -> BatchShape {
    let total_tokens = words.next();
    let [num_prefills, num_decodes] = words.pair();
    BatchShape {
        total_tokens,
        num_prefills,
        num_decodes,
        prefill_tokens: words.next(),
        prefill_tokens_squared: words.next(),
        prefill_tokens_times_cached: words.next(),
        prefill_cached_tokens: words.next(),
        prefill_cached_tokens_squared: words.next(),
        prefill_cached_tokens_64: words.next(),
        decode_cached_tokens: words.next(),
        num_drafts: words.number(),
    }
}

// What is due, in a word: its kind, and above it whom it concerns.
const END: u64 = 0;
const TUNE: u64 = 1;
const SCALE_DOWN: u64 = 2;
const SCALE_UP: u64 = 3;
const STAGE_END: u64 = 4;
const KIND_BITS: u32 = 3;

/// Whether runs of these inputs may be resumed: whether all they are made of can be written down, and nothing
/// of it is drawn on the way.
fn resumable(inputs: &RunInputs) -> bool {
    let cluster = inputs.cluster;
    let ColdStartSettings { spread_s, measured, stalls, spares, .. } = &cluster.cold_start;
    let &BillingSettings { minimum_s, .. } = &cluster.billing;
    inputs.scheduler_settings.keeps_nothing_of_its_own()
        && cluster.pipeline_parallel == 1
        && !cluster.failures.any()
        && cluster.scale_down_grace_s.is_none()
        && cluster.client_timeout_s.is_none()
        && *spread_s == 0.0
        && measured.is_none()
        && stalls.is_empty()
        && spares.is_empty()
        && minimum_s == 0.0
}

impl Engine<'_> {
    /// Whether this run can be written down at any moment, and resumed with another policy.
    pub fn can_be_resumed(&self) -> bool {
        resumable(self.inputs)
            && self.devices.is_none()
            && self.detail.is_none()
            && !self.tells
            && !self.limits_queues
            && !self.router_reads
            && self.router.position().is_some()
            && self.router.scrape_interval_s().is_none()
            && self.feed.is_plain()
    }

    /// Goes on until the first instant at or after `until_s`; whether the run is over.
    pub fn run_until(&mut self, until_s: f64) -> Result<bool, SimulationError> {
        while !self.is_over() {
            let next_s = self.feed.next_s().min(self.work.events.next_at_s());
            if next_s >= until_s && until_s < f64::INFINITY {
                return Ok(false);
            }
            self.next_instant()?;
            self.events += 1;
            if self.events >= self.look_up_at {
                self.look_up()?;
            }
        }
        Ok(true)
    }

    /// Requests that have come and not left.
    pub fn num_under_way(&self) -> usize {
        self.work.requests.len()
    }

    /// When the latest instant was.
    pub fn now_s(&self) -> f64 {
        self.now_s
    }

    /// What the rate of cost has been since this was asked last; from now on it is taken down.
    pub fn take_bookings(&mut self) -> Vec<(f64, f64)> {
        self.bookings.replace(Vec::new()).unwrap_or_default()
    }

    /// A quantity of all requests that have been completed since this was asked last.
    pub fn take_values(&mut self, quantity: &Quantity) -> Vec<f64> {
        let samples = &mut self.work.samples;
        let values = samples.values_of(quantity).to_vec();
        samples.clear(0, &self.inputs.cluster.latency_limits);
        values
    }

    /// Hands over to another policy.
    pub fn follow(&mut self, policy: Box<dyn Autoscaler>) {
        self.autoscaler = Some(policy);
    }

    /// What the run is between two instants, the next of them not before `at_s`; None if that cannot be
    /// written down.
    pub fn checkpoint(&mut self, at_s: f64) -> Option<Checkpoint> {
        // What has been accounted for of a run of decodes depends on who has looked; now all of it is.
        for i in 0..self.existing.len() {
            if self.work.replicas[self.existing[i]].running {
                self.settle_run(self.existing[i], at_s, 0);
            }
        }
        let work = &*self.work;
        let counts = &self.counts;
        let mut words = vec![
            self.feed.position() as u64,
            self.router.position()?,
            self.totals.left,
            self.totals.queued.into(),
            self.idle_ticks,
            pair(counts.starting, counts.stopping),
            counts.overdue.into(),
            self.orders.iter().count() as u64,
            work.requests.len() as u64,
        ];
        words.extend(self.orders.iter().map(|order| order.placed_at_s.to_bits()));
        // Requests in the order in which they are found, and where they are.
        let mut numbers = vec![u32::MAX; work.requests.num_slots()];
        let (mut found, mut places) = (0, Vec::with_capacity(256));
        let mut put = |slot: Slot, words: &mut Vec<u64>| {
            let number = &mut numbers[slot.0 as usize];
            if *number == u32::MAX {
                *number = found;
                found += 1;
                write_request(&work.requests[slot], words);
            }
            u64::from(*number)
        };
        let mut put_all =
            |slots: &mut dyn ExactSizeIterator<Item = Slot>, words: &mut Vec<u64>, places: &mut Vec<u64>| {
                places.push(slots.len() as u64);
                slots.for_each(|slot| places.push(put(slot, words)));
            };
        put_all(&mut work.unrouted.iter().copied(), &mut words, &mut places);
        places.push(self.existing.len() as u64);
        let mut runs = Vec::new();
        for &lane in &self.existing {
            let replica = &work.replicas[lane];
            let state = &replica.state;
            let flags = u64::from(replica.draining)
                | u64::from(replica.running) << 1
                | u64::from(replica.batches_in_flight) << 2;
            places.extend([
                flags,
                pair(replica.load.requests, state.allocated),
                replica.load.prefill_tokens,
                pair(state.kv.free, state.decodes_in_a_row),
            ]);
            put_all(
                &mut state.queue.iter().copied().collect::<Vec<_>>().into_iter(),
                &mut words,
                &mut places,
            );
            put_all(&mut state.waiting.iter().copied(), &mut words, &mut places);
            if replica.batches_in_flight > 0 {
                let in_flight = &work.in_flight[BatchPlace::of_lane(lane)];
                put_all(&mut in_flight.batch.entries.iter().map(|entry| entry.0), &mut words, &mut places);
                places.extend(in_flight.batch.entries.iter().map(|entry| u64::from(entry.1)));
                places.push(in_flight.scheduled_at_s.to_bits());
                write_shape(&in_flight.batch.shape, &mut places);
            }
            if replica.running {
                runs.push(replica.run.clone());
            }
        }
        if found as usize != work.requests.len() {
            return None;
        }
        for (at_s, created_s, due) in work.events.in_order() {
            let what = match due {
                Due::End => END,
                Due::Tune => TUNE,
                Due::ScaleDown => SCALE_DOWN,
                Due::ScaleUp { order } => match self.orders.iter().position(|other| other.number == order) {
                    Some(place) => SCALE_UP | (place as u64) << KIND_BITS,
                    // It was cancelled, and nothing will happen.
                    None => continue,
                },
                Due::StageEnd { lane, .. } => {
                    let place = self.existing.iter().position(|&other| other == lane)?;
                    STAGE_END | (place as u64) << KIND_BITS
                }
                _ => return None,
            };
            places.extend([at_s.to_bits(), created_s.to_bits(), what]);
        }
        words.append(&mut places);
        Some(Checkpoint { words, runs, now_s: self.now_s })
    }

    /// Becomes what the run was that was written down. What has been counted so far means nothing from here
    /// on.
    pub fn resume(&mut self, from: &Checkpoint) {
        let words = &mut Words(from.words.iter());
        self.now_s = from.now_s;
        self.feed.go_to(words.next() as usize);
        let position = words.next();
        self.totals.left = words.next();
        self.totals.queued = words.number();
        self.idle_ticks = words.next();
        let [starting, stopping] = words.pair();
        self.counts.starting = starting;
        self.counts.stopping = stopping;
        self.counts.overdue = words.number();
        let (num_orders, num_requests) = (words.next(), words.next());
        self.orders.renew((0..num_orders).map(|number| Order { number, placed_at_s: words.time_s() }));
        let work = &mut *self.work;
        work.requests.clear();
        for _ in 0..num_requests {
            work.requests.insert(read_request(words));
        }
        work.unrouted.clear();
        work.unrouted.extend(words.slots());
        let num_replicas = words.number();
        while work.replicas.len() < num_replicas as usize {
            work.replicas.push(fresh_replica(ReplicaId(0), self.kv, 1));
        }
        for replica in &mut work.replicas {
            replica.alive = false;
            replica.running = false;
            replica.batches_in_flight = 0;
            replica.stages[StageIndex::FIRST].working_on = None;
            replica.state.reset();
        }
        work.free_lanes.clear();
        work.free_lanes.extend((num_replicas..work.replicas.len() as u32).rev().map(Lane));
        self.existing.clear();
        self.existing.extend((0..num_replicas).map(Lane));
        self.next_replica_id = num_replicas;
        self.counts.existing = num_replicas;
        self.counts.draining = 0;
        self.router = self
            .inputs
            .cluster
            .global_scheduler
            .settings()
            .build(self.inputs.seed, self.kv.block_size_tokens);
        let mut runs = from.runs.iter();
        for (lane, id) in (0..num_replicas).map(|number| (Lane(number), ReplicaId(number))) {
            let flags = words.next();
            let [load_requests, allocated] = words.pair();
            let load = Load { requests: load_requests, prefill_tokens: words.next() };
            let [free, decodes_in_a_row] = words.pair();
            let (queue, waiting) = (words.slots(), words.slots());
            let batches_in_flight = (flags >> 2) as u32;
            let mut entries = Vec::new();
            if batches_in_flight > 0 {
                let slots = words.slots();
                entries.extend(slots.into_iter().map(|slot| (slot, words.number())));
                let place = work.in_flight.take(lane);
                let in_flight = &mut work.in_flight[place];
                in_flight.scheduled_at_s = words.time_s();
                in_flight.batch.clear();
                in_flight.batch.shape = read_shape(words);
                in_flight.batch.entries.clone_from(&entries);
            }
            for slot in queue.iter().chain(&waiting).copied().chain(entries.iter().map(|entry| entry.0)) {
                work.requests[slot].replica_id = id;
                debug_assert!(work.requests[slot].held == Held::default());
            }
            let replica = &mut work.replicas[lane];
            replica.id = id;
            replica.alive = true;
            replica.draining = flags & 1 != 0;
            replica.running = flags & 2 != 0;
            replica.batches_in_flight = batches_in_flight;
            replica.stages[StageIndex::FIRST].working_on =
                (batches_in_flight > 0).then_some(BatchPlace::of_lane(lane));
            replica.load = load;
            replica.kv_since_s = from.now_s;
            replica.joined_at_s = from.now_s;
            replica.paid_from_s = from.now_s;
            replica.drains_from_s = from.now_s;
            replica.state.allocated = allocated;
            replica.state.kv.free = free;
            replica.state.decodes_in_a_row = decodes_in_a_row;
            queue.into_iter().for_each(|slot| replica.state.queue.push_back(slot));
            replica.state.waiting.extend(waiting);
            if replica.running {
                replica.run.clone_from(runs.next().expect("as many as replicas that run"));
            }
            self.counts.draining += u32::from(replica.draining);
            if !replica.draining {
                let target = Target { lane, id };
                self.router.add(target);
                if self.router_observes_load {
                    self.router.set_load(target, load);
                }
            }
        }
        self.router.go_to(position);
        work.events.clear(1);
        while !words.0.as_slice().is_empty() {
            let (at_s, created_s, what) = (words.time_s(), words.time_s(), words.next());
            let whom = what >> KIND_BITS;
            match what & ((1 << KIND_BITS) - 1) {
                STAGE_END => work.events.end_stage(Lane(whom as u32), StageIndex::FIRST, at_s, created_s),
                SCALE_UP => work.events.push(at_s, created_s, Due::ScaleUp { order: whom }),
                SCALE_DOWN => work.events.push(at_s, created_s, Due::ScaleDown),
                TUNE => work.events.push(at_s, created_s, Due::Tune),
                _ => work.events.push(at_s, created_s, Due::End),
            }
        }
    }
}
