//! Day and night: Poisson arrivals whose rate follows a sine.
//!
//! rate(t) = mean × (1 + amplitude × sin(2π (t + phase) / period)), by thinning (Lewis and Shedler 1979):
//! candidates at the peak rate, each kept with probability rate(t) / peak.

use std::f64::consts::TAU;

use rand::RngExt;
use rand_distr::Exp1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases;
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Diurnal {
    /// Rate of requests, averaged over a swing.
    pub mean_rate_per_s: f64,
    /// Swing of the rate as a fraction of its mean, from 0 (none) to 1 (down to silence).
    pub amplitude: f64,
    /// How long requests arrive.
    pub duration_s: f64,
    /// Length of one swing; a day if not given.
    #[serde(default = "day")]
    pub period_s: f64,
    /// How far into the swing time 0 is: at 0 the rate is the mean and rises, after a quarter period it
    /// peaks.
    #[serde(default)]
    pub phase_s: f64,
}

fn day() -> f64 {
    86_400.0
}

impl Diurnal {
    pub(super) fn check(&self, faults: &mut Faults) {
        let before = faults.found.len();
        faults.positive("mean_rate_per_s", self.mean_rate_per_s);
        faults.fraction("amplitude", self.amplitude);
        faults.positive("duration_s", self.duration_s);
        faults.positive("period_s", self.period_s);
        faults.require(self.phase_s.is_finite(), "phase_s", || {
            format!("{} found, expected a finite number", self.phase_s)
        });
        if faults.found.len() == before {
            phases::check_size(self.mean_rate_per_s * (1.0 + self.amplitude) * self.duration_s, faults);
        }
    }

    fn rate_per_s(&self, at_s: f64) -> f64 {
        self.mean_rate_per_s
            * (1.0 + self.amplitude * libm::sin(TAU * ((at_s + self.phase_s) / self.period_s)))
    }

    pub(super) fn times(&self, seed: u64) -> impl Iterator<Item = f64> + use<> {
        let mut random = random::stream(seed, super::STREAM);
        let settings = self.clone();
        let peak_per_s = self.mean_rate_per_s * (1.0 + self.amplitude);
        let mut at_s = 0.0;
        std::iter::from_fn(move || {
            loop {
                at_s += random.sample::<f64, _>(Exp1) / peak_per_s;
                if at_s >= settings.duration_s {
                    return None;
                }
                if random.random::<f64>() * peak_per_s < settings.rate_per_s(at_s) {
                    return Some(at_s);
                }
            }
        })
    }
}
