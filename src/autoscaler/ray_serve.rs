//! Ray Serve's default autoscaling policy: ongoing requests per replica.
//!
//! Rule, every control loop: wanted = running x (ongoing requests / (`target_per_replica` x running)); from
//! the running replicas a step of `upscaling_factor` or `downscaling_factor` of the way there, rounded up
//! (one less if rounding stalls a scale-down). Acted upon, within the limits, once the same direction has
//! held for `upscale_delay_s` or `downscale_delay_s`. With no replica and any request:
//! ceil(`upscaling_factor`) at once. Zero is reached from one only.
//!
//! Ongoing requests are what the handle knows: the requests of every replica and those that wait for one are
//! sampled every `sample_interval_s` and sent every `metrics_interval_s`, with all samples younger than
//! `look_back_period_s`; a replica without a sample sends its count of now. While no replica serves and
//! requests wait, the handle sends at every loop. The controller adds up these step functions, those of
//! replicas that still run alone, and reduces the sum over a window that opens when the latest of them begins
//! and closes now: the time-weighted `mean`, or the `max` or `min` of its values.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `target_per_replica` | 2 | `AutoscalingConfig.target_ongoing_requests` |
//! | `aggregation_function` | `mean` | the same |
//! | `metrics_interval_s`, `look_back_period_s` | 10, 30 | the same |
//! | `upscale_delay_s`, `downscale_delay_s`, `downscale_to_zero_delay_s` | 30, 600, as downscale | the same |
//! | `upscaling_factor`, `downscaling_factor` | 1, 1 | the same |
//! | `sample_interval_s` | a fifth of the look-back, at most `metrics_interval_s` | `_private/router.py`, `constants.py` |
//! | `control_loop_interval_s` | 0.1 | `_private/constants.py` |
//!
//! Program: Ray Serve 2.60.0, `serve/autoscaling_policy.py` and `_private/{autoscaling_state,
//! autoscaling_metrics_merge, router}.py`. Checked against decisions of its own state object, merge and
//! policy, loop by loop, with its clock set; the cluster was not run. Left out: gangs, policies of an
//! application as a whole, and policies written by hand.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, check_intervals};
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

/// What a window of ongoing requests is reduced to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RayAggregation {
    /// Weighted with the time that each value holds.
    #[default]
    Mean,
    Max,
    Min,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RayServeSettings {
    /// Ongoing requests that a replica should have (`target_ongoing_requests` in Ray).
    #[serde(alias = "target_ongoing_requests")]
    pub target_per_replica: f64,
    pub aggregation_function: RayAggregation,
    pub metrics_interval_s: f64,
    pub look_back_period_s: f64,
    pub upscale_delay_s: f64,
    pub downscale_delay_s: f64,
    /// From one replica to zero; by default `downscale_delay_s`.
    pub downscale_to_zero_delay_s: Option<f64>,
    pub upscaling_factor: f64,
    pub downscaling_factor: f64,
    pub control_loop_interval_s: f64,
    /// By default a fifth of `look_back_period_s`, at most `metrics_interval_s`.
    pub sample_interval_s: Option<f64>,
}

impl Default for RayServeSettings {
    fn default() -> Self {
        Self {
            target_per_replica: 2.0,
            aggregation_function: RayAggregation::default(),
            metrics_interval_s: 10.0,
            look_back_period_s: 30.0,
            upscale_delay_s: 30.0,
            downscale_delay_s: 600.0,
            downscale_to_zero_delay_s: None,
            upscaling_factor: 1.0,
            downscaling_factor: 1.0,
            control_loop_interval_s: 0.1,
            sample_interval_s: None,
        }
    }
}

impl RayServeSettings {
    /// Sampling, sending and deciding.
    fn intervals_s(&self) -> [f64; 3] {
        let sample_interval_s = self
            .sample_interval_s
            .unwrap_or_else(|| (self.look_back_period_s / 5.0).min(self.metrics_interval_s));
        [sample_interval_s, self.metrics_interval_s, self.control_loop_interval_s]
    }
}

impl PolicySettings for RayServeSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        faults.positive("look_back_period_s", self.look_back_period_s);
        let [sample_s, send_s, control_s] = self.intervals_s();
        check_intervals(
            faults,
            &[
                ("control_loop_interval_s", control_s),
                ("sample_interval_s", sample_s),
                ("metrics_interval_s", send_s),
            ],
        );
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
            checked: Checked::Run,
            left_out: "gangs, policies of an application as a whole",
            knob: "target_per_replica",
            signals: "ongoing requests over the last 30 s, sampled every 6 s and sent every 10 s",
            blind_to: "lengths, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(RayServe::new(self, context.min_replicas, context.max_replicas)))
    }
}

/// Where requests are counted, in the order in which series are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Source {
    Replica(u32),
    /// Requests that wait for a replica to exist.
    Queue,
}

/// What one source counted, in order of time.
#[derive(Debug, Clone)]
struct Series {
    source: Source,
    samples: VecDeque<(f64, f64)>,
}

