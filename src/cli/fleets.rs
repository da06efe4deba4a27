//! `scalefront hardware validate` on runs in which the fleet scaled.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use scalefront::files::make_directory;
use scalefront::files::write_atomically;
use scalefront::hardware::{OverheadSettings, Overheads};
use scalefront::sweep::plan::hardware_files::hardware_files;
use scalefront::validation::fleet::{self, Answer, FleetReplay, FleetRun, Limit, Steps};

use super::tables;

/// Median over all runs of the errors of these, at most.
const OVER_RUNS: [&str; 3] = ["e2e_p50", "e2e_p90", "e2e_p99"];
const MOST_OVER_RUNS: f64 = 0.025;

/// One answer with the run and the question it belongs to.
struct Line {
    run: String,
    about: &'static str,
    answer: Answer,
}

/// Runs as folders hold them, those with `only` in their id; `overheads` are fitted to the other runs if none
/// are given.
pub fn validate(
    folders: &[PathBuf],
    only: Option<&str>,
    overheads: Option<&OverheadSettings>,
    seeds: u64,
    dir: &Path,
    out: &mut String,
) -> Result<()> {
    let runs = folders.iter().map(|folder| FleetRun::read(folder)).collect::<Result<Vec<_>>>()?;
    let shipped: OverheadSettings = serde_json::from_str("\"calibrated\"").expect("settings that exist");
    let mut replays = Vec::new();
    for run in &runs {
        match FleetReplay::new(run) {
            Ok(replay) => replays.push(replay),
            Err(reason) => writeln!(out, "{}: skipped: {reason}", run.description.id)?,
        }
    }
    let starts = fleet::starts(&runs);
    let mut lines: Vec<Line> = Vec::new();
    let mut pictures = Vec::new();
    // Runs without single requests all have the same others.
    let mut fits: Vec<(Vec<&str>, Overheads)> = Vec::new();
    for replay in
        replays.iter().filter(|replay| only.is_none_or(|part| replay.run.description.id.contains(part)))
    {
        let run = replay.run;
        let id = &run.description.id;
        writeln!(out, "\n{id}")?;
        let others: Vec<&FleetReplay> = replays
            .iter()
            .filter(|other| other.run.description.id != *id && alike(other.run, run))
            .filter(|other| !other.run.requests.is_empty() || !other.run.counters.is_empty())
            .collect();
        let own = match overheads {
            Some(settings) => {
                writeln!(out, "  overheads: `{}`, as asked", settings.name())?;
                replay.resolve(settings, &hardware_files(&[]))?
            }
            None if others.is_empty() => {
                writeln!(
                    out,
                    "  overheads: `calibrated`, as no other run of this engine has single requests or counted steps to fit to"
                )?;
                replay.resolve(&shipped, &hardware_files(&[]))?
            }
            None => {
                let names: Vec<&str> = others.iter().map(|other| other.run.description.id.as_str()).collect();
                let fit = match fits.iter().find(|(known, _)| *known == names) {
                    Some((_, fit)) => *fit,
                    None => fleet::fit(&others, &replay.resolve(&shipped, &hardware_files(&[]))?)?,
                };
                fits.push((names.clone(), fit));
                let Overheads {
                    kernel_time_factor,
                    step_ms,
                    per_sequence_us,
                    api_ms,
                    prefill_us_per_token,
                    ..
                } = fit;
                writeln!(
                    out,
                    "  overheads: fitted to {}: kernels x {kernel_time_factor:.4}, {step_ms:.3} ms a step, {per_sequence_us:.1} us a sequence, \
                     {prefill_us_per_token:.2} us a prompt token, {api_ms:.1} ms of API",
                    names.join(", ")
                )?;
                fit
            }
        };
        let mut tell = |out: &mut String, about: &'static str, answers: Vec<Answer>| -> Result<()> {
            print(out, about, &answers)?;
            lines.extend(answers.into_iter().map(|answer| Line { run: id.clone(), about, answer }));
            Ok(())
        };
        tell(out, "step times", fleet::step_times(replay, &own))?;
        let mut curves: Vec<(String, Steps)> = vec![("measured".into(), run.serving.clone())];
        if !run.requests.is_empty() && !run.serving.is_empty() {
            let (_, answers) = fleet::open_loop(replay, &own)?;
            tell(out, "open loop", answers)?;
            match starts {
                None => writeln!(
                    out,
                    "  closed loop: cannot be told: no run says how long a start takes (`boot.desired_to_ready`)"
                )?,
                Some(starts) => match fleet::closed_loop(replay, starts, &own, seeds)? {
                    Ok((simulated, answers)) => {
                        tell(out, "closed loop", answers)?;
                        curves.push(("closed loop, simulated".into(), simulated.serving()));
                    }
                    Err(reason) => writeln!(out, "  closed loop: cannot be told: {reason}")?,
                },
            }
        }
        run.missing.iter().for_each(|open| *out += &format!("  not on record: {open}\n"));
        pictures.push((id.clone(), curves, run.ends_at_s()));
    }
    if lines.is_empty() {
        bail!("none of {} runs can be simulated and was asked for\n{out}", folders.len());
    }
    over_runs(out, &lines)?;
    store(out, &lines, dir)?;
    for (id, curves, ends_s) in pictures.iter().filter(|(_, curves, _)| curves.len() > 1) {
        if let Some(picture) = tables::draw_fleet(id, curves, *ends_s, dir)? {
            writeln!(out, "Picture: {}", picture.display())?;
        }
    }
    Ok(())
}

