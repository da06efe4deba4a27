//! What was said up to each request: the prompts of a conversation share one list.
//!
//! A turn's prompt is the one before and what is new. Copied at every turn, that is memory by the square of
//! the turns. So a turn goes on in the list of the turn before, and knows how much of it is its own. A list
//! that cannot grow where it is, as another conversation stands behind it, moves to the end with as much room
//! again: a run is copied a few times at most. Where a conversation branches, its first branch goes on in the
//! list, and the others copy it.

use super::super::prefix_runs::{Place, PrefixRuns, Run};

/// Instead of room behind a prompt: another one has gone on there.
const GONE_ON: u32 = u32::MAX;
/// What stands in room.
const NOTHING: Run = Run { id: u32::MAX, end: u32::MAX };

/// The runs of prompts and answers, of requests as they are met.
#[derive(Debug, Default)]
pub(super) struct Said {
    runs: Vec<Run>,
    places: Vec<Place>,
    /// Of each request: how many runs have room behind its own, which only one that goes on may take.
    room: Vec<u32>,
}

impl Said {
    /// The runs of a request.
    pub fn of(&self, request: usize) -> &[Run] {
        self.places[request].of(&self.runs)
    }

    /// Whether any run comes in more than one prompt, or more than once.
    pub fn has_anything_twice(&self) -> bool {
        let mut met = vec![false; self.places.len()];
        self.places.iter().flat_map(|place| place.of(&self.runs)).any(|run| {
            let at = run.id as usize;
            if met.len() <= at {
                met.resize(at + 1, false);
            }
            std::mem::replace(&mut met[at], true)
        })
    }

    /// Adds the next request, which has all runs of `after`, and more.
    pub fn push(&mut self, after: Option<u32>, more: &[Run]) {
        let Some(after) = after.map(|after| after as usize) else {
            self.places.push(Place { from: self.runs.len(), len: more.len() as u32 });
            self.runs.extend_from_slice(more);
            self.room.push(0);
            return;
        };
        let before = self.places[after];
        let room = std::mem::replace(&mut self.room[after], GONE_ON);
        let len = before.len + more.len() as u32;
        let (mut place, mut left) = (Place { len, ..before }, 0);
        if room == GONE_ON || before.end() < self.runs.len() && (room as usize) < more.len() {
            place.from = self.runs.len();
            self.runs.extend_from_within(before.range());
            self.runs.extend_from_slice(more);
            if room != GONE_ON {
                left = len;
                self.runs.resize(place.end() + left as usize, NOTHING);
            }
        } else if before.end() == self.runs.len() {
            self.runs.extend_from_slice(more);
        } else {
            self.runs[before.end()..place.end()].copy_from_slice(more);
            left = room - more.len() as u32;
        }
        self.places.push(place);
        self.room.push(left);
    }

    /// The prompts in another order.
    pub fn into_prompts(mut self, block_tokens: u32, order: &[u32]) -> PrefixRuns {
        self.runs.shrink_to_fit();
        PrefixRuns::of_places(
            block_tokens,
            order.iter().map(|&request| self.places[request as usize]).collect(),
            self.runs,
        )
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whatever goes on after whatever, every request has what it would have if it had copied it.
        #[test]
        fn prompts_are_what_copies_would_be(steps in prop::collection::vec((any::<Option<u16>>(), 0..4_u32), 1..60)) {
            let (mut said, mut copies, mut next) = (Said::default(), Vec::<Vec<Run>>::new(), 0);
            for (after, number) in steps {
                let after = after.filter(|_| !copies.is_empty()).map(|after| u32::from(after) % copies.len() as u32);
                let more: Vec<Run> = (next..next + number).map(|id| Run { id, end: id + 1 }).collect();
                next += number;
                said.push(after, &more);
                let before = after.map_or(&[][..], |after| &copies[after as usize]);
                copies.push([before, &more].concat());
            }
            for (request, copy) in copies.iter().enumerate() {
                prop_assert_eq!(said.of(request), &copy[..]);
            }
            let order: Vec<u32> = (0..copies.len() as u32).rev().collect();
            let prompts = said.into_prompts(1, &order);
            for (place, &request) in (0..).zip(&order) {
                prop_assert_eq!(prompts.of(place).runs, &copies[request as usize][..]);
            }
        }
    }

    #[test]
    fn conversations_that_take_turns_share_their_prompts() {
        let (conversations, turns) = (10_u32, 1000_u32);
        let mut said = Said::default();
        for turn in 0..turns {
            for conversation in 0..conversations {
                let number = turn * conversations + conversation;
                said.push(number.checked_sub(conversations), &[Run { id: number, end: turn + 1 }]);
            }
        }
        assert_eq!(said.of((turns * conversations - 1) as usize).len(), turns as usize);
        // Copied at every turn they would be 5 million.
        assert!(said.runs.len() < 60_000, "{}", said.runs.len());
    }
}