/// Everything there is to count now, in order of sources.
fn counts(snapshot: &Snapshot) -> impl Iterator<Item = (Source, f64)> {
    let replicas = snapshot.replicas.iter().filter(|replica| !replica.draining);
    replicas
        .map(|replica| {
            (Source::Replica(replica.id), f64::from(replica.queued_requests + replica.running_requests))
        })
        .chain([(Source::Queue, f64::from(snapshot.unrouted_requests))])
}

/// The handle's samples.
#[derive(Debug, Default)]
struct Handle {
    series: Vec<Series>,
}

impl Handle {
    fn record(&mut self, now_s: f64, snapshot: &Snapshot) {
        for (source, count) in counts(snapshot) {
            let at = self.series.binary_search_by_key(&source, |series| series.source).unwrap_or_else(|at| {
                self.series.insert(at, Series { source, samples: VecDeque::new() });
                at
            });
            self.series[at].samples.push_back((now_s, count));
        }
    }

    /// What it sends: the samples younger than the look-back, the count of now from sources without any.
    fn report(&mut self, now_s: f64, look_back_s: f64, snapshot: &Snapshot) -> Vec<Series> {
        for series in &mut self.series {
            while series.samples.front().is_some_and(|&(at_s, _)| at_s <= now_s - look_back_s) {
                series.samples.pop_front();
            }
        }
        self.series.retain(|series| !series.samples.is_empty());
        counts(snapshot)
            .map(|(source, count)| {
                let found = self.series.binary_search_by_key(&source, |series| series.source);
                found.map_or_else(
                    |_| Series { source, samples: [(now_s, count)].into() },
                    |at| self.series[at].clone(),
                )
            })
            .collect()
    }
}

/// The sum of reported series from the opening of their window on, reduced but for the time since the latest
/// change.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Total {
    /// Requests times seconds, and seconds, up to the latest change.
    integral: f64,
    seconds: f64,
    latest_s: f64,
    latest: f64,
    /// Largest and smallest of the values that begin inside the window.
    extremes: Option<(f64, f64)>,
}

impl Total {
    /// `None` without a sample.
    fn of<'a>(reported: impl Iterator<Item = &'a Series> + Clone) -> Option<Self> {
        let begin_s = reported
            .clone()
            .filter_map(|series| series.samples.front())
            .map(|&(at_s, _)| at_s)
            .fold(f64::NEG_INFINITY, f64::max);
        let mut several = reported.clone();
        let alone = several.next().filter(|_| several.next().is_none());
        let events: Vec<(f64, f64)> = match alone {
            Some(series) => series.samples.iter().copied().collect(),
            None => sum(reported),
        };
        let &(latest_s, latest) = events.last()?;
        // One series counts from its first sample on. Rounding may put the latest beginning after everything
        // else.
        let window_s =
            if alone.is_none() && begin_s <= latest_s { begin_s.max(events[0].0) } else { events[0].0 };
        let mut total =
            Self { integral: 0.0, seconds: 0.0, latest_s: latest_s.max(window_s), latest, extremes: None };
        for pair in events.windows(2) {
            let [(from_s, value), (until_s, _)] = [pair[0], pair[1]];
            let from_s = from_s.max(window_s);
            if from_s < until_s {
                total.integral += value * (until_s - from_s);
                total.seconds += until_s - from_s;
            }
        }
        for &(_, value) in events.iter().filter(|&&(at_s, _)| at_s >= window_s) {
            let (largest, smallest) = total.extremes.unwrap_or((value, value));
            total.extremes = Some((largest.max(value), smallest.min(value)));
        }
        Some(total)
    }

    fn reduced(&self, now_s: f64, aggregation: RayAggregation) -> f64 {
        match aggregation {
            RayAggregation::Mean => {
                // What was counted this very instant holds for a millisecond.
                let since_s = if now_s - self.latest_s <= 0.0 { 1e-3 } else { now_s - self.latest_s };
                (self.integral + self.latest * since_s) / (self.seconds + since_s)
            }
            RayAggregation::Max => self.extremes.map_or(0.0, |(largest, _)| largest),
            RayAggregation::Min => self.extremes.map_or(0.0, |(_, smallest)| smallest),
        }
    }
}

/// The sum of several step functions: each series' changes, rounded to 10 ms, added up.
fn sum<'a>(reported: impl Iterator<Item = &'a Series>) -> Vec<(f64, f64)> {
    let mut changes: Vec<(f64, f64)> = Vec::new();
    for series in reported {
        let mut before = 0.0;
        for &(at_s, value) in &series.samples {
            if value != before {
                changes.push(((at_s * 100.0 + 0.5).floor() / 100.0, value - before));
            }
            before = value;
        }
    }
    changes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut events: Vec<(f64, f64)> = Vec::new();
    let mut level = 0.0;
    for (at_s, change) in changes {
        level += change;
        match events.last_mut().filter(|event| event.0 == at_s) {
            Some(event) => event.1 = level,
            None => events.push((at_s, level)),
        }
    }
    events
}

