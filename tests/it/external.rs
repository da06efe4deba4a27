//! Policies that are programs of their own: as good as the built-in ones they copy, and every way in which
//! they fail.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use scalefront::simulation::{Detail, Limits, RunMetrics, Workspace};
use scalefront::sweep::grid::Grid;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::run::run_cell_in_detail;
use serde_json::{Value, json};

use crate::cli::directory_with;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Whether `program` is there to run policies.
fn runs(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success());
    if !found {
        eprintln!("SKIPPED: no {program}");
    }
    found
}

fn grid(autoscalers: Value) -> Value {
    json!({
        "name": "external",
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"poisson": {"phases": [
                {"duration_s": 120, "rate_per_s": 10}, {"duration_s": 120, "rate_per_s": 60}, {"duration_s": 180, "rate_per_s": 20}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 3}}}}],
        "cluster": {"scale_up_delay_s": 12, "scale_down_delay_s": 5, "max_replicas": 20},
        "autoscalers": autoscalers,
    })
}

/// Runs every autoscaler of the grid.
fn run_all(autoscalers: Value) -> Vec<Result<(RunMetrics, Detail), String>> {
    let dir = directory_with(&grid(autoscalers).to_string());
    let plan = Plan::new(Grid::read(&dir.path().join("x.json")).unwrap()).unwrap();
    let cells = plan.unique().iter().map(|&index| plan.cell(index));
    cells
        .map(|cell| run_cell_in_detail(&cell, &plan.inputs, Limits::default(), &mut Workspace::default()))
        .collect()
}

/// What a shell script that answers with `script` comes to.
fn failure_of(script: &str, timeout_s: f64) -> String {
    let external = json!({"external": {"command": ["sh", "-c", script], "timeout_s": timeout_s}});
    run_all(json!([external])).remove(0).map(|_| ()).unwrap_err()
}

fn twin(name: &str, settings: &Value) -> Value {
    let script: PathBuf = root().join("tests/external/twins.py");
    json!({"external": {"command": ["python3", script, name], "settings": settings}})
}

#[test]
fn copies_of_built_in_policies_decide_as_they_do() {
    if !runs("python3") {
        return;
    }
    let schedule =
        json!({"steps": [{"at_s": 20, "replicas": 2}, {"at_s": 140, "replicas": 9}], "period_s": 300});
    let inferline = json!({"look_back_s": 80, "min_window_s": 20, "stabilization_delay_s": 10,
        "initial_replica_token_throughput": 2300, "throughput_alpha": 0.5});
    for (name, settings) in [("schedule", schedule), ("inferline", inferline), ("chiron", json!({}))] {
        let outcomes = run_all(json!([{ name: settings }, twin(name, &settings)]));
        let [built_in, external] = outcomes.try_into().unwrap();
        let ((expected, in_detail), (metrics, detail)) = (built_in.unwrap(), external.unwrap());
        assert!(expected.scale_ups > 0 && expected.scale_downs > 0, "{name} decides nothing");
        assert_eq!(metrics, expected, "{name}");
        assert_eq!(detail.requests, in_detail.requests, "{name}");
        let decisions = |detail: &Detail| {
            detail.tunes.iter().map(|tune| (tune.time_s, tune.decision)).collect::<Vec<_>>()
        };
        assert_eq!(decisions(&detail), decisions(&in_detail), "{name}");
    }
}

#[test]
fn the_examples_run_and_agree_whatever_their_language() {
    let settings = json!({"target_per_replica": [4, 9], "hold_s": 30});
    let example = |program: &str, file: &str| json!({"external": {"command": [program, root().join("python").join(file)], "settings": settings}});
    let run = |program: &str, file: &str| -> Vec<_> {
        run_all(json!([example(program, file)])).into_iter().map(|outcome| outcome.unwrap()).collect()
    };
    if !runs("python3") {
        return;
    }
    let python = run("python3", "reactive.py");
    assert_eq!(python.len(), 2, "a list among a program's settings is an axis");
    assert_ne!(python[0].0, python[1].0, "the setting reached the program");
    assert!(
        python[0].1.tunes.iter().all(|tune| tune.evidence.iter().any(|(name, _)| *name == "wanted_replicas"))
    );
    if runs("node") {
        assert_eq!(run("node", "reactive.mjs"), python);
    }
}

const HELLO: &str = r#"read q; echo '{"type": "hello", "protocol": 1}'; "#;
const READY: &str = r#"read q; echo '{"type": "ready"}'; "#;

