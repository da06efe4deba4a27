//! Condensed imports, kept by the content of what they were made from.

use std::io::Write;
use std::path::Path;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{Deployment, Files, HardwareError};

/// Raise it when the same files are condensed to other tables.
const FORMAT: &str = "3";

/// What `build` makes of some files for a deployment, or what it made of the same before. A cache that cannot
/// be written is none.
pub(super) fn cached<'p, T: Serialize + DeserializeOwned>(
    files: &Files,
    paths: impl Iterator<Item = &'p Path>,
    settings: &impl Serialize,
    deployment: &Deployment,
    build: impl FnOnce() -> Result<T, HardwareError>,
) -> Result<T, HardwareError> {
    let Some(dir) = files.cache_dir else { return build() };
    let Deployment {
        model,
        node,
        device,
        tensor_parallel,
        pipeline_parallel,
        expert_parallel,
        data_parallel,
    } = deployment;
    let split = [tensor_parallel, pipeline_parallel, expert_parallel, data_parallel];
    let key = (FORMAT, env!("CARGO_PKG_VERSION"), settings, model, node.name, device.name, split);
    let mut hasher = blake3::Hasher::new();
    hasher.update(&serde_json::to_vec(&key).expect("settings are plain data"));
    for path in paths {
        let content =
            std::fs::read(path).map_err(|source| HardwareError::Unreadable { file: path.into(), source })?;
        hasher.update(&(content.len() as u64).to_le_bytes());
        hasher.update(&content);
    }
    let file = dir.join(format!("{}.json", hasher.finalize().to_hex()));
    if let Some(known) = std::fs::read(&file).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok()) {
        return Ok(known);
    }
    let built = build()?;
    let _ = write(dir, &file, &built);
    Ok(built)
}

fn write(dir: &Path, file: &Path, content: &impl Serialize) -> std::io::Result<()> {
    std::fs::create_dir_all(dir)?;
    let mut temporary = tempfile::NamedTempFile::new_in(dir)?;
    temporary.write_all(&serde_json::to_vec(content)?)?;
    temporary.persist(file)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn builds_once_per_content() {
        let dir = tempfile::tempdir().unwrap();
        let (source, cache) = (dir.path().join("source"), dir.path().join("cache"));
        std::fs::write(&source, "a").unwrap();
        let files = Files { cache_dir: Some(&cache), ..Files::default() };
        let deployment = Deployment::resolve("microsoft/phi-2", "a100_dgx", 1, 1, &files).unwrap();
        let mut built = 0;
        let mut load = |settings: &str, fail: bool| {
            cached(&files, [source.as_path()].into_iter(), &settings, &deployment, || {
                built += 1;
                if fail { Err(HardwareError::Unsupported("no".into())) } else { Ok(0.1 + f64::from(built)) }
            })
        };
        assert!(load("x", true).is_err());
        assert_eq!(
            (load("x", false).unwrap(), load("x", false).unwrap(), load("y", false).unwrap()),
            (2.1, 2.1, 3.1)
        );
        std::fs::write(&source, "b").unwrap();
        assert_eq!(load("x", false).unwrap(), 4.1);
    }
}
