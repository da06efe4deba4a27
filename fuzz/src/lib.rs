//! What is done with hostile files: each function here takes any bytes and must return, without a panic, soon
//! and in little memory.
//!
//! The fuzz targets call these functions, and so does `tests/it/hostile.rs`, which includes this file; so
//! neither can rot. Files are what users hand over, so files are what the bytes become: in a directory of
//! this process, in memory where the system has such a place.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use scalefront::hardware::{Deployment, ExecutionTime, Files, check};
use scalefront::sweep::grid::{Grid, MAX_CELLS};
use scalefront::sweep::run::journal::JOURNAL;
use scalefront::sweep::run::journal::{Recorded, read_header};
use scalefront::sweep::store::{MANIFEST, read_manifest};
use scalefront::workload::describe::describe;
use scalefront::workload::formats::{TimeUnit, TraceFormat};
use scalefront::workload::trace::{TraceSpec, read};
use scalefront::workload::{self, WorkloadSpec};
use serde_json::json;

/// A directory that goes with the process.
fn scratch() -> &'static Path {
    static DIR: OnceLock<tempfile::TempDir> = OnceLock::new();
    let memory = Path::new("/dev/shm");
    DIR.get_or_init(|| {
        if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() }.expect("a directory")
    })
    .path()
}

/// A file of this thread.
fn file(name: &str, bytes: &[u8]) -> PathBuf {
    let dir = scratch().join(format!("{:?}", std::thread::current().id()).replace(['(', ')'], ""));
    let path = dir.join(name);
    fs::create_dir_all(path.parent().expect("in a directory")).expect("a directory");
    fs::write(&path, bytes).expect("a file");
    path
}

/// Most combinations of a grid's section that are worth a fuzzer's time: each is parsed by itself.
const MOST_COMBINATIONS: u64 = 2000;

/// A grid file: read, parsed, every combination checked. The error has to name the file.
pub fn grid(bytes: &[u8]) {
    if asks_for_many(bytes) {
        return;
    }
    let path = file("grid.json", bytes);
    match Grid::read(&path) {
        Ok(grid) => {
            assert!(grid.count() > 0);
            let last = grid.coordinates(grid.count() - 1);
            assert_eq!(last.workload, grid.workloads.len() - 1);
            grid.axes();
        }
        Err(error) => assert!(error.to_string().contains("grid.json"), "{error}"),
    }
}

/// Whether a text has an array or range that multiplies to more than is quick: sized from above by its commas
/// and its numbers.
fn asks_for_many(bytes: &[u8]) -> bool {
    let numbers = bytes.split(|byte| !byte.is_ascii_digit()).filter(|digits| digits.len() > 4).count();
    let lists = bytes
        .split(|&byte| byte == b'[')
        .skip(1)
        .map(|list| list.split(|&byte| byte == b']').next().unwrap_or_default());
    let product =
        lists.map(|list| list.split(|&byte| byte == b',').count() as u64).fold(1, u64::saturating_mul);
    product > MOST_COMBINATIONS || (numbers > 0 && bytes.windows(6).any(|six| six == b"\"from\""))
}

/// A trace: plain, gzip or Zstandard, its format told or guessed; what is read is described and written back.
/// Also a table of lengths and the files of a ServeGen client.
pub fn trace(bytes: &[u8]) {
    // What is in a file says nothing of how it is read: a byte of it decides, as it were at random.
    let choice = bytes.iter().fold(0u8, |sum, byte| sum.wrapping_mul(31).wrapping_add(*byte));
    let path = file("trace", bytes);
    if choice % 8 == 7 {
        return clients(bytes);
    }
    let mut spec = TraceSpec::new(&path);
    spec.decompressed_limit_bytes = 1 << 20;
    spec.format = TraceFormat::ALL.get(usize::from(choice % 8)).copied();
    spec.sort = choice & 8 != 0;
    spec.keep_failures = choice & 16 != 0;
    spec.max_tokens = (choice & 32 != 0).then_some(100);
    (spec.start_s, spec.duration_s) = if choice & 64 != 0 { (Some(1.0), Some(1e3)) } else { (None, None) };
    spec.time_unit = (choice & 128 != 0).then_some(TimeUnit::Seconds);
    match read(&spec, &[]) {
        Ok((workload, notes)) => {
            assert!(!workload.is_empty() && workload.arrived_at_s.is_sorted());
            assert!(workload.arrived_at_s.iter().all(|at_s| at_s.is_finite() && *at_s >= 0.0));
            assert!(workload.prefill_tokens.iter().chain(&workload.decode_tokens).all(|&tokens| tokens >= 1));
            describe(&workload);
            let copy = path.with_file_name("copy");
            if TraceFormat::Vidur.write(&workload, &copy).is_ok() {
                let (again, _) = read(&TraceSpec::new(&copy), &[]).expect("what was written is read");
                assert_eq!(
                    (again.arrived_at_s, again.decode_tokens),
                    (workload.arrived_at_s, workload.decode_tokens),
                    "{notes:?}"
                );
            }
        }
        Err(error) => assert!(error.to_string().contains("trace"), "{error}"),
    }
    let spec = json!({"name": "w", "generate": {
        "arrivals": {"static": {"rate_per_s": 10, "duration_s": 1}}, "lengths": {"empirical": {"path": path}}}});
    let spec: WorkloadSpec = serde_json::from_value(spec).expect("settings");
    let _ = workload::load(&spec, 1, &[]);
}

