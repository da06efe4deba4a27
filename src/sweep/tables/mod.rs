//! What tables of results are made of: rows, columns with their units, words for people, checksums, and
//! Parquet read safely.

pub mod row;
pub mod settings;
pub mod columns;
pub mod names;
pub mod checksum;
#[cfg(feature = "report")]
pub mod parquet;
