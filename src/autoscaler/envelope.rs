//! The traffic envelope: the highest token rate over a window within a look-back, exact and O(1) amortised.
//!
//! At time t, for window w and look-back L: the maximum over arrivals e in (t - L, t] of the tokens arrived in (max(e - w, t - L), e],
//! divided by w; 0 without arrivals. This is the maximum over all windows (s, s + w] inside (t - L, t]. With less history than w it is the
//! tokens so far over w.
//!
//! Two kinds of windows compete. Those wholly inside the look-back have a sum fixed when their last request arrives; a deque of falling
//! sums keeps their maximum. Those cut by the look-back's edge all start there, so the latest of them is the largest: one difference of
//! running totals.
//!
//! Source: the network envelope of InferLine (Crankshaw et al., SoCC 2020), with tokens for queries as the lab has it.

use std::collections::VecDeque;

/// The envelope of one direction. Each direction keeps its own history, so one's look-back never evicts what the other still needs.
#[derive(Debug, Clone)]
pub struct TrafficEnvelope {
    look_back_s: f64,
    window_s: f64,
    /// Arrivals that may still matter, with the total of tokens up to and including each.
    arrivals: VecDeque<(f64, u64)>,
    /// How many arrivals have left the front of `arrivals`, and the total of tokens of all of them.
    left: u64,
    left_tokens: u64,
    /// Sequence number of the first arrival inside the window that ends with the latest arrival.
    window_start: u64,
    /// Sequence number of the first arrival whose whole window lies inside the look-back.
    whole: u64,
    /// Sequence numbers and window sums of arrivals, sums falling: candidates for the maximum.
    candidates: VecDeque<(u64, u64)>,
}

impl TrafficEnvelope {
    /// The look-back must be at least the window.
    pub fn new(look_back_s: f64, window_s: f64) -> Self {
        assert!(window_s <= look_back_s, "window {window_s} s exceeds look-back {look_back_s} s");
        Self {
            look_back_s,
            window_s,
            arrivals: VecDeque::new(),
            left: 0,
            left_tokens: 0,
            window_start: 0,
            whole: 0,
            candidates: VecDeque::new(),
        }
    }

    /// Counts the tokens of a request. Arrivals come in order of time.
    #[inline]
    pub fn observe(&mut self, at_s: f64, tokens: u64) {
        let sequence = self.left + self.arrivals.len() as u64;
        let total = self.total() + tokens;
        self.arrivals.push_back((at_s, total));
        let edge = at_s - self.window_s;
        while self.at(self.window_start).0 <= edge {
            self.window_start += 1;
        }
        let sum = total - self.total_before(self.window_start);
        while self.candidates.back().is_some_and(|&(_, other)| other <= sum) {
            self.candidates.pop_back();
        }
        self.candidates.push_back((sequence, sum));
    }

    /// The envelope at `now_s`, tokens per second. Queries come in order of time, and after the arrivals they should see.
    pub fn rate_per_s(&mut self, now_s: f64) -> f64 {
        let edge = now_s - self.look_back_s;
        // With a look-back of at least the window, no later window reaches back over the edge either.
        while let Some(&(at, total)) = self.arrivals.front() {
            if at > edge {
                break;
            }
            self.left += 1;
            self.left_tokens = total;
            self.arrivals.pop_front();
        }
        self.window_start = self.window_start.max(self.left);
        let end = self.left + self.arrivals.len() as u64;
        self.whole = self.whole.max(self.left);
        while self.whole < end && self.at(self.whole).0 - self.window_s < edge {
            self.whole += 1;
        }
        while self.candidates.front().is_some_and(|&(sequence, _)| sequence < self.whole) {
            self.candidates.pop_front();
        }
        let whole = self.candidates.front().map_or(0, |&(_, sum)| sum);
        // The largest cut window ends with the last arrival before the whole ones begin.
        let cut = if self.whole > self.left { self.at(self.whole - 1).1 - self.left_tokens } else { 0 };
        whole.max(cut) as f64 / self.window_s
    }

    #[inline]
    fn at(&self, sequence: u64) -> (f64, u64) {
        self.arrivals[(sequence - self.left) as usize]
    }

    fn total(&self) -> u64 {
        self.arrivals.back().map_or(self.left_tokens, |&(_, total)| total)
    }

    fn total_before(&self, sequence: u64) -> u64 {
        if sequence == self.left { self.left_tokens } else { self.at(sequence - 1).1 }
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
        assert!(envelope.arrivals.len() <= 90 && envelope.candidates.len() <= 90);
        assert_eq!(envelope.rate_per_s(1e6), 0.0);
    }
}
