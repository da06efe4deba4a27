//! What a controller sees of the cluster: signals, how each is derived, and how old it is.
//!
//! The engine hands a policy the truth of this instant. Real controllers see a copy: servers export gauges
//! and counters, a collector scrapes them every so often, a query averages them over a window. [`Signals`] is
//! that copy. Policies scrape at an interval of their settings and read what the latest scrape found, however
//! old it is.
//!
//! | signal | derived from | age when read |
//! |---|---|---|
//! | queued, running, KV use of a replica | gauges at the scrape (vLLM's waiting, running, cache usage) | up to one scrape |
//! | outstanding requests | gauge: arrived and not finished, wherever they are | up to one scrape |
//! | unrouted requests | gauge: waiting for a replica to exist | up to one scrape |
//! | arrivals, prompt tokens, processed tokens per second | `rate()` of scraped counters over a window | one scrape, half a window |
//! | mean lengths of requests | tokens over requests, both counted at completion | latency, one scrape, half a window |
//! | TTFT | sum and count of first tokens | latency, one scrape, half a window |
//! | peaks of a replica ([`peaks`](super::peaks)) | `max_over_time` of scraped gauges | up to the window |
//! | means ([`window`](super::window)) | mean of samples taken at scrapes | half the window |
//!
//! Intervals begin together, at time 0, and a scrape comes before the decision it is due with: where the
//! deciding interval is a multiple of the scraping one, as with most defaults, gauges are of the very
//! instant, and it is the interval itself that makes a policy slow.
//!
//! A replica that appeared since the latest scrape has no gauges yet; one that drains is no longer scraped
//! (it has left the endpoints). Nothing here reads the output length of an unfinished request: no server
//! knows it.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::Lengths;
use super::{Arrivals, BatchSums, Completion, FirstToken, Observes, ReplicaSignals, Snapshot};
use crate::settings::Faults;

/// Sums that only grow, as servers export them.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Counters {
    pub arrived_requests: f64,
    pub arrived_prefill_tokens: f64,
    /// Prefill and decode tokens of ended batches.
    pub processed_tokens: f64,
    pub processed_prefill_tokens: f64,
    pub ended_batches: f64,
    pub first_tokens: f64,
    pub ttft_sum_s: f64,
    pub completed_requests: f64,
    pub completed_prefill_tokens: f64,
    pub completed_decode_tokens: f64,
    /// From first tokens to last ones, and the tokens after the first.
    pub decode_sum_s: f64,
    pub decode_steps: f64,
}

/// What the latest scrape found, and counters of scrapes before it as far back as the longest window.
#[derive(Debug, Clone, Default)]
pub struct Signals {
    live: Counters,
    history_s: f64,
    scrapes: VecDeque<(f64, Counters)>,
    /// Replicas that take requests, in order of ids.
    pub replicas: Vec<ReplicaSignals>,
    pub outstanding_requests: u32,
    pub unrouted_requests: u32,
}

impl Signals {
    /// Keeps counters for rates over windows of up to `history_s`.
    pub fn new(history_s: f64) -> Self {
        Self { history_s, ..Self::default() }
    }

    pub fn count_arrivals(&mut self, arrivals: Arrivals) {
        self.live.arrived_requests += arrivals.arrived_at_s.len() as f64;
        self.live.arrived_prefill_tokens +=
            arrivals.prefill_tokens.iter().map(|&tokens| u64::from(tokens)).sum::<u64>() as f64;
    }

    pub fn count_batches(&mut self, sums: BatchSums) {
        self.live.processed_tokens += sums.tokens as f64;
        self.live.processed_prefill_tokens += sums.prefill_tokens as f64;
        self.live.ended_batches += sums.batches as f64;
    }

