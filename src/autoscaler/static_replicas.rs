//! A fixed number of replicas: the baseline every policy has to beat.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Autoscaler, Checked, PolicyContext, PolicySettings, Upstream};
use crate::settings::{Faults, MAX_REPLICAS};

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StaticSettings {
    /// Replicas from start to end; the cluster's `initial_replicas` and limits do not apply.
    pub replicas: u32,
}

impl PolicySettings for StaticSettings {
    fn check(&self, faults: &mut Faults) {
        faults.at_least("replicas", self.replicas.into(), 1);
        faults.at_most("replicas", self.replicas.into(), MAX_REPLICAS.into());
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "a fixed number of replicas",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "replicas",
            signals: "none",
            blind_to: "all traffic",
        }
    }

    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        None
    }

    fn initial_replicas(&self) -> Option<u32> {
        Some(self.replicas)
    }
}
