//! llm-d's SLO-aware rule: replicas by how close latencies come to their limits.
//!
//! Rule, every sync: raw score = max(P90 TTFT / `ttft_s`, P90 TPOT / `tpot_s`) over the last minute, 0
//! without traffic; score = mean over `smoothing_s` of min(raw, 2), or with `smoothing: moving_average`, the
//! variant autoscaler's way, a moving average that moves by 0.6 a minute. Above `scale_up_score`: n + ceil(n
//! (score c / `scale_up_score` - 1)) of n replicas, c = ready / n where some but not all are ready. Below
//! `scale_down_score`: n - floor(n (1 - score / `scale_down_score`)). Then damping as in `behavior` of an
//! HPA.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `ttft_s`, `tpot_s` | 3, 0.1 | README.slo-aware |
//! | `scale_up_score`, `scale_down_score`, `smoothing_s` | 0.55, 0.40, 45 | the same |
//! | `behavior` | up max(100 %, 4 pods) in 60 s after 30 s, down 1 pod in 120 s after 180 s | the same |
//! | `sync_interval_s` | 15 | the same |
//!
//! The guide's bounds are 3 and 8 replicas; here the cluster's hold. Percentiles are of requests and not
//! interpolated within the buckets of a histogram. Source: llm-d/llm-d
//! `guides/workload-autoscaling/README.slo-aware` (d38c9f0c). Read, not run.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::{BehaviorSettings, Damping, RatePolicy, RateUnit, ScalingRules, SelectPolicy};
use super::proportional::KubernetesVersion;
use super::window::Window;
use super::{
    Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings, Snapshot,
    Upstream,
};
use crate::settings::Faults;

/// Window of the percentiles.
const PERCENTILE_WINDOW_S: f64 = 60.0;
/// A score beyond counts as this.
const LARGEST_SCORE: f64 = 2.0;
/// What the moving average moves by in a minute.
const MOVES_IN_A_MINUTE: f64 = 0.6;

/// How scores are smoothed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SloSmoothing {
    /// Over `smoothing_s`.
    #[default]
    Mean,
    /// Towards the latest by 0.6 a minute.
    MovingAverage,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct SloAwareSettings {
    /// Limit of the time to first token.
    pub ttft_s: f64,
    /// Limit of the time per output token.
    pub tpot_s: f64,
    /// Share of a limit above which replicas are added.
    pub scale_up_score: f64,
    /// Share of a limit below which replicas are drained.
    pub scale_down_score: f64,
    pub smoothing: SloSmoothing,
    pub smoothing_s: f64,
    pub sync_interval_s: f64,
    pub behavior: BehaviorSettings,
}

impl Default for SloAwareSettings {
    fn default() -> Self {
        let rules = |window_s, policies| ScalingRules {
            stabilization_window_s: Some(window_s),
            select_policy: SelectPolicy::Max,
            policies: Some(policies),
        };
        let policy = |unit, value, period_s| RatePolicy { unit, value, period_s };
        Self {
            ttft_s: 3.0,
            tpot_s: 0.1,
            scale_up_score: 0.55,
            scale_down_score: 0.40,
            smoothing: SloSmoothing::default(),
            smoothing_s: 45.0,
            sync_interval_s: 15.0,
            behavior: BehaviorSettings {
                scale_up: rules(
                    30.0,
                    vec![policy(RateUnit::Percent, 100, 60.0), policy(RateUnit::Pods, 4, 60.0)],
                ),
                scale_down: rules(180.0, vec![policy(RateUnit::Pods, 1, 120.0)]),
            },
        }
    }
}

impl PolicySettings for SloAwareSettings {
    fn check(&self, faults: &mut Faults) {
        for (field, value) in [
            ("ttft_s", self.ttft_s),
            ("tpot_s", self.tpot_s),
            ("scale_up_score", self.scale_up_score),
            ("scale_down_score", self.scale_down_score),
            ("smoothing_s", self.smoothing_s),
        ] {
            faults.positive(field, value);
        }
        faults.require(self.scale_down_score <= self.scale_up_score, "scale_down_score", || {
            format!(
                "{} found, expected at most `scale_up_score` ({})",
                self.scale_down_score, self.scale_up_score
            )
        });
        faults.interval_s("sync_interval_s", self.sync_interval_s);
        faults.within("behavior", |faults| self.behavior.check(faults));
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "llm-d, SLO-aware autoscaling",
            version: "guide d38c9f0c (2026)",
            checked: Checked::Read,
            left_out: "interpolation within histograms",
            knob: "scale_up_score",
            signals: "P90 of TTFT and TPOT of the last minute, a mean over 45 s of these",
            blind_to: "queues, until they have become latency; rates",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(SloAware {
            settings: self.clone(),
            damping: Damping::new(Some(&self.behavior), KubernetesVersion::default()),
            least: context.min_replicas.max(1),
            most: context.max_replicas,
            ttft_s: VecDeque::new(),
            tpot_s: VecDeque::new(),
            scores: Window::new(self.smoothing_s),
            score: None,
            sorted: Vec::new(),
        }))
    }
}

