//! `scalefront shadow`: recorded metrics in; what each policy would have done, beside what was done.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow};
use scalefront::files::write_json;
use scalefront::sweep::answers::recommend::refine::parsed;
use scalefront::sweep::answers::shadow::{self, ANSWER, GRID, TRACE, rebuild, recording};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::run::Interrupted;
use scalefront::sweep::store::ResultsDir;
use scalefront::workload::formats::TraceFormat;

use super::Exit;
use super::common::{CommonArgs, catch_interrupts, say, watched};

/// Replay recorded metrics of a service, and run every policy of a grid on the same traffic: what it would
/// have cost, saved and broken
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Results of Prometheus' query_range (.json) or tables (.csv): a file, or a directory of them
    recorded: PathBuf,

    /// A grid file with the policies and the cluster that was recorded; its workloads give way to the record
    grid: PathBuf,

    /// Seconds of traffic in a second of the record, where a replay of it ran faster
    #[arg(long, value_name = "FACTOR", default_value_t = 1.0, value_parser = factor, allow_negative_numbers = true)]
    time_scale: f64,

    #[command(flatten)]
    common: CommonArgs,
}

fn factor(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|factor: &f64| factor.is_finite() && *factor > 0.0)
        .ok_or_else(|| "expected a number above 0".into())
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let mut given = Grid::read(&self.grid)?;
        given.offset_seeds(self.common.seed_offset).map_err(|error| anyhow!(error))?;
        let record = recording::read(&self.recorded, self.time_scale).map_err(|error| anyhow!(error))?;
        let workload = rebuild::workload(&record, given.seeds[0]);
        if workload.is_empty() {
            return Err(anyhow!(
                "{}: no request arrived in it, expected at least one",
                self.recorded.display()
            ));
        }
        catch_interrupts()?;
        let value = shadow::grid_on(&given, &record);
        let name = value["name"].as_str().unwrap_or("shadow").to_owned();
        let dir = ResultsDir::open(&self.common.out(&name), &value)?;
        TraceFormat::Vidur.write(&workload, &dir.file(TRACE))?;
        // A grid to sweep on: beside the requests it names.
        write_json(&dir.file(GRID), &value)?;
        given.base_dirs.insert(0, dir.path().to_path_buf());
        let grid = parsed(&given, &value)?;
        let runs = grid.count() as usize + 1;
        let pool = self.common.pool()?;
        let ended =
            pool.install(|| watched(&self.common, "Replaying", runs, |bar| shadow::run(&grid, &record, bar)));
        let found =
            match ended.map_err(|error| anyhow!(error)).context("nothing was stored but the requests")? {
                Ok(found) => found,
                Err(Interrupted) => {
                    eprintln!("interrupted: nothing was stored but the requests and the grid");
                    return Ok(Exit::Interrupted);
                }
            };
        write_json(&dir.file(ANSWER), &found.to_json(&value))?;
        if !self.common.quiet {
            say(&found)?;
            say(format!(
                "Look at {}; `scalefront sweep {}` draws fronts",
                dir.file(ANSWER).display(),
                dir.file(GRID).display()
            ))?;
        }
        Ok(if found.policies.iter().any(|run| run.error.is_some()) {
            Exit::SomeRunsFailed
        } else {
            Exit::Done
        })
    }
}
