//! The edge of the possible is at least as good as whatever the sweep's own policies did, and the same on any
//! number of threads.

use scalefront::oracle::OracleSettings;
use scalefront::sweep::answers::oracle::{self, search};
use scalefront::sweep::run::run_all;
use scalefront::sweep::tables::row::{RunRow, Scalar};
use serde_json::{Value, json};

use super::rows::{Quiet, first_difference, plan};

/// Two workloads, one drawn and one with a warm fleet that no cold schedule can match, on two clusters.
fn grid() -> Value {
    let workload = |name: &str, rate: f64, lengths: Value| {
        let phases =
            json!([{"duration_s": 40, "rate_per_s": rate}, {"duration_s": 40, "rate_per_s": 4.0 * rate}]);
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
        let same =
            |name: &str, point: &RunRow| run.get(name).is_none_or(|value| point.get(name) == Some(value));
        let reached = edge
            .iter()
            .filter(|point| ["workload", "seed", "scale_up_delay_s"].iter().all(|name| same(name, point)))
            .any(|point| {
                searched += usize::from(point.get("found_by") == Some(&Scalar::Text("search".into())));
                ["total_cost_usd", "p90_e2e_s"].iter().all(|name| number(point, name) <= number(run, name))
            });
        assert!(reached, "{:?} {:?} is beyond the edge", run.get("run_id"), run.get("family"));
    }
    assert!(searched > 0, "every point was taken over from a run");
    let mut cheaper_than_bound =
        edge.iter().filter(|point| number(point, "fluid_bound_usd") > number(point, "total_cost_usd"));
    assert_eq!(cheaper_than_bound.next(), None);
    assert_eq!(first_difference(&edge, &on_threads(3)), None);
}

#[test]
fn simulations_are_told_before() {
    let (plan, settings) = (plan(&grid()), OracleSettings { budget: 60, ..OracleSettings::default() });
    // 8 searches over 8 constants and 48 that follow traffic; 7 runs of policies that scale, run and
    // replayed, and 2 x 2 x 2 fixed fleets in 4 of the groups.
    assert_eq!(oracle::simulations(&plan, &settings), 8 * (8 + 48 + 60) + 2 * (8 * 8 + 4 * 2));
}

/// Traffic that quadruples for a while, on these pools.
fn fleets(pools: &Value) -> Value {
    let phases = json!([{"duration_s": 30, "rate_per_s": 4}, {"duration_s": 30, "rate_per_s": 16}, {"duration_s": 30, "rate_per_s": 4}]);
    json!({
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"poisson": {"phases": phases}}, "lengths": {"fixed": {"prefill_tokens": 1500, "decode_tokens": 40}}}}],
        "seeds": [1, 2],
        "cluster": {
            "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "tensor_parallel": 1, "execution_time": "analytical",
            "scale_up_delay_s": 5, "max_replicas": 4, "billing": {"unit": "device"},
            "replica_scheduler": {"vllm_v1": {"max_tokens_in_batch": 2048, "batch_size_cap": 8, "prefix_caching": false}},
            "pools": pools,
        },
        "autoscalers": [{"static": {"replicas": [1, 2]}}, {"keda": {"target_per_replica": [2, 4]}}],
        "objectives": {"reference": {"latency": 5, "cost": 2}}
    })
}

#[test]
fn no_policy_of_a_fleet_beats_the_edge() {
    foresight_pays(&json!([{"name": "p", "role": "prefill"}, {"name": "d", "role": "decode"}]));
    foresight_pays(
        &json!([{"name": "p", "node_price_usd_per_hour": 40}, {"name": "d", "node_price_usd_per_hour": 20}]),
    );
}