/// Whether two runs are of one engine, so that one tells of the other.
fn alike(one: &FleetRun, other: &FleetRun) -> bool {
    let engine = |run: &FleetRun| {
        run.description
            .engine
            .as_ref()
            .map(|engine| (engine.model.clone(), engine.gpu.clone(), engine.tensor_parallel))
    };
    engine(one) == engine(other)
}

fn print(out: &mut String, about: &str, answers: &[Answer]) -> Result<()> {
    if answers.is_empty() {
        return Ok(());
    }
    writeln!(out, "  {about:28}  {:>10}  {:>10}  {:>8}  allowed", "measured", "simulated", "error")?;
    for answer in answers {
        let Answer { question, unit, measured, simulated, limit } = answer;
        let allowed = match limit {
            Limit::Share(share) => format!("{:.0} %", 100.0 * share),
            Limit::Seconds(seconds) => format!("{seconds} s"),
            Limit::None => String::new(),
        };
        let verdict = answer.passes().map_or("", |passes| if passes { "PASS" } else { "FAIL" });
        let name = format!("{question}, {unit}");
        writeln!(
            out,
            "    {name:26}  {measured:10.3}  {simulated:10.3}  {:+6.1} %  {allowed:>6}  {verdict}",
            100.0 * answer.error()
        )?;
    }
    Ok(())
}

/// The median over all runs of what each is judged by.
fn over_runs(out: &mut String, lines: &[Line]) -> Result<()> {
    let is_open =
        |line: &&Line| line.about == "open loop" && OVER_RUNS.contains(&line.answer.question.as_str());
    let mut errors: Vec<f64> = lines.iter().filter(is_open).map(|line| line.answer.error().abs()).collect();
    errors.sort_by(f64::total_cmp);
    if errors.len() > OVER_RUNS.len() {
        let median = 0.5 * (errors[errors.len() / 2] + errors[(errors.len() - 1) / 2]);
        let verdict = if median <= MOST_OVER_RUNS { "PASS" } else { "FAIL" };
        writeln!(
            out,
            "\nOpen loop, P50, P90 and P99 of end-to-end latency over all runs: median error {:.1} % (at most {:.1} %: {verdict}), worst {:.1} %",
            100.0 * median,
            100.0 * MOST_OVER_RUNS,
            100.0 * errors[errors.len() - 1]
        )?;
    }
    let judged = lines.iter().filter_map(|line| line.answer.passes());
    let (passed, all) = (judged.clone().filter(|passes| *passes).count(), judged.count());
    writeln!(out, "{passed} of {all} questions PASS")?;
    Ok(())
}

fn store(out: &mut String, lines: &[Line], dir: &Path) -> Result<()> {
    make_directory(dir).with_context(|| format!("{}: cannot create", dir.display()))?;
    let table = dir.join("fleets.csv");
    write_atomically(&table, |file| {
        writeln!(file, "run,about,question,unit,measured,simulated,error_percent,passes")?;
        for Line { run, about, answer } in lines {
            let Answer { question, unit, measured, simulated, .. } = answer;
            let passes = answer.passes().map_or(String::new(), |passes| passes.to_string());
            writeln!(
                file,
                "{run},{about},{question},{unit},{measured:.6},{simulated:.6},{:.3},{passes}",
                100.0 * answer.error()
            )?;
        }
        Ok(())
    })?;
    writeln!(out, "\nTable: {}", table.display())?;
    Ok(())
}
