//! The settings of a fleet: its pools, what lies between prefill and decode, which pool a request goes to,
//! and what all share.

use std::collections::{BTreeMap, BTreeSet};

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::de::{self, Deserialize, Deserializer};
use serde::ser::SerializeMap;
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use crate::choice;
use crate::settings::{Faults, quoted};
use crate::simulation::ClusterSettings;

/// What a pool does of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// All of it.
    #[default]
    Both,
    /// Prompts; their KV caches then go to a pool of role `decode`.
    Prefill,
    /// Output tokens, and prompts that the `pd_decider` leaves here or whose KV cache was lost here.
    Decode,
}

impl Role {
    pub fn name(self) -> &'static str {
        match self {
            Self::Both => "both",
            Self::Prefill => "prefill",
            Self::Decode => "decode",
        }
    }
}

/// Fields of a cluster that hold for the whole fleet: no pool has its own.
pub const FLEET_WIDE: [&str; 7] =
    ["pools", "kv_transfer", "pd_decider", "pool_router", "budget", "latency_limits", "client_timeout_s"];

/// A pool: replicas alike in model, device and role, with a router, limits, price and policy of their own.
/// Beside `name` and `role` it may state any field of the cluster but those that hold for the whole fleet;
/// what it leaves out it takes from the cluster, whole values.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub name: String,
    pub role: Role,
    /// The fields it states.
    given: Map<String, Value>,
    /// The cluster as this pool sees it, once [`ClusterSettings::with_pools`] has put it together.
    settings: Option<Box<ClusterSettings>>,
}

impl Pool {
    /// The cluster as this pool sees it.
    pub fn settings(&self) -> &ClusterSettings {
        self.settings.as_deref().expect("pools are put together when a cluster is read")
    }

    /// Changes that.
    #[must_use]
    pub fn map(mut self, change: impl FnOnce(ClusterSettings) -> ClusterSettings) -> Self {
        self.settings = self.settings.map(|settings| Box::new(change(*settings)));
        self
    }

    pub fn devices_per_replica(&self) -> u64 {
        u64::from(self.settings().tensor_parallel) * u64::from(self.settings().pipeline_parallel)
    }

    /// Dollars an hour for the devices of one replica, where the price of its node is known.
    pub fn replica_usd_per_hour(&self, node_price: f64, devices_per_node: u32) -> f64 {
        node_price * self.devices_per_replica() as f64 / f64::from(devices_per_node)
    }
}

impl<'de> Deserialize<'de> for Pool {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut given = Map::deserialize(deserializer)?;
        let mut own = |key: &str| given.shift_remove(key);
        let name = match own("name") {
            Some(Value::String(name)) => name,
            Some(other) => {
                return Err(de::Error::custom(format!(
                    "{other} found as the `name` of a pool, expected a text"
                )));
            }
            None => return Err(de::Error::missing_field("name")),
        };
        let role = own("role")
            .map(serde_json::from_value)
            .transpose()
            .map_err(|error| de::Error::custom(format!("`role`: {error}")))?;
        if let Some(key) = FLEET_WIDE.iter().find(|key| given.contains_key(**key)) {
            return Err(de::Error::custom(format!(
                "`{key}` in pool `{name}`, which holds for all pools: write it beside `pools`"
            )));
        }
        Ok(Self { name, role: role.unwrap_or_default(), given, settings: None })
    }
}

impl Serialize for Pool {
    /// What it states, with the values that count.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let whole = self.settings.as_ref().map(|settings| json!(settings));
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("name", &self.name)?;
        map.serialize_entry("role", &self.role)?;
        for (key, value) in &self.given {
            map.serialize_entry(key, whole.as_ref().map_or(value, |whole| &whole[key]))?;
        }
        map.end()
    }
}

impl JsonSchema for Pool {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Pool".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let mut schema = ClusterSettings::json_schema(generator).to_value();
        schema["description"] = json!(
            "Replicas alike in model, device and role. Beside `name` and `role` any field of the cluster but those that hold for all pools; \
             what is left out is the cluster's."
        );
        let role = generator.subschema_for::<Role>().to_value();
        if let Some(properties) = schema["properties"].as_object_mut() {
            FLEET_WIDE.iter().for_each(|name| drop(properties.shift_remove(*name)));
            for property in properties.values_mut().filter_map(Value::as_object_mut) {
                property.shift_remove("default");
            }
            let name = json!({ "type": "string", "description": "What results and policies call it." });
            let own = [("name".to_owned(), name), ("role".to_owned(), role)];
            *properties = own.into_iter().chain(std::mem::take(properties)).collect();
        }
        schema["required"] = json!(["name"]);
        schema.try_into().expect("an object")
    }
}

