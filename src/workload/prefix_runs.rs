//! Prompt blocks by the runs in which they always come.
//!
//! Of 24 blocks of a prompt in Mooncake's conversations nearly all come in three runs: what every prompt
//! begins with, what earlier turns said, what is new. Blocks of a run are sent, found and used together, so
//! whoever remembers prompts need only remember runs.

use std::collections::BTreeMap;
use std::ops::Range;

use super::PrefixBlocks;

/// Blocks that follow each other wherever one of them comes, always at the same place of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Run {
    /// Number of the run, in order of first appearance.
    pub id: u32,
    /// Blocks of the prompt up to the run's end.
    pub end: u32,
}

/// The beginning of a prompt that others may share.
#[derive(Debug, Clone, Copy)]
pub struct Prompt<'a> {
    pub runs: &'a [Run],
    pub block_tokens: u32,
}

impl Prompt<'_> {
    /// Whether its blocks go on behind so many tokens: then they name what is generated as well.
    pub fn names_more_than(&self, prompt_tokens: u32) -> bool {
        self.runs.last().is_some_and(|run| run.end > prompt_tokens.div_ceil(self.block_tokens))
    }
}

/// Where the runs of a prompt are among all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Place {
    pub from: usize,
    pub len: u32,
}

impl Place {
    pub fn end(self) -> usize {
        self.from + self.len as usize
    }

    pub fn range(self) -> Range<usize> {
        self.from..self.end()
    }

    #[inline]
    pub fn of(self, runs: &[Run]) -> &[Run] {
        &runs[self.range()]
    }
}

/// The prompts of a workload. Those that go on where others end may share their runs.
#[derive(Debug, Clone)]
pub struct PrefixRuns {
    block_tokens: u32,
    places: Vec<Place>,
    runs: Vec<Run>,
}

impl PartialEq for PrefixRuns {
    fn eq(&self, other: &Self) -> bool {
        self.block_tokens == other.block_tokens && self.prompts().eq(other.prompts())
    }
}

/// Marks what has not been seen, and what is not always the same.
const NONE: u32 = u32::MAX;
const UNSEEN: u32 = u32::MAX - 1;

impl PrefixRuns {
    pub(super) fn new(prefix: &PrefixBlocks) -> Self {
        let ids = chained(prefix, dense(prefix.ids()));
        let prompts = || (0..prefix.len()).map(|request| &ids[prefix.range(request)]);
        let number = ids.iter().max().map_or(0, |&most| most as usize + 1);
        // The block that follows each one, if it is always the same.
        let mut next = vec![UNSEEN; number];
        for prompt in prompts() {
            for (place, &id) in prompt.iter().enumerate() {
                let follows = prompt.get(place + 1).copied().unwrap_or(NONE);
                let known = &mut next[id as usize];
                *known = if *known == UNSEEN || *known == follows { follows } else { NONE };
            }
        }
        let mut runs: Vec<Run> = Vec::new();
        let (mut places, mut run_of, mut numbered) =
            (Vec::with_capacity(prefix.len()), vec![NONE; number], 0);
        for prompt in prompts() {
            let (mut previous, from) = (NONE, runs.len());
            for (end, &id) in (1..).zip(prompt) {
                let goes_on = previous != NONE && next[previous as usize] == id;
                match runs.last_mut() {
                    Some(run) if goes_on => run.end = end,
                    _ => {
                        let of = &mut run_of[id as usize];
                        if *of == NONE {
                            *of = numbered;
                            numbered += 1;
                        }
                        runs.push(Run { id: *of, end });
                    }
                }
                previous = id;
            }
            places.push(Place { from, len: (runs.len() - from) as u32 });
        }
        Self { block_tokens: prefix.block_tokens, places, runs }
    }

    /// Prompts whose runs are at these places.
    pub(super) fn of_places(block_tokens: u32, places: Vec<Place>, runs: Vec<Run>) -> Self {
        Self { block_tokens, places, runs }
    }

    fn prompts(&self) -> impl Iterator<Item = &[Run]> {
        self.places.iter().map(|place| place.of(&self.runs))
    }

    /// All prompts one after the other, whatever they share.
    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"runs");
        hasher.update(&self.block_tokens.to_le_bytes());
        let mut offset = 0_u64;
        hasher.update(&offset.to_le_bytes());
        for place in &self.places {
            offset += u64::from(place.len);
            hasher.update(&offset.to_le_bytes());
        }
        let mut bytes = Vec::new();
        for part in self.prompts().flat_map(|prompt| prompt.chunks(1 << 12)) {
            bytes.clear();
            part.iter().for_each(|Run { id, end }| {
                bytes.extend(id.to_le_bytes().into_iter().chain(end.to_le_bytes()))
            });
            hasher.update(&bytes);
        }
    }

    /// The list that a prompt stands in, to be compared: prompts at the beginning of the same one go on after
    /// each other.
    pub(super) fn list(&self, request: u32) -> usize {
        self.places[request as usize].from
    }

    /// A prompt as the one before and what is behind it, if it begins with all of that; otherwise as its own
    /// runs.
    pub(super) fn by_behind(&self, request: u32, before: Option<u32>) -> (Option<u32>, &[Run]) {
        let runs = self.places[request as usize].of(&self.runs);
        let behind = before.and_then(|before| {
            let (place, before) = (self.places[request as usize], self.places[before as usize]);
            if place.from == before.from {
                runs.get(before.len as usize..)
            } else {
                runs.strip_prefix(before.of(&self.runs))
            }
        });
        behind.map_or((None, runs), |behind| (before, behind))
    }

    pub(super) fn block_tokens(&self) -> u32 {
        self.block_tokens
    }

    /// The prompt of a request.
    #[inline]
    pub fn of(&self, request: u32) -> Prompt<'_> {
        Prompt { runs: self.places[request as usize].of(&self.runs), block_tokens: self.block_tokens }
    }
}

