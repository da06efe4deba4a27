//! One ARIMA model: its likelihood, where its parameters begin, and how they are fitted.
//!
//! Source: statsmodels 0.15.0 `tsa/statespace/sarimax.py`: Harvey's state space with the differences as
//! states of their own, of variance 1e6 at first, whose first observations do not count; autoregression kept
//! stationary and moving averages invertible by partial correlations (Monahan 1984); parameters begun by
//! conditional least squares.

use super::minimize::minimize;

/// Variance of the differences' states before anything is known.
const DIFFUSE_VARIANCE: f64 = 1e6;

/// Orders of a model, and whether it has a constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Orders {
    pub p: usize,
    pub d: usize,
    pub q: usize,
    pub constant: bool,
}

/// Parameters as likelihoods take them.
#[derive(Debug, Clone, PartialEq)]
struct Parameters {
    constant: f64,
    ar: Vec<f64>,
    ma: Vec<f64>,
    variance: f64,
}

/// A model and its parameters.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    orders: Orders,
    parameters: Parameters,
}

pub fn differences(values: &[f64]) -> Vec<f64> {
    values.windows(2).map(|pair| pair[1] - pair[0]).collect()
}

/// Coefficients of a stationary autoregression from any numbers.
fn constrained(free: &[f64]) -> Vec<f64> {
    let mut coefficients: Vec<f64> = Vec::with_capacity(free.len());
    for (k, value) in free.iter().enumerate() {
        let partial = value / (1.0 + value * value).sqrt();
        let before = coefficients.clone();
        for i in 0..k {
            coefficients[i] = before[i] + partial * before[k - 1 - i];
        }
        coefficients.push(partial);
    }
    coefficients.iter().map(|coefficient| -coefficient).collect()
}

/// The partial correlations of an autoregression, last first taken off; `None` if it is not stationary.
fn partials(coefficients: &[f64]) -> Option<Vec<f64>> {
    let mut left: Vec<f64> = coefficients.iter().map(|coefficient| -coefficient).collect();
    let mut found = vec![0.0; left.len()];
    while let Some(last) = left.pop() {
        if last.is_nan() || last.abs() >= 1.0 {
            return None;
        }
        let k = left.len();
        found[k] = last;
        let before = left.clone();
        for i in 0..k {
            left[i] = (before[i] - last * before[k - 1 - i]) / (1.0 - last * last);
        }
    }
    Some(found)
}

/// Whether all inverse roots are shorter than `radius`.
fn is_within(coefficients: &[f64], radius: f64) -> bool {
    let mut power = 1.0;
    let stretched: Vec<f64> = (coefficients.iter())
        .map(|coefficient| {
            power *= radius;
            coefficient / power
        })
        .collect();
    partials(&stretched).is_some()
}

fn free(coefficients: &[f64]) -> Option<Vec<f64>> {
    Some(partials(coefficients)?.iter().map(|partial| partial / (1.0 - partial * partial).sqrt()).collect())
}

fn negated(values: &[f64]) -> Vec<f64> {
    values.iter().map(|value| -value).collect()
}

impl Parameters {
    fn from_free(orders: Orders, free: &[f64]) -> Self {
        let (constant, free) = if orders.constant { (free[0], &free[1..]) } else { (0.0, free) };
        Self {
            constant,
            ar: constrained(&free[..orders.p]),
            ma: negated(&constrained(&free[orders.p..orders.p + orders.q])),
            variance: free[orders.p + orders.q].powi(2),
        }
    }

    fn to_free(&self, orders: Orders) -> Option<Vec<f64>> {
        let mut all = if orders.constant { vec![self.constant] } else { Vec::new() };
        all.extend(free(&self.ar)?);
        all.extend(free(&negated(&self.ma))?);
        all.push(self.variance.sqrt());
        Some(all)
    }

