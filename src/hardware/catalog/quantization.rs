//! How a checkpoint's weights are stored, from the `quantization_config` of its `config.json`.

use serde_json::Value;

use crate::hardware::{Precision, WeightFormat, Weights};

/// Formats of weights and of the KV cache; bf16 where the file does not speak of them.
///
/// Errors: a format that is not modelled, with what it would take.
pub(super) fn read(root: &Value, text: &Value) -> Result<(Weights, Precision), String> {
    let keys = ["quantization_config", "compression_config"];
    let found = [text, root]
        .into_iter()
        .flat_map(|part| keys.map(|key| (key, part)))
        .find(|(key, part)| part[*key].is_object());
    let Some((key, part)) = found else { return Ok(Default::default()) };
    let said = &part[key];
    let is_modelopt = said["quant_algo"].is_string() || said["producer"]["name"] == "modelopt";
    let unnamed = if is_modelopt { "modelopt" } else { "of an unnamed method" };
    let method = said["quant_method"].as_str().unwrap_or(unnamed).to_lowercase();
    let not_modelled = |what: &str| {
        let takes = "it would take measured matrix products of that format";
        Err(format!(
            "`{key}` ({method}) stores {what}, which is not modelled: {takes}; formats known are fp8 (per tensor or in blocks), nvfp4, mxfp4 and \
             4-bit integers (AWQ, GPTQ, compressed tensors). Without `{key}` the weights are read as bf16"
        ))
    };
    let bits = said["bits"].as_u64().or_else(|| said["w_bit"].as_u64());
    let group = said["group_size"].as_u64().or_else(|| said["q_group_size"].as_u64());
    let all = |format| Ok((restricted(said, format), Precision::Bf16));
    match method.as_str() {
        "fp8" if said["weight_block_size"].is_array() => all(WeightFormat::Fp8Block),
        "fp8" if said["activation_scheme"] == "static" => all(WeightFormat::Fp8Static),
        "fp8" | "fbgemm_fp8" | "ptpc_fp8" => all(WeightFormat::Fp8),
        "mxfp4" => Ok((Weights::experts(WeightFormat::Mxfp4), Precision::Bf16)),
        "awq" | "gptq" | "awq_marlin" | "gptq_marlin" | "auto-round" => match bits {
            Some(4) => all(int4(group)),
            Some(bits) => not_modelled(&format!("{bits}-bit integers")),
            None => Err(format!("`{key}` ({method}) says no `bits`")),
        },
        "compressed-tensors" => {
            let groups = said["config_groups"]
                .as_object()
                .map(|groups| groups.values().collect::<Vec<_>>())
                .unwrap_or_default();
            let Some(group) = groups.first() else {
                return Err(format!("`{key}` ({method}) has no `config_groups`"));
            };
            if groups.iter().any(|other| other["weights"]["num_bits"] != group["weights"]["num_bits"]) {
                return not_modelled("weights of several formats");
            }
            let (weights, inputs) = (&group["weights"], &group["input_activations"]);
            let size = weights["group_size"].as_u64();
            let format = match (weights["type"].as_str().unwrap_or("int"), weights["num_bits"].as_u64()) {
                ("float", Some(8))
                    if weights["strategy"] == "block" || weights["block_structure"].is_array() =>
                {
                    WeightFormat::Fp8Block
                }
                ("float", Some(8)) if inputs["dynamic"] == false => WeightFormat::Fp8Static,
                ("float", Some(8)) => WeightFormat::Fp8,
                ("float", Some(4)) if size.is_none_or(|size| size <= 16) => WeightFormat::Nvfp4,
                ("float", Some(4)) => WeightFormat::Mxfp4,
                ("int", Some(4)) if inputs.is_null() => int4(size),
                (kind, bits) => {
                    return not_modelled(&format!(
                        "{}-bit {kind}s",
                        bits.map_or_else(|| "unnamed".into(), |bits| bits.to_string())
                    ));
                }
            };
            let kv_cache =
                if said["kv_cache_scheme"]["num_bits"] == 8 { Precision::Fp8 } else { Precision::Bf16 };
            Ok((restricted(said, format), kv_cache))
        }
        "modelopt" | "modelopt_fp4" => {
            let nested = &said["quantization"];
            let said = if nested.is_object() { nested } else { said };
            let algorithm = said["quant_algo"]
                .as_str()
                .unwrap_or(if method == "modelopt_fp4" { "NVFP4" } else { "FP8" })
                .to_uppercase();
            let format = match algorithm.as_str() {
                "FP8" => WeightFormat::Fp8Static,
                "NVFP4" => WeightFormat::Nvfp4,
                "W4A16_AWQ" => WeightFormat::Int4,
                other => return not_modelled(&format!("`quant_algo` {other}")),
            };
            let is_fp8 = said["kv_cache_quant_algo"]
                .as_str()
                .is_some_and(|algorithm| algorithm.eq_ignore_ascii_case("fp8"))
                || said["kv_cache_scheme"]["num_bits"] == 8
                || said["kv_cache_scheme"] == "FP8";
            Ok((restricted(said, format), if is_fp8 { Precision::Fp8 } else { Precision::Bf16 }))
        }
        _ => not_modelled("weights in a way of its own"),
    }
}

