//! Measured points joined by lines.

/// Several measured curves over one axis: linear between points, constant beyond them.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Curves {
    pub x: Vec<f64>,
    pub y: Vec<Vec<f64>>,
}

impl Curves {
    pub fn at(&self, curve: usize, x: f64) -> f64 {
        let (xs, ys) = (&self.x, &self.y[curve]);
        match xs.partition_point(|&known| known < x) {
            0 => ys[0],
            i if i == xs.len() => ys[i - 1],
            i if xs[i] == x => ys[i],
            i => ys[i - 1] + (x - xs[i - 1]) / (xs[i] - xs[i - 1]) * (ys[i] - ys[i - 1]),
        }
    }

    pub fn last_x(&self) -> f64 {
        *self.x.last().expect("curves have points")
    }
}

/// Measured points of a function of two variables: a curve over `y` for each of several `x`, which need not
/// reach equally far.
///
/// Where there are no points, the nearest measured one is scaled as a reference function says.
pub(super) struct Scatter<F> {
    rows: Vec<(f64, Curves)>,
    reference: F,
}

impl<F: Fn(f64, f64) -> f64> Scatter<F> {
    /// Rows ascend, and each has at least one point.
    pub fn new(rows: Vec<(f64, Curves)>, reference: F) -> Self {
        assert!(!rows.is_empty() && rows.iter().all(|(_, curve)| !curve.x.is_empty()));
        Self { rows, reference }
    }

    fn along(&self, row: usize, y: f64) -> f64 {
        let (x, curve) = &self.rows[row];
        let edge = y.clamp(curve.x[0], curve.last_x());
        let value = curve.at(0, edge);
        if edge == y { value } else { value * (self.reference)(*x, y) / (self.reference)(*x, edge) }
    }

    /// Between the nearest rows that reach as far as `y`, or from the nearest one.
    pub fn at(&self, x: f64, y: f64) -> f64 {
        let farthest = self.rows.iter().map(|(_, curve)| curve.last_x()).fold(f64::NEG_INFINITY, f64::max);
        if y > farthest {
            return self.at(x, farthest) * (self.reference)(x, y) / (self.reference)(x, farthest);
        }
        let mut reaching = (0..self.rows.len()).filter(|&row| y <= self.rows[row].1.last_x());
        let below = reaching.clone().take_while(|&row| self.rows[row].0 <= x).last();
        let above = reaching.find(|&row| self.rows[row].0 > x);
        let scaled =
            |row: usize| self.along(row, y) * (self.reference)(x, y) / (self.reference)(self.rows[row].0, y);
        match (below, above) {
            (Some(row), _) if self.rows[row].0 == x => self.along(row, y),
            (Some(low), Some(high)) => {
                let (from, to) = (self.along(low, y), self.along(high, y));
                from + (x - self.rows[low].0) / (self.rows[high].0 - self.rows[low].0) * (to - from)
            }
            (Some(row), None) | (None, Some(row)) => scaled(row),
            (None, None) => unreachable!("the farthest row reaches"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Points of a function are found, lines between them kept, and beyond them the reference's shape.
    #[test]
    fn scatter_interpolates_and_scales() {
        let function = |x: f64, y: f64| 2.0 + x + 3.0 * y;
        let row = |x: f64, reach: usize| {
            let y: Vec<f64> = (0..reach).map(|y| y as f64).collect();
            (x, Curves { y: vec![y.iter().map(|&y| 5.0 * function(x, y)).collect()], x: y })
        };
        let scatter = Scatter::new(vec![row(1.0, 9), row(3.0, 5)], function);
        for (x, y) in [(1.0, 2.0), (3.0, 4.0), (1.5, 2.5), (2.0, 7.0), (1.0, 20.0), (9.0, 3.0), (0.0, 30.0)] {
            assert!((scatter.at(x, y) / (5.0 * function(x, y)) - 1.0).abs() < 1e-12, "{x} {y}");
        }
    }
}
