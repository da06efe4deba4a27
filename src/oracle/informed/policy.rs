//! Policies that know how traffic with bursts at random is drawn, and not what is drawn.

use serde::{Deserialize, Serialize};

use super::law::{Belief, BurstLaw};
use crate::autoscaler::{
    Arrivals, Autoscaler, Completion, Decision, FirstToken, Observes, ReplicaSignals, Snapshot,
};

/// Which latency is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Latency {
    EndToEnd,
    FirstToken,
}

/// One policy of the class.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BurstPolicy {
    /// Replicas between bursts: few, or enough to be prepared.
    pub low: u32,
    pub high: u32,
    /// A request that takes longer is late.
    pub late_s: f64,
    /// Prepared while more than this share of the requests are late.
    pub budget: f64,
    /// Of which requests: from those done so far (0) to those there will be in all (1).
    pub horizon: f64,
    /// Replicas ordered when a burst shows, few or prepared.
    pub order_low: u32,
    pub order_high: u32,
    /// Whether those that were there before the burst are told to stop, once those ordered serve and all are
    /// busy.
    pub replace: bool,
    /// Replicas once the backlog of a burst is gone.
    pub hold: u32,
    /// A burst of this age is over, whatever arrives.
    pub release_age_s: f64,
    /// Nobody is let go of after a burst while more requests than these are on a replica that serves.
    pub settled: f64,
}

/// What a policy knows before the run.
#[derive(Debug, Clone)]
pub struct Known {
    pub bursts: BurstLaw,
    pub latency: Latency,
    pub tick_s: f64,
    pub cold_start_s: f64,
    pub max_replicas: u32,
}

impl Known {
    /// Requests to expect from some time on.
    fn expected_from(&self, now_s: f64) -> f64 {
        let BurstLaw { base_rate_per_s, burst_rate_per_s, interval_s, duration_s, .. } = self.bursts;
        let share = self.bursts.burst_s() / interval_s;
        (duration_s - now_s).max(0.0) * (burst_rate_per_s * share + base_rate_per_s * (1.0 - share))
    }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Phase {
    Quiet,
    /// Ordered, and those that are to be replaced.
    Ordered {
        old: u32,
    },
    /// Those ordered serve.
    Joined,
}

/// How long a level between bursts lasts at least, in cold starts: so an order is never dropped on arrival.
const LEAST_STAY: f64 = 2.0;
/// A burst is taken to be under way above this probability.
const LIKELY: f64 = 0.5;

pub struct Informed {
    policy: BurstPolicy,
    known: Known,
    belief: Belief,
    phase: Phase,
    prepared: bool,
    prepared_since_s: f64,
    /// Told that the burst under way is over.
    released: bool,
    arrived: usize,
    done: f64,
    late: f64,
}

impl Informed {
    pub fn new(policy: BurstPolicy, known: Known) -> Self {
        let belief = Belief::new(&known.bursts, known.tick_s);
        Self {
            policy,
            known,
            belief,
            phase: Phase::Quiet,
            prepared: false,
            prepared_since_s: f64::NEG_INFINITY,
            released: false,
            arrived: 0,
            done: 0.0,
            late: 0.0,
        }
    }

    fn level(&self) -> u32 {
        if self.prepared { self.policy.high } else { self.policy.low }
    }

    /// Whether to be prepared from now on, which is not asked again too soon.
    fn prepare(&mut self, now_s: f64, outstanding: u32) {
        if now_s < self.prepared_since_s + LEAST_STAY * self.known.cold_start_s {
            return;
        }
        let in_all = self.done + f64::from(outstanding) + self.known.expected_from(now_s);
        let of = self.done + self.policy.horizon * (in_all - self.done);
        let prepared = self.late > self.policy.budget * of;
        if prepared != self.prepared {
            (self.prepared, self.prepared_since_s) = (prepared, now_s);
        }
    }

