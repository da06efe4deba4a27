//! A base load with bursts: Poisson arrivals at one of two rates.

use rand::RngExt;
use rand_distr::Exp1;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::phases::{self, Phase};
use super::poisson;
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Bursts {
    /// Rate between bursts.
    pub base_rate_per_s: f64,
    /// Rate during a burst.
    pub burst_rate_per_s: f64,
    /// How long a burst lasts.
    pub burst_duration_s: f64,
    /// From the start of one burst to that of the next; for random bursts its mean.
    pub interval_s: f64,
    /// How long requests arrive.
    pub duration_s: f64,
    /// Whether bursts come at regular intervals or at random.
    #[serde(default)]
    pub timing: BurstTiming,
}

/// When bursts come. The first comes after one gap, the interval less the burst's duration.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum BurstTiming {
    /// All gaps alike.
    #[default]
    Periodic,
    /// Gaps exponential of that mean, drawn from a stream of their own.
    Random,
}

impl Bursts {
    pub(super) fn check(&self, faults: &mut Faults) {
        const MOST_BURSTS: f64 = 1e7;
        let before = faults.found.len();
        faults.not_negative("base_rate_per_s", self.base_rate_per_s);
        faults.not_negative("burst_rate_per_s", self.burst_rate_per_s);
        faults.positive("burst_duration_s", self.burst_duration_s);
        faults.positive("duration_s", self.duration_s);
        faults.require(
            self.interval_s.is_finite() && self.interval_s > self.burst_duration_s,
            "interval_s",
            || {
                format!(
                    "{} found, expected more than the `burst_duration_s` {}",
                    self.interval_s, self.burst_duration_s
                )
            },
        );
        if faults.found.len() == before {
            let bursts = self.duration_s / self.interval_s;
            faults.require(bursts <= MOST_BURSTS, "interval_s", || {
                format!("about {bursts:.0} bursts, expected at most {MOST_BURSTS}")
            });
            phases::check_size(self.base_rate_per_s.max(self.burst_rate_per_s) * self.duration_s, faults);
        }
    }

    pub(super) fn times(&self, seed: u64) -> impl Iterator<Item = f64> + use<> {
        poisson::arrivals(self.phases(seed), seed)
    }

    pub fn phases(&self, seed: u64) -> Vec<Phase> {
        let mut random = random::stream(seed, "workload.bursts");
        let mean_gap_s = self.interval_s - self.burst_duration_s;
        let mut phases = Vec::new();
        let mut left_s = self.duration_s;
        let mut add = |duration_s: f64, rate_per_s| {
            phases.push(Phase { duration_s: duration_s.min(left_s), rate_per_s });
            left_s -= duration_s;
            left_s > 0.0
        };
        loop {
            let gap_s = match self.timing {
                BurstTiming::Periodic => mean_gap_s,
                BurstTiming::Random => mean_gap_s * random.sample::<f64, _>(Exp1),
            };
            if !add(gap_s, self.base_rate_per_s) || !add(self.burst_duration_s, self.burst_rate_per_s) {
                return phases;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_come_after_their_gaps_and_fill_the_duration() {
        let mut bursts = Bursts {
            base_rate_per_s: 1.0,
            burst_rate_per_s: 9.0,
            burst_duration_s: 2.0,
            interval_s: 10.0,
            duration_s: 19.0,
            timing: BurstTiming::Periodic,
        };
        let shape: Vec<(f64, f64)> =
            bursts.phases(1).iter().map(|phase| (phase.duration_s, phase.rate_per_s)).collect();
        assert_eq!(shape, [(8.0, 1.0), (2.0, 9.0), (8.0, 1.0), (1.0, 9.0)]);

        bursts = Bursts { timing: BurstTiming::Random, duration_s: 1e5, ..bursts };
        let phases = bursts.phases(1);
        assert!((phases.iter().map(|phase| phase.duration_s).sum::<f64>() - 1e5).abs() < 1e-6);
        let burst_s: f64 =
            phases.iter().filter(|phase| phase.rate_per_s == 9.0).map(|phase| phase.duration_s).sum();
        assert!((burst_s / 1e5 - 0.2).abs() < 0.02, "{burst_s}");
    }
}
