//! Step times from the measured tables of NVIDIA's aiconfigurator-core (Apache-2.0), which the user downloads.
//!
//! Layout: `<system>.yaml` beside `data/<system>/{gemm,attention,comm}/<backend>/<version>/*_perf.parquet`, as in the wheel's `systems`
//! directory. Between measured points this follows the package's own rules ([`rules`]); a step is composed as it does: matrix products
//! and elementwise operators once for all tokens, attention by batch and length, an all-reduce after attention, MLP and embedding, the LM
//! head for one row a request. Of mixtures the experts are a table by tokens, latent attention one with all its projections; dispatch and
//! combine are all-reduces, two a layer beside DeepSeek-V3's and Kimi's own two, which the package counts on top. Which version and which
//! kernels answer is its decision too ([`versions`]). Compared with the package's answers; it has no CPU time in it (`step_overhead_ms`).

mod mixtures;
mod rules;
mod spec;
mod tables;
mod versions;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::analytical::{DenseTables, TOKENS, heads_per_device};
use super::attention::MeasuredAttention;
use super::catalog::Model;
use super::condensed::{Axis, Grid, Table};
use super::execution_time::{StepAttention, StepTimes};
use super::{Deployment, Files, HardwareError, Precision, ReadParquet, WeightFormat, Weights};
use crate::settings::Faults;

use mixtures::{Latent, Mixture};
use spec::Spec;
use tables::{AllReduce, Asked, Attention, Gemm, Phase};

/// Where the tables are, and which of them.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AiconfiguratorSettings {
    /// The package's `systems` directory.
    pub systems_dir: PathBuf,
    /// Name of the system; by default that of the node's device.
    #[serde(default)]
    pub system: Option<String>,
    /// Serving engine whose kernels were measured.
    #[serde(default = "vllm")]
    pub backend: String,
    /// Version of it: a number, or the package's `current` (the default), `previous` or `next`.
    #[serde(default)]
    pub backend_version: Option<String>,
    /// Number format of the weights of transformer layers; as the model is published if absent. The LM head stays bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// Number format of the KV cache; as the checkpoint asks for if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<Precision>,
    /// CPU and scheduler time of every step, ms.
    #[serde(default)]
    pub step_overhead_ms: f64,
}

fn vllm() -> String {
    "vllm".into()
}

