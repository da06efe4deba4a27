//! Ray Serve's default autoscaling policy: ongoing requests per replica.
//!
//! Rule, every control loop: desired = ongoing requests / target; from the running replicas a step of `upscaling_factor` or
//! `downscaling_factor` of the way there, rounded up (one less if rounding stalls a scale-down); within the limits. Acted upon once the
//! same direction has held for `upscale_delay_s` or `downscale_delay_s`. With no replica and any request: ceil(upscaling factor) at once.
//! Zero is reached from one only.
//!
//! Ongoing requests, queued ones included, are sampled by the handles every `sample_interval_s` and pushed every `metrics_interval_s` as
//! a mean over `look_back_period_s`: that is how stale they are.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `target_ongoing_requests` | 2 | `AutoscalingConfig` |
//! | `metrics_interval_s`, `look_back_period_s` | 10, 30 | the same |
//! | `upscale_delay_s`, `downscale_delay_s`, `downscale_to_zero_delay_s` | 30, 600, as downscale | the same |
//! | `upscaling_factor`, `downscaling_factor` | 1, 1 | the same |
//! | `control_loop_interval_s`, `sample_interval_s` | 0.1, 0.5 | `_private/constants.py` (from memory) |
//!
//! Source: ray-project/ray `python/ray/serve/autoscaling_policy.py`; the delays count loops there and seconds here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, check_intervals};
use super::window::Window;
use super::{Autoscaler, Checked, Decision, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RayServeSettings {
    pub target_ongoing_requests: f64,
    pub metrics_interval_s: f64,
    pub look_back_period_s: f64,
    pub upscale_delay_s: f64,
    pub downscale_delay_s: f64,
    /// From one replica to zero; by default `downscale_delay_s`.
    pub downscale_to_zero_delay_s: Option<f64>,
    pub upscaling_factor: f64,
    pub downscaling_factor: f64,
    pub control_loop_interval_s: f64,
    pub sample_interval_s: f64,
}

impl Default for RayServeSettings {
    fn default() -> Self {
        Self {
            target_ongoing_requests: 2.0,
            metrics_interval_s: 10.0,
            look_back_period_s: 30.0,
            upscale_delay_s: 30.0,
            downscale_delay_s: 600.0,
            downscale_to_zero_delay_s: None,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            control_loop_interval_s: 0.1,
            sample_interval_s: 0.5,
        }
    }
}

impl PolicySettings for RayServeSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_ongoing_requests", self.target_ongoing_requests);
        check_intervals(
            faults,
            &[
                ("control_loop_interval_s", self.control_loop_interval_s),
                ("sample_interval_s", self.sample_interval_s),
                ("metrics_interval_s", self.metrics_interval_s),
            ],
        );
        faults.positive("look_back_period_s", self.look_back_period_s);
        faults.not_negative("upscale_delay_s", self.upscale_delay_s);
        faults.not_negative("downscale_delay_s", self.downscale_delay_s);
        if let Some(delay_s) = self.downscale_to_zero_delay_s {
            faults.not_negative("downscale_to_zero_delay_s", delay_s);
        }
        faults.positive("upscaling_factor", self.upscaling_factor);
        faults.positive("downscaling_factor", self.downscaling_factor);
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Ray Serve",
            version: "2.60.0",
            checked: Checked::Ported,
            left_out: "",
            knob: "target_ongoing_requests",
            signals: "ongoing requests, a mean over 30 s, up to 10 s old",
            blind_to: "lengths, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(RayServe::new(self, context.min_replicas, context.max_replicas)))
    }
}

#[derive(Debug)]
struct RayServe {
    settings: RayServeSettings,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<3>,
    samples: Window,
    /// Ongoing requests as the controller knows them.
    pushed: f64,
    /// The direction wanted and since when.
    wanted: Option<(bool, f64)>,
}

impl RayServe {
    fn new(settings: &RayServeSettings, min_replicas: u32, max_replicas: u32) -> Self {
        Self {
            settings: settings.clone(),
            min_replicas,
            max_replicas,
            cadence: Cadence::new([settings.sample_interval_s, settings.metrics_interval_s, settings.control_loop_interval_s]),
            samples: Window::new(settings.look_back_period_s),
            pushed: 0.0,
            wanted: None,
        }
    }

