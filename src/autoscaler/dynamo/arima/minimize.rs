//! L-BFGS without bounds, to the step: models that are given few iterations end where their reference does.
//!
//! Gradients are forward differences. The line search is that of Moré and Thuente (sufficient decrease 1e-3,
//! curvature 0.9, at most 20 evaluations).
//!
//! Source: scipy 1.17 `fmin_l_bfgs_b` (L-BFGS-B 3.0) with the arguments of statsmodels 0.15.0: ten
//! corrections, differences of 1e-5, relative reduction 1e7 x machine precision, gradient 1e-5. Written from
//! the papers: Byrd, Lu, Nocedal and Zhu 1995; Moré and Thuente 1994.

use std::collections::VecDeque;

const CORRECTIONS: usize = 10;
const DIFFERENCE: f64 = 1e-5;
const REDUCTION: f64 = 1e7 * f64::EPSILON;
const GRADIENT: f64 = 1e-5;
const MOST_EVALUATIONS: u32 = 20;
const DECREASE: f64 = 1e-3;
const CURVATURE: f64 = 0.9;
const WIDTH: f64 = 0.1;

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()))
}

/// A point, its value and gradient.
#[derive(Debug, Clone)]
struct Point {
    at: Vec<f64>,
    value: f64,
    gradient: Vec<f64>,
}

impl Point {
    fn of(at: Vec<f64>, objective: &impl Fn(&[f64]) -> f64) -> Self {
        let value = objective(&at);
        let mut moved = at.clone();
        let gradient = (0..at.len())
            .map(|i| {
                moved[i] = at[i] + DIFFERENCE;
                let slope = (objective(&moved) - value) / (moved[i] - at[i]);
                moved[i] = at[i];
                slope
            })
            .collect();
        Self { at, value, gradient }
    }
}

/// A step and how the gradient changed over it.
#[derive(Debug)]
struct Correction {
    step: Vec<f64>,
    change: Vec<f64>,
    inner: f64,
}

/// The direction down from a gradient.
fn direction(gradient: &[f64], corrections: &VecDeque<Correction>) -> Vec<f64> {
    let mut direction: Vec<f64> = gradient.iter().map(|slope| -slope).collect();
    let mut weights = Vec::with_capacity(corrections.len());
    for Correction { step, change, inner } in corrections.iter().rev() {
        let weight = dot(step, &direction) / inner;
        direction.iter_mut().zip(change).for_each(|(d, y)| *d -= weight * y);
        weights.push(weight);
    }
    if let Some(Correction { change, inner, .. }) = corrections.back() {
        let scale = inner / dot(change, change);
        direction.iter_mut().for_each(|d| *d *= scale);
    }
    for (Correction { step, change, inner }, weight) in corrections.iter().zip(weights.into_iter().rev()) {
        let other = dot(change, &direction) / inner;
        direction.iter_mut().zip(step).for_each(|(d, s)| *d += (weight - other) * s);
    }
    direction
}

/// A trial of the line search: how far, the value and the slope there.
#[derive(Debug, Clone, Copy)]
struct Trial {
    far: f64,
    value: f64,
    slope: f64,
}

/// The interval a minimum is looked for in: its better end, its other one, whether it encloses a minimum.
#[derive(Debug, Clone, Copy)]
struct Interval {
    best: Trial,
    other: Trial,
    encloses: bool,
}

