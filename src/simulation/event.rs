//! The order in which things happen.
//!
//! Events are ordered by time, then by when they were created: the reference numbers events as it creates
//! them and breaks ties by that number. Arrivals never enter the queue: they are merged from their sorted
//! column, before any other event of the same time.
//!
//! Nearly all events are ends of pipeline stages, and a stage works on one batch at a time. So these need no
//! heap: each stage has one place in a tournament for the earliest. Rescheduling or taking back an end
//! rewrites its place.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

use crate::replica_scheduler::{Lane, ReplicaId, Slot};
use crate::tournament::{NONE, Tournament};

/// Which stage of a replica's pipeline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StageIndex(pub u32);

impl StageIndex {
    pub const FIRST: Self = Self(0);

    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A thing due at a later time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// A pipeline stage of the replica in `lane` ends its batch.
    StageEnd { lane: Lane, stage: StageIndex },
    /// The workload has lasted as long as it says.
    End,
    /// The autoscaler decides.
    Tune,
    /// A replica joins, unless its order was cancelled.
    ScaleUp { order: u64 },
    /// A node that was ordered is there.
    NodeArrival,
    /// A node is released, if it has been empty for long enough.
    NodeRelease { node: u32 },
    /// A replica is cancelled, freed or marked to drain.
    ScaleDown,
    /// Replicas report to the global scheduler.
    Scrape,
    /// The replica that has this id, if it is still in this lane, will be taken away.
    Notice { lane: Lane, id: ReplicaId },
    /// It is gone.
    Loss { lane: Lane, id: ReplicaId },
    /// Its time to finish what it has is over.
    Cut { lane: Lane, id: ReplicaId },
    /// The client of the request that has this id, if that is still in this slot, waits no longer.
    GiveUp { slot: Slot, id: u32 },
    /// A spare replica of this kind has been made up for.
    Spare { kind: u32 },
}

/// When something is due and which of what is due at once comes first. Times are kept as bits: for numbers of
/// at least 0 these order alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    at: u64,
    created: u64,
    sequence: u64,
}

/// Later than everything.
const NEVER: Rank = Rank { at: NONE, created: u64::MAX, sequence: u64::MAX };

/// What is due, but for ends of stages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Timer {
    rank: Rank,
    due: Due,
}

