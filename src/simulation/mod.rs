//! The event loop: clock, events, requests, what a run records.

mod billing;
mod cluster;
mod deadlock;
mod decode_run;
mod deployment;
mod engine;
mod event;
pub mod fleet;
mod inputs;
mod invariants;
mod limits;
pub mod metric;
mod metrics;
mod record;
mod stretches;

pub use billing::{
    BillingSettings, BillingUnit, ColdStartSettings, FailureSettings, LatencyLimits, SpareSettings, Stall,
    StartTimes,
};
pub use cluster::ClusterSettings;
pub use deployment::{NodePoolSettings, Placement, ScaleDownChoice, ScaleDownOrder};
pub use engine::{Checkpoint, Workspace};
pub use fleet::{FleetInputs, simulate_fleet, simulate_fleet_in_detail};
pub use inputs::Inputs;
pub use invariants::violations;
pub use limits::{EVENTS_BETWEEN_QUESTIONS, Limits, MOST_EVENTS};
pub use metrics::{
    Buckets, Distribution, FleetMetrics, HELD_BACK, MetricValue, PoolMetrics, RunMetrics, Sample,
    why_rejected,
};
pub use record::{BatchRecord, Detail, Hops, PoolDetail, ReplicaRecord, RequestRecord, Trail, TuneRecord};
pub use stretches::{Stretch, Stretches};

pub use deadlock::Deadlock;

use crate::autoscaler::bill::Bill;
use crate::autoscaler::{Autoscaler, AutoscalerSettings, Part, PolicyContext, Programs};
use crate::hardware::{ExecutionTime, HardwareError, memory};
use crate::replica_scheduler::{KvBlocks, ReplicaSchedulerSettings, ReplicaShape, Rule};
use crate::workload::Workload;

/// Everything one run depends on. Equal inputs give equal results, to the last bit.
#[derive(Debug, Clone)]
pub struct RunInputs<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a ClusterSettings,
    pub autoscaler: &'a AutoscalerSettings,
    pub execution_time: &'a ExecutionTime,
    /// That of the cluster, with everything said that depends on the device.
    pub scheduler_settings: ReplicaSchedulerSettings,
    pub num_blocks: u32,
    /// Requests of the maximum length that fit on a replica at once.
    pub max_requests: u32,
    pub node_price_usd_per_hour: f64,
    pub devices_per_node: u32,
    /// From the decision to a replica that serves, but for a random spread: the median.
    pub scale_up_delay_s: f64,
    /// Seed of whatever is random in the cluster; the traffic has been drawn already.
    pub seed: u64,
    /// Advance decodes one iteration at a time: slower, for those who doubt the other way.
    pub stepping: bool,
    /// Take lone arrivals and lone ends of batches through the queue of steps like all others: slower, for
    /// those who doubt the shortcuts.
    pub queue_every_step: bool,
    /// Keep a [`Trail`] in the workspace, for curves.
    pub keeps_trail: bool,
    /// When to give up, and whether to check.
    pub limits: Limits<'a>,
    /// Where a policy that is a program of its own is run.
    pub programs: Option<&'a dyn Programs>,
    /// What its replicas do of a request.
    pub part: Part,
}

/// Why a run could not be finished.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SimulationError {
    #[error("stuck at {at_s} s of simulated time with {unfinished} unfinished requests: {why}")]
    Stuck { at_s: f64, unfinished: u64, why: Deadlock },
    #[error(
        "given up after {events} events, at {at_s} s of simulated time with {unfinished} unfinished requests, {scale_ups} scale-ups, \
         {scale_downs} scale-downs and {replicas_lost} replicas lost ({}? `--max-events` lets it go on)",
        endless(*.scale_downs, *.replicas_lost)
    )]
    TooManyEvents {
        events: u64,
        at_s: f64,
        unfinished: u64,
        scale_ups: u64,
        scale_downs: u64,
        replicas_lost: u64,
    },
    #[error(
        "kept {bytes} bytes in memory, more than the {most_bytes} allowed, at {at_s} s of simulated time with {unfinished} unfinished \
         requests (do queues grow for ever? a larger `--cell-memory` lets it go on)"
    )]
    TooMuchMemory { bytes: u64, most_bytes: u64, at_s: f64, unfinished: u64 },
    #[error("the policy failed: {0}")]
    Policy(String),
    /// The caller asked to, see [`Limits::give_up`].
    #[error("called off at {at_s} s of simulated time with {unfinished} unfinished requests")]
    CalledOff { at_s: f64, unfinished: u64 },
    #[error(
        "the accounts of the run do not balance: {0}; please report it with the grid file, or leave the check out with `--check false`"
    )]
    Unbalanced(String),
}

/// What a run that does not end is likely to do for ever. Every replica that is lost is followed by a
/// scale-up.
fn endless(scale_downs: u64, replicas_lost: u64) -> &'static str {
    if replicas_lost > scale_downs {
        "do `failures` come faster than replicas serve"
    } else {
        "does it scale up and down for ever"
    }
}

