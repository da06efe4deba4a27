//! AWS step scaling: two alarms, and how much to add or take by how far a metric is beyond its threshold.
//!
//! Rule: the metric is averaged over each period and over the warm instances, as in
//! [`aws_target_tracking`](super::aws_target_tracking). Breached for `evaluation_periods` in a row, a policy
//! looks up the step whose bounds enclose metric - threshold: at least the lower and less than the upper
//! above the threshold, more than the lower and at most the upper below it. Its adjustment changes capacity
//! by so many replicas, to exactly so many, or by so many percent: rounded down where that is more than one
//! replica, up to one below that, negative ones mirrored, and at least `min_adjustment_magnitude`. Instances
//! that warm up count as there already, so a breach that goes on adds only what a higher step has more;
//! nothing shrinks while there are any.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `metric` | `outstanding_requests` | ours: the metric is of the user's own |
//! | `period_s`, `evaluation_periods` | 60, 2 | ours: the alarms are of the user's own |
//! | `instance_warmup_s` | 300 | user guide: the group's default cooldown |
//! | `scale_out` | above 8: +1, from 8 more on +2, from 16 more on +4 | ours |
//! | `scale_in` | below 4: -1 | ours |
//! | `adjustment_type`, `min_adjustment_magnitude` | `change_in_capacity`, 1 | API reference |
//!
//! Program: AWS Auto Scaling, as documented in 2026 (`StepScalingPolicyConfiguration` of the API reference,
//! and the user guide's rounding of percentages, read); closed, so never run here.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aws::{AlarmRule, Alarmed, Breaches, WarmMetric};
use super::signals::{LoadMetric, check_adds_up};
use super::{Autoscaler, Checked, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

/// What a step's adjustment means.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AdjustmentType {
    #[default]
    ChangeInCapacity,
    ExactCapacity,
    PercentChangeInCapacity,
}

/// From one distance to the threshold to another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepAdjustment {
    /// Without one, from minus infinity.
    #[serde(default)]
    pub lower: Option<f64>,
    /// Without one, to infinity.
    #[serde(default)]
    pub upper: Option<f64>,
    pub adjustment: i32,
}

/// One alarm and its steps.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepPolicy {
    pub threshold: f64,
    /// In order of their bounds, which do not overlap.
    pub steps: Vec<StepAdjustment>,
    #[serde(default)]
    pub adjustment_type: AdjustmentType,
    /// Replicas that a percentage changes at least.
    #[serde(default = "one")]
    pub min_adjustment_magnitude: u32,
}

