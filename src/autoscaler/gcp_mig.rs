//! Google Cloud's autoscaler of managed instance groups, by a metric per instance.
//!
//! Rule, every `interval_s`: recommended = ceil(load / target); the size is the largest recommendation of the
//! last `stabilization_period_s`, so it grows at once and shrinks once nothing in that time has asked for
//! more. Instances younger than `initialization_period_s` are not measured for growing: what the others carry
//! is taken for their share. With scale-in control, the size stays within `max_scaled_in_replicas` of the
//! largest of `scale_in_window_s`; with `only_scale_out` it never falls.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | `outstanding_requests`, 8 | ours: the metric is of the user's own |
//! | `stabilization_period_s` | 600 | `stabilizationPeriodSec`, the same |
//! | `initialization_period_s` | 60 | `coolDownPeriodSec` in the API reference of `AutoscalingPolicy`, read |
//! | `max_scaled_in_replicas`, `scale_in_window_s` | none, 600 | the same: off unless asked for |
//! | `interval_s` | 60 | how often custom metrics are taken in (from memory) |
//!
//! Program: Google Compute Engine's autoscaler, as documented in 2026; closed, so never run here. Left out:
//! schedules, predictive mode (needs days of history of CPU use), and several signals at once.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::gauges;
use super::signals::{LoadMetric, Signals, check_adds_up};
use super::{
    Arrivals, Autoscaler, BatchSums, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot,
    Upstream,
};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct GcpMigSettings {
    pub metric: LoadMetric,
    pub target_per_replica: f64,
    pub stabilization_period_s: f64,
    /// Age below which instances are not measured for growing.
    pub initialization_period_s: f64,
    /// How far below the largest size of `scale_in_window_s` the size may fall; by default as far as it
    /// likes.
    pub max_scaled_in_replicas: Option<u32>,
    pub scale_in_window_s: f64,
    pub only_scale_out: bool,
    pub interval_s: f64,
}

impl Default for GcpMigSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::default(),
            target_per_replica: 8.0,
            stabilization_period_s: 600.0,
            initialization_period_s: 60.0,
            max_scaled_in_replicas: None,
            scale_in_window_s: 600.0,
            only_scale_out: false,
            interval_s: 60.0,
        }
    }
}

impl PolicySettings for GcpMigSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_adds_up(faults, self.metric);
        faults.not_negative("stabilization_period_s", self.stabilization_period_s);
        faults.not_negative("initialization_period_s", self.initialization_period_s);
        faults.positive("scale_in_window_s", self.scale_in_window_s);
        faults.interval_s("interval_s", self.interval_s);
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn doubts(&self) -> Vec<String> {
        gauges::doubts(&[(self.metric, self.target_per_replica)], 0.0)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "Google Compute Engine autoscaler of managed instance groups",
            version: "as documented in 2026",
            checked: Checked::Memory,
            left_out: "schedules, predictive mode, several signals",
            knob: "target_per_replica",
            signals: "the metric of this instant, once a minute; its peak of ten minutes",
            blind_to: "what the metric does not show",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(GcpMig {
            settings: self.clone(),
            signals: Signals::new(self.interval_s),
            since_s: Vec::new(),
            recommended: Peak::default(),
            sizes: Peak::default(),
            load: 0.0,
        }))
    }
}

/// The largest value of the last seconds, ends included.
#[derive(Debug, Default)]
struct Peak {
    values: VecDeque<(f64, u32)>,
}

impl Peak {
    fn push(&mut self, now_s: f64, window_s: f64, value: u32) -> u32 {
        while self.values.back().is_some_and(|&(_, before)| before <= value) {
            self.values.pop_back();
        }
        self.values.push_back((now_s, value));
        // Ticks add up to times that miss whole windows by rounding.
        while self.values.front().is_some_and(|&(at_s, _)| at_s < now_s - window_s - 1e-6) {
            self.values.pop_front();
        }
        self.values.front().map_or(value, |&(_, peak)| peak)
    }
}

#[derive(Debug)]
struct GcpMig {
    settings: GcpMigSettings,
    signals: Signals,
    /// When each replica that serves was first seen, in order of ids.
    since_s: Vec<(u32, f64)>,
    recommended: Peak,
    sizes: Peak,
    load: f64,
}

