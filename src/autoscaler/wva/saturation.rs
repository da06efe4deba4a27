//! Saturation analyzer V2: tokens demanded against tokens of capacity, and the step that follows from one or
//! several analyzers.
//!
//! Source: `internal/engines/analyzers/saturation_v2/analyzer.go`,
//! `internal/engines/pipeline/{cost_aware_optimizer,analyzer_helpers}.go`, run; `tests/given/upstream/wva.rs`
//! compares.

use std::collections::VecDeque;

use super::WvaVersion;

/// Observations of k2 that are averaged.
const OBSERVATIONS: usize = 10;
/// Output lengths below which an answer is short, or medium.
const CLASSES: [f64; 2] = [100.0, 500.0];
/// Bytes of a queued prompt that make a token.
const BYTES_PER_TOKEN: f64 = 4.0;

/// One ready replica as the analyzers see it.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct WvaReplica {
    /// Share of the KV cache in use: a peak to the saturation analyzer, of now to the throughput analyzer.
    pub kv_use: f64,
    pub queued_requests: u32,
    pub tokens_in_use: i64,
    /// Mean time between tokens.
    pub itl_s: f64,
    pub generated_tokens_per_s: f64,
}

/// What a reconciliation goes by.
#[derive(Debug, Clone, Copy)]
pub struct WvaInput<'a> {
    pub now_s: f64,
    pub replicas: &'a [WvaReplica],
    pub pending: u32,
    pub kv_tokens: i64,
    /// Mean lengths of finished requests; 0 before the first.
    pub prefill_tokens: f64,
    pub decode_tokens: f64,
    pub arrivals_per_s: f64,
    /// Requests that wait in the gateway, and their bytes.
    pub gateway_queue: u32,
    pub gateway_bytes: f64,
}

/// What an analyzer makes of it, in its own unit.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Analysis {
    pub per_replica: f64,
    pub supply: f64,
    /// With replicas that are pending.
    pub anticipated: f64,
    pub demand: f64,
    /// Whether there was anything to go by.
    pub informative: bool,
}

impl Analysis {
    /// Capacity that is lacking and that is to spare.
    pub fn balance(&self, scale_up_threshold: f64, scale_down_boundary: f64) -> (f64, f64) {
        let required = (self.demand / scale_up_threshold - self.anticipated).max(0.0);
        (required, (self.supply - self.demand / scale_down_boundary).max(0.0))
    }
}

/// Thresholds and what the deployment's arguments say.
#[derive(Debug, Clone)]
pub struct Saturation {
    pub version: WvaVersion,
    pub kv_cache_threshold: f64,
    pub queue_length_threshold: f64,
    /// Most tokens of a batch and most sequences, where known.
    pub engine: Option<(f64, f64)>,
    /// Observed compute bounds, by class of output length.
    observed: [VecDeque<f64>; 3],
    /// Capacity of the last replica seen, for when there is none.
    stored: Option<i64>,
}

fn class(decode_tokens: f64) -> usize {
    CLASSES.iter().position(|&longest| decode_tokens < longest).unwrap_or(CLASSES.len())
}

impl Saturation {
    pub fn new(
        version: WvaVersion,
        kv_cache_threshold: f64,
        queue_length_threshold: f64,
        engine: Option<(f64, f64)>,
    ) -> Self {
        Self {
            version,
            kv_cache_threshold,
            queue_length_threshold,
            engine,
            observed: Default::default(),
            stored: None,
        }
    }

    fn capacity(&mut self, replica: &WvaReplica, input: &WvaInput) -> i64 {
        let k1 = (input.kv_tokens as f64 * self.kv_cache_threshold) as i64;
        let observed = &mut self.observed[class(input.decode_tokens)];
        if i64::from(replica.queued_requests) >= self.queue_length_threshold as i64
            && replica.tokens_in_use > 0
        {
            if observed.len() == OBSERVATIONS {
                observed.pop_front();
            }
            observed.push_back(replica.tokens_in_use as f64);
            return k1.min(replica.tokens_in_use);
        }
        let mean = observed.iter().sum::<f64>() / observed.len().max(1) as f64;
        if mean > 0.0 {
            return k1.min(mean as i64);
        }
        let (prefill, decode) = (input.prefill_tokens, input.decode_tokens);
        let derived = self.engine.filter(|_| decode > 0.0).map_or(0, |(batched, sequences)| {
            let steady = (batched * decode / (prefill + decode)).min(sequences);
            (steady * (prefill + decode / 2.0)) as i64
        });
        if derived > 0 { k1.min(derived) } else { k1 }
    }

