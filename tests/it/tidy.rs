//! House rules that a compiler does not know.

use std::fs;
use std::path::{Path, PathBuf};

const MOST_LINES: usize = 720;

/// Rooms below the sweep: what they may not know, and as what it shows in a source file.
const ROOMS_BELOW_SWEEP: &[&str] = &[
    "settings",
    "random",
    "workload",
    "hardware",
    "replica_scheduler",
    "global_scheduler",
    "autoscaler",
    "simulation",
    "controllers",
];
const UNKNOWN_BELOW_SWEEP: &[&str] = &[
    "polars",
    "plotters",
    "clap",
    "indicatif",
    "rayon",
    "std::thread",
    "std::time",
    "println!",
    "results/",
    "crate::sweep",
    "crate::cli",
];

pub fn sources(dir: &Path) -> Vec<PathBuf> {
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
pub fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let lines = text.lines().enumerate().take_while(|(_, line)| !line.starts_with("#[cfg(test)]"));
    lines.map(|(i, line)| (i + 1, line)).filter(|(_, line)| !line.trim_start().starts_with("//"))
}

#[test]
fn rooms_below_the_sweep_know_nothing_above_them() {
    let mut faults = Vec::new();
    let mut files = 0;
    for room in ROOMS_BELOW_SWEEP {
        // Tests may print and read files.
        for path in files_of(&root().join("src"), room) {
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

/// The modules that a file declares, in its order: rooms from the ground up.
fn rooms(file: &Path) -> Vec<String> {
    let text = fs::read_to_string(file).unwrap();
    let declared = |line: &str| {
        line.strip_prefix("pub mod ")
            .or(line.strip_prefix("mod "))
            .and_then(|rest| rest.strip_suffix(';').map(str::to_owned))
    };
    text.lines().filter_map(declared).collect()
}

/// The files of a room, without its tests.
fn files_of(parent: &Path, room: &str) -> Vec<PathBuf> {
    let file = parent.join(room).with_extension("rs");
    let inner = parent.join(room);
    let is_test = |path: &PathBuf| {
        path.strip_prefix(parent)
            .unwrap()
            .components()
            .any(|part| part.as_os_str().to_string_lossy().starts_with("tests"))
    };
    let found = if inner.is_dir() { sources(&inner) } else { Vec::new() };
    found.into_iter().chain(file.exists().then_some(file)).filter(|path| !is_test(path)).collect()
}

#[test]
fn each_room_knows_only_rooms_listed_before_it() {
    let src = root().join("src");
    let mut faults = Vec::new();
    let mut pairs = 0;
    for (parent, list, prefix) in [
        (src.clone(), src.join("lib.rs"), "crate"),
        (src.join("sweep"), src.join("sweep/mod.rs"), "crate::sweep"),
    ] {
        let rooms = rooms(&list);
        for (place, room) in rooms.iter().enumerate() {
            for path in files_of(&parent, room) {
                let text = fs::read_to_string(&path).unwrap();
                // In a room's own file its siblings are `super`'s.
                let is_head = path.parent() == Some(parent.as_path());
                for above in &rooms[place + 1..] {
                    pairs += 1;
                    let names = [format!("{prefix}::{above}::"), format!("super::{above}::")];
                    let names = if is_head { &names[..] } else { &names[..1] };
                    let lines = code(&text).filter(|(_, line)| names.iter().any(|name| line.contains(name)));
                    faults.extend(
                        lines.map(|(number, _)| format!("{}:{number}: {room} knows {above}", path.display())),
                    );
                }
            }
        }
    }
    assert!(pairs > 1_000, "only {pairs} pairs of file and room looked at");
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
