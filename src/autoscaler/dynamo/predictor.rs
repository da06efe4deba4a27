//! Forecasts of the next interval, each quantity on its own.
//!
//! Source: ai-dynamo 1.6.1, `planner/core/load/predictors.py`. Zeros before the first value that is not are
//! skipped; until there are enough points, and always with `constant`, the last value is the forecast.
//! `kalman` is a local linear trend, `arima` in [`super::arima`]; Prophet is left out.

use schemars::JsonSchema;
use serde::Serialize;
use serde::de::{Deserialize, Deserializer, Error as _};

use super::arima::Arima;

/// How the next interval is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LoadPredictor {
    /// As the last interval.
    Constant,
    /// Autoregression, differences and moving averages of orders that are searched for.
    #[default]
    Arima,
    /// A level and a trend, filtered.
    Kalman,
}

impl<'de> Deserialize<'de> for LoadPredictor {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "constant" => Ok(Self::Constant),
            "arima" => Ok(Self::Arima),
            "kalman" => Ok(Self::Kalman),
            "prophet" => Err(D::Error::custom(
                "`prophet` is not reproduced here, expected `arima`, `kalman` or `constant`",
            )),
            other => Err(D::Error::unknown_variant(other, &["constant", "arima", "kalman"])),
        }
    }
}

/// Settings of the predictors.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct PredictorSettings {
    pub kind: LoadPredictor,
    /// Whether the logarithm of 1 + value is predicted.
    pub log1p: bool,
    pub kalman_q_level: f64,
    pub kalman_q_trend: f64,
    pub kalman_r: f64,
    pub kalman_min_points: u32,
}

/// The state of a local linear trend.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Trend {
    level: f64,
    slope: f64,
    /// Variances of the level and the slope, and their covariance.
    level_variance: f64,
    slope_variance: f64,
    covariance: f64,
    /// Whether it stands for the next interval already.
    ahead: bool,
}

impl Trend {
    fn new(value: f64) -> Self {
        Self {
            level: value,
            slope: 0.0,
            level_variance: 1000.0,
            slope_variance: 1000.0,
            covariance: 0.0,
            ahead: false,
        }
    }

    fn go_ahead(&mut self, settings: &PredictorSettings) {
        if self.ahead {
            return;
        }
        self.level += self.slope;
        self.level_variance +=
            2.0 * self.covariance + self.slope_variance + settings.kalman_q_level.max(1e-12);
        self.covariance += self.slope_variance;
        self.slope_variance += settings.kalman_q_trend.max(1e-12);
        self.ahead = true;
    }

    fn update(&mut self, value: f64, settings: &PredictorSettings) {
        self.go_ahead(settings);
        let innovation_variance = self.level_variance + settings.kalman_r.max(1e-9);
        let (level_gain, slope_gain) =
            (self.level_variance / innovation_variance, self.covariance / innovation_variance);
        let innovation = value - self.level;
        self.level += level_gain * innovation;
        self.slope += slope_gain * innovation;
        self.slope_variance -= slope_gain * self.covariance;
        self.covariance -= level_gain * self.covariance;
        self.level_variance -= level_gain * self.level_variance;
        self.ahead = false;
    }
}

/// One quantity, interval by interval.
#[derive(Debug, Clone)]
pub struct Predictor {
    settings: PredictorSettings,
    points: u32,
    last: f64,
    state: State,
}

/// What a predictor makes of the values so far.
#[derive(Debug, Clone)]
enum State {
    /// Nothing but the last.
    Last,
    Trend(Option<Trend>),
    Arima(Arima),
}

impl Predictor {
    pub fn new(settings: PredictorSettings) -> Self {
        let state = match settings.kind {
            LoadPredictor::Constant => State::Last,
            LoadPredictor::Kalman => State::Trend(None),
            LoadPredictor::Arima => State::Arima(Arima::new(settings.log1p)),
        };
        Self { settings, points: 0, last: 0.0, state }
    }

