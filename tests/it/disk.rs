//! Full disks: a clear error, nothing half-written under a final name, and the same bytes once there is room.

#![cfg(unix)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::json;

use crate::cli::{directory_with, scalefront, small_grid, stderr};
use crate::rows::{first_difference, plan};

/// A journal of some hundred kB.
fn grid() -> serde_json::Value {
    let mut grid = small_grid();
    grid["seeds"] = json!({"from": 1, "to": 60, "step": 1});
    grid["workloads"][0]["generate"]["arrivals"]["poisson"]["phases"][0]["duration_s"] = json!(5);
    grid
}

const RUNS: usize = 240;

fn shell(dir: &Path, script: &str) -> Output {
    Command::new("sh")
        .args(["-c", script])
        .env("SCALEFRONT", env!("CARGO_BIN_EXE_scalefront"))
        .current_dir(dir)
        .output()
        .unwrap()
}

fn names(dir: &Path) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

/// No file may grow beyond 64 blocks of 512 or 1024 bytes: what a quota or a full disk does to whoever
/// writes.
#[test]
fn a_journal_that_cannot_grow_is_an_error_and_goes_on_when_it_can() {
    let dir = directory_with(&grid().to_string());
    let sweep = "sweep x.json --quiet --shard 1/1";
    let full =
        shell(dir.path(), &format!("trap '' XFSZ; ulimit -f 64; exec $SCALEFRONT {sweep} --out limited"));
    assert_eq!(full.status.code(), Some(2), "{}", stderr(&full));
    let said = stderr(&full);
    let expected = "limited/shard-1-of-1/journal.jsonl: cannot write; once that is put right, --resume goes on from here";
    assert!(
        said.starts_with("error: ") && said.contains(expected) && said.contains("File too large"),
        "{said}"
    );
    let shard = dir.path().join("limited/shard-1-of-1");
    assert_eq!(names(&shard), ["journal.jsonl"]);

    let again = shell(dir.path(), &format!("exec $SCALEFRONT {sweep} --resume --out limited"));
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(
        scalefront(dir.path(), &["sweep", "x.json", "--quiet", "--shard", "1/1", "--out", "free"])
            .status
            .code(),
        Some(0)
    );
    let plan = plan(&grid());
    let rows = |out: &str| {
        scalefront::sweep::run::journal::Recorded::read(&[dir.path().join(out).join("shard-1-of-1")])
            .unwrap()
            .rows(&plan)
    };
    let (limited, free) = (rows("limited").unwrap(), rows("free").unwrap());
    assert_eq!(limited.len(), RUNS);
    assert_eq!(first_difference(&limited, &free), None);
}

/// The tables of a sweep that had room for its journal.
#[cfg(feature = "report")]
#[test]
fn tables_that_cannot_be_written_leave_nothing_half_done() {
    let dir = directory_with(&grid().to_string());
    // Room for the journal, then none for the tables and the report.
    let sweep = "$SCALEFRONT sweep x.json --quiet --out limited";
    let full = shell(dir.path(), &format!("trap '' XFSZ; ulimit -f 700; exec {sweep}"));
    assert_eq!(full.status.code(), Some(2), "{}", stderr(&full));
    assert!(stderr(&full).contains("limited/report.html: cannot write"), "{}", stderr(&full));
    let left = names(&dir.path().join("limited"));
    assert!(
        !left
            .iter()
            .any(|name| name.ends_with(".partial") || name == "report.html" || name == "journal.jsonl"),
        "{left:?}"
    );
    let again = shell(dir.path(), &format!("exec {sweep} --resume"));
    assert_eq!(again.status.code(), Some(0), "{}", stderr(&again));
    assert_eq!(
        scalefront(dir.path(), &["sweep", "x.json", "--quiet", "--out", "free"]).status.code(),
        Some(0)
    );
    for name in
        ["runs.parquet", "series.parquet", "fronts.parquet", "fronts.csv", "hypervolume.csv", "report.html"]
    {
        let [limited, free] =
            ["limited", "free"].map(|out| fs::read(dir.path().join(out).join(name)).unwrap());
        // The page shows when and how long it ran.
        assert!(limited == free || name == "report.html", "{name} differs");
    }
}

/// A file system of 96 kB, where the system lets anyone mount one in a namespace of his own.
#[cfg(target_os = "linux")]
#[test]
fn a_full_disk_is_an_error_and_goes_on_when_there_is_room() {
    let dir = directory_with(&grid().to_string());
    fs::create_dir(dir.path().join("small")).unwrap();
    let script = "mount -t tmpfs -o size=96k tmpfs small || exit 77
        $SCALEFRONT sweep x.json --quiet --shard 1/1 --out small/out; echo \"first $?\"; ls -A small/out/shard-1-of-1
        mount -o remount,size=16m small && $SCALEFRONT sweep x.json --quiet --shard 1/1 --out small/out --resume; echo \"then $?\"
        cp -r small/out .";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script])
        .env("SCALEFRONT", env!("CARGO_BIN_EXE_scalefront"))
        .current_dir(dir.path())
        .output();
    let Ok(output) = output.inspect_err(|error| eprintln!("SKIPPED: unshare: {error}")) else { return };
    if output.status.code() == Some(77) || !output.status.success() && output.stdout.is_empty() {
        eprintln!("SKIPPED: no file system may be mounted here: {}", stderr(&output));
        return;
    }
    let said = String::from_utf8(output.stdout.clone()).unwrap();
    assert_eq!(
        said.lines().collect::<Vec<_>>(),
        ["first 2", "journal.jsonl", "then 0"],
        "{}",
        stderr(&output)
    );
    assert!(stderr(&output).contains("No space left on device"), "{}", stderr(&output));
    let mut recorded =
        scalefront::sweep::run::journal::Recorded::read(&[dir.path().join("out/shard-1-of-1")]).unwrap();
    assert_eq!((recorded.len(), recorded.broken), (RUNS, 0));
    let plan = plan(&grid());
    let expected = scalefront::sweep::run::run_all(&plan, &crate::rows::Quiet).unwrap();
    assert_eq!(first_difference(&recorded.rows(&plan).unwrap(), &expected), None);
}
