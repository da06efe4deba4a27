//! Knative's pod autoscaler (KPA): a stable and a panic window over concurrency or requests per second.
//!
//! Rule: the stable and panic windows of [`stable_panic`](super::stable_panic), every tick, over means of the observed values. A
//! scale-down delay takes the most of its window.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `target`, `target_utilization_percent` | 100 requests at once (or 200 per second), 70 | `config-autoscaler` |
//! | `stable_window_s`, `panic_window_percent`, `panic_threshold_percent` | 60, 10, 200 | the same |
//! | `max_scale_up_rate`, `max_scale_down_rate`, `scale_down_delay_s`, `activation_scale` | 1000, 2, 0, 1 | the same |
//! | `scale_to_zero_grace_period_s` | 30, an upper bound there, always waited here | the same |
//! | `tick_interval_s`, `scrape_interval_s` | 2, 1 | `scaling/multiscaler.go`, `metrics/collector.go` |
//!
//! Source: knative/serving `pkg/autoscaler/scaling/autoscaler.go`, `config/core/configmaps/autoscaler.yaml`. Concurrency is sampled at
//! each scrape where the queue proxy reports a mean over the second; it counts requests without a replica, as the activator does.
//! Scaling to zero needs `min_replicas` 0.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::{Cadence, check_intervals};
use super::signals::{LoadMetric, Signals};
use super::stable_panic::StablePanic;
use super::window::Window;
use super::{Arrivals, Autoscaler, Decision, Observes, PolicyContext, PolicySettings, Snapshot};
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
    pub target: Option<f64>,
    /// Share of the target that is aimed at.
    pub target_utilization_percent: f64,
    pub tick_interval_s: f64,
    pub scrape_interval_s: f64,
    pub stable_window_s: f64,
    /// The panic window as a share of the stable window.
    pub panic_window_percent: f64,
    pub panic_threshold_percent: f64,
    pub max_scale_up_rate: f64,
    pub max_scale_down_rate: f64,
    pub scale_down_delay_s: f64,
    /// Least replicas when there is any load.
    pub activation_scale: u32,
    pub scale_to_zero_grace_period_s: f64,
}

impl Default for KnativeKpaSettings {
    fn default() -> Self {
        Self {
            metric: KpaMetric::Concurrency,
            target: None,
            target_utilization_percent: 70.0,
            tick_interval_s: 2.0,
            scrape_interval_s: 1.0,
            stable_window_s: 60.0,
            panic_window_percent: 10.0,
            panic_threshold_percent: 200.0,
            max_scale_up_rate: 1000.0,
            max_scale_down_rate: 2.0,
            scale_down_delay_s: 0.0,
            activation_scale: 1,
            scale_to_zero_grace_period_s: 30.0,
        }
    }
}

impl PolicySettings for KnativeKpaSettings {
    fn check(&self, faults: &mut Faults) {
        if let Some(target) = self.target {
            faults.positive("target", target);
        }
        let percent = |faults: &mut Faults, field: &str, value: f64| {
            faults.require((1.0..=100.0).contains(&value), field, || format!("{value} found, expected 1 to 100 percent"));
        };
        percent(faults, "target_utilization_percent", self.target_utilization_percent);
        percent(faults, "panic_window_percent", self.panic_window_percent);
        check_intervals(faults, &[("scrape_interval_s", self.scrape_interval_s), ("tick_interval_s", self.tick_interval_s)]);
        faults.positive("stable_window_s", self.stable_window_s);
        faults.require(self.panic_threshold_percent >= 100.0, "panic_threshold_percent", || {
            format!("{} found, expected at least 100 percent", self.panic_threshold_percent)
        });
        for (field, rate) in [("max_scale_up_rate", self.max_scale_up_rate), ("max_scale_down_rate", self.max_scale_down_rate)] {
            faults.require(rate > 1.0 && rate.is_finite(), field, || format!("{rate} found, expected a number above 1"));
        }
        faults.not_negative("scale_down_delay_s", self.scale_down_delay_s);
        faults.at_least("activation_scale", self.activation_scale.into(), 1);
        faults.not_negative("scale_to_zero_grace_period_s", self.scale_to_zero_grace_period_s);
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(KnativeKpa::new(self)))
    }
}

#[derive(Debug)]
struct KnativeKpa {
    settings: KnativeKpaSettings,
    rule: StablePanic,
    cadence: Cadence<2>,
    signals: Signals,
    observed: Window,
    delayed: Window,
    zero_since_s: Option<f64>,
    stable_value: f64,
    panic_value: f64,
}

