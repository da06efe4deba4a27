//! The best found without foresight: policies that know how traffic is drawn, and not what is drawn.
//!
//! A clairvoyant edge asks for what no policy can do where traffic comes as a surprise. An informed policy
//! sees what a controller can see, arrivals, completions and replicas up to now, and knows all parameters of
//! the generator and how long it goes on. What it lacks to the clairvoyant edge is foresight; what other
//! policies lack to it, knowledge of the law and better rules.
//!
//! The class, by what is drawn:
//!
//! - *Bursts at random* (`law.rs`, `policy.rs`): exact belief in a burst; a few replicas between bursts, or
//!   more while more than a budget of requests has been late; an order when a burst is likelier than not;
//!   replicas buried under a backlog replaced; some kept until the burst is over by its known length. Bounds
//!   that hold in expectation are known (`bound.rs`).
//! - *Rates that are known functions of time*, of which gaps and lengths are drawn: schedules of replicas
//!   over time, the same for every draw, searched as clairvoyant schedules are but judged by their means over
//!   draws; and the policies of the sweep, which know less than they might.
//!
//! - *Traces* have no law that could be known, only a past (`episodes.rs`). The law of one half is estimated
//!   from the episodes of the other: policies as for bursts at random, whose belief takes bursts to last as
//!   long as any of those seen, and the policies of the sweep, fitted to traces made of these episodes.
//!
//! An order is only placed where the level asked for has changed (which then stays for two cold starts at
//! least) or a burst is likelier than not. Without this rule, where cold starts are free, the best would be
//! to order all the time and to drop on arrival what nothing needs, which would make every figure worthless.
//!
//! Policies are searched on draws of their own, the *fitting draws*; those kept then run once on the draws of
//! the sweep. So what is reached is a search, and held out: a better policy of the class, or of a wider one,
//! may exist.

pub mod bound;
pub mod episodes;
pub mod law;
pub mod policy;

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::law::BurstLaw;
use self::policy::BurstPolicy;
use crate::random;
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct InformedSettings {
    /// Policies tried beyond those the search starts from, each on all fitting draws.
    pub budget: u32,
    /// Draws to fit to; none is one of the sweep's.
    pub fitting_draws: u32,
    /// How often policies decide, and schedules may change.
    pub step_s: f64,
    /// Policies tried between two looks at what is best; they may run side by side.
    pub batch: u32,
    /// Most policies kept: as many as the whole knob of `frontier` has levels.
    pub kept: u32,
    pub search_seed: u64,
}

impl Default for InformedSettings {
    fn default() -> Self {
        Self { budget: 400, fitting_draws: 16, step_s: 0.25, batch: 16, kept: 201, search_seed: 1 }
    }
}

impl InformedSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.at_least("budget", self.budget.into(), 1);
        faults.at_least("fitting_draws", self.fitting_draws.into(), 3);
        faults.interval_s("step_s", self.step_s);
        faults.at_least("batch", self.batch.into(), 1);
        faults.at_least("kept", self.kept.into(), 2);
    }

    /// Seeds of the fitting draws, of which none is `taken`.
    pub fn fitting_seeds(&self, taken: &[u64]) -> Vec<u64> {
        let mut random = random::stream(self.search_seed, "oracle.fitting");
        let mut seeds = Vec::new();
        while seeds.len() < self.fitting_draws as usize {
            // Grid files and tables hold integers exactly up to here.
            let seed = random.random_range(0..1 << 53);
            if !taken.contains(&seed) && !seeds.contains(&seed) {
                seeds.push(seed);
            }
        }
        seeds
    }
}

/// Cost and latency on one draw; `None` where the run failed or has no latency.
pub type Outcome = Option<(f64, f64)>;

/// The share of the box up to the reference (cost, latency) that points dominate.
pub fn dominated(points: impl Iterator<Item = (f64, f64)>, reference: (f64, f64)) -> f64 {
    let mut inside: Vec<(f64, f64)> = points
        .map(|(cost, latency)| (cost / reference.0, latency / reference.1))
        .filter(|at| at.0 < 1.0 && at.1 < 1.0)
        .collect();
    inside.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    let (mut area, mut least) = (0.0, 1.0);
    for (cost, latency) in inside {
        if latency < least {
            area += (1.0 - cost) * (least - latency);
            least = latency;
        }
    }
    area
}

