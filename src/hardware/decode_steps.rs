//! Times of a batch of decodes that repeats itself, each request one token further every time.

use super::condensed::Even;
use super::overheads::StepOverheads;

/// The times of the next so many repeats; see [`super::ExecutionTime::decode_steps`].
#[derive(Debug, Clone, Copy)]
pub enum DecodeSteps<'a> {
    /// All alike.
    Alike { duration_s: f64, steps: u64 },
    /// Only attention differs, and is read from one part of a table.
    Along(DecodeTimes<'a>),
}

/// Step times of a stage, all parts but attention being the same every time.
#[derive(Debug, Clone, Copy)]
pub struct DecodeTimes<'a> {
    pub(super) attention_ms: Even<'a>,
    /// Attention that stays the same.
    pub(super) added_ms: f64,
    pub(super) num_decodes: u32,
    pub(super) stage_ms: f64,
    pub(super) layers: f64,
    pub(super) head_ms: f64,
    pub(super) overheads: StepOverheads,
}

impl DecodeTimes<'_> {
    /// How many of so many repeats there are from `cached_tokens` on before the part of the table ends.
    #[inline]
    pub fn steps_of(&self, cached_tokens: u64, wanted: u64) -> u64 {
        let (left, requests) = (self.attention_ms.end - cached_tokens, u64::from(self.num_decodes));
        // Mostly all of them: then nothing need be divided.
        if left > wanted * requests { wanted } else { left.div_ceil(requests).min(wanted) }
    }

    /// Seconds of the repeat whose requests have `cached_tokens` in the cache: what
    /// [`super::ExecutionTime::stage_time_s`] says, bit for bit.
    #[inline(always)]
    pub fn duration_s(&self, cached_tokens: u64) -> f64 {
        let kernels_s = (self.stage_ms
            + self.layers * (self.attention_ms.at(cached_tokens) + self.added_ms)
            + self.head_ms)
            * 1e-3;
        self.overheads.on_top_of(kernels_s, self.num_decodes, 0, 0)
    }
}
