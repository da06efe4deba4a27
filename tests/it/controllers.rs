//! To the cluster and back: a run's policy exported by the binary, its file named in a grid, the same run.

use std::fs;
use std::path::Path;

use scalefront::RESULTS_VERSION;
use scalefront::files::write_json;
use scalefront::sweep::grid::Grid;
use scalefront::sweep::grid::source::Source;
use scalefront::sweep::plan::Plan;
use scalefront::sweep::store::manifest::{Manifest, Timings};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::cli::{scalefront, stderr, stdout};
use super::rows;

/// Each policy that has a controller, and who it is.
const POLICIES: [(&str, &str); 5] = [
    ("hpa", "hpa"),
    ("keda", "keda"),
    ("knative_kpa", "knative"),
    ("ray_serve", "ray_serve"),
    ("schedule", "schedule"),
];

fn grid() -> Value {
    json!({
        "name": "g",
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 10}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}}}}],
        "cluster": {"min_replicas": 2, "max_replicas": 12, "initial_replicas": 2},
        "autoscalers": [
            {"hpa": {"metric": "kv_use", "target_per_replica": 0.4}},
            {"keda": {"target_per_replica": 40, "hpa": {"behavior": {"scale_down": {"stabilization_window_s": 60}}}}},
            {"knative_kpa": {"target_per_replica": 8}},
            {"ray_serve": {"target_per_replica": 6, "downscale_delay_s": 120}},
            {"schedule": {"steps": [{"at_s": 0, "replicas": 3}, {"at_s": 43200, "replicas": 6}]}},
            {"static": {"replicas": 4}}
        ]
    })
}

/// A directory that holds what a sweep of `plan` leaves, as far as an export reads it.
fn results(plan: &Plan) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("results")).unwrap();
    let timings = Timings {
        threads: 1,
        wall_s: 1.0,
        runs_per_s: 1.0,
        requests_per_s: 1.0,
        finished_at: String::new(),
        curves: 0,
        curves_s: 0.0,
        trials: 0,
        trials_s: 0.0,
    };
    let manifest = Manifest::new(plan, &[], 0, Default::default(), "scalefront sweep x.json".into(), timings);
    write_json(&dir.path().join("results/manifest.json"), &manifest).unwrap();
    dir
}

fn export(dir: &Path, run: &str, to: &str) -> Value {
    let file = format!("{to}.yaml");
    let output = scalefront(dir, &["export", "results", "--run", run, "--to", to, "--out", &file]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let text = fs::read_to_string(dir.join(&file)).unwrap();
    for sentence in stderr(&output).lines() {
        let sentence = sentence.strip_prefix("not said in the file: ").unwrap();
        assert!(text.contains(sentence), "{sentence} is told and not written:\n{text}");
    }
    serde_saphyr::from_str(&text).unwrap()
}

#[test]
fn a_run_goes_to_the_cluster_and_back() {
    let plan = rows::plan(&grid());
    let dir = results(&plan);
    for (place, (policy, to)) in POLICIES.into_iter().enumerate() {
        let id = plan.run_id(place);
        let file = export(dir.path(), &id, to);
        let mut back = grid();
        // Bounds of the cluster as they usually are: those of the file count.
        back["cluster"] = json!({});
        back["autoscalers"] =
            json!([{"from_manifest": {"path": format!("{to}.yaml")}, "initial_replicas": 2}]);
        let source = Source { file: "y.json".into(), text: back.to_string() };
        let read = Grid::parse(source, Path::new("y.json"), vec![dir.path().into()]).unwrap();
        assert_eq!(read.as_given, back, "the grid is stored as it was given");
        let again = Plan::new(read).unwrap();
        assert_eq!(again.run_id(0), id, "{policy}: another run\n{file:#}");
        assert_eq!(again.cell(0).family, policy);
    }
}

#[test]
fn files_have_the_fields_that_controllers_read() {
    let plan = rows::plan(&grid());
    let dir = results(&plan);
    let hpa = export(dir.path(), &plan.run_id(0), "hpa");
    assert_eq!(
        hpa["spec"],
        json!({
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "meta-llama-3-70b"},
            "minReplicas": 2,
            "maxReplicas": 12,
            "metrics": [{"type": "Pods", "pods": {"metric": {"name": "vllm_kv_cache_usage_perc"},
                "target": {"type": "AverageValue", "averageValue": "400m"}}}],
        })
    );
    let keda = export(dir.path(), &plan.run_id(1), "keda");
    assert_eq!(
        keda["spec"]["triggers"][0]["metadata"]["query"],
        "sum(vllm:num_requests_running) + sum(vllm:num_requests_waiting)"
    );
    assert_eq!(keda["spec"]["triggers"][0]["metadata"]["threshold"], "40");
    let schedule = export(dir.path(), &plan.run_id(4), "schedule");
    let window = |start: &str, end: &str, replicas: &str| json!({"type": "cron", "metadata": {"timezone": "UTC", "start": start, "end": end, "desiredReplicas": replicas}});
    assert_eq!(
        schedule["spec"]["triggers"],
        json!([window("0 0 * * *", "0 12 * * *", "3"), window("0 12 * * *", "0 0 * * *", "6")])
    );
}

