//! Step times from the measured tables of NVIDIA's aiconfigurator-core (Apache-2.0), which the user
//! downloads.
//!
//! Layout: `<system>.yaml` beside `data/<system>/<family>/<backend>/<version>/*_perf.parquet`, as in the
//! wheel's `systems` directory. Which version answers, from where rows that it lacks are taken, and which
//! kernel counts is the package's decision ([`versions`], [`attention`]), and so is what lies between
//! measured points ([`rules`]) and how a step is composed ([`compose`]). Compared with the package's answers,
//! dense models and mixtures; it has no CPU time in it (`step_overhead_ms`).

mod attention;
mod collectives;
mod compose;
mod mixtures;
mod rules;
mod scales;
mod spec;
mod tables;
mod versions;

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::catalog::Model;
use super::{Deployment, Files, HardwareError, Precision, ReadParquet, WeightFormat, Weights};
use crate::settings::Faults;

use attention::Pin;
use spec::Spec;
use tables::Source;

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
    /// Number format of the weights of transformer layers; as the model is published if absent. The LM head
    /// stays bf16.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// Number format of the KV cache; as the checkpoint asks for if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<Precision>,
    /// CPU and scheduler time of every step, ms.
    #[serde(default)]
    pub step_overhead_ms: f64,
    /// Whether a step with prompts and decodes takes as long as a step of each, one after the other, as
    /// NVIDIA's simulator counts (run: aisimulate 0.13). Otherwise all its tokens are one step, as engines
    /// run it and the package's own estimates have it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mixed_steps_apart: bool,
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
            return Err(HardwareError::Unsupported(
                "this build cannot read Parquet files: build with the feature `report`".into(),
            ));
        };
        let (weights, kv_cache) = self.formats(&deployment.model);
        let model = &*deployment.model;
        let refused = |what: &str| {
            let remedy = "use \"execution_time\": \"analytical\"";
            Err(HardwareError::Unsupported(format!(
                "{}: the import does not read {what}; {remedy}",
                model.name
            )))
        };
        if model.latent.is_some_and(|latent| mixtures::architecture(latent).is_none()) {
            return refused("latent attention of other shapes than those of DeepSeek-V3, V3.2 and GLM-5");
        }
        if model.latent.is_some() && self.backend != "vllm" {
            return refused(&format!("latent attention of {}, which was measured in parts", self.backend));
        }
        let dir = files.find(&self.systems_dir)?;
        let device = deployment.device;
        let names: Vec<&str> = match &self.system {
            Some(name) => vec![name],
            None => device.aliases.iter().copied().chain([device.name]).collect(),
        };
        let places: Vec<PathBuf> = names.iter().map(|name| dir.join(format!("{name}.yaml"))).collect();
        let Some(yaml) = places.iter().find(|place| place.exists()).cloned() else {
            return Err(HardwareError::NotFound {
                path: PathBuf::from(format!("{}.yaml", names[0])),
                places,
            });
        };
        let spec = Spec::read(&yaml)?;
        let data = dir.join(&spec.data_dir);
        let system = yaml.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let version =
            versions::resolve(&dir, &data, &system, &self.backend, self.backend_version.as_deref())?;
        let table =
            |family: &str, op: &str| versions::sources(&dir, &data, family, op, &self.backend, &version);
        let capability = spec.capability.unwrap_or(0);
        if self.backend == "trtllm" && deployment.data_parallel > 1 && capability >= 100 {
            return refused(
                "attention data parallelism of trtllm on Blackwell, which exchanges tokens in a way of its own",
            );
        }
        let attention = match model.latent {
            None => ["attention/context_attention", "attention/generation_attention"],
            Some(latent) if latent.indexer.is_some() => {
                ["sparse_attention/dsa_context_module", "sparse_attention/dsa_generation_module"]
            }
            Some(_) => ["mla/mla_context_module", "mla/mla_generation_module"],
        };
        let [context, generation] = attention.map(|name| {
            let (family, op) = name.split_once('/').expect("a family and a table");
            table(family, op)
        });
        let scales = match weights.layers {
            WeightFormat::Fp8Static => {
                Some([table("quantize", "computescale")?, table("quantize", "scale_matrix")?])
            }
            _ => None,
        };
        let nccl = spec
            .nccl_version
            .as_ref()
            .map(|version| data.join("comm/nccl").join(version).join("nccl_perf.parquet"));
        Ok(Sources {
            settings: self.clone(),
            weights,
            kv_cache,
            parquet,
            gemm: table("gemm", "gemm")?,
            context: context?,
            generation: generation?,
            experts: model.experts.map(|_| table("moe", "moe")).transpose()?.unwrap_or_default(),
            all_reduce: (deployment.tensor_parallel > 1)
                .then(|| table("comm", "custom_allreduce"))
                .transpose()?
                .unwrap_or_default(),
            nccl: nccl.filter(|file| deployment.data_parallel > 1 && file.is_file()),
            scales,
            pin: versions::pin(&dir, &self.backend, &version, spec.capability)?,
            is_of_013: versions::is_of_013(&dir)?,
            descriptions: versions::descriptions(&dir),
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
    gemm: Vec<Source>,
    context: Vec<Source>,
    generation: Vec<Source>,
    experts: Vec<Source>,
    all_reduce: Vec<Source>,
    nccl: Option<PathBuf>,
    /// What scaling inputs takes, where it is done beforehand.
    scales: Option<[Vec<Source>; 2]>,
    pin: Pin,
    /// Whether the package is of 0.13 or later, which has put right some of what 0.12 does.
    is_of_013: bool,
    descriptions: Vec<PathBuf>,
}

impl Sources {
    pub fn paths(&self) -> impl Iterator<Item = &Path> {
        let tables = [&self.gemm, &self.context, &self.generation, &self.experts, &self.all_reduce];
        let tables =
            tables.into_iter().chain(self.scales.iter().flatten()).flatten().map(|source| &source.file);
        std::iter::once(&self.yaml)
            .chain(&self.descriptions)
            .chain(tables)
            .chain(&self.nccl)
            .map(PathBuf::as_path)
    }

    pub fn provenance(&self, deployment: &Deployment) -> String {
        let (name, settings) = (self.yaml.file_stem().unwrap_or_default().to_string_lossy(), &self.settings);
        let weights = if deployment.model.experts.is_some() {
            self.weights.name()
        } else {
            self.weights.layers.name().into()
        };
        let model = &deployment.model;
        let mut caveat = String::new();
        if model.experts.is_some() && settings.backend != "vllm" {
            caveat += ", composed after the package's rules but NOT COMPARED with its answers for mixtures on this backend";
        }
        if model.experts.is_some_and(|experts| experts.per_token == 1 && experts.shared_hidden_dim > 0) {
            caveat += ", without the shared expert as there";
        }
        if settings.mixed_steps_apart {
            caveat += ", steps of prompts and decodes counted apart";
        }
        format!(
            "measured tables of aiconfigurator-core, {name}, {} {}, {weights} weights, {} KV cache, {} ms overhead a step{caveat}",
            settings.backend,
            self.version,
            self.kv_cache.name(),
            settings.step_overhead_ms
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn says_what_is_missing() {
        let deployment = Deployment::resolve("Qwen/Qwen3-8B", "h100_dgx", 1, 1, &Files::default()).unwrap();
        let settings: AiconfiguratorSettings =
            serde_json::from_str(r#"{"systems_dir": "no/such/place"}"#).unwrap();
        let error = |files: &Files| settings.sources(&deployment, files).err().unwrap().to_string();
        assert!(error(&Files::default()).contains("cannot read Parquet"));
        let files = Files { parquet: Some(|_, _| Err("unused".into())), ..Files::default() };
        assert!(error(&files).contains("no/such/place is not there"));
    }
}
