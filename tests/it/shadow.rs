//! Shadow runs: a simulated run, recorded as Prometheus would have, comes back as what it was.

use std::fs;
use std::path::Path;

use scalefront::simulation::{Limits, RunMetrics, Workspace};
use scalefront::sweep::answers::shadow::scrape;
use scalefront::sweep::run::run_cell_in_detail;
use serde_json::{Value, json};

use super::cli::{scalefront, stderr, stdout};
use super::rows;

/// An hour with a swell, served by an autoscaler.
fn grid() -> Value {
    json!({
        "name": "hour",
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"diurnal": {"mean_rate_per_s": 12, "amplitude": 0.7, "period_s": 3600, "duration_s": 3600}},
            "lengths": {"uniform": {"prefill": {"min_tokens": 200, "max_tokens": 900}, "decode": {"min_tokens": 20, "max_tokens": 120}}}}}],
        "cluster": {"scale_up_delay_s": 60, "initial_replicas": 3, "max_replicas": 12, "replica_scheduler": {"vllm": {"batch_size_cap": 32}}},
        "autoscalers": [{"hpa": {"target_per_replica": 6}}]
    })
}

/// The run, and its record in `dir`.
fn record(dir: &Path, interval_s: f64) -> RunMetrics {
    let plan = rows::plan(&grid());
    let (metrics, detail) =
        run_cell_in_detail(&plan.cell(0), &plan.inputs, Limits::default(), &mut Workspace::default())
            .unwrap();
    fs::create_dir(dir.join("metrics")).unwrap();
    for (name, value) in scrape::of_detail(&detail, metrics.simulated_s, interval_s) {
        fs::write(dir.join("metrics").join(name), value.to_string()).unwrap();
    }
    metrics
}

