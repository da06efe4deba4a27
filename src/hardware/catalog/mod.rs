//! Named models, devices and nodes.
//!
//! A model is also any dense transformer whose published `config.json` is at hand ([`model_from`]).

mod config_json;
mod devices;
mod models;
mod nodes;

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::{Files, HardwareError, Precision};
use crate::settings::quoted;

pub use devices::DEVICES;
pub use models::MODELS;
pub use nodes::NODES;

/// Shape of a dense transformer.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Model {
    pub name: Cow<'static, str>,
    pub num_layers: u32,
    pub embedding_dim: u32,
    pub num_query_heads: u32,
    pub num_kv_heads: u32,
    pub head_dim: u32,
    pub mlp_hidden_dim: u32,
    pub vocabulary: u32,
    /// Gated MLPs have three weight matrices, plain ones two.
    pub gated_mlp: bool,
    /// Queries and keys are normalised before attention.
    pub qk_norm: bool,
    /// Input embedding and LM head are one matrix.
    pub tied_embeddings: bool,
}

impl Model {
    /// Parameters of all transformer layers, norms and biases aside.
    pub fn layer_parameters(&self) -> f64 {
        let (embedding, head) = (f64::from(self.embedding_dim), f64::from(self.head_dim));
        let attention = embedding * head * 2.0 * f64::from(self.num_query_heads + self.num_kv_heads);
        let matrices = if self.gated_mlp { 3.0 } else { 2.0 };
        f64::from(self.num_layers) * (attention + matrices * embedding * f64::from(self.mlp_hidden_dim))
    }

    /// Parameters of the input embedding, which are as many as those of the LM head.
    pub fn embedding_parameters(&self) -> f64 {
        f64::from(self.vocabulary) * f64::from(self.embedding_dim)
    }
}

/// One accelerator, after its data sheet.
#[derive(Debug, Clone, PartialEq)]
pub struct Device {
    pub name: &'static str,
    /// Other names in measured data.
    pub aliases: &'static [&'static str],
    pub memory_gib: f64,
    pub memory_gb_per_s: f64,
    /// Dense, without sparsity.
    pub peak_bf16_tflops: f64,
    /// Dense; `None` where the device has no FP8 units.
    pub peak_fp8_tflops: Option<f64>,
    /// To the other devices of its node, one direction.
    pub link_gb_per_s: f64,
    pub link: Link,
    /// To other nodes, one direction, per device.
    pub inter_node_gb_per_s: f64,
}

/// How the devices of a node are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    NvLink,
    Pcie,
}

/// A machine as it is rented: devices, their links, a price.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    pub name: &'static str,
    pub device: &'static str,
    pub devices_per_node: u32,
    /// Dollars per node and hour; a node is paid whole. `None` where no source gives one: the user has to.
    pub price_usd_per_hour: Option<f64>,
}

/// A named model.
pub fn model(name: &str) -> Option<&'static Model> {
    let name = models::ALIASES.iter().find(|(alias, _)| *alias == name).map_or(name, |(_, name)| name);
    MODELS.iter().find(|model| model.name == name)
}

/// Whether the publishers of a model propose to sample its output by top-k or top-p.
pub fn samples_by_default(name: &str) -> bool {
    model(name).is_some_and(|model| models::SAMPLING.contains(&model.name.as_ref()))
}

pub fn node(name: &str) -> Option<&'static Node> {
    NODES.iter().find(|node| node.name == name)
}

/// A device by its name or another one in use for it.
pub fn device(name: &str) -> Option<&'static Device> {
    DEVICES.iter().find(|device| device.name == name || device.aliases.contains(&name))
}

/// A setting that names a file and not a model of the catalogue.
pub fn is_config_path(name: &str) -> bool {
    name.ends_with(".json")
}

