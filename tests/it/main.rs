//! One binary for all integration tests.

mod cli;
mod golden;
mod schema;
mod shared;
mod tidy;
