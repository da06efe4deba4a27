//! `scalefront compare`: policy against policy, sweep against sweep.

use anyhow::{Result, ensure};

use super::Exit;
use super::common::say;
use super::tables::{self, CompareArgs};

/// Compare the families of a sweep, or several sweeps, on the same arrivals
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    asked: CompareArgs,

    /// Print errors only
    #[arg(long)]
    quiet: bool,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        if let Some(percent) = self.asked.fail_above {
            ensure!(
                percent.is_finite() && percent >= 0.0,
                "--fail-above: {percent} found, expected a percentage of at least 0"
            );
        }
        tables::check_available()?;
        let compared = tables::compare(&self.asked)?;
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