/// `shadow` on the policies of `autoscalers`; its answer.
fn shadow(dir: &Path, autoscalers: Value, constraints: Value, more: &[&str]) -> (Value, String) {
    let mut grid = grid();
    grid["autoscalers"] = autoscalers;
    grid["objectives"] = json!({"constraints": constraints});
    fs::write(dir.join("x.json"), grid.to_string()).unwrap();
    let output = scalefront(dir, &[&["shadow", "metrics", "x.json", "--out", "out"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    (serde_json::from_slice(&fs::read(dir.join("out/shadow.json")).unwrap()).unwrap(), stdout(&output))
}

fn off(answer: &Value, what: &str) -> f64 {
    let found = answer["agreement"].as_array().unwrap().iter().find(|compared| compared["what"] == what);
    found.unwrap_or_else(|| panic!("{what}: {answer:#}"))["off"].as_f64().unwrap()
}

#[test]
fn a_recorded_run_of_ours_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = record(dir.path(), 15.0);
    let (answer, text) = shadow(
        dir.path(),
        json!([{"hpa": {"target_per_replica": [3, 6, 12]}}, {"static": {"replicas": [4, 12]}}]),
        json!({"p90_e2e_s": 20}),
        &[],
    );
    // What it cost, by the meter of the run itself.
    let replayed = answer["as_it_was"]["cost_usd"].as_f64().unwrap();
    assert!(
        (replayed / metrics.total_cost_usd - 1.0).abs() < 0.02,
        "{replayed} for {}\n{text}",
        metrics.total_cost_usd
    );
    for (what, most) in [
        ("requests", 0.001),
        ("prompt tokens", 0.02),
        ("output tokens", 0.02),
        ("replica hours", 0.02),
        ("cost", 0.02),
        ("running requests, mean", 0.1),
        ("mean_e2e_s", 0.1),
        ("p90_e2e_s", 0.15),
    ] {
        assert!(off(&answer, what).abs() < most, "{what} is off by {}\n{text}", off(&answer, what));
    }
    // The policy that ran is among those that would have: about what was done.
    let policies = answer["policies"].as_array().unwrap();
    let same = policies.iter().find(|run| run["setting"]["hpa.target_per_replica"] == 6).unwrap();
    assert!(same["saved_share"].as_f64().unwrap().abs() < 0.05, "{same:#}");
    let fixed =
        |replicas: u64| policies.iter().find(|run| run["setting"]["static.replicas"] == replicas).unwrap();
    assert!(fixed(12)["saved_usd"].as_f64().unwrap() < 0.0, "twelve cost more");
    assert_eq!(policies.len(), 5);
    assert!(text.contains("% saved") && text.contains("What was done, replayed"), "{text}");
    // The grid that is left is one to sweep on.
    let output = scalefront(dir.path(), &["sweep", "out/grid.json", "--dry-run"]);
    assert!(
        output.status.success() && stdout(&output).contains("5 to run of 5 planned"),
        "{}{}",
        stdout(&output),
        stderr(&output)
    );
}

#[test]
fn shadows_are_the_same_on_any_number_of_threads() {
    let (one, three) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let answers = [(&one, "1"), (&three, "3")].map(|(dir, threads)| {
        record(dir.path(), 30.0);
        shadow(dir.path(), json!(["hpa", "keda"]), json!({"p90_e2e_s": 0.01}), &["--threads", threads])
    });
    assert_eq!(answers[0].0, answers[1].0);
    assert!(answers[0].1.contains("breaks p90_e2e_s ≤ 0.01"), "{}", answers[0].1);
}

/// Completions, gauges and nothing of a gateway: arrivals are what was done and what is inside.
#[test]
fn without_a_gateway_arrivals_are_made_out() {
    let dir = tempfile::tempdir().unwrap();
    let metrics = record(dir.path(), 15.0);
    fs::remove_file(dir.path().join("metrics/inference_objective_request_total.json")).unwrap();
    let (answer, text) =
        shadow(dir.path(), json!([{"static": {"replicas": 6}}]), json!({"p90_e2e_s": 20}), &[]);
    let requests = answer["agreement"][0]["measured"].as_f64().unwrap();
    assert!(
        (requests / metrics.num_requests as f64 - 1.0).abs() < 0.01,
        "{requests} of {}",
        metrics.num_requests
    );
    assert!(
        text.contains("note: arrivals: completions and what running and waiting requests gained"),
        "{text}"
    );
}

#[test]
fn tables_do_as_well_and_slips_are_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("metrics")).unwrap();
    let table = dir.path().join("metrics/night.csv");
    let mut text =
        "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas,p90_e2e_s\n".to_owned();
    for minute in 0..20 {
        text += &format!("{},{},300,20,{},2.5\n", 60 * minute, 2 + minute % 5, 2 + minute / 10);
    }
    fs::write(&table, &text).unwrap();
    let (answer, _) =
        shadow(dir.path(), json!([{"static": {"replicas": [2, 3]}}]), json!({"p90_e2e_s": 30}), &[]);
    assert!(
        off(&answer, "requests").abs() < 0.01 && off(&answer, "replica hours").abs() < 0.03,
        "{answer:#}"
    );
    assert!(
        answer["agreement"]
            .as_array()
            .unwrap()
            .iter()
            .any(|compared| compared["what"] == "p90_e2e_s" && compared["measured"] == 2.5)
    );

    let refusal = |recorded: &str, grid: Value| {
        fs::write(dir.path().join("y.json"), grid.to_string()).unwrap();
        let output = scalefront(dir.path(), &["shadow", recorded, "y.json", "--out", "never"]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(!dir.path().join("never/shadow.json").exists());
        stderr(&output)
    };
    assert!(refusal("nowhere", grid()).contains("nowhere: cannot be read"));
    fs::write(dir.path().join("slip.csv"), text.replace("requests_per_s", "request_per_s")).unwrap();
    let slip = refusal("slip.csv", grid());
    assert!(
        slip.contains("slip.csv: unknown column `request_per_s`")
            && slip.contains("did you mean `requests_per_s`?"),
        "{slip}"
    );
    fs::write(
        dir.path().join("quiet.csv"),
        "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas\n0,0,1,1,1\n60,0,1,1,1\n",
    )
    .unwrap();
    assert!(refusal("quiet.csv", grid()).contains("no request arrived in it"));
    let mut two = grid();
    two["cluster"]["scale_up_delay_s"] = json!([30, 60]);
    assert!(
        refusal("metrics", two)
            .contains("`cluster.scale_up_delay_s` found with several values, expected one cluster")
    );
}

/// A table of 20 rows a quarter of a minute apart, from a time on.
fn quarter_minutes(from_s: u32, replicas: &str) -> String {
    let rows = (0..20).map(|row| format!("{},2,100,10,{replicas}\n", from_s + 15 * row));
    format!(
        "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas\n{}",
        rows.collect::<String>()
    )
}

/// The agreement of one thing: what was measured, and what the replay had.
fn both(answer: &Value, what: &str) -> [f64; 2] {
    let found =
        answer["agreement"].as_array().unwrap().iter().find(|compared| compared["what"] == what).unwrap();
    ["measured", "replayed"].map(|side| found[side].as_f64().unwrap())
}

/// The answer on tables of these names and contents.
fn on_tables(tables: &[(&str, String)]) -> Value {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("metrics")).unwrap();
    for (name, text) in tables {
        fs::write(dir.path().join("metrics").join(name), text).unwrap();
    }
    shadow(dir.path(), json!([{"static": {"replicas": 1}}]), json!({}), &[]).0
}

