//! Putting sessions together: requests in any order become the columns of a workload.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use super::super::prefix_runs::Run;
use super::super::{Models, Told, Workload};
use super::said::Said;
use super::{Lanes, Sessions};

/// Requests of sessions as they are met, numbered in that order.
#[derive(Debug, Default)]
pub struct Builder {
    pub(super) session: Vec<u32>,
    pub(super) turn: Vec<u32>,
    pub(super) pause_s: Vec<f64>,
    pub(super) prefill_tokens: Vec<u32>,
    pub(super) decode_tokens: Vec<u32>,
    pub(super) told: Told,
    /// Where what a request waits for ends in `waits`.
    pub(super) waits_to: Vec<u32>,
    pub(super) waits: Vec<u32>,
    pub(super) said: Said,
    /// Tokens that a block of the runs has; 0 where nothing is known of prompts.
    pub block_tokens: u32,
    pub lanes: Option<Lanes>,
    pub patience_s: Option<f64>,
    pub duration_s: Option<f64>,
    /// Which model each asks for, where there are several.
    pub models: Option<Models>,
}

/// A request before it has its place.
#[derive(Debug, Clone, Copy)]
pub struct NewRequest<'a> {
    pub session: u32,
    /// From 1; 0 where it follows from what it waits for.
    pub turn: u32,
    /// Requests met before or after it, by number.
    pub waits_for: &'a [u32],
    pub pause_s: f64,
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
}

/// Requests that wait for each other.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cycle {
    /// One of them.
    pub request: u32,
}

impl Builder {
    /// Nothing met yet, of prompts whose blocks have so many tokens.
    pub fn new(block_tokens: u32, lanes: Option<Lanes>) -> Self {
        Self { block_tokens, lanes, ..Self::default() }
    }

    /// Requests met.
    pub fn len(&self) -> usize {
        self.session.len()
    }

    pub fn is_empty(&self) -> bool {
        self.session.is_empty()
    }

    /// Adds a request, whose prompt and answer consist of those of `after`, a request met before, and `more`
    /// runs.
    pub fn push(&mut self, request: NewRequest, after: Option<u32>, more: &[Run]) {
        self.session.push(request.session);
        self.turn.push(request.turn);
        self.pause_s.push(request.pause_s);
        self.prefill_tokens.push(request.prefill_tokens);
        self.decode_tokens.push(request.decode_tokens);
        self.waits.extend_from_slice(request.waits_for);
        self.waits_to.push(self.waits.len() as u32);
        self.said.push(after, more);
    }

    /// What else is told of the latest request.
    pub(in crate::workload) fn tell(&mut self, max_new_tokens: Option<u32>, priority: Option<i32>) {
        self.told.push(&self.decode_tokens, max_new_tokens, priority);
    }

    /// When a request comes that waits for none.
    pub fn pause_s(&self, request: u32) -> f64 {
        self.pause_s[request as usize]
    }

    fn waits_of(&self, request: usize) -> &[u32] {
        let from = if request == 0 { 0 } else { self.waits_to[request - 1] };
        &self.waits[from as usize..self.waits_to[request] as usize]
    }

    /// How many blocks the prompt and the answer of a request have.
    pub(in crate::workload) fn blocks_of(&self, request: u32) -> u32 {
        self.said.of(request as usize).last().map_or(0, |run| run.end)
    }

    /// The workload of these requests, in order of the earliest moment at which each can arrive.
    ///
    /// Errors: requests wait for each other.
    pub fn finish(mut self) -> Result<Workload, Cycle> {
        let mut earliest_s = self.earliest_in_session()?;
        if let Some(lanes) = self.lanes {
            self.start_in_lanes(lanes, &mut earliest_s);
        }
        let mut order: Vec<u32> = (0..self.len() as u32).collect();
        order.sort_by(|&a, &b| {
            let key = |request: u32| (self.session[request as usize], self.turn[request as usize], request);
            earliest_s[a as usize].total_cmp(&earliest_s[b as usize]).then_with(|| key(a).cmp(&key(b)))
        });
        let mut place = vec![0; self.len()];
        for (at, &request) in (0..).zip(&order) {
            place[request as usize] = at;
        }
        Ok(self.workload(&order, &place, &earliest_s))
    }

