//! What a run is summed up to. What each metric means is said in the table of metrics.

/// Mean and nearest-rank percentiles of a sample: the p-th is the smallest value with at least p % of the
/// sample at or below it.
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

/// Numbers of at least 0 in the order they came, and their sum, added in that order.
#[derive(Debug, Default)]
pub struct Sample {
    values: Vec<f64>,
    sum: f64,
}

impl Clone for Sample {
    fn clone(&self) -> Self {
        Self { values: self.values.clone(), sum: self.sum }
    }

    /// Keeps the room there is.
    fn clone_from(&mut self, other: &Self) {
        self.values.clone_from(&other.values);
        self.sum = other.sum;
    }
}

impl Sample {
    /// Forgets everything and makes room for this many values.
    pub fn clear(&mut self, room: usize) {
        self.values.clear();
        self.values.reserve_exact(room);
        self.sum = 0.0;
    }

    #[inline]
    pub fn push(&mut self, value: f64) {
        debug_assert!(value >= 0.0, "{value}");
        self.values.push(value);
        self.sum += value;
    }

    pub fn values(&self) -> &[f64] {
        &self.values
    }
}

impl Extend<f64> for Sample {
    fn extend<I: IntoIterator<Item = f64>>(&mut self, values: I) {
        values.into_iter().for_each(|value| self.push(value));
    }
}

/// The least and the largest of at least one number, several at a time: one after the other each would wait
/// for the one before.
fn extremes(values: &[f64]) -> (f64, f64) {
    const LANES: usize = 4;
    let (mut least, mut largest) = ([values[0]; LANES], [values[0]; LANES]);
    let mut look = |values: &[f64]| {
        for ((&value, least), largest) in values.iter().zip(&mut least).zip(&mut largest) {
            // Not `f64::min`, which takes pains over NaN.
            *least = if value < *least { value } else { *least };
            *largest = if value > *largest { value } else { *largest };
        }
    };
    let chunks = values.chunks_exact(LANES);
    let rest = chunks.remainder();
    chunks.for_each(&mut look);
    look(rest);
    (least.into_iter().fold(f64::INFINITY, f64::min), largest.into_iter().fold(0.0, f64::max))
}

/// Counts of a sample's values by their leading bits: finds which few values can hold a percentile, so that
/// the rest need not be sorted.
#[derive(Debug, Default)]
pub struct Buckets {
    counts: Vec<u32>,
    /// The values of all wanted buckets.
    candidates: Vec<f64>,
}

const PERCENTILES: [f64; 5] = [50.0, 75.0, 90.0, 95.0, 99.0];
/// Enough that a bucket holds few values, few enough to stay in cache.
const MOST_BUCKETS: u64 = 4096;

impl Distribution {
    /// Sums up numbers of at least 0; `None` if there are none.
    pub fn of_values(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut sample = Sample::default();
        sample.extend(values);
        Self::of(&sample, &mut Buckets::default())
    }

    /// Sums up a sample; `None` if it is empty.
    ///
    /// Percentiles are exact: the bits of such numbers order as the numbers do, so their leading bits split
    /// the sample into ordered buckets, and only the buckets that hold a wanted rank are looked into. Three
    /// passes over the sample.
    pub fn of(sample: &Sample, buckets: &mut Buckets) -> Option<Self> {
        let Buckets { counts, candidates } = buckets;
        let &Sample { ref values, sum } = sample;
        let count = values.len();
        if count == 0 {
            return None;
        }
        let (min, max) = extremes(values);
        let base = min.to_bits();
        let spread = max.to_bits() - base;
        // Of few numbers, looking through buckets costs more than looking into them.
        let most_buckets = MOST_BUCKETS.min(count.next_power_of_two() as u64);
        let shift = (u64::BITS - (spread / most_buckets).leading_zeros()).min(63);
        let bucket = |value: f64| ((value.to_bits() - base) >> shift) as usize;
        counts.clear();
        counts.resize((spread >> shift) as usize + 1, 0);
        for &value in values {
            counts[bucket(value)] += 1;
        }
        // Where each rank lies: its bucket, and its rank among the values of all wanted buckets, which are in
        // order.
        let (mut current, mut below, mut unwanted_below) = (0, 0, 0);
        let mut wanted = [usize::MAX; PERCENTILES.len()];
        let mut ranks = [0; PERCENTILES.len()];
        for (i, p) in PERCENTILES.into_iter().enumerate() {
            let rank = nearest_rank(p, count);
            while below + (counts[current] as usize) < rank {
                below += counts[current] as usize;
                unwanted_below += if wanted.contains(&current) { 0 } else { counts[current] as usize };
                current += 1;
            }
            (wanted[i], ranks[i]) = (current, rank - unwanted_below);
        }
        // From here on a bucket's count is whether it is wanted.
        let last = below + counts[current] as usize - unwanted_below;
        counts.fill(0);
        wanted.into_iter().for_each(|bucket| counts[bucket] = 1);
        // Which values are wanted is anybody's guess: all are written, and the next one overwrites what is
        // not.
        candidates.resize(last + 1, 0.0);
        let mut kept = 0;
        for &value in values {
            candidates[kept] = value;
            kept += counts[bucket(value)] as usize;
        }
        let mut before = 0;
        let [p50, p75, p90, p95, p99] = ranks.map(|rank| {
            let value = *candidates[before..last].select_nth_unstable_by(rank - 1 - before, f64::total_cmp).1;
            before = rank - 1;
            value
        });
        Some(Self { mean: sum / count as f64, p50, p75, p90, p95, p99, max })
    }
}

