//! Every command in the documentation runs, and what it quotes from the code is there.
//!
//! Each page has a directory of its own with copies of `sweeps/` and `traces/`. Its commands (lines of `sh`
//! blocks that begin with `cargo run --release` or `scalefront`) are run there, in order, by the built
//! binary. To be quick, grids are made small first: phases of at most 20 s, two seeds, at most 100 requests
//! of a trace, a reference point that short runs reach. Blocks marked `<!-- file: NAME -->` are written as
//! files before.

use std::fs;
use std::path::Path;
use std::process::Command;

use scalefront::sweep::grid::Grid;
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn pages() -> Vec<(String, String)> {
    let mut paths = vec![root().join("README.md")];
    paths.extend(fs::read_dir(root().join("docs")).unwrap().map(|entry| entry.unwrap().path()));
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    paths.sort();
    let name = |path: &Path| path.strip_prefix(root()).unwrap().display().to_string();
    paths.iter().map(|path| (name(path), fs::read_to_string(path).unwrap())).collect()
}

/// A fenced block: its language, its text, and what the comment before it says.
struct Block {
    language: String,
    text: String,
    comment: String,
}

fn blocks(page: &str) -> Vec<Block> {
    let (mut blocks, mut open, mut comment): (Vec<Block>, bool, String) = (Vec::new(), false, String::new());
    for line in page.lines() {
        match (line.strip_prefix("```"), open) {
            (Some(language), false) => {
                blocks.push(Block {
                    language: language.into(),
                    text: String::new(),
                    comment: std::mem::take(&mut comment),
                });
                open = true;
            }
            (Some(_), true) => open = false,
            (None, true) => blocks.last_mut().unwrap().text += &format!("{line}\n"),
            (None, false) if !line.is_empty() => {
                comment = line
                    .strip_prefix("<!-- ")
                    .and_then(|line| line.strip_suffix(" -->"))
                    .unwrap_or_default()
                    .into();
            }
            (None, false) => {}
        }
    }
    assert!(!open, "a block without end");
    blocks
}

/// The words of a command, with double quotes.
fn words(command: &str) -> Vec<String> {
    let parts = command.split('"').enumerate();
    let words = parts.flat_map(|(i, part)| {
        if i % 2 == 1 { vec![part.to_owned()] } else { part.split_whitespace().map(str::to_owned).collect() }
    });
    words.collect()
}

fn commands(block: &Block) -> Vec<Vec<String>> {
    let lines = block.text.lines().filter(|_| block.language == "sh");
    let arguments = lines.filter_map(|line| {
        line.strip_prefix("cargo run --release ").or_else(|| line.strip_prefix("scalefront "))
    });
    arguments.map(|arguments| words(arguments.trim_start_matches("-- "))).collect()
}

/// Run by cargo itself, and by the module `browser`.
const RUN_ELSEWHERE: [&str; 2] = ["cargo test --release", "node tests/browser/"];

#[test]
fn no_command_is_left_untried() {
    for (page, text) in pages() {
        for block in
            blocks(&text).iter().filter(|block| ["sh", "bash", "console"].contains(&block.language.as_str()))
        {
            let lines = block
                .text
                .lines()
                .filter(|line| !RUN_ELSEWHERE.iter().any(|start| line.starts_with(start)))
                .count();
            assert_eq!(lines, commands(block).len(), "{page}: a line that no test runs:\n{}", block.text);
        }
    }
}

#[test]
fn quotations_from_the_code_are_exact() {
    let mut quotations = 0;
    for (page, text) in pages() {
        for block in blocks(&text) {
            let Some(source) = block.comment.strip_prefix("from: ") else { continue };
            quotations += 1;
            assert!(
                fs::read_to_string(root().join(source)).unwrap().contains(&block.text),
                "{page}: not in {source}:\n{}",
                block.text
            );
        }
    }
    assert!(quotations >= 4);
}

#[test]
fn grids_shown_are_accepted_as_they_are() {
    let mut grids = 0;
    for (page, text) in pages() {
        for block in blocks(&text).iter().filter(|block| block.language == "json") {
            let Ok(Value::Object(grid)) = serde_json::from_str(&block.text) else { continue };
            if grid.contains_key("workloads") {
                grids += 1;
                let dir = tempfile::tempdir().unwrap();
                fs::write(dir.path().join("shown.json"), &block.text).unwrap();
                Grid::read(&dir.path().join("shown.json")).unwrap_or_else(|error| panic!("{page}: {error}"));
            }
        }
    }
    assert!(grids >= 5);
}

#[test]
fn links_between_pages_lead_somewhere() {
    for (page, text) in pages() {
        let folder = root().join(&page).parent().unwrap().to_owned();
        for link in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            let path = link.split('#').next().unwrap();
            let is_ours = !path.is_empty() && !path.contains("://") && !path.ends_with(".png");
            assert!(!is_ours || folder.join(path).exists(), "{page}: {link}");
        }
    }
}

/// A grid as it is, with little to do.
fn small(grid: &mut Value) {
    match grid {
        Value::Object(members) => {
            for (name, value) in members {
                match name.as_str() {
                    "duration_s" => *value = json!(value.as_f64().unwrap_or(20.0).min(20.0)),
                    "max_requests" => *value = json!(100),
                    "seeds" => *value = json!([1, 2]),
                    "reference" => *value = json!({ "latency": 1000, "cost": 1000 }),
                    _ => small(value),
                }
            }
        }
        Value::Array(values) => values.iter_mut().for_each(small),
        _ => {}
    }
}

fn write_small(path: &Path, text: &str) {
    let mut grid: Value = serde_json::from_str(text).unwrap();
    small(&mut grid);
    fs::write(path, grid.to_string()).unwrap();
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        match (path.is_dir(), path.extension().is_some_and(|extension| extension == "json")) {
            (true, _) => copy(&path, &target),
            (false, true) if !path.ends_with("grid.schema.json") => {
                write_small(&target, &fs::read_to_string(&path).unwrap())
            }
            (false, _) => {
                fs::copy(&path, &target).unwrap();
            }
        }
    }
}

#[test]
fn every_command_runs() {
    let mut run = 0;
    for (page, text) in pages() {
        let dir = tempfile::tempdir().unwrap();
        copy(&root().join("sweeps"), &dir.path().join("sweeps"));
        copy(&root().join("traces"), &dir.path().join("traces"));
        for block in blocks(&text) {
            if let Some(name) = block.comment.strip_prefix("file: ") {
                write_small(&dir.path().join(name), &block.text);
            }
            for arguments in commands(&block) {
                let output = Command::new(env!("CARGO_BIN_EXE_scalefront"))
                    .args(&arguments)
                    .current_dir(dir.path())
                    .output()
                    .unwrap();
                let errors = String::from_utf8_lossy(&output.stderr);
                assert!(
                    output.status.success(),
                    "{page}: scalefront {}: {:?}\n{errors}",
                    arguments.join(" "),
                    output.status
                );
                run += 1;
            }
        }
    }
    assert!(run >= 18, "only {run} commands found");
}
