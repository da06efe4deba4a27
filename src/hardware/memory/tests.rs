use super::*;
use crate::hardware::{Files, WeightFormat, catalog};

fn deployment(model: &str, node: &str, tp: u32, pp: u32) -> Deployment {
    Deployment::resolve(model, node, tp, pp, &Files::default()).unwrap()
}

fn needs(planner: &MemoryPlanner, max_request_tokens: u32) -> Needs<'_> {
    Needs {
        planner,
        max_request_tokens,
        block_size_tokens: 16,
        memory_margin_fraction: 0.1,
        weights: Weights::default(),
        kv_cache: Precision::Bf16,
        vllm: VllmDefaults::default(),
    }
}

const LLAMA_8B: &str = "meta-llama/Meta-Llama-3-8B";
const LLAMA_70B: &str = "meta-llama/Meta-Llama-3-70B";

/// The figures of the reference implementation.
#[test]
fn reference_figures() {
    let planner = MemoryPlanner::default();
    let plan = |tp, pp, tokens| {
        plan(&deployment(LLAMA_70B, "a100_pairwise_nvlink", tp, pp), &needs(&planner, tokens))
    };
    assert_eq!(plan(4, 1, 4096), Ok(KvCapacity { num_blocks: 32768, max_requests: 128 }));
    assert_eq!(plan(2, 2, 4096), Ok(KvCapacity { num_blocks: 32768, max_requests: 64 }));
    assert_eq!(plan(4, 1, 1024), Ok(KvCapacity { num_blocks: 32832, max_requests: 513 }));
}

#[test]
fn reference_capacities() {
    let planner = MemoryPlanner::default();
    for (model, tp, a40, a100) in [
        (LLAMA_8B, 1, 225_280, 483_328),
        (LLAMA_70B, 2, 0, 54_067),
        (LLAMA_70B, 4, 113_049, 525_926),
        (LLAMA_70B, 8, 643_891, 1_469_644),
        ("Qwen/Qwen-72B", 4, 13_107, 64_716),
        ("codellama/CodeLlama-34b-Instruct-hf", 1, 0, 55_296),
        ("internlm/internlm-20b", 1, 4_413, 31_938),
        ("microsoft/phi-2", 1, 117_350, 220_569),
    ] {
        for (node, expected) in [("a40_pairwise_nvlink", a40), ("a100_dgx", a100), ("h100_dgx", a100)] {
            assert_eq!(
                kv_tokens(&deployment(model, node, tp, 1), &needs(&planner, 4096)),
                expected,
                "{model} on {node}, tensor parallel {tp}"
            );
        }
    }
}

/// What aiconfigurator-core answers for vLLM; 0 where it finds no room. Within a thousandth: its weights
/// include norms.
#[test]
fn vllm_capacities() {
    let planner = MemoryPlanner::Vllm(VllmPlanner::default());
    let nodes = ["a100_dgx", "h200_dgx", "b200_dgx", "l40s_server"];
    for (model, tp, expected) in [
        (LLAMA_8B, 1, [446_099, 905_834, 1_199_763, 182_228]),
        (LLAMA_70B, 2, [21_276, 389_064, 624_207, 0]),
        (LLAMA_70B, 4, [474_987, 1_210_563, 1_680_849, 52_794]),
        (LLAMA_70B, 8, [1_380_592, 2_851_744, 3_792_317, 536_206]),
        ("Qwen/Qwen3-32B", 1, [31_547, 261_415, 408_379, 0]),
        ("Qwen/Qwen3-32B", 2, [314_917, 774_652, 1_068_581, 51_046]),
    ] {
        for (node, expected) in nodes.iter().zip(expected) {
            let found = kv_tokens(&deployment(model, node, tp, 1), &needs(&planner, 4096));
            assert!(
                found.abs_diff(expected) as f64 <= 1e-3 * expected as f64,
                "{model} on {node}, tensor parallel {tp}: {found}, expected {expected}"
            );
        }
    }
}

#[test]
fn says_what_would_fit() {
    let planner = MemoryPlanner::default();
    let error =
        plan(&deployment(LLAMA_70B, "a100_dgx", 1, 1), &needs(&planner, 4096)).unwrap_err().to_string();
    assert!(error.contains("the smallest `tensor_parallel` that fits is 2"), "{error}");
    let planner = MemoryPlanner::Vllm(VllmPlanner::default());
    let error =
        plan(&deployment(LLAMA_70B, "l40s_server", 2, 1), &needs(&planner, 4096)).unwrap_err().to_string();
    assert!(error.contains("the smallest `tensor_parallel` that fits is 4"), "{error}");
}

