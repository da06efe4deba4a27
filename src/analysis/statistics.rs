//! Means and intervals over seeds.

use statrs::distribution::{ContinuousCDF, StudentsT};

/// A mean and its 95 % confidence interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Estimate {
    pub mean: f64,
    /// Lower and upper end. None for a single value, of which no spread is known.
    pub interval: Option<(f64, f64)>,
    /// How many values were averaged.
    pub count: usize,
}

/// Mean of `values` and Student's t interval `mean ± t(0.975, n - 1) · s / √n`, s the sample standard
/// deviation.
///
/// The interval assumes roughly normal values; with few seeds it is wide, as it should be. None without
/// values.
pub fn estimate(values: &[f64]) -> Option<Estimate> {
    let count = values.len();
    if count == 0 {
        return None;
    }
    let mean = values.iter().sum::<f64>() / count as f64;
    let interval = (count > 1).then(|| {
        let variance = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / (count - 1) as f64;
        let half_width = t_quantile_975(count - 1) * (variance / count as f64).sqrt();
        (mean - half_width, mean + half_width)
    });
    Some(Estimate { mean, interval, count })
}

fn t_quantile_975(degrees_of_freedom: usize) -> f64 {
    StudentsT::new(0.0, 1.0, degrees_of_freedom as f64)
        .expect("at least one degree of freedom")
        .inverse_cdf(0.975)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_of_the_printed_table() {
        for (degrees_of_freedom, t) in [(1, 12.706), (2, 4.303), (4, 2.776), (9, 2.262), (29, 2.045)] {
            assert!((t_quantile_975(degrees_of_freedom) - t).abs() < 5e-4, "{degrees_of_freedom}");
        }
    }

    #[test]
    fn a_worked_example() {
        // Mean 2, sample deviation 1, so 2 ± 4.303 / √3.
        let Estimate { mean, interval, count } = estimate(&[1.0, 2.0, 3.0]).unwrap();
        let (low, high) = interval.unwrap();
        assert_eq!((mean, count), (2.0, 3));
        assert!((low - (2.0 - 2.4841)).abs() < 1e-3 && (high - (2.0 + 2.4841)).abs() < 1e-3, "{low} {high}");
    }

    #[test]
    fn one_value_has_no_interval_and_none_no_mean() {
        assert_eq!(estimate(&[7.0]), Some(Estimate { mean: 7.0, interval: None, count: 1 }));
        assert_eq!(estimate(&[]), None);
    }
}
