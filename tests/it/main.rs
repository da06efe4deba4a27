//! One binary for all integration tests.

mod cli;
mod golden;
mod hardware;
mod schema;
mod shared;
mod tidy;
