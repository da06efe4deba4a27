//! One adapter for every controller that goes by scraped metrics and acts in loops of its own.
//!
//! The engine ticks at the greatest common divisor of a controller's intervals. At each tick the adapter
//! scrapes if that is due, tells the controller, and lets it decide if one of its loops is due. What differs
//! between controllers is their rule; how old what they see is, is settled here and in
//! [`signals`](super::signals).

use std::fmt::Debug;

use super::cadence::Cadence;
use super::signals::Signals;
use super::{Arrivals, Autoscaler, BatchSums, Completion, Decision, FirstToken, Observes, Snapshot};

/// What a controller is shown: its copy of the metrics, and the counts of replicas that any controller may
/// ask for at any time.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    pub now_s: f64,
    pub signals: &'a Signals,
    pub snapshot: &'a Snapshot<'a>,
}

/// A rule behind a scrape. `N` counts its intervals, the scrape's first unless it reads afresh.
pub trait Controller<const N: usize>: Debug + Send {
    /// A scrape has been taken.
    fn scraped(&mut self, _seen: &Seen) {}

    /// One loop at least is due.
    fn decide(&mut self, due: [bool; N], seen: &Seen) -> Decision;

    /// What the latest decision rested on.
    fn evidence(&self) -> Vec<(&'static str, f64)>;
}

/// A controller on the engine's ticks.
#[derive(Debug)]
pub struct Scraped<C, const N: usize> {
    observes: Observes,
    cadence: Cadence<N>,
    /// A scrape of its own, or one whenever a loop is due.
    afresh: bool,
    signals: Signals,
    controller: C,
}

impl<C: Controller<N> + 'static, const N: usize> Scraped<C, N> {
    /// Scrapes at the first interval; the others are loops. Counters are kept for rates over windows of up to
    /// `history_s`.
    pub fn boxed(
        observes: Observes,
        history_s: f64,
        intervals_s: [f64; N],
        controller: C,
    ) -> Box<dyn Autoscaler> {
        Box::new(Self {
            observes,
            cadence: Cadence::new(intervals_s),
            afresh: false,
            signals: Signals::new(history_s),
            controller,
        })
    }

    /// Reads metrics whenever a loop is due: nothing is held back in between.
    pub fn boxed_afresh(
        observes: Observes,
        history_s: f64,
        intervals_s: [f64; N],
        controller: C,
    ) -> Box<dyn Autoscaler> {
        Box::new(Self {
            observes,
            cadence: Cadence::new(intervals_s),
            afresh: true,
            signals: Signals::new(history_s),
            controller,
        })
    }
}

impl<C: Controller<N>, const N: usize> Autoscaler for Scraped<C, N> {
    fn observes(&self) -> Observes {
        self.observes
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.cadence.tick_interval_s())
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.signals.count_arrivals(arrivals);
    }

    fn observe_batch_sums(&mut self, sums: BatchSums) {
        self.signals.count_batches(sums);
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        self.signals.count_latencies(first_tokens, completions);
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        let due = self.cadence.tick();
        let loops = if self.afresh { &due[..] } else { &due[1..] };
        let acts = loops.contains(&true);
        if if self.afresh { acts } else { due[0] } {
            self.signals.scrape(now_s, snapshot);
            self.controller.scraped(&Seen { now_s, signals: &self.signals, snapshot });
        }
        if acts {
            self.controller.decide(due, &Seen { now_s, signals: &self.signals, snapshot })
        } else {
            Decision::Hold
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        self.controller.evidence()
    }
}
