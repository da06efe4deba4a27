//! Policies of several pools: one for each, by the pools' names.
//!
//! Rule: each pool follows its own policy, which sees that pool alone. A pool that is not named keeps its
//! `initial_replicas`. What is not of this form, one policy for all, is a copy of it for each pool.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    Autoscaler, AutoscalerSettings, Checked, LatencyTarget, PolicyContext, PolicySettings, Upstream,
};
use crate::choice;
use crate::settings::Faults;

/// Policies by the names of pools. Pools that are not named keep their `initial_replicas`.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(transparent)]
pub struct PerPoolSettings(pub BTreeMap<String, AutoscalerSettings>);

impl PolicySettings for PerPoolSettings {
    fn check(&self, faults: &mut Faults) {
        faults.require(!self.0.is_empty(), "", || {
            "no pool found, expected policies by the names of pools".into()
        });
        for (pool, policy) in &self.0 {
            faults.within(pool.as_str(), |faults| {
                faults.require(!matches!(policy, AutoscalerSettings::PerPool(_)), "", || {
                    "`per_pool` found, expected one pool's policy".into()
                });
                policy.check(faults);
            });
        }
    }

    fn upstream(&self) -> Upstream {
        Upstream {
            program: "a policy for each pool of a fleet",
            version: "",
            checked: Checked::Ours,
            left_out: "",
            knob: "those of its policies",
            signals: "those of its policies, each of its own pool",
            blind_to: "other pools",
        }
    }

    /// Nothing by itself: a fleet builds the policy of each pool.
    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        None
    }

    fn latency_targets(&self) -> Vec<LatencyTarget> {
        self.0.values().flat_map(|policy| policy.settings().latency_targets()).collect()
    }

    fn reaches_zero(&self) -> bool {
        self.0.values().all(|policy| policy.settings().reaches_zero())
    }
}

choice! {
    /// One policy that decides for all pools: what each pool's own policy wishes for, and who gets it.
    pub enum FleetRule {
        "independent" => Independent(LocalPolicies),
        "proportional" => Proportional(LocalPolicies),
        "greedy_by_score" => GreedyByScore(GreedySettings),
        "cheapest_per_capacity" => CheapestPerCapacity(LocalPolicies),
        "global_planner" => GlobalPlanner(GlobalPlannerSettings),
        "ilp" => Ilp(IlpSettings),
    }
}

/// What each pool would do by itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LocalPolicies {
    /// By the names of pools; those that are not named keep their `initial_replicas`.
    pub pools: BTreeMap<String, AutoscalerSettings>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GreedySettings {
    /// By the names of pools; those that are not named keep their `initial_replicas`.
    pub pools: BTreeMap<String, AutoscalerSettings>,
    /// How much a missing device of a pool weighs, by pools' names: 1 where nothing is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub priority: BTreeMap<String, f64>,
}

/// Dynamo's planner above planners: wishes that keep all pools within `cluster.budget.devices` and
/// `min_devices` are granted; others are remembered, and granted together with opposite ones of other pools
/// that make up for them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalPlannerSettings {
    /// By the names of pools; those that are not named keep their `initial_replicas`. What pools of one model
    /// ask for in one instant is one wish.
    pub pools: BTreeMap<String, AutoscalerSettings>,
    /// Fewest devices of all pools: a wish that leaves fewer is not granted by itself. With
    /// `cluster.budget.devices` as high, devices only change hands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min_devices: Option<u32>,
    /// How long a wish is remembered.
    #[serde(default = "intent_ttl_s")]
    pub intent_ttl_s: f64,
}

fn intent_ttl_s() -> f64 {
    360.0
}

/// An integer program: of all fleets within the budget the one in which models miss least of the capacity
/// that their pools' policies want (squares of missing shares, weighed by priority); of several such the
/// cheapest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IlpSettings {
    /// By the names of pools; those that are not named keep their `initial_replicas`.
    pub pools: BTreeMap<String, AutoscalerSettings>,
    /// How much what a model misses weighs, by models' names: 1 where nothing is said.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub priority: BTreeMap<String, f64>,
    /// Time for which a replica's price is weighed against that of a start: the longer, the sooner a cheaper
    /// kind takes the place of a dearer one.
    #[serde(default = "horizon_s")]
    pub horizon_s: f64,
}