    fn queued(&self, replica: &WvaReplica, input: &WvaInput) -> i64 {
        let queued = f64::from(replica.queued_requests);
        match self.version {
            WvaVersion::February => i64::from(replica.queued_requests) * input.prefill_tokens as i64,
            WvaVersion::August => (queued * (input.prefill_tokens + input.decode_tokens)) as i64,
        }
    }

    pub fn analyze(&mut self, input: &WvaInput) -> Analysis {
        let mut capacities: Vec<i64> = Vec::with_capacity(input.replicas.len());
        let mut demand = 0.0;
        for replica in input.replicas {
            demand += (replica.tokens_in_use + self.queued(replica, input)) as f64;
            let capacity = self.capacity(replica, input);
            self.stored = Some(capacity);
            capacities.push(capacity);
        }
        capacities.sort_unstable();
        let middle = capacities.len() / 2;
        let (per_replica, informative) = match capacities.len() {
            0 => (self.stored.unwrap_or(0), self.stored.is_some()),
            odd if odd % 2 == 1 => (capacities[middle], true),
            _ => ((capacities[middle - 1] + capacities[middle]) / 2, true),
        };
        if !input.replicas.is_empty() {
            let waiting = f64::from(input.gateway_queue);
            let prompts = (input.gateway_bytes / BYTES_PER_TOKEN).max(waiting * input.prefill_tokens);
            demand += prompts + waiting * input.decode_tokens;
        } else {
            demand += input.gateway_bytes / BYTES_PER_TOKEN;
        }
        let (per_replica, ready, pending) =
            (per_replica as f64, input.replicas.len() as f64, f64::from(input.pending));
        Analysis {
            per_replica,
            supply: ready * per_replica,
            anticipated: (ready + pending) * per_replica,
            demand,
            informative,
        }
    }
}

/// An analyzer's say in a step.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Vote {
    pub per_replica: f64,
    pub required: f64,
    pub spare: f64,
    /// Whether it has said something lately; others neither veto nor bound a scale-down.
    pub live: bool,
}

