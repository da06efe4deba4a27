//! Few parameters, many errors: steps towards the least sum of absolute errors that hardly bend.
//!
//! Each error is taken as linear in the parameters, with slopes from differences or from what earlier steps
//! did to it ([`correct`]); the weighted sum of their absolute values is then least where iteratively
//! reweighted least squares end.

/// Errors below this count as none when weights are taken for the next round.
const SMALL: f64 = 1e-3;
const REWEIGHTINGS: usize = 60;
/// Of all pairs of rows, to turn a small matrix straight.
const SWEEPS: usize = 30;
/// No step of a search goes further, in steps of each parameter that matter.
const LONGEST: f64 = 10.0;

/// An error with the weight it has in the sum.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub weight: f64,
    pub error: f64,
}

/// The sum of weighted absolute errors.
pub fn total(rows: &[Row]) -> f64 {
    rows.iter().map(|row| row.weight * row.error.abs()).sum()
}

/// `values`, none below 0, moved to where the errors, taken as linear, are least; `length` of the way.
/// `scales` are steps of each parameter that matter, `slopes` those of each error by parameter.
pub fn step(values: &[f64], scales: &[f64], slopes: &[Vec<f64>], errors: &[Row], length: f64) -> Vec<f64> {
    let parameters = slopes.len();
    // A parameter no row knows of stays where it is: the factor of a device without runs at 1.
    let known: Vec<bool> =
        (0..parameters).map(|p| slopes[p].iter().any(|slope| slope.abs() * scales[p] > 1e-7)).collect();
    let mut moved = vec![0.0; parameters];
    for _ in 0..REWEIGHTINGS {
        let mut normal = vec![vec![0.0; parameters]; parameters];
        let mut right = vec![0.0; parameters];
        for (i, row) in errors.iter().enumerate() {
            let error = row.error + (0..parameters).map(|p| slopes[p][i] * moved[p]).sum::<f64>();
            let weight = row.weight / error.abs().max(SMALL);
            for p in 0..parameters {
                let slope = slopes[p][i] * scales[p];
                right[p] -= weight * slope * row.error;
                (0..parameters).for_each(|q| normal[p][q] += weight * slope * slopes[q][i] * scales[q]);
            }
        }
        moved = within_bounds(values, scales, &known, &normal, &right);
    }
    values.iter().zip(&moved).map(|(value, moved)| (value + length * moved).max(0.0)).collect()
}

/// Solves for the moves, holding those at 0 that would go below.
fn within_bounds(
    values: &[f64],
    scales: &[f64],
    known: &[bool],
    normal: &[Vec<f64>],
    right: &[f64],
) -> Vec<f64> {
    let parameters = right.len();
    let mut held: Vec<Option<f64>> = known.iter().map(|known| (!known).then_some(0.0)).collect();
    loop {
        let (mut matrix, mut wanted) = (normal.to_vec(), right.to_vec());
        for p in 0..parameters {
            matrix[p][p] *= 1.0 + 1e-9;
            if let Some(held) = held[p] {
                matrix[p].fill(0.0);
                (matrix[p][p], wanted[p]) = (1.0, held / scales[p]);
            }
        }
        let moved: Vec<f64> =
            solve(matrix, wanted).into_iter().zip(scales).map(|(solved, scale)| solved * scale).collect();
        let below = |p: &usize| held[*p].is_none() && values[*p] + moved[*p] < 0.0;
        let Some(worst) = (0..parameters).filter(below).min_by(|&a, &b| {
            let depth = |p: usize| (values[p] + moved[p]) / scales[p];
            depth(a).total_cmp(&depth(b))
        }) else {
            return moved;
        };
        held[worst] = Some(-values[worst]);
    }
}

/// Directions in which parameters move errors together, the strongest first, each so long that the errors
/// would grow by as much as they are in all were they none: the axes of the normal matrix. Where parameters
/// make up for each other, that is far.
pub fn directions(scales: &[f64], slopes: &[Vec<f64>], errors: &[Row]) -> Vec<Vec<f64>> {
    let parameters = slopes.len();
    let mut normal = vec![vec![0.0; parameters]; parameters];
    for (i, row) in errors.iter().enumerate() {
        for p in 0..parameters {
            (0..parameters).for_each(|q| {
                normal[p][q] += row.weight * slopes[p][i] * scales[p] * slopes[q][i] * scales[q]
            });
        }
    }
    let all = total(errors);
    let mut found = Vec::new();
    for axis in axes(normal) {
        let effect = |(i, row): (usize, &Row)| {
            row.weight * (0..parameters).map(|p| slopes[p][i] * scales[p] * axis[p]).sum::<f64>().abs()
        };
        let effect: f64 = errors.iter().enumerate().map(effect).sum();
        if effect > 1e-9 {
            let length = (all / effect).min(LONGEST);
            found.push(axis.iter().zip(scales).map(|(part, scale)| length * part * scale).collect());
        }
    }
    found
}

/// Unit vectors that a symmetric matrix only stretches (Jacobi's rotations).
fn axes(mut matrix: Vec<Vec<f64>>) -> Vec<Vec<f64>> {
    let size = matrix.len();
    let mut axes: Vec<Vec<f64>> =
        (0..size).map(|i| (0..size).map(|j| if i == j { 1.0 } else { 0.0 }).collect()).collect();
    for _ in 0..SWEEPS {
        for p in 0..size {
            for q in p + 1..size {
                if matrix[p][q] == 0.0 {
                    continue;
                }
                let theta = (matrix[q][q] - matrix[p][p]) / (2.0 * matrix[p][q]);
                let tan = if theta == 0.0 {
                    1.0
                } else {
                    theta.signum() / (theta.abs() + (theta * theta + 1.0).sqrt())
                };
                let cos = 1.0 / (tan * tan + 1.0).sqrt();
                let sin = tan * cos;
                for row in &mut matrix {
                    (row[p], row[q]) = (cos * row[p] - sin * row[q], sin * row[p] + cos * row[q]);
                }
                for turned in [&mut matrix, &mut axes] {
                    let (low, high) = turned.split_at_mut(q);
                    for (a, b) in low[p].iter_mut().zip(&mut high[0]) {
                        (*a, *b) = (cos * *a - sin * *b, sin * *a + cos * *b);
                    }
                }
            }
        }
    }
    axes
}

