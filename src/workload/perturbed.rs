//! The same traffic a little different: more of it, or another day like it, for tests of how robust a setting
//! is; halves of it, and stretches in another order, for those who learn from one part what they do in
//! another.

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
    /// `factor` times as many requests, at least 1, on the same day: behind each arrival another one follows
    /// with probability `factor - 1`, somewhere before the next, so that peaks grow as troughs do. Of
    /// sessions, whole ones follow; where they start as others end, there are as many more lanes. None of a
    /// workload too large to be held.
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

    /// Another day like this one: cut into blocks, each replaced by itself or one of its neighbours, drawn at
    /// random with replacement (a local block bootstrap, after Paparoditis and Politis 2002). None of a
    /// workload too large to be held.
    pub fn resampled(&self, draw: u64) -> Option<Self> {
        let end_s = self.end_s();
        if self.streamed.is_some() || end_s <= 0.0 {
            return None;
        }
        let mut random = stream(draw, "robustness.blocks");
        let width_s = end_s / BLOCKS as f64;
        let starts_s = self.starts_s();
        let start = |block: usize| {
            if block == BLOCKS {
                starts_s.len()
            } else {
                starts_s.partition_point(|&at| at < block as f64 * width_s)
            }
        };
        let mut picks = Vec::with_capacity(starts_s.len());
        for block in 0..BLOCKS {
            let (low, high) = (block.saturating_sub(REACH), (block + REACH).min(BLOCKS - 1));
            let from = low + (unit(&mut random) * (high - low + 1) as f64) as usize;
            let moved_s = (block as f64 - from as f64) * width_s;
            // Rounding may move an arrival across the ends of the day.
            picks.extend(
                (start(from)..start(from + 1)).map(|i| ((starts_s[i] + moved_s).clamp(0.0, end_s), i as u32)),
            );
        }
        Some(self.gathered(picks, 1.0))
    }

    /// The two halves by time, each with a clock of its own and half as long. None of sessions, or of a
    /// workload too large to be held.
    pub fn halves(&self) -> Option<[Self; 2]> {
        let half_s = self.end_s() / 2.0;
        if self.streamed.is_some() || self.sessions.is_some() || half_s <= 0.0 {
            return None;
        }
        let middle = self.arrived_at_s.partition_point(|&at_s| at_s < half_s);
        let half = |from: usize, to: usize, from_s: f64| {
            let picks =
                (from..to).map(|i| ((self.arrived_at_s[i] - from_s).clamp(0.0, half_s), i as u32)).collect();
            Self { duration_s: Some(half_s), ..self.gathered(picks, 1.0) }
        };
        Some([half(0, middle, 0.0), half(middle, self.len(), half_s)])
    }

    /// What came in these stretches of time (from, to), one after the other, up to a duration.
    pub fn joined(&self, stretches: impl IntoIterator<Item = (f64, f64)>, duration_s: f64) -> Self {
        let (mut picks, mut at_s) = (Vec::new(), 0.0);
        for (from_s, to_s) in stretches {
            if at_s >= duration_s {
                break;
            }
            let [from, to] = [from_s, to_s]
                .map(|bound_s| self.arrived_at_s.partition_point(|&arrived_s| arrived_s < bound_s));
            let moved = (from..to).map(|i| (self.arrived_at_s[i] - from_s + at_s, i as u32));
            picks.extend(moved.take_while(|pick| pick.0 < duration_s));
            at_s += to_s - from_s;
        }
        Self { duration_s: Some(duration_s), ..self.gathered(picks, 1.0) }
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
    fn halves_are_the_whole_and_stretches_follow_each_other() {
        let day = day();
        let [first, second] = day.halves().unwrap();
        assert_eq!((first.len() + second.len(), first.end_s(), second.end_s()), (day.len(), 480.0, 480.0));
        assert_eq!(first.arrived_at_s, day.arrived_at_s[..first.len()]);
        assert!(
            second.arrived_at_s.iter().zip(&day.arrived_at_s[first.len()..]).all(|(own, whole)| (own
                + 480.0
                - whole)
                .abs()
                < 1e-9)
        );
        assert_eq!(second.prefill_tokens, day.prefill_tokens[first.len()..]);
        let turned = day.joined([(480.0, 960.0), (0.0, 480.0)], 720.0);
        assert_eq!(
            (turned.end_s(), &turned.prefill_tokens[..second.len()]),
            (720.0, &second.prefill_tokens[..])
        );
        assert!(turned.arrived_at_s.is_sorted() && turned.arrived_at_s.iter().all(|&at_s| at_s < 720.0));
        let quarter = first.arrived_at_s.partition_point(|&at_s| at_s < 240.0);
        assert_eq!(turned.len(), second.len() + quarter);
        // Where stretches end, so does the traffic.
        assert_eq!(day.joined([(0.0, 240.0)], 720.0).len(), quarter);
    }

    #[test]
    fn nothing_stays_nothing() {
        assert_eq!(Workload::default().resampled(1), None);
        assert_eq!(Workload::default().halves(), None);
        assert_eq!(Workload::default().thickened(1.2, 1), Some(Workload::default()));
    }
}
