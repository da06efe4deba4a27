//! KEDA: zero to one by activity, one to many by the Kubernetes HPA it creates.
//!
//! Two loops. Every `polling_interval_s` KEDA asks its triggers; one is active if its metric exceeds its
//! `activation_threshold`.
//!
//! - Any active, and no replicas: max(`min_replicas`, 1) at once. Any active otherwise: the time is
//!   remembered.
//! - None active and none in error, with `min_replicas` 0 or `idle_replicas`: once `cooldown_period_s` has
//!   passed since the last activity, `idle_replicas`, or else zero, however many there are. If there never
//!   was any, `initial_cooldown_period_s` after the start, 0 by default: at the first poll.
//! - None active and one in error: nothing.
//!
//! From one up the HPA decides at its own syncs, on every trigger as an external metric
//! ([`horizontal`](super::horizontal)): the largest proposal wins. KEDA's HPA has no `behavior` unless the
//! ScaledObject gives one. A trigger that fails, here within its `outages`, is a metric that cannot be read;
//! after more than `failure_threshold` failed polls in a row the `fallback` reports the target times a number
//! of replicas in its place.
//!
//! With `scaling_modifiers` one formula over the triggers' values takes the place of all of them, with a
//! target of its own.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `polling_interval_s`, `cooldown_period_s`, `initial_cooldown_period_s` | 30, 300, 0 | `scaledobject-spec.md` |
//! | `activation_threshold` | 0 | concepts: activating and scaling thresholds |
//! | `hpa` | sync 15 s, tolerance 0.1, no `behavior` | Kubernetes |
//! | `fallback.behavior` | `static` | `scaledobject_types.go` |
//! | `metric`, `target_per_replica` | outstanding requests, 10 | ours: every KEDA trigger names its own |
//!
//! Scaling to zero needs `min_replicas` 0; KEDA's own default is 0, here the cluster's holds. `idle_replicas`
//! can only be 0: the HPA raises any other number to the minimum, and KEDA's documentation says as much.
//!
//! Source: kedacore/keda 8b4f083c (20 August 2026, after 2.20.1),
//! `pkg/scaling/executor/scale_scaledobjects.go`, `pkg/fallback`. Read, not run; that an activation threshold
//! is exceeded strictly is read in `pkg/scalers/prometheus_scaler.go`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::cadence::check_intervals;
use super::formula::Formula;
use super::gauges;
use super::horizontal::{Horizontal, HpaLoop, MetricSource, MetricTarget, check_milli};
use super::proportional::milli;
use super::scraped::{Controller, Scraped, Seen};
use super::signals::LoadMetric;
use super::{Autoscaler, Checked, Decision, Observes, PolicyContext, PolicySettings, Upstream};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KedaSettings {
    pub metric: LoadMetric,
    /// What formulas call the trigger; by default `t1`, and `t2` and so on for further ones.
    pub trigger: Option<String>,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    #[serde(alias = "threshold_per_replica")]
    pub target_per_replica: f64,
    /// Value of the metric of the whole cluster that is aimed at, instead of one per replica (`metricType:
    /// Value`).
    pub target_value: Option<f64>,
    /// The cluster's total above which the trigger is active, in the metric's unit.
    pub activation_threshold: f64,
    /// When the trigger's source cannot be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
    /// Further triggers; the largest proposal wins.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<Trigger>,
    pub scaling_modifiers: Option<ScalingModifiers>,
    pub fallback: Option<Fallback>,
    pub polling_interval_s: f64,
    /// From the last activity to zero replicas.
    pub cooldown_period_s: f64,
    /// From the start to zero replicas, if there never is any activity.
    pub initial_cooldown_period_s: f64,
    /// Least replicas while active; by default the cluster's `min_replicas`.
    pub min_replicas: Option<u32>,
    /// Replicas while inactive, less than `min_replicas`.
    pub idle_replicas: Option<u32>,
    /// The HPA that KEDA creates.
    pub hpa: HpaLoop,
    /// Window of `tokens_per_s` and `requests_per_s`.
    pub rate_window_s: f64,
}

