//! The pages in a real browser, where there is Node and Chromium; `tests/browser/` says what is tried.

use std::path::Path;
use std::process::Command;

use serde_json::json;

use crate::cli::{directory_with, scalefront, small_grid, stderr};

/// `CHROMIUM`, or what it is usually called.
fn chromium() -> Option<String> {
    let runs = |program: &str| {
        Command::new(program).arg("--version").output().is_ok_and(|output| output.status.success())
    };
    let mut names = std::env::var("CHROMIUM")
        .into_iter()
        .chain(["chromium", "chromium-browser", "google-chrome"].map(String::from));
    let found = names.find(|name| runs(name));
    if found.is_none() || !runs("node") {
        eprintln!("SKIPPED: no Node or no Chromium (CHROMIUM=path)");
        return None;
    }
    found
}

fn visit(browser: &str, script: &str, page: &Path) {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser").join(script);
    // How fast it is, is measured by hand: tests share the machine.
    let output = Command::new("node")
        .arg(script)
        .arg(page)
        .env("CHROMIUM", browser)
        .env("OPEN_WITHIN_MS", "20000")
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{said}");
}

#[test]
fn the_report_and_a_comparison_work_in_a_browser() {
    let Some(browser) = chromium() else { return };
    let mut grid = small_grid();
    let second = {
        let mut workload = grid["workloads"][0].clone();
        workload["name"] = json!("second");
        workload
    };
    grid["workloads"].as_array_mut().unwrap().push(second);
    grid["autoscalers"] = json!([{"static": {"replicas": [1, 2, 3]}}, "inferline"]);
    grid["objectives"] = json!({"constraints": {"p90_e2e_s": 1}});
    let dir = directory_with(&grid.to_string());
    for arguments in [&["sweep", "x.json", "--quiet"][..], &["compare", "results/small", "--quiet"]] {
        let output = scalefront(dir.path(), arguments);
        assert!(output.status.success(), "{}", stderr(&output));
    }
    visit(&browser, "report.mjs", &dir.path().join("results/small/report.html"));
    visit(&browser, "compare.mjs", &dir.path().join("results/compare/compare.html"));
    let dir = directory_with(&crate::pool_reports::grid().to_string());
    let output = scalefront(dir.path(), &["sweep", "x.json", "--quiet"]);
    assert!(output.status.success(), "{}", stderr(&output));
    visit(&browser, "report.mjs", &dir.path().join("results/apart/report.html"));
}
