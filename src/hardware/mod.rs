//! Models, devices and nodes; how long a batch takes, how much fits into memory, what an hour costs.
//!
//! Everything a run asks while it runs is [`ExecutionTime::stage_time_s`]: the shape of a batch in, seconds
//! out. Whatever the source (measured tables, an analytical model, imported profiles), it is condensed once,
//! before the run, into dense tables shared by all runs.

mod aiconfigurator;
pub mod analytical;
mod attention;
mod batch_shape;
mod cache;
pub mod catalog;
pub mod check;
mod condensed;
pub mod coverage;
mod decode_steps;
mod deployment;
mod execution_time;
mod files;
mod formats;
mod interpolate;
pub mod memory;
mod overheads;
mod profile;
mod step_times;
mod vidur;

pub use aiconfigurator::AiconfiguratorSettings;
pub use analytical::AnalyticalSettings;
pub use batch_shape::BatchShape;
pub use decode_steps::{DecodeSteps, DecodeTimes};
pub use deployment::Deployment;
pub use execution_time::{
    Attention, ExecutionTime, ExecutionTimeSettings, HardwareError, ProfileSettings, TableSettings,
};
pub use files::{Columns, Files, ReadParquet};
pub use formats::{Precision, WeightFormat, Weights};
pub use overheads::{OverheadSettings, Overheads, sampling_on, stored};
pub use vidur::VidurSettings;