impl AiconfiguratorSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.not_negative("step_overhead_ms", self.step_overhead_ms);
    }

    /// Number formats of a model's weights and KV cache.
    pub fn formats(&self, model: &Model) -> (Weights, Precision) {
        (self.weights.map_or(model.weights, Weights::from), self.kv_cache.unwrap_or(model.kv_cache))
    }

    /// The files a deployment needs, found.
    pub(super) fn sources(&self, deployment: &Deployment, files: &Files) -> Result<Sources, HardwareError> {
        let Some(parquet) = files.parquet else {
            return Err(HardwareError::Unsupported("this build cannot read Parquet files: build with the feature `report`".into()));
        };
        let (weights, kv_cache) = self.formats(&deployment.model);
        let model = &*deployment.model;
        let refused = |what: &str| {
            let remedy = "use \"execution_time\": \"analytical\"";
            Err(HardwareError::Unsupported(format!("{}: the import does not read {what}; {remedy}", model.name)))
        };
        if model.latent.is_some_and(|latent| latent.indexer.is_some()) {
            return refused("sparse attention");
        }
        let is_deepseek =
            model.latent.is_none_or(|latent| [latent.kv_rank, latent.rope_dim, latent.nope_dim, latent.value_dim] == [512, 64, 128, 128]);
        if !is_deepseek || model.latent.is_some() && self.backend != "vllm" {
            return refused("latent attention of other shapes than DeepSeek-V3's, or of other backends than vllm");
        }
        if deployment.data_parallel > 1 {
            return refused("attention data parallelism");
        }
        if weights.layers == WeightFormat::Fp8Static {
            return refused("statically scaled FP8");
        }
        let dir = files.find(&self.systems_dir)?;
        let device = deployment.device;
        let names: Vec<&str> = match &self.system {
            Some(name) => vec![name],
            None => device.aliases.iter().copied().chain([device.name]).collect(),
        };
        let places: Vec<PathBuf> = names.iter().map(|name| dir.join(format!("{name}.yaml"))).collect();
        let Some(yaml) = places.iter().find(|place| place.exists()).cloned() else {
            return Err(HardwareError::NotFound { path: PathBuf::from(format!("{}.yaml", names[0])), places });
        };
        let spec = Spec::read(&yaml)?;
        let data = dir.join(&spec.data_dir);
        let system = yaml.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let version = versions::resolve(&dir, &data, &system, &self.backend, self.backend_version.as_deref())?;
        let file = |family: &str, op: &str| versions::files(&data, family, op, &self.backend, &version);
        let lane = std::fs::read_to_string(dir.join("attention_lane_defaults.yaml"))
            .ok()
            .and_then(|text| versions::lane(&text, &self.backend, &version, spec.capability?));
        let is_latent = model.latent.is_some();
        let (context, generation) = match is_latent {
            true => (file("mla", "mla_context_module")?, file("mla", "mla_generation_module")?),
            false => (file("attention", "context_attention")?, file("attention", "generation_attention")?),
        };
        Ok(Sources {
            settings: self.clone(),
            weights,
            kv_cache,
            parquet,
            gemm: file("gemm", "gemm")?,
            context,
            generation,
            experts: model.experts.map(|_| file("moe", "moe")).transpose()?.unwrap_or_default(),
            all_reduce: (deployment.tensor_parallel > 1).then(|| file("comm", "custom_allreduce")).transpose()?.unwrap_or_default(),
            lane,
            spec,
            yaml,
            version,
        })
    }
}

pub(super) struct Sources {
    settings: AiconfiguratorSettings,
    weights: Weights,
    kv_cache: Precision,
    parquet: ReadParquet,
    spec: Spec,
    yaml: PathBuf,
    version: String,
    /// Files of each table, in the order in which they answer.
    gemm: Vec<PathBuf>,
    context: Vec<PathBuf>,
    generation: Vec<PathBuf>,
    experts: Vec<PathBuf>,
    all_reduce: Vec<PathBuf>,
    /// Kernels of attention that count first.
    lane: Option<String>,
}

/// Prefills of a batch, and their length.
const PREFILLS: Axis = Axis::new(5, 2, 9);
const LENGTH: Axis = Axis::new(7, 5, 17);
/// Decodes of a batch, and their cached tokens.
const DECODES: Axis = Axis::new(5, 3, 12);
const CACHED: Axis = Axis::new(6, 5, 18);
const ROWS: Axis = Axis::new(8, 5, 16);

/// Tokens up to which a batch is taken for decodes, whose shared experts the package hides behind the routed ones.
const OVERLAPPED_TOKENS: f64 = 256.0;

