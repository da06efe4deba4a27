//! Few settings chosen before the run, and what halves of a trace tell of each other.

use std::fs;
use std::path::Path;

use scalefront::oracle::informed::InformedSettings;
use scalefront::sweep::answers::informed;
use scalefront::sweep::answers::levels::{Chosen, LevelSettings, check, choose};
use serde_json::{Value, json};

use super::cli::{directory_with, scalefront, stderr, stdout};
use super::rows::{Quiet, plan};

fn grid(workload: Value) -> Value {
    json!({
        "workloads": [workload],
        "seeds": [1, 2],
        "cluster": {"max_replicas": 12, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}},
        "autoscalers": [
            {"frontier": {"service_level": {"from": 0, "to": 1, "points": 21}}, "label": "knob"},
            {"static": {"replicas": [1, 2, 3]}}
        ],
        "objectives": {"reference": {"latency": 3, "cost": 12}}
    })
}

fn steps() -> Value {
    json!({"name": "steps", "generate": {
        "arrivals": {"poisson": {"phases": [{"duration_s": 100, "rate_per_s": 8}, {"duration_s": 100, "rate_per_s": 25}]}},
        "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}})
}

/// Lulls and bursts: nine of each, seven of them whole.
fn bursty(dir: &Path) -> Value {
    let (mut csv, mut at_s) = ("arrived_at,num_prefill_tokens,num_decode_tokens\n".to_owned(), 0.0);
    for episode in 0..18u32 {
        for (duration_s, per_s) in [(40.0, 1.0), (15.0 + f64::from(episode % 3) * 5.0, 25.0)] {
            let requests = (duration_s * per_s) as u32;
            (0..requests).for_each(|i| csv += &format!("{},256,1\n", at_s + (f64::from(i) + 0.5) / per_s));
            at_s += duration_s;
        }
    }
    fs::write(dir.join("bursty.csv"), csv).unwrap();
    json!({"name": "bursty", "trace": {"path": dir.join("bursty.csv"), "format": "vidur"}})
}

fn settings(levels: usize) -> LevelSettings {
    LevelSettings { levels, fitting_draws: 4, search_seed: 1, families: Vec::new() }
}

fn on_threads(grid: &Value, threads: usize) -> Vec<Chosen> {
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| choose(&plan(grid), &settings(5), &Quiet)).unwrap()
}

/// What was chosen is a part of the knob, is judged on draws that were not looked at, and loses little there.
#[test]
fn chosen_levels_are_judged_on_other_draws() {
    let grid = grid(steps());
    let chosen = on_threads(&grid, 1);
    assert_eq!(chosen, on_threads(&grid, 3));
    // The three fixed fleets are no more than five.
    let [knob] = &chosen[..] else { panic!("{chosen:?}") };
    assert_eq!((knob.workload.as_str(), knob.family.as_str(), knob.of), ("steps", "knob", 21));
    assert_eq!(knob.entries.len(), 1);
    let levels = knob.entries[0]["frontier"]["service_level"].as_array().unwrap();
    assert!(
        (2..=5).contains(&levels.len()) && levels.is_sorted_by(|a, b| a.as_f64() < b.as_f64()),
        "{levels:?}"
    );
    let told: Vec<&str> = knob.judged.iter().map(|judged| judged.on.as_str()).collect();
    assert_eq!(told, ["seed 1", "seed 2"]);
    for judged in &knob.judged {
        assert!(
            0.0 < judged.chosen && judged.chosen <= judged.whole && judged.equal_steps <= judged.whole,
            "{judged:?}"
        );
    }
    let [own, _] = knob.lost();
    assert!((0.0..0.1).contains(&own), "{own} of the hypervolume lost");
}

#[test]
fn a_trace_is_judged_by_halves() {
    let dir = directory_with("{}");
    let chosen = on_threads(&grid(bursty(dir.path())), 2);
    assert_eq!(chosen[0].judged.len(), 2);
    assert!(chosen[0].chosen_on.starts_with("both halves and 6 traces"), "{}", chosen[0].chosen_on);
    assert!(
        chosen[0]
            .judged
            .iter()
            .all(|judged| judged.on.contains("chosen on the other") && judged.whole >= judged.chosen)
    );
}

#[test]
fn what_cannot_be_chosen_is_explained() {
    let why = |grid: &Value, settings: &LevelSettings| check(&plan(grid), settings).unwrap_err().to_string();
    let mut unranked = grid(steps());
    unranked["objectives"] = json!({});
    assert!(why(&unranked, &settings(5)).contains("objectives.reference: missing"));
    assert!(why(&grid(steps()), &settings(21)).contains("no family has more than 21 settings"));
    let unknown = LevelSettings { families: vec!["knobs".into()], ..settings(5) };
    assert!(why(&grid(steps()), &unknown).contains("no family `knobs`"));
    let even = json!({"name": "even", "generate": {"arrivals": {"static": {"rate_per_s": 5, "duration_s": 60}},
        "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}});
    assert!(why(&grid(even), &settings(5)).contains("workload `even`: nothing is drawn"));
}

/// Both halves have a figure, every family has one on each alone, and a half is half of the time and of the
/// money.
#[test]
fn halves_of_a_trace_tell_of_each_other() {
    let dir = directory_with("{}");
    let plan = plan(&grid(bursty(dir.path())));
    informed::check(&plan).unwrap();
    let settings = InformedSettings { budget: 16, fitting_draws: 3, ..InformedSettings::default() };
    let (rows, accounts) = informed::search(&plan, &settings, &Quiet).unwrap();
    let [edge] = &accounts[..] else { panic!("{accounts:?}") };
    assert!(rows.is_empty() && edge.bounds.is_empty() && !edge.has_edge, "no points of the whole trace");
    assert_eq!(edge.class, "law estimated from the other half");
    assert_eq!(edge.halves.iter().map(|half| half.half.as_str()).collect::<Vec<_>>(), ["first", "second"]);
    let whole = &plan.inputs.workloads[0].content;
    assert_eq!(edge.halves.iter().map(|half| half.requests).sum::<u64>(), whole.len() as u64);
    for half in &edge.halves {
        assert!(
            half.episodes >= 5
                && (half.duration_s - whole.end_s() / 2.0).abs() < 1e-9
                && half.reference_cost == 6.0,
            "{half:?}"
        );
        assert!(
            half.points.len() > 1 && half.points.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1),
            "{:?}",
            half.points
        );
        let families: Vec<&str> = half.families.iter().map(|family| family.family.as_str()).collect();
        assert_eq!(families, ["knob", "static"]);
        assert!(
            half.hypervolume > 0.0
                && half.families.iter().all(|family| (0.0..1.0).contains(&family.hypervolume))
        );
    }
    let pool = rayon::ThreadPoolBuilder::new().num_threads(3).build().unwrap();
    assert_eq!(pool.install(|| informed::search(&plan, &settings, &Quiet)).unwrap().1, accounts);
}

/// Steady traffic has no episodes, which is said.
#[test]
fn a_trace_without_episodes_has_no_edge() {
    let dir = directory_with("{}");
    let mut csv = "arrived_at,num_prefill_tokens,num_decode_tokens\n".to_owned();
    (0..1000).for_each(|i| csv += &format!("{},256,1\n", f64::from(i) * 0.2));
    fs::write(dir.path().join("even.csv"), csv).unwrap();
    let even = json!({"name": "even", "trace": {"path": dir.path().join("even.csv"), "format": "vidur"}});
    let message = informed::check(&plan(&grid(even))).unwrap_err().to_string();
    assert!(
        message.contains("workload `even`") && message.contains("first half of this one, 0 found"),
        "{message}"
    );
}

#[test]
fn levels_are_printed_as_a_grid_takes_them() {
    let mut grid = grid(steps());
    grid["autoscalers"] =
        json!([{"frontier": {"service_level": {"from": 0, "to": 1, "points": 9}}, "label": "knob"}]);
    let dir = directory_with(&grid.to_string());
    let at = dir.path();
    let command =
        ["levels", "x.json", "--levels", "3", "--fitting-draws", "3", "--out", "levels.json", "--quiet"];
    let told = scalefront(at, &command);
    assert_eq!(told.status.code(), Some(0), "{}", stderr(&told));
    let text = stdout(&told);
    assert!(
        text.contains("of 9 settings, chosen on 3 other draws") && text.contains("lost to the whole knob:"),
        "{text}"
    );
    let entry: Value = serde_json::from_str(text.lines().nth(1).unwrap()).unwrap();
    let stored: Value = serde_json::from_slice(&fs::read(at.join("levels.json")).unwrap()).unwrap();
    assert_eq!(stored["chosen"][0]["entries"], json!([entry]));
    // Pasted into the grid it runs.
    grid["autoscalers"] = json!([entry]);
    fs::write(at.join("pasted.json"), grid.to_string()).unwrap();
    assert_eq!(scalefront(at, &["sweep", "pasted.json", "--dry-run"]).status.code(), Some(0));
    let refused = scalefront(at, &["levels", "x.json", "--levels", "9"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(stderr(&refused).contains("error: no family has more than 9 settings"), "{}", stderr(&refused));
}

#[cfg(feature = "report")]
#[test]
fn halves_are_reported_beside_families() {
    let dir = directory_with("{}");
    let at = dir.path();
    fs::write(at.join("y.json"), grid(bursty(at)).to_string()).unwrap();
    let swept = scalefront(at, &["sweep", "y.json", "--out", "one", "--informed", "8"]);
    assert_eq!(swept.status.code(), Some(0), "{}", stderr(&swept));
    let text = stdout(&swept);
    assert!(
        text.contains("Informed edge on bursty: hypervolume")
            && text.contains("law estimated from the other half"),
        "{text}"
    );
    let summary = fs::read_to_string(at.join("one/summary.md")).unwrap();
    assert!(summary.contains(" of the informed edge |"), "{summary}");
    let scores = fs::read_to_string(at.join("one/hypervolume.csv")).unwrap();
    let head: Vec<&str> = scores.lines().next().unwrap().split(',').collect();
    let place = head.iter().position(|name| *name == "informed_share").unwrap();
    assert!(
        scores.lines().skip(1).all(|line| line.split(',').nth(place).unwrap().parse::<f64>().unwrap() > 0.0),
        "{scores}"
    );
}
