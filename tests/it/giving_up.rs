//! Clients that give up after a time.

use scalefront::settings::Faults;
use scalefront::simulation::{
    ClusterSettings, Parts, RunInputs, Workspace, simulate, simulate_parts_in_detail, violations,
};
use serde_json::{Value, json};

use super::golden::assert_runs_agree;
use super::scenario::Scenario;

const TIMEOUT_S: f64 = 12.0;

/// Two requests a second, of 300 tokens each, on replicas of eight places.
fn crowded(scheduler: &str, settings: Value, others: Value) -> Scenario {
    let mut scheduler_settings = json!({"batch_size_cap": 8});
    settings.as_object().unwrap().iter().for_each(|(field, value)| scheduler_settings[field] = value.clone());
    let mut cluster = json!({"replica_scheduler": {scheduler: scheduler_settings}, "initial_replicas": 2, "max_replicas": 4});
    others.as_object().unwrap().iter().for_each(|(field, value)| cluster[field] = value.clone());
    let requests = (0..200).map(|i| (f64::from(i) * 0.5, 256, 20 + 40 * (i % 8) as u32));
    Scenario::new(cluster, json!({"static": {"replicas": 2}}), requests)
}

/// A scheduler and its settings besides.
type Scheduler = (&'static str, fn() -> Value);

const SCHEDULERS: [Scheduler; 9] = [
    ("vllm_v1", || json!({})),
    ("vllm_v1", || json!({"async_scheduling": false, "num_blocks": 120})),
    ("vllm_v1", || json!({"num_blocks": 120, "policy": "priority"})),
    ("vllm", || json!({})),
    ("vllm", || json!({"num_blocks": 120})),
    ("sarathi", || json!({"num_blocks": 120})),
    ("orca", || json!({})),
    ("lightllm", || json!({})),
    ("faster_transformer", || json!({})),
];

/// Every request is answered in time or cut off, nothing is held afterwards, and nobody's answer is late.
#[test]
fn who_is_not_answered_in_time_is_cut_off_and_counted() {
    for (scheduler, settings) in SCHEDULERS {
        for others in [
            json!({}),
            json!({"tensor_parallel": 2, "pipeline_parallel": 2}),
            json!({"failures": {"mean_time_to_crash_s": 60}}),
        ] {
            let name = format!("{scheduler} {} {others}", settings());
            let one_stage = scheduler == "lightllm" || settings().get("policy").is_some();
            if one_stage && others.get("pipeline_parallel").is_some() {
                continue;
            }
            let mut with_timeout = others.clone();
            with_timeout["client_timeout_s"] = json!(TIMEOUT_S);
            let hasty = crowded(scheduler, settings(), with_timeout);
            let inputs = RunInputs { stepping: true, ..hasty.inputs() };
            let mut workspace = Workspace::default();
            let (metrics, detail) =
                simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
            assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0], "{name}");
            assert!(metrics.num_cut > 20 && metrics.num_completed > 20, "{name}: {metrics:?}");
            assert_eq!(metrics.num_cut + metrics.num_completed, 200, "{name}");
            let late = detail.requests.iter().find(|request| {
                request
                    .completed_at_s
                    .is_some_and(|completed_at_s| completed_at_s > request.arrived_at_s + TIMEOUT_S + 1e-9)
            });
            assert_eq!(late, None, "{name}");
            let answered = detail.requests.iter().filter(|request| request.completed_at_s.is_some()).count();
            assert_eq!(answered as u64, metrics.num_completed, "{name}");
            assert_runs_agree(&metrics, &simulate(&inputs, &mut Workspace::default()).unwrap());
        }
    }
}

/// Who has time for all of it is nobody else.
#[test]
fn a_long_timeout_changes_nothing() {
    for (scheduler, settings) in SCHEDULERS {
        let without = crowded(scheduler, settings(), json!({}));
        let patient = crowded(scheduler, settings(), json!({"client_timeout_s": 1e6}));
        let [without, patient] = [without, patient]
            .map(|scenario| simulate(&scenario.inputs(), &mut Workspace::default()).unwrap());
        assert_eq!(patient.num_cut, 0);
        assert_runs_agree(&patient, &without);
    }
}

