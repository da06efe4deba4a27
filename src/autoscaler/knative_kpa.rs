//! Knative's pod autoscaler (KPA): a stable and a panic window over concurrency or requests per second.
//!
//! Rule: the stable and panic windows of [`stable_panic`](super::stable_panic), every tick, over means of the
//! observed values in [buckets] of a second. A scale-down delay takes the most of its window. Zero has [rules
//! of its own](zero).
//!
//! Each second all requests of the revision are counted, those that wait in the activator for a replica
//! included; nothing is recorded while nothing is ready and nothing waits, so a window passes, and whoever
//! wakes it then has the full average at once. At zero the first request has the autoscaler tick at once
//! (here: at the next second).
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `target_per_replica`, `target_utilization_percent` | 100 requests at once (or 200 per second), 70 | `config-autoscaler` |
//! | `stable_window_s`, `panic_window_percent`, `panic_threshold_percent` | 60, 10, 200 | the same |
//! | `max_scale_up_rate`, `max_scale_down_rate`, `scale_down_delay_s`, `activation_scale` | 1000, 2, 0, 1 | the same |
//! | `scale_to_zero_grace_period_s`, `scale_to_zero_retention_s`, `target_burst_capacity` | 30, 0, 211 | the same |
//! | `tick_interval_s`, `scrape_interval_s` | 2, 1 | `scaling/multiscaler.go`, `metrics/collector.go` |
//!
//! Scaling to zero needs `min_replicas` 0. Concurrency is sampled at each scrape where the queue proxy
//! reports a mean over the second.
//!
//! Source: knative/serving 98e5ef90 (August 2026, 1.23), `pkg/autoscaler/scaling/autoscaler.go`,
//! `pkg/autoscaler/aggregation/bucketing.go`, `pkg/reconciler/autoscaling/kpa/scaler.go`. Checked: run;
//! `tests/given/upstream/knative.rs` compares tick by tick.

pub mod buckets;
pub mod zero;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::buckets::Buckets;
use self::zero::{Revision, ToZero};
use super::cadence::check_intervals;
use super::scraped::{Controller, Scraped, Seen};
use super::signals::LoadMetric;
use super::stable_panic::StablePanic;
use super::window::Window;
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

/// What is kept near the target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum KpaMetric {
    #[default]
    Concurrency,
    RequestsPerS,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KnativeKpaSettings {
    pub metric: KpaMetric,
    /// Requests at once, or per second, that a replica is meant for; by default 100 or 200.
    #[serde(alias = "target")]
    pub target_per_replica: Option<f64>,
    /// Share of the target that is aimed at.
    pub target_utilization_percent: f64,
    pub tick_interval_s: f64,
    pub scrape_interval_s: f64,
    pub stable_window_s: f64,
    /// The panic window as a share of the stable window.
    pub panic_window_percent: f64,
    pub panic_threshold_percent: f64,
    /// Whether weights fall from the newest second on, instead of a plain mean.
    pub weighted_window: bool,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub scale_down_delay_s: f64,
    /// Least replicas when there is any load.
    pub activation_scale: u32,
    pub scale_to_zero_grace_period_s: f64,
    /// Least time that the last replica is kept after the revision has become inactive.
    pub scale_to_zero_retention_s: f64,
    /// Requests beyond those under way for which there should be room, or the activator buffers: -1 always, 0
    /// only at zero replicas.
    pub target_burst_capacity: f64,
}

impl Default for KnativeKpaSettings {
    fn default() -> Self {
        Self {
            metric: KpaMetric::Concurrency,
            target_per_replica: None,
            target_utilization_percent: 70.0,
            tick_interval_s: 2.0,
            scrape_interval_s: 1.0,
            stable_window_s: 60.0,
            panic_window_percent: 10.0,
            panic_threshold_percent: 200.0,
            weighted_window: false,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay_s: 0.0,
            activation_scale: 1,
            scale_to_zero_grace_period_s: 30.0,
            scale_to_zero_retention_s: 0.0,
            target_burst_capacity: 211.0,
        }
    }
}

