//! Where a run is given up that may never end.

use super::Engine;
use crate::simulation::{EVENTS_BETWEEN_QUESTIONS, SimulationError};

impl Engine<'_> {
    /// Sees whether the run may go on.
    #[cold]
    pub(super) fn look_up(&mut self) -> Result<(), SimulationError> {
        let (limits, totals) = (&self.inputs.limits, &self.totals);
        let (at_s, unfinished) = (self.now_s, self.unfinished());
        if self.events >= limits.most_events {
            return Err(SimulationError::TooManyEvents {
                events: self.events,
                at_s,
                unfinished,
                scale_ups: totals.scale_ups,
                scale_downs: totals.scale_downs,
                replicas_lost: totals.replicas_lost,
            });
        }
        self.look_at_memory()?;
        let limits = &self.inputs.limits;
        if limits.give_up.is_some_and(|give_up| give_up()) {
            return Err(SimulationError::CalledOff { at_s, unfinished });
        }
        self.look_up_at = limits.most_events.min(self.events + EVENTS_BETWEEN_QUESTIONS);
        Ok(())
    }

    /// Whether what the run keeps is within its limit.
    pub(super) fn look_at_memory(&self) -> Result<(), SimulationError> {
        let most_bytes = self.inputs.limits.most_bytes;
        if most_bytes == u64::MAX {
            return Ok(());
        }
        let bytes = self.work.bytes();
        if bytes <= most_bytes {
            return Ok(());
        }
        Err(SimulationError::TooMuchMemory {
            bytes,
            most_bytes,
            at_s: self.now_s,
            unfinished: self.unfinished(),
        })
    }
}
