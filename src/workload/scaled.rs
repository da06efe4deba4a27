//! The same traffic, more or less of it, at the same times of day: how much load a setting carries.

use rand_xoshiro::Xoshiro256PlusPlus;
use rand_xoshiro::rand_core::Rng;

use super::Workload;
use crate::random::stream;

/// A request that is added has the lengths of one of so many before it.
const NEIGHBOURHOOD: usize = 64;

impl Workload {
    /// `factor` times as many requests on average, in the same time. Each request is there as often as the
    /// factor says, by its own draw: what is there at one factor is there at every larger one, so that load
    /// only ever grows with it. Copies come before the next arrival and have the lengths of a request shortly
    /// before. Of sessions, whole ones are copied; where they start as others end, there are as many more
    /// lanes. `None` of a workload too large to be held, or if nothing is left.
    pub fn scaled(&self, factor: f64, seed: u64) -> Option<Self> {
        if self.streamed.is_some() {
            return None;
        }
        if factor == 1.0 {
            return Some(self.clone());
        }
        let mut picks: Vec<(f64, u32)> = Vec::with_capacity((self.len() as f64 * factor) as usize + 16);
        let (starts_s, end_s) = (self.starts_s(), self.end_s());
        for (i, &at_s) in starts_s.iter().enumerate() {
            // Draws of its own, so that they are the same whatever the factor.
            let mut random = stream(seed, &format!("load.{i}"));
            let times = (factor + unit(&mut random)).floor() as usize;
            let next_s = starts_s.get(i + 1).copied().unwrap_or(end_s);
            for copy in 0..times {
                let (place, like) = (unit(&mut random), unit(&mut random));
                if copy == 0 {
                    picks.push((at_s, i as u32));
                } else {
                    let back = (like * NEIGHBOURHOOD.min(i + 1) as f64) as usize;
                    picks.push((at_s + place * (next_s - at_s), (i - back) as u32));
                }
            }
        }
        if picks.is_empty() {
            return None;
        }
        picks.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
        if let Some(sessions) = &self.sessions {
            return Some(sessions.copied(self, &picks, factor));
        }
        let order: Vec<u32> = picks.iter().map(|pick| pick.1).collect();
        let of = |column: &[u32]| order.iter().map(|&i| column[i as usize]).collect();
        Some(Self {
            arrived_at_s: picks.iter().map(|pick| pick.0).collect(),
            prefill_tokens: of(&self.prefill_tokens),
            decode_tokens: of(&self.decode_tokens),
            prefix: self.prefix.as_ref().map(|prefix| prefix.reordered(&order)),
            duration_s: Some(end_s),
            outputs: self.outputs.clone(),
            priorities: self.priorities.clone(),
            told: self.told.reordered(&order),
            sessions: None,
            models: self.models.as_ref().map(|models| Box::new(models.reordered(&order))),
            streamed: None,
        })
    }
}

/// From 0 to 1, without 1.
fn unit(random: &mut Xoshiro256PlusPlus) -> f64 {
    (random.next_u64() >> 11) as f64 / (1_u64 << 53) as f64
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn load_grows_with_the_factor_and_keeps_its_shape() {
        let mut workload = Workload::default();
        for i in 0..4000 {
            // Twice as busy in the second half.
            let at_s = if i < 1333 { 1.5 * f64::from(i) } else { 2000.0 + 0.75 * f64::from(i - 1333) };
            workload.push(at_s, 100 + i, 10);
        }
        let times = |workload: &Workload| {
            workload.arrived_at_s.iter().map(|at| at.to_bits()).collect::<BTreeSet<_>>()
        };
        assert_eq!(workload.scaled(1.0, 1).unwrap(), workload);
        let mut before = workload.scaled(0.3, 1).unwrap();
        for factor in [0.5, 0.9, 1.25, 2.0, 3.7] {
            let scaled = workload.scaled(factor, 1).unwrap();
            assert!((scaled.len() as f64 / 4000.0 / factor - 1.0).abs() < 0.03, "{factor}: {}", scaled.len());
            assert!(
                scaled.arrived_at_s.is_sorted() && times(&scaled).is_superset(&times(&before)),
                "{factor}"
            );
            let late =
                scaled.arrived_at_s.iter().filter(|&&at| at >= 2000.0).count() as f64 / scaled.len() as f64;
            assert!((late - 2.0 / 3.0).abs() < 0.03, "{factor}: {late}");
            before = scaled;
        }
        assert!(workload.scaled(1e-9, 1).is_none());
    }
}
