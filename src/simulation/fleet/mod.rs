//! Fleets: several pools, each an event loop of its own, and what joins them: which pool a request goes to,
//! the way of KV caches from prefill to decode, the budget all share. A pool knows nothing of the others; its
//! policy sees one pool, as ever.

mod accounts;
mod budget;
mod flow;
mod hops;
mod joint;
mod links;
mod merged;
mod routing;
mod run;
mod settings;

pub use settings::{
    BudgetSettings, Contention, FLEET_WIDE, FirstTokenFrom, IslBoundingSettings, KvTransferSettings,
    LengthSettings, NoSettings, PdDecider, Pool, PoolRouter, PrefillLoadSettings, PrefixBasedSettings,
    Reserve, Role, Sends, WeightedSettings, WhenFull,
};

use super::engine::{Outside, Workspace};
use super::{ClusterSettings, Detail, Parts, RunInputs, RunMetrics, SimulationError};
use crate::autoscaler::{AutoscalerSettings, FleetRule, Part};
use crate::hardware::{ExecutionTime, HardwareError};
use crate::settings::quoted;
use crate::workload::Workload;

/// Everything a run of a fleet depends on.
#[derive(Debug, Clone)]
pub struct FleetInputs<'a> {
    pub workload: &'a Workload,
    /// With pools.
    pub cluster: &'a ClusterSettings,
    pub autoscaler: &'a AutoscalerSettings,
    /// One for each pool.
    pub pools: Vec<RunInputs<'a>>,
}

/// Mixed with the number of a pool, so that each draws its own fates. The first keeps the seed of a run with
/// one pool.
const POOL_SEED: u64 = 0x9e37_79b9_7f4a_7c15;

impl<'a> FleetInputs<'a> {
    /// Puts a run together, with the step times of each pool.
    pub fn new(
        workload: &'a Workload,
        cluster: &'a ClusterSettings,
        autoscaler: &'a AutoscalerSettings,
        times: &[&'a ExecutionTime],
        seed: u64,
    ) -> Result<Self, HardwareError> {
        let run = |(number, (pool, &times)): (u64, (&'a Pool, &&'a ExecutionTime))| {
            let policy = autoscaler.of_pool(&pool.name).unwrap_or(autoscaler);
            let part = match pool.role {
                Role::Both => Part::Whole,
                Role::Prefill => Part::Prompts,
                Role::Decode => Part::Answers,
            };
            let seed = seed ^ number.wrapping_mul(POOL_SEED);
            RunInputs::new(workload, pool.settings(), policy, times, seed)
                .map(|inputs| RunInputs { part, ..inputs })
        };
        let pools = (0..).zip(cluster.pools.iter().zip(times)).map(run).collect::<Result<_, _>>()?;
        let fleet = Self { workload, cluster, autoscaler, pools };
        fleet.check_dollars()?;
        Ok(fleet)
    }

    /// What the fleet begins with has to be paid for out of the budget; devices are counted when settings are
    /// checked.
    fn check_dollars(&self) -> Result<(), HardwareError> {
        let Some(most) = self.cluster.budget.as_ref().and_then(|budget| budget.usd_per_hour) else {
            return Ok(());
        };
        let begins_with = |(pool, inputs): (&Pool, &RunInputs)| {
            let replicas = match self.autoscaler.of_pool(&pool.name) {
                Some(AutoscalerSettings::Static(fixed)) => fixed.replicas,
                _ => inputs.cluster.initial_replicas.max(inputs.cluster.min_replicas),
            };
            f64::from(replicas) * inputs.replica_cost_per_hour()
        };
        let needed: f64 = self.cluster.pools.iter().zip(&self.pools).map(begins_with).sum();
        if needed <= most * (1.0 + budget::TOLERANCE) {
            return Ok(());
        }
        Err(HardwareError::Unsupported(format!(
            "cluster.budget.usd_per_hour: {most} found, expected at least {needed:.2}: what all pools begin with (`initial_replicas`, \
             `min_replicas`, `static`) has to fit"
        )))
    }

    /// Whether somebody else than its policy decides how many replicas of a pool start.
    fn is_managed(&self) -> bool {
        self.cluster.budget.is_some() || self.joint().is_some()
    }

    /// What decides for all pools together, if anything does.
    fn joint(&self) -> Option<&'a FleetRule> {
        match self.autoscaler {
            AutoscalerSettings::Fleet(rule) => Some(rule),
            _ => None,
        }
    }

    fn outside(&self, pool: &Pool) -> Outside {
        Outside { is_pool: true, awaits_kv: pool.role == Role::Decode, is_managed: self.is_managed() }
    }

    fn all_parts(&self) -> Vec<Parts> {
        (0..self.pools.len()).map(|number| self.parts(number)).collect()
    }