/// A further trigger.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Trigger {
    pub metric: LoadMetric,
    /// What formulas call it.
    pub trigger: Option<String>,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
    /// Value of the metric of the whole cluster that is aimed at, instead of one per replica (`metricType:
    /// Value`).
    pub target_value: Option<f64>,
    /// The cluster's total above which the trigger is active, in the metric's unit.
    pub activation_threshold: f64,
    /// When its source cannot be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub outages: Vec<Outage>,
}

/// A time without an answer.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Outage {
    pub at_s: f64,
    pub duration_s: f64,
}

/// One metric made of all triggers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ScalingModifiers {
    /// Over the triggers' names, such as `t1 > 100 ? t1 : t2 / 2` or `max(t1, t2)`.
    pub formula: String,
    /// Value of the formula per replica that is aimed at.
    pub target_per_replica: f64,
    /// Value of the formula that is aimed at, instead of one per replica (`metricType: Value`).
    #[serde(default)]
    pub target_value: Option<f64>,
    /// Value above which the whole is active.
    #[serde(default)]
    pub activation_threshold: f64,
}

/// What takes the place of a trigger that fails.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Fallback {
    /// Failed polls in a row that are put up with.
    pub failure_threshold: u32,
    pub replicas: u32,
    #[serde(default)]
    pub behavior: FallbackBehavior,
}

/// Which number of replicas a fallback asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FallbackBehavior {
    /// `replicas`.
    #[default]
    Static,
    /// Those there are.
    CurrentReplicas,
    /// Those there are, at least `replicas`.
    CurrentReplicasIfHigher,
    /// Those there are, at most `replicas`.
    CurrentReplicasIfLower,
}

impl Default for Trigger {
    fn default() -> Self {
        let MetricTarget { metric, target_per_replica, target_value, .. } = MetricTarget::default();
        Self {
            metric,
            trigger: None,
            target_per_replica,
            target_value,
            activation_threshold: 0.0,
            outages: Vec::new(),
        }
    }
}

impl Default for KedaSettings {
    fn default() -> Self {
        let first = Trigger::default();
        Self {
            metric: first.metric,
            trigger: first.trigger,
            target_per_replica: first.target_per_replica,
            target_value: first.target_value,
            activation_threshold: first.activation_threshold,
            outages: first.outages,
            also: Vec::new(),
            scaling_modifiers: None,
            fallback: None,
            polling_interval_s: 30.0,
            cooldown_period_s: 300.0,
            initial_cooldown_period_s: 0.0,
            min_replicas: None,
            idle_replicas: None,
            hpa: HpaLoop::default(),
            rate_window_s: 60.0,
        }
    }
}

impl Trigger {
    fn target(&self) -> MetricTarget {
        MetricTarget {
            metric: self.metric,
            source: Some(MetricSource::External),
            target_per_replica: self.target_per_replica,
            target_value: self.target_value,
        }
    }

    fn check(&self, faults: &mut Faults) {
        self.target().check(faults);
        faults.not_negative("activation_threshold", self.activation_threshold);
        for (i, outage) in self.outages.iter().enumerate() {
            faults.within(format!("outages[{i}]"), |faults| {
                faults.not_negative("at_s", outage.at_s);
                faults.positive("duration_s", outage.duration_s);
            });
        }
    }

    fn is_out(&self, now_s: f64) -> bool {
        self.outages.iter().any(|outage| (outage.at_s..outage.at_s + outage.duration_s).contains(&now_s))
    }
}

impl KedaSettings {
    /// Every trigger, the first one included.
    pub fn triggers(&self) -> Vec<Trigger> {
        let first = Trigger {
            metric: self.metric,
            trigger: self.trigger.clone(),
            target_per_replica: self.target_per_replica,
            target_value: self.target_value,
            activation_threshold: self.activation_threshold,
            outages: self.outages.clone(),
        };
        std::iter::once(first).chain(self.also.iter().cloned()).collect()
    }

