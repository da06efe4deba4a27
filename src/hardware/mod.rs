//! Models, devices and nodes; how long a batch takes, how much fits into memory, what an hour costs.
//!
//! Everything a run asks while it runs is [`ExecutionTime::stage_time_s`]: the shape of a batch in, seconds out. Whatever the source
//! (measured tables, an analytical model, imported profiles), it is condensed once, before the run, into dense tables shared by all runs.

pub mod catalog;
mod execution_time;
pub mod memory;
mod profile;

pub use execution_time::{Attention, BatchShape, ExecutionTime, ExecutionTimeSettings, HardwareError, ProfileSettings, TableSettings};
