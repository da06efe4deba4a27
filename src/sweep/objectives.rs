//! What a sweep is judged by: the two columns of the front, the reference point, the grouping of runs into families.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::settings::Faults;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Objectives {
    /// Metric column to minimise on one axis, such as `p90_e2e_s`.
    pub latency: String,
    /// Metric column to minimise on the other, such as `total_cost_usd`.
    pub cost: String,
    /// The reference point of hypervolumes. Without one, each workload's worst successful values are taken, which makes scores
    /// incomparable with other sweeps.
    pub reference: Option<Reference>,
    /// Further columns (such as `global_scheduler`) that tell families apart.
    pub group_by: Vec<String>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    pub latency: f64,
    pub cost: f64,
}

impl Default for Objectives {
    fn default() -> Self {
        Self { latency: "p90_e2e_s".into(), cost: "total_cost_usd".into(), reference: None, group_by: Vec::new() }
    }
}

impl Objectives {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(reference) = self.reference {
            faults.within("reference", |faults| {
                faults.positive("latency", reference.latency);
                faults.positive("cost", reference.cost);
            });
        }
    }
}
