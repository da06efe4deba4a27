//! Each arrival process and length distribution: its figures, its seed, its complaints.

use proptest::prelude::*;
use scalefront::workload::describe::describe;
use serde_json::{Value, json};

use super::{arrivals_between, assert_count, complaint, fixed, generate, mean};

/// Each arrival process at about 20 requests/s for 100 s, with the coefficient of variation of its spacing.
fn processes() -> Vec<(Value, f64)> {
    let phases = json!([{"duration_s": 40, "rate_per_s": 10}, {"duration_s": 20, "rate_per_s": 0}, {"duration_s": 40, "rate_per_s": 40}]);
    vec![
        (json!({"poisson": {"phases": phases}}), 1.0),
        (json!({"gamma": {"rate_per_s": 20, "duration_s": 100, "cv": 3}}), 3.0),
        (json!({"gamma": {"phases": phases, "cv": 0.5}}), 0.5),
        (json!({"weibull": {"rate_per_s": 20, "duration_s": 100, "shape": 0.6}}), 1.76),
        (json!({"weibull": {"phases": phases, "cv": 2}}), 2.0),
        (json!({"static": {"phases": phases}}), 0.0),
        (
            json!({"diurnal": {"mean_rate_per_s": 20, "amplitude": 0.8, "period_s": 50, "duration_s": 100}}),
            1.0,
        ),
        (
            json!({"bursts": {"base_rate_per_s": 10, "burst_rate_per_s": 60, "burst_duration_s": 2, "interval_s": 10, "duration_s": 100}}),
            1.0,
        ),
    ]
}

/// Each length distribution.
fn distributions() -> Vec<Value> {
    vec![
        fixed(),
        json!({"uniform": {"prefill": {"min_tokens": 10, "max_tokens": 30}, "decode": {"min_tokens": 5, "max_tokens": 5}}}),
        json!({"zipf": {"theta": 0.6, "min_tokens": 100, "max_tokens": 400, "prefill_to_decode_ratio": 4}}),
        json!({"zipf": {"theta": 0.6, "min_tokens": 100, "max_tokens": 400, "prefill_to_decode_ratio": 4, "scramble": true}}),
        json!({"lognormal": {"prefill": {"median_tokens": 500, "sigma": 1.0, "max_tokens": 8000}, "decode": {"mean_tokens": 200, "cv": 0.5}}}),
        json!({"empirical": {"path": "traces/samples/azure.csv"}}),
        json!({"trace": {"path": "traces/samples/vidur.csv", "prefill_scale": 2}}),
    ]
}

#[test]
fn every_process_has_its_rate_and_stays_in_time() {
    for seed in 1..=20 {
        for (process, cv) in processes() {
            let workload = generate(process.clone(), fixed(), seed);
            assert!(workload.arrived_at_s.is_sorted(), "{process}");
            assert_eq!(arrivals_between(&workload, 0.0, 100.0), workload.len(), "{process}");
            assert_count(workload.len(), 2000.0, cv);
            if process.to_string().contains("phases") {
                assert_count(arrivals_between(&workload, 0.0, 40.0), 400.0, cv);
                assert_eq!(arrivals_between(&workload, 40.0, 60.0), 0, "{process}");
            }
        }
    }
}

