//! What a run is summed up to.

/// Mean and nearest-rank percentiles of a sample: the p-th is the smallest value with at least p % of the sample at or below it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Distribution {
    pub mean: f64,
    pub p50: f64,
    pub p75: f64,
    pub p90: f64,
    pub p95: f64,
    pub p99: f64,
    pub max: f64,
}

impl Distribution {
    /// Sums up a sample, reordering it; `None` if it is empty. The mean adds in the order given.
    pub fn of(sample: &mut [f64]) -> Option<Self> {
        let count = sample.len();
        if count == 0 {
            return None;
        }
        let mean = sample.iter().sum::<f64>() / count as f64;
        let max = sample.iter().fold(f64::NEG_INFINITY, |max, &value| max.max(value));
        // From the highest rank down, each selection narrows what the next has to look at.
        let mut end = count;
        let mut select = |p: f64| {
            let rank = nearest_rank(p, count);
            let (_, &mut value, _) = sample[..end].select_nth_unstable_by(rank - 1, f64::total_cmp);
            end = rank;
            value
        };
        let (p99, p95, p90, p75, p50) = (select(99.0), select(95.0), select(90.0), select(75.0), select(50.0));
        Some(Self { mean, p50, p75, p90, p95, p99, max })
    }
}

/// Rank (from 1) of the p-th percentile: the least r with r / count >= p / 100.
fn nearest_rank(p: f64, count: usize) -> usize {
    let wanted = p / 100.0;
    let mut rank = ((wanted * count as f64).ceil() as usize).clamp(1, count);
    while rank > 1 && (rank - 1) as f64 / count as f64 >= wanted {
        rank -= 1;
    }
    while (rank as f64 / count as f64) < wanted && rank < count {
        rank += 1;
    }
    rank
}

/// Everything a run is judged by. A distribution is absent where no request has the quantity.
#[derive(Debug, Clone, PartialEq)]
pub struct RunMetrics {
    pub num_requests: u64,
    pub num_completed: u64,
    /// Requests that could never have been admitted, larger than a replica's memory or a batch.
    pub num_rejected: u64,
    pub num_restarts: u64,
    /// Arrival to last token.
    pub e2e_s: Option<Distribution>,
    /// Arrival to first token.
    pub ttft_s: Option<Distribution>,
    /// Time per output token after the first, of requests with more than one.
    pub tpot_s: Option<Distribution>,
    /// Arrival to first time in a batch.
    pub scheduling_delay_s: Option<Distribution>,
    /// End-to-end latency per output token.
    pub normalized_latency_s: Option<Distribution>,
    pub total_cost_usd: f64,
    pub mean_cost_usd_per_hour: f64,
    pub simulated_s: f64,
    pub num_batches: u64,
    /// Seconds that stages worked on batches, summed.
    pub busy_s: f64,
    /// Seconds that replicas were billed, summed.
    pub replica_s: f64,
    /// Busy share of billed time.
    pub utilization: f64,
    pub mean_replicas: f64,
    pub max_replicas: u32,
    pub min_replicas: u32,
    pub scale_ups: u64,
    pub scale_downs: u64,
}

/// A metric's value: counts stay whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricValue {
    Count(u64),
    Number(f64),
    Absent,
}

impl RunMetrics {
    /// Names and values in the order they are stored.
    pub fn columns(&self) -> Vec<(String, MetricValue)> {
        use MetricValue::{Absent, Count, Number};
        let mut columns = vec![
            ("num_requests".into(), Count(self.num_requests)),
            ("num_completed".into(), Count(self.num_completed)),
            ("num_rejected".into(), Count(self.num_rejected)),
            ("num_restarts".into(), Count(self.num_restarts)),
        ];
        for (name, distribution) in [
            ("e2e_s", self.e2e_s),
            ("ttft_s", self.ttft_s),
            ("tpot_s", self.tpot_s),
            ("scheduling_delay_s", self.scheduling_delay_s),
            ("normalized_latency_s", self.normalized_latency_s),
        ] {
            let mut add = |statistic: &str, value: fn(&Distribution) -> f64| {
                columns.push((format!("{statistic}_{name}"), distribution.as_ref().map_or(Absent, |d| Number(value(d)))));
            };
            add("mean", |d| d.mean);
            add("p50", |d| d.p50);
            add("p75", |d| d.p75);
            add("p90", |d| d.p90);
            add("p95", |d| d.p95);
            add("p99", |d| d.p99);
            add("max", |d| d.max);
        }
        columns.extend([
            ("total_cost_usd".into(), Number(self.total_cost_usd)),
            ("mean_cost_usd_per_hour".into(), Number(self.mean_cost_usd_per_hour)),
            ("simulated_s".into(), Number(self.simulated_s)),
            ("num_batches".into(), Count(self.num_batches)),
            ("busy_s".into(), Number(self.busy_s)),
            ("replica_s".into(), Number(self.replica_s)),
            ("utilization".into(), Number(self.utilization)),
            ("mean_replicas".into(), Number(self.mean_replicas)),
            ("most_replicas".into(), Count(self.max_replicas.into())),
            ("fewest_replicas".into(), Count(self.min_replicas.into())),
            ("scale_ups".into(), Count(self.scale_ups)),
            ("scale_downs".into(), Count(self.scale_downs)),
        ]);
        columns
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin sorts and walks up to the rank.
        #[test]
        fn percentiles_equal_a_sort(sample in prop::collection::vec(0_u32..50, 1..300)) {
            let mut values: Vec<f64> = sample.iter().map(|&v| f64::from(v)).collect();
            let found = Distribution::of(&mut values).unwrap();
            values.sort_by(f64::total_cmp);
            let count = values.len() as f64;
            for (p, found) in [(50.0, found.p50), (75.0, found.p75), (90.0, found.p90), (95.0, found.p95), (99.0, found.p99), (100.0, found.max)] {
                let expected = values.iter().zip(1..).find(|&(_, rank)| f64::from(rank) / count >= p / 100.0).unwrap().0;
                prop_assert_eq!(found, *expected);
            }
        }
    }

    #[test]
    fn nothing_has_no_distribution() {
        assert_eq!(Distribution::of(&mut []), None);
    }
}
