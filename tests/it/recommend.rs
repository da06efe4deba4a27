//! The search against running everything: runs used, and dollars left on the table. Printed with
//! `--nocapture`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use scalefront::sweep::answers::recommend::space::{arms, cell, pairs};
use scalefront::sweep::answers::recommend::{default_budget, search};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::grid::source::Source;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::run_all;
use scalefront::sweep::tables::row::{RunRow, Scalar};
use serde_json::{Value, json};

use super::cli::{directory_with, scalefront, stderr, stdout};
use super::rows::{Quiet, plan};

fn number(row: &RunRow, name: &str) -> f64 {
    match row.get(name) {
        Some(Scalar::Float(value)) => *value,
        Some(Scalar::Int(value)) => *value as f64,
        other => panic!("{name}: {other:?}"),
    }
}

/// The least mean cost a month of the settings that keep the limits everywhere, by running all of them.
fn exhaustive(plan: &Plan) -> Option<f64> {
    let rows: BTreeMap<String, RunRow> =
        run_all(plan, &Quiet).unwrap().into_iter().map(|row| (row.text("run_id"), row)).collect();
    let pairs = pairs(&plan.grid);
    let mut best: Option<(f64, f64)> = None;
    for candidate in
        arms(&plan.grid).iter().flat_map(|arm| arm.places().map(|(_, at)| *at).collect::<Vec<_>>())
    {
        let (mut cost, mut month, mut kept) = (0.0, 0.0, true);
        for &pair in &pairs {
            let cell = plan.cell(cell(&plan.grid, candidate, pair));
            let row = &rows[&plan.id(&cell)];
            let limits = plan.grid.objectives.constraints.on(&cell.workload_name());
            kept &= limits.iter().all(|limit| limit.check(Some(number(row, &limit.metric.name))).kept);
            cost += number(row, &plan.grid.objectives.cost);
            month += number(row, "cost_usd_per_month") / pairs.len() as f64;
        }
        if kept && best.is_none_or(|(least, _)| cost < least) {
            best = Some((cost, month));
        }
    }
    best.map(|(_, month)| month)
}

/// Dollars a month that the search's answer costs beyond the best, as a share of it.
fn regret(name: &str, plan: &Plan, budget: usize) -> f64 {
    let best = exhaustive(plan).unwrap_or_else(|| panic!("{name}: nothing keeps the limits"));
    let dir = tempfile::tempdir().unwrap();
    let found = search(plan, dir.path(), budget, &Quiet).unwrap();
    let month = found.best.as_ref().and_then(|best| best.cost_usd_per_month);
    let setting = found.best.as_ref().map_or("nothing".into(), |best| best.name());
    let regret = month.map_or(f64::INFINITY, |month| month - best);
    println!(
        "{name}: {} of {} runs, ${best:.0} a month at best, regret ${regret:.2}: {setting}",
        found.runs,
        plan.unique().len()
    );
    assert!(found.runs <= budget, "{name}: {} runs of a budget of {budget}", found.runs);
    regret / best
}

fn phases(rates: &[f64]) -> Value {
    json!(rates.iter().map(|rate| json!({"duration_s": 90, "rate_per_s": rate})).collect::<Vec<_>>())
}

fn workload(name: &str, arrivals: Value, prefill_tokens: u32, decode_tokens: u32) -> Value {
    json!({"name": name, "generate": {"arrivals": arrivals,
        "lengths": {"fixed": {"prefill_tokens": prefill_tokens, "decode_tokens": decode_tokens}}}})
}

