//! Which of the package's versions answer, by its own rules (read in aiconfigurator-core 0.12.0 and checked against its answers).
//!
//! `query_versions.yaml` names a *current* version (and a *previous* one) of each backend, for some systems others. A table is looked for
//! in the version asked for, then in those its `reuse.yaml` names, then in earlier ones of the same backend, nearest first; of equal keys
//! the first found counts. Versions that are no version numbers (`dev-<commit>`) are never looked at.

use std::path::{Path, PathBuf};

use crate::hardware::HardwareError;

/// A version's place in the order of versions: release numbers, then development, candidate, final and later releases, and their number.
type Key = ([u64; 4], u8, u64);

pub(super) fn key(version: &str) -> Option<Key> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let (release, rest) = version.split_at(end);
    let mut numbers = [0; 4];
    for (place, number) in numbers.iter_mut().zip(release.trim_end_matches('.').split('.')) {
        *place = number.parse().ok()?;
    }
    let number = |text: &str| text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0);
    match rest {
        "" => Some((numbers, 2, 0)),
        _ if rest.starts_with("rc") => Some((numbers, 1, number(&rest[2..]))),
        _ if rest.starts_with("post") => Some((numbers, 3, number(&rest[4..]))),
        _ if rest.starts_with("dev") && !rest.starts_with("dev-") => Some((numbers, 0, number(&rest[3..]))),
        _ => None,
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Slots {
    current: String,
    previous: Option<String>,
    /// Whether they are this system's own, which then has no next one.
    own: bool,
}

/// `backend: {current: "1", previous: null}` under `defaults:`, or under the system's name below `overrides:`.
fn slots(text: &str, system: &str, backend: &str) -> Option<Slots> {
    let (mut section, mut of_system) = (String::new(), String::new());
    let (mut default, mut own) = (None, None);
    for line in text.lines().map(|line| line.split(" #").next().unwrap_or_default()).filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = line.trim().split_once(':') else { continue };
        match line.len() - line.trim_start().len() {
            0 => section = name.to_string(),
            2 if section == "overrides" => of_system = name.to_string(),
            _ => {}
        }
        let applies = section == "defaults" || section == "overrides" && of_system == system;
        if !applies || name != backend || !value.trim().starts_with('{') {
            continue;
        }
        let field = |field: &str| {
            let (_, after) = value.split_once(&format!("{field}:"))?;
            let text = after.trim_start().split([',', '}']).next()?.trim().trim_matches(['"', '\'']).to_string();
            (text != "null").then_some(text)
        };
        let found = field("current").map(|current| Slots { current, previous: field("previous"), own: section == "overrides" });
        if section == "defaults" { default = found } else { own = found }
    }
    own.or(default)
}

/// Directories in a directory that are version numbers, ascending.
fn listed(dir: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> =
        entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| key(name).is_some()).collect();
    names.sort_by_key(|name| key(name));
    names
}

fn has_table(dir: &Path) -> bool {
    std::fs::read_dir(dir).into_iter().flatten().flatten().any(|entry| entry.path().extension().is_some_and(|kind| kind == "parquet"))
}