    pub fn count_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.live.first_tokens += first_tokens.len() as f64;
        for first in first_tokens {
            self.live.ttft_sum_s += first.at_s - first.arrived_at_s;
        }
        self.live.completed_requests += completions.len() as f64;
        for completion in completions {
            self.live.completed_prefill_tokens += f64::from(completion.prefill_tokens);
            self.live.completed_decode_tokens += f64::from(completion.decode_tokens);
            self.live.decode_sum_s += completion.completed_at_s - completion.first_token_at_s;
            self.live.decode_steps += f64::from(completion.decode_tokens.saturating_sub(1));
        }
    }

    /// Takes a copy of everything.
    pub fn scrape(&mut self, now_s: f64, snapshot: &Snapshot) {
        self.outstanding_requests = snapshot.outstanding_requests;
        self.unrouted_requests = snapshot.unrouted_requests;
        self.replicas.clear();
        self.replicas.extend(snapshot.replicas.iter().filter(|replica| !replica.draining));
        self.scrapes.push_back((now_s, self.live));
        while self.scrapes.len() > 1 && self.scrapes[1].0 <= now_s - self.history_s {
            self.scrapes.pop_front();
        }
    }

    /// The gauges of one replica, unless it appeared since the latest scrape.
    pub fn replica(&self, id: u32) -> Option<&ReplicaSignals> {
        self.replicas.binary_search_by_key(&id, |replica| replica.id).ok().map(|index| &self.replicas[index])
    }

    /// Growth of a counter over the window that ends with the latest scrape, and the seconds it took.
    pub fn growth(&self, window_s: f64, counter: impl Fn(&Counters) -> f64) -> (f64, f64) {
        let Some(&(now_s, ref latest)) = self.scrapes.back() else { return (0.0, 0.0) };
        let oldest = self.scrapes.iter().find(|&&(at_s, _)| at_s >= now_s - window_s);
        let &(then_s, ref earlier) = oldest.expect("the latest scrape is inside its own window");
        (counter(latest) - counter(earlier), now_s - then_s)
    }

    /// Growth of a counter per second over the window that ends with the latest scrape; 0 before the second
    /// scrape.
    pub fn rate_per_s(&self, window_s: f64, counter: impl Fn(&Counters) -> f64) -> f64 {
        let (growth, seconds) = self.growth(window_s, counter);
        if seconds > 0.0 { growth / seconds } else { 0.0 }
    }

    /// Growth of one counter per growth of another over the window, such as tokens per request; `None` if the
    /// other did not grow.
    pub fn ratio(
        &self,
        window_s: f64,
        of: impl Fn(&Counters) -> f64,
        per: impl Fn(&Counters) -> f64,
    ) -> Option<f64> {
        let ((of, _), (per, _)) = (self.growth(window_s, of), self.growth(window_s, per));
        (per > 0.0).then(|| of / per)
    }
}

impl Signals {
    /// Mean tokens of requests finished within the window that ends with the latest scrape; of all before it
    /// if there were none; `None` if no request had finished by then.
    pub fn mean_lengths(&self, window_s: f64) -> Option<Lengths> {
        let mean =
            |of: fn(&Counters) -> f64| self.ratio(window_s, of, |counters| counters.completed_requests);
        let recent = mean(|counters| counters.completed_prefill_tokens)
            .zip(mean(|counters| counters.completed_decode_tokens));
        let recent = recent.map(|(prefill_tokens, decode_tokens)| Lengths { prefill_tokens, decode_tokens });
        recent.or_else(|| self.scrapes.back().and_then(|(_, counters)| counters.mean_lengths()))
    }

    /// Mean tokens of all requests finished so far, without waiting for a scrape; `None` before the first.
    pub fn lengths_so_far(&self) -> Option<Lengths> {
        self.live.mean_lengths()
    }
}

impl Counters {
    fn mean_lengths(&self) -> Option<Lengths> {
        (self.completed_requests > 0.0).then(|| Lengths {
            prefill_tokens: self.completed_prefill_tokens / self.completed_requests,
            decode_tokens: self.completed_decode_tokens / self.completed_requests,
        })
    }
}

/// What a proportional rule compares with its target.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadMetric {
    /// Requests queued or in memory.
    #[default]
    OutstandingRequests,
    /// Requests not yet in memory. A gateway with flow control holds these, instead of the replicas.
    QueuedRequests,
    /// Requests in memory.
    RunningRequests,
    /// Share of the KV cache in use, 0 to 1; the sum over replicas where the whole cluster is asked.
    KvUse,
    /// Prefill and decode tokens processed per second, of the cluster.
    TokensPerS,
    /// Requests that arrive per second, at the cluster.
    RequestsPerS,
    /// How full the cluster is to a gateway: the mean over replicas of max(queued requests / 5, KV use / 0.8).
    PoolSaturation,
    /// Prompt tokens of requests not yet in memory.
    QueuedPrefillTokens,
}

/// Where the gateway's saturation detector takes a replica for full, in queued requests and share of the KV
/// cache.
const FULL_QUEUE: f64 = 5.0;
const FULL_KV_USE: f64 = 0.8;

