//! Annotations of a Knative Service, `serving.knative.dev/v1`.

use serde_json::{Map, Value, json};

use super::reading::{Fields, Imported, Refusal};
use super::signals::duration_s;
use super::{Notes, Subject, plain};
use crate::autoscaler::{KnativeKpaSettings, KpaMetric};

const PREFIX: &str = "autoscaling.knative.dev/";
const CLASS: &str = "kpa.autoscaling.knative.dev";

/// What annotations may be, as the program's own check has it (`pkg/apis/autoscaling`, 1.23): a Service with
/// others is refused.
const WINDOW_S: (f64, f64) = (6.0, 3600.0);
const DELAY_S: (f64, f64) = (0.0, 3600.0);
const PANIC_THRESHOLD_PERCENT: (f64, f64) = (110.0, 1000.0);
const TARGET: (f64, f64) = (0.01, f64::INFINITY);
const LEAST_ACTIVATION_SCALE: u32 = 2;

/// The nearest value that an annotation takes; said where it is another.
fn fitted(notes: &mut Notes, field: &str, value: f64, (least, most): (f64, f64)) -> f64 {
    let fitted = value.clamp(least, most);
    if fitted != value {
        let range = if most.is_finite() { format!("{least} to {most}") } else { format!("at least {least}") };
        notes.cannot_say(format!("`{field}` {value}: an annotation takes {range}; {fitted} stands there"));
    }
    fitted
}

/// The same of a time, whole seconds alone.
fn fitted_s(notes: &mut Notes, field: &str, value_s: f64, (least, most): (f64, f64)) -> String {
    let fitted = value_s.round().clamp(least, most);
    if fitted != value_s {
        notes.cannot_say(format!(
            "`{field}` {value_s}: an annotation takes {least} to {most} s, whole ones; {fitted} stands there"
        ));
    }
    seconds(fitted)
}

pub(super) fn export(settings: &KnativeKpaSettings, subject: &Subject, notes: &mut Notes) -> Value {
    let default = KnativeKpaSettings::default();
    let mut annotations = Map::new();
    let mut annotate =
        |name: &str, value: String| annotations.insert(format!("{PREFIX}{name}"), value.into());
    annotate("class", CLASS.into());
    annotate(
        "metric",
        match settings.metric {
            KpaMetric::Concurrency => "concurrency",
            KpaMetric::RequestsPerS => "rps",
        }
        .into(),
    );
    if let Some(target) = settings.target_per_replica {
        annotate("target", plain(fitted(notes, "target_per_replica", target, TARGET)));
    }
    annotate("target-utilization-percentage", plain(settings.target_utilization_percent));
    annotate("window", fitted_s(notes, "stable_window_s", settings.stable_window_s, WINDOW_S));
    annotate("panic-window-percentage", plain(settings.panic_window_percent));
    let threshold =
        fitted(notes, "panic_threshold_percent", settings.panic_threshold_percent, PANIC_THRESHOLD_PERCENT);
    annotate("panic-threshold-percentage", plain(threshold));
    annotate("min-scale", subject.cluster.min_replicas.to_string());
    annotate("max-scale", subject.cluster.max_replicas.to_string());
    annotate("initial-scale", subject.cluster.initial_replicas.to_string());
    annotate("scale-down-delay", fitted_s(notes, "scale_down_delay_s", settings.scale_down_delay_s, DELAY_S));
    if settings.activation_scale != default.activation_scale {
        let (least, most) =
            (LEAST_ACTIVATION_SCALE.max(subject.cluster.min_replicas), subject.cluster.max_replicas);
        if least <= most {
            let scale = fitted(
                notes,
                "activation_scale",
                settings.activation_scale.into(),
                (least.into(), most.into()),
            );
            annotate("activation-scale", plain(scale));
        } else {
            notes.cannot_say(format!(
                "`activation_scale` {}: an annotation takes {least} and more, and `max-scale` less",
                settings.activation_scale
            ));
        }
    }
    if settings.scale_to_zero_retention_s != default.scale_to_zero_retention_s {
        let retention =
            fitted_s(notes, "scale_to_zero_retention_s", settings.scale_to_zero_retention_s, DELAY_S);
        annotate("scale-to-zero-pod-retention-period", retention);
    }
    annotate("target-burst-capacity", plain(settings.target_burst_capacity));
    if settings.weighted_window {
        notes.cannot_say("`weighted_window`: `autoscaling.knative.dev/metric-aggregation-algorithm`, which is no public annotation");
    }
    let map = |key: &str| format!("ConfigMap config-autoscaler of all revisions, `{key}`");
    notes.elsewhere(
        "max_scale_up_rate",
        settings.max_scale_up_rate,
        default.max_scale_up_rate,
        &map("max-scale-up-rate"),
    );
    notes.elsewhere(
        "max_scale_down_rate",
        settings.max_scale_down_rate,
        default.max_scale_down_rate,
        &map("max-scale-down-rate"),
    );
    notes.elsewhere(
        "scale_to_zero_grace_period_s",
        settings.scale_to_zero_grace_period_s,
        default.scale_to_zero_grace_period_s,
        &map("scale-to-zero-grace-period"),
    );
    notes.elsewhere(
        "tick_interval_s",
        settings.tick_interval_s,
        default.tick_interval_s,
        "a constant of the program",
    );
    notes.elsewhere(
        "scrape_interval_s",
        settings.scrape_interval_s,
        default.scrape_interval_s,
        "a constant of the program",
    );
    if subject.cluster.min_replicas == 0 {
        notes.need("`enable-scale-to-zero` in ConfigMap config-autoscaler, which is so by default");
    }
    if subject.cluster.initial_replicas == 0 {
        notes.need("`allow-zero-initial-scale` in ConfigMap config-autoscaler, which is not so by default");
    }
    notes.need("the container of the model server in the place of the image");
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": subject.name},
        "spec": {"template": {
            "metadata": {"annotations": annotations},
            "spec": {"containers": [{"image": "vllm/vllm-openai"}]},
        }},
    })
}

