use proptest::prelude::*;

use super::*;
use crate::hardware::{BatchShape, DecodeSteps, ExecutionTime, ExecutionTimeSettings, Files};

const LLAMA_70B: &str = "meta-llama/Meta-Llama-3-70B";
const NODES: [&str; 5] = ["a100_dgx", "h100_dgx", "h200_dgx", "b200_dgx", "l40s_server"];

fn load_with(
    settings: AnalyticalSettings,
    model: &str,
    node: &str,
    tp: u32,
    pp: u32,
) -> Result<ExecutionTime, HardwareError> {
    let deployment = Deployment::resolve(model, node, tp, pp, &Files::default())?;
    ExecutionTime::load(&ExecutionTimeSettings::Analytical(settings), &deployment, &Files::default())
}

fn load(model: &str, node: &str, tp: u32, pp: u32) -> ExecutionTime {
    load_with(AnalyticalSettings::default(), model, node, tp, pp).unwrap()
}

fn batch(prefills: &[(u32, u32)], decodes: &[u32]) -> BatchShape {
    let mut shape = BatchShape::default();
    prefills.iter().for_each(|&(tokens, cached)| shape.add_prefill(tokens, cached));
    decodes.iter().for_each(|&cached| shape.add_decode(cached));
    shape
}

/// The slow obvious twin: the formulas summed over requests, straight.
fn by_formula(deployment: &Deployment, prefills: &[(u32, u32)], decodes: &[u32]) -> f64 {
    let settings = AnalyticalSettings::default();
    let constants = parameters(deployment, &settings).unwrap().constants;
    let formulas = Formulas::new(deployment, constants, &settings);
    let tokens = prefills.iter().map(|&(tokens, _)| f64::from(tokens)).sum::<f64>() + decodes.len() as f64;
    let terms = formulas.prefill();
    let prefill_ms: f64 = prefills
        .iter()
        .map(|&(tokens, cached)| (f64::from(tokens), f64::from(cached)))
        .map(|(new, cached)| {
            let pairs = new * cached + new * (new + 1.0) / 2.0;
            terms.ms_per_pair * pairs + terms.ms_per_token * new + terms.ms_per_cached_token * cached
        })
        .sum();
    let prefill_us = if prefills.is_empty() { 0.0 } else { 1e3 * (terms.fixed_ms + prefill_ms) };
    let decode_us = if decodes.is_empty() {
        0.0
    } else {
        formulas.decode_us(decodes.iter().map(|&cached| f64::from(cached)).sum())
    };
    let layers = f64::from(deployment.model.num_layers);
    let us = layers * (formulas.layer_us(tokens) + prefill_us + decode_us)
        + formulas.embedding_us(tokens)
        + formulas.head_us((prefills.len() + decodes.len()) as f64);
    us * 1e-6
}

/// Steps of the 70B model with tensor parallel 4, ms, from the program the constants were fitted with. Two of
/// the L40S's are newer, and the B200's all-reduce in two shots.
#[test]
fn published_vectors() {
    let expected = [
        [343.15, 33.94, 114.83],
        [136.66, 18.35, 45.36],
        [133.93, 14.53, 43.61],
        [72.50, 10.69, 26.79],
        [2558.12, 96.10, 698.02],
    ];
    for (node, expected) in NODES.iter().zip(expected) {
        let older = match *node {
            "l40s_server" => r#"{"constants": {"gemm_eff_compute": 0.608, "gemm_smooth_p": 3.12}}"#,
            "b200_dgx" => {
                r#"{"constants": {"all_reduce_two_shot_bytes": 0, "all_reduce_switch_bytes": 8388608, "all_reduce_large_overhead_us": 23}}"#
            }
            _ => "{}",
        };
        let times = load_with(serde_json::from_str(older).unwrap(), LLAMA_70B, node, 4, 1).unwrap();
        let batches = [batch(&[(2048, 0)], &[]), batch(&[], &[2048; 32]), batch(&[(512, 1024)], &[2048; 32])];
        for (shape, expected) in batches.iter().zip(expected) {
            let found = times.stage_time_s(shape, 0) * 1e3;
            assert!((found / expected - 1.0).abs() < 1e-3, "{node}: {found} ms, expected {expected} ms");
        }
    }
}

/// Stages add up to the whole, plus the hand-overs, which are slower across nodes.
#[test]
fn pipeline_stages_share_the_layers() {
    let shape = batch(&[(512, 1024)], &[2048; 32]);
    for (tp, stages, link_gb_per_s) in [(2, 2, 450.0), (2, 4, 450.0), (4, 4, 50.0)] {
        let whole = load(LLAMA_70B, "h100_dgx", tp, 1).step_time_s(&shape);
        let times = load(LLAMA_70B, "h100_dgx", tp, stages);
        let hand_over_s = (10.0 + 2.0 * 544.0 * 8192.0 / (link_gb_per_s * 1e3)) * 1e-6;
        let expected = whole + f64::from(stages - 1) * hand_over_s;
        assert!((times.step_time_s(&shape) / expected - 1.0).abs() < 1e-9);
        assert!((0..stages).all(|stage| times.stage_time_s(&shape, stage) < 1.5 * whole / f64::from(stages)));
    }
}

