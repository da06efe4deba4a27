//! House rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 600;

/// Rooms below the sweep: what they may not know, and as what it shows in a source file.
const ROOMS_BELOW_SWEEP: &[&str] = &["simulation", "autoscaler", "global_scheduler", "replica_scheduler", "hardware", "workload"];
const UNKNOWN_BELOW_SWEEP: &[&str] =
    &["polars", "plotters", "clap", "indicatif", "rayon", "std::thread", "std::time", "println!", "results/", "crate::sweep", "crate::cli"];

fn sources(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => found.extend(sources(&path)),
            false if path.extension().is_some_and(|extension| extension == "rs") => found.push(path),
            false => {}
        }
    }
    found.sort();
    found
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Lines of code with their numbers: no comments, and nothing from the unit tests on, which close a file.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_below_the_sweep_know_nothing_above_them() {
    let mut faults = Vec::new();
    let mut files = 0;
    for room in ROOMS_BELOW_SWEEP {
        // Tests may print and read files.
        let is_test = |path: &Path| path.components().any(|part| part.as_os_str() == "tests");
        for path in sources(&root().join("src").join(room)).into_iter().filter(|path| !is_test(path)) {
            files += 1;
            let text = fs::read_to_string(&path).unwrap();
            for (number, line) in code(&text) {
                for unknown in UNKNOWN_BELOW_SWEEP.iter().filter(|unknown| line.contains(*unknown)) {
                    faults.push(format!("{}:{number}: {unknown}", path.display()));
                }
            }
        }
    }
    assert!(files > 20, "only {files} files looked at");
    assert!(faults.is_empty(), "{faults:#?}");
}

#[test]
fn the_event_loop_knows_no_policy_by_name() {
    let policies = scalefront::autoscaler::AutoscalerSettings::NAMES;
    for path in sources(&root().join("src/simulation")) {
        let text = fs::read_to_string(&path).unwrap();
        for (number, line) in code(&text) {
            for policy in policies {
                assert!(!line.contains(&format!("\"{policy}\"")), "{}:{number}: {policy}", path.display());
            }
        }
    }
}

#[test]
fn hash_maps_reach_no_result() {
    let mut faults = Vec::new();
    for path in sources(&root().join("src")) {
        let text = fs::read_to_string(&path).unwrap();
        faults.extend(
            code(&text)
                // `SessionHashSettings` is no set.
                .map(|(n, line)| (n, line.replace("HashSettings", "")))
                .filter(|(_, line)| line.contains("HashMap") || line.contains("HashSet"))
                .map(|(n, _)| format!("{}:{n}", path.display())),
        );
    }
    assert!(faults.is_empty(), "use BTreeMap, BTreeSet or Vec, whose order is fixed: {faults:#?}");
}

#[test]
fn files_are_short_enough_to_read() {
    for path in sources(&root().join("src")).into_iter().chain(sources(&root().join("tests"))) {
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        assert!(lines <= MOST_LINES, "{}: {lines} lines, expected at most {MOST_LINES}", path.display());
    }
}
