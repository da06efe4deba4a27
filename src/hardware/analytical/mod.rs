//! Step times from formulas: a roofline with measured efficiencies.
//!
//! Every matrix product costs a fixed time and the soft maximum of its compute and its memory time; attention reads or multiplies what the
//! sums over a batch say; an all-reduce has a latency and a bandwidth in two regimes. About 30 constants a device ([`Constants`]), fitted
//! where measurements exist ([`fits`]), say how far from its data sheet a device stays. Measured against aiconfigurator-core's answers for
//! dense models the mean error is 2 to 5 %; `hardware check` shows it. Not modelled: CPU time (`step_overhead_ms`), limits of CUDA graphs,
//! overlap of prefill and decode kernels.

mod constants;
pub mod fits;
mod formulas;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attention::AnalyticAttention;
use super::catalog::Model;
use super::condensed::{Axis, Table};
use super::{Deployment, HardwareError, Precision};
use crate::settings::Faults;

pub use constants::{ConstantOverrides, Constants};
use formulas::Formulas;

/// The analytical model, by default with the constants of the node's device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyticalSettings {
    /// Constants to use instead of the device's own.
    pub constants: Box<ConstantOverrides>,
    /// Number format of the weights of transformer layers. The LM head stays bf16, as in published FP8 checkpoints.
    pub weights: Precision,
    /// Number format of the KV cache.
    pub kv_cache: Precision,
    /// CPU and scheduler time of every step, ms. Around 1 ms in real vLLM servers, which is 15 to 30 % of a step of a 7B model.
    pub step_overhead_ms: f64,
}

impl AnalyticalSettings {
    pub fn check(&self, faults: &mut Faults) {
        faults.within("constants", |faults| self.constants.check(faults));
        faults.not_negative("step_overhead_ms", self.step_overhead_ms);
    }
}

/// Tokens of a batch: exact to 4,096, then 256 points an octave.
pub(super) const TOKENS: Axis = Axis::new(12, 8, 20);
/// Rows through the LM head: one a request.
const ROWS: Axis = Axis::new(10, 7, 16);
/// Sum of cached tokens over the decodes of a batch.
const CACHED_TOKENS: Axis = Axis::new(8, 8, 26);

/// A deployment's constants with where they come from.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameters {
    pub constants: Constants,
    pub provenance: String,
}

/// The constants in force for a deployment.
pub fn parameters(deployment: &Deployment, settings: &AnalyticalSettings) -> Result<Parameters, HardwareError> {
    let Deployment { device, node, tensor_parallel, .. } = deployment;
    let unsupported = |message: String| Err(HardwareError::Unsupported(message));
    if *tensor_parallel > node.devices_per_node {
        return unsupported(format!(
            "`tensor_parallel` {tensor_parallel} needs more devices than the {} of node {}; the analytical model keeps tensor parallelism within a node",
            node.devices_per_node, node.name
        ));
    }
    let overrides = &settings.constants;
    let (mut constants, fit) = fits::device_constants(device);
    let all_reduce_given = [
        overrides.all_reduce_overhead_us,
        overrides.all_reduce_bus_gb_per_s,
        overrides.all_reduce_large_overhead_us,
        overrides.all_reduce_large_bus_gb_per_s,
    ]
    .iter()
    .all(Option::is_some);
    let all_reduce = match fits::all_reduce(device, node.name, *tensor_parallel) {
        Some((figures, source)) => {
            [
                constants.all_reduce_overhead_us,
                constants.all_reduce_bus_gb_per_s,
                constants.all_reduce_large_overhead_us,
                constants.all_reduce_large_bus_gb_per_s,
            ] = figures;
            source.describe()
        }
        None if all_reduce_given => "all-reduce given",
        None => {
            return unsupported(format!(
                "no all-reduce constants for `tensor_parallel` {tensor_parallel} on {}: use 1, 2, 4 or 8, or give all four `all_reduce_*` constants in {{\"analytical\": {{\"constants\": {{..}}}}}}",
                node.name
            ));
        }
    };
    let constants = constants.with(overrides);
    if settings.weights == Precision::Fp8 && constants.peak_fp8_tflops <= 0.0 {
        return unsupported(format!("device {} has no FP8 units; use \"weights\": \"bf16\" or a newer device", device.name));
    }
    let mut provenance = format!(
        "analytical model, {} ({}; {all_reduce}), {} weights, {} KV cache",
        device.name,
        fit.describe(),
        settings.weights.name(),
        settings.kv_cache.name()
    );
    if settings.weights == Precision::Fp8 && !fits::fp8_is_fitted(device) {
        provenance += ", FP8 UNFITTED, medians of other devices";
    }
    if !overrides.given().is_empty() {
        provenance += &format!(", given: {}", overrides.given().join(", "));
    }
    if settings.step_overhead_ms > 0.0 {
        provenance += &format!(", {} ms overhead a step", settings.step_overhead_ms);
    }
    Ok(Parameters { constants, provenance })
}

/// A deployment's step times, without attention ms per stage: tables of tokens; and what depends on the number of requests.
pub(super) struct DenseTables {
    pub stages: Vec<Table>,
    pub head: Table,
}

/// Condenses the formulas for one deployment.
pub(super) fn condense(
    deployment: &Deployment,
    settings: &AnalyticalSettings,
) -> Result<(DenseTables, AnalyticAttention, String), HardwareError> {
    let Parameters { constants, provenance } = parameters(deployment, settings)?;
    let formulas = Formulas::new(&deployment.model, deployment.tensor_parallel, constants, settings);
    let layers = deployment.layers_per_stage();
    let link = if deployment.fits_one_node() { constants.link_gb_per_s } else { constants.inter_node_gb_per_s };
    let stages = deployment.stage_kinds().map(|stage| {
        Table::new(TOKENS, |tokens| {
            let tokens = tokens as f64;
            let first = if stage.first { formulas.embedding_us(tokens) * 1e-3 + settings.step_overhead_ms } else { 0.0 };
            let hand_over = if stage.last { 0.0 } else { formulas.hand_over_us(tokens, link) * 1e-3 };
            layers * formulas.layer_us(tokens) * 1e-3 + first + hand_over
        })
    });
    let dense = DenseTables { stages: stages.collect(), head: Table::new(ROWS, |rows| formulas.head_us(rows as f64) * 1e-3) };
    Ok((dense, attention_of(&formulas), provenance))
}

/// Attention alone, for profiles that come without.
pub(super) fn attention(deployment: &Deployment) -> Result<AnalyticAttention, HardwareError> {
    let settings = AnalyticalSettings::default();
    let (constants, _) = fits::device_constants(deployment.device);
    Ok(attention_of(&Formulas::new(&deployment.model, deployment.tensor_parallel, constants, &settings)))
}

fn attention_of(formulas: &Formulas) -> AnalyticAttention {
    AnalyticAttention {
        prefill: formulas.prefill(),
        decode_ms: Table::new(CACHED_TOKENS, |cached| formulas.decode_us(cached as f64) * 1e-3),
    }
}

/// Query and KV heads of one device. A KV head that cannot be shared out is held by several.
pub(super) fn heads_per_device(model: &Model, tensor_parallel: u32) -> (f64, f64) {
    let share = f64::from(tensor_parallel);
    (f64::from(model.num_query_heads) / share, (f64::from(model.num_kv_heads) / share).max(1.0))
}

#[cfg(test)]
mod tests;
