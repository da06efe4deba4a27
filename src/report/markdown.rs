//! `summary.md`: the result in a form that pastes into an issue or a paper.

use std::fmt::Write;

use super::names::{
    counted, grouped, label, markdown as escape, percent, quantity, short_setting, significant,
};
use super::plots::Plots;
use super::study::Study;
use super::terminal::{edge_note, informed_note, informed_share, plus_minus, regret, share_plus_minus};
use super::verdict::{self, to_markdown, to_markdown_cell};
use super::{pools, remarks};
use crate::analysis::scores::Score;
use crate::autoscaler::upstream::PolicyRecord;

/// Effects listed per workload.
const MAX_EFFECTS: usize = 6;
/// Values of settings listed per workload.
const MAX_CONTRIBUTIONS: usize = 8;
/// Reasons of failure listed.
const MAX_FAILURES: usize = 10;

pub fn summary(study: &Study, plots: &Plots) -> String {
    let mut out = String::new();
    write_summary(study, plots, &mut out).expect("writing to a string does not fail");
    out
}

fn write_summary(study: &Study, plots: &Plots, out: &mut String) -> std::fmt::Result {
    let (manifest, analysis) = (&study.manifest, &study.analysis);
    let failed = analysis.runs.iter().filter(|run| !run.ok).count();
    writeln!(out, "# {}\n", escape(&manifest.name))?;
    let headline: Vec<String> =
        verdict::headline(study).iter().map(|sentence| to_markdown(sentence)).collect();
    writeln!(out, "**Verdict.** {}\n", headline.join("\n"))?;
    if let Some(snippet) = study.joint.as_ref().and_then(|joint| joint.snippet.as_ref()) {
        writeln!(
            out,
            "The setting for all workloads, as a piece of a grid file:\n\n~~~~~~json\n{snippet:#}\n~~~~~~\n"
        )?;
    }
    write_judged(study, plots, out)?;
    writeln!(
        out,
        "{} {}, {} failed, {}.\n",
        escape(&study.question()),
        counted(analysis.runs.len(), "run"),
        failed,
        counted(study.seeds().len(), "seed"),
    )?;
    for (number, workload) in analysis.workloads.iter().enumerate() {
        writeln!(out, "## Workload {}\n", escape(&workload.name))?;
        if let Some(summary) = manifest.workloads.iter().find(|summary| summary.name == workload.name) {
            writeln!(
                out,
                "{}, {} prefill and {} decode tokens, {} s (seed {}).\n",
                counted(summary.requests, "request"),
                grouped(summary.prefill_tokens),
                grouped(summary.decode_tokens),
                significant(summary.duration_s, 5),
                summary.seed
            )?;
        }
        for remark in remarks::of(study, number) {
            writeln!(out, "- {}", to_markdown(&remark))?;
        }
        writeln!(out)?;
        write_scores(study, number, out)?;
        if let Some(stem) = plots.front.get(number).and_then(Option::as_ref) {
            writeln!(out, "![Front of {}](plots/{stem}.png)\n", escape(&workload.name))?;
            writeln!(out, "*{}*\n", escape(&caption(study, number)))?;
        }
        write_best(study, number, out)?;
        write_pools(study, number, plots, out)?;
        write_contributions(study, number, out)?;
        write_effects(study, number, out)?;
        if let Some(stem) = plots.importance.get(number).and_then(Option::as_ref) {
            writeln!(out, "![Settings that matter on {}](plots/{stem}.png)\n", escape(&workload.name))?;
        }
    }
    if analysis.scores.iter().any(|score| !score.agree) {
        writeln!(out, "**`hv_lab` and `hv_exact` disagree on a front above: see `hypervolume.csv`.**\n")?;
    }
    write_failures(study, out)?;
    writeln!(out, "## How this was made\n")?;
    writeln!(
        out,
        "Scalefront {} (results version {}).\n",
        escape(&manifest.scalefront_version),
        manifest.results_version
    )?;
    for line in &manifest.hardware {
        writeln!(out, "- {}", escape(line))?;
    }
    write_policies(study, out)?;
    // A fence longer than any run of backticks inside cannot be closed by the command.
    writeln!(out, "\n~~~~~~sh\n{}\n~~~~~~", manifest.command.replace("~~~~~~", ""))
}

