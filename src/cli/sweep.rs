//! `scalefront sweep`: from a grid file to stored runs, fronts and a report.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use anyhow::{Result, anyhow};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::manifest::{Manifest, Timings};
use scalefront::sweep::plan::Plan;
use scalefront::sweep::row::{RunRow, Scalar};
use scalefront::sweep::run::{self, Interrupted};
use scalefront::sweep::series;
use scalefront::sweep::store::{MANIFEST, ResultsDir, write_json};

use super::Exit;
use super::common::{Bar, CommonArgs, catch_interrupts, is_interrupted};
use super::tables::{self, Style};

/// Plan, run, aggregate, plot and report a grid of runs
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grid file; looked for under sweeps/ too
    grid: PathBuf,

    /// Print the plan and run nothing
    #[arg(long)]
    dry_run: bool,

    /// Figures for print, or with larger type and thicker lines
    #[arg(long, value_enum, default_value_t = Style::Paper)]
    style: Style,

    #[command(flatten)]
    common: CommonArgs,
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let mut grid = Grid::read(&self.grid)?;
        grid.offset_seeds(self.common.seed_offset).map_err(|error| anyhow!(error))?;
        let pool = self.common.pool()?;
        let plan = pool.install(|| Plan::new(grid))?;
        if self.dry_run {
            println!("{}", plan.describe(self.common.threads()));
            return Ok(Exit::Done);
        }
        catch_interrupts()?;
        let dir = ResultsDir::open(&self.common.out(&plan.grid.name), &plan.grid.as_given)?;
        tables::check_available()?;

        let started = Instant::now();
        let interrupted = |Interrupted| {
            eprintln!("interrupted: no runs were stored in {}", dir.path().display());
            Ok(Exit::Interrupted)
        };
        let rows = match pool.install(|| self.watched("Running", plan.unique(), |bar| run::run_all(&plan, bar))) {
            Ok(rows) => rows,
            Err(error) => return interrupted(error),
        };
        let timings = timings(&plan, self.common.threads(), started);

        // Runs on a front are run once more to be looked at.
        let on_fronts = self.cells_on_fronts(&plan, &rows)?;
        let series = match pool.install(|| self.watched("Drawing", &on_fronts, |bar| series::of_cells(&plan, &on_fronts, bar))) {
            Ok(series) => series,
            Err(error) => return interrupted(error),
        };

        tables::store_runs(dir.path(), &rows, &series)?;
        let manifest = Manifest::new(&plan, &rows, command_line(), timings);
        write_json(&dir.file(MANIFEST), &manifest)?;
        if is_interrupted() {
            let dir = dir.path().display();
            eprintln!("interrupted: the runs are stored in {dir}, `scalefront report {dir}` makes the report");
            return Ok(Exit::Interrupted);
        }
        let summary = tables::build_report(dir.path(), self.style)?;
        if !self.common.quiet {
            println!("{}", summary.trim_end());
        }
        Ok(self.exit(&manifest, &rows))
    }

    /// Does `work` on `cells` with a progress bar.
    fn watched<T>(&self, what: &'static str, cells: &[u64], work: impl FnOnce(&Bar) -> T) -> T {
        let bar = Bar::new(what, cells.len(), self.common.quiet);
        let done = work(&bar);
        bar.finish();
        done
    }

    fn cells_on_fronts(&self, plan: &Plan, rows: &[RunRow]) -> Result<Vec<u64>> {
        let ids: BTreeSet<String> = tables::front_run_ids(rows, &plan.grid.objectives)?.into_iter().collect();
        let is_on_front = |row: &RunRow| matches!(row.get("run_id"), Some(Scalar::Text(id)) if ids.contains(id));
        Ok(rows.iter().zip(plan.unique()).filter(|(row, _)| is_on_front(row)).map(|(_, &index)| index).collect())
    }

    fn exit(&self, manifest: &Manifest, rows: &[RunRow]) -> Exit {
        if manifest.runs_failed == 0 {
            return Exit::Done;
        }
        let first = rows.iter().find_map(|row| match (row.get("run_id"), row.get("error")) {
            (Some(Scalar::Text(id)), Some(Scalar::Text(error))) => Some(format!("run {id}: {error}")),
            _ => None,
        });
        eprintln!("error: {} of {} runs failed; the first: {}", manifest.runs_failed, rows.len(), first.unwrap_or_default());
        Exit::SomeRunsFailed
    }
}

fn timings(plan: &Plan, threads: usize, started: Instant) -> Timings {
    let wall_s = started.elapsed().as_secs_f64();
    let finished_at = chrono::DateTime::<chrono::Utc>::from(SystemTime::now());
    Timings {
        threads,
        wall_s,
        runs_per_s: plan.unique().len() as f64 / wall_s,
        requests_per_s: plan.total_requests() as f64 / wall_s,
        finished_at: finished_at.format("%Y-%m-%dT%H:%M:%SZ").to_string(),
    }
}

fn command_line() -> String {
    let arguments = std::env::args_os().skip(1).map(|argument| argument.to_string_lossy().into_owned());
    ["scalefront".to_string()].into_iter().chain(arguments).collect::<Vec<_>>().join(" ")
}
