//! Which models fit on which devices, and how far their step times rest on measurements: a page made from the
//! catalogue.

use std::fmt::Write as _;

use super::analytical::{self, Support};
use super::catalog::{self, Device, Model, Node};
use super::memory::{self, MemoryPlanner, Needs, VllmDefaults, VllmPlanner};
use super::{Deployment, Files};

/// Tokens of a request that has to fit.
const REQUEST_TOKENS: u32 = 8192;

/// The fewest devices of one node that hold a model as it is published, with one request of
/// [`REQUEST_TOKENS`].
pub fn fewest_devices(model: &Model, node: &Node) -> Option<u32> {
    let planner = MemoryPlanner::Vllm(VllmPlanner::default());
    [1, 2, 4, 8].into_iter().filter(|&devices| devices <= node.devices_per_node).find(|&devices| {
        let needs = Needs {
            planner: &planner,
            max_request_tokens: REQUEST_TOKENS,
            block_size_tokens: 16,
            memory_margin_fraction: 0.1,
            weights: model.weights,
            kv_cache: model.kv_cache,
            vllm: VllmDefaults::default(),
        };
        Deployment::resolve(&model.name, node.name, devices, 1, &Files::default())
            .is_ok_and(|deployment| memory::plan(&deployment, &needs).is_ok())
    })
}

/// The largest node with a device.
fn node_with(device: &Device) -> Option<&'static Node> {
    catalog::NODES.iter().filter(|node| node.device == device.name).max_by_key(|node| node.devices_per_node)
}

/// The page `docs/hardware.md`.
pub fn page() -> String {
    let mut out = String::from(
        "# Models and devices\n\n\
         Written by `scalefront hardware list --markdown`; do not edit.\n\n\
         The fewest devices of one node that hold a model as it is published and one request of 8,192 tokens (vLLM's accounting), and what \
         `\"execution_time\": \"analytical\"` rests on there: **M** constants fitted to measurements of this device for everything the \
         model needs; *P* for a part, the rest medians of other devices or of a like format; D its data sheet with the efficiencies of other \
         devices. - fits on no node; x has no units for the format. The line \"step times\" of `scalefront hardware show` tells each source.\n\n",
    );
    let devices: Vec<(&Device, &Node)> =
        catalog::DEVICES.iter().filter_map(|device| Some((device, node_with(device)?))).collect();
    let names: Vec<&str> = devices.iter().map(|(device, _)| device.name).collect();
    let _ = writeln!(out, "| model | attention | experts | weights | B | {} |", names.join(" | "));
    let _ = writeln!(out, "|---|---|---|---|---|{}", "---|".repeat(names.len()));
    for model in catalog::all_models() {
        let experts = model
            .experts
            .map_or_else(|| "-".into(), |experts| format!("{} of {}", experts.per_token, experts.count));
        let embeddings = if model.tied_embeddings { 1.0 } else { 2.0 };
        let billions = (model.layer_parameters() + embeddings * model.embedding_parameters()) / 1e9;
        let weights =
            if model.experts.is_some() { model.weights.name() } else { model.weights.layers.name().into() };
        let _ = write!(
            out,
            "| {} | {} | {experts} | {weights} | {billions:.0} |",
            model.name,
            model.attention_kind()
        );
        for (device, node) in &devices {
            let cell = match (analytical::support(model, device), fewest_devices(model, node)) {
                (Support::NoUnits, _) => "x".into(),
                (_, None) => "-".into(),
                (Support::Measured, Some(devices)) => format!("**{devices} M**"),
                (Support::Partly, Some(devices)) => format!("*{devices} P*"),
                (Support::DataSheet, Some(devices)) => format!("{devices} D"),
            };
            let _ = write!(out, " {cell} |");
        }
        out.push('\n');
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_that_hold_a_model() {
        let fewest = |model: &str, node: &str| {
            fewest_devices(catalog::model(model).unwrap(), catalog::node(node).unwrap())
        };
        assert_eq!(fewest("deepseek-ai/DeepSeek-V3", "h200_dgx"), Some(8));
        assert_eq!(fewest("deepseek-ai/DeepSeek-V3", "h100_dgx"), None);
        assert_eq!(fewest("openai/gpt-oss-120b", "h200_dgx"), Some(1));
        assert_eq!(fewest("meta-llama/Meta-Llama-3-8B", "l40s_server"), Some(1));
    }

    #[test]
    fn sources_are_told_apart() {
        let support = |model: &str, device: &str| {
            analytical::support(catalog::model(model).unwrap(), catalog::device(device).unwrap())
        };
        assert_eq!(support("deepseek-ai/DeepSeek-V3", "h200"), Support::Measured);
        assert_eq!(support("deepseek-ai/DeepSeek-V3", "a100"), Support::NoUnits);
        assert_eq!(support("deepseek-ai/DeepSeek-V3", "b300"), Support::Partly);
        assert_eq!(support("mistralai/Mixtral-8x7B-v0.1", "mi300x"), Support::DataSheet);
        assert!(
            page().lines().any(
                |line| line.starts_with("| deepseek-ai/DeepSeek-V3 | MLA | 8 of 256 | fp8_block | 671 |")
            )
        );
    }
}
