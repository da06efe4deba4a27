//! One cell of a grid: everything a run is told, its id, and its settings as columns.

use serde_json::{Value, json};

use crate::RESULTS_VERSION;
use crate::autoscaler::AutoscalerSettings;
use crate::simulation::ClusterSettings;
use crate::sweep::tables::row::Scalar;
use crate::sweep::tables::settings::{flatten, flattened_cluster, workload_columns, workload_name};
use crate::workload::{self, WorkloadSpec};

/// Cluster settings that only matter where replicas are started or drained.
const SCALING: &[&str] = &[
    "initial_replicas",
    "min_replicas",
    "max_replicas",
    "tune_interval_s",
    "scale_up_delay_s",
    "cold_start",
    "scale_down_delay_s",
    "scale_down_order",
    "scale_down_choice",
];

/// Hexadecimal digits of a [`Cell::id`].
const ID_DIGITS: usize = 16;

#[derive(Debug, Clone, PartialEq)]
pub struct Cell {
    /// Place in the expanded grid: the order of rows.
    pub index: u64,
    pub workload: WorkloadSpec,
    /// The workload's settings that are axes of the grid: path such as
    /// `generate.arrivals.poisson.rate_per_s`, and value.
    pub workload_varies: Vec<(String, Value)>,
    /// Which of [`super::SharedInputs::workloads`] it runs.
    pub workload_input: usize,
    /// Which of [`super::SharedInputs::hardware`] it runs on: one, or one for each pool.
    pub hardware_inputs: Box<[usize]>,
    pub seed: u64,
    pub cluster: ClusterSettings,
    pub autoscaler: AutoscalerSettings,
    /// The autoscaler's label or kind.
    pub family: String,
}

impl Cell {
    /// The workload as rows name it.
    pub fn workload_name(&self) -> String {
        workload_name(&self.workload.name, &self.workload_varies)
    }

    /// Whether another seed can give other results: other traffic, or other draws within the cluster.
    pub fn depends_on_seed(&self) -> bool {
        workload::depends_on_seed(&self.workload) || self.cluster.draws()
    }

    /// Cluster and autoscaler as the file would have to spell them, defaults included, settings without
    /// effect left out.
    fn resolved(&self) -> (Value, Value) {
        let mut cluster = json!(self.cluster);
        if is_fixed(&self.autoscaler) && !self.cluster.has_failures() {
            without_scaling(&mut cluster);
        }
        (cluster, json!(self.autoscaler))
    }

    /// What tells this run from all others: the first digits of the BLAKE3 of its canonical JSON (keys
    /// sorted, no spaces), which holds resolved settings, the content of workload and hardware tables (not
    /// only where they came from), the seed (if anything depends on it), the names its row is grouped by, and
    /// the results version.
    pub fn id(&self, workload_fingerprint: &str, hardware_fingerprint: &str) -> String {
        let parts = IdParts {
            workload: &WorkloadPart::of(&self.workload, &self.workload_varies),
            workload_fingerprint,
            seed: self.seed,
            cluster: &ClusterPart::of(&self.cluster),
            hardware_fingerprint,
            autoscaler: &AutoscalerPart::of(&self.autoscaler, &self.family),
        };
        id_text(parts.id())
    }

    /// Every setting, as columns of a row; see [`settings`](crate::sweep::tables::settings).
    pub fn setting_columns(&self) -> Vec<(String, Scalar)> {
        let (cluster, autoscaler) = self.resolved();
        let mut columns = flattened_cluster(cluster);
        flatten("autoscaler", &autoscaler, &mut columns);
        columns.extend(workload_columns(&self.workload_varies));
        columns
    }
}

/// An id as rows show it.
pub fn id_text(id: u64) -> String {
    format!("{id:0ID_DIGITS$x}")
}

/// Whether the number of replicas never changes by a decision.
fn is_fixed(autoscaler: &AutoscalerSettings) -> bool {
    matches!(autoscaler, AutoscalerSettings::Static(_))
}