    pub fn observe(&mut self, value: f64) {
        if value == 0.0 && self.points == 0 {
            return;
        }
        self.points += 1;
        self.last = value;
        match &mut self.state {
            State::Last => {}
            State::Trend(trend) => {
                let value = if self.settings.log1p { libm::log1p(value.max(0.0)) } else { value };
                match trend {
                    Some(trend) => trend.update(value, &self.settings),
                    None => *trend = Some(Trend::new(value)),
                }
            }
            State::Arima(arima) => arima.observe(value),
        }
    }

    /// The next interval's value; 0 before the first.
    pub fn predict(&mut self) -> f64 {
        match &mut self.state {
            State::Trend(Some(trend)) if self.points >= self.settings.kalman_min_points => {
                trend.go_ahead(&self.settings);
                let level = if self.settings.log1p { libm::expm1(trend.level) } else { trend.level };
                level.max(0.0)
            }
            State::Arima(arima) => arima.predict(),
            State::Last | State::Trend(_) => self.last,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn settings(kind: LoadPredictor) -> PredictorSettings {
        PredictorSettings {
            kind,
            log1p: false,
            kalman_q_level: 1.0,
            kalman_q_trend: 0.1,
            kalman_r: 10.0,
            kalman_min_points: 5,
        }
    }

    fn predictions(settings: PredictorSettings, values: &[f64]) -> Vec<f64> {
        let mut predictor = Predictor::new(settings);
        values
            .iter()
            .map(|&value| {
                predictor.observe(value);
                predictor.predict()
            })
            .collect()
    }

    #[test]
    fn leading_zeros_are_skipped() {
        assert_eq!(
            predictions(settings(LoadPredictor::Constant), &[0.0, 0.0, 7.0, 0.0]),
            [0.0, 0.0, 7.0, 0.0]
        );
        let mut kalman = Predictor::new(settings(LoadPredictor::Kalman));
        [0.0, 0.0, 7.0].into_iter().for_each(|value| kalman.observe(value));
        assert_eq!(kalman.points, 1);
    }

    /// Hand-computed: after 10, P = [2001, 1000, 1000.1] ahead, so the gains for 20 are 2001/2011 and
    /// 1000/2011 and the prediction is 10 + 10 (3001/2011). With the default of five points, the last value
    /// until then.
    #[test]
    fn kalman_follows_level_and_trend() {
        let eager = PredictorSettings { kalman_min_points: 1, ..settings(LoadPredictor::Kalman) };
        let predicted = predictions(eager, &[10.0, 20.0]);
        assert_eq!(predicted[0], 10.0);
        assert!((predicted[1] - (10.0 + 10.0 * 3001.0 / 2011.0)).abs() < 1e-9);
        let ramp: Vec<f64> = (1..=40).map(|i| 10.0 * f64::from(i)).collect();
        let predicted = predictions(settings(LoadPredictor::Kalman), &ramp);
        assert_eq!(predicted[..4], ramp[..4]);
        assert!((predicted[4] - 59.94782).abs() < 1e-5, "{}", predicted[4]);
        assert!((predicted[39] - 410.0).abs() < 1.0, "{}", predicted[39]);
    }

    #[test]
    fn prophet_is_refused_by_name() {
        let error = serde_json::from_str::<LoadPredictor>("\"prophet\"").unwrap_err().to_string();
        assert!(error.contains("`prophet` is not reproduced here"), "{error}");
        assert_eq!(serde_json::from_str::<LoadPredictor>("\"arima\"").unwrap(), LoadPredictor::default());
    }

    /// What grows by a factor is a line to the logarithm.
    #[test]
    fn logarithms_are_predicted_if_asked_for() {
        let log = PredictorSettings { log1p: true, ..settings(LoadPredictor::Kalman) };
        let doubling: Vec<f64> = (0..12).map(|i| f64::from(1 << i) - 1.0).collect();
        let predicted = predictions(log, &doubling).pop().unwrap();
        assert!((predicted / 4095.0 - 1.0).abs() < 0.02, "{predicted}");
    }
}
