//! The verdict of a study: its sentences for terminal, summary and page, its settings ready to copy, how
//! robust they are.

use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use super::judgement::{JointJudgement, Judgement};
use super::names::{counted, markdown as escape, percent_small, quantity};
use super::study::Study;
use crate::analysis::TableFormat;
use crate::analysis::table::{Column, write_table};
use crate::analysis::verdict::{Table, Tested};
use crate::sweep::answers::verdict::{
    NO_LIMITS, Neighbour, Runs, Shared, Stand, Standing, Verdict, checks, joint, neighbours, snippet,
    verdicts,
};

/// Judges all workloads together, from the judgements of each.
pub fn judge_together(study: &Study) -> Result<Option<JointJudgement>> {
    if study.judged.len() < 2 {
        return Ok(None);
    }
    let table = Table::of(&study.runs)?;
    let varying = table.varying(&study.manifest.setting_columns);
    let verdicts: Vec<Verdict> = study.judged.iter().map(|judged| judged.verdict.clone()).collect();
    let Some(joint) = joint(&table, &varying, &verdicts) else { return Ok(None) };
    let sentence = joint.sentence(&verdicts, &|setting| name(study, setting));
    let row = joint.named().map(|(shared, _)| verdicts[0].settings[shared.places[0]].rows[0]);
    let snippet =
        row.map(|row| snippet(&table, row, &study.manifest.setting_columns, &study.manifest.grid["cluster"]));
    Ok(Some(JointJudgement { joint, sentence, snippet }))
}

/// Judges each workload of which anything is asked.
pub fn judge(study: &Study) -> Result<Vec<Judgement>> {
    if study.manifest.objectives.constraints.is_empty() {
        return Ok(Vec::new());
    }
    let table = Table::of(&study.runs)?;
    let varying = table.varying(&study.manifest.setting_columns);
    let mut judged = Vec::new();
    for mut verdict in verdicts(&table, &varying, &study.manifest.objectives) {
        if let Some(edge) = &study.edge_frame {
            verdict.compare_with_edge(&Table::of(edge)?);
        }
        let workload = study
            .analysis
            .workloads
            .iter()
            .position(|workload| workload.name == verdict.workload)
            .unwrap_or_default();
        let tested = match &study.trials {
            Some(trials) => trials.of(&verdict, &|row| study.run_ids[row].clone())?,
            None => Vec::new(),
        };
        let beside = verdict.best.map_or(Vec::new(), |best| neighbours(&table, &verdict, best, &varying));
        let sentences = verdict.sentences(&|setting| name(study, setting));
        let robustness = robustness(&verdict, &tested, &beside);
        let named = verdict.best.or(verdict.nearest).map(|place| verdict.settings[place].rows[0]);
        let snippet = named.map(|row| {
            snippet(&table, row, &study.manifest.setting_columns, &study.manifest.grid["cluster"])
        });
        judged.push(Judgement {
            verdict,
            workload,
            sentences,
            robustness,
            snippet,
            tested,
            neighbours: beside,
        });
    }
    Ok(judged)
}

/// `keda` with `target_per_replica=40`.
pub fn name(study: &Study, setting: &Standing) -> String {
    let row = setting.rows[0];
    let family = study.analysis.label(study.analysis.runs[row].family);
    match study.describe(row) {
        settings if settings.is_empty() => format!("`{family}`"),
        settings => format!("`{family}` with `{settings}`"),
    }
}

