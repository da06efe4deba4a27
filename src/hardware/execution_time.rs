//! How long one pipeline stage works on one batch.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::aiconfigurator::AiconfiguratorSettings;
use super::analytical::{self, AnalyticalSettings};
use super::catalog::Model;
use super::decode_steps::{DecodeSteps, DecodeTimes};
use super::memory::DoesNotFit;
use super::overheads::{OverheadSettings, Overheads, StepOverheads};
use super::profile::{self, ProfileTimes};
use super::step_times::{StepAttention, StepTimes};
use super::vidur::VidurSettings;
use super::{BatchShape, Deployment, Files, Precision, Weights, cache};
use crate::choice;
use crate::settings::Faults;

choice! {
    /// Where step times come from.
    pub enum ExecutionTimeSettings {
        "profile" => Profile(ProfileSettings),
        "table" => Table(TableSettings),
        "analytical" => Analytical(AnalyticalSettings),
        "vidur" => Vidur(VidurSettings),
        "aiconfigurator" => Aiconfigurator(AiconfiguratorSettings),
    }
}

impl Default for ExecutionTimeSettings {
    fn default() -> Self {
        Self::Profile(ProfileSettings::default())
    }
}

impl ExecutionTimeSettings {
    /// Number formats of a model's weights and KV cache.
    pub fn formats(&self, model: &Model) -> (Weights, Precision) {
        match self {
            Self::Profile(_) | Self::Table(_) | Self::Vidur(_) => Default::default(),
            Self::Analytical(settings) => settings.formats(model),
            Self::Aiconfigurator(settings) => settings.formats(model),
        }
    }

    pub fn check(&self, faults: &mut Faults) {
        match self {
            Self::Profile(_) | Self::Table(_) => {}
            Self::Analytical(settings) => faults.within("analytical", |faults| settings.check(faults)),
            Self::Vidur(settings) => faults.within("vidur", |faults| settings.check(faults)),
            Self::Aiconfigurator(settings) => {
                faults.within("aiconfigurator", |faults| settings.check(faults))
            }
        }
    }
}

/// The embedded measured tables: Meta-Llama-3-70B on A100s with pairwise NVLink.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ProfileSettings {
    /// How the time of attention is found.
    pub attention: Attention,
}

/// Operator tables in a directory: `ops_tp<T>.csv`, `all_reduce_tp<T>.csv`,
/// `send_recv_devices_per_node<N>.csv`, `attn_prefill_labfit.csv`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TableSettings {
    /// The directory of the tables.
    pub dir: PathBuf,
    /// How the time of attention is found.
    #[serde(default)]
    pub attention: Attention,
}

/// How the time of attention is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Attention {
    /// From flops and bytes, valid for every batch.
    #[default]
    Physical,
    /// Calibrated on the lab's published runs; defined for batches of up to 16 whole 256-token prefills only.
    LabFit,
}

