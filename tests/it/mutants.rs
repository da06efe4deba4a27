//! The list of deliberate faults: it fits the sources, and the documents say what it says.

use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path))
        .unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// Name, what it breaks, file, where, what is put there, the tests that notice.
fn faults(list: &str) -> Vec<[&str; 6]> {
    let lines = list.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    lines
        .map(|line| {
            line.split('\t')
                .collect::<Vec<_>>()
                .try_into()
                .unwrap_or_else(|_| panic!("not six fields: {line}"))
        })
        .collect()
}

#[test]
fn every_fault_has_its_place() {
    let list = read("tests/mutants/list.tsv");
    let faults = faults(&list);
    let mut names: Vec<&str> = faults.iter().map(|fault| fault[0]).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), faults.len(), "a name stands twice");
    for [name, _, file, place, after, tests] in faults {
        let place = place.replace("\\n", "\n");
        let [before, target, behind] = place.split('¦').collect::<Vec<_>>()[..] else {
            panic!("{name}: expected two ¦ in {place:?}");
        };
        let found = read(file).matches(&[before, target, behind].concat()).count();
        assert_eq!(found, 1, "{name}: times this stands in {file}:\n{place}");
        assert_ne!(target, after, "{name}: no fault");
        assert!(!tests.is_empty(), "{name}: which test notices?");
    }
}

#[test]
fn the_documents_list_every_fault() {
    let list = read("tests/mutants/list.tsv");
    let mut table = String::from("| fault | what | noticed by |\n|---|---|---|\n");
    let faults = faults(&list);
    for [name, what, _, _, _, tests] in &faults {
        let tests = tests.split(' ').map(|test| format!("`{test}`")).collect::<Vec<_>>().join(", ");
        table += &format!("| `{name}` | {what} | {tests} |\n");
    }
    let path = "docs/reliability.md";
    let documented = read(path);
    let begin = documented.find("| fault | what |").expect("a table of faults");
    let end = documented[begin..].find("\n\n").map_or(documented.len(), |length| begin + length + 1);
    if std::env::var_os("SCALEFRONT_WRITE_MUTANTS").is_some() {
        let written = [&documented[..begin], &table, &documented[end..]].concat();
        fs::write(Path::new(env!("CARGO_MANIFEST_DIR")).join(path), written).unwrap();
    } else {
        assert!(
            documented[begin..end] == table,
            "made from the list by: SCALEFRONT_WRITE_MUTANTS=1 cargo t mutants"
        );
    }
    assert!(
        documented.contains(&format!("| {} faults: ", faults.len())),
        "the number of faults in the table of promises"
    );
}
