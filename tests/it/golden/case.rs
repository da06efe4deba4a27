//! A recorded run, request by request, and a run of ours held against it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use scalefront::autoscaler::AutoscalerSettings;
use scalefront::hardware::{Deployment, ExecutionTime, Files};
use scalefront::simulation::{
    ClusterSettings, Detail, RunInputs, RunMetrics, Workspace, simulate, simulate_in_detail,
};
use scalefront::workload::Workload;
use serde_json::{Value, json};

const TIME_TOLERANCE_S: f64 = 1e-6;
const COST_TOLERANCE: f64 = 1e-9;

pub struct Case {
    pub dir: PathBuf,
    pub summary: Value,
    pub workload: Workload,
    pub cluster: ClusterSettings,
    pub autoscaler: AutoscalerSettings,
}

/// Largest deviations found.
#[derive(Debug, Default)]
pub struct Deviation {
    pub time_s: f64,
    pub cost: f64,
}

pub fn table(path: &Path) -> Vec<BTreeMap<String, String>> {
    let mut reader = csv::Reader::from_path(path).unwrap();
    reader.deserialize().map(|row| row.unwrap()).collect()
}

pub fn number(row: &BTreeMap<String, String>, column: &str) -> f64 {
    row[column].parse().unwrap_or_else(|_| panic!("{column} is {:?}", row[column]))
}

fn read_json(path: &Path) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

impl Case {
    /// Reads a case. `trace` has the arrivals of one that lists only some of its requests.
    pub fn load(dir: &Path, trace: Option<&Path>) -> Self {
        let config = read_json(&dir.join("config.json"));
        let mut workload = Workload::default();
        if config["requests_rows"] == "all" {
            for row in table(&dir.join("requests.csv")) {
                workload.push(
                    number(&row, "arrived_at"),
                    number(&row, "num_prefill_tokens") as u32,
                    number(&row, "num_decode_tokens") as u32,
                );
            }
        } else {
            for row in
                table(trace.unwrap_or_else(|| panic!("{}: not all requests are listed", dir.display())))
            {
                workload.push(number(&row, "arrived_at"), 256, 1);
            }
        }
        Self {
            summary: read_json(&dir.join("summary.json")),
            cluster: cluster(&config),
            autoscaler: autoscaler(&config),
            dir: dir.to_path_buf(),
            workload,
        }
    }

    pub fn inputs<'a>(&'a self, times: &'a ExecutionTime) -> RunInputs<'a> {
        RunInputs::new(&self.workload, &self.cluster, &self.autoscaler, times, 1).unwrap()
    }

    pub fn execution_time(&self) -> ExecutionTime {
        let cluster = &self.cluster;
        let files = Files::default();
        let deployment = Deployment::resolve(
            &cluster.model,
            &cluster.node,
            cluster.tensor_parallel,
            cluster.pipeline_parallel,
            &files,
        )
        .unwrap();
        ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap()
    }

    pub fn check(&self) -> Deviation {
        let times = self.execution_time();
        let inputs = self.inputs(&times);
        let (metrics, detail) = simulate_in_detail(&inputs, &mut Workspace::default()).unwrap();
        let mut deviation = Deviation::default();
        self.check_requests(&detail, &mut deviation);
        self.check_batches(&detail, &mut deviation);
        self.check_replicas(&detail, &mut deviation);
        self.check_tunes(&detail, &mut deviation);
        self.check_sums(&metrics, &mut deviation);
        let fast = simulate(&inputs, &mut Workspace::default()).unwrap();
        assert_runs_agree(&metrics, &fast);
        deviation
    }

    fn check_requests(&self, detail: &Detail, deviation: &mut Deviation) {
        for row in table(&self.dir.join("requests.csv")) {
            let ours = &detail.requests[number(&row, "request_id") as usize];
            let place = format!("{}: request {}", self.dir.display(), ours.request_id);
            assert_eq!(ours.replica_id, Some(number(&row, "replica_id") as u32), "{place}: replica");
            assert_eq!(ours.restarts, number(&row, "num_restarts") as u32, "{place}: restarts");
            deviation.time(
                &place,
                "scheduled_at",
                ours.scheduled_at_s.unwrap(),
                number(&row, "scheduled_at"),
            );
            deviation.time(
                &place,
                "prefill_completed_at",
                ours.first_token_at_s.unwrap(),
                number(&row, "prefill_completed_at"),
            );
            deviation.time(
                &place,
                "completed_at",
                ours.completed_at_s.unwrap(),
                number(&row, "completed_at"),
            );
        }
    }