/// Replicas there should be: up by what the neediest analyzer lacks, down by what all live ones can spare,
/// never to none.
///
/// `per_replica` is the capacity of the analyzer that binds.
pub fn step(votes: &[Vote], per_replica: f64, current: u32, most: u32) -> u32 {
    if per_replica <= 0.0 {
        return current;
    }
    let mut lacking: Vec<f64> = votes.iter().map(|vote| vote.required).collect();
    let mut target = current;
    if lacking.iter().any(|&required| required > 0.0) {
        while lacking.iter().any(|&required| required > 0.0) && target < most {
            let replicas_of = |(&required, vote): (&f64, &Vote)| {
                if vote.per_replica > 0.0 { (required / vote.per_replica).ceil() } else { 0.0 }
            };
            let wanted =
                lacking.iter().zip(votes).map(replicas_of).fold(0.0, f64::max).min(f64::from(most - target));
            let largest = lacking.iter().copied().fold(0.0, f64::max);
            // As there: through the share of the demand, which may round a replica away and go round once
            // more.
            let share = wanted * per_replica / largest;
            let added = (share * largest / per_replica).floor().max(wanted.min(1.0));
            if share <= 0.0 || added <= 0.0 {
                break;
            }
            target += added as u32;
            lacking.iter_mut().for_each(|required| *required = (*required - added * per_replica).max(0.0));
        }
        return target;
    }
    // One that has nothing to measure in this cycle does not vote, however fresh its last word.
    let live = || votes.iter().filter(|vote| vote.live && vote.per_replica > 0.0);
    if live().count() == 0 || live().any(|vote| vote.spare <= 0.0) {
        return current;
    }
    let removable = live().map(|vote| (vote.spare / vote.per_replica).floor()).reduce(f64::min);
    let removed = removable.map_or(0, |replicas| replicas as u32);
    current.saturating_sub(removed).max(current.min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(replicas: &[WvaReplica], decode_tokens: f64) -> WvaInput<'_> {
        WvaInput {
            now_s: 0.0,
            replicas,
            pending: 0,
            kv_tokens: 10_000,
            prefill_tokens: 300.0,
            decode_tokens,
            arrivals_per_s: 0.0,
            gateway_queue: 0,
            gateway_bytes: 0.0,
        }
    }

    fn replica(tokens_in_use: i64, queued_requests: u32) -> WvaReplica {
        WvaReplica { tokens_in_use, queued_requests, ..WvaReplica::default() }
    }

    fn saturation(version: WvaVersion, engine: Option<(f64, f64)>) -> Saturation {
        Saturation::new(version, 0.8, 5.0, engine)
    }

    /// Hand-computed from `computeK2`: observed, then remembered for its class, then derived, then k1.
    #[test]
    fn capacity_follows_the_chain() {
        let mut plain = saturation(WvaVersion::August, None);
        assert_eq!(plain.analyze(&input(&[replica(2000, 0)], 100.0)).per_replica, 8000.0, "k1");
        let mut known = saturation(WvaVersion::August, Some((4096.0, 16.0)));
        // n = min(4096 x 100 / 400, 16) = 16, so 16 x (300 + 50).
        assert_eq!(known.analyze(&input(&[replica(2000, 0)], 100.0)).per_replica, 5600.0, "derived");
        assert_eq!(known.analyze(&input(&[replica(3000, 5)], 100.0)).per_replica, 3000.0, "observed");
        assert_eq!(known.analyze(&input(&[replica(5000, 7)], 100.0)).per_replica, 5000.0, "observed");
        assert_eq!(known.analyze(&input(&[replica(1000, 0)], 100.0)).per_replica, 4000.0, "the mean of both");
        assert_eq!(
            known.analyze(&input(&[replica(1000, 0)], 800.0)).per_replica,
            8000.0,
            "long answers have a memory of their own"
        );
        assert_eq!(known.analyze(&input(&[replica(9500, 9)], 100.0)).per_replica, 8000.0, "k1 caps it");
        assert_eq!(
            known.analyze(&input(&[], 100.0)).per_replica,
            8000.0,
            "without replicas the last is remembered"
        );
    }

    #[test]
    fn releases_charge_queued_requests_differently() {
        let demand = |version| saturation(version, None).analyze(&input(&[replica(1000, 2)], 100.0)).demand;
        assert_eq!((demand(WvaVersion::February), demand(WvaVersion::August)), (1600.0, 1800.0));
    }

    #[test]
    fn steps_follow_the_neediest_and_the_least_spare() {
        let vote = |per_replica, required, spare| Vote { per_replica, required, spare, live: true };
        assert_eq!(step(&[vote(100.0, 250.0, 0.0)], 100.0, 2, 20), 5);
        assert_eq!(step(&[vote(100.0, 250.0, 0.0)], 100.0, 2, 4), 4);
        assert_eq!(step(&[vote(100.0, 0.0, 250.0), vote(10.0, 0.0, 15.0)], 100.0, 5, 20), 4);
        assert_eq!(step(&[vote(100.0, 0.0, 250.0), vote(10.0, 0.0, 0.0)], 100.0, 5, 20), 5, "a veto");
        let silent = Vote { live: false, ..vote(10.0, 0.0, 0.0) };
        assert_eq!(step(&[vote(100.0, 0.0, 950.0), silent], 100.0, 5, 20), 1, "never to none");
        assert_eq!(step(&[vote(0.0, 10.0, 0.0)], 0.0, 5, 20), 5);
    }
}
