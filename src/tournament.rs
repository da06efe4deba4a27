//! The least of many numbers that change one at a time: O(log n) a change, O(1) to ask.
//!
//! Who wins a game is anybody's guess, so a binary tree with branches is mispredicted at every level. Here blocks of eight are searched
//! without branches, and few clusters have so many replicas that there is more than one level of blocks.

use std::hint::select_unpredictable;

const WIDTH: usize = 8;

/// Keys from here on are no keys: what a place without one is given. They differ within a block, so that only real keys are ever equal.
pub const NONE: u64 = u64::MAX - WIDTH as u64;

/// Numbered places with a key each, and which of them has the least.
#[derive(Debug)]
pub struct Tournament {
    /// A complete tree in an array: the children of block b are blocks 8 b + 1 to 8 b + 8; places are in the blocks of the last level.
    blocks: Vec<Block>,
    first_leaf: usize,
    /// Places there are.
    room: usize,
    least: (u64, u32),
}

/// Eight players: places in the last level, above it the winners of the blocks below.
#[derive(Debug, Clone, Copy)]
struct Block {
    keys: [u64; WIDTH],
    places: [u32; WIDTH],
}

const EMPTY: Block =
    Block { keys: [NONE, NONE + 1, NONE + 2, NONE + 3, NONE + 4, NONE + 5, NONE + 6, NONE + 7], places: [u32::MAX; WIDTH] };

impl Default for Tournament {
    fn default() -> Self {
        Self { blocks: vec![EMPTY], first_leaf: 0, room: WIDTH, least: (NONE, u32::MAX) }
    }
}

impl Tournament {
    /// Takes all keys away.
    pub fn clear(&mut self) {
        self.blocks.fill(EMPTY);
        self.least = (NONE, u32::MAX);
    }

    /// The least key and its place; a key of at least [`NONE`] if there is none.
    #[inline]
    pub fn least(&self) -> (u64, u32) {
        self.least
    }

    /// Sets the key of a place, or takes it away with [`NONE`]. Of two places with the same key the one that `is_first` (of both) says wins;
    /// it is asked about any two that meet, and before the least key is shared by two places, these two have met.
    #[inline(always)]
    pub fn set(&mut self, place: u32, key: u64, mut is_first: impl FnMut(u32, u32) -> bool) {
        while place as usize >= self.room {
            self.grow(&mut is_first);
        }
        let (mut index, mut slot) = (self.first_leaf + place as usize / WIDTH, place as usize % WIDTH);
        let (mut key, mut place) = (key, place);
        loop {
            let block = &mut self.blocks[index];
            block.keys[slot] = if key >= NONE { NONE + slot as u64 } else { key };
            block.places[slot] = place;
            let (winner, tied) = block.play();
            let winner = if tied { block.settle(winner, &mut is_first) } else { winner };
            (key, place) = (block.keys[winner], block.places[winner]);
            if index == 0 {
                break;
            }
            (index, slot) = ((index - 1) / WIDTH, (index - 1) % WIDTH);
        }
        self.least = (key, place);
    }

    /// Makes room for eight times as many places.
    #[cold]
    fn grow(&mut self, is_first: &mut dyn FnMut(u32, u32) -> bool) {
        let old = std::mem::take(self);
        self.room = old.room * WIDTH;
        self.first_leaf = old.first_leaf * WIDTH + 1;
        self.blocks = vec![EMPTY; self.first_leaf * WIDTH + 1];
        for block in &old.blocks[old.first_leaf..] {
            for (&key, &place) in block.keys.iter().zip(&block.places) {
                if key < NONE {
                    self.set(place, key, &mut *is_first);
                }
            }
        }
    }
}

impl Block {
    /// The slot of a least key, and whether any two that met were equal. Three rounds of games that do not wait for each other.
    #[inline(always)]
    fn play(&self) -> (usize, bool) {
        let mut tied = false;
        let mut game = |one: (u64, usize), other: (u64, usize)| {
            tied |= one.0 == other.0;
            let other_wins = other.0 < one.0;
            (select_unpredictable(other_wins, other.0, one.0), select_unpredictable(other_wins, other.1, one.1))
        };
        let keys = &self.keys;
        let first = [0, 2, 4, 6].map(|i| game((keys[i], i), (keys[i + 1], i + 1)));
        let second = [game(first[0], first[1]), game(first[2], first[3])];
        let (_, winner) = game(second[0], second[1]);
        (winner, tied)
    }

    /// The slot that wins among all with the key of slot `winner`.
    #[cold]
    fn settle(&self, winner: usize, is_first: &mut dyn FnMut(u32, u32) -> bool) -> usize {
        (0..WIDTH).fold(winner, |best, i| {
            let rival = i != best && self.keys[i] == self.keys[best];
            if rival && is_first(self.places[i], self.places[best]) { i } else { best }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin keeps a list and scans it. Few keys, so that many are equal; of these the highest place wins.
        #[test]
        fn agrees_with_a_scan(changes in prop::collection::vec((0_u32..200, prop::option::of(0_u64..5)), 1..400)) {
            let (mut tournament, mut twin) = (Tournament::default(), vec![u64::MAX; 200]);
            let mut met = [false; 5];
            for (place, key) in changes {
                twin[place as usize] = key.unwrap_or(u64::MAX);
                tournament.set(place, key.unwrap_or(NONE), |one, other| {
                    met[twin[one as usize] as usize] = true;
                    one > other
                });
                let (least, _) = tournament.least();
                let expected = *twin.iter().min().unwrap();
                prop_assert_eq!((least < NONE).then_some(least), (expected < NONE).then_some(expected));
                if least < NONE {
                    prop_assert_eq!(tournament.least().1 as usize, twin.iter().rposition(|&key| key == least).unwrap());
                    if twin.iter().filter(|&&key| key == least).count() > 1 {
                        prop_assert!(met[least as usize], "two share the least key and have not met");
                    }
                }
            }
        }
    }

    #[test]
    fn cleared_is_empty() {
        let mut tournament = Tournament::default();
        tournament.set(70, 3, |_, _| unreachable!("one place only"));
        assert_eq!(tournament.least(), (3, 70));
        tournament.clear();
        assert!(tournament.least().0 >= NONE);
    }
}
