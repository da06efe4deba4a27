//! Latencies of completed requests, until their percentiles are taken.

use crate::replica_scheduler::Request;
use crate::simulation::LatencyLimits;
use crate::simulation::metric::{QUANTITIES, Quantity};
use crate::simulation::metrics::{Buckets, Distribution, Histogram, Sample};
use crate::workload::MOST_KEPT;

/// What is kept of completed requests until percentiles are taken: a column a quantity, in order of
/// completion; of very many requests only histograms.
#[derive(Debug, Default)]
pub(super) struct Samples {
    e2e_s: Sample,
    scheduling_delay_s: Sample,
    /// Kept from the first request on that has more than one output token: of one with a single token, the
    /// first is the last.
    ttft_s: Sample,
    output_tokens: Vec<u32>,
    /// Requests with more than one output token.
    num_decoding: usize,
    scratch: Sample,
    buckets: Buckets,
    /// Set where columns would be too large.
    coarse: Option<Box<Coarse>>,
}

/// Histograms in the order of [`Samples::distributions`], and the requests that kept the limits.
#[derive(Debug)]
struct Coarse {
    histograms: [Histogram; 5],
    limits: LatencyLimits,
    num_within: usize,
}

/// Time per output token after the first, of a request with more than one.
pub(super) fn tpot_s(e2e_s: f64, ttft_s: f64, output_tokens: u32) -> Option<f64> {
    (output_tokens > 1).then(|| (e2e_s - ttft_s) / f64::from(output_tokens - 1))
}

impl Coarse {
    fn add(&mut self, e2e_s: f64, ttft_s: f64, scheduling_delay_s: f64, output_tokens: u32) {
        let tpot_s = tpot_s(e2e_s, ttft_s, output_tokens);
        let values = [
            Some(e2e_s),
            Some(ttft_s),
            tpot_s,
            Some(scheduling_delay_s),
            Some(e2e_s / f64::from(output_tokens)),
        ];
        for (histogram, value) in self.histograms.iter_mut().zip(values) {
            value.into_iter().for_each(|value| histogram.push(value));
        }
        self.num_within += usize::from(self.limits.keeps(ttft_s, tpot_s, e2e_s));
    }
}

impl Samples {
    /// Forgets everything and makes room for this many requests.
    pub fn clear(&mut self, num_requests: u64, limits: &LatencyLimits) {
        let coarse = num_requests > MOST_KEPT;
        let room = if coarse { 0 } else { num_requests as usize };
        for column in [&mut self.e2e_s, &mut self.ttft_s, &mut self.scheduling_delay_s] {
            column.clear(room);
        }
        self.output_tokens.clear();
        self.output_tokens.reserve_exact(room);
        self.num_decoding = 0;
        self.coarse = coarse
            .then(|| Box::new(Coarse { histograms: Default::default(), limits: *limits, num_within: 0 }));
    }

    pub fn bytes(&self) -> usize {
        [&self.e2e_s, &self.scheduling_delay_s, &self.ttft_s]
            .map(|column| size_of_val(column.values()))
            .iter()
            .sum::<usize>()
            + size_of_val(&self.output_tokens[..])
    }

    #[inline]
    pub fn add(&mut self, request: &Request, completed_at_s: f64, api_s: f64) {
        let output_tokens = request.output_tokens();
        let e2e_s = completed_at_s + api_s - request.arrived_at_s;
        let ttft_s = request.first_token_at_s + api_s - request.arrived_at_s;
        let scheduling_delay_s = request.scheduled_at_s - request.arrived_at_s;
        if let Some(coarse) = &mut self.coarse {
            coarse.add(e2e_s, ttft_s, scheduling_delay_s, output_tokens);
            return;
        }
        if self.num_decoding == 0 && output_tokens > 1 {
            self.tell_apart();
        }
        if self.num_decoding > 0 || output_tokens > 1 {
            self.num_decoding += usize::from(output_tokens > 1);
            self.ttft_s.push(ttft_s);
            self.output_tokens.push(output_tokens);
        }
        self.e2e_s.push(e2e_s);
        self.scheduling_delay_s.push(scheduling_delay_s);
    }

    /// Gives TTFT and output tokens columns of their own, for the first request with more than one.
    #[cold]
    fn tell_apart(&mut self) {
        self.ttft_s.clone_from(&self.e2e_s);
        self.output_tokens.resize(self.e2e_s.values().len(), 1);
    }

    /// End-to-end latency, TTFT and output tokens of each request.
    fn latencies(&self) -> impl Iterator<Item = (f64, f64, u32)> {
        let ttft_s = if self.num_decoding == 0 { &self.e2e_s } else { &self.ttft_s };
        let output_tokens = self.output_tokens.iter().copied().chain(std::iter::repeat(1));
        self.e2e_s
            .values()
            .iter()
            .zip(ttft_s.values())
            .zip(output_tokens)
            .map(|((&e2e_s, &ttft_s), tokens)| (e2e_s, ttft_s, tokens))
    }

