//! AWS target tracking (Application Auto Scaling, EC2 Auto Scaling groups): two alarms that keep a metric per instance at a target.
//!
//! Rule: the metric is averaged over each period of `period_s` and over the instances that are warm. Above the target for
//! `scale_out_periods` periods in a row, capacity grows to ceil(warm instances x metric / target) at once; below `scale_in_fraction` of it
//! for `scale_in_periods` in a row, it shrinks to that. Instances in their `instance_warmup_s` count as there, and neither in the metric
//! nor as lacking; while there are any, nothing shrinks. Without data nothing is done, so the last instance stays.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | `outstanding_requests`, 8 | ours: the metric is of the user's own |
//! | `period_s`, `scale_out_periods`, `scale_in_periods` | 60, 3, 15 | from memory: the alarms AWS makes |
//! | `scale_in_fraction` | 0.9 | from memory: their lower threshold |
//! | `instance_warmup_s` | 300 | user guide: the group's default cooldown |
//! | `disable_scale_in` | false | user guide |
//!
//! Program: AWS Auto Scaling, as documented in 2026; closed, so never run here. How much its scale-in holds back beyond the longer alarm
//! is not published.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::signals::{LoadMetric, Signals};
use super::{Arrivals, Autoscaler, BatchSums, Checked, Decision, Observes, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsTargetTrackingSettings {
    pub metric: LoadMetric,
    pub target_per_replica: f64,
    pub period_s: f64,
    /// Periods in a row above the target before capacity grows.
    pub scale_out_periods: u32,
    /// Periods in a row below `scale_in_fraction` of the target before it shrinks.
    pub scale_in_periods: u32,
    pub scale_in_fraction: f64,
    /// Age below which instances are not measured.
    pub instance_warmup_s: f64,
    pub disable_scale_in: bool,
}

impl Default for AwsTargetTrackingSettings {
    fn default() -> Self {
        Self {
            metric: LoadMetric::default(),
            target_per_replica: 8.0,
            period_s: 60.0,
            scale_out_periods: 3,
            scale_in_periods: 15,
            scale_in_fraction: 0.9,
            instance_warmup_s: 300.0,
            disable_scale_in: false,
        }
    }
}

impl PolicySettings for AwsTargetTrackingSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("target_per_replica", self.target_per_replica);
        check_adds_up(faults, self.metric);
        faults.interval_s("period_s", self.period_s);
        faults.at_least("scale_out_periods", self.scale_out_periods.into(), 1);
        faults.at_least("scale_in_periods", self.scale_in_periods.into(), 1);
        faults.fraction("scale_in_fraction", self.scale_in_fraction);
        faults.not_negative("instance_warmup_s", self.instance_warmup_s);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "AWS Auto Scaling, target tracking",
            version: "as documented in 2026",
            checked: Checked::Memory,
            left_out: "several policies at once, predictive scaling",
            knob: "target_per_replica",
            signals: "the metric averaged over a minute and over warm instances",
            blind_to: "what the metric does not show; instances that warm up",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let metric = WarmMetric::new(self.metric, self.period_s, self.instance_warmup_s);
        Some(Box::new(AwsTargetTracking { settings: self.clone(), metric, high: 0, low: 0 }))
    }
}

/// Reports a metric that is no load to be shared.
pub fn check_adds_up(faults: &mut Faults, metric: LoadMetric) {
    faults.require(metric != LoadMetric::PoolSaturation, "metric", || {
        "`pool_saturation` found, which is a mean already, expected a metric that replicas share".into()
    });
}

/// Samples that a period's average is made of.
const SAMPLES: u32 = 6;

/// A metric per warm instance, averaged over periods: what alarms look at.
#[derive(Debug)]
pub struct WarmMetric {
    metric: LoadMetric,
    period_s: f64,
    warmup_s: f64,
    signals: Signals,
    /// When each replica that serves was first seen.
    since_s: BTreeMap<u32, f64>,
    warm: u32,
    sum: f64,
    samples: u32,
    ticks: u32,
}

impl WarmMetric {
    pub fn new(metric: LoadMetric, period_s: f64, warmup_s: f64) -> Self {
        let signals = Signals::new(period_s);
        Self { metric, period_s, warmup_s, signals, since_s: BTreeMap::new(), warm: 0, sum: 0.0, samples: 0, ticks: 0 }
    }

    pub fn tick_interval_s(&self) -> f64 {
        self.period_s / f64::from(SAMPLES)
    }

    pub fn observes(&self) -> Observes {
        Observes { replicas: true, ..self.metric.observes() }
    }

    pub fn count_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    pub fn count_batches(&mut self, sums: BatchSums) {
        self.signals.count_batches(sums);
    }

    /// Instances that are measured.
    pub fn warm(&self) -> u32 {
        self.warm
    }

