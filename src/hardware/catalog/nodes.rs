//! Nodes by name.
//!
//! The first five, with prices per node-hour, are those of microsoft/vidur
//! (`vidur/config/node_sku_config.py`), which the lab uses; its price of `a100_dgx` is half of what its
//! devices cost in pairwise nodes and may be a slip. The others come without a price: none could be sourced,
//! and none is invented.

use super::Node;

const fn priced(
    name: &'static str,
    device: &'static str,
    devices_per_node: u32,
    price_usd_per_hour: f64,
) -> Node {
    Node { name, device, devices_per_node, price_usd_per_hour: Some(price_usd_per_hour) }
}

const fn unpriced(name: &'static str, device: &'static str, devices_per_node: u32) -> Node {
    Node { name, device, devices_per_node, price_usd_per_hour: None }
}

pub const NODES: &[Node] = &[
    priced("a40_pairwise_nvlink", "a40", 8, 8.0),
    priced("a100_pairwise_nvlink", "a100", 4, 8.0),
    priced("h100_pairwise_nvlink", "h100", 4, 14.0),
    priced("a100_dgx", "a100", 8, 8.0),
    priced("h100_dgx", "h100", 8, 28.0),
    unpriced("h200_dgx", "h200", 8),
    unpriced("b200_dgx", "b200", 8),
    unpriced("b300_dgx", "b300", 8),
    unpriced("gb200_nvl", "gb200", 4),
    unpriced("gb300_nvl", "gb300", 4),
    unpriced("l40s_server", "l40s", 8),
    unpriced("a100_pcie_server", "a100_pcie", 8),
    unpriced("h100_pcie_server", "h100_pcie", 8),
    unpriced("rtx_pro_6000_server", "rtx_pro_6000_server", 8),
    unpriced("mi300x_server", "mi300x", 8),
    unpriced("a30_server", "a30", 8),
    unpriced("l4_server", "l4", 8),
    unpriced("b60_server", "b60", 8),
];
