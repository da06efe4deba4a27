//! Request traces: read, generated, described.
//!
//! A [`Workload`] is columns in arrival order. Its content alone decides its identity: two workloads with equal
//! columns have the same [`Workload::fingerprint`], wherever they came from.

/// Requests in arrival order, as columns of equal length.
///
/// Invariants: `arrived_at_s` is finite, non-negative and never decreases; `prefill_tokens` and `decode_tokens` are at least 1.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Workload {
    /// Arrival of each request, seconds from the start of the run.
    pub arrived_at_s: Vec<f64>,
    /// Prompt tokens of each request.
    pub prefill_tokens: Vec<u32>,
    /// Tokens each request generates, counting the one its prefill yields.
    pub decode_tokens: Vec<u32>,
}

impl Workload {
    pub fn len(&self) -> usize {
        self.arrived_at_s.len()
    }

    pub fn is_empty(&self) -> bool {
        self.arrived_at_s.is_empty()
    }

    pub fn push(&mut self, arrived_at_s: f64, prefill_tokens: u32, decode_tokens: u32) {
        self.arrived_at_s.push(arrived_at_s);
        self.prefill_tokens.push(prefill_tokens);
        self.decode_tokens.push(decode_tokens);
    }

    /// BLAKE3 of the columns' little-endian bytes, in hexadecimal.
    pub fn fingerprint(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&(self.len() as u64).to_le_bytes());
        for at in &self.arrived_at_s {
            hasher.update(&at.to_bits().to_le_bytes());
        }
        for column in [&self.prefill_tokens, &self.decode_tokens] {
            for tokens in column {
                hasher.update(&tokens.to_le_bytes());
            }
        }
        hasher.finalize().to_hex().to_string()
    }
}