fn robustness(verdict: &Verdict, tested: &[Tested], neighbours: &[Neighbour]) -> Vec<String> {
    let mut sentences = Vec::new();
    let of = |role: &str| tested.iter().filter(move |tested| tested.role == role).collect::<Vec<_>>();
    let best = of("best");
    if !best.is_empty() {
        let broken: Vec<String> =
            best.iter().filter(|tested| !tested.standing.keeps()).map(|tested| broken(tested)).collect();
        let kept = best.len() - broken.len();
        sentences.push(match broken.is_empty() {
            true => format!("Robust: it keeps the limits under all {} changes tried.", best.len()),
            false => format!(
                "It keeps the limits under {kept} of {} changes tried; not with {}.",
                best.len(),
                broken.join(", ")
            ),
        });
    }
    let other = of("runner_up");
    if !other.is_empty() {
        let kept = other.iter().filter(|tested| tested.standing.keeps()).count();
        sentences.push(format!("The cheapest of another policy keeps them under {kept} of {}.", other.len()));
    }
    if !neighbours.is_empty() {
        let keeping =
            neighbours.iter().filter(|neighbour| verdict.settings[neighbour.setting].keeps()).count();
        let steps = counted(neighbours.len(), "neighbouring setting");
        sentences.push(format!(
            "{keeping} of {steps} of the grid {} them.",
            if keeping == 1 { "keeps" } else { "keep" }
        ));
    }
    for neighbour in neighbours.iter().filter(|neighbour| neighbour.is_beyond_cliff(verdict)) {
        let what = format!("`{}={}`", super::names::short_setting(&neighbour.column), neighbour.value);
        let value = worst(&verdict.settings[neighbour.setting]);
        sentences.push(format!("A cliff lies one step away: with {what} {value}."));
    }
    sentences
}

/// `traffic 20 % higher (`p99_ttft_s` 3.1 s)`.
fn broken(tested: &Tested) -> String {
    let kept = tested.standing.kept;
    let seeds =
        if kept.of > 1 { format!(", {} of {} runs keep them", kept.kept, kept.of) } else { String::new() };
    format!("{} ({}{seeds})", tested.label(), worst(&tested.standing))
}

/// The limit that is broken most, and how: `p99_ttft_s` is 3.1 s.
fn worst(setting: &Standing) -> String {
    let Some(stand) = setting.tightest() else { return String::new() };
    let metric = &stand.constraint.metric.name;
    stand.worst.value.map_or_else(
        || format!("`{metric}` has no value"),
        |value| format!("`{metric}` is {}", quantity(value, metric)),
    )
}

/// The first paragraph: of each workload the sentence that stands alone, or how limits are given.
pub fn headline(study: &Study) -> Vec<String> {
    if study.judged.is_empty() {
        return vec![NO_LIMITS.to_owned()];
    }
    let several = study.analysis.workloads.len() > 1;
    let of = |judged: &Judgement| {
        let on = if several { format!("On `{}`: ", judged.verdict.workload) } else { String::new() };
        format!("{on}{}", judged.sentences[0])
    };
    study.joint.iter().map(|joint| joint.sentence.clone()).chain(study.judged.iter().map(of)).collect()
}

/// Text with names in backticks as markdown.
pub fn to_markdown(sentence: &str) -> String {
    sentence
        .split('`')
        .enumerate()
        .map(|(k, part)| if k % 2 == 1 { format!("`{part}`") } else { escape(part) })
        .collect()
}

/// The same for a cell of a table: in one, a bar ends the cell even between backticks.
pub fn to_markdown_cell(sentence: &str) -> String {
    let code = |part: &str| format!("`{}`", part.replace('|', "\\|"));
    sentence
        .split('`')
        .enumerate()
        .map(|(k, part)| if k % 2 == 1 { code(part) } else { escape(part) })
        .collect()
}