fn int4(group: Option<u64>) -> WeightFormat {
    if group.is_some_and(|size| (1..=32).contains(&size)) {
        WeightFormat::Int4Group32
    } else {
        WeightFormat::Int4
    }
}

/// Lists of modules that stay bf16, under the names that they have.
const EXCLUDED: &[&str] = &["ignore", "ignored_layers", "modules_to_not_convert", "exclude_modules"];

/// `format` for all layers, or for the experts alone where attention is left out as a whole. Single layers
/// left out are not looked at.
fn restricted(said: &Value, format: WeightFormat) -> Weights {
    let lists = EXCLUDED.iter().filter_map(|key| said[*key].as_array());
    // A pattern, not the attention of a numbered layer.
    let whole = |name: &str| {
        (name.contains("self_attn") || name.contains("attention"))
            && !name.chars().any(|c| c.is_ascii_digit())
    };
    let excluded = lists.flatten().filter_map(Value::as_str).any(whole);
    if excluded { Weights::experts(format) } else { Weights::all(format) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn said(quantization: Value) -> Result<(Weights, Precision), String> {
        read(&json!({ "quantization_config": quantization }), &json!({}))
    }

    fn weights(quantization: Value) -> Weights {
        said(quantization).unwrap().0
    }

    /// The layouts that publishers use.
    #[test]
    fn published_layouts() {
        use WeightFormat::*;
        assert_eq!(read(&json!({}), &json!({})).unwrap(), (Weights::default(), Precision::Bf16));
        assert_eq!(
            weights(json!({"quant_method": "fp8", "weight_block_size": [128, 128]})),
            Weights::all(Fp8Block)
        );
        assert_eq!(
            weights(json!({"quant_method": "fp8", "activation_scheme": "dynamic"})),
            Weights::all(Fp8)
        );
        assert_eq!(
            weights(json!({"quant_method": "fp8", "activation_scheme": "static"})),
            Weights::all(Fp8Static)
        );
        assert_eq!(weights(json!({"quant_method": "awq", "bits": 4, "group_size": 128})), Weights::all(Int4));
        assert_eq!(
            weights(json!({"quant_method": "gptq", "bits": 4, "group_size": 32})),
            Weights::all(Int4Group32)
        );
        assert_eq!(
            weights(json!({"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn"]})),
            Weights::experts(Mxfp4)
        );
        let group = |weights: Value, more: Value| {
            let mut config = json!({"quant_method": "compressed-tensors", "config_groups": {"group_0": {"weights": weights, "input_activations": null}}});
            more.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
            said(config)
        };
        let int4 = json!({"num_bits": 4, "type": "int", "group_size": 32});
        assert_eq!(
            group(int4, json!({"ignore": ["lm_head", "re:.*self_attn.*"]})).unwrap().0,
            Weights::experts(Int4Group32)
        );
        let fp8 = json!({"num_bits": 8, "type": "float", "strategy": "channel"});
        assert_eq!(
            group(fp8.clone(), json!({"ignore": ["lm_head"]})).unwrap(),
            (Weights::all(Fp8), Precision::Bf16)
        );
        assert_eq!(
            group(fp8, json!({"kv_cache_scheme": {"num_bits": 8, "type": "float"}})).unwrap().1,
            Precision::Fp8
        );
        assert_eq!(
            group(json!({"num_bits": 4, "type": "float", "group_size": 16}), json!({})).unwrap().0,
            Weights::all(Nvfp4)
        );
        assert!(group(json!({"num_bits": 8, "type": "int"}), json!({})).unwrap_err().contains("8-bit ints"));
        let beside = json!({"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "kv_cache_quant_algo": "FP8"}});
        assert_eq!(said(beside).unwrap(), (Weights::all(Fp8Static), Precision::Fp8));
        let modelopt = json!({"quant_method": "modelopt", "quant_algo": "NVFP4", "kv_cache_scheme": {"num_bits": 8}, "ignore": ["lm_head"]});
        assert_eq!(said(modelopt).unwrap(), (Weights::all(Nvfp4), Precision::Fp8));
    }

    #[test]
    fn what_is_not_modelled_is_named() {
        let error = |quantization: Value| said(quantization).unwrap_err();
        assert!(
            error(json!({"quant_method": "bitsandbytes", "load_in_4bit": true}))
                .contains("(bitsandbytes) stores weights in a way of its own")
        );
        assert!(
            error(json!({"quant_method": "gptq", "bits": 8}))
                .contains("8-bit integers, which is not modelled: it would take")
        );
        assert!(error(json!({"quant_method": "awq"})).contains("says no `bits`"));
        assert!(
            error(json!({"quant_method": "modelopt", "quant_algo": "MIXED_PRECISION"}))
                .contains("MIXED_PRECISION")
        );
    }
}
