//! The event loop: clock, events, requests, what a run records.

mod cluster;
mod decode_run;
mod engine;
mod event;
mod invariants;
mod metrics;
mod record;

pub use cluster::ClusterSettings;
pub use engine::Workspace;
pub use invariants::violations;
pub use metrics::{Distribution, MetricValue, RunMetrics};
pub use record::{BatchRecord, Detail, ReplicaRecord, RequestRecord, TuneRecord};

use crate::autoscaler::AutoscalerSettings;
use crate::hardware::{ExecutionTime, HardwareError, catalog, memory};
use crate::replica_scheduler::{KvBlocks, ReplicaScheduler, ReplicaShape};
use crate::workload::Workload;

/// Everything one run depends on. Equal inputs give equal results, to the last bit.
#[derive(Debug, Clone)]
pub struct RunInputs<'a> {
    pub workload: &'a Workload,
    pub cluster: &'a ClusterSettings,
    pub autoscaler: &'a AutoscalerSettings,
    pub execution_time: &'a ExecutionTime,
    pub num_blocks: u32,
    /// Requests of the maximum length that fit on a replica at once.
    pub max_requests: u32,
    pub node_price_usd_per_hour: f64,
    pub devices_per_node: u32,
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
        execution_time.check_workload(
            &workload.prefill_tokens,
            &workload.decode_tokens,
            common.batch_size_cap,
            cluster.replica_scheduler.chunks_prefills(),
        )?;
        Ok(Self {
            workload,
            cluster,
            autoscaler,
            execution_time,
            num_blocks: common.num_blocks.unwrap_or(planned.num_blocks),
            max_requests: planned.max_requests,
            node_price_usd_per_hour: cluster.node_price_usd_per_hour.unwrap_or(node.price_usd_per_hour),
            devices_per_node: node.devices_per_node,
            stepping: false,
        })
    }

    fn initial_replicas(&self) -> u32 {
        match self.autoscaler {
            AutoscalerSettings::Static(settings) => settings.replicas,
            _ => self.cluster.initial_replicas,
        }
    }

    fn kv_blocks(&self) -> KvBlocks {
        let common = self.cluster.replica_scheduler.common();
        KvBlocks::new(self.num_blocks, common.block_size_tokens, common.watermark_blocks_fraction)
    }

    /// The replica scheduler the settings name.
    pub fn replica_scheduler(&self) -> Box<dyn ReplicaScheduler> {
        self.cluster.replica_scheduler.build(&ReplicaShape {
            pipeline_parallel: self.cluster.pipeline_parallel,
            max_request_tokens: self.cluster.max_request_tokens,
            max_requests: self.max_requests,
        })
    }

    /// Nodes are paid whole.
    fn cost_per_hour(&self, replicas: u32) -> f64 {
        let devices = u64::from(replicas) * u64::from(self.cluster.tensor_parallel) * u64::from(self.cluster.pipeline_parallel);
        self.node_price_usd_per_hour * devices.div_ceil(self.devices_per_node.into()) as f64
    }
}

/// Runs to the end of the workload.
pub fn simulate(inputs: &RunInputs, workspace: &mut Workspace) -> Result<RunMetrics, SimulationError> {
    engine::Engine::new(inputs, inputs.replica_scheduler(), workspace, None).run()
}

/// The same, recording every request, batch, change of replicas and decision.
pub fn simulate_in_detail(inputs: &RunInputs, workspace: &mut Workspace) -> Result<(RunMetrics, Detail), SimulationError> {
    simulate_with(&RunInputs { stepping: true, ..*inputs }, inputs.replica_scheduler(), workspace)
}

/// A run with a replica scheduler that is not in the registry, recorded. Unless `stepping`, only the last of many like decode batches is
/// recorded.
pub fn simulate_with(
    inputs: &RunInputs,
    scheduler: Box<dyn ReplicaScheduler>,
    workspace: &mut Workspace,
) -> Result<(RunMetrics, Detail), SimulationError> {
    let mut detail = Detail::default();
    let metrics = engine::Engine::new(inputs, scheduler, workspace, Some(&mut detail)).run()?;
    Ok((metrics, detail))
}