/// `verdict.json`: the verdicts for programs.
pub fn to_json(study: &Study) -> Value {
    let limits = |setting: &Standing| -> Vec<Value> {
        let of = |stand: &Stand| {
            json!({
                "metric": stand.constraint.metric.name, "limit": stand.constraint.limit, "value": stand.worst.value,
                "margin": stand.worst.margin, "seeds_kept": stand.kept.kept,
            })
        };
        setting.limits.iter().map(of).collect()
    };
    let setting = |place: Option<usize>, verdict: &Verdict| -> Value {
        let Some(setting) = place.map(|place| &verdict.settings[place]) else { return Value::Null };
        let row = setting.rows[0];
        json!({
            "family": study.analysis.label(study.analysis.runs[row].family), "settings": study.describe(row),
            "run_ids": setting.rows.iter().map(|&row| &study.run_ids[row]).collect::<Vec<_>>(),
            "cost_usd_per_day": setting.cost_usd_per_day, "cost_usd_per_month": setting.cost_usd_per_month,
            "seeds": setting.kept.of, "seeds_kept": setting.kept.kept, "constraints": limits(setting),
        })
    };
    let of = |judged: &Judgement| {
        let verdict = &judged.verdict;
        let asked = verdict
            .constraints
            .iter()
            .map(|constraint| json!({ "metric": constraint.metric.name, "limit": constraint.limit }));
        let trials = judged.tested.iter().map(|tested| {
            json!({
                "role": tested.role, "change": tested.change, "amount": tested.amount, "keeps": tested.standing.keeps(),
                "runs": tested.standing.kept.of, "runs_kept": tested.standing.kept.kept, "constraints": limits(&tested.standing),
            })
        });
        let beside = judged.neighbours.iter().map(|neighbour| {
            json!({
                "setting": neighbour.column, "value": neighbour.value, "keeps": verdict.settings[neighbour.setting].keeps(),
                "cliff": neighbour.is_beyond_cliff(verdict), "constraints": limits(&verdict.settings[neighbour.setting]),
            })
        });
        json!({
            "workload": verdict.workload, "constraints": asked.collect::<Vec<_>>(), "kept": verdict.best.is_some(),
            "settings_tried": verdict.settings.len(), "settings_keeping": verdict.keeping(), "setting": judged.snippet,
            "best": setting(verdict.best, verdict), "runner_up": setting(verdict.runner_up, verdict),
            "fixed_fleet": setting(verdict.fixed, verdict), "nearest": setting(verdict.nearest, verdict),
            "edge_usd_per_month": verdict.edge_usd_per_month, "robustness": trials.collect::<Vec<_>>(), "neighbours": beside.collect::<Vec<_>>(),
            "sentences": judged.sentences.iter().chain(&judged.robustness).collect::<Vec<_>>(),
        })
    };
    let together = |judged: &JointJudgement| {
        let joint = &judged.joint;
        let shared = |shared: &Option<Shared>| {
            shared.as_ref().map(|shared| {
                let standings = || study.judged.iter().zip(&shared.places).map(|(judged, &place)| &judged.verdict.settings[place]);
                let row = standings().next().map_or(0, |standing| standing.rows[0]);
                json!({
                    "family": study.analysis.label(study.analysis.runs[row].family), "settings": study.describe(row),
                    "run_ids": standings().flat_map(|standing| &standing.rows).map(|&row| &study.run_ids[row]).collect::<Vec<_>>(),
                    "cost_usd_per_month": shared.cost_usd_per_month, "workloads_kept": shared.kept_on,
                })
            })
        };
        json!({
            "workload": "*", "workloads": joint.workloads, "kept": joint.best.is_some(), "settings_tried": joint.tried,
            "settings_keeping": joint.keeping, "setting": judged.snippet, "best": shared(&joint.best), "nearest": shared(&joint.nearest),
            "sentences": [judged.sentence],
        })
    };
    Value::Array(study.judged.iter().map(of).chain(study.joint.iter().map(together)).collect())
}

/// Whether each run keeps every limit of its workload; None without limits.
pub fn keeps(study: &Study) -> Result<Vec<Option<bool>>> {
    let table = Table::of(&study.runs)?;
    let constraints = &study.manifest.objectives.constraints;
    let limits: Vec<_> =
        study.analysis.workloads.iter().map(|workload| constraints.on(&workload.name)).collect();
    let of = |(row, run): (usize, &crate::analysis::scores::Run)| {
        let limits = &limits[run.workload];
        (!limits.is_empty()).then(|| checks(&table, row, limits).iter().all(|check| check.kept))
    };
    Ok(study.analysis.runs.iter().enumerate().map(of).collect())
}