impl Sources {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let tables = [&self.gemm, &self.context, &self.generation, &self.experts, &self.all_reduce];
        std::iter::once(&self.yaml).chain(tables.into_iter().flatten()).map(PathBuf::as_path)
    }

    pub fn provenance(&self, deployment: &Deployment) -> String {
        let (name, settings) = (self.yaml.file_stem().unwrap_or_default().to_string_lossy(), &self.settings);
        let weights = if deployment.model.experts.is_some() { self.weights.name() } else { self.weights.layers.name().into() };
        let model = &deployment.model;
        let caveat = match model.experts.is_some() || model.window.is_some() {
            true => " (composed after the package's rules for such models, NOT YET COMPARED with its answers)",
            false => "",
        };
        format!(
            "measured tables of aiconfigurator-core, {name}, {} {}, {weights} weights, {} KV cache, {} ms overhead a step{caveat}",
            settings.backend,
            self.version,
            self.kv_cache.name(),
            settings.step_overhead_ms
        )
    }

    pub fn import(&self, deployment: &Deployment) -> Result<StepTimes, HardwareError> {
        let (model, tp, settings, spec) = (&deployment.model, deployment.tensor_parallel, &self.settings, &self.spec);
        let (hidden, head_dim) = (f64::from(model.embedding_dim), model.head_dim);
        let (query_heads, kv_heads) = heads_per_device(model, tp);
        let (mlp, attention_width) = (f64::from(model.mlp_hidden_dim / tp), query_heads * f64::from(head_dim));
        let mlp_in = if model.gated_mlp { 2.0 * mlp } else { mlp };

        let gemm = Gemm::read(self.parquet, &self.gemm, spec, self.weights.layers)?;
        let bf16 = match self.weights.layers {
            WeightFormat::Bf16 => None,
            _ => Some(Gemm::read(self.parquet, &self.gemm, spec, WeightFormat::Bf16)?),
        };
        let bf16 = bf16.as_ref().unwrap_or(&gemm);
        let product = |n: f64, k: f64| gemm.shape(n, k);
        // Latent attention was measured with its projections.
        let projections = match model.latent {
            Some(_) => Vec::new(),
            None => vec![product(attention_width + 2.0 * kv_heads * f64::from(head_dim), hidden)?, product(hidden, attention_width)?],
        };
        let head = bf16.shape(f64::from(model.vocabulary / tp), hidden)?;
        let all_reduce = self.all_reduce.first().map(|file| AllReduce::read(self.parquet, file, tp)).transpose()?;
        let all_reduce_ms = |tokens: f64| all_reduce.as_ref().map_or(0.0, |table| table.ms(tokens * hidden));
        let norms_ms = |tokens: f64| 2.0 * spec.memory_ms(8.0 * hidden * tokens);
        let attention_parts_ms = |tokens: f64| projections.iter().map(|product| product.ms(tokens)).sum::<f64>();
        let layer_ms: Box<dyn Fn(f64) -> f64> = match &model.experts {
            None => {
                let of_mlp = [product(mlp_in, hidden)?, product(hidden, mlp)?];
                let projections = &projections;
                Box::new(move |tokens| {
                    let products: f64 = projections.iter().chain(&of_mlp).map(|product| product.ms(tokens)).sum();
                    let elementwise = norms_ms(tokens) + spec.memory_ms(2.0 * (mlp_in + mlp) * tokens);
                    products + elementwise + 2.0 * all_reduce_ms(tokens)
                })
            }
            Some(experts) => {
                let mixture = Mixture::read(self.parquet, &self.experts, spec, deployment, experts, self.weights.experts)?;
                let router = bf16.shape(experts.count.into(), hidden)?;
                // Llama-4's shared expert is left out by the package.
                let width = if model.latent.is_some() { f64::from(experts.shared_hidden_dim / tp) } else { 0.0 };
                let shared = match width > 0.0 {
                    true => Some([product(2.0 * width, hidden)?, product(hidden, width)?]),
                    false => None,
                };
                let own_all_reduces = if model.latent.is_some() { 2.0 } else { 0.0 };
                // All layers are counted as mixtures, also those that are not.
                Box::new(move |tokens| {
                    let routed = router.ms(tokens) + mixture.ms(tokens) + 2.0 * all_reduce_ms(tokens);
                    let shared = shared.as_ref().map_or(0.0, |products| {
                        products.iter().map(|product| product.ms(tokens)).sum::<f64>() + spec.memory_ms(6.0 * width * tokens)
                    });
                    let mixture_ms = if tokens <= OVERLAPPED_TOKENS { routed.max(shared) } else { routed + shared };
                    attention_parts_ms(tokens) + mixture_ms + norms_ms(tokens) + own_all_reduces * all_reduce_ms(tokens)
                })
            }
        };
        let layers = deployment.layers_per_stage();
        let link = if deployment.fits_one_node() { spec.intra_node_bytes_per_ms } else { spec.inter_node_bytes_per_ms };
        let stages = deployment.stage_kinds().map(|stage| {
            Table::new(TOKENS, |tokens| {
                let tokens = tokens.max(1) as f64;
                let embedding = || all_reduce_ms(tokens) + spec.memory_ms(2.0 * hidden * tokens) + settings.step_overhead_ms;
                let hand_over = || spec.p2p_ms + 2.0 * hidden * tokens / link;
                layers * layer_ms(tokens) + if stage.first { embedding() } else { 0.0 } + if stage.last { 0.0 } else { hand_over() }
            })
        });
        let dense = DenseTables { stages: stages.collect(), head: Table::new(ROWS, |rows| head.ms(rows.max(1) as f64)) };
        let attention = StepAttention::Measured(self.attention(deployment, [query_heads, kv_heads])?);
        // The package leaves the LM head out of prefills of the mixtures that it composes as such.
        let head_of_prefills = model.experts.is_none_or(|experts| model.latent.is_some() || experts.shared_hidden_dim > 0);
        Ok(StepTimes { head_of_prefills, ..StepTimes::new(deployment, dense, attention) })
    }

    fn attention(&self, deployment: &Deployment, heads: [f64; 2]) -> Result<MeasuredAttention, HardwareError> {
        let (model, spec) = (&deployment.model, &self.spec);
        if model.latent.is_some() {
            let read =
                |files: &[PathBuf], phase| Latent::read(self.parquet, files, phase, spec, heads[0], self.weights.layers, self.kv_cache);
            let (context, generation) = (read(&self.context, Phase::Context)?, read(&self.generation, Phase::Generation)?);
            return Ok(MeasuredAttention {
                prefill_ms: Grid::new(PREFILLS, LENGTH, |prefills, length| context.ms(prefills, length as f64)),
                decode_ms: Grid::new(DECODES, CACHED, |decodes, cached| generation.ms(decodes, cached as f64)),
            });
        }
        let read = |files: &[PathBuf], phase, window: u32| {
            let asked = Asked {
                head_dim: model.head_dim,
                heads,
                kv_cache: self.kv_cache,
                window,
                lane: self.lane.as_deref().filter(|lane| *lane != "default"),
            };
            Attention::read(self.parquet, files, phase, spec, asked)
        };
        let window = model.window.map_or(0, |window| window.tokens);
        let share = model.window.map_or(0.0, |window| f64::from(window.layers) / f64::from(model.num_layers));
        // Layers with a window and those without, as they are mixed.
        let (mut contexts, mut generations) = (Vec::new(), Vec::new());
        for (window, share) in [(0, 1.0 - share), (window, share)] {
            if share > 0.0 {
                contexts.push((share, read(&self.context, Phase::Context, window)?));
                generations.push((share, read(&self.generation, Phase::Generation, window)?));
            }
        }
        // Rotary embedding and cache write, and the norms of queries and keys where there are any.
        let around_ms = 0.0132 + if model.qk_norm { 0.0264 } else { 0.0 };
        let mean = |tables: &[(f64, Attention)], of: &dyn Fn(&Attention) -> f64| match tables {
            [(_, only)] => of(only),
            mixed => mixed.iter().map(|(share, table)| share * of(table)).sum(),
        };
        Ok(MeasuredAttention {
            prefill_ms: Grid::new(PREFILLS, LENGTH, |prefills, length| {
                mean(&contexts, &|table: &Attention| table.ms(prefills, length as f64)) + around_ms
            }),
            decode_ms: Grid::new(DECODES, CACHED, |decodes, cached| {
                mean(&generations, &|table: &Attention| table.ms_around(decodes, cached as f64))
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let deployment = Deployment::resolve("Qwen/Qwen3-8B", "h100_dgx", 1, 1, &Files::default()).unwrap();
        let settings: AiconfiguratorSettings = serde_json::from_str(r#"{"systems_dir": "no/such/place"}"#).unwrap();
        let error = |files: &Files| settings.sources(&deployment, files).err().unwrap().to_string();
        assert!(error(&Files::default()).contains("cannot read Parquet"));
        let files = Files { parquet: Some(|_, _| Err("unused".into())), ..Files::default() };
        assert!(error(&files).contains("no/such/place is not there"));
    }
}
