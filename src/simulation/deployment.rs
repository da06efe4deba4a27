//! What a deployment does between a decision and a device: which replica goes, which node one comes to, how
//! long that takes.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

/// Which replicas a scale-down takes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleDownOrder {
    /// Those that still start, the latest ordered first, and are paid no further; those that serve once none
    /// starts. As in Kubernetes, Ray and Dynamo.
    #[default]
    StartingFirst,
    /// Those that serve; what starts goes on starting. The lab's rule, and the only one up to results version 7.
    ServingFirst,
}

/// Which of the replicas that serve goes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleDownChoice {
    /// One that is idle; if all are busy, the global scheduler's choice. The lab's rule: no program knows who
    /// is idle.
    #[default]
    IdleFirst,
    /// That of a Kubernetes Deployment, also under KEDA, llm-d, AIBrix and Dynamo without Grove: on the node
    /// with most replicas (known with `node_pool`), then ready for a shorter time, then younger. Times are
    /// compared by the logarithm to base 2 of their nanoseconds, rounded down, so that replicas of like age
    /// go in random order. Of those that start, what waits for a node goes first. Deletion costs and restarts
    /// are taken as equal. Read: `ActivePodsWithRanks` in `pkg/controller/controller_utils.go`, since
    /// Kubernetes 1.22.
    ReplicaSet,
    /// Ray Serve's: on the node with fewest replicas, which frees nodes; the newest there, where Ray's is
    /// anyone. Needs `node_pool`. Read: `_get_replicas_to_stop` in `serve/_private/deployment_scheduler.py`;
    /// its head node, which goes last, is left out.
    FewestOnNode,
    /// The newest: Dynamo's with Grove (read: `DeletionSorter`), and what has the highest ordinal in a
    /// StatefulSet or LeaderWorkerSet.
    NewestFirst,
}

/// Which node that has room a new replica goes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Placement {
    /// The emptiest, as Kubernetes' scheduler spreads replicas unless told otherwise, and Ray Serve.
    #[default]
    LeastAllocated,
    /// The fullest: bin packing (Kubernetes' `MostAllocated`, Ray Serve's compact strategy).
    MostAllocated,
}

/// The nodes that replicas lie on. Each is paid from its arrival until it is released, whatever lies on it;
/// replicas stay where they are put, so that one that leaves frees its node only if nobody else is there.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct NodePoolSettings {
    /// From the order of a node to its arrival. Nodes are ordered for replicas that find no room; they start
    /// (`scale_up_delay_s`) once their node is there. A node on order comes, needed or not. 0 if absent.
    pub provision_s: f64,
    /// Which node that has room a new replica goes to.
    pub placement: Placement,
    /// Nodes that are always there.
    pub min_nodes: u32,
    /// Most nodes, those on order included; no limit if absent. Replicas wait for room.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_nodes: Option<u32>,
    /// How long an empty node is kept. 0 as Karpenter's `consolidateAfter` may be; Kubernetes' cluster
    /// autoscaler waits for 600 s. Nodes that are not empty are kept: nobody is moved.
    pub release_after_s: f64,
}

impl NodePoolSettings {
    /// Checks for replicas of so many devices on nodes of so many, of which so many have to fit.
    pub(super) fn check(
        &self,
        devices_per_replica: u32,
        devices_per_node: u32,
        replicas: u32,
        faults: &mut Faults,
    ) {
        faults.not_negative("provision_s", self.provision_s);
        faults.not_negative("release_after_s", self.release_after_s);
        let Some(max_nodes) = self.max_nodes else { return };
        let needed = Fit::new(devices_per_replica, devices_per_node).nodes(replicas.max(1));
        faults.require(max_nodes >= self.min_nodes, "max_nodes", || {
            format!("{max_nodes} found, expected at least `min_nodes` ({})", self.min_nodes)
        });
        faults.require(u64::from(max_nodes) >= needed, "max_nodes", || {
            format!("{max_nodes} found, expected at least {needed}: `initial_replicas` and `min_replicas` have to fit, and one in any case")
        });
    }
}

/// How replicas fit on nodes that hold nothing else: several on one, or each on several that it has for
/// itself.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fit {
    pub replicas_per_node: u32,
    pub nodes_per_replica: u32,
}

impl Fit {
    pub fn new(devices_per_replica: u32, devices_per_node: u32) -> Self {
        let (replica, node) = (devices_per_replica.max(1), devices_per_node.max(1));
        Self { replicas_per_node: (node / replica).max(1), nodes_per_replica: replica.div_ceil(node) }
    }

    /// Nodes that so many replicas need at least.
    pub fn nodes(self, replicas: u32) -> u64 {
        u64::from(replicas).div_ceil(self.replicas_per_node.into()) * u64::from(self.nodes_per_replica)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn replicas_fit_whole() {
        let nodes = |replica, node, replicas| Fit::new(replica, node).nodes(replicas);
        assert_eq!([nodes(4, 8, 1), nodes(4, 8, 2), nodes(4, 8, 3), nodes(4, 8, 0)], [1, 1, 2, 0]);
        assert_eq!([nodes(3, 8, 2), nodes(3, 8, 3)], [1, 2], "two of the eight are left over");
        assert_eq!([nodes(16, 8, 3), nodes(12, 8, 3)], [6, 6]);
    }

    #[test]
    fn a_pool_holds_what_has_to_fit() {
        let faults =
            |max_nodes, min_nodes| {
                let mut faults = Faults::default();
                NodePoolSettings { max_nodes: Some(max_nodes), min_nodes, ..NodePoolSettings::default() }
                    .check(4, 8, 5, &mut faults);
                faults
                    .found
                    .into_iter()
                    .map(|fault| format!("{}: {}", fault.path, fault.message))
                    .collect::<Vec<_>>()
            };
        assert_eq!(faults(3, 0), [""; 0]);
        assert!(
            faults(2, 0)[0].starts_with("max_nodes: 2 found, expected at least 3: "),
            "{:?}",
            faults(2, 0)
        );
        assert!(faults(3, 4)[0].contains("at least `min_nodes` (4)"));
    }
}
