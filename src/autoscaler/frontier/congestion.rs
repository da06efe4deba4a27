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
    /// Where the density is taken; empty where nobody has asked since the curve changed.
    points: Vec<Point>,
    /// Traffic that has been asked about, by rate and variability, with its place in `means`.
    places: BTreeMap<(i32, i32), usize>,
    /// By replicas; NaN where nobody has asked.
    means: Vec<Vec<f64>>,
    /// What each asker asked about last, whose traffic is mostly much the same the next time.
    latest: [Option<At>; ASKERS],
    latest_variability: Step,
}

/// How many may ask, each of traffic of its own.
pub const ASKERS: usize = 6;

/// A number of requests held by a replica at which the density is taken.
#[derive(Debug, Clone, Copy)]
struct Point {
    held: f64,
    /// From the point before, and from that to the one after.
    step: f64,
    width: f64,
    /// What a replica completes per second in the middle from the point before.
    completed_per_s: f64,
}

/// Traffic that is asked about: its rate and variability in steps, and where means are kept for it.
#[derive(Debug, Clone, Copy)]
pub struct At {
    rate: Step,
    variability_step: i32,
    place: usize,
}

/// A step of a logarithm, and what is in it but for its very ends, where rounding decides.
#[derive(Debug, Clone, Copy)]
struct Step {
    step: i32,
    from: f64,
    to: f64,
}

impl Default for Step {
    /// Nothing is in it.
    fn default() -> Self {
        Self { step: 0, from: f64::INFINITY, to: f64::NEG_INFINITY }
    }
}

impl Step {
    /// The step of a value in steps of such a size, beginning with a guess.
    fn of(value: f64, size: f64, guess: Self) -> Self {
        /// Ends of a step: far more than logarithms are off, and far less than a step.
        const ENDS: f64 = 1e-12;
        if guess.holds(value, 0.0) {
            return guess;
        }
        let step = (libm::log(value) / size).round();
        let end = |half: f64| libm::exp((step + half) * size);
        Self { step: step as i32, from: end(-0.5) * (1.0 + ENDS), to: end(0.5) * (1.0 - ENDS) }
    }

    /// Whether a value is in the step for sure that may be off by so much.
    fn holds(&self, value: f64, off: f64) -> bool {
        value - off >= self.from && value + off <= self.to
    }
}

impl At {
    /// Whether it would be the same for a rate that is off by at most so much.
    pub fn holds(&self, rate_per_s: f64, off_per_s: f64) -> bool {
        self.rate.holds(rate_per_s, off_per_s)
    }
}

/// Rates, and variabilities, are told apart by these ratios' logarithms.
const RATE_STEP: f64 = 0.01;
const VARIABILITY_STEP: f64 = 0.1;
/// Points per replica's memory at which the density is taken.
const POINTS: usize = 96;

impl SteadyState {
    /// Forgets everything: the curve has changed.
    pub fn clear(&mut self) {
        self.points.clear();
        self.places.clear();
        self.means.clear();
        self.latest = Default::default();
    }

    /// What [`Self::requests`] is to be asked of; `None` without traffic. One of [`ASKERS`] asks.
    pub fn at(&mut self, asker: usize, rate_per_s: f64, variability: f64) -> Option<At> {
        if rate_per_s <= 0.0 {
            return None;
        }
        self.latest_variability = Step::of(variability, VARIABILITY_STEP, self.latest_variability);
        let variability_step = self.latest_variability.step;
        let latest = self.latest[asker].filter(|at| at.variability_step == variability_step);
        if latest.is_some_and(|at| at.holds(rate_per_s, 0.0)) {
            return latest;
        }
        let rate = Step::of(rate_per_s, RATE_STEP, Step::default());
        let place = *self.places.entry((rate.step, variability_step)).or_insert(self.means.len());
        if place == self.means.len() {
            self.means.push(Vec::new());
        }
        self.latest[asker] = Some(At { rate, variability_step, place });
        self.latest[asker]
    }

    /// Requests in the system; far above the memory of all replicas if they cannot keep up.
    pub fn requests(&mut self, curve: &ThroughputCurve, replicas: u32, at: Option<At>) -> f64 {
        let Some(At { rate, variability_step, place }) = at else { return 0.0 };
        let means = &mut self.means[place];
        if means.len() <= replicas as usize {
            means.resize(replicas as usize + 1, f64::NAN);
        }
        let mean = &mut means[replicas as usize];
        if mean.is_nan() {
            let [rate_per_s, variability] = [(rate.step, RATE_STEP), (variability_step, VARIABILITY_STEP)]
                .map(|(at, step)| libm::exp(f64::from(at) * step));
            if self.points.is_empty() {
                self.points.extend((0..=POINTS).map(|i| Point::new(curve, i)));
            }
            *mean = steady_mean(curve, &self.points, f64::from(replicas), rate_per_s, variability);
        }
        *mean
    }
}

/// Requests held by a replica at a point: they lie closer together where few are held.
fn held(curve: &ThroughputCurve, i: usize) -> f64 {
    4.0 * curve.most_held() * (i as f64 / POINTS as f64).powi(2)
}

