//! ServeGen's clients: the made-up ones of the samples, and every complaint.

use std::fs;
use std::path::Path;

use scalefront::workload::Workload;
use serde_json::{Value, json};

use super::{arrivals_between, assert_count};

fn generate(more: Value, seed: u64) -> Workload {
    let mut settings = json!({"dir": "traces/samples/servegen"});
    settings.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    super::load_json(
        json!({"name": "s", "generate": {"servegen": settings}}),
        seed,
        &[env!("CARGO_MANIFEST_DIR").into()],
    )
    .unwrap()
}

#[test]
fn windows_have_their_rates_and_clients_their_lengths() {
    let mut counts = [0; 6];
    for seed in 1..=20 {
        let workload = generate(json!({}), seed);
        assert_eq!(workload, generate(json!({}), seed));
        assert!(workload.arrived_at_s.is_sorted());
        assert_eq!(arrivals_between(&workload, 0.0, 3600.0), workload.len());
        for (window, count) in counts.iter_mut().enumerate() {
            *count += arrivals_between(&workload, 600.0 * window as f64, 600.0 * (window + 1) as f64);
        }
        for (prefill, decode) in workload.prefill_tokens.iter().zip(&workload.decode_tokens) {
            let first = (100..3000).contains(prefill) && (10..800).contains(decode);
            let second = (2000..8000).contains(prefill) && [1, 2, 40].contains(decode);
            assert!(first || second, "{prefill} {decode}");
        }
    }
    // The rates of both clients, and no more than the larger coefficient of variation.
    for (count, rate_per_s) in counts.into_iter().zip([0.5, 0.7, 3.1, 3.4, 0.2, 0.4]) {
        assert_count(count, 20.0 * 600.0 * rate_per_s, 3.0);
    }
}

#[test]
fn a_part_of_the_day_starts_at_zero_and_scales() {
    let mut count = 0;
    for seed in 1..=20 {
        let part = generate(json!({"start_s": 900, "duration_s": 600, "rate_scale": 2}), seed);
        assert_eq!(arrivals_between(&part, 0.0, 600.0), part.len());
        count += part.len();
    }
    assert_count(count, 20.0 * 2.0 * 300.0 * (0.7 + 3.1), 3.0);
    let silent = super::load_json(
        json!({"name": "s", "generate": {"servegen": {"dir": "traces/samples/servegen", "start_s": 90000}}}),
        1,
        &[env!("CARGO_MANIFEST_DIR").into()],
    );
    assert_eq!(
        silent.unwrap_err().to_string(),
        "workload `s`: generate: no request drawn under seed 1, expected at least one; raise rates or durations"
    );
}

#[test]
fn complaints() {
    let windows = "0,1,1,,0,0\r\n600,1,1,,0,0\r\n";
    let dataset = json!({"0": {"input_tokens": "{5: 1.0}", "output_tokens": "{6: 1}"}}).to_string();
    let complaint = |trace: Option<&str>, dataset: Option<&str>| {
        let dir = tempfile::tempdir().unwrap();
        let write = |name: &str, content: Option<&str>| {
            content.map(|content| fs::write(dir.path().join(name), content).unwrap())
        };
        write("chunk-7-trace.csv", trace);
        write("chunk-7-dataset.json", dataset);
        let result =
            super::load_json(json!({"name": "s", "generate": {"servegen": {"dir": dir.path()}}}), 1, &[]);
        let text = match result {
            Ok(workload) => return format!("{} requests", workload.len()),
            Err(error) => error.to_string(),
        };
        text.replace(&format!("{}", Path::new(dir.path()).display()), "dir")
    };
    assert!(complaint(Some(windows), Some(&dataset)).ends_with(" requests"));
    assert_eq!(
        complaint(None, Some(&dataset)),
        "dir: no client found, expected files `chunk-<number>-trace.csv` and `chunk-<number>-dataset.json`"
    );
    assert_eq!(
        complaint(Some(windows), None),
        "dir/chunk-7-dataset.json: no such file, expected a client's lengths beside its trace"
    );
    assert_eq!(
        complaint(Some("0,1,1,,0,0"), Some(&dataset)),
        "dir/chunk-7-trace.csv: fewer than two windows found, expected a line for each window of the day"
    );
    let trace = |line: &str| complaint(Some(&format!("0,1,1,,0,0\n{line}\n")), Some(&dataset));
    assert_eq!(
        trace("0,1,1,,0,0"),
        "dir/chunk-7-trace.csv, line 2: window at 0 s after that at 0 s, expected windows in order of time"
    );
    assert_eq!(
        trace("600,1"),
        "dir/chunk-7-trace.csv, line 2: 2 fields found, expected start, rate, cv, pattern and its two arguments"
    );
    assert_eq!(
        trace("600,1,1,Pareto,1,1"),
        "dir/chunk-7-trace.csv, line 2, column `pattern`: `Pareto` found, expected `Gamma`, `Weibull` or nothing"
    );
    assert_eq!(
        trace("600,nan,1,,1,1"),
        "dir/chunk-7-trace.csv, line 2, column `rate`: `nan` found, expected a finite number of at least 0"
    );
    assert_eq!(
        trace("600,1,1,Gamma,0,1"),
        "dir/chunk-7-trace.csv, line 2, column `shape`: `0` found, expected a finite number of at least 0.0001"
    );
    let histogram = |text: &str| {
        complaint(
            Some(windows),
            Some(&json!({"0": {"input_tokens": text, "output_tokens": "{}"}}).to_string()),
        )
    };
    let expected = "expected `{tokens: probability, ..}` with probabilities that add up to 1";
    for (text, found) in [
        ("__import__('os')", "`__import__('os')`"),
        ("{5: 1.0, }", "``"),
        ("{-5: 1.0}", "`-5: 1.0`"),
        ("{5: nan}", "`5: nan`"),
        ("{5: 0.5}", "a sum of 0.5"),
    ] {
        assert_eq!(
            histogram(text),
            format!("dir/chunk-7-dataset.json: `input_tokens` at 0 s: {found} found, {expected}")
        );
    }
    assert_eq!(
        histogram("{}"),
        "dir/chunk-7-dataset.json: no histogram found, expected lengths for a client that has requests"
    );
    assert!(
        complaint(Some(windows), Some(r#"{"x": {"input_tokens": "{}", "output_tokens": "{}"}}"#))
            .starts_with("dir/chunk-7-dataset.json: `x` found")
    );
    assert!(complaint(Some(windows), Some("{")).starts_with("dir/chunk-7-dataset.json: EOF while parsing"));

    let settings =
        super::complaint(json!({"servegen": {"dir": "", "start_s": -1, "duration_s": 0, "rate_scale": 0}}));
    assert_eq!(
        settings,
        "workload `g`: generate.servegen.dir: an empty path found, expected a directory; \
         generate.servegen.start_s: -1 found, expected a finite number of at least 0; \
         generate.servegen.rate_scale: 0 found, expected a finite number above 0; \
         generate.servegen.duration_s: 0 found, expected a finite number above 0"
    );
}