impl Ord for Timer {
    /// Reversed, so that the heap's maximum is the earliest.
    fn cmp(&self, other: &Self) -> Ordering {
        other.rank.cmp(&self.rank)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// Whether the first of two ends that are due at once comes first; takes note of the time.
fn settle_tie(ranks: &[Rank], latest_tie: &mut u64, one: u32, other: u32) -> bool {
    let (one, other) = (ranks[one as usize], ranks[other as usize]);
    *latest_tie = one.at.max(*latest_tie);
    one < other
}

/// The end whose place among all lanes' stages this is.
#[inline]
fn end_at(place: u32, stages_per_lane: u32) -> Due {
    Due::StageEnd { lane: Lane(place / stages_per_lane), stage: StageIndex(place % stages_per_lane) }
}

/// Ends of stages, one place each.
#[derive(Debug)]
struct StageEnds {
    tournament: Tournament<false>,
    /// Time (as bits) and place of the first. Asked for at every instant, it is found when it changes.
    first: (u64, u32),
    ranks: Vec<Rank>,
    /// The latest time at which two ends were found to be due at once.
    latest_tie: u64,
}

impl Default for StageEnds {
    fn default() -> Self {
        Self { tournament: Tournament::default(), first: (NONE, u32::MAX), ranks: Vec::new(), latest_tie: 0 }
    }
}

impl StageEnds {
    fn clear(&mut self) {
        self.tournament.clear();
        self.first = (NONE, u32::MAX);
        self.ranks.clear();
        self.latest_tie = 0;
    }

    #[inline(always)]
    fn set(&mut self, place: u32, rank: Rank) {
        if place as usize >= self.ranks.len() {
            self.ranks.resize(place as usize + 1, NEVER);
        }
        let Self { tournament, ranks, latest_tie, .. } = self;
        tournament.set(place, rank.at, |one, other| settle_tie(ranks, latest_tie, one, other));
        ranks[place as usize] = rank;
        // One that ends after the first leaves the first as it is.
        if place == self.first.1 || rank.at <= self.first.0 {
            self.first = tournament.least(|one, other| settle_tie(ranks, latest_tie, one, other));
        }
    }
}

/// Events to come.
#[derive(Debug, Default)]
pub struct EventQueue {
    timers: BinaryHeap<Timer>,
    ends: StageEnds,
    stages_per_lane: u32,
    sequence: u64,
}

impl EventQueue {
    /// Forgets everything; from now on lanes have this many stages.
    pub fn clear(&mut self, stages_per_lane: u32) {
        self.timers.clear();
        self.ends.clear();
        self.stages_per_lane = stages_per_lane;
        self.sequence = 0;
    }

    #[inline]
    fn rank(&mut self, at_s: f64, created_s: f64) -> Rank {
        debug_assert!(at_s >= created_s && created_s >= 0.0);
        self.sequence += 1;
        Rank { at: at_s.to_bits(), created: created_s.to_bits(), sequence: self.sequence }
    }

    /// Adds an event. `created_s` is when the reference would have created it, which breaks ties. For ends of
    /// stages see [`Self::end_stage`].
    pub fn push(&mut self, at_s: f64, created_s: f64, due: Due) {
        let rank = self.rank(at_s, created_s);
        self.timers.push(Timer { rank, due });
    }

    /// Sets when a stage ends its batch, whatever was set before.
    #[inline]
    pub fn end_stage(&mut self, lane: Lane, stage: StageIndex, at_s: f64, created_s: f64) {
        let rank = self.rank(at_s, created_s);
        self.ends.set(lane.0 * self.stages_per_lane + stage.0, rank);
    }

    /// Takes back all ends of stages of a lane.
    pub fn cancel_stages(&mut self, lane: Lane) {
        for stage in 0..self.stages_per_lane {
            self.ends.set(lane.0 * self.stages_per_lane + stage, NEVER);
        }
    }

    #[inline]
    fn first_timer(&self) -> Rank {
        self.timers.peek().map_or(NEVER, |timer| timer.rank)
    }

    /// Everything that is due, in order: when, when that was created, and what.
    pub fn in_order(&self) -> impl Iterator<Item = (f64, f64, Due)> + use<> {
        let stages = self.stages_per_lane;
        let end = |(place, &rank): (usize, &Rank)| {
            let place = place as u32;
            (rank != NEVER).then_some((rank, end_at(place, stages)))
        };
        let timers = self.timers.iter().map(|timer| (timer.rank, timer.due));
        let mut all: Vec<(Rank, Due)> =
            timers.chain(self.ends.ranks.iter().enumerate().filter_map(end)).collect();
        all.sort_unstable_by_key(|&(rank, _)| rank);
        all.into_iter().map(|(rank, due)| (f64::from_bits(rank.at), f64::from_bits(rank.created), due))
    }

    pub fn bytes(&self) -> usize {
        size_of_val(self.timers.as_slice()) + size_of_val(&self.ends.ranks[..])
    }

    /// Time of the next event; infinite if there is none.
    #[inline(always)]
    pub fn next_at_s(&self) -> f64 {
        f64::from_bits(self.ends.first.0.min(self.first_timer().at).min(f64::INFINITY.to_bits()))
    }

    /// Takes the next event.
    pub fn pop(&mut self) -> Option<Due> {
        let (_, place) = self.ends.first;
        let end = self.ends.ranks.get(place as usize).copied().unwrap_or(NEVER);
        if self.first_timer() < end {
            return self.timers.pop().map(|timer| timer.due);
        }
        if end == NEVER {
            return None;
        }
        self.ends.set(place, NEVER);
        Some(end_at(place, self.stages_per_lane))
    }

    /// The lane whose stage ends next, if that is the next event, lanes have one stage, and nothing else is
    /// due at the same time (may err towards `None`). The caller sets another end or takes this one back.
    #[inline]
    pub fn next_lone_stage_end(&self) -> Option<Lane> {
        let (at, place) = self.ends.first;
        let alone = self.stages_per_lane == 1 && at > self.ends.latest_tie && at < self.first_timer().at;
        alone.then_some(Lane(place))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[derive(Debug, Clone)]
    enum Action {
        Push(u32),
        End { lane: Lane, stage: StageIndex, after: u32 },
        Cancel(Lane),
        Pop,
        PeekLone,
    }

    fn action() -> impl Strategy<Value = Action> {
        prop_oneof![
            (0_u32..6).prop_map(Action::Push),
            (0_u32..9, 0_u32..2, 0_u32..6).prop_map(|(lane, stage, after)| Action::End {
                lane: Lane(lane),
                stage: StageIndex(stage),
                after
            }),
            (0_u32..9).prop_map(|lane| Action::Cancel(Lane(lane))),
            Just(Action::Pop),
            Just(Action::PeekLone),
        ]
    }

    proptest! {
        /// The twin sorts a list before each look. Times are whole and close, so that many things are due at
        /// once.
        #[test]
        fn order_is_that_of_a_sorted_list(stages in 1_u32..3, actions in prop::collection::vec(action(), 1..200)) {
            let (mut queue, mut twin, mut now, mut sequence) = (EventQueue::default(), Vec::<(f64, f64, u64, Due)>::new(), 0.0_f64, 0);
            queue.clear(stages);
            for action in actions {
                twin.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)).then(a.2.cmp(&b.2)));
                sequence += 1;
                match action {
                    Action::Push(after) => {
                        queue.push(now + f64::from(after), now, Due::Tune);
                        twin.push((now + f64::from(after), now, sequence, Due::Tune));
                    }
                    Action::End { lane, stage, after } => {
                        let stage = StageIndex(stage.0 % stages);
                        queue.end_stage(lane, stage, now + f64::from(after), now);
                        twin.retain(|entry| entry.3 != Due::StageEnd { lane, stage });
                        twin.push((now + f64::from(after), now, sequence, Due::StageEnd { lane, stage }));
                    }
                    Action::Cancel(lane) => {
                        queue.cancel_stages(lane);
                        twin.retain(|entry| !matches!(entry.3, Due::StageEnd { lane: other, .. } if other == lane));
                    }
                    Action::Pop => {
                        let expected = (!twin.is_empty()).then(|| twin.remove(0));
                        prop_assert_eq!(queue.pop(), expected.map(|entry| entry.3));
                        now = expected.map_or(now, |entry| entry.0);
                    }
                    Action::PeekLone => {
                        if let Some(found) = queue.next_lone_stage_end() {
                            prop_assert_eq!(twin[0].3, Due::StageEnd { lane: found, stage: StageIndex::FIRST });
                            prop_assert!(twin.get(1).is_none_or(|second| second.0 > twin[0].0), "two at once");
                        }
                    }
                }
                let next = twin.iter().map(|entry| entry.0).fold(f64::INFINITY, f64::min);
                prop_assert_eq!(queue.next_at_s(), next);
            }
        }
    }
}