fn one() -> u32 {
    1
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AwsStepScalingSettings {
    pub metric: LoadMetric,
    pub period_s: f64,
    pub evaluation_periods: u32,
    /// Age below which instances are not measured.
    pub instance_warmup_s: f64,
    pub scale_out: StepPolicy,
    pub scale_in: StepPolicy,
}

impl Default for AwsStepScalingSettings {
    fn default() -> Self {
        let step = |lower, upper, adjustment| StepAdjustment { lower, upper, adjustment };
        let policy = |threshold, steps| StepPolicy {
            threshold,
            steps,
            adjustment_type: AdjustmentType::default(),
            min_adjustment_magnitude: one(),
        };
        Self {
            metric: LoadMetric::default(),
            period_s: 60.0,
            evaluation_periods: 2,
            instance_warmup_s: 300.0,
            scale_out: policy(
                8.0,
                vec![
                    step(Some(0.0), Some(8.0), 1),
                    step(Some(8.0), Some(16.0), 2),
                    step(Some(16.0), None, 4),
                ],
            ),
            scale_in: policy(4.0, vec![step(None, Some(0.0), -1)]),
        }
    }
}

impl StepPolicy {
    fn check(&self, field: &str, faults: &mut Faults) {
        faults.not_negative(&format!("{field}.threshold"), self.threshold);
        faults.require(!self.steps.is_empty(), &format!("{field}.steps"), || {
            "an empty list found, expected at least one step".into()
        });
        let mut before = f64::NEG_INFINITY;
        for (i, step) in self.steps.iter().enumerate() {
            let (lower, upper) = step.bounds();
            faults.require(lower < upper, &format!("{field}.steps[{i}]"), || {
                format!("`lower` {lower} and `upper` {upper} found, expected the first to be less")
            });
            faults.require(i == 0 || lower >= before, &format!("{field}.steps[{i}].lower"), || {
                format!("{lower} found, expected at least the `upper` of the step before ({before})")
            });
            before = upper;
        }
    }

    /// Capacity after a breach by so much.
    fn adjusted(&self, breach: f64, above: bool, current: u32) -> u32 {
        let within = |step: &&StepAdjustment| {
            let (lower, upper) = step.bounds();
            if above { lower <= breach && breach < upper } else { lower < breach && breach <= upper }
        };
        let Some(step) = self.steps.iter().find(within) else { return current };
        let change = match self.adjustment_type {
            AdjustmentType::ExactCapacity => return step.adjustment.max(0) as u32,
            AdjustmentType::ChangeInCapacity => i64::from(step.adjustment),
            AdjustmentType::PercentChangeInCapacity => {
                let exact = f64::from(current) * f64::from(step.adjustment.unsigned_abs()) / 100.0;
                let whole = if exact > 1.0 { exact.floor() } else { exact.ceil() } as i64;
                let least = if step.adjustment == 0 { 0 } else { i64::from(self.min_adjustment_magnitude) };
                i64::from(step.adjustment.signum()) * whole.max(least)
            }
        };
        (i64::from(current) + change).max(0) as u32
    }
}

impl StepAdjustment {
    fn bounds(&self) -> (f64, f64) {
        (self.lower.unwrap_or(f64::NEG_INFINITY), self.upper.unwrap_or(f64::INFINITY))
    }
}

impl PolicySettings for AwsStepScalingSettings {
    fn check(&self, faults: &mut Faults) {
        check_adds_up(faults, self.metric);
        faults.interval_s("period_s", self.period_s);
        faults.at_least("evaluation_periods", self.evaluation_periods.into(), 1);
        faults.not_negative("instance_warmup_s", self.instance_warmup_s);
        self.scale_out.check("scale_out", faults);
        self.scale_in.check("scale_in", faults);
        faults.require(self.scale_in.threshold <= self.scale_out.threshold, "scale_in.threshold", || {
            format!(
                "{} found, expected at most that of `scale_out` ({})",
                self.scale_in.threshold, self.scale_out.threshold
            )
        });
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "AWS Auto Scaling, step scaling",
            version: "as documented in 2026",
            checked: Checked::Read,
            left_out: "several policies at once",
            knob: "scale_out",
            signals: "the metric averaged over a minute and over warm instances",
            blind_to: "what the metric does not show; instances that warm up",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let metric = WarmMetric::new(self.metric, self.period_s, self.instance_warmup_s);
        Some(Box::new(Alarmed::new(self.clone(), metric)))
    }
}

impl AlarmRule for AwsStepScalingSettings {
    fn breaches(&self, average: f64) -> [bool; 2] {
        [average >= self.scale_out.threshold, average <= self.scale_in.threshold]
    }

    fn capacity(&self, average: f64, breaches: &mut Breaches, warm: u32, current: u32) -> u32 {
        let (above, below) = (average - self.scale_out.threshold, average - self.scale_in.threshold);
        if breaches.high >= self.evaluation_periods {
            // From what is warm: what warms up is part of this adjustment.
            return current.max(self.scale_out.adjusted(above, true, warm));
        }
        if breaches.low >= self.evaluation_periods && warm == current {
            // Without an instance there would be no metric to bring one back.
            return current.min(self.scale_in.adjusted(below, false, current).max(1));
        }
        current
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Alarmed<AwsStepScalingSettings> {
        let settings = AwsStepScalingSettings::default();
        Alarmed::new(settings.clone(), WarmMetric::new(settings.metric, 60.0, 300.0))
    }

    #[test]
    fn steps_by_the_breach() {
        let out = AwsStepScalingSettings::default().scale_out;
        assert_eq!([0.0, 7.9, 8.0, 100.0].map(|breach| out.adjusted(breach, true, 5)), [6, 6, 7, 9]);
        let into = AwsStepScalingSettings::default().scale_in;
        assert_eq!([0.0, -3.0, 1.0].map(|breach| into.adjusted(breach, false, 5)), [4, 4, 5]);
    }

    #[test]
    fn percentages_round_towards_none_but_never_to_none() {
        let percent = |adjustment, least| StepPolicy {
            threshold: 0.0,
            steps: vec![StepAdjustment { lower: None, upper: None, adjustment }],
            adjustment_type: AdjustmentType::PercentChangeInCapacity,
            min_adjustment_magnitude: least,
        };
        assert_eq!(percent(25, 1).adjusted(1.0, true, 10), 12, "2.5");
        assert_eq!(percent(5, 1).adjusted(1.0, true, 10), 11, "0.5");
        assert_eq!(percent(-25, 1).adjusted(-1.0, false, 10), 8, "-2.5");
        assert_eq!(percent(10, 4).adjusted(1.0, true, 10), 14);
    }

    #[test]
    fn what_warms_up_is_not_asked_for_again() {
        let mut aws = policy();
        assert_eq!([aws.capacity(Some(20.0), 4, 4), aws.capacity(Some(20.0), 4, 4)], [4, 6]);
        assert_eq!(aws.capacity(Some(20.0), 4, 6), 6, "two warm up");
        assert_eq!(aws.capacity(Some(40.0), 4, 6), 8, "a higher step adds the rest");
        assert_eq!(
            [aws.capacity(Some(1.0), 6, 8), aws.capacity(Some(1.0), 6, 8)],
            [8, 8],
            "not while any warm up"
        );
        assert_eq!(aws.capacity(Some(1.0), 8, 8), 7);
    }
}
