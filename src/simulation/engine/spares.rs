//! Replicas that wait part of the way to serving.

use super::Engine;
use crate::simulation::SpareSettings;
use crate::simulation::event::Due;

/// How many of each kind wait, in the order of the settings.
#[derive(Debug, Default)]
pub(super) struct Spares(Vec<u32>);

impl Spares {
    pub fn of(settings: &[SpareSettings]) -> Self {
        Self(settings.iter().map(|kind| kind.replicas).collect())
    }
}

impl Engine<'_> {
    /// Takes the spare that serves soonest; how long that takes. `None` where none waits.
    pub(super) fn take_spare(&mut self) -> Option<f64> {
        let kinds = &self.inputs.cluster.cold_start.spares;
        let waiting = (0..kinds.len()).filter(|&kind| self.spares.0[kind] > 0);
        let kind = waiting.min_by(|&one, &other| kinds[one].start_s.total_cmp(&kinds[other].start_s))?;
        let SpareSettings { start_s, refill_s, .. } = kinds[kind];
        self.spares.0[kind] -= 1;
        self.work.events.push(self.now_s + refill_s, self.now_s, Due::Spare { kind: kind as u32 });
        Some(start_s)
    }

    /// Another one waits.
    pub(super) fn spare_is_back(&mut self, kind: u32) {
        self.spares.0[kind as usize] += 1;
        self.record_replicas();
    }

    /// Dollars per hour of those that wait.
    pub(super) fn spares_cost_per_hour(&self) -> f64 {
        let kinds = self.inputs.cluster.cold_start.spares.iter().zip(&self.spares.0);
        kinds
            .map(|(kind, &waiting)| {
                f64::from(waiting) * kind.price_share * self.inputs.replica_cost_per_hour()
            })
            .sum()
    }
}
