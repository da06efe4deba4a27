//! The traffic envelope: the highest token rate over a window within a look-back, exact and O(1) amortised.
//!
//! At time t, for window w and look-back L: the maximum over arrivals e in (t - L, t] of the tokens arrived in (max(e - w, t - L), e],
//! divided by w; 0 without arrivals. This is the maximum over all windows (s, s + w] inside (t - L, t]. With less history than w it is the
//! tokens so far over w.
//!
//! Two kinds of windows compete. Those wholly inside the look-back have a sum fixed when their last request arrives; a queue of two parts
//! keeps their maximum: of new arrivals the largest sum so far, of earlier ones at each the largest from there on, found in one sweep
//! backwards whenever the earlier ones run out. Those cut by the look-back's edge all start there, so the latest of them is the largest:
//! one difference of running totals.
//!
//! Source: the network envelope of InferLine (Crankshaw et al., SoCC 2020), with tokens for queries as the lab has it.

use std::ops::Index;

/// The envelope of one direction. Each direction keeps its own history, so one's look-back never evicts what the other still needs.
#[derive(Debug, Clone)]
pub struct TrafficEnvelope {
    look_back_s: f64,
    window_s: f64,
    /// Arrivals that may still matter.
    arrivals: Fifo<Arrival>,
    /// Tokens of all arrivals so far.
    total: u64,
    /// Number of the first arrival inside the window that ends with the latest arrival.
    window_start: u64,
    /// Number of the first arrival whose whole window lies inside the look-back.
    whole: u64,
    /// Number of the first arrival that no sweep has seen, and the largest window sum from it on.
    swept: u64,
    largest_since: u64,
}

#[derive(Debug, Clone, Copy)]
struct Arrival {
    at_s: f64,
    /// Tokens of all arrivals before this one.
    before: u64,
    /// Tokens of the window that ends here; after a sweep, of the largest window that ends here or later, up to the sweep.
    largest: u64,
}

impl TrafficEnvelope {
    /// The look-back must be at least the window.
    pub fn new(look_back_s: f64, window_s: f64) -> Self {
        assert!(window_s <= look_back_s, "window {window_s} s exceeds look-back {look_back_s} s");
        Self { look_back_s, window_s, arrivals: Fifo::default(), total: 0, window_start: 0, whole: 0, swept: 0, largest_since: 0 }
    }

    /// Counts the tokens of many requests, each with its time of arrival.
    pub fn observe_all(&mut self, requests: impl Iterator<Item = (f64, u64)>) {
        for (at_s, tokens) in requests {
            self.observe(at_s, tokens);
        }
    }

    /// Counts the tokens of a request. Arrivals come in order of time.
    #[inline(always)]
    pub fn observe(&mut self, at_s: f64, tokens: u64) {
        self.arrivals.push(Arrival { at_s, before: self.total, largest: 0 });
        self.total += tokens;
        let edge = at_s - self.window_s;
        let window = self.arrivals.from(self.window_start);
        // How many leave the window is anybody's guess: the usual few without a branch. The arrival itself never does.
        let mut leaving = window.first_chunk::<4>().map_or(0, |first| first.iter().map(|arrival| usize::from(arrival.at_s <= edge)).sum());
        while window[leaving].at_s <= edge {
            leaving += 1;
        }
        let sum = self.total - window[leaving].before;
        self.window_start += leaving as u64;
        self.arrivals.last_mut().largest = sum;
        self.largest_since = self.largest_since.max(sum);
    }

    /// The envelope at `now_s`, tokens per second. Queries come in order of time, and after the arrivals they should see.
    pub fn rate_per_s(&mut self, now_s: f64) -> f64 {
        let edge = now_s - self.look_back_s;
        // With a look-back of at least the window, no later window reaches back over the edge either.
        while self.arrivals.first().is_some_and(|first| first.at_s <= edge) {
            self.arrivals.pop_first();
        }
        self.arrivals.compact();
        let (start, end) = (self.arrivals.start(), self.arrivals.end());
        self.window_start = self.window_start.max(start);
        self.whole = self.whole.max(start);
        while self.whole < end && self.arrivals[self.whole].at_s - self.window_s < edge {
            self.whole += 1;
        }
        if self.whole >= self.swept {
            self.sweep();
        }
        let whole = if self.whole < self.swept { self.arrivals[self.whole].largest } else { 0 };
        // The largest cut window ends with the last arrival before the whole ones begin.
        let before = |number: u64| if number < end { self.arrivals[number].before } else { self.total };
        let cut = before(self.whole) - before(start);
        whole.max(self.largest_since).max(cut) as f64 / self.window_s
    }

