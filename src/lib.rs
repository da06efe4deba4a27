//! Which autoscaling policy, at which setting, buys the lowest latency for the money on your traffic?
//!
//! Requests arrive, a global scheduler routes them to replicas, each replica's scheduler forms batches, a
//! hardware model says how long each batch takes, an autoscaler adds and drains replicas, a meter counts
//! dollars. A sweep runs one such simulation for each cell of a grid and turns the runs into Pareto fronts of
//! latency against cost.
//!
//! The rooms, from the ground up. Each knows only rooms above it in this list.
// Rooms are read with their private files.
#![allow(rustdoc::private_intra_doc_links)]
#![forbid(unsafe_code)]

/// Raise it when the same cell gives other numbers.
pub const RESULTS_VERSION: u32 = 9;

pub mod files;
pub mod settings;
pub mod random;
mod tournament;
pub mod workload;
pub mod hardware;
pub mod replica_scheduler;
pub mod global_scheduler;
pub mod autoscaler;
pub mod simulation;
pub mod controllers;
pub mod oracle;
pub mod validation;
pub mod sweep;
#[cfg(feature = "report")]
pub mod analysis;
#[cfg(feature = "report")]
pub mod leaderboard;
#[cfg(feature = "report")]
pub mod report;
