//! What is counted of a fleet while it runs, and how it is summed up with what its pools have counted.

use super::FleetInputs;
use super::budget::Budget;
use super::flow::Flow;
use super::merged::{merged_detail, merged_replicas};
use crate::simulation::engine::{End, Engine, Feed, Left, Place, Workspace};
use crate::simulation::metrics::{Distribution, FleetMetrics, PoolMetrics, SessionMetrics};
use crate::simulation::record::{Hops, RequestRecord};
use crate::simulation::{Detail, LatencyLimits, RunMetrics, SimulationError};

/// Counts that grow as the run goes.
#[derive(Debug, Default)]
struct Counts {
    completed: u64,
    rejected: u64,
    refused: u64,
    cut: u64,
    cancelled: u64,
    restarts: u64,
    tokens: u64,
    prompt_tokens: u64,
    cached_tokens: u64,
    /// Answered ones that were prefilled apart.
    apart: u64,
    max_replicas: u32,
    min_replicas: u32,
    max_devices: u64,
    max_queued: u64,
    /// Of each model: requests that have left, and those that kept the latency limits.
    of_models: Vec<(u64, u64)>,
}

impl Counts {
    /// Of each model that has had requests, the share of them that kept the latency limits.
    fn attainments(&self) -> impl Iterator<Item = f64> {
        self.of_models.iter().filter(|(left, _)| *left > 0).map(|&(left, kept)| kept as f64 / left as f64)
    }

    /// That of the model that fares worst.
    fn least_attainment(&self) -> f64 {
        self.attainments().fold(1.0, f64::min)
    }

    /// Jain's index of these: 1 where all fare alike, one over their number where one has all.
    fn jain(&self) -> Option<f64> {
        let sums = self.attainments().fold([0.0; 3], |[sum, squares, number], share| {
            [sum + share, squares + share * share, number + 1.0]
        });
        let [sum, squares, number] = sums;
        (squares > 0.0 && number > 1.0).then(|| sum * sum / (number * squares))
    }
}

/// What came to a pool from others, and what its KV cache held for them, in block-seconds.
#[derive(Debug, Clone, Default)]
struct Aside {
    parked: f64,
    kept: f64,
    received_tokens: u64,
    received_bytes: f64,
    transfer_ms: Vec<f64>,
}

pub(super) struct Books<'a> {
    inputs: &'a FleetInputs<'a>,
    work: &'a mut Workspace,
    records: Option<Vec<RequestRecord>>,
    /// Requests that have left, in whatever way.
    pub left: u64,
    counts: Counts,
    aside: Vec<Aside>,
    devices: Vec<u64>,
    /// Of each pool, replicas and waiting requests as noted last.
    noted: Vec<(u32, u32)>,
}

impl<'a> Books<'a> {
    pub fn new(inputs: &'a FleetInputs<'a>, work: &'a mut Workspace, in_detail: bool) -> Self {
        let workload = inputs.workload;
        work.clear_for_fleet(
            workload.num_requests(),
            &inputs.cluster.latency_limits,
            inputs.pools[0].keeps_trail,
        );
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
        Self {
            work,
            records: in_detail.then(|| (0..workload.len()).map(record).collect()),
            left: 0,
            counts: Counts {
                min_replicas: u32::MAX,
                of_models: vec![(0, 0); inputs.groups().len()],
                ..Counts::default()
            },
            aside: vec![Aside::default(); inputs.pools.len()],
            devices: inputs.cluster.pools.iter().map(super::Pool::devices_per_replica).collect(),
            // As no pool is, so that the first note is taken.
            noted: vec![(u32::MAX, 0); inputs.pools.len()],
            inputs,
        }
    }

    /// Takes note of how many replicas there are and how many requests wait, which holds until it is told
    /// anew.
    pub fn note(&mut self, pools: &[Engine]) {
        let mut changed = false;
        for (noted, pool) in self.noted.iter_mut().zip(pools) {
            let now = pool.existing_and_queued();
            changed |= *noted != now;
            *noted = now;
        }
        if changed {
            self.count_noted();
        }
    }

    /// The same where only one pool may have changed.
    #[inline]
    pub fn note_one(&mut self, number: usize, pool: &Engine) {
        let now = pool.existing_and_queued();
        if std::mem::replace(&mut self.noted[number], now) != now {
            self.count_noted();
        }
    }

