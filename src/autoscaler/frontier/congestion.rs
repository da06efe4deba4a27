//! How many requests are in the system, on average and on the way there.

use std::collections::BTreeMap;

use super::throughput::ThroughputCurve;

/// The mean number of requests in a system of equal replicas in its steady state, remembered by replicas,
/// rate and variability.
///
/// The number N moves like a diffusion: it drifts with arrivals less completions, `rate - replicas * curve(N
/// / replicas)`, and spreads with `rate * variability`. Its steady density is proportional to `exp(2 / spread *
/// integral of the drift)`.
#[derive(Debug, Default)]
pub struct SteadyState {
    /// What a replica of the curve completes per second in the middle between points; empty where nobody has
    /// asked since that changed.
    completed_per_s: Vec<f64>,
    /// Traffic that has been asked about, by rate and variability, with its place in `means`.
    places: BTreeMap<(i32, i32), usize>,
    /// By replicas; NaN where nobody has asked.
    means: Vec<Vec<f64>>,
}

/// Traffic that is asked about: its rate and variability in steps, and where means are kept for it.
#[derive(Debug, Clone, Copy)]
pub struct At {
    steps: [i32; 2],
    place: usize,
}

/// Rates, and variabilities, are told apart by these ratios' logarithms.
const RATE_STEP: f64 = 0.01;
const VARIABILITY_STEP: f64 = 0.1;
/// Points per replica's memory at which the density is taken.
const POINTS: usize = 96;

impl SteadyState {
    /// Forgets everything: the curve has changed.
    pub fn clear(&mut self) {
        self.completed_per_s.clear();
        self.places.clear();
        self.means.clear();
    }

    /// What [`Self::requests`] is to be asked of; `None` without traffic.
    pub fn at(&mut self, rate_per_s: f64, variability: f64) -> Option<At> {
        if rate_per_s <= 0.0 {
            return None;
        }
        let steps = [(rate_per_s, RATE_STEP), (variability, VARIABILITY_STEP)]
            .map(|(value, step)| (value.ln() / step).round() as i32);
        let place = *self.places.entry(steps.into()).or_insert(self.means.len());
        if place == self.means.len() {
            self.means.push(Vec::new());
        }
        Some(At { steps, place })
    }

    /// Requests in the system; far above the memory of all replicas if they cannot keep up.
    pub fn requests(&mut self, curve: &ThroughputCurve, replicas: u32, at: Option<At>) -> f64 {
        let Some(At { steps: [rate_step, variability_step], place }) = at else { return 0.0 };
        let means = &mut self.means[place];
        if means.len() <= replicas as usize {
            means.resize(replicas as usize + 1, f64::NAN);
        }
        let mean = &mut means[replicas as usize];
        if mean.is_nan() {
            let [rate_per_s, variability] = [(rate_step, RATE_STEP), (variability_step, VARIABILITY_STEP)]
                .map(|(at, step)| (f64::from(at) * step).exp());
            if self.completed_per_s.is_empty() {
                let middle = |i: usize| (point(curve, i - 1) + point(curve, i)) / 2.0;
                self.completed_per_s.extend((1..=POINTS).map(|i| curve.rate_per_s(middle(i))));
            }
            *mean = steady_mean(curve, &self.completed_per_s, f64::from(replicas), rate_per_s, variability);
        }
        *mean
    }
}

/// Requests held by a replica at which the density is taken: points lie closer together where few are held.
fn point(curve: &ThroughputCurve, i: usize) -> f64 {
    4.0 * curve.most_held() * (i as f64 / POINTS as f64).powi(2)
}

/// The mean, of what a replica completes per second between points.
fn steady_mean(
    curve: &ThroughputCurve,
    completed_per_s: &[f64],
    replicas: f64,
    rate_per_s: f64,
    variability: f64,
) -> f64 {
    let overload_per_s = rate_per_s - replicas * curve.saturation_per_s();
    if overload_per_s >= 0.0 {
        // There is no steady state: more than any steady one, and the more the less they keep up (what
        // gathers in ten minutes).
        return 4.0 * rate_per_s / curve.saturation_per_s() * curve.most_held() + overload_per_s * 600.0;
    }
    let spread = rate_per_s * variability;
    let at: [f64; POINTS + 1] = std::array::from_fn(|i| point(curve, i));
    let mut logs = [0.0; POINTS + 1];
    for i in 1..=POINTS {
        let drift = rate_per_s - replicas * completed_per_s[i - 1];
        logs[i] = logs[i - 1] + drift * (at[i] - at[i - 1]) * replicas * 2.0 / spread;
    }
    let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let (mut mass, mut moment) = (0.0, 0.0);
    for (i, log) in logs.iter().enumerate() {
        let width = at[(i + 1).min(POINTS)] - at[i.saturating_sub(1)];
        let weight = (log - highest).exp() * width;
        mass += weight;
        moment += weight * at[i];
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

/// Request-seconds until a backlog is gone, with `replicas` of which `held_by` hold it. What has been routed
/// stays where it is, so others help only by taking their share of what arrives.
pub fn backlog_request_s(
    throughput_per_s: f64,
    held_by: f64,
    replicas: f64,
    rate_per_s: f64,
    backlog: f64,
) -> f64 {
    if backlog <= 0.0 {
        return 0.0;
    }
    /// Where replicas hardly keep up: spare throughput as a share of all, and the time looked ahead.
    const LEAST_SPARE: f64 = 0.02;
    const MOST_S: f64 = 600.0;
    let spare_per_s = (throughput_per_s - rate_per_s / replicas).max(LEAST_SPARE * throughput_per_s);
    let drained_per_s = held_by.min(replicas).max(1.0) * spare_per_s;
    let gone_s = (backlog / drained_per_s).min(MOST_S);
    (backlog - drained_per_s * gone_s / 2.0) * gone_s
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The twin lets it drain in small steps: on each of the replicas that hold it, what arrives there comes
    /// on top.
    #[test]
    fn backlog_by_steps() {
        for (held_by, replicas, rate, backlog) in
            [(2.0, 2.0, 10.0, 100.0), (2.0, 6.0, 10.0, 100.0), (4.0, 3.0, 20.0, 500.0), (1.0, 1.0, 9.9, 90.0)]
        {
            let (mut left, mut request_s, step_s) = (backlog, 0.0, 0.001);
            for _ in 0..600_000 {
                request_s += f64::max(left, 0.0) * step_s;
                let spare: f64 = 10.0 - rate / replicas;
                left -= f64::min(held_by, replicas) * spare.max(0.2) * step_s;
            }
            let found = backlog_request_s(10.0, held_by, replicas, rate, backlog);
            assert!((found / request_s - 1.0).abs() < 0.01, "{found}, by steps {request_s}");
        }
        assert_eq!(backlog_request_s(10.0, 2.0, 2.0, 10.0, -5.0), 0.0);
    }
}
