//! No files of a room use each other, directly or around: a reader can begin with those that use nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

type Module = Vec<String>;

/// Each module with its code: no comments, no unit tests.
fn modules() -> BTreeMap<Module, String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = BTreeMap::new();
    for path in crate::tidy::sources(&src) {
        let mut module: Module = path
            .strip_prefix(&src)
            .unwrap()
            .with_extension("")
            .iter()
            .map(|part| part.to_str().unwrap().into())
            .collect();
        if matches!(module.last().map(String::as_str), Some("mod" | "lib" | "main")) {
            module.pop();
        }
        if module.iter().any(|part| part.starts_with("tests")) {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let code: String =
            crate::tidy::code(&text).flat_map(|(_, line)| [line.split("//").next().unwrap(), "\n"]).collect();
        // The library and the program share the root.
        found.entry(module).or_insert_with(String::new).push_str(&code);
    }
    found
}

/// `a::{b, c::{d, e}}` as `a::b`, `a::c::d`, `a::c::e`.
fn expanded(tree: &str) -> Vec<String> {
    let tree = tree.trim();
    let Some(brace) = tree.find('{') else { return vec![tree.split(" as ").next().unwrap().trim().into()] };
    let inside = &tree[brace + 1..tree.rfind('}').unwrap()];
    let (mut depth, mut from, mut found) = (0, 0, Vec::new());
    for (at, character) in inside.char_indices().chain([(inside.len(), ',')]) {
        match character {
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => {
                let part = inside[from..at].trim();
                found.extend(
                    expanded(part)
                        .into_iter()
                        .filter(|part| !part.is_empty())
                        .map(|part| format!("{}{part}", &tree[..brace])),
                );
                from = at + 1;
            }
            _ => {}
        }
    }
    found
}

/// All paths that some code names.
fn paths(code: &str) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    let mut from = 0;
    for line in code.lines() {
        let stripped = line.trim_start();
        if stripped.starts_with("use ") || (stripped.starts_with("pub") && stripped.contains(" use ")) {
            let tree = &code[from + line.find("use ").unwrap() + 4..];
            found.extend(expanded(&tree[..tree.find(';').unwrap()]));
        }
        from += line.len() + 1;
    }
    let words =
        code.split(|character: char| !character.is_alphanumeric() && character != '_' && character != ':');
    found.extend(
        words.filter(|word| word.starts_with("crate::") || word.starts_with("super::")).map(str::to_owned),
    );
    found
}

/// The module that a path named in `from` leads into, if it is one of ours.
fn target(path: &str, from: &Module, modules: &BTreeMap<Module, String>) -> Option<Module> {
    let segments: Vec<&str> = path.split("::").collect();
    let ups = segments.iter().take_while(|segment| **segment == "super").count();
    let (mut module, rest): (Module, &[&str]) = match segments[0] {
        "crate" | "scalefront" => (Vec::new(), &segments[1..]),
        "super" => (from[..from.len().checked_sub(ups)?].to_vec(), &segments[ups..]),
        "self" => (from.clone(), &segments[1..]),
        _ => (from.clone(), &segments[..]),
    };
    for segment in rest {
        module.push((*segment).into());
        if !modules.contains_key(&module) {
            module.pop();
            break;
        }
    }
    (!module.is_empty() && module != *from).then_some(module)
}

/// Who of a room uses whom.
type Uses = BTreeMap<String, BTreeSet<String>>;

fn uses() -> BTreeMap<Module, Uses> {
    let modules = modules();
    let mut rooms: BTreeMap<Module, Uses> = BTreeMap::new();
    for (from, code) in &modules {
        for to in paths(code).iter().filter_map(|path| target(path, from, &modules)) {
            let shared = from.iter().zip(&to).take_while(|(one, other)| one == other).count();
            if shared < from.len() && shared < to.len() {
                let room = rooms.entry(from[..shared].to_vec()).or_default();
                room.entry(from[shared].clone()).or_default().insert(to[shared].clone());
            }
        }
    }
    rooms
}

fn reached<'a>(uses: &'a Uses, from: &'a str) -> BTreeSet<&'a str> {
    let mut found = BTreeSet::new();
    let mut open = vec![from];
    while let Some(next) = open.pop() {
        open.extend(
            uses.get(next).into_iter().flatten().map(String::as_str).filter(|used| found.insert(*used)),
        );
    }
    found
}

#[test]
fn no_files_of_a_room_use_each_other() {
    let rooms = uses();
    let mut circles = Vec::new();
    let mut arrows = 0;
    for (room, uses) in &rooms {
        arrows += uses.values().map(BTreeSet::len).sum::<usize>();
        circles.extend(
            uses.keys()
                .filter(|file| reached(uses, file).contains(file.as_str()))
                .map(|file| format!("{}::{file}", room.join("::"))),
        );
    }
    assert!(arrows > 500, "only {arrows} uses found");
    assert!(circles.is_empty(), "these lie on circles: {circles:#?}");
}

#[test]
fn uses_are_found_however_they_are_written() {
    let code = "pub use self::a::{B, c::{D as E, F}};\nuse super::g::H;\nfn f() { crate::i::j(super::k::L); }\nlet x = 1;";
    let expected =
        ["crate::i::j", "self::a::B", "self::a::c::D", "self::a::c::F", "super::g::H", "super::k::L"];
    assert_eq!(paths(code).into_iter().collect::<Vec<_>>(), expected);
    let uses = Uses::from([
        ("a".into(), ["b".into()].into()),
        ("b".into(), ["c".into()].into()),
        ("c".into(), ["a".into()].into()),
    ]);
    assert!(reached(&uses, "a").contains("a"));
}
