//! Step times from formulas: a roofline with measured efficiencies.
//!
//! Every matrix product costs a fixed time and the soft maximum of its compute and its memory time; attention
//! reads or multiplies what the sums over a batch say; an all-reduce has a latency and a bandwidth in two
//! regimes; experts read the weights of those that are hit ([`experts`]); latent attention reads one
//! compressed vector a token ([`latent`]). Constants of each device ([`Constants`]), fitted where
//! measurements exist ([`fits`], [`experts_fits`]), say how far from its data sheet it stays. Measured
//! against aiconfigurator-core's answers the mean error is 2 to 5 % for dense models and 5 to 9 % for
//! mixtures of experts; `hardware check` shows it. Not modelled: CPU time (`step_overhead_ms`), limits of
//! CUDA graphs, overlap of prefill and decode kernels.

mod constants;
mod experts;
mod experts_fits;
pub mod fits;
mod formulas;
mod latent;
mod roofline;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::attention::{AnalyticAttention, LimitedAttention};
use super::catalog::{Device, Model};
use super::condensed::{Axis, Table};
use super::{Deployment, HardwareError, Precision, WeightFormat, Weights};
use crate::settings::Faults;

pub use constants::{ConstantOverrides, Constants};
use fits::Fit;
use formulas::Formulas;
use roofline::peak_tflops;

/// The analytical model, by default with the constants of the node's device.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct AnalyticalSettings {
    /// Constants to use instead of the device's own.
    pub constants: Box<ConstantOverrides>,
    /// Number format of the weights of transformer layers; as the model is published if absent. Embedding, LM
    /// head and the routers of experts stay bf16, as in published checkpoints, and with mxfp4 everything but
    /// the experts.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightFormat>,
    /// Number format of the KV cache; as the checkpoint asks for if absent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kv_cache: Option<Precision>,
    /// CPU and scheduler time of every step, ms. Around 1 ms in real vLLM servers, which is 15 to 30 % of a
    /// step of a 7B model.
    pub step_overhead_ms: f64,
}

impl AnalyticalSettings {
    /// Number formats of a model's weights and KV cache.
    pub fn formats(&self, model: &Model) -> (Weights, Precision) {
        (self.weights.map_or(model.weights, Weights::from), self.kv_cache.unwrap_or(model.kv_cache))
    }

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
pub fn parameters(
    deployment: &Deployment,
    settings: &AnalyticalSettings,
) -> Result<Parameters, HardwareError> {
    let Deployment { model, device, node, tensor_parallel, .. } = deployment;
    let (weights, kv_cache) = settings.formats(model);
    let unsupported = |message: String| Err(HardwareError::Unsupported(message));
    if *tensor_parallel > node.devices_per_node {
        return unsupported(format!(
            "`tensor_parallel` {tensor_parallel} needs more devices than the {} of node {}; the analytical model keeps tensor parallelism within a node",
            node.devices_per_node, node.name
        ));
    }
    let overrides = &settings.constants;
    let (mut constants, fit) = fits::device_constants(device);
    fits::read_cache(device, kv_cache, &mut constants);
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
    fits::two_shot(device, node.name, *tensor_parallel, &mut constants);
    let quantised = fits::quantised(device, weights.layers);
    quantised.apply(&mut constants);
    let routed = model.experts.map(|_| {
        experts_fits::routed(device, weights.experts, model.latent.is_some(), deployment.expert_parallel > 1)
    });
    if let Some(routed) = &routed {
        routed.apply(&mut constants);
    }
    let constants = constants.with(overrides);
    let has_experts = model.experts.is_some();
    for (format, used) in [(weights.layers, true), (weights.experts, has_experts)] {
        if used && peak_tflops(&constants, format) <= 0.0 {
            let name = format.name();
            let units = if format == WeightFormat::Nvfp4 { "4-bit float" } else { "FP8" };
            return unsupported(format!(
                "device {} has no {units} units for {name}; use \"weights\": \"bf16\" or a newer device",
                device.name
            ));
        }
    }
    let mut provenance = format!(
        "analytical model, {} ({}; {all_reduce}), {} weights, {} KV cache",
        device.name,
        fit.describe(),
        if has_experts { weights.name() } else { weights.layers.name().into() },
        kv_cache.name()
    );
    provenance += quantised.caveat();
    provenance += fits::cache_caveat(device, kv_cache, model.latent.is_some());
    if let (Some(routed), Some(experts)) = (&routed, model.experts) {
        provenance += &format!(", {} experts ({})", experts.count, routed.source);
        if deployment.expert_parallel > 1 {
            provenance += &format!(", expert parallel {}", deployment.expert_parallel);
        }
        if deployment.data_parallel > 1 {
            provenance += &format!(", attention data parallel {}", deployment.data_parallel);
        }
    }
    if model.latent.is_some() {
        provenance += fits::latent_source(device);
    }
    if !overrides.given().is_empty() {
        provenance += &format!(", given: {}", overrides.given().join(", "));
    }
    if settings.step_overhead_ms > 0.0 {
        provenance += &format!(", {} ms overhead a step", settings.step_overhead_ms);
    }
    Ok(Parameters { constants, provenance })
}

/// How far step times of a model on a device rest on measurements of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Support {
    Measured,
    Partly,
    DataSheet,
    /// The device cannot multiply in the format of the weights.
    NoUnits,
}

