//! Which prompts begin alike: ids of blocks of prompt tokens, as Mooncake's traces publish them.
//!
//! Equal ids are equal blocks after equal beginnings, so two requests share as many cached blocks as their
//! lists have ids in common from the start.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use super::PrefixRuns;

/// The prompt blocks of each request, one after another.
///
/// Invariants: `offsets` has one entry more than there are requests, starts at 0 and never decreases; its
/// last entry is the number of `ids`. A request has at most `prefill_tokens / block_tokens`, rounded up, ids.
#[derive(Debug, Clone)]
pub struct PrefixBlocks {
    /// Prompt tokens a block holds; a prompt's last block may hold fewer.
    pub block_tokens: u32,
    /// Where the ids of each request start.
    offsets: Vec<usize>,
    ids: Vec<u64>,
    /// The same by runs, once somebody asked: all runs on a workload share it.
    runs: OnceLock<Arc<PrefixRuns>>,
}

impl PartialEq for PrefixBlocks {
    fn eq(&self, other: &Self) -> bool {
        (self.block_tokens, &self.offsets, &self.ids) == (other.block_tokens, &other.offsets, &other.ids)
    }
}

impl PrefixBlocks {
    pub fn new(block_tokens: u32) -> Self {
        Self { block_tokens, offsets: vec![0], ids: Vec::new(), runs: OnceLock::new() }
    }

    /// Number of requests.
    pub(super) fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Where the ids of a request are among all.
    pub(super) fn range(&self, request: usize) -> Range<usize> {
        self.offsets[request]..self.offsets[request + 1]
    }

    /// The ids of all requests.
    pub fn ids(&self) -> &[u64] {
        &self.ids
    }

    /// The block ids of a request.
    pub fn of(&self, request: usize) -> &[u64] {
        &self.ids[self.range(request)]
    }

    /// Whether each request that has ids has one for every block of its prompt.
    pub(super) fn is_whole(&self, prefill_tokens: &[u32]) -> bool {
        (0..self.len()).all(|request| match self.of(request).len() {
            0 => true,
            ids => ids == prefill_tokens[request].div_ceil(self.block_tokens) as usize,
        })
    }

    /// The prompts by runs of blocks that always come together.
    pub fn runs(&self) -> &Arc<PrefixRuns> {
        self.runs.get_or_init(|| Arc::new(PrefixRuns::new(self)))
    }

    /// Adds the next request; ids beyond its prompt are left out, as when a prompt is cut.
    pub fn push(&mut self, ids: &[u64], prefill_tokens: u32) {
        self.runs.take();
        let blocks = prefill_tokens.div_ceil(self.block_tokens) as usize;
        self.ids.extend_from_slice(&ids[..ids.len().min(blocks)]);
        self.offsets.push(self.ids.len());
    }

    pub(super) fn truncate(&mut self, requests: usize) {
        self.runs.take();
        self.offsets.truncate(requests + 1);
        self.ids.truncate(self.offsets[self.offsets.len() - 1]);
    }

    pub(super) fn skip(&mut self, requests: usize) {
        self.runs.take();
        let first = self.offsets[requests];
        self.ids.drain(..first);
        self.offsets.drain(..requests);
        self.offsets.iter_mut().for_each(|offset| *offset -= first);
    }

    pub(super) fn reordered(&self, order: &[u32]) -> Self {
        let mut reordered = Self { ids: Vec::with_capacity(self.ids.len()), ..Self::new(self.block_tokens) };
        for &request in order {
            reordered.ids.extend_from_slice(self.of(request as usize));
            reordered.offsets.push(reordered.ids.len());
        }
        reordered
    }

    pub(super) fn hash(&self, hasher: &mut blake3::Hasher) {
        hasher.update(b"prefix blocks");
        hasher.update(&self.block_tokens.to_le_bytes());
        for &offset in &self.offsets {
            hasher.update(&(offset as u64).to_le_bytes());
        }
        for id in &self.ids {
            hasher.update(&id.to_le_bytes());
        }
    }
}