    fn check_batches(&self, detail: &Detail, deviation: &mut Deviation) {
        let ours: BTreeMap<u64, _> = detail.batches.iter().map(|batch| (batch.batch_id, batch)).collect();
        for row in table(&self.dir.join("batches.csv")) {
            let id = number(&row, "batch_id") as u64;
            let (place, batch) = (format!("{}: batch {id}", self.dir.display()), ours[&id]);
            assert_eq!(f64::from(batch.replica_id), number(&row, "replica_id"), "{place}: replica");
            assert_eq!(f64::from(batch.num_requests), number(&row, "num_requests"), "{place}: requests");
            assert_eq!(
                batch.prefill_tokens as f64,
                number(&row, "num_prefill_tokens"),
                "{place}: prefill tokens"
            );
            assert_eq!(
                batch.decode_tokens as f64,
                number(&row, "num_decode_tokens"),
                "{place}: decode tokens"
            );
            deviation.time(&place, "scheduled_at", batch.scheduled_at_s, number(&row, "scheduled_at"));
            deviation.time(&place, "completed_at", batch.completed_at_s, number(&row, "completed_at"));
        }
    }

    fn check_replicas(&self, detail: &Detail, deviation: &mut Deviation) {
        let mut rows = table(&self.dir.join("replicas.csv"));
        let last = rows.pop().unwrap();
        assert_eq!(number(&last, "num_replicas"), 0.0, "the reference ends with a row of no replicas");
        assert_eq!(rows.len(), detail.replicas.len(), "{}: changes of replicas", self.dir.display());
        for (row, ours) in rows.iter().zip(&detail.replicas) {
            let place = format!("{}: replicas at {}", self.dir.display(), ours.time_s);
            deviation.time(&place, "time", ours.time_s, number(row, "time"));
            assert_eq!(f64::from(ours.num_replicas), number(row, "num_replicas"), "{place}");
            assert_eq!(ours.cost_per_hour_usd, number(row, "cost_per_hour"), "{place}");
        }
    }

    fn check_tunes(&self, detail: &Detail, deviation: &mut Deviation) {
        let path = self.dir.join("tunes.csv");
        let rows = if path.exists() { table(&path) } else { Vec::new() };
        assert_eq!(rows.len(), detail.tunes.len(), "{}: decisions", self.dir.display());
        for (row, ours) in rows.iter().zip(&detail.tunes) {
            let place = format!("{}: decision at {}", self.dir.display(), ours.time_s);
            deviation.time(&place, "time", ours.time_s, number(row, "time"));
            assert_eq!(f64::from(ours.num_replicas), number(row, "num_replicas"), "{place}: replicas");
            assert_eq!(f64::from(ours.pending_scale_ups), number(row, "pending_scale_ups"), "{place}: ups");
            assert_eq!(
                f64::from(ours.pending_scale_downs),
                number(row, "pending_scale_downs"),
                "{place}: downs"
            );
            assert_eq!(ours.decision as f64, number(row, "decision"), "{place}: decision");
            for ((name, found), column) in ours.evidence.iter().zip(["throughput", "rate_up", "rate_down"]) {
                match row[column].parse::<f64>() {
                    Ok(expected) => assert!(
                        (found - expected).abs() <= 1e-9 * expected,
                        "{place}: {name} {found}, not {expected}"
                    ),
                    Err(_) => {
                        assert!(found.is_nan(), "{place}: {name} {found}, not computed by the reference")
                    }
                }
            }
        }
    }

    fn check_sums(&self, metrics: &RunMetrics, deviation: &mut Deviation) {
        let place = self.dir.display().to_string();
        assert_eq!(json!(metrics.num_requests), self.summary["num_requests"], "{place}");
        assert_eq!(metrics.num_completed, metrics.num_requests, "{place}");
        assert_eq!(json!(metrics.num_batches), self.summary["num_batches"], "{place}");
        assert_eq!(json!(metrics.num_restarts), self.summary["total_restarts"], "{place}");
        let cost = self.summary["total_cost"].as_f64().unwrap();
        deviation.cost = (metrics.total_cost_usd / cost - 1.0).abs();
        assert!(deviation.cost <= COST_TOLERANCE, "{place}: cost {} not {cost}", metrics.total_cost_usd);
        deviation.time(
            &place,
            "end",
            metrics.simulated_s,
            self.summary["simulation_end_time"].as_f64().unwrap(),
        );
        for (ours, theirs) in
            [(metrics.e2e_s.unwrap(), &self.summary["e2e"]), (metrics.ttft_s.unwrap(), &self.summary["ttft"])]
        {
            for (statistic, value) in [
                ("p50", ours.p50),
                ("p75", ours.p75),
                ("p90", ours.p90),
                ("p99", ours.p99),
                ("max", ours.max),
                ("mean", ours.mean),
            ] {
                deviation.time(&place, statistic, value, theirs[statistic].as_f64().unwrap());
            }
        }
    }
}