fn foresight_pays(pools: &Value) {
    let plan = plan(&fleets(pools));
    let settings = OracleSettings { budget: 80, ..OracleSettings::default() };
    let on_threads = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| search(&plan, &settings, &Quiet)).unwrap()
    };
    let (runs, edge) = (run_all(&plan, &Quiet).unwrap(), on_threads(1));
    let is_of = |run: &RunRow, point: &RunRow| {
        ["workload", "seed"]
            .iter()
            .all(|name| run.get(name).is_none_or(|value| point.get(name) == Some(value)))
    };
    let (mut reached, mut surpassed) = (0, 0);
    for run in &runs {
        let values = |row: &RunRow| ["total_cost_usd", "p90_e2e_s"].map(|name| number(row, name));
        let [cost, latency] = values(run);
        let of_run = || edge.iter().filter(|point| is_of(run, point)).map(values);
        reached += usize::from(of_run().any(|point| point[0] <= cost && point[1] <= latency));
        surpassed += usize::from(of_run().any(|point| point[0] < 0.97 * cost && point[1] < 0.97 * latency));
    }
    assert_eq!(reached, runs.len());
    assert!(
        surpassed * 2 >= runs.len(),
        "foresight surpasses {surpassed} of {} runs by 3 % in both",
        runs.len()
    );
    assert_eq!(first_difference(&edge, &on_threads(3)), None);
    let Some(Scalar::Text(schedule)) = edge[0].get("schedule") else { panic!("{:?}", edge[0]) };
    let schedule: Value = serde_json::from_str(schedule).unwrap();
    assert!(
        schedule["p"].as_array().is_some_and(|steps| steps[0][0] == 0.0) && schedule["d"].is_array(),
        "{schedule}"
    );
    assert_eq!(edge[0].get("fluid_bound_usd"), Some(&Scalar::Null));
    assert_eq!(
        oracle::simulations(&plan, &settings),
        2 * (4 + 4 + 16 + 48 + 80),
        "four runs, run and replayed, and 4 x 4 constant fleets"
    );
}

mod without_foresight {
    use scalefront::oracle::informed::InformedSettings;
    use scalefront::oracle::informed::law::Law;
    use scalefront::oracle::informed::policy::{BurstPolicy, Informed, Known, Latency};
    use scalefront::oracle::{OracleSettings, ReplicaSchedule, evaluate, limits, search_over_draws};
    use scalefront::simulation::{Parts, Workspace, simulate_parts_in_detail};
    use scalefront::sweep::answers::informed::{EdgeAccount, check, search};
    use scalefront::sweep::tables::row::{RunRow, Scalar};
    use scalefront::workload::arrivals::Bursts;
    use scalefront::workload::{self, WorkloadSpec};
    use serde_json::{Value, json};

    use super::super::rows::{Quiet, first_difference, plan};
    use super::super::scenario::Scenario;
    use super::number;

    fn bursts(duration_s: f64) -> Value {
        json!({"base_rate_per_s": 10, "burst_rate_per_s": 45, "burst_duration_s": 40, "interval_s": 200, "duration_s": duration_s,
               "timing": "random"})
    }

