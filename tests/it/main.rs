//! One binary for all integration tests.

mod golden;
mod hardware;
mod shared;
