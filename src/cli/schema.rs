//! `scalefront schema`: what editors complete and check files with, and references to read.

use anyhow::Result;
use scalefront::sweep::grid::schema;
use scalefront::sweep::reference;

use super::Exit;
use super::common::say;

/// Print the JSON Schema of the grid file, or a reference to read
#[derive(Debug, clap::Args)]
pub struct Args {
    file: File,

    /// A reference to read instead of a schema; of metrics there is no other
    #[arg(long)]
    markdown: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum File {
    /// The grid file that `sweep` and `simulate` take
    Grid,
    /// The metrics of a run: units, which way is better, what they mean
    Metrics,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        match self.file {
            File::Grid if self.markdown => say(reference::grid().trim_end())?,
            File::Metrics => say(reference::metrics().trim_end())?,
            File::Grid => say(schema::text().trim_end())?,
        }
        Ok(Exit::Done)
    }
}