#[derive(Debug, thiserror::Error)]
pub enum HardwareError {
    #[error("{file}: {source}")]
    Unreadable { file: PathBuf, source: std::io::Error },
    #[error("{file}, line {line}: {message}")]
    BadTable { file: PathBuf, line: u64, message: String },
    #[error("{file}: {message}")]
    BadCalibration { file: PathBuf, message: String },
    #[error("{file}: {message}")]
    BadModel { file: PathBuf, message: String },
    #[error("{path} is not there, looked for at {}", places.iter().map(|place| place.display().to_string()).collect::<Vec<_>>().join(", "))]
    NotFound { path: PathBuf, places: Vec<PathBuf> },
    #[error("{0}")]
    Unsupported(String),
    #[error(transparent)]
    DoesNotFit(#[from] DoesNotFit),
}

/// Step times of one model on one deployment, condensed.
#[derive(Debug, Clone)]
pub struct ExecutionTime {
    pub deployment: Deployment,
    pub weights: Weights,
    pub kv_cache: Precision,
    /// Where the numbers come from, one line for reports.
    pub provenance: String,
    /// What a serving engine adds to these times; nothing unless [`Self::with_overheads`] was told to.
    pub overheads: Overheads,
    step_overheads: StepOverheads,
    times: Times,
}

/// Operator tables composed as in the reference, or whole steps.
#[derive(Debug, Clone, Serialize, Deserialize)]
enum Times {
    Profile(ProfileTimes),
    Steps(StepTimes),
}

impl ExecutionTime {
    /// Loads the model of step times that `settings` name for a deployment.
    pub fn load(
        settings: &ExecutionTimeSettings,
        deployment: &Deployment,
        files: &Files,
    ) -> Result<Self, HardwareError> {
        if matches!(
            settings,
            ExecutionTimeSettings::Profile(_)
                | ExecutionTimeSettings::Table(_)
                | ExecutionTimeSettings::Vidur(_)
        ) {
            let Model { name, experts, latent, window, .. } = &*deployment.model;
            if experts.is_some() || latent.is_some() || window.is_some() {
                return Err(HardwareError::Unsupported(format!(
                    "`{}` has tables of dense models with full attention, and {name} is none; use \"execution_time\": \"analytical\"",
                    settings.name()
                )));
            }
        }
        let (times, provenance) = match settings {
            ExecutionTimeSettings::Profile(settings) => {
                let (times, provenance) = profile::embedded(deployment, settings.attention)?;
                (Times::Profile(times), provenance)
            }
            ExecutionTimeSettings::Table(settings) => {
                let (times, provenance) =
                    profile::from_dir(deployment, &files.find(&settings.dir)?, settings.attention)?;
                (Times::Profile(times), provenance)
            }
            ExecutionTimeSettings::Analytical(settings) => {
                let (dense, attention, provenance) = analytical::condense(deployment, settings)?;
                (
                    Times::Steps(StepTimes::new(deployment, dense, StepAttention::Analytic(attention))),
                    provenance,
                )
            }
            ExecutionTimeSettings::Vidur(settings) => {
                let sources = settings.sources(deployment, files)?;
                let times = cache::cached(files, sources.paths(), &"vidur", deployment, || {
                    sources.import(deployment)
                })?;
                (Times::Profile(times), sources.provenance(deployment))
            }
            ExecutionTimeSettings::Aiconfigurator(settings) => {
                let sources = settings.sources(deployment, files)?;
                let mut times = cache::cached(files, sources.paths(), settings, deployment, || {
                    sources.import(deployment)
                })?;
                times.mixed_apart = settings.mixed_steps_apart;
                let provenance = sources.provenance(deployment)
                    + &times.caveat.as_ref().map_or_else(String::new, |text| format!("; {text}"));
                (Times::Steps(times), provenance)
            }
        };
        let (weights, kv_cache) = settings.formats(&deployment.model);
        Ok(Self {
            deployment: deployment.clone(),
            weights,
            kv_cache,
            provenance: format!("step times: {provenance}"),
            overheads: Overheads::NONE,
            step_overheads: StepOverheads::NONE,
            times,
        })
    }

    /// These step times with what a serving engine adds to them, one that `sorts_logits` to sample or not.
    ///
    /// Errors: stored overheads cannot be read.
    pub fn with_overheads(
        self,
        settings: &OverheadSettings,
        sorts_logits: bool,
        files: &Files,
    ) -> Result<Self, HardwareError> {
        let (overheads, source) = settings.resolve(&self.deployment, sorts_logits, files)?;
        let mut times = self.with(&overheads);
        if let Some(source) = source {
            times.provenance += &format!("; {source}");
        }
        Ok(times)
    }

    /// These step times with given overheads.
    #[must_use]
    pub fn with(mut self, overheads: &Overheads) -> Self {
        self.overheads = *overheads;
        self.step_overheads = StepOverheads::new(overheads, self.deployment.model.vocabulary);
        self
    }

    /// The same engine, every step of which takes `factor` times as long.
    pub fn slowed(&self, factor: f64) -> Self {
        let Overheads {
            kernel_time_factor,
            step_ms,
            per_sequence_us,
            prefill_us_per_token,
            sampling_ns_per_logit,
            api_ms,
        } = self.overheads;
        let overheads = Overheads {
            kernel_time_factor: kernel_time_factor * factor,
            step_ms: step_ms * factor,
            per_sequence_us: per_sequence_us * factor,
            prefill_us_per_token: prefill_us_per_token * factor,
            sampling_ns_per_logit: sampling_ns_per_logit * factor,
            api_ms,
        };
        let step_overheads = StepOverheads::new(&overheads, self.deployment.model.vocabulary);
        Self { overheads, step_overheads, ..self.clone() }
    }

    /// Seconds that `stage` works on a batch.
    #[inline]
    pub fn stage_time_s(&self, shape: &BatchShape, stage: u32) -> f64 {
        let kernels_s = match &self.times {
            Times::Profile(times) => times.stage_time_s(shape, stage),
            Times::Steps(times) => times.stage_time_s(shape, stage),
        };
        self.step_overheads.on_top_of(
            kernels_s,
            shape.num_prefills + shape.num_decodes,
            shape.prefill_tokens,
            stage,
        )
    }

    /// A hash of every number an answer rests on: two models of equal fingerprint give equal results,
    /// whatever files they came from.
    pub fn fingerprint(&self) -> String {
        let mut content =
            serde_json::to_vec(&(&self.deployment.model, &self.times)).expect("tables are plain data");
        if self.overheads != Overheads::NONE {
            content.extend(serde_json::to_vec(&self.overheads).expect("numbers are plain data"));
        }
        blake3::hash(&content).to_hex().to_string()
    }

    /// Seconds of all stages, hand-overs between them included.
    pub fn step_time_s(&self, shape: &BatchShape) -> f64 {
        (0..self.deployment.pipeline_parallel).map(|stage| self.stage_time_s(shape, stage)).sum()
    }