/// Blocks by what comes before them too: a block is cached only together with everything before it, so one
/// that follows different blocks is a different one each time. In published traces ids say so already, and
/// stay what they are.
fn chained(prefix: &PrefixBlocks, ids: Vec<u32>) -> Vec<u32> {
    let prompts = || (0..prefix.len()).map(|request| prefix.range(request));
    let number = ids.iter().max().map_or(0, |&most| most as usize + 1);
    let mut previous_of = vec![UNSEEN; number];
    let says_so = prompts().all(|prompt| {
        let mut previous = NONE;
        ids[prompt].iter().all(|&id| {
            let known = &mut previous_of[id as usize];
            let same = *known == UNSEEN || *known == previous;
            (*known, previous) = (previous, id);
            same
        })
    });
    if says_so {
        return ids;
    }
    let mut known = BTreeMap::new();
    let mut chained = Vec::with_capacity(ids.len());
    for prompt in prompts() {
        let mut previous = NONE;
        for &id in &ids[prompt] {
            let number = known.len() as u32;
            previous = *known.entry((previous, id)).or_insert(number);
            chained.push(previous);
        }
    }
    chained
}

/// Ids as numbers with few gaps. Those of published traces are that already and stay what they are.
fn dense(ids: &[u64]) -> Vec<u32> {
    let most = ids.iter().max().copied().unwrap_or_default();
    if most <= 4 * ids.len() as u64 && most < u64::from(UNSEEN) {
        return ids.iter().map(|&id| id as u32).collect();
    }
    let mut distinct = ids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    ids.iter()
        .map(|id| distinct.binary_search(id).expect("every id is among the distinct ones") as u32)
        .collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn runs(prompts: &[&[u64]]) -> Vec<Vec<(u32, u32)>> {
        let mut prefix = PrefixBlocks::new(1);
        prompts.iter().for_each(|ids| prefix.push(ids, ids.len() as u32));
        let runs = PrefixRuns::new(&prefix);
        (0..prompts.len() as u32)
            .map(|request| runs.of(request).runs.iter().map(|run| (run.id, run.end)).collect())
            .collect()
    }

    #[test]
    fn what_always_comes_together_is_one() {
        assert_eq!(
            runs(&[&[0, 1, 2, 3], &[0, 1, 4, 5], &[0, 1, 2, 3, 6]]),
            [vec![(0, 2), (1, 4)], vec![(0, 2), (2, 4)], vec![(0, 2), (1, 4), (3, 5)]]
        );
        assert_eq!(
            runs(&[&[u64::MAX, 7], &[], &[u64::MAX, 1 << 40]]),
            [vec![(0, 1), (1, 2)], vec![], vec![(0, 1), (2, 2)]]
        );
    }

    #[test]
    fn what_follows_different_blocks_is_different() {
        assert_eq!(runs(&[&[0, 1, 0, 1]]), [[(0, 4)]]);
        assert_eq!(runs(&[&[5, 1, 2], &[1, 2]]), [vec![(0, 3)], vec![(1, 2)]]);
        assert_eq!(
            runs(&[&[5, 1, 2], &[5, 2], &[5, 1]]),
            [vec![(0, 1), (1, 2), (2, 3)], vec![(0, 1), (3, 2)], vec![(0, 1), (1, 2)]]
        );
    }

    proptest! {
        /// Every run stands for the same beginning wherever it comes, and no beginning ends in two runs.
        #[test]
        fn runs_are_their_blocks(prompts in prop::collection::vec(prop::collection::vec(0..9_u64, 0..6), 1..12)) {
            let found = runs(&prompts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (mut blocks_of, mut run_of) = (BTreeMap::new(), BTreeMap::new());
            for (prompt, runs) in prompts.iter().zip(found) {
                let mut start = 0;
                for (run, end) in runs {
                    let until = &prompt[..end as usize];
                    prop_assert_eq!(*blocks_of.entry(run).or_insert((start, until)), (start, until));
                    for end in start + 1..=end as usize {
                        prop_assert_eq!(*run_of.entry(&prompt[..end]).or_insert(run), run);
                    }
                    start = end as usize;
                }
                prop_assert_eq!(start, prompt.len());
            }
        }
    }
}
