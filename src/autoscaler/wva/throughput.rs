//! Throughput analyzer: decoded tokens per second demanded against what replicas make at 85 % of their KV
//! cache.
//!
//! A request holds I + O/2 tokens of KV cache. The time between tokens is a line over KV use k, A k + B:
//! fitted by least squares to the last 20 observations within 30 minutes with k from 0.15 to 0.85, once there
//! are ten that spread by 0.3; until then B is what was fitted last, first 6 ms, and A is fitted to the
//! replicas of now. Capacity of a replica = 0.85 KV / (I + O/2) / ITL(0.85). Demand = arrivals per second x O +
//! gateway queue / (2 ITL(0.85)). The observations are forgotten when I or O moves by a fifth, and when for
//! three reconciliations in a row the measured tokens per second are off the line's by 15 % at k of 0.3 or
//! more.
//!
//! Source: `internal/engines/analyzers/throughput/{analyzer,itl_model,observation_window,shape_tracker}.go`
//! of 2976e4ee, ported; `tests/given/upstream/wva.rs` compares.

use std::collections::VecDeque;

use super::saturation::{Analysis, WvaInput, WvaReplica};

const MOST_OBSERVATIONS: usize = 20;
const OLDEST_S: f64 = 1800.0;
const LEAST_OBSERVATIONS: usize = 10;
const LEAST_SPREAD: f64 = 0.3;
const OBSERVABLE: std::ops::RangeInclusive<f64> = 0.15..=0.85;
const SATURATED_USE: f64 = 0.85;
const FIRST_BASE_S: f64 = 0.006;
const QUEUE_DRAIN: f64 = 2.0;
const SHAPE_TOLERANCE: f64 = 0.2;
const LEAST_TOKENS: f64 = 1.0;
const MISMATCH_PERCENT: f64 = 15.0;
const LEAST_USE_TO_VERIFY: f64 = 0.3;
const MISMATCHES: u32 = 3;
const LEAST_SLOPE: f64 = 1e-12;

/// Where a line came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Source {
    #[default]
    None,
    /// Of replicas now, with a base nobody fitted.
    Default,
    /// Of replicas now, with the base fitted last.
    Pinned,
    Fit,
}

/// Seconds between tokens over KV use.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Line {
    slope: f64,
    base: f64,
}

impl Line {
    fn checked(slope: f64, base: f64) -> Option<Self> {
        let line = Self { slope, base };
        (slope.is_finite() && base.is_finite() && slope > LEAST_SLOPE && line.at(SATURATED_USE) > 0.0)
            .then_some(line)
    }

    fn at(self, kv_use: f64) -> f64 {
        self.slope * kv_use + self.base
    }
}

/// The analyzer and its memory.
#[derive(Debug, Clone, Default)]
pub struct Throughput {
    /// Mean prompt and output tokens.
    shape: Option<(f64, f64)>,
    /// Time, KV use, seconds between tokens.
    observations: VecDeque<(f64, f64, f64)>,
    fitted_base: Option<f64>,
    mismatches: u32,
    last_per_replica: f64,
    pub source: Source,
}

impl Throughput {
    fn healthy(input: &WvaInput, replica: &WvaReplica) -> bool {
        input.kv_tokens > 0
            && (0.0..=1.0).contains(&replica.kv_use)
            && replica.itl_s > 0.0
            && input.prefill_tokens > LEAST_TOKENS
            && input.decode_tokens > LEAST_TOKENS
    }

    fn observe(&mut self, input: &WvaInput, healthy: &[WvaReplica]) {
        if healthy.is_empty() {
            return;
        }
        let shape = (input.prefill_tokens, input.decode_tokens);
        let near = |now: f64, before: f64| {
            if before == 0.0 { now == 0.0 } else { (now - before).abs() / before <= SHAPE_TOLERANCE }
        };
        if self.shape.is_some_and(|(prefill, decode)| !near(shape.0, prefill) || !near(shape.1, decode)) {
            self.observations.clear();
            self.mismatches = 0;
        }
        self.shape = Some(shape);
        for replica in healthy.iter().filter(|replica| OBSERVABLE.contains(&replica.kv_use)) {
            if self.observations.len() == MOST_OBSERVATIONS {
                self.observations.pop_front();
            }
            self.observations.push_back((input.now_s, replica.kv_use, replica.itl_s));
        }
        while self.observations.front().is_some_and(|&(at_s, ..)| at_s < input.now_s - OLDEST_S) {
            self.observations.pop_front();
        }
    }

    /// Least squares over what was observed, if that spreads enough.
    fn fit(&self) -> Option<Line> {
        let uses = || self.observations.iter().map(|&(_, kv_use, _)| kv_use);
        let spread = uses().fold(f64::NEG_INFINITY, f64::max) - uses().fold(f64::INFINITY, f64::min);
        if self.observations.len() < LEAST_OBSERVATIONS || spread < LEAST_SPREAD {
            return None;
        }
        let count = self.observations.len() as f64;
        let (mut sum_k, mut sum_t, mut sum_kk, mut sum_kt) = (0.0, 0.0, 0.0, 0.0);
        for &(_, k, t) in &self.observations {
            sum_k += k;
            sum_t += t;
            sum_kk += k * k;
            sum_kt += k * t;
        }
        let denominator = count * sum_kk - sum_k * sum_k;
        if denominator.abs() < 1e-12 {
            return None;
        }
        let slope = (count * sum_kt - sum_k * sum_t) / denominator;
        Line::checked(slope, (sum_t - slope * sum_k) / count)
    }

