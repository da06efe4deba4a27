//! Knative's windows: a bucket a second, averaged from the first write on.
//!
//! A mean is over as many seconds as there have been since the first write, at most the window; seconds
//! without a write in between count as zero, those since the last write do not count. After a whole window
//! without any write it starts anew: whoever wakes after a long silence has the full average at once. Means
//! are rounded to six decimals. The weighted kind lets weights fall by a factor a second.
//!
//! Source: knative/serving `pkg/autoscaler/aggregation/bucketing.go`.

use std::collections::VecDeque;

/// Sum of the weights of a full window, at least.
const WEIGHTS: f64 = 0.9999;
/// Least share of the newest second.
const LEAST_SHARE: f64 = 0.2;

/// A window over whole seconds.
#[derive(Debug, Clone)]
pub struct Buckets {
    /// Newest last; as many as seconds since the first write, at most the window.
    seconds: VecDeque<f64>,
    length: usize,
    /// Second of the newest bucket.
    last: Option<i64>,
    /// Share of the newest second, where weights fall.
    share: Option<f64>,
}

impl Buckets {
    pub fn new(window_s: f64, weighted: bool) -> Self {
        let length = (window_s.ceil() as usize).max(1);
        // (1 - share)^length is what is left beyond the window.
        let share = 1.0 - libm::pow(1.0 - WEIGHTS, 1.0 / length as f64);
        Self {
            seconds: VecDeque::new(),
            length,
            last: None,
            share: weighted.then_some(share.max(LEAST_SHARE)),
        }
    }

    /// Adds to the second's bucket. Seconds must not fall.
    pub fn record(&mut self, second: i64, value: f64) {
        match self.last {
            Some(last) if second - last < self.length as i64 => {
                for _ in last..second {
                    self.seconds.push_back(0.0);
                }
            }
            _ => {
                self.seconds.clear();
                self.seconds.push_back(0.0);
            }
        }
        while self.seconds.len() > self.length {
            self.seconds.pop_front();
        }
        self.last = Some(second);
        *self.seconds.back_mut().expect("a bucket of this second") += value;
    }

    /// Whether more than a window has passed since the last write.
    pub fn is_empty(&self, second: i64) -> bool {
        self.last.is_none_or(|last| second - last > self.length as i64)
    }

    pub fn average(&self, second: i64) -> f64 {
        let Some(last) = self.last else { return 0.0 };
        let silent = (second - last).max(0) as usize;
        if let Some(share) = self.share {
            if self.is_empty(second) {
                return 0.0;
            }
            let mut weight = share * libm::pow(1.0 - share, silent as f64);
            let mut sum = 0.0;
            for value in self.seconds.iter().rev().take(self.length.saturating_sub(silent)) {
                sum += value * weight;
                weight *= 1.0 - share;
            }
            return sum;
        }
        if silent >= self.length {
            return 0.0;
        }
        let counted = self.seconds.len().min(self.length - silent);
        let sum: f64 = self.seconds.iter().rev().take(counted).sum();
        let decimals = 1e6;
        (sum / counted as f64 * decimals).round() / decimals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_begin_at_the_first_write() {
        let mut buckets = Buckets::new(4.0, false);
        assert!(buckets.is_empty(0) && buckets.average(0) == 0.0);
        buckets.record(10, 8.0);
        assert_eq!(buckets.average(10), 8.0, "one second");
        buckets.record(12, 4.0);
        assert_eq!(buckets.average(12), 4.0, "8, 0 and 4");
        buckets.record(13, 4.0);
        buckets.record(14, 4.0);
        assert_eq!(buckets.average(14), 3.0, "0, 4, 4, 4");
        assert_eq!(buckets.average(16), 4.0, "two silent seconds do not count, two of the four have left");
        assert_eq!((buckets.average(18), buckets.is_empty(18), buckets.is_empty(19)), (0.0, false, true));
        buckets.record(18, 7.0);
        assert_eq!(buckets.average(18), 7.0, "a window of silence, and it starts anew");
    }

    #[test]
    fn thirds_are_rounded() {
        let mut buckets = Buckets::new(60.0, false);
        for (second, value) in [(0, 1.0), (1, 0.0), (2, 0.0)] {
            buckets.record(second, value);
        }
        assert_eq!(buckets.average(2), 0.333_333);
    }

    /// The source's own example of falling weights, at its share: [10, 10, 5, 5] with the newest last is 5.544
    /// at 0.6.
    #[test]
    fn weights_fall() {
        let mut buckets = Buckets { share: Some(0.6), ..Buckets::new(4.0, true) };
        for (second, value) in [(0, 10.0), (1, 10.0), (2, 5.0), (3, 5.0)] {
            buckets.record(second, value);
        }
        assert!((buckets.average(3) - 5.544).abs() < 1e-12, "{}", buckets.average(3));
        assert!(
            (buckets.average(4) - 0.4 * (5.544 - 10.0 * 0.6 * 0.4 * 0.4 * 0.4)).abs() < 1e-12,
            "a silent second"
        );
        assert_eq!(Buckets::new(600.0, true).share, Some(0.2));
    }
}
