//! What an engine's forward passes cost, learned from those observed.
//!
//! Passes of decodes alone, of prompts alone and of both are kept apart. Of each kind a plane of two features
//! is fitted by least squares with slopes that are not negative:
//!
//! - attention: tokens that decodes read, tokens that prompts find in the cache, and pairs of tokens within
//!   the prompts, P H / R + P^2 / 2R
//!   + P / 2 for P tokens of R prompts behind H;
//! - everything else: tokens of prompts and decodes.
//!
//! At most 64 passes of a kind are kept: over a grid of 4 x 4 cells in the logarithms of the features, which
//! grows with them, the fullest cell gives up its first pass. With fewer than five, or without a slope,
//! nothing is said.
//!
//! Source: AI Simulate 0.13.0.dev85, the forward-pass regression of its core (`standardized_nnls`), which the
//! planner of ai-dynamo 1.6.1 asks. Its text describes the fit; which pass leaves was found by comparing with
//! the program.

use crate::autoscaler::ForwardPass;

const MOST_PASSES: usize = 64;
const FEWEST_PASSES: usize = 5;
const CELLS_PER_AXIS: usize = 4;

/// No pass is predicted to be shorter.
const SHORTEST_MS: f64 = 1e-6;

type Features = [f64; 2];

fn features(pass: &ForwardPass) -> Features {
    let (prompts, tokens) = (f64::from(pass.prefill_requests), pass.prefill_tokens as f64);
    let cached = if pass.prefill_tokens > 0 { pass.prefill_cached_tokens as f64 } else { 0.0 };
    let pairs = if prompts > 0.0 && tokens > 0.0 {
        cached * tokens / prompts + tokens * tokens / (2.0 * prompts) + tokens / 2.0
    } else {
        0.0
    };
    [cached + pass.decode_kv_tokens as f64 + pairs, tokens + f64::from(pass.decode_requests)]
}

#[derive(Debug, Clone, Copy, PartialEq)]
struct Observation {
    features: Features,
    duration_ms: f64,
}

/// The least and most of a coordinate so far.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Bounds {
    least: f64,
    most: f64,
}

impl Bounds {
    /// Takes in a value; whether that changed anything.
    fn include(&mut self, value: f64) -> bool {
        let grows = value < self.least || value > self.most;
        self.least = self.least.min(value);
        self.most = self.most.max(value);
        grows
    }

    fn cell(&self, value: f64) -> usize {
        if self.most <= self.least {
            return 0;
        }
        let share = (value - self.least) / (self.most - self.least);
        ((share * CELLS_PER_AXIS as f64) as usize).min(CELLS_PER_AXIS - 1)
    }
}

/// A plane through standardized features.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Plane {
    mean_ms: f64,
    means: Features,
    /// 0 for a feature that does not vary.
    scales: Features,
    slopes: Features,
}

impl Plane {
    fn at(&self, features: Features) -> f64 {
        let along = |axis: usize| {
            if self.scales[axis] > 0.0 {
                self.slopes[axis] * ((features[axis] - self.means[axis]) / self.scales[axis])
            } else {
                0.0
            }
        };
        (self.mean_ms + along(0) + along(1)).max(SHORTEST_MS)
    }

