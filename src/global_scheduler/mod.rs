//! Which replica a request goes to, and which replica is drained first: one file a policy.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

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

/// Each request to the next replica in turn.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RoundRobinSettings {}

/// Each request to the replica with the fewest unfinished requests.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeastOutstandingSettings {}
