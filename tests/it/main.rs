//! One binary for all integration tests.

mod audit;
mod benches;
#[cfg(feature = "report")]
mod browser;
mod cli;
mod cluster;
#[cfg(feature = "report")]
mod compare;
mod decisions;
mod determinism;
#[cfg(feature = "report")]
mod docs;
mod golden;
mod hardware;
mod policies;
mod properties;
mod queueing;
mod quirks;
mod reliability;
mod rows;
mod scenario;
mod schema;
mod shards;
mod shared;
mod tidy;
mod validation;
