//! A report built from stored runs, as users build it. The results stay under the build's temporary
//! directory, to be looked at.
#![cfg(feature = "report")]

mod fixture;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fixture::Shape;
use scalefront::analysis::compare::Choice;
use scalefront::report::{self, ColumnWidth, Style};
use scalefront::sweep::objectives::Reference;

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
    let summary = report::build(&directory, Style::Paper).unwrap();
    println!("{summary}");
    assert_eq!((summary.runs, summary.failed, summary.families.len()), (60, 3, 4));
    let first = contents(&directory);
    for name in [
        "fronts.parquet",
        "fronts.csv",
        "hypervolume.csv",
        "contributions.csv",
        "attainment.csv",
        "summary.md",
        "report.html",
    ] {
        assert!(first.contains_key(&directory.join(name)), "{name}");
    }
    for kind in ["front", "replicas", "arrival_rate", "latency_cdf"] {
        for extension in ["svg", "png"] {
            assert!(
                first.contains_key(&directory.join(format!("plots/{kind}_steps.{extension}"))),
                "{kind}.{extension}"
            );
        }
    }
    let header = |name: &str| {
        String::from_utf8_lossy(&first[&directory.join(name)]).lines().next().unwrap().to_owned()
    };
    assert!(header("fronts.csv").ends_with(",hv_contribution,hv_contribution_joint"));
    assert!(
        header("hypervolume.csv")
            .contains(",igd_plus,igd_plus_ci95_low,igd_plus_ci95_high,additive_epsilon,")
    );
    assert!(header("contributions.csv").starts_with(
        "workload,family,setting,value,num_runs,num_on_front,hv_contribution,hv_contribution_ci95_low,"
    ));
    // Three seeds: each family's figure has the band of what they attain, its page the settings that carry
    // its front.
    let text = |name: &str| String::from_utf8_lossy(&first[&directory.join(name)]).into_owned();
    assert!(
        text("plots/front_steps.svg").contains(
            "line: attained by half of the 3 seeds · band: between what 10 and 90 % of them attain"
        )
    );
    assert_eq!(text("plots/front_steps.svg").matches("fill-opacity=\"0.22\"").count(), 4, "a band a family");
    assert!(
        text("report.html").contains("What the hypervolume owes to each value of a setting")
            && text("summary.md").contains("level=")
    );
    // What is to be said of runs is said in all three.
    let said = [
        "10 of 126,000 requests were rejected",
        "Held back by",
        "chiron (15 of 15 runs at 64 replicas, up to 49 %)",
    ];
    for text in [text("summary.md"), text("report.html"), summary.to_string()] {
        assert!(said.iter().all(|said| text.replace("Up to 10", "10").contains(said)), "{text}");
    }
    assert_eq!(header("attainment.csv"), "workload,family,percent,num_seeds,total_cost_usd,p90_e2e_s");
    std::fs::write(directory.join("plots/front_gone.svg"), "of an earlier sweep").unwrap();
    std::fs::write(directory.join("plots/mine.svg"), "somebody's own").unwrap();
    report::build(&directory, Style::Paper).unwrap();
    let mut second = contents(&directory);
    assert!(second.remove(&directory.join("plots/mine.svg")).is_some(), "files that are not ours stay");
    assert!(first == second, "the same runs give the same bytes");
}

/// A family beyond the reference point has no score and no best compromise, and everything says by how much.
#[test]
fn a_family_outside_the_box() {
    let directory = directory("report-outside");
    let reference = Some(Reference { latency: 0.001, cost: 50.0 });
    fixture::write(&directory, &Shape { reference, ..Shape::small() }, true);
    let summary = report::build(&directory, Style::Paper).unwrap();
    assert!(summary.families.iter().all(|family| family.outside.is_some()));
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    for name in ["summary.md", "report.html"] {
        assert!(
            text(name).contains("Outside the reference box, so without a score: ")
                && text(name).contains(" % in latency"),
            "{name}"
        );
        assert!(!text(name).contains("| best compromise |"), "{name}");
    }
    assert!(text("plots/front_steps.svg").contains("outside, beyond by "));
    assert!(!text("plots/replicas_steps.svg").contains("best compromise"));
    assert!(
        text("hypervolume.csv")
            .lines()
            .next()
            .unwrap()
            .ends_with(",num_outside_box,outside_by_latency,outside_by_cost")
    );
    assert!(summary.to_string().contains("none, beyond by "), "{summary}");
}

