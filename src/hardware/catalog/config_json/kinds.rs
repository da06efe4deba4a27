//! What is known of each `model_type`: what its layers are like, and how its keys differ from the common
//! ones.

use serde_json::Value;

/// What the layers of a `model_type` are like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// An ordinary MLP, gated or plain.
    Gated,
    Plain,
    /// Experts that are told by `num_local_experts` and `intermediate_size`.
    Mixtral,
    /// Experts that are told by `num_experts` and `moe_intermediate_size`, with ordinary layers between.
    Qwen,
    /// Experts that are told by `n_routed_experts` and `moe_intermediate_size`, after some ordinary layers.
    DeepSeek,
    /// Experts as in Mixtral, one shared expert of the same width, ordinary layers between.
    Llama4,
}

pub(super) const KINDS: &[(&str, Kind)] = &[
    ("llama", Kind::Gated),
    ("mistral", Kind::Gated),
    ("ministral", Kind::Gated),
    ("ministral3", Kind::Gated),
    ("qwen", Kind::Gated),
    ("qwen2", Kind::Gated),
    ("qwen2_vl_text", Kind::Gated),
    ("qwen2_5_vl_text", Kind::Gated),
    ("qwen3", Kind::Gated),
    ("qwen3_vl_text", Kind::Gated),
    ("internlm", Kind::Gated),
    ("internlm2", Kind::Gated),
    ("internlm3", Kind::Gated),
    ("mimo", Kind::Gated),
    ("baichuan", Kind::Gated),
    ("chatglm", Kind::Gated),
    ("exaone", Kind::Gated),
    ("ernie4_5", Kind::Gated),
    ("hunyuan_v1_dense", Kind::Gated),
    ("phi3", Kind::Gated),
    ("gemma", Kind::Gated),
    ("gemma2", Kind::Gated),
    ("gemma3_text", Kind::Gated),
    ("granite", Kind::Gated),
    ("olmo", Kind::Gated),
    ("olmo2", Kind::Gated),
    ("olmo3", Kind::Gated),
    ("cohere", Kind::Gated),
    ("cohere2", Kind::Gated),
    ("glm", Kind::Gated),
    ("glm4", Kind::Gated),
    ("seed_oss", Kind::Gated),
    ("exaone4", Kind::Gated),
    ("smollm3", Kind::Gated),
    ("phi", Kind::Plain),
    ("nemotron", Kind::Plain),
    ("arcee", Kind::Plain),
    ("apertus", Kind::Plain),
    ("gpt_neox", Kind::Plain),
    ("starcoder2", Kind::Plain),
    ("mixtral", Kind::Mixtral),
    ("phimoe", Kind::Mixtral),
    ("granitemoe", Kind::Mixtral),
    ("granitemoeshared", Kind::Mixtral),
    ("dbrx", Kind::Mixtral),
    ("minimax_m2", Kind::Mixtral),
    ("gpt_oss", Kind::Mixtral),
    ("qwen2_moe", Kind::Qwen),
    ("qwen3_moe", Kind::Qwen),
    ("qwen3_vl_moe_text", Kind::Qwen),
    ("olmoe", Kind::Qwen),
    ("deepseek", Kind::DeepSeek),
    ("deepseek_v2", Kind::DeepSeek),
    ("deepseek_v3", Kind::DeepSeek),
    ("deepseek_v32", Kind::DeepSeek),
    ("kimi_k2", Kind::DeepSeek),
    ("dots1", Kind::DeepSeek),
    ("solar_open", Kind::DeepSeek),
    ("bailing_moe", Kind::DeepSeek),
    ("bailing_moe_v2", Kind::DeepSeek),
    ("exaone_moe", Kind::DeepSeek),
    ("ernie4_5_moe", Kind::DeepSeek),
    ("hunyuan_v1_moe", Kind::DeepSeek),
    ("glm4_moe", Kind::DeepSeek),
    ("glm4v_moe_text", Kind::DeepSeek),
    ("glm4_moe_lite", Kind::DeepSeek),
    ("glm_moe_dsa", Kind::DeepSeek),
    ("llama4", Kind::Llama4),
    ("llama4_text", Kind::Llama4),
];

const LINEAR: &str = "layers of linear attention, with a state of constant size instead of a KV cache";
const SPARSE_BLOCKS: &str = "attention to chosen blocks of tokens";
const TWO_SHAPES: &str = "attention of two shapes, with other heads in layers with a window";
const STATE_SPACE: &str = "state-space layers, with a state of constant size instead of a KV cache";

/// `model_type`s that are known and not modelled, and why.
pub(super) const NOT_MODELLED: &[(&str, &str)] = &[
    ("qwen3_next", LINEAR),
    ("qwen3_5", LINEAR),
    ("qwen3_5_text", LINEAR),
    ("qwen3_5_moe", LINEAR),
    ("qwen3_5_moe_text", LINEAR),
    ("kimi_linear", LINEAR),
    ("minimax", LINEAR),
    ("minimax_text_01", LINEAR),
    ("minimax_m1", LINEAR),
    ("bailing_hybrid", LINEAR),
    ("olmo_hybrid", LINEAR),
    ("mamba", STATE_SPACE),
    ("mamba2", STATE_SPACE),
    ("falcon_mamba", STATE_SPACE),
    ("falcon_h1", STATE_SPACE),
    ("jamba", STATE_SPACE),
    ("bamba", STATE_SPACE),
    ("zamba2", STATE_SPACE),
    ("nemotron_h", STATE_SPACE),
    ("granitemoehybrid", STATE_SPACE),
    ("lfm2", "short convolutions in place of attention"),
    ("lfm2_moe", "short convolutions in place of attention"),
    ("recurrent_gemma", "recurrent layers in place of attention"),
    ("rwkv", "recurrent layers in place of attention"),
    ("deepseek_v4", "compressed attention and hyper-connections"),
    ("minimax_m3", SPARSE_BLOCKS),
    ("minimax_m3_vl", SPARSE_BLOCKS),
    ("minimax_m3_vl_text", SPARSE_BLOCKS),
    ("kimi_k3", LINEAR),
    ("longcat_flash", "experts that do nothing and two attentions in a layer"),
    ("mimo_v2_flash", TWO_SHAPES),
    ("step3p5", TWO_SHAPES),
    ("step3p7", TWO_SHAPES),
    ("gemma4", TWO_SHAPES),
    ("gemma4_text", TWO_SHAPES),
    ("nemotron-nas", "layers of different widths, some without attention"),
    ("deci", "layers of different widths, some without attention"),
    ("gemma3n", "layers that share caches and embeddings of their own"),
    ("gemma3n_text", "layers that share caches and embeddings of their own"),
    ("t5", "an encoder"),
    ("bert", "an encoder only"),
];

