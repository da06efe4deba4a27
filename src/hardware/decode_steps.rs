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
    /// Decodes, and the tokens they have in the cache at first.
    pub(super) num_decodes: u32,
    pub(super) cached_tokens: u64,
    pub(super) stage_ms: f64,
    pub(super) layers: f64,
    pub(super) head_ms: f64,
    pub(super) overheads: StepOverheads,
}

impl DecodeLine {
    /// The same from when its requests have `cached_tokens` in the cache, if the line reaches there.
    #[inline]
    pub fn moved_to(&self, cached_tokens: u64) -> Option<Self> {
        self.line.covers(cached_tokens).then_some(Self { cached_tokens, ..*self })
    }

    /// How many repeats there are before the line bends.
    pub fn steps(&self) -> u64 {
        (self.line.end - self.cached_tokens).div_ceil(self.num_decodes.into())
    }

    /// Seconds of the repeat with this number, from 0: what [`super::ExecutionTime::stage_time_s`] says, bit for bit.
    #[inline(always)]
    pub fn duration_s(&self, number: u32) -> f64 {
        let cached_tokens = self.cached_tokens + u64::from(number) * u64::from(self.num_decodes);
        let kernels_s = (self.stage_ms + self.layers * self.line.at(cached_tokens) + self.head_ms) * 1e-3;
        self.overheads.on_top_of(kernels_s, self.num_decodes, 0)
    }
}
