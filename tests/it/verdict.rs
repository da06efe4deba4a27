//! A newcomer's day: which setting keeps the limits for the least money, and what a month of it costs. The
//! verdict has to name what an exhaustive listing of the runs finds.
#![cfg(feature = "report")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{directory_with, scalefront, stderr, stdout};

/// Two hours that rise and fall like a day, on Qwen3-32B.
fn day() -> Value {
    json!({
        "name": "day",
        "workloads": [{"name": "day", "generate": {
            "arrivals": {"diurnal": {"mean_rate_per_s": 9, "amplitude": 0.8, "duration_s": 7200, "period_s": 7200, "phase_s": 5400}},
            "lengths": {"fixed": {"prefill_tokens": 2000, "decode_tokens": 299}}}}],
        "seeds": [1, 2],
        "cluster": {
            "model": "Qwen/Qwen3-32B", "node": "h100_dgx", "node_price_usd_per_hour": 30, "tensor_parallel": 2, "max_request_tokens": 4096,
            "execution_time": "analytical", "replica_scheduler": "vllm_v1", "global_scheduler": "least_outstanding",
            "initial_replicas": 4, "max_replicas": 16, "scale_up_delay_s": 60
        },
        "autoscalers": [
            {"static": {"replicas": {"from": 2, "to": 8, "step": 1}}},
            {"hpa": {"metric": "kv_use", "target_per_replica": [0.2, 0.4, 0.8]}},
            {"keda": {"target_per_replica": [16, 32, 64, 128], "min_replicas": [1, 4]}}
        ],
        "objectives": {"latency": "p99_ttft_s", "constraints": {"p99_ttft_s": 2, "p90_e2e_s": 20}}
    })
}

/// The rows of `runs.csv`-like tables: what `fronts.csv` is not, every run.
fn listed(dir: &Path) -> Vec<BTreeMap<String, String>> {
    let runs = scalefront::analysis::read_runs(&dir.join("runs.parquet"), None).unwrap();
    let columns = [
        "run_id",
        "seed",
        "policy",
        "autoscaler.replicas",
        "autoscaler.target_per_replica",
        "autoscaler.min_replicas",
        "status",
        "p99_ttft_s",
        "p90_e2e_s",
        "total_cost_usd",
        "cost_usd_per_month",
    ];
    // A setting of policies that the sweep does not have is no column.
    let cells: Vec<_> = columns
        .iter()
        .filter_map(|name| Some((name, scalefront::analysis::table::Cells::named(&runs, name).ok()?)))
        .collect();
    let row = |row: usize| {
        cells.iter().map(|(name, cells)| (name.to_string(), cells.text(row).unwrap_or_default())).collect()
    };
    (0..runs.height()).map(row).collect()
}

