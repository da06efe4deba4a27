//! The pools of runs: what `pools.parquet` holds, a row a run and pool.

use anyhow::Result;

use super::journal::Recorded;
use crate::simulation::{Distribution, MetricValue, PoolMetrics};
use crate::sweep::plan::Plan;

/// A figure of a pool: name of its column, meaning, value.
type Figure = (&'static str, &'static str, fn(&PoolMetrics) -> MetricValue);

fn optional(value: Option<f64>) -> MetricValue {
    value.map_or(MetricValue::Absent, MetricValue::Number)
}

fn of(distribution: Option<Distribution>, value: fn(&Distribution) -> f64) -> MetricValue {
    optional(distribution.as_ref().map(value))
}

/// In the order of their columns.
pub const FIGURES: [Figure; 35] = [
    ("num_completed", "Requests that it did its part of.", |p| MetricValue::Count(p.run.num_completed)),
    ("num_rejected", "Requests that it refused.", |p| MetricValue::Count(p.run.num_rejected)),
    ("devices_per_replica", "Devices of a replica.", |p| MetricValue::Count(p.devices_per_replica)),
    ("mean_replicas", "Replicas that exist, over time.", |p| MetricValue::Number(p.run.mean_replicas)),
    ("max_replicas_used", "Most replicas at once.", |p| MetricValue::Count(p.run.max_replicas.into())),
    ("min_replicas_used", "Fewest replicas at once.", |p| MetricValue::Count(p.run.min_replicas.into())),
    ("replica_hours", "Hours that replicas existed, summed.", |p| MetricValue::Number(p.run.replica_hours)),
    ("node_hours", "Hours that nodes were billed, summed.", |p| MetricValue::Number(p.run.node_hours)),
    ("total_cost_usd", "What it cost.", |p| MetricValue::Number(p.run.total_cost_usd)),
    ("utilization", "Busy share of the time replicas existed.", |p| MetricValue::Number(p.run.utilization)),
    ("num_batches", "Steps.", |p| MetricValue::Count(p.run.num_batches)),
    ("mean_queued_requests", "Requests not in a replica's memory, over time.", |p| {
        MetricValue::Number(p.run.mean_queued_requests)
    }),
    ("max_queued_requests", "Most of them at once.", |p| MetricValue::Count(p.run.max_queued_requests)),
    ("mean_kv_use", "Share of KV blocks in use, over time and replicas.", |p| {
        MetricValue::Number(p.run.mean_kv_use)
    }),
    ("max_kv_use", "Largest share in use on one replica.", |p| MetricValue::Number(p.run.max_kv_use)),
    ("parked_kv_use", "Share held by prompts whose KV cache is on its way here.", |p| {
        MetricValue::Number(p.parked_kv_use)
    }),
    ("kept_kv_use", "Share held by prompts computed here whose KV cache had not arrived elsewhere.", |p| {
        MetricValue::Number(p.kept_kv_use)
    }),
    ("received_tokens", "Tokens whose KV came from elsewhere.", |p| MetricValue::Count(p.received_tokens)),
    ("received_gb", "Their bytes, over all ranks.", |p| MetricValue::Number(p.received_gb)),
    ("mean_transfer_ms", "From room for a KV cache here to its arrival: mean.", |p| {
        of(p.transfer_ms, |d| d.mean)
    }),
    ("p90_transfer_ms", "The same: 90th percentile.", |p| of(p.transfer_ms, |d| d.p90)),
    ("prefix_hit_rate", "Share of prompt tokens that were cached here.", |p| optional(p.run.prefix_hit_rate)),
    ("scale_ups", "Replicas that joined after a decision.", |p| MetricValue::Count(p.run.scale_ups)),
    ("scale_downs", "Replicas told to leave.", |p| MetricValue::Count(p.run.scale_downs)),
    ("reversals", "How often scaling turned round.", |p| MetricValue::Count(p.run.reversals)),
    ("replicas_lost", "Replicas that crashed or were reclaimed.", |p| {
        MetricValue::Count(p.run.replicas_lost)
    }),
    ("at_max_replicas_s", "Time at `max_replicas`.", |p| MetricValue::Number(p.run.at_max_replicas_s)),
    ("below_demand_s", "Time with more requests here than serving replicas have places in a batch.", |p| {
        MetricValue::Number(p.run.below_demand_s)
    }),
    ("scale_ups_cut", "Replicas that its policy asked for and that found no room in the budget.", |p| {
        p.scale_ups_cut.map_or(MetricValue::Absent, MetricValue::Count)
    }),
    (
        "starved_s",
        "Time in which requests waited here and the budget had no room for one more replica.",
        |p| optional(p.starved_s),
    ),
    (
        "p90_scheduling_delay_s",
        "From the request's coming here to its first step here: 90th percentile.",
        |p| of(p.run.scheduling_delay_s, |d| d.p90),
    ),
    (
        "p50_ttft_s",
        "From its coming here to the end of its prompt, or of its first step, here: median.",
        |p| of(p.run.ttft_s, |d| d.p50),
    ),
    ("p90_ttft_s", "The same: 90th percentile.", |p| of(p.run.ttft_s, |d| d.p90)),
    ("p90_tpot_s", "Time per output token after the first here: 90th percentile.", |p| {
        of(p.run.tpot_s, |d| d.p90)
    }),
    ("p90_e2e_s", "From its coming here to its leaving: 90th percentile.", |p| of(p.run.e2e_s, |d| d.p90)),
];

/// The figures of a pool, in their order.
pub fn values(pool: &PoolMetrics) -> Vec<MetricValue> {
    FIGURES.iter().map(|(_, _, value)| value(pool)).collect()
}

/// A pool of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolRow {
    pub run_id: String,
    pub pool: String,
    pub role: &'static str,
    pub model: String,
    pub node: String,
    /// See [`FIGURES`].
    pub values: Vec<MetricValue>,
}

/// The pools of all runs that succeeded, in the order of runs and pools.
pub fn rows(plan: &Plan, recorded: &mut Recorded) -> Result<Vec<PoolRow>> {
    let mut rows = Vec::new();
    let clusters = 0..plan.grid.cluster.count();
    if !plan.grid.source.text.contains("\"pools\"")
        || clusters.map(|index| plan.grid.cluster.get(index)).all(|c| c.pools.is_empty())
    {
        return Ok(rows);
    }
    for (place, &index) in plan.unique().iter().enumerate() {
        let Ok(values) = recorded.outcome(place)? else { continue };
        let cell = plan.cell(index);
        let of_pools = &values[recorded.num_metrics()..];
        for (pool, values) in cell.cluster.pools.iter().zip(of_pools.chunks(FIGURES.len())) {
            rows.push(PoolRow {
                run_id: plan.run_id(place),
                pool: pool.name.clone(),
                role: pool.role.name(),
                model: pool.settings().model.clone(),
                node: pool.settings().node.clone(),
                values: values.to_vec(),
            });
        }
    }
    Ok(rows)
}
