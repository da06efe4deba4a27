//! Replicas that leave within a grace period, and fresh ones that stall.

use scalefront::simulation::{
    Parts, RunInputs, Workspace, simulate, simulate_in_detail, simulate_parts_in_detail, violations,
};
use serde_json::{Value, json};

use super::golden::assert_runs_agree;
use super::scenario::Scenario;

fn requests(decode_tokens: u32) -> impl Iterator<Item = (f64, u32, u32)> {
    (0..200).map(move |i| (f64::from(i) * 0.5, 256, decode_tokens))
}

fn scenario(cluster: Value, steps: Value) -> Scenario {
    let mut settings = json!({"replica_scheduler": {"vllm_v1": {}}, "initial_replicas": 2, "max_replicas": 4, "scale_up_delay_s": 5});
    cluster.as_object().unwrap().iter().for_each(|(field, value)| settings[field] = value.clone());
    Scenario::new(settings, json!({"schedule": {"steps": steps}}), requests(300))
}

#[test]
fn what_a_replica_has_not_finished_in_time_is_cut_off_and_counted() {
    let steps = json!([{"at_s": 0, "replicas": 2}, {"at_s": 50, "replicas": 1}]);
    for scheduler in ["vllm_v1", "vllm", "sarathi", "sglang"] {
        let cluster = |grace: Value| json!({"scale_down_grace_s": grace, "replica_scheduler": scheduler});
        let patient = scenario(cluster(Value::Null), steps.clone());
        let hasty = scenario(cluster(json!(0.5)), steps.clone());
        let inputs = RunInputs { stepping: true, ..hasty.inputs() };
        let mut workspace = Workspace::default();
        let (metrics, detail) =
            simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
        assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0], "{scheduler}");
        let fast = simulate(&hasty.inputs(), &mut Workspace::default()).unwrap();
        assert_runs_agree(&metrics, &fast);
        assert!(
            metrics.num_cut > 0 && metrics.num_completed + metrics.num_cut == 200,
            "{scheduler}: {metrics:?}"
        );
        let gone = detail.replicas.iter().find(|record| record.num_replicas == 1).unwrap();
        assert!((gone.time_s - 50.5).abs() < 1e-6, "{scheduler}: {gone:?}");
        let whole = simulate(&patient.inputs(), &mut Workspace::default()).unwrap();
        assert_eq!((whole.num_cut, whole.num_completed), (0, 200), "{scheduler}");
        assert!(whole.replica_hours > metrics.replica_hours, "{scheduler}");
        // Who has time for all of it cuts nothing, and is the run without a limit.
        let long = scenario(cluster(json!(1e6)), steps.clone());
        assert_runs_agree(&simulate(&long.inputs(), &mut Workspace::default()).unwrap(), &whole);
    }
}

#[test]
fn fresh_replicas_stall_and_those_of_the_start_do_not() {
    let steps = json!([{"at_s": 0, "replicas": 2}, {"at_s": 20, "replicas": 3}]);
    let stalls = json!([{"after_s": 0, "duration_s": 2}, {"after_s": 4, "duration_s": 3}]);
    let scenario = scenario(json!({"cold_start": {"stalls": stalls}}), steps);
    let (metrics, detail) = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap();
    assert_runs_agree(&metrics, &simulate(&scenario.inputs(), &mut Workspace::default()).unwrap());
    let long: Vec<_> =
        detail.batches.iter().filter(|batch| batch.completed_at_s - batch.scheduled_at_s > 1.5).collect();
    assert_eq!(long.iter().map(|batch| batch.replica_id).collect::<Vec<_>>(), [2, 2]);
    let [first, second] =
        [long[0], long[1]].map(|batch| (batch.scheduled_at_s, batch.completed_at_s - batch.scheduled_at_s));
    assert!(first.0 >= 25.0 && (2.0..2.5).contains(&first.1), "{first:?}");
    assert!(
        second.0 - first.0 >= 4.0 && second.0 - first.0 < 4.5 && (3.0..3.5).contains(&second.1),
        "{first:?}, {second:?}"
    );
}

