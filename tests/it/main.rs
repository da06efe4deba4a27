//! One binary for all integration tests.

mod audit;
mod cli;
mod decisions;
#[cfg(feature = "report")]
mod docs;
mod golden;
mod hardware;
mod policies;
mod properties;
mod queueing;
mod quirks;
mod scenario;
mod schema;
mod shared;
mod tidy;
