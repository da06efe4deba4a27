//! The edge of the possible is at least as good as whatever the sweep's own policies did, and the same on any number of threads.

use scalefront::oracle::OracleSettings;
use scalefront::sweep::oracle::{self, search};
use scalefront::sweep::row::{RunRow, Scalar};
use scalefront::sweep::run::run_all;
use serde_json::{Value, json};

use super::rows::{Quiet, first_difference, plan};

/// Two workloads, one drawn and one with a warm fleet that no cold schedule can match, on two clusters.
fn grid() -> Value {
    let workload = |name: &str, rate: f64, lengths: Value| {
        let phases = json!([{"duration_s": 40, "rate_per_s": rate}, {"duration_s": 40, "rate_per_s": 4.0 * rate}]);
        json!({"name": name, "generate": {"arrivals": {"poisson": {"phases": phases}}, "lengths": {"fixed": lengths}}})
    };
    json!({
        "workloads": [
            workload("short", 8.0, json!({"prefill_tokens": 256, "decode_tokens": 1})),
            workload("long", 1.0, json!({"prefill_tokens": 800, "decode_tokens": 60})),
        ],
        "seeds": [1, 2],
        "cluster": {"scale_up_delay_s": [5, 20], "max_replicas": 8, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}},
        "autoscalers": [
            {"static": {"replicas": [2, 6]}}, "inferline", {"frontier": {"service_level": [0.0, 0.5, 1.0]}}, {"service_level": {"level": [1, 3]}},
            "hpa", "knative_kpa",
        ],
        "objectives": {"reference": {"latency": 5, "cost": 2}}
    })
}

fn number(row: &RunRow, name: &str) -> f64 {
    match row.get(name) {
        Some(Scalar::Float(value)) => *value,
        other => panic!("{name}: {other:?}"),
    }
}

fn on_threads(threads: usize) -> Vec<RunRow> {
    let settings = OracleSettings { budget: 60, ..OracleSettings::default() };
    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
    pool.install(|| search(&plan(&grid()), &settings, &Quiet)).unwrap()
}

#[test]
fn no_policy_beats_the_edge() {
    let plan = plan(&grid());
    let (runs, edge) = (run_all(&plan, &Quiet).unwrap(), on_threads(1));
    let mut searched = 0;
    for run in &runs {
        let same = |name: &str, point: &RunRow| run.get(name).is_none_or(|value| point.get(name) == Some(value));
        let reached =
            edge.iter().filter(|point| ["workload", "seed", "scale_up_delay_s"].iter().all(|name| same(name, point))).any(|point| {
                searched += usize::from(point.get("found_by") == Some(&Scalar::Text("search".into())));
                ["total_cost_usd", "p90_e2e_s"].iter().all(|name| number(point, name) <= number(run, name))
            });
        assert!(reached, "{:?} {:?} is beyond the edge", run.get("run_id"), run.get("family"));
    }
    assert!(searched > 0, "every point was taken over from a run");
    let mut cheaper_than_bound = edge.iter().filter(|point| number(point, "fluid_bound_usd") > number(point, "total_cost_usd"));
    assert_eq!(cheaper_than_bound.next(), None);
    assert_eq!(first_difference(&edge, &on_threads(3)), None);
}

#[test]
fn simulations_are_told_before() {
    let (plan, settings) = (plan(&grid()), OracleSettings { budget: 60, ..OracleSettings::default() });
    // 8 searches over 8 constants and 48 that follow traffic; 7 runs of policies that scale, run and replayed, and 2 x 2 x 2 fixed fleets
    // in 4 of the groups.
    assert_eq!(oracle::simulations(&plan, &settings), 8 * (8 + 48 + 60) + 2 * (8 * 8 + 4 * 2));
}

#[cfg(feature = "report")]
mod command {
    use std::fs;
    use std::path::Path;

    use super::super::cli::{directory_with, scalefront, small_grid, stderr, stdout};

    fn read(path: &Path) -> Vec<u8> {
        fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    #[test]
    fn a_stored_sweep_gets_its_edge() {
        let dir = directory_with(&small_grid().to_string());
        let at = dir.path();
        let swept = scalefront(at, &["sweep", "x.json", "--out", "one", "--oracle", "20"]);
        assert_eq!(swept.status.code(), Some(0), "{}", stderr(&swept));
        assert!(stdout(&swept).contains("of the edge") && stdout(&swept).contains("Edge of the possible on w"), "{}", stdout(&swept));
        scalefront(at, &["sweep", "x.json", "--out", "two", "--threads", "1"]);
        assert!(!String::from_utf8(read(&at.join("two/summary.md"))).unwrap().contains("of the edge"));
        let searched = scalefront(at, &["oracle", "two", "--runs", "20", "--threads", "1"]);
        assert_eq!(searched.status.code(), Some(0), "{}", stderr(&searched));
        for file in ["oracle.parquet", "oracle.csv", "hypervolume.csv", "plots/front_w.svg"] {
            assert!(read(&at.join("one").join(file)) == read(&at.join("two").join(file)), "{file}");
        }
        let page = String::from_utf8(read(&at.join("two/report.html"))).unwrap();
        assert!(page.contains("Edge of the possible on w"));
        // Runs of other traffic: the edge is not theirs.
        let account = String::from_utf8(read(&at.join("one/oracle.json"))).unwrap();
        fs::write(at.join("one/oracle.json"), account.replace("\"requests\": ", "\"requests\": 1")).unwrap();
        let reported = scalefront(at, &["report", "one"]);
        assert!(!stdout(&reported).contains("Edge of the possible"), "{}", stdout(&reported));
    }

    #[test]
    fn a_directory_without_a_sweep_is_explained() {
        let dir = directory_with("{}");
        let output = scalefront(dir.path(), &["oracle", "."]);
        assert_eq!(output.status.code(), Some(2));
        assert!(stderr(&output).contains("manifest.json: cannot read; is this a sweep's results directory?"), "{}", stderr(&output));
    }
}
