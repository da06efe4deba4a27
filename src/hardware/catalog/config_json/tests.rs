use serde_json::json;

use super::*;
use crate::hardware::catalog::{approximations, model};
use crate::hardware::{Precision, WeightFormat, Weights};

const QWEN3: &str = r#"{"model_type": "qwen3", "hidden_size": 5120, "num_hidden_layers": 64, "num_attention_heads": 64,
    "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 25600, "vocab_size": 151936, "tie_word_embeddings": false}"#;

fn with(base: &str, more: Value) -> Value {
    let mut config: Value = serde_json::from_str(base).unwrap();
    more.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
    config
}

fn read_as(name: &str, config: &Value) -> Model {
    parse(&config.to_string(), name).unwrap()
}

/// The same but for the sentences, which the catalogue has elsewhere.
fn is_named(config: &Value, name: &str) {
    let mut read = read_as(name, config);
    read.approximations.clear();
    assert_eq!(&read, model(name).unwrap(), "{name}");
}

#[test]
fn reads_a_published_configuration() {
    is_named(&serde_json::from_str(QWEN3).unwrap(), "Qwen/Qwen3-32B");
    let phi = json!({"model_type": "phi", "hidden_size": 2560, "num_hidden_layers": 32, "num_attention_heads": 32, "num_key_value_heads": null,
        "intermediate_size": 10240, "vocab_size": 51200, "tie_word_embeddings": false});
    is_named(&phi, "microsoft/phi-2");
    let qwen = json!({"model_type": "qwen", "hidden_size": 8192, "num_hidden_layers": 80, "num_attention_heads": 64,
        "intermediate_size": 49152, "vocab_size": 152_064, "tie_word_embeddings": false});
    is_named(&qwen, "Qwen/Qwen-72B");
}

/// Mixtures as published, and what the catalogue has of them by hand.
#[test]
fn reads_mixtures_of_experts() {
    let mixtral = json!({"model_type": "mixtral", "hidden_size": 4096, "num_hidden_layers": 32, "num_attention_heads": 32,
        "num_key_value_heads": 8, "intermediate_size": 14336, "num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": null,
        "vocab_size": 32000, "tie_word_embeddings": false});
    is_named(&mixtral, "mistralai/Mixtral-8x7B-v0.1");
    let qwen = json!({"model_type": "qwen3_moe", "hidden_size": 2048, "num_hidden_layers": 48, "num_attention_heads": 32,
        "num_key_value_heads": 4, "head_dim": 128, "intermediate_size": 6144, "moe_intermediate_size": 768, "num_experts": 128,
        "num_experts_per_tok": 8, "decoder_sparse_step": 1, "mlp_only_layers": [], "sliding_window": null, "use_sliding_window": false,
        "max_window_layers": 48, "vocab_size": 151_936, "tie_word_embeddings": false});
    is_named(&qwen, "Qwen/Qwen3-30B-A3B");
    let types = ["sliding_attention", "full_attention"].repeat(12);
    let gpt_oss = json!({"model_type": "gpt_oss", "hidden_size": 2880, "num_hidden_layers": 24, "num_attention_heads": 64,
        "num_key_value_heads": 8, "head_dim": 64, "intermediate_size": 2880, "num_local_experts": 32, "experts_per_token": 4,
        "layer_types": types, "sliding_window": 128, "max_position_embeddings": 131_072,
        "quantization_config": {"quant_method": "mxfp4", "modules_to_not_convert": ["model.layers.*.self_attn", "lm_head"]},
        "vocab_size": 201_088, "tie_word_embeddings": false});
    is_named(&gpt_oss, "openai/gpt-oss-20b");
    let minimax = json!({"model_type": "minimax_m2", "hidden_size": 3072, "num_hidden_layers": 62, "num_attention_heads": 48,
        "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 1536, "num_local_experts": 256, "num_experts_per_tok": 8,
        "shared_intermediate_size": 0, "use_qk_norm": true, "vocab_size": 200_064,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}});
    is_named(&minimax, "MiniMaxAI/MiniMax-M2.5");
}

