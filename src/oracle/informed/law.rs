//! What whoever knows a generator knows of its traffic, and how sure they can be of what is hidden.

use std::collections::VecDeque;

use super::episodes::Episodes;
use crate::workload::arrivals::{Arrivals, BurstTiming, Bursts};
use crate::workload::{Workload, WorkloadSpec};

/// Of traffic whose parameters are all known.
#[derive(Debug, Clone, PartialEq)]
pub enum Law {
    /// The rate is a known function of time: only the gaps between requests, or their lengths, are drawn.
    KnownRate,
    /// When bursts begin is drawn, too.
    RandomBursts(Bursts),
    /// That of a trace is not known: it has a past, of which one part may tell something of another
    /// (`episodes.rs`).
    Past,
}

/// Bursts that begin at random: how long they and the lulls between them last, and how much comes.
#[derive(Debug, Clone, PartialEq)]
pub struct BurstLaw {
    pub base_rate_per_s: f64,
    pub burst_rate_per_s: f64,
    /// How long bursts last: each as likely as the others. Rising.
    pub bursts_s: Vec<f64>,
    /// From one beginning to the next on average; gaps are exponential.
    pub interval_s: f64,
    /// How long the traffic goes on.
    pub duration_s: f64,
}

impl From<&Bursts> for BurstLaw {
    fn from(bursts: &Bursts) -> Self {
        let Bursts { base_rate_per_s, burst_rate_per_s, burst_duration_s, interval_s, duration_s, .. } =
            *bursts;
        Self { base_rate_per_s, burst_rate_per_s, bursts_s: vec![burst_duration_s], interval_s, duration_s }
    }
}

impl BurstLaw {
    /// What the episodes of a trace say of the rest of it.
    pub fn estimated(episodes: &Episodes, workload: &Workload) -> Self {
        let ((base_rate_per_s, burst_rate_per_s), bursts_s) =
            (episodes.rates_per_s(workload), episodes.bursts_s());
        let burst_s = bursts_s.iter().sum::<f64>() / bursts_s.len().max(1) as f64;
        let interval_s = episodes.mean_lull_s().max(LEAST_LULL_S) + burst_s;
        Self { base_rate_per_s, burst_rate_per_s, bursts_s, interval_s, duration_s: episodes.duration_s }
    }

    /// Mean length of a burst.
    pub fn burst_s(&self) -> f64 {
        self.bursts_s.iter().sum::<f64>() / self.bursts_s.len().max(1) as f64
    }

    pub fn longest_s(&self) -> f64 {
        self.bursts_s.last().copied().unwrap_or(0.0)
    }
}

/// Lulls are told to the second.
const LEAST_LULL_S: f64 = 1.0;

impl Law {
    /// Errors: why there is no law here that could be known.
    pub fn of(spec: &WorkloadSpec) -> Result<Self, String> {
        if spec.sessions.is_some() {
            return Err(
                "its requests wait for answers, so what comes depends on what is decided, and no law of it is built: no informed edge; \
                        expected `generate`"
                    .into(),
            );
        }
        if !spec.mix.is_empty() {
            return Err("several parts are drawn apart, and no law of them together is built: no informed edge; expected `generate`".into());
        }
        let Some(generate) = &spec.generate else {
            return Ok(Self::Past);
        };
        match &generate.arrivals {
            Some(Arrivals::Bursts(bursts)) if bursts.timing == BurstTiming::Random => Ok(Self::RandomBursts(bursts.clone())),
            Some(Arrivals::Trace(_)) => Err("arrivals of a trace have no law that could be known, only a past: no informed edge".into()),
            Some(_) if generate.depends_on_seed() => Ok(Self::KnownRate),
            Some(_) => Err("nothing is drawn: who knows the parameters knows the requests, and the edge of the possible is theirs".into()),
            None => Err("which of its clients are busy is drawn and hidden, and no belief about them is built: no informed edge".into()),
        }
    }
}

