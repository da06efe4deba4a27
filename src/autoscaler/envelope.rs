//! The traffic envelope: the highest token rate over a window within a look-back, exact. Updates and queries
//! are O(1) amortised, and no single one takes more than O(log n) steps and a constant.
//!
//! At time t, for window w and look-back L: the maximum over arrivals e in (t - L, t] of the tokens arrived
//! in (max(e - w, t - L), e], divided by w; 0 without arrivals. This is the maximum over all windows (s, s +
//! w] inside (t - L, t]. With less history than w it is the tokens so far over w.
//!
//! Two kinds of windows compete. Those cut by the look-back's edge all start there, so the latest of them is
//! the largest: one difference of running totals. Those wholly inside have a sum fixed when their last
//! request arrives, and arrivals come in chunks: in the chunk where the whole windows begin one sweep
//! backwards tells each arrival of the largest sum from it on; of the full chunks after it a falling queue
//! keeps the largest sums; of the chunk being filled there is the largest sum so far. Arrivals are left
//! behind by whole chunks, in strides that double.
//!
//! Source: the network envelope of InferLine (Crankshaw et al., SoCC 2020), with tokens for queries as the
//! lab has it.

use std::collections::VecDeque;

/// The envelope of one direction. Each direction keeps its own history, so one's look-back never evicts what
/// the other still needs.
#[derive(Debug, Clone)]
pub struct TrafficEnvelope {
    look_back_s: f64,
    window_s: f64,
    arrivals: Arrivals,
    /// Number of the first arrival inside the look-back.
    start: u64,
    /// Number of the first arrival inside the window that ends with the latest arrival.
    window_start: u64,
    /// Number of the first arrival whose whole window lies inside the look-back.
    whole: u64,
    /// Number of the first arrival that no sweep has seen.
    swept: u64,
    /// Full chunks and the largest sums of theirs that no sweep has seen: those that no later chunk reaches.
    peaks: Gradual<(u64, u64)>,
    /// The same sum of the chunk being filled.
    largest_since: u64,
}

impl TrafficEnvelope {
    /// The look-back must be at least the window.
    pub fn new(look_back_s: f64, window_s: f64) -> Self {
        assert!(window_s <= look_back_s, "window {window_s} s exceeds look-back {look_back_s} s");
        Self {
            look_back_s,
            window_s,
            arrivals: Arrivals::default(),
            start: 0,
            window_start: 0,
            whole: 0,
            swept: 0,
            peaks: Gradual::default(),
            largest_since: 0,
        }
    }

    /// Counts the tokens of many requests, each with its time of arrival.
    pub fn observe_all(&mut self, mut requests: impl Iterator<Item = (f64, u64)>) {
        let mut next = requests.next();
        while let Some((at_s, tokens)) = next {
            self.observe(at_s, tokens);
            next = self.observe_near(&mut requests);
        }
    }

    /// Counts the tokens of a request. Arrivals come in order of time.
    #[inline]
    pub fn observe(&mut self, at_s: f64, tokens: u64) {
        let edge_s = at_s - self.window_s;
        let (first, before) = self.arrivals.first_left(self.window_start, |arrived_s| arrived_s <= edge_s);
        self.window_start = first;
        let sum = self.arrivals.total + tokens - before;
        self.largest_since = self.largest_since.max(sum);
        if self.arrivals.push(at_s, tokens, sum) {
            self.begin_chunk();
        }
    }

    /// [`Self::observe`] for as many as it is simple for: the window begins near where it did, and no chunk
    /// gets full. Returns the first for which it is not. Where chunks stand is found once for all of them,
    /// which else is most of the time an update takes.
    #[inline(always)]
    fn observe_near(&mut self, requests: &mut impl Iterator<Item = (f64, u64)>) -> Option<(f64, u64)> {
        let (window_chunk, mut window_place) = self.arrivals.place(self.window_start);
        let Arrivals { chunks, filling, end, total: total_now, .. } = &mut self.arrivals;
        // `None`: the one being filled.
        let window = chunks.get(window_chunk).map(|chunk| &**chunk);
        let (first_window_place, first_place) = (window_place, (*end % CHUNK) as usize);
        let (mut place, mut total, mut largest_since) = (first_place, *total_now, self.largest_since);
        let stopped = loop {
            if place + 1 == filling.len() {
                break requests.next();
            }
            let Some((at_s, tokens)) = requests.next() else { break None };
            let edge_s = at_s - self.window_s;
            let Some(before) =
                near(window.unwrap_or(filling), &mut window_place, |arrived_s| arrived_s <= edge_s)
            else {
                break Some((at_s, tokens));
            };
            let sum = total + tokens - before.min(total);
            largest_since = largest_since.max(sum);
            filling[place] = Arrival { at_s, before: total, largest: sum };
            total += tokens;
            place += 1;
        };
        *end += (place - first_place) as u64;
        (*total_now, self.largest_since) = (total, largest_since);
        self.window_start += (window_place - first_window_place) as u64;
        stopped
    }