    /// Conditional least squares, with the residuals of a long autoregression for the shocks.
    fn begun(orders: Orders, values: &[f64]) -> Self {
        let Orders { p, d, q, constant } = orders;
        let mut series = values.to_vec();
        for _ in 0..d {
            series = differences(&series);
        }
        let (n, long) = (series.len(), 2 * q);
        let most = (long + q).max(p);
        let mean_square =
            |residuals: &[f64]| residuals.iter().map(|r| r * r).sum::<f64>() / residuals.len() as f64;
        if p + q == 0 && !constant {
            let variance =
                (series.iter().map(|value| value * value).sum::<f64>() / values.len() as f64).max(1e-10);
            return Self { constant: 0.0, ar: Vec::new(), ma: Vec::new(), variance };
        }
        let lag = |series: &[f64], at: usize, lag: usize| if at >= lag { series[at - lag] } else { 0.0 };
        let enough = n > p && (q == 0 || (n > long && n - long > q));
        let mean = series.iter().sum::<f64>() / n.max(1) as f64;
        let (parameters, residuals) = if enough {
            let shocks = if q > 0 {
                let rows: Vec<Vec<f64>> =
                    (long..n).map(|t| (1..=long).map(|i| series[t - i]).collect()).collect();
                let fitted = least_squares(&rows, &series[long..], long);
                rows.iter().zip(&series[long..]).map(|(row, value)| value - inner(row, &fitted)).collect()
            } else {
                Vec::new()
            };
            let rows: Vec<Vec<f64>> = (most..n)
                .map(|t| {
                    let own = (1..=p).map(|i| lag(&series, t, i));
                    let shock = (1..=q).map(|i| lag(&shocks, t - long, i));
                    constant.then_some(1.0).into_iter().chain(own).chain(shock).collect()
                })
                .collect();
            let targets = series.get(most..).unwrap_or_default();
            let fitted = least_squares(&rows, targets, usize::from(constant) + p + q);
            let residuals =
                rows.iter().zip(targets).map(|(row, value)| value - inner(row, &fitted)).collect();
            (fitted, residuals)
        } else {
            // Too few values: nothing but the variance is begun.
            let centred = series.iter().map(|value| value - mean);
            (
                vec![0.0; usize::from(constant) + p + q],
                std::iter::repeat_n(0.0, 2 * q).chain(centred).collect::<Vec<f64>>(),
            )
        };
        let variance = if residuals.len() > q.max(1) {
            mean_square(&residuals[q..])
        } else {
            mean_square(&series.iter().map(|value| value - mean).collect::<Vec<_>>())
        };
        let parameters = &parameters[..];
        let (constant, parameters) =
            if constant { (parameters[0], &parameters[1..]) } else { (0.0, parameters) };
        let sound = |coefficients: &[f64], negate: bool| {
            let same = if negate { negated(coefficients) } else { coefficients.to_vec() };
            if is_within(&same, 1.0 - 1e-10) { coefficients.to_vec() } else { vec![0.0; coefficients.len()] }
        };
        Self {
            constant,
            ar: sound(&parameters[..p], false),
            ma: sound(&parameters[p..], true),
            variance: variance.max(1e-10),
        }
    }
}

