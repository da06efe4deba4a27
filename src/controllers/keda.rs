//! The ScaledObject of KEDA, `keda.sh/v1alpha1`.

use serde_json::{Value, json};

use super::hpa::behavior_of;
use super::reading::{Fields, Imported, Refusal, behavior};
use super::{Notes, Subject, object, plain, schedule, signals};
use crate::autoscaler::horizontal::{HpaLoop, MetricTarget};
use crate::autoscaler::{Fallback, FallbackBehavior, KedaSettings, ScalingModifiers, Trigger};
use crate::settings::quoted;

/// Where Prometheus is, for whoever applies the file to put right.
pub(super) const SERVER: &str = "http://prometheus.monitoring.svc:9090";

/// KEDA's own where a ScaledObject names none.
const DEFAULT_MIN: u32 = 0;
const DEFAULT_MAX: u32 = 100;

pub(super) fn export(settings: &KedaSettings, subject: &Subject, notes: &mut Notes) -> Result<Value, String> {
    let cluster = subject.cluster;
    let min_replicas = settings.min_replicas.unwrap_or(cluster.min_replicas);
    let from_zero = min_replicas == 0 || settings.idle_replicas.is_some();
    let mut triggers = Vec::new();
    for (trigger, name) in settings.triggers().iter().zip(settings.names()) {
        triggers.push(trigger_of(trigger, &name, settings.rate_window_s, from_zero, notes)?);
    }
    let behavior = behavior_of(&settings.hpa, "hpa.", notes);
    let modifiers = settings.scaling_modifiers.as_ref().map(|modifiers| {
        let kind = if modifiers.target_value.is_some() { "Value" } else { "AverageValue" };
        json!({
            "formula": modifiers.formula,
            "target": plain(modifiers.target_value.unwrap_or(modifiers.target_per_replica)),
            "activationTarget": plain(modifiers.activation_threshold),
            "metricType": kind,
        })
    });
    let fallback = settings.fallback.as_ref().map(|fallback| {
        let behavior = BEHAVIORS.iter().find(|(_, behavior)| *behavior == fallback.behavior).map(|(name, _)| *name);
        json!({"failureThreshold": fallback.failure_threshold, "replicas": fallback.replicas, "behavior": behavior})
    });
    let hpa_config = behavior.map(|behavior| json!({"behavior": behavior}));
    let advanced = object([("horizontalPodAutoscalerConfig", hpa_config), ("scalingModifiers", modifiers)]);
    let is_empty = advanced.as_object().is_none_or(serde_json::Map::is_empty);
    let most = i64::from(i32::MAX);
    let initial = settings.initial_cooldown_period_s;
    Ok(json!({
        "apiVersion": "keda.sh/v1alpha1",
        "kind": "ScaledObject",
        "metadata": {"name": subject.name},
        "spec": object([
            ("scaleTargetRef", Some(json!({"name": subject.name}))),
            ("pollingInterval", Some(notes.whole("polling_interval_s", settings.polling_interval_s, 1, most))),
            ("cooldownPeriod", Some(notes.whole("cooldown_period_s", settings.cooldown_period_s, 0, most))),
            ("initialCooldownPeriod", Some(notes.whole("initial_cooldown_period_s", initial, 0, most))),
            ("idleReplicaCount", settings.idle_replicas.map(Value::from)),
            ("minReplicaCount", Some(min_replicas.into())),
            ("maxReplicaCount", Some(cluster.max_replicas.into())),
            ("fallback", fallback),
            ("advanced", (!is_empty).then_some(advanced)),
            ("triggers", Some(Value::Array(triggers))),
        ]),
    }))
}

/// How a ScaledObject spells what a fallback asks for.
const BEHAVIORS: [(&str, FallbackBehavior); 4] = [
    ("static", FallbackBehavior::Static),
    ("currentReplicas", FallbackBehavior::CurrentReplicas),
    ("currentReplicasIfHigher", FallbackBehavior::CurrentReplicasIfHigher),
    ("currentReplicasIfLower", FallbackBehavior::CurrentReplicasIfLower),
];

