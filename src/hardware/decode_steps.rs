//! Times of a batch of decodes that repeats itself, each request one token further every time.

use super::condensed::Line;
use super::overheads::StepOverheads;

/// The times of the next so many repeats; see [`super::ExecutionTime::decode_steps`].
#[derive(Debug, Clone, Copy)]
pub enum DecodeSteps {
    /// All alike.
    Alike { duration_s: f64, steps: u64 },
    /// Attention follows a line.
    Along(DecodeLine),
}

/// Step times of a stage whose attention grows along a line, the rest being the same every time.
#[derive(Debug, Clone, Copy)]
pub struct DecodeLine {
    pub(super) line: Line,
    pub(super) num_decodes: u32,
    pub(super) stage_ms: f64,
    pub(super) layers: f64,
    pub(super) head_ms: f64,
    pub(super) overheads: StepOverheads,
}

impl DecodeLine {
    /// Whether it holds when the batch's requests have so many tokens in the cache.
    #[inline]
    pub fn reaches(&self, cached_tokens: u64) -> bool {
        self.line.covers(cached_tokens)
    }

    /// How many repeats there are from `cached_tokens` on before the line bends.
    #[inline]
    pub fn steps(&self, cached_tokens: u64) -> u64 {
        (self.line.end - cached_tokens).div_ceil(self.num_decodes.into())
    }

    /// Seconds of the repeat with this number, from 0, beginning with `cached_tokens`: what [`super::ExecutionTime::stage_time_s`] says, bit
    /// for bit.
    #[inline(always)]
    pub fn duration_s(&self, cached_tokens: u64, number: u32) -> f64 {
        let cached_tokens = cached_tokens + u64::from(number) * u64::from(self.num_decodes);
        let kernels_s = (self.stage_ms + self.layers * self.line.at(cached_tokens) + self.head_ms) * 1e-3;
        self.overheads.on_top_of(kernels_s, self.num_decodes, 0)
    }
}
