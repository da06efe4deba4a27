//! What followed when traffic was like now, and what may come again.

use std::collections::{BTreeMap, VecDeque};

use super::traffic::ArrivalCounts;

/// What followed when traffic was like now: for estimates of each size, the rates that were seen over a span
/// that began some time later, as multiples of the estimate. So what is known of one rate says nothing wrong
/// of another in the same class of size.
#[derive(Debug, Clone)]
pub struct Aftermath {
    lag_ticks: usize,
    span_ticks: usize,
    /// One observation in so many ticks.
    every_ticks: usize,
    ticks: usize,
    /// The latest estimates, whose aftermath is still to come.
    open: VecDeque<f64>,
    seen: BTreeMap<i32, Seen>,
}

/// What follows is observed about so often: neighbours see nearly the same.
const OBSERVED_EVERY_S: f64 = 1.0;
/// Most observations remembered for each size of estimate.
const MOST_SEEN: usize = 512;
/// Weight of the belief that rates stay as they are, in spans: observations closer together than a span are
/// hardly independent.
const BELIEF_SPANS: f64 = 4.0;
/// Keeps multiples of an estimate of nothing finite.
const LEAST_PER_S: f64 = 1e-9;

impl Aftermath {
    pub fn new(lag_ticks: usize, span_ticks: usize, tick_s: f64) -> Self {
        let every_ticks = (OBSERVED_EVERY_S / tick_s).round().max(1.0) as usize;
        Self { lag_ticks, span_ticks, every_ticks, ticks: 0, open: VecDeque::new(), seen: BTreeMap::new() }
    }

    /// The class of size: half octaves.
    fn size(rate_per_s: f64) -> i32 {
        (2.0 * libm::log2(rate_per_s.max(LEAST_PER_S))).round() as i32
    }

    /// Notes the estimate of now, and closes the one whose time has come.
    pub fn tick(&mut self, estimate_per_s: f64, counts: &ArrivalCounts) {
        self.ticks += 1;
        let closed =
            if self.open.len() == self.lag_ticks + self.span_ticks { self.open.pop_front() } else { None };
        if self.ticks.is_multiple_of(self.every_ticks)
            && let (Some(then_per_s), Some(rate_per_s)) = (closed, counts.recent(self.span_ticks))
        {
            self.seen
                .entry(Self::size(then_per_s))
                .or_default()
                .note(rate_per_s / then_per_s.max(LEAST_PER_S));
        }
        self.open.push_back(estimate_per_s);
    }

    /// Rates that followed estimates like this one, in the two parts in which they are kept: read by slices,
    /// since it is often and there are many.
    fn rates(&self, estimate_per_s: f64) -> [impl ExactSizeIterator<Item = f64>; 2] {
        let (earlier, later) = self
            .seen
            .get(&Self::size(estimate_per_s))
            .map_or((&[][..], &[][..]), |seen| seen.multiples.as_slices());
        [earlier, later]
            .map(|part| part.iter().map(move |multiple| multiple * estimate_per_s.max(LEAST_PER_S)))
    }

    fn belief(&self) -> f64 {
        BELIEF_SPANS * self.span_ticks as f64 / self.every_ticks as f64
    }

    /// The mean rate to expect: of what followed, and of the belief that rates stay as they are.
    pub fn expected_per_s(&self, estimate_per_s: f64) -> f64 {
        let belief = self.belief();
        let believed = (belief, belief * estimate_per_s);
        let (count, sum) = self
            .rates(estimate_per_s)
            .into_iter()
            .fold(believed, |sums, part| part.fold(sums, |(count, sum), rate| (count + 1.0, sum + rate)));
        sum / count
    }

    /// Nearly the same, from the sum of multiples.
    pub fn nearly_expected(&mut self, estimate_per_s: f64) -> Expected {
        /// Rounding makes less of hundreds of additions in another order, by far.
        const OFF: f64 = 1e-11;
        let belief = self.belief();
        let (count, sum) =
            self.seen.get_mut(&Self::size(estimate_per_s)).map_or((0.0, 0.0), Seen::count_and_sum);
        let sum_per_s = belief * estimate_per_s + sum * estimate_per_s.max(LEAST_PER_S);
        Expected { per_s: sum_per_s / (belief + count), off: OFF }
    }

