//! The figures of a sweep: `plots/<kind>_<workload>.svg` and `.png`.

mod attained;
mod axis;
mod check;
mod compare;
mod curves;
mod figure;
mod fleet;
mod front;
pub(super) mod importance;
pub(super) mod pools;
pub(super) mod robustness;
mod pdf;
mod print;
mod scaling;
mod style;
mod trace;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, Result};
use rayon::prelude::*;

use super::names::slug;
use super::study::Study;
use crate::analysis::compare::Comparison;
use crate::files::make_directory;
use crate::files::write_atomically;
use crate::hardware::check::Compared;
use crate::validation;
use crate::validation::fleet::Steps;
use crate::workload::Workload;
use figure::Drawn;
pub use print::draw_for_print;
pub use scaling::Series;
pub use style::{ColumnWidth, Style};

/// Size of most figures in points; text in it stays legible at half of that.
const SIZE: (i32, i32) = (900, 480);
/// Workloads drawn; `report.html` shows all of them.
pub const MAX_WORKLOADS: usize = 12;

const KINDS: [&str; 7] =
    ["front", "robustness", "importance", "pools", "replicas", "arrival_rate", "latency_cdf"];

/// What was drawn.
pub struct Plots {
    /// Per workload the file name of its front without extension, None where it was not drawn.
    pub front: Vec<Option<String>>,
    /// The same of the robustness of its verdict.
    pub robustness: Vec<Option<String>>,
    /// The same of the settings that matter.
    pub importance: Vec<Option<String>>,
    /// The same of replicas by pool.
    pub pools: Vec<Option<String>>,
}

/// Draws every figure into `directory`, and removes those that an earlier report left and this one does not
/// draw.
pub fn draw_all(study: &Study, directory: &Path, style: Style) -> Result<Plots> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    let slugs = slugs(study);
    let jobs = (0..slugs.len()).flat_map(|workload| KINDS.map(|kind| (workload, kind))).collect::<Vec<_>>();
    let draw = |&(workload, kind): &(usize, &str)| -> Result<Option<String>> {
        let Some(drawn) = plot(study, workload, kind, style)? else { return Ok(None) };
        let stem = format!("{kind}_{}", slugs[workload]);
        store(&drawn.svg, directory, &stem)?;
        Ok(Some(stem))
    };
    let stems = jobs.par_iter().map(draw).collect::<Result<Vec<_>>>()?;
    remove_stale(directory, &KINDS, &["svg", "png"], &stems)?;
    let of = |kind: usize| {
        let mut drawn = stems.iter().skip(kind).step_by(KINDS.len()).cloned().collect::<Vec<_>>();
        drawn.resize(study.analysis.workloads.len(), None);
        drawn
    };
    Ok(Plots { front: of(0), robustness: of(1), importance: of(2), pools: of(3) })
}

/// How files of each workload that is drawn are called.
fn slugs(study: &Study) -> Vec<String> {
    let mut slugs: Vec<String> = Vec::new();
    for workload in study.analysis.workloads.iter().take(MAX_WORKLOADS) {
        let slug = slug(&workload.name, &slugs);
        slugs.push(slug);
    }
    slugs
}

/// A figure of one kind; None where there is nothing to show.
fn plot(study: &Study, workload: usize, kind: &str, style: Style) -> Result<Option<Drawn>> {
    match kind {
        "front" => front::plot(study, workload, style).map(Some),
        "robustness" => robustness::plot(study, workload, style),
        "importance" => importance::plot(study, workload, style),
        "pools" => pools::plot(study, workload, style),
        "replicas" => curves::replicas(study, workload, style),
        "arrival_rate" => curves::arrival_rate(study, workload, style),
        _ => curves::latency_survival(study, workload, style),
    }
}

/// Draws predicted against measured times into `<stem>.svg` and `<stem>.png` of a directory.
pub fn draw_check(rows: &[Compared], directory: &Path, stem: &str) -> Result<()> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    store(&check::steps(rows)?, directory, stem)
}

/// Draws simulated against measured latencies of whole runs into `<stem>.svg` and `<stem>.png` of a
/// directory.
pub fn draw_validation(rows: &[validation::Compared], directory: &Path, stem: &str) -> Result<()> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    store(&check::runs(rows)?, directory, stem)
}

/// Draws a workload into `<stem>.svg` and `<stem>.png` of a directory.
pub fn draw_workload(workload: &Workload, name: &str, directory: &Path, stem: &str) -> Result<()> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    store(&trace::plot(workload, name)?, directory, stem)
}

/// Draws the replicas of a measured run, and of simulations beside it, into `<stem>.svg` and `<stem>.png` of
/// a directory.
pub fn draw_fleet(
    title: &str,
    curves: &[(String, Steps)],
    ends_s: f64,
    directory: &Path,
    stem: &str,
) -> Result<()> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    store(&fleet::plot(title, curves, ends_s)?, directory, stem)
}

/// Draws how costs grow, both axes logarithmic, into `<stem>.svg` and `<stem>.png` of a directory. Labels are
/// those of x and y.
///
/// Errors: a coordinate is not above 0; the directory cannot be written.
pub fn draw_scaling(
    title: &str,
    labels: [&str; 2],
    series: &[Series],
    directory: &Path,
    stem: &str,
) -> Result<()> {
    store(&scaling::plot(title, labels, series)?, directory, stem)
}

/// A figure of a comparison: file name without extension, and the SVG.
pub struct ComparisonPlot {
    pub workload: usize,
    pub stem: String,
    pub svg: String,
}

/// Draws the fronts of a comparison into `directory`, one figure a workload, and removes those of an earlier
/// one.
pub fn draw_comparison(
    comparison: &Comparison,
    directory: &Path,
    style: Style,
) -> Result<Vec<ComparisonPlot>> {
    make_directory(directory).with_context(|| format!("{}: cannot create", directory.display()))?;
    let (mut plots, mut slugs) = (Vec::new(), Vec::new());
    for (workload, compared) in comparison.workloads.iter().enumerate().take(MAX_WORKLOADS) {
        let Some(svg) = compare::plot(comparison, workload, style)? else { continue };
        slugs.push(slug(&compared.name, &slugs));
        let stem = format!("compare_{}", slugs[slugs.len() - 1]);
        store(&svg, directory, &stem)?;
        plots.push(ComparisonPlot { workload, stem, svg });
    }
    let stems = plots.iter().map(|plot| Some(plot.stem.clone())).collect::<Vec<_>>();
    remove_stale(directory, &["compare"], &["svg", "png"], &stems)?;
    Ok(plots)
}

fn store(svg: &str, directory: &Path, stem: &str) -> Result<()> {
    let png = figure::to_png(svg)?;
    write_atomically(&directory.join(format!("{stem}.svg")), |out| Ok(out.write_all(svg.as_bytes())?))?;
    write_atomically(&directory.join(format!("{stem}.png")), |out| Ok(out.write_all(&png)?))
}

fn remove_stale(
    directory: &Path,
    kinds: &[&str],
    extensions: &[&str],
    stems: &[Option<String>],
) -> Result<()> {
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let (Some(stem), Some(extension)) =
            (path.file_stem().and_then(|s| s.to_str()), path.extension().and_then(|e| e.to_str()))
        else {
            continue;
        };
        let ours = kinds.iter().any(|kind| stem.strip_prefix(kind).is_some_and(|rest| rest.starts_with('_')));
        if ours && extensions.contains(&extension) && !stems.iter().flatten().any(|drawn| drawn == stem) {
            std::fs::remove_file(&path).with_context(|| format!("{}: cannot remove", path.display()))?;
        }
    }
    Ok(())
}
