//! `scalefront recommend`: the cheapest setting that keeps the limits, and how to apply it; or the largest
//! load that settings carry.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow, bail, ensure};
use scalefront::files::shell_path;
use scalefront::files::write_json;
use scalefront::sweep::answers::recommend::{self, Ended, FILE, Size, load, refine};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Progress;
use scalefront::sweep::store::{MANIFEST, ResultsDir};
use scalefront::sweep::tables::names::counted;
use serde_json::{Value, json};

use super::Exit;
use super::common::{Bar, CommonArgs, catch_interrupts, command_line, is_interrupted, say, warn, watched};

/// What `--largest-load` leaves behind.
const LOADS: &str = "largest_load.json";

/// Search the cheapest setting of a grid that keeps its limits, instead of running all of them
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The grid file, with limits in objectives.constraints; looked for under sweeps/ too
    grid: PathBuf,

    /// Runs the search may take [default: a tenth of the grid's, at least 40]
    #[arg(long, value_name = "RUNS", value_parser = at_least_one)]
    budget: Option<usize>,

    /// End after so many minutes too; where that is, and so the answer, depends on the machine
    #[arg(long, value_name = "MINUTES", value_parser = minutes, allow_negative_numbers = true)]
    minutes: Option<Duration>,

    /// A limit beside those of the grid, or instead of one, such as p99_ttft_s=2; may be given several times
    #[arg(long = "limit", value_name = "METRIC=VALUE", value_parser = limit)]
    limits: Vec<(String, f64)>,

    /// Only this workload of the grid; may be given several times
    #[arg(long = "workload", value_name = "NAME")]
    workloads: Vec<String>,

    /// Look at N times as many places between the points of a range; 1 takes those of the grid alone
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u64).range(1..=1000))]
    refine: u64,

    /// Instead, find for each setting of the grid the largest load that it carries within the limits, most
    /// requests for the money first
    #[arg(long, conflicts_with_all = ["budget", "minutes"])]
    largest_load: bool,

    /// How close --largest-load comes, as a share of the load
    #[arg(long, value_name = "SHARE", default_value_t = 0.02, value_parser = share, allow_negative_numbers = true)]
    precision: f64,

    #[command(flatten)]
    common: CommonArgs,
}

fn at_least_one(text: &str) -> Result<usize, String> {
    text.parse().ok().filter(|runs| *runs > 0).ok_or_else(|| "expected a whole number of at least 1".into())
}

fn minutes(text: &str) -> Result<Duration, String> {
    let seconds = text.parse::<f64>().ok().filter(|minutes| *minutes > 0.0).map(|minutes| 60.0 * minutes);
    seconds
        .and_then(|s| Duration::try_from_secs_f64(s).ok())
        .ok_or_else(|| "expected a number of minutes above 0".into())
}

fn share(text: &str) -> Result<f64, String> {
    text.parse()
        .ok()
        .filter(|share| (1e-6..=1.0).contains(share))
        .ok_or_else(|| "expected a number from 0.000001 to 1".into())
}

fn limit(text: &str) -> Result<(String, f64), String> {
    let parts = text
        .split_once('=')
        .and_then(|(metric, value)| Some((metric.trim().to_owned(), value.trim().parse::<f64>().ok()?)));
    parts
        .filter(|(_, value)| value.is_finite())
        .ok_or_else(|| "expected a metric and its limit, such as p99_ttft_s=2".into())
}

/// A bar, and a time to end at.
struct Until<'a> {
    bar: &'a Bar,
    deadline: Option<Instant>,
}