impl GcpMig {
    /// Load of all, and what growth goes by: young replicas carry what the others do.
    fn loads(&mut self, now_s: f64) -> (f64, f64) {
        let replicas = &self.signals.replicas;
        let known = |id: u32| {
            self.since_s.iter().find(|&&(known, _)| known == id).map_or(now_s, |&(_, since_s)| since_s)
        };
        self.since_s = replicas.iter().map(|replica| (replica.id, known(replica.id))).collect();
        let total = self.settings.metric.total(&self.signals, self.settings.interval_s);
        let is_old = |id: u32| {
            let since_s =
                self.since_s.iter().find(|&&(known, _)| known == id).map_or(now_s, |&(_, since_s)| since_s);
            // Those of the beginning are no younger than the group.
            since_s == 0.0 || now_s - since_s >= self.settings.initialization_period_s
        };
        let old = replicas.iter().filter(|replica| is_old(replica.id));
        let metric = self.settings.metric;
        let per_old: Option<Vec<f64>> = old.map(|replica| metric.of_replica(replica)).collect();
        let growing = match per_old {
            Some(loads) if !loads.is_empty() && loads.len() < replicas.len() => {
                let elsewhere =
                    total - replicas.iter().filter_map(|replica| metric.of_replica(replica)).sum::<f64>();
                elsewhere + loads.iter().sum::<f64>() / loads.len() as f64 * replicas.len() as f64
            }
            _ => total,
        };
        (total, growing)
    }

    fn size(&mut self, now_s: f64, current: u32, total: f64, growing: f64) -> u32 {
        let settings = &self.settings;
        let wanted = |load: f64| (load / settings.target_per_replica).ceil() as u32;
        // Young instances only hold growth back; they are no reason to shrink.
        let recommended =
            if wanted(growing) > current { wanted(growing) } else { wanted(total).min(current) };
        let peak = self.recommended.push(now_s, settings.stabilization_period_s, recommended);
        let mut size = peak;
        if size < current {
            if settings.only_scale_out {
                size = current;
            }
            if let Some(most) = settings.max_scaled_in_replicas {
                let largest = self.sizes.push(now_s, settings.scale_in_window_s, current);
                return size.max(largest.saturating_sub(most)).min(current);
            }
        }
        self.sizes.push(now_s, settings.scale_in_window_s, current.max(size));
        size
    }
}

impl Autoscaler for GcpMig {
    fn observes(&self) -> Observes {
        Observes { replicas: true, ..self.settings.metric.observes() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_batch_sums(&mut self, sums: BatchSums) {
        self.signals.count_batches(sums);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        let (total, growing) = self.loads(now_s);
        self.load = total;
        let current = snapshot.committed();
        Decision::towards(current, self.size(now_s, current, total, growing))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("load", self.load)]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy(change: impl FnOnce(&mut GcpMigSettings)) -> GcpMig {
        let mut settings = GcpMigSettings::default();
        change(&mut settings);
        let (signals, since_s) = (Signals::new(60.0), Vec::new());
        GcpMig { settings, signals, since_s, recommended: Peak::default(), sizes: Peak::default(), load: 0.0 }
    }

    #[test]
    fn grows_at_once_and_shrinks_from_the_peak_of_ten_minutes() {
        let mut mig = policy(|_| {});
        assert_eq!(mig.size(0.0, 2, 33.0, 33.0), 5);
        assert_eq!(mig.size(60.0, 5, 9.0, 9.0), 5);
        assert_eq!(mig.size(600.0, 5, 9.0, 9.0), 5, "the peak is ten minutes old");
        assert_eq!(mig.size(660.0, 5, 9.0, 9.0), 2);
        assert_eq!(policy(|settings| settings.only_scale_out = true).size(0.0, 5, 9.0, 9.0), 5);
    }

    #[test]
    fn scale_in_control_keeps_near_the_largest() {
        let mut mig = policy(|settings| {
            settings.max_scaled_in_replicas = Some(2);
            settings.stabilization_period_s = 0.0;
        });
        assert_eq!(mig.size(0.0, 10, 80.0, 80.0), 10);
        assert_eq!(mig.size(60.0, 10, 8.0, 8.0), 8);
        assert_eq!(mig.size(120.0, 8, 8.0, 8.0), 8, "ten a minute ago");
        assert_eq!(mig.size(720.0, 8, 8.0, 8.0), 6);
    }
}