fn trigger_of(
    trigger: &Trigger,
    name: &str,
    rate_window_s: f64,
    from_zero: bool,
    notes: &mut Notes,
) -> Result<Value, String> {
    signals::check(trigger.metric)?;
    notes.need(signals::provenance(trigger.metric));
    notes.need(format!("Prometheus at {SERVER}, or its address in its place; labels in the queries that pick this workload's servers"));
    for outage in &trigger.outages {
        notes.cannot_say(format!(
            "an outage at {} s for {} s: the simulation's, not the trigger's",
            outage.at_s, outage.duration_s
        ));
    }
    Ok(json!({
        "type": "prometheus",
        "name": name,
        "metricType": if trigger.target_value.is_some() { "Value" } else { "AverageValue" },
        "metadata": {
            "serverAddress": SERVER,
            "query": signals::cluster_query(trigger.metric, rate_window_s, from_zero),
            "threshold": plain(trigger.target_value.unwrap_or(trigger.target_per_replica)),
            "activationThreshold": plain(trigger.activation_threshold),
        },
    }))
}

/// Reads a ScaledObject: one of cron triggers alone is a schedule.
pub(super) fn import(root: &Value) -> Result<Imported, Refusal> {
    let mut root = Fields::of(root, "")?;
    root.ignore(&["apiVersion", "kind", "metadata", "status"]);
    let mut spec = root.object("spec")?.ok_or_else(|| Refusal::at("spec", "missing"))?;
    root.finish()?;
    spec.ignore(&["scaleTargetRef"]);
    let triggers = spec.list("triggers")?;
    let kinds: Vec<String> = triggers
        .iter()
        .map(|trigger| Ok(trigger.clone().text("type")?.unwrap_or_default()))
        .collect::<Result<_, Refusal>>()?;
    let cron = kinds.iter().filter(|kind| *kind == "cron").count();
    if cron > 0 && cron == triggers.len() {
        return schedule::import(spec, triggers);
    }
    let mut settings = KedaSettings::default();
    let mut read = Vec::new();
    for (trigger, kind) in triggers.into_iter().zip(kinds) {
        if kind != "prometheus" {
            let beside = if kind == "cron" { " beside others" } else { "" };
            let message = format!(
                "`{kind}`{beside} found, which is not simulated; expected `prometheus` triggers, or `cron` ones alone"
            );
            return Err(Refusal::at(&trigger.path("type"), message));
        }
        let (trigger, window_s) = trigger_from(trigger)?;
        settings.rate_window_s = window_s.unwrap_or(settings.rate_window_s);
        read.push(trigger);
    }
    // Names that are the usual ones need not be said.
    for (i, trigger) in read.iter_mut().enumerate() {
        trigger.trigger = trigger.trigger.take().filter(|name| *name != format!("t{}", i + 1));
    }
    let mut read = read.into_iter();
    let first =
        read.next().ok_or_else(|| Refusal::at("spec.triggers", "none found, expected at least one"))?;
    let Trigger { metric, trigger, target_per_replica, target_value, activation_threshold, outages } = first;
    settings = KedaSettings {
        metric,
        trigger,
        target_per_replica,
        target_value,
        activation_threshold,
        outages,
        also: read.collect(),
        ..settings
    };
    let number = |spec: &mut Fields, field: &str, default: f64| {
        Ok::<f64, Refusal>(spec.number(field)?.unwrap_or(default))
    };
    settings.polling_interval_s = number(&mut spec, "pollingInterval", settings.polling_interval_s)?;
    settings.cooldown_period_s = number(&mut spec, "cooldownPeriod", settings.cooldown_period_s)?;
    settings.initial_cooldown_period_s =
        number(&mut spec, "initialCooldownPeriod", settings.initial_cooldown_period_s)?;
    settings.idle_replicas = spec.count("idleReplicaCount")?;
    let mut min_replicas = spec.count("minReplicaCount")?.unwrap_or(DEFAULT_MIN);
    let max_replicas = spec.count("maxReplicaCount")?.unwrap_or(DEFAULT_MAX);
    if settings.idle_replicas.is_some() {
        settings.min_replicas = Some(min_replicas);
        min_replicas = 0;
    }
    if let Some(fallback) = spec.object("fallback")? {
        settings.fallback = Some(fallback_from(fallback)?);
    }
    if let Some(mut advanced) = spec.object("advanced")? {
        // What happens to the Deployment once the ScaledObject is removed.
        advanced.ignore(&["restoreToOriginalReplicaCount"]);
        if let Some(mut config) = advanced.object("horizontalPodAutoscalerConfig")? {
            config.ignore(&["name"]);
            if let Some(found) = config.object("behavior")? {
                let (behavior, tolerance) = behavior(found)?;
                settings.hpa = HpaLoop { behavior, tolerance, ..settings.hpa };
            }
            config.finish()?;
        }
        if let Some(modifiers) = advanced.object("scalingModifiers")? {
            settings.scaling_modifiers = Some(modifiers_from(modifiers)?);
        }
        advanced.finish()?;
    }
    spec.finish()?;
    Ok(Imported {
        policy: "keda",
        settings: json!(settings),
        min_replicas: Some(min_replicas),
        max_replicas: Some(max_replicas),
        initial_replicas: None,
    })
}

