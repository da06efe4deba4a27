//! The shape of a dense transformer from the `config.json` that is published with it on Hugging Face.

use std::path::Path;

use serde_json::Value;

use super::Model;
use crate::hardware::HardwareError;
use crate::settings::quoted;

/// `model_type`s whose MLP is gated, and those whose MLP is plain.
const GATED: &[&str] =
    &["llama", "mistral", "qwen", "qwen2", "qwen3", "internlm", "internlm2", "phi3", "gemma", "gemma2", "granite", "olmo", "olmo2"];
const PLAIN: &[&str] = &["phi", "gpt_neox", "starcoder2"];
const QK_NORM: &[&str] = &["qwen3", "olmo2"];
/// Of these the library ties embeddings unless the file says otherwise.
const TIED_BY_DEFAULT: &[&str] = &["gemma", "gemma2", "starcoder2"];
const MIXTURE_OF_EXPERTS: &[&str] = &["num_local_experts", "num_experts", "n_routed_experts", "moe_intermediate_size"];
const LATENT_ATTENTION: &[&str] = &["kv_lora_rank", "q_lora_rank"];

pub(super) fn read(file: &Path) -> Result<Model, HardwareError> {
    let text = std::fs::read_to_string(file).map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
    parse(&text, &file.display().to_string()).map_err(|message| HardwareError::BadModel { file: file.into(), message })
}

fn parse(text: &str, name: &str) -> Result<Model, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    let present = |key: &&&str| config.get(**key).is_some_and(|value| !value.is_null());
    if let Some(key) = MIXTURE_OF_EXPERTS.iter().find(present) {
        return Err(format!("`{key}` tells of a mixture of experts; only dense models are modelled"));
    }
    if let Some(key) = LATENT_ATTENTION.iter().find(present) {
        return Err(format!("`{key}` tells of multi-head latent attention; only multi-head and grouped-query attention are modelled"));
    }
    if config.get("text_config").is_some() {
        return Err("`text_config` tells of a multimodal model; save that part as a file of its own and name it".into());
    }
    let kind = config.get("model_type").and_then(Value::as_str).ok_or("no text `model_type`; is this a model's config.json?")?;
    let gated_mlp = GATED.contains(&kind);
    if !gated_mlp && !PLAIN.contains(&kind) {
        return Err(format!("`model_type` is `{kind}`, expected one of {}", quoted(&[GATED, PLAIN].concat())));
    }
    let number = |key: &str| match config.get(key) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => match value.as_u64().and_then(|number| u32::try_from(number).ok()).filter(|&number| number > 0) {
            Some(number) => Ok(Some(number)),
            None => Err(format!("`{key}` is {value}, expected a whole number of at least 1")),
        },
    };
    let required = |key: &str| number(key)?.ok_or_else(|| format!("no `{key}`"));
    let (embedding_dim, num_query_heads) = (required("hidden_size")?, required("num_attention_heads")?);
    let mlp = required("intermediate_size")?;
    let head_dim = match number("head_dim")? {
        Some(head_dim) => head_dim,
        None if embedding_dim % num_query_heads == 0 => embedding_dim / num_query_heads,
        None => return Err(format!("`hidden_size` {embedding_dim} is no multiple of `num_attention_heads` {num_query_heads}")),
    };
    Ok(Model {
        name: name.to_string().into(),
        num_layers: required("num_hidden_layers")?,
        embedding_dim,
        num_query_heads,
        num_kv_heads: number("num_key_value_heads")?.unwrap_or(num_query_heads),
        head_dim,
        // The first Qwen counts both halves of the gated layer.
        mlp_hidden_dim: if kind == "qwen" { mlp / 2 } else { mlp },
        vocabulary: required("vocab_size")?,
        gated_mlp,
        qk_norm: QK_NORM.contains(&kind),
        tied_embeddings: config.get("tie_word_embeddings").and_then(Value::as_bool).unwrap_or(TIED_BY_DEFAULT.contains(&kind)),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const QWEN3: &str = r#"{"model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936, "tie_word_embeddings": false}"#;

    #[test]
    fn reads_a_published_configuration() {
        let model = parse(QWEN3, "Qwen/Qwen3-32B").unwrap();
        assert_eq!(&model, super::super::model("Qwen/Qwen3-32B").unwrap());
        let phi = r#"{"model_type": "phi", "hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": null,
            "intermediate_size": 10240, "vocab_size": 51200, "tie_word_embeddings": false}"#;
        assert_eq!(&parse(phi, "microsoft/phi-2").unwrap(), super::super::model("microsoft/phi-2").unwrap());
        let qwen = r#"{"model_type": "qwen", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
            "intermediate_size": 49152, "vocab_size": 152064, "tie_word_embeddings": false}"#;
        assert_eq!(&parse(qwen, "Qwen/Qwen-72B").unwrap(), super::super::model("Qwen/Qwen-72B").unwrap());
    }

    #[test]
    fn says_what_is_wrong() {
        let error = |from: &str, to: &str| parse(&QWEN3.replace(from, to), "m").unwrap_err();
        assert!(error("\"head_dim\"", "\"num_experts\"").contains("mixture of experts"));
        assert!(error("\"head_dim\"", "\"kv_lora_rank\"").contains("latent attention"));
        assert_eq!(error("\"vocab_size\"", "\"vocabulary\""), "no `vocab_size`");
        assert_eq!(error("5120", "-1"), "`hidden_size` is -1, expected a whole number of at least 1");
        assert!(error("qwen3", "mamba").contains("`mamba`, expected one of `llama`"));
        assert!(parse("{", "m").unwrap_err().contains("no JSON"));
    }
}