/// Slopes that explain what a step did: each error's slope is changed, as little as can be, so that it tells
/// the change seen (Broyden's rule). Saves the differences of every round but the first.
pub fn correct(slopes: &mut [Vec<f64>], scales: &[f64], moved: &[f64], before: &[Row], after: &[Row]) {
    let squared: f64 = moved.iter().zip(scales).map(|(moved, scale)| (moved / scale).powi(2)).sum();
    if squared == 0.0 {
        return;
    }
    for (i, (before, after)) in before.iter().zip(after).enumerate() {
        let told: f64 = slopes.iter().zip(moved).map(|(slopes, moved)| slopes[i] * moved).sum();
        let untold = after.error - before.error - told;
        for ((slopes, moved), scale) in slopes.iter_mut().zip(moved).zip(scales) {
            slopes[i] += untold * moved / (scale * scale) / squared;
        }
    }
}

/// Solves a small linear system by elimination with pivots; a direction without a pivot stays at 0.
fn solve(mut matrix: Vec<Vec<f64>>, mut right: Vec<f64>) -> Vec<f64> {
    let size = right.len();
    for column in 0..size {
        let pivot = (column..size)
            .max_by(|&a, &b| matrix[a][column].abs().total_cmp(&matrix[b][column].abs()))
            .unwrap_or(column);
        matrix.swap(column, pivot);
        right.swap(column, pivot);
        if matrix[column][column].abs() < 1e-12 {
            continue;
        }
        for row in 0..size {
            if row != column {
                let factor = matrix[row][column] / matrix[column][column];
                (0..size).for_each(|k| matrix[row][k] -= factor * matrix[column][k]);
                right[row] -= factor * right[column];
            }
        }
    }
    (0..size).map(|i| if matrix[i][i].abs() < 1e-12 { 0.0 } else { right[i] / matrix[i][i] }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn solves_small_systems() {
        let solution = solve(vec![vec![0.0, 2.0], vec![1.0, 1.0]], vec![4.0, 5.0]);
        assert!((solution[0] - 3.0).abs() < 1e-12 && (solution[1] - 2.0).abs() < 1e-12);
    }

    /// Rows that are linear in the parameters are fitted in one step, an outlier aside.
    #[test]
    fn a_step_finds_linear_parameters_and_keeps_them_positive() {
        let values = [1.0, 0.0, 0.5, 3.0, 1.0, 1.0];
        let scales = [0.2, 4.0, 0.1, 1.0, 0.02, 0.02];
        let truth = [0.6, 0.0, 0.8, 4.0, 1.1, 1.0];
        let mut slopes: Vec<Vec<f64>> = (0..5)
            .map(|p| (0..40).map(|i| f64::from((i * (p + 3) + p * p) % 11) / 20.0 + 0.05).collect())
            .collect();
        let errors: Vec<Row> = (0..40)
            .map(|i| {
                let error: f64 = (0..5).map(|p| slopes[p][i] * (values[p] - truth[p])).sum();
                Row { weight: 1.0, error: error + if i == 7 { 0.9 } else { 0.0 } }
            })
            .collect();
        // No run is of the second device.
        slopes.push(vec![0.0; 40]);
        let next = step(&values, &scales, &slopes, &errors, 1.0);
        for (found, wanted) in next.iter().zip(truth) {
            assert!((found - wanted).abs() < 0.02, "{next:?}");
        }
        assert_eq!(next[5], 1.0);
    }

    /// Two parameters that do the same: the weak direction is to raise one and lower the other, and goes far.
    #[test]
    fn directions_go_far_where_errors_hardly_know_them() {
        let slopes = [vec![1.0, 2.0, 3.0], vec![1.0, 2.0, 3.001]];
        let errors = [0.1, 0.1, 0.1].map(|error| Row { weight: 1.0, error });
        let mut found = directions(&[1.0, 1.0], &slopes, &errors);
        found.sort_by(|a, b| a[0].abs().total_cmp(&b[0].abs()));
        let [strong, weak] = &found[..] else { panic!("{found:?}") };
        assert!((strong[0] - strong[1]).abs() < 1e-3 * strong[0].abs(), "{found:?}");
        assert!((weak[0] + weak[1]).abs() < 1e-2 && weak[0].abs() > 5.0, "{found:?}");
        assert!(directions(&[1.0], &[vec![0.0, 0.0, 0.0]], &errors).is_empty());
    }

    /// Wrong slopes are right along the way that was gone.
    #[test]
    fn corrected_slopes_tell_what_was_seen() {
        let mut slopes = vec![vec![1.0, 0.5], vec![2.0, -1.0]];
        let row = |error| Row { weight: 1.0, error };
        let (moved, scales) = ([0.2, 4.0], [0.2, 4.0]);
        correct(&mut slopes, &scales, &moved, &[row(1.0), row(0.0)], &[row(1.7), row(-2.0)]);
        for (i, seen) in [0.7, -2.0].into_iter().enumerate() {
            let told: f64 = (0..2).map(|p| slopes[p][i] * moved[p]).sum();
            assert!((told - seen).abs() < 1e-12);
        }
    }
}
