//! Curves of single runs, for plots: thinned to what an eye can tell apart.

use crate::simulation::fleet::Pool;
use crate::simulation::metric::{self, QUANTITIES, Quantity};
use crate::simulation::{Detail, ReplicaRecord, Workspace};
use crate::sweep::objectives::Objectives;
use crate::sweep::tables::row::Series;

/// Bins of the curves that are means over time.
const BINS: usize = 240;

/// Points of a cumulative distribution.
const CDF_POINTS: usize = 200;

/// Shares of requests beyond quantiles of the tail.
const TAIL: [f64; 17] = [
    0.0050, 0.0040, 0.0032, 0.0025, 0.0020, 0.0016, 0.0013, 0.0010, 0.0008, 0.000_63, 0.0005, 0.0004,
    0.000_32, 0.000_25, 0.0002, 0.000_16, 0.0001,
];

/// Runs of a sweep that have curves, at most.
pub const MOST_CURVES: usize = 500;

/// What the latency objective is a statistic of; of others end-to-end latency is shown.
pub fn judged(objectives: &Objectives) -> &'static Quantity {
    metric::find(&objectives.latency).and_then(|metric| metric.quantity).unwrap_or(&QUANTITIES[0])
}

/// Name of the curve that is the distribution of a quantity: `ttft_cdf` for `ttft_s`.
pub fn cdf_name(quantity: &Quantity) -> String {
    format!("{}_cdf", quantity.name.trim_end_matches("_s"))
}

/// The curves that [`RunSeries`](crate::sweep::tables::row::RunSeries) names of the run that `workspace` was
/// used for last and that ended at `end_s`, if it left a trail.
///
/// Of a fleet each pool's replicas, too.
pub fn of_workspace(
    workspace: &mut Workspace,
    end_s: f64,
    quantity: &Quantity,
    pools: &[Pool],
) -> Option<Vec<Series>> {
    let trail = workspace.trail()?;
    // What a run does at its very end counts in its last bin.
    let end_s = end_s.max(trail.left_at_s);
    let mut series = over_time(&trail.replicas, &trail.waits_s, end_s);
    series.extend(
        pools
            .iter()
            .zip(&trail.of_pools)
            .map(|(pool, replicas)| replicas_of_pool(&pool.name, replicas, end_s)),
    );
    series.push(Series { name: cdf_name(quantity), points: cdf(workspace.values_of(quantity)) });
    Some(series)
}

/// The same of a run that was recorded in full, with the distributions of `quantities`.
pub fn of_detail(detail: &Detail, end_s: f64, quantities: &[&Quantity]) -> Vec<Series> {
    let completed = detail.requests.iter().filter_map(|request| request.completed_at_s);
    let arrived = detail.requests.iter().map(|request| request.arrived_at_s);
    let end_s = completed.chain(arrived).fold(end_s, f64::max);
    let waits = detail.requests.iter().map(|r| (r.arrived_at_s, r.scheduled_at_s.unwrap_or(r.arrived_at_s)));
    let mut series = over_time(&detail.replicas, &waits.collect::<Vec<_>>(), end_s);
    series.extend(detail.pools.iter().map(|pool| replicas_of_pool(&pool.name, &pool.replicas, end_s)));
    series.extend(quantities.iter().map(|quantity| {
        let values: Vec<f64> = detail.requests.iter().filter_map(quantity.of_request).collect();
        Series { name: cdf_name(quantity), points: cdf(&values) }
    }));
    series
}

/// Name of the curve that is the number of a pool's replicas.
pub fn pool_curve(pool: &str) -> String {
    format!("num_replicas[{pool}]")
}

fn replicas_of_pool(pool: &str, replicas: &[ReplicaRecord], end_s: f64) -> Series {
    Series { name: pool_curve(pool), points: steps(replicas, end_s, |replica| replica.num_replicas) }
}

/// What is counted of replicas at each change, up to `end_s`.
fn steps(replicas: &[ReplicaRecord], end_s: f64, count: fn(&ReplicaRecord) -> u32) -> Points {
    let steps = replicas.iter().map(|replica| (replica.time_s, f64::from(count(replica))));
    let last = replicas.last().filter(|last| last.time_s < end_s).map(|last| (end_s, f64::from(count(last))));
    steps.chain(last).collect()
}

