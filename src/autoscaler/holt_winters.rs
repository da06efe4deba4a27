//! Forecast of the token rate by exponential smoothing (Holt-Winters), planned for the moment new replicas
//! would serve.
//!
//! Rule: every `interval_s` the rate of work that arrived, prompt tokens plus requests x mean output, updates
//! a level, a damped trend and, with `season_s`, an additive season. The forecast looks ahead from now over
//! the cluster's `scale_up_delay_s` and one interval; the plan is for its highest point, no less than the
//! level now: replicas = ceil(rate / (`target_utilization` x tokens per second of a full replica)). Scaling
//! down takes the highest plan of the last `down_window_s`.
//!
//! | parameter | default | source |
//! |---|---|---|
//! | `alpha`, `beta`, `gamma`, `phi` | 0.5, 0.1, 0.1, 0.9 | usual ranges; `phi` is usually kept from 0.8 to 0.98 (the textbook below, read) |
//! | `interval_s`, `season_s` | 10, none | ours |
//! | `target_utilization`, `down_window_s` | 0.8, 60 | ours |
//!
//! Source: Winters (1960), Gardner and McKenzie (1985) for the damped trend, in the additive form of Hyndman
//! and Athanasopoulos, *Forecasting: Principles and Practice*, §8.3. The recursion was run beside
//! `ExponentialSmoothing` of statsmodels 0.14.6 with the same constants: equal forecasts but for whole
//! seasons ahead (`findings/statsmodels_a_season_ahead.sh`). A replica's throughput comes from the hardware
//! model and the mean lengths of finished requests; nothing is decided before the first has finished.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::replica_model::ReplicaModel;
use super::signals::Signals;
use super::window::Window;
use super::{
    Arrivals, Autoscaler, Checked, Completion, Decision, FirstToken, Observes, PolicyContext, PolicySettings,
    Snapshot, Upstream,
};
use crate::settings::Faults;

/// Intervals of a season, at most.
const MAX_PLACES: f64 = 100_000.0;

/// Intervals looked ahead, at most: by then a damped trend has long come to rest.
const MAX_HORIZON: f64 = 1000.0;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HoltWintersSettings {
    /// Length of the intervals that are observed and forecast.
    pub interval_s: f64,
    /// Weight of the latest observation in the level.
    pub alpha: f64,
    /// Weight of the latest change in the trend.
    pub beta: f64,
    /// Weight of the latest deviation in the season.
    pub gamma: f64,
    /// What remains of the trend after each interval.
    pub phi: f64,
    /// Length of the season; none if absent.
    pub season_s: Option<f64>,
    /// Share of a replica's throughput that is planned for.
    pub target_utilization: f64,
    /// Scaling down goes to the largest need within this time.
    pub down_window_s: f64,
    /// Most tokens of a batch.
    pub max_num_batched_tokens: u32,
}

impl Default for HoltWintersSettings {
    fn default() -> Self {
        Self {
            interval_s: 10.0,
            alpha: 0.5,
            beta: 0.1,
            gamma: 0.1,
            phi: 0.9,
            season_s: None,
            target_utilization: 0.8,
            down_window_s: 60.0,
            max_num_batched_tokens: 4096,
        }
    }
}

