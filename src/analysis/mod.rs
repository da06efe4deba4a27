//! Tables of runs -> fronts, hypervolumes, intervals, effects of settings.
//!
//! [`table`] stores and reads tables; [`front`] and [`statistics`] are the mathematics, free of tables;
//! [`indicators`] likewise; [`scores`], [`quality`], [`regret`] and [`effects`] apply them to a table of runs; [`compare`] sets several against each other; [`outputs`] gives the results the shape in which they are stored.

pub mod compare;
pub mod effects;
pub mod front;
pub mod indicators;
pub mod outputs;
pub mod quality;
pub mod regret;
pub mod scores;
pub mod series;
pub mod statistics;
pub mod table;

pub use scores::{Analysis, analyse, front_run_ids};
pub use series::{read_series, write_series};
pub use table::{Column, TableFormat, read_runs, write_runs, write_table};
