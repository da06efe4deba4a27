//! `scalefront compare`: policy against policy, sweep against sweep.

use std::path::PathBuf;

use anyhow::{Result, ensure};

use super::Exit;
use super::common::say;
use super::tables::{self, Style};

/// Compare the families of a sweep, or several sweeps, on the same arrivals
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Results directories, such as results/lab3
    #[arg(required = true, value_name = "RESULTS_DIR")]
    pub dirs: Vec<PathBuf>,

    /// Compare these families, as the tables call them; after the directories, with spaces between
    #[arg(long, num_args = 1.., value_name = "FAMILY")]
    pub families: Vec<String>,

    /// What the others are compared with: a family, or one of several directories [default: the first]
    #[arg(long, value_name = "NAME")]
    pub baseline: Option<String>,

    /// Exit with 1 if a candidate is worse by more than PERCENT in hypervolume or in cost at equal latency, on any workload
    #[arg(long, value_name = "PERCENT", allow_negative_numbers = true)]
    pub fail_above: Option<f64>,

    /// Where compare.md, compare.html, compare.csv and plots go
    #[arg(long, value_name = "DIR", default_value = "results/compare")]
    pub out: PathBuf,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    pub style: Style,

    /// Print errors only
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        if let Some(percent) = self.fail_above {
            ensure!(percent.is_finite() && percent >= 0.0, "--fail-above: {percent} found, expected a percentage of at least 0");
        }
        tables::check_available()?;
        let compared = tables::compare(self)?;
        if !self.quiet {
            say(compared.text.trim_end())?;
        }
        if compared.too_much_worse.is_empty() {
            return Ok(Exit::Done);
        }
        compared.too_much_worse.iter().for_each(|sentence| eprintln!("error: {sentence}"));
        Ok(Exit::TooMuchWorse)
    }
}
