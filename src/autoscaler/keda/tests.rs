use super::super::tests::with_context;
use super::super::{ReplicaSignals, Snapshot};
use super::*;

/// A policy with its clock.
struct Run {
    policy: Box<dyn Autoscaler>,
    now_s: f64,
}

impl Run {
    fn new(settings: serde_json::Value, min_replicas: u32) -> Self {
        let settings: KedaSettings = serde_json::from_value(settings).unwrap();
        let mut faults = Faults::default();
        settings.check(&mut faults);
        assert_eq!(faults.found, []);
        let policy = with_context(|context| {
            settings.build(&PolicyContext { min_replicas, max_replicas: 20, ..*context })
        })
        .unwrap();
        Self { policy, now_s: 0.0 }
    }

    /// One tick with so many replicas and outstanding requests: the target.
    fn tick(&mut self, replicas: u32, requests: u32) -> u32 {
        let gauges = |id| ReplicaSignals {
            id,
            draining: false,
            queued_requests: 0,
            queued_prefill_tokens: 0,
            running_requests: if id == 0 { requests } else { 0 },
            kv_used_blocks: 50,
            kv_total_blocks: 100,
            ..ReplicaSignals::default()
        };
        let gauges: Vec<ReplicaSignals> = (0..replicas).map(gauges).collect();
        let snapshot = Snapshot {
            serving: replicas,
            draining: 0,
            starting: 0,
            stopping: 0,
            outstanding_requests: requests,
            unrouted_requests: if replicas == 0 { requests } else { 0 },
            replicas: &gauges,
        };
        let decision = self.policy.decide(self.now_s, &snapshot);
        self.now_s += self.policy.tick_interval_s().unwrap();
        (i64::from(replicas) + decision.signed()) as u32
    }
}

#[test]
fn without_any_activity_zero_is_reached_at_the_first_poll() {
    assert_eq!(Run::new(serde_json::json!({}), 0).tick(1, 0), 0);
    let mut patient = Run::new(serde_json::json!({"initial_cooldown_period_s": 60}), 0);
    // Ticks of 15 s, polls every other.
    assert_eq!([1, 1, 1, 1, 1].map(|replicas| patient.tick(replicas, 0)), [1, 1, 1, 1, 0]);
    assert_eq!(Run::new(serde_json::json!({}), 1).tick(1, 0), 1, "the minimum is one");
}

#[test]
fn activity_wakes_and_its_end_is_waited_for() {
    let mut run = Run::new(serde_json::json!({"cooldown_period_s": 60}), 0);
    assert_eq!(run.tick(0, 3), 1, "active at 0 s");
    let after: Vec<u32> = (0..6).map(|_| run.tick(1, 0)).collect();
    assert_eq!(after, [1, 1, 1, 1, 1, 0], "60 s are over at the poll of 90 s");
}

#[test]
fn the_largest_of_several_triggers_wins() {
    let mut run = Run::new(
        serde_json::json!({"target_per_replica": 10, "also": [{"metric": "kv_use", "target_per_replica": 0.1}]}),
        1,
    );
    assert_eq!(run.tick(1, 30), 4, "KV use wants 5, a plain manifest doubles or goes to 4");
    let mut one = Run::new(serde_json::json!({"target_per_replica": 10}), 1);
    assert_eq!(one.tick(1, 30), 3);
}

#[test]
fn idle_is_none_until_something_comes() {
    let mut run =
        Run::new(serde_json::json!({"min_replicas": 3, "idle_replicas": 0, "cooldown_period_s": 0}), 0);
    assert_eq!(run.tick(3, 0), 0);
    assert_eq!(run.tick(0, 5), 0, "no poll yet");
    assert_eq!(run.tick(0, 5), 3);
}

#[test]
fn failures_hold_and_then_fall_back() {
    let outages = serde_json::json!([{"at_s": 0, "duration_s": 1000}]);
    let mut run = Run::new(serde_json::json!({"outages": outages}), 0);
    assert_eq!((0..10).map(|_| run.tick(2, 90)).max(), Some(2), "an error, and nothing is done");
    let fallback =
        |behavior: &str| serde_json::json!({"failure_threshold": 2, "replicas": 6, "behavior": behavior});
    for (behavior, expected) in [("static", 4), ("current_replicas", 2), ("current_replicas_if_lower", 2)] {
        let mut run = Run::new(serde_json::json!({"outages": outages, "fallback": fallback(behavior)}), 0);
        let targets: Vec<u32> = (0..5).map(|_| run.tick(2, 90)).collect();
        // The third failed poll is that of 60 s.
        assert_eq!(targets, [2, 2, 2, 2, expected], "{behavior}");
    }
}

#[test]
fn a_formula_takes_the_triggers_place() {
    let settings = serde_json::json!({
        "trigger": "requests", "also": [{"metric": "kv_use", "trigger": "kv", "target_per_replica": 1}],
        "scaling_modifiers": {"formula": "requests > 20 ? requests / 10 : kv", "target_per_replica": 1, "activation_threshold": 0.6}});
    let mut run = Run::new(settings, 0);
    assert_eq!(run.tick(1, 30), 3, "30 / 10");
    assert_eq!(run.tick(3, 5), 3, "the last five minutes' highest");
    let mut calm = Run::new(
        serde_json::json!({"scaling_modifiers": {"formula": "t1", "target_per_replica": 1, "activation_threshold": 4}}),
        0,
    );
    assert_eq!(calm.tick(1, 4), 0, "not above 4");
}

#[test]
fn faults_name_the_field() {
    let faults = |settings: serde_json::Value| {
        let mut faults = Faults::default();
        serde_json::from_value::<KedaSettings>(settings).unwrap().check(&mut faults);
        faults.found.into_iter().map(|fault| fault.path).collect::<Vec<_>>()
    };
    assert_eq!(faults(serde_json::json!({"idle_replicas": 1})), ["idle_replicas", "min_replicas"]);
    assert_eq!(faults(serde_json::json!({"also": [{"trigger": "t1"}]})), ["also[0].trigger"]);
    let formula =
        |text: &str| serde_json::json!({"scaling_modifiers": {"formula": text, "target_per_replica": 1}});
    assert_eq!(faults(formula("t1 + t2")), ["scaling_modifiers.formula"]);
    assert_eq!(faults(formula("t1 +")), ["scaling_modifiers.formula"]);
    assert_eq!(faults(serde_json::json!({"target_per_replica": 0.0001})), ["target_per_replica"]);
}