#[test]
fn ten_thousand_cells() {
    let directory = directory("report-10000");
    fixture::write(&directory, &Shape::large(), true);
    let summary = report::build(&directory, Style::Paper).unwrap();
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
    report::build(&bare, Style::Paper).unwrap();
    assert!(!bare.join("plots/replicas_steps.svg").exists());
    assert!(
        std::fs::read_to_string(bare.join("summary.md")).unwrap().contains("compare within this sweep only")
    );

    let failed = directory("report-failed");
    fixture::write(&failed, &Shape::small(), false);
    let rows = fixture::rows(&Shape::small());
    let only_failed = rows.into_iter().filter(|row| {
        row.get("status") == Some(&scalefront::sweep::tables::row::Scalar::Text("failed".into()))
    });
    scalefront::analysis::write_runs(&only_failed.collect::<Vec<_>>(), &failed.join("runs.parquet")).unwrap();
    let summary = report::build(&failed, Style::Paper).unwrap();
    assert_eq!((summary.runs, summary.failed), (3, 3));
    assert!(std::fs::read_to_string(failed.join("summary.md")).unwrap().contains("## Failed runs"));
}

#[test]
fn a_directory_without_results_is_explained() {
    let empty = directory("report-empty");
    std::fs::create_dir_all(&empty).unwrap();
    let error = format!("{:#}", report::build(&empty, Style::Paper).unwrap_err());
    assert!(error.contains("manifest.json") && error.contains("results directory"), "{error}");
    let error = format!("{:#}", report::build_figures(&empty, ColumnWidth::new(84.0).unwrap()).unwrap_err());
    assert!(error.contains("results directory"), "{error}");
}

#[test]
fn names_cannot_inject() {
    let directory = directory("report-hostile");
    let shape = Shape {
        workloads: vec!["=cmd|' /C calc'!A0", "</script><script>alert(1)</script>"],
        ..Shape::small()
    };
    fixture::write(&directory, &shape, true);
    report::build(&directory, Style::Paper).unwrap();
    let text = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert!(text("hypervolume.csv").lines().skip(1).all(|line| !line.starts_with('=')));
    assert!(text("hypervolume.csv").contains("'=cmd"));
    for name in ["report.html", "summary.md"] {
        assert!(!text(name).contains("<script>alert"), "{name}");
    }
}

/// One column and two: as wide as asked for, no text below 5 points, every figure with its caption, nothing
/// of other widths left.
#[test]
fn figures_for_print_have_captions() {
    let directory = directory("report-print");
    let families = vec![
        "inferline / round_robin / least_kv",
        "static / least_outstanding_requests",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
    ];
    fixture::write(&directory, &Shape { families, ..Shape::small() }, true);
    let figures = directory.join(report::FIGURES);
    std::fs::create_dir_all(&figures).unwrap();
    for stale in ["front_gone.pdf", "front_gone.tex", "front_gone.caption.txt", "mine.pdf"] {
        std::fs::write(figures.join(stale), "").unwrap();
    }
    for (width_mm, wide) in [(84.0, false), (174.0, true)] {
        let count = report::build_figures(&directory, ColumnWidth::new(width_mm).unwrap()).unwrap();
        let found = contents(&figures);
        assert_eq!(found.len(), 3 * count + 1, "{:?}", found.keys());
        assert!(count >= 4 && found.contains_key(&figures.join("mine.pdf")));
        for kind in ["front", "replicas", "arrival_rate", "latency_cdf"] {
            let text = |extension: &str| {
                String::from_utf8_lossy(&found[&figures.join(format!("{kind}_steps.{extension}"))])
                    .into_owned()
            };
            let width_pt = text("pdf")
                .split("/MediaBox [0 0 ")
                .nth(1)
                .unwrap()
                .split(' ')
                .next()
                .unwrap()
                .parse::<f64>()
                .unwrap();
            assert!((width_pt / 72.0 * 25.4 - width_mm).abs() < 1e-3, "{kind}: {width_pt}");
            let caption = text("caption.txt");
            for said in [
                " on workload steps.",
                " Workload: ",
                " Cluster: ",
                "seeds 1 to 3; simulated by Scalefront ",
                "(results version ",
            ] {
                assert!(caption.contains(said), "{kind}: {said} {caption}");
            }
            let latex = text("tex");
            assert!(
                latex.contains(&format!("\\includegraphics[width={width_mm}mm]{{{kind}_steps.pdf}}")),
                "{latex}"
            );
        }
        let caption = String::from_utf8_lossy(&found[&figures.join("front_steps.caption.txt")]).into_owned();
        assert!(
            caption.contains("Line: attained by half of the 3 seeds"),
            "what other figures say below their axes: {caption}"
        );
        let again = report::build_figures(&directory, ColumnWidth::new(width_mm).unwrap()).unwrap();
        assert!(
            again == count && contents(&figures) == found,
            "equal results, equal files, wide or not: {wide}"
        );
    }
}

