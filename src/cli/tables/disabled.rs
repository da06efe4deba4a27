//! What a build without tables says instead.

use std::ops::Range;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use scalefront::hardware::check::Compared;
use scalefront::simulation::Detail;
use scalefront::sweep::objectives::Objectives;
use scalefront::sweep::run::pools::PoolRow;
use scalefront::sweep::run::turns::RunTurns;
use scalefront::sweep::tables::row::{RunRow, RunSeries, Series};
use scalefront::validation;
use scalefront::validation::fleet::Steps;
use scalefront::workload::Workload;

use super::{CompareArgs, Compared as Comparison, Format, LeaderboardArgs, Style};
use crate::cli::Exit;

pub fn check_available() -> Result<()> {
    bail!(
        "this scalefront was built without tables and plots; build it with its default feature `report` (without --no-default-features)"
    )
}

pub fn store_runs(
    _dir: &Path,
    _count: usize,
    _rows: impl FnMut(Range<usize>) -> Result<Vec<RunRow>>,
) -> Result<Vec<String>> {
    check_available().map(|()| Vec::new())
}

pub fn rows_with_curves(_dir: &Path, _objectives: &Objectives, _most: usize) -> Result<Vec<usize>> {
    check_available().map(|()| Vec::new())
}

pub fn chosen(
    _dir: &Path,
    _objectives: &Objectives,
    _settings: &[String],
) -> Result<Vec<(&'static str, Vec<usize>)>> {
    check_available().map(|()| Vec::new())
}

pub fn store_robustness(_dir: &Path, _rows: &[RunRow]) -> Result<()> {
    check_available()
}

pub fn regroup_runs(_dir: &Path, _group_by: &[String]) -> Result<()> {
    check_available()
}

pub fn store_pools(_dir: &Path, _rows: &[PoolRow]) -> Result<()> {
    check_available()
}

pub fn store_curves(_dir: &Path, _series: &[RunSeries]) -> Result<()> {
    check_available()
}

pub fn store_turns(_dir: &Path, _runs: &[RunTurns]) -> Result<()> {
    check_available()
}

pub fn store_oracle(_dir: &Path, _rows: &[RunRow]) -> Result<()> {
    check_available()
}

pub fn store_informed(_dir: &Path, _rows: &[RunRow]) -> Result<()> {
    check_available()
}

pub fn store_detail(_dir: &Path, _detail: &Detail, _format: Format) -> Result<()> {
    check_available()
}

pub fn build_report(_dir: &Path, _style: Style) -> Result<String> {
    check_available().map(|()| String::new())
}

/// No figures.
pub fn build_figures(dir: &Path, _width_mm: f64) -> Result<(usize, PathBuf)> {
    check_available().map(|()| (0, dir.into()))
}

pub fn compare(_args: &CompareArgs) -> Result<Comparison> {
    check_available().map(|()| Comparison { text: String::new(), too_much_worse: Vec::new() })
}

/// No picture.
pub fn draw_workload(_workload: &Workload, _name: &str, _dir: &Path) -> Result<Option<PathBuf>> {
    Ok(None)
}

pub fn store_series(_dir: &Path, _series: &[Series], _format: Format) -> Result<()> {
    check_available()
}

/// No picture.
pub fn draw_check(_rows: &[Compared], _dir: &Path) -> Result<Option<PathBuf>> {
    Ok(None)
}

/// No picture.
pub fn draw_validation(_rows: &[validation::Compared], _dir: &Path, _stem: &str) -> Result<Option<PathBuf>> {
    Ok(None)
}

/// No picture.
pub fn draw_fleet(
    _id: &str,
    _curves: &[(String, Steps)],
    _ends_s: f64,
    _dir: &Path,
) -> Result<Option<PathBuf>> {
    Ok(None)
}

pub fn leaderboard(_args: &LeaderboardArgs) -> Result<Exit> {
    check_available().map(|()| Exit::Done)
}
