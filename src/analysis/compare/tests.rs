use serde_json::json;

use super::*;
use crate::analysis::table::{Column, to_frame};
use crate::sweep::plan::WorkloadSummary;
use crate::sweep::store::manifest::Timings;

/// (family, router, seed, latency, cost); a negative latency stands for a failed run.
type Sample = (&'static str, &'static str, i64, f64, f64);

fn sweep(label: &str, samples: &[Sample]) -> Sweep {
    let text = |of: fn(&Sample) -> &'static str| {
        Column::Text(samples.iter().map(|sample| of(sample).into()).collect())
    };
    let number = |of: fn(&Sample) -> f64| {
        Column::OptionalFloat(samples.iter().map(|sample| (sample.3 >= 0.0).then(|| of(sample))).collect())
    };
    let runs = to_frame(vec![
        ("workload", text(|_| "w")),
        ("seed", Column::Int(samples.iter().map(|sample| sample.2).collect())),
        ("family", text(|sample| sample.0)),
        ("status", text(|sample| if sample.3 >= 0.0 { "ok" } else { "failed" })),
        ("global_scheduler", text(|sample| sample.1)),
        ("autoscaler.level", number(|sample| sample.4)),
        ("p90_e2e_s", number(|sample| sample.3)),
        ("total_cost_usd", number(|sample| sample.4)),
    ]);
    let workload = |seed: u64| WorkloadSummary {
        name: "w".into(),
        seed,
        requests: 1,
        prefill_tokens: 1,
        decode_tokens: 1,
        duration_s: 1.0,
        traces: Vec::new(),
        fingerprint: format!("w{seed}"),
    };
    let manifest = Manifest {
        name: label.into(),
        question: None,
        scalefront_version: "0".into(),
        results_version: 1,
        command: String::new(),
        grid_file: String::new(),
        grid: json!({}),
        runs_hash: String::new(),
        tables: Default::default(),
        objectives: Objectives {
            reference: Some(Reference { latency: 1.0, cost: 100.0 }),
            ..Objectives::default()
        },
        axes: Vec::new(),
        workloads: (1..4).map(workload).collect(),
        setting_columns: vec!["global_scheduler".into(), "autoscaler.level".into()],
        policies: Vec::new(),
        hardware: vec!["measured".into()],
        runs_planned: samples.len(),
        runs_ok: samples.len(),
        runs_failed: 0,
        timings: Timings {
            threads: 1,
            wall_s: 1.0,
            runs_per_s: 1.0,
            requests_per_s: 1.0,
            finished_at: String::new(),
            curves: 0,
            curves_s: 0.0,
            trials: 0,
            trials_s: 0.0,
        },
    };
    Sweep { label: label.into(), manifest, runs: runs.unwrap() }
}

fn two_families() -> Sweep {
    let mut samples = Vec::new();
    for seed in 1..4 {
        for (router, dearer) in [("rr", 0.0), ("lor", 10.0)] {
            samples.push(("a", router, seed, 0.5, 40.0 + dearer + seed as f64));
            samples.push(("b", router, seed, 0.5, 20.0 + dearer + seed as f64));
        }
    }
    sweep("x", &samples)
}

#[test]
fn cells_are_paired_by_cluster_and_seed() {
    let comparison = compare(&[two_families()], &Choice::default()).unwrap();
    let [outcome] = &comparison.outcomes[..] else { panic!("{:?}", comparison.outcomes) };
    assert_eq!((outcome.cells, outcome.seeds, outcome.runs), (6, 3, [6, 6]));
    assert_eq!((outcome.wins, outcome.losses, outcome.ties), (6, 0, 0));
    // 20 dollars of 100 at half the latency; without spread over the seeds, since they are paired.
    let difference = outcome.hv_difference.unwrap();
    assert!((difference.mean - 0.1).abs() < 1e-12 && (difference.interval.unwrap().1 - 0.1).abs() < 1e-9);
    assert_eq!(outcome.verdict(), Verdict::Better);
    assert!(outcome.worse_by_percent().unwrap() < 0.0);
    // Geometric mean of (21 / 41 · 31 / 51) and so on.
    let ratios = [(21.0, 41.0), (31.0, 51.0), (22.0, 42.0), (32.0, 52.0), (23.0, 43.0), (33.0, 53.0f64)];
    let mean = libm::exp(ratios.iter().map(|(b, a): &(f64, f64)| libm::log(b / a)).sum::<f64>() / 6.0);
    let change = outcome.cost_at_equal_latency.unwrap();
    assert!((change.percent - 100.0 * (mean - 1.0)).abs() < 1e-9, "{change:?}");
    assert!(change.interval.unwrap().0 < change.percent && change.percent < change.interval.unwrap().1);
    assert!(outcome.latency_at_equal_cost.unwrap().percent.abs() < 1e-9);
    assert_eq!(comparison.warnings, Vec::<String>::new());
}

