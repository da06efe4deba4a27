//! Weibull-spaced arrivals: a shape below 1 clusters requests, above 1 spreads them.

use rand::RngExt;
use rand_distr::Exp1;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::{self, Phase};
use crate::random;
use crate::settings::Faults;

/// Either `phases`, or one `rate_per_s` and `duration_s`; and either `shape` or `cv`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Weibull {
    /// Stretches of constant rate, one after the other; or else `rate_per_s` and `duration_s`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Mean rate of requests, where there are no `phases`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// How long requests arrive, where there are no `phases`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Shape of the distribution, from 0.1 to 100; 1 is Poisson.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shape: Option<f64>,
    /// Standard deviation of the spacing over its mean, from 0.02 to 100; 1 is Poisson.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cv: Option<f64>,
}

impl Weibull {
    pub(super) fn check(&self, faults: &mut Faults) {
        phases::check(&self.phases, self.rate_per_s, self.duration_s, faults);
        match (self.shape, self.cv) {
            (None, None) => faults.add("shape", "missing, expected either `shape` or `cv`"),
            (Some(_), Some(_)) => faults.add("shape", "found beside `cv`, expected one of them"),
            (Some(shape), None) => {
                faults.require((0.1..=100.0).contains(&shape), "shape", || {
                    format!("{shape} found, expected a number from 0.1 to 100")
                });
            }
            (None, Some(cv)) => {
                faults.require((0.02..=100.0).contains(&cv), "cv", || {
                    format!("{cv} found, expected a number from 0.02 to 100")
                });
            }
        }
    }

    pub(super) fn times(&self, seed: u64) -> impl Iterator<Item = f64> + use<> {
        let mut random = random::stream(seed, super::STREAM);
        let spacing = Spacing::of_shape(self.shape.unwrap_or_else(|| shape_of_cv(self.cv.unwrap_or(1.0))));
        phases::arrivals(phases::resolved(&self.phases, self.rate_per_s, self.duration_s), move |_| {
            spacing.draw(&mut random)
        })
    }
}

/// The Weibull distribution of mean 1.
#[derive(Debug, Clone, Copy)]
pub struct Spacing {
    shape: f64,
    scale: f64,
}

impl Spacing {
    pub fn of_shape(shape: f64) -> Self {
        Self { shape, scale: 1.0 / libm::tgamma(1.0 + 1.0 / shape) }
    }

    pub fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        let exponential: f64 = random.sample(Exp1);
        self.scale * libm::pow(exponential, 1.0 / self.shape)
    }
}

/// The coefficient of variation, sqrt(Γ(1 + 2/k) / Γ(1 + 1/k)² - 1), falls as the shape k grows.
fn cv_of_shape(shape: f64) -> f64 {
    libm::sqrt(libm::expm1(libm::lgamma(1.0 + 2.0 / shape) - 2.0 * libm::lgamma(1.0 + 1.0 / shape)))
}

fn shape_of_cv(cv: f64) -> f64 {
    let (mut low, mut high) = (0.1, 100.0);
    for _ in 0..100 {
        let middle = libm::sqrt(low * high);
        if cv_of_shape(middle) > cv { low = middle } else { high = middle }
    }
    libm::sqrt(low * high)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes_and_coefficients_of_variation_agree() {
        assert!((cv_of_shape(1.0) - 1.0).abs() < 1e-12);
        assert!((cv_of_shape(2.0) - (4.0 / std::f64::consts::PI - 1.0).sqrt()).abs() < 1e-12);
        for cv in [0.02, 0.5, 1.0, 3.0, 100.0] {
            assert!((cv_of_shape(shape_of_cv(cv)) / cv - 1.0).abs() < 1e-9, "{cv}");
        }
    }
}
