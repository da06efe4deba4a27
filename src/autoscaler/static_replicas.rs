//! A fixed number of replicas: the baseline every policy has to beat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Autoscaler, PolicyContext, PolicySettings};
use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// Replicas from start to end; the cluster's `initial_replicas` and limits do not apply.
    pub replicas: u32,
}

impl PolicySettings for StaticSettings {
    fn check(&self, faults: &mut Faults) {
        faults.at_least("replicas", self.replicas.into(), 1);
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        None
    }

    fn initial_replicas(&self) -> Option<u32> {
        Some(self.replicas)
    }
}
