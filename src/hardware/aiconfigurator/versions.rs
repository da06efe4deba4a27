//! Which of the package's versions answer, by its own rules (read in aiconfigurator-core 0.12.0 and checked
//! against its answers).
//!
//! `query_versions.yaml` names a *current* version (and a *previous* one) of each backend, for some systems
//! others; *next* is the newest one after it. A table is looked for in the version asked for, then in those
//! its `reuse.yaml` names, then in earlier ones of the same backend, nearest first, then in those of other
//! backends, of which only rows of shared kernels count; of equal keys the first found counts. Versions that
//! are no version numbers (`dev-<commit>`) are never looked at.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

use super::attention::Pin;
use super::tables::Source;
use crate::hardware::HardwareError;

const QUERY_VERSIONS: &str = "query_versions.yaml";
const LANES: &str = "attention_lane_defaults.yaml";
const MANIFEST: &str = "perf_data_reuse_manifest.yaml";
const REUSE: &str = "reuse.yaml";

/// A version's place in the order of versions: release numbers, then development, candidate, final and later
/// releases, and their number.
type Key = ([u64; 4], u8, u64);

pub(super) fn key(version: &str) -> Option<Key> {
    let end = version.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(version.len());
    let (release, rest) = version.split_at(end);
    let mut numbers = [0; 4];
    for (place, number) in numbers.iter_mut().zip(release.trim_end_matches('.').split('.')) {
        *place = number.parse().ok()?;
    }
    let number = |text: &str| {
        text.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default().parse().unwrap_or(0)
    };
    match rest {
        "" => Some((numbers, 2, 0)),
        _ if rest.starts_with("rc") => Some((numbers, 1, number(&rest[2..]))),
        _ if rest.starts_with("post") => Some((numbers, 3, number(&rest[4..]))),
        _ if rest.starts_with("dev") && !rest.starts_with("dev-") => Some((numbers, 0, number(&rest[3..]))),
        _ => None,
    }
}