/// Of policies that ran on the same draws those that together dominate most, on average over the draws: the
/// next is always the one that adds most, and none that adds nothing.
pub fn best_together(outcomes: &[Vec<Outcome>], reference: (f64, f64), most: usize) -> Vec<usize> {
    let draws = outcomes.first().map_or(0, Vec::len);
    let mut fronts: Vec<Vec<(f64, f64)>> = vec![Vec::new(); draws];
    let mut areas = vec![0.0; draws];
    let mut chosen = Vec::new();
    // What a policy adds only falls as others are chosen, so old figures are bounds.
    let mut bounds: Vec<(f64, usize)> = (0..outcomes.len()).map(|policy| (f64::INFINITY, policy)).collect();
    while chosen.len() < most {
        let mut best: Option<(f64, usize)> = None;
        bounds.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        for (bound, policy) in &mut bounds {
            if best.is_some_and(|(gain, _)| *bound <= gain) {
                break;
            }
            let gain: f64 = (0..draws)
                .filter_map(|draw| {
                    let point = outcomes[*policy][draw]?;
                    Some(dominated(fronts[draw].iter().copied().chain([point]), reference) - areas[draw])
                })
                .sum();
            *bound = gain;
            if gain > 1e-12 && best.is_none_or(|(most, _)| gain > most) {
                best = Some((gain, *policy));
            }
        }
        let Some((_, policy)) = best else { break };
        chosen.push(policy);
        bounds.retain(|&(_, other)| other != policy);
        for draw in 0..draws {
            if let Some(point) = outcomes[policy][draw] {
                fronts[draw].push(point);
                areas[draw] = dominated(fronts[draw].iter().copied(), reference);
            }
        }
    }
    chosen
}

/// Policies that are varied: those that add most.
const PARENTS: usize = 64;

/// What a search for bursts at random knows besides.
#[derive(Debug, Clone)]
pub struct Room {
    pub bursts: BurstLaw,
    /// Replicas that the work of quiet times and of bursts keeps busy.
    pub busy_quiet: f64,
    pub busy_burst: f64,
    pub max_replicas: u32,
    /// Cost and latency.
    pub reference: (f64, f64),
    /// Latency of a request alone.
    pub fastest_s: f64,
    /// Share of requests that the percentile forgives.
    pub forgiven: f64,
}

impl Room {
    fn fleet(&self, replicas: i64) -> u32 {
        replicas.clamp(1, i64::from(self.max_replicas)) as u32
    }

    /// Policies to start from: limits from the fastest possible to the reference, few and enough replicas of
    /// several sizes.
    pub fn starts(&self) -> Vec<BurstPolicy> {
        const LIMITS: u32 = 8;
        let (quiet, burst) = (self.busy_quiet.ceil() as i64, self.busy_burst.ceil() as i64);
        let mut starts = Vec::new();
        for limit in 0..LIMITS {
            let at = (f64::from(limit) + 0.5) / f64::from(LIMITS);
            let fastest_s = 1.5 * self.fastest_s;
            let late_s = fastest_s * libm::pow((self.reference.1 / fastest_s).max(1.0), at);
            for (low, high) in [(1, 1), (1, burst - quiet), (1, burst), (2, burst)] {
                for order in [0, 1] {
                    let (low, high) = (self.fleet(quiet + low), self.fleet(quiet + high));
                    starts.push(BurstPolicy {
                        low,
                        high,
                        late_s,
                        budget: 0.95 * self.forgiven,
                        horizon: 0.5,
                        order_low: self.fleet(burst + order),
                        order_high: self.fleet(burst + order),
                        replace: true,
                        hold: self.fleet(burst + order),
                        release_age_s: self.bursts.longest_s(),
                        settled: 4.0,
                    });
                }
            }
        }
        starts
    }

    /// One like another.
    pub fn variant(&self, of: &BurstPolicy, random: &mut Xoshiro256PlusPlus) -> BurstPolicy {
        let mut policy = *of;
        for _ in 0..random.random_range(1..=3) {
            let up = random.random_bool(0.5);
            let by = if up { 1 } else { -1 };
            let factor = libm::exp(random.random_range(-0.4..0.4));
            match random.random_range(0..12) {
                0 => policy.low = self.fleet(i64::from(policy.low) + by),
                1 => policy.high = self.fleet(i64::from(policy.high) + by),
                2 | 3 => policy.late_s *= factor,
                4 => policy.budget = (policy.budget * libm::sqrt(factor)).min(2.0 * self.forgiven),
                5 => policy.horizon = if up { 1.0 } else { random.random_range(0.0..1.0) },
                6 => policy.order_low = self.fleet(i64::from(policy.order_low) + by),
                7 => policy.order_high = self.fleet(i64::from(policy.order_high) + by),
                8 => policy.replace = !policy.replace,
                9 => policy.hold = self.fleet(i64::from(policy.hold) + by),
                10 => {
                    let lengths = &self.bursts.bursts_s;
                    let length_s = if lengths.len() > 1 {
                        lengths[random.random_range(0..lengths.len())]
                    } else {
                        self.bursts.longest_s()
                    };
                    policy.release_age_s = length_s + random.random_range(-3.0..3.0);
                }
                _ => policy.settled = (policy.settled * factor * factor).max(0.5),
            }
        }
        policy.high = policy.high.max(policy.low);
        policy
    }

