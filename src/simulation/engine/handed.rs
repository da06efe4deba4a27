//! Requests that a pool of a fleet is handed, and what it tells of them outside.

use super::arrival::Arrival;
use crate::autoscaler::Arrivals;
use crate::replica_scheduler::{Lane, ReplicaId, Request, Slot};
use crate::workload::Workload;

/// How a request has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulation) enum End {
    /// Everything it was asked for is there.
    Answered,
    /// It fits nowhere.
    Rejected,
    /// Its replica's queue was full.
    Refused,
    /// Its replica's time to leave was over.
    Cut,
}

/// Where a request is within a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::simulation) struct Place {
    pub lane: Lane,
    pub replica_id: ReplicaId,
    pub slot: Slot,
}

/// What a pool tells.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::simulation) enum Message {
    /// A request has left the pool, at this time.
    Left { request: Request, lane: Lane, end: End, at_s: f64 },
    /// A request was given room for its KV cache, part of which is there already.
    Reserved { id: u32, place: Place, cached_tokens: u32 },
    /// A request has lost its place with its replica; it is not in the pool any more.
    Lost { request: Request },
    /// The KV cache that was kept of a request is lost with its replica.
    KvLost { id: u32 },
}

/// Requests that come from outside, and what is told of them there.
#[derive(Debug, Default)]
pub(super) struct Handed {
    pub coming: std::collections::VecDeque<Arrival>,
    /// What has arrived and the autoscaler has not been told of.
    arrived: Workload,
    observes: bool,
    told: bool,
    pub messages: Vec<Message>,
    /// Requests handed in, and their tokens; requests that went back unfinished.
    pub number: u64,
    pub tokens: u64,
    pub gone_back: u64,
}

impl Handed {
    pub fn new(observes: bool) -> Self {
        Self { observes, ..Self::default() }
    }

    pub fn upcoming_s(&self) -> [f64; 2] {
        [0, 1].map(|place| self.coming.get(place).map_or(f64::INFINITY, |arrival| arrival.arrived_at_s))
    }

    pub fn num_at(&self, now_s: f64) -> usize {
        self.coming.iter().take_while(|arrival| arrival.arrived_at_s == now_s).count()
    }

    pub fn is_over(&self) -> bool {
        self.coming.is_empty()
    }

    /// Takes back what has been handed in and has not arrived; whether it was there.
    pub fn take_back(&mut self, id: u32) -> bool {
        let before = self.coming.len();
        self.coming.retain(|arrival| arrival.id != id);
        self.coming.len() < before
    }

    pub fn take(&mut self) -> Arrival {
        let arrival = self.coming.pop_front().expect("a request is due");
        if self.observes {
            if std::mem::take(&mut self.told) {
                self.arrived.truncate(0);
            }
            self.arrived.push(arrival.arrived_at_s, arrival.prefill_tokens, arrival.decode_tokens);
        }
        arrival
    }

    pub fn observe(&mut self) -> Arrivals<'_> {
        if std::mem::replace(&mut self.told, true) {
            self.arrived.truncate(0);
        }
        let Workload { arrived_at_s, prefill_tokens, decode_tokens, .. } = &self.arrived;
        Arrivals { arrived_at_s, prefill_tokens, decode_tokens }
    }
}
