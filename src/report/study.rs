//! Everything a report is made from, read once.

use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::DataFrame;

use super::judgement::{JointJudgement, Judgement};
use super::names::{counted, label_within, short_setting, significant};
use super::palette::{Look, looks};
use crate::analysis::edge::InformedEdge;
use crate::analysis::edge::Oracle;
use crate::analysis::effects::{Effect, effects};
use crate::analysis::pools::{PoolsTable, read_pools};
use crate::analysis::quality::ValueContribution;
use crate::analysis::read_runs;
use crate::analysis::scores::{Analysis, Front, Highlights, Score, analyse};
use crate::analysis::series::{Points, SeriesTable, read_series};
use crate::analysis::statistics::Estimate;
use crate::analysis::table::{Cells, read_parquet};
use crate::analysis::verdict::Trials;
use crate::sweep::answers::informed;
use crate::sweep::answers::oracle::{self, Account};
use crate::sweep::answers::robustness;
use crate::sweep::run::outcome::NODE_PRICE;
use crate::sweep::store::manifest::Manifest;
use crate::sweep::store::{MANIFEST, POOLS, RUNS, SERIES, read_manifest};

pub struct Study {
    pub manifest: Manifest,
    pub runs: DataFrame,
    pub analysis: Analysis,
    pub effects: Vec<Effect>,
    pub series: SeriesTable,
    /// What pools did, where there are several.
    pub pools: PoolsTable,
    /// How the edge of the possible was found, if it was.
    pub oracle: Option<Account>,
    /// How the edge without foresight came about, if one was searched.
    pub informed: Option<informed::Account>,
    pub run_ids: Vec<String>,
    /// Settings with more than one value within some family, in the manifest's order.
    pub varied: Vec<String>,
    /// What each value of these is worth.
    pub contributions: Vec<ValueContribution>,
    /// The points of the edge, all columns.
    pub edge_frame: Option<DataFrame>,
    /// The verdicts' settings under a little other circumstances, if they were tried.
    pub trials: Option<Trials>,
    /// How each family looks, on every page and figure.
    pub looks: Vec<Look>,
    /// Of each workload with limits.
    pub judged: Vec<Judgement>,
    /// Of all of these together, where there are several.
    pub joint: Option<JointJudgement>,
}

impl Study {
    pub fn load(directory: &Path) -> Result<Self> {
        let path = directory.join(MANIFEST);
        let manifest = read_manifest(&path)?;
        let runs = read_runs(&directory.join(RUNS), manifest.tables.get(RUNS))?;
        let path = directory.join(SERIES);
        let series =
            if path.exists() { read_series(&path, manifest.tables.get(SERIES))? } else { SeriesTable::new() };
        let mut study = Self::new(manifest, runs, series)
            .with_context(|| format!("{}: cannot analyse", directory.join(RUNS).display()))?;
        let path = directory.join(POOLS);
        if path.exists() {
            study.pools = read_pools(&path, study.manifest.tables.get(POOLS))?;
        }
        study.load_oracle(directory)?;
        study.load_informed(directory)?;
        if let Some(checksum) = study.manifest.tables.get(robustness::TABLE) {
            study.trials = Some(Trials::read(&directory.join(robustness::TABLE), Some(checksum))?);
        }
        Ok(study)
    }

    /// Takes the edge of the possible in, if one has been searched for these very runs.
    fn load_oracle(&mut self, directory: &Path) -> Result<()> {
        let path = directory.join(oracle::ACCOUNT);
        if !path.exists() {
            return Ok(());
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let account: Account = serde_json::from_str(&text)
            .with_context(|| format!("{}: not an account of this version", path.display()))?;
        if account.is_of(&self.manifest) {
            self.analysis.oracle = Oracle::read(
                &directory.join(oracle::TABLE),
                account.table.as_ref(),
                &self.manifest.objectives,
            )?;
            self.edge_frame = Some(read_parquet(&directory.join(oracle::TABLE), account.table.as_ref())?);
            self.oracle = Some(account);
        }
        Ok(())
    }

    /// Takes the edge without foresight in, if one has been searched for these very runs.
    fn load_informed(&mut self, directory: &Path) -> Result<()> {
        let path = directory.join(informed::ACCOUNT);
        if !path.exists() {
            return Ok(());
        }
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("{}: cannot read", path.display()))?;
        let account: informed::Account = serde_json::from_str(&text)
            .with_context(|| format!("{}: not an account of this version", path.display()))?;
        if account.is_of(&self.manifest) {
            self.analysis.informed = InformedEdge::read(directory, &account, &self.manifest.objectives)?;
            self.informed = Some(account);
        }
        Ok(())
    }

    fn new(manifest: Manifest, runs: DataFrame, series: SeriesTable) -> Result<Self> {
        let analysis = analyse(&runs, &manifest.objectives)?;
        let effects = effects(&runs, &manifest.setting_columns, &analysis)?;
        let ids = Cells::named(&runs, "run_id")?;
        let run_ids = (0..runs.height()).map(|row| ids.text(row).unwrap_or_default()).collect();
        let families: Vec<_> =
            analysis.families.iter().map(|family| (family.policy.clone(), family.groups.clone())).collect();
        let looks = looks(&families);
        let mut study = Self {
            manifest,
            runs,
            analysis,
            effects,
            series,
            pools: PoolsTable::new(),
            oracle: None,
            informed: None,
            run_ids,
            varied: Vec::new(),
            contributions: Vec::new(),
            edge_frame: None,
            trials: None,
            looks,
            judged: Vec::new(),
            joint: None,
        };
        study.varied = study.find_varied()?;
        study.contributions = study.analysis.value_contributions(&study.runs, &study.varied)?;
        Ok(study)
    }

