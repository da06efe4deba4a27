//! Sessions: requests that wait for answers.
//!
//! Turns of a session come after the answer to the turn before and a pause. So when they arrive depends on
//! the run; what they are, how long they pause and what they wait for does not: a workload has all of it
//! beforehand, and every policy meets the same sessions.
//!
//! A request may wait for several others (agents that join) and several may wait for it (agents that fan
//! out). A *session* is everything that hangs together so. Its pauses count from the moment at which the
//! client has the last token it waits for.
//!
//! In the columns of a [`Workload`](super::Workload) a request that waits arrives at the earliest moment at
//! which it could: if every answer took no time. Requests are in that order, and their number in it is the
//! same in every run.

mod build;
mod copies;
mod documents;
mod draw;
mod fields;
pub(super) mod recognise;
mod said;
pub(super) mod trace;

use std::sync::Arc;

pub use self::build::{Builder, Cycle, NewRequest};
use super::PrefixRuns;

/// More turns than any session has.
pub(super) const MOST_TURNS: u32 = 100_000;

/// Which requests belong together, and what each of them waits for.
///
/// Invariants: columns are as long as the workload's; what a request waits for comes before it.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sessions {
    /// Of each request: its session, numbered in order of their first requests.
    pub session: Vec<u32>,
    /// Of each request: the number of its turn, from 1; where sessions branch, how many it waits for one
    /// after the other, plus 1.
    pub turn: Vec<u32>,
    /// Of each request: how long after the last answer it waits for it comes. Of one that waits for none:
    /// when it comes, from the start of the run, or from that of its session where there are `lanes`.
    pub pause_s: Vec<f64>,
    /// Of each request: how many answers it waits for.
    pub waits_for: Vec<u32>,
    /// Where the list of those that wait for a request starts in `waiting`; one entry more than there are
    /// requests.
    waiting_from: Vec<u32>,
    waiting: Vec<u32>,
    /// How many requests each session has.
    pub lengths: Vec<u32>,
    /// Set where sessions start as others end.
    pub lanes: Option<Lanes>,
    /// A session goes on only if the first token of each answer has come within this.
    pub patience_s: Option<f64>,
    /// Which prompts begin alike, answers included.
    pub prompts: Option<Arc<PrefixRuns>>,
}

/// So many sessions at a time: the next one starts when one has ended.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Lanes {
    pub number: u32,
    /// The lanes begin one after the other within this time.
    pub ramp_s: f64,
}

impl Lanes {
    /// When a lane begins.
    pub fn begins_s(&self, lane: u32) -> f64 {
        self.ramp_s * f64::from(lane) / f64::from(self.number)
    }
}

impl Sessions {
    /// Number of sessions.
    pub fn len(&self) -> usize {
        self.lengths.len()
    }

    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// The requests that wait for the answer to this one.
    #[inline]
    pub fn waiting_for(&self, request: u32) -> &[u32] {
        let request = request as usize;
        &self.waiting[self.waiting_from[request] as usize..self.waiting_from[request + 1] as usize]
    }

    /// The most turns a session has.
    pub fn most_turns(&self) -> u32 {
        self.turn.iter().copied().max().unwrap_or_default()
    }

    /// Whether any request waits for something that is not known beforehand.
    pub fn waits(&self) -> bool {
        !self.waiting.is_empty() || self.lanes.is_some()
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"sessions");
        for column in [&self.session, &self.turn, &self.waits_for, &self.waiting_from, &self.waiting] {
            hasher.update(&(column.len() as u64).to_le_bytes());
            column.iter().for_each(|value| {
                hasher.update(&value.to_le_bytes());
            });
        }
        for pause_s in &self.pause_s {
            hasher.update(&pause_s.to_bits().to_le_bytes());
        }
        if let Some(Lanes { number, ramp_s }) = self.lanes {
            hasher.update(b"lanes");
            hasher.update(&number.to_le_bytes());
            hasher.update(&ramp_s.to_bits().to_le_bytes());
        }
        if let Some(patience_s) = self.patience_s {
            hasher.update(b"patience");
            hasher.update(&patience_s.to_bits().to_le_bytes());
        }
        if let Some(prompts) = &self.prompts {
            prompts.hash(hasher);
        }
    }
}