    /// Milliseconds of what so many decodes have done beside attention, on a replica of one stage: layers and
    /// head, if it is told by them.
    pub fn beside_attention_ms(&self, num_decodes: u32) -> [f64; 2] {
        match &self.times {
            Times::Steps(StepTimes { stages, head, .. }) => {
                [stages[0].at(num_decodes.into()), head.at(num_decodes.into())]
            }
            Times::Profile(_) => [0.0; 2],
        }
    }

    /// The times of a batch of decodes on a replica of one stage that repeats itself, from when its requests
    /// have `cached_tokens` in the cache: of that one and as many more as are easily told.
    /// `beside_attention_ms` is what [`Self::beside_attention_ms`] says of it.
    #[inline]
    pub fn decode_steps(
        &self,
        shape: &BatchShape,
        cached_tokens: u64,
        beside_attention_ms: [f64; 2],
    ) -> DecodeSteps<'_> {
        let shape = BatchShape { decode_cached_tokens: cached_tokens, ..*shape };
        let steps = match &self.times {
            Times::Profile(times) => 1 + times.decode_steps_alike(&shape),
            Times::Steps(StepTimes {
                attention: StepAttention::Analytic(attention),
                layers_per_stage,
                num_stages: 1,
                ..
            }) => {
                let num_decodes = shape.num_decodes;
                let by_sum = attention.decode_by_sum(num_decodes, cached_tokens);
                if let Some((attention_ms, added_ms)) =
                    by_sum.and_then(|(table, added_ms)| Some((table.even(cached_tokens)?, added_ms)))
                {
                    let [stage_ms, head_ms] = beside_attention_ms;
                    return DecodeSteps::Along(DecodeTimes {
                        attention_ms,
                        added_ms,
                        num_decodes,
                        stage_ms,
                        layers: *layers_per_stage,
                        head_ms,
                        overheads: self.step_overheads,
                    });
                }
                1
            }
            Times::Steps(_) => 1,
        };
        DecodeSteps::Alike { duration_s: self.stage_time_s(&shape, 0), steps }
    }

    /// Whether these tables can answer for every batch of a workload; the reason if not.
    pub fn check_workload(
        &self,
        prefill_tokens: &[u32],
        decode_tokens: &[u32],
        batch_size_cap: u32,
        chunked: bool,
    ) -> Result<(), HardwareError> {
        if !matches!(&self.times, Times::Profile(times) if times.is_lab_fit()) {
            return Ok(());
        }
        let unsupported = |found: String| {
            Err(HardwareError::Unsupported(format!(
                "`lab_fit` attention is only defined for batches of up to 16 whole 256-token prefills, but {found}; use \"execution_time\": \"profile\" (physical attention)"
            )))
        };
        if batch_size_cap > 16 {
            return unsupported(format!("`batch_size_cap` is {batch_size_cap}"));
        }
        if chunked {
            return unsupported("the replica scheduler cuts prefills into chunks".into());
        }
        match prefill_tokens
            .iter()
            .zip(decode_tokens)
            .position(|(&prefill, &decode)| prefill != 256 || decode != 1)
        {
            None => Ok(()),
            Some(i) => unsupported(format!(
                "request {i} has {} prefill and {} decode tokens",
                prefill_tokens[i], decode_tokens[i]
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A step of prompts and decodes that counts as one of each, as NVIDIA's simulator has it, reads the
    /// weights twice.
    #[test]
    fn mixed_steps_apart_are_a_step_of_each() {
        let deployment =
            Deployment::resolve("meta-llama/Meta-Llama-3-8B", "h100_dgx", 1, 1, &Files::default()).unwrap();
        let together = ExecutionTime::load(
            &ExecutionTimeSettings::Analytical(Default::default()),
            &deployment,
            &Files::default(),
        )
        .unwrap();
        let mut apart = together.clone();
        let Times::Steps(steps) = &mut apart.times else { panic!("analytical step times are whole steps") };
        steps.mixed_apart = true;
        let (mut prompts, mut decodes, mut both) =
            (BatchShape::default(), BatchShape::default(), BatchShape::default());
        for shape in [&mut prompts, &mut both] {
            shape.add_prefill(512, 0);
        }
        for shape in [&mut decodes, &mut both] {
            (0..4).for_each(|_| shape.add_decode(800));
        }
        let [alone_s, beside_s] = [&prompts, &decodes].map(|shape| apart.stage_time_s(shape, 0));
        assert_eq!(alone_s, together.stage_time_s(&prompts, 0));
        assert_eq!(apart.stage_time_s(&both, 0), alone_s + beside_s);
        assert!(apart.stage_time_s(&both, 0) > together.stage_time_s(&both, 0) + 0.5 * beside_s);
        assert_ne!(apart.fingerprint(), together.fingerprint());
    }
}
