//! Requests that hold blocks and run no more, or not yet.

use std::cmp::Reverse;

use super::super::{Held, Request, Reserved, Slot};

/// Tokens of a request whose keys and values are in memory.
pub(super) fn computed_tokens(request: &Request) -> u32 {
    request.processed_tokens - u32::from(request.prefill_complete)
}

/// Where a request stands: whoever is less comes first. Priorities are a workload's, of which higher ones
/// come first; vLLM's own are the other way round.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub(super) struct Rank(Reverse<i32>, f64, u32);

impl Rank {
    pub fn of(request: &Request) -> Self {
        Self(Reverse(request.priority), request.arrived_at_s, request.id)
    }
}

/// What a finished request held.
#[derive(Debug, Clone, Copy)]
pub(super) struct Leaving {
    pub(super) id: u32,
    pub(super) rank: Rank,
    pub(super) prompt_tokens: u32,
    pub(super) blocks: u32,
    pub(super) held: Held,
    /// Tokens it computed, and those that had been before its last step.
    pub(super) computed_tokens: u32,
    pub(super) computed_before: u32,
    /// Drafts of its last step that were not accepted; whether it ended by some that were, so that a step
    /// scheduled ahead goes on with it.
    pub(super) rejected: u32,
    pub(super) goes_on: bool,
}

impl Leaving {
    pub(super) fn of(request: &Request) -> Self {
        let computed_tokens = computed_tokens(request);
        let accepted = u32::from(request.drafts.accepted);
        let computed_before = request.prefill_tokens.max(computed_tokens - 1 - accepted);
        Self {
            id: request.id,
            rank: Rank::of(request),
            prompt_tokens: request.original_prefill_tokens,
            blocks: request.blocks,
            held: request.held,
            computed_tokens,
            computed_before,
            rejected: request.drafts.rejected.into(),
            goes_on: accepted > 0,
        }
    }

    /// One that computed nothing.
    pub(super) fn of_parked(request: &Request) -> Self {
        Self { computed_tokens: 0, computed_before: 0, ..Self::of(request) }
    }
}

/// Requests that hold blocks and neither run nor wait.
#[derive(Debug, Clone, Default)]
pub(super) struct Aside {
    /// Prompts computed here whose KV caches have not been read yet, and those of which they have been since
    /// the last step.
    pub(super) kept: Vec<Leaving>,
    pub(super) read: Vec<Leaving>,
    /// Prompts computed elsewhere whose KV caches are being read, and those whose have arrived, with the
    /// time.
    pub(super) parked: Vec<Slot>,
    pub(super) arrived: Vec<(Slot, f64)>,
    /// What the latest step gave room.
    pub(super) reserved: Vec<Reserved>,
    /// Whether it has a last token of a prompt in it.
    pub(super) has_first_steps: bool,
}

impl Aside {
    pub(super) fn len(&self) -> u32 {
        (self.kept.len() + self.read.len() + self.parked.len() + self.arrived.len()) as u32
    }
}