    /// When each request can arrive at the earliest; fills in turns that follow.
    fn earliest_in_session(&mut self) -> Result<Vec<f64>, Cycle> {
        let len = self.len();
        let (from, waiting) = self.waiting(|request| request);
        let mut left: Vec<u32> = (0..len).map(|request| self.waits_of(request).len() as u32).collect();
        let mut earliest_s = vec![0.0_f64; len];
        let mut depth = vec![0_u32; len];
        let mut ready: Vec<u32> =
            (0..len as u32).rev().filter(|&request| left[request as usize] == 0).collect();
        let mut done = 0;
        while let Some(request) = ready.pop() {
            let at = request as usize;
            done += 1;
            earliest_s[at] += self.pause_s[at];
            if self.turn[at] == 0 {
                self.turn[at] = depth[at] + 1;
            }
            for &next in &waiting[from[at] as usize..from[at + 1] as usize] {
                let next_at = next as usize;
                earliest_s[next_at] = earliest_s[next_at].max(earliest_s[at]);
                depth[next_at] = depth[next_at].max(depth[at] + 1);
                left[next_at] -= 1;
                if left[next_at] == 0 {
                    ready.push(next);
                }
            }
        }
        if done < len {
            // What waits for a cycle is no part of it: going back from any that is left ends up in one.
            let mut at = left.iter().position(|&left| left > 0).unwrap_or_default();
            for _ in 0..len {
                at = self
                    .waits_of(at)
                    .iter()
                    .copied()
                    .find(|&before| left[before as usize] > 0)
                    .unwrap_or_default() as usize;
            }
            return Err(Cycle { request: at as u32 });
        }
        Ok(earliest_s)
    }

    /// Of each request, by the numbers that `number` gives them, those that wait for it: where its list
    /// starts, and the lists.
    fn waiting(&self, number: impl Fn(u32) -> u32) -> (Vec<u32>, Vec<u32>) {
        let len = self.len();
        let mut from = vec![0_u32; len + 1];
        for &before in &self.waits {
            from[number(before) as usize + 1] += 1;
        }
        for at in 0..len {
            from[at + 1] += from[at];
        }
        let (mut next, mut waiting) = (from.clone(), vec![0; self.waits.len()]);
        for request in 0..len {
            for &before in self.waits_of(request) {
                let slot = &mut next[number(before) as usize];
                waiting[*slot as usize] = number(request as u32);
                *slot += 1;
            }
        }
        for at in 0..len {
            waiting[from[at] as usize..from[at + 1] as usize].sort_unstable();
        }
        (from, waiting)
    }

    /// Adds to times within sessions when the sessions start, if all answers take no time.
    fn start_in_lanes(&self, lanes: Lanes, earliest_s: &mut [f64]) {
        let sessions = self.session.iter().max().map_or(0, |&most| most as usize + 1);
        let mut lasts_s = vec![0.0_f64; sessions];
        for (&session, &at_s) in self.session.iter().zip(&*earliest_s) {
            lasts_s[session as usize] = lasts_s[session as usize].max(at_s);
        }
        // Times of at least 0 order as their bits do.
        let used = lanes.number.min(sessions as u32);
        let mut free: BinaryHeap<Reverse<u64>> =
            (0..used).map(|lane| Reverse(lanes.begins_s(lane).to_bits())).collect();
        let mut starts_s = Vec::with_capacity(sessions);
        for lasts_s in lasts_s {
            let Some(Reverse(at)) = free.pop() else { break };
            let starts = f64::from_bits(at);
            starts_s.push(starts);
            free.push(Reverse((starts + lasts_s).to_bits()));
        }
        for (&session, at_s) in self.session.iter().zip(earliest_s) {
            *at_s += starts_s[session as usize];
        }
    }

    fn workload(mut self, order: &[u32], place: &[u32], earliest_s: &[f64]) -> Workload {
        let column = |of: &dyn Fn(usize) -> u32| {
            order.iter().map(|&request| of(request as usize)).collect::<Vec<u32>>()
        };
        // Sessions are numbered in order of their first requests.
        let mut numbers = vec![u32::MAX; self.session.iter().max().map_or(0, |&most| most as usize + 1)];
        let (mut session, mut lengths) = (Vec::with_capacity(order.len()), Vec::<u32>::new());
        for &request in order {
            let number = &mut numbers[self.session[request as usize] as usize];
            if *number == u32::MAX {
                *number = lengths.len() as u32;
                lengths.push(0);
            }
            lengths[*number as usize] += 1;
            session.push(*number);
        }
        let (waiting_from, waiting) = self.waiting(|request| place[request as usize]);
        let prompts = (self.block_tokens > 0 && self.said.has_anything_twice())
            .then(|| Arc::new(std::mem::take(&mut self.said).into_prompts(self.block_tokens, order)));
        let sessions = Sessions {
            session,
            turn: column(&|request| self.turn[request]),
            pause_s: order.iter().map(|&request| self.pause_s[request as usize]).collect(),
            waits_for: column(&|request| self.waits_of(request).len() as u32),
            waiting_from,
            waiting,
            lengths,
            lanes: self.lanes,
            patience_s: self.patience_s,
            prompts,
        };
        Workload {
            arrived_at_s: order.iter().map(|&request| earliest_s[request as usize]).collect(),
            prefill_tokens: column(&|request| self.prefill_tokens[request]),
            decode_tokens: column(&|request| self.decode_tokens[request]),
            duration_s: self.duration_s,
            told: self.told.reordered(order),
            sessions: Some(Box::new(sessions)),
            models: self.models.map(|models| Box::new(models.reordered(order))),
            ..Workload::default()
        }
    }
}
