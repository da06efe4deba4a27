//! What other commands make of sessions: they work, or say why not and what is expected.

use std::fs;

use serde_json::{Value, json};

use super::cli::{directory_with, scalefront, stderr};

#[test]
fn commands_take_sessions_or_say_why_not() {
    let grid = json!({
        "name": "s",
        "workloads": [{"name": "chat", "sessions": {
            "starts": {"poisson": {"rate_per_s": 0.5, "duration_s": 60}}, "turns": {"fixed": {"turns": 3}}, "think_time_s": 5,
            "lengths": {"fixed": {"prefill_tokens": 300, "decode_tokens": 30}}}}],
        "seeds": [1, 2],
        "cluster": {"execution_time": "analytical", "global_scheduler": "session_hash"},
        "autoscalers": [{"static": {"replicas": [1, 2]}}, {"hpa": {"metric": "running_requests", "target_per_replica": [2, 4]}}],
        "objectives": {"latency": "p90_session_busy_s", "reference": {"latency": 20, "cost": 20}}
    });
    let dir = directory_with(&grid.to_string());
    let run = |arguments: &[&str]| {
        let output = scalefront(dir.path(), arguments);
        (output.status.code(), stderr(&output))
    };
    let works = |arguments: &[&str]| {
        let (code, said) = run(arguments);
        assert_eq!(code, Some(0), "{arguments:?}: {said}");
    };
    let refuses = |arguments: &[&str], why: &str, remedy: &str| {
        let (code, said) = run(arguments);
        assert!(
            code == Some(2) && said.contains(why) && said.contains(remedy),
            "{arguments:?}: {code:?} {said}"
        );
    };
    works(&["sweep", "x.json", "--quiet"]);
    works(&["compare", "results/s", "--quiet"]);
    works(&["report", "results/s", "--quiet"]);
    let open = "expected `generate`, a trace, or sessions with `loop` \"open\"";
    refuses(&["oracle", "results/s", "--quiet"], "workload `chat`: its requests wait for answers", open);
    refuses(
        &["sweep", "x.json", "--oracle", "20", "--quiet", "--out", "o"],
        "workload `chat`: its requests wait for answers",
        open,
    );
    let law = "workload `chat`: its requests wait for answers, so what comes depends on what is decided";
    refuses(&["oracle", "results/s", "--informed", "--quiet"], law, "expected `generate`");
    refuses(&["sweep", "x.json", "--informed", "20", "--quiet", "--out", "i"], law, "expected `generate`");
    // Limits on what only sessions have; with more traffic there are more sessions.
    works(&[
        "recommend",
        "x.json",
        "--limit",
        "p99_later_turn_ttft_s=5",
        "--limit",
        "cold_turn_share=0.9",
        "--quiet",
    ]);
    works(&["recommend", "x.json", "--limit", "p99_ttft_s=5", "--largest-load", "--quiet", "--out", "load"]);
    // A shadow draws open requests at the rates recorded: as many as there were turns.
    let mut one = grid;
    (one["autoscalers"], one["seeds"]) = (json!([{"static": {"replicas": 2}}]), json!([1]));
    fs::write(dir.path().join("one.json"), one.to_string()).unwrap();
    works(&["simulate", "one.json", "--prometheus", "--quiet", "--out", "recorded"]);
    works(&["shadow", "recorded/metrics", "x.json", "--quiet", "--out", "shadow"]);
    let text = fs::read_to_string(dir.path().join("shadow/shadow.json")).unwrap();
    let answer: Value = serde_json::from_str(&text).unwrap();
    let requests = &answer["agreement"][0];
    assert!(requests["what"] == "requests" && requests["measured"].as_f64() > Some(60.0), "{requests}");
    assert_eq!(requests["measured"], requests["replayed"]);
}