    #[inline(never)]
    fn begin_chunk(&mut self) {
        let largest = std::mem::take(&mut self.largest_since);
        self.peaks.truncate(self.peaks.partition_point(|&(_, peak)| peak > largest));
        self.peaks.push_back((self.arrivals.end / CHUNK - 1, largest));
        self.arrivals.begin_chunk(self.start / CHUNK);
    }

    /// The envelope at `now_s`, tokens per second. Queries come in order of time, and after the arrivals they
    /// should see.
    pub fn rate_per_s(&mut self, now_s: f64) -> f64 {
        let (edge_s, window_s) = (now_s - self.look_back_s, self.window_s);
        let (start, before_start) = self.arrivals.first_left(self.start, |arrived_s| arrived_s <= edge_s);
        self.start = start;
        // With a look-back of at least the window, no later window reaches back over the edge either.
        self.window_start = self.window_start.max(start);
        let (whole, before_whole) =
            self.arrivals.first_left(self.whole.max(start), |arrived_s| arrived_s - window_s < edge_s);
        self.whole = whole;
        if self.whole >= self.swept {
            self.sweep();
        }
        let peak = self.peaks.get(0).map_or(0, |&(_, peak)| peak);
        // The largest cut window ends with the last arrival before the whole ones begin.
        let cut = before_whole - before_start;
        self.arrivals.largest(whole).max(peak).max(self.largest_since).max(cut) as f64 / window_s
    }

    /// Tells each arrival of the chunk where whole windows begin of the largest one from it on, up to now or
    /// the chunk's end.
    fn sweep(&mut self) {
        let chunk = self.whole / CHUNK;
        self.arrivals.sweep(self.whole);
        self.swept = self.arrivals.end.min((chunk + 1) * CHUNK);
        self.peaks.drop_first(self.peaks.partition_point(|&(number, _)| number <= chunk));
        if self.swept == self.arrivals.end {
            self.largest_since = 0;
        }
    }
}

/// Arrivals in a chunk: enough to make what is done once a chunk cheap, few enough to be swept at once. Tests
/// see many chunks soon.
const CHUNK: u64 = if cfg!(test) { 8 } else { 256 };

#[derive(Debug, Clone, Copy)]
struct Arrival {
    at_s: f64,
    /// Tokens of all arrivals before this one.
    before: u64,
    /// Tokens of the window that ends here; after a sweep, of the largest window that ends here or later, up
    /// to the sweep.
    largest: u64,
}

/// What stands after the last arrival: later than any, after all tokens, with an empty window.
const UNUSED: Arrival = Arrival { at_s: f64::INFINITY, before: u64::MAX, largest: 0 };

type Chunk = [Arrival; CHUNK as usize];

/// A queue of arrivals, found by how many came before them. There is always room for the next one.
#[derive(Debug, Clone)]
struct Arrivals {
    /// Those that are full.
    chunks: Gradual<Box<Chunk>>,
    /// The last one, never full.
    filling: Box<Chunk>,
    /// How many chunks came before the first of these.
    gone: u64,
    /// Number the next arrival will get.
    end: u64,
    /// Tokens of all arrivals so far.
    total: u64,
}

impl Default for Arrivals {
    fn default() -> Self {
        let filling = Box::new([UNUSED; CHUNK as usize]);
        Self { chunks: Gradual::default(), filling, gone: 0, end: 0, total: 0 }
    }
}

impl Arrivals {
    /// Whether this filled a chunk: then another must begin.
    #[inline(always)]
    fn push(&mut self, at_s: f64, tokens: u64, largest: u64) -> bool {
        self.filling[(self.end % CHUNK) as usize] = Arrival { at_s, before: self.total, largest };
        self.total += tokens;
        self.end += 1;
        self.end.is_multiple_of(CHUNK)
    }

    /// Begins a chunk, in the room of one before the first that is needed if there is one.
    fn begin_chunk(&mut self, first_needed: u64) {
        let left = if self.gone < first_needed { self.chunks.pop_front() } else { None };
        let next = match left {
            Some(mut left) => {
                self.gone += 1;
                left.fill(UNUSED);
                left
            }
            None => Box::new([UNUSED; CHUNK as usize]),
        };
        self.chunks.push_back(std::mem::replace(&mut self.filling, next));
    }

    #[inline(always)]
    fn chunk(&self, chunk: usize) -> &Chunk {
        self.chunks.get(chunk).unwrap_or(&self.filling)
    }