    /// Lets go of those above a level once the backlog is gone.
    fn down_to(&self, level: u32, snapshot: &Snapshot) -> Decision {
        let held: u32 = serving(snapshot).map(requests).sum();
        let settled = f64::from(held) <= self.policy.settled * f64::from(snapshot.serving.max(1));
        let surplus = snapshot.committed().saturating_sub(level.max(1));
        if settled && surplus > 0 { Decision::Down(surplus) } else { Decision::Hold }
    }
}

fn serving<'a>(snapshot: &'a Snapshot) -> impl Iterator<Item = &'a ReplicaSignals> {
    snapshot.replicas.iter().filter(|replica| !replica.draining)
}

fn requests(replica: &ReplicaSignals) -> u32 {
    replica.queued_requests + replica.running_requests
}

impl Autoscaler for Informed {
    fn observes(&self) -> Observes {
        Observes { arrivals: true, latencies: true, replica_requests: true, ..Observes::default() }
    }

    fn tick_interval_s(&self) -> Option<f64> {
        Some(self.known.tick_s)
    }

    fn observe_arrivals(&mut self, arrivals: Arrivals) {
        self.arrived += arrivals.arrived_at_s.len();
    }

    fn observe_latencies(&mut self, first_tokens: &[FirstToken], completions: &[Completion]) {
        let late_s = self.policy.late_s;
        let (done, late) = match self.known.latency {
            Latency::EndToEnd => (
                completions.len(),
                completions
                    .iter()
                    .filter(|request| request.completed_at_s - request.arrived_at_s > late_s)
                    .count(),
            ),
            Latency::FirstToken => (
                first_tokens.len(),
                first_tokens.iter().filter(|request| request.at_s - request.arrived_at_s > late_s).count(),
            ),
        };
        self.done += done as f64;
        self.late += late as f64;
    }

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision {
        // The first tick looks back on nothing.
        if now_s > 0.0 {
            self.belief.tick(std::mem::take(&mut self.arrived));
        }
        let burst = self.belief.burst() > LIKELY;
        if burst && self.phase != Phase::Quiet && self.belief.age_s() >= self.policy.release_age_s {
            self.released = true;
        }
        if !burst && (self.released || self.phase != Phase::Quiet) {
            (self.phase, self.released) = (Phase::Quiet, false);
        }
        match self.phase {
            Phase::Quiet if burst => {
                let order = if self.prepared { self.policy.order_high } else { self.policy.order_low };
                let committed = snapshot.committed();
                let order =
                    order.min(self.known.max_replicas.saturating_sub(snapshot.serving + snapshot.starting));
                self.phase = Phase::Ordered { old: if self.policy.replace { committed } else { 0 } };
                if order > 0 { Decision::Up(order) } else { Decision::Hold }
            }
            Phase::Ordered { .. } | Phase::Joined if self.released => self.down_to(self.level(), snapshot),
            Phase::Ordered { old } => {
                if snapshot.starting > 0 {
                    return Decision::Hold;
                }
                // While one is idle it would be the one to go.
                if old > 0
                    && serving(snapshot).any(|replica| requests(replica) == 0)
                    && self.belief.age_s() < self.policy.release_age_s / 2.0
                {
                    return Decision::Hold;
                }
                self.phase = Phase::Joined;
                match old.min(snapshot.committed().saturating_sub(self.policy.hold.max(1))) {
                    0 => Decision::Hold,
                    old => Decision::Down(old),
                }
            }
            Phase::Joined => self.down_to(self.policy.hold.max(self.level()), snapshot),
            Phase::Quiet => {
                self.prepare(now_s, snapshot.outstanding_requests);
                let (level, committed) = (self.level(), snapshot.committed());
                if committed < level {
                    return Decision::Up(
                        (level - committed).min(
                            self.known.max_replicas.saturating_sub(snapshot.serving + snapshot.starting),
                        ),
                    );
                }
                self.down_to(level, snapshot)
            }
        }
    }

    fn evidence(&self) -> Vec<(&'static str, f64)> {
        vec![
            ("burst_probability", self.belief.burst()),
            ("late_requests", self.late),
            ("completed_requests", self.done),
            ("level_replicas", self.level().into()),
        ]
    }
}
