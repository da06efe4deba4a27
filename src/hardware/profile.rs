//! Step times from measured operator tables, composed as in the reference.
//!
//! Source of the embedded tables: microsoft/vidur (MIT),
//! `data/profiling/{compute/a100,network/a100_pairwise_nvlink}`, condensed to means over equal token counts.
//! Attention was never published with them: `physical` is a model from flops and bytes, anchored at the lab's
//! published time of one 256-token request (0.110788 s); `lab_fit` is one exponent fitted to the lab's
//! published runs.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::attention::AnalyticAttention;
use super::catalog::Model;
use super::condensed::{Grid, Table};
use super::interpolate::Curves;
use super::{Attention, BatchShape, Deployment, HardwareError};

const PROFILED_MODEL: &str = "meta-llama/Meta-Llama-3-70B";
const PROFILED_NODE: &str = "a100_pairwise_nvlink";

/// CPU time to launch one all-reduce, ms (microsoft/vidur `nccl_cpu_launch_overhead_ms`).
const ALL_REDUCE_LAUNCH_MS: f64 = 0.02;
/// Decode attention reads the cache in steps of this many tokens.
pub(super) const KV_GRANULARITY: u64 = 64;
/// Time of attention over several requests against the sum of its parts (grouped-query models,
/// microsoft/vidur).
const BATCHING_OVERHEAD: f64 = 1.1;

pub(super) fn batching_overhead(model: &Model) -> f64 {
    if model.num_query_heads > model.num_kv_heads { BATCHING_OVERHEAD } else { 1.0 }
}

/// Tokens are rounded up to a multiple of this before the dense tables are read (microsoft/vidur pads batches
/// alike).
const TOKEN_GRANULARITY: u64 = 8;

/// One pipeline stage's time without attention for one (rounded) number of tokens, milliseconds per layer.
///
/// The parts are kept apart only as far as the reference's order of additions asks for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct DenseRow {
    /// QKV and output projections and rotary embedding.
    projections_ms: f64,
    all_reduce_ms: f64,
    input_norm_ms: f64,
    /// MLP matrices, activation, all-reduce, norm.
    mlp_ms: f64,
    /// Residual addition.
    add_ms: f64,
    /// Hand-over to the next stage, per stage.
    send_recv_ms: f64,
}

impl DenseRow {
    fn scaled(self, factor: f64) -> Self {
        Self {
            projections_ms: self.projections_ms * factor,
            all_reduce_ms: self.all_reduce_ms * factor,
            input_norm_ms: self.input_norm_ms * factor,
            mlp_ms: self.mlp_ms * factor,
            add_ms: self.add_ms * factor,
            send_recv_ms: self.send_recv_ms * factor,
        }
    }
}

/// What batches beyond the largest measured one take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) enum Beyond {
    /// The time of the largest, as in the reference's goldens.
    Constant,
    /// In proportion to their tokens.
    Proportional,
}

/// Step times from operator tables.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct ProfileTimes {
    /// Row `i` holds for `i * TOKEN_GRANULARITY` tokens.
    dense: Vec<DenseRow>,
    beyond: Beyond,
    layers_per_stage: f64,
    num_stages: u32,
    attention: ProfileAttention,
}

impl ProfileTimes {
    #[inline]
    fn dense(&self, tokens: u64) -> DenseRow {
        let index = tokens.div_ceil(TOKEN_GRANULARITY) as usize;
        let last = self.dense.len() - 1;
        if index > last && self.beyond == Beyond::Proportional {
            return self.dense[last].scaled(index as f64 / last as f64);
        }
        self.dense[index.min(last)]
    }

    /// One layer without attention and hand-over.
    #[cfg(test)]
    pub fn dense_ms(&self, tokens: u64) -> f64 {
        let row = self.dense(tokens);
        row.projections_ms + row.all_reduce_ms + row.input_norm_ms + row.mlp_ms + row.add_ms
    }

    #[inline]
    pub fn stage_time_s(&self, shape: &BatchShape, stage: u32) -> f64 {
        let dense = self.dense(shape.total_tokens);
        let (cache_save_ms, decode_ms, prefill_ms) = self.attention.parts_ms(shape);
        // Additions run left to right in the reference's order: its outputs are matched to the last bit.
        let attention_ms = dense.projections_ms
            + cache_save_ms
            + decode_ms
            + prefill_ms
            + dense.all_reduce_ms
            + dense.input_norm_ms;
        let block_ms = attention_ms + dense.mlp_ms + dense.add_ms;
        let hand_over_ms = if stage + 1 < self.num_stages { dense.send_recv_ms } else { 0.0 };
        (block_ms * self.layers_per_stage + hand_over_ms) * 1e-3
    }

