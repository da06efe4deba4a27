//! Requests that are like those that were counted: as many in every step, as many tokens in all.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use super::recording::{Buckets, Recording, quantile};
use crate::random::stream;
use crate::workload::Workload;

/// Of a step it is known how many requests came, not when: they are drawn evenly over it, as a Poisson
/// process of that count is. Lengths have the step's mean and, where histograms were recorded, their spread;
/// what rounding takes from one request the next one has more.
pub fn workload(recording: &Recording, seed: u64) -> Workload {
    let mut arrivals = stream(seed, "shadow.arrivals");
    let mut lengths = stream(seed, "shadow.lengths");
    let mut workload = Workload::default();
    let (mut before, mut owed) = (0.0, [0.0; 2]);
    let spread = [&recording.prefill_buckets, &recording.decode_buckets]
        .map(|buckets| buckets.as_ref().map(Spread::new));
    for step in 0..recording.steps {
        let after: f64 = before + recording.arrivals[step];
        // Halves of a request add up over steps.
        let count = ((after + 1e-9).floor() - (before + 1e-9).floor()).max(0.0) as usize;
        before = after;
        let mut times: Vec<f64> =
            (0..count).map(|_| (step as f64 + unit(&mut arrivals)) * recording.step_s).collect();
        times.sort_by(f64::total_cmp);
        let means = [recording.prefill_tokens[step], recording.decode_tokens[step]];
        for at_s in times {
            let mut tokens = [1; 2];
            for (kind, mean) in means.into_iter().enumerate() {
                let wanted = owed[kind]
                    + spread[kind].as_ref().map_or(mean, |spread| spread.draw(mean, unit(&mut lengths)));
                let whole = wanted.round().max(1.0);
                // One token at least is more than a mean below one says; that debt is not carried on for
                // ever.
                owed[kind] = (wanted - whole).max(-1.0);
                tokens[kind] = whole.min(f64::from(u32::MAX)) as u32;
            }
            workload.push(at_s, tokens[0], tokens[1]);
        }
    }
    workload.duration_s = Some(recording.steps as f64 * recording.step_s);
    workload
}

/// A histogram of lengths to draw from.
struct Spread {
    buckets: Buckets,
    mean: f64,
}

/// Quantiles of which the mean of a histogram is taken.
const SLICES: u32 = 1000;

impl Spread {
    fn new(buckets: &Buckets) -> Self {
        let sum: f64 =
            (0..SLICES).map(|slice| quantile(buckets, (f64::from(slice) + 0.5) / f64::from(SLICES))).sum();
        Self { buckets: buckets.clone(), mean: sum / f64::from(SLICES) }
    }

    /// A length of the histogram's shape and this mean.
    fn draw(&self, mean: f64, share: f64) -> f64 {
        if self.mean > 0.0 { quantile(&self.buckets, share) * mean / self.mean } else { mean }
    }
}

/// From 0 to 1, without 1.
fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_and_tokens_are_those_that_were_recorded() {
        let recording = Recording {
            step_s: 10.0,
            steps: 4,
            arrivals: vec![2.5, 2.5, 0.0, 100.0],
            prefill_tokens: vec![100.25; 4],
            decode_tokens: vec![7.5; 4],
            prefill_buckets: Some(vec![(50.0, 10.0), (100.0, 20.0), (400.0, 30.0)]),
            ..Recording::default()
        };
        let made = workload(&recording, 1);
        let in_step =
            |step: usize| made.arrived_at_s.iter().filter(|&&at| (at / 10.0) as usize == step).count();
        assert_eq!([0, 1, 2, 3].map(in_step), [2, 3, 0, 100]);
        assert_eq!((made.duration_s, made.arrived_at_s.is_sorted()), (Some(40.0), true));
        let totals = made.totals();
        assert!((totals.decode_tokens as f64 / (7.5 * 105.0) - 1.0).abs() < 0.01, "{}", totals.decode_tokens);
        assert!(
            (totals.prefill_tokens as f64 / (100.25 * 105.0) - 1.0).abs() < 0.15,
            "{}",
            totals.prefill_tokens
        );
        let (shortest, longest) =
            (made.prefill_tokens.iter().min().unwrap(), made.prefill_tokens.iter().max().unwrap());
        assert!(*shortest < 40 && *longest > 200, "{shortest} to {longest}");
        assert_eq!(made, workload(&recording, 1));
        assert_ne!(made.arrived_at_s, workload(&recording, 2).arrived_at_s);
    }
}
