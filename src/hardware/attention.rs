//! Attention in closed form: what the sums of a [`BatchShape`] say.

use serde::{Deserialize, Serialize};

use super::BatchShape;
use super::condensed::{Grid, Table};

/// Prefill attention of one layer, linear in the sums of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct PrefillTerms {
    pub fixed_ms: f64,
    /// Per pair of a new token and one it attends to.
    pub ms_per_pair: f64,
    /// Per new token.
    pub ms_per_token: f64,
    /// Per token already cached.
    pub ms_per_cached_token: f64,
}

impl PrefillTerms {
    pub fn scaled(self, factor: f64) -> Self {
        Self {
            fixed_ms: self.fixed_ms * factor,
            ms_per_pair: self.ms_per_pair * factor,
            ms_per_token: self.ms_per_token * factor,
            ms_per_cached_token: self.ms_per_cached_token * factor,
        }
    }
}

/// Attention after the roofline: prefills by formula, decodes by the sum of their cached tokens.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct AnalyticAttention {
    pub prefill: PrefillTerms,
    /// One layer's decode attention by cached tokens of all decodes.
    pub decode_ms: Table,
    /// The part of layers that attend to a limited number of tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limited: Option<LimitedAttention>,
    /// What chooses those tokens.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scan: Option<ScanTerms>,
}

/// Attention to the latest tokens, or to chosen ones: as many as `tokens`. Requests are told apart by their
/// mean only.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct LimitedAttention {
    pub tokens: u32,
    pub prefill: PrefillTerms,
    pub decode_ms: Table,
}

/// A scan of the whole context, linear in the sums of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct ScanTerms {
    /// Per pair of a new token and one before it.
    pub ms_per_pair: f64,
    /// Per cached token of a decode.
    pub ms_per_cached_token: f64,
}

impl LimitedAttention {
    fn prefill_ms(&self, shape: &BatchShape) -> f64 {
        let prefills = f64::from(shape.num_prefills);
        let (new, cached) =
            (shape.prefill_tokens as f64 / prefills, shape.prefill_cached_tokens as f64 / prefills);
        let limit = f64::from(self.tokens);
        // The tokens that see fewer than the limit, and the rest.
        let rising = (limit - cached).clamp(0.0, new);
        let pairs = rising * cached + 0.5 * rising * (rising + 1.0) + (new - rising) * limit;
        let PrefillTerms { fixed_ms, ms_per_pair, ms_per_token, ms_per_cached_token } = self.prefill;
        fixed_ms
            + prefills * (ms_per_pair * pairs + ms_per_token * new + ms_per_cached_token * cached.min(limit))
    }

    fn decode_ms(&self, shape: &BatchShape) -> f64 {
        self.decode_ms
            .at(shape.decode_cached_tokens.min(u64::from(shape.num_decodes) * u64::from(self.tokens)))
    }
}

impl AnalyticAttention {
    /// Milliseconds per layer.
    #[inline]
    pub fn prefill_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_prefills == 0 {
            return 0.0;
        }
        let PrefillTerms { fixed_ms, ms_per_pair, ms_per_token, ms_per_cached_token } = self.prefill;
        let pairs = shape.prefill_tokens_times_cached as f64
            + 0.5 * (shape.prefill_tokens_squared + shape.prefill_tokens) as f64;
        let full = fixed_ms
            + ms_per_pair * pairs
            + ms_per_token * shape.prefill_tokens as f64
            + ms_per_cached_token * shape.prefill_cached_tokens as f64;
        match (&self.limited, &self.scan) {
            (None, None) => full,
            (limited, scan) => {
                let limited = limited.as_ref().map_or(0.0, |limited| limited.prefill_ms(shape));
                full + limited + scan.map_or(0.0, |scan| scan.ms_per_pair * pairs)
            }
        }
    }

    /// Milliseconds per layer of one prefill of `tokens` behind `cached` tokens.
    pub fn one_prefill_ms(&self, tokens: f64, cached: f64) -> f64 {
        let PrefillTerms { fixed_ms, ms_per_pair, ms_per_token, ms_per_cached_token } = self.prefill;
        fixed_ms
            + ms_per_pair * (tokens * cached + 0.5 * tokens * (tokens + 1.0))
            + ms_per_token * tokens
            + ms_per_cached_token * cached
    }

    /// Milliseconds per layer.
    #[inline]
    pub fn decode_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_decodes == 0 {
            return 0.0;
        }
        let full = self.decode_ms.at(shape.decode_cached_tokens);
        match (&self.limited, &self.scan) {
            (None, None) => full,
            (limited, scan) => {
                let limited = limited.as_ref().map_or(0.0, |limited| limited.decode_ms(shape));
                let scanned =
                    scan.map_or(0.0, |scan| scan.ms_per_cached_token * shape.decode_cached_tokens as f64);
                full + limited + scanned
            }
        }
    }

    /// One layer's decode attention as a table of the sum of cached tokens, and what is added to it, where
    /// that stays the same as the sum grows: without limits, or where every one is reached.
    pub fn decode_by_sum(&self, num_decodes: u32, cached_tokens: u64) -> Option<(&Table, f64)> {
        if self.scan.is_some() {
            return None;
        }
        let Some(limited) = &self.limited else { return Some((&self.decode_ms, 0.0)) };
        let most = u64::from(num_decodes) * u64::from(limited.tokens);
        (cached_tokens >= most).then(|| (&self.decode_ms, limited.decode_ms.at(most)))
    }
}

/// Attention of uniform batches, measured; other batches are answered by the uniform batch most like them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct MeasuredAttention {
    /// One layer, ms, by number of prefills and their length.
    pub prefill_ms: Grid,
    /// One layer, ms, by number of decodes and their cached tokens.
    pub decode_ms: Grid,
    /// Whether prefills take as long as whole prompts of their new tokens, as sparse attention does, which
    /// sees so many tokens and no more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_new_tokens: bool,
}

impl MeasuredAttention {
    /// Milliseconds per layer: that of as many whole prompts of the root mean square length, times the share
    /// of their pairs of tokens that is not in the cache already.
    #[inline]
    pub fn prefill_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_prefills == 0 {
            return 0.0;
        }
        let prefills = u64::from(shape.num_prefills);
        if self.by_new_tokens {
            return self.prefill_ms.at(prefills, (shape.prefill_tokens + prefills / 2) / prefills);
        }
        let new_pairs = (shape.prefill_tokens_squared + 2 * shape.prefill_tokens_times_cached) as f64;
        let all_pairs = new_pairs + shape.prefill_cached_tokens_squared as f64;
        let length = (all_pairs / f64::from(shape.num_prefills)).sqrt();
        self.prefill_ms.at(shape.num_prefills.into(), length.round() as u64) * (new_pairs / all_pairs)
    }

    /// Milliseconds per layer: that of as many decodes with the mean number of cached tokens.
    #[inline]
    pub fn decode_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_decodes == 0 {
            return 0.0;
        }
        let requests = u64::from(shape.num_decodes);
        self.decode_ms.at(requests, (shape.decode_cached_tokens + requests / 2) / requests)
    }
}
