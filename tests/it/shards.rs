//! Shards of a sweep: run apart, joined, and what is said when they do not fit together.

use std::fs;
use std::path::Path;

use scalefront::sweep::plan::shard::Shard;
use scalefront::sweep::store::merge;
use serde_json::json;

use crate::cli::{directory_with, scalefront, small_grid, stderr, stdout};
use crate::rows::plan;

fn run_shard(dir: &Path, grid: &str, shard: &str, out: &str) {
    let output = scalefront(dir, &["sweep", grid, "--quiet", "--shard", shard, "--out", out]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
}

#[test]
fn missing_doubled_and_foreign_shards_are_named_among_a_hundred() {
    let mut grid = small_grid();
    grid["seeds"] = json!({"from": 1, "to": 25, "step": 1});
    let dir = directory_with(&grid.to_string());
    let own = plan(&grid);
    assert_eq!(own.unique().len(), 100);
    // Quicker than a hundred processes: the library runs what the command would.
    let shards = dir.path().join("results/small");
    for number in 1..=100 {
        let shard = Shard::new(number, 100).unwrap();
        let places = shard.share(&own);
        let at = shards.join(shard.directory());
        fs::create_dir_all(&at).unwrap();
        let header = scalefront::sweep::run::journal::Header::new(&own, Some(shard), places.len());
        let journal = scalefront::sweep::run::journal::Journal::create(&at, &header).unwrap();
        scalefront::sweep::run::run_journaled(
            &own,
            &places,
            &Default::default(),
            &journal,
            None,
            &crate::rows::Quiet,
        )
        .unwrap();
    }
    assert_eq!(merge::join(std::slice::from_ref(&shards)).unwrap().len(), 100);
    assert_eq!(
        merge::plan(merge::join(std::slice::from_ref(&shards)).unwrap().header()).unwrap().runs_hash,
        own.runs_hash
    );

    // One is not there, one is there twice, one is of another grid, one has lost its end.
    fs::remove_dir_all(shards.join("shard-17-of-100")).unwrap();
    fs::create_dir(shards.join("shard-42-again")).unwrap();
    fs::copy(shards.join("shard-42-of-100/journal.jsonl"), shards.join("shard-42-again/journal.jsonl"))
        .unwrap();
    grid["cluster"]["tune_interval_s"] = json!(7);
    fs::write(dir.path().join("other.json"), grid.to_string()).unwrap();
    run_shard(dir.path(), "other.json", "3/100", "elsewhere");
    fs::rename(dir.path().join("elsewhere/shard-3-of-100"), shards.join("shard-3-from-elsewhere")).unwrap();
    let cut = shards.join("shard-60-of-100/journal.jsonl");
    let bytes = fs::read(&cut).unwrap();
    fs::write(&cut, &bytes[..bytes.len() - 1]).unwrap();

    let output = scalefront(dir.path(), &["merge", "results/small"]);
    assert_eq!((output.status.code(), stdout(&output)), (Some(2), String::new()));
    let said = stderr(&output);
    let expected = [
        "results/small/shard-3-from-elsewhere: foreign, it holds runs of another grid of the name `small`; leave it out",
        "results/small/shard-42-again and results/small/shard-42-of-100: doubled, both hold 1 run (of the plan's order: ",
        "results/small/shard-60-of-100: unfinished, 1 of 1 runs are missing; `scalefront sweep x.json --shard 60/100 --out results/small --resume` goes on",
        "missing: shard 17 of 100, with 1 of 100 runs; `scalefront sweep x.json --shard 17/100 --out results/small` runs it",
    ];
    for problem in expected {
        assert!(said.contains(problem), "{problem}\nis not in\n{said}");
    }
    assert_eq!(said.lines().count(), expected.len(), "{said}");
}

#[test]
fn a_directory_without_shards_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("empty")).unwrap();
    for (given, expected) in [
        ("empty", "empty: no shard found, expected a directory that"),
        ("gone", "gone: cannot read the directory"),
    ] {
        let output = scalefront(dir.path(), &["merge", given]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
}

#[test]
fn wrong_shards_are_refused() {
    let dir = directory_with(&small_grid().to_string());
    for (shard, expected) in [
        ("0/3", "shard 0 of 3 found, expected 1 to 3"),
        ("third", "`third` found, expected K/N such as 3/100, or auto"),
    ] {
        let output = scalefront(dir.path(), &["sweep", "x.json", "--shard", shard]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains(expected), "{}", stderr(&output));
    }
    let plan = scalefront(dir.path(), &["sweep", "x.json", "--dry-run", "--shard", "2/3", "--threads", "2"]);
    let plan = stdout(&plan);
    assert!(plan.contains("\nShard 2/3: 3 of these runs, ") && plan.ends_with(" s on 2 threads\n"), "{plan}");
}

#[cfg(feature = "report")]
#[test]
fn merged_and_resumed_results_have_the_bytes_of_one_undisturbed_sweep() {
    let files = ["runs.parquet", "series.parquet", "fronts.parquet", "fronts.csv", "hypervolume.csv"];
    let dir = directory_with(&crate::determinism::varied_grid().to_string());
    let read = |out: &str| files.map(|name| fs::read(dir.path().join(out).join(name)).unwrap());
    let done = |arguments: &[&str]| {
        let output = scalefront(dir.path(), arguments);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    };
    done(&["sweep", "x.json", "--quiet", "--threads", "1", "--out", "one"]);
    let expected = read("one");
    assert!(!dir.path().join("one/journal.jsonl").exists());

    for number in 1..=3 {
        run_shard(dir.path(), "x.json", &format!("{number}/3"), "apart");
    }
    done(&["merge", "apart", "--quiet", "--out", "apart"]);
    done(&[
        "merge",
        "apart/shard-3-of-3",
        "apart/shard-1-of-3",
        "apart/shard-2-of-3",
        "--quiet",
        "--out",
        "joined",
    ]);

    // Killed within the last shard's time, resumed; finished ones resume to themselves.
    run_shard(dir.path(), "x.json", "1/1", "killed");
    fs::rename(dir.path().join("killed/shard-1-of-1/journal.jsonl"), dir.path().join("whole.jsonl")).unwrap();
    let whole = fs::read_to_string(dir.path().join("whole.jsonl")).unwrap();
    let half: String = whole.lines().take(20).flat_map(|line| [line, "\n"]).collect();
    fs::write(dir.path().join("killed/shard-1-of-1/journal.jsonl"), half + "0123 half a li").unwrap();
    done(&["sweep", "x.json", "--quiet", "--shard", "1/1", "--resume", "--out", "killed"]);
    done(&["merge", "killed", "--quiet", "--out", "killed"]);
    done(&["sweep", "x.json", "--quiet", "--threads", "8", "--out", "eight"]);
    done(&["sweep", "x.json", "--quiet", "--resume", "--out", "eight"]);
    for out in ["apart", "joined", "killed", "eight"] {
        for (name, (found, expected)) in files.iter().zip(read(out).iter().zip(&expected)) {
            assert!(found == expected, "{out}/{name} differs from that of one undisturbed sweep");
        }
    }
}
