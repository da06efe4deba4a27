//! Ray Serve's `autoscaling_config`.

use serde_json::{Value, json};

use super::reading::{Fields, Imported, Refusal};
use super::{Notes, Subject, object};
use crate::autoscaler::{RayAggregation, RayServeSettings};

const KEY: &str = "autoscaling_config";

pub(super) fn export(settings: &RayServeSettings, subject: &Subject, notes: &mut Notes) -> Value {
    let default = RayServeSettings::default();
    let aggregation = match settings.aggregation_function {
        RayAggregation::Mean => "mean",
        RayAggregation::Max => "max",
        RayAggregation::Min => "min",
    };
    notes.elsewhere(
        "control_loop_interval_s",
        settings.control_loop_interval_s,
        default.control_loop_interval_s,
        "environment variable RAY_SERVE_CONTROL_LOOP_INTERVAL_S",
    );
    match settings.sample_interval_s {
        None => notes.cannot_say("`sample_interval_s`: a fifth of `look_back_period_s`, Ray's default"),
        Some(interval_s) => notes.cannot_say(format!(
            "`sample_interval_s` {interval_s}: environment variable RAY_SERVE_AUTOSCALING_METRIC_RECORD_INTERVAL_FACTOR={}, times \
             `look_back_period_s`",
            interval_s / settings.look_back_period_s
        )),
    }
    notes.need("nothing from Prometheus: handles count ongoing requests themselves");
    notes.need("its place: `autoscaling_config` of the deployment in a Serve config, or of `deployment_config` in an LLMConfig");
    json!({ KEY: object([
        ("min_replicas", Some(subject.cluster.min_replicas.into())),
        ("initial_replicas", Some(subject.cluster.initial_replicas.into())),
        ("max_replicas", Some(subject.cluster.max_replicas.into())),
        ("target_ongoing_requests", Some(settings.target_per_replica.into())),
        ("metrics_interval_s", Some(settings.metrics_interval_s.into())),
        ("look_back_period_s", Some(settings.look_back_period_s.into())),
        ("aggregation_function", Some(aggregation.into())),
        ("upscale_delay_s", Some(settings.upscale_delay_s.into())),
        ("downscale_delay_s", Some(settings.downscale_delay_s.into())),
        ("downscale_to_zero_delay_s", settings.downscale_to_zero_delay_s.map(Value::from)),
        ("upscaling_factor", Some(settings.upscaling_factor.into())),
        ("downscaling_factor", Some(settings.downscaling_factor.into())),
    ]) })
}

/// Every `autoscaling_config` in a file, with its path; or the file itself, if it is one.
pub(super) fn find(root: &Value) -> Option<Vec<(String, &Value)>> {
    if root.get("target_ongoing_requests").is_some() {
        return Some(vec![(String::new(), root)]);
    }
    let mut found = Vec::new();
    search(root, "", &mut found);
    (!found.is_empty()).then_some(found)
}

fn search<'a>(value: &'a Value, path: &str, found: &mut Vec<(String, &'a Value)>) {
    match value {
        Value::Object(members) => {
            for (key, value) in members {
                let path = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
                if key == KEY { found.push((path, value)) } else { search(value, &path, found) }
            }
        }
        Value::Array(values) => {
            values.iter().enumerate().for_each(|(i, value)| search(value, &format!("{path}[{i}]"), found))
        }
        _ => {}
    }
}

/// Reads the only `autoscaling_config` of a file.
pub(super) fn import(root: &Value) -> Result<Imported, Refusal> {
    let found = find(root).unwrap_or_default();
    let [(path, config)] = &found[..] else {
        let paths: Vec<&str> = found.iter().map(|(path, _)| path.as_str()).collect();
        return Err(Refusal::at(
            "",
            format!("{} found, expected one `{KEY}`", crate::settings::quoted(&paths)),
        ));
    };
    let mut config = Fields::of(config, path)?;
    let mut settings = RayServeSettings::default();
    let mut number = |field: &str, into: &mut f64| {
        *into = config.number(field)?.unwrap_or(*into);
        Ok::<(), Refusal>(())
    };
    number("target_ongoing_requests", &mut settings.target_per_replica)?;
    number("metrics_interval_s", &mut settings.metrics_interval_s)?;
    number("look_back_period_s", &mut settings.look_back_period_s)?;
    number("upscale_delay_s", &mut settings.upscale_delay_s)?;
    number("downscale_delay_s", &mut settings.downscale_delay_s)?;
    number("upscaling_factor", &mut settings.upscaling_factor)?;
    number("downscaling_factor", &mut settings.downscaling_factor)?;
    settings.downscale_to_zero_delay_s = config.number("downscale_to_zero_delay_s")?;
    settings.aggregation_function = match config.text("aggregation_function")?.as_deref() {
        None | Some("mean") => RayAggregation::Mean,
        Some("max") => RayAggregation::Max,
        Some("min") => RayAggregation::Min,
        Some(other) => {
            let message = format!("`{other}` found, expected `mean`, `max` or `min`");
            return Err(Refusal::at(&config.path("aggregation_function"), message));
        }
    };
    let min_replicas = config.count("min_replicas")?.unwrap_or(1);
    let max_replicas = config.count("max_replicas")?.unwrap_or(1);
    let initial_replicas = config.count("initial_replicas")?.unwrap_or(min_replicas);
    config.finish()?;
    Ok(Imported {
        policy: "ray_serve",
        settings: json!(settings),
        min_replicas: Some(min_replicas),
        max_replicas: Some(max_replicas),
        initial_replicas: Some(initial_replicas),
    })
}
