//! What a fleet does and what it costs: which replicas a scale-down takes, how long a run lasts.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use scalefront::autoscaler::{
    Autoscaler, AutoscalerSettings, BatchEnd, BatchSums, Decision, Observes, Snapshot,
};
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::settings::Faults;
use scalefront::simulation::{
    Detail, Parts, RunInputs, RunMetrics, Workspace, simulate, simulate_parts, simulate_parts_in_detail,
    violations,
};
use serde_json::{Value, json};

use crate::scenario::Scenario;

/// Decides at given times and holds in between.
struct Script(Vec<(f64, Decision)>);

impl Autoscaler for Script {
    fn decide(&mut self, now_s: f64, _snapshot: &Snapshot) -> Decision {
        self.0.iter().find(|(at_s, _)| *at_s == now_s).map_or(Decision::Hold, |(_, decision)| *decision)
    }
}

/// One replica at 8 dollars an hour with a request every second for `for_s`, decisions every 5 s, starts of
/// 100 s.
fn scripted(changes: Value, for_s: u32, script: &[(f64, Decision)]) -> (RunMetrics, Detail) {
    let mut cluster = json!({"tune_interval_s": 5, "scale_up_delay_s": 100, "billing": {"cold_start": true, "unit": "device"}});
    let Value::Object(changes) = changes else { panic!("settings of a cluster") };
    changes.into_iter().for_each(|(name, value)| cluster[&name] = value);
    let scenario = Scenario::new(cluster, json!("inferline"), (0..for_s).map(|i| (f64::from(i), 64, 2)));
    let inputs = RunInputs { stepping: true, ..scenario.inputs() };
    let parts = Parts { autoscaler: Some(Box::new(Script(script.to_vec()))), ..Parts::of(&inputs) };
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(&inputs, parts, &mut workspace).unwrap();
    if inputs.cluster.billing.minimum_s == 0.0 && !inputs.cluster.billing.cold_start {
        assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    }
    (metrics, detail)
}

fn serving(detail: &Detail) -> Vec<u32> {
    let mut serving: Vec<u32> =
        detail.replicas.iter().map(|change| change.num_replicas - change.num_draining).collect();
    serving.dedup();
    serving
}

const USD_PER_S: f64 = 8.0 / 3600.0;

/// Three are ordered at 0 s, two of them called off at 20 s: they are paid for 20 s, and the one that is left
/// joins at 100 s.
#[test]
fn starts_are_called_off_first_and_paid_no_further() {
    let script = [(0.0, Decision::Up(3)), (20.0, Decision::Down(2))];
    let (metrics, detail) = scripted(json!({}), 200, &script);
    assert_eq!(
        (metrics.scale_ups, metrics.scale_downs, metrics.starts_cancelled, metrics.reversals),
        (1, 0, 2, 0)
    );
    assert_eq!(serving(&detail), [1, 2]);
    let due_usd = (2.0 * metrics.simulated_s + 2.0 * 20.0) * USD_PER_S;
    assert!((metrics.total_cost_usd - due_usd).abs() < 1e-9, "{} {due_usd}", metrics.total_cost_usd);

    // The least time that is paid holds for them, too; those that last have been paid for longer.
    let (metrics, _) =
        scripted(json!({"billing": {"cold_start": true, "unit": "device", "minimum_s": 60}}), 200, &script);
    let due_usd = (2.0 * metrics.simulated_s + 2.0 * 60.0) * USD_PER_S;
    assert!((metrics.total_cost_usd - due_usd).abs() < 1e-9, "{} {due_usd}", metrics.total_cost_usd);
    // Starts that are not paid cost nothing when they are called off.
    let (metrics, _) = scripted(json!({"billing": {"unit": "device", "minimum_s": 60}}), 200, &script);
    let due_usd = (2.0 * metrics.simulated_s - 100.0) * USD_PER_S;
    assert!((metrics.total_cost_usd - due_usd).abs() < 1e-9, "{} {due_usd}", metrics.total_cost_usd);

    // What a scale-down takes beyond them serves, down to the least.
    let (metrics, detail) =
        scripted(json!({"initial_replicas": 3}), 200, &[(0.0, Decision::Up(3)), (20.0, Decision::Down(9))]);
    assert_eq!((metrics.scale_ups, metrics.scale_downs, metrics.starts_cancelled), (0, 2, 3));
    assert_eq!(serving(&detail), [3, 2, 1]);
}