/// The KV cache's way from a prefill replica to a decode replica. Without `bandwidth_gb_per_s` and
/// `overhead_ms` it takes no time.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct KvTransferSettings {
    /// Of each rank, 1e9 bytes a second: some 40 over a 400 Gb/s adapter a device, 300 to 900 over NVLink. No
    /// time for bytes if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_gb_per_s: Option<f64>,
    /// What each transfer takes beside its bytes: answer, dispatch, handshake. 30 to 200 are real.
    pub overhead_ms: f64,
    /// Whether transfers that share a replica share its links.
    pub contention: Contention,
    /// What is sent of a prompt.
    pub sends: Sends,
    /// Where a client's first token comes from.
    pub first_token: FirstTokenFrom,
    /// When a decode replica takes room for a prompt.
    #[serde(skip_serializing_if = "Reserve::is_default")]
    pub reserve: Reserve,
}

/// Whether transfers slow each other down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Contention {
    /// Each has the whole bandwidth.
    #[default]
    None,
    /// Each has its share of the bandwidth at either end, whichever is less, at every moment (processor
    /// sharing).
    Shared,
}

/// What is sent of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Sends {
    /// What the decode replica does not have in its prefix cache.
    #[default]
    Missing,
    /// All of it.
    FullPrompt,
}

/// Where a client's first token comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FirstTokenFrom {
    /// The first step on the decode replica, which computes the last token of the prompt again (vLLM).
    #[default]
    DecodeStep,
    /// The prefill replica; it comes with the KV cache (SGLang).
    Handoff,
}

/// When a decode replica takes room for the KV cache of a prompt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Reserve {
    /// When the prompt has been computed (vLLM).
    #[default]
    Transfer,
    /// When the request arrives; its prompt is computed after that (SGLang).
    Arrival,
}

impl Reserve {
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

impl KvTransferSettings {
    pub fn check(&self, faults: &mut Faults) {
        if let Some(bandwidth) = self.bandwidth_gb_per_s {
            faults.positive("bandwidth_gb_per_s", bandwidth);
        }
        faults.not_negative("overhead_ms", self.overhead_ms);
        faults.require(
            self.contention == Contention::None || self.bandwidth_gb_per_s.is_some(),
            "contention",
            || "`shared` found without `bandwidth_gb_per_s`: give the bandwidth that is shared".into(),
        );
    }

    /// Whether a KV cache is there as soon as there is room for it.
    pub fn is_instant(&self) -> bool {
        self.bandwidth_gb_per_s.is_none() && self.overhead_ms == 0.0
    }
}

choice! {
    /// Which requests are prefilled apart; the others are served by a decode replica from their first token
    /// on.
    pub enum PdDecider {
        "always" => Always(NoSettings),
        "never" => Never(NoSettings),
        "prefix_based" => PrefixBased(PrefixBasedSettings),
        "isl_bounding" => IslBounding(IslBoundingSettings),
        "prefill_load" => PrefillLoad(PrefillLoadSettings),
    }
}

impl Default for PdDecider {
    fn default() -> Self {
        Self::Always(NoSettings {})
    }
}

#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoSettings {}

/// llm-d's decider: apart if more of the prompt than this is not cached on the decode replica that would be
/// chosen now.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct PrefixBasedSettings {
    pub non_cached_tokens: u32,
}

impl Default for PrefixBasedSettings {
    fn default() -> Self {
        Self { non_cached_tokens: 16 }
    }
}

/// Dynamo's: stays on the decode replica if fewer tokens of the prompt than this are not cached there, and
/// they are a smaller share of it than `ratio`.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct IslBoundingSettings {
    pub threshold_tokens: u32,
    pub ratio: f64,
}

impl Default for IslBoundingSettings {
    fn default() -> Self {
        Self { threshold_tokens: 2048, ratio: 0.7 }
    }
}

/// Dynamo's: stays on the decode replica if more prompt tokens than this wait at the prefill replica that
/// would be chosen now, or none serves.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrefillLoadSettings {
    pub queued_tokens: u64,
}