/// Counts of numbers of at least 0 by their leading bits: all that is kept of samples too large for memory.
#[derive(Debug)]
pub struct Histogram {
    counts: Vec<u32>,
    count: usize,
    sum: f64,
    max: f64,
}

impl Histogram {
    /// Of a number's 52 bits after the point, so many are told apart: values are found to within a share of
    /// 2^-13, 0.012 %.
    const FRACTION_BITS: u32 = 12;
    const SHIFT: u32 = f64::MANTISSA_DIGITS - 1 - Self::FRACTION_BITS;
    /// Smaller numbers, below a nanosecond, count as 0.
    const LEAST: f64 = 1.0 / (1_u64 << 30) as f64;
    const BUCKETS: usize = 64 << Self::FRACTION_BITS;

    pub fn push(&mut self, value: f64) {
        debug_assert!(value >= 0.0, "{value}");
        let above =
            (value.to_bits() >> Self::SHIFT).saturating_sub((Self::LEAST.to_bits() >> Self::SHIFT) - 1);
        self.counts[(above as usize).min(Self::BUCKETS - 1)] += 1;
        self.count += 1;
        self.sum += value;
        self.max = self.max.max(value);
    }

    /// Percentiles are those of the middles of buckets; mean and maximum are exact.
    pub fn distribution(&self) -> Option<Distribution> {
        if self.count == 0 {
            return None;
        }
        let (mut bucket, mut before) = (0, 0);
        let [p50, p75, p90, p95, p99] = PERCENTILES.map(|p| {
            let rank = nearest_rank(p, self.count);
            while before + (self.counts[bucket] as usize) < rank {
                before += self.counts[bucket] as usize;
                bucket += 1;
            }
            self.middle(bucket)
        });
        Some(Distribution { mean: self.sum / self.count as f64, p50, p75, p90, p95, p99, max: self.max })
    }

    fn middle(&self, bucket: usize) -> f64 {
        if bucket == 0 {
            return 0.0;
        }
        let leading = (Self::LEAST.to_bits() >> Self::SHIFT) - 1 + bucket as u64;
        f64::from_bits(leading << Self::SHIFT | 1 << (Self::SHIFT - 1)).min(self.max)
    }
}