fn inner(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// The shortest least-squares solution, by rotating columns until they are at right angles.
fn least_squares(rows: &[Vec<f64>], targets: &[f64], columns: usize) -> Vec<f64> {
    let mut a: Vec<Vec<f64>> = (0..columns).map(|j| rows.iter().map(|row| row[j]).collect()).collect();
    let mut v: Vec<Vec<f64>> =
        (0..columns).map(|j| (0..columns).map(|i| f64::from(u8::from(i == j))).collect()).collect();
    for _ in 0..60 {
        let mut turned = false;
        for i in 0..columns {
            for j in i + 1..columns {
                let (alpha, beta, gamma) = (inner(&a[i], &a[i]), inner(&a[j], &a[j]), inner(&a[i], &a[j]));
                if gamma.abs() <= 1e-15 * (alpha * beta).sqrt() || gamma == 0.0 {
                    continue;
                }
                turned = true;
                let zeta = (beta - alpha) / (2.0 * gamma);
                let tangent = zeta.signum() / (zeta.abs() + (1.0 + zeta * zeta).sqrt());
                let cosine = 1.0 / (1.0 + tangent * tangent).sqrt();
                for matrix in [&mut a, &mut v] {
                    let (left, right) = matrix.split_at_mut(j);
                    for (x, y) in left[i].iter_mut().zip(&mut right[0]) {
                        (*x, *y) = (cosine * (*x - tangent * *y), cosine * (tangent * *x + *y));
                    }
                }
            }
        }
        if !turned {
            break;
        }
    }
    let norms: Vec<f64> = a.iter().map(|column| inner(column, column).sqrt()).collect();
    let cut = 1e-15 * norms.iter().copied().fold(0.0, f64::max);
    let mut solution = vec![0.0; columns];
    for ((column, axis), norm) in a.iter().zip(&v).zip(&norms).filter(|&(_, &norm)| norm > cut) {
        let along = inner(column, targets) / (norm * norm);
        solution.iter_mut().zip(axis).for_each(|(x, v)| *x += along * v);
    }
    solution
}

/// Solves a small system by elimination; `None` if it is singular.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Option<Vec<f64>> {
    let n = right.len();
    for i in 0..n {
        let pivot = (i..n).max_by(|&a, &b| matrix[a][i].abs().total_cmp(&matrix[b][i].abs()))?;
        if matrix[pivot][i] == 0.0 || matrix[pivot][i].is_nan() {
            return None;
        }
        matrix.swap(i, pivot);
        right.swap(i, pivot);
        for below in i + 1..n {
            let factor = matrix[below][i] / matrix[i][i];
            if factor != 0.0 {
                #[expect(
                    clippy::needless_range_loop,
                    reason = "rows and columns are named as in the formulas"
                )]
                for column in i..n {
                    matrix[below][column] -= factor * matrix[i][column];
                }
                right[below] -= factor * right[i];
            }
        }
    }
    for i in (0..n).rev() {
        let known: f64 = (i + 1..n).map(|j| matrix[i][j] * right[j]).sum();
        right[i] = (right[i] - known) / matrix[i][i];
    }
    Some(right)
}

/// A filter over the states of a model.
struct Filter {
    /// States that are differences.
    d: usize,
    size: usize,
    transition: Vec<Vec<f64>>,
    selection: Vec<f64>,
    constant: f64,
    variance: f64,
    mean: Vec<f64>,
    covariance: Vec<Vec<f64>>,
}

impl Filter {
    /// `None` where the stationary part has no stationary law.
    fn new(orders: Orders, parameters: &Parameters) -> Option<Self> {
        let Orders { p, d, q, .. } = orders;
        let order = p.max(q + 1);
        let size = d + order;
        let mut transition = vec![vec![0.0; size]; size];
        for i in 0..d {
            transition[i][i..=d].fill(1.0);
        }
        for i in 0..order {
            transition[d + i][d] = parameters.ar.get(i).copied().unwrap_or(0.0);
            if i + 1 < order {
                transition[d + i][d + i + 1] = 1.0;
            }
        }
        let mut selection = vec![0.0; size];
        selection[d] = 1.0;
        selection[d + 1..=d + q].copy_from_slice(&parameters.ma);
        let (mut mean, mut covariance) = (vec![0.0; size], vec![vec![0.0; size]; size]);
        #[expect(clippy::needless_range_loop, reason = "rows and columns are named as in the formulas")]
        for i in 0..d {
            covariance[i][i] = DIFFUSE_VARIANCE;
        }
        let block = |i: usize, j: usize| transition[d + i][d + j];
        let left = (0..order)
            .map(|i| (0..order).map(|j| f64::from(u8::from(i == j)) - block(i, j)).collect())
            .collect();
        let mut right = vec![0.0; order];
        right[0] = parameters.constant;
        mean[d..].copy_from_slice(&solve(left, right)?);
        // The covariance V of the stationary part: V = T V T' + R R' variance.
        let pair = |i: usize, j: usize| i * order + j;
        let mut system = vec![vec![0.0; order * order]; order * order];
        let mut shocks = vec![0.0; order * order];
        for i in 0..order {
            for j in 0..order {
                let row = &mut system[pair(i, j)];
                for k in 0..order {
                    for l in 0..order {
                        row[pair(k, l)] = -block(i, k) * block(j, l);
                    }
                }
                row[pair(i, j)] += 1.0;
                shocks[pair(i, j)] = selection[d + i] * selection[d + j] * parameters.variance;
            }
        }
        let stationary = solve(system, shocks)?;
        for i in 0..order {
            for j in 0..order {
                covariance[d + i][d + j] = stationary[pair(i, j)];
            }
        }
        let (constant, variance) = (parameters.constant, parameters.variance);
        Some(Self { d, size, transition, selection, constant, variance, mean, covariance })
    }