/// What normalises queries and keys.
pub(super) const QK_NORM: &[&str] = &[
    "qwen3",
    "qwen3_moe",
    "qwen3_vl_text",
    "qwen3_vl_moe_text",
    "olmo2",
    "olmo3",
    "olmoe",
    "gemma3_text",
    "exaone4",
    "exaone_moe",
    "dots1",
    "hunyuan_v1_dense",
    "hunyuan_v1_moe",
];
/// Of these the library ties embeddings unless the file says otherwise.
pub(super) const TIED_BY_DEFAULT: &[&str] =
    &["gemma", "gemma2", "gemma3_text", "starcoder2", "cohere", "cohere2", "ernie4_5", "ernie4_5_moe"];

/// Keys of a `model_type` that other ones have under the second name. A slash leads into an object.
const RENAMED: &[(&str, &[(&str, &str)])] = &[
    (
        "dbrx",
        &[
            ("d_model", "hidden_size"),
            ("n_heads", "num_attention_heads"),
            ("n_layers", "num_hidden_layers"),
            ("attn_config/kv_n_heads", "num_key_value_heads"),
            ("ffn_config/ffn_hidden_size", "intermediate_size"),
            ("ffn_config/moe_num_experts", "num_local_experts"),
            ("ffn_config/moe_top_k", "num_experts_per_tok"),
        ],
    ),
    (
        "chatglm",
        &[
            ("num_layers", "num_hidden_layers"),
            ("padded_vocab_size", "vocab_size"),
            ("ffn_hidden_size", "intermediate_size"),
            ("multi_query_group_num", "num_key_value_heads"),
            ("kv_channels", "head_dim"),
        ],
    ),
    ("exaone", &[("num_layers", "num_hidden_layers")]),
    ("bailing_moe", &[("num_experts", "n_routed_experts"), ("num_shared_experts", "n_shared_experts")]),
    ("bailing_moe_v2", &[("num_experts", "n_routed_experts"), ("num_shared_experts", "n_shared_experts")]),
    ("exaone_moe", &[("num_experts", "n_routed_experts"), ("num_shared_experts", "n_shared_experts")]),
    (
        "ernie4_5_moe",
        &[
            ("moe_num_experts", "n_routed_experts"),
            ("moe_k", "num_experts_per_tok"),
            ("moe_num_shared_experts", "n_shared_experts"),
            ("moe_layer_start_index", "first_k_dense_replace"),
            ("moe_layer_interval", "moe_layer_freq"),
        ],
    ),
    (
        "hunyuan_v1_moe",
        &[
            ("num_experts", "n_routed_experts"),
            ("moe_topk", "num_experts_per_tok"),
            ("num_shared_expert", "n_shared_experts"),
        ],
    ),
];

/// What published files leave to the library's own defaults.
const DEFAULTS: &[(&str, &[(&str, u32)])] = &[(
    "gemma3_text",
    &[
        ("vocab_size", 262_208),
        ("num_attention_heads", 8),
        ("num_key_value_heads", 4),
        ("head_dim", 256),
        ("sliding_window", 4096),
    ],
)];

/// Keys that some files have as a list, one number a layer.
const BY_LAYER: &[&str] =
    &["moe_intermediate_size", "num_experts_per_tok", "n_shared_experts", "n_routed_experts"];

/// Puts the keys of a `model_type` under their common names.
///
/// Errors: layers that differ in what is modelled as the same in all.
pub(super) fn to_common_keys(kind_name: &str, text: &mut Value) -> Result<(), String> {
    let of_kind = RENAMED.iter().find(|(name, _)| *name == kind_name).map_or(&[][..], |(_, keys)| *keys);
    for (theirs, common) in of_kind {
        let found = text.pointer(&format!("/{theirs}")).cloned();
        if let (Some(value), None) = (found, text.get(common).filter(|value| !value.is_null())) {
            text[*common] = value;
        }
    }
    for (key, default) in
        DEFAULTS.iter().filter(|(name, _)| *name == kind_name).flat_map(|(_, defaults)| *defaults)
    {
        if text.get(key).is_none() {
            text[*key] = (*default).into();
        }
    }
    for key in BY_LAYER {
        let Some([first, rest @ ..]) = text.get(key).and_then(Value::as_array).map(Vec::as_slice) else {
            continue;
        };
        if rest.iter().any(|other| other != first) {
            return Err(format!(
                "`{key}` differs between layers, which is not modelled: it would take layers of several shapes"
            ));
        }
        text[*key] = first.clone();
    }
    Ok(())
}
