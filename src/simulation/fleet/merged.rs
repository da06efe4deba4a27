//! Records of pools, put together in order of time.

use super::FleetInputs;
use crate::simulation::Detail;
use crate::simulation::record::{PoolDetail, ReplicaRecord, RequestRecord};

/// The replicas of all pools together, at each change of any.
pub(super) fn merged_replicas(of_pools: &[&[ReplicaRecord]]) -> Vec<ReplicaRecord> {
    let mut next = vec![0; of_pools.len()];
    let mut merged = Vec::new();
    loop {
        let upcoming =
            (0..of_pools.len()).filter_map(|pool| Some((of_pools[pool].get(next[pool])?.time_s, pool)));
        // Of those at one time, in the order of pools.
        let Some((time_s, pool)) = upcoming.min_by(|a, b| a.0.total_cmp(&b.0)) else { return merged };
        next[pool] += 1;
        let latest = || (0..of_pools.len()).filter_map(|pool| of_pools[pool].get(next[pool].checked_sub(1)?));
        let sum = |value: fn(&ReplicaRecord) -> u32| latest().map(value).sum();
        let record = ReplicaRecord {
            time_s,
            num_replicas: sum(|record| record.num_replicas),
            num_draining: sum(|record| record.num_draining),
            num_starting: sum(|record| record.num_starting),
            num_pending: latest()
                .any(|record| record.num_pending.is_some())
                .then(|| sum(|record| record.num_pending.unwrap_or(0))),
            num_nodes: latest()
                .any(|record| record.num_nodes.is_some())
                .then(|| latest().filter_map(|record| record.num_nodes).sum()),
            cost_per_hour_usd: latest().map(|record| record.cost_per_hour_usd).sum(),
        };
        merged.push(record);
    }
}

/// The records of a fleet: requests as their clients see them, and of everything else each pool's own.
pub(super) fn merged_detail(
    inputs: &FleetInputs,
    mut requests: Vec<RequestRecord>,
    details: Vec<Detail>,
) -> Detail {
    if inputs.workload.sessions.is_some() {
        requests.retain(|request| request.arrived);
        requests
            .sort_by(|a, b| a.arrived_at_s.total_cmp(&b.arrived_at_s).then(a.request_id.cmp(&b.request_id)));
    }
    let replicas: Vec<&[ReplicaRecord]> = details.iter().map(|detail| &detail.replicas[..]).collect();
    let replicas = merged_replicas(&replicas);
    let mut merged = Detail { requests, replicas, ..Detail::default() };
    for (pool, detail) in inputs.cluster.pools.iter().zip(details) {
        merged.batches.extend(detail.batches.iter().cloned());
        merged.tunes.extend(detail.tunes.iter().cloned());
        let Detail { batches, replicas, tunes, .. } = detail;
        merged.pools.push(PoolDetail { name: pool.name.clone(), batches, replicas, tunes });
    }
    merged.batches.sort_by(|a, b| a.completed_at_s.total_cmp(&b.completed_at_s));
    merged.tunes.sort_by(|a, b| a.time_s.total_cmp(&b.time_s));
    merged
}
