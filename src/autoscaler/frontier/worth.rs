//! For which part of the time a replica is there that is worth so many times its price.

/// A replica worth this much more or less than its price is there all or none of the time.
const WORTH_RATIO: f64 = 1.5;

/// The part of the time of a replica that is worth so much, and off by so much at most, if that is all or
/// none of it by far.
pub fn all_or_none(worth: f64, off: f64) -> Option<f64> {
    /// Logarithms are off by less.
    const BY_FAR: f64 = 1.0 + 1e-6;
    if worth + off < 1.0 / (BY_FAR * WORTH_RATIO) {
        Some(0.0)
    } else if worth - off > BY_FAR * WORTH_RATIO {
        Some(1.0)
    } else {
        None
    }
}

/// For which part of the time a replica is there that is worth so many times its price, if a part of a period
/// is `paid` as such a share of it: more than the part, where starts are paid, or a least time.
pub fn share_of_time(worth: f64, paid: impl Fn(f64) -> f64) -> f64 {
    let share = |worth: f64| {
        (0.5 + libm::log(worth.max(f64::MIN_POSITIVE)) / (2.0 * libm::log(WORTH_RATIO))).clamp(0.0, 1.0)
    };
    let plain = share(worth);
    if plain == 0.0 || plain == 1.0 || paid(plain) <= plain {
        return plain;
    }
    // Coming and going is dearer than it looks: where it is as dear as to stay, all of the time or none.
    let dearer = share(worth * plain / paid(plain));
    if dearer > 0.0 && paid(dearer) < 1.0 { dearer } else { f64::from(u8::from(worth >= 1.0)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The twin asks for the part of the time.
    #[test]
    fn what_is_worth_it_by_far_is_there_all_of_the_time() {
        let free = |worth| share_of_time(worth, |share| share);
        for worth in (-500..3000).map(|part| f64::from(part) / 1000.0).chain([f64::NAN, f64::INFINITY]) {
            let found = all_or_none(worth, 0.0);
            assert!(found.is_none() || found == Some(free(worth)), "{worth}: {found:?}");
            for off in [1e-9, 1e-3, 0.1, f64::INFINITY] {
                let found = all_or_none(worth, off);
                let both = [free(worth - off), free(worth + off)];
                assert!(found.is_none() || both.map(Some) == [found; 2], "{worth}, {off}: {found:?}");
            }
        }
        assert_eq!([0.6, 1.0, 1.6].map(|worth| all_or_none(worth, 0.0)), [Some(0.0), None, Some(1.0)]);
    }

    /// A part of the time is dearer than it looks where starts are paid: for less of it then, or for all or
    /// none.
    #[test]
    fn coming_and_going_is_not_as_cheap_as_it_looks() {
        let free = |worth| share_of_time(worth, |share| share);
        assert_eq!([free(0.6), free(1.0), free(1.6)], [0.0, 0.5, 1.0]);
        let paid = |worth, start: f64| share_of_time(worth, |share: f64| share + start);
        assert!(paid(1.3, 0.1) < free(1.3) && paid(1.3, 0.1) > 0.0);
        for worth in (60..160).map(|percent| f64::from(percent) / 100.0) {
            let share = paid(worth, 0.3);
            assert!(
                share == 0.0 || share == 1.0 || share + 0.3 < 1.0,
                "{worth}: {share} of the time for as much as all of it"
            );
            assert_eq!(paid(worth, 1.0), f64::from(u8::from(worth >= 1.0)), "{worth}");
        }
    }
}
