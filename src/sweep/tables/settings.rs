//! Settings as columns of a row: those of a cluster bear their own names, a choice is a column with the
//! choice's name and one for each of its settings (`autoscaler` = `inferline`, `autoscaler.look_back_s` = 80),
//! a workload's are there if they are axes.

use serde_json::{Map, Value, json};

use super::row::Scalar;
use crate::autoscaler::AutoscalerSettings;
use crate::simulation::ClusterSettings;

/// The settings of a cluster as columns, all of them.
pub fn cluster_columns(cluster: &ClusterSettings) -> Vec<(String, Scalar)> {
    flattened_cluster(json!(cluster))
}

/// What is given of a cluster's settings as columns.
pub fn flattened_cluster(cluster: Value) -> Vec<(String, Scalar)> {
    let mut columns = Vec::new();
    if let Value::Object(members) = cluster {
        for (name, value) in &members {
            match value {
                Value::Array(pools) if name == "pools" => {
                    pools.iter().for_each(|pool| flatten_pool(pool, &mut columns))
                }
                value => flatten(name, value, &mut columns),
            }
        }
    }
    columns
}

/// What a pool states, as columns such as `pools[decode].max_replicas`.
fn flatten_pool(pool: &Value, columns: &mut Vec<(String, Scalar)>) {
    let name = pool["name"].as_str().unwrap_or_default();
    for (field, value) in pool.as_object().into_iter().flatten().filter(|(field, _)| *field != "name") {
        flatten(&format!("pools[{name}].{field}"), value, columns);
    }
}

/// The settings of an autoscaler as columns.
pub fn autoscaler_columns(autoscaler: &AutoscalerSettings) -> Vec<(String, Scalar)> {
    let mut columns = Vec::new();
    flatten("autoscaler", &json!(autoscaler), &mut columns);
    columns
}

/// What of a workload are axes, as columns.
pub fn workload_columns(varies: &[(String, Value)]) -> Vec<(String, Scalar)> {
    let mut columns = Vec::new();
    varies.iter().for_each(|(path, value)| flatten(&format!("workload.{path}"), value, &mut columns));
    columns
}

/// Traffic that differs bears names that differ, such as `steps (rate_per_s=20)`: what `varies` is part of
/// the name.
pub fn workload_name(name: &str, varies: &[(String, Value)]) -> String {
    if varies.is_empty() {
        return name.into();
    }
    let varies: Vec<_> =
        varies.iter().map(|(path, value)| format!("{}={}", last_field(path), plain(value))).collect();
    format!("{name} ({})", varies.join(", "))
}

/// A setting as columns: a choice is one with the choice's name, and one for each of its settings.
pub fn flatten(name: &str, value: &Value, columns: &mut Vec<(String, Scalar)>) {
    match value {
        Value::Object(members) => match choice(members) {
            Some((choice, settings)) => {
                columns.push((name.into(), Scalar::Text(choice.clone())));
                settings
                    .iter()
                    .for_each(|(field, value)| flatten(&format!("{name}.{field}"), value, columns));
            }
            None => {
                members.iter().for_each(|(field, value)| flatten(&format!("{name}.{field}"), value, columns))
            }
        },
        scalar => columns.push((name.into(), to_scalar(scalar))),
    }
}

/// A choice serialises as an object of one name and its settings.
fn choice(members: &Map<String, Value>) -> Option<(&String, &Map<String, Value>)> {
    let (name, settings) = members.iter().next()?;
    (members.len() == 1).then_some((name, settings.as_object()?))
}

fn to_scalar(value: &Value) -> Scalar {
    match value {
        Value::Null => Scalar::Null,
        Value::Bool(boolean) => Scalar::Bool(*boolean),
        Value::Number(number) => match number.as_i64() {
            Some(integer) => Scalar::Int(integer),
            None => Scalar::Float(number.as_f64().unwrap_or(f64::NAN)),
        },
        Value::String(text) => Scalar::Text(text.clone()),
        other => Scalar::Text(other.to_string()),
    }
}

fn last_field(path: &str) -> &str {
    path.rsplit_once('.').map_or(path, |(_, field)| field)
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}
