//! What AWS's scaling policies share: a metric over the instances that are warm, and two alarms that count
//! periods in a row.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::signals::{LoadMetric, Signals};
use super::{Arrivals, Autoscaler, BatchSums, Decision, Observes, Snapshot};

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
        Self {
            metric,
            period_s,
            warmup_s,
            signals,
            since_s: BTreeMap::new(),
            warm: 0,
            sum: 0.0,
            samples: 0,
            ticks: 0,
        }
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
        self.since_s = replicas
            .iter()
            .map(|replica| (replica.id, before.get(&replica.id).copied().unwrap_or(now_s)))
            .collect();
        // Those of the beginning are no younger than the group.
        let is_warm = |id: &u32| {
            self.since_s.get(id).is_some_and(|&since_s| since_s == 0.0 || now_s - since_s >= self.warmup_s)
        };
        let warm: Vec<_> = replicas.iter().filter(|replica| is_warm(&replica.id)).collect();
        self.warm = warm.len() as u32;
        if self.warm > 0 {
            let unrouted = match self.metric {
                LoadMetric::OutstandingRequests | LoadMetric::QueuedRequests => {
                    f64::from(self.signals.unrouted_requests)
                }
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

/// Periods in a row that breach the upper and the lower alarm.
#[derive(Debug, Clone, Copy, Default)]
pub struct Breaches {
    pub high: u32,
    pub low: u32,
}

/// What a policy does about its two alarms.
pub trait AlarmRule: Debug + Send {
    /// Whether a period's average breaches the upper, and the lower alarm.
    fn breaches(&self, average: f64) -> [bool; 2];

    /// The capacity after a period, of which `warm` instances were measured.
    fn capacity(&self, average: f64, breaches: &mut Breaches, warm: u32, current: u32) -> u32;
}

/// A policy of AWS's: without data nothing is done, and nobody breaches anything.
#[derive(Debug)]
pub struct Alarmed<R> {
    rule: R,
    metric: WarmMetric,
    breaches: Breaches,
}

impl<R: AlarmRule> Alarmed<R> {
    pub fn new(rule: R, metric: WarmMetric) -> Self {
        Self { rule, metric, breaches: Breaches::default() }
    }

    pub fn capacity(&mut self, average: Option<f64>, warm: u32, current: u32) -> u32 {
        let Some(average) = average else {
            self.breaches = Breaches::default();
            return current;
        };
        let [high, low] = self.rule.breaches(average);
        let Breaches { high: above, low: below } = self.breaches;
        self.breaches =
            Breaches { high: if high { above + 1 } else { 0 }, low: if low { below + 1 } else { 0 } };
        self.rule.capacity(average, &mut self.breaches, warm, current)
    }
}

impl<R: AlarmRule> Autoscaler for Alarmed<R> {
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
        vec![("high_periods", self.breaches.high.into()), ("low_periods", self.breaches.low.into())]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_young_are_not_measured() {
        let replica = |id, running_requests| super::super::ReplicaSignals {
            id,
            running_requests,
            ..Default::default()
        };
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
