//! A made-up sweep, shaped like a real one: latency falls and cost rises with capacity, some cells fail, some
//! are unstable.

use std::path::Path;

use rand::{RngExt, SeedableRng};
use rand_xoshiro::Xoshiro256PlusPlus;
use scalefront::analysis::{self, rows_with_curves};
use scalefront::autoscaler::upstream::PolicyRecord;
use scalefront::simulation::{Distribution, MetricValue, RunMetrics};
use scalefront::sweep::grid::axes::AxisSummary;
use scalefront::sweep::objectives::{Objectives, Reference};
use scalefront::sweep::plan::WorkloadSummary;
use scalefront::sweep::store::manifest::{Manifest, Timings};
use scalefront::sweep::tables::row::{IDENTITY_COLUMNS, RunRow, RunSeries, Scalar, Series};
use serde_json::json;

pub struct Shape {
    pub workloads: Vec<&'static str>,
    pub seeds: i64,
    pub families: Vec<&'static str>,
    /// Cells per workload, seed and family.
    pub cells: usize,
    pub reference: Option<Reference>,
    pub failures: bool,
}

impl Shape {
    pub fn small() -> Self {
        Self {
            workloads: vec!["steps"],
            seeds: 3,
            families: vec!["static", "inferline", "service_level", "chiron"],
            cells: 5,
            reference: Some(Reference { latency: 0.5, cost: 50.0 }),
            failures: true,
        }
    }

    pub fn large() -> Self {
        Self {
            workloads: vec!["steps", "conv", "code <b>&"],
            seeds: 3,
            families: vec![
                "static",
                "inferline",
                "service_level",
                "chiron",
                "queue_depth",
                "utilization",
                "sageserve",
                "k8s_hpa",
                "oracle",
                "pid",
            ],
            cells: 112,
            reference: None,
            failures: true,
        }
    }
}

/// Writes `manifest.json`, `runs.parquet` and, with `curves`, `series.parquet` into `directory`.
pub fn write(directory: &Path, shape: &Shape, curves: bool) {
    std::fs::create_dir_all(directory).unwrap();
    let rows = rows(shape);
    let manifest = manifest(shape, &rows);
    let path = directory.join("runs.parquet");
    analysis::write_runs(&rows, &path).unwrap();
    if curves {
        let runs = analysis::read_runs(&path, None).unwrap();
        let on_fronts = rows_with_curves(&runs, &manifest.objectives, usize::MAX).unwrap();
        let series = on_fronts.iter().map(|&row| series(&id(&rows[row]), &rows)).collect::<Vec<_>>();
        analysis::write_series(&series, &directory.join("series.parquet")).unwrap();
    }
    std::fs::write(directory.join("manifest.json"), serde_json::to_vec_pretty(&manifest).unwrap()).unwrap();
}

fn id(row: &RunRow) -> String {
    match row.get("run_id") {
        Some(Scalar::Text(id)) => id.clone(),
        other => panic!("a row with the id {other:?}"),
    }
}

fn text(value: &str) -> Scalar {
    Scalar::Text(value.to_owned())
}

pub fn rows(shape: &Shape) -> Vec<RunRow> {
    let mut rows = Vec::new();
    for (w, workload) in shape.workloads.iter().enumerate() {
        for seed in 1..=shape.seeds {
            for (f, family) in shape.families.iter().enumerate() {
                for cell in 0..shape.cells {
                    rows.push(row(shape, rows.len(), (w, workload), seed, (f, family), cell));
                }
            }
        }
    }
    rows
}

