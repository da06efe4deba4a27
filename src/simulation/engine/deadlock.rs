//! What is said of a run in which nothing will happen any more.

use super::Engine;
use crate::simulation::{Deadlock, SimulationError};

impl Engine<'_> {
    pub(super) fn stuck(&self) -> SimulationError {
        SimulationError::Stuck { at_s: self.now_s, unfinished: self.unfinished(), why: self.deadlock() }
    }

    /// Why nothing goes on here. Asked only once that is so.
    pub(in crate::simulation) fn deadlock(&self) -> Deadlock {
        let waiting = self.devices.as_ref().map_or(0, |devices| devices.num_waiting());
        let (replicas, held) = (self.counts.serving(), self.work.requests.len() as u32);
        let unrouted = self.work.unrouted.len() as u32;
        if replicas == 0 && waiting > 0 {
            Deadlock::NoDevices { waiting }
        } else if replicas == 0 {
            let min_replicas = self.inputs.cluster.min_replicas;
            Deadlock::NoReplica {
                pool: None,
                min_replicas,
                scales: self.autoscaler.is_some(),
                budget_refused: false,
            }
        } else if unrouted > 0 {
            Deadlock::HeldBack { replicas, waiting: unrouted }
        } else if held > 0 {
            Deadlock::NoBatch { replicas, waiting: held }
        } else {
            Deadlock::NotArrived
        }
    }
}