/// Small grids of different kinds: a line, a plane with damping, several families, fleets of several shapes,
/// a rough landscape.
fn grids() -> Vec<(&'static str, Value)> {
    let steps = workload("steps", json!({"poisson": {"phases": phases(&[6.0, 18.0, 9.0])}}), 256, 4);
    let swell = workload(
        "swell",
        json!({"diurnal": {"mean_rate_per_s": 12, "amplitude": 0.8, "period_s": 300, "duration_s": 300}}),
        300,
        8,
    );
    let bursts = workload(
        "bursts",
        json!({"bursts": {"base_rate_per_s": 5, "burst_rate_per_s": 30, "burst_duration_s": 20, "interval_s": 90, "duration_s": 360,
            "timing": "random"}}),
        256,
        2,
    );
    let cluster = json!({"max_replicas": 12, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
    let limits = |limits: Value| json!({"constraints": limits});
    vec![
        (
            "one knob",
            json!({"workloads": [steps, swell], "seeds": [1, 2], "cluster": cluster,
            "autoscalers": [{"frontier": {"service_level": {"from": 0, "to": 1, "points": 101}}}],
            "objectives": limits(json!({"p90_e2e_s": 0.8}))}),
        ),
        (
            "damping",
            json!({"workloads": [swell, bursts], "seeds": [1, 2], "cluster": cluster,
            "autoscalers": [{"hpa": {"target_per_replica": {"from": 1, "to": 16, "step": 1},
                "behavior": {"scale_up": {}, "scale_down": {"stabilization_window_s": [0, 30, 60, 120, 300]}}}, "min_replicas": [1, 2, 3]}],
            "objectives": limits(json!({"p90_e2e_s": 2, "p99_ttft_s": 4}))}),
        ),
        (
            "families",
            json!({"workloads": [steps, bursts], "seeds": [1], "cluster": cluster,
            "autoscalers": [
                {"frontier": {"service_level": {"from": 0, "to": 1, "points": 41}}},
                {"static": {"replicas": {"from": 1, "to": 12, "step": 1}}},
                {"keda": {"target_per_replica": {"from": 1, "to": 32, "step": 1}}, "min_replicas": [1, 2, 3, 4]},
                {"knative_kpa": {"target_per_replica": [1, 2, 4, 8, 16, 32], "stable_window_s": [10, 30, 60]}},
                {"ray_serve": {"target_per_replica": [1, 2, 4, 8, 16], "downscale_delay_s": [10, 60, 300]}},
                {"service_level": {"level": {"from": 1, "to": 3, "points": 21}}}],
            "objectives": limits(json!({"p90_e2e_s": 1}))}),
        ),
        (
            "fleets",
            json!({"workloads": [steps, swell], "seeds": [1, 2],
            "cluster": {"max_replicas": 24, "execution_time": "analytical", "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx",
                "node_price_usd_per_hour": 30, "billing": {"unit": "device"}, "tensor_parallel": [1, 2, 4]},
            "autoscalers": [{"static": {"replicas": {"from": 1, "to": 24, "step": 1}}}],
            "objectives": limits(json!({"p90_e2e_s": 0.12}))}),
        ),
        (
            "rough",
            json!({"workloads": [bursts], "seeds": [1, 2, 3], "cluster": cluster,
            "autoscalers": [{"keda": {"target_per_replica": {"from": 1, "to": 24, "step": 1}, "polling_interval_s": [5, 15, 30],
                "cooldown_period_s": [30, 120, 300]}, "min_replicas": [1, 2, 3]}],
            "objectives": limits(json!({"p95_e2e_s": 3, "scale_ups_per_day": 4000}))}),
        ),
    ]
}

#[test]
fn a_tenth_of_the_runs_finds_the_best_or_nearly() {
    let mut shares = Vec::new();
    for (name, grid) in grids() {
        let plan = plan(&grid);
        shares.push((name, regret(name, &plan, default_budget(plan.unique().len()))));
    }
    assert!(shares.iter().all(|(_, share)| *share < 0.03), "{shares:?}");
    assert!(shares.iter().filter(|(_, share)| *share < 1e-9).count() >= 3, "{shares:?}");
}

/// Of 146 runs each, and 439 for all three: the best of 488 settings, or within 0.02 % of it.
#[test]
#[ignore = "runs all of sweeps/frontier_shapes.json twice, six minutes: cargo test --release --test it recommend -- --ignored --nocapture"]
fn the_shapes_of_frontier_in_a_tenth_of_their_runs() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps/frontier_shapes.json");
    let shapes: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut shares = Vec::new();
    let names = ["steps", "diurnal", "bursts"].map(Some).into_iter().chain([None]);
    for only in names {
        let mut grid = shapes.clone();
        grid["workloads"]
            .as_array_mut()
            .unwrap()
            .retain(|workload| only.is_none_or(|name| workload["name"] == name));
        grid["objectives"]["constraints"] = json!({"p90_e2e_s": 0.5});
        let source = Source { file: "shapes.json".into(), text: grid.to_string() };
        let plan = Plan::new(Grid::parse(source, Path::new("shapes.json"), Vec::new()).unwrap()).unwrap();
        shares.push((only, regret(only.unwrap_or("all three"), &plan, plan.unique().len() / 10)));
    }
    assert!(shares.iter().all(|(_, share)| *share < 0.005), "{shares:?}");
}

fn small() -> String {
    json!({
        "name": "small",
        "workloads": [workload("w", json!({"poisson": {"phases": phases(&[5.0, 15.0])}}), 256, 4)],
        "autoscalers": [{"hpa": {"target_per_replica": {"from": 1, "to": 32, "points": 8}}}, {"static": {"replicas": {"from": 1, "to": 8, "step": 1}}}]
    })
    .to_string()
}

#[test]
fn the_command_recommends_exports_and_goes_on() {
    let dir = directory_with(&small());
    let run = |arguments: &[&str]| scalefront(dir.path(), arguments);
    let output = run(&["recommend", "x.json", "--limit", "p90_e2e_s=1.5", "--budget", "30"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let file = dir.path().join("results/small_recommended/recommendation.json");
    let answer: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    let month = answer["cost_usd_per_month"].as_f64().unwrap();
    assert!(month > 0.0 && answer["runs"]["used"].as_u64().unwrap() <= 30, "{answer:#}");
    assert!(
        answer["constraints"][0]["margin"].as_f64().unwrap() >= 0.0
            && answer["constraints"][0]["limit"] == 1.5
    );
    assert!(
        stdout(&output).contains("keeps every limit at $") && stdout(&output).contains("Apply: "),
        "{}",
        stdout(&output)
    );
    assert!(!answer["robustness"]["trials"].as_array().unwrap().is_empty());
    // 8 targets and 8 fleets as written; between the 8 targets three places each are searched too. One number
    // means the same everywhere.
    let runs = &answer["runs"];
    assert_eq!(
        (&runs["settings"], &runs["exhaustive"], &runs["searched"]),
        (&json!(16), &json!(16), &json!({"settings": 37, "runs": 37}))
    );
    let effort = format!(
        "{} runs of {} settings looked at, ended by {}; the grid as written has 16 settings (16 runs in all), and 37 settings with the places \
         between its points that were searched too",
        runs["used"],
        runs["settings_looked_at"],
        runs["ended_by"].as_str().unwrap()
    );
    assert!(stdout(&output).contains(&effort), "{}\n{effort}", stdout(&output));
    assert_eq!(
        stderr(&run(&["report", "results/small_recommended"]))
            .matches("expected the results directory of a sweep")
            .count(),
        1
    );
    // What is to be applied is a command that works, or a fleet by size.
    let apply = answer["apply"].as_str().unwrap();
    if let Some(arguments) = apply.strip_prefix("scalefront ") {
        let output = run(&arguments.split(' ').collect::<Vec<_>>());
        assert_eq!(output.status.code(), Some(0), "{apply}: {}", stderr(&output));
    } else {
        assert!(apply.starts_with("replicas: "), "{apply}");
    }
    // Once more, with more to spend: nothing is run again, and it is never worse.
    let output = run(&["recommend", "x.json", "--limit", "p90_e2e_s=1.5", "--budget", "60"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let again: Value = serde_json::from_slice(&fs::read(&file).unwrap()).unwrap();
    assert!(again["runs"]["of_them_from_an_earlier_search"].as_u64().unwrap() > 0, "{again:#}");
    assert!(again["cost_usd_per_month"].as_f64().unwrap() <= month);
    // Another question does not go on with this one's runs.
    let output = run(&["recommend", "x.json", "--limit", "p90_e2e_s=1.5", "--refine", "2"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).contains("choose another directory with --out"),
        "{}",
        stderr(&output)
    );
}

#[test]
fn the_command_refuses_what_makes_no_sense() {
    let dir = directory_with(&small());
    for (arguments, message) in [
        (&["recommend", "x.json"][..], "x.json: objectives.constraints: no limits found"),
        (
            &["recommend", "x.json", "--limit", "p90_e2e_s"],
            "expected a metric and its limit, such as p99_ttft_s=2",
        ),
        (&["recommend", "x.json", "--limit", "p90_e2s=1"], "did you mean `p90_e2e_s`?"),
        (
            &["recommend", "x.json", "--limit", "p90_e2e_s=1", "--workload", "v"],
            "--workload: `v` found, expected one of `w`",
        ),
        (
            &["recommend", "x.json", "--limit", "p90_e2e_s=1", "--budget", "0"],
            "expected a whole number of at least 1",
        ),
        (&["recommend", "gone.json"], "no such file"),
    ] {
        let output = scalefront(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {}", stdout(&output));
        assert!(stderr(&output).contains(message), "{arguments:?}: {}", stderr(&output));
    }
    assert!(!dir.path().join("results").exists());
}

#[test]
fn the_largest_load_is_one_command() {
    let dir = directory_with(&small());
    let output = scalefront(
        dir.path(),
        &["recommend", "x.json", "--limit", "p90_e2e_s=1.5", "--largest-load", "--precision", "0.1"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answer: Value = serde_json::from_slice(
        &fs::read(dir.path().join("results/small_recommended/largest_load.json")).unwrap(),
    )
    .unwrap();
    let settings = answer["settings"].as_array().unwrap();
    assert_eq!(settings.len(), 16);
    let rate = |replicas: u64| {
        let of = |setting: &&Value| setting["autoscaler"]["static"]["replicas"] == replicas;
        settings.iter().find(of).unwrap()["rate_per_s"].as_f64().unwrap()
    };
    assert!(rate(8) > 3.0 * rate(2), "{answer:#}");
    let prices: Vec<f64> =
        settings.iter().filter_map(|setting| setting["usd_per_million_requests"].as_f64()).collect();
    assert!(prices.is_sorted(), "{prices:?}");
}

/// Of a limit of 0 there are no percentages.
#[test]
fn limits_of_nothing_are_said_with_their_values() {
    let dir = directory_with(&small());
    let output = scalefront(
        dir.path(),
        &["recommend", "x.json", "--limit", "p90_e2e_s=0.001", "--limit", "scale_ups=0", "--budget", "30"],
    );
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    let broken = said.lines().filter(|line| line.contains("scale_ups ≤ 0"));
    assert!(
        broken.clone().count() > 0
            && broken.clone().all(|line| !line.split("scale_ups ≤ 0").nth(1).unwrap().contains('%')),
        "{said}"
    );
    // The page's table too.
    let mut grid: Value = serde_json::from_str(&small()).unwrap();
    grid["objectives"] = json!({"constraints": {"scale_ups": 0}});
    grid["autoscalers"] = json!([{"hpa": {"target_per_replica": [1, 2]}}]);
    fs::write(dir.path().join("x.json"), grid.to_string()).unwrap();
    assert_eq!(scalefront(dir.path(), &["sweep", "x.json"]).status.code(), Some(0));
    let summary = fs::read_to_string(dir.path().join("results/small/summary.md")).unwrap();
    assert!(summary.contains(" replicas above 0 |"), "{summary}");
    // A file that cannot be written is named once, with what to do.
    let fronts = fs::read_to_string(dir.path().join("results/small/fronts.csv")).unwrap();
    let id = fronts.lines().nth(1).unwrap().split(',').next().unwrap();
    for (out, expected) in [
        ("results", "results: a directory found, expected the name of a file; add one to it"),
        (
            "no/hpa.yaml",
            "no: no such directory, expected a directory to write `hpa.yaml` into; make it, or choose another",
        ),
    ] {
        let output = scalefront(
            dir.path(),
            &["export", "results/small", "--run", id, "--to", "hpa", "--quiet", "--out", out],
        );
        assert_eq!((output.status.code(), stderr(&output)), (Some(2), format!("error: {expected}\n")));
    }
}

/// Ctrl-C leaves what is known, and the same command goes on from there.
#[cfg(unix)]
#[test]
fn the_largest_load_can_be_interrupted() {
    use std::process::{Command, Stdio};
    use std::time::{Duration, Instant};
    let mut grid: Value = serde_json::from_str(&small()).unwrap();
    grid["workloads"][0]["generate"]["arrivals"]["poisson"]["phases"] =
        json!([{"duration_s": 3000, "rate_per_s": 12}]);
    let dir = directory_with(&grid.to_string());
    let arguments = [
        "recommend",
        "x.json",
        "--limit",
        "p90_e2e_s=1.5",
        "--largest-load",
        "--precision",
        "0.001",
        "--threads",
        "1",
    ];
    let mut command = Command::new(env!("CARGO_BIN_EXE_scalefront"));
    command.args(arguments).current_dir(dir.path()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let journal = dir.path().join("results/small_recommended/loads.jsonl");
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count()) < 3 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "nothing to interrupt");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert!(
        stderr(&output).starts_with("interrupted: what is known so far (")
            && stderr(&output).contains(" of 16 settings found) is in ")
    );
    let read = || -> Value {
        serde_json::from_slice(
            &fs::read(dir.path().join("results/small_recommended/largest_load.json")).unwrap(),
        )
        .unwrap()
    };
    let cut = read();
    assert!(
        cut["finished"] == false
            && cut["settings_in_all"] == 16
            && !cut["settings"].as_array().unwrap().is_empty(),
        "{cut:#}"
    );
    // On from there: what was tried is not tried again.
    let tried = fs::read(&journal).unwrap();
    let mut coarser = arguments;
    coarser[6] = "0.3";
    let output = scalefront(dir.path(), &coarser);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(read()["finished"], true);
    assert!(fs::read(&journal).unwrap().starts_with(&tried));
}

/// From zero by a signal that only replicas have, nothing ever starts: what comes nearest says why, with the
/// real cause.
#[test]
fn a_setting_whose_runs_fail_says_why() {
    let mut grid: Value = serde_json::from_str(&small()).unwrap();
    grid["cluster"] = json!({"min_replicas": 0, "initial_replicas": 0});
    grid["autoscalers"] = json!([{"keda": {"metric": "kv_use", "target_per_replica": 0.5}}]);
    let dir = directory_with(&grid.to_string());
    let output = scalefront(dir.path(), &["recommend", "x.json", "--limit", "p90_e2e_s=1"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = stdout(&output);
    assert!(
        said.contains("a run of which failed: stuck at ")
            && said.contains("no replica serves, and the policy asks for none; "),
        "{said}"
    );
}
