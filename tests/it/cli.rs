//! The command line as its users meet it: the built binary, files in a directory of its own.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::{Value, json};
use tempfile::TempDir;

/// Runs the binary in `dir`.
pub fn scalefront(dir: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_scalefront")).args(arguments).current_dir(dir).output().unwrap()
}

pub fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A small grid of eight runs.
pub fn small_grid() -> Value {
    json!({
        "name": "small",
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 10}]}},
            "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}}}}],
        "seeds": [1, 2],
        "cluster": {"global_scheduler": ["round_robin", "least_outstanding"]},
        "autoscalers": [{"static": {"replicas": 2}}, "inferline"]
    })
}

/// A directory that holds `grid` as `x.json`.
pub fn directory_with(grid: &str) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("x.json"), grid).unwrap();
    dir
}

/// What `sweep x.json --dry-run` says of a wrong grid; it has to exit with 2 and print nothing else.
fn refusal(grid: &str) -> String {
    let dir = directory_with(grid);
    refusal_in(dir.path(), &["sweep", "x.json", "--dry-run"])
}

fn refusal_in(dir: &Path, arguments: &[&str]) -> String {
    let output = scalefront(dir, arguments);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    stderr(&output)
}

const WORKLOADS: &str = r#"{
  "workloads": [{"name": "w", "generate": {
    "arrivals": {"poisson": {"phases": [{"duration_s": 60, "rate_per_s": 10}]}},
    "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 4}}}}],
"#;

fn with(sections: &str) -> String {
    format!("{WORKLOADS}  {sections}\n}}\n")
}

#[test]
fn a_misspelt_field_is_named_with_its_place() {
    assert_eq!(
        refusal(&with(r#""autoscalers": ["inferline", {"inferline": {"look_back": [40, 80]}}]"#)),
        "error: x.json:5:47: autoscalers[1].inferline.look_back: unknown field `look_back`, expected one of `look_back_s`, `min_window_s`, \
         `stabilization_delay_s`, `initial_replica_token_throughput`, `throughput_alpha`, `throughput_measure`; did you mean `look_back_s`?\n"
    );
}

#[test]
fn an_unknown_policy_is_answered_with_the_known_ones() {
    let refusal = refusal(&with(r#""autoscalers": [{"infer_line": {}}]"#));
    assert!(
        refusal.starts_with("error: x.json:5:19: autoscalers[0]: unknown variant `infer_line`, expected one of `static`, `inferline`, "),
        "{refusal}"
    );
    assert!(refusal.ends_with("; did you mean `inferline`?\n"), "{refusal}");
}

#[test]
fn a_negative_rate_is_refused() {
    assert_eq!(
        refusal(
            &with(r#""autoscalers": ["inferline"]"#)
                .replace("\"rate_per_s\": 10", "\"rate_per_s\": [10, -10]")
        ),
        "error: x.json:3:79: workloads[0].generate.arrivals.poisson.phases[0].rate_per_s[1]: -10 found, expected a finite number of at least 0\n"
    );
}

#[test]
fn an_empty_axis_is_refused() {
    assert_eq!(
        refusal(&with(r#""cluster": {"tune_interval_s": []}, "autoscalers": ["inferline"]"#)),
        "error: x.json:5:34: cluster.tune_interval_s: an empty list found, expected a value, or an axis of at least one value\n"
    );
}

fn trace_grid() -> &'static str {
    r#"{
  "workloads": [{"name": "t", "trace": {"path": "traces/t.csv"}}],
  "autoscalers": ["inferline"]
}"#
}

/// A directory with [`trace_grid`] and a trace of `rows`.
fn trace_directory(rows: &str) -> TempDir {
    let dir = directory_with(trace_grid());
    fs::create_dir(dir.path().join("traces")).unwrap();
    fs::write(
        dir.path().join("traces/t.csv"),
        format!("arrived_at,num_prefill_tokens,num_decode_tokens\n{rows}"),
    )
    .unwrap();
    dir
}

#[test]
fn a_missing_trace_is_looked_for_beside_the_grid_and_here() {
    let dir = directory_with(trace_grid());
    fs::create_dir(dir.path().join("sweeps")).unwrap();
    fs::rename(dir.path().join("x.json"), dir.path().join("sweeps/x.json")).unwrap();
    assert_eq!(
        refusal_in(dir.path(), &["sweep", "x.json"]),
        "error: sweeps/x.json:2:49: workloads[0].trace.path: `traces/t.csv`: no such file or directory; looked for `sweeps/traces/t.csv`, `traces/t.csv`\n"
    );
}

#[test]
fn a_bad_row_of_a_trace_is_named_by_its_line() {
    let dir = trace_directory("0.5,256,1\n0.7,many,1\n");
    assert_eq!(
        refusal_in(dir.path(), &["sweep", "x.json"]),
        "error: x.json:2:49: workloads[0].trace.path: traces/t.csv, line 3, column `num_prefill_tokens`: `many` found, expected a number of tokens from 0 to 1000000000\n"
    );
}

#[test]
fn an_unsorted_trace_is_refused_with_a_remedy() {
    let dir = trace_directory("0.5,256,1\n0.25,256,1\n");
    assert_eq!(
        refusal_in(dir.path(), &["sweep", "x.json"]),
        "error: x.json:2:49: workloads[0].trace.path: traces/t.csv, line 3: arrives 0.25 s before the request above it, \
         expected arrivals in order of time; sort the trace, or set `sort` to true\n"
    );
}

#[test]
fn a_model_that_does_not_fit_is_told_what_would() {
    assert_eq!(
        refusal(&with(r#""cluster": {"tensor_parallel": 1}, "autoscalers": ["inferline"]"#)),
        "error: x.json:5:34: cluster.tensor_parallel: meta-llama/Meta-Llama-3-70B does not fit: with tensor parallel 1 and pipeline parallel 1 \
         each a100 needs 127.5 GiB for weights and 1.25 GiB for one request of 4096 tokens, but has 72.0 GiB; \
         the smallest `tensor_parallel` that fits is 2\n"
    );
}

#[test]
fn a_results_directory_that_cannot_be_written_is_refused_before_anything_runs() {
    let dir = directory_with(&small_grid().to_string());
    fs::write(dir.path().join("file"), "").unwrap();
    let refusal = refusal_in(dir.path(), &["sweep", "x.json", "--out", "file/results"]);
    assert!(refusal.starts_with("error: file/results: cannot make the results directory: "), "{refusal}");
}

#[test]
fn a_missing_grid_is_named() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(
        refusal_in(dir.path(), &["sweep", "gird.json"]),
        "error: gird.json: no such file, nor sweeps/gird.json\n"
    );
}

#[test]
fn simulate_takes_one_run() {
    let dir = directory_with(&small_grid().to_string());
    assert_eq!(
        refusal_in(dir.path(), &["simulate", "x.json"]),
        "error: x.json: 8 runs found, `simulate` takes one; give one value to `seeds`, `autoscalers`, `cluster.global_scheduler`, or use `scalefront sweep`\n"
    );
}

#[test]
fn a_dry_run_prints_the_plan_and_writes_nothing() {
    let dir = directory_with(&small_grid().to_string());
    let output =
        scalefront(dir.path(), &["sweep", "x.json", "--dry-run", "--threads", "3", "--seed-offset", "100"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let plan = stdout(&output);
    assert!(plan.starts_with("Plan of `small` (x.json)\n"), "{plan}");
    assert!(plan.contains("\nRuns: 8 to run of 8 planned\n"), "{plan}");
    assert!(plan.contains("  w, seed 101: ") && plan.contains("  w, seed 102: "), "{plan}");
    assert!(plan.contains("\nEstimated time: ") && plan.contains(" on 3 threads\n"), "{plan}");
    assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
}

#[test]
fn objectives_are_checked_before_anything_runs() {
    let refused = |objectives: &str| {
        refusal(&with(&format!("\"autoscalers\": [\"inferline\"],\n\"objectives\": {objectives}")))
    };
    let said = refused(r#"{"latency": "p99_tfft_s"}"#);
    assert!(
        said.starts_with(
            "error: x.json:6:27: objectives.latency: unknown metric `p99_tfft_s`, expected one such as"
        ),
        "{said}"
    );
    assert!(said.ends_with("did you mean `p99_ttft_s`?\n"), "{said}");
    let said = refused(r#"{"latency": "attainment"}"#);
    assert!(
        said.contains("of which more is better") && said.contains("`violation_rate` can be minimised"),
        "{said}"
    );
    let said = refused(r#"{"latency": "violation_rate"}"#);
    assert!(said.contains("`violation_rate` needs `cluster.latency_limits`"), "{said}");
    let single = with(r#""autoscalers": ["inferline"], "objectives": {"latency": "p90_tpot_s"}"#);
    let said = refusal(&single.replace("\"decode_tokens\": 4", "\"decode_tokens\": 1"));
    assert!(
        said.contains(
            "`p90_tpot_s` needs requests with more than one output token; those of workload `w` have one"
        ),
        "{said}"
    );
    let said = refused(r#"{"group_by": ["global_schedular"]}"#);
    assert!(said.contains("objectives.group_by[0]: no run has a setting `global_schedular`"), "{said}");
    assert!(said.ends_with("did you mean `global_scheduler`?\n"), "{said}");
}

#[test]
fn constraints_are_checked_before_anything_runs() {
    let refused = |constraints: &str| {
        refusal(&with(&format!(
            "\"autoscalers\": [\"inferline\"],\n\"objectives\": {{\"constraints\": {constraints}}}"
        )))
    };
    let said = refused(r#"{"p99_tfft_s": 2}"#);
    assert!(
        said.starts_with(
            "error: x.json:6:46: objectives.constraints.p99_tfft_s: unknown metric `p99_tfft_s`"
        ),
        "{said}"
    );
    assert!(said.ends_with("did you mean `p99_ttft_s`?\n"), "{said}");
    let said = refused(r#"{"attainment": 0.99}"#);
    assert!(
        said.contains("objectives.constraints.attainment: `attainment` needs `cluster.latency_limits`"),
        "{said}"
    );
    let said = refused(r#"{"p99_ttft_s": {"v": 2}}"#);
    assert!(
        said.contains("objectives.constraints.p99_ttft_s.v: no workload is called `v`, expected one of `w`"),
        "{said}"
    );
    let said = refused(r#"{"p99_ttft_s": [2, 3]}"#);
    assert!(said.contains("objectives.constraints.p99_ttft_s: several values found, expected one"), "{said}");
    let grid = with(
        r#""autoscalers": ["inferline"], "objectives": {"constraints": {"p99_ttft_s": {"w": 2}, "p90_e2e_s": 20}}"#,
    );
    let dir = directory_with(&grid);
    let plan = stdout(&scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]));
    assert!(plan.contains("\nConstraints\n  w: p99_ttft_s ≤ 2, p90_e2e_s ≤ 20\n"), "{plan}");
}

#[test]
fn a_range_within_a_list_of_seeds_stands_for_its_values() {
    let grid = with(r#""seeds": [7, {"from": 1, "to": 3, "step": 1}], "autoscalers": ["inferline"]"#);
    let dir = directory_with(&grid);
    let plan = stdout(&scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]));
    assert!([7, 1, 2, 3].iter().all(|seed| plan.contains(&format!("  w, seed {seed}: "))), "{plan}");
    let said = refusal(&with(r#""seeds": [[1, 2], 3], "autoscalers": ["inferline"]"#));
    assert!(said.contains("seeds[0]: [1,2] found, expected a whole number from 0 to"), "{said}");
}

/// A hint can be pasted whatever the paths; the system's reason is given once.
#[test]
fn hints_quote_paths_and_reasons_come_once() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("my grid.json"), small_grid().to_string()).unwrap();
    let output = scalefront(dir.path(), &["sweep", "my grid.json", "--shard", "1/2", "--out", "two parts"]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let said = refusal_in(dir.path(), &["merge", "two parts"]);
    assert!(
        said.contains("`scalefront sweep 'my grid.json' --shard 2/2 --out 'two parts'` runs it"),
        "{said}"
    );
    let said = refusal_in(dir.path(), &["sweep", "my grid.json", "--out", "my grid.json/below"]);
    assert_eq!(
        said,
        "error: my grid.json/below: cannot make the results directory: `my grid.json`: a file found, expected a directory\n"
    );
}

#[test]
fn usage_errors_exit_with_2_and_help_with_0() {
    let dir = tempfile::tempdir().unwrap();
    assert!(refusal_in(dir.path(), &["sweep"]).contains("Usage: scalefront sweep"));
    for threads in ["0", "-1", "two"] {
        let said = refusal_in(dir.path(), &["sweep", "x.json", &format!("--threads={threads}")]);
        assert!(
            said.contains("--threads") && said.contains("expected a whole number of at least 1"),
            "{said}"
        );
    }
    let help = scalefront(dir.path(), &["--help"]);
    assert_eq!(help.status.code(), Some(0));
    for command in ["sweep", "simulate", "report", "schema"] {
        assert!(stdout(&help).contains(&format!("\n  {command} ")), "{command}");
    }
}

#[cfg(not(feature = "report"))]
#[test]
fn without_tables_a_sweep_says_what_is_missing_and_leaves_nothing() {
    let dir = directory_with(&small_grid().to_string());
    let refusal = refusal_in(dir.path(), &["sweep", "x.json"]);
    assert!(refusal.contains("build it with its default feature `report`"), "{refusal}");
    assert!(!dir.path().join("results/small").exists());
}

#[cfg(feature = "report")]
mod results {
    use super::*;

    fn files(dir: &Path) -> Vec<String> {
        let mut names: Vec<_> = fs::read_dir(dir)
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_sweep_leaves_the_documented_files_whatever_the_threads() {
        let dir = directory_with(&small_grid().to_string());
        let mut runs = Vec::new();
        for threads in ["1", "4"] {
            let output = scalefront(dir.path(), &["sweep", "x.json", "--threads", threads, "--out", threads]);
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            assert_eq!(stderr(&output), "", "progress where there is no terminal");
            runs.push(
                ["runs.parquet", "series.parquet", "fronts.csv", "hypervolume.csv"]
                    .map(|name| fs::read(dir.path().join(threads).join(name)).unwrap()),
            );
        }
        assert!(runs[0] == runs[1], "results depend on the number of threads");
        let expected = [
            "attainment.csv",
            "contributions.csv",
            "fronts.csv",
            "fronts.parquet",
            "hypervolume.csv",
            "manifest.json",
            "plots",
            "report.html",
            "runs.parquet",
            "series.parquet",
            "summary.md",
            "verdict.json",
        ];
        assert_eq!(files(&dir.path().join("1")), expected);

        let manifest: Value =
            serde_json::from_slice(&fs::read(dir.path().join("1/manifest.json")).unwrap()).unwrap();
        assert_eq!(manifest["grid"], small_grid());
        assert_eq!([&manifest["runs_planned"], &manifest["runs_ok"], &manifest["runs_failed"]], [8, 8, 0]);
        assert!(manifest["setting_columns"].as_array().unwrap().contains(&json!("autoscaler.look_back_s")));

        // The same grid again replaces its results; another one may not.
        let again = scalefront(dir.path(), &["sweep", "x.json", "--quiet", "--out", "1"]);
        assert_eq!((again.status.code(), stdout(&again)), (Some(0), String::new()));
        let refusal = refusal_in(dir.path(), &["sweep", "x.json", "--out", "1", "--seed-offset", "1"]);
        assert_eq!(
            refusal,
            "error: 1: holds results of another grid of the name `small`; choose another directory with --out, or remove this one\n"
        );

        let report = scalefront(dir.path(), &["report", "1"]);
        assert_eq!(report.status.code(), Some(0), "{}", stderr(&report));
    }

    #[test]
    fn a_simulation_leaves_its_detail() {
        let mut grid = small_grid();
        grid["seeds"] = json!([1]);
        grid["cluster"] = json!({});
        grid["autoscalers"] = json!(["inferline"]);
        let dir = directory_with(&grid.to_string());
        let output = scalefront(dir.path(), &["simulate", "x.json", "--out", "one"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        assert_eq!(
            files(&dir.path().join("one")),
            ["batches.csv", "decisions.csv", "replicas.csv", "requests.csv", "summary.json"]
        );
        let summary: Value =
            serde_json::from_slice(&fs::read(dir.path().join("one/summary.json")).unwrap()).unwrap();
        let lines = |name: &str| {
            fs::read_to_string(dir.path().join("one").join(name))
                .unwrap()
                .lines()
                .map(String::from)
                .collect::<Vec<_>>()
        };
        let requests = lines("requests.csv");
        assert_eq!(
            requests[0],
            "request_id,arrived_at_s,prefill_tokens,decode_tokens,replica_id,scheduled_at_s,first_token_at_s,completed_at_s,restarts,cached_tokens"
        );
        assert_eq!(summary["num_requests"], requests.len() - 1);
        assert_eq!(
            lines("batches.csv")[0],
            "batch_id,replica_id,scheduled_at_s,completed_at_s,num_requests,prefill_tokens,decode_tokens"
        );
        assert_eq!(
            lines("replicas.csv")[0],
            "time_s,num_replicas,num_draining,cost_per_hour_usd,num_starting"
        );
        let decisions = lines("decisions.csv");
        assert_eq!(
            decisions[0],
            "time_s,num_replicas,pending_scale_ups,pending_scale_downs,outstanding_requests,decided,applied,evidence,value"
        );
        assert!(
            decisions.len() > 4 && decisions[1..].iter().all(|line| line.split(',').count() == 9),
            "{decisions:?}"
        );
        // Another run in the same place leaves nothing of this one, and whatever is not a run's alone.
        fs::write(dir.path().join("one/notes.txt"), "mine").unwrap();
        let again = |more: &[&str]| {
            let output = scalefront(dir.path(), &[&["simulate", "x.json", "--out", "one"], more].concat());
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            files(&dir.path().join("one")).join(" ")
        };
        assert_eq!(
            again(&["--format", "parquet", "--time-series", "--chrome-trace"]),
            "batches.parquet chrome_trace.json decisions.parquet notes.txt replicas.parquet requests.parquet series.parquet summary.json"
        );
        assert_eq!(again(&[]), "batches.csv decisions.csv notes.txt replicas.csv requests.csv summary.json");
    }

    /// Objectives judge runs and do not change them: mended, they judge the runs that are there.
    #[test]
    fn a_grid_whose_objectives_were_mended_reuses_its_runs() {
        let mut grid = small_grid();
        let dir = directory_with(&grid.to_string());
        let sweep = |more: &[&str]| {
            let output = scalefront(dir.path(), &[&["sweep", "x.json", "--out", "one"], more].concat());
            assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
            output
        };
        sweep(&[]);
        let read = |name: &str| fs::read(dir.path().join("one").join(name)).unwrap();
        let (runs, started) =
            (read("runs.parquet"), serde_json::from_slice::<Value>(&read("manifest.json")).unwrap());
        grid["objectives"] = json!({"latency": "p99_ttft_s", "group_by": ["global_scheduler"]});
        fs::write(dir.path().join("x.json"), grid.to_string()).unwrap();
        let again = sweep(&[]);
        assert!(stderr(&again).contains("judged anew"), "{}", stderr(&again));
        let manifest: Value = serde_json::from_slice(&read("manifest.json")).unwrap();
        assert_eq!(manifest["timings"]["wall_s"], started["timings"]["wall_s"], "nothing was run");
        assert_eq!(manifest["objectives"]["latency"], "p99_ttft_s");
        assert!(read("runs.parquet") != runs, "families are told apart by their router now");
        assert!(String::from_utf8_lossy(&read("hypervolume.csv")).contains("static / round_robin"));
        // As if it had been run so.
        let fresh = scalefront(dir.path(), &["sweep", "x.json", "--out", "two", "--quiet"]);
        assert_eq!(fresh.status.code(), Some(0), "{}", stderr(&fresh));
        for name in ["runs.parquet", "series.parquet", "fronts.csv", "hypervolume.csv"] {
            assert!(read(name) == fs::read(dir.path().join("two").join(name)).unwrap(), "{name}");
        }
    }

    /// What is not a finished sweep is told from one that goes on or is to be joined.
    #[test]
    fn directories_without_a_finished_sweep_are_told_apart() {
        let dir = directory_with(&small_grid().to_string());
        let refusal = |command: &[&str]| refusal_in(dir.path(), command);
        fs::create_dir(dir.path().join("empty")).unwrap();
        for command in ["report", "compare", "oracle"] {
            let said = refusal(&[command, "empty"]);
            let expected = "expected the results directory of a sweep, such as results/lab3\n";
            assert_eq!(said, format!("error: empty: no manifest.json found, {expected}"));
            assert_eq!(refusal(&[command, "gone"]), format!("error: gone: no such directory, {expected}"));
            assert_eq!(refusal(&[command, "x.json"]), format!("error: x.json: a file found, {expected}"));
        }
        assert_eq!(
            scalefront(dir.path(), &["sweep", "x.json", "--shard", "1/2", "--out", "parts"]).status.code(),
            Some(0)
        );
        for command in ["report", "compare", "oracle"] {
            let said = refusal(&[command, "parts"]);
            assert!(
                said.contains("holds shards of a sweep; `scalefront merge parts --out parts` joins them"),
                "{said}"
            );
            let said = refusal(&[command, "parts/shard-1-of-2"]);
            assert!(
                said.contains("holds a sweep that is not finished; `scalefront sweep GRID --out "),
                "{said}"
            );
        }
        let said = refusal(&["merge", "parts"]);
        assert!(said.contains("`scalefront sweep x.json --shard 2/2 --out parts` runs it"), "{said}");
        let said = refusal(&["oracle", "empty", "--step-s", "0.0000001"]);
        assert!(
            said.starts_with("error: --step-s: 0.0000001 found, expected a finite number of at least 0.001"),
            "{said}"
        );
    }
}

/// What `generate` writes, `convert` translates and `describe` describes.
#[test]
fn traces_are_made_translated_and_described() {
    let dir = tempfile::tempdir().unwrap();
    fs::write(dir.path().join("g.json"), small_grid().to_string()).unwrap();
    let run = |arguments: &[&str]| stdout(&scalefront(dir.path(), &[&["trace"], arguments].concat()));
    let generated = run(&["generate", "g.json", "--out", "made.csv", "--seed", "3"]);
    assert!(generated.starts_with("made.csv: "), "{generated}");
    run(&["convert", "made.csv", "--out", "made.jsonl", "--to", "mooncake"]);
    run(&["convert", "made.jsonl", "--out", "again.csv"]);
    let read = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    assert_eq!(read("made.csv").lines().count(), read("made.jsonl").lines().count() + 1);
    assert_eq!(read("made.csv"), read("again.csv"));
    let described = run(&["describe", "made.csv"]);
    assert!(described.contains("interarrival CV") && described.contains("dispersion"), "{described}");
    let missing = scalefront(dir.path(), &["trace", "describe", "none.csv"]);
    assert_eq!(missing.status.code(), Some(2));
    assert!(stderr(&missing).contains("none.csv"), "{}", stderr(&missing));
}