    fn spec(name: &str, arrivals: Value) -> Value {
        json!({"name": name, "generate": {"arrivals": arrivals, "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}})
    }

    fn grid() -> Value {
        json!({
            "workloads": [
                spec("bursts", json!({"bursts": bursts(600.0)})),
                spec("steps", json!({"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 8}, {"duration_s": 60, "rate_per_s": 30}]}})),
                spec("even", json!({"static": {"rate_per_s": 5, "duration_s": 60}})),
            ],
            "seeds": [1, 2, 3],
            "cluster": {"max_replicas": 12, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}},
            "autoscalers": ["frontier"],
            "objectives": {"reference": {"latency": 3, "cost": 12}}
        })
    }

    fn on_threads(threads: usize) -> (Vec<RunRow>, Vec<EdgeAccount>) {
        let settings = InformedSettings { budget: 12, fitting_draws: 3, ..InformedSettings::default() };
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap();
        pool.install(|| search(&plan(&grid()), &settings, &Quiet)).unwrap()
    }

    /// Two kinds of law are searched, what has none says why, bounds are there for bursts alone, and threads
    /// change nothing.
    #[test]
    fn every_law_has_its_edge() {
        let (rows, accounts) = on_threads(1);
        let told: Vec<(&str, bool, bool)> = accounts
            .iter()
            .map(|edge| (edge.workload.as_str(), edge.has_edge, !edge.bounds.is_empty()))
            .collect();
        assert_eq!(told, [("bursts", true, true), ("steps", true, false), ("even", false, false)]);
        assert!(accounts[2].class.contains("nothing is drawn"), "{}", accounts[2].class);
        for name in ["bursts", "steps"] {
            for seed in 1..=3 {
                let of = |row: &&RunRow| {
                    row.get("workload") == Some(&Scalar::Text(name.into()))
                        && row.get("seed") == Some(&Scalar::Int(seed))
                };
                let points: Vec<(f64, f64)> = rows
                    .iter()
                    .filter(of)
                    .map(|row| (number(row, "total_cost_usd"), number(row, "p90_e2e_s")))
                    .collect();
                assert!(
                    points.len() > 1 && points.is_sorted_by(|a, b| a.0 < b.0 && a.1 > b.1),
                    "{name} {seed}: {points:?}"
                );
            }
        }
        let (others, _) = on_threads(3);
        assert_eq!(first_difference(&rows, &others), None);
    }

    #[test]
    fn what_cannot_be_searched_is_explained() {
        let mut unranked = grid();
        unranked["objectives"] = json!({});
        assert!(check(&plan(&unranked)).unwrap_err().to_string().contains("objectives.reference: missing"));
        let mut lawless = grid();
        lawless["workloads"] = json!([grid()["workloads"][2]]);
        let message = check(&plan(&lawless)).unwrap_err().to_string();
        assert!(message.contains("workload `even`: nothing is drawn"), "{message}");
    }

    /// Orders are placed only where a burst is likelier than not or the level has changed; and who has come
    /// stays for a cold start at least, as long as what is believed stays the same.
    #[test]
    fn nobody_orders_on_speculation() {
        let law: Bursts = serde_json::from_value(bursts(3000.0)).unwrap();
        let spec: WorkloadSpec =
            serde_json::from_value(spec("bursts", json!({"bursts": bursts(3000.0)}))).unwrap();
        assert_eq!(Law::of(&spec), Ok(Law::RandomBursts(law.clone())));
        let workload = workload::load(&spec, 3, &[]).unwrap();
        let requests = (0..workload.len()).map(|i| (workload.arrived_at_s[i], 256, 1));
        let cluster = json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        let scenario = Scenario::new(cluster, json!("frontier"), requests);
        let inputs = scenario.inputs();
        let known = Known {
            bursts: (&law).into(),
            latency: Latency::EndToEnd,
            tick_s: 0.25,
            cold_start_s: 10.0,
            max_replicas: 64,
        };
        let policy = BurstPolicy {
            low: 2,
            high: 5,
            late_s: 0.6,
            budget: 0.095,
            horizon: 0.0,
            order_low: 6,
            order_high: 6,
            replace: true,
            hold: 5,
            release_age_s: 40.0,
            settled: 4.0,
        };
        let parts = Parts { autoscaler: Some(Box::new(Informed::new(policy, known))), ..Parts::of(&inputs) };
        let (_, detail) = simulate_parts_in_detail(&inputs, parts, &mut Workspace::default()).unwrap();
        let told = |tune: &scalefront::simulation::TuneRecord, name: &str| {
            tune.evidence.iter().find(|(n, _)| *n == name).unwrap().1
        };
        let (mut level, mut orders, mut changed_s) = (0.0, 0, 0.0);
        let (mut believed, mut ordered_s) = (false, f64::NEG_INFINITY);
        for tune in &detail.tunes {
            let (burst, now) = (told(tune, "burst_probability") > 0.5, told(tune, "level_replicas"));
            if now != level || burst != believed {
                changed_s = tune.time_s;
            }
            if tune.applied > 0 {
                assert!(burst || now != level, "ordered at {} s", tune.time_s);
                (orders, ordered_s) = (orders + 1, tune.time_s);
            }
            if tune.applied < 0 && changed_s <= ordered_s && tune.pending_scale_ups == 0 {
                // Told to stop are those of before.
                assert!(
                    tune.time_s - ordered_s >= 10.0,
                    "let go at {} s of what was ordered at {ordered_s} s",
                    tune.time_s
                );
            }
            (level, believed) = (now, burst);
        }
        assert!(orders > 10, "{orders}");
    }

    /// Two replicas' worth of rates at two times, three draws, changes every 10 s: of all 27 schedules none
    /// is better on average than what the search finds.
    #[test]
    fn schedules_of_a_tiny_instance_by_listing_all() {
        let phases = json!([{"duration_s": 15, "rate_per_s": 5}, {"duration_s": 10, "rate_per_s": 22}, {"duration_s": 15, "rate_per_s": 8}]);
        let spec: WorkloadSpec =
            serde_json::from_value(spec("tiny", json!({"poisson": {"phases": phases}}))).unwrap();
        let cluster = json!({"max_replicas": 3, "scale_up_delay_s": 10, "replica_scheduler": {"vllm": {"batch_size_cap": 16}}});
        let scenarios: Vec<Scenario> = (1..=3)
            .map(|seed| {
                let workload = workload::load(&spec, seed, &[]).unwrap();
                let mut scenario = Scenario::new(cluster.clone(), json!("frontier"), []);
                scenario.workload = workload;
                scenario
            })
            .collect();
        let inputs: Vec<_> = scenarios.iter().map(Scenario::inputs).collect();
        let settings = OracleSettings { budget: 300, step_s: 10.0, ..OracleSettings::default() };
        let limits = limits(&inputs[0], &settings);
        let mean = |schedule: &ReplicaSchedule| {
            let runs: Vec<_> = inputs
                .iter()
                .map(|inputs| evaluate(inputs, &limits, schedule, &mut Workspace::default()).unwrap())
                .map(|metrics| (metrics.total_cost_usd, metrics.e2e_s.unwrap().p90))
                .collect();
            Some((
                runs.iter().map(|run| run.0).sum::<f64>() / 3.0,
                runs.iter().map(|run| run.1).sum::<f64>() / 3.0,
            ))
        };
        let mut arrived_at_s: Vec<f64> =
            scenarios.iter().flat_map(|scenario| scenario.workload.arrived_at_s.clone()).collect();
        arrived_at_s.sort_by(f64::total_cmp);
        let found = search_over_draws(&inputs[0], &arrived_at_s, &settings, None, |schedules| {
            schedules.iter().map(mean).collect()
        });
        let found: Vec<(f64, f64)> = found.iter().filter_map(mean).collect();
        for plan in 0..27_u32 {
            let slots = [plan % 3, plan / 3 % 3, plan / 9].map(|n| n + 1);
            let steps =
                slots.iter().enumerate().map(|(slot, &replicas)| (10.0 * (slot + 1) as f64, replicas));
            let schedule = ReplicaSchedule::following([(0.0, 1)].into_iter().chain(steps));
            let listed = mean(&schedule.within(&limits)).unwrap();
            assert!(
                found.iter().any(|at| at.0 <= listed.0 && at.1 <= listed.1),
                "{listed:?} is better than {found:?}"
            );
        }
    }
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
        assert!(
            stdout(&swept).contains("of the edge") && stdout(&swept).contains("Edge of the possible on w"),
            "{}",
            stdout(&swept)
        );
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
    fn a_stored_sweep_gets_its_informed_edge() {
        let mut grid = small_grid();
        grid["seeds"] = serde_json::json!([1, 2, 3]);
        grid["objectives"] = serde_json::json!({"reference": {"latency": 50, "cost": 50}});
        let dir = directory_with(&grid.to_string());
        let at = dir.path();
        let swept = scalefront(at, &["sweep", "x.json", "--out", "one", "--informed", "10"]);
        assert_eq!(swept.status.code(), Some(0), "{}", stderr(&swept));
        assert!(stdout(&swept).contains("Informed edge on w: hypervolume"), "{}", stdout(&swept));
        scalefront(at, &["sweep", "x.json", "--out", "two", "--threads", "1"]);
        let searched = scalefront(at, &["oracle", "two", "--informed", "--runs", "10", "--threads", "1"]);
        assert_eq!(searched.status.code(), Some(0), "{}", stderr(&searched));
        for file in ["informed.parquet", "informed.csv", "hypervolume.csv", "plots/front_w.svg"] {
            assert!(read(&at.join("one").join(file)) == read(&at.join("two").join(file)), "{file}");
        }
        let scores = String::from_utf8(read(&at.join("two/hypervolume.csv"))).unwrap();
        assert!(scores.lines().next().unwrap().contains("informed_share,"), "{scores}");
        let page = String::from_utf8(read(&at.join("two/report.html"))).unwrap();
        assert!(page.contains("Informed edge on w"));
    }

    #[test]
    fn a_directory_without_a_sweep_is_explained() {
        let dir = directory_with("{}");
        let output = scalefront(dir.path(), &["oracle", "."]);
        assert_eq!(output.status.code(), Some(2));
        assert!(
            stderr(&output)
                .contains("error: .: no manifest.json found, expected the results directory of a sweep"),
            "{}",
            stderr(&output)
        );
    }
}
