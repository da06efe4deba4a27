//! Models of step times against measurements that may not be committed.

use std::path::Path;

use scalefront::hardware::check::{self, Compared, Comparison, Measured, Phase};
use scalefront::hardware::memory::{self, MemoryPlanner, Needs, ProfiledPlanner, VllmDefaults};
use scalefront::hardware::{
    AnalyticalSettings, BatchShape, Deployment, ExecutionTime, ExecutionTimeSettings, Files, VidurSettings,
    WeightFormat, catalog,
};

const DEVICES: [&str; 5] = ["a100_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s"];

fn mape(rows: &[Compared], wanted: impl Fn(&Measured) -> bool) -> f64 {
    let errors =
        check::errors(rows.iter().filter(|row| wanted(&row.measured))).expect("rows to compare with");
    println!(
        "{} rows: MAPE {:.3} %, P95 {:.1} %, worst {:+.1} % ({})",
        errors.rows,
        100.0 * errors.mape,
        100.0 * errors.p95,
        100.0 * errors.worst.error(),
        errors.worst.measured
    );
    errors.mape
}

/// The analytical default against the vendor's answers, device by device.
pub fn analytical_steps(shared: &Path) {
    let file = shared.join("data/hardware/aic_ground_truth.csv");
    let settings = ExecutionTimeSettings::Analytical(AnalyticalSettings::default());
    let Comparison { compared: rows, left_out, .. } =
        check::compare(&check::read(&file).unwrap(), &settings, &Files::default(), |_| true);
    assert_eq!((rows.len(), left_out), (3200, 0));
    for device in DEVICES {
        for phase in [Phase::Prefill, Phase::Decode] {
            let mape = mape(&rows, |row| row.device == device && row.phase == phase);
            assert!(mape <= 0.045, "{device} {}: {mape}", phase.name());
        }
    }
}

/// Rows of the newer file where the older one's matrix products in FP8 blocks were timed without CUDA graphs,
/// of the older one otherwise.
fn mixtures(shared: &Path) -> (Vec<Compared>, Vec<Compared>) {
    let dir = shared.join("data/hardware/moe");
    let in_blocks =
        |row: &Measured| row.weights.is_some_and(|weights| weights.layers == WeightFormat::Fp8Block);
    let settings = ExecutionTimeSettings::Analytical(AnalyticalSettings::default());
    let mut rows = Vec::new();
    for (file, wanted) in
        [("aic_moe_ground_truth_give.csv", false), ("aic_moe_ground_truth_013dev_give.csv", true)]
    {
        let file = dir.join(file);
        // All-reduces that the program counts twice for DeepSeek-V3 and Kimi: four a layer.
        let mut reader = csv::Reader::from_path(&file).unwrap();
        let column = reader.headers().unwrap().iter().position(|name| name == "allreduce_ms").unwrap();
        let twice: Vec<f64> =
            reader.records().map(|record| record.unwrap()[column].parse().unwrap()).collect();
        let comparison = check::compare(&check::read(&file).unwrap(), &settings, &Files::default(), |row| {
            in_blocks(row) == wanted
        });
        for reason in &comparison.refused {
            println!("{}: {}", reason.deployment, reason.reason);
        }
        assert!(comparison.refused.is_empty());
        rows.extend(comparison.compared.into_iter().map(|mut row| {
            if row.measured.model.contains("DeepSeek-V3") && !row.measured.model.contains("V3.2")
                || row.measured.model.contains("Kimi")
            {
                row.measured.latency_ms -= twice[row.measured.line as usize - 2];
            }
            row
        }));
    }
    rows.into_iter()
        .partition(|row| catalog::model(&row.measured.model).is_some_and(|model| model.experts.is_some()))
}

/// Mixtures of experts against the vendor's answers. Not judged: Llama-4, whose shared expert the vendor
/// leaves out, and DeepSeek-V3 in NVFP4, whose KV cache it prices as multi-head attention's.
pub fn analytical_mixtures(shared: &Path) {
    let (rows, _) = mixtures(shared);
    let judged = |row: &Measured| {
        let nvfp4 = row.weights.is_some_and(|weights| weights.experts == WeightFormat::Nvfp4);
        let left_out = row.model.contains("Llama-4") || row.model.contains("DeepSeek") && nvfp4;
        !left_out
    };
    for (device, prefill, decode) in [
        ("h100_sxm", MIXTURES[0], MIXTURES[1]),
        ("h200_sxm", MIXTURES[2], MIXTURES[3]),
        ("b200_sxm", MIXTURES[4], MIXTURES[5]),
    ] {
        for (phase, limit) in [(Phase::Prefill, prefill), (Phase::Decode, decode)] {
            println!("{device} {} of all rows:", phase.name());
            mape(&rows, |row| row.device == device && row.phase == phase);
            let mape = mape(&rows, |row| row.device == device && row.phase == phase && judged(row));
            assert!(mape <= limit, "{device} {}: {mape}", phase.name());
        }
    }
}
/// Mean errors of prefills and of decodes on H100, H200 and B200.
const MIXTURES: [f64; 6] = [0.07, 0.07, 0.07, 0.07, 0.08, 0.07];

