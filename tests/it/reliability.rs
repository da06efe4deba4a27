//! Nothing lost, nothing silent: kills, damage, interrupts, runs that fail or would never end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use scalefront::replica_scheduler::{Batch, KvBlocks, ReplicaScheduler, ReplicaState, Requests, Rule};
use scalefront::simulation::{
    Limits, Parts, RunInputs, SimulationError, Workspace, simulate, simulate_parts,
};
use scalefront::sweep::run::journal::JOURNAL;
use scalefront::sweep::run::journal::Recorded;
use serde_json::{Value, json};

use crate::cli::{directory_with, scalefront, small_grid, stderr, stdout};
use crate::rows::{first_difference, plan};
use crate::scenario::Scenario;

/// Kills of the test below; set the variable for more: `SCALEFRONT_KILLS=1000 cargo test --release
/// reliability::killed`.
const KILLS: u32 = 10;

/// Some hundred runs, each long enough to be killed in.
fn long_grid() -> Value {
    let mut grid = small_grid();
    grid["workloads"][0]["generate"]["arrivals"]["poisson"]["phases"][0] =
        json!({"duration_s": 600, "rate_per_s": 20});
    grid["seeds"] = json!([1, 2, 3, 4]);
    grid["autoscalers"] = json!([{"static": {"replicas": [2, 3, 4, 5]}}, {"inferline": {"look_back_s": {"from": 20, "to": 160, "step": 10}}}]);
    grid
}

/// The whole sweep as one shard: what a build without tables can do, too.
const AS_SHARD: [&str; 6] = ["sweep", "x.json", "--quiet", "--shard", "1/1", "--out"];

fn shard_dir(out: &Path) -> PathBuf {
    out.join("shard-1-of-1")
}

fn start(dir: &Path, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_scalefront"));
    command.args(arguments).current_dir(dir).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
}

/// Numbers in `[0, 1)` that are no one's choice, and the same every time.
struct Draws(u64);

impl Draws {
    fn next(&mut self) -> f64 {
        self.0 = self.0.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        (self.0 >> 40) as f64 / (1u64 << 24) as f64
    }
}

/// Cuts off the end of a journal, as a power loss may; never into its first line, which is synced before any
/// other is written.
fn truncate(journal: &Path, draw: f64) {
    let Ok(bytes) = fs::read(journal) else { return };
    let first = bytes.iter().position(|&byte| byte == b'\n').unwrap() + 1;
    let lost = (draw * 4000.0) as usize;
    fs::write(journal, &bytes[..bytes.len().saturating_sub(lost).max(first)]).unwrap();
}

#[test]
fn killed_sweeps_resume_to_the_same_rows() {
    let kills = std::env::var("SCALEFRONT_KILLS").map_or(KILLS, |kills| kills.parse().unwrap());
    let grid = long_grid();
    let dir = directory_with(&grid.to_string());
    let sweep = |out: &str, resume: bool| {
        let mut arguments = AS_SHARD.to_vec();
        arguments.push(out);
        arguments.extend(resume.then_some("--resume"));
        start(dir.path(), &arguments)
    };
    let plan = plan(&grid);
    let rows = |out: &str| {
        let mut recorded = Recorded::read(&[shard_dir(&dir.path().join(out))]).unwrap();
        recorded.rows(&plan).unwrap()
    };
    let started = Instant::now();
    assert!(sweep("undisturbed", false).wait().unwrap().success());
    let undisturbed = started.elapsed();
    let expected = rows("undisturbed");
    assert_eq!(expected.len(), 4 * 2 * (4 + 15));

    let mut draws = Draws(1);
    let (mut killed, mut midway, mut round) = (0, 0, 0);
    while killed < kills {
        let out = format!("killed{round}");
        let journal = shard_dir(&dir.path().join(&out)).join(JOURNAL);
        round += 1;
        // Up to five kills of one sweep; then it may finish.
        for _ in 0..5.min(kills - killed) {
            let mut child = sweep(&out, true);
            std::thread::sleep(undisturbed.mul_f64(draws.next()));
            child.kill().unwrap();
            child.wait().unwrap();
            killed += 1;
            let before =
                fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count());
            midway += u32::from(before > 1 && before < expected.len() + 1);
            if killed % 3 == 0 {
                truncate(&journal, draws.next());
            }
        }
        let output = sweep(&out, true).wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
        if let Some(difference) = first_difference(&expected, &rows(&out)) {
            panic!("sweep {round}, after {killed} kills: first difference: {difference}");
        }
        fs::remove_dir_all(dir.path().join(&out)).unwrap();
    }
    eprintln!(
        "{killed} kills, {midway} of them amid the runs of a sweep; {round} sweeps ended with the same rows"
    );
    assert!(midway > 0, "no kill came at a time when it could do harm");
}

