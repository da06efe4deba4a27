//! Prompt blocks by the runs in which they always come.
//!
//! Of 24 blocks of a prompt in Mooncake's conversations nearly all come in three runs: what every prompt begins with, what earlier turns
//! said, what is new. Blocks of a run are sent, found and used together, so whoever remembers prompts need only remember runs.

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

/// The prompts of a workload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PrefixRuns {
    block_tokens: u32,
    offsets: Vec<usize>,
    runs: Vec<Run>,
}

/// Marks what is not known, and neighbours that are not always the same.
const NONE: u32 = u32::MAX;

/// Where a block comes, if always at the same place, and its neighbours there.
#[derive(Clone, Copy)]
struct Surroundings {
    place: u32,
    previous: u32,
    next: u32,
}

impl PrefixRuns {
    pub(super) fn new(prefix: &PrefixBlocks) -> Self {
        let ids = dense(prefix.ids());
        let prompts = || (0..prefix.len()).map(|request| &ids[prefix.range(request)]);
        let number = ids.iter().max().map_or(0, |&most| most as usize + 1);
        let mut found = vec![Surroundings { place: NONE, previous: NONE, next: NONE }; number];
        for prompt in prompts() {
            let mut previous = NONE;
            for (place, &id) in (0..).zip(prompt) {
                let next = prompt.get(place as usize + 1).copied().unwrap_or(NONE);
                let at = &mut found[id as usize];
                if at.place == NONE {
                    *at = Surroundings { place, previous, next };
                } else {
                    if at.previous != previous || at.place != place {
                        at.previous = NONE;
                    }
                    if at.next != next || at.place != place {
                        at.next = NONE;
                    }
                }
                previous = id;
            }
        }
        let mut runs: Vec<Run> = Vec::new();
        let (mut offsets, mut run_of, mut numbered) = (vec![0], vec![NONE; number], 0);
        for prompt in prompts() {
            let mut previous = NONE;
            for (end, &id) in (1..).zip(prompt) {
                let goes_on = previous != NONE && found[id as usize].previous == previous && found[previous as usize].next == id;
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
            offsets.push(runs.len());
        }
        Self { block_tokens: prefix.block_tokens, offsets, runs }
    }

    /// The prompt of a request.
    #[inline]
    pub fn of(&self, request: u32) -> Prompt<'_> {
        let request = request as usize;
        Prompt { runs: &self.runs[self.offsets[request]..self.offsets[request + 1]], block_tokens: self.block_tokens }
    }
}

/// Ids as numbers with few gaps. Those of published traces are that already and stay what they are.
fn dense(ids: &[u64]) -> Vec<u32> {
    let most = ids.iter().max().copied().unwrap_or_default();
    if most <= 4 * ids.len() as u64 && most < u64::from(NONE) {
        return ids.iter().map(|&id| id as u32).collect();
    }
    let mut distinct = ids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    ids.iter().map(|id| distinct.binary_search(id).expect("every id is among the distinct ones") as u32).collect()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn runs(prompts: &[&[u64]]) -> Vec<Vec<(u32, u32)>> {
        let mut prefix = PrefixBlocks::new(1);
        prompts.iter().for_each(|ids| prefix.push(ids, ids.len() as u32));
        let runs = PrefixRuns::new(&prefix);
        (0..prompts.len() as u32).map(|request| runs.of(request).runs.iter().map(|run| (run.id, run.end)).collect()).collect()
    }

    #[test]
    fn what_always_comes_together_is_one() {
        assert_eq!(
            runs(&[&[0, 1, 2, 3], &[0, 1, 4, 5], &[0, 1, 2, 3, 6]]),
            [vec![(0, 2), (1, 4)], vec![(0, 2), (2, 4)], vec![(0, 2), (1, 4), (3, 5)]]
        );
        assert_eq!(runs(&[&[u64::MAX, 7], &[], &[u64::MAX, 1 << 40]]), [vec![(0, 1), (1, 2)], vec![], vec![(0, 1), (2, 2)]]);
    }

    #[test]
    fn what_comes_at_several_places_is_alone() {
        assert_eq!(runs(&[&[0, 1, 0, 1]]), [[(0, 1), (1, 2), (0, 3), (1, 4)]]);
        assert_eq!(runs(&[&[5, 1, 2], &[1, 2]]), [vec![(0, 1), (1, 2), (2, 3)], vec![(1, 1), (2, 2)]]);
    }

    proptest! {
        /// Every run stands for the same ids wherever it comes, and no id is in two runs.
        #[test]
        fn runs_are_their_blocks(prompts in prop::collection::vec(prop::collection::vec(0..9_u64, 0..6), 1..12)) {
            let found = runs(&prompts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let (mut ids_of, mut run_of) = (BTreeMap::new(), BTreeMap::new());
            for (prompt, runs) in prompts.iter().zip(found) {
                let mut start = 0;
                for (run, end) in runs {
                    let ids = &prompt[start..end as usize];
                    prop_assert_eq!(*ids_of.entry(run).or_insert(ids), ids);
                    for &id in ids {
                        prop_assert_eq!(*run_of.entry(id).or_insert(run), run);
                    }
                    prop_assert!(ids.len() == 1 || prompts.iter().all(|other| other.iter().position(|id| *id == ids[0]).is_none_or(|place| place == start)));
                    start = end as usize;
                }
                prop_assert_eq!(start, prompt.len());
            }
        }
    }
}
