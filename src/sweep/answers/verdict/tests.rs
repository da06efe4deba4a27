use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::sweep::grid::Grid;
use crate::sweep::grid::source::Source;

/// (policy, target, seed, P99 TTFT, cost)
type Sample = (&'static str, f64, i64, Option<f64>, f64);

fn rows(samples: &[Sample]) -> Vec<RunRow> {
    let row = |&(policy, target, seed, ttft, cost): &Sample| {
        let kind = if policy == "fixed" { "static" } else { policy };
        let columns = [
            ("workload", Scalar::Text("w".into())),
            ("seed", Scalar::Int(seed)),
            ("family", Scalar::Text(policy.into())),
            ("policy", Scalar::Text(policy.into())),
            ("status", Scalar::Text("ok".into())),
            ("autoscaler", Scalar::Text(kind.into())),
            ("autoscaler.target", Scalar::Float(target)),
            ("p99_ttft_s", ttft.map_or(Scalar::Null, Scalar::Float)),
            ("total_cost_usd", Scalar::Float(cost)),
            ("cost_usd_per_day", Scalar::Float(cost)),
            ("cost_usd_per_month", Scalar::Float(cost * 30.44)),
        ];
        RunRow { columns: columns.map(|(name, value)| (name.to_owned(), value)).into() }
    };
    samples.iter().map(row).collect()
}

fn objectives(constraints: serde_json::Value) -> Objectives {
    Objectives { constraints: serde_json::from_value(constraints).unwrap(), ..Objectives::default() }
}

fn settings() -> Vec<String> {
    vec!["autoscaler".into(), "autoscaler.target".into()]
}

fn verdict(samples: &[Sample]) -> Verdict {
    verdicts(&rows(samples)[..], &settings(), &objectives(json!({"p99_ttft_s": 2}))).remove(0)
}

fn named(verdict: &Verdict, place: Option<usize>) -> Option<(String, f64)> {
    let setting = &verdict.settings[place?];
    Some((setting.policy.clone(), setting.cost?))
}

fn sentences(verdict: &Verdict) -> String {
    verdict.sentences(&|setting| format!("`{}`", setting.policy)).join(" ")
}

const DAY: [Sample; 8] = [
    ("hpa", 0.4, 1, Some(1.2), 887.0),
    ("hpa", 0.6, 1, Some(52.0), 935.0),
    ("keda", 32.0, 1, Some(0.5), 930.0),
    ("keda", 40.0, 1, Some(0.6), 880.0),
    ("keda", 64.0, 1, Some(37.8), 954.0),
    ("fixed", 5.0, 1, Some(0.6), 1440.0),
    ("fixed", 8.0, 1, Some(0.5), 1440.0),
    ("fixed", 2.0, 1, Some(90.0), 720.0),
];

#[test]
fn the_cheapest_that_keeps_the_limits_wins() {
    let verdict = verdict(&DAY);
    assert_eq!(named(&verdict, verdict.best), Some(("keda".into(), 880.0)));
    assert_eq!(named(&verdict, verdict.runner_up), Some(("hpa".into(), 887.0)));
    // Of equally dear fleets the one with more room.
    assert_eq!(verdict.settings[verdict.fixed.unwrap()].rows, [6]);
    assert_eq!((verdict.keeping(), verdict.as_dear_as(6)), (5, 1));
    assert_eq!(
        sentences(&verdict),
        "`keda` is the cheapest of the 5 settings, of 8 tried, that keep `p99_ttft_s ≤ 2`: US$ 880 a day, US$ 26,787 a month \
         (30.44 days). Room to the limits: `p99_ttft_s` 0.6 s (70 %). The cheapest of another policy: `hpa`, US$ 27,000 a month \
         (+0.8 %). The cheapest fixed fleet: `fixed`, US$ 43,834 a month (+64 %); 1 other fixed fleet cost the same. That is one run; \
         more seeds, where traffic is drawn, would say how sure it is."
    );
}

#[test]
fn every_seed_has_to_keep_them() {
    let mut samples = DAY.to_vec();
    samples.extend(
        DAY.map(|(policy, target, _, ttft, cost)| (policy, target, 2, ttft.map(|ttft| ttft * 1.5), cost)),
    );
    samples.push(("keda", 40.0, 3, Some(2.1), 880.0));
    let verdict = verdict(&samples);
    assert_eq!(named(&verdict, verdict.best), Some(("hpa".into(), 887.0)), "1.8 s under seed 2");
    let keda = verdict.settings.iter().find(|setting| setting.cost == Some(880.0)).unwrap();
    assert_eq!((keda.kept, keda.keeps()), (Kept { kept: 2, of: 3 }, false));
    assert_eq!(keda.limits[0].worst.value, Some(2.1));
    assert!(
        sentences(&verdict)
            .contains("Room to the limits, of the worst of 2 seeds: `p99_ttft_s` 1.8 s (10 %).")
    );
    assert!(
        sentences(&verdict).contains("All 2 seeds keep them, so at least 22 % of further ones should"),
        "{}",
        sentences(&verdict)
    );
}

#[test]
fn where_none_keeps_them_the_nearest_is_named() {
    let verdict = verdict(&[
        ("hpa", 0.4, 1, Some(3.0), 5.0),
        ("keda", 1.0, 1, Some(2.5), 9.0),
        ("keda", 2.0, 1, None, 1.0),
    ]);
    assert_eq!((verdict.best, named(&verdict, verdict.nearest)), (None, Some(("keda".into(), 9.0))));
    assert_eq!(
        sentences(&verdict),
        "None of 3 settings tried keeps `p99_ttft_s ≤ 2`. `keda` comes nearest: `p99_ttft_s` 2.5 s (25 % beyond its limit), for US$ 274 \
         a month."
    );
    let both = objectives(json!({"p99_ttft_s": 2.6, "total_cost_usd": 6}));
    let runs = rows(&[("hpa", 0.4, 1, Some(3.0), 5.0), ("keda", 1.0, 1, Some(2.5), 9.0)]);
    let said = sentences(&verdicts(&runs[..], &settings(), &both)[0]);
    assert!(said.contains("Each limit is kept by some setting, but no setting keeps all."), "{said}");
    let neither = objectives(json!({"p99_ttft_s": 0.1, "total_cost_usd": 6}));
    let said = sentences(&verdicts(&runs[..], &settings(), &neither)[0]);
    assert!(said.contains("No setting keeps `p99_ttft_s ≤ 0.1`."), "{said}");
}

#[test]
fn runs_that_failed_or_lack_the_metric_keep_nothing() {
    let mut runs = rows(&[("keda", 1.0, 1, Some(0.5), 1.0), ("hpa", 1.0, 1, None, 0.5)]);
    runs[0]
        .columns
        .iter_mut()
        .filter(|(name, _)| name == "status")
        .for_each(|(_, value)| *value = Scalar::Text("failed".into()));
    let verdict = verdicts(&runs[..], &settings(), &objectives(json!({"p99_ttft_s": 2}))).remove(0);
    assert_eq!((verdict.best, verdict.nearest), (None, None));
    assert!(sentences(&verdict).contains("No run has every metric that is limited."));
    assert!(verdicts(&runs[..], &settings(), &Objectives::default()).is_empty(), "nothing is asked");
}

#[test]
fn neighbours_are_one_step_away_and_cliffs_are_seen() {
    let runs = rows(&DAY);
    let verdict = verdict(&DAY);
    let found = neighbours(&runs[..], &verdict, verdict.best.unwrap(), &settings());
    let values: Vec<(&str, bool)> =
        found.iter().map(|n| (n.value.as_str(), n.is_beyond_cliff(&verdict))).collect();
    assert_eq!(values, [("32", false), ("64", true)]);
    let alone = neighbours(&runs[..], &verdict, 0, &settings());
    assert_eq!(alone.iter().map(|n| n.value.as_str()).collect::<Vec<_>>(), ["0.6"]);
}

#[test]
fn the_edge_counts_where_every_seed_has_a_schedule_within_the_limits() {
    let mut verdict = verdict(&DAY);
    let edge = rows(&[
        ("search", 0.0, 1, Some(1.0), 700.0),
        ("search", 0.0, 1, Some(1.9), 600.0),
        ("search", 0.0, 1, Some(3.0), 100.0),
    ]);
    verdict.compare_with_edge(&edge[..]);
    assert_eq!(verdict.edge_usd_per_month, Some(600.0 * 30.44));
    assert!(
        sentences(&verdict).contains("Perfect foresight could keep them for US$ 18,264 a month, 32 % less"),
        "{}",
        sentences(&verdict)
    );
    let edge = rows(&[("search", 0.0, 1, Some(1.0), 700.0), ("search", 0.0, 2, Some(3.0), 600.0)]);
    verdict.compare_with_edge(&edge[..]);
    assert_eq!(verdict.edge_usd_per_month, None);
}

proptest! {
    /// Slow twin: whatever the runs, nothing that keeps the limit under all its seeds is cheaper than the
    /// best.
    #[test]
    fn nothing_that_keeps_the_limits_is_cheaper(runs in prop::collection::vec((0u8..4, 0u8..3, 0.0..4.0f64, 1.0..9.0f64), 1..40)) {
        let mut seeds = BTreeMap::new();
        let samples: Vec<Sample> = runs.iter().map(|&(policy, target, ttft, cost)| {
            let seed = seeds.entry((policy, target)).and_modify(|seed| *seed += 1).or_insert(1i64);
            (["keda", "hpa", "fixed", "knative_kpa"][policy as usize], f64::from(target), *seed, Some(ttft), cost)
        }).collect();
        let verdict = verdict(&samples);
        let mut least = f64::INFINITY;
        for policy in ["keda", "hpa", "fixed", "knative_kpa"] {
            for target in 0..3u8 {
                let of: Vec<&Sample> = samples.iter().filter(|s| s.0 == policy && s.1 == f64::from(target)).collect();
                if !of.is_empty() && of.iter().all(|sample| sample.3.unwrap() <= 2.0) {
                    least = least.min(of.iter().map(|sample| sample.4).sum::<f64>() / of.len() as f64);
                }
            }
        }
        let best = verdict.best.map_or(f64::INFINITY, |best| verdict.settings[best].cost.unwrap());
        prop_assert!(best == least || (best - least).abs() < 1e-12, "{best} {least}");
    }
}

/// Every committed grid, its first and last cells: the piece of a grid file that a verdict gives stands for
/// the very same settings.
#[test]
fn a_snippet_stands_for_the_settings_it_was_made_of() {
    let sweeps = Path::new(env!("CARGO_MANIFEST_DIR")).join("sweeps");
    let mut cells = 0;
    for entry in std::fs::read_dir(sweeps).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "json") || path.ends_with("grid.schema.json")
        {
            continue;
        }
        let grid = Grid::read(&path).unwrap();
        for section in &grid.autoscalers {
            for (cluster, index) in [(0, 0), (grid.cluster.count() - 1, section.count() - 1)] {
                let (cluster, entry) = (grid.cluster.get(cluster), section.get(index));
                let mut columns = crate::sweep::tables::settings::cluster_columns(&cluster);
                columns.extend(crate::sweep::tables::settings::autoscaler_columns(&entry.settings));
                let names: Vec<String> = columns.iter().map(|(name, _)| name.clone()).collect();
                columns.push(("policy".into(), Scalar::Text(entry.family().into())));
                let piece = snippet(&[RunRow { columns }][..], 0, &names, &grid.as_given["cluster"]);
                let mut whole = piece.clone();
                whole["workloads"] = grid.as_given["workloads"].clone();
                let source = Source { file: "x.json".into(), text: whole.to_string() };
                let again = Grid::parse(source, Path::new("x.json"), grid.base_dirs.clone())
                    .unwrap_or_else(|error| panic!("{error}\n{piece:#}"));
                assert_eq!(again.cluster.get(0), cluster, "{}: {piece:#}", path.display());
                assert_eq!(again.autoscalers[0].get(0), entry, "{}: {piece:#}", path.display());
                cells += 1;
            }
        }
    }
    assert!(cells > 60, "{cells}");
}