/// A bit of a stored table that is no longer what it was is noticed by whoever reads it, and a resumed sweep
/// makes the table anew.
#[cfg(feature = "report")]
#[test]
fn stored_tables_that_have_changed_are_refused_and_made_again() {
    let dir = directory_with(&small_grid().to_string());
    let sweep = ["sweep", "x.json", "--quiet", "--out", "out", "--resume", "--oracle", "20"];
    let run = |arguments: &[&str]| {
        let output = scalefront(dir.path(), arguments);
        (output.status.code(), stderr(&output))
    };
    assert_eq!(run(&sweep), (Some(0), String::new()));
    let mut draws = Draws(3);
    for (name, readers) in [
        (
            "runs.parquet",
            vec![
                vec!["report", "out"],
                vec!["compare", "out", "--out", "compared"],
                vec!["oracle", "out", "--runs", "1"],
            ],
        ),
        ("series.parquet", vec![vec!["report", "out"]]),
        ("oracle.parquet", vec![vec!["report", "out"]]),
    ] {
        let path = dir.path().join("out").join(name);
        let stored = fs::read(&path).unwrap();
        for _ in 0..4 {
            let mut changed = stored.clone();
            changed[(draws.next() * stored.len() as f64) as usize] ^= 1 << (draws.next() * 8.0) as u32;
            fs::write(&path, &changed).unwrap();
            for arguments in &readers {
                let (code, said) = run(arguments);
                assert_eq!(code, Some(2), "{arguments:?} with another {name}: {said}");
                assert!(
                    said.contains(&format!("out/{name}: "))
                        && said.contains("it has changed since it was stored"),
                    "{said}"
                );
            }
        }
        let (code, said) = run(&sweep);
        assert_eq!(code, Some(0), "{said}");
        assert_eq!(
            said.contains("it has changed since it was stored; running the sweep again"),
            name != "oracle.parquet",
            "{said}"
        );
        assert!(fs::read(&path).unwrap() == stored, "another {name}");
    }
}

#[cfg(unix)]
#[test]
fn an_interrupt_stores_what_is_done_and_says_how_to_go_on() {
    stops_in_order("-INT");
}

/// What Slurm and Kubernetes send before they kill.
#[cfg(unix)]
#[test]
fn a_termination_stores_what_is_done_and_says_how_to_go_on() {
    stops_in_order("-TERM");
}

#[cfg(unix)]
fn stops_in_order(signal: &str) {
    let dir = directory_with(&long_grid().to_string());
    let mut arguments = AS_SHARD.to_vec();
    arguments.extend(["out", "--threads", "1"]);
    let mut child = start(dir.path(), &arguments);
    let journal = shard_dir(&dir.path().join("out")).join(JOURNAL);
    let deadline = Instant::now() + Duration::from_secs(60);
    while fs::read(&journal).map_or(0, |bytes| bytes.iter().filter(|&&byte| byte == b'\n').count()) < 3 {
        assert!(Instant::now() < deadline && child.try_wait().unwrap().is_none(), "nothing to interrupt");
        std::thread::sleep(Duration::from_millis(2));
    }
    assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    let said = stderr(&output);
    assert!(
        said.starts_with("interrupted: ")
            && said.contains(" of 152 runs are stored in out/shard-1-of-1; `scalefront sweep "),
        "{said}"
    );
    assert!(said.trim_end().ends_with("--resume` goes on"), "{said}");

    // Without being told so nobody goes on, or begins anew.
    let refused = scalefront(dir.path(), &arguments);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused)
            .contains("of a sweep that has not been finished; go on with it by --resume, choose another"),
        "{}",
        stderr(&refused)
    );
    // Nor with another grid.
    let mut other = long_grid();
    other["seeds"] = json!([5]);
    fs::write(dir.path().join("y.json"), other.to_string()).unwrap();
    arguments[1] = "y.json";
    arguments.push("--resume");
    let refused = scalefront(dir.path(), &arguments);
    assert_eq!(refused.status.code(), Some(2));
    assert!(
        stderr(&refused).contains("holds runs of another grid of the name `small`; choose another directory"),
        "{}",
        stderr(&refused)
    );

    arguments[1] = "x.json";
    let resumed = scalefront(dir.path(), &arguments);
    assert_eq!(resumed.status.code(), Some(0), "{}", stderr(&resumed));
    assert_eq!(Recorded::read(&[shard_dir(&dir.path().join("out"))]).unwrap().len(), 152);
}

