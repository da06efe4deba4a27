//! A report built from stored runs, as users build it. The results stay under the build's temporary directory, to be looked at.
#![cfg(feature = "report")]

mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fixture::Shape;
use scalefront::report;

fn directory(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = std::fs::remove_dir_all(&path);
    path
}

/// Every file below `directory`, with its bytes.
fn contents(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(contents(&path))
        } else {
            files.insert(path.clone(), std::fs::read(&path).unwrap()).map_or((), drop)
        }
    }
    files
}

#[test]
fn sixty_cells() {
    let directory = directory("report-60");
    fixture::write(&directory, &Shape::small(), true);
    let summary = report::build(&directory).unwrap();
    println!("{summary}");
    assert_eq!((summary.runs, summary.failed, summary.families.len()), (60, 3, 4));
    let first = contents(&directory);
    for name in ["fronts.parquet", "fronts.csv", "hypervolume.csv", "summary.md", "report.html"] {
        assert!(first.contains_key(&directory.join(name)), "{name}");
    }
    for kind in ["front", "replicas", "arrival_rate", "latency_cdf"] {
        for extension in ["svg", "png"] {
            assert!(first.contains_key(&directory.join(format!("plots/{kind}_steps.{extension}"))), "{kind}.{extension}");
        }
    }
    std::fs::write(directory.join("plots/front_gone.svg"), "of an earlier sweep").unwrap();
    std::fs::write(directory.join("plots/mine.svg"), "somebody's own").unwrap();
    report::build(&directory).unwrap();
    let mut second = contents(&directory);
    assert!(second.remove(&directory.join("plots/mine.svg")).is_some(), "files that are not ours stay");
    assert!(first == second, "the same runs give the same bytes");
}

#[test]
fn ten_thousand_cells() {
    let directory = directory("report-10000");
    fixture::write(&directory, &Shape::large(), true);
    let summary = report::build(&directory).unwrap();
    println!("{summary}");
    assert_eq!(summary.runs, 10_080);
    let page = std::fs::read(directory.join("report.html")).unwrap();
    assert!(page.len() < 5_000_000, "report.html has {} bytes", page.len());
    for (path, bytes) in contents(&directory.join("plots")) {
        assert!(bytes.len() < 2_000_000, "{} has {} bytes", path.display(), bytes.len());
    }
}

#[test]
fn without_curves_or_with_nothing_but_failures() {
    let bare = directory("report-bare");
    fixture::write(&bare, &Shape { reference: None, ..Shape::small() }, false);
    report::build(&bare).unwrap();
    assert!(!bare.join("plots/replicas_steps.svg").exists());
    assert!(std::fs::read_to_string(bare.join("summary.md")).unwrap().contains("compare within this sweep only"));

    let failed = directory("report-failed");
    fixture::write(&failed, &Shape::small(), false);
    let rows = fixture::rows(&Shape::small());
    let only_failed = rows.into_iter().filter(|row| row.get("status") == Some(&scalefront::sweep::row::Scalar::Text("failed".into())));
    scalefront::analysis::write_runs(&only_failed.collect::<Vec<_>>(), &failed.join("runs.parquet")).unwrap();
    let summary = report::build(&failed).unwrap();
    assert_eq!((summary.runs, summary.failed), (3, 3));
    assert!(std::fs::read_to_string(failed.join("summary.md")).unwrap().contains("## Failed runs"));
}

#[test]
fn a_directory_without_results_is_explained() {
    let empty = directory("report-empty");
    std::fs::create_dir_all(&empty).unwrap();
    let error = format!("{:#}", report::build(&empty).unwrap_err());
    assert!(error.contains("manifest.json") && error.contains("results directory"), "{error}");
}

#[test]
fn names_cannot_inject() {
    let directory = directory("report-hostile");
    let shape = Shape { workloads: vec!["=cmd|' /C calc'!A0", "</script><script>alert(1)</script>"], ..Shape::small() };
    fixture::write(&directory, &shape, true);
    report::build(&directory).unwrap();
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert!(text("hypervolume.csv").lines().skip(1).all(|line| !line.starts_with('=')));
    assert!(text("hypervolume.csv").contains("'=cmd"));
    for name in ["report.html", "summary.md"] {
        assert!(!text(name).contains("<script>alert"), "{name}");
    }
}
