//! The settings of a simulated cluster: everything but traffic and autoscaler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::billing::{BillingSettings, ColdStartSettings, FailureSettings, LatencyLimits};
use crate::global_scheduler::GlobalSchedulerSettings;
use crate::hardware::memory::{MemoryPlanner, Needs};
use crate::hardware::{ExecutionTimeSettings, OverheadSettings, Precision, catalog};
use crate::replica_scheduler::ReplicaSchedulerSettings;
use crate::settings::{Faults, MAX_REPLICAS};

/// Defaults are the lab's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// A model of the catalogue, or the path of a dense model's Hugging Face `config.json`.
    pub model: String,
    /// The machine, which names its device and its price.
    pub node: String,
    /// Dollars per node and hour. The catalogue's price of the node if absent; required where it has none.
    pub node_price_usd_per_hour: Option<f64>,
    /// Devices that share each layer.
    pub tensor_parallel: u32,
    /// Stages that the layers are divided into.
    pub pipeline_parallel: u32,
    /// How device memory is divided between weights and KV cache.
    pub memory_planner: MemoryPlanner,
    /// Longest request (prefill and decode tokens) the memory planner provides for.
    pub max_request_tokens: u32,
    /// Share of device memory left unused by the `vidur` planner.
    pub memory_margin_fraction: f64,
    /// How long batches take.
    pub execution_time: ExecutionTimeSettings,
    /// What the serving engine adds to the time of its kernels: nothing unless asked for.
    #[serde(skip_serializing_if = "OverheadSettings::is_none")]
    pub engine_overheads: OverheadSettings,
    /// How requests are routed to replicas.
    pub global_scheduler: GlobalSchedulerSettings,
    /// How a replica forms batches.
    pub replica_scheduler: ReplicaSchedulerSettings,
    /// Replicas that serve from the start. 0 where `min_replicas` is 0; policies that cannot do without a replica then begin with one.
    pub initial_replicas: u32,
    /// Replicas that always serve, but after losses. Policies other than those that scale to zero keep at least one, which may be one that
    /// starts.
    pub min_replicas: u32,
    /// Most replicas that serve or start. Those that finish what they have before they leave come on top.
    pub max_replicas: u32,
    /// How often the autoscaler decides.
    pub tune_interval_s: f64,
    /// From the decision to a replica that serves, not counting what `cold_start` adds.
    pub scale_up_delay_s: f64,
    /// What delays a start beyond `scale_up_delay_s`.
    pub cold_start: ColdStartSettings,
    /// From the decision to the choice of a replica to stop.
    pub scale_down_delay_s: f64,
    /// Which replicas a scale-down takes first.
    pub scale_down_order: ScaleDownOrder,
    /// What is paid for.
    pub billing: BillingSettings,
    /// How often replicas are lost; never by default.
    pub failures: FailureSettings,
    /// What attainment and goodput are measured against.
    pub latency_limits: LatencyLimits,
}

/// Which replicas a scale-down takes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScaleDownOrder {
    /// Those that still start, the latest ordered first, and are paid no further; those that serve once none starts. As in Kubernetes,
    /// Ray and Dynamo.
    #[default]
    StartingFirst,
    /// Those that serve; what starts goes on starting. The lab's rule, and the only one up to results version 7.
    ServingFirst,
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            model: "meta-llama/Meta-Llama-3-70B".into(),
            node: "a100_pairwise_nvlink".into(),
            node_price_usd_per_hour: None,
            tensor_parallel: 4,
            pipeline_parallel: 1,
            memory_planner: MemoryPlanner::default(),
            max_request_tokens: 4096,
            memory_margin_fraction: 0.1,
            execution_time: ExecutionTimeSettings::default(),
            engine_overheads: OverheadSettings::default(),
            global_scheduler: GlobalSchedulerSettings::default(),
            replica_scheduler: ReplicaSchedulerSettings::default(),
            initial_replicas: 1,
            min_replicas: 1,
            max_replicas: 64,
            tune_interval_s: 5.0,
            scale_up_delay_s: 10.0,
            cold_start: ColdStartSettings::default(),
            scale_down_delay_s: 0.0,
            scale_down_order: ScaleDownOrder::default(),
            billing: BillingSettings::default(),
            failures: FailureSettings::default(),
            latency_limits: LatencyLimits::default(),
        }
    }
}

