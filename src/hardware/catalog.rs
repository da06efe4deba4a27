//! Named models, devices and nodes.
//!
//! Sources: model shapes from the models' published configurations; devices and nodes, with prices per node-hour, from microsoft/vidur
//! (`vidur/config/{model_config,device_sku_config,node_sku_config}.py`), which the lab uses.

/// Shape of a dense transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Model {
    pub name: &'static str,
    pub num_layers: u32,
    pub embedding_dim: u32,
    pub num_query_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    pub mlp_hidden_dim: u32,
    pub vocabulary: u32,
    /// Gated MLPs have three weight matrices, plain ones two.
    pub gated_mlp: bool,
}

/// One accelerator.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub name: &'static str,
    pub memory_gib: f64,
}

/// A machine as it is rented: devices, their links, a price.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub name: &'static str,
    pub device: &'static str,
    pub devices_per_node: u32,
    /// Dollars per node and hour; a node is paid whole.
    pub price_usd_per_hour: f64,
}

pub const MODELS: &[Model] = &[Model {
    name: "meta-llama/Meta-Llama-3-70B",
    num_layers: 80,
    embedding_dim: 8192,
    num_query_heads: 64,
    num_kv_heads: 8,
    head_dim: 128,
    mlp_hidden_dim: 28672,
    vocabulary: 128_256,
    gated_mlp: true,
}];

pub const DEVICES: &[Device] =
    &[Device { name: "a40", memory_gib: 45.0 }, Device { name: "a100", memory_gib: 80.0 }, Device { name: "h100", memory_gib: 80.0 }];

pub const NODES: &[Node] = &[
    Node { name: "a40_pairwise_nvlink", device: "a40", devices_per_node: 8, price_usd_per_hour: 8.0 },
    Node { name: "a100_pairwise_nvlink", device: "a100", devices_per_node: 4, price_usd_per_hour: 8.0 },
    Node { name: "h100_pairwise_nvlink", device: "h100", devices_per_node: 4, price_usd_per_hour: 14.0 },
    Node { name: "a100_dgx", device: "a100", devices_per_node: 8, price_usd_per_hour: 8.0 },
    Node { name: "h100_dgx", device: "h100", devices_per_node: 8, price_usd_per_hour: 28.0 },
];

pub fn model(name: &str) -> Option<&'static Model> {
    MODELS.iter().find(|model| model.name == name)
}

pub fn node(name: &str) -> Option<&'static Node> {
    NODES.iter().find(|node| node.name == name)
}

pub fn device(name: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| device.name == name)
}
