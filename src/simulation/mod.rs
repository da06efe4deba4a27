//! The event loop: clock, events, requests, what a run records.

mod cluster;
mod decode_run;
mod engine;
mod event;
mod metrics;
mod record;

pub use cluster::ClusterSettings;
pub use engine::Workspace;
pub use metrics::{Distribution, MetricValue, RunMetrics};
pub use record::{BatchRecord, Detail, ReplicaRecord, RequestRecord, TuneRecord};

use crate::autoscaler::{Autoscaler, AutoscalerSettings, PolicyContext};
use crate::hardware::{ExecutionTime, HardwareError, catalog, memory};
use crate::replica_scheduler::KvBlocks;
use crate::workload::Workload;

/// Everything one run depends on. Equal inputs give equal results, to the last bit.
#[derive(Debug, Clone)]
pub struct RunInputs<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a ClusterSettings,
    pub autoscaler: &'a AutoscalerSettings,
    pub execution_time: &'a ExecutionTime,
    pub num_blocks: u32,
    pub node_price_usd_per_hour: f64,
    pub devices_per_node: u32,
    /// Seed of whatever is random in the cluster; the traffic has been drawn already.
    pub seed: u64,
    /// Advance decodes one iteration at a time: slower, for those who doubt the other way.
    pub stepping: bool,
}

/// Why a run could not be finished.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum SimulationError {
    #[error(
        "stuck at {at_s} s of simulated time with {unfinished} unfinished requests: no replica will ever serve them (is `min_replicas` 0?)"
    )]
    Stuck { at_s: f64, unfinished: u64 },
}

impl<'a> RunInputs<'a> {
    /// Puts a run together: plans memory, looks up the price. Settings must have passed their checks.
    pub fn new(
        workload: &'a Workload,
        cluster: &'a ClusterSettings,
        autoscaler: &'a AutoscalerSettings,
        execution_time: &'a ExecutionTime,
    ) -> Result<Self, HardwareError> {
        let unknown = |what: &str, name: &str| HardwareError::Unsupported(format!("unknown {what} `{name}`"));
        let model = catalog::model(&cluster.model).ok_or_else(|| unknown("model", &cluster.model))?;
        let node = catalog::node(&cluster.node).ok_or_else(|| unknown("node", &cluster.node))?;
        let device = catalog::device(node.device).ok_or_else(|| unknown("device", node.device))?;
        let common = cluster.replica_scheduler.common();
        let planned = memory::plan(
            model,
            device,
            &memory::Deployment {
                tensor_parallel: cluster.tensor_parallel,
                pipeline_parallel: cluster.pipeline_parallel,
                max_request_tokens: cluster.max_request_tokens,
                block_size_tokens: common.block_size_tokens,
                memory_margin_fraction: cluster.memory_margin_fraction,
            },
        )?;
        execution_time.check_workload(&workload.prefill_tokens, &workload.decode_tokens, common.batch_size_cap, false)?;
        Ok(Self {
            workload,
            cluster,
            autoscaler,
            execution_time,
            num_blocks: common.num_blocks.unwrap_or(planned.num_blocks),
            node_price_usd_per_hour: cluster.node_price_usd_per_hour.unwrap_or(node.price_usd_per_hour),
            devices_per_node: node.devices_per_node,
            seed: 0,
            stepping: false,
        })
    }

    fn initial_replicas(&self) -> u32 {
        self.autoscaler.settings().initial_replicas().unwrap_or(self.cluster.initial_replicas)
    }

    fn policy(&self) -> Option<Box<dyn Autoscaler>> {
        self.autoscaler.settings().build(&self.policy_context())
    }

    fn policy_context(&self) -> PolicyContext<'_> {
        let cluster = self.cluster;
        PolicyContext {
            execution_time: self.execution_time,
            kv: self.kv_blocks(),
            batch_size_cap: cluster.replica_scheduler.common().batch_size_cap,
            pipeline_parallel: cluster.pipeline_parallel,
            devices_per_replica: cluster.tensor_parallel * cluster.pipeline_parallel,
            devices_per_node: self.devices_per_node,
            tune_interval_s: cluster.tune_interval_s,
            scale_up_delay_s: cluster.scale_up_delay_s,
            scale_down_delay_s: cluster.scale_down_delay_s,
            min_replicas: cluster.min_replicas,
            max_replicas: cluster.max_replicas,
            seed: self.seed,
        }
    }

    fn kv_blocks(&self) -> KvBlocks {
        let common = self.cluster.replica_scheduler.common();
        KvBlocks::new(self.num_blocks, common.block_size_tokens, common.watermark_blocks_fraction)
    }

    /// Nodes are paid whole.
    fn cost_per_hour(&self, replicas: u32) -> f64 {
        let devices = u64::from(replicas) * u64::from(self.cluster.tensor_parallel) * u64::from(self.cluster.pipeline_parallel);
        self.node_price_usd_per_hour * devices.div_ceil(self.devices_per_node.into()) as f64
    }
}

/// Runs to the end of the workload.
pub fn simulate(inputs: &RunInputs, workspace: &mut Workspace) -> Result<RunMetrics, SimulationError> {
    engine::Engine::new(inputs, inputs.policy(), inputs.initial_replicas(), workspace, None).run()
}

/// Runs a policy of the caller's instead of the inputs' autoscaler, from the cluster's initial replicas.
pub fn simulate_policy(inputs: &RunInputs, policy: Box<dyn Autoscaler>, workspace: &mut Workspace) -> Result<RunMetrics, SimulationError> {
    engine::Engine::new(inputs, Some(policy), inputs.cluster.initial_replicas, workspace, None).run()
}

/// The same, recording every request, batch, change of replicas and decision.
pub fn simulate_in_detail(inputs: &RunInputs, workspace: &mut Workspace) -> Result<(RunMetrics, Detail), SimulationError> {
    let mut detail = Detail::default();
    let metrics = engine::Engine::new(inputs, inputs.policy(), inputs.initial_replicas(), workspace, Some(&mut detail)).run()?;
    Ok((metrics, detail))
}