/// What a paper says below the figure of a front.
fn caption(study: &Study, workload: usize) -> String {
    let (latency, cost) = study.objectives();
    let runs =
        study.analysis.runs.iter().filter(|run| run.workload == workload && run.point.is_some()).count();
    let families = match study.analysis.scores_of(workload).count() {
        1 => "one policy family".to_owned(),
        several => format!("{several} policy families"),
    };
    let seeds = study.seeds().len();
    let line = match seeds {
        1 => "The staircase of a family joins its runs that no other of it beats".to_owned(),
        _ => format!(
            "Lines: what half of the {seeds} seeds of a family attain; bands: between what 10 % and 90 % of them do"
        ),
    };
    let limits = if study.judged.iter().any(|judged| judged.workload == workload) {
        " Dotted: a limit; runs that break one are fainter."
    } else {
        ""
    };
    format!(
        "{} against {} on {}: {} of {families}, simulated with Scalefront {}. {line}.{limits}",
        label(latency),
        label(cost),
        study.analysis.workloads[workload].name,
        counted(runs, "run"),
        study.manifest.scalefront_version
    )
}

/// What each verdict rests on, how robust it is, and its setting to copy.
fn write_judged(study: &Study, plots: &Plots, out: &mut String) -> std::fmt::Result {
    for judged in &study.judged {
        if study.analysis.workloads.len() > 1 {
            writeln!(out, "## Verdict on {}\n", escape(&judged.verdict.workload))?;
        }
        for sentence in judged.sentences[1..].iter().chain(&judged.robustness) {
            writeln!(out, "- {}", to_markdown(sentence))?;
        }
        let limits: Vec<String> = judged.verdict.constraints.iter().map(ToString::to_string).collect();
        let [settings, changes] = verdict::lines(study, judged);
        for (title, lines) in [("setting", settings), ("under a change, or one step away", changes)] {
            if lines.is_empty() {
                continue;
            }
            writeln!(
                out,
                "\n| {title} | {} | least room | runs that keep them | US$ a month |",
                escape(&limits.join(" | ")).replace("\\|", "|")
            )?;
            writeln!(out, "|---|{}---|---|---|", "---|".repeat(limits.len()))?;
            for line in lines {
                let kept = if line.keeps { line.kept } else { format!("**{}**", line.kept) };
                writeln!(
                    out,
                    "| {} | {} | {} | {kept} | {} |",
                    to_markdown_cell(&line.what),
                    line.values.join(" | "),
                    line.margin,
                    line.cost
                )?;
            }
        }
        if let Some(stem) = plots.robustness.get(judged.workload).and_then(Option::as_ref) {
            writeln!(out, "\n![Robustness on {}](plots/{stem}.png)", escape(&judged.verdict.workload))?;
        }
        if let Some(snippet) = &judged.snippet {
            writeln!(out, "\nIts settings, as a piece of a grid file:\n\n~~~~~~json\n{snippet:#}\n~~~~~~\n")?;
        }
    }
    Ok(())
}