    /// What formulas call them.
    pub fn names(&self) -> Vec<String> {
        let name = |(i, trigger): (usize, &Trigger)| {
            trigger.trigger.clone().unwrap_or_else(|| format!("t{}", i + 1))
        };
        self.triggers().iter().enumerate().map(name).collect()
    }

    fn check_modifiers(&self, faults: &mut Faults) {
        let Some(modifiers) = &self.scaling_modifiers else { return };
        faults.within("scaling_modifiers", |faults| {
            match Formula::parse(&modifiers.formula) {
                Err(error) => faults.add("formula", error.to_string()),
                Ok(formula) => {
                    let known = self.names();
                    for name in formula.names.iter().filter(|name| !known.contains(name)) {
                        let known: Vec<&str> = known.iter().map(String::as_str).collect();
                        faults.add(
                            "formula",
                            format!(
                                "unknown trigger `{name}`, expected one of {}",
                                crate::settings::quoted(&known)
                            ),
                        );
                    }
                }
            }
            check_milli(faults, "target_per_replica", modifiers.target_per_replica);
            if let Some(value) = modifiers.target_value {
                check_milli(faults, "target_value", value);
            }
            faults.not_negative("activation_threshold", modifiers.activation_threshold);
        });
    }
}

impl PolicySettings for KedaSettings {
    fn check(&self, faults: &mut Faults) {
        self.triggers()[0].check(faults);
        for (i, trigger) in self.also.iter().enumerate() {
            faults.within(format!("also[{i}]"), |faults| trigger.check(faults));
        }
        let names = self.names();
        for (i, name) in names.iter().enumerate() {
            let field = if i == 0 { "trigger".to_owned() } else { format!("also[{}].trigger", i - 1) };
            faults.require(!names[..i].contains(name), &field, || {
                format!("`{name}` found twice, expected a name of its own")
            });
        }
        self.check_modifiers(faults);
        let intervals = [
            ("polling_interval_s", self.polling_interval_s),
            ("hpa.sync_interval_s", self.hpa.sync_interval_s),
        ];
        check_intervals(faults, &intervals);
        faults.not_negative("cooldown_period_s", self.cooldown_period_s);
        faults.not_negative("initial_cooldown_period_s", self.initial_cooldown_period_s);
        if let Some(idle) = self.idle_replicas {
            faults.require(idle == 0, "idle_replicas", || {
                format!("{idle} found, expected 0: the HPA that KEDA creates raises any other number to the minimum")
            });
            faults.require(self.min_replicas.is_some_and(|least| least > idle), "min_replicas", || {
                "expected a number above `idle_replicas` beside it".into()
            });
        }
        faults.positive("rate_window_s", self.rate_window_s);
        faults.within("hpa", |faults| self.hpa.check(faults));
    }

    fn doubts(&self) -> Vec<String> {
        let triggers = self.triggers();
        if self.scaling_modifiers.is_some()
            || self.fallback.is_some()
            || triggers.iter().any(|trigger| trigger.target_value.is_some())
        {
            return Vec::new();
        }
        let targets: Vec<_> =
            triggers.iter().map(|trigger| (trigger.metric, trigger.target_per_replica)).collect();
        gauges::doubts(&targets, self.hpa.tolerance.up)
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "KEDA, with the Kubernetes HPA it creates",
            version: "8b4f083c (after 2.20.1)",
            checked: Checked::Read,
            left_out: "",
            knob: "target_per_replica",
            signals: "the triggers' metrics, read afresh at each poll (30 s) and sync (15 s)",
            blind_to: "single pods: it sees sums over the cluster",
        }
    }

    fn reaches_zero(&self) -> bool {
        true
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        let composite = self.scaling_modifiers.as_ref().map(|modifiers| Composite {
            rule: Rule::Formula(Formula::parse(&modifiers.formula).expect("a checked formula"), self.names()),
            target_per_replica: modifiers.target_per_replica,
            target_value: modifiers.target_value,
            activation_threshold: modifiers.activation_threshold,
        });
        Some(Keda::boxed(self, composite, context))
    }
}