#[test]
fn exports_that_cannot_be_are_refused() {
    let plan = rows::plan(&grid());
    let dir = results(&plan);
    let refusal = |run: &str, to: &str| {
        let output =
            scalefront(dir.path(), &["export", "results", "--run", run, "--to", to, "--out", "never.yaml"]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        assert!(!dir.path().join("never.yaml").exists());
        stderr(&output)
    };
    assert!(refusal("ffff", "hpa").contains("results: --run: no run has the id `ffff`"));
    let fixed = refusal(&plan.run_id(5), "hpa");
    assert!(
        fixed.contains(&plan.run_id(5)) && fixed.contains("set `replicas: 4` in its Deployment"),
        "{fixed}"
    );
    assert!(refusal(&plan.run_id(0), "keda").contains("export it with `--to hpa`"));
    let output = scalefront(dir.path(), &["export", "nowhere", "--run", "a", "--to", "hpa"]);
    assert!(
        output.status.code() == Some(2) && stderr(&output).starts_with("error: nowhere: no such directory, "),
        "{}",
        stderr(&output)
    );
    let manifest = dir.path().join("results/manifest.json");
    let old = fs::read_to_string(&manifest)
        .unwrap()
        .replace(&format!("\"results_version\": {RESULTS_VERSION}"), "\"results_version\": 1");
    fs::write(&manifest, old).unwrap();
    assert!(refusal(&plan.run_id(0), "hpa").contains("holds results of results version 1"));
}

#[test]
fn a_broken_manifest_is_named_with_its_place_in_the_grid() {
    let dir = tempfile::tempdir().unwrap();
    let refusal = |autoscaler: Value| {
        let mut grid = grid();
        grid["autoscalers"] = json!([autoscaler]);
        fs::write(dir.path().join("x.json"), format!("{grid:#}")).unwrap();
        let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
        assert_eq!(output.status.code(), Some(2), "{}", stdout(&output));
        stderr(&output)
    };
    let named = |path: &str| json!({"from_manifest": {"path": path}});
    let gone = refusal(named("gone.yaml"));
    assert!(
        gone.starts_with("error: x.json:34:17: autoscalers[0].from_manifest.path: `gone.yaml`: no such file"),
        "{gone}"
    );
    fs::write(
        dir.path().join("cpu.yaml"),
        "kind: HorizontalPodAutoscaler\napiVersion: autoscaling/v2\nspec: {maxReplicas: 3}\n",
    )
    .unwrap();
    assert!(
        refusal(named("cpu.yaml")).contains("cpu.yaml: spec.metrics: none found"),
        "{}",
        refusal(named("cpu.yaml"))
    );
    assert!(refusal(json!({"from_manifest": "cpu.yaml"})).contains("expected {\"path\": \"..\"}"));
    assert!(
        refusal(json!({"from_manifest": {"file": "cpu.yaml"}}))
            .contains("autoscalers[0].from_manifest.file: unknown field `file`")
    );
    fs::write(
        dir.path().join("ray.yaml"),
        "autoscaling_config: {target_ongoing_requests: -1, max_replicas: 3}\n",
    )
    .unwrap();
    let wrong = refusal(named("ray.yaml"));
    assert!(wrong.contains("x.json:34:17: autoscalers[0].ray_serve.target_per_replica: -1 found"), "{wrong}");
}

/// A floor for one family and not for another, and an axis of files.
#[test]
fn autoscalers_have_bounds_of_their_own() {
    let dir = tempfile::tempdir().unwrap();
    for (name, most) in [("a.yaml", 3), ("b.yaml", 5)] {
        fs::write(dir.path().join(name), format!("target_ongoing_requests: 4\nmax_replicas: {most}\n"))
            .unwrap();
    }
    let mut grid = grid();
    grid["cluster"] = json!({"min_replicas": 1, "max_replicas": 8});
    grid["autoscalers"] = json!([
        "hpa",
        {"keda": {}, "min_replicas": [2, 4], "max_replicas": 6},
        {"from_manifest": {"path": ["a.yaml", "b.yaml"]}, "label": "theirs"},
    ]);
    let parse = |grid: &Value| {
        let source = Source { file: "x.json".into(), text: grid.to_string() };
        Grid::parse(source, Path::new("x.json"), vec![dir.path().into()])
    };
    let plan = Plan::new(parse(&grid).unwrap()).unwrap();
    let cells: Vec<_> = plan.unique().iter().map(|&index| plan.cell(index)).collect();
    let bounds: Vec<(String, u32, u32, u32)> = cells
        .iter()
        .map(|cell| {
            (
                cell.family.clone(),
                cell.cluster.min_replicas,
                cell.cluster.initial_replicas,
                cell.cluster.max_replicas,
            )
        })
        .collect();
    let expected =
        [("hpa", 1, 1, 8), ("keda", 2, 2, 6), ("keda", 4, 4, 6), ("theirs", 1, 1, 3), ("theirs", 1, 1, 5)];
    assert_eq!(bounds, expected.map(|(family, least, first, most)| (family.to_owned(), least, first, most)));
    // The id is that of the settings, wherever they stand.
    grid["cluster"] = json!({"min_replicas": 4, "initial_replicas": 4, "max_replicas": 6});
    grid["autoscalers"] = json!(["keda"]);
    assert_eq!(Plan::new(parse(&grid).unwrap()).unwrap().run_id(0), plan.run_id(2));
    grid["autoscalers"] = json!([{"keda": {}, "min_replicas": 9}]);
    let error = parse(&grid).unwrap_err().to_string();
    assert!(
        error.contains("autoscalers[0].min_replicas: 9 found, expected at most `max_replicas` (6)"),
        "{error}"
    );
}
