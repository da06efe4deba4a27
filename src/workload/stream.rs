//! Generated workloads too large for memory: requests are made as a run comes to them.
//!
//! A workload of more than [`MOST_KEPT`] requests keeps its beginning, for whoever describes or checks it,
//! and how to make all of it. Each run makes them anew, a chunk at a time, from the same random streams: the
//! same requests, bit for bit, as if they were all kept.

use super::arrivals::Arrivals;
use super::generate::GenerateSpec;
use super::{Workload, cut};

/// The most requests kept in memory where they can be made again: 160 MB of columns.
pub const MOST_KEPT: u64 = 10_000_000;

/// How many requests of a larger workload are kept: its beginning.
const BEGINNING: usize = 1 << 20;

/// Requests made at a time: enough that making them is a loop of its own, few enough to stay in cache.
const CHUNK: usize = 1 << 14;

/// What all of a workload can be made from.
#[derive(Debug, Clone, PartialEq)]
pub struct Streamed {
    pub generate: GenerateSpec,
    pub seed: u64,
    pub totals: Totals,
}

/// What a workload adds up to.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Totals {
    pub requests: u64,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
    /// Arrival of the last request.
    pub last_arrival_s: f64,
}

impl Totals {
    /// Counts the requests of the columns.
    pub fn add(&mut self, workload: &Workload) {
        let sum = |tokens: &[u32]| tokens.iter().map(|&tokens| u64::from(tokens)).sum::<u64>();
        self.requests += workload.len() as u64;
        self.prefill_tokens += sum(&workload.prefill_tokens);
        self.decode_tokens += sum(&workload.decode_tokens);
        self.last_arrival_s = workload.arrived_at_s.last().copied().unwrap_or(self.last_arrival_s);
    }
}

/// Requests of a workload, one after the other.
pub struct RequestStream {
    arrivals: Box<dyn Iterator<Item = f64> + Send>,
    lengths: Box<dyn Iterator<Item = (u32, u32)> + Send>,
    max_tokens: Option<u32>,
}

impl GenerateSpec {
    /// The requests of these settings one after the other; `None` if they come from files or from clients,
    /// which are read or drawn as a whole.
    pub(super) fn stream(&self, seed: u64) -> Option<RequestStream> {
        let (arrivals, lengths) = (self.arrivals.as_ref()?, self.lengths.as_ref()?);
        Some(RequestStream {
            arrivals: arrivals.times(seed)?,
            lengths: lengths.pairs(seed)?,
            max_tokens: self.max_tokens,
        })
    }
}

impl Streamed {
    /// Counts the requests of these settings and keeps the first `beginning`; `None` where they cannot be
    /// streamed.
    pub fn workload(generate: &GenerateSpec, seed: u64, beginning: usize) -> Option<Workload> {
        let mut stream = generate.stream(seed)?;
        let mut workload = Workload::default();
        stream.append(&mut workload, beginning);
        let (mut totals, mut chunk) = (Totals::default(), Workload::default());
        totals.add(&workload);
        loop {
            chunk.truncate(0);
            stream.append_chunk(&mut chunk);
            if chunk.is_empty() {
                break;
            }
            totals.add(&chunk);
        }
        workload.duration_s = generate.arrivals.as_ref()?.duration_s();
        workload.streamed = Some(Self { generate: generate.clone(), seed, totals });
        Some(workload)
    }

    /// The workload kept as a whole if it is not too large, and streamed if it is; `None` where it cannot be
    /// streamed.
    pub(super) fn if_large(generate: &GenerateSpec, seed: u64) -> Option<Workload> {
        let requests = generate.stream(seed)?.arrivals.take(MOST_KEPT as usize + 1).count() as u64;
        if requests > MOST_KEPT { Self::workload(generate, seed, BEGINNING) } else { None }
    }

    /// The whole workload in memory, for those who need all of it at once.
    pub fn kept(&self) -> Workload {
        let duration_s = self.generate.arrivals.as_ref().and_then(Arrivals::duration_s);
        let (mut stream, mut workload) = (self.requests(), Workload { duration_s, ..Workload::default() });
        stream.append(&mut workload, usize::MAX);
        workload
    }

    /// All requests from the first on.
    pub fn requests(&self) -> RequestStream {
        self.generate.stream(self.seed).expect("it could be streamed when the workload was made")
    }
}

impl RequestStream {
    /// Adds the next requests to a workload, a chunk of them or fewer at the end.
    pub fn append_chunk(&mut self, workload: &mut Workload) {
        self.append(workload, CHUNK);
    }

    fn append(&mut self, workload: &mut Workload, most: usize) {
        for (at_s, (prefill_tokens, decode_tokens)) in
            self.arrivals.by_ref().take(most).zip(&mut self.lengths)
        {
            let (prefill_tokens, decode_tokens) = cut(prefill_tokens, decode_tokens, self.max_tokens);
            workload.push(at_s, prefill_tokens, decode_tokens);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_the_whole() {
        for arrivals in [
            r#"{"poisson": {"rate_per_s": 100, "duration_s": 500}}"#,
            r#"{"gamma": {"phases": [{"duration_s": 200, "rate_per_s": 90}, {"duration_s": 300, "rate_per_s": 110}], "cv": 2}}"#,
            r#"{"weibull": {"rate_per_s": 100, "duration_s": 500, "cv": 0.5}}"#,
            r#"{"static": {"rate_per_s": 100, "duration_s": 500}}"#,
            r#"{"diurnal": {"mean_rate_per_s": 100, "amplitude": 0.8, "duration_s": 500, "period_s": 300}}"#,
        ] {
            for lengths in [
                r#"{"fixed": {"prefill_tokens": 256, "decode_tokens": 3}}"#,
                r#"{"uniform": {"prefill": {"min_tokens": 1, "max_tokens": 900}, "decode": {"min_tokens": 1, "max_tokens": 90}}}"#,
                r#"{"zipf": {"theta": 0.6, "min_tokens": 10, "max_tokens": 4000, "prefill_to_decode_ratio": 9}}"#,
                r#"{"lognormal": {"prefill": {"mean_tokens": 900, "cv": 1}, "decode": {"mean_tokens": 90, "cv": 1}}}"#,
            ] {
                let spec: GenerateSpec = serde_json::from_str(&format!(
                    r#"{{"arrivals": {arrivals}, "lengths": {lengths}, "max_tokens": 1000}}"#
                ))
                .unwrap();
                let whole = super::super::generate::generate(&spec, 7, &[], &mut Vec::new()).unwrap();
                let streamed = Streamed::workload(&spec, 7, 100).unwrap();
                assert_eq!((streamed.len(), streamed.totals()), (100, whole.totals()));
                assert_eq!((whole.duration_s, streamed.duration_s), (Some(500.0), Some(500.0)));
                let mut chunks = Workload { duration_s: Some(500.0), ..Workload::default() };
                let mut stream = streamed.streamed.as_ref().unwrap().requests();
                assert_eq!(streamed.streamed.as_ref().unwrap().kept(), whole);
                while (chunks.len() as u64) < streamed.num_requests() {
                    stream.append_chunk(&mut chunks);
                }
                assert_eq!(chunks, whole, "{arrivals} {lengths}");
                assert_ne!(streamed.fingerprint(), whole.fingerprint());
                assert_ne!(streamed.fingerprint(), Streamed::workload(&spec, 8, 100).unwrap().fingerprint());
            }
        }
    }
}