impl ClusterSettings {
    /// These settings with everything said that depends on the device, so that reports can tell it.
    #[must_use]
    pub fn on_its_device(mut self) -> Self {
        if let Some(device) = catalog::node(&self.node).and_then(|node| catalog::device(node.device)) {
            self.replica_scheduler = self.replica_scheduler.on_device(device);
        }
        self
    }

    pub fn check(&self, faults: &mut Faults) {
        let (model, node) = (catalog::model(&self.model), catalog::node(&self.node));
        faults.require(model.is_some() || catalog::is_config_path(&self.model), "model", || catalog::unknown_model(&self.model));
        faults.require(node.is_some(), "node", || catalog::unknown_node(&self.node));
        if node.is_some_and(|node| node.price_usd_per_hour.is_none()) {
            faults.require(self.node_price_usd_per_hour.is_some(), "node_price_usd_per_hour", || {
                format!("no price known for node `{}`: give what an hour of it costs you", self.node)
            });
        }
        if let Some(price) = self.node_price_usd_per_hour {
            faults.not_negative("node_price_usd_per_hour", price);
        }
        faults.at_least("tensor_parallel", self.tensor_parallel.into(), 1);
        faults.at_least("pipeline_parallel", self.pipeline_parallel.into(), 1);
        if let Some(model) = model {
            let (tp, pp) = (self.tensor_parallel.max(1), self.pipeline_parallel.max(1));
            faults.require(model.num_query_heads % tp == 0, "tensor_parallel", || {
                format!("{tp} found, expected a divisor of the model's {} query heads", model.num_query_heads)
            });
            faults.require(model.num_layers % pp == 0, "pipeline_parallel", || {
                format!("{pp} found, expected a divisor of the model's {} layers", model.num_layers)
            });
        }
        faults.within("memory_planner", |faults| self.memory_planner.check(faults));
        faults.within("execution_time", |faults| self.execution_time.check(faults));
        faults.within("engine_overheads", |faults| self.engine_overheads.check(faults));
        faults.at_least("max_request_tokens", self.max_request_tokens.into(), 2);
        faults.fraction("memory_margin_fraction", self.memory_margin_fraction);
        let replica_scheduler = self.clone().on_its_device().replica_scheduler;
        faults.within("replica_scheduler", |faults| replica_scheduler.check(self.pipeline_parallel, faults));
        faults.at_least("max_replicas", self.max_replicas.into(), 1);
        faults.at_most("max_replicas", self.max_replicas.into(), MAX_REPLICAS.into());
        if self.max_replicas > 0 {
            faults.require(self.min_replicas <= self.max_replicas, "min_replicas", || {
                format!("{} found, expected at most `max_replicas` ({})", self.min_replicas, self.max_replicas)
            });
            let held = self.min_replicas > self.max_replicas || (self.min_replicas..=self.max_replicas).contains(&self.initial_replicas);
            faults.require(held, "initial_replicas", || {
                let default = if self.initial_replicas == Self::default().initial_replicas { " (the default)" } else { "" };
                format!(
                    "{}{default} found, expected `min_replicas` to `max_replicas` ({} to {})",
                    self.initial_replicas, self.min_replicas, self.max_replicas
                )
            });
        }
        faults.interval_s("tune_interval_s", self.tune_interval_s);
        faults.not_negative("scale_up_delay_s", self.scale_up_delay_s);
        faults.not_negative("scale_down_delay_s", self.scale_down_delay_s);
        faults.within("global_scheduler", |faults| self.global_scheduler.check(faults));
        faults.within("cold_start", |faults| self.cold_start.check(faults));
        faults.within("billing", |faults| self.billing.check(faults));
        faults.within("failures", |faults| self.failures.check(faults));
        faults.within("latency_limits", |faults| self.latency_limits.check(faults));
    }

    /// What the memory planner is asked for, with the number formats of the model of step times.
    pub fn memory_needs(&self, weights: Precision, kv_cache: Precision) -> Needs<'_> {
        Needs {
            planner: &self.memory_planner,
            max_request_tokens: self.max_request_tokens,
            block_size_tokens: self.replica_scheduler.common().block_size_tokens,
            memory_margin_fraction: self.memory_margin_fraction,
            weights,
            kv_cache,
        }
    }

    /// Whether the same traffic may go differently under another seed.
    pub fn draws(&self) -> bool {
        self.global_scheduler.settings().draws() || self.failures.any() || self.cold_start.spread_s > 0.0
    }
}