fn row(
    shape: &Shape,
    number: usize,
    (w, workload): (usize, &str),
    seed: i64,
    (f, family): (usize, &str),
    cell: usize,
) -> RunRow {
    let mut random = Xoshiro256PlusPlus::seed_from_u64(number as u64);
    let router = ["round_robin", "least_outstanding"][cell % 2];
    let effort = (cell / 2 + 1) as f64 / (shape.cells as f64 / 2.0);
    let failed = shape.failures && cell == 3 && f == 1;
    let mut columns = vec![
        ("run_id".to_owned(), Scalar::Text(blake3::hash(&number.to_le_bytes()).to_hex()[..32].to_owned())),
        ("workload".to_owned(), text(workload)),
        ("seed".to_owned(), Scalar::Int(seed)),
        ("family".to_owned(), text(family)),
        ("policy".to_owned(), text(family)),
        ("status".to_owned(), text(if failed { "failed" } else { "ok" })),
        (
            "error".to_owned(),
            if failed {
                text("request 17 needs 5000 tokens, the cluster admits 4096; raise `max_request_tokens`")
            } else {
                Scalar::Null
            },
        ),
        ("model".to_owned(), text("meta-llama/Meta-Llama-3-70B")),
        ("node".to_owned(), text("a100_pairwise_nvlink")),
        ("tensor_parallel".to_owned(), Scalar::Int(4)),
        ("global_scheduler".to_owned(), text(router)),
        ("replica_scheduler".to_owned(), text("vllm")),
        ("replica_scheduler.batch_size_cap".to_owned(), Scalar::Int(16)),
        ("max_replicas".to_owned(), if f == 0 { Scalar::Null } else { Scalar::Int(64) }),
        ("autoscaler".to_owned(), text(family)),
    ];
    match f {
        0 => columns.push(("autoscaler.replicas".to_owned(), Scalar::Int(3 + cell as i64 / 2))),
        1 => {
            columns.push(("autoscaler.look_back_s".to_owned(), Scalar::Int([40, 80][cell % 2])));
            columns.push(("autoscaler.min_window_s".to_owned(), Scalar::Float(2.5 * (1 + cell / 2) as f64)));
        }
        _ => columns.push(("autoscaler.level".to_owned(), Scalar::Float(1.0 + cell as f64 / 2.0))),
    }
    let skill = 1.0 + 0.13 * ((f * 7 + w * 3) % 5) as f64;
    let noise = 1.0 + 0.06 * random.random::<f64>();
    let unstable = if cell == 0 && f != 1 { 900.0 } else { 1.0 };
    let latency = 0.09
        * skill
        * noise
        * (1.0 + 1.3 * (1.0 - effort).powi(2))
        * if cell.is_multiple_of(2) { 1.25 } else { 1.0 }
        * unstable;
    let cost = (26.0 + 22.0 * effort) * skill.sqrt() * (1.0 + 0.04 * random.random::<f64>());
    let distribution = |scale: f64| {
        let at = |factor: f64| latency * factor * scale;
        Distribution {
            mean: at(0.6),
            p50: at(0.55),
            p75: at(0.8),
            p90: at(1.0),
            p95: at(1.2),
            p99: at(1.9),
            max: at(3.1),
        }
    };
    let metrics = RunMetrics {
        num_requests: 126_000,
        num_completed: 125_990,
        num_rejected: if f == 2 { 10 } else { 0 },
        num_restarts: cell as u64 % 3,
        e2e_s: Some(distribution(1.0)),
        ttft_s: Some(distribution(0.6)),
        total_cost_usd: cost,
        mean_cost_usd_per_hour: cost / 1.02,
        mean_replicas: cost / 8.0,
        simulated_s: 3672.0,
        at_max_replicas_s: if f == 3 { 1800.0 } else { 0.0 },
        ..RunMetrics::default()
    };
    for (name, value) in metrics.columns() {
        let value = match value {
            MetricValue::Count(count) => Scalar::Int(count as i64),
            MetricValue::Number(number) => Scalar::Float(number),
            MetricValue::Absent => Scalar::Null,
        };
        columns.push((name, if failed { Scalar::Null } else { value }));
    }
    RunRow { columns }
}

fn number(row: &RunRow, name: &str) -> f64 {
    match row.get(name) {
        Some(Scalar::Float(value)) => *value,
        Some(Scalar::Int(value)) => *value as f64,
        other => panic!("{name}: {other:?}"),
    }
}

