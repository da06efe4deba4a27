//! `compare` on stored sweeps of the built binary: what it says, what it warns of, and its exit code in
//! continuous integration.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::cli::{directory_with, scalefront, small_grid, stderr, stdout};

/// Two replicas against three: dearer and faster. Results lie in `results/small` and `results/other`.
fn two_sweeps(other: impl Fn(&mut Value)) -> TempDir {
    let mut grid = small_grid();
    grid["autoscalers"] = json!([{"static": {"replicas": 2}}]);
    grid["cluster"]["global_scheduler"] = json!("round_robin");
    grid["objectives"] = json!({"reference": {"latency": 5, "cost": 2}});
    let dir = directory_with(&grid.to_string());
    run(dir.path(), &["sweep", "x.json", "--quiet"]);
    other(&mut grid);
    fs::write(dir.path().join("x.json"), grid.to_string()).unwrap();
    run(dir.path(), &["sweep", "x.json", "--quiet", "--out", "results/other"]);
    dir
}

fn run(dir: &Path, arguments: &[&str]) -> String {
    let output = scalefront(dir, arguments);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn warnings(dir: &Path) -> String {
    let text = run(dir, &["compare", "results/small", "results/other"]);
    text.lines().filter(|line| line.starts_with("Beware: ")).collect::<Vec<_>>().join("\n")
}

#[test]
fn exit_codes_for_continuous_integration() {
    let dir = two_sweeps(|grid| grid["autoscalers"][0]["static"]["replicas"] = json!(3));
    let compare = |first: &str, second: &str, more: &[&str]| {
        scalefront(dir.path(), &[&["compare", first, second], more].concat())
    };
    let worse = compare("results/small", "results/other", &["--fail-above", "2", "--quiet"]);
    assert_eq!(worse.status.code(), Some(1));
    let said = stderr(&worse);
    assert!(
        said.starts_with("error: w: static (results/other) is ")
            && said.contains(" % worse than static (results/small)"),
        "{said}"
    );
    assert_eq!(stdout(&worse), "");
    // Without a limit, within the limit, and the other way round all is well.
    assert_eq!(compare("results/small", "results/other", &[]).status.code(), Some(0));
    assert_eq!(compare("results/small", "results/other", &["--fail-above", "100000"]).status.code(), Some(0));
    assert_eq!(compare("results/small", "results/small", &["--fail-above", "0"]).status.code(), Some(0));
    for wrong in [&["--fail-above", "-1"][..], &["--fail-above", "NaN"], &["--baseline", "nobody"]] {
        assert_eq!(compare("results/small", "results/other", wrong).status.code(), Some(2), "{wrong:?}");
    }
    assert_eq!(compare("results/small", "results/nothing", &[]).status.code(), Some(2));
    assert!(
        dir.path().join("results/compare/compare.html").exists()
            && dir.path().join("results/compare/plots/compare_w.png").exists()
    );
}

#[test]
fn equal_sweeps_are_compared_without_a_warning() {
    let dir = two_sweeps(|_| ());
    assert_eq!(warnings(dir.path()), "");
    let text = run(dir.path(), &["compare", "results/small", "results/other"]);
    assert!(text.contains("equal in every cell") && text.contains("0-0-2"), "{text}");
}

#[test]
fn it_warns_of_other_requests_under_the_same_name() {
    let rate = |grid: &mut Value| {
        grid["workloads"][0]["generate"]["arrivals"]["poisson"]["phases"][0]["rate_per_s"] = json!(9)
    };
    let found = warnings(two_sweeps(rate).path());
    assert!(found.contains("hold other requests") && found.contains("`w (seed 1)`, `w (seed 2)`"), "{found}");
}

#[test]
fn it_warns_of_other_hardware() {
    let attention = |grid: &mut Value| {
        grid["cluster"]["execution_time"] = json!("analytical");
        grid["cluster"]["node"] = json!("h100_dgx");
    };
    let found = warnings(two_sweeps(attention).path());
    assert!(
        found.contains("Hardware differs")
            && found.contains("Setting `node` differs: a100_pairwise_nvlink in results/small, h100_dgx"),
        "{found}"
    );
}

#[test]
fn it_warns_of_another_results_version() {
    let dir = two_sweeps(|_| ());
    let path = dir.path().join("results/other/manifest.json");
    let mut manifest: Value = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let version = manifest["results_version"].as_u64().unwrap();
    manifest["results_version"] = json!(version + 1);
    fs::write(&path, manifest.to_string()).unwrap();
    let found = warnings(dir.path());
    assert!(
        found.contains(&format!(
            "Results versions differ: {version} in results/small, {} in results/other",
            version + 1
        )),
        "{found}"
    );
}
