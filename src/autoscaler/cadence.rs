//! Several intervals of one policy on the engine's single tick.
//!
//! A controller scrapes, decides and polls at intervals of their own. The policy ticks at their greatest
//! common divisor (to the millisecond) and asks at each tick what is due. Everything is due at the first
//! tick.

use crate::settings::Faults;

/// Shortest common step that is accepted: a finer one would spend the run on ticks.
const SHORTEST_TICK_S: f64 = 0.05;

/// `N` intervals, each due at every so many ticks.
#[derive(Debug, Clone)]
pub struct Cadence<const N: usize> {
    tick_ms: u64,
    every: [u64; N],
    ticks: u64,
}

fn milliseconds(interval_s: f64) -> u64 {
    (interval_s * 1000.0).round().max(1.0) as u64
}

fn common_ms(intervals_s: &[f64]) -> u64 {
    intervals_s.iter().fold(0, |common, &interval| {
        let (mut a, mut b) = (common, milliseconds(interval));
        while b != 0 {
            (a, b) = (b, a % b);
        }
        a
    })
}

impl<const N: usize> Cadence<N> {
    pub fn new(intervals_s: [f64; N]) -> Self {
        let tick_ms = common_ms(&intervals_s);
        Self { tick_ms, every: intervals_s.map(|interval| milliseconds(interval) / tick_ms), ticks: 0 }
    }

    pub fn tick_interval_s(&self) -> f64 {
        self.tick_ms as f64 / 1000.0
    }

    /// Counts a tick and says which intervals are due at it.
    pub fn tick(&mut self) -> [bool; N] {
        let due = self.every.map(|every| self.ticks.is_multiple_of(every));
        self.ticks += 1;
        due
    }
}

/// Reports intervals that are not positive or that have no reasonable common step.
pub fn check_intervals(faults: &mut Faults, intervals: &[(&str, f64)]) {
    for &(field, interval_s) in intervals {
        faults.positive(field, interval_s);
    }
    let values: Vec<f64> = intervals.iter().map(|&(_, interval_s)| interval_s).collect();
    let sane = values.iter().all(|value| value.is_finite() && *value > 0.0);
    if let Some(&(field, _)) = intervals.first().filter(|_| sane) {
        let step_s = common_ms(&values) as f64 / 1000.0;
        faults.require(step_s >= SHORTEST_TICK_S, field, || {
            let listed: Vec<String> = intervals.iter().map(|(field, value)| format!("`{field}` {value}")).collect();
            format!("{} have the common step {step_s} s, expected intervals that are multiples of {SHORTEST_TICK_S} s", listed.join(", "))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn intervals_fall_due_at_their_multiples() {
        let mut cadence = Cadence::new([10.0, 15.0]);
        assert_eq!(cadence.tick_interval_s(), 5.0);
        let due: Vec<[bool; 2]> = (0..7).map(|_| cadence.tick()).collect();
        let expected = [0, 5, 10, 15, 20, 25, 30].map(|at| [at % 10 == 0, at % 15 == 0]);
        assert_eq!(due, expected);
    }

    #[test]
    fn fine_steps_are_refused() {
        let faults_of = |intervals: &[(&str, f64)]| {
            let mut faults = Faults::default();
            check_intervals(&mut faults, intervals);
            faults.found.len()
        };
        assert_eq!(faults_of(&[("a", 0.1), ("b", 0.5)]), 0);
        assert_eq!(faults_of(&[("a", 15.0), ("b", 3.333)]), 1);
        assert_eq!(faults_of(&[("a", 15.0), ("b", 0.0)]), 1);
    }
}