#[derive(Debug)]
struct SloAware {
    settings: SloAwareSettings,
    damping: Damping,
    least: u32,
    most: u32,
    /// Times and values, in order of time.
    ttft_s: VecDeque<(f64, f64)>,
    tpot_s: VecDeque<(f64, f64)>,
    scores: Window,
    score: Option<f64>,
    sorted: Vec<f64>,
}

/// The 90th percentile, by nearest rank, of what happened after `since_s`; 0 of nothing.
fn p90(values: &mut VecDeque<(f64, f64)>, since_s: f64, sorted: &mut Vec<f64>) -> f64 {
    while values.front().is_some_and(|&(at_s, _)| at_s <= since_s) {
        values.pop_front();
    }
    sorted.clear();
    sorted.extend(values.iter().map(|&(_, value)| value));
    sorted.sort_unstable_by(f64::total_cmp);
    let rank = (sorted.len() * 9).div_ceil(10);
    if rank == 0 { 0.0 } else { sorted[rank - 1] }
}

impl SloAwareSettings {
    /// Replicas for a score, before damping.
    fn recommend(&self, score: f64, replicas: u32, ready: u32) -> u32 {
        let n = f64::from(replicas);
        if score > self.scale_up_score {
            let share = if 0 < ready && ready < replicas { f64::from(ready) / n } else { 1.0 };
            let more = (n * (score * share / self.scale_up_score - 1.0)).ceil().max(0.0);
            replicas.saturating_add(more as u32)
        } else if score < self.scale_down_score {
            replicas - (n * (1.0 - score / self.scale_down_score)).floor() as u32
        } else {
            replicas
        }
    }
}

impl Autoscaler for SloAware {
    fn observes(&self) -> Observes {
        Observes { latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.sync_interval_s)
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.ttft_s.extend(first_tokens.iter().map(|first| (first.at_s, first.at_s - first.arrived_at_s)));
        let decoded = completions.iter().filter(|completion| completion.decode_tokens > 1);
        self.tpot_s.extend(decoded.map(|completion| {
            let steps = f64::from(completion.decode_tokens - 1);
            (completion.completed_at_s, (completion.completed_at_s - completion.first_token_at_s) / steps)
        }));
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let since_s = now_s - PERCENTILE_WINDOW_S;
        let ttft = p90(&mut self.ttft_s, since_s, &mut self.sorted) / self.settings.ttft_s;
        let tpot = p90(&mut self.tpot_s, since_s, &mut self.sorted) / self.settings.tpot_s;
        let raw = ttft.max(tpot).min(LARGEST_SCORE);
        let score = match self.settings.smoothing {
            SloSmoothing::Mean => {
                self.scores.push(now_s, raw);
                self.scores.mean()
            }
            SloSmoothing::MovingAverage => {
                let kept = libm::pow(1.0 - MOVES_IN_A_MINUTE, self.settings.sync_interval_s / 60.0);
                self.score.map_or(raw, |score| kept * score + (1.0 - kept) * raw)
            }
        };
        self.score = Some(score);
        let current = snapshot.committed();
        let recommended = self.settings.recommend(score, current, snapshot.serving.min(current));
        let after = self.damping.damp(now_s, current, recommended, self.least, self.most);
        self.damping.changed(now_s, current, after);
        Decision::towards(current, after)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.score.map(|score| vec![("score", score)]).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Hand-computed from the rule.
    #[test]
    fn replicas_follow_the_score() {
        let recommend =
            |score, replicas, ready| SloAwareSettings::default().recommend(score, replicas, ready);
        assert_eq!(recommend(1.1, 4, 4), 8, "twice the score is twice the replicas");
        assert_eq!(recommend(1.1, 4, 2), 4, "half of them are not ready yet: their share counts");
        assert_eq!(recommend(0.6, 4, 4), 5, "ceil(4 x 0.09)");
        assert_eq!(recommend(0.5, 4, 4), 4);
        assert_eq!(recommend(0.2, 5, 5), 3, "floor(5 x 0.5) less");
        assert_eq!(recommend(0.0, 5, 5), 0, "bounds come later");
    }

    #[test]
    fn percentiles_are_of_the_last_minute() {
        let mut values: VecDeque<(f64, f64)> = (0..100).map(|i| (f64::from(i), f64::from(i))).collect();
        let mut sorted = Vec::new();
        assert_eq!(p90(&mut values, 39.0, &mut sorted), 93.0, "the 54th of 40 to 99");
        assert_eq!(p90(&mut values, 1000.0, &mut sorted), 0.0);
    }
}
