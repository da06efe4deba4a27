//! Which replica has the least load, where loads change one at a time.

use super::{Lane, ReplicaId, Target};
use crate::tournament::{NONE, Tournament};

/// Loads from here on count alike: the tournament's keys have room for no more.
const MOST_LOAD: u32 = (1 << 29) - 2;

/// Replicas with a load each; the least wins, of equals the lowest id.
#[derive(Debug, Default)]
pub struct LeastLoaded {
    /// Places are lanes, keys loads and, below them, ids.
    tournament: Tournament<true>,
}

impl LeastLoaded {
    #[inline]
    pub fn set(&mut self, target: Target, load: u32) {
        let key = u64::from(load.min(MOST_LOAD)) << 32 | u64::from(target.id.0);
        self.tournament.set(target.lane.0, key, |_, _| unreachable!("ids differ"));
    }

    pub fn remove(&mut self, target: Target) {
        self.tournament.set(target.lane.0, NONE, |_, _| unreachable!("ids differ"));
    }

    /// The replica with the least load, and that load.
    #[inline]
    pub fn least(&mut self) -> Option<(Target, u32)> {
        let (key, lane) = self.tournament.least(|_, _| unreachable!("ids differ"));
        (key < NONE).then_some((Target { lane: Lane(lane), id: ReplicaId(key as u32) }, (key >> 32) as u32))
    }
}