impl PdDecider {
    pub fn check(&self, faults: &mut Faults) {
        if let Self::IslBounding(IslBoundingSettings { ratio, .. }) = self {
            faults.within(self.name(), |faults| faults.fraction("ratio", *ratio));
        }
    }
}

choice! {
    /// Which pool a request goes to, of those of its model and role.
    pub enum PoolRouter {
        "first_with_room" => FirstWithRoom(NoSettings),
        "least_loaded" => LeastLoaded(NoSettings),
        "cheapest" => Cheapest(NoSettings),
        "length" => Length(LengthSettings),
        "weighted" => Weighted(WeightedSettings),
    }
}

impl Default for PoolRouter {
    fn default() -> Self {
        Self::FirstWithRoom(NoSettings {})
    }
}

/// Prompts of fewer tokens go to one pool, all others to those that are left.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LengthSettings {
    pub below_tokens: u32,
    /// The pool of short prompts.
    pub pool: String,
}

/// Requests in proportion to these weights, by pools' names; evenly spread. Pools that are not named get
/// none.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct WeightedSettings {
    pub weights: BTreeMap<String, f64>,
}

/// What all pools have together: one of the three. Replicas that serve, start or drain count.
#[derive(Debug, Clone, PartialEq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct BudgetSettings {
    /// Most devices at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<u32>,
    /// Most devices at once of each kind of node, by the nodes' names; every pool's node has to be named.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub devices_by_node: BTreeMap<String, u32>,
    /// Most dollars an hour, each replica by the price of its devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usd_per_hour: Option<f64>,
    /// What becomes of a scale-up that finds no room.
    pub when_full: WhenFull,
}

/// What becomes of a scale-up that finds no room in the budget.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// It gets what there is; its policy may ask again.
    #[default]
    Cut,
    /// It waits, first come first served, until devices come free, unless its policy scales down before.
    Queue,
}

impl BudgetSettings {
    pub fn check(&self, faults: &mut Faults) {
        let given = [self.devices.is_some(), !self.devices_by_node.is_empty(), self.usd_per_hour.is_some()];
        let given = given.into_iter().filter(|given| *given).count();
        faults.require(given == 1, "", || {
            format!("{given} limits found, expected one of `devices`, `devices_by_node` and `usd_per_hour`")
        });
        if let Some(devices) = self.devices {
            faults.at_least("devices", devices.into(), 1);
        }
        if let Some(usd_per_hour) = self.usd_per_hour {
            faults.positive("usd_per_hour", usd_per_hour);
        }
    }
}

/// A cluster's pools, put together.
#[derive(serde::Deserialize)]
struct Together {
    pools: Vec<ClusterSettings>,
}

impl ClusterSettings {
    /// Puts pools together: each sees the cluster with what it states instead. Errors bear paths such as
    /// `pools[1].tensor_parallel`.
    pub fn with_pools(mut self) -> Result<Self, serde_path_to_error::Error<serde_json::Error>> {
        if self.pools.is_empty() {
            return Ok(self);
        }
        let mut shared = match json!(self) {
            Value::Object(members) => members,
            _ => Map::new(),
        };
        FLEET_WIDE.iter().for_each(|key| drop(shared.remove(*key)));
        let overlaid = |pool: &Pool| {
            let mut members = shared.clone();
            members.extend(pool.given.clone());
            Value::Object(members)
        };
        let together = json!({ "pools": self.pools.iter().map(overlaid).collect::<Vec<_>>() });
        let Together { pools } = serde_path_to_error::deserialize(together)?;
        for (pool, settings) in self.pools.iter_mut().zip(pools) {
            pool.settings = Some(Box::new(settings));
        }
        Ok(self)
    }

    /// The settings of each pool, or of the only one.
    pub fn parts(&self) -> Vec<&Self> {
        if self.pools.is_empty() { vec![self] } else { self.pools.iter().map(Pool::settings).collect() }
    }

    /// Where the settings of part `number` stand below a cluster: `pools[1].`, or nowhere else.
    pub fn path_of_part(&self, number: usize) -> String {
        if self.pools.is_empty() { String::new() } else { format!("pools[{number}].") }
    }

    /// Changes a cluster and what its pools see of it.
    pub fn change(&mut self, change: impl Fn(&mut Self)) {
        change(self);
        self.pools.iter_mut().filter_map(|pool| pool.settings.as_deref_mut()).for_each(change);
    }

