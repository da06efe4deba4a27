//! What is counted while a run goes, and how it is summed up at the end.

use super::Engine;
use super::feed::Feed;
use super::outside::End;
use super::state::Replica;
use super::turns::Left;
use crate::replica_scheduler::{KvBlocks, Request};
use crate::simulation::metric::{QUANTITIES, Quantity};
use crate::simulation::metrics::{Buckets, Distribution, Histogram, RunMetrics, Sample};
use crate::simulation::record::{Detail, ReplicaRecord};
use crate::simulation::{LatencyLimits, SimulationError};
use crate::workload::MOST_KEPT;

/// What is kept of completed requests until percentiles are taken: a column a quantity, in order of completion; of very many requests
/// only histograms.
#[derive(Debug, Default)]
pub(super) struct Samples {
    e2e_s: Sample,
    scheduling_delay_s: Sample,
    /// Kept from the first request on that has more than one output token: of one with a single token, the first is the last.
    ttft_s: Sample,
    output_tokens: Vec<u32>,
    /// Requests with more than one output token.
    num_decoding: usize,
    scratch: Sample,
    buckets: Buckets,
    /// Set where columns would be too large.
    coarse: Option<Box<Coarse>>,
}

/// Histograms in the order of [`Samples::distributions`], and the requests that kept the limits.
#[derive(Debug)]
struct Coarse {
    histograms: [Histogram; 5],
    limits: LatencyLimits,
    num_within: usize,
}

/// Time per output token after the first, of a request with more than one.
fn tpot_s(e2e_s: f64, ttft_s: f64, output_tokens: u32) -> Option<f64> {
    (output_tokens > 1).then(|| (e2e_s - ttft_s) / f64::from(output_tokens - 1))
}

impl Coarse {
    fn add(&mut self, e2e_s: f64, ttft_s: f64, scheduling_delay_s: f64, output_tokens: u32) {
        let tpot_s = tpot_s(e2e_s, ttft_s, output_tokens);
        let values = [Some(e2e_s), Some(ttft_s), tpot_s, Some(scheduling_delay_s), Some(e2e_s / f64::from(output_tokens))];
        for (histogram, value) in self.histograms.iter_mut().zip(values) {
            value.into_iter().for_each(|value| histogram.push(value));
        }
        self.num_within += usize::from(self.limits.keeps(ttft_s, tpot_s, e2e_s));
    }
}

impl Samples {
    /// Forgets everything and makes room for this many requests.
    pub fn clear(&mut self, num_requests: u64, limits: &LatencyLimits) {
        let coarse = num_requests > MOST_KEPT;
        let room = if coarse { 0 } else { num_requests as usize };
        for column in [&mut self.e2e_s, &mut self.ttft_s, &mut self.scheduling_delay_s] {
            column.clear(room);
        }
        self.output_tokens.clear();
        self.output_tokens.reserve_exact(room);
        self.num_decoding = 0;
        self.coarse = coarse.then(|| Box::new(Coarse { histograms: Default::default(), limits: *limits, num_within: 0 }));
    }

    pub fn bytes(&self) -> usize {
        [&self.e2e_s, &self.scheduling_delay_s, &self.ttft_s].map(|column| size_of_val(column.values())).iter().sum::<usize>()
            + size_of_val(&self.output_tokens[..])
    }

    #[inline]
    pub fn add(&mut self, request: &Request, completed_at_s: f64, api_s: f64) {
        let output_tokens = request.output_tokens();
        let e2e_s = completed_at_s + api_s - request.arrived_at_s;
        let ttft_s = request.first_token_at_s + api_s - request.arrived_at_s;
        let scheduling_delay_s = request.scheduled_at_s - request.arrived_at_s;
        if let Some(coarse) = &mut self.coarse {
            coarse.add(e2e_s, ttft_s, scheduling_delay_s, output_tokens);
            return;
        }
        if self.num_decoding == 0 && output_tokens > 1 {
            self.tell_apart();
        }
        if self.num_decoding > 0 || output_tokens > 1 {
            self.num_decoding += usize::from(output_tokens > 1);
            self.ttft_s.push(ttft_s);
            self.output_tokens.push(output_tokens);
        }
        self.e2e_s.push(e2e_s);
        self.scheduling_delay_s.push(scheduling_delay_s);
    }