    /// What the next observation will be: differences and the first of the rest add up.
    fn forecast(&self) -> f64 {
        self.mean[..=self.d].iter().sum()
    }

    /// Takes an observation in; returns how far it was off, and that variance.
    fn observe(&mut self, value: f64) -> (f64, f64) {
        let seen = 0..=self.d;
        let off = value - self.forecast();
        let with_all: Vec<f64> = self.covariance.iter().map(|row| row[seen.clone()].iter().sum()).collect();
        let variance: f64 = with_all[seen].iter().sum();
        let mean: Vec<f64> =
            self.mean.iter().zip(&with_all).map(|(mean, with)| mean + with * off / variance).collect();
        for i in 0..self.size {
            for j in 0..self.size {
                self.covariance[i][j] -= with_all[i] * with_all[j] / variance;
            }
        }
        self.mean = self.transition.iter().map(|row| inner(row, &mean)).collect();
        self.mean[self.d] += self.constant;
        // Covariances are symmetric: rows stand for columns.
        let moved: Vec<Vec<f64>> = self
            .transition
            .iter()
            .map(|row| self.covariance.iter().map(|column| inner(row, column)).collect())
            .collect();
        #[expect(clippy::needless_range_loop, reason = "rows and columns are named as in the formulas")]
        for i in 0..self.size {
            for j in 0..self.size {
                let shock = self.selection[i] * self.selection[j] * self.variance;
                self.covariance[i][j] = inner(&moved[i], &self.transition[j]) + shock;
            }
        }
        (off, variance)
    }
}

/// The logarithm of the likelihood of all values but those that only fill the differences; `None` if there is
/// none.
fn log_likelihood(orders: Orders, parameters: &Parameters, values: &[f64]) -> Option<f64> {
    let mut filter = Filter::new(orders, parameters)?;
    let mut sum = 0.0;
    for (t, &value) in values.iter().enumerate() {
        let (off, variance) = filter.observe(value);
        if t >= orders.d {
            sum -= 0.5 * (libm::log(2.0 * std::f64::consts::PI) + libm::log(variance) + off * off / variance);
        }
    }
    sum.is_finite().then_some(sum)
}

impl Model {
    /// Fits a model from the beginning; `None` if that fails.
    pub fn fit(orders: Orders, values: &[f64]) -> Option<Self> {
        Self { orders, parameters: Parameters::begun(orders, values) }.refit(values, 50)
    }

    /// The same model after so many more iterations on these values.
    pub fn refit(&self, values: &[f64], most_iterations: u32) -> Option<Self> {
        let orders = self.orders;
        let objective = |free: &[f64]| {
            log_likelihood(orders, &Parameters::from_free(orders, free), values)
                .map_or(f64::INFINITY, |likelihood| -likelihood / values.len() as f64)
        };
        let start = self.parameters.to_free(orders)?;
        if !objective(&start).is_finite() {
            return None;
        }
        let found = minimize(start, most_iterations, objective);
        Some(Self { orders, parameters: Parameters::from_free(orders, &found) })
    }

