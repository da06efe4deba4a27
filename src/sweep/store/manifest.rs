//! What was run, with which versions: `manifest.json` beside the data. Clock readings live here and nowhere
//! else.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::RESULTS_VERSION;
use crate::autoscaler::upstream::PolicyRecord;
use crate::simulation::RunMetrics;
use crate::sweep::grid::axes::AxisSummary;
use crate::sweep::objectives::Objectives;
use crate::sweep::plan::{Plan, WorkloadSummary};
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::{DERIVED_COLUMNS, IDENTITY_COLUMNS};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub name: String,
    /// What the sweep is to find out, if its grid says.
    #[serde(default)]
    pub question: Option<String>,
    pub scalefront_version: String,
    /// See [`crate::RESULTS_VERSION`].
    pub results_version: u32,
    /// The command line that produced the results.
    pub command: String,
    /// Where the grid file was: traces and tables are looked for beside it.
    #[serde(default)]
    pub grid_file: String,
    /// The grid as given, axes and all.
    pub grid: serde_json::Value,
    /// See [`Plan::runs_hash`]; empty if an older version wrote this.
    #[serde(default)]
    pub runs_hash: String,
    /// The tables that are read again, by their names; none if an older version wrote this.
    #[serde(default)]
    pub tables: BTreeMap<String, Checksum>,
    pub objectives: Objectives,
    /// The axes found in the grid: path and values.
    pub axes: Vec<AxisSummary>,
    pub workloads: Vec<WorkloadSummary>,
    /// Names of the columns of `runs.parquet` that are settings, in their order; other numeric columns are
    /// metrics.
    pub setting_columns: Vec<String>,
    /// Where step times, memory and prices came from, a line each.
    pub hardware: Vec<String>,
    /// The program and version behind each family; none if an older version wrote this.
    #[serde(default)]
    pub policies: Vec<PolicyRecord>,
    pub runs_planned: usize,
    pub runs_ok: usize,
    pub runs_failed: usize,
    pub timings: Timings,
}

/// Those of a table's columns that are settings: neither identity, nor what follows from settings, nor
/// metrics.
pub fn setting_columns(columns: &[String]) -> Vec<String> {
    let metrics = RunMetrics::names();
    let other = |name: &str| IDENTITY_COLUMNS.contains(&name) || DERIVED_COLUMNS.contains(&name);
    columns.iter().filter(|name| !other(name) && !metrics.contains(name)).cloned().collect()
}

impl Manifest {
    /// The account of a finished sweep, of whose runs `runs_failed` failed and whose table has `columns`;
    /// `tables` are those stored.
    pub fn new(
        plan: &Plan,
        columns: &[String],
        runs_failed: usize,
        tables: BTreeMap<String, Checksum>,
        command: String,
        timings: Timings,
    ) -> Self {
        let runs_planned = plan.unique().len();
        Self {
            name: plan.grid.name.clone(),
            question: plan.grid.question.clone(),
            scalefront_version: env!("CARGO_PKG_VERSION").into(),
            results_version: RESULTS_VERSION,
            command,
            grid_file: plan.grid.source.file.clone(),
            grid: plan.grid.as_given.clone(),
            runs_hash: plan.runs_hash.clone(),
            tables,
            objectives: plan.grid.objectives.clone(),
            axes: plan.grid.axes(),
            workloads: plan.inputs.workloads.iter().map(|workload| workload.summary.clone()).collect(),
            setting_columns: setting_columns(columns),
            hardware: plan.provenance(),
            policies: plan.policies(),
            runs_planned,
            runs_ok: runs_planned - runs_failed,
            runs_failed,
            timings,
        }
    }
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Timings {
    pub threads: usize,
    pub wall_s: f64,
    pub runs_per_s: f64,
    pub requests_per_s: f64,
    pub finished_at: String,
    /// Runs that were simulated once more for curves that had not been kept, and the time that took; not part
    /// of `wall_s`.
    #[serde(default)]
    pub curves: usize,
    #[serde(default)]
    pub curves_s: f64,
    /// Runs that tested how robust the verdict is, and the time that took; not part of `wall_s`.
    #[serde(default)]
    pub trials: usize,
    #[serde(default)]
    pub trials_s: f64,
}
