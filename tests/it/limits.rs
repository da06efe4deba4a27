//! What hostile or careless input may not do: sizes, absurd numbers, links. `docs/reliability.md` lists all
//! limits and their tests.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use crate::cli::{directory_with, scalefront, small_grid, stderr};

/// What `sweep x.json --dry-run` says of a wrong grid.
fn refusal(grid: &Value) -> String {
    let dir = directory_with(&grid.to_string());
    let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2), "{grid}\n{}", stderr(&output));
    stderr(&output)
}

#[test]
fn a_grid_file_may_have_16_mib() {
    let padded = |bytes: usize| {
        let grid = small_grid().to_string();
        format!("{grid}{}", " ".repeat(bytes - grid.len()))
    };
    let dir = directory_with(&padded(16 << 20));
    let read = || scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
    assert_eq!(read().status.code(), Some(0));
    fs::write(dir.path().join("x.json"), padded((16 << 20) + 1)).unwrap();
    assert!(
        stderr(&read()).contains("x.json: longer than 16777216 bytes, expected a grid file"),
        "{}",
        stderr(&read())
    );
    fs::write(dir.path().join("x.json"), b"{\"name\": \"\xff\"}").unwrap();
    assert!(stderr(&read()).contains("x.json: not UTF-8 text (byte 11)"), "{}", stderr(&read()));
}

/// A byte order mark, Windows line ends, no line end at the end: no matter.
#[test]
fn marks_and_line_ends_do_not_matter() {
    let text = serde_json::to_string_pretty(&small_grid()).unwrap();
    let plan = |text: &str| {
        let dir = directory_with(text);
        let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        // Times are measured.
        let said = String::from_utf8(output.stdout).unwrap();
        said.split_once("Estimated time").expect("an estimate").0.to_owned()
    };
    let expected = plan(&text);
    for quirk in [
        format!("\u{feff}{text}"),
        text.replace('\n', "\r\n"),
        format!("{text}\n\n"),
        format!("\u{feff}{}\r\n", text.replace('\n', "\r\n")),
    ] {
        assert_eq!(plan(&quirk), expected);
    }
}

/// Each of these once asked for all memory there is, for ever, or for a place beyond the end of a list.
#[test]
fn absurd_numbers_are_refused_with_what_is_expected() {
    let cluster = |settings: Value| {
        let mut grid = small_grid();
        grid["cluster"] = settings;
        refusal(&grid)
    };
    let said = cluster(json!({"max_replicas": 4_000_000_000u32, "initial_replicas": 3_000_000_000u32}));
    assert!(said.contains("cluster.max_replicas: 4000000000 found, expected at most 100000"), "{said}");
    let said = cluster(json!({"replica_scheduler": {"vllm": {"block_size_tokens": 4_000_000_000u32}}}));
    assert!(said.contains("block_size_tokens: 4000000000 found, expected at most 65536"), "{said}");
    for (setting, value) in [
        ("tune_interval_s", json!(0)),
        ("tune_interval_s", json!(-1)),
        ("scale_up_delay_s", json!(-0.5)),
        ("node_price_usd_per_hour", json!(-8)),
    ] {
        let said = cluster(json!({setting: value}));
        assert!(
            said.contains(&format!("cluster.{setting}: {value} found, expected a finite number ")),
            "{said}"
        );
    }
    let policy = |settings: Value| {
        let mut grid = small_grid();
        grid["autoscalers"] = json!([settings]);
        refusal(&grid)
    };
    let said = policy(json!({"static": {"replicas": 4_000_000_000u32}}));
    assert!(
        said.contains("autoscalers[0].static.replicas: 4000000000 found, expected at most 100000"),
        "{said}"
    );
    let said = policy(json!({"holt_winters": {"interval_s": 1, "season_s": 1e15}}));
    assert!(
        said.contains("season_s: 1000000000000000 found, expected at most 100000 of `interval_s` (1)"),
        "{said}"
    );
    let load = |rate_per_s: f64, duration_s: f64| {
        let mut grid = small_grid();
        grid["workloads"][0]["generate"]["arrivals"] =
            json!({"poisson": {"rate_per_s": rate_per_s, "duration_s": duration_s}});
        refusal(&grid)
    };
    let said = load(1e6, 1e6);
    assert!(
        said.contains("about 1000000000000 requests, expected at most 200000000; lower rates or durations"),
        "{said}"
    );
    let said = load(1e-11, 1e12);
    assert!(said.contains(" s drawn, expected none after 1000000000 s"), "{said}");
}