    /// Gives TTFT and output tokens columns of their own, for the first request with more than one.
    #[cold]
    fn tell_apart(&mut self) {
        self.ttft_s.clone_from(&self.e2e_s);
        self.output_tokens.resize(self.e2e_s.values().len(), 1);
    }

    /// End-to-end latency, TTFT and output tokens of each request.
    fn latencies(&self) -> impl Iterator<Item = (f64, f64, u32)> {
        let ttft_s = if self.num_decoding == 0 { &self.e2e_s } else { &self.ttft_s };
        let output_tokens = self.output_tokens.iter().copied().chain(std::iter::repeat(1));
        self.e2e_s.values().iter().zip(ttft_s.values()).zip(output_tokens).map(|((&e2e_s, &ttft_s), tokens)| (e2e_s, ttft_s, tokens))
    }

    /// How many requests kept the limits.
    pub fn num_within(&self, limits: &LatencyLimits) -> usize {
        match &self.coarse {
            Some(coarse) => coarse.num_within,
            None => self.latencies().filter(|&(e2e_s, ttft_s, tokens)| limits.keeps(ttft_s, tpot_s(e2e_s, ttft_s, tokens), e2e_s)).count(),
        }
    }

    /// One of [`QUANTITIES`] of every request that has it.
    pub fn values_of(&mut self, quantity: &Quantity) -> &[f64] {
        let place = QUANTITIES.iter().position(|other| other.name == quantity.name);
        let decoding = self.num_decoding > 0;
        match place.expect("a quantity of the list") {
            0 => self.e2e_s.values(),
            1 => {
                if decoding {
                    self.ttft_s.values()
                } else {
                    self.e2e_s.values()
                }
            }
            3 => self.scheduling_delay_s.values(),
            4 if !decoding => self.e2e_s.values(),
            place => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear(self.e2e_s.values().len());
                match place {
                    2 => scratch.extend(self.latencies().filter_map(|(e2e_s, ttft_s, tokens)| tpot_s(e2e_s, ttft_s, tokens))),
                    _ => scratch.extend(self.latencies().map(|(e2e_s, _, tokens)| e2e_s / f64::from(tokens))),
                }
                self.scratch = scratch;
                self.scratch.values()
            }
        }
    }

    /// The distributions in the order of [`RunMetrics`]: end to end, TTFT, TPOT, scheduling delay, normalized latency.
    pub fn distributions(&mut self) -> [Option<Distribution>; 5] {
        if let Some(coarse) = &self.coarse {
            return coarse.histograms.each_ref().map(Histogram::distribution);
        }
        let e2e_s = Distribution::of(&self.e2e_s, &mut self.buckets);
        let scheduling_delay_s = Distribution::of(&self.scheduling_delay_s, &mut self.buckets);
        if self.num_decoding == 0 {
            // With one output token each, the first token is the last and the latency per token is that of the request.
            return [e2e_s, e2e_s, None, scheduling_delay_s, e2e_s];
        }
        let ttft_s = Distribution::of(&self.ttft_s, &mut self.buckets);
        let mut scratch = std::mem::take(&mut self.scratch);
        let count = self.e2e_s.values().len();
        scratch.clear(count);
        scratch.extend(self.latencies().filter_map(|(e2e_s, ttft_s, tokens)| tpot_s(e2e_s, ttft_s, tokens)));
        let tpot_s = Distribution::of(&scratch, &mut self.buckets);
        scratch.clear(count);
        scratch.extend(self.latencies().map(|(e2e_s, _, tokens)| e2e_s / f64::from(tokens)));
        let normalized_latency_s = Distribution::of(&scratch, &mut self.buckets);
        self.scratch = scratch;
        [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s]
    }
}

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

    /// Counts a request that is not answered in full, and tells of it.
    #[cold]
    #[expect(clippy::too_many_arguments, reason = "parts of an engine whose workspace is lent out")]
    pub fn cut_off(
        &mut self,
        request: &Request,
        lane: u32,
        now_s: f64,
        api_s: f64,
        feed: &mut Feed,
        tells: bool,
        detail: &mut Option<&mut Detail>,
    ) {
        self.cut += 1;
        self.left += 1;
        if let Some(detail) = detail {
            detail.requests[request.id as usize].leave(request, api_s);
        }
        if tells {
            feed.tell_left(request, lane, End::Cut, now_s);
            leave_session(feed, self, request.id, now_s, Left::Unanswered);
        }
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
pub(super) fn count_late_preemptions(ids: &mut Vec<u32>, totals: &mut Totals, detail: &mut Option<&mut Detail>) {
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
    pub(super) fn book_replica(&mut self, lane: u32) {
        let replica = &self.work.replicas[lane as usize];
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
            detail.requests.sort_by(|a, b| a.arrived_at_s.total_cmp(&b.arrived_at_s).then(a.request_id.cmp(&b.request_id)));
        }
        let totals = &self.totals;
        let samples = &mut self.work.samples;
        let limits = &self.inputs.cluster.latency_limits;
        let kept = limits.any().then(|| samples.num_within(limits));
        let num_requests = self.num_requests;
        let [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s] = samples.distributions();
        let ratio = |sum: f64, over: f64| if over > 0.0 { sum / over } else { 0.0 };
        let caches_prefixes = self.inputs.cluster.replica_scheduler.caches_prefixes() && self.work.requests.prompts().is_some();
        let sessions = self.feed.turns().map(|turns| turns.ledger().sum_up(kept.is_some(), caches_prefixes, true));
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
            cost_usd_per_million_tokens: (totals.tokens > 0).then(|| total_cost_usd / (totals.tokens as f64 * 1e-6)),
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
            prefix_hit_rate: caches_prefixes.then(|| ratio(totals.cached_tokens as f64, totals.prompt_tokens as f64)),
            sessions,
            fleet: None,
            pools: Vec::new(),
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin keeps every column from the start. Requests with one output token come before, among and after others.
        #[test]
        fn columns_told_apart_late_are_those_of_the_start(
            requests in prop::collection::vec((0_u32..100, 0_u32..100, prop_oneof![3 => Just(1_u32), 1 => 2_u32..5]), 1..60),
        ) {
            let (mut samples, limits) = (Samples::default(), LatencyLimits { ttft_s: Some(6.0), ..LatencyLimits::default() });
            let mut columns = [const { Vec::new() }; 4];
            let mut num_within = 0;
            samples.clear(requests.len() as u64, &limits);
            for (waits, decodes, output_tokens) in requests {
                let mut request = Request::new(0, 1.0, 10, output_tokens);
                request.scheduled_at_s = 1.0 + f64::from(waits) * 0.0625;
                request.first_token_at_s = request.scheduled_at_s + 0.5;
                let completed_at_s = request.first_token_at_s + f64::from((output_tokens - 1) * decodes) * 0.0625;
                samples.add(&request, completed_at_s, 0.25);
                let (e2e_s, ttft_s) = (completed_at_s - 0.75, request.first_token_at_s - 0.75);
                num_within += usize::from(ttft_s <= 6.0);
                columns[0].push(e2e_s);
                columns[1].push(ttft_s);
                columns[2].extend((output_tokens > 1).then(|| (e2e_s - ttft_s) / f64::from(output_tokens - 1)));
                columns[3].push(e2e_s / f64::from(output_tokens));
            }
            let [e2e, ttft, tpot, normalized] = columns.map(|column| {
                let mut sample = Sample::default();
                sample.extend(column);
                Distribution::of(&sample, &mut Buckets::default())
            });
            let found = samples.distributions();
            prop_assert_eq!([found[0], found[1], found[2], found[4]], [e2e, ttft, tpot, normalized]);
            prop_assert_eq!(samples.num_within(&limits), num_within);
        }
    }
}
