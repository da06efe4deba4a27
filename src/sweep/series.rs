//! Curves of single runs, for plots: thinned to what an eye can tell apart.

use super::plan::Plan;
use super::row::{RunSeries, Series};
use super::run::{Interrupted, Progress, for_each_cell, run_cell_for_curves};
use crate::simulation::{Detail, Workspace};

/// Bins of the curves that are means over time.
const BINS: usize = 240;

/// Points of a cumulative distribution.
const CDF_POINTS: usize = 200;

/// Runs of a sweep that have curves, at most: each is run once more for them.
pub const MOST_CURVES: usize = 500;

/// The curves of `cells`, each of which is run once more to be recorded, on the current rayon pool. Runs that fail have none.
pub fn of_cells(plan: &Plan, cells: &[u64], progress: &dyn Progress) -> Result<Vec<RunSeries>, Interrupted> {
    let curves = for_each_cell(plan, cells, progress, |cell, inputs, workspace: &mut Workspace| {
        let detail = run_cell_for_curves(cell, inputs, workspace)?;
        Ok(RunSeries { run_id: plan.id(cell), series: of_detail(&detail) })
    })?;
    Ok(curves.into_iter().flatten().collect())
}

/// The curves that [`RunSeries`] names.
pub fn of_detail(detail: &Detail) -> Vec<Series> {
    let completed = detail.requests.iter().filter_map(|request| request.completed_at_s);
    let changed = detail.replicas.iter().map(|replica| replica.time_s);
    let arrived = detail.requests.iter().map(|request| request.arrived_at_s);
    let end_s = completed.chain(changed).chain(arrived).fold(0.0, f64::max);
    let replicas = |count: fn(&crate::simulation::ReplicaRecord) -> u32| {
        detail.replicas.iter().map(|replica| (replica.time_s, f64::from(count(replica)))).collect()
    };
    let waits = detail.requests.iter().map(|r| (r.arrived_at_s, r.scheduled_at_s.or(r.completed_at_s).unwrap_or(r.arrived_at_s)));
    vec![
        Series { name: "num_replicas", points: replicas(|replica| replica.num_replicas) },
        Series { name: "num_draining", points: replicas(|replica| replica.num_draining) },
        Series { name: "queue_length", points: mean_present(waits, end_s) },
        Series { name: "arrival_rate_per_s", points: rate(detail.requests.iter().map(|r| r.arrived_at_s), end_s) },
        Series { name: "e2e_cdf", points: cdf(detail.requests.iter().filter_map(|r| Some(r.completed_at_s? - r.arrived_at_s)).collect()) },
    ]
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
    let rank = |point: usize| if points == 1 { 1 } else { 1 + point * (sample.len() - 1) / (points - 1) };
    (0..points).map(|point| (sample[rank(point) - 1], rank(point) as f64 / sample.len() as f64)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

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
        assert_eq!((many.len(), many[0], many[CDF_POINTS - 1]), (CDF_POINTS, (1.0, 0.001), (1000.0, 1.0)));
        assert!(many.is_sorted());
    }
}