/// Dense models with quantised weights.
pub fn analytical_quantised(shared: &Path) {
    let (_, rows) = mixtures(shared);
    for device in ["h100_sxm", "h200_sxm", "b200_sxm"] {
        for phase in [Phase::Prefill, Phase::Decode] {
            let mape = mape(&rows, |row| row.device == device && row.phase == phase);
            assert!(mape <= 0.05, "{device} {}: {mape}", phase.name());
        }
    }
}

/// Time per output token of real engines, on which nothing was tuned.
pub fn analytical_time_per_token(shared: &Path) {
    let file = shared.join("data/hardware/silicon_sample.csv");
    let settings = AnalyticalSettings { weights: Some(WeightFormat::Fp8), ..AnalyticalSettings::default() };
    let wanted = |row: &Measured| row.model == "meta-llama/Llama-3.1-70B" && row.engine == "vllm fp8";
    let settings = ExecutionTimeSettings::Analytical(settings);
    let rows = check::compare(&check::read(&file).unwrap(), &settings, &Files::default(), wanted).compared;
    for (device, count, limit) in [("h100_sxm", 45, 0.10), ("h200_sxm", 60, 0.10), ("b200_sxm", 60, 0.12)] {
        assert_eq!(rows.iter().filter(|row| row.measured.device == device).count(), count);
        let mape = mape(&rows, |row| row.device == device);
        assert!(mape <= limit, "{device}: {mape}");
    }
}

/// Blocks that servers logged, beside those that are planned for them. Not judged: Llama-4 Scout, whose
/// encoder is profiled with images (its plan is far too large, and has to say `reserve_gib`), and a server
/// whose share of memory was not logged.
pub fn kv_capacity_as_logged(shared: &Path) {
    let mut judged: Vec<(String, u32, u32)> = Vec::new();
    for dir in ["data/real_vllm", "data/real_vllm_moe"] {
        let text = std::fs::read_to_string(shared.join(dir).join("experiments.json")).unwrap();
        let experiments: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
        for experiment in &experiments {
            let engine = &experiment["engine"];
            let is_logged =
                engine["kv_blocks_source"].as_str().is_some_and(|source| source.contains("vllm.log"));
            let (Some(blocks), true) = (engine["kv_blocks_gpu"].as_u64(), is_logged) else { continue };
            let model = experiment["model"].as_str().unwrap();
            let number = |value: &serde_json::Value| u32::try_from(value.as_u64().unwrap()).unwrap();
            let (tp, max_batched_tokens) =
                (number(&experiment["tp"]), number(&engine["max_num_batched_tokens"]));
            let key = (model.to_string(), tp, max_batched_tokens);
            if model.contains("Llama-4") || judged.contains(&key) {
                continue;
            }
            assert!(experiment["gpu"].as_str().unwrap().starts_with("H100"));
            let deployment = Deployment::resolve(model, "h100_dgx", tp, 1, &Files::default()).unwrap();
            let planner = MemoryPlanner::VllmProfiled(ProfiledPlanner {
                max_batched_tokens,
                max_num_seqs: number(&engine["max_num_seqs"]),
                gpu_memory_utilization: engine["gpu_memory_utilization"].as_f64().unwrap(),
                ..ProfiledPlanner::default()
            });
            let needs = Needs {
                planner: &planner,
                max_request_tokens: 4096,
                block_size_tokens: number(&engine["block_size"]),
                memory_margin_fraction: 0.1,
                weights: deployment.model.weights,
                kv_cache: deployment.model.kv_cache,
                vllm: VllmDefaults::default(),
            };
            let planned = memory::plan(&deployment, &needs).unwrap().num_blocks;
            println!(
                "{model}, tensor parallel {tp}, {max_batched_tokens} tokens: {planned} blocks, logged {blocks}"
            );
            assert!(
                (f64::from(planned) / blocks as f64 - 1.0).abs() < 0.01,
                "{model}: {planned}, logged {blocks}"
            );
            judged.push(key);
        }
    }
    assert!(judged.len() >= 11, "{judged:?}");
}

