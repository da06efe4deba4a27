//! The shape of a dense transformer from the `config.json` that is published with it on Hugging Face.

use std::path::Path;

use serde_json::Value;

use super::Model;
use crate::hardware::{HardwareError, Precision};
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

/// What the file says that is not modelled, a sentence each.
pub(super) fn not_modelled(file: &Path, weights: Precision) -> Result<Vec<String>, HardwareError> {
    let text = std::fs::read_to_string(file).map_err(|source| HardwareError::Unreadable { file: file.into(), source })?;
    let config: Value =
        serde_json::from_str(&text).map_err(|error| HardwareError::BadModel { file: file.into(), message: format!("no JSON: {error}") })?;
    let sentences = [quantization(&config, weights), sliding_window(&config)];
    Ok(sentences.into_iter().flatten().map(|sentence| format!("{}: {sentence}", file.display())).collect())
}

/// Weights that are stored otherwise than the settings say.
fn quantization(config: &Value, weights: Precision) -> Option<String> {
    let found = ["quantization_config", "compression_config"].into_iter().find(|key| config.get(*key).is_some_and(Value::is_object))?;
    let said = &config[found];
    let method = said.get("quant_method").and_then(Value::as_str).unwrap_or("of an unnamed method");
    // `fp8` itself, and what names it elsewhere: FBGEMM's, ModelOpt's algorithm, a group of compressed tensors of 8-bit floats.
    let is_fp8 = method.contains("fp8")
        || said.get("quant_algo").and_then(Value::as_str).is_some_and(|algorithm| algorithm.eq_ignore_ascii_case("fp8"))
        || said.get("config_groups").and_then(Value::as_object).is_some_and(|groups| {
            let weights = |group: &Value| group.get("weights").map(|weights| (weights["type"] == "float", weights["num_bits"] == 8));
            groups.values().all(|group| weights(group) == Some((true, true)))
        });
    let taken = weights.name();
    match (is_fp8, weights) {
        (true, Precision::Fp8) => None,
        (true, _) => Some(format!(
            "`{found}` ({method}) is not read: weights are taken as {taken}; set `\"execution_time\": {{\"analytical\": {{\"weights\": \"fp8\"}}}}`"
        )),
        (false, _) => Some(format!(
            "`{found}` ({method}) is not modelled: weights are taken as {taken}, so steps are timed as slower and the KV cache as smaller \
             than with fewer bits"
        )),
    }
}

/// Layers that attend to the latest tokens only.
fn sliding_window(config: &Value) -> Option<String> {
    let window = config.get("sliding_window").and_then(Value::as_u64).filter(|&window| window > 0)?;
    // Qwen's switch; other kinds have none and use their window.
    let kind = config.get("model_type").and_then(Value::as_str).unwrap_or_default();
    let used = config.get("use_sliding_window").and_then(Value::as_bool).unwrap_or(!kind.starts_with("qwen"));
    let all_full =
        config.get("layer_types").and_then(Value::as_array).is_some_and(|kinds| kinds.iter().all(|kind| kind == "full_attention"));
    (used && !all_full).then(|| {
        format!(
            "`sliding_window` ({window} tokens) is not modelled: every layer attends to all tokens, so long prompts take more time and KV \
             cache than they would"
        )
    })
}

fn parse(text: &str, name: &str) -> Result<Model, String> {
    let config: Value = serde_json::from_str(text).map_err(|error| format!("no JSON: {error}"))?;
    // No experts at all is how some write a dense model.
    let present = |key: &&&str| config.get(**key).is_some_and(|value| !value.is_null() && value.as_u64() != Some(0));
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
    fn no_experts_are_a_dense_model() {
        let with = |more: &str| QWEN3.replacen('{', &format!("{{{more}, "), 1);
        assert!(parse(&with(r#""num_local_experts": 0, "num_experts": null"#), "m").is_ok());
        assert!(parse(&with(r#""num_local_experts": 8"#), "m").unwrap_err().contains("mixture of experts"));
    }

    #[test]
    fn says_what_is_not_modelled() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("m.json");
        let told = |more: &str, weights: Precision| {
            std::fs::write(&file, QWEN3.replacen('{', &format!("{{{more}, "), 1)).unwrap();
            not_modelled(&file, weights).unwrap().join("; ")
        };
        let fp8 = r#""quantization_config": {"quant_method": "fp8"}"#;
        assert!(told(fp8, Precision::Bf16).contains("`quantization_config` (fp8) is not read: weights are taken as bf16; set"));
        assert_eq!(told(fp8, Precision::Fp8), "");
        let groups = r#""quantization_config": {"quant_method": "compressed-tensors", "config_groups": {"g": {"weights": {"type": "float", "num_bits": 8}}}}"#;
        assert_eq!(told(groups, Precision::Fp8), "");
        let awq = r#""quantization_config": {"quant_method": "awq", "bits": 4}"#;
        assert!(told(awq, Precision::Fp8).contains("`quantization_config` (awq) is not modelled: weights are taken as fp8"));
        assert_eq!(told(r#""sliding_window": 4096, "use_sliding_window": false"#, Precision::Bf16), "");
        assert_eq!(told(r#""sliding_window": null"#, Precision::Bf16), "");
        assert!(told(r#""sliding_window": 4096, "use_sliding_window": true"#, Precision::Bf16).contains("`sliding_window` (4096 tokens)"));
        std::fs::write(&file, QWEN3.replace("qwen3", "mistral").replacen('{', r#"{"sliding_window": 4096, "#, 1)).unwrap();
        assert_eq!(not_modelled(&file, Precision::Bf16).unwrap().len(), 1);
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