impl PolicySettings for KnativeKpaSettings {
    fn check(&self, faults: &mut Faults) {
        if let Some(target) = self.target_per_replica {
            faults.positive("target_per_replica", target);
        }
        let percent = |faults: &mut Faults, field: &str, value: f64| {
            faults.require((1.0..=100.0).contains(&value), field, || {
                format!("{value} found, expected 1 to 100 percent")
            });
        };
        percent(faults, "target_utilization_percent", self.target_utilization_percent);
        percent(faults, "panic_window_percent", self.panic_window_percent);
        check_intervals(
            faults,
            &[("scrape_interval_s", self.scrape_interval_s), ("tick_interval_s", self.tick_interval_s)],
        );
        faults.require((1.0..=86_400.0).contains(&self.stable_window_s), "stable_window_s", || {
            format!("{} found, expected 1 to 86400 seconds", self.stable_window_s)
        });
        faults.require(self.panic_threshold_percent >= 100.0, "panic_threshold_percent", || {
            format!("{} found, expected at least 100 percent", self.panic_threshold_percent)
        });
        for (field, rate) in
            [("max_scale_up_rate", self.max_scale_up_rate), ("max_scale_down_rate", self.max_scale_down_rate)]
        {
            faults.require(rate > 1.0 && rate.is_finite(), field, || {
                format!("{rate} found, expected a number above 1")
            });
        }
        faults.not_negative("scale_down_delay_s", self.scale_down_delay_s);
        faults.at_least("activation_scale", self.activation_scale.into(), 1);
        faults.not_negative("scale_to_zero_grace_period_s", self.scale_to_zero_grace_period_s);
        faults.not_negative("scale_to_zero_retention_s", self.scale_to_zero_retention_s);
        let burst = self.target_burst_capacity;
        faults.require(burst == -1.0 || (burst >= 0.0 && burst.is_finite()), "target_burst_capacity", || {
            format!("{burst} found, expected -1 (always buffer), or a number of at least 0")
        });
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Knative Serving, pod autoscaler",
            version: "98e5ef90 (1.23, August 2026)",
            checked: Checked::Run,
            left_out: "",
            knob: "target_per_replica",
            signals: "requests in the system, means over 60 s and 6 s of samples each second",
            blind_to: "lengths, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let observes = match self.metric {
            KpaMetric::Concurrency => LoadMetric::OutstandingRequests.observes(),
            KpaMetric::RequestsPerS => Observes { arrivals: true, ..Observes::default() },
        };
        let intervals_s = [self.scrape_interval_s, self.scrape_interval_s, self.tick_interval_s];
        let kpa = KnativeKpa {
            metric: self.metric,
            scrape_interval_s: self.scrape_interval_s,
            autoscaler: KpaAutoscaler::new(self),
            revision: Revision::new(self.to_zero(context.min_replicas == 0)),
            min_replicas: context.min_replicas,
            max_replicas: context.max_replicas,
            latest: None,
        };
        Some(Scraped::boxed(observes, self.scrape_interval_s, intervals_s, kpa))
    }
}

impl KnativeKpaSettings {
    /// Requests at once, or per second, that a replica takes.
    fn total(&self) -> f64 {
        self.target_per_replica.unwrap_or(match self.metric {
            KpaMetric::Concurrency => 100.0,
            KpaMetric::RequestsPerS => 200.0,
        })
    }

    pub fn to_zero(&self, enabled: bool) -> ToZero {
        ToZero {
            stable_window_s: self.stable_window_s,
            grace_period_s: self.scale_to_zero_grace_period_s,
            retention_s: self.scale_to_zero_retention_s,
            enabled,
        }
    }
}

/// What the autoscaler says at a tick.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Recommendation {
    pub stable: f64,
    pub panic: f64,
    pub panicking: bool,
    pub desired: u32,
    /// Requests for which there is room beyond those under way and the target burst; below 0 the activator
    /// buffers.
    pub excess_burst: f64,
}

/// Windows, rule and delay.
#[derive(Debug)]
pub struct KpaAutoscaler {
    rule: StablePanic,
    stable: Buckets,
    panic: Buckets,
    delayed: Option<Window>,
    total: f64,
    target_burst_capacity: f64,
}

impl KpaAutoscaler {
    pub fn new(settings: &KnativeKpaSettings) -> Self {
        let mut rule = StablePanic::new(
            settings.total() * settings.target_utilization_percent / 100.0,
            settings.stable_window_s,
            settings.panic_threshold_percent / 100.0,
            settings.max_scale_up_rate,
            settings.max_scale_down_rate,
        );
        rule.activation_scale = settings.activation_scale;
        // Kept in slots of a tick.
        let slots = (settings.scale_down_delay_s / settings.tick_interval_s).ceil();
        let panic_window_s = settings.stable_window_s * settings.panic_window_percent / 100.0;
        Self {
            rule,
            stable: Buckets::new(settings.stable_window_s, settings.weighted_window),
            panic: Buckets::new(panic_window_s, settings.weighted_window),
            delayed: (slots > 0.0).then(|| Window::new(slots * settings.tick_interval_s)),
            total: settings.total(),
            target_burst_capacity: settings.target_burst_capacity,
        }
    }

