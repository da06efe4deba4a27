//! The same rows to the bit: on any number of threads, in any order, in shards, after any interruption.

use std::path::Path;
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use scalefront::simulation::{Workspace, simulate};
use scalefront::sweep::plan::Plan;
use scalefront::sweep::plan::shard::Shard;
use scalefront::sweep::run::journal::{Header, Journal, Recorded};
use scalefront::sweep::run::{CellLimits, Progress, Stop, run_journaled};
use scalefront::sweep::tables::row::RunRow;
use scalefront::workload::{GenerateSpec, Streamed};
use serde_json::{Value, json};

use crate::rows::{Quiet, first_difference, plan};
use crate::scenario::Scenario;

/// Everything that draws or could depend on an order: failures, spread cold starts, random routing, several
/// workloads and seeds.
pub fn varied_grid() -> Value {
    let lengths = json!({"fixed": {"prefill_tokens": 256, "decode_tokens": 8}});
    json!({
        "name": "varied",
        "workloads": [
            {"name": "steady", "generate": {"arrivals": {"poisson": {"phases": [{"duration_s": 120, "rate_per_s": [10, 30]}]}}, "lengths": lengths}},
            {"name": "step", "generate": {"arrivals": {"poisson": {"phases": [
                {"duration_s": 60, "rate_per_s": 5}, {"duration_s": 60, "rate_per_s": 50}]}}, "lengths": lengths}}],
        "seeds": [1, 2],
        "cluster": {
            "global_scheduler": ["random", "least_outstanding"],
            "cold_start": {"spread_s": 2},
            "failures": {"mean_time_to_crash_s": [null, 300]}},
        "autoscalers": [{"static": {"replicas": 2}}, "inferline"]
    })
}

fn on_threads<T: Send>(threads: usize, work: impl FnOnce() -> T + Send) -> T {
    rayon::ThreadPoolBuilder::new().num_threads(threads).build().unwrap().install(work)
}

fn rows_of(plan: &Plan, dirs: &[&Path]) -> Vec<RunRow> {
    Recorded::read(dirs).unwrap().rows(plan).unwrap()
}

/// Runs `places` in their order into a directory of their own.
fn rows(plan: &Plan, places: &[usize], threads: usize) -> Vec<RunRow> {
    let dir = tempfile::tempdir().unwrap();
    let journal = Journal::create(dir.path(), &Header::new(plan, None, places.len())).unwrap();
    on_threads(threads, || run_journaled(plan, places, &CellLimits::default(), &journal, None, &Quiet))
        .unwrap();
    rows_of(plan, &[dir.path()])
}

#[track_caller]
fn assert_same(one: &[RunRow], other: &[RunRow]) {
    if let Some(difference) = first_difference(one, other) {
        panic!("first difference: {difference}");
    }
}

/// Interrupts after so many runs.
struct After(usize, AtomicUsize);

impl Progress for After {
    fn run_ended(&self, _requests: u64) {
        self.1.fetch_add(1, Ordering::Relaxed);
    }

    fn is_interrupted(&self) -> bool {
        self.1.load(Ordering::Relaxed) >= self.0
    }
}

#[test]
fn rows_do_not_depend_on_threads_order_shards_or_interruptions() {
    let plan = plan(&varied_grid());
    let all: Vec<usize> = (0..plan.unique().len()).collect();
    assert_eq!(all.len(), 48, "the grid is not what this test is about");
    let expected = rows(&plan, &all, 1);
    for threads in [2, 8] {
        assert_same(&expected, &rows(&plan, &all, threads));
    }
    // Backwards, and in strides that visit all.
    let backwards: Vec<usize> = all.iter().rev().copied().collect();
    assert_same(&expected, &rows(&plan, &backwards, 1));
    let strides: Vec<usize> = all.iter().map(|i| i * 17 % all.len()).collect();
    assert_same(&expected, &rows(&plan, &strides, 2));

    let dirs: Vec<_> = (0..5).map(|_| tempfile::tempdir().unwrap()).collect();
    for (number, dir) in (1..).zip(&dirs) {
        let shard = Shard::new(number, 5).unwrap();
        let places = shard.share(&plan);
        let journal = Journal::create(dir.path(), &Header::new(&plan, Some(shard), places.len())).unwrap();
        on_threads(2, || run_journaled(&plan, &places, &CellLimits::default(), &journal, None, &Quiet))
            .unwrap();
    }
    // In whatever order they are given.
    let paths: Vec<&Path> = dirs.iter().rev().map(|dir| dir.path()).collect();
    assert_same(&expected, &rows_of(&plan, &paths));

    let dir = tempfile::tempdir().unwrap();
    let header = Header::new(&plan, None, all.len());
    Journal::create(dir.path(), &header).unwrap();
    let mut rounds = 0;
    loop {
        let (journal, recorded) = Journal::resume(dir.path(), &header).unwrap();
        let left: Vec<usize> = all.iter().copied().filter(|&place| !recorded.holds(place)).collect();
        let progress = After(7, AtomicUsize::new(0));
        match on_threads(2, || run_journaled(&plan, &left, &CellLimits::default(), &journal, None, &progress))
        {
            Ok(()) => break,
            Err(Stop::Interrupted) => rounds += 1,
            Err(other) => panic!("{other:?}"),
        }
        assert!(progress.1.into_inner() <= 8, "a thread more than those that were asked to stop");
    }
    assert!(rounds >= 4, "{rounds} interruptions");
    let recorded = Recorded::read(&[dir.path()]).unwrap();
    assert_eq!((recorded.broken, recorded.doubled.len()), (0, 0));
    assert_same(&expected, &rows_of(&plan, &[dir.path()]));
}

