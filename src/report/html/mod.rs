//! `report.html`: one file that needs no network, interactive, the tables readable without scripts too.
//!
//! The page is a template filled here; its charts draw [`data`], embedded as JSON, with the vendored uPlot
//! (MIT, see `assets/`).

mod curves;
mod data;

use anyhow::{Context, Result};
use minijinja::Environment;
use serde_json::{Value, json};

use super::judgement::Judgement;
use super::names::{counted, grouped, label, percent, quantity, short_setting, significant};
use super::plots::{self, Style, importance, robustness};
use super::study::Study;
use super::terminal::{edge_note, informed_note, informed_share, plus_minus, regret, share_plus_minus};
use super::verdict;
use super::{pools, remarks};
use crate::analysis::effects::Strength;
use crate::sweep::answers::verdict::NO_LIMITS;

const TEMPLATE: &str = include_str!("../assets/report.html");
const STYLE: &str = include_str!("../assets/report.css");
/// One script in two files.
const SCRIPT: &str = concat!(include_str!("../assets/report.js"), include_str!("../assets/cells.js"));
const UPLOT_STYLE: &str = include_str!("../assets/uPlot.min.css");
const UPLOT_SCRIPT: &str = include_str!("../assets/uPlot.iife.min.js");

/// Values of an axis listed.
const MAX_VALUES: usize = 16;
/// Failed runs listed one by one.
const MAX_FAILURES: usize = 200;
/// Values of settings listed per workload by what they are worth.
const MAX_CONTRIBUTIONS: usize = 12;
/// Effects listed per workload.
const MAX_EFFECTS: usize = 12;

