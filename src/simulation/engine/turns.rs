//! Requests that wait for answers: a source that is told when a request leaves.
//!
//! First turns lie in order and are merged with a heap of those that an answer has set off. A request whose
//! answer never comes (it was rejected or cut off, or a user lost patience) takes with it all that wait for
//! it, and what waits for these: so no run waits for ever.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use super::arrival::Arrival;
use crate::autoscaler::Arrivals;
use crate::replica_scheduler::{Handover, ReplicaId};
use crate::simulation::metrics::{ColdTurns, Distribution, SessionMetrics};
use crate::workload::{Sessions, Workload};

/// A request that will arrive.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Coming {
    at_s: f64,
    id: u32,
}

impl Coming {
    const NEVER: Self = Self { at_s: f64::INFINITY, id: u32::MAX };

    fn is_before(&self, other: &Self) -> bool {
        self.at_s < other.at_s || (self.at_s == other.at_s && self.id < other.id)
    }
}

impl Eq for Coming {}

impl Ord for Coming {
    /// Reversed, so that the heap's maximum comes first.
    fn cmp(&self, other: &Self) -> Ordering {
        other.at_s.total_cmp(&self.at_s).then(other.id.cmp(&self.id))
    }
}

impl PartialOrd for Coming {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// How a request has left.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(in crate::simulation) enum Left {
    Answered {
        ttft_s: f64,
        within_limits: bool,
        prompt_tokens: u32,
        cached_tokens: u32,
        /// The replica that answered.
        replica_id: ReplicaId,
    },
    /// Rejected, or cut off with its replica.
    Unanswered,
}

/// Waits for nothing any more: it has arrived, or is cancelled.
const RELEASED: u32 = u32::MAX;

/// Instead of the replica of the answer before: there was none, or it served no more when the turn came.
const NOWHERE: u32 = u32::MAX;
const GONE: u32 = u32::MAX - 1;

pub(in crate::simulation) struct Turns<'a> {
    workload: &'a Workload,
    sessions: &'a Sessions,
    /// First requests whose time is known beforehand, in order, and the next of them.
    first: Vec<Coming>,
    next: usize,
    set_off: BinaryHeap<Coming>,
    /// Of each request: how many answers it still waits for.
    waits_for: Vec<u32>,
    /// Of each request: the replica of the last answer that it waited for.
    after: Vec<u32>,
    /// Of each replica that ever served, by id: whether it gets requests no more. Of a fleet's replicas,
    /// several of which may have an id, nothing is known.
    has_left: Vec<bool>,
    /// What requests may generate and how urgent they are, where that is not the same for all.
    max_new_tokens: Option<Vec<u32>>,
    priorities: Option<Vec<i32>>,
    /// Where sessions start as others end: first requests of each session, and the next session.
    in_lanes: Vec<Vec<u32>>,
    next_session: usize,
    /// What has arrived and the autoscaler has not been told of.
    arrived: Workload,
    observes: bool,
    told: bool,
    ledger: Ledger,
}

/// What is counted of sessions.
#[derive(Debug, Default)]
pub(in crate::simulation) struct Ledger {
    sessions: Vec<Account>,
    /// Time to first token of answers to first turns, and of those to all others.
    first_ttft_s: Vec<f64>,
    later_ttft_s: Vec<f64>,
    /// Prompt tokens of the latter, and those of them that were cached.
    later_prompt_tokens: u64,
    later_cached_tokens: u64,
    /// Of the latter: those whose replica was gone, and the others.
    cold: Answers,
    kept: Answers,
    num_turns_cancelled: u64,
    num_sessions_abandoned: u64,
}

/// Answers to later turns.
#[derive(Debug, Default)]
struct Answers {
    number: u64,
    ttft_s: f64,
    computed_tokens: u64,
}

impl Answers {
    fn count(&mut self, ttft_s: f64, computed_tokens: u32) {
        self.number += 1;
        self.ttft_s += ttft_s;
        self.computed_tokens += u64::from(computed_tokens);
    }