    /// The best plane over those with both slopes, one of them, or none; `None` if it says nothing of the
    /// features.
    fn fit(observed: &[&Observation]) -> Option<Self> {
        if observed.len() < FEWEST_PASSES {
            return None;
        }
        let count = observed.len() as f64;
        let mean = |value: &dyn Fn(&Observation) -> f64| {
            observed.iter().map(|pass| value(pass)).sum::<f64>() / count
        };
        let mean_ms = mean(&|pass| pass.duration_ms);
        let means = [0, 1].map(|axis| mean(&|pass| pass.features[axis]));
        let scales = [0, 1].map(|axis| {
            let scale = mean(&|pass| (pass.features[axis] - means[axis]).powi(2)).sqrt();
            if scale > 1e-12 * means[axis].abs().max(1.0) { scale } else { 0.0 }
        });
        let active = scales.map(|scale| scale > 0.0);
        if !active[0] && !active[1] {
            return None;
        }
        let standard = |pass: &Observation, axis: usize| {
            if active[axis] { (pass.features[axis] - means[axis]) / scales[axis] } else { 0.0 }
        };
        let product = |left: &dyn Fn(&Observation) -> f64, right: &dyn Fn(&Observation) -> f64| {
            observed.iter().map(|pass| left(pass) * right(pass)).sum::<f64>()
        };
        let gram = |i: usize, j: usize| product(&|pass| standard(pass, i), &|pass| standard(pass, j));
        let cross = |i: usize| product(&|pass| standard(pass, i), &|pass| pass.duration_ms - mean_ms);
        let mut candidates = vec![[0.0, 0.0]];
        for axis in [0, 1].into_iter().filter(|&axis| active[axis]) {
            let mut slopes = [0.0, 0.0];
            slopes[axis] = cross(axis) / gram(axis, axis);
            candidates.push(slopes);
        }
        if active == [true, true] {
            let (g00, g11, g01) = (gram(0, 0), gram(1, 1), gram(0, 1));
            let mut determinant = g00 * g11 - g01 * g01;
            let (mut d00, mut d11) = (g00, g11);
            if determinant.abs() / g00 < 1e-12 {
                let ridge = 1e-9 * (count + g00 + g11).max(1.0);
                (d00, d11) = (g00 + ridge, g11 + ridge);
                determinant = d00 * d11 - g01 * g01;
            }
            let (h0, h1) = (cross(0), cross(1));
            candidates.push([(h0 * d11 - h1 * g01) / determinant, (h1 * d00 - h0 * g01) / determinant]);
        }
        let error = |slopes: &Features| {
            let residual = |pass: &Observation| {
                pass.duration_ms - mean_ms - slopes[0] * standard(pass, 0) - slopes[1] * standard(pass, 1)
            };
            observed.iter().map(|pass| residual(pass).powi(2)).sum::<f64>()
        };
        let allowed = candidates.into_iter().filter(|slopes| slopes.iter().all(|&slope| slope >= 0.0));
        let (_, slopes) =
            allowed.map(|slopes| (error(&slopes), slopes)).min_by(|a, b| a.0.total_cmp(&b.0))?;
        (slopes[0] > 0.0 || slopes[1] > 0.0).then_some(Self { mean_ms, means, scales, slopes })
    }
}

/// Passes of one kind, cell by cell, and the plane through them.
#[derive(Debug, Clone, Default)]
struct Store {
    bounds: Option<[Bounds; 2]>,
    cells: [Vec<Observation>; CELLS_PER_AXIS * CELLS_PER_AXIS],
    count: usize,
    plane: Option<Plane>,
}

impl Store {
    fn add(&mut self, observation: Observation) {
        let logarithms = observation.features.map(libm::log1p);
        let bounds =
            self.bounds.get_or_insert_with(|| logarithms.map(|value| Bounds { least: value, most: value }));
        let grows = [0, 1].map(|axis| bounds[axis].include(logarithms[axis]));
        let bounds = *bounds;
        let cell = |observation: &Observation| {
            let [attention, rest] =
                [0, 1].map(|axis| bounds[axis].cell(libm::log1p(observation.features[axis])));
            attention * CELLS_PER_AXIS + rest
        };
        if grows.contains(&true) {
            for kept in std::mem::take(&mut self.cells).into_iter().flatten() {
                self.cells[cell(&kept)].push(kept);
            }
        }
        self.cells[cell(&observation)].push(observation);
        self.count += 1;
        if self.count > MOST_PASSES {
            let fullest = self.cells.iter_mut().max_by_key(|cell| cell.len()).expect("there are cells");
            fullest.remove(0);
            self.count -= 1;
        }
        self.plane = Plane::fit(&self.cells.iter().flatten().collect::<Vec<_>>());
    }
}

/// Durations of passes.
#[derive(Debug, Clone, Default)]
pub struct PassModel {
    decodes: Store,
    prompts: Store,
    mixed: Store,
}

impl PassModel {
    fn store(&mut self, pass: &ForwardPass) -> Option<&mut Store> {
        match (pass.prefill_tokens > 0, pass.decode_requests > 0) {
            (false, false) => None,
            (false, true) => Some(&mut self.decodes),
            (true, false) => Some(&mut self.prompts),
            (true, true) => Some(&mut self.mixed),
        }
    }