/// `constraints.csv`: a row a run and limit. Removed where no limits are given.
pub fn write_constraints(study: &Study, path: &Path) -> Result<()> {
    if study.judged.is_empty() {
        return if path.exists() { Ok(std::fs::remove_file(path)?) } else { Ok(()) };
    }
    let table = Table::of(&study.runs)?;
    let mut rows = Vec::new();
    for judged in &study.judged {
        for setting in &judged.verdict.settings {
            for &row in &setting.rows {
                let checks = checks(&table, row, &judged.verdict.constraints);
                rows.extend(
                    judged
                        .verdict
                        .constraints
                        .iter()
                        .zip(checks)
                        .map(|(constraint, check)| (row, *constraint, check)),
                );
            }
        }
    }
    let text = |column: &str| {
        Column::Text(rows.iter().map(|(row, ..)| table.text(*row, column).unwrap_or_default()).collect())
    };
    let columns = vec![
        ("run_id", text("run_id")),
        ("workload", text("workload")),
        ("family", text("family")),
        (
            "seed",
            Column::OptionalInt(rows.iter().map(|(row, ..)| Some(study.analysis.runs[*row].seed)).collect()),
        ),
        (
            "metric",
            Column::Text(rows.iter().map(|(_, constraint, _)| constraint.metric.name.clone()).collect()),
        ),
        ("limit", Column::Float(rows.iter().map(|(_, constraint, _)| constraint.limit).collect())),
        ("value", Column::OptionalFloat(rows.iter().map(|(.., check)| check.value).collect())),
        ("margin", Column::OptionalFloat(rows.iter().map(|(.., check)| check.margin).collect())),
        ("kept", Column::OptionalBool(rows.iter().map(|(.., check)| Some(check.kept)).collect())),
    ];
    write_table(columns, path, TableFormat::Csv)
}

/// Tables of the verdict, as terminal, summary and page show them.
pub struct Line {
    pub what: String,
    /// Of each limit the worst value.
    pub values: Vec<String>,
    /// The smallest margin.
    pub margin: String,
    pub kept: String,
    pub keeps: bool,
    pub cost: String,
}

/// The smallest margin as a share of its limit. Of a limit of 0 there are no shares: what is above it is
/// said.
fn least_room(setting: &Standing) -> String {
    let zero = |stand: &&Stand| stand.constraint.limit == 0.0;
    let broken = setting
        .limits
        .iter()
        .filter(zero)
        .find(|stand| !stand.worst.kept && stand.worst.unanswered.is_none());
    if let Some((value, stand)) = broken.and_then(|stand| Some((stand.worst.value?, stand))) {
        return format!("{} above 0", quantity(value, &stand.constraint.metric.name));
    }
    let margins = setting.limits.iter().filter(|stand| !zero(stand)).map(|stand| stand.worst.margin);
    match margins.reduce(|a, b| Some(a?.min(b?))).flatten() {
        Some(margin) if margin < 0.0 => format!("−{}", percent_small(-margin)),
        Some(margin) => percent_small(margin),
        None => "–".into(),
    }
}

/// The named settings beside each other, then the best under each change, then its neighbours.
pub fn lines(study: &Study, judged: &Judgement) -> [Vec<Line>; 2] {
    let verdict = &judged.verdict;
    let line = |what: String, setting: &Standing| Line {
        what,
        values: setting
            .limits
            .iter()
            .map(|stand| {
                stand.worst.value.map_or("–".into(), |value| quantity(value, &stand.constraint.metric.name))
            })
            .collect(),
        margin: least_room(setting),
        kept: format!("{} of {}", setting.kept.kept, setting.kept.of),
        keeps: setting.keeps(),
        cost: setting.cost_usd_per_month.map_or("–".into(), crate::sweep::answers::verdict::dollars),
    };
    let named = [
        ("Best", verdict.best),
        ("Another policy", verdict.runner_up),
        ("Fixed fleet", verdict.fixed),
        ("Nearest", verdict.nearest),
    ];
    let mut shown = Vec::new();
    let mut settings = Vec::new();
    for (what, place) in named {
        if let Some(place) = place.filter(|place| !shown.contains(place)) {
            shown.push(place);
            let setting = &verdict.settings[place];
            settings.push(line(format!("{what}: {}", name(study, setting)), setting));
        }
    }
    let mut changes = Vec::new();
    for tested in judged.tested.iter().filter(|tested| tested.role == "best") {
        changes.push(line(super::names::sentence(&tested.label()), &tested.standing));
    }
    for neighbour in &judged.neighbours {
        let cliff = if neighbour.is_beyond_cliff(verdict) { " (a cliff)" } else { "" };
        let what = format!(
            "Neighbour `{}={}`{cliff}",
            super::names::short_setting(&neighbour.column),
            neighbour.value
        );
        changes.push(line(what, &verdict.settings[neighbour.setting]));
    }
    [settings, changes]
}