/// What the constants in force for a model as it is published rest on.
pub fn support(model: &Model, device: &Device) -> Support {
    let (constants, fit) = fits::device_constants(device);
    let mut formats = vec![model.weights.layers];
    formats.extend(model.experts.map(|_| model.weights.experts));
    if formats.iter().any(|format| peak_tflops(&constants, *format) <= 0.0) {
        return Support::NoUnits;
    }
    let mut measured = vec![matches!(fit, Fit::Fitted(_))];
    if !model.weights.layers.is_bf16() {
        measured.push(fits::quantised(device, model.weights.layers).caveat().is_empty());
    }
    if model.experts.is_some() {
        measured.push(experts_fits::routed(device, model.weights.experts, false, false).is_fitted);
    }
    if model.latent.is_some() {
        measured.push(fits::latent_is_fitted(device));
    }
    match (
        measured.iter().all(|part| *part),
        measured.iter().any(|part| *part) || matches!(fit, Fit::Partly(_)),
    ) {
        (true, _) => Support::Measured,
        (false, true) => Support::Partly,
        (false, false) => Support::DataSheet,
    }
}

/// A deployment's step times, without attention ms per stage: tables of tokens; and what depends on the
/// number of requests.
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
    let formulas = Formulas::new(deployment, constants, settings);
    let layers = deployment.layers_per_stage();
    let link =
        if deployment.fits_one_node() { constants.link_gb_per_s } else { constants.inter_node_gb_per_s };
    let stages = deployment.stage_kinds().map(|stage| {
        Table::new(TOKENS, |tokens| {
            let tokens = tokens as f64;
            let first = if stage.first {
                formulas.embedding_us(tokens) * 1e-3 + settings.step_overhead_ms
            } else {
                0.0
            };
            let hand_over = if stage.last { 0.0 } else { formulas.hand_over_us(tokens, link) * 1e-3 };
            layers * formulas.layer_us(tokens) * 1e-3 + first + hand_over
        })
    });
    let dense = DenseTables {
        stages: stages.collect(),
        head: Table::new(ROWS, |rows| formulas.head_us(rows as f64) * 1e-3),
    };
    Ok((dense, attention_of(&formulas), provenance))
}

/// Attention alone, for profiles that come without.
pub(super) fn attention(deployment: &Deployment) -> Result<AnalyticAttention, HardwareError> {
    let settings = AnalyticalSettings::default();
    let (mut constants, _) = fits::device_constants(deployment.device);
    fits::read_cache(deployment.device, settings.formats(&deployment.model).1, &mut constants);
    Ok(attention_of(&Formulas::new(deployment, constants, &settings)))
}

fn attention_of(formulas: &Formulas) -> AnalyticAttention {
    let scaled = |share: f64| {
        // Whole models keep their bits.
        let of_layers = |ms: f64| if share == 1.0 { ms } else { share * ms };
        let decode_ms =
            Table::new(CACHED_TOKENS, |cached| of_layers(formulas.decode_us(cached as f64) * 1e-3));
        (formulas.prefill().scaled(of_layers(1.0)), decode_ms)
    };
    let limit = formulas.attention_limit();
    let full = limit.map_or(1.0, |limit| 1.0 - limit.share);
    let (prefill, decode_ms) = scaled(full);
    let limited = limit.map(|limit| {
        let (prefill, decode_ms) = scaled(limit.share);
        LimitedAttention { tokens: limit.tokens, prefill, decode_ms }
    });
    AnalyticAttention { prefill, decode_ms, limited, scan: formulas.scan() }
}

/// Query and KV heads of one device. A KV head that cannot be shared out is held by several.
pub(super) fn heads_per_device(model: &Model, tensor_parallel: u32) -> (f64, f64) {
    let share = f64::from(tensor_parallel);
    (f64::from(model.num_query_heads) / share, (f64::from(model.num_kv_heads) / share).max(1.0))
}

#[cfg(test)]
mod tests;
