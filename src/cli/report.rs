//! `scalefront report`: from stored runs to tables, plots and HTML.

use std::path::PathBuf;

use anyhow::Result;

use super::Exit;
use super::common::say;
use super::tables::{self, Style};

/// Rebuild tables, plots and HTML of stored results, running nothing
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A results directory, such as results/lab3
    dir: PathBuf,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    style: Style,

    /// Print errors only
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        tables::check_available()?;
        let summary = tables::build_report(&self.dir, self.style)?;
        if !self.quiet {
            say(summary.trim_end())?;
        }
        Ok(Exit::Done)
    }
}