    fn mean(&self, sum: f64) -> Option<f64> {
        (self.number > 0).then(|| sum / self.number as f64)
    }
}

/// How a session fares.
#[derive(Debug, Clone, Copy)]
struct Account {
    /// Requests that have not left.
    unfinished: u32,
    /// Requests that have arrived and not left.
    open: u32,
    began_at_s: f64,
    open_since_s: f64,
    ended_at_s: f64,
    /// Time in which an answer was being waited for.
    busy_s: f64,
    /// Whether every request was answered, and within the latency limits.
    complete: bool,
    within_limits: bool,
}

impl Ledger {
    /// What a run says of its sessions, once it is over.
    pub fn sum_up(&self, has_limits: bool, caches_prefixes: bool, knows_replicas: bool) -> SessionMetrics {
        let complete = || self.sessions.iter().filter(|account| account.complete);
        let share = |part: u64, of: u64| if of > 0 { part as f64 / of as f64 } else { 0.0 };
        let (num_sessions, num_kept) =
            (self.sessions.len() as u64, complete().filter(|account| account.within_limits).count() as u64);
        let (cold, kept) = (&self.cold, &self.kept);
        let computed_tokens = cold.computed_tokens + kept.computed_tokens;
        let computed =
            |answers: &Answers| answers.mean(answers.computed_tokens as f64).filter(|_| caches_prefixes);
        let cold_turns = knows_replicas.then(|| ColdTurns {
            share: (cold.number + kept.number > 0).then(|| share(cold.number, cold.number + kept.number)),
            ttft_s: cold.mean(cold.ttft_s),
            kept_ttft_s: kept.mean(kept.ttft_s),
            computed_tokens: computed(cold),
            kept_computed_tokens: computed(kept),
            computed_share: (caches_prefixes && computed_tokens > 0)
                .then(|| share(cold.computed_tokens, computed_tokens)),
        });
        SessionMetrics {
            num_sessions,
            num_sessions_completed: complete().count() as u64,
            num_sessions_abandoned: self.num_sessions_abandoned,
            num_turns_cancelled: self.num_turns_cancelled,
            session_s: Distribution::of_values(
                complete().map(|account| account.ended_at_s - account.began_at_s),
            ),
            session_busy_s: Distribution::of_values(complete().map(|account| account.busy_s)),
            session_attainment: has_limits.then(|| share(num_kept, num_sessions)),
            first_turn_ttft_s: Distribution::of_values(self.first_ttft_s.iter().copied()),
            later_turn_ttft_s: Distribution::of_values(self.later_ttft_s.iter().copied()),
            later_turn_hit_rate: (caches_prefixes && self.later_prompt_tokens > 0)
                .then(|| share(self.later_cached_tokens, self.later_prompt_tokens)),
            cold_turns,
        }
    }
}

impl<'a> Turns<'a> {
    pub fn new(workload: &'a Workload, sessions: &'a Sessions, observes: bool) -> Self {
        let account = |&unfinished: &u32| Account {
            unfinished,
            open: 0,
            began_at_s: f64::NAN,
            open_since_s: 0.0,
            ended_at_s: 0.0,
            busy_s: 0.0,
            complete: true,
            within_limits: true,
        };
        let mut turns = Self {
            workload,
            sessions,
            first: Vec::new(),
            next: 0,
            set_off: BinaryHeap::new(),
            waits_for: sessions.waits_for.clone(),
            after: vec![NOWHERE; workload.len()],
            has_left: Vec::new(),
            max_new_tokens: workload
                .output_limits()
                .map(|mut limits| workload.decode_tokens.iter().map(|&tokens| limits.next(tokens)).collect()),
            priorities: workload.priorities().map(|draws| draws.take(workload.len()).collect()),
            in_lanes: Vec::new(),
            next_session: 0,
            arrived: Workload::default(),
            observes,
            told: false,
            ledger: Ledger { sessions: sessions.lengths.iter().map(account).collect(), ..Ledger::default() },
        };
        let first = (0..workload.len() as u32).filter(|&id| sessions.waits_for[id as usize] == 0);
        match sessions.lanes {
            None => {
                turns.first = first.map(|id| Coming { at_s: sessions.pause_s[id as usize], id }).collect()
            }
            Some(lanes) => {
                turns.in_lanes.resize(sessions.len(), Vec::new());
                first.for_each(|id| turns.in_lanes[sessions.session[id as usize] as usize].push(id));
                (0..lanes.number.min(sessions.len() as u32))
                    .for_each(|lane| turns.start_session(lanes.begins_s(lane)));
            }
        }
        turns
    }