fn deepseek() -> Value {
    json!({"model_type": "deepseek_v3", "hidden_size": 7168, "num_hidden_layers": 61, "num_attention_heads": 128, "num_key_value_heads": 128,
        "intermediate_size": 18432, "moe_intermediate_size": 2048, "n_routed_experts": 256, "n_shared_experts": 1, "num_experts_per_tok": 8,
        "first_k_dense_replace": 3, "moe_layer_freq": 1, "q_lora_rank": 1536, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "num_nextn_predict_layers": 1, "vocab_size": 129_280,
        "quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}})
}

#[test]
fn reads_latent_attention() {
    is_named(&deepseek(), "deepseek-ai/DeepSeek-V3");
    let read = read_as("mine.json", &deepseek());
    assert!(read.approximations.iter().any(|sentence| sentence.contains("multi-token prediction")));
    let sparse = with(
        &deepseek().to_string(),
        json!({"model_type": "deepseek_v32", "index_topk": 2048, "index_n_heads": 64, "index_head_dim": 128}),
    );
    is_named(&sparse, "deepseek-ai/DeepSeek-V3.2");
    let lite = json!({"model_type": "deepseek_v2", "hidden_size": 2048, "num_hidden_layers": 27, "num_attention_heads": 16,
        "num_key_value_heads": 16, "intermediate_size": 10944, "moe_intermediate_size": 1408, "n_routed_experts": 64, "n_shared_experts": 2,
        "num_experts_per_tok": 6, "first_k_dense_replace": 1, "q_lora_rank": null, "kv_lora_rank": 512, "qk_nope_head_dim": 128,
        "qk_rope_head_dim": 64, "v_head_dim": 128, "vocab_size": 102_400});
    is_named(&lite, "deepseek-ai/DeepSeek-V2-Lite");
}

/// The text part of a multimodal model is read where it stands, its quantisation too.
#[test]
fn reads_the_text_part_in_place() {
    let mut text = with(
        &deepseek().to_string(),
        json!({"model_type": "kimi_k2", "num_attention_heads": 64, "n_routed_experts": 384,
        "first_k_dense_replace": 1, "num_nextn_predict_layers": 0, "vocab_size": 163_840}),
    );
    text["quantization_config"] = json!({"quant_method": "compressed-tensors", "ignore": ["lm_head", "re:.*self_attn.*"],
        "config_groups": {"group_0": {"weights": {"num_bits": 4, "type": "int", "group_size": 32}, "input_activations": null}}});
    let kimi = json!({"model_type": "kimi_k25", "text_config": text, "tie_word_embeddings": false});
    is_named(&kimi, "moonshotai/Kimi-K2.5");
    let read = read_as("kimi.json", &kimi);
    assert!(
        approximations(&read, read.weights)[0]
            .starts_with("kimi.json: of a multimodal model only the text part")
    );
    let llama4 = json!({"model_type": "llama4", "text_config": {"model_type": "llama4_text", "hidden_size": 5120, "num_hidden_layers": 48,
        "num_attention_heads": 40, "num_key_value_heads": 8, "head_dim": 128, "intermediate_size": 8192, "intermediate_size_mlp": 16384,
        "num_local_experts": 128, "num_experts_per_tok": 1, "interleave_moe_layer_step": 2, "attention_chunk_size": 8192, "use_qk_norm": false,
        "vocab_size": 202_048}});
    is_named(&llama4, "meta-llama/Llama-4-Maverick-17B-128E-Instruct");
}

#[test]
fn no_experts_are_a_dense_model() {
    let dense = read_as("m", &with(QWEN3, json!({"num_local_experts": 0, "num_experts": null})));
    assert_eq!(dense.experts, None);
    let none = read_as("m", &with(QWEN3, json!({"model_type": "mixtral", "num_local_experts": 0})));
    assert_eq!((none.experts, none.mlp_hidden_dim), (None, 25600));
    let error = parse(&with(QWEN3, json!({"num_local_experts": 8})).to_string(), "m").unwrap_err();
    assert!(
        error.contains("`num_local_experts` is 8, but `model_type` qwen3 is known as a dense model"),
        "{error}"
    );
    // Layers between that are no mixtures.
    let mixed = json!({"model_type": "qwen3_moe", "num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 768,
        "decoder_sparse_step": 2, "mlp_only_layers": [1, 3]});
    assert_eq!(read_as("m", &with(QWEN3, mixed)).experts.unwrap().dense_layers, 34);
}

#[test]
fn windows_are_of_the_layers_that_have_them() {
    let window =
        |more: Value| read_as("m", &with(QWEN3, more)).window.map(|window| (window.tokens, window.layers));
    assert_eq!(window(json!({"sliding_window": 4096, "use_sliding_window": false})), None);
    assert_eq!(window(json!({"sliding_window": null, "use_sliding_window": true})), None);
    assert_eq!(window(json!({"sliding_window": 4096})), None);
    assert_eq!(
        window(json!({"sliding_window": 4096, "use_sliding_window": true, "max_window_layers": 28})),
        Some((4096, 36))
    );
    assert_eq!(window(json!({"model_type": "mistral", "sliding_window": 4096})), Some((4096, 64)));
    assert_eq!(
        window(json!({"model_type": "mistral", "sliding_window": 4096, "max_position_embeddings": 4096})),
        None
    );
    assert_eq!(window(json!({"model_type": "gemma2", "sliding_window": 4096})), Some((4096, 32)));
    assert_eq!(window(json!({"model_type": "gemma3_text", "sliding_window": 1024})), Some((1024, 54)));
    let types = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"].repeat(16);
    assert_eq!(
        window(json!({"model_type": "olmo3", "sliding_window": 4096, "layer_types": types})),
        Some((4096, 48))
    );
}

#[test]
fn quantised_weights_are_read() {
    let read = read_as(
        "m",
        &with(
            QWEN3,
            json!({"quantization_config": {"quant_method": "fp8", "weight_block_size": [128, 128]}}),
        ),
    );
    assert_eq!((read.weights, read.kv_cache), (Weights::all(WeightFormat::Fp8Block), Precision::Bf16));
    let told = approximations(&read, Weights::default());
    assert!(told[0].contains("published with fp8_block weights, taken as bf16"), "{told:?}");
    // What a file of one's own was taken to say is said.
    let own = with(
        QWEN3,
        json!({"quantization_config": {"quant_method": "fp8"}, "model_type": "gemma2", "sliding_window": 4096}),
    );
    let own = read_as("own.json", &own);
    let told = approximations(&own, own.weights).join("; ");
    assert!(told.contains("own.json: fp8 weights, as its quantization says"), "{told}");
    assert!(told.contains("own.json: a sliding window of 4096 tokens in 32 of 64 layers"), "{told}");
}

#[test]
fn says_what_is_wrong() {
    let error = |from: &str, to: &str| parse(&QWEN3.replace(from, to), "m").unwrap_err();
    assert_eq!(error("\"vocab_size\"", "\"vocabulary\""), "no `vocab_size`");
    assert_eq!(error("5120", "-1"), "`hidden_size` is -1, expected a whole number of at least 1");
    assert!(
        error("qwen3", "mamba").contains("`model_type` mamba has state-space layers")
            && error("qwen3", "mamba").contains("it would take")
    );
    assert!(error("qwen3", "qwen3_next").contains("linear attention"));
    assert!(error("qwen3", "novel").contains("`novel`, expected one of `llama`"));
    assert!(error("qwen3", "qwen3_moe").contains("no `num_local_experts`"));
    assert!(parse("{", "m").unwrap_err().contains("no JSON"));
    let many = with(&deepseek().to_string(), json!({"num_experts_per_tok": 300})).to_string();
    assert!(parse(&many, "m").unwrap_err().contains("expected at most the 256 experts"));
}
