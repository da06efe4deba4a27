//! What no policy that knows the law of bursts at random, but not when they come, can beat in expectation.
//!
//! Gaps are memoryless, so a burst meets the replicas that are there on average between bursts (onsets see
//! time averages), and none helps before a cold start has passed. So a policy comes to shares of the quiet
//! time with n replicas and of the rest of the burst time with m: the least cost for which, on average, no
//! more requests are late than the percentile forgives, is a linear programme over these shares.
//!
//! Requests are late on average: in quiet time and in the rest of bursts as in the steady state of so many
//! replicas (simulated); while a burst waits for help, those that first in, first out would have to wait for
//! longer than the limit. Nothing is paid for drains, for the backlog of a burst, or for mistaking noise for
//! a burst: all that would make a policy dearer. How many bursts the draw has is told.
//!
//! It holds in expectation, and up to what the simulated shares are off: a policy may have luck in a single
//! draw, and one that reacts to queues as they are may do a little better in quiet time than as many replicas
//! do on average.

use super::super::fluid::FluidBound;
use crate::workload::Workload;
use crate::workload::arrivals::{Bursts, Phase};

/// Seconds a draw spends quiet, in bursts before help can come, and in their rest; and how many bursts begin.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Spells {
    pub quiet_s: f64,
    pub helpless_s: f64,
    pub rest_s: f64,
    /// Sum over bursts of the time each goes on without help: each for itself.
    pub bursts: f64,
}

impl Spells {
    pub fn of(bursts: &Bursts, phases: &[Phase], cold_start_s: f64) -> Self {
        let mut spells = Self { quiet_s: 0.0, helpless_s: 0.0, rest_s: 0.0, bursts: 0.0 };
        // Gaps and bursts take turns, a gap first.
        for (place, phase) in phases.iter().enumerate() {
            if place % 2 == 0 {
                spells.quiet_s += phase.duration_s;
            } else {
                let helpless_s = phase.duration_s.min(cold_start_s);
                spells.helpless_s += helpless_s;
                spells.rest_s += phase.duration_s - helpless_s;
                if helpless_s > 0.0 {
                    spells.bursts += helpless_s / cold_start_s.min(bursts.burst_duration_s);
                }
            }
        }
        spells
    }
}

/// Of so many replicas, in a steady state: the sorted latencies of requests at the two rates; `None` where
/// they cannot keep up.
#[derive(Debug, Clone, Default)]
pub struct Steady {
    pub quiet: Vec<Option<Vec<f64>>>,
    pub burst: Vec<Option<Vec<f64>>>,
}

fn late_share(latencies: &Option<Vec<f64>>, limit_s: f64) -> f64 {
    latencies.as_ref().map_or(1.0, |sorted| {
        1.0 - sorted.partition_point(|&s| s <= limit_s) as f64 / sorted.len().max(1) as f64
    })
}

/// An option of a programme: what it costs, and how many requests are late, if chosen all of the time.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Choice {
    pub cost: f64,
    pub late: f64,
}

/// The least cost of one mixture of each of some sets of options, if no more than `most_late` are late in
/// all: `None` if that cannot be.
pub fn least_cost(sets: &[Vec<Choice>], most_late: f64) -> Option<f64> {
    let (mut cost, mut late, mut steps) = (0.0, 0.0, Vec::new());
    for set in sets {
        let hull = lower_hull(set);
        let first = hull.first()?;
        (cost, late) = (cost + first.cost, late + first.late);
        steps.extend(hull.windows(2).map(|pair| (pair[1].cost - pair[0].cost, pair[0].late - pair[1].late)));
    }
    // What saves a late request for the least comes first; on each hull that is the order of its steps.
    steps.sort_by(|a, b| (a.0 / a.1).total_cmp(&(b.0 / b.1)));
    for (dearer, fewer) in steps {
        if late <= most_late {
            break;
        }
        let share = ((late - most_late) / fewer).min(1.0);
        (cost, late) = (cost + share * dearer, late - share * fewer);
    }
    (late <= most_late * (1.0 + 1e-12) + 1e-9).then_some(cost)
}

/// The mixtures that no other beats: by rising cost and falling number of late ones, ever less falling.
fn lower_hull(set: &[Choice]) -> Vec<Choice> {
    let mut sorted = set.to_vec();
    sorted.sort_by(|a, b| a.cost.total_cmp(&b.cost).then(a.late.total_cmp(&b.late)));
    let mut hull: Vec<Choice> = Vec::new();
    for choice in sorted {
        if hull.last().is_some_and(|last| choice.late >= last.late) {
            continue;
        }
        while let [.., a, b] = hull[..] {
            let (along, all) =
                ((b.cost - a.cost) * (a.late - choice.late), (choice.cost - a.cost) * (a.late - b.late));
            if along < all {
                break;
            }
            hull.pop();
        }
        hull.push(choice);
    }
    hull
}

/// What the bound is made of.
#[derive(Debug, Clone)]
pub struct BurstBound<'a> {
    pub bursts: &'a Bursts,
    pub steady: &'a Steady,
    /// Requests a second a replica can finish at best.
    pub throughput_per_s: f64,
    pub cold_start_s: f64,
    pub usd_per_replica_s: f64,
    /// Share of requests that may be late.
    pub forgiven: f64,
    pub min_replicas: u32,
}