    fn count_noted(&mut self) {
        let (mut replicas, mut devices, mut queued) = (0, 0, 0);
        for (&(existing, waiting), unit) in self.noted.iter().zip(&self.devices) {
            replicas += existing;
            devices += u64::from(existing) * unit;
            queued += u64::from(waiting);
        }
        let counts = &mut self.counts;
        counts.max_replicas = counts.max_replicas.max(replicas);
        counts.min_replicas = counts.min_replicas.min(replicas);
        counts.max_devices = counts.max_devices.max(devices);
        counts.max_queued = counts.max_queued.max(queued);
    }

    fn block_s(&self, pool: usize, tokens: u32, took_s: f64) -> f64 {
        f64::from(self.inputs.pools[pool].kv_blocks().blocks_for(tokens)) * took_s
    }

    /// A transfer of so many bytes has ended, that took so long and for which room was held so long.
    pub fn note_transfer(&mut self, bytes: f64, [took_s, held_s]: [f64; 2], to: usize, tokens: u32) {
        let parked = self.block_s(to, tokens, held_s);
        let aside = &mut self.aside[to];
        aside.parked += parked;
        aside.received_tokens += u64::from(tokens);
        aside.received_bytes += bytes;
        aside.transfer_ms.push(took_s * 1e3);
    }

    /// A KV cache of so many tokens was kept for so long.
    pub fn note_kept(&mut self, pool: usize, tokens: u32, took_s: f64) {
        self.aside[pool].kept += self.block_s(pool, tokens, took_s);
    }

    /// Turns of sessions will never arrive.
    pub fn cancel(&mut self, turns: u64) {
        self.counts.cancelled += turns;
        self.left += turns;
    }

    /// Takes down a request that leaves; how its session is to take it.
    pub fn leave(
        &mut self,
        flow: &Flow,
        from: Option<(usize, Place)>,
        end: End,
        at_s: f64,
        api_s: f64,
    ) -> Left {
        let whole = &flow.whole;
        let counts = &mut self.counts;
        self.left += 1;
        counts.restarts += u64::from(whole.restarts);
        match end {
            End::Answered => {
                counts.completed += 1;
                counts.apart += u64::from(flow.apart);
                counts.tokens += u64::from(whole.total_tokens());
                counts.prompt_tokens += u64::from(whole.original_prefill_tokens);
                counts.cached_tokens += u64::from(whole.cached_tokens);
                self.work.note_answer(whole, at_s, api_s);
            }
            End::Cut => counts.cut += 1,
            End::Rejected | End::Refused => {
                counts.rejected += 1;
                counts.refused += u64::from(end == End::Refused);
            }
        }
        self.work.note_left(whole, if end == End::Answered { at_s + api_s } else { at_s });
        if let Some(records) = &mut self.records {
            let record = &mut records[whole.id as usize];
            (record.arrived_at_s, record.arrived) = (whole.arrived_at_s, true);
            if let Some((pool, place)) = from {
                record.leave(whole, api_s);
                let decoded = flow.apart && flow.decode_pool == Some(pool);
                let (first, first_place) =
                    if flow.apart { (flow.prefill_pool, flow.last_prefill) } else { (pool, Some(place)) };
                record.replica_id = first_place.map(|place| place.replica_id.0);
                let happened = |at_s: f64| (!at_s.is_nan()).then_some(at_s);
                record.hops = Some(Hops {
                    pool: first as u32,
                    decode_pool: decoded.then_some(pool as u32),
                    decode_replica_id: decoded.then_some(place.replica_id.0),
                    prefill_end_s: happened(flow.prefill_end_s),
                    transfer_start_s: happened(flow.transfer_start_s),
                    transfer_end_s: happened(flow.transfer_end_s),
                    reused_tokens: flow.reused_tokens,
                });
            }
            if end == End::Answered {
                record.completed_at_s = Some(at_s + api_s);
            }
        }
        let how = match end {
            End::Answered => Left::answered(whole, at_s, api_s, &self.inputs.cluster.latency_limits),
            _ => Left::Unanswered,
        };
        let (left, kept) = &mut self.counts.of_models[self.inputs.group_of(whole.id)];
        *left += 1;
        *kept += u64::from(matches!(how, Left::Answered { within_limits: true, .. }));
        how
    }

