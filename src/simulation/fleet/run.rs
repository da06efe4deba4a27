//! The event loop of a fleet.
//!
//! At one instant, things happen in this order: KV caches that have arrived, then requests that arrive, then
//! the pools, in their order, each as it would by itself, and what they cause elsewhere, until nothing is
//! left to do; at last what they wish for is granted.

use super::accounts::{Books, Closed};
use super::budget::{Budget, Takes};
use super::flow::Flows;
use super::joint::{self, Joint};
use super::links::Links;
use super::routing::{Known, Router};
use super::settings::{Contention, KvTransferSettings, NoSettings, PdDecider, PoolRouter, Reserve, Role};
use super::{FleetInputs, Group};
use crate::autoscaler::AutoscalerSettings;
use crate::simulation::engine::{Engine, Feed, Message, Standing, Wishes, Workspace};
use crate::simulation::{Deadlock, Detail, EVENTS_BETWEEN_QUESTIONS, Parts, RunMetrics, SimulationError};

/// Instants in a row at which nobody worked or started, after which a run is given up.
const MOST_IDLE_INSTANTS: u64 = 500_000;

pub(super) struct Fleet<'a> {
    pub inputs: &'a FleetInputs<'a>,
    pub pools: Vec<Engine<'a>>,
    /// Pools by models.
    pub groups: Vec<Group>,
    pub feed: Feed<'a>,
    pub flows: Flows,
    /// Whether something decides for all pools together.
    is_managed: bool,
    pub links: Links,
    pub router: Router<'a>,
    /// What pools tell, while it is taken in.
    pub messages: Vec<Message>,
    pub budget: Budget,
    joint: Joint<'a>,
    pub transfer: KvTransferSettings,
    pub decider: PdDecider,
    pub now_s: f64,
    ends_at_s: f64,
    num_requests: u64,
    events: u64,
    look_up_at: u64,
    /// Instants in a row at which nobody has worked, and batches until then.
    idle: (u64, u64),
    pub books: Books<'a>,
}

pub(super) fn run(
    inputs: &FleetInputs,
    parts: Vec<Parts>,
    workspace: &mut Workspace,
    detail: Option<&mut Detail>,
) -> Result<RunMetrics, SimulationError> {
    let number = inputs.pools.len();
    let mut works = workspace.take_pools(number);
    let mut details: Vec<Detail> =
        if detail.is_some() { vec![Detail::default(); number] } else { Vec::new() };
    let ended = {
        let mut of_pools = details.iter_mut();
        let pool = |(i, (work, parts))| {
            let outside = inputs.outside(&inputs.cluster.pools[i]);
            Engine::pool(&inputs.pools[i], parts, work, of_pools.next(), outside)
        };
        let pools: Vec<Engine> = std::iter::zip(&mut works, parts).enumerate().map(pool).collect();
        Fleet::new(inputs, pools, workspace, detail.is_some()).run()
    };
    let ended = ended.map(|closed| closed.sum_up(inputs, &works, details, workspace, detail));
    workspace.give_back_pools(works);
    ended
}

impl<'a> Fleet<'a> {
    fn new(
        inputs: &'a FleetInputs<'a>,
        pools: Vec<Engine<'a>>,
        workspace: &'a mut Workspace,
        in_detail: bool,
    ) -> Self {
        static FIRST_WITH_ROOM: PoolRouter = PoolRouter::FirstWithRoom(NoSettings {});
        let cluster = inputs.cluster;
        let transfer = cluster.kv_transfer.clone().unwrap_or_default();
        let known: Vec<Known> = std::iter::zip(&inputs.pools, &cluster.pools)
            .map(|(inputs, pool)| Known::of(inputs, pool.role == Role::Decode))
            .collect();
        let takes: Vec<Takes> = std::iter::zip(&cluster.pools, &known)
            .map(|(pool, known)| Takes {
                node: &pool.settings().node,
                devices: pool.devices_per_replica(),
                usd_per_hour: known.replica_usd_per_hour,
            })
            .collect();
        let names = cluster.pools.iter().map(|pool| pool.name.as_str()).collect();
        let most_events = inputs.pools[0].limits.most_events;
        let links = Links::new(
            transfer.bandwidth_gb_per_s,
            transfer.overhead_ms * 1e-3,
            transfer.contention == Contention::Shared,
        );
        let joint = Joint::new(inputs.joint(), cluster.budget.as_ref(), cluster.pools.len());
        Self {
            groups: inputs.groups(),
            feed: Feed::new(inputs.workload, false),
            flows: Flows::new(inputs.workload.len()),
            is_managed: inputs.is_managed(),
            links: if inputs.is_managed() { links } else { links.unwatched() },
            messages: Vec::new(),
            router: Router::new(cluster.pool_router.as_ref().unwrap_or(&FIRST_WITH_ROOM), names, known),
            budget: Budget::new(cluster.budget.as_ref(), &takes, joint.moves_devices()),
            joint,
            decider: cluster.pd_decider.clone().unwrap_or_default(),
            transfer,
            now_s: 0.0,
            ends_at_s: inputs.workload.duration_s.unwrap_or(0.0),
            num_requests: inputs.workload.num_requests(),
            events: 0,
            look_up_at: most_events.min(EVENTS_BETWEEN_QUESTIONS),
            idle: (0, 0),
            books: Books::new(inputs, workspace, in_detail),
            pools,
            inputs,
        }
    }