/// `query_versions.yaml`.
#[derive(Debug, Deserialize)]
struct QueryVersions {
    #[serde(default)]
    defaults: BTreeMap<String, Slots>,
    #[serde(default)]
    overrides: BTreeMap<String, BTreeMap<String, Slots>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
struct Slots {
    current: String,
    previous: Option<String>,
}

/// `attention_lane_defaults.yaml`: kernels by version and compute capability. What it says of single
/// architectures is of none that are modelled here.
#[derive(Debug, Deserialize)]
struct LaneDefaults {
    #[serde(default)]
    vllm: Pins,
    #[serde(default)]
    sglang: Pins,
    #[serde(default)]
    trtllm: Pins,
    architectures: Option<IgnoredAny>,
}

type Pins = BTreeMap<String, BTreeMap<u32, String>>;

/// `reuse.yaml` beside the tables of a version.
#[derive(Debug, Deserialize)]
struct Reuse {
    #[serde(default)]
    reuse: Vec<Donor>,
}

#[derive(Debug, Deserialize)]
struct Donor {
    table: String,
    from_version: String,
}

/// `perf_data_reuse_manifest.yaml`: kernels that several engines use.
#[derive(Debug, Deserialize)]
struct Manifest {
    #[serde(default)]
    groups: Vec<SharedKernel>,
}

#[derive(Debug, Deserialize)]
struct SharedKernel {
    op_file: String,
    kernel_source: Option<String>,
    tier: Option<String>,
    #[serde(default)]
    frameworks: Vec<String>,
}

/// A description of the package, if it is there.
fn described<T: DeserializeOwned>(file: &Path) -> Result<Option<T>, HardwareError> {
    let Ok(text) = std::fs::read_to_string(file) else { return Ok(None) };
    let read = serde_saphyr::from_str(&text);
    read.map(Some).map_err(|error| HardwareError::BadModel {
        file: file.into(),
        message: format!("not as the package writes it: {error}"),
    })
}

/// Directories in a directory that are version numbers, ascending.
fn listed(dir: &Path) -> Vec<String> {
    let entries =
        std::fs::read_dir(dir).into_iter().flatten().flatten().filter(|entry| entry.path().is_dir());
    let mut names: Vec<String> = entries
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .filter(|name| key(name).is_some())
        .collect();
    names.sort_by_key(|name| key(name));
    names
}

fn has_table(dir: &Path) -> bool {
    std::fs::read_dir(dir)
        .into_iter()
        .flatten()
        .flatten()
        .any(|entry| entry.path().extension().is_some_and(|kind| kind == "parquet"))
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
    let versions: Option<QueryVersions> = described(&systems_dir.join(QUERY_VERSIONS))?;
    let own = versions.as_ref().and_then(|versions| versions.overrides.get(system)?.get(backend));
    let slots = own.or_else(|| versions.as_ref().and_then(|versions| versions.defaults.get(backend)));
    let (Some(versions), Some(slots)) = (&versions, slots) else {
        // Tables without the file that names their versions: the newest that has any.
        let newest = known.iter().rev().find(|version| has_table(&gemm.join(version)));
        return match requested {
            None | Some("current") => match newest {
                Some(version) => Ok(version.clone()),
                None => unsupported(format!("no version with tables in {}", gemm.display())),
            },
            Some(version) if known.iter().any(|known| known == version) => Ok(version.into()),
            Some(version) => unsupported(format!(
                "no `backend_version` {version} in {}, which has {}",
                gemm.display(),
                known.join(", ")
            )),
        };
    };
    // The newest version of any system that has no versions of its own.
    let next = || {
        if own.is_some() {
            return None;
        }
        let children = |dir: &Path| {
            std::fs::read_dir(dir)
                .into_iter()
                .flatten()
                .flatten()
                .map(|entry| entry.path())
                .collect::<Vec<_>>()
        };
        let name = |path: &Path| {
            path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
        };
        let systems = data.parent().map(children).unwrap_or_default();
        let families = systems
            .iter()
            .filter(|path| !versions.overrides.contains_key(&name(path)))
            .flat_map(|path| children(path));
        let found = families.flat_map(|family| {
            let dir = family.join(backend);
            listed(&dir).into_iter().filter(|version| has_table(&dir.join(version))).collect::<Vec<_>>()
        });
        found.filter(|version| key(version) > key(&slots.current)).max_by_key(|version| key(version))
    };
    match requested {
        None | Some("current") => Ok(slots.current.clone()),
        Some("next") => match next() {
            Some(version) => Ok(version),
            None => unsupported(format!(
                "no next version of {backend} on {system}; use `current` ({})",
                slots.current
            )),
        },
        Some("previous") => match &slots.previous {
            Some(version) => Ok(version.clone()),
            None => unsupported(format!(
                "no previous version of {backend} on {system}; use `current` ({})",
                slots.current
            )),
        },
        Some(version)
            if version == slots.current
                || slots.previous.as_deref() == Some(version)
                || next().as_deref() == Some(version) =>
        {
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
pub(super) fn sources(
    systems_dir: &Path,
    data: &Path,
    family: &str,
    op: &str,
    backend: &str,
    version: &str,
) -> Result<Vec<Source>, HardwareError> {
    let versions = data.join(family).join(backend);
    let name = format!("{op}_perf.parquet");
    let asked = versions.join(version).join(&name);
    let mut found: Vec<Source> = Vec::new();
    let mut add = |file: PathBuf, kernels: Option<BTreeSet<String>>| {
        if file.is_file() && found.iter().all(|known| known.file != file) {
            found.push(Source { file, kernels });
        }
    };
    add(asked.clone(), None);
    let reuse: Option<Reuse> = described(&versions.join(version).join(REUSE))?;
    let donors = reuse
        .into_iter()
        .flat_map(|reuse| reuse.reuse)
        .filter(|donor| format!("{}.parquet", donor.table) == name);
    donors.for_each(|donor| add(versions.join(donor.from_version).join(&name), None));
    let earlier = listed(&versions).into_iter().rev().filter(|known| key(known) < key(version));
    earlier.for_each(|version| add(versions.join(version).join(&name), None));
    // Kernels that other engines share, newest versions first.
    let manifest: Option<Manifest> = described(&systems_dir.join(MANIFEST))?;
    let mut shared: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for group in manifest.into_iter().flat_map(|manifest| manifest.groups) {
        let is_shared = matches!(group.tier.as_deref(), Some("shared" | "shared_fallback"));
        let of_table = group.op_file.replace(".txt", ".parquet") == name;
        if let (true, Some(kernel)) = (
            is_shared && of_table && group.frameworks.iter().any(|known| known == backend),
            group.kernel_source,
        ) {
            for framework in group.frameworks.iter().filter(|known| *known != backend) {
                shared.entry(framework.clone()).or_default().insert(kernel.clone());
            }
        }
    }
    for (framework, kernels) in shared {
        let versions = data.join(family).join(framework);
        listed(&versions)
            .into_iter()
            .rev()
            .for_each(|version| add(versions.join(version).join(&name), Some(kernels.clone())));
    }
    if found.is_empty() {
        return Err(HardwareError::NotFound { path: asked.clone(), places: vec![asked] });
    }
    Ok(found)
}

/// The kernel of attention that counts first on a device: what is said of the latest version up to this one.
pub(super) fn pin(
    systems_dir: &Path,
    backend: &str,
    version: &str,
    capability: Option<u32>,
) -> Result<Pin, HardwareError> {
    // Tables without the file that names kernels: none by name.
    let Some(defaults) = described::<LaneDefaults>(&systems_dir.join(LANES))? else {
        return Ok(Pin::Nothing);
    };
    let pins = match backend {
        "vllm" => defaults.vllm,
        "sglang" => defaults.sglang,
        "trtllm" => defaults.trtllm,
        _ => Pins::new(),
    };
    let latest =
        pins.iter().filter(|(known, _)| key(known) <= key(version)).max_by_key(|(known, _)| key(known));
    Ok(match latest.and_then(|(_, kernels)| kernels.get(&capability?)) {
        None => Pin::Unknown,
        Some(name) if name == "default" => Pin::Nothing,
        Some(name) => Pin::Kernel(name.clone()),
    })
}

/// Whether the package is of 0.13 or later, which says kernels of single architectures.
pub(super) fn is_of_013(systems_dir: &Path) -> Result<bool, HardwareError> {
    Ok(described::<LaneDefaults>(&systems_dir.join(LANES))?
        .is_some_and(|defaults| defaults.architectures.is_some()))
}

/// The descriptions that what is read depends on, of those that are there.
pub(super) fn descriptions(systems_dir: &Path) -> Vec<PathBuf> {
    [QUERY_VERSIONS, LANES, MANIFEST]
        .map(|name| systems_dir.join(name))
        .into_iter()
        .filter(|file| file.is_file())
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_and_builds_of_commits_are_none() {
        let ascending =
            ["0.1.dev19262", "0.5.6", "0.5.6.post2", "0.5.14", "0.24.0", "1.3.0rc10", "1.3.0rc20", "1.3.0"];
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
        let resolve = |system: &str, requested| {
            resolve(dir.path(), &data, system, "vllm", requested).map_err(|error| error.to_string())
        };
        assert_eq!(resolve("x", None).unwrap(), "0.31.0");
        assert!(resolve("x", Some("0.25.0")).unwrap_err().contains("which has 0.22.0, 0.24.0, 0.31.0"));
        std::fs::write(dir.path().join("query_versions.yaml"), YAML).unwrap();
        assert_eq!(resolve("x", None).unwrap(), "0.24.0");
        assert_eq!(resolve("x", Some("next")).unwrap(), "0.31.0");
        assert_eq!(resolve("a100_sxm", None).unwrap(), "0.14.0");
        assert!(
            resolve("a100_sxm", Some("next"))
                .unwrap_err()
                .contains("no next version of vllm on a100_sxm; use `current` (0.14.0)")
        );
        assert!(
            resolve("x", Some("0.22.0")).unwrap_err().contains("use `current` (0.24.0) or `next` (0.31.0)")
        );
        assert!(resolve("x", Some("previous")).is_err());
    }

    #[test]
    fn tables_come_from_donors_earlier_versions_and_other_engines() {
        let dir = tempfile::tempdir().unwrap();
        let data = dir.path().join("data/x");
        tables(dir.path(), &["0.22.0", "0.19.0", "0.24.0", "0.25.0", "0.31.0"]);
        let sglang = data.join("gemm/sglang/0.5.14");
        std::fs::create_dir_all(&sglang).unwrap();
        std::fs::write(sglang.join("gemm_perf.parquet"), "").unwrap();
        let reuse = "reuse:\n- table: moe_perf\n  from_version: 0.31.0\n- table: gemm_perf\n  from_version: \"0.25.0\"\n";
        std::fs::write(data.join("gemm/vllm/0.24.0/reuse.yaml"), reuse).unwrap();
        let groups = "groups:\n- {op_file: gemm_perf.txt, kernel_source: deep_gemm, tier: shared, frameworks: [sglang, vllm]}\n\
            - {op_file: gemm_perf.parquet, kernel_source: own, tier: shared, frameworks: [sglang]}\n";
        std::fs::write(dir.path().join(MANIFEST), groups).unwrap();
        let found = sources(dir.path(), &data, "gemm", "gemm", "vllm", "0.24.0").unwrap();
        let version = |source: &Source| {
            source.file.parent().unwrap().file_name().unwrap().to_string_lossy().into_owned()
        };
        assert_eq!(
            found.iter().map(version).collect::<Vec<_>>(),
            ["0.24.0", "0.25.0", "0.22.0", "0.19.0", "0.5.14"]
        );
        assert_eq!(found[4].kernels, Some(BTreeSet::from(["deep_gemm".to_string()])));
        assert!(sources(dir.path(), &data, "moe", "moe", "vllm", "0.24.0").is_err());
    }

    #[test]
    fn kernels_are_pinned_from_a_version_on() {
        let dir = tempfile::tempdir().unwrap();
        let pin = |backend, version, capability| pin(dir.path(), backend, version, Some(capability)).unwrap();
        assert_eq!(pin("sglang", "0.5.16", 100), Pin::Nothing);
        let text = "# lanes\nsglang:\n  \"0.5.14\":\n    90: fa3\n    100: triton # though others have more rows\nvllm:\n  \"0.24.0\":\n    90: default\n";
        std::fs::write(dir.path().join(LANES), text).unwrap();
        assert_eq!(pin("sglang", "0.5.16", 100), Pin::Kernel("triton".into()));
        assert_eq!(pin("sglang", "0.5.10", 100), Pin::Unknown);
        assert_eq!((pin("vllm", "0.24.0", 90), pin("vllm", "0.24.0", 120)), (Pin::Nothing, Pin::Unknown));
        assert!(!is_of_013(dir.path()).unwrap());
        std::fs::write(dir.path().join(LANES), format!("{text}architectures: {{}}\n")).unwrap();
        assert!(is_of_013(dir.path()).unwrap());
    }
}