fn without_scaling(cluster: &mut Value) {
    if let Value::Object(members) = cluster {
        members.retain(|name, _| !SCALING.contains(&name.as_str()));
    }
}

/// Keys sorted, no spaces.
fn canonical(mut value: Value) -> String {
    value.sort_all_objects();
    value.to_string()
}

/// What an id says of a workload; cells that share it need it once.
#[derive(Debug, Clone)]
pub struct WorkloadPart {
    name: String,
    depends_on_seed: bool,
}

/// What an id says of a cluster.
#[derive(Debug, Clone)]
pub struct ClusterPart {
    all: String,
    /// Without what only matters where replicas are started or drained.
    fixed: String,
    draws: bool,
}

/// What an id says of an autoscaler.
#[derive(Debug, Clone)]
pub struct AutoscalerPart {
    settings: String,
    family: String,
    is_fixed: bool,
}

impl WorkloadPart {
    pub fn of(spec: &WorkloadSpec, varies: &[(String, Value)]) -> Self {
        Self {
            name: json!(workload_name(&spec.name, varies)).to_string(),
            depends_on_seed: workload::depends_on_seed(spec),
        }
    }
}

impl ClusterPart {
    pub fn of(cluster: &ClusterSettings) -> Self {
        let all = json!(cluster);
        let mut fixed = all.clone();
        if !cluster.has_failures() {
            without_scaling(&mut fixed);
        }
        Self { all: canonical(all), fixed: canonical(fixed), draws: cluster.draws() }
    }
}

impl AutoscalerPart {
    pub fn of(settings: &AutoscalerSettings, family: &str) -> Self {
        Self {
            settings: canonical(json!(settings)),
            family: json!(family).to_string(),
            is_fixed: is_fixed(settings),
        }
    }
}

/// A cell, as far as its id is concerned.
pub struct IdParts<'a> {
    pub workload: &'a WorkloadPart,
    pub workload_fingerprint: &'a str,
    pub seed: u64,
    pub cluster: &'a ClusterPart,
    pub hardware_fingerprint: &'a str,
    pub autoscaler: &'a AutoscalerPart,
}

