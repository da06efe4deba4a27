//! The order in which things happen.
//!
//! Events are ordered by time, then by when they were created: the reference numbers events as it creates them and breaks ties by that
//! number. Arrivals never enter the queue: they are merged from their sorted column, before any other event of the same time.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A thing due at a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A pipeline stage of the replica in `lane` ends its batch. Stale if the lane's epoch has moved on.
    StageEnd { lane: u32, stage: u32, epoch: u32 },
    /// The autoscaler decides.
    Tune,
    /// A replica joins.
    ScaleUp,
    /// A replica is freed or marked to drain.
    ScaleDown,
    /// Replicas report to the global scheduler.
    Scrape,
    /// The replica that has this id, if it is still in this lane, will be taken away.
    Notice { lane: u32, id: u32 },
    /// It is gone.
    Loss { lane: u32, id: u32 },
}

/// An entry of the queue. Times are kept as bits: for numbers of at least 0 these order alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    at: u64,
    created: u64,
    sequence: u32,
    pub due: Due,
}

impl Event {
    #[inline]
    pub fn at_s(&self) -> f64 {
        f64::from_bits(self.at)
    }
}

impl Ord for Event {
    /// Reversed, so that the heap's maximum is the earliest.
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        (other.at, other.created, other.sequence).cmp(&(self.at, self.created, self.sequence))
    }
}

impl PartialOrd for Event {
    #[inline]
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Events to come.
#[derive(Debug, Default)]
pub struct EventQueue {
    heap: BinaryHeap<Event>,
    sequence: u32,
}

impl EventQueue {
    pub fn clear(&mut self) {
        self.heap.clear();
        self.sequence = 0;
    }

    /// Adds an event. `created_s` is when the reference would have created it, which breaks ties.
    #[inline]
    pub fn push(&mut self, at_s: f64, created_s: f64, due: Due) {
        debug_assert!(at_s >= created_s && created_s >= 0.0);
        self.heap.push(Event { at: at_s.to_bits(), created: created_s.to_bits(), sequence: self.sequence, due });
        self.sequence = self.sequence.wrapping_add(1);
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.heap.as_slice())
    }

    /// Time of the next event; infinite if there is none.
    #[inline]
    pub fn next_at_s(&self) -> f64 {
        self.heap.peek().map_or(f64::INFINITY, Event::at_s)
    }

    #[inline]
    pub fn pop(&mut self) -> Option<Event> {
        self.heap.pop()
    }

    /// Takes the next event if it ends a stage and no other is due at the same time; returns its lane and epoch.
    #[inline]
    pub fn pop_lone_stage_end(&mut self) -> Option<(u32, u32)> {
        // A heap's second is a child of its first.
        let events = self.heap.as_slice();
        let first = events.first()?;
        let Due::StageEnd { lane, epoch, .. } = first.due else { return None };
        if events.iter().skip(1).take(2).any(|event| event.at == first.at) {
            return None;
        }
        self.heap.pop();
        Some((lane, epoch))
    }
}
