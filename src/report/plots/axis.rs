//! Axes: ranges, ticks people can read, logarithms where the range needs them.

use crate::report::names::significant;

/// A range of data with a label that carries its unit.
#[derive(Debug, Clone, PartialEq)]
pub struct Axis {
    pub label: String,
    pub low: f64,
    pub high: f64,
    pub log: bool,
}

impl Axis {
    /// A linear axis; an empty range is widened.
    pub fn linear(label: impl Into<String>, low: f64, high: f64) -> Self {
        let high = if high > low { high } else { low + low.abs().max(1.0) };
        Self { label: label.into(), low, high, log: false }
    }

    /// A logarithmic axis when the range spans more than a factor of `most`, a linear one otherwise.
    pub fn log_beyond(most: f64, label: impl Into<String>, low: f64, high: f64) -> Self {
        if low > 0.0 && high > low * most {
            Self { label: label.into(), low, high, log: true }
        } else {
            Self::linear(label, low, high)
        }
    }

    /// 0 at the low end, 1 at the high end; outside that range for data outside the axis.
    pub fn fraction(&self, value: f64) -> f64 {
        if self.log {
            libm::log(value / self.low) / libm::log(self.high / self.low)
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    pub fn contains(&self, value: f64) -> bool {
        (self.low..=self.high).contains(&value)
    }

    /// Places and texts of the ticks, ascending.
    pub fn ticks(&self) -> Vec<(f64, String)> {
        let values = if self.log { self.log_ticks() } else { linear_ticks(self.low, self.high) };
        values.into_iter().map(|value| (value, significant(value, 6))).collect()
    }

    fn log_ticks(&self) -> Vec<f64> {
        let (first, last) = (libm::log10(self.low).floor() as i32, libm::log10(self.high).ceil() as i32);
        let decades = libm::log10(self.high / self.low);
        let factors: &[f64] = if decades > 3.0 { &[1.0] } else { &[1.0, 2.0, 5.0] };
        let every = ((decades / 8.0).ceil() as usize).max(1);
        let powers =
            (first..=last).filter(|power| power.rem_euclid(every as i32) == 0).map(|power| 10f64.powi(power));
        powers
            .flat_map(|power| factors.iter().map(move |factor| power * factor))
            .filter(|&value| self.contains(value))
            .collect()
    }
}

/// Multiples of 1, 2, 2.5 or 5 times a power of ten, about six.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let rough = (high - low) / 6.0;
    let power = libm::pow(10f64, libm::log10(rough).floor());
    let step = [1.0, 2.0, 2.5, 5.0, 10.0]
        .into_iter()
        .map(|factor| factor * power)
        .find(|&step| step >= rough * 0.8)
        .unwrap_or(10.0 * power);
    let (first, last) = ((low / step - 1e-9).ceil() as i64, (high / step + 1e-9).floor() as i64);
    // A quotient of whole numbers is the nearest float to the decimal: 3 / 10, not 3 * 0.1.
    let inverse = (1.0 / step).round();
    (first..=last).map(|k| if step < 1.0 { k as f64 / inverse } else { k as f64 * step }).collect()
}

/// Seconds as people read them: divisor and unit for a duration.
pub fn time_unit(duration_s: f64) -> (f64, &'static str) {
    match duration_s {
        d if d <= 300.0 => (1.0, "s"),
        d if d <= 3.0 * 3600.0 => (60.0, "min"),
        _ => (3600.0, "h"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn ticks_are_round() {
        let texts = |axis: Axis| axis.ticks().into_iter().map(|tick| tick.1).collect::<Vec<_>>().join(" ");
        assert_eq!(texts(Axis::linear("", 0.0, 0.5)), "0 0.1 0.2 0.3 0.4 0.5");
        assert_eq!(texts(Axis::linear("", 33.0, 54.0)), "35 40 45 50");
        assert_eq!(texts(Axis::log_beyond(20.0, "", 0.08, 30.0)), "0.1 0.2 0.5 1 2 5 10 20");
        assert_eq!(texts(Axis::log_beyond(20.0, "", 0.08, 3000.0)), "0.1 1 10 100 1000");
    }

    proptest! {
        #[test]
        fn every_axis_has_some_ticks_and_few(low in -1e3..1e3, width in 1e-3..1e6) {
            let ticks = Axis::linear("", low, low + width).ticks();
            prop_assert!((2..=8).contains(&ticks.len()), "{ticks:?}");
        }

        #[test]
        fn log_axes_too(low in 1e-4..1e3, factor in 21.0..1e9) {
            let ticks = Axis::log_beyond(20.0, "", low, low * factor).ticks();
            prop_assert!((2..=12).contains(&ticks.len()), "{ticks:?}");
        }
    }
}
