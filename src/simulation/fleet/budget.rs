//! What all pools have together, and who gets how much of it.

use super::settings::{BudgetSettings, WhenFull};
use crate::simulation::engine::{Standing, Wishes};

/// A budget, and what waits for it.
#[derive(Debug)]
pub struct Budget {
    /// Most of what is counted, devices or dollars an hour: in all, or of each kind of node.
    limits: Vec<f64>,
    /// Of each pool, which of these it takes from, and how much a replica takes.
    limit_of: Vec<usize>,
    units: Vec<f64>,
    when_full: WhenFull,
    /// Pools that wait for room, in order, each with how many replicas.
    waiting: Vec<(usize, u32)>,
    /// Replicas in place of lost ones that have not found room yet, by pools.
    owed: Vec<u32>,
    /// Replicas that were asked for and got no room, by pools.
    pub cut: Vec<u64>,
    /// Time in which no pool could have had one more replica.
    pub full_s: f64,
    is_full: bool,
    /// Time in which requests waited in a pool and there was no room for one more of its replicas.
    pub starved_s: Vec<f64>,
    is_starved: Vec<bool>,
}

/// What a replica of a pool takes.
#[derive(Debug, Clone, Copy)]
pub struct Takes<'a> {
    pub node: &'a str,
    pub devices: u64,
    pub usd_per_hour: f64,
}

/// Replicas that take so much each and fit in what is left.
fn fit(unit: f64, left: f64) -> u32 {
    if unit > 0.0 { (left.max(0.0) / unit).floor() as u32 } else { u32::MAX }
}

/// Dollars differ by less than this because of rounding.
pub const TOLERANCE: f64 = 1e-9;

impl Budget {
    /// Where `waits` what finds no room waits for it, whatever `when_full` says.
    pub fn new(settings: Option<&BudgetSettings>, pools: &[Takes], waits: bool) -> Self {
        let unlimited = BudgetSettings::default();
        let settings = settings.unwrap_or(&unlimited);
        let number = pools.len();
        let devices = || pools.iter().map(|pool| pool.devices as f64).collect();
        let (limits, units) = match (settings.devices, settings.usd_per_hour) {
            _ if !settings.devices_by_node.is_empty() => {
                (settings.devices_by_node.values().map(|&most| f64::from(most)).collect(), devices())
            }
            (Some(most), _) => (vec![f64::from(most)], devices()),
            (None, Some(usd)) => {
                (vec![usd * (1.0 + TOLERANCE)], pools.iter().map(|pool| pool.usd_per_hour).collect())
            }
            (None, None) => (vec![f64::INFINITY], vec![0.0; number]),
        };
        let place =
            |pool: &Takes| settings.devices_by_node.keys().position(|node| node == pool.node).unwrap_or(0);
        Self {
            limits,
            limit_of: pools.iter().map(place).collect(),
            units,
            when_full: if waits { WhenFull::Queue } else { settings.when_full },
            waiting: Vec::new(),
            owed: vec![0; number],
            cut: vec![0; number],
            full_s: 0.0,
            is_full: false,
            starved_s: vec![0.0; number],
            is_starved: vec![false; number],
        }
    }

    /// What is left of each limit.
    fn left(&self, standing: &[Standing]) -> Vec<f64> {
        let mut used = vec![0.0; self.limits.len()];
        for (pool, now) in standing.iter().enumerate() {
            used[self.limit_of[pool]] += f64::from(now.existing + now.starting) * self.units[pool];
        }
        std::iter::zip(&self.limits, used).map(|(limit, used)| limit - used).collect()
    }

    /// Whether no pool has room for one more replica.
    fn is_full(&self, left: &[f64]) -> bool {
        std::iter::zip(&self.limit_of, &self.units).all(|(&limit, &unit)| left[limit] < unit)
    }

    /// Whether anything waits for room.
    pub fn has_waiting(&self) -> bool {
        !self.waiting.is_empty() || self.owed.iter().any(|&owed| owed > 0)
    }

    /// Replicas that wait for room, by pools.
    pub fn waiting(&self) -> Vec<u32> {
        let mut waiting = vec![0; self.units.len()];
        self.waiting.iter().for_each(|&(pool, number)| waiting[pool] += number);
        waiting
    }

    /// Forgets what waits for room in a pool.
    pub fn forget(&mut self, pool: usize) {
        self.waiting.retain(|(waiting, _)| *waiting != pool);
    }

    /// Accounts for time in which nothing has changed.
    pub fn pass(&mut self, elapsed_s: f64) {
        self.full_s += if self.is_full { elapsed_s } else { 0.0 };
        for (starved_s, _) in
            std::iter::zip(&mut self.starved_s, &self.is_starved).filter(|(_, is_starved)| **is_starved)
        {
            *starved_s += elapsed_s;
        }
    }

