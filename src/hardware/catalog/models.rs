//! Models by name. Source: their `config.json` on Hugging Face.

use std::borrow::Cow;

use super::Model;
use crate::hardware::{Precision, WeightFormat, Weights};

/// Gated MLP, head size 128, no norm of queries and keys, separate LM head: what most models have in common.
const fn dense(name: &'static str, [layers, embedding, heads, kv_heads, mlp, vocabulary]: [u32; 6]) -> Model {
    Model {
        name: Cow::Borrowed(name),
        num_layers: layers,
        embedding_dim: embedding,
        num_query_heads: heads,
        num_kv_heads: kv_heads,
        head_dim: 128,
        mlp_hidden_dim: mlp,
        vocabulary,
        gated_mlp: true,
        qk_norm: false,
        tied_embeddings: false,
        latent: None,
        window: None,
        experts: None,
        weights: Weights::all(WeightFormat::Bf16),
        kv_cache: Precision::Bf16,
        approximations: Vec::new(),
    }
}

const fn with_qk_norm(mut model: Model) -> Model {
    model.qk_norm = true;
    model
}

const fn plain(mut model: Model, head_dim: u32) -> Model {
    model.gated_mlp = false;
    model.head_dim = head_dim;
    model
}

/// The first is the lab's.
pub const MODELS: &[Model] = &[
    // Layers, embedding, query heads, KV heads, MLP, vocabulary.
    dense("meta-llama/Meta-Llama-3-70B", [80, 8192, 64, 8, 28672, 128_256]),
    dense("meta-llama/Meta-Llama-3-8B", [32, 4096, 32, 8, 14336, 128_256]),
    dense("meta-llama/Llama-3.1-405B", [126, 16384, 128, 8, 53248, 128_256]),
    dense("meta-llama/Llama-2-7b-hf", [32, 4096, 32, 32, 11008, 32_000]),
    dense("meta-llama/Llama-2-70b-hf", [80, 8192, 64, 8, 28672, 32_000]),
    dense("codellama/CodeLlama-34b-Instruct-hf", [48, 8192, 64, 8, 22016, 32_000]),
    dense("internlm/internlm-20b", [60, 5120, 40, 40, 13824, 103_168]),
    // Its `intermediate_size`, 49152, counts both halves of the gated layer.
    dense("Qwen/Qwen-72B", [80, 8192, 64, 64, 24576, 152_064]),
    plain(dense("microsoft/phi-2", [32, 2560, 32, 32, 10240, 51_200]), 80),
    dense("Qwen/Qwen2.5-7B", [28, 3584, 28, 4, 18944, 152_064]),
    with_qk_norm(dense("Qwen/Qwen3-8B", [36, 4096, 32, 8, 12288, 151_936])),
    with_qk_norm(dense("Qwen/Qwen3-14B", [40, 5120, 40, 8, 17408, 151_936])),
    with_qk_norm(dense("Qwen/Qwen3-32B", [64, 5120, 64, 8, 25600, 151_936])),
    dense("mistralai/Mistral-Nemo-Base-2407", [40, 5120, 32, 8, 14336, 131_072]),
    dense("meta-llama/Llama-2-13b-hf", [40, 5120, 40, 40, 13824, 32_000]),
    dense("mistralai/Mistral-7B-v0.1", [32, 4096, 32, 8, 14336, 32_000]),
    dense("mistralai/Mistral-Small-24B-Base-2501", [40, 5120, 32, 8, 32768, 131_072]),
    dense("Qwen/Qwen2.5-14B", [48, 5120, 40, 8, 13824, 152_064]),
    dense("Qwen/Qwen2.5-32B", [64, 5120, 40, 8, 27648, 152_064]),
    dense("Qwen/Qwen2.5-72B", [80, 8192, 64, 8, 29568, 152_064]),
    dense("01-ai/Yi-34B", [60, 7168, 56, 8, 20480, 64_000]),
];

