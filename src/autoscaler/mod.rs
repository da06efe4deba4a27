//! When to add and drain replicas: one file a policy, one line here.

mod envelope;
mod inferline;
mod service_level;
mod static_replicas;

pub use envelope::TrafficEnvelope;
pub use inferline::InferlineSettings;
pub use service_level::ServiceLevelSettings;
pub use static_replicas::StaticSettings;

use crate::choice;
use crate::settings::Faults;

choice! {
    /// When replicas are added and drained.
    pub enum AutoscalerSettings {
        "static" => Static(StaticSettings),
        "inferline" => Inferline(InferlineSettings),
        "service_level" => ServiceLevel(ServiceLevelSettings),
    }
}

impl AutoscalerSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| match self {
            Self::Static(settings) => settings.check(faults),
            Self::Inferline(settings) => settings.check(faults),
            Self::ServiceLevel(settings) => settings.check(faults),
        });
    }
}

/// Requests that arrived since the last decision, as columns of equal length.
#[derive(Debug, Clone, Copy)]
pub struct Arrivals<'a> {
    pub arrived_at_s: &'a [f64],
    pub prefill_tokens: &'a [u32],
    /// True output lengths. No real controller knows them on arrival; only the lab's InferLine rule asks for them.
    pub decode_tokens: &'a [u32],
}

/// A batch that ended since the last decision.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BatchEnd {
    pub scheduled_at_s: f64,
    pub completed_at_s: f64,
    pub tokens: u64,
}

/// The cluster at the moment of a decision, settled: everything before this instant has happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Snapshot {
    /// Replicas that take requests.
    pub serving: u32,
    /// Replicas that finish what they have and then leave.
    pub draining: u32,
    /// Scale-ups decided and not yet serving.
    pub starting: u32,
    /// Scale-downs decided of which no replica has been chosen yet.
    pub stopping: u32,
    /// Requests that have arrived and not finished.
    pub outstanding_requests: u32,
}

impl Snapshot {
    /// Replicas that will serve once all pending decisions have taken effect. Decisions are relative to this.
    pub fn committed(&self) -> u32 {
        (self.serving + self.starting).saturating_sub(self.stopping)
    }
}

/// What to change. The engine applies delays and limits and keeps count, so a policy cannot count twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Hold,
    Up(u32),
    Down(u32),
}

impl Decision {
    /// From the replicas there will be to those there should be.
    pub fn towards(committed: u32, target: u32) -> Self {
        match target.cmp(&committed) {
            std::cmp::Ordering::Greater => Self::Up(target - committed),
            std::cmp::Ordering::Less => Self::Down(committed - target),
            std::cmp::Ordering::Equal => Self::Hold,
        }
    }

    /// Replicas added (positive) or drained (negative).
    pub fn signed(self) -> i64 {
        match self {
            Self::Hold => 0,
            Self::Up(n) => i64::from(n),
            Self::Down(n) => -i64::from(n),
        }
    }
}

/// A policy. At each tick it is told what arrived and what ended since the last, in order of time, and then decides.
pub trait Autoscaler: Send {
    /// Whether [`Self::observe_arrivals`] and [`Self::observe_batches`] are of interest.
    fn observes(&self) -> Observes {
        Observes::default()
    }

    fn observe_arrivals(&mut self, _arrivals: Arrivals) {}

    fn observe_batches(&mut self, _batches: &[BatchEnd]) {}

    fn decide(&mut self, now_s: f64, snapshot: &Snapshot) -> Decision;

    /// What the latest decision rested on, for records: names and values.
    fn evidence(&self) -> Vec<(&'static str, f64)> {
        Vec::new()
    }
}

/// What a policy wants to be told; the engine saves itself the rest.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Observes {
    pub arrivals: bool,
    pub batches: bool,
}

impl AutoscalerSettings {
    /// The policy, or `None` where nothing is ever decided.
    pub fn build(&self) -> Option<Box<dyn Autoscaler>> {
        match self {
            Self::Static(_) => None,
            Self::Inferline(settings) => Some(Box::new(inferline::Inferline::new(settings, 1.0))),
            Self::ServiceLevel(settings) => Some(Box::new(service_level::build(settings))),
        }
    }
}
