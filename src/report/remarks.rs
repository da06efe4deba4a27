//! What has to be said of runs beside their scores: requests that were rejected, policies held back by a
//! limit, families outside the box.

use super::names::{counted, grouped, percent_small};
use super::study::Study;
use crate::analysis::scores::{Outside, Score};
use crate::analysis::table::Cells;
use crate::simulation::{HELD_BACK, why_rejected};

/// Sentences about a workload's runs, for terminal, summary and page alike.
pub fn of(study: &Study, workload: usize) -> Vec<String> {
    [rejected(study, workload), at_limit(study, workload), churn(study, workload), outside(study, workload)]
        .into_iter()
        .flatten()
        .collect()
}

fn outside(study: &Study, workload: usize) -> Option<String> {
    let families = study.analysis.scores_of(workload).filter_map(|score| {
        Some(format!("{} ({})", study.analysis.label(score.family), beyond(&score.outside?)))
    });
    let families = families.collect::<Vec<_>>();
    (!families.is_empty())
        .then(|| format!("Outside the reference box, so without a score: {}.", families.join(", ")))
}

/// How far a family lies outside the reference box.
pub fn beyond(outside: &Outside) -> String {
    let beyond = [(outside.latency, "latency"), (outside.cost, "cost")];
    let beyond = beyond
        .iter()
        .filter(|(share, _)| *share > 0.0)
        .map(|(share, what)| format!("{} in {what}", percent_small(*share)));
    match beyond.collect::<Vec<_>>().join(" and ") {
        none if none.is_empty() => "on its edge".into(),
        some => format!("beyond by {some}"),
    }
}

/// Values of some columns of a workload's runs that succeeded; rows without one of them are left out.
fn values<const N: usize>(
    study: &Study,
    workload: usize,
    names: [&str; N],
) -> Option<Vec<(usize, [f64; N])>> {
    let cells: Vec<Cells> =
        names.iter().map(|name| Cells::named(&study.runs, name).ok()).collect::<Option<_>>()?;
    let of = |row: usize| -> Option<[f64; N]> {
        let mut values = [0.0; N];
        for (value, cells) in values.iter_mut().zip(&cells) {
            *value = cells.number(row)?;
        }
        Some(values)
    };
    let runs = study.analysis.runs.iter().enumerate().filter(|(_, run)| run.workload == workload && run.ok);
    Some(runs.filter_map(|(row, _)| Some((row, of(row)?))).collect())
}

fn rejected(study: &Study, workload: usize) -> Option<String> {
    let runs = values(study, workload, ["num_rejected", "num_requests", "num_refused"])?;
    let with: Vec<&[f64; 3]> =
        runs.iter().map(|(_, values)| values).filter(|[rejected, ..]| *rejected > 0.0).collect();
    let [most, requests, refused] = with.iter().copied().max_by(|a, b| a[0].total_cmp(&b[0]))?;
    let same = with.len() == runs.len() && with.iter().all(|values| values[0] == *most);
    let numbers = format!("{} of {} requests", grouped(*most as u64), grouped(*requests as u64));
    let why = format!("{}; latencies are those of the others", why_rejected(*most as u64, *refused as u64));
    Some(match same {
        true if runs.len() == 1 => format!("{numbers} were rejected: {why}."),
        true => format!("{numbers} were rejected in each of {}: {why}.", counted(runs.len(), "run")),
        false => format!(
            "Up to {numbers} were rejected, in {} of {}: {why}.",
            with.len(),
            counted(runs.len(), "run")
        ),
    })
}

fn at_limit(study: &Study, workload: usize) -> Option<String> {
    let runs = values(study, workload, ["at_max_replicas_s", "simulated_s", "max_replicas"])?;
    let of_family = |score: &Score| {
        let own = runs
            .iter()
            .filter(|(row, _)| study.analysis.runs[*row].family == score.family)
            .map(|(_, values)| values);
        let own: Vec<(f64, f64)> = own
            .filter(|[_, lasted, _]| *lasted > 0.0)
            .map(|[at, lasted, most]| (at / lasted, *most))
            .collect();
        let held = own.iter().filter(|(share, _)| *share > HELD_BACK).copied().collect::<Vec<_>>();
        let (share, most) = held.iter().copied().max_by(|a, b| a.0.total_cmp(&b.0))?;
        let (family, share) = (study.analysis.label(score.family), percent_small(share));
        Some(format!(
            "{family} ({} of {} at {most} replicas, up to {share})",
            held.len(),
            counted(own.len(), "run")
        ))
    };
    let families = study.analysis.scores_of(workload).filter_map(of_family).collect::<Vec<_>>();
    let what = "Held back by `max_replicas` for more than a tenth of the time";
    (!families.is_empty()).then(|| format!("{what}: {}.", families.join(", ")))
}

/// More time spent on cold starts than this share of replica hours is worth a word.
const MUCH_STARTING: f64 = 0.1;

/// Policies that start replicas all the time: what a cold start does not cost on the bill it costs in wear
/// and attention.
fn churn(study: &Study, workload: usize) -> Option<String> {
    let runs =
        values(study, workload, ["scale_ups", "scale_up_delay_s", "replica_hours", "scale_ups_per_day"])?;
    let of_family = |score: &Score| {
        let own = || {
            runs.iter()
                .filter(|(row, _)| study.analysis.runs[*row].family == score.family)
                .map(|(_, values)| values)
        };
        let share = |[ups, start_s, hours, _]: &[f64; 4]| {
            if *hours > 0.0 { ups * start_s / (hours * 3600.0) } else { 0.0 }
        };
        let much = own().filter(|run| share(run) > MUCH_STARTING).collect::<Vec<_>>();
        let most = much.iter().max_by(|a, b| share(a).total_cmp(&share(b)))?;
        let (family, count) = (study.analysis.label(score.family), counted(own().count(), "run"));
        let (percent, a_day) = (percent_small(share(most)), grouped(most[3].round() as u64));
        Some(format!("{family} ({} of {count}, up to {percent}, {a_day} scale-ups a day)", much.len()))
    };
    let families = study.analysis.scores_of(workload).filter_map(of_family).collect::<Vec<_>>();
    let what = "Scale-ups times `scale_up_delay_s` exceed a tenth of the replica hours";
    (!families.is_empty()).then(|| {
        format!(
            "{what}: {}. A slower tick, a price of change, or a limit on `scale_ups_per_day` calms that.",
            families.join(", ")
        )
    })
}

/// The attainment of a run, where limits are given.
pub fn attainment(study: &Study, row: usize) -> Option<f64> {
    Cells::named(&study.runs, "attainment").ok()?.number(row)
}

/// Whether any run has an attainment.
pub fn has_attainment(study: &Study) -> bool {
    Cells::named(&study.runs, "attainment")
        .is_ok_and(|cells| (0..study.runs.height()).any(|row| cells.number(row).is_some()))
}
