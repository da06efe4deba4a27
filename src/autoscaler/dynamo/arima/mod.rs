//! ARIMA with a search for its orders: fitted once, then a few iterations with each value.
//!
//! Rule: differences until KPSS does not object (5 %, twice at most); from orders of at most a third of the
//! values, steps of one or two orders as long as Akaike's criterion falls. What is found to be no more than
//! differences is tried again on logarithms of 1 + value. Each later value adds five iterations to the fit;
//! orders stay.
//!
//! Source: ai-dynamo 1.6.1 `planner/core/load/predictors.py`, pmdarima 2.1.1 `auto_arima` with its defaults
//! (no season), statsmodels 0.15.0 and scipy 1.17 underneath. Checked against their forecasts on given
//! series.

mod minimize;
mod model;

use self::model::{Model, Orders, differences};

const FEWEST_POINTS: usize = 5;

fn is_constant(values: &[f64]) -> bool {
    values.windows(2).all(|pair| pair[0] == pair[1])
}

/// Whether KPSS rejects at 5 % that the level is stationary.
fn needs_difference(values: &[f64]) -> bool {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    let residuals: Vec<f64> = values.iter().map(|value| value - mean).collect();
    let mut level = 0.0;
    let eta = residuals.iter().fold(0.0, |sum, residual| {
        level += residual;
        sum + level * level
    }) / (n * n);
    let lags = (4.0 * libm::pow(n / 100.0, 0.25)) as usize;
    let product = |lag: usize| residuals.iter().skip(lag).zip(&residuals).map(|(a, b)| a * b).sum::<f64>();
    let weighted: f64 = (1..=lags).map(|lag| (1.0 - lag as f64 / (lags as f64 + 1.0)) * product(lag)).sum();
    let variance = product(0) / n + 2.0 * weighted / n;
    eta / variance > 0.463
}

/// How often to difference, and what is left then.
fn differenced(values: &[f64]) -> (usize, Vec<f64>) {
    let (mut d, mut left) = (0, values.to_vec());
    while d < 2 && !is_constant(&left) && needs_difference(&left) {
        d += 1;
        left = differences(&left);
    }
    (d, left)
}

/// The search for the best orders.
struct Search<'a> {
    values: &'a [f64],
    tried: Vec<(Orders, f64, Option<Model>)>,
    best: Option<f64>,
}

impl Search<'_> {
    /// Tries orders unless they were tried; whether they are the best so far.
    fn tries(&mut self, orders: Orders) -> bool {
        if self.tried.iter().any(|(tried, _, _)| *tried == orders) {
            return false;
        }
        let model = Model::fit(orders, self.values);
        let criterion = model.as_ref().map_or(f64::INFINITY, |model| model.criterion(self.values));
        self.tried.push((orders, criterion, model));
        let better = criterion.is_finite() && self.best.is_none_or(|best| criterion < best);
        if better {
            self.best = Some(criterion);
        }
        better
    }
}

/// The best model for these values; `None` if none can be fitted.
fn best_model(values: &[f64]) -> Option<Model> {
    if is_constant(values) {
        return Model::fit(Orders { p: 0, d: 0, q: 0, constant: false }, values);
    }
    let most = (values.len() / 3).min(5);
    let (d, left) = differenced(values);
    if is_constant(&left) {
        let drift = Model::fit(Orders { p: 0, d, q: 0, constant: true }, values);
        return drift.filter(|model| model.criterion(values).is_finite());
    }
    let constant = d < 2;
    let first = if values.len() < 10 { 1 } else { 2 }.min(most);
    let mut at = Orders { p: first, d, q: first, constant };
    let mut search = Search { values, tried: Vec::new(), best: None };
    search.tries(at);
    let beginnings = [(0, 0, constant), (1.min(most), 0, constant), (0, 1.min(most), constant)];
    for (p, q, constant) in beginnings.into_iter().chain(constant.then_some((0, 0, false))) {
        if search.tries(Orders { p, d, q, constant }) {
            (at.p, at.q) = (p, q);
        }
    }
    const STEPS: [(isize, isize); 8] = [(-1, 0), (0, -1), (1, 0), (0, 1), (-1, -1), (-1, 1), (1, -1), (1, 1)];
    'walk: loop {
        for (dp, dq) in STEPS {
            let moved = |order: usize, by: isize| order.checked_add_signed(by).filter(|&order| order <= most);
            if let (Some(p), Some(q)) = (moved(at.p, dp), moved(at.q, dq))
                && search.tried.len() < 100
                && search.tries(Orders { p, q, ..at })
            {
                (at.p, at.q) = (p, q);
                continue 'walk;
            }
        }
        let other = Orders { constant: !at.constant, ..at };
        if search.tried.len() < 100 && search.tries(other) {
            at = other;
            continue;
        }
        break;
    }
    let fitted = search.tried.into_iter().filter(|(_, criterion, _)| criterion.is_finite());
    fitted.min_by(|a, b| a.1.total_cmp(&b.1)).and_then(|(_, _, model)| model)
}

