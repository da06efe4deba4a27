//! Results directories: made, locked, and never left with half a file.

pub mod manifest;
pub mod merge;

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail, ensure};

use self::manifest::Manifest;
use super::grid::Grid;
use super::plan::Plan;
use super::run::journal::JOURNAL;
use crate::RESULTS_VERSION;
use crate::files::{make_directory, shell_path};

pub const MANIFEST: &str = "manifest.json";

/// The table of runs.
pub const RUNS: &str = "runs.parquet";

/// The curves of runs.
pub const SERIES: &str = "series.parquet";

/// How the turns of runs with curves fare, where there are sessions.
pub const TURNS: &str = "turns.parquet";

/// The pools of runs, where there are several.
pub const POOLS: &str = "pools.parquet";

/// What a search leaves behind.
pub const RECOMMENDATION: &str = "recommendation.json";

const LOCK: &str = ".lock";

/// A results directory held by this process; nobody else writes to it until it is dropped.
#[derive(Debug)]
pub struct ResultsDir {
    path: PathBuf,
    /// The lock goes with the file handle.
    _lock: File,
}

impl ResultsDir {
    /// Makes and locks a directory for the results of `grid`, and shows that files can be written there.
    ///
    /// Errors: it cannot be made or written, another process holds it, or it holds results of another grid or
    /// results version.
    pub fn open(path: &Path, grid: &serde_json::Value) -> Result<Self> {
        let shown = path.display();
        make_directory(path).with_context(|| format!("{shown}: cannot make the results directory"))?;
        let lock_path = path.join(LOCK);
        // Whoever may write here could have it lead to a file of ours elsewhere.
        ensure!(
            !lock_path.is_symlink(),
            "{}: a symbolic link found, expected none; remove it",
            lock_path.display()
        );
        let lock = loop {
            let lock =
                OpenOptions::new().write(true).create(true).truncate(false).open(&lock_path).with_context(
                    || format!("{shown}: cannot write to the results directory; choose another with --out"),
                )?;
            match lock.try_lock() {
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => {
                    bail!(
                        "{shown}: another scalefront is writing its results there; wait for it, or choose another directory with --out"
                    )
                }
                // A file system without locks is no reason not to sweep.
                Err(TryLockError::Error(error)) if error.kind() == io::ErrorKind::Unsupported => break lock,
                Err(TryLockError::Error(error)) => {
                    return Err(error).with_context(|| format!("{}: cannot lock", lock_path.display()));
                }
            }
            if is_same_file(&lock, &lock_path) {
                break lock;
            }
            // Who held it removed it between our opening and our locking: it locks nothing any more.
        };
        let dir = Self { path: path.into(), _lock: lock };
        dir.check_owner(grid)?;
        Ok(dir)
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// What is stored of this plan, if all of its runs are.
    pub fn finished(&self, plan: &Plan) -> Option<Finished> {
        let manifest = read_manifest(&self.file(MANIFEST)).ok().filter(|_| self.file(RUNS).exists())?;
        let same_runs = manifest.runs_hash == plan.runs_hash && manifest.hardware == plan.provenance();
        same_runs.then(|| {
            match manifest.grid == plan.grid.as_given && manifest.objectives == plan.grid.objectives {
                true => Finished::Judged,
                false => Finished::RunsOnly(Box::new(manifest)),
            }
        })
    }

    /// Whether the stored tables are as they were stored; the error names the first that is not.
    pub fn check_tables(&self) -> Result<()> {
        let tables = read_manifest(&self.file(MANIFEST))?.tables;
        tables.iter().try_for_each(|(name, checksum)| checksum.verify_file(&self.file(name)))
    }

    fn check_owner(&self, grid: &serde_json::Value) -> Result<()> {
        let path = self.file(MANIFEST);
        if !path.exists() {
            return Ok(());
        }
        const REMEDY: &str = "choose another directory with --out, or remove this one";
        let shown = self.path.display();
        let Ok(manifest) = read_manifest(&path) else {
            bail!("{}: not a manifest of this version of scalefront; {REMEDY}", path.display());
        };
        ensure!(
            manifest.results_version == RESULTS_VERSION,
            "{shown}: holds results of results version {}, this is version {RESULTS_VERSION}; {REMEDY}",
            manifest.results_version
        );
        ensure!(
            Grid::of_runs(&manifest.grid) == Grid::of_runs(grid),
            "{shown}: holds results of another grid of the name `{}`; {REMEDY}",
            manifest.name
        );
        Ok(())
    }
}

impl Drop for ResultsDir {
    fn drop(&mut self) {
        // Left behind it would do no harm: the lock is on the open file, not on its existence. Nothing else
        // is removed; a directory in which nothing was stored goes as well.
        let _ = fs::remove_file(self.file(LOCK));
        let _ = fs::remove_dir(&self.path);
    }
}

/// What a directory holds of a sweep all of whose runs have ended.
#[derive(Debug)]
pub enum Finished {
    /// Everything.
    Judged,
    /// Its runs, judged by other objectives, or with another question asked.
    RunsOnly(Box<Manifest>),
}

#[cfg(unix)]
fn is_same_file(file: &File, path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let identity = |metadata: fs::Metadata| (metadata.dev(), metadata.ino());
    file.metadata().map(identity).ok() == fs::metadata(path).map(identity).ok()
}

/// Elsewhere a file that is open cannot be removed.
#[cfg(not(unix))]
fn is_same_file(_file: &File, _path: &Path) -> bool {
    true
}

/// What to do where there is no manifest.
fn absent(path: &Path) -> String {
    const EXPECTED: &str = "expected the results directory of a sweep, such as results/lab3";
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let (shown, out) = (dir.display(), shell_path(dir));
    let shards = || {
        fs::read_dir(dir)
            .is_ok_and(|entries| entries.flatten().any(|entry| entry.path().join(JOURNAL).exists()))
    };
    if !dir.exists() {
        format!("{shown}: no such directory, {EXPECTED}")
    } else if !dir.is_dir() {
        format!("{shown}: a file found, {EXPECTED}")
    } else if dir.join(RECOMMENDATION).exists() {
        format!(
            "{shown}: the results of a search (`scalefront recommend`) found, {EXPECTED}: a search runs too little for tables and figures"
        )
    } else if dir.join(JOURNAL).exists() {
        format!(
            "{shown}: holds a sweep that is not finished; `scalefront sweep GRID --out {out} --resume` goes on"
        )
    } else if shards() {
        format!("{shown}: holds shards of a sweep; `scalefront merge {out} --out {out}` joins them")
    } else {
        format!("{shown}: no {MANIFEST} found, {EXPECTED}")
    }
}

pub fn read_manifest(path: &Path) -> Result<Manifest> {
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            bail!("{}", absent(path))
        }
        Err(error) => return Err(error).with_context(|| format!("{}: cannot read", path.display())),
    };
    serde_json::from_str(&text)
        .with_context(|| format!("{}: not a manifest of this version of scalefront", path.display()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::files::write_json;
    use crate::sweep::objectives::Objectives;
    use crate::sweep::store::manifest::Timings;

    fn manifest(grid: serde_json::Value) -> Manifest {
        Manifest {
            name: "a".into(),
            question: None,
            scalefront_version: "0".into(),
            results_version: RESULTS_VERSION,
            command: String::new(),
            grid_file: String::new(),
            grid,
            runs_hash: String::new(),
            tables: Default::default(),
            objectives: Objectives::default(),
            axes: Vec::new(),
            workloads: Vec::new(),
            setting_columns: Vec::new(),
            policies: Vec::new(),
            hardware: Vec::new(),
            runs_planned: 0,
            runs_ok: 0,
            runs_failed: 0,
            timings: Timings {
                threads: 1,
                wall_s: 0.0,
                runs_per_s: 0.0,
                requests_per_s: 0.0,
                finished_at: String::new(),
                curves: 0,
                curves_s: 0.0,
                trials: 0,
                trials_s: 0.0,
            },
        }
    }

    #[test]
    fn one_process_at_a_time() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("results/a");
        let held = ResultsDir::open(&path, &json!({})).unwrap();
        let error = format!("{:#}", ResultsDir::open(&path, &json!({})).unwrap_err());
        assert!(
            error.ends_with("another scalefront is writing its results there; wait for it, or choose another directory with --out"),
            "{error}"
        );
        drop(held);
        assert!(!path.exists(), "a directory without results is left");
        ResultsDir::open(&path, &json!({})).unwrap();
    }

    #[test]
    fn results_of_another_grid_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let store = |manifest: &Manifest| write_json(&dir.path().join(MANIFEST), manifest).unwrap();
        let open = || {
            ResultsDir::open(dir.path(), &json!({"seeds": [1]}))
                .map(|_| ())
                .map_err(|error| format!("{error:#}"))
        };
        store(&manifest(json!({"seeds": [1]})));
        assert_eq!(open(), Ok(()));
        store(&manifest(json!({"seeds": [2]})));
        assert!(
            open()
                .unwrap_err()
                .ends_with("holds results of another grid of the name `a`; choose another directory with --out, or remove this one")
        );
        store(&Manifest { results_version: RESULTS_VERSION + 1, ..manifest(json!({"seeds": [1]})) });
        assert!(
            open()
                .unwrap_err()
                .contains(&format!("holds results of results version {}", RESULTS_VERSION + 1))
        );
        fs::write(dir.path().join(MANIFEST), "{}").unwrap();
        assert!(open().unwrap_err().contains("not a manifest of this version"));
    }
}
