//! Numbers that the settings of benchmarks ask for.

use rand::RngExt;
use rand_distr::StandardNormal;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::super::MAX_TOKENS;

/// What NumPy can count to, and so the most that its `zipf` draws.
const MOST: f64 = (1_u64 << 63) as f64;
/// Means above which a Poisson number is drawn by rejection.
const FEW: f64 = 10.0;

/// A number that is drawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Draw {
    Constant(f64),
    Uniform {
        min: f64,
        max: f64,
    },
    /// Of a logarithm with this mean and standard deviation.
    LogNormal {
        mean: f64,
        sigma: f64,
        max: f64,
    },
    Normal {
        mean: f64,
        stdev: f64,
        min: f64,
        max: f64,
    },
    /// From 1, each `k` as likely as `k` to the power of `-alpha`.
    Zipf {
        alpha: f64,
        max: f64,
    },
    Poisson {
        mean: f64,
        max: f64,
    },
}

impl Draw {
    pub fn draw(self, random: &mut Xoshiro256PlusPlus) -> f64 {
        match self {
            Self::Constant(value) => value,
            Self::Uniform { min, max } => random.random_range(min as u64..=max as u64) as f64,
            Self::LogNormal { mean, sigma, max } => {
                libm::exp(mean + sigma * random.sample::<f64, _>(StandardNormal)).min(max)
            }
            Self::Normal { mean, stdev, min, max } => {
                (mean + stdev * random.sample::<f64, _>(StandardNormal)).clamp(min, max)
            }
            Self::Zipf { alpha, max } => zipf(alpha, random).min(max),
            Self::Poisson { mean, max } => poisson(mean, random).min(max),
        }
    }

    pub fn tokens(self, random: &mut Xoshiro256PlusPlus) -> u32 {
        self.draw(random).round().clamp(1.0, f64::from(MAX_TOKENS)) as u32
    }
}

/// Devroye's rejection (Non-Uniform Random Variate Generation, 1986, X.6), among the numbers up to [`MOST`].
/// In logarithms, so that exponents next to 1 neither lose their digits nor reject all there is.
fn zipf(alpha: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    let more = alpha - 1.0;
    let most_share = -libm::expm1(-more * libm::log(MOST));
    loop {
        let (place, accept): (f64, f64) = (random.random(), random.random());
        let number = libm::exp(-libm::log1p(-place * most_share) / more).floor();
        if !(1.0..=MOST).contains(&number) {
            continue;
        }
        let step = more * libm::log1p(1.0 / number);
        // The same as accept * number * (t - 1) / (b - 1) <= t / b, t being (1 + 1 / number)^more and b
        // 2^more.
        let (t, b) = (-libm::expm1(-step), -libm::expm1(-more * std::f64::consts::LN_2));
        if accept * number * t <= b {
            return number;
        }
    }
}

/// Few by multiplying (Knuth), many by transformed rejection (Hörmann 1993, PTRS).
fn poisson(mean: f64, random: &mut Xoshiro256PlusPlus) -> f64 {
    if mean < FEW {
        let (until, mut product, mut number) = (libm::exp(-mean), random.random::<f64>(), 0.0);
        while product > until {
            product *= random.random::<f64>();
            number += 1.0;
        }
        return number;
    }
    let b = 0.931 + 2.53 * libm::sqrt(mean);
    let a = -0.059 + 0.024_83 * b;
    let (inverse_alpha, at_once) = (1.1239 + 1.1328 / (b - 3.4), 0.9277 - 3.6224 / (b - 2.0));
    loop {
        let (u, v): (f64, f64) = (random.random::<f64>() - 0.5, random.random());
        let us = 0.5 - u.abs();
        let number = ((2.0 * a / us + b) * u + mean + 0.43).floor();
        if us >= 0.07 && v <= at_once {
            return number;
        }
        if number < 0.0 || (us < 0.013 && v > us) {
            continue;
        }
        let is_under = libm::log(v * inverse_alpha / (a / (us * us) + b))
            <= number * libm::log(mean) - mean - libm::lgamma(number + 1.0);
        if is_under {
            return number;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;

    const DRAWS: usize = 100_000;

    fn drawn(draw: Draw) -> Vec<f64> {
        let mut random = random::stream(1, "draws");
        (0..DRAWS).map(|_| draw.draw(&mut random)).collect()
    }

    fn share(numbers: &[f64], is: impl Fn(f64) -> bool) -> f64 {
        numbers.iter().filter(|&&number| is(number)).count() as f64 / DRAWS as f64
    }

    #[test]
    fn zipf_has_its_shares() {
        // 1 / zeta(2.5) and 2^-2.5 / zeta(2.5); zeta(1.2) is 5.59158.
        let numbers = drawn(Draw::Zipf { alpha: 2.5, max: f64::INFINITY });
        for (number, expected) in [(1.0, 0.745_44), (2.0, 0.131_78), (3.0, 0.047_82)] {
            let found = share(&numbers, |drawn| drawn == number);
            assert!((found - expected).abs() < 0.005, "{number}: {found}, expected {expected}");
        }
        let numbers = drawn(Draw::Zipf { alpha: 1.2, max: 100.0 });
        let (one, most) = (share(&numbers, |drawn| drawn == 1.0), share(&numbers, |drawn| drawn == 100.0));
        assert!((one - 1.0 / 5.591_58).abs() < 0.005 && (most - 0.356_4).abs() < 0.006, "{one} {most}");
        // At the ends of what can be said: next to 1 all magnitudes are as likely, far above everything is 1.
        let numbers = drawn(Draw::Zipf { alpha: 1.0 + f64::EPSILON, max: f64::INFINITY });
        let small = share(&numbers, |drawn| drawn < 2_f64.powi(31));
        assert!((small - 31.0 / 63.0).abs() < 0.02, "{small}");
        assert!(drawn(Draw::Zipf { alpha: 5000.0, max: 9.0 }).iter().all(|&number| number == 1.0));
    }

    #[test]
    fn poisson_has_its_mean_and_variance() {
        for mean in [0.0, 0.5, 3.0, 9.9, 10.0, 40.0, 1000.0, 1e9] {
            let numbers = drawn(Draw::Poisson { mean, max: f64::INFINITY });
            let found = numbers.iter().sum::<f64>() / DRAWS as f64;
            let variance = numbers.iter().map(|number| (number - found).powi(2)).sum::<f64>() / DRAWS as f64;
            let error = libm::sqrt(mean / DRAWS as f64);
            assert!((found - mean).abs() <= 4.0 * error, "{mean}: mean {found}");
            assert!((variance - mean).abs() <= 0.03 * mean, "{mean}: variance {variance}");
        }
        let numbers = drawn(Draw::Poisson { mean: 10.0, max: 12.0 });
        // P(X = 10) and P(X >= 12) of a mean of 10.
        let (ten, most) = (share(&numbers, |drawn| drawn == 10.0), share(&numbers, |drawn| drawn == 12.0));
        assert!((ten - 0.125_11).abs() < 0.004 && (most - 0.303_22).abs() < 0.006, "{ten} {most}");
    }
}
