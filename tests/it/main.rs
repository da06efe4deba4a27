//! One binary for all integration tests.

mod audit;
mod golden;
mod properties;
mod queueing;
mod quirks;
mod scenario;
mod shared;