    /// Searches: `run` gives the outcomes of policies on all fitting draws, in the order asked. Returns the
    /// policies kept.
    pub fn search(
        &self,
        settings: &InformedSettings,
        mut run: impl FnMut(&[BurstPolicy]) -> Vec<Vec<Outcome>>,
    ) -> Vec<BurstPolicy> {
        let mut random = random::stream(settings.search_seed, "oracle.informed");
        let mut tried = self.starts();
        let mut outcomes: Vec<Vec<Outcome>> = Vec::new();
        for batch in tried.chunks(settings.batch as usize) {
            outcomes.extend(run(batch));
        }
        let mut left = settings.budget as usize;
        while left > 0 {
            let best = best_together(&outcomes, self.reference, PARENTS.min(settings.kept as usize));
            let batch: Vec<BurstPolicy> = (0..left.min(settings.batch as usize))
                .map(|_| match best.len() {
                    0 => self.variant(&tried[random.random_range(0..tried.len())], &mut random),
                    // Those that add most come first and are varied more often.
                    count => {
                        let place = libm::pow(random.random_range(0.0..1.0), 1.5) * count as f64;
                        self.variant(&tried[best[place as usize]], &mut random)
                    }
                })
                .collect();
            left -= batch.len();
            outcomes.extend(run(&batch));
            tried.extend(batch);
        }
        best_together(&outcomes, self.reference, settings.kept as usize)
            .into_iter()
            .map(|policy| tried[policy])
            .collect()
    }
}

/// Latency quantile of an objective such as `p90_e2e_s`: which latency, and the share that is to be in time.
pub fn quantile(objective: &str) -> Option<(policy::Latency, f64)> {
    let (rank, latency) = match (objective.strip_suffix("_e2e_s"), objective.strip_suffix("_ttft_s")) {
        (Some(rank), _) => (rank, policy::Latency::EndToEnd),
        (_, Some(rank)) => (rank, policy::Latency::FirstToken),
        _ => return None,
    };
    let percent: f64 = rank.strip_prefix('p')?.parse().ok()?;
    (percent > 0.0 && percent < 100.0).then_some((latency, percent / 100.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_box_that_points_dominate() {
        let points = [(25.0, 1.0), (40.0, 0.5), (30.0, 1.5), (60.0, 0.1)];
        assert!((dominated(points.into_iter(), (50.0, 2.0)) - (0.5 * 0.5 + 0.2 * 0.25)).abs() < 1e-12);
        assert_eq!(dominated(std::iter::empty(), (50.0, 2.0)), 0.0);
    }

    /// Of six policies the three that all triples have as the best, here where greed finds it.
    #[test]
    fn the_best_together_by_trying_all() {
        let cost = [10.0, 12.0, 20.0, 30.0, 31.0, 45.0];
        let outcomes: Vec<Vec<Outcome>> = cost
            .iter()
            .map(|&cost| vec![Some((cost, 30.0 / cost)), Some((cost, 20.0 / cost)), None])
            .collect();
        let area = |chosen: &[usize]| -> f64 {
            (0..2)
                .map(|draw| {
                    dominated(chosen.iter().filter_map(|&policy| outcomes[policy][draw]), (50.0, 2.0))
                })
                .sum()
        };
        let greedy = best_together(&outcomes, (50.0, 2.0), 3);
        let mut most = 0.0_f64;
        for a in 0..6 {
            for b in 0..6 {
                for c in 0..6 {
                    most = most.max(area(&[a, b, c]));
                }
            }
        }
        assert!(greedy.len() == 3 && area(&greedy) > 0.97 * most, "{greedy:?}: {} of {most}", area(&greedy));
        assert_eq!(
            best_together(&[outcomes[2].clone(), outcomes[2].clone()], (50.0, 2.0), 5),
            [0],
            "none that adds nothing"
        );
    }

    #[test]
    fn fitting_draws_are_none_of_the_sweeps() {
        let settings = InformedSettings::default();
        let seeds = settings.fitting_seeds(&[]);
        let others = settings.fitting_seeds(&seeds[..3]);
        assert!(
            seeds.len() == 16 && others.len() == 16 && others.iter().all(|seed| !seeds[..3].contains(seed))
        );
    }

    #[test]
    fn objectives_that_are_quantiles() {
        assert_eq!(quantile("p90_e2e_s"), Some((policy::Latency::EndToEnd, 0.9)));
        assert_eq!(quantile("p99_ttft_s"), Some((policy::Latency::FirstToken, 0.99)));
        assert_eq!(quantile("mean_e2e_s").or(quantile("max_ttft_s")), None);
    }
}
