//! The shape of a transformer from the `config.json` that is published with it on Hugging Face.
//!
//! What each key means was read in the configuration and modelling files of `transformers` and of the models'
//! own repositories.

mod kinds;

use std::borrow::Cow;
use std::path::Path;

use serde_json::Value;

use super::model::{Experts, Indexer, LatentAttention, Model, Window};
use super::{experts, quantization};
use crate::hardware::HardwareError;
use crate::settings::quoted;
use kinds::{KINDS, Kind, NOT_MODELLED, QK_NORM, TIED_BY_DEFAULT};

/// What ModelOpt writes beside a `config.json` that says nothing of quantisation.
const BESIDE: &str = "hf_quant_config.json";

pub(super) fn read(file: &Path) -> Result<Model, HardwareError> {
    let read = |file: &Path| {
        std::fs::read_to_string(file)
            .map_err(|source| HardwareError::Unreadable { file: file.into(), source })
    };
    let bad = |file: &Path, message: String| HardwareError::BadModel { file: file.into(), message };
    let text = read(file)?;
    let beside = file.with_file_name(BESIDE);
    let quantization = match beside.is_file() {
        true => Some(
            serde_json::from_str(&read(&beside)?)
                .map_err(|error| bad(&beside, format!("no JSON: {error}")))?,
        ),
        false => None,
    };
    parse_with(&text, quantization, &file.display().to_string()).map_err(|message| bad(file, message))
}

/// The part of a file that tells of the language model.
struct Config<'a> {
    root: &'a Value,
    text: &'a Value,
    kind_name: &'a str,
    kind: Kind,
}

