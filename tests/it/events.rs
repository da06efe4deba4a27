//! Everything that happens in a run, event by event and to the bit: the first event at which two runs part is
//! named.
//!
//! One run's events are kept in `events.txt`. Each build compares itself with it, so debug and release, with
//! and without tables, all agree with each other; `SCALEFRONT_WRITE_EVENTS=1` writes it anew when results are
//! meant to change.

use std::fmt::Write;
use std::fs;
use std::path::Path;

use scalefront::simulation::{Detail, RunInputs, Workspace, simulate_in_detail};
use serde_json::json;

use crate::scenario::Scenario;

/// A line for each event, by time; floats as decimals and as bits.
pub fn events(detail: &Detail) -> Vec<String> {
    let time = |at_s: f64| format!("{at_s:.6} s ({:016x})", at_s.to_bits());
    let mut found: Vec<(f64, u8, String)> = Vec::new();
    for request in &detail.requests {
        let id = request.request_id;
        let on = request.replica_id.map_or("nowhere".into(), |replica| format!("replica {replica}"));
        let stations = [
            (
                Some(request.arrived_at_s),
                0,
                format!("arrives with {} + {} tokens", request.prefill_tokens, request.decode_tokens),
            ),
            (request.scheduled_at_s, 3, format!("is scheduled on {on}")),
            (request.first_token_at_s, 4, "has its first token".into()),
            (request.completed_at_s, 5, format!("is completed after {} restarts", request.restarts)),
        ];
        for (at_s, order, what) in stations {
            found.extend(at_s.map(|at_s| (at_s, order, format!("request {id} {what}"))));
        }
    }
    for batch in &detail.batches {
        let size = format!(
            "{} requests, {} + {} tokens",
            batch.num_requests, batch.prefill_tokens, batch.decode_tokens
        );
        let (id, replica, began) = (batch.batch_id, batch.replica_id, time(batch.scheduled_at_s));
        found.push((
            batch.completed_at_s,
            2,
            format!("batch {id} of replica {replica} ends: {size}, begun at {began}"),
        ));
    }
    for change in &detail.replicas {
        let (replicas, draining, cost) = (change.num_replicas, change.num_draining, change.cost_per_hour_usd);
        found.push((
            change.time_s,
            1,
            format!("{replicas} replicas, {draining} of them draining, for ${cost} an hour"),
        ));
    }
    for tune in &detail.tunes {
        let (up, down) = (tune.pending_scale_ups, tune.pending_scale_downs);
        let evidence = tune.evidence.iter().fold(String::new(), |mut text, (name, value)| {
            write!(text, " {name}={:016x}", value.to_bits()).unwrap();
            text
        });
        found.push((
            tune.time_s,
            6,
            format!(
                "decision {:+} with {} replicas, {up} to come, {down} to go{evidence}",
                tune.decision, tune.num_replicas
            ),
        ));
    }
    // Stable: events of one kind at one time stay in the order in which they were recorded.
    found.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    found.into_iter().map(|(at_s, _, what)| format!("{} {what}", time(at_s))).collect()
}

/// Where two runs part: the number of the event, it in both, and what they agreed on before.
pub fn first_diverging_event(one: &[String], other: &[String]) -> Option<String> {
    let place = (0..one.len().max(other.len())).find(|&i| one.get(i) != other.get(i))?;
    let shown = |events: &[String]| events.get(place).cloned().unwrap_or_else(|| "nothing any more".into());
    let before = place.checked_sub(1).map_or("nothing".into(), |before| one[before].clone());
    Some(format!("event {place}:\n  {}\n  {}\nafter\n  {before}", shown(one), shown(other)))
}

#[track_caller]
pub fn assert_same_events(one: &Detail, other: &Detail) {
    if let Some(difference) = first_diverging_event(&events(one), &events(other)) {
        panic!("the runs part at {difference}");
    }
}