fn horizon_s() -> f64 {
    3600.0
}

impl FleetRule {
    /// What each pool would do by itself.
    pub fn local(&self) -> &BTreeMap<String, AutoscalerSettings> {
        match self {
            Self::Independent(rule) | Self::Proportional(rule) | Self::CheapestPerCapacity(rule) => {
                &rule.pools
            }
            Self::GreedyByScore(rule) => &rule.pools,
            Self::GlobalPlanner(rule) => &rule.pools,
            Self::Ilp(rule) => &rule.pools,
        }
    }
}

impl PolicySettings for FleetRule {
    fn check(&self, faults: &mut Faults) {
        faults.within(self.name(), |faults| {
            faults.within("pools", |faults| PerPoolSettings(self.local().clone()).check(faults));
            if let Self::GreedyByScore(GreedySettings { priority, pools }) = self {
                faults.within("priority", |faults| {
                    for (pool, weight) in priority {
                        faults.positive(pool, *weight);
                        faults.require(pools.contains_key(pool), pool, || {
                            "not among `pools`, which have policies".into()
                        });
                    }
                });
            }
            if let Self::GlobalPlanner(GlobalPlannerSettings { intent_ttl_s, .. }) = self {
                faults.not_negative("intent_ttl_s", *intent_ttl_s);
            }
            if let Self::Ilp(IlpSettings { priority, horizon_s, .. }) = self {
                faults.positive("horizon_s", *horizon_s);
                faults.within("priority", |faults| {
                    priority.iter().for_each(|(model, weight)| faults.positive(model, *weight))
                });
            }
        });
    }

    fn upstream(&self) -> Upstream {
        let ours = |program, left_out| Upstream {
            program,
            version: "",
            checked: Checked::Read,
            left_out,
            knob: "those of its policies",
            signals: "those of its policies, and the budget",
            blind_to: "what one pool's wait costs another",
        };
        match self {
            Self::Independent(_) => Upstream {
                checked: Checked::Ours,
                ..ours("policies of pools on one budget, first come first served", "")
            },
            Self::Proportional(_) => ours(
                "Dynamo's clamp of prefill and decode to a budget of devices",
                "its floor of devices (`min_total_gpus`)",
            ),
            Self::GreedyByScore(_) => ours(
                "WVA's GreedyByScore",
                "growing prefill and decode in step, quotas by device, taking devices back",
            ),
            Self::CheapestPerCapacity(_) => ours("WVA's cost-aware optimizer", "scores of several analyzers"),
            Self::GlobalPlanner(_) => Upstream {
                version: "ai-dynamo 1.6.1",
                checked: Checked::Run,
                ..ours("Dynamo's GlobalPlanner", "patches of deployments that fail in part")
            },
            Self::Ilp(_) => {
                ours("SageServe's integer program", "its own forecast, which policies of pools stand in for")
            }
        }
    }

    /// Nothing by itself: a fleet builds the policy of each pool.
    fn build(&self, _: &PolicyContext) -> Option<Box<dyn Autoscaler>> {
        None
    }

    fn latency_targets(&self) -> Vec<LatencyTarget> {
        PerPoolSettings(self.local().clone()).latency_targets()
    }

    fn reaches_zero(&self) -> bool {
        self.local().values().all(|policy| policy.settings().reaches_zero())
    }
}

impl AutoscalerSettings {
    /// The policy of a pool; `None` if it has none.
    pub fn of_pool(&self, name: &str) -> Option<&Self> {
        match self {
            Self::PerPool(PerPoolSettings(policies)) => policies.get(name),
            Self::Fleet(rule) => rule.local().get(name),
            policy => Some(policy),
        }
    }

    /// Whether it needs pools that bear certain names.
    pub fn pools(&self) -> Vec<&str> {
        match self {
            Self::PerPool(PerPoolSettings(policies)) => policies.keys().map(String::as_str).collect(),
            Self::Fleet(rule) => rule.local().keys().map(String::as_str).collect(),
            _ => Vec::new(),
        }
    }
}