/// Replicas, queue and traffic of a run that ended at `end_s`, by when its requests came and when they were
/// first in a batch.
fn over_time(replicas: &[ReplicaRecord], waits_s: &[(f64, f64)], end_s: f64) -> Vec<Series> {
    let (queue_length, arrival_rate) = queue_and_rate(waits_s, end_s);
    let curves = [
        ("num_replicas", steps(replicas, end_s, |replica| replica.num_replicas)),
        ("num_draining", steps(replicas, end_s, |replica| replica.num_draining)),
        ("queue_length", queue_length),
        ("arrival_rate_per_s", arrival_rate),
    ];
    curves.map(|(name, points)| Series { name: name.into(), points }).into()
}

fn bin_of(time_s: f64, width_s: f64) -> usize {
    ((time_s / width_s) as usize).min(BINS - 1)
}

/// A bin and the times that are in it but for its very ends, where rounding decides.
struct Bin {
    number: usize,
    from_s: f64,
    to_s: f64,
}

impl Bin {
    fn of(number: usize, width_s: f64) -> Self {
        /// Far more than rounding makes, and far less than a bin.
        const ENDS: f64 = 1e-12;
        let end_s = |number: usize| number as f64 * width_s;
        Self { number, from_s: end_s(number) * (1.0 + ENDS), to_s: end_s(number + 1) * (1.0 - ENDS) }
    }

    fn holds(&self, time_s: f64) -> bool {
        time_s >= self.from_s && time_s < self.to_s
    }
}

/// Points of a curve.
type Points = Vec<(f64, f64)>;

/// Mean number of intervals that are open, and intervals opened a second, in each bin of `[0, end_s]`.
fn queue_and_rate(intervals: &[(f64, f64)], end_s: f64) -> (Points, Points) {
    if end_s <= 0.0 {
        return (Vec::new(), Vec::new());
    }
    let width_s = end_s / BINS as f64;
    // Time open within a bin at the ends of an interval; the change of whole bins covered between them.
    let mut open_s = [0.0; BINS];
    let mut change = [0i64; BINS + 1];
    let mut opened = [0u64; BINS];
    // Neighbours mostly come and go in one bin: its sums are at hand until another one is begun.
    let mut bin = Bin::of(0, width_s);
    let (mut bin_open_s, mut bin_opened) = (0.0, 0);
    for &(from, to) in intervals {
        if bin.holds(from) && bin.holds(to) {
            bin_open_s += to - from;
            bin_opened += 1;
            continue;
        }
        (open_s[bin.number], opened[bin.number]) = (bin_open_s, bin_opened);
        let (first, last) = (bin_of(from, width_s), bin_of(to, width_s));
        opened[first] += 1;
        if first == last {
            open_s[first] += to - from;
        } else {
            open_s[first] += (first + 1) as f64 * width_s - from;
            open_s[last] += to - last as f64 * width_s;
            change[first + 1] += 1;
            change[last] -= 1;
        }
        bin = Bin::of(first, width_s);
        (bin_open_s, bin_opened) = (open_s[first], opened[first]);
    }
    (open_s[bin.number], opened[bin.number]) = (bin_open_s, bin_opened);
    let covering = change.iter().scan(0, |covering, change| {
        *covering += change;
        Some(*covering)
    });
    let queue = covering
        .zip(open_s)
        .enumerate()
        .map(|(bin, (covering, open))| (bin as f64 * width_s, covering as f64 + open / width_s));
    let rate = opened.iter().enumerate().map(|(bin, &count)| (bin as f64 * width_s, count as f64 / width_s));
    (queue.collect(), rate.collect())
}