#[test]
fn every_way_to_break_the_dialogue_is_told() {
    let cases = [
        ("exit 3".to_string(), "the program ended (exit status: 3)"),
        ("echo 'no such knob' >&2; exit 1".to_string(), "it last wrote: no such knob"),
        ("read q; echo hello".to_string(), "expected a line such as {\"type\": \"hello\", \"protocol\": 1"),
        (r#"read q; echo '{"type": "hello", "protocol": 7}'"#.to_string(), "protocol 7 found, expected 1"),
        (format!("{HELLO}{READY}read q; printf 'half an answer'"), "the program ended"),
        (format!("{HELLO}{READY}read q; echo '{{\"type\": \"decision\", \"target\": 1e9}}'"), "target"),
        (
            format!("{HELLO}{READY}read q; echo '{{\"type\": \"decision\"}}'; read q; exit 0"),
            "at 5 s of simulated time: the program ended",
        ),
        (format!("{HELLO}{READY}read q; head -c 3000000 /dev/zero"), "longer than"),
    ];
    for (script, expected) in cases {
        let failure = failure_of(&script, 10.0);
        assert!(
            failure.starts_with("the policy failed: ") && failure.contains(expected),
            "{script}\n{failure}\nlacks {expected}"
        );
    }
}

#[test]
fn silence_ends_with_the_program_and_what_it_started() {
    let started = Instant::now();
    let failure = failure_of("sleep 300 & sleep 300", 0.3);
    assert!(failure.contains("no answer within 0.3 s (`timeout_s`)"), "{failure}");
    let failure = failure_of(&format!("{HELLO}{READY}read q; sleep 300"), 0.3);
    assert!(failure.contains("at 0 s of simulated time: no answer within 0.3 s"), "{failure}");
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}

#[test]
fn a_program_that_fails_fails_its_run_and_the_others_go_on() {
    let wrong =
        json!({"label": "wrong", "external": {"command": ["sh", "-c", "echo 'out of ideas' >&2; exit 1"]}});
    let outcomes = run_all(json!([wrong, {"static": {"replicas": 3}}]));
    let failure = outcomes[0].as_ref().map(|_| ()).unwrap_err();
    assert!(failure.contains("it last wrote: out of ideas"), "{failure}");
    assert!(outcomes[1].is_ok());
}

#[test]
fn ids_tell_what_a_program_holds() {
    let dir = directory_with(&grid(json!([{"external": {"command": ["sh", "policy.sh"]}}])).to_string());
    let id = |script: &str| {
        std::fs::write(dir.path().join("policy.sh"), script).unwrap();
        Plan::new(Grid::read(&dir.path().join("x.json")).unwrap()).unwrap().run_id(0)
    };
    let first = id("exit 1");
    assert_ne!(first, id("exit 2"));
    assert_eq!(first, id("exit 1"));
    std::fs::remove_file(dir.path().join("policy.sh")).unwrap();
    let error = Plan::new(Grid::read(&dir.path().join("x.json")).unwrap()).unwrap_err().to_string();
    assert!(
        error.contains("autoscalers[0].external.command") && error.contains("`policy.sh`: no such file"),
        "{error}"
    );
}

#[test]
fn a_grid_that_came_with_results_starts_nothing() {
    let external = json!({"external": {"command": ["sh", "-c", "exit 1"]}});
    let plan = Plan::new(Grid::stored("x.json", &grid(json!([external]))).unwrap()).unwrap();
    let run = run_cell_in_detail(&plan.cell(0), &plan.inputs, Limits::default(), &mut Workspace::default());
    let error = run.map(|_| ()).unwrap_err();
    assert!(error.contains("`sh -c exit 1` is not started here"), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// Whatever a program answers to a tick, the run ends, and ends alike when it is run again.
    #[test]
    fn nonsense_never_panics(answer in "[ -~]{0,60}") {
        let script = format!("{HELLO}{READY}while read q; do printf '%s\\n' \"$0\"; done");
        let external = json!({"external": {"command": ["sh", "-c", script, answer], "timeout_s": 5}});
        let outcome = |external: &Value| run_all(json!([external])).remove(0).map(|_| ());
        prop_assert_eq!(outcome(&external), outcome(&external));
    }
}

#[test]
#[cfg(feature = "report")]
fn the_python_package_and_its_notebook_work() {
    let has_polars = Command::new("python3")
        .args(["-c", "import polars"])
        .output()
        .is_ok_and(|output| output.status.success());
    if !has_polars {
        eprintln!("SKIPPED: no python3 with polars");
        return;
    }
    let mut tests = Command::new("python3");
    tests
        .args(["-m", "unittest", "discover", "python/tests"])
        .current_dir(root())
        .env("SCALEFRONT", env!("CARGO_BIN_EXE_scalefront"));
    let output = tests.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
