//! Least outstanding requests: each request to the replica with the fewest unfinished ones, ties to the lowest id.
//!
//! Source: the lab's exercise. The replica with the fewest is also the one drained first, since it will be done soonest.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::min_tree::MinTree;
use super::{GlobalScheduler, Target};

#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LeastOutstandingSettings {}

#[derive(Debug, Default)]
pub struct LeastOutstanding {
    tree: MinTree,
}

impl GlobalScheduler for LeastOutstanding {
    fn add(&mut self, target: Target) {
        self.tree.set(target.lane, Some((0, target.id)));
    }

    fn remove(&mut self, target: Target) {
        self.tree.set(target.lane, None);
    }

    fn route(&mut self) -> Option<Target> {
        self.tree.min().map(|(lane, _, id)| Target { lane, id })
    }

    fn choose_drain(&self) -> Option<Target> {
        self.tree.min().map(|(lane, _, id)| Target { lane, id })
    }

    fn observes_load(&self) -> bool {
        true
    }

    fn set_outstanding(&mut self, target: Target, outstanding: u32) {
        self.tree.set(target.lane, Some((outstanding, target.id)));
    }
}
