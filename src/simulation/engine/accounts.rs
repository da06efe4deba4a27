//! What is counted while a run goes, and how it is summed up at the end.

use super::Engine;
use super::feed::Feed;
use super::handed::End;
use super::samples::tpot_s;
use super::state::Replica;
use super::turns::Left;
use crate::replica_scheduler::{KvBlocks, Lane, Request, Slot};
use crate::simulation::metrics::RunMetrics;
use crate::simulation::record::{Detail, ReplicaRecord};
use crate::simulation::{LatencyLimits, SimulationError};

/// Sums that grow as the run goes.
#[derive(Debug, Default)]
pub(super) struct Totals {
    pub completed: u64,
    pub rejected: u64,
    pub cut: u64,
    /// Of those rejected, by a replica whose queue was full.
    pub refused: u64,
    /// Completed, rejected, cut off or cancelled.
    pub left: u64,
    /// Turns that never arrived because their sessions ended before.
    pub cancelled: u64,
    pub restarts: u64,
    pub batches: u64,
    /// Prompt and output tokens of completed requests.
    pub tokens: u64,
    /// Their prompts, and how much of them was cached.
    pub prompt_tokens: u64,
    pub cached_tokens: u64,
    pub busy_s: f64,
    pub replica_s: f64,
    pub node_s: f64,
    /// Dollars per hour times seconds.
    pub cost: f64,
    pub cost_per_hour: f64,
    /// What of both is for spares.
    pub spares_cost: f64,
    pub spares_cost_per_hour: f64,
    pub nodes: u64,
    pub booked_until_s: f64,
    pub scale_ups: u64,
    pub scale_downs: u64,
    pub starts_cancelled: u64,
    pub replicas_lost: u64,
    /// Direction of the latest scaling, and how often it turned round.
    pub direction: i8,
    pub reversals: u64,
    pub max_replicas: u32,
    pub min_replicas: u32,
    /// Requests not in memory: now, times seconds, at most.
    pub queued: u32,
    pub queued_s: f64,
    pub max_queued: u32,
    pub below_demand_s: f64,
    pub at_max_replicas_s: f64,
    /// KV blocks in use times seconds; most in use on one replica.
    pub kv_block_s: f64,
    pub max_kv_used_blocks: u32,
}

impl Totals {
    /// Counts a completed request's prompt.
    #[inline]
    pub fn count_prompt(&mut self, request: &Request) {
        self.prompt_tokens += u64::from(request.original_prefill_tokens);
        self.cached_tokens += u64::from(request.cached_tokens);
    }

    pub fn reject(&mut self) {
        self.rejected += 1;
        self.left += 1;
    }

    /// Accounts for the KV blocks a replica has held since its last change.
    #[inline(always)]
    pub fn account_kv(&mut self, replica: &mut Replica, now_s: f64) {
        if replica.kv_since_s == now_s {
            return;
        }
        let used = replica.state.kv.total - replica.state.kv.free;
        self.kv_block_s += f64::from(used) * (now_s - replica.kv_since_s);
        replica.kv_since_s = now_s;
    }

    /// Notes the KV blocks a replica holds after a change.
    #[inline(always)]
    pub fn note_kv(&mut self, kv: &KvBlocks) {
        self.max_kv_used_blocks = self.max_kv_used_blocks.max(kv.total - kv.free);
    }

    /// Counts a scaling action in direction +1 or -1.
    pub fn turn(&mut self, direction: i8) {
        self.reversals += u64::from(self.direction == -direction);
        self.direction = direction;
    }
}

/// Counts preemptions of requests that have left.
#[cold]
pub(super) fn count_late_preemptions(
    ids: &mut Vec<u32>,
    totals: &mut Totals,
    detail: &mut Option<&mut Detail>,
) {
    for id in ids.drain(..) {
        totals.restarts += 1;
        if let Some(detail) = detail {
            detail.requests[id as usize].restarts += 1;
        }
    }
}

/// Tells a source whose requests wait for each other that one has left, for the client at `at_s`.
pub(super) fn leave_session(feed: &mut Feed, totals: &mut Totals, id: u32, at_s: f64, how: Left) {
    let Some(turns) = feed.turns() else { return };
    let cancelled = turns.left(id, at_s, how);
    totals.cancelled += cancelled;
    totals.left += cancelled;
    feed.look_again();
}

impl Left {
    /// A request that has been answered in full.
    pub fn answered(request: &Request, completed_at_s: f64, api_s: f64, limits: &LatencyLimits) -> Self {
        let ttft_s = request.first_token_at_s + api_s - request.arrived_at_s;
        let e2e_s = completed_at_s + api_s - request.arrived_at_s;
        Self::Answered {
            ttft_s,
            within_limits: limits.keeps(ttft_s, tpot_s(e2e_s, ttft_s, request.output_tokens()), e2e_s),
            prompt_tokens: request.original_prefill_tokens,
            cached_tokens: request.cached_tokens,
            replica_id: request.replica_id,
        }
    }
}

