//! The edge without foresight as `scalefront oracle --informed` found it, and each family's share of it.

use std::path::Path;

use anyhow::{Context, Result};

use super::front::{Point, hv_exact};
use super::regret::Oracle;
use super::runs::runs_frame;
use super::scores::{Analysis, Score};
use super::statistics::{Estimate, estimate};
use super::table::{read_parquet, write_csv, write_parquet};
use crate::oracle::informed::bound;
use crate::sweep::answers::informed::{Account, EdgeAccount, TABLE};
use crate::sweep::objectives::{Objectives, Reference};
use crate::sweep::tables::row::RunRow;

/// Fewer seeds than these have no interval: searches on random draws differ too much for it.
pub const SEEDS_OF_AN_INTERVAL: usize = 10;
/// Fewer have no figure.
pub const SEEDS_OF_A_FIGURE: usize = 3;

/// Stores the points of the edge: `informed.parquet`, and `informed.csv` without the policies.
pub fn write_informed(rows: &[RunRow], directory: &Path) -> Result<()> {
    let frame = runs_frame(rows)?;
    write_parquet(&frame, &directory.join(TABLE))?;
    write_csv(&frame.drop("policy").unwrap_or(frame), &directory.join("informed.csv"))
}

/// Of all workloads, seeds and clusters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InformedEdge {
    pub reached: Oracle,
    pub accounts: Vec<EdgeAccount>,
}

/// Of one family on one workload, over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InformedShare {
    /// Hypervolume as a share of what was reached without foresight.
    pub reached: Estimate,
    /// As a share of what no policy can beat in expectation; none where no bound is known.
    pub bound: Option<Estimate>,
}

/// How good the edge is, over seeds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct InformedQuality<'a> {
    pub reached: Estimate,
    pub bound: Option<Estimate>,
    pub account: &'a EdgeAccount,
}

impl InformedEdge {
    /// Reads what [`write_informed`] wrote, if its checksum is that of the account.
    pub fn read(directory: &Path, account: &Account, objectives: &Objectives) -> Result<Self> {
        let path = directory.join(TABLE);
        let read = || -> Result<Oracle> { Oracle::of(&read_parquet(&path, account.table.as_ref())?, objectives) };
        let reached = read()
            .with_context(|| format!("{}: cannot read the informed edge; `scalefront oracle --informed` writes it", path.display()))?;
        Ok(Self { reached, accounts: account.edges.clone() })
    }

    /// The account of a workload, if it has one cluster only: bounds are those of a cluster.
    fn account(&self, workload: &str) -> Option<&EdgeAccount> {
        let mut of = self.accounts.iter().filter(|account| account.workload == workload);
        of.next().filter(|_| of.next().is_none())
    }

    /// The bound of a seed, by rising cost.
    pub fn bound(&self, workload: &str, seed: i64) -> Option<&[(f64, f64)]> {
        let bounds = &self.account(workload)?.bounds;
        bounds.iter().find(|bound| bound.seed as i64 == seed).map(|bound| &bound.points[..])
    }

    fn bound_hypervolume(&self, workload: &str, seed: i64, reference: Reference) -> Option<f64> {
        Some(bound::hypervolume(self.bound(workload, seed)?, reference.latency, reference.cost))
    }

    /// Why a workload has none, if it was asked.
    pub fn refusals(&self) -> impl Iterator<Item = &EdgeAccount> {
        self.accounts.iter().filter(|account| !account.has_edge)
    }
}

/// An interval takes seeds enough.
fn cautious(values: &[f64]) -> Option<Estimate> {
    let estimate = estimate(values).filter(|estimate| estimate.count >= SEEDS_OF_A_FIGURE)?;
    Some(Estimate { interval: estimate.interval.filter(|_| estimate.count >= SEEDS_OF_AN_INTERVAL), ..estimate })
}

impl Analysis {
    /// None without an informed edge or a reference point, or of too few seeds.
    pub fn informed_share(&self, score: &Score) -> Option<InformedShare> {
        let (workload, groups) = (&self.workloads[score.workload], &self.families[score.family].groups);
        let reference = workload.reference?;
        let (mut reached, mut bounds) = (Vec::new(), Vec::new());
        for front in self.fronts_of(score.workload, score.family) {
            let points: Vec<Point> = front.rows.iter().map(|&row| self.point(row)).collect();
            let own = hv_exact(&points, reference);
            let edge = hv_exact(&self.informed.reached.edge(&workload.name, front.seed, Some(groups)), reference);
            if edge > 0.0 {
                reached.push(own / edge);
            }
            if let Some(bound) = self.informed.bound_hypervolume(&workload.name, front.seed, reference).filter(|bound| *bound > 0.0) {
                bounds.push(own / bound);
            }
        }
        Some(InformedShare { reached: cautious(&reached)?, bound: cautious(&bounds) })
    }

    /// None without an informed edge or a reference point, or of too few seeds.
    pub fn informed_quality(&self, workload: usize) -> Option<InformedQuality<'_>> {
        let name = &self.workloads[workload].name;
        let (reference, seeds) = (self.workloads[workload].reference?, self.informed.reached.seeds(name));
        let of = |seed: &i64| hv_exact(&self.informed.reached.edge(name, *seed, None), reference);
        let bounds: Vec<f64> = seeds.iter().filter_map(|&seed| self.informed.bound_hypervolume(name, seed, reference)).collect();
        let account = self.informed.accounts.iter().find(|account| account.workload == *name && account.has_edge)?;
        Some(InformedQuality { reached: cautious(&seeds.iter().map(of).collect::<Vec<_>>())?, bound: cautious(&bounds), account })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_seeds_have_no_interval_and_fewer_no_figure() {
        assert_eq!(cautious(&[0.4, 0.5]), None);
        let three = cautious(&[0.4, 0.5, 0.6]).unwrap();
        assert!((three.mean - 0.5).abs() < 1e-12 && three.interval.is_none());
        assert!(cautious(&[0.5; 10]).unwrap().interval.is_some());
    }
}