impl Default for Histogram {
    fn default() -> Self {
        Self { counts: vec![0; Self::BUCKETS], count: 0, sum: 0.0, max: 0.0 }
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
#[derive(Debug, Clone, Default, PartialEq)]
pub struct RunMetrics {
    pub num_requests: u64,
    pub num_completed: u64,
    /// Requests that could never have been admitted, larger than a replica's memory or a batch, and those
    /// that were refused.
    pub num_rejected: u64,
    /// Requests that a replica refused because its queue was full.
    pub num_refused: u64,
    /// Requests that a replica had not finished when its time to leave was over.
    pub num_cut: u64,
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
    /// Share of all requests that kept the stated latency limits; absent without limits.
    pub attainment: Option<f64>,
    /// Requests that kept them, per second.
    pub goodput_per_s: Option<f64>,
    pub total_cost_usd: f64,
    pub mean_cost_usd_per_hour: f64,
    /// Per million prompt and output tokens of completed requests.
    pub cost_usd_per_million_tokens: Option<f64>,
    pub simulated_s: f64,
    pub num_batches: u64,
    /// Seconds that stages worked on batches, summed.
    pub busy_s: f64,
    /// Hours that replicas existed, summed.
    pub replica_hours: f64,
    /// Hours that nodes were billed, summed.
    pub node_hours: f64,
    /// Busy share of the time replicas existed.
    pub utilization: f64,
    pub mean_replicas: f64,
    pub max_replicas: u32,
    pub min_replicas: u32,
    pub scale_ups: u64,
    pub scale_downs: u64,
    /// Replicas whose start was called off by a scale-down.
    pub starts_cancelled: u64,
    /// How often scaling turned from up to down or back.
    pub reversals: u64,
    /// Replicas that crashed or were reclaimed.
    pub replicas_lost: u64,
    /// Time that replicas waited for devices or nodes, summed; absent where they never do.
    pub replicas_pending_s: Option<f64>,
    /// Time in which as many replicas served or started as allowed.
    pub at_max_replicas_s: f64,
    /// Requests not in a replica's memory, over time.
    pub mean_queued_requests: f64,
    pub max_queued_requests: u64,
    /// Time in which there were more unfinished requests than the serving replicas could hold in full
    /// batches.
    pub below_demand_s: f64,
    /// Share of KV blocks in use, over time and replicas.
    pub mean_kv_use: f64,
    /// Largest share in use on one replica.
    pub max_kv_use: f64,
    /// Share of the prompt tokens of completed requests that were cached when they were admitted; absent
    /// without prefix caching.
    pub prefix_hit_rate: Option<f64>,
    /// Absent where requests do not belong to sessions.
    pub sessions: Option<SessionMetrics>,
    /// Absent where there is one pool and nothing else.
    pub fleet: Option<FleetMetrics>,
    /// Each pool by itself, where there are pools.
    pub pools: Vec<PoolMetrics>,
}

/// What a run of several pools is summed up to beyond what every run is.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct FleetMetrics {
    /// KV caches that went from prefill to decode, and their bytes; absent without pools of role `prefill`.
    pub transfers: Option<u64>,
    pub transfer_gb: Option<f64>,
    /// From room for a KV cache to its arrival.
    pub transfer_ms: Option<Distribution>,
    /// Share of completed requests whose prompts were not prefilled apart.
    pub local_prefill_share: Option<f64>,
    /// Devices of replicas that exist.
    pub mean_devices: f64,
    pub max_devices: u64,
    /// Time in which the budget had no room for one more replica of any pool, and replicas that were asked
    /// for and cut; absent without one.
    pub budget_full_s: Option<f64>,
    pub scale_ups_cut: Option<u64>,
    /// Attainment of the model that fares worst; absent without latency limits.
    pub least_attainment: Option<f64>,
    /// Jain's index of the models' attainments; absent with one model.
    pub jain_models: Option<f64>,
}

/// One pool of a run. Its latencies are those within it: of a prefill pool up to the end of the prompt, of a
/// decode pool from then on.
#[derive(Debug, Clone, PartialEq)]
pub struct PoolMetrics {
    pub run: RunMetrics,
    pub devices_per_replica: u64,
    /// Share of KV blocks held by prompts whose KV cache is on its way here, over time and replicas.
    pub parked_kv_use: f64,
    /// Share held by prompts computed here whose KV cache had not been read elsewhere.
    pub kept_kv_use: f64,
    /// Tokens whose KV came from elsewhere, their bytes over all ranks, and how long each KV cache was on its
    /// way.
    pub received_tokens: u64,
    pub received_gb: f64,
    pub transfer_ms: Option<Distribution>,
    /// Replicas that were asked for and found no room in the budget, and time in which requests waited and
    /// there was no room for one more; absent without a budget.
    pub scale_ups_cut: Option<u64>,
    pub starved_s: Option<f64>,
}

/// What a run is summed up to where its requests belong to sessions.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct SessionMetrics {
    pub num_sessions: u64,
    /// Sessions of which every request was answered.
    pub num_sessions_completed: u64,
    /// Sessions whose users lost patience.
    pub num_sessions_abandoned: u64,
    /// Requests that never arrived because their sessions ended before.
    pub num_turns_cancelled: u64,
    /// First arrival to last token, of completed sessions.
    pub session_s: Option<Distribution>,
    /// The part of it in which an answer was being waited for.
    pub session_busy_s: Option<Distribution>,
    /// Share of all sessions that were completed with every request within the stated latency limits; absent
    /// without limits.
    pub session_attainment: Option<f64>,
    /// Arrival to first token, of first turns and of all others.
    pub first_turn_ttft_s: Option<Distribution>,
    pub later_turn_ttft_s: Option<Distribution>,
    /// Share of the prompt tokens of later turns that were cached; absent without prefix caching.
    pub later_turn_hit_rate: Option<f64>,
    /// What scaling does to later turns; absent in fleets.
    pub cold_turns: Option<ColdTurns>,
}