fn trigger_from(mut trigger: Fields) -> Result<(Trigger, Option<f64>), Refusal> {
    trigger.ignore(&["type", "authenticationRef", "useCachedMetrics"]);
    let name = trigger.text("name")?;
    let kind = trigger.text("metricType")?.unwrap_or_else(|| "AverageValue".into());
    let mut metadata =
        trigger.object("metadata")?.ok_or_else(|| Refusal::at(&trigger.path("metadata"), "missing"))?;
    trigger.finish()?;
    metadata.ignore(&[
        "serverAddress",
        "metricName",
        "namespace",
        "authModes",
        "unsafeSsl",
        "customHeaders",
        "timeout",
        "ignoreNullValues",
    ]);
    let query = metadata.text("query")?.ok_or_else(|| Refusal::at(&metadata.path("query"), "missing"))?;
    let Some((metric, window_s)) = signals::by_query(&query) else {
        let example = signals::cluster_query(crate::autoscaler::signals::LoadMetric::default(), 60.0, false);
        let message = format!(
            "`{query}` found, which is not simulated; expected a sum of vLLM's or the gateway's metrics such as `{example}`"
        );
        return Err(Refusal::at(&metadata.path("query"), message));
    };
    let threshold =
        metadata.number("threshold")?.ok_or_else(|| Refusal::at(&metadata.path("threshold"), "missing"))?;
    let activation_threshold = metadata.number("activationThreshold")?.unwrap_or(0.0);
    metadata.finish()?;
    let default = MetricTarget::default();
    let (target_per_replica, target_value) = target(&kind, threshold, default.target_per_replica)
        .ok_or_else(|| {
            Refusal::at(
                &trigger.path("metricType"),
                format!("`{kind}` found, expected {}", quoted(&["AverageValue", "Value"])),
            )
        })?;
    Ok((
        Trigger {
            metric,
            trigger: name,
            target_per_replica,
            target_value,
            activation_threshold,
            outages: Vec::new(),
        },
        window_s,
    ))
}

/// A target per replica, or one of the whole beside a target per replica without effect.
fn target(kind: &str, target: f64, without_effect: f64) -> Option<(f64, Option<f64>)> {
    match kind {
        "AverageValue" => Some((target, None)),
        "Value" => Some((without_effect, Some(target))),
        _ => None,
    }
}

fn fallback_from(mut fields: Fields) -> Result<Fallback, Refusal> {
    let missing = |fields: &Fields, field: &str| Refusal::at(&fields.path(field), "missing");
    let failure_threshold =
        fields.count("failureThreshold")?.ok_or_else(|| missing(&fields, "failureThreshold"))?;
    let replicas = fields.count("replicas")?.ok_or_else(|| missing(&fields, "replicas"))?;
    let found = fields.text("behavior")?.unwrap_or_else(|| "static".into());
    let Some(&(_, behavior)) = BEHAVIORS.iter().find(|(name, _)| *name == found) else {
        let message =
            format!("`{found}` found, expected one of {}", quoted(&BEHAVIORS.map(|(name, _)| name)));
        return Err(Refusal::at(&fields.path("behavior"), message));
    };
    fields.finish()?;
    Ok(Fallback { failure_threshold, replicas, behavior })
}

fn modifiers_from(mut fields: Fields) -> Result<ScalingModifiers, Refusal> {
    let missing = |fields: &Fields, field: &str| Refusal::at(&fields.path(field), "missing");
    let formula = fields.text("formula")?.ok_or_else(|| missing(&fields, "formula"))?;
    let value = fields.number("target")?.ok_or_else(|| missing(&fields, "target"))?;
    let activation_threshold = fields.number("activationTarget")?.unwrap_or(0.0);
    let kind = fields.text("metricType")?.unwrap_or_else(|| "AverageValue".into());
    let (target_per_replica, target_value) = target(&kind, value, value).ok_or_else(|| {
        Refusal::at(
            &fields.path("metricType"),
            format!("`{kind}` found, expected {}", quoted(&["AverageValue", "Value"])),
        )
    })?;
    fields.finish()?;
    Ok(ScalingModifiers { formula, target_per_replica, target_value, activation_threshold })
}
