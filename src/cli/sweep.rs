//! `scalefront sweep`: from a grid file to stored runs, fronts and a report.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use scalefront::oracle::OracleSettings;
use scalefront::oracle::informed::InformedSettings;
use scalefront::simulation::MOST_EVENTS;
use scalefront::sweep::answers::robustness;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::plan::shard::Shard;
use scalefront::sweep::run::estimate::{self, CORE_PRICE_USD_PER_HOUR, Terms};
use scalefront::sweep::run::journal::{self, Header, Journal, Recorded};
use scalefront::sweep::run::kept_curves::{Keeper, KeptCurves, MOST_BYTES};
use scalefront::sweep::run::series::MOST_CURVES;
use scalefront::sweep::run::{self, CellLimits, Stop};
use scalefront::sweep::store::{Finished, ResultsDir};

use super::common::{CommonArgs, arguments, catch_interrupts, quoted, say, warn, watched};
use super::finish::Finishing;
use super::searches::Searches;
use super::tables::{self, Style};
use super::{Exit, finish};

/// Plan, run, aggregate, plot and report a grid of runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grid file; looked for under sweeps/ too
    grid: PathBuf,

    /// Print the plan and how long it will take, by a trial of some of its runs for two seconds; store
    /// nothing
    #[arg(long)]
    dry_run: bool,

    /// Go on with a sweep that was interrupted, running only what is not stored yet
    #[arg(long)]
    resume: bool,

    /// Run a fixed share of the cells: K/N from 1/N to N/N, or `auto` within a Slurm array or a Kubernetes
    /// Indexed Job
    #[arg(long, value_name = "K/N")]
    shard: Option<String>,

    /// Fail a run that takes longer
    #[arg(long, value_name = "SECONDS", value_parser = positive_seconds, allow_negative_numbers = true)]
    cell_timeout: Option<Duration>,

    /// Fail a run in which more happens, such as scaling up and down for ever
    #[arg(long, value_name = "N", default_value_t = MOST_EVENTS)]
    max_events: u64,

    /// Fail a run that keeps more in memory: bytes, or K, M, G (times 1024); what runs share and what
    /// policies keep is not counted
    #[arg(long, value_name = "BYTES", value_parser = bytes)]
    cell_memory: Option<u64>,

    /// Start no further run once one has failed
    #[arg(long)]
    fail_fast: bool,

    /// Fail a run whose requests, tokens, KV blocks, time or money do not add up at its end
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
    check: bool,

    /// Then search the best that perfect foresight could do, with N simulations for each workload, seed and
    /// cluster; see `oracle`
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    oracle: Option<u32>,

    /// Then search the best that can be done without foresight, trying N policies for each generated
    /// workload; see `oracle --informed`
    #[arg(long, value_name = "N", conflicts_with = "shard")]
    informed: Option<u32>,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    style: Style,

    /// Draw curves of at most N runs on fronts
    #[arg(long, value_name = "N", default_value_t = MOST_CURVES)]
    curves: usize,

    /// Where limits are given, test how robust the verdict is: with more traffic, on other days, with slower
    /// starts and steps
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1, action = clap::ArgAction::Set)]
    robustness: bool,

    /// What an hour of a core costs where this will run, for the estimate of --dry-run
    #[arg(long, value_name = "USD", default_value_t = CORE_PRICE_USD_PER_HOUR, value_parser = price, allow_negative_numbers = true)]
    core_price_usd_per_hour: f64,

    #[command(flatten)]
    common: CommonArgs,
}

/// Whether the tables of a finished sweep are as they were stored; says so if not, and that the sweep is run
/// again.
fn has_its_tables(dir: &ResultsDir) -> bool {
    let changed = dir.check_tables().err();
    if let Some(error) = &changed {
        eprintln!("{error:#}; running the sweep again");
    }
    changed.is_none()
}

fn price(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|price: &f64| price.is_finite() && *price >= 0.0)
        .ok_or_else(|| "expected a number of at least 0".into())
}