/// JSON knows neither; what overflows to an infinity is refused as well.
#[test]
fn numbers_that_are_none_are_refused() {
    for number in ["NaN", "Infinity", "-Infinity", "1e999", "0x10", "01"] {
        let text = small_grid().to_string().replace("\"rate_per_s\":10", &format!("\"rate_per_s\":{number}"));
        let dir = directory_with(&text);
        let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
        assert_eq!(output.status.code(), Some(2), "{number}: {}", stderr(&output));
        assert!(
            stderr(&output).contains("x.json:1:") && stderr(&output).contains("not valid JSON"),
            "{}",
            stderr(&output)
        );
    }
}

/// A trace with an arrival so late that a clock could not tell it from the next.
#[test]
fn arrivals_end_with_the_clocks_precision() {
    let mut grid = small_grid();
    grid["workloads"] = json!([{"name": "t", "trace": {"path": "t.csv"}}]);
    let dir = directory_with(&grid.to_string());
    fs::write(
        dir.path().join("t.csv"),
        "arrived_at,num_prefill_tokens,num_decode_tokens\n0.5,256,1\n1e18,256,1\n",
    )
    .unwrap();
    let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains("t.csv: an arrival at 1000000000000000000 s found (after `time_scale`), expected none after 1000000000 s"),
        "{said}"
    );
}

/// A table for a batch of more tokens than anyone has would have been filled up to it.
#[test]
fn tables_have_an_end() {
    let mut grid = small_grid();
    grid["cluster"] = json!({"execution_time": {"table": {"dir": "."}}});
    let dir = directory_with(&grid.to_string());
    let ops = "num_tokens,attn_pre_proj,attn_post_proj,mlp_up_proj,mlp_down_proj,mlp_act,input_layernorm,post_attention_layernorm,attn_rope,add";
    fs::write(
        dir.path().join("ops_tp4.csv"),
        format!("{ops}\n1,1,1,1,1,1,1,1,1,1\n1e18,1,1,1,1,1,1,1,1,1\n"),
    )
    .unwrap();
    fs::write(dir.path().join("all_reduce_tp4.csv"), "num_tokens,all_reduce\n1,0.1\n").unwrap();
    let output = scalefront(dir.path(), &["sweep", "x.json", "--dry-run"]);
    assert_eq!(output.status.code(), Some(2));
    let said = stderr(&output);
    assert!(
        said.contains(
            "ops_tp4.csv, line 3: column `num_tokens` is 1000000000000000000, expected at most 4194304"
        ),
        "{said}"
    );
}

/// What lies in a results directory under the name of a result is replaced, never followed.
#[cfg(unix)]
#[test]
fn links_in_a_results_directory_lead_nowhere() {
    use std::os::unix::fs::symlink;
    let dir = directory_with(&small_grid().to_string());
    let victim = dir.path().join("precious");
    fs::write(&victim, "as it was").unwrap();
    let (out, shard) = (dir.path().join("out"), dir.path().join("out/shard-1-of-1"));
    fs::create_dir_all(&shard).unwrap();
    let sweep = |more: &[&str]| {
        scalefront(dir.path(), &[&["sweep", "x.json", "--quiet", "--out", "out"], more].concat())
    };
    symlink(&victim, shard.join(".lock")).unwrap();
    let refused = sweep(&["--shard", "1/1"]);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("out/shard-1-of-1/.lock: a symbolic link found, expected none"),
        "{}",
        stderr(&refused)
    );
    fs::remove_file(shard.join(".lock")).unwrap();

    symlink(dir.path().join("not there"), shard.join("journal.jsonl")).unwrap();
    assert_eq!(sweep(&["--shard", "1/1"]).status.code(), Some(0));
    assert!(
        !dir.path().join("not there").exists()
            && shard.join("journal.jsonl").is_file()
            && !shard.join("journal.jsonl").is_symlink()
    );
    if cfg!(feature = "report") {
        let names =
            ["runs.parquet", "series.parquet", "fronts.csv", "hypervolume.csv", "report.html", "summary.md"];
        names.iter().for_each(|name| symlink(&victim, out.join(name)).unwrap());
        assert_eq!(sweep(&[]).status.code(), Some(0));
        assert!(names.iter().all(|name| !out.join(name).is_symlink()));
    }
    assert_eq!(fs::read_to_string(&victim).unwrap(), "as it was");
}

/// Names become directories: none may lead out of its parent.
#[test]
fn names_stay_in_their_directory() {
    for name in ["..", "../up", "/root/x", "a/b", "a\\b", ".hidden", "", "a\u{0}b", "-rf"] {
        let mut grid = small_grid();
        grid["name"] = json!(name);
        let said = refusal(&grid);
        assert!(said.contains("expected a name fit for a directory"), "{name:?}: {said}");
    }
    assert!(!Path::new("../up").exists());
}