impl PolicySettings for HoltWintersSettings {
    fn check(&self, faults: &mut Faults) {
        faults.interval_s("interval_s", self.interval_s);
        for (field, weight) in
            [("alpha", self.alpha), ("beta", self.beta), ("gamma", self.gamma), ("phi", self.phi)]
        {
            faults.fraction(field, weight);
        }
        if let Some(season_s) = self.season_s {
            faults.require(season_s.is_finite() && season_s >= 2.0 * self.interval_s, "season_s", || {
                format!("{season_s} found, expected at least two of `interval_s` ({})", self.interval_s)
            });
            faults.require(season_s <= MAX_PLACES * self.interval_s, "season_s", || {
                format!(
                    "{season_s} found, expected at most {MAX_PLACES} of `interval_s` ({})",
                    self.interval_s
                )
            });
        }
        faults.positive("target_utilization", self.target_utilization);
        faults.fraction("target_utilization", self.target_utilization);
        faults.not_negative("down_window_s", self.down_window_s);
        faults.at_least("max_num_batched_tokens", self.max_num_batched_tokens.into(), 1);
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "exponential smoothing of the token rate",
            version: "Hyndman and Athanasopoulos, section 8.3",
            checked: Checked::Read,
            left_out: "",
            knob: "target_utilization",
            signals: "arrivals since the last interval, mean lengths of finished requests",
            blind_to: "queues, KV use, latency",
        }
    }

    fn build(&self, context: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        Some(Box::new(HoltWinters {
            model: ReplicaModel::new(context, self.max_num_batched_tokens),
            signals: Signals::new(self.interval_s),
            smoothing: Smoothing::new(self),
            horizon: ((context.scale_up_delay_s + self.interval_s) / self.interval_s).ceil().min(MAX_HORIZON)
                as u32,
            plans: Window::new(self.down_window_s),
            forecast_tokens_per_s: 0.0,
            settings: self.clone(),
        }))
    }
}

/// Level, damped trend and additive season of a series.
#[derive(Debug)]
struct Smoothing {
    alpha: f64,
    beta: f64,
    gamma: f64,
    phi: f64,
    observed: u32,
    level: f64,
    trend: f64,
    /// Deviations by place in the season; one zero without a season.
    season: Vec<f64>,
    place: usize,
}

impl Smoothing {
    fn new(settings: &HoltWintersSettings) -> Self {
        let places =
            settings.season_s.map_or(1, |season_s| (season_s / settings.interval_s).round() as usize);
        Self {
            alpha: settings.alpha,
            beta: settings.beta,
            gamma: if places > 1 { settings.gamma } else { 0.0 },
            phi: settings.phi,
            observed: 0,
            level: 0.0,
            trend: 0.0,
            season: vec![0.0; places],
            place: 0,
        }
    }

    fn observe(&mut self, value: f64) {
        let season = self.season[self.place];
        if self.observed == 0 {
            self.level = value;
        } else {
            let expected = self.level + self.phi * self.trend;
            let level = self.alpha * (value - season) + (1.0 - self.alpha) * expected;
            self.trend = self.beta * (level - self.level) + (1.0 - self.beta) * self.phi * self.trend;
            self.level = level;
            self.season[self.place] = self.gamma * (value - expected) + (1.0 - self.gamma) * season;
        }
        self.observed += 1;
        self.place = (self.place + 1) % self.season.len();
    }

    /// So many intervals ahead, 1 being the next.
    fn forecast(&self, ahead: u32) -> f64 {
        let damped: f64 = (1..=ahead)
            .scan(1.0, |factor, _| {
                *factor *= self.phi;
                Some(*factor)
            })
            .sum();
        let season = self.season[(self.place + ahead as usize - 1) % self.season.len()];
        self.level + damped * self.trend + season
    }
}

#[derive(Debug)]
struct HoltWinters {
    settings: HoltWintersSettings,
    model: ReplicaModel,
    signals: Signals,
    smoothing: Smoothing,
    /// Intervals to look ahead.
    horizon: u32,
    plans: Window,
    forecast_tokens_per_s: f64,
}

