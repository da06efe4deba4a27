//! The command line: one file a subcommand, each of which parses, calls the library and prints.

mod calibrate;
mod common;
mod compare;
mod export;
mod finish;
mod fleets;
mod hardware;
mod leaderboard;
mod levels;
mod merge;
mod oracle;
mod policies;
mod recommend;
mod report;
mod schema;
mod searches;
mod shadow;
mod simulate;
mod sweep;
mod tables;
mod trace;
mod validate;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// Which autoscaling policy, at which setting, buys the lowest latency for the money on your traffic?
#[derive(Debug, Parser)]
#[command(name = "scalefront", version)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Sweep(sweep::Args),
    Merge(merge::Args),
    Simulate(simulate::Args),
    Compare(compare::Args),
    Oracle(oracle::Args),
    Recommend(recommend::Args),
    Levels(levels::Args),
    Shadow(shadow::Args),
    Export(export::Args),
    Report(report::Args),
    Trace(trace::Args),
    Hardware(hardware::Args),
    Policies(policies::Args),
    Leaderboard(leaderboard::Args),
    Schema(schema::Args),
}

/// How a command ended, as the shell sees it. Wrong input is also any other reason for which a command could
/// not do its work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    Done,
    SomeRunsFailed,
    /// A comparison crossed the limit that it was given.
    TooMuchWorse,
    WrongInput,
    Interrupted,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(match exit {
            Exit::Done => 0,
            Exit::SomeRunsFailed | Exit::TooMuchWorse => 1,
            Exit::WrongInput => 2,
            Exit::Interrupted => 130, // 128 and the number of the interrupt signal
        })
    }
}

impl Cli {
    pub fn run(self) -> Result<Exit> {
        match self.command {
            Command::Sweep(args) => args.run(),
            Command::Merge(args) => args.run(),
            Command::Simulate(args) => args.run(),
            Command::Compare(args) => args.run(),
            Command::Oracle(args) => args.run(),
            Command::Recommend(args) => args.run(),
            Command::Levels(args) => args.run(),
            Command::Shadow(args) => args.run(),
            Command::Export(args) => args.run(),
            Command::Report(args) => args.run(),
            Command::Trace(args) => args.run(),
            Command::Hardware(args) => args.run(),
            Command::Policies(args) => args.run(),
            Command::Leaderboard(args) => args.run(),
            Command::Schema(args) => args.run(),
        }
    }
}

#[cfg(test)]
mod tests;
