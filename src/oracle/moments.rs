//! Moments of a workload that are alike, by what arrives before and after them.
//!
//! What is right at the beginning of one burst is right at the beginnings of others: a search that changes a
//! schedule at all of them at once finds in hundreds of runs what it would not in many thousands, burst by
//! burst.

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

/// Most moments told apart.
const MOST_MOMENTS: f64 = 2048.0;
/// Ends of the spans around a moment over which arrivals are counted, in multiples of a scale: the nearer the
/// finer.
const ENDS: [f64; 9] = [-8.0, -4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0, 8.0];

#[derive(Debug, Clone)]
pub struct Moments {
    spacing_s: f64,
    /// Arrivals before each moment.
    arrived: Vec<f64>,
}

impl Moments {
    /// Moments lie at multiples of `step_s`, and so far apart that they are not too many. Arrivals are in
    /// order.
    pub fn new(arrived_at_s: &[f64], duration_s: f64, step_s: f64) -> Self {
        let spacing_s = step_s * (duration_s / step_s / MOST_MOMENTS).ceil().max(1.0);
        let count = (duration_s / spacing_s).ceil() as usize + 1;
        let arrived = (0..count)
            .map(|i| arrived_at_s.partition_point(|&at_s| at_s < i as f64 * spacing_s) as f64)
            .collect();
        Self { spacing_s, arrived }
    }

    /// Spells, from one time to another, of a random moment and of those most like it, on a random scale:
    /// that one alone, all, or any number between.
    pub fn alike(&self, random: &mut Xoshiro256PlusPlus) -> Vec<(f64, f64)> {
        let count = self.arrived.len() as f64;
        // From the next moments to half the workload.
        let scale = libm::pow((count / 16.0).max(1.0), random.random_range(0.0..1.0));
        let most = libm::pow(count, random.random_range(0.0..1.0)) as usize;
        let mut chosen = self.most_like(random.random_range(0..self.arrived.len()), scale, most.max(1));
        chosen.sort_unstable();
        let at_s = |moment: usize| moment as f64 * self.spacing_s;
        chosen
            .chunk_by(|a, b| a + 1 == *b)
            .map(|spell| (at_s(spell[0]), at_s(spell[spell.len() - 1] + 1)))
            .collect()
    }

    /// The `most` moments that are most like one of them, itself among them; of equals the nearest. In no
    /// order.
    fn most_like(&self, moment: usize, scale: f64, most: usize) -> Vec<usize> {
        let here = self.traffic(moment, scale);
        let unlike = |other: usize| {
            self.traffic(other, scale).iter().zip(&here).map(|(a, b)| (a - b).powi(2)).sum::<f64>()
        };
        let mut others: Vec<_> =
            (0..self.arrived.len()).map(|other| (unlike(other), other.abs_diff(moment), other)).collect();
        if most < others.len() {
            others.select_nth_unstable_by(most, |a, b| {
                a.0.total_cmp(&b.0).then_with(|| (a.1, a.2).cmp(&(b.1, b.2)))
            });
        }
        others.iter().take(most).map(|&(_, _, other)| other).collect()
    }

    /// The times of all moments with the rate from half of `width_s` before to as long after them, over the
    /// mean rate of the workload.
    pub fn relative_rates(&self, width_s: f64) -> impl Iterator<Item = (f64, f64)> {
        let (last, half) =
            (self.arrived.len() - 1, (width_s / 2.0 / self.spacing_s).round().max(1.0) as usize);
        let mean = self.arrived[last].max(1.0) / last.max(1) as f64;
        (0..=last).map(move |moment| {
            let (from, to) = (moment.saturating_sub(half), (moment + half).min(last));
            let rate = (self.arrived[to] - self.arrived[from]) / (to - from).max(1) as f64;
            (moment as f64 * self.spacing_s, rate / mean)
        })
    }

    /// Roots of the rates over spans around a moment: so chance deviations are alike for all rates.
    fn traffic(&self, moment: usize, scale: f64) -> [f64; ENDS.len() - 1] {
        let last = (self.arrived.len() - 1) as f64;
        let arrived =
            ENDS.map(|end| self.arrived[(moment as f64 + end * scale).round().clamp(0.0, last) as usize]);
        std::array::from_fn(|i| ((arrived[i + 1] - arrived[i]) / (ENDS[i + 1] - ENDS[i])).sqrt())
    }
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    /// 2/s, and in the last 10 s of each of ten minutes 20/s.
    fn bursts() -> Moments {
        let arrived_at_s: Vec<f64> = (0..10)
            .flat_map(|minute| {
                let quiet = (0..100).map(|i| f64::from(i) / 2.0);
                let burst = (0..200).map(|i| 50.0 + f64::from(i) / 20.0);
                quiet.chain(burst).map(move |second| f64::from(minute) * 60.0 + second)
            })
            .collect();
        Moments::new(&arrived_at_s, 600.0, 1.0)
    }

