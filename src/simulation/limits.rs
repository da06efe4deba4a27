//! How long a run may go on, and whether its end is audited.

use std::fmt;

/// When to give a run up. Without limits a policy that scales up and down for ever would never end.
#[derive(Clone, Copy)]
pub struct Limits<'a> {
    /// Instants at which something happened, at most.
    pub most_events: u64,
    /// What the run may keep in memory at most, looked at every [`EVENTS_BETWEEN_QUESTIONS`] events and at
    /// the end. Counted are the requests under way, what is kept of completed ones, replicas, batches and
    /// events, as they are and not as they are allocated, so that the same run fails everywhere or nowhere.
    /// Not counted are the workload and tables, which runs share, and what a policy keeps.
    pub most_bytes: u64,
    /// Asked every [`EVENTS_BETWEEN_QUESTIONS`] events whether to give up: the caller may look at a clock,
    /// the event loop does not.
    pub give_up: Option<&'a (dyn Fn() -> bool + Sync)>,
    /// Whether to verify at the end that nothing was lost: requests, tokens, KV blocks, time, money.
    pub check: bool,
}

/// More than any sensible run takes: some twenty minutes.
pub const MOST_EVENTS: u64 = 10_000_000_000;

/// Some milliseconds.
pub const EVENTS_BETWEEN_QUESTIONS: u64 = 1 << 16;

impl Default for Limits<'_> {
    fn default() -> Self {
        Self { most_events: MOST_EVENTS, most_bytes: u64::MAX, give_up: None, check: true }
    }
}

impl fmt::Debug for Limits<'_> {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.debug_struct("Limits")
            .field("most_events", &self.most_events)
            .field("most_bytes", &self.most_bytes)
            .field("check", &self.check)
            .finish_non_exhaustive()
    }
}
