//! Which cells of a grid differ: an id for each, 16 bytes a cell while they are compared.
//!
//! An id is put together from what its workload, cluster and autoscaler say, and these are few where cells
//! are many.

use std::borrow::Cow;

use rayon::prelude::*;

use super::Plan;
use crate::sweep::grid::{Coordinates, ReplicaBounds};
use crate::sweep::plan::cell::{AutoscalerPart, ClusterPart, IdParts, WorkloadPart};

/// Combinations of a section whose parts are kept, some MB; of longer ones each is made anew whenever it is
/// asked for.
const MOST_KEPT: u64 = 8192;

/// Parts of ids by number of the combination; empty if there are too many.
struct Parts<T>(Vec<T>);

impl<T: Clone + Send> Parts<T> {
    fn new(count: u64, make: impl Fn(u64) -> T + Send + Sync) -> Self {
        let kept = if count <= MOST_KEPT { 0..count } else { 0..0 };
        Self(kept.into_par_iter().map(make).collect())
    }

    fn get(&self, index: u64, make: impl FnOnce() -> T) -> Cow<'_, T> {
        self.0.get(index as usize).map_or_else(|| Cow::Owned(make()), Cow::Borrowed)
    }
}

/// The parts of each section of a plan.
struct Sections<'a> {
    plan: &'a Plan,
    clusters: Parts<ClusterPart>,
    /// By entry.
    workloads: Vec<Parts<WorkloadPart>>,
    autoscalers: Vec<Parts<(AutoscalerPart, ReplicaBounds)>>,
}

impl<'a> Sections<'a> {
    fn new(plan: &'a Plan) -> Self {
        let grid = &plan.grid;
        Self {
            plan,
            clusters: Parts::new(grid.cluster.count(), |index| {
                cluster(plan, index, ReplicaBounds::default())
            }),
            workloads: (0..grid.workloads.len())
                .map(|entry| Parts::new(grid.workloads[entry].count(), |index| workload(plan, entry, index)))
                .collect(),
            autoscalers: (0..grid.autoscalers.len())
                .map(|entry| {
                    Parts::new(grid.autoscalers[entry].count(), |index| autoscaler(plan, entry, index))
                })
                .collect(),
        }
    }

    /// The id of a cell, and whether its seed matters.
    fn id(&self, index: u64) -> (u64, bool) {
        let plan = self.plan;
        let at: Coordinates = plan.grid.coordinates(index);
        let inputs = &plan.inputs;
        let workload_part = self.workloads[at.workload]
            .get(at.workload_combination, || workload(plan, at.workload, at.workload_combination));
        let autoscaler = self.autoscalers[at.autoscaler]
            .get(at.autoscaler_combination, || autoscaler(plan, at.autoscaler, at.autoscaler_combination));
        let (autoscaler_part, bounds) = &*autoscaler;
        let cluster = match *bounds == ReplicaBounds::default() {
            true => {
                self.clusters.get(at.cluster_combination, || cluster(plan, at.cluster_combination, *bounds))
            }
            false => Cow::Owned(cluster(plan, at.cluster_combination, *bounds)),
        };
        let parts = IdParts {
            workload: &workload_part,
            workload_fingerprint: &inputs.workloads[plan.workload_inputs[plan.workload_slot(&at)]]
                .fingerprint,
            seed: plan.grid.seeds[at.seed],
            cluster: &cluster,
            hardware_fingerprint: &inputs
                .hardware_fingerprint(&plan.hardware_inputs[at.cluster_combination as usize]),
            autoscaler: autoscaler_part,
        };
        (parts.id(), parts.depends_on_seed())
    }
}

fn cluster(plan: &Plan, index: u64, bounds: ReplicaBounds) -> ClusterPart {
    ClusterPart::of(&bounds.on(plan.grid.cluster.get(index).on_its_device()))
}

fn workload(plan: &Plan, entry: usize, index: u64) -> WorkloadPart {
    let section = &plan.grid.workloads[entry];
    WorkloadPart::of(&section.get(index), &section.varying(index))
}

fn autoscaler(plan: &Plan, entry: usize, index: u64) -> (AutoscalerPart, ReplicaBounds) {
    let entry = plan.autoscaler(entry, index);
    (AutoscalerPart::of(&entry.settings, entry.family()), entry.bounds)
}

impl Plan {
    /// Finds the cells to run, and the hash of their ids.
    pub(super) fn find_unique(&mut self) {
        let sections = Sections::new(self);
        let ids: Vec<u64> = (0..self.planned()).into_par_iter().map(|index| sections.id(index).0).collect();
        let mut order: Vec<u32> = (0..ids.len() as u32).collect();
        // Of equal ids the first cell runs.
        order.par_sort_unstable_by_key(|&index| (ids[index as usize], index));
        let mut unique: Vec<u64> = Vec::new();
        let mut same_under_every_seed = 0;
        for equal in order.chunk_by(|&a, &b| ids[a as usize] == ids[b as usize]) {
            unique.push(equal[0].into());
            let others: &[u32] = &equal[1..];
            same_under_every_seed +=
                others.iter().filter(|&&index| self.is_seed_idle(&sections, index.into())).count() as u64;
        }
        unique.sort_unstable();
        let ids: Vec<u64> = unique.iter().map(|&index| ids[index as usize]).collect();
        let mut hasher = blake3::Hasher::new();
        ids.iter().for_each(|id| {
            hasher.update(&id.to_be_bytes());
        });
        self.runs_hash = hasher.finalize().to_hex().to_string();
        (self.unique, self.ids) = (unique, ids);
        self.same_under_every_seed = same_under_every_seed;
    }

    /// Whether a cell is there only because the grid has further seeds, none of which matters to it.
    fn is_seed_idle(&self, sections: &Sections, index: u64) -> bool {
        let seed = self.grid.seeds[self.grid.coordinates(index).seed];
        seed != self.grid.seeds[0] && !sections.id(index).1
    }
}

const _: () = assert!(
    crate::sweep::grid::MAX_CELLS <= u32::MAX as u64,
    "indices of cells are kept as u32 while they are compared"
);