/// Answered later turns that came when the replica of the answer before served no more, and the others
/// (`kept`).
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ColdTurns {
    /// Of all answered later turns; the others are means.
    pub share: Option<f64>,
    pub ttft_s: Option<f64>,
    pub kept_ttft_s: Option<f64>,
    /// Prompt tokens that were not cached; absent without prefix caching.
    pub computed_tokens: Option<f64>,
    pub kept_computed_tokens: Option<f64>,
    /// Of all prompt tokens of later turns that were computed.
    pub computed_share: Option<f64>,
}

/// A run at `max_replicas` for more than this share of its time was held back by it.
pub const HELD_BACK: f64 = 0.1;

/// Why so many requests were rejected, of which so many were refused.
pub fn why_rejected(rejected: u64, refused: u64) -> String {
    let large = "larger than a replica's memory or a batch holds";
    match rejected.saturating_sub(refused) {
        0 => "the queues of replicas were full".into(),
        _ if refused == 0 => large.into(),
        too_large => format!("{refused} as the queues of replicas were full, {too_large} {large}"),
    }
}

/// A metric's value: counts stay whole.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum MetricValue {
    Count(u64),
    Number(f64),
    Absent,
}

impl RunMetrics {
    /// What has to be said beside a run's numbers, a sentence each: requests that were rejected, a policy
    /// held back by the cluster's `max_replicas`.
    pub fn remarks(&self, most_replicas: u32) -> Vec<String> {
        let mut remarks = Vec::new();
        let (all, too_large, refused) =
            (self.num_requests, self.num_rejected - self.num_refused, self.num_refused);
        let others = "latencies are those of the others";
        if too_large > 0 {
            remarks.push(format!("{too_large} of {all} requests were rejected: larger than a replica's memory or a batch holds; {others}"));
        }
        if refused > 0 {
            remarks.push(format!(
                "{refused} of {all} requests were turned away by replicas whose queues were full; {others}"
            ));
        }
        let cancelled = self.sessions.as_ref().map_or(0, |sessions| sessions.num_turns_cancelled);
        if cancelled > 0 {
            remarks.push(format!(
                "{cancelled} of {all} requests never came: an earlier turn of their session got no answer, or its user left"
            ));
        }
        let share = self.at_max_replicas_s / self.simulated_s;
        if share > HELD_BACK {
            remarks.push(format!(
                "held back by `max_replicas`: at {most_replicas} replicas for {:.0} % of the time",
                100.0 * share
            ));
        }
        remarks
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin sorts and walks up to the rank.
        #[test]
        fn percentiles_equal_a_sort(sample in prop::collection::vec(0_u32..50, 1..300), scale in 0.0..3.0) {
            let mut values: Vec<f64> = sample.iter().map(|&v| scale * f64::from(v)).collect();
            let mut kept = Sample::default();
            kept.extend(values.iter().copied());
            let found = Distribution::of(&kept, &mut Buckets::default()).unwrap();
            values.sort_by(f64::total_cmp);
            let count = values.len() as f64;
            for (p, found) in [(50.0, found.p50), (75.0, found.p75), (90.0, found.p90), (95.0, found.p95), (99.0, found.p99), (100.0, found.max)] {
                let expected = values.iter().zip(1..).find(|&(_, rank)| f64::from(rank) / count >= p / 100.0).unwrap().0;
                prop_assert_eq!(found, *expected);
            }
        }
    }

    proptest! {
        #[test]
        fn a_histogram_is_close(sample in prop::collection::vec(0.0_f64..200.0, 1..300), small in 0.0_f64..1e-6) {
            let (mut exact, mut coarse) = (Sample::default(), Histogram::default());
            for value in sample.into_iter().chain([small, 0.0]) {
                exact.push(value);
                coarse.push(value);
            }
            let (exact, coarse) = (Distribution::of(&exact, &mut Buckets::default()).unwrap(), coarse.distribution().unwrap());
            prop_assert_eq!((exact.mean, exact.max), (coarse.mean, coarse.max));
            for (exact, coarse) in [(exact.p50, coarse.p50), (exact.p75, coarse.p75), (exact.p90, coarse.p90), (exact.p99, coarse.p99)] {
                prop_assert!((exact - coarse).abs() <= exact / 8192.0 + 1e-9, "{} {}", exact, coarse);
            }
        }
    }

    #[test]
    fn nothing_has_no_distribution() {
        assert_eq!(Histogram::default().distribution(), None);
        assert_eq!(Distribution::of(&Sample::default(), &mut Buckets::default()), None);
    }
}