fn series(id: &str, rows: &[RunRow]) -> RunSeries {
    let (k, row) = rows.iter().enumerate().find(|(_, row)| row.get("run_id") == Some(&text(id))).unwrap();
    let mut random = Xoshiro256PlusPlus::seed_from_u64(k as u64);
    let rate = |t: f64| {
        if t < 1200.0 {
            20.0
        } else if t < 1800.0 {
            30.0
        } else if t < 3000.0 {
            50.0
        } else {
            40.0
        }
    };
    let (latency, cost) = (number(row, "p90_e2e_s"), number(row, "total_cost_usd"));
    let mut shared = Xoshiro256PlusPlus::seed_from_u64(number(row, "seed") as u64);
    let bins = (0..120).map(|i| f64::from(i) * 30.0);
    let arrivals = bins.clone().map(|t| (t, rate(t) + 4.0 * (shared.random::<f64>() - 0.5))).collect();
    let queue = bins.map(|t| (t, latency * rate(t) * random.random::<f64>())).collect();
    let mut replicas: Vec<(f64, f64)> = vec![(0.0, 1.0)];
    for t in (0..3600).step_by(40) {
        let target = (rate(f64::from(t)) * cost / 260.0 + random.random::<f64>()).round();
        if replicas.last().unwrap().1 != target {
            replicas.push((f64::from(t) + 10.0, target));
        }
    }
    let draining = replicas.iter().step_by(3).flat_map(|&(t, _)| [(t, 1.0), (t + 8.0, 0.0)]).collect();
    let cdf = (1..=200)
        .map(|i| f64::from(i) / 200.0)
        .map(|q| (latency * (0.25 + 0.75 * (-libm::log(1.0 - q + 0.004) / 2.3)), q))
        .collect();
    RunSeries {
        run_id: id.to_owned(),
        series: vec![
            Series { name: "num_replicas".into(), points: replicas },
            Series { name: "num_draining".into(), points: draining },
            Series { name: "queue_length".into(), points: queue },
            Series { name: "arrival_rate_per_s".into(), points: arrivals },
            Series { name: "e2e_cdf".into(), points: cdf },
        ],
    }
}

fn manifest(shape: &Shape, rows: &[RunRow]) -> Manifest {
    let metrics = RunMetrics::names();
    let mut setting_columns: Vec<String> = Vec::new();
    for (name, _) in rows.iter().flat_map(|row| &row.columns) {
        if !metrics.contains(name)
            && !IDENTITY_COLUMNS.contains(&name.as_str())
            && !setting_columns.contains(name)
        {
            setting_columns.push(name.clone());
        }
    }
    let failed = rows.iter().filter(|row| row.get("status") == Some(&text("failed"))).count();
    let workload = |name: &&str, seed: i64| WorkloadSummary {
        name: (*name).to_owned(),
        seed: seed as u64,
        requests: 126_000,
        prefill_tokens: 32_256_000,
        decode_tokens: 126_000,
        duration_s: 3600.0,
        traces: Vec::new(),
        fingerprint: blake3::hash(format!("{name}{seed}").as_bytes()).to_hex().to_string(),
    };
    Manifest {
        name: "made-up".to_owned(),
        question: None,
        scalefront_version: env!("CARGO_PKG_VERSION").to_owned(),
        results_version: scalefront::RESULTS_VERSION,
        command: "scalefront sweep sweeps/made-up.json".to_owned(),
        grid_file: "sweeps/made-up.json".to_owned(),
        grid: json!({"name": "made-up", "autoscalers": [{"static": {"replicas": [3, 4, 5]}}, {"service_level": {"level": [1, 2]}}]}),
        runs_hash: String::new(),
        tables: Default::default(),
        objectives: Objectives { reference: shape.reference, ..Objectives::default() },
        axes: vec![
            AxisSummary {
                path: "cluster.global_scheduler".to_owned(),
                values: vec![json!("round_robin"), json!("least_outstanding")],
            },
            AxisSummary {
                path: "autoscalers[0].static.replicas".to_owned(),
                values: vec![json!(3), json!(4), json!(5)],
            },
        ],
        workloads: shape
            .workloads
            .iter()
            .flat_map(|name| (1..=shape.seeds).map(move |seed| workload(name, seed)))
            .collect(),
        setting_columns,
        policies: vec![PolicyRecord {
            family: "service_level".to_owned(),
            policy: "service_level".to_owned(),
            program: "InferLine".to_owned(),
            version: "paper & lab".to_owned(),
            checked: "ported".to_owned(),
            left_out: String::new(),
        }],
        hardware: vec![
            "step times: embedded table of Meta-Llama-3-70B on A100 (measured), attention physical"
                .to_owned(),
        ],
        runs_planned: rows.len(),
        runs_ok: rows.len() - failed,
        runs_failed: failed,
        timings: Timings {
            threads: 2,
            wall_s: 12.5,
            runs_per_s: rows.len() as f64 / 12.5,
            requests_per_s: 1e6,
            finished_at: "2026-11-23T14:00:00Z".to_owned(),
            curves: 9,
            curves_s: 1.5,
            trials: 0,
            trials_s: 0.0,
        },
    }
}
