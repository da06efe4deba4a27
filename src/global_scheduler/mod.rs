//! Which replica a request goes to, and which replica is drained first: one file a policy, one line here.

mod least_outstanding;
mod min_tree;
mod round_robin;

pub use least_outstanding::LeastOutstandingSettings;
pub use round_robin::RoundRobinSettings;

use crate::choice;

choice! {
    /// How requests are routed to replicas.
    pub enum GlobalSchedulerSettings {
        "round_robin" => RoundRobin(RoundRobinSettings),
        "least_outstanding" => LeastOutstanding(LeastOutstandingSettings),
    }
}

impl Default for GlobalSchedulerSettings {
    fn default() -> Self {
        Self::RoundRobin(RoundRobinSettings {})
    }
}

/// A replica that may be given requests: where it is stored, and who it is. Ids grow in order of joining and are never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Target {
    pub lane: u32,
    pub id: u32,
}

/// The rule by which requests are spread over the replicas that serve. Draining replicas are removed and never come back.
pub trait GlobalScheduler: Send {
    fn add(&mut self, target: Target);

    fn remove(&mut self, target: Target);

    /// Where the next request goes; `None` without replicas.
    fn route(&mut self) -> Option<Target>;

    /// Which replica is drained if none is idle; `None` without replicas.
    fn choose_drain(&self) -> Option<Target>;

    /// Whether [`Self::set_outstanding`] is of interest.
    fn observes_load(&self) -> bool {
        false
    }

    /// The number of unfinished requests of a replica has changed.
    fn set_outstanding(&mut self, _target: Target, _outstanding: u32) {}
}

impl GlobalSchedulerSettings {
    pub fn build(&self) -> Box<dyn GlobalScheduler> {
        match self {
            Self::RoundRobin(_) => Box::new(round_robin::RoundRobin::default()),
            Self::LeastOutstanding(_) => Box::new(least_outstanding::LeastOutstanding::default()),
        }
    }
}
