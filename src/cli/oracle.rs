//! `scalefront oracle`: the edge of the possible for a stored sweep.

use std::path::PathBuf;

use anyhow::{Result, bail, ensure};
use scalefront::RESULTS_VERSION;
use scalefront::files::{shell_path, shell_word};
use scalefront::oracle::OracleSettings;
use scalefront::oracle::informed::InformedSettings;
use scalefront::settings::Faults;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Interrupted;
use scalefront::sweep::store::{Finished, MANIFEST, RUNS, ResultsDir, read_manifest};

use super::Exit;
use super::common::{CommonArgs, catch_interrupts, threads};
use super::finish::report_again;
use super::searches::Searches;
use super::tables::{self, Style};

/// Search the best that perfect foresight could do for each workload, seed and cluster of a sweep, and report
/// every policy's regret
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A sweep's results directory, such as results/lab3
    dir: PathBuf,

    /// Search without foresight instead: policies that know how traffic is drawn, and not what is drawn
    #[arg(long)]
    informed: bool,

    /// Simulations of each search beyond its starts, which are what the sweep's runs did, constant fleets and
    /// such that follow traffic; with --informed, policies tried, each on all fitting draws [default: 2000;
    /// with --informed 400]
    #[arg(long, value_name = "N")]
    runs: Option<u32>,

    /// Draws that informed policies are fitted to, none of them the sweep's
    #[arg(long, value_name = "N", requires = "informed", default_value_t = InformedSettings::default().fitting_draws)]
    fitting_draws: u32,

    /// Decisions are taken at multiples of this [default: 0.5; with --informed 0.25]
    #[arg(long, value_name = "SECONDS", allow_negative_numbers = true)]
    step_s: Option<f64>,

    /// Seed of the search
    #[arg(long, value_name = "N", default_value_t = OracleSettings::default().search_seed)]
    search_seed: u64,

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
        tables::check_available()?;
        let search_seed = self.search_seed;
        let mut faults = Faults::default();
        let searches = if self.informed {
            let default = InformedSettings::default();
            let (budget, step_s) =
                (self.runs.unwrap_or(default.budget), self.step_s.unwrap_or(default.step_s));
            let settings = InformedSettings {
                budget,
                step_s,
                search_seed,
                fitting_draws: self.fitting_draws,
                ..default
            };
            settings.check(&mut faults);
            Searches { edge: None, informed: Some(settings) }
        } else {
            let default = OracleSettings::default();
            let (budget, step_s) =
                (self.runs.unwrap_or(default.budget), self.step_s.unwrap_or(default.step_s));
            let settings = OracleSettings { budget, step_s, search_seed, ..default };
            settings.check(&mut faults);
            Searches { edge: Some(settings), informed: None }
        };
        if let Some(fault) = faults.found.first() {
            bail!("--{}: {}", fault.path.replace('_', "-").replace("budget", "runs"), fault.message);
        }
        let shown = self.dir.display();
        let manifest = read_manifest(&self.dir.join(MANIFEST))?;
        ensure!(
            manifest.results_version == RESULTS_VERSION,
            "{shown}: holds results of results version {}, this is version {RESULTS_VERSION}; run the sweep again",
            manifest.results_version
        );
        let common = CommonArgs { out: None, threads: self.threads, quiet: self.quiet, seed_offset: 0 };
        let pool = common.pool()?;
        let plan = pool.install(|| -> Result<Plan> {
            Ok(Plan::new(Grid::stored(&manifest.grid_file, &manifest.grid)?)?)
        })?;
        searches.check(&plan)?;
        catch_interrupts()?;
        let dir = ResultsDir::open(&self.dir, &plan.grid.as_given)?;
        ensure!(
            dir.file(RUNS).exists(),
            "{shown}: {RUNS} is missing; `scalefront sweep {} --out {} --resume` makes it again",
            shell_word(&plan.grid.source.file),
            shell_path(&self.dir)
        );
        ensure!(
            matches!(dir.finished(&plan), Some(Finished::Judged)),
            "{shown}: the traces or hardware tables here are not those the sweep was run with, or it is not finished; run it again, \
             or `scalefront oracle` where they are"
        );
        // Before the search, not after: the report reads them.
        dir.check_tables()?;
        pool.install(|| match searches.run(&plan, &dir, &common)? {
            Ok(()) => report_again(&dir, &common, self.style),
            Err(Interrupted) => {
                eprintln!("interrupted: nothing of the search was stored");
                Ok(Exit::Interrupted)
            }
        })
    }
}
