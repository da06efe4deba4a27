//! A plan of replicas over time, and the policy that carries it out.

use crate::autoscaler::{Autoscaler, Decision, Snapshot};
use crate::simulation::{ReplicaRecord, ScaleDownOrder};

/// Replicas that take requests, as a step function of time.
///
/// Times rise strictly from 0; neighbouring steps differ; the last step lasts for ever.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaSchedule {
    steps: Vec<(f64, u32)>,
}

/// What a schedule may be on a given cluster.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ScheduleLimits {
    pub initial_replicas: u32,
    pub min_replicas: u32,
    pub max_replicas: u32,
    /// No replica joins before it could have been ordered at time 0.
    pub scale_up_delay_s: f64,
    /// No replica leaves before it could have been told to at time 0.
    pub scale_down_delay_s: f64,
    /// Whether a replica that is told to stop calls off those that are under way, see
    /// [`ReplicaSchedule::within`].
    pub scale_down_order: ScaleDownOrder,
    /// Changes happen at multiples of this.
    pub step_s: f64,
}

impl ReplicaSchedule {
    /// The same number all the time.
    pub fn constant(replicas: u32) -> Self {
        Self { steps: vec![(0.0, replicas)] }
    }

    /// So many replicas from each of some times on, which rise from 0.
    pub fn following(replicas: impl Iterator<Item = (f64, u32)>) -> Self {
        Self { steps: replicas.collect() }.tidy()
    }

    /// What an online policy did, from the records of its run.
    pub fn realised(records: &[ReplicaRecord]) -> Self {
        let steps =
            records.iter().map(|record| (record.time_s, record.num_replicas - record.num_draining)).collect();
        Self { steps }.tidy()
    }

    /// Times and replicas from then on.
    pub fn steps(&self) -> &[(f64, u32)] {
        &self.steps
    }

    /// Replicas at a time.
    pub fn at(&self, time_s: f64) -> u32 {
        self.steps[self.steps.partition_point(|&(from_s, _)| from_s <= time_s).max(1) - 1].1
    }

    /// With `change` replicas more (or fewer) in some spells, from one time to another, which follow one
    /// another.
    pub fn bumped(&self, spells: &[(f64, f64)], change: i64) -> Self {
        let mut times: Vec<f64> = self.steps.iter().map(|step| step.0).collect();
        times.extend(spells.iter().flat_map(|&(from_s, to_s)| [from_s, to_s]).filter(|&at_s| at_s >= 0.0));
        times.sort_by(f64::total_cmp);
        let (mut step, mut spell) = (0, 0);
        let bumped = |at_s: f64| {
            while self.steps.get(step + 1).is_some_and(|next| next.0 <= at_s) {
                step += 1;
            }
            while spells.get(spell).is_some_and(|&(_, to_s)| to_s <= at_s) {
                spell += 1;
            }
            let replicas = self.steps[step].1;
            let within = spells.get(spell).is_some_and(|&(from_s, _)| from_s <= at_s);
            (at_s, if within { (i64::from(replicas) + change).max(0) as u32 } else { replicas })
        };
        Self { steps: times.into_iter().map(bumped).collect() }.tidy()
    }

    /// This one up to a time and another one after it.
    pub fn spliced(&self, at_s: f64, after: &Self) -> Self {
        let before = self.steps.iter().copied().filter(|step| step.0 < at_s);
        let rest = after.steps.iter().copied().filter(|step| step.0 > at_s);
        Self { steps: before.chain([(at_s, after.at(at_s))]).chain(rest).collect() }.tidy()
    }

    /// The nearest schedule within the limits. Where replicas that start are the first to go, none serves
    /// less while one starts: a replica that joins after others have left was ordered after that.
    pub fn within(&self, limits: &ScheduleLimits) -> Self {
        let mut steps = vec![(0.0, limits.initial_replicas)];
        let on_grid = |at_s: f64| (at_s / limits.step_s).round() * limits.step_s;
        for &(at_s, wanted) in &self.steps {
            let wanted = wanted.clamp(limits.min_replicas, limits.max_replicas);
            loop {
                let (last_s, replicas) = steps[steps.len() - 1];
                if wanted == replicas {
                    break;
                }
                let lead_s =
                    if wanted > replicas { limits.scale_up_delay_s } else { limits.scale_down_delay_s };
                // The decision lies on the grid; none changes how a run starts.
                let in_time_s = (on_grid(at_s - lead_s).max(0.0) + lead_s).max(limits.step_s);
                let fell = steps.len() > 1 && steps[steps.len() - 2].1 > replicas;
                let called_off = limits.scale_down_order == ScaleDownOrder::StartingFirst
                    && wanted > replicas
                    && fell
                    && in_time_s - lead_s < last_s + limits.step_s / 2.0;
                if in_time_s > last_s && !called_off {
                    steps.push((in_time_s, wanted));
                    break;
                }
                // A step that cannot come in time for this one does not come.
                steps.pop();
            }
        }
        Self { steps }.tidy()
    }

    fn tidy(mut self) -> Self {
        // Of steps at one time the last counts.
        let mut tidy: Vec<(f64, u32)> = Vec::with_capacity(self.steps.len());
        for step in self.steps.drain(..) {
            if tidy.last().is_some_and(|last| last.0 == step.0) {
                tidy.pop();
            }
            if tidy.last().is_none_or(|last| last.1 != step.1) {
                tidy.push(step);
            }
        }
        Self { steps: tidy }
    }