impl Engine<'_> {
    /// A request is not answered in full: counts it, and tells of it.
    #[cold]
    pub(super) fn note_cut(&mut self, slot: Slot, lane: Lane) {
        let request = &self.work.requests[slot];
        self.work.trail.leave(request, self.now_s);
        self.totals.cut += 1;
        self.totals.left += 1;
        if let Some(detail) = &mut self.detail {
            detail.requests[request.id as usize].leave(request, self.api_s);
        }
        if self.tells {
            self.feed.tell_left(request, lane, End::Cut, self.now_s);
            leave_session(&mut self.feed, &mut self.totals, request.id, self.now_s, Left::Unanswered);
        }
    }

    /// A request that was rejected at the door, or by a replica whose queue is full, ends its session.
    #[cold]
    pub(super) fn turn_rejected(&mut self, id: u32, arrived_at_s: f64) {
        if let Some(detail) = &mut self.detail {
            detail.requests[id as usize].arrived_at_s = arrived_at_s;
            detail.requests[id as usize].arrived = true;
        }
        leave_session(&mut self.feed, &mut self.totals, id, self.now_s, Left::Unanswered);
    }

    /// Accounts for the time until `now_s`, in which nothing has changed.
    #[inline]
    pub(super) fn pass_time(&mut self, now_s: f64) {
        let elapsed_s = now_s - self.now_s;
        let totals = &mut self.totals;
        if elapsed_s > 0.0 {
            totals.queued_s += f64::from(totals.queued) * elapsed_s;
            totals.max_queued = totals.max_queued.max(totals.queued);
            let room = u64::from(self.counts.serving()) * u64::from(self.batch_size_cap);
            if self.work.requests.len() as u64 > room {
                totals.below_demand_s += elapsed_s;
            }
            if self.counts.serving() + self.counts.starting >= self.inputs.cluster.max_replicas {
                totals.at_max_replicas_s += elapsed_s;
            }
        }
        self.now_s = now_s;
    }

    /// Books the cost so far and goes on at the rate of the replicas there are now.
    pub(super) fn record_replicas(&mut self) {
        self.book_cost();
        let counts = &self.counts;
        let billed = self.inputs.billed_replicas(counts.existing, counts.draining, counts.starting);
        let paid_nodes = self.devices.as_ref().and_then(|devices| devices.paid_nodes());
        self.totals.nodes = paid_nodes.unwrap_or_else(|| self.inputs.nodes(billed));
        self.totals.cost_per_hour = match paid_nodes {
            None => self.inputs.cost_per_hour(billed),
            Some(nodes) => self.inputs.node_price_usd_per_hour * nodes as f64,
        };
        if !self.inputs.cluster.cold_start.spares.is_empty() {
            self.totals.spares_cost_per_hour = self.spares_cost_per_hour();
            self.totals.cost_per_hour += self.totals.spares_cost_per_hour;
        }
        self.totals.max_replicas = self.totals.max_replicas.max(counts.existing);
        self.totals.min_replicas = self.totals.min_replicas.min(counts.existing);
        if let Some(bookings) = &mut self.bookings {
            bookings.push((self.now_s, self.totals.cost_per_hour));
        }
        if self.detail.is_none() && !self.work.trail.is_kept {
            return;
        }
        let record = ReplicaRecord {
            time_s: self.now_s,
            num_replicas: counts.existing,
            num_draining: counts.draining,
            num_starting: counts.starting,
            num_pending: self.devices.as_ref().map(|devices| devices.num_waiting()),
            num_nodes: paid_nodes,
            cost_per_hour_usd: self.totals.cost_per_hour,
        };
        if self.work.trail.is_kept {
            self.work.trail.replicas.push(record.clone());
        }
        if let Some(detail) = &mut self.detail {
            detail.replicas.push(record);
        }
    }

    fn book_cost(&mut self) {
        let totals = &mut self.totals;
        let elapsed_s = self.now_s - totals.booked_until_s;
        totals.cost += totals.cost_per_hour * elapsed_s;
        totals.spares_cost += totals.spares_cost_per_hour * elapsed_s;
        totals.node_s += totals.nodes as f64 * elapsed_s;
        totals.booked_until_s = self.now_s;
    }

    /// Books the time a replica existed, and what a minimum billing time adds.
    pub(super) fn book_replica(&mut self, lane: Lane) {
        let replica = &self.work.replicas[lane];
        self.totals.replica_s += self.now_s - replica.joined_at_s;
        let unpaid_drain = replica.draining && !self.inputs.cluster.billing.drain;
        let paid_until_s = if unpaid_drain { replica.drains_from_s } else { self.now_s };
        self.book_minimum(paid_until_s - replica.paid_from_s);
    }

    /// Books what a minimum billing time adds for a replica that was paid for so long.
    pub(super) fn book_minimum(&mut self, paid_s: f64) {
        if self.inputs.cluster.node_pool.is_some() {
            // There it holds for nodes.
            return;
        }
        let short_s = (self.inputs.cluster.billing.minimum_s - paid_s).max(0.0);
        self.totals.cost += self.inputs.replica_cost_per_hour() * short_s;
    }

    /// Errors: the run kept too much; the accounts do not balance, if that is checked.
    pub(super) fn finish(mut self) -> Result<RunMetrics, SimulationError> {
        self.look_at_memory()?;
        self.book_cost();
        for i in 0..self.existing.len() {
            self.book_replica(self.existing[i]);
        }
        if self.inputs.cluster.billing.cold_start {
            let paid_s: Vec<f64> = self.orders.iter().map(|order| self.now_s - order.placed_at_s).collect();
            paid_s.into_iter().for_each(|paid_s| self.book_minimum(paid_s));
        }
        if let Some(devices) = &mut self.devices {
            devices.finish(self.now_s);
            self.totals.cost += self.inputs.node_price_usd_per_hour * devices.short_s;
        }
        if self.inputs.limits.check {
            let imbalances = self.imbalances();
            if !imbalances.is_empty() {
                return Err(SimulationError::Unbalanced(imbalances.join("; ")));
            }
        }
        if self.feed.turns().is_some()
            && let Some(detail) = &mut self.detail
        {
            detail.requests.retain(|request| request.arrived);
            detail.requests.sort_by(|a, b| {
                a.arrived_at_s.total_cmp(&b.arrived_at_s).then(a.request_id.cmp(&b.request_id))
            });
        }
        let totals = &self.totals;
        let samples = &mut self.work.samples;
        let limits = &self.inputs.cluster.latency_limits;
        let kept = limits.any().then(|| samples.num_within(limits));
        let num_requests = self.num_requests;
        let [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s] = samples.distributions();
        let ratio = |sum: f64, over: f64| if over > 0.0 { sum / over } else { 0.0 };
        let caches_prefixes =
            self.inputs.cluster.replica_scheduler.caches_prefixes() && self.work.requests.prompts().is_some();
        let sessions =
            self.feed.turns().map(|turns| turns.ledger().sum_up(kept.is_some(), caches_prefixes, true));
        let total_cost_usd = totals.cost * (1.0 / 3600.0);
        Ok(RunMetrics {
            num_requests,
            num_completed: totals.completed,
            num_rejected: totals.rejected,
            num_cut: totals.cut,
            num_refused: totals.refused,
            num_restarts: totals.restarts,
            e2e_s,
            ttft_s,
            tpot_s,
            scheduling_delay_s,
            normalized_latency_s,
            attainment: kept.map(|kept| ratio(kept as f64, num_requests as f64)),
            goodput_per_s: kept.map(|kept| ratio(kept as f64, self.now_s)),
            total_cost_usd,
            mean_cost_usd_per_hour: ratio(totals.cost, self.now_s),
            cost_usd_per_million_tokens: (totals.tokens > 0)
                .then(|| total_cost_usd / (totals.tokens as f64 * 1e-6)),
            simulated_s: self.now_s,
            num_batches: totals.batches,
            busy_s: totals.busy_s,
            replica_hours: totals.replica_s / 3600.0,
            node_hours: totals.node_s / 3600.0,
            utilization: ratio(totals.busy_s, totals.replica_s),
            mean_replicas: ratio(totals.replica_s, self.now_s),
            max_replicas: totals.max_replicas,
            min_replicas: totals.min_replicas,
            scale_ups: totals.scale_ups,
            scale_downs: totals.scale_downs,
            starts_cancelled: totals.starts_cancelled,
            reversals: totals.reversals,
            replicas_lost: totals.replicas_lost,
            replicas_pending_s: self.devices.as_ref().map(|devices| devices.waited_s),
            at_max_replicas_s: totals.at_max_replicas_s,
            mean_queued_requests: ratio(totals.queued_s, self.now_s),
            max_queued_requests: totals.max_queued.into(),
            below_demand_s: totals.below_demand_s,
            mean_kv_use: ratio(totals.kv_block_s, totals.replica_s * f64::from(self.kv.total)),
            max_kv_use: ratio(totals.max_kv_used_blocks.into(), self.kv.total.into()),
            prefix_hit_rate: caches_prefixes
                .then(|| ratio(totals.cached_tokens as f64, totals.prompt_tokens as f64)),
            sessions,
            fleet: None,
            pools: Vec::new(),
        })
    }
}