/// Models of the same shape, and shorter names.
pub const ALIASES: &[(&str, &str)] = &[
    ("meta-llama/Meta-Llama-3.1-70B", "meta-llama/Meta-Llama-3-70B"),
    ("meta-llama/Llama-3.1-70B-Instruct", "meta-llama/Meta-Llama-3-70B"),
    ("meta-llama/Meta-Llama-3-70B-Instruct", "meta-llama/Meta-Llama-3-70B"),
    ("meta-llama/Llama-3.1-70B", "meta-llama/Meta-Llama-3-70B"),
    ("meta-llama/Llama-3.3-70B-Instruct", "meta-llama/Meta-Llama-3-70B"),
    ("meta-llama/Meta-Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B"),
    ("meta-llama/Llama-3.1-8B", "meta-llama/Meta-Llama-3-8B"),
    ("meta-llama/Llama-3.1-8B-Instruct", "meta-llama/Meta-Llama-3-8B"),
    ("meta-llama/Meta-Llama-3-8B-Instruct", "meta-llama/Meta-Llama-3-8B"),
    ("meta-llama/Meta-Llama-3.1-405B", "meta-llama/Llama-3.1-405B"),
    ("meta-llama/Llama-2-7b-chat-hf", "meta-llama/Llama-2-7b-hf"),
    ("meta-llama/Llama-2-70b-chat-hf", "meta-llama/Llama-2-70b-hf"),
    ("codellama/CodeLlama-34b-hf", "codellama/CodeLlama-34b-Instruct-hf"),
    ("meta-llama/Llama-2-13b-chat-hf", "meta-llama/Llama-2-13b-hf"),
    ("mistralai/Mistral-7B-Instruct-v0.1", "mistralai/Mistral-7B-v0.1"),
    ("mistralai/Mistral-Small-24B-Instruct-2501", "mistralai/Mistral-Small-24B-Base-2501"),
    ("01-ai/Yi-34B-Chat", "01-ai/Yi-34B"),
    ("Qwen/Qwen2.5-14B-Instruct", "Qwen/Qwen2.5-14B"),
    ("Qwen/Qwen2.5-32B-Instruct", "Qwen/Qwen2.5-32B"),
    ("Qwen/Qwen2.5-72B-Instruct", "Qwen/Qwen2.5-72B"),
    ("Qwen/Qwen2.5-7B-Instruct", "Qwen/Qwen2.5-7B"),
    ("mistralai/Mistral-Nemo-Instruct-2407", "mistralai/Mistral-Nemo-Base-2407"),
    ("mistralai/Mixtral-8x7B-Instruct-v0.1", "mistralai/Mixtral-8x7B-v0.1"),
    ("mistralai/Mixtral-8x22B-Instruct-v0.1", "mistralai/Mixtral-8x22B-v0.1"),
    ("Qwen/Qwen3-30B-A3B-Instruct-2507", "Qwen/Qwen3-30B-A3B"),
    ("Qwen/Qwen3-Coder-30B-A3B-Instruct", "Qwen/Qwen3-30B-A3B"),
    ("Qwen/Qwen3-235B-A22B-Instruct-2507", "Qwen/Qwen3-235B-A22B"),
    ("deepseek-ai/DeepSeek-R1", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-ai/DeepSeek-R1-0528", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-ai/DeepSeek-V3-0324", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-ai/DeepSeek-V3.1", "deepseek-ai/DeepSeek-V3"),
    ("deepseek-ai/DeepSeek-V2-Chat", "deepseek-ai/DeepSeek-V2"),
    ("deepseek-ai/DeepSeek-V2-Lite-Chat", "deepseek-ai/DeepSeek-V2-Lite"),
    ("MiniMaxAI/MiniMax-M2", "MiniMaxAI/MiniMax-M2.5"),
    ("MiniMaxAI/MiniMax-M2.7", "MiniMaxAI/MiniMax-M2.5"),
    ("zai-org/GLM-4.6", "zai-org/GLM-4.5"),
    ("zai-org/GLM-5.1", "zai-org/GLM-5"),
    ("RedHatAI/Llama-4-Scout-17B-16E-Instruct-FP8-dynamic", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ("meta-llama/Llama-4-Scout-17B-16E", "meta-llama/Llama-4-Scout-17B-16E-Instruct"),
    ("meta-llama/Llama-4-Maverick-17B-128E", "meta-llama/Llama-4-Maverick-17B-128E-Instruct"),
];

/// Models whose `generation_config.json` asks for top-k or top-p sampling, as an engine does unless a request
/// says otherwise; other names of one shape may differ in it.
pub const SAMPLING: &[&str] = &[
    "meta-llama/Meta-Llama-3-70B",
    "meta-llama/Meta-Llama-3-8B",
    "meta-llama/Llama-3.1-405B",
    "meta-llama/Llama-2-7b-hf",
    "meta-llama/Llama-2-13b-hf",
    "meta-llama/Llama-2-70b-hf",
    "Qwen/Qwen-72B",
    "Qwen/Qwen2.5-7B",
    "Qwen/Qwen2.5-14B",
    "Qwen/Qwen2.5-32B",
    "Qwen/Qwen2.5-72B",
    "Qwen/Qwen3-8B",
    "Qwen/Qwen3-14B",
    "Qwen/Qwen3-32B",
];