/// How likely a burst is under way, by exact Bayesian filtering on a grid of ticks.
///
/// Hidden are quiet and a burst of each age. Gaps are exponential, so a burst begins in a tick with the same
/// probability whatever has been; it ends when its duration is over, or of several durations, each as likely,
/// one that it has not outlasted. Arrivals of a tick are Poisson at the rate of the state, or halfway between
/// where a burst begins.
#[derive(Debug, Clone)]
pub struct Belief {
    tick_s: f64,
    /// Ages in ticks at which bursts end, rising, and which part of those that came so far does; the last
    /// all.
    ends: Vec<(usize, f64)>,
    begins: f64,
    /// Expected arrivals of a tick when quiet, as a burst begins, and in a burst.
    expected: [f64; 3],
    quiet: f64,
    /// Probabilities of bursts by the tick they began in, the earliest first, in units of `scale`.
    bursts: VecDeque<f64>,
    scale: f64,
    burst: f64,
}

impl Belief {
    pub fn new(law: &BurstLaw, tick_s: f64) -> Self {
        let (base, burst) = (law.base_rate_per_s, law.burst_rate_per_s);
        let ages: Vec<usize> =
            law.bursts_s.iter().map(|&burst_s| (burst_s / tick_s).round().max(1.0) as usize).collect();
        let end = |alike: &[usize]| {
            let longer = ages.len() - ages.partition_point(|&age| age < alike[0]);
            (alike[0], alike.len() as f64 / longer as f64)
        };
        Self {
            tick_s,
            ends: ages.chunk_by(|a, b| a == b).map(end).collect(),
            begins: -libm::expm1(-tick_s / (law.interval_s - law.burst_s())),
            expected: [base, (base + burst) / 2.0, burst].map(|rate| rate * tick_s),
            quiet: 1.0,
            bursts: VecDeque::new(),
            scale: 1.0,
            burst: 0.0,
        }
    }

    /// Probability that a burst is under way.
    pub fn burst(&self) -> f64 {
        self.burst
    }

    /// Mean age of the burst, if there is one.
    pub fn age_s(&self) -> f64 {
        let count = self.bursts.len();
        let (sum, weighted) =
            self.bursts.iter().enumerate().fold((0.0, 0.0), |(sum, weighted), (place, &probability)| {
                (sum + probability, weighted + probability * (count - place) as f64)
            });
        if sum > 0.0 { weighted / sum * self.tick_s } else { 0.0 }
    }

