//! Generated workloads: the settings as the grid file has them, rates as asked, complaints.

use proptest::prelude::*;
use scalefront::workload::{WorkloadSpec, depends_on_seed};
use serde_json::{Value, json};

use super::{arrivals_between, assert_count, complaint, fixed, generate};

fn steps() -> Value {
    json!({"poisson": {"phases": [
        {"duration_s": 1200, "rate_per_s": 20}, {"duration_s": 600, "rate_per_s": 30},
        {"duration_s": 1200, "rate_per_s": 50}, {"duration_s": 600, "rate_per_s": 40}]}})
}

#[test]
fn the_lab_load_has_its_rates() {
    let workload = generate(steps(), fixed(), 1);
    for (from_s, to_s, rate_per_s) in
        [(0.0, 1200.0, 20.0), (1200.0, 1800.0, 30.0), (1800.0, 3000.0, 50.0), (3000.0, 3600.0, 40.0)]
    {
        assert_count(arrivals_between(&workload, from_s, to_s), (to_s - from_s) * rate_per_s, 1.0);
    }
    assert_eq!(arrivals_between(&workload, 0.0, 3600.0), workload.len());
    assert!(workload.prefill_tokens.iter().all(|&tokens| tokens == 256));
    assert!(workload.decode_tokens.iter().all(|&tokens| tokens == 1));
}

#[test]
fn poisson_spacing_is_exponential() {
    let workload = generate(json!({"poisson": {"rate_per_s": 100, "duration_s": 1000}}), fixed(), 3);
    let gaps: Vec<f64> = workload.arrived_at_s.windows(2).map(|pair| pair[1] - pair[0]).collect();
    // Kolmogorov-Smirnov against 1 - exp(-100 x), at a level of about 1e-6.
    let mut sorted = gaps.clone();
    sorted.sort_by(f64::total_cmp);
    let n = sorted.len() as f64;
    let distance = sorted
        .iter()
        .enumerate()
        .map(|(i, gap)| ((1.0 - libm::exp(-100.0 * gap)) - i as f64 / n).abs())
        .fold(0.0, f64::max);
    assert!(distance < 2.7 / n.sqrt(), "distance {distance}");
}

#[test]
fn lengths_leave_arrivals_alone_and_max_tokens_cuts() {
    let spec = |max_tokens| json!({"name": "g", "generate": {"arrivals": steps(), "lengths": {"fixed": {"prefill_tokens": 900, "decode_tokens": 200}}, "max_tokens": max_tokens}});
    let cut = super::load_json(spec(1000), 1, &[]).unwrap();
    assert_eq!((cut.prefill_tokens[0], cut.decode_tokens[0]), (800, 200));
    assert_eq!(cut.arrived_at_s, generate(steps(), fixed(), 1).arrived_at_s);
}

#[test]
fn settings_survive_a_round_trip() {
    let json = json!({"name": "g", "generate": {"arrivals": steps(), "lengths": fixed()}});
    let spec: WorkloadSpec = serde_json::from_value(json).unwrap();
    assert_eq!(serde_json::from_value::<WorkloadSpec>(serde_json::to_value(&spec).unwrap()).unwrap(), spec);
    assert!(depends_on_seed(&spec));
    let trace: WorkloadSpec =
        serde_json::from_value(json!({"name": "t", "trace": {"path": "a.csv", "format": "azure"}})).unwrap();
    assert_eq!(serde_json::from_value::<WorkloadSpec>(serde_json::to_value(&trace).unwrap()).unwrap(), trace);
    assert!(!depends_on_seed(&trace));
}