impl Point {
    fn new(curve: &ThroughputCurve, i: usize) -> Self {
        let before = held(curve, i.saturating_sub(1));
        let at = held(curve, i);
        Self {
            held: at,
            step: at - before,
            width: held(curve, (i + 1).min(POINTS)) - before,
            completed_per_s: curve.rate_per_s((before + at) / 2.0),
        }
    }
}

/// The mean, of the points of the curve.
fn steady_mean(
    curve: &ThroughputCurve,
    points: &[Point],
    replicas: f64,
    rate_per_s: f64,
    variability: f64,
) -> f64 {
    /// Logarithms of what is nothing beside one.
    const NOTHING: f64 = -750.0;
    let overload_per_s = rate_per_s - replicas * curve.saturation_per_s();
    if overload_per_s >= 0.0 {
        // There is no steady state: more than any steady one, and the more the less they keep up (what
        // gathers in ten minutes).
        return 4.0 * rate_per_s / curve.saturation_per_s() * curve.most_held() + overload_per_s * 600.0;
    }
    let spread = rate_per_s * variability;
    let (mut logs, mut log, mut highest) = ([0.0; POINTS + 1], 0.0, 0.0);
    for (point, to) in points.iter().zip(&mut logs).skip(1) {
        let drift = rate_per_s - replicas * point.completed_per_s;
        log += drift * point.step * replicas * 2.0 / spread;
        *to = log;
        highest = f64::max(highest, log);
    }
    let (mut mass, mut moment) = (0.0, 0.0);
    for (point, log) in points.iter().zip(logs).filter(|(_, log)| log - highest > NOTHING) {
        let weight = libm::exp(log - highest) * point.width;
        mass += weight;
        moment += weight * point.held;
    }
    replicas * moment / mass
}

/// Requests in the system after `duration_s` without randomness, from `requests` now.
pub fn drain(curve: &ThroughputCurve, replicas: f64, rate_per_s: f64, requests: f64, duration_s: f64) -> f64 {
    const STEPS: u32 = 8;
    let step_s = duration_s / f64::from(STEPS);
    let mut segment = 1;
    (0..STEPS).fold(requests, |requests, _| {
        let drift = rate_per_s - replicas * curve.rate_from_per_s(requests / replicas.max(1.0), &mut segment);
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
    use rand::{RngExt, SeedableRng};
    use rand_xoshiro::Xoshiro256PlusPlus;

    use super::super::tests::curve;
    use super::*;

    /// The twin takes the logarithm each time.
    #[test]
    fn steps_are_those_of_logarithms() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(12);
        let by_logarithm = |value: f64, size: f64| (libm::log(value) / size).round() as i32;
        for size in [RATE_STEP, VARIABILITY_STEP] {
            let (mut value, mut last, mut held) = (20.0, Step::default(), 0);
            for i in 0..50_000 {
                value *= 1.0 + 0.1 * size * (random.random::<f64>() - 0.5);
                // Where steps meet, too.
                let end = libm::exp((f64::from(last.step) + 0.5) * size);
                let value = if i % 10 == 0 { end * (1.0 + f64::from(i % 70 - 30) * 1e-16) } else { value };
                held += i32::from(last.holds(value, 0.0));
                last = Step::of(value, size, last);
                assert_eq!(last.step, by_logarithm(value, size), "{value}");
                for off in [-1e-9, -1e-13, 1e-13, 1e-9] {
                    let beside = value * (1.0 + off);
                    let same = by_logarithm(beside, size) == last.step;
                    assert!(same || !last.holds(value, value * off.abs()), "{value}, {beside}");
                }
            }
            assert!(held > 30_000, "{held} logarithms spared");
        }
    }

    /// The twin works out where the density is taken for each mean, and all weights.
    #[test]
    fn means_are_those_of_all_points() {
        let (model, mut steady) = (curve(1000.0, 200.0, 32), SteadyState::default());
        let by_definition = |replicas: f64, rate_per_s: f64, variability: f64| {
            let at: Vec<f64> = (0..=POINTS).map(|i| held(&model, i)).collect();
            let mut logs = vec![0.0];
            for i in 1..=POINTS {
                let drift = rate_per_s - replicas * model.rate_per_s((at[i - 1] + at[i]) / 2.0);
                logs.push(
                    logs[i - 1] + drift * (at[i] - at[i - 1]) * replicas * 2.0 / (rate_per_s * variability),
                );
            }
            let highest = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
            let (mut mass, mut moment) = (0.0, 0.0);
            for (i, log) in logs.iter().enumerate() {
                let weight = libm::exp(log - highest) * (at[(i + 1).min(POINTS)] - at[i.saturating_sub(1)]);
                (mass, moment) = (mass + weight, moment + weight * at[i]);
            }
            replicas * moment / mass
        };
        for replicas in [1, 2, 5, 30] {
            for share in [0.01, 0.3, 0.9, 0.99] {
                let per_s = share * f64::from(replicas) * model.saturation_per_s();
                let at = steady.at(0, per_s, 1.7);
                let [rate, variability] = at.map_or([0.0; 2], |at| {
                    [
                        libm::exp(f64::from(at.rate.step) * RATE_STEP),
                        libm::exp(f64::from(at.variability_step) * VARIABILITY_STEP),
                    ]
                });
                let expected = by_definition(f64::from(replicas), rate, variability);
                assert_eq!(steady.requests(&model, replicas, at), expected, "{replicas}, {share}");
            }
        }
    }

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
