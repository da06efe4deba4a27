//! What a policy is told of engines' passes does not depend on how a run is simulated.

use std::sync::{Arc, Mutex};

use scalefront::autoscaler::{Autoscaler, Decision, ForwardPass, Observes, Snapshot};
use scalefront::simulation::{Parts, RunInputs, Workspace, simulate_parts};
use serde_json::json;

use super::scenario::Scenario;

/// When it looked, and what the replicas' latest passes were.
type Seen = Arc<Mutex<Vec<(f64, Vec<Option<ForwardPass>>)>>>;

/// Looks at passes and changes nothing.
struct Watches(Seen);

impl Autoscaler for Watches {
    fn observes(&self) -> Observes {
        Observes { passes: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(0.005)
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let passes = snapshot.replicas.iter().map(|replica| replica.pass).collect();
        self.0.lock().unwrap().push((now_s, passes));
        Decision::Hold
    }
}

#[test]
fn passes_are_told_alike_step_by_step_and_in_runs() {
    // Long answers, into which long prompts come.
    let requests = (0..24).map(|i| (f64::from(i) * 0.9, if i % 3 == 0 { 2500 } else { 60 }, 120));
    let cluster = json!({"replica_scheduler": {"vllm_v1": {}}, "initial_replicas": 1, "max_replicas": 2});
    let scenario = Scenario::new(cluster, json!("hpa"), requests);
    let seen = [true, false].map(|stepping| {
        let inputs = RunInputs { stepping, ..scenario.inputs() };
        let seen = Seen::default();
        let parts = Parts { autoscaler: Some(Box::new(Watches(seen.clone()))), ..Parts::of(&inputs) };
        simulate_parts(&inputs, parts, &mut Workspace::default()).unwrap();
        seen.lock().unwrap().clone()
    });
    assert!(
        seen[0].iter().flat_map(|(_, passes)| passes).flatten().any(|pass| pass.decode_kv_tokens > 3_000)
    );
    assert_eq!(seen[0].len(), seen[1].len());
    for (stepping, runs) in seen[0].iter().zip(&seen[1]) {
        let tokens = |(at_s, passes): &(f64, Vec<Option<ForwardPass>>)| {
            let of = |pass: &Option<ForwardPass>| {
                pass.map(|pass| (pass.prefill_tokens, pass.decode_requests, pass.decode_kv_tokens))
            };
            (*at_s, passes.iter().map(of).collect::<Vec<_>>())
        };
        assert_eq!(tokens(stepping), tokens(runs));
    }
}
