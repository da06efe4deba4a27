//! What messages tell people to type exists.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use clap::{Command, CommandFactory};

use super::Cli;

/// Flags of other programs that texts speak of, and whose they are.
const FOREIGN: &[(&str, &str)] = &[
    ("array", "sbatch"),
    ("horizontal-pod-autoscaler-sync-period", "kube-controller-manager"),
    ("horizontal-pod-autoscaler-tolerance", "kube-controller-manager"),
    ("gpu-memory-utilization", "vLLM"),
    ("max-num-batched-tokens", "vLLM"),
    ("max-num-seqs", "vLLM"),
    ("backend", "SGLang"),
    ("output-details", "SGLang"),
    ("save-detailed", "vLLM"),
    ("save-result", "vLLM"),
    ("output", "GuideLLM"),
    ("profile", "GuideLLM"),
    ("use-server-token-count", "AIPerf"),
    ("streaming", "AIPerf"),
    ("request-rate", "vLLM"),
    ("random-range-ratio", "vLLM"),
    ("no-default-features", "cargo"),
];

fn sources(dir: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

/// Flags of a command and of those below it, by its name.
fn flags(command: &Command) -> BTreeSet<String> {
    let own = command.get_arguments().filter_map(|argument| argument.get_long().map(str::to_owned));
    own.chain(command.get_subcommands().flat_map(flags)).collect()
}

/// The words after `--` in a text.
fn flags_in(text: &str) -> impl Iterator<Item = String> {
    text.match_indices("--").filter_map(|(at, _)| {
        let before = text[..at].chars().next_back();
        let word: String =
            text[at + 2..].chars().take_while(|c| c.is_ascii_lowercase() || *c == '-').collect();
        let begins = word.chars().next().is_some_and(|c| c.is_ascii_lowercase());
        (begins && before.is_none_or(|c| !c.is_alphanumeric() && c != '-'))
            .then(|| word.trim_end_matches('-').to_owned())
    })
}

/// Lines that people see: no comments, but in this room, where they are the help; nothing from unit tests on.
fn seen(text: &str, is_cli: bool) -> String {
    let lines = text.lines().take_while(|line| !line.starts_with("#[cfg(test)]"));
    let shown = |line: &&str| {
        let line = line.trim_start();
        !line.starts_with("//") || (is_cli && line.starts_with("///"))
    };
    lines.filter(shown).collect::<Vec<_>>().join("\n")
}

#[test]
fn flags_that_texts_name_exist() {
    let mut command = Cli::command();
    command.build();
    let of: BTreeMap<String, BTreeSet<String>> =
        command.get_subcommands().map(|sub| (sub.get_name().to_owned(), flags(sub))).collect();
    let all: BTreeSet<String> = of.values().flatten().cloned().collect();
    let mut paths = Vec::new();
    sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut paths);
    paths.sort();
    let (mut faults, mut count, mut commands) = (Vec::new(), 0, 0);
    let mut used = BTreeSet::new();
    for path in paths
        .iter()
        .filter(|path| !path.components().any(|part| part.as_os_str().to_string_lossy().starts_with("tests")))
    {
        let is_cli = path.components().any(|part| part.as_os_str() == "cli");
        let text = seen(&fs::read_to_string(path).unwrap(), is_cli);
        for flag in flags_in(&text) {
            count += 1;
            match FOREIGN.iter().find(|(foreign, _)| *foreign == flag) {
                Some((foreign, _)) => drop(used.insert(*foreign)),
                None if all.contains(&flag) => {}
                None => faults.push(format!("{}: --{flag} is no flag of any command", path.display())),
            }
        }
        // A command in full: up to where its quotation ends.
        for (at, name) in text.match_indices("scalefront ") {
            let rest: String =
                text[at + name.len()..].chars().take_while(|c| !"`\"\n".contains(*c)).collect();
            let Some(known) = rest.split_whitespace().next().and_then(|first| of.get(first)) else {
                continue;
            };
            commands += 1;
            let unknown = flags_in(&rest).filter(|flag| !known.contains(flag));
            faults.extend(
                unknown.map(|flag| format!("{}: `scalefront {rest}` has no --{flag}", path.display())),
            );
        }
    }
    assert!(count > 60 && commands > 15, "only {count} flags in texts and {commands} commands found");
    let unused: Vec<_> = FOREIGN.iter().filter(|(foreign, _)| !used.contains(foreign)).collect();
    assert!(faults.is_empty() && unused.is_empty(), "{faults:#?}\nno longer spoken of: {unused:?}");
}

/// A test that finds nothing would pass for ever.
#[test]
fn flags_are_found_in_texts() {
    let found = |text: &str| flags_in(text).collect::<Vec<_>>();
    assert_eq!(
        found("give --out DIR, or `--dry-run`; a--b, -- and --- are none; --max-events=3"),
        ["out", "dry-run", "max-events"]
    );
    assert_eq!(seen("a --x\n// --y\n    /// --z\n#[cfg(test)]\n--w", true), "a --x\n    /// --z");
    assert_eq!(seen("a --x\n/// --z", false), "a --x");
}
