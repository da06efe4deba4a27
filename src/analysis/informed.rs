//! Each family's share of the edge without foresight, and how good that edge is.

use super::front::{Point, hv_exact};
use super::scores::{Analysis, Score};
use super::statistics::{Estimate, estimate};
use crate::sweep::answers::informed::EdgeAccount;
use crate::sweep::answers::informed::halves::HalfAccount;

/// Fewer seeds than these have no interval: searches on random draws differ too much for it.
pub const SEEDS_OF_AN_INTERVAL: usize = 10;
/// Fewer have no figure.
pub const SEEDS_OF_A_FIGURE: usize = 3;

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

/// An interval takes seeds enough.
fn cautious(values: &[f64]) -> Option<Estimate> {
    let estimate = estimate(values).filter(|estimate| estimate.count >= SEEDS_OF_A_FIGURE)?;
    Some(Estimate {
        interval: estimate.interval.filter(|_| estimate.count >= SEEDS_OF_AN_INTERVAL),
        ..estimate
    })
}

impl Analysis {
    /// Of a trace the mean over its halves, on which the family ran alone. None without an informed edge or a
    /// reference point, or of too few seeds.
    pub fn informed_share(&self, score: &Score) -> Option<InformedShare> {
        let (workload, groups) = (&self.workloads[score.workload], &self.families[score.family].groups);
        let reference = workload.reference?;
        if let Some(account) = self.informed.by_halves(&workload.name) {
            let policy = &self.families[score.family].policy;
            // Halves know families by their policies only, not by other settings that they are told apart by.
            if self.families.iter().filter(|family| family.policy == *policy).count() > 1 {
                return None;
            }
            let of_half = |half: &HalfAccount| {
                let own = half.families.iter().find(|family| family.family == *policy)?.hypervolume;
                (half.hypervolume > 0.0).then(|| own / half.hypervolume)
            };
            let shares: Vec<f64> = account.halves.iter().map(of_half).collect::<Option<_>>()?;
            // Two halves of one draw are no sample that an interval could come from.
            return Some(InformedShare {
                reached: Estimate { interval: None, ..estimate(&shares)? },
                bound: None,
            });
        }
        let (mut reached, mut bounds) = (Vec::new(), Vec::new());
        for front in self.fronts_of(score.workload, score.family) {
            let points: Vec<Point> = front.rows.iter().map(|&row| self.point(row)).collect();
            let own = hv_exact(&points, reference);
            let edge =
                hv_exact(&self.informed.reached.edge(&workload.name, front.seed, Some(groups)), reference);
            if edge > 0.0 {
                reached.push(own / edge);
            }
            if let Some(bound) = self
                .informed
                .bound_hypervolume(&workload.name, front.seed, reference)
                .filter(|bound| *bound > 0.0)
            {
                bounds.push(own / bound);
            }
        }
        Some(InformedShare { reached: cautious(&reached)?, bound: cautious(&bounds) })
    }

    /// Whether families have shares of an informed edge on this workload.
    pub fn has_informed(&self, workload: usize) -> bool {
        self.informed.by_halves(&self.workloads[workload].name).is_some()
            || self.informed_quality(workload).is_some()
    }

    /// None without an informed edge or a reference point, or of too few seeds.
    pub fn informed_quality(&self, workload: usize) -> Option<InformedQuality<'_>> {
        let name = &self.workloads[workload].name;
        let (reference, seeds) = (self.workloads[workload].reference?, self.informed.reached.seeds(name));
        let of = |seed: &i64| hv_exact(&self.informed.reached.edge(name, *seed, None), reference);
        let bounds: Vec<f64> =
            seeds.iter().filter_map(|&seed| self.informed.bound_hypervolume(name, seed, reference)).collect();
        let account =
            self.informed.accounts.iter().find(|account| account.workload == *name && account.has_edge)?;
        Some(InformedQuality {
            reached: cautious(&seeds.iter().map(of).collect::<Vec<_>>())?,
            bound: cautious(&bounds),
            account,
        })
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