    fn find_varied(&self) -> Result<Vec<String>> {
        let mut varied = Vec::new();
        // The price goes with the node, unless it is an axis of its own.
        let priced = self.manifest.axes.iter().any(|axis| axis.path.ends_with(NODE_PRICE));
        for name in self.manifest.setting_columns.iter().filter(|name| priced || *name != NODE_PRICE) {
            if self.runs.get_column_index(name).is_none() {
                continue;
            }
            let cells = Cells::named(&self.runs, name)?;
            let mut first: Vec<Option<String>> = vec![None; self.analysis.families.len()];
            let differs = |(row, run): (usize, &crate::analysis::scores::Run)| {
                let Some(value) = cells.text(row) else { return false };
                first[run.family].get_or_insert_with(|| value.clone()) != &value
            };
            if self.analysis.runs.iter().enumerate().any(differs) {
                varied.push(name.clone());
            }
        }
        Ok(varied)
    }

    /// The settings that tell a run from others of its family: `level=2, look_back_s=80`; empty when there
    /// are none.
    pub fn describe(&self, row: usize) -> String {
        let text = |name: &String| {
            let value = Cells::named(&self.runs, name).ok()?.text(row)?;
            Some(format!("{}={value}", short_setting(name)))
        };
        self.varied.iter().filter_map(text).collect::<Vec<_>>().join(", ")
    }

    /// The front of a score's lowest seed, with its notable rows.
    pub fn first_front(&self, score: &Score) -> Option<(&Front, Highlights)> {
        let front = self.analysis.fronts_of(score.workload, score.family).next()?;
        Some((front, self.analysis.highlights(front)))
    }

    pub fn curve(&self, row: usize, name: &str) -> Option<&Points> {
        self.series.get(&self.run_ids[row])?.get(name).filter(|points| !points.is_empty())
    }

    /// What the sweep asks: in its author's words, or in general.
    pub fn question(&self) -> String {
        let (latency, cost) = self.objectives();
        let general = || {
            format!(
                "Which policy, at which setting, buys the lowest {} for the lowest {}?",
                label_within(latency),
                label_within(cost)
            )
        };
        self.manifest.question.clone().unwrap_or_else(general)
    }

    /// What the values of settings are worth on a workload to the joint front, most first, without those
    /// worth nothing to any front.
    pub fn worthwhile(&self, workload: usize) -> Vec<&ValueContribution> {
        let mean = |estimate: Option<Estimate>| estimate.map_or(0.0, |estimate| estimate.mean);
        let worth = |value: &ValueContribution| (mean(value.joint), mean(value.own));
        let mut values = self
            .contributions
            .iter()
            .filter(|value| value.workload == workload && worth(value).1 > 0.0)
            .collect::<Vec<_>>();
        values.sort_by(|a, b| worth(b).0.total_cmp(&worth(a).0).then(worth(b).1.total_cmp(&worth(a).1)));
        values
    }

    /// Column names of latency and cost.
    pub fn objectives(&self) -> (&str, &str) {
        (&self.manifest.objectives.latency, &self.manifest.objectives.cost)
    }

    pub fn seeds(&self) -> Vec<i64> {
        let mut seeds = self.analysis.runs.iter().map(|run| run.seed).collect::<Vec<_>>();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }

    /// How long the runs took, on how many threads, and those that were run again: `12.5 s on 2 threads, 27
    /// runs again for curves 3.1 s`.
    pub fn time(&self) -> String {
        let timings = &self.manifest.timings;
        let curves = match timings.curves {
            0 => String::new(),
            curves => format!(
                ", {} again for curves {} s",
                counted(curves, "run"),
                significant(timings.curves_s, 3)
            ),
        };
        let trials = match timings.trials {
            0 => String::new(),
            trials => format!(
                ", {} of the verdict's robustness {} s",
                counted(trials, "run"),
                significant(timings.trials_s, 3)
            ),
        };
        format!(
            "{} s on {}{curves}{trials}",
            significant(timings.wall_s, 4),
            counted(timings.threads, "thread")
        )
    }

    /// Where a workload's reference point comes from, as a half-sentence.
    pub fn reference_origin(&self) -> &'static str {
        if self.analysis.reference_given {
            "the grid's reference point"
        } else {
            "none is given, so it lies a tenth beyond the worst latency and cost on any front of this workload: compare within this sweep only"
        }
    }

    /// Failed runs as (row, reason), in the table's order.
    pub fn failures(&self) -> Result<Vec<(usize, String)>> {
        let errors = Cells::named(&self.runs, "error")?;
        let failed = self.analysis.runs.iter().enumerate().filter(|(_, run)| !run.ok);
        Ok(failed
            .map(|(row, _)| (row, errors.text(row).unwrap_or_else(|| "no reason stored".to_owned())))
            .collect())
    }
}
