//! The same traffic a little different: more of it, or another day like it. For tests of how robust a setting is.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use super::Workload;
use crate::random::stream;

/// A request that is added has the lengths and the prompt of one of so many before it.
const NEIGHBOURHOOD: usize = 64;
/// Blocks that a workload is cut into to be resampled: a quarter of an hour of a day.
const BLOCKS: usize = 96;
/// A block is replaced by one at most so many away, so that the day keeps its shape.
const REACH: usize = 2;

impl Workload {
    /// `factor` times as many requests, at least 1, on the same day: behind each arrival another one follows with probability
    /// `factor - 1`, somewhere before the next, so that peaks grow as troughs do. Of sessions, whole ones follow; where they start
    /// as others end, there are as many more lanes. None of a workload too large to be held.
    pub fn thickened(&self, factor: f64, seed: u64) -> Option<Self> {
        if self.streamed.is_some() {
            return None;
        }
        let mut random = stream(seed, "robustness.traffic");
        let mut picks = Vec::with_capacity((self.len() as f64 * factor) as usize + 16);
        let (starts_s, end_s) = (self.starts_s(), self.end_s());
        for (i, &at_s) in starts_s.iter().enumerate() {
            picks.push((at_s, i as u32));
            let (chance, place, like) = (unit(&mut random), unit(&mut random), unit(&mut random));
            if chance < factor - 1.0 {
                let next_s = starts_s.get(i + 1).copied().unwrap_or(end_s);
                let back = (like * NEIGHBOURHOOD.min(i + 1) as f64) as usize;
                picks.push((at_s + place * (next_s - at_s), (i - back) as u32));
            }
        }
        Some(self.gathered(picks, factor))
    }

    /// Another day like this one: cut into blocks, each replaced by itself or one of its neighbours, drawn at random with replacement
    /// (a local block bootstrap, after Paparoditis and Politis 2002). None of a workload too large to be held.
    pub fn resampled(&self, draw: u64) -> Option<Self> {
        let end_s = self.end_s();
        if self.streamed.is_some() || end_s <= 0.0 {
            return None;
        }
        let mut random = stream(draw, "robustness.blocks");
        let width_s = end_s / BLOCKS as f64;
        let starts_s = self.starts_s();
        let start =
            |block: usize| if block == BLOCKS { starts_s.len() } else { starts_s.partition_point(|&at| at < block as f64 * width_s) };
        let mut picks = Vec::with_capacity(starts_s.len());
        for block in 0..BLOCKS {
            let (low, high) = (block.saturating_sub(REACH), (block + REACH).min(BLOCKS - 1));
            let from = low + (unit(&mut random) * (high - low + 1) as f64) as usize;
            let moved_s = (block as f64 - from as f64) * width_s;
            // Rounding may move an arrival across the ends of the day.
            picks.extend((start(from)..start(from + 1)).map(|i| ((starts_s[i] + moved_s).clamp(0.0, end_s), i as u32)));
        }
        Some(self.gathered(picks, 1.0))
    }

    /// Requests or sessions like those named, at these times: `factor` times as many.
    fn gathered(&self, mut picks: Vec<(f64, u32)>, factor: f64) -> Self {
        picks.sort_by(|a, b| a.0.total_cmp(&b.0));
        if let Some(sessions) = &self.sessions {
            return sessions.copied(self, &picks, factor);
        }
        let order: Vec<u32> = picks.iter().map(|pick| pick.1).collect();
        let of = |column: &[u32]| order.iter().map(|&i| column[i as usize]).collect();
        Self {
            arrived_at_s: picks.iter().map(|pick| pick.0).collect(),
            prefill_tokens: of(&self.prefill_tokens),
            decode_tokens: of(&self.decode_tokens),
            prefix: self.prefix.as_ref().map(|prefix| prefix.reordered(&order)),
            duration_s: self.duration_s,
            outputs: self.outputs.clone(),
            priorities: self.priorities.clone(),
            told: self.told.reordered(&order),
            sessions: None,
            models: self.models.as_ref().map(|models| Box::new(models.reordered(&order))),
            streamed: None,
        }
    }
}

/// From 0 to 1, without 1.
fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn day() -> Workload {
        let mut workload = Workload { duration_s: Some(960.0), ..Workload::default() };
        // Twice the traffic in the second half.
        let mut at_s = 0.0;
        for i in 0..3000u32 {
            workload.push(at_s, 100 + i, 1 + i % 7);
            at_s += if at_s < 480.0 { 0.48 } else { 0.24 };
        }
        workload.truncate(workload.arrived_at_s.partition_point(|&at| at < 960.0));
        workload
    }

    fn first_half(workload: &Workload) -> f64 {
        workload.arrived_at_s.partition_point(|&at| at < 480.0) as f64 / workload.len() as f64
    }

    #[test]
    fn more_traffic_keeps_the_shape_of_the_day() {
        let day = day();
        for factor in [1.0, 1.1, 1.2] {
            let more = day.thickened(factor, 7).unwrap();
            let grown = more.len() as f64 / day.len() as f64;
            assert!((grown - factor).abs() < 0.03, "{grown} for {factor}");
            assert!((first_half(&more) - first_half(&day)).abs() < 0.02);
            assert!(more.arrived_at_s.is_sorted() && more.end_s() == 960.0);
            // Those of before are there still.
            let mut rest = more.arrived_at_s.iter();
            assert!(day.arrived_at_s.iter().all(|at| rest.any(|other| other == at)));
        }
        assert_eq!(day.thickened(1.0, 7), Some(day.clone()));
        assert_eq!(day.thickened(1.2, 7), day.thickened(1.2, 7));
        assert_ne!(day.thickened(1.2, 7), day.thickened(1.2, 8));
    }

    #[test]
    fn another_day_is_like_this_one() {
        let day = day();
        let [one, two] = [1, 2].map(|draw| day.resampled(draw).unwrap());
        assert_ne!(one, two);
        for other in [one, two] {
            assert!((other.len() as f64 / day.len() as f64 - 1.0).abs() < 0.05);
            assert!((first_half(&other) - first_half(&day)).abs() < 0.05);
            assert!(other.arrived_at_s.is_sorted() && other.end_s() == 960.0);
            assert!(other.prefill_tokens.iter().all(|tokens| day.prefill_tokens.contains(tokens)));
        }
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(Workload::default().resampled(1), None);
        assert_eq!(Workload::default().thickened(1.2, 1), Some(Workload::default()));
    }
}