#[test]
fn slides_have_larger_type() {
    let directory = directory("report-slides");
    let families = vec![
        "inferline / round_robin / least_kv",
        "static / least_outstanding_requests",
        "c",
        "d",
        "e",
        "f",
        "g",
        "h",
    ];
    fixture::write(&directory, &Shape { families, ..Shape::small() }, true);
    report::build(&directory, Style::Slides).unwrap();
    let front = |name: &str| std::fs::read_to_string(directory.join("plots").join(name)).unwrap();
    let slides = front("front_steps.svg");
    report::build(&directory, Style::Paper).unwrap();
    let paper = front("front_steps.svg");
    let largest = |svg: &str| {
        let sizes = svg
            .split("font-size=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse::<f64>().unwrap());
        sizes.fold(0.0, f64::max)
    };
    assert!(
        (largest(&slides) / largest(&paper) - 1.25).abs() < 0.01,
        "{} {}",
        largest(&slides),
        largest(&paper)
    );
    assert!(!paper.contains('…'), "a family's name is cut");
}

#[test]
fn a_comparison_of_sweeps_and_of_families() {
    let (older, newer, out) =
        (directory("compare-older"), directory("compare-newer"), directory("compare-out"));
    fixture::write(&older, &Shape::small(), false);
    fixture::write(&newer, &Shape { workloads: vec!["steps", "</script><b>"], ..Shape::small() }, false);
    let both = [older.clone(), newer];
    let choice = Choice::default();
    let summary = report::build_comparison(&both, &choice, &out, Style::Paper).unwrap();
    println!("{summary}");
    assert_eq!(summary.worse_than(0.0), Vec::<String>::new(), "the same runs");
    let first = contents(&out);
    let names = first
        .keys()
        .map(|path| path.strip_prefix(&out).unwrap().to_string_lossy().into_owned())
        .collect::<Vec<_>>();
    assert_eq!(
        names,
        ["compare.csv", "compare.html", "compare.md", "plots/compare_steps.png", "plots/compare_steps.svg"]
    );
    let within = Choice {
        families: vec!["static".into(), "inferline".into(), "chiron".into()],
        baseline: Some("chiron".into()),
    };
    let summary = report::build_comparison(&[both[1].clone()], &within, &out, Style::Slides).unwrap();
    println!("{summary}");
    let worse = summary.worse_than(0.0);
    assert!(!worse.is_empty() && summary.worse_than(1e6).is_empty(), "{worse:?}");
    let text = |name: &str| std::fs::read_to_string(out.join(name)).unwrap();
    assert_eq!(text("compare.csv").lines().count(), 5, "two pairs on two workloads");
    assert!(!text("compare.html").contains("<b>") && !text("compare.md").contains("<b>"));
    assert!(text("compare.html").contains("<svg") && !text("compare.html").contains("http-equiv"));
    report::build_comparison(&both, &choice, &out, Style::Paper).unwrap();
    assert!(contents(&out) == first, "the same sweeps give the same bytes");
    let error =
        report::build_comparison(&[directory("compare-nothing")], &choice, &out, Style::Paper).unwrap_err();
    assert!(format!("{error:#}").contains("results directory"), "{error:#}");
}