    /// The rates that followed, to be compared with capacities; `buffer` is lent for as long.
    pub fn surges<'a>(&'a self, estimate_per_s: f64, buffer: &'a mut Vec<f64>) -> SeenSurges<'a> {
        let seen = self.seen.get(&Self::size(estimate_per_s));
        let scale_per_s = estimate_per_s.max(LEAST_PER_S);
        SeenSurges { seen, scale_per_s, rates: buffer, above_per_s: f64::INFINITY }
    }
}

/// A rate to expect, and the share of it that it may be off by.
///
/// To add up all that was seen would take most of a decision, which seldom depends on the last bits of the
/// rate: it is told from nearly that rate, and where these bits matter, from the rate itself.
#[derive(Debug, Clone, Copy)]
pub struct Expected {
    pub per_s: f64,
    pub off: f64,
}

impl Expected {
    pub fn exactly(per_s: f64) -> Self {
        Self { per_s, off: 0.0 }
    }
}

/// Rates that were seen after estimates of one size, as multiples of these.
#[derive(Debug, Clone, Default)]
struct Seen {
    /// The latest [`MOST_SEEN`].
    multiples: VecDeque<f64>,
    noted: usize,
    /// Those that no later one exceeds, falling, by their number: the first is the highest of all.
    peaks: VecDeque<(usize, f64)>,
    /// Of the multiples; none where it is out of date.
    sum: Option<f64>,
}

impl Seen {
    fn note(&mut self, multiple: f64) {
        self.multiples.push_back(multiple);
        if self.multiples.len() > MOST_SEEN {
            self.multiples.pop_front();
        }
        while self.peaks.back().is_some_and(|&(_, earlier)| earlier <= multiple) {
            self.peaks.pop_back();
        }
        self.peaks.push_back((self.noted, multiple));
        self.noted += 1;
        while self.peaks[0].0 + self.multiples.len() < self.noted {
            self.peaks.pop_front();
        }
        self.sum = None;
    }

    /// How many there are, and their sum: in an order that sums fast.
    fn count_and_sum(&mut self) -> (f64, f64) {
        const LANES: usize = 8;
        let (earlier, later) = self.multiples.as_slices();
        let sum = *self.sum.get_or_insert_with(|| {
            let mut sums = [0.0; LANES];
            for part in [earlier, later] {
                let (eights, rest) = part.as_chunks::<LANES>();
                for eight in eights {
                    sums.iter_mut().zip(eight).for_each(|(sum, multiple)| *sum += multiple);
                }
                sums[0] += rest.iter().sum::<f64>();
            }
            sums.iter().sum()
        });
        (self.multiples.len() as f64, sum)
    }
}

/// Rates that followed estimates like the one of now.
#[derive(Debug)]
pub struct SeenSurges<'a> {
    seen: Option<&'a Seen>,
    /// What multiples are of.
    scale_per_s: f64,
    /// Those above `above_per_s`, the latest capacity asked for: where that is above all of them, which is
    /// usual, nobody looks at them.
    rates: &'a mut Vec<f64>,
    above_per_s: f64,
}

impl SeenSurges<'_> {
    /// Excess over `capacity_per_s`: its mean, and the mean of its square. A `belief` of both counts as one
    /// observation. Asked for rising capacities, it looks only at what was above the one before.
    pub fn excess_per_s(&mut self, capacity_per_s: f64, belief: (f64, f64)) -> (f64, f64) {
        let Some(seen) = self.seen else { return belief };
        let count = 1.0 + seen.multiples.len() as f64;
        if seen.peaks[0].1 * self.scale_per_s <= capacity_per_s {
            return (belief.0 / count, belief.1 / count);
        }
        if capacity_per_s < self.above_per_s {
            let (earlier, later) = seen.multiples.as_slices();
            self.rates.clear();
            for part in [earlier, later] {
                self.rates.extend(part.iter().map(|multiple| multiple * self.scale_per_s));
            }
        }
        self.above_per_s = capacity_per_s;
        keep_above(self.rates, capacity_per_s);
        let excesses = self.rates.iter().map(|&rate| rate - capacity_per_s);
        let (sum, squares) =
            excesses.fold(belief, |(sum, squares), excess| (sum + excess, squares + excess * excess));
        (sum / count, squares / count)
    }
}

/// Drops the others, in order. Which ones these are is anybody's guess, so nothing is decided by a branch.
fn keep_above(rates: &mut Vec<f64>, capacity_per_s: f64) {
    let mut kept = 0;
    for place in 0..rates.len() {
        let rate = rates[place];
        rates[kept] = rate;
        kept += usize::from(rate > capacity_per_s);
    }
    rates.truncate(kept);
}