#[test]
fn settings_change_what_they_say() {
    let shape = batch(&[], &[2048; 32]);
    let with =
        |json: &str| load_with(serde_json::from_str(json).unwrap(), LLAMA_70B, "h100_dgx", 4, 1).unwrap();
    let plain = with("{}");
    let overhead = with(r#"{"step_overhead_ms": 1.5}"#);
    assert!((overhead.stage_time_s(&shape, 0) - plain.stage_time_s(&shape, 0) - 1.5e-3).abs() < 1e-12);
    assert!(with(r#"{"weights": "fp8"}"#).stage_time_s(&shape, 0) < plain.stage_time_s(&shape, 0));
    assert!(with(r#"{"kv_cache": "fp8"}"#).stage_time_s(&shape, 0) < plain.stage_time_s(&shape, 0));
    let slow = with(r#"{"constants": {"memory_gb_per_s": 1675}}"#);
    assert!(slow.stage_time_s(&shape, 0) > 1.5 * plain.stage_time_s(&shape, 0));
    assert!(slow.provenance.contains("given: memory_gb_per_s"), "{}", slow.provenance);
}

/// Half the bytes of a KV cache are read in more than half the time: an H200's kernels reach three quarters
/// of what they do with bf16.
#[test]
fn a_cache_in_fp8_is_not_read_twice_as_fast() {
    let read_s = |json: &str, node: &str| {
        let times = load_with(serde_json::from_str(json).unwrap(), LLAMA_70B, node, 4, 1).unwrap();
        let step_s = |context: u32| times.stage_time_s(&batch(&[], &[context; 256]), 0);
        step_s(8192) - step_s(2048)
    };
    for (node, expected) in [("h100_dgx", 0.548), ("h200_dgx", 0.661), ("a100_dgx", 0.549)] {
        let share = read_s(r#"{"kv_cache": "fp8"}"#, node) / read_s("{}", node);
        assert!((share - expected).abs() < 0.02, "{node}: {share}");
    }
    let unfitted =
        load_with(serde_json::from_str(r#"{"kv_cache": "fp8"}"#).unwrap(), LLAMA_70B, "a100_dgx", 4, 1)
            .unwrap();
    assert!(unfitted.provenance.contains("reading of an FP8 cache UNFITTED"), "{}", unfitted.provenance);
}

/// From 512 KiB on, 32 tokens of this model, vLLM's all-reduce between four devices takes two shots.
#[test]
fn all_reduces_in_two_shots_are_slow_on_the_b200() {
    let times = load(LLAMA_70B, "b200_dgx", 4, 1);
    let step_ms = |requests: usize| 1e3 * times.stage_time_s(&batch(&[], &vec![512; requests]), 0);
    // 161 all-reduces.
    assert!((step_ms(32) - step_ms(31) - 161.0 * 6.9e-3).abs() < 0.1, "{} {}", step_ms(31), step_ms(32));
    let without = r#"{"constants": {"all_reduce_two_shot_bytes": 0}}"#;
    let without = load_with(serde_json::from_str(without).unwrap(), LLAMA_70B, "b200_dgx", 4, 1).unwrap();
    assert!(1e3 * without.stage_time_s(&batch(&[], &[512; 32]), 0) < step_ms(31) + 0.1);
}

/// Products of few tiles take a tile's way along the inner dimension, and a single row more than two.
#[test]
fn quantised_products_of_few_tiles_and_rows_take_their_time() {
    let settings: AnalyticalSettings = serde_json::from_str(r#"{"weights": "fp8"}"#).unwrap();
    let deployment = Deployment::resolve(LLAMA_70B, "b200_dgx", 8, 1, &Files::default()).unwrap();
    let formulas =
        Formulas::new(&deployment, parameters(&deployment, &settings).unwrap().constants, &settings);
    let product_us = |rows: f64, outputs: f64, inner: f64| formulas.product_us(rows, outputs, inner);
    // As many weights, eight times as many tiles: 12.6 and 9 us are measured.
    assert!(product_us(8.0, 2560.0, 8192.0) > product_us(8.0, 8.0 * 2560.0, 1024.0) + 2.0);
    assert!((product_us(1.0, 8192.0, 8192.0) - product_us(2.0, 8192.0, 8192.0) - 14.4).abs() < 0.2);
}

#[test]
fn fingerprints_tell_models_apart() {
    let with = |json: &str, node| {
        load_with(serde_json::from_str(json).unwrap(), LLAMA_70B, node, 4, 1).unwrap().fingerprint()
    };
    assert_eq!(with("{}", "h100_dgx"), with(r#"{"constants": {"memory_gb_per_s": 3350}}"#, "h100_dgx"));
    assert_ne!(with("{}", "h100_dgx"), with(r#"{"constants": {"memory_gb_per_s": 3351}}"#, "h100_dgx"));
    assert_ne!(with("{}", "h100_dgx"), with("{}", "h200_dgx"));
}

#[test]
fn what_cannot_be_modelled_is_an_error() {
    let error = |settings: &str, node, tp| {
        load_with(serde_json::from_str(settings).unwrap(), LLAMA_70B, node, tp, 1).unwrap_err().to_string()
    };
    assert!(error(r#"{"weights": "fp8"}"#, "a100_dgx", 4).contains("device a100 has no FP8 units"));
    assert!(error("{}", "a100_pairwise_nvlink", 8).contains("more devices than the 4 of node"));
    assert!(error("{}", "a100_dgx", 3).contains("expected a divisor of the model's 64 query heads"));
}

/// Nodes differ by their links only where these were measured; unfitted devices say so.
#[test]
fn provenance_names_sources() {
    assert!(
        load(LLAMA_70B, "a100_pairwise_nvlink", 4, 1)
            .provenance
            .contains("microsoft/vidur's profile of this node")
    );
    assert!(load(LLAMA_70B, "a100_dgx", 4, 1).provenance.contains("aiconfigurator-core 0.12.0, vLLM 0.14.0"));
    assert!(load(LLAMA_70B, "a100_pcie_server", 4, 1).provenance.contains("UNFITTED"));
    assert!(
        load("meta-llama/Llama-2-7b-hf", "a40_pairwise_nvlink", 1, 1)
            .provenance
            .contains("attention UNFITTED")
    );
}

/// Steps that repeat are skipped over with windows too, to the bit.
#[test]
fn repeated_decodes_of_windowed_layers_are_steps() {
    let times = load("openai/gpt-oss-20b", "h100_dgx", 1, 1);
    let mut shape = batch(&[], &[100, 300, 900]);
    // Below the windows of all requests step by step.
    assert!(matches!(
        times.decode_steps(&shape, 350, times.beside_attention_ms(shape.num_decodes)),
        DecodeSteps::Alike { steps: 1, .. }
    ));
    for cached in [384, 1300, 5000, 40_000] {
        shape.decode_cached_tokens = cached;
        let DecodeSteps::Along(along) =
            times.decode_steps(&shape, cached, times.beside_attention_ms(shape.num_decodes))
        else {
            panic!("{cached} tokens go step by step")
        };
        for later in (cached..cached + 3 * along.steps_of(cached, 40)).step_by(3) {
            shape.decode_cached_tokens = later;
            assert_eq!(along.duration_s(later), times.stage_time_s(&shape, 0), "{later}");
        }
    }
}

fn a_batch() -> impl Strategy<Value = (Vec<(u32, u32)>, Vec<u32>)> {
    (prop::collection::vec((1_u32..8192, 0_u32..16384), 0..6), prop::collection::vec(1_u32..32768, 0..300))
        .prop_filter("an empty batch", |(prefills, decodes)| prefills.len() + decodes.len() > 0)
}

proptest! {
    /// Condensing costs less than a thousandth, anywhere.
    #[test]
    fn condensed_tables_are_the_formulas((prefills, decodes) in a_batch(), device in 0..5_usize, tp_bits in 0..4_u32) {
        let times = load(LLAMA_70B, NODES[device], 1 << tp_bits, 1);
        let (found, expected) = (times.stage_time_s(&batch(&prefills, &decodes), 0), by_formula(&times.deployment, &prefills, &decodes));
        prop_assert!((found / expected - 1.0).abs() < 1e-3, "{found} s, formulas {expected} s");
    }

    /// More of anything takes longer. Tokens only without tensor parallelism: where the collectives library
    /// changes its algorithm, a larger message may be the faster one.
    #[test]
    fn more_work_takes_longer((prefills, decodes) in a_batch(), device in 0..5_usize) {
        let times = load("Qwen/Qwen3-8B", NODES[device], 1, 1);
        let time = |prefills: &[(u32, u32)], decodes: &[u32]| times.stage_time_s(&batch(prefills, decodes), 0);
        let base = time(&prefills, &decodes);
        let more = |prefills: &[(u32, u32)], decodes: &[u32]| time(prefills, decodes) > base * (1.0 - 1e-12);
        let longer: Vec<_> = prefills.iter().map(|&(tokens, cached)| (tokens + 1, cached)).collect();
        let behind: Vec<_> = prefills.iter().map(|&(tokens, cached)| (tokens, cached + 64)).collect();
        let grown: Vec<_> = decodes.iter().map(|cached| cached + 64).collect();
        prop_assert!(more(&longer, &decodes) && more(&behind, &decodes) && more(&prefills, &grown));
        prop_assert!(more(&[&prefills[..], &[(16, 0)]].concat(), &decodes) && more(&prefills, &[&decodes[..], &[16]].concat()));
    }

    /// Over NVLink twice the devices finish a large prefill earlier, but not more than twice as fast.
    #[test]
    fn tensor_parallelism_helps_within_reason(tokens in 1024_u32..8192, device in 0..4_usize, tp_bits in 0..3_u32) {
        let time = |tp| load(LLAMA_70B, NODES[device], tp, 1).stage_time_s(&batch(&[(tokens, 0)], &[]), 0);
        let ratio = time(1 << tp_bits) / time(2 << tp_bits);
        prop_assert!((1.0..2.0).contains(&ratio), "{ratio}");
    }
}
