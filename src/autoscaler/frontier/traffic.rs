//! How many requests per second arrive, how sure that is, and how bursty they are.
//!
//! Counts are kept over windows of 1, 2, 4, .. seconds that end now, in whole ticks. The estimate is the
//! longest window that agrees with every shorter one (Lepski's rule): steady traffic is averaged over
//! minutes, a jump is followed within seconds, and nothing is tuned.

use std::collections::VecDeque;

/// A window disagrees with a longer one if its count is this many standard deviations off: rare by chance
/// over many windows and ticks.
const AGREEMENT: f64 = 3.0;
/// The shortest window, and the longest stretch over which burstiness is counted.
const SHORTEST_WINDOW_S: f64 = 1.0;
/// Windows grow up to this.
const LONGEST_WINDOW_S: f64 = 512.0;
/// More than there are up to it, whatever a tick is: both ends are whole ticks, the shortest at least half
/// and the longest at most one and a half of what they are in seconds, or sixteen times the shortest.
const MOST_WINDOWS: usize = 16;
/// Time from which the burstiness is estimated.
const DISPERSION_S: f64 = 64.0;
/// Where ticks are long, both are at least so many.
const FEWEST_TICKS: usize = 16;

/// A rate with its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RateEstimate {
    pub per_s: f64,
    pub deviation_per_s: f64,
    /// Variance of counts over their mean; 1 for a Poisson stream.
    pub dispersion: f64,
    pub window_s: f64,
}

/// What is counted over a window that ends now.
#[derive(Debug, Clone, Copy, Default)]
struct Window {
    window_s: f64,
    count: f64,
    per_s: f64,
}

impl Window {
    fn new(window_s: f64, count: f64) -> Self {
        Self { window_s, count, per_s: count / window_s }
    }

    fn estimate(&self, dispersion: f64) -> RateEstimate {
        // Half an arrival more than seen: with no arrivals at all, a rate of 0 is not certain.
        RateEstimate {
            per_s: self.per_s,
            deviation_per_s: (dispersion * (self.count + 0.5)).sqrt() / self.window_s,
            dispersion,
            window_s: self.window_s,
        }
    }
}

#[derive(Debug, Clone)]
pub struct ArrivalCounts {
    shortest_ticks: usize,
    longest_ticks: usize,
    dispersion_ticks: usize,
    /// Arrivals up to each of the last ticks, and when the tick was; the latest last.
    totals: VecDeque<(f64, u64)>,
    total: u64,
    ticks: usize,
    /// By stretches of 1, 2, 4, .. ticks.
    differences: Vec<Differences>,
}

/// What burstiness is told from: how much neighbouring stretches of so many ticks differ, kept up to date
/// tick by tick.
#[derive(Debug, Clone)]
struct Differences {
    /// A power of two.
    ticks: usize,
    /// Sums of the squares of their differences, by where the latest stretch ends: the number of its last
    /// tick modulo `ticks`.
    squares: Vec<u64>,
}

impl ArrivalCounts {
    pub fn new(tick_s: f64) -> Self {
        let ticks = |duration_s: f64| (duration_s / tick_s).round() as usize;
        let shortest_ticks = ticks(SHORTEST_WINDOW_S).max(1);
        let stretches =
            std::iter::successors(Some(1), |&ticks| (ticks < shortest_ticks).then_some(2 * ticks));
        Self {
            shortest_ticks,
            longest_ticks: ticks(LONGEST_WINDOW_S).max(FEWEST_TICKS),
            dispersion_ticks: ticks(DISPERSION_S).max(FEWEST_TICKS),
            totals: VecDeque::new(),
            total: 0,
            ticks: 0,
            differences: stretches.map(|ticks| Differences { ticks, squares: vec![0; ticks] }).collect(),
        }
    }

    pub fn observe(&mut self, arrivals: usize) {
        self.total += arrivals as u64;
    }