/// Bursts, then a trickle with some long answers, on a small cluster that fails, with a policy that scales
/// both ways.
fn eventful() -> Scenario {
    let at_s = |i: u32| {
        if i < 24 { f64::from(i / 3) * 0.7 + f64::from(i % 3) * 0.01 } else { 6.0 + f64::from(i - 24) * 1.3 }
    };
    let arrivals = (0..40).map(|i| (at_s(i), 100 + 37 * (i % 7), if i % 5 == 4 { 70 } else { 3 }));
    Scenario::new(
        json!({"global_scheduler": "random", "cold_start": {"spread_s": 1}, "failures": {"mean_time_to_crash_s": 6},
            "scale_up_delay_s": 2, "tune_interval_s": 1, "min_replicas": 0, "max_replicas": 6}),
        json!({"inferline": {"look_back_s": 4, "min_window_s": 1, "stabilization_delay_s": 1}}),
        arrivals,
    )
}

fn recorded(scenario: &Scenario, workspace: &mut Workspace) -> Detail {
    simulate_in_detail(&scenario.inputs(), workspace).unwrap().1
}

#[test]
fn every_build_has_the_same_events() {
    let found = events(&recorded(&eventful(), &mut Workspace::default()));
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/events.txt");
    if std::env::var_os("SCALEFRONT_WRITE_EVENTS").is_some() {
        fs::write(&path, found.join("\n") + "\n").unwrap();
    }
    let expected: Vec<String> = fs::read_to_string(path).unwrap().lines().map(str::to_string).collect();
    for what in ["after 1 restarts", " 1 of them draining", "decision +", "decision -"] {
        assert!(found.iter().any(|event| event.contains(what)), "nothing `{what}` happens");
    }
    if let Some(difference) = first_diverging_event(&expected, &found) {
        panic!("this build parts from tests/it/events.txt at {difference}");
    }
}

/// Neither what a thread did before, nor what others do at the same time.
#[test]
fn events_do_not_depend_on_what_else_a_thread_does() {
    let scenario = eventful();
    let fresh = recorded(&scenario, &mut Workspace::default());
    let mut used = Workspace::default();
    let other = Scenario::new(
        json!({}),
        json!({"static": {"replicas": 3}}),
        (0..500).map(|i| (f64::from(i) * 0.1, 64 + i, 1 + i % 40)),
    );
    recorded(&other, &mut used);
    assert_same_events(&fresh, &recorded(&scenario, &mut used));
    std::thread::scope(|scope| {
        let runs: Vec<_> =
            (0..8).map(|_| scope.spawn(|| recorded(&eventful(), &mut Workspace::default()))).collect();
        runs.into_iter().for_each(|run| assert_same_events(&fresh, &run.join().unwrap()));
    });
}

/// A policy that draws numbers of its own cannot move an arrival, and another seed moves what the cluster
/// draws and nothing before it.
#[test]
fn the_first_event_that_differs_is_found() {
    let scenario = eventful();
    let one = events(&recorded(&scenario, &mut Workspace::default()));
    let inputs = RunInputs { seed: 2, ..scenario.inputs() };
    let other = events(&simulate_in_detail(&inputs, &mut Workspace::default()).unwrap().1);
    let difference = first_diverging_event(&one, &other).expect("another seed gives other events");
    assert!(difference.starts_with("event ") && difference.contains("\nafter\n"), "{difference}");
    let arrivals = |events: &[String]| {
        events.iter().filter(|event| event.contains(" arrives ")).cloned().collect::<Vec<_>>()
    };
    assert_eq!(arrivals(&one), arrivals(&other));
    let mut changed = one.clone();
    changed[40] = "something else".into();
    assert!(
        first_diverging_event(&one, &changed)
            .unwrap()
            .starts_with(&format!("event 40:\n  {}\n  something else\nafter", one[40]))
    );
    assert!(first_diverging_event(&one, &one[..7]).unwrap().contains("nothing any more"));
    assert_eq!(first_diverging_event(&one, &one), None);
}

/// All that arrives at one instant is there before a batch is formed.
#[test]
fn requests_of_one_instant_share_a_batch() {
    let scenario = Scenario::new(
        json!({}),
        json!({"static": {"replicas": 1}}),
        [(1.0, 256, 1), (1.0, 256, 1), (1.0, 256, 1)],
    );
    let batches = recorded(&scenario, &mut Workspace::default()).batches;
    assert_eq!(batches.iter().map(|batch| batch.num_requests).collect::<Vec<_>>(), [3]);
}
