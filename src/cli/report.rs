//! `scalefront report`: from stored runs to tables, plots and HTML.

use std::path::PathBuf;

use anyhow::{Result, bail};

use scalefront::sweep::tables::names::counted;

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

    /// Draw every figure for print as well, with a caption to paste, into figures/ of the directory
    #[arg(long, value_enum, value_name = "FORMAT")]
    figures: Option<Figures>,

    /// Width of figures for print: 84 is a column of many journals, 174 two
    #[arg(
        long,
        value_name = "MM",
        default_value_t = 84.0,
        requires = "figures",
        allow_negative_numbers = true
    )]
    column_width_mm: f64,

    /// Print errors only
    #[arg(long)]
    quiet: bool,
}

/// Files of figures for print.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Figures {
    Pdf,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        tables::check_available()?;
        let [least, most] = tables::COLUMN_WIDTHS_MM;
        if !(least..=most).contains(&self.column_width_mm) {
            bail!(
                "--column-width-mm: {} found, expected a width from {least} to {most}",
                self.column_width_mm
            );
        }
        let summary = tables::build_report(&self.dir, self.style)?;
        if !self.quiet {
            say(summary.trim_end())?;
        }
        if let Some(Figures::Pdf) = self.figures {
            let (count, dir) = tables::build_figures(&self.dir, self.column_width_mm)?;
            if !self.quiet {
                say(format!("For print: {} in {}", counted(count, "figure"), dir.display()))?;
            }
        }
        Ok(Exit::Done)
    }
}