/// What has been may come again, the less likely the longer ago: for traffic whose aftermath has not been
/// seen yet.
///
/// Gaps of all lengths are taken to be alike (density falling with the square of the length), so a rate last
/// seen `ago` is back within the next span with probability `span / (span + ago)`. For the span after the
/// next it is taken to be the same.
#[derive(Debug, Clone)]
pub struct Returns {
    span_s: f64,
    /// Rates that no later one exceeds, falling, and when they were last seen.
    peaks: VecDeque<(f64, f64)>,
}

/// Rates that differ by less are one peak.
const PEAK_RATIO: f64 = 0.95;

impl Returns {
    pub fn new(span_s: f64) -> Self {
        Self { span_s, peaks: VecDeque::new() }
    }

    pub fn note(&mut self, now_s: f64, rate_per_s: f64) {
        while self.peaks.back().is_some_and(|&(_, earlier)| earlier <= rate_per_s) {
            self.peaks.pop_back();
        }
        match self.peaks.back_mut() {
            Some((at_s, peak)) if rate_per_s > PEAK_RATIO * *peak => *at_s = now_s,
            _ => self.peaks.push_back((now_s, rate_per_s)),
        }
    }

    /// The highest peak there has been, if it is above a capacity; else nothing.
    pub fn highest_per_s(&self, capacity_per_s: f64) -> f64 {
        self.peaks.front().map_or(0.0, |&(_, peak)| if peak > capacity_per_s { peak } else { 0.0 })
    }

    /// Excess over `capacity_per_s` to expect, and its square, of the peak whose return would cost most: a
    /// surge costs the excess plus its square over the capacity. So that cost falls as capacity rises,
    /// whichever peak it is of.
    pub fn excess_per_s(&self, now_s: f64, capacity_per_s: f64) -> (f64, f64) {
        let cost = |(excess, squared): (f64, f64)| excess + squared / capacity_per_s;
        let (mut most, mut highest_cost) = ((0.0, 0.0), cost((0.0, 0.0)));
        for &(at_s, peak) in self.peaks.iter().take_while(|&&(_, peak)| peak > capacity_per_s) {
            let (chance, excess) = (self.span_s / (self.span_s + now_s - at_s), peak - capacity_per_s);
            let expected = (chance * excess, chance * excess * excess);
            if cost(expected) > highest_cost {
                (most, highest_cost) = (expected, cost(expected));
            }
        }
        most
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::*;

    /// The twin looks at all that was, not only at peaks.
    #[test]
    fn what_was_may_return() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(5);
        let (mut returns, mut all) = (Returns::new(10.0), Vec::new());
        for second in 0..500 {
            let now_s = f64::from(second);
            let rate = random.random_range(0.0..1.0_f64).powi(4) * 60.0;
            returns.note(now_s, rate);
            all.push((now_s, rate));
            let mut dearer = f64::INFINITY;
            for capacity in (1..60).map(f64::from) {
                let cost = |chance: f64, excess: f64| chance * (excess + excess * excess / capacity);
                let by_definition =
                    |(at_s, rate): (f64, f64)| cost(10.0 / (10.0 + now_s - at_s), (rate - capacity).max(0.0));
                let expected = all.iter().copied().map(by_definition).fold(0.0, f64::max);
                let (excess, squared) = returns.excess_per_s(now_s, capacity);
                let found = excess + squared / capacity;
                // A peak is refreshed by what comes within a twentieth of it.
                let within = cost(1.0, 60.0 - capacity) - cost(1.0, (0.95 * 60.0 - capacity).max(0.0));
                assert!(found >= expected - 1e-9 && found <= expected + within, "{found}, {expected}");
                assert!(found <= dearer + 1e-9, "more capacity, more cost: {found} after {dearer}");
                dearer = found;
            }
        }
        assert!(returns.peaks.len() < 60, "peaks of one size are one");
        assert_eq!(returns.excess_per_s(500.0, 60.0), (0.0, 0.0));
    }

    /// The twins look at all multiples.
    #[test]
    fn what_was_seen_is_summed_up() {
        let (mut random, mut seen) = (Xoshiro256PlusPlus::seed_from_u64(6), Seen::default());
        for i in 0..3 * MOST_SEEN {
            seen.note((4.0 * random.random::<f64>()).floor() + f64::from(u8::from(i % 700 == 0)) * 9.0);
            let highest = seen.multiples.iter().copied().fold(0.0, f64::max);
            assert_eq!(seen.peaks[0].1, highest, "after {i}");
            let expected = (seen.multiples.len() as f64, seen.multiples.iter().sum::<f64>());
            assert_eq!(seen.count_and_sum(), expected, "of whole numbers, in any order");
        }
        assert_eq!(seen.multiples.len(), MOST_SEEN);
    }

