use serde_json::json;

use super::*;

struct Quiet;

impl Progress for Quiet {
    fn run_ended(&self, _requests: u64) {}

    fn is_interrupted(&self) -> bool {
        false
    }
}

/// A directory with one small case and a list.
fn board_of(case: Value) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("small.json"), case.to_string()).unwrap();
    let list = json!({"autoscalers": [{"static": {"replicas": [2, 3, 6]}}, {"hpa": {"target_per_replica": [4, 64]}}]});
    fs::write(dir.path().join(POLICIES), list.to_string()).unwrap();
    dir
}

fn case() -> Value {
    json!({
        "question": "Small?",
        "workloads": [{"name": "small", "generate": {
            "arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 10}, {"duration_s": 60, "rate_per_s": 40}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}],
        "seeds": [1, 2],
        "cluster": {"initial_replicas": 3, "max_replicas": 8, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}},
        "autoscalers": [{"static": {"replicas": [2, 3, 6]}}],
        "objectives": {"reference": {"latency": 5, "cost": 3}, "constraints": {"p99_e2e_s": 1}}
    })
}

fn search() -> OracleSettings {
    OracleSettings { budget: 30, ..OracleSettings::default() }
}

fn scored(board: &Board, policies: &[Policies], mut scores: Scores) -> (Scores, Vec<String>) {
    let search = search();
    let names = Job::new(board, policies, &scores, &search).unwrap().run(&mut scores, &Quiet).unwrap();
    (scores, names)
}

#[test]
fn rows_say_what_the_runs_did() {
    let dir = board_of(case());
    let board = Board::read(dir.path()).unwrap();
    let (scores, names) = scored(&board, &[board.all_policies().unwrap()], board.scores(&search()));
    assert_eq!(names, ["static", "hpa"]);
    let fixed = &scores.rows[0].cases[0];
    assert_eq!((fixed.levels, fixed.runs, fixed.failed), (3, 6, 0));
    // The list's fixed fleets are those the edge was searched from, so they cannot beat it, and the cheapest
    // is the yardstick itself.
    assert!(0.0 < fixed.share && fixed.share <= 1.0, "{}", fixed.share);
    assert_eq!(scores.rows[0].over_fixed_fleet(&scores.yardsticks), Some(1.0));
    let chosen = fixed.chosen.as_ref().unwrap();
    assert!(chosen.kept && chosen.of_limit <= 1.0 && chosen.scale_ups_per_day == 0.0, "{chosen:?}");
    assert_eq!(chosen.settings, "replicas=6", "fewer are too slow for 40 requests/s");
    // Six replicas on six nodes at $8 an hour, as long as the run.
    let runs = board.cases[0].plan_of(&board.policies("static").unwrap()).unwrap();
    assert_eq!(runs.unique().len(), 6);
    assert!(chosen.cost_usd > 6.0 * 8.0 * 120.0 / 3600.0 / 2.0, "{}", chosen.cost_usd);
    let page = page(&board, &scores);
    assert!(
        page.contains("| 1 of 1 | 1.00 |") && page.contains("`hpa`") && page.contains("Small?"),
        "{page}"
    );
    assert_eq!(columns(&scores).len(), 16);
    // Who knows the law and not the draw does no better than who foresees it, but for what either search has
    // missed; fixed fleets do no better.
    let yardstick = &scores.yardsticks[0];
    let informed = yardstick.informed_share().unwrap();
    assert_eq!(yardstick.informed.as_ref().unwrap().len(), 2);
    assert!(0.5 < informed && informed < 1.02, "{informed}");
    let of_informed = scores.rows[0].informed_share(&scores.yardsticks).unwrap();
    assert!((of_informed - fixed.share / informed).abs() < 1e-12 && of_informed <= 1.05, "{of_informed}");
    assert!(page.contains(&format!("| *informed edge* | {:.1} |", 100.0 * informed)), "{page}");
}

#[test]
fn an_informed_edge_that_is_missing_is_searched_alone() {
    let dir = board_of(case());
    let board = Board::read(dir.path()).unwrap();
    let policies = [board.policies("static").unwrap()];
    let (both, _) = scored(&board, &policies, board.scores(&search()));
    let mut without = both.clone();
    without.yardsticks[0].informed = None;
    assert_eq!(without.rows[0].informed_share(&without.yardsticks), None);
    assert!(page(&board, &without).contains("| *informed edge* | - |"));
    let settings = search();
    let job = Job::new(&board, &policies, &without, &settings).unwrap();
    assert!(
        job.searches()
            && job.simulations()
                < Job::new(&board, &policies, &board.scores(&settings), &settings).unwrap().simulations()
    );
    assert_eq!(scored(&board, &policies, without).0, both);
}

#[test]
fn rows_stand_beside_those_that_are_there() {
    let dir = board_of(case());
    let board = Board::read(dir.path()).unwrap();
    let (first, _) = scored(&board, &[board.policies("static").unwrap()], board.scores(&search()));
    let mine = dir.path().join("mine.json");
    fs::write(&mine, json!({"autoscalers": [{"label": "mine", "static": {"replicas": 8}}]}).to_string())
        .unwrap();
    // The file is beside the cases here; what counts is that it is none once it is named.
    let policies = Policies::read(&mine).unwrap();
    fs::remove_file(&mine).unwrap();
    let (both, names) = scored(&board, std::slice::from_ref(&policies), first.clone());
    assert_eq!(names, ["mine"]);
    assert_eq!(both.yardsticks, first.yardsticks, "an edge that is known is not searched again");
    assert_eq!(both.rows.len(), 2);
    let (again, _) = scored(&board, &[policies], both.clone());
    assert_eq!(again, both, "the same again, in the place of the old row");
    let path = dir.path().join(PINNED);
    fs::write(&path, serde_json::to_string(&both).unwrap()).unwrap();
    assert_eq!(board.stored(&path, &search()).unwrap().as_ref(), Some(&both), "floats survive the file");
    assert_eq!(board.stored(&path, &OracleSettings::default()).unwrap(), None, "of another search");
    assert_eq!(board.clone().drawn(9).unwrap().stored(&path, &search()).unwrap(), None, "of other traffic");
}

#[test]
fn what_is_no_case_or_no_policy_is_told() {
    let told = |change: fn(&mut Value)| {
        let mut wrong = case();
        change(&mut wrong);
        format!("{:#}", Board::read(board_of(wrong).path()).unwrap_err())
    };
    let no_limits = told(|case| case["objectives"]["constraints"] = json!({}));
    assert!(
        no_limits.ends_with("small.json: objectives.constraints: none found, expected the limits to keep"),
        "{no_limits}"
    );
    let two_clusters = told(|case| case["cluster"]["scale_up_delay_s"] = json!([10, 20]));
    assert!(two_clusters.contains("several workloads or clusters found"), "{two_clusters}");
    let no_box = told(|case| case["objectives"]["reference"] = Value::Null);
    assert!(no_box.contains("objectives.reference"), "{no_box}");

    let dir = board_of(case());
    let board = Board::read(dir.path()).unwrap();
    let unknown = format!("{:#}", board.policies("hpaa").unwrap_err());
    assert!(unknown.ends_with("nor a file; did you mean `hpa`?"), "{unknown}");
    let own = dir.path().join("own.txt");
    let refused = |text: Value| {
        fs::write(&own, text.to_string()).unwrap();
        let policies = Policies::read(&own);
        format!("{:#}", policies.and_then(|policies| board.cases[0].plan_of(&policies)).unwrap_err())
    };
    assert!(
        refused(json!({"autoscalers": [], "workloads": []}))
            .contains("`workloads` found, expected `autoscalers` alone")
    );
    assert!(refused(json!({"policies": []})).contains("`policies` found"));
    let slip = refused(json!({"autoscalers": [{"hpa": {"target": 3}}]}));
    assert!(
        slip.starts_with(&own.display().to_string()) && slip.contains("autoscalers[0].hpa.target"),
        "{slip}"
    );
}