/// The version that answers for `requested`.
pub(super) fn resolve(
    systems_dir: &Path,
    data: &Path,
    system: &str,
    backend: &str,
    requested: Option<&str>,
) -> Result<String, HardwareError> {
    let gemm = data.join("gemm").join(backend);
    let known = listed(&gemm);
    let unsupported = |message: String| Err(HardwareError::Unsupported(message));
    let slots = std::fs::read_to_string(systems_dir.join("query_versions.yaml")).ok().and_then(|text| slots(&text, system, backend));
    let Some(slots) = slots else {
        // Tables without the file that names their versions: the newest that has any.
        let newest = known.iter().rev().find(|version| has_table(&gemm.join(version)));
        return match requested {
            None | Some("current") => match newest {
                Some(version) => Ok(version.clone()),
                None => unsupported(format!("no version with tables in {}", gemm.display())),
            },
            Some(version) if known.iter().any(|known| known == version) => Ok(version.into()),
            Some(version) => unsupported(format!("no `backend_version` {version} in {}, which has {}", gemm.display(), known.join(", "))),
        };
    };
    let next = || {
        if slots.own {
            return None;
        }
        let families = std::fs::read_dir(data).into_iter().flatten().flatten();
        let versions = families.flat_map(|family| {
            let dir = family.path().join(backend);
            listed(&dir).into_iter().filter(|version| has_table(&dir.join(version))).collect::<Vec<_>>()
        });
        versions.filter(|version| key(version) > key(&slots.current)).max_by_key(|version| key(version))
    };
    match requested {
        None | Some("current") => Ok(slots.current),
        Some("next") => match next() {
            Some(version) => Ok(version),
            None => unsupported(format!("no next version of {backend} on {system}; use `current` ({})", slots.current)),
        },
        Some("previous") => match slots.previous {
            Some(version) => Ok(version),
            None => unsupported(format!("no previous version of {backend} on {system}; use `current` ({})", slots.current)),
        },
        Some(version) if version == slots.current || slots.previous.as_deref() == Some(version) || next().as_deref() == Some(version) => {
            Ok(version.into())
        }
        Some(version) => unsupported(format!(
            "`backend_version` is {version}, which the package does not answer for on {system}: use `current` ({}){}",
            slots.current,
            next().map_or_else(String::new, |next| format!(" or `next` ({next})"))
        )),
    }
}

/// The files of a table, in the order in which they answer.
pub(super) fn files(data: &Path, family: &str, op: &str, backend: &str, version: &str) -> Result<Vec<PathBuf>, HardwareError> {
    let versions = data.join(family).join(backend);
    let name = format!("{op}_perf.parquet");
    let mut order = vec![version.to_string()];
    if let Ok(text) = std::fs::read_to_string(versions.join(version).join("reuse.yaml")) {
        order.extend(donors(&text, &format!("{op}_perf")));
    }
    let earlier: Vec<String> = listed(&versions).into_iter().rev().filter(|known| key(known) < key(version)).collect();
    order.extend(earlier);
    let mut found: Vec<PathBuf> = Vec::new();
    for file in order.iter().map(|version| versions.join(version).join(&name)) {
        if file.exists() && !found.contains(&file) {
            found.push(file);
        }
    }
    if found.is_empty() {
        let file = versions.join(version).join(&name);
        return Err(HardwareError::NotFound { path: file.clone(), places: vec![file] });
    }
    Ok(found)
}

/// Versions that a table may be taken from: `- table: name` followed by `from_version: "1"`.
fn donors(text: &str, table: &str) -> Vec<String> {
    let (mut of_table, mut found) = (false, Vec::new());
    for line in text.lines() {
        let Some((name, value)) = line.trim().trim_start_matches("- ").split_once(':') else { continue };
        let value = value.trim().trim_matches(['"', '\'']);
        match name.trim() {
            "table" => of_table = value == table,
            "from_version" if of_table => found.push(value.to_string()),
            _ => {}
        }
    }
    found
}