impl Interval {
    /// Takes a trial in; returns how far to go next, between `least` and `most`.
    fn shrink(&mut self, trial: Trial, least: f64, most: f64) -> f64 {
        let Self { best, other, .. } = *self;
        let turned = trial.slope * (best.slope / best.slope.abs());
        let theta = 3.0 * (best.value - trial.value) / (trial.far - best.far) + best.slope + trial.slope;
        let root = |product: f64, scale: f64| {
            scale * ((theta / scale).powi(2) - product / scale / scale).max(0.0).sqrt()
        };
        let scale = theta.abs().max(best.slope.abs()).max(trial.slope.abs());
        let secant = trial.far + trial.slope / (trial.slope - best.slope) * (best.far - trial.far);
        let mut next;
        if trial.value > best.value {
            // Higher: a minimum is enclosed; by cubic and quadratic, nearer to the better end.
            let mut gamma = root(best.slope * trial.slope, scale);
            if trial.far < best.far {
                gamma = -gamma;
            }
            let ratio = ((gamma - best.slope) + theta) / (((gamma - best.slope) + gamma) + trial.slope);
            let cubic = best.far + ratio * (trial.far - best.far);
            let quadratic = best.far
                + best.slope / ((best.value - trial.value) / (trial.far - best.far) + best.slope) / 2.0
                    * (trial.far - best.far);
            next = if (cubic - best.far).abs() <= (quadratic - best.far).abs() {
                cubic
            } else {
                cubic + (quadratic - cubic) / 2.0
            };
            self.encloses = true;
        } else if turned < 0.0 {
            // Lower, with the slope turned round: enclosed too.
            let mut gamma = root(best.slope * trial.slope, scale);
            if trial.far > best.far {
                gamma = -gamma;
            }
            let ratio = ((gamma - trial.slope) + theta) / (((gamma - trial.slope) + gamma) + best.slope);
            let cubic = trial.far + ratio * (best.far - trial.far);
            next = if (cubic - trial.far).abs() > (secant - trial.far).abs() { cubic } else { secant };
            self.encloses = true;
        } else if trial.slope.abs() < best.slope.abs() {
            // Lower, and flatter.
            let mut gamma = root(best.slope * trial.slope, scale);
            if trial.far > best.far {
                gamma = -gamma;
            }
            let ratio = ((gamma - trial.slope) + theta) / ((gamma + (best.slope - trial.slope)) + gamma);
            let cubic = if ratio < 0.0 && gamma != 0.0 {
                trial.far + ratio * (best.far - trial.far)
            } else if trial.far > best.far {
                most
            } else {
                least
            };
            let nearer = (cubic - trial.far).abs() < (secant - trial.far).abs();
            if self.encloses {
                next = if nearer { cubic } else { secant };
                let bound = trial.far + 0.66 * (other.far - trial.far);
                next = if trial.far > best.far { next.min(bound) } else { next.max(bound) };
            } else {
                next = if nearer { secant } else { cubic };
                next = next.clamp(least, most);
            }
        } else if self.encloses {
            // Lower, and steeper.
            let theta =
                3.0 * (trial.value - other.value) / (other.far - trial.far) + other.slope + trial.slope;
            let scale = theta.abs().max(other.slope.abs()).max(trial.slope.abs());
            let mut gamma =
                scale * ((theta / scale).powi(2) - other.slope / scale * (trial.slope / scale)).sqrt();
            if trial.far > other.far {
                gamma = -gamma;
            }
            let ratio = ((gamma - trial.slope) + theta) / (((gamma - trial.slope) + gamma) + other.slope);
            next = trial.far + ratio * (other.far - trial.far);
        } else {
            next = if trial.far > best.far { most } else { least };
        }
        if trial.value > best.value {
            self.other = trial;
        } else {
            if turned < 0.0 {
                self.other = best;
            }
            self.best = trial;
        }
        next
    }
}

