//! What all pools have together, and who gets how much of it.

use super::settings::{BudgetSettings, WhenFull};
use crate::simulation::engine::{Standing, Wishes};

/// A budget, and what waits for it.
#[derive(Debug)]
pub struct Budget {
    /// Most of what is counted: devices, or dollars an hour.
    limit: f64,
    /// What a replica of each pool takes of it.
    units: Vec<f64>,
    when_full: WhenFull,
    /// Pools that wait for room, in order, each with how many replicas.
    waiting: Vec<(usize, u32)>,
    /// Replicas in place of lost ones that have not found room yet, by pools.
    owed: Vec<u32>,
    /// Replicas that were asked for and got no room.
    pub cut: u64,
    /// Time in which no pool could have had one more replica.
    pub full_s: f64,
    is_full: bool,
}

/// Replicas that take so much each and fit in what is left.
fn fit(unit: f64, left: f64) -> u32 {
    if unit > 0.0 { (left.max(0.0) / unit).floor() as u32 } else { u32::MAX }
}

/// Dollars differ by less than this because of rounding.
const TOLERANCE: f64 = 1e-9;

impl Budget {
    /// For pools of so many devices, and dollars an hour, a replica.
    pub fn new(settings: Option<&BudgetSettings>, pools: &[(u64, f64)]) -> Self {
        let unlimited = BudgetSettings::default();
        let settings = settings.unwrap_or(&unlimited);
        let (limit, units) = match (settings.devices, settings.usd_per_hour) {
            (Some(devices), _) => (f64::from(devices), pools.iter().map(|pool| pool.0 as f64).collect()),
            (None, Some(usd)) => (usd * (1.0 + TOLERANCE), pools.iter().map(|pool| pool.1).collect()),
            (None, None) => (f64::INFINITY, vec![0.0; pools.len()]),
        };
        let owed = vec![0; pools.len()];
        Self { limit, units, when_full: settings.when_full, waiting: Vec::new(), owed, cut: 0, full_s: 0.0, is_full: false }
    }

    /// What is left of it.
    pub fn left(&self, standing: &[Standing]) -> f64 {
        let used = standing.iter().zip(&self.units).map(|(pool, unit)| f64::from(pool.existing + pool.starting) * unit);
        self.limit - used.sum::<f64>()
    }

    /// Whether anything waits for room.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.owed.iter().any(|&owed| owed > 0)
    }

    /// Accounts for time in which nothing has changed.
    pub fn pass(&mut self, elapsed_s: f64) {
        self.full_s += if self.is_full { elapsed_s } else { 0.0 };
    }

    /// How much there is of it.
    pub fn limit(&self) -> f64 {
        self.limit
    }

    /// What a replica of a pool takes of it.
    pub fn unit(&self, pool: usize) -> f64 {
        self.units[pool]
    }

    /// How many replicas each pool may start now, of those that are `asked` for, in this order.
    pub fn grant(&mut self, standing: &[Standing], wishes: &[Wishes], asked: &[(usize, u32)]) -> Vec<u32> {
        let mut left = self.left(standing);
        let mut granted = vec![0; wishes.len()];
        // Those in place of lost ones come first: nobody asks for them again.
        for (pool, wish) in wishes.iter().enumerate() {
            self.owed[pool] += wish.replacements;
            let given = self.owed[pool].min(fit(self.units[pool], left));
            self.owed[pool] -= given;
            granted[pool] += given;
            left -= f64::from(given) * self.units[pool];
        }
        // Whoever scales down waits for nothing any more; whoever asks again waits for what it asks now.
        self.waiting.retain_mut(|(pool, number)| {
            let wish = wishes[*pool];
            *number = if wish.ups > 0 { wish.ups } else { *number };
            wish.downs == 0
        });
        let waiting_before: Vec<usize> = self.waiting.iter().map(|(pool, _)| *pool).collect();
        let new = asked.iter().filter(|(pool, number)| *number > 0 && !waiting_before.contains(pool));
        self.waiting.extend(new);
        let mut blocked = false;
        for (pool, number) in &mut self.waiting {
            // In a queue nobody overtakes.
            let given = if blocked { 0 } else { fit(self.units[*pool], left).min(*number) };
            *number -= given;
            granted[*pool] += given;
            left -= f64::from(given) * self.units[*pool];
            blocked = self.when_full == WhenFull::Queue && *number > 0;
        }
        if self.when_full == WhenFull::Cut {
            self.cut += self.waiting.iter().map(|(_, number)| u64::from(*number)).sum::<u64>();
            self.waiting.clear();
        }
        self.waiting.retain(|(_, number)| *number > 0);
        let least = self.units.iter().copied().fold(f64::INFINITY, f64::min);
        self.is_full = left < least;
        granted
    }

    /// Looks again whether there is room.
    pub fn look(&mut self, standing: &[Standing]) {
        let least = self.units.iter().copied().fold(f64::INFINITY, f64::min);
        self.is_full = self.left(standing) < least;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wish(ups: u32, downs: u32, replacements: u32) -> Wishes {
        Wishes { ups, downs, replacements }
    }

    fn standing(existing: u32, starting: u32) -> Standing {
        Standing { existing, starting, ..Standing::default() }
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let settings = BudgetSettings { devices: Some(16), ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &[(4, 1.0), (2, 1.0)]);
        let pools = [standing(2, 0), standing(1, 1)];
        assert_eq!(budget.left(&pools), 4.0);
        assert_eq!(budget.grant(&pools, &[wish(3, 0, 0), wish(2, 0, 0)], &[(0, 3), (1, 2)]), [1, 0]);
        assert_eq!((budget.cut, budget.has_waiting()), (4, false));
        assert_eq!(budget.grant(&pools, &[wish(3, 0, 0), wish(1, 0, 0)], &[(1, 1), (0, 3)]), [0, 1], "the other way round");
    }

    #[test]
    fn a_queue_is_served_in_order_and_left_by_who_scales_down() {
        let settings = BudgetSettings { devices: Some(8), when_full: WhenFull::Queue, ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &[(4, 1.0), (1, 1.0)]);
        let full = [standing(1, 0), standing(4, 0)];
        assert_eq!(budget.grant(&full, &[wish(1, 0, 0), wish(0, 0, 0)], &[(0, 1), (1, 0)]), [0, 0]);
        let some = [standing(1, 0), standing(2, 0)];
        // Two are free, but the first needs four.
        assert_eq!(budget.grant(&some, &[wish(0, 0, 0), wish(1, 0, 0)], &[(0, 0), (1, 1)]), [0, 0]);
        assert_eq!(budget.grant(&some, &[wish(0, 1, 0), wish(0, 0, 0)], &[(0, 0), (1, 0)]), [0, 1]);
        assert!(!budget.has_waiting() && budget.cut == 0);
    }

    #[test]
    fn lost_replicas_come_first() {
        let settings = BudgetSettings { usd_per_hour: Some(10.0), ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &[(1, 3.0), (1, 5.0)]);
        let pools = [standing(1, 0), standing(0, 0)];
        assert_eq!(budget.grant(&pools, &[wish(2, 0, 0), wish(0, 0, 1)], &[(0, 2), (1, 0)]), [0, 1]);
        assert_eq!(budget.grant(&pools, &[wish(0, 0, 3), wish(0, 0, 0)], &[(0, 0), (1, 0)]), [2, 0]);
        assert!(budget.has_waiting(), "one is still owed");
    }
}
