//! Shapes as published, in as few keys as tell them, and the parameters that are published with them.

use serde_json::{Value, json};

use super::parse;
use crate::hardware::catalog::Model;

/// What many files have in common.
fn llama(name: &str, [hidden, layers, heads, kv_heads, mlp, vocabulary]: [u32; 6], more: Value) -> Value {
    let mut config = json!({"model_type": name, "hidden_size": hidden, "num_hidden_layers": layers, "num_attention_heads": heads,
        "num_key_value_heads": kv_heads, "intermediate_size": mlp, "vocab_size": vocabulary, "tie_word_embeddings": false});
    more.as_object().unwrap().iter().for_each(|(key, value)| config[key] = value.clone());
    config
}

fn billions(model: &Model) -> (f64, f64) {
    let embeddings = if model.tied_embeddings { 1.0 } else { 2.0 } * model.embedding_parameters();
    ((model.layer_parameters() + embeddings) / 1e9, (model.active_parameters() + embeddings) / 1e9)
}

/// Name, file, billions of parameters as published; of a token where they are published too.
fn published() -> Vec<(&'static str, Value, f64, Option<f64>)> {
    let tied = json!({"tie_word_embeddings": true});
    let with = |more: Value, other: &Value| {
        let mut more = more;
        other.as_object().unwrap().iter().for_each(|(key, value)| more[key] = value.clone());
        more
    };
    let gemma3 = |more: Value| json!({"model_type": "gemma3", "vision_config": {"hidden_size": 1152}, "text_config": more});
    vec![
        (
            "Qwen2-57B-A14B",
            llama(
                "qwen2_moe",
                [3584, 28, 28, 4, 18_944, 151_936],
                json!({"num_experts": 64, "num_experts_per_tok": 8, "moe_intermediate_size": 2560, "shared_expert_intermediate_size": 20_480,
                    "decoder_sparse_step": 1, "use_sliding_window": false, "sliding_window": 65_536}),
            ),
            57.4,
            Some(14.2),
        ),
        (
            "Qwen1.5-MoE-A2.7B",
            llama(
                "qwen2_moe",
                [2048, 24, 16, 16, 5632, 151_936],
                json!({"num_experts": 60, "num_experts_per_tok": 4, "moe_intermediate_size": 1408, "shared_expert_intermediate_size": 5632,
                    "decoder_sparse_step": 1, "use_sliding_window": false, "sliding_window": 32_768}),
            ),
            14.3,
            Some(2.7),
        ),
        (
            "Mixtral-8x22B",
            llama(
                "mixtral",
                [6144, 56, 48, 8, 16_384, 32_000],
                json!({"num_local_experts": 8, "num_experts_per_tok": 2, "sliding_window": null}),
            ),
            140.6,
            Some(39.1),
        ),
        (
            "Phi-3.5-MoE",
            llama(
                "phimoe",
                [4096, 32, 32, 8, 6400, 32_064],
                json!({"num_local_experts": 16, "num_experts_per_tok": 2, "sliding_window": 131_072, "max_position_embeddings": 131_072}),
            ),
            41.9,
            Some(6.6),
        ),
        (
            "Phi-4",
            llama("phi3", [5120, 40, 40, 10, 17_920, 100_352], json!({"sliding_window": null})),
            14.66,
            None,
        ),
        (
            "Phi-3-mini",
            llama(
                "phi3",
                [3072, 32, 32, 32, 8192, 32_064],
                json!({"sliding_window": 2047, "max_position_embeddings": 4096}),
            ),
            3.82,
            None,
        ),
        (
            "OLMoE-1B-7B",
            llama(
                "olmoe",
                [2048, 16, 16, 16, 1024, 50_304],
                json!({"num_experts": 64, "num_experts_per_tok": 8}),
            ),
            6.92,
            Some(1.28),
        ),
        (
            "Granite-3.1-3B-A800M",
            llama(
                "granitemoe",
                [1536, 32, 24, 8, 512, 49_155],
                with(json!({"num_local_experts": 40, "num_experts_per_tok": 8}), &tied),
            ),
            3.30,
            Some(0.88),
        ),
        (
            "DBRX",
            json!({"model_type": "dbrx", "d_model": 6144, "n_heads": 48, "n_layers": 40, "vocab_size": 100_352, "max_seq_len": 32_768,
                "attn_config": {"kv_n_heads": 8, "clip_qkv": 8}, "ffn_config": {"ffn_hidden_size": 10_752, "moe_num_experts": 16, "moe_top_k": 4},
                "tie_word_embeddings": false}),
            131.6,
            Some(36.5),
        ),
        (
            "ERNIE-4.5-21B-A3B",
            json!({"model_type": "ernie4_5_moe", "hidden_size": 2560, "num_hidden_layers": 28, "num_attention_heads": 20, "num_key_value_heads": 4,
                "intermediate_size": 12_288, "moe_num_experts": 64, "moe_k": 6, "moe_intermediate_size": 1536, "moe_num_shared_experts": 2,
                "moe_layer_start_index": 1, "moe_layer_end_index": 29, "moe_layer_interval": 1, "vocab_size": 103_424,
                "tie_word_embeddings": true}),
            21.8,
            Some(3.0),
        ),
        (
            "ERNIE-4.5-300B-A47B",
            json!({"model_type": "ernie4_5_moe", "hidden_size": 8192, "num_hidden_layers": 54, "num_attention_heads": 64, "num_key_value_heads": 8,
                "intermediate_size": 28_672, "moe_num_experts": 64, "moe_k": 8, "moe_intermediate_size": 3584, "moe_num_shared_experts": 0,
                "moe_layer_start_index": 3, "moe_layer_end_index": 53, "moe_layer_interval": 1, "vocab_size": 103_424,
                "tie_word_embeddings": false}),
            300.0,
            Some(47.0),
        ),
        (
            "Hunyuan-A13B",
            llama(
                "hunyuan_v1_moe",
                [4096, 32, 32, 8, 3072, 128_167],
                with(
                    json!({"head_dim": 128, "num_experts": 64, "moe_topk": vec![8; 32], "moe_intermediate_size": vec![3072; 32],
                        "num_shared_expert": vec![1; 32]}),
                    &tied,
                ),
            ),
            80.4,
            Some(13.0),
        ),
        (
            "GLM-4-32B-0414",
            llama("glm4", [6144, 61, 48, 2, 23_040, 151_552], json!({"head_dim": 128})),
            32.57,
            None,
        ),
        (
            "glm-4-9b-chat",
            json!({"model_type": "chatglm", "hidden_size": 4096, "num_layers": 40, "num_attention_heads": 32, "multi_query_attention": true,
                "multi_query_group_num": 2, "kv_channels": 128, "ffn_hidden_size": 13_696, "padded_vocab_size": 151_552,
                "tie_word_embeddings": false}),
            9.40,
            None,
        ),
        (
            "GLM-4.6",
            llama(
                "glm4_moe",
                [5120, 92, 96, 8, 12_288, 151_552],
                json!({"head_dim": 128, "n_routed_experts": 160, "n_shared_experts": 1, "num_experts_per_tok": 8, "moe_intermediate_size": 1536,
                    "first_k_dense_replace": 3, "use_qk_norm": true, "num_nextn_predict_layers": 1}),
            ),
            352.8,
            Some(32.0),
        ),
        (
            "GLM-4.7-Flash",
            llama(
                "glm4_moe_lite",
                [2048, 47, 20, 20, 10_240, 154_880],
                json!({"n_routed_experts": 64, "n_shared_experts": 1, "num_experts_per_tok": 4, "moe_intermediate_size": 1536,
                    "first_k_dense_replace": 1, "q_lora_rank": 768, "kv_lora_rank": 512, "qk_nope_head_dim": 192, "qk_rope_head_dim": 64,
                    "v_head_dim": 256, "num_nextn_predict_layers": 1}),
            ),
            29.9,
            Some(3.9),
        ),
        (
            "Seed-OSS-36B",
            llama("seed_oss", [5120, 64, 80, 8, 27_648, 155_136], json!({"head_dim": 128})),
            36.15,
            None,
        ),
        (
            "gemma-2-9b",
            llama(
                "gemma2",
                [3584, 42, 16, 8, 14_336, 256_000],
                with(
                    json!({"head_dim": 256, "sliding_window": 4096, "max_position_embeddings": 8192}),
                    &tied,
                ),
            ),
            9.24,
            None,
        ),
        (
            "gemma-3-27b text",
            gemma3(
                json!({"model_type": "gemma3_text", "hidden_size": 5376, "num_hidden_layers": 62, "num_attention_heads": 32,
                "num_key_value_heads": 16, "head_dim": 128, "intermediate_size": 21_504, "sliding_window": 1024}),
            ),
            27.01,
            None,
        ),
        (
            "gemma-3-4b text",
            gemma3(
                json!({"model_type": "gemma3_text", "hidden_size": 2560, "num_hidden_layers": 34, "intermediate_size": 10_240,
                "sliding_window": 1024}),
            ),
            3.88,
            None,
        ),
        (
            "DeepSeek-MoE-16B",
            llama(
                "deepseek",
                [2048, 28, 16, 16, 10_944, 102_400],
                json!({"n_routed_experts": 64, "n_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
                    "first_k_dense_replace": 1, "moe_layer_freq": 1}),
            ),
            16.4,
            Some(2.8),
        ),
        (
            "Ling-lite",
            llama(
                "bailing_moe",
                [2048, 28, 16, 4, 5632, 126_464],
                json!({"head_dim": 128, "num_experts": 64, "num_shared_experts": 2, "num_experts_per_tok": 6, "moe_intermediate_size": 1408,
                    "first_k_dense_replace": 0}),
            ),
            16.8,
            Some(2.75),
        ),
    ]
}