    /// After every spell of 10/s of which one in ten is followed by 60/s, that is expected at 10/s and
    /// nowhere else.
    #[test]
    fn what_followed_is_remembered_by_size() {
        const NOTHING: (f64, f64) = (0.0, 0.0);
        let surge = |aftermath: &Aftermath, estimate_per_s: f64, capacity_per_s: f64, belief: (f64, f64)| {
            aftermath.surges(estimate_per_s, &mut Vec::new()).excess_per_s(capacity_per_s, belief)
        };
        let (mut counts, mut soon, mut late) =
            (ArrivalCounts::new(1.0), Aftermath::new(0, 5, 1.0), Aftermath::new(5, 5, 1.0));
        for second in 0..1000 {
            let surge = second % 50 >= 45;
            counts.observe(if surge { 60 } else { 10 });
            counts.tick(f64::from(second));
            for aftermath in [&mut soon, &mut late] {
                aftermath.tick(if surge { 60.0 } else { 10.0 }, &counts);
            }
        }
        // Of 45 quiet ticks, four see a part of the surge within 5 s and one all of it: 50 * (1 + 2 + 3 + 4 + 5)
        // / 5 above 10/s. What is remembered is no whole number of periods.
        let (excess, squared) = surge(&soon, 10.0, 10.0, NOTHING);
        assert!((excess - 150.0 / 45.0).abs() < 0.3, "{excess}");
        assert!((squared - 5500.0 / 45.0).abs() < 11.0, "{squared}");
        // Five seconds later four more see its end, and nothing comes within a span and a lag of the surge
        // itself.
        assert!(
            (surge(&late, 10.0, 10.0, NOTHING).0 - 250.0 / 45.0).abs() < 0.5,
            "{:?}",
            surge(&late, 10.0, 10.0, NOTHING)
        );
        assert!(surge(&soon, 60.0, 10.0, NOTHING).0 > 0.0);
        assert_eq!(surge(&late, 60.0, 10.0, NOTHING).0, 0.0);
        assert_eq!(surge(&soon, 10.0, 60.0, NOTHING), (0.0, 0.0));
        assert_eq!(surge(&soon, 200.0, 0.0, NOTHING), (0.0, 0.0));
        // What followed is taken as a multiple: 11/s is of the size of 10/s, and what follows is a tenth
        // more.
        let (tenth_more, _) = surge(&soon, 11.0, 11.0, NOTHING);
        assert!((tenth_more - 1.1 * excess).abs() < 1e-9, "{tenth_more}, {excess}");
        // The belief that nothing changes weighs as much as 20 of the 512 ticks remembered; a belief in a
        // return as much as one.
        let expected = soon.expected_per_s(10.0);
        assert!((expected - (10.0 + excess * 513.0 / 532.0)).abs() < 1e-9, "{expected}, {excess}");
        assert_eq!(soon.expected_per_s(200.0), 200.0);
        // Asked for one capacity after the other, the answers are those by definition.
        let (mut buffer, believed) = (Vec::new(), (30.0, 500.0));
        let mut surges = soon.surges(10.0, &mut buffer);
        for capacity in [0.0, 5.0, 10.0, 10.0, 10.5, 25.0, 11.0, 59.0, 60.0, 61.0, 30.0] {
            let excesses: Vec<f64> =
                soon.rates(10.0).into_iter().flatten().map(|rate| (rate - capacity).max(0.0)).collect();
            let mean = |belief: f64, power: i32| {
                (belief + excesses.iter().map(|excess| excess.powi(power)).sum::<f64>())
                    / (excesses.len() + 1) as f64
            };
            let (excess, squared) = surges.excess_per_s(capacity, believed);
            assert_eq!(surge(&soon, 10.0, capacity, believed), (excess, squared), "asked for this one alone");
            assert!(
                (excess - mean(30.0, 1)).abs() < 1e-9 && (squared - mean(500.0, 2)).abs() < 1e-9,
                "{capacity}: {excess}, {squared}"
            );
        }
        assert_eq!(
            surge(&soon, 200.0, 0.0, (3.0, 9.0)),
            (3.0, 9.0),
            "where nothing was seen, what is believed counts alone"
        );
        assert!((surge(&soon, 10.0, 10.0, (513.0, 0.0)).0 - excess - 1.0).abs() < 1e-9);
    }
}