    /// Takes in the arrivals of a tick.
    pub fn tick(&mut self, arrivals: usize) {
        // Bursts that have lasted their time are over.
        let count = self.bursts.len();
        for &(age, share) in self.ends.iter().take_while(|end| end.0 <= count) {
            let over = self.bursts[count - age] * share;
            self.bursts[count - age] -= over;
            self.quiet += over * self.scale;
        }
        if self.ends.last().is_some_and(|end| end.0 == count) {
            self.bursts.pop_front();
        }
        let begun = self.quiet * self.begins;
        self.quiet -= begun;
        // Poisson likelihoods but for what is common to all; the largest is 1.
        let logs = self.expected.map(|expected| match (expected > 0.0, arrivals) {
            (true, _) => arrivals as f64 * libm::log(expected) - expected,
            (false, 0) => 0.0,
            (false, _) => f64::NEG_INFINITY,
        });
        let most = logs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let [in_quiet, beginning, in_burst] = logs.map(|log| libm::exp(log - most));
        self.quiet *= in_quiet;
        self.scale *= in_burst;
        // Before the unit is too small or too large for a float; what is too unlikely by then is taken as
        // impossible.
        if !(1e-100..1e100).contains(&self.scale) {
            self.bursts.iter_mut().for_each(|probability| *probability *= self.scale);
            self.scale = 1.0;
        }
        self.bursts.push_back(begun * beginning / self.scale);
        let sum: f64 = self.bursts.iter().sum::<f64>() * self.scale;
        let all = self.quiet + sum;
        // Nothing left, or no number: not of this law; start anew.
        if all.is_nan() || all <= 0.0 {
            (self.quiet, self.burst, self.scale) = (1.0, 0.0, 1.0);
            self.bursts.iter_mut().for_each(|probability| *probability = 0.0);
            return;
        }
        self.quiet /= all;
        self.scale /= all;
        self.burst = sum / all;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random;
    use crate::workload::{self, WorkloadSpec};
    use serde_json::json;

    fn spec(duration_s: f64) -> (WorkloadSpec, Bursts) {
        let arrivals = json!({"base_rate_per_s": 10, "burst_rate_per_s": 45, "burst_duration_s": 40, "interval_s": 240,
                              "duration_s": duration_s, "timing": "random"});
        let spec = json!({"name": "bursts", "generate": {"arrivals": {"bursts": arrivals},
                          "lengths": {"fixed": {"prefill_tokens": 256, "decode_tokens": 1}}}});
        (serde_json::from_value(spec).unwrap(), serde_json::from_value(arrivals).unwrap())
    }

    /// Belief after each quarter of a second.
    fn followed(law: &Bursts, arrived_at_s: &[f64], duration_s: f64) -> Vec<(f64, f64, f64)> {
        let (mut belief, mut seen) = (Belief::new(&law.into(), 0.25), 0);
        let ticks = (duration_s / 0.25) as usize;
        let tick = |i: usize| {
            let now_s = (i + 1) as f64 * 0.25;
            let before = seen;
            seen = arrived_at_s.partition_point(|&at_s| at_s < now_s);
            belief.tick(seen - before);
            (now_s, belief.burst(), belief.age_s())
        };
        (0..ticks).map(tick).collect()
    }

    /// Nine onsets in ten are noticed within three quarters of a second, and ends as soon; what is said is
    /// right as often as it says.
    #[test]
    fn bursts_are_noticed() {
        let (spec, law) = spec(40_000.0);
        let workload = workload::load(&spec, 5, &[]).unwrap();
        let phases = law.phases(5);
        let told = followed(&law, &workload.arrived_at_s, 40_000.0);
        let (mut at_s, mut onsets, mut noticed) = (0.0, 0, 0);
        let mut in_burst = vec![false; told.len()];
        for phase in phases {
            if phase.rate_per_s == 45.0 && at_s + 40.0 < 40_000.0 {
                onsets += 1;
                let soon = told.iter().filter(|(now_s, ..)| *now_s > at_s && *now_s <= at_s + 1.0);
                noticed += usize::from(soon.clone().any(|&(_, burst, _)| burst > 0.5));
                (0..told.len())
                    .filter(|&i| told[i].0 > at_s && told[i].0 <= at_s + phase.duration_s)
                    .for_each(|i| in_burst[i] = true);
                let middle = told.iter().find(|(now_s, ..)| *now_s >= at_s + 20.0).unwrap();
                assert!((middle.2 - 20.0).abs() < 1.5 && middle.1 > 0.99, "{middle:?} 20 s after {at_s}");
            }
            at_s += phase.duration_s;
        }
        assert!(onsets > 100 && noticed * 10 >= onsets * 9, "{noticed} of {onsets}");
        for (low, high) in [(0.0, 0.02), (0.2, 0.8), (0.98, 1.0)] {
            let here: Vec<usize> = (0..told.len()).filter(|&i| (low..=high).contains(&told[i].1)).collect();
            let said = here.iter().map(|&i| told[i].1).sum::<f64>() / here.len() as f64;
            let is = here.iter().filter(|&&i| in_burst[i]).count() as f64 / here.len() as f64;
            assert!((said - is).abs() < 0.1, "{low} to {high}: said {said}, is {is} of {}", here.len());
        }
    }

    /// Of bursts of 10 and 30 s those that are older than 10 s are of the longer kind: silence decides the
    /// others alone.
    #[test]
    fn bursts_of_several_lengths_are_as_likely_over_as_they_are() {
        let law = BurstLaw {
            base_rate_per_s: 0.0,
            burst_rate_per_s: 1.0,
            bursts_s: vec![10.0, 30.0, 30.0],
            interval_s: 1e6,
            duration_s: 1e7,
        };
        let mut belief = Belief::new(&law, 1.0);
        belief.tick(3);
        for _ in 0..9 {
            belief.tick(1);
        }
        assert!(belief.burst() > 1.0 - 1e-12 && (belief.age_s() - 10.0).abs() < 1e-4, "{belief:?}");
        // Silent from now on: one in three is over, or it is chance that nothing came in a second.
        belief.tick(0);
        let chance = 2.0 / 3.0 * libm::exp(-1.0);
        assert!((belief.burst() - chance / (chance + 1.0 / 3.0)).abs() < 1e-3, "{}", belief.burst());
        for _ in 0..9 {
            belief.tick(1);
        }
        assert!(belief.burst() > 1.0 - 1e-12, "who is heard of is not over");
        (0..11).for_each(|_| belief.tick(1));
        assert!(belief.age_s() < 30.0, "the longest is over: {}", belief.age_s());
    }

    /// Gaps are memoryless, so bursts meet what is there on average: a level that changes with a clock of its
    /// own is as high at onsets as over all quiet time, within three standard errors.
    #[test]
    fn onsets_see_time_averages() {
        let (_, law) = spec(4e6);
        let mut random = random::stream(9, "test.levels");
        // Levels that last 50 to 400 s, 2 or 5 replicas.
        let mut levels = vec![(0.0, 2.0)];
        while levels[levels.len() - 1].0 < 4e6 {
            use rand::RngExt;
            let (from_s, level) = levels[levels.len() - 1];
            levels.push((from_s + random.random_range(50.0..400.0), 7.0 - level));
        }
        let level = |at_s: f64| levels[levels.partition_point(|&(from_s, _)| from_s <= at_s) - 1].1;
        let (mut at_s, mut seen, mut quiet, mut quiet_s) = (0.0, Vec::new(), 0.0, 0.0);
        for phase in law.phases(11) {
            let to_s = at_s + phase.duration_s;
            if phase.rate_per_s == 10.0 {
                let steps = (phase.duration_s / 0.5).ceil().max(1.0);
                let each_s = phase.duration_s / steps;
                (0..steps as usize).for_each(|i| quiet += level(at_s + (i as f64 + 0.5) * each_s) * each_s);
                quiet_s += phase.duration_s;
                seen.push(level(to_s));
            }
            at_s = to_s;
        }
        let mean = seen.iter().sum::<f64>() / seen.len() as f64;
        let deviation =
            (seen.iter().map(|level| (level - mean).powi(2)).sum::<f64>() / seen.len() as f64).sqrt();
        let error = (mean - quiet / quiet_s).abs();
        assert!(
            error < 3.0 * deviation / (seen.len() as f64).sqrt(),
            "{mean} at {} onsets, {} over time",
            seen.len(),
            quiet / quiet_s
        );
    }

    #[test]
    fn where_there_is_no_law_it_says_why() {
        let why = |spec: serde_json::Value| Law::of(&serde_json::from_value(spec).unwrap()).unwrap_err();
        let lengths = json!({"fixed": {"prefill_tokens": 1, "decode_tokens": 1}});
        let sessions = json!({"starts": {"concurrency": {"lanes": 1, "sessions": 1}}, "turns": {"fixed": {"turns": 1}}, "lengths": lengths});
        assert!(why(json!({"name": "c", "sessions": sessions})).contains("depends on what is decided"));
        assert!(
            why(json!({"name": "m", "mix": [{"model": "a", "sessions": sessions}]}))
                .contains("several parts")
        );
        let fixed = json!({"name": "s", "generate": {"arrivals": {"static": {"rate_per_s": 1, "duration_s": 9}}, "lengths": lengths}});
        assert!(why(fixed).contains("nothing is drawn"));
        assert_eq!(Law::of(&spec(60.0).0), Ok(Law::RandomBursts(spec(60.0).1)));
        assert_eq!(
            Law::of(&serde_json::from_value(json!({"name": "t", "trace": {"path": "x.csv"}})).unwrap()),
            Ok(Law::Past)
        );
    }
}
