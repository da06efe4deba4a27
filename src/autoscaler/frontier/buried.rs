//! Replicas that cannot be helped: buried under a backlog that stays where it is, while the router keeps
//! sending them their share.
//!
//! A router that takes turns, or draws, does not look at load. What waits on a replica waits there, however
//! many join, and new requests go on queueing behind it. Where that takes longer than fresh replicas take to
//! come, it is better to order others in their place and to tell them to stop once these serve: they finish
//! what they have, and nothing more goes there. Routers that look at load need none of this.

use super::throughput::ThroughputCurve;
use crate::autoscaler::{ReplicaSignals, Snapshot};

/// A backlog that is worked off this soon after the next replicas have joined buries nobody.
const SOON_S: f64 = 1.0;
/// Nor one that makes requests no slower than so many times the latency of an empty replica.
const LATENCIES: f64 = 2.0;

/// Replicas that serve, by what they hold.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Buried {
    pub replicas: u32,
    /// Requests on them.
    pub requests: f64,
    /// Requests on all that serve, and those nobody has taken yet.
    pub all_requests: f64,
    /// Whether each that serves has something to do: then the one told to stop first is the longest there.
    pub all_busy: bool,
}

pub fn requests(replica: &ReplicaSignals) -> f64 {
    f64::from(replica.queued_requests + replica.running_requests)
}

impl Buried {
    /// Those that will still be buried when the next replicas have joined, `joins_in_s` from now, at such a
    /// rate of arrivals.
    pub fn of(snapshot: &Snapshot, curve: &ThroughputCurve, rate_per_s: f64, joins_in_s: f64) -> Self {
        let serving = || snapshot.replicas.iter().filter(|replica| !replica.draining);
        let share_per_s = rate_per_s / serving().count().max(1) as f64;
        let per_s = curve.saturation_per_s();
        let late_s = SOON_S.max(LATENCIES * curve.unloaded_s());
        let mut buried =
            Self { all_requests: f64::from(snapshot.unrouted_requests), all_busy: true, ..Self::default() };
        for replica in serving() {
            let held = requests(replica);
            buried.all_requests += held;
            buried.all_busy &= held > 0.0;
            let then = held + (share_per_s - per_s) * joins_in_s - curve.most_held();
            if then > late_s * per_s {
                buried.replicas += 1;
                buried.requests += held;
            }
        }
        buried
    }
}
