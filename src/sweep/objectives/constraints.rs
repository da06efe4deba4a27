//! Constraints: limits on metrics of a run, such as a P99 time to first token of at most 2 s, that a setting
//! has to keep.
//!
//! A metric's own direction decides which side of the limit is kept: at most 2 s, at least 99 % attainment. A
//! limit may hold on every workload or differ between them. A [`Constraint`] is one limit as it holds on one
//! workload; [`Constraint::check`] holds a run against it, [`Kept`] says of several runs, one a seed, how
//! many kept it and how sure that makes one.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::de::{Deserialize, Deserializer, Error, MapAccess, Visitor};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};

use super::known;
use crate::settings::Faults;
use crate::simulation::metric::{self, Better, Metric};
use crate::simulation::{MetricValue, RunMetrics};

/// Metrics that are shares of a whole: 99 is a slip there, 0.99 is meant.
const SHARES: [&str; 8] = [
    "attainment",
    "violation_rate",
    "utilization",
    "mean_kv_use",
    "max_kv_use",
    "prefix_hit_rate",
    "session_attainment",
    "later_turn_hit_rate",
];

/// `objectives.constraints`: metrics and their limits, in the order of the file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Constraints {
    limits: Vec<(String, Limit)>,
}

/// The limit on one metric.
#[derive(Debug, Clone, PartialEq)]
pub enum Limit {
    OnAll(f64),
    /// By name of the workload; others have none.
    OnSome(Vec<(String, f64)>),
}

/// One limit as it holds on one workload.
#[derive(Debug, Clone, Copy)]
pub struct Constraint {
    pub metric: &'static Metric,
    pub limit: f64,
}

impl PartialEq for Constraint {
    fn eq(&self, other: &Self) -> bool {
        self.metric.name == other.metric.name && self.limit == other.limit
    }
}

/// A run against a constraint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Check {
    /// None where the run lacks the metric, as one that completed nothing lacks latencies. It has not kept
    /// the limit then.
    pub value: Option<f64>,
    /// How far the value stays within the limit, as a share of it: 0.1 for 1.8 s of 2 s, -0.1 for 2.2 s. Of a
    /// limit of 0 the distance itself.
    pub margin: Option<f64>,
    pub kept: bool,
    /// Share of requests that were never answered, where so many were that the percentile of all requests
    /// does not exist: whatever those that were answered say, the limit is broken.
    pub unanswered: Option<f64>,
}

/// How many of several runs, one a seed, kept a limit or all of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Kept {
    pub kept: usize,
    pub of: usize,
}

impl Constraints {
    pub fn is_empty(&self) -> bool {
        self.limits.is_empty()
    }

    /// Names of the metrics, as given.
    pub fn metrics(&self) -> impl Iterator<Item = &str> {
        self.limits.iter().map(|(name, _)| name.as_str())
    }

    /// The metrics that are known, with their names as paths within `objectives`.
    pub fn known_metrics(&self) -> impl Iterator<Item = (String, &'static Metric)> {
        self.metrics().filter_map(|name| Some((format!("constraints.{name}"), metric::find(name)?)))
    }

    /// Names of workloads that limits are given for, each with the metric.
    pub fn workloads(&self) -> impl Iterator<Item = (&str, &str)> {
        self.limits.iter().flat_map(|(metric, limit)| {
            match limit {
                Limit::OnAll(_) => &[],
                Limit::OnSome(limits) => limits.as_slice(),
            }
            .iter()
            .map(move |(workload, _)| (metric.as_str(), workload.as_str()))
        })
    }

    /// What holds on a workload, called as in rows: `steps`, or `steps (rate_per_s=20)` where it varies,
    /// which an entry `steps` means too. Constraints must have passed their checks.
    pub fn on(&self, workload: &str) -> Vec<Constraint> {
        let of = |(name, limit): &(String, Limit)| {
            let limit = match limit {
                Limit::OnAll(limit) => *limit,
                Limit::OnSome(limits) => {
                    let exact = limits.iter().find(|(name, _)| name == workload);
                    let stem = || limits.iter().find(|(name, _)| is_variant(workload, name));
                    exact.or_else(stem)?.1
                }
            };
            Some(Constraint { metric: metric::find(name)?, limit })
        };
        self.limits.iter().filter_map(of).collect()
    }

