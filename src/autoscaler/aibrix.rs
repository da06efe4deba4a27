//! What AIBrix's two strategies share: windows over the mean of the pods, several metrics, bounds by the
//! clock, cooldown, and what newer versions add, a guard while replicas are pending and a forecast.
//!
//! A sync: bounds first, and where the replicas are outside them, to the bound. Then each metric recommends
//! on its own, within the bounds; the largest wins. With `predictive` in mode `auto` a forecast raises it,
//! with `pending_guard` replicas that are not ready hold it back. Then the cooldown: the documentation calls
//! its windows stabilisation windows like the HPA's, but the controller (`stabilizeRecommendation`) takes the *highest*
//! recommendation of the window going up and the *lowest* going down, so a window of 300 s speeds scaling
//! down instead of damping it; a recommendation equal to the current count leaves the window aside.
//!
//! Both windows hold the mean over pods, a bucket a second; a sample exactly as old as the window still
//! counts.
//!
//! Source: vllm-project/aibrix e3e10f9e (22 August 2026),
//! `pkg/controller/podautoscaler/{autoscaler,podautoscaler_controller, scheduled_bounds}.go`,
//! `metrics/client.go`, run. The guard is of 015a2e5f, the forecast of 63fdd26a and 98354005, both ported.

use std::collections::VecDeque;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::behavior::Recommendations;
use super::scraped::{Controller, Seen};
use super::signals::LoadMetric;
use super::{Decision, Observes};
use crate::settings::{Faults, PerDirection};

pub use self::schedules::Schedules;

mod schedules;

/// Which recommendation of its window a direction takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AibrixCooldown {
    /// Up the highest, down the lowest.
    #[default]
    AsImplemented,
    /// Up the lowest, down the highest.
    AsDocumented,
}

impl AibrixCooldown {
    /// The recommendation to follow now, remembering this one.
    pub fn stabilize(
        self,
        past: &mut Recommendations,
        window_s: PerDirection,
        now_s: f64,
        current: u32,
        recommended: u32,
    ) -> u32 {
        past.push(now_s, recommended);
        let upwards = recommended > current;
        if recommended == current {
            return current;
        }
        let within = past.within(now_s, if upwards { window_s.up } else { window_s.down });
        let highest = upwards == (self == Self::AsImplemented);
        if highest { within.fold(recommended, u32::max) } else { within.fold(recommended, u32::min) }
    }
}

/// A further metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AibrixMetric {
    pub metric: LoadMetric,
    /// Value of the metric per replica that is aimed at, in the metric's unit.
    pub target_per_replica: f64,
}

/// A straight line through the recent past.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Predictive {
    pub mode: PredictiveMode,
    /// How far ahead the line is followed.
    pub horizon_s: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PredictiveMode {
    /// Only told in a run's records.
    #[default]
    Preview,
    /// A floor under the recommendation.
    Auto,
}

impl Default for Predictive {
    fn default() -> Self {
        Self { mode: PredictiveMode::Preview, horizon_s: 120.0 }
    }
}

/// How a strategy turns values into replicas.
pub trait Strategy: std::fmt::Debug + Send {
    /// Replicas for the means over pods of both windows, and the mean that was used. `total` is the sum over
    /// pods, for rules that go by it.
    fn recommend(&mut self, now_s: f64, stable: f64, panic: f64, target: f64, current: u32) -> (u32, f64);

    /// Replicas for a mean, without tolerance and rates: what guard and forecast ask for.
    fn plain(&self, mean: f64, target: f64, current: u32) -> f64;

    /// The same if `pending` of them are not ready, on the way up or down.
    fn guarded(&self, mean: f64, target: f64, current: u32, pending: u32, upwards: bool) -> f64;
}

/// What both strategies' settings say alike.
#[derive(Debug, Clone)]
pub struct Common {
    pub metrics: Vec<AibrixMetric>,
    pub observe_window_s: f64,
    pub panic_window_s: f64,
    pub scrape_interval_s: f64,
    /// Whether windows hold sums over pods instead of means.
    pub sums: bool,
    pub max_scale_up_rate: f64,
    pub cooldown_window_s: PerDirection,
    pub cooldown: AibrixCooldown,
    pub schedules: Option<Schedules>,
    pub pending_guard: bool,
    pub predictive: Option<Predictive>,
    pub min_replicas: u32,
    pub max_replicas: u32,
}

/// Checks of what both have.
pub fn check(
    faults: &mut Faults,
    also: &[AibrixMetric],
    schedules: Option<&Schedules>,
    predictive: Option<&Predictive>,
) {
    for (i, metric) in also.iter().enumerate() {
        faults.within(format!("also[{i}]"), |faults| {
            faults.positive("target_per_replica", metric.target_per_replica)
        });
    }
    if let Some(schedules) = schedules {
        faults.within("schedules", |faults| schedules.check(faults));
    }
    if let Some(predictive) = predictive {
        faults.within("predictive", |faults| faults.positive("horizon_s", predictive.horizon_s));
    }
}