    /// Checks pools, each for itself and against each other, and what lies between them.
    pub(in crate::simulation) fn check_fleet(&self, faults: &mut Faults) {
        let beside = [
            ("kv_transfer", self.kv_transfer.is_some()),
            ("pd_decider", self.pd_decider.is_some()),
            ("pool_router", self.pool_router.is_some()),
            ("budget", self.budget.is_some()),
        ];
        if self.pools.is_empty() {
            for (field, _) in beside.into_iter().filter(|(_, given)| *given) {
                faults.add(field, "found without `pools`: give the pools it is for, or leave it out");
            }
            return;
        }
        faults.require(self.client_timeout_s.is_none(), "client_timeout_s", || {
            "found with `pools`, for which it is not built: leave it out".into()
        });
        let mut names = BTreeSet::new();
        for (i, pool) in self.pools.iter().enumerate() {
            faults.within(format!("pools[{i}]"), |faults| {
                faults.require(!pool.name.trim().is_empty(), "name", || "an empty name found".into());
                faults.require(!pool.name.contains(['.', '[', ']']), "name", || {
                    format!("`{}` found, expected a name without `.`, `[` and `]`", pool.name)
                });
                faults.require(names.insert(&pool.name), "name", || format!("`{}` found twice", pool.name));
                if let Some(settings) = &pool.settings {
                    settings.check_alone(faults);
                    pool.check_role(settings, faults);
                }
            });
        }
        self.check_phases(faults);
        let any_prefill = self.pools.iter().any(|pool| pool.role == Role::Prefill);
        for (field, _) in beside[..2].iter().filter(|(_, given)| *given && !any_prefill) {
            faults.add(
                field,
                "found without a pool of role `prefill`: nothing is prefilled apart; leave it out",
            );
        }
        if let Some(transfer) = &self.kv_transfer {
            faults.within("kv_transfer", |faults| transfer.check(faults));
        }
        if let Some(decider) = &self.pd_decider {
            faults.within("pd_decider", |faults| decider.check(faults));
        }
        if let Some(router) = &self.pool_router {
            faults.within("pool_router", |faults| self.check_pool_router(router, faults));
        }
        if let Some(budget) = &self.budget {
            faults.within("budget", |faults| {
                budget.check(faults);
                self.check_floor(budget, faults);
            });
        }
    }

    /// Every model is served from first to last, and what is prefilled in one place can be read in the other.
    fn check_phases(&self, faults: &mut Faults) {
        let models: BTreeSet<&str> =
            self.pools.iter().filter_map(|pool| Some(pool.settings.as_ref()?.model.as_str())).collect();
        for model in models {
            let of_role = |role: Role| {
                let pools = self.pools.iter().filter(move |pool| pool.role == role);
                pools
                    .filter_map(|pool| Some((pool, pool.settings.as_deref()?)))
                    .filter(move |(_, settings)| settings.model == model)
            };
            let (prefill, decode) = (of_role(Role::Prefill).next(), of_role(Role::Decode).next());
            match (prefill, decode) {
                (Some(_), None) => faults.add(
                    "pools",
                    format!(
                        "no pool of role `decode` found for model `{model}`, which has one of role `prefill`"
                    ),
                ),
                (None, Some(_)) => faults.add(
                    "pools",
                    format!(
                        "no pool of role `prefill` found for model `{model}`, which has one of role `decode`"
                    ),
                ),
                _ => {}
            }
            if prefill.is_some() && of_role(Role::Both).next().is_some() {
                let message = format!(
                    "pools of role `both` beside `prefill` and `decode` found for model `{model}`, which is not built: \
                    give `pd_decider`, by which decode pools serve some requests whole, or leave one kind out"
                );
                faults.add("pools", message);
            }
            let blocks: BTreeSet<u32> = of_role(Role::Prefill)
                .chain(of_role(Role::Decode))
                .map(|(_, settings)| settings.replica_scheduler.common().block_size_tokens)
                .collect();
            faults.require(blocks.len() < 2, "pools", || {
                format!(
                    "blocks of {blocks:?} tokens found in pools of model `{model}`, expected one size: KV caches are handed over by blocks"
                )
            });
        }
    }