#[test]
fn every_process_has_its_spacing() {
    let cv = |arrivals: Value| describe(&generate(arrivals, fixed(), 5)).unwrap().interarrival_cv.unwrap();
    let steady = |more: Value| {
        let mut settings = json!({"rate_per_s": 50, "duration_s": 4000});
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    for expected in [0.3, 1.0, 2.5] {
        let found = cv(json!({"gamma": steady(json!({"cv": expected}))}));
        assert!((found / expected - 1.0).abs() < 0.04, "gamma {found}, expected {expected}");
        let found = cv(json!({"weibull": steady(json!({"cv": expected}))}));
        assert!((found / expected - 1.0).abs() < 0.04, "weibull {found}, expected {expected}");
    }
    // Weibull with shape 2 is Rayleigh: sqrt(4/π - 1).
    assert!((cv(json!({"weibull": steady(json!({"shape": 2}))})) - 0.5227).abs() < 0.01);
    assert!(cv(json!({"static": steady(json!({}))})) < 1e-9);
}

#[test]
fn static_arrivals_are_exactly_where_they_should_be() {
    let workload = generate(
        json!({"static": {"phases": [
        {"duration_s": 1, "rate_per_s": 4}, {"duration_s": 1, "rate_per_s": 1}, {"duration_s": 2, "rate_per_s": 1.5}]}}),
        fixed(),
        1,
    );
    assert_eq!(workload.arrived_at_s, [0.0, 0.25, 0.5, 0.75, 1.0, 2.0, 2.0 + 2.0 / 3.0, 2.0 + 4.0 / 3.0]);
}

#[test]
fn diurnal_rate_follows_the_sine() {
    let workload = generate(
        json!({"diurnal": {
        "mean_rate_per_s": 100, "amplitude": 0.5, "period_s": 400, "phase_s": -100, "duration_s": 400}}),
        fixed(),
        2,
    );
    // The trough is at time 0, the peak at 200; over a quarter around them the sine averages 2 sqrt(2) / π.
    let swing = 0.5 * 2.0 * 2.0f64.sqrt() / std::f64::consts::PI;
    assert_count(arrivals_between(&workload, 150.0, 250.0), 10_000.0 * (1.0 + swing), 1.0);
    assert_count(
        arrivals_between(&workload, 0.0, 50.0) + arrivals_between(&workload, 350.0, 400.0),
        10_000.0 * (1.0 - swing),
        1.0,
    );
}

#[test]
fn bursts_are_where_the_rate_is() {
    let mut settings = json!({"base_rate_per_s": 5, "burst_rate_per_s": 200, "burst_duration_s": 5, "interval_s": 50, "duration_s": 1000});
    let workload = generate(json!({"bursts": settings}), fixed(), 2);
    assert_count(arrivals_between(&workload, 0.0, 45.0), 225.0, 1.0);
    assert_count(arrivals_between(&workload, 45.0, 50.0), 1000.0, 1.0);
    assert_count(arrivals_between(&workload, 995.0, 1000.0), 1000.0, 1.0);
    settings["timing"] = "random".into();
    let random = generate(json!({"bursts": settings}), fixed(), 2);
    assert_ne!(random.arrived_at_s, workload.arrived_at_s);
    assert!(describe(&random).unwrap().windows[0].peak_requests_per_s > 150.0);
}

#[test]
fn lengths_have_their_figures() {
    let columns = |lengths: Value| {
        let workload = generate(json!({"static": {"rate_per_s": 1000, "duration_s": 100}}), lengths, 7);
        (workload.prefill_tokens, workload.decode_tokens)
    };
    let average = |tokens: &[u32]| mean(tokens.iter().map(|&tokens| f64::from(tokens)));

    let (prefill, decode) = columns(distributions()[1].clone());
    assert_eq!((prefill.iter().min(), prefill.iter().max()), (Some(&10), Some(&30)));
    assert!((average(&prefill) - 20.0).abs() < 0.1);
    assert!(decode.iter().all(|&tokens| tokens == 5));

    // The k-th of 301 lengths has weight k^-0.6.
    let (prefill, decode) = columns(distributions()[2].clone());
    let weights: Vec<f64> = (1..=301).map(|k| libm::pow(f64::from(k), -0.6)).collect();
    let total: f64 = weights.iter().sum();
    for (above, weight) in weights.iter().enumerate().step_by(60) {
        let count = prefill
            .iter()
            .zip(&decode)
            .filter(|(prefill, decode)| *prefill + *decode == 100 + above as u32)
            .count();
        assert_count(count, 100_000.0 * weight / total, 1.0);
    }
    assert!(prefill.iter().zip(&decode).all(|(prefill, decode)| *decode == (prefill + decode) / 5));
    let (scrambled, rest) = columns(distributions()[3].clone());
    assert!(scrambled.iter().zip(&rest).all(|(prefill, decode)| (100..=400).contains(&(prefill + decode))));
    assert!((average(&scrambled) - average(&prefill)).abs() > 5.0);

    let (mut prefill, decode) = columns(distributions()[4].clone());
    prefill.sort_unstable();
    assert!((f64::from(prefill[50_000]) / 500.0 - 1.0).abs() < 0.03 && prefill[99_999] == 8000);
    let centre = average(&decode);
    let cv = mean(decode.iter().map(|&tokens| (f64::from(tokens) - centre).powi(2))).sqrt() / centre;
    assert!((centre - 200.0).abs() < 2.0 && (cv - 0.5).abs() < 0.02, "{cv}");
}

#[test]
fn lengths_from_files_are_those_of_the_files() {
    let sample = super::load_json(
        json!({"name": "s", "trace": {"path": "traces/samples/vidur.csv"}}),
        1,
        &[env!("CARGO_MANIFEST_DIR").into()],
    )
    .unwrap();
    let arrivals = || json!({"poisson": {"rate_per_s": 10, "duration_s": 100}});

    let drawn = generate(arrivals(), distributions()[5].clone(), 1);
    let pairs: Vec<_> = sample.prefill_tokens.iter().zip(&sample.decode_tokens).collect();
    assert!(drawn.prefill_tokens.iter().zip(&drawn.decode_tokens).all(|pair| pairs.contains(&pair)));

    let replayed = generate(arrivals(), distributions()[6].clone(), 1);
    assert!(replayed.len() > 300);
    for i in 0..replayed.len() {
        assert_eq!(replayed.prefill_tokens[i], 2 * sample.prefill_tokens[i % 300]);
        assert_eq!(replayed.decode_tokens[i], sample.decode_tokens[i % 300]);
    }

    let arrivals = json!({"trace": {"path": "traces/samples/vidur.csv", "time_scale": 0.5}});
    let workload = generate(arrivals, fixed(), 1);
    assert!(workload.arrived_at_s.iter().zip(&sample.arrived_at_s).all(|(found, at)| *found == at * 0.5));
}

#[test]
fn bare_names_and_unknown_fields_are_told_apart() {
    let read = |arrivals: Value| {
        serde_json::from_value::<scalefront::workload::arrivals::Arrivals>(arrivals)
            .map_err(|error| error.to_string())
    };
    assert_eq!(
        read(json!("poissson")).unwrap_err(),
        "unknown variant `poissson`, expected one of `poisson`, `gamma`, `weibull`, `static`, `diurnal`, `bursts`, `trace`"
    );
    assert!(
        read(json!({"gamma": {"cv": 1, "rate": 3}}))
            .unwrap_err()
            .starts_with("unknown field `rate`, expected one of")
    );
    assert_eq!(
        read(json!("gamma")).unwrap_err(),
        "missing field `cv`, which has no default: give {\"gamma\": {..}}"
    );
}

#[test]
fn complaints() {
    let arrivals = |arrivals: Value| complaint(json!({"arrivals": arrivals, "lengths": fixed()}));
    let load = json!({"rate_per_s": 1, "duration_s": 1});
    let with = |more: Value| {
        let mut settings = load.clone();
        settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        settings
    };
    assert_eq!(
        arrivals(json!({"gamma": with(json!({"cv": 0}))})),
        "workload `g`: generate.arrivals.gamma.cv: 0 found, expected a number from 0.01 to 100"
    );
    assert_eq!(
        arrivals(json!({"weibull": load})),
        "workload `g`: generate.arrivals.weibull.shape: missing, expected either `shape` or `cv`"
    );
    assert_eq!(
        arrivals(json!({"weibull": with(json!({"shape": 1, "cv": 1}))})),
        "workload `g`: generate.arrivals.weibull.shape: found beside `cv`, expected one of them"
    );
    assert_eq!(
        arrivals(json!({"weibull": with(json!({"shape": 1000}))})),
        "workload `g`: generate.arrivals.weibull.shape: 1000 found, expected a number from 0.1 to 100"
    );
    assert_eq!(
        arrivals(json!({"weibull": with(json!({"cv": 1000}))})),
        "workload `g`: generate.arrivals.weibull.cv: 1000 found, expected a number from 0.02 to 100"
    );
    assert_eq!(
        arrivals(
            json!({"diurnal": {"mean_rate_per_s": -1, "amplitude": 1.5, "duration_s": 0, "period_s": 0}})
        ),
        "workload `g`: generate.arrivals.diurnal.mean_rate_per_s: -1 found, expected a finite number above 0; \
         generate.arrivals.diurnal.amplitude: 1.5 found, expected a number from 0 to 1; \
         generate.arrivals.diurnal.duration_s: 0 found, expected a finite number above 0; \
         generate.arrivals.diurnal.period_s: 0 found, expected a finite number above 0"
    );
    assert_eq!(
        arrivals(
            json!({"bursts": {"base_rate_per_s": 1, "burst_rate_per_s": 9, "burst_duration_s": 10, "interval_s": 5, "duration_s": 100}})
        ),
        "workload `g`: generate.arrivals.bursts.interval_s: 5 found, expected more than the `burst_duration_s` 10"
    );
    assert_eq!(
        arrivals(
            json!({"bursts": {"base_rate_per_s": 1, "burst_rate_per_s": 9, "burst_duration_s": 1e-9, "interval_s": 1e-6, "duration_s": 100}})
        ),
        "workload `g`: generate.arrivals.bursts.interval_s: about 100000000 bursts, expected at most 10000000"
    );

    let lengths = |lengths: Value| complaint(json!({"arrivals": {"poisson": load}, "lengths": lengths}));
    assert_eq!(
        lengths(
            json!({"uniform": {"prefill": {"min_tokens": 9, "max_tokens": 3}, "decode": {"min_tokens": 0, "max_tokens": 1}}})
        ),
        "workload `g`: generate.lengths.uniform.prefill.max_tokens: 3 found, expected at least the `min_tokens` 9; \
         generate.lengths.uniform.decode.min_tokens: 0 found, expected 1 to 1000000000 tokens"
    );
    assert_eq!(
        lengths(
            json!({"zipf": {"theta": -1, "min_tokens": 1, "max_tokens": 0, "prefill_to_decode_ratio": 0}})
        ),
        "workload `g`: generate.lengths.zipf.theta: -1 found, expected a finite number of at least 0; \
         generate.lengths.zipf.prefill_to_decode_ratio: 0 found, expected a finite number above 0; \
         generate.lengths.zipf.min_tokens: 1 found, expected at least 2; \
         generate.lengths.zipf.max_tokens: 0 found, expected 1 to 1000000000 tokens; \
         generate.lengths.zipf.max_tokens: 0 found, expected at least the `min_tokens` 1"
    );
    assert_eq!(
        lengths(
            json!({"lognormal": {"prefill": {"median_tokens": 5, "cv": 1}, "decode": {"mean_tokens": 0, "cv": -1}}})
        ),
        "workload `g`: generate.lengths.lognormal.prefill: expected either `median_tokens` and `sigma`, or `mean_tokens` and `cv`; \
         generate.lengths.lognormal.decode.mean_tokens: 0 found, expected a finite number above 0; \
         generate.lengths.lognormal.decode.cv: -1 found, expected a finite number of at least 0"
    );
    assert_eq!(
        lengths(json!({"empirical": {"path": "Cargo.toml"}})),
        "Cargo.toml, line 1: header `[package]` found, expected the columns `prefill_tokens`, `decode_tokens`; or \
         `num_prefill_tokens`, `num_decode_tokens`; or `ContextTokens`, `GeneratedTokens`; or `Request tokens`, `Response tokens`"
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn arrivals_do_not_know_lengths(seed: u64, process in prop::sample::select(processes()), lengths in prop::sample::select(distributions())) {
        let workload = generate(process.0.clone(), lengths.clone(), seed);
        prop_assert_eq!(&workload, &generate(process.0.clone(), lengths, seed));
        prop_assert_eq!(workload.arrived_at_s, generate(process.0, fixed(), seed).arrived_at_s);
        prop_assert!(workload.prefill_tokens.iter().chain(&workload.decode_tokens).all(|&tokens| tokens >= 1));
    }
}
