//! Mixtures of experts and other models of today by name. Source: their `config.json` on Hugging Face.

use std::borrow::Cow;

use super::model::{Experts, Indexer, LatentAttention, Model, Window};
use crate::hardware::{Precision, WeightFormat, Weights};

/// Sentences that hold for several models.
pub(super) const NO_PREDICTION: &str = "multi-token prediction is not modelled: each step yields one token a request, and the weights of its layer are not counted";
pub(super) const CHUNKED_AS_FULL: &str = "attention in chunks is modelled as full attention: prompts beyond one chunk (8,192 tokens in Llama 4) take longer than they would";

/// Grouped-query attention of heads of 128; layers, hidden size, query heads, KV heads, vocabulary.
const fn grouped(
    name: &'static str,
    [layers, hidden, heads, kv_heads, vocabulary]: [u32; 5],
    experts: Experts,
) -> Model {
    Model {
        name: Cow::Borrowed(name),
        num_layers: layers,
        embedding_dim: hidden,
        num_query_heads: heads,
        num_kv_heads: kv_heads,
        head_dim: 128,
        mlp_hidden_dim: 0,
        vocabulary,
        gated_mlp: true,
        qk_norm: false,
        tied_embeddings: false,
        latent: None,
        window: None,
        experts: Some(experts),
        weights: Weights::all(WeightFormat::Bf16),
        kv_cache: Precision::Bf16,
        approximations: Vec::new(),
    }
}

/// Experts, of them for each token, hidden width.
const fn routed([count, per_token, hidden_dim]: [u32; 3]) -> Experts {
    Experts { count, per_token, hidden_dim, shared_hidden_dim: 0, dense_layers: 0 }
}

const fn and_shared(mut experts: Experts, shared_hidden_dim: u32, dense_layers: u32) -> Experts {
    experts.shared_hidden_dim = shared_hidden_dim;
    experts.dense_layers = dense_layers;
    experts
}

const fn with_mlp(mut model: Model, mlp_hidden_dim: u32) -> Model {
    model.mlp_hidden_dim = mlp_hidden_dim;
    model
}

const fn with_qk_norm(mut model: Model) -> Model {
    model.qk_norm = true;
    model
}

const fn stored(mut model: Model, weights: Weights) -> Model {
    model.weights = weights;
    model
}

/// Query rank, KV rank, rope, nope and value width.
const fn latent(mut model: Model, [query_rank, kv_rank, rope_dim, nope_dim, value_dim]: [u32; 5]) -> Model {
    model.latent =
        Some(LatentAttention { query_rank, kv_rank, rope_dim, nope_dim, value_dim, indexer: None });
    model.head_dim = rope_dim + nope_dim;
    model
}

/// Heads and head size of the indexer, tokens attended to.
const fn sparse(mut model: Model, [heads, head_dim, top_k]: [u32; 3]) -> Model {
    if let Some(latent) = &mut model.latent {
        latent.indexer = Some(Indexer { heads, head_dim, top_k });
    }
    model
}

const fn gpt_oss(name: &'static str, layers: u32, experts: u32) -> Model {
    let mut model = grouped(name, [layers, 2880, 64, 8, 201_088], routed([experts, 4, 2880]));
    model.head_dim = 64;
    model.window = Some(Window { tokens: 128, layers: layers / 2 });
    stored(model, Weights::experts(WeightFormat::Mxfp4))
}

const FP8_BLOCK: Weights = Weights::all(WeightFormat::Fp8Block);

/// DeepSeek-V3's layers, of whatever number of heads, experts and dense layers.
const fn deepseek(name: &'static str, heads: u32, experts: u32, dense_layers: u32, vocabulary: u32) -> Model {
    let experts = and_shared(routed([experts, 8, 2048]), 2048, dense_layers);
    let model = with_mlp(grouped(name, [61, 7168, heads, heads, vocabulary], experts), 18_432);
    latent(model, [1536, 512, 64, 128, 128])
}