fn vidur(shared: &Path, compute: &str, network: &str) -> VidurSettings {
    let dir = shared.join("data/hardware/vidur");
    VidurSettings {
        compute_dir: Some(dir.join(compute)),
        network_dir: Some(dir.join(network)),
        ..VidurSettings::default()
    }
}

fn load(settings: &ExecutionTimeSettings, model: &str, node: &str, tp: u32, pp: u32) -> ExecutionTime {
    ExecutionTime::load(
        settings,
        &Deployment::resolve(model, node, tp, pp, &Files::default()).unwrap(),
        &Files::default(),
    )
    .unwrap()
}

const LLAMA_70B: &str = "meta-llama/Meta-Llama-3-70B";

/// A batch without requests: `tokens` through the layers, and no attention.
fn no_attention(tokens: u64) -> BatchShape {
    BatchShape { total_tokens: tokens, ..BatchShape::default() }
}

/// The lab's hardware from its profile as it stands: 256 tokens take 104.88 ms without attention, and every
/// count what the embedded tables say, which were condensed elsewhere from the same files.
pub fn vidur_profile_of_the_lab(shared: &Path) {
    let settings = vidur(shared, "compute/a100/meta-llama/Meta-Llama-3-70B", "network/a100_pairwise_nvlink");
    let imported = ExecutionTimeSettings::Vidur(settings);
    for (tp, pp) in [(4, 1), (2, 2)] {
        let (imported, embedded) = (
            load(&imported, LLAMA_70B, "a100_pairwise_nvlink", tp, pp),
            load(&ExecutionTimeSettings::default(), LLAMA_70B, "a100_pairwise_nvlink", tp, pp),
        );
        if (tp, pp) == (4, 1) {
            let ms = imported.stage_time_s(&no_attention(256), 0) * 1e3;
            assert!((ms - 104.88).abs() < 0.005, "{ms} ms");
        }
        for tokens in (1..4096).chain([10_000, 32_768]) {
            // What the embedded tables' attention adds even to no requests: moving keys and values.
            let cache_save_s = (0.004 + 2e-6 * tokens as f64) * 80.0 / f64::from(pp) * 1e-3;
            for stage in 0..pp {
                let (ours, theirs) = (
                    imported.stage_time_s(&no_attention(tokens), stage),
                    embedded.stage_time_s(&no_attention(tokens), stage) - cache_save_s,
                );
                assert!(
                    (ours / theirs - 1.0).abs() < 1e-9,
                    "{tokens} tokens, tensor parallel {tp}, stage {stage}: {ours} s, {theirs} s"
                );
            }
        }
    }
}

/// The one published attention profile: imported answers are its measured points.
pub fn vidur_attention_profile(shared: &Path) {
    let mut settings = vidur(shared, "compute/a100/meta-llama/Llama-2-70b-hf", "network/a100_dgx");
    let attention = shared.join("data/hardware/vidur/compute/a100_2023/attention.csv");
    settings.attention = Some(attention);
    let times = load(&ExecutionTimeSettings::Vidur(settings), "meta-llama/Llama-2-70b-hf", "a100_dgx", 2, 1);
    let attention_ms = |shape: &BatchShape| {
        (times.stage_time_s(shape, 0) - times.stage_time_s(&no_attention(shape.total_tokens), 0)) * 1e3 / 80.0
    };
    let prefill = |tokens, cached| {
        let mut shape = BatchShape::default();
        shape.add_prefill(tokens, cached);
        attention_ms(&shape)
    };
    let decode = |requests, cached| {
        let mut shape = BatchShape::default();
        (0..requests).for_each(|_| shape.add_decode(cached));
        attention_ms(&shape) / if requests > 1 { 1.1 } else { 1.0 }
    };
    // Rows of the file: `attn_prefill` by chunk and cached tokens, `attn_decode` by batch and cached tokens.
    for (found, file) in [
        (prefill(128, 64), 0.02),
        (prefill(1024, 512), 0.2655),
        (prefill(64, 3968), 0.051),
        (decode(1, 64), 0.015),
        (decode(32, 1024), 0.064),
        (decode(128, 4032), 0.667),
    ] {
        assert!((found / file - 1.0).abs() < 1e-6, "{found} ms, the file says {file} ms");
    }
    // Beyond the profile times grow.
    for (more, less, least) in [
        (prefill(4096, 4096), prefill(4096, 0), 2.0),
        (prefill(8192, 0), prefill(4096, 0), 3.0),
        (decode(256, 4032), decode(128, 4032), 1.9),
    ] {
        assert!(more > least * less, "{more} ms, {less} ms");
    }
}