#[test]
fn parameters_are_the_published_ones() {
    for (name, config, total, active) in published() {
        let model = parse(&config.to_string(), name).unwrap_or_else(|error| panic!("{name}: {error}"));
        let (counted, of_token) = billions(&model);
        assert!((counted / total - 1.0).abs() < 0.01, "{name}: {counted:.2}, published {total}");
        // Some count embeddings among the parameters of a token, some do not.
        if let Some(active) = active {
            let less = of_token - model.embedding_parameters() * 2e-9;
            assert!(
                of_token > 0.93 * active && less < 1.05 * active,
                "{name}: {of_token:.2} of a token, published {active}"
            );
        }
    }
}

/// Windows, heads and experts that parameters do not tell.
#[test]
fn what_parameters_do_not_tell() {
    let read = |name: &str| {
        let (_, config, ..) = published().into_iter().find(|(known, ..)| *known == name).unwrap();
        parse(&config.to_string(), name).unwrap()
    };
    let window = |name: &str| read(name).window.map(|window| (window.tokens, window.layers));
    assert_eq!(window("gemma-2-9b"), Some((4096, 21)));
    assert_eq!(window("gemma-3-27b text"), Some((1024, 52)));
    assert_eq!(window("gemma-3-4b text"), Some((1024, 29)));
    assert_eq!(
        (window("Phi-3.5-MoE"), window("Qwen2-57B-A14B"), window("Phi-3-mini")),
        (None, None, Some((2047, 32)))
    );
    let gemma = read("gemma-3-4b text");
    assert_eq!((gemma.num_query_heads, gemma.num_kv_heads, gemma.head_dim, gemma.qk_norm), (8, 4, 256, true));
    let shape = |name: &str| {
        read(name).experts.map(|experts| (experts.shared_hidden_dim, experts.dense_layers)).unwrap()
    };
    assert_eq!(
        (shape("ERNIE-4.5-21B-A3B"), shape("Hunyuan-A13B"), shape("Ling-lite")),
        ((3072, 1), (3072, 0), (2816, 0))
    );
    assert_eq!(read("DBRX").num_kv_heads, 8);
    assert!(read("Hunyuan-A13B").qk_norm && read("GLM-4.6").qk_norm && !read("GLM-4-32B-0414").qk_norm);
}

#[test]
fn layers_that_differ_are_refused() {
    let config = llama(
        "hunyuan_v1_moe",
        [4096, 2, 32, 8, 3072, 128_167],
        json!({"num_experts": 64, "moe_topk": [8, 4], "moe_intermediate_size": [3072, 3072], "num_shared_expert": [1, 1]}),
    );
    let error = parse(&config.to_string(), "m").unwrap_err();
    assert!(error.contains("`num_experts_per_tok` differs between layers"), "{error}");
}

/// Families that are told by their name and not modelled.
#[test]
fn known_and_refused() {
    for name in [
        "qwen3_next",
        "qwen3_5_moe_text",
        "jamba",
        "kimi_linear",
        "minimax_m3",
        "gemma4_text",
        "longcat_flash",
        "mimo_v2_flash",
    ] {
        let error =
            parse(&llama(name, [2048, 24, 16, 4, 5632, 32_000], json!({})).to_string(), "m").unwrap_err();
        assert!(error.contains(name) && error.contains("not modelled: it would take"), "{error}");
    }
}
