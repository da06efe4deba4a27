//! The leaderboard as it is shipped, and its command.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::leaderboard::{Board, page};
use serde_json::{Value, json};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn shipped() -> Board {
    Board::read(&root().join("sweeps/leaderboard")).unwrap()
}

#[test]
fn every_policy_is_swept_over_its_knob_with_as_many_levels() {
    let board = shipped();
    let plan = board.cases[0].plan_of(&board.all_policies().unwrap()).unwrap();
    let mut levels = BTreeMap::new();
    for section in &plan.grid.autoscalers {
        let entry = section.get(0);
        let knob = format!("{}.{}", entry.settings.name(), entry.settings.settings().upstream().knob);
        let axes: Vec<String> = section.varying(0).into_iter().map(|(path, _)| path).collect();
        assert_eq!(axes, [knob], "{}", entry.family());
        assert!(
            levels.insert(entry.settings.name(), section.count()).is_none(),
            "{} is listed twice",
            entry.settings.name()
        );
    }
    // A schedule is a plan for one workload, and a program of the user's own is not ours to list.
    let missing = AutoscalerSettings::NAMES.iter().filter(|name| {
        !levels.contains_key(*name) && !["schedule", "external", "per_pool", "fleet"].contains(*name)
    });
    assert_eq!(missing.collect::<Vec<_>>(), Vec::<&&str>::new());
    assert!(levels.values().all(|count| *count == 8), "{levels:?}");
}

#[test]
fn the_page_in_the_documentation_is_that_of_the_pinned_rows() {
    let board = shipped();
    let page = page(&board, &board.read_pinned().unwrap());
    let committed = fs::read_to_string(root().join("docs/leaderboard.md")).unwrap();
    assert!(
        committed == page,
        "docs/leaderboard.md is stale: `scalefront leaderboard --pin`, then `scalefront leaderboard --markdown > docs/leaderboard.md`"
    );
}

fn scalefront(dir: &Path, arguments: &[&str]) -> (String, String, i32) {
    let output =
        Command::new(env!("CARGO_BIN_EXE_scalefront")).args(arguments).current_dir(dir).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr), output.status.code().unwrap())
}

/// One case that takes no time, and a list of one policy.
fn small() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    let case = json!({
        "workloads": [{"name": "small", "generate": {
            "arrivals": {"poisson": {"phases": [{"duration_s": 40, "rate_per_s": 10}, {"duration_s": 40, "rate_per_s": 30}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}],
        "seeds": [1, 2],
        "cluster": {"max_replicas": 8},
        "autoscalers": [{"static": {"replicas": [3, 6]}}],
        "objectives": {"reference": {"latency": 5, "cost": 3}, "constraints": {"p99_e2e_s": 2}}
    });
    fs::create_dir(dir.path().join("cases")).unwrap();
    fs::write(dir.path().join("cases/small.json"), case.to_string()).unwrap();
    fs::write(
        dir.path().join("cases/policies.json"),
        json!({"autoscalers": [{"static": {"replicas": [3, 6]}}]}).to_string(),
    )
    .unwrap();
    dir
}

#[test]
fn a_program_goes_on_the_board_beside_what_is_pinned() {
    let dir = small();
    let run = |arguments: &[&str]| {
        scalefront(
            dir.path(),
            &[&["leaderboard", "--cases", "cases", "--edge-runs", "20"], arguments].concat(),
        )
    };
    let (out, err, code) = run(&["--pin"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        out.contains("static: ")
            && out.contains("limits kept in 1 of 1 cases at 1.00 of a fixed fleet's cost"),
        "{out}"
    );
    assert!(err.contains("searched first, 20 runs a seed"), "{err}");

    // Two replicas to begin with, then six; it says so whatever it is asked.
    let script = r#"read q; echo '{"type": "hello", "protocol": 1}'
        while read q; do case "$q" in
            *'"type":"start"'*) echo '{"type": "ready"}' ;;
            *) echo '{"type": "decision", "target": 6}' ;;
        esac; done"#;
    let mine = json!({"autoscalers": [{"label": "mine", "external": {"command": ["sh", "-c", script]}}]});
    fs::write(dir.path().join("mine.json"), mine.to_string()).unwrap();
    // Another directory: the pinned rows stand beside the new one.
    let (out, err, code) = run(&["mine.json", "--out", "elsewhere"]);
    assert_eq!((code, err.as_str()), (0, ""), "the edge is known");
    assert!(out.starts_with("mine: ") && out.contains("1 of 2 rows: elsewhere/leaderboard.md"), "{out}");
    let page = fs::read_to_string(dir.path().join("elsewhere/leaderboard.md")).unwrap();
    assert!(page.contains("`mine`") && page.contains("`static`"), "{page}");
    let table = fs::read_to_string(dir.path().join("elsewhere/leaderboard.csv")).unwrap();
    assert_eq!(table.lines().count(), 3, "{table}");

    // Traffic drawn anew has an edge of its own, and rows of its own.
    let (out, err, code) = run(&["mine.json", "--seed", "77"]);
    assert_eq!(code, 0, "{err}");
    assert!(
        err.contains("searched first") && out.contains("1 of 1 rows: results/leaderboard-77/leaderboard.md"),
        "{out}{err}"
    );
    let scores = |path: &str| -> Value {
        serde_json::from_str(&fs::read_to_string(dir.path().join(path)).unwrap()).unwrap()
    };
    let (pinned, drawn) = (scores("cases/pinned.json"), scores("results/leaderboard-77/leaderboard.json"));
    assert_ne!(pinned["yardsticks"], drawn["yardsticks"]);

    let wrong = json!({"autoscalers": [{"label": "wrong", "external": {"command": ["sh", "-c", "echo out of ideas >&2; exit 1"]}}]});
    fs::write(dir.path().join("wrong.json"), wrong.to_string()).unwrap();
    let (out, err, code) = run(&["wrong.json", "--out", "elsewhere"]);
    assert_eq!(code, 1, "{out}");
    assert!(err.contains("2 runs failed; the first, on small: ") && err.contains("out of ideas"), "{err}");
    let (_, err, code) = run(&["statics"]);
    assert_eq!(code, 2);
    assert!(err.contains("did you mean `static`?"), "{err}");
}

#[test]
fn threads_do_not_show() {
    let dir = small();
    let scores = |threads: &str| {
        let out = format!("on-{threads}");
        let arguments = [
            "leaderboard",
            "--cases",
            "cases",
            "--edge-runs",
            "20",
            "--quiet",
            "--threads",
            threads,
            "--out",
            &out,
        ];
        assert_eq!(scalefront(dir.path(), &arguments).2, 0);
        ["json", "md", "csv"].map(|extension| {
            fs::read(dir.path().join(&out).join(format!("leaderboard.{extension}"))).unwrap()
        })
    };
    assert!(scores("1") == scores("3"));
}
