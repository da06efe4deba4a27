//! Times of batches that come again and again.
//!
//! Where prompts are all of one length, as in the lab's trace and most synthetic ones, there are few
//! different batches. To remember their times is not only less work: all that follows waits for when a batch
//! ends, and additions in the reference's order take long.

use crate::hardware::{BatchShape, ExecutionTime};

/// Times of one-stage steps, of batches of whole prompts only: the latest of each number of them.
#[derive(Debug, Default)]
pub(super) struct StepTimes {
    known: Vec<Known>,
}

const SIZES: usize = 64;

/// Of whole prompts, their number, the sum of their tokens and that of their squares tell all there is to
/// know.
#[derive(Debug, Clone, Copy)]
struct Known {
    tokens: u64,
    tokens_squared: u64,
    time_s: f64,
}

impl Default for Known {
    fn default() -> Self {
        Self { tokens: 0, tokens_squared: 0, time_s: f64::NAN }
    }
}

impl StepTimes {
    pub fn clear(&mut self) {
        self.known.clear();
        self.known.resize(SIZES, Known::default());
    }

    /// The time of a batch on a replica of one stage.
    #[inline(always)]
    pub fn of(&mut self, shape: &BatchShape, times: &ExecutionTime) -> f64 {
        let size = shape.num_prefills as usize;
        if size >= self.known.len() || shape.num_decodes > 0 || shape.prefill_cached_tokens > 0 {
            return times.stage_time_s(shape, 0);
        }
        let known = &mut self.known[size];
        if known.tokens != shape.total_tokens || known.tokens_squared != shape.prefill_tokens_squared {
            *known = Known {
                tokens: shape.total_tokens,
                tokens_squared: shape.prefill_tokens_squared,
                time_s: times.stage_time_s(shape, 0),
            };
        }
        known.time_s
    }
}