    #[inline]
    pub fn decode_steps_alike(&self, shape: &BatchShape) -> u64 {
        self.attention.decode_steps_alike(shape)
    }

    pub fn is_lab_fit(&self) -> bool {
        matches!(self.attention, ProfileAttention::LabFit { .. })
    }
}

/// Attention and KV-cache writes, milliseconds per layer.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) enum ProfileAttention {
    Physical(PhysicalAttention),
    /// Attention of k whole 256-token prefills, at index k; before the batching overhead.
    LabFit {
        prefill_ms: Vec<f64>,
        physical: PhysicalAttention,
    },
    /// From an attention profile.
    Measured(MeasuredProfileAttention),
    /// From the analytical model, where there is no attention profile.
    Analytic(AnalyticAttention),
}

/// Attention by the keys of microsoft/vidur's predictor.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct MeasuredProfileAttention {
    /// Moving keys and values, by tokens of the batch.
    pub around_ms: Table,
    /// By cached tokens of all prefills in steps of [`KV_GRANULARITY`], and the root of the summed squares of
    /// their chunks.
    pub prefill_ms: Grid,
    /// By decodes, and their mean cached tokens in steps of [`KV_GRANULARITY`].
    pub decode_ms: Grid,
    pub batching_overhead: f64,
}

impl MeasuredProfileAttention {
    #[inline]
    fn prefill_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_prefills == 0 {
            return 0.0;
        }
        let chunk = (shape.prefill_tokens_squared as f64).sqrt().round() as u64;
        let factor = if shape.num_prefills > 1 { self.batching_overhead } else { 1.0 };
        self.prefill_ms.at(shape.prefill_cached_tokens_64 / KV_GRANULARITY, chunk) * factor
    }

    #[inline]
    fn decode_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_decodes == 0 {
            return 0.0;
        }
        let mean = shape.decode_cached_tokens / u64::from(shape.num_decodes);
        let factor = if shape.num_decodes > 1 { self.batching_overhead } else { 1.0 };
        self.decode_ms.at(shape.num_decodes.into(), mean.div_ceil(KV_GRANULARITY)) * factor
    }
}

/// `prefill = c0 + c1 chunk^2 + c2 chunk cached`, `decode = d0 + d1 requests cached`.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct PhysicalAttention {
    c0: f64,
    c1: f64,
    c2: f64,
    d0: f64,
    d1: f64,
}

impl PhysicalAttention {
    /// Flops at 150 Tflop/s, half for the causal square; cache bytes at 1.6e12 B/s; 64 query and 8 KV heads
    /// of 128 shared `tp` ways.
    fn new(tensor_parallel: u32) -> Self {
        let share = 4.0 / f64::from(tensor_parallel);
        Self { c0: 0.0675491378764, c1: 2.73e-8 * share, c2: 5.46e-8 * share, d0: 0.012, d1: 6.4e-7 * share }
    }

    #[inline]
    fn decode_ms(&self, num_decodes: u32, cached_tokens: u64) -> f64 {
        if num_decodes == 0 {
            return 0.0;
        }
        let cached = (cached_tokens / u64::from(num_decodes)).next_multiple_of(KV_GRANULARITY);
        let factor = if num_decodes > 1 { BATCHING_OVERHEAD } else { 1.0 };
        (self.d0 + self.d1 * f64::from(num_decodes) * cached as f64) * factor
    }

    #[inline]
    fn prefill_ms(&self, shape: &BatchShape) -> f64 {
        if shape.num_prefills == 0 {
            return 0.0;
        }
        let chunk = (shape.prefill_tokens_squared as f64).sqrt().round();
        let factor = if shape.num_prefills > 1 { BATCHING_OVERHEAD } else { 1.0 };
        (self.c0 + self.c1 * (chunk * chunk) + self.c2 * chunk * shape.prefill_cached_tokens_64 as f64)
            * factor
    }
}

