//! Rates that change at given times, and arrivals at such rates.
//!
//! A process of mean spacing 1 is laid out along the *expected number of arrivals* Λ(t), the integral of the
//! rate, and carried back to time. With exponential spacing this is exactly the Poisson process of that rate;
//! any other spacing keeps its shape and follows the rate. Nothing restarts where a phase ends, and a phase
//! of rate 0 is silent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;
use crate::workload::MAX_REQUESTS;

/// A stretch of time with one rate.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Phase {
    /// How long the phase lasts.
    pub duration_s: f64,
    /// Mean rate of requests; 0 is silence.
    pub rate_per_s: f64,
}

/// Checks a load given as phases, or as one rate and duration.
pub fn check(phases: &[Phase], rate_per_s: Option<f64>, duration_s: Option<f64>, faults: &mut Faults) {
    let before = faults.found.len();
    match (phases, rate_per_s, duration_s) {
        ([], Some(rate), Some(duration)) => {
            faults.not_negative("rate_per_s", rate);
            faults.positive("duration_s", duration);
        }
        ([_, ..], None, None) => {
            for (index, phase) in phases.iter().enumerate() {
                faults.within(format!("phases[{index}]"), |faults| {
                    faults.not_negative("rate_per_s", phase.rate_per_s);
                    faults.positive("duration_s", phase.duration_s);
                });
            }
        }
        ([_, ..], ..) => faults.add(
            "phases",
            "found beside `rate_per_s` or `duration_s`, expected either phases or one rate and duration",
        ),
        ([], rate, duration) => {
            let missing = if rate.is_none() && duration.is_none() {
                "phases"
            } else if rate.is_none() {
                "rate_per_s"
            } else {
                "duration_s"
            };
            faults.add(missing, "missing, expected either `phases` or both `rate_per_s` and `duration_s`");
        }
    }
    if faults.found.len() == before {
        check_size(expected_requests(&resolved(phases, rate_per_s, duration_s)), faults);
    }
}

/// At least one request and no more than memory holds, on average.
pub fn check_size(expected_requests: f64, faults: &mut Faults) {
    if expected_requests == 0.0 {
        faults.add("", "rates add up to no request, expected at least one");
    }
    if expected_requests > MAX_REQUESTS as f64 {
        faults.add("", format!("about {expected_requests:.0} requests, expected at most {MAX_REQUESTS}; lower rates or durations"));
    }
}

/// The phases meant by checked settings.
pub fn resolved(phases: &[Phase], rate_per_s: Option<f64>, duration_s: Option<f64>) -> Vec<Phase> {
    match (rate_per_s, duration_s) {
        (Some(rate_per_s), Some(duration_s)) => vec![Phase { duration_s, rate_per_s }],
        _ => phases.to_vec(),
    }
}

pub fn expected_requests(phases: &[Phase]) -> f64 {
    phases.iter().map(|phase| phase.duration_s * phase.rate_per_s).sum()
}

/// Arrival times of a process whose spacing, given the phase it starts in, has mean 1.
pub fn arrivals(phases: Vec<Phase>, mut spacing: impl FnMut(usize) -> f64) -> impl Iterator<Item = f64> {
    let (mut index, mut start_s) = (0, 0.0);
    // Expected arrivals from the phase's start to the next request.
    let mut ahead = spacing(0);
    std::iter::from_fn(move || {
        loop {
            let phase = phases.get(index)?;
            let expected = phase.duration_s * phase.rate_per_s;
            let end_s = start_s + phase.duration_s;
            if ahead < expected {
                // Rounding must not carry a request into the next phase.
                let at_s = (start_s + ahead / phase.rate_per_s).min(end_s);
                ahead += spacing(index);
                return Some(at_s);
            }
            ahead -= expected;
            start_s = end_s;
            index += 1;
        }
    })
}
