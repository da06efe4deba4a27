//! One binary for all integration tests.

mod audit;
mod golden;
mod hardware;
mod properties;
mod queueing;
mod quirks;
mod scenario;
mod decisions;
mod policies;
mod shared;