/// The whole page.
pub fn page(study: &Study) -> Result<String> {
    let (latency, cost) = study.objectives();
    let data = data::of(study)?;
    let failures = study.failures()?;
    let mut environment = Environment::new();
    environment.add_template("report.html", TEMPLATE)?; // by this ending minijinja escapes what it fills in
    let manifest = &study.manifest;
    let axes = manifest.axes.iter().map(|axis| {
        let values = axis
            .values
            .iter()
            .map(|value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
            .collect::<Vec<_>>();
        let shown = match &values[..] {
            [first @ .., last] if first.len() >= MAX_VALUES => {
                format!("{}, … {last}", first[..MAX_VALUES - 1].join(", "))
            }
            all => all.join(", "),
        };
        json!({ "path": axis.path, "count": values.len(), "values": shown })
    });
    let workloads = manifest.workloads.iter().map(|workload| {
        json!({
            "name": workload.name, "seed": workload.seed, "requests": grouped(workload.requests as u64),
            "prefill_tokens": grouped(workload.prefill_tokens), "decode_tokens": grouped(workload.decode_tokens),
            "duration": significant(workload.duration_s, 6), "fingerprint": workload.fingerprint.chars().take(12).collect::<String>(),
        })
    });
    let listed = failures.iter().take(MAX_FAILURES).map(|(row, reason)| {
        let run = study.analysis.runs[*row];
        json!({
            "run_id": study.run_ids[*row], "workload": study.analysis.workloads[run.workload].name,
            "family": study.analysis.label(run.family), "seed": run.seed, "settings": study.describe(*row), "reason": reason,
        })
    });
    let page = environment.get_template("report.html")?.render(minijinja::value::Serde(json!({
        "style": STYLE,
        "script": SCRIPT,
        "uplot_style": UPLOT_STYLE,
        "uplot_script": UPLOT_SCRIPT,
        "data": embeddable(&data.json),
        "name": manifest.name,
        "question": study.question(),
        "runs": counted(study.analysis.runs.len(), "run"),
        "failed": failures.len(),
        "seeds": counted(study.seeds().len(), "seed"),
        "together": study.joint.as_ref().map(|judged| json!({
            "found": judged.joint.best.is_some(), "lead": coded(&judged.sentence),
            "snippet": judged.snippet.as_ref().map(|snippet| format!("{snippet:#}")),
        })),
        "verdicts": verdicts(study)?,
        "no_limits": coded(NO_LIMITS),
        "scores": scores(study),
        "reference_given": study.analysis.reference_given,
        "has_attainment": remarks::has_attainment(study),
        "yardstick": if study.oracle.is_some() { "edge of the possible" } else { "joint front of all families" },
        "agree": study.analysis.scores.iter().all(|score| score.agree),
        "several_seeds": study.seeds().len() > 1,
        "latency": label(latency),
        "cost": label(cost),
        "pools": of_pools(study)?,
        "effects": effects(study)?,
        "contributions": contributions(study),
        "axes": axes.collect::<Vec<_>>(),
        "workloads": workloads.collect::<Vec<_>>(),
        "hardware": manifest.hardware,
        "policies": manifest.policies,
        "version": manifest.scalefront_version,
        "results_version": manifest.results_version,
        "command": manifest.command,
        "grid": serde_json::to_string_pretty(&manifest.grid)?,
        "timings": format!(
            "{} in {} ({} runs/s, {} requests/s), finished {}",
            counted(manifest.runs_planned, "run"),
            study.time(),
            significant(manifest.timings.runs_per_s, 4),
            significant(manifest.timings.requests_per_s, 4),
            manifest.timings.finished_at,
        ),
        "failures": listed.collect::<Vec<_>>(),
        "failures_left_out": failures.len().saturating_sub(MAX_FAILURES),
        "notes": data.notes,
    })));
    page.context("the page's template does not render")
}

/// Text and, at every second place, names within it: what stood between backticks.
fn coded(sentence: &str) -> Vec<&str> {
    sentence.split('`').collect()
}

fn verdicts(study: &Study) -> Result<Vec<Value>> {
    let line = |line: &verdict::Line| {
        json!({
            "what": coded(&line.what), "values": line.values, "margin": line.margin, "kept": line.kept, "keeps": line.keeps,
            "cost": line.cost,
        })
    };
    let of = |judged: &Judgement| -> Result<Value> {
        let limits = judged.verdict.constraints.iter().map(ToString::to_string).collect::<Vec<_>>();
        let tables = verdict::lines(study, judged).map(|lines| lines.iter().map(line).collect::<Vec<_>>());
        let rest = judged.sentences[1..].iter().map(|sentence| coded(sentence)).collect::<Vec<_>>();
        Ok(json!({
            "workload": judged.verdict.workload, "found": judged.verdict.best.is_some(), "lead": coded(&judged.sentences[0]), "rest": rest,
            "robustness": judged.robustness.iter().map(|sentence| coded(sentence)).collect::<Vec<_>>(), "limits": limits,
            "settings": tables[0], "changes": tables[1], "snippet": judged.snippet.as_ref().map(|snippet| format!("{snippet:#}")),
            "figure": robustness::plot(study, judged.workload, Style::Paper)?.map(|drawn| drawn.svg),
        }))
    };
    study.judged.iter().map(of).collect()
}

/// JSON that can stand inside a script element: it cannot end the element, nor open a comment.
fn embeddable(json: &Value) -> String {
    json.to_string().replace('<', "\\u003c").replace('\u{2028}', "\\u2028").replace('\u{2029}', "\\u2029")
}

fn scores(study: &Study) -> Vec<Value> {
    let (latency, cost) = study.objectives();
    let highest = |workload| {
        study
            .analysis
            .scores_of(workload)
            .filter_map(|score| score.hv_exact)
            .map(|hv| hv.mean)
            .fold(0.0, f64::max)
    };
    let row = |score: &crate::analysis::scores::Score| {
        let best = study.first_front(score).filter(|_| score.outside.is_none()).map(|(_, highlights)| {
            let point = study.analysis.point(highlights.balanced);
            json!({
                "cost": quantity(point.cost, cost), "latency": quantity(point.latency, latency),
                "attained": remarks::attainment(study, highlights.balanced).map(percent), "settings": study.describe(highlights.balanced),
            })
        });
        let (look, distance) = (study.looks[score.family], study.analysis.distance(score));
        json!({
            "family": study.analysis.label(score.family), "colour": look.hex(), "marker": look.marker_name,
            "hv_exact": if score.outside.is_some() { "outside".into() } else { share_plus_minus(score.hv_exact) },
            "hv_lab": share_plus_minus(score.hv_lab), "agree": score.agree,
            "bar_percent": score.hv_exact.map_or(0.0, |hv| (hv.mean / highest(score.workload).max(f64::MIN_POSITIVE) * 1000.0).round() / 10.0),
            "igd_plus": plus_minus(distance.and_then(|distance| distance.igd_plus)),
            "additive_epsilon": plus_minus(distance.and_then(|distance| distance.additive_epsilon)),
            "share": regret(study, score)[0], "informed": informed_share(study, score), "extra_cost": regret(study, score)[1], "points": score.front_points, "runs": score.runs, "failed": score.failed, "best": best,
            "outside": score.outside.as_ref().map(remarks::beyond), "runs_outside": score.runs_outside,
        })
    };
    let workload = |(number, workload): (usize, &crate::analysis::scores::Workload)| {
        let reference = workload
            .reference
            .map(|r| format!("{}, {}", quantity(r.cost, cost), quantity(r.latency, latency)));
        let families = study.analysis.scores_of(number).map(row).collect::<Vec<_>>();
        json!({
            "name": workload.name, "reference": reference, "origin": study.reference_origin(), "nothing_to_rank": workload.nothing_to_rank,
            "remarks": remarks::of(study, number).iter().map(|remark| remark.replace('`', "")).collect::<Vec<_>>(), "families": families, "edge": edge_note(study, number),
            "informed": informed_note(study, number), "has_informed": study.analysis.has_informed(number),
        })
    };
    study.analysis.workloads.iter().enumerate().map(workload).collect()
}

/// What pools did, of each workload where there are several.
fn of_pools(study: &Study) -> Result<Vec<Value>> {
    let of = |workload: usize| -> Result<Value> {
        let told = pools::of(study, workload);
        let (heads, rows) = pools::table(&told);
        let run = |(told, rows): (&pools::Told, Vec<Vec<String>>)| {
            let family = study.analysis.runs[told.row].family;
            let look = study.looks[family];
            json!({
                "what": told.what, "family": study.analysis.label(family), "colour": look.hex(), "marker": look.marker_name,
                "settings": study.describe(told.row), "rows": rows,
            })
        };
        Ok(json!({
            "name": study.analysis.workloads[workload].name, "legend": pools::legend(&heads), "heads": heads,
            "runs": told.iter().zip(rows).map(run).collect::<Vec<_>>(), "figure": plots::pools::plot(study, workload, Style::Paper)?.map(|drawn| drawn.svg),
        }))
    };
    let workloads = (0..study.analysis.workloads.len()).map(of).collect::<Result<Vec<_>>>()?;
    Ok(workloads.into_iter().filter(|workload| workload["runs"] != json!([])).collect())
}

fn contributions(study: &Study) -> Vec<Value> {
    let of = |workload: usize| {
        let values = study.worthwhile(workload);
        let rows = values.iter().take(MAX_CONTRIBUTIONS).map(|value| {
            let look = study.looks[value.family];
            json!({
                "family": study.analysis.label(value.family), "colour": look.hex(), "marker": look.marker_name,
                "setting": format!("{}={}", short_setting(&value.setting), value.value), "runs": value.runs, "on_front": value.on_front,
                "own": plus_minus(value.own), "joint": plus_minus(value.joint),
            })
        });
        let more = values.len().saturating_sub(MAX_CONTRIBUTIONS);
        json!({ "name": study.analysis.workloads[workload].name, "rows": rows.collect::<Vec<_>>(), "more": more })
    };
    (0..study.analysis.workloads.len()).map(of).filter(|workload| workload["rows"] != json!([])).collect()
}

fn effects(study: &Study) -> Result<Vec<Value>> {
    let strength = |strength: &Strength| {
        json!({
            "ratio": significant(strength.ratio, 3), "best": strength.best,
            "explained": strength.explained.map(|share| (share * 100.0).round()),
        })
    };
    let of = |workload: usize| -> Result<Value> {
        let effects =
            study.effects.iter().filter(move |effect| effect.workload == workload).take(MAX_EFFECTS);
        let rows = effects.map(|effect| {
            let shown = effect.values.iter().take(6).map(String::as_str).collect::<Vec<_>>().join(", ");
            let more = if effect.values.len() > 6 { format!(", … ({} values)", effect.values.len()) } else { String::new() };
            json!({
                "setting": short_setting(&effect.setting), "within": effect.family.map(|family| study.analysis.label(family)),
                "values": shown + &more, "runs": effect.runs, "latency": strength(&effect.latency), "cost": strength(&effect.cost),
            })
        });
        let figure = importance::plot(study, workload, Style::Paper)?.map(|drawn| drawn.svg);
        Ok(
            json!({ "name": study.analysis.workloads[workload].name, "rows": rows.collect::<Vec<_>>(), "figure": figure }),
        )
    };
    (0..study.analysis.workloads.len()).map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_cannot_leave_its_element() {
        let text = embeddable(&json!({ "name": "</script><!--\u{2028}" }));
        assert!(!text.contains('<') && !text.contains('\u{2028}'));
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap()["name"], "</script><!--\u{2028}");
    }

    #[test]
    fn the_vendored_script_cannot_end_its_element() {
        assert!(!UPLOT_SCRIPT.contains("</script") && !SCRIPT.contains("</script"));
    }
}
