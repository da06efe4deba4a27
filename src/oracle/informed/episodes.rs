//! What a trace tells of its traffic: episodes, each a lull and the burst after it, and other traces made of
//! them.
//!
//! A trace has no law that could be known, only a past. Taken apart into lulls and bursts it tells how long
//! these last and how much comes in them; drawn with replacement, whole and with their requests, episodes
//! make traces that might as well have been.

use rand::RngExt;

use crate::autoscaler::frontier::traffic::ArrivalCounts;
use crate::random;
use crate::workload::Workload;

/// Fewer tell nothing of how they are drawn.
pub const FEWEST: usize = 5;
/// Counts are looked at so often.
const STEP_S: f64 = 1.0;
/// A burst begins where the rate is above the mean by so many standard deviations of its estimate, and ends
/// where it is as far below.
const SURE: f64 = 2.0;

/// A lull and the burst after it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Episode {
    pub from_s: f64,
    pub burst_from_s: f64,
    pub to_s: f64,
}

/// The episodes of a trace: what is known of it.
#[derive(Debug, Clone, PartialEq)]
pub struct Episodes {
    pub all: Vec<Episode>,
    /// How long they are drawn for.
    pub duration_s: f64,
}

impl Episodes {
    /// Rates are those over the longest window that agrees with all shorter ones. A burst under way at the
    /// end is none: nobody knows how long it goes on.
    pub fn of(workload: &Workload) -> Self {
        Self::by_steps(workload, true)
    }

    /// The same, second by second but for long silences, which are skipped if that is wanted.
    fn by_steps(workload: &Workload, skips: bool) -> Self {
        let duration_s = workload.end_s();
        let mean_per_s = workload.len() as f64 / duration_s.max(STEP_S);
        let (mut counts, mut all) = (ArrivalCounts::new(STEP_S), Vec::new());
        let (mut from_s, mut burst_from_s, mut seen) = (0.0, None, 0);
        let (mut step, last) = (0, (duration_s / STEP_S) as usize);
        while step <= last {
            let now_s = step as f64 * STEP_S;
            step += 1;
            let arrived = seen + workload.arrived_at_s[seen..].partition_point(|&at_s| at_s < now_s);
            counts.observe(arrived - seen);
            seen = arrived;
            counts.tick(now_s);
            let Some(rate) = counts.estimate() else { continue };
            let margin_per_s = SURE * rate.deviation_per_s;
            match burst_from_s {
                None if rate.per_s - margin_per_s > mean_per_s => burst_from_s = Some(now_s - STEP_S),
                Some(began_s) if rate.per_s + margin_per_s < mean_per_s => {
                    // It ended within the last step, and the lull begins there.
                    all.push(Episode { from_s, burst_from_s: began_s, to_s: now_s - STEP_S });
                    (from_s, burst_from_s) = (now_s - STEP_S, None);
                }
                _ => {}
            }
            if skips && counts.is_silent() {
                // Nothing more is learnt before the step that sees the next request.
                let Some(next_s) = workload.arrived_at_s.get(seen) else { break };
                let silent = ((next_s / STEP_S) as usize + 1).saturating_sub(step);
                counts.pass(silent, silent as f64 * STEP_S);
                step += silent;
            }
        }
        Self { all, duration_s }
    }

    /// A trace of as long a time, of episodes drawn with replacement.
    pub fn draw(&self, workload: &Workload, seed: u64) -> Workload {
        let mut random = random::stream(seed, "oracle.episodes");
        let drawn = std::iter::repeat_with(|| self.all[random.random_range(0..self.all.len())]);
        // Episodes take at least two steps, so this ends.
        workload.joined(drawn.map(|episode| (episode.from_s, episode.to_s)), self.duration_s)
    }

    /// Mean rates in lulls and in bursts.
    pub fn rates_per_s(&self, workload: &Workload) -> (f64, f64) {
        let count = |from_s: f64, to_s: f64| {
            let [from, to] =
                [from_s, to_s].map(|bound_s| workload.arrived_at_s.partition_point(|&at_s| at_s < bound_s));
            (to - from) as f64
        };
        let over = |stretch: fn(&Episode) -> (f64, f64)| {
            let (requests, seconds) =
                self.all.iter().map(stretch).fold((0.0, 0.0), |(requests, seconds), (from_s, to_s)| {
                    (requests + count(from_s, to_s), seconds + to_s - from_s)
                });
            if seconds > 0.0 { requests / seconds } else { 0.0 }
        };
        (
            over(|episode| (episode.from_s, episode.burst_from_s)),
            over(|episode| (episode.burst_from_s, episode.to_s)),
        )
    }

