//! Which autoscaling policy, at which setting, buys the most latency for the least money on your traffic?
//!
//! Rooms, from the ground up; each knows only those above it in this list:
#![forbid(unsafe_code)]

/// Raise it when the same cell gives other numbers.
pub const RESULTS_VERSION: u32 = 1;

#[cfg(feature = "report")]
pub mod analysis;
pub mod autoscaler;
pub mod global_scheduler;
pub mod hardware;
pub mod oracle;
pub mod replica_scheduler;
#[cfg(feature = "report")]
pub mod report;
pub mod settings;
pub mod simulation;
pub mod sweep;
pub mod workload;
