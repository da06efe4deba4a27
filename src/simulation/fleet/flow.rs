//! A request on its way through a fleet.

use crate::replica_scheduler::{Handover, Request};
use crate::simulation::engine::{Arrival, Place};

/// Where a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// At a pool of role `both` or `prefill`, or at one of role `decode` that serves all of it.
    First,
    /// Its prompt is not computed before a decode replica has room for it; waits there.
    Asks,
    /// At a prefill pool, with room for it on a decode replica.
    Reserved,
    /// Prefilled, its KV cache kept there; waits at a decode pool for room.
    Waits,
    /// Its KV cache is on its way.
    Moves,
    /// At a decode pool, with its KV cache.
    Decodes,
}

/// A request between arrival and its last token.
#[derive(Debug, Clone)]
pub struct Flow {
    /// The request as its client sees it.
    pub whole: Request,
    pub stage: Stage,
    /// Whether it is prefilled apart from where it decodes.
    pub apart: bool,
    /// What is left of it: tokens to prefill next, and to decode after that.
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
    /// The pool it was prefilled in, or is, with its place there: where its KV cache is kept.
    pub prefill_pool: usize,
    pub kept_at: Option<Place>,
    /// Where it was prefilled last.
    pub last_prefill: Option<Place>,
    pub decode_pool: Option<usize>,
    pub place: Option<Place>,
    pub prefill_end_s: f64,
    /// When a decode replica had room for it.
    pub room_s: f64,
    pub transfer_start_s: f64,
    pub transfer_end_s: f64,
    /// Tokens whose keys and values were sent last, and their bytes.
    pub sent: (u32, f64),
    /// Tokens of its prompt that the decode replica had already.
    pub reused_tokens: u32,
}

impl Flow {
    pub fn new(arrival: &Arrival, ignore_eos: bool) -> Self {
        let &Arrival { id, arrived_at_s, prefill_tokens, decode_tokens, max_new_tokens, priority, .. } =
            arrival;
        let whole = Request {
            max_new_tokens,
            priority,
            ignore_eos,
            ..Request::new(id, arrived_at_s, prefill_tokens, decode_tokens)
        };
        Self {
            whole,
            stage: Stage::First,
            apart: false,
            prefill_tokens,
            decode_tokens,
            prefill_pool: 0,
            kept_at: None,
            last_prefill: None,
            decode_pool: None,
            place: None,
            prefill_end_s: f64::NAN,
            room_s: f64::NAN,
            transfer_start_s: f64::NAN,
            transfer_end_s: f64::NAN,
            sent: (0, 0.0),
            reused_tokens: 0,
        }
    }

    /// The request as its next pool sees it, from now on.
    pub fn next(&self, now_s: f64, decode_tokens: u32, handover: Handover) -> Arrival {
        let done = self.whole.decode_tokens - self.decode_tokens;
        Arrival {
            id: self.whole.id,
            arrived_at_s: now_s,
            prefill_tokens: self.prefill_tokens,
            decode_tokens,
            max_new_tokens: if handover.leaves {
                1
            } else {
                (self.whole.max_new_tokens - done).max(decode_tokens)
            },
            priority: self.whole.priority,
            handover,
        }
    }

    /// Takes down what a pool did of it that it has left.
    pub fn note(&mut self, request: &Request) {
        let whole = &mut self.whole;
        if whole.scheduled_at_s.is_nan() {
            whole.scheduled_at_s = request.scheduled_at_s;
            whole.cached_tokens = request.cached_tokens;
        }
        whole.restarts += request.restarts;
    }

    /// What of it is left after it has lost what it had in memory.
    pub fn start_over(&mut self, request: &Request) {
        self.note(request);
        if !request.handover.leaves {
            (self.prefill_tokens, self.decode_tokens) = (request.prefill_tokens, request.decode_tokens);
        }
        if self.whole.first_token_at_s.is_nan() {
            self.whole.first_token_at_s = request.first_token_at_s;
        }
        self.place = None;
    }
}

/// Flows by the numbers of their requests; few of many are under way at once.
#[derive(Debug, Default)]
pub struct Flows {
    live: Vec<Flow>,
    free: Vec<u32>,
    /// Of each request, where it is.
    at: Vec<u32>,
}

const NOWHERE: u32 = u32::MAX;

impl Flows {
    pub fn new(num_requests: usize) -> Self {
        Self { at: vec![NOWHERE; num_requests], ..Self::default() }
    }

    pub fn insert(&mut self, flow: Flow) {
        let id = flow.whole.id as usize;
        let place = match self.free.pop() {
            Some(place) => {
                self.live[place as usize] = flow;
                place
            }
            None => {
                self.live.push(flow);
                self.live.len() as u32 - 1
            }
        };
        self.at[id] = place;
    }

    pub fn get(&mut self, id: u32) -> &mut Flow {
        &mut self.live[self.at[id as usize] as usize]
    }

    /// Forgets a request that has left.
    pub fn remove(&mut self, id: u32) {
        let place = std::mem::replace(&mut self.at[id as usize], NOWHERE);
        self.free.push(place);
    }

    /// Requests under way.
    pub fn len(&self) -> usize {
        self.live.len() - self.free.len()
    }

    pub fn bytes(&self) -> u64 {
        (size_of_val(&self.live[..]) + size_of_val(&self.at[..])) as u64
    }
}
