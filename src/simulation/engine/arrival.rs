//! A request as the event loop takes it in, wherever it comes from.

use crate::replica_scheduler::Handover;

/// A request that arrives now: its number in the workload and its lengths.
#[derive(Debug, Clone, Copy)]
pub(in crate::simulation) struct Arrival {
    pub id: u32,
    pub arrived_at_s: f64,
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
    pub max_new_tokens: u32,
    pub priority: i32,
    pub handover: Handover,
}
