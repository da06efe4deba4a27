//! Bounds by the clock: while one is active it takes the place of the bounds it names.
//!
//! Source: vllm-project/aibrix e3e10f9e, `scheduled_bounds.go`, read. There the clock has a time zone, one
//! for all; here runs begin at a time of the week.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

const DAY_S: f64 = 86_400.0;

/// Bounds over the week, and when in it a run begins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedules {
    /// Day of the week at the run's time 0.
    pub begins_on: Day,
    /// Time of the day at the run's time 0.
    #[serde(default = "midnight")]
    pub begins_at: String,
    /// They may not overlap.
    pub bounds: Vec<ScheduledBounds>,
}

/// Bounds from a time of the day (included) to another (excluded) of the same day.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScheduledBounds {
    pub days: Vec<Day>,
    /// `HH:MM`.
    pub start: String,
    /// `HH:MM`; `24:00` is the end of the day.
    pub end: String,
    /// Also wakes a fleet at zero; by default the cluster's.
    #[serde(default)]
    pub min_replicas: Option<u32>,
    /// By default the cluster's.
    #[serde(default)]
    pub max_replicas: Option<u32>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Day {
    Monday,
    Tuesday,
    Wednesday,
    Thursday,
    Friday,
    Saturday,
    Sunday,
}

fn midnight() -> String {
    "00:00".into()
}

/// Minutes of `HH:MM`.
fn minutes(text: &str) -> Option<u32> {
    let (hours, minutes) = text.split_once(':')?;
    let digits = |text: &str| {
        (text.len() == 2 && text.bytes().all(|c| c.is_ascii_digit())).then(|| text.parse::<u32>().ok())?
    };
    let (hours, minutes) = (digits(hours)?, digits(minutes)?);
    (hours < 24 && minutes < 60 || hours == 24 && minutes == 0).then_some(60 * hours + minutes)
}

impl Schedules {
    pub fn check(&self, faults: &mut Faults) {
        let time = |faults: &mut Faults, field: &str, text: &str| {
            faults.require(minutes(text).is_some(), field, || {
                format!("`{text}` found, expected a time such as `08:30`")
            });
        };
        time(faults, "begins_at", &self.begins_at);
        faults.require(!self.bounds.is_empty(), "bounds", || {
            "an empty list found, expected at least one".into()
        });
        for (i, bounds) in self.bounds.iter().enumerate() {
            faults.within(format!("bounds[{i}]"), |faults| {
                time(faults, "start", &bounds.start);
                time(faults, "end", &bounds.end);
                faults.require(!bounds.days.is_empty(), "days", || {
                    "an empty list found, expected at least one day".into()
                });
                if let (Some(start), Some(end)) = (minutes(&bounds.start), minutes(&bounds.end)) {
                    faults.require(start < end, "end", || {
                        format!(
                            "`{}` found, expected a time after `start` (`{}`): none go over midnight",
                            bounds.end, bounds.start
                        )
                    });
                }
                let (least, most) = (bounds.min_replicas, bounds.max_replicas);
                faults.require(least.is_some() || most.is_some(), "min_replicas", || {
                    "expected a number here, or `max_replicas`: without either nothing is bounded".into()
                });
                if let (Some(least), Some(most)) = (least, most) {
                    faults.require(least <= most, "min_replicas", || {
                        format!("{least} found, expected at most `max_replicas` ({most})")
                    });
                }
                for (j, other) in self.bounds[..i].iter().enumerate() {
                    faults.require(!bounds.overlaps(other), "start", || {
                        format!("overlaps with `bounds[{j}]`, expected one at a time")
                    });
                }
            });
        }
    }

    /// Least and most replicas now, and whether a schedule that names the least is active.
    pub fn bounds(&self, now_s: f64, least: u32, most: u32) -> ((u32, u32), bool) {
        let begins = f64::from(self.begins_on as u32) * DAY_S
            + f64::from(minutes(&self.begins_at).unwrap_or(0)) * 60.0;
        let of_week_s = (begins + now_s).rem_euclid(7.0 * DAY_S);
        let (day, minute) = ((of_week_s / DAY_S) as u32, ((of_week_s % DAY_S) / 60.0) as u32);
        let Some(active) = self.bounds.iter().find(|bounds| bounds.covers(day, minute)) else {
            return ((least, most), false);
        };
        let most = active.max_replicas.map_or(most, |named| named.min(most));
        ((active.min_replicas.unwrap_or(least).min(most), most), active.min_replicas.is_some())
    }
}

impl ScheduledBounds {
    fn covers(&self, day: u32, minute: u32) -> bool {
        let within = minutes(&self.start)
            .zip(minutes(&self.end))
            .is_some_and(|(start, end)| (start..end).contains(&minute));
        within && self.days.iter().any(|&named| named as u32 == day)
    }

    fn overlaps(&self, other: &Self) -> bool {
        let range = |bounds: &Self| minutes(&bounds.start).zip(minutes(&bounds.end));
        let (Some((start, end)), Some((other_start, other_end))) = (range(self), range(other)) else {
            return false;
        };
        start < other_end && other_start < end && self.days.iter().any(|day| other.days.contains(day))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schedules() -> Schedules {
        serde_json::from_value(serde_json::json!({"begins_on": "friday", "begins_at": "17:00", "bounds": [
            {"days": ["friday", "monday"], "start": "08:00", "end": "18:00", "min_replicas": 4},
            {"days": ["saturday"], "start": "00:00", "end": "24:00", "min_replicas": 0, "max_replicas": 2}]}))
        .unwrap()
    }

    #[test]
    fn bounds_follow_the_week() {
        let at_hours = |hours: f64| schedules().bounds(hours * 3600.0, 1, 20);
        assert_eq!(at_hours(0.0), ((4, 20), true));
        assert_eq!(at_hours(0.999), ((4, 20), true));
        assert_eq!(at_hours(1.0), ((1, 20), false), "the end is excluded");
        assert_eq!(at_hours(7.0), ((0, 2), true), "Saturday");
        assert_eq!(at_hours(31.0), ((1, 20), false), "Sunday");
        assert_eq!(at_hours(7.0 * 24.0), ((4, 20), true), "the next Friday");
    }

    #[test]
    fn faults_are_named() {
        let mut faults = Faults::default();
        schedules().check(&mut faults);
        assert_eq!(faults.found, []);
        let broken: Schedules = serde_json::from_value(serde_json::json!({"begins_on": "monday", "bounds": [
            {"days": ["monday"], "start": "8:00", "end": "18:00", "min_replicas": 4},
            {"days": ["monday"], "start": "12:00", "end": "11:00", "min_replicas": 5, "max_replicas": 4},
            {"days": ["monday"], "start": "06:00", "end": "09:00"},
            {"days": ["monday", "sunday"], "start": "08:59", "end": "10:00", "max_replicas": 4}]}))
        .unwrap();
        broken.check(&mut faults);
        let paths: Vec<&str> = faults.found.iter().map(|fault| fault.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "bounds[0].start",
                "bounds[1].end",
                "bounds[1].min_replicas",
                "bounds[2].min_replicas",
                "bounds[3].start"
            ]
        );
    }
}