#[test]
fn starts_are_drawn_from_what_was_measured() {
    let measured = json!({"least_s": 62, "median_s": 76, "most_s": 104});
    let steps: Vec<Value> =
        (0..30).map(|i| json!({"at_s": f64::from(i) * 120.0, "replicas": 1 + i % 2})).collect();
    let cluster = json!({"cold_start": {"measured": measured}, "initial_replicas": 1, "scale_up_delay_s": 5, "max_replicas": 2});
    let late = [(0.0, 256, 2), (3600.0, 256, 2)];
    let scenario = Scenario::new(cluster, json!({"schedule": {"steps": steps, "period_s": 7200}}), late);
    let (_, detail) = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap();
    let asked = detail.tunes.iter().filter(|tune| tune.applied > 0).map(|tune| tune.time_s);
    let joined = detail
        .replicas
        .windows(2)
        .filter(|pair| pair[1].num_replicas > pair[0].num_replicas)
        .map(|pair| pair[1].time_s);
    let mut delays: Vec<f64> = asked.zip(joined).map(|(asked_s, joined_s)| joined_s - asked_s).collect();
    delays.sort_by(f64::total_cmp);
    assert!(delays.len() >= 14 && delays[0] >= 62.0 && delays[delays.len() - 1] <= 104.0, "{delays:?}");
    assert!(
        (68.0..86.0).contains(&delays[delays.len() / 2]) && delays[delays.len() - 1] - delays[0] > 15.0,
        "{delays:?}"
    );
}

/// Three starts at once: the hot spare, the warm one, a cold start; a minute later the hot one has been made
/// up for.
#[test]
fn starts_take_the_spare_that_serves_soonest_and_pay_those_that_wait() {
    let spares = json!([
        {"replicas": 1, "start_s": 20, "refill_s": 1000},
        {"replicas": 1, "start_s": 2, "price_share": 0.5, "refill_s": 50},
    ]);
    let steps =
        json!([{"at_s": 0, "replicas": 1}, {"at_s": 10, "replicas": 4}, {"at_s": 120, "replicas": 5}]);
    let cluster = json!({
        "cold_start": {"spares": spares}, "initial_replicas": 1, "scale_up_delay_s": 60, "max_replicas": 5, "tune_interval_s": 1,
        "node_price_usd_per_hour": 4, "tensor_parallel": 4, "billing": {"unit": "device"},
    });
    let scenario = Scenario::new(
        cluster,
        json!({"schedule": {"steps": steps, "period_s": 7200}}),
        [(0.0, 256, 2), (200.0, 256, 2)],
    );
    let (metrics, detail) = simulate_in_detail(&scenario.inputs(), &mut Workspace::default()).unwrap();
    assert_runs_agree(&metrics, &simulate(&scenario.inputs(), &mut Workspace::default()).unwrap());
    let asked: Vec<f64> =
        detail.tunes.iter().filter(|tune| tune.applied > 0).map(|tune| tune.time_s).collect();
    let joined: Vec<f64> = detail
        .replicas
        .windows(2)
        .filter(|pair| pair[1].num_replicas > pair[0].num_replicas)
        .map(|pair| pair[1].time_s)
        .collect();
    assert_eq!(joined, [asked[0] + 2.0, asked[0] + 20.0, asked[0] + 60.0, asked[1] + 2.0]);
    // A replica is a node of four dollars an hour; the hot spare half of that while it waits, the warm one
    // nothing.
    let price = |at_s: f64| {
        detail.replicas.iter().rev().find(|record| record.time_s <= at_s).unwrap().cost_per_hour_usd
    };
    assert_eq!([5.0, asked[0] + 1.0, asked[0] + 30.0, asked[0] + 55.0].map(price), [6.0, 4.0, 12.0, 14.0]);
}

#[test]
fn faults_of_leaving_and_starting_name_the_field() {
    let cluster: scalefront::simulation::ClusterSettings = serde_json::from_value(json!({
        "scale_down_grace_s": -1,
        "cold_start": {"spares": [{"replicas": 1, "start_s": 5, "price_share": 2, "refill_s": 9}], "spread_s": 2, "measured": {"least_s": 5, "median_s": 4, "most_s": 9},
            "stalls": [{"after_s": 3, "duration_s": 0}, {"after_s": 1, "duration_s": 1}]},
    }))
    .unwrap();
    let mut faults = scalefront::settings::Faults::default();
    cluster.check(&mut faults);
    let paths: Vec<&str> = faults.found.iter().map(|fault| fault.path.as_str()).collect();
    let expected = [
        "scale_down_grace_s",
        "cold_start.measured.median_s",
        "cold_start.spread_s",
        "cold_start.spares[0].price_share",
        "cold_start.stalls[0].duration_s",
    ];
    assert!(
        expected.iter().all(|path| paths.contains(path)) && paths.contains(&"cold_start.stalls[1].after_s"),
        "{paths:?}"
    );
}
