//! A bound from below: what the work alone costs.
//!
//! Each request is served in a batch of equals at the size that is best for it, no replica is ever idle,
//! nodes are paid by the replica and none starts or drains. For a latency to hold at a percentile, requests
//! that meet it only share batches that let them, and the rest are those for which that saves most. What is
//! left out only makes real schedules dearer, so no schedule can be cheaper than this, but for what batches
//! of unequal requests may save over batches of equals.

use std::collections::BTreeMap;

use crate::hardware::BatchShape;
use crate::simulation::RunInputs;

/// The work of every kind of request at every batch size.
#[derive(Debug, Clone)]
pub struct FluidBound {
    /// How many requests of one length there are, and for batch sizes 1, 2, ..: seconds of a replica a
    /// request takes, seconds it lasts.
    kinds: Vec<(u64, Vec<(f64, f64)>)>,
    requests: u64,
    usd_per_replica_s: f64,
    /// What one replica costs as long as the workload lasts, and how many there are at least.
    usd_per_replica: f64,
    fewest_replicas: u32,
}

impl FluidBound {
    pub fn new(inputs: &RunInputs) -> Self {
        let (workload, cluster) = (inputs.workload, inputs.cluster);
        let mut counts: BTreeMap<(u32, u32), u64> = BTreeMap::new();
        for (&prefill, &decode) in workload.prefill_tokens.iter().zip(&workload.decode_tokens) {
            *counts.entry((prefill, decode)).or_default() += 1;
        }
        let stages = cluster.pipeline_parallel;
        let times = |shape: &BatchShape| {
            let each = (0..stages).map(|stage| inputs.execution_time.stage_time_s(shape, stage));
            // A stage's share of the replica while it works; all stages in turn make up the latency.
            each.fold((0.0, 0.0), |(work, latency), s| (work + s / f64::from(stages), latency + s))
        };
        let cap = inputs.scheduler_settings.common().batch_size_cap;
        // Batch sizes beyond 16 grow by a quarter: the times are smooth there.
        let sizes: Vec<u32> = std::iter::successors(Some(1), |&size| {
            (size < cap).then(|| (size + 1).max(size * 5 / 4).min(cap))
        })
        .collect();
        let kinds = counts
            .into_iter()
            .map(|((prefill, decode), count)| {
                let options = sizes.iter().map(|&size| {
                    let mut prefills = BatchShape::default();
                    (0..size).for_each(|_| prefills.add_prefill(prefill, 0));
                    let (mut work, mut latency) = times(&prefills);
                    let mut done = 1;
                    while done < decode {
                        // The cache grows by a token a step; steps of 64 tokens are taken at their beginning.
                        let steps = (decode - done).min(64);
                        let mut decodes = BatchShape::default();
                        (0..size).for_each(|_| decodes.add_decode(prefill + done - 1));
                        let (step_work, step_latency) = times(&decodes);
                        work += step_work * f64::from(steps);
                        latency += step_latency * f64::from(steps);
                        done += steps;
                    }
                    (work / f64::from(size), latency)
                });
                (count, options.collect())
            })
            .collect();
        let per_hour = inputs.node_price_usd_per_hour
            * f64::from(cluster.tensor_parallel * cluster.pipeline_parallel)
            / f64::from(inputs.devices_per_node);
        let usd_per_replica_s = per_hour / 3600.0;
        let duration_s = workload.end_s();
        Self {
            kinds,
            requests: workload.len() as u64,
            usd_per_replica_s,
            usd_per_replica: duration_s * usd_per_replica_s,
            // Replicas that are lost are not paid for.
            fewest_replicas: if cluster.failures.any() { 0 } else { cluster.min_replicas },
        }
    }

    /// The same where fleets of so few replicas are allowed, too.
    pub fn with_fleets_of(mut self, replicas: u32) -> Self {
        self.fewest_replicas = self.fewest_replicas.min(replicas);
        self
    }

    /// Seconds of replicas that the work takes, each request at the batch size that is best for it.
    pub fn work_s(&self) -> f64 {
        self.kinds.iter().map(|(count, options)| least_work_s(options, f64::INFINITY) * *count as f64).sum()
    }

    /// Dollars for a second of a replica.
    pub fn usd_per_replica_s(&self) -> f64 {
        self.usd_per_replica_s
    }

    /// Latency of the request that is the first to be over if it is alone.
    pub fn fastest_s(&self) -> f64 {
        self.kinds
            .iter()
            .flat_map(|(_, options)| options)
            .map(|option| option.1)
            .fold(f64::INFINITY, f64::min)
    }

    /// Least dollars with whatever latency.
    pub fn cost_usd(&self) -> f64 {
        self.cost_for_latency_usd(f64::INFINITY, 1.0)
    }

    /// Least dollars if a `share` of the requests (0.9 for P90) take at most `latency_s`; infinite if that
    /// cannot be.
    pub fn cost_for_latency_usd(&self, latency_s: f64, share: f64) -> f64 {
        let mut work_s = self.work_s();
        let mut surcharges: Vec<(f64, u64)> = Vec::with_capacity(self.kinds.len());
        for (count, options) in &self.kinds {
            surcharges
                .push((least_work_s(options, latency_s) - least_work_s(options, f64::INFINITY), *count));
        }
        surcharges.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut must = (share * self.requests as f64).ceil() as u64;
        for (surcharge, count) in surcharges {
            let here = must.min(count);
            must -= here;
            if here > 0 {
                work_s += surcharge * here as f64;
            }
        }
        (work_s * self.usd_per_replica_s).max(f64::from(self.fewest_replicas) * self.usd_per_replica)
    }
}

/// Least seconds of a replica that a request takes, of those options that last `most_s` at most; infinite if
/// none does.
fn least_work_s(options: &[(f64, f64)], most_s: f64) -> f64 {
    options.iter().filter(|option| option.1 <= most_s).map(|option| option.0).fold(f64::INFINITY, f64::min)
}