/// A series and its model.
#[derive(Debug, Clone)]
pub struct Arima {
    /// Whether the model is of logarithms.
    log1p: bool,
    asked_for_log1p: bool,
    values: Vec<f64>,
    model: Option<Model>,
    /// Values that the model has taken in.
    learnt: usize,
}

fn logarithms(values: &[f64]) -> Vec<f64> {
    values.iter().map(|&value| libm::log1p(value)).collect()
}

impl Arima {
    pub fn new(log1p: bool) -> Self {
        Self { log1p, asked_for_log1p: log1p, values: Vec::new(), model: None, learnt: 0 }
    }

    pub fn observe(&mut self, value: f64) {
        self.values.push(value.max(0.0));
    }

    fn in_model_space(&self) -> Vec<f64> {
        if self.log1p { logarithms(&self.values) } else { self.values.clone() }
    }

    /// The next value: the last one as long as there are too few, or where no model can be had.
    pub fn predict(&mut self) -> f64 {
        let Some(&last) = self.values.last() else { return 0.0 };
        if self.values.len() < FEWEST_POINTS || is_constant(&self.values) {
            return last;
        }
        self.update();
        let forecast = self.model.as_ref().and_then(|model| model.forecast(&self.in_model_space()));
        forecast.map_or(last, |forecast| if self.log1p { libm::expm1(forecast) } else { forecast }.max(0.0))
    }

    fn update(&mut self) {
        match &self.model {
            None => {
                self.log1p = self.asked_for_log1p;
                self.model = best_model(&self.in_model_space());
                let collapsed =
                    self.model.as_ref().is_some_and(|model| model.orders().p + model.orders().q == 0);
                if collapsed
                    && !self.asked_for_log1p
                    && let Some(model) = best_model(&logarithms(&self.values))
                {
                    self.log1p = true;
                    self.model = Some(model);
                }
            }
            Some(model) if self.learnt < self.values.len() => {
                let refitted = model.refit(&self.in_model_space(), 5);
                self.model = refitted.or(self.model.take());
            }
            Some(_) => {}
        }
        self.learnt = self.values.len();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_need_no_difference_and_ramps_do() {
        assert!(!needs_difference(&[5.0, 6.0, 5.0, 6.0, 5.0, 6.0, 5.0, 6.0]));
        let ramp: Vec<f64> = (0..30).map(f64::from).collect();
        assert!(needs_difference(&ramp));
        assert_eq!(differenced(&ramp).0, 1);
    }

    /// Forecasts of pmdarima 2.1.1 as the planner calls it: after five values, a model of the logarithms of a
    /// ramp; of an alternating series one that sees it alternate.
    #[test]
    fn first_forecasts_are_the_references() {
        let after = |values: &[f64]| {
            let mut arima = Arima::new(false);
            values.iter().for_each(|&value| arima.observe(value));
            arima.predict()
        };
        assert_eq!(after(&[10.0, 20.0, 30.0, 40.0]), 40.0, "too few");
        assert_eq!(after(&[10.0; 9]), 10.0, "all alike");
        // The alternating series has a root near the unit circle, where the last digits of the fit lead it.
        for (values, expected, within) in [
            ([10.0, 20.0, 30.0, 40.0, 50.0], 51.73733, 1e-3),
            ([100.0, 50.0, 100.0, 50.0, 100.0], 50.52259, 5e-3),
            ([1816.0, 2252.0, 2537.0, 2497.0, 2551.0], 2312.2159, 1e-3),
            ([100.0, 105.0, 99.0, 81.0, 106.0], 97.75634, 1e-3),
        ] {
            let found = after(&values);
            assert!((found / expected - 1.0).abs() < within, "{values:?}: {found}, {expected}");
        }
    }
}
