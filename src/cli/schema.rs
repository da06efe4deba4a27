//! `scalefront schema`: what editors complete and check files with.

use anyhow::Result;
use scalefront::sweep::schema;

use super::Exit;

/// Print the JSON Schema of a file format
#[derive(Debug, clap::Args)]
pub struct Args {
    file: File,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum File {
    /// The grid file that `sweep` and `simulate` take
    Grid,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        match self.file {
            File::Grid => println!("{:#}", schema::grid()),
        }
        Ok(Exit::Done)
    }
}
