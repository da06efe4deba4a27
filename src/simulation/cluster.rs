//! The settings of a simulated cluster: everything but traffic and autoscaler.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::billing::{BillingSettings, BillingUnit, ColdStartSettings, FailureSettings, LatencyLimits};
use super::deployment::{NodePoolSettings, ScaleDownChoice, ScaleDownOrder};
use super::fleet::{BudgetSettings, KvTransferSettings, PdDecider, Pool, PoolRouter};
use crate::global_scheduler::GlobalSchedulerSettings;
use crate::hardware::memory::{MemoryPlanner, Needs, VllmDefaults};
use crate::hardware::{ExecutionTimeSettings, OverheadSettings, Precision, Weights, catalog};
use crate::replica_scheduler::ReplicaSchedulerSettings;
use crate::settings::{Faults, MAX_REPLICAS};

/// Defaults are the lab's.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ClusterSettings {
    /// A model of the catalogue, or the path of a Hugging Face `config.json`.
    pub model: String,
    /// The machine, which names its device and its price.
    pub node: String,
    /// Dollars per node and hour. The catalogue's price of the node if absent; required where it has none.
    pub node_price_usd_per_hour: Option<f64>,
    /// Devices that share each layer.
    pub tensor_parallel: u32,
    /// Stages that the layers are divided into.
    pub pipeline_parallel: u32,
    /// Groups of a stage's devices that the experts of a mixture are divided among, a divisor of
    /// `tensor_parallel`; within a group each expert is shared out. Other layers are shared out over all
    /// devices.
    #[serde(skip_serializing_if = "is_one")]
    pub expert_parallel: u32,
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
    /// Replicas that serve from the start. 0 where `min_replicas` is 0; policies that cannot do without a
    /// replica then begin with one.
    pub initial_replicas: u32,
    /// Replicas that always serve, but after losses. Policies other than those that scale to zero keep at
    /// least one, which may be one that starts.
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
    /// Which of the replicas that serve goes first.
    #[serde(skip_serializing_if = "is_default")]
    pub scale_down_choice: ScaleDownChoice,
    /// The nodes that replicas lie on, one by one. If absent, replicas are packed as tightly as can be at
    /// every moment, and a node that is needed is there: the lab's rule, never dearer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_pool: Option<NodePoolSettings>,
    /// Most devices at once, a quota: replicas that serve, start or drain hold theirs, and others wait for
    /// them. No limit if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_devices: Option<u32>,
    /// How long a replica that is told to leave may finish what it has. What it still has then is cut off:
    /// counted (`num_cut`), in no latency, outside every limit. As long as it takes if absent. Kubernetes'
    /// `terminationGracePeriodSeconds`, where the server heeds it: on an llm-d cluster with vLLM 0.20 all
    /// requests ended 0.8 to 2.6 s after the last was routed there, as if they were done.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale_down_grace_s: Option<f64>,
    /// How long clients wait for a whole answer. A request that is not answered by then is cut off: counted
    /// (`num_cut`), in no latency, outside every limit. One that waits for its replica leaves at once, one in
    /// memory with its next token. Without limit if absent. The total timeout of a client or load tool;
    /// engines drop a request whose client has gone (vLLM: `abort`).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_timeout_s: Option<f64>,
    /// What is paid for.
    pub billing: BillingSettings,
    /// How often replicas are lost; never by default.
    pub failures: FailureSettings,
    /// What attainment and goodput are measured against.
    pub latency_limits: LatencyLimits,
    /// Several pools of replicas instead of one: prefill and decode apart, several kinds of devices, several
    /// models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pools: Vec<Pool>,
    /// How KV caches get from pools of role `prefill` to those of role `decode`; in no time if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_transfer: Option<KvTransferSettings>,
    /// Which requests are prefilled apart; all if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pd_decider: Option<PdDecider>,
    /// Which of several pools of one model and role a request goes to; the first with room if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pool_router: Option<PoolRouter>,
    /// What all pools have together; no limit but their own if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetSettings>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde asks for a reference")]
fn is_one(number: &u32) -> bool {
    *number == 1
}