impl<'a> RunInputs<'a> {
    /// Puts a run together: plans memory, looks up the price. Settings must have passed their checks.
    pub fn new(
        workload: &'a Workload,
        cluster: &'a ClusterSettings,
        autoscaler: &'a AutoscalerSettings,
        execution_time: &'a ExecutionTime,
        seed: u64,
    ) -> Result<Self, HardwareError> {
        let deployment = &execution_time.deployment;
        let scheduler_settings = cluster.replica_scheduler.on_device(deployment.device);
        let common = scheduler_settings.common();
        let planned =
            memory::plan(deployment, &cluster.memory_needs(execution_time.weights, execution_time.kv_cache))?;
        let weight_bytes = memory::weight_bytes(deployment, execution_time.weights);
        let load_s =
            cluster.cold_start.load_bandwidth_gb_per_s.map_or(0.0, |gb_per_s| weight_bytes * 1e-9 / gb_per_s);
        let node = deployment.node;
        let node_price_usd_per_hour =
            cluster.node_price_usd_per_hour.or(node.price_usd_per_hour).ok_or_else(|| {
                HardwareError::Unsupported(format!(
                    "no price known for node `{}`: give `node_price_usd_per_hour`",
                    node.name
                ))
            })?;
        execution_time.check_workload(
            &workload.prefill_tokens,
            &workload.decode_tokens,
            common.batch_size_cap,
            scheduler_settings.chunks_prefills(),
        )?;
        Ok(Self {
            workload,
            cluster,
            autoscaler,
            execution_time,
            scheduler_settings,
            num_blocks: common.num_blocks.unwrap_or(planned.num_blocks),
            max_requests: planned.max_requests,
            node_price_usd_per_hour,
            devices_per_node: node.devices_per_node,
            scale_up_delay_s: cluster
                .cold_start
                .measured
                .map_or(cluster.scale_up_delay_s, |measured| measured.median_s)
                + load_s,
            seed,
            stepping: false,
            queue_every_step: false,
            keeps_trail: false,
            limits: Limits::default(),
            programs: None,
            part: Part::Whole,
        })
    }

    fn policy_context(&self) -> PolicyContext<'_> {
        let cluster = self.cluster;
        PolicyContext {
            execution_time: self.execution_time,
            kv: self.kv_blocks(),
            batch_size_cap: self.scheduler_settings.common().batch_size_cap,
            pipeline_parallel: cluster.pipeline_parallel,
            part: self.part,
            max_request_tokens: cluster.max_request_tokens,
            bill: self.bill(),
            tune_interval_s: cluster.tune_interval_s,
            scale_up_delay_s: self.lead_s(),
            scale_down_delay_s: cluster.scale_down_delay_s,
            router_sees_load: cluster.global_scheduler.sees_load(),
            calls_off_starts: cluster.scale_down_order == ScaleDownOrder::StartingFirst,
            min_replicas: cluster.min_replicas,
            max_replicas: cluster.max_replicas,
            seed: self.seed,
            programs: self.programs,
        }
    }

    /// From the decision to a replica that serves, where a node has to come first: the longest, but for a
    /// random spread and for those that wait for a limit.
    pub fn lead_s(&self) -> f64 {
        self.scale_up_delay_s + self.cluster.node_pool.as_ref().map_or(0.0, |pool| pool.provision_s)
    }

    fn bill(&self) -> Bill {
        let &BillingSettings { unit, cold_start, drain, minimum_s } = &self.cluster.billing;
        Bill {
            devices_per_replica: self.devices(1) as u32,
            devices_per_node: self.devices_per_node,
            whole_nodes: unit == BillingUnit::Node,
            // A node is paid, whatever what lies on it does.
            cold_start: cold_start || self.cluster.node_pool.is_some(),
            drain,
            minimum_s,
        }
    }

    pub(crate) fn kv_blocks(&self) -> KvBlocks {
        let common = self.scheduler_settings.common();
        KvBlocks::new(self.num_blocks, common.block_size_tokens, common.watermark_blocks_fraction)
    }

    /// The replica scheduler the settings name.
    pub fn replica_scheduler(&self) -> Rule {
        self.scheduler_settings.build(&ReplicaShape {
            pipeline_parallel: self.cluster.pipeline_parallel,
            max_request_tokens: self.cluster.max_request_tokens,
            max_requests: self.max_requests,
            tensor_parallel: self.cluster.tensor_parallel,
            kv_bytes_per_token: memory::kv_bytes_per_token(
                &self.execution_time.deployment,
                self.execution_time.kv_cache,
                self.cluster.max_request_tokens,
            ),
        })
    }

    /// Replicas that are paid for.
    fn billed_replicas(&self, existing: u32, draining: u32, starting: u32) -> u32 {
        let billing = &self.cluster.billing;
        let unpaid = if billing.drain { 0 } else { draining };
        let starting = if billing.cold_start { starting } else { 0 };
        existing - unpaid + starting
    }

    fn devices(&self, replicas: u32) -> u64 {
        u64::from(replicas)
            * u64::from(self.cluster.tensor_parallel)
            * u64::from(self.cluster.pipeline_parallel)
    }

    /// Nodes that hold these replicas.
    fn nodes(&self, replicas: u32) -> u64 {
        self.devices(replicas).div_ceil(self.devices_per_node.into())
    }

    fn cost_per_hour(&self, replicas: u32) -> f64 {
        match self.cluster.billing.unit {
            BillingUnit::Node => self.node_price_usd_per_hour * self.nodes(replicas) as f64,
            BillingUnit::Device => f64::from(replicas) * self.replica_cost_per_hour(),
        }
    }

    /// One replica's share of the node price.
    fn replica_cost_per_hour(&self) -> f64 {
        self.node_price_usd_per_hour * self.devices(1) as f64 / f64::from(self.devices_per_node)
    }
}

