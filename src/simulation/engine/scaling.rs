//! Replicas come and go: decisions, starts, drains, losses.

use rand::RngExt;
use rand_distr::{Distribution as _, Exp1, StandardNormal};

use super::devices::Consequences;
use super::orders::Order;
use super::state::{Replica, Stages, Stalls, Step};
use super::{Engine, MOST_IDLE_TICKS};
use crate::autoscaler::{Decision, ForwardPass, ReplicaSignals, Snapshot};
use crate::global_scheduler::{Load, Target};
use crate::replica_scheduler::{KvBlocks, Lane, ReplicaId, ReplicaState};
use crate::simulation::decode_run::DecodeRun;
use crate::simulation::event::Due;
use crate::simulation::record::TuneRecord;
use crate::simulation::{ColdStartSettings, ScaleDownOrder, SimulationError};

/// A replica that does not exist yet.
pub(super) fn fresh_replica(id: ReplicaId, kv: KvBlocks, stages: u32) -> Replica {
    Replica {
        id,
        alive: false,
        draining: false,
        reclaimed: false,
        joined_at_s: 0.0,
        paid_from_s: 0.0,
        drains_from_s: 0.0,
        latest_pass: ForwardPass::default(),
        load: Load::default(),
        kv_since_s: 0.0,
        batches_in_flight: 0,
        running: false,
        run: DecodeRun::default(),
        state: ReplicaState::new(kv),
        stages: Stages::new(stages),
        stalls: Stalls::default(),
    }
}