pub(super) const MODELS: &[Model] = &[
    grouped("mistralai/Mixtral-8x7B-v0.1", [32, 4096, 32, 8, 32_000], routed([8, 2, 14_336])),
    grouped("mistralai/Mixtral-8x22B-v0.1", [56, 6144, 48, 8, 32_000], routed([8, 2, 16_384])),
    with_qk_norm(grouped("Qwen/Qwen3-30B-A3B", [48, 2048, 32, 4, 151_936], routed([128, 8, 768]))),
    with_qk_norm(grouped("Qwen/Qwen3-235B-A22B", [94, 4096, 64, 4, 151_936], routed([128, 8, 1536]))),
    with_qk_norm(grouped(
        "Qwen/Qwen3-Coder-480B-A35B-Instruct",
        [62, 6144, 96, 8, 151_936],
        routed([160, 8, 2560]),
    )),
    gpt_oss("openai/gpt-oss-20b", 24, 32),
    gpt_oss("openai/gpt-oss-120b", 36, 128),
    stored(
        with_qk_norm(grouped("MiniMaxAI/MiniMax-M2.5", [62, 3072, 48, 8, 200_064], routed([256, 8, 1536]))),
        FP8_BLOCK,
    ),
    stored(deepseek("deepseek-ai/DeepSeek-V3", 128, 256, 3, 129_280), FP8_BLOCK),
    sparse(stored(deepseek("deepseek-ai/DeepSeek-V3.2", 128, 256, 3, 129_280), FP8_BLOCK), [64, 128, 2048]),
    latent(
        with_mlp(
            grouped(
                "deepseek-ai/DeepSeek-V2",
                [60, 5120, 128, 128, 102_400],
                and_shared(routed([160, 6, 1536]), 3072, 1),
            ),
            12_288,
        ),
        [1536, 512, 64, 128, 128],
    ),
    latent(
        with_mlp(
            grouped(
                "deepseek-ai/DeepSeek-V2-Lite",
                [27, 2048, 16, 16, 102_400],
                and_shared(routed([64, 6, 1408]), 2816, 1),
            ),
            10_944,
        ),
        [0, 512, 64, 128, 128],
    ),
    stored(deepseek("moonshotai/Kimi-K2-Instruct", 64, 384, 1, 163_840), FP8_BLOCK),
    stored(
        deepseek("moonshotai/Kimi-K2.5", 64, 384, 1, 163_840),
        Weights::experts(WeightFormat::Int4Group32),
    ),
    with_qk_norm(with_mlp(
        grouped("zai-org/GLM-4.5", [92, 5120, 96, 8, 151_552], and_shared(routed([160, 8, 1536]), 1536, 3)),
        12_288,
    )),
    with_mlp(
        grouped(
            "zai-org/GLM-4.5-Air",
            [46, 4096, 96, 8, 151_552],
            and_shared(routed([128, 8, 1408]), 1408, 1),
        ),
        10_944,
    ),
    sparse(
        latent(
            with_mlp(
                grouped(
                    "zai-org/GLM-5",
                    [78, 6144, 64, 64, 154_880],
                    and_shared(routed([256, 8, 2048]), 2048, 3),
                ),
                12_288,
            ),
            [2048, 512, 64, 192, 256],
        ),
        [32, 128, 2048],
    ),
    with_mlp(
        grouped(
            "meta-llama/Llama-4-Scout-17B-16E-Instruct",
            [48, 5120, 40, 8, 202_048],
            and_shared(routed([16, 1, 8192]), 8192, 0),
        ),
        16_384,
    ),
    with_mlp(
        grouped(
            "meta-llama/Llama-4-Maverick-17B-128E-Instruct",
            [48, 5120, 40, 8, 202_048],
            and_shared(routed([128, 1, 8192]), 8192, 24),
        ),
        16_384,
    ),
];

/// What is approximated for models of the catalogue.
pub(super) fn approximations(name: &str) -> Vec<String> {
    let mut sentences = Vec::new();
    if name.contains("DeepSeek-V3") || name.contains("GLM-") || name.contains("MiniMax-M2") {
        sentences.push(NO_PREDICTION);
    }
    if name.contains("Llama-4") {
        sentences.push(CHUNKED_AS_FULL);
    }
    sentences.into_iter().map(String::from).collect()
}
