//! A budget of late requests: how much insurance against surges is worth while a quantile still has room, or
//! has none left.
//!
//! A P90 forgives one request in ten. Who keeps replicas for surges in all of the time pays for a better
//! quantile than was asked for; who never does has each surge late. So what a surge costs is weighted by how
//! the budget stands: lateness beyond it, over what may be late in a minute, is raised to a power. It is the
//! feedback that counts: a constant weight gains next to nothing (docs/which-policy-when.md).
//!
//! Where the knob follows the target, too, the price of latency is what brings the quantile there, and the
//! weight only helps: so it answers gently, minutes are those of the mean traffic, whose budget does not
//! shrink in a lull, and a part of what the next surge would make late is set aside, or each surge that comes
//! last would leave the quantile above its target.

use crate::autoscaler::Completion;

/// Requests of about this time count as the past.
const MEMORY_S: f64 = 3600.0;
/// Lateness is measured in the budget of so long a time.
const UNIT_S: f64 = 60.0;
/// How strongly the weight answers: beside a service level, and where the knob follows the target.
const GAIN: f64 = 4.0;
const GENTLE_GAIN: f64 = 1.0;
/// Least and most weight: insurance is never quite off, nor without bounds.
pub const LEAST: f64 = 0.1;
const MOST: f64 = 10.0;
/// Where the knob follows the target: the factor of `theta` in one unit of lateness and five minutes.
const DRIFT_S: f64 = 300.0;
/// The same: of the requests of a surge for which nobody is prepared, the part that is set aside.
const SET_ASIDE: f64 = 0.25;

/// What a target is for unless told.
pub const P90: f64 = 0.9;

pub fn is_p90(quantile: &f64) -> bool {
    *quantile == P90
}

pub fn is_least(weight: &f64) -> bool {
    *weight == LEAST
}

#[derive(Debug, Clone)]
pub struct LateBudget {
    target_s: f64,
    forgiven: f64,
    keep: f64,
    least: f64,
    tick_s: f64,
    /// Seconds that count as the past.
    past_s: f64,
    done: f64,
    late: f64,
    /// Share of a unit beyond the budget; negative while there is room.
    over: f64,
    /// What the price of latency is multiplied by, where it follows the target.
    factor: Option<f64>,
}

impl LateBudget {
    /// `least` is the least weight; `follows` says whether the price of latency is to follow the target, too.
    pub fn new(target_s: f64, quantile: f64, least: f64, tick_s: f64, follows: bool) -> Self {
        let keep = libm::exp(-tick_s / MEMORY_S);
        let factor = follows.then_some(1.0);
        Self {
            target_s,
            forgiven: 1.0 - quantile,
            keep,
            least,
            tick_s,
            past_s: 0.0,
            done: 0.0,
            late: 0.0,
            over: 0.0,
            factor,
        }
    }

    /// Takes in what was completed in a tick.
    pub fn observe(&mut self, completions: &[Completion]) {
        let late = completions
            .iter()
            .filter(|request| request.completed_at_s - request.arrived_at_s > self.target_s)
            .count();
        self.done = self.keep * self.done + completions.len() as f64;
        self.late = self.keep * self.late + late as f64;
    }

    /// Ends a tick with such a rate of arrivals, when a surge would bring so many requests before anybody
    /// could help.
    pub fn tick(&mut self, rate_per_s: f64, surge_requests: f64) {
        self.past_s = self.keep * self.past_s + self.tick_s;
        let (per_s, set_aside) = match self.factor {
            None => (rate_per_s, 0.0),
            Some(_) => (self.done / self.past_s, SET_ASIDE * surge_requests),
        };
        let unit = self.forgiven * (per_s * UNIT_S).max(1.0);
        self.over = (self.late + set_aside - self.forgiven * self.done) / unit;
        if let Some(factor) = &mut self.factor {
            *factor = (*factor * libm::exp(self.tick_s / DRIFT_S * self.over.clamp(-2.0, 2.0)))
                .clamp(1.0 / 128.0, 128.0);
        }
    }

    /// What the cost of a surge is multiplied by.
    pub fn weight(&self) -> f64 {
        libm::exp(if self.factor.is_some() { GENTLE_GAIN } else { GAIN } * self.over).clamp(self.least, MOST)
    }

    /// What the price of latency is multiplied by.
    pub fn factor(&self) -> f64 {
        self.factor.unwrap_or(1.0)
    }

    /// Share of a minute's budget that is overdrawn.
    pub fn over(&self) -> f64 {
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completion(latency_s: f64) -> Completion {
        Completion {
            arrived_at_s: 10.0,
            first_token_at_s: 10.0,
            completed_at_s: 10.0 + latency_s,
            prefill_tokens: 1,
            decode_tokens: 1,
        }
    }

    /// One late request in ten is the budget: then all weights are one. More are dearer, fewer cheaper, and
    /// no more than so much.
    #[test]
    fn the_weight_follows_the_budget() {
        let after = |late: usize, done: usize, surge_requests: f64, follows: bool| {
            let mut budget = LateBudget::new(1.0, 0.9, LEAST, 1.0, follows);
            let completions: Vec<Completion> =
                (0..done).map(|i| completion(if i < late { 2.0 } else { 0.5 })).collect();
            budget.observe(&completions);
            budget.tick(1.0, surge_requests);
            (budget.weight(), budget.factor())
        };
        for follows in [false, true] {
            let (weight, factor) = after(10, 100, 0.0, follows);
            assert!((weight - 1.0).abs() < 1e-12 && (factor - 1.0).abs() < 1e-12);
        }
        // A request over, of the six that a minute of one a second forgives: surges are no concern of this
        // weight.
        assert!((after(11, 100, 80.0, false).0 - libm::exp(4.0 / 6.0)).abs() < 1e-9);
        assert_eq!((after(90, 100, 0.0, false).0, after(0, 1000, 0.0, false).0), (MOST, LEAST));
        // The same of the six hundred of a minute of the mean traffic, and twenty of a surge of eighty.
        let (weight, factor) = after(11, 100, 80.0, true);
        assert!(
            (weight - libm::exp(21.0 / 600.0)).abs() < 1e-9
                && (factor - libm::exp(21.0 / 600.0 / 300.0)).abs() < 1e-9
        );
        assert!(after(9, 100, 0.0, true).1 < 1.0 && after(9, 100, 0.0, true).0 < 1.0);
    }

    #[test]
    fn insurance_may_be_kept_whatever_is_forgiven() {
        let mut budget = LateBudget::new(1.0, 0.9, 0.8, 1.0, false);
        budget.observe(&vec![completion(0.5); 1000]);
        budget.tick(1.0, 0.0);
        assert!(budget.over() < -10.0 && budget.weight() == 0.8);
        budget.observe(&vec![completion(2.0); 1000]);
        budget.tick(1.0, 0.0);
        assert_eq!(budget.weight(), MOST);
    }

    #[test]
    fn the_past_is_forgotten() {
        let mut budget = LateBudget::new(1.0, 0.9, LEAST, 1.0, false);
        budget.observe(&vec![completion(2.0); 100]);
        (0..3600).for_each(|_| budget.observe(&[]));
        budget.tick(10.0, 0.0);
        assert!((budget.over() - 90.0 * libm::exp(-1.0) / 60.0).abs() < 1e-9);
        assert_eq!(budget.factor(), 1.0);
    }
}