impl Engine<'_> {
    /// Tells the policy what has happened and carries out what it decides.
    pub(super) fn tune(&mut self) -> Result<(), SimulationError> {
        let mut policy = self.autoscaler.take().expect("only an autoscaler tunes");
        if self.observes.arrivals {
            policy.observe_arrivals(self.feed.observe());
        }
        let observes = self.observes;
        if observes.batches || observes.batch_sums || observes.replicas || observes.passes {
            self.settle_runs();
        }
        let work = &mut *self.work;
        if self.observes.batches {
            let ended = &mut work.ended_batches;
            // Runs were settled replica by replica.
            if !ended.is_sorted_by(|a, b| a.completed_at_s <= b.completed_at_s) {
                ended.sort_by(|a, b| {
                    a.completed_at_s
                        .total_cmp(&b.completed_at_s)
                        .then(a.scheduled_at_s.total_cmp(&b.scheduled_at_s))
                });
            }
            policy.observe_batches(ended);
            ended.clear();
        }
        if self.observes.batch_sums {
            policy.observe_batch_sums(std::mem::take(&mut self.batch_sums));
        }
        if self.observes.latencies {
            policy.observe_latencies(&work.first_tokens, &work.completions);
            work.first_tokens.clear();
            work.completions.clear();
        }
        work.signals.clear();
        if observes.replicas || observes.replica_requests || observes.passes {
            let (replicas, requests) = (&work.replicas, &work.requests);
            work.signals.extend(self.existing.iter().map(|&lane| {
                let replica = &replicas[lane];
                let signals =
                    if observes.replicas { replica.signals(requests) } else { replica.request_signals() };
                ReplicaSignals { pass: observes.passes.then(|| replica.reported_pass()), ..signals }
            }));
        }
        let counts = &self.counts;
        let snapshot = Snapshot {
            serving: counts.serving(),
            draining: counts.draining,
            starting: counts.starting,
            stopping: counts.stopping,
            outstanding_requests: work.requests.len() as u32,
            unrouted_requests: work.unrouted.len() as u32,
            replicas: &work.signals,
        };
        let (decision, committed) = (policy.decide(self.now_s, &snapshot), snapshot.committed());
        if let Some(failure) = policy.failure() {
            return Err(SimulationError::Policy(failure.into()));
        }
        let cluster = self.inputs.cluster;
        let (ups, downs) = match decision {
            Decision::Hold => (0, 0),
            // A replica that is told to stop serves on until one is chosen, so it counts.
            Decision::Up(n) => {
                (n.min(cluster.max_replicas.saturating_sub(counts.serving() + counts.starting)), 0)
            }
            Decision::Down(n) => (0, n.min(committed.saturating_sub(cluster.min_replicas))),
        };
        if let Some(detail) = &mut self.detail {
            detail.tunes.push(TuneRecord {
                time_s: self.now_s,
                num_replicas: counts.existing,
                pending_scale_ups: counts.starting,
                pending_scale_downs: counts.stopping + counts.draining,
                decision: decision.signed(),
                applied: i64::from(ups) - i64::from(downs),
                outstanding_requests: self.work.requests.len() as u32,
                evidence: policy.evidence(),
            });
        }
        self.autoscaler = Some(policy);
        self.notice_idleness(ups + downs)?;
        self.work.events.push(self.now_s + self.tick_interval_s, self.now_s, Due::Tune);
        if self.outside.is_managed {
            self.wishes.ups += ups;
            self.wishes.downs += downs;
            self.wishes.decided = true;
            return Ok(());
        }
        for _ in 0..ups {
            self.start_replica();
        }
        self.stop_replicas(downs);
        if ups > 0 && cluster.billing.cold_start {
            self.record_replicas();
        }
        Ok(())
    }

    /// Gives up a run in which nothing happens, nothing is pending, and yet requests wait.
    fn notice_idleness(&mut self, changes: u32) -> Result<(), SimulationError> {
        let nothing_to_come = !self.outside.is_pool
            && self.unfinished() > 0
            && self.feed.is_over()
            && self.counts.starting + self.counts.stopping + changes == 0
            && self.existing.iter().all(|&lane| self.work.replicas[lane].batches_in_flight == 0);
        self.idle_ticks = if nothing_to_come { self.idle_ticks + 1 } else { 0 };
        if self.idle_ticks > MOST_IDLE_TICKS {
            return Err(self.stuck());
        }
        Ok(())
    }

    /// Accounts for all iterations of all runs that end before now.
    fn settle_runs(&mut self) {
        for i in 0..self.existing.len() {
            let lane = self.existing[i];
            if self.work.replicas[lane].running {
                self.settle_run(lane, self.now_s, 0);
            }
        }
    }

    /// Reports the KV use of every replica that serves to the global scheduler.
    pub(super) fn scrape(&mut self, interval_s: f64) -> Result<(), SimulationError> {
        self.settle_runs();
        for &lane in &self.existing {
            let replica = &self.work.replicas[lane];
            if !replica.draining {
                self.router.report_kv(replica.target(lane), replica.kv_used_blocks());
            }
        }
        self.work.events.push(self.now_s + interval_s, self.now_s, Due::Scrape);
        if self.autoscaler.is_none() { self.notice_idleness(0) } else { Ok(()) }
    }

    /// Begins a cold start.
    pub(super) fn start_replica(&mut self) {
        let order = self.orders.place(self.now_s);
        self.counts.starting += 1;
        if let Some(start_s) = self.take_spare() {
            self.record_replicas();
            self.begin_start(order, start_s);
            return;
        }
        let ColdStartSettings { spread_s, measured, .. } = self.inputs.cluster.cold_start;
        let mut delay_s = self.inputs.scale_up_delay_s;
        if let Some(measured) = measured {
            let share: f64 = self.cold_start_stream.random();
            delay_s += measured.quantile_s(share) - measured.median_s;
        } else if spread_s > 0.0 {
            let deviation: f64 = StandardNormal.sample(&mut self.cold_start_stream);
            delay_s = (delay_s + spread_s * deviation).max(0.0);
        }
        if let Some(devices) = &mut self.devices {
            devices.order(order, delay_s, self.now_s);
            self.settle_devices();
            self.record_replicas();
        } else {
            self.begin_start(order, delay_s);
        }
    }

    /// A replica has the devices it needs and starts.
    fn begin_start(&mut self, order: u64, delay_s: f64) {
        if delay_s == 0.0 {
            self.work.steps.push(Step::ScaleUp { order });
        } else {
            self.work.events.push(self.now_s + delay_s, self.now_s, Due::ScaleUp { order });
        }
    }

    /// Gives devices that have become free to those that wait, orders nodes for the rest, and lets go of
    /// nodes that nobody needs.
    fn settle_devices(&mut self) {
        let Some(devices) = &mut self.devices else { return };
        let Consequences { starts, nodes_ordered, emptied } = devices.settle(self.now_s);
        for (order, delay_s) in starts {
            self.begin_start(order, delay_s);
        }
        let Some(pool) = &self.inputs.cluster.node_pool else { return };
        for _ in 0..nodes_ordered {
            self.work.events.push(self.now_s + pool.provision_s, self.now_s, Due::NodeArrival);
        }
        for node in emptied {
            if pool.release_after_s > 0.0 {
                self.work.events.push(
                    self.now_s + pool.release_after_s,
                    self.now_s,
                    Due::NodeRelease { node },
                );
            } else if let Some(devices) = &mut self.devices {
                devices.release_node(node, self.now_s);
            }
        }
    }

    pub(super) fn node_arrives(&mut self) {
        if let Some(devices) = &mut self.devices {
            devices.arrive(self.now_s);
        }
        self.settle_devices();
        self.record_replicas();
    }

    pub(super) fn release_node(&mut self, node: u32) {
        if self.devices.as_mut().is_some_and(|devices| devices.release_node(node, self.now_s)) {
            self.record_replicas();
        }
    }

    pub(super) fn scale_up(&mut self, order: u64) {
        let Some(Order { number, placed_at_s }) = self.orders.take(order) else { return };
        self.counts.starting -= 1;
        self.totals.scale_ups += 1;
        self.totals.turn(1);
        let billed_start = self.inputs.cluster.billing.cold_start;
        let lane = self.add_replica(if billed_start { placed_at_s } else { self.now_s });
        if let Some(devices) = &mut self.devices {
            devices.join(number, lane);
        }
        self.record_replicas();
        if !self.work.unrouted.is_empty() {
            // The reference leaves these stranded until the next arrival.
            self.work.steps.push(Step::Route);
        }
        if self.counts.overdue > 0 {
            self.counts.overdue -= 1;
            self.work.steps.push(Step::ScaleDown);
        }
    }

    /// Cancels the latest order, if replicas that start go first and one does. Otherwise stops the one that
    /// goes first by the rule that was chosen: by default the first idle one; if all are busy, the global
    /// scheduler's choice.
    ///
    /// Where those that serve go first and too few do for one to go, the next that joins lets one go: those
    /// that start are no help yet.
    pub(super) fn scale_down(&mut self) {
        if self.inputs.cluster.scale_down_order == ScaleDownOrder::StartingFirst && self.cancel_start() {
            self.counts.stopping -= 1;
            return;
        }
        if self.counts.serving() <= self.inputs.cluster.min_replicas {
            self.counts.overdue += 1;
            return;
        }
        self.counts.stopping -= 1;
        let replicas = &self.work.replicas;
        let chosen =
            self.devices.as_ref().and_then(|devices| devices.choose(&self.existing, replicas, self.now_s));
        let first = chosen.or_else(|| {
            let idle = |&lane: &Lane| {
                let replica = &replicas[lane];
                !replica.draining && replica.is_empty()
            };
            self.existing.iter().copied().find(idle)
        });
        match first {
            Some(lane) if replicas[lane].is_empty() => {
                self.send_no_more(replicas[lane].target(lane));
                self.free_replica(lane);
            }
            Some(lane) => self.ask_to_leave(replicas[lane].target(lane)),
            None => {
                if let Some(target) = self.router.choose_drain() {
                    self.ask_to_leave(target);
                }
            }
        }
        self.totals.scale_downs += 1;
        self.totals.turn(-1);
        self.record_replicas();
    }

    /// Cancels the latest order and pays for it no further; whether there was one.
    fn cancel_start(&mut self) -> bool {
        let order = match &mut self.devices {
            None => self.orders.cancel_latest(),
            Some(devices) => devices.cancel(self.now_s).and_then(|order| self.orders.take(order)),
        };
        let Some(order) = order else { return false };
        self.counts.starting -= 1;
        self.totals.starts_cancelled += 1;
        self.settle_devices();
        if self.inputs.cluster.billing.cold_start {
            self.book_minimum(self.now_s - order.placed_at_s);
        }
        if self.inputs.cluster.billing.cold_start || self.devices.is_some() {
            self.record_replicas();
        }
        true
    }

    /// Takes a busy replica out of service, which has its time to finish what it has.
    fn ask_to_leave(&mut self, target: Target) {
        self.drain(target);
        if let Some(grace_s) = self.inputs.cluster.scale_down_grace_s {
            self.work.events.push(
                self.now_s + grace_s,
                self.now_s,
                Due::Cut { lane: target.lane, id: target.id },
            );
        }
    }

    /// A replica is to get no further requests.
    fn send_no_more(&mut self, target: Target) {
        self.router.remove(target);
        if let Some(turns) = self.feed.turns() {
            turns.replica_leaves(target.id);
        }
    }

    /// Takes a busy replica out of service; it leaves once it is empty.
    fn drain(&mut self, target: Target) {
        self.send_no_more(target);
        let replica = &mut self.work.replicas[target.lane];
        replica.draining = true;
        replica.drains_from_s = self.now_s;
        self.counts.draining += 1;
        if let Some(devices) = &mut self.devices {
            devices.stop(target.lane, self.now_s);
        }
    }

    /// Those that are there from the start, and warm; what finds no devices starts.
    pub(super) fn add_initial_replicas(&mut self) {
        let there = self
            .devices
            .as_mut()
            .map_or(self.initial_replicas, |devices| devices.prepare(self.initial_replicas));
        for _ in 0..there {
            let lane = self.add_replica(0.0);
            if let Some(devices) = &mut self.devices {
                devices.put_initial(lane);
            }
        }
        self.work.replicas.iter_mut().for_each(|replica| replica.stalls = Stalls::default());
        (there..self.initial_replicas).for_each(|_| self.start_replica());
    }

    /// Adds a replica that is paid from some time on; returns its lane.
    pub(super) fn add_replica(&mut self, paid_from_s: f64) -> Lane {
        let id = ReplicaId(self.next_replica_id);
        self.next_replica_id += 1;
        let work = &mut *self.work;
        let lane = work.free_lanes.pop().unwrap_or_else(|| {
            let vllm_v1 = work.vllm_v1.pop();
            let mut replica = fresh_replica(id, self.kv, self.inputs.cluster.pipeline_parallel);
            replica.state.vllm_v1 = vllm_v1;
            work.replicas.push(replica);
            Lane(work.replicas.len() as u32 - 1)
        });
        let replica = &mut work.replicas[lane];
        replica.id = id;
        replica.alive = true;
        replica.draining = false;
        replica.reclaimed = false;
        replica.joined_at_s = self.now_s;
        replica.paid_from_s = paid_from_s;
        replica.latest_pass = ForwardPass::default();
        replica.load = Load::default();
        replica.kv_since_s = self.now_s;
        replica.stalls = Stalls::fresh(&self.inputs.cluster.cold_start.stalls);
        replica.state.reset();
        self.existing.push(lane);
        self.counts.existing += 1;
        self.router.add(Target { lane, id });
        self.draw_fate(lane, id);
        lane
    }

    pub(super) fn free_replica(&mut self, lane: Lane) {
        self.totals.account_kv(&mut self.work.replicas[lane], self.now_s);
        self.book_replica(lane);
        let replica = &mut self.work.replicas[lane];
        debug_assert!(replica.alive);
        replica.alive = false;
        self.counts.existing -= 1;
        self.counts.draining -= u32::from(replica.draining);
        self.existing.retain(|&other| other != lane);
        self.work.free_lanes.push(lane);
        if let Some(devices) = &mut self.devices {
            devices.leave(lane, self.now_s);
            self.settle_devices();
        }
    }

    /// Draws when a new replica will be lost, if at all.
    fn draw_fate(&mut self, lane: Lane, id: ReplicaId) {
        let failures = &self.inputs.cluster.failures;
        if !failures.any() {
            return;
        }
        let mut draw = |mean_s: Option<f64>| {
            let lifetime: f64 = Exp1.sample(&mut self.failure_stream);
            mean_s.map_or(f64::INFINITY, |mean_s| mean_s * lifetime)
        };
        let (crash_s, reclaim_s) =
            (draw(failures.mean_time_to_crash_s), draw(failures.mean_time_to_reclaim_s));
        let due = if crash_s <= reclaim_s { Due::Loss { lane, id } } else { Due::Notice { lane, id } };
        self.work.events.push(self.now_s + crash_s.min(reclaim_s), self.now_s, due);
    }

    /// A replica will be taken away: it drains and its successor starts.
    pub(super) fn notice(&mut self, lane: Lane, id: ReplicaId) {
        let replica = &self.work.replicas[lane];
        if !replica.alive || replica.id != id {
            return;
        }
        self.work.events.push(
            self.now_s + self.inputs.cluster.failures.reclaim_notice_s,
            self.now_s,
            Due::Loss { lane, id },
        );
        if !replica.draining {
            let (target, idle) = (replica.target(lane), replica.is_empty());
            self.totals.replicas_lost += 1;
            if idle {
                self.send_no_more(target);
                self.free_replica(lane);
            } else {
                self.drain(target);
                self.work.replicas[lane].reclaimed = true;
            }
            self.replace_replica();
            self.record_replicas();
        }
    }

    /// Starts a replica in place of one that is lost.
    fn replace_replica(&mut self) {
        if self.outside.is_managed {
            self.wishes.replacements += 1;
        } else {
            self.start_replica();
        }
    }

    /// A replica is gone, with all it had in memory; its requests are routed anew.
    pub(super) fn lose(&mut self, lane: Lane, id: ReplicaId) {
        let replica = &self.work.replicas[lane];
        if !replica.alive || replica.id != id {
            return;
        }
        if !self.work.steps.is_empty() {
            // Not amid what else happens at this instant.
            self.work.events.push(self.now_s.next_up(), self.now_s, Due::Loss { lane, id });
            return;
        }
        self.stop_working(lane);
        if self.outside.is_pool {
            self.tell_unread(lane);
        }
        let work = &mut *self.work;
        work.replicas[lane].state.reset();
        let before = work.unrouted.len();
        work.requests.abandon(id, |slot| work.unrouted.push_back(slot));
        self.totals.queued += (work.unrouted.len() - before) as u32;
        if self.outside.awaits_kv {
            self.give_back(before);
        }
        let work = &mut *self.work;
        let requests = &work.requests;
        work.unrouted.make_contiguous().sort_by_key(|&slot| requests[slot].id);
        let Replica { draining, reclaimed, .. } = work.replicas[lane];
        self.totals.replicas_lost += u64::from(!reclaimed);
        if !draining {
            self.send_no_more(Target { lane, id });
            self.replace_replica();
        }
        self.free_replica(lane);
        self.record_replicas();
        self.work.steps.push(Step::Route);
    }

    /// What a replica works on and what waits there goes no further; what it holds is still told of in its
    /// requests.
    fn stop_working(&mut self, lane: Lane) {
        if self.work.replicas[lane].running {
            self.settle_run(lane, self.now_s, 0);
            self.materialize_run(lane);
            self.totals.note_kv(&self.work.replicas[lane].state.kv);
        }
        self.totals.account_kv(&mut self.work.replicas[lane], self.now_s);
        let work = &mut *self.work;
        let replica = &mut work.replicas[lane];
        work.events.cancel_stages(lane);
        replica.batches_in_flight = 0;
        for stage in replica.stages.iter_mut() {
            stage
                .working_on
                .take()
                .into_iter()
                .chain(stage.waiting.drain(..))
                .for_each(|index| work.in_flight.give_back(index));
        }
        self.totals.queued -= replica.state.queue.len() as u32;
    }

    /// A replica that was told to leave has had its time: what it has not finished is cut off.
    pub(super) fn cut_off(&mut self, lane: Lane, id: ReplicaId) {
        let replica = &self.work.replicas[lane];
        if !replica.alive || replica.id != id {
            return;
        }
        if !self.work.steps.is_empty() {
            // Not amid what else happens at this instant.
            self.work.events.push(self.now_s.next_up(), self.now_s, Due::Cut { lane, id });
            return;
        }
        self.stop_working(lane);
        for slot in self.work.requests.of_replica(id) {
            if !self.work.requests[slot].is_completed() {
                self.note_cut(slot, lane);
            }
            self.work.requests.release(slot);
        }
        self.work.replicas[lane].state.reset();
        self.free_replica(lane);
        self.record_replicas();
    }
}
