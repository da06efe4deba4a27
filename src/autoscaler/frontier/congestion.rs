//! How many requests are in the system, on average and on the way there.

use std::collections::BTreeMap;

use super::throughput::ThroughputCurve;

/// The mean number of requests in a system of equal replicas in its steady state, remembered by replicas and rate.
///
/// The number N moves like a diffusion: it drifts with arrivals less completions, `rate - replicas * curve(N / replicas)`, and spreads
/// with `rate * variability`. Its steady density is proportional to `exp(2 / spread * integral of the drift)`.
#[derive(Debug, Default)]
pub struct SteadyState {
    means: BTreeMap<(u32, i32), f64>,
}

/// Rates are told apart by this ratio's logarithm.
const RATE_STEP: f64 = 0.01;
/// Points per replica's memory at which the density is taken.
const POINTS: usize = 96;

impl SteadyState {
    /// Forgets everything: the curve has changed.
    pub fn clear(&mut self) {
        self.means.clear();
    }

    /// Requests in the system; far above the memory of all replicas if they cannot keep up.
    pub fn requests(&mut self, curve: &ThroughputCurve, replicas: u32, rate_per_s: f64, variability: f64) -> f64 {
        if rate_per_s <= 0.0 {
            return 0.0;
        }
        let step = (rate_per_s.ln() / RATE_STEP).round() as i32;
        *self
            .means
            .entry((replicas, step))
            .or_insert_with(|| steady_mean(curve, f64::from(replicas), (f64::from(step) * RATE_STEP).exp(), variability))
    }
}

fn steady_mean(curve: &ThroughputCurve, replicas: f64, rate_per_s: f64, variability: f64) -> f64 {
    let overload_per_s = rate_per_s - replicas * curve.saturation_per_s();
    if overload_per_s >= 0.0 {
        // There is no steady state: more than any steady one, and the more the less they keep up (what gathers in ten minutes).
        return 4.0 * rate_per_s / curve.saturation_per_s() * curve.most_held() + overload_per_s * 600.0;
    }
    let drift = |held: f64| rate_per_s - replicas * curve.rate_per_s(held);
    let spread = rate_per_s * variability;
    let end = 4.0 * curve.most_held();
    // Points lie closer together where few requests are held.
    let at = |i: usize| end * (i as f64 / POINTS as f64).powi(2);
    let mut logs = [0.0; POINTS + 1];
    for i in 1..=POINTS {
        let (from, to) = (at(i - 1), at(i));
        logs[i] = logs[i - 1] + drift((from + to) / 2.0) * (to - from) * replicas * 2.0 / spread;
    }
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut mass, mut moment) = (0.0, 0.0);
    for (i, log) in logs.iter().enumerate() {
        let width = at((i + 1).min(POINTS)) - at(i.saturating_sub(1));
        let weight = (log - highest).exp() * width;
        mass += weight;
        moment += weight * at(i);
    }
    replicas * moment / mass
}

/// Requests in the system after `duration_s` without randomness, from `requests` now.
pub fn drain(curve: &ThroughputCurve, replicas: f64, rate_per_s: f64, requests: f64, duration_s: f64) -> f64 {
    const STEPS: u32 = 8;
    let step_s = duration_s / f64::from(STEPS);
    (0..STEPS).fold(requests, |requests, _| {
        let drift = rate_per_s - replicas * curve.rate_per_s(requests / replicas.max(1.0));
        (requests + drift * step_s).max(0.0)
    })
}