impl IdParts<'_> {
    /// See [`Cell::depends_on_seed`].
    pub fn depends_on_seed(&self) -> bool {
        self.workload.depends_on_seed || self.cluster.draws
    }

    /// The id as a number.
    pub fn id(&self) -> u64 {
        let cluster = if self.autoscaler.is_fixed { &self.cluster.fixed } else { &self.cluster.all };
        let seed = if self.depends_on_seed() { self.seed.to_string() } else { "null".into() };
        let AutoscalerPart { settings, family, .. } = self.autoscaler;
        let (hardware, workload, name) =
            (self.hardware_fingerprint, self.workload_fingerprint, &self.workload.name);
        let identity = format!(
            r#"{{"autoscaler":{settings},"cluster":{cluster},"family":{family},"hardware":"{hardware}","results_version":{RESULTS_VERSION},"seed":{seed},"workload":"{workload}","workload_name":{name}}}"#
        );
        let hash = blake3::hash(identity.as_bytes());
        let (first, _) = hash.as_bytes().split_first_chunk().expect("a hash is longer than 8 bytes");
        u64::from_be_bytes(*first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cell(cluster: Value, autoscaler: Value) -> Cell {
        Cell {
            index: 0,
            workload: WorkloadSpec {
                name: "w".into(),
                generate: None,
                trace: None,
                sessions: None,
                mix: Vec::new(),
                outputs: None,
                priorities: Vec::new(),
            },
            workload_varies: Vec::new(),
            workload_input: 0,
            hardware_inputs: [0].into(),
            seed: 1,
            cluster: serde_json::from_value(cluster).unwrap(),
            autoscaler: serde_json::from_value(autoscaler).unwrap(),
            family: "f".into(),
        }
    }

    #[test]
    fn settings_become_columns() {
        let cell = cell(
            json!({"replica_scheduler": {"vllm": {"batch_size_cap": 16}}, "execution_time": {"profile": {"attention": "lab_fit"}}}),
            json!({"inferline": {"look_back_s": {"up": 40, "down": 80}}}),
        );
        let columns = cell.setting_columns();
        let get =
            |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, value)| value.clone());
        assert_eq!(get("model"), Some(Scalar::Text("meta-llama/Meta-Llama-3-70B".into())));
        assert_eq!(get("node_price_usd_per_hour"), Some(Scalar::Null));
        assert_eq!(get("tensor_parallel"), Some(Scalar::Int(4)));
        assert_eq!(get("tune_interval_s"), Some(Scalar::Float(5.0)));
        assert_eq!(get("execution_time"), Some(Scalar::Text("profile".into())));
        assert_eq!(get("execution_time.attention"), Some(Scalar::Text("lab_fit".into())));
        assert_eq!(get("global_scheduler"), Some(Scalar::Text("round_robin".into())));
        assert_eq!(get("replica_scheduler.batch_size_cap"), Some(Scalar::Int(16)));
        assert_eq!(get("autoscaler"), Some(Scalar::Text("inferline".into())));
        assert_eq!(get("autoscaler.look_back_s.up"), Some(Scalar::Float(40.0)));
        assert_eq!(get("autoscaler.min_window_s"), Some(Scalar::Float(20.0)));
        assert_eq!(get("autoscaler.look_back_s"), None);
    }

    #[test]
    fn ids_tell_what_matters_and_nothing_else() {
        let inferline = |cluster| cell(cluster, json!("inferline")).id("content", "tables");
        let fixed = |cluster| cell(cluster, json!({"static": {"replicas": 4}})).id("content", "tables");
        assert_eq!(inferline(json!({})), inferline(json!({"tune_interval_s": 5, "max_replicas": 64})));
        assert_ne!(inferline(json!({})), inferline(json!({"tune_interval_s": 6})));
        assert_eq!(
            fixed(json!({})),
            fixed(json!({"tune_interval_s": 6, "initial_replicas": 3, "scale_up_delay_s": 99}))
        );
        assert_ne!(fixed(json!({})), fixed(json!({"global_scheduler": "least_outstanding"})));
        let one = cell(json!({}), json!("inferline"));
        assert_ne!(one.id("content", "tables"), one.id("other content", "tables"));
        assert_ne!(one.id("content", "tables"), one.id("content", "other tables"));
        assert_eq!(one.id("content", "tables").len(), ID_DIGITS);
        // No part of it depends on the seed here, so a run is the same under every seed.
        assert_eq!(one.id("content", "tables"), Cell { seed: 2, ..one.clone() }.id("content", "tables"));
        // Where the cluster draws, it is another one, whatever the traffic.
        let drawing = cell(json!({"cold_start": {"spread_s": 1}}), json!("inferline"));
        assert_ne!(
            drawing.id("content", "tables"),
            Cell { seed: 2, ..drawing.clone() }.id("content", "tables")
        );
        assert_ne!(
            one.id("content", "tables"),
            Cell { family: "g".into(), ..one.clone() }.id("content", "tables")
        );
    }

    #[test]
    fn traffic_that_varies_is_named_apart() {
        let mut cell = cell(json!({}), json!("inferline"));
        assert_eq!(cell.workload_name(), "w");
        cell.workload_varies = vec![
            ("generate.arrivals.poisson.rate_per_s".into(), json!(20)),
            ("trace.format".into(), json!("azure")),
        ];
        assert_eq!(cell.workload_name(), "w (rate_per_s=20, format=azure)");
        let columns = cell.setting_columns();
        assert_eq!(
            columns[columns.len() - 2],
            ("workload.generate.arrivals.poisson.rate_per_s".into(), Scalar::Int(20))
        );
    }
}