/// The latest order is called off; a delayed scale-down calls off what starts when it is due, even what was
/// ordered since.
#[test]
fn the_latest_order_goes_first() {
    let orders = [(0.0, Decision::Up(1)), (30.0, Decision::Up(1)), (60.0, Decision::Down(1))];
    let (_, detail) = scripted(json!({}), 200, &orders);
    assert_eq!(
        detail.replicas.last().unwrap().time_s,
        100.0,
        "the order of 0 s joins, that of 30 s does not"
    );

    let delayed = [(0.0, Decision::Up(1)), (80.0, Decision::Down(1)), (95.0, Decision::Up(1))];
    let (metrics, detail) = scripted(json!({"scale_down_delay_s": 7}), 300, &delayed);
    assert_eq!((metrics.starts_cancelled, metrics.scale_ups), (1, 1), "87 s is before 100 s");
    assert_eq!(detail.replicas.last().unwrap().time_s, 195.0);
    let (metrics, detail) = scripted(json!({"scale_down_delay_s": 30}), 300, &delayed);
    assert_eq!(
        (metrics.starts_cancelled, metrics.scale_ups, metrics.scale_downs),
        (1, 1, 0),
        "at 110 s the order of 95 s starts"
    );
    assert_eq!(serving(&detail), [1, 2]);
    // What starts in no time at all is never called off, since it serves.
    let (metrics, _) =
        scripted(json!({"scale_up_delay_s": 0}), 200, &[(0.0, Decision::Up(2)), (20.0, Decision::Down(2))]);
    assert_eq!((metrics.starts_cancelled, metrics.scale_downs), (0, 2));
}

/// By the lab's rule those that serve go, and what starts goes on starting: at the least, one waits for
/// another to join.
#[test]
fn serving_replicas_go_first_where_that_is_asked_for() {
    let changes = json!({"scale_down_order": "serving_first", "initial_replicas": 3});
    let (metrics, detail) = scripted(changes, 200, &[(0.0, Decision::Up(3)), (20.0, Decision::Down(4))]);
    assert_eq!((metrics.starts_cancelled, metrics.scale_ups, metrics.scale_downs), (0, 3, 4));
    assert_eq!(
        detail.replicas.iter().find(|change| change.num_replicas - change.num_draining == 1).unwrap().time_s,
        20.0
    );
}

/// No policy has one that serves stop while others start, however long starts take and whatever delays a
/// scale-down.
#[test]
fn no_policy_stops_what_serves_while_others_start() {
    let named = AutoscalerSettings::NAMES
        .iter()
        .filter(|name| !["static", "schedule", "external", "per_pool", "fleet"].contains(name))
        .map(|name| json!(name));
    let schedule = json!({"schedule": {"period_s": 120, "steps": [
        {"at_s": 0, "replicas": 3}, {"at_s": 35, "replicas": 9}, {"at_s": 60, "replicas": 2}, {"at_s": 70, "replicas": 4}]}});
    let mut called_off = 0;
    for policy in named.chain([schedule]) {
        for (up_s, down_s) in [(10.0, 0.0), (75.0, 0.0), (75.0, 20.0), (300.0, 2.0)] {
            // 8/s, with 60 s of 40/s from 100 s and again from 400 s on.
            let requests = (0..4800).map(|i| {
                let at_s = f64::from(i) * 0.125;
                let spike = (100.0..160.0).contains(&at_s) || (400.0..460.0).contains(&at_s);
                (at_s, if spike { 1200 } else { 256 }, 8)
            });
            let cluster = json!({
                "initial_replicas": 4, "max_replicas": 24, "scale_up_delay_s": up_s, "scale_down_delay_s": down_s,
                "replica_scheduler": {"vllm": {"batch_size_cap": 16}}, "global_scheduler": "least_outstanding",
            });
            let scenario = Scenario::new(cluster, policy.clone(), requests);
            let inputs = scenario.inputs();
            let mut workspace = Workspace::default();
            let (metrics, detail) =
                simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
            assert_eq!(
                violations(&inputs, &metrics, &detail, &workspace),
                [""; 0],
                "{policy} {up_s} {down_s}"
            );
            called_off += metrics.starts_cancelled;
        }
    }
    assert!(called_off > 50, "only {called_off} starts called off: nothing was put to the test");
}

