//! Step times from the measured tables of NVIDIA's aiconfigurator-core (Apache-2.0), which the user downloads.
//!
//! Layout: `<system>.yaml` beside `data/<system>/{gemm,attention,comm}/<backend>/<version>/*_perf.parquet`, as in the wheel's `systems`
//! directory. Between measured points this follows the package's own rules ([`rules`]); a step is composed as it does: matrix products
//! and elementwise operators once for all tokens, attention by batch and length, an all-reduce after attention, MLP and embedding, the LM
//! head for one row a request. Compared with the package's answers for bf16; it has no CPU time in it (`step_overhead_ms`).

mod rules;
mod spec;
mod tables;

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

use spec::Spec;
use tables::{AllReduce, Attention, Gemm};

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
    /// Version of it; by default the newest.
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
        let Model { name, experts, latent, window, .. } = &*deployment.model;
        if experts.is_some() || latent.is_some() || window.is_some() {
            return Err(HardwareError::Unsupported(format!(
                "{name} is no dense model with full attention, and the import of other models is not there yet; use \"execution_time\": \"analytical\""
            )));
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
        let version = self.version(&data.join("gemm").join(&self.backend))?;
        let file = |family: &str, op: &str| {
            let versions = data.join(family).join(&self.backend);
            let same = versions.join(&version);
            // A family that was not measured anew keeps an older version.
            let dir = if same.is_dir() { same } else { versions.join(newest(&versions, Some(&version))?) };
            let file = dir.join(format!("{op}_perf.parquet"));
            if file.exists() { Ok(file) } else { Err(HardwareError::NotFound { path: file.clone(), places: vec![file] }) }
        };
        Ok(Sources {
            settings: self.clone(),
            weights: weights.layers,
            kv_cache,
            parquet,
            gemm: file("gemm", "gemm")?,
            context: file("attention", "context_attention")?,
            generation: file("attention", "generation_attention")?,
            all_reduce: (deployment.tensor_parallel > 1).then(|| file("comm", "custom_allreduce")).transpose()?,
            spec,
            yaml,
            version,
        })
    }

    fn version(&self, versions: &Path) -> Result<String, HardwareError> {
        match &self.backend_version {
            None => newest(versions, None),
            Some(version) if versions.join(version).is_dir() => Ok(version.clone()),
            Some(version) => {
                let known = listed(versions)?.join(", ");
                Err(HardwareError::Unsupported(format!("no `backend_version` {version} in {}, which has {known}", versions.display())))
            }
        }
    }
}

