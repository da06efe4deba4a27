//! From runs that have ended to a results directory: fronts, curves, tables, report. Sweeps end so, and
//! merged shards.

use std::time::{Instant, SystemTime};

use anyhow::Result;
use scalefront::files::shell_path;
use scalefront::files::write_json;
use scalefront::sweep::answers::robustness::{self, Chosen};
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::Interrupted;
use scalefront::sweep::run::estimate::duration;
use scalefront::sweep::run::journal::{self, Recorded};
use scalefront::sweep::run::kept_curves;
use scalefront::sweep::run::kept_curves::KeptCurves;
use scalefront::sweep::run::pools;
use scalefront::sweep::run::turns;
use scalefront::sweep::store::manifest::{Manifest, Timings, setting_columns};
use scalefront::sweep::store::{MANIFEST, POOLS, RUNS, ResultsDir, SERIES, read_manifest};
use scalefront::sweep::tables::checksum::Checksum;

use super::Exit;
use super::common::{CommonArgs, command_line, is_interrupted, say, watched};
use super::searches::Searches;
use super::tables::{self, Style};

/// How a sweep is to be finished.
pub struct Finishing<'a> {
    pub common: &'a CommonArgs,
    pub searches: &'a Searches,
    pub style: Style,
    /// Runs whose curves are drawn, at most.
    pub most_curves: usize,
    /// Whether the settings of verdicts are tried under a little other circumstances.
    pub robustness: bool,
    pub started: Instant,
}

/// Stores everything about a sweep all of whose runs have ended, of some of which curves were `kept`. The
/// journal in `dir`, if there is one, has then done its work and goes.
pub fn finish(
    plan: &Plan,
    recorded: &mut Recorded,
    kept: KeptCurves,
    dir: &ResultsDir,
    how: &Finishing,
) -> Result<Exit> {
    let timings = timings(plan, how.common.threads(), how.started);
    let columns =
        tables::store_runs(dir.path(), plan.unique().len(), |places| recorded.rows_at(plan, places))?;
    tables::store_pools(dir.path(), &pools::rows(plan, recorded)?)?;
    if let Some(exit) = judge(plan, &columns, recorded.failed, kept, timings, dir, how)? {
        return Ok(exit);
    }
    exit(plan, recorded)
}

/// Judges the stored runs of a finished sweep by the plan's objectives, which are others than those of
/// `manifest`.
pub fn judge_again(plan: &Plan, manifest: &Manifest, dir: &ResultsDir, how: &Finishing) -> Result<Exit> {
    if manifest.objectives.group_by != plan.grid.objectives.group_by {
        tables::regroup_runs(dir.path(), &plan.grid.objectives.group_by)?;
    }
    let (columns, timings) = (&manifest.setting_columns, manifest.timings.clone());
    if let Some(exit) = judge(plan, columns, manifest.runs_failed, KeptCurves::default(), timings, dir, how)?
    {
        return Ok(exit);
    }
    exit_of(manifest)
}

