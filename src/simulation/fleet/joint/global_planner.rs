//! NVIDIA's planner above planners: it grants a wish that keeps the devices of all pools within bounds,
//! remembers one that does not, and carries both out once an opposite wish of another pool makes up for it.
//!
//! Source: `mediate` of `dynamo.global_planner.orchestrator`, ai-dynamo 1.6.1, run beside it
//! (`python/real_controllers/check_dynamo.sh`).

/// A pool as the planner knows it: replicas it was granted, devices of one, and the deployment it belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Member {
    pub replicas: u32,
    pub devices: i64,
    pub deployment: usize,
}

/// What a pool last asked for, and when.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Intent {
    replicas: u32,
    at_s: f64,
}

#[derive(Debug, Clone)]
pub struct GlobalPlanner {
    /// Most and fewest devices in all; none where there is no such bound.
    pub most: Option<i64>,
    pub least: Option<i64>,
    pub intent_ttl_s: f64,
    /// By pools.
    intents: Vec<Option<Intent>>,
}

impl GlobalPlanner {
    pub fn new(pools: usize, most: Option<i64>, least: Option<i64>, intent_ttl_s: f64) -> Self {
        Self { most, least, intent_ttl_s, intents: vec![None; pools] }
    }

    /// Decides on what a deployment asks for at once, so many replicas for each of some of its pools: what it
    /// and others get, pool by pool, or nothing.
    pub fn mediate(
        &mut self,
        now_s: f64,
        pools: &[Member],
        asked: &[(usize, u32)],
    ) -> Option<Vec<(usize, u32)>> {
        for &(pool, replicas) in asked {
            self.intents[pool] = Some(Intent { replicas, at_s: now_s });
        }
        let mut granted = asked.to_vec();
        let partners = self.partners(now_s, pools, asked);
        if !partners.is_empty() {
            granted.extend(partners);
            return Some(granted);
        }
        let changing = || asked.iter().filter(|&&(pool, replicas)| replicas != pools[pool].replicas);
        let grows = changing().any(|&(pool, replicas)| replicas > pools[pool].replicas);
        let shrinks = changing().any(|&(pool, replicas)| replicas < pools[pool].replicas);
        // What gives and takes at once need not come out even.
        let tolerance = if grows && shrinks {
            changing().map(|&(pool, _)| pools[pool].devices).max().unwrap_or(0)
        } else {
            0
        };
        self.is_within(total(pools, &granted), tolerance).then_some(granted)
    }

    /// Opposite wishes that bring the whole within bounds, the last of them in part if need be; none if they
    /// do not.
    fn partners(&self, now_s: f64, pools: &[Member], asked: &[(usize, u32)]) -> Vec<(usize, u32)> {
        let net: i64 = asked.iter().map(|&(pool, replicas)| change(&pools[pool], replicas)).sum();
        let mut candidates: Vec<(usize, u32)> = (0..pools.len())
            .filter(|pool| asked.iter().all(|(asking, _)| asking != pool))
            .filter_map(|pool| {
                Some((
                    pool,
                    self.intents[pool].filter(|intent| now_s - intent.at_s <= self.intent_ttl_s)?.replicas,
                ))
            })
            .filter(|&(pool, wanted)| change(&pools[pool], wanted).signum() * net.signum() < 0)
            .collect();
        let changing =
            asked.iter().filter(|&&(pool, replicas)| replicas != pools[pool].replicas).map(|&(pool, _)| pool);
        let tolerance = changing
            .chain(candidates.iter().map(|&(pool, _)| pool))
            .map(|pool| pools[pool].devices)
            .max()
            .unwrap_or(0);
        // Those of the deployment that asks come first among equals.
        let deployment = asked.first().map(|&(pool, _)| pools[pool].deployment);
        candidates.sort_by_key(|&(pool, wanted)| {
            (change(&pools[pool], wanted).abs(), Some(pools[pool].deployment) != deployment)
        });
        let mut changes = asked.to_vec();
        for &(pool, wanted) in &candidates {
            let before = total(pools, &changes);
            let after = before + change(&pools[pool], wanted);
            let falls_short = (net > 0 && self.most.is_some_and(|most| after > most))
                || (net < 0 && self.least.is_some_and(|least| after < least - tolerance));
            if self.is_within(after, tolerance) || falls_short {
                changes.push((pool, wanted));
                continue;
            }
            changes.extend(
                self.in_part(&pools[pool], wanted, before, tolerance).map(|replicas| (pool, replicas)),
            );
            break;
        }
        let is_within = |changes: &[(usize, u32)]| self.is_within(total(pools, changes), tolerance);
        if changes.len() > asked.len() && !is_within(&changes) {
            let (pool, wanted) = changes.pop().expect("a partner");
            let in_part = self.in_part(&pools[pool], wanted, total(pools, &changes), tolerance);
            changes.push((pool, in_part.unwrap_or(wanted)));
        }
        if is_within(&changes) { changes.split_off(asked.len()) } else { Vec::new() }
    }