    /// Learns from a pass; nothing from one without work.
    pub fn learn(&mut self, pass: &ForwardPass) {
        if pass.duration_s > 0.0 && pass.duration_s.is_finite() {
            let observation = Observation { features: features(pass), duration_ms: pass.duration_s * 1000.0 };
            if let Some(store) = self.store(pass) {
                store.add(observation);
            }
        }
    }

    /// Whether it can say anything.
    pub fn is_ready(&self) -> bool {
        [&self.decodes, &self.prompts, &self.mixed].into_iter().any(|store| store.plane.is_some())
    }

    /// How long a pass would take; `None` if too few like it were seen.
    pub fn duration_s(&self, pass: &ForwardPass) -> Option<f64> {
        let store = match (pass.prefill_tokens > 0, pass.decode_requests > 0) {
            (false, false) => return Some(0.0),
            (false, true) => &self.decodes,
            (true, false) => &self.prompts,
            (true, true) => &self.mixed,
        };
        store.plane.map(|plane| plane.at(features(pass)) / 1000.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decodes(requests: u32, tokens: u64, duration_ms: f64) -> ForwardPass {
        ForwardPass {
            decode_requests: requests,
            decode_kv_tokens: tokens,
            duration_s: duration_ms / 1000.0,
            ..ForwardPass::default()
        }
    }

    fn mixed(prefill_tokens: u64, duration_ms: f64) -> ForwardPass {
        ForwardPass { prefill_requests: 1, prefill_tokens, ..decodes(4, 2200, duration_ms) }
    }

    #[test]
    fn kinds_are_apart_and_need_five() {
        let mut model = PassModel::default();
        for requests in 1..=4 {
            model.learn(&decodes(requests, 500 * u64::from(requests), 10.0 + f64::from(requests)));
        }
        assert!(!model.is_ready());
        model.learn(&decodes(5, 2500, 15.0));
        assert!(model.is_ready());
        assert!((model.duration_s(&decodes(8, 4000, 0.0)).unwrap() - 0.018).abs() < 1e-12);
        assert_eq!(model.duration_s(&mixed(500, 0.0)), None);
        assert_eq!(model.duration_s(&ForwardPass::default()), Some(0.0));
    }

    /// Prompts of 1,000 tokens beside 4 decodes of 550: 500,500 pairs and 2,200 tokens read.
    #[test]
    fn attention_counts_pairs() {
        assert_eq!(features(&mixed(1000, 1.0)), [2200.0 + 500_000.0 + 500.0, 1004.0]);
        let behind = ForwardPass { prefill_cached_tokens: 300, prefill_requests: 2, ..mixed(1000, 1.0) };
        assert_eq!(features(&behind), [2500.0 + 150_000.0 + 250_000.0 + 500.0, 1004.0]);
    }

    /// A slope that would be negative is none, and the other takes what it can: of y = 20 - 2 a + 3 b over
    /// all a and b of 0, 1, 2 it is 18 + 3 b.
    #[test]
    fn slopes_are_not_negative() {
        let observed: Vec<Observation> = (0..9)
            .map(|i| (f64::from(i / 3), f64::from(i % 3)))
            .map(|(a, b)| Observation { features: [a, b], duration_ms: 20.0 - 2.0 * a + 3.0 * b })
            .collect();
        let plane = Plane::fit(&observed.iter().collect::<Vec<_>>()).unwrap();
        assert!((plane.at([100.0, 4.0]) - 30.0).abs() < 1e-9);
        let level: Vec<Observation> =
            observed.iter().map(|seen| Observation { duration_ms: 7.0, ..*seen }).collect();
        assert_eq!(Plane::fit(&level.iter().collect::<Vec<_>>()), None);
    }

    /// Rare passes stay however many common ones follow.
    #[test]
    fn the_fullest_cell_gives_way() {
        let mut model = PassModel::default();
        model.learn(&decodes(16, 100_000, 99.0));
        for i in 0..500 {
            model.learn(&decodes(1 + i % 2, 300 + u64::from(i % 7), 10.0));
        }
        assert_eq!(model.decodes.count, MOST_PASSES);
        assert!(model.decodes.cells.iter().flatten().any(|seen| seen.duration_ms == 99.0));
    }
}