    fn run(mut self) -> Result<Closed, SimulationError> {
        self.pools.iter_mut().for_each(Engine::begin);
        self.note_standing();
        while !self.is_over() {
            let (now_s, alone) = self.next();
            if now_s == f64::INFINITY {
                return Err(self.stuck());
            }
            if self.inputs.cluster.budget.is_some() {
                self.budget.pass(now_s - self.now_s);
            }
            self.now_s = now_s;
            let elsewhere = self.instant(alone)?;
            match alone {
                Some(pool) if !elsewhere && self.inputs.cluster.budget.is_none() => {
                    self.books.note_one(pool, &self.pools[pool])
                }
                _ => self.note_standing(),
            }
            self.events += 1;
            if self.events >= self.look_up_at {
                self.look_up()?;
            }
        }
        self.close()
    }

    /// When something happens next, and in which pool, if it is in one alone.
    fn next(&self) -> (f64, Option<usize>) {
        let (feed_s, links_s) = (self.feed.next_s(), self.links.next_s());
        let (mut next_s, mut alone) = (if feed_s < links_s { feed_s } else { links_s }, None);
        for (number, pool) in self.pools.iter().enumerate() {
            let pool_s = pool.next_s();
            if pool_s <= next_s {
                alone = (pool_s < next_s).then_some(number);
                next_s = pool_s;
            }
        }
        (next_s, alone)
    }

    /// Does everything there is to do now; at first in one pool `alone`, if there is nothing elsewhere.
    /// Returns whether anything may have happened elsewhere.
    fn instant(&mut self, mut alone: Option<usize>) -> Result<bool, SimulationError> {
        let (now_s, mut elsewhere) = (self.now_s, alone.is_none());
        loop {
            let alone = alone.take();
            let mut goes_on = alone.is_none() && self.take_from_outside()?;
            for pool in alone.unwrap_or(0)..self.pools.len() {
                if !goes_on && alone.is_some_and(|first| first < pool) {
                    break; // It has told nobody anything.
                }
                while self.pools[pool].next_s() <= now_s {
                    let is_last = self.is_last(pool);
                    self.pools[pool].step(is_last)?;
                    // Where nobody tells anything, nobody else has to do anything.
                    if self.pools[pool].has_told() {
                        self.hear()?;
                        goes_on = true;
                    }
                    if self.is_over() {
                        return Ok(true);
                    }
                }
            }
            if !(goes_on || self.is_managed && self.grant_wishes()?) {
                return Ok(elsewhere);
            }
            elsewhere = true;
        }
    }

    /// Takes in KV caches and requests that arrive now; whether there were any.
    fn take_from_outside(&mut self) -> Result<bool, SimulationError> {
        let mut any = false;
        while let Some(id) = self.links.take_ended(self.now_s) {
            self.transfer_ends(id);
            any = true;
        }
        if any {
            self.hear()?;
        }
        for _ in 0..self.feed.num_at(self.now_s) {
            let arrival = self.feed.take();
            self.arrive(arrival);
            any = true;
        }
        Ok(any)
    }

    /// Whether all requests that have not left are in this pool and will leave from it.
    fn is_last(&self, pool: usize) -> bool {
        let under_way = self.flows.len() as u64;
        self.books.left + under_way == self.num_requests
            && self.inputs.cluster.pools[pool].role != Role::Prefill
            && u64::from(self.pools[pool].here()) == under_way
            && (self.transfer.reserve == Reserve::Transfer
                || self.pools.iter().enumerate().all(|(other, of)| other == pool || of.here() == 0))
    }

    fn is_over(&self) -> bool {
        self.books.left == self.num_requests && self.now_s >= self.ends_at_s
    }

    fn standing(&self) -> Vec<Standing> {
        self.pools.iter().map(Engine::standing).collect()
    }

    fn note_standing(&mut self) {
        self.books.note(&self.pools);
        if self.inputs.cluster.budget.is_some() {
            let most = self.inputs.pools.iter().map(|pool| pool.cluster.max_replicas);
            self.budget.note(&self.standing(), most);
        }
    }

