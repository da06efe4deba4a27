//! Curves of single runs, for plots: thinned to what an eye can tell apart.

use super::objectives::Objectives;
use super::plan::Plan;
use super::row::{RunSeries, Series};
use super::run::{Interrupted, Progress, for_each_cell, run_cell_for_curves};
use crate::simulation::metric::{self, QUANTITIES, Quantity};
use crate::simulation::{Detail, Workspace};

/// Bins of the curves that are means over time.
const BINS: usize = 240;

/// Points of a cumulative distribution.
const CDF_POINTS: usize = 200;

/// Shares of requests beyond quantiles of the tail.
const TAIL: [f64; 17] = [
    0.0050, 0.0040, 0.0032, 0.0025, 0.0020, 0.0016, 0.0013, 0.0010, 0.0008, 0.000_63, 0.0005, 0.0004, 0.000_32, 0.000_25, 0.0002, 0.000_16,
    0.0001,
];

/// Runs of a sweep that have curves, at most: each is run once more for them.
pub const MOST_CURVES: usize = 500;

/// The curves of `cells`, each of which is run once more to be recorded, on the current rayon pool; the distribution is that of the
/// latency they are judged by. Runs that fail have none.
pub fn of_cells(plan: &Plan, cells: &[u64], progress: &dyn Progress) -> Result<Vec<RunSeries>, Interrupted> {
    let quantity = judged(&plan.grid.objectives);
    let curves = for_each_cell(plan, cells, progress, |cell, inputs, workspace: &mut Workspace| {
        let (metrics, detail) = run_cell_for_curves(cell, inputs, workspace)?;
        Ok(RunSeries { run_id: plan.id(cell), series: of_detail(&detail, metrics.simulated_s, &[quantity]) })
    })?;
    Ok(curves.into_iter().flatten().collect())
}

/// What the latency objective is a statistic of; of others end-to-end latency is shown.
pub fn judged(objectives: &Objectives) -> &'static Quantity {
    metric::find(&objectives.latency).and_then(|metric| metric.quantity).unwrap_or(&QUANTITIES[0])
}

/// Name of the curve that is the distribution of a quantity: `ttft_cdf` for `ttft_s`.
pub fn cdf_name(quantity: &Quantity) -> String {
    format!("{}_cdf", quantity.name.trim_end_matches("_s"))
}

/// The curves that [`RunSeries`] names of a run that ended at `end_s`, with the distributions of `quantities`.
pub fn of_detail(detail: &Detail, end_s: f64, quantities: &[&Quantity]) -> Vec<Series> {
    // What a run does at its very end counts in its last bin.
    let completed = detail.requests.iter().filter_map(|request| request.completed_at_s);
    let arrived = detail.requests.iter().map(|request| request.arrived_at_s);
    let end_s = completed.chain(arrived).fold(end_s, f64::max);
    let replicas = |count: fn(&crate::simulation::ReplicaRecord) -> u32| {
        let steps = detail.replicas.iter().map(|replica| (replica.time_s, f64::from(count(replica))));
        let last = detail.replicas.last().filter(|last| last.time_s < end_s).map(|last| (end_s, f64::from(count(last))));
        steps.chain(last).collect()
    };
    let waits = detail.requests.iter().map(|r| (r.arrived_at_s, r.scheduled_at_s.or(r.completed_at_s).unwrap_or(r.arrived_at_s)));
    let over_time = [
        ("num_replicas", replicas(|replica| replica.num_replicas)),
        ("num_draining", replicas(|replica| replica.num_draining)),
        ("queue_length", mean_present(waits, end_s)),
        ("arrival_rate_per_s", rate(detail.requests.iter().map(|r| r.arrived_at_s), end_s)),
    ];
    let distributions = quantities.iter().map(|quantity| {
        let points = cdf(detail.requests.iter().filter_map(quantity.of_request).collect());
        Series { name: cdf_name(quantity), points }
    });
    over_time.map(|(name, points)| Series { name: name.into(), points }).into_iter().chain(distributions).collect()
}

fn bin_of(time_s: f64, width_s: f64) -> usize {
    ((time_s / width_s) as usize).min(BINS - 1)
}

/// Mean number of intervals that are open, in each bin of `[0, end_s)`.
fn mean_present(intervals: impl Iterator<Item = (f64, f64)>, end_s: f64) -> Vec<(f64, f64)> {
    if end_s <= 0.0 {
        return Vec::new();
    }
    let width_s = end_s / BINS as f64;
    // Time open within a bin at the ends of an interval; the change of whole bins covered between them.
    let mut open_s = [0.0; BINS];
    let mut change = [0i64; BINS + 1];
    for (from, to) in intervals {
        let (first, last) = (bin_of(from, width_s), bin_of(to, width_s));
        if first == last {
            open_s[first] += to - from;
            continue;
        }
        open_s[first] += (first + 1) as f64 * width_s - from;
        open_s[last] += to - last as f64 * width_s;
        change[first + 1] += 1;
        change[last] -= 1;
    }
    let covering = change.iter().scan(0, |covering, change| {
        *covering += change;
        Some(*covering)
    });
    covering.zip(open_s).enumerate().map(|(bin, (covering, open))| (bin as f64 * width_s, covering as f64 + open / width_s)).collect()
}