/// The vendor's tables against the vendor's own answers, and an import that is kept.
#[cfg(feature = "report")]
pub fn aiconfigurator_import(shared: &Path) {
    let file = shared.join("data/hardware/aic_ground_truth.csv");
    let systems_dir = shared.join("data/hardware/aiconfigurator");
    let settings =
        serde_json::from_value(serde_json::json!({ "aiconfigurator": { "systems_dir": systems_dir } }))
            .unwrap();
    let cache = tempfile::tempdir().unwrap();
    let files = Files {
        cache_dir: Some(cache.path()),
        ..scalefront::sweep::plan::hardware_files::hardware_files(&[])
    };
    let rows = check::read(&file).unwrap();
    let Comparison { compared, left_out, .. } = check::compare(&rows, &settings, &files, |_| true);
    assert_eq!((compared.len(), left_out), (3200, 0));
    for device in DEVICES {
        for phase in [Phase::Prefill, Phase::Decode] {
            let mape = mape(&compared, |row| row.device == device && row.phase == phase);
            assert!(mape <= 0.005, "{device} {}: {mape}", phase.name());
        }
    }
    assert_eq!(std::fs::read_dir(cache.path()).unwrap().count(), 40);
    assert_eq!(
        check::compare(&rows, &settings, &files, |_| true).compared,
        compared,
        "the cache answers alike"
    );
}

/// The vendor's tables of mixtures, latent attention and quantised weights against the vendor's own answers,
/// of the same version of both. Left out is DeepSeek-V3 in NVFP4, whose latent attention the vendor prices as
/// multi-head attention where a checkpoint keeps it in bf16.
#[cfg(feature = "report")]
pub fn aiconfigurator_mixtures(shared: &Path) {
    let dir = shared.join("data/hardware");
    let systems = tempfile::tempdir().unwrap();
    // One package, given in two parts.
    for part in [dir.join("aiconfigurator"), dir.join("moe/aiconfigurator_moe_0.12.0")] {
        copy(&part, systems.path());
    }
    let settings =
        serde_json::from_value(serde_json::json!({ "aiconfigurator": { "systems_dir": systems.path() } }))
            .unwrap();
    let files = scalefront::sweep::plan::hardware_files::hardware_files(&[]);
    let rows = check::read(&dir.join("moe/aic_moe_ground_truth_give.csv")).unwrap();
    let in_parts = |row: &Measured| {
        row.model.contains("DeepSeek-V3")
            && row.weights.is_some_and(|weights| weights.layers == WeightFormat::Nvfp4)
    };
    let comparison =
        check::compare(&rows, &settings, &Files { cache_dir: None, ..files }, |row| !in_parts(row));
    // Sparse attention is in the package, but not in what was given of it; nor are the earlier versions that
    // have Llama-4's experts on B200.
    let explained = |refused: &check::Refused| {
        refused.reason.contains("sparse_attention") || refused.reason.contains("one row of experts")
    };
    assert!(comparison.refused.iter().all(explained));
    assert!(comparison.compared.len() >= 2310, "{}", comparison.compared.len());
    for refused in &comparison.refused {
        println!("{} ({} rows): {}", refused.deployment, refused.rows, refused.reason);
    }
    let mut kinds: Vec<(&str, String)> = Vec::new();
    for row in &comparison.compared {
        let kind = (
            row.measured.model.as_str(),
            row.measured.weights.map_or_else(String::new, |weights| weights.name()),
        );
        if !kinds.contains(&kind) {
            kinds.push(kind);
        }
    }
    for (model, weights) in kinds {
        for phase in [Phase::Prefill, Phase::Decode] {
            let of_kind = |row: &Measured| {
                row.model == model
                    && row.phase == phase
                    && row.weights.map_or_else(String::new, |weights| weights.name()) == weights
            };
            println!("{model} {weights} {}:", phase.name());
            mape(&comparison.compared, of_kind);
        }
    }
    for device in ["h100_sxm", "h200_sxm", "b200_sxm"] {
        for phase in [Phase::Prefill, Phase::Decode] {
            println!("{device} {}:", phase.name());
            let mape = mape(&comparison.compared, |row| row.device == device && row.phase == phase);
            assert!(mape <= 0.005, "{device} {}: {mape}", phase.name());
        }
    }
}

#[cfg(feature = "report")]
fn copy(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let to = to.join(path.file_name().unwrap());
        if path.is_dir() {
            std::fs::create_dir_all(&to).unwrap();
            copy(&path, &to);
        } else {
            std::fs::write(to, std::fs::read(path).unwrap()).unwrap();
        }
    }
}