    /// Whether every request is accounted for.
    pub fn check(&self, num_requests: u64) -> Result<(), SimulationError> {
        let Counts { completed, rejected, cut, cancelled, .. } = self.counts;
        if completed + rejected + cut + cancelled == num_requests {
            return Ok(());
        }
        Err(SimulationError::Unbalanced(format!(
            "{completed} requests completed, {rejected} rejected, {cut} cut off and {cancelled} cancelled of {num_requests}"
        )))
    }
}

/// A run of a fleet that has ended.
pub(super) struct Closed {
    counts: Counts,
    aside: Vec<Aside>,
    devices: Vec<u64>,
    records: Option<Vec<RequestRecord>>,
    pools: Vec<RunMetrics>,
    sessions: Option<SessionMetrics>,
    budget: Option<Budget>,
    now_s: f64,
}

impl Closed {
    pub fn new(books: Books, pools: Vec<RunMetrics>, mut feed: Feed, budget: Budget, now_s: f64) -> Self {
        let Books { inputs, records, counts, aside, devices, .. } = books;
        let caches = pools.iter().any(|pool| pool.prefix_hit_rate.is_some());
        let sessions = feed
            .turns()
            .map(|turns| turns.ledger().sum_up(inputs.cluster.latency_limits.any(), caches, false));
        let budget = inputs.cluster.budget.is_some().then_some(budget);
        Self { counts, aside, devices, records, pools, sessions, budget, now_s }
    }