#[derive(Debug)]
struct RayServe {
    settings: RayServeSettings,
    min_replicas: u32,
    max_replicas: u32,
    cadence: Cadence<3>,
    handle: Handle,
    /// What the controller was sent last.
    reported: Vec<Series>,
    /// Replicas that ran when last seen, in ascending order.
    running: Vec<u32>,
    total: Option<Total>,
    ongoing: f64,
    /// The direction wanted and since when.
    wanted: Option<(bool, f64)>,
}

impl RayServe {
    fn new(settings: &RayServeSettings, min_replicas: u32, max_replicas: u32) -> Self {
        Self {
            settings: settings.clone(),
            min_replicas,
            max_replicas,
            cadence: Cadence::new(settings.intervals_s()),
            handle: Handle::default(),
            reported: Vec::new(),
            running: Vec::new(),
            total: None,
            ongoing: 0.0,
            wanted: None,
        }
    }

    /// Samples and sends what is due, and keeps the sum of what was sent up to date.
    fn collect(&mut self, now_s: f64, snapshot: &Snapshot, sample: bool, send: bool) {
        if sample {
            self.handle.record(now_s, snapshot);
        }
        let send = send || (snapshot.serving == 0 && snapshot.unrouted_requests > 0);
        if send {
            self.reported = self.handle.report(now_s, self.settings.look_back_period_s, snapshot);
        }
        let running =
            || snapshot.replicas.iter().filter(|replica| !replica.draining).map(|replica| replica.id);
        let changed = !running().eq(self.running.iter().copied());
        if changed {
            self.running.clear();
            self.running.extend(running());
        }
        if send || changed {
            let runs = |source| match source {
                Source::Queue => true,
                Source::Replica(id) => self.running.binary_search(&id).is_ok(),
            };
            self.total = Total::of(self.reported.iter().filter(|series| runs(series.source)));
        }
    }

    /// The target after one control loop, from running replicas and the target so far.
    fn control(&mut self, now_s: f64, running: u32, target: u32, ongoing: f64) -> u32 {
        let settings = &self.settings;
        if running == 0 {
            if target == 0 {
                self.wanted = None;
            }
            let woken =
                if ongoing > 0.0 { target.max(settings.upscaling_factor.ceil() as u32) } else { target };
            return woken.clamp(self.min_replicas, self.max_replicas);
        }
        let replicas = f64::from(running);
        let desired = replicas * (ongoing / (settings.target_per_replica * replicas));
        let difference = desired - replicas;
        let factor = if difference > 0.0 { settings.upscaling_factor } else { settings.downscaling_factor };
        let mut scaled = (replicas + factor * difference).ceil().max(0.0) as u32;
        if desired.ceil() < replicas && scaled == running {
            scaled -= 1;
        }
        self.delayed(now_s, target, scaled).clamp(self.min_replicas, self.max_replicas)
    }

    /// The target so far, until the direction of what is wanted has held long enough.
    fn delayed(&mut self, now_s: f64, target: u32, wanted: u32) -> u32 {
        let settings = &self.settings;
        let up = wanted > target;
        if wanted == target {
            self.wanted = None;
            return target;
        }
        let (delay_s, wanted) = if up {
            (settings.upscale_delay_s, wanted)
        } else if target == 1 {
            (settings.downscale_to_zero_delay_s.unwrap_or(settings.downscale_delay_s), wanted)
        } else {
            (settings.downscale_delay_s, wanted.max(1))
        };
        let since_s = match self.wanted {
            Some((direction, since_s)) if direction == up => since_s,
            _ => now_s,
        };
        let acts = now_s - since_s + 1e-6 >= delay_s;
        self.wanted = (!acts).then_some((up, since_s));
        if acts { wanted } else { target }
    }
}

impl Autoscaler for RayServe {
    fn observes(&self) -> Observes {
        Observes { replica_requests: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [sample, send, control] = self.cadence.tick();
        self.collect(now_s, snapshot, sample, send);
        if !control {
            return Decision::Hold;
        }
        self.ongoing =
            self.total.map_or(0.0, |total| total.reduced(now_s, self.settings.aggregation_function));
        let target = snapshot.committed();
        Decision::towards(target, self.control(now_s, snapshot.serving, target, self.ongoing))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("ongoing_requests", self.ongoing)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut RayServeSettings)) -> RayServe {
        let mut settings =
            RayServeSettings { upscale_delay_s: 0.0, downscale_delay_s: 0.0, ..RayServeSettings::default() };
        change(&mut settings);
        RayServe::new(&settings, 0, 100)
    }

    /// After ray's `test_autoscaling_policy.py`: ten replicas of target one with one or three requests each.
    #[test]
    fn desired_is_ongoing_over_target() {
        let mut ray = policy(|settings| settings.target_per_replica = 1.0);
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
            settings.target_per_replica = 1.0;
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
