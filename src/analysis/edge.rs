//! Edges as searches found them, stored and read: with perfect foresight, and without.

use std::path::Path;

use anyhow::{Context, Result};
use polars::prelude::DataFrame;

use super::front::{Point, non_dominated};
use super::indicators::{ATTAINMENT_PERCENT, attainment};
use super::runs::runs_frame;
use super::table::{Cells, read_parquet, write_csv, write_parquet};
use crate::oracle::informed::bound;
use crate::sweep::answers::informed::{self, Account, EdgeAccount};
use crate::sweep::answers::oracle;
use crate::sweep::objectives::{Objectives, Reference};
use crate::sweep::tables::checksum::Checksum;
use crate::sweep::tables::row::RunRow;

/// Stores the points of the edge: `oracle.parquet`, and `oracle.csv` without the schedules.
pub fn write_oracle(rows: &[RunRow], directory: &Path) -> Result<()> {
    let frame = runs_frame(rows)?;
    write_parquet(&frame, &directory.join(oracle::TABLE))?;
    write_csv(&frame.drop("schedule").unwrap_or(frame), &directory.join("oracle.csv"))
}

/// Points of the edge, of all workloads, seeds and clusters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Oracle {
    points: Vec<EdgePoint>,
}

#[derive(Debug, Clone, PartialEq)]
pub(super) struct EdgePoint {
    workload: String,
    seed: i64,
    /// Values of the `group_by` columns; None where the column is a policy's.
    groups: Vec<Option<String>>,
    pub(super) point: Point,
    pub(super) fluid_bound_usd: Option<f64>,
}

impl Oracle {
    /// Reads what [`write_oracle`] wrote, if its checksum is that `expected`.
    pub fn read(path: &Path, expected: Option<&Checksum>, objectives: &Objectives) -> Result<Self> {
        let read = || -> Result<Self> { Self::of(&read_parquet(path, expected)?, objectives) };
        read().with_context(|| {
            format!("{}: cannot read the edge; `scalefront oracle` writes it", path.display())
        })
    }

    pub(super) fn of(frame: &DataFrame, objectives: &Objectives) -> Result<Self> {
        // Where nothing has a point, as where all workloads are traces whose halves were searched.
        if frame.width() == 0 {
            return Ok(Self::default());
        }
        let [workload, seed] = ["workload", "seed"].map(|name| Cells::named(frame, name));
        let (workload, seed) = (workload?, seed?);
        let (latency, cost) =
            (Cells::named(frame, &objectives.latency)?, Cells::named(frame, &objectives.cost)?);
        // Only the clairvoyant edge has it.
        let fluid = Cells::named(frame, "fluid_bound_usd").ok();
        let groups: Vec<Option<Cells>> =
            objectives.group_by.iter().map(|name| Cells::named(frame, name).ok()).collect();
        let point = |i: usize| {
            Some(EdgePoint {
                workload: workload.text(i)?,
                seed: seed.number(i)? as i64,
                groups: groups
                    .iter()
                    .map(|cells| cells.as_ref().map(|cells| cells.text(i).unwrap_or_default()))
                    .collect(),
                point: Point { latency: latency.number(i)?, cost: cost.number(i)? },
                fluid_bound_usd: fluid.as_ref().and_then(|fluid| fluid.number(i)),
            })
        };
        Ok(Self { points: (0..frame.height()).filter_map(point).collect() })
    }

    pub fn is_empty(&self) -> bool {
        self.points.is_empty()
    }

    pub(super) fn of_seed<'a>(&'a self, workload: &'a str, seed: i64) -> impl Iterator<Item = &'a EdgePoint> {
        self.points.iter().filter(move |point| point.workload == workload && point.seed == seed)
    }

    /// The edge of a workload and seed by rising cost, over the clusters of one family's group, or all of
    /// them.
    pub fn edge(&self, workload: &str, seed: i64, groups: Option<&[String]>) -> Vec<Point> {
        let same = |point: &&EdgePoint| {
            groups.is_none_or(|groups| {
                point
                    .groups
                    .iter()
                    .zip(groups)
                    .all(|(own, group)| own.as_ref().is_none_or(|own| own == group))
            })
        };
        let points = self.of_seed(workload, seed).filter(same).map(|point| point.point).collect::<Vec<_>>();
        non_dominated(&points).into_iter().map(|i| points[i]).collect()
    }

    /// What the edges of half of a workload's seeds reach, by rising cost.
    pub fn attained(&self, workload: &str) -> Vec<Point> {
        let edges: Vec<Vec<Point>> =
            self.seeds(workload).into_iter().map(|seed| self.edge(workload, seed, None)).collect();
        attainment(&edges, ATTAINMENT_PERCENT[1])
    }

    /// Seeds of a workload's edges, ascending.
    pub fn seeds(&self, workload: &str) -> Vec<i64> {
        let mut seeds = self
            .points
            .iter()
            .filter(|point| point.workload == workload)
            .map(|point| point.seed)
            .collect::<Vec<_>>();
        seeds.sort_unstable();
        seeds.dedup();
        seeds
    }
}

/// Stores the points of the edge: `informed.parquet`, and `informed.csv` without the policies.
pub fn write_informed(rows: &[RunRow], directory: &Path) -> Result<()> {
    let frame = runs_frame(rows)?;
    write_parquet(&frame, &directory.join(informed::TABLE))?;
    write_csv(&frame.drop("policy").unwrap_or(frame), &directory.join("informed.csv"))
}

/// Of all workloads, seeds and clusters.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct InformedEdge {
    pub reached: Oracle,
    pub accounts: Vec<EdgeAccount>,
}

impl InformedEdge {
    /// Reads what [`write_informed`] wrote, if its checksum is that of the account.
    pub fn read(directory: &Path, account: &Account, objectives: &Objectives) -> Result<Self> {
        let path = directory.join(informed::TABLE);
        let read =
            || -> Result<Oracle> { Oracle::of(&read_parquet(&path, account.table.as_ref())?, objectives) };
        let reached = read().with_context(|| {
            format!(
                "{}: cannot read the informed edge; `scalefront oracle --informed` writes it",
                path.display()
            )
        })?;
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

    pub(super) fn bound_hypervolume(&self, workload: &str, seed: i64, reference: Reference) -> Option<f64> {
        Some(bound::hypervolume(self.bound(workload, seed)?, reference.latency, reference.cost))
    }

    /// Of a trace whose halves were searched, on one cluster.
    pub fn by_halves(&self, workload: &str) -> Option<&EdgeAccount> {
        self.account(workload).filter(|account| !account.halves.is_empty())
    }

    /// Of a trace whose halves were searched on several clusters, which no one share stands for.
    pub fn is_by_halves_on_several(&self, workload: &str) -> bool {
        let of = |account: &&EdgeAccount| account.workload == workload && !account.halves.is_empty();
        self.accounts.iter().filter(of).nth(1).is_some()
    }

    /// Why a workload has none, if it was asked.
    pub fn refusals(&self) -> impl Iterator<Item = &EdgeAccount> {
        self.accounts.iter().filter(|account| !account.has_edge && account.halves.is_empty())
    }
}
