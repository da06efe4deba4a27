use std::path::Path;

use super::*;
use crate::sweep::grid::source::Source;

const WORKLOAD: &str = r#"{"name": "w", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 10, "rate_per_s": 5}]}}, "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}}"#;

fn plan(text: &str) -> Result<Plan, String> {
    plan_in(text, Path::new("nowhere"))
}

fn plan_in(text: &str, dir: &Path) -> Result<Plan, String> {
    let source = Source { file: "x.json".into(), text: text.into() };
    let grid =
        Grid::parse(source, Path::new("x.json"), vec![dir.into()]).map_err(|error| error.to_string())?;
    Plan::new(grid).map_err(|error| error.to_string())
}

fn with(sections: &str) -> String {
    format!("{{\"workloads\": [{WORKLOAD}],\n{sections}}}")
}

#[test]
fn equal_cells_run_once() {
    let plan = plan(&with(
        r#""seeds": [1, 2], "cluster": {"tune_interval_s": [5, 10, 5.0]}, "autoscalers": [{"static": {"replicas": [2, 3]}}, "inferline"]"#,
    ))
    .unwrap();
    assert_eq!(plan.planned(), 18);
    // Static: two settings whatever the interval; inferline: two intervals that differ; all of it under two
    // seeds.
    assert_eq!(plan.unique().len(), (2 + 2) * 2);
    assert_eq!((plan.duplicates(), plan.same_under_every_seed), (10, 0));
    assert_eq!(plan.inputs.workloads.len(), 2);
    assert_eq!(plan.inputs.hardware.len(), 1);
    let ids: BTreeSet<_> = plan.unique().iter().map(|&index| plan.id(&plan.cell(index))).collect();
    assert_eq!(ids.len(), plan.unique().len());
    assert_eq!(plan.total_requests(), plan.unique().iter().map(|&i| plan.requests(i)).sum::<u64>());
}

#[test]
fn a_trace_runs_once_whatever_the_seeds() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(
        dir.path().join("t.csv"),
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,256,1\n1.5,256,1\n",
    )
    .unwrap();
    let text = r#"{"workloads": [{"name": "t", "trace": {"path": "t.csv"}}], "seeds": [7, 8, 9], "autoscalers": ["inferline", "service_level"]}"#;
    let plan = plan_in(text, dir.path()).unwrap();
    assert_eq!(
        (plan.planned(), plan.unique().len(), plan.same_under_every_seed, plan.duplicates()),
        (6, 2, 4, 0)
    );
    assert!(plan.unique().iter().all(|&index| plan.cell(index).seed == 7));
    assert!(
        plan.describe()
            .to_string()
            .contains("  4 left out because their workload is the same under every seed\n")
    );
}

#[test]
fn workload_axes_make_workloads_of_their_own() {
    let workload = WORKLOAD.replace("\"rate_per_s\": 5", "\"rate_per_s\": [5, 50]");
    let plan =
        plan(&format!(r#"{{"workloads": [{workload}], "seeds": [1, 2], "autoscalers": ["inferline"]}}"#))
            .unwrap();
    assert_eq!(plan.inputs.workloads.len(), 4);
    let cell = |i| plan.cell(i);
    assert_eq!(cell(1).workload_name(), "w (rate_per_s=5)");
    assert_eq!(cell(2).workload_name(), "w (rate_per_s=50)");
    assert_eq!((cell(1).workload_input, cell(2).workload_input, cell(3).seed), (1, 2, 2));
    assert!(plan.requests(3) > plan.requests(0));
}

#[test]
fn the_world_is_checked() {
    let error =
        plan(&with(r#""cluster": {"tensor_parallel": [4, 1]}, "autoscalers": ["inferline"]"#)).unwrap_err();
    assert!(
        error.starts_with(
            "x.json:2:36: cluster.tensor_parallel[1]: meta-llama/Meta-Llama-3-70B does not fit:"
        ),
        "{error}"
    );
    let error =
        plan(&with(r#""cluster": {"execution_time": {"profile": {"attention": "lab_fit"}}}, "autoscalers": ["inferline"]"#)).unwrap_err();
    assert!(
        error.starts_with("x.json:2:31: cluster.execution_time: `lab_fit` attention is only defined"),
        "{error}"
    );
    assert!(error.ends_with("(workload `w`)"), "{error}");
}

#[test]
fn described() {
    let plan = plan(&with(
        r#""name": "demo", "question": "Which?", "cluster": {"global_scheduler": ["round_robin", "least_outstanding"]}, "autoscalers": [{"static": {"replicas": {"from": 1, "to": 20, "step": 1}}}]"#,
    ))
    .unwrap();
    let text = plan.describe().to_string();
    let requests = plan.requests(0);
    assert_eq!(
        text.lines().filter(|line| !line.starts_with("  w,")).collect::<Vec<_>>(),
        [
            "Plan of `demo` (x.json)",
            "Question: Which?",
            "",
            "Axes",
            "  cluster.global_scheduler        \"round_robin\", \"least_outstanding\"",
            "  autoscalers[0].static.replicas  1, 2, 3, 4, 5, 6, .., 20 (20 values)",
            "",
            "Families",
            "  static: 20 settings",
            "",
            "Policies",
            "  static: a fixed number of replicas",
            "",
            "Workloads",
            "",
            "Runs: 40 to run of 40 planned",
            &format!("Requests: {} in all", grouped(40 * requests)),
        ]
    );
}

/// Every id made by itself, by the book.
#[test]
fn equal_cells_are_found_as_by_comparing_all() {
    let text = with(
        r#""seeds": [1, 2, 1], "cluster": {"tune_interval_s": [5, 10, 5.0], "cold_start": {"spread_s": [0, 1]}},
           "autoscalers": [{"static": {"replicas": [2, 3, 2]}}, "inferline", {"label": "again", "inferline": {"look_back_s": [80, 90]}}]"#,
    );
    let plan = plan(&text).unwrap();
    let mut seen = BTreeSet::new();
    let expected: Vec<u64> =
        (0..plan.planned()).filter(|&index| seen.insert(plan.id(&plan.cell(index)))).collect();
    assert_eq!(plan.unique(), expected);
    assert!(expected.len() > 20 && plan.duplicates() > 0);
    assert!(
        expected.iter().enumerate().all(|(place, &index)| plan.run_id(place) == plan.id(&plan.cell(index)))
    );
}

/// Tables may change under the same name: then these are other runs.
#[test]
fn ids_follow_the_content_of_hardware_tables() {
    let dir = tempfile::tempdir().unwrap();
    let table = |norm: &str| {
        let header = "num_tokens,attn_pre_proj,attn_post_proj,mlp_up_proj,mlp_down_proj,mlp_act,input_layernorm,post_attention_layernorm,attn_rope,add";
        std::fs::write(
            dir.path().join("ops_tp4.csv"),
            format!("{header}\n1,1,1,1,1,1,{norm},1,1,1\n4096,2,2,2,2,2,2,2,2,2\n"),
        )
        .unwrap();
        std::fs::write(dir.path().join("all_reduce_tp4.csv"), "num_tokens,all_reduce\n1,0.1\n4096,0.2\n")
            .unwrap();
        let text =
            with(r#""cluster": {"execution_time": {"table": {"dir": "."}}}, "autoscalers": ["inferline"]"#);
        let plan = plan_in(&text, dir.path()).unwrap();
        (plan.id(&plan.cell(0)), plan.runs_hash)
    };
    let (one, same, other) = (table("1"), table("1"), table("1.25"));
    assert_eq!(one, same);
    assert!(one.0 != other.0 && one.1 != other.1);
}