/// Replicas that crash before they can finish anything: requests wait for ever.
fn hopeless_grid() -> Value {
    let mut grid = small_grid();
    grid["seeds"] = json!([1]);
    grid["cluster"] = json!({"failures": {"mean_time_to_crash_s": [null, 1e-6]}});
    grid
}

fn errors(dir: &Path) -> Vec<String> {
    let mut recorded = Recorded::read(&[shard_dir(dir)]).unwrap();
    (0..recorded.header().runs)
        .filter(|&place| recorded.holds(place))
        .collect::<Vec<_>>()
        .into_iter()
        .filter_map(|place| recorded.outcome(place).unwrap().err())
        .collect()
}

/// One run is called off as a sweep is: it looks up often enough.
#[cfg(all(unix, feature = "report"))]
#[test]
fn a_run_that_would_never_end_can_be_interrupted() {
    let mut grid = hopeless_grid();
    grid["cluster"]["failures"]["mean_time_to_crash_s"] = json!(1e-6);
    grid["workloads"] = json!([grid["workloads"][0]]);
    grid["autoscalers"] = json!([{"static": {"replicas": 1}}]);
    let dir = directory_with(&grid.to_string());
    let child = start(dir.path(), &["simulate", "x.json", "--out", "out"]);
    std::thread::sleep(Duration::from_secs(1));
    assert!(Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(130), "{}", stderr(&output));
    assert_eq!(stderr(&output), "interrupted: nothing was stored\n");
}

