//! `scalefront schema`: what editors complete and check files with.

use anyhow::Result;
use scalefront::sweep::{reference, schema};

use super::Exit;
use super::common::say;

/// Print the JSON Schema of a file format
#[derive(Debug, clap::Args)]
pub struct Args {
    file: File,

    /// A reference to read instead: one section a definition, one row a field
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum File {
    /// The grid file that `sweep` and `simulate` take
    Grid,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        match self.file {
            File::Grid if self.markdown => say(reference::grid().trim_end())?,
            File::Grid => say(format!("{:#}", schema::grid()))?,
        }
        Ok(Exit::Done)
    }
}