    /// Lets pools stop and start replicas as far as the budget goes; whether anything changed.
    fn grant_wishes(&mut self) -> Result<bool, SimulationError> {
        let wishes: Vec<Wishes> = self.pools.iter_mut().map(Engine::take_wishes).collect();
        let wished = wishes.clone();
        if self.joint.moves_devices() {
            self.joint.note(&self.standing(), &wishes);
        }
        if wishes.iter().all(Wishes::is_empty) && !self.budget.has_waiting() {
            self.budget.look(&self.standing());
            return Ok(false);
        }
        let now_s = self.now_s;
        let known: Vec<joint::Known> = std::iter::zip(&self.inputs.cluster.pools, self.router.known())
            .enumerate()
            .map(|(number, (pool, known))| joint::Known {
                pool,
                moves: !matches!(
                    self.inputs.autoscaler.of_pool(&pool.name),
                    None | Some(AutoscalerSettings::Static(_))
                ),
                unit: self.budget.unit(number),
                limit: self.budget.limit(number),
                tokens_per_s: known.tokens_per_s,
                usd_per_hour: known.replica_usd_per_hour,
                start_s: self.inputs.pools[number].scale_up_delay_s,
            })
            .collect();
        let joint::Decided { wishes, asked, refused, anew } =
            self.joint.decide(now_s, &known, &self.standing(), &self.budget.waiting(), wishes);
        for pool in 0..self.pools.len() {
            self.budget.cut[pool] += u64::from(refused[pool]);
            if anew[pool] {
                self.budget.forget(pool);
            }
        }
        for (pool, wish) in wishes.iter().enumerate().filter(|(_, wish)| wish.downs > 0) {
            self.pools[pool].grant(0, wish.downs, now_s);
        }
        self.hear()?;
        let granted = self.budget.grant(&self.standing(), &wishes, &asked);
        for (pool, (&ups, wish)) in std::iter::zip(&granted, &wishes).enumerate() {
            if ups > 0 {
                self.pools[pool].grant(ups, 0, now_s);
            }
            if wish.ups > 0 || wished[pool].ups > 0 || wished[pool].downs > 0 {
                let replaced = wish.replacements.min(ups);
                self.pools[pool].note_applied(i64::from(ups - replaced) - i64::from(wish.downs));
            }
        }
        self.hear()?;
        Ok(granted.iter().any(|&ups| ups > 0) || wishes.iter().any(|wish| wish.downs > 0))
    }

    fn unfinished(&self) -> u64 {
        self.num_requests - self.books.left
    }

    fn stuck(&self) -> SimulationError {
        let of = |(number, engine): (usize, &Engine)| match engine.deadlock() {
            Deadlock::NoReplica { min_replicas, scales, .. } => Deadlock::NoReplica {
                pool: Some(self.inputs.cluster.pools[number].name.clone()),
                min_replicas,
                scales,
                budget_refused: self.budget.has_waiting() || self.budget.cut[number] > 0,
            },
            other => other,
        };
        let mut all: Vec<Deadlock> = self.pools.iter().enumerate().map(of).collect();
        // A pool without replicas holds up what others have done.
        all.sort_by_key(|why| (*why == Deadlock::NotArrived, !matches!(why, Deadlock::NoReplica { .. })));
        let why = all.swap_remove(0);
        SimulationError::Stuck { at_s: self.now_s, unfinished: self.unfinished(), why }
    }

    /// Looks whether to go on.
    fn look_up(&mut self) -> Result<(), SimulationError> {
        let limits = &self.inputs.pools[0].limits;
        let (at_s, unfinished) = (self.now_s, self.unfinished());
        if self.events >= limits.most_events {
            let [scale_ups, scale_downs, replicas_lost] =
                self.pools.iter().map(Engine::changes).fold([0; 3], |mut sums, changes| {
                    std::iter::zip(&mut sums, changes).for_each(|(sum, more)| *sum += more);
                    sums
                });
            return Err(SimulationError::TooManyEvents {
                events: self.events,
                at_s,
                unfinished,
                scale_ups,
                scale_downs,
                replicas_lost,
            });
        }
        let bytes = self.pools.iter().map(Engine::bytes).sum::<u64>() + self.flows.bytes();
        if bytes > limits.most_bytes {
            return Err(SimulationError::TooMuchMemory {
                bytes,
                most_bytes: limits.most_bytes,
                at_s,
                unfinished,
            });
        }
        if limits.give_up.is_some_and(|give_up| give_up()) {
            return Err(SimulationError::CalledOff { at_s, unfinished });
        }
        let standing = self.standing();
        let batches: u64 = standing.iter().map(|pool| pool.batches).sum();
        let waits = standing.iter().any(|pool| pool.starting > 0)
            || self.feed.next_s() < f64::INFINITY
            || self.flows.len() == 0;
        if batches != self.idle.1 || waits {
            self.idle = (self.events, batches);
        } else if self.events - self.idle.0 > MOST_IDLE_INSTANTS {
            return Err(self.stuck());
        }
        self.look_up_at = limits.most_events.min(self.events + EVENTS_BETWEEN_QUESTIONS);
        Ok(())
    }

    fn close(self) -> Result<Closed, SimulationError> {
        let Self { pools, feed, books, budget, now_s, inputs, .. } = self;
        if inputs.pools[0].limits.check {
            books.check(inputs.workload.num_requests())?;
        }
        let metrics = pools.into_iter().map(|pool| pool.close(now_s)).collect::<Result<Vec<_>, _>>()?;
        Ok(Closed::new(books, metrics, feed, budget, now_s))
    }
}