    /// Ends a tick.
    pub fn tick(&mut self, now_s: f64) {
        self.totals.push_back((now_s, self.total));
        if self.totals.len() > self.remembered_ticks() + 1 {
            self.totals.pop_front();
        }
        let (before, mut differences) = (self.ticks, std::mem::take(&mut self.differences));
        for Differences { ticks, squares } in &mut differences {
            let squares = &mut squares[before & (*ticks - 1)];
            let (now, then) = (
                self.stretches(*ticks),
                before.saturating_sub(*ticks).min(self.dispersion_ticks) >> ticks.trailing_zeros(),
            );
            if now > 1 {
                *squares += self.difference_squared(*ticks, 0);
                // As many as before: one stretch is too old now.
                if then == now {
                    *squares -= self.difference_squared(*ticks, now - 1);
                }
            }
        }
        self.differences = differences;
        self.ticks += 1;
    }

    fn remembered_ticks(&self) -> usize {
        self.longest_ticks.max(self.dispersion_ticks + 2 * self.shortest_ticks)
    }

    /// Stretches of so many ticks, a power of two, from the latest tick back, from which burstiness is told.
    fn stretches(&self, ticks: usize) -> usize {
        (self.totals.len() - 1).min(self.dispersion_ticks) >> ticks.trailing_zeros()
    }

    /// How much the arrivals of a stretch and of the one before it differ, squared; the latest stretch is
    /// number 0.
    fn difference_squared(&self, ticks: usize, stretch: usize) -> u64 {
        let last = self.totals.len() - 1;
        let [newer, middle, older] = [0, 1, 2].map(|before| self.totals[last - (stretch + before) * ticks].1);
        (newer - middle).abs_diff(middle - older).pow(2)
    }

    /// `None` before the second tick.
    pub fn estimate(&self) -> Option<RateEstimate> {
        let last = self.totals.len().checked_sub(1).filter(|&last| last > 0)?;
        let (now_s, total) = self.totals[last];
        let longest = last.min(self.longest_ticks);
        let dispersion = self.dispersion();
        let mut ladder = [Window::default(); MOST_WINDOWS];
        let (mut windows, mut ticks) = (0, self.shortest_ticks.min(longest));
        loop {
            let (from_s, before) = self.totals[last - ticks];
            ladder[windows] = Window::new(now_s - from_s, (total - before) as f64);
            windows += 1;
            if ticks == longest {
                break;
            }
            ticks = (2 * ticks).min(longest);
        }
        let agrees = |long: &Window, short: &Window| {
            let expected = long.per_s * short.window_s;
            (short.per_s * short.window_s - expected).abs()
                <= AGREEMENT * (dispersion * (expected + 0.5) * (1.0 - short.window_s / long.window_s)).sqrt()
        };
        let agreeing =
            (0..windows).rev().find(|&i| ladder[..i].iter().all(|short| agrees(&ladder[i], short)));
        agreeing.map(|i| ladder[i].estimate(dispersion))
    }

    /// Whether nothing has arrived for as long as is remembered: then further ticks without arrivals change
    /// nothing but the time, and no estimate.
    pub fn is_silent(&self) -> bool {
        self.totals.len() > self.remembered_ticks()
            && self.totals[0].1 == self.total
            && self.differences.iter().all(|differences| differences.squares.iter().all(|&sum| sum == 0))
    }

    /// Lets so many ticks pass, which take `passed_s`, in a silence that lasts.
    pub fn pass(&mut self, ticks: usize, passed_s: f64) {
        self.ticks += ticks;
        self.totals.iter_mut().for_each(|(at_s, _)| *at_s += passed_s);
    }

    /// Mean rate over the latest ticks, as many as are remembered; `None` with less history.
    pub fn recent(&self, ticks: usize) -> Option<f64> {
        let last = self.totals.len().checked_sub(1)?;
        let ((from_s, before), (now_s, total)) =
            (self.totals[last.checked_sub(ticks.min(self.longest_ticks))?], self.totals[last]);
        Some((total - before) as f64 / (now_s - from_s))
    }

    /// The same over all ticks while they are fewer; `None` before the second.
    pub fn recent_so_far(&self, ticks: usize) -> Option<f64> {
        let so_far = self.totals.len().saturating_sub(1);
        (so_far > 0).then(|| self.recent(ticks.min(so_far)))?
    }

    /// The least over stretches of 1, 2, 4, .. ticks up to the shortest window: a change of the rate looks
    /// like burstiness too, and the less the shorter the stretches.
    fn dispersion(&self) -> f64 {
        self.differences
            .iter()
            .map(|differences| self.dispersion_over(differences))
            .fold(f64::INFINITY, f64::min)
    }

