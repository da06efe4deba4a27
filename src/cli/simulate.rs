//! `scalefront simulate`: one run, with everything that happened in it.

use std::path::PathBuf;

use anyhow::{Context, Result, anyhow, bail};
use scalefront::autoscaler::upstream::PolicyRecord;
use scalefront::files::make_directory;
use scalefront::files::{write_atomically, write_json};
use scalefront::simulation::metric::QUANTITIES;
use scalefront::simulation::{Limits, Workspace};
use scalefront::sweep::answers::shadow::scrape;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::{self, chrome_trace, outcome, series};
use scalefront::sweep::store::{MANIFEST, ResultsDir};

use super::common::{CommonArgs, catch_interrupts, is_interrupted, say, warn};
use super::tables::Format;
use super::{Exit, tables};

/// Simulate one run (a grid without axes), with per-request and per-batch detail
#[derive(Debug, clap::Args)]
pub struct Args {
    /// A grid file without axes and with one seed; looked for under sweeps/ too
    run: PathBuf,

    /// Format of requests, batches and replicas
    #[arg(long, value_enum, default_value_t = Format::Csv)]
    format: Format,

    /// Also write the run as a timeline for Perfetto: chrome_trace.json
    #[arg(long)]
    chrome_trace: bool,

    /// Also write replicas, queue, arrival rate and the latency distribution as curves: series.csv or
    /// .parquet
    #[arg(long)]
    time_series: bool,

    /// Also write what Prometheus would have recorded, scraping every so many seconds: metrics/*.json, as
    /// `shadow` reads them
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "15", value_parser = interval, allow_negative_numbers = true)]
    prometheus: Option<f64>,

    #[command(flatten)]
    common: CommonArgs,
}

fn interval(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|s: &f64| s.is_finite() && *s >= 0.001)
        .ok_or_else(|| "expected a number of seconds of at least 0.001".into())
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let mut grid = Grid::read(&self.run)?;
        grid.offset_seeds(self.common.seed_offset).map_err(|error| anyhow!(error))?;
        if grid.count() != 1 {
            bail!(
                "{}: {} runs found, `simulate` takes one; give one value to {}, or use `scalefront sweep`",
                grid.source.file,
                grid.count(),
                grid.multiples().join(", ")
            );
        }
        let plan = self.common.pool()?.install(|| Plan::new(grid))?;
        if !self.common.quiet {
            warn(&plan.doubts());
        }
        catch_interrupts()?;
        let dir = ResultsDir::open(&self.common.out(&plan.grid.name), &plan.grid.as_given)?;
        tables::check_available()?;
        let cell = plan.cell(0);
        let limits = Limits { give_up: Some(&is_interrupted), ..Limits::default() };
        let run = run::run_cell_in_detail(&cell, &plan.inputs, limits, &mut Workspace::default());
        if is_interrupted() {
            eprintln!("interrupted: nothing was stored");
            return Ok(Exit::Interrupted);
        }
        let (metrics, detail) = run.map_err(|error| anyhow!(error))?;
        tables::store_detail(dir.path(), &detail, self.format)?;
        if self.time_series {
            tables::store_series(
                dir.path(),
                &series::of_detail(&detail, metrics.simulated_s, &QUANTITIES.each_ref()),
                self.format,
            )?;
        }
        if let Some(interval_s) = self.prometheus {
            let metrics_dir = dir.file("metrics");
            make_directory(&metrics_dir)
                .with_context(|| format!("{}: cannot make the directory", metrics_dir.display()))?;
            for (name, value) in scrape::of_detail(&detail, metrics.simulated_s, interval_s) {
                write_json(&metrics_dir.join(name), &value)?;
            }
        }
        if self.chrome_trace {
            write_atomically(&dir.file("chrome_trace.json"), |out| Ok(chrome_trace::write(&detail, out)?))?;
        }
        let remarks = metrics.remarks(cell.cluster.max_replicas);
        let summary = outcome::row(&plan, &cell, Ok(metrics)).to_json();
        write_json(&dir.file("summary.json"), &summary)?;
        self.remove_stale(
            &dir,
            plan.inputs.workloads.iter().any(|workload| workload.content.sessions.is_some()),
        )?;
        if !self.common.quiet {
            eprintln!("{}", PolicyRecord::new(&cell.family, &cell.autoscaler));
            remarks.iter().for_each(|remark| eprintln!("{remark}"));
            say(format!("{summary:#}"))?;
        }
        Ok(Exit::Done)
    }

    /// Removes what an earlier run left that this one did not write: it would pass for this one's. A sweep's
    /// tables stay.
    fn remove_stale(&self, dir: &ResultsDir, has_turns: bool) -> Result<()> {
        if dir.file(MANIFEST).exists() {
            return Ok(());
        }
        let (kept, other) = match self.format {
            Format::Csv => ("csv", "parquet"),
            Format::Parquet => ("parquet", "csv"),
        };
        let mut stale: Vec<String> = ["requests", "batches", "replicas", "decisions", "series"]
            .iter()
            .map(|table| format!("{table}.{other}"))
            .collect();
        stale.extend((!self.time_series).then(|| format!("series.{kept}")));
        stale.extend((!has_turns).then(|| format!("turns.{kept}")));
        stale.push(format!("turns.{other}"));
        stale.extend((!self.chrome_trace).then(|| "chrome_trace.json".to_owned()));
        for path in stale.iter().map(|name| dir.file(name)).filter(|path| path.exists()) {
            std::fs::remove_file(&path)
                .with_context(|| format!("{}: cannot remove what an earlier run left", path.display()))?;
        }
        Ok(())
    }
}