    /// The beginning of one burst is like the beginnings of others, far from an end of the workload.
    #[test]
    fn bursts_begin_alike() {
        let mut alike = bursts().most_like(230, 2.0, 10);
        alike.sort_unstable();
        assert_eq!(alike, [50, 110, 170, 230, 290, 350, 410, 470, 530, 590]);
    }

    #[test]
    fn rates_relative_to_the_mean() {
        let rates: Vec<(f64, f64)> = bursts().relative_rates(4.0).collect();
        // 300 in a minute; the end of the workload is cut off.
        for (moment, per_s) in
            [(0, 2.0), (20, 2.0), (48, 2.0), (49, 6.5), (50, 11.0), (52, 20.0), (55, 20.0), (120, 11.0)]
        {
            assert_eq!(rates[moment].0, moment as f64);
            assert!((rates[moment].1 - per_s / 5.0).abs() < 0.03, "{moment}: {:?}", rates[moment]);
        }
        assert_eq!(Moments::new(&[0.0], 0.0, 1.0).relative_rates(10.0).count(), 1);
    }

    /// The twin sorts all.
    #[test]
    fn the_most_alike_by_definition() {
        let (moments, mut random) = (bursts(), Xoshiro256PlusPlus::seed_from_u64(3));
        for _ in 0..50 {
            let (moment, most) = (
                random.random_range(0..moments.arrived.len()),
                random.random_range(1..=moments.arrived.len()),
            );
            let scale = random.random_range(1.0..40.0);
            let rates = |at: usize| {
                let at = at as f64;
                let arrived = |end: f64| {
                    moments.arrived
                        [((at + end * scale).round().max(0.0) as usize).min(moments.arrived.len() - 1)]
                };
                let spans = [
                    (-8.0, -4.0),
                    (-4.0, -2.0),
                    (-2.0, -1.0),
                    (-1.0, 0.0),
                    (0.0, 1.0),
                    (1.0, 2.0),
                    (2.0, 4.0),
                    (4.0, 8.0),
                ];
                spans.map(|(from, to)| ((arrived(to) - arrived(from)) / (to - from)).sqrt())
            };
            let here = rates(moment);
            let mut all: Vec<(f64, usize, usize)> = (0..moments.arrived.len())
                .map(|other| {
                    (
                        rates(other).iter().zip(here).map(|(a, b)| (a - b) * (a - b)).sum(),
                        other.abs_diff(moment),
                        other,
                    )
                })
                .collect();
            all.sort_by(|a, b| a.partial_cmp(b).unwrap());
            let mut expected: Vec<usize> = all[..most].iter().map(|&(_, _, other)| other).collect();
            let mut found = moments.most_like(moment, scale, most);
            assert!(found.contains(&moment));
            found.sort_unstable();
            expected.sort_unstable();
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn spells_are_in_order_and_of_all_sizes() {
        let (moments, mut random) = (bursts(), Xoshiro256PlusPlus::seed_from_u64(7));
        let mut lengths: Vec<f64> = (0..200)
            .map(|_| {
                let spells = moments.alike(&mut random);
                assert!(spells.is_sorted_by(|a, b| a.1 < b.0), "spells that touch are one: {spells:?}");
                assert!(spells.iter().all(|spell| spell.0 < spell.1 && spell.1 <= 601.0), "{spells:?}");
                spells.iter().map(|spell| spell.1 - spell.0).sum()
            })
            .collect();
        lengths.sort_by(f64::total_cmp);
        assert!(lengths[0] == 1.0 && lengths[199] > 400.0, "{lengths:?}");
        let half = lengths[100];
        assert!((10.0..60.0).contains(&half), "the logarithm is uniform: {half}");
    }

    /// One arrival, one moment; and a workload longer than all moments at the step.
    #[test]
    fn any_length_of_workload() {
        let mut random = Xoshiro256PlusPlus::seed_from_u64(1);
        assert_eq!(Moments::new(&[0.0], 0.0, 0.5).alike(&mut random), [(0.0, 0.5)]);
        let long = Moments::new(&[0.0, 1e6], 1e6, 0.5);
        assert!(long.arrived.len() <= 2049 && long.spacing_s % 0.5 == 0.0);
        (0..100).for_each(|_| assert!(!long.alike(&mut random).is_empty()));
    }
}