    /// As many of the replicas that are wanted as lead to the edge of the bounds from where the whole is
    /// without; `None` if none do.
    fn in_part(&self, pool: &Member, wanted: u32, without: i64, tolerance: i64) -> Option<u32> {
        let now = i64::from(pool.replicas);
        let replicas = if wanted > pool.replicas {
            match self.most {
                Some(most) if most <= without => return None,
                Some(most) => i64::from(wanted).min(now + (most - without) / pool.devices),
                None => i64::from(wanted),
            }
        } else {
            match self.least.map(|least| least - tolerance) {
                Some(least) if without < least => return None,
                Some(least) => i64::from(wanted).max(now - (without - least) / pool.devices),
                None => i64::from(wanted),
            }
        };
        u32::try_from(replicas).ok().filter(|&replicas| replicas != pool.replicas)
    }

    fn is_within(&self, devices: i64, tolerance: i64) -> bool {
        self.most.is_none_or(|most| devices <= most)
            && self.least.is_none_or(|least| devices >= least - tolerance)
    }
}

/// Devices that come with so many replicas instead of those there are.
fn change(pool: &Member, replicas: u32) -> i64 {
    (i64::from(replicas) - i64::from(pool.replicas)) * pool.devices
}

/// Devices of all pools after some have changed.
fn total(pools: &[Member], changes: &[(usize, u32)]) -> i64 {
    let now: i64 = pools.iter().map(|pool| i64::from(pool.replicas) * pool.devices).sum();
    now + changes.iter().map(|&(pool, replicas)| change(&pools[pool], replicas)).sum::<i64>()
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    struct Case {
        most: Option<i64>,
        least: Option<i64>,
        ttl_s: f64,
        pools: Vec<(usize, i64, u32)>,
        wishes: Vec<Wish>,
    }

    /// When, what is asked for, and what the program granted.
    type Wish = (f64, Vec<(usize, u32)>, Option<Vec<(usize, u32)>>);

    /// What the program itself granted: `python/real_controllers/global_planner.py` has drawn the cases and
    /// run it.
    #[test]
    fn wishes_are_granted_as_the_program_grants_them() {
        let cases: Vec<Case> =
            serde_json::from_str(include_str!("../../../../tests/data/global_planner.json")).unwrap();
        let (mut refused, mut paired) = (0, 0);
        for (number, case) in cases.iter().enumerate() {
            let mut pools: Vec<Member> = case
                .pools
                .iter()
                .map(|&(deployment, devices, replicas)| Member { replicas, devices, deployment })
                .collect();
            let mut planner = GlobalPlanner::new(pools.len(), case.most, case.least, case.ttl_s);
            for (now_s, asked, expected) in &case.wishes {
                let granted = planner.mediate(*now_s, &pools, asked);
                assert_eq!(granted, *expected, "case {number} at {now_s} s: {pools:?} ask {asked:?}");
                refused += u32::from(granted.is_none());
                paired += u32::from(granted.as_ref().is_some_and(|granted| granted.len() > asked.len()));
                granted.iter().flatten().for_each(|&(pool, replicas)| pools[pool].replicas = replicas);
            }
        }
        assert!(
            refused > 100 && paired > 50,
            "{refused} refused and {paired} paired are too few to tell anything"
        );
    }
}
