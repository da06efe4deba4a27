//! The least of many numbers that change one at a time: O(log n) a change, O(1) to ask again.
//!
//! Who wins a game is anybody's guess, so a binary tree with branches is mispredicted at every level. Here
//! blocks of eight are searched without branches, and few clusters have so many replicas that there is more
//! than one level of blocks. Games are played when somebody asks: of several changes to one block only the
//! last is played out.

use std::hint::select_unpredictable;
use std::mem;

const WIDTH: usize = 8;

/// Keys from here on are no keys: what a place without one is given. They differ within a block, so that only
/// real keys are ever equal.
pub const NONE: u64 = u64::MAX - WIDTH as u64;

/// Numbered places with a key each, and which of them has the least. With `DISTINCT` no two keys are ever
/// equal, and all are below 2^61.
#[derive(Debug)]
pub struct Tournament<const DISTINCT: bool> {
    /// A complete tree in an array: the children of block b are blocks 8 b + 1 to 8 b + 8; places are in the
    /// blocks of the last level.
    blocks: Vec<Block>,
    first_leaf: usize,
    /// Places there are.
    room: usize,
    /// The block of the last level that was changed last, and which of its slots were, a bit each, since its
    /// games were played.
    changed: usize,
    to_play: u8,
    least: (u64, u32),
}

/// Eight players: places in the last level, above it the winners of the blocks below.
#[derive(Debug, Clone, Copy)]
struct Block {
    keys: [u64; WIDTH],
    places: [u32; WIDTH],
}

const EMPTY: Block = Block {
    keys: [NONE, NONE + 1, NONE + 2, NONE + 3, NONE + 4, NONE + 5, NONE + 6, NONE + 7],
    places: [u32::MAX; WIDTH],
};

impl<const DISTINCT: bool> Default for Tournament<DISTINCT> {
    fn default() -> Self {
        Self {
            blocks: vec![EMPTY],
            first_leaf: 0,
            room: WIDTH,
            changed: 0,
            to_play: 0,
            least: (NONE, u32::MAX),
        }
    }
}

impl<const DISTINCT: bool> Tournament<DISTINCT> {
    /// Takes all keys away.
    pub fn clear(&mut self) {
        self.blocks.fill(EMPTY);
        self.to_play = 0;
        self.least = (NONE, u32::MAX);
    }

    /// The least key and its place; a key of at least [`NONE`] if there is none.
    ///
    /// Of two places with the same key the one that `is_first` (of both) says wins; it is asked about any two
    /// that meet, and before the least key is shared by two places, these two have met.
    #[inline(always)]
    pub fn least(&mut self, mut is_first: impl FnMut(u32, u32) -> bool) -> (u64, u32) {
        if self.to_play != 0 {
            self.play(&mut is_first);
        }
        self.least
    }

    /// Sets the key of a place, or takes it away with [`NONE`]. About `is_first` see [`Self::least`]; here it
    /// answers for the keys before the change.
    #[inline(always)]
    pub fn set(&mut self, place: u32, key: u64, mut is_first: impl FnMut(u32, u32) -> bool) {
        while place as usize >= self.room {
            self.grow(&mut is_first);
        }
        let (leaf, slot) = (self.first_leaf + place as usize / WIDTH, place as usize % WIDTH);
        if self.changed != leaf {
            if self.to_play != 0 {
                self.play(&mut is_first);
            }
            self.changed = leaf;
        }
        self.to_play |= 1 << slot;
        self.blocks[leaf].put(slot, key, place);
    }

    /// Plays the games of the changed block and of those above it.
    #[inline(always)]
    fn play(&mut self, is_first: &mut impl FnMut(u32, u32) -> bool) {
        let (mut index, mut changed) = (self.changed, mem::take(&mut self.to_play));
        loop {
            let block = &self.blocks[index];
            let ((key, winner), tied) =
                if DISTINCT { (block.least_of_distinct(), false) } else { block.play() };
            let winner = if tied { block.settle(winner, is_first) } else { winner };
            let place = block.places[winner];
            if index == 0 {
                self.least = (key, place);
                return;
            }
            let slot = (index - 1) % WIDTH;
            index = (index - 1) / WIDTH;
            let above = &mut self.blocks[index];
            if changed & 1 << winner == 0 && above.places[slot] == place {
                // The same player goes on, as it was: above nothing changes.
                return;
            }
            above.put(slot, key, place);
            changed = 1 << slot;
        }
    }