    fn parts(&self, number: usize) -> Parts {
        let inputs = &self.pools[number];
        match self.autoscaler.of_pool(&self.cluster.pools[number].name) {
            Some(_) => Parts::of(inputs),
            // A pool without a policy stays as it is.
            None => Parts {
                scheduler: inputs.replica_scheduler(),
                autoscaler: None,
                initial_replicas: inputs.cluster.initial_replicas,
            },
        }
    }
}

/// Runs until the workload is over and every request has left.
pub fn simulate_fleet(
    inputs: &FleetInputs,
    workspace: &mut Workspace,
) -> Result<RunMetrics, SimulationError> {
    simulate_fleet_parts(inputs, inputs.all_parts(), workspace)
}

/// Runs what is not in the registries, by pools.
pub fn simulate_fleet_parts(
    inputs: &FleetInputs,
    parts: Vec<Parts>,
    workspace: &mut Workspace,
) -> Result<RunMetrics, SimulationError> {
    run::run(inputs, parts, workspace, None)
}

/// Runs one iteration at a time, recording every request, batch, change of replicas, decision and transfer.
pub fn simulate_fleet_in_detail(
    inputs: &FleetInputs,
    workspace: &mut Workspace,
) -> Result<(RunMetrics, Detail), SimulationError> {
    let mut inputs = inputs.clone();
    inputs.pools.iter_mut().for_each(|pool| pool.stepping = true);
    let mut detail = Detail::default();
    let metrics = run::run(&inputs, inputs.all_parts(), workspace, Some(&mut detail))?;
    Ok((metrics, detail))
}

/// The pools of one model.
#[derive(Debug, Clone, Default)]
struct Group {
    /// Those where a request begins, and those where it goes on if it is prefilled apart.
    first: Vec<usize>,
    decode: Vec<usize>,
}

impl FleetInputs<'_> {
    /// Pools by models, in the order of the workload's models; all of them together where it has one.
    fn groups(&self) -> Vec<Group> {
        let of_model = |model: Option<&str>| {
            let of = |is_decode: bool| {
                let pools = self.cluster.pools.iter().enumerate();
                let of_model =
                    pools.filter(move |(_, pool)| model.is_none_or(|model| pool.settings().model == model));
                of_model
                    .filter(move |(_, pool)| (pool.role == Role::Decode) == is_decode)
                    .map(|(number, _)| number)
                    .collect()
            };
            Group { first: of(false), decode: of(true) }
        };
        match &self.workload.models {
            None => vec![of_model(None)],
            Some(models) => models.names.iter().map(|name| of_model(Some(name))).collect(),
        }
    }

    /// The group of a request.
    fn group_of(&self, id: u32) -> usize {
        self.workload.models.as_ref().map_or(0, |models| models.of_request[id as usize].into())
    }
}

impl ClusterSettings {
    /// Why its pools cannot serve a workload, if they cannot.
    pub fn cannot_serve(&self, workload: &Workload) -> Option<String> {
        let served: std::collections::BTreeSet<&str> =
            self.parts().iter().map(|part| part.model.as_str()).collect();
        let names: Vec<&str> = served.iter().copied().collect();
        match &workload.models {
            None if served.len() > 1 => Some(format!(
                "requests without models found, and pools of several ({}): give a workload with `mix`, which says what each part asks for",
                quoted(&names)
            )),
            Some(_) if self.pools.is_empty() => Some(
                "a workload with `mix` found, expected `cluster.pools`, one at least for each model".into(),
            ),
            Some(models) => models.names.iter().find(|name| !served.contains(name.as_str())).map(|name| {
                format!(
                    "no pool for model `{name}` of the workload found, expected one: pools serve {}",
                    quoted(&names)
                )
            }),
            None => None,
        }
    }

    /// Why its pools and budget give a rule nothing to share out, if they do not.
    pub fn cannot_share(&self, rule: &FleetRule) -> Option<String> {
        match (rule, &self.budget) {
            (FleetRule::Proportional(_) | FleetRule::GreedyByScore(_), None) => {
                Some("found without `cluster.budget`, which it shares out: give it, or take `independent`".into())
            }
            (FleetRule::GlobalPlanner(rule), budget) => match budget.as_ref().and_then(|budget| budget.devices) {
                None => Some("found without `cluster.budget.devices`, which it guards: give it".into()),
                Some(most) => rule
                    .min_devices
                    .filter(|&least| least > most)
                    .map(|least| format!("`min_devices` {least} found, expected at most `cluster.budget.devices`, which is {most}")),
            },
            (FleetRule::Ilp(rule), _) => {
                let models: std::collections::BTreeSet<&str> = self.parts().iter().map(|part| part.model.as_str()).collect();
                let unknown = rule.priority.keys().find(|name| !models.contains(name.as_str()))?;
                let models: Vec<&str> = models.into_iter().collect();
                Some(format!("`priority` of `{unknown}` found, which no pool serves, expected models of pools: {}", quoted(&models)))
            }
            _ => None,
        }
    }
}