/// Numbers of half the width leave room for more, and a pipeline holds what its stages share.
#[test]
fn precision_and_pipelining() {
    for planner in [MemoryPlanner::default(), MemoryPlanner::Vllm(VllmPlanner::default())] {
        let node = deployment(LLAMA_70B, "h100_dgx", 4, 1);
        let bf16 = needs(&planner, 4096);
        let (plain, weights) =
            (kv_tokens(&node, &bf16), kv_tokens(&node, &Needs { weights: WeightFormat::Fp8.into(), ..bf16 }));
        assert!(weights > plain);
        assert!(kv_tokens(&node, &Needs { kv_cache: Precision::Fp8, ..bf16 }).abs_diff(2 * plain) <= 1);
    }
    let planner = MemoryPlanner::Vllm(VllmPlanner::default());
    let tokens =
        |tp, pp| kv_tokens(&deployment(LLAMA_70B, "h100_dgx", tp, pp), &needs(&planner, 4096)) as f64;
    assert!((tokens(4, 2) / tokens(8, 1) - 1.0).abs() < 0.1);
}

/// What aiconfigurator-core answers for mixtures on vLLM: weights of one device, bytes, and of a token's KV
/// cache.
#[test]
fn mixtures_of_experts() {
    let planner = MemoryPlanner::Vllm(VllmPlanner::default());
    let weights = |model: &str, tp, ep| {
        let deployment = deployment(model, "h200_dgx", tp, 1).with_expert_parallel(ep).unwrap();
        vllm::weight_bytes(&deployment, deployment.model.weights)
    };
    for (model, tp, ep, expected) in [
        ("mistralai/Mixtral-8x7B-v0.1", 2, 1, 46_572_503_040.0),
        ("mistralai/Mixtral-8x7B-v0.1", 2, 2, 46_572_503_040.0),
        ("mistralai/Mixtral-8x22B-v0.1", 8, 8, 35_110_649_856.0),
        ("Qwen/Qwen3-30B-A3B", 4, 4, 15_129_247_744.0),
        ("MiniMaxAI/MiniMax-M2.5", 4, 1, 57_257_558_016.0),
    ] {
        let found = weights(model, tp, ep);
        assert!(
            (found / expected - 1.0).abs() < 2e-2,
            "{model} tp {tp} ep {ep}: {found}, expected {expected}"
        );
    }
    // Latent attention is held whole by every device; half the layers of gpt-oss keep 128 tokens.
    let per_token = |model: &str, tp, kv_cache, longest| {
        weights::kv_bytes_per_token(&deployment(model, "h200_dgx", tp, 1), kv_cache, longest)
    };
    assert_eq!(per_token("deepseek-ai/DeepSeek-V3", 8, Precision::Bf16, 4096), 70_272.0);
    assert_eq!(per_token("deepseek-ai/DeepSeek-V3", 1, Precision::Fp8, 4096), 35_136.0);
    assert_eq!(per_token("openai/gpt-oss-20b", 1, Precision::Bf16, 128), 49_152.0);
    assert!(
        (per_token("openai/gpt-oss-20b", 1, Precision::Bf16, 1280) / (24_576.0 * 1.1) - 1.0).abs() < 1e-12
    );
    let fits = |model: &str, node, tp| {
        plan(
            &deployment(model, node, tp, 1),
            &Needs { weights: catalog::model(model).unwrap().weights, ..needs(&planner, 4096) },
        )
    };
    assert!(fits("deepseek-ai/DeepSeek-V3", "h200_dgx", 8).is_ok());
    assert!(fits("deepseek-ai/DeepSeek-V3", "h100_dgx", 8).unwrap_err().to_string().contains("does not fit"));
    assert!(fits("openai/gpt-oss-120b", "h100_dgx", 2).is_ok());
}

/// Blocks that servers logged (vLLM 0.15.1, H100, 0.9 of its memory), as `num_gpu_blocks` of 16 tokens.
#[test]
fn profiled_capacities_are_those_logged() {
    for (model, tp, max_batched_tokens, blocks) in [
        ("meta-llama/Llama-2-7b-hf", 1, 2048, 7463),
        ("meta-llama/Llama-2-70b-hf", 4, 2048, 31_357),
        ("codellama/CodeLlama-34b-Instruct-hf", 2, 2048, 26_603),
        (LLAMA_70B, 4, 8192, 30_251),
        (LLAMA_70B, 4, 2048, 30_425),
        ("mistralai/Mistral-Nemo-Base-2407", 2, 1024, 48_009),
        ("mistralai/Mistral-Nemo-Base-2407", 1, 2048, 19_251),
        ("Qwen/Qwen2.5-7B", 1, 2048, 65_352),
        ("01-ai/Yi-34B", 2, 2048, 20_793),
        ("mistralai/Mixtral-8x7B-v0.1", 2, 2048, 27_511),
    ] {
        let planner =
            MemoryPlanner::VllmProfiled(ProfiledPlanner { max_batched_tokens, ..ProfiledPlanner::default() });
        let found = plan(&deployment(model, "h100_dgx", tp, 1), &needs(&planner, 4096)).unwrap().num_blocks;
        assert!(
            (f64::from(found) / f64::from(blocks) - 1.0).abs() < 1e-2,
            "{model} tp {tp}: {found} blocks, logged {blocks}"
        );
    }
}
