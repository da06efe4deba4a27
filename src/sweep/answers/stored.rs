//! What a results directory was made from: its plan again, and its runs by their ids.

use std::path::Path;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::Value;

use crate::RESULTS_VERSION;
use crate::files::shell_word;
use crate::sweep::grid::Grid;
use crate::sweep::plan::Plan;
use crate::sweep::plan::cell::Cell;
use crate::sweep::store::{MANIFEST, read_manifest};

/// The plan of a finished sweep, or of a search that left a recommendation.
///
/// Errors: the directory holds neither, or that of another version, or what the grid names is no longer
/// there.
pub fn plan(dir: &Path) -> Result<Plan> {
    let recommendation = dir.join(super::recommend::FILE);
    let (version, grid_file, grid) = if recommendation.exists() && !dir.join(MANIFEST).exists() {
        let shown = recommendation.display();
        let text =
            std::fs::read_to_string(&recommendation).with_context(|| format!("{shown}: cannot read"))?;
        let stored: Value =
            serde_json::from_str(&text).with_context(|| format!("{shown}: not a recommendation"))?;
        let provenance = &stored["provenance"];
        let file = provenance["grid_file"].as_str().unwrap_or_default().to_owned();
        (provenance["results_version"].as_u64().unwrap_or_default() as u32, file, provenance["grid"].clone())
    } else {
        let manifest = read_manifest(&dir.join(MANIFEST))?;
        (manifest.results_version, manifest.grid_file, manifest.grid)
    };
    ensure!(
        version == RESULTS_VERSION,
        "{}: holds results of results version {version}, this is version {RESULTS_VERSION}; run it again",
        dir.display()
    );
    Ok(Plan::new(Grid::stored(&grid_file, &grid)?)?)
}

/// The run whose id is `id`, or begins with it if no other does.
pub fn run(plan: &Plan, id: &str) -> Result<Cell> {
    let mut found = (0..plan.unique().len()).filter(|&place| plan.run_id(place).starts_with(id));
    let grid = shell_word(&plan.grid.source.file);
    let place = found.next().filter(|_| !id.is_empty()).ok_or_else(|| {
        anyhow!(
            "no run has the id `{id}`, expected one of `run_id` in runs.parquet, fronts.csv or the report (of the grid {grid} as it is now)"
        )
    })?;
    if let Some(other) = found.next() {
        let ids = [place, other].map(|place| plan.run_id(place));
        return Err(anyhow!(
            "`{id}` begins the ids of several runs, such as `{}` and `{}`; give more digits",
            ids[0],
            ids[1]
        ));
    }
    Ok(plan.cell(plan.unique()[place]))
}