/// The bytes as windows and lengths of a ServeGen client.
fn clients(bytes: &[u8]) {
    const WINDOWS: &str = "0,0.5,1.0,Gamma,1.0,2.0\n600,1.0,1.0,,,\n";
    const LENGTHS: &str = r#"{"0": {"input_tokens": "{10: 0.5, 20: 0.5}", "output_tokens": "{5: 1.0}"}}"#;
    let (windows, lengths) = if bytes.trim_ascii_start().starts_with(b"{") {
        (WINDOWS.as_bytes(), bytes)
    } else {
        (bytes, LENGTHS.as_bytes())
    };
    let dir = file("servegen/chunk-0-trace.csv", windows).parent().expect("in a directory").to_owned();
    file("servegen/chunk-0-dataset.json", lengths);
    let spec =
        json!({"name": "w", "generate": {"servegen": {"dir": dir, "duration_s": 10.0, "rate_scale": 0.001}}});
    if let Ok(spec) = serde_json::from_value::<WorkloadSpec>(spec) {
        let _ = workload::load(&spec, 1, &[]);
    }
}

/// Measured times of hardware as CSV (operator tables, microsoft/vidur's profiles, steps to compare with) and
/// a model's config.json.
pub fn profile(bytes: &[u8]) {
    const ALL_REDUCE: &str = "num_tokens,all_reduce\n1,0.1\n4096,0.2\n";
    const VIDUR_ALL_REDUCE: &str =
        "time_stats.all_reduce.median,num_workers,size,devices_per_node\n0.3,4,131072,4\n0.5,4,524288,4\n";
    if bytes.trim_ascii_start().starts_with(b"{") {
        let path = file("config.json", bytes);
        let _ = Deployment::resolve(&path.display().to_string(), "a100_dgx", 1, 1, &Files::default());
        return;
    }
    let deployment =
        Deployment::resolve("meta-llama/Meta-Llama-3-70B", "a100_pairwise_nvlink", 4, 1, &Files::default())
            .expect("a known deployment");
    let load = |settings: serde_json::Value| {
        let settings = serde_json::from_value(settings).expect("settings");
        match ExecutionTime::load(&settings, &deployment, &Files::default()) {
            Ok(times) => assert!(times.stage_time_s(&batch(), 0) >= 0.0),
            Err(error) => assert!(error.to_string().contains(".csv"), "{error}"),
        }
    };
    let dir = file("table/ops_tp4.csv", bytes).parent().expect("in a directory").to_owned();
    file("table/all_reduce_tp4.csv", ALL_REDUCE.as_bytes());
    load(json!({"table": {"dir": dir}}));
    let mlp = file("vidur/mlp.csv", bytes);
    let all_reduce = file("vidur/all_reduce.csv", VIDUR_ALL_REDUCE.as_bytes());
    load(json!({"vidur": {"mlp": mlp, "all_reduce": all_reduce}}));
    let _ = check::read(&file("steps.csv", bytes));
}

fn batch() -> scalefront::hardware::BatchShape {
    let mut batch = scalefront::hardware::BatchShape::default();
    batch.add_prefill(300, 0);
    batch.add_decode(500);
    batch
}

/// A journal, and a manifest. Each line gets its checksum, or nothing but its first line would ever be looked
/// at; one that begins with `!` stays as it is.
pub fn journal(bytes: &[u8]) {
    let mut journal = Vec::new();
    for line in bytes.split_inclusive(|&byte| byte == b'\n') {
        if !line.starts_with(b"!") {
            journal.extend_from_slice(&blake3::hash(line.trim_ascii_end()).to_hex().as_bytes()[..16]);
            journal.push(b' ');
        }
        journal.extend_from_slice(line);
    }
    let path = file(JOURNAL, &journal);
    let dir = path.parent().expect("in a directory");
    if read_header(dir).is_ok() {
        let mut recorded = Recorded::read(&[dir]).expect("a journal with a good first line");
        assert!(recorded.header().runs as u64 <= MAX_CELLS);
        let places: Vec<usize> = (0..recorded.header().runs).filter(|&place| recorded.holds(place)).collect();
        assert_eq!(places.len(), recorded.len());
        for place in places {
            let _ = recorded.outcome(place).expect("a run that is recorded");
        }
    }
    let _ = read_manifest(&file(MANIFEST, bytes));
}

/// Tables: stored runs and curves, measured hardware.
#[cfg(feature = "report")]
pub fn parquet(bytes: &[u8]) {
    tables::parquet(&file("table.parquet", bytes));
}

#[cfg(feature = "report")]
mod tables {
    use std::path::Path;

    use scalefront::analysis::{analyse, read_runs, read_series, rows_with_curves};
    use scalefront::sweep::objectives::Objectives;
    use scalefront::sweep::plan::hardware_files::hardware_files;

    pub fn parquet(path: &Path) {
        if let Ok(runs) = read_runs(path, None) {
            let _ = analyse(&runs, &Objectives::default());
            let _ = rows_with_curves(&runs, &Objectives::default(), 10);
        }
        let _ = read_series(path, None);
        let read = hardware_files(&[]).parquet.expect("this build reads Parquet");
        let _ = read(path, &["gemm_dtype", "m", "n", "k", "latency", "run_id", "seed", "p90_e2e_s"]);
    }
}