/// The kernels of attention that count first on a device: those pinned for the latest version up to this one.
pub(super) fn lane(text: &str, backend: &str, version: &str, capability: u32) -> Option<String> {
    let (mut of_backend, mut of_version) = (false, None);
    let mut best: Option<(Key, String)> = None;
    for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
        let Some((name, value)) = line.trim().split_once(':') else { continue };
        let name = name.trim_matches(['"', '\'']);
        match line.len() - line.trim_start().len() {
            0 => of_backend = name == backend,
            2 => of_version = key(name),
            4 if of_backend && name.parse() == Ok(capability) => {
                let lane = value.split(" #").next().unwrap_or_default().trim().trim_matches(['"', '\'']);
                if let Some(found) = of_version.filter(|found| Some(*found) <= key(version)) {
                    if best.as_ref().is_none_or(|(known, _)| *known <= found) {
                        best = Some((found, lane.to_string()));
                    }
                }
            }
            _ => {}
        }
    }
    best.map(|(_, lane)| lane)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_builds_of_commits_are_none() {
        let ascending = ["0.1.dev19262", "0.5.6", "0.5.6.post2", "0.5.14", "0.24.0", "1.3.0rc10", "1.3.0rc20", "1.3.0"];
        assert!(ascending.is_sorted_by_key(|version| key(version).unwrap()));
        assert_eq!(key("dev-1aa0e962"), None);
    }

    const YAML: &str = "schema_version: 1\n# a comment: of no account\ndefaults:\n  vllm: {current: \"0.24.0\", previous: null} # next derives\n  \
        sglang: {current: \"0.5.14\", previous: \"0.5.10\"}\noverrides:\n  a100_sxm:\n    vllm: {current: \"0.14.0\", previous: null}\n";

    fn tables(dir: &Path, versions: &[&str]) {
        for version in versions {
            let dir = dir.join("data/x/gemm/vllm").join(version);
            std::fs::create_dir_all(&dir).unwrap();
            std::fs::write(dir.join("gemm_perf.parquet"), "").unwrap();
        }
    }

    #[test]
    fn the_current_version_answers_and_others_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data/x");
        tables(dir.path(), &["0.22.0", "0.24.0", "0.31.0", "dev-1aa0"]);
        let resolve = |system: &str, requested| resolve(dir.path(), &data, system, "vllm", requested).map_err(|error| error.to_string());
        assert_eq!(resolve("x", None).unwrap(), "0.31.0");
        assert!(resolve("x", Some("0.25.0")).unwrap_err().contains("which has 0.22.0, 0.24.0, 0.31.0"));
        std::fs::write(dir.path().join("query_versions.yaml"), YAML).unwrap();
        assert_eq!(resolve("x", None).unwrap(), "0.24.0");
        assert_eq!(resolve("x", Some("next")).unwrap(), "0.31.0");
        assert_eq!(resolve("a100_sxm", None).unwrap(), "0.14.0");
        assert!(resolve("a100_sxm", Some("next")).unwrap_err().contains("no next version of vllm on a100_sxm; use `current` (0.14.0)"));
        assert!(resolve("x", Some("0.22.0")).unwrap_err().contains("use `current` (0.24.0) or `next` (0.31.0)"));
        assert!(resolve("x", Some("previous")).is_err());
    }

    #[test]
    fn tables_come_from_donors_and_earlier_versions() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data/x");
        tables(dir.path(), &["0.22.0", "0.19.0", "0.24.0", "0.25.0", "0.31.0"]);
        let reuse = "reuse:\n- table: moe_perf\n  from_version: 0.31.0\n- table: gemm_perf\n  from_version: \"0.25.0\"\n";
        std::fs::write(data.join("gemm/vllm/0.24.0/reuse.yaml"), reuse).unwrap();
        let found = files(&data, "gemm", "gemm", "vllm", "0.24.0").unwrap();
        let versions: Vec<_> = found.iter().map(|file| file.parent().unwrap().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(versions, ["0.24.0", "0.25.0", "0.22.0", "0.19.0"]);
        assert!(files(&data, "moe", "moe", "vllm", "0.24.0").is_err());
    }

    #[test]
    fn kernels_are_pinned_from_a_version_on() {
        let text = "# lanes\nsglang:\n  \"0.5.14\":\n    90: fa3\n    100: triton # though others have more rows\nvllm:\n  \"0.24.0\":\n    90: default\n";
        assert_eq!(lane(text, "sglang", "0.5.16", 100).as_deref(), Some("triton"));
        assert_eq!(lane(text, "sglang", "0.5.10", 100), None);
        assert_eq!(lane(text, "vllm", "0.24.0", 120), None);
    }
}