    pub fn orders(&self) -> Orders {
        self.orders
    }

    /// Akaike's criterion; infinite if roots are too near to the unit circle. As its reference has it, those
    /// of the moving average stand in for those of the autoregression where there are both.
    pub fn criterion(&self, values: &[f64]) -> f64 {
        let Parameters { ar, ma, .. } = &self.parameters;
        let polynomial = if ma.is_empty() { ar.clone() } else { negated(ma) };
        let count = usize::from(self.orders.constant) + self.orders.p + self.orders.q + 1;
        match log_likelihood(self.orders, &self.parameters, values) {
            Some(likelihood) if is_within(&polynomial, 0.99) => 2.0 * count as f64 - 2.0 * likelihood,
            _ => f64::INFINITY,
        }
    }

    /// The value after these; `None` if there is none.
    pub fn forecast(&self, values: &[f64]) -> Option<f64> {
        let mut filter = Filter::new(self.orders, &self.parameters)?;
        values.iter().for_each(|&value| {
            filter.observe(value);
        });
        Some(filter.forecast()).filter(|forecast| forecast.is_finite())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_numbers_are_stationary_and_back() {
        let given = [0.7, -2.0, 0.3, 5.0];
        let coefficients = constrained(&given);
        let back = free(&coefficients).unwrap();
        assert!(given.iter().zip(&back).all(|(a, b)| (a - b).abs() < 1e-9), "{back:?}");
        assert_eq!(partials(&[1.01]), None);
        assert!((constrained(&[0.75])[0] + 0.6).abs() < 1e-15);
    }

    #[test]
    fn least_squares_are_the_shortest() {
        let rows = vec![vec![1.0, 1.0], vec![1.0, 1.0]];
        let solution = least_squares(&rows, &[2.0, 4.0], 2);
        assert!(solution.iter().all(|x| (x - 1.5).abs() < 1e-12), "{solution:?}");
        let rows: Vec<Vec<f64>> = (0..5).map(|t| vec![1.0, f64::from(t)]).collect();
        let solution = least_squares(&rows, &[3.0, 5.0, 7.0, 9.0, 11.0], 2);
        assert!((solution[0] - 3.0).abs() < 1e-12 && (solution[1] - 2.0).abs() < 1e-12, "{solution:?}");
    }

    /// A first-order autoregression begins with variance s / (1 - a^2) around its mean, and each step is off
    /// by s.
    #[test]
    fn likelihood_of_an_autoregression() {
        let orders = Orders { p: 1, d: 0, q: 0, constant: true };
        let parameters = Parameters { constant: 1.0, ar: vec![0.5], ma: Vec::new(), variance: 2.0 };
        let values = [3.0, 1.0, 2.5];
        let density = |off: f64, variance: f64| {
            -0.5 * (libm::log(2.0 * std::f64::consts::PI * variance) + off * off / variance)
        };
        let expected = density(3.0 - 2.0, 2.0 / 0.75)
            + density(1.0 - (1.0 + 0.5 * 3.0), 2.0)
            + density(2.5 - (1.0 + 0.5 * 1.0), 2.0);
        let found = log_likelihood(orders, &parameters, &values).unwrap();
        assert!((found - expected).abs() < 1e-12, "{found}, {expected}");
        let model = Model { orders, parameters };
        assert!((model.forecast(&values).unwrap() - 2.25).abs() < 1e-12);
    }

    /// A walk with a drift goes on by its drift.
    #[test]
    fn differences_carry_on() {
        let orders = Orders { p: 0, d: 1, q: 0, constant: true };
        let values: Vec<f64> = [0.0, 2.0, 3.0, 5.0, 6.0, 8.0].to_vec();
        let model = Model::fit(orders, &values).unwrap();
        assert!((model.forecast(&values).unwrap() - 9.6).abs() < 1e-3, "{model:?}");
    }
}
