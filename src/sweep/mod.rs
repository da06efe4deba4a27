//! Grid file -> plan -> runs -> stored table.

pub mod axes;
pub mod cell;
pub mod checksum;
pub mod columns;
pub mod chrome_trace;
pub mod constraints;
mod doubts;
mod earlier;
pub mod estimate;
pub mod grid;
pub mod hardware_files;
pub mod journal;
pub mod kept_curves;
pub mod manifest;
pub mod merge;
pub mod names;
pub mod objectives;
pub mod oracle;
pub mod panics;
#[cfg(feature = "report")]
pub mod parquet;
pub mod plan;
pub mod programs;
pub mod policies;
pub mod row;
pub mod run;
pub mod robustness;
pub mod recommend;
pub mod reference;
pub mod schema;
pub mod series;
pub mod shard;
pub mod source;
pub mod store;
pub mod verdict;
pub mod stored;
mod synonyms;