/// Curves, manifest, edge and report of stored runs. An exit if that ended early.
fn judge(
    plan: &Plan,
    columns: &[String],
    runs_failed: usize,
    mut kept: KeptCurves,
    mut timings: Timings,
    dir: &ResultsDir,
    how: &Finishing,
) -> Result<Option<Exit>> {
    let (shown, out) = (dir.path().display(), shell_path(dir.path()));
    let (common, began) = (how.common, Instant::now());
    // Of runs that all failed there is nothing to show but why.
    let any_ok = runs_failed < plan.unique().len();
    let drawn = if any_ok {
        tables::rows_with_curves(dir.path(), &plan.grid.objectives, how.most_curves)?
    } else {
        Vec::new()
    };
    // Rows are in the order of the plan. Of most runs curves were kept; others, such as those before a sweep
    // was resumed, are run once more.
    let again = drawn.iter().filter(|&&place| !kept.holds(place)).count();
    let series = match watched(common, "Drawing", again, |bar| {
        kept_curves::of_runs(plan, &drawn, &mut kept, bar)
    }) {
        Ok(series) => series,
        Err(Interrupted) => {
            eprintln!(
                "interrupted: all runs are stored, but no report; the same command goes on, a sweep with --resume"
            );
            return Ok(Some(Exit::Interrupted));
        }
    };
    tables::store_curves(dir.path(), &series)?;
    let of_sessions = turns::places_of_sessions(plan, &drawn);
    let told = watched(common, "Telling turns apart", of_sessions.len(), |bar| {
        turns::of_runs(plan, &of_sessions, bar)
    });
    let Ok(told) = told else {
        eprintln!(
            "interrupted: all runs are stored, but no report; the same command goes on, a sweep with --resume"
        );
        return Ok(Some(Exit::Interrupted));
    };
    tables::store_turns(dir.path(), &told)?;
    (timings.curves, timings.curves_s) = (again, began.elapsed().as_secs_f64());
    let began = Instant::now();
    let chosen = if any_ok && how.robustness {
        tables::chosen(dir.path(), &plan.grid.objectives, &setting_columns(columns))?
    } else {
        Vec::new()
    };
    let chosen: Vec<Chosen> = chosen
        .into_iter()
        .map(|(role, rows)| Chosen { role, cells: rows.into_iter().map(|row| plan.unique()[row]).collect() })
        .collect();
    let count = robustness::count(plan, &chosen);
    let trials = match watched(common, "Testing robustness", count, |bar| {
        robustness::test(plan, &chosen, bar)
    }) {
        Ok(trials) => trials,
        Err(Interrupted) => {
            eprintln!(
                "interrupted: all runs are stored, but no report; the same command goes on, a sweep with --resume"
            );
            return Ok(Some(Exit::Interrupted));
        }
    };
    tables::store_robustness(dir.path(), &trials)?;
    (timings.trials, timings.trials_s) = (count, began.elapsed().as_secs_f64());
    let checksum = |name: &str| Ok((name.to_owned(), Checksum::of_file(&dir.file(name))?));
    let tested = (!trials.is_empty()).then_some(robustness::TABLE);
    let of_pools = dir.file(POOLS).exists().then_some(POOLS);
    let stored =
        [RUNS, SERIES].into_iter().chain(tested).chain(of_pools).map(checksum).collect::<Result<_>>()?;
    let manifest = Manifest::new(plan, columns, runs_failed, stored, command_line(), timings);
    write_json(&dir.file(MANIFEST), &manifest)?;
    if journal::is_in(dir.path()) {
        journal::remove(dir.path())?;
    }
    if how.searches.run(plan, dir, common)?.is_err() {
        eprintln!(
            "interrupted: the runs are stored in {shown}, `scalefront oracle {out}` searches, `scalefront report {out}` makes the report"
        );
        return Ok(Some(Exit::Interrupted));
    }
    if is_interrupted() {
        eprintln!("interrupted: the runs are stored in {shown}, `scalefront report {out}` makes the report");
        return Ok(Some(Exit::Interrupted));
    }
    if any_ok {
        report(dir, common, how.style)?;
        if !common.quiet {
            say(format!(
                "{} in all, planning, curves, robustness and report included",
                duration(how.started.elapsed().as_secs_f64())
            ))?;
        }
    }
    Ok(None)
}

/// For a sweep that had been finished: the report alone.
pub fn report_again(dir: &ResultsDir, common: &CommonArgs, style: Style) -> Result<Exit> {
    let manifest = read_manifest(&dir.file(MANIFEST))?;
    if manifest.runs_ok > 0 {
        report(dir, common, style)?;
    }
    exit_of(&manifest)
}

/// Says how many runs failed, if any did.
fn exit_of(manifest: &Manifest) -> Result<Exit> {
    if manifest.runs_failed == 0 {
        return Ok(Exit::Done);
    }
    eprintln!("error: {} of {} runs failed", manifest.runs_failed, manifest.runs_planned);
    Ok(Exit::SomeRunsFailed)
}

fn report(dir: &ResultsDir, common: &CommonArgs, style: Style) -> Result<()> {
    let summary = tables::build_report(dir.path(), style)?;
    if !common.quiet {
        say(summary.trim_end())?;
    }
    Ok(())
}

/// Says how many runs failed, if any did.
pub fn exit(plan: &Plan, recorded: &mut Recorded) -> Result<Exit> {
    let Some((run_id, error)) = first_failure(plan, recorded)? else {
        return Ok(Exit::Done);
    };
    eprintln!(
        "error: {} of {} runs failed; the first: run {run_id}: {error}",
        recorded.failed,
        recorded.len()
    );
    Ok(Exit::SomeRunsFailed)
}

/// Id and message of the first run that failed, in the plan's order.
pub fn first_failure(plan: &Plan, recorded: &mut Recorded) -> Result<Option<(String, String)>> {
    if recorded.failed == 0 {
        return Ok(None);
    }
    for (place, &index) in plan.unique().iter().enumerate() {
        if recorded.holds(place)
            && let Err(error) = recorded.outcome(place)?
        {
            return Ok(Some((plan.id(&plan.cell(index)), error)));
        }
    }
    Ok(None)
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
        curves: 0,
        curves_s: 0.0,
        trials: 0,
        trials_s: 0.0,
    }
}
