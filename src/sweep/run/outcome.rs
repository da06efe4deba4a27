//! How runs end, and the rows they are stored as.

use crate::hardware::Deployment;
use crate::simulation::{MetricValue, RunMetrics};
use crate::sweep::plan::cell::Cell;
use crate::sweep::plan::{Plan, SharedInputs};
use crate::sweep::tables::row::{DERIVED_COLUMNS, IDENTITY_COLUMNS, RunRow, Scalar, family_label};

/// How a run ended: a value for each of [`RunMetrics::names`], and after them those of its pools
/// ([`super::pools`]); or why it failed.
pub type Outcome = Result<Vec<MetricValue>, String>;

/// The row of the run at `place`, whose metrics bear `names`.
pub fn row_of(plan: &Plan, place: usize, names: &[String], outcome: Outcome) -> RunRow {
    let columns = outcome.map(|values| names.iter().cloned().zip(values).collect());
    row_with(plan, plan.run_id(place), &plan.cell(plan.unique()[place]), columns)
}

/// The row of a run: identity, settings, metrics.
pub fn row(plan: &Plan, cell: &Cell, outcome: Result<RunMetrics, String>) -> RunRow {
    row_with(plan, plan.id(cell), cell, outcome.map(|metrics| metrics.columns()))
}

/// A cell's settings as columns, the price that applies among them, and what follows from them.
pub(in crate::sweep) fn settings_of(inputs: &SharedInputs, cell: &Cell) -> Vec<(String, Scalar)> {
    let mut columns = cell.setting_columns();
    let deployments: Vec<_> = inputs.times(cell).iter().map(|times| &times.deployment).collect();
    // What is not the same in all pools is no column of the run.
    let common = |value: &dyn Fn(&Deployment) -> Scalar| {
        let first = value(deployments[0]);
        if deployments.iter().all(|deployment| value(deployment) == first) { first } else { Scalar::Null }
    };
    for (name, value) in &mut columns {
        if name == NODE_PRICE && *value == Scalar::Null {
            *value =
                common(&|deployment| deployment.node.price_usd_per_hour.map_or(Scalar::Null, Scalar::Float));
        }
    }
    let derived = [
        common(&|deployment| Scalar::Text(deployment.device.name.into())),
        common(&|deployment| Scalar::Int(deployment.node.devices_per_node.into())),
        common(&|deployment| Scalar::Int((deployment.tensor_parallel * deployment.pipeline_parallel).into())),
    ];
    columns.extend(DERIVED_COLUMNS.iter().map(|name| name.to_string()).zip(derived));
    columns
}

/// The column of the price of a node, the catalogue's where a cluster states none.
pub const NODE_PRICE: &str = "node_price_usd_per_hour";

fn row_with(
    plan: &Plan,
    id: String,
    cell: &Cell,
    outcome: Result<Vec<(String, MetricValue)>, String>,
) -> RunRow {
    let (status, error) = match &outcome {
        Ok(_) => ("ok", Scalar::Null),
        Err(message) => ("failed", Scalar::Text(message.clone())),
    };
    let text = |text: &str| Scalar::Text(text.into());
    let settings = RunRow { columns: settings_of(&plan.inputs, cell) };
    let groups: Vec<String> = plan.grid.objectives.group_by.iter().map(|name| settings.text(name)).collect();
    let family = family_label(&cell.family, &groups);
    let (workload, seed) = (Scalar::Text(cell.workload_name()), Scalar::Int(cell.seed as i64));
    let identity =
        [Scalar::Text(id), workload, seed, Scalar::Text(family), text(&cell.family), text(status), error];
    let mut columns: Vec<(String, Scalar)> =
        IDENTITY_COLUMNS.iter().map(|name| name.to_string()).zip(identity).collect();
    columns.extend(settings.columns);
    if let Ok(metrics) = outcome {
        columns.extend(metrics.into_iter().map(|(name, value)| (name, scalar(value))));
    }
    RunRow { columns }
}

pub(in crate::sweep) fn scalar(value: MetricValue) -> Scalar {
    match value {
        MetricValue::Count(count) => Scalar::Int(count as i64),
        MetricValue::Number(number) => Scalar::Float(number),
        MetricValue::Absent => Scalar::Null,
    }
}
