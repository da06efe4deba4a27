//! Tables of runs -> fronts, hypervolumes, intervals, effects of settings.
//!
//! [`table`] stores and reads tables, [`runs`] that of runs, [`grouping`] finds rows that belong together;
//! [`front`] and [`statistics`] are the mathematics, free of tables; [`indicators`] likewise; [`scores`],
//! [`quality`], [`regret`] and [`effects`] apply them to a table of runs; [`compare`] sets several against
//! each other; [`outputs`] gives the results the shape in which they are stored.

pub mod compare;
pub mod edge;
pub mod effects;
pub mod front;
pub mod grouping;
pub mod indicators;
pub mod informed;
pub mod outputs;
pub mod quality;
pub mod regret;
pub mod runs;
pub mod scores;
pub mod series;
pub mod statistics;
pub mod table;
pub mod pools;
pub mod turns;
pub mod verdict;

pub use runs::{read_runs, read_runs_columns, write_runs, write_runs_in_parts};
pub use scores::{Analysis, analyse, rows_with_curves};
pub use series::{read_series, write_series};
pub use table::{Column, TableFormat, write_table};
