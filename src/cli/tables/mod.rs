//! Tables, fronts and reports: the feature `report`, or one clear error without it. The only place that asks
//! which.

mod asked;
#[cfg(not(feature = "report"))]
mod disabled;
#[cfg(feature = "report")]
mod detail;
#[cfg(feature = "report")]
mod enabled;
#[cfg(feature = "report")]
mod fleets;
#[cfg(feature = "report")]
mod scored;

pub use asked::{CompareArgs, LeaderboardArgs};
#[cfg(not(feature = "report"))]
pub use disabled::*;
#[cfg(feature = "report")]
pub use enabled::*;
#[cfg(feature = "report")]
pub use scored::leaderboard;

/// For whom figures are drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Style {
    Paper,
    Slides,
}

/// Widths of figures for print.
pub const COLUMN_WIDTHS_MM: [f64; 2] = [60.0, 300.0];

/// A comparison for the terminal.
#[derive(Debug)]
pub struct Compared {
    pub text: String,
    /// What crossed the limit of `--fail-above`, a sentence each.
    pub too_much_worse: Vec<String>,
}

/// File format of a run's detail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    Csv,
    Parquet,
}
