//! AWS target tracking (Application Auto Scaling, EC2 Auto Scaling groups): two alarms that keep a metric per
//! instance at a target.
//!
//! Rule: the metric is averaged over each period of `period_s` and over the instances that are warm. Above
//! the target for `scale_out_periods` periods in a row, capacity grows to ceil(warm instances x metric /
//! target) at once; below `scale_in_fraction` of it for `scale_in_periods` in a row, it shrinks to that.
//! Instances in their `instance_warmup_s` count as there, and neither in the metric nor as lacking; while
//! there are any, nothing shrinks. Without data nothing is done, so the last instance stays.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric`, `target_per_replica` | `outstanding_requests`, 8 | ours: the metric is of the user's own |
//! | `period_s`, `scale_out_periods`, `scale_in_periods` | 60, 3, 15 | from memory: the alarms AWS makes |
//! | `scale_in_fraction` | 0.9 | from memory: their lower threshold |
//! | `instance_warmup_s` | 300 | user guide: the group's default cooldown |
//! | `disable_scale_in` | false | user guide |
//!
//! Program: AWS Auto Scaling, as documented in 2026; closed, so never run here. How much its scale-in holds
//! back beyond the longer alarm is not published.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aws::{AlarmRule, Alarmed, Breaches, WarmMetric};
use super::gauges;
use super::signals::{LoadMetric, check_adds_up};
use super::{Autoscaler, Checked, PolicyContext, PolicySettings, Upstream};
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

    fn doubts(&self) -> Vec<String> {
        gauges::doubts(&[(self.metric, self.target_per_replica)], 0.0)
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
        Some(Box::new(Alarmed::new(self.clone(), metric)))
    }
}

impl AlarmRule for AwsTargetTrackingSettings {
    fn breaches(&self, average: f64) -> [bool; 2] {
        let ratio = average / self.target_per_replica;
        [ratio > 1.0, ratio < self.scale_in_fraction]
    }

    fn capacity(&self, average: f64, breaches: &mut Breaches, warm: u32, current: u32) -> u32 {
        // Without an instance there would be no metric to bring one back.
        let wanted = ((f64::from(warm) * (average / self.target_per_replica)).ceil() as u32).max(1);
        if breaches.high >= self.scale_out_periods {
            return current.max(wanted);
        }
        if breaches.low >= self.scale_in_periods && !self.disable_scale_in && warm == current {
            breaches.low = 0;
            return current.min(wanted);
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Alarmed<AwsTargetTrackingSettings> {
        let settings = AwsTargetTrackingSettings::default();
        Alarmed::new(settings.clone(), WarmMetric::new(settings.metric, 60.0, 300.0))
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
}