impl ProfileAttention {
    /// Writing keys and values, decodes, prefills.
    #[inline]
    fn parts_ms(&self, shape: &BatchShape) -> (f64, f64, f64) {
        let cache_save_ms = || 0.004 + 2.0e-6 * shape.total_tokens as i64 as f64;
        match self {
            Self::Physical(physical) => (
                cache_save_ms(),
                physical.decode_ms(shape.num_decodes, shape.decode_cached_tokens),
                physical.prefill_ms(shape),
            ),
            Self::LabFit { prefill_ms, physical } => {
                let factor = if shape.num_prefills > 1 { BATCHING_OVERHEAD } else { 1.0 };
                let decode_ms = physical.decode_ms(shape.num_decodes, shape.decode_cached_tokens);
                (cache_save_ms(), decode_ms, prefill_ms[shape.num_prefills as usize] * factor)
            }
            Self::Measured(measured) => (
                measured.around_ms.at(shape.total_tokens),
                measured.decode_ms(shape),
                measured.prefill_ms(shape),
            ),
            Self::Analytic(analytic) => (0.0, analytic.decode_ms(shape), analytic.prefill_ms(shape)),
        }
    }

    /// The mean cache length grows by one a step; the time changes when it passes a multiple of 64.
    #[inline]
    fn decode_steps_alike(&self, shape: &BatchShape) -> u64 {
        if matches!(self, Self::Analytic(_)) {
            return 0;
        }
        let mean = shape.decode_cached_tokens / u64::from(shape.num_decodes.max(1));
        mean.next_multiple_of(KV_GRANULARITY) - mean
    }
}

pub(super) fn embedded(
    deployment: &Deployment,
    attention: Attention,
) -> Result<(ProfileTimes, String), HardwareError> {
    let (ops, all_reduce) = match deployment.tensor_parallel {
        2 => (include_str!("tables/ops_tp2.csv"), include_str!("tables/all_reduce_tp2.csv")),
        4 => (include_str!("tables/ops_tp4.csv"), include_str!("tables/all_reduce_tp4.csv")),
        other => {
            return Err(HardwareError::Unsupported(format!(
                "the embedded profile was measured with `tensor_parallel` 2 and 4, not {other}; use one of these or your own tables with {{\"table\": {{\"dir\": ..}}}}"
            )));
        }
    };
    let (model, node) = (deployment.model.name.as_ref(), deployment.node.name);
    if model != PROFILED_MODEL || node != PROFILED_NODE {
        return Err(HardwareError::Unsupported(format!(
            "the embedded profile was measured with {PROFILED_MODEL} on {PROFILED_NODE}, not {model} on {node}; use these or your own tables with {{\"table\": {{\"dir\": ..}}}}"
        )));
    }
    let named = |name: &str, text: &'static str| (PathBuf::from("embedded").join(name), text.to_string());
    let tables = TableFiles {
        ops: named("ops.csv", ops),
        all_reduce: named("all_reduce.csv", all_reduce),
        send_recv: Some(named("send_recv.csv", include_str!("tables/send_recv_devices_per_node2.csv"))),
        lab_fit: Some(named("attn_prefill_labfit.csv", include_str!("tables/attn_prefill_labfit.csv"))),
    };
    tables.condense(deployment, attention, "embedded tables measured by microsoft/vidur")
}

pub(super) fn from_dir(
    deployment: &Deployment,
    dir: &Path,
    attention: Attention,
) -> Result<(ProfileTimes, String), HardwareError> {
    let read = |name: String| {
        let file = dir.join(name);
        match std::fs::read_to_string(&file) {
            Ok(text) => Ok((file, text)),
            Err(source) => Err(HardwareError::Unreadable { file, source }),
        }
    };
    let tp = deployment.tensor_parallel;
    let tables = TableFiles {
        ops: read(format!("ops_tp{tp}.csv"))?,
        all_reduce: if tp == 1 {
            (PathBuf::new(), String::new())
        } else {
            read(format!("all_reduce_tp{tp}.csv"))?
        },
        send_recv: (deployment.pipeline_parallel > 1)
            .then(|| read("send_recv_devices_per_node2.csv".into()))
            .transpose()?,
        lab_fit: (attention == Attention::LabFit)
            .then(|| read("attn_prefill_labfit.csv".into()))
            .transpose()?,
    };
    tables.condense(deployment, attention, &format!("operator tables in {}", dir.display()))
}

type Named = (PathBuf, String);

