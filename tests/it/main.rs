//! One binary for all integration tests.

mod audit;
mod golden;
mod properties;
mod scenario;
mod shared;
