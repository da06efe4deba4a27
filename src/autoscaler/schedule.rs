//! Replicas by the clock: a cron of replica counts, repeated.
//!
//! Rule: at each tick the replicas of the latest step whose time has come, within the period. Before the
//! first step of a period the last step of the one before holds. `lead_s` looks so much ahead, so that
//! replicas serve when their step begins (the cluster's `scale_up_delay_s` is a good choice).
//!
//! Parameters: `steps`, a list of `{"at_s", "replicas"}`; `period_s`, 86,400 (a day); `lead_s`, 0. Source:
//! the cron scaler that KEDA and cloud providers offer as scheduled scaling; the form is ours.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Autoscaler, Checked, Decision, PolicyContext, PolicySettings, Snapshot, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleSettings {
    /// In order of time, within the period.
    pub steps: Vec<ScheduleStep>,
    /// After this time the steps begin again.
    #[serde(default = "one_day_s")]
    pub period_s: f64,
    /// How far ahead of its time a step is asked for.
    #[serde(default)]
    pub lead_s: f64,
}

/// From this time of the period on, so many replicas.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduleStep {
    /// When the step begins, from the start of the period.
    pub at_s: f64,
    /// Replicas from then on.
    pub replicas: u32,
}

fn one_day_s() -> f64 {
    86_400.0
}

impl PolicySettings for ScheduleSettings {
    fn check(&self, faults: &mut Faults) {
        faults.positive("period_s", self.period_s);
        faults.not_negative("lead_s", self.lead_s);
        faults.require(!self.steps.is_empty(), "steps", || {
            "an empty list found, expected at least one step".into()
        });
        for (i, step) in self.steps.iter().enumerate() {
            let field = format!("steps[{i}].at_s");
            faults.require((0.0..self.period_s).contains(&step.at_s), &field, || {
                format!(
                    "{} found, expected at least 0 and less than `period_s` ({})",
                    step.at_s, self.period_s
                )
            });
            faults.require(i == 0 || self.steps[i - 1].at_s < step.at_s, &field, || {
                format!("{} found, expected more than the step before", step.at_s)
            });
        }
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "replicas by the clock",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "steps",
            signals: "the clock",
            blind_to: "all traffic",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(Schedule { settings: self.clone() }))
    }
}

#[derive(Debug)]
struct Schedule {
    settings: ScheduleSettings,
}

impl Schedule {
    fn replicas(&self, now_s: f64) -> u32 {
        let ScheduleSettings { steps, period_s, lead_s } = &self.settings;
        let time_s = (now_s + lead_s).rem_euclid(*period_s);
        let passed = steps.partition_point(|step| step.at_s <= time_s);
        steps[(passed + steps.len() - 1) % steps.len()].replicas
    }
}

impl Autoscaler for Schedule {
    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        Decision::towards(snapshot.committed(), self.replicas(now_s))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_repeat_and_lead() {
        let step = |at_s, replicas| ScheduleStep { at_s, replicas };
        let steps = vec![step(100.0, 2), step(500.0, 9)];
        let schedule =
            Schedule { settings: ScheduleSettings { steps: steps.clone(), period_s: 1000.0, lead_s: 0.0 } };
        let at = |times: &[f64]| times.iter().map(|&time| schedule.replicas(time)).collect::<Vec<_>>();
        assert_eq!(at(&[0.0, 99.0, 100.0, 499.0, 500.0, 999.0, 1099.0, 1100.0]), [9, 9, 2, 2, 9, 9, 9, 2]);
        let ahead = Schedule { settings: ScheduleSettings { steps, period_s: 1000.0, lead_s: 60.0 } };
        assert_eq!([ahead.replicas(39.0), ahead.replicas(40.0), ahead.replicas(440.0)], [9, 2, 9]);
    }

    #[test]
    fn faults_name_the_step() {
        let settings: ScheduleSettings = serde_json::from_str(
            r#"{"steps": [{"at_s": 50, "replicas": 1}, {"at_s": 20, "replicas": 2}], "period_s": 40}"#,
        )
        .unwrap();
        let mut faults = Faults::default();
        settings.check(&mut faults);
        let paths: Vec<&str> = faults.found.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(paths, ["steps[0].at_s", "steps[1].at_s"]);
    }
}