    fn line(&mut self, healthy: &[WvaReplica]) -> Option<(Line, Source)> {
        if let Some(line) = self.fit() {
            self.fitted_base = Some(line.base);
            return Some((line, Source::Fit));
        }
        let (base, source) =
            self.fitted_base.map_or((FIRST_BASE_S, Source::Default), |base| (base, Source::Pinned));
        let (mut above, mut sum_kk) = (0.0, 0.0);
        for WvaReplica { kv_use, itl_s, .. } in healthy.iter().filter(|replica| replica.kv_use > 0.0) {
            above += (itl_s - base) * kv_use;
            sum_kk += kv_use * kv_use;
        }
        if sum_kk > 0.0 { Line::checked(above / sum_kk, base).map(|line| (line, source)) } else { None }
    }

    /// Whether some replica makes far more or fewer tokens than the line says.
    fn mismatches(healthy: &[WvaReplica], kv_tokens: f64, tokens_of_request: f64, line: Line) -> bool {
        healthy.iter().any(|replica| {
            let WvaReplica { kv_use, generated_tokens_per_s, .. } = *replica;
            let itl_s = line.at(kv_use);
            if generated_tokens_per_s <= 0.0 || kv_use < LEAST_USE_TO_VERIFY || itl_s <= 0.0 {
                return false;
            }
            let modelled = kv_use * kv_tokens / tokens_of_request / itl_s;
            modelled > 0.0
                && (modelled - generated_tokens_per_s).abs() / generated_tokens_per_s * 100.0
                    > MISMATCH_PERCENT
        })
    }

    pub fn analyze(&mut self, input: &WvaInput) -> Analysis {
        let healthy: Vec<WvaReplica> =
            input.replicas.iter().copied().filter(|replica| Self::healthy(input, replica)).collect();
        self.observe(input, &healthy);
        self.source = Source::None;
        if input.replicas.is_empty() {
            // What it last knew keeps a fleet at zero selectable.
            return Analysis {
                per_replica: self.last_per_replica,
                informative: self.last_per_replica > 0.0,
                ..Analysis::default()
            };
        }
        let Some((prefill, decode)) = self.shape else { return Analysis::default() };
        let tokens_of_request = prefill + decode / 2.0;
        let Some((line, source)) = self.line(&healthy) else { return Analysis::default() };
        let saturated_s = line.at(SATURATED_USE);
        let kv_tokens = input.kv_tokens as f64;
        let per_replica = SATURATED_USE * kv_tokens / tokens_of_request / saturated_s;
        (self.source, self.last_per_replica) = (source, per_replica);
        if Self::mismatches(&healthy, kv_tokens, tokens_of_request, line) {
            self.mismatches += 1;
            if self.mismatches >= MISMATCHES {
                self.observations.clear();
                self.mismatches = 0;
            }
        } else {
            self.mismatches = 0;
        }
        let demand =
            input.arrivals_per_s * decode + f64::from(input.gateway_queue) / (QUEUE_DRAIN * saturated_s);
        let (ready, pending) = (input.replicas.len() as f64, f64::from(input.pending));
        Analysis {
            per_replica,
            supply: ready * per_replica,
            anticipated: (ready + pending) * per_replica,
            demand,
            informative: true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn input(now_s: f64, replicas: &[WvaReplica]) -> WvaInput<'_> {
        WvaInput {
            now_s,
            replicas,
            pending: 1,
            kv_tokens: 20_480,
            prefill_tokens: 300.0,
            decode_tokens: 600.0,
            arrivals_per_s: 3.0,
            gateway_queue: 23,
            gateway_bytes: 0.0,
        }
    }

    fn replica(kv_use: f64) -> WvaReplica {
        WvaReplica { kv_use, itl_s: 0.006 + 0.02 * kv_use, ..WvaReplica::default() }
    }

    /// By hand: ITL(0.85) = 23 ms; 0.85 x 20480 / 600 / 0.023.
    #[test]
    fn a_line_through_the_default_base_gives_capacity_and_demand() {
        let mut throughput = Throughput::default();
        let analysis = throughput.analyze(&input(0.0, &[replica(0.25), replica(0.4)]));
        assert_eq!(throughput.source, Source::Default);
        assert!((analysis.per_replica - 1261.449).abs() < 1e-3, "{analysis:?}");
        assert!(
            (analysis.supply - 2.0 * analysis.per_replica).abs() < 1e-9
                && (analysis.anticipated - 3.0 * analysis.per_replica).abs() < 1e-9
        );
        assert!((analysis.demand - (1800.0 + 23.0 / 0.046)).abs() < 1e-6, "{analysis:?}");
    }

    #[test]
    fn a_fitted_base_is_kept_when_the_shape_moves() {
        let mut throughput = Throughput::default();
        for i in 0..10 {
            let mut seen = replica(0.2 + 0.05 * f64::from(i));
            seen.itl_s += 0.004;
            throughput.analyze(&input(30.0 * f64::from(i), &[seen]));
        }
        assert_eq!(throughput.source, Source::Fit);
        let moved = WvaInput { decode_tokens: 300.0, ..input(300.0, &[]) };
        throughput.analyze(&WvaInput { replicas: &[replica(0.4)], ..moved });
        assert_eq!(throughput.source, Source::Pinned);
        assert!((throughput.fitted_base.unwrap() - 0.010).abs() < 1e-9);
    }

    #[test]
    fn idle_replicas_tell_nothing() {
        let mut throughput = Throughput::default();
        assert!(!throughput.analyze(&input(0.0, &[replica(0.0)])).informative);
    }
}
