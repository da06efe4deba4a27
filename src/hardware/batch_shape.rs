//! What the time of a batch depends on.

/// Sums over the requests of a batch: forming a batch adds to them, predicting its time is O(1).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct BatchShape {
    /// Tokens of all requests: chunk lengths of prefills, one per decode.
    pub total_tokens: u64,
    pub num_prefills: u32,
    pub num_decodes: u32,
    pub prefill_tokens: u64,
    /// Sum of squared chunk lengths.
    pub prefill_tokens_squared: u64,
    /// Sum of chunk length times tokens already in the cache.
    pub prefill_tokens_times_cached: u64,
    /// Sum of tokens already in the cache over prefills.
    pub prefill_cached_tokens: u64,
    /// Sum of their squares.
    pub prefill_cached_tokens_squared: u64,
    /// Sum of tokens already in the cache, each rounded up to a multiple of 64 (the granularity of the
    /// reference's tables).
    pub prefill_cached_tokens_64: u64,
    /// Sum of tokens in the cache over decodes.
    pub decode_cached_tokens: u64,
    /// Drafted tokens that decodes verify beside their own.
    pub num_drafts: u32,
}

impl BatchShape {
    /// Adds a prefill chunk of `tokens` behind `cached` tokens.
    #[inline]
    pub fn add_prefill(&mut self, tokens: u32, cached: u32) {
        let (tokens, cached) = (u64::from(tokens), u64::from(cached));
        self.total_tokens += tokens;
        self.num_prefills += 1;
        self.prefill_tokens += tokens;
        self.prefill_tokens_squared += tokens * tokens;
        if cached > 0 {
            self.prefill_tokens_times_cached += tokens * cached;
            self.prefill_cached_tokens += cached;
            self.prefill_cached_tokens_squared += cached * cached;
            self.prefill_cached_tokens_64 += cached.next_multiple_of(64);
        }
    }

    /// Lets decode steps verify so many drafted tokens more: they read the same cache.
    pub fn add_drafts(&mut self, drafts: u32) {
        self.total_tokens += u64::from(drafts);
        self.num_drafts += drafts;
    }

    /// Its prefills and its decodes, each as a batch of their own.
    pub fn apart(&self) -> (Self, Self) {
        let &Self { num_decodes, decode_cached_tokens, num_drafts, prefill_tokens, .. } = self;
        let prefills = Self {
            total_tokens: prefill_tokens,
            num_decodes: 0,
            decode_cached_tokens: 0,
            num_drafts: 0,
            ..*self
        };
        let total_tokens = self.total_tokens - prefill_tokens;
        (prefills, Self { total_tokens, num_decodes, decode_cached_tokens, num_drafts, ..Self::default() })
    }

    /// Adds a decode step of a request with `cached` tokens.
    #[inline]
    pub fn add_decode(&mut self, cached: u32) {
        self.total_tokens += 1;
        self.num_decodes += 1;
        self.decode_cached_tokens += u64::from(cached);
    }

    /// Adds decode steps of so many requests, with `cached` tokens in all.
    #[inline]
    pub fn add_decodes(&mut self, number: u32, cached: u64) {
        self.total_tokens += u64::from(number);
        self.num_decodes += number;
        self.decode_cached_tokens += cached;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prompts_and_decodes_apart_are_the_whole() {
        let (mut prefills, mut decodes, mut both) =
            (BatchShape::default(), BatchShape::default(), BatchShape::default());
        for (tokens, cached) in [(100, 0), (512, 700)] {
            prefills.add_prefill(tokens, cached);
            both.add_prefill(tokens, cached);
        }
        for shape in [&mut decodes, &mut both] {
            (0..3).for_each(|i| shape.add_decode(1000 * i));
            shape.add_drafts(2);
        }
        assert_eq!(both.apart(), (prefills, decodes));
        assert_eq!(prefills.apart(), (prefills, BatchShape::default()));
    }
}
