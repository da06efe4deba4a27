//! What a serving engine adds to the time of its kernels: CPU work between steps, sampling, and the way
//! through its API server.
//!
//! A step takes `kernel_time_factor` x the kernels' time + `step_ms` + for each token of a prompt
//! `prefill_us_per_token` + for each of its sequences `per_sequence_us` and, where requests sample by top-k
//! or top-p, `sampling_ns_per_logit` for each entry of the vocabulary. A request's first token and its last
//! arrive `api_ms` after the engine has them. None of these is known from data sheets: `hardware calibrate`
//! fits them to measured runs of real servers, all runs together, and `hardware validate` says how far a
//! simulation with them is from each run.
//!
//! Sampling sorts the logits of every sequence in vLLM before 0.17, at a cost that grows with vocabulary and
//! batch; engines follow a model's published `generation_config.json` unless requests say otherwise, which is
//! why a model's default matters.

pub mod stored;
mod values;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use self::stored::StoredSettings;
pub use self::values::Overheads;
pub(super) use self::values::StepOverheads;
use super::catalog::{self, Device};
use super::{Deployment, Files, HardwareError};
use crate::choice;
use crate::settings::Faults;

choice! {
    /// What a serving engine adds to the time of its kernels.
    pub enum OverheadSettings {
        /// Nothing: kernels follow one another without a gap.
        "none" => None(NoOverheads),
        /// What was fitted to runs of real servers on this device; on a device without such runs no factor on
        /// its kernels.
        "calibrated" => Calibrated(CalibratedSettings),
        "given" => Given(Overheads),
        /// What `hardware calibrate` fitted to result files of your own server.
        "stored" => Stored(StoredSettings),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct NoOverheads {}

#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CalibratedSettings {
    /// Whether requests sample by top-k or top-p in an engine that sorts for it. If absent, what the model's
    /// publishers propose where the replica scheduler is `vllm_v1` of a `version` before 0.17, and not
    /// elsewhere: no other engine was seen to pay for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<bool>,
}

impl Default for OverheadSettings {
    fn default() -> Self {
        Self::None(NoOverheads {})
    }
}

/// Fitted by `hardware calibrate` to 26 published runs (37 stages) of vLLM serving ten dense models:
/// inference-sim/training and inference-sim/sim-to-real-accuracy-validation (vLLM 0.15.1 on H100s, loads of
/// kubernetes-sigs/inference-perf), inference-sim/residency-vllm (0.23.0, H100), casys-kaist/LLMServingSim
/// (0.19.0, RTX PRO 6000). The factor is that of the H100.
const CALIBRATED: Overheads = Overheads {
    kernel_time_factor: 1.0036,
    step_ms: 0.082,
    per_sequence_us: 0.0,
    sampling_ns_per_logit: 0.2019,
    api_ms: 6.1223,
    ..Overheads::NONE
};
const PROVENANCE: &str = "fitted to 26 measured runs of vLLM 0.15 to 0.23 (simulations of models left out of the fit: median error of mean \
                          end-to-end latency 2.7 %, of mean time to first token 3.6 %)";

/// Factors of the devices that runs were measured on.
const FACTORS: &[(&str, f64)] = &[("h100", CALIBRATED.kernel_time_factor), ("rtx_pro_6000_server", 1.141)];

/// The device that `sampling_ns_per_logit` was fitted on. Sorting is a matter of memory bandwidth.
const SAMPLED_ON: &str = "h100";

/// Sampling per logit on `device`, from that on the device it was fitted on.
pub fn sampling_on(device: &Device, fitted_ns_per_logit: f64) -> f64 {
    let fitted_on = catalog::device(SAMPLED_ON).unwrap_or(device);
    fitted_ns_per_logit * fitted_on.memory_gb_per_s / device.memory_gb_per_s
}

impl OverheadSettings {
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None(_))
    }

    pub fn check(&self, faults: &mut Faults) {
        match self {
            Self::Given(given) => faults.within("given", |faults| given.check(faults)),
            Self::Stored(stored) => faults.within("stored", |faults| stored.check(faults)),
            Self::None(_) | Self::Calibrated(_) => {}
        }
    }

    /// The overheads in force for a deployment whose engine `sorts_logits` to sample or not, and where they
    /// come from.
    ///
    /// Errors: stored ones cannot be read.
    pub fn resolve(
        &self,
        deployment: &Deployment,
        sorts_logits: bool,
        files: &Files,
    ) -> Result<(Overheads, Option<String>), HardwareError> {
        Ok(match self {
            Self::None(_) => (Overheads::NONE, None),
            Self::Given(given) => (*given, Some("engine overheads given".into())),
            Self::Stored(settings) => {
                let stored = settings.read(files)?;
                (stored.overheads, Some(stored.provenance(deployment)))
            }
            Self::Calibrated(settings) => {
                let samples = settings
                    .samples
                    .unwrap_or_else(|| sorts_logits && catalog::samples_by_default(&deployment.model.name));
                let device = deployment.device;
                let factor =
                    FACTORS.iter().find(|(known, _)| *known == device.name).map(|(_, factor)| *factor);
                let overheads = Overheads {
                    kernel_time_factor: factor.unwrap_or(1.0),
                    sampling_ns_per_logit: if samples {
                        sampling_on(device, CALIBRATED.sampling_ns_per_logit)
                    } else {
                        0.0
                    },
                    ..CALIBRATED
                };
                let elsewhere = if factor.is_none() {
                    format!(", none of them on {}: kernel times UNFITTED", device.name)
                } else {
                    String::new()
                };
                (overheads, Some(format!("engine overheads {PROVENANCE}{elsewhere}")))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hardware::{BatchShape, ExecutionTime, ExecutionTimeSettings, Files};

    fn times(settings: &str) -> ExecutionTime {
        let deployment =
            Deployment::resolve("meta-llama/Llama-2-7b-hf", "h100_dgx", 1, 1, &Files::default()).unwrap();
        let kernels = ExecutionTime::load(
            &ExecutionTimeSettings::Analytical(Default::default()),
            &deployment,
            &Files::default(),
        )
        .unwrap();
        kernels.with_overheads(&serde_json::from_str(settings).unwrap(), true, &Files::default()).unwrap()
    }

    #[test]
    fn none_changes_nothing_and_others_add_up() {
        let mut shape = BatchShape::default();
        (0..10).for_each(|_| shape.add_decode(500));
        shape.add_prefill(40, 500);
        let kernels_s = times("\"none\"").stage_time_s(&shape, 0);
        let given = r#"{"given": {"kernel_time_factor": 1.1, "step_ms": 2, "per_sequence_us": 10, "sampling_ns_per_logit": 0.5, "api_ms": 7,
            "prefill_us_per_token": 3}}"#;
        let with = times(given);
        let expected_s = 1.1 * kernels_s + 2e-3 + 11.0 * (10e-6 + 0.5e-9 * 32_000.0) + 40.0 * 3e-6;
        assert!((with.stage_time_s(&shape, 0) - expected_s).abs() < 1e-12);
        assert_eq!((with.overheads.api_ms, times("\"none\"").overheads), (7.0, Overheads::NONE));
        assert_ne!(with.fingerprint(), times("\"none\"").fingerprint());
        assert!(with.provenance.ends_with("engine overheads given"), "{}", with.provenance);
    }

    #[test]
    fn calibrations_name_known_devices_and_sampling_is_a_matter_of_the_model() {
        assert!(
            FACTORS
                .iter()
                .map(|(device, _)| device)
                .chain([&SAMPLED_ON])
                .all(|device| catalog::device(device).is_some())
        );
        let sampled = times("\"calibrated\"").overheads;
        let greedy = times(r#"{"calibrated": {"samples": false}}"#).overheads;
        assert!(
            sampled.sampling_ns_per_logit > 0.0
                && greedy == Overheads { sampling_ns_per_logit: 0.0, ..sampled }
        );
    }

    #[test]
    fn faults_name_the_field() {
        let settings: OverheadSettings =
            serde_json::from_str(r#"{"given": {"kernel_time_factor": 0, "api_ms": -1}}"#).unwrap();
        let mut faults = Faults::default();
        settings.check(&mut faults);
        assert_eq!(
            faults.found.iter().map(|fault| fault.path.as_str()).collect::<Vec<_>>(),
            ["given.kernel_time_factor", "given.api_ms"]
        );
    }
}
