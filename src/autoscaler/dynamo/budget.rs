//! GPU budgets: a band that a decision may not leave, and that it may not be turned round to reach.
//!
//! Source: ai-dynamo 1.6.1, `planner/core/budget.py` (`guard_single_scaling_budget`).

/// GPUs that the engines may take, at most and at least.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GpuBudget {
    pub most: Option<u32>,
    pub least: Option<u32>,
    pub per_replica: u32,
}

impl GpuBudget {
    /// A proposal within the ceiling alone.
    pub fn below_ceiling(&self, current: u32, proposed: u32, min_endpoint: u32) -> u32 {
        Self { least: None, ..*self }.guard(current, proposed, min_endpoint)
    }

    /// A proposal within the band. From outside, the way is to the band; at its edge, a proposal beyond is a
    /// hold.
    pub fn guard(&self, current: u32, proposed: u32, min_endpoint: u32) -> u32 {
        if !self.has(current) {
            return self.clamped(current, min_endpoint);
        }
        let total = current * self.per_replica;
        let at_floor = self.least.is_some_and(|least| total <= least) && proposed < current;
        let at_ceiling = self.most.is_some_and(|most| total >= most) && proposed > current;
        if at_floor || at_ceiling {
            return current;
        }
        let target = self.clamped(proposed, min_endpoint);
        if (current.min(proposed)..=current.max(proposed)).contains(&target) { target } else { current }
    }

    /// Whole replicas need not hit a floor that has a ceiling above it: one less will do.
    fn has(&self, replicas: u32) -> bool {
        let total = replicas * self.per_replica;
        let slack = if self.least.is_some() && self.most.is_some() { self.per_replica } else { 0 };
        self.most.is_none_or(|most| total <= most) && self.least.is_none_or(|least| total + slack >= least)
    }

    fn clamped(&self, replicas: u32, min_endpoint: u32) -> u32 {
        if self.has(replicas) {
            return replicas;
        }
        match self.most {
            Some(most) if replicas * self.per_replica > most => {
                if most < min_endpoint * self.per_replica {
                    0
                } else {
                    min_endpoint.max(most / self.per_replica)
                }
            }
            _ => min_endpoint.max(self.least.unwrap_or(0).div_ceil(self.per_replica)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ceilings_hold_and_cut() {
        let budget = GpuBudget { most: Some(24), least: None, per_replica: 4 };
        assert_eq!(budget.guard(5, 9, 1), 6, "cut");
        assert_eq!(budget.guard(6, 9, 1), 6, "held at the ceiling");
        assert_eq!(budget.guard(6, 4, 1), 4);
        assert_eq!(budget.guard(8, 9, 1), 6, "from outside to the band");
        assert_eq!(GpuBudget { most: Some(3), ..budget }.guard(1, 2, 1), 0, "not even the least fits");
    }

    #[test]
    fn floors_hold_with_a_replica_of_slack_below_a_ceiling() {
        let floor = GpuBudget { most: None, least: Some(10), per_replica: 4 };
        assert_eq!(floor.guard(5, 1, 1), 3, "ceil(10 / 4)");
        assert_eq!(floor.guard(2, 1, 1), 3, "from outside to the band");
        let band = GpuBudget { most: Some(24), ..floor };
        assert_eq!(band.guard(2, 1, 1), 2, "within the slack");
        assert_eq!(band.below_ceiling(2, 1, 1), 1);
    }
}