impl BurstBound<'_> {
    /// The least dollars for a latency at the percentile, on average over draws with such spells.
    pub fn cost_usd(&self, spells: Spells, limit_s: f64) -> Option<f64> {
        let Bursts { base_rate_per_s: base, burst_rate_per_s: burst, .. } = *self.bursts;
        let quiet = self.steady.quiet.iter().enumerate().map(|(n, latencies)| {
            let n = n as f64 + f64::from(self.min_replicas);
            // Those that come when the wait has grown to the limit, and later; each burst for itself.
            let serves = n * self.throughput_per_s;
            let helpless_s = if spells.bursts > 0.0 { spells.helpless_s / spells.bursts } else { 0.0 };
            let late = if serves >= burst {
                0.0
            } else {
                burst * (helpless_s - serves * limit_s / (burst - serves)).max(0.0) * spells.bursts
            };
            Choice {
                cost: n * self.usd_per_replica_s * (spells.quiet_s + spells.helpless_s),
                late: late + base * spells.quiet_s * late_share(latencies, limit_s),
            }
        });
        let rest = self.steady.burst.iter().enumerate().map(|(m, latencies)| {
            let m = m as f64 + f64::from(self.min_replicas);
            Choice {
                cost: m * self.usd_per_replica_s * spells.rest_s,
                late: burst * spells.rest_s * late_share(latencies, limit_s),
            }
        });
        let all = base * spells.quiet_s + burst * (spells.helpless_s + spells.rest_s);
        least_cost(&[quiet.collect(), rest.collect()], self.forgiven * all)
    }

    /// Points of the bound: limits and least costs, from a long way below the longest limit up to it.
    pub fn curve(&self, spells: Spells, longest_s: f64) -> Vec<(f64, f64)> {
        const POINTS: u32 = 400;
        (1..=POINTS)
            .filter_map(|point| {
                let limit_s = longest_s * f64::from(point) / f64::from(POINTS);
                Some((limit_s, self.cost_usd(spells, limit_s)?))
            })
            .collect()
    }
}

/// Share of the reference box that a bound dominates. Between its points it is taken at its best, so it stays
/// a bound.
pub fn hypervolume(curve: &[(f64, f64)], latency: f64, cost: f64) -> f64 {
    let mut from_s = curve.first().map_or(0.0, |first| first.0);
    let mut area = 0.0;
    for &(limit_s, usd) in curve {
        area += (limit_s.min(latency) - from_s).max(0.0) * (1.0 - usd / cost).max(0.0);
        from_s = limit_s;
    }
    area / latency
}

/// Requests a second that a replica finishes at best.
pub fn throughput_per_s(fluid: &FluidBound, workload: &Workload) -> f64 {
    workload.len() as f64 / fluid.work_s()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bursts() -> Bursts {
        serde_json::from_value(
            serde_json::json!({"base_rate_per_s": 10, "burst_rate_per_s": 45, "burst_duration_s": 40,
            "interval_s": 240, "duration_s": 3600, "timing": "random"}),
        )
        .unwrap()
    }

    #[test]
    fn nobody_is_helpless_where_starts_take_no_time() {
        let phase = |duration_s| Phase { duration_s, rate_per_s: 10.0 };
        let spells = Spells::of(&bursts(), &[phase(200.0), phase(40.0)], 0.0);
        assert_eq!((spells.helpless_s, spells.rest_s, spells.bursts), (0.0, 40.0, 0.0));
    }

    /// Shares of one, two and three replicas in quiet time and of three and four in bursts, in hundredths:
    /// none that keeps the limit is cheaper, and some are as cheap up to the grain.
    #[test]
    fn the_programme_by_trying_all_mixtures() {
        let quiet = [(1.0, 130.0), (2.0, 61.0), (3.0, 45.0)].map(|(cost, late)| Choice { cost, late });
        let rest = [(0.6, 40.0), (0.8, 11.0)].map(|(cost, late)| Choice { cost, late });
        for most_late in [60.0, 75.0, 100.0, 140.0, 170.0, 200.0] {
            let found = least_cost(&[quiet.to_vec(), rest.to_vec()], most_late).unwrap();
            let mut least = f64::INFINITY;
            for a in 0..=100 {
                for b in 0..=100 - a {
                    for c in 0..=100 {
                        let shares =
                            [f64::from(a) / 100.0, f64::from(b) / 100.0, f64::from(100 - a - b) / 100.0];
                        let share = f64::from(c) / 100.0;
                        let of = |value: fn(&Choice) -> f64| {
                            let first: f64 =
                                quiet.iter().zip(shares).map(|(choice, share)| value(choice) * share).sum();
                            first + value(&rest[0]) * share + value(&rest[1]) * (1.0 - share)
                        };
                        if of(|choice| choice.late) <= most_late {
                            least = least.min(of(|choice| choice.cost));
                        }
                    }
                }
            }
            assert!(
                found <= least + 1e-9 && found >= least - 0.02,
                "{most_late} late: {found}, by trying {least}"
            );
        }
        assert_eq!(least_cost(&[quiet.to_vec(), rest.to_vec()], 50.0), None);
    }

    #[test]
    fn spells_are_those_of_the_draw() {
        let phase = |duration_s, rate_per_s| Phase { duration_s, rate_per_s };
        let phases = [phase(100.0, 10.0), phase(40.0, 45.0), phase(60.0, 10.0), phase(5.0, 45.0)];
        assert_eq!(
            Spells::of(&bursts(), &phases, 10.0),
            Spells { quiet_s: 160.0, helpless_s: 15.0, rest_s: 30.0, bursts: 1.5 }
        );
    }

    #[test]
    fn the_box_below_the_curve() {
        // From 0.5 s on half of the money is needed, from 1 s on a quarter.
        let curve = [(0.5, 25.0), (1.0, 25.0), (1.5, 12.5), (2.0, 12.5)];
        assert!((hypervolume(&curve, 2.0, 50.0) - (0.25 * 0.5 + 0.5 * 0.75)).abs() < 1e-12);
        assert_eq!(hypervolume(&[], 2.0, 50.0), 0.0);
    }
}