impl Deviation {
    fn time(&mut self, place: &str, what: &str, ours: f64, theirs: f64) {
        let difference = (ours - theirs).abs();
        assert!(difference <= TIME_TOLERANCE_S, "{place}: {what} is {ours}, not {theirs}");
        self.time_s = self.time_s.max(difference);
    }
}

/// Runs of decodes at once against steps of one iteration: discrete outcomes equal, times and sums of times
/// but for rounding.
pub fn assert_runs_agree(stepping: &RunMetrics, fast: &RunMetrics) {
    use scalefront::simulation::MetricValue::{Absent, Count, Number};
    for ((name, one), (_, other)) in stepping.columns().into_iter().zip(fast.columns()) {
        match (one, other) {
            (Count(one), Count(other)) => assert_eq!(one, other, "{name}"),
            (Number(one), Number(other)) => {
                assert!((one - other).abs() <= 1e-6_f64.max(one.abs() * 1e-9), "{name}: {one} and {other}")
            }
            (Absent, Absent) => {}
            pair => panic!("{name}: {pair:?}"),
        }
    }
}

fn cluster(config: &Value) -> ClusterSettings {
    let scheduler = &config["replica_scheduler"];
    let mut settings = json!({});
    for (ours, theirs) in [
        ("batch_size_cap", "batch_size_cap"),
        ("block_size_tokens", "block_size"),
        ("watermark_blocks_fraction", "watermark_blocks_fraction"),
        ("num_blocks", "num_blocks"),
        ("max_tokens_in_batch", "max_tokens_in_batch"),
        ("chunk_size_tokens", "chunk_size"),
        ("max_waiting_iters", "max_waiting_iters"),
    ] {
        if !scheduler[theirs].is_null() {
            settings[ours] = scheduler[theirs].clone();
        }
    }
    let router = match config["global_scheduler"].as_str().unwrap() {
        "lor" => "least_outstanding",
        other => other,
    };
    let attention = match config["attention"].as_str().unwrap() {
        "labfit" => "lab_fit",
        other => other,
    };
    let replicas = &config["num_replicas"];
    let mut cluster = json!({
        "model": config["model"], "node": config["network_device"],
        "tensor_parallel": config["tensor_parallel_size"], "pipeline_parallel": config["num_pipeline_stages"],
        "max_request_tokens": config["max_tokens"], "memory_margin_fraction": config["memory_margin_fraction"],
        "execution_time": {"profile": {"attention": attention}},
        "global_scheduler": router,
        "replica_scheduler": {scheduler["type"].as_str().unwrap(): settings},
        "initial_replicas": replicas, "min_replicas": 1, "max_replicas": 1000,
        "scale_down_order": "serving_first",
    });
    if config["autoscaler"]["type"] != "static" {
        for (ours, theirs) in [
            ("tune_interval_s", "tune_interval"),
            ("scale_up_delay_s", "scale_up_delay"),
            ("scale_down_delay_s", "scale_down_delay"),
        ] {
            cluster[ours] = config["autoscaler"][theirs].clone();
        }
    }
    serde_json::from_value(cluster).unwrap()
}

fn autoscaler(config: &Value) -> AutoscalerSettings {
    let given = &config["autoscaler"];
    let settings = match given["type"].as_str().unwrap() {
        "static" => json!({"static": {"replicas": config["num_replicas"]}}),
        "inferline" => json!({"inferline": {
            "look_back_s": {"up": given["look_back_time_scale_up"], "down": given["look_back_time_scale_down"]},
            "min_window_s": {"up": given["min_window_size_scale_up"], "down": given["min_window_size_scale_down"]},
            "stabilization_delay_s": given["stabilization_delay"],
            "initial_replica_token_throughput": given["initial_replica_token_throughput"],
            "throughput_alpha": given["throughput_alpha"],
        }}),
        other => panic!("unknown autoscaler {other}"),
    };
    serde_json::from_value(settings).unwrap()
}