struct TableFiles {
    ops: Named,
    all_reduce: Named,
    send_recv: Option<Named>,
    lab_fit: Option<Named>,
}

pub(super) const OPS: [&str; 9] = [
    "attn_pre_proj",
    "attn_post_proj",
    "mlp_up_proj",
    "mlp_down_proj",
    "mlp_act",
    "input_layernorm",
    "post_attention_layernorm",
    "attn_rope",
    "add",
];

impl TableFiles {
    fn condense(
        &self,
        deployment: &Deployment,
        attention: Attention,
        source: &str,
    ) -> Result<(ProfileTimes, String), HardwareError> {
        let ops = parse(&self.ops, "num_tokens", &OPS)?;
        let all_reduce = (deployment.tensor_parallel > 1)
            .then(|| parse(&self.all_reduce, "num_tokens", &["all_reduce"]))
            .transpose()?;
        let send_recv = match &self.send_recv {
            Some(table) if deployment.pipeline_parallel > 1 => {
                Some(parse(table, "num_tokens", &["send_recv"])?)
            }
            _ => None,
        };
        let physical = PhysicalAttention::new(deployment.tensor_parallel);
        let (attention, name) = match attention {
            Attention::Physical => (ProfileAttention::Physical(physical), "physical"),
            Attention::LabFit => {
                if deployment.tensor_parallel != 4 || deployment.pipeline_parallel != 1 {
                    return Err(HardwareError::Unsupported(
                        "`lab_fit` attention was fitted with `tensor_parallel` 4 and `pipeline_parallel` 1"
                            .into(),
                    ));
                }
                let table = parse(
                    self.lab_fit.as_ref().expect("read with lab_fit"),
                    "num_requests_of_256",
                    &["attn_prefill"],
                )?;
                (
                    ProfileAttention::LabFit {
                        prefill_ms: (0..=16).map(|k| table.at(0, f64::from(k))).collect(),
                        physical,
                    },
                    "lab_fit",
                )
            }
        };
        let times = Tables { ops, all_reduce, send_recv }.condense(deployment, attention, Beyond::Constant);
        Ok((times, format!("{source}, {name} attention, tensor parallel {}", deployment.tensor_parallel)))
    }
}

/// Measured operators: curves over tokens, those of `ops` in the order of [`OPS`].
pub(super) struct Tables {
    pub ops: Curves,
    pub all_reduce: Option<Curves>,
    pub send_recv: Option<Curves>,
}

impl Tables {
    pub fn condense(
        &self,
        deployment: &Deployment,
        attention: ProfileAttention,
        beyond: Beyond,
    ) -> ProfileTimes {
        let rows = (self.ops.last_x() / TOKEN_GRANULARITY as f64).ceil() as u64 + 1;
        let dense = (0..rows)
            .map(|row| {
                let tokens = (row * TOKEN_GRANULARITY) as f64;
                let [pre, post, up, down, act, input_norm, post_norm, rope, add] =
                    std::array::from_fn(|op| self.ops.at(op, tokens));
                let all_reduce =
                    self.all_reduce.as_ref().map_or(0.0, |curve| curve.at(0, tokens) + ALL_REDUCE_LAUNCH_MS);
                DenseRow {
                    projections_ms: pre + post + rope,
                    all_reduce_ms: all_reduce,
                    input_norm_ms: input_norm,
                    mlp_ms: up + down + act + all_reduce + post_norm,
                    add_ms: add,
                    send_recv_ms: self.send_recv.as_ref().map_or(0.0, |curve| curve.at(0, tokens)),
                }
            })
            .collect();
        ProfileTimes {
            dense,
            beyond,
            layers_per_stage: deployment.layers_per_stage(),
            num_stages: deployment.pipeline_parallel,
            attention,
        }
    }
}

/// Reads several curves over one ascending column.
/// The largest number of tokens a table may be measured for: no engine has batches of four million.
pub(super) const MAX_TABLE_TOKENS: f64 = 4_194_304.0;