    /// Everything the run is judged by; records of everything into `detail`.
    pub fn sum_up(
        self,
        inputs: &FleetInputs,
        works: &[Workspace],
        details: Vec<Detail>,
        work: &mut Workspace,
        detail: Option<&mut Detail>,
    ) -> RunMetrics {
        let Self { counts, aside, devices, records, pools, sessions, budget, now_s } = self;
        if inputs.pools[0].keeps_trail {
            let of_pools: Vec<_> =
                works.iter().filter_map(|work| work.trail().map(|trail| &trail.replicas[..])).collect();
            let merged = merged_replicas(&of_pools);
            work.set_trail_replicas(of_pools.into_iter().map(<[_]>::to_vec).collect(), merged);
        }
        if let (Some(detail), Some(records)) = (detail, records) {
            *detail = merged_detail(inputs, records, details);
        }
        let ratio = |sum: f64, over: f64| if over > 0.0 { sum / over } else { 0.0 };
        let sum = |value: &dyn Fn(&RunMetrics) -> f64| pools.iter().map(value).sum::<f64>();
        let count = |value: &dyn Fn(&RunMetrics) -> u64| pools.iter().map(value).sum::<u64>();
        let most = |value: &dyn Fn(&RunMetrics) -> f64| pools.iter().map(value).fold(0.0, f64::max);
        let limits: &LatencyLimits = &inputs.cluster.latency_limits;
        let kept = limits.any().then(|| work.num_within(limits));
        let num_requests = inputs.workload.num_requests();
        let [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s] = work.distributions();
        let total_cost_usd = sum(&|pool| pool.total_cost_usd);
        let replica_hours = sum(&|pool| pool.replica_hours);
        // Of as many KV blocks as there were, over time.
        let blocks =
            |pool: usize| pools[pool].replica_hours * 3600.0 * f64::from(inputs.pools[pool].num_blocks);
        let all_blocks: f64 = (0..pools.len()).map(blocks).sum();
        let one = (pools.len() == 1).then(|| &pools[0]);
        let mean_kv_use = match one {
            Some(pool) => pool.mean_kv_use,
            None => {
                ratio((0..pools.len()).map(|pool| pools[pool].mean_kv_use * blocks(pool)).sum(), all_blocks)
            }
        };
        let has_transfers = inputs.cluster.pools.iter().any(|pool| pool.role == super::Role::Prefill);
        let device_hours: f64 =
            std::iter::zip(&pools, &devices).map(|(pool, unit)| pool.replica_hours * *unit as f64).sum();
        let fleet = FleetMetrics {
            transfers: has_transfers
                .then_some(aside.iter().map(|aside| aside.transfer_ms.len() as u64).sum()),
            transfer_gb: has_transfers
                .then_some(aside.iter().map(|aside| aside.received_bytes).sum::<f64>() * 1e-9),
            transfer_ms: Distribution::of_values(
                aside.iter().flat_map(|aside| aside.transfer_ms.iter().copied()),
            ),
            local_prefill_share: (has_transfers && counts.completed > 0)
                .then(|| 1.0 - counts.apart as f64 / counts.completed as f64),
            mean_devices: ratio(device_hours * 3600.0, now_s),
            max_devices: counts.max_devices,
            budget_full_s: budget.as_ref().map(|budget| budget.full_s),
            scale_ups_cut: budget.as_ref().map(|budget| budget.cut.iter().sum()),
            least_attainment: kept.map(|_| counts.least_attainment()),
            jain_models: kept.and_then(|_| counts.jain()),
        };
        let caches = pools.iter().any(|pool| pool.prefix_hit_rate.is_some());
        RunMetrics {
            num_requests,
            num_completed: counts.completed,
            num_rejected: counts.rejected,
            num_cut: counts.cut,
            num_refused: counts.refused,
            num_restarts: counts.restarts,
            e2e_s,
            ttft_s,
            tpot_s,
            scheduling_delay_s,
            normalized_latency_s,
            attainment: kept.map(|kept| ratio(kept as f64, num_requests as f64)),
            goodput_per_s: kept.map(|kept| ratio(kept as f64, now_s)),
            total_cost_usd,
            mean_cost_usd_per_hour: sum(&|pool| pool.mean_cost_usd_per_hour),
            cost_usd_per_million_tokens: (counts.tokens > 0)
                .then(|| total_cost_usd / (counts.tokens as f64 * 1e-6)),
            simulated_s: now_s,
            num_batches: count(&|pool| pool.num_batches),
            busy_s: sum(&|pool| pool.busy_s),
            replica_hours,
            node_hours: sum(&|pool| pool.node_hours),
            utilization: one.map_or_else(
                || ratio(sum(&|pool| pool.busy_s), replica_hours * 3600.0),
                |pool| pool.utilization,
            ),
            mean_replicas: sum(&|pool| pool.mean_replicas),
            max_replicas: counts.max_replicas,
            min_replicas: counts.min_replicas,
            scale_ups: count(&|pool| pool.scale_ups),
            scale_downs: count(&|pool| pool.scale_downs),
            starts_cancelled: count(&|pool| pool.starts_cancelled),
            reversals: count(&|pool| pool.reversals),
            replicas_lost: count(&|pool| pool.replicas_lost),
            replicas_pending_s: pools
                .iter()
                .any(|pool| pool.replicas_pending_s.is_some())
                .then(|| sum(&|pool| pool.replicas_pending_s.unwrap_or(0.0))),
            at_max_replicas_s: most(&|pool| pool.at_max_replicas_s),
            mean_queued_requests: sum(&|pool| pool.mean_queued_requests),
            max_queued_requests: one.map_or(counts.max_queued, |pool| pool.max_queued_requests),
            below_demand_s: most(&|pool| pool.below_demand_s),
            mean_kv_use,
            max_kv_use: most(&|pool| pool.max_kv_use),
            prefix_hit_rate: caches.then(|| ratio(counts.cached_tokens as f64, counts.prompt_tokens as f64)),
            sessions,
            fleet: Some(fleet),
            pools: (0..pools.len())
                .map(|pool| PoolMetrics {
                    parked_kv_use: ratio(aside[pool].parked, blocks(pool)),
                    kept_kv_use: ratio(aside[pool].kept, blocks(pool)),
                    received_tokens: aside[pool].received_tokens,
                    received_gb: aside[pool].received_bytes * 1e-9,
                    transfer_ms: Distribution::of_values(aside[pool].transfer_ms.iter().copied()),
                    scale_ups_cut: budget.as_ref().map(|budget| budget.cut[pool]),
                    starved_s: budget.as_ref().map(|budget| budget.starved_s[pool]),
                    devices_per_replica: devices[pool],
                    run: pools[pool].clone(),
                })
                .collect(),
        }
    }
}