/// What a run is made of beyond its inputs: mostly what these name, in tests and searches something else.
pub struct Parts {
    pub scheduler: Rule,
    /// `None` if nothing is ever decided.
    pub autoscaler: Option<Box<dyn Autoscaler>>,
    pub initial_replicas: u32,
}

impl Parts {
    /// What the inputs name.
    pub fn of(inputs: &RunInputs) -> Self {
        let settings = inputs.autoscaler.settings();
        let initial = inputs.cluster.initial_replicas;
        Self {
            scheduler: inputs.replica_scheduler(),
            autoscaler: settings.build(&inputs.policy_context()),
            // Who cannot do without a replica begins with one.
            initial_replicas: settings
                .initial_replicas()
                .unwrap_or_else(|| initial.max(u32::from(!settings.reaches_zero()))),
        }
    }
}

/// Runs until the workload is over and every request has left.
pub fn simulate(inputs: &RunInputs, workspace: &mut Workspace) -> Result<RunMetrics, SimulationError> {
    simulate_parts(inputs, Parts::of(inputs), workspace)
}

/// Runs what is not in the registries.
pub fn simulate_parts(
    inputs: &RunInputs,
    parts: Parts,
    workspace: &mut Workspace,
) -> Result<RunMetrics, SimulationError> {
    engine::Engine::new(inputs, parts, workspace, None).run()
}

/// Runs one iteration at a time, recording every request, batch, change of replicas and decision.
pub fn simulate_in_detail(
    inputs: &RunInputs,
    workspace: &mut Workspace,
) -> Result<(RunMetrics, Detail), SimulationError> {
    simulate_parts_in_detail(&RunInputs { stepping: true, ..inputs.clone() }, Parts::of(inputs), workspace)
}

/// Records what is not in the registries. Unless `stepping`, only the last of many like decode batches is
/// recorded.
pub fn simulate_parts_in_detail(
    inputs: &RunInputs,
    parts: Parts,
    workspace: &mut Workspace,
) -> Result<(RunMetrics, Detail), SimulationError> {
    let mut detail = Detail::default();
    let metrics = engine::Engine::new(inputs, parts, workspace, Some(&mut detail)).run()?;
    Ok((metrics, detail))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::hardware::{Deployment, Files};

    /// Whatever is paid and however replicas lie on nodes, policies are told of the bill the engine writes.
    #[test]
    fn the_bill_of_policies_is_that_of_the_engine() {
        let mut workload = Workload::default();
        workload.push(0.0, 64, 2);
        let autoscaler = serde_json::from_value(json!("frontier")).unwrap();
        for (tensor_parallel, pipeline_parallel) in [(1, 1), (2, 1), (4, 1), (8, 1), (8, 2), (1, 4)] {
            for unit in ["node", "device"] {
                let cluster: ClusterSettings = serde_json::from_value(json!({
                    "model": "meta-llama/Meta-Llama-3-8B", "node": "h100_dgx", "execution_time": "analytical",
                    "tensor_parallel": tensor_parallel, "pipeline_parallel": pipeline_parallel,
                    "node_price_usd_per_hour": 24, "billing": {"unit": unit},
                }))
                .unwrap();
                let files = Files::default();
                let deployment = Deployment::resolve(
                    &cluster.model,
                    &cluster.node,
                    tensor_parallel,
                    pipeline_parallel,
                    &files,
                )
                .unwrap();
                let times = ExecutionTime::load(&cluster.execution_time, &deployment, &files).unwrap();
                let inputs = RunInputs::new(&workload, &cluster, &autoscaler, &times, 1).unwrap();
                let bill = inputs.policy_context().bill;
                for few in 0..20 {
                    for more in few..20 {
                        let due = inputs.cost_per_hour(more) - inputs.cost_per_hour(few);
                        let told = bill.price(few, more) * inputs.replica_cost_per_hour();
                        assert!(
                            (due - told).abs() < 1e-9,
                            "{unit} {tensor_parallel}: {few} to {more}, {due} {told}"
                        );
                    }
                    let filled = bill.filled(few);
                    assert!(filled >= few && inputs.cost_per_hour(filled) == inputs.cost_per_hour(few));
                    assert!(
                        inputs.cost_per_hour(filled + 1) > inputs.cost_per_hour(few),
                        "more are free than {filled}"
                    );
                }
            }
        }
    }
}
