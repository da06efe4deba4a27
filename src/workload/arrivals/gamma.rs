//! Gamma-spaced arrivals: burstier than Poisson above a coefficient of variation of 1, steadier below.

use rand::RngExt;
use rand::distr::OpenClosed01;
use rand_distr::{Distribution, Gamma as GammaDistribution};
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::{self, Phase};
use crate::random;
use crate::settings::Faults;

/// Either `phases`, or one `rate_per_s` and `duration_s`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gamma {
    /// Stretches of constant rate, one after the other; or else `rate_per_s` and `duration_s`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub phases: Vec<Phase>,
    /// Mean rate of requests, where there are no `phases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rate_per_s: Option<f64>,
    /// How long requests arrive, where there are no `phases`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_s: Option<f64>,
    /// Standard deviation of the spacing over its mean, from 0.01 to 100; 1 is Poisson.
    pub cv: f64,
}

impl Gamma {
    pub(super) fn check(&self, faults: &mut Faults) {
        phases::check(&self.phases, self.rate_per_s, self.duration_s, faults);
        faults.require((0.01..=100.0).contains(&self.cv), "cv", || {
            format!("{} found, expected a number from 0.01 to 100", self.cv)
        });
    }

    pub(super) fn times(&self, seed: u64) -> impl Iterator<Item = f64> + use<> {
        let mut random = random::stream(seed, super::STREAM);
        let spacing = Spacing::of_shape(1.0 / (self.cv * self.cv));
        phases::arrivals(phases::resolved(&self.phases, self.rate_per_s, self.duration_s), move |_| {
            spacing.draw(&mut random)
        })
    }
}

/// The Gamma distribution of mean 1.
#[derive(Debug, Clone, Copy)]
pub struct Spacing {
    shape: f64,
    /// Of a shape of at least 1: that one is drawn by arithmetic alone.
    large: GammaDistribution<f64>,
}

impl Spacing {
    /// `shape` must be positive and finite.
    pub fn of_shape(shape: f64) -> Self {
        let large = if shape < 1.0 { shape + 1.0 } else { shape };
        Self { shape, large: GammaDistribution::new(large, 1.0 / shape).expect("a positive shape") }
    }

    pub fn draw(&self, random: &mut Xoshiro256PlusPlus) -> f64 {
        let large = self.large.sample(random);
        if self.shape >= 1.0 {
            return large;
        }
        // Marsaglia and Tsang (2000): Gamma(a) = Gamma(a + 1) U^(1/a).
        let uniform: f64 = random.sample(OpenClosed01);
        large * libm::pow(uniform, 1.0 / self.shape)
    }
}