impl KnativeKpa {
    fn new(settings: &KnativeKpaSettings) -> Self {
        let total = settings.target.unwrap_or(match settings.metric {
            KpaMetric::Concurrency => 100.0,
            KpaMetric::RequestsPerS => 200.0,
        });
        let mut rule = StablePanic::new(
            total * settings.target_utilization_percent / 100.0,
            settings.stable_window_s,
            settings.panic_threshold_percent / 100.0,
            settings.max_scale_up_rate,
            settings.max_scale_down_rate,
        );
        rule.activation_scale = settings.activation_scale;
        Self {
            rule,
            cadence: Cadence::new([settings.scrape_interval_s, settings.tick_interval_s]),
            signals: Signals::new(settings.scrape_interval_s),
            observed: Window::new(settings.stable_window_s),
            delayed: Window::new(settings.scale_down_delay_s),
            zero_since_s: None,
            stable_value: 0.0,
            panic_value: 0.0,
            settings: settings.clone(),
        }
    }

    fn scrape(&mut self, now_s: f64, snapshot: &Snapshot) {
        self.signals.scrape(now_s, snapshot);
        let value = match self.settings.metric {
            KpaMetric::Concurrency => LoadMetric::OutstandingRequests.total(&self.signals, 0.0),
            KpaMetric::RequestsPerS => self.signals.rate_per_s(self.settings.scrape_interval_s, |counters| counters.arrived_requests),
        };
        self.observed.push(now_s, value);
    }

    /// The most of the delay window.
    fn delay(&mut self, now_s: f64, desired: u32) -> u32 {
        if self.settings.scale_down_delay_s == 0.0 {
            return desired;
        }
        self.delayed.push(now_s, f64::from(desired));
        self.delayed.max() as u32
    }

    /// Zero has to be wanted for the grace period.
    fn grace(&mut self, now_s: f64, desired: u32) -> u32 {
        if desired > 0 {
            self.zero_since_s = None;
            return desired;
        }
        let since_s = *self.zero_since_s.get_or_insert(now_s);
        u32::from(now_s - since_s < self.settings.scale_to_zero_grace_period_s)
    }
}

impl Autoscaler for KnativeKpa {
    fn observes(&self) -> Observes {
        let concurrency = self.settings.metric == KpaMetric::Concurrency;
        Observes { arrivals: !concurrency, replicas: concurrency, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let [scrape, tick] = self.cadence.tick();
        if scrape {
            self.scrape(now_s, snapshot);
        }
        if !tick {
            return Decision::Hold;
        }
        self.stable_value = self.observed.mean();
        let panic_window_s = self.settings.stable_window_s * self.settings.panic_window_percent / 100.0;
        self.panic_value = self.observed.mean_since(now_s - panic_window_s);
        let desired = self.rule.desired(now_s, self.stable_value, self.panic_value, snapshot.serving);
        let desired = self.delay(now_s, desired);
        let current = snapshot.committed();
        let desired = if current == 0 { desired } else { self.grace(now_s, desired) };
        Decision::towards(current, desired)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let panicking = f64::from(u8::from(self.rule.panicking()));
        vec![("stable_value", self.stable_value), ("panic_value", self.panic_value), ("panicking", panicking)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scaling_down_is_delayed() {
        let mut kpa = KnativeKpa::new(&KnativeKpaSettings { scale_down_delay_s: 10.0, ..KnativeKpaSettings::default() });
        assert_eq!([(0.0, 3), (2.0, 5), (4.0, 3), (12.0, 3)].map(|(at_s, desired)| kpa.delay(at_s, desired)), [3, 5, 5, 3]);
    }

    #[test]
    fn zero_waits_for_the_grace_period() {
        let mut kpa = KnativeKpa::new(&KnativeKpaSettings::default());
        assert_eq!((kpa.grace(0.0, 0), kpa.grace(29.0, 0), kpa.grace(30.0, 0)), (1, 1, 0));
        assert_eq!((kpa.grace(32.0, 2), kpa.grace(34.0, 0)), (2, 1));
    }

    #[test]
    fn targets_are_the_published_ones() {
        let target = |metric| KnativeKpa::new(&KnativeKpaSettings { metric, ..KnativeKpaSettings::default() }).rule.target;
        assert_eq!((target(KpaMetric::Concurrency), target(KpaMetric::RequestsPerS)), (70.0, 140.0));
    }
}