/// One metric in the place of all triggers.
#[derive(Debug)]
pub struct Composite {
    pub rule: Rule,
    pub target_per_replica: f64,
    pub target_value: Option<f64>,
    pub activation_threshold: f64,
}

#[derive(Debug)]
pub enum Rule {
    /// And what it calls the triggers.
    Formula(Formula, Vec<String>),
    /// The largest share of their targets that the triggers have, less the replicas under way: no more than
    /// there are plus what is missing beyond those.
    OvershootGuard,
}

/// A trigger at work.
#[derive(Debug)]
struct Probe {
    trigger: Trigger,
    /// As read last; `None` if it failed.
    value: Option<f64>,
    failed_polls: u32,
}

/// Both loops.
#[derive(Debug)]
pub struct Keda {
    probes: Vec<Probe>,
    composite: Option<Composite>,
    fallback: Option<Fallback>,
    cooldown_period_s: f64,
    initial_cooldown_period_s: f64,
    rate_window_s: f64,
    min_replicas: u32,
    idle_replicas: Option<u32>,
    horizontal: Horizontal,
    last_active_s: Option<f64>,
}

impl Keda {
    pub fn boxed(
        settings: &KedaSettings,
        composite: Option<Composite>,
        context: &PolicyContext,
    ) -> Box<dyn Autoscaler> {
        let min_replicas = settings.min_replicas.unwrap_or(context.min_replicas);
        let probe = |trigger| Probe { trigger, value: None, failed_polls: 0 };
        let keda = Self {
            probes: settings.triggers().into_iter().map(probe).collect(),
            composite,
            fallback: settings.fallback.clone(),
            cooldown_period_s: settings.cooldown_period_s,
            initial_cooldown_period_s: settings.initial_cooldown_period_s,
            rate_window_s: settings.rate_window_s,
            min_replicas,
            idle_replicas: settings.idle_replicas,
            horizontal: Horizontal::new(&settings.hpa, min_replicas.max(1), context.max_replicas),
            last_active_s: None,
        };
        let observes = keda
            .probes
            .iter()
            .fold(Observes::default(), |all, probe| all.and(probe.trigger.metric.observes()));
        let intervals_s = [settings.polling_interval_s, settings.hpa.sync_interval_s];
        Scraped::boxed_afresh(observes, settings.rate_window_s, intervals_s, keda)
    }

    /// The composite's value, rounded down to thousandths.
    fn composed(&self, seen: &Seen) -> Option<f64> {
        let value = match &self.composite.as_ref()?.rule {
            Rule::Formula(formula, names) => {
                let value = |name: &str| {
                    names.iter().position(|known| known == name).and_then(|index| self.probes[index].value)
                };
                formula.evaluate(value)?
            }
            Rule::OvershootGuard => {
                let shares =
                    self.probes.iter().map(|probe| Some(probe.value? / probe.trigger.target_per_replica));
                let wanted = shares.collect::<Option<Vec<f64>>>()?.into_iter().fold(0.0, f64::max);
                let (current, starting) =
                    (f64::from(seen.snapshot.committed()), f64::from(seen.snapshot.starting));
                if wanted <= current { wanted } else { (wanted - starting).max(current) }
            }
        };
        Some((value * 1000.0).floor() / 1000.0)
    }

    /// Whether anything is active, and whether anything failed.
    fn activity(&self, seen: &Seen) -> (bool, bool) {
        match &self.composite {
            Some(composite) => {
                (self.composed(seen).is_some_and(|value| value > composite.activation_threshold), false)
            }
            None => {
                let active = |probe: &Probe| {
                    probe.value.is_some_and(|value| value > probe.trigger.activation_threshold)
                };
                (self.probes.iter().any(active), self.probes.iter().any(|probe| probe.value.is_none()))
            }
        }
    }