fn sweep(dir: &Path, more: &[&str]) -> String {
    let output = scalefront(dir, &[&["sweep", "x.json"], more].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    stdout(&output)
}

fn verdict(dir: &Path) -> Value {
    serde_json::from_slice::<Value>(&fs::read(dir.join("verdict.json")).unwrap()).unwrap()[0].clone()
}

#[test]
fn the_verdict_is_what_an_exhaustive_listing_finds() {
    let dir = directory_with(&day().to_string());
    let said = sweep(dir.path(), &["--out", "one", "--threads", "2"]);
    let one = dir.path().join("one");

    // By hand: settings all of whose runs keep both limits, and the mean of their costs.
    let number = |row: &BTreeMap<String, String>, name: &str| row[name].parse::<f64>().unwrap();
    let mut settings: BTreeMap<String, Vec<BTreeMap<String, String>>> = BTreeMap::new();
    for row in listed(&one) {
        let names =
            ["policy", "autoscaler.replicas", "autoscaler.target_per_replica", "autoscaler.min_replicas"];
        settings.entry(names.map(|name| row[name].clone()).join(" ")).or_default().push(row);
    }
    assert_eq!(settings.len(), 18);
    let keeping: Vec<_> = settings
        .values()
        .filter(|rows| {
            rows.iter().all(|row| number(row, "p99_ttft_s") <= 2.0 && number(row, "p90_e2e_s") <= 20.0)
        })
        .collect();
    assert!(
        !keeping.is_empty() && keeping.len() < settings.len(),
        "{} of {} keep the limits",
        keeping.len(),
        settings.len()
    );
    let cost = |rows: &[BTreeMap<String, String>], name: &str| {
        rows.iter().map(|row| number(row, name)).sum::<f64>() / rows.len() as f64
    };
    let cheapest = keeping
        .iter()
        .min_by(|a, b| cost(a, "total_cost_usd").total_cmp(&cost(b, "total_cost_usd")))
        .unwrap();

    let verdict = verdict(&one);
    let ids: Vec<&str> = cheapest.iter().map(|row| row["run_id"].as_str()).collect();
    assert_eq!(verdict["best"]["run_ids"], json!(ids), "{verdict:#}");
    assert_eq!(verdict["settings_keeping"], keeping.len());
    let month = cost(cheapest, "cost_usd_per_month");
    assert!((verdict["best"]["cost_usd_per_month"].as_f64().unwrap() / month - 1.0).abs() < 1e-12);
    let worst = cheapest.iter().map(|row| number(row, "p99_ttft_s")).fold(0.0, f64::max);
    assert_eq!(verdict["best"]["constraints"][0]["value"].as_f64(), Some(worst));

    // Every seed of it is tried again.
    let trials = verdict["robustness"].as_array().unwrap();
    let traffic: Vec<&Value> =
        trials.iter().filter(|trial| trial["role"] == "best" && trial["change"] == "traffic").collect();
    assert!(traffic.len() == 2 && traffic.iter().all(|trial| trial["runs"] == 2), "{trials:?}");

    // First everywhere: terminal, first paragraph of the summary, page.
    assert!(said.starts_with("Verdict: "), "{said}");
    let dollars = format!("US$ {}", scalefront::sweep::tables::names::grouped(month.round() as u64));
    let summary = fs::read_to_string(one.join("summary.md")).unwrap();
    let first = summary.split("\n\n").nth(1).unwrap();
    let page = fs::read_to_string(one.join("report.html")).unwrap();
    assert!(
        first.starts_with("**Verdict.**") && first.contains(&dollars) && said.contains(&dollars),
        "{first}"
    );
    assert!(
        page.contains(&dollars) && page.find("id=\"verdict\"").unwrap() < page.find("id=\"front\"").unwrap()
    );

    // What it says to copy is the very setting.
    let mut alone = day();
    for (key, value) in verdict["setting"].as_object().unwrap() {
        alone[key] = value.clone();
    }
    fs::write(dir.path().join("x.json"), alone.to_string()).unwrap();
    sweep(dir.path(), &["--out", "alone", "--quiet"]);
    let again: Vec<String> =
        listed(&dir.path().join("alone")).iter().map(|row| row["run_id"].clone()).collect();
    assert_eq!(again, ids);
}

#[test]
fn robustness_is_tested_alike_on_any_number_of_threads_and_in_shards() {
    let mut grid = day();
    grid["workloads"][0]["generate"]["arrivals"]["diurnal"]["duration_s"] = json!(900);
    grid["workloads"][0]["generate"]["arrivals"]["diurnal"]["period_s"] = json!(900);
    grid["autoscalers"] =
        json!([{"static": {"replicas": [2, 8]}}, {"keda": {"target_per_replica": [16, 64]}}]);
    grid["objectives"]["constraints"] = json!({"p99_ttft_s": 60});
    let dir = directory_with(&grid.to_string());
    sweep(dir.path(), &["--out", "one", "--threads", "1"]);
    sweep(dir.path(), &["--out", "two", "--threads", "2"]);
    for shard in ["1/2", "2/2"] {
        sweep(dir.path(), &["--out", "parts", "--shard", shard]);
    }
    let merged = scalefront(dir.path(), &["merge", "parts", "--out", "merged"]);
    assert_eq!(merged.status.code(), Some(0), "{}", stderr(&merged));
    let read = |out: &str, name: &str| fs::read(dir.path().join(out).join(name)).unwrap();
    for name in ["robustness.parquet", "robustness.csv", "verdict.json", "constraints.csv"] {
        assert!(read("one", name) == read("two", name), "{name}: another number of threads");
        assert!(read("one", name) == read("merged", name), "{name}: in shards");
    }
    let trials = verdict(&dir.path().join("one"))["robustness"].as_array().unwrap().clone();
    let changes: Vec<&str> = trials
        .iter()
        .filter(|trial| trial["role"] == "best")
        .map(|trial| trial["change"].as_str().unwrap())
        .collect();
    assert!(
        ["traffic", "step_times", "other_seed"].iter().all(|change| changes.contains(change)),
        "{changes:?}"
    );

    // The report alone keeps them; without limits there are none, nor of earlier limits; `--robustness false`
    // leaves them out.
    let report = scalefront(dir.path(), &["report", "two"]);
    assert_eq!(report.status.code(), Some(0), "{}", stderr(&report));
    assert!(read("two", "verdict.json") == read("one", "verdict.json"));
    let without = sweep(dir.path(), &["--out", "bare", "--robustness", "false"]);
    assert!(without.starts_with("Verdict: ") && !dir.path().join("bare/robustness.csv").exists());
    grid["objectives"].as_object_mut().unwrap().remove("constraints");
    fs::write(dir.path().join("x.json"), grid.to_string()).unwrap();
    let said = sweep(dir.path(), &["--out", "one"]);
    assert!(said.starts_with("Verdict: No limits are given"), "{said}");
    assert!(
        !dir.path().join("one/robustness.csv").exists() && !dir.path().join("one/constraints.csv").exists()
    );
}

#[test]
fn where_nothing_keeps_the_limits_it_says_what_comes_nearest() {
    let mut grid = day();
    grid["workloads"][0]["generate"]["arrivals"]["diurnal"]["duration_s"] = json!(300);
    grid["autoscalers"] = json!([{"static": {"replicas": [2, 3]}}]);
    grid["objectives"]["constraints"] = json!({"p99_ttft_s": 0.001, "p90_e2e_s": 500});
    let dir = directory_with(&grid.to_string());
    let said = sweep(dir.path(), &["--out", "one"]);
    assert!(
        said.starts_with("Verdict: None of 2 settings tried keeps p99_ttft_s ≤ 0.001 and p90_e2e_s ≤ 500"),
        "{said}"
    );
    assert!(
        said.contains("No setting keeps p99_ttft_s ≤ 0.001.") && said.contains("comes nearest"),
        "{said}"
    );
    let verdict = verdict(&dir.path().join("one"));
    assert_eq!((&verdict["kept"], &verdict["best"]), (&json!(false), &json!(null)));
    assert!(verdict["nearest"]["cost_usd_per_month"].as_f64().unwrap() > 0.0);
}

/// Two workloads, one setting: what a listing by hand finds stands first in terminal and summary, and last in
/// `verdict.json`.
#[test]
fn one_setting_for_all_workloads() {
    let mut grid = day();
    let busier = grid["workloads"][0].clone();
    grid["workloads"][0]["generate"]["arrivals"] =
        json!({"poisson": {"phases": [{"duration_s": 600, "rate_per_s": 8}]}});
    grid["workloads"].as_array_mut().unwrap().push(busier);
    grid["workloads"][1]["name"] = "busier".into();
    grid["workloads"][1]["generate"]["arrivals"] =
        json!({"poisson": {"phases": [{"duration_s": 600, "rate_per_s": 16}]}});
    grid["autoscalers"] = json!([{"static": {"replicas": {"from": 2, "to": 8, "step": 1}}}]);
    let dir = directory_with(&grid.to_string());
    let said = sweep(dir.path(), &["--out", "two", "--robustness", "false"]);
    let two = dir.path().join("two");

    let mut keeping: BTreeMap<String, (bool, f64, f64)> = BTreeMap::new();
    for row in listed(&two) {
        let number = |name: &str| row[name].parse::<f64>().unwrap();
        let (keeps, cost, month) =
            keeping.entry(row["autoscaler.replicas"].clone()).or_insert((true, 0.0, 0.0));
        *keeps &= number("p99_ttft_s") <= 2.0 && number("p90_e2e_s") <= 20.0;
        *cost += number("total_cost_usd");
        *month += number("cost_usd_per_month") / 4.0;
    }
    let cheapest =
        keeping.iter().filter(|(_, (keeps, ..))| *keeps).min_by(|a, b| a.1.1.total_cmp(&b.1.1)).unwrap();
    let verdicts = serde_json::from_slice::<Value>(&fs::read(two.join("verdict.json")).unwrap()).unwrap();
    let together = verdicts.as_array().unwrap().last().unwrap();
    assert_eq!((&together["workload"], &together["workloads"]), (&json!("*"), &json!(["day", "busier"])));
    assert_eq!(
        together["setting"]["autoscalers"][0]["static"]["replicas"].to_string(),
        *cheapest.0,
        "{together:#}"
    );
    assert!((together["best"]["cost_usd_per_month"].as_f64().unwrap() / cheapest.1.2 - 1.0).abs() < 1e-9);
    assert_eq!(together["best"]["run_ids"].as_array().unwrap().len(), 4);
    assert!(said.starts_with("Verdict: On all 2 workloads together: static"), "{said}");
    let summary = fs::read_to_string(two.join("summary.md")).unwrap();
    assert!(summary.contains("**Verdict.** On all 2 workloads together: "), "{summary}");
    assert!(
        summary.contains("![Settings that matter on busier](plots/importance_busier.png)")
            && two.join("plots/importance_busier.svg").exists()
    );
}

/// Requests without an answer have waited longer than any: most of them rejected is no limit kept, in the
/// sweep's verdict and the search's.
#[test]
fn a_setting_that_rejects_most_keeps_no_percentile() {
    let mut grid = day();
    grid["workloads"][0]["generate"]["arrivals"] =
        json!({"poisson": {"phases": [{"duration_s": 300, "rate_per_s": 8}]}});
    grid["cluster"]["replica_scheduler"] =
        json!({"vllm_v1": {"max_num_queued_reqs": 1, "batch_size_cap": 4}});
    grid["autoscalers"] = json!([{"static": {"replicas": [2, 3]}}]);
    let dir = directory_with(&grid.to_string());
    let said = sweep(dir.path(), &["--out", "one", "--robustness", "false"]);
    assert!(
        said.contains("None of 2 settings tried keeps") && said.contains(" of those answered, and "),
        "{said}"
    );
    assert!(said.contains("were rejected") && said.contains("the queues of replicas were full"), "{said}");
    assert!(!said.contains("larger than a replica"), "{said}");
    let output = scalefront(dir.path(), &["recommend", "x.json", "--out", "two"]);
    let answer: Value =
        serde_json::from_slice(&fs::read(dir.path().join("two/recommendation.json")).unwrap()).unwrap();
    assert_eq!(answer["kept"], false, "{}", stdout(&output));
    assert!(
        answer["unanswered_share"].as_f64().unwrap() > 0.1
            && answer["constraints"][0]["unanswered"].as_f64().unwrap() > 0.1,
        "{answer:#}"
    );
}

/// What has no effect or cannot be is refused where it stands.
#[test]
fn fields_without_effect_are_refused() {
    let refused = |change: &dyn Fn(&mut Value), expected: &str| {
        let mut grid = day();
        change(&mut grid);
        let dir = directory_with(&grid.to_string());
        let output = scalefront(dir.path(), &["sweep", "x.json"]);
        assert_eq!(
            (output.status.code(), stderr(&output).contains(expected)),
            (Some(2), true),
            "{expected}: {}",
            stderr(&output)
        );
    };
    refused(
        &|grid| grid["autoscalers"][0]["min_replicas"] = 2.into(),
        "autoscalers[0].min_replicas: found beside `static`",
    );
    refused(&|grid| grid["autoscalers"][1]["label"] = "a\nb".into(), "expected a name without line breaks");
    let caching = json!({"constraints": {"prefix_hit_rate": 0.5}});
    let without_cache = |grid: &mut Value| {
        grid["objectives"] = caching.clone();
        grid["cluster"]["replica_scheduler"] = "vllm".into();
    };
    refused(&without_cache, "no run of this grid caches");
}