    /// From differences of neighbouring stretches, which a slow trend leaves alone. Starts from the belief
    /// that the stream is Poisson, held with the weight of ten of them.
    fn dispersion_over(&self, Differences { ticks, squares }: &Differences) -> f64 {
        let (last, number) = (self.totals.len() - 1, self.stretches(*ticks));
        let sum = (self.totals[last].1 - self.totals[last - number * ticks].1) as f64;
        let (stretches, squares) = (number as f64, squares[(self.ticks - 1) & (ticks - 1)] as f64 / 2.0);
        if sum == 0.0 {
            1.0
        } else {
            ((squares * stretches / sum + 10.0) / (stretches - 1.0 + 10.0)).max(1.0)
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// Arrivals in one second of a Poisson stream.
    fn poisson(rate: f64, random: &mut Xoshiro256PlusPlus) -> usize {
        let (mut count, mut at) = (0, 0.0);
        loop {
            at -= libm::log(1.0 - random.random::<f64>()) / rate;
            if at >= 1.0 {
                return count;
            }
            count += 1;
        }
    }

    #[test]
    fn steady_traffic_is_averaged_and_jumps_are_followed() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(3);
        let mut counts = ArrivalCounts::new(1.0);
        for second in 0..600 {
            counts.observe(poisson(20.0, &mut random));
            counts.tick(f64::from(second));
        }
        let steady = counts.estimate().unwrap();
        assert!((steady.per_s - 20.0).abs() < 3.0 * 20.0_f64.sqrt() / 512.0_f64.sqrt(), "{steady:?}");
        assert!(steady.dispersion < 1.5, "{steady:?}");
        for second in 600..603 {
            counts.observe(poisson(50.0, &mut random));
            counts.tick(f64::from(second));
        }
        let jumped = counts.estimate().unwrap();
        assert!(jumped.per_s > 40.0 && jumped.window_s <= 4.0, "{jumped:?}");
        for second in 603..606 {
            counts.tick(f64::from(second));
        }
        assert!(counts.estimate().unwrap().per_s < 1.0, "silence is followed too");
    }

    #[test]
    fn bunches_are_noticed() {
        let mut counts = ArrivalCounts::new(1.0);
        for second in 0..200 {
            counts.observe(if second % 4 == 0 { 40 } else { 0 });
            counts.tick(f64::from(second));
        }
        assert!(counts.estimate().unwrap().dispersion > 5.0);
    }

    /// The twin looks at all stretches anew at each tick.
    #[test]
    fn burstiness_is_that_of_all_stretches() {
        let by_definition = |counts: &ArrivalCounts, ticks: usize| {
            let remembered = counts.totals.iter().rev().take(counts.dispersion_ticks + 1).step_by(ticks);
            let totals: Vec<f64> = remembered.map(|&(_, total)| total as f64).collect();
            let stretches: Vec<f64> = totals.windows(2).map(|ends| ends[0] - ends[1]).collect();
            let squares: f64 = stretches.windows(2).map(|two| (two[0] - two[1]).powi(2) / 2.0).sum();
            let (number, sum) = (stretches.len() as f64, stretches.iter().sum::<f64>());
            if sum == 0.0 { 1.0 } else { ((squares * number / sum + 10.0) / (number + 9.0)).max(1.0) }
        };
        let mut random = Xoshiro256PlusPlus::seed_from_u64(9);
        for tick_s in [0.1, 0.25, 1.0, 30.0] {
            let mut counts = ArrivalCounts::new(tick_s);
            for tick in 0..1500 {
                counts.observe(poisson(if tick % 100 < 20 { 9.0 } else { 1.0 }, &mut random));
                counts.tick(f64::from(tick) * tick_s);
                let stretches = std::iter::successors(Some(1), |&ticks| {
                    (ticks < counts.shortest_ticks).then_some(2 * ticks)
                });
                let expected =
                    stretches.map(|ticks| by_definition(&counts, ticks)).fold(f64::INFINITY, f64::min);
                assert_eq!(counts.dispersion(), expected, "at tick {tick} of {tick_s} s");
            }
        }
    }
}