fn parse((file, text): &Named, x_column: &str, y_columns: &[&str]) -> Result<Curves, HardwareError> {
    let bad = |line: u64, message: String| HardwareError::BadTable { file: file.clone(), line, message };
    let mut reader = csv::ReaderBuilder::new().trim(csv::Trim::All).from_reader(text.as_bytes());
    let header = reader.headers().map_err(|error| bad(1, error.to_string()))?.clone();
    let index = |name: &str| {
        header.iter().position(|column| column == name).ok_or_else(|| {
            bad(
                1,
                format!(
                    "no column `{name}`, found {}",
                    crate::settings::quoted(&header.iter().collect::<Vec<_>>())
                ),
            )
        })
    };
    let (x_index, y_index) =
        (index(x_column)?, y_columns.iter().map(|name| index(name)).collect::<Result<Vec<_>, _>>()?);
    let mut curves = Curves { x: Vec::new(), y: vec![Vec::new(); y_columns.len()] };
    for record in reader.records() {
        let record = record
            .map_err(|error| bad(error.position().map_or(0, csv::Position::line), error.to_string()))?;
        let line = record.position().map_or(0, csv::Position::line);
        let number = |column: usize| match record[column].parse::<f64>() {
            Ok(value) if value.is_finite() && value >= 0.0 => Ok(value),
            _ => Err(bad(
                line,
                format!(
                    "column `{}` is `{}`, expected a number of at least 0",
                    &header[column], &record[column]
                ),
            )),
        };
        let x = number(x_index)?;
        if curves.x.last().is_some_and(|&last| last >= x) {
            return Err(bad(
                line,
                format!("column `{x_column}` is {x}, expected more than in the row before"),
            ));
        }
        if x > MAX_TABLE_TOKENS {
            return Err(bad(
                line,
                format!("column `{x_column}` is {x}, expected at most {MAX_TABLE_TOKENS}"),
            ));
        }
        curves.x.push(x);
        for (curve, &column) in curves.y.iter_mut().zip(&y_index) {
            curve.push(number(column)?);
        }
    }
    if curves.x.is_empty() { Err(bad(1, "no rows below the header".into())) } else { Ok(curves) }
}

#[cfg(test)]
mod tests {
    use super::super::Files;
    use super::*;

    fn load(attention: Attention, tp: u32, pp: u32) -> ProfileTimes {
        let deployment =
            Deployment::resolve(PROFILED_MODEL, PROFILED_NODE, tp, pp, &Files::default()).unwrap();
        embedded(&deployment, attention).unwrap().0
    }

    fn prefills(count: u32) -> BatchShape {
        let mut shape = BatchShape::default();
        (0..count).for_each(|_| shape.add_prefill(256, 0));
        shape
    }

    /// The published anchor: one 256-token request, and the two attentions for 16 of them.
    #[test]
    fn published_batch_times() {
        assert_eq!(load(Attention::Physical, 4, 1).stage_time_s(&prefills(1), 0), 0.11078802165411201);
        assert_eq!(load(Attention::Physical, 4, 1).stage_time_s(&prefills(16), 0), 1.348658783115523);
        assert_eq!(load(Attention::LabFit, 4, 1).stage_time_s(&prefills(16), 0), 1.5084304800004986);
    }

    /// A decode run may only be advanced at one time per step while the time stays the same.
    #[test]
    fn decode_steps_alike_are_alike() {
        let times = load(Attention::Physical, 4, 1);
        for (count, cached) in [(1_u32, 1_u64), (1, 64), (3, 200), (7, 448), (7, 449), (16, 16_000)] {
            let shape = |cached| BatchShape {
                total_tokens: count.into(),
                num_decodes: count,
                decode_cached_tokens: cached,
                ..BatchShape::default()
            };
            let alike = times.decode_steps_alike(&shape(cached));
            let time = |step: u64| times.stage_time_s(&shape(cached + step * u64::from(count)), 0);
            assert!((0..=alike).all(|step| time(step) == time(0)), "{count} {cached}");
            assert!(time(alike + 1) > time(0), "{count} {cached}");
        }
    }

    #[test]
    fn tables_name_file_line_and_column() {
        let table = (PathBuf::from("ops.csv"), "num_tokens,all_reduce\n1,0.5\n2,x\n".to_string());
        let error = parse(&table, "num_tokens", &["all_reduce"]).err().unwrap().to_string();
        assert_eq!(error, "ops.csv, line 3: column `all_reduce` is `x`, expected a number of at least 0");
        let error = parse(&table, "num_tokens", &["send_recv"]).err().unwrap().to_string();
        assert_eq!(error, "ops.csv, line 1: no column `send_recv`, found `num_tokens`, `all_reduce`");
    }
}