    fn check_pool_router(&self, router: &PoolRouter, faults: &mut Faults) {
        let names: Vec<&str> = self.pools.iter().map(|pool| pool.name.as_str()).collect();
        let unknown = |name: &str| format!("no pool `{name}`, expected one of {}", quoted(&names));
        faults.within(router.name(), |faults| match router {
            PoolRouter::Length(LengthSettings { pool, .. }) => {
                faults.require(names.contains(&pool.as_str()), "pool", || unknown(pool))
            }
            PoolRouter::Weighted(WeightedSettings { weights }) => faults.within("weights", |faults| {
                for (name, weight) in weights {
                    faults.require(names.contains(&name.as_str()), name, || unknown(name));
                    faults.not_negative(name, *weight);
                }
                // Where a request begins and where it goes on are chosen apart, for each model.
                let mut weighed: BTreeMap<(&str, bool), f64> = BTreeMap::new();
                for (pool, settings) in
                    self.pools.iter().filter_map(|pool| Some((pool, pool.settings.as_deref()?)))
                {
                    let weight = weights.get(&pool.name).copied().unwrap_or(0.0);
                    *weighed.entry((&settings.model, pool.role == Role::Decode)).or_default() += weight;
                }
                for ((model, is_decode), _) in weighed.into_iter().filter(|(_, weight)| *weight <= 0.0) {
                    let kind = if is_decode { "decode pools" } else { "pools where requests begin" };
                    faults.add(
                        "",
                        format!(
                            "no weight above 0 found for {kind} of model `{model}`, expected one at least"
                        ),
                    );
                }
            }),
            _ => {}
        });
    }

    /// What is always there has to fit in.
    fn check_floor(&self, budget: &BudgetSettings, faults: &mut Faults) {
        let pools = || self.pools.iter().filter_map(|pool| Some((pool, pool.settings.as_deref()?)));
        let needed = |node: Option<&str>| -> u64 {
            let counted = pools().filter(|(_, settings)| node.is_none_or(|node| settings.node == node));
            counted
                .map(|(pool, settings)| {
                    u64::from(settings.min_replicas.max(settings.initial_replicas))
                        * pool.devices_per_replica()
                })
                .sum()
        };
        let mut check = |field: &str, devices: u32, needed: u64| {
            faults.require(u64::from(devices) >= needed, field, || {
                format!("{devices} found, expected at least {needed}: `initial_replicas` and `min_replicas` of all pools have to fit")
            });
        };
        if let Some(devices) = budget.devices {
            check("devices", devices, needed(None));
        }
        for (node, &devices) in &budget.devices_by_node {
            check(&format!("devices_by_node.{node}"), devices, needed(Some(node)));
        }
        let nodes: BTreeSet<&str> = pools().map(|(_, settings)| settings.node.as_str()).collect();
        if budget.devices_by_node.is_empty() {
            return;
        }
        for node in nodes.iter().filter(|node| !budget.devices_by_node.contains_key(**node)) {
            faults.add(
                "devices_by_node",
                format!("no limit on `{node}` found, which a pool has: name every pool's node"),
            );
        }
        for node in budget.devices_by_node.keys().filter(|node| !nodes.contains(node.as_str())) {
            faults.add(
                "devices_by_node",
                format!(
                    "`{node}` found, expected nodes of pools: {}",
                    quoted(&nodes.iter().copied().collect::<Vec<_>>())
                ),
            );
        }
    }
}

impl Pool {
    /// What a pool of one phase can be.
    fn check_role(&self, settings: &ClusterSettings, faults: &mut Faults) {
        if self.role == Role::Both {
            return;
        }
        let role = json!(self.role);
        let name = settings.replica_scheduler.name();
        faults.require(name == "vllm_v1", "replica_scheduler", || {
            format!(
                "`{name}` found, expected `vllm_v1` in a pool of role {role}: handing KV caches over is built for vLLM's scheduler alone"
            )
        });
        faults.require(!settings.replica_scheduler.drafts_tokens(), "replica_scheduler", || {
            format!("`speculative` found, which is not built for pools of role {role}: leave it out")
        });
        faults.require(settings.scale_down_grace_s.is_none(), "scale_down_grace_s", || {
            format!("found in a pool of role {role}, which is not built: leave it out, and replicas finish what they have")
        });
        faults.require(settings.pipeline_parallel == 1, "pipeline_parallel", || {
            format!(
                "{} found, expected 1 in a pool of role {role}: more is not built; raise `tensor_parallel`",
                settings.pipeline_parallel
            )
        });
    }
}