fn write_scores(study: &Study, workload: usize, out: &mut String) -> std::fmt::Result {
    let analysis = &study.analysis;
    let (latency, cost) = study.objectives();
    match analysis.reference(workload) {
        Some(reference) => writeln!(
            out,
            "Hypervolume: share of the box up to {} and {} ({}) that the front dominates; mean ± 95 % interval over seeds where there \
             are several. `hv_lab` is the lab's formula on the same front; IGD+ and additive epsilon are distances to the oracle's or else the \
             joint front, smaller is better.\n",
            escape(&quantity(reference.latency, latency)),
            escape(&quantity(reference.cost, cost)),
            study.reference_origin(),
        )?,
        None if analysis.workloads[workload].nothing_to_rank => {
            writeln!(out, "No hypervolume: there is one run, and nothing to rank.\n")?;
        }
        None => writeln!(out, "No hypervolume: no run succeeded with a positive latency and cost.\n")?,
    }
    let edge = analysis.edge_quality(workload);
    let informed = analysis.has_informed(workload);
    let (head, rule) = if edge.is_some() { (" of the edge | extra cost |", "---|---|") } else { ("", "") };
    let (informed_head, informed_rule) =
        if informed { (" of the informed edge |", "---|") } else { ("", "") };
    writeln!(
        out,
        "| family | hv_exact | hv_lab |{informed_head}{head} IGD+ | epsilon | front points | runs | failed |\n\
         |---|---|---|{informed_rule}{rule}---|---|---|---|---|"
    )?;
    for score in analysis.scores_of(workload) {
        let family = escape(analysis.label(score.family));
        let [exact, lab] = [score.hv_exact, score.hv_lab].map(|hv| match score.outside {
            Some(_) => "outside".into(),
            None => share_plus_minus(hv),
        });
        let distance = analysis.distance(score);
        let [igd, epsilon] =
            [distance.and_then(|d| d.igd_plus), distance.and_then(|d| d.additive_epsilon)].map(plus_minus);
        let [share, extra] = regret(study, score);
        let regret = if edge.is_some() { format!(" {share} | {extra} |") } else { String::new() };
        let own = if informed { format!(" {} |", informed_share(study, score)) } else { String::new() };
        let Score { front_points, runs, failed, .. } = score;
        writeln!(
            out,
            "| {family} | {exact} | {lab} |{own}{regret} {igd} | {epsilon} | {front_points} | {runs} | {failed} |"
        )?;
    }
    for note in [edge_note(study, workload), informed_note(study, workload)].into_iter().flatten() {
        writeln!(out, "\n{note}")?;
    }
    writeln!(out)
}

fn write_best(study: &Study, workload: usize, out: &mut String) -> std::fmt::Result {
    let (latency, cost) = study.objectives();
    let attained = if remarks::has_attainment(study) { (" attained |", "---|") } else { ("", "") };
    writeln!(out, "Best points of each front (lowest seed; inside the reference box where any is):\n")?;
    let (cost_label, latency_label) = (escape(&label(cost)), escape(&label(latency)));
    writeln!(
        out,
        "| family | point | {cost_label} | {latency_label} |{} settings |\n|---|---|---|---|{}---|",
        attained.0, attained.1
    )?;
    for score in study.analysis.scores_of(workload) {
        let Some((_, highlights)) = study.first_front(score) else { continue };
        let family = escape(study.analysis.label(score.family));
        let mut named = Vec::new();
        for (what, row) in [
            ("best compromise", highlights.balanced),
            ("cheapest", highlights.cheapest),
            ("fastest", highlights.fastest),
        ] {
            if named.contains(&row) || (score.outside.is_some() && what == "best compromise") {
                continue;
            }
            named.push(row);
            let point = study.analysis.point(row);
            let (cost, latency) = (significant(point.cost, 4), significant(point.latency, 4));
            let what = if highlights.in_box || score.hv_exact.is_none() {
                what.into()
            } else {
                format!("{what} (outside the box)")
            };
            let attained = match attained.0 {
                "" => String::new(),
                _ => format!(" {} |", remarks::attainment(study, row).map_or("-".into(), percent)),
            };
            writeln!(
                out,
                "| {family} | {what} | {cost} | {latency} |{attained} {} |",
                escape(&study.describe(row))
            )?;
        }
    }
    writeln!(out)
}

/// What pools did, where there are several.
fn write_pools(study: &Study, workload: usize, plots: &Plots, out: &mut String) -> std::fmt::Result {
    let told = pools::of(study, workload);
    if told.is_empty() {
        return Ok(());
    }
    let (heads, runs) = pools::table(&told);
    let legend = pools::legend(&heads);
    writeln!(out, "What each pool did, with latencies as they arise in it. {legend}\n")?;
    writeln!(out, "| run | {} |\n|---|{}", heads.join(" | "), "---|".repeat(heads.len()))?;
    for (told, rows) in told.iter().zip(runs) {
        for (number, row) in rows.iter().enumerate() {
            let run = if number == 0 {
                format!("{} ({})", escape(&told.name(study)), told.what)
            } else {
                String::new()
            };
            writeln!(
                out,
                "| {run} | {} |",
                row.iter().map(|cell| escape(cell)).collect::<Vec<_>>().join(" | ")
            )?;
        }
    }
    writeln!(out)?;
    if let Some(stem) = plots.pools.get(workload).and_then(Option::as_ref) {
        writeln!(
            out,
            "![Replicas by pool on {}](plots/{stem}.png)\n",
            escape(&study.analysis.workloads[workload].name)
        )?;
    }
    Ok(())
}