impl Default for ClusterSettings {
    fn default() -> Self {
        Self {
            model: "meta-llama/Meta-Llama-3-70B".into(),
            node: "a100_pairwise_nvlink".into(),
            node_price_usd_per_hour: None,
            tensor_parallel: 4,
            pipeline_parallel: 1,
            expert_parallel: 1,
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
            scale_down_choice: ScaleDownChoice::default(),
            node_pool: None,
            max_devices: None,
            scale_down_grace_s: None,
            client_timeout_s: None,
            billing: BillingSettings::default(),
            failures: FailureSettings::default(),
            latency_limits: LatencyLimits::default(),
            pools: Vec::new(),
            kv_transfer: None,
            pd_decider: None,
            pool_router: None,
            budget: None,
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
        let defaults = self.vllm_defaults();
        if let MemoryPlanner::Vllm(planner) = &mut self.memory_planner {
            planner.with(&defaults);
        }
        self.pools = self.pools.into_iter().map(|pool| pool.map(Self::on_its_device)).collect();
        self
    }

    pub fn check(&self, faults: &mut Faults) {
        // What pools take from the cluster is checked with them: the cluster itself need not be one.
        if self.pools.is_empty() {
            self.check_alone(faults);
        } else {
            faults.within("latency_limits", |faults| self.latency_limits.check(faults));
        }
        self.check_fleet(faults);
    }

    /// Checks the settings of one pool.
    pub(super) fn check_alone(&self, faults: &mut Faults) {
        let (model, node) = (catalog::model(&self.model), catalog::node(&self.node));
        faults.require(model.is_some() || catalog::is_config_path(&self.model), "model", || {
            catalog::unknown_model(&self.model)
        });
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
        faults.at_least("expert_parallel", self.expert_parallel.into(), 1);
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
                format!(
                    "{} found, expected at most `max_replicas` ({})",
                    self.min_replicas, self.max_replicas
                )
            });
            let held = self.min_replicas > self.max_replicas
                || (self.min_replicas..=self.max_replicas).contains(&self.initial_replicas);
            faults.require(held, "initial_replicas", || {
                let default = if self.initial_replicas == Self::default().initial_replicas {
                    " (the default)"
                } else {
                    ""
                };
                format!(
                    "{}{default} found, expected `min_replicas` to `max_replicas` ({} to {})",
                    self.initial_replicas, self.min_replicas, self.max_replicas
                )
            });
        }
        self.check_devices(faults);
        faults.interval_s("tune_interval_s", self.tune_interval_s);
        faults.not_negative("scale_up_delay_s", self.scale_up_delay_s);
        faults.not_negative("scale_down_delay_s", self.scale_down_delay_s);
        if let Some(grace_s) = self.scale_down_grace_s {
            faults.not_negative("scale_down_grace_s", grace_s);
        }
        self.check_client_timeout(faults);
        faults.within("global_scheduler", |faults| self.global_scheduler.check(faults));
        faults.within("cold_start", |faults| self.cold_start.check(faults));
        faults.within("billing", |faults| self.billing.check(faults));
        faults.within("failures", |faults| self.failures.check(faults));
        faults.within("latency_limits", |faults| self.latency_limits.check(faults));
    }

    fn check_client_timeout(&self, faults: &mut Faults) {
        let Some(timeout_s) = self.client_timeout_s else { return };
        faults.positive("client_timeout_s", timeout_s);
        let name = self.replica_scheduler.name();
        faults.require(name != "sglang" && !self.replica_scheduler.drafts_tokens(), "client_timeout_s", || {
            format!("found with `{name}`, expected a replica scheduler other than `sglang`, without `speculative`: more is not built; leave one of the two out")
        });
    }

    /// Whether what has to be there finds devices, and whether what is paid can be.
    fn check_devices(&self, faults: &mut Faults) {
        let devices_per_replica = self.tensor_parallel.max(1).saturating_mul(self.pipeline_parallel.max(1));
        let replicas = self.initial_replicas.max(self.min_replicas).max(1);
        if let Some(most) = self.max_devices {
            let needed = u64::from(replicas) * u64::from(devices_per_replica);
            faults.require(u64::from(most) >= needed, "max_devices", || {
                format!(
                    "{most} found, expected at least {needed}: `initial_replicas` and `min_replicas` have to fit, and one in any case, \
                     with {devices_per_replica} devices each"
                )
            });
        }
        faults.require(
            self.cold_start.spares.is_empty() || (self.node_pool.is_none() && self.max_devices.is_none()),
            "cold_start.spares",
            || "found beside `node_pool` or `max_devices`: where spares lie is not modelled; leave one of the two out".into(),
        );
        let Some(pool) = &self.node_pool else {
            faults.require(
                self.scale_down_choice != ScaleDownChoice::FewestOnNode,
                "scale_down_choice",
                || {
                    "`fewest_on_node` found, which has to know the nodes: give `node_pool`, which may be {}"
                        .into()
                },
            );
            return;
        };
        faults.require(self.billing.unit == BillingUnit::Node, "billing.unit", || {
            "`device` found, expected `node`: with `node_pool` nodes are paid; leave one of the two out"
                .into()
        });
        faults.require(self.billing.drain, "billing.drain", || {
            "false found, expected true: with `node_pool` a node is paid while anything lies on it; leave one of the two out".into()
        });
        if let Some(node) = catalog::node(&self.node) {
            faults.within("node_pool", |faults| {
                pool.check(devices_per_replica, node.devices_per_node, replicas, faults)
            });
        }
    }

    /// What the serving engine has that the memory planner is not told.
    fn vllm_defaults(&self) -> VllmDefaults {
        let device = catalog::node(&self.node).and_then(|node| catalog::device(node.device));
        let engine = device.map(|device| self.replica_scheduler.on_device(device));
        engine.and_then(|engine| engine.vllm_defaults()).unwrap_or_default()
    }

    /// What the memory planner is asked for, with the number formats of the model of step times.
    pub fn memory_needs(&self, weights: Weights, kv_cache: Precision) -> Needs<'_> {
        Needs {
            planner: &self.memory_planner,
            max_request_tokens: self.max_request_tokens,
            block_size_tokens: self.replica_scheduler.common().block_size_tokens,
            memory_margin_fraction: self.memory_margin_fraction,
            weights,
            kv_cache,
            vllm: self.vllm_defaults(),
        }
    }

    /// Whether replicas are lost at all.
    pub fn has_failures(&self) -> bool {
        self.parts().iter().any(|part| part.failures.any())
    }

    /// Whether replicas may be gone with what they were working on.
    pub fn loses_replicas(&self) -> bool {
        if self.pools.iter().any(|pool| pool.settings().loses_replicas()) {
            return true;
        }
        self.failures.any() || self.scale_down_grace_s.is_some()
    }

    /// Whether the same traffic may go differently under another seed.
    pub fn draws(&self) -> bool {
        if !self.pools.is_empty() {
            return self.pools.iter().any(|pool| pool.settings().draws());
        }
        self.global_scheduler.settings().draws()
            || self.failures.any()
            || self.cold_start.draws()
            || self.scale_down_choice == ScaleDownChoice::ReplicaSet
    }
}

/// Whether a setting is as it is if nothing is said, so that nothing needs to be said.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}