/// Samples of the recent past, both edges included, one a second.
#[derive(Debug, Clone)]
pub struct Samples {
    window_s: f64,
    samples: VecDeque<(f64, f64)>,
}

impl Samples {
    pub fn new(window_s: f64) -> Self {
        Self { window_s, samples: VecDeque::new() }
    }

    pub fn push(&mut self, now_s: f64, value: f64) {
        let second = now_s.floor();
        if self.samples.back().is_some_and(|&(at_s, _)| at_s == second) {
            self.samples.pop_back();
        }
        self.samples.push_back((second, value));
        let edge_s = (now_s - self.window_s).floor();
        while self.samples.front().is_some_and(|&(at_s, _)| at_s < edge_s) {
            self.samples.pop_front();
        }
    }

    pub fn mean(&self) -> f64 {
        if self.samples.is_empty() {
            return 0.0;
        }
        self.samples.iter().map(|&(_, value)| value).sum::<f64>() / self.samples.len() as f64
    }

    /// The mean, moved along the line of least squares by the horizon; none before three samples cover half
    /// the window.
    fn forecast(&self, horizon_s: f64) -> Option<f64> {
        let (&(first_s, _), &(last_s, _)) = (self.samples.front()?, self.samples.back()?);
        if self.samples.len() < 3 || last_s - first_s < self.window_s / 2.0 {
            return None;
        }
        let count = self.samples.len() as f64;
        let mean_s = self.samples.iter().map(|&(at_s, _)| at_s).sum::<f64>() / count;
        let mean = self.mean();
        let (mut along, mut spread) = (0.0, 0.0);
        for &(at_s, value) in &self.samples {
            along += (at_s - mean_s) * (value - mean);
            spread += (at_s - mean_s) * (at_s - mean_s);
        }
        Some((mean + along / spread * horizon_s).max(0.0).min(4.0 * mean))
    }
}

/// One metric's windows.
#[derive(Debug)]
struct Observed {
    metric: AibrixMetric,
    stable: Samples,
    panic: Samples,
}

/// The controller.
#[derive(Debug)]
pub struct Aibrix<S> {
    common: Common,
    strategy: S,
    observed: Vec<Observed>,
    past: Recommendations,
    /// Of the latest sync: the means of the metric that won, and the forecast's replicas.
    means: (f64, f64),
    forecast: Option<u32>,
    recommended: u32,
}

/// A whole number of replicas from a quotient.
pub fn ceil(replicas: f64) -> u32 {
    replicas.ceil() as u32
}

impl<S: Strategy> Aibrix<S> {
    pub fn new(common: Common, strategy: S) -> Self {
        let observe = |metric: &AibrixMetric| Observed {
            metric: metric.clone(),
            stable: Samples::new(common.observe_window_s),
            panic: Samples::new(common.panic_window_s),
        };
        Self {
            observed: common.metrics.iter().map(observe).collect(),
            past: Recommendations::new(common.cooldown_window_s.up.max(common.cooldown_window_s.down)),
            common,
            strategy,
            means: (0.0, 0.0),
            forecast: None,
            recommended: 0,
        }
    }

    pub fn observes(&self) -> Observes {
        self.observed
            .iter()
            .fold(Observes::default(), |all, observed| all.and(observed.metric.metric.observes()))
    }

    /// A value of each serving pod, of one metric.
    pub fn record(&mut self, now_s: f64, metric: usize, values: impl IntoIterator<Item = f64>) {
        let (mut sum, mut pods) = (0.0, 0_u32);
        for value in values {
            sum += value;
            pods += 1;
        }
        if pods > 0 {
            let value = if self.common.sums { sum } else { sum / f64::from(pods) };
            self.observed[metric].stable.push(now_s, value);
            self.observed[metric].panic.push(now_s, value);
        }
    }

    /// Replicas there should be; `current` counts `pending` ones that are not ready.
    pub fn sync(&mut self, now_s: f64, current: u32, pending: u32) -> u32 {
        let (bounds, woken) = match &self.common.schedules {
            None => ((self.common.min_replicas, self.common.max_replicas), false),
            Some(schedules) => schedules.bounds(now_s, self.common.min_replicas, self.common.max_replicas),
        };
        let (least, most) = bounds;
        if current == 0 && least != 0 && !woken {
            return 0;
        }
        if !(least..=most).contains(&current) {
            return current.clamp(least, most);
        }
        let mut best: Option<(u32, f64, usize)> = None;
        for (index, observed) in self.observed.iter().enumerate() {
            let target = observed.metric.target_per_replica;
            let (stable, panic) = (observed.stable.mean(), observed.panic.mean());
            let (replicas, used) = self.strategy.recommend(now_s, stable, panic, target, current);
            let replicas = replicas.clamp(least, most);
            if best.is_none_or(|(most_so_far, ..)| replicas > most_so_far) {
                best = Some((replicas, used, index));
                self.means = (stable, panic);
            }
        }
        let (recommended, used, index) = best.expect("at least one metric");
        let recommended = self.predicted(current, recommended, index).clamp(least, most);
        let target = self.observed[index].metric.target_per_replica;
        self.recommended = recommended;
        let guarded = self.guard(current, pending, recommended, used, target);
        let stabilized = self.common.cooldown.stabilize(
            &mut self.past,
            self.common.cooldown_window_s,
            now_s,
            current,
            guarded,
        );
        stabilized.clamp(least, most)
    }