fn bytes(text: &str) -> Result<u64, String> {
    let units = [("K", 1 << 10), ("M", 1 << 20), ("G", 1 << 30)];
    let (number, unit) = units
        .iter()
        .find_map(|(suffix, unit)| Some((text.strip_suffix(suffix)?, *unit)))
        .unwrap_or((text, 1));
    let bytes =
        number.parse::<u64>().ok().and_then(|number| number.checked_mul(unit)).filter(|bytes| *bytes > 0);
    bytes.ok_or_else(|| "expected a whole number above 0 of bytes, or of K, M or G such as 500M".into())
}

fn positive_seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|seconds| *seconds > 0.0);
    seconds
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| "expected a number of seconds above 0 and less than 1e19".into())
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let started = Instant::now();
        let mut grid = Grid::read(&self.grid)?;
        grid.offset_seeds(self.common.seed_offset).map_err(|error| anyhow!(error))?;
        let shard = self.shard()?;
        let pool = self.common.pool()?;
        let plan = pool.install(|| Plan::new(grid))?;
        if !self.common.quiet {
            warn(&plan.doubts());
        }
        if self.dry_run {
            let terms = Terms {
                threads: self.common.threads(),
                core_price_usd_per_hour: self.core_price_usd_per_hour,
                planning_s: started.elapsed().as_secs_f64(),
                keeps_curves: self.curves > 0,
            };
            let of = |places: &[usize]| pool.install(|| estimate::estimate(&plan, places, terms));
            say(plan.describe())?;
            say(of(&(0..plan.unique().len()).collect::<Vec<_>>()))?;
            if self.robustness && !plan.grid.objectives.constraints.is_empty() {
                let runs = robustness::most_runs(&plan);
                say(format!(
                    "Then up to {runs} runs to test how robust the verdict is; `--robustness false` leaves them out"
                ))?;
            }
            if let Some(shard) = shard {
                let places = shard.share(&plan);
                let time = estimate::duration(terms.planning_s + of(&places).running_s);
                say(format!(
                    "Shard {shard}: {} of these runs, {time} on {} threads",
                    places.len(),
                    terms.threads
                ))?;
            }
            return Ok(Exit::Done);
        }
        catch_interrupts()?;
        let mut out = self.common.out(&plan.grid.name);
        out.extend(shard.map(|shard| shard.directory()));
        let dir = ResultsDir::open(&out, &plan.grid.as_given)?;
        let searches = Searches {
            edge: self.oracle.map(|budget| OracleSettings { budget, ..OracleSettings::default() }),
            informed: self.informed.map(|budget| InformedSettings { budget, ..InformedSettings::default() }),
        };
        if shard.is_none() {
            // Before hours of running, not after.
            tables::check_available()?;
            searches.check(&plan)?;
            let finished = if journal::is_in(dir.path()) { None } else { dir.finished(&plan) };
            match finished {
                // Without --resume, too: nothing that is stored would come out differently.
                Some(Finished::RunsOnly(manifest)) if has_its_tables(&dir) => {
                    eprintln!(
                        "{}: the runs are there; they are judged anew by the objectives as they are now",
                        dir.path().display()
                    );
                    let how = self.finishing(&searches, started);
                    return pool.install(|| finish::judge_again(&plan, &manifest, &dir, &how));
                }
                Some(Finished::Judged) if self.resume && has_its_tables(&dir) => {
                    if pool.install(|| searches.run(&plan, &dir, &self.common))?.is_err() {
                        eprintln!("interrupted: nothing of the search was stored");
                        return Ok(Exit::Interrupted);
                    }
                    return finish::report_again(&dir, &self.common, self.style);
                }
                _ => {}
            }
        }
        let places = shard.map_or_else(|| (0..plan.unique().len()).collect(), |shard| shard.share(&plan));
        let header = Header::new(&plan, shard, places.len());
        let (journal, left) = self.journal(dir.path(), &header, places)?;
        let share = header.share;

        // A shard is not drawn.
        let curves = (shard.is_none() && self.curves > 0).then(|| Keeper::new(&plan, MOST_BYTES));
        let ended = pool.install(|| {
            let (limits, curves) = (self.limits(), curves.as_ref());
            watched(&self.common, "Running", left.len(), |bar| {
                run::run_journaled(&plan, &left, &limits, &journal, curves, bar)
            })
        });
        let mut recorded = Recorded::read(&[dir.path()])?;
        let stored = format!("{} of {share} runs are stored in {}", recorded.len(), dir.path().display());
        let go_on = format!("`{}` goes on", self.resuming_command());
        match ended {
            Err(Stop::Journal(error)) => return Err(error),
            Err(Stop::Interrupted) => {
                eprintln!("interrupted: {stored}; {go_on}");
                return Ok(Exit::Interrupted);
            }
            Err(Stop::Failed) => {
                let (run_id, error) =
                    finish::first_failure(&plan, &mut recorded)?.context("no run failed")?;
                eprintln!("error: run {run_id}: {error}\nstopped, as --fail-fast asks: {stored}; {go_on}");
                return Ok(Exit::SomeRunsFailed);
            }
            Ok(()) => {}
        }
        if shard.is_some() {
            if !self.common.quiet {
                say(format!("{stored}; `scalefront merge` joins the shards"))?;
            }
            return finish::exit(&plan, &mut recorded);
        }
        let kept = curves.map_or_else(KeptCurves::default, Keeper::into_kept);
        pool.install(|| finish::finish(&plan, &mut recorded, kept, &dir, &self.finishing(&searches, started)))
    }

    fn finishing<'a>(&'a self, searches: &'a Searches, started: Instant) -> Finishing<'a> {
        Finishing {
            common: &self.common,
            searches,
            style: self.style,
            most_curves: self.curves,
            robustness: self.robustness,
            started,
        }
    }

    fn shard(&self) -> Result<Option<Shard>> {
        let shard = self.shard.as_deref().map(|text| match text {
            "auto" => Shard::from_environment(|name| std::env::var(name).ok()),
            text => text.parse(),
        });
        shard.transpose().map_err(|error| anyhow!("--shard: {error}"))
    }

    fn limits(&self) -> CellLimits {
        CellLimits {
            timeout: self.cell_timeout,
            most_events: self.max_events,
            most_bytes: self.cell_memory.unwrap_or(u64::MAX),
            check: self.check,
            fail_fast: self.fail_fast,
        }
    }

    /// The journal in `dir`, new or to be gone on with, and those of `places` that it does not hold yet.
    fn journal(&self, dir: &Path, header: &Header, places: Vec<usize>) -> Result<(Journal, Vec<usize>)> {
        if !journal::is_in(dir) {
            return Ok((Journal::create(dir, header)?, places));
        }
        if !self.resume {
            let recorded = Recorded::read(&[dir])?;
            bail!(
                "{}: holds {} of {} runs of a sweep that has not been finished; go on with it by --resume, choose another directory \
                 with --out, or remove this one",
                dir.display(),
                recorded.len(),
                recorded.header().share
            );
        }
        let (journal, recorded) = Journal::resume(dir, header)?;
        if self.fail_fast && recorded.failed > 0 {
            bail!(
                "{}: {} runs have failed already; `{}` goes on",
                dir.display(),
                recorded.failed,
                self.resuming_command()
            );
        }
        Ok((journal, places.into_iter().filter(|&place| !recorded.holds(place)).collect()))
    }

    fn resuming_command(&self) -> String {
        let resume = if self.resume { "" } else { " --resume" };
        // With it nothing would go on once a run has failed.
        let given: Vec<String> = arguments().filter(|argument| argument != "--fail-fast").collect();
        format!("{}{resume}", quoted(given))
    }
}
