//! What a run can record beyond its metrics, for those who want to look inside.

use crate::replica_scheduler::Request;

/// One request, with its original lengths.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestRecord {
    pub request_id: u32,
    pub arrived_at_s: f64,
    pub prefill_tokens: u32,
    pub decode_tokens: u32,
    /// `None` for a request that was rejected before it was routed; likewise the times of what never
    /// happened.
    pub replica_id: Option<u32>,
    pub scheduled_at_s: Option<f64>,
    pub first_token_at_s: Option<f64>,
    pub completed_at_s: Option<f64>,
    pub restarts: u32,
    /// Tokens of its prompt that were cached when it was first admitted.
    pub cached_tokens: u32,
    /// Session and turn, where there are sessions.
    pub session: Option<(u32, u32)>,
    /// The pools it passed, where there are several.
    pub hops: Option<Hops>,
    /// Whether it ever arrived: the turns of a session that ended before did not.
    pub arrived: bool,
}

/// A request's way through a fleet; pools by their numbers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Hops {
    /// Where it began.
    pub pool: u32,
    /// Where it went on, if it was prefilled apart, and on which replica.
    pub decode_pool: Option<u32>,
    pub decode_replica_id: Option<u32>,
    pub prefill_end_s: Option<f64>,
    /// When there was room for its KV cache, and when that had arrived.
    pub transfer_start_s: Option<f64>,
    pub transfer_end_s: Option<f64>,
    /// Tokens of its prompt that the decode replica had already.
    pub reused_tokens: u32,
}

impl RequestRecord {
    /// A request to which nothing has happened yet.
    pub fn new(request_id: u32, arrived_at_s: f64, prefill_tokens: u32, decode_tokens: u32) -> Self {
        Self {
            request_id,
            arrived_at_s,
            prefill_tokens,
            decode_tokens,
            replica_id: None,
            scheduled_at_s: None,
            first_token_at_s: None,
            completed_at_s: None,
            restarts: 0,
            cached_tokens: 0,
            session: None,
            hops: None,
            arrived: true,
        }
    }

    /// A turn of a session, which may arrive later than it could, or never.
    pub fn in_session(self, session: u32, turn: u32) -> Self {
        Self { session: Some((session, turn)), arrived: false, ..self }
    }

    /// Takes down how far a request has come that leaves its replica, finished or not.
    pub(in crate::simulation) fn leave(&mut self, request: &Request, api_s: f64) {
        let happened = |at_s: f64| (!at_s.is_nan()).then_some(at_s);
        (self.arrived_at_s, self.arrived) = (request.arrived_at_s, true);
        self.replica_id = Some(request.replica_id.0);
        self.scheduled_at_s = happened(request.scheduled_at_s);
        self.first_token_at_s = happened(request.first_token_at_s + api_s);
        self.restarts = request.restarts;
        self.cached_tokens = request.cached_tokens;
    }
}

/// One batch.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchRecord {
    pub batch_id: u64,
    pub replica_id: u32,
    pub scheduled_at_s: f64,
    pub completed_at_s: f64,
    pub num_requests: u32,
    pub prefill_tokens: u64,
    pub decode_tokens: u64,
}

/// The cluster after a change of its replicas.
#[derive(Debug, Clone, PartialEq)]
pub struct ReplicaRecord {
    pub time_s: f64,
    /// Replicas that exist, draining ones included.
    pub num_replicas: u32,
    pub num_draining: u32,
    /// Replicas that start. A start changes nothing else unless it is paid, so not every start is a record of
    /// its own.
    pub num_starting: u32,
    /// Of these, those that wait for devices; absent where nobody does.
    pub num_pending: Option<u32>,
    /// Nodes that are paid, where nodes are told apart.
    pub num_nodes: Option<u64>,
    pub cost_per_hour_usd: f64,
}

/// A decision of the autoscaler, with what it saw.
#[derive(Debug, Clone, PartialEq)]
pub struct TuneRecord {
    pub time_s: f64,
    /// Replicas that exist, draining ones included.
    pub num_replicas: u32,
    pub pending_scale_ups: u32,
    /// Scale-downs decided whose replica has not left yet.
    pub pending_scale_downs: u32,
    /// As the policy decided, before limits.
    pub decision: i64,
    /// What was carried out, within `min_replicas` and `max_replicas`.
    pub applied: i64,
    /// Requests that wait or run.
    pub outstanding_requests: u32,
    pub evidence: Vec<(&'static str, f64)>,
}

/// Everything one run did. Batches are in order of their end; requests in order of arrival.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Detail {
    pub requests: Vec<RequestRecord>,
    pub batches: Vec<BatchRecord>,
    pub replicas: Vec<ReplicaRecord>,
    pub tunes: Vec<TuneRecord>,
    /// The same by pools, where there are several; above they are together.
    pub pools: Vec<PoolDetail>,
}

/// What the replicas of one pool did.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct PoolDetail {
    pub name: String,
    pub batches: Vec<BatchRecord>,
    pub replicas: Vec<ReplicaRecord>,
    pub tunes: Vec<TuneRecord>,
}

/// What curves of a run are made of, where a record of everything would cost too much: 16 bytes a request,
/// kept by a thread's workspace.
#[derive(Debug, Default)]
pub struct Trail {
    pub(super) is_kept: bool,
    /// Arrival and first time in a batch of each request that has left, in the order in which they left. Of
    /// one that never was in a batch these are equal.
    pub waits_s: Vec<(f64, f64)>,
    /// The same as in [`Detail`].
    pub replicas: Vec<ReplicaRecord>,
    /// Those of each pool of a fleet.
    pub of_pools: Vec<Vec<ReplicaRecord>>,
    /// When the last of them had left, for its client.
    pub left_at_s: f64,
}

impl Trail {
    pub(super) fn clear(&mut self, num_requests: Option<usize>) {
        self.is_kept = num_requests.is_some();
        self.waits_s.clear();
        self.waits_s.reserve_exact(num_requests.unwrap_or(0));
        self.replicas.clear();
        self.of_pools.clear();
        self.left_at_s = 0.0;
    }

    /// Takes down a request that leaves, for its client at some time.
    #[inline]
    pub(super) fn leave(&mut self, request: &Request, left_at_s: f64) {
        if self.is_kept {
            self.left_at_s = self.left_at_s.max(left_at_s);
            let waited = !request.scheduled_at_s.is_nan();
            self.waits_s.push((
                request.arrived_at_s,
                if waited { request.scheduled_at_s } else { request.arrived_at_s },
            ));
        }
    }
}