    /// Takes a sample; at the end of a period, its average if there was anything to measure.
    pub fn sample(&mut self, now_s: f64, snapshot: &Snapshot) -> Option<Option<f64>> {
        self.signals.scrape(now_s, snapshot);
        let before = std::mem::take(&mut self.since_s);
        let replicas = &self.signals.replicas;
        self.since_s = replicas.iter().map(|replica| (replica.id, before.get(&replica.id).copied().unwrap_or(now_s))).collect();
        // Those of the beginning are no younger than the group.
        let is_warm = |id: &u32| self.since_s.get(id).is_some_and(|&since_s| since_s == 0.0 || now_s - since_s >= self.warmup_s);
        let warm: Vec<_> = replicas.iter().filter(|replica| is_warm(&replica.id)).collect();
        self.warm = warm.len() as u32;
        if self.warm > 0 {
            let unrouted = match self.metric {
                LoadMetric::OutstandingRequests | LoadMetric::QueuedRequests => f64::from(self.signals.unrouted_requests),
                _ => 0.0,
            };
            let measured: Option<f64> = warm.iter().map(|replica| self.metric.of_replica(replica)).sum();
            // Rates are counted for the cluster as a whole, and so for all that serve.
            let share = measured.map_or_else(
                || self.metric.total(&self.signals, self.period_s) / replicas.len() as f64,
                |measured| (measured + unrouted) / f64::from(self.warm),
            );
            self.sum += share;
            self.samples += 1;
        }
        self.ticks += 1;
        if !self.ticks.is_multiple_of(SAMPLES) {
            return None;
        }
        let average = (self.samples > 0).then(|| self.sum / f64::from(self.samples));
        (self.sum, self.samples) = (0.0, 0);
        Some(average)
    }
}

#[derive(Debug)]
struct AwsTargetTracking {
    settings: AwsTargetTrackingSettings,
    metric: WarmMetric,
    /// Periods in a row that breach the upper and the lower alarm.
    high: u32,
    low: u32,
}

impl AwsTargetTracking {
    /// The capacity after a period, of which `warm` instances were measured.
    fn capacity(&mut self, average: Option<f64>, warm: u32, current: u32) -> u32 {
        let settings = &self.settings;
        let Some(average) = average else {
            (self.high, self.low) = (0, 0);
            return current;
        };
        let ratio = average / settings.target_per_replica;
        self.high = if ratio > 1.0 { self.high + 1 } else { 0 };
        self.low = if ratio < settings.scale_in_fraction { self.low + 1 } else { 0 };
        // Without an instance there would be no metric to bring one back.
        let wanted = ((f64::from(warm) * ratio).ceil() as u32).max(1);
        if self.high >= settings.scale_out_periods {
            return current.max(wanted);
        }
        let shrinks = self.low >= settings.scale_in_periods && !settings.disable_scale_in && warm == current;
        if shrinks {
            self.low = 0;
            return current.min(wanted);
        }
        current
    }
}

impl Autoscaler for AwsTargetTracking {
    fn observes(&self) -> Observes {
        self.metric.observes()
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.metric.tick_interval_s())
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.metric.count_arrivals(arrivals);
    }

    fn observe_batch_sums(&mut self, sums: BatchSums) {
        self.metric.count_batches(sums);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let Some(average) = self.metric.sample(now_s, snapshot) else { return Decision::Hold };
        let current = snapshot.committed();
        Decision::towards(current, self.capacity(average, self.metric.warm(), current))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![("high_periods", self.high.into()), ("low_periods", self.low.into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> AwsTargetTracking {
        let settings = AwsTargetTrackingSettings::default();
        AwsTargetTracking { metric: WarmMetric::new(settings.metric, 60.0, 300.0), settings, high: 0, low: 0 }
    }

    #[test]
    fn three_periods_out_and_fifteen_in() {
        let mut aws = policy();
        assert_eq!([aws.capacity(Some(20.0), 2, 2), aws.capacity(Some(20.0), 2, 2)], [2, 2]);
        assert_eq!(aws.capacity(Some(20.0), 2, 2), 5, "ceil(2 x 20 / 8)");
        assert_eq!(aws.capacity(Some(20.0), 2, 5), 5, "three warm up and do not lack");
        let shrinks: Vec<u32> = (0..15).map(|_| aws.capacity(Some(3.0), 5, 5)).collect();
        assert_eq!((&shrinks[..14], shrinks[14]), (&[5; 14][..], 2));
        assert_eq!(aws.capacity(None, 0, 2), 2, "no data");
    }

    #[test]
    fn near_the_target_nothing_happens() {
        let mut aws = policy();
        assert!((0..40).all(|_| aws.capacity(Some(7.3), 4, 4) == 4));
    }

    #[test]
    fn the_young_are_not_measured() {
        let replica = |id, running_requests| super::super::ReplicaSignals { id, running_requests, ..Default::default() };
        let mut metric = WarmMetric::new(LoadMetric::OutstandingRequests, 60.0, 300.0);
        let old = [replica(0, 12)];
        let both = [replica(0, 12), replica(1, 2)];
        let mut averages = Vec::new();
        for tick in 0..48 {
            let replicas = if tick < 6 { &old[..] } else { &both[..] };
            let snapshot = Snapshot { serving: replicas.len() as u32, replicas, ..Snapshot::default() };
            averages.extend(metric.sample(f64::from(tick) * 10.0, &snapshot));
        }
        assert_eq!(averages[..6], [Some(12.0); 6]);
        assert_eq!(averages[7], Some(7.0), "warm after five minutes");
    }
}