    pub fn check(&self, faults: &mut Faults) {
        for (name, limit) in &self.limits {
            let metric = match known(name) {
                Ok(metric) => metric,
                Err(message) => {
                    faults.add(name, message);
                    continue;
                }
            };
            if metric.better == Better::Neither {
                let message = "neither less nor more of it is better, so no side of a limit can be kept; docs/metrics.md says of which it is";
                faults.add(name, message);
                continue;
            }
            let check = |faults: &mut Faults, field: &str, value: f64| {
                let share = SHARES.contains(&name.as_str());
                if share { faults.fraction(field, value) } else { faults.not_negative(field, value) }
            };
            match limit {
                Limit::OnAll(value) => check(faults, name, *value),
                Limit::OnSome(limits) => faults.within(name, |faults| {
                    limits.iter().for_each(|(workload, value)| check(faults, workload, *value));
                    faults.require(!limits.is_empty(), "", || {
                        "no workload found, expected a limit, or one for each workload".into()
                    });
                }),
            }
        }
    }
}

/// Whether `workload` is what the axes of a grid make of the workload called `stem`.
fn is_variant(workload: &str, stem: &str) -> bool {
    workload.strip_prefix(stem).is_some_and(|rest| rest.starts_with(" ("))
}

impl Constraint {
    /// The metric of a run, as a number.
    pub fn value_of(&self, metrics: &RunMetrics) -> Option<f64> {
        match self.metric.value(metrics) {
            MetricValue::Count(count) => Some(count as f64),
            MetricValue::Number(number) => Some(number),
            MetricValue::Absent => None,
        }
    }

    /// A run against it.
    pub fn check_run(&self, metrics: &RunMetrics) -> Check {
        self.check_answered(
            self.value_of(metrics),
            unanswered(metrics.num_requests, metrics.num_rejected + metrics.num_cut),
        )
    }

    /// A run whose metric is `value`, and which never answered this share of its requests. A request without
    /// an answer has waited longer than any other: of a P99 at most one in a hundred may be without.
    pub fn check_answered(&self, value: Option<f64>, unanswered: f64) -> Check {
        let check = self.check(value);
        match self.metric.percentile().map(|percentile| 1.0 - percentile / 100.0) {
            // Shares that are equal but for rounding are.
            Some(most) if unanswered > most + 1e-9 => {
                let margin = check.margin.map(|margin| margin.min(most - unanswered));
                Check { margin, kept: false, unanswered: Some(unanswered), ..check }
            }
            _ => check,
        }
    }

    /// A run whose metric is `value`, and which answered every request.
    pub fn check(&self, value: Option<f64>) -> Check {
        let value = value.filter(|value| value.is_finite());
        let Some(found) = value else { return Check { value, margin: None, kept: false, unanswered: None } };
        let within = if self.metric.better == Better::More { found - self.limit } else { self.limit - found };
        let margin = if self.limit > 0.0 { within / self.limit } else { within };
        Check { value, margin: Some(margin), kept: within >= 0.0, unanswered: None }
    }

    /// The worse of two values; none at all is worst.
    pub fn worse(&self, a: Option<f64>, b: Option<f64>) -> Option<f64> {
        let (a, b) = (a?, b?);
        Some(if self.metric.better == Better::More { a.min(b) } else { a.max(b) })
    }
}

/// Share of requests that were never answered, of so many.
pub fn unanswered(requests: u64, without_answer: u64) -> f64 {
    if requests == 0 { 0.0 } else { without_answer as f64 / requests as f64 }
}

/// `p99_ttft_s ≤ 2`.
impl fmt::Display for Constraint {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let sign = if self.metric.better == Better::More { '≥' } else { '≤' };
        write!(f, "{} {sign} {}", self.metric.name, self.limit)
    }
}

impl Kept {
    pub fn count(checks: impl IntoIterator<Item = bool>) -> Self {
        checks.into_iter().fold(Self { kept: 0, of: 0 }, |Self { kept, of }, ok| Self {
            kept: kept + usize::from(ok),
            of: of + 1,
        })
    }

    /// Whether every one of them kept it. None at all did not.
    pub fn all(self) -> bool {
        self.kept == self.of && self.of > 0
    }

    /// Where all kept it, at least this share of further ones should, at 95 % confidence: were it any lower,
    /// so many in a row would be seen less than once in twenty times.
    pub fn least_share(self) -> f64 {
        if self.of == 0 { 0.0 } else { libm::pow(0.05, 1.0 / self.of as f64) }
    }
}

impl Serialize for Constraints {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.limits.len()))?;
        self.limits.iter().try_for_each(|(name, limit)| map.serialize_entry(name, limit))?;
        map.end()
    }
}

impl Serialize for Limit {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::OnAll(limit) => serializer.serialize_f64(*limit),
            Self::OnSome(limits) => {
                let mut map = serializer.serialize_map(Some(limits.len()))?;
                limits.iter().try_for_each(|(name, limit)| map.serialize_entry(name, limit))?;
                map.end()
            }
        }
    }
}