/// One place: the first is answered, the second cut off with the step it is in, the third leaves the queue;
/// then it is the next one's turn.
#[test]
fn places_of_those_who_gave_up_are_free() {
    let cluster = |timeout: Value| json!({"replica_scheduler": {"vllm": {"batch_size_cap": 1}}, "client_timeout_s": timeout});
    let requests = [(0.0, 256, 200), (0.0, 256, 200), (0.0, 256, 200), (1000.0, 256, 2)];
    let run = |timeout: Value| {
        let scenario = Scenario::new(cluster(timeout), json!({"static": {"replicas": 1}}), requests);
        let inputs = scenario.inputs();
        simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut Workspace::default()).unwrap()
    };
    let (whole, detail) = run(Value::Null);
    assert_eq!((whole.num_completed, whole.num_cut), (4, 0));
    let alone_s = detail.requests[0].completed_at_s.unwrap();
    let (metrics, detail) = run(json!(1.5 * alone_s));
    assert_eq!((metrics.num_completed, metrics.num_cut), (2, 2));
    assert_eq!(detail.requests[0].completed_at_s, Some(alone_s));
    assert!(detail.requests[1].first_token_at_s.is_some() && detail.requests[1].completed_at_s.is_none());
    assert!(detail.requests[2].scheduled_at_s.is_none() && detail.requests[2].completed_at_s.is_none());
    let step_s = alone_s / 200.0;
    let last_s = detail
        .batches
        .iter()
        .map(|batch| batch.completed_at_s)
        .filter(|&at_s| at_s < 900.0)
        .fold(0.0, f64::max);
    assert!((1.5 * alone_s..1.5 * alone_s + 2.0 * step_s).contains(&last_s), "{last_s}, {alone_s}");
}

/// Nobody serves for a minute.
#[test]
fn who_waits_for_a_replica_gives_up_too() {
    let cluster = json!({"initial_replicas": 0, "min_replicas": 0, "max_replicas": 1, "scale_up_delay_s": 0, "client_timeout_s": 11});
    let steps = json!({"schedule": {"steps": [{"at_s": 0, "replicas": 0}, {"at_s": 60, "replicas": 1}]}});
    let requests = (0..20).map(|i| (f64::from(i) * 5.0, 256, 2));
    let scenario = Scenario::new(cluster, steps, requests);
    let inputs = scenario.inputs();
    let mut workspace = Workspace::default();
    let (metrics, detail) = simulate_parts_in_detail(&inputs, Parts::of(&inputs), &mut workspace).unwrap();
    assert_eq!(violations(&inputs, &metrics, &detail, &workspace), [""; 0]);
    assert_eq!((metrics.num_cut, metrics.num_completed), (10, 10), "{metrics:?}");
}

#[test]
fn faults_say_what_is_not_built() {
    let faults = |cluster: Value| {
        let cluster: ClusterSettings = serde_json::from_value(cluster).unwrap();
        let mut faults = Faults::default();
        cluster.with_pools().unwrap().check(&mut faults);
        faults
            .found
            .into_iter()
            .map(|fault| format!("{}: {}", fault.path, fault.message))
            .collect::<Vec<_>>()
            .join("; ")
    };
    assert!(faults(json!({"client_timeout_s": 0})).starts_with("client_timeout_s: "));
    assert!(
        faults(json!({"client_timeout_s": 9, "replica_scheduler": "sglang"}))
            .contains("client_timeout_s: found with `sglang`")
    );
    let speculative =
        json!({"vllm_v1": {"speculative": {"num_speculative_tokens": 2, "acceptance_rate": 0.5}}});
    assert!(
        faults(json!({"client_timeout_s": 9, "replica_scheduler": speculative}))
            .contains("client_timeout_s: found with `vllm_v1`")
    );
    let pools = json!([{"name": "a"}]);
    assert!(
        faults(json!({"client_timeout_s": 9, "pools": pools}))
            .contains("client_timeout_s: found with `pools`")
    );
}

/// Inputs that step through every decode are the same.
#[test]
fn it_is_stepped() {
    let scenario = crowded("vllm", json!({}), json!({"client_timeout_s": TIMEOUT_S}));
    let stepped = RunInputs { stepping: true, ..scenario.inputs() };
    let [plain, stepped] =
        [scenario.inputs(), stepped].map(|inputs| simulate(&inputs, &mut Workspace::default()).unwrap());
    assert_runs_agree(&plain, &stepped);
}