#[test]
fn runs_that_would_never_end_fail_with_their_reason() {
    let dir = directory_with(&hopeless_grid().to_string());
    let mut arguments = AS_SHARD.to_vec();
    arguments.extend(["out", "--max-events", "200000"]);
    let output = scalefront(dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(stderr(&output).starts_with("error: 2 of 4 runs failed; the first: run "), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let errors = errors(&dir.path().join("out"));
    assert_eq!(errors.len(), 2);
    for error in errors {
        assert!(error.starts_with("given up after 200000 events, at "), "{error}");
        assert!(
            error.contains(
                " replicas lost (do `failures` come faster than replicas serve? `--max-events` lets it go on)"
            ),
            "{error}"
        );
    }
}

/// Without a run that ended there is no front to draw: the reason is all there is to tell, now and when asked
/// again.
#[cfg(feature = "report")]
#[test]
fn a_sweep_whose_runs_all_failed_says_why() {
    let dir = directory_with(&small_grid().to_string());
    for again in [false, true] {
        let mut arguments = vec!["sweep", "x.json", "--out", "out", "--max-events", "10"];
        arguments.extend(again.then_some("--resume"));
        let output = scalefront(dir.path(), &arguments);
        assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
        assert!(stderr(&output).starts_with("error: 8 of 8 runs failed"), "{}", stderr(&output));
    }
}

#[test]
fn runs_that_keep_too_much_fail_with_their_reason() {
    let dir = directory_with(&small_grid().to_string());
    let mut arguments = AS_SHARD.to_vec();
    arguments.extend(["out", "--cell-memory", "8K"]);
    let output = scalefront(dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let errors = errors(&dir.path().join("out"));
    assert_eq!(errors.len(), 8);
    assert!(errors[0].starts_with("kept ") && errors[0].contains("more than the 8192 allowed"), "{errors:?}");
    for wrong in ["0", "-1", "much", "1T", "99999999999G"] {
        let refused = scalefront(dir.path(), &["sweep", "x.json", &format!("--cell-memory={wrong}")]);
        assert_eq!(refused.status.code(), Some(2));
        assert!(
            stderr(&refused).contains("expected a whole number above 0 of bytes"),
            "{}",
            stderr(&refused)
        );
    }
}

#[test]
fn runs_that_take_too_long_fail_with_their_reason() {
    let dir = directory_with(&hopeless_grid().to_string());
    let mut arguments = AS_SHARD.to_vec();
    arguments.extend(["out", "--cell-timeout", "0.2"]);
    let output = scalefront(dir.path(), &arguments);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    let errors = errors(&dir.path().join("out"));
    assert_eq!(errors.len(), 2);
    assert!(errors[0].starts_with("took longer than `--cell-timeout 0.2`: at "), "{errors:?}");
    let refused = scalefront(dir.path(), &["sweep", "x.json", "--cell-timeout", "0"]);
    assert!(stderr(&refused).contains("expected a number of seconds above 0"), "{}", stderr(&refused));
}

#[test]
fn fail_fast_stops_at_the_first_and_resume_goes_on() {
    let dir = directory_with(&small_grid().to_string());
    let run = |more: &[&str]| {
        let mut arguments = AS_SHARD.to_vec();
        arguments.extend(["out", "--max-events", "10", "--threads", "1"]);
        arguments.extend(more);
        scalefront(dir.path(), &arguments)
    };
    let output = run(&["--fail-fast"]);
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert!(
        stderr(&output).contains("stopped, as --fail-fast asks: 1 of 8 runs are stored in out/shard-1-of-1"),
        "{}",
        stderr(&output)
    );
    let again = run(&["--fail-fast", "--resume"]);
    assert!(
        again.status.code() == Some(2) && stderr(&again).contains("1 runs have failed already"),
        "{}",
        stderr(&again)
    );
    assert_eq!(run(&["--resume"]).status.code(), Some(1));
    assert_eq!(errors(&dir.path().join("out")).len(), 8);
}

fn ten_requests() -> Scenario {
    Scenario::new(json!({}), json!({"static": {"replicas": 1}}), (0..10).map(|i| (f64::from(i), 256, 4)))
}

/// Forgets to give one KV block back.
struct Leaky(Rule);

impl ReplicaScheduler for Leaky {
    fn form_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &mut Batch) {
        self.0.form_batch(replica, requests, batch);
    }

    fn end_batch(&self, replica: &mut ReplicaState, requests: &mut Requests, batch: &Batch) {
        self.0.end_batch(replica, requests, batch);
        if replica.kv.free == replica.kv.total {
            replica.kv.free -= 1;
        }
    }

    fn fits_empty(&self, kv: &KvBlocks, prefill_tokens: u32, decode_tokens: u32) -> bool {
        self.0.fits_empty(kv, prefill_tokens, decode_tokens)
    }

    fn would_admit(&self, replica: &ReplicaState, requests: &Requests) -> bool {
        self.0.would_admit(replica, requests)
    }
}

#[test]
fn a_leak_of_kv_blocks_is_found_unless_nobody_checks() {
    let scenario = ten_requests();
    let inputs = scenario.inputs();
    let leaky = || Parts {
        scheduler: Rule::Other(Box::new(Leaky(inputs.replica_scheduler()))),
        ..Parts::of(&inputs)
    };
    match simulate_parts(&inputs, leaky(), &mut Workspace::default()) {
        Err(SimulationError::Unbalanced(what)) => {
            assert!(what.contains("KV blocks free at the end"), "{what}")
        }
        other => panic!("{other:?}"),
    }
    let unchecked = RunInputs { limits: Limits { check: false, ..Limits::default() }, ..inputs.clone() };
    simulate_parts(&unchecked, leaky(), &mut Workspace::default()).unwrap();
    simulate(&inputs, &mut Workspace::default()).unwrap();
}

#[test]
fn the_bound_on_events_is_exact() {
    let scenario = ten_requests();
    let run = |most_events| {
        let inputs = RunInputs { limits: Limits { most_events, ..Limits::default() }, ..scenario.inputs() };
        simulate(&inputs, &mut Workspace::default())
    };
    // Found by halving: the least bound under which it ends.
    let least = (1..1000).collect::<Vec<u64>>().partition_point(|&most| run(most).is_err()) as u64 + 1;
    assert!(least > 10, "{least} events for ten requests");
    assert_eq!(run(least).unwrap(), run(u64::MAX).unwrap());
    match run(least - 1) {
        Err(SimulationError::TooManyEvents { events, .. }) => assert_eq!(events, least - 1),
        other => panic!("{other:?}"),
    }
}