impl LoadMetric {
    /// As settings spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::OutstandingRequests => "outstanding_requests",
            Self::QueuedRequests => "queued_requests",
            Self::RunningRequests => "running_requests",
            Self::KvUse => "kv_use",
            Self::TokensPerS => "tokens_per_s",
            Self::RequestsPerS => "requests_per_s",
            Self::PoolSaturation => "pool_saturation",
            Self::QueuedPrefillTokens => "queued_prefill_tokens",
        }
    }

    /// Whether each replica has one.
    pub fn is_of_pods(self) -> bool {
        !matches!(self, Self::TokensPerS | Self::RequestsPerS | Self::PoolSaturation)
    }

    /// What a policy has to be told for it.
    pub fn observes(self) -> Observes {
        match self {
            Self::TokensPerS => Observes { batch_sums: true, ..Observes::default() },
            Self::RequestsPerS => Observes { arrivals: true, ..Observes::default() },
            _ => Observes { replicas: true, ..Observes::default() },
        }
    }

    /// The metric of one replica; `None` for what only the cluster has.
    pub fn of_replica(self, replica: &ReplicaSignals) -> Option<f64> {
        match self {
            Self::OutstandingRequests => Some(f64::from(replica.queued_requests + replica.running_requests)),
            Self::QueuedRequests => Some(f64::from(replica.queued_requests)),
            Self::RunningRequests => Some(f64::from(replica.running_requests)),
            Self::KvUse => Some(replica.kv_use()),
            Self::QueuedPrefillTokens => Some(replica.queued_prefill_tokens as f64),
            Self::TokensPerS | Self::RequestsPerS | Self::PoolSaturation => None,
        }
    }

    /// The metric of the cluster: the sum over replicas where each has one, requests without a replica
    /// included.
    pub fn total(self, signals: &Signals, rate_window_s: f64) -> f64 {
        let sum = || signals.replicas.iter().filter_map(|replica| self.of_replica(replica)).sum::<f64>();
        match self {
            Self::OutstandingRequests | Self::QueuedRequests => sum() + f64::from(signals.unrouted_requests),
            Self::RunningRequests | Self::KvUse | Self::QueuedPrefillTokens => sum(),
            Self::TokensPerS => signals.rate_per_s(rate_window_s, |counters| counters.processed_tokens),
            Self::RequestsPerS => signals.rate_per_s(rate_window_s, |counters| counters.arrived_requests),
            Self::PoolSaturation => {
                let full = |replica: &ReplicaSignals| {
                    (f64::from(replica.queued_requests) / FULL_QUEUE).max(replica.kv_use() / FULL_KV_USE)
                };
                let (sum, replicas) =
                    (signals.replicas.iter().map(full).sum::<f64>(), signals.replicas.len());
                match (replicas, signals.unrouted_requests) {
                    // Nowhere to go is full.
                    (0, waiting) => f64::from(u8::from(waiting > 0)),
                    (replicas, _) => sum / replicas as f64,
                }
            }
        }
    }
}

/// Reports a metric that is no load to be shared.
pub fn check_adds_up(faults: &mut Faults, metric: LoadMetric) {
    faults.require(metric != LoadMetric::PoolSaturation, "metric", || {
        "`pool_saturation` found, which is a mean already, expected a metric that replicas share".into()
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    fn arrive(signals: &mut Signals, count: usize) {
        let column = vec![0_u32; count];
        signals.count_arrivals(Arrivals {
            arrived_at_s: &vec![0.0; count],
            prefill_tokens: &vec![100; count],
            decode_tokens: &column,
        });
    }

    const EMPTY: Snapshot<'_> = Snapshot {
        serving: 1,
        draining: 0,
        starting: 0,
        stopping: 0,
        outstanding_requests: 0,
        unrouted_requests: 0,
        replicas: &[],
    };

    #[test]
    fn values_are_held_back_between_scrapes() {
        let mut signals = Signals::new(60.0);
        signals.scrape(0.0, &EMPTY);
        arrive(&mut signals, 30);
        assert_eq!(signals.rate_per_s(60.0, |counters| counters.arrived_requests), 0.0, "not scraped yet");
        signals.scrape(15.0, &Snapshot { outstanding_requests: 7, ..EMPTY });
        arrive(&mut signals, 1000);
        assert_eq!(signals.rate_per_s(60.0, |counters| counters.arrived_requests), 2.0);
        assert_eq!(signals.rate_per_s(60.0, |counters| counters.arrived_prefill_tokens), 200.0);
        assert_eq!(signals.outstanding_requests, 7);
    }

    #[test]
    fn rates_take_the_oldest_scrape_inside_the_window() {
        let mut signals = Signals::new(30.0);
        for (at_s, count) in [(0.0, 1000), (15.0, 15), (30.0, 30), (45.0, 45)] {
            arrive(&mut signals, count);
            signals.scrape(at_s, &EMPTY);
        }
        assert_eq!(signals.rate_per_s(30.0, |counters| counters.arrived_requests), 75.0 / 30.0);
        assert_eq!(signals.rate_per_s(20.0, |counters| counters.arrived_requests), 45.0 / 15.0);
        assert!(signals.scrapes.len() <= 3);
    }

    #[test]
    fn draining_replicas_leave_the_endpoints() {
        let replica = |id, draining| ReplicaSignals {
            id,
            draining,
            queued_requests: 3,
            queued_prefill_tokens: 300,
            running_requests: 4,
            kv_used_blocks: 50,
            kv_total_blocks: 200,
            ..ReplicaSignals::default()
        };
        let mut signals = Signals::new(0.0);
        let replicas = [replica(4, false), replica(7, true), replica(9, false)];
        signals.scrape(0.0, &Snapshot { replicas: &replicas, unrouted_requests: 5, ..EMPTY });
        assert!(signals.replica(7).is_none() && signals.replica(9).is_some());
        assert_eq!(LoadMetric::OutstandingRequests.total(&signals, 0.0), 19.0);
        assert_eq!(LoadMetric::KvUse.total(&signals, 0.0), 0.5);
        // Three of five queued in each is more than 0.25 of 0.8.
        assert_eq!(LoadMetric::PoolSaturation.total(&signals, 0.0), 0.6);
    }
}