    /// Takes note of which pools, of at most so many replicas each, want for room from now on.
    pub fn note(&mut self, standing: &[Standing], most: impl Iterator<Item = u32>) {
        let left = self.left(standing);
        for (pool, (now, most)) in std::iter::zip(standing, most).enumerate() {
            let may_grow = now.existing - now.draining + now.starting < most;
            self.is_starved[pool] =
                now.queued > 0 && may_grow && left[self.limit_of[pool]] < self.units[pool];
        }
    }

    /// Which limit a pool takes from, by its number, and how much that is.
    pub fn limit(&self, pool: usize) -> (usize, f64) {
        (self.limit_of[pool], self.limits[self.limit_of[pool]])
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
            let left = &mut left[self.limit_of[pool]];
            let given = self.owed[pool].min(fit(self.units[pool], *left));
            self.owed[pool] -= given;
            granted[pool] += given;
            *left -= f64::from(given) * self.units[pool];
            // A policy that missed them has asked for them, too.
            let mut replaced = given;
            for (_, number) in self.waiting.iter_mut().filter(|(waiting, _)| *waiting == pool) {
                let taken = replaced.min(*number);
                (*number, replaced) = (*number - taken, replaced - taken);
            }
        }
        // Whoever scales down waits for nothing any more; whoever asks again waits for what it asks now, once
        // however often it stands here.
        let mut renewed = vec![false; wishes.len()];
        self.waiting.retain_mut(|(pool, number)| {
            let wish = wishes[*pool];
            if wish.ups > 0 {
                *number = if std::mem::replace(&mut renewed[*pool], true) { 0 } else { wish.ups };
            }
            wish.downs == 0 && *number > 0
        });
        let waiting_before: Vec<usize> = self.waiting.iter().map(|(pool, _)| *pool).collect();
        let new = asked.iter().filter(|(pool, number)| *number > 0 && !waiting_before.contains(pool));
        self.waiting.extend(new);
        let mut blocked = vec![false; self.limits.len()];
        for (pool, number) in &mut self.waiting {
            let (left, blocked) = (&mut left[self.limit_of[*pool]], &mut blocked[self.limit_of[*pool]]);
            // In a queue nobody overtakes.
            let given = if *blocked { 0 } else { fit(self.units[*pool], *left).min(*number) };
            *number -= given;
            granted[*pool] += given;
            *left -= f64::from(given) * self.units[*pool];
            *blocked = self.when_full == WhenFull::Queue && *number > 0;
        }
        if self.when_full == WhenFull::Cut {
            for (pool, number) in self.waiting.drain(..) {
                self.cut[pool] += u64::from(number);
            }
        }
        self.waiting.retain(|(_, number)| *number > 0);
        self.is_full = self.is_full(&left);
        granted
    }

    /// Looks again whether there is room.
    pub fn look(&mut self, standing: &[Standing]) {
        self.is_full = self.is_full(&self.left(standing));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn wish(ups: u32, downs: u32, replacements: u32) -> Wishes {
        Wishes { ups, downs, replacements, decided: false }
    }

    fn takes(pools: &[(u64, f64)]) -> Vec<Takes<'static>> {
        pools.iter().map(|&(devices, usd_per_hour)| Takes { node: "n", devices, usd_per_hour }).collect()
    }

    fn standing(existing: u32, starting: u32) -> Standing {
        Standing { existing, starting, ..Standing::default() }
    }

    #[test]
    fn what_does_not_fit_is_cut() {
        let settings = BudgetSettings { devices: Some(16), ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &takes(&[(4, 1.0), (2, 1.0)]), false);
        let pools = [standing(2, 0), standing(1, 1)];
        assert_eq!(budget.left(&pools), [4.0]);
        assert_eq!(budget.grant(&pools, &[wish(3, 0, 0), wish(2, 0, 0)], &[(0, 3), (1, 2)]), [1, 0]);
        assert_eq!((&budget.cut[..], budget.has_waiting()), (&[2, 2][..], false));
        assert_eq!(
            budget.grant(&pools, &[wish(3, 0, 0), wish(1, 0, 0)], &[(1, 1), (0, 3)]),
            [0, 1],
            "the other way round"
        );
    }

    #[test]
    fn a_queue_is_served_in_order_and_left_by_who_scales_down() {
        let settings =
            BudgetSettings { devices: Some(8), when_full: WhenFull::Queue, ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &takes(&[(4, 1.0), (1, 1.0)]), false);
        let full = [standing(1, 0), standing(4, 0)];
        assert_eq!(budget.grant(&full, &[wish(1, 0, 0), wish(0, 0, 0)], &[(0, 1), (1, 0)]), [0, 0]);
        let some = [standing(1, 0), standing(2, 0)];
        // Two are free, but the first needs four.
        assert_eq!(budget.grant(&some, &[wish(0, 0, 0), wish(1, 0, 0)], &[(0, 0), (1, 1)]), [0, 0]);
        assert_eq!(budget.grant(&some, &[wish(0, 1, 0), wish(0, 0, 0)], &[(0, 0), (1, 0)]), [0, 1]);
        assert!(!budget.has_waiting() && budget.cut == [0, 0]);
    }

    #[test]
    fn whoever_waits_in_several_places_waits_once_for_what_it_asks_again() {
        let settings =
            BudgetSettings { devices: Some(4), when_full: WhenFull::Queue, ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &takes(&[(1, 1.0), (1, 1.0)]), false);
        let full = [standing(1, 0), standing(3, 0)];
        assert_eq!(budget.grant(&full, &[wish(3, 0, 0), wish(0, 0, 0)], &[(0, 1), (0, 1), (0, 1)]), [0, 0]);
        let free = [standing(1, 0), standing(0, 0)];
        assert_eq!(budget.grant(&free, &[wish(2, 0, 0), wish(0, 0, 0)], &[(0, 1), (0, 1)]), [2, 0]);
        assert!(!budget.has_waiting());
    }

    #[test]
    fn what_was_lost_is_replaced_once() {
        let settings =
            BudgetSettings { devices: Some(4), when_full: WhenFull::Queue, ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &takes(&[(1, 1.0), (1, 1.0)]), false);
        // One of the first pool's is lost while the others take its place; its policy asks for it as well.
        let full = [standing(0, 0), standing(4, 0)];
        assert_eq!(budget.grant(&full, &[wish(1, 0, 1), wish(0, 0, 0)], &[(0, 1)]), [0, 0]);
        let free = [standing(0, 0), standing(0, 0)];
        assert_eq!(budget.grant(&free, &[wish(0, 0, 0), wish(0, 0, 0)], &[]), [1, 0]);
        assert!(!budget.has_waiting());
    }

    #[test]
    fn each_kind_of_node_has_its_own_devices() {
        let by_node = BTreeMap::from([("big".to_owned(), 8), ("small".to_owned(), 2)]);
        let settings = BudgetSettings { devices_by_node: by_node, ..BudgetSettings::default() };
        let pool = |node, devices| Takes { node, devices, usd_per_hour: 1.0 };
        let mut budget =
            Budget::new(Some(&settings), &[pool("big", 4), pool("small", 1), pool("big", 4)], false);
        let now = [standing(1, 0), standing(1, 0), standing(0, 0)];
        assert_eq!(budget.left(&now), [4.0, 1.0]);
        // One of four devices is left for both pools of the first kind; the other kind is none of their
        // business.
        assert_eq!(
            budget.grant(&now, &[wish(1, 0, 0), wish(3, 0, 0), wish(1, 0, 0)], &[(0, 1), (1, 3), (2, 1)]),
            [1, 1, 0]
        );
        assert_eq!(budget.cut, [0, 2, 1]);
        assert!(budget.is_full);
        let waits = |queued| Standing { queued, existing: 1, ..Standing::default() };
        budget.note(&[waits(3), waits(3), standing(0, 0)], [9, 9, 9].into_iter());
        budget.pass(5.0);
        assert_eq!(budget.starved_s, [0.0; 3], "there is room for one more of each");
        budget.note(&[Standing { existing: 2, ..waits(3) }, waits(0), standing(0, 0)], [9, 9, 9].into_iter());
        budget.pass(5.0);
        assert_eq!(budget.starved_s, [5.0, 0.0, 0.0], "two of four devices are all there are");
        budget.note(&[Standing { existing: 2, ..waits(3) }, waits(0), standing(0, 0)], [2, 9, 9].into_iter());
        budget.pass(5.0);
        assert_eq!(budget.starved_s, [5.0, 0.0, 0.0], "it may not have more in any case");
    }

    #[test]
    fn lost_replicas_come_first() {
        let settings = BudgetSettings { usd_per_hour: Some(10.0), ..BudgetSettings::default() };
        let mut budget = Budget::new(Some(&settings), &takes(&[(1, 3.0), (1, 5.0)]), false);
        let pools = [standing(1, 0), standing(0, 0)];
        assert_eq!(budget.grant(&pools, &[wish(2, 0, 0), wish(0, 0, 1)], &[(0, 2), (1, 0)]), [0, 1]);
        assert_eq!(budget.grant(&pools, &[wish(0, 0, 3), wish(0, 0, 0)], &[(0, 0), (1, 0)]), [2, 0]);
        assert!(budget.has_waiting(), "one is still owed");
    }
}