    /// The target after one control loop, from running replicas and the target so far.
    fn control(&mut self, now_s: f64, running: u32, target: u32, ongoing: f64) -> u32 {
        let settings = &self.settings;
        if running == 0 {
            return if ongoing > 0.0 { target.max(settings.upscaling_factor.ceil() as u32) } else { target };
        }
        let desired = ongoing / settings.target_ongoing_requests;
        let difference = desired - f64::from(running);
        let factor = if difference > 0.0 { settings.upscaling_factor } else { settings.downscaling_factor };
        let mut scaled = (f64::from(running) + factor * difference).ceil().max(0.0) as u32;
        if desired.ceil() < f64::from(running) && scaled == running {
            scaled -= 1;
        }
        let mut bounded = scaled.clamp(self.min_replicas, self.max_replicas);
        let up = match bounded.cmp(&target) {
            std::cmp::Ordering::Equal => {
                self.wanted = None;
                return target;
            }
            order => order.is_gt(),
        };
        let delay_s = if up {
            settings.upscale_delay_s
        } else if target == 1 {
            settings.downscale_to_zero_delay_s.unwrap_or(settings.downscale_delay_s)
        } else {
            bounded = bounded.max(1);
            settings.downscale_delay_s
        };
        let since_s = match self.wanted {
            Some((direction, since_s)) if direction == up => since_s,
            _ => now_s,
        };
        // Ticks add up to times that miss whole seconds by rounding.
        if now_s - since_s < delay_s - 1e-6 {
            self.wanted = Some((up, since_s));
            return target;
        }
        self.wanted = None;
        bounded
    }
}

impl Autoscaler for RayServe {
    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [sample, push, control] = self.cadence.tick();
        if sample {
            self.samples.push(now_s, f64::from(snapshot.outstanding_requests));
        }
        if push {
            self.pushed = self.samples.mean();
        }
        if !control {
            return Decision::Hold;
        }
        let target = snapshot.committed();
        // At zero the handle reports a first request at once.
        let ongoing = if snapshot.serving == 0 { f64::from(snapshot.outstanding_requests) } else { self.pushed };
        Decision::towards(target, self.control(now_s, snapshot.serving, target, ongoing))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("ongoing_requests", self.pushed)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut RayServeSettings)) -> RayServe {
        let mut settings = RayServeSettings { upscale_delay_s: 0.0, downscale_delay_s: 0.0, ..RayServeSettings::default() };
        change(&mut settings);
        RayServe::new(&settings, 0, 100)
    }

    /// After ray's `test_autoscaling_policy.py`: ten replicas of target one with one or three requests each.
    #[test]
    fn desired_is_ongoing_over_target() {
        let mut ray = policy(|settings| settings.target_ongoing_requests = 1.0);
        assert_eq!(ray.control(0.0, 10, 10, 10.0), 10);
        assert_eq!(ray.control(0.0, 10, 10, 15.0), 15);
        assert_eq!(ray.control(0.0, 10, 10, 5.0), 5);
        assert_eq!(ray.control(0.0, 10, 10, 0.0), 1, "zero is reached from one only");
        assert_eq!(ray.control(0.0, 1, 1, 0.0), 0);
    }

    /// Smoothing as ray documents it: half the way, rounded up, and never stalled going down.
    #[test]
    fn factors_take_part_of_the_way() {
        let mut ray = policy(|settings| {
            settings.target_ongoing_requests = 1.0;
            settings.upscaling_factor = 0.5;
            settings.downscaling_factor = 0.2;
        });
        assert_eq!(ray.control(0.0, 10, 10, 40.0), 25);
        assert_eq!(ray.control(0.0, 10, 10, 5.0), 9);
        assert_eq!(ray.control(0.0, 10, 10, 9.0), 9, "ceil(9.8) stalls: one less");
    }

    #[test]
    fn a_direction_has_to_hold() {
        let mut ray = policy(|settings| {
            settings.upscale_delay_s = 30.0;
            settings.downscale_delay_s = 600.0;
        });
        assert_eq!(ray.control(0.0, 2, 2, 10.0), 2);
        assert_eq!(ray.control(29.9, 2, 2, 10.0), 2);
        assert_eq!(ray.control(30.0, 2, 2, 10.0), 5);
        assert_eq!(ray.control(40.0, 5, 5, 2.0), 5);
        assert_eq!(ray.control(600.0, 5, 5, 12.0), 5, "the other direction starts anew");
        assert_eq!(ray.control(601.0, 5, 5, 2.0), 5);
        assert_eq!(ray.control(1201.0, 5, 5, 2.0), 1);
    }

    #[test]
    fn from_zero_at_once() {
        let mut ray = policy(|settings| {
            settings.upscale_delay_s = 30.0;
            settings.upscaling_factor = 1.5;
        });
        assert_eq!(ray.control(0.0, 0, 0, 1.0), 2);
        assert_eq!(ray.control(0.0, 0, 0, 0.0), 0);
    }
}