    /// Makes room for eight times as many places.
    #[cold]
    fn grow(&mut self, is_first: &mut dyn FnMut(u32, u32) -> bool) {
        let old = mem::take(self);
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
    #[inline(always)]
    fn put(&mut self, slot: usize, key: u64, place: u32) {
        self.keys[slot] = if key >= NONE { NONE + slot as u64 } else { key };
        self.places[slot] = place;
    }

    /// A least key and its slot, and whether any two that met were equal. Three rounds of games that do not
    /// wait for each other.
    #[inline(always)]
    fn play(&self) -> ((u64, usize), bool) {
        let mut tied = false;
        let mut game = |one: (u64, usize), other: (u64, usize)| {
            tied |= one.0 == other.0;
            let other_wins = other.0 < one.0;
            (
                select_unpredictable(other_wins, other.0, one.0),
                select_unpredictable(other_wins, other.1, one.1),
            )
        };
        let [a, b, c, d, e, f, g, h] = self.keys;
        let (ab, cd, ef, gh) =
            (game((a, 0), (b, 1)), game((c, 2), (d, 3)), game((e, 4), (f, 5)), game((g, 6), (h, 7)));
        let (abcd, efgh) = (game(ab, cd), game(ef, gh));
        (game(abcd, efgh), tied)
    }

    /// The least key and its slot, where no two are equal and the highest bits of keys are not used: slots
    /// are put below them.
    #[inline(always)]
    fn least_of_distinct(&self) -> (u64, usize) {
        let less = |one: u64, other: u64| select_unpredictable(other < one, other, one);
        let numbered = |slot: usize| self.keys[slot] << WIDTH.ilog2() | slot as u64;
        let pair = |slot: usize| less(numbered(slot), numbered(slot + 1));
        let slot = less(less(pair(0), pair(2)), less(pair(4), pair(6))) as usize % WIDTH;
        (self.keys[slot], slot)
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
        /// The twin keeps a list and scans it. Few keys, so that many are equal; of these the highest place
        /// wins.
        #[test]
        fn agrees_with_a_scan(changes in prop::collection::vec((0_u32..200, prop::option::of(0_u64..5), any::<bool>()), 1..400)) {
            let (mut tournament, mut twin) = (Tournament::<false>::default(), vec![u64::MAX; 200]);
            let mut met = [false; 5];
            for (place, key, asked) in changes {
                let mut is_first = |twin: &[u64], one: u32, other: u32| {
                    met[twin[one as usize] as usize] = true;
                    one > other
                };
                tournament.set(place, key.unwrap_or(NONE), |one, other| is_first(&twin, one, other));
                twin[place as usize] = key.unwrap_or(u64::MAX);
                if !asked {
                    continue;
                }
                let (least, winner) = tournament.least(|one, other| is_first(&twin, one, other));
                let expected = *twin.iter().min().unwrap();
                prop_assert_eq!((least < NONE).then_some(least), (expected < NONE).then_some(expected));
                if least < NONE {
                    prop_assert_eq!(winner as usize, twin.iter().rposition(|&key| key == least).unwrap());
                    if twin.iter().filter(|&&key| key == least).count() > 1 {
                        prop_assert!(met[least as usize], "two share the least key and have not met");
                    }
                }
            }
        }
    }

    proptest! {
        #[test]
        fn distinct_keys_agree_with_a_scan(changes in prop::collection::vec((0_u32..200, prop::option::of(0_u64..1 << 29), any::<bool>()), 1..400)) {
            let (mut tournament, mut twin) = (Tournament::<true>::default(), vec![None; 200]);
            let distinct = |_, _| unreachable!("no two keys are equal");
            for (place, key, asked) in changes {
                let key = key.map(|key| key << 32 | u64::from(place));
                tournament.set(place, key.unwrap_or(NONE), distinct);
                twin[place as usize] = key;
                if asked {
                    let (least, winner) = tournament.least(distinct);
                    let expected = (0..).zip(&twin).filter_map(|(place, &key)| Some((key?, place))).min();
                    prop_assert_eq!((least < NONE).then_some((least, winner)), expected);
                }
            }
        }
    }

    #[test]
    fn cleared_is_empty() {
        let mut tournament = Tournament::<true>::default();
        tournament.set(70, 3, |_, _| unreachable!("one place only"));
        let alone = |_, _| unreachable!("one place only");
        assert_eq!(tournament.least(alone), (3, 70));
        tournament.clear();
        assert!(tournament.least(alone).0 >= NONE);
    }
}
