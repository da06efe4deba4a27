//! `scalefront leaderboard`: policies scored on pinned cases.

use anyhow::Result;

use super::Exit;
use super::tables::{self, LeaderboardArgs};

/// Score policies on pinned workloads, clusters and bills, and put them in one table
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: LeaderboardArgs,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        tables::check_available()?;
        tables::leaderboard(&self.asked)
    }
}