impl Autoscaler for HoltWinters {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.settings.interval_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        self.signals.scrape(now_s, snapshot);
        let Some(lengths) = self.signals.lengths_so_far() else {
            return Decision::Hold;
        };
        // Ticks add up to times that miss whole intervals by rounding.
        let window_s = self.settings.interval_s * 1.001;
        let prompts_per_s = self.signals.rate_per_s(window_s, |counters| counters.arrived_prefill_tokens);
        let requests_per_s = self.signals.rate_per_s(window_s, |counters| counters.arrived_requests);
        self.smoothing.observe(prompts_per_s + requests_per_s * lengths.decode_tokens);
        let highest = (1..=self.horizon)
            .map(|ahead| self.smoothing.forecast(ahead))
            .fold(self.smoothing.level, f64::max);
        self.forecast_tokens_per_s = highest.max(0.0);
        let replica_tokens_per_s =
            self.model.requests_per_s(lengths) * (lengths.prefill_tokens + lengths.decode_tokens);
        let plan = (self.forecast_tokens_per_s / (replica_tokens_per_s * self.settings.target_utilization))
            .ceil()
            .max(1.0);
        self.plans.push(now_s, plan);
        let current = snapshot.committed();
        let target = if plan >= f64::from(current) { plan } else { self.plans.max().min(f64::from(current)) };
        Decision::towards(current, target as u32)
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        let Smoothing { level, trend, .. } = self.smoothing;
        vec![
            ("level_tokens_per_s", level),
            ("trend_tokens_per_s", trend),
            ("forecast_tokens_per_s", self.forecast_tokens_per_s),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn smoothing(change: impl FnOnce(&mut HoltWintersSettings)) -> Smoothing {
        let mut settings = HoltWintersSettings::default();
        change(&mut settings);
        Smoothing::new(&settings)
    }

    /// Hand-computed with alpha 0.5, beta 0.1, phi 0.9: 100, then 120.
    #[test]
    fn level_and_damped_trend() {
        let mut series = smoothing(|_| ());
        series.observe(100.0);
        series.observe(120.0);
        assert_eq!((series.level, series.trend), (110.0, 1.0));
        assert!((series.forecast(1) - 110.9).abs() < 1e-12);
        assert!((series.forecast(3) - (110.0 + 0.9 + 0.81 + 0.729)).abs() < 1e-12);
        series.observe(120.0);
        // Expected 110.9; level 115.45; trend 0.1 x 5.45 + 0.9 x 0.9.
        assert!((series.level - 115.45).abs() < 1e-12 && (series.trend - 1.355).abs() < 1e-12);
    }

    #[test]
    fn a_ramp_without_damping_is_forecast_exactly_in_the_end() {
        let mut series = smoothing(|settings| settings.phi = 1.0);
        (0..400).for_each(|i| series.observe(5.0 * f64::from(i)));
        assert!((series.forecast(4) - 5.0 * 403.0).abs() < 1e-3, "{}", series.forecast(4));
    }

    /// Forecasts of statsmodels 0.14.6, run with these constants; it parts a whole season ahead, where it
    /// takes an older one.
    #[test]
    fn forecasts_are_those_of_a_library() {
        let mut series = smoothing(|settings| (settings.season_s, settings.gamma) = (Some(40.0), 0.3));
        for value in [100.0, 130.0, 90.0, 60.0, 110.0, 150.0, 95.0, 55.0, 130.0, 160.0, 100.0, 70.0, 140.0] {
            series.observe(value);
        }
        let theirs = [147.53258008450547, 99.68168971130248, 83.0159362280281, f64::NAN, 149.38884530544647];
        for (ahead, theirs) in (1..).zip(theirs).filter(|(ahead, _)| ahead % 4 > 0) {
            assert!((series.forecast(ahead) - theirs).abs() < 1e-9, "{ahead}: {}", series.forecast(ahead));
        }
    }

    #[test]
    fn seasons_are_learnt() {
        let mut series = smoothing(|settings| {
            (settings.season_s, settings.gamma, settings.alpha) = (Some(40.0), 0.3, 0.1)
        });
        (0..400).for_each(|i| series.observe([10.0, 20.0, 40.0, 10.0][i % 4]));
        for (ahead, expected) in [(1, 10.0), (2, 20.0), (3, 40.0), (4, 10.0), (7, 40.0)] {
            assert!((series.forecast(ahead) - expected).abs() < 1.0, "{ahead}: {}", series.forecast(ahead));
        }
    }
}