    /// From or to no replicas; `None` to leave them.
    fn poll(&mut self, seen: &Seen) -> Option<u32> {
        let (now_s, current) = (seen.now_s, seen.snapshot.committed());
        let (active, failed) = self.activity(seen);
        let idles = self.idle_replicas.is_some();
        if active {
            self.last_active_s = Some(now_s);
            return (current == 0 || idles && current < self.min_replicas)
                .then_some(self.min_replicas.max(1));
        }
        if failed {
            return None;
        }
        let resting = self.idle_replicas.unwrap_or(self.min_replicas);
        if current > resting && (self.min_replicas == 0 || idles) {
            let over = match self.last_active_s {
                // Polls come a moment after the start, and the time of activity is written a moment after a
                // poll.
                None => now_s >= self.initial_cooldown_period_s,
                Some(last_s) => now_s > last_s + self.cooldown_period_s,
            };
            return over.then_some(resting);
        }
        (!idles && current < self.min_replicas).then_some(self.min_replicas)
    }

    /// What a target proposes for a value; a value that failed may have a fallback.
    fn proposal(
        &self,
        seen: &Seen,
        value: Option<f64>,
        failed_too_often: bool,
        target_per_replica: f64,
        target_value: Option<f64>,
    ) -> Option<u32> {
        let (current, ready) = (seen.snapshot.committed(), seen.snapshot.serving);
        let value = match (value, &self.fallback) {
            (Some(value), _) => value,
            (None, Some(fallback)) if failed_too_often => {
                let replicas = match fallback.behavior {
                    FallbackBehavior::Static => fallback.replicas,
                    FallbackBehavior::CurrentReplicas => current,
                    FallbackBehavior::CurrentReplicasIfHigher => current.max(fallback.replicas),
                    FallbackBehavior::CurrentReplicasIfLower => current.min(fallback.replicas),
                };
                match target_value {
                    None => target_per_replica * f64::from(replicas),
                    Some(_) if ready == 0 => return None,
                    Some(target) => target * f64::from(replicas) / f64::from(ready),
                }
            }
            _ => return None,
        };
        let proportion = self.horizontal.proportion;
        Some(match target_value {
            None => proportion.by_average(milli(value), current, milli(target_per_replica)),
            Some(target) => proportion.by_value(milli(value), ready, current, milli(target)),
        })
    }

    fn proposals(&self, seen: &Seen) -> Vec<Option<u32>> {
        let threshold = self.fallback.as_ref().map_or(u32::MAX, |fallback| fallback.failure_threshold);
        match &self.composite {
            Some(composite) => {
                let failed = self.probes.iter().any(|probe| probe.failed_polls > threshold);
                let Composite { target_per_replica, target_value, .. } = *composite;
                vec![self.proposal(seen, self.composed(seen), failed, target_per_replica, target_value)]
            }
            None => {
                let of = |Probe { trigger, value, failed_polls }: &Probe| {
                    self.proposal(
                        seen,
                        *value,
                        *failed_polls > threshold,
                        trigger.target_per_replica,
                        trigger.target_value,
                    )
                };
                self.probes.iter().map(of).collect()
            }
        }
    }
}

impl Controller<2> for Keda {
    fn scraped(&mut self, seen: &Seen) {
        for probe in &mut self.probes {
            let total = || probe.trigger.metric.total(seen.signals, self.rate_window_s);
            probe.value = (!probe.trigger.is_out(seen.now_s)).then(total);
        }
    }

    fn decide(&mut self, [poll, sync]: [bool; 2], seen: &Seen) -> Decision {
        let current = seen.snapshot.committed();
        if poll {
            for probe in &mut self.probes {
                probe.failed_polls =
                    if probe.value.is_none() { probe.failed_polls.saturating_add(1) } else { 0 };
            }
            if let Some(target) = self.poll(seen) {
                return Decision::towards(current, target);
            }
        }
        if !sync {
            return Decision::Hold;
        }
        let proposals = self.proposals(seen);
        Decision::towards(current, self.horizontal.sync(seen.now_s, current, proposals))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let total = self.probes[0].value.map(|value| ("metric_total", value));
        let proposed = self.horizontal.proposed.map(|replicas| ("proposed_replicas", f64::from(replicas)));
        let active = self.last_active_s.map(|at_s| ("last_active_s", at_s));
        total.into_iter().chain(proposed).chain(active).collect()
    }
}

#[cfg(test)]
mod tests;
