//! Runs that would go on or grow for ever are given up, with a reason that names what they did.

use scalefront::autoscaler::{Autoscaler, Decision, Snapshot};
use scalefront::simulation::{
    Limits, Parts, RunInputs, SimulationError, Workspace, simulate, simulate_parts,
};
use serde_json::{Value, json};

use crate::scenario::Scenario;

fn ten_requests(cluster: Value) -> Scenario {
    Scenario::new(
        cluster,
        json!({"static": {"replicas": 1}}),
        (0..10).map(|i| (100.0 + f64::from(i), 256, 4)),
    )
}

/// One up, one down, one up: each replica is taken away at the very instant at which it joins, before a
/// request reaches it.
struct Seesaw {
    up: bool,
}

impl Autoscaler for Seesaw {
    fn decide(&mut self, _now_s: f64, _snapshot: &Snapshot) -> Decision {
        self.up = !self.up;
        if self.up { Decision::Up(1) } else { Decision::Down(1) }
    }
}

#[test]
fn a_policy_that_scales_up_and_down_for_ever_is_given_up_and_named() {
    let scenario = ten_requests(json!({
        "min_replicas": 0, "tune_interval_s": 5, "scale_up_delay_s": 10, "scale_down_delay_s": 5, "scale_down_order": "serving_first",
    }));
    let run = |most_events| {
        let inputs = RunInputs { limits: Limits { most_events, ..Limits::default() }, ..scenario.inputs() };
        // The first decision takes the only replica there is.
        let parts = Parts { autoscaler: Some(Box::new(Seesaw { up: true })), ..Parts::of(&inputs) };
        simulate_parts(&inputs, parts, &mut Workspace::default())
    };
    let error = run(300_000).unwrap_err();
    let SimulationError::TooManyEvents { events, unfinished, scale_ups, scale_downs, replicas_lost, .. } =
        error
    else {
        panic!("{error}")
    };
    assert_eq!((events, unfinished, replicas_lost), (300_000, 10, 0));
    assert!(scale_ups > 10_000 && scale_downs.abs_diff(scale_ups) <= 2, "{scale_ups} up, {scale_downs} down");
    let said = error.to_string();
    assert!(
        said.starts_with("given up after 300000 events, at ")
            && said.contains("does it scale up and down for ever?"),
        "{said}"
    );
    // With more patience it is the same story, and the same to the bit every time.
    assert_eq!(run(300_000).unwrap_err(), error);
    assert!(matches!(run(400_000), Err(SimulationError::TooManyEvents { events: 400_000, .. })));
}

/// A policy that takes its last replica and never wants another: nothing will happen any more, which is found
/// without counting to billions.
#[test]
fn requests_that_nobody_will_serve_end_a_run() {
    struct Never;
    impl Autoscaler for Never {
        fn decide(&mut self, _now_s: f64, _snapshot: &Snapshot) -> Decision {
            Decision::Down(1)
        }
    }
    let scenario = ten_requests(json!({"min_replicas": 0}));
    let inputs = scenario.inputs();
    let parts = Parts { autoscaler: Some(Box::new(Never)), ..Parts::of(&inputs) };
    match simulate_parts(&inputs, parts, &mut Workspace::default()) {
        Err(error @ SimulationError::Stuck { unfinished: 10, .. }) => assert!(
            error.to_string().ends_with(
                "no replica serves, and the policy asks for none; it does not start from zero by itself: raise `min_replicas`, which is 0"
            ),
            "{error}"
        ),
        other => panic!("{other:?}"),
    }
}

/// Two hundred requests a second for one replica that serves about ten: the queue grows as long as they come.
fn overload() -> Scenario {
    Scenario::new(
        json!({}),
        json!({"static": {"replicas": 1}}),
        (0..100_000).map(|i| (f64::from(i) * 0.005, 256, 4)),
    )
}

#[test]
fn a_run_that_keeps_too_much_is_given_up() {
    let scenario = overload();
    let run = |most_bytes, workspace: &mut Workspace| {
        let inputs = RunInputs { limits: Limits { most_bytes, ..Limits::default() }, ..scenario.inputs() };
        simulate(&inputs, workspace)
    };
    let mut used = Workspace::default();
    let whole = run(u64::MAX, &mut used).unwrap();
    let error = run(4 << 20, &mut Workspace::default()).unwrap_err();
    let SimulationError::TooMuchMemory { bytes, most_bytes, unfinished, .. } = error else {
        panic!("{error}")
    };
    assert!(
        most_bytes == 4 << 20 && bytes > most_bytes && bytes < 3 * most_bytes && unfinished > 10_000,
        "{error}"
    );
    assert!(error.to_string().contains("a larger `--cell-memory` lets it go on"), "{error}");
    // What another run left allocated does not count.
    assert_eq!(run(4 << 20, &mut used).unwrap_err(), error);
    // A short run is looked at as well, in the end.
    let short = ten_requests(json!({}));
    let inputs = RunInputs { limits: Limits { most_bytes: 100, ..Limits::default() }, ..short.inputs() };
    assert!(matches!(
        simulate(&inputs, &mut used),
        Err(SimulationError::TooMuchMemory { unfinished: 0, .. })
    ));
    // A limit that is just enough changes nothing, one less is too little.
    let enough = least(1 << 30, |most| run(most, &mut used).is_ok());
    assert_eq!(run(enough, &mut used).unwrap(), whole);
    assert!(
        matches!(run(enough - 1, &mut used), Err(SimulationError::TooMuchMemory { bytes, .. }) if bytes == enough)
    );
}

/// The least number below `end` for which `holds`, which then holds for all larger ones.
fn least(end: u64, mut holds: impl FnMut(u64) -> bool) -> u64 {
    let (mut low, mut high) = (0, end);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { high = middle } else { low = middle + 1 }
    }
    low
}