/// Llama 3 8B on nodes of eight H100s at 32 dollars an hour, one to eight replicas a node.
fn on_h100(
    changes: &Value,
    autoscaler: Value,
    requests: impl IntoIterator<Item = (f64, u32, u32)>,
) -> (RunMetrics, Detail) {
    let mut cluster = json!({
        "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "tensor_parallel": 1, "execution_time": "analytical",
        "node_price_usd_per_hour": 32, "scale_up_delay_s": 60,
    });
    changes.as_object().unwrap().iter().for_each(|(name, value)| cluster[name] = value.clone());
    let scenario = Scenario::new(cluster, autoscaler, requests);
    let files = Files::default();
    let settings = &scenario.cluster;
    let deployment =
        Deployment::resolve(&settings.model, &settings.node, settings.tensor_parallel, 1, &files).unwrap();
    let times = ExecutionTime::load(&settings.execution_time, &deployment, &files).unwrap();
    let inputs =
        RunInputs::new(&scenario.workload, &scenario.cluster, &scenario.autoscaler, &times, 1).unwrap();
    simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut Workspace::default()).unwrap()
}

/// All that can be billed in one way or another.
fn bills() -> Vec<Value> {
    let mut bills = Vec::new();
    for unit in ["node", "device"] {
        for cold_start in [false, true] {
            for (drain, minimum_s) in [(true, 0.0), (false, 0.0), (true, 400.0), (false, 400.0)] {
                bills.push(
                    json!({"unit": unit, "cold_start": cold_start, "drain": drain, "minimum_s": minimum_s}),
                );
            }
        }
    }
    bills
}

/// At the cheapest level a trickle of requests needs one replica, however it is billed: nothing is kept
/// beyond what that costs, and nothing declined that comes with it for free. (`frontier` is the one policy
/// that looks at prices: `PolicyContext::bill`.)
#[test]
fn what_is_free_is_taken_and_nothing_else() {
    for billing in bills() {
        for tensor_parallel in [1, 2, 8] {
            let changes = json!({"billing": billing, "tensor_parallel": tensor_parallel, "initial_replicas": 3, "max_replicas": 20});
            let trickle = (0..450).map(|i| (2.0 * f64::from(i), 512, 60));
            let (metrics, detail) = on_h100(&changes, json!({"frontier": {"service_level": 0}}), trickle);
            let last = detail.replicas.last().unwrap();
            let replicas_on_a_node = if billing["unit"] == "node" { 8 / tensor_parallel } else { 1 };
            assert_eq!(
                last.num_replicas, replicas_on_a_node,
                "{billing}, {tensor_parallel} devices each: {last:?}"
            );
            assert!(metrics.num_completed == 450 && last.cost_per_hour_usd > 0.0);
        }
    }
}

/// Where a least time is paid no replica leaves before it is over: all that was paid is what the replicas
/// there were cost by the hour, but for those that are younger at the end.
#[test]
fn what_is_paid_already_is_kept() {
    let spikes = || {
        (0..7200).filter_map(|i| {
            let at_s = f64::from(i) * 0.25;
            ((at_s / 100.0) as u32 % 9 < 1 || i % 8 == 0).then_some((at_s, 2048, 200))
        })
    };
    for unit in ["node", "device"] {
        let run = |minimum_s: f64| {
            let billing = json!({"unit": unit, "minimum_s": minimum_s});
            let changes = json!({"billing": billing, "scale_up_delay_s": 10, "replica_scheduler": {"vllm": {"batch_size_cap": 4}}});
            on_h100(&changes, json!({"frontier": {"service_level": 0.7}}), spikes())
        };
        let (free, detail) = run(0.0);
        assert!(
            free.scale_downs > 0
                && detail.replicas.windows(2).any(|two| two[1].time_s - two[0].time_s < 300.0)
        );
        let (paid, detail) = run(300.0);
        let ends = detail.replicas.iter().skip(1).map(|change| change.time_s).chain([paid.simulated_s]);
        let by_the_hour: f64 = detail
            .replicas
            .iter()
            .zip(ends)
            .map(|(change, end_s)| change.cost_per_hour_usd * (end_s - change.time_s))
            .sum();
        let at_the_end = f64::from(detail.replicas.last().unwrap().num_replicas) * 300.0 * 4.0;
        assert!(paid.scale_downs > 0, "nobody ever left");
        assert!(
            paid.total_cost_usd * 3600.0 <= by_the_hour + at_the_end,
            "{} {}",
            paid.total_cost_usd * 3600.0,
            by_the_hour
        );
        let young = paid.total_cost_usd * 3600.0 - by_the_hour;
        assert!(
            young < 0.05 * by_the_hour,
            "{unit}: {young} of {by_the_hour} was paid for replicas that had left"
        );
    }
}

