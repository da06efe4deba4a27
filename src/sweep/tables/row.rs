//! One row a run: what identifies it, every setting, every metric.

use serde::{Deserialize, Serialize};

/// A value of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// The columns every row begins with; see [`RunRow`].
pub const IDENTITY_COLUMNS: [&str; 7] = ["run_id", "workload", "seed", "family", "policy", "status", "error"];

/// What follows from a run's settings, and stands behind them: the device of its node, devices of a node and
/// of a replica.
pub const DERIVED_COLUMNS: [&str; 3] = ["device", "devices_per_node", "devices_per_replica"];

/// A policy family as tables and figures name it: the policy, and what else tells families apart where a run
/// has it.
pub fn family_label(policy: &str, groups: &[String]) -> String {
    let parts = std::iter::once(policy).chain(groups.iter().map(String::as_str));
    parts.filter(|part| !part.is_empty()).collect::<Vec<_>>().join(" / ")
}

/// A run as it is stored: named values in a fixed order.
///
/// First `run_id` (text), `workload` (text), `seed` (int), `family` (text, see [`family_label`]), `policy`
/// (text: the autoscaler's label or kind), `status` (`ok` or `failed`), `error` (text or null); then settings
/// and what follows from them; then metrics (null when failed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub columns: Vec<(String, Scalar)>,
}

impl Scalar {
    /// Empty for null.
    pub fn text(&self) -> String {
        match self {
            Self::Null => String::new(),
            Self::Bool(value) => value.to_string(),
            Self::Int(value) => value.to_string(),
            Self::Float(value) => value.to_string(),
            Self::Text(value) => value.clone(),
        }
    }
}

impl RunRow {
    pub fn get(&self, name: &str) -> Option<&Scalar> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, value)| value)
    }

    /// The value of a column as text; empty for none.
    pub fn text(&self, name: &str) -> String {
        self.get(name).map(Scalar::text).unwrap_or_default()
    }

    /// As a flat object. Numbers that JSON does not have are null.
    pub fn to_json(&self) -> serde_json::Value {
        let value = |scalar: &Scalar| match scalar {
            Scalar::Null => serde_json::Value::Null,
            Scalar::Bool(boolean) => (*boolean).into(),
            Scalar::Int(integer) => (*integer).into(),
            Scalar::Float(number) => (*number).into(),
            Scalar::Text(text) => text.as_str().into(),
        };
        serde_json::Value::Object(
            self.columns.iter().map(|(name, scalar)| (name.clone(), value(scalar))).collect(),
        )
    }
}

/// A named curve of one run, for plots: `num_replicas`, `num_draining` (steps over `x` = time in s), of a
/// fleet `num_replicas[NAME]` for each pool, `queue_length` and `arrival_rate_per_s` (means over equal bins
/// of time, at bin starts), and the distribution of a quantity of requests, such as `ttft_cdf` (x = latency
/// in s, y = fraction of requests). Steps end where the run does.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: String,
    pub points: Vec<(f64, f64)>,
}

/// The curves of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSeries {
    pub run_id: String,
    pub series: Vec<Series>,
}