fn write_contributions(study: &Study, workload: usize, out: &mut String) -> std::fmt::Result {
    let values = study.worthwhile(workload);
    if values.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "What the hypervolume owes to each value of a setting (what would be lost without its runs; all: `contributions.csv`):\n"
    )?;
    writeln!(
        out,
        "| family | setting | on its front | of the family's front | of the joint front |\n|---|---|---|---|---|"
    )?;
    for value in values.into_iter().take(MAX_CONTRIBUTIONS) {
        let (family, setting) =
            (escape(study.analysis.label(value.family)), escape(short_setting(&value.setting)));
        let (runs, on_front) = (counted(value.runs, "run"), value.on_front);
        let (value, own, joint) = (escape(&value.value), plus_minus(value.own), plus_minus(value.joint));
        writeln!(out, "| {family} | {setting}={value} | {on_front} of {runs} | {own} | {joint} |")?;
    }
    writeln!(out)
}

fn write_effects(study: &Study, workload: usize, out: &mut String) -> std::fmt::Result {
    let effects = study
        .effects
        .iter()
        .filter(|effect| effect.workload == workload)
        .take(MAX_EFFECTS)
        .collect::<Vec<_>>();
    if effects.is_empty() {
        return Ok(());
    }
    let (latency, cost) = study.objectives();
    writeln!(
        out,
        "Settings that matter most (largest over smallest geometric mean of the runs with one value; in brackets the share of the \
         variance of the logarithm that lies between the values):\n"
    )?;
    writeln!(
        out,
        "| setting | within | values | {} | {} |\n|---|---|---|---|---|",
        escape(latency),
        escape(cost)
    )?;
    for effect in effects {
        let strength = |strength: &crate::analysis::effects::Strength| {
            let explained =
                strength.explained.map_or(String::new(), |share| format!(" ({:.0} %)", share * 100.0));
            format!("× {}{explained}", significant(strength.ratio, 3))
        };
        let within =
            effect.family.map_or("all runs".to_owned(), |family| escape(study.analysis.label(family)));
        let (latency, cost) = (strength(&effect.latency), strength(&effect.cost));
        writeln!(
            out,
            "| {} | {within} | {} | {latency} | {cost} |",
            escape(&effect.setting),
            effect.values.len()
        )?;
    }
    writeln!(out)
}

/// The program and version behind each family.
fn write_policies(study: &Study, out: &mut String) -> std::fmt::Result {
    let policies = &study.manifest.policies;
    if policies.is_empty() {
        return Ok(());
    }
    writeln!(
        out,
        "\n| family | policy | program | version | checked | left out |\n|---|---|---|---|---|---|"
    )?;
    for PolicyRecord { family, policy, program, version, checked, left_out } in policies {
        let cells = [family, policy, program, version, checked, left_out].map(|text| escape(text));
        writeln!(out, "| {} |", cells.join(" | "))?;
    }
    Ok(())
}

fn write_failures(study: &Study, out: &mut String) -> std::fmt::Result {
    let Ok(failures) = study.failures() else { return Ok(()) };
    if failures.is_empty() {
        return Ok(());
    }
    let mut reasons: Vec<(&str, usize)> = Vec::new();
    for (_, reason) in &failures {
        match reasons.iter_mut().find(|(known, _)| known == reason) {
            Some((_, count)) => *count += 1,
            None => reasons.push((reason, 1)),
        }
    }
    writeln!(out, "## Failed runs\n")?;
    for (reason, count) in reasons.iter().take(MAX_FAILURES) {
        writeln!(out, "- {count} × {}", escape(reason))?;
    }
    if reasons.len() > MAX_FAILURES {
        writeln!(out, "- and {} in `runs.parquet`", counted(reasons.len() - MAX_FAILURES, "more reason"))?;
    }
    writeln!(out)
}