impl Config<'_> {
    fn find(&self, key: &str) -> Option<&Value> {
        self.text.get(key).filter(|value| !value.is_null())
    }

    fn bool(&self, key: &str) -> Option<bool> {
        self.find(key).and_then(Value::as_bool)
    }

    /// A count that may be absent or 0.
    fn count(&self, key: &str) -> Result<Option<u32>, String> {
        match self.find(key) {
            None => Ok(None),
            Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()) {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{key}` is {value}, expected a whole number of at least 0")),
            },
        }
    }

    fn number(&self, key: &str) -> Result<Option<u32>, String> {
        match self.find(key) {
            None => Ok(None),
            Some(value) => match value
                .as_u64()
                .and_then(|number| u32::try_from(number).ok())
                .filter(|&number| number > 0)
            {
                Some(number) => Ok(Some(number)),
                None => Err(format!("`{key}` is {value}, expected a whole number of at least 1")),
            },
        }
    }

    fn required(&self, key: &str) -> Result<u32, String> {
        self.number(key)?.ok_or_else(|| format!("no `{key}`"))
    }

    /// The first of some keys that is there.
    fn either(&self, keys: &[&str]) -> Result<u32, String> {
        for key in keys {
            if let Some(number) = self.number(key)? {
                return Ok(number);
            }
        }
        Err(format!("no `{}`", keys[0]))
    }

    /// The kinds of the layers, where the file lists them.
    fn layer_types(&self) -> Vec<&str> {
        self.find("layer_types")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
            .collect()
    }
}

fn config<'a>(root: &'a Value) -> Result<Config<'a>, String> {
    let text = match root.get("text_config").or_else(|| root.get("llm_config")) {
        Some(part) if part.is_object() => part,
        _ => root,
    };
    let named = |part: &'a Value| part.get("model_type").and_then(Value::as_str);
    let kind_name =
        named(text).or_else(|| named(root)).ok_or("no text `model_type`; is this a model's config.json?")?;
    if let Some((_, why)) = NOT_MODELLED.iter().find(|(name, _)| *name == kind_name) {
        return Err(format!(
            "`model_type` {kind_name} has {why}, which is not modelled: it would take times of these layers and their part of memory"
        ));
    }
    let Some(&(_, kind)) = KINDS.iter().find(|(name, _)| *name == kind_name) else {
        let names: Vec<&str> = KINDS.iter().map(|(name, _)| *name).collect();
        return Err(format!(
            "`model_type` is `{kind_name}`, expected one of {}; a model that is built like one of these is read under its name",
            quoted(&names)
        ));
    };
    Ok(Config { root, text, kind_name, kind })
}

#[cfg(test)]
fn parse(text: &str, name: &str) -> Result<Model, String> {
    parse_with(text, None, name)
}

/// `quantization`: what is said of it elsewhere, in case the file says nothing.
fn parse_with(text: &str, quantization: Option<Value>, name: &str) -> Result<Model, String> {
    let mut root: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    if let (Some(quantization), Some(keys)) = (quantization, root.as_object_mut())
        && keys.get("quantization_config").is_none_or(Value::is_null)
    {
        keys.insert("quantization_config".into(), quantization);
    }
    let kind_name = config(&root)?.kind_name.to_string();
    let part =
        ["text_config", "llm_config"].into_iter().find(|part| root.get(part).is_some_and(Value::is_object));
    let text = match part {
        Some(part) => &mut root[part],
        None => &mut root,
    };
    kinds::to_common_keys(&kind_name, text)?;
    let config = config(&root)?;
    let (kind, kind_name) = (config.kind, config.kind_name);
    let (embedding_dim, num_query_heads) =
        (config.required("hidden_size")?, config.required("num_attention_heads")?);
    let num_layers = config.required("num_hidden_layers")?;
    let mut notes: Vec<Cow<'static, str>> = Vec::new();
    let latent = latent(&config)?;
    let experts = experts_of(&config, num_layers)?;
    let head_dim = match (latent, config.number("head_dim")?) {
        (Some(latent), _) => latent.nope_dim + latent.rope_dim,
        (None, Some(head_dim)) => head_dim,
        (None, None) if embedding_dim % num_query_heads == 0 => embedding_dim / num_query_heads,
        (None, None) => {
            return Err(format!(
                "`hidden_size` {embedding_dim} is no multiple of `num_attention_heads` {num_query_heads}"
            ));
        }
    };
    let has_mlp = experts.is_none_or(|experts| experts.dense_layers > 0);
    let mlp = match kind {
        _ if !has_mlp => 0,
        // The first Qwen counts both halves of the gated layer.
        Kind::Gated if kind_name == "qwen" => config.required("intermediate_size")? / 2,
        Kind::Llama4 => config.either(&["intermediate_size_mlp", "intermediate_size"])?,
        _ => config.required("intermediate_size")?,
    };
    let (weights, kv_cache) = quantization::read(config.root, config.text)?;
    if !std::ptr::eq(config.root, config.text) {
        notes.push(
            "of a multimodal model only the text part is modelled: neither the weights nor the time of its encoders are counted".into(),
        );
    }
    if config.count("num_nextn_predict_layers")?.is_some_and(|layers| layers > 0) {
        notes.push(experts::NO_PREDICTION.into());
    }
    if config.count("index_topk_freq")?.is_some_and(|every| every > 1) {
        notes.push("every layer is taken to choose the tokens it attends to itself, though some take over the choice of another".into());
    }
    if kind == Kind::Llama4 {
        notes.push(experts::CHUNKED_AS_FULL.into());
    }
    Ok(Model {
        name: name.to_string().into(),
        num_layers,
        embedding_dim,
        num_query_heads,
        num_kv_heads: if latent.is_some() {
            num_query_heads
        } else {
            config.number("num_key_value_heads")?.unwrap_or(num_query_heads)
        },
        head_dim,
        mlp_hidden_dim: mlp,
        vocabulary: config.required("vocab_size")?,
        gated_mlp: kind != Kind::Plain,
        qk_norm: latent.is_none()
            && config.bool("use_qk_norm").unwrap_or(QK_NORM.contains(&kind_name))
            && kind != Kind::Llama4,
        tied_embeddings: [config.text, config.root]
            .into_iter()
            .find_map(|part| part.get("tie_word_embeddings").and_then(Value::as_bool))
            .unwrap_or(TIED_BY_DEFAULT.contains(&kind_name)),
        latent,
        window: window(&config, num_layers)?,
        experts,
        weights,
        kv_cache,
        approximations: notes,
    })
}

fn latent(config: &Config) -> Result<Option<LatentAttention>, String> {
    let Some(kv_rank) = config.number("kv_lora_rank")? else { return Ok(None) };
    let indexer = match config.number("index_topk")? {
        Some(top_k) => Some(Indexer {
            heads: config.required("index_n_heads")?,
            head_dim: config.required("index_head_dim")?,
            top_k,
        }),
        None => None,
    };
    Ok(Some(LatentAttention {
        query_rank: config.count("q_lora_rank")?.unwrap_or(0),
        kv_rank,
        rope_dim: config.required("qk_rope_head_dim")?,
        nope_dim: config.required("qk_nope_head_dim")?,
        value_dim: config.required("v_head_dim")?,
        indexer,
    }))
}

/// Keys that count the experts, by which a dense model with none is told from a mixture.
const EXPERT_COUNTS: &[&str] = &["num_local_experts", "num_experts", "n_routed_experts"];

fn experts_of(config: &Config, num_layers: u32) -> Result<Option<Experts>, String> {
    let mut count = None;
    for key in EXPERT_COUNTS {
        // No experts at all is how some write a dense model.
        count = count.or(config.count(key)?.filter(|&count| count > 0).map(|count| (*key, count)));
    }
    let Some((key, count)) = count else {
        return match config.kind {
            Kind::Gated | Kind::Plain => Ok(None),
            // A dense model of a family of mixtures.
            _ if EXPERT_COUNTS.iter().any(|key| config.text.get(key).is_some()) => Ok(None),
            _ => Err(format!(
                "no `{}`, which `model_type` {} has",
                EXPERT_COUNTS.join("`, `"),
                config.kind_name
            )),
        };
    };
    if matches!(config.kind, Kind::Gated | Kind::Plain) {
        return Err(format!(
            "`{key}` is {count}, but `model_type` {} is known as a dense model: how its experts are built is not known",
            config.kind_name
        ));
    }
    let per_token = config.either(&["num_experts_per_tok", "experts_per_token", "moe_topk"])?;
    if per_token > count {
        return Err(format!("`num_experts_per_tok` is {per_token}, expected at most the {count} experts"));
    }
    let hidden_dim = match config.kind {
        Kind::Mixtral | Kind::Llama4 => config.required("intermediate_size")?,
        _ => config.either(&["moe_intermediate_size", "intermediate_size"])?,
    };
    let shared_hidden_dim = match config.kind {
        Kind::Llama4 => hidden_dim,
        Kind::Qwen => config.count("shared_expert_intermediate_size")?.unwrap_or(0),
        Kind::DeepSeek => config.count("n_shared_experts")?.unwrap_or(0) * hidden_dim,
        _ => config.count("shared_intermediate_size")?.unwrap_or(0),
    };
    let is_expert_layer = |layer: u32| -> Result<bool, String> {
        let listed =
            |key: &str| config.find(key).and_then(Value::as_array).filter(|layers| !layers.is_empty());
        Ok(match config.kind {
            Kind::Qwen => {
                let step = config.number("decoder_sparse_step")?.unwrap_or(1);
                let plain = listed("mlp_only_layers")
                    .is_some_and(|layers| layers.iter().any(|known| *known == layer));
                !plain && (layer + 1).is_multiple_of(step)
            }
            Kind::Llama4 => match listed("moe_layers") {
                Some(layers) => layers.iter().any(|known| *known == layer),
                None => (layer + 1).is_multiple_of(config.number("interleave_moe_layer_step")?.unwrap_or(1)),
            },
            Kind::DeepSeek => match listed("moe_layer_freq") {
                Some(layers) => layers.get(layer as usize).is_some_and(|is_mixture| *is_mixture == 1),
                None => {
                    let first = config.count("first_k_dense_replace")?.unwrap_or(0);
                    layer >= first && layer.is_multiple_of(config.number("moe_layer_freq")?.unwrap_or(1))
                }
            },
            _ => true,
        })
    };
    let mut dense_layers = 0;
    for layer in 0..num_layers {
        dense_layers += u32::from(!is_expert_layer(layer)?);
    }
    Ok(Some(Experts { count, per_token, hidden_dim, shared_hidden_dim, dense_layers }))
}

/// Layers that attend to the latest tokens only.
fn window(config: &Config, num_layers: u32) -> Result<Option<Window>, String> {
    // `false` is how some write none.
    if config.bool("sliding_window") == Some(false) || config.kind == Kind::Llama4 {
        return Ok(None);
    }
    let Some(tokens) = config.count("sliding_window")?.filter(|&tokens| tokens > 0) else { return Ok(None) };
    // Qwen's switch; other kinds have none and use their window.
    let used = config.bool("use_sliding_window").unwrap_or(!config.kind_name.starts_with("qwen"));
    let reaches_everything =
        config.count("max_position_embeddings")?.is_some_and(|longest| longest <= tokens);
    if !used || reaches_everything {
        return Ok(None);
    }
    let types = config.layer_types();
    let every = |pattern: u32| num_layers - num_layers / pattern.max(1);
    let layers = match config.kind_name {
        _ if types.len() == num_layers as usize => {
            types.iter().filter(|kind| **kind == "sliding_attention").count() as u32
        }
        "gemma2" | "gpt_oss" => num_layers.div_ceil(2),
        "gemma3_text" => every(config.number("sliding_window_pattern")?.unwrap_or(6)),
        "cohere2" | "olmo3" | "exaone4" | "exaone_moe" => {
            every(config.number("sliding_window_pattern")?.unwrap_or(4))
        }
        // Layers below this one attend to everything.
        name if name.starts_with("qwen") => {
            num_layers - config.count("max_window_layers")?.unwrap_or(0).min(num_layers)
        }
        _ => num_layers,
    };
    Ok((layers > 0).then_some(Window { tokens, layers }))
}

#[cfg(test)]
mod published;
#[cfg(test)]
mod tests;
