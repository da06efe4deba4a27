//! `scalefront leaderboard`: policies scored on pinned cases.

use std::path::PathBuf;

use anyhow::Result;

use super::Exit;
use super::common::threads;
use super::tables;

/// Score policies on pinned workloads, clusters and bills, and put them in one table
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Policies of the list by name, or files {"autoscalers": [..]} as in a grid, external ones too [default: the whole list]
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

    /// Keep edges and rows beside the cases, for the page in the documentation and as what later scores stand beside
    #[arg(long, conflicts_with = "seed")]
    pub pin: bool,

    /// Run nothing: print the page of what is pinned
    #[arg(long, conflicts_with_all = ["policies", "seed", "pin", "out", "edge_runs"])]
    pub markdown: bool,

    /// Where leaderboard.md, .csv and .json go; rows of other policies that are there stay [default: results/leaderboard, or
    /// results/leaderboard-N with --seed N]
    #[arg(long, value_name = "DIR")]
    pub out: Option<PathBuf>,

    /// Threads to run on [default: all cores]
    #[arg(long, value_name = "N", value_parser = threads)]
    pub threads: Option<std::num::NonZeroUsize>,

    /// Print errors only
    #[arg(long)]
    pub quiet: bool,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        tables::check_available()?;
        tables::leaderboard(self)
    }
}