/// As Go spells durations.
fn seconds(s: f64) -> String {
    format!("{s}s")
}

/// Reads the annotations of a Service, a Configuration or a Revision.
pub(super) fn import(root: &Value) -> Result<Imported, Refusal> {
    let of_revision = root.get("kind").and_then(Value::as_str) == Some("Revision");
    let path = if of_revision { "metadata.annotations" } else { "spec.template.metadata.annotations" };
    let found = path.split('.').try_fold(root, |value, field| value.get(field));
    let mut annotations =
        found.map_or_else(|| Fields::of(&json!({}), path), |found| Fields::of(found, path))?;
    let others: Vec<String> =
        annotations.names().filter(|name| !name.starts_with(PREFIX)).map(str::to_owned).collect();
    annotations.ignore(&others.iter().map(String::as_str).collect::<Vec<_>>());
    let mut settings = KnativeKpaSettings::default();
    let name = |name: &str| format!("{PREFIX}{name}");
    let class = annotations.text(&name("class"))?.unwrap_or_else(|| CLASS.into());
    if class != CLASS {
        return Err(Refusal::at(
            &annotations.path(&name("class")),
            format!("`{class}` found, which is not simulated; expected `{CLASS}`"),
        ));
    }
    settings.metric = match annotations.text(&name("metric"))?.as_deref() {
        None | Some("concurrency") => KpaMetric::Concurrency,
        Some("rps") => KpaMetric::RequestsPerS,
        Some(other) => {
            let message = format!("`{other}` found, which is not simulated; expected `concurrency` or `rps`");
            return Err(Refusal::at(&annotations.path(&name("metric")), message));
        }
    };
    settings.target_per_replica = annotations.number(&name("target"))?;
    let mut number = |field: &str, into: &mut f64| {
        *into = annotations.number(&name(field))?.unwrap_or(*into);
        Ok::<(), Refusal>(())
    };
    number("target-utilization-percentage", &mut settings.target_utilization_percent)?;
    number("panic-window-percentage", &mut settings.panic_window_percent)?;
    number("panic-threshold-percentage", &mut settings.panic_threshold_percent)?;
    number("target-burst-capacity", &mut settings.target_burst_capacity)?;
    let mut duration = |field: &str, into: &mut f64| {
        if let Some(text) = annotations.text(&name(field))? {
            let message = || format!("`{text}` found, expected a duration such as `90s` or `1m30s`");
            *into =
                duration_s(&text).ok_or_else(|| Refusal::at(&annotations.path(&name(field)), message()))?;
        }
        Ok::<(), Refusal>(())
    };
    duration("window", &mut settings.stable_window_s)?;
    duration("scale-down-delay", &mut settings.scale_down_delay_s)?;
    duration("scale-to-zero-pod-retention-period", &mut settings.scale_to_zero_retention_s)?;
    settings.activation_scale =
        annotations.count(&name("activation-scale"))?.unwrap_or(settings.activation_scale);
    // Older releases wrote these as one word.
    let mut scale = |new: &str, old: &str| {
        Ok::<_, Refusal>(annotations.count(&name(new))?.or(annotations.count(&name(old))?))
    };
    // No max-scale, or 0, is without a limit: the grid's holds.
    let min_replicas = scale("min-scale", "minScale")?.or(Some(0));
    let max_replicas = scale("max-scale", "maxScale")?.filter(|most| *most > 0);
    let initial_replicas = scale("initial-scale", "initialScale")?;
    annotations.finish()?;
    let hard = root
        .pointer("/spec/template/spec/containerConcurrency")
        .and_then(Value::as_f64)
        .filter(|limit| *limit > 0.0);
    if hard.is_some() {
        let message =
            "found, a hard limit that is not simulated; expected a soft one, the annotation `target`";
        return Err(Refusal::at("spec.template.spec.containerConcurrency", message));
    }
    Ok(Imported {
        policy: "knative_kpa",
        settings: json!(settings),
        min_replicas,
        max_replicas,
        initial_replicas,
    })
}
