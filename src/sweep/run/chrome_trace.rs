//! A run as a timeline: the Trace Event Format that Perfetto and Chrome's tracing page open.
//!
//! Source: "Trace Event Format", Google,
//! <https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU>. One process a replica,
//! one slice a batch; the cluster's replica count and price are counters. Times are microseconds of simulated
//! time.

use std::io::Write;

use serde_json::json;

use crate::simulation::{BatchRecord, Detail};

/// The cluster's process; replicas follow by id.
const CLUSTER: u32 = 0;

/// Writes a run, one event a line.
pub fn write(detail: &Detail, out: &mut impl Write) -> std::io::Result<()> {
    let us = |time_s: f64| time_s * 1e6;
    // Replicas of several pools have the same numbers: processes of later pools begin behind those of earlier
    // ones.
    let pools: Vec<(&str, &[BatchRecord])> = match detail.pools.is_empty() {
        true => vec![("", &detail.batches)],
        false => detail.pools.iter().map(|pool| (pool.name.as_str(), &pool.batches[..])).collect(),
    };
    write!(out, "{{\"displayTimeUnit\": \"ms\", \"traceEvents\": [\n{}", named(CLUSTER, "cluster"))?;
    let mut before = 0;
    let mut processes = Vec::new();
    for (name, batches) in &pools {
        let mut replicas: Vec<u32> = batches.iter().map(|batch| batch.replica_id).collect();
        replicas.sort_unstable();
        replicas.dedup();
        for &id in &replicas {
            let name = if name.is_empty() { format!("replica {id}") } else { format!("{name} replica {id}") };
            write!(out, ",\n{}", named(before + id + 1, &name))?;
        }
        processes.extend(batches.iter().map(|batch| (before, batch)));
        before += replicas.last().map_or(0, |last| last + 1);
    }
    for (before, batch) in processes {
        let kind = match (batch.prefill_tokens, batch.decode_tokens) {
            (0, _) => "decode",
            (_, 0) => "prefill",
            _ => "mixed",
        };
        let event = json!({
            "name": kind, "cat": "batch", "ph": "X", "pid": before + batch.replica_id + 1, "tid": 0,
            "ts": us(batch.scheduled_at_s), "dur": us(batch.completed_at_s) - us(batch.scheduled_at_s),
            "args": { "batch": batch.batch_id, "requests": batch.num_requests,
                      "prefill_tokens": batch.prefill_tokens, "decode_tokens": batch.decode_tokens },
        });
        write!(out, ",\n{event}")?;
    }
    for change in &detail.replicas {
        let serving = change.num_replicas - change.num_draining;
        let counters = [
            ("replicas", json!({ "serving": serving, "draining": change.num_draining })),
            ("US$ per hour", json!({ "cost": change.cost_per_hour_usd })),
        ];
        for (name, values) in counters {
            let event = json!({ "name": name, "ph": "C", "pid": CLUSTER, "tid": 0, "ts": us(change.time_s), "args": values });
            write!(out, ",\n{event}")?;
        }
    }
    writeln!(out, "\n]}}")
}

fn named(process: u32, name: &str) -> serde_json::Value {
    json!({ "name": "process_name", "ph": "M", "pid": process, "tid": 0, "args": { "name": name } })
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::simulation::{BatchRecord, ReplicaRecord};

    #[test]
    fn events_are_json_with_microseconds() {
        let batch = |batch_id, replica_id, scheduled_at_s, prefill_tokens, decode_tokens| BatchRecord {
            batch_id,
            replica_id,
            scheduled_at_s,
            completed_at_s: scheduled_at_s + 0.5,
            num_requests: 2,
            prefill_tokens,
            decode_tokens,
        };
        let detail = Detail {
            batches: vec![batch(0, 3, 1.0, 512, 0), batch(1, 0, 2.0, 0, 2)],
            replicas: vec![ReplicaRecord {
                time_s: 0.0,
                num_replicas: 2,
                num_draining: 1,
                num_starting: 0,
                num_pending: None,
                num_nodes: None,
                cost_per_hour_usd: 16.0,
            }],
            ..Detail::default()
        };
        let mut out = Vec::new();
        write(&detail, &mut out).unwrap();
        let trace: Value = serde_json::from_slice(&out).unwrap();
        let events = trace["traceEvents"].as_array().unwrap();
        assert_eq!(events.len(), 3 + 2 + 2);
        assert_eq!(
            (&events[3]["name"], &events[3]["ts"], &events[3]["dur"]),
            (&json!("prefill"), &json!(1e6), &json!(5e5))
        );
        assert_eq!(events[4]["pid"], 1);
        assert_eq!(events[5]["args"], json!({ "serving": 1, "draining": 1 }));
    }
}