/// A named model, or the dense transformer that a Hugging Face `config.json` describes.
pub fn model_from(name: &str, files: &Files) -> Result<Cow<'static, Model>, HardwareError> {
    match model(name) {
        Some(model) => Ok(Cow::Borrowed(model)),
        None if is_config_path(name) => config_json::read(&files.find(name.as_ref())?).map(Cow::Owned),
        None => Err(HardwareError::Unsupported(unknown_model(name))),
    }
}

/// What a model's `config.json` says that is not modelled where its weights are taken to be stored so, a sentence each; nothing for a
/// named model.
pub fn not_modelled(name: &str, weights: Precision, files: &Files) -> Result<Vec<String>, HardwareError> {
    if model(name).is_some() || !is_config_path(name) {
        return Ok(Vec::new());
    }
    config_json::not_modelled(&files.find(name.as_ref())?, weights)
}

/// The message for a model that is not in the catalogue.
pub fn unknown_model(name: &str) -> String {
    let names: Vec<&str> = MODELS.iter().map(|model| model.name.as_ref()).collect();
    format!("unknown model `{name}`, expected one of {} or the path of a Hugging Face config.json", quoted(&names))
}

/// The message for a node that is not in the catalogue.
pub fn unknown_node(name: &str) -> String {
    format!("unknown node `{name}`, expected one of {}", quoted(&NODES.iter().map(|node| node.name).collect::<Vec<_>>()))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_nodes_have_devices() {
        let mut names = BTreeSet::new();
        let aliases = models::ALIASES.iter().map(|(alias, _)| *alias);
        assert!(MODELS.iter().map(|model| model.name.as_ref()).chain(aliases).all(|name| names.insert(name)));
        assert!(DEVICES.iter().flat_map(|device| device.aliases.iter().copied().chain([device.name])).all(|name| names.insert(name)));
        assert!(NODES.iter().all(|node| device(node.device).is_some()));
        assert!(models::SAMPLING.iter().all(|name| MODELS.iter().any(|model| model.name == *name)));
        assert!(models::ALIASES.iter().all(|(alias, name)| model(alias).is_some_and(|model| model.name == *name)));
    }

    /// Billions of parameters as published with the models.
    #[test]
    fn parameter_counts_are_the_published_ones() {
        let published = [
            ("meta-llama/Llama-2-7b-hf", 6.74),
            ("meta-llama/Llama-2-70b-hf", 68.98),
            ("meta-llama/Meta-Llama-3-8B", 8.03),
            ("meta-llama/Meta-Llama-3-70B", 70.55),
            ("meta-llama/Llama-3.1-405B", 405.85),
            ("codellama/CodeLlama-34b-Instruct-hf", 33.74),
            ("internlm/internlm-20b", 20.09),
            ("Qwen/Qwen-72B", 72.29),
            ("microsoft/phi-2", 2.78),
            ("Qwen/Qwen2.5-7B", 7.62),
            ("Qwen/Qwen3-8B", 8.19),
            ("Qwen/Qwen3-14B", 14.77),
            ("Qwen/Qwen3-32B", 32.76),
            ("mistralai/Mistral-Nemo-Base-2407", 12.25),
            ("meta-llama/Llama-2-13b-hf", 13.02),
            ("mistralai/Mistral-7B-v0.1", 7.24),
            ("mistralai/Mistral-Small-24B-Base-2501", 23.57),
            ("Qwen/Qwen2.5-14B", 14.77),
            ("Qwen/Qwen2.5-32B", 32.76),
            ("Qwen/Qwen2.5-72B", 72.71),
            ("01-ai/Yi-34B", 34.39),
        ];
        assert_eq!(published.len(), MODELS.len());
        for (name, billions) in published {
            let model = model(name).unwrap();
            let embeddings = if model.tied_embeddings { 1.0 } else { 2.0 };
            let counted = (model.layer_parameters() + embeddings * model.embedding_parameters()) / 1e9;
            assert!((counted / billions - 1.0).abs() < 2e-3, "{name}: {counted}, published {billions}");
        }
    }
}