    pub fn mean_lull_s(&self) -> f64 {
        self.all.iter().map(|episode| episode.burst_from_s - episode.from_s).sum::<f64>()
            / self.all.len().max(1) as f64
    }

    /// How long bursts last, rising.
    pub fn bursts_s(&self) -> Vec<f64> {
        let mut durations: Vec<f64> =
            self.all.iter().map(|episode| episode.to_s - episode.burst_from_s).collect();
        durations.sort_by(f64::total_cmp);
        durations
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// 200 s at 2/s, then 20 to 40 s at 30/s, eight times.
    fn bursty() -> Workload {
        let mut workload = Workload::default();
        let mut at_s = 0.0;
        for burst in 0..8u32 {
            for (duration_s, per_s) in [(200.0, 2.0), (20.0 + 20.0 * f64::from(burst % 2), 30.0)] {
                let requests = (duration_s * per_s) as u32;
                (0..requests)
                    .for_each(|i| workload.push(at_s + (f64::from(i) + 0.5) / per_s, 100 + burst, 1));
                at_s += duration_s;
            }
        }
        workload.duration_s = Some(at_s + 100.0);
        workload
    }

    #[test]
    fn lulls_and_bursts_are_told_apart() {
        let workload = bursty();
        let episodes = Episodes::of(&workload);
        assert_eq!(episodes.all.len(), 8, "{episodes:?}");
        for (number, (episode, lasts_s)) in
            episodes.all.iter().zip([20.0, 40.0].into_iter().cycle()).enumerate()
        {
            let burst_s = episode.to_s - episode.burst_from_s;
            assert!(
                (burst_s - lasts_s).abs() <= 3.0
                    && (episode.burst_from_s - episode.from_s - 200.0).abs() <= 4.0,
                "{number}: {episode:?}"
            );
        }
        let (lull, burst) = episodes.rates_per_s(&workload);
        assert!((lull - 2.0).abs() < 0.5 && (burst - 30.0).abs() < 3.0, "{lull}, {burst}");
        assert!((episodes.mean_lull_s() - 200.0).abs() < 4.0 && episodes.bursts_s().is_sorted());
    }

    /// Bursts days apart, some of one request, and requests on the second.
    #[test]
    fn long_silences_are_skipped() {
        let mut workload = Workload::default();
        let mut random = random::stream(1, "silences");
        let mut at_s: f64 = 0.0;
        for _ in 0..40 {
            at_s = (at_s + random.random_range(0.0..20_000.0)).floor();
            for _ in 0..random.random_range(1..60) {
                workload.push(at_s, 100, 1);
                at_s += f64::from(random.random_range(0..8_u8)) * 0.25;
            }
        }
        workload.duration_s = Some(at_s + 5000.0);
        let episodes = Episodes::of(&workload);
        assert!(episodes.all.len() > 5, "{episodes:?}");
        assert_eq!(episodes, Episodes::by_steps(&workload, false));
    }

    #[test]
    fn other_traces_are_made_of_whole_episodes() {
        let workload = bursty();
        let episodes = Episodes::of(&workload);
        let [one, two] = [1, 2].map(|seed| episodes.draw(&workload, seed));
        assert!(one != two && one == episodes.draw(&workload, 1));
        for drawn in [&one, &two] {
            assert_eq!(drawn.end_s(), workload.end_s());
            assert!(drawn.arrived_at_s.is_sorted());
            assert!(
                (drawn.len() as f64 / workload.len() as f64 - 1.0).abs() < 0.35,
                "{} of {}",
                drawn.len(),
                workload.len()
            );
        }
        let lengths = |workload: &Workload| {
            let mut lengths = workload.prefill_tokens.clone();
            lengths.dedup();
            lengths
        };
        // Each burst with its own requests, in another order.
        assert!(lengths(&one) != lengths(&workload) && lengths(&one).len() >= 5);
    }

    #[test]
    fn steady_traffic_has_none() {
        let mut workload = Workload::default();
        (0..6000).for_each(|i| workload.push(f64::from(i) * 0.1, 100, 1));
        assert!(Episodes::of(&workload).all.is_empty());
    }
}