    /// How many requests kept the limits.
    pub fn num_within(&self, limits: &LatencyLimits) -> usize {
        match &self.coarse {
            Some(coarse) => coarse.num_within,
            None => self
                .latencies()
                .filter(|&(e2e_s, ttft_s, tokens)| limits.keeps(ttft_s, tpot_s(e2e_s, ttft_s, tokens), e2e_s))
                .count(),
        }
    }

    /// One of [`QUANTITIES`] of every request that has it.
    pub fn values_of(&mut self, quantity: &Quantity) -> &[f64] {
        let place = QUANTITIES.iter().position(|other| other.name == quantity.name);
        let decoding = self.num_decoding > 0;
        match place.expect("a quantity of the list") {
            0 => self.e2e_s.values(),
            1 => {
                if decoding {
                    self.ttft_s.values()
                } else {
                    self.e2e_s.values()
                }
            }
            3 => self.scheduling_delay_s.values(),
            4 if !decoding => self.e2e_s.values(),
            place => {
                let mut scratch = std::mem::take(&mut self.scratch);
                scratch.clear(self.e2e_s.values().len());
                match place {
                    2 => scratch.extend(
                        self.latencies().filter_map(|(e2e_s, ttft_s, tokens)| tpot_s(e2e_s, ttft_s, tokens)),
                    ),
                    _ => scratch.extend(self.latencies().map(|(e2e_s, _, tokens)| e2e_s / f64::from(tokens))),
                }
                self.scratch = scratch;
                self.scratch.values()
            }
        }
    }

    /// The distributions in the order of [`RunMetrics`]: end to end, TTFT, TPOT, scheduling delay, normalized
    /// latency.
    pub fn distributions(&mut self) -> [Option<Distribution>; 5] {
        if let Some(coarse) = &self.coarse {
            return coarse.histograms.each_ref().map(Histogram::distribution);
        }
        let e2e_s = Distribution::of(&self.e2e_s, &mut self.buckets);
        let scheduling_delay_s = Distribution::of(&self.scheduling_delay_s, &mut self.buckets);
        if self.num_decoding == 0 {
            // With one output token each, the first token is the last and the latency per token is that of
            // the request.
            return [e2e_s, e2e_s, None, scheduling_delay_s, e2e_s];
        }
        let ttft_s = Distribution::of(&self.ttft_s, &mut self.buckets);
        let mut scratch = std::mem::take(&mut self.scratch);
        let count = self.e2e_s.values().len();
        scratch.clear(count);
        scratch.extend(self.latencies().filter_map(|(e2e_s, ttft_s, tokens)| tpot_s(e2e_s, ttft_s, tokens)));
        let tpot_s = Distribution::of(&scratch, &mut self.buckets);
        scratch.clear(count);
        scratch.extend(self.latencies().map(|(e2e_s, _, tokens)| e2e_s / f64::from(tokens)));
        let normalized_latency_s = Distribution::of(&scratch, &mut self.buckets);
        self.scratch = scratch;
        [e2e_s, ttft_s, tpot_s, scheduling_delay_s, normalized_latency_s]
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// The twin keeps every column from the start. Requests with one output token come before, among and
        /// after others.
        #[test]
        fn columns_told_apart_late_are_those_of_the_start(
            requests in prop::collection::vec((0_u32..100, 0_u32..100, prop_oneof![3 => Just(1_u32), 1 => 2_u32..5]), 1..60),
        ) {
            let (mut samples, limits) = (Samples::default(), LatencyLimits { ttft_s: Some(6.0), ..LatencyLimits::default() });
            let mut columns = [const { Vec::new() }; 4];
            let mut num_within = 0;
            samples.clear(requests.len() as u64, &limits);
            for (waits, decodes, output_tokens) in requests {
                let mut request = Request::new(0, 1.0, 10, output_tokens);
                request.scheduled_at_s = 1.0 + f64::from(waits) * 0.0625;
                request.first_token_at_s = request.scheduled_at_s + 0.5;
                let completed_at_s = request.first_token_at_s + f64::from((output_tokens - 1) * decodes) * 0.0625;
                samples.add(&request, completed_at_s, 0.25);
                let (e2e_s, ttft_s) = (completed_at_s - 0.75, request.first_token_at_s - 0.75);
                num_within += usize::from(ttft_s <= 6.0);
                columns[0].push(e2e_s);
                columns[1].push(ttft_s);
                columns[2].extend((output_tokens > 1).then(|| (e2e_s - ttft_s) / f64::from(output_tokens - 1)));
                columns[3].push(e2e_s / f64::from(output_tokens));
            }
            let [e2e, ttft, tpot, normalized] = columns.map(|column| {
                let mut sample = Sample::default();
                sample.extend(column);
                Distribution::of(&sample, &mut Buckets::default())
            });
            let found = samples.distributions();
            prop_assert_eq!([found[0], found[1], found[2], found[4]], [e2e, ttft, tpot, normalized]);
            prop_assert_eq!(samples.num_within(&limits), num_within);
        }
    }
}
