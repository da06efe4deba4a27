//! What is asked of a comparison and of the leaderboard.

use std::path::PathBuf;

use super::Style;
use crate::cli::common::threads;

/// What is compared, and how.
#[derive(Debug, clap::Args)]
pub struct CompareArgs {
    /// Results directories, such as results/lab3
    #[arg(required = true, value_name = "RESULTS_DIR")]
    pub dirs: Vec<PathBuf>,

    /// Compare these families, as the tables call them; after the directories, with spaces between
    #[arg(long, num_args = 1.., value_name = "FAMILY")]
    pub families: Vec<String>,

    /// What the others are compared with: a family, or one of several directories [default: the first]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,

    /// Exit with 1 if a candidate is worse by more than PERCENT in hypervolume or in cost at equal latency,
    /// on any workload
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub fail_above: Option<f64>,

    /// Where compare.md, compare.html, compare.csv and plots go
    #[arg(long, value_name = "DIR", default_value = "results/compare")]
    pub out: PathBuf,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    pub style: Style,
}

/// What is scored, and where that goes.
#[derive(Debug, clap::Args)]
pub struct LeaderboardArgs {
    /// Policies of the list by name, or files {"autoscalers": [..]} as in a grid, external ones too [default:
    /// the whole list]
    #[arg(value_name = "POLICY|FILE")]
    pub policies: Vec<String>,

    /// The directory of the cases and of the list, policies.json
    #[arg(long, value_name = "DIR", default_value = "sweeps/leaderboard")]
    pub cases: PathBuf,

    /// Draw the traffic anew: rates, lengths of phases and arrivals. What was tuned to the pinned cases shows
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,

    /// Simulations of each search for an edge that is not pinned, beyond its starts
    #[arg(long, value_name = "N", default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub edge_runs: u32,

    /// Keep edges and rows beside the cases, for the page in the documentation and as what later scores stand
    /// beside
    #[arg(long, conflicts_with = "seed")]
    pub pin: bool,

    /// Run nothing: print the page of what is pinned
    #[arg(long, conflicts_with_all = ["policies", "seed", "pin", "out", "edge_runs"])]
    pub markdown: bool,

    /// Where leaderboard.md, .csv and .json go; rows of other policies that are there stay [default:
    /// results/leaderboard, or results/leaderboard-N with --seed N]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Threads to run on [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<std::num::NonZeroUsize>,

    /// Print errors only
    #[arg(long)]
    pub quiet: bool,
}