    /// Before guard and cooldown.
    pub fn recommended(&self) -> u32 {
        self.recommended
    }

    /// Means of the stable and the panic window.
    pub fn means(&self) -> (f64, f64) {
        self.means
    }

    /// With a forecast as its floor, which never asks for more than one step upwards.
    fn predicted(&mut self, current: u32, recommended: u32, index: usize) -> u32 {
        let Some(Predictive { mode, horizon_s }) = self.common.predictive else { return recommended };
        let observed = &self.observed[index];
        let most = ceil(self.common.max_scale_up_rate * f64::from(current));
        let replicas = |mean| {
            ceil(self.strategy.plain(mean, observed.metric.target_per_replica, current)).min(most).max(1)
        };
        self.forecast = observed.stable.forecast(horizon_s).map(replicas);
        match (mode, self.forecast) {
            (PredictiveMode::Auto, Some(floor)) => recommended.max(floor),
            _ => recommended,
        }
    }

    /// What replicas that are not ready leave of a change: idle on the way up, at the target on the way down.
    fn guard(&self, current: u32, pending: u32, recommended: u32, mean: f64, target: f64) -> u32 {
        if !self.common.pending_guard || pending == 0 || recommended == current {
            return recommended;
        }
        let upwards = recommended > current;
        let guarded = ceil(self.strategy.guarded(mean, target, current, pending.min(current), upwards));
        guarded.clamp(recommended.min(current), recommended.max(current))
    }
}

impl<S: Strategy> Controller<2> for Aibrix<S> {
    fn scraped(&mut self, seen: &Seen) {
        for index in 0..self.observed.len() {
            let metric = self.observed[index].metric.metric;
            if metric.is_of_pods() {
                self.record(
                    seen.now_s,
                    index,
                    seen.signals.replicas.iter().filter_map(|replica| metric.of_replica(replica)),
                );
            } else if seen.snapshot.serving > 0 {
                // Each pod's share.
                let total = metric.total(seen.signals, self.common.scrape_interval_s);
                let pods = seen.snapshot.serving;
                self.record(seen.now_s, index, (0..pods).map(|_| total / f64::from(pods)));
            }
        }
    }

    fn decide(&mut self, _: [bool; 2], seen: &Seen) -> Decision {
        let current = seen.snapshot.committed();
        Decision::towards(current, self.sync(seen.now_s, current, seen.snapshot.starting))
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let forecast = self.forecast.map(|replicas| ("forecast_replicas", f64::from(replicas)));
        [("stable_value", self.means.0), ("panic_value", self.means.1)].into_iter().chain(forecast).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cooldown_takes_the_lowest_on_the_way_down_unless_as_documented() {
        let window_s = PerDirection { up: 0.0, down: 300.0 };
        let walk = |cooldown: AibrixCooldown| {
            let mut past = Recommendations::new(300.0);
            [(0.0, 2), (10.0, 5), (20.0, 3), (330.0, 4)]
                .map(|(now_s, recommended)| cooldown.stabilize(&mut past, window_s, now_s, 5, recommended))
        };
        assert_eq!(walk(AibrixCooldown::AsImplemented), [2, 5, 2, 4]);
        assert_eq!(walk(AibrixCooldown::AsDocumented), [2, 5, 5, 4]);
    }

    #[test]
    fn a_sample_as_old_as_the_window_counts() {
        let mut samples = Samples::new(60.0);
        (0..8).for_each(|i| samples.push(f64::from(i) * 10.0, f64::from(i)));
        assert_eq!((samples.samples.len(), samples.mean()), (7, 4.0), "10 s to 70 s");
    }

    /// Hand-computed: slope 0.1 a second, mean 3, over 20 s; at most four times the mean.
    #[test]
    fn a_line_is_followed_from_the_mean() {
        let mut samples = Samples::new(60.0);
        (0..4).for_each(|i| samples.push(f64::from(i) * 10.0, 1.5 + f64::from(i)));
        assert_eq!(samples.forecast(20.0), Some(5.0));
        assert_eq!(samples.forecast(1000.0), Some(12.0));
        let mut short = Samples::new(180.0);
        (0..4).for_each(|i| short.push(f64::from(i) * 10.0, 1.0));
        assert_eq!(short.forecast(20.0), None, "30 s are no half of 180 s");
    }
}
