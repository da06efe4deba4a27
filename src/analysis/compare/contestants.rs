//! Who is compared with whom, and in which cells.

use std::collections::BTreeSet;

use anyhow::{Context, Result, bail, ensure};

use super::{Cluster, Sweep};
use crate::analysis::scores::Analysis;
use crate::analysis::table::Cells;
use crate::settings::quoted;
use crate::sweep::objectives::Objectives;

/// What the user asks for; empty for the obvious.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Choice {
    /// Families to compare, as the tables call them.
    pub families: Vec<String>,
    /// A family, or one of several sweeps; otherwise the first one named.
    pub baseline: Option<String>,
}

/// A family of a sweep, or all of its families together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Contestant {
    pub sweep: usize,
    pub family: Option<String>,
    /// How tables and plots call it.
    pub label: String,
}

/// Numbers of baseline and candidate.
pub type Pair = (usize, usize);

/// The contestants, and pairs of baseline and candidate among them.
///
/// Named families compete with each other, from every sweep that has them. Otherwise the families of a single
/// sweep compete, and of several sweeps each family with its namesake in the baseline sweep, and all families
/// together.
pub fn choose(
    sweeps: &[Sweep],
    analyses: &[Analysis],
    choice: &Choice,
) -> Result<(Vec<Contestant>, Vec<Pair>)> {
    let several = sweeps.len() > 1;
    let has = |sweep: usize, family: &str| analyses[sweep].families.iter().any(|known| known.label == family);
    let contestant = |sweep: usize, family: Option<&str>| {
        let name = family.unwrap_or("all families");
        let label = if several { format!("{name} ({})", sweeps[sweep].label) } else { name.to_owned() };
        Contestant { sweep, family: family.map(str::to_owned), label }
    };
    let mut known = analyses
        .iter()
        .flat_map(|analysis| &analysis.families)
        .map(|family| family.label.as_str())
        .collect::<Vec<_>>();
    known.sort_unstable();
    known.dedup();
    for family in &choice.families {
        ensure!(
            known.contains(&family.as_str()),
            "--families: `{family}` found, expected some of {}",
            quoted(&known)
        );
    }

    if several && choice.families.is_empty() {
        let labels = sweeps.iter().map(|sweep| sweep.label.as_str()).collect::<Vec<_>>();
        let named = choice.baseline.as_deref().map(|name| name.trim_end_matches('/'));
        let baseline = match named {
            None => 0,
            Some(name) => labels.iter().position(|label| *label == name).with_context(|| {
                format!("--baseline: `{name}` found, expected one of {}", quoted(&labels))
            })?,
        };
        let (mut contestants, mut pairs) = (Vec::new(), Vec::new());
        let mut number = |contestant: Contestant| {
            contestants.iter().position(|known| *known == contestant).unwrap_or_else(|| {
                contestants.push(contestant);
                contestants.len() - 1
            })
        };
        for sweep in (0..sweeps.len()).filter(|&sweep| sweep != baseline) {
            for family in known.iter().filter(|family| has(baseline, family) && has(sweep, family)) {
                pairs.push((
                    number(contestant(baseline, Some(family))),
                    number(contestant(sweep, Some(family))),
                ));
            }
            if known.len() > 1 {
                pairs.push((number(contestant(baseline, None)), number(contestant(sweep, None))));
            }
        }
        return Ok((contestants, pairs));
    }

    let families = if choice.families.is_empty() {
        known.clone()
    } else {
        choice.families.iter().map(String::as_str).collect()
    };
    let mut contestants: Vec<Contestant> = Vec::new();
    for (family, sweep) in
        families.iter().flat_map(|family| (0..sweeps.len()).map(move |sweep| (family, sweep)))
    {
        let contestant = contestant(sweep, Some(family));
        if has(sweep, family) && !contestants.contains(&contestant) {
            contestants.push(contestant);
        }
    }
    if contestants.len() < 2 {
        match choice.families.is_empty() {
            true => bail!(
                "{}: one family found, {}; name a second sweep to compare it with",
                sweeps[0].label,
                quoted(&families)
            ),
            false => bail!(
                "--families: one found, {}, expected at least two of {}",
                quoted(&families),
                quoted(&known)
            ),
        }
    }
    let baseline = match &choice.baseline {
        None => 0,
        Some(name) => contestants
            .iter()
            .position(|contestant| contestant.family.as_ref() == Some(name))
            .with_context(|| format!("--baseline: `{name}` found, expected one of {}", quoted(&families)))?,
    };
    let pairs = (0..contestants.len())
        .filter(|&candidate| candidate != baseline)
        .map(|candidate| (baseline, candidate))
        .collect();
    Ok((contestants, pairs))
}

/// For each sweep and run, the settings that make its cluster.
///
/// None where a setting does not apply, as delays of scaling do not to a fixed number of replicas: such a run
/// is the same in all clusters that differ in it only. Cluster settings are those outside the autoscaler that
/// vary within some sweep, except those by which families are told apart. A setting that is constant in each
/// sweep but not the same in all is no reason against pairing, but one for a warning.
pub fn cluster_keys(sweeps: &[Sweep], objectives: &Objectives) -> Result<Vec<Vec<Cluster>>> {
    let mut names = Vec::new();
    for name in cluster_settings(sweeps).into_iter().filter(|name| !objectives.group_by.contains(name)) {
        for sweep in sweeps {
            if values(sweep, &name)?.len() > 1 && !names.contains(&name) {
                names.push(name.clone());
            }
        }
    }
    let keys = |sweep: &Sweep| -> Result<Vec<Cluster>> {
        let cells = names.iter().map(|name| column(sweep, name)).collect::<Result<Vec<_>>>()?;
        let value = |cells: &Option<Cells>, row: usize| cells.as_ref().and_then(|cells| cells.text(row));
        Ok((0..sweep.runs.height())
            .map(|row| cells.iter().map(|cells| value(cells, row)).collect())
            .collect())
    };
    sweeps.iter().map(keys).collect()
}

/// Settings of any sweep that are not the autoscaler's, in the order of the manifests.
pub fn cluster_settings(sweeps: &[Sweep]) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in sweeps.iter().flat_map(|sweep| &sweep.manifest.setting_columns) {
        if !name.starts_with("autoscaler") && !names.contains(name) {
            names.push(name.clone());
        }
    }
    names
}

/// Distinct values of a setting, in order.
pub fn values(sweep: &Sweep, name: &str) -> Result<BTreeSet<String>> {
    let cells = column(sweep, name)?;
    Ok(cells.iter().flat_map(|cells| (0..sweep.runs.height()).filter_map(|row| cells.text(row))).collect())
}

fn column<'a>(sweep: &'a Sweep, name: &str) -> Result<Option<Cells<'a>>> {
    sweep.runs.get_column_index(name).map(|_| Cells::named(&sweep.runs, name)).transpose()
}