    fn chunk_mut(&mut self, chunk: usize) -> &mut Chunk {
        self.chunks.get_mut(chunk).unwrap_or(&mut self.filling)
    }

    /// The first arrival, from this one on, that has not `passed`: its number, and the tokens before it.
    /// Earlier ones pass first.
    #[inline(always)]
    fn first_left(&self, number: u64, passed: impl Fn(f64) -> bool) -> (u64, u64) {
        let (chunk, place) = self.place(number);
        let mut left = place;
        match near(self.chunk(chunk), &mut left, &passed) {
            Some(before) => (number + (left - place) as u64, before.min(self.total)),
            None => self.first_left_far(chunk, left, passed),
        }
    }

    #[inline(never)]
    fn first_left_far(&self, mut chunk: usize, mut place: usize, passed: impl Fn(f64) -> bool) -> (u64, u64) {
        let whole_passed = |chunk: usize| passed(self.chunk(chunk)[CHUNK as usize - 1].at_s);
        let mut stride = 1;
        while whole_passed(chunk + stride - 1) {
            (chunk, place) = (chunk + stride, 0);
            stride *= 2;
        }
        while stride > 1 {
            stride /= 2;
            if whole_passed(chunk + stride - 1) {
                (chunk, place) = (chunk + stride, 0);
            }
        }
        let arrivals = self.chunk(chunk);
        if passed(arrivals[place].at_s) {
            place += arrivals[place..].partition_point(|arrival| passed(arrival.at_s));
        }
        ((self.gone + chunk as u64) * CHUNK + place as u64, arrivals[place].before.min(self.total))
    }

    /// Replaces sums by suffix maxima, from this arrival to the end of its chunk.
    fn sweep(&mut self, from: u64) {
        let (chunk, place) = self.place(from);
        let mut largest = 0;
        for arrival in self.chunk_mut(chunk)[place..].iter_mut().rev() {
            largest = arrival.largest.max(largest);
            arrival.largest = largest;
        }
    }

    fn largest(&self, number: u64) -> u64 {
        let (chunk, place) = self.place(number);
        self.chunk(chunk)[place].largest
    }

    #[inline(always)]
    fn place(&self, number: u64) -> (usize, usize) {
        ((number / CHUNK - self.gone) as usize, (number % CHUNK) as usize)
    }
}

/// Moves on to the first arrival of a chunk that has not `passed`, and tells how many tokens came before it;
/// `None` if it is not among the next few.
#[inline(always)]
fn near(chunk: &Chunk, place: &mut usize, passed: impl Fn(f64) -> bool) -> Option<u64> {
    for few in chunk[*place..].chunks_exact(4).take(4) {
        // How many pass is anybody's guess: the usual few without a branch.
        let passing: usize = few.iter().map(|arrival| usize::from(passed(arrival.at_s))).sum();
        *place += passing;
        if let Some(first) = few.get(passing) {
            return Some(first.before);
        }
    }
    None
}

/// A queue that never moves all it has at once: when it grows, a larger table takes over one item with each
/// that is pushed.
#[derive(Debug, Clone)]
struct Gradual<T> {
    /// The first ones, which the larger table lacks yet.
    earlier: VecDeque<T>,
    table: VecDeque<T>,
}

impl<T> Default for Gradual<T> {
    fn default() -> Self {
        Self { earlier: VecDeque::new(), table: VecDeque::with_capacity(4) }
    }
}

impl<T> Gradual<T> {
    fn push_back(&mut self, item: T) {
        // It has twice the room, so that it has taken over all when it is full.
        if self.earlier.is_empty() && self.table.len() == self.table.capacity() {
            let larger = VecDeque::with_capacity(2 * self.table.len());
            self.earlier = std::mem::replace(&mut self.table, larger);
        }
        if let Some(latest) = self.earlier.pop_back() {
            self.table.push_front(latest);
        }
        self.table.push_back(item);
    }

    fn pop_front(&mut self) -> Option<T> {
        self.earlier.pop_front().or_else(|| self.table.pop_front())
    }

    #[inline(always)]
    fn get(&self, index: usize) -> Option<&T> {
        match index.checked_sub(self.earlier.len()) {
            Some(index) => self.table.get(index),
            None => self.earlier.get(index),
        }
    }

    fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        match index.checked_sub(self.earlier.len()) {
            Some(index) => self.table.get_mut(index),
            None => self.earlier.get_mut(index),
        }
    }
}

/// Items without anything to drop, so that many are left in one step.
impl<T: Copy> Gradual<T> {
    fn truncate(&mut self, length: usize) {
        self.table.truncate(length.saturating_sub(self.earlier.len()));
        self.earlier.truncate(length);
    }

    fn drop_first(&mut self, count: usize) {
        let of_earlier = count.min(self.earlier.len());
        self.earlier.drain(..of_earlier);
        self.table.drain(..count - of_earlier);
    }

