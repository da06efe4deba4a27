//! Samples of the recent past: means and maxima over a window of time.

use std::collections::VecDeque;

/// Samples taken in `(now - window, now]`, where now is the time of the latest.
#[derive(Debug, Clone)]
pub struct Window {
    length_s: f64,
    samples: VecDeque<(f64, f64)>,
}

impl Window {
    pub fn new(length_s: f64) -> Self {
        Self { length_s, samples: VecDeque::new() }
    }

    /// Adds a sample and forgets what the window has left behind. Times must not fall.
    pub fn push(&mut self, at_s: f64, value: f64) {
        self.samples.push_back((at_s, value));
        let edge = at_s - self.length_s;
        while self.samples.front().is_some_and(|&(at, _)| at <= edge) && self.samples.len() > 1 {
            self.samples.pop_front();
        }
    }

    /// Mean of the samples; 0 without any.
    pub fn mean(&self) -> f64 {
        self.mean_since(f64::NEG_INFINITY)
    }

    /// Mean of the samples later than `edge_s`; 0 without any.
    pub fn mean_since(&self, edge_s: f64) -> f64 {
        let (mut sum, mut count) = (0.0, 0_u32);
        for &(_, value) in self.samples.iter().rev().take_while(|&&(at, _)| at > edge_s) {
            sum += value;
            count += 1;
        }
        if count == 0 { 0.0 } else { sum / f64::from(count) }
    }

    /// Largest sample; negative infinity without any.
    pub fn max(&self) -> f64 {
        self.samples.iter().map(|&(_, value)| value).fold(f64::NEG_INFINITY, f64::max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forgets_at_the_edge() {
        let mut window = Window::new(10.0);
        for (at, value) in [(0.0, 100.0), (5.0, 1.0), (10.0, 3.0)] {
            window.push(at, value);
        }
        assert_eq!((window.mean(), window.max()), (2.0, 3.0), "the sample at 0 has left (0, 10]");
        assert_eq!(window.mean_since(5.0), 3.0);
        window.push(50.0, 7.0);
        assert_eq!(window.mean(), 7.0);
    }
}