/// Directories in a directory, ascending by the numbers in their names.
fn listed(dir: &Path) -> Result<Vec<String>, HardwareError> {
    let unreadable = |source| HardwareError::Unreadable { file: dir.into(), source };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(unreadable)? {
        let entry = entry.map_err(unreadable)?;
        if entry.path().is_dir() {
            names.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    names.sort_by_key(|name| (numbers(name), name.clone()));
    Ok(names)
}

/// `1.3.0rc20` is `[1, 3, 0, 20]`.
fn numbers(version: &str) -> Vec<u64> {
    version.split(|c: char| !c.is_ascii_digit()).filter_map(|digits| digits.parse().ok()).collect()
}

/// The newest version in a directory, or the newest up to a given one.
fn newest(dir: &Path, up_to: Option<&str>) -> Result<String, HardwareError> {
    let names = listed(dir)?;
    let fitting = names.iter().rev().find(|name| up_to.is_none_or(|limit| numbers(name) <= numbers(limit)));
    fitting
        .cloned()
        .ok_or_else(|| HardwareError::Unsupported(format!("no usable version in {}, found {}", dir.display(), names.join(", "))))
}

pub(super) struct Sources {
    settings: AiconfiguratorSettings,
    weights: WeightFormat,
    kv_cache: Precision,
    parquet: ReadParquet,
    spec: Spec,
    yaml: PathBuf,
    version: String,
    gemm: PathBuf,
    context: PathBuf,
    generation: PathBuf,
    all_reduce: Option<PathBuf>,
}

/// Prefills of a batch, and their length.
const PREFILLS: Axis = Axis::new(5, 2, 9);
const LENGTH: Axis = Axis::new(7, 5, 17);
/// Decodes of a batch, and their cached tokens.
const DECODES: Axis = Axis::new(5, 3, 12);
const CACHED: Axis = Axis::new(6, 5, 18);
const ROWS: Axis = Axis::new(8, 5, 16);

impl Sources {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let files = [Some(&self.yaml), Some(&self.gemm), Some(&self.context), Some(&self.generation), self.all_reduce.as_ref()];
        files.into_iter().flatten().map(PathBuf::as_path)
    }

    pub fn provenance(&self) -> String {
        let (name, settings) = (self.yaml.file_stem().unwrap_or_default().to_string_lossy(), &self.settings);
        format!(
            "measured tables of aiconfigurator-core, {name}, {} {}, {} weights, {} KV cache, {} ms overhead a step",
            settings.backend,
            self.version,
            self.weights.name(),
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

        let gemm = Gemm::read(self.parquet, &self.gemm, spec, self.weights)?;
        let products = [
            gemm.shape(attention_width + 2.0 * kv_heads * f64::from(head_dim), hidden)?,
            gemm.shape(hidden, attention_width)?,
            gemm.shape(mlp_in, hidden)?,
            gemm.shape(hidden, mlp)?,
        ];
        let bf16_gemm = match self.weights {
            WeightFormat::Bf16 => None,
            _ => Some(Gemm::read(self.parquet, &self.gemm, spec, WeightFormat::Bf16)?),
        };
        let head = bf16_gemm.as_ref().unwrap_or(&gemm).shape(f64::from(model.vocabulary / tp), hidden)?;
        let all_reduce = self.all_reduce.as_ref().map(|file| AllReduce::read(self.parquet, file, tp)).transpose()?;
        let all_reduce_ms = |tokens: f64| all_reduce.as_ref().map_or(0.0, |table| table.ms(tokens * hidden));
        // Two norms with residuals and the gate; each a memory operation.
        let layer_ms = |tokens: f64| {
            let products: f64 = products.iter().map(|product| product.ms(tokens)).sum();
            let elementwise = 2.0 * spec.memory_ms(8.0 * hidden * tokens) + spec.memory_ms(2.0 * (mlp_in + mlp) * tokens);
            products + elementwise + 2.0 * all_reduce_ms(tokens)
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

        let read = |file: &Path, phase| Attention::read(self.parquet, file, phase, spec, head_dim, [query_heads, kv_heads], self.kv_cache);
        let (context, generation) = (read(&self.context, tables::Phase::Context)?, read(&self.generation, tables::Phase::Generation)?);
        // Rotary embedding and cache write, and the norms of queries and keys where there are any.
        let around_ms = 0.0132 + if model.qk_norm { 0.0264 } else { 0.0 };
        let attention = MeasuredAttention {
            prefill_ms: Grid::new(PREFILLS, LENGTH, |prefills, length| context.ms(prefills, length as f64) + around_ms),
            decode_ms: Grid::new(DECODES, CACHED, |decodes, cached| generation.ms_around(decodes, cached as f64)),
        };
        Ok(StepTimes::new(deployment, dense, StepAttention::Measured(attention)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_by_number() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["0.9.0", "0.24.0", "0.22.0", "1.3.0rc20"] {
            std::fs::create_dir(dir.path().join(version)).unwrap();
        }
        assert_eq!(newest(dir.path(), None).unwrap(), "1.3.0rc20");
        assert_eq!(newest(dir.path(), Some("0.23.0")).unwrap(), "0.22.0");
        assert!(newest(dir.path(), Some("0.1.0")).unwrap_err().to_string().contains("found 0.9.0, 0.22.0, 0.24.0, 1.3.0rc20"));
    }

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