    /// What was counted in this second.
    pub fn record(&mut self, now_s: f64, value: f64) {
        for window in [&mut self.stable, &mut self.panic] {
            window.record(now_s.floor() as i64, value);
        }
    }

    /// `None` without data.
    pub fn recommend(&mut self, now_s: f64, ready: u32) -> Option<Recommendation> {
        let second = now_s.floor() as i64;
        if self.stable.is_empty(second) {
            return None;
        }
        let (stable, panic) = (self.stable.average(second), self.panic.average(second));
        let desired = self.rule.desired(now_s, stable, panic, ready);
        let desired = match &mut self.delayed {
            None => desired,
            Some(window) => {
                window.push(now_s, f64::from(desired));
                window.max() as u32
            }
        };
        let excess_burst = match self.target_burst_capacity {
            0.0 => 0.0,
            burst if burst > 0.0 => (f64::from(ready) * self.total - burst - panic).floor(),
            _ => -1.0,
        };
        Some(Recommendation { stable, panic, panicking: self.rule.panicking(), desired, excess_burst })
    }
}

#[derive(Debug)]
struct KnativeKpa {
    metric: KpaMetric,
    scrape_interval_s: f64,
    autoscaler: KpaAutoscaler,
    revision: Revision,
    min_replicas: u32,
    max_replicas: u32,
    latest: Option<Recommendation>,
}

impl Controller<3> for KnativeKpa {
    fn scraped(&mut self, seen: &Seen) {
        let (signals, snapshot) = (seen.signals, seen.snapshot);
        if snapshot.serving == 0 && signals.unrouted_requests == 0 {
            return;
        }
        let value = match self.metric {
            KpaMetric::Concurrency => LoadMetric::OutstandingRequests.total(signals, 0.0),
            KpaMetric::RequestsPerS => {
                signals.rate_per_s(self.scrape_interval_s, |counters| counters.arrived_requests)
            }
        };
        self.autoscaler.record(seen.now_s, value);
    }

    fn decide(&mut self, [_, _, tick]: [bool; 3], seen: &Seen) -> Decision {
        let (now_s, snapshot) = (seen.now_s, seen.snapshot);
        let current = snapshot.committed();
        // The activator tells of the first request at once.
        let poked = current == 0 && seen.signals.unrouted_requests > 0;
        if tick || poked {
            self.latest = self.autoscaler.recommend(now_s, snapshot.serving).or(self.latest);
        }
        let Some(latest) = self.latest else { return Decision::Hold };
        let desired = latest.desired.clamp(self.min_replicas, self.max_replicas);
        let target =
            self.revision.reconcile(now_s, current, snapshot.serving, desired, latest.excess_burst < 0.0);
        Decision::towards(current, target)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.latest.map_or_else(Vec::new, |latest| {
            let panicking = f64::from(u8::from(latest.panicking));
            vec![("stable_value", latest.stable), ("panic_value", latest.panic), ("panicking", panicking)]
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn autoscaler(settings: KnativeKpaSettings) -> KpaAutoscaler {
        KpaAutoscaler::new(&settings)
    }

    #[test]
    fn scaling_down_is_delayed() {
        let mut kpa = autoscaler(KnativeKpaSettings {
            scale_down_delay_s: 10.0,
            target_per_replica: Some(10.0),
            ..Default::default()
        });
        let mut desired = Vec::new();
        for (second, value) in [(0, 21.0), (2, 0.0), (8, 0.0), (10, 0.0)] {
            kpa.record(f64::from(second), value);
            desired.push(kpa.recommend(f64::from(second), 1).unwrap().desired);
        }
        assert_eq!(desired[0], 3);
        assert_eq!(desired[2], 3, "the most of ten seconds");
    }

    /// 700 requests find nothing after long silence: all ten replicas at once.
    #[test]
    fn waking_takes_the_full_average_at_once() {
        let mut kpa = autoscaler(KnativeKpaSettings::default());
        kpa.record(0.0, 1.0);
        assert_eq!(kpa.recommend(62.0, 0), None, "a window without data");
        kpa.record(100.0, 700.0);
        let woken = kpa.recommend(100.0, 0).unwrap();
        assert_eq!((woken.stable, woken.desired, woken.excess_burst), (700.0, 10, -911.0));
    }

    #[test]
    fn targets_are_the_published_ones() {
        let target = |metric| autoscaler(KnativeKpaSettings { metric, ..Default::default() }).rule.target;
        assert_eq!((target(KpaMetric::Concurrency), target(KpaMetric::RequestsPerS)), (70.0, 140.0));
    }
}
