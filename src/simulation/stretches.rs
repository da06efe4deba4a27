//! A run in stretches, between which it may be written down, and resumed with another policy: for searches
//! whose runs have much in common.

use super::engine::Engine;
use super::metric::Quantity;
use super::{Checkpoint, Parts, RunInputs, SimulationError, Workspace};
use crate::autoscaler::Autoscaler;

/// What happened from one moment to another.
#[derive(Debug)]
pub struct Stretch {
    /// A quantity of the requests that were completed and have it, in order.
    pub values: Vec<f64>,
    /// When the rate of cost may have changed, and dollars per hour from then on.
    pub bookings: Vec<(f64, f64)>,
    /// When the run was over, if that was before the end of the stretch.
    pub over_at_s: Option<f64>,
}

pub struct Stretches<'a> {
    engine: Engine<'a>,
    quantity: &'static Quantity,
}

impl<'a> Stretches<'a> {
    /// A run before its first instant; None if runs of these inputs cannot be written down. The autoscaler of
    /// `inputs` is not asked.
    pub fn begin(
        inputs: &'a RunInputs<'a>,
        policy: Box<dyn Autoscaler>,
        quantity: &'static Quantity,
        workspace: &'a mut Workspace,
    ) -> Option<Self> {
        let parts = Parts {
            scheduler: inputs.replica_scheduler(),
            autoscaler: Some(policy),
            initial_replicas: inputs.cluster.initial_replicas,
        };
        let mut engine = Engine::new(inputs, parts, workspace, None);
        if !engine.can_be_resumed() {
            return None;
        }
        engine.take_bookings();
        engine.begin();
        Some(Self { engine, quantity })
    }

    /// Goes on until the first instant at or after `until_s`.
    pub fn run_until(&mut self, until_s: f64) -> Result<Stretch, SimulationError> {
        let over_at_s = self.engine.run_until(until_s)?.then(|| self.engine.now_s());
        Ok(Stretch {
            values: self.engine.take_values(self.quantity),
            bookings: self.engine.take_bookings(),
            over_at_s,
        })
    }

    /// Requests that have come and not left.
    pub fn num_under_way(&self) -> usize {
        self.engine.num_under_way()
    }

    /// What the run is, which has been run until `at_s`; None if that cannot be written down.
    pub fn checkpoint(&mut self, at_s: f64) -> Option<Checkpoint> {
        self.engine.checkpoint(at_s)
    }

    /// Becomes what a run was, in the hands of a policy that has decided so far as the one of that run.
    pub fn resume(&mut self, from: &Checkpoint, policy: Box<dyn Autoscaler>) {
        self.engine.resume(from);
        self.engine.follow(policy);
        self.engine.take_bookings();
    }
}
