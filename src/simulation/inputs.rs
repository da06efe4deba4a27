//! What a run is made of, be it of one pool or of a fleet.

use super::fleet::{FleetInputs, simulate_fleet, simulate_fleet_in_detail};
use super::{
    ClusterSettings, Detail, Limits, RunInputs, RunMetrics, SimulationError, Workspace, simulate,
    simulate_in_detail,
};
use crate::autoscaler::{AutoscalerSettings, Programs};
use crate::hardware::{ExecutionTime, HardwareError};
use crate::workload::Workload;

/// Everything one run depends on.
#[derive(Debug, Clone)]
pub enum Inputs<'a> {
    One(Box<RunInputs<'a>>),
    Fleet(FleetInputs<'a>),
}

impl<'a> Inputs<'a> {
    /// Puts a run together; with pools there are step times for each of them, otherwise one.
    pub fn new(
        workload: &'a Workload,
        cluster: &'a ClusterSettings,
        autoscaler: &'a AutoscalerSettings,
        times: &[&'a ExecutionTime],
        seed: u64,
    ) -> Result<Self, HardwareError> {
        match cluster.pools.is_empty() {
            true => RunInputs::new(workload, cluster, autoscaler, times[0], seed)
                .map(|inputs| Self::One(inputs.into())),
            false => FleetInputs::new(workload, cluster, autoscaler, times, seed).map(Self::Fleet),
        }
    }

    /// That of each pool, or the only one.
    fn each(&mut self) -> &mut [RunInputs<'a>] {
        match self {
            Self::One(inputs) => std::slice::from_mut(&mut **inputs),
            Self::Fleet(fleet) => &mut fleet.pools,
        }
    }

    /// The same within limits.
    #[must_use]
    pub fn within(mut self, limits: Limits<'a>) -> Self {
        self.each().iter_mut().for_each(|inputs| inputs.limits = limits);
        self
    }

    /// The same with a trail kept, for curves.
    #[must_use]
    pub fn keeping_trail(mut self, keeps_trail: bool) -> Self {
        self.each().iter_mut().for_each(|inputs| inputs.keeps_trail = keeps_trail);
        self
    }

    /// The same with a place where policies are run that are programs.
    #[must_use]
    pub fn with_programs(mut self, programs: &'a dyn Programs) -> Self {
        self.each().iter_mut().for_each(|inputs| inputs.programs = Some(programs));
        self
    }

    pub fn workload(&self) -> &'a Workload {
        match self {
            Self::One(inputs) => inputs.workload,
            Self::Fleet(fleet) => fleet.workload,
        }
    }

    /// Runs until the workload is over and every request has left.
    pub fn simulate(&self, workspace: &mut Workspace) -> Result<RunMetrics, SimulationError> {
        match self {
            Self::One(inputs) => simulate(inputs, workspace),
            Self::Fleet(fleet) => simulate_fleet(fleet, workspace),
        }
    }

    /// The same one iteration at a time, recording everything.
    pub fn simulate_in_detail(
        &self,
        workspace: &mut Workspace,
    ) -> Result<(RunMetrics, Detail), SimulationError> {
        match self {
            Self::One(inputs) => simulate_in_detail(inputs, workspace),
            Self::Fleet(fleet) => simulate_fleet_in_detail(fleet, workspace),
        }
    }
}