    /// What is decided so that replicas join and leave on time: the ticks at which the target changes, and to
    /// what.
    pub fn targets(&self, limits: &ScheduleLimits) -> Vec<(f64, u32)> {
        let mut orders: Vec<(f64, i64)> = self
            .steps
            .windows(2)
            .map(|pair| {
                let change = i64::from(pair[1].1) - i64::from(pair[0].1);
                let lead_s = if change > 0 { limits.scale_up_delay_s } else { limits.scale_down_delay_s };
                (pair[1].0 - lead_s, change)
            })
            .collect();
        orders.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut targets, mut target, mut left, mut tick_s) =
            (Vec::new(), limits.initial_replicas, &orders[..], 0.0);
        while let Some(&(first_s, first)) = left.first() {
            // Ticks and orders lie on one grid, up to rounding. A tick decides in one direction; what goes
            // the other way waits for the next.
            let due = |order: &&(f64, i64)| {
                order.0 <= tick_s + limits.step_s / 2.0 && order.1.signum() == first.signum()
            };
            if first_s <= tick_s + limits.step_s / 2.0 {
                let (count, change) = left
                    .iter()
                    .take_while(due)
                    .fold((0, 0), |(count, sum), order| (count + 1, sum + order.1));
                left = &left[count..];
                target = target.saturating_add_signed(change as i32);
                targets.push((tick_s, target));
            }
            tick_s += limits.step_s;
        }
        targets
    }

    /// The policy that decides so.
    pub fn replay(&self, limits: &ScheduleLimits) -> Box<dyn Autoscaler> {
        Box::new(Replay {
            targets: self.targets(limits),
            next: 0,
            target: limits.initial_replicas,
            step_s: limits.step_s,
        })
    }
}

/// Targets, each from a tick on.
pub(super) struct Replay {
    pub targets: Vec<(f64, u32)>,
    pub next: usize,
    /// Replicas there should be once all that was decided so far has been carried out.
    pub target: u32,
    pub step_s: f64,
}

impl Autoscaler for Replay {
    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.step_s)
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        while let Some(&(_, target)) = self.targets.get(self.next).filter(|&&(tick_s, _)| tick_s <= now_s) {
            self.target = target;
            self.next += 1;
        }
        // What a limit cut off is asked for again.
        Decision::towards(snapshot.committed(), self.target)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const LIMITS: ScheduleLimits = ScheduleLimits {
        initial_replicas: 2,
        min_replicas: 1,
        max_replicas: 5,
        scale_up_delay_s: 10.0,
        scale_down_delay_s: 1.0,
        scale_down_order: ScaleDownOrder::ServingFirst,
        step_s: 0.5,
    };

    proptest! {
        /// Whatever was changed, the limits hold, and what is within them stays as it is.
        #[test]
        fn within_limits(
            bumps in prop::collection::vec((0.0_f64..100.0, 0.0_f64..60.0, -3_i64..4), 0..12),
            order in prop_oneof![Just(ScaleDownOrder::StartingFirst), Just(ScaleDownOrder::ServingFirst)],
        ) {
            let schedule = bumps.iter().fold(ReplicaSchedule::constant(3), |s, &(from, length, by)| s.bumped(&[(from, from + length)], by));
            let limits = ScheduleLimits { scale_down_order: order, ..LIMITS };
            let within = schedule.within(&limits);
            prop_assert_eq!(&within.within(&limits), &within);
            prop_assert_eq!(within.steps()[0], (0.0, 2));
            for pair in within.steps().windows(2) {
                let ((before_s, before), (at_s, after)) = (pair[0], pair[1]);
                prop_assert!(at_s > before_s && after != before && (1..=5).contains(&after));
                let lead_s = if after > before { 10.0 } else { 1.0 };
                prop_assert!(at_s >= lead_s);
            }
            let steps = within.steps();
            for (i, fall) in steps.windows(2).enumerate().filter(|(_, pair)| pair[1].1 < pair[0].1) {
                let next_rise = steps[i + 1..].windows(2).find(|pair| pair[1].1 > pair[0].1);
                let ordered_after = next_rise.is_none_or(|pair| pair[1].0 - 10.0 > fall[1].0);
                prop_assert!(order == ScaleDownOrder::ServingFirst || ordered_after, "{steps:?}");
            }
        }

        /// The twin looks at every half second.
        #[test]
        fn bumps_and_splices_by_definition(gaps in prop::collection::vec((0_u32..30, 1_u32..20), 0..5), by in -4_i64..3, cut in 0_u32..80) {
            let half = |n: u32| f64::from(n) * 0.5;
            let plain = ReplicaSchedule::constant(3).bumped(&[(5.0, 12.0), (20.0, 21.5)], 2);
            // Gaps and lengths in turn; some spells touch.
            let spells: Vec<(u32, u32)> = gaps
                .iter()
                .scan(0, |end, &(gap, length)| {
                    let from = *end + gap;
                    *end = from + length;
                    Some((from, *end))
                })
                .collect();
            let bumped = plain.bumped(&spells.iter().map(|&(from, to)| (half(from), half(to))).collect::<Vec<_>>(), by);
            let spliced = plain.spliced(half(cut), &bumped);
            for at in 0..100 {
                let change = if spells.iter().any(|&(from, to)| (from..to).contains(&at)) { by } else { 0 };
                prop_assert_eq!(i64::from(bumped.at(half(at))), (i64::from(plain.at(half(at))) + change).max(0));
                prop_assert_eq!(spliced.at(half(at)), if at < cut { plain.at(half(at)) } else { bumped.at(half(at)) });
            }
        }
    }
}
