//! `scalefront merge`: the shards of one sweep become its results.

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Result;
use scalefront::sweep::run::kept_curves::KeptCurves;
use scalefront::sweep::run::series::MOST_CURVES;
use scalefront::sweep::store::ResultsDir;
use scalefront::sweep::store::merge;

use super::common::{CommonArgs, catch_interrupts, threads};
use super::finish::Finishing;
use super::searches::Searches;
use super::tables::{self, Style};
use super::{Exit, finish};

/// Join the shards of one sweep, naming what is missing, doubled or foreign
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Directories of shards, or of all shards such as results/lab3
    #[arg(required = true)]
    dirs: Vec<PathBuf>,

    /// Where results go [default: results/<name of the grid>]
    #[arg(long, value_name = "DIR")]
    out: Option<PathBuf>,

    /// Threads to run on [default: all cores]
    #[arg(long, value_name = "N")]
    #[arg(value_parser = threads)]
    threads: Option<std::num::NonZeroUsize>,

    /// Print errors only
    #[arg(long)]
    quiet: bool,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    style: Style,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let common =
            CommonArgs { out: self.out.clone(), threads: self.threads, quiet: self.quiet, seed_offset: 0 };
        let started = Instant::now();
        let mut recorded = merge::join(&self.dirs)?;
        let pool = common.pool()?;
        let plan = pool.install(|| merge::plan(recorded.header()))?;
        catch_interrupts()?;
        let dir = ResultsDir::open(&common.out(&plan.grid.name), &plan.grid.as_given)?;
        tables::check_available()?;
        let how = Finishing {
            common: &common,
            searches: &Searches::default(),
            style: self.style,
            most_curves: MOST_CURVES,
            robustness: true,
            started,
        };
        pool.install(|| finish::finish(&plan, &mut recorded, KeptCurves::default(), &dir, &how))
    }
}
