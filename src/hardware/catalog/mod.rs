//! Named models, devices and nodes.
//!
//! A model is also any transformer whose published `config.json` is at hand ([`model_from`]).

mod config_json;
mod devices;
mod experts;
mod model;
mod models;
mod nodes;
mod quantization;

use std::borrow::Cow;

use super::{Files, HardwareError, Weights};
use crate::settings::quoted;

pub use devices::DEVICES;
pub use model::{Experts, Indexer, LatentAttention, Model, Window};
pub use models::MODELS;
pub use nodes::NODES;

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
    /// Dense; `None` where the device has no units for 4-bit floats.
    pub peak_fp4_tflops: Option<f64>,
    /// To the other devices of its node, one direction.
    pub link_gb_per_s: f64,
    pub link: Link,
    /// To other nodes, one direction, per device.
    pub inter_node_gb_per_s: f64,
}

/// How the devices of a node are joined.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// Or AMD's Infinity Fabric.
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
    all_models().find(|model| model.name == name)
}

/// Every named model: dense ones, then mixtures of experts.
pub fn all_models() -> impl Iterator<Item = &'static Model> {
    MODELS.iter().chain(experts::MODELS)
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

/// A named model, or the transformer that a Hugging Face `config.json` describes.
pub fn model_from(name: &str, files: &Files) -> Result<Cow<'static, Model>, HardwareError> {
    match model(name) {
        Some(model) => Ok(Cow::Borrowed(model)),
        None if is_config_path(name) => config_json::read(&files.find(name.as_ref())?).map(Cow::Owned),
        None => Err(HardwareError::Unsupported(unknown_model(name))),
    }
}

/// What is approximated for a model whose weights are taken to be stored so, and what a file of its owner was
/// taken to say where it differs from a plain transformer in bf16; a sentence each.
pub fn approximations(model: &Model, weights: Weights) -> Vec<String> {
    let own = model.approximations.iter().map(|sentence| sentence.to_string());
    let mut sentences: Vec<String> =
        if is_config_path(&model.name) { own.collect() } else { experts::approximations(&model.name) };
    if is_config_path(&model.name) {
        if !model.weights.is_bf16() && weights == model.weights {
            sentences.push(format!("{} weights, as its quantization says", model.weights.name()));
        }
        if let Some(Window { tokens, layers }) = model.window {
            sentences.push(format!(
                "a sliding window of {tokens} tokens in {layers} of {} layers, in step times and KV cache",
                model.num_layers
            ));
        }
    }
    if weights != model.weights && !model.weights.is_bf16() {
        sentences.push(format!(
            "published with {} weights, taken as {} as the settings say",
            model.weights.name(),
            weights.name()
        ));
    }
    sentences.into_iter().map(|sentence| format!("{}: {sentence}", model.name)).collect()
}

/// The message for a model that is not in the catalogue.
pub fn unknown_model(name: &str) -> String {
    let names: Vec<&str> = all_models().map(|model| model.name.as_ref()).collect();
    format!(
        "unknown model `{name}`, expected one of {} or the path of a Hugging Face config.json",
        quoted(&names)
    )
}

/// The message for a node that is not in the catalogue.
pub fn unknown_node(name: &str) -> String {
    format!(
        "unknown node `{name}`, expected one of {}",
        quoted(&NODES.iter().map(|node| node.name).collect::<Vec<_>>())
    )
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn names_are_unique_and_nodes_have_devices() {
        let mut names = BTreeSet::new();
        let aliases = models::ALIASES.iter().map(|(alias, _)| *alias);
        assert!(all_models().map(|model| model.name.as_ref()).chain(aliases).all(|name| names.insert(name)));
        assert!(
            DEVICES
                .iter()
                .flat_map(|device| device.aliases.iter().copied().chain([device.name]))
                .all(|name| names.insert(name))
        );
        assert!(NODES.iter().all(|node| device(node.device).is_some()));
        assert!(models::SAMPLING.iter().all(|name| all_models().any(|model| model.name == *name)));
        assert!(
            models::ALIASES.iter().all(|(alias, name)| model(alias).is_some_and(|model| model.name == *name))
        );
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

    /// Billions of parameters, all and of one token, as published with the models; MTP layers and encoders
    /// are not among the former, and whether embeddings are among the latter differs.
    #[test]
    fn parameter_counts_of_mixtures_are_the_published_ones() {
        for (name, billions, active) in [
            ("mistralai/Mixtral-8x7B-v0.1", 46.7, 12.9),
            ("mistralai/Mixtral-8x22B-v0.1", 140.6, 39.0),
            ("Qwen/Qwen3-30B-A3B", 30.5, 3.3),
            ("Qwen/Qwen3-235B-A22B", 235.1, 22.0),
            ("Qwen/Qwen3-Coder-480B-A35B-Instruct", 480.2, 35.0),
            ("openai/gpt-oss-20b", 20.9, 3.6),
            ("openai/gpt-oss-120b", 116.8, 5.1),
            ("MiniMaxAI/MiniMax-M2.5", 229.0, 10.0),
            ("deepseek-ai/DeepSeek-V3", 671.0, 37.0),
            ("deepseek-ai/DeepSeek-V3.2", 671.9, 37.0),
            ("deepseek-ai/DeepSeek-V2", 235.7, 21.0),
            ("deepseek-ai/DeepSeek-V2-Lite", 15.7, 2.4),
            ("moonshotai/Kimi-K2-Instruct", 1026.0, 32.0),
            ("moonshotai/Kimi-K2.5", 1026.0, 32.0),
            ("zai-org/GLM-4.5", 352.8, 32.0),
            ("zai-org/GLM-4.5-Air", 106.9, 12.0),
            ("zai-org/GLM-5", 743.9, 40.0),
            ("meta-llama/Llama-4-Scout-17B-16E-Instruct", 107.8, 17.0),
            ("meta-llama/Llama-4-Maverick-17B-128E-Instruct", 400.7, 17.0),
        ] {
            let model = model(name).unwrap();
            let embeddings = 2.0 * model.embedding_parameters();
            let counted = (model.layer_parameters() + embeddings) / 1e9;
            assert!((counted / billions - 1.0).abs() < 5e-3, "{name}: {counted}, published {billions}");
            let counted = (model.active_parameters() + embeddings) / 1e9;
            assert!((counted / active - 1.0).abs() < 0.2, "{name}: {counted} active, published {active}");
        }
    }
}
