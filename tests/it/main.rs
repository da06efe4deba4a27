//! One binary for all integration tests.

mod decisions;
mod golden;
mod policies;
mod shared;