impl<'de> Deserialize<'de> for Constraints {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Metrics;
        impl<'de> Visitor<'de> for Metrics {
            type Value = Constraints;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("metrics with their limits, such as {\"p99_ttft_s\": 2}")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Constraints, A::Error> {
                Ok(Constraints { limits: entries(map)? })
            }
        }
        deserializer.deserialize_map(Metrics)
    }
}

impl<'de> Deserialize<'de> for Limit {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct LimitVisitor;
        impl<'de> Visitor<'de> for LimitVisitor {
            type Value = Limit;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a number, or one for each workload such as {\"chat\": 2}")
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Limit, E> {
                Ok(Limit::OnAll(value))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Limit, E> {
                Ok(Limit::OnAll(value as f64))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Limit, E> {
                Ok(Limit::OnAll(value as f64))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Limit, A::Error> {
                Ok(Limit::OnSome(entries(map)?))
            }
        }
        deserializer.deserialize_any(LimitVisitor)
    }
}

/// A map in its own order.
fn entries<'de, A: MapAccess<'de>, T: Deserialize<'de>>(mut map: A) -> Result<Vec<(String, T)>, A::Error> {
    let mut entries = Vec::new();
    while let Some(entry) = map.next_entry()? {
        entries.push(entry);
    }
    Ok(entries)
}

impl JsonSchema for Constraints {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Constraints".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let limit = generator.subschema_for::<Limit>();
        let judging = metric::all().iter().filter(|metric| metric.better != Better::Neither);
        let names: Vec<&str> = judging.map(|metric| metric.name.as_str()).collect();
        json_schema!({
            "description": "Limits on metrics of a run: at most so much where less is better, at least where more is.",
            "type": "object", "propertyNames": { "enum": names }, "additionalProperties": limit,
        })
    }
}