#[test]
fn complaints_about_settings() {
    let poisson = |settings: Value| complaint(json!({"arrivals": {"poisson": settings}, "lengths": fixed()}));
    let at = "workload `g`: generate.arrivals.poisson";
    assert_eq!(
        poisson(json!({})),
        format!("{at}.phases: missing, expected either `phases` or both `rate_per_s` and `duration_s`")
    );
    assert_eq!(
        poisson(json!({"rate_per_s": 1})),
        format!("{at}.duration_s: missing, expected either `phases` or both `rate_per_s` and `duration_s`")
    );
    assert_eq!(
        poisson(json!({"phases": [{"duration_s": 1, "rate_per_s": 1}, {"duration_s": 0, "rate_per_s": -1}]})),
        format!(
            "{at}.phases[1].rate_per_s: -1 found, expected a finite number of at least 0; \
             {at}.phases[1].duration_s: 0 found, expected a finite number above 0"
        )
        .replace("; workload `g`: ", "; ")
    );
    assert_eq!(
        poisson(json!({"rate_per_s": 1, "duration_s": 1, "phases": [{"duration_s": 1, "rate_per_s": 1}]})),
        format!(
            "{at}.phases: found beside `rate_per_s` or `duration_s`, expected either phases or one rate and duration"
        )
    );
    assert_eq!(
        poisson(json!({"rate_per_s": 1e6, "duration_s": 1e6})),
        format!("{at}: about 1000000000000 requests, expected at most 200000000; lower rates or durations")
    );
    assert_eq!(
        poisson(json!({"rate_per_s": 0, "duration_s": 10})),
        format!("{at}: rates add up to no request, expected at least one")
    );
    assert_eq!(
        poisson(json!({"rate_per_s": 1e-9, "duration_s": 1})),
        "workload `g`: generate: no request drawn under seed 1, expected at least one; raise rates or durations"
    );
    assert_eq!(
        complaint(
            json!({"arrivals": steps(), "lengths": {"fixed": {"prefill_tokens": 0, "decode_tokens": 2000000000}}})
        ),
        "workload `g`: generate.lengths.fixed.prefill_tokens: 0 found, expected 1 to 1000000000 tokens; \
         generate.lengths.fixed.decode_tokens: 2000000000 found, expected 1 to 1000000000 tokens"
    );
    let missing = "missing, expected `arrivals` and `lengths`, or `servegen`";
    assert_eq!(
        complaint(json!({})),
        format!("workload `g`: generate.arrivals: {missing}; generate.lengths: {missing}")
    );
    assert_eq!(complaint(json!({"arrivals": steps()})), format!("workload `g`: generate.lengths: {missing}"));
    assert_eq!(
        complaint(json!({"arrivals": steps(), "servegen": {"dir": "a"}, "max_tokens": 1})),
        "workload `g`: generate.servegen: found beside `arrivals` or `lengths`, expected either it or both of them; \
         generate.max_tokens: 1 found, expected at least 2"
    );
    let both =
        json!({"name": "", "trace": {"path": "a"}, "generate": {"arrivals": steps(), "lengths": fixed()}});
    assert_eq!(
        super::load_json(both, 1, &[]).unwrap_err().to_string(),
        "workload ``: name: an empty name found; trace: `generate`, `trace` found, expected one of them"
    );
}

proptest! {
    #[test]
    fn arrivals_are_sorted_within_phases_and_the_seed_decides(
        phases in prop::collection::vec((0.1f64..50.0, prop_oneof![Just(0.0), 0.0f64..40.0]), 1..6), seed: u64,
    ) {
        let expected: f64 = phases.iter().map(|(duration_s, rate_per_s)| duration_s * rate_per_s).sum();
        prop_assume!(expected > 30.0);
        let json: Vec<Value> = phases.iter().map(|(duration_s, rate_per_s)| json!({"duration_s": duration_s, "rate_per_s": rate_per_s})).collect();
        let workload = generate(json!({"poisson": {"phases": json}}), fixed(), seed);
        prop_assert_eq!(&workload, &generate(json!({"poisson": {"phases": json}}), fixed(), seed));
        prop_assert!(workload.arrived_at_s.is_sorted());
        prop_assert_ne!(workload.fingerprint(), generate(json!({"poisson": {"phases": json}}), fixed(), seed ^ 1).fingerprint());
        let mut start_s = 0.0;
        for (duration_s, rate_per_s) in phases {
            assert_count(arrivals_between(&workload, start_s, start_s + duration_s), duration_s * rate_per_s, 1.0);
            start_s += duration_s;
        }
    }
}