    /// Lets the next session start, if there is one.
    fn start_session(&mut self, at_s: f64) {
        let Some(first) = self.in_lanes.get(self.next_session) else { return };
        let coming = first.iter().map(|&id| Coming { at_s: at_s + self.sessions.pause_s[id as usize], id });
        self.set_off.extend(coming);
        self.next_session += 1;
    }

    fn first(&self, ahead: usize) -> Coming {
        self.first.get(self.next + ahead).copied().unwrap_or(Coming::NEVER)
    }

    /// When the next two requests arrive.
    pub fn upcoming_s(&self) -> [f64; 2] {
        let heap = self.set_off.as_slice();
        let at = |place: usize| heap.get(place).copied().unwrap_or(Coming::NEVER);
        let (first, set_off) = (self.first(0), at(0));
        if first.is_before(&set_off) {
            [first.at_s, self.first(1).at_s.min(set_off.at_s)]
        } else {
            [set_off.at_s, first.at_s.min(at(1).at_s).min(at(2).at_s)]
        }
    }

    /// How many requests arrive at this time.
    pub fn num_at(&self, now_s: f64) -> usize {
        // In a heap, what is due now lies above what is due later.
        fn due(heap: &[Coming], place: usize, now_s: f64) -> usize {
            match heap.get(place) {
                Some(coming) if coming.at_s == now_s => {
                    1 + due(heap, 2 * place + 1, now_s) + due(heap, 2 * place + 2, now_s)
                }
                _ => 0,
            }
        }
        self.first[self.next..].iter().take_while(|coming| coming.at_s == now_s).count()
            + due(self.set_off.as_slice(), 0, now_s)
    }

    /// Takes the next request, which there must be.
    pub fn take(&mut self) -> Arrival {
        let set_off = self.set_off.peek().copied().unwrap_or(Coming::NEVER);
        let Coming { at_s, id } = if self.first(0).is_before(&set_off) {
            self.next += 1;
            self.first[self.next - 1]
        } else {
            self.set_off.pop().expect("a request is due")
        };
        let request = id as usize;
        self.waits_for[request] = RELEASED;
        if self.has_left.get(self.after[request] as usize).is_some_and(|&left| left) {
            self.after[request] = GONE;
        }
        let account = &mut self.ledger.sessions[self.sessions.session[request] as usize];
        if account.began_at_s.is_nan() {
            account.began_at_s = at_s;
        }
        if account.open == 0 {
            account.open_since_s = at_s;
        }
        account.open += 1;
        let (prefill_tokens, decode_tokens) =
            (self.workload.prefill_tokens[request], self.workload.decode_tokens[request]);
        if self.observes {
            if std::mem::take(&mut self.told) {
                self.arrived.truncate(0);
            }
            self.arrived.push(at_s, prefill_tokens, decode_tokens);
        }
        Arrival {
            id,
            arrived_at_s: at_s,
            prefill_tokens,
            decode_tokens,
            max_new_tokens: self.max_new_tokens.as_ref().map_or(decode_tokens, |most| most[request]),
            priority: self.priorities.as_ref().map_or(0, |priorities| priorities[request]),
            handover: Handover::default(),
        }
    }