#[test]
fn settings_that_do_not_apply_keep_no_one_apart() {
    let setting = |value: Option<&str>| vec![value.map(String::from)];
    let runs = |cost: f64| CellRuns { points: vec![Point { latency: 1.0, cost }], runs: 1 };
    let (fixed, slow, fast, other) =
        (setting(None), setting(Some("60")), setting(Some("10")), setting(Some("5")));
    let costs = [1.0, 2.0, 3.0, 4.0].map(runs);
    let (pairs, left_out) = pair([&[(&fixed, &costs[0])], &[(&slow, &costs[1]), (&fast, &costs[2])]]);
    assert_eq!(pairs.len(), 2, "a fixed fleet stands against each delay");
    assert!(pairs.iter().all(|pair| pair[0] == costs[0]) && left_out == [0, 0]);
    let (pairs, left_out) =
        pair([&[(&slow, &costs[0]), (&other, &costs[3])], &[(&slow, &costs[1]), (&fast, &costs[2])]]);
    assert_eq!((pairs, left_out), (vec![[costs[0].clone(), costs[1].clone()]], [1, 1]));
}

#[test]
fn the_other_way_round_it_is_worse() {
    let choice = Choice { families: Vec::new(), baseline: Some("b".into()) };
    let comparison = compare(&[two_families()], &choice).unwrap();
    let outcome = &comparison.outcomes[0];
    assert_eq!((outcome.verdict(), outcome.losses), (Verdict::Worse, 6));
    let cost = outcome.cost_at_equal_latency.unwrap().percent;
    assert!(cost > 50.0 && outcome.worse_by_percent() == Some(cost), "the larger of cost and hypervolume");
}

#[test]
fn sweeps_compare_namesakes_and_all_families() {
    let mut newer = two_families();
    newer.label = "y".into();
    let comparison = compare(&[two_families(), newer], &Choice::default()).unwrap();
    let names = |outcome: &Outcome| {
        [outcome.baseline, outcome.candidate].map(|number| comparison.contestants[number].label.clone())
    };
    let pairs = comparison.outcomes.iter().map(names).collect::<Vec<_>>();
    let expected = [["a (x)", "a (y)"], ["b (x)", "b (y)"], ["all families (x)", "all families (y)"]];
    assert_eq!(pairs, expected.map(|pair| pair.map(String::from)));
    assert!(
        comparison
            .outcomes
            .iter()
            .all(|outcome| outcome.verdict() == Verdict::Equal && outcome.worse_by_percent() == Some(0.0))
    );
}

#[test]
fn what_differs_is_told() {
    let mut newer = two_families();
    newer.label = "y".into();
    newer.manifest.results_version = 2;
    newer.manifest.hardware = vec!["guessed".into()];
    newer.manifest.workloads[1].fingerprint = "other".into();
    newer.manifest.objectives.reference = None;
    let warnings = compare(&[two_families(), newer], &Choice::default()).unwrap().warnings.join("\n");
    for part in [
        "Results versions differ: 1 in x, 2 in y",
        "measured; only in y: guessed",
        "`w (seed 2)`",
        "Objectives differ",
    ] {
        assert!(warnings.contains(part), "{part} missing in {warnings}");
    }
}

#[test]
fn traces_have_no_interval() {
    let mut sweep = two_families();
    sweep.manifest.workloads.iter_mut().for_each(|workload| workload.fingerprint = "same".into());
    let comparison = compare(&[sweep], &Choice::default()).unwrap();
    assert_eq!(comparison.outcomes[0].verdict(), Verdict::OneSeed);
    assert!(comparison.warnings[0].contains("no independent samples"), "{:?}", comparison.warnings);
}

#[test]
fn failures_lose_and_are_told() {
    let samples = [("a", "rr", 1, 0.5, 40.0), ("b", "rr", 1, -1.0, 0.0)];
    let comparison = compare(&[sweep("x", &samples)], &Choice::default()).unwrap();
    let outcome = &comparison.outcomes[0];
    assert_eq!(
        (outcome.losses, outcome.worse_by_percent(), outcome.cost_at_equal_latency),
        (1, Some(100.0), None)
    );
    assert!(comparison.warnings[0].contains("b: 1 runs on `w` failed"), "{:?}", comparison.warnings);
    // From nothing to something is no loss, however one divides by nothing.
    let choice = Choice { families: Vec::new(), baseline: Some("b".into()) };
    let back = compare(&[sweep("x", &samples)], &choice).unwrap();
    assert!(back.outcomes[0].worse_by_percent().unwrap() < 0.0);
}

#[test]
fn wrong_names_are_answered_with_the_known_ones() {
    let refusal = |families: &[&str], baseline: Option<&str>| {
        let choice = Choice {
            families: families.iter().map(|&f| f.into()).collect(),
            baseline: baseline.map(Into::into),
        };
        format!("{:#}", compare(&[two_families()], &choice).err().unwrap())
    };
    assert_eq!(refusal(&["c"], None), "--families: `c` found, expected some of `a`, `b`");
    assert_eq!(refusal(&[], Some("c")), "--baseline: `c` found, expected one of `a`, `b`");
    assert_eq!(refusal(&["a"], None), "--families: one found, `a`, expected at least two of `a`, `b`");
    let apart = [sweep("x", &[("a", "rr", 1, 0.5, 40.0), ("b", "rr", 2, 0.5, 40.0)])];
    assert!(compare(&apart, &Choice::default()).err().unwrap().to_string().contains("nothing to compare"));
}