/// Every policy serves a day that begins and ends with nobody there, where it may have none: those that
/// cannot do without one keep it.
#[test]
fn days_begin_and_end_at_zero() {
    let named = AutoscalerSettings::NAMES
        .iter()
        .filter(|name| !["static", "schedule", "external", "per_pool", "fleet"].contains(name))
        .map(|name| json!(name));
    for policy in named {
        let settings: AutoscalerSettings = serde_json::from_value(policy.clone()).unwrap();
        let cluster =
            json!({"initial_replicas": 0, "min_replicas": 0, "max_replicas": 6, "scale_up_delay_s": 20});
        let mut scenario =
            Scenario::new(cluster, policy.clone(), (0..240).map(|i| (100.0 + f64::from(i) * 0.5, 256, 4)));
        scenario.workload.duration_s = Some(3600.0);
        let inputs = scenario.inputs();
        let (metrics, detail) =
            simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut Workspace::default())
                .unwrap_or_else(|error| panic!("{policy}: {error}"));
        assert_eq!((metrics.num_completed, metrics.simulated_s), (240, 3600.0), "{policy}");
        let at = |time_s: f64| {
            let change = detail.replicas.iter().rfind(|change| change.time_s <= time_s).unwrap();
            change.num_replicas - change.num_draining
        };
        let reaches_zero = settings.settings().reaches_zero();
        assert_eq!(
            [at(0.0) == 0, at(90.0) == 0, at(3599.0) == 0],
            [reaches_zero; 3],
            "{policy}: {:?}",
            detail.replicas
        );
        assert!(
            !reaches_zero || metrics.ttft_s.unwrap().max >= 20.0,
            "{policy}: the first request waits for a start"
        );
    }
}

fn doubts(changes: Value) -> Vec<String> {
    let mut grid = json!({
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"static": {"rate_per_s": 2, "duration_s": 60}}, "lengths": {"fixed": {"prefill_tokens": 1000, "decode_tokens": 20}}}}],
    });
    changes.as_object().unwrap().iter().for_each(|(name, value)| grid[name] = value.clone());
    super::rows::plan(&grid).doubts()
}

/// Targets that can never be met, and fleets that can never be, are told before a run: each by its family and
/// field.
#[test]
fn what_cannot_be_is_told_before() {
    let told =
        doubts(json!({"autoscalers": [{"dynamo_throughput": {"ttft_s": 0.05, "itl_s": [0.001, 10]}}]}));
    assert!(
        told.len() == 2 && told.iter().all(|doubt| doubt.starts_with("dynamo_throughput: `")),
        "{told:?}"
    );
    assert!(
        told[0].contains("`itl_s` of 0.001 s cannot be met")
            && told[1].contains("`ttft_s` of 0.05 s cannot be met"),
        "{told:?}"
    );
    assert!(told[1].contains("for a prompt of 1000 tokens, the median of workload `w`"), "{told:?}");
    assert_eq!(doubts(json!({"autoscalers": [{"dynamo_throughput": {"ttft_s": 5, "itl_s": 1}}]})), [""; 0]);

    let zero = |policies: Value, initial: u32| {
        doubts(json!({"cluster": {"min_replicas": 0, "initial_replicas": initial}, "autoscalers": policies}))
    };
    let told = zero(
        json!(["frontier", "keda", {"static": {"replicas": 2}}, {"schedule": {"steps": [{"at_s": 0, "replicas": 1}]}}]),
        1,
    );
    assert_eq!(told, ["frontier: keeps at least one replica although `cluster.min_replicas` is 0"]);
    assert!(
        zero(json!(["frontier"]), 0)[0]
            .ends_with(", and begins with it although `cluster.initial_replicas` is 0")
    );

    let told =
        doubts(json!({"cluster": {"max_replicas": 4}, "autoscalers": [{"static": {"replicas": [2, 5, 6]}}]}));
    assert_eq!(
        told,
        [
            "static: keeps up to 6 replicas although `cluster.max_replicas` is 4, a bound of policies that scale"
        ]
    );

    let near_one = json!({"metric": "kv_use", "target_per_replica": [0.9, 0.95]});
    let told =
        doubts(json!({"autoscalers": [{"hpa": near_one}, {"aibrix_apa": near_one}, {"gcp_mig": near_one}]}));
    assert!(
        told.len() == 2
            && told[0].starts_with("aibrix_apa: `target_per_replica` of 0.95 on `kv_use` never adds"),
        "{told:?}"
    );
    assert!(
        told[1].starts_with("hpa: ") && told[1].contains("within the tolerance of 0.1; take less than 0.909"),
        "{told:?}"
    );
}

