//! One row a run: what identifies it, every setting, every metric.

use serde::{Deserialize, Serialize};

/// A value of a row. Columns are typed by their values; a column without any value is text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Scalar {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// The columns every row begins with; see [`RunRow`].
pub const IDENTITY_COLUMNS: [&str; 6] = ["run_id", "workload", "seed", "family", "status", "error"];

/// A run as it is stored: named values in a fixed order.
///
/// First `run_id` (text), `workload` (text), `seed` (int), `family` (text), `status` (`ok` or `failed`), `error` (text or null);
/// then settings; then metrics (null when failed).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunRow {
    pub columns: Vec<(String, Scalar)>,
}

impl RunRow {
    pub fn get(&self, name: &str) -> Option<&Scalar> {
        self.columns.iter().find(|(column, _)| column == name).map(|(_, value)| value)
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
        serde_json::Value::Object(self.columns.iter().map(|(name, scalar)| (name.clone(), value(scalar))).collect())
    }
}

/// A named curve of one run, for plots: `num_replicas`, `num_draining` (steps over `x` = time in s), `queue_length` and
/// `arrival_rate_per_s` (means over equal bins of time, at bin starts), `e2e_cdf` (x = latency in s, y = fraction of requests).
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    pub name: &'static str,
    pub points: Vec<(f64, f64)>,
}

/// The curves of one run.
#[derive(Debug, Clone, PartialEq)]
pub struct RunSeries {
    pub run_id: String,
    pub series: Vec<Series>,
}