fn notes(answer: &Value) -> String {
    answer["notes"].as_array().unwrap().iter().map(|note| note.as_str().unwrap().to_owned() + "\n").collect()
}

#[test]
fn replicas_hold_over_what_nobody_recorded() {
    let dir = tempfile::tempdir().unwrap();
    record(dir.path(), 15.0);
    let (whole, _) = shadow(dir.path(), json!([{"static": {"replicas": 6}}]), json!({}), &[]);
    for entry in fs::read_dir(dir.path().join("metrics")).unwrap() {
        let path = entry.unwrap().path();
        let mut file: Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for series in file["data"]["result"].as_array_mut().unwrap() {
            let away = 1_700_001_500.0..1_700_002_100.0;
            series["values"]
                .as_array_mut()
                .unwrap()
                .retain(|sample| !away.contains(&sample[0].as_f64().unwrap()));
        }
        fs::write(&path, file.to_string()).unwrap();
    }
    let (gappy, _) = shadow(dir.path(), json!([{"static": {"replicas": 6}}]), json!({}), &[]);
    let ([before, _], [after, replayed]) = (both(&whole, "replica hours"), both(&gappy, "replica hours"));
    assert!(
        (after / before - 1.0).abs() < 0.1 && (replayed / after - 1.0).abs() < 0.05,
        "{before} {after} {replayed}"
    );
    let said = notes(&gappy);
    assert!(
        said.contains(
            "gap of 615 s, from 1700001485 to 1700002100 s, in inference_objective_request_total.json"
        ),
        "{said}"
    );
    assert!(!notes(&whole).contains("gap of"), "{}", notes(&whole));
}

#[test]
fn tables_that_follow_each_other_are_one_and_others_refused() {
    let two = on_tables(&[("b.csv", quarter_minutes(0, "1")), ("a.csv", quarter_minutes(300, "1"))]);
    assert_eq!(both(&two, "requests"), [1200.0, 1200.0]);
    assert!((both(&two, "replica hours")[0] - 600.0 / 3600.0).abs() < 1e-9);
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("m")).unwrap();
    fs::write(dir.path().join("m/a.csv"), quarter_minutes(0, "1")).unwrap();
    fs::write(dir.path().join("m/b.csv"), quarter_minutes(285, "1")).unwrap();
    fs::write(dir.path().join("zero.csv"), quarter_minutes(60, "0")).unwrap();
    fs::write(dir.path().join("x.json"), grid().to_string()).unwrap();
    for (recorded, message) in [
        ("m", "a.csv and b.csv: both have `requests_per_s` from 285 to 285 s"),
        (
            "zero.csv",
            "zero.csv: `replicas`: 0 replicas found from 60 s to the end of the record, while 600 requests arrive",
        ),
    ] {
        let output = scalefront(dir.path(), &["shadow", recorded, "x.json", "--out", "never"]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(stderr(&output).contains(message), "{}", stderr(&output));
    }
}