    /// Tells each arrival whose window is whole of the largest window from it on.
    fn sweep(&mut self) {
        let mut largest = 0;
        for arrival in self.arrivals.tail_mut(self.whole).iter_mut().rev() {
            largest = arrival.largest.max(largest);
            arrival.largest = largest;
        }
        self.swept = self.arrivals.end();
        self.largest_since = 0;
    }
}

/// A queue whose items are found by how many were pushed before them. What leaves stays in place until [`Self::compact`], so that an
/// index needs no wrapping: half the work of a ring on the path every request takes.
#[derive(Debug, Clone)]
struct Fifo<T> {
    items: Vec<T>,
    /// Items popped from the front that are still in place, and those that are gone.
    popped: usize,
    gone: u64,
}

impl<T> Default for Fifo<T> {
    fn default() -> Self {
        Self { items: Vec::new(), popped: 0, gone: 0 }
    }
}

impl<T> Fifo<T> {
    /// Number of the first item, which is how many have been popped from the front.
    #[inline]
    fn start(&self) -> u64 {
        self.gone + self.popped as u64
    }

    /// Number the next item will get.
    #[inline]
    fn end(&self) -> u64 {
        self.gone + self.items.len() as u64
    }

    #[inline]
    fn push(&mut self, item: T) {
        self.items.push(item);
    }

    #[inline]
    fn first(&self) -> Option<&T> {
        self.items.get(self.popped)
    }

    /// Only right after a push.
    #[inline]
    fn last_mut(&mut self) -> &mut T {
        self.items.last_mut().expect("one was just pushed")
    }

    /// All from this number on.
    #[inline]
    fn from(&self, number: u64) -> &[T] {
        &self.items[(number - self.gone) as usize..]
    }

    /// All from this number on.
    fn tail_mut(&mut self, number: u64) -> &mut [T] {
        &mut self.items[(number - self.gone) as usize..]
    }

    /// Only after [`Self::first`] found one.
    #[inline]
    fn pop_first(&mut self) {
        self.popped += 1;
    }

    /// Gives popped items' room back once they are the greater part: O(1) per item popped.
    fn compact(&mut self) {
        if self.popped > self.items.len() / 4 * 3 {
            self.items.drain(..self.popped);
            self.gone += self.popped as u64;
            self.popped = 0;
        }
    }
}

impl<T> Index<u64> for Fifo<T> {
    type Output = T;

    #[inline]
    fn index(&self, number: u64) -> &T {
        &self.items[(number - self.gone) as usize]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The definition, word for word.
    pub fn brute_force(arrivals: &[(f64, u64)], now: f64, look_back: f64, window: f64) -> f64 {
        let inside = |at: f64, low: f64, high: f64| low < at && at <= high;
        let ends = arrivals.iter().filter(|(at, _)| inside(*at, now - look_back, now));
        let sum = |end: f64| {
            let low = (end - window).max(now - look_back);
            arrivals.iter().filter(|(at, _)| inside(*at, low, end)).map(|(_, tokens)| tokens).sum::<u64>()
        };
        ends.map(|&(end, _)| sum(end)).max().unwrap_or(0) as f64 / window
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

        /// Gaps in quarter seconds, so that arrivals hit windows' and look-backs' edges exactly.
        #[test]
        fn equals_brute_force(
            steps in prop::collection::vec((0_u32..40, 1_u64..500, 0_u32..4), 1..120),
            window in 1_u32..40, beyond in 0_u32..60,
        ) {
            let (window, look_back) = (f64::from(window) * 0.25, f64::from(window + beyond) * 0.25);
            let mut envelope = TrafficEnvelope::new(look_back, window);
            let (mut now, mut seen) = (0.0, Vec::new());
            for (gap, tokens, idle) in steps {
                now += f64::from(gap) * 0.25 / 4.0;
                seen.push((now, tokens));
                envelope.observe(now, tokens);
                if idle > 1 {
                    now += f64::from(idle - 1) * 3.25;
                }
                if idle > 0 {
                    prop_assert_eq!(envelope.rate_per_s(now), brute_force(&seen, now, look_back, window));
                }
            }
        }
    }

    #[test]
    fn history_is_forgotten() {
        let mut envelope = TrafficEnvelope::new(80.0, 20.0);
        for second in 0..100_000 {
            envelope.observe(f64::from(second), 257);
            if second % 5 == 0 {
                envelope.rate_per_s(f64::from(second));
            }
        }
        assert!(envelope.arrivals.items.len() <= 360);
        assert_eq!(envelope.rate_per_s(1e6), 0.0);
    }
}
