//! A schedule as cron triggers of KEDA.
//!
//! A cron trigger asks for `desiredReplicas` from `start` to `end`; between them nothing is active and the
//! minimum holds. Time 0 of a workload is midnight of the file's time zone.

use serde_json::{Value, json};

use super::reading::{Fields, Imported, Refusal};
use super::{Notes, Subject};
use crate::autoscaler::{ScheduleSettings, ScheduleStep};

const DAY_S: f64 = 86_400.0;
const DAY_MIN: i64 = 1440;
const WEEK_MIN: i64 = 7 * DAY_MIN;

pub(super) fn export(
    settings: &ScheduleSettings,
    subject: &Subject,
    notes: &mut Notes,
) -> Result<Value, String> {
    let &ScheduleSettings { ref steps, period_s, lead_s } = settings;
    let period_min = (period_s / 60.0).round() as i64;
    let whole = period_s % 60.0 == 0.0 && period_min > 0;
    // What repeats within a day is written out for the whole day.
    let (cycle_min, repeats) = match period_min {
        WEEK_MIN if whole => (WEEK_MIN, 1),
        period if whole && DAY_MIN % period == 0 => (DAY_MIN, DAY_MIN / period),
        _ => {
            return Err(format!(
                "its `period_s` is {period_s}, and cron repeats by the day or the week: expected a divisor of 86400, or 604800"
            ));
        }
    };
    let mut at: Vec<(i64, u32)> = Vec::new();
    for repeat in 0..repeats {
        for (i, step) in steps.iter().enumerate() {
            let exact_min = (step.at_s - lead_s) / 60.0;
            let minute = exact_min.round() as i64;
            if repeat == 0 && exact_min != minute as f64 {
                notes.cannot_say(format!(
                    "`steps[{i}]` at {} s: cron counts in minutes; the nearest stands there",
                    exact_min * 60.0
                ));
            }
            at.push(((repeat * period_min + minute).rem_euclid(cycle_min), step.replicas));
        }
    }
    at.sort_by_key(|(minute, _)| *minute);
    // Of steps of one minute the last counts; steps to the same replicas are one.
    let mut merged: Vec<(i64, u32)> = Vec::new();
    for (minute, replicas) in at {
        merged.retain(|(other, _)| *other != minute);
        merged.push((minute, replicas));
    }
    let several = merged.clone();
    merged.retain(|(minute, replicas)| {
        let place = several.iter().position(|(other, _)| other == minute).expect("it is one of them");
        several.len() == 1 || several[(place + several.len() - 1) % several.len()].1 != *replicas
    });
    if merged.is_empty() {
        merged = several[..1].to_vec();
    }
    // Between triggers the minimum holds.
    let least = subject.cluster.min_replicas;
    let mut triggers = Vec::new();
    for (i, &(start, replicas)) in merged.iter().enumerate().filter(|(_, (_, replicas))| *replicas > least) {
        let end = if merged.len() == 1 { start - 1 } else { merged[(i + 1) % merged.len()].0 };
        triggers.push(json!({"type": "cron", "metadata": {
            "timezone": "UTC",
            "start": cron(start, cycle_min),
            "end": cron(end.rem_euclid(cycle_min), cycle_min),
            "desiredReplicas": replicas.to_string(),
        }}));
    }
    if triggers.is_empty() {
        return Err(format!(
            "it never asks for more than `min_replicas` ({least}): a fixed fleet needs no autoscaler"
        ));
    }
    let close = merged
        .iter()
        .zip(merged.iter().cycle().skip(1))
        .find(|((_, a), (_, b))| (f64::from(*b) / f64::from(*a).max(1.0) - 1.0).abs() <= 0.1 && a != b);
    if let Some(((_, a), (_, b))) = close {
        notes.cannot_say(format!(
            "a step from {a} to {b} replicas: within the tolerance of 0.1 the HPA that KEDA creates stays where it is"
        ));
    }
    if lead_s > 0.0 {
        notes.need(format!("`lead_s` {lead_s} is in the times already"));
    }
    notes.need("time zone: time 0 of the simulated traffic is midnight of `timezone`");
    notes.cannot_say("`tune_interval_s`: KEDA's `pollingInterval` and the HPA's 15 s take its place");
    // Without a window of its own each step down would come five minutes late.
    let behavior = json!({"scaleDown": {"stabilizationWindowSeconds": 0}});
    Ok(json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": subject.name},
        "spec": {
            "scaleTargetRef": {"name": subject.name},
            "minReplicaCount": least,
            "maxReplicaCount": subject.cluster.max_replicas,
            "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            "triggers": triggers,
        },
    }))
}

