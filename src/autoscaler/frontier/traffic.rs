//! How many requests per second arrive, how sure that is, and how bursty they are.
//!
//! Counts are kept over windows of 1, 2, 4, .. ticks that end now. The estimate is the longest window that agrees with every shorter one
//! (Lepski's rule): steady traffic is averaged over minutes, a jump is followed within a few ticks, and nothing is tuned.

use std::collections::{BTreeMap, VecDeque};

/// A window disagrees with a longer one if its count is this many standard deviations off: rare by chance over many windows and ticks.
const AGREEMENT: f64 = 3.0;
/// Windows grow up to this number of ticks.
const MOST_TICKS: usize = 512;

/// A rate with its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateEstimate {
    pub per_s: f64,
    pub deviation_per_s: f64,
    /// Variance of counts over their mean; 1 for a Poisson stream.
    pub dispersion: f64,
    pub window_s: f64,
}

#[derive(Debug, Clone, Default)]
pub struct ArrivalCounts {
    /// Arrivals up to each of the last ticks, and when the tick was; the latest last.
    totals: VecDeque<(f64, u64)>,
    total: u64,
}

impl ArrivalCounts {
    pub fn observe(&mut self, arrivals: usize) {
        self.total += arrivals as u64;
    }

    /// Ends a tick.
    pub fn tick(&mut self, now_s: f64) {
        self.totals.push_back((now_s, self.total));
        if self.totals.len() > MOST_TICKS + 1 {
            self.totals.pop_front();
        }
    }

    /// `None` before the second tick.
    pub fn estimate(&self) -> Option<RateEstimate> {
        let last = self.totals.len().checked_sub(1).filter(|&last| last > 0)?;
        let (now_s, total) = self.totals[last];
        let dispersion = self.dispersion(last);
        let window = |ticks: usize| {
            let (from_s, before) = self.totals[last - ticks];
            let (window_s, count) = (now_s - from_s, (total - before) as f64);
            // Half an arrival more than seen: with no arrivals at all, a rate of 0 is not certain.
            RateEstimate { per_s: count / window_s, deviation_per_s: (dispersion * (count + 0.5)).sqrt() / window_s, dispersion, window_s }
        };
        let ladder: Vec<RateEstimate> =
            std::iter::successors(Some(1), |&ticks| (ticks < last).then(|| (2 * ticks).min(last))).map(window).collect();
        let agrees = |long: &RateEstimate, short: &RateEstimate| {
            let expected = long.per_s * short.window_s;
            (short.per_s * short.window_s - expected).abs()
                <= AGREEMENT * (dispersion * (expected + 0.5) * (1.0 - short.window_s / long.window_s)).sqrt()
        };
        let longest = (0..ladder.len()).rev().find(|&i| ladder[..i].iter().all(|short| agrees(&ladder[i], short)));
        longest.map(|i| ladder[i])
    }

    /// Mean rate over the last `span_s`, and when that span began; `None` with less history.
    pub fn recent(&self, span_s: f64) -> Option<(f64, f64)> {
        let &(now_s, total) = self.totals.back()?;
        let from = self.totals.partition_point(|&(at_s, _)| at_s <= now_s - span_s).checked_sub(1)?;
        let (from_s, before) = self.totals[from];
        Some(((total - before) as f64 / (now_s - from_s), from_s))
    }

    /// From differences of neighbouring ticks, which a slow trend leaves alone. Starts from the belief that the stream is Poisson, held
    /// with the weight of ten ticks.
    fn dispersion(&self, last: usize) -> f64 {
        let counts = |i: usize| (self.totals[i + 1].1 - self.totals[i].1) as f64;
        let recent = last.saturating_sub(64)..last;
        let mean = recent.clone().map(counts).sum::<f64>() / recent.len() as f64;
        let squares: f64 = recent.clone().skip(1).map(|i| (counts(i) - counts(i - 1)).powi(2) / 2.0).sum();
        let pairs = (recent.len() - 1) as f64;
        if mean == 0.0 { 1.0 } else { ((squares / mean + 10.0) / (pairs + 10.0)).max(1.0) }
    }
}

/// What followed when traffic was like now: for estimates of each size, the rates that were then seen over the next cold start.
#[derive(Debug, Clone, Default)]
pub struct Aftermath {
    /// Estimates whose aftermath is still to come.
    open: VecDeque<(f64, i32)>,
    seen: BTreeMap<i32, VecDeque<f64>>,
}

/// Most observations remembered for each size of estimate.
const MOST_SEEN: usize = 512;

impl Aftermath {
    fn size(rate_per_s: f64) -> i32 {
        // Half octaves.
        (2.0 * rate_per_s.max(1e-9).log2()).round() as i32
    }

    /// Notes the estimate of now, and closes those whose time has come.
    pub fn tick(&mut self, now_s: f64, estimate_per_s: f64, counts: &ArrivalCounts, span_s: f64) {
        if let Some((rate_per_s, from_s)) = counts.recent(span_s) {
            while let Some(&(at_s, size)) = self.open.front().filter(|open| open.0 <= from_s) {
                self.open.pop_front();
                if at_s == from_s {
                    let seen = self.seen.entry(size).or_default();
                    seen.push_back(rate_per_s);
                    if seen.len() > MOST_SEEN {
                        seen.pop_front();
                    }
                }
            }
        }
        self.open.push_back((now_s, Self::size(estimate_per_s)));
    }

    /// Mean excess of the rates that followed over `capacity_per_s`.
    pub fn excess_per_s(&self, estimate_per_s: f64, capacity_per_s: f64) -> f64 {
        let Some(seen) = self.seen.get(&Self::size(estimate_per_s)) else { return 0.0 };
        seen.iter().map(|rate| (rate - capacity_per_s).max(0.0)).sum::<f64>() / seen.len() as f64
    }
}