/// A share of the KV cache is never above 1: a target in per cent is refused where it stands.
#[test]
fn targets_beyond_a_gauge_are_refused() {
    for (policy, field) in [
        ("aibrix_kpa", "target_per_replica"),
        ("aibrix_apa", "target_per_replica"),
        ("hpa", "target_per_replica"),
    ] {
        let faults = |target: f64| {
            let settings: AutoscalerSettings =
                serde_json::from_value(json!({policy: {"metric": "kv_use", field: target}})).unwrap();
            let mut faults = Faults::default();
            settings.check(&mut faults);
            faults.found
        };
        assert_eq!(faults(0.5), []);
        let found = faults(50.0);
        assert_eq!(found.len(), 1, "{policy}");
        assert_eq!(found[0].path, format!("{policy}.{field}"));
        assert!(
            found[0].message.contains("at most 1") && found[0].message.contains("0.5 for 50 %"),
            "{}",
            found[0].message
        );
    }
    let requests: AutoscalerSettings =
        serde_json::from_value(json!({"hpa": {"metric": "outstanding_requests", "target_per_replica": 50}}))
            .unwrap();
    let mut faults = Faults::default();
    requests.check(&mut faults);
    assert_eq!(faults.found, [], "requests are no share");
}

fn lasting(duration_s: Option<f64>, autoscaler: Value) -> RunMetrics {
    let mut scenario = Scenario::new(json!({}), autoscaler, (0..20).map(|i| (f64::from(i), 64, 4)));
    scenario.workload.duration_s = duration_s;
    simulate(&scenario.inputs(), &mut Workspace::default()).unwrap()
}

/// Ten minutes of which twenty seconds have traffic: replicas are paid for all of it, and policies go on
/// deciding.
#[test]
fn a_run_lasts_as_long_as_its_workload() {
    let fixed = lasting(Some(600.0), json!({"static": {"replicas": 3}}));
    assert_eq!(fixed.simulated_s, 600.0);
    assert!((fixed.total_cost_usd - 3.0 * 600.0 * USD_PER_S).abs() < 1e-9 && fixed.mean_replicas == 3.0);
    let later = lasting(
        Some(600.0),
        json!({"schedule": {"steps": [{"at_s": 0, "replicas": 1}, {"at_s": 300, "replicas": 5}]}}),
    );
    assert_eq!((later.simulated_s, later.max_replicas), (600.0, 5), "ordered at 300 s, when all was done");
    // Work that is left at the end is done and paid for.
    let overtime = lasting(Some(5.0), json!({"static": {"replicas": 1}}));
    assert!(
        overtime.simulated_s > 19.0
            && (overtime.total_cost_usd - overtime.simulated_s * USD_PER_S).abs() < 1e-9
    );
    let plain = lasting(None, json!({"static": {"replicas": 1}}));
    assert_eq!(plain, overtime, "a duration that is over before the work is does nothing");
}

/// Asks for every batch and for their sums.
struct Adds {
    batches: BatchSums,
    seen: Arc<AtomicU64>,
}

impl Autoscaler for Adds {
    fn observes(&self) -> Observes {
        Observes { batches: true, batch_sums: true, ..Observes::default() }
    }

    fn observe_batches(&mut self, batches: &[BatchEnd]) {
        self.batches = BatchSums {
            batches: batches.len() as u64,
            tokens: batches.iter().map(|batch| batch.tokens).sum(),
            prefill_tokens: batches.iter().map(|batch| batch.prefill_tokens).sum(),
        };
    }

    fn observe_batch_sums(&mut self, sums: BatchSums) {
        assert_eq!(sums, self.batches);
        self.seen.fetch_add(sums.batches, Ordering::Relaxed);
    }

    fn decide(&mut self, _now_s: f64, _snapshot: &Snapshot) -> Decision {
        Decision::Hold
    }
}

/// At every tick, amid runs of decodes too: some are cut by arrivals, some end by themselves.
#[test]
fn sums_of_batches_are_those_of_all_batches() {
    let requests = (0..300).map(|i| (f64::from(i) * 0.4, 64 + i % 50 * 20, 1 + i % 7 * 60));
    let scenario =
        Scenario::new(json!({"tune_interval_s": 0.25, "initial_replicas": 3}), json!("inferline"), requests);
    let inputs = scenario.inputs();
    let seen = Arc::new(AtomicU64::new(0));
    let policy = Adds { batches: BatchSums::default(), seen: seen.clone() };
    let parts = Parts { autoscaler: Some(Box::new(policy)), ..Parts::of(&inputs) };
    let metrics = simulate_parts(&inputs, parts, &mut Workspace::default()).unwrap();
    let seen = seen.load(Ordering::Relaxed);
    assert!(seen > 5_000 && metrics.num_batches - seen < 500, "{seen} of {}", metrics.num_batches);
}