#[test]
fn rows_hold_until_the_next_on_both_sides() {
    let text = "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas\n0,2,100,10,1\n15,2,100,10,1\n3000,2,100,10,1\n";
    let answer = on_tables(&[("a.csv", text.to_owned())]);
    assert_eq!(both(&answer, "requests")[0], 6030.0);
    let [measured, replayed] = both(&answer, "replica hours");
    assert!(
        (measured - 3015.0 / 3600.0).abs() < 1e-9 && (replayed / measured - 1.0).abs() < 0.01,
        "{measured} {replayed}"
    );
    let static_one = answer["policies"][0]["cost_usd"].as_f64().unwrap();
    assert!(
        (static_one / answer["as_it_was"]["cost_usd"].as_f64().unwrap() - 1.0).abs() < 0.01,
        "{answer:#}"
    );
    assert!(notes(&answer).contains("gap of 2985 s, from 15 to 3000 s, in a.csv"), "{answer:#}");
}

#[test]
fn parts_of_replicas_are_measured_as_recorded() {
    let [part, whole] = ["1.4", "1"].map(|replicas| on_tables(&[("a.csv", quarter_minutes(0, replicas))]));
    assert!((both(&part, "replica hours")[0] - 1.4 * 300.0 / 3600.0).abs() < 1e-9, "{part:#}");
    assert!((both(&part, "cost")[0] / both(&whole, "cost")[0] - 1.4).abs() < 1e-9, "{part:#}");
    assert!(notes(&part).contains("0.1167 replica hours were recorded, 0.0833 are replayed"), "{part:#}");
}

/// What is replayed has waited for nodes, and been lost, already.
#[test]
fn what_was_done_is_replayed_without_the_grids_delays() {
    let text = "time_s,requests_per_s,mean_prefill_tokens,mean_decode_tokens,replicas,p90_e2e_s\n\
                0,2,,10,1,0.5\n60,2,100,10,3,0.5\n120,2,100,10,3,0.5\n";
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("a.csv"), text).unwrap();
    let mut with = grid();
    with["autoscalers"] = json!([{"static": {"replicas": 1}}]);
    with["cluster"]["node_pool"] = json!({"provision_s": 120});
    with["cluster"]["failures"] = json!({"mean_time_to_crash_s": 60});
    fs::write(dir.path().join("x.json"), with.to_string()).unwrap();
    let output =
        scalefront(dir.path(), &["shadow", "a.csv", "x.json", "--time-scale", "0.5", "--out", "out"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let answer: Value =
        serde_json::from_slice(&fs::read(dir.path().join("out/shadow.json")).unwrap()).unwrap();
    let [measured, replayed] = both(&answer, "replica hours");
    assert!(
        (measured / (0.5 * 420.0 / 3600.0) - 1.0).abs() < 1e-9 && (replayed / measured - 1.0).abs() < 0.05,
        "{measured} {replayed}"
    );
    // Times of the record are twice those of the traffic.
    assert_eq!(both(&answer, "p90_e2e_s")[0], 0.25);
    // A length that is not said yet is the first that is.
    assert_eq!(both(&answer, "prompt tokens"), [36_000.0, 36_000.0]);

    with["cluster"]["pools"] = json!([{"name": "a"}, {"name": "b"}]);
    with["cluster"].as_object_mut().unwrap().remove("node_pool");
    fs::write(dir.path().join("pools.json"), with.to_string()).unwrap();
    let refused = scalefront(dir.path(), &["shadow", "a.csv", "pools.json", "--out", "never"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("cluster.pools: found, expected a cluster of one pool"),
        "{}",
        stderr(&refused)
    );
}