impl Progress for Until<'_> {
    fn run_ended(&self, requests: u64) {
        self.bar.run_ended(requests);
    }

    fn is_interrupted(&self) -> bool {
        self.bar.is_interrupted() || self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

impl Args {
    pub fn run(&self) -> Result<Exit> {
        let started = Instant::now();
        let mut given = Grid::read(&self.grid)?;
        given.offset_seeds(self.common.seed_offset).map_err(|error| anyhow!(error))?;
        let given = refine::parsed(&given, &self.with_flags(&given)?)?;
        let grid = if self.largest_load { given.clone() } else { refine::refined(&given, self.refine)? };
        let pool = self.common.pool()?;
        let plan = pool.install(|| Plan::new(grid))?;
        recommend::check(&plan)?;
        if !self.common.quiet {
            warn(&plan.doubts());
        }
        catch_interrupts()?;
        let out = self.common.out(&format!("{}_recommended", plan.grid.name));
        ensure!(
            !out.join(MANIFEST).exists(),
            "{}: holds the results of a sweep, which a search would mix with its own; choose another directory with --out",
            out.display()
        );
        let dir = ResultsDir::open(&out, &plan.grid.as_given)?;
        if self.largest_load {
            return pool.install(|| self.loads(&plan, &dir));
        }
        // As many as the grid asks for as it was written: what is refined is not a reason to take longer.
        let as_written =
            if self.refine == 1 { Size::of(&plan) } else { Size::of(&pool.install(|| Plan::new(given))?) };
        let budget = self
            .budget
            .unwrap_or_else(|| recommend::default_budget(as_written.runs))
            .min(plan.unique().len());
        let deadline = self.minutes.map(|minutes| started + minutes);
        let mut found = pool.install(|| {
            watched(&self.common, "Searching", budget, |bar| {
                recommend::search(&plan, dir.path(), budget, &Until { bar, deadline })
            })
        })?;
        let interrupted = is_interrupted();
        if found.ended == Ended::Interrupted && !interrupted {
            found.ended = Ended::Time;
        }
        found.as_written = as_written;
        let shown = shell_path(dir.path());
        let apply = found.best.as_ref().map(|best| recommend::apply(best, &plan, &shown));
        if let Some(best) = found.best.as_ref().filter(|_| !interrupted) {
            let tried = watched(&self.common, "Trying", recommend::trials::count(&plan), |bar| {
                pool.install(|| recommend::trials::of(&plan, best, bar))
            });
            found.trials = tried.unwrap_or_default();
        }
        let mut answer = found.to_json(apply.as_deref());
        answer["provenance"]["command"] = command_line().into();
        write_json(&dir.file(FILE), &answer)?;
        if !self.common.quiet {
            say(&found)?;
            if let Some(apply) = apply {
                say(format!("Apply: {apply}"))?;
            }
        }
        if interrupted || is_interrupted() {
            eprintln!("interrupted: the best so far is in {shown}; the same command goes on");
            return Ok(Exit::Interrupted);
        }
        Ok(Exit::Done)
    }

    /// The grid as given, with the limits and workloads that were asked for.
    fn with_flags(&self, grid: &Grid) -> Result<Value> {
        let mut value = grid.as_given.clone();
        for (place, (metric, limit)) in self.limits.iter().enumerate() {
            let given_before = self.limits[..place].iter().any(|(before, _)| before == metric);
            ensure!(!given_before, "--limit {metric}: found twice, expected one limit a metric");
            if !value["objectives"].is_object() {
                value["objectives"] = json!({});
            }
            let objectives = &mut value["objectives"];
            if !objectives["constraints"].is_object() {
                objectives["constraints"] = json!({});
            }
            objectives["constraints"][metric] = json!(limit);
        }
        if !self.workloads.is_empty() {
            let all = value["workloads"].as_array_mut().into_iter().flatten();
            let names: Vec<String> =
                all.filter_map(|workload| workload["name"].as_str().map(str::to_owned)).collect();
            for wanted in &self.workloads {
                let known: Vec<&str> = names.iter().map(String::as_str).collect();
                ensure!(
                    names.contains(wanted),
                    "--workload: `{wanted}` found, expected one of {}",
                    scalefront::settings::quoted(&known)
                );
            }
            if let Some(all) = value["workloads"].as_array_mut() {
                all.retain(|workload| {
                    self.workloads.iter().any(|wanted| workload["name"] == wanted.as_str())
                });
            }
        }
        Ok(value)
    }

    fn loads(&self, plan: &Plan, dir: &ResultsDir) -> Result<Exit> {
        if let Some(streamed) =
            plan.inputs.workloads.iter().find(|workload| workload.content.streamed.is_some())
        {
            bail!("workload `{}`: too many requests to be scaled; shorten it", streamed.summary.name);
        }
        let settings: usize = recommend::space::arms(&plan.grid).iter().map(|arm| arm.len()).sum();
        // Doubling and halving take about so many loads each.
        let found = watched(&self.common, "Loading", settings * 9, |bar| {
            load::largest(plan, dir.path(), self.precision, bar)
        })?;
        let answer = json!({
            "precision": self.precision,
            "finished": found.finished(),
            "settings_in_all": found.settings,
            "settings": found.carried.iter().map(load::Carried::to_json).collect::<Vec<_>>(),
            "provenance": {"grid_file": plan.grid.source.file, "grid": plan.grid.as_given, "command": command_line(),
                "results_version": scalefront::RESULTS_VERSION},
        });
        write_json(&dir.file(LOADS), &answer)?;
        if !self.common.quiet {
            for carried in &found.carried {
                say(carried.line())?;
            }
            say(format!("Look at {}", dir.file(LOADS).display()))?;
        }
        if !found.finished() {
            let done = found.carried.iter().filter(|carried| carried.finished).count();
            eprintln!(
                "interrupted: what is known so far ({done} of {} found) is in {}; the same command goes on",
                counted(found.settings, "setting"),
                shell_path(dir.path())
            );
            return Ok(Exit::Interrupted);
        }
        Ok(Exit::Done)
    }
}
