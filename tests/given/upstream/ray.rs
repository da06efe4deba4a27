//! Ray Serve's decisions.

use scalefront::autoscaler::bill::Bill;
use scalefront::autoscaler::{
    Autoscaler, AutoscalerSettings, Decision, Part, PolicyContext, ReplicaSignals, Snapshot,
};
use scalefront::replica_scheduler::KvBlocks;
use serde_json::{Map, Value, json};

use super::{Row, Series, Tally, series};
use crate::scenario::execution_time;

/// The program reads a clock of the day, and rounds by it.
const ORIGIN_S: f64 = 1.7e9;

fn policy(settings: &Value, min_replicas: u32, max_replicas: u32) -> Box<dyn Autoscaler> {
    let settings: AutoscalerSettings = serde_json::from_value(json!({ "ray_serve": settings })).unwrap();
    let context = PolicyContext {
        execution_time: execution_time(4, 1),
        kv: KvBlocks::new(640, 16, 0.01),
        batch_size_cap: 16,
        pipeline_parallel: 1,
        part: Part::Whole,
        max_request_tokens: 4096,
        bill: Bill {
            devices_per_replica: 4,
            devices_per_node: 4,
            whole_nodes: true,
            cold_start: false,
            drain: true,
            minimum_s: 0.0,
        },
        calls_off_starts: true,
        router_sees_load: false,
        tune_interval_s: 5.0,
        scale_up_delay_s: 10.0,
        scale_down_delay_s: 0.0,
        min_replicas,
        max_replicas,
        seed: 0,
        programs: None,
    };
    settings.settings().build(&context).unwrap()
}

/// `a=1;b=c` as settings of ours.
fn settings_of(series: &Series) -> Value {
    let mut settings = Map::new();
    for (name, value) in series.settings.split(';').filter_map(|setting| setting.split_once('=')) {
        let name = if name == "target_ongoing_requests" { "target_per_replica" } else { name };
        settings.insert(name.into(), value.parse::<f64>().map_or_else(|_| value.into(), Value::from));
    }
    settings.into()
}

/// `id:ongoing`, with a `d` if it drains.
fn replica(text: &str) -> ReplicaSignals {
    let (id, ongoing) = text.split_once(':').unwrap();
    let draining = ongoing.ends_with('d');
    ReplicaSignals {
        id: id.parse().unwrap(),
        draining,
        running_requests: ongoing.trim_end_matches('d').parse().unwrap(),
        ..ReplicaSignals::default()
    }
}

/// The loop runs on between the rows, a tenth of a second at a time, and decides nothing there.
fn replay(series: &Series) {
    let mut tally = Tally::default();
    let mut policy = policy(&settings_of(series), 0, 12);
    let tenths = |row: &Row| (row.number("time_s") * 10.0).round() as u32;
    let rows: Vec<Row> = series.rows().collect();
    for (i, row) in rows.iter().enumerate() {
        let replicas: Vec<ReplicaSignals> = row.list("replicas").map(replica).collect();
        let (serving, queued) = (row.count("current"), row.count("queued"));
        let until = rows.get(i + 1).map_or(tenths(row) + 1, tenths);
        let mut target = row.count("target_before");
        for tenth in tenths(row)..until {
            let snapshot = Snapshot {
                serving,
                draining: replicas.len() as u32 - serving,
                starting: target.saturating_sub(serving),
                stopping: serving.saturating_sub(target),
                outstanding_requests: queued
                    + replicas.iter().map(|replica| replica.running_requests).sum::<u32>(),
                unrouted_requests: queued,
                replicas: &replicas,
            };
            let first = tenth == tenths(row);
            let decision = policy.decide(ORIGIN_S + f64::from(tenth) / 10.0, &snapshot);
            target = target.checked_add_signed(decision.signed() as i32).unwrap();
            if first || decision != Decision::Hold {
                tally.compare(|| format!("{} s", f64::from(tenth) / 10.0), target, row.count("target_after"));
            }
            if first {
                let ((_, found), recorded) = (policy.evidence()[0], row.number("total_mean"));
                assert!(
                    (found - recorded).abs() < 1e-5,
                    "{} s: {found} requests, recorded {recorded}",
                    row.text("time_s")
                );
            }
        }
    }
    tally.conclude(&series.name);
}

pub fn decisions_over_time() {
    series("ray").iter().filter(|series| series.looped == "closed").for_each(replay);
}

/// One decision each, without delays, from as many replicas as there should be.
pub fn single_decisions() {
    for series in series("ray").iter().filter(|series| series.looped == "table") {
        let mut tally = Tally::default();
        for row in series.rows() {
            // Requests are whole here: a load of thousandths is held against a target of thousandths.
            let load = row.number("load");
            let scale = if load.fract() == 0.0 { 1.0 } else { 1000.0 };
            let factor = |column| if row.text(column).is_empty() { 1.0 } else { row.number(column) };
            let settings = json!({
                "target_per_replica": scale * row.number("target_ongoing"),
                "upscaling_factor": factor("upscaling_factor"),
                "downscaling_factor": factor("downscaling_factor"),
                "upscale_delay_s": 0,
                "downscale_delay_s": 0,
            });
            let (running, load) = (row.count("running"), (scale * load).round() as u32);
            let replicas: Vec<ReplicaSignals> = (0..running).map(|id| replica(&format!("{id}:0"))).collect();
            let snapshot = Snapshot {
                serving: running,
                outstanding_requests: load,
                unrouted_requests: load,
                replicas: &replicas,
                ..Snapshot::default()
            };
            let decision = policy(&settings, 0, 1000).decide(0.0, &snapshot);
            let found = i64::from(running) + decision.signed();
            tally.compare(|| format!("row {}", row.text("row")), found, row.count("desired").into());
        }
        tally.conclude(&series.name);
    }
}