/// Goes down a direction far enough and not too far; `None` if that does not work out.
fn search(
    from: &Point,
    direction: &[f64],
    first: f64,
    objective: &impl Fn(&[f64]) -> f64,
) -> Option<(Point, f64)> {
    const FARTHEST: f64 = 1e10;
    let start = Trial { far: 0.0, value: from.value, slope: dot(&from.gradient, direction) };
    if start.slope >= 0.0 {
        return None;
    }
    let sufficient = DECREASE * start.slope;
    let mut interval = Interval { best: start, other: start, encloses: false };
    let mut first_stage = true;
    let (mut width, mut width_before) = (FARTHEST, 2.0 * FARTHEST);
    let (mut least, mut most) = (0.0, first + 4.0 * first);
    let mut far = first;
    for _ in 0..MOST_EVALUATIONS {
        let at: Vec<f64> = from.at.iter().zip(direction).map(|(x, d)| x + far * d).collect();
        let point = Point::of(at, objective);
        let trial = Trial { far, value: point.value, slope: dot(&point.gradient, direction) };
        let bound = start.value + far * sufficient;
        if first_stage && trial.value <= bound && trial.slope >= 0.0 {
            first_stage = false;
        }
        let stuck = interval.encloses && (far <= least || far >= most || most - least <= WIDTH * most);
        let at_end = far == FARTHEST && trial.value <= bound && trial.slope <= sufficient;
        if stuck || at_end || (trial.value <= bound && trial.slope.abs() <= CURVATURE * -start.slope) {
            return Some((point, far));
        }
        if first_stage && trial.value <= interval.best.value && trial.value > bound {
            // On the way to sufficient decrease, by the function less the decrease asked for.
            let less = |trial: Trial| Trial {
                value: trial.value - trial.far * sufficient,
                slope: trial.slope - sufficient,
                ..trial
            };
            let more = |trial: Trial| Trial {
                value: trial.value + trial.far * sufficient,
                slope: trial.slope + sufficient,
                ..trial
            };
            let mut modified =
                Interval { best: less(interval.best), other: less(interval.other), ..interval };
            far = modified.shrink(less(trial), least, most);
            interval = Interval { best: more(modified.best), other: more(modified.other), ..modified };
        } else {
            far = interval.shrink(trial, least, most);
        }
        let (a, b) = (interval.best.far, interval.other.far);
        if interval.encloses {
            if (b - a).abs() >= 0.66 * width_before {
                far = a + 0.5 * (b - a);
            }
            width_before = width;
            width = (b - a).abs();
            (least, most) = (a.min(b), a.max(b));
        } else {
            (least, most) = (far + 1.1 * (far - a), far + 4.0 * (far - a));
        }
        far = far.clamp(0.0, FARTHEST);
        if interval.encloses && (far <= least || far >= most || most - least <= WIDTH * most) {
            far = a;
        }
    }
    None
}

/// Where an objective is least, as far as so many iterations from `start` lead.
pub fn minimize(start: Vec<f64>, most_iterations: u32, objective: impl Fn(&[f64]) -> f64) -> Vec<f64> {
    let mut point = Point::of(start, &objective);
    let mut corrections: VecDeque<Correction> = VecDeque::new();
    let mut iterations = 0;
    let mut is_first = true;
    while largest(&point.gradient) > GRADIENT {
        let direction = direction(&point.gradient, &corrections);
        let first = if is_first { (1.0 / dot(&direction, &direction).sqrt()).min(1e10) } else { 1.0 };
        let Some((next, far)) = search(&point, &direction, first, &objective) else {
            if corrections.is_empty() {
                break;
            }
            corrections.clear();
            continue;
        };
        is_first = false;
        iterations += 1;
        let reduction = (point.value - next.value) / point.value.abs().max(next.value.abs()).max(1.0);
        if iterations >= most_iterations || largest(&next.gradient) <= GRADIENT || reduction <= REDUCTION {
            return next.at;
        }
        let change: Vec<f64> =
            next.gradient.iter().zip(&point.gradient).map(|(new, old)| new - old).collect();
        let step: Vec<f64> = direction.iter().map(|d| d * far).collect();
        let inner = dot(&change, &step);
        if inner > -f64::EPSILON * dot(&point.gradient, &step) {
            if corrections.len() == CORRECTIONS {
                corrections.pop_front();
            }
            corrections.push_back(Correction { step, change, inner });
        }
        point = next;
    }
    point.at
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The valley of Rosenbrock, from where it is usually entered.
    #[test]
    fn finds_the_end_of_a_valley() {
        let valley = |x: &[f64]| 100.0 * (x[1] - x[0] * x[0]).powi(2) + (1.0 - x[0]).powi(2);
        let found = minimize(vec![-1.2, 1.0], 200, valley);
        // It stops where the gradient is small, on the flat floor of the valley.
        assert!((found[0] - 1.0).abs() < 1e-2 && (found[1] - 1.0).abs() < 1e-2, "{found:?}");
    }

    #[test]
    fn few_iterations_are_few() {
        let bowl = |x: &[f64]| (x[0] - 3.0).powi(4) + x[1] * x[1];
        let value = |iterations| bowl(&minimize(vec![10.0, 10.0], iterations, bowl));
        assert!(value(1) > value(5) && value(5) > value(50));
        assert_eq!(minimize(vec![3.0, 0.0], 5, |x| (x[0] - 3.0).abs() * 0.0), [3.0, 0.0], "nowhere to go");
    }
}