    /// Arrivals the autoscaler has not been told of before.
    pub fn observe(&mut self) -> Arrivals<'_> {
        if std::mem::replace(&mut self.told, true) {
            self.arrived.truncate(0);
        }
        let Workload { arrived_at_s, prefill_tokens, decode_tokens, .. } = &self.arrived;
        Arrivals { arrived_at_s, prefill_tokens, decode_tokens }
    }

    /// Whether none is to come unless another one leaves first.
    pub fn is_over(&self) -> bool {
        self.next == self.first.len() && self.set_off.is_empty()
    }

    /// A replica gets no further requests.
    pub fn replica_leaves(&mut self, id: ReplicaId) {
        let id = id.0 as usize;
        if self.has_left.len() <= id {
            self.has_left.resize(id + 1, false);
        }
        self.has_left[id] = true;
    }

    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// A request has left, for the client at `at_s`. Returns how many others will never arrive.
    pub fn left(&mut self, id: u32, at_s: f64, how: Left) -> u64 {
        let session = self.sessions.session[id as usize] as usize;
        let account = &mut self.ledger.sessions[session];
        account.unfinished -= 1;
        account.open -= 1;
        if account.open == 0 {
            account.busy_s += at_s - account.open_since_s;
        }
        account.ended_at_s = at_s;
        let goes_on = match how {
            Left::Answered { ttft_s, within_limits, prompt_tokens, cached_tokens, .. } => {
                account.within_limits &= within_limits;
                let ledger = &mut self.ledger;
                if self.sessions.turn[id as usize] == 1 {
                    ledger.first_ttft_s.push(ttft_s);
                } else {
                    ledger.later_ttft_s.push(ttft_s);
                    ledger.later_prompt_tokens += u64::from(prompt_tokens);
                    ledger.later_cached_tokens += u64::from(cached_tokens);
                    let answers =
                        if self.after[id as usize] == GONE { &mut ledger.cold } else { &mut ledger.kept };
                    answers.count(ttft_s, prompt_tokens.saturating_sub(cached_tokens));
                }
                self.sessions.patience_s.is_none_or(|patience_s| ttft_s <= patience_s)
            }
            Left::Unanswered => {
                account.complete = false;
                false
            }
        };
        let cancelled = if goes_on {
            let replica_id =
                if let Left::Answered { replica_id, .. } = how { replica_id } else { ReplicaId::NOWHERE };
            self.set_off_by(id, replica_id, at_s);
            0
        } else {
            self.cancel_after(id)
        };
        let account = &mut self.ledger.sessions[session];
        if cancelled > 0 {
            account.unfinished -= cancelled;
            // Whoever lost patience left, whoever was rejected was sent away.
            self.ledger.num_sessions_abandoned += u64::from(account.complete && how != Left::Unanswered);
            account.complete = false;
            self.ledger.num_turns_cancelled += u64::from(cancelled);
        }
        if account.unfinished == 0 && self.sessions.lanes.is_some() {
            self.start_session(at_s);
        }
        cancelled.into()
    }

    fn set_off_by(&mut self, id: u32, replica_id: ReplicaId, at_s: f64) {
        let sessions = self.sessions;
        for &next in sessions.waiting_for(id) {
            let left = &mut self.waits_for[next as usize];
            if *left == RELEASED {
                continue; // cancelled
            }
            *left -= 1;
            if *left == 0 {
                self.after[next as usize] = replica_id.0;
                self.set_off.push(Coming { at_s: at_s + sessions.pause_s[next as usize], id: next });
            }
        }
    }

    /// Cancels all that wait for this one, and what waits for these.
    fn cancel_after(&mut self, id: u32) -> u32 {
        let sessions = self.sessions;
        let (mut without, mut cancelled) = (vec![id], 0);
        while let Some(id) = without.pop() {
            for &next in sessions.waiting_for(id) {
                if std::mem::replace(&mut self.waits_for[next as usize], RELEASED) != RELEASED {
                    cancelled += 1;
                    without.push(next);
                }
            }
        }
        cancelled
    }
}