/// A minute of the day or the week, which begins on Monday, as a cron expression.
fn cron(minute: i64, cycle_min: i64) -> String {
    let weekday = if cycle_min == WEEK_MIN { ((minute / DAY_MIN + 1) % 7).to_string() } else { "*".into() };
    format!("{} {} * * {weekday}", minute % 60, minute / 60 % 24)
}

/// Reads a ScaledObject whose triggers are all of type `cron`.
pub(super) fn import(mut spec: Fields, triggers: Vec<Fields>) -> Result<Imported, Refusal> {
    // Waits and damping of KEDA and its HPA, which a schedule by the clock has none of.
    spec.ignore(&["advanced", "pollingInterval", "cooldownPeriod", "initialCooldownPeriod"]);
    let least = spec.count("minReplicaCount")?.unwrap_or(0);
    let most = spec.count("maxReplicaCount")?.unwrap_or(100);
    spec.finish()?;
    let (mut windows, mut zone, mut weekly) = (Vec::new(), None, false);
    for mut trigger in triggers {
        trigger.ignore(&["type", "name"]);
        let mut metadata =
            trigger.object("metadata")?.ok_or_else(|| Refusal::at(&trigger.path("metadata"), "missing"))?;
        trigger.finish()?;
        let this = metadata.text("timezone")?.unwrap_or_default();
        if zone.get_or_insert_with(|| this.clone()) != &this {
            let message =
                format!("`{this}` found beside `{}`, expected one for all", zone.unwrap_or_default());
            return Err(Refusal::at(&metadata.path("timezone"), message));
        }
        let mut minute = |field: &str| {
            let text = metadata.text(field)?.unwrap_or_default();
            cron_minute(&text).ok_or_else(|| {
                let message = format!(
                    "`{text}` found, which is not simulated; expected one minute and hour, of every day or of one weekday, such as `0 8 * * *`"
                );
                Refusal::at(&metadata.path(field), message)
            })
        };
        let (start, end) = (minute("start")?, minute("end")?);
        let replicas = metadata
            .count("desiredReplicas")?
            .ok_or_else(|| Refusal::at(&metadata.path("desiredReplicas"), "missing"))?;
        metadata.finish()?;
        weekly |= start.1.is_some() || end.1.is_some();
        windows.push((start, end, replicas));
    }
    let cycle = if weekly { WEEK_MIN } else { DAY_MIN };
    let mut asked = vec![least; cycle as usize];
    for ((start, start_day), (end, end_day), replicas) in windows {
        for day in 0..cycle / DAY_MIN {
            if start_day.is_some_and(|of| of != day) {
                continue;
            }
            let from = day * DAY_MIN + start;
            let until = end_day.map_or(day * DAY_MIN + end, |of| of * DAY_MIN + end);
            let length = (until - from).rem_euclid(if end_day.is_some() { cycle } else { DAY_MIN });
            for minute in from..from + length {
                let place = &mut asked[minute.rem_euclid(cycle) as usize];
                *place = (*place).max(replicas);
            }
        }
    }
    let mut steps: Vec<ScheduleStep> = Vec::new();
    for (minute, &replicas) in (0_u32..).zip(&asked) {
        if steps.last().is_none_or(|last| last.replicas != replicas) {
            steps.push(ScheduleStep { at_s: 60.0 * f64::from(minute), replicas });
        }
    }
    let settings = ScheduleSettings { steps, period_s: DAY_S * (cycle / DAY_MIN) as f64, lead_s: 0.0 };
    Ok(Imported {
        policy: "schedule",
        settings: json!(settings),
        min_replicas: Some(least),
        max_replicas: Some(most),
        initial_replicas: None,
    })
}

/// The minute of the day that a cron expression names, and the day of the week from Monday on, if it names
/// one.
fn cron_minute(text: &str) -> Option<(i64, Option<i64>)> {
    let fields: Vec<&str> = text.split_whitespace().collect();
    let [minute, hour, "*", "*", weekday] = fields[..] else { return None };
    let number =
        |text: &str, below: i64| text.parse::<i64>().ok().filter(|number| (0..below).contains(number));
    let weekday = if weekday == "*" { None } else { Some((number(weekday, 8)? + 6) % 7) };
    Some((number(hour, 24)? * 60 + number(minute, 60)?, weekday))
}