/// A workload made as it is needed gives what one kept in memory gives, whatever the policy is told and
/// however many arrive at once.
#[test]
fn streamed_workloads_give_the_same_results() {
    let bursty = json!({"arrivals": {"gamma": {"rate_per_s": 60, "duration_s": 700, "cv": 2}},
        "lengths": {"uniform": {"prefill": {"min_tokens": 10, "max_tokens": 900}, "decode": {"min_tokens": 1, "max_tokens": 20}}}});
    // 20,000 arrivals at the same instant: no chunk holds them all.
    let crowd = json!({"arrivals": {"static": {"phases": [
        {"duration_s": 100, "rate_per_s": 0.5}, {"duration_s": 1e-15, "rate_per_s": 2e19}, {"duration_s": 5, "rate_per_s": 50}]}},
        "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 2}}});
    for generate in [bursty, crowd] {
        let spec: GenerateSpec = serde_json::from_value(generate).unwrap();
        let streamed = Streamed::workload(&spec, 3, 1000).unwrap();
        let kept = streamed.streamed.as_ref().unwrap().kept();
        assert!(kept.len() > 16_384, "{} requests fit a chunk", kept.len());
        for policy in ["inferline", "hpa", "frontier"] {
            let mut scenario = Scenario::new(
                json!({"max_replicas": 40, "global_scheduler": "least_outstanding"}),
                json!(policy),
                [],
            );
            scenario.workload = kept.clone();
            let expected = simulate(&scenario.inputs(), &mut Workspace::default()).unwrap();
            scenario.workload = streamed.clone();
            assert_eq!(
                simulate(&scenario.inputs(), &mut Workspace::default()).unwrap(),
                expected,
                "{policy}"
            );
        }
    }
}

/// Processors that fuse multiplication and addition and those that do not are one machine to a sweep: its cells have
/// the same ids, and their results the same bits. The C library's functions differ there; on Linux it can be told
/// to do without.
#[cfg(all(target_os = "linux", target_env = "gnu", target_arch = "x86_64"))]
#[test]
fn processors_do_not_matter() {
    let lengths = json!({"lognormal": {
        "prefill": {"mean_tokens": 1000, "cv": 0.7, "max_tokens": 8000},
        "decode": {"mean_tokens": 60, "cv": 0.7, "max_tokens": 500}}});
    let grid = json!({
        "workloads": [{"name": "w", "generate": {
            "arrivals": {"poisson": {"phases": [{"duration_s": 300, "rate_per_s": 6}]}}, "lengths": lengths}}],
        "cluster": {
            "model": "Qwen/Qwen3-32B", "node": "h100_dgx", "tensor_parallel": 2, "execution_time": "analytical",
            "replica_scheduler": "vllm_v1", "max_replicas": 8, "max_request_tokens": 10000},
        "autoscalers": [{"static": {"replicas": 3}}, {"frontier": {"level": [1.5, 2.5]}}]
    });
    let journal = |tunables: &str| {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("grid.json"), grid.to_string()).unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_scalefront"))
            .args(["sweep", "grid.json", "--shard", "1/1", "--threads", "1", "--out", "o"])
            .current_dir(dir.path())
            .env("GLIBC_TUNABLES", tunables)
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::read_to_string(dir.path().join("o/shard-1-of-1/journal.jsonl")).unwrap()
    };
    assert_eq!(
        journal(""),
        journal("glibc.cpu.hwcaps=-FMA,-FMA4,-AVX2,-FMA_Usable,-FMA4_Usable,-AVX2_Usable")
    );
}