impl JsonSchema for Limit {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Limit".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({ "description": "A limit on every workload, or one for each that has one, by its name.", "anyOf": [
            { "type": "number", "minimum": 0 },
            { "type": "object", "additionalProperties": { "type": "number", "minimum": 0 } },
        ] })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;
    use crate::simulation::Distribution;

    fn constraints(value: serde_json::Value) -> Constraints {
        serde_json::from_value(value).unwrap()
    }

    fn faults(value: serde_json::Value) -> Vec<String> {
        let mut faults = Faults::default();
        faults.within("constraints", |faults| constraints(value).check(faults));
        faults.found.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    fn constraint(name: &str, limit: f64) -> Constraint {
        Constraint { metric: metric::find(name).unwrap(), limit }
    }

    #[test]
    fn limits_hold_everywhere_or_by_workload() {
        let given = json!({"p99_ttft_s": 2.0, "attainment": {"chat": 0.99, "batch": 0.5}});
        let parsed = constraints(given.clone());
        assert_eq!(serde_json::to_value(&parsed).unwrap(), given, "in the order of the file");
        let on = |workload: &str| parsed.on(workload).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(on("chat"), ["p99_ttft_s ≤ 2", "attainment ≥ 0.99"]);
        assert_eq!(on("batch (rate_per_s=20)"), ["p99_ttft_s ≤ 2", "attainment ≥ 0.5"]);
        assert_eq!(on("chatter"), ["p99_ttft_s ≤ 2"]);
        assert_eq!(parsed.workloads().collect::<Vec<_>>(), [("attainment", "chat"), ("attainment", "batch")]);
        assert!(constraints(json!({})).is_empty());
    }

    #[test]
    fn a_runs_own_direction_decides_which_side_is_kept() {
        let ttft = constraint("p99_ttft_s", 2.0);
        assert_eq!(
            ttft.check(Some(1.5)),
            Check { value: Some(1.5), margin: Some(0.25), kept: true, unanswered: None }
        );
        assert_eq!(
            ttft.check(Some(2.5)),
            Check { value: Some(2.5), margin: Some(-0.25), kept: false, unanswered: None }
        );
        assert!(ttft.check(Some(2.0)).kept, "the limit itself is allowed");
        let attained = constraint("attainment", 0.5);
        assert_eq!(attained.check(Some(0.75)).margin, Some(0.5));
        assert!(!attained.check(Some(0.25)).kept);
        // Nothing measured is nothing kept.
        for nothing in [None, Some(f64::NAN), Some(f64::INFINITY)] {
            assert_eq!(
                ttft.check(nothing),
                Check { value: None, margin: None, kept: false, unanswered: None }
            );
        }
        let none_rejected = constraint("num_rejected", 0.0);
        assert_eq!(
            (none_rejected.check(Some(0.0)).kept, none_rejected.check(Some(3.0)).margin),
            (true, Some(-3.0))
        );
        assert_eq!(ttft.worse(Some(1.0), Some(3.0)), Some(3.0));
        assert_eq!(attained.worse(Some(0.1), Some(0.3)), Some(0.1));
        assert_eq!(ttft.worse(Some(1.0), None), None);
    }

    /// Of 100 requests the 90th longest exists while ten are without an answer, and no longer.
    #[test]
    fn a_percentile_is_one_of_all_requests() {
        let p90 = constraint("p90_ttft_s", 2.0);
        assert_eq!(p90.check_answered(Some(1.5), 0.1), p90.check(Some(1.5)));
        let broken = p90.check_answered(Some(1.5), 0.11);
        assert_eq!((broken.kept, broken.unanswered, broken.value), (false, Some(0.11), Some(1.5)));
        assert!((broken.margin.unwrap() + 0.01).abs() < 1e-12, "{broken:?}");
        assert!(!constraint("max_e2e_s", 2.0).check_answered(Some(1.5), 0.001).kept);
        for other in ["mean_ttft_s", "mean_replicas", "total_cost_usd"] {
            assert!(constraint(other, 2.0).check_answered(Some(1.5), 0.9).kept, "{other}");
        }
        let run = RunMetrics { num_requests: 10, num_rejected: 1, num_cut: 1, ..RunMetrics::default() };
        assert_eq!(p90.check_run(&run).unanswered, Some(0.2));
    }

    #[test]
    fn the_value_is_the_runs_metric() {
        let latency = Distribution { mean: 1.0, p50: 2.0, p75: 3.0, p90: 4.0, p95: 5.0, p99: 6.0, max: 7.0 };
        let run = RunMetrics { ttft_s: Some(latency), num_rejected: 3, ..RunMetrics::default() };
        let value = |name: &str| constraint(name, 1.0).value_of(&run);
        assert_eq!(
            [value("p99_ttft_s"), value("num_rejected"), value("attainment")],
            [Some(6.0), Some(3.0), None]
        );
    }

    #[test]
    fn slips_are_told_where_they_stand() {
        let found = faults(
            json!({"p99_tfft_s": 2, "p90_e2e_s": -1, "attainment": 99, "num_batches": 3, "scale_ups": {"w": -2}, "max_e2e_s": {}}),
        );
        for (fault, expected) in found.iter().zip([
            "constraints.p99_tfft_s: unknown metric `p99_tfft_s`, ",
            "constraints.p90_e2e_s: -1 found, expected a finite number of at least 0",
            "constraints.attainment: 99 found, expected a number from 0 to 1",
            "constraints.num_batches: neither less nor more of it is better",
            "constraints.scale_ups.w: -2 found, ",
            "constraints.max_e2e_s: no workload found",
        ]) {
            assert!(fault.starts_with(expected), "{fault}, expected {expected}");
        }
        assert_eq!(found.len(), 6);
        assert!(found[0].ends_with("did you mean `p99_ttft_s`?"), "{}", found[0]);
        let error =
            serde_json::from_value::<Constraints>(json!({"p99_ttft_s": "2 s"})).unwrap_err().to_string();
        assert!(error.contains("expected a number, or one for each workload"), "{error}");
    }

    #[test]
    fn shares_are_those_that_cannot_exceed_one() {
        assert!(SHARES.iter().all(|name| metric::find(name).unwrap().unit.is_empty()));
    }

    #[test]
    fn one_seed_says_little() {
        let share = |of: usize| Kept { kept: of, of }.least_share();
        assert_eq!(share(0), 0.0);
        assert!(
            (share(1) - 0.05).abs() < 1e-12
                && (share(3) - 0.3684).abs() < 1e-4
                && (share(59) - 0.9505).abs() < 1e-4
        );
        assert!(
            !Kept::count([]).all() && Kept::count([true, true]).all() && !Kept::count([true, false]).all()
        );
    }

    proptest! {
        /// Whatever the metric: a margin of at least 0 is a limit kept, and worse values have smaller
        /// margins.
        #[test]
        fn margins_and_verdicts_agree(value in 0.0..10.0f64, worse in 0.0..1.0f64, limit in 0.0..10.0f64, which in 0..metric::all().len()) {
            let metric = &metric::all()[which];
            prop_assume!(metric.better != Better::Neither);
            let constraint = Constraint { metric, limit };
            let check = constraint.check(Some(value));
            prop_assert_eq!(check.kept, check.margin.unwrap() >= 0.0);
            let further = if metric.better == Better::More { value - worse } else { value + worse };
            prop_assert!(constraint.check(Some(further)).margin <= check.margin);
        }
    }
}