    fn partition_point(&self, holds: impl Fn(&T) -> bool) -> usize {
        match self.earlier.partition_point(&holds) {
            point if point < self.earlier.len() => point,
            point => point + self.table.partition_point(holds),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    impl Arrivals {
        fn count(&self) -> usize {
            self.chunks.earlier.len() + self.chunks.table.len() + 1
        }
    }

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

        /// Beside a queue that moves all at once.
        #[test]
        fn a_gradual_queue_is_a_queue(steps in prop::collection::vec((0_u8..8, 0_usize..9), 1..300)) {
            let (mut gradual, mut plain) = (Gradual::default(), VecDeque::new());
            for (number, (what, amount)) in steps.into_iter().enumerate() {
                match what {
                    0 => prop_assert_eq!(gradual.pop_front(), plain.pop_front()),
                    1 => {
                        gradual.truncate(plain.len().saturating_sub(amount));
                        plain.truncate(plain.len().saturating_sub(amount));
                    }
                    2 => {
                        gradual.drop_first(amount.min(plain.len()));
                        plain.drain(..amount.min(plain.len()));
                    }
                    _ => {
                        let room = gradual.table.capacity();
                        gradual.push_back(number);
                        plain.push_back(number);
                        let moved_all = gradual.table.capacity() > room && gradual.table.len() > 2;
                        prop_assert!(!moved_all, "a larger table begins with what was pushed and one item");
                    }
                }
                let middle = plain.get(plain.len() / 2).copied();
                prop_assert_eq!(gradual.partition_point(|&item| Some(item) < middle), plain.partition_point(|&item| Some(item) < middle));
                prop_assert!((0..=plain.len()).all(|index| gradual.get(index) == plain.get(index)));
                prop_assert!((0..=plain.len()).all(|index| gradual.get_mut(index) == plain.get_mut(index)));
            }
        }

        /// Gaps in quarter seconds, so that arrivals hit windows' and look-backs' edges exactly.
        #[test]
        fn equals_brute_force(
            steps in prop::collection::vec((0_u32..40, 1_u64..500, prop::sample::select(vec![0_u32, 0, 0, 0, 1, 2, 3])), 1..200),
            window in 1_u32..40, beyond in 0_u32..60,
        ) {
            let (window, look_back) = (f64::from(window) * 0.25, f64::from(window + beyond) * 0.25);
            let mut envelope = TrafficEnvelope::new(look_back, window);
            let mut together = envelope.clone();
            let (mut now, mut seen, mut told) = (0.0, Vec::new(), 0);
            for (gap, tokens, idle) in steps {
                now += f64::from(gap) * 0.25 / 4.0;
                seen.push((now, tokens));
                envelope.observe(now, tokens);
                now += f64::from(idle.saturating_sub(1)) * 3.25;
                if idle > 0 {
                    together.observe_all(seen[told..].iter().copied());
                    told = seen.len();
                    let defined = brute_force(&seen, now, look_back, window);
                    prop_assert_eq!(envelope.rate_per_s(now), defined);
                    prop_assert_eq!(together.rate_per_s(now), defined);
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
        assert!(envelope.arrivals.count() as u64 <= 100 / CHUNK + 3, "{} chunks", envelope.arrivals.count());
        assert_eq!(envelope.rate_per_s(1e6), 0.0);
    }

    /// Many arrivals that a lull leaves behind at once, then more of them.
    #[test]
    fn lulls_are_jumped_over() {
        let (mut envelope, mut seen, mut now) = (TrafficEnvelope::new(80.0, 20.0), Vec::new(), 0.0);
        for (burst, lull_s) in [
            (3000, 19.0),
            (7, 20.5),
            (900, 61.0),
            (1, 80.0),
            (CHUNK, 80.0),
            (CHUNK, 1000.0),
            (CHUNK - 1, 0.0),
        ] {
            for request in 0..burst {
                now += 0.001;
                seen.push((now, request % 13));
                envelope.observe(now, request % 13);
            }
            now += lull_s;
            assert_eq!(
                envelope.rate_per_s(now),
                brute_force(&seen, now, 80.0, 20.0),
                "{burst} requests, {lull_s} s"
            );
            assert!(envelope.arrivals.count() as u64 <= 4000 / CHUNK + 2);
        }
    }

    /// Where a window is too short for the clock, it holds no more than the latest arrival, and nothing
    /// fails.
    #[test]
    fn windows_below_the_clocks_resolution() {
        let mut envelope = TrafficEnvelope::new(1e-9, 1e-9);
        for _ in 0..3 * CHUNK {
            envelope.observe(1e12, 5);
            assert!(envelope.rate_per_s(1e12) <= 5e9);
        }
    }
}
