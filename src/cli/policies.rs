//! `scalefront policies`: what a grid may name, and which program, at which version, each policy stands for.

use anyhow::Result;
use scalefront::sweep::policies;

use super::Exit;
use super::common::say;

/// List the policies, with the program and version each stands for
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The whole table: knob, default, signals and their age, what the policy cannot see, how it was checked
    #[arg(long)]
    markdown: bool,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let text = if self.markdown { policies::page() } else { policies::list() };
        say(text.trim_end())?;
        Ok(Exit::Done)
    }
}