/// Events per second, in each bin of `[0, end_s]`.
fn rate(times: impl Iterator<Item = f64>, end_s: f64) -> Vec<(f64, f64)> {
    if end_s <= 0.0 {
        return Vec::new();
    }
    let width_s = end_s / BINS as f64;
    let mut counts = [0u64; BINS];
    times.for_each(|time_s| counts[bin_of(time_s, width_s)] += 1);
    counts.iter().enumerate().map(|(bin, &count)| (bin as f64 * width_s, count as f64 / width_s)).collect()
}

/// Share of the sample at or below each of its quantiles, the smallest and largest value included.
fn cdf(mut sample: Vec<f64>) -> Vec<(f64, f64)> {
    sample.sort_unstable_by(f64::total_cmp);
    let points = CDF_POINTS.min(sample.len());
    let even = (0..points).map(|point| if points == 1 { 1 } else { 1 + point * (sample.len() - 1) / (points - 1) });
    // The even ones leave out what lies beyond P99.5; there, ten a decade.
    let beyond = TAIL.iter().map(|share| sample.len() - (sample.len() as f64 * share) as usize);
    let mut ranks: Vec<usize> = even.chain(beyond.filter(|rank| *rank > 0)).collect();
    ranks.sort_unstable();
    ranks.dedup();
    ranks.into_iter().map(|rank| (sample[rank - 1], rank as f64 / sample.len() as f64)).collect()
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
            for (start, mean) in mean_present(intervals.iter().copied(), 100.0) {
                let open: f64 = intervals.iter().map(|&(from, to)| (to.min(start + width_s) - from.max(start)).max(0.0)).sum();
                prop_assert!((mean - open / width_s).abs() < 1e-9, "{mean} at {start}, expected {}", open / width_s);
            }
        }
    }

    #[test]
    fn every_quantity_has_its_curve_and_steps_end_with_the_run() {
        let mut request = RequestRecord::new(0, 1.0, 100, 5);
        assert!(QUANTITIES.iter().all(|quantity| (quantity.of_request)(&request).is_none()), "nothing has happened");
        (request.scheduled_at_s, request.first_token_at_s, request.completed_at_s) = (Some(1.5), Some(2.0), Some(4.0));
        let replica = |time_s, num_replicas| ReplicaRecord {
            time_s,
            num_replicas,
            num_draining: 0,
            num_starting: 0,
            num_pending: None,
            num_nodes: None,
            cost_per_hour_usd: 1.0,
        };
        let detail = Detail { requests: vec![request], replicas: vec![replica(0.0, 1), replica(3.0, 2)], ..Detail::default() };
        let series = of_detail(&detail, 9.0, &QUANTITIES.each_ref());
        let points = |name: &str| series.iter().find(|series| series.name == name).unwrap().points.clone();
        let first = |name: &str| points(name)[0].0;
        let found = ["e2e_cdf", "ttft_cdf", "tpot_cdf", "scheduling_delay_cdf", "normalized_latency_cdf"].map(first);
        assert_eq!(found, [3.0, 1.0, 0.5, 0.5, 0.6]);
        assert_eq!(points("num_replicas"), [(0.0, 1.0), (3.0, 2.0), (9.0, 2.0)]);
        let objectives = Objectives { latency: "p99_ttft_s".into(), ..Objectives::default() };
        assert_eq!(cdf_name(judged(&objectives)), "ttft_cdf");
        assert_eq!(judged(&Objectives { latency: "max_queued_requests".into(), ..objectives }).name, "e2e_s");
    }

    #[test]
    fn rates_count_every_event() {
        let points = rate([0.0, 0.1, 50.0, 100.0].into_iter(), 100.0);
        let width_s = 100.0 / BINS as f64;
        assert_eq!(points.len(), BINS);
        assert!((points.iter().map(|(_, rate)| rate * width_s).sum::<f64>() - 4.0).abs() < 1e-9);
        assert!((points[BINS - 1].1 * width_s - 1.0).abs() < 1e-9);
        assert_eq!(rate([].into_iter(), 0.0), []);
    }

    #[test]
    fn distributions_run_from_the_smallest_to_the_largest() {
        assert_eq!(cdf(vec![3.0, 1.0, 2.0, 4.0]), [(1.0, 0.25), (2.0, 0.5), (3.0, 0.75), (4.0, 1.0)]);
        assert_eq!(cdf(vec![7.0]), [(7.0, 1.0)]);
        assert_eq!(cdf(Vec::new()), []);
        let many = cdf((1..=1000).map(f64::from).collect());
        assert_eq!((many[0], many[many.len() - 1]), ((1.0, 0.001), (1000.0, 1.0)));
        assert!((CDF_POINTS..CDF_POINTS + TAIL.len()).contains(&many.len()) && many.contains(&(998.0, 0.998)), "{}", many.len());
        assert!(many.is_sorted());
    }
}