/// Ranks, from 1, of the quantiles that are points of a distribution of so many numbers.
fn ranks(count: usize) -> Vec<usize> {
    let points = CDF_POINTS.min(count);
    let even = (0..points).map(|point| if points == 1 { 1 } else { 1 + point * (count - 1) / (points - 1) });
    // The even ones leave out what lies beyond P99.5; there, ten a decade.
    let beyond = TAIL.iter().map(|share| count - (count as f64 * share) as usize);
    let mut ranks: Vec<usize> = even.chain(beyond.filter(|rank| *rank > 0)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks
}

/// Share of the sample, of numbers of at least 0, at or below each of its quantiles, the smallest and largest
/// value included.
///
/// As in [`crate::simulation::Distribution`], the bits of such numbers order as they do: leading bits split
/// the sample into buckets in order, and only those that hold a point are sorted.
fn cdf(sample: &[f64]) -> Vec<(f64, f64)> {
    const MOST_BUCKETS: u64 = 1 << 14;
    let ranks = ranks(sample.len());
    let (least, largest) = sample
        .iter()
        .fold((u64::MAX, 0), |(least, largest), x| (least.min(x.to_bits()), largest.max(x.to_bits())));
    let spread = largest.saturating_sub(least);
    let shift = u64::BITS - (spread / MOST_BUCKETS).leading_zeros();
    let bucket = |value: f64| ((value.to_bits() - least) >> shift) as usize;
    // How many there are in each bucket, and then, of those that hold a point, where their values begin among
    // the sorted ones.
    let mut counts = vec![0_u32; (spread >> shift) as usize + 1];
    sample.iter().for_each(|&value| counts[bucket(value)] += 1);
    const UNWANTED: u32 = u32::MAX;
    let (mut below, mut kept, mut point) = (0, 0, 0);
    // Of each bucket that is wanted: where it begins among what is kept, and how many values are below it
    // that are not.
    let mut wanted = Vec::with_capacity(ranks.len());
    for count in &mut counts {
        let (in_bucket, before) = (*count as usize, point);
        while point < ranks.len() && ranks[point] <= below + in_bucket {
            point += 1;
        }
        *count = UNWANTED;
        if point > before {
            *count = kept as u32;
            wanted.push((kept, in_bucket, below - kept, before..point));
            kept += in_bucket;
        }
        below += in_bucket;
    }
    let mut values = vec![0.0; kept];
    for &value in sample {
        let next = &mut counts[bucket(value)];
        if *next != UNWANTED {
            values[*next as usize] = value;
            *next += 1;
        }
    }
    let mut found = Vec::with_capacity(ranks.len());
    for (from, count, left_out, at) in wanted {
        values[from..from + count].sort_unstable_by(f64::total_cmp);
        found.extend(
            at.map(|point| (values[ranks[point] - 1 - left_out], ranks[point] as f64 / sample.len() as f64)),
        );
    }
    found
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::simulation::{ReplicaRecord, RequestRecord};

    proptest! {
        /// The slow twin measures every interval against every bin.
        #[test]
        fn presence_equals_its_slow_twin(intervals in prop::collection::vec((0.0..90.0f64, 0.0..10.0f64), 0..40)) {
            let intervals: Vec<_> = intervals.into_iter().map(|(from, length)| (from, from + length)).collect();
            let width_s = 100.0 / BINS as f64;
            for (start, mean) in queue_and_rate(&intervals, 100.0).0 {
                let open: f64 = intervals.iter().map(|&(from, to)| (to.min(start + width_s) - from.max(start)).max(0.0)).sum();
                prop_assert!((mean - open / width_s).abs() < 1e-9, "{mean} at {start}, expected {}", open / width_s);
            }
        }
    }

    proptest! {
        /// The slow twin finds the bin of each end by itself: times in their order, out of it, and where bins
        /// meet.
        #[test]
        fn queues_and_rates_are_added_up_in_order(
            steps in prop::collection::vec((prop_oneof![8 => 0.0..0.1f64, 1 => -3.0..3.0f64], prop_oneof![6 => 0.0..0.01f64, 1 => 0.0..4.0f64], any::<bool>()), 0..400),
            end_s in 20.0..21.0f64,
        ) {
            let width_s = end_s / BINS as f64;
            let mut now = 0.0;
            let intervals: Vec<_> = steps.iter().map(|&(step, length, on_end)| {
                now = (now + step).clamp(0.0, 15.0);
                let from = if on_end { (now / width_s).round() * width_s } else { now };
                (from, from + length)
            }).collect();
            let (mut open_s, mut opened, mut covering) = ([0.0; BINS], [0_u64; BINS], [0_i64; BINS]);
            for &(from, to) in &intervals {
                let (first, last) = (bin_of(from, width_s), bin_of(to, width_s));
                opened[first] += 1;
                if first == last {
                    open_s[first] += to - from;
                } else {
                    open_s[first] += (first + 1) as f64 * width_s - from;
                    open_s[last] += to - last as f64 * width_s;
                    covering[first + 1..last].iter_mut().for_each(|covering| *covering += 1);
                }
            }
            let (queue, rate) = queue_and_rate(&intervals, end_s);
            for bin in 0..BINS {
                prop_assert_eq!(queue[bin].1, covering[bin] as f64 + open_s[bin] / width_s);
                prop_assert_eq!(rate[bin].1, opened[bin] as f64 / width_s);
            }
        }
    }

    proptest! {
        /// The slow twin sorts everything.
        #[test]
        fn distributions_equal_a_sort(
            sample in prop::collection::vec(prop_oneof![0.0..3.0f64, 0.0..1e-9f64, Just(0.0), Just(2.5), 0.0..1e6f64], 0..900),
        ) {
            let mut sorted = sample.clone();
            sorted.sort_by(f64::total_cmp);
            let expected: Vec<_> = ranks(sample.len()).iter().map(|&rank| (sorted[rank - 1], rank as f64 / sample.len() as f64)).collect();
            prop_assert_eq!(cdf(&sample), expected);
        }
    }

    #[test]
    fn every_quantity_has_its_curve_and_steps_end_with_the_run() {
        let mut request = RequestRecord::new(0, 1.0, 100, 5);
        assert!(
            QUANTITIES.iter().all(|quantity| (quantity.of_request)(&request).is_none()),
            "nothing has happened"
        );
        (request.scheduled_at_s, request.first_token_at_s, request.completed_at_s) =
            (Some(1.5), Some(2.0), Some(4.0));
        let replica = |time_s, num_replicas| ReplicaRecord {
            time_s,
            num_replicas,
            num_draining: 0,
            num_starting: 0,
            num_pending: None,
            num_nodes: None,
            cost_per_hour_usd: 1.0,
        };
        let detail = Detail {
            requests: vec![request],
            replicas: vec![replica(0.0, 1), replica(3.0, 2)],
            ..Detail::default()
        };
        let series = of_detail(&detail, 9.0, &QUANTITIES.each_ref());
        let points = |name: &str| series.iter().find(|series| series.name == name).unwrap().points.clone();
        let first = |name: &str| points(name)[0].0;
        let found =
            ["e2e_cdf", "ttft_cdf", "tpot_cdf", "scheduling_delay_cdf", "normalized_latency_cdf"].map(first);
        assert_eq!(found, [3.0, 1.0, 0.5, 0.5, 0.6]);
        assert_eq!(points("num_replicas"), [(0.0, 1.0), (3.0, 2.0), (9.0, 2.0)]);
        let objectives = Objectives { latency: "p99_ttft_s".into(), ..Objectives::default() };
        assert_eq!(cdf_name(judged(&objectives)), "ttft_cdf");
        assert_eq!(judged(&Objectives { latency: "max_queued_requests".into(), ..objectives }).name, "e2e_s");
    }

    #[test]
    fn rates_count_every_event() {
        let points = queue_and_rate(&[0.0, 0.1, 50.0, 100.0].map(|at_s| (at_s, at_s)), 100.0).1;
        let width_s = 100.0 / BINS as f64;
        assert_eq!(points.len(), BINS);
        assert!((points.iter().map(|(_, rate)| rate * width_s).sum::<f64>() - 4.0).abs() < 1e-9);
        assert!((points[BINS - 1].1 * width_s - 1.0).abs() < 1e-9);
        assert_eq!(queue_and_rate(&[], 0.0), (vec![], vec![]));
    }

    #[test]
    fn distributions_run_from_the_smallest_to_the_largest() {
        assert_eq!(cdf(&[3.0, 1.0, 2.0, 4.0]), [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)]);
        assert_eq!(cdf(&[7.0]), [(7.0, 1.0)]);
        assert_eq!(cdf(&[]), []);
        let many = cdf(&(1..=1000).map(f64::from).collect::<Vec<_>>());
        assert_eq!((many[0], many[many.len() - 1]), ((1.0, 0.001), (1000.0, 1.0)));
        assert!(
            (CDF_POINTS..CDF_POINTS + TAIL.len()).contains(&many.len()) && many.contains(&(998.0, 0.998)),
            "{}",
            many.len()
        );
        assert!(many.is_sorted());
    }
}
